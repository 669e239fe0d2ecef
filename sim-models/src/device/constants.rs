//! What a GPU reaches of its peaks, and what a framework makes of a layer: the parameters of the roofline.
//!
//! Two sets that never mix: [`DeviceConstants`] belong to a GPU and carry from one framework to another;
//! [`FrameworkConstants`] belong to the program that trains and carry from one GPU to another. Both can be fitted
//! (`calibrate`) and are written to files people read. `docs/cost-model.md` says what each means and where the defaults
//! come from.

use super::catalogue::{Format, Gpu};
use super::operator::Stream;
use serde::{Deserialize, Serialize};

/// Shares of a GPU's datasheet figures that good kernels reach. Shares are positive; consumer cards clock above their
/// datasheet and pass 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceConstants {
    /// Large matrix products in 16 bits, share of the format's peak.
    pub matmul: f64,
    /// The same in 8 bits.
    pub matmul_fp8: f64,
    /// The same in 4 bits.
    pub matmul_fp4: f64,
    /// The same for TF32.
    pub matmul_tf32: f64,
    /// The same for fp32 without tensor cores.
    pub matmul_fp32: f64,
    /// Streaming kernels and operands of products, share of the memory bandwidth.
    pub stream: f64,
    /// Flash attention, forward, share of the format's peak; a causal kernel counted with half the arithmetic.
    pub flash_forward: f64,
    /// The same for the backward pass.
    pub flash_backward: f64,
    /// Start and end of one kernel, s.
    pub launch_s: f64,
    /// A tile of a product costs as much as its sum being this much longer: loading and storing it.
    pub tile_overhead_k: f64,
    /// What of the time in which a linear layer's tiles go to memory no arithmetic runs beside: in training results do not stay
    /// in the cache of a benchmark that repeats itself. 0 for none, 1 for all of it.
    pub tile_store: f64,
    /// Experts' products: what of the shorter of arithmetic and memory the longer does not run beside.
    pub grouped: f64,
    /// Bytes/s that one multiprocessor moves at the most in passes over scores and logits: exponentials and sums bind those.
    pub scores: f64,
    /// Share of the last, half-empty wave of tiles that is felt: 0 none, 1 all.
    pub wave: f64,
    /// Products with a size whose rows are no multiple of 16 bytes long reach the share of the others' speed that their rows
    /// are aligned to of those 16 bytes, to this power: 0 is no loss.
    pub unaligned: f64,
    /// Standard deviation of the log of measured over predicted operator times: 0.1 is about 10 %.
    pub spread: f64,
    /// Whether these were fitted to this GPU's measurements.
    pub fitted: bool,
}

impl Default for DeviceConstants {
    /// An unknown architecture: the middle of those that were measured, and twice their spread.
    fn default() -> Self {
        DeviceConstants {
            matmul: 0.72,
            matmul_fp8: 0.68,
            matmul_fp4: 0.55,
            matmul_tf32: 0.75,
            matmul_fp32: 0.88,
            stream: 0.8,
            flash_forward: 0.42,
            flash_backward: 0.36,
            // Shared by every GPU: vidur's (A40, A100, H100) and SimuMax' (A100-PCIe, B200) products move by under half a
            // percentage point when each has its own.
            launch_s: 4e-6,
            tile_overhead_k: 64.0,
            // Known from runs alone, as alignment is (`framework::Calibration`).
            tile_store: 0.0,
            // Between the two that were measured.
            grouped: 0.6,
            // SimuMax' cross-entropy of Megatron-Core on B200: 2.8 TB/s on 148 of them.
            scores: 18.8e9,
            wave: 0.25,
            unaligned: 0.0,
            spread: 0.25,
            fitted: false,
        }
    }
}

/// (names, tensor cores in 16 bits, TF32, plain fp32), fitted to large products of
/// vidur (MIT): A40, A100 in fp16; SimuMax (Apache-2.0): B200, A100-PCIe in bf16;
/// Sailor's operator tables (MIT): V100, RTX-2080, RTX-3090, Titan-RTX, A100-40, GH200, fp16 and fp32.
/// Ada cards: as the RTX-3090, whose clock also passes the datasheet's.
const MATMUL: &[(&[&str], f64, f64, f64)] = &[
    (&["P100", "P100-PCIe"], 0.85, 0.90, 0.90),
    (&["V100-16", "V100-32", "V100-16-PCIe", "V100-32-PCIe"], 0.74, 0.92, 0.92),
    // 24 of 65 TFLOP/s where products alone draw all of its 70 W (NVIDIA developer forum, About GPU peak performance, 264462); in
    // training about half the time goes to kernels that draw less: half-way to the default.
    (&["T4"], 0.54, 0.54, 0.7),
    (&["Titan-RTX"], 0.72, 0.82, 0.82),
    (&["RTX-2080", "RTX-2080-8"], 1.03, 0.93, 0.93),
    (&["RTX-3090"], 1.0, 1.0, 0.75),
    (&["RTX-4090"], 1.0, 1.0, 0.75),
    (&["A40", "RTX-A6000", "RTX-A5000", "A10", "A10G"], 0.80, 0.80, 0.75),
    (&["A100-40", "A100-80", "A100-80-PCIe", "A800", "A30"], 0.755, 0.82, 0.88),
    // 250 W: 0.83 of what the module of 400 W reaches (gpu-fryer: 224 and 270 TFLOP/s, in TF32 106 and 130). Likewise Hopper's cards, below.
    (&["A100-40-PCIe"], 0.63, 0.67, 0.88),
    // As its power lets it for minutes: 730 TFLOP/s of 8,192 cubed where the A100 has 270 (huggingface/gpu-fryer, Apache-2.0), whose 0.755
    // is 0.86 of that. vidur's H100, of short runs, has 0.735.
    (&["H100", "H200", "GH200-96", "GH200-144", "H800", "H200-NVL"], 0.65, 0.66, 0.88),
    (&["H100-PCIe", "H100-NVL"], 0.54, 0.55, 0.88),
    (&["B200", "B300", "GB200", "GB300"], 0.50, 0.55, 0.88),
    // 0.86 of the best products found (668, 785 and 1,565 TFLOP/s: stas00/ml-engineering, compute/accelerator).
    (&["MI300X"], 0.44, 0.44, 0.88),
    (&["MI325X"], 0.52, 0.52, 0.88),
    (&["MI355X"], 0.53, 0.53, 0.88),
];

/// Shares of the memory bandwidth that streaming kernels reach, where they were measured to be another than the default: arXiv
/// 1903.07486 (T4 220 of 298 GiB/s, P100 510 of 682; NVIDIA's bandwidthTest on a T4, in router-gao/cuda-demo: 240 GB/s, which are 223 GiB/s).
const STREAM: &[(&[&str], f64)] = &[(&["T4"], 0.74), (&["P100", "P100-PCIe"], 0.75)];

/// Of its peak, what a GPU's power lets products reach, over that of the GPU of its kind that was measured: the B200 with 1,000 W for
/// 2,250 TFLOP/s. A GB300 gives 617 TFLOP/s with 500 W and 1,600 to 2,174 with 1,400 (facebookexperimental/triton, pull request
/// 2023): in proportion.
fn by_power(gpu: &Gpu) -> f64 {
    const MEASURED_W_A_FLOP: f64 = 1000.0 / 2250e12;
    match gpu.power_w.filter(|_| gpu.architecture == "blackwell") {
        Some(power) => power / gpu.peak_of(Format::Fp16) / MEASURED_W_A_FLOP,
        None => 1.0,
    }
}

impl DeviceConstants {
    /// What is known of a GPU without measuring it: its own kind's where that was measured, its architecture's flash
    /// attention, and for the rest the default.
    pub fn of(gpu: &Gpu) -> DeviceConstants {
        let mut c = DeviceConstants::default();
        if let Some(&(_, half, tf32, plain)) =
            MATMUL.iter().find(|(names, ..)| names.contains(&gpu.name.as_str()))
        {
            let half = half * by_power(gpu);
            (c.matmul, c.matmul_tf32, c.matmul_fp32, c.spread) = (half, tf32, plain, 0.12);
            // Fewer bits ask more of the power and of the memory: in 8 bits by the best products of H100, GH200, B200, B300 and GB200
            // (stas00/ml-engineering, compute/accelerator), in 4 assumed. Of more than twice as many units for 4 bits half is felt.
            let units = gpu.peak_of(Format::Fp4) / (2.0 * gpu.peak_of(Format::Fp8));
            (c.matmul_fp8, c.matmul_fp4) = (0.94 * half, 0.76 * half / libm::sqrt(units.max(1.0)));
        }
        if let Some(&(_, stream)) = STREAM.iter().find(|(names, _)| names.contains(&gpu.name.as_str())) {
            c.stream = stream;
        }
        // Ampere and Blackwell: SimuMax' tables (A100-PCIe, B200). Hopper: FlashAttention-2 (arXiv 2307.08691) gives up
        // to 335 TFLOP/s on the H100, a third of the peak. Older: half of the A100's share, assumed.
        let flash = match gpu.architecture.as_str() {
            "volta" | "turing" | "pascal" => (0.3, 0.25),
            "ampere" | "ada" => (0.58, 0.49),
            "hopper" => (0.36, 0.30),
            // Blackwell Ultra computes exponentials, which bind the kernel, twice as fast: "up to 2x" (NVIDIA, Inside NVIDIA
            // Blackwell Ultra, 2025); half of the gain is taken.
            "blackwell" if gpu.name.ends_with("B300") => (0.72, 0.60),
            "blackwell" => (0.48, 0.40),
            _ => (c.flash_forward, c.flash_backward),
        };
        (c.flash_forward, c.flash_backward) = flash;
        // SimuMax' experts' products on A100-PCIe and B200, 128 to 10,000 rows.
        c.grouped = match gpu.architecture.as_str() {
            "ampere" | "ada" => 0.35,
            "blackwell" => 1.0,
            _ => c.grouped,
        };
        c
    }

    /// Share of a format's peak that large products reach.
    pub fn matmul_share(&self, gpu: &Gpu, format: Format) -> f64 {
        // A format without a unit runs on the ordinary ones.
        let plain = gpu.peak_of(format) == gpu.peak_of(Format::Fp32);
        match format {
            Format::Fp32 => self.matmul_fp32,
            Format::Tf32 if gpu.peaks.tf32.is_some() => self.matmul_tf32,
            _ if plain && format != Format::Fp16 => self.matmul_fp32,
            Format::Fp8 if gpu.peaks.fp8.is_some() => self.matmul_fp8,
            Format::Fp4 if gpu.peaks.fp4.is_some() => self.matmul_fp4,
            _ => self.matmul,
        }
    }
}

/// By how much compute slows down beside communication where no run says: Hetu-Galvatron's measurement on A100 (PKU-DAIR,
/// galvatron/profile_hardware/hardware_configs/overlap_coefficient.json: 1.126).
pub const SLOWDOWN: f64 = 0.126;

/// How a framework computes attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionKernel {
    /// Scores in memory, one kernel a step: scale, mask, softmax, dropout.
    Eager,
    /// Scores in memory; scale, mask and softmax in one kernel.
    Fused,
    /// FlashAttention: scores never in memory.
    Flash,
}

/// What selective recomputation does again in a block's backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selective {
    /// The attention between its projections (arXiv 2205.05198).
    #[default]
    Attention,
    /// Every second product and all that is bound by memory; of products in 8 and 4 bits all.
    Products,
}

/// What a framework makes of a layer. Passes count how often a kernel's whole tensor is read or written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrameworkConstants {
    /// Its name.
    pub name: String,
    /// Attention in 16 bits and less.
    pub attention: AttentionKernel,
    /// Attention in fp32 (fused and flash kernels are for 16 bits).
    pub attention_fp32: AttentionKernel,
    /// What selective recomputation does again.
    pub selective: Selective,
    /// Whether attention skips what the causal mask hides (flash only).
    pub causal: bool,
    /// Speed of its flash attention over FlashAttention-2's, which the device's shares are of.
    pub flash: f64,
    /// The same on Hopper, beside `flash`.
    pub flash_hopper: f64,
    /// Whether fp32 products may use TF32 where the GPU has it, as NVIDIA's containers do.
    pub tf32: bool,
    /// Passes over the scores between the two products of eager attention, forward.
    pub eager_forward_passes: f64,
    /// The same, backward.
    pub eager_backward_passes: f64,
    /// Passes over the scores with a fused softmax, forward (with its dropout).
    pub fused_forward_passes: f64,
    /// The same, backward.
    pub fused_backward_passes: f64,
    /// Passes over (tokens x hidden) of what every rank does: norms, dropouts, residuals. Forward.
    pub replicated_forward_passes: f64,
    /// The same, backward.
    pub replicated_backward_passes: f64,
    /// Passes over (tokens x hidden / TP) of what is split: biases, activation, transposes. Forward.
    pub sharded_forward_passes: f64,
    /// The same, backward.
    pub sharded_backward_passes: f64,
    /// Passes over the logits in 32 bits that the loss makes, forward: widened, maximum, difference, exponential, sum.
    pub loss_forward_passes: f64,
    /// The same, backward.
    pub loss_backward_passes: f64,
    /// Host time to issue a block's forward pass, s: a layer takes the longer of host and device.
    pub host_forward_s: f64,
    /// The same, backward.
    pub host_backward_s: f64,
    /// Host time that tensor parallelism adds to a pass, s.
    pub host_tp_s: f64,
    /// The same for each of its ranks: the slowest of them is waited for.
    pub host_tp_rank_s: f64,
    /// The same for each of its ranks where a pipeline runs over several nodes.
    pub host_tp_pipeline_s: f64,
    /// Whether the all-reduces of a backward pass run beside the products of weight gradients (with sequence parallelism its
    /// scatters do in any case).
    pub beside_weights: bool,
    /// Host time that eager attention adds to a pass where the fused kernel cannot be used, s.
    pub host_eager_s: f64,
    /// Whether tokens are put in the order of their experts by the kernels that send them.
    pub sorts_while_sending: bool,
    /// Host time that experts add to a block's pass, s: routing, and the kernels that sort tokens.
    pub host_experts_s: f64,
    /// What the head's forward pass takes beyond its kernels, s: once a micro-batch the host reads the loss and starts anew.
    pub micro_batch_s: f64,
    /// How uneven host and device are: of what is alike in both, the longer is felt (0) or both (1).
    pub host_jitter: f64,
    /// What a collective of tensor parallelism takes beyond its own time, s, where no host is ahead of its device: ranks that
    /// come late.
    pub sync_s: f64,
    /// The same for each node beyond the first that its ranks are on, where a pipeline runs over several nodes.
    pub sync_node_s: f64,
    /// Longest sequence that the fused softmax takes; beyond, and where sequences x heads on a rank are no multiple of four,
    /// attention is eager (Megatron-LM, megatron/model/fused_softmax.py).
    pub fused_longest: u64,
    /// Bytes a parameter that a kernel of its own moves in each micro-batch to add a weight's gradient to those before it; 0
    /// where the product does so itself.
    pub accumulate_bytes: f64,
    /// Bytes that the optimizer moves a parameter.
    pub optimizer_bytes: f64,
    /// Bandwidth that kernels of a kind reach, relative to the device's `stream`.
    pub kernels: KernelShares,
}

/// Shares of the device's streaming bandwidth, by kind of kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelShares {
    /// [`Stream::Add`].
    pub add: f64,
    /// [`Stream::Norm`].
    pub norm: f64,
    /// [`Stream::Rotary`].
    pub rotary: f64,
    /// [`Stream::Activation`].
    pub activation: f64,
    /// [`Stream::Gather`].
    pub gather: f64,
    /// [`Stream::Scores`].
    pub scores: f64,
    /// [`Stream::Optimizer`].
    pub optimizer: f64,
}

impl Default for KernelShares {
    fn default() -> Self {
        KernelShares {
            add: 1.0,
            norm: 1.0,
            rotary: 1.0,
            activation: 1.0,
            gather: 1.0,
            scores: 1.0,
            optimizer: 1.0,
        }
    }
}

impl KernelShares {
    /// The share of a kind.
    pub fn get(&self, kind: Stream) -> f64 {
        match kind {
            Stream::Add => self.add,
            Stream::Norm => self.norm,
            Stream::Rotary => self.rotary,
            Stream::Activation => self.activation,
            Stream::Gather => self.gather,
            Stream::Scores => self.scores,
            Stream::Optimizer => self.optimizer,
        }
    }

    /// The share of a kind, to be set.
    pub fn get_mut(&mut self, kind: Stream) -> &mut f64 {
        match kind {
            Stream::Add => &mut self.add,
            Stream::Norm => &mut self.norm,
            Stream::Rotary => &mut self.rotary,
            Stream::Activation => &mut self.activation,
            Stream::Gather => &mut self.gather,
            Stream::Scores => &mut self.scores,
            Stream::Optimizer => &mut self.optimizer,
        }
    }
}

impl Default for FrameworkConstants {
    /// Megatron-LM and Megatron-DeepSpeed with flash attention.
    fn default() -> Self {
        FrameworkConstants {
            name: "megatron".into(),
            attention: AttentionKernel::Flash,
            attention_fp32: AttentionKernel::Eager,
            selective: Selective::Attention,
            causal: true,
            flash: 1.0,
            flash_hopper: 1.0,
            tf32: true,
            // Eager passes: Sailor's layer tables (fp32), all GPUs together. Fused: Sailor's operator tables (fp16),
            // softmax and attention dropout.
            eager_forward_passes: 4.5,
            eager_backward_passes: 18.8,
            fused_forward_passes: 4.5,
            fused_backward_passes: 5.0,
            // Two norms (Sailor's operator tables, six GPUs alike: 2.7 and 9, whose sums over tokens read all once more), two dropouts
            // with bias and residual in one kernel (3.5; 3.5 with the bias's gradient).
            replicated_forward_passes: 12.4,
            replicated_backward_passes: 25.0,
            // The MLP's activation with its bias (8 and 14.6: the same tables), the attention's result put in order (2, 2); backward
            // gradients of queries, keys and values put together (6) and those of their biases (3).
            sharded_forward_passes: 10.0,
            sharded_backward_passes: 25.6,
            // Sailor's operator tables (`gpt-post-process` less its product).
            loss_forward_passes: 8.0,
            loss_backward_passes: 3.0,
            // 3 ms a block and micro-batch: the floor of vTrain's one-node runs at TP 1, and of Sailor's tables at
            // micro-batch 1; TP 2 and 4 lie about 0.7 ms above it.
            host_forward_s: 1.2e-3,
            host_backward_s: 1.8e-3,
            host_tp_s: 0.35e-3,
            host_tp_rank_s: 0.0,
            host_tp_pipeline_s: 0.0,
            beside_weights: false,
            host_eager_s: 0.0,
            sorts_while_sending: false,
            host_experts_s: 0.0,
            micro_batch_s: 0.0,
            host_jitter: 0.0,
            sync_s: 0.0,
            sync_node_s: 0.0,
            fused_longest: 2048,
            accumulate_bytes: 0.0,
            // Adam, fused: reads parameter, gradient and two moments, writes all but the gradient, 32 bits each.
            optimizer_bytes: 28.0,
            kernels: KernelShares::default(),
        }
    }
}

impl FrameworkConstants {
    /// Megatron-LM with its fused softmax and the scores in memory: before flash attention.
    pub fn megatron_fused() -> FrameworkConstants {
        FrameworkConstants {
            name: "megatron-fused-softmax".into(),
            attention: AttentionKernel::Fused,
            ..FrameworkConstants::default()
        }
    }

    /// Megatron-DeepSpeed with eager attention: scale, mask, softmax and dropout one by one. vTrain's one-node runs fit
    /// 24 passes over the scores, Sailor's fp32 tables 23; its optimizer moves 84 and 65 bytes a parameter.
    pub fn megatron_deepspeed() -> FrameworkConstants {
        FrameworkConstants {
            name: "megatron-deepspeed".into(),
            attention: AttentionKernel::Eager,
            optimizer_bytes: 75.0,
            ..FrameworkConstants::default()
        }
    }

    /// The kernel of a precision.
    pub fn attention_in(&self, format: Format) -> AttentionKernel {
        match format {
            Format::Fp32 | Format::Tf32 => self.attention_fp32,
            _ => self.attention,
        }
    }
}
