//! Watching a run: hooks that cost nothing when unused, because an observer is a type parameter and each hook is empty.

mod determinism;
mod links;
mod spans;

pub use determinism::{Dispatched, Divergence, EventLog, Recorder, check_determinism};
pub use links::{LinkLoad, LinkUse};
pub use spans::{Span, Spans};

use crate::id::{ResourceId, TaskId};
use crate::queue::Class;
use crate::rate::Rate;
use crate::time::SimTime;

/// What a run tells as it goes. Times never decrease from one call to the next.
pub trait Observer {
    /// A task begins: its predecessors are done.
    #[inline]
    fn task_started(&mut self, _now: SimTime, _task: TaskId, _tag: u32) {}
    /// A task is done.
    #[inline]
    fn task_finished(&mut self, _now: SimTime, _task: TaskId, _tag: u32) {}
    /// A transfer has its first byte under way, its latency behind it.
    #[inline]
    fn transfer_began(&mut self, _now: SimTime, _task: TaskId, _tag: u32) {}
    /// A transfer has a new rate from now on; [`Rate::ZERO`] when it stalls. Its finish is told by `task_finished` alone.
    #[inline]
    fn rate_changed(&mut self, _now: SimTime, _task: TaskId, _rate: Rate) {}
    /// A resource that is in use has a new capacity from now on.
    #[inline]
    fn capacity_changed(&mut self, _now: SimTime, _resource: ResourceId, _capacity: Rate) {}
    /// An event is dispatched, as the digest sees it: `what` is the task of a finish or a start, the resource of a
    /// capacity change, or the fingerprint of an [`Engine`](crate::Engine) event.
    #[inline]
    fn dispatched(&mut self, _now: SimTime, _class: Class, _what: u64) {}
}

/// Watches nothing, at no cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

impl<O: Observer> Observer for &mut O {
    #[inline]
    fn task_started(&mut self, now: SimTime, task: TaskId, tag: u32) {
        (**self).task_started(now, task, tag);
    }
    #[inline]
    fn task_finished(&mut self, now: SimTime, task: TaskId, tag: u32) {
        (**self).task_finished(now, task, tag);
    }
    #[inline]
    fn transfer_began(&mut self, now: SimTime, task: TaskId, tag: u32) {
        (**self).transfer_began(now, task, tag);
    }
    #[inline]
    fn rate_changed(&mut self, now: SimTime, task: TaskId, rate: Rate) {
        (**self).rate_changed(now, task, rate);
    }
    #[inline]
    fn capacity_changed(&mut self, now: SimTime, resource: ResourceId, capacity: Rate) {
        (**self).capacity_changed(now, resource, capacity);
    }
    #[inline]
    fn dispatched(&mut self, now: SimTime, class: Class, what: u64) {
        (**self).dispatched(now, class, what);
    }
}

/// Two observers of one run.
impl<A: Observer, B: Observer> Observer for (A, B) {
    #[inline]
    fn task_started(&mut self, now: SimTime, task: TaskId, tag: u32) {
        self.0.task_started(now, task, tag);
        self.1.task_started(now, task, tag);
    }
    #[inline]
    fn task_finished(&mut self, now: SimTime, task: TaskId, tag: u32) {
        self.0.task_finished(now, task, tag);
        self.1.task_finished(now, task, tag);
    }
    #[inline]
    fn transfer_began(&mut self, now: SimTime, task: TaskId, tag: u32) {
        self.0.transfer_began(now, task, tag);
        self.1.transfer_began(now, task, tag);
    }
    #[inline]
    fn rate_changed(&mut self, now: SimTime, task: TaskId, rate: Rate) {
        self.0.rate_changed(now, task, rate);
        self.1.rate_changed(now, task, rate);
    }
    #[inline]
    fn capacity_changed(&mut self, now: SimTime, resource: ResourceId, capacity: Rate) {
        self.0.capacity_changed(now, resource, capacity);
        self.1.capacity_changed(now, resource, capacity);
    }
    #[inline]
    fn dispatched(&mut self, now: SimTime, class: Class, what: u64) {
        self.0.dispatched(now, class, what);
        self.1.dispatched(now, class, what);
    }
}
