//! What an iteration costs: nodes by the hour, and bytes between zones. Prices are a scenario's own.

use crate::layout::Layout;
use crate::lower::Fabric;
use crate::scenario::NodeId;
use sim_core::graph::TaskView;
use sim_core::{ResourceId, TaskGraph, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// `[cost]`: prices in millionths of a dollar, 0 where none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of a node for an hour, by node group.
    pub node_hour: Vec<u64>,
    /// Of 10^9 bytes, by index of [`crate::scenario::Scenario::zone_links`].
    pub gigabyte: Vec<u64>,
}

/// Picoseconds of an hour, in millions.
const HOUR: u128 = 3_600_000_000;

/// Dollars x 10^-12 for so many ps at a price in 10^-6 dollars an hour, rounded down.
pub fn for_time(price: u64, ps: u64) -> u64 {
    u64::try_from(u128::from(price) * u128::from(ps) / HOUR).unwrap_or(u64::MAX)
}

/// The longest time in ps that costs no more than so many 10^-12 dollars.
pub fn time_for(price: u64, cost: u64) -> u64 {
    match price {
        0 => u64::MAX,
        price => u64::try_from(((u128::from(cost) + 1) * HOUR - 1) / u128::from(price)).unwrap_or(u64::MAX),
    }
}

impl Cost {
    /// The price of a node of a group, 10^-6 dollars an hour.
    pub fn node(&self, group: usize) -> u64 {
        self.node_hour.get(group).copied().unwrap_or(0)
    }

    /// The price of all nodes that a plan touches, 10^-6 dollars an hour.
    pub fn nodes(&self, layout: &Layout) -> u64 {
        let nodes: BTreeSet<NodeId> = layout.ranks.iter().flat_map(|r| r.nodes.iter().copied()).collect();
        nodes.iter().map(|n| self.node(n.group as usize)).fold(0, u64::saturating_add)
    }

    /// What it costs that these tasks send bytes over links between zones, whatever for, 10^-12 dollars. As in a run, alike
    /// pipelines may stand for each other.
    pub(crate) fn traffic(&self, fabric: &Fabric, graph: &TaskGraph, tasks: Range<u32>) -> u64 {
        if !self.prices_bytes() {
            return 0;
        }
        let ways = |(link, price): (usize, &u64)| [true, false].map(|way| (fabric.zone(link, way), *price));
        let prices: BTreeMap<ResourceId, u64> = self.gigabyte.iter().enumerate().flat_map(ways).collect();
        let mut total = 0u128;
        for task in tasks {
            let TaskView::Transfer(transfer) = graph.view(TaskId(task)) else { continue };
            let each = transfer.uses.iter().map(|(resource, times)| {
                u128::from(prices.get(resource).copied().unwrap_or(0)) * u128::from(*times)
            });
            total += each.sum::<u128>() * u128::from(transfer.bytes);
        }
        // 10^-6 dollars for 10^9 bytes are 10^-12 dollars for 10^3.
        u64::try_from(total / 1000).unwrap_or(u64::MAX)
    }

    /// Whether bytes between zones cost anything.
    pub(crate) fn prices_bytes(&self) -> bool {
        self.gigabyte.iter().any(|price| *price > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_cost_are_inverse() {
        for (price, cost) in [(1, 0), (3_600_000_000, 7), (14_690_000, 123_456_789), (1_000_000_007, 1)] {
            let time = time_for(price, cost);
            assert!(for_time(price, time) <= cost && for_time(price, time + 1) > cost, "{price} {cost}");
        }
        // 36 dollars an hour for a second: a cent.
        assert_eq!(for_time(36_000_000, 1_000_000_000_000), 10_000_000_000);
    }
}
