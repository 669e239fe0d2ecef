//! What is trained: the model's layers, and how a batch is trained on.

mod activation;
mod builtin;
mod hugging_face;
mod model;
mod training;

pub use activation::Kept;
pub use hugging_face::ConfigError;
pub use model::{Biases, Experts, Latent, LayerKind, Model, Norm};
pub use training::{ActivationModel, GradientBuffers, Optimizer, Overheads, Precision, Training};
