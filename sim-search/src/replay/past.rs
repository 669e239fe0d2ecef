//! What a policy may see: the world up to now, and nothing after.
//!
//! A policy is handed a [`Past`] and no [`World`]; every question to it is cut off at its instant. That is what keeps a
//! policy from looking ahead, by type; a test that shuffles the future says it again.

use super::world::{State, World};

/// The world until an instant.
pub struct Past<'w> {
    world: &'w World,
    start: u64,
    now: u64,
}

impl<'w> Past<'w> {
    /// Until `now` of a replay that began at `start`.
    pub(super) fn new(world: &'w World, start: u64, now: u64) -> Past<'w> {
        Past { world, start, now }
    }

    /// The instant, ns.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.world.at(self.now)
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.world.channels().len()
    }

    /// The rate of a channel at `t`, or now if `t` lies ahead.
    pub fn rate(&self, channel: usize, t: u64) -> u64 {
        self.world.channels()[channel].line.at(t.min(self.now))
    }

    /// Time-weighted means over the last `window` ns; before the trace begins there is nothing to see.
    pub fn mean(&self, window: u64) -> State {
        // What is seen now counts as the last instant.
        self.world.mean(self.now.saturating_sub(window), self.now + 1)
    }

    /// Means over windows of the history, in order: the part of the trace before the replay, or the other trace that
    /// stands for it. Empty where there is none. Nodes and latencies are those at the start of the replay.
    pub fn history(&self, window: u64) -> Vec<State> {
        let other = self.world.history();
        let at_start = self.world.at(self.start);
        let length = match other.iter().flatten().map(|l| l.end()).max() {
            Some(end) => end.max(1),
            None => self.start,
        };
        let window = window.max(length / 1_000).max(1);
        let mut states = Vec::new();
        let mut from = 0;
        while from < length {
            let to = from.saturating_add(window).min(length);
            let mut state = State { ..at_start.clone() };
            for (c, rate) in state.rates.iter_mut().enumerate() {
                match (other[c], self.start) {
                    (Some(line), _) => *rate = line.mean(from, to),
                    (None, 0) => {}
                    (None, start) => {
                        *rate = self.world.channels()[c].line.mean(from.min(start - 1), to.min(start))
                    }
                }
            }
            states.push(state);
            from = to;
        }
        states
    }
}
