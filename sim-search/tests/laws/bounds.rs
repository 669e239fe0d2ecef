//! Bounds against simulation: random templates, cuts, shares, placements, clusters and traces.

use crate::any_small;
use proptest::prelude::*;
use sim_core::SimTime;
use sim_models::iteration::{Options, simulate};
use sim_models::plan::{Plan, Schedule};
use sim_search::cost::{Apart, Rings, TemplateCost, View};
use sim_search::place::{Part, Place, place};
use sim_search::space::{kinds, templates};

/// A cut of `layers` into `stages` from numbers that say where.
fn cut(layers: usize, stages: usize, at: &[usize]) -> Vec<usize> {
    let mut borders: Vec<usize> = vec![0, layers];
    let mut free: Vec<usize> = (1..layers).collect();
    for pick in at.iter().take(stages - 1) {
        borders.push(free.remove(pick % free.len()));
    }
    borders.sort_unstable();
    borders
}

/// Bounds are held against times of at least this many plans; set `TIDEPLAN_BOUND_CASES` for a long run.
fn cases() -> u32 {
    std::env::var("TIDEPLAN_BOUND_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(500)
}

#[test]
fn no_simulated_time_is_below_a_bound() {
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (
        any_small(),
        prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(0usize..100, 3), 1u32..5),
            1..3,
        ),
        any::<prop::sample::Index>(),
        any::<bool>(),
        any::<prop::sample::Index>(),
    );
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let checked = std::cell::Cell::new(0);
    let result = runner.run(&strategy, |(small, parts, size, stages_first, start)| {
        let mut scenario = small.scenario();
        let kinds = kinds(&scenario);
        let shapes = templates(&kinds, 3);
        let micro_batch = *size.get(&[1u32, 2, 4]);
        let how = if stages_first { Place::Stages } else { Place::Pipelines };
        let layers = scenario.model.layers() as usize;
        let chosen: Vec<_> = parts
            .iter()
            .map(|(t, at, n)| {
                let template = t.get(&shapes);
                (template, cut(layers, template.stages.len(), at), *n)
            })
            .collect();
        // One or two pipelines of each; the batch is what they train.
        let placed: Vec<Part<'_>> = chosen
            .iter()
            .map(|(template, borders, n)| Part { template, borders, replicas: 1 + n % 2, micro_batches: *n })
            .collect();
        let batch: u32 = placed.iter().map(|p| p.replicas * p.micro_batches * micro_batch).sum();
        scenario.training.global_batch = batch;
        let all: u32 = placed.iter().map(|p| p.replicas).sum();
        let rings = Rings::new(&scenario, &kinds);
        let mut bound = 0;
        for part in &placed {
            let far = part.template.stages.iter().all(|s| part.replicas * s.tp >= 4);
            let apart = if how == Place::Stages && far { Apart::Always } else { Apart::Maybe };
            let cost = TemplateCost::new(
                &scenario,
                &kinds,
                part.template,
                micro_batch,
                Schedule::OneFOneB,
                apart,
                part.replicas,
            );
            let Ok(cost) = cost else { return Ok(()) };
            let zones = |p: &Part<'_>| -> Vec<&str> {
                p.template.stages.iter().flat_map(|s| kinds[s.kind as usize].zones(&scenario)).collect()
            };
            let mine = zones(part);
            let across = placed.iter().any(|p| zones(p).iter().all(|z| !mine.contains(z)));
            let sync = rings.sync(&cost, part.replicas, all, across, View::Bound);
            let this = cost.partition_bound(part.borders, part.micro_batches, &sync);
            // The least over all cuts is below that of this one, where this one fits.
            if cost.partition_excess(part.borders, part.micro_batches) <= 0 {
                let least = cost.bound(part.micro_batches, &sync, View::Bound).expect("this cut fits");
                prop_assert!(least <= this);
                prop_assert!(cost.within(part.micro_batches, &sync, View::Bound, least));
                prop_assert!(!cost.within(part.micro_batches, &sync, View::Bound, least - 1));
            }
            bound = bound.max(this);
        }
        let Some(pipelines) = place(&scenario, &kinds, &placed, how) else { return Ok(()) };
        let plan = Plan { micro_batch, pipelines, ..Plan::default() };
        let at = SimTime::from_ps(start.index(30) as u64 * 1_000_000_000_000);
        let iteration = simulate(&scenario, &plan, &Options { at, fold: true });
        let iteration = iteration.map_err(|e| TestCaseError::fail(format!("{e}")))?;
        prop_assert!(bound <= iteration.time.as_ps(), "bound {bound} above {}", iteration.time.as_ps());
        checked.set(checked.get() + 1);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(checked.get() > cases() / 10, "only {} plans were simulated", checked.get());
}
