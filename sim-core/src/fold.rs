//! Folding of task graphs: tasks that must have the same times are simulated once.
//!
//! Tasks and resources are told apart by colour refinement until nothing more differs: a task by what it does, by the
//! colours of its predecessors, and by the colours and weights of the resources it uses; a resource by its capacity over
//! time, and by the colours and weights of the tasks that use it. What then has one colour has one course: its tasks start
//! together, and its resources are loaded alike, so that the filling of max-min shares closes them at the same level. The
//! folded graph keeps one of each; a shared resource that m alike transfers use is used by their one with m times the weight.
//! Times are the same to the picosecond; events and digest are those of the folded graph.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::digest::Digest;
use crate::graph::{GraphBuilder, GraphError, Kind, TaskGraph, TaskView, Transfer, Use};
use crate::id::{ResourceId, TaskId};
use crate::network::{Network, NetworkBuilder};
use crate::time::SimTime;

/// Why a graph is not folded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FoldError {
    /// No two tasks are alike.
    #[error("not folded: no two tasks are alike")]
    NothingAlike,
    /// Tasks wait for each other.
    #[error("not folded: task `{task}` waits for itself")]
    Circle {
        /// A task on or behind the circle.
        task: TaskId,
    },
    /// The graph uses a resource that the network does not have.
    #[error("not folded: the graph uses resources beyond the {count} of the network")]
    UnknownResource {
        /// How many there are.
        count: usize,
    },
    /// A transfer uses several alike resources whose latency it would add up.
    #[error("not folded: task `{task}` adds up the latencies of alike resources")]
    Latency {
        /// The transfer.
        task: TaskId,
    },
    /// Transfers of an exclusion group wait for each other one by one.
    #[error("not folded: task `{task}` is in an exclusion group")]
    Exclusion {
        /// The transfer.
        task: TaskId,
    },
    /// The folded graph cannot be built, as when weights add up past 32 bits.
    #[error("not folded: {0}")]
    Graph(GraphError),
}

/// What tells two tasks apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    /// One is a delay, say, the other a transfer; or their times differ.
    Work,
    /// Bytes, latency or cap of a transfer.
    Transfer,
    /// They wait for tasks that are not alike.
    Predecessors,
    /// They use resources that differ in capacity, in weight or in who else uses them.
    Resources,
}

/// A graph in which one task stands for all that are like it.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The folded graph; tags are those of the first task of each class.
    pub graph: TaskGraph,
    /// Its network: one resource of each class that is in use.
    pub net: Network,
    class_of: Vec<u32>,
    counts: Vec<u32>,
}

impl Folded {
    /// The task of the folded graph that stands for `task` of the whole one.
    ///
    /// # Panics
    /// When the task is not of the whole graph.
    pub fn class_of(&self, task: TaskId) -> TaskId {
        TaskId(self.class_of[task.index()])
    }

    /// How many tasks a task of the folded graph stands for.
    ///
    /// # Panics
    /// When the task is not of the folded graph.
    pub fn count(&self, folded: TaskId) -> u32 {
        self.counts[folded.index()]
    }
}

/// Folds a graph.
///
/// # Errors
/// When nothing is alike, or where the symmetry breaks.
///
/// ```
/// use sim_core::fold::fold;
/// use sim_core::*;
/// let rate = |gb: f64| CapacityProfile::constant(Rate::from_bytes_per_s(gb * 1e9).unwrap());
/// let mut net = NetworkBuilder::new();
/// let shared = net.resource(rate(8.0));
/// let own: Vec<_> = (0..64).map(|_| net.resource(rate(1.0))).collect();
/// let net = net.build();
/// let mut graph = GraphBuilder::new();
/// for link in own {
///     let compute = graph.delay(SimDuration::from_ps(70), &[], &[]);
///     let uses = [(link, 1), (shared, 1)];
///     let send = Transfer { bytes: 1_000, latency: SimDuration::ZERO, cap: Rate::MAX, uses: &uses };
///     graph.transfer(send, &[], &[compute]);
/// }
/// let graph = graph.build().unwrap();
/// let folded = fold(&graph, &net).unwrap();
/// assert_eq!((folded.graph.len(), folded.net.len()), (2, 2));
/// let run = |graph, net| Executor::new().run(graph, net, &RunOptions::default(), &mut NoObserver).unwrap().end;
/// assert_eq!(run(&graph, &net), run(&folded.graph, &folded.net));
/// ```
pub fn fold(graph: &TaskGraph, net: &Network) -> Result<Folded, FoldError> {
    let partition = Partition::of(graph, net)?;
    if partition.task_classes == graph.len() {
        return Err(FoldError::NothingAlike);
    }
    partition.quotient()
}

/// What tells two tasks of a graph apart; `None` when they are alike.
///
/// # Errors
/// As [`fold`], except that nothing need be alike.
///
/// # Panics
/// When a task is not of the graph.
pub fn difference(
    graph: &TaskGraph,
    net: &Network,
    a: TaskId,
    b: TaskId,
) -> Result<Option<Difference>, FoldError> {
    let partition = Partition::of(graph, net)?;
    if partition.tasks[a.index()] == partition.tasks[b.index()] {
        return Ok(None);
    }
    let work = |t: TaskId| match graph.view(t) {
        TaskView::Join => (0, 0),
        TaskView::Delay(d) => (1, d.as_ps()),
        TaskView::Transfer(_) => (2, 0),
    };
    let parts = |t: TaskId| match graph.view(t) {
        TaskView::Transfer(x) => (x.bytes, x.latency, x.cap),
        _ => Default::default(),
    };
    Ok(Some(if work(a) != work(b) {
        Difference::Work
    } else if parts(a) != parts(b) {
        Difference::Transfer
    } else if partition.predecessor_classes(a.0) != partition.predecessor_classes(b.0) {
        Difference::Predecessors
    } else {
        Difference::Resources
    }))
}

/// Classes of tasks and resources, numbered by their first members.
struct Partition<'a> {
    graph: &'a TaskGraph,
    net: &'a Network,
    /// Predecessors of each task.
    before: Csr,
    /// (task, weight) of the users of each resource.
    users: Vec<Vec<(u32, u32)>>,
    tasks: Vec<u32>,
    resources: Vec<u32>,
    task_classes: usize,
}

struct Csr {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Csr {
    fn of(&self, at: u32) -> &[u32] {
        let at = at as usize;
        &self.items[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}

impl<'a> Partition<'a> {
    fn of(graph: &'a TaskGraph, net: &'a Network) -> Result<Self, FoldError> {
        if graph.resources > net.len() {
            return Err(FoldError::UnknownResource { count: net.len() });
        }
        if let Some(task) = (0..graph.len() as u32).map(TaskId).find(|&t| graph.exclusion(t).is_some()) {
            return Err(FoldError::Exclusion { task });
        }
        let order = topological(graph)?;
        let mut partition = Self {
            graph,
            net,
            before: predecessors(graph),
            users: users(graph, net.len()),
            tasks: vec![0; graph.len()],
            resources: alike(net),
            task_classes: 0,
        };
        let mut classes = 0;
        loop {
            partition.colour_tasks(&order);
            let resource_classes = partition.colour_resources();
            if partition.task_classes + resource_classes == classes {
                break;
            }
            classes = partition.task_classes + resource_classes;
        }
        Ok(partition)
    }

    /// One colour for each task, from the colours of this pass before it and the resource colours of the last pass.
    fn colour_tasks(&mut self, order: &[u32]) {
        let mut colours = vec![0u128; self.graph.len()];
        let mut words = Vec::new();
        for &task in order {
            words.clear();
            words.push((0, u64::from(self.tasks[task as usize])));
            let record = &self.graph.records[task as usize];
            if record.kind == Kind::Transfer {
                let t = &self.graph.transfers[record.value as usize];
                words.extend([(1, t.bytes), (t.latency, t.cap)]);
            } else {
                words.push((2 + u64::from(record.kind == Kind::Delay), record.value));
            }
            let fixed = words.len();
            for &p in self.before.of(task) {
                let colour = colours[p as usize];
                words.push(((colour >> 64) as u64, colour as u64));
            }
            words[fixed..].sort_unstable();
            let unique = unique(&mut words[fixed..]);
            words.truncate(fixed + unique);
            words.push((u64::MAX, unique as u64));
            let fixed = words.len();
            for &(r, weight) in self.uses(task) {
                words.push((u64::from(self.resources[r.index()]), u64::from(weight)));
            }
            words[fixed..].sort_unstable();
            colours[task as usize] = digest(&words);
        }
        self.task_classes = number(&colours, &mut self.tasks);
    }

    fn colour_resources(&mut self) -> usize {
        let mut colours = vec![0u128; self.resources.len()];
        let mut words = Vec::new();
        for (r, users) in self.users.iter().enumerate() {
            words.clear();
            words.extend(users.iter().map(|&(t, w)| (u64::from(self.tasks[t as usize]), u64::from(w))));
            words.sort_unstable();
            words.push((u64::MAX, u64::from(self.resources[r])));
            colours[r] = digest(&words);
        }
        number(&colours, &mut self.resources)
    }

    fn uses(&self, task: u32) -> &[Use] {
        let record = &self.graph.records[task as usize];
        if record.kind != Kind::Transfer {
            return &[];
        }
        let t = &self.graph.transfers[record.value as usize];
        &self.graph.uses[t.uses as usize..t.uses_end as usize]
    }

    /// Classes of what a task waits for, each once, in order.
    fn predecessor_classes(&self, task: u32) -> Vec<u32> {
        let mut classes: Vec<u32> = self.before.of(task).iter().map(|&p| self.tasks[p as usize]).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    fn quotient(self) -> Result<Folded, FoldError> {
        let (firsts, counts) = members(&self.tasks, self.task_classes);
        let mut net = NetworkBuilder::new();
        let mut resource_of: BTreeMap<u32, ResourceId> = BTreeMap::new();
        let mut graph = GraphBuilder::new();
        for &task in &firsts {
            let id = match self.graph.view(TaskId(task)) {
                TaskView::Join => graph.join(&[]),
                TaskView::Delay(time) => graph.delay(time, &[], &[]),
                TaskView::Transfer(transfer) => {
                    let uses = self.folded_uses(task, &mut net, &mut resource_of)?;
                    graph.transfer(Transfer { uses: &uses, ..transfer }, &[], &[])
                }
            };
            graph.tag(id, self.graph.tag(TaskId(task)));
        }
        for (class, &task) in firsts.iter().enumerate() {
            for before in self.predecessor_classes(task) {
                graph.depend(TaskId(class as u32), TaskId(before));
            }
        }
        let graph = graph.build().map_err(FoldError::Graph)?;
        Ok(Folded { graph, net: net.build(), class_of: self.tasks, counts })
    }

    /// What the class of `task` takes of each class of resources: what all of the class take of one of them.
    fn folded_uses(
        &self,
        task: u32,
        net: &mut NetworkBuilder,
        resource_of: &mut BTreeMap<u32, ResourceId>,
    ) -> Result<Vec<Use>, FoldError> {
        let class = self.tasks[task as usize];
        let mut uses: Vec<Use> = Vec::new();
        let mut seen: Vec<u32> = Vec::new();
        for &(resource, _) in self.uses(task) {
            let like = self.resources[resource.index()];
            if seen.contains(&like) {
                if self.net.latency(resource).is_some() {
                    return Err(FoldError::Latency { task: TaskId(task) });
                }
                continue;
            }
            seen.push(like);
            let id = *resource_of.entry(like).or_insert_with(|| {
                let id = net.resource(self.net.capacity(resource).clone());
                if let Some(latency) = self.net.latency(resource) {
                    net.latency(id, latency.clone());
                }
                id
            });
            let users = self.users[resource.index()].iter().filter(|u| self.tasks[u.0 as usize] == class);
            let weight: u64 = users.map(|u| u64::from(u.1)).sum();
            let too_heavy = FoldError::Graph(GraphError::Weight { task: TaskId(task) });
            uses.push((id, u32::try_from(weight).map_err(|_| too_heavy)?));
        }
        Ok(uses)
    }
}

/// The first member and the size of each class.
fn members(classes: &[u32], count: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut firsts, mut counts) = (vec![u32::MAX; count], vec![0; count]);
    for (at, &class) in classes.iter().enumerate() {
        let first = &mut firsts[class as usize];
        *first = (*first).min(at as u32);
        counts[class as usize] += 1;
    }
    (firsts, counts)
}

/// Tasks in an order in which predecessors come first.
fn topological(graph: &TaskGraph) -> Result<Vec<u32>, FoldError> {
    let mut waiting = graph.degrees.clone();
    let mut order = graph.roots.clone();
    let mut next = 0;
    while let Some(&task) = order.get(next) {
        next += 1;
        for after in graph.successors(TaskId(task)) {
            waiting[after.index()] -= 1;
            if waiting[after.index()] == 0 {
                order.push(after.0);
            }
        }
    }
    match waiting.iter().position(|&w| w > 0) {
        Some(task) => Err(FoldError::Circle { task: TaskId(task as u32) }),
        None => Ok(order),
    }
}

fn predecessors(graph: &TaskGraph) -> Csr {
    let mut starts = Vec::with_capacity(graph.len() + 1);
    let mut end = 0;
    for &degree in &graph.degrees {
        starts.push(end);
        end += degree;
    }
    starts.push(end);
    let mut fill = starts.clone();
    let mut items = vec![0; end as usize];
    for task in 0..graph.len() as u32 {
        for after in graph.successors(TaskId(task)) {
            let at = &mut fill[after.index()];
            items[*at as usize] = task;
            *at += 1;
        }
    }
    Csr { starts, items }
}

fn users(graph: &TaskGraph, resources: usize) -> Vec<Vec<(u32, u32)>> {
    let mut users = vec![Vec::new(); resources];
    for task in 0..graph.len() as u32 {
        if let TaskView::Transfer(transfer) = graph.view(TaskId(task)) {
            for &(resource, weight) in transfer.uses {
                users[resource.index()].push((task, weight));
            }
        }
    }
    users
}

/// Classes of resources by capacity and latency over time.
fn alike(net: &Network) -> Vec<u32> {
    use crate::capacity::CapacitySource;
    /// The first value of a profile and its first change.
    type Look = (u64, Option<SimTime>);
    let mut groups: BTreeMap<Look, Vec<(u32, ResourceId)>> = BTreeMap::new();
    let mut classes = Vec::with_capacity(net.len());
    let mut count = 0;
    for id in 0..net.len() as u32 {
        let (id, capacity) = (ResourceId(id), net.capacity(ResourceId(id)));
        let same_latency = |other| match (net.latency(id), net.latency(other)) {
            (None, None) => true,
            (Some(a), Some(b)) => a.same(b),
            _ => false,
        };
        // A cheap look first; whole profiles are compared within a group.
        let look = (capacity.at(SimTime::ZERO).raw(), capacity.next_change(SimTime::ZERO).map(|c| c.0));
        let group = groups.entry(look).or_default();
        let known =
            group.iter().find(|&&(_, other)| net.capacity(other).same(capacity) && same_latency(other));
        let class = match known {
            Some(&(class, _)) => class,
            None => {
                group.push((count, id));
                count += 1;
                count - 1
            }
        };
        classes.push(class);
    }
    classes
}

/// Moves the first of each run of equals to the front; how many there are.
fn unique(words: &mut [(u64, u64)]) -> usize {
    let mut kept = 0;
    for at in 0..words.len() {
        if at == 0 || words[at] != words[kept - 1] {
            words[kept] = words[at];
            kept += 1;
        }
    }
    kept
}

fn digest(words: &[(u64, u64)]) -> u128 {
    let mut digest = Digest::EMPTY;
    for &(a, b) in words {
        digest.add(a, b);
    }
    digest.as_u128()
}

/// Numbers the colours from 0 in the order of their first members; how many there are.
fn number(colours: &[u128], classes: &mut [u32]) -> usize {
    let mut known: BTreeMap<u128, u32> = BTreeMap::new();
    for (colour, class) in colours.iter().zip(classes) {
        let next = known.len() as u32;
        *class = *known.entry(*colour).or_insert(next);
    }
    known.len()
}
