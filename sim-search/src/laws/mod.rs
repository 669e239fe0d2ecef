//! What the search rests on, of random scenarios: no bound of a partial plan is above the time of any plan below it, and
//! the pruned search finds what simulating every plan finds.

pub(crate) mod small;

use crate::space::kinds;
use crate::tree::{Key, Tree};
use crate::{Method, Options, Rule, Stopped, search};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use sim_core::SimTime;
use sim_models::iteration::{self, simulate};
use sim_models::plan::Plan;
use small::{Tiny, any_small, any_tiny};

/// Cases of a law, unless the environment says otherwise.
fn cases(variable: &str, usual: u32) -> ProptestConfig {
    let cases = std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_global_rejects: 1 << 20,
        ..ProptestConfig::default()
    }
}

/// The same cases each time, others each time where their number is given.
fn runner(variable: &str, config: ProptestConfig) -> TestRunner {
    if std::env::var_os(variable).is_some() {
        return TestRunner::new(config);
    }
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Numbers that choose a way down the tree.
type Picks = Vec<prop::sample::Index>;

/// A way down the tree to a plan: every node on it with its bound.
fn way_down<'t>(tree: &'t Tree<'t>, picks: &Picks) -> Option<Vec<(u64, Key)>> {
    let mut picks = picks.iter();
    let mut pick = |n: usize| picks.next().map_or(0, |p| p.index(n));
    if tree.roots.is_empty() {
        return None;
    }
    let root = &tree.roots[pick(tree.roots.len())];
    let mut key = root.key();
    let mut way = Vec::new();
    let bounds = crate::search::Bounds { tree };
    let mut add = |tree: &Tree<'_>, key: &Key| {
        let parts = tree.parts(root, key);
        let quick = bounds.quick(root, &parts, key.len() - 2);
        way.push((quick, key.clone()));
        if !parts.is_empty() && quick < u64::MAX {
            way.push((bounds.combined(root, &parts, key.len() - 2, (quick, None), u64::MAX).0, key.clone()));
        }
    };
    add(tree, &key);
    for menu in &root.menus {
        let at = pick(menu.len() + 1);
        key.push(if at == 0 { 0 } else { menu[at - 1].0 });
        add(tree, &key);
    }
    let parts = tree.parts(root, &key);
    if !tree.is_new(root, &parts) {
        return None;
    }
    let mut left = tree.micro_batches(root.frame);
    for p in &parts {
        // Often all that fit.
        let numbers = &tree.choices[*p].numbers;
        key.push(if pick(2) == 0 { 0 } else { numbers[0] - numbers[pick(numbers.len())] });
    }
    let counts = tree.counts(&parts, &key);
    if !tree.is_new_with(root, &parts, &counts) {
        return None;
    }
    let sharers = tree.sharers(root, &parts, &[], root.menus.len());
    let anywhere = tree.beside_each_other(root, &parts, &counts);
    let on = tree.on_devices(root, &parts, &counts).ok()?;
    way.push((bounds.busy(root, &parts, &counts), key.clone()));
    way.push((bounds.in_turn(root, &anywhere, (1, None), u64::MAX).0, key.clone()));
    way.push((bounds.in_turn(root, &on, (1, None), u64::MAX).0, key.clone()));
    let (mut bound, mut beside, mut here) = (0, 0, 0);
    for (i, p) in parts.iter().enumerate() {
        let others: u32 = counts[i + 1..].iter().sum();
        let most = left.checked_sub(others).filter(|m| *m >= counts[i])?;
        let last = i + 1 == parts.len();
        let mine = if last { most } else { counts[i] + pick((most - counts[i] + 1) as usize) as u32 };
        let mine = if last { mine } else { mine - mine % tree.choices[*p].cost.team };
        if !mine.is_multiple_of(tree.choices[*p].cost.team) {
            return None;
        }
        left -= mine;
        let band = tree.choices[*p].bands.iter().find(|b| b.fewest <= counts[i])?;
        let any = tree.pipelines(root.frame, *p, crate::tree::of_band(sharers[i], band));
        // Those of a band stand for any number of it.
        let same = any.pipelines == counts[i];
        let total = if same { mine } else { mine.div_ceil(counts[i]) * any.pipelines };
        bound = bound.max(any.time(&tree.rings, total)?);
        beside = beside.max(anywhere[i].time(&tree.rings, mine)?);
        here = here.max(on[i].time(&tree.rings, mine)?);
        key.push(mine);
    }
    // Its numbers of pipelines are given by the time that they take.
    if let Some((before, _)) = way.iter().max() {
        let mut given = false;
        // A bound is to a five-hundredth.
        let within = before + before / 500 + 2;
        bounds.numbers(root, &parts, (None, within), &[], &mut |numbers| {
            given |= numbers == &counts[..];
            !given
        });
        assert!(given, "{counts:?} of {key:?} is not among those within {within}");
    }
    way.push((bound, key.clone()));
    way.push((beside, key.clone()));
    way.push((here, key.clone()));
    let placed = tree.place(root, &parts, &counts, &key[tree.head() + parts.len()..]).ok()?;
    way.push((placed.bound(u64::MAX)?, key.clone()));
    let mut bound = 0;
    let mut inner = Vec::new();
    for p in &placed.parts {
        // Cuts as the search lists them.
        let cuts = p.of.cost.cuts(&p.views, None, u64::MAX, 1 << 16).ok()?;
        let (time, cut) = &cuts[pick(cuts.len())];
        bound = bound.max(*time);
        inner.extend_from_slice(cut);
    }
    key.extend(inner);
    way.push((bound, key));
    Some(way)
}

#[test]
fn no_bound_of_a_partial_plan_is_above_a_plan_below_it() {
    let config = cases("TIDEPLAN_BOUND_CASES", 500);
    let wanted = config.cases;
    let either = prop_oneof![
        1 => any_small().prop_map(|s| s.scenario()),
        1 => any_tiny().prop_map(|t| t.scenario()),
        // Enough micro-batches to fill pipelines.
        1 => any_tiny().prop_map(|t| Tiny { batch: (6 * t.batch.0, t.batch.1), ..t }.scenario())
    ];
    let picks = prop::collection::vec(any::<prop::sample::Index>(), 32);
    let mut runner = runner("TIDEPLAN_BOUND_CASES", config);
    let (checked, all) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let law = |(scenario, ways, start): (sim_models::scenario::Scenario, Vec<Picks>, prop::sample::Index)| {
        let kinds = kinds(&scenario);
        let tree = Tree::open(&scenario, &kinds, true);
        for picks in &ways {
            let Some(way) = way_down(&tree, picks) else { continue };
            let (_, key) = way.last().expect("a plan");
            let head = tree.head();
            let root = tree.root(key).expect("a root");
            let parts = tree.parts(root, key);
            let (counted, shared) = (head + parts.len(), head + 2 * parts.len());
            let placed = tree.place(root, &parts, &tree.counts(&parts, key), &key[counted..shared]);
            let placed = placed.expect("it was placed");
            let at = SimTime::from_ps(start.index(30) as u64 * 1_000_000_000_000);
            let simulated = |inner: &[u32]| -> Result<(u64, Plan), TestCaseError> {
                let plan = placed.plan(inner);
                let iteration = simulate(&scenario, &plan, &iteration::Options { at, fold: true });
                let iteration = iteration.map_err(|e| TestCaseError::fail(format!("{e}: {key:?}")))?;
                Ok((iteration.time.as_ps(), plan))
            };
            // Of the cuts with the least bound that is nearest.
            let best = placed.best_cuts().expect("some cut fits");
            let ((time, plan), value) = (simulated(&best)?, placed.value(&best));
            prop_assert!(value <= time, "{key:?}: bound {value} of {best:?} above {time} of {plan:?}");
            let (time, plan) = simulated(&key[shared..])?;
            for (bound, node) in &way {
                prop_assert!(*bound <= time, "{node:?}: bound {bound} above {time} of {plan:?}");
            }
            // Nor is it left out where only what is as fast is looked at.
            let (counts, bounds) = (tree.counts(&parts, key), crate::search::Bounds { tree: &tree });
            let on = tree.on_devices(root, &parts, &counts).expect("it was placed");
            let in_turn = bounds.in_turn(root, &on, (0, None), time).0;
            prop_assert!(in_turn <= time, "{key:?}: bound {in_turn} above {time} of {plan:?}");
            let value = placed.value(&key[shared..]);
            prop_assert!(value <= time, "{key:?}: bound {value} above {time} of {plan:?}");
            let within = placed.within(time);
            let Some((_, views)) = within else {
                return Err(TestCaseError::fail(format!("{key:?}: not within {time}: {plan:?}")));
            };
            let mut inner = &key[shared..];
            for (p, views) in placed.parts.iter().zip(&views) {
                let (mine, rest) = inner.split_at(p.of.cost.stages.len() - 1);
                let cuts = p.of.cost.cuts(views, None, time, 1 << 16);
                let listed = cuts.is_ok_and(|cuts| cuts.iter().any(|(_, cut)| cut[..] == *mine));
                prop_assert!(listed, "{key:?}: {mine:?} is not listed within {time} of {plan:?}");
                inner = rest;
            }
            if let Ok(cuts) = placed.cuts(value, 1 << 14) {
                let listed = cuts.iter().any(|(time, inner)| *time == value && inner[..] == key[shared..]);
                prop_assert!(listed, "{key:?} is not listed within {value}");
                all.set(all.get() + 1);
            }
            checked.set(checked.get() + 1);
        }
        Ok(())
    };
    let strategy = (either, prop::collection::vec(picks, 3), any::<prop::sample::Index>());
    if let Err(error) = runner.run(&strategy, law) {
        panic!("{error}");
    }
    assert!(checked.get() > wanted, "only {} plans were simulated", checked.get());
    assert!(all.get() > wanted / 2, "only {} times the cuts of a plan were few", all.get());
}

/// Larger spaces are left to others.
const MOST_PLANS: u128 = 10_000;

#[test]
fn the_pruned_search_finds_what_simulating_every_plan_finds() {
    let mut runner = runner("TIDEPLAN_EXACT_CASES", cases("TIDEPLAN_EXACT_CASES", 200));
    let plans = std::cell::Cell::new(0);
    let law = |tiny: small::Tiny| {
        let scenario = tiny.scenario();
        let kinds = kinds(&scenario);
        let tree = Tree::open(&scenario, &kinds, false);
        prop_assume!(tree.plans_represented() <= MOST_PLANS);
        let options = Options { threads: 1, max_simulations: u64::MAX, top: 1, ..Options::default() };
        let all = search(&scenario, &Options { method: Method::Exhaustive, ..options }, &mut |_| None);
        let pruned = search(&scenario, &options, &mut |_| None);
        prop_assert_eq!((all.stopped, pruned.stopped), (Stopped::Done, Stopped::Done));
        prop_assert_eq!(all.ranked.first(), pruned.ranked.first());
        prop_assert_eq!(pruned.gap().unwrap_or(0.0), 0.0);
        // Every plan that is counted was simulated or thrown out; a share that is empty is none.
        let thrown = all.counts.pruned.iter().filter(|(rule, _)| **rule != Rule::TooFewMicroBatches);
        let thrown: u64 = thrown.map(|(rule, n)| n - tree.pruned.get(rule).unwrap_or(&0)).sum();
        prop_assert_eq!(all.plans_represented, u128::from(all.counts.simulated + thrown));
        plans.set(plans.get() + all.counts.simulated);
        Ok(())
    };
    if let Err(error) = runner.run(&any_tiny(), law) {
        panic!("{error}");
    }
    eprintln!("{} plans simulated", plans.get());
}
