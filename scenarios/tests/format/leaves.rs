//! `fabric` and `leaves`: leaf switches of a file, with their traces and events.

use scenarios::{Overrides, load_text};
use sim_core::{CapacitySource, SimTime};
use sim_models::scenario::{DeviceId, Leaves, NodeId, Scenario};

const FILE: &str = r#"schema_version = 1
model = { name = "opt-350m" }
training = { global_batch = 16 }

[[nodes]]
name = "a"
count = 5
gpus_per_node = 4
gpu = "A100-40"
nic = "8 Gbps"

[[nodes]]
name = "v"
count = 4
gpus_per_node = 4
gpu = "V100-16"
nic = "4 Gbps"
nics = 2
leaves = { leaf_nodes = 4, rails = true }

[network]
rate = "8 Gbps"
fabric = { leaf_nodes = 2, oversubscription = 4.0 }
"#;

fn load(more: &str) -> Result<Scenario, String> {
    let loaded = load_text(&format!("{FILE}{more}"), "leaves.toml", None, &Overrides::default());
    loaded.map(|l| l.scenario).map_err(|f| f.iter().map(|f| format!("{f}\n")).collect())
}

#[test]
fn each_group_has_its_leaves() {
    let scenario = load("").expect("it is right");
    let names: Vec<&str> = scenario.leaves.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["a-leaf-0", "a-leaf-1", "a-leaf-2", "v-leaf-0-rail-0", "v-leaf-0-rail-1"]);
    assert_eq!(scenario.groups[1].leaves, Some(Leaves { first: 3, nodes: 4, rails: 2 }));
    // Two nodes of 1 GB/s over 4; four cards of 0.25 GB/s.
    let rates: Vec<f64> =
        scenario.leaves.iter().map(|l| l.capacity.highest().as_bytes_per_s() / 1e9).collect();
    assert_eq!(rates, [0.5, 0.5, 0.5, 1.0, 1.0]);
    let leaf = |group, index| scenario.leaf(DeviceId { group, index }).expect("it has one");
    assert_eq!([0, 7, 8, 19].map(|i| leaf(0, i)), [0, 0, 1, 2]);
    assert_eq!([0, 1, 2, 3, 14].map(|i| leaf(1, i)), [3, 3, 4, 4, 4]);
    let pod = |group, index| scenario.pod(NodeId { group, index });
    assert_eq!([pod(0, 1), pod(0, 2), pod(1, 0), pod(1, 3)], [Some(0), Some(1), Some(3), Some(3)]);
}

#[test]
fn uplinks_have_traces_and_events() {
    let more = "[[events]]\nat = \"10 s\"\nuntil = \"20 s\"\nlink = \"a-leaf-1\"\ncapacity = \"1 Gbps\"\n\
                [[traces]]\nlink = \"v-leaf-0-rail-1\"\nbuiltin = \"zhejiang-leaf-9-53\"\ncolumn = \"share\"\nunit = \"capacity\"\n";
    let scenario = load(more).expect("it is right");
    let at = |leaf: usize, s: f64| {
        let time = SimTime::from_secs_f64(s).expect("in range");
        scenario.leaves[leaf].capacity.at(time).as_bytes_per_s() / 1e9
    };
    assert_eq!([at(1, 9.0), at(1, 10.0), at(1, 20.0), at(0, 10.0)], [0.5, 0.125, 0.5, 0.5]);
    assert!(at(4, 0.0) < 1.0 && at(3, 0.0) == 1.0);
    assert_eq!(scenario.replay.leaves.keys().copied().collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn uplinks_carry_background() {
    let scenario = load("[[background]]\nlink = \"a-leaf-1\"\nrate = \"1 Gbps\"\nfrom = \"10 s\"\n")
        .expect("it is right");
    let at = |leaf: usize, s: f64| {
        let time = SimTime::from_secs_f64(s).expect("in range");
        scenario.leaves[leaf].capacity.at(time).as_bytes_per_s() / 1e9
    };
    assert_eq!([at(1, 9.0), at(1, 10.0), at(0, 10.0)], [0.5, 0.375, 0.5]);
    assert_eq!(scenario.replay.leaves.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn leaves_that_are_none() {
    for (more, message) in [
        ("[[events]]\nat = \"1 s\"\nlink = \"a-leaf-3\"\ndown = true\n", "no link is called `a-leaf-3`"),
        (
            "[[events]]\nat = \"1 s\"\nlink = \"a-leaf-0\"\nlatency = \"1 ms\"\n",
            "the uplinks of a leaf have no latency",
        ),
    ] {
        let faults = load(more).expect_err(more);
        assert!(faults.contains(message), "{message}: {faults}");
    }
    let whole = FILE.replace("oversubscription = 4.0", "oversubscription = 1e15").replace("8 Gbps", "1 bps");
    let faults = load_text(&whole, "t.toml", None, &Overrides::default()).map(|_| ()).expect_err("too slow");
    assert_eq!(faults[0].code, "T0314");
}
