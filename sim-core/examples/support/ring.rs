//! A ring all-reduce as a program: each rank passes on what comes, reducing on the way around, then gathering.
//!
//! Costs and counting are those of ASTRA-sim's published runs: 50 GiB/s and 500 ns a link, 10 ns a message and once more a
//! split, 3 ns a reduction for each full 1,600 bytes, times cut to whole nanoseconds, splits one after another.

use sim_core::SimDuration;
use sim_core::generate::{LinkTimes, Message, Outbox, Program, Route, Symmetry};

const GIB_PER_S: u128 = 50;
const LATENCY_NS: u64 = 500;
const ENDPOINT_NS: u64 = 10;

/// State of all ranks: messages received, and the split they belong to.
pub struct Ring {
    ranks: u32,
    chunk: u64,
    splits: u32,
    received: Vec<u32>,
    split: Vec<u32>,
}

impl Ring {
    pub fn new(ranks: u32, bytes: u64, splits: u32) -> Self {
        let chunk = bytes.div_ceil(u64::from(splits)).div_ceil(u64::from(ranks));
        let n = ranks as usize;
        Self { ranks, chunk, splits, received: vec![0; n], split: vec![0; n] }
    }

    /// As before the first run.
    pub fn reset(&mut self) {
        self.received.fill(0);
        self.split.fill(0);
    }

    fn send(&self, rank: u32, wait_ns: u64, out: &mut Outbox) {
        let next = if rank + 1 == self.ranks { 0 } else { rank + 1 };
        out.send(next, self.chunk, 0, SimDuration::from_ps((wait_ns + ENDPOINT_NS) * 1_000));
    }
}

impl Program for Ring {
    fn begin(&mut self, rank: u32, out: &mut Outbox) {
        if self.ranks > 1 {
            self.send(rank, ENDPOINT_NS, out);
        }
    }

    #[inline]
    fn received(&mut self, rank: u32, _message: Message, out: &mut Outbox) {
        let count = &mut self.received[rank as usize];
        *count += 1;
        let reduce = if *count < self.ranks { 3 * (self.chunk / 1_600) } else { 0 };
        if *count < 2 * (self.ranks - 1) {
            self.send(rank, reduce, out);
            return;
        }
        *count = 0;
        self.split[rank as usize] += 1;
        if self.split[rank as usize] < self.splits {
            self.send(rank, ENDPOINT_NS, out);
        }
    }
}

/// One link from each rank to the next.
pub struct Links(pub u32);

impl Route for Links {
    fn links(&self) -> u32 {
        self.0
    }
    #[inline]
    fn link(&self, from: u32, _to: u32, hop: u32) -> Option<u32> {
        (hop == 0).then_some(from)
    }
    fn orbit(&self, _link: u32, symmetry: Symmetry) -> Option<u32> {
        (symmetry == Symmetry::Rotation).then_some(0)
    }
}

impl LinkTimes for Links {
    fn times(&self, _link: u32, bytes: u64) -> (SimDuration, SimDuration) {
        let ns = (u128::from(bytes) * 1_000_000_000 / (GIB_PER_S << 30)) as u64;
        (SimDuration::from_ps(ns * 1_000), SimDuration::from_ps((ns + LATENCY_NS) * 1_000))
    }
    fn alike(&self, _a: u32, _b: u32) -> bool {
        true
    }
}
