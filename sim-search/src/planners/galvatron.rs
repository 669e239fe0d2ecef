//! Galvatron (arXiv 2211.13878): for each depth, devices of a stage form a decision tree of (TP, data parallelism, sharded data
//! parallelism), and a dynamic program over layers and memory picks one for each layer.
//!
//! A plan here has one TP and data parallelism, so what layers picked is projected: the strategy that most layers of the first
//! stage have, which has most to keep, is taken for all, sharded data parallelism as ZeRO 3, and the estimate is made again.

use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View, ranked, uniform};
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;

/// See the head of this file.
pub struct Galvatron;

/// Steps into which memory is cut.
const STEPS: usize = 512;

/// A strategy of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Strategy {
    tp: u32,
    dp: u32,
    /// Whether states are sharded over the data-parallel ranks.
    sharded: bool,
}

impl Planner for Galvatron {
    fn about(&self) -> About {
        About {
            name: "galvatron",
            about: "for each depth, a dynamic program over layers and memory picks (tp, dp, sharding) of each layer",
            source: "Miao et al., VLDB'23, arXiv 2211.13878",
            leaves_out: "layers that differ are projected on the strategy that most have; that GPUs differ",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let devices = view.devices().len() as u32;
        let (mut found, mut candidates) = (Vec::new(), 0);
        let depths = (0..).map(|i| 1u32 << i).take_while(|p| *p <= scenario.search.max_stages);
        for stages in depths.filter(|p| devices.is_multiple_of(*p)) {
            let Some(cuts) = view.block_cuts(stages as usize) else { continue };
            for micro_batch in view.micro_batches() {
                if !go_on() {
                    return ranked(found, candidates, "out of time");
                }
                let strategies = strategies(&view, devices / stages, micro_batch);
                candidates += strategies.len() as u64 * view.layers as u64;
                let picks: Vec<Option<Strategy>> = (0..stages as usize)
                    .map(|s| of_stage(&view, &strategies, micro_batch, &cuts, s))
                    .collect();
                let Some(picks) = picks.into_iter().collect::<Option<Vec<_>>>() else { continue };
                // Every stage has as many devices; the fullest, the first, decides for all.
                let strategy = picks[0];
                let plan = uniform(&view, micro_batch, strategy.tp, strategy.dp, &cuts);
                let plan = plan.map(|plan| Plan { zero: if strategy.sharded { 3 } else { 0 }, ..plan });
                let time = whole(&view, micro_batch, strategy, &cuts);
                found.extend(plan.zip(time).map(|(plan, time)| Entrant { plan, own_estimate_s: Some(time) }));
            }
        }
        ranked(found, candidates, "no depth that is a power of two fits at any strategy")
    }
}

/// Strategies of a stage's devices.
fn strategies(view: &View<'_>, devices: u32, micro_batch: u32) -> Vec<Strategy> {
    let total = view.micro_batch_count(micro_batch);
    let known = |tp: &u32| view.slowest_column(micro_batch, *tp).is_some() && devices.is_multiple_of(*tp);
    let tps = view.common_tps().into_iter().filter(known);
    let of = |tp: u32| [false, true].map(|sharded| Strategy { tp, dp: devices / tp, sharded });
    tps.flat_map(of).filter(|s| s.dp <= total && (s.dp > 1 || !s.sharded)).collect()
}

/// A layer's time in an iteration under a strategy, s, and its memory, bytes.
fn layer(view: &View<'_>, micro_batch: u32, l: usize, in_flight: f64, s: Strategy) -> Option<(f64, f64)> {
    let column = view.slowest_column(micro_batch, s.tp)?;
    let n = f64::from(s.dp);
    let micro_batches = f64::from(view.micro_batch_count(micro_batch).div_ceil(s.dp));
    let devices = view.devices();
    let ring: Vec<_> = devices.iter().step_by(s.tp as usize).take(s.dp as usize).copied().collect();
    let gradients = view.gradient_bytes(l, l + 1, s.tp);
    // Sharded, parameters are gathered twice a micro-batch beside the scattered gradients.
    let rounds = if s.sharded { 0.5 + micro_batches } else { 1.0 };
    let time = column.pass_s(l, l + 1) * micro_batches + rounds * view.ring_s(&ring, gradients);
    let (states, activations) = view.layer_parts(micro_batch, s.tp, l);
    let activations = activations * in_flight;
    Some((time, activations + if s.sharded { states / n } else { states }))
}

/// What most layers of a stage pick, by the dynamic program over its layers and memory.
fn of_stage(
    view: &View<'_>,
    strategies: &[Strategy],
    micro_batch: u32,
    cuts: &[usize],
    stage: usize,
) -> Option<Strategy> {
    let memory =
        view.pools.iter().map(|p| p.memory.0).min()? as f64 - view.scenario.training.memory_reserve.0 as f64;
    let in_flight = (cuts.len() - 1 - stage) as f64;
    let step = memory / STEPS as f64;
    let infinite = (f64::INFINITY, 0usize, 0usize);
    // [layer][memory][strategy]
    let count = strategies.len();
    let mut best = vec![vec![(0.0, 0, 0); count]; STEPS + 1];
    let mut back = Vec::new();
    // Blocks are alike: each kind of layer is priced once.
    let mut priced: Vec<Vec<Option<(f64, f64)>>> = Vec::new();
    for l in [0, 1, view.layers - 1] {
        priced.push(strategies.iter().map(|s| layer(view, micro_batch, l, in_flight, *s)).collect());
    }
    for l in cuts[stage]..cuts[stage + 1] {
        let kind = if l == 0 {
            0
        } else if l + 1 == view.layers {
            2
        } else {
            1
        };
        let mut next = vec![vec![infinite; count]; STEPS + 1];
        for (i, price) in priced[kind].iter().enumerate() {
            let Some((time, bytes)) = price else { continue };
            let needs = libm::ceil(bytes / step) as usize;
            for used in needs..=STEPS {
                for (j, before) in best[used - needs].iter().enumerate() {
                    // Activations change hands where neighbours differ.
                    let change = if i == j || l == cuts[stage] { 0.0 } else { 0.05 * time };
                    let sum = before.0 + time + change;
                    if sum < next[used][i].0 {
                        next[used][i] = (sum, used - needs, j);
                    }
                }
            }
        }
        best = next.clone();
        back.push(next);
    }
    let (mut used, mut i, least) = (0..=STEPS)
        .flat_map(|m| (0..count).map(move |i| (m, i)))
        .map(|(m, i)| (m, i, best[m][i].0))
        .min_by(|a, b| a.2.total_cmp(&b.2))?;
    if !least.is_finite() {
        return None;
    }
    let mut votes = vec![0; count];
    for row in back.iter().rev() {
        votes[i] += 1;
        let (_, before, j) = row[used][i];
        (used, i) = (before, j);
    }
    let most = (0..count).rev().max_by_key(|i| votes[*i])?;
    Some(strategies[most])
}

/// The estimate of the projected plan: every stage at that strategy.
fn whole(view: &View<'_>, micro_batch: u32, strategy: Strategy, cuts: &[usize]) -> Option<f64> {
    let Strategy { tp, dp, sharded } = strategy;
    let column = view.slowest_column(micro_batch, tp)?;
    let m = f64::from(view.micro_batch_count(micro_batch).div_ceil(dp));
    let devices = view.devices();
    let ring: Vec<_> = devices.iter().step_by(tp as usize).take(dp as usize).copied().collect();
    let steps: Vec<f64> = cuts.windows(2).map(|c| column.pass_s(c[0], c[1])).collect();
    let slowest = steps.iter().copied().fold(0.0, f64::max);
    let sync =
        cuts.windows(2).map(|c| view.ring_s(&ring, view.gradient_bytes(c[0], c[1], tp))).fold(0.0, f64::max);
    let rounds = if sharded { 0.5 + m } else { 1.0 };
    Some((m - 1.0) * slowest + steps.iter().sum::<f64>() + rounds * sync)
}
