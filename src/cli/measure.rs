//! Against others and against measurements: `compare`, `validate`, `calibrate`.

use super::{Over, seconds};
use clap::Args;
use std::path::PathBuf;
use validation::runs::Tier;
use validation::runs::group::By;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan compare opt350-a100x32-v100x96\n  tideplan compare quickstart --planners tideplan,metis,sailor --html report.html\n  tideplan compare my.toml --plan mine.toml theirs.toml --planners tideplan\n  tideplan compare my.toml --planners tideplan --external \"python3 my_planner.py\"\n  tideplan compare --suite --csv suite.csv\n\nA planner hands in a list of plans; the first that fits into memory is judged. docs/planners.md says where each planner comes from, what it leaves out and how it was checked."
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
    after_help = "Examples:\n  tideplan calibrate operators.csv --gpu A100-80 --out a100.toml --plot fit.svg\n  tideplan calibrate profile.json --kind sailor --gpu V100-16 --model opt-350m --precision fp32 \\\n      --out v100.toml\n\nA scenario uses the file as `device` of a node group.\n\n  tideplan calibrate all_reduce.log --gpu H100 --network \"8x 400 Gb/s InfiniBand\" \\\n      --out fabric.toml\n  tideplan calibrate collectives.csv --gpu H100 --out fabric.toml --plot fit.svg\n\nA scenario uses these as `fabric` of a node group. docs/cost-model.md says what each parameter means; tools/profile_gpu.py measures a GPU, docs/validate.md has the columns of collectives."
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
