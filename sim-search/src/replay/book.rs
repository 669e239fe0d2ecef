//! The plans that one policy knows: found by searches of states that it saw, judged by simulating an iteration in a world
//! that stands still. It has no world: what it is asked about comes from a [`Past`](super::past::Past).

use super::plans::{PlanId, Plans, ranges};
use super::switch;
use super::world::{Frame, Of, State, with_latencies};
use crate::search::{Options, search};
use sim_core::{CapacityProfile, Rate};
use sim_models::plan::{PipelineGroup, Plan, Stage};
use sim_models::replay::FULL_SPEED;
use sim_models::scenario::{NodeId, Scenario};
use std::collections::{BTreeMap, BTreeSet};

/// Plans of one search that are kept.
const TOP: usize = 3;
/// A search sees no link below this many bytes/s, so that every plan ends.
const LEAST_RATE: u64 = 10_000 << 16;

/// Searches done, by the state they were of: a function of the state alone, so sharing it tells nobody anything.
#[derive(Default)]
pub(crate) struct Searches {
    found: BTreeMap<State, Vec<PlanId>>,
    /// Times of switches in a still world.
    switches: BTreeMap<(PlanId, PlanId, Vec<u64>), Option<u64>>,
    threads: usize,
}

impl Searches {
    pub(crate) fn new(threads: usize) -> Searches {
        Searches { threads, ..Searches::default() }
    }
}

/// See the head of this file.
pub struct Book<'a> {
    frame: &'a Frame,
    plans: &'a mut Plans,
    searches: &'a mut Searches,
    known: &'a mut Known,
}

/// What one policy has found so far.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) plans: Vec<PlanId>,
    searched: BTreeSet<State>,
    /// Those that count against the most there may be.
    searches: u32,
}

impl<'a> Book<'a> {
    pub(super) fn new(
        frame: &'a Frame,
        plans: &'a mut Plans,
        searches: &'a mut Searches,
        known: &'a mut Known,
    ) -> Book<'a> {
        Book { frame, plans, searches, known }
    }

    /// The plans known, searched for in this state too if there was no search of its like and searches are left.
    pub fn candidates(&mut self, state: &State) -> Vec<PlanId> {
        if self.known.plans.is_empty()
            && let Some(plan) = &self.frame.scenario.plan
        {
            let own = self.plans.meet(self.frame, plan);
            self.known.plans.extend(own);
        }
        let scenario = &self.frame.scenario;
        let most = scenario.replay.options.max_plans;
        let mut states = vec![(coarse(scenario, state), true)];
        states.extend(without_slow(self.frame, state).map(|s| (coarse(scenario, &s), true)));
        // Each zone by itself is one more state, whatever its links carry.
        states.extend(zones_alone(self.frame, state).iter().map(|s| (coarse(scenario, s), false)));
        for (state, counts) in states {
            let left = if counts { self.known.searches < most } else { most > 0 };
            if !left || !self.known.searched.insert(state.clone()) {
                continue;
            }
            self.known.searches += u32::from(counts);
            let found = match self.searches.found.get(&state) {
                Some(found) => found.clone(),
                None => {
                    let found = self.search(&state);
                    self.searches.found.insert(state, found.clone());
                    found
                }
            };
            for id in found {
                if !self.known.plans.contains(&id) {
                    self.known.plans.push(id);
                }
            }
        }
        self.known.plans.clone()
    }

    fn search(&mut self, state: &State) -> Vec<PlanId> {
        let Some((scenario, alive)) = scenario_at(self.frame, state) else { return Vec::new() };
        let options = Options {
            threads: self.searches.threads,
            max_simulations: scenario.replay.options.simulations,
            top: TOP,
            ..Options::default()
        };
        let found = search(&scenario, &options, &mut |_| None);
        let plans = found.ranked.iter().filter_map(|r| moved(&scenario, &r.plan, &alive));
        plans.filter_map(|plan| self.plans.meet(self.frame, &plan)).collect()
    }

    /// Takes in a plan of one's own; `None` when it is none for the scenario.
    pub fn know(&mut self, plan: &Plan) -> Option<PlanId> {
        let id = self.plans.meet(self.frame, plan)?;
        if !self.known.plans.contains(&id) {
            self.known.plans.push(id);
        }
        Some(id)
    }

    /// The length of an iteration of what runs of a plan in this state, ns; `None` when nothing does, or it never ends.
    pub fn time(&mut self, plan: PlanId, state: &State) -> Option<u64> {
        let at = self.plans.variant(self.frame, plan, &state.down, &state.latencies)?;
        self.plans.still(self.frame, at, &state.rates)
    }

    /// The fastest plan known in this state, and the length of its iteration; ties go to the one met first.
    pub fn best(&mut self, state: &State) -> Option<(PlanId, u64)> {
        let candidates = self.candidates(state);
        self.best_of(&candidates, state)
    }

    pub(crate) fn best_of(&mut self, candidates: &[PlanId], state: &State) -> Option<(PlanId, u64)> {
        let times = candidates.iter().filter_map(|&id| self.time(id, state).map(|time| (time, id)));
        times.min().map(|(time, id)| (id, time))
    }

    /// How long a switch takes in this state, fixed part included, ns; `None` when the new plan cannot run.
    pub fn switch_time(&mut self, from: PlanId, to: PlanId, state: &State) -> Option<u64> {
        let fixed = self.frame.scenario.replay.options.switch_cost;
        self.plans.variant(self.frame, to, &state.down, &state.latencies)?;
        // Moves are as good as the same where rates differ by less than 3 %, and whoever sits out.
        let rates: Vec<u64> = state.rates.iter().map(|r| rounded(*r, 6)).collect();
        let key = (from, to, rates);
        let moving = match self.searches.switches.get(&key) {
            Some(known) => *known,
            None => {
                let time = self.moving(from, to, state, &key.2);
                self.searches.switches.insert(key, time);
                time
            }
        };
        moving.map(|m| m.saturating_add(fixed))
    }

    /// How long the state of one whole plan takes to become that of another.
    fn moving(&mut self, from: PlanId, to: PlanId, state: &State, rates: &[u64]) -> Option<u64> {
        let mut whole = |id| {
            let at = self.plans.variant(self.frame, id, &[], &state.latencies)?;
            self.plans.laid_out(self.frame, at)
        };
        let (old, new) = (whole(from), whole(to)?);
        let scenario = &self.frame.scenario;
        let moves = switch::moves(scenario, old.as_ref(), &new, &[]);
        let graph = switch::graph(scenario, &self.frame.fabric, &moves);
        let net = self.frame.still(rates);
        self.plans.move_bytes(&graph, &net, 0, 0, u64::MAX / 1_000)
    }
}

/// `x` with its leading `bits` bits and zeros after them: never more than `x`.
pub(crate) fn rounded(x: u64, bits: u32) -> u64 {
    let width = 64 - x.leading_zeros();
    if width <= bits { x } else { x >> (width - bits) << (width - bits) }
}

/// The state that a search is made of: rates to the nearest of 2^(k/2), nodes of large groups to sixteenths, which GPU is
/// slow left aside.
fn coarse(scenario: &Scenario, state: &State) -> State {
    let near = |x: u64| -> u64 {
        if x < LEAST_RATE {
            return 0;
        }
        // 2^k, 2^k x 1.5 (nearly the root of two): by the two bits after the leading one.
        let width = 63 - x.leading_zeros();
        let (low, middle) = (1u64 << width, (1u64 << width) | (1 << (width - 1)));
        match x - low {
            d if d < (1 << width) / 4 => low,
            d if d < (1 << width) / 4 * 3 => middle,
            _ => low.saturating_mul(2),
        }
    };
    let mut down = state.down.clone();
    for (g, group) in scenario.groups.iter().enumerate() {
        let step = group.nodes.div_ceil(16);
        let away: Vec<u32> = down.iter().filter(|n| n.group == g as u32).map(|n| n.index).collect();
        let extra = (away.len() as u32).div_ceil(step) * step - away.len() as u32;
        // The last ones that are there stay out, up to a whole step.
        let more = (0..group.nodes).rev().filter(|i| !away.contains(i)).take(extra as usize);
        down.extend(more.map(|index| NodeId { group: g as u32, index }));
    }
    down.sort_unstable();
    State { rates: state.rates.iter().map(|r| near(*r)).collect(), latencies: state.latencies.clone(), down }
}

/// The states in which one zone is all there is; none where there is one zone, or more than eight.
fn zones_alone(frame: &Frame, state: &State) -> Vec<State> {
    let scenario = &frame.scenario;
    let zones: BTreeSet<&str> = scenario.groups.iter().map(|g| g.zone.as_str()).collect();
    if zones.len() < 2 || zones.len() > 8 {
        return Vec::new();
    }
    let alone = |zone: &&str| {
        let mut down = state.down.clone();
        for (g, group) in scenario.groups.iter().enumerate().filter(|(_, g)| g.zone != *zone) {
            down.extend((0..group.nodes).map(|index| NodeId { group: g as u32, index }));
        }
        down.sort_unstable();
        down.dedup();
        let rate = |(of, rate): (&Of, &u64)| if matches!(of, Of::Link(_)) { 0 } else { *rate };
        State { rates: frame.of.iter().zip(&state.rates).map(rate).collect(), down, ..state.clone() }
    };
    zones.iter().map(alone).collect()
}

/// The state in which nodes with a GPU slower than 4/5 are left out; none when there are none.
fn without_slow(frame: &Frame, state: &State) -> Option<State> {
    let slow = frame.of.iter().zip(&state.rates).filter_map(|(of, rate)| match of {
        Of::Speed(device) if *rate < FULL_SPEED / 5 * 4 => Some(frame.scenario.node(*device)),
        _ => None,
    });
    let mut down: Vec<NodeId> = state.down.iter().copied().chain(slow).collect();
    down.sort_unstable();
    down.dedup();
    (down.len() > state.down.len()).then(|| State { down, ..state.clone() })
}

/// A group's name, and which of its nodes are there.
type Alive = (String, Vec<u32>);

/// The scenario as it is in a state, and which nodes of each of its groups those are.
fn scenario_at(frame: &Frame, state: &State) -> Option<(Scenario, Vec<Alive>)> {
    let of = &frame.scenario;
    let mut scenario = with_latencies(of, &state.latencies).unwrap_or_else(|| of.clone());
    let there = |g: usize| -> Vec<u32> {
        let away = |i: &u32| state.down.binary_search(&NodeId { group: g as u32, index: *i }).is_ok();
        (0..of.groups[g].nodes).filter(|i| !away(i)).collect()
    };
    let alive: Vec<(usize, Vec<u32>)> =
        (0..of.groups.len()).map(|g| (g, there(g))).filter(|(_, nodes)| !nodes.is_empty()).collect();
    if alive.is_empty() {
        return None;
    }
    scenario.replay.speeds.clear();
    scenario.replay.nics.clear();
    scenario.replay.leaves.clear();
    scenario.plan = None;
    scenario.groups = alive
        .iter()
        .map(|(g, nodes)| {
            let mut group = of.groups[*g].clone();
            group.nodes = nodes.len() as u32;
            // Nodes with NICs of their own count with the mean of them.
            let nics: Vec<u64> = frame
                .of
                .iter()
                .zip(&state.rates)
                .filter_map(|(of, rate)| match of {
                    Of::Nic(n) if n.group as usize == *g && nodes.contains(&n.index) => Some(*rate),
                    _ => None,
                })
                .collect();
            if !nics.is_empty() {
                let mean = nics.iter().map(|r| u128::from(*r)).sum::<u128>() / nics.len() as u128;
                group.nic = CapacityProfile::constant(Rate::from_raw((mean as u64).max(LEAST_RATE)));
            }
            group
        })
        .collect();
    scenario.node_links = alive
        .iter()
        .map(|(a, _)| alive.iter().map(|(b, _)| of.node_links[*a][*b].clone()).collect())
        .collect();
    for (of, rate) in frame.of.iter().zip(&state.rates) {
        let capacity = || CapacityProfile::constant(Rate::from_raw((*rate).max(LEAST_RATE)));
        match of {
            Of::Link(i) => scenario.zone_links[*i].capacity = capacity(),
            Of::Leaf(i) => scenario.leaves[*i as usize].capacity = capacity(),
            Of::Nic(_) | Of::Speed(_) => {}
        }
    }
    let names = alive.into_iter().map(|(g, nodes)| (of.groups[g].name.clone(), nodes)).collect();
    Some((scenario, names))
}

/// A plan of the scenario at a state, on the nodes that those are.
fn moved(scenario: &Scenario, plan: &Plan, alive: &[Alive]) -> Option<Plan> {
    let device = |(name, index): (&str, u32)| -> Option<(String, u32)> {
        let nodes = &alive.iter().find(|a| a.0 == name)?.1;
        let each = scenario.groups[scenario.group_index(name)?].gpus_per_node;
        Some((name.to_string(), nodes.get((index / each) as usize)? * each + index % each))
    };
    let stage = |s: &Stage| -> Option<Stage> {
        let devices: Vec<(String, u32)> = s.devices().map(device).collect::<Option<_>>()?;
        Some(Stage { devices: ranges(devices.iter().map(|(n, i)| (n.as_str(), *i))), ..s.clone() })
    };
    let group = |g: &PipelineGroup| -> Option<PipelineGroup> {
        Some(PipelineGroup { stages: g.stages.iter().map(stage).collect::<Option<_>>()?, ..g.clone() })
    };
    Some(Plan { pipelines: plan.pipelines.iter().map(group).collect::<Option<_>>()?, ..plan.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_keeps_the_leading_bits() {
        for (x, bits, expected) in [(0, 6, 0), (63, 6, 63), (127, 6, 126), (u64::MAX, 1, 1 << 63)] {
            assert_eq!(rounded(x, bits), expected);
        }
    }
}
