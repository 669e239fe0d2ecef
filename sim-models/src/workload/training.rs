//! How a batch is trained on: batch, precision, optimizer, and what the framework keeps in memory.

use crate::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of parameters and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything in 32 bits.
    #[default]
    Fp32,
    /// Mixed: 16-bit compute with a 32-bit master copy.
    Fp16,
    /// Mixed: bfloat16 compute with a 32-bit master copy.
    Bf16,
    /// As bf16, with the products of linear layers in 8 bits (FP8, MXFP8).
    Fp8,
    /// As bf16, with the products of linear layers in 4 bits (NVFP4, MXFP4).
    Fp4,
}

impl Precision {
    /// Bytes of an activation element, of a parameter and of a gradient. Formats of less than 16 bits are for products alone.
    pub fn activation_bytes(self) -> u64 {
        match self {
            Precision::Fp32 => 4,
            _ => 2,
        }
    }

    /// Bytes of optimizer state a parameter, master copy included.
    pub fn optimizer_bytes(self, optimizer: Optimizer) -> u64 {
        let master = match self {
            Precision::Fp32 => 0,
            _ => 4,
        };
        master + optimizer.state_bytes()
    }
}

/// The optimizer, as far as memory is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Two moments, 32 bits each.
    #[default]
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

/// Elements that one block keeps for its backward pass for each token, a framework's constants: `replicated` for each of the
/// hidden width, on every tensor-parallel rank; `attention` for each of the widths of queries, keys, values and the
/// attention's result, and `mlp` for each of the MLP's width (`gated` where it has a gate), split over the ranks; `scores`
/// for each key of each head, split. For the head, `logits` for each entry of the vocabulary, split.
///
/// `passing` and `exchanged` are there for a moment: gradients while the backward pass of one block is at its widest.
///
/// The default is read off the running Megatron-DeepSpeed of Sailor's authors (`Planner/llm_info.json`, MIT): OPT-350M
/// keeps 43, 23, 13 and 8 x sequence x hidden at TP 1, 2, 4, 8, which is 3 + (8 + heads x sequence / hidden) / TP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationModel {
    /// Elements a (token, hidden), on every rank.
    pub replicated: f64,
    /// Elements a (token, width of queries, keys, values, result), split over the ranks.
    pub attention: f64,
    /// Elements a (token, MLP width), split over the ranks, of an MLP without a gate.
    pub mlp: f64,
    /// The same of one with a gate: two products of its width and what becomes of them.
    pub gated: f64,
    /// Elements a (head, token, token), split over the ranks; none with flash attention.
    pub scores: f64,
    /// Elements a (token, vocabulary entry), split over the ranks.
    pub logits: f64,
    /// Elements a (token, MLP width), split over the ranks, that gradients take beyond what is kept while a block's backward
    /// pass is in its MLP. 0: they are not counted, and nor are those of the head.
    #[serde(default)]
    pub passing: f64,
    /// Elements a (token sent to an expert, hidden) that gradients take on their way to the experts and back.
    #[serde(default)]
    pub exchanged: f64,
    /// What selective recomputation leaves of a block's, but for scores, of which it leaves nothing.
    #[serde(default = "one")]
    pub selective: f64,
}

fn one() -> f64 {
    1.0
}

impl ActivationModel {
    /// What is usual in a number format: 32 bits as the default, 16 bits with flash attention and fused kernels that keep
    /// what SimuMax counts (Apache-2.0, see NOTICE): (10 h + 2 (widths of attention + 3 f) / TP) bytes a token and block.
    pub fn of(precision: Precision) -> ActivationModel {
        match precision {
            Precision::Fp32 => ActivationModel::default(),
            _ => ActivationModel {
                replicated: 5.0,
                attention: 1.0,
                mlp: 2.0,
                gated: 3.0,
                scores: 0.0,
                ..ActivationModel::default()
            },
        }
    }
}

impl Default for ActivationModel {
    fn default() -> Self {
        ActivationModel {
            replicated: 3.0,
            attention: 1.0,
            mlp: 1.0,
            gated: 1.5,
            scores: 1.0,
            logits: 2.0,
            passing: 0.0,
            exchanged: 0.0,
            selective: 1.0,
        }
    }
}

/// What a framework holds for gradients beside the gradients. By default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GradientBuffers {
    /// Bytes a parameter of the buckets that gradients are sent from, where there are replicas to send them to.
    pub buckets: u64,
    /// Whether products that add to the gradients themselves leave an empty one behind, one for all weights of a shape.
    pub shapes: bool,
}

/// What a framework adds to an iteration beside its layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overheads {
    /// Once an iteration, before the optimizer step: data, logging, norms of gradients, s.
    pub iteration_s: f64,
    /// For each transfer between stages, s: synchronising sender and receiver.
    pub transfer_s: f64,
    /// For each of them that leaves its node, s: cards that reach GPUs through the host's memory alone.
    pub message_s: f64,
    /// By how much compute slows down for as long as gradients or parameters move beside it, alone on their links: 0.1 is a tenth.
    pub slowdown: f64,
    /// Share of the optimizer step that every replica does in full where ZeRO shares it out: gradients scaled, put together and
    /// cleared.
    pub unshared_step: f64,
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
    /// Bytes of a gradient element, kept and sent: 4 where gradients are accumulated in 32 bits.
    pub gradient_bytes: u64,
    /// Memory a device loses to the CUDA context, the allocator and communication libraries.
    pub memory_reserve: Bytes,
    /// Activation constants of the framework.
    pub activations: ActivationModel,
    /// What the framework holds for gradients beside them.
    pub buffers: GradientBuffers,
    /// What the framework adds to an iteration.
    pub overheads: Overheads,
}

impl Training {
    /// A batch in a number format, with Adam and nothing that a framework adds but 1 GiB of memory.
    pub fn new(global_batch: u32, precision: Precision) -> Training {
        Training {
            global_batch,
            precision,
            optimizer: Optimizer::Adam,
            gradient_bytes: precision.activation_bytes(),
            memory_reserve: Bytes(1 << 30),
            activations: ActivationModel::of(precision),
            buffers: GradientBuffers::default(),
            overheads: Overheads::default(),
        }
    }
}
