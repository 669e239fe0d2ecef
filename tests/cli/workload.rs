//! `tideplan simulate --workload`: traces written here, played on built-in scenarios, and what is said of bad ones.

use crate::{has_keys, json, number, tideplan};
use prost::Message;
use sim_models::workload_trace::chakra::wire;
use std::path::Path;

/// A folder with the traces of `ranks` ranks that compute and then reduce a MiB.
fn traces(ranks: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let number = |name: &str, value| wire::AttributeProto {
        name: name.into(),
        value: Some(wire::Value::Int64(value)),
    };
    let node = |id, name: &str, kind, data_deps, attr| wire::Node {
        id,
        name: name.into(),
        kind,
        data_deps,
        attr,
        ..wire::Node::default()
    };
    let metadata = wire::GlobalMetadata { version: "0.0.4".into(), attr: Vec::new() };
    for rank in 0..ranks {
        let mut bytes = metadata.encode_length_delimited_to_vec();
        for node in [
            node(1, "gemm", 4, Vec::new(), vec![number("num_ops", 1_000_000), number("tensor_size", 1_000)]),
            node(2, "sum", 7, vec![1], vec![number("comm_type", 0), number("comm_size", 1 << 20)]),
        ] {
            bytes.extend(node.encode_length_delimited_to_vec());
        }
        std::fs::write(folder.path().join(format!("t.{rank}.et")), bytes).unwrap();
    }
    folder
}

fn chakra(folder: &Path) -> String {
    format!("chakra:{}", folder.display())
}

#[test]
fn a_trace_on_a_ring_and_on_a_cluster() {
    let folder = traces(8);
    let timeline = folder.path().join("timeline.json");
    let (status, answer) = json(&[
        "simulate",
        "h100x8-switch",
        "--workload",
        &chakra(folder.path()),
        "--convention",
        "astra-sim",
        "--topology",
        "ring",
        "--splits",
        "4",
        "--set",
        "network.rate=\"50 GiB/s\"",
        "--set",
        "network.latency=\"500 ns\"",
        "--timeline",
        timeline.to_str().unwrap(),
    ]);
    assert_eq!(status, 0);
    has_keys(&answer, &["iteration_time_s", "events", "digest", "ranks", "folded"]);
    // The collective of ASTRA-sim's published run, 64,440 ns, behind 1 ns of compute.
    assert!((number(&answer, "iteration_time_s") * 1e9 - 64_441.0).abs() < 1e-3, "{answer}");
    let ranks = answer["ranks"].as_array().unwrap();
    assert_eq!(ranks.len(), 8);
    for rank in ranks {
        has_keys(rank, &["id", "gpu", "finish_s", "compute_s", "comm_s"]);
    }
    let spans = std::fs::read_to_string(timeline).unwrap();
    assert!(spans.contains("\"gemm\"") && spans.contains("rank 7"));
    let (_, wan) = json(&["simulate", "quickstart", "--workload", &chakra(folder.path())]);
    let (_, again) = json(&["simulate", "quickstart", "--workload", &chakra(folder.path())]);
    assert_eq!(wan, again);
    let table = tideplan(&["simulate", "quickstart", "--workload", &chakra(folder.path())]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("communication") && table.contains("a100:7"), "{table}");
}

#[test]
fn a_simai_workload() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.txt");
    let text = "HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 2 ep: 2 pp: 2 vpp: 1 ga: 2 all_gpus: 8 pp_comm 1000\n\
        2\nattention -1 1000 ALLGATHER 4096 1000 REDUCESCATTER 4096 1000 ALLREDUCE 4096 100\n\
        moe -1 1000 ALLTOALL_EP 4096 1000 ALLTOALL_EP 4096 1 ALLREDUCE_DP_EP 4096 100\n";
    std::fs::write(&file, text).unwrap();
    let workload = format!("simai:{}", file.display());
    let (status, answer) = json(&["simulate", "quickstart", "--workload", &workload]);
    assert_eq!(status, 0);
    has_keys(&answer, &["iteration_time_s", "events", "digest", "ranks", "collectives"]);
    assert_eq!(
        (&answer["ranks"][0]["count"], answer["collectives"].as_array().unwrap().len()),
        (&8.into(), 4)
    );
    let table = tideplan(&["simulate", "quickstart", "--workload", &workload]);
    assert!(String::from_utf8(table.stdout).unwrap().contains("ranks in lockstep"));
}

#[test]
fn bad_ones_are_said() {
    let nothing = tempfile::tempdir().unwrap();
    let gap = traces(3);
    std::fs::remove_file(gap.path().join("t.1.et")).unwrap();
    let two = traces(2);
    std::fs::copy(two.path().join("t.0.et"), two.path().join("other.0.et")).unwrap();
    let cut = traces(2);
    std::fs::write(cut.path().join("t.1.et"), [7, 10]).unwrap();
    let groups = traces(2);
    std::fs::write(groups.path().join("t.json"), "{\"1\": [0, 9]}").unwrap();
    let many = traces(33);
    let file = nothing.path().join("simai.txt");
    std::fs::write(&file, "MICRO\n1\n").unwrap();
    let simai = format!("simai:{}", file.display());
    let system = nothing.path().join("system.json");
    std::fs::write(&system, "{\"peak-perf\": -1}").unwrap();
    let good = traces(2);
    for (workload, more, expected) in [
        ("trace.et".to_string(), vec![], "`chakra:DIR` or `simai:FILE`"),
        ("chakra:".to_string(), vec![], "`chakra:DIR` or `simai:FILE`"),
        ("chakra:/no/such/folder".to_string(), vec![], "cannot read"),
        (chakra(nothing.path()), vec![], "no traces"),
        (chakra(gap.path()), vec![], "t.1.et is missing"),
        (chakra(two.path()), vec![], "traces of `other` and of `t`"),
        (chakra(cut.path()), vec![], "rank 1: no Chakra metadata"),
        (chakra(groups.path()), vec![], "process group `1`: rank 9"),
        (chakra(many.path()), vec![], "33 ranks, and the scenario has 32 GPUs"),
        (chakra(good.path()), vec!["--topology", "ring"], "one kind of link"),
        (chakra(good.path()), vec!["--system", system.to_str().unwrap()], "`peak-perf`"),
        (chakra(good.path()), vec!["--splits", "0"], "0 is not in 1..=65535"),
        (simai, vec![], "policy `MICRO`"),
    ] {
        let arguments = [&["simulate", "quickstart", "--workload", &workload], &more[..]].concat();
        let output = tideplan(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
