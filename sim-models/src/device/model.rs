//! The trait of a device model: how long an operator or a layer takes, with what is known of the answer.
//!
//! Laws, which [`check_laws`] tests on any implementation, a user's too:
//! 1. Every time is finite and positive for every positive input.
//! 2. `layer_lower(x)` is monotone in micro-batch and sequence length, and never above `layer(y)` for any `y >= x` in
//!    both. Times themselves need not be monotone: measured ones are not. Bounds use `layer_lower`.
//! 3. An answer with the evidence [`Evidence::Measured`] is the measured point itself.

use super::catalogue::Format;
use super::constants::{AttentionKernel, SLOWDOWN};
use super::layer::{Kernel, LayerQuery, operators_by};
use super::operator::Operator;
use super::roofline::Roofline;
use super::table::LayerCost;
use crate::device::measured::MeasuredLayers;
use serde::Serialize;
use sim_core::{SimDuration, TimeError};
use std::sync::Arc;

/// How a time is known. Ordered from the best: the evidence of a sum is the greatest of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// Inside a measured table.
    Measured,
    /// From parameters fitted to measurements, inside their range.
    Calibrated,
    /// From parameters of other devices, or outside the range.
    Extrapolated,
}

/// A time and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The time, s.
    pub seconds: f64,
    /// How it is known.
    pub evidence: Evidence,
    /// Standard deviation of the log of the true time: 0.1 is about 10 %.
    pub spread: f64,
}

/// One pass of a layer on one rank. The device works `device_s` and waits for `syncs` all-reduces; the host issues it
/// all in `host_s`, and the pass takes the longer, and more where both are alike: now the one is late, now the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pass {
    /// Kernels, s.
    pub device_s: f64,
    /// Issuing them, s.
    pub host_s: f64,
    /// All-reduces over the tensor-parallel ranks (or gathers and scatters of as many bytes) that `device_s` does not hold; 0
    /// where a measured time holds them.
    pub syncs: u32,
    /// Those of them that run beside products of the pass, and how long these products take, s.
    pub beside: (u32, f64),
    /// How uneven host and device are, 0 for not at all: see [`Pass::longer`].
    pub jitter: f64,
}

impl Pass {
    /// Its time, s, when one of its all-reduces takes `sync_s`.
    pub fn seconds(&self, sync_s: f64) -> f64 {
        self.longer(self.device_s + self.exposed(sync_s))
    }

    /// What its all-reduces take that no product runs beside, s, when each takes `sync_s`. With `device_s` it is monotone in the
    /// times of products.
    fn exposed(&self, sync_s: f64) -> f64 {
        if self.syncs == 0 {
            return 0.0;
        }
        let (beside, products_s) = self.beside;
        let under_way = f64::from(beside) * sync_s;
        let slower = SLOWDOWN * under_way.min(products_s);
        f64::from(self.syncs.saturating_sub(beside)) * sync_s + (under_way - products_s).max(0.0) + slower
    }

    /// What the pass takes when its device does so long, s: `(device^(1/j) + host^(1/j))^j`, which is the longer for a jitter
    /// `j` of 0. Monotone in both and in `j`.
    pub fn longer(&self, device_s: f64) -> f64 {
        let (most, least) = (device_s.max(self.host_s), device_s.min(self.host_s));
        if self.jitter > 0.0 && least > 0.0 {
            most * libm::pow(1.0 + libm::pow(least / most, 1.0 / self.jitter), self.jitter)
        } else {
            most
        }
    }
}

impl Pass {
    /// What late ranks add to a pass whose device works so long, s, `each` where nobody is ahead: hosts that have run ahead of
    /// their devices have time to catch up. The pass with it stays monotone in `device_s`.
    fn late(&self, each: f64, device_s: f64) -> f64 {
        let all = (f64::from(self.syncs) * each).min(self.host_s);
        if all > 0.0 { all * self.host_s / (self.host_s + device_s) } else { 0.0 }
    }
}

/// A layer's times on one rank for one micro-batch, and for one optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LayerEstimate {
    /// Forward pass.
    pub forward: Pass,
    /// Backward pass, without recomputation. Full recomputation adds `forward`, selective adds `again_s`.
    pub backward: Pass,
    /// The attention between its projections, forward, s.
    pub core_s: f64,
    /// What selective recomputation repeats, s.
    pub again_s: f64,
    /// The part of the backward pass that computes weight gradients, s: it can wait.
    pub weight_s: f64,
    /// Optimizer step, s.
    pub update_s: f64,
    /// Bytes of one all-reduce.
    pub sync_bytes: f64,
    /// What it takes beyond its own time because ranks come late, s: where no host is ahead, and for each node beyond the
    /// first in a pipeline over several.
    pub late_s: [f64; 2],
    /// Bytes around the ring of context-parallel ranks, forward; twice that backward.
    pub ring_bytes: f64,
    /// Bytes that one exchange of tokens between experts moves from a rank: two in a pass.
    pub expert_bytes: f64,
    /// How the passes are known.
    pub evidence: Evidence,
    /// As [`Estimate::spread`].
    pub spread: f64,
}

/// What a layer's passes wait for beside their kernels, s each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waits {
    /// One all-reduce of the tensor-parallel ranks.
    pub sync_s: f64,
    /// What each adds where its ranks are on several nodes: the host waits for it too.
    pub late_s: f64,
    /// One exchange of tokens between the ranks with experts.
    pub expert_s: f64,
    /// Keys and values once around the context-parallel ranks.
    pub ring_s: f64,
    /// Whether all-reduces and exchanges run beside the kernels.
    pub overlap: bool,
}

impl LayerEstimate {
    /// Times of the forward and the backward pass with these waits, s.
    pub(crate) fn passes_s(&self, waits: &Waits) -> [f64; 2] {
        // Keys and values go around while the attention of those at hand is computed.
        let ring = (if self.ring_bytes > 0.0 { waits.ring_s } else { 0.0 } - self.core_s).max(0.0);
        let expert = if self.expert_bytes > 0.0 { 2.0 * waits.expert_s } else { 0.0 };
        let time = |pass: &Pass, ring_s: f64| {
            let all = if pass.syncs == 0 { 0.0 } else { f64::from(pass.syncs) * waits.sync_s };
            let inside = expert + if waits.overlap { all } else { pass.exposed(waits.sync_s) };
            let synced = if waits.overlap { pass.device_s.max(inside) } else { pass.device_s + inside };
            let synced = synced + pass.late(self.late_s[0], synced);
            let late = if pass.syncs == 0 { 0.0 } else { f64::from(pass.syncs) * waits.late_s };
            pass.longer(synced + ring_s) + late
        };
        [time(&self.forward, ring), time(&self.backward, 2.0 * ring)]
    }

    /// As the simulator takes it, with these waits.
    ///
    /// # Errors
    /// A time beyond the range of a [`SimDuration`].
    pub fn cost(&self, waits: &Waits) -> Result<LayerCost, TimeError> {
        let waited = |pass: &Pass, all: f64| (all - pass.longer(pass.device_s)).max(0.0);
        let [forward, backward] = self.passes_s(waits);
        let duration = SimDuration::from_secs_f64;
        Ok(LayerCost {
            forward: duration(forward)?,
            backward: duration(backward)?,
            update: duration(self.update_s)?,
            again: duration(self.again_s)?,
            weight: duration(self.weight_s.min(self.backward.device_s))?,
            forward_wait: duration(waited(&self.forward, forward))?,
            backward_wait: duration(waited(&self.backward, backward))?,
        })
    }
}

/// How long a device takes. The head of this file has the laws.
pub trait DeviceModel: Send + Sync {
    /// One operator.
    fn operator(&self, op: &Operator, format: Format) -> Estimate;

    /// A bound of [`Self::operator`] for this and every larger operator, s.
    fn operator_lower(&self, op: &Operator, format: Format) -> f64;

    /// One layer.
    fn layer(&self, query: &LayerQuery) -> LayerEstimate;

    /// A bound of [`Self::layer`], part by part, for this and every larger micro-batch and sequence.
    fn layer_lower(&self, query: &LayerQuery) -> LayerEstimate;
}

/// The products of weight gradients among the kernels of a backward pass.
fn weights(backward: &[Kernel]) -> Vec<Kernel> {
    let accumulates = |(op, _): &&Kernel| matches!(op, Operator::Gemm { accumulate: true, .. });
    backward.iter().filter(accumulates).copied().collect()
}

impl Roofline {
    fn layer_with(
        &self,
        q: &LayerQuery,
        kernel: AttentionKernel,
        time: impl Fn(&Operator, Format) -> f64,
    ) -> LayerEstimate {
        let f = &self.framework;
        let ops = operators_by(q, f, kernel);
        let block = q.shape.kind == crate::workload::LayerKind::Block;
        let sum = |list: &[Kernel]| list.iter().map(|(op, format)| time(op, *format)).sum::<f64>();
        let synced = if block && ops.syncs > 0 { ops.backward_syncs } else { [0; 2] };
        let ranks = f64::from(q.tp);
        let tp_host = match (q.tp > 1, q.piped) {
            (false, _) => 0.0,
            (true, false) => f.host_tp_s + ranks * f.host_tp_rank_s,
            (true, true) => f.host_tp_s + ranks * (f.host_tp_rank_s + f.host_tp_pipeline_s),
        };
        let fallen_back =
            kernel == AttentionKernel::Eager && f.attention_in(q.format) == AttentionKernel::Fused;
        let eager = if fallen_back { f.host_eager_s } else { 0.0 };
        let experts = if q.shape.experts > 0 { f.host_experts_s } else { 0.0 };
        let host = |s: f64| if block { s + tp_host + eager + experts } else { 0.0 };
        let head = q.shape.kind == crate::workload::LayerKind::Head;
        let started_s = if head { f.micro_batch_s } else { 0.0 };
        LayerEstimate {
            forward: Pass {
                device_s: sum(&ops.forward) + started_s,
                host_s: host(f.host_forward_s),
                syncs: ops.syncs,
                beside: (0, 0.0),
                jitter: f.host_jitter,
            },
            backward: Pass {
                device_s: sum(&ops.backward),
                host_s: host(f.host_backward_s),
                syncs: synced[0],
                beside: (synced[1], sum(&ops.beside)),
                jitter: f.host_jitter,
            },
            core_s: sum(&ops.core),
            again_s: sum(&ops.again),
            weight_s: sum(&weights(&ops.backward)),
            update_s: sum(&ops.update),
            sync_bytes: ops.sync_bytes,
            late_s: [f.sync_s, f.sync_node_s],
            ring_bytes: ops.ring_bytes,
            expert_bytes: ops.expert_bytes,
            evidence: self.evidence(),
            spread: self.device.spread,
        }
    }
}

impl DeviceModel for Roofline {
    fn operator(&self, op: &Operator, format: Format) -> Estimate {
        self.estimate(op, format)
    }

    fn operator_lower(&self, op: &Operator, format: Format) -> f64 {
        Roofline::operator_lower(self, op, format)
    }

    fn layer(&self, query: &LayerQuery) -> LayerEstimate {
        let kernel = query.attention(&self.framework);
        self.layer_with(query, kernel, |op, format| self.operator_s(op, format))
    }

    fn layer_lower(&self, query: &LayerQuery) -> LayerEstimate {
        // The cheapest kernel: a larger micro-batch may be one that the fused softmax takes.
        let kernel = self.framework.attention_in(query.format);
        self.layer_with(query, kernel, |op, format| Roofline::operator_lower(self, op, format))
    }
}

/// The device models there are; a user's own stands in the last.
#[derive(Clone)]
pub enum Device {
    /// Measured layers, carried on by a roofline.
    Table(MeasuredLayers),
    /// The roofline alone.
    Roofline(Roofline),
    /// Any other.
    Custom(Arc<dyn DeviceModel>),
}

/// A user's own is equal to itself alone.
impl PartialEq for Device {
    fn eq(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Table(a), Device::Table(b)) => a == b,
            (Device::Roofline(a), Device::Roofline(b)) => a == b,
            (Device::Custom(a), Device::Custom(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Table(t) => f.debug_tuple("Table").field(t).finish(),
            Device::Roofline(r) => f.debug_tuple("Roofline").field(r).finish(),
            Device::Custom(_) => f.debug_tuple("Custom").finish_non_exhaustive(),
        }
    }
}

impl DeviceModel for Device {
    fn operator(&self, op: &Operator, format: Format) -> Estimate {
        match self {
            Device::Table(m) => m.operator(op, format),
            Device::Roofline(m) => m.operator(op, format),
            Device::Custom(m) => m.operator(op, format),
        }
    }

    fn operator_lower(&self, op: &Operator, format: Format) -> f64 {
        match self {
            Device::Table(m) => m.operator_lower(op, format),
            Device::Roofline(m) => Roofline::operator_lower(m, op, format),
            Device::Custom(m) => m.operator_lower(op, format),
        }
    }

    fn layer(&self, query: &LayerQuery) -> LayerEstimate {
        match self {
            Device::Table(m) => m.layer(query),
            Device::Roofline(m) => m.layer(query),
            Device::Custom(m) => m.layer(query),
        }
    }

    fn layer_lower(&self, query: &LayerQuery) -> LayerEstimate {
        match self {
            Device::Table(m) => m.layer_lower(query),
            Device::Roofline(m) => m.layer_lower(query),
            Device::Custom(m) => m.layer_lower(query),
        }
    }
}

/// Holds a model to the laws at `x` and at a larger `y` (micro-batch and sequence at least `x`'s, all else equal).
///
/// # Errors
/// The law that is broken, with the figures.
pub fn check_laws(model: &dyn DeviceModel, x: &LayerQuery, y: &LayerQuery) -> Result<(), String> {
    let same = LayerQuery { micro_batch: x.micro_batch, seq_len: x.seq_len, ..*y };
    if same != *x || y.micro_batch < x.micro_batch || y.seq_len < x.seq_len {
        return Err(format!("not a case of the law: {y:?} is no larger {x:?}"));
    }
    let parts = |e: &LayerEstimate| {
        let (f, b) = (e.forward, e.backward);
        [
            ("forward device", f.device_s),
            ("forward", f.seconds(0.0)),
            ("backward device", b.device_s),
            ("backward", b.seconds(0.0)),
            ("update", e.update_s),
        ]
    };
    let (at_x, at_y) = (model.layer(x), model.layer(y));
    let (low_x, low_y) = (model.layer_lower(x), model.layer_lower(y));
    for (name, value) in [&at_x, &at_y, &low_x, &low_y].into_iter().flat_map(parts) {
        if !(value.is_finite() && value > 0.0) {
            return Err(format!("{name} is {value}: expected a finite positive time, for {y:?}"));
        }
    }
    // Sums of the same terms in the same order: no rounding slack is needed beyond the last bit of each.
    let above = |low: f64, high: f64| low > high * (1.0 + 1e-12);
    for (((name, low), (_, low_next)), (_, time)) in
        parts(&low_x).into_iter().zip(parts(&low_y)).zip(parts(&at_y))
    {
        if above(low, low_next) {
            return Err(format!(
                "the bound of {name} falls from {low} to {low_next} between {x:?} and {y:?}"
            ));
        }
        if above(low, time) {
            return Err(format!("the bound of {name} at {x:?} is {low}: above the time {time} at {y:?}"));
        }
    }
    Ok(())
}
