//! A ring all-reduce, message by message: `--ranks R --bytes B --splits K [--no-fold]`. Prints one JSON line.
#![allow(clippy::disallowed_types, reason = "an example times itself")]

mod support;

use std::time::Instant;

use sim_core::generate::{Fcfs, Symmetry};
use sim_core::{NoObserver, RunOptions};
use support::ring::{Links, Ring};

fn main() {
    let ranks: u32 = support::flag("--ranks", None);
    let bytes: u64 = support::flag("--bytes", None);
    let splits: u32 = support::flag("--splits", Some(1));
    if ranks < 2 || splits == 0 {
        support::fail("`--ranks` is at least 2, `--splits` at least 1");
    }
    let fold = !support::switch("--no-fold");
    let links = Links(ranks);
    let clock = Instant::now();
    let world =
        if fold { Fcfs::folded(ranks, Symmetry::Rotation, &links, &links) } else { Ok(Fcfs::new(ranks)) };
    let mut world = match world {
        Ok(world) => world.ordered(),
        Err(refusal) => support::fail(&refusal.to_string()),
    };
    let mut program = Ring::new(ranks, bytes, splits);
    match world.run(&mut program, &links, &links, &RunOptions::default(), &mut NoObserver) {
        Ok(outcome) => println!(
            "{{\"events\": {}, \"wall_s\": {:.6}, \"digest\": \"{}\", \"folded\": {fold}, \"end_ns\": {}}}",
            outcome.events,
            clock.elapsed().as_secs_f64(),
            outcome.digest,
            outcome.end.as_ps() / 1_000
        ),
        Err(error) => support::fail(&error.to_string()),
    }
}
