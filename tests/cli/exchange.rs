//! `export` and `import` of plans and clusters.

use super::{tideplan_in, two_nodes};

#[test]
fn a_plan_goes_to_megatron_and_back() {
    let folder = two_nodes();
    let run = |args: &[&str]| tideplan_in(folder.path(), args);
    let planned = run(&["plan", "two.toml", "--planner", "galvatron", "--out", "plan.toml"]);
    assert_eq!(planned.status.code(), Some(0), "{}", String::from_utf8_lossy(&planned.stderr));
    let written =
        run(&["export", "plan.toml", "--to", "megatron", "--scenario", "two.toml", "--out", "args.txt"]);
    assert_eq!(written.status.code(), Some(0), "{}", String::from_utf8_lossy(&written.stderr));
    assert!(written.stdout.is_empty());
    let out = ["--out", "args.txt", "--json"];
    let said =
        run(&[&["export", "plan.toml", "--to", "megatron", "--scenario", "two.toml"], &out[..]].concat());
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let text = std::fs::read_to_string(folder.path().join("args.txt")).unwrap();
    assert_eq!((said["to"].as_str(), said["text"].as_str()), (Some("megatron"), Some(&text[..])));
    let back = run(&["import", "megatron-plan", "args.txt", "--scenario", "two.toml", "--out", "back.toml"]);
    assert_eq!(back.status.code(), Some(0), "{}", String::from_utf8_lossy(&back.stderr));
    let time = |plan: &str| {
        let output = run(&["simulate", "two.toml", "--plan", plan, "--json"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["iteration_time_s"].clone()
    };
    assert_eq!(time("plan.toml"), time("back.toml"));
    // The plan that the scenario names mixes nothing, but what torchtitan needs it does not have either.
    let refused = run(&["import", "megatron-plan", "two.toml", "--scenario", "two.toml", "--out", "no.toml"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stdout.is_empty() && !folder.path().join("no.toml").exists());
    // What would be passed over is refused.
    for (args, part) in [
        (&["megatron-plan", "args.txt", "--scenario", "two.toml", "--tp", "2"][..], "cannot be used with"),
        (&["megatron-plan", "args.txt", "args.txt", "--scenario", "two.toml"], "2 files for one"),
        (&["sailor-cluster", "trace.csv", "trace.csv"], "2 files for one `sailor-cluster`"),
        (&["layers", "trace.csv", "--scenario", "two.toml"], "`--scenario` is of plans"),
    ] {
        let refused = run(&[&["import"], args, &["--out", "no.toml"]].concat());
        let error = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0), "{args:?}: {error}");
        assert!(error.contains(part), "{args:?}: {error}");
    }
}

#[test]
fn a_cluster_of_sailors_becomes_a_scenario() {
    let folder = two_nodes();
    let csv = ",Timestamp,A100-40_us-central1-a,V100-16_us-central1-a\n0,1712574014.0,8,8\n";
    std::fs::write(folder.path().join("cluster.csv"), csv).unwrap();
    let run = |args: &[&str]| tideplan_in(folder.path(), args);
    let made = run(&["import", "sailor-cluster", "cluster.csv", "--out", "cluster.toml"]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let planned = run(&["plan", "cluster.toml", "--planner", "sailor", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    // Sailor's own answer for this cluster: 22.367 s (one pipeline stage, 10 replicas).
    let own = answer["best"]["own_estimate_s"].as_f64().unwrap();
    assert!((own / 22.367 - 1.0).abs() < 0.01, "{own}");
    let hosts = "10.0.0.1 slots=4\n10.0.0.2 slots=4\n";
    std::fs::write(folder.path().join("hostfile"), hosts).unwrap();
    let node = |kind: &str| {
        format!(
            "{{\"instance_type\": \"{kind}\", \"inter_bandwidth\": 10, \"intra_bandwidth\": 50, \"memory\": 15}}"
        )
    };
    let cluster = format!("{{\"10.0.0.1\": {}, \"10.0.0.2\": {}}}", node("T4"), node("A100"));
    std::fs::write(folder.path().join("clusterfile.json"), cluster).unwrap();
    let made = run(&["import", "metis-cluster", "hostfile", "clusterfile.json", "--out", "metis.toml"]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    // Its ranked output becomes the best plan of it that is one.
    let ranked = |layers: u32| {
        format!(
            "len(costs): 2\nrank, cost, node_sequence, device_groups, strategies(dp_deg, tp_deg), batches(number of batch), \
             layer_partition\n1, 9.0, (<DeviceType.T4: 't4'>, <DeviceType.A100: 'a100'>), [4, 4], [(4, 1), (4, 1)], 16, [0, 8, 25]\n\
             2, 9.5, (<DeviceType.T4: 't4'>, <DeviceType.A100: 'a100'>), [4, 4], [(4, 1), (4, 1)], 16, [0, 8, {layers}]\n"
        )
    };
    for (layers, status) in [(26, 0), (27, 2)] {
        std::fs::write(folder.path().join("ranked.txt"), ranked(layers)).unwrap();
        let files = ["ranked.txt", "hostfile", "clusterfile.json"];
        let to = ["--scenario", "metis.toml", "--out", "ranked.toml"];
        let taken = run(&[&["import", "metis-plan"], &files[..], &to[..]].concat());
        assert_eq!(taken.status.code(), Some(status), "{}", String::from_utf8_lossy(&taken.stderr));
    }
    let simulated = run(&["simulate", "metis.toml", "--plan", "ranked.toml", "--json"]);
    // It need not fit.
    assert!(matches!(simulated.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&simulated.stderr));
    let listed = run(&["plan", "metis.toml", "--planner", "metis", "--json"]);
    assert_eq!(listed.status.code(), Some(0), "{}", String::from_utf8_lossy(&listed.stderr));
}
