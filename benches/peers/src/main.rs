//! PHOLD on three kernels, and a bare heap, in one run: `cargo run --release -- [--pending P] [--events N]`. With one pending
//! it is ping-pong: an event schedules the next.
//!
//! P processes; each event schedules one for a random process after a random delay, uniform in 1 to 2,000,000 units of the
//! kernel's clock (picoseconds here, nanoseconds in nexosim, the same number as seconds in simcore's floats). In nexosim, where
//! a process reaches only those it is wired to, the next event is its own. Every kernel draws from the same generator, kept by
//! each process. The bare heap pops the least of (time, sequence, process) and pushes the next: HOLD, with no kernel around it.
//! One thread. Prints one JSON line a kernel.

#![allow(clippy::disallowed_types, reason = "a comparison of speed reads the clock")]

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nexosim::model::{Context, Model, schedulable};
use nexosim::simulation::{Mailbox, SimInit};
use nexosim::time::MonotonicTime;
use serde::{Deserialize, Serialize};
use sim_core::{Class, Engine, Limits, Scheduler, SimDuration, SimTime, World};
use simcore::{Event, EventHandler, Id, Simulation, SimulationContext, cast};

const DELAY: u64 = 2_000_000;

/// SplitMix64 (Steele, Lea, Flood 2014): a process below `pending`, and a delay of 1 to [`DELAY`].
fn draw(state: &mut u64, pending: u32) -> (u32, u64) {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let process = ((z & 0xffff_ffff) * u64::from(pending)) >> 32;
    (process as u32, 1 + (((z >> 32) * DELAY) >> 32))
}

struct Ours {
    states: Vec<u64>,
    left: u64,
}

impl World for Ours {
    type Event = u32;
    fn handle(&mut self, _now: SimTime, process: u32, scheduler: &mut Scheduler<u32>) {
        let pending = self.states.len() as u32;
        let (next, delay) = draw(&mut self.states[process as usize], pending);
        scheduler.after(SimDuration::from_ps(delay), Class::Start, next);
        self.left -= 1;
        if self.left == 0 {
            scheduler.stop();
        }
    }
    fn fingerprint(process: &u32) -> u64 {
        u64::from(*process)
    }
}

fn ours(pending: u32, events: u64) -> Duration {
    let mut engine = Engine::new(Ours { states: (0..u64::from(pending)).collect(), left: events });
    for process in 0..pending {
        engine.scheduler().after(SimDuration::from_ps(u64::from(process) + 1), Class::Start, process);
    }
    let clock = Instant::now();
    engine.run(&Limits::default()).expect("it stops");
    clock.elapsed()
}

fn bare_heap(pending: u32, events: u64) -> Duration {
    let mut states: Vec<u64> = (0..u64::from(pending)).collect();
    let first = |process: u32| Reverse((u64::from(process) + 1, u64::from(process), process));
    let mut heap: BinaryHeap<Reverse<(u64, u64, u32)>> = (0..pending).map(first).collect();
    let clock = Instant::now();
    for sequence in 0..events {
        let Some(Reverse((now, _, process))) = heap.pop() else { break };
        let (next, delay) = draw(&mut states[process as usize], pending);
        heap.push(Reverse((now + delay, u64::from(pending) + sequence, next)));
    }
    black_box(&heap);
    clock.elapsed()
}

#[derive(Clone, Serialize)]
struct Tick {}

struct SimcoreProcess {
    state: u64,
    ids: Rc<[Id]>,
    ctx: SimulationContext,
}

impl EventHandler for SimcoreProcess {
    fn on(&mut self, event: Event) {
        cast!(match event.data {
            Tick {} => {
                let (next, delay) = draw(&mut self.state, self.ids.len() as u32);
                self.ctx.emit(Tick {}, self.ids[next as usize], delay as f64);
            }
        })
    }
}

fn simcore(pending: u32, events: u64) -> Duration {
    let mut sim = Simulation::new(1);
    let name = |process: u32| format!("process-{process}");
    let contexts: Vec<_> = (0..pending).map(|process| sim.create_context(name(process))).collect();
    let ids: Rc<[Id]> = contexts.iter().map(SimulationContext::id).collect();
    for (process, ctx) in (0..pending).zip(contexts) {
        ctx.emit_self(Tick {}, f64::from(process) + 1.0);
        let handler = SimcoreProcess { state: u64::from(process), ids: ids.clone(), ctx };
        sim.add_handler(name(process), Rc::new(RefCell::new(handler)));
    }
    let clock = Instant::now();
    sim.steps(events);
    clock.elapsed()
}

#[derive(Serialize, Deserialize)]
struct NexosimProcess {
    state: u64,
    handled: u64,
}

#[Model]
impl NexosimProcess {
    #[nexosim(init)]
    async fn init(&mut self, cx: &Context<Self>) {
        let first = Duration::from_nanos(self.state + 1);
        cx.schedule_event(first, schedulable!(Self::tick), ()).expect("it lies in the future");
    }

    #[nexosim(schedulable)]
    async fn tick(&mut self, _: (), cx: &Context<Self>) {
        self.handled += 1;
        let delay = Duration::from_nanos(draw(&mut self.state, 1).1);
        cx.schedule_event(delay, schedulable!(Self::tick), ()).expect("it lies in the future");
    }
}

fn nexosim(pending: u32, events: u64) -> Duration {
    let mut bench = SimInit::with_num_threads(1);
    for process in 0..pending {
        let model = NexosimProcess { state: u64::from(process), handled: 0 };
        bench = bench.add_model(model, Mailbox::new(), &format!("process-{process}"));
    }
    let start = MonotonicTime::EPOCH;
    let mut simulation = bench.init(start).expect("the bench is sound");
    // A step takes all events of an instant; as many instants as the events fill on average.
    let span = Duration::from_nanos(events * (DELAY / 2) / u64::from(pending));
    let clock = Instant::now();
    simulation.step_until(start + span).expect("it runs");
    clock.elapsed()
}

fn main() {
    let flag = |name: &str, default: u64| {
        let value = std::env::args().skip_while(|a| a != name).nth(1);
        value.and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let pending = flag("--pending", 1_000) as u32;
    let events = flag("--events", 5_000_000);
    for (name, run) in [
        ("sim-core", ours as fn(u32, u64) -> Duration),
        ("bare std BinaryHeap", bare_heap),
        ("simcore", simcore),
        ("nexosim", nexosim),
    ] {
        // The best of three, for other work on the machine only adds.
        let wall = (0..3).map(|_| run(pending, events)).min().unwrap_or_default().as_secs_f64();
        println!(
            "{{\"kernel\": \"{name}\", \"pending\": {pending}, \"events\": {events}, \"wall_s\": {wall:.4}, \"events_per_s\": {:.0}}}",
            events as f64 / wall
        );
    }
}
