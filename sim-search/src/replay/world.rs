//! The world that a job runs in: what changes in it, as channels; and what it is at an instant, as a [`State`].
//!
//! A *channel* is one thing whose rate changes: a link between zones (its two ways), a node's NIC and a leaf's uplinks (their two ways), the speed
//! of a GPU. Everything a policy may know of the world comes through [`Past`](super::past::Past); only the engine, the
//! oracle and the bound read it directly.

use sim_core::{CapacityProfile, Network, NetworkBuilder, Rate, ResourceId, SimDuration};
use sim_models::lower::Fabric;
use sim_models::replay::Replay;
use sim_models::scenario::{DeviceId, NodeId, Scenario};
use sim_models::timeline::Timeline;
use std::collections::BTreeSet;

/// A network is built for a window of this many ns, so that its picosecond clock reaches past the window's end: 100 days.
const WINDOW: u64 = 100 * 86_400 * 1_000_000_000;

/// What a channel is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A zone link, an index into [`Scenario::zone_links`].
    Link(usize),
    /// A node's NIC.
    Nic(NodeId),
    /// A leaf's uplinks, an index into [`Scenario::leaves`].
    Leaf(u32),
    /// A GPU's speed.
    Speed(DeviceId),
}

/// Something whose rate changes.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What it is.
    pub of: Of,
    /// Its resources in the network.
    pub resources: Vec<ResourceId>,
    /// Its rate over time, raw units.
    pub line: Timeline,
}

/// The world at an instant, or made up: rates by channel, latencies by zone link, nodes that are away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// Raw units, by channel.
    pub rates: Vec<u64>,
    /// Picoseconds, by zone link.
    pub latencies: Vec<u64>,
    /// In order.
    pub down: Vec<NodeId>,
}

/// What a plan is laid out on and simulated in. It knows no time but that of its start.
pub(crate) struct Frame {
    /// The scenario without what changes.
    pub(crate) scenario: Scenario,
    pub(crate) fabric: Fabric,
    /// By resource: its channel.
    pub(crate) channel_of: Vec<Option<u32>>,
    pub(crate) of: Vec<Of>,
}

/// A scenario and everything that changes in it.
pub struct World {
    pub(crate) frame: Frame,
    channels: Vec<Channel>,
    latencies: Vec<Timeline>,
    up: Vec<(NodeId, Timeline)>,
    history: Vec<Option<Timeline>>,
}

impl Frame {
    /// A network in which nothing changes.
    pub(crate) fn still(&self, rates: &[u64]) -> Network {
        let mut builder = NetworkBuilder::new();
        for (i, channel) in self.channel_of.iter().enumerate() {
            builder.resource(match channel {
                Some(c) => CapacityProfile::constant(Rate::from_raw(rates[*c as usize])),
                None => self.fabric.network.capacity(ResourceId(i as u32)).clone(),
            });
        }
        builder.build()
    }
}

impl World {
    /// The world of a scenario.
    pub fn new(scenario: &Scenario) -> World {
        let replay = &scenario.replay;
        let fabric = Fabric::new(scenario);
        let mut channels = Vec::new();
        for (i, link) in scenario.zone_links.iter().enumerate() {
            let line = replay.links.get(i).map(|l| l.capacity.clone());
            let line = line.unwrap_or_else(|| Timeline::constant(at_start(&link.capacity)));
            if !line.is_constant() {
                let resources = vec![fabric.zone(i, true), fabric.zone(i, false)];
                channels.push(Channel { of: Of::Link(i), resources, line });
            }
        }
        for (&node, line) in &replay.nics {
            let resources = vec![fabric.egress(node), fabric.ingress(node)];
            channels.push(Channel { of: Of::Nic(node), resources, line: line.clone() });
        }
        for (&leaf, line) in &replay.leaves {
            let resources = vec![fabric.leaf(leaf, true), fabric.leaf(leaf, false)];
            channels.push(Channel { of: Of::Leaf(leaf), resources, line: line.clone() });
        }
        for (&device, line) in &replay.speeds {
            if let Some(resource) = fabric.speed(device) {
                let resources = vec![resource];
                channels.push(Channel { of: Of::Speed(device), resources, line: line.clone() });
            }
        }
        let latency = |(i, link): (usize, &sim_models::scenario::ZoneLink)| {
            replay
                .links
                .get(i)
                .map_or_else(|| Timeline::constant(link.latency.as_ps()), |l| l.latency.clone())
        };
        let latencies = scenario.zone_links.iter().enumerate().map(latency).collect();
        let up = replay.up.iter().filter(|(_, u)| !u.is_constant() || u.at(0) == 0);
        let up = up.map(|(n, u)| (*n, u.clone())).collect();
        let history = scenario.zone_links.iter().enumerate();
        let history = history.map(|(i, _)| replay.links.get(i).and_then(|l| l.history.clone())).collect();
        let mut channel_of = vec![None; fabric.network.len()];
        for (c, channel) in channels.iter().enumerate() {
            for resource in &channel.resources {
                channel_of[resource.index()] = Some(c as u32);
            }
        }
        let mut still = scenario.clone();
        let options = still.replay.options.clone();
        // What has a channel of its own stays there, so that its nodes are not taken to be alike; what its values are does not.
        let Replay { mut speeds, mut nics, mut leaves, .. } = std::mem::take(&mut still.replay);
        hide(speeds.values_mut());
        hide(nics.values_mut());
        hide(leaves.values_mut());
        still.replay = Replay { options, speeds, nics, leaves, ..Replay::default() };
        let of = channels.iter().map(|c| c.of).collect();
        let frame = Frame { scenario: still, fabric, channel_of, of };
        World { frame, channels, latencies, up, history }
    }

    /// The channels.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// The state at `t`.
    pub fn at(&self, t: u64) -> State {
        State {
            rates: self.channels.iter().map(|c| c.line.at(t)).collect(),
            latencies: self.latencies.iter().map(|l| l.at(t)).collect(),
            down: self.down(t),
        }
    }

    /// Time-weighted means over `[from, to)`; latencies and nodes are those just before `to`.
    pub(crate) fn mean(&self, from: u64, to: u64) -> State {
        let last = to.saturating_sub(1).max(from);
        State { rates: self.channels.iter().map(|c| c.line.mean(from, to)).collect(), ..self.at(last) }
    }

    /// The best of everything in `[from, to]`, whoever is there at `from`.
    pub(crate) fn best(&self, from: u64, to: u64) -> State {
        let least =
            |l: &Timeline| l.pieces(from, to.saturating_add(1)).map(|p| p.2).min().unwrap_or(l.at(from));
        State {
            rates: self.channels.iter().map(|c| c.line.highest(from, to)).collect(),
            latencies: self.latencies.iter().map(least).collect(),
            down: self.down(from),
        }
    }

    /// History from another trace, where there is one: of each channel.
    pub(crate) fn history(&self) -> Vec<Option<&Timeline>> {
        let of = |c: &Channel| match c.of {
            Of::Link(i) => self.history[i].as_ref(),
            _ => None,
        };
        self.channels.iter().map(of).collect()
    }

    /// Nodes that are away at `t`.
    pub(crate) fn down(&self, t: u64) -> Vec<NodeId> {
        self.up.iter().filter(|(_, line)| line.at(t) == 0).map(|(n, _)| *n).collect()
    }

    /// Whether nodes come and go.
    pub fn nodes_change(&self) -> bool {
        !self.up.is_empty()
    }

    /// The next instant after `t` at which a node of `nodes` comes or goes.
    pub(crate) fn next_coming_or_going(&self, t: u64, nodes: &BTreeSet<NodeId>) -> Option<u64> {
        self.up.iter().filter(|(n, _)| nodes.contains(n)).filter_map(|(_, line)| line.next_change(t)).min()
    }

    /// The next instant after `t` at which any node comes or goes.
    pub(crate) fn next_change_of_nodes(&self, t: u64) -> Option<u64> {
        self.up.iter().filter_map(|(_, line)| line.next_change(t)).min()
    }

    /// The first instant after `t` at which a node of `nodes` goes.
    pub(crate) fn next_loss(&self, t: u64, nodes: &BTreeSet<NodeId>) -> Option<u64> {
        let going = |line: &Timeline| {
            let mut now = t;
            loop {
                now = line.next_change(now)?;
                if line.at(now) == 0 {
                    return Some(now);
                }
            }
        };
        self.up.iter().filter(|(n, _)| nodes.contains(n)).filter_map(|(_, line)| going(line)).min()
    }

    /// Latencies at `t`.
    pub(crate) fn latencies(&self, t: u64) -> Vec<u64> {
        self.latencies.iter().map(|l| l.at(t)).collect()
    }

    /// The next change of a latency after `t`.
    pub(crate) fn next_latency(&self, t: u64) -> Option<u64> {
        self.latencies.iter().filter_map(|l| l.next_change(t)).min()
    }

    /// Where the window that `t` lies in begins.
    pub(crate) fn base(t: u64) -> u64 {
        t / WINDOW * WINDOW
    }

    /// The network from `base` on.
    pub(crate) fn network(&self, base: u64) -> Network {
        let mut builder = NetworkBuilder::new();
        for (i, channel) in self.frame.channel_of.iter().enumerate() {
            builder.resource(match channel {
                Some(c) => self.channels[*c as usize].line.profile(base),
                None => self.frame.fabric.network.capacity(ResourceId(i as u32)).clone(),
            });
        }
        builder.build()
    }
}

/// In place of each timeline a number; equal ones have equal numbers.
fn hide<'a>(lines: impl Iterator<Item = &'a mut Timeline>) {
    let mut seen: Vec<Timeline> = Vec::new();
    for line in lines {
        let number = seen.iter().position(|s| s == line).unwrap_or_else(|| {
            seen.push(line.clone());
            seen.len() - 1
        });
        *line = Timeline::constant(number as u64);
    }
}

/// A capacity that does not change, or its first value.
fn at_start(profile: &CapacityProfile) -> u64 {
    use sim_core::CapacitySource;
    profile.at(sim_core::SimTime::ZERO).raw()
}

/// The scenario with these latencies.
pub(crate) fn with_latencies(scenario: &Scenario, latencies: &[u64]) -> Option<Scenario> {
    let same = scenario.zone_links.iter().zip(latencies).all(|(l, ps)| l.latency.as_ps() == *ps);
    if same {
        return None;
    }
    let mut changed = scenario.clone();
    for (link, ps) in changed.zone_links.iter_mut().zip(latencies) {
        link.latency = SimDuration::from_ps(*ps);
    }
    Some(changed)
}
