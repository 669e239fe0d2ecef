//! Measured layer times: micro-batch x TP x layer -> forward, backward and update time.
//!
//! A table is for one model on one GPU. It answers only what was measured: another micro-batch or TP is `None`, and
//! [`super::MeasuredLayers`] carries it on.
//! Times at TP > 1 contain the layer's own all-reduce, so nothing is added for it.
//!
//! The shipped tables (`tables/MODEL_GPU.csv`) come from Sailor's profiles (MIT, see NOTICE); a user's own have the same
//! columns: `micro_batch,tp,first_layer,last_layer,forward_us,backward_us,update_us`, times in microseconds of one
//! micro-batch (forward, backward) or one step (update) of one layer.

use super::catalogue::{Format, Gpu};
use crate::workload::Model;
use serde::Deserialize;
use sim_core::SimDuration;
use std::collections::BTreeMap;

/// Times of one layer on one device. The first two are for one micro-batch, the last for one optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LayerCost {
    /// Forward pass.
    pub forward: SimDuration,
    /// Backward pass.
    pub backward: SimDuration,
    /// Optimizer step.
    pub update: SimDuration,
    /// What selective recomputation repeats of the forward pass: the attention between its projections, or what the framework
    /// does. Zero where only whole layers were measured.
    pub again: SimDuration,
    /// The part of the backward pass that computes weight gradients; half of it where only whole layers were measured.
    pub weight: SimDuration,
    /// The part of the forward pass that waits for other ranks, as far as it is known apart.
    pub forward_wait: SimDuration,
    /// The same of the backward pass.
    pub backward_wait: SimDuration,
}

impl LayerCost {
    /// Part by part, saturating.
    #[must_use]
    pub fn plus(self, other: LayerCost) -> LayerCost {
        self.each(other, SimDuration::saturating_add)
    }

    /// Part by part, saturating.
    #[must_use]
    pub fn minus(self, other: LayerCost) -> LayerCost {
        self.each(other, SimDuration::saturating_sub)
    }

    fn each(self, other: LayerCost, f: impl Fn(SimDuration, SimDuration) -> SimDuration) -> LayerCost {
        LayerCost {
            forward: f(self.forward, other.forward),
            backward: f(self.backward, other.backward),
            update: f(self.update, other.update),
            again: f(self.again, other.again),
            weight: f(self.weight, other.weight),
            forward_wait: f(self.forward_wait, other.forward_wait),
            backward_wait: f(self.backward_wait, other.backward_wait),
        }
    }
}

/// Measured times of one model's layers on one GPU. See the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTable {
    /// (micro-batch, TP) -> running sums over layers: entry `i` is the sum of layers `0 .. i`.
    sums: BTreeMap<(u32, u32), Vec<LayerCost>>,
    layers: u32,
}

/// Why a table could not be read; `line` counts from 1.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TableError {
    /// Line of the file, 1 for the first.
    pub line: u64,
    /// What is wrong and what would be right.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    micro_batch: u32,
    tp: u32,
    first_layer: u32,
    last_layer: u32,
    forward_us: f64,
    backward_us: f64,
    update_us: f64,
}

macro_rules! shipped {
    ($($model:literal / $gpu:literal),* $(,)?) => {
        &[$(($model, $gpu, include_str!(concat!("tables/", $model, "_", $gpu, ".csv")))),*]
    };
}

/// (model, GPU in lower case, text).
const SHIPPED: &[(&str, &str, &str)] = shipped![
    "gpt-neo-2.7b" / "a100-40",
    "gpt-neo-2.7b" / "a100-80",
    "gpt-neo-2.7b" / "gh200-96",
    "gpt-neo-2.7b" / "v100-16",
    "opt-350m" / "a100-40",
    "opt-350m" / "a100-80",
    "opt-350m" / "gh200-96",
    "opt-350m" / "rtx-2080",
    "opt-350m" / "rtx-3090",
    "opt-350m" / "titan-rtx",
    "opt-350m" / "v100-16",
];

impl LayerTable {
    /// The shipped table of `model` on `gpu` (catalogue name), if there is one.
    pub fn shipped(model: &str, gpu: &str) -> Option<LayerTable> {
        let (_, _, text) =
            SHIPPED.iter().find(|(m, g, _)| m.eq_ignore_ascii_case(model) && g.eq_ignore_ascii_case(gpu))?;
        LayerTable::from_csv(text).ok()
    }

    /// (model, GPU) of every shipped table.
    pub fn shipped_names() -> impl Iterator<Item = (&'static str, &'static str)> {
        SHIPPED.iter().map(|(m, g, _)| (*m, *g))
    }

    /// The shipped table for training `model` on `gpu` in `format`: the shipped ones are of fp32.
    pub fn shipped_for(model: &Model, gpu: &Gpu, format: Format) -> Option<LayerTable> {
        let table = LayerTable::shipped(&model.name, &gpu.name)?;
        let as_measured = Model::builtin(&model.name).is_some_and(|m| m == *model);
        (format == Format::Fp32 && as_measured).then_some(table)
    }

    /// Reads a table; lines starting with `#` are comments.
    ///
    /// # Errors
    /// Missing or unknown columns, a number that is none, a time that is negative, not finite or over an hour, a layer
    /// given twice, a configuration that does not have every layer, configurations of unequal depth, no row at all.
    pub fn from_csv(text: &str) -> Result<LayerTable, TableError> {
        let mut reader =
            csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
        let mut costs: BTreeMap<(u32, u32), BTreeMap<u32, LayerCost>> = BTreeMap::new();
        let headers = reader.headers().map_err(|e| TableError { line: 1, what: e.to_string() })?.clone();
        for record in reader.records() {
            let record = record.map_err(|e| TableError {
                line: e.position().map_or(0, csv::Position::line),
                what: e.to_string(),
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            let fail = |what: String| TableError { line, what };
            let row: Row = record.deserialize(Some(&headers)).map_err(|e| fail(e.to_string()))?;
            if row.micro_batch == 0 || row.tp == 0 {
                return Err(fail("`micro_batch` and `tp` must be at least 1".into()));
            }
            if row.first_layer > row.last_layer || row.last_layer > 100_000 {
                return Err(fail(format!("layers {}-{} are no range", row.first_layer, row.last_layer)));
            }
            let time = |name: &str, us: f64| {
                if !(0.0..=3.6e9).contains(&us) {
                    return Err(fail(format!("`{name}` is {us}: expected 0 to 3.6e9 microseconds")));
                }
                SimDuration::from_secs_f64(us / 1e6).map_err(|e| fail(e.to_string()))
            };
            let backward = time("backward_us", row.backward_us)?;
            let cost = LayerCost {
                forward: time("forward_us", row.forward_us)?,
                backward,
                update: time("update_us", row.update_us)?,
                weight: SimDuration::from_ps(backward.as_ps() / 2),
                ..LayerCost::default()
            };
            let layers = costs.entry((row.micro_batch, row.tp)).or_default();
            for layer in row.first_layer..=row.last_layer {
                if layers.insert(layer, cost).is_some() {
                    let (b, t) = (row.micro_batch, row.tp);
                    return Err(fail(format!("layer {layer} of micro-batch {b}, tp {t} is given twice")));
                }
            }
        }
        let whole = |what: String| TableError { line: 1, what };
        let depth =
            costs.values().map(BTreeMap::len).max().ok_or_else(|| whole("the table is empty".into()))?;
        let mut sums = BTreeMap::new();
        for ((b, t), layers) in costs {
            if layers.len() != depth || layers.keys().next_back().is_none_or(|&l| l as usize + 1 != depth) {
                return Err(whole(format!(
                    "micro-batch {b}, tp {t} has {} layers of {depth}: every configuration needs all, from 0",
                    layers.len()
                )));
            }
            let mut run = LayerCost::default();
            let mut list = vec![run];
            for cost in layers.values() {
                run = run.plus(*cost);
                list.push(run);
            }
            sums.insert((b, t), list);
        }
        Ok(LayerTable { sums, layers: depth as u32 })
    }

    /// Layers of the model, embedding and head included.
    pub fn layers(&self) -> u32 {
        self.layers
    }

    /// (micro-batch, TP) pairs that were measured, in order.
    pub fn configurations(&self) -> impl Iterator<Item = (u32, u32)> {
        self.sums.keys().copied()
    }

    /// Running sums over layers: entry `i` is the cost of layers `0 .. i`; `None` where it was not measured.
    pub fn sums(&self, micro_batch: u32, tp: u32) -> Option<&[LayerCost]> {
        self.sums.get(&(micro_batch, tp)).map(Vec::as_slice)
    }

    /// Sum over layers `first ..= last`; `None` where the configuration was not measured or a layer is not there.
    pub fn cost(&self, micro_batch: u32, tp: u32, first: u32, last: u32) -> Option<LayerCost> {
        let sums = self.sums.get(&(micro_batch, tp))?;
        let (low, high) = (sums.get(first as usize)?, sums.get(last as usize + 1)?);
        Some(high.minus(*low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_table_reads() {
        for (model, gpu, text) in SHIPPED {
            let table = LayerTable::from_csv(text).unwrap_or_else(|e| panic!("{model} {gpu}: {e}"));
            assert_eq!(table.layers(), if *model == "opt-350m" { 26 } else { 34 });
        }
    }

    /// OPT-350M on A100-40, micro-batch 1, TP 2: figures of the source.
    #[test]
    fn a_table_returns_its_points() {
        let table = LayerTable::shipped("opt-350m", "A100-40").unwrap();
        let one = table.cost(1, 2, 1, 1).unwrap();
        assert_eq!(one.forward, SimDuration::from_ps(1_853_000_000));
        let two = table.cost(1, 2, 1, 2).unwrap();
        assert_eq!(two.backward, SimDuration::from_ps((3388 + 3398) * 1_000_000));
        assert!(table.cost(3, 2, 1, 1).is_none() && table.cost(1, 2, 0, 26).is_none());
    }

    #[test]
    fn bad_tables_say_where() {
        let head = "micro_batch,tp,first_layer,last_layer,forward_us,backward_us,update_us\n";
        for (rows, line, part) in [
            ("", 1, "empty"),
            ("1,1,0,0,1,1,1\n1,1,0,0,1,1,1\n", 3, "twice"),
            ("1,1,0,2,1,NaN,1\n", 2, "backward_us"),
            ("1,1,0,2,-1,1,1\n", 2, "forward_us"),
            ("1,1,2,1,1,1,1\n", 2, "no range"),
            ("1,1,1,2,1,1,1\n", 1, "has 2 layers"),
            ("0,1,1,2,1,1,1\n", 2, "at least 1"),
        ] {
            let error = LayerTable::from_csv(&format!("{head}{rows}")).unwrap_err();
            assert!(error.line == line && error.what.contains(part), "{rows:?}: {error}");
        }
    }
}
