//! The searches of this crate: ours, and the one that simulates every plan.

use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal};
use crate::{Method, Options, Progress, Stopped, search};
use sim_models::scenario::Scenario;

/// Rounds of 256 plans that `exhaustive` takes from the beginning of the space in a comparison, where most spaces are far too
/// large for it; `plan --planner exhaustive` has no such bound.
const MOST_ROUNDS: u64 = 40;

/// See [`crate::search()`].
pub(super) struct Own(pub(super) Method);

impl Planner for Own {
    fn about(&self) -> About {
        match self.0 {
            Method::BranchAndBound => About {
                name: "tideplan",
                about: "branch and bound over unlike pipelines, every plan of worth simulated",
                source: "docs/search.md",
                leaves_out: "see SHORTCOMINGS.md",
            },
            Method::Exhaustive => About {
                name: "exhaustive",
                about: "every plan of the space simulated, without bound or dynamic program, in the order of the space",
                source: "docs/space.md",
                leaves_out: "what its number of simulations does not reach: all but small spaces",
            },
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let options = Options {
            threads: limits.threads,
            max_simulations: scenario.search.max_simulations,
            top: 1,
            at: limits.at,
            method: self.0,
            ..Options::default()
        };
        let bounded = self.0 == Method::Exhaustive;
        let mut stop = |p: &Progress| {
            if bounded && p.rounds >= MOST_ROUNDS {
                return Some(Stopped::Simulations);
            }
            (!go_on()).then_some(Stopped::Seconds)
        };
        let found = search(scenario, &options, &mut stop);
        let entrant = |r: &crate::Ranked| Entrant {
            plan: r.plan.clone(),
            own_estimate_s: Some(r.time_ps as f64 / 1e12),
        };
        match found.ranked.first() {
            Some(best) => Ok(Proposal { plans: vec![entrant(best)], candidates: found.counts.considered }),
            None => Err(match found.stopped {
                Stopped::Seconds => NoProposal::OutOfTime,
                Stopped::Done => NoProposal::None("nothing fits into memory".into()),
                _ => NoProposal::None("none that fits among those simulated".into()),
            }),
        }
    }
}
