//! What surrounds the stages of a pipeline: the least time of each boundary transfer, and the rings of each stage.

use super::borders::{Borders, Common};
use super::rings::{Exchange, Ring, Rings};
use super::zones::{Crossing, Cut};
use super::{Factor, TemplateCost, floor_ps, higher, longest, lower};
use crate::place::Place;
use crate::space::{Kind, Recipe, Template};
use sim_models::fold::Class;
use sim_models::layout::{Layout, Rank};
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// See the head of this file. Times are ps.
#[derive(Clone, Debug)]
pub struct Setting {
    transfers: Arc<Transfers>,
    /// Those of the first micro-batches, where all alike pipelines are in the same state whoever runs one more: no less.
    early: Option<Arc<Transfers>>,
    /// Gradient synchronisation of each stage.
    rings: Vec<Arc<Ring>>,
    /// What rings of several stages share.
    links: Vec<Shared>,
    /// The head's copy of a tied embedding, to and from the first stage.
    tied: u64,
    /// Whether a transfer holds the stage that sends it.
    holds: bool,
    /// Devices with the same parameters in the plan, at most.
    replicas: u64,
    /// See [`Gradients::common`].
    common: Common,
}

/// The first transfers of a stage, ps.
#[derive(Clone, Copy, Debug)]
pub struct Early {
    /// Down and up.
    pub sends: (u64, u64),
    /// Those of them that hold the stage.
    pub holds: (u64, u64),
    /// From it down to the last stage and back.
    pub there_and_back: u64,
}

/// Least times at the boundaries of a pipeline, ps.
#[derive(Clone, Debug, PartialEq)]
struct Transfers {
    /// From stage `s` to `s + 1`, and back.
    down: Vec<u64>,
    up: Vec<u64>,
    /// Sums over the boundaries after stage `s`, both ways.
    there_and_back: Vec<u64>,
}

impl Transfers {
    fn new(down: Vec<u64>, up: Vec<u64>) -> Transfers {
        let after = |s: usize| down[s..].iter().chain(&up[s..]).sum();
        let there_and_back = (0..=down.len()).map(after).collect();
        Transfers { down, up, there_and_back }
    }

    /// What stage `s` sends: see [`Setting::sends`].
    fn sends(&self, s: usize) -> (u64, u64) {
        let up = if s > 0 { self.up[s - 1] } else { 0 };
        (self.down.get(s).copied().unwrap_or(0), up)
    }
}

/// A NIC or a link between zones that the rings of neighbouring stages all go over: it carries the gradients of all their
/// layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    /// The stages.
    pub stages: Range<usize>,
    /// Stages of other parts that are on the same node: rings of layers that all of them hold need not leave it.
    beside: Vec<(usize, Range<usize>)>,
    /// Layers that these may all hold.
    but: Range<usize>,
    /// The time of a byte of gradients on it, ps.
    a_byte: Factor,
    /// Of the latencies of one ring, ps.
    latency: u64,
}

impl Shared {
    /// By these stages, in rings of `pipelines` ranks, over a link of so many bytes/s and of such a latency in s.
    pub fn new(stages: Range<usize>, pipelines: u32, (rate, latency_s): (f64, f64)) -> Shared {
        let n = f64::from(pipelines.max(1));
        Shared {
            stages,
            beside: Vec::new(),
            but: 0..0,
            a_byte: Factor::around(pipelines, rate),
            latency: floor_ps(2.0 * (n - 1.0) * latency_s),
        }
    }

    /// The same where stages of other parts are on the node, too: nothing is known to leave it before it is known what they hold.
    pub fn beside(self, beside: Vec<(usize, Range<usize>)>) -> Shared {
        let but = if beside.is_empty() { 0..0 } else { 0..usize::MAX };
        Shared { beside, but, ..self }
    }

    /// How long all gradients, and the parameters that are gathered after the step, keep it busy.
    pub fn whole(&self, cost: &TemplateCost) -> u64 {
        let Exchange { reduce, gather } = self.time(cost, 0, cost.layers);
        reduce + gather
    }

    /// From when it has the first gradients of layers `first .. end` to the end of the iteration.
    pub fn to_the_end(&self, cost: &TemplateCost, first: usize, end: usize) -> u64 {
        let time = self.time(cost, first, end);
        match cost.recipe {
            Recipe { zero: 0, .. } => time.reduce + cost.least_update,
            Recipe { zero: 1 | 2, overlap: None, .. } => time.reduce + time.gather,
            _ => time.reduce,
        }
    }

    /// How long the rings of layers `first .. end` keep it busy.
    pub fn time(&self, cost: &TemplateCost, first: usize, end: usize) -> Exchange {
        let (from, to) = (self.but.start.clamp(first, end), self.but.end.clamp(first, end));
        let (not, layers) = if from < to { (cost.gradients(from, to), to - from) } else { (0, 0) };
        let (bytes, layers) = (cost.gradients(first, end) - not, end - first - layers);
        if layers == 0 {
            return Exchange::default();
        }
        Exchange::of_link(cost, bytes, layers, (self.latency, self.a_byte))
    }
}

/// What the gradients of a part go over.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The ring of each stage.
    pub rings: Vec<Arc<Ring>>,
    /// What rings of several stages share.
    pub links: Vec<Shared>,
    /// Devices with the same parameters in the plan, at most.
    pub replicas: u64,
    /// Which borders of the part may be common to all parts.
    pub common: Common,
}

impl Gradients {
    /// Those of a part, wherever it is and whatever else the plan holds.
    pub fn at_best(
        rings: &Rings<'_>,
        cost: &TemplateCost,
        template: &Template,
        place: Place,
        sharers: &Sharers,
    ) -> Gradients {
        let ends = || sharers.ends.iter().flatten();
        let elsewhere = |s: usize| {
            let apart = sharers.apart & kind_bit(cost.stages[s].kind) > 0;
            sharers.across.is_some() || apart || ends().any(|out| out.has(s))
        };
        let nics = nics(rings, template, place, sharers.own, sharers.all, &elsewhere);
        let whole = sharers.across.map(|cut| (0..cost.stages.len(), cut)).into_iter();
        let crossing = whole.chain(ends().map(|out| (out.first..out.end, out.cut)));
        let crossing = crossing.map(|(stages, cut)| Shared::new(stages, sharers.all, cut.into()));
        Gradients {
            rings: (0..cost.stages.len()).map(|s| rings.at_best(cost, s, sharers)).collect(),
            links: nics.into_iter().chain(crossing).collect(),
            replicas: u64::MAX,
            common: Common { most: sharers.common, at: Borders::ALL },
        }
    }
}

/// With whom the pipelines of a part share gradients, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sharers {
    /// Pipelines of the part.
    pub own: u32,
    /// Pipelines of the plan, at least.
    pub all: u32,
    /// What every ring goes over, if some other part lies wholly in other zones.
    pub across: Option<Cut>,
    /// The same of stages from the first on, and up to the last.
    pub ends: [Option<Crossing>; 2],
    /// A bit for each kind of which some other part has no devices, so that rings of stages of that kind leave their nodes.
    pub apart: u64,
    /// Whether that many pipelines have the first devices of their kinds, whatever the others are.
    pub first: bool,
    /// How many borders of the part can be borders of all other parts, too; `None` if any can.
    pub common: Option<usize>,
}

impl Sharers {
    /// So many pipelines that share gradients with nobody else.
    pub fn by_itself(pipelines: u32) -> Sharers {
        Sharers {
            own: pipelines,
            all: pipelines,
            across: None,
            ends: [None; 2],
            apart: 0,
            first: false,
            common: None,
        }
    }
}

/// The bit of a kind; kinds past the last bit have none.
pub fn kind_bit(kind: usize) -> u64 {
    1u64.checked_shl(kind as u32).unwrap_or(0)
}

/// Whether two neighbouring stages of a pipeline may be on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// They may.
    Maybe,
    /// The placement keeps them on different nodes.
    Always,
}

impl Setting {
    /// Of the transfers down and up at each boundary, and the rings of each stage.
    pub fn new(down: Vec<u64>, up: Vec<u64>, rings: Vec<Arc<Ring>>) -> Setting {
        Setting {
            transfers: Arc::new(Transfers::new(down, up)),
            early: None,
            rings,
            links: Vec::new(),
            tied: 0,
            holds: true,
            replicas: u64::MAX,
            common: Common::ANY,
        }
    }

    /// As good as it can be for a template, whatever else the plan holds: the least transfers that any pair of nodes ever has,
    /// and no rings.
    pub fn at_best(
        rings: &Rings<'_>,
        template: &Template,
        (micro_batch, recipe): (u32, &Recipe),
        apart: Apart,
    ) -> Setting {
        let (scenario, kinds) = (rings.scenario(), rings.kinds());
        let bytes = scenario.model.boundary_bytes(scenario.training.precision).times(u64::from(micro_batch));
        let longest = longest(scenario.training.global_batch / micro_batch.max(1));
        let (mut down, mut up) = (Vec::new(), Vec::new());
        for pair in template.stages.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let (from, to) = (&kinds[a.kind as usize], &kinds[b.kind as usize]);
            let streams = a.split.width().min(b.split.width());
            let together = a == b && a.split.width() < from.gpus_per_node && apart == Apart::Maybe;
            let each = floor_ps(scenario.training.overheads.transfer_s);
            let least = |from, to| least_transfer(scenario, from, to, (bytes, bytes), streams, together);
            down.push((least(from, to) + each).min(longest));
            up.push((least(to, from) + each).min(longest));
        }
        let mut around = Setting::new(down, up, Vec::new());
        around.tied = least_tied(scenario, kinds, template);
        around.holds = !recipe.overlap_p2p;
        around
    }

    /// The transfers of a pipeline that is simulated for its class in a plan laid out: alike pipelines transfer at the same time,
    /// so each has its share of a NIC at most, and of a link between zones, which `count` of them share.
    pub fn of_class(
        scenario: &Scenario,
        layout: &Layout,
        class: &Class,
        count: u32,
        (micro_batch, overlap_p2p): (u32, bool),
    ) -> Setting {
        let bytes = scenario.model.boundary_bytes(scenario.training.precision).times(u64::from(micro_batch));
        let ranks = &layout.ranks[layout.pipelines[class.pipeline].stages.clone()];
        // `bytes` at the rate of a message of `chunk`.
        let exchange = |from: &Rank, to: &Rank, chunk: Bytes, bytes: Bytes| {
            let streams = (from.tp * from.cp).min(to.tp * to.cp);
            let (a, b) =
                (&scenario.groups[from.node().group as usize], &scenario.groups[to.node().group as usize]);
            if from.node() == to.node() {
                return floor_ps(
                    a.inside.latency_s + bytes.0 as f64 / a.inside.transfer_rate(chunk, streams),
                );
            }
            let link = &scenario.node_links[from.node().group as usize][to.node().group as usize];
            let share = |r: &Rank| f64::from(class.shares[r.stage as usize][0]);
            let nics = lower(
                a.nic.highest().as_bytes_per_s() / share(from),
                b.nic.highest().as_bytes_per_s() / share(to),
            );
            let mut rate = lower(link.transfer_rate(chunk, streams), nics);
            let mut latency = link.latency_s;
            if let Some((_, zone)) = scenario.zone_link(&a.zone, &b.zone).filter(|_| a.zone != b.zone) {
                rate = lower(rate, zone.capacity.highest().as_bytes_per_s() / f64::from(count));
                latency += zone.latency.as_secs_f64();
            }
            floor_ps(latency + bytes.0 as f64 / rate)
        };
        let each = floor_ps(scenario.training.overheads.transfer_s);
        let longest = longest(scenario.training.global_batch / micro_batch.max(1));
        let transfer = |from: &Rank, to: &Rank| (exchange(from, to, bytes, bytes) + each).min(longest);
        let down = ranks.windows(2).map(|r| transfer(&r[0], &r[1])).collect();
        let up = ranks.windows(2).map(|r| transfer(&r[1], &r[0])).collect();
        let mut around = Setting::new(down, up, Vec::new());
        around.holds = !overlap_p2p;
        if let ([first, .., last], true) = (ranks, scenario.model.tied_embeddings) {
            // A ring of two: it goes there and back as fast as the slower way allows.
            let bytes = tied_bytes(scenario, first.tp.max(last.tp));
            let there = exchange(first, last, Bytes(bytes.0 / 2), bytes);
            around.tied = there.max(exchange(last, first, Bytes(bytes.0 / 2), bytes));
        }
        around
    }

    /// The same transfers in a part that shares gradients so.
    pub fn sharing(&self, gradients: &Gradients) -> Setting {
        let Gradients { rings, links, replicas, common } = gradients.clone();
        Setting { rings, links, replicas, common, ..self.clone() }
    }

    /// The same where only these borders may be common to all parts.
    pub fn common_at(&self, at: Borders) -> Setting {
        Setting { common: Common { at: self.common.at.and(at), ..self.common }, ..self.clone() }
    }

    /// The same beside a part whose stages hold no other layers than these.
    pub fn beside(mut self, part: usize, holds: &[Range<usize>]) -> Setting {
        for link in &mut self.links {
            for (_, stages) in link.beside.iter().filter(|(other, _)| *other == part) {
                let (first, last) = (&holds[stages.start], &holds[stages.end - 1]);
                link.but = link.but.start.max(first.start)..link.but.end.min(last.end);
            }
        }
        self
    }

    /// Whether it has the same transfers.
    pub fn transfers_like(&self, other: &Setting) -> bool {
        (&self.transfers, &self.early, self.tied) == (&other.transfers, &other.early, other.tied)
    }

    /// The same where the first transfers are no less than the least of each of these.
    pub fn after(&self, all: &[Setting]) -> Setting {
        let Some(boundaries) = all.first().map(|first| first.transfers.down.len()) else {
            return self.clone();
        };
        let least = |way: &dyn Fn(&Transfers) -> &Vec<u64>| -> Vec<u64> {
            let of = |s: usize| all.iter().map(|one| way(&one.transfers)[s]).min().unwrap_or(0);
            (0..boundaries).map(|s| of(s).max(way(&self.transfers)[s])).collect()
        };
        let early = Transfers::new(least(&|t| &t.down), least(&|t| &t.up));
        Setting { early: Some(early).filter(|early| *early != *self.transfers).map(Arc::new), ..self.clone() }
    }

    /// The transfers that stage `s` sends: down after a forward pass, up after a backward pass; 0 where it has no neighbour.
    pub fn sends(&self, s: usize) -> (u64, u64) {
        self.transfers.sends(s)
    }

    /// Those of them that hold the stage.
    pub fn holds(&self, s: usize) -> (u64, u64) {
        if self.holds { self.sends(s) } else { (0, 0) }
    }

    /// The first transfers, as [`Setting::sends`] and [`Setting::holds`], and as [`Setting::there_and_back`]; `None` where they are
    /// as those after them.
    pub fn early(&self, s: usize) -> Option<Early> {
        let early = self.early.as_ref()?;
        let sends = early.sends(s);
        let holds = if self.holds { sends } else { (0, 0) };
        Some(Early { sends, holds, there_and_back: early.there_and_back[s] })
    }

    /// Devices with the same parameters in the plan, at most.
    pub fn replicas(&self) -> u64 {
        self.replicas
    }

    /// See [`Gradients::common`].
    pub fn common(&self) -> Common {
        self.common
    }

    /// Transfers from stage `s` down to the last and back.
    pub fn there_and_back(&self, s: usize) -> u64 {
        self.transfers.there_and_back[s]
    }

    /// The ring of stage `s`.
    pub fn ring(&self, s: usize) -> &Ring {
        &self.rings[s]
    }

    /// What rings of several stages share.
    pub fn links(&self) -> &[Shared] {
        &self.links
    }

    /// The exchange of a tied embedding between the first and the last stage.
    pub fn tied(&self) -> u64 {
        self.tied
    }

    /// The longest transfers that hold any stage for one micro-batch.
    pub fn slack(&self) -> u64 {
        (0..=self.transfers.down.len()).map(|s| self.holds(s).0 + self.holds(s).1).max().unwrap_or(0)
    }
}

/// The NICs that the rings of several stages of one kind share when pipelines are placed one by one; `elsewhere`: whether
/// every ring of a stage leaves its node anyway.
fn nics(
    rings: &Rings<'_>,
    template: &Template,
    place: Place,
    own: u32,
    pipelines: u32,
    elsewhere: &dyn Fn(usize) -> bool,
) -> Vec<Shared> {
    let mut list = Vec::new();
    let mut first = 0;
    for run in template.stages.chunk_by(|a, b| a.kind == b.kind) {
        let stages = first..first + run.len();
        first = stages.end;
        let kind = &rings.kinds()[run[0].kind as usize];
        // Pipelines that come together stand stage by stage.
        let team = template.team();
        let slots = (kind.gpus_per_node / (run[0].split.width() * team)) as usize;
        let alike = run.iter().all(|s| s.split == run[0].split)
            && template.stages.iter().filter(|s| s.kind == run[0].kind).count() == run.len();
        // Ranks stand in the order of their stages, pipeline after pipeline. Of two pipelines, some node has as many in a row
        // as a pipeline has: each stage once. None has a stage more often than `slots / stages`, rounded up.
        let own = own / team;
        let leaves = own as usize > slots.div_ceil(run.len()) || stages.clone().all(elsewhere);
        if place == Place::Pipelines && alike && run.len() > 1 && run.len() <= slots && own > 1 && leaves {
            let groups = kind.groups.iter().map(|g| rings.scenario().groups[*g].nic.highest());
            let rate = groups.map(|r| r.as_bytes_per_s()).fold(0.0, higher);
            list.push(Shared::new(stages, pipelines, (rate, 0.0)));
        }
    }
    list
}

/// Bytes of a tied embedding's gradients.
fn tied_bytes(scenario: &Scenario, tp: u32) -> Bytes {
    let model = &scenario.model;
    Bytes(
        model.padded_vocab(tp).saturating_mul(model.hidden).saturating_mul(scenario.training.gradient_bytes),
    )
}

/// The least time of the exchange of a tied embedding, over every pair of nodes and every instant; 0 where there is none.
fn least_tied(scenario: &Scenario, kinds: &[Kind], template: &Template) -> u64 {
    let [first, .., last] = &template.stages[..] else { return 0 };
    if !scenario.model.tied_embeddings {
        return 0;
    }
    let bytes = tied_bytes(scenario, first.split.tp.max(last.split.tp));
    let (a, b) = (&kinds[first.kind as usize], &kinds[last.kind as usize]);
    least_transfer(
        scenario,
        a,
        b,
        (Bytes(bytes.0 / 2), bytes),
        first.split.tp.min(last.split.tp),
        first.kind == last.kind,
    )
}

/// The least time of one transfer of so many bytes, at the rate of a message of `chunk`, between stages of two kinds, over
/// every pair of nodes and every instant.
fn least_transfer(
    scenario: &Scenario,
    a: &Kind,
    b: &Kind,
    (chunk, bytes): (Bytes, Bytes),
    streams: u32,
    together: bool,
) -> u64 {
    let mut best = f64::INFINITY;
    for &ga in &a.groups {
        for &gb in &b.groups {
            let (from, to) = (&scenario.groups[ga], &scenario.groups[gb]);
            if ga == gb && together {
                let time = from.inside.latency_s + bytes.0 as f64 / from.inside.transfer_rate(chunk, streams);
                best = lower(best, time);
            }
            let link = &scenario.node_links[ga][gb];
            let mut rate = link.transfer_rate(chunk, streams);
            let mut latency = link.latency_s;
            for nic in [&from.nic, &to.nic] {
                rate = lower(rate, nic.highest().as_bytes_per_s());
            }
            if let Some((_, zone)) = scenario.zone_link(&from.zone, &to.zone).filter(|_| from.zone != to.zone)
            {
                rate = lower(rate, zone.capacity.highest().as_bytes_per_s());
                latency += zone.latency.as_secs_f64();
            }
            best = lower(best, latency + bytes.0 as f64 / rate);
        }
    }
    floor_ps(best)
}
