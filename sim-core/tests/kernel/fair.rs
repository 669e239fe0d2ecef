//! Laws of the shared resources: the rates are max-min fair, the incremental solver is the full one, nothing is lost.

use crate::support::*;
use proptest::prelude::*;
use sim_core::resources::reference::{ReferenceFlow, max_min};
use sim_core::*;

/// One random transfer: start, bytes, cap, uses.
#[derive(Clone, Debug)]
struct Flow {
    start: u64,
    bytes: u64,
    latency: u64,
    cap: Option<u64>,
    uses: Vec<(usize, u32)>,
}

const BYTES_PER_S: f64 = 1e9;

fn capacity() -> impl Strategy<Value = u64> {
    // Bytes per nanosecond; zero one time in eight.
    prop_oneof![1 => Just(0u64), 7 => 1u64..100_000]
}

fn flows(resources: usize, most: usize) -> impl Strategy<Value = Vec<Flow>> {
    let uses = proptest::collection::vec((0..resources, 1u32..4), 1..4);
    let cap = prop_oneof![3 => Just(None), 1 => (1u64..50_000).prop_map(Some)];
    let flow = (0u64..4_000, 1u64..100_000_000, 0u64..500, cap, uses)
        .prop_map(|(start, bytes, latency, cap, uses)| Flow { start, bytes, latency, cap, uses });
    proptest::collection::vec(flow, 1..most)
}

fn rate(k: u64) -> Rate {
    Rate::from_bytes_per_s(k as f64 * BYTES_PER_S).unwrap()
}

fn uses(flow: &Flow) -> Vec<(ResourceId, u32)> {
    flow.uses.iter().map(|&(r, w)| (ResourceId(r as u32), w)).collect()
}

/// Weights by resource, one entry each.
fn merged(flow: &Flow) -> Vec<(usize, u32)> {
    let mut sum = std::collections::BTreeMap::new();
    for &(r, w) in &flow.uses {
        *sum.entry(r).or_insert(0) += w;
    }
    sum.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn rates_are_those_of_the_textbook(
        capacities in proptest::collection::vec(capacity(), 6),
        flows in flows(6, 40),
    ) {
        let profiles: Vec<_> = capacities.iter().map(|&c| CapacityProfile::constant(rate(c))).collect();
        let net = network(&profiles);
        let mut fluid = Fluid::new();
        fluid.reset(&net, SimTime::ZERO);
        let slots: Vec<u32> = flows.iter().enumerate().map(|(id, f)| {
            let uses: Vec<_> = merged(f).iter().map(|&(r, w)| (ResourceId(r as u32), w)).collect();
            fluid.start(&net, SimTime::ZERO, id as u32, f.bytes, f.cap.map_or(Rate::MAX, rate), &uses)
        }).collect();
        fluid.resolve(SimTime::ZERO, |_, _| {});
        let rates: Vec<f64> = slots.iter().map(|&s| fluid.rate(s).as_bytes_per_s()).collect();

        let reference: Vec<ReferenceFlow> = flows.iter().map(|f| ReferenceFlow {
            cap: f.cap.map_or(f64::INFINITY, |c| c as f64 * BYTES_PER_S),
            uses: f.uses.iter().map(|&(r, w)| (r, f64::from(w))).collect(),
        }).collect();
        let in_bytes: Vec<f64> = capacities.iter().map(|&c| c as f64 * BYTES_PER_S).collect();
        for (got, want) in rates.iter().zip(max_min(&in_bytes, &reference)) {
            prop_assert!((got - want).abs() <= 1e-9 * want.max(BYTES_PER_S), "{} against {}", got, want);
        }

        // In integers: nothing above capacity, and each transfer has a reason to be no faster.
        let raw: Vec<u64> = slots.iter().map(|&s| fluid.rate(s).raw()).collect();
        let taken = |r: usize| -> u128 {
            flows.iter().zip(&raw).flat_map(|(f, &x)| {
                f.uses.iter().filter(move |u| u.0 == r).map(move |u| u128::from(x) * u128::from(u.1))
            }).sum()
        };
        let weight = |r: usize| -> u128 {
            flows.iter().flat_map(|f| &f.uses).filter(|u| u.0 == r).map(|u| u128::from(u.1)).sum()
        };
        for (r, &c) in capacities.iter().enumerate() {
            prop_assert!(taken(r) <= u128::from(rate(c).raw()));
        }
        for (f, &x) in flows.iter().zip(&raw) {
            let capped = f.cap.is_some_and(|c| rate(c).raw() == x);
            // Full but for what rounding down leaves: less than one unit of rate for each unit of weight.
            let bottleneck = f.uses.iter().any(|&(r, _)| {
                let full = taken(r) + weight(r) > u128::from(rate(capacities[r]).raw());
                let highest = flows.iter().zip(&raw).filter(|(g, _)| g.uses.iter().any(|u| u.0 == r)).all(|(_, &y)| y <= x);
                full && highest
            });
            prop_assert!(capped || bottleneck);
        }
    }

    #[test]
    fn incremental_is_full_event_for_event(
        profiles in proptest::collection::vec((capacity(), proptest::collection::vec((1u64..2_000, capacity()), 0..6)), 12),
        flows in flows(12, 80),
        joined in any::<bool>(),
    ) {
        let profiles: Vec<CapacityProfile> = profiles.iter().map(|(initial, points)| {
            let mut t = 0;
            let points: Vec<_> = points.iter().map(|&(gap, c)| { t += gap * 1_000; (at(t), rate(c)) }).collect();
            // Up again in the end, so that every run ends.
            let last = (at(t + 1_000_000), rate(1_000));
            CapacityProfile::steps(rate(*initial), points.into_iter().chain([last]).collect()).unwrap()
        }).collect();
        let net = network(&profiles);
        let mut graph = GraphBuilder::new();
        let on = [graph.stream()];
        let mut tasks = Vec::new();
        for (i, f) in flows.iter().enumerate() {
            let wait = graph.delay(ps(f.start * 1_000), if joined && i % 3 == 0 { &on } else { &[] }, &[]);
            let uses = uses(f);
            let transfer = Transfer { bytes: f.bytes, latency: ps(f.latency * 1_000), cap: f.cap.map_or(Rate::MAX, rate), uses: &uses };
            tasks.push(graph.transfer(transfer, &[], &[wait]));
        }
        let graph = graph.build().unwrap();
        let mut incremental = Executor::new();
        let mut full = Executor::with_solver(Solver::Full);
        let mut moved = Moved::new(&graph);
        let a = incremental.run(&graph, &net, &RunOptions::default(), &mut moved).unwrap();
        let b = full.run(&graph, &net, &RunOptions::default(), &mut NoObserver).unwrap();
        prop_assert_eq!(a, b);
        for (&task, f) in tasks.iter().zip(&flows) {
            prop_assert_eq!(incremental.finish_of(task), full.finish_of(task));
            // Bytes in are bytes out: all of them, and no more than one picosecond's worth beyond.
            let (work, last) = moved.work[task.index()];
            let want = u128::from(f.bytes) * u128::from(per_ps(1).raw());
            prop_assert!(work >= want && work - want < u128::from(last.max(1)));
        }
    }
}

/// Adds up rate times time of each transfer, from outside.
struct Moved {
    rate: Vec<u64>,
    since: Vec<u64>,
    work: Vec<(u128, u64)>,
}

impl Moved {
    fn new(graph: &TaskGraph) -> Self {
        let n = graph.len();
        Self { rate: vec![0; n], since: vec![0; n], work: vec![(0, 0); n] }
    }

    fn settle(&mut self, now: SimTime, task: TaskId, rate: u64) {
        let i = task.index();
        if now.as_ps() > self.since[i] {
            self.work[i].0 += u128::from(self.rate[i]) * u128::from(now.as_ps() - self.since[i]);
            self.work[i].1 = self.rate[i];
        }
        (self.rate[i], self.since[i]) = (rate, now.as_ps());
    }
}

impl Observer for Moved {
    fn rate_changed(&mut self, now: SimTime, task: TaskId, rate: Rate) {
        self.settle(now, task, rate.raw());
    }
    fn task_finished(&mut self, now: SimTime, task: TaskId, _tag: u32) {
        self.settle(now, task, 0);
    }
}

#[test]
fn nothing_drifts_over_a_million_changes() {
    // A sawtooth in raw units that divides nothing, under two transfers.
    let points: Vec<(SimTime, Rate)> =
        (1..=1_000_000u64).map(|i| (at(i * 977), Rate::from_raw(per_ps(1).raw() / 13 + i % 101))).collect();
    let net = network(&[CapacityProfile::steps(Rate::from_raw(per_ps(1).raw() / 13), points).unwrap()]);
    let mut graph = GraphBuilder::new();
    let uses = [(ResourceId(0), 1)];
    let tasks = [
        graph.transfer(send(30_000_000, &uses), &[], &[]),
        graph.transfer(send(37_000_000, &uses), &[], &[]),
    ];
    let graph = graph.build().unwrap();
    let mut moved = Moved::new(&graph);
    let outcome = Executor::new().run(&graph, &net, &RunOptions::default(), &mut moved).unwrap();
    assert!(outcome.events > 880_000, "{} events", outcome.events);
    for (task, bytes) in tasks.into_iter().zip([30_000_000u128, 37_000_000]) {
        let (work, last) = moved.work[task.index()];
        let want = bytes * u128::from(per_ps(1).raw());
        assert!(work >= want && work - want < u128::from(last));
    }
}
