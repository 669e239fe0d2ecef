//! The search for a deal. See the head of [`super`].

mod bounds;
mod climb;
mod rest;
mod settle;

use super::Job;
use super::work::Work;
use crate::search::{Counts, Method, Progress, Stop, Stopped};
use crate::tree::binomial;
use rest::Rest;
use sim_core::{Digest, SimTime};
use sim_models::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks into which the nodes of a group are put together at most.
const BLOCKS: u32 = 16;

/// Deals opened or searched in one round.
const ROUND: usize = 8;

/// How to deal.
#[derive(Clone, Copy, Debug)]
pub struct Dealing {
    /// Simulations, all jobs and nodes together, after which the search ends with its round.
    pub max_simulations: u64,
    /// The instant of the traces at which the jobs begin.
    pub at: SimTime,
    /// How each job is searched; exhaustive: every deal too.
    pub method: Method,
    /// Worker threads; 0 for as many as there are cores. The answer is the same for any number.
    pub threads: usize,
}

/// Nodes and a plan for every job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deal {
    /// By job, by group: its nodes, in order.
    pub nodes: Vec<Vec<Vec<u32>>>,
    /// By job: its plan on the whole cluster.
    pub plans: Vec<Plan>,
    /// By job: one iteration beside the others, ps.
    pub times_ps: Vec<u64>,
    /// The sum over the jobs of [`Job::worth`], ps.
    pub value: u128,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Dealt {
    /// The best deal; `None` when none fits.
    pub best: Option<Deal>,
    /// What the nodes shared out evenly are worth, where every job fits so.
    pub even: Option<u128>,
    /// No deal is worth less.
    pub lower: u128,
    /// Ways to deal the nodes.
    pub deals: u128,
    /// What became of deals, partial and whole: `considered` is the sum of the others.
    pub counts: Counts,
    /// Searches of one job on some nodes.
    pub searches: u64,
    /// Simulations in them, and of jobs together.
    pub simulations: u64,
    /// Why it ended.
    pub stopped: Stopped,
    /// Rounds completed.
    pub rounds: u64,
    /// Over (round, deal, value), in order.
    pub digest: Digest,
}

impl Dealt {
    /// (best - lower bound) / best, 0 when proven; `None` without a deal.
    pub fn gap(&self) -> Option<f64> {
        let best = self.best.as_ref()?.value;
        Some(if self.lower >= best { 0.0 } else { (best - self.lower) as f64 / best as f64 })
    }
}

/// Runs plans of all jobs beside each other: the time of each, ps; `None` when one does not fit or does not end.
pub(super) type Together<'f> = dyn Fn(&[Plan]) -> Option<Vec<u64>> + Sync + 'f;

/// Blocks of each group, job by job of those that are dealt to; shorter when not all of them have theirs yet.
type Key = Vec<u32>;

/// Some nodes of a job: how many blocks of each group; none where its nodes are its own.
type Own = (usize, Key);

/// What is known of a job on some nodes.
struct Known {
    /// No plan is faster, ps.
    lower: u64,
    /// Plans on those nodes with their times alone, best first.
    plans: Vec<(u64, Plan)>,
    /// Simulations that were allowed.
    allowed: u64,
    ended: bool,
    simulated: u64,
}

/// Searches for the best deal of `jobs`, at least one. `stop` is asked before each round.
///
/// Returns the same for any number of threads, on any machine, as long as `stop` says nothing.
pub fn deal(jobs: &[Job], options: &Dealing, together: &Together<'_>, stop: &mut Stop<'_>) -> Dealt {
    let mut run = || Dealer::new(jobs, options, together).run(stop);
    match rayon::ThreadPoolBuilder::new().num_threads(options.threads).build() {
        Ok(pool) => pool.install(run),
        Err(_) => run(),
    }
}

struct Dealer<'a> {
    jobs: &'a [Job],
    options: &'a Dealing,
    together: &'a Together<'a>,
    work: Work,
    /// Jobs that nodes are dealt to, and by job the nodes of the others, by group.
    dealt_to: Vec<usize>,
    fixed: Vec<Option<Vec<Vec<u32>>>>,
    /// Nodes of each group that are dealt, how many of them are a block, and blocks.
    nodes: Vec<Vec<u32>>,
    block: Vec<u32>,
    blocks: Vec<u32>,
    /// By job, the first that has the same model and training.
    like: Vec<usize>,
    /// By such a job and its nodes.
    known: BTreeMap<Own, Known>,
    /// What jobs are worth at least on what is left for them; `None` where there are too many ways to share it out.
    rest: Option<Rest>,
    queue: BTreeSet<(u128, Key)>,
    /// Deals that cannot be looked at more closely, with their bounds.
    stuck: Vec<(u128, Key)>,
    best: Option<(Deal, Key)>,
    even: Option<u128>,
    /// Deals whose jobs were simulated together.
    settled: BTreeSet<Key>,
    counts: Counts,
    searches: u64,
    simulations: u64,
    rounds: u64,
    digest: Digest,
}

impl<'a> Dealer<'a> {
    fn new(jobs: &'a [Job], options: &'a Dealing, together: &'a Together<'a>) -> Dealer<'a> {
        let groups = jobs[0].scenario.groups.iter().enumerate();
        let taken =
            |g: usize, n: &u32| jobs.iter().filter_map(|j| j.nodes.as_ref()).any(|own| own[g].contains(n));
        let nodes: Vec<Vec<u32>> =
            groups.map(|(g, group)| (0..group.nodes).filter(|n| !taken(g, n)).collect()).collect();
        let count = |list: &Vec<u32>| list.len() as u32;
        let block: Vec<u32> = nodes.iter().map(|n| count(n).div_ceil(BLOCKS).max(1)).collect();
        let blocks = nodes.iter().zip(&block).map(|(n, b)| count(n).div_ceil(*b)).collect();
        let same = |a: &Job, b: &Job| {
            (&a.scenario.model, &a.scenario.training) == (&b.scenario.model, &b.scenario.training)
        };
        let first = |job: &Job| jobs.iter().position(|other| other.nodes.is_none() && same(other, job));
        let like = jobs
            .iter()
            .enumerate()
            .map(|(j, job)| if job.nodes.is_none() { first(job).unwrap_or(j) } else { j });
        let mut dealer = Dealer {
            jobs,
            options,
            together,
            work: Work::new(jobs),
            dealt_to: (0..jobs.len()).filter(|j| jobs[*j].nodes.is_none()).collect(),
            fixed: jobs.iter().map(|j| j.nodes.clone()).collect(),
            nodes,
            block,
            blocks,
            like: like.collect(),
            known: BTreeMap::new(),
            rest: None,
            queue: BTreeSet::new(),
            stuck: Vec::new(),
            best: None,
            even: None,
            settled: BTreeSet::new(),
            counts: Counts { considered: 1, ..Counts::default() },
            searches: 0,
            simulations: 0,
            rounds: 0,
            digest: Digest::EMPTY,
        };
        dealer.rest = dealer.table();
        dealer
    }

    fn run(mut self, stop: &mut Stop<'_>) -> Dealt {
        let exhaustive = self.options.method == Method::Exhaustive;
        if !exhaustive {
            let even = self.shared_out(&|_| 1.0);
            // The shares with which the sum of weight x work over share is least.
            let by_work = self.shared_out(&|j| (self.work.need(j) * self.jobs[j].weight as f64).sqrt());
            for key in [even.clone(), by_work, self.each_in_one_group()].into_iter().flatten() {
                // The first is looked at whatever time it takes.
                let stop = self.best.is_some().then_some(&mut *stop);
                if self.settled.contains(&key) || self.look(std::slice::from_ref(&key), stop).is_some() {
                    continue;
                }
                self.counts.considered += 1;
                let settled = self.settle(&key, false);
                if Some(&key) == even.as_ref() {
                    self.even = settled.map(|(value, _)| value);
                }
            }
            self.rounds += 1;
            self.climb(stop);
        }
        self.queue.insert((self.bound(&[]), Vec::new()));
        let stopped = loop {
            let limit = (self.simulations >= self.options.max_simulations).then_some(Stopped::Simulations);
            if let Some(stopped) = limit.or_else(|| stop(&self.progress())) {
                break stopped;
            }
            let round: Vec<(u128, Key)> = std::iter::from_fn(|| self.next()).take(ROUND).collect();
            if round.is_empty() {
                break if self.stuck.is_empty() { Stopped::Done } else { Stopped::Simulations };
            }
            if let Some(stopped) = self.round(round, exhaustive, stop) {
                break stopped;
            }
        };
        let left = std::mem::take(&mut self.queue).into_iter().chain(std::mem::take(&mut self.stuck));
        let left: Vec<(u128, Key)> = left.map(|(bound, key)| (self.bound(&key).max(bound), key)).collect();
        for (bound, key) in &left {
            match (self.settled.contains(key), self.excluded(*bound)) {
                (true, _) => {}
                (false, true) => self.counts.bounded += 1,
                (false, false) => self.counts.open += 1,
            }
        }
        let least = left.iter().map(|(bound, _)| *bound).min().unwrap_or(u128::MAX);
        let best = self.best.map(|(deal, _)| deal);
        Dealt {
            lower: best.as_ref().map_or(least, |b| b.value.min(least)),
            best,
            even: self.even,
            deals: deals(&self.blocks, self.dealt_to.len() as u32),
            counts: self.counts,
            searches: self.searches,
            simulations: self.simulations,
            stopped,
            rounds: self.rounds,
            digest: self.digest,
        }
    }

    fn progress(&self) -> Progress {
        let ps = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        let best_ps = self.best.as_ref().map(|(best, _)| ps(best.value));
        let level_ps = self.queue.first().map_or(0, |(bound, _)| ps(*bound));
        Progress { rounds: self.rounds, simulated: self.simulations, best_ps, level_ps }
    }

    /// The node with the least bound, unless none can be better than the best deal.
    fn next(&mut self) -> Option<(u128, Key)> {
        let first = self.queue.first()?;
        let exhaustive = self.options.method == Method::Exhaustive;
        if !exhaustive && self.best.as_ref().is_some_and(|(best, _)| first.0 >= best.value) {
            return None;
        }
        self.queue.pop_first()
    }

    /// Opens partial deals, searches the jobs of whole ones, one of each, and simulates those whose jobs are all known; whether
    /// it was stopped.
    fn round(&mut self, round: Vec<(u128, Key)>, exhaustive: bool, stop: &mut Stop<'_>) -> Option<Stopped> {
        let whole = self.dealt_to.len() * self.blocks.len();
        let mut deals = Vec::new();
        for (bound, key) in round {
            // More may be known of it by now.
            let better = self.bound(&key).max(bound);
            if better > bound && !exhaustive {
                self.keep(better, key, exhaustive);
            } else if key.len() < whole {
                self.counts.expanded += 1;
                for child in self.children(&key) {
                    let bound = self.bound(&child).max(better);
                    if !self.settled.contains(&child) {
                        self.counts.considered += 1;
                    }
                    self.keep(bound, child, exhaustive);
                }
            } else {
                deals.push(key);
            }
        }
        let stopped = match exhaustive {
            true => self.look(&deals, Some(stop)),
            false => self.look_closer(&deals, stop),
        };
        if stopped.is_some() {
            let back: Vec<(u128, Key)> = deals.into_iter().map(|key| (self.bound(&key), key)).collect();
            self.queue.extend(back);
            return stopped;
        }
        for key in deals {
            let known = self.owns(&key).iter().all(|own| self.known(own).is_some());
            if exhaustive || (known && !self.excluded(self.bound(&key))) {
                self.settle(&key, !exhaustive);
            }
            let bound = self.bound(&key);
            if exhaustive {
                continue;
            }
            if self.excluded(bound) {
                self.counts.bounded += u64::from(!self.settled.contains(&key));
            } else if self.owns(&key).iter().any(|own| self.known(own).is_none_or(|known| !known.ended)) {
                self.queue.insert((bound, key));
            } else {
                self.stuck.push((bound, key));
            }
        }
        self.rounds += 1;
        None
    }

    /// Keeps a deal for later, unless it cannot be better than the best.
    fn keep(&mut self, bound: u128, key: Key, exhaustive: bool) {
        if exhaustive || !self.excluded(bound) {
            self.queue.insert((bound, key));
        } else if !self.settled.contains(&key) {
            self.counts.bounded += 1;
        }
    }

    fn excluded(&self, bound: u128) -> bool {
        bound == u128::MAX || self.best.as_ref().is_some_and(|(best, _)| bound >= best.value)
    }
}

/// Ways to deal so many blocks of each group to so many jobs, each of which gets one at least.
fn deals(blocks: &[u32], jobs: u32) -> u128 {
    if jobs == 0 {
        return 1;
    }
    // Those in which `k` jobs at least get none, in and out in turn.
    let mut sums = [0u128; 2];
    for k in 0..jobs {
        let left = jobs - k;
        let ways = blocks.iter().map(|b| binomial(b + left - 1, left - 1)).fold(1, u128::saturating_mul);
        let sum = &mut sums[(k % 2) as usize];
        *sum = sum.saturating_add(binomial(jobs, k).saturating_mul(ways));
    }
    sums[0].saturating_sub(sums[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_deal_are_counted_without_jobs_that_get_nothing() {
        // 4 blocks to 2 jobs: 1 + 3, 2 + 2, 3 + 1.
        assert_eq!(deals(&[4], 2), 3);
        // Of 3 x 3 ways, those with everything on one side are two fewer.
        assert_eq!(deals(&[2, 2], 2), 7);
        assert_eq!(deals(&[1], 2), 0);
        assert_eq!(deals(&[3], 3), 1);
    }
}
