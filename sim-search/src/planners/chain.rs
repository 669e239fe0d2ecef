//! What planners for one kind of GPU share: a pipeline of stages over a chain of layers, TP free in each stage, as a dynamic
//! program. Layers are first clustered, as Alpa does, so that deep models stay in reach.

use super::{Column, View};
use std::rc::Rc;

/// Clusters at most.
const CLUSTERS: usize = 24;

/// Devices of one pipeline at most.
const MOST_DEVICES: u32 = 64;

/// A chain of layers that planners cut, for one micro-batch and data parallelism.
pub(crate) struct Chain<'a, 'b> {
    pub(crate) view: &'a View<'b>,
    pub(crate) micro_batch: u32,
    pub(crate) dp: u32,
    /// Micro-batches of a pipeline.
    pub(crate) micro_batches: u32,
    /// Borders where the chain may be cut, the ends among them.
    pub(crate) borders: Vec<usize>,
    /// TP degrees, with the slowest pool's times.
    pub(crate) tps: Vec<(u32, Rc<Column>)>,
    /// One activation between two stages, s, at the slowest link between neighbouring ranks.
    pub(crate) send_s: f64,
    /// Rate of a gradient ring between nodes, B/s.
    ring_rate: f64,
}

/// A stage that fits: its time for one micro-batch, with its share of the gradient ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageTime {
    /// Forward and backward, s.
    pub(crate) step_s: f64,
    /// Its gradient ring, once an iteration, s.
    pub(crate) sync_s: f64,
}

impl<'a, 'b> Chain<'a, 'b> {
    /// The chains of every data parallelism and micro-batch over all devices, pipelines of [`MOST_DEVICES`] at most.
    pub(crate) fn all(view: &'a View<'b>) -> impl Iterator<Item = Self> {
        let devices = view.devices().len() as u32;
        let degrees =
            (1..=devices).filter(move |dp| devices.is_multiple_of(*dp) && devices / dp <= MOST_DEVICES);
        degrees
            .flat_map(move |dp| view.micro_batches().into_iter().filter_map(move |b| Self::new(view, b, dp)))
    }

    /// Devices of a pipeline.
    pub(crate) fn width(&self) -> usize {
        self.view.devices().len() / self.dp as usize
    }

    /// Numbers of stages that it may be cut into.
    pub(crate) fn depths(&self) -> std::ops::RangeInclusive<usize> {
        1..=(self.view.scenario.search.max_stages as usize).min(self.borders.len() - 1)
    }

    pub(crate) fn new(view: &'a View<'b>, micro_batch: u32, dp: u32) -> Option<Self> {
        let total = view.micro_batch_count(micro_batch);
        if dp == 0 || total < dp {
            return None;
        }
        let tps: Vec<_> = view
            .common_tps()
            .into_iter()
            .filter_map(|tp| Some((tp, view.slowest_column(micro_batch, tp)?)))
            .collect();
        if tps.is_empty() {
            return None;
        }
        let bytes = view.activation_bytes(micro_batch);
        let pools = 0..view.pools.len();
        let pairs = pools.clone().flat_map(|a| pools.clone().map(move |b| (a, b)));
        let one_node =
            view.devices().iter().all(|d| view.scenario.node(*d) == view.scenario.node(view.devices()[0]));
        let (mut send_s, mut ring_rate) = (0.0f64, f64::INFINITY);
        for (a, b) in pairs {
            send_s = send_s.max(view.send_s(a, b, one_node, bytes, 1));
            ring_rate = ring_rate.min(view.rate(a, b, one_node, 16e6, 1));
        }
        let clusters = view.layers.min(CLUSTERS);
        let borders = (0..=clusters).map(|i| i * view.layers / clusters).collect();
        Some(Chain {
            view,
            micro_batch,
            dp,
            micro_batches: total.div_ceil(dp),
            borders,
            tps,
            send_s,
            ring_rate,
        })
    }

    /// A stage of clusters `from .. to` at the TP number `t`, `stage` of `stages`; `None` where it does not fit.
    pub(crate) fn stage(
        &self,
        from: usize,
        to: usize,
        t: usize,
        stage: usize,
        stages: usize,
    ) -> Option<StageTime> {
        let (first, end) = (self.borders[from], self.borders[to]);
        let (tp, column) = &self.tps[t];
        let fits = |pool: usize| {
            self.view.fits(pool, self.micro_batch, *tp, (first, end), stage, stages, self.micro_batches)
        };
        if !(0..self.view.pools.len()).all(fits) {
            return None;
        }
        let n = f64::from(self.dp);
        let sync_s = 2.0 * (n - 1.0) / n * self.view.gradient_bytes(first, end, *tp) / self.ring_rate;
        Some(StageTime { step_s: column.pass_s(first, end), sync_s })
    }

    /// Every stage that fits of a pipeline of `stages`, `[from][to][tp]`, by its place in it.
    pub(crate) fn table(&self, stage: usize, stages: usize) -> Vec<Vec<Vec<Option<StageTime>>>> {
        let n = self.borders.len();
        let cell = |from: usize, to: usize| {
            let possible = from < to && (from > 0) == (stage > 0) && (to + 1 < n) == (stage + 1 < stages);
            let at = |t| if possible { self.stage(from, to, t, stage, stages) } else { None };
            (0..self.tps.len()).map(at).collect()
        };
        (0..n).map(|from| (0..n).map(|to| cell(from, to)).collect()).collect()
    }
}

/// Stages of a chain: borders of its clusters, and the TP of each.
pub(crate) struct Cut {
    pub(crate) cuts: Vec<usize>,
    pub(crate) tps: Vec<u32>,
    /// The value that the program made least.
    pub(crate) value: f64,
}

/// Puts stages together so that `join` over them is least, devices a replica adding up to at most `devices`: `value` of a
/// stage, `join` of what is before with it (monotone in both).
pub(crate) fn best_cut(
    chain: &Chain<'_, '_>,
    tables: &[Vec<Vec<Vec<Option<StageTime>>>>],
    devices: usize,
    value: &dyn Fn(usize, StageTime) -> Option<f64>,
    join: &dyn Fn(f64, f64) -> f64,
) -> Option<Cut> {
    let (n, stages) = (chain.borders.len(), tables.len());
    // [stage][border][devices]: the least value, with the border and TP before.
    let mut best = vec![vec![vec![None::<(f64, usize, usize)>; devices + 1]; n]; stages + 1];
    best[0][0][0] = Some((0.0, 0, 0));
    for s in 0..stages {
        for from in 0..n {
            for used in 0..=devices {
                let Some((before, ..)) = best[s][from][used] else { continue };
                for to in from + 1..n {
                    for (t, (tp, _)) in chain.tps.iter().enumerate() {
                        let after = used + *tp as usize;
                        let Some(stage) = tables[s][from][to][t].filter(|_| after <= devices) else {
                            continue;
                        };
                        let Some(value) = value(s, stage) else { continue };
                        let joined = join(before, value);
                        if best[s + 1][to][after].is_none_or(|(least, ..)| joined < least) {
                            best[s + 1][to][after] = Some((joined, from, t));
                        }
                    }
                }
            }
        }
    }
    let mut used = (0..=devices).filter(|d| best[stages][n - 1][*d].is_some()).min_by(|a, b| {
        let of = |d: &usize| best[stages][n - 1][*d].map_or(f64::INFINITY, |b| b.0);
        of(a).total_cmp(&of(b))
    })?;
    let value = best[stages][n - 1][used]?.0;
    let (mut cuts, mut tps, mut at) = (vec![chain.borders[n - 1]], Vec::new(), n - 1);
    for s in (1..=stages).rev() {
        let (_, from, t) = best[s][at][used]?;
        cuts.push(chain.borders[from]);
        tps.push(chain.tps[t].0);
        used -= chain.tps[t].0 as usize;
        at = from;
    }
    cuts.reverse();
    tps.reverse();
    Some(Cut { cuts, tps, value })
}
