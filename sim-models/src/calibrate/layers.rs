//! Calibration from layer times: what a framework makes of a block, on GPUs whose constants are known.

use super::fit::{Fitted, Parameter, fit};
use super::report::{Residual, spread, summarise};
use crate::device::constants::{AttentionKernel, FrameworkConstants};
use crate::device::{DeviceModel, LayerQuery, Roofline};

/// How far a constant may lie from its start, as the logarithm's standard deviation: a GPU's share of its peak moves
/// little between models, a framework's kernels and its host more. In the order of the parameters.
const PRIORS: [f64; 5] = [0.05, 0.25, 0.25, 0.5, 0.5];
/// What the model misses on one row of a table, as the logarithm's standard deviation.
const ROW_ERROR: f64 = 0.05;
/// Rows of a table that are worth as much as all of it.
const INDEPENDENT: f64 = 10.0;

/// One block's measured times on one GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// A block, by its model's name in reports.
    pub name: String,
    /// What was run.
    pub query: LayerQuery,
    /// Forward pass, s.
    pub forward_s: f64,
    /// Backward pass, s.
    pub backward_s: f64,
    /// One all-reduce of the tensor-parallel ranks, s, as the link model has it; 0 at TP 1.
    pub sync_s: f64,
}

/// A fitted framework and device, and how they were reached.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerFit {
    /// The roofline with the fitted constants.
    pub roofline: Roofline,
    /// The parameters.
    pub parameters: Vec<Fitted>,
    /// Errors by model, after the fit.
    pub residuals: Vec<Residual>,
}

/// Fits a framework's attention passes and host times, and the device's share of its product peak (one factor on all
/// formats), to blocks measured on that device. Bandwidth stays: only its ratio to the passes can be seen.
pub fn layers(start: &Roofline, times: &[LayerTime]) -> LayerFit {
    let f = &start.framework;
    let format = times.first().map_or(crate::device::Format::Bf16, |t| t.query.format);
    let kernel = f.attention_in(format);
    let (forward, backward) = match kernel {
        AttentionKernel::Eager => (f.eager_forward_passes, f.eager_backward_passes),
        AttentionKernel::Fused => (f.fused_forward_passes, f.fused_backward_passes),
        AttentionKernel::Flash => (start.device.flash_forward, start.device.flash_backward),
    };
    let around = |name: &str, value: f64, by: f64| Parameter::new(name, value, value / by, value * by);
    let parameters: [Parameter; 5] = [
        around("device.matmul", 1.0, 1.5),
        around("attention_forward", forward, 3.0),
        around("attention_backward", backward, 3.0),
        around("framework.host_forward_s", f.host_forward_s, 5.0),
        around("framework.host_backward_s", f.host_backward_s, 5.0),
    ];
    let build = |p: &[f64]| {
        let mut r = start.clone();
        for share in [&mut r.device.matmul, &mut r.device.matmul_tf32, &mut r.device.matmul_fp32] {
            *share *= p[0];
        }
        let c: &mut FrameworkConstants = &mut r.framework;
        match kernel {
            AttentionKernel::Eager => (c.eager_forward_passes, c.eager_backward_passes) = (p[1], p[2]),
            AttentionKernel::Fused => (c.fused_forward_passes, c.fused_backward_passes) = (p[1], p[2]),
            AttentionKernel::Flash => (r.device.flash_forward, r.device.flash_backward) = (p[1], p[2]),
        }
        (c.host_forward_s, c.host_backward_s) = (p[3], p[4]);
        r
    };
    let found = fit(&parameters, |p| {
        let r = build(p);
        let mut residuals: Vec<f64> = times.iter().flat_map(|t| errors(&r, t)).collect();
        // A pull to the start: the rows of one table share what is wrong with the model, so together they weigh no more
        // than `INDEPENDENT` of them would.
        let rows = residuals.len() as f64;
        for ((start, value), prior) in parameters.iter().zip(p).zip(PRIORS) {
            let weight = libm::sqrt((rows / INDEPENDENT).max(1.0)) * ROW_ERROR / prior;
            residuals.push(libm::log(value / start.start) * weight);
        }
        residuals
    });
    let mut roofline = build(&found.iter().map(|f| f.value).collect::<Vec<_>>());
    roofline.device.fitted = true;
    let list: Vec<(String, f64, f64)> = times
        .iter()
        .flat_map(|t| {
            let size = t.query.seq_len as f64 * f64::from(t.query.micro_batch);
            errors(&roofline, t).into_iter().map(move |e| (t.name.clone(), size, e))
        })
        .collect();
    roofline.device.spread = spread(list.iter().map(|e| e.2));
    LayerFit { roofline, parameters: found, residuals: summarise(&list) }
}

/// Log of predicted over measured, forward and backward.
pub fn errors(model: &dyn DeviceModel, time: &LayerTime) -> [f64; 2] {
    let e = model.layer(&time.query);
    [
        libm::log(e.forward.seconds(time.sync_s) / time.forward_s),
        libm::log(e.backward.seconds(time.sync_s) / time.backward_s),
    ]
}
