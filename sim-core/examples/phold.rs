//! PHOLD: `--pending P --events N [--seed S]`. P logical processes; each event picks the next process and a delay, uniform
//! whole picoseconds in [0, 2,000,000), from ChaCha8. Prints one JSON line.
#![allow(clippy::disallowed_types, reason = "an example times itself")]

mod support;

use std::time::Instant;

use sim_core::{Engine, Limits};
use support::phold::Phold;

fn main() {
    let pending: u32 = support::flag("--pending", None);
    let events: u64 = support::flag("--events", None);
    let seed: u64 = support::flag("--seed", Some(1));
    if pending == 0 {
        support::fail("`--pending` is at least 1");
    }
    let mut engine = Engine::new(Phold::new(pending, events, seed));
    Phold::fill(&mut engine);
    let clock = Instant::now();
    match engine.run(&Limits::default()) {
        Ok(outcome) => println!(
            "{{\"events\": {}, \"wall_s\": {:.6}, \"digest\": \"{}\", \"end_s\": {}}}",
            outcome.events,
            clock.elapsed().as_secs_f64(),
            outcome.digest,
            outcome.end.as_secs_f64()
        ),
        Err(error) => support::fail(&error.to_string()),
    }
}
