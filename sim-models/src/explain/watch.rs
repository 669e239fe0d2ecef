//! What the critical path needs to know of a run beside starts and finishes: first bytes, and rates over time.

use sim_core::{Observer, Rate, SimTime, TaskId};

/// Follows every transfer.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// When the first byte of a task was under way, by task.
    first_byte: Vec<u64>,
    /// (when, task, rate from then on), in order of time.
    rates: Vec<(u64, TaskId, Rate)>,
}

impl Watch {
    /// For a graph of so many tasks.
    pub(super) fn new(tasks: usize) -> Watch {
        Watch { first_byte: vec![u64::MAX; tasks], rates: Vec::new() }
    }

    /// When the first byte of a transfer was under way.
    pub(super) fn first_byte(&self, task: TaskId) -> SimTime {
        SimTime::from_ps(self.first_byte[task.index()])
    }

    /// Every change of a rate, in order of time.
    pub(super) fn rates(&self) -> impl Iterator<Item = (SimTime, TaskId, Rate)> + '_ {
        self.rates.iter().map(|(at, task, rate)| (SimTime::from_ps(*at), *task, *rate))
    }
}

impl Observer for Watch {
    fn transfer_began(&mut self, now: SimTime, task: TaskId, _tag: u32) {
        self.first_byte[task.index()] = now.as_ps();
    }

    fn rate_changed(&mut self, now: SimTime, task: TaskId, rate: Rate) {
        self.rates.push((now.as_ps(), task, rate));
    }
}
