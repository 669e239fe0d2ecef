//! A search as a whole.

use crate::small::Tiny;
use crate::{Small, any_small, any_tiny};
use proptest::prelude::*;
use sim_models::scenario::Scenario;
use sim_search::verify::{Certificate, Flaw, verify};
use sim_search::{Fate, Found, Options, Stopped, merge, search, search_from};

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
    assert_eq!(got, (796_012_808_534, 845, "a91d64be7958cbcb310f66a068e13c00".to_string()));
}

/// 1,024 GPUs. Sixteen shards that may simulate as much as one search each leave no larger gap than it, and none is idle.
#[test]
fn sixteen_shards_leave_no_larger_gap_than_one() {
    let scenario = Small { batch: 256, nodes: (64, 192), wan: None, changing: false }.scenario();
    for max_simulations in [60, 180, 400] {
        let options = Options { max_simulations, ..Options::default() };
        let whole = search(&scenario, &options, &mut |_| None);
        let part = |i| search(&scenario, &Options { shard: Some((i, 16)), ..options }, &mut |_| None);
        let parts: Vec<Found> = (0..16).map(part).collect();
        for part in &parts {
            check(part);
            assert!(part.counts.considered >= 16 && part.dealt == parts[0].dealt);
        }
        let merged = merge(parts, options.top).expect("parts of one deal");
        check(&merged);
        assert!(merged.ranked[0].value <= whole.ranked[0].value, "{max_simulations}");
        assert!(merged.gap() <= whole.gap(), "{max_simulations}: {:?}, {:?}", merged.gap(), whole.gap());
    }
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

/// Stops and hands out its state at a round, as a search that is killed there would have left it.
struct Killed {
    at: u64,
    rounds: u64,
    saved: Option<sim_search::Saved>,
}

impl sim_search::Watch for Killed {
    fn stop(&mut self, progress: &sim_search::Progress) -> Option<Stopped> {
        self.rounds = progress.rounds;
        (progress.rounds >= self.at && self.saved.is_some()).then_some(Stopped::Interrupt)
    }

    fn wants_state(&mut self) -> bool {
        true
    }

    fn state(&mut self, saved: sim_search::Saved) {
        // Through text, as a file would.
        let text = serde_json::to_string(&saved).expect("it is plain data");
        self.saved = Some(serde_json::from_str(&text).expect("it was just written"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_search_that_goes_on_ends_as_one_in_one_go(small in any_small(), at in 0u64..40) {
        let scenario = small.scenario();
        let options = Options { threads: 1, max_simulations: 150, top: 3, ..Options::default() };
        let whole = search(&scenario, &options, &mut |_| None);
        let mut killed = Killed { at, rounds: 0, saved: None };
        search_from(&scenario, &options, None, &mut killed).expect("a new search");
        // Before the first state there is nothing to go on from.
        let Some(saved) = killed.saved else { return Ok(()) };
        let mut on = |_: &sim_search::Progress| None;
        let other = search_from(&scenario, &Options { top: 4, ..options }, Some(saved.clone()), &mut on);
        prop_assert!(other.is_err(), "other options");
        let rest = search_from(&scenario, &options, Some(saved), &mut on).expect("the same search");
        prop_assert_eq!(&whole.ranked, &rest.ranked);
        prop_assert_eq!(&whole.counts, &rest.counts);
        prop_assert_eq!((whole.digest, whole.rounds, whole.lower_bound_ps, whole.stopped),
            (rest.digest, rest.rounds, rest.lower_bound_ps, rest.stopped));
    }

    #[test]
    fn shards_together_find_what_one_search_finds(tiny in any_tiny()) {
        let scenario = tiny.scenario();
        let options = Options { threads: 1, max_simulations: u64::MAX, ..Options::default() };
        let whole = search(&scenario, &options, &mut |_| None);
        for of in [1, 3, 8] {
            let part = |i| search(&scenario, &Options { shard: Some((i, of)), ..options }, &mut |_| None);
            let parts: Vec<Found> = (0..of).map(part).collect();
            parts.iter().for_each(check);
            let merged = merge(parts, options.top).expect("parts of one deal");
            check(&merged);
            prop_assert_eq!(whole.ranked.first(), merged.ranked.first());
            prop_assert!(merged.ranked.windows(2).all(|pair| pair[0].key != pair[1].key), "no plan twice");
            prop_assert_eq!((whole.lower_bound_ps, whole.stopped), (merged.lower_bound_ps, merged.stopped));
            prop_assert_eq!(whole.plans_represented, merged.plans_represented);
        }
    }

    #[test]
    fn a_shard_that_goes_on_ends_as_one_in_one_go(small in any_small(), at in 0u64..20) {
        let scenario = small.scenario();
        let options = Options { threads: 1, max_simulations: 150, shard: Some((1, 3)), ..Options::default() };
        let whole = search(&scenario, &options, &mut |_| None);
        let mut killed = Killed { at, rounds: 0, saved: None };
        search_from(&scenario, &options, None, &mut killed).expect("a new search");
        let Some(saved) = killed.saved else { return Ok(()) };
        let rest = search_from(&scenario, &options, Some(saved), &mut |_: &_| None).expect("the same search");
        prop_assert_eq!((&whole.ranked, &whole.counts), (&rest.ranked, &rest.counts));
        prop_assert_eq!((whole.digest, whole.rounds, whole.lower_bound_ps, whole.stopped),
            (rest.digest, rest.rounds, rest.lower_bound_ps, rest.stopped));
    }

}

/// Here what is known of a part is looser than what is known of it wherever it is: what one band of numbers of pipelines leaves out
/// by that, the next must not take as given.
#[test]
fn no_number_of_pipelines_falls_between_two_bands() {
    let tiny = Tiny {
        model: (3, 256),
        experts: None,
        batch: (6, vec![1]),
        groups: vec![("H100", 2, 2, 'b'), ("A100-40", 1, 4, 'b')],
        memory: None,
        network: (31, 0),
        wan: (50, 0),
        changing: 0,
        leaves: None,
        ways: vec!["zero = [0, 1]", "overlap_gradients = [true]"],
    };
    let scenario = tiny.scenario();
    let options = Options { threads: 1, max_simulations: u64::MAX, log: true, ..Options::default() };
    let certificate = Certificate::of(&search(&scenario, &options, &mut |_| None));
    assert!(verify(&scenario, options.at, &certificate).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn certificates_hold_and_false_ones_do_not(tiny in any_tiny()) {
        let scenario = tiny.scenario();
        let options = Options { threads: 1, max_simulations: u64::MAX, log: true, ..Options::default() };
        let found = search(&scenario, &options, &mut |_| None);
        let certificate = Certificate::of(&found);
        let verified = verify(&scenario, options.at, &certificate);
        prop_assert!(verified.is_ok(), "{:?}", verified);
        let Some(best) = &certificate.best else { return Ok(()) };
        // A time that is not the plan's.
        let mut other = certificate.clone();
        other.best.as_mut().expect("there is one").time_ps += 1;
        prop_assert!(matches!(verify(&scenario, options.at, &other), Err(Flaw::Best(_))));
        // A bound below the answer.
        let mut other = certificate.clone();
        if let Some((_, fate)) = other.nodes.iter_mut().find(|(_, f)| matches!(f, Fate::Bound(_))) {
            *fate = Fate::Bound(best.time_ps / 2);
            let flaw = matches!(verify(&scenario, options.at, &other), Err(Flaw::Undercuts { .. }));
            prop_assert!(flaw, "a bound below the answer");
        }
        // An answer that no bound supports.
        let mut other = certificate.clone();
        other.lower_bound_ps = best.time_ps + 1;
        let flaw = matches!(verify(&scenario, options.at, &other), Err(Flaw::Order { .. }));
        prop_assert!(flaw, "a bound above the answer");
        // The best plan left out of the nodes, and a worse one said to be the best.
        if let Some(worse) = found.ranked.iter().find(|r| r.time_ps > best.time_ps) {
            let mut other = certificate.clone();
            other.nodes.retain(|(key, _)| *key != best.key);
            other.lower_bound_ps = worse.time_ps;
            other.nodes.iter_mut().for_each(|(_, fate)| {
                if let Fate::Bound(bound) | Fate::Rest(bound) = fate {
                    *bound = (*bound).max(worse.time_ps);
                }
            });
            other.best = Some(worse.clone());
            prop_assert!(verify(&scenario, options.at, &other).is_err());
        }
    }
}
