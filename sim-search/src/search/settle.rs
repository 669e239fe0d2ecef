//! One round: nodes opened or simulated side by side, and settled in order; and what all rounds found in the end.

use super::expand::{State, Step};
use super::{
    Ended, Fate, Found, NearestMiss, Outcome, REMEMBERED, Ranked, Search, Stopped, choose, with_worker,
};
use crate::frame::ThrownOut;
use crate::rules::Rule;
use crate::tree::Key;
use rayon::prelude::*;

impl Search<'_> {
    /// Opens or simulates these; plans that they lead to.
    pub(super) fn round(&mut self, round: Vec<(u64, Key, State)>) -> Vec<(u64, Key)> {
        let mut probes = Vec::new();
        let cutoff = self.cutoff();
        let this = &*self;
        let steps: Vec<Step> = round
            .par_iter()
            // A slow one keeps no others waiting.
            .with_max_len(1)
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
                    // It is above the best time, by however much; where there is none, nothing is under it.
                    let best = self.ranked.first().map_or(u64::MAX, |best| best.value);
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
                            let best = self.ranked.first().map_or(u64::MAX, |best| best.value);
                            self.log(&key, Fate::Bound(best.max(bound)));
                        }
                    }
                }
            }
        }
        self.rounds += 1;
        probes
    }

    pub(super) fn prune(&mut self, rule: Rule) {
        *self.counts.pruned.entry(rule).or_default() += 1;
    }

    /// Adds what became of a node to the digest.
    pub(super) fn note(&mut self, key: &[u32], code: u64, time: u64) {
        self.digest.add(self.rounds, key.len() as u64);
        for part in key {
            self.digest.add(u64::from(*part), 0);
        }
        self.digest.add(code, time);
    }

    /// Counts one plan, and ranks it.
    pub(super) fn settle(&mut self, key: Key, outcome: Outcome) {
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

    pub(super) fn found(mut self, stopped: Stopped, space: String) -> Found {
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
        // Where something fits, or may, nobody asks: what was simulated fits, be it too slow.
        let nearest = match self.counts.simulated == 0 && stopped == Stopped::Done {
            true => {
                let of = |some: &ThrownOut| {
                    let lacks = self.tree.lacks(some).into_iter();
                    lacks.filter_map(|(template, _, lacks)| Some((lacks?, template, some.micro_batch))).min()
                };
                self.nearest.into_iter().chain(self.tree.thrown_out.iter().filter_map(of)).min()
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
