//! A search as a whole.

use crate::{Small, any_small};
use proptest::prelude::*;
use sim_models::scenario::Scenario;
use sim_search::{Found, Options, Stopped, search};

fn found(scenario: &Scenario, threads: usize) -> Found {
    let max_simulations = scenario.search.max_simulations;
    let options = Options { threads, max_simulations, top: 3, ..Options::default() };
    search(scenario, &options, &mut |_| None)
}

fn check(found: &Found) {
    let c = &found.counts;
    let pruned: u64 = c.pruned.values().sum();
    assert_eq!(c.considered, pruned + c.bounded + c.simulated + c.expanded + c.open, "{c:?}");
    if found.stopped == Stopped::Done {
        assert_eq!(c.open, 0);
    }
    if let Some(best) = found.ranked.first() {
        assert!(found.lower_bound_ps <= best.time_ps);
        assert!(found.ranked.is_sorted(), "best first, ties by the plan");
        let gap = found.gap().expect("there is a plan");
        assert!((0.0..1.0).contains(&gap));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_counts_add_up_and_threads_change_nothing(small in any_small()) {
        let scenario = small.scenario();
        let one = found(&scenario, 1);
        check(&one);
        for threads in [2, 4] {
            let other = found(&scenario, threads);
            prop_assert_eq!(&one.ranked, &other.ranked);
            prop_assert_eq!(&one.counts, &other.counts);
            prop_assert_eq!(one.digest.to_string(), other.digest.to_string());
            prop_assert_eq!((one.lower_bound_ps, one.rounds), (other.lower_bound_ps, other.rounds));
        }
    }
}

/// Eight GPUs and a short batch, pinned: a change here is a change of the answer that users see, on some machine or on all.
#[test]
fn a_small_search_gives_its_golden_answer() {
    let small = Small { batch: 16, nodes: (1, 1), wan: Some((20, 5)), changing: true };
    let answer = found(&small.scenario(), 2);
    check(&answer);
    let best = &answer.ranked[0];
    let got = (best.time_ps, answer.counts.considered, answer.digest.to_string());
    assert_eq!(got, (879_509_779_352, 1310, "8fa33c681554e20ea1dc80137b1f493f".to_string()));
}

#[test]
fn nothing_fits_says_what_came_nearest() {
    let mut scenario = Small { batch: 16, nodes: (1, 0), wan: None, changing: false }.scenario();
    scenario.groups[0].gpu.memory = sim_models::units::Bytes(2 << 30);
    let answer = found(&scenario, 1);
    check(&answer);
    assert!(answer.ranked.is_empty() && answer.gap().is_none());
    let miss = answer.nearest_miss.expect("memory threw plans out");
    assert!(miss.lacking_bytes > 0 && miss.pipeline.contains("A100-40"), "{miss:?}");
}
