//! What a collective costs: kinds, algorithms, the shape of the group, and the law every model of them keeps.
//!
//! Sizes are nccl-tests': of an all-reduce, broadcast or send the buffer; of an **all-gather the whole output** and of a
//! reduce-scatter the whole input (each rank holds `1/n` of it); of an all-to-all what *one* rank sends in all, its own
//! part included. PyTorch's `all_gather` takes a rank's part: multiply it by `n` first.
//!
//! [`fabric`] says what connects the GPUs, [`mod@describe`] reads it from what people write, [`nccl`] is the model, whose
//! few parameters ([`parameters`]) [`mod@fit`] finds from measurements.

pub mod describe;
pub mod fabric;
pub mod fit;
pub mod group;
pub mod messages;
pub mod nccl;
pub mod parameters;
pub mod tuning;
mod ways;

#[cfg(test)]
mod tests;

pub use describe::{DescribeError, Description, describe, named_gpu};
pub use fabric::{Fabric, FabricError, Network, Wiring};
pub use group::{GroupTime, Wires};
pub use nccl::Nccl;
pub use parameters::{Name, Parameters};

pub use crate::device::Evidence;
use crate::units::Bytes;
use serde::{Deserialize, Serialize};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectiveKind {
    /// Every rank ends with the sum of all buffers.
    AllReduce,
    /// Every rank ends with all ranks' parts.
    AllGather,
    /// Every rank ends with its part of the sum.
    ReduceScatter,
    /// Every rank sends a part to every other.
    AllToAll,
    /// Every rank ends with the root's buffer.
    Broadcast,
    /// One rank sends to one other; several pairs may do so side by side.
    SendRecv,
}

impl CollectiveKind {
    /// All of them.
    pub const ALL: [CollectiveKind; 6] = [
        CollectiveKind::AllReduce,
        CollectiveKind::AllGather,
        CollectiveKind::ReduceScatter,
        CollectiveKind::AllToAll,
        CollectiveKind::Broadcast,
        CollectiveKind::SendRecv,
    ];

    /// `all_reduce`, as in files.
    pub fn name(self) -> &'static str {
        match self {
            CollectiveKind::AllReduce => "all_reduce",
            CollectiveKind::AllGather => "all_gather",
            CollectiveKind::ReduceScatter => "reduce_scatter",
            CollectiveKind::AllToAll => "all_to_all",
            CollectiveKind::Broadcast => "broadcast",
            CollectiveKind::SendRecv => "send_recv",
        }
    }

    /// By name; case, `-` and `_` do not matter (`AllReduce`, `alltoall`, `p2p`).
    pub fn from_name(name: &str) -> Option<CollectiveKind> {
        let plain =
            |s: &str| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let wanted = match plain(name).as_str() {
            "p2p" | "pointtopoint" | "sendreceive" => "sendrecv".to_string(),
            "all2all" => "alltoall".to_string(),
            other => other.to_string(),
        };
        Self::ALL.into_iter().find(|kind| plain(kind.name()) == wanted)
    }

    /// Bus bandwidth over algorithm bandwidth (size over time) on `ranks` ranks, as nccl-tests counts them: 2(n-1)/n,
    /// (n-1)/n or 1.
    pub fn bus_factor(self, ranks: u32) -> f64 {
        let n = f64::from(ranks.max(1));
        match self {
            CollectiveKind::AllReduce => 2.0 * (n - 1.0) / n,
            CollectiveKind::AllGather | CollectiveKind::ReduceScatter | CollectiveKind::AllToAll => {
                (n - 1.0) / n
            }
            CollectiveKind::Broadcast | CollectiveKind::SendRecv => 1.0,
        }
    }
}

/// How it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Around a ring, a part a step.
    Ring,
    /// Up one tree and down it again.
    Tree,
    /// Two trees, each rank inner node of one and leaf of the other: NCCL's tree.
    DoubleBinaryTree,
    /// Exchange with ranks 1, 2, 4... away, of halves and back.
    HalvingDoubling,
    /// Every rank to every other at once.
    Direct,
    /// Reduce-scatter inside nodes, the operation between them, all-gather inside.
    Hierarchical,
    /// The NVLink switch reduces and multicasts; between nodes a tree.
    Nvls,
    /// Parallel aggregated trees, of one GPU a node.
    Pat,
}

impl Algorithm {
    /// By the name that NCCL and people give it: `Ring`, `NVLS`, `nvls_tree`, `tree` (NCCL's: double), `PAT`,
    /// `halving-doubling`, `direct`, `hierarchical`.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        match plain.to_lowercase().as_str() {
            "ring" => Some(Algorithm::Ring),
            "singletree" => Some(Algorithm::Tree),
            "tree" | "doublebinarytree" => Some(Algorithm::DoubleBinaryTree),
            "nvls" | "nvlstree" => Some(Algorithm::Nvls),
            "pat" => Some(Algorithm::Pat),
            "halvingdoubling" => Some(Algorithm::HalvingDoubling),
            "direct" => Some(Algorithm::Direct),
            "hierarchical" => Some(Algorithm::Hierarchical),
            _ => None,
        }
    }
}

/// NCCL's protocols: latency against rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// Flag with every 4 bytes: least latency, half the rate.
    LL,
    /// Flag with every 120 bytes.
    LL128,
    /// Whole chunks, then a fence.
    Simple,
}

impl Protocol {
    /// All of them, in the order of NCCL's tables.
    pub const ALL: [Protocol; 3] = [Protocol::LL, Protocol::LL128, Protocol::Simple];
}

/// The ranks of a collective: as many on each node. At least 1 node and 1 rank a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    nodes: u32,
    per_node: u32,
}

/// Why a group, a size or a choice is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectiveError {
    /// No rank, or ranks that do not divide over the nodes.
    #[error(
        "{ranks} ranks on {nodes} nodes: expected a multiple of the nodes, from 1 to 4,294,967,295 ranks"
    )]
    Group {
        /// Ranks in all.
        ranks: u32,
        /// Nodes.
        nodes: u32,
    },
    /// More ranks on a node than GPUs in it.
    #[error("{ranks} ranks on a node of {gpus} GPUs: expected at most one a GPU")]
    Crowded {
        /// Ranks a node.
        ranks: u32,
        /// GPUs a node.
        gpus: u32,
    },
    /// Several nodes, and the fabric has no network.
    #[error("the group spans {nodes} nodes: expected a fabric with a network between nodes")]
    NoNetwork {
        /// Nodes.
        nodes: u32,
    },
    /// The algorithm does not do the operation, or not on this fabric.
    #[error("{algorithm:?} does not do {kind:?} on this fabric: expected one of {possible:?}")]
    Impossible {
        /// As asked.
        algorithm: Algorithm,
        /// As asked.
        kind: CollectiveKind,
        /// What does.
        possible: Vec<Algorithm>,
    },
}

impl Group {
    /// `ranks` spread evenly over `nodes`.
    ///
    /// # Errors
    /// [`CollectiveError::Group`].
    pub fn new(ranks: u32, nodes: u32) -> Result<Group, CollectiveError> {
        if ranks == 0 || nodes == 0 || !ranks.is_multiple_of(nodes) {
            return Err(CollectiveError::Group { ranks, nodes });
        }
        Ok(Group { nodes, per_node: ranks / nodes })
    }

    /// Ranks in all.
    pub fn ranks(self) -> u32 {
        self.nodes * self.per_node
    }

    /// Nodes.
    pub fn nodes(self) -> u32 {
        self.nodes
    }

    /// Ranks on each node.
    pub fn per_node(self) -> u32 {
        self.per_node
    }
}

/// A predicted time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds, finite, above 0 (0 on one rank).
    pub seconds: f64,
    /// What it stands on.
    pub evidence: Evidence,
    /// Standard deviation of the logarithm of the true time: 0.1 is about 10 %.
    pub spread: f64,
    /// The algorithm that took it.
    pub algorithm: Algorithm,
    /// The protocol that took it.
    pub protocol: Protocol,
}

/// A model of what collectives cost on one fabric.
///
/// Laws, for every group that the fabric holds and every size (checked by [`check_laws`]):
/// - `time` is finite, and positive on two ranks or more;
/// - `lower` is monotone in the size and never above `time` of that size or any larger one;
/// - `ideal_time` is what the wires alone would take, without latency or contention: monotone, and never above `lower`
///   nor above the time of the same collective lowered to transfers on the same wires.
pub trait CollectiveModel {
    /// How long the fastest way takes.
    ///
    /// # Errors
    /// The fabric does not hold the group.
    fn time(&self, kind: CollectiveKind, bytes: Bytes, group: Group) -> Result<Estimate, CollectiveError>;

    /// A lower bound of `time` at `bytes` and above, seconds.
    ///
    /// # Errors
    /// As [`CollectiveModel::time`].
    fn lower(&self, kind: CollectiveKind, bytes: Bytes, group: Group) -> Result<f64, CollectiveError>;

    /// What the wires alone would take, seconds.
    ///
    /// # Errors
    /// As [`CollectiveModel::time`].
    fn ideal_time(&self, kind: CollectiveKind, bytes: Bytes, group: Group) -> Result<f64, CollectiveError>;
}

/// Checks the laws of [`CollectiveModel`] at two sizes; the message says which is broken.
///
/// # Errors
/// The law, and the figures that break it.
pub fn check_laws(
    model: &dyn CollectiveModel,
    kind: CollectiveKind,
    sizes: [Bytes; 2],
    group: Group,
) -> Result<(), String> {
    let [small, large] = if sizes[0] <= sizes[1] { sizes } else { [sizes[1], sizes[0]] };
    let of = |bytes| -> Result<[f64; 3], String> {
        let get = || -> Result<[f64; 3], CollectiveError> {
            let time = model.time(kind, bytes, group)?.seconds;
            Ok([time, model.lower(kind, bytes, group)?, model.ideal_time(kind, bytes, group)?])
        };
        get().map_err(|e| format!("{kind:?} of {bytes} on {group:?}: {e}"))
    };
    let ([time, lower, ideal], [later, upper, more]) = (of(small)?, of(large)?);
    let positive = time.is_finite() && (time > 0.0 || group.ranks() == 1) && time >= 0.0;
    for (holds, law) in [
        (positive, "time is finite and positive"),
        (lower <= time && lower <= later, "lower is below every later time"),
        (lower <= upper && ideal <= more, "lower and ideal_time are monotone"),
        (0.0 <= ideal && ideal <= lower, "ideal_time is below lower"),
    ] {
        if !holds {
            return Err(format!(
                "{law}: broken by {kind:?} of {small} and {large} on {group:?}: time {time} and {later}, \
                 lower {lower} and {upper}, ideal {ideal} and {more}"
            ));
        }
    }
    Ok(())
}
