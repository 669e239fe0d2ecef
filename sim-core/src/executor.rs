//! Runs a task graph over a network.
//!
//! One loop over instants. At each: capacity changes, then finishes, then starts (and what they free at once), then one
//! resolve of the shares. A transfer alone on its resources never reaches the solver.

use std::collections::VecDeque;

use crate::batches::Batches;
use crate::capacity::Cursor;
use crate::digest::Digest;
use crate::error::{NAMED, SimError};
use crate::graph::{Kind, NO_GROUP, TaskGraph};
use crate::id::{ResourceId, TaskId};
use crate::network::Network;
use crate::observe::Observer;
use crate::queue::Class;
use crate::rate::Rate;
use crate::resources::{Fluid, Solver};
use crate::time::SimTime;

/// After this many capacity changes in a row with nothing under way moving, a run counts as stalled.
pub const STALL_LIMIT: u64 = 1 << 20;

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// The instant of the capacity profiles at which the run's clock 0 lies.
    pub origin: SimTime,
    /// Stop before the first event later than this.
    pub cutoff: Option<SimTime>,
    /// Fail with [`SimError::EventBudget`] rather than dispatch more events than this.
    pub event_budget: Option<u64>,
}

/// How a run went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// False when the cut-off came first.
    pub finished: bool,
    /// The time of the last event; the cut-off when it came first.
    pub end: SimTime,
    /// Events dispatched: finishes, starts after a latency, capacity changes.
    pub events: u64,
    /// Over those events.
    pub digest: Digest,
}

/// An exclusion group: which edge is active, how many transfers are on it, and who waits.
#[derive(Clone, Debug, Default)]
struct Group {
    edge: u32,
    active: u32,
    waiting: VecDeque<u32>,
}

/// When a task began and was done, ps; `u64::MAX` while it has not.
#[derive(Clone, Copy, Debug)]
struct Times {
    start: u64,
    finish: u64,
}

/// Runs task graphs, one after another, in the same memory.
#[derive(Clone, Debug, Default)]
pub struct Executor {
    waiting: Vec<u32>,
    times: Vec<Times>,
    ready: Vec<u32>,
    /// Tasks that are due later, by [`instant`].
    due: Batches,
    /// Tasks of one instant and class, while they are dispatched.
    batch: Vec<u32>,
    fluid: Fluid,
    groups: Vec<Group>,
    /// Groups whose active edge has just fallen idle while others wait.
    freed: Vec<u32>,
    done: usize,
    events: u64,
    digest: Digest,
    now: u64,
}

/// (time, class) as one integer.
#[inline]
fn instant(time: u64, class: Class) -> u128 {
    (u128::from(time) << 2) | class as u128
}

impl Executor {
    /// No memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a choice of what a change re-solves; the results are the same.
    pub fn with_solver(solver: Solver) -> Self {
        Self { fluid: Fluid::with_solver(solver), ..Self::default() }
    }

    /// When a task of the last run began; [`SimTime::MAX`] when it did not.
    ///
    /// # Panics
    /// When the task is not of the graph of the last run.
    pub fn start_of(&self, task: TaskId) -> SimTime {
        SimTime::from_ps(self.times[task.index()].start)
    }

    /// When a task of the last run was done; [`SimTime::MAX`] when it was not.
    ///
    /// # Panics
    /// When the task is not of the graph of the last run.
    pub fn finish_of(&self, task: TaskId) -> SimTime {
        SimTime::from_ps(self.times[task.index()].finish)
    }

    /// Runs `graph` on `net` from time 0.
    ///
    /// # Errors
    /// [`SimError::Deadlock`] when tasks wait in a circle, [`SimError::Stalled`] when a capacity of zero holds transfers for
    /// ever, [`SimError::TimeOverflow`], [`SimError::EventBudget`], [`SimError::UnknownResource`].
    pub fn run<O: Observer>(
        &mut self,
        graph: &TaskGraph,
        net: &Network,
        opts: &RunOptions,
        obs: &mut O,
    ) -> Result<Outcome, SimError> {
        if graph.resources > net.len() {
            let resource = ResourceId(graph.resources as u32 - 1);
            return Err(SimError::UnknownResource { resource, count: net.len() });
        }
        self.reset(graph, net, opts);
        let cutoff = opts.cutoff.map_or(u64::MAX, SimTime::as_ps);
        let budget = opts.event_budget.unwrap_or(u64::MAX);
        let mut idle = 0;
        loop {
            self.start_ready(graph, net, opts, obs)?;
            if self.fluid.unresolved() {
                let now = SimTime::from_ps(self.now);
                self.fluid.resolve(now, |id, rate| obs.rate_changed(now, TaskId(id), rate));
            }
            if self.events > budget {
                return Err(SimError::EventBudget { budget, at: SimTime::from_ps(self.now) });
            }
            let task = self.due.next().map_or(u64::MAX, |instant| (instant >> 2) as u64);
            let flow = self.fluid.next_finish().map_or(u64::MAX, SimTime::as_ps);
            let change = self.fluid.next_change().map_or(u64::MAX, SimTime::as_ps);
            let next = task.min(flow).min(change);
            if next == u64::MAX {
                return self.ended(graph);
            }
            if next > cutoff {
                return Ok(self.outcome(false, cutoff));
            }
            if task == u64::MAX && flow == u64::MAX {
                idle += 1;
                if idle > STALL_LIMIT {
                    return self.ended(graph);
                }
            } else {
                idle = 0;
            }
            self.now = next;
            if change == next {
                self.change_capacities(net, obs);
            }
            if flow == next {
                self.finish_flows(graph, obs);
            }
            if task == next {
                self.dispatch_tasks(graph, net, obs);
            }
        }
    }

    fn reset(&mut self, graph: &TaskGraph, net: &Network, opts: &RunOptions) {
        self.waiting.clear();
        self.waiting.extend_from_slice(&graph.degrees);
        self.times.clear();
        self.times.resize(graph.len(), Times { start: u64::MAX, finish: u64::MAX });
        self.ready.clear();
        self.ready.extend_from_slice(&graph.roots);
        self.due.clear();
        self.fluid.reset(net, opts.origin);
        self.freed.clear();
        for group in &mut self.groups {
            group.active = 0;
            group.waiting.clear();
        }
        if self.groups.len() < graph.groups {
            self.groups.resize_with(graph.groups, Group::default);
        }
        self.done = 0;
        self.events = 0;
        self.digest = Digest::EMPTY;
        self.now = 0;
    }

    /// Starts what is ready, in the order in which it became so, and what that frees at the same instant.
    fn start_ready<O: Observer>(
        &mut self,
        graph: &TaskGraph,
        net: &Network,
        opts: &RunOptions,
        obs: &mut O,
    ) -> Result<(), SimError> {
        let mut next = 0;
        while let Some(&task) = self.ready.get(next) {
            next += 1;
            let record = &graph.records[task as usize];
            self.times[task as usize].start = self.now;
            obs.task_started(SimTime::from_ps(self.now), TaskId(task), record.tag);
            let (delay, class) = match record.kind {
                Kind::Join => (0, Class::Finish),
                Kind::Delay => (record.value, Class::Finish),
                Kind::Transfer => (self.latency(graph, net, opts, record.value), Class::Start),
            };
            if delay == 0 {
                match class {
                    Class::Finish => self.complete(graph, task, obs),
                    _ => self.begin(graph, net, task, obs),
                }
                continue;
            }
            // The last instant of the clock stands for never.
            let Some(at) = self.now.checked_add(delay).filter(|&at| at < u64::MAX) else {
                return Err(SimError::TimeOverflow { at: SimTime::from_ps(self.now) });
            };
            self.due.push(instant(at, class), task);
        }
        self.ready.clear();
        while let Some(group) = self.freed.pop() {
            self.switch_edge(graph, net, group, obs);
        }
        Ok(())
    }

    #[inline]
    fn latency(&self, graph: &TaskGraph, net: &Network, opts: &RunOptions, transfer: u64) -> u64 {
        let t = &graph.transfers[transfer as usize];
        if !net.has_latencies() {
            return t.latency;
        }
        let at = self.now.saturating_add(opts.origin.as_ps());
        let uses = &graph.uses[t.uses as usize..t.uses_end as usize];
        uses.iter()
            .filter_map(|u| net.latency(u.0))
            .fold(t.latency, |sum, profile| sum.saturating_add(profile.read(at, &mut Cursor::default()).0))
    }

    /// Puts the first byte of a transfer under way.
    #[inline]
    fn begin<O: Observer>(&mut self, graph: &TaskGraph, net: &Network, task: u32, obs: &mut O) {
        let now = SimTime::from_ps(self.now);
        let record = &graph.records[task as usize];
        let t = &graph.transfers[record.value as usize];
        obs.transfer_began(now, TaskId(task), record.tag);
        if t.bytes == 0 {
            return self.complete(graph, task, obs);
        }
        if t.group != NO_GROUP {
            let group = &mut self.groups[t.group as usize];
            // Whoever waits goes first, so that no edge starves.
            if group.active > 0 && (group.edge != t.edge || !group.waiting.is_empty()) {
                group.waiting.push_back(task);
                return;
            }
            group.edge = t.edge;
            group.active += 1;
        }
        self.flow(graph, net, task, obs);
    }

    /// Gives a group's turn to the edge of who has waited longest, and to those behind on the same edge.
    fn switch_edge<O: Observer>(&mut self, graph: &TaskGraph, net: &Network, id: u32, obs: &mut O) {
        loop {
            let group = &mut self.groups[id as usize];
            let Some(&task) = group.waiting.front() else { return };
            let edge = graph.transfers[graph.records[task as usize].value as usize].edge;
            if group.active > 0 && group.edge != edge {
                return;
            }
            group.waiting.pop_front();
            group.edge = edge;
            group.active += 1;
            self.flow(graph, net, task, obs);
        }
    }

    /// Lets a transfer share its resources from now on.
    #[inline]
    fn flow<O: Observer>(&mut self, graph: &TaskGraph, net: &Network, task: u32, obs: &mut O) {
        let now = SimTime::from_ps(self.now);
        let t = &graph.transfers[graph.records[task as usize].value as usize];
        let uses = &graph.uses[t.uses as usize..t.uses_end as usize];
        let slot = self.fluid.start(net, now, task, t.bytes, Rate::from_raw(t.cap), uses);
        let rate = self.fluid.rate(slot);
        if rate != Rate::ZERO {
            obs.rate_changed(now, TaskId(task), rate);
        }
    }

    #[inline]
    fn complete<O: Observer>(&mut self, graph: &TaskGraph, task: u32, obs: &mut O) {
        self.record(Class::Finish, u64::from(task), obs);
        self.times[task as usize].finish = self.now;
        self.done += 1;
        let record = &graph.records[task as usize];
        obs.task_finished(SimTime::from_ps(self.now), TaskId(task), record.tag);
        let to = graph.records[task as usize + 1].successors as usize;
        for &next in &graph.successors[record.successors as usize..to] {
            let waiting = &mut self.waiting[next as usize];
            *waiting -= 1;
            if *waiting == 0 {
                self.ready.push(next);
            }
        }
    }

    #[inline]
    fn record<O: Observer>(&mut self, class: Class, what: u64, obs: &mut O) {
        self.events += 1;
        self.digest.add(self.now, what | ((class as u64) << 62));
        obs.dispatched(SimTime::from_ps(self.now), class, what);
    }

    fn change_capacities<O: Observer>(&mut self, net: &Network, obs: &mut O) {
        let now = SimTime::from_ps(self.now);
        while let Some((resource, capacity)) = self.fluid.change(net, now) {
            self.record(Class::Capacity, u64::from(resource.0), obs);
            obs.capacity_changed(now, resource, capacity);
        }
    }

    fn finish_flows<O: Observer>(&mut self, graph: &TaskGraph, obs: &mut O) {
        while let Some((_, task)) = self.fluid.finish(SimTime::from_ps(self.now)) {
            let id = graph.transfers[graph.records[task as usize].value as usize].group;
            if id != NO_GROUP {
                let group = &mut self.groups[id as usize];
                group.active -= 1;
                if group.active == 0 && !group.waiting.is_empty() {
                    self.freed.push(id);
                }
            }
            self.complete(graph, task, obs);
        }
    }

    /// Ends the delays, then begins the transfers, that are due now.
    fn dispatch_tasks<O: Observer>(&mut self, graph: &TaskGraph, net: &Network, obs: &mut O) {
        let mut batch = std::mem::take(&mut self.batch);
        for class in [Class::Finish, Class::Start] {
            if self.due.next() != Some(instant(self.now, class)) {
                continue;
            }
            self.due.take(&mut batch);
            // Mostly they are: replicas start in their order.
            if !batch.is_sorted() {
                batch.sort_unstable();
            }
            for &task in &batch {
                if class == Class::Finish {
                    self.complete(graph, task, obs);
                } else {
                    self.record(Class::Start, u64::from(task), obs);
                    self.begin(graph, net, task, obs);
                }
            }
        }
        self.batch = batch;
    }

    /// Nothing is to come: all is done, or something holds.
    fn ended(&self, graph: &TaskGraph) -> Result<Outcome, SimError> {
        if self.done == graph.len() {
            return Ok(self.outcome(true, self.now));
        }
        if self.fluid.active() > 0 {
            if self.fluid.stalled().next().is_none() {
                return Err(SimError::TimeOverflow { at: SimTime::from_ps(self.now) });
            }
            return Err(self.stalled());
        }
        let ids =
            || self.waiting.iter().enumerate().filter(|&(_, &w)| w > 0).map(|(id, _)| TaskId(id as u32));
        Err(SimError::Deadlock { blocked: ids().take(NAMED).collect(), count: ids().count() })
    }

    fn stalled(&self) -> SimError {
        let mut tasks: Vec<TaskId> = self.fluid.stalled().map(TaskId).collect();
        let count = tasks.len();
        tasks.sort_unstable();
        tasks.truncate(NAMED);
        SimError::Stalled { blocked: tasks, count, at: SimTime::from_ps(self.now) }
    }

    fn outcome(&self, finished: bool, end: u64) -> Outcome {
        Outcome { finished, end: SimTime::from_ps(end), events: self.events, digest: self.digest }
    }
}
