//! What a pipeline takes at least: of one cut of its layers, stage by stage, and over every cut, by passes over (stage,
//! border) from the first layer down and from the last layer back. docs/search.md says why each step is a bound.

use super::cuts::View;
use super::setting::Shared;
use super::{NEVER, TemplateCost};
use crate::space::Recipe;
use sim_models::plan::Schedule;

/// What is known at a border: of the stages before `s` that hold the layers before it, and of those from `s` on that hold the
/// layers from it on. [`NEVER`] where they cannot.
#[derive(Clone, Copy, Debug)]
struct Cell {
    before: Before,
    after: After,
    /// The end of the iteration, by the stages from `s` on.
    end: u64,
    /// The border after stage `s` that gives this end.
    next: u32,
    /// The last border after stage `s`: the layers fit, and alone they are within the window.
    last: u32,
}

/// What the stages before one do to it, at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// From the start to its first forward pass.
    lead: u64,
    /// From the start to when the last activation has come.
    last: u64,
}

impl Before {
    /// Of the first stage.
    pub(super) const START: Before = Before { lead: 0, last: 0 };
}

/// What the stages after one do to it, at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct After {
    /// Both passes of a micro-batch through all of them, transfers aside.
    both: u64,
    /// The forward passes, and the backward pass of the last stage; with the transfers between them.
    forward: u64,
    /// When the next stage has done its last pass.
    done: u64,
    /// When the first of them has done its last pass.
    first_done: u64,
}

impl After {
    /// Of the last stage.
    const NONE: After = After { both: 0, forward: 0, done: 0, first_done: 0 };
}

/// One stage with its layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// The end of its last pass.
    pub(super) done: u64,
    /// When the first of it and the stages after it has done its last pass.
    first_done: u64,
    /// The end of the iteration, by what it does.
    end: u64,
}

/// Pipelines of a template in a view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'c> {
    pub(super) cost: &'c TemplateCost,
    pub(super) view: &'c View,
}

impl Line<'_> {
    /// Whether weight gradients have a pass of their own, that fills gaps.
    fn splits(&self) -> bool {
        self.cost.recipe.schedule == Schedule::ZeroBubble
    }

    /// The end of the last forward pass of stage `s`; `both`: both passes of a micro-batch through the stages after it.
    fn last_forward(&self, s: usize, first: usize, end: usize, before: Before, both: u64) -> u64 {
        let (n, around) = (u64::from(self.view.micro_batches), &self.view.around);
        let stage = &self.cost.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let (down, up) = around.holds(s);
        let warm_up = self.cost.warm_up(s);
        // Backward passes before it.
        let back = (n - 1).saturating_sub(warm_up);
        let own = if back > 0 && !self.splits() {
            let idle = (both + around.there_and_back(s)).saturating_sub(warm_up * (f + down));
            n * f + back * (b + up) + n.saturating_sub(2) * down + idle
        } else {
            n * f + (n - 1) * down
        };
        (before.lead + own).max(before.last + f)
    }

    /// When stage `s` has done its last pass by what is before it and the way down and back. See docs/search.md for why
    /// nothing is counted twice.
    fn passes(&self, s: usize, first: usize, end: usize, lead: u64, both: u64) -> u64 {
        let (n, around) = (u64::from(self.view.micro_batches), &self.view.around);
        let stage = &self.cost.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let warm_up = self.cost.warm_up(s).min(n - 1);
        let (down, up) = around.holds(s);
        let below = both + around.there_and_back(s);
        // Between its first forward pass and its first backward pass, and between its last of each, the stage has other
        // passes to run; what they do not fill is idle. With few micro-batches the two gaps are one.
        let there = below.saturating_sub(warm_up * (f + down));
        let back = below.saturating_sub(warm_up * (b + up)).saturating_sub(down);
        let idle = match self.splits() {
            true => there,
            false if n - 1 > warm_up => there + back,
            false => there.max(back),
        };
        // A transfer down after each forward pass but the first, whose is on the way down and back, and one up after each
        // backward pass but the last, whose is on the way up.
        lead + n * stage.work(first, end) + (n - 1) * (down + up) + idle
    }

    /// Stage `s` with the layers `first .. end`, between what comes before and after.
    fn own(&self, s: usize, first: usize, end: usize, before: Before, after: After) -> Own {
        let (cost, around) = (self.cost, &self.view.around);
        let stage = &cost.stages[s];
        let last = s + 1 == cost.stages.len();
        let b = stage.backward(first, end);
        let forward = self.last_forward(s, first, end, before, after.both);
        // Its last micro-batch goes down and back.
        let mut done = forward + after.both + around.there_and_back(s) + stage.work(first, end)
            - stage.forward(first, end);
        done = done.max(self.passes(s, first, end, before.lead, after.both));
        let way = forward + around.sends(s).0 + after.forward;
        let first_done = match (last, self.splits()) {
            // Weight gradients may keep later stages longer.
            (false, true) => way,
            (false, false) => {
                done = done.max(after.done + around.sends(s + 1).1 + b);
                after.first_done.max(way)
            }
            (true, _) => done,
        };
        Own { done, first_done, end: self.synchronised(s, first, end, done) }
    }

    /// The end of the iteration by stage `s`, whose last pass ends at `done`: gradients, optimizer step, parameters.
    fn synchronised(&self, s: usize, first: usize, end: usize, done: u64) -> u64 {
        let (cost, around, n) = (self.cost, &self.view.around, u64::from(self.view.micro_batches));
        let (stage, recipe) = (&cost.stages[s], &cost.recipe);
        let own = around.ring(s).time(cost, stage, first, end);
        // Gradients of a last pass do not leave before it begins.
        let early = recipe.overlap.is_some() || recipe.zero >= 2;
        let leaves = if early {
            done.saturating_sub(stage.work(first, end) - stage.forward(first, end))
        } else {
            done
        };
        // Parameters are gathered at the end, unless they are in the next first passes or in every one.
        let gathers = matches!(recipe.zero, 1 | 2) && recipe.overlap.is_none();
        let mut ready = done.max(leaves + own.reduce);
        if recipe.zero >= 2 {
            ready = ready.max(n * own.reduce);
        }
        if recipe.zero >= 3 {
            ready = ready.max(2 * n * own.gather);
        }
        if (s == 0 || s + 1 == cost.stages.len()) && cost.stages.len() > 1 {
            ready += around.tied();
        }
        let mut finish = ready + stage.update(first, end, around.replicas());
        finish += if gathers { own.gather } else { 0 };
        for link in around.links().iter().filter(|l| l.stages.contains(&s)) {
            // The stages before this one hold the layers before, and end no sooner where none is late with weight gradients.
            let from = if link.stages.start == 0 && !self.splits() { 0 } else { first };
            finish = finish.max(leaves + self.over(link, from, end));
        }
        finish
    }

    /// From when a link that rings share has the first of these layers' gradients to the end of the iteration.
    fn over(&self, link: &Shared, first: usize, end: usize) -> u64 {
        let time = link.time(self.cost, first, end);
        match self.cost.recipe {
            Recipe { zero: 0, .. } => time.reduce + self.cost.least_update,
            Recipe { zero: 1 | 2, overlap: None, .. } => time.reduce + time.gather,
            _ => time.reduce,
        }
    }

    /// With stages `s ..` on layers `first ..`: what they send over a link that they share comes after the first of them is
    /// done.
    fn shared(&self, s: usize, first: usize, first_done: u64) -> u64 {
        let (cost, stages) = (self.cost, self.cost.stages.len());
        if cost.recipe.overlap.is_some() || cost.recipe.zero >= 2 {
            // It may come sooner.
            return 0;
        }
        let whole = |l: &&Shared| l.stages.start == s && l.stages.end == stages;
        let time = |l: &Shared| first_done + self.over(l, first, cost.layers);
        self.view.around.links().iter().filter(whole).map(time).max().unwrap_or(0)
    }

    /// What stage `s` adds to what it and those after it do to the stage before.
    fn onto(&self, s: usize, first: usize, end: usize, own: &Own, after: After) -> After {
        let stage = &self.cost.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let last = s + 1 == self.cost.stages.len();
        let forward = f + if last { b } else { self.view.around.sends(s).0 + after.forward };
        After { both: after.both + f + b, forward, done: own.done, first_done: own.first_done }
    }

    /// The stages of one cut: borders from 0 to the number of layers. And the end of the iteration.
    pub(super) fn of_cut(&self, borders: &[usize]) -> (Vec<Own>, u64) {
        let (cost, stages) = (self.cost, self.cost.stages.len());
        let mut both = vec![0; stages + 1];
        for s in (0..stages).rev() {
            both[s] = both[s + 1] + cost.stages[s].both(borders[s], borders[s + 1]);
        }
        let mut before = vec![Before::START];
        for s in 0..stages {
            before.push(self.pass_on(s, borders[s], borders[s + 1], before[s], both[s + 1]));
        }
        let mut after = After::NONE;
        let (mut list, mut value) = (Vec::with_capacity(stages), 0);
        for s in (0..stages).rev() {
            let (first, end) = (borders[s], borders[s + 1]);
            let own = self.own(s, first, end, before[s], after);
            value = value.max(own.end).max(self.shared(s, first, own.first_done));
            after = self.onto(s, first, end, &own, after);
            list.push(own);
        }
        list.reverse();
        (list, value)
    }

    /// What the stage after `s` finds, which the stages up to `s` do to it.
    fn pass_on(&self, s: usize, first: usize, end: usize, before: Before, both: u64) -> Before {
        let down = self.view.around.sends(s).0;
        let last = self.last_forward(s, first, end, before, both) + down;
        Before { lead: before.lead + self.cost.stages[s].forward(first, end) + down, last }
    }
}

/// Bounds over every cut. See the head of this file.
#[derive(Debug)]
pub(super) struct Within<'c> {
    line: Line<'c>,
    /// By stage and border.
    cells: Vec<Cell>,
    /// By stage: the first border from which it and those after it can hold the layers.
    first: Vec<usize>,
}

impl<'c> Within<'c> {
    /// The tables for cuts no stage of which takes longer than `window` alone.
    pub(super) fn new(line: Line<'c>, window: u64) -> Within<'c> {
        let (stages, layers) = (line.cost.stages.len(), line.cost.layers);
        let never = Cell {
            before: Before { lead: NEVER, last: NEVER },
            after: After { both: NEVER, forward: NEVER, done: NEVER, first_done: NEVER },
            end: NEVER,
            next: 0,
            last: 0,
        };
        let cells = vec![never; (stages + 1) * (layers + 1)];
        let mut tables = Within { line, cells, first: vec![layers; stages + 1] };
        tables.sums(window);
        if tables.cell(0, 0).after.both < NEVER {
            tables.down();
            tables.back();
        }
        tables
    }

    fn cell(&self, s: usize, l: usize) -> &Cell {
        &self.cells[s * (self.line.cost.layers + 1) + l]
    }

    fn cell_mut(&mut self, s: usize, l: usize) -> &mut Cell {
        &mut self.cells[s * (self.line.cost.layers + 1) + l]
    }

    /// No cut within the window takes less; there is none when it is [`NEVER`].
    pub(super) fn least(&self) -> u64 {
        self.cell(0, 0).end
    }

    /// The cut that gives it: borders of the stages, first 0, last the number of layers.
    pub(super) fn borders(&self) -> Vec<usize> {
        let mut borders = vec![0];
        for s in 0..self.line.cost.stages.len() {
            borders.push(self.cell(s, borders[s]).next as usize);
        }
        borders
    }

    /// Borders after stage `s` with layers from `first` on, among them all that are within the window.
    fn ends(&self, s: usize, first: usize) -> std::ops::RangeInclusive<usize> {
        self.first[s + 1].max(first + 1)..=self.cell(s, first).last as usize
    }

    /// Both passes through the stages from `s` on.
    fn sums(&mut self, window: u64) {
        let (cost, view) = (self.line.cost, self.line.view);
        let (stages, n) = (cost.stages.len(), u64::from(view.micro_batches));
        self.cell_mut(stages, cost.layers).after.both = 0;
        for s in (0..stages).rev() {
            let (stage, (down, up)) = (&cost.stages[s], view.around.holds(s));
            let each = window.saturating_sub((n - 1).saturating_mul(down + up)) / n;
            let in_flight = cost.in_flight(s, view.micro_batches);
            // Fewer layers end no later: the last border moves back with the first.
            let mut last = cost.layers - (stages - 1 - s);
            for first in (s..last).rev() {
                while last > first && stage.work(first, last) > each {
                    last -= 1;
                }
                let fitting = stage.fitting(first, in_flight, view.around.replicas()).min(last);
                let through = |end: usize| stage.both(first, end) + self.cell(s + 1, end).after.both;
                let ends = self.first[s + 1].max(first + 1)..=fitting;
                let least = ends.map(through).min().unwrap_or(NEVER);
                if least < NEVER {
                    self.first[s] = first;
                }
                let cell = self.cell_mut(s, first);
                cell.last = fitting as u32;
                cell.after.both = least.min(NEVER);
            }
        }
    }

    /// From the first stage down.
    fn down(&mut self) {
        let line = self.line;
        self.cell_mut(0, 0).before = Before::START;
        for s in 0..line.cost.stages.len() {
            for first in self.first[s]..line.cost.layers {
                let Cell { before, after, .. } = *self.cell(s, first);
                if before.lead >= NEVER || after.both >= NEVER {
                    continue;
                }
                for end in self.ends(s, first) {
                    let next = self.cell_mut(s + 1, end);
                    if next.after.both < NEVER {
                        let found = line.pass_on(s, first, end, before, next.after.both);
                        next.before.lead = next.before.lead.min(found.lead);
                        next.before.last = next.before.last.min(found.last);
                    }
                }
            }
        }
    }

    /// From the last stage back.
    fn back(&mut self) {
        let (line, stages) = (self.line, self.line.cost.stages.len());
        let layers = line.cost.layers;
        let end = self.cell_mut(stages, layers);
        (end.after, end.end) = (After::NONE, 0);
        for s in (0..stages).rev() {
            for first in self.first[s]..layers {
                let Cell { before, after, .. } = *self.cell(s, first);
                if before.lead >= NEVER || after.both >= NEVER {
                    continue;
                }
                let mut least = After { both: after.both, forward: NEVER, done: NEVER, first_done: NEVER };
                let (mut value, mut next) = (NEVER, 0);
                for end in self.ends(s, first) {
                    let cell = self.cell(s + 1, end);
                    if cell.after.done >= NEVER {
                        continue;
                    }
                    let own = line.own(s, first, end, before, cell.after);
                    let onto = line.onto(s, first, end, &own, cell.after);
                    least.forward = least.forward.min(onto.forward);
                    least.done = least.done.min(onto.done);
                    least.first_done = least.first_done.min(onto.first_done);
                    let with = own.end.max(cell.end);
                    if with < value {
                        (value, next) = (with, end as u32);
                    }
                }
                if value < NEVER {
                    value = value.max(line.shared(s, first, least.first_done));
                }
                let cell = self.cell_mut(s, first);
                (cell.after, cell.end, cell.next) = (least, value, next);
            }
        }
    }

    /// Every way to go on from stage `s` on layers `first ..` that the tables do not put above `limit`: the end of its layers,
    /// and what the next stage finds.
    pub(super) fn ways(&self, s: usize, first: usize, before: Before, limit: u64) -> Vec<(usize, Before)> {
        let within = |end: usize| {
            let cell = self.cell(s + 1, end);
            if cell.after.done >= NEVER {
                return None;
            }
            let own = self.line.own(s, first, end, before, cell.after);
            let value = own.end.max(cell.end);
            (value <= limit).then(|| (end, self.line.pass_on(s, first, end, before, cell.after.both)))
        };
        self.ends(s, first).filter_map(within).collect()
    }
}
