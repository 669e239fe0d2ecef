//! Metis's estimate of a plan: the closed form of its published planner (github.com/SamsungLabs/Metis at 4b24046), term by
//! term, with what is odd in it kept, because that is what its ranking is made of:
//!
//! ```text
//! (batches - 1) x slowest stage + all stages + sync of the last stage x batches + largest optimizer step
//!   + largest gradient all-reduce + one transfer a boundary + batch generation x batches
//! ```
//!
//! The bandwidth between nodes is never used: the function that should return it returns the one inside a node. Transfers
//! count elements, not bytes, and each boundary once, not once a micro-batch. The optimizer step is doubled as it is read.

use super::tables::{Cluster, Profile, slices};

/// A plan as Metis writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct MetisPlan {
    /// Order of the kinds over the ranks, as indices into [`Cluster::kinds`].
    pub sequence: Vec<usize>,
    /// GPUs of each stage.
    pub groups: Vec<usize>,
    /// (data parallelism, TP) of each stage.
    pub strategies: Vec<(u32, u32)>,
    /// Micro-batches of an iteration.
    pub batches: u32,
    /// Layers `cuts[s] .. cuts[s + 1]` are in stage `s`.
    pub cuts: Vec<usize>,
}

impl MetisPlan {
    /// Whether every stage has layers and the last ends at the model's end. Metis also ranks plans for which that is not so.
    pub fn is_valid(&self, layers: usize) -> bool {
        self.cuts.len() == self.groups.len() + 1
            && self.cuts.first() == Some(&0)
            && self.cuts.last() == Some(&layers)
            && self.cuts.windows(2).all(|c| c[0] < c[1])
    }
}

/// Samples of each data-parallel replica of a stage: by the speed of its first GPU, rounded so that they add up to `batch`.
pub fn split_batch(profile: &Profile, kinds: &[usize], (dp, tp): (u32, u32), batch: u32) -> Option<Vec<u32>> {
    let group = kinds.len() / dp as usize;
    let mut speed = Vec::with_capacity(dp as usize);
    for replica in 0..dp as usize {
        speed.push(1.0 / profile.time_ms(*kinds.get(replica * group)?, tp, 1, 0, profile.layers())?);
    }
    let total: f64 = speed.iter().sum();
    let share: Vec<f64> = speed.iter().map(|s| f64::from(batch) * (s / total)).collect();
    let mut split: Vec<u32> = share.iter().map(|s| *s as u32).collect();
    let rest = batch.checked_sub(split.iter().sum())? as usize;
    let mut order: Vec<usize> = (0..split.len()).collect();
    // Stable, largest remainder first.
    order.sort_by(|a, b| (share[*b] - f64::from(split[*b])).total_cmp(&(share[*a] - f64::from(split[*a]))));
    for i in order.into_iter().take(rest) {
        split[i] += 1;
    }
    Some(split)
}

/// Time of layers `first .. end` on the ranks `kinds` of one stage, ms.
pub fn stage_ms(
    profile: &Profile,
    kinds: &[usize],
    (dp, tp): (u32, u32),
    batch: u32,
    first: usize,
    end: usize,
) -> Option<f64> {
    if kinds.iter().all(|k| *k == kinds[0]) {
        return profile.time_ms(kinds[0], tp, batch / dp, first, end);
    }
    let split = split_batch(profile, kinds, (dp, tp), batch)?;
    let group = kinds.len() / dp as usize;
    let mut slowest = None;
    for (replica, samples) in split.iter().enumerate() {
        let mut time = 0.0;
        for slice in slices(*samples) {
            time += profile.time_ms(kinds[replica * group], tp, slice, first, end)?;
        }
        if *samples > 0 && slowest.is_none_or(|s| time > s) {
            slowest = Some(time);
        }
    }
    slowest
}

/// The estimate of `plan` for `global_batch` samples, ms; `None` where the profile lacks a TP or micro-batch that it needs.
pub fn estimate_ms(profile: &Profile, cluster: &Cluster, plan: &MetisPlan, global_batch: u32) -> Option<f64> {
    estimate_first_ms(profile, cluster, plan, global_batch, plan.groups.len())
}

/// The estimate of the first `stages` stages of `plan`, as if the others were not there: see
/// [`super::space::Reach::as_published`].
pub fn estimate_first_ms(
    profile: &Profile,
    cluster: &Cluster,
    plan: &MetisPlan,
    global_batch: u32,
    stages: usize,
) -> Option<f64> {
    let nodes = cluster.nodes_in(&plan.sequence);
    let kind = |rank: usize| nodes.get(rank / cluster.per_node).copied();
    let groups = plan.groups.len();
    if plan.strategies.len() != groups || plan.cuts.len() != groups + 1 || plan.batches == 0 {
        return None;
    }
    if plan.cuts.windows(2).any(|c| c[0] > c[1]) || stages > groups {
        return None;
    }
    // Slowest bandwidth among ranks: inside their node, or, of several nodes, the least among their kinds.
    let bandwidth = |ranks: &mut dyn Iterator<Item = usize>| -> Option<f64> {
        let mut least = f64::INFINITY;
        for rank in ranks {
            least = least.min(cluster.kinds[kind(rank)?].inside);
        }
        Some(least * 1024.0 * 1024.0)
    };
    let (mut times, mut transfers, mut sync, mut gradients, mut optimizer) =
        (Vec::new(), 0.0, 0.0, 0.0f64, 0.0f64);
    let mut rank = 0;
    for s in 0..stages {
        let (size, (dp, tp)) = (plan.groups[s], plan.strategies[s]);
        let (first, end) = (plan.cuts[s], plan.cuts[s + 1]);
        if dp == 0 || tp == 0 || size != (dp * tp) as usize {
            return None;
        }
        let kinds: Vec<usize> = (rank..rank + size).map(kind).collect::<Option<_>>()?;
        times.push(stage_ms(profile, &kinds, (dp, tp), global_batch / plan.batches, first, end)?);
        let batch = global_batch / dp / plan.batches;
        if s + 1 == stages {
            let mut worst = f64::NEG_INFINITY;
            for k in &kinds {
                worst = worst.max(profile.entries.get(&(*k, tp, batch))?.sync_ms);
            }
            sync = worst * f64::from(plan.batches);
        } else {
            let both = rank..rank + size + plan.groups[s + 1];
            transfers += profile.boundary(end, batch, tp) / bandwidth(&mut both.into_iter())?;
        }
        // Each group of a replica's ranks by itself; with one figure a kind, all of them together.
        let rate = bandwidth(&mut (rank..rank + size))?;
        let share = 2.0 * (f64::from(dp) - 1.0) / (f64::from(dp) * rate);
        gradients = gradients.max(share * profile.stage_bytes(tp, first, end));
        let layers = end as f64 - first as f64;
        optimizer = optimizer.max(profile.optimizer_ms / f64::from(tp) * (layers / profile.layers() as f64));
        rank += size;
    }
    let slowest = times.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let run = (f64::from(plan.batches) - 1.0) * slowest + times.iter().sum::<f64>();
    let generate = profile.batch_generator_ms * f64::from(plan.batches);
    Some(run + sync + optimizer + gradients + transfers + generate)
}
