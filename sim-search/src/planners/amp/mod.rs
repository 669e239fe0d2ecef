//! AMP (arXiv 2210.07297): every (TP, data parallelism, micro-batch) on a mixed cluster, stages cut by a dynamic program, ranked
//! by a closed form.

pub mod cost;

use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View, ranked, uniform};
use sim_models::scenario::{DeviceId, Scenario};

/// See the head of this file.
pub struct Amp;

impl Planner for Amp {
    fn about(&self) -> About {
        About {
            name: "amp",
            about: "all (tp, dp, micro-batch), stages cut by a dynamic program, ranked by a closed form",
            source: "Li et al., NeurIPS'22, arXiv 2210.07297",
            leaves_out: "its annealing over placements (devices stand in order, as in its published runs); memory, which it does not know",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let devices = view.devices();
        let (mut found, mut candidates) = (Vec::new(), 0);
        for tp in view.common_tps() {
            let groups = devices.len() as u32 / tp;
            for dp in (1..=groups).filter(|dp| groups.is_multiple_of(*dp)) {
                for micro_batch in view.micro_batches() {
                    if !go_on() {
                        return ranked(found, candidates, "out of time");
                    }
                    candidates += 1;
                    found.extend(estimate(&view, &devices, tp, dp, groups / dp, micro_batch));
                }
            }
        }
        ranked(found, candidates, "no (tp, dp, micro-batch) uses all GPUs")
    }
}

/// A plan of that shape, where there is one.
fn estimate(
    view: &View<'_>,
    devices: &[DeviceId],
    tp: u32,
    dp: u32,
    stages: u32,
    micro_batch: u32,
) -> Option<Entrant> {
    let total = view.micro_batch_count(micro_batch);
    if !total.is_multiple_of(dp)
        || stages as usize > view.layers.min(view.scenario.search.max_stages as usize)
    {
        return None;
    }
    let micro_batches = total / dp;
    // The mean over all devices, by layer.
    let mut layers = vec![0.0; view.layers];
    for pool in 0..view.pools.len() {
        let share = view.pools[pool].devices.len() as f64 / devices.len() as f64;
        let column = view.column(pool, micro_batch, tp)?;
        layers.iter_mut().zip(column.layers()).for_each(|(sum, time)| *sum += share * time);
    }
    let cuts = if micro_batches == 1 {
        view.block_cuts(stages as usize)?
    } else {
        cost::best_cuts(&layers, stages as usize)?
    };
    // Its order of ranks: tensor, data, pipeline.
    let device = |stage: u32, replica: u32, rank: u32| devices[(rank + tp * (replica + dp * stage)) as usize];
    let rate = |a, b, bytes| view.hop_rate(a, b, bytes, 1);
    let activation = view.activation_bytes(micro_batch);
    let send = |stage: u32| {
        let one = |replica: u32| {
            let rates =
                (0..tp).map(|t| rate(device(stage, replica, t), device(stage + 1, replica, t), activation));
            activation / rates.fold(f64::INFINITY, f64::min)
        };
        (0..dp).map(one).sum::<f64>() / f64::from(dp)
    };
    let sends: Vec<f64> = (0..stages - 1).map(send).collect();
    let sync = |stage: u32| {
        let bytes = view.gradient_bytes(cuts[stage as usize], cuts[stage as usize + 1], tp);
        let n = f64::from(dp);
        let closing = rate(device(stage, dp - 1, 0), device(stage, 0, 0), bytes / n);
        if dp == 1 { 0.0 } else { 2.0 * (n - 1.0) / n * bytes / closing }
    };
    let syncs: Vec<f64> = (0..stages).map(sync).collect();
    let time = cost::estimate_s(&layers, &cuts, &sends, &syncs, micro_batches);
    let plan = uniform(view, micro_batch, tp, dp, &cuts)?;
    Some(Entrant { plan, own_estimate_s: Some(time) })
}
