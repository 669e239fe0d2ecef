//! Newtypes for what is counted: bytes. Times and rates are `sim_core`'s.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign};

/// A number of bytes, 0 ..= 2^64-1. Sums saturate: a sum that would overflow is larger than any memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// No bytes.
    pub const ZERO: Bytes = Bytes(0);

    /// From a float, rounded to the nearest byte and clamped to `0 ..= u64::MAX`; NaN gives 0.
    pub fn from_f64(bytes: f64) -> Bytes {
        Bytes(libm::round(bytes) as u64)
    }

    /// In GiB (2^30 bytes).
    pub fn as_gib(self) -> f64 {
        self.0 as f64 / (1u64 << 30) as f64
    }

    /// A share of `n`, rounded up; `n` is at least 1.
    #[must_use]
    pub fn share(self, n: u32) -> Bytes {
        Bytes(self.0.div_ceil(u64::from(n.max(1))))
    }

    /// `self x n`, saturating.
    #[must_use]
    pub fn times(self, n: u64) -> Bytes {
        Bytes(self.0.saturating_mul(n))
    }
}

impl Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        iter.fold(Bytes::ZERO, Add::add)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] =
            [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (name, size) in UNITS {
            if self.0 >= size {
                return write!(f, "{:.2} {name}", self.0 as f64 / size as f64);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// An optional size in files, with its largest exact unit: `"25 MiB"`, `"1000 B"`.
pub(crate) mod exact {
    use super::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const UNITS: [(&str, u64); 9] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("KB", 1_000),
        ("B", 1),
    ];

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        let Some(Bytes(bytes)) = *bytes else { return to.serialize_none() };
        let exact = UNITS.iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
        let (unit, size) = exact.unwrap_or(&("B", 1));
        to.serialize_str(&format!("{} {unit}", bytes / size))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = UNITS.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(text[at..].trim()));
        let bytes = unit.and_then(|(_, size)| text[..at].parse::<u64>().ok()?.checked_mul(*size));
        match bytes {
            Some(bytes) => Ok(Some(Bytes(bytes))),
            None => Err(D::Error::custom(format!("`{text}` is not a size such as `25 MiB`"))),
        }
    }
}
