//! Simulating: `simulate`, `collective`, `replay`.

use super::Over;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sim_models::collective::messages::{Algorithm, Convention, Fabric, Op};
use sim_models::workload_trace::Topology;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan simulate opt350-a100x32\n  tideplan simulate quickstart --plan best.toml --at \"600 s\"\n  tideplan simulate opt350-a100x32-v100x96 --timeline t.json\n      then open t.json in https://ui.perfetto.dev\n  tideplan simulate replay-faults --at \"336568 s\"\n      what it costs that nodes leave in mid-iteration\n  tideplan simulate opt350-a100x32-v100x96 --explain --html why.html --links links.csv\n  tideplan simulate h100x8-switch --workload chakra:traces/ --system system.json \\\n      --convention astra-sim --topology switch\n  tideplan simulate my.toml --workload simai:workload.txt\n\nWhat --explain says, and how each figure is defined: docs/explain.md. Other tools' traces: docs/workloads.md."
)]
pub(crate) struct Simulate {
    /// A scenario file, or the name of a built-in.
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) over: Over,
    /// The plan; without it, the one that the scenario names.
    #[arg(long, value_name = "PLAN.toml")]
    pub(crate) plan: Option<PathBuf>,
    /// Write a timeline that opens in Perfetto: a row for each device and link, arrows for transfers.
    #[arg(long, value_name = "F.json")]
    pub(crate) timeline: Option<PathBuf>,
    /// Say why: the critical path, time and memory by part, what would help most, links, how times are known.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Write that as a page with pictures: time and memory of the stages, what would help, links over time.
    #[arg(long, value_name = "F.html")]
    pub(crate) html: Option<PathBuf>,
    /// Write what each shared link carried over time: `time_s,link,bytes_per_s,capacity_bytes_per_s`, a row a change.
    #[arg(long, value_name = "F.csv")]
    pub(crate) links: Option<PathBuf>,
    /// Simulate every pipeline, alike or not. The times are the same.
    #[arg(long)]
    pub(crate) no_fold: bool,
    /// Run another tool's trace in place of a plan, rank r on GPU r: `chakra:DIR` (a directory of NAME.0.et, NAME.1.et, ... and
    /// NAME.json with the process groups) or `simai:FILE`.
    #[arg(long, value_name = "KIND:PATH", conflicts_with_all = ["plan", "explain", "html", "links"])]
    pub(crate) workload: Option<String>,
    #[command(flatten)]
    pub(crate) rules: WorkloadRules,
}

/// How the messages of `--workload` are played.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --workload")]
pub(crate) struct WorkloadRules {
    /// An ASTRA-sim system file: its roofline, algorithms, splits and delays in place of the GPU's and the convention's.
    #[arg(long, value_name = "FILE.json", requires = "workload")]
    pub(crate) system: Option<PathBuf>,
    /// What a link does with messages, and how bytes are counted [default: tideplan].
    #[arg(long, value_name = "C", requires = "workload", value_parser = name::<Convention>(Convention::NAMES))]
    pub(crate) convention: Option<Convention>,
    /// What connects the GPUs: the scenario's nodes, or links as fast as their NICs in a ring, over a switch or between all
    /// pairs [default: nodes].
    #[arg(long, value_name = "T", requires = "workload", value_parser = name::<Topology>(Topology::NAMES))]
    pub(crate) topology: Option<Topology>,
    /// Into how many parts the buffer of a collective is cut, 1 to 65535 [default: the system file's, or 1].
    #[arg(long, value_name = "K", requires = "workload", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub(crate) splits: Option<u32>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan collective --op all_reduce --algorithm ring --ranks 8 --bytes \"1 MiB\" \\\n      --topology ring --bandwidth \"50 GiB/s\" --latency \"500 ns\"\n  tideplan collective --op all_to_all --algorithm direct --ranks 64 --bytes \"256 MiB\" \\\n      --topology switch --bandwidth \"400 Gbps\" --latency \"2 us\" --json\n  tideplan collective --op all_reduce --algorithm ring --ranks 2048 --bytes \"1 MiB\" --splits 4 \\\n      --topology ring --bandwidth \"50 GiB/s\" --latency \"500 ns\" --convention astra-sim\n\nWhat ASTRA-sim writes as 50 GB/s is \"50 GiB/s\". The conventions, and how far they differ: docs/collectives.md."
)]
pub(crate) struct Collective {
    /// What the ranks do together.
    #[arg(long, value_name = "O", value_parser = name::<Op>(Op::NAMES))]
    pub(crate) op: Op,
    /// How they do it. The last two need a power of two of ranks; trees do all_reduce alone.
    #[arg(long, value_name = "A", value_parser = name::<Algorithm>(Algorithm::NAMES))]
    pub(crate) algorithm: Algorithm,
    /// How many ranks, 1 to 65536 (4096 on `full`).
    #[arg(long, value_name = "N")]
    pub(crate) ranks: u32,
    /// Size of the whole buffer as nccl-tests count it, e.g. `64 MiB`; for `astra-sim` an all_gather's is one rank's part.
    #[arg(long, value_name = "B", allow_hyphen_values = true)]
    pub(crate) bytes: String,
    /// Links between neighbours each way, from each rank up to and down from one switch, or between all pairs.
    #[arg(long, value_name = "T", value_parser = name::<Fabric>(Fabric::NAMES))]
    pub(crate) topology: Fabric,
    /// Rate of each link in each direction, e.g. `400 Gbps`.
    #[arg(long, value_name = "W", allow_hyphen_values = true)]
    pub(crate) bandwidth: String,
    /// Latency of each link, e.g. `500 ns`.
    #[arg(long, value_name = "L", allow_hyphen_values = true)]
    pub(crate) latency: String,
    /// Into how many parts the buffer is cut, 1 to 65535.
    #[arg(long, default_value_t = 1, value_name = "K")]
    pub(crate) splits: u32,
    /// What a link does with messages, and how bytes are counted.
    #[arg(long, default_value = "tideplan", value_name = "C", value_parser = name::<Convention>(Convention::NAMES))]
    pub(crate) convention: Convention,
    /// Simulate every rank, alike or not. The time is the same.
    #[arg(long)]
    pub(crate) no_fold: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan replay quickstart\n  tideplan replay my.toml --policy static,reactive --until \"2 h\" --html replay.html\n  tideplan replay quickstart --sweep \"link wan scale 0.25..4\" --sweep \"switch 2 s..600 s\"\n  tideplan replay quickstart --timeline t.json --window \"600 s..660 s\"\n      then open t.json in https://ui.perfetto.dev\n\n`--at` is where the replay begins. `tideplan list policies` says what each policy does; docs/replay.md how."
)]
pub(crate) struct Replay {
    /// A scenario file, or the name of a built-in.
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) over: Over,
    /// Policies [default: all]; the oracle is always there.
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    pub(crate) policy: Vec<String>,
    /// Where it ends, on the clock of the traces [default: the scenario's, or where the traces end].
    #[arg(long, value_name = "T")]
    pub(crate) until: Option<String>,
    /// What if: `link NAME scale 0.25..4` (break-even bandwidths of plans), `switch 2 s..600 s` (cost of a switch).
    #[arg(long, value_name = "...")]
    pub(crate) sweep: Vec<String>,
    /// Repeat with measured jitter, for a 90 % interval.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) seeds: Option<u64>,
    /// Write a page with charts.
    #[arg(long, value_name = "F.html")]
    pub(crate) html: Option<PathBuf>,
    /// Write tokens over time, a column a policy.
    #[arg(long, value_name = "F.csv")]
    pub(crate) csv: Option<PathBuf>,
    /// Write a timeline of a window that opens in Perfetto.
    #[arg(long, value_name = "F.json")]
    pub(crate) timeline: Option<PathBuf>,
    /// The window of the timeline [default: the first minute].
    #[arg(long, value_name = "A..B", requires = "timeline")]
    pub(crate) window: Option<String>,
    /// Worker threads of searches [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Simulate every iteration, even one that would be the same as another. The answer is the same.
    #[arg(long)]
    pub(crate) no_reuse: bool,
}

/// One of `names`, all of which `T` reads.
fn name<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|text| text.parse())
}
