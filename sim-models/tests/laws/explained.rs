//! What an explanation promises: parts that add up to the picosecond, bytes that the plan implies, folded as unfolded.

use crate::random::{Sharing, Tape, case};
use crate::round::{MS, at, group, plan, scenario, steps, two_zones, with_batch_of};
use proptest::prelude::*;
use sim_core::SimDuration;
use sim_models::explain::{Explanation, Faster, Limit, Link, Step, What, explain, faster};
use sim_models::iteration::{Options, simulate};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::{Plan, Schedule};
use sim_models::replay::FULL_SPEED;
use sim_models::scenario::{DeviceId, NodeId, Scenario};
use sim_models::schedule::PassKind;
use sim_models::timeline::Timeline;
use sim_models::units::Bytes;

fn run(scenario: &Scenario, plan: &Plan, start: u64, fold: bool) -> (Explanation, Vec<Faster>) {
    let fabric = Fabric::new(scenario);
    let layout = Layout::new(scenario, plan).expect("a plan");
    let options = Options { at: at(start), fold };
    let explanation = explain(scenario, &fabric, plan, &layout, &options).expect("it ends");
    let list = faster(scenario, &fabric, plan, &layout, options.at, explanation.time).expect("it ends");
    (explanation, list)
}

/// Bytes that leave nodes, and that go over links between zones, in an iteration: from the plan alone.
fn implied(scenario: &Scenario, plan: &Plan, layout: &Layout) -> (u128, u128) {
    let (mut nics, mut zones) = (0, 0);
    let mut hop = |from: NodeId, to: NodeId, bytes: u128| {
        let zone = |n: NodeId| &scenario.groups[n.group as usize].zone;
        if from != to {
            nics += bytes;
            let joined = zone(from) != zone(to) && scenario.zone_link(zone(from), zone(to)).is_some();
            zones += if joined { bytes } else { 0 };
        }
    };
    let (model, training) = (&scenario.model, &scenario.training);
    let activation = u128::from(model.boundary_bytes(training.precision).0) * u128::from(plan.micro_batch);
    for pipeline in &layout.pipelines {
        let ranks = &layout.ranks[pipeline.stages.clone()];
        // With chunks, from each to the next, and from the last stage back to the first but after the last chunk.
        let chunks = ranks[0].layers.chunks().len() as u128;
        let back = ranks.last().zip(ranks.first()).map(|(last, first)| (last, first, chunks - 1));
        let pairs = ranks.windows(2).map(|pair| (&pair[0], &pair[1], chunks)).chain(back);
        for (from, to, times) in pairs {
            let all = activation * u128::from(pipeline.micro_batches) * times;
            hop(from.node(), to.node(), all);
            hop(to.node(), from.node(), all);
        }
    }
    // A ring reduce-scatter or all-gather sends (n - 1) / n of its bytes over each of its hops.
    let mut ring = |ranks: &[usize], bytes: u64| {
        let n = ranks.len() as u128;
        for (i, from) in ranks.iter().enumerate() {
            let to = ranks[(i + 1) % ranks.len()];
            hop(layout.ranks[*from].node(), layout.ranks[to].node(), u128::from(bytes) * (n - 1) / n);
        }
    };
    for sync in &layout.syncs {
        let of = |tp: u32| sync.layers.iter().map(|l| model.parameters(l, tp) * u64::from(tp)).sum::<u64>();
        let most = sync.ranks.iter().map(|r| of(layout.ranks[*r].tp)).max().expect("several ranks");
        let (gradients, parameters) = (training.gradient_bytes, training.precision.activation_bytes());
        let passes = u64::from(layout.pipelines[layout.ranks[sync.ranks[0]].pipeline].micro_batches);
        // Gradients are scattered and gathered; sharded, scattered, once or after every backward pass, and the parameters
        // gathered, once or before every pass.
        let each = match plan.zero {
            0 => 2 * gradients,
            1 => gradients + parameters,
            2 => passes * gradients + parameters,
            _ => passes * (gradients + 2 * parameters),
        };
        ring(&sync.ranks, most * each);
    }
    for pipeline in layout.pipelines.iter().filter(|p| model.tied_embeddings && p.stages.len() > 1) {
        let ends = [pipeline.stages.start, pipeline.stages.end - 1];
        let tp = ends.map(|r| layout.ranks[r].tp).into_iter().max().expect("two");
        ring(&ends, 2 * model.padded_vocab(tp) * model.hidden * training.gradient_bytes);
    }
    (nics, zones)
}

/// What one way of a link carried, by its load over time.
fn carried(explanation: &Explanation, link: usize) -> f64 {
    let loads = &explanation.links[link].loads;
    let end = at(explanation.time.as_ps());
    let ends = loads.iter().skip(1).map(|l| l.from).chain([end]);
    loads
        .iter()
        .zip(ends)
        .map(|(l, to)| l.used.as_bytes_per_s() * to.saturating_since(l.from).as_secs_f64())
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn parts_add_up_and_bytes_are_those_of_the_plan(
        tape in prop::collection::vec(any::<u16>(), 0..220), start in 0u64..1_000_000_000_000,
    ) {
        let (scenario, plan) = case(&mut Tape::new(&tape), Sharing::Yes);
        let time = simulate(&scenario, &plan, &Options { at: at(start), fold: true }).expect("it ends").time;
        let layout = Layout::new(&scenario, &plan).expect("it ran");
        let devices: u64 = layout.ranks.iter().map(|r| r.devices.len() as u64).sum();
        let transfers: u64 = layout.pipelines.iter()
            .map(|p| 40 * u64::from(p.micro_batches) * p.stages.len() as u64).sum::<u64>() + 40;
        let (folded, folded_faster) = run(&scenario, &plan, start, true);
        let (whole, whole_faster) = run(&scenario, &plan, start, false);
        for e in [&folded, &whole] {
            prop_assert_eq!(e.time, time);
            // The path, and inside it each transfer.
            prop_assert_eq!(e.path.parts.iter().map(|p| p.time.as_ps()).sum::<u64>(), time.as_ps());
            prop_assert_eq!(e.path.parts.iter().map(|p| p.count).sum::<u64>(), e.path.tasks);
            for part in &e.path.parts {
                let inner = part.held.values().fold(part.latency, |sum, t| sum.saturating_add(*t));
                match part.step {
                    Step::Transfer { .. } | Step::Sync { .. } | Step::Exchange { .. } => {
                        prop_assert_eq!(inner, part.time);
                    }
                    Step::Pass { .. } | Step::Update { .. } => prop_assert_eq!(inner, SimDuration::ZERO),
                }
            }
            // The stages.
            for stage in &e.stages {
                prop_assert_eq!(stage.parts.total(), time.as_ps(), "{:?}", stage);
            }
            prop_assert_eq!(e.stages.iter().map(|s| s.devices).sum::<u64>(), devices);
            prop_assert_eq!(e.overall().total(), u128::from(time.as_ps()) * u128::from(devices));
            // The links.
            let (mut nics_out, mut nics_in, mut zones, mut leaves) = (0, 0, 0, [0; 2]);
            for (link, report) in e.every_link.iter() {
                let bytes = u128::from(e.links[*report].bytes);
                match link {
                    Link::Nic { out: true, .. } => nics_out += bytes,
                    Link::Nic { out: false, .. } => nics_in += bytes,
                    Link::Zone { .. } => zones += bytes,
                    Link::Leaf { up, .. } => leaves[usize::from(*up)] += bytes,
                }
                let off = (carried(e, *report) - bytes as f64).abs();
                prop_assert!(off < 1e-9 * bytes as f64 + 0.02 * transfers as f64, "{off} B off of {bytes}");
                prop_assert!(e.links[*report].peak_utilisation <= 1.0);
            }
            // Each piece of a ring is rounded down to a byte, and has thousands of them.
            let (nics, joined) = implied(&scenario, &plan, &layout);
            let near = |bytes: u128, want: u128| bytes.abs_diff(want) * 2_000 <= want;
            prop_assert!(near(nics_out, nics) && near(zones, joined), "{nics_out} {nics}, {zones} {joined}");
            prop_assert_eq!(nics_out, nics_in);
            // What leaves the nodes goes up at most once, and down as often where every node is below a leaf.
            prop_assert!(leaves[0].max(leaves[1]) <= nics_out);
            if scenario.groups.iter().all(|g| g.leaves.is_some()) {
                prop_assert_eq!(leaves[0], leaves[1]);
            }
        }
        // Folded, it is the same but for who stands for whom.
        let rows = |e: &Explanation| -> Vec<_> {
            e.stages.iter().map(|s| (s.pipelines, s.stage, s.group, s.count, s.devices, s.parts, s.memory)).collect()
        };
        prop_assert_eq!(rows(&folded), rows(&whole));
        for ((link, a), (_, b)) in folded.every_link.iter().zip(whole.every_link.iter()) {
            prop_assert_eq!(&folded.links[*a].loads, &whole.links[*b].loads, "{:?}", link);
        }
        let gains = |list: &[Faster]| -> Vec<_> { list.iter().map(|f| (f.what, f.time)).collect() };
        prop_assert_eq!(gains(&folded_faster), gains(&whole_faster));
    }

    /// Where nothing is shared, nothing that is made faster makes the iteration longer.
    #[test]
    fn faster_is_never_slower_without_sharing(tape in prop::collection::vec(any::<u16>(), 0..220)) {
        let (scenario, plan) = case(&mut Tape::new(&tape), Sharing::No);
        for f in run(&scenario, &plan, 0, true).1 {
            prop_assert!(f.gain >= 0.0 && f.gain < 0.1, "{f:?}");
        }
    }
}

/// The case of `a_link_between_zones_that_changes`, constant: F 0-10; latency; f 13-17; F' -47 B' -87; b 90-94; B -114; step -115.
#[test]
fn an_iteration_explained_by_hand() {
    let p = plan(&[(1, 1, &[("0-1", 1, &["e:0"]), ("2-3", 1, &["w:0"])])]);
    let s = with_batch_of(two_zones(steps(1e8, &[])), &p);
    let (e, list) = run(&s, &p, 0, true);
    let ms = |ms: u64| SimDuration::from_ps(ms * MS);
    let pass = |kind, stage| Step::Pass { kind, pipeline: 0, stage };
    let send = |from, to| Step::Transfer { pipeline: 0, from, to };
    let parts: Vec<_> = e.path.parts.iter().map(|p| (p.step, p.count, p.time, p.latency, p.bytes)).collect();
    assert_eq!(
        parts,
        [
            (pass(PassKind::Forward, 0), 1, ms(10), ms(0), 0),
            (send(0, 1), 1, ms(7), ms(3), 400_000),
            (pass(PassKind::Forward, 1), 1, ms(30), ms(0), 0),
            (pass(PassKind::Backward, 1), 1, ms(40), ms(0), 0),
            (send(1, 0), 1, ms(7), ms(3), 400_000),
            (pass(PassKind::Backward, 0), 1, ms(20), ms(0), 0),
            (Step::Update { pipeline: 0, stage: 0 }, 1, ms(1), ms(0), 0),
        ]
    );
    let stages: Vec<_> = e.stages.iter().map(|s| s.parts.each().map(|(_, ps)| ps / MS)).collect();
    // Were both like stage 0, it would be idle for 10 + 20; it is for 70. Stage 1 would be for 70 and is for 31; its step is at
    // 87-89, beside the latency of b.
    assert_eq!(stages, [[31, 0, 14, 0, 30, 40], [72, 0, 12, 0, 31, 0]]);
    // The link and its transfers: 3.6363.. ms for 4, rounded up, twice. The GPU of a stage: 31 / 11, 70 / 11 (its step is not waited for).
    let time = |what| list.iter().find(|f| f.what == what).expect("it is in the list").time.as_ps();
    assert_eq!(time(What::Zones(0)), 107 * MS + 2 * 3_636_363_637);
    let shorter = |ms: u64| (ms * MS * 10).div_ceil(11);
    assert!(time(What::Gpus(0)).abs_diff(84 * MS + shorter(31)) < 10);
    assert!(time(What::Gpus(1)).abs_diff(45 * MS + shorter(70)) < 10);
    assert_eq!((time(What::Nics(0)), time(What::Inside(1))), (115 * MS, 115 * MS));
    assert_eq!(list[0].what, What::Gpus(1), "the most helpful first");

    // A link of half the rate holds the transfers, one that is down for 10 ms, too.
    let s = with_batch_of(two_zones(steps(5e7, &[(15, 0.0), (25, 5e7)])), &p);
    let (e, _) = run(&s, &p, 0, true);
    let wan = |forward| Limit::Link(Link::Zone { link: 0, forward });
    let held: Vec<_> = e.path.parts.iter().flat_map(|p| &p.held).map(|(by, time)| (*by, *time)).collect();
    assert_eq!(held, [(wan(false), ms(18)), (wan(true), ms(8))]);
    let loads: Vec<_> = e.links[e.every_link.last().expect("the link back").1]
        .loads
        .iter()
        .map(|l| (l.from.as_ps() / MS, l.used.as_bytes_per_s(), l.capacity.as_bytes_per_s()))
        .collect();
    assert_eq!(loads, [(0, 0.0, 5e7), (13, 5e7, 5e7), (15, 0.0, 0.0), (25, 5e7, 5e7), (31, 0.0, 5e7),]);
}

/// The same sums where communication runs beside passes, passes come in parts, and stages have several chunks.
#[test]
fn parts_add_up_for_every_kind_of_plan() {
    let stages: &[_] = &[("0-1", 1, &["a:0-1"][..]), ("2-3", 1, &["a:2-3"])];
    let mut p = plan(&[(2, 4, stages)]);
    p.gradient_bucket = Some(Bytes(200_000));
    let s = with_batch_of(scenario(vec![group("a", "z", 4, 1)]), &p);
    let mut plans = Vec::new();
    for schedule in [Schedule::OneFOneB, Schedule::GPipe, Schedule::ZeroBubble, Schedule::Interleaved] {
        // Weight gradients of their own pass go with no more than zero 1.
        for zero in 0..=(if schedule == Schedule::ZeroBubble { 1 } else { 3 }) {
            for overlap_gradients in [false, true] {
                let mut p = Plan { schedule, zero, overlap_gradients, ..p.clone() };
                if schedule == Schedule::Interleaved {
                    let chunked = ["0,2", "1,3"].map(|layers| layers.parse().expect("layers"));
                    for (stage, layers) in p.pipelines[0].stages.iter_mut().zip(chunked) {
                        stage.layers = layers;
                    }
                }
                plans.push(p);
            }
        }
    }
    for p in plans {
        let (e, _) = run(&s, &p, 0, true);
        let time = e.time.as_ps();
        assert_eq!(e.path.parts.iter().map(|p| p.time.as_ps()).sum::<u64>(), time, "{p:?}");
        assert!(e.stages.iter().all(|s| s.parts.total() == time), "{p:?}");
        let whole = run(&s, &p, 0, false).0;
        let parts = |e: &Explanation| e.stages.iter().map(|s| (s.count, s.parts)).collect::<Vec<_>>();
        assert_eq!(parts(&e), parts(&whole), "{p:?}");
    }
}

/// Stage 1 at half its speed: F' 17-77 B' 77-157, b 160-164, B -184, step -185; what it took longer is told.
#[test]
fn a_slowed_gpu_is_on_the_path() {
    let p = plan(&[(1, 1, &[("0-1", 1, &["e:0"]), ("2-3", 1, &["w:0"])])]);
    let mut s = with_batch_of(two_zones(steps(1e8, &[])), &p);
    s.replay.speeds.insert(DeviceId { group: 1, index: 0 }, Timeline::constant(FULL_SPEED / 2));
    let (e, _) = run(&s, &p, 0, true);
    assert_eq!(e.time.as_ps(), 185 * MS);
    let slowed: Vec<_> =
        e.path.parts.iter().filter(|p| p.slowed > SimDuration::ZERO).map(|p| (p.step, p.slowed)).collect();
    let pass = |kind| Step::Pass { kind, pipeline: 0, stage: 1 };
    let ms = |ms: u64| SimDuration::from_ps(ms * MS);
    assert_eq!(slowed, [(pass(PassKind::Forward), ms(30)), (pass(PassKind::Backward), ms(40))]);
    // Stage 0 waits for the straggler: 70 ms more than the 40 without it.
    assert_eq!(e.stages[0].parts.each().map(|(_, ps)| ps / MS), [31, 0, 14, 0, 30, 110]);
}
