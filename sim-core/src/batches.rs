//! A queue of many things at few keys.
//!
//! Replicas that are alike begin and end their passes at the same picosecond, thousands at a time; links that are alike fill up
//! at the same rate. What has one key waits in one batch with one entry in the heap. A small table finds the batches that are
//! being filled; one that it has lost is begun anew, and the two come out together.

use crate::queue::EventQueue;

/// Bits of a key: all above those of what waits in the heap's.
const KEY_SHIFT: u32 = 62;
/// Batches that are found again, by the hash of their key.
const KNOWN: usize = 32;
/// End of a list.
const END: u32 = u32::MAX;

/// A batch, while it is known. No key is `u128::MAX`.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: u128,
    /// Its last node.
    last: u32,
}

const NOTHING: Known = Known { key: u128::MAX, last: END };

/// One of a batch, and the next one.
#[derive(Clone, Copy, Debug)]
struct Node {
    what: u32,
    next: u32,
}

/// The least key comes out first, with all that wait at it. Keys are below 2^66.
#[derive(Clone, Debug)]
pub(crate) struct Batches {
    /// The first node of each batch.
    heap: EventQueue<u32>,
    nodes: Vec<Node>,
    /// The first of the nodes that are in no use.
    free: u32,
    known: [Known; KNOWN],
}

impl Default for Batches {
    fn default() -> Self {
        Self { heap: EventQueue::new(), nodes: Vec::new(), free: END, known: [NOTHING; KNOWN] }
    }
}

/// Where a key is known. The high bits of a product depend on all bits below.
#[inline]
fn place(key: u128) -> usize {
    ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - KNOWN.ilog2())) as usize % KNOWN
}

impl Batches {
    /// Forgets all; keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.nodes.clear();
        self.free = END;
        self.known = [NOTHING; KNOWN];
    }

    /// The least key.
    #[inline]
    pub(crate) fn next(&self) -> Option<u128> {
        self.heap.peek_key().map(|key| key >> KEY_SHIFT)
    }

    /// Adds one at `key`.
    #[inline]
    pub(crate) fn push(&mut self, key: u128, what: u32) {
        let node = self.node(what);
        let known = &mut self.known[place(key)];
        if known.key == key {
            self.nodes[known.last as usize].next = node;
            known.last = node;
        } else {
            *known = Known { key, last: node };
            self.heap.push_key((key << KEY_SHIFT) | u128::from(what), node);
        }
    }

    #[inline]
    fn node(&mut self, what: u32) -> u32 {
        let node = Node { what, next: END };
        let slot = self.free;
        if let Some(old) = self.nodes.get_mut(slot as usize) {
            self.free = old.next;
            *old = node;
            slot
        } else {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        }
    }

    /// Takes all at the least key, in no order that means anything, in place of what `all` holds.
    #[inline]
    pub(crate) fn take(&mut self, all: &mut Vec<u32>) -> Option<u128> {
        all.clear();
        let key = self.next()?;
        while self.next() == Some(key) {
            let Some((_, head)) = self.heap.pop_key() else { break };
            let mut last = head;
            loop {
                let Node { what, next } = self.nodes[last as usize];
                all.push(what);
                if next == END {
                    break;
                }
                last = next;
            }
            self.nodes[last as usize].next = self.free;
            self.free = head;
        }
        let known = &mut self.known[place(key)];
        if known.key == key {
            *known = NOTHING;
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn takes_all_of_the_least_key(
            keys in 1u128..200,
            wide in any::<bool>(),
            steps in proptest::collection::vec((proptest::collection::vec(any::<u64>(), 0..60), 0u32..4), 1..30),
        ) {
            let (mut batches, mut oracle, mut all) = (Batches::default(), std::collections::BTreeSet::new(), Vec::new());
            let mut what = 0u32;
            for (pushes, takes) in steps {
                for bits in pushes {
                    // Small numbers that come again, or times far apart.
                    let key = u128::from(bits) % keys * if wide { 0x3_0000_0000_0000_0001 / keys } else { 1 };
                    what += 1;
                    batches.push(key, what);
                    oracle.insert((key, what));
                }
                for _ in 0..takes {
                    let least = oracle.first().map(|&(key, _)| key);
                    prop_assert_eq!(batches.next(), least);
                    prop_assert_eq!(batches.take(&mut all), least);
                    all.sort_unstable();
                    for &what in &all {
                        prop_assert_eq!(oracle.pop_first(), least.map(|key| (key, what)));
                    }
                    prop_assert!(oracle.first().is_none_or(|&(key, _)| Some(key) != least));
                }
            }
            batches.clear();
            prop_assert_eq!(batches.next(), None);
        }
    }
}
