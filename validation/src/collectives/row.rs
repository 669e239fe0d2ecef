//! A row of measured collectives, read and checked: a sample to score, or the reason why it is none.

use super::CollectivesError;
use csv::{ReaderBuilder, StringRecord};
use sim_models::collective::fit::Sample;
use sim_models::collective::{
    Algorithm, CollectiveKind, CollectiveModel, DescribeError, Description, Nccl, Parameters, describe,
    named_gpu,
};
use sim_models::units::Bytes;
use std::collections::BTreeMap;

/// A bandwidth and a time of one row that disagree by more than this factor: one of them is wrong.
const DISAGREE: f64 = 1.5;
/// A row that beats the wires by more than this factor measured something else.
const FASTER_THAN_WIRES: f64 = 3.0;

/// Why a row is not scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Something the prediction needs is not said: size, time, ranks, which operation, or the network's rate.
    MissingField,
    /// No GPU of the catalogue.
    UnknownGpu,
    /// No such group, or faster than its wires.
    Impossible,
    /// A field that is no number of its kind, or two that contradict each other.
    Corrupt,
}

impl Reason {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Reason::MissingField => "missing_field",
            Reason::UnknownGpu => "unknown_gpu",
            Reason::Impossible => "impossible",
            Reason::Corrupt => "corrupt",
        }
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// In the file, from 1.
    pub line: u64,
    /// Who measured; `(none)` where the cell is empty.
    pub source: String,
    /// The GPU as written.
    pub gpu: String,
    /// The family of the catalogue that it is of; empty where there is none.
    pub family: String,
    /// What to score.
    pub sample: Result<Sample, Reason>,
}

/// The text of a row by column.
struct Cells {
    line: u64,
    source: String,
    texts: BTreeMap<&'static str, String>,
}

const NEEDED: [&str; 6] = ["source", "collective", "gpu", "gpus", "nodes", "size_bytes"];
const TIMES: [&str; 3] = ["time_us", "busbw_GBps", "algbw_GBps"];
const READ: [&str; 7] =
    ["algorithm", "gpus_per_node", "intra_link", "inter_link", "inplace", "source_url", "notes"];
/// Words of what times collectives on the GPU: NVIDIA's and AMD's tests, traces of kernels.
const TIMED_THERE: [&str; 6] = ["nccl-tests", "nccl_tests", "rccl-tests", "rccl_tests", "cupti", "inspector"];

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Vec<Row>, CollectivesError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = ReaderBuilder::new().flexible(true).comment(Some(b'#')).from_reader(text.as_bytes());
    let csv = |e: csv::Error| CollectivesError::Csv {
        line: e.position().map_or(1, csv::Position::line),
        what: format!("{e}: expected comma-separated values"),
    };
    let header = reader.headers().map_err(csv)?.clone();
    let place = |column: &str| header.iter().position(|name| name.trim() == column);
    if let Some(column) = NEEDED.into_iter().find(|c| place(c).is_none()) {
        return Err(CollectivesError::Column { column });
    }
    if TIMES.into_iter().all(|c| place(c).is_none()) {
        return Err(CollectivesError::Column { column: TIMES[0] });
    }
    let wanted = NEEDED.into_iter().chain(TIMES).chain(READ);
    let columns: Vec<(&'static str, usize)> = wanted.filter_map(|c| place(c).map(|at| (c, at))).collect();
    let mut all = Vec::new();
    for record in reader.records() {
        all.push(cells(&columns, &record.map_err(csv)?));
    }
    let nodes = node_sizes(&all);
    Ok(all.iter().map(|cells| row(cells, &nodes)).collect())
}

fn cells(columns: &[(&'static str, usize)], record: &StringRecord) -> Cells {
    let line = record.position().map_or(0, csv::Position::line);
    let text = |at: usize| record.get(at).unwrap_or("").to_string();
    let texts: BTreeMap<&'static str, String> = columns.iter().map(|(name, at)| (*name, text(*at))).collect();
    let source = texts["source"].clone();
    Cells { line, source: if source.trim().is_empty() { "(none)".to_string() } else { source }, texts }
}

impl Cells {
    fn text(&self, column: &str) -> &str {
        self.texts.get(column).map_or("", |text| text.trim())
    }

    /// A number above 0.
    fn number(&self, column: &str) -> Result<f64, Reason> {
        let text = self.text(column);
        if text.is_empty() {
            return Err(Reason::MissingField);
        }
        match text.parse::<f64>() {
            Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
            _ => Err(Reason::Corrupt),
        }
    }

    /// A whole number from 1 to `most`; `8.0` is one.
    fn count(&self, column: &str, most: f64) -> Result<u64, Reason> {
        let value = self.number(column)?;
        if value.fract() == 0.0 && value <= most { Ok(value as u64) } else { Err(Reason::Corrupt) }
    }
}

impl Cells {
    /// Whether the row names nothing that times on the GPU; `inplace` is a column of nccl-tests.
    fn timed_from_host(&self) -> bool {
        let said = ["source", "source_url", "notes"].map(|column| self.text(column).to_lowercase());
        let there = TIMED_THERE.iter().any(|word| said.iter().any(|text| text.contains(word)));
        !there && self.text("inplace").is_empty()
    }
}

/// GPUs of a node, by source and GPU: the most that any of its rows speaks of. A run on 2 of 8 GPUs says nothing of the 8.
fn node_sizes(all: &[Cells]) -> BTreeMap<(String, String), u32> {
    let mut sizes = BTreeMap::new();
    for cells in all {
        if let Ok(gpus) = cells.count("gpus_per_node", 4096.0) {
            let size: &mut u32 =
                sizes.entry((cells.source.clone(), cells.text("gpu").to_string())).or_default();
            *size = (*size).max(gpus as u32);
        }
    }
    sizes
}

fn row(cells: &Cells, nodes: &BTreeMap<(String, String), u32>) -> Row {
    let gpu = cells.text("gpu").to_string();
    let largest = nodes.get(&(cells.source.clone(), gpu.clone())).copied().unwrap_or(0);
    let family = named_gpu(&gpu).ok().and_then(|found| found.family.first()).cloned().unwrap_or_default();
    Row { line: cells.line, source: cells.source.clone(), sample: sample(cells, largest), gpu, family }
}

fn sample(cells: &Cells, largest_node: u32) -> Result<Sample, Reason> {
    let kind = CollectiveKind::from_name(cells.text("collective")).ok_or(Reason::MissingField)?;
    let bytes = cells.count("size_bytes", 1e18)?;
    let (ranks, nodes) = ranks_and_nodes(cells, kind)?;
    if ranks < 2 || !ranks.is_multiple_of(nodes) {
        return Err(Reason::Impossible);
    }
    let used = ranks / nodes;
    let told = match cells.count("gpus_per_node", 4096.0) {
        Err(Reason::MissingField) => used,
        told => told? as u32,
    };
    // A send between two nodes is done by every GPU that is said to take part, side by side.
    let pairs = if kind == CollectiveKind::SendRecv && ranks == 2 && nodes == 2 { told } else { 1 };
    let used = used.max(pairs);
    let fabric = describe(&Description {
        gpu: cells.text("gpu"),
        gpus_per_node: largest_node.max(used).max(told),
        used,
        intra: cells.text("intra_link"),
        inter: cells.text("inter_link"),
        remarks: cells.text("notes"),
        several_nodes: nodes > 1,
    })
    .map_err(|e| match e {
        DescribeError::UnknownGpu { .. } => Reason::UnknownGpu,
        DescribeError::NoRate { .. } => Reason::MissingField,
    })?;
    let group = fabric.group(ranks * pairs, nodes).map_err(|_| Reason::Impossible)?;
    let seconds = seconds(cells, kind, bytes, ranks, pairs)?;
    let model = Nccl::with_values(fabric, Parameters::builtin().values()).map_err(|_| Reason::Impossible)?;
    let wires = model.ideal_time(kind, Bytes(bytes), group).map_err(|_| Reason::Impossible)?;
    if seconds * FASTER_THAN_WIRES < wires {
        return Err(Reason::Impossible);
    }
    let algorithm = Algorithm::from_name(cells.text("algorithm"));
    let from_host = cells.timed_from_host();
    Ok(Sample { source: cells.source.clone(), fabric, kind, bytes, group, algorithm, from_host, seconds })
}

/// Of ranks, nodes and GPUs a node, any two say the third; so do GPUs a node and the two bandwidths, whose ratio is known
/// of every number of ranks.
fn ranks_and_nodes(cells: &Cells, kind: CollectiveKind) -> Result<(u32, u32), Reason> {
    let get = |column| match cells.count(column, 1e6) {
        Err(Reason::MissingField) => Ok(None),
        found => found.map(|n| Some(n as u32)),
    };
    match (get("gpus")?, get("nodes")?, get("gpus_per_node")?) {
        (Some(ranks), Some(nodes), _) => Ok((ranks, nodes)),
        (Some(ranks), None, Some(per_node)) => Ok((ranks, ranks.div_ceil(per_node))),
        (None, Some(nodes), Some(per_node)) => Ok((nodes.saturating_mul(per_node), nodes)),
        (None, None, Some(per_node)) => {
            let ranks = ranks_of_bandwidths(cells, kind, per_node).ok_or(Reason::MissingField)?;
            Ok((ranks, ranks / per_node))
        }
        _ => Err(Reason::MissingField),
    }
}

/// The one multiple of `per_node` whose ratio of bus to algorithm bandwidth is the row's, as far as two decimals say.
fn ranks_of_bandwidths(cells: &Cells, kind: CollectiveKind, per_node: u32) -> Option<u32> {
    let (bus, algorithm) = (cells.number("busbw_GBps").ok()?, cells.number("algbw_GBps").ok()?);
    let least = (bus - 0.005) / (algorithm + 0.005);
    let most = (bus + 0.005) / (algorithm - 0.005).max(f64::MIN_POSITIVE);
    let fits = |ranks: &u32| (least..=most).contains(&kind.bus_factor(*ranks));
    let mut found = (1..=4096).map_while(|nodes: u32| nodes.checked_mul(per_node)).filter(fits);
    found.next().filter(|_| found.next().is_none())
}

/// The time, or what a bandwidth makes of it; the bandwidth of `pairs` side by side is that of them together.
fn seconds(cells: &Cells, kind: CollectiveKind, bytes: u64, ranks: u32, pairs: u32) -> Result<f64, Reason> {
    let size = bytes as f64 * f64::from(pairs);
    let of_bus = |gbps: f64| size * kind.bus_factor(ranks) / (gbps * 1e9);
    let of_algorithm = |gbps: f64| size / (gbps * 1e9);
    let timed = cells.number("time_us").map(|us| us * 1e-6);
    let bus = cells.number("busbw_GBps");
    let algorithm = cells.number("algbw_GBps");
    match (timed, bus, algorithm) {
        (Ok(seconds), bus, algorithm) => {
            // Bandwidths are printed with two decimals: those under 0.1 say little.
            let other = algorithm.ok().filter(|a| *a >= 0.1).map(of_algorithm);
            let other = other.or(bus.ok().filter(|b| *b >= 0.1).map(of_bus));
            let agrees = other.is_none_or(|o| o / seconds < DISAGREE && seconds / o < DISAGREE);
            if agrees { Ok(seconds) } else { Err(Reason::Corrupt) }
        }
        (Err(Reason::Corrupt), ..) => Err(Reason::Corrupt),
        (_, Ok(bus), _) => Ok(of_bus(bus)),
        (_, _, Ok(algorithm)) => Ok(of_algorithm(algorithm)),
        (_, Err(Reason::Corrupt), _) | (_, _, Err(Reason::Corrupt)) => Err(Reason::Corrupt),
        _ => Err(Reason::MissingField),
    }
}
