//! Leaf switches: what shares their uplinks and what does not, by hand.

use crate::round::{MS, group, plan, rate, scenario, with_batch_of};
use sim_core::CapacityProfile;
use sim_models::iteration::{Options, simulate};
use sim_models::plan::Plan;
use sim_models::scenario::{Leaf, Leaves, Scenario};

/// Four nodes of `gpus` GPUs in pods of two, with uplinks of 5 x 10^7 B/s: half of what one transfer goes at.
fn pods(gpus: u32, rails: u32) -> Scenario {
    let mut scenario = scenario(vec![group("a", "z", 4, gpus)]);
    let leaves = Leaves { first: 0, nodes: 2, rails };
    scenario.groups[0].leaves = Some(leaves);
    let leaf = |i| Leaf { name: format!("a-leaf-{i}"), capacity: CapacityProfile::constant(rate(5e7)) };
    scenario.leaves = (0..leaves.count(4)).map(leaf).collect();
    scenario
}

fn time(scenario: &Scenario, plan: &Plan) -> u64 {
    let scenario = with_batch_of(scenario.clone(), plan);
    let [folded, whole] = [true, false].map(|fold| {
        simulate(&scenario, plan, &Options { fold, ..Options::default() }).expect("it ends").time.as_ps()
    });
    assert_eq!(folded, whole);
    folded
}

/// One micro-batch over two stages of 30 and 70 ms and an optimizer step of 1 ms; twice 1 ms, and 4 ms at full rate, between them.
#[test]
fn only_what_leaves_the_pod_shares_its_uplinks() {
    let scenario = pods(1, 1);
    let two = |from: &str, to: &str| plan(&[(1, 1, &[("0-1", 1, &[from]), ("2-3", 1, &[to])])]);
    assert_eq!(time(&scenario, &two("a:0", "a:1")), (101 + 2 * 5) * MS);
    assert_eq!(time(&scenario, &two("a:1", "a:2")), (101 + 2 * 9) * MS);
    // Without leaves no way is longer than another.
    let mut flat = scenario.clone();
    (flat.groups[0].leaves, flat.leaves) = (None, Vec::new());
    assert_eq!(time(&flat, &two("a:1", "a:2")), (101 + 2 * 5) * MS);
    // Two pipelines cross at once, and then their gradients meet nobody: rings of two between pods and inside them.
    let crossing = plan(&[(2, 1, &[("0-1", 1, &["a:0-1"]), ("2-3", 1, &["a:2-3"])])]);
    let inside = plan(&[(2, 1, &[("0-1", 1, &["a:0", "a:2"]), ("2-3", 1, &["a:1", "a:3"])])]);
    let ring = |scenario: &Scenario, plan: &Plan, one: u64| time(scenario, plan) - (101 + 2 * (1 + one)) * MS;
    assert!(
        ring(&scenario, &crossing, 16) < ring(&scenario, &inside, 4),
        "the rings of one stay below a leaf"
    );
    assert_eq!(ring(&scenario, &crossing, 16), ring(&flat, &inside, 4));
}

/// Two pipelines between pods, on the first and on the second GPUs of their nodes.
#[test]
fn each_rail_has_its_own_leaf() {
    let crossing = plan(&[(2, 1, &[("0-1", 1, &["a:0-1"]), ("2-3", 1, &["a:4-5"])])]);
    let ring = 2 * MS + 2 * MS;
    let of = |gpus, rails| time(&pods(gpus, rails), &crossing);
    let together = of(2, 1);
    let apart = of(2, 2);
    assert_eq!(together - apart, 2 * 8 * MS);
    assert!(apart > (101 + 2 * 9) * MS && apart < (101 + 2 * 9) * MS + ring, "{apart}");
}

/// A stage of both GPUs of a node sends over both rails.
#[test]
fn a_wide_stage_uses_all_rails() {
    let wide = plan(&[(1, 1, &[("0-1", 2, &["a:0-1"]), ("2-3", 2, &["a:4-5"])])]);
    assert_eq!(time(&pods(2, 2), &wide), (101 + 2 * 5) * MS);
    assert_eq!(time(&pods(2, 1), &wide), (101 + 2 * 9) * MS);
}
