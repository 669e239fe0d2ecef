//! Ours: the search of this crate.

use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal};
use crate::{Options, Progress, Stopped, search};
use sim_models::scenario::Scenario;

/// See [`crate::search()`].
pub(super) struct Tideplan;

impl Planner for Tideplan {
    fn about(&self) -> About {
        About {
            name: "tideplan",
            about: "branch and bound over unlike pipelines, every plan of worth simulated",
            source: "docs/search.md",
            leaves_out: "see SHORTCOMINGS.md",
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
            ..Options::default()
        };
        let mut stop = |_: &Progress| (!go_on()).then_some(Stopped::Seconds);
        let found = search(scenario, &options, &mut stop);
        let entrant = |r: &crate::Ranked| Entrant {
            plan: r.plan.clone(),
            own_estimate_s: Some(r.time_ps as f64 / 1e12),
        };
        match found.ranked.first() {
            Some(best) => Ok(Proposal { plans: vec![entrant(best)], candidates: found.counts.considered }),
            None if found.stopped == Stopped::Seconds => Err(NoProposal::OutOfTime),
            None => Err(NoProposal::None("nothing fits into memory".into())),
        }
    }
}
