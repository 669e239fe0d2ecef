//! Finish times computed by hand, to the picosecond. Capacities are in bytes per picosecond.

use crate::support::*;
use sim_core::*;
use std::slice::from_ref;

/// One transfer of a case.
struct Flow {
    start: u64,
    bytes: u64,
    latency: u64,
    cap: Option<u64>,
    uses: &'static [(u32, u32)],
    finish: u64,
}

const ON_0: &[(u32, u32)] = &[(0, 1)];

fn flow(start: u64, bytes: u64, finish: u64) -> Flow {
    Flow { start, bytes, latency: 0, cap: None, uses: ON_0, finish }
}

fn check(name: &str, origin: u64, capacities: &[CapacityProfile], flows: &[Flow]) {
    let net = network(capacities);
    let mut graph = GraphBuilder::new();
    let mut tasks = Vec::new();
    for f in flows {
        let wait = graph.delay(ps(f.start), &[], &[]);
        let uses: Vec<_> = f.uses.iter().map(|&(r, w)| (ResourceId(r), w)).collect();
        let cap = f.cap.map_or(Rate::MAX, per_ps);
        let transfer = Transfer { bytes: f.bytes, latency: ps(f.latency), cap, uses: &uses };
        tasks.push(graph.transfer(transfer, &[], &[wait]));
    }
    let graph = graph.build().unwrap();
    for solver in [Solver::Incremental, Solver::Full] {
        let mut executor = Executor::with_solver(solver);
        let options = RunOptions { origin: at(origin), ..RunOptions::default() };
        // Twice: what a run leaves behind must not reach the next.
        for _ in 0..2 {
            let outcome = executor.run(&graph, &net, &options, &mut NoObserver).unwrap();
            let finishes: Vec<u64> = tasks.iter().map(|&t| executor.finish_of(t).as_ps()).collect();
            let expected: Vec<u64> = flows.iter().map(|f| f.finish).collect();
            assert_eq!(finishes, expected, "{name}");
            assert_eq!(outcome.end.as_ps(), expected.iter().copied().max().unwrap_or(0), "{name}");
        }
    }
}

#[test]
fn one_transfer_over_a_changing_capacity() {
    check("constant", 0, &[steps(4, &[])], &[flow(0, 1_000, 250)]);
    check("rounds up", 0, &[steps(3, &[])], &[flow(0, 1_000, 334)]);
    // 100 x 4, then 600 / 2.
    check("slower in the middle", 0, &[steps(4, &[(100, 2)])], &[flow(0, 1_000, 400)]);
    // 100 x 4, 100 x 2, then 400 / 8.
    check("slower, then faster", 0, &[steps(4, &[(100, 2), (200, 8)])], &[flow(0, 1_000, 250)]);
    // 100 x 4, nothing for 300, then 600 / 4.
    check("down and up", 0, &[steps(4, &[(100, 0), (400, 4)])], &[flow(0, 1_000, 550)]);
    check("down at the start", 0, &[steps(0, &[(70, 5)])], &[flow(10, 1_000, 270)]);
    check("down twice", 0, &[steps(1, &[(10, 0), (20, 1), (30, 0), (40, 1)])], &[flow(0, 25, 45)]);
    // Remainders survive many changes: 1/3 of a byte per step is never lost.
    check("change at the very start", 0, &[steps(1, &[(50, 10)])], &[flow(50, 1_000, 150)]);
    check("change at the very finish", 0, &[steps(4, &[(250, 1)])], &[flow(0, 1_000, 250)]);
    check("down at the very finish", 0, &[steps(4, &[(250, 0)])], &[flow(0, 1_000, 250)]);
    // 249 x 4 = 996, then 4 at 1.
    check("change just before the finish", 0, &[steps(4, &[(249, 1)])], &[flow(0, 1_000, 253)]);
    check("nothing to move", 0, &[steps(0, &[])], &[flow(7, 0, 7)]);
}

#[test]
fn fractions_of_a_byte_survive_changes() {
    // 3/7 of a byte per picosecond in raw units, then others: total work is what counts.
    let raw = |x| Rate::from_raw(x);
    let a = per_ps(1).raw() / 7 * 3;
    let points: Vec<(SimTime, Rate)> = (1..=1_000).map(|i| (at(i * 3), raw(a + i % 5))).collect();
    let net = network(&[CapacityProfile::steps(raw(a), points).unwrap()]);
    let mut graph = GraphBuilder::new();
    let task = graph.transfer(send(1_200, &[(ResourceId(0), 1)]), &[], &[]);
    let (executor, outcome) = run(&graph.build().unwrap(), &net);
    outcome.unwrap();
    let total = 1_200u128 * u128::from(per_ps(1).raw());
    let (mut moved, mut t) = (0u128, 0u64);
    while moved < total {
        let i = t / 3;
        moved += u128::from(if i == 0 { a } else { a + i.min(1_000) % 5 });
        t += 1;
    }
    assert_eq!(executor.finish_of(task).as_ps(), t);
}

#[test]
fn latency_holds_no_resource_and_may_span_a_change() {
    let late = |start, bytes, latency, finish| Flow { latency, ..flow(start, bytes, finish) };
    check("latency", 0, &[steps(4, &[])], &[late(0, 1_000, 30, 280)]);
    check("latency only", 0, &[steps(4, &[])], &[late(5, 0, 30, 35)]);
    check("change within the latency", 0, &[steps(4, &[(20, 2)])], &[late(0, 1_000, 30, 530)]);
    check("change at the end of the latency", 0, &[steps(4, &[(30, 2)])], &[late(0, 1_000, 30, 530)]);
    // The second one's latency leaves the first alone until 100: 400 then 2 each.
    check(
        "the other's latency costs nothing",
        0,
        &[steps(4, &[])],
        &[flow(0, 1_000, 400), late(0, 1_000, 100, 500)],
    );
}

#[test]
fn wrapped_profiles_and_origins() {
    // Period 100: 40 at 5, 60 at 0; 200 bytes a period.
    let p = wrapped(5, &[(40, 0)], 100);
    check("wraps", 0, from_ref(&p), &[flow(0, 1_000, 440)]);
    check("starts in a gap", 0, from_ref(&p), &[flow(50, 200, 140)]);
    check("origin in a gap", 50, from_ref(&p), &[flow(0, 200, 90)]);
    check("origin far out", 1_000_000_030, from_ref(&p), &[flow(0, 100, 80)]);
    check("shifted is the same", 20, &[p.shifted(at(30))], &[flow(0, 200, 90)]);
    check("shift and wrap at the very end", 40, &[p], &[flow(0, 200, 100)]);
    check("origin past the last point", 500, &[steps(1, &[(100, 2), (400, 8)])], &[flow(0, 800, 100)]);
    check("origin on a point", 100, &[steps(1, &[(100, 2), (150, 8)])], &[flow(0, 500, 100)]);
}

#[test]
fn transfers_share() {
    // Both at 2 until 500; alone they would end at 250.
    check("two at once", 0, &[steps(4, &[])], &[flow(0, 1_000, 500), flow(0, 1_000, 500)]);
    // 100 at 4, then 2 each: the first has 600 left, ends at 400; the second has 400 left, at 4: 500.
    check("overlapping", 0, &[steps(4, &[])], &[flow(0, 1_000, 400), flow(100, 1_000, 500)]);
    // The same with the capacity halved at 200: 400 + 200, then 1 each: 400 left at 600; the second's 400 at 2: 800.
    check(
        "overlapping, changing",
        0,
        &[steps(4, &[(200, 2)])],
        &[flow(0, 1_000, 600), flow(100, 1_000, 800)],
    );
    // One ends as the other begins.
    check("back to back", 0, &[steps(4, &[])], &[flow(0, 1_000, 250), flow(250, 1_000, 500)]);
    // 4 for 100, nothing for 100, 2 each.
    check(
        "down while shared",
        0,
        &[steps(4, &[(100, 0), (200, 4)])],
        &[flow(0, 800, 400), flow(50, 400, 350)].map(|f| f),
    );
    let weighted = Flow { uses: &[(0, 3)], ..flow(0, 100, 100) };
    // Rates equal (1 each): weight 3 takes 3 of the 4. Then the other has 4.
    check("weights", 0, &[steps(4, &[])], &[weighted, flow(0, 300, 150)]);
    let capped = Flow { cap: Some(1), ..flow(0, 100, 100) };
    // The cap leaves 3 to the other.
    check("cap", 0, &[steps(4, &[])], &[capped, flow(0, 700, 200)]);
    let both = Flow { uses: &[(0, 1), (1, 1)], ..flow(0, 100, 100) };
    // Resource 1 gives the first 1; resource 0 has 9 left for the second.
    check("two resources", 0, &[steps(10, &[]), steps(1, &[])], &[both, flow(0, 1_800, 190)]);
    let twice = Flow { uses: &[(0, 1), (0, 1)], ..flow(0, 100, 50) };
    check("named twice", 0, &[steps(4, &[])], &[twice]);
    check("no resource", 0, &[], &[Flow { uses: &[], cap: Some(2), ..flow(10, 100, 60) }]);
}

/// 5 bytes a picosecond for 40, nothing for 60, for ever; nothing is stored.
struct Pulses;

impl CapacitySource for Pulses {
    fn at(&self, t: SimTime) -> Rate {
        if t.as_ps() % 100 < 40 { per_ps(5) } else { Rate::ZERO }
    }
    fn next_change(&self, after: SimTime) -> Option<(SimTime, Rate)> {
        let (period, phase) = (after.as_ps() / 100, after.as_ps() % 100);
        let next = at(period * 100 + if phase < 40 { 40 } else { 100 });
        Some((next, self.at(next)))
    }
}

#[test]
fn a_generated_capacity_is_like_a_stored_one() {
    let generated = CapacityProfile::generated(std::sync::Arc::new(Pulses));
    check("generated", 0, from_ref(&generated), &[flow(0, 1_000, 440)]);
    check("generated, shifted", 20, &[generated.shifted(at(30))], &[flow(0, 200, 90)]);
    // Half of it: 2.5 a picosecond, 100 bytes a period; 200,000 changes.
    let half = generated.scaled(1, 2).unwrap();
    check("generated, long", 0, &[half], &[flow(0, 10_000_000, 9_999_940)]);
}
