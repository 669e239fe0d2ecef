//! Branch and bound, best bound first, in rounds whose size does not depend on threads.
//!
//! ```text
//!   template at a micro-batch   -> thrown out by a rule, or kept for combinations
//!   combination of templates    -> taken when its bound is the least left, in rounds; opens the next ones (next best
//!                                  template of one kind), and becomes up to two plans (two placements)
//!   plan                        -> thrown out by a rule or by its own bound, or simulated no further than the best
//! ```
//!
//! The bound of a combination holds for every partition and share in it, and no combination it opens has a smaller one.
//! One partition and one share of each is simulated, so an answer is proven only when no combination left has a bound
//! below it, those that were tried included: the gap says how far that is from being so.

use crate::cost::{TemplateCost, plan_frame};
use crate::partition::{Sharer, partition, shares};
use crate::place::{Part, Place, place};
use crate::rules::Rule;
use crate::space::{Kind, Template, kinds, templates};
use rayon::prelude::*;
use sim_core::{Digest, SimTime};
use sim_models::fold::Folding;
use sim_models::iteration::Simulator;
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use std::collections::{BTreeMap, BTreeSet};

/// Combinations taken in one round. Fixed, so that the answer does not depend on threads.
const ROUND: usize = 64;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Worker threads; 0 for as many as there are cores. The answer is the same for any number.
    pub threads: usize,
    /// Simulations after which the search stops at the end of its round.
    pub max_simulations: u64,
    /// How many plans to rank.
    pub top: usize,
    /// The instant of the traces at which the iteration starts.
    pub at: SimTime,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing was left to try.
    Done,
    /// The number of simulations was reached.
    Simulations,
    /// The time was up.
    Seconds,
    /// The user asked.
    Interrupt,
}

impl Stopped {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Stopped::Done => "done",
            Stopped::Simulations => "simulations",
            Stopped::Seconds => "seconds",
            Stopped::Interrupt => "interrupt",
        }
    }
}

/// What became of the nodes generated: `considered` is the sum of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes of the tree, partial or complete.
    pub considered: u64,
    /// Thrown out, by rule.
    pub pruned: BTreeMap<Rule, u64>,
    /// Thrown out because their bound is above the best time.
    pub bounded: u64,
    /// Plans simulated, those cut off included.
    pub simulated: u64,
    /// Partial nodes that opened others.
    pub expanded: u64,
    /// Left when the search stopped.
    pub open: u64,
}

/// A plan with its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// Its iteration, ps.
    pub time_ps: u64,
    /// The plan.
    pub plan: Plan,
}

/// The plan that came nearest to fitting into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestMiss {
    /// Bytes it lacks on one device.
    pub lacking_bytes: u64,
    /// The pipeline, in words: `2 stages: A100-40 x tp 4, V100-16 x tp 4; micro-batch 1`.
    pub pipeline: String,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The best plans, best first; empty when none is feasible.
    pub ranked: Vec<Ranked>,
    /// What became of the nodes.
    pub counts: Counts,
    /// Complete plans that the space holds: every template combination x contiguous partition x share by template.
    pub plans_represented: u128,
    /// No plan of the space is faster than this, ps.
    pub lower_bound_ps: u64,
    /// Why it ended.
    pub stopped: Stopped,
    /// Rounds completed.
    pub rounds: u64,
    /// Over (round, node, outcome, time), in order.
    pub digest: Digest,
    /// When nothing fits: what came nearest.
    pub nearest_miss: Option<NearestMiss>,
}

impl Found {
    /// (best - lower bound) / best, 0 when proven; `None` without a plan.
    pub fn gap(&self) -> Option<f64> {
        let best = self.ranked.first()?.time_ps;
        Some(if self.lower_bound_ps >= best {
            0.0
        } else {
            (best - self.lower_bound_ps) as f64 / best as f64
        })
    }
}

/// A template at a micro-batch size, with its costs.
struct Entry<'a> {
    template: Template,
    cost: TemplateCost<'a>,
    bottleneck: u64,
    /// Ways to cut the layers into its stages.
    partitions: u128,
}

impl Entry<'_> {
    /// Micro-batches that one pipeline of it does in a second, at most.
    fn rate(&self) -> f64 {
        1e12 / self.bottleneck as f64
    }
}

/// A combination in waiting: which entry leads (pipelines that join kinds), and which option of each kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// No plan of it, or of those it opens, is faster; ps.
    bound: u64,
    micro_batch: u32,
    /// Index into the joined entries of the micro-batch, 0 for none, else one more.
    joined: usize,
    /// Which option of each kind.
    choice: Vec<usize>,
    /// Options of earlier kinds are not changed any more: each combination is opened by one other only.
    from: usize,
}

/// The options of one micro-batch size.
struct Options1<'a> {
    entries: Vec<Entry<'a>>,
    /// Entries that join kinds, with how many pipelines of it.
    joined: Vec<(usize, u32)>,
    /// Entries of one kind, by kind.
    of_kind: Vec<Vec<usize>>,
}

/// One plan of a round.
struct Outcome {
    ended: Ended,
    plan: Option<Plan>,
    excess: Option<(i128, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Pruned(Rule),
    Bounded,
    /// Ended at that time, ps, or cut off.
    Simulated(Option<u64>),
}

/// Searches `scenario`. `stop` is asked before each round and ends the search there.
///
/// Returns the same for any number of threads, on any machine, as long as `stop` says nothing.
pub fn search(
    scenario: &Scenario,
    options: &Options,
    stop: &mut (dyn FnMut(&Progress) -> Option<Stopped> + Send),
) -> Found {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let fabric = Fabric::new(scenario);
    let mut search = Search::new(scenario, &fabric, options);
    let stopped = match &pool {
        Ok(pool) => pool.install(|| search.run(stop)),
        Err(_) => search.run(stop),
    };
    search.found(stopped)
}

/// How far a search is, for a progress bar.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Rounds completed.
    pub rounds: u64,
    /// Plans simulated.
    pub simulated: u64,
    /// Best time so far, ps.
    pub best_ps: Option<u64>,
    /// The least bound of what is left, ps.
    pub bound_ps: Option<u64>,
}

struct Search<'a> {
    scenario: &'a Scenario,
    fabric: &'a Fabric,
    options: &'a Options,
    kinds: Vec<Kind>,
    sizes: BTreeMap<u32, Options1<'a>>,
    waiting: BTreeSet<Waiting>,
    counts: Counts,
    plans_represented: u128,
    ranked: BTreeSet<Ranked>,
    /// The least bound of a combination that was tried, or dropped by a rule that speaks of one partition only.
    tried_bound: u64,
    rounds: u64,
    digest: Digest,
    nearest: Option<(i128, NearestMiss)>,
}

impl<'a> Search<'a> {
    fn new(scenario: &'a Scenario, fabric: &'a Fabric, options: &'a Options) -> Self {
        let mut search = Search {
            scenario,
            fabric,
            options,
            kinds: kinds(scenario),
            sizes: BTreeMap::new(),
            waiting: BTreeSet::new(),
            counts: Counts::default(),
            plans_represented: 0,
            ranked: BTreeSet::new(),
            tried_bound: u64::MAX,
            rounds: 0,
            digest: Digest::EMPTY,
            nearest: None,
        };
        search.open_templates();
        search.open_combinations();
        search
    }

    fn prune(&mut self, rule: Rule) {
        *self.counts.pruned.entry(rule).or_default() += 1;
    }

    /// The top of the tree: every template at every micro-batch size.
    fn open_templates(&mut self) {
        let scenario = self.scenario;
        let measured = |k: &Kind| {
            let table = scenario.groups[k.group].layers.as_deref();
            table.into_iter().flat_map(|t| t.configurations().map(|(b, _)| b)).collect::<BTreeSet<u32>>()
        };
        let sizes: BTreeSet<u32> = if scenario.search.micro_batches.is_empty() {
            self.kinds.iter().flat_map(measured).collect()
        } else {
            scenario.search.micro_batches.iter().copied().collect()
        };
        let shapes = templates(&self.kinds, scenario.search.max_stages);
        for size in sizes {
            if size == 0 || !scenario.training.global_batch.is_multiple_of(size) {
                self.counts.considered += 1;
                self.prune(Rule::BatchNotDivisible);
                continue;
            }
            let (entries, outcomes) = self.price(&shapes, size);
            self.counts.considered += outcomes.len() as u64;
            for outcome in outcomes {
                match outcome {
                    None => self.counts.expanded += 1,
                    Some((rule, excess)) => {
                        self.prune(rule);
                        if let Some((excess, template)) = excess {
                            self.note_miss(excess, &shapes[template], size);
                        }
                    }
                }
            }
            let alone = |e: &Entry<'_>| e.template.stages.iter().all(|s| s.kind == e.template.stages[0].kind);
            let mut one =
                Options1 { entries, joined: Vec::new(), of_kind: vec![Vec::new(); self.kinds.len()] };
            let free: Vec<u32> = self.kinds.iter().map(|k| k.devices.len() as u32).collect();
            for (i, entry) in one.entries.iter().enumerate() {
                if alone(entry) {
                    one.of_kind[entry.template.stages[0].kind as usize].push(i);
                } else {
                    one.joined.push((i, entry.template.most(&free)));
                }
            }
            self.sizes.insert(size, one);
        }
    }

    /// Costs of every template at one micro-batch size, and what became of each: kept, or the rule that threw it out.
    #[allow(clippy::type_complexity)]
    fn price(
        &self,
        shapes: &[Template],
        size: u32,
    ) -> (Vec<Entry<'a>>, Vec<Option<(Rule, Option<(i128, usize)>)>>) {
        let layers = self.scenario.model.layers();
        let price = |(i, template): (usize, &Template)| {
            if template.stages.len() as u32 > layers {
                return Err((Rule::TooManyStages, None));
            }
            let cost = TemplateCost::new(self.scenario, &self.kinds, template, size)
                .map_err(|_| (Rule::NotMeasured, None))?;
            let excess = cost.least_excess(|_| 1);
            if excess > 0 {
                return Err((Rule::Memory, Some((excess, i))));
            }
            let bottleneck = cost.bottleneck().max(1);
            let partitions = choose(layers - 1, template.stages.len() as u32 - 1);
            Ok(Entry { template: template.clone(), cost, bottleneck, partitions })
        };
        let priced: Vec<_> = shapes.par_iter().enumerate().map(price).collect();
        let (mut entries, mut outcomes) = (Vec::new(), Vec::new());
        for result in priced {
            match result {
                Ok(entry) => {
                    entries.push(entry);
                    outcomes.push(None);
                }
                Err(thrown) => outcomes.push(Some(thrown)),
            }
        }
        (entries, outcomes)
    }

    fn note_miss(&mut self, excess: i128, template: &Template, micro_batch: u32) {
        if self.nearest.as_ref().is_some_and(|(least, _)| *least <= excess) {
            return;
        }
        let mut parts: Vec<String> = Vec::new();
        for stages in template.stages.chunk_by(|a, b| a == b) {
            let gpu = &self.kinds[stages[0].kind as usize].gpu;
            parts.push(format!("{} x {gpu} at tp {}", stages.len(), stages[0].tp));
        }
        let stages = template.stages.len();
        let pipeline = format!("{stages} stages: {}; micro-batch {micro_batch}", parts.join(", "));
        let lacking_bytes = u64::try_from(excess).unwrap_or(u64::MAX);
        self.nearest = Some((excess, NearestMiss { lacking_bytes, pipeline }));
    }

    /// The first combination of each micro-batch and leading entry: the best option of every kind.
    fn open_combinations(&mut self) {
        let mut roots = Vec::new();
        for (size, one) in &self.sizes {
            for joined in 0..=one.joined.len() {
                let root = Waiting {
                    bound: 0,
                    micro_batch: *size,
                    joined,
                    choice: vec![0; self.kinds.len()],
                    from: 0,
                };
                if self.parts(&root).is_empty() {
                    continue;
                }
                roots.push(Waiting { bound: self.bound(&root), ..root });
                self.plans_represented =
                    self.plans_represented.saturating_add(self.represented(*size, joined));
            }
        }
        self.counts.considered += roots.len() as u64;
        self.waiting.extend(roots);
    }

    /// Devices of each kind that the leading pipelines leave.
    fn left_over(&self, one: &Options1<'a>, joined: usize) -> Vec<u32> {
        let all = self.kinds.iter().map(|k| k.devices.len() as u32);
        let Some(&(entry, pipelines)) = joined.checked_sub(1).and_then(|j| one.joined.get(j)) else {
            return all.collect();
        };
        let template = &one.entries[entry].template;
        all.enumerate().map(|(k, free)| free.saturating_sub(pipelines * template.devices(k))).collect()
    }

    /// The options of a kind with so many devices free, fastest first; the last is to leave them out.
    fn options_of(&self, one: &Options1<'a>, kind: usize, free: u32) -> Vec<(usize, u32)> {
        let count = |e: &usize| free / one.entries[*e].template.devices(kind).max(1);
        let mut list: Vec<(usize, u32)> = one.of_kind[kind]
            .iter()
            .map(|e| (*e, count(e)))
            .filter(|(_, pipelines)| *pipelines > 0)
            .collect();
        let rate = |(e, pipelines): &(usize, u32)| one.entries[*e].rate() * f64::from(*pipelines);
        list.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then(a.cmp(b)));
        list
    }

    /// The pipelines of a combination, as (entry, how many).
    fn parts(&self, w: &Waiting) -> Vec<(usize, u32)> {
        let Some(one) = self.sizes.get(&w.micro_batch) else { return Vec::new() };
        let lead = w.joined.checked_sub(1).and_then(|j| one.joined.get(j)).copied();
        let free = self.left_over(one, w.joined);
        let chosen = w
            .choice
            .iter()
            .enumerate()
            .filter_map(|(k, choice)| self.options_of(one, k, free[k]).get(*choice).copied());
        lead.into_iter().chain(chosen).collect()
    }

    /// No share and no partition of the combination ends sooner: all its pipelines together cannot do more micro-batches
    /// a second than the sum of their best rates, and each still has its last transfer to come when it is counted done.
    fn bound(&self, w: &Waiting) -> u64 {
        let Some(one) = self.sizes.get(&w.micro_batch) else { return 0 };
        let total = f64::from(self.scenario.training.global_batch / w.micro_batch);
        let (mut rate, mut ahead) = (0.0, 0.0);
        for (e, pipelines) in self.parts(w) {
            let entry = &one.entries[e];
            let after = entry.cost.stages.iter().map(|s| s.after).max().unwrap_or(0) as f64 / 1e12;
            rate += entry.rate() * f64::from(pipelines);
            ahead += entry.rate() * f64::from(pipelines) * after;
        }
        let seconds = (total - ahead) / rate * (1.0 - 1e-9);
        if seconds > 0.0 { (seconds * 1e12) as u64 } else { 0 }
    }

    /// Complete plans under one leading entry: for each choice of options, its partitions times its shares by template.
    fn represented(&self, size: u32, joined: usize) -> u128 {
        let Some(one) = self.sizes.get(&size) else { return 0 };
        let lead = joined.checked_sub(1).and_then(|j| one.joined.get(j));
        let total = self.scenario.training.global_batch / size;
        let free = self.left_over(one, joined);
        // Sums over the choices of (partitions), by number of templates chosen: index is that number.
        let mut by_count = vec![0u128; self.kinds.len() + 2];
        by_count[usize::from(lead.is_some())] = lead.map_or(1, |(e, _)| one.entries[*e].partitions);
        for (k, &free) in free.iter().enumerate() {
            let sum = self
                .options_of(one, k, free)
                .iter()
                .fold(0u128, |sum, (e, _)| sum.saturating_add(one.entries[*e].partitions));
            for n in (1..by_count.len()).rev() {
                by_count[n] = by_count[n].saturating_add(by_count[n - 1].saturating_mul(sum));
            }
        }
        let plans =
            |(n, partitions): (usize, &u128)| partitions.saturating_mul(choose(total - 1, n as u32 - 1));
        by_count.iter().enumerate().skip(1).map(plans).fold(0, u128::saturating_add)
    }

    fn run(&mut self, stop: &mut (dyn FnMut(&Progress) -> Option<Stopped> + Send)) -> Stopped {
        loop {
            let best = self.ranked.first().map(|r| r.time_ps);
            let bound_ps = self.waiting.first().map(|w| w.bound);
            if bound_ps.is_none_or(|bound| best.is_some_and(|best| bound > best)) {
                return Stopped::Done;
            }
            let simulated = self.counts.simulated;
            let progress = Progress { rounds: self.rounds, simulated, best_ps: best, bound_ps };
            if simulated >= self.options.max_simulations {
                return Stopped::Simulations;
            }
            if let Some(stopped) = stop(&progress) {
                return stopped;
            }
            self.round(best);
        }
    }

    fn round(&mut self, best: Option<u64>) {
        let mut taken = Vec::with_capacity(ROUND);
        while taken.len() < ROUND && self.waiting.first().is_some_and(|w| best.is_none_or(|b| w.bound <= b)) {
            taken.extend(self.waiting.pop_first());
        }
        let cutoff = (self.ranked.len() >= self.options.top)
            .then(|| self.ranked.last().map(|r| SimTime::from_ps(r.time_ps)))
            .flatten();
        let this = &*self;
        let outcomes: Vec<Vec<Outcome>> = taken
            .par_iter()
            .map_init(
                || Simulator::new(this.scenario, this.fabric),
                |simulator, w| this.try_one(simulator, w, cutoff),
            )
            .collect();
        let round = self.rounds;
        for (node, (w, outcomes)) in taken.into_iter().zip(outcomes).enumerate() {
            self.tried_bound = self.tried_bound.min(w.bound);
            self.counts.expanded += 1;
            for outcome in outcomes {
                self.counts.considered += 1;
                self.settle(round, node, w.micro_batch, outcome);
            }
            self.open_next(w);
        }
        self.rounds += 1;
    }

    /// Counts one plan, and ranks it.
    fn settle(&mut self, round: u64, node: usize, micro_batch: u32, outcome: Outcome) {
        let (code, time) = match outcome.ended {
            Ended::Pruned(rule) => {
                self.prune(rule);
                (1 + rule as u64, 0)
            }
            Ended::Bounded => {
                self.counts.bounded += 1;
                (100, 0)
            }
            Ended::Simulated(time) => {
                self.counts.simulated += 1;
                (101 + u64::from(time.is_none()), time.unwrap_or(0))
            }
        };
        self.digest.add(round << 32 | node as u64, code);
        self.digest.add(time, 0);
        if let (Some((excess, entry)), Some(one)) = (outcome.excess, self.sizes.get(&micro_batch)) {
            let template = one.entries[entry].template.clone();
            self.note_miss(excess, &template, micro_batch);
        }
        if let (Ended::Simulated(Some(time_ps)), Some(plan)) = (outcome.ended, outcome.plan) {
            self.ranked.insert(Ranked { time_ps, plan });
            while self.ranked.len() > self.options.top {
                self.ranked.pop_last();
            }
        }
    }

    /// The combinations that differ from `w` by the next best option of one kind.
    fn open_next(&mut self, w: Waiting) {
        let Some(one) = self.sizes.get(&w.micro_batch) else { return };
        let free = self.left_over(one, w.joined);
        let mut next = Vec::new();
        for kind in w.from..self.kinds.len() {
            if w.choice[kind] < self.options_of(one, kind, free[kind]).len() {
                let mut choice = w.choice.clone();
                choice[kind] += 1;
                let opened = Waiting { bound: 0, choice, from: kind, ..w.clone() };
                if self.parts(&opened).is_empty() {
                    continue;
                }
                // Fewer pipelines or slower ones: never a smaller bound, but for rounding.
                next.push(Waiting { bound: self.bound(&opened).max(w.bound), ..opened });
            }
        }
        self.counts.considered += next.len() as u64;
        self.waiting.extend(next);
    }

    /// The plans of one combination.
    fn try_one(&self, simulator: &mut Simulator<'_>, w: &Waiting, cutoff: Option<SimTime>) -> Vec<Outcome> {
        let pruned = |rule, excess| vec![Outcome { ended: Ended::Pruned(rule), plan: None, excess }];
        let Some(one) = self.sizes.get(&w.micro_batch) else { return Vec::new() };
        let parts = self.parts(w);
        let total = self.scenario.training.global_batch / w.micro_batch;
        if parts.iter().map(|(_, n)| u64::from(*n)).sum::<u64>() > u64::from(total) {
            return pruned(Rule::TooFewMicroBatches, None);
        }
        let frame = plan_frame(w.micro_batch);
        // First shares by the best any partition could do, then partitions for those, then shares for these.
        let guess: Vec<Sharer> = parts
            .iter()
            .map(|(e, n)| {
                let entry = &one.entries[*e];
                let each = entry.bottleneck;
                Sharer { pipelines: *n, one: each * entry.template.stages.len() as u64, each }
            })
            .collect();
        let first = shares(&guess, total);
        if first.is_empty() {
            return pruned(Rule::TooFewMicroBatches, None);
        }
        let (mut borders, mut sharers) = (Vec::new(), Vec::new());
        for ((e, n), groups) in parts.iter().zip(&first) {
            let entry = &one.entries[*e];
            let most = groups.iter().map(|(_, m)| *m).max().unwrap_or(1);
            match partition(&entry.cost, most, frame.schedule) {
                Err(excess) => return pruned(Rule::Memory, Some((excess, *e))),
                Ok(b) => {
                    let one_batch = entry.cost.pipeline_bound(&b, 1, frame.schedule);
                    let all = entry.cost.pipeline_bound(&b, most, frame.schedule);
                    let each = (all.saturating_sub(one_batch) / u64::from(most.max(2) - 1)).max(1);
                    sharers.push(Sharer { pipelines: *n, one: one_batch, each });
                    borders.push(b);
                }
            }
        }
        let groups = shares(&sharers, total);
        if groups.is_empty() {
            return pruned(Rule::TooFewMicroBatches, None);
        }
        let mut placed = Vec::new();
        let mut bound = 0;
        for (((e, _), b), groups) in parts.iter().zip(&borders).zip(&groups) {
            let entry = &one.entries[*e];
            for (replicas, micro_batches) in groups {
                if let Some(excess) = overfull(&entry.cost, b, *micro_batches, &frame) {
                    return pruned(Rule::Memory, Some((excess, *e)));
                }
                bound = bound.max(entry.cost.pipeline_bound(b, *micro_batches, frame.schedule));
                let (replicas, micro_batches) = (*replicas, *micro_batches);
                placed.push(Part { template: &entry.template, borders: b, replicas, micro_batches });
            }
        }
        if cutoff.is_some_and(|c| bound > c.as_ps()) {
            return vec![Outcome { ended: Ended::Bounded, plan: None, excess: None }];
        }
        let several = placed.iter().any(|p| p.template.stages.len() > 1);
        let places: &[Place] = if several { &[Place::Stages, Place::Pipelines] } else { &[Place::Stages] };
        let mut outcomes: Vec<Outcome> = Vec::new();
        for how in places {
            let ended = |ended, plan| Outcome { ended, plan, excess: None };
            let Some(pipelines) = place(self.scenario, &self.kinds, &placed, *how) else {
                outcomes.push(ended(Ended::Pruned(Rule::Devices), None));
                continue;
            };
            let plan = Plan { pipelines, ..frame.clone() };
            if outcomes.iter().any(|o| o.plan.as_ref() == Some(&plan)) {
                continue;
            }
            let time = self.simulate(simulator, &plan, cutoff);
            outcomes.push(match time {
                Ok(time) => ended(Ended::Simulated(time), Some(plan)),
                Err(rule) => ended(Ended::Pruned(rule), None),
            });
        }
        outcomes
    }

    /// The plan's time, or `None` when it is cut off.
    fn simulate(
        &self,
        simulator: &mut Simulator<'_>,
        plan: &Plan,
        cutoff: Option<SimTime>,
    ) -> Result<Option<u64>, Rule> {
        let layout = Layout::new(self.scenario, plan).map_err(|_| Rule::Devices)?;
        let folding = Folding::of(&layout);
        match simulator.run(plan, &layout, &folding, self.options.at, cutoff) {
            Ok(outcome) if outcome.finished => Ok(Some(outcome.end.as_ps())),
            // Cut off, or stalled for ever on a link that is down: either way not faster than the best.
            Ok(_) | Err(_) => Ok(None),
        }
    }

    fn found(mut self, stopped: Stopped) -> Found {
        let best = self.ranked.first().map(|r| r.time_ps);
        let left = self.waiting.len() as u64;
        let open = match stopped {
            Stopped::Done => 0,
            _ => self.waiting.iter().filter(|w| best.is_none_or(|b| w.bound <= b)).count() as u64,
        };
        self.counts.open = open;
        self.counts.bounded += left - open;
        let next = self.waiting.first().map_or(u64::MAX, |w| w.bound);
        let lower_bound_ps = self.tried_bound.min(next).min(best.unwrap_or(u64::MAX));
        Found {
            ranked: self.ranked.into_iter().collect(),
            counts: self.counts,
            plans_represented: self.plans_represented,
            lower_bound_ps,
            stopped,
            rounds: self.rounds,
            digest: self.digest,
            nearest_miss: self.nearest.map(|(_, miss)| miss),
        }
    }
}

/// The largest excess of memory of a partition, if it does not fit.
fn overfull(cost: &TemplateCost<'_>, borders: &[usize], micro_batches: u32, frame: &Plan) -> Option<i128> {
    let stages = cost.stages.len();
    let excess = |s: usize| {
        let in_flight = frame.schedule.in_flight(s as u32, stages as u32, micro_batches);
        cost.stages[s].excess(borders[s], borders[s + 1], in_flight)
    };
    (0..stages).map(excess).max().filter(|e| *e > 0)
}

/// Binomial coefficient, saturating.
fn choose(n: u32, k: u32) -> u128 {
    let k = k.min(n.saturating_sub(k));
    if k > n {
        return 0;
    }
    let mut result = 1u128;
    for i in 0..k {
        // Exact at every step: a product of i + 1 neighbours is divisible by (i + 1)!.
        match result.checked_mul(u128::from(n - i)) {
            Some(product) => result = product / u128::from(i + 1),
            None => return u128::MAX,
        }
    }
    result
}
