//! The cluster that a row ran on: nodes of its GPUs, wired as their maker builds them unless the row says otherwise.

use super::row::Row;
use super::{Reason, Skip};
use sim_models::collective::{DescribeError, Description, Fabric, Name, Nccl, describe};
use sim_models::device::{Catalogue, Gpu};
use sim_models::framework::Calibration;
use sim_models::layer_times::Outside;
use sim_models::link::LinkModel;

/// GPUs of a node where the row does not say and the GPU does not either.
const GPUS_PER_NODE: u64 = 8;

/// The GPU of a name.
pub(super) fn find(name: &str) -> Result<&'static Gpu, Skip> {
    // What Sailor's files call the GH200.
    let name = if name == "GH-96" { "GH200-96" } else { name };
    let catalogue = Catalogue::builtin();
    if let Ok(gpu) = catalogue.find(name) {
        return Ok(gpu);
    }
    // A remark after the name: `A100 (SXM/80GB not stated)`.
    let bare = name.split(['(', ',']).next().unwrap_or("").trim();
    // A memory that no entry of the family has: the time hardly depends on it.
    let size = |word: &&str| {
        let word = word.to_ascii_lowercase();
        let digits = word.strip_suffix("gib").or_else(|| word.strip_suffix("gb"));
        digits.is_some_and(|d| d.chars().all(|c| c.is_ascii_digit()))
    };
    let words = bare.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !size(word));
    let family = words.collect::<Vec<_>>().join("-");
    let found = catalogue.find(bare).or_else(|e| catalogue.find(&family).map_err(|_| e));
    found.map_err(|e| Skip::new(Reason::UnknownGpu, e.to_string()))
}

/// GPUs of a node of this kind: the row's, else its maker's.
pub(super) fn gpus_per_node(row: &Row, gpu: &Gpu) -> Result<u32, Skip> {
    // A tray of the NVL72 rack has four; four GH200 share a board.
    let built = if gpu.form == "superchip" { 4 } else { GPUS_PER_NODE };
    let all = row.gpus.unwrap_or(built).max(1);
    let count = row.gpus_per_node.unwrap_or(built.min(all));
    u32::try_from(count).map_err(|_| {
        Skip::new(Reason::Corrupt, format!("`gpus_per_node` is {count}: expected less than 2^32"))
    })
}

/// The part of a text that speaks of kind `i` where it has one for each (`10 Gb/s, 50 Gb/s`), and a rate `of a node` said so.
fn of_kind(text: &str, i: usize, kinds: usize) -> String {
    let parts: Vec<&str> = text.split([',', ';']).collect();
    let own = if kinds > 1 && parts.len() == kinds { parts[i] } else { text };
    let own = own.replace(['(', ')'], " ");
    let node = own.to_lowercase();
    if node.contains("node") && !node.contains("per node") { format!("{own} per node") } else { own }
}

/// The fabric of nodes of kind `i` of the row.
pub(super) fn fabric(
    row: &Row,
    gpu: &Gpu,
    i: usize,
    gpus_per_node: u32,
    several: bool,
) -> Result<Fabric, Skip> {
    let kinds = row.mix.len();
    let (intra, inter) = (of_kind(&row.intra_link, i, kinds), of_kind(&row.inter_link, i, kinds));
    let said = Description {
        gpu: &gpu.name,
        gpus_per_node,
        intra: &intra,
        inter: &inter,
        remarks: &row.source,
        used: gpus_per_node,
        several_nodes: several,
    };
    let plain = Description { intra: "", inter: "", remarks: "", ..said };
    let usual = Description { inter: "100 Gb/s", ..plain };
    describe(&said).or_else(|_| describe(&plain)).or_else(|_| describe(&usual)).map_err(|e| match e {
        DescribeError::UnknownGpu { .. } => Skip::new(Reason::UnknownGpu, e.to_string()),
        DescribeError::NoRate { .. } => Skip::new(Reason::MissingField, e.to_string()),
    })
}

/// Whether neither the row says what joins nodes of this GPU nor its maker builds any: cards for a workstation.
pub(super) fn unbuilt(row: &Row, gpu: &Gpu) -> bool {
    let said =
        Description { gpu: &gpu.name, remarks: &row.source, several_nodes: true, ..Description::default() };
    row.inter_link.is_empty() && describe(&said).is_err()
}

/// GPUs of an NVL72 rack that one job's groups take: the largest power of two.
const RACK: u32 = 64;

/// Links of a kind's nodes, as a scenario states them.
pub(super) struct Wires {
    /// Between GPUs of a node.
    pub inside: LinkModel,
    /// All cards of a node together, bytes/s.
    pub node_rate: f64,
    /// Cards of a node.
    pub cards: Option<u32>,
    /// Collectives over them, beside training.
    pub nccl: Nccl,
    /// What a transfer between stages on different nodes waits for, s.
    pub message_s: f64,
    latency_s: f64,
    gpus: f64,
}

impl Wires {
    /// GPUs that NVLink joins: those of a node, or of a rack.
    pub(super) fn joined(gpu: &Gpu, gpus_per_node: u32) -> u32 {
        let domain = Fabric::of(gpu, gpus_per_node).domain;
        if domain > gpus_per_node { domain.min(RACK) } else { gpus_per_node }.max(1)
    }

    /// From a fabric of `fabric.gpus_per_node` GPUs a node, `joined` of which make one node here.
    pub(super) fn new(
        fabric: &Fabric,
        gpu: &Gpu,
        joined: u32,
        calibration: &Calibration,
    ) -> Result<Wires, Skip> {
        let alone = Nccl::new(*fabric).map_err(|e| Skip::new(Reason::Corrupt, e.to_string()))?;
        let nccl = calibration.nccl(gpu, alone).holding(joined);
        let (inside, gpus) = (nccl.fabric().inside(), f64::from(joined));
        let Some(network) = &fabric.network else {
            return Ok(Wires {
                inside,
                node_rate: 1e12,
                cards: None,
                nccl,
                message_s: 0.0,
                latency_s: 0.0,
                gpus,
            });
        };
        let built = fabric.gpus_per_node.max(1);
        let nodes = joined.div_ceil(built);
        let wire = network.rate_of(built, built) * f64::from(nodes);
        // Through the host's memory all bytes of a node pass one root of PCIe.
        let root = nccl.fabric().pcie * nccl.values().get(Name::PcieShare);
        let node_rate = if network.staged && root < wire { root } else { wire };
        let cards = Some(network.cards.saturating_mul(nodes));
        // TCP's own latency was measured; of RDMA through the host's memory nothing was but runs.
        let message_s = if network.staged && !network.tcp { calibration.links.staged_s } else { 0.0 };
        let latency_s = network.added_latency_s;
        Ok(Wires { inside, node_rate, cards, nccl, message_s, latency_s, gpus })
    }

    /// From a node of these to one of those.
    pub(super) fn between(&self, to: &Wires) -> LinkModel {
        let rate = if self.node_rate < to.node_rate { self.node_rate } else { to.node_rate };
        LinkModel::constant(rate, self.latency_s.max(to.latency_s))
    }

    /// One GPU's way to another node, where there are several nodes.
    pub(super) fn outside(&self) -> Option<Outside> {
        self.cards.map(|_| Outside { link: self.between(self), share: self.node_rate / self.gpus })
    }
}
