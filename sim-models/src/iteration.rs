//! One training iteration of a plan, simulated, and what became of every device's time and memory.

use crate::device::catalogue::Format;
use crate::fold::Folding;
use crate::layer_times::Exchange;
use crate::layout::{Layout, Rank};
use crate::lower::{Fabric, LaidOut, Lowering, SyncKind};
use crate::memory::{self, Memory};
use crate::plan::Plan;
use crate::plan_check::PlanFault;
use crate::rank_time::RankTime;
use crate::scenario::Scenario;
use crate::schedule::PassKind;
use crate::units::Bytes;
use serde::Serialize;
use sim_core::{Digest, Executor, NoObserver, Outcome, RunOptions, SimDuration, SimError, SimTime, TaskId};

/// Why a plan has no time.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SimulateError {
    /// It is no plan for this scenario.
    #[error("{} faults in the plan, the first: {}", .0.len(), .0.first().map_or("", |f| &f.message))]
    Plan(Vec<PlanFault>),
    /// It has more passes and transfers than are simulated.
    #[error("{tasks} passes and transfers: at most {MOST_TASKS} are simulated")]
    TooMany {
        /// How many.
        tasks: u64,
    },
    /// Two jobs want the same device.
    #[error("`{device}` is in the plans of two jobs, number {} and {}", .jobs.0, .jobs.1)]
    Taken {
        /// Its name in plans.
        device: String,
        /// The jobs, from 0.
        jobs: (usize, usize),
    },
    /// It does not fit in a task graph.
    #[error(transparent)]
    Graph(#[from] sim_core::GraphError),
    /// It does not end.
    #[error(transparent)]
    Sim(#[from] SimError),
}

/// Most passes and transfers of one iteration: several GB of memory.
pub const MOST_TASKS: u64 = 1 << 26;

/// How to simulate an iteration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The instant of the traces at which the iteration starts.
    pub at: SimTime,
    /// Whether alike pipelines are simulated once. The times are the same either way.
    pub fold: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { at: SimTime::ZERO, fold: true }
    }
}

/// Simulates iterations one after another in the same memory. One a thread.
#[derive(Debug)]
pub struct Simulator<'a> {
    scenario: &'a Scenario,
    fabric: &'a Fabric,
    pub(crate) lowering: Lowering,
    pub(crate) executor: Executor,
}

/// An iteration, with the means to explain it.
#[derive(Clone, Debug)]
pub struct Iteration {
    /// Its length.
    pub time: SimDuration,
    /// Events dispatched.
    pub events: u64,
    /// Over those events.
    pub digest: Digest,
    /// Whether a pipeline stood for others.
    pub folded: bool,
    /// What its bytes over links between zones cost at the scenario's prices, 10^-12 dollars.
    pub traffic: u64,
    /// One entry a device; folded, one for each device of each class's pipeline, with `count`.
    pub devices: Vec<DeviceReport>,
}

/// What became of one device's iteration: `busy_s + exposed_comm_s + bubble_s` is the iteration's time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceReport {
    /// Its name in plans: `a100:7`.
    pub id: String,
    /// The GPU.
    pub gpu: String,
    /// How many devices this entry stands for.
    pub count: u32,
    /// Its pipeline, from 0.
    pub pipeline: u32,
    /// Its stage in the pipeline, from 0.
    pub stage: u32,
    /// Computing.
    pub busy_s: f64,
    /// Not computing while communication that it takes part in is under way: `exposed_tp_s + exposed_pp_s + exposed_dp_s`.
    pub exposed_comm_s: f64,
    /// Of it, inside its layers: tensor, context and expert parallelism, as far as it is known apart from measured times.
    pub exposed_tp_s: f64,
    /// Transfers between stages, and no synchronisation.
    pub exposed_pp_s: f64,
    /// Synchronisation of gradients and parameters.
    pub exposed_dp_s: f64,
    /// Neither.
    pub bubble_s: f64,
    /// Memory at its fullest.
    pub peak_memory_bytes: u64,
    /// Memory it has.
    pub memory_bytes: u64,
    /// The peak by part.
    pub memory: Memory,
}

/// What one task of a timeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Forward pass of a micro-batch on a rank, or a part of one, with what it sends inside.
    Forward {
        /// Index into [`Layout::ranks`].
        rank: usize,
        /// Micro-batch of its pipeline.
        micro_batch: u32,
    },
    /// Backward pass of a micro-batch on a rank.
    Backward {
        /// Index into [`Layout::ranks`].
        rank: usize,
        /// Micro-batch of its pipeline.
        micro_batch: u32,
    },
    /// Weight gradients of a micro-batch, where they have a pass of their own.
    Weight {
        /// Index into [`Layout::ranks`].
        rank: usize,
        /// Micro-batch of its pipeline.
        micro_batch: u32,
    },
    /// An activation or its gradient between two ranks.
    Transfer {
        /// Sender, an index into [`Layout::ranks`].
        from: usize,
        /// Receiver.
        to: usize,
        /// Micro-batch.
        micro_batch: u32,
        /// Whether it is an activation.
        forward: bool,
    },
    /// A rank's part in a synchronisation of gradients or parameters.
    Sync {
        /// Index into [`Layout::ranks`].
        rank: usize,
        /// Which synchronisation, from 0.
        sync: usize,
        /// What it does.
        kind: SyncKind,
    },
    /// Bytes to other nodes inside a pass of a rank.
    Exchange {
        /// Index into [`Layout::ranks`].
        rank: usize,
        /// Of what parallelism.
        exchange: Exchange,
        /// Micro-batch of its pipeline.
        micro_batch: u32,
    },
    /// A rank's optimizer step.
    Update {
        /// Index into [`Layout::ranks`].
        rank: usize,
    },
}

impl<'a> Simulator<'a> {
    /// A simulator for plans of one scenario.
    pub fn new(scenario: &'a Scenario, fabric: &'a Fabric) -> Simulator<'a> {
        Simulator { scenario, fabric, lowering: Lowering::new(), executor: Executor::new() }
    }

    /// The scenario that it simulates plans of.
    pub fn scenario(&self) -> &'a Scenario {
        self.scenario
    }

    /// Simulates `plan`, laid out as `layout`, no further than `cutoff`.
    ///
    /// # Errors
    /// When the graph is too large, more than [`MOST_TASKS`] among that, or the run does not end ([`SimError`]).
    pub fn run(
        &mut self,
        plan: &Plan,
        layout: &Layout,
        folding: &Folding,
        at: SimTime,
        cutoff: Option<SimTime>,
    ) -> Result<Outcome, SimulateError> {
        let job = LaidOut { scenario: self.scenario, plan, layout, start: SimDuration::ZERO };
        self.run_jobs(&[job], std::slice::from_ref(folding), at, cutoff)
    }

    /// Simulates jobs side by side, each with its folding ([`Folding::together`]), no further than `cutoff`.
    ///
    /// # Errors
    /// As [`Simulator::run`].
    pub fn run_jobs(
        &mut self,
        jobs: &[LaidOut<'_>],
        foldings: &[Folding],
        at: SimTime,
        cutoff: Option<SimTime>,
    ) -> Result<Outcome, SimulateError> {
        self.lower(jobs, foldings)?;
        let options = RunOptions { origin: at, cutoff, event_budget: None };
        Ok(self.executor.run(&self.lowering.graph, &self.fabric.network, &options, &mut NoObserver)?)
    }

    /// The task graph of the jobs' plans, where it is not too large.
    pub(crate) fn lower(&mut self, jobs: &[LaidOut<'_>], foldings: &[Folding]) -> Result<(), SimulateError> {
        let mut tasks = 0u64;
        for (job, folding) in jobs.iter().zip(foldings) {
            let pipelines = folding.classes.iter().map(|c| &job.layout.pipelines[c.pipeline]);
            let passes = |p: &crate::layout::Pipeline| {
                let shape = job.layout.shape(job.plan, p);
                u64::from(shape.stages) * u64::from(shape.chunks) * u64::from(shape.micro_batches)
            };
            // Sharded parameters are gathered, and gradients sent, piece by piece in every pass.
            let pieces = u64::from(job.scenario.model.layers().min(64));
            let each = if job.plan.zero >= 2 { 4 + 6 * pieces } else { 5 };
            // One of each exchange, and two more where kernels run beside.
            let split = if job.layout.ranks.iter().any(|r| !r.crossings.is_empty()) { 6 } else { 1 };
            let own = pipelines.map(passes).fold(0, u64::saturating_add).saturating_mul(each * split);
            tasks = tasks.saturating_add(own);
        }
        if tasks > MOST_TASKS {
            return Err(SimulateError::TooMany { tasks });
        }
        Ok(self.lowering.lower_jobs(self.fabric, jobs, foldings)?)
    }

    /// What the bytes of an iteration of `plan` over links between zones cost, 10^-12 dollars; nothing is run.
    ///
    /// # Errors
    /// When the graph is too large, more than [`MOST_TASKS`] among that.
    pub fn traffic(&mut self, plan: &Plan, layout: &Layout, folding: &Folding) -> Result<u64, SimulateError> {
        let scenario = self.scenario;
        if !scenario.cost.prices_bytes() {
            return Ok(0);
        }
        let job = LaidOut { scenario, plan, layout, start: SimDuration::ZERO };
        self.lower(&[job], std::slice::from_ref(folding))?;
        Ok(self.traffic_of(0, scenario))
    }

    /// The same of a job of the last run, at the prices of `scenario`.
    pub(crate) fn traffic_of(&self, job: usize, scenario: &Scenario) -> u64 {
        let tasks = self.lowering.maps[job].tasks.clone();
        scenario.cost.traffic(self.fabric, &self.lowering.graph, tasks)
    }

    /// When the last task of a job of the last run ended.
    pub(crate) fn end_of(&self, job: usize) -> SimTime {
        let tasks = self.lowering.maps[job].tasks.clone();
        tasks.map(|task| self.executor.finish_of(TaskId(task))).max().unwrap_or(SimTime::ZERO)
    }

    /// Calls `f` with every task of the last run that finished: what it is, its start and its end. A synchronisation comes
    /// once for each simulated rank in it.
    pub fn spans(&self, layout: &Layout, f: impl FnMut(Span, SimTime, SimTime)) {
        self.spans_of(0, layout, f);
    }

    /// The same of one of several jobs.
    pub fn spans_of(&self, job: usize, layout: &Layout, mut f: impl FnMut(Span, SimTime, SimTime)) {
        let map = &self.lowering.maps[job];
        let mut emit = |span, first: TaskId, last: TaskId| {
            let end = self.executor.finish_of(last);
            if end != SimTime::MAX {
                f(span, self.executor.start_of(first), end);
            }
        };
        for (i, tasks) in map.passes.iter().enumerate() {
            let (stage, rank) = (layout.ranks[tasks.rank].stage, tasks.rank);
            for (at, pass) in tasks.orders.stage(stage).iter().enumerate() {
                let micro_batch = pass.micro_batch;
                let span = match pass.kind {
                    PassKind::Forward => Span::Forward { rank, micro_batch },
                    PassKind::Backward => Span::Backward { rank, micro_batch },
                    PassKind::Weight => Span::Weight { rank, micro_batch },
                };
                for (first, last) in map.parts(i, at) {
                    emit(span, first, last);
                    for ((exchange, _), task) in tasks.split.exchanges.iter().zip(first.0 + 1..) {
                        let task = TaskId(task);
                        emit(Span::Exchange { rank, exchange: *exchange, micro_batch }, task, task);
                    }
                }
            }
        }
        for boundary in &map.boundaries {
            let (from, to) = (map.passes[boundary.from].rank, map.passes[boundary.to].rank);
            for micro_batch in 0..boundary.count {
                let span = Span::Transfer { from, to, micro_batch, forward: boundary.forward };
                let task = TaskId(boundary.first + micro_batch);
                emit(span, task, task);
            }
        }
        for (i, sync) in map.syncs.iter().enumerate() {
            for m in &sync.members {
                let span = Span::Sync { rank: map.passes[*m].rank, sync: i, kind: sync.kind };
                emit(span, sync.task, sync.task);
            }
        }
        for (tasks, update) in map.passes.iter().zip(&map.updates) {
            emit(Span::Update { rank: tasks.rank }, *update, *update);
        }
    }

    /// What became of each device of a job (the one number `index`) in the last run; its iteration took `time`.
    pub(crate) fn devices(
        &self,
        index: usize,
        job: &LaidOut<'_>,
        folding: &Folding,
        time: SimDuration,
    ) -> Vec<DeviceReport> {
        let LaidOut { scenario, plan, layout, .. } = *job;
        let times = self.rank_times(index, plan, layout);
        let mut reports = Vec::new();
        for class in &folding.classes {
            let pipeline = &layout.pipelines[class.pipeline];
            for r in pipeline.stages.clone() {
                let rank = &layout.ranks[r];
                let RankTime { busy, inside, passed, synced } = times[r];
                let memory = memory::of_rank(scenario, plan, layout, rank);
                let seconds = |ps: u64| SimDuration::from_ps(ps).as_secs_f64();
                let report = |device| DeviceReport {
                    id: scenario.device_name(device),
                    gpu: scenario.group(device).gpu.name.clone(),
                    count: class.count,
                    pipeline: rank.pipeline as u32,
                    stage: rank.stage,
                    busy_s: seconds(busy - inside),
                    exposed_comm_s: seconds(inside + synced + passed),
                    exposed_tp_s: seconds(inside),
                    exposed_pp_s: seconds(passed),
                    exposed_dp_s: seconds(synced),
                    bubble_s: seconds(time.as_ps().saturating_sub(busy + synced + passed)),
                    peak_memory_bytes: memory.total().0,
                    memory_bytes: scenario.group(device).gpu.memory.0,
                    memory,
                };
                reports.extend(rank.devices.iter().map(|d| report(*d)));
            }
        }
        reports
    }
}

impl Iteration {
    /// Whether every device has the memory it needs.
    pub fn fits(&self) -> bool {
        self.devices.iter().all(|d| d.peak_memory_bytes <= d.memory_bytes)
    }

    /// Tokens trained a second.
    pub fn tokens_per_s(&self, scenario: &Scenario) -> f64 {
        f64::from(scenario.training.global_batch) * scenario.model.seq_len as f64 / self.time.as_secs_f64()
    }

    /// Model FLOP utilisation: the model's FLOP over what the plan's devices could do in the time at their dense peak.
    /// Where the precision is fp32 that is the TF32 peak on a GPU that has it, as frameworks use it for products.
    pub fn mfu(&self, scenario: &Scenario, layout: &Layout) -> f64 {
        let flop = scenario.model.flop_per_sample() * f64::from(scenario.training.global_batch);
        flop / (peak_flop_per_s(scenario, layout) * self.time.as_secs_f64())
    }

    /// Where the iteration's time lies with 90 % of confidence, s: by the spread of its layer times, which are wrong
    /// together or not at all. What is wrong with the network is not in it.
    pub fn interval_s(&self, layout: &Layout) -> [f64; 2] {
        // The normal distribution has nine tenths within 1.645 standard deviations.
        let factor = libm::exp(1.645 * layout.spread);
        [self.time.as_secs_f64() / factor, self.time.as_secs_f64() * factor]
    }

    /// The fullest device: how much it lacks, or has to spare (negative).
    pub fn shortfall(&self) -> Option<(&DeviceReport, i128)> {
        let lack = |d: &DeviceReport| i128::from(d.peak_memory_bytes) - i128::from(d.memory_bytes);
        self.devices.iter().map(|d| (d, lack(d))).max_by_key(|(_, lack)| *lack)
    }
}

/// What the devices of a plan could do in a second at their dense peak.
pub fn peak_flop_per_s(scenario: &Scenario, layout: &Layout) -> f64 {
    let format = match Format::from(scenario.training.precision) {
        Format::Fp32 => Format::Tf32,
        format => format,
    };
    let devices = layout.ranks.iter().flat_map(|r| &r.devices);
    devices.map(|d| scenario.group(*d).gpu.peak_of(format)).sum()
}

/// Bytes that each rank needs for `plan` and has, in the order of [`Layout::ranks`].
pub fn memory_needs(scenario: &Scenario, plan: &Plan, layout: &Layout) -> Vec<(Bytes, Bytes)> {
    let need = |r: &Rank| {
        (memory::of_rank(scenario, plan, layout, r).total(), scenario.group(r.devices[0]).gpu.memory)
    };
    layout.ranks.iter().map(need).collect()
}

/// One iteration of `plan`, from its check to its report.
///
/// # Errors
/// [`SimulateError::Plan`] with everything wrong with the plan, or why it does not end.
pub fn simulate(scenario: &Scenario, plan: &Plan, options: &Options) -> Result<Iteration, SimulateError> {
    let fabric = Fabric::new(scenario);
    let mut simulator = Simulator::new(scenario, &fabric);
    let layout = Layout::new(scenario, plan).map_err(SimulateError::Plan)?;
    simulate_with(&mut simulator, plan, &layout, options)
}

/// Like [`simulate`], in a simulator that is kept: its spans are then those of this run.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_with(
    simulator: &mut Simulator<'_>,
    plan: &Plan,
    layout: &Layout,
    options: &Options,
) -> Result<Iteration, SimulateError> {
    let folding = if options.fold { Folding::of(layout) } else { Folding::none(layout) };
    let scenario = simulator.scenario;
    let job = LaidOut { scenario, plan, layout, start: SimDuration::ZERO };
    let outcome = simulator.run(plan, layout, &folding, options.at, None)?;
    let time = SimDuration::from_ps(outcome.end.as_ps());
    Ok(Iteration {
        time,
        events: outcome.events,
        digest: outcome.digest,
        folded: folding.is_folded(),
        traffic: simulator.traffic_of(0, scenario),
        devices: simulator.devices(0, &job, &folding, time),
    })
}
