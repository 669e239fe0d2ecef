//! A calendar in front of the heap, for many pending events: buckets of time, sorted when their turn comes.
//!
//! Few events wait in an [`EventQueue`]. From [`MANY`] on, those of the near future go to buckets of equal width, about two
//! events each, in a ring; the bucket under way is sorted. What the buckets cannot hold (the far future, and what arrives for
//! the bucket under way once that is crowded) waits in the heap, and the earlier of the two heads is next, so that the order
//! is that of the keys whatever the widths. Widths are fitted anew, in linear time, when they have fitted badly for as many
//! events as that costs.

use crate::queue::{Class, EventQueue, key_time, pack};

/// From this many pending events on there are buckets.
const MANY: usize = 192;
/// Below this many there are none.
const FEW: usize = 64;
/// The bucket under way takes newcomers up to this size.
const CROWDED: usize = 48;
/// End of a bucket's list.
const END: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node<E> {
    key: u128,
    event: E,
    next: u32,
}

/// How well the widths fit, since they were last judged.
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    /// Events taken, whence.
    taken: usize,
    from_heap: usize,
    /// Buckets opened, and passed over empty.
    opened: usize,
    passed: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct CalendarQueue<E> {
    heap: EventQueue<E>,
    /// The bucket under way, latest first.
    near: Vec<(u128, E)>,
    /// First node of each bucket; empty while there are none.
    heads: Vec<u32>,
    /// A bit for each bucket that holds anything.
    filled: Vec<u64>,
    nodes: Vec<Node<E>>,
    free: u32,
    in_buckets: usize,
    /// Logarithm of a bucket's width in picoseconds.
    shift: u32,
    /// The first bucket that is not yet opened, counted from time 0.
    first: u64,
    fit: Fit,
    scratch: Vec<(u128, E)>,
    sequence: u64,
}

impl<E: Copy> CalendarQueue<E> {
    pub(crate) fn new() -> Self {
        Self {
            heap: EventQueue::new(),
            near: Vec::new(),
            heads: Vec::new(),
            filled: Vec::new(),
            nodes: Vec::new(),
            free: END,
            in_buckets: 0,
            shift: 0,
            first: 0,
            fit: Fit::default(),
            scratch: Vec::new(),
            sequence: 0,
        }
    }

    fn len(&self) -> usize {
        self.heap.len() + self.near.len() + self.in_buckets
    }

    /// Empties the queue and restarts the sequence; keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.drop_buckets();
        self.near.clear();
        self.sequence = 0;
    }

    fn drop_buckets(&mut self) {
        self.heads.clear();
        self.filled.clear();
        self.nodes.clear();
        self.free = END;
        self.in_buckets = 0;
        self.fit = Fit::default();
    }

    /// Adds an event after all of the same time and class.
    #[inline]
    pub(crate) fn push(&mut self, time: u64, class: Class, event: E) {
        let key = pack(time, class, self.sequence);
        self.sequence += 1;
        if self.heads.is_empty() {
            self.heap.push_key(key, event);
            if self.heap.len() >= MANY {
                self.refit();
            }
        } else {
            self.place(key, event);
        }
    }

    #[inline]
    fn place(&mut self, key: u128, event: E) {
        let bucket = key_time(key) >> self.shift;
        if bucket < self.first {
            if self.near.len() < CROWDED {
                let at = self.near.partition_point(|&(k, _)| k > key);
                self.near.insert(at, (key, event));
            } else {
                self.heap.push_key(key, event);
            }
        } else if bucket - self.first < self.heads.len() as u64 {
            let at = bucket as usize & (self.heads.len() - 1);
            let node = Node { key, event, next: self.heads[at] };
            let slot = self.free;
            if let Some(old) = self.nodes.get_mut(slot as usize) {
                self.free = old.next;
                *old = node;
                self.heads[at] = slot;
            } else {
                self.heads[at] = self.nodes.len() as u32;
                self.nodes.push(node);
            }
            self.filled[at / 64] |= 1 << (at % 64);
            self.in_buckets += 1;
        } else {
            self.heap.push_key(key, event);
        }
    }

    #[inline]
    pub(crate) fn peek_key(&mut self) -> Option<u128> {
        if self.near.is_empty() && self.in_buckets > 0 {
            self.open();
        }
        match (self.near.last(), self.heap.peek_key()) {
            (Some(&(a, _)), Some(b)) => Some(a.min(b)),
            (near, heap) => near.map(|n| n.0).or(heap),
        }
    }

    #[inline]
    pub(crate) fn pop_key(&mut self) -> Option<(u128, E)> {
        if self.heads.is_empty() {
            return self.heap.pop_key();
        }
        if self.near.is_empty() && self.in_buckets > 0 {
            self.open();
        }
        self.fit.taken += 1;
        match (self.near.last(), self.heap.peek_key()) {
            (Some(&(a, _)), Some(b)) if a < b => self.near.pop(),
            (Some(_), None) => self.near.pop(),
            _ => {
                self.fit.from_heap += 1;
                let next = self.heap.pop_key();
                self.judge();
                next
            }
        }
    }

    /// Sorts the next bucket that holds anything, unless the heap has something earlier.
    fn open(&mut self) {
        self.judge();
        if self.heads.is_empty() {
            return;
        }
        let mask = self.heads.len() - 1;
        let from = self.first as usize & mask;
        let mut word = from / 64;
        let mut bits = self.filled[word] & (u64::MAX << (from % 64));
        while bits == 0 {
            word = (word + 1) % self.filled.len();
            bits = self.filled[word];
        }
        let at = word * 64 + bits.trailing_zeros() as usize;
        let ahead = (at.wrapping_sub(from) & mask) as u64;
        let bucket = self.first + ahead;
        if self.heap.peek_key().is_some_and(|key| key_time(key) >> self.shift < bucket) {
            return;
        }
        self.fit.opened += 1;
        self.fit.passed += ahead;
        self.first = bucket + 1;
        self.filled[at / 64] &= !(1 << (at % 64));
        let mut slot = std::mem::replace(&mut self.heads[at], END);
        while let Some(node) = self.nodes.get_mut(slot as usize) {
            self.near.push((node.key, node.event));
            let next = std::mem::replace(&mut node.next, self.free);
            self.free = slot;
            slot = next;
        }
        self.in_buckets -= self.near.len();
        // Two or three mostly; keys differ, so that any sort gives the one order.
        self.near.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.0));
    }

    /// Fits the widths anew when, over as many events as that costs, they have fitted badly; gives the buckets up when few
    /// events are left.
    #[inline]
    fn judge(&mut self) {
        let fit = self.fit;
        if fit.taken < 4_096 {
            return;
        }
        let len = self.len();
        if fit.taken < 2 * len {
            return;
        }
        let full = fit.taken - fit.from_heap > 6 * fit.opened;
        let sparse = fit.passed > 8 * fit.opened as u64;
        if len < FEW || full || sparse || 4 * fit.from_heap > fit.taken {
            self.refit();
        } else {
            self.fit = Fit::default();
        }
    }

    /// Takes everything out, chooses the buckets by what there is, and puts it back.
    #[cold]
    fn refit(&mut self) {
        let mut all = std::mem::take(&mut self.scratch);
        all.append(&mut self.near);
        for node in self.filled_nodes() {
            all.push(node);
        }
        while let Some(entry) = self.heap.pop_key() {
            all.push(entry);
        }
        self.drop_buckets();
        let earliest = all.iter().map(|e| key_time(e.0)).min().unwrap_or(0);
        if all.len() >= FEW {
            // Twice the mean distance is the span, were the times uniform.
            let total: u128 = all.iter().map(|e| u128::from(key_time(e.0) - earliest)).sum();
            let width = (4 * total / (all.len() as u128 * all.len() as u128)).max(1);
            self.shift = u64::try_from(width).unwrap_or(u64::MAX).ilog2();
            self.first = earliest >> self.shift;
            let buckets = (2 * all.len()).next_power_of_two().clamp(512, 1 << 21);
            self.heads.resize(buckets, END);
            self.filled.resize(buckets / 64, 0);
            for &(key, event) in &all {
                self.place(key, event);
            }
        } else {
            for &(key, event) in &all {
                self.heap.push_key(key, event);
            }
        }
        all.clear();
        self.scratch = all;
    }

    /// What the buckets hold, in no order.
    fn filled_nodes(&self) -> impl Iterator<Item = (u128, E)> + '_ {
        self.heads.iter().flat_map(move |&head| {
            let node = |slot: u32| self.nodes.get(slot as usize);
            std::iter::successors(node(head), move |n| node(n.next)).map(|n| (n.key, n.event))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn pops_in_the_order_of_the_keys(
            start in 1usize..600,
            seed in any::<u64>(),
            scale in proptest::sample::select(vec![0u32, 1, 6, 20, 40, 63]),
            phases in proptest::collection::vec((0u32..4, 500usize..6_000), 1..5),
        ) {
            let mut state = seed;
            let mut random = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 20
            };
            let mut queue = CalendarQueue::new();
            let mut oracle = std::collections::BTreeSet::new();
            let mut sequence = 0u64;
            let mut push = |queue: &mut CalendarQueue<u64>, oracle: &mut std::collections::BTreeSet<_>, time: u64| {
                queue.push(time, Class::Start, sequence);
                oracle.insert((time, sequence));
                sequence += 1;
            };
            let delay = |bits: u64| match scale {
                0 => 0,
                // Uniform, but for one in eight far out or right now.
                s if bits.is_multiple_of(8) => (bits >> 3) % 3 * (1u64 << s.min(40)),
                s => (bits >> 3) & ((1u64 << s.min(30)) - 1),
            };
            for _ in 0..start {
                push(&mut queue, &mut oracle, delay(random()));
            }
            for (growth, steps) in phases {
                for _ in 0..steps {
                    let expect = oracle.pop_first();
                    prop_assert_eq!(queue.peek_key().map(key_time), expect.map(|e| e.0));
                    let got = queue.pop_key().map(|(k, s)| (key_time(k), s));
                    prop_assert_eq!(got, expect);
                    let now = expect.map_or(0, |e| e.0);
                    // Shrinks, holds, or grows.
                    let pushes = match growth { 0 => random() % 2, 1 | 2 => 1, _ => random() % 3 };
                    for _ in 0..pushes {
                        push(&mut queue, &mut oracle, now + delay(random()));
                    }
                    prop_assert_eq!(queue.len(), oracle.len());
                }
            }
        }
    }
}
