//! Transfers as fluids: bytes that flow at the rates of the solver, settled exactly whenever a rate changes.

use super::Solver;
use super::solve::Solve;
use super::table::Table;
use crate::capacity::Cursor;
use crate::completion::CompletionQueue;
use crate::graph::Use;
use crate::id::ResourceId;
use crate::network::Network;
use crate::queue::EventQueue;
use crate::rate::{Rate, WORK_PER_BYTE, time_for};
use crate::time::SimTime;

/// What is left of a transfer, as of the last change of its rate.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    left: u128,
    since: u64,
}

/// Transfers under way over the resources of one network.
///
/// The owner drives the clock: at each instant it applies capacity changes, takes finishes, starts transfers, and calls
/// [`Fluid::resolve`] once at the end. Between those calls the rates are as they were.
#[derive(Clone, Debug, Default)]
pub struct Fluid {
    table: Table,
    solve: Solve,
    solver: Solver,
    progress: Vec<Progress>,
    completions: CompletionQueue,
    changes: EventQueue<()>,
    /// Tells this run's resource state from that of runs before.
    run: u64,
    origin: u64,
    /// Finish times by place among the active ones, as floats; kept while many rates change at once.
    estimates: Vec<f64>,
    /// In this mode the queue is stale: the next finishes are found by a scan of the estimates.
    scanning: bool,
    /// The next finishes found by the scan, latest id first; all at `due_time`.
    due: Vec<u32>,
    due_time: u64,
    stale: bool,
    /// Resolves in a row that changed few rates.
    calm: u32,
}

/// Below this many transfers the queue is always as good as a scan.
const SCAN_FROM: usize = 64;
/// After this many resolves in a row that change few rates, the queue is built again.
const CALM: u32 = 16;
/// A scan pays when more than one in this many transfers changes its rate.
const SCAN_SHARE: usize = 16;

impl Fluid {
    /// Nothing under way, no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with a choice of what a change re-solves.
    pub fn with_solver(solver: Solver) -> Self {
        Self { solver, ..Self::default() }
    }

    /// Forgets everything and takes a network; the clock's 0 is the instant `origin` of its profiles. Keeps the memory.
    pub fn reset(&mut self, net: &Network, origin: SimTime) {
        self.table.reset(net.len());
        self.solve.reset(net.len());
        self.completions.clear();
        self.changes.clear();
        self.estimates.clear();
        self.due.clear();
        self.scanning = false;
        self.stale = false;
        self.calm = 0;
        self.run += 1;
        self.origin = origin.as_ps();
    }

    /// How many transfers are under way.
    #[inline]
    pub fn active(&self) -> usize {
        self.table.active.len()
    }

    /// Starts a transfer and gives its slot, which is free again once it finishes. `id` orders finishes of one instant and
    /// must differ from those of all others under way. Unless it is alone on all its resources its rate comes with
    /// [`Fluid::resolve`].
    ///
    /// # Panics
    /// When a resource is not of the network.
    #[inline]
    pub fn start(
        &mut self,
        net: &Network,
        now: SimTime,
        id: u32,
        bytes: u64,
        cap: Rate,
        uses: &[Use],
    ) -> u32 {
        let now = now.as_ps();
        for &(resource, _) in uses {
            self.touch(net, now, resource);
        }
        let (slot, alone) = self.table.add(id, cap.raw(), uses);
        let left = u128::from(bytes) * WORK_PER_BYTE;
        if self.progress.len() <= slot as usize {
            self.progress.resize(slot as usize + 1, Progress::default());
        }
        self.progress[slot as usize] = Progress { left, since: now };
        if alone {
            let mut rate = cap.raw();
            for &(resource, weight) in uses {
                let capacity = self.table.resources[resource.index()].capacity;
                rate = rate.min(if weight == 1 { capacity } else { capacity / u64::from(weight) });
            }
            self.table.hot[slot as usize].rate = rate;
        }
        if self.scanning {
            self.estimates.push(f64::INFINITY);
            self.stale = true;
        }
        self.schedule(slot, now);
        slot
    }

    /// Makes sure that the capacity of `resource` is that of `now`.
    #[inline]
    fn touch(&mut self, net: &Network, now: u64, resource: ResourceId) {
        let r = &mut self.table.resources[resource.index()];
        if r.run != self.run {
            r.run = self.run;
            r.cursor = Cursor::default();
            (r.awaits, r.dirty, r.weight, r.seen) = (false, false, 0, 0);
        } else if r.awaits || r.weight > 0 {
            return;
        }
        let (capacity, next) = net.capacity(resource).read(now.saturating_add(self.origin), &mut r.cursor);
        r.capacity = capacity;
        if let Some(next) = next {
            r.awaits = true;
            self.changes.push_key((u128::from(next - self.origin) << 64) | u128::from(resource.0), ());
        }
    }

    /// Puts the finish of a transfer whose progress is that of `now` where the next one is looked for.
    #[inline]
    fn schedule(&mut self, slot: u32, now: u64) {
        let flow = &self.table.flows[slot as usize];
        let rate = self.table.hot[slot as usize].rate;
        let left = self.progress[slot as usize].left;
        if self.scanning {
            self.estimates[flow.place as usize] = estimate(now, left, rate);
        } else {
            let finish = now.saturating_add(time_for(left, rate));
            self.completions.set(slot, finish, u64::from(flow.id));
        }
    }

    /// The time of the next finish; [`SimTime::MAX`] when transfers are under way but none ends on its own.
    #[inline]
    pub fn next_finish(&self) -> Option<SimTime> {
        debug_assert!(
            !self.stale && self.table.dirty.is_empty(),
            "resolved before the next finish is asked for"
        );
        if self.scanning {
            return (!self.table.active.is_empty()).then(|| SimTime::from_ps(self.due_time));
        }
        self.completions.peek().map(|(time, _)| SimTime::from_ps(time))
    }

    /// Takes one transfer that finishes at `now`, the smallest id first: its slot, free from now on, and its id.
    #[inline]
    pub fn finish(&mut self, now: SimTime) -> Option<(u32, u32)> {
        let slot = if self.scanning {
            if self.due_time != now.as_ps() {
                return None;
            }
            self.due.pop()?
        } else {
            match self.completions.peek() {
                Some((time, slot)) if time == now.as_ps() => slot,
                _ => return None,
            }
        };
        let id = self.table.flows[slot as usize].id;
        self.forget(slot);
        Some((slot, id))
    }

    /// Takes a transfer out before it is done.
    pub fn cancel(&mut self, slot: u32) {
        self.due.retain(|&s| s != slot);
        self.forget(slot);
    }

    #[inline]
    fn forget(&mut self, slot: u32) {
        let at = self.table.remove(slot);
        if self.scanning {
            self.estimates.swap_remove(at);
            self.stale = true;
        } else {
            self.completions.remove(slot);
        }
    }

    /// The time of the next capacity change of a resource that was in use when it was last read.
    #[inline]
    pub fn next_change(&mut self) -> Option<SimTime> {
        while let Some(key) = self.changes.peek_key() {
            let r = &mut self.table.resources[key as u32 as usize];
            if r.weight > 0 {
                return Some(SimTime::from_ps((key >> 64) as u64));
            }
            // Nobody uses it any more: who does next reads it anew.
            r.awaits = false;
            self.changes.pop_key();
        }
        None
    }

    /// Applies one capacity change due at `now`: the resource and its new capacity, equal to the old one or not.
    #[inline]
    pub fn change(&mut self, net: &Network, now: SimTime) -> Option<(ResourceId, Rate)> {
        if self.next_change()? != now {
            return None;
        }
        let (key, ()) = self.changes.pop_key()?;
        let resource = ResourceId(key as u32);
        let r = &mut self.table.resources[resource.index()];
        let (capacity, next) =
            net.capacity(resource).read(now.as_ps().saturating_add(self.origin), &mut r.cursor);
        r.awaits = next.is_some();
        if let Some(next) = next {
            self.changes.push_key((u128::from(next - self.origin) << 64) | u128::from(resource.0), ());
        }
        if r.capacity != capacity {
            r.capacity = capacity;
            self.table.mark(resource.0);
        }
        Some((resource, Rate::from_raw(capacity)))
    }

    /// Whether [`Fluid::resolve`] has anything to do.
    #[inline]
    pub fn unresolved(&self) -> bool {
        self.stale || !self.table.dirty.is_empty()
    }

    /// Works out the rates anew after the changes of this instant; tells (id, rate) of each transfer whose rate changed.
    pub fn resolve(&mut self, now: SimTime, mut changed: impl FnMut(u32, Rate)) {
        let now = now.as_ps();
        if !self.table.dirty.is_empty() {
            self.solve.run(&mut self.table, self.solver);
            for &(slot, before) in self.solve.changed() {
                let p = &mut self.progress[slot as usize];
                let moved = u128::from(before) * u128::from(now - p.since);
                *p = Progress { left: p.left.saturating_sub(moved), since: now };
                changed(
                    self.table.flows[slot as usize].id,
                    Rate::from_raw(self.table.hot[slot as usize].rate),
                );
            }
            let active = self.table.active.len();
            let many = self.solver == Solver::Incremental
                && active >= SCAN_FROM
                && self.solve.changed().len() * SCAN_SHARE > active;
            self.calm = if many { 0 } else { self.calm.saturating_add(1) };
            if many && !self.scanning || self.scanning && self.calm > CALM {
                self.switch(many);
            } else {
                for at in 0..self.solve.changed().len() {
                    let slot = self.solve.changed()[at].0;
                    self.schedule(slot, now);
                }
            }
        }
        if self.scanning {
            self.scan();
        }
        self.stale = false;
    }

    /// Leaves the queue for the scan, or comes back.
    fn switch(&mut self, scanning: bool) {
        self.scanning = scanning;
        self.due.clear();
        let Self { table, progress, completions, estimates, .. } = self;
        let state =
            table.active.iter().map(|&slot| (slot, table.hot[slot as usize].rate, progress[slot as usize]));
        estimates.clear();
        if scanning {
            completions.clear();
            estimates.extend(state.map(|(_, rate, p)| estimate(p.since, p.left, rate)));
        } else {
            completions.rebuild(state.map(|(slot, rate, p)| {
                let id = table.flows[slot as usize].id;
                (slot, p.since.saturating_add(time_for(p.left, rate)), u64::from(id))
            }));
        }
    }

    /// Finds the next finishes: those near the least estimate, by their exact times.
    fn scan(&mut self) {
        self.due.clear();
        self.due_time = u64::MAX;
        let least = self.estimates.iter().fold(f64::INFINITY, |a, &b| if b < a { b } else { a });
        // An estimate is off by a few units in the last place of the largest number in it, the finish itself.
        let reach = least * (1.0 + 1e-14) + 2.0;
        for (at, &about) in self.estimates.iter().enumerate() {
            if about > reach || about == f64::INFINITY {
                continue;
            }
            let slot = self.table.active[at];
            let p = self.progress[slot as usize];
            let time = p.since.saturating_add(time_for(p.left, self.table.hot[slot as usize].rate));
            if time < self.due_time {
                self.due_time = time;
                self.due.clear();
            }
            if time == self.due_time && time != u64::MAX {
                self.due.push(slot);
            }
        }
        let flows = &self.table.flows;
        self.due.sort_unstable_by_key(|&slot| std::cmp::Reverse(flows[slot as usize].id));
    }

    /// The rate of the transfer in `slot`.
    pub fn rate(&self, slot: u32) -> Rate {
        Rate::from_raw(self.table.hot[slot as usize].rate)
    }

    /// The ids of all transfers under way that do not move, in no order that means anything.
    pub fn stalled(&self) -> impl Iterator<Item = u32> + '_ {
        let still = self.table.active.iter().filter(|&&s| self.table.hot[s as usize].rate == 0);
        still.map(|&s| self.table.flows[s as usize].id)
    }
}

/// The finish as a float, infinite for what does not move.
#[inline]
fn estimate(since: u64, left: u128, rate: u64) -> f64 {
    let high = (left >> 64) as u64 as f64;
    let low = left as u64 as f64;
    since as f64 + (high * 18_446_744_073_709_551_616.0 + low) / rate as f64
}
