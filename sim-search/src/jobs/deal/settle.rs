//! A deal settled: its jobs searched each on its nodes, and simulated beside each other.

use super::{Deal, Dealer, Key, Known, Own};
use crate::jobs::Job;
use crate::jobs::part::Part;
use crate::search::{Method, Options, Progress, Stop, Stopped, search};
use rayon::prelude::*;
use sim_models::plan::Plan;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Simulations of the first search of a job on some nodes, and by how much more each further one has.
const FIRST: u64 = 50;
const MORE: u64 = 6;

/// Plans of a job that are tried beside those of the others, and how many of them together.
const PLANS: usize = 8;
const TOGETHER: usize = 32;

/// Searches that are wanted: by job and blocks its nodes, and the time of an iteration from which on nobody asks how much
/// longer it is, ps.
type Wanted = BTreeMap<Own, (Vec<Vec<u32>>, u64)>;

impl Dealer<'_> {
    /// Searches the jobs of these deals on their nodes, those that are not known there; whether it was stopped, and nothing is
    /// known of what it found. Without `stop` nobody asks.
    pub(super) fn look(&mut self, deals: &[Key], stop: Option<&mut Stop<'_>>) -> Option<Stopped> {
        let mut wanted = Wanted::new();
        for key in deals {
            let shares = self.shares(key);
            for own in self.owns(key).into_iter().filter(|own| self.known(own).is_none()) {
                wanted.entry(self.first_like(&own)).or_insert_with(|| (shares[own.0].clone(), u64::MAX));
            }
        }
        self.searched(wanted, stop)
    }

    /// Searches one job of each of these deals on its nodes, of which most is not known yet, as long as the deal is not excluded
    /// by it; whether it was stopped.
    pub(super) fn look_closer(&mut self, deals: &[Key], stop: &mut Stop<'_>) -> Option<Stopped> {
        let mut wanted = Wanted::new();
        for key in deals {
            let owns = self.owns(key);
            let open = owns.iter().filter(|own| self.known(own).is_none_or(|known| !known.ended));
            let Some(own) = open.max_by_key(|own| self.room(own)) else { continue };
            let others = owns.iter().filter(|o| *o != own).map(|(j, own)| self.worth(*j, own));
            let others = others.fold(0, u128::saturating_add);
            let best = self.best.as_ref().map_or(u128::MAX, |(best, _)| best.value);
            let enough = self.jobs[own.0].time_worth(best.saturating_sub(others));
            let nodes = || self.shares(key).swap_remove(own.0);
            let entry = wanted.entry(self.first_like(own)).or_insert_with(|| (nodes(), enough));
            entry.1 = entry.1.max(enough);
        }
        self.searched(wanted, Some(stop))
    }

    /// By how much what a job is worth on its nodes may be above what is known.
    fn room(&self, own: &Own) -> u128 {
        let (least, job) = (self.worth(own.0, &own.1), &self.jobs[own.0]);
        let best = self.known(own).and_then(|known| known.plans.first());
        best.map_or(least, |(time, _)| job.worth(*time).saturating_sub(least))
    }

    fn searched(&mut self, wanted: Wanted, stop: Option<&mut Stop<'_>>) -> Option<Stopped> {
        let progress = self.progress();
        let asked = Mutex::new((stop, None));
        let ask = || {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            let (stop, stopped) = &mut *asked;
            *stopped = stopped.or_else(|| stop.as_mut().and_then(|stop| stop(&progress)));
            *stopped
        };
        let wanted: Vec<_> = wanted.into_iter().collect();
        let this = &*self;
        let one = |(own, (nodes, enough)): &(Own, (Vec<Vec<u32>>, u64))| this.one(own, nodes, *enough, &ask);
        let found: Vec<Known> = wanted.par_iter().map(one).collect();
        let stopped = asked.into_inner().unwrap_or_else(PoisonError::into_inner).1;
        if stopped.is_some() {
            return stopped;
        }
        for ((id, _), known) in wanted.into_iter().zip(found) {
            self.searches += 1;
            self.simulations += known.simulated;
            self.known.insert(id, known);
        }
        self.rest = self.table();
        None
    }

    /// Searches one job on its nodes until it is known that an iteration takes as long as is `enough`, ps.
    fn one(
        &self,
        own: &Own,
        nodes: &[Vec<u32>],
        enough: u64,
        ask: &(dyn Fn() -> Option<Stopped> + Sync),
    ) -> Known {
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
        let mut stop =
            |progress: &Progress| ask().or_else(|| (progress.level_ps >= enough).then_some(Stopped::Seconds));
        let found = search(&part.scenario, &options, &mut stop);
        // Kept as plans on the part: the same blocks may lie elsewhere in another deal.
        let plans = found.ranked.iter().map(|r| (r.time_ps, r.plan.clone())).collect();
        let ended = found.stopped == Stopped::Done || allowed >= self.options.max_simulations;
        let lower = before.map_or(0, |known| known.lower).max(found.lower_bound_ps);
        // Where enough is known the next search is allowed as much.
        let allowed = if !ended && lower >= enough { allowed / MORE } else { allowed };
        Known { lower, plans, allowed, ended, simulated: found.counts.simulated }
    }

    /// Simulates the plans of a deal beside each other, best first, and keeps the best deal; with `better`, only those that may be
    /// better than it. What the best of them are worth together, and their times.
    pub(super) fn settle(&mut self, key: &Key, better: bool) -> Option<(u128, Vec<u64>)> {
        let shares = self.shares(key);
        let mut owns = self.owns(key);
        owns.sort();
        let lists: Vec<&Vec<(u64, Plan)>> =
            owns.iter().map(|own| self.known(own).map(|known| &known.plans)).collect::<Option<_>>()?;
        let parts: Vec<Part> =
            self.jobs.iter().zip(&shares).map(|(job, nodes)| Part::new(&job.scenario, nodes)).collect();
        let mut least = self.best.as_ref().filter(|_| better).map_or(u128::MAX, |(best, _)| best.value);
        let mut best: Option<Deal> = None;
        let mut tried = 0;
        for (alone, choice) in products(&lists, self.jobs) {
            if alone >= least || tried == TOGETHER {
                break;
            }
            tried += 1;
            let in_whole = |j: usize| parts[j].in_whole(&lists[j][choice[j]].1);
            let plans: Vec<Plan> = (0..parts.len()).map(in_whole).collect();
            let Some(times) = (self.together)(&plans) else { continue };
            let worth = times.iter().zip(self.jobs).map(|(time, job)| job.worth(*time));
            let value = worth.fold(0, u128::saturating_add);
            if best.as_ref().is_none_or(|b| value < b.value) {
                least = least.min(value);
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
        let settled = (value, deal.times_ps.clone());
        self.digest.add((value >> 64) as u64, value as u64);
        if self.best.as_ref().is_none_or(|(b, k)| (value, key) < (b.value, k)) {
            self.best = Some((deal, key.clone()));
        }
        Some(settled)
    }
}

/// One plan of each job, in the order of what they are worth alone; equal ones in that of their numbers.
fn products(lists: &[&Vec<(u64, Plan)>], jobs: &[Job]) -> Vec<(u128, Vec<usize>)> {
    let mut all = vec![(0u128, Vec::new())];
    for (list, job) in lists.iter().zip(jobs) {
        let with = |(value, path): &(u128, Vec<usize>)| -> Vec<(u128, Vec<usize>)> {
            let one = |(i, (time, _)): (usize, &(u64, Plan))| {
                (value.saturating_add(job.worth(*time)), [&path[..], &[i]].concat())
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
