//! One search shared out. Before anything is simulated, nodes are opened, best bound first, until there are many more of them
//! than shards; then they are dealt in the order of their bounds, there and back, each to one shard.
//!
//! ```text
//!   bounds in order    b0 b1 b2 b3 b4 b5 b6 b7 ...
//!   of three shards     0  1  2  2  1  0  0  1 ...
//! ```
//!
//! The deal depends on the space and on the number of shards alone: shards agree on it without a word. Nodes opened before it
//! are in the counts of the first shard. A plan belongs to the shard that has the lowest node dealt above it, which alone
//! counts it, whoever simulates it: what looks best every shard simulates first, as a search that is not shared out does, so that
//! all throw out by one good time.

use super::{Counts, Outcome, ROUND, Search};
use crate::tree::Key;
use sim_core::Digest;
use std::collections::BTreeMap;

/// Nodes for each shard: subtrees differ in size, and many even that out.
const NODES_A_SHARD: usize = 16;

/// Nodes that are opened at most before the deal.
const MOST_OPENED: usize = 1 << 11;

/// Which part of a search, and how it was shared out.
pub(super) struct Share {
    /// From 0, and how many there are.
    index: u64,
    of: u64,
    /// The nodes dealt, and whether they are this shard's.
    nodes: BTreeMap<Key, bool>,
    /// Over the nodes dealt.
    pub(super) dealt: Digest,
    /// Plans simulated here that are in the counts of other shards.
    pub(super) elsewhere: u64,
}

impl Share {
    pub(super) fn new((index, of): (u32, u32)) -> Share {
        Share {
            index: index.into(),
            of: of.max(1).into(),
            nodes: BTreeMap::new(),
            dealt: Digest::EMPTY,
            elsewhere: 0,
        }
    }

    /// Who has the i-th node: there and back, as the first of each round has most to do.
    fn has(&self, i: u64) -> bool {
        let (round, place) = (i / self.of, i % self.of);
        self.index == if round.is_multiple_of(2) { place } else { self.of - 1 - place }
    }

    /// Whether a plan is under a node of this shard, and not under one below it that another has.
    fn owns(&self, plan: &[u32]) -> bool {
        (2..=plan.len()).rev().find_map(|n| self.nodes.get(&plan[..n]).copied()).unwrap_or(false)
    }
}

impl Search<'_> {
    /// Opens nodes until there are enough, deals them, and keeps those of this shard.
    pub(super) fn share_out(&mut self, mut share: Share) {
        let enough = usize::try_from(share.of).unwrap_or(usize::MAX).saturating_mul(NODES_A_SHARD);
        // Plans are dealt too, and simulated by the shard that has them.
        let (mut plans, mut opened) = (Vec::new(), 0);
        while self.queue.len() + plans.len() < enough && opened < MOST_OPENED {
            let mut round = Vec::new();
            while round.len() < ROUND {
                let Some(((bound, key), state)) = self.queue.pop_first() else { break };
                match self.is_plan(&key) {
                    true => plans.push(((bound, key), state)),
                    false => round.push((bound, key, state)),
                }
            }
            if round.is_empty() {
                break;
            }
            opened += round.len();
            self.round(round);
        }
        self.queue.extend(plans);
        (self.rounds, self.digest) = (0, Digest::EMPTY);
        for (i, (bound, key)) in self.queue.keys().enumerate() {
            share.dealt.add(*bound, key.len() as u64);
            key.iter().for_each(|part| share.dealt.add(u64::from(*part), 0));
            share.nodes.insert(key.clone(), share.has(i as u64));
        }
        let dealt = self.queue.len();
        self.queue.retain(|(_, key), _| share.nodes.get(key).copied().unwrap_or(false));
        if share.index == 0 {
            self.counts.considered -= (dealt - self.queue.len()) as u64;
        } else {
            self.counts = Counts { considered: self.queue.len() as u64, ..Counts::default() };
            self.stuck.clear();
            self.log = self.log.take().map(|_| Vec::new());
        }
        self.share = Some(share);
    }

    /// Ranks a plan that another shard counts.
    pub(super) fn settle_elsewhere(&mut self, key: Key, outcome: Outcome) {
        let (counts, log) = (self.counts.clone(), self.log.take());
        self.settle(key, outcome);
        let simulated = self.counts.simulated - counts.simulated;
        (self.counts, self.log) = (counts, log);
        if let Some(share) = &mut self.share {
            share.elsewhere += simulated;
        }
    }

    fn is_plan(&self, key: &Key) -> bool {
        let Some(root) = self.tree.root(key) else { return false };
        let parts = self.tree.parts(root, key);
        let shared = self.tree.head() + 2 * parts.len();
        key.len() > shared || (key.len() == shared && self.inner_borders(&parts) == 0)
    }

    /// Whether a plan is of this shard; all are where the search is not shared out.
    pub(super) fn owns(&self, plan: &[u32]) -> bool {
        self.share.as_ref().is_none_or(|share| share.owns(plan))
    }

    /// Plans simulated here, whoever counts them.
    pub(super) fn simulated(&self) -> u64 {
        self.counts.simulated + self.share.as_ref().map_or(0, |share| share.elsewhere)
    }
}
