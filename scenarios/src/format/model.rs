//! What is trained, and how.

use super::{MOST_BLOCKS, MOST_FFN, MOST_HEADS, MOST_HIDDEN, MOST_SAMPLES, MOST_TOKENS};
use crate::read::{Factor, Int, Name, Size, Time, choice, table};
use sim_models::workload::{Biases, Norm, Optimizer, Precision};

choice!(Precision {
    "fp32" => Precision::Fp32,
    "fp16" => Precision::Fp16,
    "bf16" => Precision::Bf16,
    "fp8" => Precision::Fp8,
    "fp4" => Precision::Fp4,
});
choice!(Optimizer { "adam" => Optimizer::Adam, "sgd" => Optimizer::Sgd });
choice!(Norm { "layer" => Norm::Layer, "rms" => Norm::Rms });
choice!(Biases { "all" => Biases::All, "qkv" => Biases::Qkv, "none" => Biases::None });

table! {
    /// A built-in model by its name (with a `seq_len` of one's own, if given), a Hugging Face configuration, or a model by its sizes.
    ModelTable "`[model]`" {
        /// A built-in's name, or the name of one's own, by which layer times are found.
        name: required Name = "\"opt-350m\"",
        /// A Hugging Face `config.json`, relative to this file, in place of sizes.
        config: optional String = "\"config.json\"",
        /// Transformer blocks, without embedding and head.
        blocks: optional Int<1, MOST_BLOCKS> = "24",
        /// Width of the residual stream.
        hidden: optional Int<1, MOST_HIDDEN> = "1024",
        /// Attention heads.
        heads: optional Int<1, MOST_HEADS> = "16",
        /// Width of the MLP; 4 x `hidden` when missing.
        ffn_hidden: optional Int<1, MOST_FFN> = "4096",
        /// Tokens of a sequence, which is a sample of the batch.
        seq_len: optional Int<1, MOST_TOKENS> = "2048",
        /// Tokens of the vocabulary.
        vocab: optional Int<1, MOST_TOKENS> = "50272",
        /// Learned positions, 0 for none; `seq_len` when missing.
        positions: optional Int<0, MOST_TOKENS> = "2048",
        /// Whether the head shares the matrix of the embedding; `true` when missing.
        tied_embeddings: optional bool = "true",
        /// Key-value heads, of grouped queries; `heads` when missing.
        kv_heads: optional Int<1, MOST_HEADS> = "8",
        /// Width of a query or key of one head; `hidden / heads` when missing.
        head_width: optional Int<1, MOST_HIDDEN> = "128",
        /// Whether the MLP has a gate, three matrices for two; `false` when missing.
        gated: optional bool = "true",
        /// What norms learn: `layer` (scale and bias, the default) or `rms` (scale).
        norm: optional Norm = "\"rms\"",
        /// Which linear layers of a block have biases: `all` (the default), `qkv` or `none`.
        biases: optional Biases = "\"none\"",
        /// Keys that a query sees at most; 0 (the default) for all before it.
        window: optional Int<0, MOST_TOKENS> = "4096",
        /// Experts in place of the MLP.
        experts: optional ExpertsTable = "{ count = 8, top_k = 2, ffn_hidden = 14336 }",
        /// Latent attention in place of grouped queries; `head_width` is then a query's, its rotated part with it.
        latent: optional LatentTable = "{ q_rank = 1536, kv_rank = 512, rope_width = 64, value_width = 128 }",
    }
}

table! {
    /// A mixture of experts.
    ExpertsTable "`experts`" {
        /// Routed experts of a layer.
        count: required Int<1, MOST_HEADS> = "8",
        /// Experts that a token is sent to.
        top_k: required Int<1, MOST_HEADS> = "2",
        /// Width of one expert.
        ffn_hidden: required Int<1, MOST_FFN> = "14336",
        /// Width of what every token passes through beside its experts; 0 when missing.
        shared_ffn: optional Int<0, MOST_FFN> = "2048",
        /// Blocks at the start with a dense MLP; 0 when missing.
        dense_blocks: optional Int<0, MOST_BLOCKS> = "3",
        /// Nodes that a token is sent to at most, once to each; when missing, to every expert by itself.
        node_limit: optional Int<1, MOST_HEADS> = "4",
        /// Tokens of the fullest device over the mean; 1 (the default) is a balanced load.
        imbalance: optional Factor = "1.2",
        /// Tokens that an expert takes at most, over the mean; no limit when missing.
        capacity: optional Factor = "1.25",
    }
}

table! {
    /// Keys and values through a narrow vector (multi-head latent attention).
    LatentTable "`latent`" {
        /// Width of the vector that queries come from; 0: straight from the stream.
        q_rank: required Int<0, MOST_HIDDEN> = "1536",
        /// Width of the vector that keys and values come from.
        kv_rank: required Int<1, MOST_HIDDEN> = "512",
        /// Width of the key that positions rotate.
        rope_width: required Int<1, MOST_HIDDEN> = "64",
        /// Width of a value of one head.
        value_width: required Int<1, MOST_HIDDEN> = "128",
    }
}

table! {
    /// How a batch is trained on.
    TrainingTable "`[training]`" {
        /// Samples (sequences) of an iteration, all pipelines together.
        global_batch: required Int<1, MOST_SAMPLES> = "1024",
        /// Number format: `fp32` (the default), `fp16`, `bf16`, or bf16 with the products of linear layers in `fp8` or `fp4`.
        precision: optional Precision = "\"fp32\"",
        /// Optimizer; `adam` when missing.
        optimizer: optional Optimizer = "\"adam\"",
        /// Memory of each device that the driver and the libraries take; 1 GiB when missing.
        memory_reserve: optional Size = "\"1 GiB\"",
        /// Program that trains, by a name that `docs/validate.md` lists: its kernels, host times, memory and what it adds to an iteration, as fitted on measured runs. When missing, kernels as Megatron-LM's and nothing added.
        framework: optional Name = "\"megatron-lm\"",
        /// Bits of a gradient, kept and sent: 16 or 32; when missing, the framework's, else those of the precision.
        gradient_bits: optional Int<16, 32> = "32",
        /// What the framework adds to an iteration once, before the optimizer step; nothing when missing.
        iteration_overhead: optional Time = "\"20 ms\"",
        /// What it adds to each transfer between stages; nothing when missing.
        transfer_overhead: optional Time = "\"50 us\"",
        /// By how much compute slows down for as long as gradients or parameters move beside it: 0.1 is a tenth; nothing when missing.
        overlap_slowdown: optional Factor = "0.1",
    }
}
