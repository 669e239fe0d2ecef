//! Several ways between two endpoints: parallel edges, some of which cannot be active together, and rules to choose.
//!
//! An NVLink, a PCIe path and a NIC may all join the same two devices. Edges of different groups add up; of one *exclusion
//! group* only one is active at a time, and what asks for another waits its turn, first come, first served
//! ([`GraphBuilder::exclude`]).

use crate::capacity::CapacitySource;
use crate::graph::{GraphBuilder, Transfer, Use};
use crate::id::{StreamId, TaskId};
use crate::network::Network;
use crate::rate::{Rate, WORK_PER_BYTE, time_for};
use crate::time::{SimDuration, SimTime};

/// One way between two endpoints.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Resources with weights, as in [`Transfer::uses`].
    pub uses: Vec<Use>,
    /// Before the first byte.
    pub latency: SimDuration,
    /// Highest rate of one transfer; [`Rate::MAX`] for none.
    pub cap: Rate,
    /// The exclusion group, if any: a number of the caller's, the same for all edges that cannot be active together.
    pub group: Option<u32>,
}

/// How a transfer chooses among edges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// All bytes on the edge that would deliver them first if it were alone; the first of equals.
    FastestFirst,
    /// Bytes in proportion to capacity, over the fastest edge of each exclusion group and all edges without one.
    SplitByCapacity,
}

/// The edges between two endpoints.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    edges: Vec<Edge>,
}

impl Edges {
    /// These edges.
    pub fn new(edges: Vec<Edge>) -> Self {
        Self { edges }
    }

    /// The edges.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The rate of an edge that one transfer has for itself, at the capacities of instant `at`.
    fn rate(edge: &Edge, net: &Network, at: SimTime) -> u64 {
        edge.uses.iter().fold(edge.cap.raw(), |rate, &(resource, weight)| {
            rate.min(net.capacity(resource).at(at).raw() / u64::from(weight.max(1)))
        })
    }

    /// (index of the edge, bytes), at the capacities of instant `at`; the bytes add up to `bytes`. Empty when there is no
    /// edge. When nothing has any capacity the first edge gets everything, to wait there.
    ///
    /// # Panics
    /// When an edge uses a resource that is not of the network.
    ///
    /// ```
    /// use sim_core::edges::{Edge, Edges, Rule};
    /// use sim_core::*;
    /// let gb = |g: f64| CapacityProfile::constant(Rate::from_bytes_per_s(g * 1e9).unwrap());
    /// let mut net = NetworkBuilder::new();
    /// let (nvlink, pcie, nic) = (net.resource(gb(300.0)), net.resource(gb(32.0)), net.resource(gb(100.0)));
    /// let net = net.build();
    /// let edge = |r, group| Edge { uses: vec![(r, 1)], latency: SimDuration::ZERO, cap: Rate::MAX, group };
    /// let edges = Edges::new(vec![edge(nvlink, Some(0)), edge(pcie, Some(0)), edge(nic, None)]);
    /// assert_eq!(edges.choose(&net, SimTime::ZERO, 1_000, Rule::FastestFirst), [(0, 1_000)]);
    /// assert_eq!(edges.choose(&net, SimTime::ZERO, 1_000, Rule::SplitByCapacity), [(0, 750), (2, 250)]);
    /// ```
    pub fn choose(&self, net: &Network, at: SimTime, bytes: u64, rule: Rule) -> Vec<(usize, u64)> {
        let rates: Vec<u64> = self.edges.iter().map(|e| Self::rate(e, net, at)).collect();
        match rule {
            Rule::FastestFirst => {
                let work = u128::from(bytes) * WORK_PER_BYTE;
                let time =
                    |i: &usize| self.edges[*i].latency.as_ps().saturating_add(time_for(work, rates[*i]));
                (0..self.edges.len()).min_by_key(time).map(|i| (i, bytes)).into_iter().collect()
            }
            Rule::SplitByCapacity => self.split(&rates, bytes),
        }
    }

    fn split(&self, rates: &[u64], bytes: u64) -> Vec<(usize, u64)> {
        let fastest = |i: usize| {
            let group = self.edges[i].group;
            group.is_none()
                || !self.edges.iter().enumerate().any(|(j, other)| {
                    other.group == group && (rates[j] > rates[i] || (rates[j] == rates[i] && j < i))
                })
        };
        let chosen: Vec<usize> = (0..self.edges.len()).filter(|&i| fastest(i)).collect();
        let total: u128 = chosen.iter().map(|&i| u128::from(rates[i])).sum();
        if total == 0 {
            return chosen.first().map(|&i| (i, bytes)).into_iter().collect();
        }
        // Cut at the rounded-down running sums, so that the parts add up whatever the ratios.
        let (mut before, mut cut) = (0u128, 0u64);
        let mut parts = Vec::new();
        for i in chosen {
            before += u128::from(rates[i]);
            // At most `bytes`, as the running sum is at most the total.
            let end = mul_div(bytes, before, total);
            if end > cut {
                parts.push((i, end - cut));
            }
            cut = end;
        }
        if parts.is_empty() {
            parts.extend(self.edges.first().map(|_| (0, bytes)));
        }
        parts
    }

    /// Adds the transfer of `bytes` to a graph, one task for each edge chosen, and gives the task that is done when all are.
    /// Exclusion groups hold among all transfers of the graph that name the same group.
    ///
    /// # Panics
    /// When an edge uses a resource that is not of the network.
    #[expect(
        clippy::too_many_arguments,
        reason = "a transfer and its place, plus what the choice depends on"
    )]
    pub fn transfer(
        &self,
        graph: &mut GraphBuilder,
        net: &Network,
        at: SimTime,
        bytes: u64,
        rule: Rule,
        streams: &[StreamId],
        deps: &[TaskId],
    ) -> TaskId {
        let parts = self.choose(net, at, bytes, rule);
        let begin = if parts.len() > 1 { Some(graph.delay(SimDuration::ZERO, streams, deps)) } else { None };
        let tasks: Vec<TaskId> = parts
            .iter()
            .map(|&(i, bytes)| {
                let edge = &self.edges[i];
                let transfer = Transfer { bytes, latency: edge.latency, cap: edge.cap, uses: &edge.uses };
                let task = match begin {
                    Some(begin) => graph.transfer(transfer, &[], &[begin]),
                    None => graph.transfer(transfer, streams, deps),
                };
                if let Some(group) = edge.group {
                    graph.exclude(task, group, i as u32);
                }
                task
            })
            .collect();
        match tasks[..] {
            [only] => only,
            // Holds the streams until all parts are through.
            _ => {
                let waits: Vec<TaskId> = if tasks.is_empty() { deps.to_vec() } else { tasks };
                graph.delay(SimDuration::ZERO, streams, &waits)
            }
        }
    }
}

/// `a` x `num` / `den`, rounded down, for `num` at most `den` and `den` below 2^96.
fn mul_div(a: u64, num: u128, den: u128) -> u64 {
    // Ratios are cut to 64 bits first where the product would not fit.
    let shift = (128 - den.leading_zeros()).saturating_sub(64);
    let (num, den) = (num >> shift, (den >> shift).max(1));
    u64::try_from(u128::from(a) * num / den).unwrap_or(u64::MAX).min(a)
}
