//! Layer times of one model on the GPUs of a node group: the one source that the check of a plan, its lowering and the
//! search ask. A measured table answers for what was measured, to the picosecond; a device model for the rest, or for
//! all where there is no table. Every answer says how it is known.
//!
//! Times are those on idle links; what of them is traffic between nodes is said apart (`sent`), and an iteration's network
//! decides it anew. Answers are running sums over layers, computed once for each micro-batch and TP and shared after that.

mod on_device;
mod sent;

pub use on_device::{OnDevice, Outside};
pub use sent::{Exchange, LayerSent, PassSent, Sent};

use crate::device::{Evidence, LayerCost, LayerTable};
use crate::plan::{LayerRange, Layers};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Micro-batch sizes that a search tries where it is not held to those of a table.
const TRIED: [u32; 4] = [1, 2, 4, 8];

/// Of measured times: blocks of one model in Sailor's tables differ by about this much.
const MEASURED_SPREAD: f64 = 0.02;

/// How a layer is split over devices, as far as its times depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerConfig {
    /// Samples of a micro-batch. At least 1.
    pub micro_batch: u32,
    /// Tensor-parallel ranks. At least 1.
    pub tp: u32,
    /// Context-parallel ranks. At least 1.
    pub cp: u32,
    /// Ranks that share out the experts. At least 1.
    pub ep: u32,
    /// Whether what is on every tensor-parallel rank is split over the sequence.
    pub sequence_parallel: bool,
    /// Whether communication of tensor and expert parallelism runs beside the kernels.
    pub overlap_tp: bool,
    /// Whether it is a stage of a pipeline over several nodes.
    pub piped: bool,
    /// Nodes over which the ranks of one tensor-parallel group, of one context-parallel ring and of one set of experts spread.
    pub nodes: [u32; 3],
}

impl LayerConfig {
    /// Tensor parallelism alone, inside a node.
    pub fn new(micro_batch: u32, tp: u32) -> LayerConfig {
        LayerConfig {
            micro_batch,
            tp,
            cp: 1,
            ep: 1,
            sequence_parallel: false,
            overlap_tp: false,
            piped: false,
            nodes: [1; 3],
        }
    }

    /// What a table of layers at (micro-batch, TP) can answer.
    fn is_plain(&self) -> bool {
        self.cp == 1 && self.ep == 1 && self.nodes[0] == 1
    }
}

/// Times of a model's layers at one micro-batch and TP.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSums {
    sums: Arc<[LayerCost]>,
    /// What they send to other nodes, as running sums; `None` where nothing.
    sent: Option<Arc<[LayerSent]>>,
    /// How they are known.
    pub evidence: Evidence,
    /// Standard deviation of the logarithm of true over given time: 0.1 is about 10 %.
    pub spread: f64,
}

impl Default for LayerSums {
    /// Of no layers.
    fn default() -> Self {
        let sums = Arc::new([LayerCost::default()]);
        LayerSums { sums, sent: None, evidence: Evidence::Measured, spread: 0.0 }
    }
}

impl LayerSums {
    /// Running sums over layers: entry `i` is the cost of layers `0 .. i`, the first of none.
    pub fn running(&self) -> &[LayerCost] {
        &self.sums
    }

    /// The same layers with other costs: `f` of each running sum, so it must keep their order.
    #[must_use]
    pub fn map(&self, f: impl Fn(LayerCost) -> LayerCost) -> LayerSums {
        LayerSums { sums: self.sums.iter().map(|cost| f(*cost)).collect(), ..self.clone() }
    }

    /// Sum over all layers.
    pub fn total(&self) -> LayerCost {
        self.sums.last().copied().unwrap_or_default()
    }

    /// Sum over layers; `None` where one of them is not there.
    pub fn cost(&self, layers: LayerRange) -> Option<LayerCost> {
        let (low, high) = (self.sums.get(layers.first as usize)?, self.sums.get(layers.last as usize + 1)?);
        Some(high.minus(*low))
    }

    /// Whether something of it leaves a node.
    pub fn leaves_node(&self) -> bool {
        self.sent.is_some()
    }

    /// What some layers send to other nodes; nothing where one of them is not there.
    pub fn sent(&self, layers: LayerRange) -> LayerSent {
        let running = self.sent.as_deref().unwrap_or_default();
        match (running.get(layers.first as usize), running.get(layers.last as usize + 1)) {
            (Some(low), Some(high)) => high.minus(*low),
            _ => LayerSent::default(),
        }
    }

    /// Sum over several ranges of layers; `None` where one of them is not there.
    pub fn cost_of(&self, layers: &Layers) -> Option<LayerCost> {
        layers.chunks().iter().try_fold(LayerCost::default(), |sum, r| Some(sum.plus(self.cost(*r)?)))
    }
}

/// Why there are no times at a micro-batch and TP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTimes {
    /// The table does not have them, and nothing carries it on.
    #[error("not measured")]
    NotMeasured,
    /// The table is of ranks inside a node, and nothing carries it on.
    #[error("measured inside a node, without context or expert parallelism")]
    Spread,
    /// The attention heads cannot be shared out.
    #[error("{heads} attention heads cannot be shared out evenly")]
    Heads {
        /// Heads of the model.
        heads: u64,
    },
    /// A group spreads over nodes, and nothing is known of what joins them.
    #[error("its ranks are on several nodes, and no link between nodes is known")]
    NoNetwork,
    /// A pass takes longer than is simulated.
    #[error("one pass of the model takes over a day")]
    TooLong,
}

type Known = BTreeMap<LayerConfig, Result<LayerSums, NoTimes>>;

/// Layer times of one model on one kind of GPU. See the head of this file.
#[derive(Debug)]
pub struct LayerTimes {
    table: Option<LayerTable>,
    device: Option<OnDevice>,
    known: Mutex<Known>,
}

/// Two are equal that answer the same.
impl PartialEq for LayerTimes {
    fn eq(&self, other: &LayerTimes) -> bool {
        self.table == other.table && self.device == other.device
    }
}

impl LayerTimes {
    /// What was measured, and nothing else.
    pub fn measured(table: LayerTable) -> LayerTimes {
        LayerTimes { table: Some(table), device: None, known: Mutex::default() }
    }

    /// By a device model alone.
    pub fn modelled(device: OnDevice) -> LayerTimes {
        LayerTimes { table: None, device: Some(device), known: Mutex::default() }
    }

    /// What was measured, and a device model for the rest.
    pub fn carried_on(table: LayerTable, device: OnDevice) -> LayerTimes {
        LayerTimes { table: Some(table), device: Some(device), known: Mutex::default() }
    }

    /// The same GPU behind faster links: rates inside a node and out of it are so many times as high. What was measured at a
    /// TP contains its links and stays.
    #[must_use]
    pub fn behind_faster_links(&self, inside: f64, outside: f64) -> LayerTimes {
        let device = self.device.clone().map(|mut on| {
            on.inside = on.inside.faster(inside);
            on.nccl = on.nccl.map(|nccl| nccl.over_faster_links(inside, outside));
            if let Some(out) = &mut on.outside {
                out.link = out.link.faster(outside);
                out.share *= outside;
            }
            on
        });
        LayerTimes { table: self.table.clone(), device, known: Mutex::default() }
    }

    /// The times at a micro-batch and TP.
    ///
    /// # Errors
    /// Why there are none.
    pub fn at(&self, micro_batch: u32, tp: u32) -> Result<LayerSums, NoTimes> {
        self.of(&LayerConfig::new(micro_batch, tp))
    }

    /// The times of layers split like this.
    ///
    /// # Errors
    /// Why there are none.
    pub fn of(&self, config: &LayerConfig) -> Result<LayerSums, NoTimes> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(*config).or_insert_with(|| self.find(config)).clone()
    }

    /// (micro-batch, TP) pairs that were measured, in order.
    pub fn configurations(&self) -> impl Iterator<Item = (u32, u32)> {
        self.table.iter().flat_map(LayerTable::configurations)
    }

    /// Micro-batch sizes that a search tries when it is told none.
    pub fn micro_batches(&self) -> BTreeSet<u32> {
        let modelled = self.device.iter().flat_map(|_| TRIED);
        self.configurations().map(|(micro_batch, _)| micro_batch).chain(modelled).collect()
    }

    fn find(&self, config: &LayerConfig) -> Result<LayerSums, NoTimes> {
        let table = self.table.as_ref().filter(|_| config.is_plain());
        match (table.and_then(|t| t.sums(config.micro_batch, config.tp)), &self.device) {
            (Some(sums), _) => {
                let (evidence, spread) = (Evidence::Measured, MEASURED_SPREAD);
                Ok(LayerSums { sums: sums.into(), sent: None, evidence, spread })
            }
            (None, Some(device)) if config.micro_batch > 0 && config.tp > 0 => device.sums(config),
            (None, _) if !config.is_plain() => Err(NoTimes::Spread),
            (None, _) => Err(NoTimes::NotMeasured),
        }
    }
}
