//! What the passes of a layer send to other nodes: the part of its waits that the network decides anew in an iteration.
//!
//! A pass alone on its links takes `P` (its [`LayerCost`](crate::device::LayerCost)). `N` of that its bytes are on the wires
//! between nodes, and kernels, a busy host or other ranks may hide some of it: were those bytes there at once, the pass would
//! be shorter by what is *felt* of them, and kernels could hide *room* at most. So the pass is cut into
//!
//! ```text
//!   |-- first --|-- bytes to other nodes, N alone on their links --|
//!               |-- beside them --|                                | next pass
//! ```
//!
//! of which `first + max(beside, N) = P`; a link that gives less makes the bytes take longer, and the pass with them.

use crate::device::{LayerEstimate, Pass, Waits};
use sim_core::{SimDuration, TimeError};

/// What the ranks of a stage exchange inside its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exchange {
    /// All-reduces of tensor parallelism.
    Tensor,
    /// Keys and values around the ranks of context parallelism.
    Context,
    /// Tokens to their experts and back.
    Expert,
}

impl Exchange {
    /// All of them, in the order of lists.
    pub const ALL: [Exchange; 3] = [Exchange::Tensor, Exchange::Context, Exchange::Expert];
}

impl std::fmt::Display for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Exchange::Tensor => "tensor parallelism",
            Exchange::Context => "context parallelism",
            Exchange::Expert => "expert parallelism",
        })
    }
}

/// Bytes of one exchange to other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How long they are under way alone on their links, latencies not counted.
    pub time: SimDuration,
    /// Tensor: over each hop from a node to the next of one group. Context: over each hop of one ring that leaves a node.
    /// Expert: from one device to each other that is on another node.
    pub bytes: u64,
}

/// What a pass sends. See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassSent {
    /// By [`Exchange::ALL`].
    pub sent: [Sent; 3],
    /// By how much the pass would be shorter if the bytes were there at once.
    pub felt: SimDuration,
    /// Of a pass that feels nothing of them: how long they may be under way before it does.
    pub room: SimDuration,
}

/// What the passes of a layer send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSent {
    /// Forward pass.
    pub forward: PassSent,
    /// Backward pass, without recomputation.
    pub backward: PassSent,
}

impl PassSent {
    /// How long its bytes are under way, one exchange after another.
    pub fn time(&self) -> SimDuration {
        self.sent.iter().fold(SimDuration::ZERO, |sum, s| sum.saturating_add(s.time))
    }

    /// What runs beside the bytes in a pass of `whole`.
    pub fn beside(&self, whole: SimDuration) -> SimDuration {
        let time = self.time();
        match (time, self.felt) {
            (SimDuration::ZERO, _) => SimDuration::ZERO,
            (_, SimDuration::ZERO) => self.room.min(whole),
            (time, felt) => time.saturating_sub(felt),
        }
    }

    /// The same under way no longer than the pass takes: what several exchanges have under way at once counts once.
    #[must_use]
    pub fn within(mut self, whole: SimDuration) -> PassSent {
        let all = u128::from(self.time().as_ps());
        if all > u128::from(whole.as_ps()) {
            for sent in &mut self.sent {
                let part = u128::from(sent.time.as_ps()) * u128::from(whole.as_ps()) / all;
                sent.time = SimDuration::from_ps(part as u64);
            }
            self.felt = self.felt.min(self.time());
        }
        self
    }

    /// Part by part, saturating.
    #[must_use]
    pub fn plus(self, other: PassSent) -> PassSent {
        self.each(other, SimDuration::saturating_add, u64::saturating_add)
    }

    fn each(
        self,
        other: PassSent,
        time: impl Fn(SimDuration, SimDuration) -> SimDuration,
        bytes: impl Fn(u64, u64) -> u64,
    ) -> PassSent {
        let one = |i: usize| {
            let (a, b) = (self.sent[i], other.sent[i]);
            Sent { time: time(a.time, b.time), bytes: bytes(a.bytes, b.bytes) }
        };
        PassSent {
            sent: [one(0), one(1), one(2)],
            felt: time(self.felt, other.felt),
            room: time(self.room, other.room),
        }
    }
}

impl LayerSent {
    /// Part by part, saturating.
    #[must_use]
    pub fn plus(self, other: LayerSent) -> LayerSent {
        LayerSent { forward: self.forward.plus(other.forward), backward: self.backward.plus(other.backward) }
    }

    /// Part by part, saturating.
    #[must_use]
    pub fn minus(self, other: LayerSent) -> LayerSent {
        let less = |a: PassSent, b| a.each(b, SimDuration::saturating_sub, u64::saturating_sub);
        LayerSent {
            forward: less(self.forward, other.forward),
            backward: less(self.backward, other.backward),
        }
    }
}

/// One exchange among ranks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchanged {
    /// Alone on its links, s.
    pub(super) seconds: f64,
    /// Were its bytes to other nodes there at once, s.
    pub(super) without_s: f64,
    /// What it takes beside those bytes where they take longest, s.
    pub(super) beside_s: f64,
    /// How long they are under way alone, s: 0 where all ranks are on one node.
    pub(super) sent_s: f64,
    /// Of those bytes, as [`Sent::bytes`] counts them.
    pub(super) bytes: f64,
}

impl Exchanged {
    /// One after the other.
    pub(super) fn plus(self, other: Exchanged) -> Exchanged {
        Exchanged {
            seconds: self.seconds + other.seconds,
            without_s: self.without_s + other.without_s,
            beside_s: self.beside_s + other.beside_s,
            sent_s: self.sent_s + other.sent_s,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// The exchanges of a layer, by [`Exchange::ALL`].
pub(super) type Exchanges = [Exchanged; 3];

/// What passes wait for when the bytes of each exchange take as `seconds` says.
pub(super) fn waits(all: &Exchanges, other: &Waits, seconds: impl Fn(&Exchanged) -> f64) -> Waits {
    let [tensor, context, expert] = all.each_ref().map(seconds);
    Waits { sync_s: tensor, ring_s: context, expert_s: expert, ..*other }
}

/// How much longer than a pass its bytes take where nothing else counts.
const LONG: f64 = 100.0;
/// Rounding of the parts of a pass, ps: what differs by no more is the same.
const ROUNDING: u64 = 4;

/// What the passes of a layer send with these exchanges; `other` has their remaining waits.
///
/// # Errors
/// A time beyond the range of a [`SimDuration`].
pub(super) fn of_layer(time: &LayerEstimate, all: &Exchanges, other: &Waits) -> Result<LayerSent, TimeError> {
    let now = time.passes_s(&waits(all, other, |e| e.seconds));
    let leaves = |e: &Exchanged| e.sent_s > 0.0;
    let none = time.passes_s(&waits(all, other, |e| if leaves(e) { e.without_s } else { e.seconds }));
    let pass = |which: usize, pass: &Pass| {
        // Of each exchange in the pass.
        let synced = f64::from(pass.syncs);
        let counts = [
            if time.forward.syncs + time.backward.syncs > 0 { synced } else { 0.0 },
            if time.ring_bytes > 0.0 { 1.0 + which as f64 } else { 0.0 },
            if time.expert_bytes > 0.0 { 2.0 } else { 0.0 },
        ];
        let mut sums = PassSent::default();
        let mut sent_s = 0.0;
        for (i, (exchanged, count)) in all.iter().zip(counts).enumerate() {
            sent_s += count * exchanged.sent_s;
            sums.sent[i] = Sent {
                time: SimDuration::from_secs_f64(count * exchanged.sent_s)?,
                bytes: libm::ceil(count * exchanged.bytes) as u64,
            };
        }
        if sent_s <= 0.0 {
            return Ok(PassSent::default());
        }
        let under_way = sums.time();
        let felt = SimDuration::from_secs_f64((now[which] - none[which]).max(0.0))?.min(under_way);
        sums.felt = match (felt.as_ps(), under_way.saturating_sub(felt).as_ps()) {
            (_, 0..=ROUNDING) => under_way,
            (0..=ROUNDING, _) => SimDuration::ZERO,
            _ => felt,
        };
        let longer = LONG * (now[which] + sent_s) / sent_s;
        let long = time.passes_s(&waits(all, other, |e| {
            if leaves(e) { e.beside_s + longer * e.sent_s } else { e.seconds }
        }));
        let first = (long[which] - longer * sent_s).max(0.0);
        sums.room = SimDuration::from_secs_f64((now[which] - first).max(0.0))?.max(under_way);
        Ok(sums)
    };
    Ok(LayerSent { forward: pass(0, &time.forward)?, backward: pass(1, &time.backward)? })
}
