//! Markov chain Monte Carlo over plans, as FlexFlow searches (arXiv 1807.05358, section 6): from a plan, change one thing at
//! random; take what is faster by the simulator, and what is slower with probability exp(-beta x slowdown); start again from
//! the best when a quarter of the simulations went by without one.

use super::genome::{Genome, fraction, stream};
use super::trial::trials;
use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, ranked};
use sim_models::scenario::Scenario;

/// See the head of this file.
pub struct Mcmc;

/// A plan slower by a tenth of the best is taken once in e times.
const BETA: f64 = 10.0;

impl Planner for Mcmc {
    fn about(&self) -> About {
        About {
            name: "mcmc",
            about: "Markov chain Monte Carlo over plans, the simulator as its cost, a fixed seed",
            source: "Jia et al., MLSys'19, arXiv 1807.05358, section 6",
            leaves_out: "its operator-level space and its own simulator: the space is `random`'s, the cost this program's",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let mut rng = stream(0, 2);
        let mut found = Vec::new();
        let mut at: Option<(Genome, f64)> = None;
        let mut best: Option<(Genome, f64)> = None;
        let mut since = 0;
        let simulated = trials(scenario, limits, go_on, |view, time_of| {
            let genome = match &at {
                Some((genome, _)) => genome.changed(view, &mut rng),
                None => Genome::random(view, &mut rng)?,
            };
            let plan = genome.plan(view)?;
            let time = time_of(&plan)?;
            since += 1;
            let takes = match &at {
                None => true,
                Some((_, now)) => time <= *now || fraction(&mut rng) < libm::exp(-BETA * (time / now - 1.0)),
            };
            if best.as_ref().is_none_or(|(_, least)| time < *least) {
                best = Some((genome.clone(), time));
                found.push(Entrant { plan, own_estimate_s: Some(time) });
                since = 0;
            }
            if takes {
                at = Some((genome, time));
            }
            if since > limits.simulations / 4 {
                (at, since) = (best.clone(), 0);
            }
            Some(())
        });
        ranked(found, simulated, "no plan at random fits into memory")
    }
}
