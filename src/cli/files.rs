//! Other tools' files: `import`, `export`.

use super::Over;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan import sailor profile.json --out layers.csv\n      then `profile = \"layers.csv\"` in a node group\n  tideplan import vidur mlp.csv --out operators.csv\n      then `tideplan calibrate operators.csv ...`\n  tideplan import nccl-tests all_reduce.log --gpu H100 --out c.csv\n      then `tideplan validate --collectives c.csv`\n  tideplan import megatron-plan launch.sh --scenario my.toml --out plan.toml\n      then `tideplan compare my.toml --plan plan.toml`\n  tideplan import metis-plan ranked.txt hostfile clusterfile.json DeviceType.*.json \\\n      --scenario my.toml --out plan.toml\n  tideplan import sailor-cluster trace.csv --out cluster.toml\n\nPlans: metis-plan, sailor-plan, galvatron-plan, megatron-plan, deepspeed-plan, torchtitan-plan. Clusters: metis-cluster, sailor-cluster. Every plan is checked against the scenario before it is written."
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
    #[arg(long, value_name = "SCENARIO", conflicts_with_all = ["model", "gpu", "tp", "micro_batch"])]
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
