//! Plans at random, for the planners that walk among them: each pool of alike devices forms pipelines of its own, or all
//! devices in order form alike ones; TP, depth, micro-batch and borders are free.

use super::{PipelineOf, StageOf, View, allocate, even, plan_of, staged};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sim_models::plan::Plan;

/// A number below `n` (at least 1).
pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

/// A fraction in [0, 1).
pub(crate) fn fraction(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / 4_294_967_296.0
}

/// The stream of a planner: its number keeps two planners apart.
pub(crate) fn stream(seed: u64, planner: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(planner);
    rng
}

/// What makes a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Genome {
    micro_batch: u32,
    /// Whether all devices form alike pipelines; the first of `parts` then counts for all.
    joined: bool,
    /// TP and depth of each pool; none: it stays out.
    parts: Vec<Option<(u32, usize)>>,
    /// Moves of the borders from an even cut.
    moves: Vec<i32>,
}

impl Genome {
    pub(crate) fn random(view: &View<'_>, rng: &mut ChaCha8Rng) -> Option<Genome> {
        let sizes = view.micro_batches();
        let micro_batch = *sizes.get(below(rng, sizes.len().max(1)))?;
        let joined = view.pools.len() == 1 || below(rng, 2) == 0;
        let parts = (0..view.pools.len()).map(|p| part(view, p, joined, rng)).collect();
        let moves = vec![0; view.scenario.search.max_stages as usize];
        Some(Genome { micro_batch, joined, parts, moves })
    }

    /// One thing changed.
    pub(crate) fn changed(&self, view: &View<'_>, rng: &mut ChaCha8Rng) -> Genome {
        let mut next = self.clone();
        match below(rng, 5) {
            0 => {
                let sizes = view.micro_batches();
                next.micro_batch = sizes[below(rng, sizes.len())];
            }
            1 => next.joined = view.pools.len() == 1 || !self.joined,
            2 | 3 => {
                let p = below(rng, view.pools.len());
                next.parts[p] = part(view, p, self.joined, rng);
            }
            _ => {
                let at = below(rng, next.moves.len());
                next.moves[at] = (next.moves[at] + if below(rng, 2) == 0 { 1 } else { -1 }).clamp(-4, 4);
            }
        }
        next
    }

    fn cuts(&self, view: &View<'_>, stages: usize) -> Option<Vec<usize>> {
        let mut cuts = view.block_cuts(stages)?;
        for s in 1..stages {
            let moved = cuts[s].saturating_add_signed(self.moves[s - 1] as isize);
            cuts[s] = moved.clamp(cuts[s - 1] + 1, (cuts[s + 1] - 1).max(cuts[s - 1] + 1));
        }
        cuts.windows(2).all(|c| c[0] < c[1]).then_some(cuts)
    }

    /// The plan, where it makes one.
    pub(crate) fn plan(&self, view: &View<'_>) -> Option<Plan> {
        if self.joined {
            let (tp, stages) = self.parts.iter().flatten().next().copied()?;
            let dp = view.devices().len() as u32 / (tp * stages as u32);
            return staged(view, self.micro_batch, &vec![tp; stages], dp, &self.cuts(view, stages)?);
        }
        // (pool, tp, stages, cuts, pipelines, time of one micro-batch)
        let mut teams = Vec::new();
        for (p, part) in self.parts.iter().enumerate() {
            let Some((tp, stages)) = *part else { continue };
            let pipelines = view.pools[p].devices.len() as u32 / (tp * stages as u32);
            let cuts = self.cuts(view, stages)?;
            let column = view.column(p, self.micro_batch, tp)?;
            let pace = cuts.windows(2).map(|c| column.pass_s(c[0], c[1])).fold(0.0, f64::max);
            if pipelines > 0 {
                teams.push((p, tp, cuts, pipelines, pace));
            }
        }
        let total = view.micro_batch_count(self.micro_batch);
        let speed: f64 = teams.iter().map(|t| f64::from(t.3) / t.4).sum();
        let mut given: Vec<u32> =
            teams.iter().map(|t| (f64::from(total) * f64::from(t.3) / t.4 / speed) as u32).collect();
        let rest = total.checked_sub(given.iter().sum())?;
        *given.first_mut()? += rest;
        let needs: Vec<(usize, u32)> = teams
            .iter()
            .flat_map(|(p, tp, cuts, pipelines, _)| {
                std::iter::repeat_n((*p, *tp), (cuts.len() - 1) * *pipelines as usize)
            })
            .collect();
        let mut devices = allocate(view, &needs)?.into_iter();
        let mut list = Vec::new();
        for ((_, _, cuts, pipelines, _), given) in teams.iter().zip(given) {
            let stages: Vec<Vec<Vec<_>>> =
                (1..cuts.len()).map(|_| devices.by_ref().take(*pipelines as usize).collect()).collect();
            for (r, micro_batches) in even(given, *pipelines).enumerate() {
                let stage =
                    |s: usize| StageOf { layers: (cuts[s], cuts[s + 1]), devices: stages[s][r].clone() };
                list.push(PipelineOf { micro_batches, stages: (0..cuts.len() - 1).map(stage).collect() });
            }
        }
        (!list.is_empty()).then(|| plan_of(view.scenario, self.micro_batch, &list))
    }
}

fn part(view: &View<'_>, pool: usize, joined: bool, rng: &mut ChaCha8Rng) -> Option<(u32, usize)> {
    let tps = if joined { view.common_tps() } else { view.tps(pool) };
    let tp = *tps.get(below(rng, tps.len().max(1)))?;
    let devices = if joined { view.devices().len() } else { view.pools[pool].devices.len() };
    let deepest = (devices / tp as usize).min(view.scenario.search.max_stages as usize).min(view.layers - 2);
    // Shallow ones as often as deep ones.
    (deepest > 0).then(|| (tp, 1 + below(rng, deepest)))
}
