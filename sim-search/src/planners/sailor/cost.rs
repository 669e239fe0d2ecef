//! Sailor's two estimates of a plan, from what each stage costs.
//!
//! Its planner's (`planner_utils.cpp` at cf2c8e3cc53c, MIT) puts the stages together from the last to the first:
//!
//! ```text
//! (micro-batches - 1) x longest of (stage + its transfers) + all stages + 2 x all transfers + longest all-reduce
//! ```
//!
//! and counts the optimizer step only where there is one stage. A stage runs at its slowest replica; every pipeline has
//! ceil(batch / (pipelines x micro-batch)) micro-batches; a transfer takes the same time down and up; layer times hold the
//! tensor parallelism.

/// Buckets in which gradients are reduced, bytes.
pub const BUCKET_BYTES: f64 = 500e6;

/// What a stage costs, s.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageTerms {
    /// Forward and backward of one micro-batch on its slowest replica.
    pub step_s: f64,
    /// Optimizer step: its layers times the longest step of any layer.
    pub update_s: f64,
    /// All-reduce of its gradients.
    pub sync_s: f64,
    /// Activation of one micro-batch to the next stage, over the slowest pair; 0 for the last.
    pub send_s: f64,
}

/// The planner's estimate, s. `stages` is not empty.
pub fn estimate_s(stages: &[StageTerms], micro_batches: u32) -> f64 {
    let n = f64::from(micro_batches);
    let Some((last, before)) = stages.split_last() else { return 0.0 };
    if before.is_empty() {
        return n * last.step_s + last.sync_s + last.update_s;
    }
    let (mut straggler, mut first, mut steps, mut sync) =
        (last.step_s, last.step_s, last.step_s, last.sync_s);
    let mut transfers = 0.0;
    for stage in before.iter().rev() {
        straggler = straggler.max(stage.step_s + stage.send_s).max(first + stage.send_s);
        first = stage.step_s + stage.send_s;
        transfers += 2.0 * stage.send_s;
        steps += stage.step_s;
        sync = sync.max(stage.sync_s);
    }
    (n - 1.0) * straggler + transfers + steps + sync
}

/// The all-reduce of `bytes` over `pipelines`, s: bucket by bucket, 2 (n - 1) steps each, of which `step_s` tells the time
/// by the bytes it moves.
pub fn sync_s(bytes: f64, pipelines: u32, step_s: &dyn Fn(f64) -> f64) -> f64 {
    if pipelines < 2 {
        return 0.0;
    }
    let n = f64::from(pipelines);
    let (mut left, mut time) = (bytes, 0.0);
    while left > 0.0 {
        let bucket = left.min(BUCKET_BYTES);
        time += 2.0 * (n - 1.0) * step_s(bucket / n);
        left -= bucket;
    }
    time
}

/// Layers of each of `stages` stages: as even as can be, the longer ones last, "to alleviate memory pressure".
pub fn even_cuts(layers: usize, stages: usize) -> Vec<usize> {
    let (short, longer) = (layers / stages, layers % stages);
    let mut cuts = vec![0];
    for s in 0..stages {
        cuts.push(cuts[s] + short + usize::from(s >= stages - longer));
    }
    cuts
}
