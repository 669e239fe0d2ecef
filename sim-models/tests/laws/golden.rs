//! What plans take and send, against the formulas of the papers that propose them.

use crate::round::{MS, group, plan, rate, scenario, table, with_batch_of};
use sim_core::{CapacityProfile, SimDuration};
use sim_models::collective::Nccl;
use sim_models::device::{Device, Format, Roofline};
use sim_models::fold::Folding;
use sim_models::iteration::{Options, simulate};
use sim_models::layer_times::{LayerTimes, OnDevice, Outside};
use sim_models::layout::Layout;
use sim_models::link::LinkModel;
use sim_models::lower::{self, Lowering, SyncKind};
use sim_models::plan::{GradientSync, LayerRange, Layers, Plan, Schedule};
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use sim_models::workload::{Experts, Model, Precision};
use std::sync::Arc;

/// `stages` nodes of one GPU, layers of 4 ms forward and 8 ms backward, no optimizer step, links that take no time to speak of.
fn even(stages: u32, layers: u32) -> Scenario {
    let mut s = scenario(vec![group("a", "z", stages, 1)]);
    s.model = Model { blocks: layers - 2, ..s.model };
    s.groups[0].layers = table(&[(1, 1)], &vec![(4.0, 8.0, 0.0); layers as usize]);
    s.groups[0].nic = CapacityProfile::constant(rate(1e14));
    s.node_links = vec![vec![LinkModel::constant(1e14, 0.0)]];
    s
}

/// One pipeline of so many stages of `per` layers in `chunks` ranges.
fn pipeline(stages: u32, per: u32, chunks: u32, micro_batches: u32, schedule: Schedule) -> Plan {
    let names: Vec<String> = (0..stages).map(|s| format!("a:{s}")).collect();
    let each = per / chunks;
    let mut p = plan(&[(1, micro_batches, &[])]);
    (p.schedule, p.overlap_p2p) = (schedule, true);
    p.pipelines[0].stages = (0..stages)
        .map(|s| {
            let range = |c: u32| {
                let first = (c * stages + s) * each;
                LayerRange { first, last: first + each - 1 }
            };
            sim_models::plan::Stage {
                layers: Layers::of((0..chunks).map(range).collect()).expect("a chunk or more"),
                devices: vec![names[s as usize].parse().expect("a device")],
                ..sim_models::plan::Stage::default()
            }
        })
        .collect();
    p
}

/// Bubble time over ideal time: (p - 1) / m of GPipe and 1F1B and a v-th of it interleaved (arXiv 2104.04473, sections 2.2.1
/// and 2.2.2); of ZB-H1 (p - 1) (f + b - w) / (m (f + b + w)) (arXiv 2401.10241, table 1), here with b = w = f.
#[test]
fn bubbles_of_a_grid_of_sizes() {
    for (p, m, v) in [(1, 1, 1), (2, 4, 1), (4, 8, 1), (4, 8, 2), (4, 12, 3), (8, 16, 2), (3, 9, 4)] {
        let (p64, m64, v64) = (u64::from(p), u64::from(m), u64::from(v));
        let s = even(p, 3 * p * v);
        for schedule in Schedule::ALL {
            if v > 1 && schedule != Schedule::Interleaved {
                continue;
            }
            let pl = pipeline(p, 3 * v, v, m, schedule);
            let time =
                simulate(&with_batch_of(s.clone(), &pl), &pl, &Options::default()).expect("a plan").time;
            // Three layers take 36 ms: 12 forward, 12 for their inputs' gradients, 12 for their weights'.
            let ideal = m64 * v64 * 36;
            let bubble = if schedule == Schedule::ZeroBubble { (p64 - 1) * 12 } else { (p64 - 1) * 36 };
            let want = (ideal + bubble) * MS;
            let off = time.as_ps().abs_diff(want);
            // What 400 kB take at 10^14 B/s, for each transfer on the way.
            assert!(
                off <= 4_100 * (2 * p64 * m64 * v64),
                "{schedule} p {p} m {m} v {v}: {time:?} for {want}"
            );
        }
    }
}

/// Bytes of each kind of synchronisation that one member sends, and of the transfers of one boundary.
fn sent(s: &Scenario, p: &Plan) -> ([u64; 3], u64) {
    let s = with_batch_of(s.clone(), p);
    let layout = Layout::new(&s, p).unwrap_or_else(|f| panic!("{f:#?}"));
    let (fabric, mut lowering) = (lower::Fabric::new(&s), Lowering::new());
    lowering.lower(&s, &fabric, p, &layout, &Folding::of(&layout)).expect("a graph");
    let mut by_kind = [0; 3];
    for sync in &lowering.maps[0].syncs {
        by_kind[sync.kind as usize] += sync.bytes.0;
    }
    let boundaries = lowering.maps[0].boundaries.iter().map(|b| b.bytes.0 * u64::from(b.count)).sum();
    (by_kind, boundaries)
}

/// Volumes of arXiv 1910.02054, section 7, in parameters: data parallelism and ZeRO 1 send 2 (a reduce-scatter and an
/// all-gather, each (n - 1) / n of them), ZeRO 3 sends 3; here ZeRO 2 and 3 send gradients in every micro-batch.
#[test]
fn bytes_of_data_parallelism() {
    let s = scenario(vec![group("a", "z", 4, 1)]);
    // 268,400 parameters of 4 bytes each.
    let whole = (0..4).map(|l| s.model.parameters(l, 1)).sum::<u64>() * 4;
    let base = plan(&[(4, 2, &[("0-3", 1, &["a:0-3"])])]);
    let part = whole * 3 / 4;
    for (zero, gradient_sync, want) in [
        (0, GradientSync::AllReduce, [2 * part, 0, 0]),
        (0, GradientSync::ReduceScatter, [0, part, part]),
        (1, GradientSync::AllReduce, [0, part, part]),
        (2, GradientSync::AllReduce, [0, 2 * part, part]),
        // Forward and backward passes of two micro-batches each gather.
        (3, GradientSync::AllReduce, [0, 2 * part, 4 * part]),
    ] {
        for (gradient_bucket, overlap_gradients) in
            [(None, false), (None, true), (Some(Bytes(100_000)), false), (Some(Bytes(100_000)), true)]
        {
            let p = Plan { zero, gradient_sync, gradient_bucket, overlap_gradients, ..base.clone() };
            let (got, _) = sent(&s, &p);
            // Each piece rounds down.
            for (got, want) in got.into_iter().zip(want) {
                let pieces = 4 * 64;
                assert!(
                    got <= want && want - got <= pieces,
                    "zero {zero} {gradient_bucket:?}: {got} of {want}"
                );
            }
        }
    }
}

/// Each boundary carries micro-batch x sequence x hidden once forward and once back for every micro-batch, and interleaved
/// every chunk's (arXiv 2104.04473, sections 2.2.2 and 3.2).
#[test]
fn bytes_of_pipelines() {
    for (p, v, m) in [(2u32, 1u32, 4u32), (4, 1, 4), (4, 2, 8), (2, 3, 6)] {
        let s = even(p, 3 * p * v);
        let schedule = if v > 1 { Schedule::Interleaved } else { Schedule::OneFOneB };
        let pl = Plan { micro_batch: 1, ..pipeline(p, 3 * v, v, m, schedule) };
        let (_, got) = sent(&s, &pl);
        let activation = 1000 * 100 * 4;
        assert_eq!(got, 2 * u64::from(m) * u64::from(p * v - 1) * activation, "p {p} v {v} m {m}");
    }
}

/// A model with experts on a roofline, on nodes of `per_node` GPUs.
fn with_experts(nodes: u32, per_node: u32) -> Scenario {
    let experts = Experts {
        count: 8,
        top_k: 2,
        ffn_hidden: 4096,
        shared_ffn: 0,
        dense_blocks: 0,
        node_limit: None,
        imbalance: 1.0,
        capacity: None,
    };
    let model = Model { experts: Some(experts), ..Model::llama("moe", 2, 4096, 32, 4096, 1024) };
    let mut s = scenario(vec![group("a", "z", nodes, per_node)]);
    s.training.precision = Precision::Bf16;
    s.training.gradient_bytes = 2;
    s.groups[0].inside = LinkModel::constant(2e11, 3e-6);
    let gpu = s.groups[0].gpu.clone();
    s.groups[0].layers = Arc::new(LayerTimes::modelled(OnDevice {
        device: Device::Roofline(Roofline::from_catalogue(&gpu)),
        model: model.clone(),
        format: Format::Bf16,
        nccl: Nccl::of(&gpu, per_node).ok(),
        inside: LinkModel::constant(2e11, 3e-6),
        outside: Some(Outside { link: LinkModel::constant(2e10, 1e-5), share: 5e9 }),
    }));
    s.model = model;
    s
}

/// Experts are synchronised among those that hold the same ones, everything else among all.
#[test]
fn bytes_of_experts() {
    let s = with_experts(2, 4);
    let layers = 0..4u32;
    let dense = layers.clone().map(|l| s.model.dense_parameters(l, 1)).sum::<u64>() * 2;
    for (ep, replicas_of_an_expert) in [(1u32, 8u64), (2, 4), (4, 2), (8, 1)] {
        let mut p = plan(&[(8, 1, &[("0-3", 1, &["a:0-7"])])]);
        p.pipelines[0].stages[0].ep = ep;
        let own = layers.clone().map(|l| s.model.expert_parameters(l, 1, ep)).sum::<u64>() * 2;
        let around = |bytes: u64, n: u64| bytes * 2 * (n - 1) / n;
        let want = if ep == 1 {
            around(dense + own, 8)
        } else {
            around(dense, 8) + around(own, replicas_of_an_expert)
        };
        let ([all_reduced, ..], _) = sent(&s, &p);
        assert!(all_reduced.abs_diff(want) < 8, "ep {ep}: {all_reduced} for {want}");
    }
}

/// More of a kind of parallelism never makes a pass do more: tensor, context and expert parallelism share out its work.
#[test]
fn sharing_out_a_layer_makes_it_shorter() {
    let s = with_experts(1, 8);
    let time = |tp: u32, cp: u32, ep: u32, micro_batches: u32, replicas: u32| {
        let mut p = plan(&[(replicas, micro_batches, &[("0-3", tp, &["a:0-7"])])]);
        p.micro_batch = 8;
        (p.pipelines[0].stages[0].cp, p.pipelines[0].stages[0].ep) = (cp, ep);
        p.pipelines[0].stages[0].devices =
            vec![format!("a:0-{}", tp * cp * replicas - 1).parse().expect("devices")];
        let s = with_batch_of(s.clone(), &p);
        simulate(&s, &p, &Options::default()).unwrap_or_else(|e| panic!("{e}")).time
    };
    let one = time(1, 1, 1, 1, 1);
    assert!(time(2, 1, 1, 1, 1) < one && time(4, 1, 1, 1, 1) < time(2, 1, 1, 1, 1));
    assert!(time(1, 2, 1, 1, 1) < one && time(1, 4, 1, 1, 1) < time(1, 2, 1, 1, 1));
    // The exchange of tokens costs time, and larger products of fewer experts save some.
    assert!(time(1, 1, 4, 1, 4) < SimDuration::from_ps(2 * one.as_ps()));
}

/// ZeRO by hand: one stage of 100 ms on each of two nodes, 268,400 parameters in 32 bits, links of 10^8 B/s after 1 ms.
#[test]
fn sharded_updates_by_hand() {
    let s = scenario(vec![group("a", "z", 2, 1)]);
    let base = plan(&[(2, 1, &[("0-3", 1, &["a:0-1"])])]);
    // A reduce-scatter or an all-gather of 1,073,600 bytes among two: 536,800 bytes after a step of 1 ms: 6.368 ms.
    let step = MS + 5_368_000_000;
    for (what, p, want) in [
        // Passes, the scatter, half of the step of 3 ms, the gather.
        ("zero 1", Plan { zero: 1, ..base.clone() }, 100 * MS + step + 1_500_000_000 + step),
        ("zero 2", Plan { zero: 2, ..base.clone() }, 100 * MS + step + 1_500_000_000 + step),
        (
            "in two",
            Plan { gradient_sync: GradientSync::ReduceScatter, ..base.clone() },
            100 * MS + 2 * step + 3 * MS,
        ),
        // Beside the backward pass: gradients of layer 3 after 40 + 25 ms, and so on; those of layer 0 come last, 51,200 B.
        (
            "layer by layer",
            Plan { gradient_bucket: Some(Bytes(1)), overlap_gradients: true, ..base.clone() },
            100 * MS + 2 * MS + 512_000_000 + 3 * MS,
        ),
        // The scatter of layer 0 is felt, and all four gathers are.
        (
            "gathered after the step",
            Plan {
                zero: 1,
                gradient_bucket: Some(Bytes(1)),
                overlap_gradients: true,
                gather_after_step: true,
                ..base.clone()
            },
            100 * MS + MS + 256_000_000 + 1_500_000_000 + 4 * MS + 5_368_000_000,
        ),
    ] {
        let time = simulate(&with_batch_of(s.clone(), &p), &p, &Options::default()).expect("a plan").time;
        assert_eq!(time, SimDuration::from_ps(want), "{what}");
    }
    // Half slower beside communication: backward passes of 25, 15, 12 and 8 ms are longer by half of 2.52, 6.852, 6.852, 2.512.
    let p = Plan { gradient_bucket: Some(Bytes(1)), overlap_gradients: true, ..base.clone() };
    let mut slow = with_batch_of(s.clone(), &p);
    slow.training.overheads.slowdown = 0.5;
    let time = simulate(&slow, &p, &Options::default()).expect("a plan").time;
    assert_eq!(time, SimDuration::from_ps(100 * MS + 9_368_000_000 + 2_512_000_000 + 3 * MS));
    // A quarter of a step of 3 ms that both replicas do in full, the rest shared out: 0.75 + 1.125 ms, for 1.5.
    let p = Plan { zero: 1, gradient_bucket: Some(Bytes(1)), overlap_gradients: true, ..base.clone() };
    let time = |unshared_step| {
        let mut s = with_batch_of(s.clone(), &p);
        s.training.overheads.unshared_step = unshared_step;
        simulate(&s, &p, &Options::default()).expect("a plan").time.as_ps()
    };
    assert_eq!(time(0.25) - time(0.0), 375_000_000);
    // Parameters gathered layer by layer: the first gather is felt, the others come while passes run; gradients of layer 0
    // are scattered last.
    let p = Plan { zero: 3, ..base };
    let time = simulate(&with_batch_of(s.clone(), &p), &p, &Options::default()).expect("a plan").time;
    let of = |l: u32| MS + s.model.parameters(l, 1) * 4 / 2 * 10_000;
    let least = of(0) + 100 * MS + of(0) + 1_500_000_000;
    assert!(time.as_ps() >= least && time.as_ps() < least + 5 * MS, "{time:?} for {least}");
    assert_eq!(SyncKind::AllGather.to_string(), "all-gather");
}
