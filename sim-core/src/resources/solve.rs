//! The solver: progressive filling over flat arrays, on the component that changed or on everything.
//!
//! Levels only rise, so a level once computed stays a lower bound: resources wait by the last level known and are looked at
//! again when they come up, all of one level together. Each transfer is fixed once, through the resource (or cap) that limits it.

use super::Solver;
use super::table::{Member, NO_OTHER, Table};
use crate::batches::Batches;

/// How many solves in a row may take everything without looking whether less would do.
const MOST_SKIPPED: u32 = 15;

/// Marks what waits as the cap of a transfer rather than a resource.
const CAP: u32 = 1 << 31;

/// What a resource has left while the solver fills.
#[derive(Clone, Copy, Debug, Default)]
struct Filling {
    left: u64,
    open: u64,
}

/// The solver's working memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Solve {
    round: u32,
    levels: Batches,
    filling: Vec<Filling>,
    resources: Vec<u32>,
    flows: Vec<u32>,
    batch: Vec<u32>,
    /// How many solves to come take everything without looking, since the last look was in vain.
    skip: u32,
    backoff: u32,
    /// (transfer, its rate before) of each whose rate changed, and room for more.
    changed: Vec<(u32, u64)>,
    count: usize,
}

impl Solve {
    pub(super) fn reset(&mut self, resources: usize) {
        self.round = 0;
        (self.skip, self.backoff) = (0, 0);
        if self.filling.len() < resources {
            self.filling.resize(resources, Filling::default());
        }
    }

    /// (transfer, its rate before) of each whose rate the last run changed.
    #[inline]
    pub(super) fn changed(&self) -> &[(u32, u64)] {
        &self.changed[..self.count]
    }

    /// Gives every transfer that hangs together with a dirty resource its rate, and lists those that changed.
    pub(super) fn run(&mut self, table: &mut Table, solver: Solver) {
        self.count = 0;
        // One more than can change, for `fix_pair` writes before it knows.
        if self.changed.len() <= table.flows.len() {
            self.changed.resize(table.flows.len() + 1, (0, 0));
        }
        self.round += 1;
        if self.round == u32::MAX {
            for r in &mut table.resources {
                r.seen = 0;
            }
            for f in &mut table.flows {
                f.seen = 0;
            }
            for f in &mut table.hot {
                f.fixed = 0;
            }
            self.round = 1;
        }
        let whole = solver == Solver::Full || self.skip > 0 || !self.gather(table);
        if whole {
            self.skip = match self.skip {
                0 => self.backoff,
                left => left - 1,
            };
        }
        for at in 0..table.dirty.len() {
            let r = table.dirty[at];
            table.resources[r as usize].dirty = false;
        }
        table.dirty.clear();
        let resources = if whole { &table.used } else { &self.resources };
        for &r in resources {
            let resource = &table.resources[r as usize];
            self.filling[r as usize] = Filling { left: resource.capacity, open: resource.weight };
            self.levels.push(u128::from(resource.capacity / resource.weight), r);
        }
        if table.capped > 0 {
            let flows = if whole { &table.active } else { &self.flows };
            for &f in flows {
                let flow = &table.flows[f as usize];
                if flow.cap != u64::MAX && flow.count > 0 {
                    self.levels.push(u128::from(flow.cap), CAP | f);
                }
            }
        }
        self.fill(table);
    }

    /// Collects the components of the dirty resources; false when they are more than a quarter of everything.
    fn gather(&mut self, table: &mut Table) -> bool {
        self.resources.clear();
        self.flows.clear();
        let limit = table.active.len() / 4 + 1;
        let round = self.round;
        for at in 0..table.dirty.len() {
            self.reach(table, table.dirty[at], round);
        }
        let mut next = 0;
        while let Some(&r) = self.resources.get(next) {
            next += 1;
            for at in 0..table.members[r as usize].len() {
                let f = table.members[r as usize][at].flow;
                let flow = &mut table.flows[f as usize];
                if flow.seen == round {
                    continue;
                }
                flow.seen = round;
                self.flows.push(f);
                let (from, to) = (flow.uses, flow.uses + flow.count);
                for u in from..to {
                    self.reach(table, table.uses[u as usize].resource, round);
                }
            }
            if self.flows.len() > limit {
                self.backoff = (self.backoff * 2 + 1).min(MOST_SKIPPED);
                return false;
            }
        }
        self.backoff = 0;
        true
    }

    #[inline]
    fn reach(&mut self, table: &mut Table, r: u32, round: u32) {
        let resource = &mut table.resources[r as usize];
        if resource.seen != round && resource.weight > 0 {
            resource.seen = round;
            self.resources.push(r);
        }
    }

    fn fill(&mut self, table: &mut Table) {
        let mut batch = std::mem::take(&mut self.batch);
        while let Some(level) = self.levels.take(&mut batch) {
            let level = level as u64;
            // All that close at this level close together: each is looked at before any of them is filled.
            batch.retain(|&what| self.closes(table, level, what));
            for &what in &batch {
                if what & CAP != 0 {
                    self.fix(table, what ^ CAP, level);
                    continue;
                }
                let members = std::mem::take(&mut table.members[what as usize]);
                for member in &members {
                    if member.other == NO_OTHER {
                        self.fix(table, member.flow, level);
                    } else {
                        self.fix_pair(table, member, level);
                    }
                }
                table.members[what as usize] = members;
            }
        }
        self.batch = batch;
    }

    /// Whether `what`, just taken at its last known level, still stands at that level; puts it back if it has risen.
    #[inline]
    fn closes(&mut self, table: &Table, known: u64, what: u32) -> bool {
        if what & CAP != 0 {
            return table.hot[(what ^ CAP) as usize].fixed != self.round;
        }
        let Filling { left, open } = self.filling[what as usize];
        if open == 0 {
            return false;
        }
        let level = left / open;
        if level > known {
            self.levels.push(u128::from(level), what);
        }
        level == known
    }

    /// Fixes the rate of a transfer, and takes it off its resources.
    #[inline]
    fn fix(&mut self, table: &mut Table, f: u32, level: u64) {
        let hot = &mut table.hot[f as usize];
        if hot.fixed == self.round {
            return;
        }
        hot.fixed = self.round;
        if hot.rate != level {
            self.changed[self.count] = (f, hot.rate);
            self.count += 1;
            hot.rate = level;
        }
        let flow = &table.flows[f as usize];
        let (from, to) = (flow.uses as usize, (flow.uses + flow.count) as usize);
        for u in &table.uses[from..to] {
            let filling = &mut self.filling[u.resource as usize];
            // No more than is left, as the level is at most the resource's own; except of what has closed at a level below
            // by way of `fix_pair`, which is never looked at again.
            filling.left = filling.left.wrapping_sub(u64::from(u.weight).wrapping_mul(level));
            filling.open = filling.open.wrapping_sub(u64::from(u.weight));
        }
    }

    /// The same for the common transfer of two resources, reached through one of them, which closes and is never looked at
    /// again. Half of these calls meet a transfer that is fixed already, in no order that a processor could foresee, so that
    /// there is no branch in it.
    #[inline]
    fn fix_pair(&mut self, table: &mut Table, member: &Member, level: u64) {
        let hot = &mut table.hot[member.flow as usize];
        let fresh = hot.fixed != self.round;
        hot.fixed = self.round;
        let changes = fresh & (hot.rate != level);
        self.changed[self.count] = (member.flow, hot.rate);
        self.count += usize::from(changes);
        hot.rate = if fresh { level } else { hot.rate };
        let weight = if fresh { u64::from(member.weight) } else { 0 };
        let filling = &mut self.filling[member.other as usize];
        filling.left = filling.left.wrapping_sub(weight.wrapping_mul(level));
        filling.open = filling.open.wrapping_sub(weight);
    }
}
