//! Observers: spans, loads, logs, and the check that two runs are one.

use crate::support::*;
use sim_core::observe::{EventLog, LinkUse, Spans, check_determinism};
use sim_core::*;

fn two_transfers() -> (TaskGraph, Network) {
    let mut graph = GraphBuilder::new();
    let uses = [(ResourceId(0), 1)];
    graph.transfer(send(1_000, &uses), &[], &[]);
    let wait = graph.delay(ps(100), &[], &[]);
    let late =
        graph.transfer(Transfer { latency: ps(20), ..send(1_000, &[(ResourceId(0), 2)]) }, &[], &[wait]);
    graph.tag(late, 7);
    (graph.build().unwrap(), network(&[steps(6, &[(200, 3)])]))
}

#[test]
fn spans_and_loads_tell_the_run() {
    let (graph, net) = two_transfers();
    let mut watch = (Spans::new(), (LinkUse::new(&graph, &net, SimTime::ZERO), EventLog::new()));
    let outcome = Executor::new().run(&graph, &net, &RunOptions::default(), &mut watch).unwrap();
    let (spans, (links, log)) = watch;
    // Alone at 6 until 120, then 2 each until 200 and 1 each until both have had theirs; the first has 120 left then.
    let spans: Vec<_> = spans
        .spans()
        .iter()
        .map(|s| (s.task.0, s.tag, s.start.as_ps(), s.first_byte.as_ps(), s.finish.as_ps()))
        .collect();
    // First: 720 at 120, 880 at 200, 1,000 at 320. Second: 160 at 200, 280 at 320, then 3 / 2 a picosecond: 720 / 1.5.
    assert_eq!(spans, [(0, 0, 0, 0, 320), (1, 0, 0, 0, 100), (2, 7, 100, 120, 800)]);
    let loads: Vec<_> = links
        .loads(ResourceId(0))
        .iter()
        .map(|l| (l.from.as_ps(), l.used.raw() / per_ps(1).raw(), l.capacity.raw() / per_ps(1).raw()))
        .collect();
    assert_eq!(loads, [(0, 6, 6), (120, 6, 6), (200, 3, 3), (320, 3, 3), (800, 0, 3)]);
    assert!((links.bytes(ResourceId(0), outcome.end) - 3_000.0).abs() < 1e-6);
    assert!((links.busy_s(ResourceId(0), outcome.end) - 800e-12).abs() < 1e-18);
    assert_eq!(log.events().len() as u64, outcome.events);
}

#[test]
fn the_first_event_that_differs_is_named() {
    let (graph, net) = two_transfers();
    let run = |watch: &mut observe::Recorder, origin| {
        let options = RunOptions { origin: at(origin), ..RunOptions::default() };
        Executor::new().run(&graph, &net, &options, watch).unwrap();
    };
    check_determinism(|watch| run(watch, 0)).unwrap();
    let mut origin = 0;
    let divergence = check_determinism(|watch| {
        run(watch, origin);
        origin += 50;
    })
    .unwrap_err();
    // After the delay's end and the latency's, the capacity changes at 200 in one and at 150 in the other.
    assert_eq!(divergence.index, 2);
    assert_eq!(divergence.first.unwrap().time, at(200));
    assert_eq!(divergence.second.unwrap().time, at(150));
}
