//! What an iteration costs: nodes by the hour, and bytes between zones. Prices are a scenario's own.

use crate::layout::Layout;
use crate::plan::Plan;
use crate::scenario::{NodeId, Scenario};
use std::collections::BTreeSet;

/// `[cost]`: prices in millionths of a dollar, 0 where none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of a node for an hour, by node group.
    pub node_hour: Vec<u64>,
    /// Of 10^9 bytes, by index of [`Scenario::zone_links`].
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

    /// What the bytes of one iteration cost that cross zones, 10^-12 dollars: activations and their gradients between stages,
    /// and every gradient around its ring.
    pub fn traffic(&self, scenario: &Scenario, plan: &Plan, layout: &Layout) -> u64 {
        if self.gigabyte.iter().all(|p| *p == 0) {
            return 0;
        }
        let price = |a: NodeId, b: NodeId| {
            let zone = |n: NodeId| &scenario.groups[n.group as usize].zone;
            let link = scenario.zone_link(zone(a), zone(b)).filter(|_| zone(a) != zone(b));
            u128::from(link.and_then(|(i, _)| self.gigabyte.get(i)).copied().unwrap_or(0))
        };
        let mut total = 0u128;
        let bytes = scenario.model.boundary_bytes(scenario.training.precision).0;
        let bytes = u128::from(bytes) * u128::from(plan.micro_batch);
        for pipeline in &layout.pipelines {
            for pair in layout.ranks[pipeline.stages.clone()].windows(2) {
                let both = price(pair[0].node(), pair[1].node()) + price(pair[1].node(), pair[0].node());
                total += both * bytes * u128::from(pipeline.micro_batches);
            }
        }
        let element = u128::from(scenario.training.gradient_bytes);
        for sync in &layout.syncs {
            let n = sync.ranks.len() as u128;
            let parameters: u64 = sync.layers.iter().map(|l| scenario.model.parameters(l, 1)).sum();
            let sent = u128::from(parameters) * element * 2 * (n - 1) / n;
            for (i, from) in sync.ranks.iter().enumerate() {
                let to = sync.ranks[(i + 1) % sync.ranks.len()];
                total += price(layout.ranks[*from].node(), layout.ranks[to].node()) * sent;
            }
        }
        // 10^-6 dollars for 10^9 bytes are 10^-12 dollars for 10^3.
        u64::try_from(total / 1000).unwrap_or(u64::MAX)
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
