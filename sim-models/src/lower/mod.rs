//! From a plan laid out to a task graph.
//!
//! ```text
//!   stage 0   F0 f0 F1 f1 F2 [f2 b0] B0 ...        F, B: passes, a chain on the rank's compute stream
//!   stage 1      F0 [f1 ..] B0 [b0 f2] ...         f, b: transfers over the links; blocking, so the next pass of
//!                                                  sender and receiver waits for them (overlapped: only the consumer)
//!   then      gradients of each group of layers that several devices hold, once all of them are done, or bucket by
//!             bucket while the last backward passes run
//!   then      the optimizer step of each rank, and what replicas gather of each other's parameters
//! ```
//!
//! A blocking transfer starts when the sender has its data and the receiver has nothing before it: a rendezvous, as with
//! NCCL's send and receive on the compute stream. Where one stage both sends and receives between two passes, as 1F1B
//! does, the two transfers run side by side. In interleaved and zero-bubble schedules the sender alone is held: their
//! frameworks post receives ahead, and a rendezvous there would wait in a circle.
//!
//! A pass is one task, or several where communication runs beside it layer by layer or where its layers send to other nodes
//! (`exchange.rs`). Where every rank's passes, transfers
//! and synchronisations are among the tasks is [`TaskMap`]'s to say; reports find everything by it.

mod exchange;
mod fabric;
mod passes;
mod route;
mod sync;
mod transfers;

pub use exchange::Split;
pub use fabric::Fabric;
pub use route::SyncKind;

use crate::fold::Folding;
use crate::layout::Layout;
use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::schedule::{Orders, Shape};
use crate::units::Bytes;
use route::{Context, Route};
use sim_core::{GraphBuilder, GraphError, SimDuration, StreamId, TaskGraph, TaskId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which task is which: see the head of this file.
#[derive(Clone, Debug, Default)]
pub struct TaskMap {
    /// Passes of each simulated rank, in the order of [`Folding::classes`] and their stages.
    pub passes: Vec<RankTasks>,
    /// First task of each pass, rank by rank, with one entry more a rank: where its last pass ends.
    pass_first: Vec<u32>,
    /// Transfers between stages.
    pub boundaries: Vec<BoundaryTasks>,
    /// Synchronisations.
    pub syncs: Vec<SyncTask>,
    /// Optimizer step of each simulated rank.
    pub updates: Vec<TaskId>,
    /// All its tasks, in a row.
    pub tasks: std::ops::Range<u32>,
}

/// The passes of one rank.
#[derive(Clone, Debug)]
pub struct RankTasks {
    /// The rank, an index into [`Layout::ranks`].
    pub rank: usize,
    /// The orders of its pipeline.
    pub orders: Arc<Orders>,
    /// How its passes are cut where layers send to other nodes.
    pub split: Split,
    /// Index of its first pass in the map's list.
    at: usize,
}

/// The transfers of one direction between two ranks of a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct BoundaryTasks {
    /// Sender, an index into [`TaskMap::passes`].
    pub from: usize,
    /// Receiver.
    pub to: usize,
    /// Whether activations go forward, or their gradients back.
    pub forward: bool,
    /// Chunk of the sender.
    pub chunk: u32,
    /// Task of the first transfer; those of the other micro-batches follow.
    pub first: u32,
    /// Micro-batches.
    pub count: u32,
    /// Bytes of one of them.
    pub bytes: Bytes,
}

/// One synchronisation.
#[derive(Clone, Debug)]
pub struct SyncTask {
    /// Its task.
    pub task: TaskId,
    /// What it does.
    pub kind: SyncKind,
    /// Bytes that each node of a member sends.
    pub bytes: Bytes,
    /// Simulated ranks that take part, as indices into [`TaskMap::passes`].
    pub members: Vec<usize>,
    /// Which layers, first and last.
    pub layers: (u32, u32),
}

impl TaskMap {
    /// The first and the last task of pass number `at` of a simulated rank.
    pub fn pass(&self, rank: usize, at: usize) -> (TaskId, TaskId) {
        let first = self.passes[rank].at + at;
        (TaskId(self.pass_first[first]), TaskId(self.pass_first[first + 1] - 1))
    }

    /// The parts into which pass number `at` of a simulated rank is cut, in order: of each its first and its last task.
    pub fn parts(&self, rank: usize, at: usize) -> impl Iterator<Item = (TaskId, TaskId)> + use<> {
        let (first, last) = self.pass(rank, at);
        let tasks = self.passes[rank].split.tasks();
        (first.0..=last.0).step_by(tasks as usize).map(move |task| (TaskId(task), TaskId(task + tasks - 1)))
    }

    /// One of those parts.
    fn part(&self, rank: usize, at: usize, part: usize) -> (TaskId, TaskId) {
        let tasks = self.passes[rank].split.tasks();
        let first = self.pass(rank, at).0.0 + part as u32 * tasks;
        (TaskId(first), TaskId(first + tasks - 1))
    }

    /// The exchanges with other nodes inside the passes of every simulated rank: the rank, which of its exchanges, the task.
    pub fn exchanges(&self) -> impl Iterator<Item = (usize, usize, TaskId)> + '_ {
        let of_rank = move |rank: usize| {
            let count = self.passes[rank].split.exchanges.len();
            let passes = 0..if count > 0 { self.pass_count(rank) } else { 0 };
            let parts = passes.flat_map(move |at| self.parts(rank, at));
            parts.flat_map(move |(first, _)| {
                (0..count).map(move |i| (rank, i, TaskId(first.0 + 1 + i as u32)))
            })
        };
        (0..self.passes.len()).flat_map(of_rank)
    }

    /// Passes of a simulated rank.
    pub fn pass_count(&self, rank: usize) -> usize {
        let next = self.passes.get(rank + 1).map_or(self.pass_first.len(), |next| next.at);
        next - self.passes[rank].at - 1
    }
}

/// Turns plans into task graphs, in the same memory.
#[derive(Debug, Default)]
pub struct Lowering {
    builder: GraphBuilder,
    /// Orders of pipelines met so far: few shapes come again and again.
    orders: BTreeMap<Shape, Arc<Orders>>,
    /// Passes in them.
    remembered: usize,
    /// By simulated rank: the stream of its gradients and parameters, and what its optimizer step waits for.
    streams: Vec<StreamId>,
    last: Vec<TaskId>,
    /// Ways of the pieces of the plan that were found so far.
    routes: BTreeMap<(SyncKind, usize, u32), Vec<Route>>,
    /// The tasks of the job that is being lowered.
    map: TaskMap,
    /// The graph of the last plan, or of the last plans together.
    pub graph: TaskGraph,
    /// Its tasks: one map for each job.
    pub maps: Vec<TaskMap>,
}

/// A job to lower: its plan laid out, and its cluster as the job sees it.
#[derive(Clone, Copy, Debug)]
pub struct LaidOut<'a> {
    /// Its model, its recipe, and the cluster with the layer times of its model.
    pub scenario: &'a Scenario,
    /// Its plan.
    pub plan: &'a Plan,
    /// The plan laid out.
    pub layout: &'a Layout,
    /// When it starts, after the run does.
    pub start: SimDuration,
}

/// Most passes that are remembered.
const REMEMBERED: usize = 1 << 20;

impl Lowering {
    /// No memory yet.
    pub fn new() -> Lowering {
        Lowering::default()
    }

    /// Lowers `plan` into `self.graph` and `self.maps`.
    ///
    /// # Errors
    /// When the graph is larger than 32-bit indices reach.
    pub fn lower(
        &mut self,
        scenario: &Scenario,
        fabric: &Fabric,
        plan: &Plan,
        layout: &Layout,
        folding: &Folding,
    ) -> Result<(), GraphError> {
        let job = LaidOut { scenario, plan, layout, start: SimDuration::ZERO };
        self.lower_jobs(fabric, &[job], std::slice::from_ref(folding))
    }

    /// Lowers jobs that run side by side, each with its folding ([`Folding::together`]), into one graph.
    ///
    /// # Errors
    /// As [`Lowering::lower`].
    pub fn lower_jobs(
        &mut self,
        fabric: &Fabric,
        jobs: &[LaidOut<'_>],
        foldings: &[Folding],
    ) -> Result<(), GraphError> {
        self.builder.clear();
        self.maps.clear();
        for (job, folding) in jobs.iter().zip(foldings) {
            let LaidOut { scenario, plan, layout, start } = *job;
            self.map = TaskMap::default();
            self.routes.clear();
            self.builder.gate(None);
            let gate = (start > SimDuration::ZERO).then(|| self.builder.delay(start, &[], &[]));
            self.builder.gate(gate);
            self.map.tasks.start = self.builder.len() as u32;
            let context = Context { scenario, fabric, plan, layout, folding };
            let pieces = sync::pieces(&context);
            self.passes(&context, &pieces);
            self.transfers(&context);
            self.synchronise(&context, &pieces);
            self.map.tasks.end = self.builder.len() as u32;
            self.maps.push(std::mem::take(&mut self.map));
        }
        self.builder.build_into(&mut self.graph)
    }

    fn orders(&mut self, shape: Shape) -> Arc<Orders> {
        if let Some(orders) = self.orders.get(&shape) {
            return orders.clone();
        }
        let orders = Arc::new(Orders::new(&shape));
        self.remembered += orders.len();
        if self.remembered > REMEMBERED {
            self.orders.clear();
            self.remembered = orders.len();
        }
        self.orders.insert(shape, orders.clone());
        orders
    }
}
