//! What every planner promises: the same answer each time, plans that are plans, estimates that are times; and that the judges
//! take them.

use crate::Small;
use sim_core::SimTime;
use sim_models::plan::{PipelineGroup, Plan};
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

/// Where a cluster is Sailor's own, its planner's answer is known (seconds: docs/sailor.md).
#[test]
fn sailor_finds_what_sailor_found() {
    for (name, seconds) in
        [("opt350-a100x32", 8.097), ("opt350-a100x32-v100x96", 5.260), ("opt350-a100x128-v100x384", 1.902)]
    {
        let loaded = scenarios::load(name, &scenarios::Overrides::default()).unwrap();
        let proposal = builtin()
            .iter()
            .find(|p| p.about().name == "sailor")
            .unwrap()
            .propose(&loaded.scenario, &Limits::default(), &mut || true)
            .unwrap();
        let own = proposal.plans[0].own_estimate_s.unwrap();
        assert!((own / seconds - 1.0).abs() < 0.01, "{name}: {own} s against {seconds} s");
        // And it is the plan that the built-in carries from Sailor's own answers, up to the order of devices.
        let carried = loaded.scenario.plan.clone().unwrap();
        let shape = |plan: &Plan| -> Vec<(u32, Vec<(u32, u32)>)> {
            let stages = |p: &PipelineGroup| p.stages.iter().map(|s| (s.layers.first(), s.tp)).collect();
            let mut all: Vec<_> = plan.pipelines.iter().map(|p| (p.replicas, stages(p))).collect();
            all.sort();
            all
        };
        assert_eq!(shape(&proposal.plans[0].plan), shape(&carried), "{name}");
    }
}
