//! A pass whose layers send to other nodes: kernels, the bytes on their links, and the kernels beside them (the head of
//! `layer_times/sent.rs` has the picture).

use super::Lowering;
use super::route::Context;
use crate::crossings::Crossing;
use crate::fold::Class;
use crate::layer_times::{Exchange, PassSent, Sent};
use crate::layout::Rank;
use crate::schedule::PassKind;
use crate::units::Bytes;
use crate::uplinks;
use sim_core::{Rate, ResourceId, SimDuration, StreamId, Transfer};

/// The tasks that a pass of a rank, or a part of one that is cut, is made of: its first kernels, then
/// one transfer after another, and where kernels run beside those, these kernels and a task of no length that waits for both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The exchanges that leave a node, and how many of their [`Sent::bytes`] a node of the rank sends, at most.
    pub exchanges: Vec<(Exchange, u32)>,
    /// Whether kernels run beside them.
    pub beside: bool,
}

impl Split {
    /// Tasks of a part.
    pub fn tasks(&self) -> u32 {
        1 + self.exchanges.len() as u32 + if self.beside { 2 } else { 0 }
    }

    fn of(rank: &Rank, split_weights: bool) -> Split {
        let exchanges = rank.crossings.iter().map(|c| {
            let most = c.ends.iter().map(|end| end.sent).max().unwrap_or(0);
            (c.exchange, most)
        });
        let hides = |kind: PassKind| {
            rank.layers.chunks().iter().any(|layers| {
                let whole = rank.pass(kind, *layers, split_weights);
                rank.pass_sent(kind, *layers, split_weights).beside(whole) > SimDuration::ZERO
            })
        };
        let exchanges: Vec<(Exchange, u32)> = exchanges.collect();
        let beside = !exchanges.is_empty() && (hides(PassKind::Forward) || hides(PassKind::Backward));
        Split { exchanges, beside }
    }
}

/// How the passes of a rank are cut, and the links that each of its exchanges takes.
pub(super) struct Ways {
    pub(super) split: Split,
    ways: Vec<Way>,
}

/// What one of the [`Sent::bytes`] of an exchange uses.
struct Way {
    exchange: Exchange,
    uses: Vec<(ResourceId, u32)>,
    /// Into how many such parts the bytes are cut, each of which uses everything with its weight.
    parts: u32,
}

impl Way {
    /// As long under way as `sent` says where its links have room for it, to the picosecond.
    fn transfer(&self, sent: Sent) -> Transfer<'_> {
        let bytes = Bytes(sent.bytes).share(self.parts).0;
        // The rate at which they are through in the last picosecond.
        let work = (u128::from(bytes) << 16) * 1_000_000_000_000;
        let raw = work.div_ceil(u128::from(sent.time.as_ps().max(1)));
        let cap = u64::try_from(raw).map_or(Rate::MAX, Rate::from_raw);
        Transfer { bytes, latency: SimDuration::ZERO, cap, uses: &self.uses }
    }
}

impl Context<'_> {
    pub(super) fn ways(&self, class: &Class, rank: &Rank, split_weights: bool) -> Ways {
        if rank.crossings.is_empty() {
            return Ways { split: Split::default(), ways: Vec::new() };
        }
        let ways = rank.crossings.iter().map(|crossing| self.way(class, rank, crossing)).collect();
        Ways { split: Split::of(rank, split_weights), ways }
    }

    fn way(&self, class: &Class, rank: &Rank, crossing: &Crossing) -> Way {
        // Parts that every leaf has a whole number of.
        let parts = uplinks::parts(std::iter::once(rank));
        let mut uses = Vec::new();
        let mut add = |resource: ResourceId, weight: u32| {
            if weight > 0 {
                uses.push((resource, weight));
            }
        };
        for (slot, end) in crossing.ends.iter().enumerate() {
            let node = self.folding.canonical(rank.nodes[slot]);
            let shares = class.shares[rank.stage as usize][slot].saturating_mul(parts);
            add(self.fabric.egress(node), end.sent.saturating_mul(shares));
            add(self.fabric.ingress(node), end.received.saturating_mul(shares));
            for (k, (leaf, weight)) in uplinks::weights(rank, slot, parts).enumerate() {
                let leaf = self.folding.canonical_leaf(leaf);
                let weight = weight.saturating_mul(class.leaf_shares(rank.stage, slot, k));
                add(self.fabric.leaf(leaf, true), end.up.saturating_mul(weight));
                add(self.fabric.leaf(leaf, false), end.down.saturating_mul(weight));
            }
        }
        for (link, forward, times) in &crossing.zones {
            let all = class.count.saturating_mul(parts);
            add(self.fabric.zone(*link, *forward), times.saturating_mul(all));
        }
        Way { exchange: crossing.exchange, uses, parts }
    }
}

impl Lowering {
    /// A pass, or a part of one, that takes `whole` on idle links and sends as said.
    pub(super) fn part(&mut self, ways: &Ways, whole: SimDuration, sent: &PassSent, stream: StreamId) {
        let split = &ways.split;
        if split.exchanges.is_empty() {
            self.builder.delay(whole, &[stream], &[]);
            return;
        }
        let beside = sent.beside(whole);
        let first = whole.saturating_sub(sent.time().max(beside));
        let first = self.builder.delay(first, &[stream], &[]);
        for way in &ways.ways {
            let sent = sent.sent[way.exchange as usize];
            let some = sent.time > SimDuration::ZERO;
            self.builder.transfer(if some { way.transfer(sent) } else { NOTHING }, &[stream], &[]);
        }
        if split.beside {
            let beside = self.builder.delay(beside, &[], &[first]);
            self.builder.transfer(NOTHING, &[stream], &[beside]);
        }
    }
}

/// Done as soon as it starts.
const NOTHING: Transfer<'static> =
    Transfer { bytes: 0, latency: SimDuration::ZERO, cap: Rate::MAX, uses: &[] };
