//! Disjoint flows, for instruction counts: `--flows N [--no-run]`. Prints the events.

mod support;

use sim_core::{Executor, NoObserver, RunOptions};

fn main() {
    let flows: usize = support::flag("--flows", None);
    let (net, graph) = support::workload::disjoint(flows, 1);
    if support::switch("--no-run") {
        println!("{}", graph.len());
        return;
    }
    match Executor::new().run(&graph, &net, &RunOptions::default(), &mut NoObserver) {
        Ok(outcome) => println!("{}", outcome.events),
        Err(error) => support::fail(&error.to_string()),
    }
}
