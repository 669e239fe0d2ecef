//! What the search must know of a pipeline in O(1) per question: stage times and memory over any layers ([`stage`]), lower
//! bounds of an iteration for any layers of one stage whatever the other stages have ([`template`]), the transfers and
//! gradient rings around it ([`setting`], [`rings`], [`borders`], [`beside`], [`stand`], [`sending`], [`placed`]), the cuts of the
//! layers in the order of their bounds ([`cuts`]), and the rings of all parts once these are known ([`turns`]).
//!
//! Nothing here is above a simulated time: tests/laws holds bounds against simulated plans. docs/search.md says why.

pub mod beside;
pub mod borders;
pub mod cuts;
mod fill;
mod line;
pub mod placed;
pub mod rings;
pub mod sending;
pub mod setting;
pub mod stage;
pub mod stand;
pub mod template;
pub mod turns;
mod within;
pub mod zones;

pub(crate) use fill::{Beat, Fills};
pub use setting::Setting;
pub use stage::Tables;
pub use template::{NotMeasured, TemplateCost};

/// A time that no sum of others reaches.
pub(crate) const NEVER: u64 = u64::MAX / 4;

/// A day, ps. As no pass of a model takes longer, so nothing else is taken to.
const DAY: u64 = 86_400_000_000_000_000;

/// What is sent once for every micro-batch is taken to last no longer than this, ps: the sum over so many of them, each way and over
/// all stages of a pipeline, stays below [`NEVER`].
pub(crate) fn longest(micro_batches: u32) -> u64 {
    (NEVER / 256 / u64::from(micro_batches.max(1))).min(DAY)
}

/// Seconds to ps, rounded down and a little more (the kernel's rates and times are integers of their own); a day at most.
pub(crate) fn floor_ps(seconds: f64) -> u64 {
    if seconds.is_finite() { ((seconds * 1e12 * (1.0 - 1e-9)) as u64).min(DAY) } else { 0 }
}

/// A factor of at least 0, rounded down to 2^-24: times of bytes without floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Factor(u64);

impl Factor {
    const FRACTION: u32 = 24;

    /// No more than `factor`; 0 where that is no number.
    pub(crate) fn floor(factor: f64) -> Factor {
        Factor((factor * f64::from(1 << Self::FRACTION)) as u64)
    }

    /// The time in ps of a byte that goes around a ring of so many ranks over a link of `rate` bytes/s, both ways of an all-reduce; 0
    /// where there is none.
    pub(crate) fn around(members: u32, rate: f64) -> Factor {
        let n = f64::from(members.max(1));
        Factor::floor(if rate > 0.0 { 2.0 * (n - 1.0) / n / rate * 1e12 * (1.0 - 1e-9) } else { 0.0 })
    }

    /// So many times as much, rounded down; [`u64::MAX`] where that is more.
    pub(crate) fn of(self, count: u64) -> u64 {
        let product = (u128::from(self.0) * u128::from(count)) >> Self::FRACTION;
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

pub(crate) fn higher(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

pub(crate) fn lower(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// Of numbers of pipelines that hardly differ, the least: 0, 1, 2, 3, 4, 6, 8, 12, ...
pub(crate) fn rounded(pipelines: u32) -> u32 {
    let Some(size) = pipelines.checked_ilog2() else { return 0 };
    let (power, half) = (1 << size, (1 << size) / 2);
    if pipelines >= power + half { power + half } else { power }
}
