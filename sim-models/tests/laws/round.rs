//! Scenarios of round numbers, so that times can be computed by hand.
//!
//! A model of four layers (embedding, two blocks, head) with 400,000 B between layers for one sample, and links of 10^8 B/s
//! with 1 ms before the first byte: a transfer between two stages takes 1 + 4 ms.
//!
//! | layer | forward, backward, update, ms | parameters at TP 1 |
//! | --- | --- | --- |
//! | 0 | 4, 8, 0.5 | 12,800 |
//! | 1 | 6, 12, 0.5 | 121,300 |
//! | 2 | 10, 15, 1 | 121,300 |
//! | 3 | 20, 25, 1 | 13,000 |

use sim_core::{CapacityProfile, Rate, SimDuration, SimTime};
use sim_models::device::{Catalogue, LayerTable};
use sim_models::layer_times::LayerTimes;
use sim_models::link::LinkModel;
use sim_models::plan::Plan;
use sim_models::replay::Replay;
use sim_models::scenario::{NodeGroup, Scenario, SearchOptions, ZoneLink};
use sim_models::workload::{Model, Precision, Training};
use std::fmt::Write;
use std::sync::Arc;

/// Picoseconds in a millisecond.
pub(crate) const MS: u64 = 1_000_000_000;
/// (forward, backward, update) of each layer, ms.
pub(crate) const TIMES: [(f64, f64, f64); 4] =
    [(4.0, 8.0, 0.5), (6.0, 12.0, 0.5), (10.0, 15.0, 1.0), (20.0, 25.0, 1.0)];

pub(crate) fn rate(bytes_per_s: f64) -> Rate {
    Rate::from_bytes_per_s(bytes_per_s).expect("a rate")
}

pub(crate) fn at(ps: u64) -> SimTime {
    SimTime::from_ps(ps)
}

/// Capacity of `initial` B/s, then at each (ms, B/s) another.
pub(crate) fn steps(initial: f64, points: &[(u64, f64)]) -> CapacityProfile {
    let points = points.iter().map(|(ms, r)| (at(ms * MS), rate(*r))).collect();
    CapacityProfile::steps(rate(initial), points).expect("increasing")
}

/// A table with the same times at every (micro-batch, TP) given.
pub(crate) fn table(configurations: &[(u32, u32)], layers: &[(f64, f64, f64)]) -> Arc<LayerTimes> {
    let mut text = String::from("micro_batch,tp,first_layer,last_layer,forward_us,backward_us,update_us\n");
    for (b, t) in configurations {
        for (l, (f, w, u)) in layers.iter().enumerate() {
            writeln!(text, "{b},{t},{l},{l},{},{},{}", f * 1e3, w * 1e3, u * 1e3)
                .expect("a String takes all");
        }
    }
    Arc::new(LayerTimes::measured(LayerTable::from_csv(&text).expect("a table")))
}

pub(crate) fn model(blocks: u32) -> Model {
    Model { heads: 1, positions: 0, tied_embeddings: false, ..Model::gpt("round", blocks, 100, 1, 1000, 128) }
}

/// A group of nodes with fast NICs.
pub(crate) fn group(name: &str, zone: &str, nodes: u32, gpus_per_node: u32) -> NodeGroup {
    NodeGroup {
        name: name.into(),
        zone: zone.into(),
        nodes,
        gpus_per_node,
        gpu: Catalogue::builtin().find("A100-40").expect("in the catalogue").clone(),
        layers: table(&[(1, 1), (1, 2), (1, 4), (2, 1)], &TIMES),
        inside: LinkModel::constant(4e8, 0.0),
        nic: CapacityProfile::constant(rate(1e9)),
        nics: None,
        collectives: None,
        leaves: None,
    }
}

/// A scenario of these groups; the batch is set by [`with_batch_of`].
pub(crate) fn scenario(groups: Vec<NodeGroup>) -> Scenario {
    let node_links = vec![vec![LinkModel::constant(1e8, 1e-3); groups.len()]; groups.len()];
    Scenario {
        name: "round".into(),
        about: "round numbers".into(),
        model: model(2),
        training: Training::new(1, Precision::Fp32),
        groups,
        node_links,
        zone_links: Vec::new(),
        leaves: Vec::new(),
        plan: None,
        search: SearchOptions::default(),
        replay: Replay::default(),
        cost: sim_models::cost::Cost::default(),
        jobs: Vec::new(),
    }
}

/// Two zones, `east` and `west`, with a node of one GPU each, `e` and `w`, and 2 ms between them.
pub(crate) fn two_zones(capacity: CapacityProfile) -> Scenario {
    let mut scenario = scenario(vec![group("e", "east", 1, 1), group("w", "west", 1, 1)]);
    scenario.zone_links.push(ZoneLink {
        name: "wan".into(),
        zones: ("west".into(), "east".into()),
        capacity,
        latency: SimDuration::from_ps(2 * MS),
    });
    scenario
}

/// The scenario with the batch that the plan trains.
pub(crate) fn with_batch_of(mut scenario: Scenario, plan: &Plan) -> Scenario {
    scenario.training.global_batch = u32::try_from(plan.micro_batch_count()).expect("few") * plan.micro_batch;
    scenario
}

/// A stage: layers, TP, devices.
pub(crate) type StageText<'a> = (&'a str, u32, &'a [&'a str]);

/// A 1F1B plan with blocking transfers and micro-batches of one sample: for each group of pipelines its replicas,
/// micro-batches, and stages.
pub(crate) fn plan(groups: &[(u32, u32, &[StageText<'_>])]) -> Plan {
    let range = |text: &str| text.parse().expect("a range");
    let stage = |(layers, tp, devices): &StageText<'_>| sim_models::plan::Stage {
        layers: layers.parse().expect("a range"),
        tp: *tp,
        devices: devices.iter().map(|d| range(d)).collect(),
        ..sim_models::plan::Stage::default()
    };
    let pipelines = groups.iter().map(|(replicas, micro_batches, stages)| sim_models::plan::PipelineGroup {
        replicas: *replicas,
        micro_batches: *micro_batches,
        stages: stages.iter().map(stage).collect(),
    });
    Plan { micro_batch: 1, pipelines: pipelines.collect(), ..Plan::default() }
}
