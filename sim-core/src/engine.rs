//! The generic engine: a world, its events, and the loop between them. Dispatch is static; the loop does not allocate.

use crate::calendar::CalendarQueue;
use crate::digest::Digest;
use crate::error::SimError;
use crate::observe::{NoObserver, Observer};
use crate::queue::{Class, key_class, key_time};
use crate::time::{SimDuration, SimTime};

/// What is simulated: a state that handles events and schedules more.
pub trait World {
    /// An event; plain data, usually an enum.
    type Event: Copy;

    /// Handles one event at `now`. New events may lie at `now` or later.
    fn handle(&mut self, now: SimTime, event: Self::Event, scheduler: &mut Scheduler<Self::Event>);

    /// An integer that tells events of one time and class apart, for the digest.
    fn fingerprint(event: &Self::Event) -> u64;
}

/// Where a world puts its events.
#[derive(Debug)]
pub struct Scheduler<E> {
    queue: CalendarQueue<E>,
    now: SimTime,
    overflow: bool,
    stop: bool,
}

impl<E: Copy> Scheduler<E> {
    fn new() -> Self {
        Self { queue: CalendarQueue::new(), now: SimTime::ZERO, overflow: false, stop: false }
    }

    /// The clock.
    #[inline]
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// Schedules `event` after `delay`. A time past 213 days ends the run with [`SimError::TimeOverflow`].
    #[inline]
    pub fn after(&mut self, delay: SimDuration, class: Class, event: E) {
        match self.now.checked_add(delay) {
            Some(time) => self.queue.push(time.as_ps(), class, event),
            None => self.overflow = true,
        }
    }

    /// Schedules `event` at `time`, or now when `time` is past.
    #[inline]
    pub fn at(&mut self, time: SimTime, class: Class, event: E) {
        self.queue.push(time.max(self.now).as_ps(), class, event);
    }

    /// Ends the run after the event under way.
    pub fn stop(&mut self) {
        self.stop = true;
    }
}

/// Where a run ends, if it does not end by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Stop before the first event later than this.
    pub cutoff: Option<SimTime>,
    /// Fail with [`SimError::EventBudget`] rather than dispatch more events than this.
    pub event_budget: Option<u64>,
}

/// Runs a [`World`].
///
/// ```
/// use sim_core::{Class, Engine, Limits, Scheduler, SimDuration, SimTime, World};
///
/// struct Clock { ticks: u32 }
/// impl World for Clock {
///     type Event = ();
///     fn handle(&mut self, _now: SimTime, _tick: (), scheduler: &mut Scheduler<()>) {
///         self.ticks += 1;
///         if self.ticks < 3 {
///             scheduler.after(SimDuration::from_ps(10), Class::Finish, ());
///         }
///     }
///     fn fingerprint(_: &()) -> u64 { 0 }
/// }
///
/// let mut engine = Engine::new(Clock { ticks: 0 });
/// engine.scheduler().after(SimDuration::from_ps(5), Class::Finish, ());
/// let outcome = engine.run(&Limits::default()).unwrap();
/// assert_eq!((outcome.end.as_ps(), outcome.events), (25, 3));
/// ```
#[derive(Debug)]
pub struct Engine<W: World, O: Observer = NoObserver> {
    world: W,
    observer: O,
    scheduler: Scheduler<W::Event>,
    events: u64,
    digest: Digest,
}

impl<W: World> Engine<W> {
    /// An engine that nobody watches.
    pub fn new(world: W) -> Self {
        Self::with_observer(world, NoObserver)
    }
}

impl<W: World, O: Observer> Engine<W, O> {
    /// An engine whose [`Observer::dispatched`] tells each event.
    pub fn with_observer(world: W, observer: O) -> Self {
        Self { world, observer, scheduler: Scheduler::new(), events: 0, digest: Digest::EMPTY }
    }

    /// The world.
    pub fn world(&self) -> &W {
        &self.world
    }

    /// The world, to change.
    pub fn world_mut(&mut self) -> &mut W {
        &mut self.world
    }

    /// The observer.
    pub fn observer(&self) -> &O {
        &self.observer
    }

    /// Where the first events go.
    pub fn scheduler(&mut self) -> &mut Scheduler<W::Event> {
        &mut self.scheduler
    }

    /// Back to time 0 with no events; keeps the memory, and the world as it is.
    pub fn reset(&mut self) {
        self.scheduler.queue.clear();
        self.scheduler.now = SimTime::ZERO;
        self.scheduler.overflow = false;
        self.scheduler.stop = false;
        self.events = 0;
        self.digest = Digest::EMPTY;
    }

    /// Dispatches events until none is left, the world stops, or a limit is reached. A later call goes on from there.
    ///
    /// # Errors
    /// [`SimError::TimeOverflow`] and [`SimError::EventBudget`].
    pub fn run(&mut self, limits: &Limits) -> Result<crate::executor::Outcome, SimError> {
        let cutoff = limits.cutoff.map_or(u64::MAX, SimTime::as_ps);
        let budget = limits.event_budget.unwrap_or(u64::MAX);
        let mut finished = true;
        while let Some(key) = self.scheduler.queue.peek_key() {
            if key_time(key) > cutoff {
                finished = false;
                break;
            }
            if self.events >= budget {
                return Err(SimError::EventBudget { budget, at: self.scheduler.now });
            }
            let Some((key, event)) = self.scheduler.queue.pop_key() else { break };
            let now = SimTime::from_ps(key_time(key));
            self.scheduler.now = now;
            self.events += 1;
            let what = W::fingerprint(&event);
            self.digest.add(key_time(key), what ^ ((key_class(key) as u64) << 62));
            self.observer.dispatched(now, key_class(key), what);
            self.world.handle(now, event, &mut self.scheduler);
            if self.scheduler.overflow {
                return Err(SimError::TimeOverflow { at: now });
            }
            if self.scheduler.stop {
                self.scheduler.stop = false;
                break;
            }
        }
        let end = if finished { self.scheduler.now } else { SimTime::from_ps(cutoff) };
        Ok(crate::executor::Outcome { finished, end, events: self.events, digest: self.digest })
    }
}
