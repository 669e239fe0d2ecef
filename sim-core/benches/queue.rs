//! HOLD on event queues: pop the earliest, push it again a random delay later, at 10 to 1,000,000 pending. And completion
//! queues: eight finishes move for each that is taken.
#![allow(missing_docs, reason = "criterion's macros make the items")]

#[path = "../examples/support/mod.rs"]
mod support;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasherDefault;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use priority_queue::PriorityQueue;
use rustc_hash::FxHasher;
use sim_core::{Class, CompletionQueue, EventQueue, SimTime};
use support::Random;

const DELAY_PS: u64 = 2_000_000;
const OPS: u64 = 1_000;

type Peer = PriorityQueue<u32, Reverse<(u64, u64)>, BuildHasherDefault<FxHasher>>;

fn hold(c: &mut Criterion) {
    let mut group = c.benchmark_group("hold");
    group.throughput(Throughput::Elements(OPS));
    for pending in [10u32, 100, 1_000, 10_000, 100_000, 1_000_000] {
        group.bench_function(BenchmarkId::new("event_queue", pending), |b| {
            let (mut random, mut queue) = (Random::new(1), EventQueue::new());
            for event in 0..pending {
                queue.push(SimTime::from_ps(random.below(DELAY_PS)), Class::Start, event);
            }
            b.iter(|| {
                for _ in 0..OPS {
                    let (time, class, event) = queue.pop().expect("never empty");
                    queue.push(SimTime::from_ps(time.as_ps() + random.below(DELAY_PS)), class, event);
                }
            });
        });
        group.bench_function(BenchmarkId::new("std_binary_heap", pending), |b| {
            let (mut random, mut queue, mut sequence) = (Random::new(1), BinaryHeap::new(), 0u64);
            for event in 0..pending {
                queue.push(Reverse((random.below(DELAY_PS), sequence, event)));
                sequence += 1;
            }
            b.iter(|| {
                for _ in 0..OPS {
                    let Reverse((time, _, event)) = queue.pop().expect("never empty");
                    queue.push(Reverse((time + random.below(DELAY_PS), sequence, event)));
                    sequence += 1;
                }
            });
        });
        group.bench_function(BenchmarkId::new("priority_queue", pending), |b| {
            let (mut random, mut queue, mut sequence) = (Random::new(1), Peer::default(), 0u64);
            for event in 0..pending {
                queue.push(event, Reverse((random.below(DELAY_PS), sequence)));
                sequence += 1;
            }
            b.iter(|| {
                for _ in 0..OPS {
                    let (event, Reverse((time, _))) = queue.pop().expect("never empty");
                    queue.push(event, Reverse((time + random.below(DELAY_PS), sequence)));
                    sequence += 1;
                }
            });
        });
    }
    group.finish();
}

fn completion(c: &mut Criterion) {
    const CHANGES: u64 = 8;
    let mut group = c.benchmark_group("completion_8_changes_a_pop");
    group.throughput(Throughput::Elements(OPS));
    for pending in [10u32, 100, 1_000, 10_000] {
        let bound = u64::from(pending);
        group.bench_function(BenchmarkId::new("indexed_heap", pending), |b| {
            let (mut random, mut queue) = (Random::new(1), CompletionQueue::new());
            for slot in 0..pending {
                queue.set(slot, random.below(DELAY_PS), u64::from(slot));
            }
            b.iter(|| {
                for _ in 0..OPS {
                    let (now, slot) = queue.pop().expect("never empty");
                    queue.set(slot, now + random.below(DELAY_PS), u64::from(slot));
                    for _ in 0..CHANGES {
                        let slot = random.below(bound) as u32;
                        queue.set(slot, now + random.below(DELAY_PS), u64::from(slot));
                    }
                }
            });
        });
        group.bench_function(BenchmarkId::new("priority_queue", pending), |b| {
            let (mut random, mut queue) = (Random::new(1), Peer::default());
            for slot in 0..pending {
                queue.push(slot, Reverse((random.below(DELAY_PS), u64::from(slot))));
            }
            b.iter(|| {
                for _ in 0..OPS {
                    let (slot, Reverse((now, id))) = queue.pop().expect("never empty");
                    queue.push(slot, Reverse((now + random.below(DELAY_PS), id)));
                    for _ in 0..CHANGES {
                        let slot = random.below(bound) as u32;
                        queue
                            .change_priority(&slot, Reverse((now + random.below(DELAY_PS), u64::from(slot))));
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = hold, completion
}
criterion_main!(benches);
