//! What a pipeline of certain surroundings takes at least, stage by stage: of one cut of its layers here, over every cut in
//! [`super::within`]. docs/search.md says why each step is a bound.

use super::borders::{Common, MOST_COMMON};
use super::setting::{Early, Shared};
use super::stage::StageCost;
use super::turns::InTurn;
use super::{NEVER, Setting, TemplateCost};
use sim_models::plan::Schedule;
use std::ops::Range;

/// What the stages before one do to it, at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// From the start to its first forward pass.
    pub(super) lead: u64,
    /// From the start to when the last activation has come.
    last: u64,
    /// From when its rings are done to the end of the iteration: theirs follow, where its first border is not common to all parts.
    tail: u64,
}

impl Before {
    /// Of the first stage.
    pub(super) const START: Before = Before { lead: 0, last: 0, tail: 0 };
    pub(super) const NEVER: Before = Before { lead: NEVER, last: NEVER, tail: NEVER };

    /// Each by itself at least.
    pub(super) fn least(&mut self, other: &Before) {
        self.lead = self.lead.min(other.lead);
        self.last = self.last.min(other.last);
        self.tail = self.tail.min(other.tail);
    }
}

/// What the stages after one do to it, at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct After {
    /// Both passes of a micro-batch through all of them, transfers aside.
    pub(super) both: u64,
    /// The forward passes, and the backward pass of the last stage; with the transfers between them.
    forward: u64,
    /// When the next stage has done its last pass.
    pub(super) done: u64,
    /// When the first of them has done its last pass.
    pub(super) first_done: u64,
}

impl After {
    /// Of the last stage.
    pub(super) const NONE: After = After { both: 0, forward: 0, done: 0, first_done: 0 };
    pub(super) const NEVER: After = After { both: NEVER, forward: NEVER, done: NEVER, first_done: NEVER };

    /// Each by itself at least, but for both passes through them.
    pub(super) fn least_beside(&mut self, other: &After) {
        self.forward = self.forward.min(other.forward);
        self.done = self.done.min(other.done);
        self.first_done = self.first_done.min(other.first_done);
    }
}

/// Gradients of a stage and those after it, by how many borders between them are common to all parts of a plan, at most: the index.
/// Where any may be, only the first is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// The end of the iteration.
    pub(super) end: [u64; MOST_COMMON + 1],
    /// When the rings of the first of these stages are done: those of the stage before follow them if their border is not common.
    reduced: [u64; MOST_COMMON + 1],
    /// How long parameters are gathered for the stages up to the first common border.
    gathers: [u64; MOST_COMMON + 1],
}

impl Sent {
    /// Of no stage.
    pub(super) const NONE: Sent = Sent::all(0);
    pub(super) const NEVER: Sent = Sent::all(NEVER);

    const fn all(time: u64) -> Sent {
        let all = [time; MOST_COMMON + 1];
        Sent { end: all, reduced: all, gathers: all }
    }

    /// No sooner than that.
    pub(super) fn not_before(&mut self, time: u64) {
        self.end.iter_mut().for_each(|end| *end = (*end).max(time));
    }

    /// Each by itself at least.
    pub(super) fn least(&mut self, other: &Sent) {
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
    pub(super) first_done: u64,
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

impl<'c> Line<'c> {
    /// Stage `s`, whatever its layers are.
    pub(super) fn at(&self, s: usize) -> At<'c> {
        let Line { cost, around, others, .. } = *self;
        let (stages, recipe, n) = (cost.stages.len(), &cost.recipe, u64::from(self.micro_batches));
        let (first, longer) = self.first(s);
        let last = s + 1 == stages;
        At {
            cost,
            around,
            others,
            stage: &cost.stages[s],
            s,
            n,
            last,
            splits: recipe.schedule == Schedule::ZeroBubble,
            early: recipe.overlap.is_some() || recipe.zero >= 2,
            gathers: matches!(recipe.zero, 1 | 2) && recipe.overlap.is_none(),
            warm_up: cost.warm_up(s),
            sends: around.sends(s),
            holds: around.holds(s),
            there_and_back: around.there_and_back(s),
            up: if last { 0 } else { around.sends(s + 1).1 },
            first,
            longer,
            tied: if (s == 0 || last) && stages > 1 { around.tied() } else { 0 },
            common: self.common(),
        }
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
    pub(super) fn first(&self, s: usize) -> (Early, u64) {
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

    /// Which borders are common to all parts at most, where that matters: gradients leave after the last pass, and not all are.
    pub(super) fn common(&self) -> Option<Common> {
        let mut common = self.around.common();
        if self.others.is_some() {
            // Which they are counts, not how many.
            common.most = None;
        }
        let after = self.cost.recipe.overlap.is_none() && self.cost.recipe.zero < 2;
        Some(common).filter(|common| after && *common != Common::ANY)
    }

    /// The end of the iteration, whatever stages there are before.
    pub(super) fn end(&self, sent: &Sent) -> u64 {
        sent.end[self.common().and_then(|common| common.most).unwrap_or(0)]
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
        let (at, layers) = (self.at(s), first..end);
        let both = both - at.stage.both(first, end);
        let forward = at.last_forward(&layers, before, both);
        let next = at.pass_on(&layers, before, forward);
        let (after, sent) = self.of_cut_from(s + 1, borders, next, both, each);
        let own = at.own(&layers, before, after, forward);
        let mut sent = at.synchronised(&layers, own.done, &sent);
        sent.not_before(at.shared(first, own.first_done));
        let onto = at.onto(&layers, &own, after);
        each(own);
        (onto, sent)
    }
}

/// A stage of a [`Line`]: what does not depend on its layers. Times are ps.
pub(super) struct At<'c> {
    cost: &'c TemplateCost,
    around: &'c Setting,
    others: Option<&'c InTurn<'c>>,
    stage: &'c StageCost,
    s: usize,
    /// Micro-batches.
    n: u64,
    /// Whether it is the last stage.
    last: bool,
    /// Whether weight gradients have a pass of their own, that fills gaps.
    splits: bool,
    /// Whether gradients leave before its last pass ends.
    early: bool,
    /// Whether parameters are gathered at the end: else they are in the next first passes or in every one, or not at all.
    gathers: bool,
    warm_up: u64,
    /// See [`Setting::sends`], [`Setting::holds`] and [`Setting::there_and_back`].
    sends: (u64, u64),
    holds: (u64, u64),
    there_and_back: u64,
    /// What the next stage sends up.
    up: u64,
    /// See [`Line::first`].
    first: Early,
    longer: u64,
    /// The exchange of a tied embedding, where it takes part.
    tied: u64,
    /// See [`Line::common`].
    common: Option<Common>,
}

impl At<'_> {
    /// Its forward and its backward pass.
    fn both(&self, layers: &Range<usize>) -> (u64, u64) {
        (self.stage.forward(layers.start, layers.end), self.stage.backward(layers.start, layers.end))
    }

    /// The end of its last forward pass; `both`: both passes of a micro-batch through the stages after it.
    pub(super) fn last_forward(&self, layers: &Range<usize>, before: Before, both: u64) -> u64 {
        let (n, warm_up, (f, b), (down, up)) = (self.n, self.warm_up, self.both(layers), self.holds);
        // Backward passes before it.
        let back = (n - 1).saturating_sub(warm_up);
        let own = if back > 0 && !self.splits {
            let Early { holds, there_and_back, .. } = self.first;
            let idle = (both + there_and_back).saturating_sub(warm_up * (f + holds.0));
            n * f + back * (b + up) + n.saturating_sub(2) * down + self.longer + idle
        } else {
            n * f + (n - 1) * down
        };
        (before.lead + own).max(before.last + f)
    }

    /// When it has done its last pass by what is before it and the way down and back. See docs/search.md for why nothing is counted
    /// twice.
    fn passes(&self, layers: &Range<usize>, lead: u64, both: u64) -> u64 {
        let (n, (f, b), (down, up)) = (self.n, self.both(layers), self.holds);
        let warm_up = self.warm_up.min(n - 1);
        let Early { holds, there_and_back, .. } = self.first;
        // Between its first forward pass and its first backward pass, and between its last of each, the stage has other
        // passes to run; what they do not fill is idle. With few micro-batches the two gaps are one.
        let there = (both + there_and_back).saturating_sub(warm_up * (f + holds.0));
        let back = (both + self.there_and_back).saturating_sub(warm_up * (b + up)).saturating_sub(down);
        let idle = match self.splits {
            true => there,
            false if n - 1 > warm_up => there + back,
            false => there.max(back),
        };
        // A transfer down after each forward pass but the first, whose is on the way down and back, and one up after each
        // backward pass but the last, whose is on the way up.
        lead + n * self.stage.work(layers.start, layers.end) + (n - 1) * (down + up) + self.longer + idle
    }

    /// The stage between what comes before and after, the end of whose last forward pass is known.
    pub(super) fn own(&self, layers: &Range<usize>, before: Before, after: After, forward: u64) -> Own {
        let (f, b) = self.both(layers);
        // Its last micro-batch goes down and back.
        let mut done =
            forward + after.both + self.there_and_back + self.stage.work(layers.start, layers.end) - f;
        done = done.max(self.passes(layers, before.lead, after.both));
        let way = forward + self.sends.0 + after.forward;
        let first_done = match (self.last, self.splits) {
            // Weight gradients may keep later stages longer.
            (false, true) => way,
            (false, false) => {
                done = done.max(after.done + self.up + b);
                after.first_done.max(way)
            }
            (true, _) => done,
        };
        Own { done, first_done }
    }

    /// The end of the iteration where it is known what the stages before do.
    pub(super) fn end_after(&self, sent: &Sent, before: Before) -> u64 {
        let Some(common) = &self.common else { return sent.end[0] };
        let k = common.most.unwrap_or(0);
        sent.end[k].max(sent.reduced[k] + before.tail)
    }

    /// How long the ring of some of its layers takes, by itself.
    fn ring(&self, layers: &Range<usize>) -> u64 {
        self.around.ring(self.s).time(self.cost, self.stage, layers.start, layers.end).reduce
    }

    fn update(&self, layers: &Range<usize>) -> u64 {
        self.stage.update(layers.start, layers.end, self.around.replicas())
    }

    /// What follows the rings of the stage after it in the iteration, if they are followed by its own.
    fn tail(&self, layers: &Range<usize>, before: Before) -> u64 {
        let apart = |common: &Common| common.most == Some(0) || !common.at.has(layers.end);
        if self.common.as_ref().is_none_or(|common| !apart(common)) {
            return 0;
        }
        let own = |layers: &Range<usize>| self.ring(layers);
        let time = self.others.map_or_else(|| own(layers), |others| others.time(layers.clone(), own));
        time + before.tail.max(self.update(layers))
    }

    /// Its gradients, optimizer step and parameters where its last pass ends at `done`, before those of the stages after it, which are
    /// sent so.
    pub(super) fn synchronised(&self, layers: &Range<usize>, done: u64, next: &Sent) -> Sent {
        let (cost, around, n, zero) = (self.cost, self.around, self.n, self.cost.recipe.zero);
        let own = around.ring(self.s).time(cost, self.stage, layers.start, layers.end);
        // Gradients of a last pass do not leave before it begins.
        let leaves = if self.early {
            let work = self.stage.work(layers.start, layers.end);
            done.saturating_sub(work - self.stage.forward(layers.start, layers.end))
        } else {
            done
        };
        let update = self.update(layers);
        let gather = if self.gathers { own.gather } else { 0 };
        // After what its rings follow, and before what its parameters are gathered.
        let finish = |after: u64, gathers: u64| {
            let mut ready = done.max(leaves.max(after) + own.reduce);
            if zero >= 2 {
                ready = ready.max(n * own.reduce);
            }
            if zero >= 3 {
                ready = ready.max(2 * n * own.gather);
            }
            ready + self.tied + update + gather + gathers
        };
        let mut shared = 0;
        for link in around.links().iter().filter(|l| l.stages.contains(&self.s)) {
            // The stages before this one hold the layers before, and end no sooner where none is late with weight gradients.
            let from = if link.stages.start == 0 && !self.splits { 0 } else { layers.start };
            shared = shared.max(leaves + link.to_the_end(cost, from, layers.end));
        }
        let alone = finish(0, 0).max(shared);
        let mut sent = Sent::NEVER;
        let Some(common) = &self.common else {
            sent.end[0] = alone.max(next.end[0]);
            return sent;
        };
        let may = common.at.has(layers.end);
        for k in 0..=common.most.unwrap_or(0) {
            // With the rings of the stage after it, or apart from them where that border may be one of those left.
            let with = finish(next.reduced[k], next.gathers[k]).max(shared);
            sent.end[k] = with.max(next.end[k]);
            sent.reduced[k] = done.max(next.reduced[k]) + own.reduce;
            sent.gathers[k] = gather + next.gathers[k];
            let left = if common.most.is_none() { Some(k) } else { k.checked_sub(1) };
            if let Some(left) = left.filter(|_| may) {
                sent.end[k] = sent.end[k].min(alone.max(next.end[left]));
                sent.reduced[k] = sent.reduced[k].min(done + own.reduce);
                sent.gathers[k] = sent.gathers[k].min(gather);
            }
        }
        if let Some(others) = self.others {
            // At a border that all of them have, rings need not wait for those of later layers.
            let before = if may { 0 } else { next.reduced[0] };
            let (reduced, over) = others.sent(layers.clone(), |layers| self.ring(layers), (done, before));
            sent.end[0] = sent.end[0].max(over).max(reduced + update + gather);
            sent.reduced[0] = sent.reduced[0].max(reduced);
        }
        sent
    }

    /// With this stage and those after it on the layers from `first` on: what they send over a link that they share comes after the
    /// first of them is done.
    pub(super) fn shared(&self, first: usize, first_done: u64) -> u64 {
        let (cost, stages) = (self.cost, self.cost.stages.len());
        if self.early {
            // It may come sooner.
            return 0;
        }
        let whole = |l: &&Shared| l.stages.start == self.s && l.stages.end == stages;
        let time = |l: &Shared| first_done + l.to_the_end(cost, first, cost.layers);
        self.around.links().iter().filter(whole).map(time).max().unwrap_or(0)
    }

    /// What it adds to what it and those after it do to the stage before.
    pub(super) fn onto(&self, layers: &Range<usize>, own: &Own, after: After) -> After {
        let (f, b) = self.both(layers);
        let forward = f + if self.last { b } else { self.sends.0 + after.forward };
        After { both: after.both + f + b, forward, done: own.done, first_done: own.first_done }
    }

    /// What the stage after it finds, which the stages up to this one do to it; `forward`: the end of its last forward pass.
    pub(super) fn pass_on(&self, layers: &Range<usize>, before: Before, forward: u64) -> Before {
        let down = self.sends.0;
        Before {
            lead: before.lead + self.stage.forward(layers.start, layers.end) + down,
            last: forward + down,
            tail: self.tail(layers, before),
        }
    }
}
