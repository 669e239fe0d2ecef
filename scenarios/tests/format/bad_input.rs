//! Bad input: one good file, spoilt one way at a time, and the exact message of each (`snapshots/`).

use crate::traces::TWO_ZONES;
use scenarios::{Fault, Overrides, load, load_plan_for, load_text, plan_from_text};
use std::fmt::Write;
use std::path::Path;

const PLAN: &str = r#"
[plan]
micro_batch = 2
[[plan.pipelines]]
micro_batches = 8
stages = [
    { layers = "0-12", tp = 4, devices = ["a:0-3"] },
    { layers = "13-25", tp = 4, devices = ["v:0-3"] },
]
"#;

const TRACE: &str = "\n[[traces]]\nlink = \"wan\"\nfile = \"t.csv\"\n";
const EVENT: &str = "\n[[events]]\nat = \"10 s\"\nlink = \"wan\"\ncapacity = \"1 Gbps\"\n";

/// The faults as the command would list them; the folder's name is cut out.
fn shown(faults: &[Fault], folder: &Path) -> String {
    let mut text = String::new();
    for fault in faults {
        writeln!(text, "{fault}").expect("a String takes all");
    }
    text.replace(&format!("{}/", folder.display()), "")
}

struct Report {
    folder: tempfile::TempDir,
    text: String,
}

impl Report {
    fn new() -> Report {
        Report { folder: tempfile::tempdir().expect("a folder"), text: String::new() }
    }

    /// Loads `text`, with `overrides`, and notes its faults.
    fn load(&mut self, what: &str, text: &str, overrides: &Overrides) {
        let result = load_text(text, "bad.toml", Some(self.folder.path()), overrides);
        let faults = result.map(|_| ()).expect_err(what);
        self.note(what, &faults);
    }

    fn note(&mut self, what: &str, faults: &[Fault]) {
        let shown = shown(faults, self.folder.path());
        write!(self.text, "--- {what}\n{shown}\n").expect("a String takes all");
    }

    /// Spoils the good file by replacing `from` by `to`.
    fn spoil(&mut self, what: &str, from: &str, to: &str) {
        let good = format!("{TWO_ZONES}{TRACE}{EVENT}{PLAN}");
        std::fs::write(self.folder.path().join("t.csv"), "time_s,link,bandwidth_bps\n0,wan,1e9\n")
            .expect("a file");
        assert!(good.contains(from), "{what}: {from}");
        self.load(what, &good.replacen(from, to, 1), &Overrides::default());
    }

    fn trace(&mut self, what: &str, trace: &str) {
        std::fs::write(self.folder.path().join("t.csv"), trace).expect("a file");
        self.load(what, &format!("{TWO_ZONES}{TRACE}"), &Overrides::default());
    }
}

#[test]
fn the_file() {
    let mut r = Report::new();
    r.spoil("not TOML", "count = 2", "count = \nnic = 100 Gbps");
    r.spoil("unknown key", "count = 2", "count = 2\nnicc = \"1 Gbps\"");
    r.spoil("unknown key, and what it was meant for is missing", "count", "cuont");
    r.spoil("unknown table", "[plan]", "[serach]\nmax_stages = 2\n[plan]");
    r.spoil("no model", "model = { name = \"opt-350m\" }\n", "");
    r.load("one table", "[nodes]\nname = \"a\"\n", &Overrides::default());
    r.load("nothing at all", "", &Overrides::default());
    r.load(
        "no nodes",
        "schema_version = 1\nmodel = { name = \"opt-350m\" }\ntraining = { global_batch = 1 }\nnodes = []",
        &Overrides::default(),
    );
    r.spoil("another version", "schema_version = 1", "schema_version = 7");
    r.spoil("a text for a number", "count = 2", "count = \"2\"");
    r.spoil("one table for many", "[[nodes]]\nname = \"a\"", "[nodes]\nname = \"a\"");
    r.spoil("missing unit", "\"8 Gbps\"", "8");
    r.spoil("unit of another kind", "\"8 Gbps\"", "\"8 GiB\"");
    r.spoil("negative", "\"8 Gbps\"", "\"-8 Gbps\"");
    r.spoil("NaN", "\"15 ms\"", "\"nan ms\"");
    r.spoil("NaN without unit", "\"15 ms\"", "nan");
    r.spoil("zero capacity of a link", "\"8 Gbps\"", "\"0 Gbps\"");
    r.spoil("zero nodes", "count = 2", "count = 0");
    r.spoil("negative count", "count = 2", "count = -2");
    r.spoil("absurd count", "count = 2", "count = 99999999999999999999");
    r.spoil("too many GPUs", "count = 2", "count = 1000000");
    r.spoil("absurd batch", "global_batch = 16", "global_batch = 2147483649");
    r.spoil("no such choice", "global_batch = 16", "global_batch = 16, precision = \"fp7\"");
    r.spoil("no such optimizer", "global_batch = 16", "global_batch = 16, optimizer = \"adamw\"");
    r.spoil("empty name", "name = \"a\"", "name = \"\"");
    r.spoil(
        "several at once",
        "count = 2\ngpus_per_node = 4\ngpu = \"A100-40\"",
        "count = 0\ngpus_per_node = 4\ngpu = \"A100-41\"\nnic = \"100\"\nmemory = 40",
    );
    insta::assert_snapshot!("the_file", r.text);
}

#[test]
fn what_it_refers_to() {
    let mut r = Report::new();
    r.spoil("two groups of one name", "name = \"v\"", "name = \"a\"");
    r.spoil("unknown GPU", "A100-40", "A100-48");
    r.spoil("GPU without measured links", "A100-40", "T4");
    r.spoil("unknown model", "opt-350m", "opt-350");
    r.spoil("built-in model with sizes", "name = \"opt-350m\"", "name = \"opt-350m\", hidden = 2048");
    r.spoil(
        "model of one's own, some sizes missing",
        "name = \"opt-350m\"",
        "name = \"mine\", hidden = 2048",
    );
    r.spoil("profile that is not there", "gpu = \"A100-40\"", "gpu = \"A100-40\"\nprofile = \"no.csv\"");
    r.spoil("profile that is no table", "gpu = \"A100-40\"", "gpu = \"A100-40\"\nprofile = \"t.csv\"");
    r.spoil("link to a zone nobody has", "[\"east\", \"west\"]", "[\"east\", \"wets\"]");
    r.spoil("link of a zone to itself", "[\"east\", \"west\"]", "[\"east\", \"east\"]");
    r.spoil("link of three zones", "[\"east\", \"west\"]", "[\"east\", \"west\", \"east\"]");
    r.spoil(
        "two links of one name, and of one pair",
        "\n[[traces]]",
        "\n[[network.links]]\nname = \"wan\"\nbetween = [\"east\", \"west\"]\ncapacity = \"1 Gbps\"\nlatency = \"1 ms\"\n\
         [[network.links]]\nname = \"lan\"\nbetween = [\"west\", \"east\"]\ncapacity = \"1 Gbps\"\nlatency = \"1 ms\"\n\n[[traces]]",
    );
    r.spoil("link without latency", "latency = \"15 ms\"\n", "");
    r.load(
        "link without capacity or trace",
        &TWO_ZONES.replace("capacity = \"8 Gbps\"\n", ""),
        &Overrides::default(),
    );
    let links = TWO_ZONES.find("[[network.links]]").expect("it has links");
    r.load("zones that nothing joins", &TWO_ZONES[..links], &Overrides::default());
    let network =
        |text: &str| TWO_ZONES.replace("[[network.links]]", &format!("[network]\n{text}\n[[network.links]]"));
    r.load("rate and curves", &network("rate = \"1 Gbps\"\ncurves = \"sailor\""), &Overrides::default());
    r.load("latency of the curves", &network("latency = \"1 us\""), &Overrides::default());
    insta::assert_snapshot!("what_it_refers_to", r.text);
}

#[test]
fn gpus_of_ones_own() {
    const X200: &str = "[[gpus]]\nname = \"X200\"\nmemory = \"96 GiB\"\nmemory_bandwidth = \"4 TB/s\"\nmultiprocessors = 160\n\
                        tflops = { fp32 = 80, bf16 = 640 }\n\n";
    let good = format!("{}{X200}[network]\nrate = \"100 Gbps\"\n", TWO_ZONES.replace("V100-16", "X200"));
    let good = good.replace("[[network.links]]\n", "").replace("name = \"wan\"\n", "");
    let links = good.find("between").expect("it has a link");
    let good = [&good[..links], &good[good.find("[[gpus]]").expect("it has GPUs")..]].concat();
    load_text(&good, "good.toml", None, &Overrides::default()).unwrap_or_else(|f| panic!("{}", f[0]));
    let mut r = Report::new();
    for (what, from, to) in [
        ("a name of the catalogue", "name = \"X200\"", "name = \"a100-40\""),
        ("a name twice", "[network]", &format!("{X200}[network]")),
        ("another name than the nodes have", "name = \"X200\"", "name = \"X300\""),
        ("no fp32", "fp32 = 80, ", ""),
        ("figures at fault", "160", "0\nnvlink = \"0 GB/s\""),
        ("bandwidth as a size", "\"4 TB/s\"", "\"4 TB\""),
        ("NaN and infinity", "fp32 = 80, bf16 = 640", "fp32 = nan, bf16 = inf"),
        ("unknown format", "bf16", "bf8"),
        ("a figure that is missing", "memory_bandwidth = \"4 TB/s\"\n", ""),
        ("no rate", "rate = \"100 Gbps\"", ""),
    ] {
        assert!(good.contains(from), "{what}: {from}");
        r.load(what, &good.replacen(from, to, 1), &Overrides::default());
    }
    insta::assert_snapshot!("gpus_of_ones_own", r.text);
}

#[test]
fn traces_and_events() {
    let mut r = Report::new();
    r.spoil("trace of a link nobody has", "link = \"wan\"\nfile", "link = \"wam\"\nfile");
    r.spoil("event of a link nobody has", "link = \"wan\"\ncapacity", "link = \"north\"\ncapacity");
    r.spoil("trace file that is not there", "t.csv", "no.csv");
    r.spoil("trace without a file", "file = \"t.csv\"\n", "");
    r.spoil("trace from two places", "file = \"t.csv\"", "file = \"t.csv\"\nbuiltin = \"x\"");
    r.spoil("no such built-in trace", "file = \"t.csv\"", "builtin = \"zhejiang-leaf-9-35\"");
    r.spoil("no such unit", "file = \"t.csv\"", "file = \"t.csv\"\nunit = \"gbps\"");
    r.spoil("unit that is too large", "file = \"t.csv\"", "file = \"t.csv\"\nunit = \"Tbps\"");
    r.spoil("negative scale", "file = \"t.csv\"", "file = \"t.csv\"\nscale = -1");
    r.spoil("link that the file does not have", "file = \"t.csv\"", "file = \"t.csv\"\nselect = \"lan\"");
    r.spoil("two traces of a link", "[[events]]", "[[traces]]\nlink = \"wan\"\nfile = \"t.csv\"\n[[events]]");
    r.spoil("event that ends before it begins", "at = \"10 s\"", "at = \"10 s\"\nuntil = \"9 s\"");
    r.spoil(
        "events at the same time",
        "[[events]]",
        "[[events]]\nat = \"5 s\"\nuntil = \"11 s\"\nlink = \"wan\"\ncapacity = \"0 bps\"\n[[events]]",
    );
    r.trace("empty trace", "# nothing\n\n");
    r.trace("header alone", "time_s,link,bandwidth_bps\n");
    r.trace("wrong header", "time,link,bandwith_bps\n0,wan,1\n");
    r.trace("goes backwards", "time_s,link,bandwidth_bps\n0,wan,1e9\n10,wan,1e9\n5,wan,1e9\n");
    r.trace("a time twice", "time_s,link,bandwidth_bps\n0,wan,1e9\n10,wan,1e9\n10,wan,2e9\n");
    r.trace(
        "no numbers",
        "time_s,link,bandwidth_bps\n0,wan,nan\n1,wan,-5\nx,wan,1e9\n-1,wan,1\n3,wan\n4,wan,inf\n",
    );
    r.trace("over 213 days", "time_s,link,bandwidth_bps\n0,wan,1\n2e7,wan,1\n");
    r.trace("other links", "time_s,link,bandwidth_bps\n0,north,1\n0,south,1\n");
    insta::assert_snapshot!("traces_and_events", r.text);
}

#[test]
fn plans() {
    let mut r = Report::new();
    r.spoil("stage without layers", "\"13-25\"", "\"\"");
    r.spoil("stage without devices", "[\"v:0-3\"]", "[]");
    r.spoil("pipeline without stages", "stages = [\n", "stages = []\nx = [\n");
    r.spoil("layers backwards", "\"13-25\"", "\"25-13\"");
    r.spoil("a layer twice", "\"13-25\"", "\"12-25\"");
    r.spoil("a layer in no stage", "\"13-25\"", "\"14-25\"");
    r.spoil("a layer that is not there", "\"13-25\"", "\"13-26\"");
    r.spoil("a device twice", "[\"v:0-3\"]", "[\"a:3-6\"]");
    r.spoil("a device that is not there", "[\"v:0-3\"]", "[\"v:5-8\"]");
    r.spoil("a group that is not there", "[\"v:0-3\"]", "[\"w:0-3\"]");
    r.spoil("more devices than there are", "[\"v:0-3\"]", "[\"v:0-4000000000\"]");
    r.spoil("devices that are no range", "[\"v:0-3\"]", "[\"v\"]");
    r.spoil("tensor parallelism over two nodes", "[\"v:0-3\"]", "[\"v:2-5\"]");
    r.spoil("devices that tp does not divide", "[\"v:0-3\"]", "[\"v:0-2\"]");
    r.spoil("tp that was not measured", "tp = 4, devices = [\"v:0-3\"]", "tp = 3, devices = [\"v:0-2\"]");
    r.spoil("more micro-batches than the batch", "micro_batches = 8", "micro_batches = 9");
    r.spoil("fewer micro-batches than the batch", "micro_batches = 8", "micro_batches = 7");
    r.spoil("no micro-batches", "micro_batches = 8", "micro_batches = 0");
    r.spoil("no such schedule", "micro_batch = 2", "micro_batch = 2\nschedule = \"1f1f\"");
    r.spoil("plan file that is not there", &PLAN[8..], "file = \"no.toml\"");
    r.spoil("plan file and more", "micro_batch = 2", "file = \"no.toml\"\nmicro_batch = 2");

    let scenario =
        load_text(TWO_ZONES, "good.toml", None, &Overrides::default()).expect("a good file").scenario;
    let path = r.folder.path().join("plan.toml");
    let text = "micro_batch = 2\n[[pipelines]]\nmicro_batches = 8\nstages = [{ layers = \"0-25\", devices = [\"b:0\"] }]\n";
    std::fs::write(&path, text).expect("a file");
    r.note("PLAN.toml for another cluster", &load_plan_for(&path, &scenario).expect_err("no group b"));
    let text = "micro_batch = 0\nschedul = \"1f1b\"\n[[pipelines]]\nstages = [{ layers = \"0-25\" }]\n";
    r.note("PLAN.toml of the wrong form", &plan_from_text(text, "plan.toml").expect_err("a bad plan"));
    r.note("no PLAN.toml", &load_plan_for(&r.folder.path().join("no.toml"), &scenario).expect_err("no file"));
    insta::assert_snapshot!("plans", r.text);
}

#[test]
fn the_command_line() {
    let mut r = Report::new();
    for set in [
        "training.global_bacth=512",
        "training.global_batch=many",
        "training.global_batch.x=1",
        "nodes.b.count=3",
        "nodes.7.count=3",
        "nodes.a.count=-3",
        "nodes.a.memory=40",
        "nodes.v.gpu=H100",
        "network.links.wam.capacity=3 Gbps",
        "network.links.wan.capacity=3 gbps",
        "trainin.global_batch=3",
    ] {
        let mut overrides = Overrides::default();
        overrides.set(set).expect("it has a path and a value");
        r.load(set, TWO_ZONES, &overrides);
    }
    let mut overrides = Overrides::default();
    r.note("--set without =", &[overrides.set("training").expect_err("no =")]);
    r.note("--trace without link", &[overrides.trace("=x.csv").expect_err("no link")]);
    r.note("--at without unit", &[overrides.start_at("3").expect_err("no unit")]);
    overrides.trace("north=x.csv").expect("it has a link and a file");
    overrides.trace("wan=no such file.csv").expect("it has a link and a file");
    r.load("--trace of a link nobody has, and of no file", TWO_ZONES, &overrides);
    r.note("no such scenario", &load("quickstrat", &Overrides::default()).expect_err("no such name"));
    r.note("no such file", &load("no/such.toml", &Overrides::default()).expect_err("no such file"));
    insta::assert_snapshot!("the_command_line", r.text);
}
