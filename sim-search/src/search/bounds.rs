//! Bounds of partial combinations, before shares and cuts are known.

use crate::cost::setting::Sharers;
use crate::tree::{Beside, Choice, Menu, Root, Timed, Tree};
use std::sync::Arc;

/// See the head of this file.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'t> {
    pub(crate) tree: &'t Tree<'t>,
}

impl Bounds<'_> {
    /// A bound of a partial combination whose kinds up to `next` are decided, in O(1) a part: every pipeline busy all the time.
    pub(crate) fn quick(&self, root: &Root, parts: &[usize], next: usize) -> u64 {
        let need = f64::from(self.tree.micro_batches(root.frame));
        let (mut rate, mut early) = (0.0, 0.0);
        let mut add = |c: &Choice| {
            let each = f64::from(c.pipelines) / c.bottleneck as f64;
            rate += each;
            early += each * c.slack as f64;
        };
        parts.iter().for_each(|p| add(&self.tree.choices[*p]));
        let best = |menu: &Arc<Menu>| {
            let fastest = |(a, b): (f64, f64), (_, c): &(u32, usize)| {
                let c = &self.tree.choices[*c];
                let each = f64::from(c.pipelines) / c.bottleneck as f64;
                let early = each * c.slack as f64;
                (if each > a { each } else { a }, if early > b { early } else { b })
            };
            menu.iter().fold((0.0, 0.0), fastest)
        };
        for menu in &root.menus[next..] {
            let (more, sooner) = best(menu);
            rate += more;
            early += sooner;
        }
        if rate > 0.0 { ((need - early) / rate * (1.0 - 1e-9)) as u64 } else { u64::MAX }
    }

    /// The bound of a partial combination by what its parts can run within a time: the least time, to a five-hundredth, at which
    /// that is the batch; `limit + 1` when it is above that.
    pub(crate) fn combined(&self, root: &Root, parts: &[usize], next: usize, least: u64, limit: u64) -> u64 {
        let (sharers, beside) = self.tree.sharers(parts);
        let of = |(p, sharers): (&usize, &Sharers)| self.tree.timed(root.frame, *p, *sharers);
        let timed: Vec<Arc<Timed>> = parts.iter().zip(&sharers).map(of).collect();
        let timed: Vec<&Timed> = timed.iter().map(|t| &**t).collect();
        self.of_parts(root, parts, &timed, (next, &beside), least, limit)
    }

    /// The same for all parts of a combination, timed in surroundings of theirs.
    pub(crate) fn within(
        &self,
        root: &Root,
        parts: &[usize],
        timed: &[&Timed],
        least: u64,
        limit: u64,
    ) -> u64 {
        self.of_parts(root, parts, timed, (root.menus.len(), &[]), least, limit)
    }

    fn of_parts(
        &self,
        root: &Root,
        parts: &[usize],
        timed: &[&Timed],
        (next, beside): (usize, &[Beside]),
        least: u64,
        limit: u64,
    ) -> u64 {
        let need = self.tree.micro_batches(root.frame);
        let enough = |time: u64| {
            let mut sum = 0u64;
            for (p, timed) in parts.iter().zip(timed) {
                let c = &self.tree.choices[*p];
                let n = timed.capacity(c, time, need);
                if n == 0 {
                    return false;
                }
                sum += u64::from(n) * u64::from(c.pipelines);
            }
            // The menus are the costliest to look into.
            let busy = |menu: &Arc<Menu>| {
                let most = |(_, c): &(u32, usize)| {
                    let c = &self.tree.choices[*c];
                    c.at_most(time).min(u64::from(need)) * u64::from(c.pipelines)
                };
                menu.iter().map(most).max().unwrap_or(0)
            };
            let mut rest: u64 = root.menus[next..].iter().map(busy).sum();
            for (k, menu) in root.menus.iter().enumerate().skip(next) {
                if sum + rest < u64::from(need) {
                    return false;
                }
                rest -= busy(menu);
                sum += menu.most(self.tree, root.frame, beside[k], time, need);
            }
            sum >= u64::from(need)
        };
        // `low` is not enough, `high` is: on a grid that all nodes share, so that what a menu runs is looked into once.
        if enough(grid::up(least)) {
            return least;
        }
        let (mut low, mut high) = (grid::of(least), grid::of(least));
        let (end, mut step) = (grid::of(limit), 1);
        loop {
            high = (high + step).min(end);
            step *= 2;
            if enough(grid::time(high)) {
                break;
            }
            if high == end {
                // Past any time nothing is enough: nothing fits. It is told where the shares are looked at.
                return if limit < u64::MAX / 4 { limit.saturating_add(1) } else { least };
            }
            low = high;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if enough(grid::time(middle)) { high = middle } else { low = middle }
        }
        grid::time(low) + 1
    }
}

/// Times a five-hundredth apart or less: the leading 10 bits.
mod grid {
    /// The number of the first of them that is no less.
    pub(super) fn of(time: u64) -> u32 {
        let shift = (u64::BITS - time.leading_zeros()).saturating_sub(10);
        let leading = (time >> shift) as u32 + u32::from(time & ((1 << shift) - 1) > 0);
        // A carry runs on into the next size.
        (shift << 9) + leading
    }

    /// The time of a number.
    pub(super) fn time(number: u32) -> u64 {
        if number < 1024 {
            return number.into();
        }
        let shift = (number >> 9) - 1;
        let leading = u64::from(number - (shift << 9));
        leading.checked_shl(shift).filter(|t| t >> shift == leading).unwrap_or(u64::MAX)
    }

    /// The first of them that is no less than `least`.
    pub(super) fn up(least: u64) -> u64 {
        time(of(least))
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn a_time_is_hardly_below_the_grid() {
            for time in
                [0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 123_456_789, 15_200_056_154_039, (1 << 62) - 1]
            {
                let up = super::up(time);
                assert!(up >= time && up - time <= time / 512, "{time} {up}");
                assert_eq!(super::of(up), super::of(time));
                assert!(super::time(super::of(up) + 1) > up);
            }
        }
    }
}
