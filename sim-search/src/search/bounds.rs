//! Bounds of partial combinations, before shares and cuts are known.

use crate::cost::borders::Borders;
use crate::cost::setting::{Shared, Sharers};
use crate::cost::stand::others;
use crate::cost::{higher, lower};
use crate::tree::{Busy, Case, Pipelines, Root, Tree, of_band};
use sim_models::cost;
use std::sync::Arc;

/// See the head of this file.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<'t> {
    pub(crate) tree: &'t Tree<'t>,
}

impl Bounds<'_> {
    /// A bound of a partial combination whose kinds up to `next` are decided, without dynamic programs: every pipeline filled, busy
    /// all the time and emptied, and then gradients that cross zones.
    pub(crate) fn quick(&self, root: &Root, parts: &[usize], next: usize) -> u64 {
        let of = |case: &Case| self.quick_case(root, parts, case);
        self.tree.cases(root, parts, next).iter().map(of).min().unwrap_or(u64::MAX)
    }

    fn quick_case(&self, root: &Root, parts: &[usize], case: &Case) -> u64 {
        let (tree, need) = (self.tree, self.tree.micro_batches(root.frame));
        let (mut all, mut one) = (Busy::default(), Busy::default());
        let chosen = parts.iter().map(|p| tree.choices[*p].busy());
        let menus = case.open.iter().map(|(k, _)| root.menus[*k].busy(tree));
        for busy in chosen.chain(menus) {
            all.rate += busy.rate;
            all.early += busy.early;
            one = one.most(busy);
        }
        if all.rate <= 0.0 {
            return u64::MAX;
        }
        let least = ((f64::from(need) - all.early) / all.rate * (1.0 - 1e-9)) as u64;
        let waits = tree.frames[root.frame].recipe.waits();
        let crossing = case.across.zip(parts.first()).filter(|_| waits);
        // What is left of a time before gradients cross zones: the more pipelines, the more crosses, and so many there are.
        let before = |time: u64| {
            crossing.map(|(cut, lead)| {
                let pipelines = f64::from(need) / ((time as f64 + 1.0) * one.each + one.sooner);
                let link = Shared::new(0..1, (pipelines as u32).max(2), cut.into());
                grid::up(time.saturating_sub(link.whole(&tree.choices[*lead].cost)))
            })
        };
        let enough = |time: u64| {
            let before = before(time);
            let of = |p: &usize| tree.choices[*p].at_most(time, before, need);
            let sum: u64 = parts.iter().map(of).sum();
            let menu = |(k, _): &(usize, _)| root.menus[*k].at_most(tree, time, before, need);
            sum >= u64::from(need) || sum + case.open.iter().map(menu).sum::<u64>() >= u64::from(need)
        };
        least_time(enough, least, 1)
    }

    /// The same of a combination with so many pipelines of each part.
    pub(crate) fn busy(&self, root: &Root, parts: &[usize], counts: &[u32]) -> u64 {
        let (mut rate, mut early) = (0.0, 0.0);
        for (p, n) in parts.iter().zip(counts) {
            let pace = self.tree.choices[*p].pace(*n);
            let each = f64::from(*n) / pace.beat.bottleneck as f64;
            rate += each;
            early += each * pace.beat.slack as f64;
        }
        let need = f64::from(self.tree.micro_batches(root.frame));
        ((need - early) / rate * (1.0 - 1e-9)) as u64
    }

    /// The least cost of a plan of a partial combination that takes no less than `time`: no micro-batch is run for less than
    /// where it costs least.
    pub(crate) fn cost(&self, root: &Root, parts: &[usize], next: usize, time: u64) -> u64 {
        let (mut least, mut slack) = (f64::INFINITY, 0.0);
        let open = self.tree.open_kinds(root, parts, next);
        let menus = root.menus[open].iter().flat_map(|menu| menu.iter().map(|(_, c)| c));
        for p in parts.iter().chain(menus) {
            for pace in &self.tree.choices[*p].paces {
                least = lower(least, self.tree.pipeline_price(*p) * pace.beat.bottleneck as f64);
                slack = higher(slack, pace.beat.slack as f64);
            }
        }
        let need = f64::from(self.tree.micro_batches(root.frame));
        let alike = need * least / (1.0 + slack / (time.max(1) as f64)) * (1.0 - 1e-9);
        // In ps x 10^-6 dollars an hour.
        let part = f64::from(1u32 << 20);
        let alike = cost::for_time(1 << 20, (alike / part) as u64);
        alike.max(cost::for_time(self.tree.price(parts, &[]), time))
    }

    /// The bound of a partial combination by what its parts can run within a time: no time that is less, to a five-hundredth, is
    /// enough for the batch; `limit + 1` when it is above that. One that was `enough` is known for it, or `None`; and the second
    /// is one that is, where the bound may still be nearer to it.
    pub(crate) fn combined(
        &self,
        root: &Root,
        parts: &[usize],
        next: usize,
        (least, enough): (u64, Option<u64>),
        limit: u64,
    ) -> (u64, Option<u64>) {
        let tree = self.tree;
        let (need, cases) = (tree.micro_batches(root.frame), tree.cases(root, parts, next));
        let can = |time: u64| cases.iter().any(|case| self.can(root, parts, case, time, need));
        // What comes next has bounds of its own.
        let steps = if next < root.menus.len() { ROUGHLY } else { 1 };
        nearer(can, (least, enough), limit, steps)
    }

    /// Whether the parts, with the best of what may come in a case, can run the batch of `need` micro-batches within a time.
    fn can(&self, root: &Root, parts: &[usize], case: &Case, time: u64, need: u32) -> bool {
        let (tree, batch) = (self.tree, u64::from(need));
        let at_most = |p: &usize| tree.choices[*p].at_most(time, None, need);
        let busy = |k: usize| root.menus[k].at_most(tree, time, None, need);
        let mut most: Vec<u64> = parts.iter().map(at_most).collect();
        let mut rest: u64 = case.open.iter().map(|(k, _)| busy(*k)).sum();
        // What menus run is known of many combinations.
        let own: u64 = most.iter().sum();
        for (k, beside) in &case.open {
            if own + rest < batch {
                return false;
            }
            rest = rest - busy(*k) + root.menus[*k].most(tree, root.frame, *beside, time, need);
        }
        for (i, p) in parts.iter().enumerate() {
            let others = rest + most.iter().sum::<u64>() - most[i];
            let least = batch.saturating_sub(others).max(1);
            let mut own = 0;
            for band in &tree.choices[*p].bands {
                let wanted = least.max(own + 1);
                if tree.choices[*p].band_at_most(band, time, need) >= wanted {
                    let pipelines = tree.pipelines(root.frame, *p, of_band(case.sharers[i], band));
                    let wanted = (u32::try_from(wanted).unwrap_or(u32::MAX), need);
                    own = own.max(
                        pipelines.capacity_at(&tree.rings, band.most, time, wanted, Borders::ALL).into(),
                    );
                    if i + 1 == parts.len() && own >= least {
                        return true;
                    }
                }
            }
            if own < least {
                return false;
            }
            most[i] = own;
        }
        most.iter().sum::<u64>() + rest >= batch
    }

    /// The most micro-batches of each part within a time, up to `need` a pipeline; `None` where they cannot run as many together.
    fn most(&self, parts: &[Arc<Pipelines>], time: u64, need: u32) -> Option<Vec<u32>> {
        let mut most: Vec<u32> = parts.iter().map(|part| part.at_most(time, need)).collect();
        for (p, part) in parts.iter().enumerate() {
            let others = total(&most) - most[p];
            let least = need.saturating_sub(others).max(1);
            most[p] = part.capacity(&self.tree.rings, time, (least, need));
            if most[p] < least {
                return None;
            }
        }
        Some(most)
    }

    /// What parts beside each other take at least where rings of all of them go in turn, as [`Bounds::combined`] says it; far below
    /// the limit hardly any are past it, and the middle is asked first: the longer the time, the dearer the answer.
    pub(crate) fn in_turn(
        &self,
        root: &Root,
        parts: &[Arc<Pipelines>],
        known: (u64, Option<u64>),
        limit: u64,
    ) -> (u64, Option<u64>) {
        let can = |time| self.can_in_turn(root, parts, time);
        if let (least, None) = known
            && is_far(least, limit)
        {
            let middle = grid::middle(least, limit);
            if !can(middle) {
                return (middle + 1, Some(SOME_TIME));
            }
            return nearer(can, (least, Some(middle)), limit, 1);
        }
        nearer(can, known, limit, 1)
    }

    /// Whether the parts of a combination can run the batch within a time. A border is common to all of them only where each has one
    /// in a cut with which it runs no less than the others leave; elsewhere rings go one after another.
    pub(crate) fn can_in_turn(&self, root: &Root, parts: &[Arc<Pipelines>], time: u64) -> bool {
        let (rings, need) = (&self.tree.rings, self.tree.micro_batches(root.frame));
        let Some(mut most) = self.most(parts, time, need) else { return false };
        if parts.len() < 2 || !self.tree.frames[root.frame].recipe.waits() {
            return true;
        }
        let sum = total(&most);
        let of = |(part, most): (&Arc<Pipelines>, &u32)| part.inner(need.saturating_sub(sum - most), time);
        let inner: Vec<Borders> = parts.iter().zip(&most).map(of).collect();
        for (p, part) in parts.iter().enumerate() {
            let at = inner[p].and(others(&inner, p));
            if at != inner[p] {
                let least = need.saturating_sub(total(&most) - most[p]).max(1);
                most[p] = part.capacity_at(rings, part.pipelines, time, (least, need), at);
                if most[p] < least {
                    return false;
                }
            }
        }
        true
    }

    /// Gives, in the order of keys and after the numbers of `after`, the numbers of pipelines with which a combination may run the
    /// batch within `band.1` but not within `band.0`, until `give` has enough; whether all of the band were given, and whether
    /// nothing is above it.
    pub(crate) fn numbers(
        &self,
        root: &Root,
        parts: &[usize],
        band: (Option<u64>, u64),
        after: &[u32],
        give: &mut dyn FnMut(&[u32]) -> bool,
    ) -> (bool, bool) {
        let need = self.tree.micro_batches(root.frame);
        let sharers = self.tree.sharers(root, parts, &[], root.menus.len());
        let (rings, batch) = (&self.tree.rings, u64::from(need));
        // No more than so many, whatever surrounds them: what falls short with that is not looked at closely.
        let at_most = |p: usize, time: u64| self.tree.choices[p].at_most(time, None, need);
        let rest = |p: usize, time: u64| {
            let all: u64 = parts.iter().map(|q| at_most(*q, time)).sum();
            all - at_most(p, time)
        };
        let runs = |(p, sharers): (&usize, &Sharers)| -> Vec<Run> {
            let choice = &self.tree.choices[*p];
            let ever = u64::from(choice.most_that_fit(need));
            // The same of a time in each band, so that what is within one band was given before the next.
            let times = [Some(band.1), band.0].map(|time| time.map(|time| (time, rest(*p, time))));
            let mut list = Vec::with_capacity(choice.numbers.len());
            for range in &choice.bands {
                let [within, before] = times.map(|time| {
                    let may =
                        |(time, rest): &(u64, u64)| rest + choice.band_at_most(range, *time, need) >= batch;
                    time.filter(may).map_or(0, |(time, _)| {
                        let known = self.tree.pipelines(root.frame, *p, of_band(*sharers, range));
                        u64::from(known.capacity_at(rings, range.most, time, (1, need), Borders::ALL))
                    })
                });
                // Where a band has several numbers, each pipeline runs as many.
                let of = |most: u64, n: u32| match n == range.most {
                    true => most,
                    false => most / u64::from(range.most) * u64::from(n),
                };
                for &pipelines in choice.numbers[list.len()..].iter().take_while(|n| **n >= range.fewest) {
                    list.push(Run {
                        pipelines,
                        within: of(within, pipelines),
                        before: of(before, pipelines),
                        ever: ever * u64::from(pipelines),
                    });
                }
            }
            list
        };
        let runs: Vec<Vec<Run>> = parts.iter().zip(&sharers).map(runs).collect();
        // The most of the parts from each one on.
        let mut rest = vec![(0u64, 0u64); runs.len() + 1];
        for (i, list) in runs.iter().enumerate().rev() {
            let most = |f: &dyn Fn(&Run) -> u64| list.iter().map(f).max().unwrap_or(0);
            rest[i] = (rest[i + 1].0 + most(&|r| r.within), rest[i + 1].1 + most(&|r| r.ever));
        }
        let mut walk = Numbers { runs: &runs, rest: &rest, need: u64::from(need), after, all: true, give };
        let whole = walk.from(&mut Vec::new(), (Run::default(), true));
        (whole, walk.all)
    }
}

/// Micro-batches that some pipelines run at most: within a band of time, before it, and as far as memory allows.
#[derive(Clone, Copy, Default)]
struct Run {
    pipelines: u32,
    within: u64,
    before: u64,
    ever: u64,
}

/// Numbers of pipelines, part by part: see [`Bounds::numbers`].
struct Numbers<'n> {
    runs: &'n [Vec<Run>],
    /// Of the parts from each one on: within the band, and ever.
    rest: &'n [(u64, u64)],
    need: u64,
    after: &'n [u32],
    /// Whether none was left out as too slow.
    all: bool,
    give: &'n mut dyn FnMut(&[u32]) -> bool,
}

impl Numbers<'_> {
    /// `sums`: what the parts so far run, and whether each runs something before the band.
    fn from(&mut self, path: &mut Vec<u32>, (sums, sooner): (Run, bool)) -> bool {
        let i = path.len();
        if i == self.runs.len() {
            let sooner = sooner && sums.before >= self.need;
            return sooner || path[..] == *self.after || (self.give)(path);
        }
        // Up to the last given, nothing is new; each pipeline has a micro-batch at least.
        let started = path[..] == self.after[..i.min(self.after.len())] && self.after.len() > i;
        let first = if started { self.after[i] } else { u32::MAX };
        let left = self.need.saturating_sub(u64::from(sums.pipelines) + (self.runs.len() - 1 - i) as u64);
        for own in &self.runs[i] {
            let enough = |own: u64, sum: u64, rest: u64| own > 0 && sum + own + rest >= self.need;
            if own.pipelines > first
                || u64::from(own.pipelines) > left
                || !enough(own.ever, sums.ever, self.rest[i + 1].1)
            {
                continue;
            }
            if !enough(own.within, sums.within, self.rest[i + 1].0) {
                self.all = false;
                continue;
            }
            path.push(own.pipelines);
            let with = Run {
                pipelines: sums.pipelines + own.pipelines,
                within: sums.within + own.within,
                before: sums.before + own.before,
                ever: sums.ever + own.ever,
            };
            let whole = self.from(path, (with, sooner && own.before > 0));
            path.pop();
            if !whole {
                return false;
            }
        }
        true
    }
}

/// Micro-batches of all parts together.
fn total(parts: &[u32]) -> u32 {
    parts.iter().fold(0, |sum, n| sum.saturating_add(*n))
}

/// Times of the grid that the bound of a partial combination is known to.
const ROUGHLY: u32 = 8;

/// The least time, to so many times of the grid, that is `enough`, from `least` on.
fn least_time(enough: impl Fn(u64) -> bool, least: u64, to: u32) -> u64 {
    // `low` is not enough, `high` is: on a grid that all nodes share, so that what a menu runs is looked into once.
    let mut low = grid::of(least).next_multiple_of(to);
    if enough(grid::time(low)) {
        return least;
    }
    let mut high = low;
    let (end, mut step) = (grid::of(u64::MAX), to);
    loop {
        high = (high + step).min(end);
        step *= 2;
        if enough(grid::time(high)) {
            break;
        }
        if high == end {
            // Past any time nothing is enough: nothing fits. It is told where the shares are looked at.
            return least;
        }
        low = high;
    }
    while high - low > to {
        let middle = low + ((high - low) / 2).next_multiple_of(to);
        if enough(grid::time(middle)) { high = middle } else { low = middle }
    }
    grid::time(low) + 1
}

/// The first half of the times between `least` and one that is `enough` that is not: its end, and what is enough, which is `None`
/// where nothing is between them. Many nodes need no more than that to wait for the end.
fn nearer(
    enough: impl Fn(u64) -> bool,
    (least, known): (u64, Option<u64>),
    limit: u64,
    to: u32,
) -> (u64, Option<u64>) {
    if limit >= FOR_EVER {
        return (least_time(enough, least, to), None);
    }
    let (low, end) = (grid::of(least).next_multiple_of(to), grid::of(limit));
    let mut high = known.map_or(u32::MAX, grid::of);
    if high > end {
        // Most are past the limit.
        if !enough(grid::time(end)) {
            return (limit.saturating_add(1), None);
        }
        high = end;
    }
    while low < high {
        let middle = low + (high - low) / 2 / to * to;
        if !enough(grid::time(middle)) {
            return (grid::time(middle) + 1, (high - middle > to).then(|| grid::time(high)));
        }
        high = middle;
    }
    (least, None)
}

/// Where a time is enough that is not known.
const SOME_TIME: u64 = u64::MAX;

/// Whether a bound is far from a limit: a twentieth or more.
pub(super) fn is_far(bound: u64, limit: u64) -> bool {
    limit < FOR_EVER && bound < limit - limit / 20
}

/// A time that is enough by what [`nearer`] found.
pub(super) fn room((bound, enough): (u64, Option<u64>)) -> u64 {
    enough.unwrap_or(grid::up(bound))
}

/// No plan takes as long.
const FOR_EVER: u64 = u64::MAX / 4;

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

    /// One of them in the middle between two times.
    pub(super) fn middle(low: u64, high: u64) -> u64 {
        let (low, high) = (of(low), of(high));
        time(low + (high - low) / 2)
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
