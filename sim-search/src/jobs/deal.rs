//! The search for a deal. See the head of [`super`].

use super::Job;
use super::part::Part;
use super::work::Work;
use crate::search::{Counts, Method, Options, Progress, Stop, Stopped, search};
use crate::tree::binomial;
use rayon::prelude::*;
use sim_core::{Digest, SimTime};
use sim_models::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks into which the nodes of a group are put together at most.
const BLOCKS: u32 = 16;

/// Deals opened or searched in one round.
const ROUND: usize = 8;

/// Simulations of the first search of a job on some nodes, and by how much more each further one has.
const FIRST: u64 = 50;
const MORE: u64 = 6;

/// Moves that may fail to help in a row.
const TRIED: usize = 4;

/// Plans of a job that are tried beside those of the others, and how many of them together.
const PLANS: usize = 8;
const TOGETHER: usize = 32;

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
    /// The longest of iterations x time, ps.
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
    known: BTreeMap<Own, Known>,
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
        Dealer {
            jobs,
            options,
            together,
            work: Work::new(jobs),
            dealt_to: (0..jobs.len()).filter(|j| jobs[*j].nodes.is_none()).collect(),
            fixed: jobs.iter().map(|j| j.nodes.clone()).collect(),
            nodes,
            block,
            blocks,
            known: BTreeMap::new(),
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
        }
    }

    fn run(mut self, stop: &mut Stop<'_>) -> Dealt {
        let exhaustive = self.options.method == Method::Exhaustive;
        if !exhaustive {
            let mut first: BTreeSet<Key> = BTreeSet::new();
            first.extend(self.shared_out(&|_| 1.0));
            first.extend(self.shared_out(&|j| self.work.need(j)));
            let first: Vec<Key> = first.into_iter().collect();
            self.look(&first, false);
            let even = self.shared_out(&|_| 1.0);
            for key in &first {
                self.counts.considered += 1;
                let value = self.settle(key);
                if Some(key) == even.as_ref() {
                    self.even = value;
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
            self.round(round, exhaustive);
        };
        let left: Vec<(u128, Key)> =
            std::mem::take(&mut self.queue).into_iter().chain(std::mem::take(&mut self.stuck)).collect();
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

    /// Moves a block to the job that ends last, alone or for one of another group, from whichever job that is likely to help
    /// most, as long as it does.
    fn climb(&mut self, stop: &mut Stop<'_>) {
        let mut tried = 0;
        while tried < TRIED
            && self.simulations < self.options.max_simulations
            && stop(&self.progress()).is_none()
        {
            let Some((best, key)) = &self.best else { return };
            let (value, next) = (best.value, self.moves(key, &best.times_ps));
            let Some(next) = next.into_iter().find(|(_, key)| !self.settled.contains(key)) else { return };
            self.counts.considered += 1;
            self.look(std::slice::from_ref(&next.1), false);
            let settled = self.settle(&next.1);
            tried = if settled.is_some_and(|new| new < value) { 0 } else { tried + 1 };
            self.rounds += 1;
        }
    }

    /// Deals that differ from this one by a block or two of the job that ends last, with what they are likely worth, best first.
    fn moves(&self, key: &Key, times: &[u64]) -> Vec<(u128, Key)> {
        let groups = self.blocks.len();
        let worth = |j: usize| u128::from(times[j]) * u128::from(self.jobs[j].iterations);
        let Some(last) = (0..self.dealt_to.len()).max_by_key(|i| worth(self.dealt_to[*i])) else {
            return Vec::new();
        };
        // As its work says, from what it took.
        let likely = |new: &[u32]| {
            let of = |(i, j): (usize, &usize)| {
                let own = i * groups..(i + 1) * groups;
                let least = |key: &[u32]| self.work.least(&[*j], &self.counts(&key[own.clone()]));
                let (before, after) = (least(key).max(1), least(new));
                if after == u128::MAX {
                    after
                } else {
                    (worth(*j) as f64 * after as f64 / before as f64) as u128
                }
            };
            self.dealt_to.iter().enumerate().map(of).max().unwrap_or(u128::MAX)
        };
        let mut list = Vec::new();
        for giver in (0..self.dealt_to.len()).filter(|i| *i != last) {
            for g in 0..groups {
                for back in std::iter::once(None).chain((0..groups).filter(|b| *b != g).map(Some)) {
                    let mut new = key.clone();
                    let mut pass = |from: usize, to: usize, g: usize| {
                        let has = new[from * groups + g] > 0;
                        if has {
                            new[from * groups + g] -= 1;
                            new[to * groups + g] += 1;
                        }
                        has
                    };
                    if pass(giver, last, g) && back.is_none_or(|b| pass(last, giver, b)) {
                        list.push((likely(&new), new));
                    }
                }
            }
        }
        list.retain(|(value, key)| {
            *value < u128::MAX && key.chunks(groups).all(|own| own.iter().any(|o| *o > 0))
        });
        list.sort();
        list
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

    /// Opens partial deals, and searches and simulates whole ones.
    fn round(&mut self, round: Vec<(u128, Key)>, exhaustive: bool) {
        let whole = self.dealt_to.len() * self.blocks.len();
        let mut deals = Vec::new();
        for (bound, key) in round {
            // More may be known of it by now.
            let better = self.bound(&key).max(bound);
            if key.len() < whole {
                self.counts.expanded += 1;
                for child in self.children(&key) {
                    let bound = self.bound(&child).max(better);
                    if !self.settled.contains(&child) {
                        self.counts.considered += 1;
                    }
                    self.keep(bound, child, exhaustive);
                }
            } else if better > bound && !exhaustive {
                self.keep(better, key, exhaustive);
            } else {
                deals.push(key);
            }
        }
        self.look(&deals, true);
        for key in deals {
            self.settle(&key);
            let bound = self.bound(&key);
            if exhaustive || self.excluded(bound) {
                continue;
            }
            if self.owns(&key).iter().any(|own| self.known.get(own).is_some_and(|known| !known.ended)) {
                self.queue.insert((bound, key));
            } else {
                self.stuck.push((bound, key));
            }
        }
        self.rounds += 1;
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

    /// The ways to deal to the next job; the last one gets what is left.
    fn children(&self, key: &Key) -> Vec<Key> {
        let left = self.left(key);
        let jobs = self.dealt_to.len() - key.len() / self.blocks.len();
        if jobs == 1 {
            return if left.iter().any(|l| *l > 0) { vec![[&key[..], &left].concat()] } else { Vec::new() };
        }
        let mut list = Vec::new();
        let mut own = vec![0; left.len()];
        loop {
            // Every job has a block at least.
            let rest: u32 = left.iter().zip(&own).map(|(l, o)| l - o).sum();
            if own.iter().any(|o| *o > 0) && rest >= jobs as u32 - 1 {
                list.push([&key[..], &own].concat());
            }
            let Some(g) = (0..left.len()).rev().find(|g| own[*g] < left[*g]) else { return list };
            own[g] += 1;
            own[g + 1..].fill(0);
        }
    }

    /// Blocks of each group that are not dealt yet.
    fn left(&self, key: &[u32]) -> Vec<u32> {
        let mut left = self.blocks.clone();
        for own in key.chunks(left.len()) {
            left.iter_mut().zip(own).for_each(|(l, o)| *l -= o);
        }
        left
    }

    /// Each job with its blocks, as far as they are dealt.
    fn owns(&self, key: &[u32]) -> Vec<Own> {
        let fixed = (0..self.jobs.len()).filter(|j| self.fixed[*j].is_some()).map(|j| (j, Vec::new()));
        let dealt = self.dealt_to.iter().zip(key.chunks(self.blocks.len()));
        fixed.chain(dealt.map(|(j, own)| (*j, own.to_vec()))).collect()
    }

    /// No deal that begins like this is worth less.
    fn bound(&self, key: &[u32]) -> u128 {
        let of = |(j, own): &Own| {
            let lower = u128::from(self.lower(*j, own));
            lower.saturating_mul(self.jobs[*j].iterations.into())
        };
        let decided = self.owns(key).iter().map(of).max().unwrap_or(0);
        let rest = &self.dealt_to[(key.len() / self.blocks.len()).min(self.dealt_to.len())..];
        let left = self.left(key);
        let apart = rest.iter().map(|j| of(&(*j, left.clone()))).max().unwrap_or(0);
        let together = if rest.is_empty() { 0 } else { self.work.least(rest, &self.counts(&left)) };
        decided.max(apart).max(together)
    }

    /// No iteration of job `j` on so many blocks is shorter, ps.
    fn lower(&self, j: usize, own: &[u32]) -> u64 {
        let counts = match &self.fixed[j] {
            Some(nodes) => nodes.iter().map(|n| n.len() as u32).collect(),
            None => self.counts(own),
        };
        let alone = self.work.least(&[j], &counts) / u128::from(self.jobs[j].iterations);
        let known = self.known.get(&(j, own.to_vec())).map_or(0, |known| known.lower);
        u64::try_from(alone).unwrap_or(u64::MAX).max(known)
    }

    /// Nodes that so many blocks are at most.
    fn counts(&self, blocks: &[u32]) -> Vec<u32> {
        let of = |((b, size), nodes): ((&u32, &u32), &Vec<u32>)| (b * size).min(nodes.len() as u32);
        blocks.iter().zip(&self.block).zip(&self.nodes).map(of).collect()
    }

    /// The nodes of every job, by group.
    fn shares(&self, key: &[u32]) -> Vec<Vec<Vec<u32>>> {
        let groups = self.blocks.len();
        let mut shares: Vec<Vec<Vec<u32>>> =
            self.fixed.iter().map(|own| own.clone().unwrap_or_else(|| vec![Vec::new(); groups])).collect();
        let mut next = vec![0usize; groups];
        for (j, own) in self.dealt_to.iter().zip(key.chunks(groups)) {
            for g in 0..groups {
                let end = (next[g] + (own[g] * self.block[g]) as usize).min(self.nodes[g].len());
                shares[*j][g] = self.nodes[g][next[g]..end].to_vec();
                next[g] = end;
            }
        }
        shares
    }

    /// The blocks of each group shared out in proportion to `weight`; `None` where a job would get none.
    fn shared_out(&self, weight: &dyn Fn(usize) -> f64) -> Option<Key> {
        let groups = self.blocks.len();
        let all: f64 = self.dealt_to.iter().map(|j| weight(*j)).sum();
        let mut key = vec![0; self.dealt_to.len() * groups];
        for (g, blocks) in self.blocks.iter().enumerate() {
            let (mut given, mut sum) = (0, 0.0);
            for (i, j) in self.dealt_to.iter().enumerate() {
                sum += weight(*j);
                let last = i + 1 == self.dealt_to.len();
                let upto = if last { *blocks } else { (sum / all * f64::from(*blocks) + 0.5) as u32 };
                let upto = upto.clamp(given, *blocks);
                key[i * groups + g] = upto - given;
                given = upto;
            }
        }
        key.chunks(groups).all(|own| own.iter().any(|o| *o > 0)).then_some(key)
    }

    /// Searches the jobs of these deals on their nodes: for the first time, or if `longer`, for longer than the last time.
    fn look(&mut self, deals: &[Key], longer: bool) {
        let mut wanted: BTreeMap<Own, Vec<Vec<u32>>> = BTreeMap::new();
        for key in deals {
            let shares = self.shares(key);
            for own in self.owns(key) {
                if self.known.get(&own).is_none_or(|known| longer && !known.ended) {
                    let nodes = shares[own.0].clone();
                    wanted.entry(own).or_insert(nodes);
                }
            }
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        let this = &*self;
        let found: Vec<Known> = wanted.par_iter().map(|(own, nodes)| this.one(own, nodes)).collect();
        for ((id, _), known) in wanted.into_iter().zip(found) {
            self.searches += 1;
            self.simulations += known.simulated;
            self.known.insert(id, known);
        }
    }

    /// Searches one job on its nodes.
    fn one(&self, own: &Own, nodes: &[Vec<u32>]) -> Known {
        let part = Part::new(&self.jobs[own.0].scenario, nodes);
        let exhaustive = self.options.method == Method::Exhaustive;
        let before = self.known.get(own);
        let allowed = match before {
            _ if exhaustive => u64::MAX,
            Some(known) => known.allowed.saturating_mul(MORE),
            None => FIRST,
        };
        let options = Options {
            threads: 1,
            max_simulations: allowed,
            top: PLANS,
            at: self.options.at,
            method: self.options.method,
            ..Options::default()
        };
        let found = search(&part.scenario, &options, &mut |_| None);
        // Kept as plans on the part: the same blocks may lie elsewhere in another deal.
        let plans = found.ranked.iter().map(|r| (r.time_ps, r.plan.clone())).collect();
        let ended = found.stopped == Stopped::Done || allowed >= self.options.max_simulations;
        Known { lower: found.lower_bound_ps, plans, allowed, ended, simulated: found.counts.simulated }
    }

    /// Simulates the plans of a deal beside each other, best first, and keeps the best deal; what this one is worth.
    fn settle(&mut self, key: &Key) -> Option<u128> {
        let shares = self.shares(key);
        let mut owns = self.owns(key);
        owns.sort();
        let lists: Vec<&Vec<(u64, Plan)>> =
            owns.iter().map(|own| self.known.get(own).map(|known| &known.plans)).collect::<Option<_>>()?;
        let parts: Vec<Part> =
            self.jobs.iter().zip(&shares).map(|(job, nodes)| Part::new(&job.scenario, nodes)).collect();
        let mut best: Option<Deal> = None;
        let mut tried = 0;
        for (alone, choice) in products(&lists, self.jobs) {
            if best.as_ref().is_some_and(|b| alone >= b.value) || tried == TOGETHER {
                break;
            }
            tried += 1;
            let in_whole = |j: usize| parts[j].in_whole(&lists[j][choice[j]].1);
            let plans: Vec<Plan> = (0..parts.len()).map(in_whole).collect();
            let Some(times) = (self.together)(&plans) else { continue };
            let value = times.iter().zip(self.jobs).map(|(t, j)| u128::from(*t) * u128::from(j.iterations));
            let value = value.max().unwrap_or(0);
            if best.as_ref().is_none_or(|b| value < b.value) {
                best = Some(Deal { nodes: shares.clone(), plans, times_ps: times, value });
            }
        }
        self.simulations += tried as u64;
        if self.settled.insert(key.clone()) {
            self.counts.simulated += 1;
        }
        self.digest.add(self.rounds, key.len() as u64);
        key.iter().for_each(|part| self.digest.add(u64::from(*part), 0));
        let deal = best?;
        let value = deal.value;
        self.digest.add((value >> 64) as u64, value as u64);
        if self.best.as_ref().is_none_or(|(b, k)| (value, key) < (b.value, k)) {
            self.best = Some((deal, key.clone()));
        }
        Some(value)
    }
}

/// One plan of each job, in the order of what they are worth alone; equal ones in that of their numbers.
fn products(lists: &[&Vec<(u64, Plan)>], jobs: &[Job]) -> Vec<(u128, Vec<usize>)> {
    let mut all = vec![(0u128, Vec::new())];
    for (list, job) in lists.iter().zip(jobs) {
        let with = |(value, path): &(u128, Vec<usize>)| -> Vec<(u128, Vec<usize>)> {
            let one = |(i, (time, _)): (usize, &(u64, Plan))| {
                let own = u128::from(*time) * u128::from(job.iterations);
                ((*value).max(own), [&path[..], &[i]].concat())
            };
            list.iter().enumerate().map(one).collect()
        };
        all = all.iter().flat_map(with).collect();
        all.sort();
        // Only the first are ever tried.
        all.truncate(TOGETHER * lists.len());
    }
    all
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
