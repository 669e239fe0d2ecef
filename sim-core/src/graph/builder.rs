//! Building a task graph. A builder can be used again for the next graph without giving its memory back.

use thiserror::Error;

use super::{Kind, NO_GROUP, Record, TaskGraph, TransferRecord, Use};
use crate::id::{ResourceId, StreamId, TaskId};
use crate::rate::Rate;
use crate::time::SimDuration;

/// Why tasks are not a graph. Only the first fault is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GraphError {
    /// A dependency on a task, or of a task, that does not exist (yet).
    #[error("task `{task}` does not exist: the graph has {count} tasks so far")]
    UnknownTask {
        /// The id.
        task: TaskId,
        /// Tasks at that point.
        count: usize,
    },
    /// A stream that this builder did not make.
    #[error("stream `{stream}` does not exist: the graph has {count} streams so far")]
    UnknownStream {
        /// The id.
        stream: StreamId,
        /// Streams at that point.
        count: usize,
    },
    /// A resource used with weight zero, or with weights that do not fit in 32 bits together.
    #[error("task `{task}` uses a resource with a weight outside 1 to 2^32 - 1")]
    Weight {
        /// The transfer.
        task: TaskId,
    },
    /// More tasks, edges or uses than 32-bit indices reach, or a group past its range.
    #[error("a graph holds at most 2^32 - 2 tasks, edges and resource uses, and 2^20 exclusion groups")]
    TooLarge,
}

/// A transfer of bytes over resources, all at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer<'a> {
    /// Bytes to move; 0 means latency only.
    pub bytes: u64,
    /// Passes before the first byte; no resource is held in it.
    pub latency: SimDuration,
    /// Its own highest rate; [`Rate::MAX`] means none.
    pub cap: Rate,
    /// Resources with weights of 1 or more: at rate x, it takes weight times x of the resource. One named twice adds up.
    pub uses: &'a [Use],
}

const NONE: u32 = u32::MAX;
/// Uses of a transfer among which a resource is looked for one by one.
const FEW: usize = 16;
/// Exclusion groups are a table of this many entries at most.
const MOST_GROUPS: u32 = 1 << 20;

/// Collects tasks.
///
/// ```
/// use sim_core::*;
/// let mut net = NetworkBuilder::new();
/// let link = net.resource(CapacityProfile::constant(Rate::from_bytes_per_s(1e9).unwrap()));
/// let net = net.build();
///
/// let mut graph = GraphBuilder::new();
/// let stream = graph.stream();
/// let compute = graph.delay(SimDuration::from_ps(500), &[stream], &[]);
/// let send = Transfer { bytes: 1_000, latency: SimDuration::ZERO, cap: Rate::MAX, uses: &[(link, 1)] };
/// let send = graph.transfer(send, &[], &[compute]);
/// let graph = graph.build().unwrap();
///
/// let mut executor = Executor::new();
/// let outcome = executor.run(&graph, &net, &RunOptions::default(), &mut NoObserver).unwrap();
/// assert_eq!(outcome.end.as_ps(), 1_000_500);
/// assert_eq!(executor.start_of(send).as_ps(), 500);
/// ```
#[derive(Clone, Debug, Default)]
pub struct GraphBuilder {
    records: Vec<Record>,
    transfers: Vec<TransferRecord>,
    uses: Vec<Use>,
    /// (from, to), in the order added.
    edges: Vec<(u32, u32)>,
    /// The last task on each stream.
    tails: Vec<u32>,
    /// By resource: where a transfer of many uses named it last.
    places: Vec<u32>,
    /// What paces delays from now on.
    pace: Vec<Use>,
    /// What tasks wait for that would wait for nothing.
    gate: Option<TaskId>,
    error: Option<GraphError>,
}

impl GraphBuilder {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tasks there are so far.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no task yet.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Forgets all tasks and streams; keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.transfers.clear();
        self.uses.clear();
        self.edges.clear();
        self.tails.clear();
        self.pace.clear();
        self.gate = None;
        self.error = None;
    }

    /// Tasks added from now on that wait for nothing else, the first on their streams and without `deps`, wait for this one.
    pub fn gate(&mut self, gate: Option<TaskId>) {
        self.gate = gate;
    }

    /// A new in-order stream: its tasks run one after another, in the order in which they are added.
    pub fn stream(&mut self) -> StreamId {
        let id = index(self.tails.len(), &mut self.error);
        self.tails.push(NONE);
        StreamId(id)
    }

    /// Delays added from now on go at the pace of these resources, as those change: a picosecond of theirs is a byte that goes
    /// over all of them, at [`GraphBuilder::FULL_PACE`] at most. None: they take their time.
    pub fn pace(&mut self, uses: &[Use]) {
        self.pace.clear();
        self.pace.extend_from_slice(uses);
    }

    /// The capacity at which a paced delay takes its own time: 10^12 B/s.
    pub const FULL_PACE: Rate = Rate::from_raw(1_000_000_000_000 << 16);

    /// A task that takes a fixed time, unless it is paced. It occupies `streams` and waits for `deps`.
    pub fn delay(&mut self, time: SimDuration, streams: &[StreamId], deps: &[TaskId]) -> TaskId {
        if !self.pace.is_empty() {
            let uses = std::mem::take(&mut self.pace);
            let paced = Transfer {
                bytes: time.as_ps(),
                latency: SimDuration::ZERO,
                cap: Self::FULL_PACE,
                uses: &uses,
            };
            let task = self.transfer(paced, streams, deps);
            self.pace = uses;
            return task;
        }
        self.task(Kind::Delay, time.as_ps(), streams, deps)
    }

    /// A task that moves bytes through all its resources at once, at its weighted max-min fair rate.
    pub fn transfer(&mut self, transfer: Transfer<'_>, streams: &[StreamId], deps: &[TaskId]) -> TaskId {
        let first = self.uses.len();
        let task = TaskId(self.records.len() as u32);
        let many = transfer.uses.len() > FEW;
        for &(resource, weight) in transfer.uses {
            let same = if many {
                self.seen(first, resource).map(|at| &mut self.uses[at])
            } else {
                self.uses[first..].iter_mut().find(|u| u.0 == resource)
            };
            match (same, weight) {
                (_, 0) => self.fail(GraphError::Weight { task }),
                (None, _) => self.uses.push((resource, weight)),
                (Some(seen), _) => match seen.1.checked_add(weight) {
                    Some(sum) => seen.1 = sum,
                    None => self.fail(GraphError::Weight { task }),
                },
            }
        }
        let record = TransferRecord {
            bytes: transfer.bytes,
            latency: transfer.latency.as_ps(),
            cap: transfer.cap.raw(),
            uses: index(first, &mut self.error),
            uses_end: index(self.uses.len(), &mut self.error),
            group: NO_GROUP,
            edge: 0,
        };
        let value = self.transfers.len() as u64;
        self.transfers.push(record);
        self.task(Kind::Transfer, value, streams, deps)
    }

    /// Where the transfer whose uses begin at `first` has named a resource, if it has; else its place is noted.
    fn seen(&mut self, first: usize, resource: ResourceId) -> Option<usize> {
        if self.places.len() <= resource.index() {
            self.places.resize(resource.index() + 1, 0);
        }
        // What stands there is of this transfer or out of date.
        let at = self.places[resource.index()] as usize;
        if at >= first && self.uses.get(at).is_some_and(|u| u.0 == resource) {
            return Some(at);
        }
        self.places[resource.index()] = u32::try_from(self.uses.len()).unwrap_or(NONE);
        None
    }

    /// A task that takes no time: done when all of `deps` are.
    pub fn join(&mut self, deps: &[TaskId]) -> TaskId {
        self.task(Kind::Join, 0, &[], deps)
    }

    /// Makes `task` wait for `on`, too. A circle is found when the graph runs.
    pub fn depend(&mut self, task: TaskId, on: TaskId) {
        let count = self.records.len();
        for id in [task, on] {
            if id.index() >= count {
                return self.fail(GraphError::UnknownTask { task: id, count });
            }
        }
        self.edges.push((on.0, task.0));
    }

    /// Sets the tag of a task; the kernel gives it no meaning.
    pub fn tag(&mut self, task: TaskId, tag: u32) {
        let count = self.records.len();
        match self.records.get_mut(task.index()) {
            Some(record) => record.tag = tag,
            None => self.fail(GraphError::UnknownTask { task, count }),
        }
    }

    /// Puts a transfer on `edge` of an exclusion group: of a group, only one edge is active at a time. A transfer whose edge is
    /// not waits, after its latency, first come, first served; those of one edge share it. `group` is below 2^20.
    pub fn exclude(&mut self, task: TaskId, group: u32, edge: u32) {
        let count = self.records.len();
        let transfer = match self.records.get(task.index()) {
            Some(record) if record.kind == Kind::Transfer => self.transfers.get_mut(record.value as usize),
            _ => None,
        };
        match transfer {
            Some(transfer) if group < MOST_GROUPS => (transfer.group, transfer.edge) = (group, edge),
            Some(_) => self.fail(GraphError::TooLarge),
            None => self.fail(GraphError::UnknownTask { task, count }),
        }
    }

    /// The graph.
    ///
    /// # Errors
    /// The first fault in what was added: an unknown id, a weight of zero, too many parts.
    pub fn build(mut self) -> Result<TaskGraph, GraphError> {
        let mut graph = TaskGraph::default();
        self.build_into(&mut graph)?;
        Ok(graph)
    }

    /// Like [`GraphBuilder::build`], into the memory of an old graph; the builder is cleared and keeps its own.
    ///
    /// # Errors
    /// As [`GraphBuilder::build`]; the graph is then empty, the builder cleared.
    pub fn build_into(&mut self, graph: &mut TaskGraph) -> Result<(), GraphError> {
        graph.clear();
        let tasks = index(self.records.len(), &mut self.error) as usize;
        let edges = index(self.edges.len(), &mut self.error);
        if let Some(error) = self.error {
            self.clear();
            graph.records.push(Record { value: 0, successors: 0, degree: 0, tag: 0, kind: Kind::Join });
            return Err(error);
        }
        std::mem::swap(&mut graph.records, &mut self.records);
        std::mem::swap(&mut graph.transfers, &mut self.transfers);
        std::mem::swap(&mut graph.uses, &mut self.uses);
        // Counting sort of the edges by their source: counts, then ends, then filled backwards to starts.
        for &(from, to) in &self.edges {
            graph.records[from as usize].successors += 1;
            graph.records[to as usize].degree += 1;
        }
        let mut end = 0;
        for (id, record) in graph.records.iter_mut().enumerate() {
            end += record.successors;
            record.successors = end;
            graph.degrees.push(record.degree);
            if record.degree == 0 {
                graph.roots.push(id as u32);
            }
        }
        graph.successors.resize(edges as usize, 0);
        for &(from, to) in self.edges.iter().rev() {
            let at = &mut graph.records[from as usize].successors;
            *at -= 1;
            graph.successors[*at as usize] = to;
        }
        graph.records.push(Record { value: 0, successors: edges, degree: 0, tag: 0, kind: Kind::Join });
        graph.resources = graph.uses.iter().map(|u| u.0.index() + 1).max().unwrap_or(0);
        let groups = graph.transfers.iter().filter(|t| t.group != NO_GROUP);
        graph.groups = groups.map(|t| t.group as usize + 1).max().unwrap_or(0);
        debug_assert_eq!(graph.degrees.len(), tasks);
        self.clear();
        Ok(())
    }

    fn task(&mut self, kind: Kind, value: u64, streams: &[StreamId], deps: &[TaskId]) -> TaskId {
        let id = index(self.records.len(), &mut self.error);
        self.records.push(Record { value, successors: 0, degree: 0, tag: 0, kind });
        let waits = self.edges.len();
        for &stream in streams {
            let count = self.tails.len();
            match self.tails.get_mut(stream.index()) {
                Some(tail) => {
                    let before = std::mem::replace(tail, id);
                    // A stream named twice is occupied once.
                    if before != NONE && before != id {
                        self.edges.push((before, id));
                    }
                }
                None => self.fail(GraphError::UnknownStream { stream, count }),
            }
        }
        for &dep in deps {
            if dep.0 < id {
                self.edges.push((dep.0, id));
            } else {
                self.fail(GraphError::UnknownTask { task: dep, count: id as usize });
            }
        }
        if let Some(gate) = self.gate.filter(|gate| gate.0 < id && self.edges.len() == waits) {
            self.edges.push((gate.0, id));
        }
        TaskId(id)
    }

    fn fail(&mut self, error: GraphError) {
        self.error.get_or_insert(error);
    }
}

/// `n` as a 32-bit index, or 0 and an error.
fn index(n: usize, error: &mut Option<GraphError>) -> u32 {
    match u32::try_from(n) {
        Ok(n) if n != NONE => n,
        _ => {
            error.get_or_insert(GraphError::TooLarge);
            0
        }
    }
}
