//! Fits the constants of `sim-models/src/framework/calibrated.toml` to measured runs, and says how well they do.
//!
//! ```sh
//! cargo run --release -p validation --example fit_runs -- score            # with the shipped constants
//! cargo run --release -p validation --example fit_runs -- fit OUT.toml     # fits on 7 rows in 10 of each source
//! ```
//!
//! Rows come from `$TIDEPLAN_DATA/runs/runs.csv` where that is set, else from the shipped ones. Every parameter is pulled to
//! what documents and micro-benchmarks say (its start), so that rows of one source cannot buy a better fit with absurd values;
//! a source counts with the square root of its rows. A row's residual is the logarithm of predicted over measured.

use sim_models::calibrate::{Parameter, fit_within};
use sim_models::framework::Calibration;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::{Table, Value};
use validation::runs::split::is_fitted;
use validation::runs::{
    Outcome, Row, Settings, Trust, case, evaluate, predictions_csv, read, report, shipped,
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

const SPECS: &[Spec] = &[
    spec(&["device", "a100", "matmul"], 1.0, 1.1),
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
    spec(&["device", "v100", "matmul"], 1.0, 1.2),
    spec(&["device", "t4", "matmul"], 1.0, 1.3),
    spec(&["links", "inside"], 1.0, 1.3),
    spec(&["links", "outside"], 1.0, 1.3),
    spec(&["links", "staged"], 0.3, 2.0),
    spec(&["kernels", "tile_overhead"], 2.0, 1.5),
    spec(&["framework", "megatron-deepspeed", "host_forward_s"], 1.2e-3, 1.5),
    spec(&["framework", "megatron-deepspeed", "host_backward_s"], 1.8e-3, 1.5),
    spec(&["framework", "megatron-deepspeed", "host_tp_s"], 0.1e-3, 2.0),
    spec(&["framework", "megatron-deepspeed", "host_tp_rank_s"], 0.05e-3, 2.0),
    spec(&["framework", "megatron-deepspeed", "sync_s"], 50e-6, 2.0),
    spec(&["framework", "megatron-deepspeed", "sync_node_s"], 100e-6, 2.0),
    spec(&["framework", "megatron-deepspeed", "passes"], 1.0, 1.3),
    spec(&["framework", "megatron-deepspeed", "score_passes"], 1.0, 1.3),
    spec(&["framework", "megatron-deepspeed", "optimizer_bytes"], 75.0, 1.5),
    spec(&["framework", "megatron-deepspeed", "iteration_s"], 2e-3, 3.0),
    spec(&["framework", "megatron-lm-1", "host_forward_s"], 2.0e-3, 2.0),
    spec(&["framework", "megatron-lm-1", "host_backward_s"], 3.0e-3, 2.0),
    spec(&["framework", "megatron-lm-1", "host_tp_rank_s"], 0.1e-3, 3.0),
    spec(&["framework", "megatron-lm-1", "sync_s"], 100e-6, 3.0),
    spec(&["framework", "megatron-lm-1", "iteration_s"], 20e-3, 3.0),
    spec(&["framework", "nanotron", "host_forward_s"], 1.2e-3, 1.5),
    spec(&["framework", "nanotron", "host_backward_s"], 1.8e-3, 1.5),
    spec(&["framework", "nanotron", "host_tp_s"], 0.3e-3, 2.0),
    spec(&["framework", "nanotron", "host_tp_rank_s"], 0.05e-3, 2.0),
    spec(&["framework", "nanotron", "host_tp_pipeline_s"], 1.2e-3, 1.5),
    spec(&["framework", "nanotron", "sync_s"], 50e-6, 2.0),
    spec(&["framework", "nanotron", "sync_node_s"], 300e-6, 2.0),
    spec(&["framework", "nanotron", "passes"], 1.0, 1.3),
    spec(&["framework", "nanotron", "optimizer_bytes"], 60.0, 2.0),
    spec(&["framework", "nanotron", "iteration_s"], 10e-3, 3.0),
    spec(&["framework", "llm-foundry", "host_forward_s"], 1.0e-3, 1.5),
    spec(&["framework", "llm-foundry", "host_backward_s"], 1.5e-3, 1.5),
    spec(&["framework", "llm-foundry", "passes"], 1.5, 1.3),
    spec(&["framework", "llm-foundry", "iteration_s"], 5e-3, 3.0),
    spec(&["framework", "llm-foundry", "slowdown"], 0.05, 2.0),
    spec(&["framework", "megatron-bridge", "host_forward_s"], 0.2e-3, 2.0),
    spec(&["framework", "megatron-bridge", "host_backward_s"], 0.3e-3, 2.0),
    spec(&["framework", "megatron-bridge", "passes"], 1.0, 1.3),
    spec(&["framework", "megatron-bridge", "iteration_s"], 20e-3, 3.0),
    spec(&["framework", "megatron-bridge", "slowdown"], 0.03, 2.0),
    spec(&["framework", "megatron-core", "host_forward_s"], 0.5e-3, 1.5),
    spec(&["framework", "megatron-core", "host_backward_s"], 0.8e-3, 1.5),
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

fn logs(rows: &[Row], calibration: &Calibration) -> Vec<f64> {
    let settings = Settings { tier: Some(validation::runs::Tier::Calibrated), calibration };
    let outcomes = evaluate(rows.to_vec(), &settings, |_| None);
    let log = |o: &Outcome| o.result.as_ref().map_or(0.0, |p| libm::log(p.predicted_s / p.measured_s));
    outcomes.iter().map(log).collect()
}

/// Rows that are fitted on: relied on, simulated without a table, of the fitted part; of a large source every so manyth.
fn training(most_of_a_source: usize) -> Vec<Row> {
    let relied = rows().into_iter().filter(|r| r.trust != Trust::C && is_fitted(&r.id));
    let usable = relied.filter(|r| {
        case::build(r, None, &Settings::default()).is_ok_and(|c| c.tier == validation::runs::Tier::Calibrated)
    });
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

fn fitted(out: &str, only: Option<&str>) {
    let rows = training(180);
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for row in &rows {
        *counts.entry(&row.source).or_default() += 1.0;
    }
    let weights: Vec<f64> = rows.iter().map(|r| libm::pow(counts[r.source.as_str()], -0.25)).collect();
    let facts: Vec<(String, Vec<String>)> = rows
        .iter()
        .map(|r| {
            let c = case::build(r, None, &Settings::default()).expect("built before");
            (c.framework.name.clone(), c.gpus.iter().map(|g| g.name.clone()).collect())
        })
        .collect();
    let base: Table =
        toml::from_str(include_str!("../../sim-models/src/framework/calibrated.toml")).expect("reads");
    let chosen = |s: &&Spec| {
        let moves = facts.iter().any(|(f, g)| concerns(s, f, g));
        moves && only.is_none_or(|o| o.split(',').any(|o| s.path.join(".").contains(o)))
    };
    let specs: Vec<&Spec> = SPECS.iter().filter(chosen).collect();
    println!("{} rows, {} parameters", rows.len(), specs.len());
    let start: Vec<f64> = specs.iter().map(|s| get(&base, s.path).unwrap_or(s.start)).collect();
    let parameters: Vec<Parameter> = specs
        .iter()
        .zip(&start)
        .map(|(s, v)| Parameter::new(s.path.join("."), *v, s.start * 0.05, s.start * 20.0))
        .collect();
    // The last point in full: a derivative asks again for the rows of one parameter alone.
    let last: RefCell<Option<(Vec<f64>, Vec<f64>)>> = RefCell::new(None);
    let residuals = |values: &[f64]| -> Vec<f64> {
        let calibration = with(&base, &specs, values);
        let mut last = last.borrow_mut();
        let moved: Vec<usize> = match last.as_ref() {
            Some((old, _)) => (0..values.len()).filter(|i| old[*i] != values[*i]).collect(),
            None => Vec::new(),
        };
        let errors = match (last.as_ref(), moved.as_slice()) {
            (Some((_, known)), [one]) => {
                let at: Vec<usize> =
                    (0..rows.len()).filter(|i| concerns(specs[*one], &facts[*i].0, &facts[*i].1)).collect();
                let some: Vec<Row> = at.iter().map(|i| rows[*i].clone()).collect();
                let mut errors = known.clone();
                for (i, e) in at.iter().zip(logs(&some, &calibration)) {
                    errors[*i] = e;
                }
                errors
            }
            _ => {
                let errors = logs(&rows, &calibration);
                let mean = errors.iter().map(|e| e.abs()).sum::<f64>() / errors.len() as f64;
                println!("mean {mean:.4}");
                *last = Some((values.to_vec(), errors.clone()));
                errors
            }
        };
        let pull = specs.iter().zip(values).map(|(s, v)| 0.05 * libm::log(v / s.start) / libm::log(s.factor));
        errors.iter().zip(&weights).map(|(e, w)| e * w).chain(pull).collect()
    };
    let found = fit_within(&parameters, 3e-3, residuals);
    let mut tree = base.clone();
    for (s, f) in specs.iter().zip(&found) {
        println!(
            "{:55} {:>10.4e} +- {:?}{}",
            f.name,
            f.value,
            f.standard_error,
            if f.at_bound { " at bound" } else { "" }
        );
        put(&mut tree, s.path, Value::Float(f.value));
    }
    let values: Vec<f64> = found.iter().map(|f| f.value).collect();
    let calibration = with(&tree, &specs, &values);
    let head = "# Numbers fitted on measured runs by `cargo run --release -p validation --example fit_runs -- fit`: see calibration.rs beside this\n# file and docs/cost-model.md. Factors have no unit, times are in s.\n\n";
    std::fs::write(out, format!("{head}{}", toml::to_string(&calibration).expect("a table")))
        .expect("written");
    score(&calibration, None);
}

fn score(calibration: &Calibration, predictions: Option<&str>) {
    let settings = Settings { tier: None, calibration };
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

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fit", out] => fitted(out, None),
        ["fit", out, only] => fitted(out, Some(only)),
        ["score", file, predictions] => {
            let text = std::fs::read_to_string(file).expect("reads");
            score(&Calibration::from_toml(&text).expect("reads"), Some(predictions));
        }
        _ => score(Calibration::builtin(), None),
    }
}
