//! What changes while a job runs: events of every kind, traces of nodes, `[replay]`.

use crate::traces::TWO_ZONES;
use scenarios::{Overrides, load_text};
use sim_models::replay::{FULL_SPEED, Forecast, Replay};
use sim_models::scenario::{DeviceId, NodeId};

const S: u64 = 1_000_000_000;

fn load(text: &str, files: &[(&str, &str)]) -> Result<Replay, Vec<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    let text = format!("{TWO_ZONES}{text}");
    let loaded = load_text(&text, "t.toml", Some(folder.path()), &Overrides::default());
    loaded.map(|l| l.scenario.replay).map_err(|f| f.iter().map(ToString::to_string).collect())
}

fn node(group: u32, index: u32) -> NodeId {
    NodeId { group, index }
}

#[test]
fn events_of_every_kind_are_laid_over_each_other() {
    let replay = load(
        r#"
[[network.configurations]]
name = "night"
links = [{ link = "wan", capacity = "2 GB/s", latency = "5 ms" }]

[[events]]
at = "100 s"
network = "night"
until = "400 s"

[[events]]
at = "200 s"
link = "wan"
capacity = "3 GB/s"
until = "300 s"

[[events]]
at = "250 s"
zone = "west"
until = "260 s"

[[events]]
at = "500 s"
link = "wan"
latency = "40 ms"

[[events]]
at = "600 s"
link = "wan"
down = true
until = "601 s"

[[events]]
at = "10 s"
nodes = "v:0-1"
down = true
until = "20 s"

[[events]]
at = "12 s"
nodes = "v:1"
down = true
until = "14 s"

[[events]]
at = "30 s"
gpus = "a:5"
slowdown = 4

[[events]]
at = "300 d"
nodes = "a:0"
slowdown = 2
"#,
        &[],
    )
    .expect("good events");
    let wan = &replay.links[0];
    let gb = |t: u64| (wan.capacity.at(t * S) >> 16) as f64 / 1e9;
    let at = [0, 100, 200, 250, 260, 300, 400, 600, 601];
    assert_eq!(at.map(gb), [1.0, 2.0, 3.0, 0.0, 3.0, 2.0, 1.0, 0.0, 1.0]);
    assert_eq!([0, 100, 400, 500].map(|t| wan.latency.at(t * S) / 1_000_000_000), [15, 5, 15, 40]);
    let up = |index, t| replay.up[&node(1, index)].at(t * S);
    assert_eq!([9, 10, 13, 15, 20].map(|t| (up(0, t), up(1, t))), [(1, 1), (0, 0), (0, 0), (0, 0), (1, 1)]);
    let gpu = |index| DeviceId { group: 0, index };
    assert_eq!(replay.speeds[&gpu(5)].at(31 * S), FULL_SPEED / 4);
    assert_eq!(replay.speeds[&gpu(3)].at(301 * 86_400 * S), FULL_SPEED / 2);
    assert_eq!(replay.speeds.len(), 5);
}

#[test]
fn nodes_come_go_slow_down_and_share_their_nics() {
    let trace = |nodes: &str, keys: &str, file: &str| {
        load(&format!("[[traces]]\nnodes = \"{nodes}\"\nfile = \"t.csv\"\n{keys}\n"), &[("t.csv", file)])
            .unwrap_or_else(|f| panic!("{f:?}"))
    };
    let up = |replay: &Replay, t: u64| {
        (0..2).map(|i| replay.up.get(&node(0, i)).map_or(1, |u| u.at(t * S))).sum::<u64>()
    };
    let counts = "time_s,node_group,available\n0,pool,2\n100,pool,1\n200,pool,0\n300,pool,2\n";
    for (keys, times) in [
        ("", [(0, 2), (100, 1), (250, 0), (300, 2), (450, 2), (550, 1)]),
        ("mode = \"hold\"", [(0, 2), (100, 1), (250, 0), (300, 2), (500, 2), (550, 2)]),
        ("select = \"pool\"\nscale = 0.5", [(0, 1), (100, 0), (250, 0), (300, 1), (350, 1), (399, 1)]),
        ("unit = \"gpus\"\nscale = 4", [(0, 2), (100, 1), (250, 0), (300, 2), (350, 2), (399, 2)]),
    ] {
        let replay = trace("a", keys, counts);
        for (t, expected) in times {
            assert_eq!(up(&replay, t), expected, "{keys} at {t} s");
        }
    }
    let replay =
        trace("v", "column = \"up\"", "time_s,node,up\n0,n001,1\n20000000,n001,0\n30000000,n001,1\n");
    assert_eq!([0, 20_000_000, 30_000_000].map(|t| replay.up[&node(1, 1)].at(t * S)), [1, 0, 1]);
    let replay = trace("v", "column = \"slowdown\"", "time_s,gpu,slowdown\n0,g3,1\n5,g3,2\n");
    assert_eq!(replay.speeds.len(), 1);
    assert_eq!(replay.speeds[&DeviceId { group: 1, index: 3 }].at(5 * S), FULL_SPEED / 2);
    let replay = trace("v", "column = \"slowdown\"", "time_s,node,slowdown\n0,1,3\n");
    assert_eq!(replay.speeds.keys().map(|d| d.index).collect::<Vec<_>>(), [4, 5, 6, 7]);
    let nic = trace(
        "v",
        "column = \"bandwidth_bps\"\nunit = \"GB/s\"",
        "time_s,node,bandwidth_bps\n0,0,2\n1,0,3\n",
    );
    assert_eq!(nic.nics[&node(1, 0)].at(S) >> 16, 3_000_000_000);
}

#[test]
fn load_is_what_others_take() {
    let text = "[[traces]]\nlink = \"wan\"\nfile = \"t.csv\"\ncolumn = \"load_bps\"\n";
    let replay = load(text, &[("t.csv", "time_s,link,load_bps\n0,x,2e9\n5,x,9e9\n")]).expect("a good trace");
    // The link has 8 Gbit/s.
    assert_eq!([0, 5].map(|t| replay.links[0].capacity.at(t * S) >> 16), [750_000_000, 0]);
}

#[test]
fn background_is_taken_away() {
    let rows = "time_s,link,load_bps,share\n0,x,2e9,0.5\n5,x,9e9,0.25\n";
    let at = |text: &str| {
        let replay = load(text, &[("t.csv", rows)]).unwrap_or_else(|f| panic!("{text}: {f:?}"));
        [0, 5, 12].map(|t| (replay.links[0].capacity.at(t * S) >> 16) / 1_000_000)
    };
    // The link has 8 Gbit/s; MB/s that are left.
    for (text, left) in [
        ("link = \"wan\"\nrate = \"2 Gbps\"\n", [750, 750, 750]),
        ("between = [\"west\", \"east\"]\nrate = \"2 Gbps\"\n", [750, 750, 750]),
        ("link = \"wan\"\nrate = \"2 Gbps\"\nfrom = \"5 s\"\nuntil = \"6 s\"\n", [1000, 750, 1000]),
        ("link = \"wan\"\nrate = \"9 Gbps\"\nfrom = \"5 s\"\n", [1000, 0, 0]),
        ("link = \"wan\"\nfile = \"t.csv\"\n", [750, 0, 750]),
        ("link = \"wan\"\nfile = \"t.csv\"\nmode = \"hold\"\nscale = 0.5\n", [875, 437, 437]),
        ("link = \"wan\"\nfile = \"t.csv\"\ncolumn = \"share\"\n", [500, 250, 500]),
        // Loads add up, and come on top of what a trace and an event leave.
        (
            "link = \"wan\"\nfile = \"t.csv\"\ncolumn = \"share\"\n[[background]]\nlink = \"wan\"\nrate = \"0.8 Gbps\"\n",
            [400, 150, 400],
        ),
        (
            "link = \"wan\"\nrate = \"0.8 Gbps\"\n[[traces]]\nlink = \"wan\"\nfile = \"t.csv\"\ncolumn = \"load_bps\"\n\
             [[events]]\nat = \"12 s\"\nlink = \"wan\"\ncapacity = \"1.6 Gbps\"\n",
            [650, 0, 100],
        ),
    ] {
        assert_eq!(at(&format!("[[background]]\n{text}")), left, "{text}");
    }
    let nics = load("[[background]]\nnodes = \"v:1\"\nrate = \"8 Gbps\"\nuntil = \"5 s\"\n", &[])
        .expect("good")
        .nics;
    assert_eq!(nics.keys().collect::<Vec<_>>(), [&node(1, 1)]);
    let [loaded, free] = [0, 5].map(|t| nics[&node(1, 1)].at(t * S) >> 16);
    assert_eq!(free - loaded, 1_000_000_000);
    for (text, message) in [
        ("rate = \"1 Gbps\"", "`[[background]]` lacks `link`"),
        ("link = \"wan\"", "`[[background]]` lacks `rate`"),
        ("link = \"wam\"\nrate = \"1 Gbps\"", "no link is called `wam`"),
        (
            "link = \"wan\"\nnodes = \"v:0\"\nrate = \"1 Gbps\"",
            "`link` and `nodes` both say what the load is on",
        ),
        ("between = [\"west\", \"north\"]\nrate = \"1 Gbps\"", "no link joins"),
        ("nodes = \"v:7\"\nrate = \"1 Gbps\"", "there is no number 7"),
        (
            "link = \"wan\"\nrate = \"1 Gbps\"\nfile = \"t.csv\"",
            "`rate` and `file`: the load is a rate or a trace",
        ),
        ("link = \"wan\"\nrate = \"1 Gbps\"\nscale = 2", "`rate` and `scale`"),
        (
            "link = \"wan\"\nfile = \"t.csv\"\nuntil = \"5 s\"",
            "`from` and `until` are of a load with a `rate`",
        ),
        (
            "link = \"wan\"\nrate = \"1 Gbps\"\nfrom = \"5 s\"\nuntil = \"5 s\"",
            "the load ends before it begins",
        ),
        ("link = \"wan\"\nfile = \"t.csv\"\nunit = \"gbps\"", "`gbps` is no unit of rates"),
        ("link = \"wan\"\nrat = \"1 Gbps\"", "rate"),
        ("link = \"wan\"\nfile = \"t.csv\"\ncolumn = \"load\"", "the header has no column `load`"),
        ("link = \"wan\"\nfile = \"t.csv\"\nbuiltin = \"x\"", "both say where the trace is"),
    ] {
        let faults = load(&format!("[[background]]\n{text}\n"), &[("t.csv", rows)]).expect_err(text);
        assert!(faults.iter().any(|f| f.contains(message)), "{text}: {faults:?}");
    }
}

#[test]
fn the_table_of_a_replay_is_read() {
    let text = r#"
[replay]
history = "1 h"
until = "349 d"
decide_every = "30 s"
switch_cost = "2 s"
switch_overlap = true
checkpoint_every = "10 min"
checkpoint_zone = "west"
threshold = 0.2
hysteresis = 3
forecast = "ar1"
max_plans = 5
jitter = true
"#;
    let o = load(text, &[]).expect("a good table").options;
    assert_eq!((o.start, o.until, o.decide_every), (3600 * S, Some(349 * 86_400 * S), 30 * S));
    assert_eq!((o.switch_cost, o.switch_overlap, o.checkpoint_every), (2 * S, true, Some(600 * S)));
    assert_eq!((o.threshold, o.hysteresis, o.forecast, o.max_plans), (0.2, 3, Forecast::Ar1, 5));
    assert_eq!((o.period, o.window, o.simulations, o.jitter), (600 * S, 300 * S, 200, true));
    let other =
        load("[replay]\nhistory_file = \"h.csv\"\n", &[("h.csv", "time_s,link,bandwidth_bps\n0,wan,8e9\n")]);
    assert_eq!(other.expect("good").links[0].history.as_ref().map(|h| h.at(0) >> 16), Some(1_000_000_000));
}

#[test]
fn what_cannot_happen_is_refused() {
    let rows = "time_s,node,up\n0,n7,1\n";
    for (text, message) in [
        ("[[events]]\nat = \"1 s\"\n", "T0407]: the event is of nothing"),
        ("[[events]]\nat = \"1 s\"\nlink = \"wan\"\n", "does not say what becomes of its `link`"),
        ("[[events]]\nat = \"1 s\"\nlink = \"wan\"\nslowdown = 2\n", "an event of `link` has no `slowdown`"),
        ("[[events]]\nat = \"1 s\"\nlink = \"wan\"\nzone = \"east\"\n", "is of several things"),
        (
            "[[events]]\nat = \"1 s\"\nlink = \"wan\"\ndown = true\ncapacity = \"1 bps\"\n",
            "both say the capacity",
        ),
        (
            "[[events]]\nat = \"1 s\"\nnetwork = \"night\"\n",
            "no configuration of the network is called `night`",
        ),
        ("[[events]]\nat = \"1 s\"\nzone = \"north\"\ndown = true\n", "no link reaches the zone `north`"),
        ("[[events]]\nat = \"1 s\"\nnodes = \"b:0\"\ndown = true\n", "no node group is called `b`"),
        ("[[events]]\nat = \"1 s\"\nnodes = \"v:2\"\ndown = true\n", "`v` has 2 nodes: there is no number 2"),
        ("[[events]]\nat = \"2 s\"\nuntil = \"1 s\"\nlink = \"wan\"\ndown = true\n", "ends before it begins"),
        ("[[traces]]\nfile = \"t.csv\"\n", "lacks `link`"),
        ("[[traces]]\nlink = \"wan\"\nnodes = \"v\"\nfile = \"t.csv\"\n", "both say what the trace is of"),
        ("[[traces]]\nnodes = \"b\"\nfile = \"t.csv\"\n", "no node group is called `b`"),
        ("[[traces]]\nnodes = \"v\"\nfile = \"t.csv\"\ncolumn = \"speed\"\n", "nodes have no column `speed`"),
        ("[[traces]]\nnodes = \"v\"\nfile = \"t.csv\"\n", "the header has no column `available`"),
        (
            "[[traces]]\nnodes = \"v\"\nfile = \"t.csv\"\ncolumn = \"up\"\n",
            "`n7` does not end in a number below 2",
        ),
        ("[replay]\nuntil = 5\n", "needs a unit"),
        ("[replay]\nforecast = \"magic\"\n", "no such choice"),
        ("[replay]\ncheckpoint_zone = \"moon\"\n", "no nodes are in the zone `moon`"),
        ("[replay]\nhistory_file = \"none.csv\"\n", "no such file"),
    ] {
        let faults = load(text, &[("t.csv", rows)]).expect_err(text);
        assert!(faults[0].contains(message), "{text}: {}", faults[0]);
    }
}
