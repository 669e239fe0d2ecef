//! Iterations computed by hand, to the picosecond. The comments give the clock in ms.

use crate::round::{MS, at, group, plan, rate, scenario, steps, two_zones, with_batch_of};
use sim_core::{CapacityProfile, SimDuration, SimError};
use sim_models::iteration::{MOST_TASKS, Options, SimulateError, simulate};
use sim_models::link::LinkModel;
use sim_models::plan::{Plan, Schedule};
use sim_models::scenario::Scenario;

/// The plan takes `ps`, folded or not.
#[track_caller]
fn check(what: &str, scenario: &Scenario, plan: &Plan, ps: u64) {
    check_at(what, scenario, plan, 0, ps);
}

#[track_caller]
fn check_at(what: &str, scenario: &Scenario, plan: &Plan, start: u64, ps: u64) {
    let scenario = with_batch_of(scenario.clone(), plan);
    for fold in [true, false] {
        let options = Options { at: at(start), fold };
        let time = simulate(&scenario, plan, &options).unwrap_or_else(|e| panic!("{what}: {e}")).time;
        assert_eq!(time, SimDuration::from_ps(ps), "{what}, fold {fold}");
    }
}

fn two_stages(n: u32, first: &str, second: &str) -> Plan {
    plan(&[(1, n, &[("0-1", 1, &[first]), ("2-3", 1, &[second])])])
}

#[test]
fn one_stage() {
    // Passes of 40 and 60, an optimizer step of 3.
    let s = scenario(vec![group("a", "z", 1, 4)]);
    for (n, ms) in [(1, 103), (3, 303)] {
        check("one device", &s, &plan(&[(1, n, &[("0-3", 1, &["a:0"])])]), ms * MS);
        check("four devices", &s, &plan(&[(1, n, &[("0-3", 4, &["a:0-3"])])]), ms * MS);
    }
}

#[test]
fn two_stages_of_two_micro_batches() {
    let far = scenario(vec![group("a", "z", 2, 1)]);
    let near = scenario(vec![group("a", "z", 1, 2)]);
    // Stage 0: passes of 10 and 20, step 1; stage 1: 30 and 40, step 2. Transfers of 5 between nodes, 1 inside.
    for (schedule, overlap_p2p, far_ms, near_ms) in [
        // F0 0-10 f0 -15 | stage 1: F0 15-45 B0 -85 | f1, b0 85-90 | B0 90-110, F1 90-120 B1 -160 | b1 -165, B1 -185
        (Schedule::OneFOneB, false, 186, 174),
        // F0' 15-45 B0' -85 F1' -115 B1' -155 | b1 -160 | B1 160-180
        (Schedule::OneFOneB, true, 181, 173),
        // f0 10-15 | F0' 15-45 | f1 45-50 | F1' 50-80 B0' -120 | b0 -125 | B1' 125-165 | b1 -170 | B1 170-190
        (Schedule::GPipe, false, 191, 175),
        // F0' 15-45 F1' -75 B0' -115 B1' -155 | b1 -160 | B1 160-180
        (Schedule::GPipe, true, 181, 173),
    ] {
        let plan = Plan { schedule, overlap_p2p, ..two_stages(2, "a:0", "a:1") };
        let what = format!("{schedule}, overlap {overlap_p2p}");
        check(&format!("{what}, far"), &far, &plan, far_ms * MS);
        check(&format!("{what}, near"), &near, &plan, near_ms * MS);
    }
}

/// Of the first case above: what each device did.
#[test]
fn device_times() {
    let plan = two_stages(2, "a:0", "a:1");
    let s = with_batch_of(scenario(vec![group("a", "z", 2, 1)]), &plan);
    let iteration = simulate(&s, &plan, &Options::default()).expect("a plan");
    // Stage 1's step, 160-162, hides part of the last transfer, 160-165.
    let expected = [("a:0", 0.061, 0.015, 0.110), ("a:1", 0.142, 0.013, 0.031)];
    assert_eq!(iteration.devices.len(), 2);
    for (d, (id, busy, exposed, bubble)) in iteration.devices.iter().zip(expected) {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let right = near(d.busy_s, busy) && near(d.exposed_comm_s, exposed) && near(d.bubble_s, bubble);
        assert!(d.id == id && right, "{d:?}");
    }
    // 2 samples of 1,000 tokens.
    assert!((iteration.tokens_per_s(&s) - 2000.0 / 0.186).abs() < 1e-6);
}

#[test]
fn data_parallel_rings() {
    let s = scenario(vec![group("a", "z", 3, 4)]);
    // Whole gradients: 268,400 parameters, 1,073,600 B. A ring of n sends 2 (n - 1) / n of it after 2 (n - 1) ms.
    let unequal = plan(&[(1, 3, &[("0-3", 1, &["a:0"])]), (1, 1, &[("0-3", 1, &["a:4"])])]);
    check("two nodes, the faster waits", &s, &unequal, 300 * MS + 12_736_000_000 + 3 * MS);
    let three = plan(&[(3, 1, &[("0-3", 1, &["a:0", "a:4", "a:8"])])]);
    check("three nodes: 1,431,466 B", &s, &three, 100 * MS + 18_314_660_000 + 3 * MS);
    let inside = plan(&[(2, 1, &[("0-3", 1, &["a:0-1"])])]);
    check("inside a node, at 4 x 10^8 B/s", &s, &inside, 100 * MS + 2_684_000_000 + 3 * MS);
    // Two of three on one node: 2 hops leave or enter each node, the slowest hop counts.
    let mixed = plan(&[(3, 1, &[("0-3", 1, &["a:0-1", "a:4"])])]);
    check("three on two nodes", &s, &mixed, 100 * MS + 18_314_660_000 + 3 * MS);
    // At TP 2 the vocabulary is padded to 256 and each rank has its own biases: 295,400 parameters, 1,181,600 B.
    let sharded = plan(&[(2, 1, &[("0-3", 2, &["a:0-1", "a:4-5"])])]);
    check("TP 2", &s, &sharded, 100 * MS + 13_816_000_000 + 3 * MS);
    let unlike = plan(&[(1, 1, &[("0-3", 2, &["a:0-1"])]), (1, 1, &[("0-3", 1, &["a:4"])])]);
    check("TP 2 and TP 1: the larger", &s, &unlike, 100 * MS + 13_816_000_000 + 3 * MS);

    let mut slow = s.clone();
    slow.groups[0].nic = CapacityProfile::constant(rate(5e7));
    let two = plan(&[(2, 1, &[("0-3", 1, &["a:0", "a:4"])])]);
    check("NICs of half the rate", &slow, &two, 100 * MS + 23_472_000_000 + 3 * MS);
}

#[test]
fn pipelines_with_data_parallelism() {
    let stages: &[_] = &[("0-1", 1, &["a:0-1"][..]), ("2-3", 1, &["a:2-3"])];
    let p = plan(&[(2, 1, stages)]);
    // F 0-10 f -15 | F' -45 B' -85 | b -90 | B 90-110. Gradients: 536,400 B of stage 0, 537,200 B of stage 1.
    let mut s = scenario(vec![group("a", "z", 4, 1)]);
    check("NICs of their own", &s, &p, 110 * MS + 2 * MS + 5_364_000_000 + MS);
    // Stage 1's ring starts to flow at 87, in the middle of b (86-90), and takes half of the NIC: b ends at 93.
    s.groups[0].nic = CapacityProfile::constant(rate(1e8));
    check("a ring and a transfer share a NIC", &s, &p, 113 * MS + 2 * MS + 5_364_000_000 + MS);
    // Both pipelines send from node 0 to node 1 over one NIC: 1 + 8 ms. B ends at 118; rings inside a node.
    let mut s = scenario(vec![group("a", "z", 2, 2)]);
    s.groups[0].nic = CapacityProfile::constant(rate(1e8));
    check("pipelines share a NIC", &s, &p, 118 * MS + 1_341_000_000 + MS);
    // Every node carries a stage 0 and a stage 1, but only the first pipeline has both of its own on one node.
    let s = scenario(vec![group("a", "z", 3, 2)]);
    let crossed = plan(&[(3, 1, &[("0-1", 1, &["a:0", "a:2", "a:4"]), ("2-3", 1, &["a:1", "a:5", "a:3"])])]);
    check("alike nodes, unlike pipelines", &s, &crossed, 110 * MS + 4 * MS + 7_152_000_000 + MS);
    // Layers cut at other places: layer 1 is on stage 0 of one and on stage 1 of the other, so there are three rings.
    // Pipeline 1: F 0-4 f -9 | F' 36 ms B' 52 ms -97 | b -102 | B 102-110. Pipeline 0's stage 1 ends at 85, its stage 0 at
    // 110. Ring of layer 0: 51,200 B; of layer 1: 485,200 B; of layers 2-3: 537,200 B; on the same nodes one after another.
    let s = scenario(vec![group("a", "z", 4, 1)]);
    let cut = plan(&[
        (1, 1, &[("0-1", 1, &["a:0"]), ("2-3", 1, &["a:1"])]),
        (1, 1, &[("0", 1, &["a:2"]), ("1-3", 1, &["a:3"])]),
    ]);
    // From the last layers on: 2-3 at 97-104.372 on a:1 and a:3; layer 1 at 110 on a:0, and a:3: 110 + 6.852 = 116.852; layer 0
    // after that on a:0, and a:2: 116.852 + 2.512 = 119.364; then the step of layers 0-1, 1 ms.
    check("stages cut at other places", &s, &cut, 119_364_000_000 + MS);
    // The copy of a tied embedding on the last stage: 51,200 B after both stages, and both steps after it.
    let mut s = scenario(vec![group("a", "z", 2, 1)]);
    s.model.tied_embeddings = true;
    check("tied embeddings", &s, &two_stages(1, "a:0", "a:1"), 110 * MS + 2_512_000_000 + 2 * MS);
}

#[test]
fn a_link_between_zones_that_changes() {
    let p = two_stages(1, "e:0", "w:0");
    let wan = |initial, points: &[(u64, f64)]| two_zones(steps(initial, points));
    // F 0-10; 3 ms of latency; f flows 13-17 at 10^8 B/s; F' -47 B' -87; b flows 90-94; B -114; step 1.
    for (what, s, ps) in [
        ("constant", wan(1e8, &[]), 115 * MS),
        ("slower in mid-transfer", wan(1e8, &[(15, 5e7)]), 121 * MS),
        ("slower as the first byte leaves", wan(1e8, &[(13, 5e7)]), 123 * MS),
        ("slower as the last byte arrives", wan(1e8, &[(17, 5e7), (50, 1e8)]), 115 * MS),
        ("slower before, faster in mid-transfer", wan(5e7, &[(15, 1e8)]), 116 * MS),
        ("faster than one transfer goes", wan(1e8, &[(15, 3e8)]), 115 * MS),
        ("down in mid-transfer", wan(1e8, &[(14, 0.0), (24, 1e8)]), 125 * MS),
        ("down twice", wan(1e8, &[(14, 0.0), (16, 1e8), (17, 0.0), (20, 1e8)]), 120 * MS),
        ("down before the first byte", wan(0.0, &[(30, 1e8)]), 132 * MS),
        ("down while nothing flows", wan(1e8, &[(20, 0.0), (80, 1e8)]), 115 * MS),
        // 300,000 B left at 7 x 10^7 B/s: 4.285714285714.. ms, up to a picosecond; 400,000 B: 5.714285714285.. ms
        ("rounded up", wan(1e8, &[(14, 7e7)]), 118 * MS + 1),
        ("changes to the same", wan(1e8, &[(14, 1e8), (15, 1e8)]), 115 * MS),
    ] {
        check(what, &s, &p, ps);
    }
    // Fast for 10 of 20 ms, for ever: f 13 -> 140,000 B until 20, 260,000 B -> 22.6; b 95.6 -> 88,000 B until 100, -> 103.12
    let points = vec![(at(10 * MS), rate(2e7))];
    let wrapped =
        CapacityProfile::wrapping(rate(1e8), points, SimDuration::from_ps(20 * MS)).expect("a period");
    check("wrapped", &two_zones(wrapped), &p, 124_120_000_000);
    check_at("from an instant on", &wan(1e8, &[(15, 5e7)]), &p, 15 * MS, 123 * MS);
    check_at("from just before the change", &wan(1e8, &[(16, 5e7)]), &p, MS, 121 * MS);

    let down = wan(1e8, &[(14, 0.0)]);
    let error = simulate(&with_batch_of(down, &p), &p, &Options::default()).expect_err("down for ever");
    assert!(matches!(error, SimulateError::Sim(SimError::Stalled { count: 1, .. })), "{error}");
}

#[test]
fn an_all_reduce_over_a_link_that_changes() {
    let p = plan(&[(1, 1, &[("0-3", 1, &["e:0"])]), (1, 1, &[("0-3", 1, &["w:0"])])]);
    // Passes until 100; 2 steps of 3 ms; 1,073,600 B from 106 on; step 3.
    for (what, points, ps) in [
        ("constant", &[][..], 119_736_000_000),
        ("slower in mid-ring", &[(110, 5e7)], 126_472_000_000),
        ("down in mid-ring", &[(110, 0.0), (130, 1e8)], 139_736_000_000),
        ("slower as it starts", &[(106, 5e7)], 130_472_000_000),
        ("slower while devices compute", &[(5, 1.0), (99, 1e8)], 119_736_000_000),
        ("slower, down, fast again", &[(107, 5e7), (109, 0.0), (112, 4e8)], 123_736_000_000),
    ] {
        check(what, &two_zones(steps(1e8, points)), &p, ps);
    }
}

#[test]
fn pipelines_share_a_link_between_zones() {
    // Three alike pipelines over one link of 1.5 x 10^8 B/s: 5 x 10^7 B/s each, 8 ms; on nodes of their own.
    let mut s = two_zones(steps(1.5e8, &[]));
    (s.groups[0].nodes, s.groups[1].nodes) = (3, 3);
    let p = plan(&[(3, 1, &[("0-1", 1, &["e:0-2"]), ("2-3", 1, &["w:0-2"])])]);
    // F 0-10 f flows 13-21 | F' -51 B' -91 | b flows 94-102 | B -122; ring of three: 536,400 B x 4 / 3 after 4 ms.
    check("three at once", &s, &p, 122 * MS + 4 * MS + 7_152_000_000 + MS);
    // The other way is a resource of its own: the second pipeline goes from west to east.
    let p = plan(&[
        (1, 1, &[("0-1", 1, &["e:0"]), ("2-3", 1, &["w:0"])]),
        (1, 1, &[("0-1", 1, &["w:1"]), ("2-3", 1, &["e:1"])]),
    ]);
    // f 13-17, b 90-94, B -114. Rings over both zones: 87 to 87 + 6 + 5.372, of layers 2-3, shares each way with b from 93
    // to 94 (7.5 x 10^7 B/s each); so b ends at 94 + 1/3 and the rest follows.
    let b = 93 * MS + 1_333_333_334;
    check("one each way", &s, &p, b + 20 * MS + 6 * MS + 5_364_000_000 + MS);
}

#[test]
fn too_many_passes_are_an_error() {
    let mut s = scenario(vec![group("a", "z", 1, 1)]);
    let n = u32::try_from(MOST_TASKS / 5 + 1).expect("it fits");
    for n in [n, 1 << 31, u32::MAX] {
        let p = plan(&[(1, n, &[("0-3", 1, &["a:0"])])]);
        s.training.global_batch = n;
        let error = simulate(&s, &p, &Options::default()).expect_err("too many");
        assert_eq!(error, SimulateError::TooMany { tasks: 5 * u64::from(n) });
    }
}

#[test]
fn a_rate_that_is_none_never_panics() {
    let p = two_stages(1, "a:0", "a:1");
    for (bytes_per_s, latency_s) in
        [(0.0, 0.0), (f64::NAN, f64::NAN), (f64::INFINITY, f64::INFINITY), (-1.0, -1.0), (1e300, 1e300)]
    {
        let mut s = with_batch_of(scenario(vec![group("a", "z", 2, 1)]), &p);
        s.node_links[0][0] = LinkModel::constant(bytes_per_s, latency_s);
        let _ = simulate(&s, &p, &Options::default());
    }
}
