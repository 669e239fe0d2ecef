//! What a second thread is worth to a search, and what a simulated plan costs it. Runs with one and with two threads take turns in one
//! process; of each the shortest and the middle wall time, the CPU time, and that of the busiest thread. Where other work
//! shares the machine wall times say little: then the work of the two threads over that of the busier one is what a second
//! core would give.
//!
//! `cargo bench --bench search -- [--runs N] [SCENARIO ...]`
#![allow(missing_docs, reason = "a bench is no library")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a bench looks at the clock")]

use scenarios::{Overrides, builtins};
use sim_models::scenario::Scenario;
use sim_search::{Found, Options, search};
use std::collections::BTreeMap;
use std::time::Instant;

/// A search that ends by itself in about a second, and a larger one.
const NAMES: [&str; 2] = ["opt350-a100x32-v100x96", "opt350-a100x128-v100x384"];

fn load(name: &str) -> Scenario {
    let builtin = builtins().iter().find(|b| b.name == name).unwrap_or_else(|| panic!("no built-in {name}"));
    builtin.load(&Overrides::default()).unwrap_or_else(|f| panic!("{name}: {f:?}")).scenario
}

/// Time on a processor of each thread of this process, s, by its number; nothing where the system does not say.
fn processor() -> BTreeMap<u64, f64> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let task = task.ok()?;
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let ns: f64 = text.split(' ').next()?.parse().ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, ns / 1e9))
    };
    tasks.filter_map(of).collect()
}

/// One run.
struct Run {
    wall: f64,
    /// Of each thread that the search had, s, the busiest first.
    threads: Vec<f64>,
    found: Found,
}

fn run(scenario: &Scenario, threads: usize) -> Run {
    let max_simulations = scenario.search.max_simulations;
    let options = Options { threads, max_simulations, ..Options::default() };
    let before = processor();
    let mut last = before.clone();
    let start = Instant::now();
    // The threads of a search end with it: they are looked at before each round.
    let found = search(scenario, &options, &mut |_| {
        last = processor();
        None
    });
    let wall = start.elapsed().as_secs_f64();
    let mut threads: Vec<f64> =
        last.iter().map(|(id, s)| s - before.get(id).unwrap_or(&0.0)).filter(|s| *s > 1e-3).collect();
    threads.sort_by(|a, b| b.total_cmp(a));
    Run { wall, threads, found }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runs = arguments.iter().position(|a| a == "--runs");
    let count: usize = runs.and_then(|i| arguments.get(i + 1)?.parse().ok()).unwrap_or(5);
    let named = arguments.iter().enumerate().filter(|(i, _)| runs.is_none_or(|r| *i != r && *i != r + 1));
    let mut names: Vec<&str> = named.map(|(_, a)| a.as_str()).collect();
    if names.is_empty() {
        names = NAMES.to_vec();
    }
    println!(
        "| scenario | threads | wall, s: least (middle) | CPU, s | busiest thread, s | ms a plan simulated |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for name in names {
        let scenario = load(name);
        let mut all: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..count.max(1) {
            for (i, list) in all.iter_mut().enumerate() {
                list.push(run(&scenario, i + 1));
            }
        }
        let digest = |r: &Run| r.found.digest.to_string();
        assert!(
            all.iter().flatten().all(|r| digest(r) == digest(&all[0][0])),
            "{name}: threads change nothing"
        );
        let least = |of: &dyn Fn(&Run) -> f64, i: usize| all[i].iter().map(of).fold(f64::INFINITY, f64::min);
        let cpu = |r: &Run| r.threads.iter().sum::<f64>();
        for (i, list) in all.iter().enumerate() {
            let mut walls: Vec<f64> = list.iter().map(|r| r.wall).collect();
            walls.sort_by(f64::total_cmp);
            let busiest = least(&|r| r.threads.first().copied().unwrap_or(0.0), i);
            let simulated = list[0].found.counts.simulated;
            println!(
                "| `{name}` | {} | {:.3} ({:.3}) | {:.3} | {busiest:.3} | {:.2} |",
                i + 1,
                walls[0],
                walls[walls.len() / 2],
                least(&cpu, i),
                1e3 * least(&cpu, i) / simulated.max(1) as f64
            );
        }
        let share = |r: &Run| r.threads.first().map_or(f64::INFINITY, |busiest| busiest / cpu(r));
        println!(
            "\n`{name}`: from one thread to two {:.2} times as fast by the wall, {:.2} by the work of the busier thread\n",
            least(&|r| r.wall, 0) / least(&|r| r.wall, 1),
            1.0 / least(&share, 1),
        );
    }
}
