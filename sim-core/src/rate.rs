//! Rates and work as integers.
//!
//! A [`Rate`] counts units of 2^-16 byte per second. *Work* counts units of 2^-16 byte times 10^-12: what a rate of one
//! unit does in one picosecond. So `rate * picoseconds` is work exactly, and what is left of a transfer never drifts.

use std::fmt;

use thiserror::Error;

use crate::time::PS_PER_S;

/// Units of [`Rate`] in one byte per second.
const UNITS_PER_BYTE_PER_S: u64 = 1 << 16;

/// Units of work in one byte.
pub(crate) const WORK_PER_BYTE: u128 = UNITS_PER_BYTE_PER_S as u128 * PS_PER_S as u128;

/// Why a number is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum RateError {
    /// Not a number, or infinite.
    #[error("rate is not finite: `{0}` B/s")]
    NotFinite(f64),
    /// Below zero.
    #[error("rate is negative: `{0}` B/s")]
    Negative(f64),
    /// Above 2^48 B/s.
    #[error("rate exceeds 281 TB/s: `{0}` B/s")]
    TooLarge(f64),
}

/// Bytes per second, in units of 2^-16 B/s; from 0 to about 281 TB/s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Rate(u64);

impl Rate {
    /// Nothing moves.
    pub const ZERO: Self = Self(0);
    /// 2^48 B/s less one unit; as a cap it means none.
    pub const MAX: Self = Self(u64::MAX);

    /// From bytes per second, rounded to the nearest 2^-16 B/s.
    ///
    /// # Errors
    /// When the number is not finite, is negative, or reaches 2^48.
    ///
    /// ```
    /// use sim_core::Rate;
    /// assert_eq!(Rate::from_bytes_per_s(1.5).unwrap().raw(), 98_304);
    /// assert!(Rate::from_bytes_per_s(f64::NAN).is_err());
    /// ```
    pub fn from_bytes_per_s(bytes_per_s: f64) -> Result<Self, RateError> {
        if !bytes_per_s.is_finite() {
            return Err(RateError::NotFinite(bytes_per_s));
        }
        if bytes_per_s < 0.0 {
            return Err(RateError::Negative(bytes_per_s));
        }
        let units = (bytes_per_s * UNITS_PER_BYTE_PER_S as f64).round();
        if units >= 18_446_744_073_709_551_616.0 {
            return Err(RateError::TooLarge(bytes_per_s));
        }
        Ok(Self(units as u64))
    }

    /// From units of 2^-16 B/s.
    #[inline]
    pub const fn from_raw(units: u64) -> Self {
        Self(units)
    }

    /// Units of 2^-16 B/s.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Bytes per second, to the nearest `f64`.
    #[inline]
    pub fn as_bytes_per_s(self) -> f64 {
        self.0 as f64 / UNITS_PER_BYTE_PER_S as f64
    }

    /// `num / den` of this rate, rounded down and at most [`Rate::MAX`]. `den` 0 gives [`Rate::MAX`].
    #[inline]
    pub fn scaled(self, num: u32, den: u32) -> Self {
        if num == den {
            return self;
        }
        match (u128::from(self.0) * u128::from(num)).checked_div(u128::from(den)) {
            Some(units) => Self(u64::try_from(units).unwrap_or(u64::MAX)),
            None => Self::MAX,
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B/s", self.as_bytes_per_s())
    }
}

/// Whole picoseconds, rounded up, that `work` takes at `rate`; [`u64::MAX`] when it never ends or ends past the clock.
#[inline]
pub(crate) fn time_for(work: u128, rate: u64) -> u64 {
    if rate == 0 {
        return if work == 0 { 0 } else { u64::MAX };
    }
    // A quotient of 2^64 or more is out of range whatever its value; below that one hardware division gives it.
    if (work >> 64) >= u128::from(rate) {
        return u64::MAX;
    }
    let rate = u128::from(rate);
    let quotient = work / rate;
    let up = u128::from(quotient * rate != work);
    u64::try_from(quotient + up).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_up_to_a_picosecond() {
        let check = |bytes: u64, rate: u64, ps: u64| {
            assert_eq!(time_for(u128::from(bytes) * WORK_PER_BYTE, rate), ps, "{bytes} B at {rate}");
        };
        check(0, 0, 0);
        check(1, 0, u64::MAX);
        check(1, 65_536, PS_PER_S);
        check(1, 65_537, 999_984_741_444);
        check(3, 65_536_000_000_000, 3_000);
        check(1, u64::MAX, 1);
        check(u64::MAX, 1, u64::MAX);
    }

    #[test]
    fn scaling_rounds_down() {
        assert_eq!(Rate::from_raw(10).scaled(1, 3), Rate::from_raw(3));
        assert_eq!(Rate::MAX.scaled(2, 1), Rate::MAX);
        assert_eq!(Rate::from_raw(10).scaled(0, 3), Rate::ZERO);
    }
}
