//! Calibration from operator times: what a GPU reaches, and what a framework's memory-bound kernels do.

use super::fit::{Fitted, Parameter, fit};
use super::report::{Residual, summarise};
use crate::device::operator::Stream;
use crate::device::{Format, Operator, Roofline};
use crate::import::OperatorPoint;

/// Operators under this time, s, say more of the launch than of the GPU: they count a tenth.
const SHORT_S: f64 = 10e-6;

/// A calibrated roofline and how it was reached.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorFit {
    /// The roofline with the fitted constants.
    pub roofline: Roofline,
    /// The parameters.
    pub parameters: Vec<Fitted>,
    /// Errors by operator and size, after the fit.
    pub residuals: Vec<Residual>,
}

/// Where a parameter lives.
#[derive(Clone, Copy)]
enum Slot {
    Matmul,
    MatmulTf32,
    MatmulFp32,
    FlashForward,
    FlashBackward,
    Kernel(Stream),
}

impl Slot {
    fn of(point: &OperatorPoint, roofline: &Roofline) -> Slot {
        match point.op {
            Operator::Memory { kind, .. } => Slot::Kernel(kind),
            Operator::Attention { backward: false, .. } => Slot::FlashForward,
            Operator::Attention { backward: true, .. } => Slot::FlashBackward,
            Operator::Gemm { .. } => match point.format {
                Format::Tf32 if roofline.gpu.peaks.tf32.is_some() => Slot::MatmulTf32,
                Format::Fp32 | Format::Tf32 => Slot::MatmulFp32,
                _ => Slot::Matmul,
            },
        }
    }

    fn name(self) -> String {
        match self {
            Slot::Matmul => "device.matmul".into(),
            Slot::MatmulTf32 => "device.matmul_tf32".into(),
            Slot::MatmulFp32 => "device.matmul_fp32".into(),
            Slot::FlashForward => "device.flash_forward".into(),
            Slot::FlashBackward => "device.flash_backward".into(),
            Slot::Kernel(kind) => format!("framework.kernels.{}", kind.name()),
        }
    }

    fn value(self, r: &mut Roofline) -> &mut f64 {
        let kernels = &mut r.framework.kernels;
        match self {
            Slot::Matmul => &mut r.device.matmul,
            Slot::MatmulTf32 => &mut r.device.matmul_tf32,
            Slot::MatmulFp32 => &mut r.device.matmul_fp32,
            Slot::FlashForward => &mut r.device.flash_forward,
            Slot::FlashBackward => &mut r.device.flash_backward,
            Slot::Kernel(kind) => kernels.get_mut(kind),
        }
    }
}

/// Fits one parameter for each kind of operator that the points hold, from `start`. `stream` stays: only its products
/// with the kernels' shares can be seen in such data.
pub fn operators(start: &Roofline, points: &[OperatorPoint]) -> OperatorFit {
    let mut slots: Vec<Slot> = Vec::new();
    for point in points {
        let slot = Slot::of(point, start);
        if slots.iter().all(|s| s.name() != slot.name()) {
            slots.push(slot);
        }
    }
    slots.sort_by_key(|s| s.name());
    let mut roofline = start.clone();
    // The kinds touch different operators, so each is fitted alone: faster, and no order to choose.
    let mut parameters = Vec::new();
    for slot in slots {
        let of_slot: Vec<&OperatorPoint> =
            points.iter().filter(|p| Slot::of(p, start).name() == slot.name()).collect();
        let parameter = Parameter::new(slot.name(), *slot.value(&mut roofline), 0.02, 2.0);
        let found = fit(std::slice::from_ref(&parameter), |values| {
            let mut trial = roofline.clone();
            *slot.value(&mut trial) = values[0];
            of_slot
                .iter()
                .map(|p| {
                    let r = libm::log(trial.operator_s(&p.op, p.format) / p.seconds);
                    if p.seconds < SHORT_S { r * 0.1 } else { r }
                })
                .collect()
        });
        for f in found {
            *slot.value(&mut roofline) = f.value;
            parameters.push(f);
        }
    }
    roofline.device.fitted = true;
    let errors: Vec<(String, f64, f64)> = points
        .iter()
        .map(|p| (p.name.clone(), p.op.flop().max(p.op.bytes(p.format.bytes())), error(&roofline, p)))
        .collect();
    roofline.device.spread = super::report::spread(errors.iter().map(|e| e.2));
    OperatorFit { roofline, parameters, residuals: summarise(&errors) }
}

/// Log of predicted over measured.
pub fn error(roofline: &Roofline, point: &OperatorPoint) -> f64 {
    libm::log(roofline.operator_s(&point.op, point.format) / point.seconds)
}
