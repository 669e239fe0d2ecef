//! A plan, written out or in a file of its own.

use super::{MOST_GPUS, MOST_SAMPLES};
use crate::fault::{At, Faults};
use crate::node::Node;
use crate::read::{Int, Read, SomeSize, choice, table};
use schemars::{Schema, SchemaGenerator, json_schema};
use sim_models::plan::{DeviceRange, GradientSync, Layers, Plan, Recompute, Schedule};

choice!(Schedule {
    "1f1b" => Schedule::OneFOneB,
    "gpipe" => Schedule::GPipe,
    "interleaved" => Schedule::Interleaved,
    "zero-bubble" => Schedule::ZeroBubble,
});
choice!(Recompute {
    "none" => Recompute::None,
    "selective" => Recompute::Selective,
    "full" => Recompute::Full,
});
choice!(GradientSync {
    "all-reduce" => GradientSync::AllReduce,
    "reduce-scatter" => GradientSync::ReduceScatter,
});

#[derive(Clone, Debug)]
pub(crate) enum PlanChoice {
    Inline(Box<PlanTable>, Node),
    File(At<String>),
}

impl Read for PlanChoice {
    fn read(node: &Node, faults: &mut Faults) -> Option<PlanChoice> {
        if node.get("file").is_some() {
            return PlanFileTable::read(node, faults)?.file.map(PlanChoice::File);
        }
        let before = faults.count();
        let table = PlanTable::read(node, faults)?;
        // A plan with a part left out is another plan: nothing more is said of it.
        (faults.count() == before).then(|| PlanChoice::Inline(Box::new(table), node.clone()))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<Plan>(), PlanFileTable::schema(generator)] })
    }
}

table! {
    /// A plan in a file of its own.
    PlanFileTable "`[plan]`" {
        /// The file, relative to this one.
        file: required String = "\"plan.toml\"",
    }
}

// A plan's schema is that of `sim_models::plan::Plan`; a test holds these tables to it.
table! {
    /// A plan.
    PlanTable "the plan" {
        /// Samples in a micro-batch.
        micro_batch: required Int<1, MOST_SAMPLES> = "2",
        /// Order of the passes.
        schedule: optional Schedule = "\"1f1b\"",
        /// Whether transfers between stages run beside compute.
        overlap_p2p: optional bool = "false",
        /// Zero-bubble only: most micro-batches that the first stage holds; the stages when missing.
        in_flight: optional Int<1, MOST_SAMPLES> = "8",
        /// Whether norms and dropouts are split over the tensor-parallel ranks.
        sequence_parallel: optional bool = "true",
        /// Whether communication inside layers, of tensor and expert parallelism, runs beside their kernels.
        overlap_tp: optional bool = "true",
        /// What replicas share out: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too.
        zero: optional Int<0, 3> = "1",
        /// How replicas make their gradients equal: `all-reduce` or `reduce-scatter`.
        gradient_sync: optional GradientSync = "\"reduce-scatter\"",
        /// Size of the pieces in which gradients are sent; all of a stage when missing.
        gradient_bucket: optional SomeSize = "\"40 MiB\"",
        /// Whether gradients are sent while the last backward passes run.
        overlap_gradients: optional bool = "true",
        /// Whether ZeRO 1 and 2 then gather parameters after the step, with nothing beside it.
        gather_after_step: optional bool = "true",
        /// Groups of alike pipelines.
        pipelines: required Vec<At<PipelineTable>> = "[{ micro_batches = 8, stages = [] }]",
    }
}

table! {
    /// Alike pipelines.
    PipelineTable "`[[plan.pipelines]]`" {
        /// How many.
        replicas: optional Int<1, MOST_GPUS> = "1",
        /// Micro-batches that each of them takes.
        micro_batches: required Int<1, MOST_SAMPLES> = "8",
        /// Stages, first to last.
        stages: required Vec<At<StageTable>> = "[{ layers = \"0-25\", devices = [\"a100:0\"] }]",
    }
}

table! {
    /// A stage.
    StageTable "a stage" {
        /// Its layers; interleaved, one range for each virtual stage.
        layers: required Layers = "\"0-12\"",
        /// Tensor parallelism.
        tp: optional Int<1, MOST_GPUS> = "1",
        /// Context parallelism: a replica has `tp x cp` devices.
        cp: optional Int<1, MOST_GPUS> = "1",
        /// Devices, over all replicas, that share out the experts of a layer.
        ep: optional Int<1, MOST_GPUS> = "1",
        /// What backward passes recompute: `none`, `selective` or `full`.
        recompute: optional Recompute = "\"full\"",
        /// Devices of all replicas, replica by replica.
        devices: required Vec<At<DeviceRange>> = "[\"a100:0-3\"]",
    }
}
