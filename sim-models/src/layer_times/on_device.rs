//! A model on a device and its links: kernels from the device model, and what a layer waits for from the links.
//!
//! Collectives inside a layer are taken at what the links carry when nothing else is on them; across nodes every rank has its
//! share of the NIC. What leaves a node is said beside the times ([`LayerSent`]), for the network to decide anew.

use super::sent::{self, Exchanged, Exchanges, LayerSent};
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
            let (exchanges, other) = self.exchanges(config, &time);
            let cost = time.cost(&sent::waits(&exchanges, &other, |e| e.seconds))?;
            let sent =
                if spread_out { sent::of_layer(&time, &exchanges, &other)? } else { LayerSent::default() };
            Ok((cost, sent))
        };
        let last = self.model.layers() - 1;
        // Blocks with experts are alike, and so are those without: one of each is asked for.
        let with_experts = (1..=self.model.blocks).find(|l| self.model.experts_of(*l).is_some());
        let costs = [cost(0), cost(1), cost(with_experts.unwrap_or(1)), cost(last)];
        let costs = costs.map(|c: Result<(LayerCost, LayerSent), TimeError>| c.map_err(|_| NoTimes::TooLong));
        let [embedding, block, expert_block, head] = costs;
        let (embedding, block, expert_block, head) = (embedding?, block?, expert_block?, head?);
        let (mut run, mut run_sent) = (LayerCost::default(), LayerSent::default());
        let (mut sums, mut sent) = (vec![run], vec![run_sent]);
        for layer in 0..=last {
            let (cost, sends) = match self.model.kind(layer) {
                LayerKind::Embedding => embedding,
                LayerKind::Block if self.model.experts_of(layer).is_some() => expert_block,
                LayerKind::Block => block,
                LayerKind::Head => head,
            };
            (run, run_sent) = (run.plus(cost), run_sent.plus(sends));
            sums.push(run);
            sent.push(run_sent);
        }
        if run.forward.saturating_add(run.backward).saturating_add(run.update) > MOST {
            return Err(NoTimes::TooLong);
        }
        let sent = (run_sent != LayerSent::default()).then(|| sent.into());
        Ok(LayerSums { sums: sums.into(), sent, evidence, spread })
    }

    /// What the passes of a layer wait for: its exchanges, and the rest.
    fn exchanges(&self, config: &LayerConfig, time: &LayerEstimate) -> (Exchanges, Waits) {
        let [tp_nodes, cp_nodes, ep_nodes] = config.nodes;
        let syncs = time.forward.syncs + time.backward.syncs > 0;
        let none = Exchanged::default();
        let tensor = match syncs {
            true if config.sequence_parallel => self.gather_and_scatter(config.tp, tp_nodes, time.sync_bytes),
            true => self.all_reduce(config.tp, tp_nodes, time.sync_bytes),
            false => none,
        };
        let context =
            if time.ring_bytes > 0.0 { self.around(config.cp, cp_nodes, time.ring_bytes) } else { none };
        let expert = if time.expert_bytes > 0.0 {
            self.exchange(config.ep, ep_nodes, self.once_a_node(ep_nodes) * time.expert_bytes)
        } else {
            none
        };
        let late = syncs && config.piped;
        let late_s = if late { time.late_s[1] * f64::from(tp_nodes.max(1) - 1) } else { 0.0 };
        ([tensor, context, expert], Waits { late_s, overlap: config.overlap_tp, ..Waits::default() })
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

    /// `bytes` of each of `ranks` around their ring.
    fn around(&self, ranks: u32, nodes: u32, bytes: f64) -> Exchanged {
        let (steps, out) = (f64::from(ranks.max(2) - 1), nodes > 1);
        let (rate, latency) = self.link(out, bytes / steps);
        let seconds = bytes / rate + steps * latency;
        let beside_s = steps * latency;
        let sent = if out { (bytes / rate, bytes) } else { (0.0, 0.0) };
        Exchanged { seconds, without_s: beside_s, beside_s, sent_s: sent.0, bytes: sent.1 }
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

    /// A collective as NCCL runs it over the maker's links; `bytes` as nccl-tests count them. `None` without such links.
    fn nccl(&self, kind: CollectiveKind, ranks: u32, nodes: u32, bytes: f64) -> Option<Exchanged> {
        let nccl = self.nccl.as_ref()?;
        let gpus = nccl.fabric().gpus_per_node;
        let nodes = nodes.clamp(1, ranks);
        let group = Group::new(ranks.next_multiple_of(nodes), nodes).ok()?;
        let nic = self.outside.as_ref().map_or(f64::INFINITY, |o| o.share * f64::from(gpus));
        let between = self.outside.as_ref().map(|o| LinkModel::constant(nic, o.link.latency_s));
        let wires = Wires { inside: None, between: between.as_ref(), nic, added_s: 0.0 };
        let time = nccl.group_time(&wires, kind, Bytes::from_f64(bytes), group).ok()?;
        let (seconds, before) = (time.seconds, time.latency_s);
        let sent = if nodes > 1 { (seconds - before, time.bytes as f64) } else { (0.0, 0.0) };
        Some(Exchanged { seconds, without_s: before, beside_s: before, sent_s: sent.0, bytes: sent.1 })
    }

    /// What sequence parallelism does in the place of an all-reduce: an all-gather before, and a reduce-scatter after. NCCL has
    /// rings alone for them where a node has several ranks, and no trees.
    fn gather_and_scatter(&self, ranks: u32, nodes: u32, bytes: f64) -> Exchanged {
        let half = |kind| self.nccl(kind, ranks, nodes, bytes);
        match (half(CollectiveKind::AllGather), half(CollectiveKind::ReduceScatter)) {
            (Some(gather), Some(scatter)) => gather.plus(scatter),
            _ => self.all_reduce(ranks, nodes, bytes),
        }
    }

    /// One all-reduce of `ranks` on `nodes` nodes: rings inside the nodes around a ring of each rank's part between them.
    fn all_reduce(&self, ranks: u32, nodes: u32, bytes: f64) -> Exchanged {
        if let Some(time) = self.nccl(CollectiveKind::AllReduce, ranks, nodes, bytes) {
            return time;
        }
        let nodes = nodes.clamp(1, ranks);
        let own = ranks.div_ceil(nodes);
        // Under way, before, and bytes of a rank.
        let ring = |out, ranks: u32, bytes: f64| {
            let n = f64::from(ranks);
            let (rate, latency) = self.link(out, bytes / n);
            let sent = CollectiveKind::AllReduce.bus_factor(ranks) * bytes;
            (sent / rate, 2.0 * (n - 1.0) * latency, sent)
        };
        let (moving, hops, _) = if own > 1 { ring(false, own, bytes) } else { (0.0, 0.0, 0.0) };
        let inside = moving + hops;
        let across = if nodes > 1 { ring(true, nodes, bytes / f64::from(own)) } else { (0.0, 0.0, 0.0) };
        let (sent_s, before, sent) = across;
        Exchanged {
            seconds: inside + (sent_s + before),
            without_s: inside + before,
            beside_s: inside + before,
            sent_s,
            bytes: f64::from(own) * sent,
        }
    }

    /// An exchange in which each of `ranks` on `nodes` nodes sends `bytes` in all, as much to each other one.
    fn exchange(&self, ranks: u32, nodes: u32, bytes: f64) -> Exchanged {
        let whole = bytes * f64::from(ranks) / f64::from(ranks.max(2) - 1);
        let near = ranks.div_ceil(nodes.clamp(1, ranks)) - 1;
        let far = ranks - 1 - near;
        if let Some(time) = self.nccl(CollectiveKind::AllToAll, ranks, nodes, whole) {
            // What passes a node's cards is from each of its ranks to each of the others.
            let pairs = f64::from(near + 1) * f64::from(far.max(1));
            return Exchanged { bytes: time.bytes / pairs, ..time };
        }
        let others = f64::from(ranks - 1);
        let part = |out, ranks: u32| {
            let n = f64::from(ranks);
            if ranks == 0 {
                return (0.0, 0.0);
            }
            // Messages to all others are under way at once: one start is felt.
            let (rate, latency) = self.link(out, bytes / others);
            (bytes * n / others / rate, latency)
        };
        let ((moving, start), (sent_s, before)) = (part(false, near), part(true, far));
        let longer = |a: f64, b: f64| if a < b { b } else { a };
        let inside = moving + start;
        Exchanged {
            seconds: longer(inside, sent_s + before),
            without_s: longer(inside, before),
            beside_s: before,
            sent_s,
            bytes: bytes / others,
        }
    }
}
