//! Memory: a warm loop allocates nothing, and a run's memory is linear in its size. Counted by the allocator, per thread.
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crate::support::*;
use crate::workloads::phold::Phold;
use crate::workloads::ring::{Links, Ring};
use crate::workloads::workload::{Topology, all_to_all};
use sim_core::generate::{Fcfs, Flows};
use sim_core::*;

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: i64) {
    // A thread that is being torn down counts no more.
    let _ = CALLS.try_with(|c| c.set(c.get() + u64::from(sign > 0)));
    let _ = LIVE.try_with(|c| c.set(c.get() + sign * i64::try_from(bytes).unwrap_or(0)));
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the third of three runs.
fn warm(mut run: impl FnMut()) -> u64 {
    run();
    run();
    let before = CALLS.get();
    run();
    CALLS.get() - before
}

/// Bytes that stay allocated by what `make` gives.
fn kept<T>(make: impl FnOnce() -> T) -> f64 {
    let before = LIVE.get();
    let made = make();
    let bytes = LIVE.get() - before;
    drop(made);
    bytes as f64
}

#[test]
fn a_warm_loop_does_not_allocate() {
    for topology in [Topology::Star, Topology::Mesh, Topology::FatTree] {
        let (net, graph) = all_to_all(topology, 16, 1);
        let mut executor = Executor::new();
        let mut run = || {
            executor.run(&graph, &net, &RunOptions::default(), &mut NoObserver).unwrap();
        };
        assert_eq!(warm(&mut run), 0, "{topology:?}");
    }

    // Capacities that change, exclusion groups, and a cut-off in the middle.
    let net = network(&[wrapped(2, &[(30, 5), (60, 0)], 90), wrapped(7, &[(11, 1)], 17)]);
    let mut graph = GraphBuilder::new();
    for i in 0..200 {
        let wait = graph.delay(ps(i * 7), &[], &[]);
        let uses = [(ResourceId((i % 2) as u32), 1)];
        let task = graph.transfer(send(100 + i, &uses), &[], &[wait]);
        if i % 5 == 0 {
            graph.exclude(task, 0, (i % 2) as u32);
        }
    }
    let graph = graph.build().unwrap();
    let mut executor = Executor::new();
    let cutoff = |at_ps| RunOptions { cutoff: Some(at(at_ps)), ..RunOptions::default() };
    let mut run = || {
        assert!(!executor.run(&graph, &net, &cutoff(2_000), &mut NoObserver).unwrap().finished);
        assert!(executor.run(&graph, &net, &cutoff(u64::MAX), &mut NoObserver).unwrap().finished);
    };
    assert_eq!(warm(&mut run), 0);

    let mut engine = Engine::new(Phold::new(1_000, u64::MAX, 1));
    Phold::fill(&mut engine);
    let mut cut = 0;
    let mut run = || {
        cut += 100_000_000;
        engine.run(&Limits { cutoff: Some(at(cut)), event_budget: None }).unwrap();
    };
    assert_eq!(warm(&mut run), 0);

    let links = Links(16);
    let mut fcfs = Fcfs::new(16);
    let mut flows = Flows::new(16, ps(500_000));
    let slow = CapacityProfile::constant(Rate::from_bytes_per_s(1e9).unwrap());
    let net = network(&vec![slow; 16]);
    let mut program = Ring::new(16, 1 << 20, 4);
    let mut run = || {
        program.reset();
        fcfs.run(&mut program, &links, &links, &RunOptions::default(), &mut NoObserver).unwrap();
        program.reset();
        flows.run(&mut program, &links, &net, &RunOptions::default(), &mut NoObserver).unwrap();
    };
    assert_eq!(warm(&mut run), 0);
}

#[test]
fn graphs_of_one_size_are_built_in_the_same_memory() {
    let mut builder = GraphBuilder::new();
    let mut graph = TaskGraph::default();
    let mut build = || {
        let streams = [builder.stream(), builder.stream()];
        for i in 0..500u64 {
            let task = builder.delay(ps(i), &streams[(i % 2) as usize..][..1], &[]);
            builder.transfer(send(i, &[(ResourceId(0), 1)]), &[], &[task]);
        }
        builder.build_into(&mut graph).unwrap();
    };
    // The two sides swap memory, so both need to have grown.
    build();
    assert_eq!(warm(build), 0);
}

#[test]
fn memory_is_linear() {
    let bytes = |flows: usize| {
        let (net, graph) = crate::workloads::workload::disjoint(flows, 1);
        kept(|| {
            let mut executor = Executor::new();
            executor.run(&graph, &net, &RunOptions::default(), &mut NoObserver).unwrap();
            executor
        })
    };
    let (small, large) = (bytes(2_000), bytes(20_000));
    assert!(large < 12.0 * small, "{small} bytes for 2,000 flows, {large} for 20,000");
    // Bounded per flow, too.
    assert!(large < 1_000.0 * 20_000.0, "{large} bytes for 20,000 flows");
}
