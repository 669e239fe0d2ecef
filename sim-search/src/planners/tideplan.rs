//! The searches of this crate: ours, and the one that simulates every plan.

use super::metis::{World, best};
use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View};
use crate::judge::Judge;
use crate::{Method, Options, Progress, Stopped, search};
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;

/// Rounds of 256 plans that `exhaustive` takes from the beginning of the space in a comparison, where most spaces are far too
/// large for it; `plan --planner exhaustive` has no such bound.
const MOST_ROUNDS: u64 = 40;

/// Plans of a search that are looked at when another judge than the simulation will choose, and of each other source.
const CANDIDATES: usize = 64;

/// See [`crate::search()`]. Where another judge will choose, ours proposes what that one likes best of what it finds: of the plans
/// that it simulated to their end, and under Metis's form of the best that this form has.
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
            top: if limits.judge == Judge::Simulate { 1 } else { CANDIDATES },
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
        if limits.judge != Judge::Simulate {
            let mut plans: Vec<Plan> = found.ranked.iter().map(|r| r.plan.clone()).collect();
            let mut candidates = found.counts.considered;
            if limits.judge == Judge::Metis && self.0 == Method::BranchAndBound {
                let view = View::new(scenario, limits.at);
                let asked = best::Asked {
                    global_batch: scenario.training.global_batch,
                    most_stages: scenario.search.max_stages as usize,
                    as_pipelines: true,
                };
                if let Ok(world) = World::new(&view) {
                    let list = best::best(&world.profile, &world.cluster, asked, &mut || go_on());
                    candidates += list.len() as u64;
                    plans
                        .extend(list.iter().filter_map(|(_, plan)| world.plan(&view, plan)).take(CANDIDATES));
                }
            }
            return chosen_by(scenario, limits, plans, candidates);
        }
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

/// The plans that have a time under the judge, in its order, with its time as the estimate.
fn chosen_by(
    scenario: &Scenario,
    limits: &Limits,
    plans: Vec<Plan>,
    candidates: u64,
) -> Result<Proposal, NoProposal> {
    let timed = |plan: Plan| {
        let own_estimate_s = Some(limits.judge.time_s(scenario, &plan, limits.at).ok()?);
        Some(Entrant { plan, own_estimate_s })
    };
    let nothing = format!("none of its plans has a time under `{}`", limits.judge.name());
    super::ranked(plans.into_iter().filter_map(timed).collect(), candidates, &nothing)
}
