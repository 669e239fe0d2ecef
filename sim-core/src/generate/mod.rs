//! Generated task sources: ranks that exchange messages by a rule, so that no message is ever stored before it is sent.
//!
//! A [`Program`] says what a rank does when it begins and when it has received something. Two worlds run it: [`Fcfs`], where
//! a message holds one link at a time, and [`Flows`], where it holds all links of its path at once and shares them. The
//! state of both is that of the ranks and of the messages under way.

mod fcfs;
mod flows;
mod symmetry;

pub use fcfs::{Fcfs, LinkTimes};
pub use flows::Flows;
pub use symmetry::{Refusal, Symmetry};

use crate::rate::Rate;
use crate::time::SimDuration;

/// A message between two ranks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The rank that sends it.
    pub from: u32,
    /// The rank that gets it.
    pub to: u32,
    /// Bytes; 0 is allowed.
    pub bytes: u64,
    /// What the program likes to know of it again.
    pub tag: u64,
}

/// What each rank does. Laws: what a call does depends on the rank's own past alone (its calls so far), and it touches no
/// other rank's state; so ranks that are alike may be simulated once.
pub trait Program {
    /// The rank starts, at time 0.
    fn begin(&mut self, rank: u32, out: &mut Outbox);
    /// The rank has received the whole of a message.
    fn received(&mut self, rank: u32, message: Message, out: &mut Outbox);
    /// A time that the rank waited for is over.
    fn woke(&mut self, _rank: u32, _tag: u64, _out: &mut Outbox) {}
}

/// Which links a message takes.
pub trait Route {
    /// How many links there are.
    fn links(&self) -> u32;
    /// The link of the `hop`th hop (from 0) between two ranks; `None` behind the last.
    fn link(&self, from: u32, to: u32, hop: u32) -> Option<u32>;
    /// The link that stands for `link` and all that `symmetry` carries it to; `None` when the links have not that symmetry.
    fn orbit(&self, _link: u32, _symmetry: Symmetry) -> Option<u32> {
        None
    }
    /// Latency of a link in [`Flows`]; `None` for that of its world.
    #[inline]
    fn latency(&self, _link: u32) -> Option<SimDuration> {
        None
    }
    /// Highest rate of one message of `bytes` between two ranks in [`Flows`], whatever its links could carry.
    #[inline]
    fn cap(&self, _from: u32, _to: u32, _bytes: u64) -> Rate {
        Rate::MAX
    }
}

/// What a rank does next.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    rank: u32,
    actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Send(u64, Message),
    /// Rank, delay, tag.
    Wait(u32, u64, u64),
}

impl Outbox {
    /// Sends `bytes` to rank `to` after `delay`; messages of one delay leave in the order of the calls.
    #[inline]
    pub fn send(&mut self, to: u32, bytes: u64, tag: u64, delay: SimDuration) {
        let message = Message { from: self.rank, to, bytes, tag };
        self.actions.push(Action::Send(delay.as_ps(), message));
    }

    /// Calls [`Program::woke`] after `delay`.
    #[inline]
    pub fn wait(&mut self, delay: SimDuration, tag: u64) {
        self.actions.push(Action::Wait(self.rank, delay.as_ps(), tag));
    }

    /// Calls [`Program::woke`] of `rank` at this instant: how a sender hears that its message is there. Not for folded
    /// worlds, where other ranks are not simulated.
    #[inline]
    pub fn wake(&mut self, rank: u32, tag: u64) {
        self.actions.push(Action::Wait(rank, 0, tag));
    }
}

/// A message or a wait on its way.
#[derive(Clone, Copy, Debug)]
struct Event {
    message: Message,
    /// Hops behind it, or [`WAIT`].
    hop: u32,
}

const WAIT: u32 = u32::MAX;

impl Event {
    fn wait(rank: u32, tag: u64) -> Self {
        Self { message: Message { from: rank, to: rank, bytes: 0, tag }, hop: WAIT }
    }

    /// What the digest sees of it.
    #[inline]
    fn fingerprint(&self) -> u64 {
        let m = &self.message;
        let ranks = (u64::from(m.from) << 32) | u64::from(m.to);
        ranks ^ m.tag.rotate_left(20) ^ m.bytes.rotate_left(40) ^ u64::from(self.hop)
    }
}
