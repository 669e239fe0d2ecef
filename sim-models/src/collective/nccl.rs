//! The model: every algorithm and protocol that NCCL could take, each a latency and a transfer time, and the least wins.
//!
//! `time = latency + transfer + fill x sqrt(latency x transfer)`. The last term is the filling of a pipeline of chunks: it
//! is 2 where the chunk is of the size that makes the sum least, and NCCL's fixed chunks are near that across nodes.
//! Latency is a start and NCCL's hops; transfer is what the busiest link carries, over its rate times the share that
//! can be used. On NVLink the data passes once more through the GPU's copy channels (first send, last copy): on A100 that
//! alone explains why 2 GPUs are slower a byte than 8.

use super::fabric::{Fabric, FabricError, Network};
use super::parameters::{Name, Parameters, Values};
use super::tuning::Tuning;
use super::ways::{GB, Shape, Stated, Way};
use super::{Algorithm, CollectiveError, CollectiveKind, CollectiveModel, Estimate, Evidence, Group};
use crate::device::Gpu;
use crate::units::Bytes;

/// NCCL (or RCCL) on a fabric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nccl {
    fabric: Fabric,
    values: Values,
    /// What each takes besides, s.
    pub(super) besides_s: f64,
}

/// What a collective between products takes beyond what nccl-tests give, s: a stream waits for another before it and after. A burst
/// of PyTorch's on eight B200: 22.2, 23.1 and 25.6 us of all-reduces, all-gathers and reduce-scatters (SimuMax, Apache-2.0,
/// b200_bf16_ceperm.json, `fixed_latency_us`; measured by measure_comm_burst_window_worker.py).
const BETWEEN_PRODUCTS_S: f64 = 23.6e-6;

impl Nccl {
    /// With the shipped parameters.
    ///
    /// # Errors
    /// A figure of the fabric out of its range.
    pub fn new(fabric: Fabric) -> Result<Nccl, FabricError> {
        Nccl::with_values(fabric, Parameters::builtin().values())
    }

    /// Of nodes of `gpus_per_node` such GPUs as their maker joins them, for [`Nccl::group_time`] over a scenario's links.
    ///
    /// # Errors
    /// As [`Nccl::new`].
    pub fn of(gpu: &Gpu, gpus_per_node: u32) -> Result<Nccl, FabricError> {
        Nccl::new(Fabric::of(gpu, gpus_per_node))
    }

    /// With values of one's own.
    ///
    /// # Errors
    /// As [`Nccl::new`].
    pub fn with_values(fabric: Fabric, values: Values) -> Result<Nccl, FabricError> {
        fabric.check()?;
        Ok(Nccl { fabric, values, besides_s: 0.0 })
    }

    /// The same with nodes of at least so many GPUs.
    #[must_use]
    pub fn holding(self, ranks: u32) -> Nccl {
        let gpus_per_node = self.fabric.gpus_per_node.max(ranks);
        let domain = self.fabric.domain.max(gpus_per_node);
        Nccl { fabric: Fabric { gpus_per_node, domain, ..self.fabric }, ..self }
    }

    /// The same over links so many times as fast inside a node, and cards between nodes.
    #[must_use]
    pub fn over_faster_links(self, inside: f64, between: f64) -> Nccl {
        Nccl { fabric: self.fabric.faster(inside, between), ..self }
    }

    /// The same beside training: of what links and channels carry inside a node and cards between nodes these shares are left, and
    /// each has its place among products.
    #[must_use]
    pub fn in_training(self, inside: f64, between: f64) -> Nccl {
        let within =
            [Name::NvlinkShare, Name::PcieShare, Name::NvlsShare, Name::PairShare, Name::CopyChannels];
        let across = [Name::RdmaShare, Name::TcpShare];
        let values = self.values.scaled(&within, inside).scaled(&across, between);
        Nccl { values, besides_s: BETWEEN_PRODUCTS_S, ..self }
    }

    /// The fabric.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The parameters' values.
    pub fn values(&self) -> &Values {
        &self.values
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

    pub(super) fn p(&self, name: Name) -> f64 {
        self.values.get(name)
    }

    pub(super) fn shape(&self, group: Group) -> Shape<'_> {
        let (tuning, fabric) = (Tuning::builtin(), &self.fabric);
        let m = group.per_node();
        let nvlink = fabric.over_nvlink(m);
        let share = if nvlink { self.p(Name::NvlinkShare) } else { self.p(Name::PcieShare) };
        let between =
            fabric.network.as_ref().filter(|_| group.nodes() > 1).map(|net| self.between(net, group));
        let across = if group.nodes() > 1 { fabric.architecture.channels_across } else { 1.0 };
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
                1.0 / (self.p(Name::CopyChannels) * across * fabric.architecture.channel * GB)
            } else {
                0.0
            },
            hop: if nvlink { &tuning.hop_us.nvlink } else { &tuning.hop_us.pcie },
            hop_scale: if nvlink { self.p(Name::NvlinkHop) } else { self.p(Name::PcieHop) },
            stated: None,
        }
    }

    /// A shape over links that a scenario states.
    pub(super) fn shape_over(&self, group: Group, stated: Stated) -> Shape<'_> {
        let mut shape = self.shape(group);
        if let (Some((rate, _)), true) = (stated.inside, group.per_node() > 1) {
            (shape.inside, shape.copy) = (rate, 0.0);
        }
        if let (Some((rate, _)), true) = (stated.between, group.nodes() > 1) {
            let net = self.fabric.network.unwrap_or_else(|| Network::rdma(1, rate));
            let usable = if stated.between_measured { 1.0 } else { self.kept(&net, group) };
            shape.between = rate * usable;
        }
        shape.stated = Some(stated);
        shape
    }

    /// Share of a network's rate that data can use.
    fn kept(&self, net: &Network, group: Group) -> f64 {
        let share =
            if net.tcp { self.p(Name::TcpShare) } else { self.p(Name::RdmaShare) * net.relative_share };
        share / self.collide(net, group)
    }

    /// By how much flows slow each other in the fabric.
    fn collide(&self, net: &Network, group: Group) -> f64 {
        let doublings = libm::log2(f64::from(group.nodes().max(2)) / 2.0);
        1.0 + self.p(Name::Contention) * net.collisions * doublings
    }

    /// Usable rate of a node's cards for the group.
    fn between(&self, net: &Network, group: Group) -> f64 {
        let mut rate = self.kept(net, group) * net.rate_of(group.per_node(), self.fabric.gpus_per_node);
        if net.staged {
            // One copy to the host's memory, over one PCIe root.
            rate = rate.min(self.fabric.pcie * self.p(Name::PcieShare) / self.collide(net, group));
        }
        rate
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
            seconds: if group.ranks() > 1 { seconds + self.besides_s } else { 0.0 },
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
