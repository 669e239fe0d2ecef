//! All-to-all transfers over shared links: `--topology star|mesh|tree|fat-tree --hosts N [--seed S] [--full]`.
//! Prints one JSON line.
#![allow(clippy::disallowed_types, reason = "an example times itself")]

mod support;

use std::time::Instant;

use sim_core::{Executor, NoObserver, RunOptions, Solver};
use support::workload::{Topology, all_to_all};

fn main() {
    let topology: Topology = support::flag("--topology", None);
    let hosts: usize = support::flag("--hosts", None);
    let seed: u64 = support::flag("--seed", Some(123));
    if !(2..=4_096).contains(&hosts) {
        support::fail("`--hosts` lies in 2 to 4096");
    }
    let (net, graph) = all_to_all(topology, hosts, seed);
    let solver = if support::switch("--full") { Solver::Full } else { Solver::Incremental };
    let mut executor = Executor::with_solver(solver);
    let clock = Instant::now();
    match executor.run(&graph, &net, &RunOptions::default(), &mut NoObserver) {
        Ok(outcome) => println!(
            "{{\"events\": {}, \"wall_s\": {:.6}, \"digest\": \"{}\", \"flows\": {}, \"end_s\": {}}}",
            outcome.events,
            clock.elapsed().as_secs_f64(),
            outcome.digest,
            graph.transfers(),
            outcome.end.as_secs_f64()
        ),
        Err(error) => support::fail(&error.to_string()),
    }
}
