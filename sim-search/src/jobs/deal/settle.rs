//! A deal settled: its jobs searched each on its nodes, and simulated beside each other.

use super::{Deal, Dealer, Key, Known, Own};
use crate::jobs::Job;
use crate::jobs::part::Part;
use crate::search::{Method, Options, Stopped, search};
use rayon::prelude::*;
use sim_models::plan::Plan;
use std::collections::BTreeMap;

/// Simulations of the first search of a job on some nodes, and by how much more each further one has.
const FIRST: u64 = 50;
const MORE: u64 = 6;

/// Plans of a job that are tried beside those of the others, and how many of them together.
const PLANS: usize = 8;
const TOGETHER: usize = 32;

impl Dealer<'_> {
    /// Searches the jobs of these deals on their nodes: for the first time, or if `longer`, for longer than the last time.
    pub(super) fn look(&mut self, deals: &[Key], longer: bool) {
        let mut wanted: BTreeMap<Own, Vec<Vec<u32>>> = BTreeMap::new();
        for key in deals {
            let shares = self.shares(key);
            for own in self.owns(key) {
                if self.known(&own).is_none_or(|known| longer && !known.ended) {
                    wanted.entry(self.first_like(&own)).or_insert_with(|| shares[own.0].clone());
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
        self.rest = self.table();
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

    /// Simulates the plans of a deal beside each other, best first, and keeps the best deal; what its jobs are worth, the most
    /// first, and their times.
    pub(super) fn settle(&mut self, key: &Key) -> Option<(Vec<u128>, Vec<u64>)> {
        let shares = self.shares(key);
        let mut owns = self.owns(key);
        owns.sort();
        let lists: Vec<&Vec<(u64, Plan)>> =
            owns.iter().map(|own| self.known(own).map(|known| &known.plans)).collect::<Option<_>>()?;
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
            let value = self.ends(&times).first().copied().unwrap_or(0);
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
        let ends = (self.ends(&deal.times_ps), deal.times_ps.clone());
        self.digest.add((value >> 64) as u64, value as u64);
        if self.best.as_ref().is_none_or(|(b, k)| (value, key) < (b.value, k)) {
            self.best = Some((deal, key.clone()));
        }
        Some(ends)
    }

    /// What jobs with these times of an iteration are worth, the most first: the first is what the deal is worth.
    pub(super) fn ends(&self, times_ps: &[u64]) -> Vec<u128> {
        let of = |(time, job): (&u64, &Job)| u128::from(*time) * u128::from(job.iterations);
        let mut ends: Vec<u128> = times_ps.iter().zip(self.jobs).map(of).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends
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
