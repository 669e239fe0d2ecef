//! Branch and bound over partial plans, best bound first, in rounds whose size does not depend on threads.
//!
//! ```text
//!   root: a frame and a leading template  ->  an option for each kind, one at a time  ->  combination
//!   combination  ->  pipelines of each part, in the order of their bounds
//!   pipelines    ->  shares of the micro-batches, in the order of their bounds
//!   shares       ->  cuts of the layers, in the order of their bounds  ->  plan  ->  simulated no further than the best
//! ```
//!
//! The queue holds nodes by (bound, key). A round takes the first [`ROUND`], opens them or simulates them side by side, and
//! settles them in order; the best time moves between rounds. A node is thrown out when its bound is above the best time,
//! or equal with a larger key. When the first of the queue is thrown out all are, and the best plan is proven.
//!
//! Before that, combinations that look best by their estimates are simulated, and what is near the best of them, for a good
//! time to throw others out by ([`seed`]).

mod bounds;
mod dive;
mod expand;
mod near;
mod seed;
mod session;
mod shard;

pub(crate) use bounds::Bounds;
pub use session::{Fate, Saved, Watch, merge};

use crate::cost::placed::Placed;
use crate::rules::Rule;
use crate::space::kinds;
use crate::tree::{Key, Root, Tree};
use expand::{State, Step};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shard::Share;
use sim_core::{Digest, SimError, SimTime};
use sim_models::cost;
use sim_models::fold::Folding;
use sim_models::iteration::{SimulateError, Simulator, memory_needs};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Nodes taken in one round. Fixed, so that the answer does not depend on threads.
const ROUND: usize = 64;

/// Plans that are remembered at least, however few are ranked.
const REMEMBERED: usize = 8;

/// Nodes opened for each simulation allowed, and at least: a search that opens nodes and simulates nothing ends too.
const NODES_A_SIMULATION: u64 = 16;
const LEAST_NODES: u64 = 8192;

/// Instants of the history at which a robust plan is simulated.
const INSTANTS: u64 = 8;

/// Which search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Branch and bound.
    #[default]
    BranchAndBound,
    /// Every plan of the space is simulated: no bound, no dynamic program. For small spaces.
    Exhaustive,
}

/// What makes a plan better. Values are integers, less is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The time of an iteration, ps.
    #[default]
    Time,
    /// What an iteration costs by the scenario's prices, 10^-12 dollars.
    Cost,
    /// The mean time of an iteration over instants of the history, ps: where each of eight equal parts of it begins.
    Robust,
}

impl Objective {
    /// No plan on nodes of this price that takes at least so long has a lower value.
    fn value(self, price: u64, time: u64) -> u64 {
        if self == Objective::Cost { cost::for_time(price, time) } else { time }
    }

    /// The longest time within a value.
    fn time(self, price: u64, value: u64) -> u64 {
        if self == Objective::Cost { cost::time_for(price, value) } else { value }
    }
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What makes a plan better.
    pub objective: Objective,
    /// The longest that an iteration may take, ps.
    pub deadline_ps: Option<u64>,
    /// The most that an iteration may cost, 10^-12 dollars.
    pub budget: Option<u64>,
    /// Worker threads; 0 for as many as there are cores. The answer is the same for any number.
    pub threads: usize,
    /// Simulations after which the search stops at the end of its round.
    pub max_simulations: u64,
    /// How many plans to rank.
    pub top: usize,
    /// The instant of the traces at which the iteration starts.
    pub at: SimTime,
    /// Which search.
    pub method: Method,
    /// One part of the space out of so many: index from 0, and how many.
    pub shard: Option<(u32, u32)>,
    /// Whether what became of every node is kept, for a certificate.
    pub log: bool,
}

impl Default for Options {
    fn default() -> Self {
        let max_simulations = sim_models::scenario::SearchOptions::default().max_simulations;
        Options {
            objective: Objective::Time,
            deadline_ps: None,
            budget: None,
            threads: 0,
            max_simulations,
            top: 5,
            at: SimTime::ZERO,
            method: Method::BranchAndBound,
            shard: None,
            log: false,
        }
    }
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A plan with its value. Plans are in the order of their values, equal ones in that of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ranked {
    /// By the objective: its time, or else.
    pub value: u64,
    /// Its iteration, ps.
    pub time_ps: u64,
    /// Where it stands in the tree of the space: see docs/space.md.
    pub key: Vec<u32>,
    /// The plan.
    pub plan: Plan,
}

/// A plan with all that it may be chosen by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    /// Its iteration, ps.
    pub time_ps: u64,
    /// What an iteration costs, 10^-12 dollars; 0 without prices.
    pub cost: u64,
    /// Memory that its fullest device has to spare, bytes.
    pub spare_bytes: u64,
    /// Where it stands in the tree.
    pub key: Vec<u32>,
    /// The plan.
    pub plan: Plan,
}

impl Candidate {
    /// Whether it is as good in everything.
    fn covers(&self, other: &Candidate) -> bool {
        self.time_ps <= other.time_ps && self.cost <= other.cost && self.spare_bytes >= other.spare_bytes
    }
}

/// Plans of which none covers another, at most.
const MOST_CANDIDATES: usize = 32;

/// Takes in a plan unless another is as good, and drops those that it covers.
pub(crate) fn choose(front: &mut Vec<Candidate>, new: Candidate) {
    if front.iter().any(|c| c.covers(&new)) {
        return;
    }
    front.retain(|c| !new.covers(c));
    let at = front.partition_point(|c| *c < new);
    front.insert(at, new);
    front.truncate(MOST_CANDIDATES);
}

/// The plan that came nearest to fitting into memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearestMiss {
    /// Bytes it lacks on one device.
    pub lacking_bytes: u64,
    /// The pipeline, in words: `2 stages: A100-40 x tp 4, V100-16 x tp 4; micro-batch 1`.
    pub pipeline: String,
}

/// What a search found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The best plans, best first; empty when none is feasible.
    pub ranked: Vec<Ranked>,
    /// What became of the nodes.
    pub counts: Counts,
    /// Complete plans that the space holds: every template combination x contiguous partition x share by template.
    #[serde(with = "session::decimal")]
    pub plans_represented: u128,
    /// No plan of the space has a lower value than this: by the objective time, none is faster; ps.
    pub lower_bound_ps: u64,
    /// Plans simulated to their end of which none is as good as another in time, memory to spare and cost; fastest first.
    pub pareto: Vec<Candidate>,
    /// Why it ended.
    pub stopped: Stopped,
    /// Rounds completed.
    pub rounds: u64,
    /// Over (round, node, outcome, time), in order.
    #[serde(with = "session::hexadecimal")]
    pub digest: Digest,
    /// Of a shard, over the nodes that were dealt: equal for all shards of one search.
    pub dealt: Option<String>,
    /// When nothing fits: what came nearest.
    pub nearest_miss: Option<NearestMiss>,
    /// With [`Options::log`]: what became of the nodes that were not opened, or not to the end.
    pub log: Vec<(Vec<u32>, Fate)>,
    /// Which space was searched with which costs: equal for equal scenarios and options.
    pub space: String,
}

impl Found {
    /// (best - lower bound) / best, 0 when proven; `None` without a plan.
    pub fn gap(&self) -> Option<f64> {
        let best = self.ranked.first()?.value;
        Some(if self.lower_bound_ps >= best {
            0.0
        } else {
            (best - self.lower_bound_ps) as f64 / best as f64
        })
    }
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
    /// No plan of the space is faster, ps.
    pub level_ps: u64,
}

/// What a search is asked before each round: go on, or why it ends.
pub type Stop<'s> = dyn FnMut(&Progress) -> Option<Stopped> + Send + 's;

/// Searches `scenario`. `stop` is asked before each round and ends the search there.
///
/// Returns the same for any number of threads, on any machine, as long as `stop` says nothing.
pub fn search(scenario: &Scenario, options: &Options, stop: &mut Stop<'_>) -> Found {
    let mut watch = |progress: &Progress| stop(progress);
    search_from(scenario, options, None, &mut watch).expect("there is no state to go on from")
}

/// A saved state is of another scenario, or of a search with other options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was saved by a search of another scenario, or with other options")]
pub struct OtherSearch;

/// Like [`search()`], going on from a state that was saved, and handing out its state when `watch` wants it. Stopped and gone
/// on with at any round, it returns what it would have returned in one go.
///
/// # Errors
/// When the state is of another search.
pub fn search_from(
    scenario: &Scenario,
    options: &Options,
    from: Option<Saved>,
    watch: &mut dyn Watch,
) -> Result<Found, OtherSearch> {
    let fabric = Fabric::new(scenario);
    let run = || {
        let kinds = kinds(scenario);
        if options.method == Method::Exhaustive {
            return Ok(crate::exhaustive::search(scenario, &fabric, &kinds, options, &mut |p| watch.stop(p)));
        }
        let tree = Tree::open(scenario, &kinds, true);
        let space = fingerprint(&tree, options);
        if from.as_ref().is_some_and(|saved| saved.space != space) {
            return Err(OtherSearch);
        }
        let mut search = Search::new(&tree, &fabric, options);
        let nodes = from.and_then(|saved| search.restore(saved));
        let stopped = search.run(nodes, &space, watch);
        Ok(search.found(stopped, space))
    };
    match rayon::ThreadPoolBuilder::new().num_threads(options.threads).build() {
        Ok(pool) => pool.install(run),
        Err(_) => run(),
    }
}

/// A digest over the space with its costs and over what a search of it depends on: the number of simulations may differ.
fn fingerprint(tree: &Tree<'_>, options: &Options) -> String {
    let mut digest = tree.digest();
    let (index, of) = options.shard.unwrap_or((0, 0));
    digest.add(u64::from(index), u64::from(of));
    digest.add(options.at.as_ps(), options.top as u64);
    digest.add(options.objective as u64, options.deadline_ps.unwrap_or(u64::MAX));
    digest.add(options.budget.unwrap_or(u64::MAX), u64::from(options.log));
    tree.scenario.cost.node_hour.iter().for_each(|price| digest.add(*price, 0));
    digest.to_string()
}

/// What one thread keeps between plans: memory, and the last shares that it placed.
pub(crate) struct Worker<'t> {
    options: &'t Options,
    simulator: Simulator<'t>,
    last: Option<(Key, Result<Placed<'t>, Rule>)>,
}

/// How a plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Pruned(Rule),
    /// Ended with that value, or cut off.
    Simulated(Option<u64>),
}

/// One plan of a round.
pub(crate) struct Outcome {
    pub(crate) ended: Ended,
    pub(crate) plan: Option<Candidate>,
}

struct Search<'t> {
    tree: &'t Tree<'t>,
    options: &'t Options,
    workers: Vec<Mutex<Worker<'t>>>,
    /// The least time of a plan under each root by what is known without dynamic programs, ps.
    least: Vec<u64>,
    /// Nodes that wait, by bound.
    queue: BTreeMap<(u64, Key), State>,
    /// Nodes that hold more than can be listed, with their bounds.
    stuck: Vec<(u64, Key)>,
    /// What became of nodes, where that is kept.
    log: Option<Vec<(Key, Fate)>>,
    /// Plans simulated before their turn.
    tried: BTreeSet<Key>,
    counts: Counts,
    ranked: BTreeSet<Ranked>,
    pareto: Vec<Candidate>,
    nearest: Option<(i128, usize, u32)>,
    rounds: u64,
    digest: Digest,
    share: Option<Share>,
}

/// Simulates plans of one tree, with the memory of its worker.
pub(crate) fn workers<'t>(
    tree: &'t Tree<'t>,
    fabric: &'t Fabric,
    options: &'t Options,
) -> Vec<Mutex<Worker<'t>>> {
    let new =
        |_| Mutex::new(Worker { options, simulator: Simulator::new(tree.scenario, fabric), last: None });
    (0..rayon::current_num_threads().max(1)).map(new).collect()
}

/// The worker of this thread.
pub(crate) fn with_worker<'t, R>(workers: &[Mutex<Worker<'t>>], f: impl FnOnce(&mut Worker<'t>) -> R) -> R {
    let at = rayon::current_thread_index().unwrap_or(0) % workers.len();
    f(&mut workers[at].lock().unwrap_or_else(PoisonError::into_inner))
}

impl<'t> Worker<'t> {
    /// The placed of a node with shares; `key` may go on with borders.
    pub(crate) fn placed(&mut self, tree: &'t Tree<'t>, key: &[u32]) -> &Result<Placed<'t>, Rule> {
        let root = tree.root(key).expect("a node is below a root");
        let parts = tree.parts(root, key);
        let (counted, head) = (tree.head() + parts.len(), tree.head() + 2 * parts.len());
        if self.last.as_ref().is_none_or(|(of, _)| of[..] != key[..head]) {
            let placed = tree.place(root, &parts, &tree.counts(&parts, key), &key[counted..head]);
            self.last = Some((key[..head].to_vec(), placed));
        }
        match &self.last {
            Some((_, placed)) => placed,
            None => unreachable!("it was just set"),
        }
    }

    /// Simulates the plan of a key, as long as its value may be at most `worst`.
    pub(crate) fn simulate(&mut self, tree: &'t Tree<'t>, key: &[u32], worst: Option<u64>) -> Outcome {
        let pruned = |rule| Outcome { ended: Ended::Pruned(rule), plan: None };
        let head = match self.placed(tree, key) {
            Ok(placed) => tree.head() + 2 * placed.parts.len(),
            Err(rule) => return pruned(*rule),
        };
        let plan = match &self.last {
            Some((_, Ok(placed))) => placed.plan(&key[head..]),
            _ => return pruned(Rule::Devices),
        };
        let Ok(layout) = Layout::new(tree.scenario, &plan) else { return pruned(Rule::Devices) };
        let mut spare = u64::MAX;
        for (needs, has) in memory_needs(tree.scenario, &plan, &layout) {
            match has.0.checked_sub(needs.0) {
                Some(left) => spare = spare.min(left),
                None => return pruned(Rule::Memory),
            }
        }
        let folding = Folding::of(&layout);
        let options = self.options;
        let price = tree.scenario.cost.nodes(&layout);
        let Ok(traffic) = self.simulator.traffic(&plan, &layout, &folding) else {
            return pruned(Rule::TooLarge);
        };
        let cut = Outcome { ended: Ended::Simulated(None), plan: None };
        // The longest that matters: of the one iteration, or of several together.
        let mut longest = worst.map(|worst| match options.objective {
            Objective::Cost => cost::time_for(price, worst.saturating_sub(traffic)),
            _ => worst,
        });
        let budget = options.budget.map(|b| cost::time_for(price, b.saturating_sub(traffic)));
        if options.budget.is_some_and(|b| b < traffic) {
            return cut;
        }
        for limit in [options.deadline_ps, budget].into_iter().flatten() {
            longest = Some(longest.map_or(limit, |l| l.min(limit)));
        }
        let mut run = |at, longest: Option<u64>| {
            let cutoff = longest.map(SimTime::from_ps);
            match self.simulator.run(&plan, &layout, &folding, at, cutoff) {
                // A run that ends at the cut-off ended.
                Ok(outcome) => Ok(outcome.finished.then_some(outcome.end.as_ps())),
                // Stalled for ever on a link that is down: not faster than the best.
                Err(SimulateError::Sim(SimError::Stalled { .. })) => Ok(None),
                Err(_) => Err(Rule::TooLarge),
            }
        };
        let (time_ps, value) = if options.objective == Objective::Robust {
            let part = tree.scenario.replay.options.start / INSTANTS;
            let (mut sum, mut first) = (0u64, 0);
            for i in 0..INSTANTS {
                // The history is in ns.
                let at = SimTime::from_ps((part * i).saturating_mul(1000));
                let left = longest.map(|l| l.saturating_add(1).saturating_mul(INSTANTS).saturating_sub(sum));
                match run(at, left) {
                    Ok(Some(time)) => sum = sum.saturating_add(time),
                    Ok(None) => return cut,
                    Err(rule) => return pruned(rule),
                }
                first = if i == 0 { sum } else { first };
            }
            (first, sum / INSTANTS)
        } else {
            match run(options.at, longest) {
                Ok(Some(time)) => {
                    let value = options.objective.value(price, time);
                    (
                        time,
                        if options.objective == Objective::Cost {
                            value.saturating_add(traffic)
                        } else {
                            value
                        },
                    )
                }
                Ok(None) => return cut,
                Err(rule) => return pruned(rule),
            }
        };
        let cost = cost::for_time(price, time_ps).saturating_add(traffic);
        let plan = Candidate { time_ps, cost, spare_bytes: spare, key: key.to_vec(), plan };
        Outcome { ended: Ended::Simulated(Some(value)), plan: Some(plan) }
    }
}

impl<'t> Search<'t> {
    fn new(tree: &'t Tree<'t>, fabric: &'t Fabric, options: &'t Options) -> Self {
        let mut search = Search {
            tree,
            options,
            workers: workers(tree, fabric, options),
            least: Vec::new(),
            queue: BTreeMap::new(),
            stuck: Vec::new(),
            log: options.log.then(Vec::new),
            tried: BTreeSet::new(),
            counts: Counts::default(),
            ranked: BTreeSet::new(),
            pareto: Vec::new(),
            nearest: None,
            rounds: 0,
            digest: Digest::EMPTY,
            share: None,
        };
        search.counts.considered = tree.considered;
        search.counts.pruned.clone_from(&tree.pruned);
        search.counts.expanded = tree.expanded;
        let bounds = Bounds { tree };
        let least = |root: &Root| bounds.quick(root, &tree.parts(root, &root.key()), 0);
        search.least = tree.roots.par_iter().map(least).collect();
        let node = |(root, least): (&Root, &u64)| {
            let bound = match options.objective {
                Objective::Cost => bounds.cost(root, &tree.parts(root, &root.key()), 0, *least),
                _ => *least,
            };
            ((bound, root.key()), State::default())
        };
        search.queue = tree.roots.par_iter().zip(&search.least).map(node).collect();
        search.counts.considered += tree.roots.len() as u64;
        if let Some(shard) = options.shard {
            search.share_out(Share::new(shard));
        }
        search
    }

    fn bounds(&self) -> Bounds<'t> {
        Bounds { tree: self.tree }
    }

    /// Whether nothing under a node can be better than the best plan.
    fn excluded(&self, bound: u64, key: &Key) -> bool {
        self.ranked.first().is_some_and(|best| (bound, key) > (best.value, &best.key))
    }

    /// No plan of the space is faster than this, as far as the search is.
    fn lower_bound(&self) -> u64 {
        let queued = self.queue.first_key_value().map_or(u64::MAX, |((bound, _), _)| *bound);
        let least = self.stuck.iter().map(|(bound, _)| *bound).fold(queued, u64::min);
        self.ranked.first().map_or(least, |best| least.min(best.value))
    }

    /// Searches from the start, or goes on after so many nodes.
    fn run(&mut self, before: Option<u64>, space: &str, watch: &mut dyn Watch) -> Stopped {
        if before.is_none()
            && let Some(stopped) = self.seed(watch)
        {
            if watch.wants_last_state() {
                watch.state(Self::unseeded(space));
            }
            return stopped;
        }
        let mut nodes = before.unwrap_or(0);
        let most = self.options.max_simulations.saturating_mul(NODES_A_SIMULATION).max(LEAST_NODES);
        loop {
            if watch.wants_state() {
                watch.state(self.save(space, nodes));
            }
            let mut round = Vec::new();
            while round.len() < ROUND {
                let Some(first) = self.queue.first_entry() else { break };
                let (bound, key) = first.key();
                let best = self.ranked.first();
                if best.is_some_and(|best| (*bound, key) > (best.value, &best.key)) {
                    break;
                }
                let ((bound, key), state) = first.remove_entry();
                round.push((bound, key, state));
            }
            let back = |search: &mut Self, round: Vec<(u64, Key, State)>| {
                search.queue.extend(round.into_iter().map(|(bound, key, state)| ((bound, key), state)));
            };
            if round.is_empty() {
                if watch.wants_last_state() {
                    watch.state(self.save(space, nodes));
                }
                return if self.stuck.is_empty() { Stopped::Done } else { Stopped::Simulations };
            }
            if nodes >= most {
                back(self, round);
                if watch.wants_last_state() {
                    watch.state(self.save(space, nodes));
                }
                return Stopped::Simulations;
            }
            nodes += round.len() as u64;
            let lower = round.first().map(|r| r.0);
            if let Some(stopped) = self.ask(lower, watch) {
                back(self, round);
                if watch.wants_last_state() {
                    watch.state(self.save(space, nodes));
                }
                return stopped;
            }
            let probes = self.round(round);
            if let Some(stopped) = self.probe(probes, watch) {
                if watch.wants_last_state() {
                    watch.state(self.save(space, nodes));
                }
                return stopped;
            }
        }
    }

    fn ask(&self, level: Option<u64>, watch: &mut dyn Watch) -> Option<Stopped> {
        let simulated = self.simulated();
        if simulated >= self.options.max_simulations {
            return Some(Stopped::Simulations);
        }
        let best_ps = self.ranked.first().map(|r| r.time_ps);
        let level_ps = level.unwrap_or(0).min(best_ps.unwrap_or(u64::MAX));
        watch.stop(&Progress { rounds: self.rounds, simulated, best_ps, level_ps })
    }

    /// The value of the worst plan remembered, once there are enough.
    fn cutoff(&self) -> Option<u64> {
        let remembered = self.options.top.max(REMEMBERED);
        let worst = self.ranked.last().filter(|_| self.ranked.len() >= remembered);
        worst.map(|r| r.value)
    }

    /// Opens or simulates these; plans that they lead to.
    fn round(&mut self, round: Vec<(u64, Key, State)>) -> Vec<(u64, Key)> {
        let mut probes = Vec::new();
        let cutoff = self.cutoff();
        let this = &*self;
        let steps: Vec<Step> = round
            .par_iter()
            .map(|(bound, key, state)| {
                with_worker(&this.workers, |worker| this.step(worker, *bound, key, state, cutoff))
            })
            .collect();
        for ((bound, key, mut state), step) in round.into_iter().zip(steps) {
            match step {
                Step::Plan(outcome) => self.settle(key, outcome),
                Step::Prune(rule, lacks) => {
                    self.prune(rule);
                    self.log(&key, Fate::Rule(rule));
                    self.note(&key, 1 + rule as u64, 0);
                    if let Some((template, lacks)) = lacks {
                        let micro_batch = self.tree.frames[key[0] as usize].micro_batch;
                        if self.nearest.is_none_or(|(least, ..)| lacks < least) {
                            self.nearest = Some((lacks, template, micro_batch));
                        }
                    }
                }
                Step::Bounded => {
                    self.counts.bounded += 1;
                    // It is above the best time, by however much.
                    let best = self.ranked.first().map_or(bound, |best| best.value);
                    self.log(&key, Fate::Bound(best.max(bound)));
                    self.note(&key, 100, bound);
                }
                Step::Stuck => {
                    self.note(&key, 104, bound);
                    self.stuck.push((bound, key));
                }
                Step::Open { children, again, probe } => {
                    probes.extend(probe);
                    self.note(&key, 103, children.len() as u64);
                    state.opened |= !children.is_empty();
                    for (bound, key, state) in children {
                        if self.tried.contains(&key) {
                            continue;
                        }
                        self.counts.considered += 1;
                        if self.excluded(bound, &key) {
                            self.counts.bounded += 1;
                            self.log(&key, Fate::Bound(bound));
                        } else {
                            self.queue.insert((bound, key), state);
                        }
                    }
                    match again {
                        Some((bound, next)) => {
                            let state = State { opened: state.opened, ..next };
                            self.queue.insert((bound, key), state);
                        }
                        None if state.opened => self.counts.expanded += 1,
                        None => {
                            self.counts.bounded += 1;
                            let best = self.ranked.first().map_or(bound, |best| best.value);
                            self.log(&key, Fate::Bound(best.max(bound)));
                        }
                    }
                }
            }
        }
        self.rounds += 1;
        probes
    }

    fn prune(&mut self, rule: Rule) {
        *self.counts.pruned.entry(rule).or_default() += 1;
    }

    /// Adds what became of a node to the digest.
    fn note(&mut self, key: &[u32], code: u64, time: u64) {
        self.digest.add(self.rounds, key.len() as u64);
        for part in key {
            self.digest.add(u64::from(*part), 0);
        }
        self.digest.add(code, time);
    }

    /// Counts one plan, and ranks it.
    fn settle(&mut self, key: Key, outcome: Outcome) {
        self.log(
            &key,
            match outcome.ended {
                Ended::Pruned(rule) => Fate::Rule(rule),
                Ended::Simulated(time) => Fate::Simulated(time),
            },
        );
        let (code, time) = match outcome.ended {
            Ended::Pruned(rule) => {
                self.prune(rule);
                (1 + rule as u64, 0)
            }
            Ended::Simulated(time) => {
                self.counts.simulated += 1;
                (101 + u64::from(time.is_none()), time.unwrap_or(0))
            }
        };
        self.note(&key, code, time);
        if let (Ended::Simulated(Some(value)), Some(candidate)) = (outcome.ended, outcome.plan) {
            let (time_ps, plan) = (candidate.time_ps, candidate.plan.clone());
            choose(&mut self.pareto, candidate);
            self.ranked.insert(Ranked { value, time_ps, key, plan });
            while self.ranked.len() > self.options.top.max(REMEMBERED) {
                self.ranked.pop_last();
            }
        }
    }

    fn found(mut self, stopped: Stopped, space: String) -> Found {
        let lower_bound_ps = match self.ranked.first() {
            Some(_) => self.lower_bound(),
            // Without a feasible plan nothing is known of its time but that of what is left.
            None if stopped == Stopped::Done => u64::MAX,
            None => self.lower_bound(),
        };
        let best = self.ranked.first().map(|best| (best.value, best.key.clone()));
        let queue = std::mem::take(&mut self.queue);
        for ((bound, key), state) in &queue {
            self.log(key, if state.opened { Fate::Rest(*bound) } else { Fate::Bound(*bound) });
            let excluded = best.as_ref().is_some_and(|best| (*bound, key) > (best.0, &best.1));
            match (excluded, state.opened) {
                (false, _) => self.counts.open += 1,
                (true, true) => self.counts.expanded += 1,
                (true, false) => self.counts.bounded += 1,
            }
        }
        for (bound, key) in std::mem::take(&mut self.stuck) {
            self.counts.open += 1;
            self.log(&key, Fate::Bound(bound));
        }
        // Where something fits, or may, nobody asks.
        let nearest = match self.ranked.is_empty() && stopped == Stopped::Done {
            true => {
                let thrown = self.tree.thrown_out().into_iter();
                let lacks = thrown.filter_map(|t| Some((t.lacks?, t.template, t.micro_batch)));
                self.nearest.into_iter().chain(lacks).min()
            }
            false => None,
        };
        let nearest_miss = nearest.map(|(lacks, template, micro_batch)| NearestMiss {
            lacking_bytes: u64::try_from(lacks).unwrap_or(u64::MAX),
            pipeline: self.tree.words(template, micro_batch),
        });
        Found {
            ranked: self.ranked.into_iter().take(self.options.top).collect(),
            counts: self.counts,
            plans_represented: self.tree.plans_represented(),
            lower_bound_ps,
            pareto: self.pareto,
            stopped,
            rounds: self.rounds,
            digest: self.digest,
            dealt: self.share.map(|share| share.dealt.to_string()),
            nearest_miss,
            log: self.log.unwrap_or_default(),
            space,
        }
    }
}
