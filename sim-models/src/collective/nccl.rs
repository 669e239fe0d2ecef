//! The model: every algorithm and protocol that NCCL could take, each a latency and a transfer time, and the least wins.
//!
//! `time = latency + transfer + fill x sqrt(latency x transfer)`. The last term is the filling of a pipeline of chunks: it
//! is 2 where the chunk is of the size that makes the sum least, and NCCL's fixed chunks are near that across nodes.
//! Latency is a start and NCCL's hops; transfer is what the busiest link carries, over its rate times the share that
//! can be used. On NVLink the data passes once more through the GPU's copy channels (first send, last copy): on A100 that
//! alone explains why 2 GPUs are slower a byte than 8.

use super::fabric::{Fabric, FabricError, Network};
use super::parameters::{Name, Parameters, Values};
use super::tuning::{HopLatency, Tuning};
use super::{
    Algorithm, CollectiveError, CollectiveKind, CollectiveModel, Estimate, Evidence, Group, Protocol,
};
use crate::units::Bytes;

const US: f64 = 1e-6;
const GB: f64 = 1e9;

/// NCCL (or RCCL) on a fabric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nccl {
    fabric: Fabric,
    values: Values,
}

/// A way to do it: seconds of latency, seconds of transfer, and how much of their mean the pipeline's filling costs.
#[derive(Clone, Copy, Debug)]
struct Way {
    algorithm: Algorithm,
    protocol: Protocol,
    latency: f64,
    transfer: f64,
    fill: f64,
    /// Share of the transfer after which the pipeline is full.
    filling: f64,
}

impl Way {
    fn seconds(&self) -> f64 {
        let filling = libm::sqrt(self.latency * self.transfer * self.filling);
        self.latency + self.transfer + self.fill * filling
    }

    /// Of `b` bytes: the pipeline is full once these buffers are.
    fn through_buffers(mut self, b: f64, buffers: f64) -> Way {
        self.filling = if b > buffers { buffers / b } else { 1.0 };
        self
    }
}

/// What every way of one group needs, worked out once.
struct Shape<'a> {
    model: &'a Nccl,
    tuning: &'static Tuning,
    /// Ranks, nodes, ranks a node.
    n: f64,
    nodes: f64,
    m: f64,
    /// Depth of a binary tree of the nodes.
    depth: f64,
    /// Usable rate of a GPU in rings inside the node, and of the node's cards; infinite where there is nothing to cross.
    inside: f64,
    between: f64,
    /// Seconds a byte through the copy channels.
    copy: f64,
    hop: &'a HopLatency,
    hop_scale: f64,
}

impl Nccl {
    /// With the shipped parameters.
    ///
    /// # Errors
    /// A figure of the fabric out of its range.
    pub fn new(fabric: Fabric) -> Result<Nccl, FabricError> {
        Nccl::with_values(fabric, Parameters::builtin().values())
    }

    /// With values of one's own.
    ///
    /// # Errors
    /// As [`Nccl::new`].
    pub fn with_values(fabric: Fabric, values: Values) -> Result<Nccl, FabricError> {
        fabric.check()?;
        Ok(Nccl { fabric, values })
    }

    /// The fabric.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// How long a named algorithm takes, by its best protocol.
    ///
    /// # Errors
    /// As [`CollectiveModel::time`], and [`CollectiveError::Impossible`].
    pub fn time_by(
        &self,
        algorithm: Algorithm,
        kind: CollectiveKind,
        bytes: Bytes,
        group: Group,
    ) -> Result<Estimate, CollectiveError> {
        self.fabric.holds(group)?;
        let all = self.shape(group).all(kind, bytes.0 as f64);
        let ways = all.iter().filter(|way| way.algorithm == algorithm);
        self.estimate(ways, bytes, group).ok_or_else(|| {
            let mut possible: Vec<Algorithm> = all.iter().map(|way| way.algorithm).collect();
            possible.sort_unstable();
            possible.dedup();
            CollectiveError::Impossible { algorithm, kind, possible }
        })
    }

    fn p(&self, name: Name) -> f64 {
        self.values.get(name)
    }

    fn shape(&self, group: Group) -> Shape<'_> {
        let (tuning, fabric) = (Tuning::builtin(), &self.fabric);
        let m = group.per_node();
        let nvlink = fabric.over_nvlink(m);
        let share = if nvlink { self.p(Name::NvlinkShare) } else { self.p(Name::PcieShare) };
        let between =
            fabric.network.as_ref().filter(|_| group.nodes() > 1).map(|net| self.between(net, group));
        Shape {
            model: self,
            tuning,
            n: f64::from(group.ranks()),
            nodes: f64::from(group.nodes()),
            m: f64::from(m),
            depth: f64::from(u32::BITS - (group.nodes() - 1).leading_zeros()),
            inside: if m > 1 { fabric.ring_rate(m) * share } else { f64::INFINITY },
            between: between.unwrap_or(f64::INFINITY),
            copy: if nvlink {
                1.0 / (self.p(Name::CopyChannels) * fabric.architecture.channel * GB)
            } else {
                0.0
            },
            hop: if nvlink { &tuning.hop_us.nvlink } else { &tuning.hop_us.pcie },
            hop_scale: if nvlink { self.p(Name::NvlinkHop) } else { self.p(Name::PcieHop) },
        }
    }

    /// Usable rate of a node's cards for the group.
    fn between(&self, net: &Network, group: Group) -> f64 {
        let share =
            if net.tcp { self.p(Name::TcpShare) } else { self.p(Name::RdmaShare) * net.relative_share };
        let mut rate = share * net.rate_of(group.per_node(), self.fabric.gpus_per_node);
        if net.staged {
            // One copy to the host's memory, over one PCIe root.
            rate = rate.min(self.fabric.pcie * self.p(Name::PcieShare));
        }
        let doublings = libm::log2(f64::from(group.nodes().max(2)) / 2.0);
        rate / (1.0 + self.p(Name::Contention) * net.collisions * doublings)
    }

    fn estimate<'w>(
        &self,
        ways: impl Iterator<Item = &'w Way>,
        bytes: Bytes,
        group: Group,
    ) -> Option<Estimate> {
        let best = ways.map(|way| (way.seconds(), way)).reduce(|a, b| if b.0 < a.0 { b } else { a })?;
        let (seconds, way) = best;
        let evidence = self.evidence(bytes, group);
        Some(Estimate {
            seconds: if group.ranks() > 1 { seconds } else { 0.0 },
            evidence,
            spread: spread(evidence, bytes, group),
            algorithm: way.algorithm,
            protocol: way.protocol,
        })
    }

    fn evidence(&self, bytes: Bytes, group: Group) -> Evidence {
        let known = self.fabric.network.as_ref().is_none_or(|net| net.stated || group.nodes() == 1);
        let inside = self.values.fitted.is_some_and(|(low, high)| (low..=high).contains(&(bytes.0 as f64)));
        if known && inside && self.fabric.stated { Evidence::Calibrated } else { Evidence::Extrapolated }
    }
}

/// 1.5 times the mean over sources left out of the fit of their median error, by place and size (1 MiB and more, less); half
/// as much again where something was assumed.
fn spread(evidence: Evidence, bytes: Bytes, group: Group) -> f64 {
    let known = match (group.nodes() > 1, bytes.0 >= 1 << 20) {
        (false, true) => 0.15,
        (false, false) => 0.3,
        (true, true) => 0.25,
        (true, false) => 0.5,
    };
    if evidence == Evidence::Extrapolated { 1.5 * known } else { known }
}

impl CollectiveModel for Nccl {
    fn time(&self, kind: CollectiveKind, bytes: Bytes, group: Group) -> Result<Estimate, CollectiveError> {
        self.fabric.holds(group)?;
        let ways = self.shape(group).nccl(kind, bytes.0 as f64);
        Ok(self.estimate(ways.iter(), bytes, group).expect("every operation has a way"))
    }

    /// The time itself: it is monotone, as the least of ways that each are.
    fn lower(&self, kind: CollectiveKind, bytes: Bytes, group: Group) -> Result<f64, CollectiveError> {
        Ok(self.time(kind, bytes, group)?.seconds)
    }

    fn ideal_time(&self, kind: CollectiveKind, bytes: Bytes, group: Group) -> Result<f64, CollectiveError> {
        self.fabric.holds(group)?;
        let (n, b) = (f64::from(group.ranks()), bytes.0 as f64);
        if group.ranks() == 1 {
            return Ok(0.0);
        }
        // What one GPU must send or receive; a switch that reduces spares the all-reduce its second half.
        let (nodes, m) = (f64::from(group.nodes()), f64::from(group.per_node()));
        let carried = match kind {
            CollectiveKind::AllReduce if self.fabric.reduces_in_switch() => 1.0,
            CollectiveKind::SendRecv => 1.0,
            _ => kind.bus_factor(group.ranks()),
        };
        let fastest = if kind == CollectiveKind::SendRecv { self.fabric.pair_rate() } else { 0.0 };
        let inside = if group.nodes() == 1 {
            b * carried / self.fabric.ring_rate(group.per_node()).max(fastest)
        } else {
            0.0
        };
        // And what must enter or leave a node.
        let crossed = match kind {
            CollectiveKind::SendRecv => m,
            CollectiveKind::AllToAll => m * (n - m) / n,
            CollectiveKind::Broadcast => 1.0,
            CollectiveKind::AllReduce => 1.0,
            CollectiveKind::AllGather | CollectiveKind::ReduceScatter => (nodes - 1.0) / nodes,
        };
        let net = self.fabric.network.as_ref().filter(|_| group.nodes() > 1);
        let between =
            net.map_or(0.0, |net| b * crossed / net.rate_of(group.per_node(), self.fabric.gpus_per_node));
        Ok(inside.max(between))
    }
}

impl Shape<'_> {
    /// The ways that NCCL chooses from.
    fn nccl(&self, kind: CollectiveKind, b: f64) -> Vec<Way> {
        let mut ways = Vec::with_capacity(8);
        for protocol in Protocol::ALL {
            match kind {
                CollectiveKind::AllReduce => {
                    ways.push(self.ring(protocol, 2.0, b));
                    ways.push(self.double_tree(protocol, b));
                }
                CollectiveKind::AllGather | CollectiveKind::ReduceScatter => {
                    ways.push(self.ring(protocol, 1.0, b))
                }
                CollectiveKind::Broadcast => ways.push(self.chain(protocol, b)),
                // NCCL sends by LL or Simple.
                CollectiveKind::AllToAll if protocol != Protocol::LL128 => {
                    ways.push(self.all_to_all(protocol, b))
                }
                CollectiveKind::SendRecv if protocol != Protocol::LL128 => ways.push(self.send(protocol, b)),
                CollectiveKind::AllToAll | CollectiveKind::SendRecv => {}
            }
        }
        let passes = match kind {
            CollectiveKind::AllReduce => 2.0,
            CollectiveKind::AllGather | CollectiveKind::ReduceScatter => 1.0,
            _ => return ways,
        };
        ways.extend(if kind == CollectiveKind::AllReduce { self.nvls(b) } else { self.pat(b) });
        if self.nodes == 1.0 && self.model.fabric.exchanges_directly() {
            ways.extend([Protocol::LL, Protocol::Simple].map(|protocol| self.direct(protocol, passes, b)));
        }
        ways
    }

    /// Those, and the textbook's.
    fn all(&self, kind: CollectiveKind, b: f64) -> Vec<Way> {
        let mut ways = self.nccl(kind, b);
        for protocol in Protocol::ALL {
            match kind {
                CollectiveKind::AllReduce => {
                    ways.push(self.single_tree(protocol, b));
                    ways.push(self.halving_doubling(protocol, 2.0, b));
                    ways.push(self.direct(protocol, 2.0, b));
                    ways.extend(self.hierarchical(protocol, 2.0, b));
                }
                CollectiveKind::AllGather | CollectiveKind::ReduceScatter => {
                    ways.push(self.halving_doubling(protocol, 1.0, b));
                    ways.push(self.direct(protocol, 1.0, b));
                    ways.extend(self.hierarchical(protocol, 1.0, b));
                }
                CollectiveKind::Broadcast => ways.push(self.broadcast_tree(protocol, b)),
                CollectiveKind::AllToAll | CollectiveKind::SendRecv => {}
            }
        }
        ways
    }

    fn way(&self, algorithm: Algorithm, protocol: Protocol, latency: f64, transfer: f64) -> Way {
        let fill = if self.nodes > 1.0 { Name::NetFill } else { Name::NodeFill };
        Way { algorithm, protocol, latency, transfer, fill: self.model.p(fill), filling: 1.0 }
    }

    /// Bytes that the channels' buffers hold.
    fn buffers(&self) -> f64 {
        self.model.p(Name::CopyChannels) * self.tuning.protocol.buffer_bytes
    }

    fn start(&self, protocol: Protocol) -> f64 {
        self.model.p(Name::StartUs) * self.tuning.start.shares[protocol as usize] * US
    }

    /// What the transport adds to a hop between nodes, seconds.
    fn added(&self, protocol: Protocol) -> f64 {
        let waits = if protocol == Protocol::Simple { 1.0 } else { 0.0 };
        let net = self.model.fabric.network.as_ref();
        net.map_or(0.0, |net| net.added_latency_s + waits * net.rendezvous_s)
    }

    /// A hop inside the node and one between nodes, of a ring or a tree.
    fn hops(&self, protocol: Protocol, of: fn(&HopLatency) -> &[f64; 3]) -> (f64, f64) {
        let added = self.added(protocol);
        let inside = of(self.hop)[protocol as usize] * self.hop_scale * US;
        let between =
            of(&self.tuning.hop_us.net)[protocol as usize] * self.model.p(Name::NetHop) * US + added;
        (inside, between)
    }

    /// Share of a rate under a protocol, and LL's limit inside a node.
    fn under(&self, protocol: Protocol, rate: f64) -> f64 {
        let rate = rate * self.tuning.protocol.shares[protocol as usize];
        if protocol == Protocol::LL { rate.min(self.model.fabric.architecture.ll * GB) } else { rate }
    }

    /// The longer of what a GPU takes (its link, then its copy channels) and what a node's cards take, for bytes
    /// carried on [link, cards] and bytes copied.
    fn slower(&self, protocol: Protocol, carried: [f64; 2], copied: f64) -> f64 {
        let within = carried[0] / self.under(protocol, self.inside) + copied * self.copy;
        within.max(carried[1] / self.under(protocol, self.between))
    }

    /// `passes`: 2 for an all-reduce, 1 for half of one.
    fn ring(&self, protocol: Protocol, passes: f64, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.ring);
        let crossings = if self.nodes > 1.0 { passes * (self.nodes - 1.0) } else { 0.0 };
        let steps = passes * (self.n - 1.0) - crossings;
        let latency = self.start(protocol) + steps * inside + crossings * between;
        let carried = b * passes * (self.n - 1.0) / self.n;
        let transfer = self.slower(protocol, [carried, carried], b * passes / 2.0);
        // A part of the ring fills one of the steps that a channel's buffer is cut into.
        let parts = self.n / self.tuning.protocol.buffer_steps;
        let mut way =
            self.way(Algorithm::Ring, protocol, latency, transfer).through_buffers(b, parts * self.buffers());
        // Under LL a part is many slots, each with its own wait.
        if self.nodes > 1.0 && protocol != Protocol::LL {
            way.fill = self.model.p(Name::RingFill);
        }
        way
    }

    /// A chain inside each node, trees between nodes.
    fn tree(&self, algorithm: Algorithm, protocol: Protocol, b: f64, crossings: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.tree);
        let latency = self.start(protocol) + 2.0 * ((self.m - 1.0) * inside + self.depth * between);
        let losses = &self.tuning.protocol;
        let more = if protocol == Protocol::LL { 1.0 / (losses.tree_ll * 2.0) } else { 1.0 };
        let carried = [2.0 * b / losses.tree * more, crossings * b / losses.tree * more];
        let transfer = self.slower(protocol, carried, b);
        self.way(algorithm, protocol, latency, transfer).through_buffers(b, self.buffers())
    }

    /// Up and down through two trees that each carry half: of two nodes each is the other's root and leaf, so a card
    /// carries the buffer once each way; of more, an inner node's card receives from two children.
    fn double_tree(&self, protocol: Protocol, b: f64) -> Way {
        let crossings = if self.nodes > 2.0 { 2.0 / self.model.fabric.architecture.incast } else { 1.0 };
        self.tree(Algorithm::DoubleBinaryTree, protocol, b, crossings)
    }

    /// One tree: an inner node's card carries the buffer from two children and to one parent, each way.
    fn single_tree(&self, protocol: Protocol, b: f64) -> Way {
        let crossings = if self.nodes > 2.0 { 3.0 } else { 1.0 };
        self.tree(Algorithm::Tree, protocol, b, crossings)
    }

    /// The switch takes each GPU's buffer once and gives it back once, and the GPU's own share both ways.
    fn nvls(&self, b: f64) -> Option<Way> {
        let fabric = &self.model.fabric;
        if !fabric.reduces_in_switch() || self.m <= 2.0 {
            return None;
        }
        let (hops, net) = (&self.tuning.hop_us, self.model.p(Name::NetHop));
        let added = self.added(Protocol::Simple);
        let between = hops.net.nvls * net * US + added;
        let latency = self.start(Protocol::Simple) + hops.nvlink.nvls * US + 2.0 * self.depth * between;
        let rate = fabric.nvlink * self.model.p(Name::NvlsShare) * fabric.architecture.nvls;
        let crossings = if self.nodes > 2.0 { 2.0 / fabric.architecture.nvls_incast } else { 1.0 };
        let transfer = (b * (1.0 + 1.0 / self.m) / rate).max(b * crossings / self.between);
        Some(
            self.way(Algorithm::Nvls, Protocol::Simple, latency, transfer).through_buffers(b, self.buffers()),
        )
    }

    /// Of one GPU a node only.
    fn pat(&self, b: f64) -> Option<Way> {
        if self.m > 1.0 || self.nodes < 2.0 {
            return None;
        }
        let (_, between) = self.hops(Protocol::Simple, |hop| &hop.tree);
        let losses = &self.tuning.protocol;
        let start = self.model.p(Name::StartUs) * self.tuning.start.pat * US;
        let latency = start + self.depth * between / losses.pat_overlap + self.n * losses.pat_rank_us * US;
        let transfer = b * (self.n - 1.0) / self.n / (self.between * losses.pat);
        Some(self.way(Algorithm::Pat, Protocol::Simple, latency, transfer))
    }

    /// From rank to rank in chunks.
    fn chain(&self, protocol: Protocol, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.ring);
        let latency = self.start(protocol) + (self.n - self.nodes) * inside + (self.nodes - 1.0) * between;
        let transfer = self.slower(protocol, [b, b], b / 2.0);
        self.way(Algorithm::Ring, protocol, latency, transfer)
    }

    fn broadcast_tree(&self, protocol: Protocol, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.tree);
        let latency = self.start(protocol) + (self.m - 1.0) * inside + self.depth * between;
        let crossings = if self.nodes > 2.0 { 2.0 } else { 1.0 };
        let transfer = self.slower(protocol, [b, crossings * b], b / 2.0);
        self.way(Algorithm::Tree, protocol, latency, transfer)
    }

    /// Each rank to every other: what leaves a GPU inside the node, and what leaves the node. The sends of a round start
    /// together and none waits for another's chunks.
    fn all_to_all(&self, protocol: Protocol, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.ring);
        let rounds = libm::ceil((self.n - 1.0) / self.tuning.protocol.sends_a_round);
        let hop = if self.nodes > 1.0 { between } else { inside };
        let latency = self.start(protocol) + (rounds - 1.0) * inside + hop;
        let carried = [b * (self.m - 1.0) / self.n, b * self.m * (self.n - self.m) / self.n];
        let transfer = self.slower(protocol, carried, b * (self.n - 1.0) / self.n);
        let mut way = self.way(Algorithm::Direct, protocol, latency, transfer);
        way.fill = self.model.p(Name::NodeFill);
        way
    }

    /// From one GPU to another; across nodes every rank of a node to its partner.
    fn send(&self, protocol: Protocol, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.ring);
        let model = self.model;
        // Nobody waits for a second rank's start.
        let start = self.start(protocol) * 0.6;
        let fabric = &model.fabric;
        let (latency, rate) = if self.nodes > 1.0 {
            (start + between, self.between / self.m)
        } else if fabric.over_nvlink(2) {
            (start + inside, fabric.pair_rate() * model.p(Name::PairShare))
        } else {
            (start + inside, self.inside)
        };
        let mut way = self.way(Algorithm::Direct, protocol, latency, b / self.under(protocol, rate));
        if self.nodes > 1.0 && !fabric.network.as_ref().is_some_and(|net| net.tcp) {
            way.fill = model.p(Name::NodeFill);
        }
        way
    }

    fn halving_doubling(&self, protocol: Protocol, passes: f64, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.ring);
        let levels = |ranks: f64| libm::ceil(libm::log2(ranks));
        let crossings = if self.nodes > 1.0 { levels(self.nodes) } else { 0.0 };
        let latency =
            self.start(protocol) + passes * (levels(self.m.max(1.0)) * inside + crossings * between);
        let within = b * passes * (self.m - 1.0) / self.m / self.under(protocol, self.inside);
        // The halves that cross are 1/m of the buffer a GPU, m GPUs together.
        let across = b * passes * (self.nodes - 1.0) / self.nodes / self.under(protocol, self.between);
        let transfer = within + across + b * self.copy * passes / 2.0;
        self.way(Algorithm::HalvingDoubling, protocol, latency, transfer)
    }

    fn direct(&self, protocol: Protocol, passes: f64, b: f64) -> Way {
        let mut way = self.all_to_all(protocol, b);
        way.latency = self.start(protocol) + passes * (way.latency - self.start(protocol));
        way.transfer *= passes;
        way
    }

    /// A ring inside the node, one between nodes of a GPU each, and again inside.
    fn hierarchical(&self, protocol: Protocol, passes: f64, b: f64) -> Option<Way> {
        if self.nodes < 2.0 || self.m < 2.0 {
            return None;
        }
        let (inside, between) = self.hops(protocol, |hop| &hop.ring);
        let latency =
            self.start(protocol) + passes * ((self.m - 1.0) * inside + (self.nodes - 1.0) * between);
        let within = b * passes * (self.m - 1.0) / self.m / self.under(protocol, self.inside);
        let across = b * passes * (self.nodes - 1.0) / self.nodes / self.under(protocol, self.between);
        let transfer = within + across + b * self.copy * passes / 2.0;
        Some(self.way(Algorithm::Hierarchical, protocol, latency, transfer))
    }
}
