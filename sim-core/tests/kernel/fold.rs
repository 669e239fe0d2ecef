//! Folding: the times are those of the whole graph, to the picosecond, and asymmetry is refused with its reason.

use crate::support::*;
use proptest::prelude::*;
use sim_core::fold::{Difference, FoldError, difference, fold};
use sim_core::*;

/// `copies` of one random pipeline, each on resources of its own and on some that all share.
#[derive(Clone, Debug)]
struct Case {
    copies: usize,
    own: Vec<u64>,
    shared: Vec<(u64, u64)>,
    tasks: Vec<(u64, bool, usize, usize, u32)>,
    odd: Option<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    let task = (1u64..5_000, any::<bool>(), 0usize..3, 0usize..3, 1u32..3);
    let parts = (
        3usize..7,
        proptest::collection::vec(1u64..6, 3),
        proptest::collection::vec((1u64..30, 0u64..30), 3),
        proptest::collection::vec(task, 1..10),
        proptest::option::of(0usize..10),
    );
    parts.prop_map(|(copies, own, shared, tasks, odd)| Case { copies, own, shared, tasks, odd })
}

fn build(case: &Case) -> (TaskGraph, Network) {
    let mut net = NetworkBuilder::new();
    let shared: Vec<_> =
        case.shared.iter().map(|&(a, b)| net.resource(steps(a, &[(700, b), (1_400, a)]))).collect();
    let mut graph = GraphBuilder::new();
    let mut last = Vec::new();
    for copy in 0..case.copies {
        let own: Vec<_> = case.own.iter().map(|&k| net.resource(steps(k, &[]))).collect();
        let stream = graph.stream();
        let mut before = None;
        for (i, &(size, transfer, mine, ours, weight)) in case.tasks.iter().enumerate() {
            // One copy may have one task of another size.
            let size = size + u64::from(copy == 0 && case.odd == Some(i));
            let deps: Vec<TaskId> = before.into_iter().collect();
            let task = if transfer {
                let uses = [(own[mine], 1), (shared[ours], weight)];
                graph.transfer(send(size, &uses), &[], &deps)
            } else {
                graph.delay(ps(size), &[stream], &deps)
            };
            before = (i % 3 != 2).then_some(task);
        }
        last.extend(before);
    }
    graph.join(&last);
    (graph.build().unwrap(), net.build())
}

proptest! {
    #[test]
    fn folded_times_are_the_times(case in case()) {
        let (graph, net) = build(&case);
        let mut whole = Executor::new();
        let a = whole.run(&graph, &net, &RunOptions::default(), &mut NoObserver).unwrap();
        let folded = fold(&graph, &net).unwrap();
        let mut small = Executor::new();
        let b = small.run(&folded.graph, &folded.net, &RunOptions::default(), &mut NoObserver).unwrap();
        prop_assert_eq!(a.end, b.end);
        prop_assert!(b.events <= a.events);
        for task in (0..graph.len() as u32).map(TaskId) {
            let like = folded.class_of(task);
            prop_assert_eq!(whole.start_of(task), small.start_of(like));
            prop_assert_eq!(whole.finish_of(task), small.finish_of(like));
        }
        let counted: u32 = (0..folded.graph.len() as u32).map(|t| folded.count(TaskId(t))).sum();
        prop_assert_eq!(counted as usize, graph.len());
        if case.odd.is_none_or(|i| i >= case.tasks.len()) {
            prop_assert!(folded.graph.len() <= case.tasks.len() + 1);
        }
    }
}

#[test]
fn asymmetry_is_refused_with_its_reason() {
    let mut graph = GraphBuilder::new();
    let a = graph.transfer(send(10, &[(ResourceId(0), 1)]), &[], &[]);
    let b = graph.transfer(send(10, &[(ResourceId(1), 1)]), &[], &[]);
    let graph = graph.build().unwrap();
    let alike = network(&[steps(3, &[(1, 2)]), steps(3, &[(1, 2)])]);
    assert_eq!(fold(&graph, &alike).unwrap().graph.len(), 1);
    let unlike = network(&[steps(3, &[(1, 2)]), steps(3, &[(1, 4)])]);
    assert_eq!(fold(&graph, &unlike).unwrap_err(), FoldError::NothingAlike);
    assert_eq!(difference(&graph, &unlike, a, b), Ok(Some(Difference::Resources)));
    assert_eq!(difference(&graph, &alike, a, b), Ok(None));
    assert!(matches!(fold(&graph, &network(&[])), Err(FoldError::UnknownResource { count: 0 })));

    let mut graph = GraphBuilder::new();
    let a = graph.delay(ps(1), &[], &[]);
    let b = graph.delay(ps(2), &[], &[]);
    let c = graph.delay(ps(3), &[], &[a]);
    let d = graph.delay(ps(3), &[], &[b]);
    let graph = graph.build().unwrap();
    assert_eq!(difference(&graph, &alike, c, d), Ok(Some(Difference::Predecessors)));
    assert_eq!(difference(&graph, &alike, a, b), Ok(Some(Difference::Work)));

    let mut graph = GraphBuilder::new();
    let a = graph.delay(ps(1), &[], &[]);
    graph.depend(a, a);
    assert_eq!(fold(&graph.build().unwrap(), &alike).unwrap_err(), FoldError::Circle { task: a });
}
