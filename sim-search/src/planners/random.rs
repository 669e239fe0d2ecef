//! Plans at random, simulated, the best kept: what a search must beat.

use super::genome::{Genome, stream};
use super::trial::Trials;
use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View, ranked};
use sim_models::lower::Fabric;
use sim_models::scenario::Scenario;

/// See the head of this file.
pub struct Random;

impl Planner for Random {
    fn about(&self) -> About {
        About {
            name: "random",
            about: "plans at random with a fixed seed, simulated, the best kept",
            source: "the baseline of every search",
            leaves_out: "",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let fabric = Fabric::new(scenario);
        let mut trials = Trials::new(&view, &fabric, limits.at);
        let mut rng = stream(0, 1);
        let (mut found, mut simulated) = (Vec::new(), 0);
        // Most draws make no plan that fits.
        for _ in 0..limits.simulations * 20 {
            if simulated == limits.simulations || !go_on() {
                break;
            }
            let Some(plan) = Genome::random(&view, &mut rng).and_then(|g| g.plan(&view)) else { continue };
            if let Some(time) = trials.time_s(&plan, None) {
                simulated += 1;
                found.push(Entrant { plan, own_estimate_s: Some(time) });
            }
        }
        ranked(found, simulated, "no plan at random fits into memory")
    }
}
