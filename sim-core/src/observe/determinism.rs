//! The event log, and a check that two runs are the same run, which names the first event that differs.

use thiserror::Error;

use super::Observer;
use crate::queue::Class;
use crate::time::SimTime;

/// An event as the digest sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dispatched {
    /// When.
    pub time: SimTime,
    /// In which class.
    pub class: Class,
    /// The task, the resource, or the fingerprint.
    pub what: u64,
}

/// Keeps every event; 24 bytes each.
#[derive(Clone, Debug, Default)]
pub struct EventLog {
    events: Vec<Dispatched>,
}

impl EventLog {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The events so far, in order.
    pub fn events(&self) -> &[Dispatched] {
        &self.events
    }
}

impl Observer for EventLog {
    fn dispatched(&mut self, now: SimTime, class: Class, what: u64) {
        self.events.push(Dispatched { time: now, class, what });
    }
}

/// Two runs that should be one are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("runs part at event {index}: first `{first:?}`, then `{second:?}`")]
pub struct Divergence {
    /// Which event, from 0.
    pub index: usize,
    /// What the first run dispatched; `None` when it had ended.
    pub first: Option<Dispatched>,
    /// What the second run dispatched; `None` when it had ended.
    pub second: Option<Dispatched>,
}

/// The observer that [`check_determinism`] hands to each run: it records the first and compares the second.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    log: EventLog,
    /// How many events of the second run agree; `None` in the first run.
    agreed: Option<usize>,
    divergence: Option<Divergence>,
}

impl Observer for Recorder {
    fn dispatched(&mut self, now: SimTime, class: Class, what: u64) {
        let event = Dispatched { time: now, class, what };
        let Some(agreed) = &mut self.agreed else {
            self.log.dispatched(now, class, what);
            return;
        };
        if self.divergence.is_some() {
            return;
        }
        let first = self.log.events.get(*agreed).copied();
        if first == Some(event) {
            *agreed += 1;
        } else {
            self.divergence = Some(Divergence { index: *agreed, first, second: Some(event) });
        }
    }
}

/// Calls `run` twice and compares the runs event by event.
///
/// # Errors
/// The first event that differs.
///
/// ```
/// use sim_core::observe::check_determinism;
/// use sim_core::*;
/// let mut graph = GraphBuilder::new();
/// graph.delay(SimDuration::from_ps(5), &[], &[]);
/// let graph = graph.build().unwrap();
/// let (net, options) = (Network::default(), RunOptions::default());
/// check_determinism(|watch| {
///     Executor::new().run(&graph, &net, &options, watch).unwrap();
/// }).unwrap();
/// ```
pub fn check_determinism(mut run: impl FnMut(&mut Recorder)) -> Result<(), Divergence> {
    let mut recorder = Recorder::default();
    run(&mut recorder);
    recorder.agreed = Some(0);
    run(&mut recorder);
    let agreed = recorder.agreed.unwrap_or(0);
    match (recorder.divergence, recorder.log.events.get(agreed)) {
        (Some(divergence), _) => Err(divergence),
        (None, Some(&first)) => Err(Divergence { index: agreed, first: Some(first), second: None }),
        (None, None) => Ok(()),
    }
}
