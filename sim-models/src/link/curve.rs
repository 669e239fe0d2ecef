//! Measured rate against size: Sailor's fitted quadratics (`curves.csv`, MIT, see NOTICE), made safe to use.
//!
//! GB/s = c2 l^2 + c1 l + c0 with l = log2(bytes / 10^6), fitted to sizes of 2^16 to 2^30 bytes a GPU. Outside that range
//! (and for some GPUs near its lower end) the quadratic goes negative, so: the size is clamped to the range measured, the
//! rate to the best rate measured, and below the size at which the fit's own *time* is least that least time is a start
//! latency that every smaller message pays too.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const LARGEST: f64 = 1_073_741_824.0;

/// One fitted curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FittedCurve {
    c2: f64,
    c1: f64,
    c0: f64,
    /// The best rate measured, bytes/s, all streams together.
    pub best_bytes_per_s: f64,
    /// Bytes a stream below which the time no longer falls.
    floor_bytes: f64,
}

impl FittedCurve {
    fn new(c2: f64, c1: f64, c0: f64, best_bytes_per_s: f64) -> FittedCurve {
        let mut curve = FittedCurve { c2, c1, c0, best_bytes_per_s, floor_bytes: LARGEST };
        // 16 sizes an octave, from the largest down, as long as a smaller message takes less time.
        let mut least = f64::INFINITY;
        for step in 0..=(14 * 16) {
            let bytes = LARGEST * libm::exp2(-f64::from(step) / 16.0);
            let rate = curve.raw(bytes);
            if rate <= 0.0 || bytes / rate >= least {
                break;
            }
            least = bytes / rate;
            curve.floor_bytes = bytes;
        }
        curve
    }

    /// The same curve with every rate `factor` times as high.
    pub(super) fn faster(&self, factor: f64) -> FittedCurve {
        FittedCurve {
            c2: self.c2 * factor,
            c1: self.c1 * factor,
            c0: self.c0 * factor,
            best_bytes_per_s: self.best_bytes_per_s * factor,
            floor_bytes: self.floor_bytes,
        }
    }

    fn raw(&self, bytes: f64) -> f64 {
        let l = libm::log2(bytes / 1e6);
        let rate = (self.c2 * l * l + self.c1 * l + self.c0) * 1e9;
        if rate < self.best_bytes_per_s { rate } else { self.best_bytes_per_s }
    }

    /// The best rate that any transfer of at most `bytes` a stream has. Never below [`FittedCurve::rate`] of such a size.
    pub fn rate_up_to(&self, bytes: f64) -> f64 {
        let high = if bytes < LARGEST { bytes } else { LARGEST };
        if high <= self.floor_bytes {
            return self.rate(high);
        }
        // Concave: best at the vertex, or at the end before it. Convex: best at one of the ends.
        let vertex = if self.c2 < 0.0 { 1e6 * libm::exp2(-self.c1 / (2.0 * self.c2)) } else { high };
        let inside = if vertex > self.floor_bytes && vertex < high { vertex } else { high };
        let (a, b) = (self.raw(inside), self.raw(self.floor_bytes));
        if a > b { a } else { b }
    }

    /// Bytes/s of all streams together, each moving `bytes`. Positive for every positive size.
    pub fn rate(&self, bytes: f64) -> f64 {
        if bytes < self.floor_bytes {
            // The time of the floor's size: the rate shrinks with the message.
            let share = if bytes < 1.0 { 1.0 / self.floor_bytes } else { bytes / self.floor_bytes };
            return self.raw(self.floor_bytes) * share;
        }
        self.raw(if bytes < LARGEST { bytes } else { LARGEST })
    }
}

type Key = (String, String, String, String);

/// (zone, GPU, zone, GPU) -> curves by number of streams.
static CURVES: LazyLock<BTreeMap<Key, Vec<(u32, FittedCurve)>>> = LazyLock::new(|| {
    let mut reader =
        csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(include_str!("curves.csv").as_bytes());
    let mut curves: BTreeMap<Key, Vec<(u32, FittedCurve)>> = BTreeMap::new();
    for row in reader.deserialize::<(String, String, String, String, u32, f64, f64, f64, f64)>() {
        let (za, ga, zb, gb, streams, c2, c1, c0, best) =
            row.expect("the shipped table is well formed: tested");
        curves.entry((za, ga, zb, gb)).or_default().push((streams, FittedCurve::new(c2, c1, c0, best)));
    }
    for list in curves.values_mut() {
        list.sort_by_key(|(streams, _)| *streams);
    }
    curves
});

/// The curves from `gpu_a` in `zone_a` to `gpu_b` in `zone_b`, both GPUs by catalogue name.
pub fn fitted(
    zone_a: &str,
    gpu_a: &str,
    zone_b: &str,
    gpu_b: &str,
) -> Option<&'static Vec<(u32, FittedCurve)>> {
    CURVES.get(&(zone_a.into(), gpu_a.into(), zone_b.into(), gpu_b.into()))
}

/// The curves between two nodes of one zone: those of that zone if it was measured, else of `us-central1-a`. A pair of
/// GPUs measured in one direction only is used for both.
pub fn fitted_between_nodes(
    zone: &str,
    gpu_a: &str,
    gpu_b: &str,
) -> Option<&'static Vec<(u32, FittedCurve)>> {
    const DEFAULT: &str = "us-central1-a";
    [zone, DEFAULT].iter().find_map(|z| fitted(z, gpu_a, z, gpu_b).or_else(|| fitted(z, gpu_b, z, gpu_a)))
}

/// The curves between GPUs of one node.
pub fn fitted_inside_node(gpu: &str) -> Option<&'static Vec<(u32, FittedCurve)>> {
    fitted("node", gpu, "node", gpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_positive_bounded_and_takes_longer_for_more() {
        assert!(CURVES.len() > 100);
        for (key, list) in CURVES.iter() {
            for (streams, curve) in list {
                let mut last = 0.0;
                for step in 0..400 {
                    let bytes = libm::exp2(f64::from(step) / 10.0);
                    let rate = curve.rate(bytes);
                    assert!(
                        rate > 0.0 && rate <= curve.best_bytes_per_s,
                        "{key:?} {streams} {bytes}: {rate}"
                    );
                    let most = curve.rate_up_to(bytes * 1.5);
                    assert!(rate <= most * (1.0 + 1e-12), "{key:?} {streams} {bytes}: {rate} above {most}");
                    let time = bytes / rate;
                    assert!(
                        time >= last * 0.999,
                        "{key:?} {streams}: {bytes} bytes take {time}, fewer {last}"
                    );
                    last = time;
                }
            }
        }
    }

    /// Hand-computed from the source's coefficients: A100-40 to A100-40, one stream, 2^20 x 8 bytes.
    #[test]
    fn a_curve_gives_the_fitted_rate() {
        let (_, curve) = fitted("us-central1-a", "A100-40", "us-central1-a", "A100-40").unwrap()[0];
        let l = libm::log2(8.388608);
        let want = (-0.002441 * l * l + 0.140863 * l + 1.116823) * 1e9;
        assert!((curve.rate(8_388_608.0) / want - 1.0).abs() < 1e-6);
    }
}
