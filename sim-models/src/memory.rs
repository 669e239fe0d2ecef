//! What each device holds at its fullest, part by part.
//!
//! Parameters, gradients and optimizer state are the rank's share of its layers; activations are those of the micro-batches
//! in flight (`Schedule::in_flight`), which for the schedules here is the peak in time; communication holds one boundary
//! activation and one boundary gradient for each neighbour; the reserve is the framework's.

use crate::layout::{Layout, Rank};
use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::units::Bytes;
use serde::Serialize;

/// Memory of one device, by part. They add up to [`Memory::total`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Parameters in the precision of the compute.
    pub parameters: Bytes,
    /// Gradients.
    pub gradients: Bytes,
    /// Optimizer state, master copy included.
    pub optimizer: Bytes,
    /// Activations kept for backward passes, at the peak.
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

/// Memory of each device of `rank` at its fullest.
pub fn of_rank(scenario: &Scenario, plan: &Plan, layout: &Layout, rank: &Rank) -> Memory {
    let micro_batches = layout.pipelines[rank.pipeline].micro_batches;
    let stages = layout.stage_count(rank);
    of_stage(
        scenario,
        plan,
        (rank.layers.first, rank.layers.last),
        rank.tp,
        rank.stage,
        stages,
        micro_batches,
    )
}

/// Memory of each device of stage `stage` of `stages` that holds `layers` (first and last) at TP `tp`.
pub fn of_stage(
    scenario: &Scenario,
    plan: &Plan,
    layers: (u32, u32),
    tp: u32,
    stage: u32,
    stages: u32,
    micro_batches: u32,
) -> Memory {
    let (model, training) = (&scenario.model, &scenario.training);
    let precision = training.precision;
    let samples = u64::from(plan.micro_batch);
    let mut parameters: u64 = (layers.0..=layers.1).map(|l| model.parameters(l, tp)).sum();
    // A head tied to an embedding on another stage keeps a copy of its matrix.
    if model.tied_embeddings && layers.1 + 1 == model.layers() && layers.0 > 0 {
        parameters += model.padded_vocab(tp) / u64::from(tp) * model.hidden;
    }
    let kept: Bytes =
        (layers.0..=layers.1).map(|l| model.activation_bytes(l, tp, precision, &training.activations)).sum();
    let neighbours = u64::from(stage > 0) + u64::from(stage + 1 < stages);
    Memory {
        parameters: Bytes(parameters).times(precision.activation_bytes()),
        gradients: Bytes(parameters).times(precision.activation_bytes()),
        optimizer: Bytes(parameters).times(precision.optimizer_bytes(training.optimizer)),
        activations: kept.times(samples * u64::from(plan.schedule.in_flight(stage, stages, micro_batches))),
        communication: model.boundary_bytes(precision).times(2 * neighbours * samples),
        reserve: training.memory_reserve,
    }
}
