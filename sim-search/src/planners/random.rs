//! Plans at random, simulated, the best kept: what a search must beat.

use super::genome::{Genome, stream};
use super::trial::trials;
use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, ranked};
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
        let mut rng = stream(0, 1);
        let mut found = Vec::new();
        let simulated = trials(scenario, limits, go_on, |view, time_of| {
            let plan = Genome::random(view, &mut rng)?.plan(view)?;
            let own_estimate_s = Some(time_of(&plan)?);
            found.push(Entrant { plan, own_estimate_s });
            Some(())
        });
        ranked(found, simulated, "no plan at random fits into memory")
    }
}
