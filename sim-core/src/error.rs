//! Why a run ended without an answer. Each is an error: a run never hangs and never panics on its input.

use thiserror::Error;

use crate::id::{ResourceId, TaskId};
use crate::time::SimTime;

/// How many tasks an error names.
pub const NAMED: usize = 8;

/// Why a run has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SimError {
    /// Tasks wait for each other; nothing is under way that could free them.
    #[error("deadlock: {count} tasks wait for each other, among them {}", names(.blocked))]
    Deadlock {
        /// The first few blocked tasks, by id.
        blocked: Vec<TaskId>,
        /// How many tasks are blocked.
        count: usize,
    },
    /// Transfers hold on a capacity of zero (or too small for one unit each) that never rises again.
    #[error("stalled at {at}: {count} transfers have no capacity left to wait for, among them {}", names(.blocked))]
    Stalled {
        /// The first few stalled tasks, by id.
        blocked: Vec<TaskId>,
        /// How many transfers are stalled.
        count: usize,
        /// The instant at which nothing moved any more.
        at: SimTime,
    },
    /// The clock would pass 2^64 picoseconds (213 days).
    #[error("time overflow: an event lies more than 213 days after the start, at {at} plus its delay")]
    TimeOverflow {
        /// The last instant reached.
        at: SimTime,
    },
    /// More events than the budget allows.
    #[error("event budget spent: {budget} events, at {at}")]
    EventBudget {
        /// The budget.
        budget: u64,
        /// The instant reached.
        at: SimTime,
    },
    /// A program promised to send in order and did not.
    #[error("link `{link}` was asked at {at} after a later message: the program does not send in order")]
    OutOfOrder {
        /// The link.
        link: u32,
        /// The instant asked for.
        at: SimTime,
    },
    /// A task uses a resource that the network does not have.
    #[error("unknown resource `{resource}`: the network has {count}")]
    UnknownResource {
        /// The resource asked for.
        resource: ResourceId,
        /// How many resources the network has.
        count: usize,
    },
}

fn names(tasks: &[TaskId]) -> String {
    let list: Vec<String> = tasks.iter().map(|t| format!("`{t}`")).collect();
    list.join(", ")
}
