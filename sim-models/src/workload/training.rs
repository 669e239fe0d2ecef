//! How a batch is trained on: batch, precision, optimizer, and what the framework keeps in memory.

use crate::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of parameters and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything in 32 bits.
    Fp32,
    /// Mixed: 16-bit compute with a 32-bit master copy.
    Fp16,
    /// Mixed: bfloat16 compute with a 32-bit master copy.
    Bf16,
}

impl Precision {
    /// Bytes of an activation element, of a parameter and of a gradient.
    pub fn activation_bytes(self) -> u64 {
        match self {
            Precision::Fp32 => 4,
            Precision::Fp16 | Precision::Bf16 => 2,
        }
    }

    /// Bytes of optimizer state a parameter, master copy included.
    pub fn optimizer_bytes(self, optimizer: Optimizer) -> u64 {
        let master = match self {
            Precision::Fp32 => 0,
            Precision::Fp16 | Precision::Bf16 => 4,
        };
        master + optimizer.state_bytes()
    }
}

/// The optimizer, as far as memory is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Two moments, 32 bits each.
    Adam,
    /// Stochastic gradient descent without momentum: no state.
    Sgd,
}

impl Optimizer {
    fn state_bytes(self) -> u64 {
        match self {
            Optimizer::Adam => 8,
            Optimizer::Sgd => 0,
        }
    }
}

/// Elements that one block keeps for its backward pass, a framework's constants: for each of sequence x hidden,
/// `replicated` on every tensor-parallel rank and `sharded` split over them; for each of heads x sequence^2, `scores`,
/// split. For the head, `logits` for each of sequence x vocabulary, split.
///
/// The default is read off the running Megatron-DeepSpeed of Sailor's authors (`Planner/llm_info.json`, MIT): OPT-350M
/// keeps 43, 23, 13 and 8 x sequence x hidden at TP 1, 2, 4, 8, which is 3 + (8 + heads x sequence / hidden) / TP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationModel {
    /// Elements a (token, hidden), on every rank.
    pub replicated: f64,
    /// Elements a (token, hidden), split over the ranks.
    pub sharded: f64,
    /// Elements a (head, token, token), split over the ranks.
    pub scores: f64,
    /// Elements a (token, vocabulary entry), split over the ranks.
    pub logits: f64,
}

impl Default for ActivationModel {
    fn default() -> Self {
        ActivationModel { replicated: 3.0, sharded: 8.0, scores: 1.0, logits: 2.0 }
    }
}

/// How a batch is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Samples (sequences) in an iteration, over all pipelines. At least 1.
    pub global_batch: u32,
    /// Number format.
    pub precision: Precision,
    /// Optimizer.
    pub optimizer: Optimizer,
    /// Memory a device loses to the CUDA context, the allocator and communication libraries.
    pub memory_reserve: Bytes,
    /// Activation constants of the framework.
    pub activations: ActivationModel,
}
