//! Bounds of partial combinations, before shares and cuts are known.

use crate::tree::{Choice, Menu, Root, Timed, Tree};

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
        let best = |menu: &Menu| {
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

    /// The bound of a partial combination by what its parts can run within a time: the least time, to a thousandth, at which
    /// that is the batch; `limit + 1` when it is above that.
    pub(crate) fn combined(&self, root: &Root, parts: &[usize], next: usize, least: u64, limit: u64) -> u64 {
        let across = self.tree.across(parts);
        let alone = |(p, across): (&usize, &bool)| &self.tree.choices[*p].timed[usize::from(*across)];
        let timed: Vec<&Timed> = parts.iter().zip(&across).map(alone).collect();
        self.within(root, parts, &timed, next, least, limit)
    }

    /// The same for parts that are timed in surroundings of theirs.
    pub(crate) fn within(
        &self,
        root: &Root,
        parts: &[usize],
        timed: &[&Timed],
        next: usize,
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
            for menu in &root.menus[next..] {
                let most = |(_, c): &(u32, usize)| {
                    let c = &self.tree.choices[*c];
                    c.at_most(time).min(u64::from(need)) * u64::from(c.pipelines)
                };
                sum += menu.iter().map(most).max().unwrap_or(0);
            }
            sum >= u64::from(need)
        };
        if enough(least) {
            return least;
        }
        // `low` is not enough, `high` is.
        let (mut low, mut high) = (least, least);
        loop {
            high = high.saturating_add(high / 8 + 1);
            if high >= limit {
                if !enough(limit) {
                    return limit.saturating_add(1);
                }
                high = limit;
                break;
            }
            if enough(high) {
                break;
            }
            low = high;
            if high > 1 << 62 {
                // No time is enough: nothing fits. It is told where the shares are looked at.
                return least;
            }
        }
        while high - low > low / 1000 + 1 {
            let middle = low + (high - low) / 2;
            if enough(middle) { high = middle } else { low = middle }
        }
        low + 1
    }
}
