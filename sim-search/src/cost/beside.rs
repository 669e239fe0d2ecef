//! Templates beside each other: what one makes of the rings of another, before devices are given out.

use super::rings::{Hop, Rings};
use super::setting::{self, Shared, Sharers, kind_bit};
use super::{Setting, TemplateCost};
use crate::place::Place;
use crate::space::{Kind, StageShape, Template};
use sim_models::scenario::Scenario;
use std::collections::BTreeSet;
use std::ops::Range;

/// So many pipelines of a template.
#[derive(Clone, Copy, Debug)]
pub struct PartOf<'t> {
    /// The template.
    pub template: &'t Template,
    /// Its costs at the micro-batch size.
    pub cost: &'t TemplateCost,
    /// How many pipelines.
    pub pipelines: u32,
}

/// Numbers of pipelines in runs that are looked at together: the first, which is the most, alone, then those within a quarter of
/// the largest of each.
pub fn runs(numbers: &[u32]) -> impl Iterator<Item = &[u32]> {
    let mut rest = numbers;
    let mut alone = true;
    std::iter::from_fn(move || {
        let largest = *rest.first()?;
        let together = |n: &&u32| u64::from(**n) * 4 > u64::from(largest) * 3;
        let count = if std::mem::take(&mut alone) { 1 } else { rest.iter().take_while(together).count() };
        let (run, after) = rest.split_at(count);
        rest = after;
        Some(run)
    })
}

/// Pipelines of a template, placed stage by stage, of which there may be so many and still neighbouring stages of one on one
/// node: a replica's next stage is as many devices further on as the stage has in all.
pub fn most_near(kinds: &[Kind], template: &Template) -> u32 {
    let far = |s: &StageShape| kinds[s.kind as usize].gpus_per_node.div_ceil(s.tp);
    template.stages.iter().map(far).max().unwrap_or(1) - 1
}

/// Zones of a stage's kind.
fn zones<'s>(rings: &Rings<'s>, stage: &StageShape) -> Vec<&'s str> {
    rings.kinds()[stage.kind as usize].zones(rings.scenario())
}

/// Whether some other part lies wholly in other zones, for each part.
pub fn across(rings: &Rings<'_>, parts: &[PartOf<'_>]) -> Vec<bool> {
    let groups = &rings.scenario().groups;
    if groups.iter().all(|g| g.zone == groups[0].zone) {
        return vec![false; parts.len()];
    }
    let of = |p: &PartOf<'_>| -> BTreeSet<&str> {
        p.template.stages.iter().flat_map(|s| zones(rings, s)).collect()
    };
    let of: Vec<BTreeSet<&str>> = parts.iter().map(of).collect();
    of.iter().map(|mine| of.iter().any(|other| mine.is_disjoint(other))).collect()
}

/// With whom each part shares gradients, when others may come.
pub fn sharers(rings: &Rings<'_>, parts: &[PartOf<'_>]) -> Vec<Sharers> {
    let bits = |p: &PartOf<'_>| p.template.stages.iter().fold(0, |bits, s| bits | kind_bit(s.kind as usize));
    let bits: Vec<u64> = parts.iter().map(bits).collect();
    let all = parts.iter().map(|p| p.pipelines).sum();
    let across = across(rings, parts);
    let of = |i: usize| {
        let others = bits.iter().enumerate().filter(|(q, _)| *q != i);
        let apart = others.fold(0, |apart, (_, other)| apart | (bits[i] & !other));
        Sharers { own: parts[i].pipelines, all, across: across[i], apart }
    };
    (0..parts.len()).map(of).collect()
}

/// Rate in bytes/s and latency in s of the one link between two zones, if there are two and it is there.
pub fn zone_link(scenario: &Scenario) -> Option<(f64, f64)> {
    let first = &scenario.groups[0].zone;
    let other = &scenario.groups.iter().find(|g| g.zone != *first)?.zone;
    if scenario.groups.iter().any(|g| g.zone != *first && g.zone != *other) {
        return None;
    }
    let (_, link) = scenario.zone_link(first, other)?;
    Some((link.capacity.highest().as_bytes_per_s(), link.latency.as_secs_f64()))
}

/// Neighbouring stages of part `i` whose rings go to other zones, because some other part lies wholly there.
pub fn crossing(rings: &Rings<'_>, parts: &[PartOf<'_>], i: usize) -> Option<Range<usize>> {
    let apart = |s: &StageShape| {
        let mine = zones(rings, s);
        let elsewhere = |p: &PartOf<'_>| {
            p.template.stages.iter().flat_map(|s| zones(rings, s)).all(|z| !mine.contains(&z))
        };
        parts.iter().any(elsewhere)
    };
    let crosses: Vec<bool> = parts[i].template.stages.iter().map(apart).collect();
    let first = crosses.iter().position(|c| *c)?;
    let count = crosses[first..].iter().take_while(|c| **c).count();
    Some(first..first + count)
}

/// What surrounds the pipelines of each part at best beside the others: rings have as many ranks, and where a part has no
/// devices in a node group, the ring leaves that group. `alone` has the transfers of each.
pub fn settings(rings: &Rings<'_>, place: Place, parts: &[PartOf<'_>], alone: &[&Setting]) -> Vec<Setting> {
    let kinds = rings.kinds();
    let of = |p: &PartOf<'_>| -> BTreeSet<u32> {
        let groups = |s: &StageShape| kinds[s.kind as usize].groups();
        p.template.stages.iter().flat_map(groups).map(|g| g as u32).collect()
    };
    let groups: Vec<BTreeSet<u32>> = parts.iter().map(of).collect();
    let all: BTreeSet<u32> = groups.iter().flatten().copied().collect();
    let pipelines: u32 = parts.iter().map(|p| p.pipelines).sum();
    let (across, link) = (across(rings, parts), zone_link(rings.scenario()));
    let setting = |(i, (part, alone)): (usize, (&PartOf<'_>, &&Setting))| {
        // Some other part is in none of the groups of a stage's kind: from one of them the ring goes elsewhere.
        let elsewhere = |s: usize| {
            let mine = kinds[part.cost.stages[s].kind].groups();
            let none = |(q, other): (usize, &BTreeSet<u32>)| {
                q != i && mine.iter().all(|g| !other.contains(&(*g as u32)))
            };
            groups.iter().enumerate().any(none)
        };
        let ring = |s: usize| {
            let stage = &part.cost.stages[s];
            let mut hops = rings.hops(stage, part.pipelines, across[i]);
            let mine: Vec<u32> = kinds[stage.kind].groups().iter().map(|g| *g as u32).collect();
            if elsewhere(s) {
                let leave = |a: &u32| {
                    let a = *a;
                    all.iter().filter(move |b| **b != a).map(move |b| Hop::Nodes(a, *b))
                };
                hops.push(mine.iter().flat_map(leave).collect());
            }
            rings.ring(stage, pipelines, hops)
        };
        let around = alone.with_rings((0..part.cost.stages.len()).map(ring).collect());
        let nics = setting::nics(rings, part.template, place, part.pipelines, pipelines, &elsewhere);
        let crossing = link.zip(crossing(rings, parts, i));
        let crossing = crossing.map(|(link, stages)| Shared::new(stages, pipelines, link));
        around.with_links(nics.into_iter().chain(crossing))
    };
    parts.iter().zip(alone).enumerate().map(setting).collect()
}
