//! Traces: `trace stats`, `convert`, `plot`, `generate`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

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
        after_help = "Examples:\n  tideplan trace convert run.json --from iperf3 --rename wan --out wan.csv\n  tideplan trace convert wan.csv --start \"600 s\" --end \"1200 s\" --scale 0.5 --resample \"5 s\" \\\n      --out part.csv\n  tideplan trace convert monday.csv tuesday.csv --wrap \"7 d\" --out week.csv\n      joined, then repeated\n\nKinds: tideplan (the default), skyplane, pairs, mahimahi, iperf3, simgrid, zhejiang, sailor, oobleck, parcae, skypilot, infinitehbd. docs/replay.md says what each is."
    )]
    Convert(TraceConvert),
    /// A trace as a line of blocks, and as an SVG picture with `--out`.
    #[command(
        after_help = "Examples:\n  tideplan trace plot wan.csv\n  tideplan trace plot wan.csv --link wan --out wan.svg"
    )]
    Plot(TracePlot),
    /// A trace made up from a seed.
    #[command(
        after_help = "Examples:\n  tideplan trace generate --duration \"1 d\" --out wan.csv markov --high \"10 Gbps\" --low \"1 Gbps\"\n  tideplan trace generate --duration \"7 d\" --step \"5 min\" --out wan.csv diurnal \\\n      --mean \"5 Gbps\" --swing 0.4\n  tideplan trace generate --duration \"1 d\" --step \"5 s\" --out more.csv ar1 --fit wan.csv\n  tideplan trace generate --duration \"30 d\" --out up.csv failures \\\n      --nodes 64 --mtbf \"20 d\" --repair \"20 h\""
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
