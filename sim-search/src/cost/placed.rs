//! A plan but for its cuts: micro-batches shared out, devices placed, alike pipelines folded. What it costs at least is
//! known better than of a combination: who shares which NIC, and over which links rings go.

use super::beside::PartOf;
use super::borders::Borders;
use super::cuts::{Cut, TooMany, View};
use super::rings::Rings;
use super::sending::split;
use super::stand::{others, stand};
use super::turns::{Ends, InTurn};
use super::{TemplateCost, floor_ps, lower};
use crate::place::{self, Part, Place};
use crate::rules::Rule;
use crate::space::{Recipe, StageShape, Template};
use sim_models::plan::Plan;
use sim_models::scenario::DeviceId;
use sim_models::units::Bytes;
use std::collections::BTreeSet;
use std::ops::Range;

/// See the head of this file.
pub struct Placed<'t> {
    rings: &'t Rings<'t>,
    micro_batch: u32,
    /// Its parts, in the order of the combination.
    pub parts: Vec<PlacedPart<'t>>,
    /// Whether all rings that cross zones share one link.
    one_link: bool,
}

/// The pipelines of one template.
pub struct PlacedPart<'t> {
    /// Which, and how many.
    pub of: PartOf<'t>,
    /// Those of equal shares as their cuts see them, the larger share first.
    pub views: Vec<View>,
    groups: Vec<Group>,
}

impl PlacedPart<'_> {
    /// Its inner borders with 0 and the number of layers around them.
    pub fn borders(&self, inner: &[u32]) -> Vec<usize> {
        let inner = inner.iter().map(|b| *b as usize);
        std::iter::once(0).chain(inner).chain([self.of.cost.layers]).collect()
    }

    /// When each of its stages has done its last pass with these borders, whichever pipeline is the latest.
    pub(super) fn done(&self, borders: &[usize]) -> Vec<u64> {
        let mut done = vec![0; borders.len() - 1];
        for view in &self.views {
            let stages = view.line(self.of.cost, None).stages_of(borders);
            for (own, done) in stages.iter().rev().zip(&mut done) {
                *done = own.done.max(*done);
            }
        }
        done
    }

    /// Whether these are borders of non-empty stages that fit into memory.
    fn holds(&self, borders: &[usize]) -> bool {
        let cost = self.of.cost;
        let fits = |view: &View| {
            let stages = borders.windows(2).enumerate();
            let lacks = |(s, b): (usize, &[usize])| {
                let in_flight = cost.in_flight(s, view.micro_batches);
                cost.stages[s].excess(b[0], b[1], in_flight, view.around.replicas()) > 0
            };
            !stages.into_iter().any(lacks)
        };
        borders.windows(2).all(|b| b[0] < b[1]) && self.views.iter().all(fits)
    }
}

/// Pipelines with equal shares.
struct Group {
    replicas: u32,
    micro_batches: u32,
    /// By stage, replica by replica.
    devices: Vec<Vec<DeviceId>>,
}

impl<'t> Placed<'t> {
    /// Of a combination with so many micro-batches for each part.
    ///
    /// # Errors
    /// The rule that throws it out.
    pub fn new(
        rings: &'t Rings<'t>,
        (micro_batch, how): (u32, Place),
        parts: &[PartOf<'t>],
        shares: &[u32],
    ) -> Result<Placed<'t>, Rule> {
        let mut placed = Placed { rings, micro_batch, parts: Vec::new(), one_link: rings.zones().two() };
        for (standing, total) in stand(rings, (micro_batch, how), parts)?.into_iter().zip(shares) {
            let of = standing.of;
            if *total < of.pipelines {
                return Err(Rule::TooFewMicroBatches);
            }
            let mut first = 0;
            let group = |(replicas, micro_batches): (u32, u32)| {
                let own = |(stage, list): (&StageShape, &Vec<DeviceId>)| {
                    let width = stage.split.width();
                    list[(first * width) as usize..((first + replicas) * width) as usize].to_vec()
                };
                let devices = of.template.stages.iter().zip(&standing.devices).map(own).collect();
                first += replicas;
                Group { replicas, micro_batches, devices }
            };
            let groups = split(of.pipelines, *total).into_iter().map(group).collect();
            placed.parts.push(PlacedPart { of, views: standing.views(rings, *total), groups });
        }
        Ok(placed)
    }

    /// No plan with these shares is faster, over all cuts that fit; `None` when that is above `limit` or none fits.
    pub fn bound(&self, limit: u64) -> Option<u64> {
        Some(self.within(limit)?.0)
    }

    /// The same, and each part as its cuts within `limit` see it: a border may be common to all parts only where each of them has one
    /// in some cut within the limit.
    pub fn within(&self, limit: u64) -> Option<(u64, Vec<Vec<View>>)> {
        let mut views: Vec<Vec<View>> = self.parts.iter().map(|p| p.views.clone()).collect();
        let wanted = self.parts.len() > 1 && self.parts[0].of.cost.recipe.waits();
        loop {
            let mut inner = Vec::with_capacity(views.len());
            let mut bound = 0;
            for (p, views) in self.parts.iter().zip(&views) {
                let (least, borders) = p.of.cost.within(views, limit, wanted)?;
                bound = bound.max(least);
                inner.push(borders);
            }
            let at: Vec<Borders> = inner.iter().map(|of| of.at).collect();
            let mut narrower = false;
            for (p, views) in views.iter_mut().enumerate() {
                let common = others(&at, p);
                for view in views {
                    let known = view.around.common().at;
                    narrower |= at[p].and(known) != at[p].and(known).and(common);
                    let mut around = view.around.common_at(common);
                    for (q, of) in inner.iter().enumerate() {
                        around = around.beside(q, &of.holds);
                    }
                    narrower |= around.links() != view.around.links();
                    view.around = around;
                }
            }
            if !narrower {
                return Some((bound, views));
            }
        }
    }

    /// A part none of whose cuts fits, and what the nearest lacks in bytes.
    pub fn lacks(&self) -> Option<(&'t Template, i128)> {
        let lacks = |v: &View, cost: &TemplateCost| cost.least_excess(v.micro_batches, v.around.replicas());
        let of = |p: &PlacedPart<'t>| (p.of.template, lacks(&p.views[0], p.of.cost));
        self.parts.iter().map(of).find(|(_, lacks)| *lacks > 0)
    }

    /// Inner borders of each part, as they stand in a key, for the cuts with the least bound.
    pub fn best_cuts(&self) -> Option<Vec<u32>> {
        let mut key = Vec::new();
        for p in &self.parts {
            let borders = p.of.cost.partition(&p.views)?;
            key.extend(borders[1..borders.len() - 1].iter().map(|b| *b as u32));
        }
        Some(key)
    }

    /// Inner borders that look best, and what the plan is likely to take: those of [`Placed::best_cuts`], or all parts cut as far
    /// as they can where one of them is, so that they share gradients in few rings.
    pub fn likely_cuts(&self) -> Option<(u64, Vec<u32>)> {
        let own = self.best_cuts()?;
        let borders = self.borders(&own);
        let alike = (0..borders.len()).map(|p| self.cut_as(&borders, &borders[p]));
        let all = alike.chain([own]).collect::<BTreeSet<_>>().into_iter();
        all.map(|inner| (self.estimate(&inner), inner)).min()
    }

    /// Each part cut at those of `others` that are nearest to its own borders, where it fits so.
    fn cut_as(&self, borders: &[Vec<usize>], others: &[usize]) -> Vec<u32> {
        let mut key = Vec::new();
        for (part, own) in self.parts.iter().zip(borders) {
            let near = |b: &usize| others.iter().copied().min_by_key(|o| o.abs_diff(*b)).unwrap_or(*b);
            let moved: Vec<usize> = own.iter().map(near).collect();
            let cut = if part.holds(&moved) { &moved } else { own };
            key.extend(cut[1..cut.len() - 1].iter().map(|b| *b as u32));
        }
        key
    }

    /// No plan with these inner borders is faster than this.
    pub fn value(&self, inner: &[u32]) -> u64 {
        let cuts = self.borders(inner).into_iter().enumerate();
        let chosen: Vec<Chosen<'_>> = cuts.map(|(p, borders)| Chosen::new(self, p, borders)).collect();
        value_of(&chosen.iter().collect::<Vec<_>>())
    }

    /// Borders of each part from the end of a key.
    fn borders(&self, inner: &[u32]) -> Vec<Vec<usize>> {
        let mut rest = inner;
        let mut list = Vec::new();
        for p in &self.parts {
            let (mine, after) = rest.split_at(p.of.cost.stages.len() - 1);
            list.push(p.borders(mine));
            rest = after;
        }
        list
    }

    /// The plan with these inner borders.
    pub fn plan(&self, inner: &[u32]) -> Plan {
        let borders = self.borders(inner);
        let mut pipelines = Vec::new();
        for (p, borders) in self.parts.iter().zip(&borders) {
            let template = p.of.template;
            for g in &p.groups {
                let part = Part { template, borders, replicas: g.replicas, micro_batches: g.micro_batches };
                pipelines.push(place::group(self.rings.scenario(), &part, &g.devices));
            }
        }
        let Recipe { schedule, zero, sequence_parallel, overlap_p2p, overlap } = self.parts[0].of.cost.recipe;
        Plan {
            micro_batch: self.micro_batch,
            schedule,
            zero,
            sequence_parallel,
            overlap_p2p,
            overlap_gradients: overlap.is_some(),
            gradient_bucket: overlap,
            pipelines,
            ..Plan::default()
        }
    }

    /// What an iteration with these inner borders is likely to take, ps. Decides what is tried first; excludes nothing.
    /// Pipelines cut at unlike layers share gradients in many small rings, each as slow as its slowest hop.
    pub fn estimate(&self, inner: &[u32]) -> u64 {
        let borders = self.borders(inner);
        let mut cuts: Vec<usize> = borders.iter().flatten().copied().collect();
        cuts.sort_unstable();
        cuts.dedup();
        let rings: Vec<(usize, u64, bool)> = cuts
            .windows(2)
            .map(|c| {
                let (time, crosses) = self.likely_ring((c[0], c[1]), &borders);
                (c[0], time, crosses)
            })
            .collect();
        let done = |(p, borders): (&PlacedPart<'_>, &Vec<usize>)| p.done(borders);
        let done: Vec<Vec<u64>> = self.parts.iter().zip(&borders).map(done).collect();
        let (mut most, mut sent, mut released) = (0u64, 0u64, Vec::with_capacity(rings.len()));
        for ((layer, time, crosses), end) in rings.iter().zip(&cuts[1..]).rev() {
            let (mut ready, mut after) = (0, 0);
            for ((p, borders), done) in self.parts.iter().zip(&borders).zip(&done) {
                let s = borders.partition_point(|b| b <= layer) - 1;
                let replicas = p.views[0].around.replicas();
                ready = ready.max(done[s]);
                after = after.max(p.of.cost.stages[s].update(borders[s], borders[s + 1], replicas));
            }
            // After the ring before it, where some rank is in both.
            let common = borders.iter().all(|b| b.binary_search(end).is_ok());
            sent = ready.max(if common { 0 } else { sent }).saturating_add(*time);
            most = most.max(sent.saturating_add(after));
            released.push((ready, if *crosses { *time } else { 0 }));
        }
        if self.one_link { most.max(one_after_another(released)) } else { most }
    }

    /// The ring of layers `layers.0 .. layers.1` at its slowest hop, each step paying the longest latency; and whether it
    /// crosses zones.
    fn likely_ring(&self, layers: (usize, usize), borders: &[Vec<usize>]) -> (u64, bool) {
        let scenario = self.rings.scenario();
        let (mut ranks, mut members, mut whole) = (Vec::new(), 0, 0);
        for (p, borders) in self.parts.iter().zip(borders) {
            let s = borders.partition_point(|b| *b <= layers.0) - 1;
            let stage = &p.of.cost.stages[s];
            whole = whole.max(stage.gradients(layers.0, layers.1));
            for g in &p.groups {
                let nodes = g.devices[s].chunks(stage.split.width() as usize);
                let nodes = nodes.map(|d| (scenario.node(d[0]), stage.split.tp));
                members += g.replicas * stage.split.cp;
                ranks.extend(nodes);
            }
        }
        if members < 2 {
            return (0, false);
        }
        ranks.sort_unstable();
        let n = f64::from(members);
        let chunk = Bytes((whole / u64::from(members)).max(1));
        let mut hops = BTreeSet::new();
        for (i, (from, tp)) in ranks.iter().enumerate() {
            let (to, other) = ranks[(i + 1) % ranks.len()];
            hops.insert((from.group, to.group, *from == to, (*tp).min(other)));
        }
        let (mut rate, mut longest, mut crosses) = (f64::INFINITY, 0.0, false);
        for (from, to, inside, streams) in hops {
            let (a, b) = (&scenario.groups[from as usize], &scenario.groups[to as usize]);
            let link = if inside { &a.inside } else { &scenario.node_links[from as usize][to as usize] };
            rate = lower(rate, link.transfer_rate(chunk, streams));
            let mut latency = link.latency_s;
            if !inside {
                let nics = lower(a.nic.highest().as_bytes_per_s(), b.nic.highest().as_bytes_per_s());
                rate = lower(rate, nics);
                if let Some((_, zone)) = scenario.zone_link(&a.zone, &b.zone).filter(|_| a.zone != b.zone) {
                    rate = lower(rate, zone.capacity.highest().as_bytes_per_s());
                    latency += zone.latency.as_secs_f64();
                    crosses = true;
                }
            }
            longest = if latency > longest { latency } else { longest };
        }
        (floor_ps(2.0 * (n - 1.0) * (whole as f64 / n / rate + longest)), crosses)
    }
}

/// A part with one of its cuts.
struct Chosen<'p> {
    number: usize,
    part: &'p PlacedPart<'p>,
    borders: Vec<usize>,
    /// Where its rings wait for the last passes.
    ends: Option<Ends<'p>>,
}

impl<'p> Chosen<'p> {
    fn new(placed: &'p Placed<'p>, number: usize, borders: Vec<usize>) -> Chosen<'p> {
        let part = &placed.parts[number];
        Chosen { number, part, ends: Ends::new(part, borders.clone()), borders }
    }

    /// The layers of each stage.
    fn holds(&self) -> Vec<Range<usize>> {
        self.borders.windows(2).map(|b| b[0]..b[1]).collect()
    }

    /// The borders between layers.
    fn inner(&self) -> Borders {
        let mut inner = Borders::NONE;
        self.borders[1..self.borders.len() - 1].iter().for_each(|border| inner.insert(*border));
        inner
    }
}

/// Another part beside these, as its cuts see it: only their borders are common to all, and the rings of all go in turn.
fn beside<'c>(views: &[View], chosen: &[&'c Chosen<'c>]) -> (Vec<View>, Option<InTurn<'c>>) {
    let at = chosen.iter().map(|c| c.inner()).fold(Borders::ALL, Borders::and);
    let of = |view: &View| {
        let around = view.around.common_at(at);
        View { around: chosen.iter().fold(around, |around, c| around.beside(c.number, &c.holds())), ..*view }
    };
    (views.iter().map(of).collect(), in_turn(chosen))
}

fn in_turn<'c>(chosen: &[&'c Chosen<'c>]) -> Option<InTurn<'c>> {
    InTurn::new(chosen.iter().map(|c| c.ends.as_ref()).collect::<Option<_>>()?)
}

/// No plan of these parts with these cuts is faster: of each part beside the others, and by the rings of all.
fn value_of(chosen: &[&Chosen<'_>]) -> u64 {
    let mut value = in_turn(chosen).map_or(0, |all| all.end());
    for c in chosen {
        let others: Vec<&Chosen<'_>> = chosen.iter().copied().filter(|o| o.number != c.number).collect();
        let (views, others) = beside(&c.part.views, &others);
        let of = |view: &View| view.line(c.part.of.cost, others.as_ref()).end_of_cut(&c.borders);
        value = value.max(views.iter().map(of).max().unwrap_or(0));
    }
    value
}

/// The least end of rings that share a link, as (when its gradients are there, how long it takes): the link does one thing
/// after another.
fn one_after_another(mut rings: Vec<(u64, u64)>) -> u64 {
    rings.sort_unstable();
    let (mut left, mut bound) = (0u64, 0u64);
    for (end, time) in rings.into_iter().rev() {
        left = left.saturating_add(time);
        bound = bound.max(end.saturating_add(left));
    }
    bound
}

impl Placed<'_> {
    /// Inner borders of all parts, as they stand in a key, whose [`Placed::value`] is within `limit`, with it and in order.
    ///
    /// # Errors
    /// [`TooMany`] when more than `most` cuts would have to be looked at.
    pub fn cuts(&self, limit: u64, most: usize) -> Result<Vec<Cut>, TooMany> {
        let Some((_, views)) = self.within(limit) else { return Ok(Vec::new()) };
        // Parts with few cuts first: what they leave to the others is known then.
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.sort_by_cached_key(|p| {
            let cost = self.parts[*p].of.cost;
            let few = cost.cuts(&views[*p], None, limit, FEW.min(most));
            (few.map_or(usize::MAX, |list| list.len()), cost.stages.len())
        });
        let (left, chosen, list) = (most, Vec::new(), Vec::new());
        let mut nest = Nest { placed: self, views: &views, order: &order, limit, left, chosen, list };
        nest.go_on()?;
        let mut list = nest.list;
        list.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        Ok(list)
    }
}

/// Parts with no more cuts than this come first, those with the fewest before the others.
const FEW: usize = 64;

/// Cuts of the parts, one beside the other.
struct Nest<'n> {
    placed: &'n Placed<'n>,
    views: &'n [Vec<View>],
    order: &'n [usize],
    limit: u64,
    /// So many may still be looked at.
    left: usize,
    /// The first parts in order, with their cuts.
    chosen: Vec<Chosen<'n>>,
    list: Vec<Cut>,
}

impl Nest<'_> {
    /// Goes on with the next part in order.
    fn go_on(&mut self) -> Result<(), TooMany> {
        let chosen: Vec<&Chosen<'_>> = self.chosen.iter().collect();
        let Some(&p) = self.order.get(chosen.len()) else {
            let value = value_of(&chosen);
            if value <= self.limit {
                let mut parts = chosen;
                parts.sort_unstable_by_key(|c| c.number);
                let inner = parts.iter().flat_map(|c| &c.borders[1..c.borders.len() - 1]);
                self.list.push((value, inner.map(|b| *b as u32).collect()));
            }
            return Ok(());
        };
        let part = &self.placed.parts[p];
        let (views, known) = beside(&self.views[p], &chosen);
        // Sums of times that were rounded down may be a little less than those of the whole.
        let limit = self.limit.saturating_add(part.of.cost.layers as u64);
        let cuts = part.of.cost.cuts(&views, known.as_ref(), limit, self.left)?;
        self.left -= cuts.len();
        for (_, inner) in cuts {
            self.chosen.push(Chosen::new(self.placed, p, part.borders(&inner)));
            self.go_on()?;
            self.chosen.pop();
        }
        Ok(())
    }
}
