//! Fits the constants of `sim-models/src/framework/calibrated.toml` to measured runs, and says how well they do.
//!
//! ```sh
//! cargo run --release -p validation --example fit_runs -- score            # with the shipped constants
//! cargo run --release -p validation --example fit_runs -- datasheet OUT.csv # the same without any fit, row by row
//! cargo run --release -p validation --example fit_runs -- fit OUT.toml     # fits on 7 rows in 10 of each source
//! cargo run --release -p validation --example fit_runs -- memory OUT.toml  # the same for memory
//! cargo run --release -p validation --example fit_runs -- spreads          # widths of intervals by framework
//! cargo run --release -p validation --example fit_runs -- oom              # memory that allocators cannot use
//! cargo run --release -p validation --example fit_runs -- cross OUT.csv    # sources, GPUs and models left out
//! ```
//!
//! Rows come from `$TIDEPLAN_DATA/runs/runs.csv` where that is set, else from the shipped ones. Every parameter is pulled to
//! what documents and micro-benchmarks say (its start), so that rows of one source cannot buy a better fit with absurd values;
//! a source counts with the square root of its rows. A row's residual is the logarithm of predicted over measured.

use sim_models::calibrate::{Fitted, Parameter, Robust, fit_weighted};
use sim_models::framework::{Calibration, Framework};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::{Table, Value};
use validation::runs::split::is_fitted;
use validation::runs::{
    Outcome, Row, Settings, Tier, Trust, case, evaluate, fit_in_memory, oom, predictions_csv, read, report,
    shipped,
};

/// A parameter: where it stands in the file, its start, and how far (as a factor) it may be from there before it is pulled
/// back as strongly as one row of an average source.
struct Spec {
    path: &'static [&'static str],
    start: f64,
    factor: f64,
}

const fn spec(path: &'static [&'static str], start: f64, factor: f64) -> Spec {
    Spec { path, start, factor }
}

/// Errors well above this count by their size and not by its square: what is far off is most often something that the model
/// does not know, and must not bend what it does.
const SURE: f64 = 0.03;
/// What a parameter's distance from its start counts, of what a row of a source of one row does.
const PULL: f64 = 1.0;

/// Kinds of GPUs that share their fitted factors.
const DEVICES: [(&str, &[&str]); 7] = [
    ("a100", &["A100-40", "A100-80", "A100-40-PCIe", "A100-80-PCIe", "A800"]),
    ("h100", &["H100", "H200", "H800", "GH200-96", "GH200-144", "H100-NVL", "H200-NVL"]),
    ("b200", &["B200", "B300"]),
    ("gb200", &["GB200"]),
    ("gb300", &["GB300"]),
    ("v100", &["V100-16", "V100-32"]),
    ("t4", &["T4"]),
];

/// Of memory: fitted apart, to the peaks that rows give.
const MEMORY: &[Spec] = &[
    spec(&["framework", "nanotron", "kept"], 1.0, 1.3),
    spec(&["framework", "nanotron", "reserve_gib"], 0.5, 2.0),
    spec(&["framework", "megatron-deepspeed", "kept"], 1.0, 1.3),
    spec(&["framework", "megatron-deepspeed", "reserve_gib"], 8.0, 2.0),
    spec(&["framework", "megatron-core", "kept"], 1.0, 1.3),
    spec(&["framework", "megatron-core", "reserve_gib"], 0.5, 2.0),
];

const SPECS: &[Spec] = &[
    spec(&["device", "a100", "inside"], 1.0, 1.3),
    spec(&["device", "h100", "inside"], 1.0, 1.3),
    spec(&["device", "a100", "matmul"], 1.0, 1.1),
    spec(&["device", "a100", "stream"], 1.0, 1.1),
    spec(&["device", "a100", "flash"], 1.0, 1.3),
    spec(&["device", "h100", "matmul"], 1.0, 1.1),
    spec(&["device", "h100", "matmul_fp8"], 1.0, 1.2),
    spec(&["device", "h100", "flash"], 1.0, 1.3),
    spec(&["device", "b200", "matmul"], 1.0, 1.1),
    spec(&["device", "b200", "matmul_fp8"], 1.0, 1.2),
    spec(&["device", "b200", "flash"], 1.0, 1.3),
    spec(&["device", "gb200", "matmul"], 1.0, 1.1),
    spec(&["device", "gb200", "matmul_fp8"], 1.0, 1.2),
    spec(&["device", "gb200", "matmul_fp4"], 1.0, 1.2),
    spec(&["device", "gb200", "flash"], 1.0, 1.3),
    spec(&["device", "gb300", "matmul"], 1.0, 1.1),
    spec(&["device", "gb300", "matmul_fp8"], 1.0, 1.2),
    spec(&["device", "gb300", "matmul_fp4"], 1.0, 1.2),
    spec(&["device", "gb300", "flash"], 1.0, 1.3),
    spec(&["device", "v100", "inside"], 1.0, 2.0),
    spec(&["device", "v100", "matmul"], 1.0, 1.2),
    spec(&["device", "t4", "inside"], 1.0, 2.0),
    spec(&["device", "t4", "matmul"], 1.0, 1.1),
    spec(&["links", "inside"], 0.9, 1.2),
    spec(&["links", "outside"], 0.9, 1.2),
    spec(&["links", "staged_s"], 10e-3, 2.0),
    spec(&["kernels", "tile_store"], 0.7, 1.5),
    spec(&["kernels", "unaligned"], 0.5, 1.5),
    spec(&["kernels", "host_jitter"], 0.2, 1.5),
    spec(&["framework", "megatron-deepspeed", "host_forward_s"], 1.2e-3, 1.5),
    spec(&["framework", "megatron-deepspeed", "host_backward_s"], 1.8e-3, 1.5),
    spec(&["framework", "megatron-deepspeed", "host_tp_s"], 0.1e-3, 2.0),
    spec(&["framework", "megatron-deepspeed", "host_tp_rank_s"], 0.05e-3, 2.0),
    spec(&["framework", "megatron-deepspeed", "host_eager_s"], 0.5e-3, 2.0),
    spec(&["framework", "megatron-deepspeed", "micro_batch_s"], 1e-3, 2.0),
    spec(&["framework", "megatron-deepspeed", "sync_s"], 50e-6, 2.0),
    spec(&["framework", "megatron-deepspeed", "sync_node_s"], 100e-6, 2.0),
    spec(&["framework", "megatron-deepspeed", "passes"], 1.0, 1.3),
    spec(&["framework", "megatron-deepspeed", "score_passes"], 1.0, 1.3),
    spec(&["framework", "megatron-deepspeed", "optimizer_bytes"], 75.0, 1.5),
    spec(&["framework", "megatron-deepspeed", "iteration_s"], 2e-3, 3.0),
    spec(&["framework", "megatron-deepspeed", "transfer_s"], 0.1e-3, 3.0),
    spec(&["framework", "megatron-lm-1", "host_forward_s"], 2.0e-3, 2.0),
    spec(&["framework", "megatron-lm-1", "host_backward_s"], 3.0e-3, 2.0),
    spec(&["framework", "megatron-lm-1", "host_tp_rank_s"], 0.1e-3, 3.0),
    spec(&["framework", "megatron-lm-1", "sync_s"], 100e-6, 3.0),
    spec(&["framework", "megatron-lm-1", "iteration_s"], 20e-3, 3.0),
    spec(&["framework", "nanotron", "host_forward_s"], 1.2e-3, 1.5),
    spec(&["framework", "nanotron", "host_backward_s"], 1.8e-3, 1.5),
    spec(&["framework", "nanotron", "host_tp_s"], 0.3e-3, 2.0),
    spec(&["framework", "nanotron", "host_tp_rank_s"], 0.05e-3, 2.0),
    spec(&["framework", "nanotron", "host_tp_pipeline_s"], 1.0e-3, 1.5),
    spec(&["framework", "nanotron", "sync_s"], 50e-6, 2.0),
    spec(&["framework", "nanotron", "sync_node_s"], 600e-6, 1.5),
    spec(&["framework", "nanotron", "passes"], 1.0, 1.3),
    spec(&["framework", "nanotron", "optimizer_bytes"], 50.0, 1.5),
    spec(&["framework", "nanotron", "iteration_s"], 5e-3, 1.5),
    spec(&["framework", "nanotron", "transfer_s"], 0.5e-3, 3.0),
    spec(&["framework", "nanotron", "slowdown"], 0.13, 2.0),
    spec(&["framework", "llm-foundry", "host_forward_s"], 1.0e-3, 1.5),
    spec(&["framework", "llm-foundry", "host_backward_s"], 1.5e-3, 1.5),
    spec(&["framework", "llm-foundry", "passes"], 1.5, 1.3),
    spec(&["framework", "llm-foundry", "iteration_s"], 5e-3, 3.0),
    spec(&["framework", "llm-foundry", "slowdown"], 0.13, 2.0),
    spec(&["framework", "megatron-bridge", "host_forward_s"], 0.2e-3, 2.0),
    spec(&["framework", "megatron-bridge", "host_backward_s"], 0.3e-3, 2.0),
    spec(&["framework", "megatron-bridge", "sync_s"], 20e-6, 2.0),
    spec(&["framework", "megatron-bridge", "host_experts_s"], 2.5e-3, 1.5),
    spec(&["framework", "megatron-bridge", "passes"], 1.0, 1.3),
    spec(&["framework", "megatron-bridge", "iteration_s"], 20e-3, 3.0),
    spec(&["framework", "megatron-bridge", "slowdown"], 0.13, 2.0),
    spec(&["framework", "megatron-core", "host_forward_s"], 0.5e-3, 1.5),
    spec(&["framework", "megatron-core", "host_backward_s"], 0.8e-3, 1.5),
    spec(&["framework", "megatron-core", "sync_s"], 50e-6, 2.0),
    spec(&["framework", "megatron-core", "passes"], 1.0, 1.3),
    spec(&["framework", "megatron-core", "iteration_s"], 5e-3, 3.0),
];

fn data() -> Option<PathBuf> {
    std::env::var_os("TIDEPLAN_DATA").map(PathBuf::from)
}

fn rows() -> Vec<Row> {
    match data() {
        Some(data) => {
            let text = std::fs::read_to_string(data.join("runs/runs.csv")).expect("the runs are there");
            read(&text).expect("the runs read")
        }
        None => shipped(),
    }
}

fn plan(row: &Row) -> Option<String> {
    std::fs::read_to_string(data()?.join(format!("plans/sailor/{}.json", row.id))).ok()
}

fn put(tree: &mut Table, path: &[&str], value: Value) {
    match path {
        [last] => {
            tree.insert((*last).into(), value);
        }
        [first, rest @ ..] => {
            let entry = tree.entry(*first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = entry {
                put(inner, rest, value);
            }
        }
        [] => {}
    }
}

fn get(tree: &Table, path: &[&str]) -> Option<f64> {
    match path {
        [last] => tree.get(*last)?.as_float(),
        [first, rest @ ..] => get(tree.get(*first)?.as_table()?, rest),
        [] => None,
    }
}

/// The file with these values in it.
fn with(base: &Table, specs: &[&Spec], values: &[f64]) -> Calibration {
    let mut tree = base.clone();
    for (s, v) in specs.iter().zip(values) {
        put(&mut tree, s.path, Value::Float(*v));
    }
    for (name, gpus) in DEVICES {
        let list = gpus.iter().map(|g| Value::String((*g).into())).collect();
        put(&mut tree, &["device", name, "gpus"], Value::Array(list));
    }
    Value::Table(tree).try_into().expect("the paths are those of the file")
}

/// Whether a parameter has a say in a row.
fn concerns(s: &Spec, framework: &str, gpus: &[String]) -> bool {
    match s.path {
        ["framework", name, ..] => *name == framework,
        ["device", kind, ..] => {
            let of = DEVICES.iter().find(|(k, _)| k == kind).map_or(&[][..], |(_, g)| g);
            gpus.iter().any(|g| of.contains(&g.as_str()))
        }
        _ => true,
    }
}

fn logs(rows: &[Row], calibration: &Calibration, memory: bool) -> Vec<f64> {
    let settings = Settings { tier: Some(Tier::Calibrated), calibration };
    let outcomes = evaluate(rows.to_vec(), &settings, |_| None);
    let log = |o: &Outcome| {
        o.result.as_ref().map_or(0.0, |p| match o.row.peak_mem_gib {
            Some(peak) if memory => libm::log(p.memory_gib / peak),
            _ => libm::log(p.predicted_s / p.measured_s),
        })
    };
    outcomes.iter().map(log).collect()
}

/// Rows that are fitted on: relied on, simulated without a table, of the fitted part; of a large source every so manyth.
fn training(most_of_a_source: usize) -> Vec<Row> {
    let relied = rows().into_iter().filter(|r| r.trust != Trust::C && is_fitted(&r.id));
    let usable = relied
        .filter(|r| case::build(r, None, &Settings::default()).is_ok_and(|c| c.tier == Tier::Calibrated));
    let mut of_source: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in usable {
        of_source.entry(row.source.clone()).or_default().push(row);
    }
    of_source
        .into_values()
        .flat_map(|list| {
            let step = list.len().div_ceil(most_of_a_source).max(1);
            list.into_iter().step_by(step).collect::<Vec<_>>()
        })
        .collect()
}

/// What is known of a row before anything is fitted: framework and GPUs.
type Facts = (String, Vec<String>);

fn facts_of(rows: &[Row]) -> Vec<Facts> {
    rows.iter()
        .map(|r| {
            let c = case::build(r, None, &Settings::default()).expect("built before");
            (c.framework.name.clone(), c.gpus.iter().map(|g| g.name.clone()).collect())
        })
        .collect()
}

/// Fits to rows: the file and its parameters.
fn fit_on(
    rows: &[Row],
    base: &Table,
    memory: bool,
    tolerance: f64,
    chosen: impl Fn(&Spec) -> bool,
) -> (Calibration, Table, Vec<Fitted>) {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for row in rows {
        *counts.entry(&row.source).or_default() += 1.0;
    }
    let weights: Vec<f64> = rows.iter().map(|r| 1.0 / libm::sqrt(counts[r.source.as_str()])).collect();
    let facts = facts_of(rows);
    let moves = |s: &&Spec| chosen(s) && facts.iter().any(|(f, g)| concerns(s, f, g));
    let specs: Vec<&Spec> = (if memory { MEMORY } else { SPECS }).iter().filter(moves).collect();
    let parameters: Vec<Parameter> = specs
        .iter()
        .map(|s| {
            let start = get(base, s.path).unwrap_or(s.start);
            // No GPU does more than its peak, by a factor on the shares of the fastest kernels.
            let (low, high) = if s.path[0] == "device" { (0.4, 1.7) } else { (0.05, 20.0) };
            // All of the time in which tiles are stored is felt at the most.
            let most = if s.path.ends_with(&["tile_store"]) { 1.0 } else { s.start * high };
            Parameter::new(s.path.join("."), start.min(most), s.start * low, most)
        })
        .collect();
    // The last point in full: a derivative asks again for the rows of one parameter alone.
    let last: RefCell<Option<(Vec<f64>, Vec<f64>)>> = RefCell::new(None);
    let residuals = |values: &[f64]| -> Vec<f64> {
        let calibration = with(base, &specs, values);
        let mut last = last.borrow_mut();
        let moved: Vec<usize> = match last.as_ref() {
            Some((old, _)) => (0..values.len()).filter(|i| old[*i] != values[*i]).collect(),
            None => Vec::new(),
        };
        let errors = match (last.as_ref(), moved.as_slice()) {
            (Some((_, known)), [one]) => {
                let concerned = |i: &usize| concerns(specs[*one], &facts[*i].0, &facts[*i].1);
                let at: Vec<usize> = (0..rows.len()).filter(concerned).collect();
                let some: Vec<Row> = at.iter().map(|i| rows[*i].clone()).collect();
                let mut errors = known.clone();
                for (i, e) in at.iter().zip(logs(&some, &calibration, memory)) {
                    errors[*i] = e;
                }
                errors
            }
            _ => {
                let errors = logs(rows, &calibration, memory);
                *last = Some((values.to_vec(), errors.clone()));
                errors
            }
        };
        let pull = specs.iter().zip(values).map(|(s, v)| SURE * libm::log(v / s.start) / libm::log(s.factor));
        errors.into_iter().chain(pull).collect()
    };
    let pulls = specs.iter().map(|_| PULL);
    let weights: Vec<f64> = weights.iter().copied().chain(pulls).collect();
    let how = Robust { tolerance, scale: SURE, weights: &weights };
    let found = fit_weighted(&parameters, &how, residuals);
    let mut tree = base.clone();
    for (s, f) in specs.iter().zip(&found) {
        put(&mut tree, s.path, Value::Float(f.value));
    }
    if !memory {
        share(&mut tree, &facts);
    }
    (with(&tree, &[], &[]), tree, found)
}

/// What a framework is given that no run was fitted on, where its documents do not say: the median of the others', of two the
/// lower.
/// A framework that rows were fitted on has an entry, if an empty one.
fn share(tree: &mut Table, facts: &[Facts]) {
    const COMMON: [&str; 6] =
        ["sync_s", "passes", "slowdown", "transfer_s", "optimizer_bytes", "iteration_s"];
    let unknown = Framework::unknown().name.as_str();
    let Value::Table(frameworks) = tree.entry("framework").or_insert_with(|| Value::Table(Table::new()))
    else {
        return;
    };
    for (name, _) in facts {
        frameworks.entry(name.as_str()).or_insert_with(|| Value::Table(Table::new()));
    }
    frameworks.remove(unknown);
    let mut common = Table::new();
    for name in COMMON {
        let mut values: Vec<f64> = frameworks.values().filter_map(|f| f.get(name)?.as_float()).collect();
        values.sort_by(f64::total_cmp);
        if let Some(median) = values.get(values.len().saturating_sub(1) / 2) {
            common.insert(name.into(), Value::Float(*median));
        }
    }
    frameworks.insert(unknown.into(), Value::Table(common));
}

fn shipped_table() -> Table {
    toml::from_str(include_str!("../../sim-models/src/framework/calibrated.toml")).expect("reads")
}

/// `from`: the file whose values it starts from.
fn fitted(out: &str, only: Option<&str>, from: &Table, sources: &str, memory: bool) {
    let mut rows = training(180);
    rows.retain(|r| sources.split(',').any(|s| r.source.contains(s)));
    rows.retain(|r| !memory || r.peak_mem_gib.is_some());
    let chosen = |s: &Spec| only.is_none_or(|o| o.split(',').any(|o| s.path.join(".").contains(o)));
    let (calibration, _, found) = fit_on(&rows, from, memory, 1e-3, chosen);
    println!("{} rows, {} parameters", rows.len(), found.len());
    for f in &found {
        let bound = if f.at_bound { " at bound" } else { "" };
        println!("{:55} {:>10.4e} +- {:?}{bound}", f.name, f.value, f.standard_error);
    }
    let head = "# Numbers fitted on measured runs by `cargo run --release -p validation --example fit_runs -- fit`: see calibration.rs beside\n# this file and docs/cost-model.md. Factors have no unit, times are in s.\n\n";
    std::fs::write(out, format!("{head}{}", toml::to_string(&calibration).expect("a table")))
        .expect("written");
    score(&calibration, None, None);
}

fn mean_error(rows: &[Row], calibration: &Calibration) -> f64 {
    let errors = logs(rows, calibration, false);
    errors.iter().map(|e| (libm::exp(*e) - 1.0).abs()).sum::<f64>() / errors.len().max(1) as f64
}

/// Where a fit without some rows starts: parameters that those have a say in where they ever start, the others at known values.
/// The pull is towards the same values as ever.
fn start(kept: &[Facts], left_out: &[Facts], known: &Table) -> Table {
    let shared = |s: &Spec| !matches!(s.path[0], "framework" | "device");
    let in_some = |s: &Spec, facts: &[Facts]| facts.iter().any(|(f, g)| concerns(s, f, g));
    let mut start = Table::new();
    for s in SPECS.iter().filter(|s| in_some(s, kept) && (shared(s) || !in_some(s, left_out))) {
        put(&mut start, s.path, Value::Float(get(known, s.path).unwrap_or(s.start)));
    }
    start
}

/// Constants fitted anew without a source, a model or a GPU, and what they give on it.
fn cross(out: &str, only: &str) {
    let rows = training(40);
    let everything = |_: &Spec| true;
    let facts = facts_of(&rows);
    let (whole, known, _) = fit_on(&rows, &start(&facts, &[], &shipped_table()), false, 1e-2, everything);
    let mut groups: Vec<(String, Vec<bool>)> = Vec::new();
    let mut group = |name: String, members: Vec<bool>| {
        if members.iter().filter(|m| **m).count() >= 2 {
            groups.push((name, members));
        }
    };
    let mut seen: BTreeMap<(u8, &str), ()> = BTreeMap::new();
    for row in &rows {
        if seen.insert((0, &row.source), ()).is_none() {
            group(format!("source: {}", row.source), rows.iter().map(|r| r.source == row.source).collect());
        }
    }
    for (name, gpus) in DEVICES {
        let has = |g: &Vec<String>| g.iter().any(|g| gpus.contains(&g.as_str()));
        group(format!("GPU: {name}"), facts.iter().map(|(_, g)| has(g)).collect());
    }
    let mut models: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.model.len() > 3) {
        *models.entry(&row.model).or_default() += 1;
    }
    let mut largest: Vec<(&str, usize)> = models.into_iter().collect();
    largest.sort_by_key(|(name, n)| (usize::MAX - n, *name));
    for (name, _) in largest.into_iter().take(8) {
        group(format!("model: {name}"), rows.iter().map(|r| r.model == name).collect());
    }
    let mut text = String::from("left_out,rows,mean_with_percent,mean_without_percent\n");
    for (name, members) in groups.iter().filter(|(name, _)| only.split(',').any(|o| name.contains(o))) {
        let part = |inside: bool| -> Vec<Row> {
            rows.iter().zip(members).filter(|(_, m)| **m == inside).map(|(r, _)| r.clone()).collect()
        };
        let (kept, left) = (part(false), part(true));
        let (calibration, ..) =
            fit_on(&kept, &start(&facts_of(&kept), &facts_of(&left), &known), false, 1e-2, everything);
        let line = format!(
            "\"{name}\",{},{:.1},{:.1}\n",
            left.len(),
            100.0 * mean_error(&left, &whole),
            100.0 * mean_error(&left, &calibration)
        );
        print!("{line}");
        text += &line;
    }
    std::fs::write(out, text).expect("written");
}

/// Half-widths that hold nine in ten of the fitted rows of each framework, with a little more for rows not fitted on.
fn spreads(calibration: &Calibration) {
    let settings = Settings { tier: Some(Tier::Calibrated), calibration };
    let mut of: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for o in evaluate(rows(), &settings, plan) {
        if let Ok(p) = &o.result
            && o.row.trust != Trust::C
            && is_fitted(&o.row.id)
        {
            of.entry(p.framework.clone()).or_default().push(libm::log(p.predicted_s / p.measured_s).abs());
        }
    }
    for (name, mut errors) in of {
        errors.sort_by(f64::total_cmp);
        let at = (errors.len() * 9 / 10).min(errors.len() - 1);
        println!("{name}: {} rows, spread = {:.2}", errors.len(), 1.05 * errors[at]);
    }
}

/// What share of a GPU's memory the allocators of a sweep cannot use: precision and recall for several.
fn out_of_memory() {
    let Some(data) = data() else { return println!("TIDEPLAN_DATA is not set") };
    let outcomes = evaluate(rows(), &Settings::default(), plan);
    let text = std::fs::read_to_string(data.join("runs/oom_configs.csv")).expect("reads");
    let failures = oom::read(&text, outcomes.iter().map(|o| &o.row)).expect("reads");
    for percent in 0..20 {
        let mut calibration = Calibration::builtin().clone();
        for fit in calibration.framework.values_mut() {
            fit.fragmentation = Some(f64::from(percent) / 100.0);
        }
        let settings = Settings { tier: None, calibration: &calibration };
        let outcomes = evaluate(rows(), &settings, plan);
        println!("{percent} %: {:?}", oom::score(&fit_in_memory(failures.clone(), &settings), &outcomes));
    }
}

fn score(calibration: &Calibration, tier: Option<Tier>, predictions: Option<&str>) {
    let settings = Settings { tier, calibration };
    let outcomes = evaluate(rows(), &settings, plan);
    if let Some(path) = predictions {
        std::fs::write(path, predictions_csv(&outcomes)).expect("written");
    }
    let pc = |x: Option<f64>| x.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
    for (title, fitted) in [("fitted on", true), ("not fitted on", false)] {
        println!("{title}");
        let part: Vec<Outcome> =
            outcomes.iter().filter(|o| is_fitted(&o.row.id) == fitted).cloned().collect();
        let report = report(&part);
        let all = report.sources.iter().map(|s| (s.source.as_str(), &s.figures));
        for (name, f) in all.chain([("all", &report.overall)]) {
            println!(
                "{:32} n {:4} skip {:2} mape {:>5} med {:>5} p90 {:>6} bias {:>6} tau {:>5} regret {:>5} mem {:>5} cov {:>5} noisy {:>6}",
                name.chars().take(32).collect::<String>(),
                f.n,
                f.skipped,
                pc(f.mape),
                pc(f.median_ape),
                pc(f.p90_ape),
                pc(f.bias),
                pc(f.kendall_tau),
                pc(f.top1_regret),
                pc(f.memory_mape),
                pc(f.interval_coverage),
                pc(f.noisy.mape)
            );
        }
    }
}

/// What rows' predictions are made of, with the constants of a file.
fn parts(calibration: &Calibration, ids: &str) {
    let settings = Settings { tier: Some(Tier::Calibrated), calibration };
    for row in rows().iter().filter(|r| ids.split(',').any(|id| id == r.id)) {
        let case = match case::build(row, plan(row).as_deref(), &settings) {
            Ok(case) => case,
            Err(skip) => {
                println!("{}: {}", row.id, skip.what);
                continue;
            }
        };
        println!("{}: measured {:?} s", row.id, row.iter_time_s);
        let stage = &case.plan.pipelines[0].stages[0];
        let config = sim_models::layer_times::LayerConfig {
            cp: stage.cp,
            ep: stage.ep,
            sequence_parallel: case.plan.sequence_parallel,
            overlap_tp: case.plan.overlap_tp,
            ..sim_models::layer_times::LayerConfig::new(case.plan.micro_batch, stage.tp)
        };
        if let Ok(sums) = case.scenario.groups[0].layers.of(&config) {
            let last = case.scenario.model.layers() - 1;
            for layer in [0, 1, last] {
                let at = sim_models::plan::LayerRange { first: layer, last: layer };
                let ms = |t: sim_core::SimDuration| 1e3 * t.as_secs_f64();
                if let Some(c) = sums.cost(at) {
                    println!(
                        "  layer {layer:3}, in one node: forward {:8.3} ms ({:.3} waiting)  backward {:8.3} ms ({:.3})  update {:.3} ms",
                        ms(c.forward),
                        ms(c.forward_wait),
                        ms(c.backward),
                        ms(c.backward_wait),
                        ms(c.update)
                    );
                }
            }
        }
        if let Ok(i) = sim_models::iteration::simulate(&case.scenario, &case.plan, &Default::default()) {
            println!("  iteration {:.4} s", i.time.as_secs_f64());
            for d in &i.devices {
                println!("    {d:?}");
            }
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fit", out] => fitted(out, None, &shipped_table(), "", false),
        ["fit", out, only] => fitted(out, Some(only), &shipped_table(), "", false),
        ["fit", out, only, from, sources @ ..] => {
            let text = std::fs::read_to_string(from).expect("reads");
            let only = Some(*only).filter(|o| *o != "all");
            let sources = sources.first().copied().unwrap_or("");
            fitted(out, only, &toml::from_str(&text).expect("reads"), sources, false);
        }
        ["memory", out] => fitted(out, None, &shipped_table(), "", true),
        ["cross", out] => cross(out, ""),
        ["cross", out, only] => cross(out, only),
        ["oom"] => out_of_memory(),
        ["spreads"] => spreads(Calibration::builtin()),
        ["parts", file, ids] => {
            let text = std::fs::read_to_string(file).expect("reads");
            parts(&Calibration::from_toml(&text).expect("reads"), ids);
        }
        ["score", file, predictions] => {
            let text = std::fs::read_to_string(file).expect("reads");
            score(&Calibration::from_toml(&text).expect("reads"), None, Some(predictions));
        }
        ["datasheet", predictions] => score(&Calibration::none(), Some(Tier::Datasheet), Some(predictions)),
        _ => score(Calibration::builtin(), None, None),
    }
}
