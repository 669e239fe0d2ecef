//! `tideplan simulate --timeline`: a trace that Perfetto can draw.

use crate::{names, number, tideplan_in, two_nodes};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn timeline(folder: &Path, args: &[&str]) -> Vec<Value> {
    let output = tideplan_in(folder, &[&["simulate"], args, &["--timeline", "t.json"]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(error.contains("t.json"), "says where: {error}");
    let text = std::fs::read_to_string(folder.join("t.json")).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    trace["traceEvents"].as_array().unwrap().clone()
}

/// (process, thread) of an event.
fn row(event: &Value) -> (u64, u64) {
    (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap())
}

fn phase<'a>(events: &'a [Value], phase: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |e| e["ph"] == phase)
}

/// What Perfetto needs of any trace; gives the end of the last slice, us.
fn check(events: &[Value]) -> f64 {
    let named = |what: &str| -> BTreeSet<(u64, u64)> {
        phase(events, "M").filter(|e| e["name"] == what).map(row).collect()
    };
    let (threads, processes) = (named("thread_name"), named("process_name"));
    let mut slices: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
    for slice in phase(events, "X") {
        assert!(threads.contains(&row(slice)), "a row without a name: {slice}");
        assert!(processes.iter().any(|p| p.0 == row(slice).0), "a process without a name: {slice}");
        let (start, length) = (number(slice, "ts"), number(slice, "dur"));
        assert!(start >= 0.0 && length >= 0.0, "{slice}");
        slices.entry(row(slice)).or_default().push((start, start + length));
    }
    // Slices of a row follow each other.
    for (row, list) in &mut slices {
        list.sort_by(|a, b| a.0.total_cmp(&b.0));
        for pair in list.windows(2) {
            assert!(pair[0].1 <= pair[1].0 + 1e-3, "row {row:?}: {pair:?}");
        }
    }
    // Arrows leave a slice, reach the start of one, forwards in time, each once.
    let ends = |ph| -> BTreeMap<u64, &Value> {
        let list: Vec<_> = phase(events, ph).map(|e| (e["id"].as_u64().unwrap(), e)).collect();
        let map: BTreeMap<_, _> = list.iter().copied().collect();
        assert_eq!(map.len(), list.len(), "an arrow's number twice");
        map
    };
    let (from, to) = (ends("s"), ends("f"));
    assert!(from.keys().eq(to.keys()), "arrows with one end");
    for (id, start) in &from {
        let end = to[id];
        let (out, into) = (number(start, "ts"), number(end, "ts"));
        assert!(out <= into, "arrow {id} goes back in time");
        assert!(slices[&row(start)].iter().any(|s| s.0 <= out && out <= s.1), "arrow {id} leaves nothing");
        assert!(slices[&row(end)].iter().any(|s| s.0 == into), "arrow {id} reaches nothing");
    }
    // What begins on a link ends.
    let mut open: BTreeMap<&str, f64> = BTreeMap::new();
    for event in events.iter().filter(|e| e["ph"] == "b" || e["ph"] == "e") {
        assert!(threads.contains(&row(event)));
        let id = event["id"].as_str().unwrap();
        match open.remove(id) {
            None => {
                assert_eq!(event["ph"], "b", "{event}");
                open.insert(id, number(event, "ts"));
            }
            Some(begun) => assert!(event["ph"] == "e" && number(event, "ts") >= begun, "{event}"),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    slices.values().flatten().fold(0.0, |last, s| if s.1 > last { s.1 } else { last })
}

#[test]
fn a_pipeline_over_two_zones() {
    let folder = two_nodes();
    let events = timeline(folder.path(), &["two.toml"]);
    let output = tideplan_in(folder.path(), &["simulate", "two.toml", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let time = number(&answer, "iteration_time_s");
    assert!((check(&events) / 1e6 - time).abs() < 1e-9 * time);
    // 8 micro-batches: each of 8 devices has as many passes of each kind and one step; 16 transfers.
    let count = |cat: &str| phase(&events, "X").filter(|e| e["cat"] == cat).count();
    assert_eq!((count("forward"), count("backward"), count("update")), (64, 64, 8));
    assert_eq!((phase(&events, "s").count(), count("transfer")), (16, 64));
    // Each over the NIC of the sender, that of the receiver, and the link between the zones.
    assert_eq!(phase(&events, "b").count(), 48);
    let names: Vec<&str> = phase(&events, "M")
        .filter_map(|e| e["args"]["name"].as_str())
        .filter(|n| n.contains("wan"))
        .collect();
    assert_eq!(names, ["wan from east", "wan from west"]);
}

#[test]
fn pipelines_of_many_kinds() {
    let folder = two_nodes();
    let folded = timeline(folder.path(), &["opt350-a100x32-v100x96"]);
    let whole = timeline(folder.path(), &["opt350-a100x32-v100x96", "--no-fold"]);
    assert_eq!(check(&folded), check(&whole), "the same end");
    let rows = |events: &[Value]| {
        phase(events, "X").filter(|e| e["cat"] == "update").map(row).collect::<BTreeSet<_>>()
    };
    assert_eq!(rows(&whole).len(), 126, "every device of the plan");
    assert!(rows(&folded).len() < 126);
}

#[test]
fn a_file_that_cannot_be_written_is_left_alone() {
    let folder = two_nodes();
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    let before = names(folder.path());
    for out in ["no/such/t.json", "taken"] {
        let output = tideplan_in(folder.path(), &["simulate", "two.toml", "--timeline", out]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{out}: {error}");
        assert!(error.contains(&format!("cannot write `{out}`")), "{error}");
        assert_eq!(names(folder.path()), before, "{out}");
    }
}
