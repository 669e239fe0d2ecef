//! A model on a device and its links: kernels from the device model, and what a layer waits for from the links.
//!
//! Collectives inside a layer are taken at what the links carry when nothing else is on them: those of tensor parallelism
//! rarely leave a node, and across nodes every rank has its share of the NIC.

use super::{LayerConfig, LayerSums, NoTimes};
use crate::collective::{CollectiveKind, Group, Nccl, Wires};
use crate::device::{
    Device, DeviceModel, Evidence, Format, LayerCost, LayerEstimate, LayerQuery, LayerShape, Waits,
};
use crate::link::LinkModel;
use crate::units::Bytes;
use crate::workload::{Experts, LayerKind, Model};
use sim_core::{SimDuration, TimeError};

/// A pass of all layers and an optimizer step take no longer than this: a day. What does is a slip in a datasheet.
const MOST: SimDuration = SimDuration::from_ps(86_400_000_000_000_000);

/// A model on a device, as a device model is asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDevice {
    /// The device.
    pub device: Device,
    /// The model that is trained.
    pub model: Model,
    /// In this number format.
    pub format: Format,
    /// NCCL over what a fabric file measured or the maker builds; `None` where `inside` was stated, measured or fitted: rings at
    /// what transfers reach over it.
    pub nccl: Option<Nccl>,
    /// What joins the GPUs of a node: layers of several tensor-parallel ranks wait for their all-reduces over it.
    pub inside: LinkModel,
    /// What joins nodes, for groups that spread over several; without it such groups have no times.
    pub outside: Option<Outside>,
}

/// The way from one GPU to another node.
#[derive(Clone, Debug, PartialEq)]
pub struct Outside {
    /// One transfer.
    pub link: LinkModel,
    /// A GPU's share of its node's NICs, bytes/s.
    pub share: f64,
}

impl OnDevice {
    /// Running sums over layers.
    pub(super) fn sums(&self, config: &LayerConfig) -> Result<LayerSums, NoTimes> {
        let heads = self.model.heads;
        if !heads.is_multiple_of(u64::from(config.tp)) {
            return Err(NoTimes::Heads { heads });
        }
        let across = |ranks: u32, nodes: u32| ranks > 1 && nodes > 1;
        let spread_out = across(config.tp, config.nodes[0])
            || across(config.cp, config.nodes[1])
            || across(config.ep, config.nodes[2]);
        if spread_out && self.outside.is_none() {
            return Err(NoTimes::NoNetwork);
        }
        let (mut evidence, mut spread) = (Evidence::Measured, 0.0f64);
        let mut cost = |layer: u32| {
            let query = LayerQuery {
                shape: LayerShape::of(&self.model, layer, config.tp, config.ep),
                cp: config.cp,
                ep: config.ep,
                sequence_parallel: config.sequence_parallel,
                piped: config.piped,
                ..LayerQuery::of(&self.model, layer, config.micro_batch, config.tp, self.format)
            };
            let time = self.device.layer(&query);
            evidence = evidence.max(time.evidence);
            spread = spread.max(time.spread);
            time.cost(&self.waits(config, &time))
        };
        let last = self.model.layers() - 1;
        // Blocks with experts are alike, and so are those without: one of each is asked for.
        let with_experts = (1..=self.model.blocks).find(|l| self.model.experts_of(*l).is_some());
        let costs = [cost(0), cost(1), cost(with_experts.unwrap_or(1)), cost(last)];
        let costs = costs.map(|c: Result<LayerCost, TimeError>| c.map_err(|_| NoTimes::TooLong));
        let [embedding, block, expert_block, head] = costs;
        let (embedding, block, expert_block, head) = (embedding?, block?, expert_block?, head?);
        let mut run = LayerCost::default();
        let mut sums = vec![run];
        for layer in 0..=last {
            run = run.plus(match self.model.kind(layer) {
                LayerKind::Embedding => embedding,
                LayerKind::Block if self.model.experts_of(layer).is_some() => expert_block,
                LayerKind::Block => block,
                LayerKind::Head => head,
            });
            sums.push(run);
        }
        if run.forward.saturating_add(run.backward).saturating_add(run.update) > MOST {
            return Err(NoTimes::TooLong);
        }
        Ok(LayerSums { sums: sums.into(), evidence, spread })
    }

    fn waits(&self, config: &LayerConfig, time: &LayerEstimate) -> Waits {
        let [tp_nodes, cp_nodes, ep_nodes] = config.nodes;
        let syncs = time.forward.syncs + time.backward.syncs > 0;
        Waits {
            sync_s: if syncs { self.all_reduce_s(config.tp, tp_nodes, time.sync_bytes) } else { 0.0 },
            late_s: if syncs { time.late_s[1] * f64::from(tp_nodes.max(1) - 1) } else { 0.0 },
            expert_s: if time.expert_bytes > 0.0 {
                self.exchange_s(config.ep, ep_nodes, self.once_a_node(ep_nodes) * time.expert_bytes)
            } else {
                0.0
            },
            ring_s: if time.ring_bytes > 0.0 {
                let steps = f64::from(config.cp.max(2) - 1);
                self.send_s(cp_nodes > 1, time.ring_bytes, steps)
            } else {
                0.0
            },
            overlap: config.overlap_tp,
        }
    }

    /// Rate of one rank's messages of `bytes` and the time before each, inside a node or out of it.
    fn link(&self, out: bool, bytes: f64) -> (f64, f64) {
        match self.outside.as_ref().filter(|_| out) {
            Some(o) => {
                let rate = o.link.transfer_rate(Bytes::from_f64(bytes), 1);
                (if o.share < rate { o.share } else { rate }, o.link.latency_s)
            }
            None => (self.inside.transfer_rate(Bytes::from_f64(bytes), 1), self.inside.latency_s),
        }
    }

    /// `bytes` in so many steps, s.
    fn send_s(&self, out: bool, bytes: f64, steps: f64) -> f64 {
        let (rate, latency) = self.link(out, bytes / steps);
        bytes / rate + steps * latency
    }

    /// Where experts are on several nodes and a token goes to few of them, once to each: what of its copies is sent.
    fn once_a_node(&self, nodes: u32) -> f64 {
        match self.model.experts {
            Some(Experts { node_limit: Some(most), top_k, .. }) if nodes > 1 => {
                most.min(top_k) as f64 / top_k.max(1) as f64
            }
            _ => 1.0,
        }
    }

    /// A collective as NCCL runs it over the maker's links, s; `bytes` as nccl-tests count them. `None` without such links.
    fn nccl_s(&self, kind: CollectiveKind, ranks: u32, nodes: u32, bytes: f64) -> Option<f64> {
        let nccl = self.nccl.as_ref()?;
        let gpus = nccl.fabric().gpus_per_node;
        let nodes = nodes.clamp(1, ranks);
        let group = Group::new(ranks.next_multiple_of(nodes), nodes).ok()?;
        let nic = self.outside.as_ref().map_or(f64::INFINITY, |o| o.share * f64::from(gpus));
        let between = self.outside.as_ref().map(|o| LinkModel::constant(nic, o.link.latency_s));
        let wires = Wires { inside: None, between: between.as_ref(), nic, added_s: 0.0 };
        let time = nccl.group_time(&wires, kind, Bytes::from_f64(bytes), group);
        Some(time.ok()?.seconds)
    }

    /// One all-reduce of `ranks` on `nodes` nodes, s: rings inside the nodes around a ring of each rank's part between them.
    fn all_reduce_s(&self, ranks: u32, nodes: u32, bytes: f64) -> f64 {
        if let Some(time) = self.nccl_s(CollectiveKind::AllReduce, ranks, nodes, bytes) {
            return time;
        }
        let nodes = nodes.clamp(1, ranks);
        let own = ranks.div_ceil(nodes);
        let ring = |out, ranks: u32, bytes: f64| {
            let n = f64::from(ranks);
            let (rate, latency) = self.link(out, bytes / n);
            CollectiveKind::AllReduce.bus_factor(ranks) * bytes / rate + 2.0 * (n - 1.0) * latency
        };
        let inside = if own > 1 { ring(false, own, bytes) } else { 0.0 };
        inside + if nodes > 1 { ring(true, nodes, bytes / f64::from(own)) } else { 0.0 }
    }

    /// An exchange in which each of `ranks` on `nodes` nodes sends `bytes` in all, as much to each other one, s.
    fn exchange_s(&self, ranks: u32, nodes: u32, bytes: f64) -> f64 {
        let whole = bytes * f64::from(ranks) / f64::from(ranks.max(2) - 1);
        if let Some(time) = self.nccl_s(CollectiveKind::AllToAll, ranks, nodes, whole) {
            return time;
        }
        let nodes = nodes.clamp(1, ranks);
        let near = ranks.div_ceil(nodes) - 1;
        let others = f64::from(ranks - 1);
        let part = |out, ranks: u32| {
            let n = f64::from(ranks);
            if ranks == 0 {
                return 0.0;
            }
            // Messages to all others are under way at once: one start is felt.
            let (rate, latency) = self.link(out, bytes / others);
            bytes * n / others / rate + latency
        };
        let (inside, outside) = (part(false, near), part(true, ranks - 1 - near));
        if inside < outside { outside } else { inside }
    }
}
