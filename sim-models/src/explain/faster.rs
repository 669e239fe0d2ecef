//! What would help most: the plan again, with one thing a tenth faster. The network, the schedule and everybody who waits are
//! simulated anew, so what does not lie on the critical path helps nothing, and what lies beside it helps until the path moves.
//!
//! | what | is changed |
//! | --- | --- |
//! | GPUs of a group | compute and optimizer step of its stages, less what they wait for inside their layers |
//! | NICs of a group | their capacity; what one transfer between its nodes, or from them to others that no link between zones parts from them, reaches; what its layers wait for across nodes |
//! | inside nodes of a group | what one transfer inside a node reaches; what layers wait for there, unless they were measured together with it |
//! | the leaves of a group | the capacity of their uplinks |
//! | a link between zones | its capacity both ways, and what one transfer between the zones reaches |
//!
//! Latencies and a framework's fixed overheads stay.

use crate::device::LayerCost;
use crate::iteration::{SimulateError, Simulator};
use crate::jobs::foldings;
use crate::layout::Layout;
use crate::lower::{Fabric, LaidOut};
use crate::plan::Plan;
use crate::scenario::Scenario;
use sim_core::{Network, NetworkBuilder, ResourceId, SimDuration, SimTime};
use std::sync::Arc;

/// How much faster, as a fraction of two whole numbers.
const FASTER: (u64, u64) = (11, 10);

/// What is made faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The GPUs of a node group, an index into [`Scenario::groups`].
    Gpus(usize),
    /// The NICs of its nodes.
    Nics(usize),
    /// What joins the GPUs of one of its nodes.
    Inside(usize),
    /// A link between zones, an index into [`Scenario::zone_links`].
    Zones(usize),
    /// The uplinks of the leaves that its nodes are on.
    Leaves(usize),
}

/// The iteration with one thing a tenth faster.
#[derive(Clone, Copy, Debug)]
pub struct Faster {
    /// What.
    pub what: What,
    /// The iteration's length then.
    pub time: SimDuration,
    /// By how much of the iteration it is shorter: 0.05 is 5 %. Negative where sharing makes it longer.
    pub gain: f64,
}

/// The plan again with every node group that it uses, part by part, and every link between zones a tenth faster, one at a
/// time: the most helpful first. `end` is when the iteration ends as it is.
///
/// # Errors
/// As [`crate::iteration::simulate`].
pub fn faster(
    scenario: &Scenario,
    fabric: &Fabric,
    plan: &Plan,
    layout: &Layout,
    at: SimTime,
    end: SimDuration,
) -> Result<Vec<Faster>, SimulateError> {
    let job = LaidOut { scenario, plan, layout, start: SimDuration::ZERO };
    Ok(faster_jobs(scenario, fabric, &[job], at, &[end])?.swap_remove(0))
}

/// The same of jobs side by side: what each gains when one thing is faster for all of them. `ends` are how long the
/// iterations take as things are.
///
/// # Errors
/// As [`crate::iteration::simulate`].
pub fn faster_jobs(
    cluster: &Scenario,
    fabric: &Fabric,
    jobs: &[LaidOut<'_>],
    at: SimTime,
    ends: &[SimDuration],
) -> Result<Vec<Vec<Faster>>, SimulateError> {
    let devices = || jobs.iter().flat_map(|j| &j.layout.ranks).flat_map(|r| &r.devices);
    let groups: Vec<usize> =
        (0..cluster.groups.len()).filter(|g| devices().any(|d| d.group as usize == *g)).collect();
    let of_groups = groups.iter().flat_map(|g| [What::Gpus(*g), What::Nics(*g), What::Inside(*g)]);
    let leaves = groups.iter().filter(|g| cluster.groups[**g].leaves.is_some()).map(|g| What::Leaves(*g));
    let changes = of_groups.chain((0..cluster.zone_links.len()).map(What::Zones)).chain(leaves);
    let mut lists = vec![Vec::new(); jobs.len()];
    for what in changes {
        let changed: Vec<Changed> =
            jobs.iter().map(|job| Changed::new(job, fabric, what)).collect::<Result<_, _>>()?;
        let Some(first) = changed.first() else { continue };
        let again: Vec<LaidOut<'_>> = jobs
            .iter()
            .zip(&changed)
            .map(|(job, c)| LaidOut { scenario: &c.scenario, layout: &c.layout, ..*job })
            .collect();
        let mut simulator = Simulator::new(&first.scenario, &first.fabric);
        simulator.run_jobs(&again, &foldings(&again, true), at, None)?;
        for (index, (job, list)) in jobs.iter().zip(&mut lists).enumerate() {
            let time = simulator.end_of(index).saturating_since(SimTime::ZERO).saturating_sub(job.start);
            let (now, then) = (ends[index].as_secs_f64(), time.as_secs_f64());
            let gain = if now > 0.0 { (now - then) / now } else { 0.0 };
            list.push(Faster { what, time, gain });
        }
    }
    lists.iter_mut().for_each(|list| list.sort_by_key(|f| (f.time, f.what)));
    Ok(lists)
}

/// A scenario with one thing faster.
struct Changed {
    scenario: Scenario,
    fabric: Fabric,
    layout: Layout,
}

impl Changed {
    fn new(job: &LaidOut<'_>, fabric: &Fabric, what: What) -> Result<Changed, SimulateError> {
        let LaidOut { scenario, plan, layout, .. } = *job;
        let (num, den) = FASTER;
        let factor = num as f64 / den as f64;
        let mut changed =
            Changed { scenario: scenario.clone(), fabric: fabric.clone(), layout: layout.clone() };
        let (next, zones) = (&mut changed.scenario, |g: usize| &scenario.groups[g].zone);
        let pairs = (0..scenario.groups.len()).flat_map(|a| (0..scenario.groups.len()).map(move |b| (a, b)));
        match what {
            What::Gpus(g) => {
                let own = changed.layout.ranks.iter_mut().filter(|r| r.devices[0].group as usize == g);
                own.for_each(|rank| rank.times = rank.times.map(computed_faster));
                return Ok(changed);
            }
            What::Nics(g) => {
                let direct = |a, b| scenario.zone_link(zones(a), zones(b)).is_none();
                for (a, b) in pairs.filter(|(a, b)| (*a == g || *b == g) && direct(*a, *b)) {
                    next.node_links[a][b] = next.node_links[a][b].faster(factor);
                }
                let group = &mut next.groups[g];
                group.layers = Arc::new(group.layers.behind_faster_links(1.0, factor));
                group.collectives = group.nccl().map(|nccl| nccl.over_faster_links(1.0, factor));
                group.nic = group.nic.scaled(num, den).unwrap_or_else(|_| group.nic.clone());
                let first = fabric.egress(crate::scenario::NodeId { group: g as u32, index: 0 }).0;
                let nics = first..first + 2 * scenario.groups[g].nodes;
                changed.fabric = Fabric::new(next);
                changed.fabric.network = with_faster(&fabric.network, nics);
            }
            What::Inside(g) => {
                let group = &mut next.groups[g];
                group.inside = group.inside.faster(factor);
                group.layers = Arc::new(group.layers.behind_faster_links(factor, 1.0));
                group.collectives = group.nccl().map(|nccl| nccl.over_faster_links(factor, 1.0));
                changed.fabric = Fabric::new(next);
            }
            What::Zones(l) => {
                let ends = &scenario.zone_links[l].zones;
                let between = |a, b| (&ends.0, &ends.1) == (a, b) || (&ends.1, &ends.0) == (a, b);
                for (a, b) in pairs.filter(|(a, b)| between(zones(*a), zones(*b))) {
                    next.node_links[a][b] = next.node_links[a][b].faster(factor);
                }
                let first = fabric.zone(l, true).0;
                changed.fabric.network = with_faster(&fabric.network, first..first + 2);
            }
            What::Leaves(g) => {
                let leaves = scenario.groups[g].leaves;
                let count = leaves.map_or(0, |l| l.count(scenario.groups[g].nodes));
                let first = fabric.leaf(leaves.map_or(0, |l| l.first), true).0;
                changed.fabric.network = with_faster(&fabric.network, first..first + 2 * count);
            }
        }
        changed.layout = Layout::new(&changed.scenario, plan).map_err(SimulateError::Plan)?;
        Ok(changed)
    }
}

/// Costs on a GPU that computes faster; what they wait for stays.
fn computed_faster(cost: LayerCost) -> LayerCost {
    let (num, den) = FASTER;
    let shorter = |time: SimDuration| {
        let ps = u128::from(time.as_ps()) * u128::from(den) / u128::from(num);
        SimDuration::from_ps(u64::try_from(ps).unwrap_or(u64::MAX))
    };
    let but = |time: SimDuration, wait: SimDuration| shorter(time.saturating_sub(wait)).saturating_add(wait);
    LayerCost {
        forward: but(cost.forward, cost.forward_wait),
        backward: but(cost.backward, cost.backward_wait),
        update: shorter(cost.update),
        again: shorter(cost.again),
        weight: shorter(cost.weight),
        ..cost
    }
}

/// The network with some resources faster.
fn with_faster(network: &Network, faster: std::ops::Range<u32>) -> Network {
    let mut builder = NetworkBuilder::new();
    for id in (0..network.len() as u32).map(ResourceId) {
        let capacity = network.capacity(id);
        let more = if faster.contains(&id.0) { capacity.scaled(FASTER.0, FASTER.1).ok() } else { None };
        let own = builder.resource(more.unwrap_or_else(|| capacity.clone()));
        if let Some(latency) = network.latency(id) {
            builder.latency(own, latency.clone());
        }
    }
    builder.build()
}
