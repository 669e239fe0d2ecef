//! Sailor (SOSP'25): layers cut evenly, TP of each kind and stage by memory and scaling, and a dynamic program that hands
//! each stage its replicas of each kind of GPU, zones of a region filled in order, pipelines going on to the next region when
//! one is used up.
//!
//! [`cost`] is held to the published planner's answers by a test. The heuristics are those of its `planner.cpp` at
//! cf2c8e3cc53c (MIT): the first kind (by name) takes the least TP that fits, the others at least the TP up to which each
//! doubling is 1.5 times as fast; data parallelism is tried from the most down and stops at the first that is no faster.

pub mod cost;

use super::{
    About, Entrant, GoOn, Limits, NoProposal, PipelineOf, Planner, Proposal, StageOf, View, allocate, even,
    plan_of, ranked,
};
use cost::StageTerms;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use std::collections::BTreeMap;

/// See the head of this file.
pub struct Sailor;

/// A doubling of TP is worth it that is so much faster.
const SPEEDUP: f64 = 1.5;

impl Planner for Sailor {
    fn about(&self) -> About {
        About {
            name: "sailor",
            about: "even layers, TP by memory and scaling, a dynamic program over replicas of each kind in each stage",
            source: "Strati et al., SOSP'25; github.com/eth-easl/sailor at cf2c8e3cc53c",
            leaves_out: "its cost objective; of the orders of regions, it tries each alone and all by size",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let kinds = Kinds::of(&view);
        let (mut found, mut candidates) = (Vec::new(), 0);
        let most_stages = (scenario.search.max_stages as usize).min(view.layers);
        for stages in 1..=most_stages {
            let cuts = cost::even_cuts(view.layers, stages);
            for micro_batch in view.micro_batches() {
                let tps = kinds.tps(&view, &cuts, micro_batch);
                for regions in kinds.region_lists(&view) {
                    let mut least = f64::INFINITY;
                    for dp in degrees(view.micro_batch_count(micro_batch), view.devices().len() as u32) {
                        if !go_on() {
                            return ranked(found, candidates, "out of time");
                        }
                        let mut solver = Solver {
                            view: &view,
                            kinds: &kinds,
                            cuts: &cuts,
                            tps: &tps,
                            regions: &regions,
                            micro_batch,
                            dp,
                            micro_batches: view.micro_batch_count(micro_batch).div_ceil(dp),
                            known: BTreeMap::new(),
                            tried: 0,
                        };
                        let best = solver.solve(0, 0, kinds.available(&view, &regions[0]));
                        candidates += solver.tried;
                        let Some(best) = best else { continue };
                        let time = cost::estimate_s(&best.terms, solver.micro_batches);
                        if time >= least {
                            break;
                        }
                        least = time;
                        let plan = solver.plan(&best);
                        found.extend(plan.map(|plan| Entrant { plan, own_estimate_s: Some(time) }));
                    }
                }
            }
        }
        ranked(found, candidates, "no even cut fits the GPUs' memory at any TP")
    }
}

/// Data parallelism worth trying: for each number of micro-batches a pipeline, the least, most first.
fn degrees(total: u32, devices: u32) -> Vec<u32> {
    let mut list: Vec<u32> = Vec::new();
    let mut last = 0;
    for dp in 1..=devices.min(total) {
        let each = total.div_ceil(dp);
        if each != last {
            list.push(dp);
            last = each;
        }
    }
    list.reverse();
    list
}

/// Kinds of GPU, by name, and the pools they are in.
struct Kinds {
    /// Pools of each kind.
    pools: Vec<Vec<usize>>,
    /// Pools of each region.
    regions: BTreeMap<String, Vec<usize>>,
}

/// The region of a zone called `<continent>-<region>-<zone>`; other zones are their own.
fn region_of(zone: &str) -> &str {
    let mut dashes = zone.match_indices('-');
    match (dashes.next(), dashes.next()) {
        (Some(_), Some((at, _))) => &zone[..at],
        _ => zone,
    }
}

impl Kinds {
    fn of(view: &View<'_>) -> Kinds {
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut regions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (p, pool) in view.pools.iter().enumerate() {
            by_name.entry(&pool.gpu).or_default().push(p);
            regions.entry(region_of(&pool.zone).into()).or_default().push(p);
        }
        Kinds { pools: by_name.into_values().collect(), regions }
    }

    /// Regions in the order in which stages go through them: each alone, and all, the largest first.
    fn region_lists(&self, view: &View<'_>) -> Vec<Vec<String>> {
        let size = |r: &String| self.regions[r].iter().map(|p| view.pools[*p].devices.len()).sum::<usize>();
        let mut all: Vec<String> = self.regions.keys().cloned().collect();
        let mut lists: Vec<Vec<String>> = all.iter().map(|r| vec![r.clone()]).collect();
        all.sort_by_key(|r| std::cmp::Reverse(size(r)));
        if all.len() > 1 {
            lists.push(all);
        }
        lists
    }

    /// Devices left in each pool of a region; none in the others.
    fn available(&self, view: &View<'_>, region: &str) -> Vec<u32> {
        let mut left = vec![0; view.pools.len()];
        for p in &self.regions[region] {
            left[*p] = view.pools[*p].devices.len() as u32;
        }
        left
    }

    /// `[kind][stage]`: TP, where the kind can hold every stage.
    fn tps(&self, view: &View<'_>, cuts: &[usize], micro_batch: u32) -> Vec<Option<Vec<u32>>> {
        let stages = cuts.len() - 1;
        let of_kind = |k: usize, pools: &Vec<usize>| {
            let pool = pools[0];
            let tps = view.tps(pool);
            let stage = |s: usize| {
                let layers = (cuts[s], cuts[s + 1]);
                let fits = |tp: &&u32| {
                    view.column(pool, micro_batch, **tp).is_some()
                        && view.fits(pool, micro_batch, **tp, layers, s, stages, u32::MAX)
                };
                let least = *tps.iter().find(fits)?;
                // The first kind does not scale out unless it is the only one.
                if k == 0 && self.pools.len() > 1 {
                    return Some(least);
                }
                let (mut scaled, mut before) = (1, f64::INFINITY);
                for tp in &tps {
                    let Some(column) = view.column(pool, micro_batch, *tp) else { break };
                    let time = column.pass_s(layers.0, layers.1);
                    if before / time < SPEEDUP {
                        break;
                    }
                    (scaled, before) = (*tp, time);
                }
                Some(least.max(scaled))
            };
            (0..stages).map(stage).collect()
        };
        self.pools.iter().enumerate().map(|(k, pools)| of_kind(k, pools)).collect()
    }
}

/// Replicas of the stages from one on.
#[derive(Clone)]
struct Solved {
    /// What each stage costs.
    terms: Vec<StageTerms>,
    /// Of each stage: (pool, TP) of every replica.
    replicas: Vec<Vec<(usize, u32)>>,
}

struct Solver<'a> {
    view: &'a View<'a>,
    kinds: &'a Kinds,
    cuts: &'a [usize],
    tps: &'a [Option<Vec<u32>>],
    regions: &'a [String],
    micro_batch: u32,
    dp: u32,
    micro_batches: u32,
    known: BTreeMap<(usize, usize, Vec<u32>), Option<Solved>>,
    tried: u64,
}

/// States that one problem opens at most; the published one has no such bound, and takes minutes where it is reached.
const MOST_STATES: usize = 4_000;

impl Solver<'_> {
    fn stages(&self) -> usize {
        self.cuts.len() - 1
    }

    /// The best replicas of stages `stage ..` from what is left of region number `region`.
    fn solve(&mut self, stage: usize, region: usize, left: Vec<u32>) -> Option<Solved> {
        let key = (stage, region, left.clone());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        if self.known.len() >= MOST_STATES {
            return None;
        }
        let capacity: Vec<u32> = (0..self.kinds.pools.len())
            .map(|k| match &self.tps[k] {
                Some(tps) => self.kinds.pools[k].iter().map(|p| left[*p] / tps[stage]).sum(),
                None => 0,
            })
            .collect();
        let (mut best, mut least, mut before): (Option<Solved>, f64, Option<StageTerms>) =
            (None, f64::INFINITY, None);
        for counts in shares(&capacity, self.dp) {
            let (replicas, rest) = self.take(stage, &counts, &left);
            let terms = self.terms(stage, &replicas);
            self.tried += 1;
            // As published: one more of another kind that changes nothing is not followed up.
            if before.is_some_and(|b| b.step_s == terms.step_s && b.sync_s == terms.sync_s) {
                continue;
            }
            before = Some(terms);
            let mut solved = Solved { terms: vec![terms], replicas: vec![replicas] };
            if stage + 1 < self.stages() {
                let next: u32 = (0..self.kinds.pools.len())
                    .filter_map(|k| {
                        let tps = self.tps[k].as_ref()?;
                        Some(self.kinds.pools[k].iter().map(|p| rest[*p] / tps[stage + 1]).sum::<u32>())
                    })
                    .sum();
                let (region, rest) = if next >= self.dp {
                    (region, rest)
                } else {
                    let Some(name) = self.regions.get(region + 1) else { continue };
                    (region + 1, self.kinds.available(self.view, name))
                };
                let Some(below) = self.solve(stage + 1, region, rest) else { continue };
                solved.terms[0].send_s = self.send_s(&solved.replicas[0], &below.replicas[0]);
                solved.terms.extend(&below.terms);
                solved.replicas.extend(below.replicas);
            }
            let time = cost::estimate_s(&solved.terms, self.micro_batches);
            if time < least {
                (best, least) = (Some(solved), time);
            }
        }
        self.known.insert(key, best.clone());
        best
    }

    /// Replicas of a stage, so many of each kind, zone by zone, and what is left then.
    fn take(&self, stage: usize, counts: &[u32], left: &[u32]) -> (Vec<(usize, u32)>, Vec<u32>) {
        let (mut replicas, mut left) = (Vec::new(), left.to_vec());
        for (k, count) in counts.iter().enumerate() {
            let Some(tps) = &self.tps[k] else { continue };
            let (tp, mut wanted) = (tps[stage], *count);
            for p in &self.kinds.pools[k] {
                let here = wanted.min(left[*p] / tp);
                left[*p] -= here * tp;
                wanted -= here;
                replicas.extend(std::iter::repeat_n((*p, tp), here as usize));
            }
        }
        (replicas, left)
    }

    fn terms(&self, stage: usize, replicas: &[(usize, u32)]) -> StageTerms {
        stage_terms(self.view, self.micro_batch, (self.cuts[stage], self.cuts[stage + 1]), replicas)
    }

    /// The slowest transfer of an activation between replicas that follow each other.
    fn send_s(&self, from: &[(usize, u32)], to: &[(usize, u32)]) -> f64 {
        send_s(self.view, self.micro_batch, from, to)
    }

    fn plan(&self, solved: &Solved) -> Option<Plan> {
        let needs: Vec<(usize, u32)> = solved.replicas.iter().flatten().copied().collect();
        let mut groups = allocate(self.view, &needs)?.into_iter();
        let devices: Vec<Vec<_>> =
            solved.replicas.iter().map(|r| groups.by_ref().take(r.len()).collect()).collect();
        let total = self.view.micro_batch_count(self.micro_batch);
        let pipelines: Vec<PipelineOf> = even(total, self.dp)
            .enumerate()
            .map(|(replica, micro_batches)| PipelineOf {
                micro_batches,
                stages: (0..self.stages())
                    .map(|s| StageOf {
                        layers: (self.cuts[s], self.cuts[s + 1]),
                        devices: devices[s][replica].clone(),
                    })
                    .collect(),
            })
            .collect();
        Some(plan_of(self.view.scenario, self.micro_batch, &pipelines))
    }
}

/// What a stage costs on replicas of `(pool, TP)`, its transfer apart. Rates are those between nodes, as in the published
/// planner, and of a message of each of a replica's streams; its ring goes at the rate of the kind with the least best rate.
pub fn stage_terms(
    view: &View<'_>,
    micro_batch: u32,
    (first, end): (usize, usize),
    replicas: &[(usize, u32)],
) -> StageTerms {
    let mut terms = StageTerms::default();
    let mut kinds = replicas.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let mut slowest: Option<(f64, usize, usize, u32)> = None;
    for &(pool, tp) in &kinds {
        let Some(column) = view.column(pool, micro_batch, tp) else { continue };
        terms.step_s = terms.step_s.max(column.pass_s(first, end));
        terms.update_s = terms.update_s.max((end - first) as f64 * column.longest_update_s());
        // Its ring goes between GPUs of one kind, wherever they are.
        let alike = |other: usize| view.pools[other].gpu == view.pools[pool].gpu;
        for &(other, _) in kinds.iter().filter(|(other, _)| alike(*other)) {
            let best = view.rate(pool, other, false, cost::BUCKET_BYTES * f64::from(tp), tp);
            if slowest.is_none_or(|(rate, ..)| best < rate) {
                slowest = Some((best, pool, other, tp));
            }
        }
    }
    if let Some((_, a, b, tp)) = slowest {
        let step = |bytes: f64| bytes / view.rate(a, b, false, bytes * f64::from(tp), tp);
        terms.sync_s = cost::sync_s(view.gradient_bytes(first, end, 1), replicas.len() as u32, &step);
    }
    terms
}

/// The slowest transfer of an activation between replicas that follow each other, s.
pub fn send_s(view: &View<'_>, micro_batch: u32, from: &[(usize, u32)], to: &[(usize, u32)]) -> f64 {
    let bytes = view.activation_bytes(micro_batch);
    let mut pairs: Vec<_> = from.iter().zip(to).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let time = |((a, from), (b, to)): (&(usize, u32), &(usize, u32))| {
        let streams = *from.min(to);
        let rate = |a, b| view.rate(a, b, false, bytes * f64::from(streams), streams);
        // Of ends with unlike TP in one zone, Sailor's table has the curve of the narrower among its own kind.
        let narrower = if from < to { *a } else { *b };
        let one_zone = view.pools[*a].zone == view.pools[*b].zone;
        bytes / if from != to && one_zone { rate(narrower, narrower) } else { rate(*a, *b) }
    };
    pairs.into_iter().map(time).fold(0.0, f64::max)
}

/// Ways to make up `total` from at most so many of each.
fn shares(capacity: &[u32], total: u32) -> Vec<Vec<u32>> {
    match capacity {
        [] => {
            if total == 0 {
                vec![Vec::new()]
            } else {
                Vec::new()
            }
        }
        [first, rest @ ..] => {
            let room: u32 = rest.iter().sum();
            let least = total.saturating_sub(room);
            let of = |n: u32| shares(rest, total - n).into_iter().map(move |tail| [vec![n], tail].concat());
            (least..=total.min(*first)).flat_map(of).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_make_up_the_total() {
        assert_eq!(shares(&[2, 5], 4), [[0, 4], [1, 3], [2, 2]]);
        assert_eq!(shares(&[1, 1], 4), Vec::<Vec<u32>>::new());
    }

    #[test]
    fn a_degree_for_each_number_of_micro_batches() {
        assert_eq!(degrees(8, 8), [8, 4, 3, 2, 1]);
    }

    #[test]
    fn regions_are_zones_without_their_last_part() {
        for (zone, region) in [("us-central1-a", "us-central1"), ("east", "east"), ("a-b", "a-b")] {
            assert_eq!(region_of(zone), region);
        }
    }
}
