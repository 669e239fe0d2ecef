//! What a pipeline takes at least: of one cut of its layers, stage by stage, and over every cut, by passes over (stage,
//! border) from the first layer down and from the last layer back. docs/search.md says why each step is a bound.

use super::cuts::View;
use super::setting::Shared;
use super::{NEVER, TemplateCost};

/// Values by stage and border: of the stages before `s` that hold the layers before `l`, or of those from `s` on that hold
/// the layers from `l` on.
#[derive(Debug)]
struct Table {
    width: usize,
    values: Vec<u64>,
}

impl Table {
    fn new(stages: usize, layers: usize, value: u64) -> Table {
        Table { width: layers + 1, values: vec![value; (stages + 1) * (layers + 1)] }
    }

    fn get(&self, s: usize, l: usize) -> u64 {
        self.values[s * self.width + l]
    }

    fn set(&mut self, s: usize, l: usize, value: u64) {
        self.values[s * self.width + l] = value;
    }

    fn lower(&mut self, s: usize, l: usize, value: u64) {
        let at = &mut self.values[s * self.width + l];
        *at = value.min(*at);
    }
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
    /// The end of the last forward pass of stage `s`; `both`: both passes of a micro-batch through the stages after it.
    fn last_forward(&self, s: usize, first: usize, end: usize, before: Before, both: u64) -> u64 {
        let (n, around) = (u64::from(self.view.micro_batches), &self.view.around);
        let stage = &self.cost.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let (down, up) = around.sends(s);
        let warm_up = self.cost.warm_up(s);
        // Backward passes before it.
        let back = (n - 1).saturating_sub(warm_up);
        let own = if back > 0 {
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
        let (down, up) = around.sends(s);
        let below = both + around.there_and_back(s);
        // Between its first forward pass and its first backward pass, and between its last of each, the stage has other
        // passes to run; what they do not fill is idle. With few micro-batches the two gaps are one.
        let there = below.saturating_sub(warm_up * (f + down));
        let back = below.saturating_sub(warm_up * (b + up)).saturating_sub(down);
        let idle = if n - 1 > warm_up { there + back } else { there.max(back) };
        // A transfer down after each forward pass but the first, whose is on the way down and back, and one up after each
        // backward pass but the last, whose is on the way up.
        lead + n * (f + b) + (n - 1) * (down + up) + idle
    }

    /// Stage `s` with the layers `first .. end`, between what comes before and after.
    fn own(&self, s: usize, first: usize, end: usize, before: Before, after: After) -> Own {
        let (cost, around) = (self.cost, &self.view.around);
        let stage = &cost.stages[s];
        let last = s + 1 == cost.stages.len();
        let b = stage.backward(first, end);
        let forward = self.last_forward(s, first, end, before, after.both);
        // Its last micro-batch goes down and back.
        let mut done = forward + after.both + around.there_and_back(s) + b;
        done = done.max(self.passes(s, first, end, before.lead, after.both));
        if !last {
            done = done.max(after.done + around.sends(s + 1).1 + b);
        }
        let first_done =
            if last { done } else { after.first_done.max(forward + around.sends(s).0 + after.forward) };
        let mut synchronised = done + around.ring(s).time(stage, first, end);
        if (s == 0 || last) && cost.stages.len() > 1 {
            synchronised += around.tied();
        }
        let mut finish = synchronised + stage.update(first, end);
        for link in around.links().iter().filter(|l| l.stages.contains(&s)) {
            // The stages before this one hold the layers before, and end no sooner.
            let from = if link.stages.start == 0 { 0 } else { first };
            finish = finish.max(done + link.time(cost, from, end) + cost.least_update);
        }
        Own { done, first_done, end: finish }
    }

    /// With stages `s ..` on layers `first ..`: what they send over a link that they share comes after the first of them is
    /// done.
    fn shared(&self, s: usize, first: usize, first_done: u64) -> u64 {
        let (cost, stages) = (self.cost, self.cost.stages.len());
        let whole = |l: &&Shared| l.stages.start == s && l.stages.end == stages;
        let time = |l: &Shared| first_done + l.time(cost, first, cost.layers) + cost.least_update;
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
        let mut after = After { both: 0, forward: 0, done: 0, first_done: 0 };
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
    /// No stage is looked at with layers that alone take longer.
    window: u64,
    lead: Table,
    last: Table,
    both: Table,
    forward: Table,
    done: Table,
    first_done: Table,
    /// The end of the iteration, by the stages from `s` on.
    end: Table,
    /// The border after stage `s` that gives this end.
    next: Table,
}

impl<'c> Within<'c> {
    /// The tables for cuts no stage of which takes longer than `window` alone.
    pub(super) fn new(line: Line<'c>, window: u64) -> Within<'c> {
        let table = || Table::new(line.cost.stages.len(), line.cost.layers, NEVER);
        let mut tables = Within {
            line,
            window,
            lead: table(),
            last: table(),
            both: table(),
            forward: table(),
            done: table(),
            first_done: table(),
            end: table(),
            next: table(),
        };
        tables.sums();
        if tables.both.get(0, 0) < NEVER {
            tables.down();
            tables.back();
        }
        tables
    }

    /// No cut within the window takes less; there is none when it is [`NEVER`].
    pub(super) fn least(&self) -> u64 {
        self.end.get(0, 0)
    }

    /// The cut that gives it: borders of the stages, first 0, last the number of layers.
    pub(super) fn borders(&self) -> Vec<usize> {
        let mut borders = vec![0];
        for s in 0..self.line.cost.stages.len() {
            borders.push(self.next.get(s, borders[s]) as usize);
        }
        borders
    }

    fn before(&self, s: usize, first: usize) -> Before {
        Before { lead: self.lead.get(s, first), last: self.last.get(s, first) }
    }

    fn after(&self, s: usize, end: usize) -> After {
        After {
            both: self.both.get(s + 1, end),
            forward: self.forward.get(s + 1, end),
            done: self.done.get(s + 1, end),
            first_done: self.first_done.get(s + 1, end),
        }
    }

    /// Ends of the layers of stage `s` from `first` on: they fit, alone they are within the window, and those after can hold
    /// the rest.
    fn ends(&self, s: usize, first: usize) -> impl Iterator<Item = usize> + use<'_, 'c> {
        let (cost, view) = (self.line.cost, self.line.view);
        let (n, (down, up)) = (u64::from(view.micro_batches), view.around.sends(s));
        let sends = (n - 1).saturating_mul(down + up);
        let stage = &cost.stages[s];
        let admitted = move |end: &usize| {
            let busy = n.saturating_mul(stage.both(first, *end)).saturating_add(sends);
            busy <= self.window && cost.fits(s, first, *end, view.micro_batches)
        };
        let most = cost.layers - (cost.stages.len() - 1 - s);
        (first + 1..=most).take_while(admitted).filter(move |end| self.both.get(s + 1, *end) < NEVER)
    }

    /// Both passes through the stages from `s` on.
    fn sums(&mut self) {
        let cost = self.line.cost;
        self.both.set(cost.stages.len(), cost.layers, 0);
        for s in (0..cost.stages.len()).rev() {
            for first in s..cost.layers {
                let through = |end: usize| cost.stages[s].both(first, end) + self.both.get(s + 1, end);
                let least = self.ends(s, first).map(through).min();
                self.both.set(s, first, least.unwrap_or(NEVER));
            }
        }
    }

    /// From the first stage down.
    fn down(&mut self) {
        let line = self.line;
        self.lead.set(0, 0, 0);
        self.last.set(0, 0, 0);
        for s in 0..line.cost.stages.len() {
            for first in s..line.cost.layers {
                let before = self.before(s, first);
                if before.lead >= NEVER || self.both.get(s, first) >= NEVER {
                    continue;
                }
                let next: Vec<(usize, Before)> = self
                    .ends(s, first)
                    .map(|end| (end, line.pass_on(s, first, end, before, self.both.get(s + 1, end))))
                    .collect();
                for (end, next) in next {
                    self.lead.lower(s + 1, end, next.lead);
                    self.last.lower(s + 1, end, next.last);
                }
            }
        }
    }

    /// From the last stage back.
    fn back(&mut self) {
        let (line, stages) = (self.line, self.line.cost.stages.len());
        let layers = line.cost.layers;
        for table in [&mut self.forward, &mut self.done, &mut self.first_done, &mut self.end] {
            table.set(stages, layers, 0);
        }
        for s in (0..stages).rev() {
            for first in s..layers {
                let before = self.before(s, first);
                if before.lead >= NEVER || self.both.get(s, first) >= NEVER {
                    continue;
                }
                let mut least = After { both: 0, forward: NEVER, done: NEVER, first_done: NEVER };
                let (mut value, mut next) = (NEVER, 0);
                for end in self.ends(s, first) {
                    let after = self.after(s, end);
                    if after.done >= NEVER {
                        continue;
                    }
                    let own = line.own(s, first, end, before, after);
                    let onto = line.onto(s, first, end, &own, after);
                    least.forward = least.forward.min(onto.forward);
                    least.done = least.done.min(onto.done);
                    least.first_done = least.first_done.min(onto.first_done);
                    let with = own.end.max(self.end.get(s + 1, end));
                    if with < value {
                        (value, next) = (with, end as u64);
                    }
                }
                if value < NEVER {
                    value = value.max(line.shared(s, first, least.first_done));
                }
                self.forward.set(s, first, least.forward);
                self.done.set(s, first, least.done);
                self.first_done.set(s, first, least.first_done);
                self.end.set(s, first, value);
                self.next.set(s, first, next);
            }
        }
    }

    /// Every way to go on from stage `s` on layers `first ..` that the tables do not put above `limit`: the end of its layers,
    /// and what the next stage finds.
    pub(super) fn ways(&self, s: usize, first: usize, before: Before, limit: u64) -> Vec<(usize, Before)> {
        let within = |end: usize| {
            let after = self.after(s, end);
            if after.done >= NEVER {
                return None;
            }
            let own = self.line.own(s, first, end, before, after);
            let value = own.end.max(self.end.get(s + 1, end));
            (value <= limit).then(|| (end, self.line.pass_on(s, first, end, before, after.both)))
        };
        self.ends(s, first).filter_map(within).collect()
    }
}
