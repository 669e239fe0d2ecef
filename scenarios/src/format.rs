//! The format: every table of a scenario file, key by key. What is said here is what is read, what an error offers and
//! what the JSON Schema shows.

mod cluster;
mod model;
mod over_time;
mod plan;
mod search;

pub(crate) use cluster::{ConfigurationTable, FabricTable, GpuTable, LinkTable, NetworkTable, NodesTable};
pub(crate) use model::{ExpertsTable, LatentTable, ModelTable, TrainingTable};
pub use over_time::Mode;
pub(crate) use over_time::{BackgroundTable, EventTable, ReplayTable, TraceTable};
pub(crate) use plan::{PipelineTable, PlanChoice, PlanTable, StageTable};
pub(crate) use search::{CostTable, SearchTable};

use crate::fault::At;
use crate::read::{Int, Name, NodesName, Time, table};

/// The version of the format that is read.
pub(crate) const SCHEMA_VERSION: u64 = 1;
/// Most GPUs of a cluster.
pub(crate) const MOST_GPUS: u64 = 1_000_000;
/// Most layers between embedding and head.
const MOST_BLOCKS: u64 = 10_000;
/// Largest batch and its parts.
const MOST_SAMPLES: u64 = 1 << 31;

// Sizes of a model, such that heads x sequence^2 (the largest product that sim-models takes) fits in 64 bits.
const MOST_HIDDEN: u64 = 1 << 20;
const MOST_FFN: u64 = 1 << 22;
const MOST_HEADS: u64 = 1 << 14;
const MOST_TOKENS: u64 = 1 << 24;

table! {
    /// A scenario: what is trained, on which nodes, over which network.
    ScenarioFile "the scenario" {
        /// Version of the format: 1.
        schema_version: required Int<0, { u32::MAX as u64 }> = "1",
        /// One line on what the scenario is.
        about: optional String = "\"two zones\"",
        /// What is trained; may be missing where each of the `[[jobs]]` has its own.
        model: optional ModelTable = "{ name = \"opt-350m\" }",
        /// How it is trained; may be missing where each of the `[[jobs]]` has its own.
        training: optional TrainingTable = "{ global_batch = 1024 }",
        /// Groups of alike nodes.
        nodes: required Vec<At<NodesTable>> = "[{ name = \"a100\", count = 4, gpus_per_node = 4, gpu = \"A100-40\" }]",
        /// GPUs that the catalogue does not have.
        gpus: optional Vec<At<GpuTable>> = "[{ name = \"X200\", memory = \"96 GiB\", memory_bandwidth = \"4 TB/s\", multiprocessors = 160, tflops = { fp32 = 80, bf16 = 640 } }]",
        /// What connects the nodes.
        network: optional NetworkTable = "{ rate = \"25 Gbps\" }",
        /// Capacity of links over time.
        traces: optional Vec<At<TraceTable>> = "[{ link = \"wan\", file = \"wan.csv\" }]",
        /// What others send over links, taken away from what traces and events leave of them.
        background: optional Vec<At<BackgroundTable>> = "[{ link = \"wan\", rate = \"2 Gbps\" }]",
        /// What happens at an instant, over what the traces say.
        events: optional Vec<At<EventTable>> = "[{ at = \"10 s\", link = \"wan\", capacity = \"0 bps\" }]",
        /// How a replay goes.
        replay: optional ReplayTable = "{ history = \"1 h\" }",
        /// What a search may do.
        search: optional SearchTable = "{ max_stages = 4 }",
        /// What nodes cost by the hour, and bytes between zones.
        cost: optional CostTable = "{ nodes = [{ group = \"a100\", per_hour = 29.38 }] }",
        /// A plan of the scenario's own, which `simulate` takes when it is given none.
        plan: optional PlanChoice = "{ file = \"plan.toml\" }",
        /// Jobs that share the cluster, each with a plan of its own, in place of one job.
        jobs: optional Vec<At<JobTable>> = "[{ name = \"large\", nodes = [\"a100:0-1\"] }]",
    }
}

table! {
    /// One of several jobs that share the cluster's nodes and links. Each runs one iteration from its start on.
    JobTable "`[[jobs]]`" {
        /// Name.
        name: required Name = "\"large\"",
        /// What it trains; the scenario's when missing.
        model: optional ModelTable = "{ name = \"opt-350m\" }",
        /// How it is trained; the scenario's when missing.
        training: optional TrainingTable = "{ global_batch = 1024 }",
        /// Nodes that it may use: groups, or ranges of their nodes; all when missing.
        nodes: optional Vec<At<NodesName>> = "[\"a100:0-1\", \"v100\"]",
        /// When its iteration starts; at once when missing.
        start: optional Time = "\"100 ms\"",
        /// Iterations that it is to run, where plans are to be found; 1 when missing.
        iterations: optional Int<1, 1_000_000_000> = "10000",
        /// How much it counts when it is done: the plans to be found have the least sum of weight x time; 1 when missing.
        weight: optional Int<1, 1_000_000> = "3",
        /// Its plan. Without one a plan is to be found.
        plan: optional PlanChoice = "{ file = \"large.toml\" }",
    }
}

#[cfg(test)]
mod tests {
    use super::cluster::{ConfiguredTable, TflopsTable};
    use super::plan::PlanFileTable;
    use super::search::{LinkPriceTable, NodePriceTable};
    use super::*;
    use crate::read::Read;
    use schemars::SchemaGenerator;
    use sim_models::plan::Plan;

    fn keys(schema: &serde_json::Value) -> Vec<&str> {
        let mut keys: Vec<&str> =
            schema["properties"].as_object().expect("a table").keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    /// The tables that read a plan have the keys of the plan, and need the same of them.
    #[test]
    fn a_plan_is_read_by_its_own_schema() {
        let mut generator = SchemaGenerator::default();
        let plan = schemars::schema_for!(Plan).to_value();
        let of = |name: &str| plan["$defs"][name].clone();
        for (ours, theirs) in [
            (PlanTable::schema(&mut generator), plan.clone()),
            (PipelineTable::schema(&mut generator), of("PipelineGroup")),
            (StageTable::schema(&mut generator), of("Stage")),
        ] {
            let ours = ours.to_value();
            assert_eq!(keys(&ours), keys(&theirs));
            assert_eq!(ours["required"], theirs["required"]);
        }
    }

    #[test]
    fn every_example_is_right() {
        ScenarioFile::check_examples();
        BackgroundTable::check_examples();
        JobTable::check_examples();
        ModelTable::check_examples();
        ExpertsTable::check_examples();
        LatentTable::check_examples();
        TrainingTable::check_examples();
        NodesTable::check_examples();
        GpuTable::check_examples();
        TflopsTable::check_examples();
        NetworkTable::check_examples();
        LinkTable::check_examples();
        FabricTable::check_examples();
        TraceTable::check_examples();
        EventTable::check_examples();
        ReplayTable::check_examples();
        ConfigurationTable::check_examples();
        ConfiguredTable::check_examples();
        SearchTable::check_examples();
        CostTable::check_examples();
        NodePriceTable::check_examples();
        LinkPriceTable::check_examples();
        PlanFileTable::check_examples();
        PlanTable::check_examples();
        PipelineTable::check_examples();
        StageTable::check_examples();
    }
}
