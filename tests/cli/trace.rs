//! `tideplan trace`: what it writes, and what it refuses.

use crate::{json, number, tideplan, tideplan_in};

#[test]
fn a_trace_goes_from_iperf_to_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = tideplan_in(folder.path(), args);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{args:?} {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    let intervals: Vec<String> = (0..10)
        .map(|i| format!("{{\"sum\":{{\"start\":{i}.0,\"bits_per_second\":{}e9}}}}", 1 + i % 2))
        .collect();
    std::fs::write(folder.path().join("run.json"), format!("{{\"intervals\":[{}]}}", intervals.join(",")))
        .unwrap();
    run(&["trace", "convert", "run.json", "--from", "iperf3", "--rename", "wan", "--out", "wan.csv"]);
    run(&[
        "trace",
        "convert",
        "wan.csv",
        "wan.csv",
        "--wrap",
        "60 s",
        "--resample",
        "2 s",
        "--out",
        "minute.csv",
    ]);
    let written = std::fs::read_to_string(folder.path().join("minute.csv")).unwrap();
    assert_eq!(written.lines().next(), Some("time_s,link,bandwidth_bps"));
    assert!(
        written.lines().skip(1).all(|l| l.ends_with(",wan,1500000000")) && written.lines().count() == 31,
        "{written}"
    );
    run(&["trace", "convert", "wan.csv", "--hold", "1 h", "--out", "held.csv"]);
    assert!(
        std::fs::read_to_string(folder.path().join("held.csv")).unwrap().ends_with("3600,wan,2000000000\n")
    );
    let text = run(&["trace", "plot", "wan.csv", "--out", "wan.svg"]);
    assert!(text.starts_with("wan ") && text.contains("1.000 Gbit/s to 2.000 Gbit/s"), "{text}");
    assert!(std::fs::read_to_string(folder.path().join("wan.svg")).unwrap().starts_with("<svg"));
    let text = run(&["trace", "stats", "wan.csv"]);
    assert!(text.contains("1.000 Gbit/s") && text.contains("-1.000"), "{text}");
}

#[test]
fn what_no_trace_can_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "time_s,link,bandwidth_bps\n0,wan,1e9\n1e9,wan,2e9\n";
    std::fs::write(folder.path().join("wan.csv"), rows).unwrap();
    for (change, says) in [
        (["--resample", "1 ms"], "T0408"),
        (["--scale", "1e300"], "a smaller `--scale`"),
        (["--wrap", "200000 d"], ""),
    ] {
        let args = [&["trace", "convert", "wan.csv", "--out", "new.csv"][..], &change].concat();
        let output = tideplan_in(folder.path(), &args);
        let error = String::from_utf8(output.stderr).unwrap();
        let refused = !says.is_empty();
        assert_eq!(output.status.code(), Some(if refused { 2 } else { 0 }), "{change:?}: {error}");
        assert!(
            error.contains(says) && folder.path().join("new.csv").exists() != refused,
            "{change:?}: {error}"
        );
    }
}

#[test]
fn the_load_of_a_port_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ports.csv");
    let rows = "time_s,link,in_bps,out_bps\n0,Leaf-1:5,1e9,2e9\n5,Leaf-1:5,3e9,2e9\n5,Leaf-9:53,1e9,1e9\n10,Leaf-9:53,1e9,1e9\n";
    std::fs::write(&file, rows).unwrap();
    let stats = ["trace", "stats", file.to_str().unwrap(), "--from", "zhejiang"];
    let (status, answer) = json(&[&stats[..], &["--link", "Leaf-9:53"]].concat());
    let series = answer["series"].as_array().unwrap();
    assert_eq!((status, series.len(), series[0]["name"].as_str()), (0, 1, Some("Leaf-9:53")));
    assert_eq!(tideplan(&[&stats[..], &["--link", "Leaf-2:1"]].concat()).status.code(), Some(2));
}

#[test]
fn generated_traces_repeat_and_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["a.csv", "b.csv"] {
        let args = [
            "trace",
            "generate",
            "--duration",
            "1 d",
            "--seed",
            "9",
            "--out",
            &path(name),
            "markov",
            "--high",
            "8 Gbps",
        ];
        assert_eq!(tideplan(&args).status.code(), Some(0));
    }
    let read = |name| std::fs::read(path(name)).unwrap();
    assert_eq!(read("a.csv"), read("b.csv"));
    let (status, answer) = json(&["trace", "stats", &path("a.csv")]);
    assert_eq!((status, answer["quantity"].as_str()), (0, Some("bandwidth_bps")));
    assert_eq!((number(&answer["series"][0], "min"), number(&answer["series"][0], "max")), (1e9, 8e9));
}

#[test]
fn bad_traces_and_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("bad.csv"), "time_s,link,bandwidth_bps\n0,a,1\n0,a,2\n").unwrap();
    std::fs::write(path("ok.csv"), "time_s,link,bandwidth_bps\n0,a,1\n5,a,2\n").unwrap();
    let (bad, ok, out) = (path("bad.csv"), path("ok.csv"), path("out.csv"));
    for (args, message) in [
        (vec!["trace", "stats", &bad], "is there twice"),
        (vec!["trace", "stats", "missing.csv"], "no such file"),
        (vec!["trace", "stats", &ok, "--from", "pcap"], "no kind of trace is called `pcap`"),
        (vec!["trace", "stats", &ok, "--link", "b"], "no series of that name"),
        (vec!["trace", "convert", &bad, "--out", &out], "is there twice"),
        (vec!["trace", "convert", &ok, "--resample", "0 s", "--out", &out], "above zero"),
        (vec!["trace", "convert", &ok, "--scale", "-1", "--out", &out], "above zero"),
        (
            vec!["trace", "convert", &ok, "--start", "5 s", "--end", "5 s", "--out", &out],
            "does not lie before",
        ),
        (vec!["trace", "convert", &ok, "--wrap", "5", "--out", &out], "needs a unit"),
        (vec!["trace", "generate", "--duration", "1 d", "--step", "1 ns", "--out", &out, "diurnal"], "rows"),
        (vec!["trace", "generate", "--duration", "1 d", "--out", &out, "diurnal", "--swing", "2"], "share"),
        (
            vec!["trace", "generate", "--duration", "1 d", "--out", &out, "markov", "--high", "5"],
            "needs a unit",
        ),
    ] {
        let output = tideplan(&args);
        let text = String::from_utf8(output.stderr).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?} {text}");
        assert!(text.contains(message), "{args:?}: {text}");
        assert!(!folder.path().join("out.csv").exists(), "{args:?}: nothing half written");
    }
}
