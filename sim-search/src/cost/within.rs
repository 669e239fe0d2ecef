//! What a pipeline takes at least over every cut of its layers, by passes over (stage, border) from the first layer down and from the
//! last layer back.

use super::NEVER;
use super::borders::Borders;
use super::line::{After, At, Before, Line, Sent};
use std::ops::Range;

/// What is known at a border: of the stages before `s` that hold the layers before it, and of those from `s` on that hold the
/// layers from it on. [`NEVER`] where they cannot.
#[derive(Clone, Copy, Debug)]
struct Cell {
    before: Before,
    after: After,
    /// The gradients of the stages from `s` on, and the end of the iteration by them.
    gradients: Sent,
    /// The border after stage `s` that gives this end.
    next: u32,
    /// The last border after stage `s`: the layers fit, and alone they are within the window.
    last: u32,
    /// Where the last forward passes with each border after stage `s` stand.
    forward: u32,
}

impl Cell {
    /// Of nothing that is known yet.
    const NEVER: Cell = Cell {
        before: Before::NEVER,
        after: After::NEVER,
        gradients: Sent::NEVER,
        next: 0,
        last: 0,
        forward: 0,
    };
}

/// Bounds over every cut within a window. See the head of this file.
pub(super) struct Within<'c> {
    line: Line<'c>,
    /// By stage.
    at: Vec<At<'c>>,
    /// Cuts that take longer are not looked at.
    window: u64,
    /// Stage by stage, of the borders before it that a cut within the window may have.
    cells: Vec<Cell>,
    /// Cell by cell, the ends of last forward passes.
    forward: Vec<u64>,
    /// By stage, and past the last: the first of these borders, the one past them, and where their cells begin.
    reach: Vec<Reach>,
}

/// Borders `first .. end` before a stage, whose cells begin at `at`.
#[derive(Clone, Copy, Debug)]
struct Reach {
    first: usize,
    end: usize,
    at: usize,
}

impl<'c> Within<'c> {
    /// The tables for cuts that take no longer than `window`.
    pub(super) fn new(line: Line<'c>, window: u64) -> Within<'c> {
        let at = (0..line.cost.stages.len()).map(|s| line.at(s)).collect();
        let (cells, forward, reach) = Default::default();
        let mut tables = Within { line, at, window, cells, forward, reach };
        if tables.borders_within() {
            tables.sums();
            tables.down();
            tables.back();
        }
        tables
    }

    /// Finds the borders that a cut may have no stage of which takes longer than the window alone, and the last border of each
    /// stage; whether there is such a cut.
    fn borders_within(&mut self) -> bool {
        let (line, window) = (self.line, self.window);
        let Line { cost, micro_batches, around, .. } = line;
        let (stages, layers, n) = (cost.stages.len(), cost.layers, u64::from(micro_batches));
        // Down: as far as the stages can get. The last border moves on with the first.
        let mut lasts: Vec<Vec<u32>> = Vec::with_capacity(stages);
        let mut far = 0;
        for (s, stage) in cost.stages.iter().enumerate() {
            let (down, up) = around.holds(s);
            let held = (n - 1).saturating_mul(down + up).saturating_add(line.first(s).1);
            let each = window.saturating_sub(held) / n;
            let fitting = stage.fitting(cost.in_flight(s, micro_batches), around.replicas());
            let most = layers.saturating_sub(stages - 1 - s);
            let mut last = s;
            let mut until = |first: usize| {
                last = last.max(first);
                while last < most && stage.work(first, last + 1) <= each {
                    last += 1;
                }
                fitting[first].min(last as u32)
            };
            lasts.push((s..=far).map(&mut until).collect());
            far = lasts[s].last().map_or(0, |last| *last as usize);
            if far <= s {
                return false;
            }
        }
        // Back: from which of them the layers after fit into the stages after.
        let mut ends = vec![far; stages + 1];
        for s in (0..stages).rev() {
            ends[s] = s + lasts[s].partition_point(|last| (*last as usize) < ends[s + 1].max(s + 1));
        }
        if far < layers || ends[0] > 0 {
            return false;
        }
        lasts.push(vec![layers as u32]);
        for (s, first) in ends.into_iter().enumerate() {
            let list = if s < stages { &lasts[s][first - s..] } else { &lasts[s] };
            self.reach.push(Reach { first, end: first + list.len(), at: self.cells.len() });
            self.cells.extend(list.iter().map(|last| Cell { last: *last, ..Cell::NEVER }));
        }
        true
    }

    fn cell(&self, s: usize, l: usize) -> &Cell {
        let Reach { first, at, .. } = self.reach[s];
        &self.cells[at + l - first]
    }

    fn cell_mut(&mut self, s: usize, l: usize) -> &mut Cell {
        let Reach { first, at, .. } = self.reach[s];
        &mut self.cells[at + l - first]
    }

    /// The borders before stage `s`.
    fn firsts(&self, s: usize) -> std::ops::Range<usize> {
        self.reach[s].first..self.reach[s].end
    }

    /// No cut within the window takes less; there is none when it is [`NEVER`].
    pub(super) fn least(&self) -> u64 {
        self.cells.first().map_or(NEVER, |cell| self.line.end(&cell.gradients))
    }

    /// The cut that gives it: borders of the stages, first 0, last the number of layers.
    pub(super) fn borders(&self) -> Vec<usize> {
        let mut borders = vec![0];
        for s in 0..self.line.cost.stages.len() {
            borders.push(self.cell(s, borders[s]).next as usize);
        }
        borders
    }

    /// Borders after stage `s` with layers from `first` on, of cuts that are within the window.
    fn ends(&self, s: usize, first: usize) -> std::ops::RangeInclusive<usize> {
        self.reach[s + 1].first.max(first + 1)..=self.cell(s, first).last as usize
    }

    /// Both passes through the stages from `s` on.
    fn sums(&mut self) {
        let cost = self.line.cost;
        let stages = cost.stages.len();
        self.cell_mut(stages, cost.layers).after.both = 0;
        for (s, stage) in cost.stages.iter().enumerate().rev() {
            for first in self.firsts(s) {
                let through = |end: usize| stage.both(first, end) + self.cell(s + 1, end).after.both;
                let least = self.ends(s, first).map(through).min().unwrap_or(NEVER);
                self.cell_mut(s, first).after.both = least.min(NEVER);
            }
        }
    }

    /// From the first stage down.
    fn down(&mut self) {
        self.cell_mut(0, 0).before = Before::START;
        for s in 0..self.at.len() {
            for first in self.firsts(s) {
                let Cell { before, after, .. } = *self.cell(s, first);
                if before.lead >= NEVER || after.both >= NEVER {
                    continue;
                }
                self.cell_mut(s, first).forward = self.forward.len() as u32;
                for end in self.ends(s, first) {
                    let both = self.cell(s + 1, end).after.both;
                    let forward = self.at[s].last_forward(&(first..end), before, both);
                    self.forward.push(forward);
                    if both < NEVER && forward + both <= self.window {
                        let found = self.at[s].pass_on(&(first..end), before, forward);
                        let next = self.cell_mut(s + 1, end);
                        next.before.least(&found);
                    }
                }
            }
        }
    }

    /// From the last stage back.
    fn back(&mut self) {
        let stages = self.at.len();
        let end = self.cell_mut(stages, self.line.cost.layers);
        (end.after, end.gradients) = (After::NONE, Sent::NONE);
        let common = self.line.common().is_some();
        for s in (0..stages).rev() {
            for first in self.firsts(s) {
                let Cell { before, after, forward, .. } = *self.cell(s, first);
                if before.lead >= NEVER || after.both >= NEVER {
                    continue;
                }
                let at = &self.at[s];
                let mut least = After::NEVER;
                least.both = after.both;
                let (mut value, mut next, mut sent) = (NEVER, 0, Sent::NEVER);
                for (end, forward) in self.ends(s, first).zip(&self.forward[forward as usize..]) {
                    let (cell, layers) = (self.cell(s + 1, end), first..end);
                    if cell.after.done >= NEVER {
                        continue;
                    }
                    let own = at.own(&layers, before, cell.after, *forward);
                    if own.done > self.window {
                        continue;
                    }
                    // Gradients only come after that.
                    if common || own.done.max(cell.gradients.end[0]) < value {
                        let with = at.synchronised(&layers, own.done, &cell.gradients);
                        let whole = at.end_after(&with, before);
                        if whole > self.window {
                            continue;
                        }
                        if whole < value {
                            (value, next) = (whole, end as u32);
                        }
                        sent.least(&with);
                    }
                    least.least_beside(&at.onto(&layers, &own, cell.after));
                }
                if value < NEVER {
                    sent.not_before(at.shared(first, least.first_done));
                    let cell = self.cell_mut(s, first);
                    (cell.after, cell.gradients, cell.next) = (least, sent, next);
                }
            }
        }
    }

    /// The layers that each stage may hold in such a cut.
    pub(super) fn holds(&self) -> Vec<Range<usize>> {
        self.reach.windows(2).map(|r| r[0].first..r[1].end - 1).collect()
    }

    /// Inner borders of the cuts that the tables do not put above the window.
    pub(super) fn inner(&self) -> Borders {
        let (mut all, mut firsts) = (Borders::NONE, vec![0]);
        for s in 0..self.line.cost.stages.len() - 1 {
            let mut found = vec![false; self.line.cost.layers];
            for first in firsts {
                let Cell { before, forward, .. } = *self.cell(s, first);
                for (end, forward) in self.ends(s, first).zip(&self.forward[forward as usize..]) {
                    let cell = self.cell(s + 1, end);
                    // Each is looked for once.
                    if !found[end] && cell.after.done < NEVER {
                        let (at, layers) = (&self.at[s], first..end);
                        let own = at.own(&layers, before, cell.after, *forward);
                        let sent = at.synchronised(&layers, own.done, &cell.gradients);
                        found[end] = at.end_after(&sent, before) <= self.window;
                    }
                }
            }
            firsts = (0..found.len()).filter(|border| found[*border]).collect();
            firsts.iter().for_each(|border| all.insert(*border));
        }
        all
    }

    /// Every way to go on from stage `s` on layers `first ..` that the tables do not put above `limit`: the end of its layers,
    /// and what the next stage finds.
    pub(super) fn ways(&self, s: usize, first: usize, before: Before, limit: u64) -> Vec<(usize, Before)> {
        let within = |end: usize| {
            let cell = self.cell(s + 1, end);
            if cell.after.done >= NEVER {
                return None;
            }
            let (at, layers) = (&self.at[s], first..end);
            let forward = at.last_forward(&layers, before, cell.after.both);
            let own = at.own(&layers, before, cell.after, forward);
            let sent = at.synchronised(&layers, own.done, &cell.gradients);
            let value = at.end_after(&sent, before);
            (value <= limit).then(|| (end, at.pass_on(&layers, before, forward)))
        };
        self.ends(s, first).filter_map(within).collect()
    }
}
