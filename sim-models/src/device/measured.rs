//! Measured layer times as a device model: the table where it was measured, the roofline's shape between and beyond.
//!
//! At each measured point the ratio `c = measured / roofline` is known. Between two micro-batches `c` is interpolated
//! in the logarithm of both; outside, the nearest point's is kept. The time is always `c` times the roofline, so a
//! table returns its own points, and everything else says that it is calibrated (between points) or extrapolated.

use super::catalogue::Format;
use super::layer::LayerQuery;
use super::model::{DeviceModel, Estimate, Evidence, LayerEstimate, Pass};
use super::operator::Operator;
use super::roofline::Roofline;
use super::table::{LayerCost, LayerTable};
use crate::workload::{LayerKind, Model};
use std::collections::BTreeMap;

/// Ratios of one kind of layer at one TP: (micro-batch, ratio of forward, backward, update), by micro-batch.
type Ratios = Vec<(u32, [f64; 3])>;

/// A measured table and the roofline that carries it on. See the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredLayers {
    roofline: Roofline,
    seq_len: u64,
    format: Format,
    /// (kind of layer, TP) -> ratios.
    ratios: BTreeMap<(u8, u32), Ratios>,
}

fn kind_index(kind: LayerKind) -> u8 {
    match kind {
        LayerKind::Embedding => 0,
        LayerKind::Block => 1,
        LayerKind::Head => 2,
    }
}

impl MeasuredLayers {
    /// From a table of `model` in `format`. A block's time is the mean over the table's blocks.
    ///
    /// A time of zero in the table is taken as one nanosecond: sources round what is too short to see.
    pub fn new(table: &LayerTable, model: &Model, format: Format, roofline: Roofline) -> MeasuredLayers {
        let mut ratios: BTreeMap<(u8, u32), Ratios> = BTreeMap::new();
        let last = table.layers().saturating_sub(1);
        let blocks = last.saturating_sub(1).max(1);
        for (micro_batch, tp) in table.configurations() {
            for (kind, first, end, share) in [
                (LayerKind::Embedding, 0, 0, 1.0),
                (LayerKind::Block, 1, last.saturating_sub(1), f64::from(blocks)),
                (LayerKind::Head, last, last, 1.0),
            ] {
                let Some(cost) = table.cost(micro_batch, tp, first, end.max(first)) else { continue };
                let layer = match kind {
                    LayerKind::Embedding => 0,
                    LayerKind::Block => 1,
                    LayerKind::Head => model.layers() - 1,
                };
                let base = roofline.layer(&LayerQuery::of(model, layer, micro_batch, tp, format));
                let ratio = |measured: f64, of: f64| (measured / share).max(1e-9) / of;
                let LayerCost { forward, backward, update, .. } = cost;
                let point = [
                    ratio(forward.as_secs_f64(), base.forward.seconds(0.0)),
                    ratio(backward.as_secs_f64(), base.backward.seconds(0.0)),
                    ratio(update.as_secs_f64(), base.update_s),
                ];
                ratios.entry((kind_index(kind), tp)).or_default().push((micro_batch, point));
            }
        }
        // `configurations` is in order of micro-batch.
        MeasuredLayers { roofline, seq_len: model.seq_len, format, ratios }
    }

    /// The roofline that carries the table on.
    pub fn roofline(&self) -> &Roofline {
        &self.roofline
    }

    /// The ratios of a kind at a TP: measured there, or else those without TP, which hold no all-reduce.
    fn ratios(&self, q: &LayerQuery) -> Option<(&Ratios, bool)> {
        let kind = kind_index(q.shape.kind);
        let exact = self.ratios.get(&(kind, q.tp)).map(|r| (r, true));
        exact.or_else(|| self.ratios.get(&(kind, 1)).map(|r| (r, false)))
    }

    fn scaled(base: LayerEstimate, c: [f64; 3], holds_syncs: bool) -> LayerEstimate {
        let pass = |p: Pass, c: f64| {
            // At TP 1 there is no all-reduce to hold.
            let syncs = if holds_syncs { 0 } else { p.syncs };
            Pass { device_s: p.seconds(0.0) * c, host_s: 0.0, syncs, beside: (0, 0.0), jitter: 0.0 }
        };
        LayerEstimate {
            forward: pass(base.forward, c[0]),
            backward: pass(base.backward, c[1]),
            core_s: base.core_s * c[0],
            again_s: base.again_s * c[0],
            weight_s: base.weight_s * c[1],
            update_s: base.update_s * c[2],
            ..base
        }
    }
}

/// The ratio at a micro-batch, and whether it was measured there or lies between measured points.
fn interpolate(ratios: &Ratios, micro_batch: u32) -> Option<([f64; 3], Evidence)> {
    let above = ratios.partition_point(|(b, _)| *b < micro_batch);
    let (first, last) = (ratios.first()?, ratios.last()?);
    if let Some((b, c)) = ratios.get(above)
        && *b == micro_batch
    {
        return Some((*c, Evidence::Measured));
    }
    if above == 0 {
        return Some((first.1, Evidence::Extrapolated));
    }
    let Some(high) = ratios.get(above) else { return Some((last.1, Evidence::Extrapolated)) };
    let low = &ratios[above - 1];
    let log = |b: u32| libm::log(f64::from(b));
    let t = (log(micro_batch) - log(low.0)) / (log(high.0) - log(low.0));
    let mut c = [0.0; 3];
    for (i, c) in c.iter_mut().enumerate() {
        *c = libm::exp(libm::log(low.1[i]) * (1.0 - t) + libm::log(high.1[i]) * t);
    }
    Some((c, Evidence::Calibrated))
}

/// The least ratio at this or any larger micro-batch: between points the interpolated ones lie between their ends.
fn least_from(ratios: &Ratios, micro_batch: u32) -> Option<[f64; 3]> {
    let (mut least, _) = interpolate(ratios, micro_batch)?;
    for (_, c) in ratios.iter().filter(|(b, _)| *b >= micro_batch) {
        for (least, c) in least.iter_mut().zip(c) {
            *least = least.min(*c);
        }
    }
    // Half a part in 10^9: the interpolation rounds.
    Some(least.map(|c| c * (1.0 - 5e-10)))
}

impl DeviceModel for MeasuredLayers {
    fn operator(&self, op: &Operator, format: Format) -> Estimate {
        self.roofline.operator(op, format)
    }

    fn operator_lower(&self, op: &Operator, format: Format) -> f64 {
        Roofline::operator_lower(&self.roofline, op, format)
    }

    fn layer(&self, query: &LayerQuery) -> LayerEstimate {
        let base = self.roofline.layer(query);
        let Some((ratios, same_tp)) = self.ratios(query) else { return base };
        let Some((c, mut evidence)) = interpolate(ratios, query.micro_batch) else { return base };
        if !same_tp || query.seq_len != self.seq_len || query.format != self.format {
            evidence = Evidence::Extrapolated;
        }
        let spread = match evidence {
            // Blocks of one model in Sailor's tables differ by about this much.
            Evidence::Measured => 0.02,
            Evidence::Calibrated => 0.05,
            Evidence::Extrapolated => base.spread,
        };
        LayerEstimate { evidence, spread, ..Self::scaled(base, c, same_tp) }
    }

    fn layer_lower(&self, query: &LayerQuery) -> LayerEstimate {
        let base = self.roofline.layer_lower(query);
        let Some((ratios, same_tp)) = self.ratios(query) else { return base };
        let Some(c) = least_from(ratios, query.micro_batch) else { return base };
        Self::scaled(base, c, same_tp)
    }
}
