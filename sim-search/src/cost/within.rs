//! What a pipeline takes at least: of one cut of its layers, stage by stage, and over every cut, by passes over (stage,
//! border) from the first layer down and from the last layer back. docs/search.md says why each step is a bound.

use super::borders::{Borders, Common, MOST_COMMON};
use super::setting::{Early, Shared};
use super::turns::InTurn;
use super::{NEVER, Setting, TemplateCost};
use sim_models::plan::Schedule;
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
        before: Before { lead: NEVER, last: NEVER, tail: NEVER },
        after: After { both: NEVER, forward: NEVER, done: NEVER, first_done: NEVER },
        gradients: Sent::NEVER,
        next: 0,
        last: 0,
        forward: 0,
    };
}

/// What the stages before one do to it, at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// From the start to its first forward pass.
    lead: u64,
    /// From the start to when the last activation has come.
    last: u64,
    /// From when its rings are done to the end of the iteration: theirs follow, where its first border is not common to all parts.
    tail: u64,
}

impl Before {
    /// Of the first stage.
    pub(super) const START: Before = Before { lead: 0, last: 0, tail: 0 };
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

/// Gradients of a stage and those after it, by how many borders between them are common to all parts of a plan, at most: the index.
/// Where any may be, only the first is used.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// The end of the iteration.
    end: [u64; MOST_COMMON + 1],
    /// When the rings of the first of these stages are done: those of the stage before follow them if their border is not common.
    reduced: [u64; MOST_COMMON + 1],
    /// How long parameters are gathered for the stages up to the first common border.
    gathers: [u64; MOST_COMMON + 1],
}

impl Sent {
    /// Of no stage.
    const NONE: Sent = Sent::all(0);
    const NEVER: Sent = Sent::all(NEVER);

    const fn all(time: u64) -> Sent {
        let all = [time; MOST_COMMON + 1];
        Sent { end: all, reduced: all, gathers: all }
    }

    /// No sooner than that.
    fn not_before(&mut self, time: u64) {
        self.end.iter_mut().for_each(|end| *end = (*end).max(time));
    }

    /// Each by itself at least.
    fn least(&mut self, other: &Sent) {
        for k in 0..=MOST_COMMON {
            self.end[k] = self.end[k].min(other.end[k]);
            self.reduced[k] = self.reduced[k].min(other.reduced[k]);
            self.gathers[k] = self.gathers[k].min(other.gathers[k]);
        }
    }
}

/// One stage with its layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// The end of its last pass.
    pub(super) done: u64,
    /// When the first of it and the stages after it has done its last pass.
    first_done: u64,
}

/// Alike pipelines of a template, and what surrounds them.
#[derive(Clone, Copy)]
pub(super) struct Line<'c> {
    pub(super) cost: &'c TemplateCost,
    /// Micro-batches of each. At least 1.
    pub(super) micro_batches: u32,
    pub(super) around: &'c Setting,
    /// Other parts whose cuts are known: rings of their layers go through these pipelines, too.
    pub(super) others: Option<&'c InTurn<'c>>,
}

impl Line<'_> {
    /// Whether weight gradients have a pass of their own, that fills gaps.
    fn splits(&self) -> bool {
        self.cost.recipe.schedule == Schedule::ZeroBubble
    }

    /// Micro-batches that are through before alike pipelines are in different states because some run one more than others: until
    /// the first stage has done as many forward passes as the fewest run. 0 where they may not fill every warm-up.
    fn early(&self) -> u64 {
        let (recipe, stages) = (&self.cost.recipe, self.cost.stages.len() as u64);
        let known = recipe.schedule == Schedule::OneFOneB && recipe.zero < 2;
        let through = if known { u64::from(self.micro_batches).saturating_sub(stages + 1) } else { 0 };
        if through < stages { 0 } else { through }
    }

    /// The first transfers of stage `s`, of so many micro-batches, and how much longer they hold it in all than as many later ones: a
    /// transfer down after each forward pass but the first, and one up after each backward pass.
    fn first(&self, s: usize) -> (Early, u64) {
        let around = self.around;
        let (sends, (down, up)) = (around.sends(s), around.holds(s));
        let late = Early { sends, holds: (down, up), there_and_back: around.there_and_back(s) };
        match around.early(s).map(|early| (early, self.early())) {
            Some((early, through)) if through > 0 => {
                (early, (through - 1) * (early.holds.0 - down) + through * (early.holds.1 - up))
            }
            _ => (late, 0),
        }
    }

    /// The end of the last forward pass of stage `s`; `both`: both passes of a micro-batch through the stages after it.
    fn last_forward(&self, s: usize, first: usize, end: usize, before: Before, both: u64) -> u64 {
        let (n, around) = (u64::from(self.micro_batches), self.around);
        let stage = &self.cost.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let (down, up) = around.holds(s);
        let warm_up = self.cost.warm_up(s);
        // Backward passes before it.
        let back = (n - 1).saturating_sub(warm_up);
        let own = if back > 0 && !self.splits() {
            let (early, longer) = self.first(s);
            let idle = (both + early.there_and_back).saturating_sub(warm_up * (f + early.holds.0));
            n * f + back * (b + up) + n.saturating_sub(2) * down + longer + idle
        } else {
            n * f + (n - 1) * down
        };
        (before.lead + own).max(before.last + f)
    }

    /// When stage `s` has done its last pass by what is before it and the way down and back. See docs/search.md for why
    /// nothing is counted twice.
    fn passes(&self, s: usize, first: usize, end: usize, lead: u64, both: u64) -> u64 {
        let (n, around) = (u64::from(self.micro_batches), self.around);
        let stage = &self.cost.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let warm_up = self.cost.warm_up(s).min(n - 1);
        let (down, up) = around.holds(s);
        let (early, longer) = self.first(s);
        // Between its first forward pass and its first backward pass, and between its last of each, the stage has other
        // passes to run; what they do not fill is idle. With few micro-batches the two gaps are one.
        let there = (both + early.there_and_back).saturating_sub(warm_up * (f + early.holds.0));
        let back = (both + around.there_and_back(s)).saturating_sub(warm_up * (b + up)).saturating_sub(down);
        let idle = match self.splits() {
            true => there,
            false if n - 1 > warm_up => there + back,
            false => there.max(back),
        };
        // A transfer down after each forward pass but the first, whose is on the way down and back, and one up after each
        // backward pass but the last, whose is on the way up.
        lead + n * stage.work(first, end) + (n - 1) * (down + up) + longer + idle
    }

    /// Stage `s` with the layers `first .. end`, between what comes before and after.
    fn own(&self, s: usize, first: usize, end: usize, before: Before, after: After) -> Own {
        let forward = self.last_forward(s, first, end, before, after.both);
        self.own_with(s, first, end, before, after, forward)
    }

    /// The same when the end of its last forward pass is known.
    fn own_with(
        &self,
        s: usize,
        first: usize,
        end: usize,
        before: Before,
        after: After,
        forward: u64,
    ) -> Own {
        let (cost, around) = (self.cost, self.around);
        let stage = &cost.stages[s];
        let last = s + 1 == cost.stages.len();
        let b = stage.backward(first, end);
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
        Own { done, first_done }
    }

    /// Which borders are common to all parts at most, where that matters: gradients leave after the last pass, and not all are.
    fn common(&self) -> Option<Common> {
        let mut common = self.around.common();
        if self.others.is_some() {
            // Which they are counts, not how many.
            common.most = None;
        }
        let after = self.cost.recipe.overlap.is_none() && self.cost.recipe.zero < 2;
        Some(common).filter(|common| after && *common != Common::ANY)
    }

    /// The end of the iteration, whatever stages there are before.
    fn end(&self, sent: &Sent) -> u64 {
        sent.end[self.common().and_then(|common| common.most).unwrap_or(0)]
    }

    /// The same where it is known what the stages before do.
    fn end_after(&self, sent: &Sent, before: Before) -> u64 {
        let Some(common) = self.common() else { return self.end(sent) };
        let k = common.most.unwrap_or(0);
        sent.end[k].max(sent.reduced[k] + before.tail)
    }

    /// How long the ring of layers of stage `s` takes, by itself.
    fn ring(&self, s: usize, layers: &Range<usize>) -> u64 {
        self.around.ring(s).time(self.cost, &self.cost.stages[s], layers.start, layers.end).reduce
    }

    /// What follows the rings of the stage after `s` in the iteration, if they are followed by those of stage `s`.
    fn tail(&self, s: usize, first: usize, end: usize, before: Before) -> u64 {
        let apart = |common: &Common| common.most == Some(0) || !common.at.has(end);
        if self.common().is_none_or(|common| !apart(&common)) {
            return 0;
        }
        let own = |layers: &Range<usize>| self.ring(s, layers);
        let time = self.others.map_or_else(|| own(&(first..end)), |others| others.time(first..end, own));
        time + before.tail.max(self.cost.stages[s].update(first, end, self.around.replicas()))
    }

    /// Stage `s`, whose last pass ends at `done`, before those whose gradients are sent so: its gradients, optimizer step and
    /// parameters.
    fn synchronised(&self, s: usize, first: usize, end: usize, done: u64, next: &Sent) -> Sent {
        let (cost, around, n) = (self.cost, self.around, u64::from(self.micro_batches));
        let (stage, recipe) = (&cost.stages[s], &cost.recipe);
        let own = around.ring(s).time(cost, stage, first, end);
        // Gradients of a last pass do not leave before it begins.
        let early = recipe.overlap.is_some() || recipe.zero >= 2;
        let leaves = if early {
            done.saturating_sub(stage.work(first, end) - stage.forward(first, end))
        } else {
            done
        };
        let update = stage.update(first, end, around.replicas());
        let ends = (s == 0 || s + 1 == cost.stages.len()) && cost.stages.len() > 1;
        let tied = if ends { around.tied() } else { 0 };
        // Parameters are gathered at the end, unless they are in the next first passes or in every one.
        let gather = if matches!(recipe.zero, 1 | 2) && recipe.overlap.is_none() { own.gather } else { 0 };
        // After what its rings follow, and before what its parameters are gathered.
        let finish = |after: u64, gathers: u64| {
            let mut ready = done.max(leaves.max(after) + own.reduce);
            if recipe.zero >= 2 {
                ready = ready.max(n * own.reduce);
            }
            if recipe.zero >= 3 {
                ready = ready.max(2 * n * own.gather);
            }
            ready + tied + update + gather + gathers
        };
        let mut shared = 0;
        for link in around.links().iter().filter(|l| l.stages.contains(&s)) {
            // The stages before this one hold the layers before, and end no sooner where none is late with weight gradients.
            let from = if link.stages.start == 0 && !self.splits() { 0 } else { first };
            shared = shared.max(leaves + link.to_the_end(self.cost, from, end));
        }
        let alone = finish(0, 0).max(shared);
        let mut sent = Sent::NEVER;
        let Some(common) = self.common() else {
            sent.end[0] = alone.max(next.end[0]);
            return sent;
        };
        let most = common.most.unwrap_or(0);
        for k in 0..=most {
            // With the rings of the stage after it, or apart from them where that border may be one of those left.
            let with = finish(next.reduced[k], next.gathers[k]).max(shared);
            sent.end[k] = with.max(next.end[k]);
            sent.reduced[k] = done.max(next.reduced[k]) + own.reduce;
            sent.gathers[k] = gather + next.gathers[k];
            let left = if common.most.is_none() { Some(k) } else { k.checked_sub(1) };
            if let Some(left) = left.filter(|_| common.at.has(end)) {
                sent.end[k] = sent.end[k].min(alone.max(next.end[left]));
                sent.reduced[k] = sent.reduced[k].min(done + own.reduce);
                sent.gathers[k] = sent.gathers[k].min(gather);
            }
        }
        if let Some(others) = self.others {
            // At a border that all of them have, rings need not wait for those of later layers.
            let before = if common.at.has(end) { 0 } else { next.reduced[0] };
            let (reduced, over) = others.sent(first..end, |layers| self.ring(s, layers), (done, before));
            sent.end[0] = sent.end[0].max(over).max(reduced + update + gather);
            sent.reduced[0] = sent.reduced[0].max(reduced);
        }
        sent
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
        let time = |l: &Shared| first_done + l.to_the_end(cost, first, cost.layers);
        self.around.links().iter().filter(whole).map(time).max().unwrap_or(0)
    }

    /// What stage `s` adds to what it and those after it do to the stage before.
    fn onto(&self, s: usize, first: usize, end: usize, own: &Own, after: After) -> After {
        let stage = &self.cost.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let last = s + 1 == self.cost.stages.len();
        let forward = f + if last { b } else { self.around.sends(s).0 + after.forward };
        After { both: after.both + f + b, forward, done: own.done, first_done: own.first_done }
    }

    /// The stages of one cut, the last one first: borders from 0 to the number of layers.
    pub(super) fn stages_of(&self, borders: &[usize]) -> Vec<Own> {
        let mut list = Vec::with_capacity(borders.len() - 1);
        self.of_cut(borders, &mut |own| list.push(own));
        list
    }

    /// The end of the iteration with one cut.
    pub(super) fn end_of_cut(&self, borders: &[usize]) -> u64 {
        self.of_cut(borders, &mut |_| {})
    }

    fn of_cut(&self, borders: &[usize], each: &mut dyn FnMut(Own)) -> u64 {
        let both = borders.windows(2).zip(&self.cost.stages).map(|(b, stage)| stage.both(b[0], b[1])).sum();
        self.end(&self.of_cut_from(0, borders, Before::START, both, each).1)
    }

    /// The same of the stages from `s` on, through which both passes of a micro-batch take `both`; and what they do to the stage
    /// before.
    fn of_cut_from(
        &self,
        s: usize,
        borders: &[usize],
        before: Before,
        both: u64,
        each: &mut dyn FnMut(Own),
    ) -> (After, Sent) {
        let [first, end, ..] = borders[s..] else { return (After::NONE, Sent::NONE) };
        let both = both - self.cost.stages[s].both(first, end);
        let next = self.pass_on(s, first, end, before, both);
        let (after, sent) = self.of_cut_from(s + 1, borders, next, both, each);
        let own = self.own(s, first, end, before, after);
        let mut sent = self.synchronised(s, first, end, own.done, &sent);
        sent.not_before(self.shared(s, first, own.first_done));
        let onto = self.onto(s, first, end, &own, after);
        each(own);
        (onto, sent)
    }

    /// What the stage after `s` finds, which the stages up to `s` do to it.
    fn pass_on(&self, s: usize, first: usize, end: usize, before: Before, both: u64) -> Before {
        self.pass_on_with(s, first, end, before, self.last_forward(s, first, end, before, both))
    }

    /// The same when the end of its last forward pass is known.
    fn pass_on_with(&self, s: usize, first: usize, end: usize, before: Before, forward: u64) -> Before {
        let (down, tail) = (self.around.sends(s).0, self.tail(s, first, end, before));
        Before {
            lead: before.lead + self.cost.stages[s].forward(first, end) + down,
            last: forward + down,
            tail,
        }
    }
}

/// Bounds over every cut within a window. See the head of this file.
pub(super) struct Within<'c> {
    line: Line<'c>,
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
        let mut tables = Within { line, window, cells: Vec::new(), forward: Vec::new(), reach: Vec::new() };
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
        let line = self.line;
        self.cell_mut(0, 0).before = Before::START;
        for s in 0..line.cost.stages.len() {
            for first in self.firsts(s) {
                let Cell { before, after, .. } = *self.cell(s, first);
                if before.lead >= NEVER || after.both >= NEVER {
                    continue;
                }
                self.cell_mut(s, first).forward = self.forward.len() as u32;
                for end in self.ends(s, first) {
                    let both = self.cell(s + 1, end).after.both;
                    let forward = line.last_forward(s, first, end, before, both);
                    self.forward.push(forward);
                    if both < NEVER && forward + both <= self.window {
                        let found = line.pass_on_with(s, first, end, before, forward);
                        let next = self.cell_mut(s + 1, end);
                        next.before.lead = next.before.lead.min(found.lead);
                        next.before.last = next.before.last.min(found.last);
                        next.before.tail = next.before.tail.min(found.tail);
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
        (end.after, end.gradients) = (After::NONE, Sent::NONE);
        let common = line.common();
        for s in (0..stages).rev() {
            for first in self.firsts(s) {
                let Cell { before, after, forward, .. } = *self.cell(s, first);
                if before.lead >= NEVER || after.both >= NEVER {
                    continue;
                }
                let mut least = After { both: after.both, forward: NEVER, done: NEVER, first_done: NEVER };
                let (mut value, mut next, mut sent) = (NEVER, 0, Sent::NEVER);
                for (end, forward) in self.ends(s, first).zip(&self.forward[forward as usize..]) {
                    let cell = self.cell(s + 1, end);
                    if cell.after.done >= NEVER {
                        continue;
                    }
                    let own = line.own_with(s, first, end, before, cell.after, *forward);
                    if own.done > self.window {
                        continue;
                    }
                    // Gradients only come after that.
                    if common.is_some() || own.done.max(cell.gradients.end[0]) < value {
                        let with = line.synchronised(s, first, end, own.done, &cell.gradients);
                        let whole = line.end_after(&with, before);
                        if whole > self.window {
                            continue;
                        }
                        if whole < value {
                            (value, next) = (whole, end as u32);
                        }
                        sent.least(&with);
                    }
                    let onto = line.onto(s, first, end, &own, cell.after);
                    least.forward = least.forward.min(onto.forward);
                    least.done = least.done.min(onto.done);
                    least.first_done = least.first_done.min(onto.first_done);
                }
                if value < NEVER {
                    sent.not_before(line.shared(s, first, least.first_done));
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
                        let own = self.line.own_with(s, first, end, before, cell.after, *forward);
                        let sent = self.line.synchronised(s, first, end, own.done, &cell.gradients);
                        found[end] = self.line.end_after(&sent, before) <= self.window;
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
            let own = self.line.own(s, first, end, before, cell.after);
            let sent = self.line.synchronised(s, first, end, own.done, &cell.gradients);
            let value = self.line.end_after(&sent, before);
            (value <= limit).then(|| (end, self.line.pass_on(s, first, end, before, cell.after.both)))
        };
        self.ends(s, first).filter_map(within).collect()
    }
}
