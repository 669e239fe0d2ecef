//! What each resource carried over time.

use super::Observer;
use crate::capacity::CapacitySource;
use crate::graph::{TaskGraph, TaskView};
use crate::id::{ResourceId, TaskId};
use crate::network::Network;
use crate::rate::Rate;
use crate::time::{SimDuration, SimTime};

/// The load of a resource from an instant on, until the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkLoad {
    /// From when.
    pub from: SimTime,
    /// How much of it is taken, weights included.
    pub used: Rate,
    /// How much there is, as far as known while it was last in use.
    pub capacity: Rate,
}

/// Follows the load of every resource of a network under one graph.
#[derive(Clone, Debug)]
pub struct LinkUse<'a> {
    graph: &'a TaskGraph,
    net: &'a Network,
    origin: SimTime,
    rates: Vec<u64>,
    loads: Vec<Vec<LinkLoad>>,
}

impl<'a> LinkUse<'a> {
    /// For a run of `graph` on `net` with this [`RunOptions::origin`](crate::RunOptions::origin).
    pub fn new(graph: &'a TaskGraph, net: &'a Network, origin: SimTime) -> Self {
        Self { graph, net, origin, rates: vec![0; graph.len()], loads: vec![Vec::new(); net.len()] }
    }

    /// The load of a resource by time: each entry holds until the next, the last to the end. Empty when never used.
    ///
    /// # Panics
    /// When the resource is not of the network.
    pub fn loads(&self, resource: ResourceId) -> &[LinkLoad] {
        &self.loads[resource.index()]
    }

    /// Bytes that a resource carried until `end`, weights included, to the nearest `f64`.
    ///
    /// # Panics
    /// When the resource is not of the network.
    pub fn bytes(&self, resource: ResourceId, end: SimTime) -> f64 {
        self.integral(resource, end, |load, secs| load.used.as_bytes_per_s() * secs)
    }

    /// How long a resource carried anything until `end`, in seconds.
    ///
    /// # Panics
    /// When the resource is not of the network.
    pub fn busy_s(&self, resource: ResourceId, end: SimTime) -> f64 {
        self.integral(resource, end, |load, secs| if load.used == Rate::ZERO { 0.0 } else { secs })
    }

    fn integral(&self, resource: ResourceId, end: SimTime, f: impl Fn(&LinkLoad, f64) -> f64) -> f64 {
        let loads = self.loads(resource);
        let until = loads.iter().skip(1).map(|l| l.from).chain([end]);
        loads.iter().zip(until).map(|(l, to)| f(l, to.saturating_since(l.from).as_secs_f64())).sum()
    }

    fn set(&mut self, now: SimTime, task: TaskId, rate: u64) {
        let before = std::mem::replace(&mut self.rates[task.index()], rate);
        let TaskView::Transfer(transfer) = self.graph.view(task) else { return };
        for &(resource, weight) in transfer.uses {
            let load = self.entry(now, resource);
            let weight = u64::from(weight);
            let used = (load.used.raw() + weight * rate).saturating_sub(weight * before);
            load.used = Rate::from_raw(used);
        }
    }

    /// The load from `now` on.
    fn entry(&mut self, now: SimTime, resource: ResourceId) -> &mut LinkLoad {
        let at = now.saturating_add(SimDuration::from_ps(self.origin.as_ps()));
        let net = self.net;
        let loads = &mut self.loads[resource.index()];
        let capacity = || net.capacity(resource).at(at);
        let next = match loads.last() {
            Some(last) if last.from == now => None,
            // While it stood idle its changes were not told.
            Some(last) if last.used == Rate::ZERO => {
                Some(LinkLoad { from: now, used: Rate::ZERO, capacity: capacity() })
            }
            Some(last) => Some(LinkLoad { from: now, ..*last }),
            None => Some(LinkLoad { from: now, used: Rate::ZERO, capacity: capacity() }),
        };
        loads.extend(next);
        let at = loads.len() - 1;
        &mut loads[at]
    }
}

impl Observer for LinkUse<'_> {
    fn rate_changed(&mut self, now: SimTime, task: TaskId, rate: Rate) {
        self.set(now, task, rate.raw());
    }

    fn task_finished(&mut self, now: SimTime, task: TaskId, _tag: u32) {
        if self.rates[task.index()] > 0 {
            self.set(now, task, 0);
        }
    }

    fn capacity_changed(&mut self, now: SimTime, resource: ResourceId, capacity: Rate) {
        self.entry(now, resource).capacity = capacity;
    }
}
