//! Simulated time: whole picoseconds in a `u64`, which reaches 213 days.
//!
//! Seconds enter and leave as `f64` at the border only ([`SimDuration::from_secs_f64`], [`SimDuration::as_secs_f64`]);
//! inside, every operation is exact and checked.

use std::fmt;

use thiserror::Error;

/// Picoseconds in a second.
pub const PS_PER_S: u64 = 1_000_000_000_000;

/// Why a number of seconds is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum TimeError {
    /// Not a number, or infinite.
    #[error("time is not finite: `{0}` s")]
    NotFinite(f64),
    /// Below zero.
    #[error("time is negative: `{0}` s")]
    Negative(f64),
    /// Above 2^64 - 1 ps.
    #[error("time does not fit in 213 days of picoseconds: `{0}` s")]
    TooLarge(f64),
}

/// Rounds seconds to the nearest picosecond.
fn ps_from_secs(secs: f64) -> Result<u64, TimeError> {
    if !secs.is_finite() {
        return Err(TimeError::NotFinite(secs));
    }
    if secs < 0.0 {
        return Err(TimeError::Negative(secs));
    }
    let ps = (secs * PS_PER_S as f64).round();
    // 2^64 as f64 is exact; every float below it converts without loss of range.
    if ps >= 18_446_744_073_709_551_616.0 {
        return Err(TimeError::TooLarge(secs));
    }
    Ok(ps as u64)
}

/// Prints picoseconds with the largest unit that keeps the figure short and exact to a picosecond.
fn fmt_ps(ps: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const UNITS: [(u64, &str); 4] =
        [(PS_PER_S, "s"), (1_000_000_000, "ms"), (1_000_000, "us"), (1_000, "ns")];
    for (size, name) in UNITS {
        if ps >= size {
            let (whole, part) = (ps / size, ps % size);
            if part == 0 {
                return write!(f, "{whole} {name}");
            }
            let digits = size.ilog10() as usize;
            let text = format!("{part:0digits$}");
            return write!(f, "{whole}.{} {name}", text.trim_end_matches('0'));
        }
    }
    write!(f, "{ps} ps")
}

macro_rules! picoseconds {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(u64);

        impl $name {
            /// 0 ps.
            pub const ZERO: Self = Self(0);
            /// 2^64 - 1 ps, about 213 days.
            pub const MAX: Self = Self(u64::MAX);

            /// From whole picoseconds; every `u64` is valid.
            #[inline]
            pub const fn from_ps(ps: u64) -> Self {
                Self(ps)
            }

            /// From whole nanoseconds; `None` above 213 days.
            #[inline]
            pub const fn from_ns(ns: u64) -> Option<Self> {
                match ns.checked_mul(1_000) {
                    Some(ps) => Some(Self(ps)),
                    None => None,
                }
            }

            /// Whole picoseconds.
            #[inline]
            pub const fn as_ps(self) -> u64 {
                self.0
            }

            /// From seconds, rounded to the nearest picosecond.
            ///
            /// # Errors
            /// When `secs` is not finite, is negative, or exceeds 213 days.
            ///
            /// ```
            #[doc = concat!("use sim_core::", stringify!($name), ";")]
            #[doc = concat!("assert_eq!(", stringify!($name), "::from_secs_f64(1.5e-9).unwrap().as_ps(), 1_500);")]
            #[doc = concat!("assert!(", stringify!($name), "::from_secs_f64(-1.0).is_err());")]
            /// ```
            pub fn from_secs_f64(secs: f64) -> Result<Self, TimeError> {
                ps_from_secs(secs).map(Self)
            }

            /// Seconds, to the nearest `f64`.
            #[inline]
            pub fn as_secs_f64(self) -> f64 {
                self.0 as f64 / PS_PER_S as f64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt_ps(self.0, f)
            }
        }
    };
}

picoseconds!(
    /// An instant, in picoseconds since the start of the run.
    SimTime
);
picoseconds!(
    /// A length of time, in picoseconds.
    SimDuration
);

impl SimTime {
    /// This instant plus `d`; `None` past [`SimTime::MAX`].
    #[inline]
    pub const fn checked_add(self, d: SimDuration) -> Option<Self> {
        match self.0.checked_add(d.0) {
            Some(ps) => Some(Self(ps)),
            None => None,
        }
    }

    /// This instant minus `d`; `None` before 0.
    #[inline]
    pub const fn checked_sub(self, d: SimDuration) -> Option<Self> {
        match self.0.checked_sub(d.0) {
            Some(ps) => Some(Self(ps)),
            None => None,
        }
    }

    /// This instant plus `d`, at most [`SimTime::MAX`].
    #[inline]
    pub const fn saturating_add(self, d: SimDuration) -> Self {
        Self(self.0.saturating_add(d.0))
    }

    /// This instant minus `d`, at least 0.
    #[inline]
    pub const fn saturating_sub(self, d: SimDuration) -> Self {
        Self(self.0.saturating_sub(d.0))
    }

    /// The time from `earlier` to this instant; `None` when `earlier` is later.
    #[inline]
    pub const fn checked_since(self, earlier: SimTime) -> Option<SimDuration> {
        match self.0.checked_sub(earlier.0) {
            Some(ps) => Some(SimDuration(ps)),
            None => None,
        }
    }

    /// The time from `earlier` to this instant, 0 when `earlier` is later.
    #[inline]
    pub const fn saturating_since(self, earlier: SimTime) -> SimDuration {
        SimDuration(self.0.saturating_sub(earlier.0))
    }
}

impl SimDuration {
    /// The sum; `None` past [`SimDuration::MAX`].
    #[inline]
    pub const fn checked_add(self, d: Self) -> Option<Self> {
        match self.0.checked_add(d.0) {
            Some(ps) => Some(Self(ps)),
            None => None,
        }
    }

    /// The difference; `None` below 0.
    #[inline]
    pub const fn checked_sub(self, d: Self) -> Option<Self> {
        match self.0.checked_sub(d.0) {
            Some(ps) => Some(Self(ps)),
            None => None,
        }
    }

    /// `n` times this; `None` past [`SimDuration::MAX`].
    #[inline]
    pub const fn checked_mul(self, n: u64) -> Option<Self> {
        match self.0.checked_mul(n) {
            Some(ps) => Some(Self(ps)),
            None => None,
        }
    }

    /// The sum, at most [`SimDuration::MAX`].
    #[inline]
    pub const fn saturating_add(self, d: Self) -> Self {
        Self(self.0.saturating_add(d.0))
    }

    /// The difference, at least 0.
    #[inline]
    pub const fn saturating_sub(self, d: Self) -> Self {
        Self(self.0.saturating_sub(d.0))
    }

    /// `n` times this, at most [`SimDuration::MAX`].
    #[inline]
    pub const fn saturating_mul(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_to_the_nearest_picosecond() {
        let check = |s: f64, ps: u64| assert_eq!(SimDuration::from_secs_f64(s).unwrap().as_ps(), ps, "{s}");
        check(0.0, 0);
        check(1.0, PS_PER_S);
        check(1e-12, 1);
        check(0.4e-12, 0);
        check(0.6e-12, 1);
        check(123.456, 123_456_000_000_000);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert!(matches!(SimTime::from_secs_f64(f64::NAN), Err(TimeError::NotFinite(_))));
        assert!(matches!(SimTime::from_secs_f64(f64::INFINITY), Err(TimeError::NotFinite(_))));
        assert!(matches!(SimTime::from_secs_f64(-1e-12), Err(TimeError::Negative(_))));
        assert!(matches!(SimTime::from_secs_f64(2e7), Err(TimeError::TooLarge(_))));
        assert!(SimTime::MAX.checked_add(SimDuration::from_ps(1)).is_none());
        assert!(SimTime::ZERO.checked_sub(SimDuration::from_ps(1)).is_none());
    }

    #[test]
    fn prints_the_unit_that_fits() {
        let check = |ps: u64, text: &str| assert_eq!(SimTime::from_ps(ps).to_string(), text);
        check(0, "0 ps");
        check(999, "999 ps");
        check(1_500, "1.5 ns");
        check(2_000_000, "2 us");
        check(1_000_000_000_001, "1.000000000001 s");
    }
}
