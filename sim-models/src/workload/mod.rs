//! What is trained: the model's layers, and how a batch is trained on.

mod builtin;
mod model;
mod training;

pub use model::{LayerKind, Model};
pub use training::{ActivationModel, Optimizer, Precision, Training};
