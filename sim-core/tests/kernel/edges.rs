//! Parallel edges and exclusion groups, by hand.

use crate::support::*;
use sim_core::edges::{Edge, Edges, Rule};
use sim_core::*;

fn edge(resource: u32, group: Option<u32>) -> Edge {
    Edge { uses: vec![(ResourceId(resource), 1)], latency: SimDuration::ZERO, cap: Rate::MAX, group }
}

#[test]
fn rules_choose_by_capacity_of_the_instant() {
    let net = network(&[steps(4, &[(100, 1)]), steps(2, &[]), steps(2, &[])]);
    let edges = Edges::new(vec![edge(0, Some(3)), edge(1, Some(3)), edge(2, None)]);
    let check = |t, rule, want: &[(usize, u64)]| assert_eq!(edges.choose(&net, at(t), 900, rule), want);
    check(0, Rule::FastestFirst, &[(0, 900)]);
    check(100, Rule::FastestFirst, &[(1, 900)]);
    check(0, Rule::SplitByCapacity, &[(0, 600), (2, 300)]);
    check(100, Rule::SplitByCapacity, &[(1, 450), (2, 450)]);
    assert_eq!(edges.choose(&net, at(0), 0, Rule::SplitByCapacity), [(0, 0)]);
    assert!(Edges::default().choose(&net, at(0), 5, Rule::FastestFirst).is_empty());
    // Latency counts: 10 bytes are there sooner on the slower edge.
    let far = Edge { latency: ps(50), ..edge(0, None) };
    let edges = Edges::new(vec![far, edge(1, None)]);
    assert_eq!(edges.choose(&net, at(0), 10, Rule::FastestFirst), [(1, 10)]);
}

#[test]
fn edges_of_different_groups_add_up() {
    let net = network(&[steps(4, &[]), steps(2, &[]), steps(2, &[])]);
    let edges = Edges::new(vec![edge(0, Some(0)), edge(1, Some(0)), edge(2, None)]);
    let mut graph = GraphBuilder::new();
    let end = edges.transfer(&mut graph, &net, at(0), 900, Rule::SplitByCapacity, &[], &[]);
    let (executor, outcome) = run(&graph.build().unwrap(), &net);
    outcome.unwrap();
    assert_eq!(executor.finish_of(end), at(150));
}

#[test]
fn an_edge_waits_for_the_other_of_its_group() {
    let net = network(&[steps(4, &[]), steps(2, &[])]);
    let mut graph = GraphBuilder::new();
    let add = |graph: &mut GraphBuilder, start, bytes, resource, edge| {
        let wait = graph.delay(ps(start), &[], &[]);
        let task = graph.transfer(send(bytes, &[(ResourceId(resource), 1)]), &[], &[wait]);
        graph.exclude(task, 0, edge);
        task
    };
    let first = add(&mut graph, 0, 400, 0, 0);
    // Shares the active edge: nobody waits yet. 200 at 50, then 2 each.
    let beside = add(&mut graph, 50, 100, 0, 0);
    let other = add(&mut graph, 60, 100, 1, 1);
    // Comes after one that waits, so it waits as well although its edge is active.
    let behind = add(&mut graph, 70, 100, 0, 0);
    let with_other = add(&mut graph, 80, 100, 1, 1);
    let graph = graph.build().unwrap();
    let (executor, outcome) = run(&graph, &net);
    outcome.unwrap();
    let times = |t| (executor.start_of(t).as_ps(), executor.finish_of(t).as_ps());
    assert_eq!(times(beside), (50, 100));
    assert_eq!(times(first), (0, 125));
    assert_eq!(times(other), (60, 175));
    assert_eq!(times(behind), (70, 200));
    assert_eq!(times(with_other), (80, 250));
}
