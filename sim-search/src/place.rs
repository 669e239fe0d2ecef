//! Devices for the pipelines of a plan.

use crate::space::{Kind, Template};
use sim_models::plan::{DeviceRange, LayerRange, PipelineGroup, Stage};
use sim_models::scenario::{DeviceId, Scenario};

/// In which order devices are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Stage by stage: replicas of a stage are neighbours, so its gradient ring stays inside nodes.
    Stages,
    /// Pipeline by pipeline: stages of a pipeline are neighbours, so its transfers stay inside nodes. Pipelines that share out
    /// experts stand together, stage by stage.
    Pipelines,
}

/// Pipelines to place: their template, borders of their layers, how many, and micro-batches of each.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Stages without layers.
    pub template: &'a Template,
    /// Layers of stage `s` are `borders[s] .. borders[s + 1]`.
    pub borders: &'a [usize],
    /// How many alike pipelines.
    pub replicas: u32,
    /// Micro-batches of each.
    pub micro_batches: u32,
}

/// Devices of all replicas of each stage, replica by replica, for each part: wider blocks of replicas first so that they stay whole
/// in their nodes; `None` when the devices do not suffice.
pub fn devices(kinds: &[Kind], parts: &[(&Template, u32)], how: Place) -> Option<Vec<Vec<Vec<DeviceId>>>> {
    let mut next = vec![0usize; kinds.len()];
    let mut take = |kind: usize, block: u32| -> Option<Vec<DeviceId>> {
        let (list, at) = (&kinds[kind].devices, &mut next[kind]);
        // A node's devices are neighbours in the list, so a block that starts at a multiple of its size stays in one; or it is
        // of whole nodes of one group.
        let gpus = kinds[kind].gpus_per_node;
        loop {
            let own = list.get(*at..*at + block as usize)?;
            let (first, last) = (own[0], own[own.len() - 1]);
            if (first.index % gpus).is_multiple_of(block.min(gpus)) && first.group == last.group {
                *at += block as usize;
                return Some(own.to_vec());
            }
            *at += 1;
        }
    };
    // devices[part][stage]: replica by replica.
    let mut devices: Vec<Vec<Vec<DeviceId>>> =
        parts.iter().map(|(template, _)| vec![Vec::new(); template.stages.len()]).collect();
    let mut blocks: Vec<u32> =
        parts.iter().flat_map(|(template, _)| &template.stages).map(|s| s.split.block()).collect();
    blocks.sort_unstable_by(|a, b| b.cmp(a));
    blocks.dedup();
    for block in blocks {
        for (p, (template, replicas)) in parts.iter().enumerate() {
            let stages = (0..template.stages.len()).filter(|s| template.stages[*s].split.block() == block);
            let stages: Vec<usize> = stages.collect();
            // So many pipelines at once.
            let at_once = match how {
                Place::Stages => *replicas,
                Place::Pipelines => template.team(),
            };
            for s in (0..replicas / at_once.max(1)).flat_map(|_| stages.iter().copied()) {
                let shape = &template.stages[s];
                for _ in 0..at_once / shape.split.team() {
                    devices[p][s].extend(take(shape.kind as usize, block)?);
                }
            }
        }
    }
    Some(devices)
}

/// Gives every stage of `parts` its [`devices`].
pub fn place(
    scenario: &Scenario,
    kinds: &[Kind],
    parts: &[Part<'_>],
    how: Place,
) -> Option<Vec<PipelineGroup>> {
    let shapes: Vec<(&Template, u32)> = parts.iter().map(|p| (p.template, p.replicas)).collect();
    let devices = devices(kinds, &shapes, how)?;
    Some(parts.iter().zip(&devices).map(|(part, devices)| group(scenario, part, devices)).collect())
}

/// A part with its devices.
pub fn group(scenario: &Scenario, part: &Part<'_>, devices: &[Vec<DeviceId>]) -> PipelineGroup {
    let stage = |(s, list): (usize, &Vec<DeviceId>)| Stage {
        layers: LayerRange { first: part.borders[s] as u32, last: part.borders[s + 1] as u32 - 1 }.into(),
        tp: part.template.stages[s].split.tp,
        cp: part.template.stages[s].split.cp,
        ep: part.template.stages[s].split.ep,
        recompute: part.template.stages[s].recompute,
        devices: ranges(scenario, list),
    };
    PipelineGroup {
        replicas: part.replicas,
        micro_batches: part.micro_batches,
        stages: devices.iter().enumerate().map(stage).collect(),
    }
}

/// Runs of neighbouring devices.
fn ranges(scenario: &Scenario, devices: &[DeviceId]) -> Vec<DeviceRange> {
    let mut list: Vec<DeviceRange> = Vec::new();
    let mut group = None;
    for d in devices {
        match list.last_mut() {
            Some(range) if group == Some(d.group) && range.last + 1 == d.index => range.last = d.index,
            _ => list.push(DeviceRange {
                group: scenario.group(*d).name.clone(),
                first: d.index,
                last: d.index,
            }),
        }
        group = Some(d.group);
    }
    list
}
