//! The links of the three fabrics, and what the ASTRA-sim convention makes of a message on one.

use sim_core::generate::{LinkTimes, Route, Symmetry};
use sim_core::{Rate, SimDuration};

use super::Fabric;

/// Which link goes where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    fabric: Fabric,
    ranks: u32,
}

impl Links {
    pub(crate) fn new(fabric: Fabric, ranks: u32) -> Self {
        Self { fabric, ranks }
    }

    /// `a` + `b` modulo the ranks; both below them.
    #[inline]
    fn add(&self, a: u32, b: u32) -> u32 {
        let sum = a + b;
        if sum >= self.ranks { sum - self.ranks } else { sum }
    }

    /// `a` - `b` modulo the ranks.
    #[inline]
    fn sub(&self, a: u32, b: u32) -> u32 {
        if a >= b { a - b } else { a + self.ranks - b }
    }
}

impl Route for Links {
    /// Ring: r to its next, then ranks + r to its last. Switch: r up, then ranks + r down. Full: from x ranks + to.
    fn links(&self) -> u32 {
        match self.fabric {
            Fabric::Ring | Fabric::Switch => 2 * self.ranks,
            Fabric::Full => self.ranks * self.ranks,
        }
    }

    #[inline]
    fn link(&self, from: u32, to: u32, hop: u32) -> Option<u32> {
        match self.fabric {
            Fabric::Ring => {
                let ahead = self.sub(to, from);
                if 2 * ahead <= self.ranks {
                    (hop < ahead).then(|| self.add(from, hop))
                } else {
                    (hop < self.ranks - ahead).then(|| self.ranks + self.sub(from, hop))
                }
            }
            Fabric::Switch => match hop {
                0 => Some(from),
                1 => Some(self.ranks + to),
                _ => None,
            },
            Fabric::Full => (hop == 0).then(|| from * self.ranks + to),
        }
    }

    fn orbit(&self, link: u32, symmetry: Symmetry) -> Option<u32> {
        match (self.fabric, symmetry) {
            (Fabric::Ring, Symmetry::Exchange) => None,
            (Fabric::Ring | Fabric::Switch, _) => Some(link / self.ranks * self.ranks),
            (Fabric::Full, _) => {
                let (from, to) = (link / self.ranks, link % self.ranks);
                Some(if symmetry == Symmetry::Rotation { self.sub(to, from) } else { from ^ to })
            }
        }
    }
}

/// Equal links whose times are cut to whole nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WholeNanoseconds {
    bandwidth: Rate,
    latency: SimDuration,
}

/// Picoseconds in a nanosecond.
const NS: u128 = 1_000;

impl WholeNanoseconds {
    pub(crate) fn new(bandwidth: Rate, latency: SimDuration) -> Self {
        Self { bandwidth, latency }
    }
}

impl LinkTimes for WholeNanoseconds {
    fn times(&self, _link: u32, bytes: u64) -> (SimDuration, SimDuration) {
        // A rate counts 2^-16 bytes a second.
        let busy = ((u128::from(bytes) << 16) * 1_000_000_000_000)
            .checked_div(u128::from(self.bandwidth.raw()))
            .unwrap_or(u128::MAX / 2);
        let cut = |ps: u128| SimDuration::from_ps(u64::try_from(ps / NS * NS).unwrap_or(u64::MAX));
        (cut(busy), cut(busy.saturating_add(u128::from(self.latency.as_ps()))))
    }

    fn alike(&self, _a: u32, _b: u32) -> bool {
        true
    }
}
