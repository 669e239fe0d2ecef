//! What a link between two devices is: a start latency, and a cap on the rate of *one transfer* that depends on its size.
//!
//! The cap is not the link's capacity: capacity is a resource that transfers share (a node's NIC, a link between zones)
//! and that a trace scales.

mod curve;

pub use curve::{FittedCurve, fitted, fitted_between_nodes, fitted_inside_node};

use crate::units::Bytes;
use serde::{Deserialize, Serialize};
use sim_core::SimDuration;

/// The rate of one transfer against its size, for a number of streams (GPUs of a node that send at once).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamRate {
    /// The same at every size: bytes/s of all streams together.
    Constant(f64),
    /// The same at every size: bytes/s of one stream, and the most of all together.
    Each {
        /// One stream.
        stream: f64,
        /// All of them.
        together: f64,
    },
    /// Measured, by number of streams; sorted by it, never empty.
    Fitted(Vec<(u32, FittedCurve)>),
}

/// A kind of link.
///
/// Laws: `transfer_s` is finite and positive for every size above 0 and at least `bytes / best_rate + latency`;
/// `best_rate` bounds every `transfer_rate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkModel {
    /// Before the first byte, seconds. 0 where a fitted curve contains it.
    pub latency_s: f64,
    /// Rate of one transfer.
    pub rate: StreamRate,
}

impl LinkModel {
    /// A link with a fixed rate in bytes/s.
    pub fn constant(bytes_per_s: f64, latency_s: f64) -> LinkModel {
        LinkModel { latency_s, rate: StreamRate::Constant(bytes_per_s) }
    }

    /// The same link with every rate `factor` times as high; the latency stays.
    #[must_use]
    pub fn faster(&self, factor: f64) -> LinkModel {
        let rate = match &self.rate {
            StreamRate::Constant(rate) => StreamRate::Constant(rate * factor),
            StreamRate::Each { stream, together } => {
                StreamRate::Each { stream: stream * factor, together: together * factor }
            }
            StreamRate::Fitted(curves) => {
                StreamRate::Fitted(curves.iter().map(|(count, c)| (*count, c.faster(factor))).collect())
            }
        };
        LinkModel { latency_s: self.latency_s, rate }
    }

    /// Rate in bytes/s of a transfer of `bytes` in all, cut evenly over `streams` (at least 1) that go side by side.
    pub fn transfer_rate(&self, bytes: Bytes, streams: u32) -> f64 {
        match &self.rate {
            StreamRate::Constant(rate) => *rate,
            StreamRate::Each { stream, together } => (stream * f64::from(streams.max(1))).min(*together),
            StreamRate::Fitted(curves) => {
                let (count, curve) = of_streams(curves, streams);
                curve.rate(bytes.0 as f64 / f64::from(count))
            }
        }
    }

    /// The best rate in bytes/s of any transfer of at most `bytes` in all, cut over at most `streams` streams.
    pub fn rate_up_to(&self, bytes: Bytes, streams: u32) -> f64 {
        match &self.rate {
            StreamRate::Constant(rate) => *rate,
            StreamRate::Each { .. } => self.best_rate(streams),
            StreamRate::Fitted(curves) => {
                let least = curves.first().map_or(0, |(count, _)| *count);
                let usable = curves.iter().filter(|(count, _)| *count <= streams.max(least));
                usable
                    .map(|(count, curve)| curve.rate_up_to(bytes.0 as f64 / f64::from(*count)))
                    .fold(0.0, f64::max)
            }
        }
    }

    /// The best rate in bytes/s that `streams` streams together reach at any size.
    pub fn best_rate(&self, streams: u32) -> f64 {
        match &self.rate {
            StreamRate::Constant(rate) => *rate,
            StreamRate::Each { stream, together } => (stream * f64::from(streams.max(1))).min(*together),
            StreamRate::Fitted(curves) => of_streams(curves, streams).1.best_bytes_per_s,
        }
    }

    /// The best rate in bytes/s at any size and number of streams: what the wire behind the link can carry.
    pub fn wire_rate(&self) -> f64 {
        match &self.rate {
            StreamRate::Constant(rate) => *rate,
            StreamRate::Each { together, .. } => *together,
            StreamRate::Fitted(curves) => curves.iter().map(|(_, c)| c.best_bytes_per_s).fold(0.0, f64::max),
        }
    }

    /// Latency as a simulated duration.
    pub fn latency(&self) -> SimDuration {
        SimDuration::from_secs_f64(self.latency_s).unwrap_or(SimDuration::ZERO)
    }

    /// Seconds that a transfer takes with the link to itself.
    pub fn transfer_s(&self, bytes: Bytes, streams: u32) -> f64 {
        self.latency_s + bytes.0 as f64 / self.transfer_rate(bytes, streams)
    }
}

/// The curve of the largest measured count that is at most `streams` (the smallest, if none is).
fn of_streams(curves: &[(u32, FittedCurve)], streams: u32) -> (u32, &FittedCurve) {
    let at = curves.partition_point(|(count, _)| *count <= streams).saturating_sub(1);
    let (count, curve) = &curves[at];
    (*count, curve)
}
