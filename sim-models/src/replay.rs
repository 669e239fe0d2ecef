//! What changes while a job runs, and how a replay goes: plain data of a [`Scenario`](crate::scenario::Scenario).
//!
//! Times are nanoseconds on the clock of the traces.

use crate::scenario::{DeviceId, NodeId};
use crate::timeline::{NS_PER_S, Timeline};
use std::collections::BTreeMap;

/// The speed of a GPU that is not slowed, as a rate in raw units of 2^-16 B/s: a picosecond of work is a byte, and goes at
/// 10^12 B/s.
pub const FULL_SPEED: u64 = 1_000_000_000_000 << 16;

/// A link between zones over time.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkChanges {
    /// Capacity each way, raw units of 2^-16 B/s.
    pub capacity: Timeline,
    /// Time before the first byte, ps.
    pub latency: Timeline,
    /// Capacity before the replay, where that is another trace.
    pub history: Option<Timeline>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// By index of the scenario's zone links; empty where nothing changes.
    pub links: Vec<LinkChanges>,
    /// Capacity of a node's NIC each way, raw units, where it is not its group's.
    pub nics: BTreeMap<NodeId, Timeline>,
    /// Capacity of a leaf's uplinks, up and down each, raw units, where it changes: by index of the scenario's leaves.
    pub leaves: BTreeMap<u32, Timeline>,
    /// 1 while a node is there, 0 while not; always there where missing.
    pub up: BTreeMap<NodeId, Timeline>,
    /// Speed of a GPU, of [`FULL_SPEED`]; full where missing.
    pub speeds: BTreeMap<DeviceId, Timeline>,
    /// How a replay goes.
    pub options: ReplayOptions,
}

impl Replay {
    /// Where the last of its timelines ends, ns; 0 when nothing changes.
    pub fn end(&self) -> u64 {
        let links = self.links.iter().flat_map(|l| [&l.capacity, &l.latency]);
        let nodes = self.nics.values().chain(self.up.values()).chain(self.speeds.values());
        links.chain(nodes).chain(self.leaves.values()).map(Timeline::end).max().unwrap_or(0)
    }
}

/// What the next stretch of time is expected to be, by the forecast policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forecast {
    /// As now.
    Last,
    /// As the mean of the window before.
    #[default]
    Average,
    /// By a first-order autoregression fitted to the window before.
    Ar1,
}

/// `[replay]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayOptions {
    /// The replay starts here; what is before is history.
    pub start: u64,
    /// It ends here; `None`: where the traces do, or after an hour where there are none.
    pub until: Option<u64>,
    /// Grid of the oracle, and the shortest time between two decisions of a policy.
    pub decide_every: u64,
    /// Fixed part of a switch from one plan to another.
    pub switch_cost: u64,
    /// Whether the state moves while the old plan goes on.
    pub switch_overlap: bool,
    /// Between two checkpoints; `None`: the best interval if nodes come and go, else none are taken.
    pub checkpoint_every: Option<u64>,
    /// Zone of the storage that checkpoints go to; `None`: behind each node's NIC.
    pub checkpoint_zone: Option<String>,
    /// Reactive: by how much another plan must be faster, as a fraction of the time; infinite: never switch.
    pub threshold: f64,
    /// Reactive: at how many decisions in a row.
    pub hysteresis: u32,
    /// Periodic: between two decisions.
    pub period: u64,
    /// Forecast: how.
    pub forecast: Forecast,
    /// Forecast: what it looks back on. Also the length of the windows that robust looks at.
    pub window: u64,
    /// Most states that a policy searches for plans in; 0: the scenario's own plan is all there is.
    pub max_plans: u32,
    /// Simulations of each search.
    pub simulations: u64,
    /// Whether iterations vary as measured steps do.
    pub jitter: bool,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        ReplayOptions {
            start: 0,
            until: None,
            decide_every: 60 * NS_PER_S,
            switch_cost: 5 * NS_PER_S,
            switch_overlap: false,
            checkpoint_every: None,
            checkpoint_zone: None,
            threshold: 0.05,
            hysteresis: 2,
            period: 600 * NS_PER_S,
            forecast: Forecast::default(),
            window: 300 * NS_PER_S,
            max_plans: 12,
            simulations: 200,
            jitter: false,
        }
    }
}
