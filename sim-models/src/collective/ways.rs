//! The ways to do a collective, each a latency and a transfer time: NCCL's algorithms by its protocols, and the textbook's.

use super::nccl::Nccl;
use super::parameters::Name;
use super::tuning::{HopLatency, Tuning};
use super::{Algorithm, CollectiveKind, Protocol};

pub(super) const US: f64 = 1e-6;
pub(super) const GB: f64 = 1e9;

/// A way to do it: seconds of latency, seconds of transfer, and how much of their mean the pipeline's filling costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) algorithm: Algorithm,
    pub(super) protocol: Protocol,
    pub(super) latency: f64,
    transfer: f64,
    /// Bytes that pass a node's cards, each way; of a group on one node those that pass a GPU's links.
    pub(super) crossed: f64,
    fill: f64,
    /// Share of the transfer after which the pipeline is full.
    filling: f64,
    /// Seconds for which the chunks of a ring wait for those before them, where few are under way at once.
    waiting: f64,
}

impl Way {
    pub(super) fn seconds(&self) -> f64 {
        let filling = libm::sqrt(self.latency * self.transfer * self.filling);
        let flowing = self.latency + self.transfer + self.fill * filling;
        flowing.max(self.waiting + self.transfer / 2.0)
    }

    /// Seconds before its bytes flow at the rate of its links.
    pub(super) fn before(&self) -> f64 {
        self.latency.max(self.waiting - self.transfer / 2.0)
    }

    /// Of `b` bytes: the pipeline is full once these buffers are.
    fn through_buffers(mut self, b: f64, buffers: f64) -> Way {
        self.filling = if b > buffers { buffers / b } else { 1.0 };
        self
    }
}

/// Links that a scenario states: what one GPU reaches inside its node, and what a node reaches to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    /// Bytes/s, and seconds a hop where they are said; `None`: as the GPU's maker joins them.
    pub(super) inside: Option<(f64, Option<f64>)>,
    /// Bytes/s before what protocols and collisions take, and seconds a hop besides NCCL's own: at least what the fabric's
    /// transport adds.
    pub(super) between: Option<(f64, f64)>,
    /// The second is measured as transfers see it: nothing is lost of its rate, and its start is in it.
    pub(super) between_measured: bool,
}

/// What every way of one group needs, worked out once.
pub(super) struct Shape<'a> {
    pub(super) model: &'a Nccl,
    pub(super) tuning: &'static Tuning,
    /// Ranks, nodes, ranks a node.
    pub(super) n: f64,
    pub(super) nodes: f64,
    pub(super) m: f64,
    /// Depth of a binary tree of the nodes.
    pub(super) depth: f64,
    /// Usable rate of a GPU in rings inside the node, and of the node's cards; infinite where there is nothing to cross.
    pub(super) inside: f64,
    pub(super) between: f64,
    /// Seconds a byte through the copy channels.
    pub(super) copy: f64,
    pub(super) hop: &'a HopLatency,
    pub(super) hop_scale: f64,
    pub(super) stated: Option<Stated>,
}

impl Shape<'_> {
    /// Those that the transport allows.
    fn protocols(&self) -> impl Iterator<Item = Protocol> {
        let net = self.model.fabric().network.as_ref().filter(|_| self.nodes > 1.0);
        let simple_only = net.is_some_and(|net| net.simple_only);
        Protocol::ALL.into_iter().filter(move |p| !simple_only || *p == Protocol::Simple)
    }

    /// The ways that NCCL chooses from.
    pub(super) fn nccl(&self, kind: CollectiveKind, b: f64) -> Vec<Way> {
        let mut ways = Vec::with_capacity(8);
        for protocol in self.protocols() {
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
        if self.nodes == 1.0 && self.model.fabric().exchanges_directly() {
            ways.extend([Protocol::LL, Protocol::Simple].map(|protocol| self.direct(protocol, passes, b)));
        }
        ways
    }

    /// Those, and the textbook's.
    pub(super) fn all(&self, kind: CollectiveKind, b: f64) -> Vec<Way> {
        let mut ways = self.nccl(kind, b);
        for protocol in self.protocols() {
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

    /// `crossed`: bytes that pass a GPU's links, and those that pass a node's cards.
    fn way(
        &self,
        algorithm: Algorithm,
        protocol: Protocol,
        latency: f64,
        transfer: f64,
        crossed: [f64; 2],
    ) -> Way {
        let fill = if self.nodes > 1.0 { Name::NetFill } else { Name::NodeFill };
        let crossed = if self.nodes > 1.0 { crossed[1] } else { crossed[0] };
        let fill = self.model.p(fill);
        Way { algorithm, protocol, latency, transfer, crossed, fill, filling: 1.0, waiting: 0.0 }
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
        let stated = self.stated.and_then(|stated| stated.between).map_or(0.0, |(_, latency)| latency);
        let waits = if protocol == Protocol::Simple { 1.0 } else { 0.0 };
        let net = self.model.fabric().network.as_ref();
        let own = net.map_or(0.0, |net| net.added_latency_s + waits * net.rendezvous_s);
        if own < stated { stated } else { own }
    }

    /// A hop inside the node and one between nodes, of a ring or a tree.
    fn hops(&self, protocol: Protocol, of: fn(&HopLatency) -> &[f64; 3]) -> (f64, f64) {
        let hop = |of: &[f64; 3]| of[protocol as usize];
        // A stated latency is that of whole messages: protocols differ as NCCL's do.
        let inside = match self.stated.and_then(|stated| stated.inside) {
            Some((_, Some(latency))) => latency * hop(of(self.hop)) / of(self.hop)[Protocol::Simple as usize],
            _ => hop(of(self.hop)) * self.hop_scale * US,
        };
        let own = if self.stated.is_some_and(|stated| stated.between_measured) { 0.0 } else { 1.0 };
        let between =
            own * hop(of(&self.tuning.hop_us.net)) * self.model.p(Name::NetHop) * US + self.added(protocol);
        (inside, between)
    }

    /// Share of a rate under a protocol, and LL's limit inside a node.
    fn under(&self, protocol: Protocol, rate: f64) -> f64 {
        let rate = rate * self.tuning.protocol.shares[protocol as usize];
        if protocol == Protocol::LL { rate.min(self.model.fabric().architecture.ll * GB) } else { rate }
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
        let mut way = self
            .way(Algorithm::Ring, protocol, latency, transfer, [carried, carried])
            .through_buffers(b, parts * self.buffers());
        if self.nodes > 1.0 {
            // Each link passes n - 1 parts a round, and so many chunks are under way at once.
            let chunks = self.tuning.protocol.ring_chunks[protocol as usize];
            way.waiting = self.start(protocol) + passes * (self.n - 1.0) * between / chunks;
        }
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
        self.way(algorithm, protocol, latency, transfer, [2.0 * b, self.tree_crossings() * b])
            .through_buffers(b, self.buffers())
    }

    /// Times that a buffer passes the cards of an inner node of two trees, each way.
    fn tree_crossings(&self) -> f64 {
        if self.nodes > 2.0 { 2.0 } else { 1.0 }
    }

    /// Up and down through two trees that each carry half: of two nodes each is the other's root and leaf, so a card
    /// carries the buffer once each way; of more, an inner node's card receives from two children.
    fn double_tree(&self, protocol: Protocol, b: f64) -> Way {
        let kept = if self.nodes > 2.0 { self.model.fabric().architecture.incast } else { 1.0 };
        let crossings = self.tree_crossings() / kept;
        self.tree(Algorithm::DoubleBinaryTree, protocol, b, crossings)
    }

    /// One tree: an inner node's card carries the buffer from two children and to one parent, each way.
    fn single_tree(&self, protocol: Protocol, b: f64) -> Way {
        let crossings = if self.nodes > 2.0 { 3.0 } else { 1.0 };
        self.tree(Algorithm::Tree, protocol, b, crossings)
    }

    /// The switch takes each GPU's buffer once and gives it back once, and the GPU's own share both ways.
    fn nvls(&self, b: f64) -> Option<Way> {
        let fabric = self.model.fabric();
        let stated = self.stated.is_some_and(|stated| stated.inside.is_some());
        if stated || !fabric.reduces_in_switch() || self.m <= 2.0 {
            return None;
        }
        let (hops, net) = (&self.tuning.hop_us, self.model.p(Name::NetHop));
        let added = self.added(Protocol::Simple);
        let between = hops.net.nvls * net * US + added;
        let latency = self.start(Protocol::Simple) + hops.nvlink.nvls * US + 2.0 * self.depth * between;
        let rate = fabric.nvlink * self.model.p(Name::NvlsShare) * fabric.architecture.nvls;
        let kept = if self.nodes > 2.0 { fabric.architecture.nvls_incast } else { 1.0 };
        let crossings = self.tree_crossings() * b;
        let through = b * (1.0 + 1.0 / self.m);
        let transfer = (through / rate).max(crossings / kept / self.between);
        let way = self.way(Algorithm::Nvls, Protocol::Simple, latency, transfer, [through, crossings]);
        Some(way.through_buffers(b, self.buffers()))
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
        let carried = b * (self.n - 1.0) / self.n;
        let transfer = carried / (self.between * losses.pat);
        Some(self.way(Algorithm::Pat, Protocol::Simple, latency, transfer, [carried, carried]))
    }

    /// From rank to rank in chunks.
    fn chain(&self, protocol: Protocol, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.ring);
        let latency = self.start(protocol) + (self.n - self.nodes) * inside + (self.nodes - 1.0) * between;
        let transfer = self.slower(protocol, [b, b], b / 2.0);
        self.way(Algorithm::Ring, protocol, latency, transfer, [b, b])
    }

    fn broadcast_tree(&self, protocol: Protocol, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.tree);
        let latency = self.start(protocol) + (self.m - 1.0) * inside + self.depth * between;
        let crossings = if self.nodes > 2.0 { 2.0 } else { 1.0 };
        let transfer = self.slower(protocol, [b, crossings * b], b / 2.0);
        self.way(Algorithm::Tree, protocol, latency, transfer, [b, crossings * b])
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
        let mut way = self.way(Algorithm::Direct, protocol, latency, transfer, carried);
        way.fill = self.model.p(Name::NodeFill);
        way
    }

    /// From one GPU to another; across nodes every rank of a node to its partner.
    fn send(&self, protocol: Protocol, b: f64) -> Way {
        let (inside, between) = self.hops(protocol, |hop| &hop.ring);
        let model = self.model;
        // Nobody waits for a second rank's start.
        let start = self.start(protocol) * 0.6;
        let fabric = model.fabric();
        let (latency, rate) = if self.nodes > 1.0 {
            (start + between, self.between / self.m)
        } else if fabric.over_nvlink(2) && self.stated.is_none_or(|stated| stated.inside.is_none()) {
            (start + inside, fabric.pair_rate() * model.p(Name::PairShare))
        } else {
            (start + inside, self.inside)
        };
        let transfer = b / self.under(protocol, rate);
        let mut way = self.way(Algorithm::Direct, protocol, latency, transfer, [b, b * self.m]);
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
        self.way(Algorithm::HalvingDoubling, protocol, latency, transfer, self.halved(passes, b))
    }

    /// Bytes that pass where each level sees its own part of the buffer.
    fn halved(&self, passes: f64, b: f64) -> [f64; 2] {
        [b * passes * (self.m - 1.0) / self.m, b * passes * (self.nodes - 1.0) / self.nodes]
    }

    fn direct(&self, protocol: Protocol, passes: f64, b: f64) -> Way {
        let mut way = self.all_to_all(protocol, b);
        way.crossed *= passes;
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
        Some(self.way(Algorithm::Hierarchical, protocol, latency, transfer, self.halved(passes, b)))
    }
}
