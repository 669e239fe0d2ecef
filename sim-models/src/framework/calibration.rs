//! Numbers fitted on measured runs (`calibrated.toml`): few, physical, and none for a row, a table of results or a model.
//!
//! A device's are factors on what micro-benchmarks say of it (`DeviceConstants::of`), a framework's are the times and passes that
//! its documents do not give, the links' are shares of what the wires carry. What is not in the file keeps its value.

use super::{Framework, Keeps};
use crate::collective::Nccl;
use crate::device::Gpu;
use crate::device::constants::{DeviceConstants, FrameworkConstants, SLOWDOWN};
use crate::workload::Overheads;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Factors on a kind of GPU's constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceFit {
    /// GPUs that it is for, by catalogue name.
    pub gpus: Vec<String>,
    /// On the share that products in 16 bits reach.
    pub matmul: f64,
    /// On the share that products in 8 bits reach, of their own peak.
    pub matmul_fp8: f64,
    /// On the share that products in 4 bits reach.
    pub matmul_fp4: f64,
    /// On the shares that flash attention reaches.
    pub flash: f64,
    /// On the share that streaming kernels reach.
    pub stream: f64,
    /// On the rate between GPUs of a node.
    pub inside: f64,
}

impl Default for DeviceFit {
    fn default() -> Self {
        DeviceFit {
            gpus: Vec::new(),
            matmul: 1.0,
            matmul_fp8: 1.0,
            matmul_fp4: 1.0,
            flash: 1.0,
            stream: 1.0,
            inside: 1.0,
        }
    }
}

/// A framework's fitted numbers; `None` keeps what its documents and the micro-benchmarks give.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrameworkFit {
    /// Host time of a block's forward pass, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_forward_s: Option<f64>,
    /// The same, backward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_backward_s: Option<f64>,
    /// What tensor parallelism adds to a pass, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_tp_s: Option<f64>,
    /// The same for each of its ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_tp_rank_s: Option<f64>,
    /// The same for each of its ranks where pipelines run over several nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_tp_pipeline_s: Option<f64>,
    /// What attention adds to a pass where the fused softmax cannot be used, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_eager_s: Option<f64>,
    /// What the head's forward pass takes beyond its kernels, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_s: Option<f64>,
    /// What experts add to a pass, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_experts_s: Option<f64>,
    /// What each collective of tensor parallelism takes beyond its own time: ranks that come late, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_s: Option<f64>,
    /// The same for each node beyond the first that the ranks are on, where pipelines run over several nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_node_s: Option<f64>,
    /// On the passes over tokens x hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes: Option<f64>,
    /// On the passes over the attention scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_passes: Option<f64>,
    /// Bytes a parameter that the optimizer step moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer_bytes: Option<f64>,
    /// Once an iteration, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iteration_s: Option<f64>,
    /// For each transfer between stages, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_s: Option<f64>,
    /// By how much compute slows down while communication runs beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<f64>,
    /// Half-width of the 90 % interval, in the logarithm of the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// On activations and their gradients: what the allocator holds for them, of what they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
    /// Memory that is gone before anything else, GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve_gib: Option<f64>,
    /// Share of a GPU's memory that the allocator cannot use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragmentation: Option<f64>,
}

/// Shares of links, all frameworks and GPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkFit {
    /// Of what collectives alone reach inside a node.
    pub inside: f64,
    /// Of what they reach between nodes.
    pub outside: f64,
    /// What a transfer between stages on different nodes waits for where RDMA cards reach GPUs through the host's memory alone, s.
    pub staged_s: f64,
}

impl LinkFit {
    /// Where no runs say. Benchmarks repeat one collective on idle GPUs that all come at once: a tenth less is taken beside
    /// training.
    const ASSUMED: LinkFit = LinkFit { inside: 0.9, outside: 0.9, staged_s: 0.0 };
}

impl Default for LinkFit {
    fn default() -> Self {
        LinkFit { inside: 1.0, outside: 1.0, staged_s: 0.0 }
    }
}

/// What kernels of training lose beside the same alone, all frameworks and GPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelFit {
    /// What of the time in which a linear layer's tiles go to memory no arithmetic runs beside: 0 for none, 1 for all of it.
    pub tile_store: f64,
    /// How uneven host and device are.
    pub host_jitter: f64,
    /// The power by which products with rows of odd lengths lose speed.
    pub unaligned: f64,
}

impl KernelFit {
    /// Where no runs say. A large tile has its multiprocessor to itself, so that nothing runs while it is stored; of smaller ones
    /// two or more share it: half of the time is taken. NVIDIA's *Matrix Multiplication Background User's Guide* shows odd rows
    /// to cost less than what they waste of 16 bytes: the square root of it is taken. Host and device vary by a fifth or so from
    /// kernel to kernel.
    const ASSUMED: KernelFit = KernelFit { tile_store: 0.5, host_jitter: 0.2, unaligned: 0.5 };
}

impl Default for KernelFit {
    fn default() -> Self {
        KernelFit { tile_store: 0.0, host_jitter: 0.0, unaligned: 0.0 }
    }
}

/// All of it. See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calibration {
    /// By the name of a kind of GPU.
    pub device: BTreeMap<String, DeviceFit>,
    /// By the name of a framework; `unknown` stands for all that have no entry.
    pub framework: BTreeMap<String, FrameworkFit>,
    /// Of links.
    pub links: LinkFit,
    /// Of kernels.
    pub kernels: KernelFit,
}

impl Calibration {
    /// The shipped numbers.
    pub fn builtin() -> &'static Calibration {
        static BUILTIN: OnceLock<Calibration> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            Calibration::from_toml(include_str!("calibrated.toml")).expect("the shipped file reads: tested")
        })
    }

    /// Nothing fitted: datasheets, documents and micro-benchmarks alone.
    pub fn none() -> Calibration {
        Calibration { kernels: KernelFit::ASSUMED, links: LinkFit::ASSUMED, ..Calibration::default() }
    }

    /// From the text of such a file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_toml(text: &str) -> Result<Calibration, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    fn device_fit(&self, gpu: &Gpu) -> Option<&DeviceFit> {
        self.device.values().find(|d| d.gpus.contains(&gpu.name))
    }

    /// A GPU's constants, and whether any of them was fitted on runs with it.
    pub fn device(&self, gpu: &Gpu) -> DeviceConstants {
        let mut c = DeviceConstants::of(gpu);
        c.tile_store = self.kernels.tile_store.max(c.tile_store);
        c.unaligned = self.kernels.unaligned.max(c.unaligned);
        if let Some(fit) = self.device_fit(gpu) {
            c.matmul *= fit.matmul;
            c.matmul_fp8 *= fit.matmul_fp8;
            c.matmul_fp4 *= fit.matmul_fp4;
            c.flash_forward *= fit.flash;
            c.flash_backward *= fit.flash;
            c.stream *= fit.stream;
            c.fitted = true;
        }
        c
    }

    /// Collectives of this kind of GPU beside training.
    pub fn nccl(&self, gpu: &Gpu, alone: Nccl) -> Nccl {
        alone.in_training(self.inside(gpu), self.links.outside)
    }

    /// What is left beside training of the rate between GPUs of a node of this kind.
    pub fn inside(&self, gpu: &Gpu) -> f64 {
        self.links.inside * self.device_fit(gpu).map_or(1.0, |fit| fit.inside)
    }

    /// A framework's own, or what frameworks have in common where none of its runs were fitted on.
    fn framework_fit(&self, framework: &Framework) -> FrameworkFit {
        let own = self.framework.get(&framework.name);
        own.or_else(|| self.framework.get(&Framework::unknown().name)).cloned().unwrap_or_default()
    }

    /// What a framework makes of a layer.
    pub fn kernels(&self, framework: &Framework) -> FrameworkConstants {
        let (mut k, fit) = (framework.kernels.clone(), self.framework_fit(framework));
        let set = |value: &mut f64, fitted: Option<f64>| *value = fitted.unwrap_or(*value);
        set(&mut k.host_forward_s, fit.host_forward_s);
        set(&mut k.host_backward_s, fit.host_backward_s);
        set(&mut k.host_tp_s, fit.host_tp_s);
        set(&mut k.host_tp_rank_s, fit.host_tp_rank_s);
        set(&mut k.host_tp_pipeline_s, fit.host_tp_pipeline_s);
        k.host_jitter = self.kernels.host_jitter.max(k.host_jitter);
        set(&mut k.host_eager_s, fit.host_eager_s);
        set(&mut k.micro_batch_s, fit.micro_batch_s);
        set(&mut k.host_experts_s, fit.host_experts_s);
        set(&mut k.sync_s, fit.sync_s);
        set(&mut k.sync_node_s, fit.sync_node_s);
        set(&mut k.optimizer_bytes, fit.optimizer_bytes);
        let passes = fit.passes.unwrap_or(1.0);
        for value in [
            &mut k.replicated_forward_passes,
            &mut k.replicated_backward_passes,
            &mut k.sharded_forward_passes,
            &mut k.sharded_backward_passes,
        ] {
            *value *= passes;
        }
        let scores = fit.score_passes.unwrap_or(1.0);
        for value in [
            &mut k.eager_forward_passes,
            &mut k.eager_backward_passes,
            &mut k.fused_forward_passes,
            &mut k.fused_backward_passes,
        ] {
            *value *= scores;
        }
        k
    }

    /// What a framework keeps in memory.
    pub fn keeps(&self, framework: &Framework) -> Keeps {
        let (mut keeps, fit) = (framework.keeps, self.framework_fit(framework));
        let a = &mut keeps.activations;
        let blocks = [&mut a.replicated, &mut a.attention, &mut a.mlp, &mut a.gated, &mut a.scores];
        for value in blocks.into_iter().chain([&mut a.logits, &mut a.passing, &mut a.exchanged]) {
            *value *= fit.kept.unwrap_or(1.0);
        }
        keeps.reserve_gib = fit.reserve_gib.unwrap_or(keeps.reserve_gib);
        keeps.fragmentation = fit.fragmentation.unwrap_or(keeps.fragmentation);
        keeps
    }

    /// What a framework adds to an iteration.
    pub fn overheads(&self, framework: &Framework) -> Overheads {
        let fit = self.framework_fit(framework);
        Overheads {
            iteration_s: fit.iteration_s.unwrap_or(0.0),
            transfer_s: fit.transfer_s.unwrap_or(0.0),
            message_s: 0.0,
            slowdown: fit.slowdown.unwrap_or(SLOWDOWN),
            unshared_step: framework.habits.unshared_step,
        }
    }

    /// Half-width of the 90 % interval of a time, in its logarithm: what runs of this framework on this GPU were off by, or
    /// more where one of them was never fitted.
    pub fn half_width(&self, framework: &Framework, gpu: &Gpu) -> f64 {
        /// A framework or a GPU that nothing was fitted on: holds nine in ten of the rows of most sources that were left out.
        const UNKNOWN: f64 = 0.40;
        let of_framework = self.framework_fit(framework).spread;
        match (of_framework, self.device_fit(gpu)) {
            (Some(spread), Some(_)) => spread,
            (Some(spread), None) => spread.max(UNKNOWN),
            (None, _) => UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_reads_and_names_what_there_is() {
        let shipped = Calibration::builtin();
        for name in shipped.framework.keys() {
            assert!(super::super::all().iter().any(|f| f.name == *name), "{name}");
        }
        let catalogue = crate::device::Catalogue::builtin();
        for gpu in shipped.device.values().flat_map(|d| &d.gpus) {
            assert_eq!(&catalogue.find(gpu).unwrap().name, gpu);
        }
        let text = toml::to_string(shipped).unwrap();
        assert_eq!(&Calibration::from_toml(&text).unwrap(), shipped);
        assert!(Calibration::from_toml("[links]\nx = 1").unwrap_err().contains("unknown field"));
    }

    #[test]
    fn a_framework_that_nothing_was_fitted_on_has_what_the_others_have_in_common() {
        let shipped = Calibration::builtin();
        let common = &shipped.framework["unknown"];
        let (known, new) = (Framework::find("nanotron"), Framework::find("torchtitan"));
        assert!(!shipped.framework.contains_key(&new.name));
        assert_eq!(Some(shipped.overheads(new).slowdown), common.slowdown);
        assert_eq!(Some(shipped.kernels(new).sync_s), common.sync_s);
        assert_eq!(shipped.kernels(new).host_forward_s, new.kernels.host_forward_s);
        assert_ne!(shipped.overheads(known).transfer_s, shipped.overheads(new).transfer_s);
        // An entry of its own, if an empty one, is all that a framework has.
        let text = "[framework.nanotron]\n[framework.unknown]\nslowdown = 0.1";
        let own = Calibration::from_toml(text).unwrap();
        assert_eq!((own.overheads(known).slowdown, own.overheads(new).slowdown), (SLOWDOWN, 0.1));
        let gpu = crate::device::Catalogue::builtin().find("H100").unwrap();
        assert!(shipped.half_width(new, gpu) > 0.3);
    }

    #[test]
    fn nothing_fitted_changes_nothing() {
        let none = Calibration::none();
        let gpu = crate::device::Catalogue::builtin().find("H100").unwrap();
        let KernelFit { tile_store, unaligned, host_jitter } = KernelFit::ASSUMED;
        assert_eq!(none.device(gpu), DeviceConstants { tile_store, unaligned, ..DeviceConstants::of(gpu) });
        let framework = Framework::find("nanotron");
        assert_eq!(none.kernels(framework), FrameworkConstants { host_jitter, ..framework.kernels.clone() });
    }
}
