//! AMP's estimate of a plan (arXiv 2210.07297, section 4, and `pipe_cost` and `dp_cost` of github.com/MccRee177/AMP):
//!
//! ```text
//! (micro-batches - 1) x slowest stage + all stages + one activation a boundary + longest gradient all-reduce
//! ```
//!
//! On mixed GPUs every layer takes the mean over the devices, wherever it runs. A stage's all-reduce goes at the rate of the
//! ring's closing hop, from its last replica to its first.

/// The estimate, s: `layers` is forward and backward of one micro-batch by layer, `sends[s]` the activation from stage `s` to
/// the next, `syncs` the all-reduce of each stage.
pub fn estimate_s(layers: &[f64], cuts: &[usize], sends: &[f64], syncs: &[f64], micro_batches: u32) -> f64 {
    let stages: Vec<f64> = cuts.windows(2).map(|c| layers[c[0]..c[1]].iter().sum()).collect();
    let slowest = stages.iter().copied().fold(0.0, f64::max);
    let sync = syncs.iter().copied().fold(0.0, f64::max);
    (f64::from(micro_batches) - 1.0) * slowest + stages.iter().sum::<f64>() + sends.iter().sum::<f64>() + sync
}

/// Cuts into `stages` whose slowest is fastest; of those, stages are filled from the front. What AMP's dynamic program finds
/// where all boundaries carry the same activation. `None` with more stages than layers.
pub fn best_cuts(layers: &[f64], stages: usize) -> Option<Vec<usize>> {
    if stages == 0 || stages > layers.len() {
        return None;
    }
    let mut sums = vec![0.0];
    for layer in layers {
        sums.push(sums[sums.len() - 1] + layer);
    }
    // [s][l]: the least slowest of `s` stages over the first `l` layers, and where the last of them begins.
    let mut best = vec![vec![(f64::INFINITY, 0); sums.len()]; stages + 1];
    best[0][0] = (0.0, 0);
    for s in 1..=stages {
        for end in s..sums.len() {
            for first in s - 1..end {
                let slowest = best[s - 1][first].0.max(sums[end] - sums[first]);
                if slowest < best[s][end].0 {
                    best[s][end] = (slowest, first);
                }
            }
        }
    }
    let mut cuts = vec![layers.len()];
    for s in (1..=stages).rev() {
        cuts.push(best[s][cuts[cuts.len() - 1]].1);
    }
    cuts.reverse();
    Some(cuts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_balance_the_slowest_stage() {
        for (layers, stages, slowest) in [
            (&[1.0, 1.0, 1.0, 1.0][..], 2, 2.0),
            (&[5.0, 1.0, 1.0, 1.0], 2, 5.0),
            (&[1.0, 2.0, 3.0, 4.0], 3, 4.0),
        ] {
            let cuts = best_cuts(layers, stages).unwrap();
            let most = cuts.windows(2).map(|c| layers[c[0]..c[1]].iter().sum::<f64>()).fold(0.0, f64::max);
            assert_eq!((cuts.len(), most), (stages + 1, slowest));
        }
        assert_eq!(best_cuts(&[1.0], 2), None);
    }
}
