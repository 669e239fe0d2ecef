//! A whole number over time on the clock of a replay: nanoseconds in a `u64`, which reach 584 years.
//!
//! What changes while a job runs is kept so: the capacity of a link, its latency, whether a node is there, how fast a GPU
//! computes. Points stand in one shared table; a clone costs nothing. An iteration reads a timeline through
//! [`Timeline::profile`], which shifts it to the picosecond clock of that iteration as it is read.

use sim_core::{CapacityProfile, CapacitySource, Rate, SimTime};
use std::sync::Arc;

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// A stretch `[from, to)` with a value of its own; `to` of `u64::MAX` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// First nanosecond.
    pub from: u64,
    /// First nanosecond after it.
    pub to: u64,
    /// The value.
    pub value: u64,
}

/// Why points are not a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimelineError {
    /// No point at all.
    #[error("a timeline needs a point")]
    Empty,
    /// A point does not lie after the one before it.
    #[error("point {0} does not lie after the point before it")]
    NotIncreasing(usize),
    /// A wrapped timeline whose period does not reach past its last point.
    #[error("the last point lies past the period of {0} ns")]
    PastPeriod(u64),
}

#[derive(Debug, PartialEq, Eq)]
struct Steps {
    /// Strictly increasing, from 0; neighbours differ in value.
    times: Vec<u64>,
    values: Vec<u64>,
    period: Option<u64>,
    /// Where the last point given lies, whether it changed anything or not.
    end: u64,
}

/// A value over time. See the head of this file.
///
/// ```
/// use sim_models::timeline::Timeline;
/// let t = Timeline::wrapping(vec![(0, 5), (10, 7)], 15).unwrap();
/// assert_eq!((t.at(9), t.at(10), t.at(16)), (5, 7, 5));
/// assert_eq!(t.next_change(10), Some(15));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    steps: Arc<Steps>,
    /// Sorted, not overlapping.
    stretches: Arc<[Stretch]>,
    /// What is taken away from that.
    loads: Arc<[Timeline]>,
}

/// Changes of what a timeline is made of that cancel out, looked over for one that does not.
const SILENT: usize = 64;

impl Timeline {
    /// The same value for ever.
    pub fn constant(value: u64) -> Timeline {
        let steps = Steps { times: vec![0], values: vec![value], period: None, end: 0 };
        Timeline::of(steps)
    }

    fn of(steps: Steps) -> Timeline {
        Timeline { steps: Arc::new(steps), stretches: Arc::new([]), loads: Arc::new([]) }
    }

    /// (time, value): the first value from the start on, each until the next, the last for ever.
    ///
    /// # Errors
    /// When there is no point, or one does not lie after the one before it.
    pub fn steps(points: Vec<(u64, u64)>) -> Result<Timeline, TimelineError> {
        Timeline::table(points, None)
    }

    /// Like [`Timeline::steps`] on `[0, period)`, and again from `period` on, for ever.
    ///
    /// # Errors
    /// As [`Timeline::steps`], and when a point does not lie before the period.
    pub fn wrapping(points: Vec<(u64, u64)>, period: u64) -> Result<Timeline, TimelineError> {
        match points.last() {
            Some(last) if last.0 >= period => Err(TimelineError::PastPeriod(period)),
            _ => Timeline::table(points, Some(period)),
        }
    }

    fn table(points: Vec<(u64, u64)>, period: Option<u64>) -> Result<Timeline, TimelineError> {
        let Some(&(_, first)) = points.first() else { return Err(TimelineError::Empty) };
        let end = points.last().map_or(0, |p| p.0);
        let (mut times, mut values) = (vec![0], vec![first]);
        let mut before = None;
        for (i, (time, value)) in points.into_iter().enumerate() {
            if before.is_some_and(|b| time <= b) {
                return Err(TimelineError::NotIncreasing(i));
            }
            before = Some(time);
            if values.last() != Some(&value) {
                times.push(time);
                values.push(value);
            }
        }
        Ok(Timeline::of(Steps { times, values, period, end }))
    }

    /// This timeline with `stretches` laid over it, which are sorted by now; where two overlap the later one holds.
    #[must_use]
    pub fn overlaid(&self, mut stretches: Vec<Stretch>) -> Timeline {
        stretches.retain(|s| s.from < s.to);
        stretches.sort_by_key(|s| s.from);
        for i in 1..stretches.len() {
            let from = stretches[i].from;
            stretches[i - 1].to = stretches[i - 1].to.min(from);
        }
        stretches.retain(|s| s.from < s.to);
        Timeline { stretches: stretches.into(), ..self.clone() }
    }

    /// What these loads leave of it, not below 0: they are taken away from what it was, stretches and all.
    #[must_use]
    pub fn less(&self, loads: Vec<Timeline>) -> Timeline {
        let all = self.loads.iter().cloned().chain(loads).collect();
        let left = Timeline { loads: all, ..self.clone() };
        let constant = self.is_constant() && left.loads.iter().all(Timeline::is_constant);
        if constant { Timeline::constant(left.at(0)) } else { left }
    }

    /// Whether it never changes.
    pub fn is_constant(&self) -> bool {
        self.steps.times.len() == 1 && self.stretches.is_empty() && self.loads.is_empty()
    }

    /// Where its last point lies, or its period ends, or its last stretch does.
    pub fn end(&self) -> u64 {
        let stretch = self.stretches.last().map_or(0, |s| if s.to == u64::MAX { s.from } else { s.to });
        let own = self.steps.period.unwrap_or(self.steps.end).max(stretch);
        self.loads.iter().map(Timeline::end).fold(own, u64::max)
    }

    /// The value at `t`.
    #[inline]
    pub fn at(&self, t: u64) -> u64 {
        self.loads.iter().fold(self.own(t), |left, load| left.saturating_sub(load.at(t)))
    }

    /// The same without its loads.
    #[inline]
    fn own(&self, t: u64) -> u64 {
        match self.stretch(t) {
            (Some(s), _) => s.value,
            (None, _) => self.steps.at(t),
        }
    }

    /// The first instant after `t` from which on the value is another than at `t`; with loads it may be the same, where many
    /// changes in a row make no difference.
    pub fn next_change(&self, t: u64) -> Option<u64> {
        if self.loads.is_empty() {
            return self.next_own(t);
        }
        let (value, mut now) = (self.at(t), t);
        for _ in 0..SILENT {
            let changes = self.loads.iter().filter_map(|load| load.next_change(now));
            now = changes.chain(self.next_own(now)).min()?;
            if self.at(now) != value {
                break;
            }
        }
        Some(now)
    }

    /// The same without its loads.
    fn next_own(&self, t: u64) -> Option<u64> {
        if self.stretches.is_empty() {
            return self.steps.next(t);
        }
        let value = self.own(t);
        let mut now = t;
        loop {
            let next = match self.stretch(now) {
                (Some(s), _) => (s.to < u64::MAX).then_some(s.to),
                (None, next) => [self.steps.next(now), next.map(|s| s.from)].into_iter().flatten().min(),
            }?;
            if self.own(next) != value {
                return Some(next);
            }
            now = next;
        }
    }

    /// The stretch that holds at `t`, and the first that starts after it.
    #[inline]
    fn stretch(&self, t: u64) -> (Option<&Stretch>, Option<&Stretch>) {
        if self.stretches.is_empty() {
            return (None, None);
        }
        let next = self.stretches.partition_point(|s| s.from <= t);
        let holding = next.checked_sub(1).map(|i| &self.stretches[i]);
        (holding.filter(|s| t < s.to || s.to == u64::MAX), self.stretches.get(next))
    }

    /// The pieces of `[from, to)`: start, end, value, each as long as the value stays.
    pub fn pieces(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let mut now = from;
        std::iter::from_fn(move || {
            if now >= to {
                return None;
            }
            let start = now;
            now = self.next_change(start).unwrap_or(u64::MAX).min(to);
            Some((start, now, self.at(start)))
        })
    }

    /// The highest value in `[from, to]`.
    pub fn highest(&self, from: u64, to: u64) -> u64 {
        self.pieces(from, to.saturating_add(1)).map(|p| p.2).max().unwrap_or_else(|| self.at(from))
    }

    /// The time-weighted mean over `[from, to)`, rounded down; the value at `from` when that is empty.
    pub fn mean(&self, from: u64, to: u64) -> u64 {
        if from >= to {
            return self.at(from);
        }
        // 64-bit values by 64-bit lengths: the sum over a u64 of nanoseconds fits in 128 bits.
        let sum: u128 = self.pieces(from, to).map(|(a, b, v)| u128::from(b - a) * u128::from(v)).sum();
        (sum / u128::from(to - from)) as u64
    }

    /// Its values as rates in raw units, on a picosecond clock whose instant 0 is `base` ns of this one.
    pub fn profile(&self, base: u64) -> CapacityProfile {
        if self.is_constant() {
            return CapacityProfile::constant(Rate::from_raw(self.at(0)));
        }
        CapacityProfile::generated(Arc::new(View { timeline: self.clone(), base }))
    }
}

impl Steps {
    #[inline]
    fn phase(&self, t: u64) -> u64 {
        self.period.map_or(t, |p| t % p)
    }

    #[inline]
    fn index(&self, phase: u64) -> usize {
        self.times.partition_point(|&x| x <= phase) - 1
    }

    #[inline]
    fn at(&self, t: u64) -> u64 {
        self.values[self.index(self.phase(t))]
    }

    fn next(&self, t: u64) -> Option<u64> {
        let phase = self.phase(t);
        let i = self.index(phase);
        if let Some(&next) = self.times.get(i + 1) {
            return t.checked_add(next - phase);
        }
        let period = self.period?;
        let turn = t.checked_add(period - phase)?;
        if self.values[0] != self.values[i] {
            return Some(turn);
        }
        turn.checked_add(*self.times.get(1)?)
    }
}

/// A timeline seen from an instant on, in picoseconds.
struct View {
    timeline: Timeline,
    base: u64,
}

impl CapacitySource for View {
    fn at(&self, t: SimTime) -> Rate {
        Rate::from_raw(self.timeline.at(self.base.saturating_add(t.as_ps() / 1_000)))
    }

    fn next_change(&self, after: SimTime) -> Option<(SimTime, Rate)> {
        let next = self.timeline.next_change(self.base.checked_add(after.as_ps() / 1_000)?)?;
        let when = SimTime::from_ps((next - self.base).checked_mul(1_000)?);
        Some((when, Rate::from_raw(self.timeline.at(next))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_points_are_refused() {
        assert_eq!(Timeline::steps(vec![]), Err(TimelineError::Empty));
        assert_eq!(Timeline::steps(vec![(3, 1), (3, 2)]), Err(TimelineError::NotIncreasing(1)));
        assert_eq!(Timeline::wrapping(vec![(0, 1), (5, 2)], 5), Err(TimelineError::PastPeriod(5)));
    }

    #[test]
    fn loads_are_taken_away() {
        let own = Timeline::wrapping(vec![(0, 10), (5, 20)], 7).unwrap();
        let over = own.overlaid(vec![Stretch { from: 20, to: 30, value: 4 }]);
        let loads = [Timeline::wrapping(vec![(0, 0), (4, 8)], 9).unwrap(), Timeline::constant(3)];
        let left = over.less(vec![loads[0].clone()]).less(vec![loads[1].clone()]);
        let plain = |t: u64| over.at(t).saturating_sub(loads[0].at(t)).saturating_sub(3);
        for t in 0..200 {
            assert_eq!(left.at(t), plain(t), "{t}");
            assert_eq!(left.next_change(t), (t + 1..400).find(|u| plain(*u) != plain(t)), "{t}");
        }
        assert_eq!(Timeline::constant(5).less(vec![Timeline::constant(7)]), Timeline::constant(0));
        // Nothing is ever left: changes that are none come in bunches, so that who waits for one does not wait for ever.
        let none = own.less(vec![Timeline::constant(30)]);
        assert!(none.at(3) == 0 && none.next_change(3).is_some_and(|t| t > 3 && none.at(t) == 0));
    }

    #[test]
    fn means_and_maxima() {
        let t = Timeline::steps(vec![(0, 10), (4, 20), (8, 0)]).unwrap();
        assert_eq!((t.mean(0, 8), t.mean(2, 6), t.mean(4, 4), t.mean(6, 10)), (15, 15, 20, 10));
        assert_eq!((t.highest(0, 3), t.highest(0, 4), t.highest(9, 20)), (10, 20, 0));
    }

    proptest! {
        /// Reads agree with a table of every instant, and so does the view of an iteration.
        #[test]
        fn reads_agree_with_a_plain_table(
            gaps in proptest::collection::vec((1u64..6, 0u64..3), 1..12),
            over in proptest::collection::vec((0u64..80, 1u64..9, 0u64..3), 0..5),
            wrap in any::<bool>(), base in 0u64..40,
        ) {
            let mut t = 0;
            let points: Vec<(u64, u64)> = gaps.iter().map(|&(g, v)| { t += g; (t - 1, v) }).collect();
            let line = if wrap { Timeline::wrapping(points.clone(), t + 2) } else { Timeline::steps(points.clone()) };
            let stretches: Vec<Stretch> =
                over.iter().map(|&(from, len, value)| Stretch { from, to: from + len, value }).collect();
            let line = line.unwrap().overlaid(stretches.clone());
            let plain = |x: u64| {
                let mut sorted = stretches.clone();
                sorted.sort_by_key(|s| s.from);
                // The later of two holds, and ends the earlier one.
                let last = sorted.iter().rfind(|s| s.from <= x);
                if let Some(s) = last && x < s.to { return s.value; }
                let phase = if wrap { x % (t + 2) } else { x };
                points.iter().rfind(|p| p.0 <= phase).map_or(points[0].1, |p| p.1)
            };
            let profile = line.profile(base);
            for x in 0..120 {
                prop_assert_eq!(line.at(x), plain(x));
                let next = (x + 1..400).find(|&y| plain(y) != plain(x));
                prop_assert_eq!(line.next_change(x), next, "{}", x);
                if x >= base {
                    let at = SimTime::from_ps((x - base) * 1_000);
                    prop_assert_eq!(profile.at(at).raw(), plain(x));
                    let after = profile.next_change(at).map(|(t, _)| t.as_ps());
                    prop_assert_eq!(after, next.map(|y| (y - base) * 1_000));
                }
            }
        }
    }
}
