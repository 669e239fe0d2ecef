//! What connects GPUs: the links of a GPU, how a node is wired, and the network between nodes.

use super::parameters::{Name, Parameters};
use super::tuning::{Architecture, Tuning};
use super::{CollectiveError, Group};
use crate::device::Gpu;
use crate::link::{LinkModel, StreamRate};
use serde::{Deserialize, Serialize};

/// An NVLink bridge joins two cards at this rate at most, bytes/s a direction: 12 links of 25 GB/s (A100 PCIe and H100
/// PCIe datasheets: 600 GB/s, both directions).
const BRIDGE: f64 = 300e9;
/// Share of NVLink's rate that the all-reduces of tensor-parallel layers reach: 164 to 202 of 300 GB/s at 32 to 128 MiB
/// among four and eight A100 (vTrain's all-reduce tables, see NOTICE).
const NVLINK_IN_TRAINING: f64 = 0.6;
/// Where cards have no access to each other's memory, NCCL's kernels write into the host's and read from it, bytes/s before what all
/// of PCIe loses: 5.4 of 12 GB/s with two cards sending at once (RTX-2080, Titan-RTX: Sailor's measured links, see NOTICE). A
/// faster bus does not help: 1.9 GB/s between two RTX 5070 Ti that copy at 26 GB/s (sgl-project/sglang pull request 39605).
const HOSTED: f64 = 7.1e9;
/// All cards of a node together, in such cards: 24.5 GB/s of eight RTX-2080 and of eight Titan-RTX (hosts differ: of eight RTX-3090 5).
const HOSTED_TOGETHER: f64 = 4.5;
/// NVLinks of a V100 (whitepaper).
const CUBE_MESH_LINKS: f64 = 6.0;
/// GPUs that one NVLink domain of superchips joins (NVIDIA GB200 NVL72 datasheet).
const RACK: u32 = 72;
/// Rings of one link that fit among the first n GPUs of a DGX-1, n = 0 to 8. Its cube mesh (DGX-1 with V100 whitepaper,
/// figure 4) joins 0-1, 0-2, 1-3, 2-3 and their mirrors once or twice; five have no ring: a chain does 8/5 of one.
const CUBE_MESH_RINGS: [f64; 9] = [0.0, 0.0, 1.0, 2.0, 4.0, 1.6, 2.0, 4.0, 6.0];

/// How the GPUs of a node are joined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wiring {
    /// A switch: every GPU reaches any other at its whole rate.
    Switch,
    /// A direct link between any two, of this rate in bytes/s a direction.
    Mesh(f64),
    /// The hybrid cube mesh of the DGX-1.
    CubeMesh,
    /// Bridges between two and two; PCIe between the pairs.
    Pairs,
    /// PCIe only.
    Pcie,
    /// PCIe only, and no card reaches another's memory: all goes through the host's, at this rate a card in bytes/s a direction.
    Host(f64),
}

impl Wiring {
    /// Of such cards without a bridge.
    pub fn over_pcie(gpu: &Gpu) -> Wiring {
        if gpu.peer_access { Wiring::Pcie } else { Wiring::Host(HOSTED.min(gpu.pcie)) }
    }
}

/// The network between nodes. Rates are bytes/s a direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Cards a node, at least 1.
    pub cards: u32,
    /// Rate of a card, above 0.
    pub card_rate: f64,
    /// What the transport adds to a hop, s.
    pub added_latency_s: f64,
    /// What it adds to a hop of the Simple protocol besides, s: large messages wait for the receiver's word.
    pub rendezvous_s: f64,
    /// Data goes through the host's memory (no GPUDirect RDMA).
    pub staged: bool,
    /// How much flows collide in the fabric: 1 where each keeps its path (static routing), less where paths adapt.
    pub collisions: f64,
    /// Usable share of the rate, relative to InfiniBand's; without meaning for TCP.
    pub relative_share: f64,
    /// The transport writes in no order, so that LL and LL128, which watch for their flags, cannot be used.
    #[serde(default)]
    pub simple_only: bool,
    /// TCP: its efficiency, not RDMA's.
    pub tcp: bool,
    /// The most that one flow of TCP carries, bytes/s (its window over the round trip). `None`: no limit of its own.
    pub flow_rate: Option<f64>,
    /// Fabric's rate over what the cards could take, 1 = no oversubscription.
    pub oversubscription: f64,
    /// All of it was said, nothing assumed.
    pub stated: bool,
}

impl Network {
    /// `cards` InfiniBand or RoCE cards of `card_rate` bytes/s.
    pub fn rdma(cards: u32, card_rate: f64) -> Network {
        Network {
            cards,
            card_rate,
            added_latency_s: 0.0,
            rendezvous_s: 0.0,
            staged: false,
            collisions: 0.05,
            relative_share: 1.0,
            simple_only: false,
            tcp: false,
            flow_rate: None,
            oversubscription: 1.0,
            stated: true,
        }
    }

    /// A wide-area link: the round trip `rtt_s` is paid by half on each hop, and a flow carries its window a round trip.
    pub fn wide_area(rate: f64, rtt_s: f64, window_bytes: f64) -> Network {
        Network {
            added_latency_s: rtt_s / 2.0,
            staged: true,
            tcp: true,
            flow_rate: Some(window_bytes / rtt_s),
            ..Network::rdma(1, rate)
        }
    }

    /// Rate that `ranks` GPUs of a node of `gpus` can use together: each has its own cards where there are enough.
    pub fn rate_of(&self, ranks: u32, gpus: u32) -> f64 {
        let each = self.cards.div_ceil(gpus.max(1)).max(1);
        let cards = f64::from(self.cards.min(ranks.saturating_mul(each)));
        let wire = cards * self.card_rate / self.oversubscription;
        self.flow_rate.map_or(wire, |flow| wire.min(flow * f64::from(ranks)))
    }
}

/// A kind of GPU, wired into nodes, over a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fabric {
    /// GPUs a node, at least 1.
    pub gpus_per_node: u32,
    /// GPUs that NVLink joins: those of a node, or of a rack (NVL72). At least those of a node.
    pub domain: u32,
    /// How they are joined.
    pub wiring: Wiring,
    /// NVLink or xGMI of a GPU, bytes/s a direction; 0 where there is none.
    pub nvlink: f64,
    /// PCIe of a GPU, bytes/s a direction.
    pub pcie: f64,
    /// Rates that NCCL gives the GPU's architecture.
    pub architecture: Architecture,
    /// Between nodes.
    pub network: Option<Network>,
    /// Nothing about the wiring was assumed.
    pub stated: bool,
}

/// What is wrong with a fabric's figures.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FabricError {
    /// A figure out of its range.
    #[error("{field} is {value}: expected {expected}")]
    Figure {
        /// Which.
        field: &'static str,
        /// What stands there.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
}

impl Fabric {
    /// The fabric of a node of `gpus_per_node` such GPUs as their maker builds it, without a network.
    pub fn of(gpu: &Gpu, gpus_per_node: u32) -> Fabric {
        let nvlink = gpu.nvlink.unwrap_or(0.0);
        let architecture = Tuning::builtin().architecture(&gpu.architecture);
        let wiring = match (gpu.form.as_str(), gpu.architecture.as_str()) {
            ("pcie" | "nvl", _) => Wiring::over_pcie(gpu),
            _ if nvlink == 0.0 => Wiring::over_pcie(gpu),
            ("sxm", "pascal" | "volta") => match gpus_per_node {
                // Four are joined directly, each pair by two of the six links.
                0..=4 => Wiring::Mesh(nvlink / 3.0),
                5..=8 => Wiring::CubeMesh,
                _ => Wiring::Switch,
            },
            // Four GH200 a node are joined directly, each pair by a third of its links (HPE EX254n; NVIDIA GH200 x4).
            ("superchip", "hopper") => Wiring::Mesh(nvlink / 3.0),
            // Eight Instincts a node are joined directly (AMD MI300X platform: seven xGMI links).
            ("oam", _) => Wiring::Mesh(nvlink / 7.0),
            _ => Wiring::Switch,
        };
        let gpus_per_node = gpus_per_node.max(1);
        let rack = gpu.form == "superchip" && gpu.architecture == "blackwell" && wiring == Wiring::Switch;
        Fabric {
            gpus_per_node,
            domain: if rack { gpus_per_node.max(RACK) } else { gpus_per_node },
            wiring,
            nvlink,
            pcie: gpu.pcie,
            architecture,
            network: None,
            stated: true,
        }
    }

    /// The same with this network between nodes.
    #[must_use]
    pub fn with_network(self, network: Network) -> Fabric {
        Fabric { network: Some(network), ..self }
    }

    /// Checks every figure: rates finite and above 0, latencies finite and not negative.
    ///
    /// # Errors
    /// The first figure out of its range.
    pub fn check(&self) -> Result<(), FabricError> {
        let positive = |field, value: f64| {
            let right = value > 0.0 && value <= 1e18;
            if right {
                Ok(())
            } else {
                Err(FabricError::Figure { field, value, expected: "above 0, at most 1e18" })
            }
        };
        let natural = |field, value: f64| {
            let right = (0.0..=1e18).contains(&value);
            if right { Ok(()) } else { Err(FabricError::Figure { field, value, expected: "0 to 1e18" }) }
        };
        positive("gpus_per_node", f64::from(self.gpus_per_node))?;
        positive("pcie", self.pcie)?;
        natural("nvlink", self.nvlink)?;
        match self.wiring {
            Wiring::Mesh(rate) => positive("the mesh's rate", rate)?,
            Wiring::Host(rate) => positive("the rate through the host's memory", rate)?,
            _ => {}
        }
        if matches!(self.wiring, Wiring::Switch | Wiring::CubeMesh) {
            positive("nvlink", self.nvlink)?;
        }
        if let Some(network) = &self.network {
            positive("network cards", f64::from(network.cards))?;
            positive("rate of a network card", network.card_rate)?;
            natural("latency of the network", network.added_latency_s)?;
            natural("rendezvous of the network", network.rendezvous_s)?;
            natural("collisions of the network", network.collisions)?;
            positive("relative share of the network", network.relative_share)?;
            positive("oversubscription", network.oversubscription)?;
            if let Some(flow) = network.flow_rate {
                positive("rate of a flow", flow)?;
            }
        }
        Ok(())
    }

    /// Whether the fabric holds the group.
    ///
    /// # Errors
    /// [`CollectiveError::NoNetwork`] or [`CollectiveError::Crowded`].
    pub fn holds(&self, group: Group) -> Result<(), CollectiveError> {
        let gpus = self.gpus_per_node.max(self.domain);
        if group.per_node() > gpus {
            return Err(CollectiveError::Crowded { ranks: group.per_node(), gpus });
        }
        if group.nodes() > 1 && self.network.is_none() {
            return Err(CollectiveError::NoNetwork { nodes: group.nodes() });
        }
        Ok(())
    }

    /// `ranks` on `nodes` nodes; nodes that one NVLink domain joins are one.
    ///
    /// # Errors
    /// [`CollectiveError::Group`].
    pub fn group(&self, ranks: u32, nodes: u32) -> Result<Group, CollectiveError> {
        let group = Group::new(ranks, nodes)?;
        let joined = self.domain > self.gpus_per_node && ranks <= self.domain;
        if joined { Group::new(ranks, 1) } else { Ok(group) }
    }

    /// The same with links so many times as fast inside a node, and cards between nodes.
    #[must_use]
    pub fn faster(self, inside: f64, between: f64) -> Fabric {
        let wiring = match self.wiring {
            Wiring::Mesh(pair) => Wiring::Mesh(pair * inside),
            Wiring::Host(card) => Wiring::Host(card * inside),
            other => other,
        };
        let network = self.network.map(|n| Network { card_rate: n.card_rate * between, ..n });
        Fabric { wiring, nvlink: self.nvlink * inside, pcie: self.pcie * inside, network, ..self }
    }

    /// Whether `ranks` GPUs of a node reach each other over NVLink (xGMI) alone.
    pub fn over_nvlink(&self, ranks: u32) -> bool {
        match self.wiring {
            Wiring::Switch | Wiring::Mesh(_) | Wiring::CubeMesh => true,
            Wiring::Pairs => ranks <= 2 && self.nvlink > 0.0,
            Wiring::Pcie | Wiring::Host(_) => false,
        }
    }

    /// Rate of a GPU in rings among `ranks` GPUs of a node, bytes/s a direction, before any loss.
    pub fn ring_rate(&self, ranks: u32) -> f64 {
        match self.wiring {
            Wiring::Switch => self.nvlink,
            // A full mesh of m falls into m - 1 directed rings.
            Wiring::Mesh(pair) => pair * f64::from(ranks.max(2) - 1),
            Wiring::CubeMesh => self.nvlink / CUBE_MESH_LINKS * CUBE_MESH_RINGS[(ranks.clamp(2, 8)) as usize],
            Wiring::Pairs if self.over_nvlink(ranks) => self.nvlink.min(BRIDGE),
            Wiring::Pairs | Wiring::Pcie => self.pcie,
            Wiring::Host(card) => card * (HOSTED_TOGETHER / f64::from(ranks.max(1))).min(1.0),
        }
    }

    /// The link between two GPUs of a node as training sees it, where nobody measured it.
    pub fn inside(&self) -> LinkModel {
        let hops = &Tuning::builtin().hop_us;
        let nvlink = self.over_nvlink(self.gpus_per_node);
        let (share, hop) = if nvlink {
            (NVLINK_IN_TRAINING, &hops.nvlink)
        } else {
            (Parameters::builtin().values().get(Name::PcieShare), &hops.pcie)
        };
        // Every GPU has links of its own.
        let each = share * self.ring_rate(self.gpus_per_node);
        let rate = StreamRate::Each { stream: each, together: each * f64::from(self.gpus_per_node) };
        LinkModel { latency_s: 1e-6 * hop.ring[2], rate }
    }

    /// Rate from one GPU of a node to another, bytes/s, before any loss.
    pub fn pair_rate(&self) -> f64 {
        match self.wiring {
            Wiring::Mesh(pair) => pair,
            Wiring::CubeMesh => self.nvlink / CUBE_MESH_LINKS,
            _ => self.ring_rate(2),
        }
    }

    /// Whether the library exchanges directly inside a node.
    pub fn exchanges_directly(&self) -> bool {
        matches!(self.wiring, Wiring::Mesh(_)) && self.architecture.direct
    }

    /// Whether the switch of the node reduces and multicasts.
    pub fn reduces_in_switch(&self) -> bool {
        self.wiring == Wiring::Switch && self.architecture.nvls > 0.0
    }
}
