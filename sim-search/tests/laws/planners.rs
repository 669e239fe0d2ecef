//! What every planner promises: the same answer each time, plans that are plans, estimates that are times; and that the judges
//! take them.

use crate::Small;
use sim_core::SimTime;
use sim_search::judge::{Judge, judge};
use sim_search::planners::{Limits, builtin};

#[test]
fn planners_propose_plans_that_are_judged_and_do_so_again() {
    let small = [
        Small { batch: 64, nodes: (2, 0), wan: None, changing: false },
        Small { batch: 32, nodes: (1, 2), wan: Some((10, 5)), changing: true },
    ];
    for small in small {
        let scenario = small.scenario();
        let limits = Limits { simulations: 40, ..Limits::default() };
        for planner in builtin() {
            let name = planner.about().name;
            let proposal =
                planner.propose(&scenario, &limits, &mut || true).unwrap_or_else(|e| panic!("{name}: {e}"));
            let again = planner.propose(&scenario, &limits, &mut || true).unwrap();
            assert_eq!(proposal, again, "{name}");
            assert!(!proposal.plans.is_empty() && proposal.candidates > 0, "{name}");
            for entrant in &proposal.plans {
                assert!(entrant.own_estimate_s.is_none_or(|s| s.is_finite() && s > 0.0), "{name}");
            }
            let verdict = judge(&scenario, &proposal.plans, Judge::Simulate, SimTime::ZERO)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(verdict.fits, "{name}");
            for other in Judge::ALL {
                let time = other.time_s(&scenario, &verdict.plan, SimTime::ZERO);
                // Metis knows one cut for all pipelines; no other judge declines.
                let answered = time.is_ok_and(|s| s.is_finite() && s > 0.0);
                assert!(answered || other == Judge::Metis, "{name} under {}", other.name());
            }
            // Without contention nothing is slower.
            let alone = Judge::ContentionFree.time_s(&scenario, &verdict.plan, SimTime::ZERO).unwrap();
            assert!(alone <= verdict.time_s * 1.001, "{name}: {alone} against {}", verdict.time_s);
        }
    }
}
