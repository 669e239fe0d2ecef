//! Events over a trace: for stretches of time a link has a capacity set by hand, and its own again after them.

use sim_core::{CapacityProfile, CapacitySource, Rate, SimTime};
use std::sync::Arc;

/// A stretch `[from, to)` with a capacity of its own; `to` of [`SimTime::MAX`] is for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) from: SimTime,
    pub(crate) to: SimTime,
    pub(crate) capacity: Rate,
}

/// `base`, but for the stretches, which are sorted and do not overlap.
struct WithEvents {
    base: CapacityProfile,
    stretches: Vec<Stretch>,
}

/// `base` with `stretches` laid over it; these are sorted and do not overlap.
pub(crate) fn overlay(base: CapacityProfile, stretches: Vec<Stretch>) -> CapacityProfile {
    if stretches.is_empty() {
        return base;
    }
    CapacityProfile::generated(Arc::new(WithEvents { base, stretches }))
}

impl WithEvents {
    /// The stretch that holds at `t`, and the first that starts after it.
    fn around(&self, t: SimTime) -> (Option<&Stretch>, Option<&Stretch>) {
        let next = self.stretches.partition_point(|s| s.from <= t);
        let holding = next.checked_sub(1).map(|i| &self.stretches[i]);
        (holding.filter(|s| t < s.to || s.to == SimTime::MAX), self.stretches.get(next))
    }
}

impl CapacitySource for WithEvents {
    fn at(&self, t: SimTime) -> Rate {
        self.around(t).0.map_or_else(|| self.base.at(t), |s| s.capacity)
    }

    fn next_change(&self, after: SimTime) -> Option<(SimTime, Rate)> {
        let when = match self.around(after) {
            (Some(holding), _) => (holding.to < SimTime::MAX).then_some(holding.to),
            (None, next) => {
                let base = self.base.next_change(after).map(|(when, _)| when);
                [base, next.map(|s| s.from)].into_iter().flatten().min()
            }
        }?;
        Some((when, self.at(when)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_its_own_capacity_again_after_an_event() {
        let (r, t) = (Rate::from_raw, SimTime::from_ps);
        let base =
            CapacityProfile::wrapping(r(1), vec![(t(3), r(2))], sim_core::SimDuration::from_ps(5)).unwrap();
        let stretch = |from, to, capacity| Stretch { from: t(from), to, capacity: r(capacity) };
        let stretches = vec![stretch(4, t(7), 0), stretch(7, t(9), 8), stretch(12, SimTime::MAX, 7)];
        let profile = overlay(base, stretches);
        let values: Vec<u64> = (0..16).map(|x| profile.at(t(x)).raw()).collect();
        assert_eq!(values, [1, 1, 1, 2, 0, 0, 0, 8, 8, 2, 1, 1, 7, 7, 7, 7]);
        let mut changes = Vec::new();
        let mut now = SimTime::ZERO;
        while let Some((when, rate)) = profile.next_change(now) {
            assert_eq!(rate, profile.at(when));
            changes.push(when.as_ps());
            now = when;
        }
        assert_eq!(changes, [3, 4, 7, 9, 10, 12]);
    }
}
