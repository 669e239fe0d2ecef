//! What becomes of one node: thrown out, opened, or simulated.

use super::bounds::is_far;
use super::{Objective, Outcome, Search, Worker};
use crate::cost::cuts::Cut;
use crate::cost::rings::Rings;
use crate::rules::Rule;
use crate::tree::{Key, Pipelines, Root};
use sim_models::cost;
use std::sync::Arc;

/// Children that a node gives at once; then it waits for its turn again.
const CHILDREN: usize = 512;

/// Cuts of parts that are looked at for one list at most, first while the band can be made narrower, then at all.
const CUTS: usize = 1 << 12;
const MOST_CUTS: usize = 1 << 18;

/// The band of bounds of shares that a node opens at once: an eighth of a per cent.
const BAND: u64 = 800;

/// The same of cuts, where they are not few enough for all at once: a sixty-fourth.
const CUTS_BAND: u64 = 64;

/// The same for numbers of pipelines, each of which has a bound of its own: an eighth.
const NUMBERS_BAND: u64 = 8;

/// How far a node is opened: what is below its bound in the queue, and up to `after` of the band, was given.
#[derive(Clone, Default)]
pub(super) struct State {
    /// Whether it gave children.
    pub(super) opened: bool,
    /// Whether the bound is the better one: of a partial combination and of a combination, by what it can run; of numbers of
    /// pipelines, beside each other; of shares, on their devices.
    pub(super) better: bool,
    /// So many pipelines of the parts of a combination on their devices.
    pub(super) on: Option<OnDevices>,
    /// The least time that is left, ps, where that is more than its value says.
    pub(super) low: u64,
    /// Where the bound may still be better: a time above it that is enough by all that is known, [`u64::MAX`] where none is known.
    pub(super) enough: Option<u64>,
    /// Of shares and of cuts: those that take less, ps, were given.
    pub(super) from: u64,
    /// The end of the band, and the last child given of it.
    pub(super) after: Option<(u64, Vec<u32>)>,
}

impl State {
    fn after(&self) -> &[u32] {
        self.after.as_ref().map_or(&[], |(_, last)| last)
    }
}

/// The parts of a combination on their devices.
type OnDevices = Arc<Vec<Arc<Pipelines>>>;

/// What became of a node in a round.
pub(super) enum Step {
    /// It is a plan, simulated or not.
    Plan(Outcome),
    /// A rule throws it out; the template that lacks memory, and how much.
    Prune(Rule, Option<(usize, i128)>),
    /// Its bound is above the best time.
    Bounded,
    /// It holds more plans of one bound than can be listed.
    Stuck,
    /// Children with their bounds; and what is left, with its bound.
    Open {
        children: Vec<(u64, Key, State)>,
        again: Option<(u64, State)>,
        /// A plan to simulate before its turn, with its bound.
        probe: Option<(u64, Key)>,
    },
}

/// A part of a combination as its shares see it.
struct Sharer<'c> {
    rings: &'c Rings<'c>,
    pipelines: &'c Pipelines,
    /// Micro-batches of all its pipelines within the band, and at most ever.
    within: u32,
    most: u32,
}

impl Sharer<'_> {
    /// The bound with so many micro-batches.
    fn time(&self, total: u32) -> u64 {
        self.pipelines.time(self.rings, total).unwrap_or(u64::MAX)
    }
}

impl<'t> Search<'t> {
    pub(super) fn step(
        &self,
        worker: &mut Worker<'t>,
        value: u64,
        key: &Key,
        state: &State,
        worst: Option<u64>,
    ) -> Step {
        let Some(root) = self.tree.root(key) else { return Step::Bounded };
        let head = self.tree.head();
        let best = self.best();
        let time = |bound: u64| if self.options.objective == Objective::Cost { 0 } else { bound };
        if key.len() < head {
            if self.options.deadline_ps.is_some_and(|deadline| time(value).max(state.low) > deadline) {
                return Step::Prune(Rule::Deadline, None);
            }
            return self.options(root, key, value, state, best);
        }
        let parts = self.tree.parts(root, key);
        let shared = head + 2 * parts.len();
        if key.len() > shared || (key.len() == shared && self.inner_borders(&parts) == 0) {
            return Step::Plan(worker.simulate(self.tree, key, worst));
        }
        // With the number of pipelines the nodes are known, and with them what a time is worth; before, they are the fewest.
        let counts = self.tree.counts(&parts, key);
        let (objective, price) = (self.options.objective, self.tree.price(&parts, &counts));
        let limit = self.limit(price, best);
        let bound = match value {
            0 => 0,
            // A bound of the cost is none of the time.
            _ if key.len() == head && objective == Objective::Cost => 0,
            value => objective.time(price, value - 1).saturating_add(1),
        };
        let bound = bound.max(state.low);
        if self.options.deadline_ps.is_some_and(|deadline| bound > deadline) {
            return Step::Prune(Rule::Deadline, None);
        }
        if self.options.budget.is_some_and(|budget| cost::for_time(price, bound) > budget) {
            return Step::Prune(Rule::Budget, None);
        }
        let step = if key.len() == head {
            self.numbers(worker, root, &parts, key, bound, state, limit)
        } else if key.len() == head + parts.len() {
            self.shares(worker, root, &parts, key, bound, state, limit)
        } else {
            self.cuts(worker, key, bound, state, limit)
        };
        // Children of a combination are worth what their numbers of pipelines are.
        let worth = |child: &Key, time: u64| match key.len() == head {
            true => objective.value(self.tree.price(&parts, &self.tree.counts(&parts, child)), time),
            false => objective.value(price, time),
        };
        match step {
            Step::Open { mut children, again, mut probe } => {
                for (bound, child, _) in &mut children {
                    *bound = worth(child, *bound);
                }
                if let Some((bound, plan)) = &mut probe {
                    *bound = worth(plan, *bound);
                }
                let left = |low| match key.len() == head && objective == Objective::Cost {
                    true => value.max(objective.value(price, low)),
                    false => objective.value(price, low),
                };
                let again = again.map(|(low, state)| (left(low), State { low, ..state }));
                Step::Open { children, again, probe }
            }
            step => step,
        }
    }

    /// The longest time on nodes of this price that is no worse than the best, nor than what may be.
    fn limit(&self, price: u64, best: u64) -> u64 {
        let budget = self.options.budget.map_or(u64::MAX, |budget| cost::time_for(price, budget));
        let deadline = self.options.deadline_ps.unwrap_or(u64::MAX);
        self.options.objective.time(price, best).min(budget).min(deadline)
    }

    /// Inner borders of all parts together.
    pub(super) fn inner_borders(&self, parts: &[usize]) -> usize {
        parts.iter().map(|p| self.tree.choices[*p].cost.stages.len() - 1).sum()
    }

    /// A partial combination: its bound by what it can run, then the options of the next kind.
    fn options(&self, root: &Root, key: &Key, value: u64, state: &State, best: u64) -> Step {
        let (objective, next) = (self.options.objective, key.len() - 2);
        let parts = self.tree.parts(root, key);
        if !state.better {
            let price = self.tree.price(&parts, &[]);
            // What the options may add is known to be no dearer only where a value is a time.
            let least = match objective {
                Objective::Cost => self.bounds().quick(root, &parts, next).max(state.low),
                _ => value,
            };
            let limit = self.limit(price, best);
            let (low, enough) = self.bounds().combined(root, &parts, next, (least, state.enough), limit);
            let state = State { better: enough.is_none(), enough, low, ..State::default() };
            let again = Some((self.worth(root, &parts, next, low).max(value), state));
            return Step::Open { children: Vec::new(), again, probe: None };
        }
        let mut children = Vec::new();
        let menu = root.menus[next].iter().map(|(option, _)| *option);
        let open = !self.tree.open_kinds(root, &parts, next).is_empty();
        for option in std::iter::once(0).chain(menu.filter(|_| open)) {
            let child = [&key[..], &[option]].concat();
            let parts = self.tree.parts(root, &child);
            if child.len() == self.tree.head() && !self.tree.is_new(root, &parts) {
                continue;
            }
            let least = self.bounds().quick(root, &parts, next + 1);
            if least == u64::MAX {
                // Nothing is left that could run the batch: no plan is below.
                continue;
            }
            let worth = self.worth(root, &parts, next + 1, least);
            children.push((worth.max(value), child, State::default()));
        }
        Step::Open { children, again: None, probe: None }
    }

    /// What a time of a partial combination is worth at least.
    fn worth(&self, root: &Root, parts: &[usize], next: usize, time: u64) -> u64 {
        match self.options.objective {
            Objective::Cost => self.bounds().cost(root, parts, next, time),
            _ => time,
        }
    }

    /// The numbers of pipelines of a combination in a band of bounds.
    #[allow(clippy::too_many_arguments, reason = "a node, and where it stands")]
    fn numbers(
        &self,
        worker: &mut Worker<'t>,
        root: &Root,
        parts: &[usize],
        key: &Key,
        bound: u64,
        state: &State,
        limit: u64,
    ) -> Step {
        let need = self.tree.micro_batches(root.frame);
        if parts.len() > need as usize {
            return Step::Prune(Rule::TooFewMicroBatches, None);
        }
        if !state.better {
            let most = |p: &usize| {
                let choice = &self.tree.choices[*p];
                u64::from(choice.most_that_fit(need)) * u64::from(choice.pipelines())
            };
            if parts.iter().map(most).sum::<u64>() < u64::from(need) {
                // The parts fit, but not with what they would have in flight to run the whole batch.
                return Step::Prune(Rule::Memory, None);
            }
            let least = self.bounds().quick(root, parts, root.menus.len()).max(bound);
            let known = (least, state.enough);
            let (least, enough) = self.bounds().combined(root, parts, root.menus.len(), known, limit);
            if least > bound {
                let again = Some((least, State { after: None, enough, ..state.clone() }));
                return Step::Open { children: Vec::new(), again, probe: None };
            }
        }
        // What it costs tells little of its time: then all numbers are in one band.
        let high = match self.options.objective {
            Objective::Cost => limit,
            _ => bound.saturating_add(bound / NUMBERS_BAND).min(limit),
        };
        let before = state.better.then(|| bound.saturating_sub(1));
        let mut children = Vec::new();
        let (mut last, mut probe) = (None, None);
        let after = state.after();
        let (whole, all) = self.bounds().numbers(root, parts, (before, high), after, &mut |counts| {
            if self.tree.is_new_with(root, parts, counts) {
                let least = self.bounds().busy(root, parts, counts).max(bound);
                let child = self.tree.counted(key, parts, counts);
                let all = parts.iter().zip(counts).all(|(p, n)| self.tree.choices[*p].pipelines() == *n);
                children.push(if least <= limit && all {
                    // The likeliest is looked at closely at once.
                    let (time, state) = self.closely(root, parts, counts, (least, &State::default()), limit);
                    let state = state.unwrap_or_default();
                    probe = self.likeliest(worker, (root, &child), (time, &state), limit);
                    (time, child, state)
                } else {
                    (least, child, State::default())
                });
            }
            last = Some(counts.to_vec());
            children.len() < CHILDREN
        });
        let better = State { better: true, ..State::default() };
        let again = if !whole {
            // The first band stays the first.
            let after = last.map(|last| (high, last));
            Some((bound, State { after, better: state.better, ..State::default() }))
        } else if all || high >= limit {
            None
        } else {
            Some((high + 1, better))
        };
        Step::Open { children, again, probe }
    }

    /// The shares of a combination with so many pipelines in a band of bounds.
    #[allow(clippy::too_many_arguments, reason = "a node, and where it stands")]
    fn shares(
        &self,
        worker: &mut Worker<'t>,
        root: &Root,
        parts: &[usize],
        key: &Key,
        bound: u64,
        state: &State,
        limit: u64,
    ) -> Step {
        let need = self.tree.micro_batches(root.frame);
        let counts = &self.tree.counts(parts, key)[..];
        if !state.better {
            let (time, next) = self.closely(root, parts, counts, (bound, state), limit);
            let next = match next {
                Ok(next) => next,
                Err(rule) => return Step::Prune(rule, None),
            };
            let probe = match state.enough {
                None => self.likeliest(worker, (root, key), (time, &next), limit),
                Some(_) => None,
            };
            return Step::Open { children: Vec::new(), again: Some((time, next)), probe };
        }
        let on = match self.on_devices(root, parts, counts, state) {
            Ok(on) => on,
            Err(rule) => return Step::Prune(rule, None),
        };
        let pipelines: u32 = counts.iter().sum();
        let mut high = bound.saturating_add(bound / BAND);
        let mut sharers = Vec::with_capacity(parts.len());
        for part in on.iter() {
            // What is left when every other pipeline has one; and what fits, which depends on how many are in flight.
            let left = need - (pipelines - part.pipelines);
            if part.fit == 0 {
                let lacks = part.cost.least_excess(1, pipelines.into());
                return Step::Prune(Rule::Memory, (lacks > 0).then_some((part.template, lacks)));
            }
            let most = part.fit.min(left.div_ceil(part.pipelines));
            let most = most.saturating_mul(part.pipelines).min(left);
            sharers.push(Sharer { rings: &self.tree.rings, pipelines: part, within: 0, most });
        }
        if sharers.iter().map(|s| u64::from(s.most)).sum::<u64>() < u64::from(need) {
            // The parts fit, but not with what they would have in flight to run the whole batch.
            return Step::Prune(Rule::Memory, None);
        }
        high = high.min(limit);
        for s in &mut sharers {
            let each = s.most.div_ceil(s.pipelines.pipelines);
            s.within = s.pipelines.most_within(s.rings, high, each).min(s.most);
        }
        let mut children = Vec::new();
        let after = state.after();
        let mut walk = Shares {
            sharers: &sharers,
            band: (state.from, high),
            after,
            above: u64::MAX,
            give: &mut |time, shares| {
                children.push((time.max(bound), [&key[..], shares].concat(), State::default()));
                children.len() < CHILDREN
            },
        };
        let whole = walk.from(need, &mut Vec::new(), 0);
        let above = walk.above;
        let all = sharers.iter().all(|s| s.within == s.most);
        let better = State { better: true, on: Some(Arc::clone(&on)), ..State::default() };
        let again = if !whole {
            let after = children.last().map(|(_, child, _)| (high, child[key.len()..].to_vec()));
            Some((bound, State { after, from: state.from, ..better }))
        } else if high >= limit || (all && above == u64::MAX) {
            None
        } else {
            // What was not within the band may be anywhere above it, or is known where nothing else was left out.
            Some((if all { above } else { high + 1 }, State { from: high + 1, ..better }))
        };
        Step::Open { children, again, probe: None }
    }

    /// What so many pipelines of each part can do: wherever they are, and then on their devices as long as that may be within
    /// `limit`; the bound and what is known then. An error is the rule that throws them out there.
    fn closely(
        &self,
        root: &Root,
        parts: &[usize],
        counts: &[u32],
        (least, state): (u64, &State),
        limit: u64,
    ) -> (u64, Result<State, Rule>) {
        let past = (limit.saturating_add(1), Ok(State { better: true, ..State::default() }));
        // Near the limit most are past it.
        let new = state.enough.is_none() && !is_far(least, limit);
        let beside = || self.tree.beside_each_other(root, parts, counts);
        if new && !self.bounds().can_in_turn(root, &beside(), limit) {
            return past;
        }
        let on = match self.on_devices(root, parts, counts, state) {
            Ok(on) => on,
            Err(rule) => return (least, Err(rule)),
        };
        let (time, enough) = self.bounds().in_turn(root, &on, (least, state.enough), limit);
        if time > limit {
            return past;
        }
        (time, Ok(State { better: enough.is_none(), on: Some(on), enough, ..State::default() }))
    }

    /// So many pipelines of the parts on their devices, if not known yet.
    fn on_devices(
        &self,
        root: &Root,
        parts: &[usize],
        counts: &[u32],
        state: &State,
    ) -> Result<OnDevices, Rule> {
        match &state.on {
            Some(on) => Ok(Arc::clone(on)),
            None => self.tree.on_devices(root, parts, counts).map(Arc::new),
        }
    }

    /// The cuts of a node with shares in a band of bounds.
    fn cuts(&self, worker: &mut Worker<'t>, key: &Key, bound: u64, state: &State, limit: u64) -> Step {
        let placed = match worker.placed(self.tree, key) {
            Ok(placed) => placed,
            Err(rule) => return Step::Prune(*rule, None),
        };
        if !state.better {
            return match placed.bound(limit) {
                Some(least) => {
                    let next = State { better: true, ..State::default() };
                    Step::Open { children: Vec::new(), again: Some((least.max(bound), next)), probe: None }
                }
                None => match placed.lacks() {
                    Some((template, lacks)) => {
                        let at = self.tree.templates.iter().position(|t| t == template);
                        Step::Prune(Rule::Memory, at.map(|t| (t, lacks)))
                    }
                    None => Step::Bounded,
                },
            };
        }
        let list = |high: u64, most: usize| Some((high, placed.cuts(high, most).ok()?));
        // All at once where they are few, else those of a band as narrow as that takes; where it takes too narrow a one, many.
        let found = match &state.after {
            Some((high, _)) => list((*high).min(limit), MOST_CUTS),
            None => {
                let narrower = |wide: u64| std::iter::successors(Some(wide), |wide| Some(wide / 4)).take(4);
                let few = narrower(bound / CUTS_BAND).map(|wide| (wide, CUTS));
                let many = narrower(bound / CUTS_BAND).chain([0]).map(|wide| (wide, MOST_CUTS));
                let band = |(wide, most): (u64, usize)| list(bound.saturating_add(wide).min(limit), most);
                list(limit, CHILDREN).or_else(|| few.chain(many).find_map(band))
            }
        };
        let Some((high, cuts)) = found else { return Step::Stuck };
        // The longer it took to list them, the more at once.
        let most = CHILDREN.max(cuts.len() / 8);
        let new = |(time, inner): &Cut| *time >= state.from && inner[..] > *state.after();
        let mut new = cuts.into_iter().filter(new).peekable();
        let mut after = None;
        let mut children = Vec::new();
        for (time, inner) in new.by_ref().take(most) {
            children.push((time.max(bound), [&key[..], &inner].concat(), State::default()));
            after = Some((high, inner));
        }
        let better = State { better: true, ..State::default() };
        let again = if new.peek().is_some() {
            Some((bound, State { after, from: state.from, ..better }))
        } else {
            (high < limit).then(|| (high + 1, State { from: high + 1, ..better }))
        };
        Step::Open { children, again, probe: None }
    }
}

/// The shares whose bound is within a band, in order.
struct Shares<'c, 'g> {
    sharers: &'c [Sharer<'c>],
    band: (u64, u64),
    /// Those up to this were given.
    after: &'c [u32],
    /// The least bound above the band that was met.
    above: u64,
    give: &'g mut dyn FnMut(u64, &[u32]) -> bool,
}

impl Shares<'_, '_> {
    /// Gives what shares out `left` over the parts after those of `path`, until `give` has enough; whether all were given.
    fn from(&mut self, left: u32, path: &mut Vec<u32>, time: u64) -> bool {
        let i = path.len();
        let s = &self.sharers[i];
        let rest = &self.sharers[i + 1..];
        let others: u32 = rest.iter().map(|r| r.within).fold(0, u32::saturating_add);
        let least: u32 = rest.iter().map(|r| r.pipelines.pipelines).sum();
        let mut first = left.saturating_sub(others).max(s.pipelines.pipelines);
        let last = left.saturating_sub(least).min(s.within);
        if path[..] == self.after[..i.min(self.after.len())] && self.after.len() > i {
            // Up to the last given, nothing is new.
            first = first.max(self.after[i]);
        }
        let team = s.pipelines.cost.team;
        for total in (first.next_multiple_of(team)..=last).step_by(team as usize) {
            let time = time.max(s.time(total));
            if time > self.band.1 {
                self.above = self.above.min(time);
                continue;
            }
            path.push(total);
            let whole = match rest.is_empty() {
                true => time < self.band.0 || path[..] <= *self.after || (self.give)(time, path),
                false => self.from(left - total, path, time),
            };
            path.pop();
            if !whole {
                return false;
            }
        }
        true
    }
}
