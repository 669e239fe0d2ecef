//! Gradient rings: how fast one can be at best, from the hops that it must have.

use super::sending::{Sender, Sending};
use super::setting::{Sharers, kind_bit};
use super::stage::StageCost;
use super::zones::Zones;
use super::{Factor, TemplateCost, floor_ps, higher, lower};
use crate::space::{Kind, Split, ep_degrees};
use sim_models::link::LinkModel;
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The ring all-reduces of a stage's layers, at best: of what all replicas hold, and of experts that they share out.
#[derive(Debug)]
pub struct Ring {
    dense: Turn,
    experts: Turn,
}

/// One of them.
#[derive(Debug)]
struct Turn {
    /// Devices around it, at least: ranks, each as often as it has the same parameters.
    members: u32,
    /// Latencies of one ring, ps.
    latency: u64,
    /// The least time of a byte of gradients in ps, in rings of at most so many layers: the index.
    a_byte: Vec<Factor>,
}

impl Ring {
    /// How long layers `first .. end` of a stage keep their rings busy; they come one after another.
    pub fn time(&self, cost: &TemplateCost, stage: &StageCost, first: usize, end: usize) -> Exchange {
        let dense = self.dense.time(cost, stage.gradients(first, end), end - first);
        let experts = self.experts.time(cost, stage.experts(first, end), end - first);
        Exchange { reduce: dense.reduce + experts.reduce, gather: dense.gather + experts.gather }
    }
}

impl Turn {
    fn time(&self, cost: &TemplateCost, bytes: u64, layers: usize) -> Exchange {
        if self.members < 2 || bytes == 0 {
            return Exchange::default();
        }
        Exchange::of_ring(cost, bytes, layers, (self.latency, self.a_byte[layers]))
    }
}

/// How long gradients are on their way, and parameters that replicas share out, ps; at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Gradients: all-reduced, or where replicas share something out reduced to those that update them.
    pub reduce: u64,
    /// Updated parameters, where replicas share something out.
    pub gather: u64,
}

impl Exchange {
    /// On a link that several rings share, of so many bytes of gradients, of which one takes `a_byte` ps in an all-reduce with such
    /// a latency: the link is idle only before the first of them is there. What a rank sends is cut to whole bytes, ring by ring;
    /// there are no more rings than `layers`.
    pub(super) fn of_link(
        cost: &TemplateCost,
        bytes: u64,
        layers: usize,
        (latency, a_byte): (u64, Factor),
    ) -> Exchange {
        let time = |bytes: u64| a_byte.of(bytes.saturating_sub(layers as u64));
        let whole = |latency: u64, ps: u64| latency.saturating_add(ps).min(cost.longest_ring);
        match cost.recipe.zero {
            0 => Exchange { reduce: whole(latency, time(bytes)), gather: 0 },
            _ => Exchange {
                reduce: whole(latency / 2, time(bytes) / 2),
                gather: whole(0, time(cost.gathered.of(bytes)) / 2),
            },
        }
    }

    /// The same of one ring: what is gathered waits, too.
    fn of_ring(cost: &TemplateCost, bytes: u64, layers: usize, (latency, a_byte): (u64, Factor)) -> Exchange {
        let Exchange { reduce, gather } = Exchange::of_link(cost, bytes, layers, (latency, a_byte));
        let waits = if cost.recipe.zero == 0 { 0 } else { latency / 2 };
        Exchange { reduce, gather: waits + gather }
    }
}

/// A hop between two ranks of a ring, as node groups: between nodes of two groups, or of one, or inside a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// Between two nodes of these groups.
    Nodes(u32, u32),
    /// Inside a node of this group.
    Inside(u32),
}

/// One of these hops is in the ring.
pub type OneOf = Vec<Hop>;

/// A hop between nodes of two of these groups of which that holds.
pub(super) fn one_where(groups: &[u32], holds: impl Fn(u32, u32) -> bool) -> OneOf {
    let pairs = groups.iter().flat_map(|a| groups.iter().map(|b| (*a, *b)));
    pairs.filter(|(a, b)| holds(*a, *b)).map(|(a, b)| Hop::Nodes(a, b)).collect()
}

type Known = BTreeMap<(usize, Split, [u32; 2], Vec<OneOf>), Arc<Ring>>;

/// Rings of one scenario, each computed once.
#[derive(Debug)]
pub struct Rings<'a> {
    scenario: &'a Scenario,
    kinds: &'a [Kind],
    zones: Zones,
    /// What other pipelines of a plan may have as expert parallelism.
    most_ep: u32,
    known: Mutex<Known>,
    sendings: Mutex<BTreeMap<Sender, Arc<Sending>>>,
}

impl<'a> Rings<'a> {
    /// For plans on these kinds.
    pub fn new(scenario: &'a Scenario, kinds: &'a [Kind]) -> Self {
        let most_ep = if kinds.len() > 1 { ep_degrees(scenario).into_iter().max().unwrap_or(1) } else { 1 };
        let (known, sendings) = Default::default();
        Rings { scenario, kinds, zones: Zones::new(scenario, kinds), most_ep, known, sendings }
    }

    /// The scenario.
    pub fn scenario(&self) -> &'a Scenario {
        self.scenario
    }

    /// Its kinds.
    pub fn kinds(&self) -> &'a [Kind] {
        self.kinds
    }

    /// Its zones.
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Whether pipelines in the same places may still differ: exchanges of experts between nodes leave the pods of some of them.
    pub(super) fn unlike(&self) -> bool {
        let gpus = self.kinds.iter().map(|k| k.gpus_per_node).min().unwrap_or(1);
        !self.scenario.leaves.is_empty() && ep_degrees(self.scenario).into_iter().any(|ep| ep > gpus)
    }

    /// The ring of a stage of a part, whatever else other parts hold.
    pub fn at_best(&self, cost: &TemplateCost, s: usize, sharers: &Sharers) -> Arc<Ring> {
        let stage = &cost.stages[s];
        let mut hops = self.hops(stage, sharers.own, sharers.across.is_some());
        let groups: Vec<u32> = (0..self.scenario.groups.len() as u32).collect();
        for out in sharers.ends.iter().flatten().filter(|out| out.has(s)) {
            let inside = |g: u32| self.zones.set_of_group(g) & out.inside > 0;
            hops.push(one_where(&groups, |a, b| inside(a) && !inside(b)));
        }
        if sharers.apart & kind_bit(stage.kind) > 0 {
            let all = 0..self.scenario.groups.len() as u32;
            let mine = self.kinds[stage.kind].groups.iter().map(|g| *g as u32);
            let leave = |a: u32| all.clone().filter(move |b| *b != a).map(move |b| Hop::Nodes(a, b));
            hops.push(mine.flat_map(leave).collect());
        }
        self.ring(stage, (sharers.own, sharers.all), hops)
    }

    /// Hops that the rings of a stage have of which there are `own` replicas; `across` as above.
    pub fn hops(&self, stage: &StageCost, own: u32, across: bool) -> Vec<OneOf> {
        let kind = &self.kinds[stage.kind];
        let all = 0..self.scenario.groups.len() as u32;
        let mut hops = Vec::new();
        let mine: Vec<u32> = kind.groups.iter().map(|g| *g as u32).collect();
        if own > kind.gpus_per_node / stage.split.width() {
            // On several nodes.
            hops.push(mine.iter().flat_map(|a| mine.iter().map(|b| Hop::Nodes(*a, *b))).collect());
        } else if own > 1 || stage.split.cp > 1 {
            let beside = mine.iter().flat_map(|a| all.clone().map(|b| Hop::Nodes(*a, b)));
            hops.push(mine.iter().map(|a| Hop::Inside(*a)).chain(beside).collect());
        }
        if across {
            let zone = |g: u32| self.zones.of_group(g);
            hops.push(one_where(&all.collect::<Vec<_>>(), |a, b| zone(a) != zone(b)));
        }
        hops
    }

    /// The rings of a plan of at least `all` pipelines, `own` of them with `stage`, with these hops.
    pub fn ring(&self, stage: &StageCost, (own, all): (u32, u32), hops: Vec<OneOf>) -> Arc<Ring> {
        let Split { cp, ep, .. } = stage.split;
        let dense = all + own * (cp - 1);
        // Experts go around after what all hold, where that does.
        let experts = match ep {
            ep if ep > 1 && dense > 1 => (all + own * (stage.split.width() - 1)) / ep.max(self.most_ep),
            _ => 0,
        };
        let key = (stage.kind, stage.split, [dense, experts], hops);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ring) = known.get(&key) {
            return Arc::clone(ring);
        }
        let [dense, experts] = key.2;
        // Rings of experts stand side by side on a node's links.
        let gpus = self.kinds.iter().map(|k| k.gpus_per_node).min().unwrap_or(1);
        let ring = Arc::new(Ring {
            dense: self.turn(stage, dense, 1, &key.3),
            experts: self.turn(stage, experts, gpus.min(ep), &key.3),
        });
        known.insert(key, Arc::clone(&ring));
        ring
    }

    /// The transfers of pipelines on their devices.
    pub(super) fn sending(&self, sender: Sender) -> Arc<Sending> {
        let mut known = self.sendings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sending) = known.get(&sender) {
            return Arc::clone(sending);
        }
        let sending = Arc::new(Sending::new(self, sender.clone()));
        known.insert(sender, Arc::clone(&sending));
        sending
    }

    fn turn(&self, stage: &StageCost, members: u32, side_by_side: u32, hops: &[OneOf]) -> Turn {
        // Without members there is no ring.
        let layers = if members > 1 { self.scenario.model.layers() as usize } else { 0 };
        let least = |one: &OneOf| one.iter().map(|h| self.hop(*h).2).fold(f64::INFINITY, lower);
        let latency = hops.iter().map(least).filter(|l| l.is_finite()).fold(0.0, higher);
        let steps = 2.0 * f64::from(members.saturating_sub(1));
        // What is gathered may be larger than what is reduced, and go faster.
        let training = &self.scenario.training;
        let gradient = training.gradient_bytes.max(1);
        let element = gradient.max(training.precision.activation_bytes());
        let a_byte = (0..=layers).map(|count| {
            let most = stage.most_gradients(count);
            // An eighth more: other pipelines may pad and replicate more at their TP.
            let most = (most + most / 8).saturating_mul(element) / gradient;
            let chunk = Bytes(most / u64::from(members.max(1)) + 1);
            let rate = |hop: &Hop| {
                let (link, most, _) = self.hop(*hop);
                lower(link.rate_up_to(chunk, stage.split.tp), most / f64::from(side_by_side))
            };
            let best = |one: &OneOf| one.iter().map(rate).fold(0.0, higher);
            let rate = hops.iter().filter(|one| !one.is_empty()).map(best).fold(f64::INFINITY, lower);
            Factor::around(members, rate)
        });
        Turn { members, latency: floor_ps(steps * latency), a_byte: a_byte.collect() }
    }

    /// The link of a hop, the most that what it shares can carry in bytes/s, and its latency in s.
    fn hop(&self, hop: Hop) -> (&LinkModel, f64, f64) {
        match hop {
            Hop::Inside(g) => {
                let link = &self.scenario.groups[g as usize].inside;
                (link, f64::INFINITY, link.latency_s)
            }
            Hop::Nodes(a, b) => {
                let link = &self.scenario.node_links[a as usize][b as usize];
                let (from, to) = (&self.scenario.groups[a as usize], &self.scenario.groups[b as usize]);
                let nics = lower(from.nic.highest().as_bytes_per_s(), to.nic.highest().as_bytes_per_s());
                match self.scenario.zone_link(&from.zone, &to.zone).filter(|_| from.zone != to.zone) {
                    Some((_, zone)) => {
                        let most = lower(nics, zone.capacity.highest().as_bytes_per_s());
                        (link, most, link.latency_s + zone.latency.as_secs_f64())
                    }
                    None => (link, nics, link.latency_s),
                }
            }
        }
    }
}
