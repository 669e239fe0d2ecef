//! Cut-through: a message holds every link of its path at once, and shares each with the others, max-min fair.

use super::symmetry::Fold;
use super::{Action, Event, Message, Outbox, Program, Refusal, Route, Symmetry, WAIT};
use crate::digest::Digest;
use crate::error::{NAMED, SimError};
use crate::executor::{Outcome, RunOptions, STALL_LIMIT};
use crate::graph::Use;
use crate::id::{ResourceId, TaskId};
use crate::network::Network;
use crate::observe::Observer;
use crate::queue::{Class, LaneQueue, key_class, key_time};
use crate::rate::Rate;
use crate::resources::Fluid;
use crate::time::{SimDuration, SimTime};

/// Runs a [`Program`] over the shared resources of a [`Network`]: link l of the route is resource l.
///
/// A message waits the latency of its path, then flows. To an observer its id is its number, from 0, in the order in which
/// messages begin to flow, modulo 2^32.
#[derive(Clone, Debug)]
pub struct Flows {
    fold: Fold,
    /// Latency of one hop.
    latency: u64,
    queue: LaneQueue<Event>,
    fluid: Fluid,
    messages: Vec<Message>,
    path: Vec<Use>,
    outbox: Outbox,
    begun: u32,
    now: u64,
    events: u64,
    digest: Digest,
}

impl Flows {
    /// A world of `ranks` ranks, every message simulated; each hop adds `latency` (or what the route says of the link) to the
    /// wait before the first byte.
    pub fn new(ranks: u32, latency: SimDuration) -> Self {
        Self {
            fold: Fold { ranks, symmetry: None },
            latency: latency.as_ps(),
            queue: LaneQueue::default(),
            fluid: Fluid::new(),
            messages: Vec::new(),
            path: Vec::new(),
            outbox: Outbox::default(),
            begun: 0,
            now: 0,
            events: 0,
            digest: Digest::EMPTY,
        }
    }

    /// A world that simulates one rank for all `ranks`, as [`Fcfs::folded`](super::Fcfs::folded) does.
    ///
    /// # Errors
    /// When the links are not alike under `symmetry`, with the first that breaks it.
    pub fn folded(
        ranks: u32,
        latency: SimDuration,
        symmetry: Symmetry,
        route: &impl Route,
        net: &Network,
    ) -> Result<Self, Refusal> {
        let fold = Fold { ranks, symmetry: Some(symmetry) };
        fold.check(route, |a, b| net.capacity(ResourceId(a)).same(net.capacity(ResourceId(b))))?;
        Ok(Self { fold, ..Self::new(ranks, latency) })
    }

    /// Runs `program` from time 0 until nothing is under way.
    ///
    /// # Errors
    /// [`SimError::Stalled`], [`SimError::TimeOverflow`], [`SimError::EventBudget`], [`SimError::UnknownResource`].
    pub fn run<P: Program, R: Route, O: Observer>(
        &mut self,
        program: &mut P,
        route: &R,
        net: &Network,
        opts: &RunOptions,
        obs: &mut O,
    ) -> Result<Outcome, SimError> {
        if route.links() as usize > net.len() {
            let resource = ResourceId(route.links() - 1);
            return Err(SimError::UnknownResource { resource, count: net.len() });
        }
        self.queue.clear();
        self.fluid.reset(net, opts.origin);
        (self.now, self.events, self.digest, self.begun) = (0, 0, Digest::EMPTY, 0);
        for rank in 0..self.fold.simulated() {
            self.outbox.rank = rank;
            program.begin(rank, &mut self.outbox);
            self.act(route)?;
        }
        let cutoff = opts.cutoff.map_or(u64::MAX, SimTime::as_ps);
        let budget = opts.event_budget.unwrap_or(u64::MAX);
        let mut idle = 0;
        loop {
            let now = SimTime::from_ps(self.now);
            // What begins or ends at this very instant comes before the one solve.
            let task = self.queue.peek_key().map_or(u64::MAX, key_time);
            if task > self.now && self.fluid.unresolved() {
                self.fluid.resolve(now, |id, rate| obs.rate_changed(now, TaskId(id), rate));
            }
            if self.events > budget {
                return Err(SimError::EventBudget { budget, at: now });
            }
            if task > self.now {
                let flow = self.fluid.next_finish().map_or(u64::MAX, SimTime::as_ps);
                let change = self.fluid.next_change().map_or(u64::MAX, SimTime::as_ps);
                let next = task.min(flow).min(change);
                if next == u64::MAX {
                    return self.ended();
                }
                if next > cutoff {
                    return Ok(self.outcome(false, cutoff));
                }
                idle = if task == u64::MAX && flow == u64::MAX { idle + 1 } else { 0 };
                if idle > STALL_LIMIT {
                    return self.ended();
                }
                self.now = next;
            }
            self.instant(program, route, net, obs)?;
        }
    }

    /// Dispatches what is due now.
    fn instant<P: Program, R: Route, O: Observer>(
        &mut self,
        program: &mut P,
        route: &R,
        net: &Network,
        obs: &mut O,
    ) -> Result<(), SimError> {
        let now = SimTime::from_ps(self.now);
        while let Some((resource, capacity)) = self.fluid.change(net, now) {
            self.record(Class::Capacity, u64::from(resource.0), obs);
            obs.capacity_changed(now, resource, capacity);
        }
        while let Some((slot, id)) = self.fluid.finish(now) {
            let message = self.messages[slot as usize];
            obs.task_finished(now, TaskId(id), message.tag as u32);
            self.deliver(message, program, route, obs)?;
        }
        while let Some(key) = self.queue.peek_key() {
            if key_time(key) != self.now {
                break;
            }
            let Some((key, event)) = self.queue.pop_key() else { break };
            if key_class(key) == Class::Start {
                self.record(Class::Start, event.fingerprint(), obs);
                self.begin(event.message, program, route, net, obs)?;
            } else {
                self.record(Class::Finish, event.fingerprint(), obs);
                self.outbox.rank = event.message.to;
                program.woke(event.message.to, event.message.tag, &mut self.outbox);
                self.act(route)?;
            }
        }
        Ok(())
    }

    /// Puts the first byte of a message under way.
    #[inline]
    fn begin<P: Program, R: Route, O: Observer>(
        &mut self,
        message: Message,
        program: &mut P,
        route: &R,
        net: &Network,
        obs: &mut O,
    ) -> Result<(), SimError> {
        if message.bytes == 0 {
            return self.deliver(message, program, route, obs);
        }
        self.path.clear();
        let mut hop = 0;
        while let Some(link) = route.link(message.from, message.to, hop) {
            let link = ResourceId(self.fold.link(route, link));
            match self.path.iter_mut().find(|u| u.0 == link) {
                Some(used) => used.1 += 1,
                None => self.path.push((link, 1)),
            }
            hop += 1;
        }
        let now = SimTime::from_ps(self.now);
        let cap = route.cap(message.from, message.to, message.bytes);
        let slot = self.fluid.start(net, now, self.begun, message.bytes, cap, &self.path);
        obs.transfer_began(now, TaskId(self.begun), message.tag as u32);
        let rate = self.fluid.rate(slot);
        if rate != Rate::ZERO {
            obs.rate_changed(now, TaskId(self.begun), rate);
        }
        self.begun = self.begun.wrapping_add(1);
        if self.messages.len() <= slot as usize {
            self.messages.resize(slot as usize + 1, message);
        }
        self.messages[slot as usize] = message;
        Ok(())
    }

    #[inline]
    fn deliver<P: Program, R: Route, O: Observer>(
        &mut self,
        message: Message,
        program: &mut P,
        route: &R,
        obs: &mut O,
    ) -> Result<(), SimError> {
        let event = Event { message, hop: WAIT - 1 };
        self.record(Class::Finish, event.fingerprint(), obs);
        let seen = self.fold.seen(message);
        self.outbox.rank = seen.to;
        program.received(seen.to, seen, &mut self.outbox);
        self.act(route)
    }

    /// Does what the rank just said.
    #[inline]
    fn act<R: Route>(&mut self, route: &R) -> Result<(), SimError> {
        for at in 0..self.outbox.actions.len() {
            let (delay, class, event) = match self.outbox.actions[at] {
                Action::Wait(rank, delay, tag) => (Some(delay), Class::Finish, Event::wait(rank, tag)),
                Action::Send(delay, message) => {
                    let (mut hop, mut delay) = (0, Some(delay));
                    while let Some(link) = route.link(message.from, message.to, hop) {
                        let latency = route.latency(link).map_or(self.latency, SimDuration::as_ps);
                        delay = delay.and_then(|d| d.checked_add(latency));
                        hop += 1;
                    }
                    (delay, Class::Start, Event { message, hop: 0 })
                }
            };
            let time = delay.and_then(|d| self.now.checked_add(d));
            let time = time.ok_or(SimError::TimeOverflow { at: SimTime::from_ps(self.now) })?;
            self.queue.push(time, class, event);
        }
        self.outbox.actions.clear();
        Ok(())
    }

    #[inline]
    fn record<O: Observer>(&mut self, class: Class, what: u64, obs: &mut O) {
        self.events += 1;
        self.digest.add(self.now, what ^ ((class as u64) << 62));
        obs.dispatched(SimTime::from_ps(self.now), class, what);
    }

    fn ended(&self) -> Result<Outcome, SimError> {
        let at = SimTime::from_ps(self.now);
        if self.fluid.active() == 0 {
            return Ok(self.outcome(true, self.now));
        }
        let mut blocked: Vec<TaskId> = self.fluid.stalled().map(TaskId).collect();
        if blocked.is_empty() {
            return Err(SimError::TimeOverflow { at });
        }
        let count = blocked.len();
        blocked.sort_unstable();
        blocked.truncate(NAMED);
        Err(SimError::Stalled { blocked, count, at })
    }

    fn outcome(&self, finished: bool, end: u64) -> Outcome {
        Outcome { finished, end: SimTime::from_ps(end), events: self.events, digest: self.digest }
    }
}
