//! Templates beside each other: what one makes of the rings of another, before devices are given out.

use super::TemplateCost;
use super::borders::MOST_COMMON;
use super::rings::Rings;
use super::setting::{Sharers, kind_bit};
use super::zones::{Crossing, Cut, Where, ZoneSet};
use crate::space::{Kind, StageShape, Template};

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
    let far = |s: &StageShape| kinds[s.kind as usize].gpus_per_node.div_ceil(s.split.width());
    template.stages.iter().map(far).max().unwrap_or(1) - 1
}

/// For each part, what its rings go over if some other part lies wholly in other zones; the narrowest such cut.
pub fn across(rings: &Rings<'_>, parts: &[PartOf<'_>]) -> Vec<Option<Cut>> {
    let zones = rings.zones();
    if !zones.several() {
        return vec![None; parts.len()];
    }
    let of: Vec<ZoneSet> = parts.iter().map(|p| zones.of(p.template)).collect();
    let cut = |mine: &ZoneSet| of.iter().filter_map(|other| zones.between(*mine, *other)).min();
    of.iter().map(cut).collect()
}

/// Stages of part `i` from the first on, and up to the last, whose rings all leave some zones, wherever it is in those of its kinds: as
/// many as there are.
fn ends(rings: &Rings<'_>, parts: &[PartOf<'_>], i: usize, more: ZoneSet) -> [Option<Crossing>; 2] {
    let zones = rings.zones();
    if !zones.several() {
        return [None; 2];
    }
    let within = |any: ZoneSet| Where { each: 0, any };
    let stages = &parts[i].template.stages;
    let own: Vec<Where> = stages.iter().map(|s| within(zones.of_kind(s.kind as usize))).collect();
    let others = parts.iter().enumerate().filter(|(q, _)| *q != i);
    let others: Vec<Where> = others.map(|(_, p)| within(zones.of(p.template))).collect();
    let list = zones.crossing(&own, &others, more);
    let part = |c: &&Crossing| c.end - c.first < stages.len();
    let most = |list: Vec<&Crossing>| list.into_iter().max_by_key(|c| c.end - c.first).copied();
    let (from, to) = list.iter().filter(part).partition(|c| c.first == 0);
    [most(from), most(to)]
}

/// With whom each part shares gradients; `whole`: whether no others may come; `first`: whether each has the first devices of its kinds.
pub fn sharers(
    rings: &Rings<'_>,
    parts: &[PartOf<'_>],
    whole: bool,
    first: impl Fn(usize) -> bool,
) -> Vec<Sharers> {
    let more = if whole { 0 } else { ZoneSet::MAX };
    let bits = |p: &PartOf<'_>| p.template.stages.iter().fold(0, |bits, s| bits | kind_bit(s.kind as usize));
    let bits: Vec<u64> = parts.iter().map(bits).collect();
    let all = parts.iter().map(|p| p.pipelines).sum();
    let across = across(rings, parts);
    let of = |i: usize| {
        let others = bits.iter().enumerate().filter(|(q, _)| *q != i);
        let apart = others.fold(0, |apart, (_, other)| apart | (bits[i] & !other));
        let (own, common) = (parts[i].pipelines, common(parts, i));
        Sharers {
            own,
            all,
            across: across[i],
            ends: ends(rings, parts, i, more),
            apart,
            first: first(i),
            common,
        }
    };
    (0..parts.len()).map(of).collect()
}

/// How many borders of part `i` can be borders of all others, too, up to [`MOST_COMMON`]; `None` if more can or all.
pub fn common(parts: &[PartOf<'_>], i: usize) -> Option<usize> {
    let others = parts.iter().enumerate().filter(|(q, _)| *q != i);
    common_with(others.map(|(_, p)| p.template), parts[i].template)
}

/// The same of a part beside others.
pub fn common_with<'t>(others: impl Iterator<Item = &'t Template>, part: &Template) -> Option<usize> {
    let borders = others.map(|t| t.stages.len() - 1).min()?;
    (borders <= MOST_COMMON && borders + 1 < part.stages.len()).then_some(borders)
}

/// Whether it is known that a part of a combination has the first devices of its kinds: the leading one, beside which none of these
/// kinds is split wider, and those of kinds that are not in it. Wider blocks are placed first, then the leading ones. Not looked at
/// between zones, where their links count more than nodes.
pub fn is_first(
    rings: &Rings<'_>,
    lead: Option<&Template>,
    part: &Template,
    widest: impl Fn(usize) -> u32,
) -> bool {
    match part.one_kind() {
        Some(kind) => is_alone(rings, lead, kind),
        None => {
            !rings.zones().several() && part.stages.iter().all(|s| widest(s.kind as usize) <= s.split.block())
        }
    }
}

/// The same of a part of one kind: that is not in the leading one.
pub fn is_alone(rings: &Rings<'_>, lead: Option<&Template>, kind: usize) -> bool {
    !rings.zones().several() && lead.is_none_or(|lead| lead.devices(kind) == 0)
}
