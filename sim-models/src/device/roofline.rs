//! Time of one operator on one GPU: the longer of arithmetic and memory, with tiles, waves and launches.
//!
//! A product is cut into tiles, and the GPU works on as many at once as it has multiprocessors:
//!
//! ```text
//!   tiles = batch ceil(m / tm) ceil(n / tn)      waves = tiles / multiprocessors
//!   t = launch + max( q(waves) 2 tm tn (k + k0) multiprocessors / (peak share e_tile),  bytes / (bandwidth stream) )
//!   q(waves) = 1 up to one wave, then (1 - wave) waves + wave ceil(waves)
//! ```
//!
//! The least over the tile shapes is taken, as a library's heuristic would. With `e_tile = 1`, no overhead and no
//! quantisation this is the plain roofline, which is [`Roofline::operator_lower`].

use super::catalogue::{Format, Gpu};
use super::constants::{DeviceConstants, FrameworkConstants};
use super::model::{Estimate, Evidence};
use super::operator::{Operator, Stream};

/// Tile shapes and their share of the best kernel's speed: half the area, more traffic from shared memory. The shares
/// are vidur's products on the A100 at 64 to 1,024 tokens.
const TILES: [(f64, f64, f64); 6] = [
    (256.0, 128.0, 1.0),
    (128.0, 256.0, 1.0),
    (128.0, 128.0, 0.97),
    (128.0, 64.0, 0.84),
    (64.0, 128.0, 0.84),
    (64.0, 64.0, 0.73),
];

/// Queries that one block of a flash kernel works on.
const FLASH_ROWS: f64 = 128.0;
/// Work that is lost in filling and draining a flash kernel, in waves: a causal forward kernel's blocks are unequal.
/// From SimuMax' A100 and B200 tables over 4 to 128 heads.
const FLASH_TAIL: f64 = 0.6;
/// The same for a causal forward pass.
const FLASH_TAIL_CAUSAL: f64 = 1.5;

/// Of a memory-bound kernel's traffic, what the last cache saves of the part that fits in a share of it; and its launch,
/// as a share of a product's. From vidur's norms and sums on the A100 and H100.
const CACHE_SAVING: f64 = 0.33;
const CACHE_HOLDS: f64 = 0.5;
const MEMORY_LAUNCH: f64 = 0.4;

/// A GPU with its constants and the kernels of a framework. See the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub struct Roofline {
    /// The GPU.
    pub gpu: Gpu,
    /// What it reaches.
    pub device: DeviceConstants,
    /// What the framework asks of it.
    pub framework: FrameworkConstants,
}

impl Roofline {
    /// From the catalogue alone: nothing fitted to this GPU's own runs.
    pub fn from_catalogue(gpu: &Gpu) -> Roofline {
        Roofline {
            gpu: gpu.clone(),
            device: DeviceConstants::of(gpu),
            framework: FrameworkConstants::default(),
        }
    }

    /// The same with another framework.
    #[must_use]
    pub fn with_framework(mut self, framework: FrameworkConstants) -> Roofline {
        self.framework = framework;
        self
    }

    /// FLOP/s that large products reach.
    pub fn matmul_rate(&self, format: Format) -> f64 {
        self.gpu.peak_of(format) * self.device.matmul_share(&self.gpu, format)
    }

    /// Bytes/s that streaming kernels reach.
    pub fn stream_rate(&self) -> f64 {
        self.gpu.memory_bandwidth * self.device.stream
    }

    /// Time of an operator, s: finite, and at least [`Self::operator_lower`].
    pub fn operator_s(&self, op: &Operator, format: Format) -> f64 {
        let memory = self.memory_s(op, format);
        let compute = match *op {
            Operator::Gemm { batch, m, n, k, accumulate, grouped } => {
                // Tokens are rows, whose number does not matter: those of the result, of a weight's gradient those summed over.
                let rows = if accumulate { [m, n] } else { [n, k] };
                let aligned = self.aligned_share(rows.map(|s| s as f64), format);
                let sizes = [batch, m, n, k].map(|s| s as f64);
                // Bytes of a result that go to memory; those of small products side by side stay in the cache.
                let stored = match (batch, accumulate) {
                    _ if grouped => 0.0,
                    (0 | 1, true) if self.framework.accumulate_bytes == 0.0 => 8.0,
                    (0 | 1, _) => format.bytes().max(2.0),
                    _ => 0.0,
                };
                if aligned < 1.0 && batch > 1 && format != Format::Fp32 {
                    // Small products side by side have no kernel that feeds tensor cores from such rows.
                    self.gemm_s(sizes, 1.0, Format::Fp32, stored)
                } else {
                    self.gemm_s(sizes, aligned, format, stored)
                }
            }
            Operator::Attention { heads, queries, causal, backward, .. } => {
                let blocks = heads as f64 * libm::ceil(queries as f64 / FLASH_ROWS);
                let waves = (blocks / f64::from(self.gpu.multiprocessors)).max(1e-3);
                let tail = if causal && !backward { FLASH_TAIL_CAUSAL } else { FLASH_TAIL };
                self.compute_floor_s(op, format) * (1.0 + tail / waves)
            }
            Operator::Memory { .. } => 0.0,
        };
        let beside = match op {
            // Each expert's weight is read for its few rows alone.
            Operator::Gemm { grouped: true, .. } => self.device.grouped * compute.min(memory),
            _ => 0.0,
        };
        self.launch_s(op) + compute.max(memory) + beside
    }

    /// A time that neither this operator nor any that is at least as large in every size goes below, s. Monotone in
    /// every size.
    pub fn operator_lower(&self, op: &Operator, format: Format) -> f64 {
        self.launch_s(op) + self.compute_floor_s(op, format).max(self.memory_s(op, format))
    }

    /// Time with what is known of it.
    pub fn estimate(&self, op: &Operator, format: Format) -> Estimate {
        Estimate {
            seconds: self.operator_s(op, format),
            evidence: self.evidence(),
            spread: self.device.spread,
        }
    }

    /// Fitted constants are calibrated, the catalogue's are extrapolated.
    pub fn evidence(&self) -> Evidence {
        if self.device.fitted { Evidence::Calibrated } else { Evidence::Extrapolated }
    }

    fn memory_s(&self, op: &Operator, format: Format) -> f64 {
        let share = match op {
            Operator::Memory { kind, .. } => self.framework.kernels.get(*kind),
            _ => 1.0,
        };
        let bytes = op.bytes(format.bytes());
        let from_cache = match op {
            // The other kinds stay under half of the bandwidth: their instructions bind them, not the memory.
            Operator::Memory { kind: Stream::Add | Stream::Norm, .. } => {
                CACHE_SAVING * bytes.min(CACHE_HOLDS * self.gpu.cache.0 as f64)
            }
            _ => 0.0,
        };
        let rate = match op {
            Operator::Memory { kind: Stream::Scores, .. } => {
                self.stream_rate().min(self.device.scores * f64::from(self.gpu.multiprocessors))
            }
            _ => self.stream_rate(),
        };
        (bytes - from_cache) / (rate * share)
    }

    /// A product starts with loading its first tiles; a memory-bound kernel with its first bytes.
    fn launch_s(&self, op: &Operator) -> f64 {
        match op {
            Operator::Memory { .. } => self.device.launch_s * MEMORY_LAUNCH,
            _ => self.device.launch_s,
        }
    }

    fn compute_floor_s(&self, op: &Operator, format: Format) -> f64 {
        let rate = match op {
            Operator::Gemm { .. } => self.matmul_rate(format),
            Operator::Attention { backward, .. } => {
                let device = if *backward { self.device.flash_backward } else { self.device.flash_forward };
                let hopper = self.gpu.architecture == "hopper";
                let kernel = self.framework.flash * if hopper { self.framework.flash_hopper } else { 1.0 };
                self.gpu.peak_of(format) * device * kernel
            }
            Operator::Memory { .. } => return 0.0,
        };
        op.flop() / rate
    }

    /// Speed of a product with rows of these lengths, of that with whole 16-byte rows. Tensor cores are fed in such pieces
    /// (NVIDIA, *Matrix Multiplication Background User's Guide*, "Tensor Core Requirements").
    fn aligned_share(&self, sizes: [f64; 2], format: Format) -> f64 {
        let whole = 16.0 / format.bytes();
        let mut part = whole;
        while part > 1.0 && sizes.iter().any(|s| s % part != 0.0) {
            part *= 0.5;
        }
        if part == whole || format == Format::Fp32 {
            1.0
        } else {
            libm::pow(part / whole, self.device.unaligned)
        }
    }

    /// Arithmetic of so many products, at a share of the format's speed, with tiles of so many bytes a result to store.
    fn gemm_s(&self, [batch, m, n, k]: [f64; 4], share: f64, format: Format, stored: f64) -> f64 {
        let processors = f64::from(self.gpu.multiprocessors);
        let of_one = self.matmul_rate(format) / processors;
        // Two operations a result and step of the sum: so many steps could be done while a result is stored.
        let store_k = stored / 2.0 * self.matmul_rate(format) / self.stream_rate();
        let overhead = self.device.tile_overhead_k + self.device.tile_store * store_k;
        let time = |(tile_m, tile_n, of_best): (f64, f64, f64)| {
            let tiles = batch * libm::ceil(m / tile_m) * libm::ceil(n / tile_n);
            let waves = tiles / processors;
            let felt = if waves <= 1.0 {
                if waves > 0.0 { 1.0 } else { 0.0 }
            } else {
                (1.0 - self.device.wave) * waves + self.device.wave * libm::ceil(waves)
            };
            felt * 2.0 * tile_m * tile_n * (k + overhead) / (of_one * share * of_best)
        };
        TILES.into_iter().map(time).fold(f64::INFINITY, f64::min)
    }
}
