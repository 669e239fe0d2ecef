//! Branch and bound in levels of time, in rounds whose size does not depend on threads.
//!
//! ```text
//!   template at a micro-batch and placement -> thrown out by a rule, or kept
//!   root: a micro-batch, a placement and a leading template (pipelines that join kinds), or none
//!   combination: a root and an option for each kind -> a plan
//!   plan -> thrown out by a rule or by its own bound, or simulated no further than the best
//! ```
//!
//! First the combinations that look best by their estimates, a few rounds, for a good time to throw others out by. Then all,
//! by levels.
//!
//! A *level* is a time. At a level, every template says how many micro-batches one of its pipelines can run within it, over
//! every partition of the layers ([`TemplateCost::bound`]); a combination is *within* the level when its pipelines together
//! can run the whole batch. So a combination that is not within the level has no plan as fast. Levels rise by a fiftieth
//! from one that holds no combination; each level's new combinations are taken, those with most to spare first; when a
//! level would pass the best time it becomes the best time, and what is not within it is thrown out.
//!
//! One partition and one share of each combination is simulated, so the answer is proven only as far as the highest level
//! that held nothing: the gap says how far.

mod draft;
mod levels;
mod tree;

use crate::cost::{NoFit, TemplateCost, View};
use crate::place::Place;
use crate::rules::Rule;
use crate::space::{Kind, Template, kinds};
use rayon::prelude::*;
use sim_core::{Digest, SimError, SimTime};
use sim_models::fold::Folding;
use sim_models::iteration::{SimulateError, Simulator};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::{Plan, Schedule};
use sim_models::scenario::Scenario;
use std::collections::{BTreeMap, BTreeSet};

/// Combinations taken in one round. Fixed, so that the answer does not depend on threads.
const ROUND: usize = 64;

/// Combinations of several templates whose plans are estimated before any is simulated.
const SEED_CANDIDATES: usize = 2048;

/// Rounds of those that look best, before those with the least bound.
const SEED_ROUNDS: usize = 4;

/// A level above which nothing is: half a year, in ps.
const MOST_LEVEL: u64 = 1 << 63;

/// The schedule of every plan searched.
const SCHEDULE: Schedule = Schedule::OneFOneB;

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
struct Entry {
    template: Template,
    cost: TemplateCost,
    bottleneck: u64,
    /// Ways to cut the layers into its stages.
    partitions: u128,
    /// Indices into the list of zones.
    zones: BTreeSet<usize>,
}

/// What all pipelines of a plan share.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Frame {
    micro_batch: u32,
    place: Place,
}

/// So many pipelines of an entry: what a combination is made of.
struct Choice {
    frame: Frame,
    entry: usize,
    pipelines: u32,
    /// Micro-batches that one of them can run within the level: sharing gradients in its zones, and across zones.
    within: [u32; 2],
}

/// A frame and its leading choice, with the options of each kind for the devices left.
struct Root {
    frame: Frame,
    lead: Option<usize>,
    options: Vec<Vec<usize>>,
    /// Whether a combination was taken from it.
    opened: bool,
}

/// A root and an option for each kind; as many as the kind has options: left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Combination {
    /// Micro-batches to spare within the level, over the batch's in 2^20ths, highest first.
    spare: std::cmp::Reverse<u64>,
    root: usize,
    options: Vec<usize>,
}

/// One plan of a round.
struct Outcome {
    ended: Ended,
    plan: Option<Plan>,
    lacks: Option<(NoFit, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Pruned(Rule),
    Bounded,
    /// Ended at that time, ps, or cut off.
    Simulated(Option<u64>),
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
    /// The level, ps: no plan left is faster.
    pub level_ps: u64,
}

/// What a search is asked before each round: go on, or why it ends.
pub type Stop<'s> = dyn FnMut(&Progress) -> Option<Stopped> + Send + 's;

/// Searches `scenario`. `stop` is asked before each round and ends the search there.
///
/// Returns the same for any number of threads, on any machine, as long as `stop` says nothing.
pub fn search(scenario: &Scenario, options: &Options, stop: &mut Stop<'_>) -> Found {
    let fabric = Fabric::new(scenario);
    let mut run = || {
        let mut search = Search::new(scenario, &fabric, options);
        let stopped = search.run(stop);
        search.found(stopped)
    };
    match rayon::ThreadPoolBuilder::new().num_threads(options.threads).build() {
        Ok(pool) => pool.install(run),
        Err(_) => run(),
    }
}

struct Search<'a> {
    scenario: &'a Scenario,
    fabric: &'a Fabric,
    options: &'a Options,
    kinds: Vec<Kind>,
    entries: Vec<Entry>,
    choices: Vec<Choice>,
    roots: Vec<Root>,
    /// Combinations taken, and those of the level that wait.
    taken: BTreeSet<(usize, Vec<usize>)>,
    waiting: BTreeSet<Combination>,
    /// Nothing was within this level, ps.
    empty_level: u64,
    counts: Counts,
    plans_represented: u128,
    ranked: BTreeSet<Ranked>,
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
            entries: Vec::new(),
            choices: Vec::new(),
            roots: Vec::new(),
            taken: BTreeSet::new(),
            waiting: BTreeSet::new(),
            empty_level: 0,
            counts: Counts::default(),
            plans_represented: 0,
            ranked: BTreeSet::new(),
            rounds: 0,
            digest: Digest::EMPTY,
            nearest: None,
        };
        search.open_templates();
        search
    }

    fn prune(&mut self, rule: Rule) {
        *self.counts.pruned.entry(rule).or_default() += 1;
    }

    fn micro_batches(&self, size: u32) -> u32 {
        self.scenario.training.global_batch / size
    }

    fn run(&mut self, stop: &mut Stop<'_>) -> Stopped {
        if self.roots.is_empty() {
            return Stopped::Done;
        }
        // The first level that may hold something: all devices busy all the time.
        let need = |root: &Root| f64::from(self.micro_batches(root.frame.micro_batch));
        let rate = |c: usize| {
            f64::from(self.choices[c].pipelines) / self.entries[self.choices[c].entry].bottleneck as f64
        };
        let most = |list: &Vec<usize>| {
            list.iter().fold(0.0, |best, c| if rate(*c) > best { rate(*c) } else { best })
        };
        let least = |root: &Root| {
            need(root) / (root.lead.map_or(0.0, rate) + root.options.iter().map(most).fold(0.0, |a, b| a + b))
        };
        let start = self.roots.iter().map(least).fold(f64::INFINITY, |a, b| if b < a { b } else { a });
        // A pipeline counts as done one transfer early in that estimate.
        let early = self.entries.iter().map(|e| e.cost.slack()).max().unwrap_or(0);
        let start = ((start * (1.0 - 1e-9)) as u64).saturating_sub(early).max(1);
        if let Some(stopped) = self.seed(start, stop) {
            return stopped;
        }
        self.prove(start, stop)
    }

    /// The combinations that look best by their estimates, so that there is a good time to throw others out by: of those of
    /// one template and the first so many by level, the ones with the least estimate of their plan.
    fn seed(&mut self, start: u64, stop: &mut Stop<'_>) -> Option<Stopped> {
        let mut level = start;
        let mut candidates = self.alone();
        let mut known: BTreeSet<(usize, Vec<usize>)> =
            candidates.iter().map(|c| (c.root, c.options.clone())).collect();
        let alone = candidates.len();
        let enough = alone + SEED_CANDIDATES;
        while candidates.len() < enough && level < MOST_LEVEL {
            self.raise(level, View::Estimate);
            self.open_combinations();
            let new = std::mem::take(&mut self.waiting)
                .into_iter()
                .filter(|c| known.insert((c.root, c.options.clone())));
            candidates.extend(new.take(SEED_CANDIDATES));
            if let Some(stopped) = self.ask(0, stop) {
                return Some(stopped);
            }
            level = next_level(level);
        }
        candidates.truncate(enough);
        let this = &*self;
        let estimate = |c: &Combination| this.draft(c).ok().map(|draft| this.estimate(&draft));
        let estimates: Vec<Option<u64>> = candidates.par_iter().map(estimate).collect();
        // The two families in turn: an estimate of several templates leaves out more than one of a single one.
        let mut families = [Vec::new(), Vec::new()];
        for (i, (estimate, c)) in estimates.into_iter().zip(candidates).enumerate() {
            families[usize::from(i >= alone)].extend(estimate.map(|e| (e, c)));
        }
        for family in &mut families {
            family.sort_unstable();
            family.reverse();
        }
        for turn in 0..SEED_ROUNDS {
            let family = &mut families[turn % 2];
            let round: Vec<Combination> =
                std::iter::from_fn(|| family.pop()).take(ROUND).map(|(_, c)| c).collect();
            if let Some(stopped) = self.ask(0, stop) {
                return Some(stopped);
            }
            if !round.is_empty() {
                self.round(round);
            }
        }
        self.choices.iter_mut().for_each(|c| c.within = [0; 2]);
        None
    }

    /// Every combination whose bound is not above the best time, least first.
    fn prove(&mut self, start: u64, stop: &mut Stop<'_>) -> Stopped {
        let (mut level, mut last) = (start, false);
        if let Some(best) = self.ranked.first().filter(|r| r.time_ps <= start) {
            // Rounding apart, that cannot be; then there is nothing below.
            level = best.time_ps;
        }
        loop {
            self.raise(level, View::Bound);
            if !self.open_combinations() {
                self.empty_level = level;
            }
            while !self.waiting.is_empty() {
                let best = self.ranked.first().map(|r| r.time_ps);
                if best.is_some_and(|best| best < level) {
                    // The level passed the best time: go back to it.
                    break;
                }
                if let Some(stopped) = self.ask(level, stop) {
                    return stopped;
                }
                let round = std::iter::from_fn(|| self.waiting.pop_first()).take(ROUND).collect();
                self.round(round);
            }
            let best = self.ranked.first().map(|r| r.time_ps);
            if last && self.waiting.is_empty() {
                return Stopped::Done;
            }
            level = match best {
                Some(best) if next_level(level) >= best => {
                    last = true;
                    if best < level {
                        self.lower(best);
                    }
                    best
                }
                _ => next_level(level),
            };
            if best.is_none() && level > MOST_LEVEL {
                return Stopped::Done;
            }
            if let Some(stopped) = self.ask(level, stop) {
                return stopped;
            }
        }
    }

    fn ask(&self, level_ps: u64, stop: &mut Stop<'_>) -> Option<Stopped> {
        let simulated = self.counts.simulated;
        if simulated >= self.options.max_simulations {
            return Some(Stopped::Simulations);
        }
        let best_ps = self.ranked.first().map(|r| r.time_ps);
        stop(&Progress { rounds: self.rounds, simulated, best_ps, level_ps })
    }

    fn round(&mut self, round: Vec<Combination>) {
        let worst = self.ranked.last().filter(|_| self.ranked.len() >= self.options.top);
        let cutoff = worst.map(|r| SimTime::from_ps(r.time_ps));
        let this = &*self;
        let outcomes: Vec<Outcome> = round
            .par_iter()
            .map_init(
                || Simulator::new(this.scenario, this.fabric),
                |simulator, c| this.try_one(simulator, c, cutoff),
            )
            .collect();
        for (c, outcome) in round.into_iter().zip(outcomes) {
            if !std::mem::replace(&mut self.roots[c.root].opened, true) {
                self.counts.expanded += 1;
            }
            self.counts.considered += 2;
            self.counts.expanded += 1;
            let micro_batch = self.roots[c.root].frame.micro_batch;
            self.settle(&c, micro_batch, outcome);
            self.taken.insert((c.root, c.options));
        }
        self.rounds += 1;
    }

    /// Counts one plan, and ranks it.
    fn settle(&mut self, c: &Combination, micro_batch: u32, outcome: Outcome) {
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
        self.digest.add(self.rounds, c.root as u64);
        for option in &c.options {
            self.digest.add(*option as u64, 0);
        }
        self.digest.add(code, time);
        if let Some((lacks, entry)) = outcome.lacks {
            let template = self.entries[entry].template.clone();
            self.note_miss(lacks, &template, micro_batch);
        }
        if let (Ended::Simulated(Some(time_ps)), Some(plan)) = (outcome.ended, outcome.plan) {
            self.ranked.insert(Ranked { time_ps, plan });
            while self.ranked.len() > self.options.top {
                self.ranked.pop_last();
            }
        }
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
            Ok(_) | Err(SimulateError::Sim(SimError::Stalled { .. })) => Ok(None),
            Err(_) => Err(Rule::TooLarge),
        }
    }

    fn found(mut self, stopped: Stopped) -> Found {
        let best = self.ranked.first().map(|r| r.time_ps);
        let unopened = self.roots.iter().filter(|r| !r.opened).count() as u64;
        let waiting = self.waiting.len() as u64;
        self.counts.considered += waiting;
        if stopped == Stopped::Done {
            self.counts.bounded += unopened + waiting;
        } else {
            self.counts.open += unopened + waiting;
        }
        // Without a feasible plan nothing is known of its time.
        let lower_bound_ps = best.map_or(u64::MAX, |best| self.empty_level.min(best));
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

/// A fiftieth higher.
fn next_level(level: u64) -> u64 {
    level.saturating_add(level / 50 + 1)
}
