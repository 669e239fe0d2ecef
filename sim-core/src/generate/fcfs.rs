//! Store and forward: a message holds one link at a time, links serve first come, first served.

use super::symmetry::Fold;
use super::{Action, Event, Message, Outbox, Program, Refusal, Route, Symmetry, WAIT};
use crate::digest::Digest;
use crate::error::SimError;
use crate::executor::{Outcome, RunOptions};
use crate::observe::Observer;
use crate::queue::{Class, LaneQueue, key_class, key_time};
use crate::time::{SimDuration, SimTime};

/// How long a link is busy with a message, and how long after its start the message has arrived at the other end.
pub trait LinkTimes {
    /// (busy, arrival) of `bytes` on `link`.
    fn times(&self, link: u32, bytes: u64) -> (SimDuration, SimDuration);
    /// Whether two links give the same times for any size. Cheap: it is asked for every message.
    fn alike(&self, a: u32, b: u32) -> bool;
}

/// When a link is free again, and when it was last asked.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    free: u64,
    asked: u64,
}

/// Runs a [`Program`] over links that serve one message after another.
///
/// Two ranks, one message each way:
/// ```
/// use sim_core::generate::{Fcfs, LinkTimes, Message, Outbox, Program, Route};
/// use sim_core::{NoObserver, RunOptions, SimDuration};
///
/// struct Ping;
/// impl Program for Ping {
///     fn begin(&mut self, rank: u32, out: &mut Outbox) {
///         if rank == 0 { out.send(1, 100, 0, SimDuration::ZERO); }
///     }
///     fn received(&mut self, rank: u32, message: Message, out: &mut Outbox) {
///         if rank == 1 { out.send(message.from, 50, 0, SimDuration::ZERO); }
///     }
/// }
/// struct Wire;
/// impl Route for Wire {
///     fn links(&self) -> u32 { 2 }
///     fn link(&self, from: u32, _to: u32, hop: u32) -> Option<u32> { (hop == 0).then_some(from) }
/// }
/// impl LinkTimes for Wire {
///     fn times(&self, _link: u32, bytes: u64) -> (SimDuration, SimDuration) {
///         (SimDuration::from_ps(bytes), SimDuration::from_ps(bytes + 7))
///     }
///     fn alike(&self, _a: u32, _b: u32) -> bool { true }
/// }
/// let outcome = Fcfs::new(2).run(&mut Ping, &Wire, &Wire, &RunOptions::default(), &mut NoObserver).unwrap();
/// assert_eq!(outcome.end.as_ps(), 107 + 57);
/// ```
#[derive(Clone, Debug)]
pub struct Fcfs {
    fold: Fold,
    ordered: bool,
    queue: LaneQueue<Event>,
    links: Vec<Link>,
    outbox: Outbox,
    /// The times of the last size, as most messages are like the one before.
    known: Option<(u32, u64, u64, u64)>,
    now: u64,
    events: u64,
    digest: Digest,
}

impl Fcfs {
    /// A world of `ranks` ranks, every message simulated.
    pub fn new(ranks: u32) -> Self {
        Self {
            fold: Fold { ranks, symmetry: None },
            ordered: false,
            queue: LaneQueue::default(),
            links: Vec::new(),
            outbox: Outbox::default(),
            known: None,
            now: 0,
            events: 0,
            digest: Digest::EMPTY,
        }
    }

    /// A world that simulates one rank for all `ranks`. The program must treat all ranks alike under `symmetry`: what rank r
    /// does is what rank 0 does, carried over.
    ///
    /// # Errors
    /// When the links are not alike under `symmetry`, with the first that breaks it.
    pub fn folded(
        ranks: u32,
        symmetry: Symmetry,
        route: &impl Route,
        times: &impl LinkTimes,
    ) -> Result<Self, Refusal> {
        let fold = Fold { ranks, symmetry: Some(symmetry) };
        fold.check(route, |a, b| times.alike(a, b))?;
        Ok(Self { fold, ..Self::new(ranks) })
    }

    /// Promises that the first link of a path serves its sender alone, and that the sender asks for it in the order of the
    /// times at which its messages leave. That saves an event a message; a broken promise ends the run with
    /// [`SimError::OutOfOrder`].
    pub fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Runs `program` from time 0 until nothing is under way. [`RunOptions::origin`] has no meaning here.
    ///
    /// # Errors
    /// [`SimError::TimeOverflow`], [`SimError::EventBudget`], [`SimError::OutOfOrder`].
    ///
    /// # Panics
    /// When the route names a link that it does not have.
    pub fn run<P: Program, R: Route, T: LinkTimes, O: Observer>(
        &mut self,
        program: &mut P,
        route: &R,
        times: &T,
        opts: &RunOptions,
        obs: &mut O,
    ) -> Result<Outcome, SimError> {
        self.queue.clear();
        self.links.clear();
        self.links.resize(route.links() as usize, Link::default());
        (self.now, self.events, self.digest, self.known) = (0, 0, Digest::EMPTY, None);
        for rank in 0..self.fold.simulated() {
            self.outbox.rank = rank;
            program.begin(rank, &mut self.outbox);
            self.act(route, times)?;
        }
        let cutoff = opts.cutoff.map_or(u64::MAX, SimTime::as_ps);
        let budget = opts.event_budget.unwrap_or(u64::MAX);
        while let Some((key, event)) = self.queue.pop_key() {
            if key_time(key) > cutoff {
                return Ok(self.outcome(false, cutoff));
            }
            self.now = key_time(key);
            self.events += 1;
            let what = event.fingerprint();
            self.digest.add(self.now, what ^ ((key_class(key) as u64) << 62));
            obs.dispatched(SimTime::from_ps(self.now), key_class(key), what);
            if self.events > budget {
                return Err(SimError::EventBudget { budget, at: SimTime::from_ps(self.now) });
            }
            self.dispatch(event, program, route, times)?;
        }
        Ok(self.outcome(true, self.now))
    }

    #[inline]
    fn dispatch<P: Program, R: Route, T: LinkTimes>(
        &mut self,
        event: Event,
        program: &mut P,
        route: &R,
        times: &T,
    ) -> Result<(), SimError> {
        let message = event.message;
        if event.hop == WAIT {
            self.outbox.rank = message.to;
            program.woke(message.to, message.tag, &mut self.outbox);
        } else if let Some(link) = route.link(message.from, message.to, event.hop) {
            return self.hop(message, event.hop, link, self.now, route, times);
        } else {
            let seen = self.fold.seen(message);
            self.outbox.rank = seen.to;
            program.received(seen.to, seen, &mut self.outbox);
        }
        self.act(route, times)
    }

    /// Does what the rank just said.
    #[inline]
    fn act<R: Route, T: LinkTimes>(&mut self, route: &R, times: &T) -> Result<(), SimError> {
        for at in 0..self.outbox.actions.len() {
            match self.outbox.actions[at] {
                Action::Wait(rank, delay, tag) => {
                    let event = Event::wait(rank, tag);
                    let time = self.later(delay)?;
                    self.queue.push(time, Class::Finish, event);
                }
                Action::Send(delay, message) => {
                    let time = self.later(delay)?;
                    match route.link(message.from, message.to, 0) {
                        Some(link) if self.ordered => self.hop(message, 0, link, time, route, times)?,
                        _ => self.queue.push(time, Class::Start, Event { message, hop: 0 }),
                    }
                }
            }
        }
        self.outbox.actions.clear();
        Ok(())
    }

    /// Queues a message for `link`, which it reaches at `time`.
    #[inline]
    fn hop<R: Route, T: LinkTimes>(
        &mut self,
        message: Message,
        hop: u32,
        link: u32,
        time: u64,
        route: &R,
        times: &T,
    ) -> Result<(), SimError> {
        let link = self.fold.link(route, link);
        let (busy, arrival) = match self.known {
            Some((l, b, busy, arrival)) if b == message.bytes && (l == link || times.alike(l, link)) => {
                (busy, arrival)
            }
            _ => {
                let (busy, arrival) = times.times(link, message.bytes);
                self.known = Some((link, message.bytes, busy.as_ps(), arrival.as_ps()));
                (busy.as_ps(), arrival.as_ps())
            }
        };
        let state = &mut self.links[link as usize];
        if time < state.asked {
            return Err(SimError::OutOfOrder { link, at: SimTime::from_ps(time) });
        }
        state.asked = time;
        let start = time.max(state.free);
        let overflow = SimError::TimeOverflow { at: SimTime::from_ps(self.now) };
        let (Some(free), Some(there)) = (start.checked_add(busy), start.checked_add(arrival)) else {
            return Err(overflow);
        };
        state.free = free;
        self.queue.push(there, Class::Finish, Event { message, hop: hop + 1 });
        Ok(())
    }

    #[inline]
    fn later(&self, delay: u64) -> Result<u64, SimError> {
        self.now.checked_add(delay).ok_or(SimError::TimeOverflow { at: SimTime::from_ps(self.now) })
    }

    fn outcome(&self, finished: bool, end: u64) -> Outcome {
        Outcome { finished, end: SimTime::from_ps(end), events: self.events, digest: self.digest }
    }
}
