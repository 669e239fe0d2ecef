//! Megatron-LM's rules of thumb (arXiv 2104.04473, section 3): "takeaways" that people follow by hand.
//!
//! 1. Tensor parallelism within a node, up to its size; pipelines across nodes.
//! 2. As little tensor x pipeline parallelism as lets the model fit; data parallelism for the rest.
//! 3. The micro-batch b that is least in equation 1: (b'/b + p - 1) x (tf(b) + tb(b)), with b' samples a pipeline.

use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View, uniform};
use sim_models::scenario::Scenario;

/// See the head of this file.
pub struct Megatron;

impl Planner for Megatron {
    fn about(&self) -> About {
        About {
            name: "megatron",
            about: "rules of thumb: TP inside a node, as little model parallelism as fits, data parallelism for the rest",
            source: "Narayanan et al., SC'21, arXiv 2104.04473, section 3",
            leaves_out: "that GPUs differ and that links do: it takes the slowest GPU and the smallest memory for all",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let devices = view.devices().len() as u32;
        // Least model parallelism first; of equal, TP before stages.
        let mut shapes: Vec<(u32, u32, u32)> = Vec::new();
        for tp in view.common_tps() {
            for stages in 1..=scenario.search.max_stages.min(devices / tp) {
                shapes.push((tp * stages, stages, tp));
            }
        }
        shapes.sort_unstable();
        let (mut plans, mut candidates) = (Vec::new(), 0);
        for (ways, stages, tp) in shapes {
            if !go_on() {
                break;
            }
            let dp = devices / ways;
            let Some(cuts) = view.block_cuts(stages as usize) else { continue };
            let mut best: Option<(f64, u32)> = None;
            for micro_batch in view.micro_batches() {
                let total = view.micro_batch_count(micro_batch);
                let Some(column) = view.slowest_column(micro_batch, tp).filter(|_| total >= dp) else {
                    continue;
                };
                candidates += 1;
                let each = total.div_ceil(dp);
                let fits = |s: usize| {
                    let layers = (cuts[s], cuts[s + 1]);
                    (0..view.pools.len())
                        .all(|p| view.fits(p, micro_batch, tp, layers, s, stages as usize, each))
                };
                if !(0..stages as usize).all(fits) {
                    continue;
                }
                // Of the slowest stage; all are alike but for the embedding and the head.
                let step = cuts.windows(2).map(|c| column.pass_s(c[0], c[1])).fold(0.0, f64::max);
                let time = f64::from(each + stages - 1) * step;
                if best.is_none_or(|(least, _)| time < least) {
                    best = Some((time, micro_batch));
                }
            }
            if let Some((time, micro_batch)) = best
                && let Some(plan) = uniform(&view, micro_batch, tp, dp, &cuts)
            {
                plans.push(Entrant { plan, own_estimate_s: Some(time) });
                // The rules stop at the first that fits; the next ones are there in case it does not after all.
                if plans.len() == 8 {
                    break;
                }
            }
        }
        if plans.is_empty() {
            return Err(NoProposal::None("no TP and depth at which the model fits on all GPUs alike".into()));
        }
        Ok(Proposal { plans, candidates })
    }
}
