//! PHOLD as a world of the engine.

use sim_core::{Class, Engine, Observer, Scheduler, SimDuration, SimTime, World};

use super::Random;

/// Delays lie below this many picoseconds.
const DELAY_PS: u32 = 2_000_000;

/// Processes that count their events.
pub struct Phold {
    random: Random,
    handled: Vec<u32>,
    left: u64,
}

impl Phold {
    /// Stops after `events` of them.
    pub fn new(pending: u32, events: u64, seed: u64) -> Self {
        Self { random: Random::new(seed), handled: vec![0; pending as usize], left: events }
    }

    /// Stops after this many more.
    pub fn stop_after(&mut self, events: u64) {
        self.left = events;
    }

    /// One event for each process.
    pub fn fill<O: Observer>(engine: &mut Engine<Self, O>) {
        for process in 0..engine.world().handled.len() as u32 {
            let (_, delay) = engine.world_mut().draw();
            engine.scheduler().after(delay, Class::Start, process);
        }
    }

    /// The next process and its delay, from one draw.
    #[inline]
    fn draw(&mut self) -> (u32, SimDuration) {
        let bits = self.random.bits();
        let scale = |bits: u32, bound: u32| (u64::from(bits) * u64::from(bound)) >> 32;
        let process = scale(bits as u32, self.handled.len() as u32) as u32;
        (process, SimDuration::from_ps(scale((bits >> 32) as u32, DELAY_PS)))
    }
}

impl World for Phold {
    type Event = u32;

    #[inline]
    fn handle(&mut self, _now: SimTime, process: u32, scheduler: &mut Scheduler<u32>) {
        self.handled[process as usize] = self.handled[process as usize].wrapping_add(1);
        let (next, delay) = self.draw();
        scheduler.after(delay, Class::Start, next);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            scheduler.stop();
        }
    }

    #[inline]
    fn fingerprint(process: &u32) -> u64 {
        u64::from(*process)
    }
}
