//! Up to so many pipelines of a template: what a combination is made of, and what they can do at best.
//!
//! Before their number is known, numbers are looked at in runs ([`runs`]): as many as the most of a run, in surroundings of
//! the fewest, whose gradient rings are the shortest.

use super::Pipelines;
use crate::cost::beside::runs;
use crate::cost::borders::Borders;
use crate::cost::setting::Sharers;
use crate::cost::{Beat, Fills, Setting, TemplateCost, higher};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Up to so many pipelines of a template.
pub(crate) struct Choice {
    pub(crate) template: usize,
    /// Whether it fits by no usual recipe.
    pub(crate) fresh: bool,
    /// How many there may be, the most first.
    pub(crate) numbers: Vec<u32>,
    pub(crate) cost: Arc<TemplateCost>,
    /// By whether the placement keeps the stages of a pipeline on different nodes: the most pipelines of that kind first.
    pub(crate) paces: Vec<Pace>,
    /// Numbers of pipelines, the most first.
    pub(crate) bands: Vec<Band>,
    /// What they can do by whom they share gradients with, as good as that can be.
    pub(super) known: Mutex<BTreeMap<Sharers, Arc<Pipelines>>>,
    /// The most micro-batches that fit into memory.
    fit: OnceLock<u32>,
}

/// What one pipeline does at best, rings aside.
pub(crate) struct Pace {
    /// The most pipelines of which this holds.
    pub(crate) most: u32,
    /// The least transfers.
    pub(crate) alone: Arc<Setting>,
    /// What limits it.
    pub(crate) beat: Beat,
}

impl Pace {
    /// Micro-batches a ps, when all pipelines are busy.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.most) / self.beat.bottleneck as f64
    }
}

/// What pipelines run at most when all are busy, whatever their number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Busy {
    /// Micro-batches a ps, and what they run more than that in any time.
    pub(crate) rate: f64,
    pub(crate) early: f64,
    /// The same of one pipeline.
    pub(crate) each: f64,
    pub(crate) sooner: f64,
}

impl Busy {
    /// No less than either.
    pub(crate) fn most(self, other: Busy) -> Busy {
        Busy {
            rate: higher(self.rate, other.rate),
            early: higher(self.early, other.early),
            each: higher(self.each, other.each),
            sooner: higher(self.sooner, other.sooner),
        }
    }
}

/// Numbers of pipelines that are looked at together.
pub(crate) struct Band {
    pub(crate) fewest: u32,
    pub(crate) most: u32,
    /// Which of the paces.
    pub(crate) pace: usize,
}

impl Choice {
    /// `paces` are of more than so many pipelines, and of no more.
    pub(crate) fn new(
        (template, fresh): (usize, bool),
        numbers: Vec<u32>,
        cost: Arc<TemplateCost>,
        paces: Vec<Pace>,
    ) -> Choice {
        let near = paces.last().map_or(0, |p| p.most);
        let band = |run: &[u32]| {
            let (fewest, most) = (run[run.len() - 1], run[0]);
            // Few pipelines may be nearer to each other than many.
            let pace = if fewest > near { 0 } else { paces.len() - 1 };
            Band { fewest, most, pace }
        };
        let bands = runs(&numbers).map(band).collect();
        Choice { template, fresh, numbers, cost, paces, bands, known: Mutex::default(), fit: OnceLock::new() }
    }

    /// The most that there may be.
    pub(crate) fn pipelines(&self) -> u32 {
        self.numbers[0]
    }

    /// The most micro-batches of one pipeline that fit into memory, up to all of them.
    pub(crate) fn most_that_fit(&self, all: u32) -> u32 {
        *self.fit.get_or_init(|| self.cost.most_that_fit(all, u64::MAX))
    }

    /// What they run at most when all are busy.
    pub(crate) fn busy(&self) -> Busy {
        let of = |pace: &Pace| {
            let Beat { bottleneck, slack } = pace.beat;
            let (rate, each, slack) = (pace.rate(), 1.0 / bottleneck as f64, slack as f64);
            Busy { rate, early: rate * slack, each, sooner: each * slack }
        };
        self.paces.iter().map(of).fold(Busy::default(), Busy::most)
    }

    /// The pace of so many pipelines.
    pub(crate) fn pace(&self, pipelines: u32) -> &Pace {
        self.paces.iter().rev().find(|p| pipelines <= p.most).unwrap_or(&self.paces[0])
    }

    /// No fewer micro-batches, up to `most` a pipeline, than all of them together can run within `time`, if some stage of each is
    /// done `before`.
    pub(crate) fn at_most(&self, time: u64, before: Option<u64>, most: u32) -> u64 {
        let most_of = |each: &dyn Fn(&Beat) -> u64| {
            let of = |p: &Pace| each(&p.beat).min(u64::from(most)) * u64::from(p.most);
            self.paces.iter().map(of).max().unwrap_or(0)
        };
        let fills = self.cost.fills();
        let done = before.map_or(u64::MAX, |before| most_of(&|beat| beat.done_by(fills, before)));
        most_of(&|beat| beat.at_most(fills, time)).min(done)
    }

    /// The same of the numbers of one band.
    pub(crate) fn band_at_most(&self, band: &Band, time: u64, most: u32) -> u64 {
        let each = self.paces[band.pace].beat.at_most(self.cost.fills(), time);
        each.min(u64::from(most)) * u64::from(band.most)
    }
}

/// What one pipeline can do at best, in certain surroundings.
pub(crate) struct Timed {
    cost: Arc<TemplateCost>,
    around: Setting,
    beat: Beat,
    /// The most micro-batches of one pipeline that fit into memory.
    fit: u32,
    /// How its layers may be shared out between its kinds.
    fills: OnceLock<Fills>,
    /// A cut that fits with as many.
    even: OnceLock<Vec<usize>>,
    /// Bounds by micro-batches.
    known: Mutex<BTreeMap<u32, u64>>,
    /// By micro-batches, the longest time that is known to be too short for them and the shortest that is known not to be.
    limits: Mutex<BTreeMap<u32, (u64, u64)>>,
    /// Capacities by time and what is asked for at most.
    capacities: Mutex<BTreeMap<(u64, u32), u32>>,
    /// Inner borders by time and micro-batches.
    inner: Mutex<BTreeMap<(u64, u32), Borders>>,
}

impl Timed {
    pub(crate) fn new(cost: &Arc<TemplateCost>, beat: Beat, around: Setting, fit: u32) -> Timed {
        let (fills, even, known, limits, capacities, inner) = Default::default();
        Timed { cost: Arc::clone(cost), around, beat, fit, fills, even, known, limits, capacities, inner }
    }

    fn even(&self) -> &[usize] {
        self.even.get_or_init(|| self.cost.even_cut(&self.around, self.fit).unwrap_or_default())
    }

    /// A lower bound of an iteration in which one of the pipelines runs so many micro-batches; `None` when no cut fits.
    pub(crate) fn time(&self, micro_batches: u32) -> Option<u64> {
        if micro_batches > self.fit {
            return None;
        }
        if let Some(time) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&micro_batches) {
            return Some(*time);
        }
        let time = self.cost.time(&self.around, micro_batches, self.even());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(micro_batches, time);
        Some(time)
    }

    /// Whether one pipeline may run so many micro-batches within `limit`: cheaper than how long that takes, and no looser.
    fn within(&self, micro_batches: u32, limit: u64) -> bool {
        if micro_batches > self.fit {
            return false;
        }
        let known =
            |limits: &BTreeMap<u32, (u64, u64)>| limits.get(&micro_batches).copied().unwrap_or((0, u64::MAX));
        let (short, long) = known(&self.limits.lock().unwrap_or_else(PoisonError::into_inner));
        // What is too short for some, a shorter time is, too.
        if limit <= short || limit >= long {
            return limit >= long;
        }
        let within = self.cost.can(&self.around, micro_batches, limit);
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let (short, long) = known(&limits);
        let now = if within { (short, long.min(limit)) } else { (short.max(limit), long) };
        limits.insert(micro_batches, now);
        within
    }

    /// What that takes with a cut that looks good: no less.
    pub(crate) fn likely(&self, micro_batches: u32) -> Option<u64> {
        let fits = micro_batches <= self.fit;
        fits.then(|| self.cost.time_of(&self.around, micro_batches, self.even()))
    }

    /// Inner borders of the cuts with which one pipeline may run so many micro-batches within `time`; looked into once.
    pub(crate) fn inner(&self, micro_batches: u32, time: u64) -> Borders {
        let key = (time, micro_batches);
        if let Some(known) = self.inner.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *known;
        }
        let inner = self.cost.inner(&self.around, micro_batches, time);
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).insert(key, inner);
        inner
    }

    /// The most micro-batches, up to `most`, that one pipeline can run within `limit`; 0 where they are fewer than `least`.
    pub(crate) fn capacity(&self, limit: u64, (least, most): (u32, u32)) -> u32 {
        let key = (limit, most);
        let known = self.capacities.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let capacity = known.unwrap_or_else(|| {
            let capacity = self.capacity_anew(limit, (least, most));
            if capacity > 0 || least <= 1 {
                self.capacities.lock().unwrap_or_else(PoisonError::into_inner).insert(key, capacity);
            }
            capacity
        });
        if capacity < least { 0 } else { capacity }
    }

    /// The most micro-batches, up to `most`, whose [`Self::time`] is within `limit`.
    pub(crate) fn most_within(&self, limit: u64, most: u32) -> u32 {
        let low = self.capacity(limit, (1, most));
        last_of(low, most.min(self.fit), |n| self.time(n).is_some_and(|time| time <= limit))
    }

    fn capacity_anew(&self, limit: u64, (least, most): (u32, u32)) -> u32 {
        let fills = self.fills.get_or_init(|| self.cost.fills_in(&self.around));
        let at_most = self.beat.at_most(fills, limit);
        let most = u32::try_from(at_most).unwrap_or(u32::MAX).min(most).min(self.fit);
        if most < least {
            return 0;
        }
        // No fewer than with one cut; near the end each micro-batch more takes about a bottleneck more.
        let of_cut = |n: u32| self.cost.time_of(&self.around, n, self.even());
        let mut low = most;
        while low > 0 {
            let time = of_cut(low);
            if time <= limit {
                break;
            }
            let over = u32::try_from((time - limit) / self.beat.bottleneck).unwrap_or(u32::MAX);
            low = low.saturating_sub(over.max(1));
        }
        let within = |n: u32| self.within(n, limit);
        if low < least {
            if !within(least) {
                return 0;
            }
            low = least;
        }
        last_of(low, most, within)
    }
}

/// The last number up to `most` with which something holds that does with `low`, and with none after one with which it does not; it
/// is likely near.
fn last_of(mut low: u32, most: u32, holds: impl Fn(u32) -> bool) -> u32 {
    let (mut step, mut high) = (1, most + 1);
    while low + 1 < high {
        let next = (low + step).min(high - 1);
        if holds(next) {
            (low, step) = (next, step * 2);
        } else {
            (high, step) = (next, 1);
        }
    }
    low
}
