//! Of sweeps that were measured, what each planner's cost model would have picked, and how slow that was when measured.
//!
//! ```text
//! cargo run --release --example picks -- RUNS.csv
//! ```
//!
//! `RUNS.csv` has the columns of docs/validate.md. A sweep is the rows of one source with one model, number of GPUs and global
//! batch; those with at least eight rows that can be built are asked. Every cost model gets the same layer times, links and
//! plans. Printed is a Markdown table: for each source and cost model, the mean of (measured time of its pick / best measured
//! time - 1) over the sweeps, and the mean Kendall tau of its order.

#![allow(clippy::print_stdout, reason = "an example prints")]

use sim_core::SimTime;
use sim_search::forms::{Form, estimates};
use sim_search::judge::Judge;
use std::collections::BTreeMap;
use std::process::ExitCode;
use validation::runs::{Settings, Trust, case, read};

/// Rows of a sweep at least.
const LEAST: usize = 8;

/// Measured time, then each cost model's estimate.
type Measured = (f64, Vec<f64>);

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: picks RUNS.csv");
        return ExitCode::from(2);
    };
    let rows = match std::fs::read_to_string(&path)
        .map_err(|e| e.to_string())
        .and_then(|t| read(&t).map_err(|e| e.to_string()))
    {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let mut sweeps: BTreeMap<(String, String), Vec<Measured>> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.trust != Trust::C) {
        let Some(measured) = row.iter_time_s else { continue };
        let Ok(case) = case::build(row, None, &Settings::default()) else { continue };
        let Ok(forms) = estimates(&case.scenario, &case.plan, SimTime::ZERO) else { continue };
        let simulated = |j: Judge| j.time_s(&case.scenario, &case.plan, SimTime::ZERO).ok();
        let (Some(full), Some(alone)) = (simulated(Judge::Simulate), simulated(Judge::ContentionFree)) else {
            continue;
        };
        let of = format!(
            "{} {} {} {:?} {:?}",
            row.model,
            row.gpus.unwrap_or(0),
            row.global_batch.unwrap_or(0),
            row.seq_len,
            row.layers
        );
        let mut times = vec![full, alone];
        times.extend(forms);
        sweeps.entry((row.source.clone(), of)).or_default().push((measured, times));
    }
    let mut names = vec![Judge::Simulate.name(), Judge::ContentionFree.name()];
    names.extend(Form::ALL.map(Form::name));
    println!("| source | sweeps (rows) | {} |", names.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(names.len()));
    let mut sources: BTreeMap<&str, Vec<&Vec<Measured>>> = BTreeMap::new();
    for ((source, _), sweep) in sweeps.iter().filter(|(_, s)| s.len() >= LEAST) {
        sources.entry(source).or_default().push(sweep);
    }
    for (source, sweeps) in sources {
        let cells: Vec<String> = (0..names.len())
            .map(|i| {
                let n = sweeps.len() as f64;
                let regret = sweeps.iter().map(|s| regret(s, i)).sum::<f64>() / n;
                let tau = sweeps.iter().map(|s| tau(s, i)).sum::<f64>() / n;
                format!("{:.1} % ({tau:.2})", 100.0 * regret)
            })
            .collect();
        let rows: usize = sweeps.iter().map(|s| s.len()).sum();
        println!("| {source} | {} ({rows}) | {} |", sweeps.len(), cells.join(" | "));
    }
    ExitCode::SUCCESS
}

/// How much slower than the best the model's pick was measured; of equal estimates, the first.
fn regret(sweep: &[Measured], model: usize) -> f64 {
    let best = sweep.iter().map(|m| m.0).fold(f64::INFINITY, f64::min);
    let pick = sweep.iter().min_by(|a, b| a.1[model].total_cmp(&b.1[model]));
    pick.map_or(0.0, |p| p.0 / best - 1.0)
}

/// Kendall's tau-a of a model's order against the measured one.
fn tau(sweep: &[Measured], model: usize) -> f64 {
    let (mut sum, mut pairs) = (0.0, 0.0);
    for i in 0..sweep.len() {
        for j in 0..i {
            let sign = |x: f64| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    0.0
                }
            };
            sum += sign(sweep[i].0 - sweep[j].0) * sign(sweep[i].1[model] - sweep[j].1[model]);
            pairs += 1.0;
        }
    }
    sum / f64::max(pairs, 1.0)
}
