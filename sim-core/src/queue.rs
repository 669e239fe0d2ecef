//! The event queue: a 4-ary heap on packed 16-byte keys.
//!
//! A key is (time, class, sequence) in one `u128`, so one comparison settles the total order, and the four children of a
//! node lie side by side. Payloads stand in an array of their own. There is no cancel: what can move belongs in a
//! [`CompletionQueue`](crate::CompletionQueue).

use std::collections::VecDeque;

use crate::time::SimTime;

/// What comes first among events of one instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Class {
    /// A resource takes a new capacity.
    Capacity = 0,
    /// Something ends.
    Finish = 1,
    /// Something begins.
    Start = 2,
    /// Shares are worked out anew, once for the instant.
    Resolve = 3,
}

const CLASS_SHIFT: u32 = 62;
const SEQUENCE_MASK: u64 = (1 << CLASS_SHIFT) - 1;

/// (time, class, sequence) as one integer; `sequence` is below 2^62.
#[inline]
pub(crate) fn pack(time: u64, class: Class, sequence: u64) -> u128 {
    (u128::from(time) << 64) | u128::from(((class as u64) << CLASS_SHIFT) | (sequence & SEQUENCE_MASK))
}

#[inline]
pub(crate) fn key_time(key: u128) -> u64 {
    (key >> 64) as u64
}

#[inline]
pub(crate) fn key_class(key: u128) -> Class {
    match (key as u64) >> CLASS_SHIFT {
        0 => Class::Capacity,
        1 => Class::Finish,
        2 => Class::Start,
        _ => Class::Resolve,
    }
}

/// A priority queue with the total order (time, class, sequence); the sequence is the order of insertion.
///
/// ```
/// use sim_core::{Class, EventQueue, SimTime};
/// let mut queue = EventQueue::new();
/// queue.push(SimTime::from_ps(5), Class::Start, "b");
/// queue.push(SimTime::from_ps(5), Class::Finish, "a");
/// assert_eq!(queue.pop(), Some((SimTime::from_ps(5), Class::Finish, "a")));
/// ```
#[derive(Clone, Debug)]
pub struct EventQueue<E> {
    keys: Vec<u128>,
    events: Vec<E>,
    sequence: u64,
    /// The root has been taken and its place not yet filled: what is pushed next goes there, as most events schedule one.
    hollow: bool,
}

impl<E: Copy> Default for EventQueue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Copy> EventQueue<E> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { keys: Vec::new(), events: Vec::new(), sequence: 0, hollow: false }
    }

    /// How many events wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.keys.len() - usize::from(self.hollow)
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties the queue and restarts the sequence; keeps the memory.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.events.clear();
        self.sequence = 0;
        self.hollow = false;
    }

    /// Adds an event after all of the same time and class.
    #[inline]
    pub fn push(&mut self, time: SimTime, class: Class, event: E) {
        let key = pack(time.as_ps(), class, self.sequence);
        self.sequence += 1;
        self.push_key(key, event);
    }

    /// The time of the next event.
    #[inline]
    pub fn peek_time(&self) -> Option<SimTime> {
        self.peek_key().map(|k| SimTime::from_ps(key_time(k)))
    }

    /// Takes the next event.
    #[inline]
    pub fn pop(&mut self) -> Option<(SimTime, Class, E)> {
        let (key, event) = self.pop_key()?;
        Some((SimTime::from_ps(key_time(key)), key_class(key), event))
    }

    #[inline]
    pub(crate) fn peek_key(&self) -> Option<u128> {
        if self.hollow {
            return self.keys.get(1..)?.iter().take(4).min().copied();
        }
        self.keys.first().copied()
    }

    #[inline]
    pub(crate) fn push_key(&mut self, key: u128, event: E) {
        if self.hollow {
            self.hollow = false;
            self.sink(key, event);
            return;
        }
        let hole = self.keys.len();
        self.keys.push(key);
        self.events.push(event);
        self.rise(hole, key, event);
    }

    #[inline]
    pub(crate) fn pop_key(&mut self) -> Option<(u128, E)> {
        if self.hollow {
            self.fill();
        }
        let (key, event) = (*self.keys.first()?, *self.events.first()?);
        self.hollow = true;
        Some((key, event))
    }

    /// Fills the root from the end.
    fn fill(&mut self) {
        self.hollow = false;
        let (Some(key), Some(event)) = (self.keys.pop(), self.events.pop()) else { return };
        // What came off the end may have been the hollow root itself.
        if !self.keys.is_empty() {
            self.sink(key, event);
        }
    }

    #[inline(always)]
    fn rise(&mut self, mut hole: usize, key: u128, event: E) {
        while hole > 0 {
            let parent = (hole - 1) / 4;
            if self.keys[parent] <= key {
                break;
            }
            self.keys[hole] = self.keys[parent];
            self.events[hole] = self.events[parent];
            hole = parent;
        }
        self.keys[hole] = key;
        self.events[hole] = event;
    }

    /// Puts `key` in place of the root: the hole sinks to a leaf along the least children, then `key`, which mostly belongs
    /// near one, rises from there.
    #[inline]
    fn sink(&mut self, key: u128, event: E) {
        let keys = self.keys.as_mut_slice();
        // One length for both, so that one check serves both.
        let events = &mut self.events.as_mut_slice()[..keys.len()];
        let mut hole = 0;
        loop {
            let first = hole * 4 + 1;
            // The order of the children is as good as random, so their comparisons index and do not branch.
            let child = match keys.get(first..first + 4) {
                Some(&[a, b, c, d]) => {
                    let low = [a, b];
                    let high = [c, d];
                    let (i, j) = (usize::from(b < a), usize::from(d < c));
                    let upper = usize::from(high[j] < low[i]);
                    first + [i, 2 + j][upper]
                }
                _ => {
                    let tail = keys.get(first..).unwrap_or_default();
                    let Some((at, _)) = tail.iter().enumerate().min_by_key(|&(_, &k)| k) else { break };
                    first + at
                }
            };
            keys[hole] = keys[child];
            events[hole] = events[child];
            hole = child;
        }
        self.rise(hole, key, event);
    }
}

/// An event queue for delays that repeat: what comes in order waits in a lane, the rest in the heap. The order out is that of
/// the keys, either way.
#[derive(Clone, Debug)]
pub(crate) struct LaneQueue<E> {
    lane: VecDeque<(u128, E)>,
    heap: EventQueue<E>,
    sequence: u64,
}

impl<E: Copy> Default for LaneQueue<E> {
    fn default() -> Self {
        Self { lane: VecDeque::new(), heap: EventQueue::new(), sequence: 0 }
    }
}

impl<E: Copy> LaneQueue<E> {
    pub(crate) fn clear(&mut self) {
        self.lane.clear();
        self.heap.clear();
        self.sequence = 0;
    }

    /// Adds an event after all of the same time and class.
    #[inline]
    pub(crate) fn push(&mut self, time: u64, class: Class, event: E) {
        let key = pack(time, class, self.sequence);
        self.sequence += 1;
        match self.lane.back() {
            Some(&(last, _)) if key < last => self.heap.push_key(key, event),
            _ => self.lane.push_back((key, event)),
        }
    }

    #[inline]
    pub(crate) fn peek_key(&self) -> Option<u128> {
        let lane = self.lane.front().map(|&(key, _)| key);
        match (lane, self.heap.peek_key()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    #[inline]
    pub(crate) fn pop_key(&mut self) -> Option<(u128, E)> {
        match (self.lane.front(), self.heap.peek_key()) {
            (Some(&(a, _)), Some(b)) if b < a => self.heap.pop_key(),
            (None, _) => self.heap.pop_key(),
            _ => self.lane.pop_front(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pops_in_total_order(ops in proptest::collection::vec((0u64..20, 0u8..4, any::<bool>()), 0..300)) {
            let mut queue = EventQueue::new();
            let mut oracle = std::collections::BTreeSet::new();
            for (seq, (time, class, pop)) in ops.into_iter().enumerate() {
                let class = key_class(u128::from(class) << CLASS_SHIFT);
                queue.push(SimTime::from_ps(time), class, seq);
                oracle.insert((time, class, seq));
                if pop {
                    let expect = oracle.pop_first().map(|(t, c, s)| (SimTime::from_ps(t), c, s));
                    prop_assert_eq!(queue.pop(), expect);
                }
            }
            while let Some((t, c, s)) = oracle.pop_first() {
                prop_assert_eq!(queue.pop(), Some((SimTime::from_ps(t), c, s)));
            }
            prop_assert!(queue.pop().is_none());
        }
    }
}
