//! Random clusters and plans, drawn from a tape of numbers, so that a failing case shrinks: a tape of zeros is one group
//! of one node and a plan of one stage.

use crate::round::{at, group, model, rate, scenario, table};
use sim_core::{CapacityProfile, SimDuration};
use sim_models::collective::Nccl;
use sim_models::device::{Device, Format, Roofline};
use sim_models::layer_times::{LayerTimes, OnDevice, Outside};
use sim_models::link::LinkModel;
use sim_models::plan::{
    DeviceRange, GradientSync, LayerRange, Layers, PipelineGroup, Plan, Recompute, Schedule, Stage,
};
use sim_models::plan_check;
use sim_models::scenario::{Leaf, Leaves, NodeId, Scenario, ZoneLink};
use sim_models::timeline::Timeline;
use sim_models::units::Bytes;
use sim_models::workload::{Experts, Model};
use std::sync::Arc;

/// Numbers to draw from; zeros once it is used up.
pub(crate) struct Tape<'a> {
    numbers: &'a [u16],
}

impl<'a> Tape<'a> {
    pub(crate) fn new(numbers: &'a [u16]) -> Tape<'a> {
        Tape { numbers }
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        let (first, rest) = self.numbers.split_first().unwrap_or((&0, &[]));
        self.numbers = rest;
        u32::from(*first) % n
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u32) as usize]
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// Whether transfers meet on NICs and on links between zones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Yes,
    No,
}

/// A cluster of up to three groups in up to three zones and a plan for it; sharing or not.
pub(crate) fn case(tape: &mut Tape<'_>, sharing: Sharing) -> (Scenario, Plan) {
    let mut scenario = cluster(tape, sharing);
    let plan = plan(tape, &scenario);
    scenario.training.global_batch = u32::try_from(plan.micro_batch_count()).expect("few") * plan.micro_batch;
    (scenario, plan)
}

/// A cluster whose layers are modelled, not measured, and a plan in which tensor, context and expert parallelism leave nodes.
pub(crate) fn spread_case(tape: &mut Tape<'_>, sharing: Sharing) -> (Scenario, Plan) {
    let mut scenario = cluster(tape, sharing);
    let mut model =
        Model { heads: 8, kv_heads: 8, tied_embeddings: tape.yes(), ..model(scenario.model.blocks) };
    if tape.yes() {
        model.experts = Some(Experts {
            count: 8,
            top_k: 2,
            ffn_hidden: 400,
            shared_ffn: 0,
            dense_blocks: tape.below(2),
            node_limit: tape.of(&[None, Some(1)]),
            imbalance: 1.0,
            capacity: None,
        });
    }
    for g in 0..scenario.groups.len() {
        let link = scenario.node_links[g][g].clone();
        let group = &mut scenario.groups[g];
        let nic = group.nic.highest().as_bytes_per_s();
        group.layers = Arc::new(LayerTimes::modelled(OnDevice {
            device: Device::Roofline(Roofline::from_catalogue(&group.gpu)),
            model: model.clone(),
            format: Format::Fp32,
            nccl: Nccl::of(&group.gpu, group.gpus_per_node).ok().filter(|_| tape.yes()),
            inside: group.inside.clone(),
            outside: Some(Outside { link, share: nic / f64::from(group.gpus_per_node) }),
        }));
        if sharing == Sharing::Yes && tape.below(3) == 1 {
            let changes = Timeline::steps(vec![
                (0, group.nic.highest().raw()),
                (30_000_000, group.nic.highest().raw() / 4),
            ]);
            scenario.replay.nics.insert(NodeId { group: g as u32, index: 0 }, changes.expect("in order"));
        }
    }
    scenario.model = model;
    let plain = plan(tape, &scenario);
    let spread = spread_out(tape, &scenario, plain.clone());
    let batch = |plan: &Plan| u32::try_from(plan.micro_batch_count()).expect("few") * plan.micro_batch;
    scenario.training.global_batch = batch(&spread);
    if plan_check::check(&scenario, &spread).is_empty() {
        return (scenario, spread);
    }
    // What was put together is not spread evenly over nodes.
    scenario.training.global_batch = batch(&plain);
    (scenario, plain)
}

/// The plan with replicas made parts of wider ones.
fn spread_out(tape: &mut Tape<'_>, scenario: &Scenario, mut plan: Plan) -> Plan {
    for group in &mut plan.pipelines {
        let merge = tape.of(&[1, 2, 4]).min(group.replicas);
        let (wider, replicas) = (tape.yes(), group.replicas / merge);
        for stage in &mut group.stages {
            let all: Vec<DeviceRange> =
                stage.devices.drain(..(replicas * merge * stage.tp) as usize).collect();
            stage.devices = all;
            if wider && stage.tp * merge <= 8 {
                stage.tp *= merge;
            } else {
                stage.cp = merge;
            }
            let ep = tape.of(&[1, 2, 4, 8]);
            if scenario.model.experts.is_some() && (stage.devices.len() as u32).is_multiple_of(ep) {
                stage.ep = ep;
            }
        }
        group.replicas = replicas;
    }
    plan.sequence_parallel = tape.yes();
    plan.overlap_tp = tape.yes();
    plan
}

/// A cluster and up to three jobs on it, each with the scenario as it sees it and a plan.
pub(crate) fn jobs_case(tape: &mut Tape<'_>) -> (Scenario, Vec<(Scenario, Plan)>) {
    let cluster = cluster(tape, Sharing::Yes);
    let mut free = Free::of(&cluster);
    let mut jobs = Vec::new();
    for _ in 0..1 + tape.below(3) {
        // Short passes, so that links are busy.
        let mut own = cluster.clone();
        own.groups
            .iter_mut()
            .for_each(|group| group.layers = layer_times(tape, cluster.model.blocks, 1000.0));
        let Some(plan) = plan_of(tape, &own, &mut free) else { continue };
        own.training.global_batch = u32::try_from(plan.micro_batch_count()).expect("few") * plan.micro_batch;
        jobs.push((own, plan));
    }
    (cluster, jobs)
}

fn link(tape: &mut Tape<'_>) -> LinkModel {
    LinkModel::constant(tape.of(&[1e8, 3e8, 7e7, 1.7e9, 333_333_333.0]), tape.of(&[1e-3, 0.0, 3.3e-5]))
}

fn cluster(tape: &mut Tape<'_>, sharing: Sharing) -> Scenario {
    let shared = sharing == Sharing::Yes;
    let blocks = 1 + tape.below(5);
    let zones = 1 + tape.below(3);
    let mut groups = Vec::new();
    for name in ["a", "b", "c"].iter().take(1 + tape.below(3) as usize) {
        let zone = ["x", "y", "z"][tape.below(zones) as usize];
        let gpus_per_node = if shared { tape.of(&[1, 2, 4]) } else { 1 };
        let mut group = group(name, zone, 1 + tape.below(4), gpus_per_node);
        group.layers = layer_times(tape, blocks, 100.0);
        group.inside = link(tape);
        let nic = if shared { tape.of(&[1e8, 2.5e8, 90_000_001.0, 1e10]) } else { 1e13 };
        group.nic = CapacityProfile::constant(rate(nic));
        groups.push(group);
    }
    let count = groups.len();
    let mut scenario = scenario(groups);
    scenario.model = model(blocks);
    scenario.model.tied_embeddings = tape.yes();
    scenario.node_links = (0..count).map(|_| (0..count).map(|_| link(tape)).collect()).collect();
    for (a, b) in [("x", "y"), ("z", "x"), ("y", "z")] {
        if shared && tape.below(4) < 3 {
            let latency = SimDuration::from_ps(u64::from(tape.below(20)) * 1_000_000_007);
            let zones = (a.to_string(), b.to_string());
            let capacity = capacity(tape);
            scenario.zone_links.push(ZoneLink { name: format!("{a}{b}"), zones, capacity, latency });
        }
    }
    for group in 0..if shared { count } else { 0 } {
        if tape.yes() {
            leaves(tape, &mut scenario, group);
        }
    }
    scenario
}

/// Leaf switches for a group: pods of one to three nodes, with or without rails, some uplinks that change.
fn leaves(tape: &mut Tape<'_>, scenario: &mut Scenario, group: usize) {
    let of = &mut scenario.groups[group];
    let rails = tape.of(&[1, of.gpus_per_node]);
    let leaves = Leaves { first: scenario.leaves.len() as u32, nodes: 1 + tape.below(3), rails };
    of.leaves = Some(leaves);
    let level = rate(tape.of(&[5e7, 1e8, 66_666_667.0, 3e8]));
    let changes = Timeline::steps(vec![(0, level.raw()), (40_000_000, level.raw() / 3)]).expect("in order");
    for leaf in 0..leaves.count(of.nodes) {
        let index = scenario.leaves.len() as u32;
        let name = format!("{}-leaf-{leaf}", of.name);
        if tape.below(6) == 1 {
            scenario.replay.leaves.insert(index, changes.clone());
        }
        scenario.leaves.push(Leaf { name, capacity: CapacityProfile::constant(level) });
    }
}

/// Up to 6,000 parts of a millisecond for a forward or backward pass.
fn layer_times(tape: &mut Tape<'_>, blocks: u32, parts: f64) -> Arc<LayerTimes> {
    let times: Vec<(f64, f64, f64)> = (0..blocks + 2)
        .map(|_| {
            let mut ms = || f64::from(1 + tape.below(6000)) / parts;
            (ms(), ms(), ms() / 10.0)
        })
        .collect();
    table(&[(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)], &times)
}

/// A capacity that changes up to seven times, may be down in between, and is never down for ever.
fn capacity(tape: &mut Tape<'_>) -> CapacityProfile {
    let levels = [1e8, 2.2e8, 77_777_777.0, 1e7, 0.0];
    let (mut time, mut points) = (0, Vec::new());
    for _ in 0..tape.below(8) {
        time += u64::from(1 + tape.below(50_000)) * 3_000_001;
        points.push((at(time), rate(tape.of(&levels))));
    }
    let initial = rate(tape.of(&levels[..4]));
    if tape.yes() {
        return CapacityProfile::wrapping(initial, points, SimDuration::from_ps(time + 5_000_000_001))
            .expect("sorted");
    }
    points.push((at(time + 7_000_000_001), initial));
    CapacityProfile::steps(initial, points).expect("sorted")
}

/// Devices of each node that no stage has yet.
#[derive(Clone)]
struct Free {
    nodes: Vec<Vec<Vec<u32>>>,
}

impl Free {
    fn of(scenario: &Scenario) -> Free {
        let node = |n: u32, per: u32| (n * per..(n + 1) * per).collect();
        let group =
            |g: &sim_models::scenario::NodeGroup| (0..g.nodes).map(|n| node(n, g.gpus_per_node)).collect();
        Free { nodes: scenario.groups.iter().map(group).collect() }
    }

    /// `tp` devices of one node of a group: of the first that has them, from `start` on.
    fn take(&mut self, group: usize, tp: u32, start: usize) -> Option<Vec<u32>> {
        let count = self.nodes[group].len();
        let mut nodes = (0..count).map(|i| (start + i) % count);
        let node = nodes.find(|n| self.nodes[group][*n].len() >= tp as usize)?;
        Some(self.nodes[group][node].drain(..tp as usize).collect())
    }
}

fn plan(tape: &mut Tape<'_>, scenario: &Scenario) -> Plan {
    let mut free = Free::of(scenario);
    plan_of(tape, scenario, &mut free).expect("all devices are free")
}

/// A plan for devices that are free; `None` if there is none.
fn plan_of(tape: &mut Tape<'_>, scenario: &Scenario, free: &mut Free) -> Option<Plan> {
    let mut pipelines = Vec::new();
    for _ in 0..1 + tape.below(3) {
        pipelines.extend(pipeline_group(tape, scenario, free));
    }
    if pipelines.is_empty() {
        // The cluster is too small for what was drawn.
        let layers = LayerRange { first: 0, last: scenario.model.layers() - 1 };
        let (group, device) = (0..scenario.groups.len()).find_map(|g| Some((g, free.take(g, 1, 0)?[0])))?;
        let devices =
            vec![DeviceRange { group: scenario.groups[group].name.clone(), first: device, last: device }];
        let stages = vec![Stage { layers: layers.into(), devices, ..Stage::default() }];
        pipelines.push(PipelineGroup { replicas: 1, micro_batches: 1, stages });
    }
    let plan = Plan {
        micro_batch: 1 + tape.below(2),
        schedule: tape.of(&[
            Schedule::OneFOneB,
            Schedule::GPipe,
            Schedule::ZeroBubble,
            Schedule::Interleaved,
        ]),
        overlap_p2p: tape.yes(),
        pipelines,
        ..Plan::default()
    };
    Some(with_features(tape, plan, scenario.model.layers()))
}

/// The plan with sharding, recomputation, buckets and virtual stages as drawn and as they go together.
fn with_features(tape: &mut Tape<'_>, mut plan: Plan, layers: u32) -> Plan {
    for stage in plan.pipelines.iter_mut().flat_map(|p| &mut p.stages) {
        stage.recompute = tape.of(&[Recompute::None, Recompute::Full]);
    }
    plan.gradient_sync = tape.of(&[GradientSync::AllReduce, GradientSync::ReduceScatter]);
    plan.gradient_bucket = tape.of(&[None, Some(Bytes(40_000)), Some(Bytes(400_000))]);
    plan.overlap_gradients = tape.yes();
    let alike = plan.pipelines.len() == 1 && plan.schedule != Schedule::ZeroBubble;
    plan.zero = tape.of(if alike { &[0, 1, 2, 3] } else { &[0, 1] });
    if plan.schedule == Schedule::ZeroBubble && tape.yes() {
        plan.in_flight = plan.pipelines.iter().map(|p| 2 * p.stages.len() as u32).max();
    }
    if plan.schedule == Schedule::Interleaved {
        let fits = |p: &PipelineGroup| p.stages.len() > 1 && layers >= 2 * p.stages.len() as u32;
        if !plan.pipelines.iter().all(fits) {
            plan.schedule = Schedule::OneFOneB;
            return plan;
        }
        for group in &mut plan.pipelines {
            let stages = group.stages.len() as u32;
            group.micro_batches *= stages;
            // Two chunks a stage, as even as they go.
            let border = |i: u32| i * layers / (2 * stages);
            for (s, stage) in (0..).zip(&mut group.stages) {
                let range = |i| LayerRange { first: border(i), last: border(i + 1) - 1 };
                stage.layers = Layers::of(vec![range(s), range(stages + s)]).expect("two");
            }
        }
    }
    plan
}

/// Alike pipelines, as many as drawn and as the free devices allow; none if they allow none.
fn pipeline_group(tape: &mut Tape<'_>, scenario: &Scenario, free: &mut Free) -> Option<PipelineGroup> {
    let layers = scenario.model.layers();
    let mut cuts: Vec<u32> = (0..tape.below(4)).map(|_| 1 + tape.below(layers - 1)).collect();
    cuts.extend([0, layers]);
    cuts.sort_unstable();
    cuts.dedup();
    let mut stages: Vec<(usize, Stage)> = cuts
        .windows(2)
        .map(|cut| {
            let group = tape.below(scenario.groups.len() as u32);
            let node = scenario.groups[group as usize].gpus_per_node;
            let tp = [1, 2, 4][tape.below(3) as usize].min(node);
            let layers = LayerRange { first: cut[0], last: cut[1] - 1 };
            (group as usize, Stage { layers: layers.into(), tp, ..Stage::default() })
        })
        .collect();
    let (wanted, spread) = (1 + tape.below(6), tape.yes());
    let mut replicas = 0;
    'replicas: while replicas < wanted {
        let before: Vec<usize> = stages.iter().map(|(_, s)| s.devices.len()).collect();
        let free_before = free.clone();
        for s in 0..stages.len() {
            let (group, stage) = &mut stages[s];
            let start = if spread { replicas as usize + s } else { 0 };
            let Some(devices) = free.take(*group, stage.tp, start) else {
                for ((_, stage), n) in stages.iter_mut().zip(before) {
                    stage.devices.truncate(n);
                }
                *free = free_before;
                break 'replicas;
            };
            let name = &scenario.groups[*group].name;
            let range = |i| DeviceRange { group: name.clone(), first: i, last: i };
            stage.devices.extend(devices.into_iter().map(range));
        }
        replicas += 1;
    }
    let stages = stages.into_iter().map(|(_, s)| s).collect();
    (replicas > 0).then(|| PipelineGroup { replicas, micro_batches: 1 + tape.below(6), stages })
}
