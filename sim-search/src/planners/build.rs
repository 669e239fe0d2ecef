//! From what a planner decides to a plan: the one place where planners write plans down.

use super::View;
use sim_models::plan::{DeviceRange, LayerRange, PipelineGroup, Plan, Stage};
use sim_models::scenario::{DeviceId, Scenario};

/// A stage of one pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct StageOf {
    /// Layers `first .. end`.
    pub layers: (usize, usize),
    /// Its devices, which share each layer: tensor parallelism.
    pub devices: Vec<DeviceId>,
}

/// One pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineOf {
    /// Micro-batches that it takes.
    pub micro_batches: u32,
    /// Its stages, first to last.
    pub stages: Vec<StageOf>,
}

/// `total` over `n` as evenly as can be, the larger ones first.
pub fn even(total: u32, n: u32) -> impl Iterator<Item = u32> {
    (0..n).map(move |i| total / n + u32::from(i < total % n))
}

/// The plan of these pipelines; neighbours that are alike become one group.
pub fn plan_of(scenario: &Scenario, micro_batch: u32, pipelines: &[PipelineOf]) -> Plan {
    let kind = |p: &PipelineOf| -> Vec<(u32, (usize, usize), usize)> {
        p.stages.iter().map(|s| (s.devices[0].group, s.layers, s.devices.len())).collect()
    };
    let mut groups: Vec<(&PipelineOf, Vec<&PipelineOf>)> = Vec::new();
    for pipeline in pipelines.iter().filter(|p| p.micro_batches > 0) {
        match groups.last_mut() {
            Some((first, list))
                if first.micro_batches == pipeline.micro_batches && kind(first) == kind(pipeline) =>
            {
                list.push(pipeline);
            }
            _ => groups.push((pipeline, vec![pipeline])),
        }
    }
    let group = |(first, list): (&PipelineOf, Vec<&PipelineOf>)| PipelineGroup {
        replicas: list.len() as u32,
        micro_batches: first.micro_batches,
        stages: (0..first.stages.len())
            .map(|s| Stage {
                layers: LayerRange {
                    first: first.stages[s].layers.0 as u32,
                    last: first.stages[s].layers.1 as u32 - 1,
                }
                .into(),
                tp: first.stages[s].devices.len() as u32,
                devices: ranges(scenario, list.iter().flat_map(|p| p.stages[s].devices.iter().copied())),
                ..Stage::default()
            })
            .collect(),
    };
    Plan { micro_batch, pipelines: groups.into_iter().map(group).collect(), ..Plan::default() }
}

/// Devices for tensor-parallel groups of `(pool, TP)`, in their order: wider ones are placed first, so that none straddles two
/// nodes. `None` where a pool does not suffice.
pub fn allocate(view: &View<'_>, needs: &[(usize, u32)]) -> Option<Vec<Vec<DeviceId>>> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(needs[*i].1));
    let mut next = vec![0usize; view.pools.len()];
    let mut given = vec![Vec::new(); needs.len()];
    for i in order {
        let (pool, tp) = (&view.pools[needs[i].0], needs[i].1);
        let at = &mut next[needs[i].0];
        while pool.devices.get(*at).is_some_and(|d| !(d.index % pool.per_node).is_multiple_of(tp)) {
            *at += 1;
        }
        given[i] = pool.devices.get(*at..*at + tp as usize)?.to_vec();
        *at += tp as usize;
    }
    Some(given)
}

/// The plan of `dp` pipelines cut alike, stage `s` of every one on a group of `tps[s]` devices taken in order stage by stage
/// from the devices pool by pool; groups do not straddle nodes. `None` as for [`uniform`].
pub fn staged(view: &View<'_>, micro_batch: u32, tps: &[u32], dp: u32, cuts: &[usize]) -> Option<Plan> {
    let total = view.micro_batch_count(micro_batch);
    if dp == 0 || total < dp || cuts.len() != tps.len() + 1 {
        return None;
    }
    let devices = view.devices();
    let groups = rank_groups(view, tps, dp, &devices)?;
    let pipelines: Vec<PipelineOf> = even(total, dp)
        .enumerate()
        .map(|(replica, micro_batches)| PipelineOf {
            micro_batches,
            stages: (0..tps.len())
                .map(|s| StageOf { layers: (cuts[s], cuts[s + 1]), devices: groups[s][replica].clone() })
                .collect(),
        })
        .collect();
    Some(plan_of(view.scenario, micro_batch, &pipelines))
}

/// Tensor-parallel groups of each stage: `[stage][replica]`.
pub fn rank_groups(
    view: &View<'_>,
    tps: &[u32],
    dp: u32,
    devices: &[DeviceId],
) -> Option<Vec<Vec<Vec<DeviceId>>>> {
    let mut at = 0;
    let mut stages = Vec::with_capacity(tps.len());
    for tp in tps {
        let mut groups = Vec::with_capacity(dp as usize);
        for _ in 0..dp {
            loop {
                let list = devices.get(at..at + *tp as usize)?;
                let node = view.scenario.node(list[0]);
                if list.iter().all(|d| view.scenario.node(*d) == node) {
                    groups.push(list.to_vec());
                    at += *tp as usize;
                    break;
                }
                at += 1;
            }
        }
        stages.push(groups);
    }
    Some(stages)
}

/// Runs of neighbouring devices.
fn ranges(scenario: &Scenario, devices: impl Iterator<Item = DeviceId>) -> Vec<DeviceRange> {
    let mut list: Vec<DeviceRange> = Vec::new();
    let mut last: Option<DeviceId> = None;
    for d in devices {
        match list.last_mut() {
            Some(range) if last.is_some_and(|l| l.group == d.group && l.index + 1 == d.index) => {
                range.last = d.index;
            }
            _ => {
                let group = scenario.group(d).name.clone();
                list.push(DeviceRange { group, first: d.index, last: d.index });
            }
        }
        last = Some(d);
    }
    list
}

/// Megatron's layout: `dp` alike pipelines with a stage for each pair of cuts, ranks in the order tensor, data, pipeline over
/// the devices pool by pool. `None` where the devices do not suffice without a tensor-parallel group that straddles two
/// nodes, or there are fewer micro-batches than pipelines.
pub fn uniform(view: &View<'_>, micro_batch: u32, tp: u32, dp: u32, cuts: &[usize]) -> Option<Plan> {
    staged(view, micro_batch, &vec![tp; cuts.len().checked_sub(1).filter(|s| *s > 0)?], dp, cuts)
}
