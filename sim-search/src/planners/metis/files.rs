//! Metis's files: profiles, `hostfile`, `clusterfile.json` and its ranked output. Everything is checked as it is read; what is
//! odd in the formats is named in the error where it bites.

use super::cost::MetisPlan;
use super::tables::{Cluster, Entry, Kind, Profile};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is wrong with a file of Metis's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {problem}", if *.line > 0 { format!(":{}", .line) } else { String::new() })]
pub struct MetisFileError {
    /// Its name.
    pub file: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong and what would be right.
    pub problem: String,
}

fn error(file: &str, line: usize, problem: impl Into<String>) -> MetisFileError {
    MetisFileError { file: file.into(), line, problem: problem.into() }
}

#[derive(Deserialize)]
struct RawProfile {
    model: RawModel,
    execution_time: RawTime,
    execution_memory: RawMemory,
}
#[derive(Deserialize)]
struct RawModel {
    parameters: RawParameters,
}
#[derive(Deserialize)]
struct RawParameters {
    parameters_per_layer_bytes: Vec<f64>,
}
#[derive(Deserialize)]
struct RawTime {
    forward_backward_time_ms: f64,
    batch_generator_time_ms: f64,
    optimizer_time_ms: f64,
    layer_compute_total_ms: Vec<f64>,
}
#[derive(Deserialize)]
struct RawMemory {
    layer_memory_total_mb: Vec<f64>,
}
#[derive(Deserialize)]
struct RawNode {
    instance_type: String,
    inter_bandwidth: f64,
    intra_bandwidth: f64,
    memory: f64,
}

/// Sizes of the model, which Metis takes from its command line.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Width.
    pub hidden: u32,
    /// Tokens of a sample.
    pub sequence: u32,
    /// Entries of the vocabulary.
    pub vocabulary: u32,
}

/// Layers, GPUs and nodes beyond which a file is taken to be a mistake.
const MOST: usize = 1 << 16;

/// Reads `hostfile` (`ADDRESS slots=N` a line) and `clusterfile.json`.
///
/// # Errors
/// What is wrong, with its line. The published reader takes one digit of `slots=` and the slots of the first line for all.
pub fn cluster(hostfile: (&str, &str), clusterfile: (&str, &str)) -> Result<Cluster, MetisFileError> {
    let nodes: BTreeMap<String, RawNode> =
        serde_json::from_str(clusterfile.1).map_err(|e| error(clusterfile.0, e.line(), e.to_string()))?;
    let (mut kinds, mut per_node): (Vec<Kind>, Option<usize>) = (Vec::new(), None);
    let mut seen = Vec::new();
    for (number, line) in hostfile.1.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let fault = |problem: String| error(hostfile.0, number + 1, problem);
        let (address, slots) =
            line.split_once(' ').ok_or_else(|| fault(format!("`{line}` is not `ADDRESS slots=N`")))?;
        let slots = slots.trim().strip_prefix("slots=").and_then(|s| s.parse::<usize>().ok());
        let slots = slots.ok_or_else(|| fault(format!("`{line}` is not `ADDRESS slots=N`")))?;
        if !(1..=9).contains(&slots) {
            return Err(fault(format!("{slots} slots: Metis reads one digit, so 1 to 9")));
        }
        if per_node.is_some_and(|n| n != slots) {
            return Err(fault(format!(
                "{slots} slots after others: Metis takes all nodes to be of one size"
            )));
        }
        per_node = Some(slots);
        if seen.contains(&address) {
            return Err(fault(format!("`{address}` stands twice")));
        }
        seen.push(address);
        if seen.len() > MOST {
            return Err(fault(format!("more than {MOST} nodes")));
        }
        let node =
            nodes.get(address).ok_or_else(|| fault(format!("`{address}` is not in `{}`", clusterfile.0)))?;
        let positive = [node.memory, node.intra_bandwidth, node.inter_bandwidth];
        if positive.iter().any(|v| !(v.is_finite() && *v > 0.0 && *v < 1e9)) {
            return Err(error(
                clusterfile.0,
                0,
                format!("`{address}`: memory (GB) and bandwidths (GB/s) are above 0"),
            ));
        }
        match kinds.iter_mut().find(|k| k.name == node.instance_type) {
            Some(kind) => kind.nodes += 1,
            None => kinds.push(Kind {
                name: node.instance_type.clone(),
                memory_gb: node.memory,
                inside: node.intra_bandwidth,
                between: node.inter_bandwidth,
                nodes: 1,
            }),
        }
    }
    let per_node = per_node.ok_or_else(|| error(hostfile.0, 0, "no nodes"))?;
    Ok(Cluster { kinds, per_node })
}

/// Kind, TP and micro-batch of a profile's name, `DeviceType.A100_tp2_bs4.json`.
fn parse_name(name: &str) -> Option<(&str, u32, u32)> {
    let rest = name.strip_prefix("DeviceType.")?.strip_suffix(".json")?;
    let (rest, batch) = rest.rsplit_once("_bs")?;
    let (kind, tp) = rest.rsplit_once("_tp")?;
    Some((kind, tp.parse().ok()?, batch.parse().ok()?))
}

/// Reads the profiles, `(file name, text)` each. `first` names the one whose model-wide figures count: Metis takes the
/// first of its directory listing, which is in no particular order; without a name, the first given.
///
/// # Errors
/// What is wrong, with the file and its line.
pub fn profile(
    files: &[(&str, &str)],
    first: Option<&str>,
    cluster: &Cluster,
    sizes: Sizes,
) -> Result<Profile, MetisFileError> {
    let (mut entries, mut wide, mut layers) = (BTreeMap::new(), None, None);
    let mut first_kind = None;
    for (name, text) in files {
        let fault = |problem: String| error(name, 0, problem);
        let (kind, tp, batch) = parse_name(name)
            .ok_or_else(|| fault("a profile is called `DeviceType.KIND_tpT_bsB.json`".into()))?;
        let raw: RawProfile = serde_json::from_str(text).map_err(|e| error(name, e.line(), e.to_string()))?;
        let times = raw.execution_time.layer_compute_total_ms.clone();
        let n = times.len();
        if !(3..=MOST).contains(&n) {
            return Err(fault(format!("{n} layers: at least 3, embedding and head among them")));
        }
        if *layers.get_or_insert(n) != n {
            return Err(fault(format!("{n} layers, but other profiles have {}", layers.unwrap_or(n))));
        }
        let parameters = raw.model.parameters.parameters_per_layer_bytes;
        let memory_mb = raw.execution_memory.layer_memory_total_mb;
        for (what, list) in
            [("parameters_per_layer_bytes", &parameters), ("layer_memory_total_mb", &memory_mb)]
        {
            if list.len() != n {
                return Err(fault(format!("`{what}` has {} entries for {n} layers", list.len())));
            }
        }
        let time = &raw.execution_time;
        let model_wide =
            [time.forward_backward_time_ms, time.batch_generator_time_ms, time.optimizer_time_ms];
        let all = times.iter().chain(&parameters).chain(&memory_mb).chain(&model_wide);
        if !all.clone().all(|v| v.is_finite() && (0.0..1e15).contains(v)) || times.iter().sum::<f64>() <= 0.0
        {
            return Err(fault(
                "times, sizes and memory are finite and not negative, and some time is above 0".into(),
            ));
        }
        if wide.is_none() || first == Some(*name) {
            let doubled = time.optimizer_time_ms * 2.0;
            wide = Some((
                doubled,
                time.batch_generator_time_ms,
                [parameters[0], parameters[1], parameters[n - 1]],
            ));
        }
        let Some(kind) = cluster.kinds.iter().position(|k| k.name == kind) else { continue };
        first_kind.get_or_insert(kind);
        let sync_ms = time.forward_backward_time_ms - times.iter().sum::<f64>();
        entries.insert((kind, tp, batch), Entry { layers_ms: times, sync_ms, memory_mb });
    }
    let folder = files.first().map_or("profile", |f| f.0);
    let (Some((optimizer_ms, batch_generator_ms, parameter_bytes)), Some(kind)) = (wide, first_kind) else {
        return Err(error(folder, 0, "no profile of a kind that is in the cluster"));
    };
    let base: &Entry = entries.get(&(kind, 1, 1)).ok_or_else(|| {
        error(folder, 0, format!("no `DeviceType.{}_tp1_bs1.json`", cluster.kinds[kind].name))
    })?;
    let total: f64 = base.layers_ms.iter().sum();
    let normal = base.layers_ms.iter().map(|t| t / total).collect();
    Ok(Profile {
        optimizer_ms,
        batch_generator_ms,
        parameter_bytes,
        normal,
        hidden: f64::from(sizes.hidden),
        sequence: f64::from(sizes.sequence),
        vocabulary: f64::from(sizes.vocabulary),
        most_tp: entries.keys().map(|k| k.1).max().unwrap_or(1),
        most_batch: entries.keys().map(|k| k.2).max().unwrap_or(1),
        entries,
    })
}

/// A plan of a ranked output.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedPlan {
    /// Line of the file, from 1.
    pub line: usize,
    /// The cost that Metis gave it, ms.
    pub cost_ms: f64,
    /// The plan.
    pub plan: MetisPlan,
}

/// Reads Metis's ranked output: a line `RANK, COST, (kinds), [groups], [(dp, tp), ...], BATCHES, [cuts]` for each plan; lines
/// that do not begin with a rank are its log and are passed by.
///
/// # Errors
/// The first line that begins with a rank and is not a plan.
pub fn ranked(file: &str, text: &str, cluster: &Cluster) -> Result<Vec<RankedPlan>, MetisFileError> {
    let mut plans = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if !line.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let fault = |what: &str| {
            error(
                file,
                number + 1,
                format!(
                    "{what}: a plan is `rank, cost, (kinds), [groups], [(dp, tp), ...], batches, [cuts]`"
                ),
            )
        };
        let (_, rest) = line.split_once(", ").ok_or_else(|| fault("no cost"))?;
        let (cost, rest) = rest.split_once(", ").ok_or_else(|| fault("no kinds"))?;
        let cost_ms: f64 = cost
            .parse()
            .ok()
            .filter(|c: &f64| c.is_finite())
            .ok_or_else(|| fault("the cost is no number"))?;
        let (names, rest) = bracketed(rest, '(', ')').ok_or_else(|| fault("no kinds"))?;
        let mut sequence = Vec::new();
        for name in names.split("DeviceType.").skip(1) {
            let name = name.split(':').next().unwrap_or(name);
            let kind = cluster.kinds.iter().position(|k| k.name == name);
            let kind = kind.ok_or_else(|| fault(&format!("the cluster has no `{name}`")))?;
            if sequence.contains(&kind) {
                return Err(fault(&format!("`{name}` stands twice")));
            }
            sequence.push(kind);
        }
        if sequence.len() != cluster.kinds.len() {
            return Err(fault("not every kind of the cluster is named"));
        }
        let (groups, rest) = bracketed(rest, '[', ']').ok_or_else(|| fault("no groups"))?;
        let (pairs, rest) = bracketed(rest, '[', ']').ok_or_else(|| fault("no strategies"))?;
        let (batches, rest) =
            rest.trim_start_matches(", ").split_once(',').ok_or_else(|| fault("no batches"))?;
        let (cuts, _) = bracketed(rest, '[', ']').ok_or_else(|| fault("no cuts"))?;
        let groups: Vec<usize> = numbers(groups).ok_or_else(|| fault("a group is no number"))?;
        let pairs: Vec<u32> =
            numbers(&pairs.replace(['(', ')'], "")).ok_or_else(|| fault("a strategy is no number"))?;
        let cuts: Vec<usize> = numbers(cuts).ok_or_else(|| fault("a cut is no number"))?;
        let batches: u32 =
            batches.trim().parse().ok().filter(|b| *b > 0).ok_or_else(|| fault("batches are at least 1"))?;
        if pairs.len() != 2 * groups.len() || groups.is_empty() {
            return Err(fault(&format!("{} groups with {} strategies", groups.len(), pairs.len() / 2)));
        }
        if groups.len() > cluster.devices() || groups.iter().any(|g| *g == 0 || *g > MOST) {
            return Err(fault("a group has at least one GPU, and there are no more groups than GPUs"));
        }
        if groups.iter().sum::<usize>() != cluster.devices() {
            return Err(fault(&format!(
                "the groups have {} GPUs, the cluster {}",
                groups.iter().sum::<usize>(),
                cluster.devices()
            )));
        }
        let strategies: Vec<(u32, u32)> = pairs.chunks(2).map(|p| (p[0], p[1])).collect();
        let fills = |(g, (dp, tp)): (&usize, &(u32, u32))| u64::from(*dp) * u64::from(*tp) == *g as u64;
        if !groups.iter().zip(&strategies).all(fills) {
            return Err(fault("dp x tp is not the size of its group"));
        }
        plans.push(RankedPlan {
            line: number + 1,
            cost_ms,
            plan: MetisPlan { sequence, groups, strategies, batches, cuts },
        });
    }
    if plans.is_empty() {
        return Err(error(file, 0, "no plans: not a ranked output of Metis"));
    }
    Ok(plans)
}

/// What stands between the next `open` and its `close`, and the rest.
fn bracketed(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let from = text.find(open)? + 1;
    let to = from + text[from..].find(close)?;
    Some((&text[from..to], &text[to + 1..]))
}

fn numbers<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').map(|n| n.trim().parse().ok()).collect()
}
