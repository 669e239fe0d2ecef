//! Clusters that Sailor planned for: its plan and ours, by the same simulation.
//!
//! ```text
//! cargo run --release --example sailor -- PLANS.json
//! ```
//!
//! `PLANS.json` holds by name: `gpus` (by `GPU_zone`), `plan` (`mbs`, `stages`, `dp`, `stage_types`, `used`),
//! `planner_iteration_s` and `simulator_iteration_s`. Where Sailor's answer leaves open which node a replica is on, the fastest
//! of the plans that it may mean is taken. Printed is a Markdown table, smallest cluster first.

#![allow(clippy::print_stdout, reason = "an example prints")]
// It says how long the search takes; the libraries may not look at a clock.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use sim_models::iteration::{Options as Simulated, simulate};
use sim_search::exchange::{SailorCase, sailor_cases};
use sim_search::{Options, search};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: sailor PLANS.json");
        return ExitCode::from(2);
    };
    let cases = std::fs::read_to_string(&path).map_err(|e| e.to_string());
    let cases = cases.and_then(|text| sailor_cases(&text).map_err(|e| e.to_string()));
    let mut cases: Vec<(String, SailorCase)> = match cases {
        Ok(cases) => cases.into_iter().collect(),
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::from(2);
        }
    };
    cases.sort_by_key(|(_, case)| case.devices());
    println!(
        "| cluster | GPUs | its planner, its simulator | its plan simulated, s | ours, s | less by | gap | plans simulated | s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, case) in cases {
        match row(&name, &case) {
            Ok(row) => println!("{row}"),
            Err(error) => {
                eprintln!("{name}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

fn row(name: &str, case: &SailorCase) -> Result<String, String> {
    let text = case.scenario().map_err(|e| e.to_string())?;
    let loaded = scenarios::load_text(&text, name, None, &scenarios::Overrides::default());
    let scenario =
        loaded.map_err(|f| f.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?.scenario;
    let mut theirs = f64::INFINITY;
    for plan in case.plan.plans(&scenario).map_err(|e| e.to_string())? {
        let iteration = simulate(&scenario, &plan, &Simulated::default()).map_err(|e| e.to_string())?;
        theirs = theirs.min(iteration.time.as_secs_f64());
    }
    let start = Instant::now();
    let max_simulations = scenario.search.max_simulations;
    let found = search(&scenario, &Options { max_simulations, ..Options::default() }, &mut |_| None);
    let seconds = start.elapsed().as_secs_f64();
    let best = found.ranked.first().ok_or("no plan is feasible")?;
    let ours = best.time_ps as f64 / 1e12;
    let gap = found.gap().filter(|g| *g > 0.0).map_or("proven".into(), |g| format!("{:.1} %", 100.0 * g));
    Ok(format!(
        "| `{name}` | {} | {:.3}, {:.3} | {theirs:.3} | {ours:.3} | {:.1} % | {gap} | {} | {seconds:.1} |",
        case.devices(),
        case.planner_iteration_s,
        case.simulator_iteration_s,
        100.0 * (1.0 - ours / theirs),
        found.counts.simulated,
    ))
}
