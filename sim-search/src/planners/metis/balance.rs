//! How Metis cuts the layers: in sevenths, handed to the stages by their share of the compute, put together again, and
//! moved where the fullest stage has a neighbour to give to; up to three times, with less for stages that lack memory.

use super::cost::{MetisPlan, split_batch, stage_ms};
use super::tables::{Cluster, Profile, slices};

/// Parts that a layer is cut into.
const PARTS: usize = 7;
/// Memory needed over what the profile says.
const MEMORY_FACTOR: f64 = 5.0;
/// Times that the cut is repaired for memory.
const ATTEMPTS: u32 = 3;

/// What the balancer found.
pub struct Balanced {
    /// Cuts, as in [`super::cost::MetisPlan::cuts`].
    pub cuts: Vec<usize>,
    /// Attempts it took.
    pub attempts: u32,
    /// Memory to spare of each stage, MB.
    pub spare_mb: Vec<f64>,
}

/// Stages to be balanced: the kinds of their ranks, and their strategies.
pub struct Stages<'a> {
    /// Kind of each rank of the whole cluster, in its order.
    pub ranks: &'a [usize],
    /// GPUs of each stage.
    pub groups: &'a [usize],
    /// (data parallelism, TP) of each stage.
    pub strategies: &'a [(u32, u32)],
    /// Samples of one micro-batch over all replicas.
    pub batch: u32,
}

impl<'a> Stages<'a> {
    fn kinds(&self, stage: usize) -> &'a [usize] {
        let first: usize = self.groups[..stage].iter().sum();
        &self.ranks[first..first + self.groups[stage]]
    }
}

/// Cuts the layers; `Err(true)` where they fit no memory, `Err(false)` where the profile lacks what is asked.
pub fn balance(profile: &Profile, cluster: &Cluster, stages: &Stages<'_>) -> Result<Balanced, bool> {
    let count = stages.groups.len();
    let mut speeds = Vec::with_capacity(count);
    for s in 0..count {
        let time =
            stage_ms(profile, stages.kinds(s), stages.strategies[s], stages.batch, 0, profile.layers());
        speeds.push(1.0 / time.ok_or(false)?);
    }
    let total: f64 = speeds.iter().sum();
    let mut capacity: Vec<f64> = speeds.iter().map(|s| s / total).collect();
    let memory_of = |kind: &usize| cluster.kinds[*kind].memory_gb * 1024.0;
    let has: Vec<f64> = (0..count).map(|s| stages.kinds(s).iter().map(memory_of).sum()).collect();
    for attempt in 1..=ATTEMPTS {
        let cuts = Cutter::new(&capacity, &profile.normal).run();
        let needs = memory_mb(profile, stages, &cuts).ok_or(false)?;
        let spare_mb: Vec<f64> = has.iter().zip(&needs).map(|(h, n)| h - n).collect();
        if spare_mb.iter().all(|s| *s >= 0.0) {
            return Ok(Balanced { cuts, attempts: attempt, spare_mb });
        }
        capacity = repair(&capacity, &has, &needs).ok_or(true)?;
    }
    Err(true)
}

/// What every stage needs beside its layers, MB.
pub(super) const LEAST_MB: f64 = 0.001;

/// Memory that each layer needs on a stage of that strategy, MB, for micro-batches of `batch` samples over all replicas. The
/// published code looks all of it up for the kind of the first rank, and splits the batch of a mixed stage over the whole
/// cluster.
pub(super) fn parts_mb(
    profile: &Profile,
    ranks: &[usize],
    mixed: bool,
    (dp, tp): (u32, u32),
    batch: u32,
) -> Option<Vec<f64>> {
    let first_kind = *ranks.first()?;
    let samples: Vec<u32> = if mixed {
        split_batch(profile, ranks, (dp, tp), batch)?.into_iter().flat_map(slices).collect()
    } else {
        vec![batch / dp]
    };
    let mut needs = vec![0.0; profile.layers()];
    for samples in samples {
        let memory = &profile.entries.get(&(first_kind, tp, samples))?.memory_mb;
        needs.iter_mut().zip(memory).for_each(|(need, mb)| *need += mb * MEMORY_FACTOR);
    }
    Some(needs)
}

/// Memory that each stage needs, MB.
fn memory_mb(profile: &Profile, stages: &Stages<'_>, cuts: &[usize]) -> Option<Vec<f64>> {
    let need = |s: usize| {
        let kinds = stages.kinds(s);
        let mixed = kinds.iter().any(|k| *k != kinds[0]);
        let parts = parts_mb(profile, stages.ranks, mixed, stages.strategies[s], stages.batch)?;
        Some(LEAST_MB + parts.get(cuts[s]..cuts[s + 1])?.iter().sum::<f64>())
    };
    (0..stages.groups.len()).map(need).collect()
}

/// Whether a plan fits into memory as Metis counts it.
pub fn fits(profile: &Profile, cluster: &Cluster, plan: &MetisPlan, global_batch: u32) -> bool {
    let nodes = cluster.nodes_in(&plan.sequence);
    let ranks: Vec<usize> = nodes.iter().flat_map(|k| std::iter::repeat_n(*k, cluster.per_node)).collect();
    let (groups, strategies) = (&plan.groups[..], &plan.strategies[..]);
    let stages = Stages { ranks: &ranks, groups, strategies, batch: global_batch / plan.batches };
    let has = |s: usize| -> f64 {
        stages.kinds(s).iter().map(|k| cluster.kinds[*k].memory_gb * 1024.0).sum::<f64>()
    };
    // To a part in 10^9: sums in other orders.
    let within = |(s, needs): (usize, f64)| needs <= has(s) * (1.0 + 1e-9);
    memory_mb(profile, &stages, &plan.cuts).is_some_and(|needs| needs.into_iter().enumerate().all(within))
}

/// Compute shares with less for the stages that lack memory, and that given to those with some to spare.
fn repair(capacity: &[f64], has: &[f64], needs: &[f64]) -> Option<Vec<f64>> {
    let (mut next, mut room, mut lacking) = (Vec::new(), Vec::new(), 0.0);
    for ((c, h), n) in capacity.iter().zip(has).zip(needs) {
        if h > n {
            next.push(*c);
            room.push(c * h / n - c);
        } else {
            let less = c * (h / n) * 0.9;
            next.push(less);
            room.push(0.0);
            lacking += c - less;
        }
    }
    if room.iter().sum::<f64>() < lacking {
        return None;
    }
    let mut given = vec![0.0; capacity.len()];
    // Each turn gives at least one stage all it has room for, or ends.
    for _ in 0..10_000 {
        if lacking <= 0.01 {
            break;
        }
        let total: f64 = room.iter().zip(capacity).map(|(r, c)| if *r > 0.001 { *c } else { 0.0 }).sum();
        if total <= 0.0 {
            return None;
        }
        let ratios: Vec<f64> =
            room.iter().zip(capacity).map(|(r, c)| if *r > 0.001 { c / total } else { 0.0 }).collect();
        for s in 0..room.len() {
            let wanted = lacking * ratios[s];
            let gives = if wanted > room[s] { room[s] } else { wanted };
            given[s] += gives;
            room[s] -= gives;
            lacking -= gives;
        }
    }
    Some(given.iter().zip(next).map(|(g, n)| g + n).collect())
}

/// The cut by compute.
struct Cutter<'a> {
    whole: &'a [f64],
    left: Vec<f64>,
    layers: &'a [f64],
    parts: Vec<f64>,
    /// Parts of each stage, then its layers.
    held: Vec<Vec<usize>>,
}

impl<'a> Cutter<'a> {
    fn new(capacity: &'a [f64], layers: &'a [f64]) -> Self {
        let parts = layers.iter().flat_map(|l| std::iter::repeat_n(l / PARTS as f64, PARTS)).collect();
        Cutter {
            whole: capacity,
            left: capacity.to_vec(),
            layers,
            parts,
            held: vec![Vec::new(); capacity.len()],
        }
    }

    fn run(mut self) -> Vec<usize> {
        let loose = self.forward();
        let loose = self.backward(loose);
        self.place(&loose);
        self.whole_layers();
        self.smooth();
        let mut cuts = vec![0];
        for held in &self.held {
            cuts.push(cuts[cuts.len() - 1] + held.len());
        }
        cuts
    }

    fn take(&mut self, stage: usize, part: usize) {
        self.left[stage] -= self.parts[part];
        self.held[stage].push(part);
    }

    /// Fills all stages but the last in order; the part that does not fit into one belongs to none yet.
    fn forward(&mut self) -> Vec<usize> {
        let (mut next, mut loose) = (0, Vec::new());
        let end = self.parts.len().saturating_sub(1 + PARTS);
        for stage in 0..self.held.len() - 1 {
            while next < end {
                let part = next;
                next += 1;
                if self.left[stage] > self.parts[part] {
                    self.take(stage, part);
                } else {
                    loose.push(part);
                    break;
                }
            }
        }
        loose.extend(next..self.parts.len());
        loose.sort_unstable();
        loose.dedup();
        loose
    }

    /// The last stage takes a layer from the end, and then what fits and is next to what it has.
    fn backward(&mut self, loose: Vec<usize>) -> Vec<usize> {
        let last = self.held.len() - 1;
        let mut rest = Vec::new();
        for part in loose.into_iter().rev() {
            let next_to = self.held[last].iter().min() == Some(&(part + 1));
            let takes = self.held[last].len() < PARTS || (next_to && self.left[last] > self.parts[part]);
            if takes { self.take(last, part) } else { rest.push(part) }
        }
        rest.reverse();
        rest
    }

    /// Every other part goes to the stage with most capacity left among those between its neighbours.
    fn place(&mut self, loose: &[usize]) {
        for &part in loose {
            let (mut low, mut high) = (0, self.held.len() - 1);
            let (mut below, mut above) = (None, None);
            for (stage, held) in self.held.iter().enumerate() {
                let (Some(&least), Some(&most)) = (held.iter().min(), held.iter().max()) else { continue };
                if part > most && below.is_none_or(|b| most > b) {
                    (low, below) = (stage, Some(most));
                }
                if part < least && above.is_none_or(|a| least < a) {
                    (high, above) = (stage, Some(least));
                }
            }
            let mut best = None;
            for stage in low..=high {
                if best.is_none_or(|b: usize| self.left[stage] > self.left[b]) {
                    best = Some(stage);
                }
            }
            // Empty where stages stand out of order; the published code would stop there.
            self.take(best.unwrap_or(low), part);
        }
    }

    /// A layer belongs to the stage that holds more than half of its parts; one without such a stage is lost.
    fn whole_layers(&mut self) {
        for stage in 0..self.held.len() {
            let mut counts = vec![0; self.layers.len()];
            for part in &self.held[stage] {
                counts[part / PARTS] += 1;
            }
            self.held[stage] = (0..self.layers.len()).filter(|l| 2 * counts[*l] > PARTS).collect();
            let used: f64 = match (self.held[stage].first(), self.held[stage].last()) {
                (Some(first), Some(last)) => self.layers[*first..=*last].iter().sum(),
                _ => 0.0,
            };
            self.left[stage] = self.whole[stage] - used;
        }
    }

    /// The stage with most capacity left takes a layer from its fuller neighbour, as long as that lowers the most.
    fn smooth(&mut self) {
        let (mut left, mut held) = (self.left.clone(), self.held.clone());
        let most = |list: &[f64]| list.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for search in 1.. {
            let mut stage = 0;
            for s in 1..left.len() {
                if left[s] > left[stage] {
                    stage = s;
                }
            }
            let mut from = None;
            let mut least = f64::INFINITY;
            if stage > 0 && left[stage - 1] < least {
                (from, least) = (Some(stage - 1), left[stage - 1]);
            }
            if stage + 1 < left.len() && left[stage + 1] < least {
                from = Some(stage + 1);
            }
            // The published code looks at the accepted state here, not at the one being tried.
            let from = from.filter(|f| self.held[*f].len() != 1 && !held[*f].is_empty());
            if let Some(from) = from {
                let layer = if stage > from { held[from].pop() } else { Some(held[from].remove(0)) };
                if let Some(layer) = layer {
                    held[stage].push(layer);
                    held[stage].sort_unstable();
                    left[stage] -= self.layers[layer];
                    left[from] += self.layers[layer];
                }
            }
            if most(&left) > most(&self.left) || search > 3 {
                break;
            }
            self.held.clone_from(&held);
            self.left.clone_from(&left);
        }
    }
}
