//! Spans: when each task ran.

use super::Observer;
use crate::id::TaskId;
use crate::time::SimTime;

/// One task's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The task.
    pub task: TaskId,
    /// Its tag.
    pub tag: u32,
    /// When its predecessors were done.
    pub start: SimTime,
    /// When its first byte was under way; `start` for what is no transfer.
    pub first_byte: SimTime,
    /// When it was done; [`SimTime::MAX`] when the run ended before.
    pub finish: SimTime,
}

/// Collects a span for each task, in the order in which they start.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    spans: Vec<Span>,
    /// Where each task's span stands.
    place: Vec<u32>,
}

impl Spans {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The spans so far, by start.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Forgets them; keeps the memory.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.place.clear();
    }

    fn of(&mut self, task: TaskId) -> Option<&mut Span> {
        let at = self.place.get(task.index()).copied()?;
        self.spans.get_mut(at as usize)
    }
}

impl Observer for Spans {
    fn task_started(&mut self, now: SimTime, task: TaskId, tag: u32) {
        if self.place.len() <= task.index() {
            self.place.resize(task.index() + 1, u32::MAX);
        }
        self.place[task.index()] = self.spans.len() as u32;
        self.spans.push(Span { task, tag, start: now, first_byte: now, finish: SimTime::MAX });
    }

    fn transfer_began(&mut self, now: SimTime, task: TaskId, _tag: u32) {
        if let Some(span) = self.of(task) {
            span.first_byte = now;
        }
    }

    fn task_finished(&mut self, now: SimTime, task: TaskId, _tag: u32) {
        if let Some(span) = self.of(task) {
            span.finish = now;
        }
    }
}
