//! What the tests share: rates in bytes per picosecond, and a short way to build networks and graphs.

use sim_core::*;

/// `k` bytes per picosecond, so that hand computation needs no unit.
pub(crate) fn per_ps(k: u64) -> Rate {
    Rate::from_raw(k * 65_536 * 1_000_000_000_000)
}

pub(crate) fn at(ps: u64) -> SimTime {
    SimTime::from_ps(ps)
}

pub(crate) fn ps(ps: u64) -> SimDuration {
    SimDuration::from_ps(ps)
}

/// Steps in bytes per picosecond.
pub(crate) fn steps(initial: u64, points: &[(u64, u64)]) -> CapacityProfile {
    let points = points.iter().map(|&(t, k)| (at(t), per_ps(k))).collect();
    CapacityProfile::steps(per_ps(initial), points).unwrap()
}

pub(crate) fn wrapped(initial: u64, points: &[(u64, u64)], period: u64) -> CapacityProfile {
    let points = points.iter().map(|&(t, k)| (at(t), per_ps(k))).collect();
    CapacityProfile::wrapping(per_ps(initial), points, ps(period)).unwrap()
}

pub(crate) fn network(capacities: &[CapacityProfile]) -> Network {
    let mut net = NetworkBuilder::new();
    for c in capacities {
        net.resource(c.clone());
    }
    net.build()
}

pub(crate) fn send(bytes: u64, uses: &[(ResourceId, u32)]) -> Transfer<'_> {
    Transfer { bytes, latency: SimDuration::ZERO, cap: Rate::MAX, uses }
}

pub(crate) fn run(graph: &TaskGraph, net: &Network) -> (Executor, Result<Outcome, SimError>) {
    let mut executor = Executor::new();
    let outcome = executor.run(graph, net, &RunOptions::default(), &mut NoObserver);
    (executor, outcome)
}
