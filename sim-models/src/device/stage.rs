//! A run of layers on a device: what a pipeline stage costs, and which device model a GPU gets.

use super::catalogue::{Format, Gpu};
use super::constants::FrameworkConstants;
use super::layer::LayerQuery;
use super::measured::MeasuredLayers;
use super::model::{Device, DeviceModel, Evidence, LayerEstimate};
use super::roofline::Roofline;
use super::table::LayerTable;
use crate::workload::Model;

/// Layers `first ..= last` of a model, on one tensor-parallel rank.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// The model.
    pub model: &'a Model,
    /// First layer, 0 the embedding.
    pub first: u32,
    /// Last layer, inclusive.
    pub last: u32,
    /// Sequences of a micro-batch.
    pub micro_batch: u32,
    /// Tensor-parallel ranks.
    pub tp: u32,
    /// Number format.
    pub format: Format,
}

/// Times of a stage, s: of one micro-batch, and of one optimizer step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageTime {
    /// Forward passes.
    pub forward_s: f64,
    /// Backward passes, without recomputation.
    pub backward_s: f64,
    /// What selective recomputation adds to the backward passes.
    pub again_s: f64,
    /// Optimizer step.
    pub update_s: f64,
    /// The worst evidence of its layers; `None` for a stage without layers.
    pub evidence: Option<Evidence>,
    /// The widest spread of its layers.
    pub spread: f64,
}

impl Stage<'_> {
    /// Its times on a device, when one all-reduce of so many bytes over the ranks takes `sync_s`.
    pub fn time(&self, device: &dyn DeviceModel, sync_s: impl Fn(f64) -> f64) -> StageTime {
        self.sum(|query| device.layer(query), sync_s)
    }

    /// A bound of [`Self::time`] for this and every larger micro-batch, when `sync_s` is one too.
    pub fn lower(&self, device: &dyn DeviceModel, sync_s: impl Fn(f64) -> f64) -> StageTime {
        self.sum(|query| device.layer_lower(query), sync_s)
    }

    fn sum(&self, layer: impl Fn(&LayerQuery) -> LayerEstimate, sync_s: impl Fn(f64) -> f64) -> StageTime {
        let mut total = StageTime::default();
        let last = self.last.min(self.model.layers() - 1);
        // Blocks are alike: one is asked for.
        let blocks = (self.first.max(1), last.min(self.model.layers() - 2));
        let parts = [
            (self.first == 0, 0, 1.0),
            (blocks.0 <= blocks.1, blocks.0, f64::from(blocks.1.saturating_sub(blocks.0) + 1)),
            (last == self.model.layers() - 1 && self.first <= last, last, 1.0),
        ];
        for (there, at, count) in parts {
            if !there {
                continue;
            }
            let query = LayerQuery::of(self.model, at, self.micro_batch, self.tp, self.format);
            let time = layer(&query);
            let sync =
                if time.forward.syncs + time.backward.syncs > 0 { sync_s(time.sync_bytes) } else { 0.0 };
            total.forward_s += count * time.forward.seconds(sync);
            total.backward_s += count * time.backward.seconds(sync);
            total.again_s += count * time.again_s;
            total.update_s += count * time.update_s;
            total.evidence = total.evidence.max(Some(time.evidence));
            total.spread = total.spread.max(time.spread);
        }
        total
    }
}

impl Device {
    /// The best that is known of a model on a GPU: the catalogue's roofline, and a table of the model in this format
    /// carried on by it where there is one.
    pub fn of(
        gpu: &Gpu,
        model: &Model,
        format: Format,
        framework: FrameworkConstants,
        table: Option<&LayerTable>,
    ) -> Device {
        let roofline = Roofline::from_catalogue(gpu).with_framework(framework);
        match table {
            Some(table) => Device::Table(MeasuredLayers::new(table, model, format, roofline)),
            None => Device::Roofline(roofline),
        }
    }
}
