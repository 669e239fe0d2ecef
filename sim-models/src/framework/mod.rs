//! Programs that train, known by name: which kernels they call, how they share out and synchronise by default, what they keep
//! in memory. And the constants that were fitted on measured runs, of these programs and of GPUs and links, in one file.
//!
//! ```text
//!   frameworks.toml   what a framework does: from its documents and sources; nothing fitted     the datasheet tier
//!   calibrated.toml   numbers fitted on measured runs, by device, framework and network          the calibrated tier
//! ```
//!
//! No constant belongs to a row, a table of results or a model.

mod calibration;

pub use calibration::{Calibration, DeviceFit, FrameworkFit, KernelFit, LinkFit};

use crate::device::Gpu;
use crate::device::constants::FrameworkConstants;
use crate::plan::Recompute;
use crate::workload::{ActivationModel, GradientBuffers, Model, Precision};
use serde::Deserialize;
use std::sync::OnceLock;

/// What a framework does where nobody says otherwise.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Habits {
    /// Norms and dropouts are split over the sequence wherever there is tensor parallelism (arXiv 2205.05198).
    pub sequence_parallel: bool,
    /// Tensor-parallel communication runs beside the products it belongs to.
    pub overlap_tp: bool,
    /// Transfers between stages run beside compute.
    pub overlap_p2p: bool,
    /// Gradients and parameters move beside compute.
    pub overlap_gradients: bool,
    /// ... but for gradients that ZeRO 1 scatters: put together before, and apart after that.
    pub scatter_after_passes: bool,
    /// ... but for parameters, which ZeRO 1 gathers after the step, with nothing beside it.
    pub gather_after_step: bool,
    /// What replicas share out: ZeRO's stage.
    pub zero: u8,
    /// The most of ZeRO's stage in pipelines.
    pub zero_in_pipelines: u8,
    /// Share of the optimizer step that ZeRO does not share out: [`crate::workload::Overheads::unshared_step`].
    pub unshared_step: f64,
    /// Pieces that gradients are sent in, MiB; 0 for all at once.
    pub bucket_mib: u32,
    /// Bytes of a gradient element, kept and sent.
    pub gradient_bytes: u64,
    /// What is recomputed.
    pub recompute: Recompute,
    /// Models are of Llama's kind (gated MLP, no biases, a head of their own) where nothing else is known of them.
    pub llama: bool,
    /// Of these, those with an MLP narrower than this have one matrix for embedding and head.
    pub tied_below: u64,
    /// Vocabulary where the run does not give one.
    pub vocab: u64,
    /// What that is padded to, for each tensor-parallel rank: [`crate::workload::Model::vocab_step`].
    pub vocab_step: u64,
    /// Stages are cut so that their arithmetic is alike, the head's too; else their numbers of blocks are.
    pub cut_by_cost: bool,
    /// Whether one micro-batch is a device's whole share of the batch where the run gives none (else one sample).
    pub whole_batch: bool,
    /// Whether the memory that it reports is its first rank's, which is on the first stage.
    pub reports_first: bool,
    /// Number format; one that a GPU does not have is bf16, or fp16.
    pub precision: Precision,
}

impl Default for Habits {
    fn default() -> Self {
        Habits {
            sequence_parallel: false,
            overlap_tp: false,
            overlap_p2p: false,
            overlap_gradients: false,
            scatter_after_passes: false,
            gather_after_step: false,
            zero: 0,
            zero_in_pipelines: 3,
            unshared_step: 0.0,
            bucket_mib: 0,
            gradient_bytes: 2,
            recompute: Recompute::None,
            llama: false,
            tied_below: 0,
            vocab: 51_200,
            vocab_step: 128,
            cut_by_cost: false,
            whole_batch: false,
            reports_first: false,
            precision: Precision::Bf16,
        }
    }
}

/// What a framework holds beside a model's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keeps {
    /// Activations of a layer.
    pub activations: ActivationModel,
    /// What it holds for gradients beside them.
    #[serde(default)]
    pub buffers: GradientBuffers,
    /// CUDA context, libraries, buffers, GiB.
    pub reserve_gib: f64,
    /// Share of the rest that the allocator holds and cannot use.
    pub fragmentation: f64,
}

impl Keeps {
    /// What a layer keeps in a number format. Elements are counted in 16 bits; in 32, where attention has no fused kernels, they
    /// are those that the running model was seen to keep, its softmax and an 8-bit mask of its dropout for each score.
    pub fn activations_in(&self, precision: Precision) -> ActivationModel {
        match precision {
            Precision::Fp32 => ActivationModel { scores: 1.25, ..ActivationModel::default() },
            _ => self.activations,
        }
    }
}

/// A framework. See the head of this file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Framework {
    /// Its name.
    pub name: String,
    /// Words by which a run's framework is taken for it, in lower case; the first framework with one decides.
    pub says: Vec<String>,
    /// What goes by its name on GPUs, and with models, that are younger than it.
    #[serde(default)]
    pub successor: Option<String>,
    /// Where its habits are documented.
    pub source: String,
    /// What it does by default.
    #[serde(default)]
    pub habits: Habits,
    /// What it makes of a layer.
    #[serde(default)]
    pub kernels: FrameworkConstants,
    /// What it keeps in memory.
    pub keeps: Keeps,
}

#[derive(Deserialize)]
struct File {
    framework: Vec<Framework>,
}

/// All frameworks, in the file's order; the last is `unknown`.
pub fn all() -> &'static [Framework] {
    static ALL: OnceLock<Vec<Framework>> = OnceLock::new();
    ALL.get_or_init(|| {
        let file: File =
            toml::from_str(include_str!("frameworks.toml")).expect("the shipped file reads: tested");
        file.framework
    })
}

impl Framework {
    /// The framework that a text names; `unknown` when it names none.
    pub fn find(text: &str) -> &'static Framework {
        let text = text.to_lowercase();
        let named = |f: &&Framework| f.says.iter().any(|word| text.contains(word.as_str()));
        all().iter().find(named).unwrap_or_else(Framework::unknown)
    }

    /// What goes by this framework's name on a GPU: of Hopper's generation and later, its successor.
    pub fn on(&'static self, gpu: &Gpu) -> &'static Framework {
        self.unless(["pascal", "volta", "turing", "ampere"].contains(&gpu.architecture.as_str()))
    }

    /// What trains a model by this framework's name: one with grouped queries, a gate or experts, its successor.
    pub fn training(&'static self, model: &Model) -> &'static Framework {
        let grouped = model.kv_heads < model.heads || model.latent.is_some();
        self.unless(!(grouped || model.gated || model.experts.is_some()))
    }

    fn unless(&'static self, old: bool) -> &'static Framework {
        let successor = self.successor.iter().find_map(|name| all().iter().find(|f| f.name == *name));
        successor.filter(|_| !old).unwrap_or(self)
    }

    /// What is assumed of a framework that nobody names.
    pub fn unknown() -> &'static Framework {
        all().last().expect("the shipped file has frameworks: tested")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised() {
        for (text, name) in [
            ("Megatron-DeepSpeed", "megatron-deepspeed"),
            ("Megatron-DeepSpeed (BigScience)", "megatron-deepspeed"),
            ("DeepSpeed Megatron-LM-v1.1.5-3D", "megatron-lm-1"),
            ("Megatron-LM", "megatron-lm"),
            ("Megatron-LM 23e00ed0 + TE 2.11.0", "megatron-core"),
            ("Megatron-Bridge/Megatron-Core", "megatron-bridge"),
            ("NeMo Framework 24.05", "megatron-bridge"),
            ("nanotron", "nanotron"),
            ("llm-foundry/Composer FSDP", "llm-foundry"),
            ("PyTorch FSDP", "fsdp"),
            ("torchtitan (FSDP2 + TP)", "torchtitan"),
            ("InternEvo", "internevo"),
            ("DeepSpeed ZeRO-3", "deepspeed"),
            ("", "unknown"),
            ("something else", "unknown"),
        ] {
            assert_eq!(Framework::find(text).name, name, "{text}");
        }
    }

    /// Megatron-LM had neither grouped queries nor gates nor flash attention when its papers were written.
    #[test]
    fn a_younger_model_is_trained_by_the_successor() {
        let old = Model::gpt("gpt", 4, 1024, 16, 2048, 50_257);
        let young = Model::llama("llama", 4, 1024, 16, 2048, 32_000);
        for (named, model, name) in [
            ("Megatron-LM", &old, "megatron-lm"),
            ("Megatron-LM", &young, "megatron-core"),
            ("Megatron-LM", &Model { kv_heads: 4, ..old.clone() }, "megatron-core"),
            ("nanotron", &young, "nanotron"),
        ] {
            assert_eq!(Framework::find(named).training(model).name, name, "{named}, {}", model.name);
        }
    }
}
