//! Searching: `plan`, `init`, `merge`, `verify`.

use super::{Over, seconds};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tideplan plan\n  tideplan plan opt350-a100x32 --json\n  tideplan plan quickstart --set nodes.v100.count=8 --top 3 --out best.toml\n  tideplan plan my.toml --threads 1 --max-simulations 500\n  tideplan plan my.toml --checkpoint search.state --certificate proof.json\n  tideplan plan my.toml --explain\n  tideplan plan --model llama-3-8b --gpus a100-80:16,v100-16:16 --inter \"100 Gbps\" --tokens 2T\n\nCtrl-C ends the search with the best plan so far; the answer does not depend on --threads."
)]
pub(crate) struct Plan {
    /// A scenario file, or the name of a built-in.
    #[arg(default_value = "quickstart", conflicts_with_all = ["model", "gpus"])]
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

impl Words {
    /// Whether any was given.
    pub(crate) fn any(&self) -> bool {
        let words = [&self.model, &self.gpus, &self.inter, &self.precision];
        self.batch.is_some() || words.iter().any(|word| word.is_some())
    }
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
