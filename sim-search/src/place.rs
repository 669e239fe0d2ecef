//! Devices for the pipelines of a plan.

use crate::space::{Kind, Template};
use sim_models::plan::{DeviceRange, LayerRange, PipelineGroup, Stage};
use sim_models::scenario::{DeviceId, Scenario};

/// In which order devices are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Stage by stage: replicas of a stage are neighbours, so its gradient ring stays inside nodes.
    Stages,
    /// Pipeline by pipeline: stages of a pipeline are neighbours, so its transfers stay inside nodes.
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

/// Gives every stage of `parts` its devices, wider TP first so that groups stay whole in their nodes; `None` when the
/// devices do not suffice.
pub fn place(
    scenario: &Scenario,
    kinds: &[Kind],
    parts: &[Part<'_>],
    how: Place,
) -> Option<Vec<PipelineGroup>> {
    let mut next = vec![0usize; kinds.len()];
    let mut take = |kind: usize, tp: u32| -> Option<Vec<DeviceId>> {
        let (list, at) = (&kinds[kind].devices, &mut next[kind]);
        // A node's devices are neighbours in the list, so a group that starts at a multiple of its size stays in one.
        let in_node = |d: &DeviceId| d.index % kinds[kind].gpus_per_node;
        while *at < list.len() && !in_node(&list[*at]).is_multiple_of(tp) {
            *at += 1;
        }
        let group = list.get(*at..*at + tp as usize)?;
        *at += tp as usize;
        Some(group.to_vec())
    };
    // devices[part][stage]: replica by replica.
    let mut devices: Vec<Vec<Vec<DeviceId>>> =
        parts.iter().map(|p| vec![Vec::new(); p.template.stages.len()]).collect();
    let mut widths: Vec<u32> = parts.iter().flat_map(|p| &p.template.stages).map(|s| s.tp).collect();
    widths.sort_unstable_by(|a, b| b.cmp(a));
    widths.dedup();
    for width in widths {
        for (p, part) in parts.iter().enumerate() {
            let stages: Vec<usize> =
                (0..part.template.stages.len()).filter(|s| part.template.stages[*s].tp == width).collect();
            let replicas = part.replicas as usize;
            let order: Vec<usize> = match how {
                Place::Stages => stages.iter().flat_map(|s| std::iter::repeat_n(*s, replicas)).collect(),
                Place::Pipelines => (0..replicas).flat_map(|_| stages.iter().copied()).collect(),
            };
            for s in order {
                let kind = part.template.stages[s].kind as usize;
                devices[p][s].extend(take(kind, width)?);
            }
        }
    }
    let groups = parts.iter().zip(devices).map(|(part, devices)| PipelineGroup {
        replicas: part.replicas,
        micro_batches: part.micro_batches,
        stages: devices
            .iter()
            .enumerate()
            .map(|(s, list)| Stage {
                layers: LayerRange { first: part.borders[s] as u32, last: part.borders[s + 1] as u32 - 1 },
                tp: part.template.stages[s].tp,
                devices: ranges(scenario, list),
            })
            .collect(),
    });
    Some(groups.collect())
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
