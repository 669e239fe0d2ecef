//! What each device holds at its fullest, part by part.
//!
//! Parameters, gradients and optimizer state are the rank's share of its layers, less what ZeRO shares out over replicas
//! (arXiv 1910.02054), gradients with the buckets that they are sent from; activations are those of the micro-batches in flight,
//! at their peak in time, with the gradients that the widest backward pass holds for a moment; communication holds one
//! boundary activation and one boundary gradient for each neighbour; the reserve is the framework's.

use crate::layout::{Layout, Rank};
use crate::plan::{LayerRange, Layers, Plan, Recompute, Schedule};
use crate::scenario::Scenario;
use crate::schedule::{Orders, PassKind, Shape};
use crate::units::Bytes;
use crate::workload::Kept;
use serde::Serialize;

/// Memory of one device, by part. They add up to [`Memory::total`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Parameters in the precision of the compute.
    pub parameters: Bytes,
    /// Gradients, with what the framework holds for them beside them.
    pub gradients: Bytes,
    /// Optimizer state, master copy included.
    pub optimizer: Bytes,
    /// Activations kept for backward passes, at the peak, and gradients of activations beside them.
    pub activations: Bytes,
    /// Buffers of transfers between stages.
    pub communication: Bytes,
    /// CUDA context, allocator, libraries.
    pub reserve: Bytes,
}

impl Memory {
    /// All parts together.
    pub fn total(&self) -> Bytes {
        self.parameters
            + self.gradients
            + self.optimizer
            + self.activations
            + self.communication
            + self.reserve
    }
}

/// A stage as far as its memory depends on it.
#[derive(Clone, Debug)]
pub struct StageMemory<'a> {
    /// Its layers.
    pub layers: &'a Layers,
    /// Tensor parallelism.
    pub tp: u32,
    /// Context parallelism.
    pub cp: u32,
    /// Expert parallelism.
    pub ep: u32,
    /// What is recomputed.
    pub recompute: Recompute,
    /// Its place in the pipeline, from 0.
    pub stage: u32,
    /// The pipeline.
    pub shape: Shape,
    /// Devices that hold the same dense parameters, over all pipelines.
    pub replicas: u64,
}

impl<'a> StageMemory<'a> {
    /// Stage `stage` of a 1F1B pipeline of `stages` stages with tensor parallelism alone, alone on its layers.
    pub fn plain(
        layers: &'a Layers,
        tp: u32,
        stage: u32,
        stages: u32,
        micro_batches: u32,
    ) -> StageMemory<'a> {
        let schedule = Schedule::OneFOneB;
        StageMemory {
            layers,
            tp,
            cp: 1,
            ep: 1,
            recompute: Recompute::None,
            stage,
            shape: Shape { schedule, stages, chunks: 1, micro_batches, in_flight: None },
            replicas: 1,
        }
    }
}

/// Memory of each device of `rank` at its fullest.
pub fn of_rank(scenario: &Scenario, plan: &Plan, layout: &Layout, rank: &Rank) -> Memory {
    let stage = StageMemory {
        layers: &rank.layers,
        tp: rank.tp,
        cp: rank.cp,
        ep: rank.ep,
        recompute: rank.recompute,
        stage: rank.stage,
        shape: layout.shape(plan, &layout.pipelines[rank.pipeline]),
        replicas: layout.replicas(rank),
    };
    of_stage(scenario, plan, &stage)
}

/// Memory of each device of a stage.
pub fn of_stage(scenario: &Scenario, plan: &Plan, s: &StageMemory<'_>) -> Memory {
    let (model, training) = (&scenario.model, &scenario.training);
    let precision = training.precision;
    let samples = u64::from(plan.micro_batch);
    // A layer of each sort, and how many are like it.
    let sorts = || s.layers.chunks().iter().flat_map(|range| model.alike(*range));
    let layers = || sorts().map(|(l, _)| l);
    let mut dense: u64 = sorts().map(|(l, n)| n * model.dense_parameters(l, s.tp)).sum();
    let experts: u64 = sorts().map(|(l, n)| n * model.expert_parameters(l, s.tp, s.ep)).sum();
    // A head tied to an embedding on another stage keeps a copy of its matrix.
    if model.tied_embeddings && s.layers.contains(model.layers() - 1) && !s.layers.contains(0) {
        dense += model.padded_vocab(s.tp) / u64::from(s.tp) * model.hidden;
    }
    // Experts are on as many devices as share out no other: one of `ep`.
    let expert_replicas = (s.replicas * u64::from(s.tp) / u64::from(s.ep.max(1))).max(1);
    let sharded = |from: u8, a_parameter: u64| {
        let part = |parameters: u64, replicas: u64| {
            parameters.saturating_mul(a_parameter).div_ceil(if plan.zero >= from { replicas } else { 1 })
        };
        Bytes(part(dense, s.replicas.max(1)).saturating_add(part(experts, expert_replicas)))
    };
    let kept = Kept {
        tp: s.tp,
        cp: s.cp,
        sequence_parallel: plan.sequence_parallel && s.tp > 1,
        recompute: s.recompute,
    };
    let of_layer = |l: u32, kept: &Kept| model.activation_bytes(l, kept, precision, &training.activations);
    let of_chunk =
        |range: &LayerRange| -> Bytes { model.alike(*range).map(|(l, n)| of_layer(l, &kept).times(n)).sum() };
    let chunks: Vec<Bytes> = s.layers.chunks().iter().map(of_chunk).collect();
    // While a block is recomputed, all that it would have kept is there once.
    let again = match s.recompute {
        Recompute::None => Bytes::ZERO,
        _ => {
            let whole = Kept { recompute: Recompute::None, ..kept };
            layers().map(|l| of_layer(l, &whole)).max().unwrap_or(Bytes::ZERO)
        }
    };
    let passing = model.passing_bytes(layers(), &kept, precision, &training.activations, samples);
    let buckets = if s.replicas > 1 { training.buffers.buckets } else { 0 };
    let shapes = if training.buffers.shapes { model.weight_shapes(layers(), s.tp, s.ep) } else { 0 };
    let beside =
        Bytes((dense + experts).saturating_mul(buckets)) + Bytes(shapes).times(precision.activation_bytes());
    let neighbours = u64::from(s.stage > 0) + u64::from(s.stage + 1 < s.shape.stages);
    // Parameters that are gathered as they are needed: those of two layers, one in use and one on its way.
    let gathered = if plan.zero >= 3 {
        let of = |l: u32| model.dense_parameters(l, s.tp) + model.expert_parameters(l, s.tp, s.ep);
        let largest = layers().map(of).max().unwrap_or(0);
        Bytes(largest).times(2 * precision.activation_bytes())
    } else {
        Bytes::ZERO
    };
    Memory {
        parameters: sharded(3, precision.activation_bytes()),
        gradients: sharded(2, training.gradient_bytes) + beside,
        optimizer: sharded(1, precision.optimizer_bytes(training.optimizer)),
        activations: held(&chunks, s).times(samples) + again.times(samples) + passing,
        communication: model.boundary_bytes(precision).times(2 * neighbours * samples).share(s.cp) + gathered,
        reserve: training.memory_reserve,
    }
}

/// The most that a stage holds at once, for one sample of a micro-batch, when a chunk of it keeps `chunks`.
fn held(chunks: &[Bytes], s: &StageMemory<'_>) -> Bytes {
    if let [one] = chunks {
        return one.times(s.shape.in_flight(s.stage).into());
    }
    let (mut now, mut most) = (0u64, 0u64);
    for pass in Orders::new(&s.shape).stage(s.stage) {
        let bytes = chunks[pass.chunk as usize].0;
        match pass.kind {
            PassKind::Forward => now = now.saturating_add(bytes),
            PassKind::Backward => now = now.saturating_sub(bytes),
            PassKind::Weight => {}
        }
        most = most.max(now);
    }
    Bytes(most)
}
