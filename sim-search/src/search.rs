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
mod found;
mod near;
mod options;
mod seed;
mod session;
mod settle;
mod shard;
mod worker;

pub(crate) use bounds::Bounds;
pub(crate) use found::choose;
pub use found::{Candidate, Counts, Found, NearestMiss, Progress, Ranked, Stop, Stopped};
pub use options::{Method, Objective, Options};
pub use session::{Fate, Saved, Watch, merge};
pub(crate) use worker::{Ended, Outcome, Worker, with_worker, workers};

use crate::families::{Rejected, rejected};
use crate::space::kinds;
use crate::tree::{Key, Root, Tree};
use expand::State;
use rayon::prelude::*;
use shard::Share;
use sim_core::Digest;
use sim_models::lower::Fabric;
use sim_models::scenario::Scenario;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Nodes taken in one round. Fixed, so that the answer does not depend on threads.
const ROUND: usize = 64;

/// Plans that are remembered at least, however few are ranked.
const REMEMBERED: usize = 8;

/// Searches `scenario`. `stop` is asked before each round and ends the search there.
///
/// Returns the same for any number of threads, on any machine, as long as `stop` says nothing.
pub fn search(scenario: &Scenario, options: &Options, stop: &mut Stop<'_>) -> Found {
    let mut watch = |progress: &Progress| stop(progress);
    search_from(scenario, options, None, &mut watch).expect("there is no state to go on from")
}

/// Why a search does not go on from a saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStart {
    /// It is of another scenario, or of a search with other options.
    #[error("it was saved by a search of another scenario, or with other options")]
    OtherSearch,
    /// It does not say what was saved.
    #[error("it was changed since it was saved")]
    Changed,
}

/// Like [`search()`], going on from a state that was saved, and handing out its state when `watch` wants it. Stopped and gone
/// on with at any round, it returns what it would have returned in one go.
///
/// # Errors
/// When the state is of another search, or is not as it was saved.
pub fn search_from(
    scenario: &Scenario,
    options: &Options,
    from: Option<Saved>,
    watch: &mut dyn Watch,
) -> Result<Found, NoStart> {
    run(scenario, options, from, watch, |found, _| found)
}

/// Like [`search_from`], with what became of every plan, where branch and bound kept its log. It is read off the tree that was
/// searched, which is opened once.
///
/// # Errors
/// Those of [`search_from`].
pub fn search_explained(
    scenario: &Scenario,
    options: &Options,
    from: Option<Saved>,
    watch: &mut dyn Watch,
) -> Result<(Found, Option<Rejected>), NoStart> {
    run(scenario, options, from, watch, |found, tree| {
        let rejected = tree.filter(|_| options.log).map(|tree| rejected(tree, &found));
        (found, rejected)
    })
}

/// A search, and what `then` makes of what it found and of the tree that it searched.
fn run<T: Send>(
    scenario: &Scenario,
    options: &Options,
    mut from: Option<Saved>,
    watch: &mut dyn Watch,
    then: impl FnOnce(Found, Option<&Tree<'_>>) -> T + Send,
) -> Result<T, NoStart> {
    let fabric = Fabric::new(scenario);
    let run = || {
        let kinds = kinds(scenario);
        if options.method == Method::Exhaustive {
            let found = crate::exhaustive::search(scenario, &fabric, &kinds, options, &mut |p| watch.stop(p));
            return Ok(then(found, None));
        }
        let tree = Tree::open(scenario, &kinds, true);
        let space = fingerprint(&tree, options);
        if from.as_ref().is_some_and(|saved| saved.space != space) {
            return Err(NoStart::OtherSearch);
        }
        if from.as_mut().is_some_and(|saved| !saved.is_whole()) {
            return Err(NoStart::Changed);
        }
        let mut search = Search::new(&tree, &fabric, options);
        let nodes = from.and_then(|saved| search.restore(saved));
        let stopped = search.run(nodes, &space, watch);
        Ok(then(search.found(stopped, space), Some(&tree)))
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

/// A search under way.
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
        let most = self.options.most_nodes();
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
}
