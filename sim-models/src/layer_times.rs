//! Layer times of one model on the GPUs of a node group: the one source that the check of a plan, its lowering and the
//! search ask. A measured table answers for what was measured, to the picosecond; a device model for the rest, or for
//! all where there is no table. Every answer says how it is known.
//!
//! Answers are running sums over layers, computed once for each micro-batch and TP and shared after that.

use crate::collective::CollectiveKind;
use crate::device::{Device, DeviceModel, Evidence, Format, LayerCost, LayerQuery, LayerTable};
use crate::link::LinkModel;
use crate::plan::LayerRange;
use crate::units::Bytes;
use crate::workload::{LayerKind, Model};
use sim_core::{SimDuration, TimeError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Micro-batch sizes that a search tries where it is not held to those of a table.
const TRIED: [u32; 4] = [1, 2, 4, 8];

/// A pass of all layers and an optimizer step take no longer than this: a day. What does is a slip in a datasheet.
const MOST: SimDuration = SimDuration::from_ps(86_400_000_000_000_000);

/// Of measured times: blocks of one model in Sailor's tables differ by about this much.
const MEASURED_SPREAD: f64 = 0.02;

/// A model on a device, as a device model is asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDevice {
    /// The device.
    pub device: Device,
    /// The model that is trained.
    pub model: Model,
    /// In this number format.
    pub format: Format,
    /// What joins the GPUs of a node: layers of several tensor-parallel ranks wait for their all-reduces over it.
    pub inside: LinkModel,
}

/// Times of a model's layers at one micro-batch and TP.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSums {
    sums: Arc<[LayerCost]>,
    /// How they are known.
    pub evidence: Evidence,
    /// Standard deviation of the logarithm of true over given time: 0.1 is about 10 %.
    pub spread: f64,
}

impl LayerSums {
    /// Running sums over layers: entry `i` is the cost of layers `0 .. i`, the first of none.
    pub fn running(&self) -> &[LayerCost] {
        &self.sums
    }

    /// Sum over layers; `None` where one of them is not there.
    pub fn cost(&self, layers: LayerRange) -> Option<LayerCost> {
        let (low, high) = (self.sums.get(layers.first as usize)?, self.sums.get(layers.last as usize + 1)?);
        Some(LayerCost {
            forward: high.forward.saturating_sub(low.forward),
            backward: high.backward.saturating_sub(low.backward),
            update: high.update.saturating_sub(low.update),
        })
    }
}

/// Why there are no times at a micro-batch and TP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTimes {
    /// The table does not have them, and nothing carries it on.
    #[error("not measured")]
    NotMeasured,
    /// The attention heads cannot be shared out.
    #[error("{heads} attention heads cannot be shared out evenly")]
    Heads {
        /// Heads of the model.
        heads: u64,
    },
    /// A pass takes longer than is simulated.
    #[error("one pass of the model takes over a day")]
    TooLong,
}

type Known = BTreeMap<(u32, u32), Result<LayerSums, NoTimes>>;

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

    /// The times at a micro-batch and TP.
    ///
    /// # Errors
    /// Why there are none.
    pub fn at(&self, micro_batch: u32, tp: u32) -> Result<LayerSums, NoTimes> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((micro_batch, tp)).or_insert_with(|| self.find(micro_batch, tp)).clone()
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

    fn find(&self, micro_batch: u32, tp: u32) -> Result<LayerSums, NoTimes> {
        match (self.table.as_ref().and_then(|t| t.sums(micro_batch, tp)), &self.device) {
            (Some(sums), _) => {
                Ok(LayerSums { sums: sums.into(), evidence: Evidence::Measured, spread: MEASURED_SPREAD })
            }
            (None, Some(device)) if micro_batch > 0 && tp > 0 => device.sums(micro_batch, tp),
            (None, _) => Err(NoTimes::NotMeasured),
        }
    }
}

impl OnDevice {
    fn sums(&self, micro_batch: u32, tp: u32) -> Result<LayerSums, NoTimes> {
        let heads = self.model.heads;
        if !heads.is_multiple_of(u64::from(tp)) {
            return Err(NoTimes::Heads { heads });
        }
        let (mut evidence, mut spread) = (Evidence::Measured, 0.0f64);
        let mut cost = |layer: u32| {
            let time = self.device.layer(&LayerQuery::of(&self.model, layer, micro_batch, tp, self.format));
            evidence = evidence.max(time.evidence);
            spread = spread.max(time.spread);
            let waits = time.forward.syncs + time.backward.syncs > 0;
            time.cost(if waits { self.all_reduce_s(tp, time.sync_bytes) } else { 0.0 })
        };
        let last = self.model.layers() - 1;
        // Blocks are alike: one is asked for.
        let costs = [cost(0), cost(1), cost(last)];
        let [embedding, block, head] = costs.map(|c: Result<_, TimeError>| c.map_err(|_| NoTimes::TooLong));
        let (embedding, block, head) = (embedding?, block?, head?);
        let mut run = LayerCost::default();
        let mut sums = vec![run];
        for layer in 0..=last {
            let next = match self.model.kind(layer) {
                LayerKind::Embedding => embedding,
                LayerKind::Block => block,
                LayerKind::Head => head,
            };
            run = LayerCost {
                forward: run.forward.saturating_add(next.forward),
                backward: run.backward.saturating_add(next.backward),
                update: run.update.saturating_add(next.update),
            };
            sums.push(run);
        }
        if run.forward.saturating_add(run.backward).saturating_add(run.update) > MOST {
            return Err(NoTimes::TooLong);
        }
        Ok(LayerSums { sums: sums.into(), evidence, spread })
    }

    /// One all-reduce of the tensor-parallel ranks, s, as a ring inside the node.
    fn all_reduce_s(&self, tp: u32, bytes: f64) -> f64 {
        let n = f64::from(tp);
        let rate = self.inside.transfer_rate(Bytes::from_f64(bytes / n), 1);
        CollectiveKind::AllReduce.bus_factor(tp) * bytes / rate + 2.0 * (n - 1.0) * self.inside.latency_s
    }
}
