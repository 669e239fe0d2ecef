//! The algorithms: what a rank sends when it begins a split and when a message has come.

use super::splits::{Algorithm, Cell, Step};
use super::{Collective, Convention, Op};

/// Each rank sends to its next; what comes is passed on until all have all.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    ranks: u32,
    part: u64,
    steps: u32,
    /// The first this many messages are reduced on arrival.
    reductions: u32,
    /// Message k carries steps - k parts, as those that are not yet home travel together.
    shrinking: bool,
    received: Vec<u32>,
}

impl Ring {
    pub(super) fn new(c: &Collective) -> Self {
        let others = c.ranks - 1;
        let together = c.convention == Convention::Tideplan;
        let (steps, reductions, shrinking) = match c.op {
            Op::AllReduce => (2 * others, others, false),
            Op::AllGather => (others, 0, false),
            Op::ReduceScatter => (others, others, false),
            Op::AllToAll if together => (others, 0, true),
            // All remaining blocks, one message each: others + (others - 1) + ... + 1.
            Op::AllToAll => ((u64::from(c.ranks) * u64::from(others) / 2) as u32, 0, false),
        };
        Self { ranks: c.ranks, part: c.part_bytes(), steps, reductions, shrinking, received: Vec::new() }
    }

    #[inline]
    fn next(&self, rank: u32) -> u32 {
        if rank + 1 == self.ranks { 0 } else { rank + 1 }
    }

    #[inline]
    fn bytes(&self, message: u32) -> u64 {
        if self.shrinking { self.part.saturating_mul(u64::from(self.steps - message)) } else { self.part }
    }
}

impl Algorithm for Ring {
    fn begin(&mut self, at: Cell, step: &mut Step<'_>) {
        if self.steps == 0 {
            return step.done(0);
        }
        step.send(self.next(at.rank), self.bytes(0), 0, 0);
    }

    #[inline]
    fn received(&mut self, at: Cell, _from: u32, _word: u32, step: &mut Step<'_>) {
        let count = &mut self.received[at.index];
        *count += 1;
        let count = *count;
        let reduce = if count <= self.reductions { step.costs.reduce(self.part) } else { 0 };
        if count < self.steps {
            step.send(self.next(at.rank), self.bytes(count), 0, reduce);
        } else {
            step.done(reduce);
        }
    }

    fn resize(&mut self, cells: usize) {
        self.received.resize(cells, 0);
    }
}

/// Each rank sends to all others at once, the next one first; an all-reduce scatters the sums, then gathers them.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    ranks: u32,
    part: u64,
    phases: u32,
    reduces: bool,
    received: Vec<[u32; 2]>,
}

impl Direct {
    pub(super) fn new(c: &Collective) -> Self {
        Self {
            ranks: c.ranks,
            part: c.part_bytes(),
            phases: if c.op == Op::AllReduce { 2 } else { 1 },
            reduces: matches!(c.op, Op::AllReduce | Op::ReduceScatter),
            received: Vec::new(),
        }
    }

    fn send_all(&self, rank: u32, phase: u32, wait_ns: u64, step: &mut Step<'_>) {
        for away in 1..self.ranks {
            let to = rank + away;
            let to = if to >= self.ranks { to - self.ranks } else { to };
            step.send(to, self.part, phase, wait_ns);
        }
    }
}

impl Algorithm for Direct {
    fn begin(&mut self, at: Cell, step: &mut Step<'_>) {
        if self.ranks == 1 {
            return step.done(0);
        }
        self.send_all(at.rank, 0, 0, step);
    }

    #[inline]
    fn received(&mut self, at: Cell, _from: u32, phase: u32, step: &mut Step<'_>) {
        let counts = &mut self.received[at.index];
        counts[phase as usize] += 1;
        if counts[phase as usize] + 1 < self.ranks {
            return;
        }
        // Reductions run side by side, so the last to come is the last to end. A rank enters phase 1 with all of phase 0.
        let reduce = if self.reduces && phase == 0 { step.costs.reduce(self.part) } else { 0 };
        let over = if phase == 0 { self.phases == 1 } else { counts[0] + 1 == self.ranks };
        if over {
            step.done(reduce);
        } else if phase == 0 {
            let all_here = counts[1] + 1 == self.ranks;
            self.send_all(at.rank, 1, reduce, step);
            if all_here {
                step.done(reduce);
            }
        }
    }

    fn resize(&mut self, cells: usize) {
        self.received.resize(cells, [0; 2]);
    }
}

/// Pairs exchange half of what they have, then a quarter, and so on; and back with growing parts.
#[derive(Clone, Debug)]
pub(super) struct HalvingDoubling {
    /// For each step: the bit in which the partners differ, and the bytes.
    steps: Vec<(u32, u64)>,
    /// For each step, the nanoseconds-to-be of the reduction after it, as bytes; 0 for none.
    reduced: Vec<u64>,
    /// How many steps each cell has done, and which messages have come.
    state: Vec<(u32, u64)>,
}

impl HalvingDoubling {
    pub(super) fn new(c: &Collective) -> Self {
        let levels = c.ranks.trailing_zeros();
        let part = c.part_bytes();
        // Largest first: the farthest partner gets half of everything.
        let step = |bit: u32| (1u32 << bit, part.saturating_mul(1u64 << bit));
        let halving = (0..levels).rev().map(step);
        let doubling = (0..levels).map(step);
        let steps: Vec<(u32, u64)> = match c.op {
            Op::ReduceScatter => halving.collect(),
            Op::AllGather => doubling.collect(),
            Op::AllReduce | Op::AllToAll => halving.chain(doubling).collect(),
        };
        let halves = if c.op == Op::AllGather { 0 } else { levels as usize };
        // The reduction after a step is charged by the size of the next halving; the last goes free.
        let reduced = (0..steps.len())
            .map(|i| if i + 1 < halves { steps.get(i + 1).map_or(0, |s| s.1) } else { 0 })
            .collect();
        Self { steps, reduced, state: Vec::new() }
    }

    fn send(&self, rank: u32, at: usize, wait_ns: u64, step: &mut Step<'_>) {
        let (bit, bytes) = self.steps[at];
        step.send(rank ^ bit, bytes, at as u32, wait_ns);
    }
}

impl Algorithm for HalvingDoubling {
    fn begin(&mut self, at: Cell, step: &mut Step<'_>) {
        if self.steps.is_empty() {
            return step.done(0);
        }
        self.send(at.rank, 0, 0, step);
    }

    fn received(&mut self, at: Cell, _from: u32, word: u32, step: &mut Step<'_>) {
        let (mut done, mut come) = self.state[at.index];
        come |= 1 << word;
        let mut wait_ns = 0;
        // A partner may be a step ahead of this rank.
        while (done as usize) < self.steps.len() && come & (1 << done) != 0 {
            wait_ns += step.costs.reduce(self.reduced[done as usize]);
            done += 1;
            if (done as usize) < self.steps.len() {
                self.send(at.rank, done as usize, wait_ns, step);
            } else {
                step.done(wait_ns);
            }
        }
        self.state[at.index] = (done, come);
    }

    fn resize(&mut self, cells: usize) {
        self.state.resize(cells, (0, 0));
    }
}

/// Sums go up a tree and come down again; odd splits take the mirrored tree, in which inner ranks are leaves.
///
/// The first rank of all (or the last) is the root with one child, the root of a complete binary tree in rank order.
#[derive(Clone, Debug)]
pub(super) struct DoubleBinaryTree {
    ranks: u32,
    bytes: u64,
    /// Children heard of, by cell.
    heard: Vec<u32>,
}

const UP: u32 = 0;
const DOWN: u32 = 1;

impl DoubleBinaryTree {
    pub(super) fn new(c: &Collective) -> Self {
        Self { ranks: c.ranks, bytes: c.split_bytes(), heard: Vec::new() }
    }

    /// Parent and children in the tree of `split`.
    fn place(&self, rank: u32, split: u32) -> (Option<u32>, [Option<u32>; 2]) {
        let mirrored = split % 2 == 1;
        let flip = |r: u32| if mirrored { self.ranks - 1 - r } else { r };
        // Unmirrored, rank r is number r + 1 of 1 to n in order; the lowest set bit is its height, n being the root.
        let number = flip(rank) + 1;
        let height = number & number.wrapping_neg();
        let rank_of = |number: u32| flip(number - 1);
        let parent = (number != self.ranks).then(|| {
            let up = (number - height) | (2 * height);
            rank_of(if height * 2 == self.ranks { self.ranks } else { up })
        });
        let half = height / 2;
        let left = (half > 0).then(|| rank_of(number - half));
        let right = (half > 0 && number != self.ranks).then(|| rank_of(number + half));
        (parent, [left, right])
    }

    fn down(&self, at: Cell, step: &mut Step<'_>) {
        let (_, children) = self.place(at.rank, at.split);
        for child in children.into_iter().flatten() {
            step.send(child, self.bytes, DOWN, 0);
        }
        step.done(0);
    }
}

impl Algorithm for DoubleBinaryTree {
    fn begin(&mut self, at: Cell, step: &mut Step<'_>) {
        match self.place(at.rank, at.split) {
            (None, [None, None]) => step.done(0),
            (Some(parent), [None, None]) => step.send(parent, self.bytes, UP, 0),
            _ => {}
        }
    }

    fn received(&mut self, at: Cell, _from: u32, word: u32, step: &mut Step<'_>) {
        if word == DOWN {
            return self.down(at, step);
        }
        let (_, children) = self.place(at.rank, at.split);
        let expected = children.iter().flatten().count() as u32;
        self.heard[at.index] += 1;
        if self.heard[at.index] == expected {
            // One reduction for each child, one after another, once all have come.
            step.wait(step.costs.reduce(self.bytes).saturating_mul(u64::from(expected)), UP);
        }
    }

    fn woke(&mut self, at: Cell, _word: u32, step: &mut Step<'_>) {
        match self.place(at.rank, at.split).0 {
            Some(parent) => step.send(parent, self.bytes, UP, 0),
            None => self.down(at, step),
        }
    }

    fn resize(&mut self, cells: usize) {
        self.heard.resize(cells, 0);
    }
}
