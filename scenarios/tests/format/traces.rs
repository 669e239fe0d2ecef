//! Traces and events as capacity over time.

use scenarios::trace::{Selection, Series};
use scenarios::{Overrides, load_text};
use sim_core::{CapacitySource, SimTime};

pub(crate) const TWO_ZONES: &str = r#"schema_version = 1
model = { name = "opt-350m" }
training = { global_batch = 16 }

[[nodes]]
name = "a"
count = 2
gpus_per_node = 4
gpu = "A100-40"
zone = "east"

[[nodes]]
name = "v"
count = 2
gpus_per_node = 4
gpu = "V100-16"
zone = "west"

[[network.links]]
name = "wan"
between = ["east", "west"]
capacity = "8 Gbps"
latency = "15 ms"
"#;

/// GB/s of the link at each second.
fn capacity(file: &str, trace: &str, seconds: &[f64]) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("t.csv"), trace).expect("a file");
    let text = format!("{TWO_ZONES}{file}");
    let loaded = load_text(&text, "t.toml", Some(folder.path()), &Overrides::default());
    let scenario = loaded.unwrap_or_else(|f| panic!("{}", f[0])).scenario;
    let at = |s: &f64| SimTime::from_secs_f64(*s).expect("in range");
    seconds.iter().map(|s| scenario.zone_links[0].capacity.at(at(s)).as_bytes_per_s() / 1e9).collect()
}

#[test]
fn a_trace_holds_wraps_scales_and_selects() {
    let plain = "time_s,link,bandwidth_bps\n0,wan,8e9\n10,wan,16e9\n15,wan,0\n";
    let seconds = [0.0, 9.9, 10.0, 15.0, 19.9, 20.0, 35.0];
    // (keys of the trace, file, GB/s at `seconds`)
    for (keys, file, expected) in [
        ("", plain, [1.0, 1.0, 2.0, 0.0, 0.0, 1.0, 0.0]),
        ("mode = \"hold\"", plain, [1.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0]),
        ("scale = 0.5", plain, [0.5, 0.5, 1.0, 0.0, 0.0, 0.5, 0.0]),
        ("unit = \"B/s\", scale = 0.125", plain, [1.0, 1.0, 2.0, 0.0, 0.0, 1.0, 0.0]),
        ("unit = \"capacity\", scale = 1e-9", plain, [8.0, 8.0, 16.0, 0.0, 0.0, 8.0, 0.0]),
        // Columns in another order, one that is not known, no link, a comment, a blank line, spaces, Windows' line ends.
        (
            "column = \"mbps\", unit = \"Mbps\"",
            "\u{feff}# measured\r\nmbps, note ,time_s\r\n\r\n8000,x,0\r\n16000,,10\r\n0,,15\r\n",
            [1.0, 1.0, 2.0, 0.0, 0.0, 1.0, 0.0],
        ),
        // Unix times start at 0; another link in between is not read.
        (
            "select = \"b\"",
            "link,time_s,bandwidth_bps\nb,1.7e9,8e9\na,1,no\nb,1700000010,16e9\n\"b\",1700000015,0\n",
            [1.0, 1.0, 2.0, 0.0, 0.0, 1.0, 0.0],
        ),
        // The first value holds before its point, and one point for ever.
        ("", "time_s,bandwidth_bps\n10,16e9\n", [2.0; 7]),
        ("mode = \"hold\"", "time_s,bandwidth_bps\n10,8e9\n20,16e9", [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]),
    ] {
        let keys = keys.replace(", ", "\n");
        let text = format!("[[traces]]\nlink = \"wan\"\nfile = \"t.csv\"\n{keys}\n");
        assert_eq!(capacity(&text, file, &seconds), expected, "{keys} {file}");
    }
}

#[test]
fn events_lie_over_the_trace() {
    let file = r#"
[[traces]]
link = "wan"
file = "t.csv"

[[events]]
at = "12 s"
link = "wan"
capacity = "0 bps"
until = "14 s"

[[events]]
at = "3 s"
link = "wan"
capacity = "4 GB/s"

[[events]]
at = "5 s"
link = "wan"
capacity = "3 GB/s"
until = "6 s"
"#;
    let trace = "time_s,link,bandwidth_bps\n0,wan,8e9\n10,wan,16e9\n";
    let seconds = [0.0, 3.0, 4.9, 5.0, 6.0, 10.0, 12.0, 13.9, 14.0, 20.0];
    assert_eq!(capacity(file, trace, &seconds), [1.0, 4.0, 4.0, 3.0, 1.0, 2.0, 0.0, 0.0, 2.0, 1.0]);
}

#[test]
fn latency_is_the_links_own_or_the_mean_of_the_trace() {
    let trace = "time_s,bandwidth_bps,latency_s\n0,8e9,0.010\n10,8e9,0.040\n";
    let load = |text: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("t.csv"), trace).expect("a file");
        let text = format!("{text}[[traces]]\nlink = \"wan\"\nfile = \"t.csv\"\n");
        let loaded = load_text(&text, "t.toml", Some(folder.path()), &Overrides::default());
        loaded.unwrap_or_else(|f| panic!("{}", f[0])).scenario.zone_links[0].latency.as_secs_f64()
    };
    assert_eq!(load(TWO_ZONES), 0.015);
    let bare = TWO_ZONES.replace("latency = \"15 ms\"\n", "").replace("capacity = \"8 Gbps\"\n", "");
    assert!((load(&bare) - 0.025).abs() < 1e-12);
}

#[test]
fn a_series_gives_its_points_and_period() {
    let series = Series::parse("time_s,bandwidth_bps\n0,1\n2,3\n5,4\n", "x.csv", &Selection::of_link("wan"));
    let series = series.expect("a good trace");
    let points: Vec<(f64, f64)> = series.points().map(|(t, v)| (t.as_secs_f64(), v)).collect();
    assert_eq!(points, [(0.0, 1.0), (2.0, 3.0), (5.0, 4.0)]);
    assert_eq!(series.period().as_secs_f64(), 8.0);
    assert_eq!(series.latency_s(), None);
}
