//! The command line: its shape, its help, its examples.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use sim_models::collective::messages::{Algorithm, Convention, Fabric, Op};
use sim_models::workload_trace::Topology;
use std::path::PathBuf;
use validation::runs::Tier;
use validation::runs::group::By;

/// Plan and simulate distributed training on mixed GPUs over a network that changes.
#[derive(Debug, Parser)]
#[command(
    name = "tideplan",
    version,
    max_term_width = 100,
    after_help = "Start here:\n  tideplan plan                         search the built-in quickstart\n  tideplan list scenarios               what else is built in\n  tideplan simulate quickstart --plan best.toml --timeline t.json\n\nExit status: 0 done; 1 ran, but the answer is no; 2 bad usage or bad input."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of them in a run")]
pub(crate) enum Command {
    /// Find the parallel plan that trains fastest.
    Plan(Plan),
    /// Write a scenario file to start from.
    Init(Init),
    /// Join what the parts of a search found.
    Merge(Merge),
    /// Check the certificate of a search.
    Verify(Verify),
    /// Simulate one iteration of a plan.
    Simulate(Simulate),
    /// Simulate one collective operation, message by message.
    Collective(Collective),
    /// Planners side by side, under one judge.
    Compare(Compare),
    /// Hold the cost model against measured runs.
    Validate(Validate),
    /// Fit a device to measured profiles.
    Calibrate(Calibrate),
    /// Turn other tools' measurements, plans and clusters into ours.
    Import(Import),
    /// Run a job through a trace, by policy.
    Replay(Replay),
    /// Write a plan as another tool takes it.
    Export(Export),
    /// Look at a trace, turn another tool's into ours, make one up.
    Trace(Trace),
    /// What there is: scenarios, devices, policies.
    List(List),
    /// The JSON Schema of a scenario file, or of a plan.
    Schema(Schema),
    /// An error code at length.
    Explain(Explain),
}

/// A scenario, and what the command line says over it.
#[derive(Debug, Args)]
pub(crate) struct Over {
    /// Set a value of the scenario, e.g. `training.global_batch=512`, `nodes.a100.count=8`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Replace the trace of a link by a CSV file.
    #[arg(long = "trace", value_name = "LINK=FILE")]
    pub(crate) traces: Vec<String>,
    /// Instant of the traces at which the iteration starts, e.g. `90 s`.
    #[arg(long, value_name = "T")]
    pub(crate) at: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan plan\n  tideplan plan opt350-a100x32 --json\n  tideplan plan quickstart --set nodes.v100.count=8 --top 3 --out best.toml\n  tideplan plan my.toml --threads 1 --max-simulations 500\n  tideplan plan my.toml --checkpoint search.state --certificate proof.json\n  tideplan plan my.toml --explain\n  tideplan plan --model llama-3-8b --gpus a100-80:16,v100-16:16 --inter \"100 Gbps\" --tokens 2T\n\nCtrl-C ends the search with the best plan so far; the answer does not depend on --threads."
)]
pub(crate) struct Plan {
    /// A scenario file, or the name of a built-in.
    #[arg(default_value = "quickstart")]
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) over: Over,
    #[command(flatten)]
    pub(crate) words: Words,
    /// What makes a plan better: its time, what it costs by the prices of `[cost]`, or its mean time over the history of `[replay]`.
    #[arg(long, value_name = "O", default_value = "time", value_parser = ["time", "cost", "robust"])]
    pub(crate) objective: String,
    /// Say how many days, and by the prices of `[cost]` how many dollars, training on so many tokens takes: `300B`, `2T`.
    #[arg(long, value_name = "N", value_parser = crate::words::tokens)]
    pub(crate) tokens: Option<f64>,
    /// Only plans that train on `--tokens` within so many days.
    #[arg(long, value_name = "DAYS", value_parser = positive, requires = "tokens")]
    pub(crate) deadline: Option<f64>,
    /// Only plans that train on `--tokens` for at most so many dollars.
    #[arg(long, value_name = "DOLLARS", value_parser = positive, requires = "tokens")]
    pub(crate) budget: Option<f64>,
    /// Say how this plan compares with the best: at which step it falls, and by how much.
    #[arg(long, value_name = "PLAN.toml")]
    pub(crate) why_not: Option<PathBuf>,
    /// Say why: where the time of the best plan goes, what the next best lose by, and what became of every family of plans.
    #[arg(long, conflicts_with = "shard")]
    pub(crate) explain: bool,
    /// Who searches: `tideplan list planners`.
    #[arg(long, default_value = "tideplan", value_name = "P")]
    pub(crate) planner: String,
    /// The command of planner `external`: the scenario as JSON on its standard input, a plan as JSON on its output.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) external: Option<String>,
    /// How many plans to rank.
    #[arg(long, default_value_t = 5, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) top: u16,
    /// Worker threads [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Stop after so many simulations [default: the scenario's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_simulations: Option<u64>,
    /// Stop after so many seconds; the answer is then that of the rounds completed.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) max_seconds: Option<f64>,
    /// Keep the state of the search in this file, and go on from it if it is there: killed and started again, the search gives
    /// the answer that it would have given in one go.
    #[arg(long, value_name = "F")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Search one part of the space, e.g. `0/4` to `3/4`; `auto` is the part of a task of a Slurm job array. `tideplan merge`
    /// joins what the parts found.
    #[arg(long, value_name = "I/N", value_parser = shard, requires = "part")]
    pub(crate) shard: Option<(u32, u32)>,
    /// Write what the part found to this file.
    #[arg(long, value_name = "F.json", requires = "shard")]
    pub(crate) part: Option<PathBuf>,
    /// Write each node that was thrown out with its bound, for `tideplan verify`.
    #[arg(long, value_name = "F.json", conflicts_with = "shard")]
    pub(crate) certificate: Option<PathBuf>,
    /// Write the best plan to a file.
    #[arg(long, value_name = "PLAN.toml")]
    pub(crate) out: Option<PathBuf>,
}

/// A scenario in a few words.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Words {
    /// In place of a scenario: a model known by name, on `--gpus`.
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<String>,
    /// GPUs, NAME:COUNT separated by commas; `/N` sets the GPUs of a node (up to 8), `@ZONE` their zone.
    #[arg(long, value_name = "G")]
    pub(crate) gpus: Option<String>,
    /// Rate between nodes [default: 100 Gbps].
    #[arg(long, value_name = "W", allow_hyphen_values = true)]
    pub(crate) inter: Option<String>,
    /// Sequences of an iteration [default: 512].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: Option<u32>,
    /// Number format [default: bf16, or fp16 where a GPU has no bf16].
    #[arg(long, value_name = "P", value_parser = ["fp32", "fp16", "bf16"])]
    pub(crate) precision: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tideplan init --model llama-3-8b --gpus a100-80:16,v100-16:16 --inter \"100 Gbps\" --out my.toml\n  tideplan plan my.toml"
)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) words: Words,
    /// Write it to a file, which must not be there yet.
    #[arg(long, value_name = "F.toml")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tideplan plan my.toml --shard 0/2 --part a.json      on one machine\n  tideplan plan my.toml --shard 1/2 --part b.json      on another\n  tideplan merge a.json b.json\n\nThe scenario is read again, from where it was."
)]
pub(crate) struct Merge {
    /// What the parts found: one file for each of them.
    #[arg(required = true, value_name = "PART")]
    pub(crate) parts: Vec<PathBuf>,
    /// Write the best plan to a file.
    #[arg(long, value_name = "PLAN.toml")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tideplan plan opt350-a100x32 --certificate c.json\n  tideplan verify c.json\n\nThe checker walks the space by itself: every plan is under a node whose bound the costs bear out, or is simulated again.\nExit status 1: the certificate does not hold."
)]
pub(crate) struct Verify {
    /// A file that `plan --certificate` wrote.
    #[arg(value_name = "CERTIFICATE")]
    pub(crate) certificate: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan simulate opt350-a100x32\n  tideplan simulate quickstart --plan best.toml --at \"600 s\"\n  tideplan simulate opt350-a100x32-v100x96 --timeline t.json     open t.json in https://ui.perfetto.dev\n  tideplan simulate opt350-a100x32-v100x96 --explain --html why.html --links links.csv\n  tideplan simulate h100x8-switch --workload chakra:traces/ --system system.json --convention astra-sim \\\n      --topology switch\n  tideplan simulate my.toml --workload simai:workload.txt\n\nWhat --explain says, and how each figure is defined: docs/explain.md. Other tools' traces: docs/workloads.md."
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
    after_help = "Examples:\n  tideplan compare opt350-a100x32-v100x96\n  tideplan compare quickstart --planners tideplan,metis,sailor --html report.html\n  tideplan compare my.toml --plan mine.toml theirs.toml --planners tideplan\n  tideplan compare my.toml --planners tideplan --external \"python3 my_planner.py\"\n  tideplan compare --suite --csv suite.csv\n\nA planner hands in a list of plans; the first that fits into memory is judged. docs/planners.md says where each planner\ncomes from, what it leaves out and how it was checked."
)]
pub(crate) struct Compare {
    /// Scenario files, or names of built-ins.
    #[arg(value_name = "SCENARIO", required_unless_present = "suite", conflicts_with = "suite")]
    pub(crate) scenarios: Vec<String>,
    /// The benchmark suite: all built-ins of the group `suite`.
    #[arg(long)]
    pub(crate) suite: bool,
    #[command(flatten)]
    pub(crate) over: Over,
    /// Who takes part, separated by commas [default: all, or none beside `--plan` or `--external`].
    #[arg(long, value_name = "A,B,...")]
    pub(crate) planners: Option<String>,
    /// Plan files of other programs, one row each.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "suite")]
    pub(crate) plan: Vec<PathBuf>,
    /// A planner of yours: the scenario as JSON on its standard input, a plan as JSON on its output.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) external: Option<String>,
    /// By what the plans are judged: simulate, contention-free, metis, sailor.
    #[arg(long, value_name = "J", default_value = "simulate", value_parser = |name: &str| name.parse::<sim_search::judge::Judge>())]
    pub(crate) judge: sim_search::judge::Judge,
    /// Seconds that each planner has; what it has then counts.
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    pub(crate) max_seconds: f64,
    /// Simulations of planners that draw at random [default: 200].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) simulations: Option<u64>,
    /// Worker threads of our search [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Write a page with pictures.
    #[arg(long, value_name = "F.html")]
    pub(crate) html: Option<PathBuf>,
    /// Write a row a planner and scenario.
    #[arg(long, value_name = "F.csv")]
    pub(crate) csv: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan validate\n  tideplan validate --by gpu --tier datasheet\n  tideplan validate --runs runs.csv --plans plans/sailor --predictions out.csv --html report.html\n  tideplan validate --runs runs.csv --oom failed.csv --json\n\nThe columns of a runs file and every figure are in docs/validate.md."
)]
pub(crate) struct Validate {
    /// Measured runs, CSV; without it, the shipped rows.
    #[arg(long, value_name = "F.csv")]
    pub(crate) runs: Option<PathBuf>,
    /// Folder of plans in Sailor's format, `ID.json` for the row of that id.
    #[arg(long, value_name = "DIR", requires = "runs")]
    pub(crate) plans: Option<PathBuf>,
    /// Configurations that ran out of memory, CSV: is it foreseen, and how often is it foreseen of runs of the same source?
    #[arg(long, value_name = "F.csv")]
    pub(crate) oom: Option<PathBuf>,
    /// Put rows together by gpu, framework, parallelism, scale or tier too.
    #[arg(long, value_name = "K")]
    pub(crate) by: Option<By>,
    /// Predict every row from profiled, calibrated or datasheet figures [default: the best that each row has].
    #[arg(long, value_name = "T")]
    pub(crate) tier: Option<Tier>,
    /// Write the section of VALIDATION.md of these rows into the page: A of the shipped rows, B of `--runs`.
    #[arg(long, value_name = "F.md")]
    pub(crate) write: Option<PathBuf>,
    /// Write the report as a page with pictures.
    #[arg(long, value_name = "F.html")]
    pub(crate) html: Option<PathBuf>,
    /// Measured collectives, CSV; given alone, no runs are scored.
    #[arg(long, value_name = "F.csv")]
    pub(crate) collectives: Option<PathBuf>,
    /// Write every row's prediction to a CSV file.
    #[arg(long, value_name = "OUT.csv")]
    pub(crate) predictions: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan calibrate operators.csv --gpu A100-80 --out a100.toml --plot fit.svg\n  tideplan calibrate profile.json --kind sailor --gpu V100-16 --model opt-350m --precision fp32 --out v100.toml\n\nA scenario uses the file as `device` of a node group.\n\n  tideplan calibrate all_reduce.log --gpu H100 --network \"8x 400 Gb/s InfiniBand\" --out fabric.toml\n  tideplan calibrate collectives.csv --gpu H100 --out fabric.toml --plot fit.svg\n\nA scenario uses these as `fabric` of a node group. docs/cost-model.md says what each parameter means; tools/profile_gpu.py\nmeasures a GPU, docs/validate.md has the columns of collectives."
)]
pub(crate) struct Calibrate {
    /// Profiles: `operators*.csv`, `layers*.csv` of tools/profile_gpu.py, or other tools' with `--kind`; or measured collectives:
    /// `*collectives*.csv`, `*.log` of nccl-tests.
    #[arg(required = true, value_name = "PROFILE")]
    pub(crate) profiles: Vec<PathBuf>,
    /// The GPU that was measured, by catalogue name or family.
    #[arg(long)]
    pub(crate) gpu: String,
    /// What the files are: sailor, varuna, metis, amp, galvatron, vidur, llmservingsim, simumax, operators, layers; collectives,
    /// nccl-tests, nccl-inspector.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// What joins the nodes of a log, as in `8x 400 Gb/s InfiniBand`, `AWS EFA p5en`; a CSV has it in `inter_link`.
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// The built-in model that was profiled, for formats that do not give its sizes.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Number format of layer times.
    #[arg(long, default_value = "bf16", value_parser = ["fp32", "tf32", "fp16", "bf16"])]
    pub(crate) precision: String,
    /// Tensor-parallel degree, where neither file nor name says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) tp: Option<u32>,
    /// Micro-batch, where neither file nor name says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) micro_batch: Option<u32>,
    /// Where the measurements come from, for the file [default: the profiles' names].
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// The device or fabric file to write.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) out: PathBuf,
    /// Draw predicted against measured times.
    #[arg(long, value_name = "F.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan import sailor profile.json --out layers.csv          then `profile = \"layers.csv\"` in a node group\n  tideplan import vidur mlp.csv --out operators.csv             then `tideplan calibrate operators.csv ...`\n  tideplan import nccl-tests all_reduce.log --gpu H100 --out c.csv   then `tideplan validate --collectives c.csv`\n  tideplan import megatron-plan launch.sh --scenario my.toml --out plan.toml   then `tideplan compare my.toml --plan plan.toml`\n  tideplan import metis-plan ranked.txt hostfile clusterfile.json DeviceType.*.json --scenario my.toml --out plan.toml\n  tideplan import sailor-cluster trace.csv --out cluster.toml\n\nPlans: metis-plan, sailor-plan, galvatron-plan, megatron-plan, deepspeed-plan, torchtitan-plan. Clusters: metis-cluster,\nsailor-cluster. Every plan is checked against the scenario before it is written."
)]
pub(crate) struct Import {
    /// What the files are: sailor, varuna, metis, amp, galvatron, vidur, llmservingsim, simumax, operators, layers,
    /// nccl-tests, nccl-inspector; or a plan or cluster, see below.
    pub(crate) kind: String,
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The built-in model that was profiled, for formats that do not give its sizes.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The GPU, for logs that do not name it.
    #[arg(long)]
    pub(crate) gpu: Option<String>,
    /// Tensor-parallel degree, where neither file nor name says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) tp: Option<u32>,
    /// Micro-batch, where neither file nor name says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) micro_batch: Option<u32>,
    /// Of a plan: the scenario that it is for.
    #[arg(long, value_name = "SCENARIO")]
    pub(crate) scenario: Option<String>,
    /// Set a value of that scenario, e.g. `training.global_batch=512`.
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "scenario")]
    pub(crate) sets: Vec<String>,
    /// The table, plan or scenario to write.
    #[arg(long, value_name = "F.csv")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan replay quickstart\n  tideplan replay my.toml --policy static,reactive --until \"2 h\" --html replay.html\n  tideplan replay quickstart --sweep \"link wan scale 0.25..4\" --sweep \"switch 2 s..600 s\"\n  tideplan replay quickstart --timeline t.json --window \"600 s..660 s\"     open t.json in https://ui.perfetto.dev\n\n`--at` is where the replay begins. `tideplan list policies` says what each policy does; docs/replay.md how."
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

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan plan my.toml --out best.toml\n  tideplan export best.toml --to megatron --scenario my.toml > args.txt\n  tideplan export best.toml --to torchtitan --scenario my.toml --out job.toml\n\nA framework runs alike pipelines with one TP; what it cannot run is refused with the reason."
)]
pub(crate) struct Export {
    /// The plan.
    #[arg(value_name = "PLAN.toml")]
    pub(crate) plan: PathBuf,
    /// For which framework.
    #[arg(long, value_enum, value_name = "TOOL")]
    pub(crate) to: ToTool,
    /// The scenario that the plan is for.
    #[arg(long, value_name = "SCENARIO", default_value = "quickstart")]
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) over: Over,
    /// Write to a file [default: standard output].
    #[arg(long, value_name = "F")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ToTool {
    Megatron,
    Deepspeed,
    Torchtitan,
}

impl ToTool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ToTool::Megatron => "megatron",
            ToTool::Deepspeed => "deepspeed",
            ToTool::Torchtitan => "torchtitan",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Trace {
    #[command(subcommand)]
    pub(crate) what: TraceOf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TraceOf {
    /// Figures of each series: levels, quantiles, gaps, correlation.
    #[command(
        after_help = "Examples:\n  tideplan trace stats wan.csv\n  tideplan trace stats leaf_ports.csv --from zhejiang --link Leaf-9:53 --json"
    )]
    Stats(TraceStats),
    /// Other tools' traces into ours; cut, scaled, put on a grid, repeated, joined.
    #[command(
        after_help = "Examples:\n  tideplan trace convert run.json --from iperf3 --rename wan --out wan.csv\n  tideplan trace convert wan.csv --start \"600 s\" --end \"1200 s\" --scale 0.5 --resample \"5 s\" --out part.csv\n  tideplan trace convert monday.csv tuesday.csv --wrap \"7 d\" --out week.csv     joined, then repeated\n\nKinds: tideplan (the default), skyplane, pairs, mahimahi, iperf3, simgrid, zhejiang, sailor, oobleck, parcae,\nskypilot, infinitehbd. docs/replay.md says what each is."
    )]
    Convert(TraceConvert),
    /// A trace as a line of blocks, and as an SVG picture with `--out`.
    #[command(
        after_help = "Examples:\n  tideplan trace plot wan.csv\n  tideplan trace plot wan.csv --link wan --out wan.svg"
    )]
    Plot(TracePlot),
    /// A trace made up from a seed.
    #[command(
        after_help = "Examples:\n  tideplan trace generate --duration \"1 d\" --out wan.csv markov --high \"10 Gbps\" --low \"1 Gbps\"\n  tideplan trace generate --duration \"7 d\" --step \"5 min\" --out wan.csv diurnal --mean \"5 Gbps\" --swing 0.4\n  tideplan trace generate --duration \"1 d\" --step \"5 s\" --out more.csv ar1 --fit wan.csv\n  tideplan trace generate --duration \"30 d\" --out up.csv failures --nodes 64 --mtbf \"20 d\" --repair \"20 h\""
    )]
    Generate(TraceGenerate),
}

/// What a trace file is.
#[derive(Debug, Args)]
pub(crate) struct TraceFrom {
    /// Kind of the file [default: our CSV].
    #[arg(long, value_name = "KIND")]
    pub(crate) from: Option<String>,
    /// Column of the values in our CSV: bandwidth_bps, load_bps, available, up, slowdown or share [default: the first there].
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
    /// Only the series of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) link: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TraceStats {
    /// The trace.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) from: TraceFrom,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TraceConvert {
    /// The traces; several are joined, each after the one before.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) from: TraceFrom,
    /// The trace to write.
    #[arg(long, value_name = "F.csv")]
    pub(crate) out: PathBuf,
    /// Call the series this.
    #[arg(long, value_name = "NAME")]
    pub(crate) rename: Option<String>,
    /// Multiply the values.
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub(crate) scale: Option<f64>,
    /// Leave out what is before.
    #[arg(long, value_name = "T")]
    pub(crate) start: Option<String>,
    /// Leave out what is from here on.
    #[arg(long, value_name = "T")]
    pub(crate) end: Option<String>,
    /// Put on a grid: the time-weighted mean of each cell.
    #[arg(long, value_name = "T")]
    pub(crate) resample: Option<String>,
    /// Repeat until it is this long.
    #[arg(long, value_name = "T", conflicts_with = "hold")]
    pub(crate) wrap: Option<String>,
    /// End it there; a trace that is shorter holds its last value.
    #[arg(long, value_name = "T")]
    pub(crate) hold: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TracePlot {
    /// The trace.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) from: TraceFrom,
    /// Write a picture.
    #[arg(long, value_name = "F.svg")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TraceGenerate {
    /// How long.
    #[arg(long, value_name = "T")]
    pub(crate) duration: String,
    /// Between points.
    #[arg(long, value_name = "T", default_value = "1 s")]
    pub(crate) step: String,
    /// The same seed makes the same trace.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Name of the series.
    #[arg(long, value_name = "NAME", default_value = "wan")]
    pub(crate) link: String,
    /// The trace to write.
    #[arg(long, value_name = "F.csv")]
    pub(crate) out: PathBuf,
    #[command(subcommand)]
    pub(crate) model: TraceModel,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TraceModel {
    /// Two states, each left at random after its mean time.
    Markov {
        /// Bandwidth of the first state.
        #[arg(long, default_value = "10 Gbps", value_name = "W")]
        high: String,
        /// Bandwidth of the second.
        #[arg(long, default_value = "1 Gbps", value_name = "W")]
        low: String,
        /// Mean time in the first.
        #[arg(long, default_value = "300 s", value_name = "T")]
        high_time: String,
        /// Mean time in the second.
        #[arg(long, default_value = "60 s", value_name = "T")]
        low_time: String,
    },
    /// A daily wave with noise.
    Diurnal {
        /// Mean bandwidth.
        #[arg(long, default_value = "5 Gbps", value_name = "W")]
        mean: String,
        /// Half of the swing over the mean, 0 to 1.
        #[arg(long, default_value_t = 0.4)]
        swing: f64,
        /// Deviation of the noise over the value, 0 to 1.
        #[arg(long, default_value_t = 0.05)]
        noise: f64,
        /// Hour of the peak.
        #[arg(long, default_value_t = 4.0)]
        peak: f64,
    },
    /// A first-order autoregression fitted to a trace.
    Ar1 {
        /// The trace to fit to: its first series.
        #[arg(long, value_name = "FILE")]
        fit: PathBuf,
        #[command(flatten)]
        from: TraceFrom,
    },
    /// Nodes that fail and are repaired at random.
    Failures {
        /// How many nodes.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        nodes: u32,
        /// Mean time between failures of one node.
        #[arg(long, value_name = "T")]
        mtbf: String,
        /// Mean time to repair.
        #[arg(long, value_name = "T", default_value = "20 h")]
        repair: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// What to list.
    #[arg(value_enum)]
    pub(crate) what: What,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum What {
    Scenarios,
    Devices,
    Planners,
    Policies,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Of what.
    #[arg(value_enum, default_value = "scenario")]
    pub(crate) of: SchemaOf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum SchemaOf {
    Scenario,
    Plan,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// An error code, e.g. `T0101`; without one, all of them.
    pub(crate) code: Option<String>,
}

/// One of `names`, all of which `T` reads.
fn name<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|text| text.parse())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n > 0.0 && n <= 1e15 => Ok(n),
        _ => Err("expected a positive number".into()),
    }
}

fn shard(text: &str) -> Result<(u32, u32), String> {
    if text == "auto" {
        return crate::slurm::shard(|name| std::env::var(name).ok());
    }
    let expected = "expected I/N, such as 0/4, with I below N and N at most 65536, or auto";
    let (index, of) = text.split_once('/').ok_or(expected)?;
    match (index.parse::<u32>(), of.parse::<u32>()) {
        (Ok(index), Ok(of)) if index < of && of <= 65536 => Ok((index, of)),
        _ => Err(expected.into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s.is_finite() => Ok(s),
        _ => Err("expected a positive number of seconds".into()),
    }
}
