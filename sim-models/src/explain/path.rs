//! The critical path: back from what ended last, each time to what it waited for longest, until the start.
//!
//! A task starts in the picosecond in which the last thing it waits for ends, so the tasks on the way leave no gap and their
//! times add up to the iteration. Where several things ended in that picosecond, the path stays on the stage it is on, else
//! it takes the task of the smallest number. The way is shown compressed: tasks of one kind at one place are summed.

use super::links::Link;
use super::watch::Watch;
use crate::layer_times::Exchange;
use crate::layout::Layout;
use crate::lower::{SyncKind, TaskMap};
use crate::plan::{Plan, Schedule};
use crate::schedule::PassKind;
use sim_core::graph::{TaskGraph, TaskView};
use sim_core::observe::LinkUse;
use sim_core::{Executor, Rate, ResourceId, SimDuration, SimTime, TaskId};
use std::collections::BTreeMap;

/// What the iteration waited for, from its start to its end.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// Tasks on it.
    pub tasks: u64,
    /// Those tasks, alike ones summed, in the order of their first. Their times add up to the iteration.
    pub parts: Vec<PathPart>,
}

/// What a task of the path is, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A pass, or a part of one.
    Pass {
        /// What it does.
        kind: PassKind,
        /// Its pipeline, from 0.
        pipeline: usize,
        /// Its stage, from 0.
        stage: u32,
    },
    /// A transfer between stages.
    Transfer {
        /// The pipeline.
        pipeline: usize,
        /// Stage of the sender.
        from: u32,
        /// Stage of the receiver.
        to: u32,
    },
    /// Bytes to other nodes that a pass waits for.
    Exchange {
        /// Of what parallelism.
        exchange: Exchange,
        /// Its pipeline, from 0.
        pipeline: usize,
        /// Its stage, from 0.
        stage: u32,
    },
    /// A synchronisation.
    Sync {
        /// What it does.
        kind: SyncKind,
        /// Its layers, first and last.
        layers: (u32, u32),
    },
    /// An optimizer step.
    Update {
        /// Its pipeline, from 0.
        pipeline: usize,
        /// Its stage, from 0.
        stage: u32,
    },
}

/// What held a transfer's rate where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// The most that one such transfer reaches, with all links to itself.
    Own,
    /// A link that had no more for it.
    Link(Link),
}

/// Alike tasks of the path.
#[derive(Clone, Debug)]
pub struct PathPart {
    /// What they are.
    pub step: Step,
    /// How many; the parts of a pass whose layers send to other nodes are one.
    pub count: u64,
    /// Their time.
    pub time: SimDuration,
    /// Of a pass: waiting inside its layers, as far as that is known apart and no [`Step::Exchange`].
    pub inside: SimDuration,
    /// Of a pass or an optimizer step: what it took longer because GPUs were slowed.
    pub slowed: SimDuration,
    /// Of a transfer: before its first byte.
    pub latency: SimDuration,
    /// Of a transfer: the rest, by what held its rate.
    pub held: BTreeMap<Limit, SimDuration>,
    /// Bytes of the transfers: of a synchronisation or an exchange, what each node of a member sends.
    pub bytes: u64,
}

/// What a task is: an index into the list of its kind in the map.
#[derive(Clone, Copy)]
enum Role {
    Pass { member: u32, at: u32 },
    Boundary(u32),
    Sync(u32),
    Exchange { member: u32, which: u32 },
    Update(u32),
}

/// A watched run.
pub(super) struct Tracer<'a> {
    pub(super) layout: &'a Layout,
    pub(super) plan: &'a Plan,
    pub(super) graph: &'a TaskGraph,
    pub(super) map: &'a TaskMap,
    pub(super) executor: &'a Executor,
    pub(super) watch: &'a Watch,
    pub(super) loads: &'a LinkUse<'a>,
    pub(super) links: &'a BTreeMap<ResourceId, Link>,
}

impl Tracer<'_> {
    pub(super) fn path(&self) -> Path {
        let roles = self.roles();
        let tasks = self.tasks(&roles);
        let held = self.held(&tasks, &roles);
        let mut path = Path { tasks: 0, parts: Vec::new() };
        let mut place: BTreeMap<Step, usize> = BTreeMap::new();
        for task in tasks.iter().rev() {
            let Some(role) = roles[task.index()] else { continue };
            let step = self.step(role);
            let at = *place.entry(step).or_insert_with(|| {
                path.parts.push(PathPart {
                    step,
                    count: 0,
                    time: SimDuration::ZERO,
                    inside: SimDuration::ZERO,
                    slowed: SimDuration::ZERO,
                    latency: SimDuration::ZERO,
                    held: BTreeMap::new(),
                    bytes: 0,
                });
                path.parts.len() - 1
            });
            let part = &mut path.parts[at];
            let (start, end) = (self.executor.start_of(*task), self.executor.finish_of(*task));
            let time = end.saturating_since(start);
            let counts = self.counts(role, *task);
            path.tasks += u64::from(counts);
            part.count += u64::from(counts);
            part.time = part.time.saturating_add(time);
            match role {
                Role::Pass { member, at } => {
                    let own = self.own_time(*task, time);
                    let inside = self.inside(member as usize, at as usize, own);
                    part.inside = part.inside.saturating_add(inside);
                    part.slowed = part.slowed.saturating_add(time.saturating_sub(own));
                }
                Role::Boundary(b) => part.bytes += self.map.boundaries[b as usize].bytes.0,
                Role::Sync(s) => part.bytes += self.map.syncs[s as usize].bytes.0,
                Role::Exchange { member, which } => part.bytes += self.sent(member, which, *task),
                Role::Update(_) => {
                    let slowed = time.saturating_sub(self.own_time(*task, time));
                    part.slowed = part.slowed.saturating_add(slowed);
                }
            }
            if let Some((latency, limits)) = held.get(task) {
                part.latency = part.latency.saturating_add(*latency);
                for (limit, time) in limits {
                    let sum = part.held.entry(*limit).or_default();
                    *sum = sum.saturating_add(*time);
                }
            }
        }
        path
    }

    /// What each task is.
    fn roles(&self) -> Vec<Option<Role>> {
        let map = self.map;
        let mut roles = vec![None; self.graph.len()];
        for member in 0..map.passes.len() {
            for at in 0..map.pass_count(member) {
                let (first, last) = map.pass(member, at);
                let role = Role::Pass { member: member as u32, at: at as u32 };
                roles[first.index()..=last.index()].fill(Some(role));
            }
        }
        for (member, which, task) in map.exchanges() {
            roles[task.index()] = Some(Role::Exchange { member: member as u32, which: which as u32 });
        }
        for (b, boundary) in map.boundaries.iter().enumerate() {
            let first = boundary.first as usize;
            roles[first..first + boundary.count as usize].fill(Some(Role::Boundary(b as u32)));
        }
        for (s, sync) in map.syncs.iter().enumerate() {
            roles[sync.task.index()] = Some(Role::Sync(s as u32));
        }
        for (u, update) in map.updates.iter().enumerate() {
            roles[update.index()] = Some(Role::Update(u as u32));
        }
        roles
    }

    /// The tasks of the path, the last first.
    fn tasks(&self, roles: &[Option<Role>]) -> Vec<TaskId> {
        let before = Predecessors::of(self.graph);
        let finish = |t: &TaskId| self.executor.finish_of(*t);
        let all = self.map.tasks.clone().map(TaskId);
        let Some(mut task) = all.max_by_key(|t| (finish(t), std::cmp::Reverse(*t))) else {
            return Vec::new();
        };
        let member = |t: TaskId| match roles[t.index()] {
            Some(Role::Pass { member, .. } | Role::Exchange { member, .. } | Role::Update(member)) => {
                Some(member)
            }
            _ => None,
        };
        let mut path = vec![task];
        let mut here = member(task);
        loop {
            let start = self.executor.start_of(task);
            // What a job waits for before it starts is none of its tasks.
            let ended = before.of_task(task).filter(|t| self.map.tasks.contains(&t.0));
            let ended = ended.filter(|t| finish(t) == start && start > SimTime::ZERO);
            let elsewhere = |t: &TaskId| here.is_none() || member(*t) != here;
            // Of kernels and what they hide, the kernels.
            let hidden = |t: &TaskId| matches!(roles[t.index()], Some(Role::Exchange { .. }));
            let Some(next) = ended.min_by_key(|t| (elsewhere(t), hidden(t), *t)) else { return path };
            task = next;
            here = member(task).or(here);
            path.push(task);
        }
    }

    fn step(&self, role: Role) -> Step {
        let map = self.map;
        let place = |member: usize| {
            let rank = &self.layout.ranks[map.passes[member].rank];
            (rank.pipeline, rank.stage)
        };
        match role {
            Role::Pass { member, at } => {
                let (pipeline, stage) = place(member as usize);
                let kind = map.passes[member as usize].orders.stage(stage)[at as usize].kind;
                Step::Pass { kind, pipeline, stage }
            }
            Role::Boundary(b) => {
                let boundary = &map.boundaries[b as usize];
                let ((pipeline, from), (_, to)) = (place(boundary.from), place(boundary.to));
                Step::Transfer { pipeline, from, to }
            }
            Role::Exchange { member, which } => {
                let (pipeline, stage) = place(member as usize);
                let (exchange, _) = map.passes[member as usize].split.exchanges[which as usize];
                Step::Exchange { exchange, pipeline, stage }
            }
            Role::Sync(s) => {
                let sync = &map.syncs[s as usize];
                Step::Sync { kind: sync.kind, layers: sync.layers }
            }
            Role::Update(u) => {
                let (pipeline, stage) = place(u as usize);
                Step::Update { pipeline, stage }
            }
        }
    }

    /// Whether a task counts: of a part that sends to other nodes the first kernels and what it sends.
    fn counts(&self, role: Role, task: TaskId) -> bool {
        let Role::Pass { member, at } = role else { return true };
        let split = &self.map.passes[member as usize].split;
        let first = self.map.pass(member as usize, at as usize).0;
        (task.0 - first.0).is_multiple_of(split.tasks())
    }

    /// Bytes that each node of a rank sends in an exchange.
    fn sent(&self, member: u32, which: u32, task: TaskId) -> u64 {
        let tasks = &self.map.passes[member as usize];
        let (_, times) = tasks.split.exchanges[which as usize];
        let parts = crate::uplinks::parts(std::iter::once(&self.layout.ranks[tasks.rank]));
        match self.graph.view(task) {
            TaskView::Transfer(t) => t.bytes.saturating_mul(u64::from(times) * u64::from(parts)),
            _ => 0,
        }
    }

    /// What a pass would have taken at full speed: where a GPU may be slowed, its picoseconds go over that GPU as bytes.
    fn own_time(&self, task: TaskId, time: SimDuration) -> SimDuration {
        match self.graph.view(task) {
            TaskView::Transfer(paced) => SimDuration::from_ps(paced.bytes).min(time),
            _ => time,
        }
    }

    /// How much of `time` in a pass waits inside its layers: the pass's share of it.
    fn inside(&self, member: usize, at: usize, time: SimDuration) -> SimDuration {
        let tasks = &self.map.passes[member];
        let rank = &self.layout.ranks[tasks.rank];
        let pass = tasks.orders.stage(rank.stage)[at];
        let layers = rank.layers.chunks()[pass.chunk as usize];
        let split_weights = self.plan.schedule == Schedule::ZeroBubble;
        let whole = rank.pass(pass.kind, layers, split_weights);
        // What it waits for beside its exchanges, in the kernels beside them.
        let sent = rank.pass_sent(pass.kind, layers, split_weights);
        let beside = sent.beside(whole);
        let whole = whole.saturating_sub(sent.time().max(beside)).saturating_add(beside).as_ps();
        let wait = rank.pass_wait(pass.kind, layers).saturating_sub(sent.felt).as_ps();
        let part = u128::from(wait) * u128::from(time.as_ps()) / u128::from(whole.max(1));
        SimDuration::from_ps(u64::try_from(part).unwrap_or(u64::MAX)).min(time)
    }

    /// Latency of each transfer of the path, and its time by what held its rate.
    fn held(
        &self,
        path: &[TaskId],
        roles: &[Option<Role>],
    ) -> BTreeMap<TaskId, (SimDuration, Vec<(Limit, SimDuration)>)> {
        let sends = |t: &&TaskId| {
            matches!(roles[t.index()], Some(Role::Boundary(_) | Role::Sync(_) | Role::Exchange { .. }))
        };
        // Until it is told a rate, a transfer has none.
        let at_first = |t: &TaskId| (*t, vec![(self.watch.first_byte(*t), Rate::ZERO)]);
        let mut rates: BTreeMap<TaskId, Vec<(SimTime, Rate)>> =
            path.iter().filter(sends).map(at_first).collect();
        for (at, task, rate) in self.watch.rates() {
            if let Some(list) = rates.get_mut(&task) {
                list.push((at, rate));
            }
        }
        let held = |(task, list): (TaskId, Vec<(SimTime, Rate)>)| {
            let (start, end) = (self.executor.start_of(task), self.executor.finish_of(task));
            let ends = list.iter().skip(1).map(|(at, _)| *at).chain([end]);
            let spans = list.iter().zip(ends).map(|(&(at, rate), to)| (at, rate, to.saturating_since(at)));
            let some = spans.filter(|(.., time)| *time > SimDuration::ZERO);
            let limits = some.map(|(at, rate, time)| (self.limit(task, at, rate), time)).collect();
            (task, (list[0].0.saturating_since(start), limits))
        };
        rates.into_iter().map(held).collect()
    }

    /// What holds a transfer at `rate` from `at` on: its own cap, else the fullest link on its way.
    fn limit(&self, task: TaskId, at: SimTime, rate: Rate) -> Limit {
        let TaskView::Transfer(transfer) = self.graph.view(task) else { return Limit::Own };
        if rate == transfer.cap {
            return Limit::Own;
        }
        let mut fullest: Option<(u128, u128, Link)> = None;
        for (resource, _) in transfer.uses {
            let loads = self.loads.loads(*resource);
            let known = loads.partition_point(|l| l.from <= at);
            let (Some(load), Some(link)) = (known.checked_sub(1).map(|k| loads[k]), self.links.get(resource))
            else {
                continue;
            };
            // A link that is down is full.
            let (used, of) = match load.capacity.raw() {
                0 => (1, 1),
                capacity => (u128::from(load.used.raw()), u128::from(capacity)),
            };
            if fullest.is_none_or(|(u, c, _)| used * c > u * of) {
                fullest = Some((used, of, *link));
            }
        }
        fullest.map_or(Limit::Own, |(.., link)| Limit::Link(link))
    }
}

/// The edges of a graph, backwards.
struct Predecessors {
    first: Vec<u32>,
    list: Vec<TaskId>,
}

impl Predecessors {
    fn of(graph: &TaskGraph) -> Predecessors {
        let tasks = || (0..graph.len() as u32).map(TaskId);
        let mut first = vec![0u32; graph.len() + 1];
        for next in tasks().flat_map(|t| graph.successors(t)) {
            first[next.index() + 1] += 1;
        }
        for i in 1..first.len() {
            first[i] += first[i - 1];
        }
        let mut at = first.clone();
        let mut list = vec![TaskId(0); graph.edges()];
        for task in tasks() {
            for next in graph.successors(task) {
                list[at[next.index()] as usize] = task;
                at[next.index()] += 1;
            }
        }
        Predecessors { first, list }
    }

    fn of_task(&self, task: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        let range = self.first[task.index()] as usize..self.first[task.index() + 1] as usize;
        self.list[range].iter().copied()
    }
}
