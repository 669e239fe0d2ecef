//! `tideplan list`, `schema` and `explain`.

use crate::{has_keys, json, tideplan};
use serde_json::Value;
use std::collections::BTreeSet;

fn text(args: &[&str]) -> String {
    let output = tideplan(args);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn lists() {
    let (status, answer) = json(&["list", "scenarios"]);
    assert_eq!(status, 0);
    let scenarios = answer["scenarios"].as_array().unwrap();
    for row in scenarios {
        has_keys(row, &["name", "about", "group", "gpus", "traces"]);
        assert!(["quick", "published", "suite", "replay"].contains(&row["group"].as_str().unwrap()), "{row}");
        assert!(row["gpus"].as_u64().unwrap() > 0 && row["traces"].is_u64());
    }
    let (status, answer) = json(&["list", "devices"]);
    assert_eq!(status, 0);
    let devices = answer["devices"].as_array().unwrap();
    for row in devices {
        assert_eq!(row.as_object().unwrap().keys().next().unwrap(), "name");
        assert!(row["memory_bytes"].as_u64().unwrap() > 1 << 30, "{row}");
    }
    for (what, rows, expected) in [
        ("scenarios", scenarios, &["quickstart", "opt350-a100x32", "opt350-a100x128-v100x384"][..]),
        (
            "devices",
            devices,
            &["A100-40", "A100-80", "V100-16", "GH200-96", "RTX-2080", "RTX-3090", "Titan-RTX"],
        ),
    ] {
        let names: BTreeSet<&str> = rows.iter().map(|r| r["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), rows.len(), "each once");
        let table = text(&["list", what]);
        for name in expected {
            assert!(names.contains(name) && table.contains(name), "{name}");
        }
        assert_eq!(table.lines().count(), rows.len() + 1, "a row each, and a heading");
    }
}

#[test]
fn schemas() {
    let scenario: Value = serde_json::from_str(&text(&["schema"])).unwrap();
    assert_eq!(scenario, serde_json::from_str::<Value>(&text(&["schema", "scenario"])).unwrap());
    has_keys(&scenario["properties"], &["schema_version", "model", "training", "nodes", "network", "plan"]);
    let plan: Value = serde_json::from_str(&text(&["schema", "plan"])).unwrap();
    has_keys(&plan["properties"], &["micro_batch", "schedule", "overlap_p2p", "pipelines"]);
}

#[test]
fn every_code_is_explained() {
    let list = text(&["explain"]);
    assert!(list.lines().count() > 20);
    for line in list.lines() {
        let code = &line[..5];
        assert!(text(&["explain", code]).len() > 60, "{code}");
        assert_eq!(text(&["explain", code]), text(&["explain", &code.to_lowercase()]));
    }
    let output = tideplan(&["explain", "T9999"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("`T9999`"));
}
