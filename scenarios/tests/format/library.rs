//! The library: every scenario loads, and is what its head says.

use scenarios::{Overrides, builtin_traces, builtins, codes, explain, load, load_text, plan_schema, schema};
use sim_core::{CapacitySource, SimTime};
use std::collections::BTreeSet;

#[test]
fn every_builtin_loads_with_the_plan_it_names() {
    // name, GPUs, traces, pipelines of its plan, stages of the first
    let expected = [
        ("quickstart", 32, 1, 0, 0),
        ("h100x8-switch", 8, 0, 0, 0),
        ("opt350-a100x32", 32, 0, 8, 1),
        ("opt350-a100x32-v100x96", 128, 0, 27, 2),
        ("opt350-a100x128-v100x384", 512, 0, 32, 7),
        ("llama2-70b-zones1024", 1024, 0, 0, 0),
        ("jobs-two", 16, 0, 0, 0),
        ("jobs-four", 128, 0, 0, 0),
        ("llama3-405b-h100x16384", 16_384, 0, 128, 16),
        ("llama3-405b-h100x131072", 131_072, 0, 1024, 16),
        ("gpt3-175b-a100x1024", 1024, 0, 16, 8),
        ("mixtral-8x22b-h100x512", 512, 0, 32, 8),
        ("deepseek-v3-h800x2048", 2048, 0, 128, 16),
    ];
    for builtin in builtins().iter().filter(|b| ["quick", "published"].contains(&b.group)) {
        assert!(expected.iter().any(|(name, ..)| *name == builtin.name), "{}", builtin.name);
    }
    for (name, gpus, traces, pipelines, stages) in expected {
        let loaded = load(name, &Overrides::default()).unwrap_or_else(|f| panic!("{name}: {}", f[0]));
        let scenario = &loaded.scenario;
        let plan = scenario.plan.as_ref();
        let found = plan.map_or((0, 0), |p| (p.pipeline_count(), p.pipelines[0].stages.len()));
        assert_eq!((scenario.gpus(), loaded.traces, found), (gpus, traces, (pipelines, stages)), "{name}");
        assert_eq!(scenario.name, name);
        assert!(!scenario.about.is_empty() && scenario.about.len() < 100);
        if let Some(plan) = plan {
            let batch = u64::from(scenario.training.global_batch);
            assert_eq!(plan.micro_batch_count() * u64::from(plan.micro_batch), batch, "{name}");
        }
    }
}

/// The file that the README shows is one (its trace is a file of the reader's own).
#[test]
fn the_readmes_file_loads() {
    let readme = include_str!("../../README.md");
    let file =
        readme.split("```").nth(1).and_then(|block| block.strip_prefix("toml\n")).expect("a block of TOML");
    let file = file.replace(
        "file = \"wan.csv\"",
        "builtin = \"zhejiang-leaf-9-53\"\ncolumn = \"share\"\nunit = \"capacity\"",
    );
    if let Err(faults) = load_text(&file, "README.toml", None, &Overrides::default()) {
        panic!("{}", faults[0]);
    }
}

/// Used GPUs as Sailor's answer counts them (`plans.json`: `used`).
#[test]
fn sailors_plans_use_the_gpus_that_sailor_used() {
    for (name, a100, v100) in [
        ("opt350-a100x32", 32, 0),
        ("opt350-a100x32-v100x96", 30, 96),
        ("opt350-a100x128-v100x384", 128, 384),
    ] {
        let scenario = load(name, &Overrides::default()).expect("tested above").scenario;
        let plan = scenario.plan.expect("tested above");
        let of = |group: &str| plan.devices().filter(|d| d.0 == group).count();
        assert_eq!((of("a100"), of("v100")), (a100, v100), "{name}");
    }
}

#[test]
fn the_quickstart_link_is_the_level_times_the_share() {
    let scenario = load("quickstart", &Overrides::default()).expect("tested above").scenario;
    let (_, link) = scenario.zone_link("us-west1-b", "us-central1-a").expect("the link");
    let at = |s: f64| {
        link.capacity.at(SimTime::from_secs_f64(s).expect("in range")).as_bytes_per_s() * 8.0
            / 6_662_661_000.0
    };
    let shares: Vec<f64> = builtin_traces()[0]
        .text
        .lines()
        .filter_map(|line| line.strip_prefix(|c: char| c.is_ascii_digit()).and(line.rsplit(',').next()))
        .map(|share| share.parse().expect("a share"))
        .collect();
    assert_eq!(shares.len(), 669);
    for (i, share) in shares.iter().enumerate() {
        let second = 5.0 * i as f64;
        assert!(
            (at(second) - share).abs() < 1e-9 && (at(second + 4.999) - share).abs() < 1e-9,
            "at {second} s"
        );
        assert!((at(second + 3345.0) - share).abs() < 1e-9, "wrapped, at {second} s");
    }
    let least = shares.iter().copied().fold(1.0, f64::min);
    assert!(least < 0.75, "the trace has dips that matter: {least}");
}

/// The shipped trace is what its script makes of the data folder.
#[test]
fn the_shipped_trace_follows_from_its_source() {
    let Ok(data) = std::env::var("TIDEPLAN_DATA") else {
        println!("skipped: TIDEPLAN_DATA is not set");
        return;
    };
    let Ok(text) = std::fs::read_to_string(format!("{data}/traces/zhejiang-a100/leaf_ports_5s.csv")) else {
        println!("skipped: no leaf_ports_5s.csv in the data folder");
        return;
    };
    let mut made = Vec::new();
    for row in text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()) {
        let number = |i: usize| row[i].parse::<f64>().expect("a number");
        if row[1] == "Leaf-9:53" && number(0) >= 255.0 {
            made.push(format!(
                "{},Leaf-9:53,{:.4}",
                number(0) - 255.0,
                1.0 - (number(2) + number(3)) / 400e9
            ));
        }
    }
    let shipped: Vec<&str> =
        builtin_traces()[0].text.lines().filter(|l| !l.starts_with('#')).skip(1).collect();
    assert_eq!(shipped, made);
}

/// The level of the quickstart link stands in the data folder as its file says.
#[test]
fn the_quickstart_level_is_the_measured_one() {
    let Ok(data) = std::env::var("TIDEPLAN_DATA") else {
        println!("skipped: TIDEPLAN_DATA is not set");
        return;
    };
    let Ok(text) = std::fs::read_to_string(format!("{data}/traces/skyplane/grid_2022-01.csv")) else {
        println!("skipped: no grid_2022-01.csv in the data folder");
        return;
    };
    let row = "2022.01.29_22.19,gcp:us-central1-a,PREMIUM,n2-standard-32,gcp:us-west1-a,PREMIUM,n2-standard-32,64,5,";
    let row = text.lines().find(|line| line.starts_with(row)).expect("the row that the file names");
    assert_eq!(row.rsplit(',').next(), Some("6662661000.0"));
}

#[test]
fn every_code_in_use_is_explained() {
    let known: BTreeSet<&str> = codes().collect();
    assert!(codes().is_sorted(), "in order");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![source.join("../sim-models/src/plan_check.rs")];
    for folder in ["src", "src/resolve", "src/series", "src/series/import"] {
        texts.extend(
            std::fs::read_dir(source.join(folder)).expect("a folder").map(|e| e.expect("an entry").path()),
        );
    }
    let mut used = BTreeSet::new();
    for path in texts.iter().filter(|p| p.is_file() && !p.ends_with("explain.rs")) {
        let text = std::fs::read_to_string(path).expect("a source file");
        for (at, _) in text.match_indices("\"T0") {
            let code = &text[at + 1..at + 6];
            if code.len() == 5 && code[1..].chars().all(|c| c.is_ascii_digit()) {
                used.insert(code.to_string());
            }
        }
    }
    for code in &used {
        assert!(explain(code).is_some_and(|text| text.len() > 60), "{code} has no explanation");
    }
    for code in known {
        assert!(used.contains(code), "{code} is explained and never used");
    }
}

#[test]
fn the_schema_has_every_table_and_the_plan() {
    let schema = schema();
    let properties = schema["properties"].as_object().expect("an object");
    let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
    let expected = [
        "schema_version",
        "about",
        "model",
        "training",
        "nodes",
        "gpus",
        "network",
        "traces",
        "background",
        "events",
        "replay",
        "search",
        "cost",
        "plan",
        "jobs",
    ];
    assert_eq!(keys, expected);
    assert_eq!(schema["required"], serde_json::json!(["schema_version", "nodes"]));
    let node = &schema["properties"]["nodes"]["items"];
    assert_eq!(node["additionalProperties"], false);
    assert_eq!(node["properties"]["count"]["maximum"], 1_000_000);
    assert_eq!(schema["$defs"]["Plan"]["properties"], plan_schema()["properties"]);
}

#[test]
fn overrides_reach_what_the_file_has_and_what_it_has_not() {
    let mut overrides = Overrides::default();
    for set in [
        "nodes.v100.count=8",
        "nodes.0.memory=80 GiB",
        "search.max_stages=3",
        "network.links.wan.latency=1 ms",
        "events=[{ at = \"0 s\", link = \"wan\", capacity = \"0 bps\" }]",
    ] {
        overrides.set(set).expect("a path and a value");
    }
    let scenario = load("quickstart", &overrides).unwrap_or_else(|f| panic!("{}", f[0])).scenario;
    assert_eq!((scenario.groups[1].nodes, scenario.search.max_stages), (8, 3));
    assert_eq!(scenario.groups[0].gpu.memory.0, 80 << 30);
    let link = &scenario.zone_links[0];
    assert_eq!((link.latency.as_secs_f64(), link.capacity.at(SimTime::ZERO).raw()), (0.001, 0));
}
