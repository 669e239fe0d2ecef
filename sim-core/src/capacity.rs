//! Capacity over time: piecewise-constant, read lazily.
//!
//! A profile is cheap to clone and to shift: its points stand in one shared table, an offset and a scale beside it. A trace
//! of a million points costs nothing until a run reaches them, and a generated source never stores them.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::rate::Rate;
use crate::time::{SimDuration, SimTime};

/// Why points are not a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProfileError {
    /// A point does not lie after the one before it.
    #[error("point {index} at {time} does not lie after the point before it")]
    NotIncreasing {
        /// Which point, from 0.
        index: usize,
        /// Where it lies.
        time: SimTime,
    },
    /// A wrapped profile of period zero.
    #[error("a wrapped profile needs a period above zero")]
    ZeroPeriod,
    /// A point of a wrapped profile lies past its period.
    #[error("point {index} at {time} lies past the period of {period}")]
    PastPeriod {
        /// Which point, from 0.
        index: usize,
        /// Where it lies.
        time: SimTime,
        /// The period.
        period: SimDuration,
    },
    /// A scale with denominator zero, or one that does not fit after reduction.
    #[error("scale {num}/{den} is not a ratio of two 64-bit integers with a denominator above zero")]
    Scale {
        /// Numerator.
        num: u64,
        /// Denominator.
        den: u64,
    },
}

/// A capacity over time that is computed rather than stored.
///
/// Laws: `at` is constant on `[t, next_change(t))`; `next_change(t)`, when it gives one, lies after `t` and carries
/// `at` of that instant. Both are functions of the time alone, so that a run can be repeated. A change to an equal value is
/// allowed.
pub trait CapacitySource: Send + Sync {
    /// The capacity at `t`.
    fn at(&self, t: SimTime) -> Rate;
    /// The first change after `after`, and the value from then on; `None` when there is none.
    fn next_change(&self, after: SimTime) -> Option<(SimTime, Rate)>;
}

/// Where the last read of a profile ended, so that the next one need not search.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor(u32);

#[derive(Debug, PartialEq, Eq)]
struct Steps {
    initial: Rate,
    times: Vec<u64>,
    rates: Vec<Rate>,
    period: Option<u64>,
}

#[derive(Clone)]
enum Kind {
    Constant(Rate),
    Steps(Arc<Steps>),
    Source(Arc<dyn CapacitySource>),
}

/// Capacity over time; clones share the points.
///
/// ```
/// use sim_core::{CapacityProfile, CapacitySource, Rate, SimTime};
/// let gb = |g: f64| Rate::from_bytes_per_s(g * 1e9).unwrap();
/// let at = |ps| SimTime::from_ps(ps);
/// let profile = CapacityProfile::steps(gb(1.0), vec![(at(100), gb(2.0)), (at(300), gb(0.0))]).unwrap();
/// assert_eq!(profile.at(at(99)), gb(1.0));
/// assert_eq!(profile.next_change(at(100)), Some((at(300), gb(0.0))));
/// assert_eq!(profile.shifted(at(250)).at(at(60)), gb(0.0));
/// ```
#[derive(Clone)]
pub struct CapacityProfile {
    kind: Kind,
    num: u64,
    den: u64,
    shift: u64,
}

impl CapacityProfile {
    fn of(kind: Kind) -> Self {
        Self { kind, num: 1, den: 1, shift: 0 }
    }

    /// The same capacity for ever.
    pub fn constant(rate: Rate) -> Self {
        Self::of(Kind::Constant(rate))
    }

    /// `initial` until the first point, then the value of the last point passed, the last one held for ever.
    ///
    /// # Errors
    /// When the points do not strictly increase in time.
    pub fn steps(initial: Rate, points: Vec<(SimTime, Rate)>) -> Result<Self, ProfileError> {
        Self::table(initial, points, None)
    }

    /// Like [`CapacityProfile::steps`] on `[0, period)`, and again from `period` on, for ever: each period starts with
    /// `initial`, or with the value of a point at 0.
    ///
    /// # Errors
    /// When the points do not strictly increase in time, when one lies at or past the period, or when the period is zero.
    pub fn wrapping(
        initial: Rate,
        points: Vec<(SimTime, Rate)>,
        period: SimDuration,
    ) -> Result<Self, ProfileError> {
        if period == SimDuration::ZERO {
            return Err(ProfileError::ZeroPeriod);
        }
        for (index, &(time, _)) in points.iter().enumerate() {
            if time.as_ps() >= period.as_ps() {
                return Err(ProfileError::PastPeriod { index, time, period });
            }
        }
        Self::table(initial, points, Some(period.as_ps()))
    }

    fn table(
        mut initial: Rate,
        points: Vec<(SimTime, Rate)>,
        period: Option<u64>,
    ) -> Result<Self, ProfileError> {
        let mut times = Vec::with_capacity(points.len());
        let mut rates: Vec<Rate> = Vec::with_capacity(points.len());
        let mut before = None;
        for (index, (time, rate)) in points.into_iter().enumerate() {
            if before.is_some_and(|b| time <= b) {
                return Err(ProfileError::NotIncreasing { index, time });
            }
            before = Some(time);
            if time == SimTime::ZERO {
                initial = rate;
            } else if rates.last().copied().unwrap_or(initial) != rate {
                times.push(time.as_ps());
                rates.push(rate);
            }
        }
        if times.is_empty() {
            return Ok(Self::constant(initial));
        }
        Ok(Self::of(Kind::Steps(Arc::new(Steps { initial, times, rates, period }))))
    }

    /// A generated capacity; nothing of it is stored.
    pub fn generated(source: Arc<dyn CapacitySource>) -> Self {
        Self::of(Kind::Source(source))
    }

    /// `num / den` of this capacity, each value rounded down; scales multiply.
    ///
    /// # Errors
    /// When `den` is zero, or the product of the scales does not fit in 64 bits.
    pub fn scaled(&self, num: u64, den: u64) -> Result<Self, ProfileError> {
        let error = ProfileError::Scale { num, den };
        if den == 0 {
            return Err(error);
        }
        let (n, d) = (u128::from(self.num) * u128::from(num), u128::from(self.den) * u128::from(den));
        let g = gcd(n, d);
        let (Ok(num), Ok(den)) = (u64::try_from(n / g), u64::try_from(d / g)) else { return Err(error) };
        Ok(Self { num, den, ..self.clone() })
    }

    /// The same capacity, seen from `by` on: instant 0 of the result is instant `by` of this one. Nothing is copied.
    pub fn shifted(&self, by: SimTime) -> Self {
        Self { shift: self.shift.saturating_add(by.as_ps()), ..self.clone() }
    }

    /// The highest capacity it ever has; [`Rate::MAX`] for a generated one, which cannot be asked.
    pub fn highest(&self) -> Rate {
        match &self.kind {
            Kind::Constant(rate) => Rate::from_raw(self.scale(*rate)),
            Kind::Steps(steps) => {
                let most = steps.rates.iter().copied().fold(steps.initial, Rate::max);
                Rate::from_raw(self.scale(most))
            }
            Kind::Source(_) => Rate::MAX,
        }
    }

    /// Whether the capacity never changes.
    pub fn is_constant(&self) -> bool {
        matches!(self.kind, Kind::Constant(_))
    }

    /// Whether two profiles are known to be equal at every instant; a generated one equals its clones alone.
    pub fn same(&self, other: &Self) -> bool {
        let scaled = (self.num, self.den) == (other.num, other.den);
        match (&self.kind, &other.kind) {
            (Kind::Constant(a), Kind::Constant(b)) => self.scale(*a) == other.scale(*b),
            (Kind::Steps(a), Kind::Steps(b)) => {
                scaled && self.shift == other.shift && (Arc::ptr_eq(a, b) || a == b)
            }
            (Kind::Source(a), Kind::Source(b)) => {
                scaled && self.shift == other.shift && std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
            }
            _ => false,
        }
    }

    #[inline]
    fn scale(&self, rate: Rate) -> u64 {
        if self.num == self.den {
            return rate.raw();
        }
        let units = u128::from(rate.raw()) * u128::from(self.num) / u128::from(self.den);
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// The value at `t` and the time of the next change, in raw units; `cursor` remembers the place.
    #[inline]
    pub(crate) fn read(&self, t: u64, cursor: &mut Cursor) -> (u64, Option<u64>) {
        match &self.kind {
            Kind::Constant(rate) => (self.scale(*rate), None),
            Kind::Steps(steps) => {
                let (rate, next) = steps.read(t, self.shift, cursor);
                (self.scale(rate), next)
            }
            Kind::Source(source) => {
                let Some(absolute) = t.checked_add(self.shift) else {
                    return (self.scale(source.at(SimTime::MAX)), None);
                };
                let at = SimTime::from_ps(absolute);
                let next = source.next_change(at).map(|(when, _)| when.as_ps() - self.shift);
                (self.scale(source.at(at)), next)
            }
        }
    }
}

impl Steps {
    fn read(&self, t: u64, shift: u64, cursor: &mut Cursor) -> (Rate, Option<u64>) {
        let absolute = u128::from(t) + u128::from(shift);
        let phase = match self.period {
            Some(period) => (absolute % u128::from(period)) as u64,
            None => u64::try_from(absolute).unwrap_or(u64::MAX),
        };
        let passed = self.passed(phase, cursor.0 as usize);
        cursor.0 = passed as u32;
        let rate = if passed == 0 { self.initial } else { self.rates[passed - 1] };
        let wait = match (self.times.get(passed), self.period) {
            (Some(&next), _) => Some(next - phase),
            (None, None) => None,
            (None, Some(period)) if rate != self.initial => Some(period - phase),
            (None, Some(period)) => self.times.first().map(|&first| (period - phase).saturating_add(first)),
        };
        (rate, wait.and_then(|wait| t.checked_add(wait)))
    }

    /// How many points lie at or before `phase`; gallops from `hint`.
    fn passed(&self, phase: u64, hint: usize) -> usize {
        let times = &self.times;
        let hint = hint.min(times.len());
        if hint > 0 && times[hint - 1] > phase {
            return times[..hint - 1].partition_point(|&x| x <= phase);
        }
        let mut reach = 1;
        let mut from = hint;
        while let Some(&x) = times.get(from + reach - 1) {
            if x > phase {
                break;
            }
            from += reach;
            reach *= 2;
        }
        let to = (from + reach).min(times.len());
        from + times[from..to].partition_point(|&x| x <= phase)
    }
}

impl CapacitySource for CapacityProfile {
    fn at(&self, t: SimTime) -> Rate {
        Rate::from_raw(self.read(t.as_ps(), &mut Cursor::default()).0)
    }

    fn next_change(&self, after: SimTime) -> Option<(SimTime, Rate)> {
        let (_, next) = self.read(after.as_ps(), &mut Cursor::default());
        next.map(|t| (SimTime::from_ps(t), self.at(SimTime::from_ps(t))))
    }
}

impl fmt::Debug for CapacityProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Constant(rate) => write!(f, "constant {rate}")?,
            Kind::Steps(steps) => write!(f, "{} points", steps.times.len())?,
            Kind::Source(_) => write!(f, "generated")?,
        }
        write!(f, " x {}/{} from {}", self.num, self.den, SimTime::from_ps(self.shift))
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(x: u64) -> Rate {
        Rate::from_raw(x)
    }
    fn at(x: u64) -> SimTime {
        SimTime::from_ps(x)
    }

    #[test]
    fn bad_points_are_refused() {
        let same = vec![(at(5), r(1)), (at(5), r(2))];
        assert!(matches!(
            CapacityProfile::steps(r(0), same),
            Err(ProfileError::NotIncreasing { index: 1, .. })
        ));
        let late = vec![(at(5), r(1))];
        assert!(matches!(
            CapacityProfile::wrapping(r(0), late, SimDuration::from_ps(5)),
            Err(ProfileError::PastPeriod { index: 0, .. })
        ));
        assert!(CapacityProfile::wrapping(r(0), vec![], SimDuration::ZERO).is_err());
        assert!(CapacityProfile::constant(r(1)).scaled(1, 0).is_err());
    }

    #[test]
    fn wraps_and_skips_changes_that_are_none() {
        let p = CapacityProfile::wrapping(r(1), vec![(at(3), r(2)), (at(6), r(1))], SimDuration::from_ps(10))
            .unwrap();
        let values: Vec<u64> = (0..20).map(|t| p.at(at(t)).raw()).collect();
        assert_eq!(values, [1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1]);
        assert_eq!(p.next_change(at(6)), Some((at(13), r(2))));
        assert_eq!(p.shifted(at(24)).next_change(at(0)), Some((at(2), r(1))));
        let half = p.scaled(1, 2).unwrap();
        assert_eq!((half.at(at(0)).raw(), half.at(at(3)).raw()), (0, 1));
    }

    proptest! {
        #[test]
        fn reads_agree_with_a_plain_search(
            gaps in proptest::collection::vec((1u64..9, 0u64..4), 1..40),
            reads in proptest::collection::vec(0u64..500, 1..60),
            wrap in any::<bool>(), shift in 0u64..90,
        ) {
            let mut t = 0;
            let points: Vec<(SimTime, Rate)> = gaps.iter().map(|&(g, v)| { t += g; (at(t), r(v)) }).collect();
            let period = t + 3;
            let p = if wrap {
                CapacityProfile::wrapping(r(9), points.clone(), SimDuration::from_ps(period)).unwrap()
            } else {
                CapacityProfile::steps(r(9), points.clone()).unwrap()
            };
            let oracle = |x: u64| {
                let x = if wrap { x % period } else { x };
                points.iter().rev().find(|p| p.0.as_ps() <= x).map_or(9, |p| p.1.raw())
            };
            let p = p.shifted(at(shift));
            let mut cursor = Cursor::default();
            for x in reads {
                let (value, next) = p.read(x, &mut cursor);
                prop_assert_eq!(value, oracle(x + shift));
                let expect = (x + 1..x + 3 * period).find(|&y| oracle(y + shift) != value);
                prop_assert_eq!(next, expect);
            }
        }
    }
}
