//! The completion queue: finishes of what is under way, which move whenever a rate changes.
//!
//! An indexed 4-ary heap: each slot knows its place, so a change sifts from where the slot stands. Ties go to the smaller
//! id that the owner gave, never to the order of insertion, so that the history of changes leaves no trace.

const ABSENT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// (time, id) in one integer.
    key: u128,
    slot: u32,
}

/// A priority queue by (time, id) over dense slots; each slot is in it once or not at all.
///
/// ```
/// use sim_core::CompletionQueue;
/// let mut queue = CompletionQueue::new();
/// queue.set(0, 50, 7);
/// queue.set(1, 40, 8);
/// queue.set(0, 30, 7);
/// assert_eq!(queue.pop(), Some((30, 0)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct CompletionQueue {
    heap: Vec<Entry>,
    place: Vec<u32>,
}

impl CompletionQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { heap: Vec::new(), place: Vec::new() }
    }

    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Empties it; keeps the memory.
    pub fn clear(&mut self) {
        for entry in &self.heap {
            self.place[entry.slot as usize] = ABSENT;
        }
        self.heap.clear();
    }

    /// The earliest (time, slot).
    #[inline]
    pub fn peek(&self) -> Option<(u64, u32)> {
        self.heap.first().map(|e| ((e.key >> 64) as u64, e.slot))
    }

    /// Takes the earliest (time, slot).
    #[inline]
    pub fn pop(&mut self) -> Option<(u64, u32)> {
        let first = self.heap.first().copied()?;
        self.remove(first.slot);
        Some(((first.key >> 64) as u64, first.slot))
    }

    /// Sets the time of `slot`, whether it is in the queue or not; `id` breaks ties and is unique among slots.
    #[inline]
    pub fn set(&mut self, slot: u32, time: u64, id: u64) {
        let key = (u128::from(time) << 64) | u128::from(id);
        let index = slot as usize;
        if index >= self.place.len() {
            self.place.resize(index + 1, ABSENT);
        }
        let at = self.place[index];
        let entry = Entry { key, slot };
        if at == ABSENT {
            self.heap.push(entry);
            self.rise(self.heap.len() - 1, entry);
        } else {
            let at = at as usize;
            if key < self.heap[at].key {
                self.rise(at, entry);
            } else {
                self.sink(at, entry);
            }
        }
    }

    /// Takes `slot` out, if it is in.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        let at = match self.place.get(slot as usize) {
            Some(&at) if at != ABSENT => at as usize,
            _ => return,
        };
        self.place[slot as usize] = ABSENT;
        let Some(last) = self.heap.pop() else { return };
        if at < self.heap.len() {
            if last.key < self.heap[at].key {
                self.rise(at, last);
            } else {
                self.sink(at, last);
            }
        }
    }

    /// Replaces the whole content by `entries` of (slot, time, id), in linear time; keeps the memory.
    pub fn rebuild(&mut self, entries: impl Iterator<Item = (u32, u64, u64)>) {
        self.clear();
        for (slot, time, id) in entries {
            let index = slot as usize;
            if index >= self.place.len() {
                self.place.resize(index + 1, ABSENT);
            }
            self.place[index] = self.heap.len() as u32;
            self.heap.push(Entry { key: (u128::from(time) << 64) | u128::from(id), slot });
        }
        for at in (0..self.heap.len().div_ceil(4)).rev() {
            let entry = self.heap[at];
            self.sink(at, entry);
        }
    }

    #[inline]
    fn rise(&mut self, mut hole: usize, entry: Entry) {
        while hole > 0 {
            let parent = (hole - 1) / 4;
            let above = self.heap[parent];
            if above.key <= entry.key {
                break;
            }
            self.heap[hole] = above;
            self.place[above.slot as usize] = hole as u32;
            hole = parent;
        }
        self.heap[hole] = entry;
        self.place[entry.slot as usize] = hole as u32;
    }

    #[inline]
    fn sink(&mut self, mut hole: usize, entry: Entry) {
        loop {
            let first = hole * 4 + 1;
            let Some(children) = self.heap.get(first..(first + 4).min(self.heap.len())) else { break };
            let Some((at, least)) = children.iter().enumerate().min_by_key(|(_, e)| e.key) else { break };
            if entry.key <= least.key {
                break;
            }
            let (at, least) = (first + at, *least);
            self.heap[hole] = least;
            self.place[least.slot as usize] = hole as u32;
            hole = at;
        }
        self.heap[hole] = entry;
        self.place[entry.slot as usize] = hole as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(ops in proptest::collection::vec((0u32..30, 0u64..50, 0u8..8), 0..400)) {
            let mut queue = CompletionQueue::new();
            let mut oracle: BTreeMap<u32, u64> = BTreeMap::new();
            let id = |slot: u32| u64::from(100 - slot);
            for (slot, time, op) in ops {
                match op {
                    0 => {
                        let least = oracle.iter().map(|(&s, &t)| (t, id(s), s)).min();
                        prop_assert_eq!(queue.pop(), least.map(|(t, _, s)| (t, s)));
                        if let Some((_, _, s)) = least {
                            oracle.remove(&s);
                        }
                    }
                    1 => {
                        queue.remove(slot);
                        oracle.remove(&slot);
                    }
                    2 => queue.rebuild(oracle.iter().map(|(&s, &t)| (s, t, id(s)))),
                    _ => {
                        queue.set(slot, time, id(slot));
                        oracle.insert(slot, time);
                    }
                }
                prop_assert_eq!(queue.len(), oracle.len());
            }
        }
    }
}
