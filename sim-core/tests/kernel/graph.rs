//! Task graphs: streams, joins, cut-off, errors.

use crate::support::*;
use sim_core::*;

#[test]
fn streams_run_in_order_of_insertion() {
    let mut graph = GraphBuilder::new();
    let (a, b) = (graph.stream(), graph.stream());
    let first = graph.delay(ps(10), &[a], &[]);
    let second = graph.delay(ps(5), &[b], &[first]);
    let third = graph.delay(ps(7), &[a, b], &[]);
    let fourth = graph.delay(ps(1), &[a], &[]);
    let end = graph.join(&[second, fourth]);
    graph.tag(end, 9);
    let graph = graph.build().unwrap();
    assert_eq!((graph.tag(end), graph.tag(first), graph.edges()), (9, 0, 6));
    let (executor, outcome) = run(&graph, &Network::default());
    assert_eq!(executor.start_of(second), at(10));
    assert_eq!(executor.start_of(third), at(15));
    assert_eq!(executor.finish_of(fourth), at(23));
    let outcome = outcome.unwrap();
    assert_eq!((outcome.finished, outcome.end, outcome.events), (true, at(23), 5));
}

#[test]
fn a_cut_off_run_stops_at_the_cut() {
    let mut graph = GraphBuilder::new();
    let first = graph.delay(ps(10), &[], &[]);
    let second = graph.delay(ps(10), &[], &[first]);
    let graph = graph.build().unwrap();
    let mut executor = Executor::new();
    let mut check = |cutoff, finished, end| {
        let options = RunOptions { cutoff: Some(at(cutoff)), ..RunOptions::default() };
        let outcome = executor.run(&graph, &Network::default(), &options, &mut NoObserver).unwrap();
        assert_eq!((outcome.finished, outcome.end), (finished, at(end)));
        executor.finish_of(second)
    };
    assert_eq!(check(20, true, 20), at(20));
    assert_eq!(check(19, false, 19), SimTime::MAX);
}

#[test]
fn what_cannot_end_is_an_error() {
    let mut graph = GraphBuilder::new();
    let free = graph.delay(ps(1), &[], &[]);
    let a = graph.delay(ps(1), &[], &[free]);
    let b = graph.delay(ps(1), &[], &[a]);
    graph.depend(a, b);
    let blocked = vec![a, b];
    let graph = graph.build().unwrap();
    assert_eq!(run(&graph, &Network::default()).1, Err(SimError::Deadlock { blocked, count: 2 }));

    let mut graph = GraphBuilder::new();
    let stuck = graph.transfer(send(10, &[(ResourceId(0), 1)]), &[], &[]);
    let graph = graph.build().unwrap();
    let stalled = |at_ps| Err(SimError::Stalled { blocked: vec![stuck], count: 1, at: at(at_ps) });
    assert_eq!(run(&graph, &network(&[steps(1, &[(5, 0)])])).1, stalled(5));
    assert_eq!(
        run(&graph, &network(&[])).1,
        Err(SimError::UnknownResource { resource: ResourceId(0), count: 0 })
    );
    let mut graph = GraphBuilder::new();
    graph.transfer(send(1_000, &[(ResourceId(0), 1)]), &[], &[]);
    let graph = graph.build().unwrap();
    let slow = CapacityProfile::constant(Rate::from_raw(1));
    assert_eq!(run(&graph, &network(&[slow])).1, Err(SimError::TimeOverflow { at: at(0) }));

    let mut graph = GraphBuilder::new();
    let long = graph.delay(SimDuration::MAX, &[], &[]);
    graph.delay(SimDuration::MAX, &[], &[long]);
    assert!(matches!(
        run(&graph.build().unwrap(), &Network::default()).1,
        Err(SimError::TimeOverflow { .. })
    ));
}

#[test]
fn a_link_that_only_pretends_to_change_is_no_hang() {
    let mut graph = GraphBuilder::new();
    graph.transfer(send(10, &[(ResourceId(0), 1), (ResourceId(1), 1)]), &[], &[]);
    let net = network(&[steps(0, &[]), wrapped(1, &[(5, 2)], 10)]);
    assert!(matches!(run(&graph.build().unwrap(), &net).1, Err(SimError::Stalled { count: 1, .. })));
    // What moves, but for longer than the clock goes, is not stalled.
    let mut graph = GraphBuilder::new();
    graph.transfer(send(1_000, &[(ResourceId(0), 1)]), &[], &[]);
    let points = vec![(at(5), Rate::from_raw(2))];
    let slow = CapacityProfile::wrapping(Rate::from_raw(1), points, ps(10)).unwrap();
    let net = network(&[slow]);
    assert!(matches!(run(&graph.build().unwrap(), &net).1, Err(SimError::TimeOverflow { .. })));
}

#[test]
fn the_event_budget_holds() {
    let mut graph = GraphBuilder::new();
    let stream = graph.stream();
    for _ in 0..10 {
        graph.delay(ps(1), &[stream], &[]);
    }
    let graph = graph.build().unwrap();
    let mut executor = Executor::new();
    let mut check = |budget| {
        let options = RunOptions { event_budget: Some(budget), ..RunOptions::default() };
        executor.run(&graph, &Network::default(), &options, &mut NoObserver)
    };
    assert!(check(10).is_ok());
    assert!(matches!(check(9), Err(SimError::EventBudget { budget: 9, .. })));
}

#[test]
fn bad_graphs_are_refused_and_builders_recover() {
    let mut graph = GraphBuilder::new();
    let mut out = TaskGraph::default();
    graph.delay(ps(1), &[], &[TaskId(0)]);
    assert!(matches!(graph.build_into(&mut out), Err(GraphError::UnknownTask { .. })));
    assert!(out.is_empty());
    graph.delay(ps(1), &[StreamId(3)], &[]);
    assert!(matches!(graph.build_into(&mut out), Err(GraphError::UnknownStream { .. })));
    graph.transfer(send(1, &[(ResourceId(0), 0)]), &[], &[]);
    assert!(matches!(graph.build_into(&mut out), Err(GraphError::Weight { .. })));
    let task = graph.delay(ps(4), &[], &[]);
    graph.build_into(&mut out).unwrap();
    assert_eq!(out.view(task), sim_core::graph::TaskView::Delay(ps(4)));
    assert!(graph.is_empty());
}

#[test]
fn latency_over_time_adds_up() {
    let mut net = NetworkBuilder::new();
    let link = net.resource(steps(4, &[]));
    net.latency(link, CapacityProfile::steps(Rate::from_raw(10), vec![(at(50), Rate::from_raw(3))]).unwrap());
    let net = net.build();
    let mut graph = GraphBuilder::new();
    let first = graph.transfer(send(200, &[(link, 1)]), &[], &[]);
    let second = graph.transfer(Transfer { latency: ps(5), ..send(200, &[(link, 1)]) }, &[], &[first]);
    let (executor, outcome) = run(&graph.build().unwrap(), &net);
    outcome.unwrap();
    assert_eq!(executor.finish_of(first), at(60));
    assert_eq!(executor.finish_of(second), at(60 + 3 + 5 + 50));
}

/// A resource that a transfer names more than once counts once, with all its weight, however many it names.
#[test]
fn a_resource_named_again_adds_up() {
    let mut graph = GraphBuilder::new();
    for count in [3, 40, 5, 300] {
        let named = |weight: u32| (0..count).map(move |r| (ResourceId(r * 7 % 1009), weight));
        let uses: Vec<_> = named(1).chain(named(2).rev()).collect();
        let task = graph.transfer(send(1, &uses), &[], &[]);
        let whole = graph.clone().build().unwrap();
        let sim_core::graph::TaskView::Transfer(transfer) = whole.view(task) else { panic!("a transfer") };
        assert_eq!(transfer.uses, named(3).collect::<Vec<_>>(), "{count}");
    }
}
