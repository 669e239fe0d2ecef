//! Piper (NeurIPS'21): layers into stages, TP and data parallelism of each, for the least time a sample of the slowest stage
//! that fits into memory with the activations that its place in the pipeline keeps.

use super::chain::{Chain, best_cut};
use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View, ranked, staged};
use sim_models::scenario::Scenario;

/// See the head of this file.
pub struct Piper;

impl Planner for Piper {
    fn about(&self) -> About {
        About {
            name: "piper",
            about: "a dynamic program for the least time a sample of the slowest stage, within memory",
            source: "Tarnawski et al., NeurIPS'21",
            leaves_out: "general graphs (a transformer is a chain) and data parallelism that differs between stages; warm-up and \
                         drain, which its objective does not know; that GPUs differ",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let (mut found, mut candidates) = (Vec::new(), 0);
        for chain in Chain::all(&view) {
            for stages in chain.depths() {
                if !go_on() {
                    return ranked(found, candidates, "out of time");
                }
                candidates += 1;
                let tables: Vec<_> = (0..stages).map(|s| chain.table(s, stages)).collect();
                let m = f64::from(chain.micro_batches);
                // Each boundary is crossed down and up.
                let load = |s: usize, c: super::chain::StageTime| {
                    let hops = f64::from(u8::from(s > 0)) + f64::from(u8::from(s + 1 < stages));
                    Some(c.step_s + 2.0 * hops * chain.send_s + c.sync_s / m)
                };
                let joined = |a: f64, b: f64| a.max(b);
                let cut = best_cut(&chain, &tables, chain.width(), &load, &joined);
                let Some(cut) = cut else { continue };
                let plan = staged(&view, chain.micro_batch, &cut.tps, chain.dp, &cut.cuts);
                // Its objective is the steady state: so many samples at that pace.
                let time = cut.value * m;
                found.extend(plan.map(|plan| Entrant { plan, own_estimate_s: Some(time) }));
            }
        }
        ranked(found, candidates, "no stages fit the memory of the smallest GPU")
    }
}
