//! What surrounds the stages of a pipeline: the least time of each boundary transfer, and the rings of each stage.

use super::rings::{Ring, Rings};
use super::{TemplateCost, floor_ps, lower};
use crate::space::{Kind, Template};
use sim_models::fold::Class;
use sim_models::layout::{Layout, Rank};
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// See the head of this file. Times are ps.
#[derive(Clone, Debug)]
pub struct Setting {
    /// From stage `s` to `s + 1`, and back.
    down: Vec<u64>,
    up: Vec<u64>,
    /// Sums: over boundaries before stage `s`, and over those after it both ways.
    way_down: Vec<u64>,
    way_up: Vec<u64>,
    there_and_back: Vec<u64>,
    /// Gradient synchronisation of each stage.
    rings: Vec<Arc<Ring>>,
    /// Where rings cross the one link between two zones.
    pub(super) crossing: Option<Crossing>,
}

/// Rings of neighbouring stages that all go over one link, one after another.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// The stages.
    pub stages: Range<usize>,
    /// The time of a byte of gradients on it, and of the latencies of one ring; ps.
    pub a_byte: f64,
    /// See `a_byte`.
    pub latency: u64,
    /// `[s][l]`: the least step of the slowest of stages `0 .. s` that hold layers `0 .. l`.
    pub before: Vec<Vec<u64>>,
    /// `[s][l]`: the same of stages `s ..` that hold layers `l ..`.
    pub after: Vec<Vec<u64>>,
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
        let before = |list: &[u64]| {
            let mut sum = 0;
            let mut sums = vec![0];
            for time in list {
                sum += time;
                sums.push(sum);
            }
            sums
        };
        let (way_down, way_up) = (before(&down), before(&up));
        let all = way_down[down.len()] + way_up[up.len()];
        let there_and_back = (0..rings.len()).map(|s| all - way_down[s] - way_up[s]).collect();
        Setting { down, up, way_down, way_up, there_and_back, rings, crossing: None }
    }

    /// As good as it can be for `own` pipelines of a template, whatever else the plan holds: the least transfers that any
    /// pair of nodes ever has; `across` if some other pipeline lies wholly in other zones, so that every ring crosses zones.
    pub fn at_best(
        rings: &Rings<'_>,
        cost: &TemplateCost,
        template: &Template,
        micro_batch: u32,
        apart: Apart,
        own: u32,
        across: bool,
    ) -> Setting {
        let (scenario, kinds) = (rings.scenario(), rings.kinds());
        let bytes = scenario.model.boundary_bytes(scenario.training.precision).times(u64::from(micro_batch));
        let (mut down, mut up) = (Vec::new(), Vec::new());
        for pair in template.stages.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let (from, to) = (&kinds[a.kind as usize], &kinds[b.kind as usize]);
            let streams = a.tp.min(b.tp);
            let together = a == b && a.tp < from.gpus_per_node && apart == Apart::Maybe;
            down.push(least_transfer(scenario, from, to, bytes, streams, together));
            up.push(least_transfer(scenario, to, from, bytes, streams, together));
        }
        let ring = |s| rings.at_best(cost, s, own, across);
        Setting::new(down, up, (0..cost.stages.len()).map(ring).collect())
    }

    /// Of a pipeline that is simulated for its class in a plan laid out: alike pipelines transfer at the same time, so each
    /// has its share of a NIC or a link between zones at most.
    pub fn of_class(
        scenario: &Scenario,
        layout: &Layout,
        class: &Class,
        micro_batch: u32,
        rings: Vec<Arc<Ring>>,
    ) -> Setting {
        let bytes = scenario.model.boundary_bytes(scenario.training.precision).times(u64::from(micro_batch));
        let ranks = &layout.ranks[layout.pipelines[class.pipeline].stages.clone()];
        let transfer = |from: &Rank, to: &Rank| {
            let streams = from.tp.min(to.tp);
            let (a, b) =
                (&scenario.groups[from.node().group as usize], &scenario.groups[to.node().group as usize]);
            if from.node() == to.node() {
                return floor_ps(a.inside.transfer_s(bytes, streams));
            }
            let link = &scenario.node_links[from.node().group as usize][to.node().group as usize];
            let share = |r: &Rank| f64::from(class.shares[r.stage as usize][0]);
            let nics = lower(
                a.nic.highest().as_bytes_per_s() / share(from),
                b.nic.highest().as_bytes_per_s() / share(to),
            );
            let mut rate = lower(link.transfer_rate(bytes, streams), nics);
            let mut latency = link.latency_s;
            if let Some((_, zone)) = scenario.zone_link(&a.zone, &b.zone).filter(|_| a.zone != b.zone) {
                rate = lower(rate, zone.capacity.highest().as_bytes_per_s() / f64::from(class.count));
                latency += zone.latency.as_secs_f64();
            }
            floor_ps(latency + bytes.0 as f64 / rate)
        };
        let down = ranks.windows(2).map(|r| transfer(&r[0], &r[1])).collect();
        let up = ranks.windows(2).map(|r| transfer(&r[1], &r[0])).collect();
        Setting::new(down, up, rings)
    }

    /// The same transfers with other rings.
    pub fn with_rings(&self, rings: Vec<Arc<Ring>>) -> Setting {
        Setting { rings, ..self.clone() }
    }

    /// With the rings of these stages, of `pipelines` ranks, on one link of so many bytes/s and of such a latency in s.
    pub fn crossing(
        mut self,
        cost: &TemplateCost,
        stages: Range<usize>,
        pipelines: u32,
        (rate, latency_s): (f64, f64),
    ) -> Setting {
        let n = f64::from(pipelines.max(1));
        let (before, after) = cost.slowest(&self);
        self.crossing = Some(Crossing {
            stages,
            a_byte: if rate > 0.0 { 2.0 * (n - 1.0) / n / rate * 1e12 * (1.0 - 1e-9) } else { 0.0 },
            latency: floor_ps(2.0 * (n - 1.0) * latency_s),
            before,
            after,
        });
        self
    }

    /// The transfers that stage `s` sends: down after a forward pass, up after a backward pass; 0 where it has no neighbour.
    pub fn sends(&self, s: usize) -> (u64, u64) {
        let up = if s > 0 { self.up[s - 1] } else { 0 };
        (self.down.get(s).copied().unwrap_or(0), up)
    }

    /// Transfers from the first stage down to stage `s`.
    pub fn way_down(&self, s: usize) -> u64 {
        self.way_down[s]
    }

    /// Transfers from stage `s` up to the first.
    pub fn way_up(&self, s: usize) -> u64 {
        self.way_up[s]
    }

    /// Transfers from stage `s` down to the last and back.
    pub fn there_and_back(&self, s: usize) -> u64 {
        self.there_and_back[s]
    }

    /// The ring of stage `s`.
    pub fn ring(&self, s: usize) -> &Ring {
        &self.rings[s]
    }

    /// The longest transfers of any stage for one micro-batch.
    pub fn slack(&self) -> u64 {
        (0..self.rings.len()).map(|s| self.sends(s).0 + self.sends(s).1).max().unwrap_or(0)
    }
}

/// The least time of one boundary transfer between stages of two kinds, over every pair of nodes and every instant.
fn least_transfer(
    scenario: &Scenario,
    a: &Kind,
    b: &Kind,
    bytes: Bytes,
    streams: u32,
    together: bool,
) -> u64 {
    let mut best = f64::INFINITY;
    for ga in a.groups() {
        for gb in b.groups() {
            let (from, to) = (&scenario.groups[ga], &scenario.groups[gb]);
            if ga == gb && together {
                best = lower(best, from.inside.transfer_s(bytes, streams));
            }
            let link = &scenario.node_links[ga][gb];
            let mut rate = link.transfer_rate(bytes, streams);
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
