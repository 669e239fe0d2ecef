//! Tensor, context and expert parallelism between nodes: flows that take what links have for them.

use crate::random::{Sharing, Tape, spread_case};
use crate::round::{at, group, plan, rate, scenario, with_batch_of};
use proptest::prelude::*;
use sim_core::{CapacityProfile, SimDuration, SimTime};
use sim_models::device::{Device, Format, Roofline};
use sim_models::explain::{Explanation, Limit, Link, Step, explain, faster};
use sim_models::fold::Folding;
use sim_models::iteration::{DeviceReport, Options, Simulator, simulate};
use sim_models::jobs::{JobPlan, simulate_jobs};
use sim_models::layer_times::{Exchange, LayerTimes, OnDevice, Outside};
use sim_models::layout::Layout;
use sim_models::link::LinkModel;
use sim_models::lower::Fabric;
use sim_models::plan::{Plan, Recompute};
use sim_models::scenario::{NodeGroup, NodeId, Scenario, ZoneLink};
use sim_models::timeline::Timeline;
use sim_models::workload::{Experts, Model};
use std::sync::Arc;

fn tape() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 0..320)
}

/// The layout, and the same with what layers send between nodes taken as a part of their passes.
fn layouts(scenario: &Scenario, plan: &Plan) -> [Layout; 2] {
    let layout = Layout::new(scenario, plan).unwrap_or_else(|f| panic!("{f:#?}"));
    let mut closed = layout.clone();
    closed.ranks.iter_mut().for_each(|r| r.crossings.clear());
    [layout, closed]
}

fn time_of(scenario: &Scenario, plan: &Plan, layout: &Layout) -> SimTime {
    let fabric = Fabric::new(scenario);
    let mut simulator = Simulator::new(scenario, &fabric);
    simulator.run(plan, layout, &Folding::of(layout), SimTime::ZERO, None).expect("it ends").end
}

fn explained(scenario: &Scenario, plan: &Plan, layout: &Layout, options: &Options) -> Explanation {
    explain(scenario, &Fabric::new(scenario), plan, layout, options).expect("it ends")
}

/// Bytes that one exchange of an iteration puts on NICs and on links between zones: from the plan, and what its layers say.
fn implied(scenario: &Scenario, layout: &Layout) -> (u128, u128) {
    let (mut nics, mut zones) = (0u128, 0u128);
    let zone = |n: NodeId| &scenario.groups[n.group as usize].zone;
    for (p, pipeline) in layout.pipelines.iter().enumerate() {
        let own: Vec<usize> =
            (0..layout.pipelines.len()).filter(|q| layout.pipelines[*q].group == pipeline.group).collect();
        for (s, r) in pipeline.stages.clone().enumerate() {
            let rank = &layout.ranks[r];
            let nodes: Vec<NodeId> = rank.devices.iter().map(|d| scenario.node(*d)).collect();
            let (tp, cp, ep) = (rank.tp as usize, rank.cp as usize, rank.ep as usize);
            let mut hops = [0u128; 3];
            for group in nodes.chunks(tp) {
                let mut seen = group.to_vec();
                seen.sort_unstable();
                seen.dedup();
                hops[0] += if seen.len() > 1 { seen.len() as u128 } else { 0 };
            }
            for t in 0..tp {
                let ring: Vec<NodeId> = (0..cp).map(|c| nodes[c * tp + t]).collect();
                hops[1] += (0..cp).filter(|c| ring[*c] != ring[(c + 1) % cp]).count() as u128;
            }
            // The experts' group: this replica's devices and those of its neighbours.
            let stage: Vec<NodeId> = own
                .iter()
                .flat_map(|q| &layout.ranks[layout.pipelines[*q].stages.start + s].devices)
                .map(|d| scenario.node(*d))
                .collect();
            let first = own.iter().position(|q| *q == p).expect("it is one of them") * rank.devices.len();
            let mut crossing = 0u128;
            for i in first..first + rank.devices.len() {
                for other in &stage[i / ep * ep..i / ep * ep + ep] {
                    hops[2] += u128::from(*other != stage[i]);
                    let joined = zone(*other) != zone(stage[i])
                        && scenario.zone_link(zone(*other), zone(stage[i])).is_some();
                    crossing += u128::from(joined);
                }
            }
            for layers in rank.layers.chunks() {
                let sent = rank.times.sent(*layers);
                let mut passes = vec![sent.forward, sent.backward];
                if rank.recompute == Recompute::Full {
                    let last = scenario.model.layers() - 2;
                    let inner = layers.iter().filter(|l| (1..=last).contains(l));
                    passes.extend(inner.map(|l| {
                        rank.times.sent(sim_models::plan::LayerRange { first: l, last: l }).forward
                    }));
                }
                for pass in passes {
                    let bytes = pass.sent.map(|s| u128::from(s.bytes) * u128::from(pipeline.micro_batches));
                    nics += bytes.iter().zip(hops).map(|(b, h)| b * h).sum::<u128>();
                    zones += bytes[2] * crossing;
                }
            }
        }
    }
    (nics, zones)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Alone on their links they take to the picosecond what the layers' times say.
    #[test]
    fn idle_links_change_nothing(tape in tape()) {
        let (mut scenario, plan) = spread_case(&mut Tape::new(&tape), Sharing::No);
        // Room for all that a node sends at once.
        scenario.groups.iter_mut().for_each(|g| g.nic = g.nic.scaled(20, 1).expect("in range"));
        let [open, closed] = layouts(&scenario, &plan);
        prop_assert_eq!(time_of(&scenario, &plan, &open), time_of(&scenario, &plan, &closed));
    }

    #[test]
    fn folding_changes_no_time(tape in tape(), start in 0u64..1_000_000_000_000) {
        let (scenario, plan) = spread_case(&mut Tape::new(&tape), Sharing::Yes);
        let run = |fold| simulate(&scenario, &plan, &Options { at: at(start), fold }).expect("it ends");
        let (folded, whole) = (run(true), run(false));
        prop_assert_eq!(folded.time, whole.time);
        for device in &folded.devices {
            let same = whole.devices.iter().find(|d| d.id == device.id).expect("it is in the plan");
            prop_assert_eq!(device, &DeviceReport { count: device.count, ..same.clone() });
        }
    }

    #[test]
    fn parts_add_up_and_bytes_are_those_of_the_plan(tape in tape(), start in 0u64..1_000_000_000_000) {
        let (mut scenario, plan) = spread_case(&mut Tape::new(&tape), Sharing::Yes);
        // A dollar for 10^12 bytes over any link between zones: 10^-12 dollars each.
        scenario.cost.gigabyte = vec![1_000; scenario.zone_links.len()];
        let layouts = layouts(&scenario, &plan);
        let sums = layouts.each_ref().map(|layout| {
            let [folded, whole] = [true, false].map(|fold| {
                let e = explained(&scenario, &plan, layout, &Options { at: at(start), fold });
                let time = e.time.as_ps();
                assert_eq!(e.path.parts.iter().map(|p| p.time.as_ps()).sum::<u64>(), time);
                assert!(e.stages.iter().all(|s| s.parts.total() == time), "{:?}", e.stages);
                for part in &e.path.parts {
                    let inner = part.held.values().fold(part.latency, |sum, t| sum.saturating_add(*t));
                    let sends = !matches!(part.step, Step::Pass { .. } | Step::Update { .. });
                    assert_eq!(inner, if sends { part.time } else { SimDuration::ZERO }, "{part:?}");
                }
                e
            });
            let rows = |e: &Explanation| e.stages.iter().map(|s| (s.stage, s.group, s.count, s.parts)).collect::<Vec<_>>();
            assert_eq!(rows(&folded), rows(&whole));
            for ((link, a), (_, b)) in folded.every_link.iter().zip(whole.every_link.iter()) {
                assert_eq!(&folded.links[*a].loads, &whole.links[*b].loads, "{link:?}");
            }
            let fabric = Fabric::new(&scenario);
            let mut sums = [0u128; 5];
            for (link, report) in whole.every_link.iter() {
                sums[match link {
                    Link::Nic { out, .. } => usize::from(*out),
                    Link::Zone { .. } => 2,
                    Link::Leaf { up, .. } => 3 + usize::from(*up),
                }] += u128::from(whole.links[*report].bytes);
            }
            faster(&scenario, &fabric, &plan, layout, at(start), whole.time).expect("it ends");
            sums
        });
        let [inward, outward, zones, down, up] = std::array::from_fn(|i| sums[0][i] - sums[1][i]);
        for fold in [true, false] {
            let iteration = simulate(&scenario, &plan, &Options { at: at(start), fold }).expect("it ends");
            prop_assert_eq!(u128::from(iteration.traffic), sums[0][2], "bytes priced, bytes sent");
        }
        let (want, want_zones) = implied(&scenario, &layouts[0]);
        // A part of a byte for each of a leaf's parts.
        let near = |bytes: u128, want: u128| bytes >= want && (bytes - want) * 1_000 <= want;
        prop_assert!(near(outward, want) && near(inward, want), "{outward} {inward} for {want}");
        prop_assert!(near(zones, want_zones), "{zones} for {want_zones}");
        prop_assert!(up <= outward && down <= outward, "{up} {down} of {outward}");
    }

    /// More bandwidth between nodes never makes an iteration longer that shares no link.
    #[test]
    fn more_bandwidth_is_never_slower(tape in tape(), factor in 2u64..5) {
        let (scenario, plan) = spread_case(&mut Tape::new(&tape), Sharing::No);
        let slow = |by: u64| {
            let mut s = scenario.clone();
            for group in &mut s.groups {
                group.nic = group.nic.scaled(1, 1000 * by).expect("in range");
            }
            simulate(&s, &plan, &Options::default()).expect("it ends").time
        };
        prop_assert!(slow(1) <= slow(factor));
    }
}

/// The laws above would be empty if nothing were sent, folded, hidden, over leaves and zones.
#[test]
fn random_cases_reach_what_matters() {
    let (mut state, mut counts) = (1u32, [0; 8]);
    for _ in 0..600 {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u16
        };
        let tape: Vec<u16> = (0..320).map(|_| next()).collect();
        let (scenario, plan) = spread_case(&mut Tape::new(&tape), Sharing::Yes);
        let [layout, closed] = layouts(&scenario, &plan);
        let crossings: Vec<_> = layout.ranks.iter().flat_map(|r| &r.crossings).collect();
        let has = |e: Exchange| crossings.iter().any(|c| c.exchange == e);
        let sends = !crossings.is_empty();
        let reached = [
            has(Exchange::Tensor),
            has(Exchange::Context),
            has(Exchange::Expert),
            crossings.iter().flat_map(|c| &c.ends).any(|e| e.up > 0),
            sends && Folding::of(&layout).is_folded(),
            sends && plan.overlap_tp,
            sends && plan.zero > 1,
            sends && time_of(&scenario, &plan, &layout) != time_of(&scenario, &plan, &closed),
        ];
        counts.iter_mut().zip(reached).for_each(|(count, yes)| *count += u32::from(yes));
    }
    assert!(
        counts.iter().all(|n| *n > 10),
        "tensor, context, expert, leaves, folded, overlapped, sharded, not as alone: {counts:?}"
    );
}

/// Tensor parallelism over two nodes of so many GPUs with NICs of 10^10 B/s, each GPU with all of its node's.
fn two_nodes(gpus: u32) -> (Scenario, Plan) {
    let mut s = scenario(vec![group("a", "z", 2, gpus)]);
    s.model = Model::gpt("wide", 2, 4096, 32, 1024, 1024);
    s.groups[0].nic = CapacityProfile::constant(rate(1e10));
    let link = LinkModel::constant(1e10, 1e-5);
    s.node_links = vec![vec![link.clone()]];
    s.groups[0].layers = Arc::new(LayerTimes::modelled(OnDevice {
        device: Device::Roofline(Roofline::from_catalogue(&s.groups[0].gpu)),
        model: s.model.clone(),
        format: Format::Fp32,
        nccl: None,
        inside: LinkModel::constant(1e11, 0.0),
        outside: Some(Outside { link, share: 1e10 }),
    }));
    let devices = ["a:0", if gpus == 1 { "a:1" } else { "a:2" }];
    let mut p = plan(&[(1, 3, &[("0-3", 2, &devices)])]);
    p.micro_batch = 4;
    (with_batch_of(s, &p), p)
}

/// What is under way between the nodes in an iteration, and what of that is felt.
fn under_way(s: &Scenario, p: &Plan) -> (u64, u64) {
    let layout = Layout::new(s, p).expect("a plan");
    let sent = layout.ranks[0].times.sent(layout.ranks[0].layers.chunks()[0]);
    let of = |f: &dyn Fn(&sim_models::layer_times::PassSent) -> SimDuration| {
        3 * (f(&sent.forward).as_ps() + f(&sent.backward).as_ps())
    };
    (of(&|p| p.time()), of(&|p| p.felt))
}

/// NICs of a quarter of the rate from the start on: every byte takes four times as long, and the links that hold them are named.
#[test]
fn a_slow_nic_is_waited_for() {
    let (s, p) = two_nodes(1);
    let idle = simulate(&s, &p, &Options::default()).expect("it ends");
    let (sent, felt) = under_way(&s, &p);
    // Layers of this size hide next to nothing.
    assert!(felt > sent / 10 * 9, "{felt} of {sent}");
    let mut slow = s.clone();
    for index in 0..2 {
        let quarter = Timeline::constant(rate(2.5e9).raw());
        slow.replay.nics.insert(NodeId { group: 0, index }, quarter);
    }
    let held = simulate(&slow, &p, &Options::default()).expect("it ends");
    let longer = held.time.as_ps() - idle.time.as_ps();
    assert!(longer.abs_diff(3 * sent) < 100, "{longer} for {}", 3 * sent);
    let exposed = |i: &sim_models::iteration::Iteration| i.devices[0].exposed_tp_s;
    assert!((exposed(&held) - exposed(&idle) - longer as f64 / 1e12).abs() < 1e-9);
    assert!((idle.devices[0].busy_s - held.devices[0].busy_s).abs() < 1e-9, "it computes as long");
    let layout = Layout::new(&slow, &p).expect("a plan");
    let e = explained(&slow, &p, &layout, &Options::default());
    let part =
        e.path.parts.iter().find(|p| matches!(p.step, Step::Exchange { exchange: Exchange::Tensor, .. }));
    let part = part.expect("it is on the path");
    assert_eq!((part.count, part.time.as_ps().abs_diff(4 * sent) < 100), (6, true), "{part:?}");
    assert!(part.held.keys().all(|by| matches!(by, Limit::Link(Link::Nic { .. }))), "{part:?}");
    // Beside kernels there is room for some of it.
    let beside = Plan { overlap_tp: true, ..p.clone() };
    let [alone, held] = [&s, &slow].map(|s| simulate(s, &beside, &Options::default()).expect("it ends").time);
    assert!(alone <= idle.time && held.as_ps() < alone.as_ps() + 3 * sent && held > alone);
}

/// Two jobs on the same NICs: what both send takes twice as long.
#[test]
fn jobs_share_what_their_layers_send_over() {
    let (s, p) = two_nodes(2);
    let mut q = p.clone();
    q.pipelines[0].stages[0].devices =
        vec!["a:1".parse().expect("a device"), "a:3".parse().expect("a device")];
    let alone = simulate(&s, &p, &Options::default()).expect("it ends").time.as_ps();
    let job = |plan| JobPlan { scenario: &s, plan, start: SimDuration::ZERO };
    let together = simulate_jobs(&s, &[job(&p), job(&q)], &Options::default()).expect("they end");
    let (sent, _) = under_way(&s, &p);
    for iteration in &together.jobs {
        let longer = iteration.time.as_ps() - alone;
        assert!(longer.abs_diff(sent) < 100, "{longer} for {sent}");
    }
}

/// Sequences cut over nodes 0 and 1, 2 and 0, 1 and 2, and one within a node of another group: the ring of gradients leaves and
/// reaches node 0 twice, the others once, so that no two of these pipelines stand for each other.
#[test]
fn replicas_over_nodes_in_a_ring() {
    let (mut s, _) = two_nodes(2);
    let link = s.node_links[0][0].clone();
    s.groups[0].nodes = 3;
    s.groups.push(NodeGroup { name: "c".into(), nodes: 1, ..s.groups[0].clone() });
    s.node_links = vec![vec![link; 2]; 2];
    let ring = ["a:0", "a:2", "a:4", "a:1", "a:3", "a:5"];
    let mut p = plan(&[(3, 1, &[("0-3", 1, &ring)]), (1, 1, &[("0-3", 1, &["c:0-1"])])]);
    p.pipelines.iter_mut().for_each(|group| group.stages[0].cp = 2);
    let s = with_batch_of(s, &p);
    let layout = Layout::new(&s, &p).expect("a plan");
    let [folded, whole] =
        [true, false].map(|fold| explained(&s, &p, &layout, &Options { fold, ..Options::default() }));
    for ((link, a), (_, b)) in folded.every_link.iter().zip(whole.every_link.iter()) {
        assert_eq!(folded.links[*a].loads, whole.links[*b].loads, "{link:?}");
    }
    let sent = |index: u32| {
        let own = Link::Nic { node: NodeId { group: 0, index }, out: true };
        let (_, report) = folded.every_link.iter().find(|(link, _)| *link == own).expect("there is one");
        folded.links[*report].bytes
    };
    assert!(sent(0) > sent(1) && sent(1) == sent(2), "{:?}", [0, 1, 2].map(sent));
}

/// Eight experts in every block, in layers modelled anew.
fn with_experts(s: &mut Scenario) {
    s.model.experts = Some(Experts {
        count: 8,
        top_k: 2,
        ffn_hidden: 1024,
        shared_ffn: 0,
        dense_blocks: 0,
        node_limit: None,
        imbalance: 1.0,
        capacity: None,
    });
    let link = s.node_links[0][0].clone();
    for group in &mut s.groups {
        group.layers = Arc::new(LayerTimes::modelled(OnDevice {
            device: Device::Roofline(Roofline::from_catalogue(&group.gpu)),
            model: s.model.clone(),
            format: Format::Fp32,
            nccl: None,
            inside: LinkModel::constant(1e11, 0.0),
            outside: Some(Outside { link: link.clone(), share: 2.5e9 }),
        }));
    }
}

/// Experts shared out over two of four devices: there are two of each, and their gradients are summed although the pipeline is the
/// only one. Over all four there is one of each, and nothing to sum.
#[test]
fn experts_of_one_pipeline_may_have_copies() {
    let (mut s, _) = two_nodes(4);
    with_experts(&mut s);
    let mut p = plan(&[(1, 2, &[("0-3", 4, &["a:0-3"])])]);
    let s = with_batch_of(s, &p);
    let mut synced = |ep: u32| {
        p.pipelines[0].stages[0].ep = ep;
        let layout = Layout::new(&s, &p).expect("a plan");
        let parts = explained(&s, &p, &layout, &Options::default()).path.parts;
        let sums = parts.iter().filter(|part| matches!(part.step, Step::Sync { .. }));
        sums.map(|part| part.time.as_ps()).sum::<u64>()
    };
    // A ring of two sends all that each has once.
    let bytes = 2 * s.model.expert_parameters(1, 4, 2) * s.training.gradient_bytes;
    let rate = s.groups[0].inside.best_rate(1);
    assert!(synced(2).abs_diff((bytes as f64 / rate * 1e12) as u64) < 100);
    assert_eq!((synced(4), synced(1)), (0, 0));
}

/// Experts in two zones: what goes from one to the other takes the link between them, folded or not.
#[test]
fn experts_in_two_zones() {
    let (mut s, _) = two_nodes(4);
    let one = s.groups[0].clone();
    s.groups = ["east", "west"]
        .map(|zone| NodeGroup { name: zone.into(), zone: zone.into(), nodes: 1, ..one.clone() })
        .into();
    let link = s.node_links[0][0].clone();
    s.node_links = vec![vec![link.clone(); 2]; 2];
    with_experts(&mut s);
    s.zone_links.push(ZoneLink {
        name: "wan".into(),
        zones: ("west".into(), "east".into()),
        capacity: CapacityProfile::constant(rate(1e9)),
        latency: SimDuration::ZERO,
    });
    let mut p = plan(&[(8, 2, &[("0-3", 1, &["east:0-3", "west:0-3"])])]);
    p.pipelines[0].stages[0].ep = 8;
    let s = with_batch_of(s, &p);
    let layout = Layout::new(&s, &p).expect("a plan");
    let sent = layout.ranks[0].times.sent(layout.ranks[0].layers.chunks()[0]);
    let bytes = 2 * (sent.forward.sent[2].bytes + sent.backward.sent[2].bytes);
    let carried = |fold: bool, layout: &Layout| {
        let e = explained(&s, &p, layout, &Options { fold, ..Options::default() });
        let of = |forward| {
            let link = e.every_link.iter().find(|(l, _)| *l == Link::Zone { link: 0, forward });
            e.links[link.expect("there is one").1].bytes
        };
        (e.time, of(true), of(false))
    };
    let [_, closed] = layouts(&s, &p);
    let (whole, without) = (carried(false, &layout), carried(false, &closed));
    // From each of four devices to each of four, both ways.
    assert_eq!([whole.1 - without.1, whole.2 - without.2], [16 * bytes; 2]);
    assert_eq!(whole, carried(true, &layout));
    assert!(whole.0 > without.0, "the link is narrower than the NICs");
    // Two cents a gigabyte: 20 x 10^-12 dollars a byte.
    let mut priced = s.clone();
    priced.cost.gigabyte = vec![20_000];
    let iteration = simulate(&priced, &p, &Options::default()).expect("it ends");
    assert_eq!(iteration.traffic, 20 * (whole.1 + whole.2));
}
