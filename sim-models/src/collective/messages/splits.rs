//! A buffer cut into splits: each split runs the algorithm, all together or one after another on each rank.

use sim_core::SimDuration;
use sim_core::generate::{Message, Outbox, Program};

/// What the convention adds to each step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// Before each message leaves.
    pub(crate) endpoint_ns: u64,
    /// Before each split.
    pub(crate) split_ns: u64,
    /// A reduction costs this many nanoseconds for each full `reduce_block` bytes.
    pub(crate) reduce_ns: u64,
    pub(crate) reduce_block: u64,
}

impl Costs {
    pub(crate) const NONE: Self = Self { endpoint_ns: 0, split_ns: 0, reduce_ns: 0, reduce_block: 1 };
    /// ASTRA-sim's defaults, as its published runs have them.
    pub(crate) const ASTRA_SIM: Self =
        Self { endpoint_ns: 10, split_ns: 10, reduce_ns: 3, reduce_block: 1_600 };

    /// The time of one reduction of `bytes`.
    #[inline]
    pub(crate) fn reduce(&self, bytes: u64) -> u64 {
        self.reduce_ns.saturating_mul(bytes / self.reduce_block)
    }
}

/// What an algorithm does on one rank in one split. State is kept by cell: one for each rank and split.
pub(crate) trait Algorithm {
    /// The rank begins the split.
    fn begin(&mut self, at: Cell, step: &mut Step<'_>);
    /// A message of this split has arrived; its step is `word`.
    fn received(&mut self, at: Cell, from: u32, word: u32, step: &mut Step<'_>);
    /// The wait that carried `word` is over.
    fn woke(&mut self, _at: Cell, _word: u32, _step: &mut Step<'_>) {}
    /// Makes room for this many cells.
    fn resize(&mut self, cells: usize);
}

/// One rank in one split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) rank: u32,
    pub(crate) split: u32,
    /// Its place in tables of state.
    pub(crate) index: usize,
}

/// What a rank does next, within its split.
pub(crate) struct Step<'a> {
    pub(crate) out: &'a mut Outbox,
    pub(crate) costs: Costs,
    pub(crate) split: u32,
    /// The ranks of the world that take part, in order; empty where all do, under their own numbers.
    pub(crate) members: &'a [u32],
    /// Laid over every tag; its low 48 bits are 0.
    pub(crate) mark: u64,
    /// Set when the rank is done with the split.
    pub(crate) done: bool,
}

pub(crate) const SPLIT_BITS: u32 = 16;
/// The word of the wait before a split and of the wait after the last reduction.
const BEGIN: u32 = u32::MAX;
pub(crate) const END: u32 = u32::MAX - 1;

fn ns(ns: u64) -> SimDuration {
    SimDuration::from_ps(ns.saturating_mul(1_000))
}

impl Step<'_> {
    /// Sends `bytes` to member `to` after `wait_ns` and the endpoint's own delay.
    #[inline]
    pub(super) fn send(&mut self, to: u32, bytes: u64, word: u32, wait_ns: u64) {
        let to = if self.members.is_empty() { to } else { self.members[to as usize] };
        let delay = ns(wait_ns.saturating_add(self.costs.endpoint_ns));
        self.out.send(to, bytes, self.mark | tag(word, self.split), delay);
    }

    /// Wakes this rank after `wait_ns`.
    #[inline]
    pub(crate) fn wait(&mut self, wait_ns: u64, word: u32) {
        self.out.wait(ns(wait_ns), self.mark | tag(word, self.split));
    }

    /// The rank is done with this split after `wait_ns`.
    #[inline]
    pub(super) fn done(&mut self, wait_ns: u64) {
        if wait_ns == 0 {
            self.done = true;
        } else {
            self.wait(wait_ns, END);
        }
    }
}

#[inline]
fn tag(word: u32, split: u32) -> u64 {
    (u64::from(word) << SPLIT_BITS) | u64::from(split)
}

/// A program of the kernel, from an algorithm.
#[derive(Clone, Debug)]
pub(super) struct Splits<A> {
    algorithm: A,
    splits: u32,
    together: bool,
    costs: Costs,
    /// The split each rank is in, when they follow each other; `u32::MAX` before the first.
    current: Vec<u32>,
    /// Messages that came before their split had begun.
    early: Vec<Message>,
}

impl<A: Algorithm> Splits<A> {
    pub(super) fn new(mut algorithm: A, ranks: u32, splits: u32, together: bool, costs: Costs) -> Self {
        algorithm.resize(ranks as usize * splits as usize);
        Self {
            algorithm,
            splits,
            together,
            costs,
            current: vec![u32::MAX; ranks as usize],
            early: Vec::new(),
        }
    }

    #[inline]
    fn step(
        &mut self,
        rank: u32,
        split: u32,
        out: &mut Outbox,
        act: impl FnOnce(&mut A, Cell, &mut Step<'_>),
    ) {
        let index = rank as usize * self.splits as usize + split as usize;
        let mut step = Step { out, costs: self.costs, split, members: &[], mark: 0, done: false };
        act(&mut self.algorithm, Cell { rank, split, index }, &mut step);
        if step.done && !self.together && split + 1 < self.splits {
            step.split = split + 1;
            step.wait(self.costs.split_ns, BEGIN);
        }
    }

    fn enter(&mut self, rank: u32, split: u32, out: &mut Outbox) {
        self.current[rank as usize] = split;
        self.step(rank, split, out, |algorithm, at, step| algorithm.begin(at, step));
        let mut next = 0;
        while let Some(&message) = self.early.get(next) {
            if message.to == rank && split_of(message.tag) == split {
                self.early.remove(next);
                self.receive(message, out);
            } else {
                next += 1;
            }
        }
    }

    #[inline]
    fn receive(&mut self, message: Message, out: &mut Outbox) {
        let word = (message.tag >> SPLIT_BITS) as u32;
        self.step(message.to, split_of(message.tag), out, |algorithm, at, step| {
            algorithm.received(at, message.from, word, step);
        });
    }
}

#[inline]
fn split_of(tag: u64) -> u32 {
    (tag & ((1 << SPLIT_BITS) - 1)) as u32
}

impl<A: Algorithm> Program for Splits<A> {
    fn begin(&mut self, rank: u32, out: &mut Outbox) {
        if self.together {
            for split in 0..self.splits {
                self.enter(rank, split, out);
            }
        } else {
            out.wait(ns(self.costs.split_ns), tag(BEGIN, 0));
        }
    }

    #[inline]
    fn received(&mut self, rank: u32, message: Message, out: &mut Outbox) {
        let begun = self.together || self.current[rank as usize] == split_of(message.tag);
        if begun {
            self.receive(message, out);
        } else {
            self.early.push(message);
        }
    }

    fn woke(&mut self, rank: u32, tag: u64, out: &mut Outbox) {
        let split = split_of(tag);
        match (tag >> SPLIT_BITS) as u32 {
            BEGIN => self.enter(rank, split, out),
            END => self.step(rank, split, out, |_, _, step| step.done = true),
            word => self.step(rank, split, out, |algorithm, at, step| algorithm.woke(at, word, step)),
        }
    }
}
