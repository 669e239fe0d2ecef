//! The host of a command in Python's process: keeps what it says, and hands on what it asks.

use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use tideplan::{Ask, Host, Problem, Progress};

/// Where an answer goes.
pub(crate) type Reply = Sender<Result<String, String>>;

/// What the thread that called is told.
pub(crate) enum Event {
    /// A round of a search is about to begin.
    Progress(Progress),
    /// A planner of Python's is asked.
    Ask { name: String, scenario: String, reply: Reply },
    /// The command has ended: its exit status, or the panic that ended it.
    Done(Result<u8, String>),
}

/// What a command said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) notes: String,
    /// A JSON array; empty text where nothing is wrong.
    pub(crate) problems: String,
}

/// The host.
pub(crate) struct Inside {
    events: Sender<Event>,
    scenarios: BTreeMap<String, String>,
    planners: Vec<String>,
    shows_progress: bool,
    said: Mutex<Said>,
    /// A search should end at the end of its round.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// Nobody waits for the answer.
    pub(crate) cancelled: AtomicBool,
}

impl Inside {
    pub(crate) fn new(
        events: Sender<Event>,
        scenarios: BTreeMap<String, String>,
        planners: Vec<String>,
        shows_progress: bool,
    ) -> Inside {
        Inside {
            events,
            scenarios,
            planners,
            shows_progress,
            said: Mutex::default(),
            interrupted: Arc::default(),
            cancelled: AtomicBool::new(false),
        }
    }

    pub(crate) fn said(&self) -> Said {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last event.
    pub(crate) fn done(&self, code: Result<u8, String>) {
        self.send(Event::Done(code));
    }

    /// Where the caller went away, nobody waits.
    fn send(&self, event: Event) {
        drop(self.events.send(event));
    }

    fn say(&self, how: impl FnOnce(&mut Said)) {
        how(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Host for Inside {
    fn out(&self, text: &str) -> std::io::Result<()> {
        self.say(|said| said.out += text);
        Ok(())
    }

    fn note(&self, text: &str) {
        self.say(|said| {
            said.notes += text;
            said.notes.push('\n');
        });
    }

    fn failed(&self, problems: &[Problem], _: &str) {
        let one = |p: &Problem| {
            json!({
                "code": p.code, "file": p.file, "line": p.line, "column": p.column,
                "message": p.message, "hint": p.help,
            })
        };
        let all: Vec<_> = problems.iter().map(one).collect();
        self.say(|said| said.problems = json!(all).to_string());
    }

    fn usage(&self, error: &clap::Error) {
        let text = error.render().to_string();
        if error.use_stderr() {
            let message = text.trim().trim_start_matches("error: ");
            let usage = json!([{
                "code": "usage", "file": null, "line": null, "column": null, "message": message, "hint": null,
            }]);
            self.say(|said| said.problems = usage.to_string());
        } else {
            self.say(|said| said.out += &text);
        }
    }

    fn draws(&self) -> bool {
        false
    }

    fn interrupts(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn progress(&self, progress: &Progress) {
        if self.shows_progress {
            self.send(Event::Progress(*progress));
        }
    }

    fn scenario(&self, name: &str) -> Option<String> {
        self.scenarios.get(name).cloned()
    }

    fn planner(&self, name: &str) -> Option<Ask> {
        if !self.planners.iter().any(|p| p == name) {
            return None;
        }
        let (events, name) = (self.events.clone(), name.to_string());
        Some(Box::new(move |scenario| {
            let (reply, answered) = channel();
            drop(events.send(Event::Ask { name: name.clone(), scenario, reply }));
            answered
        }))
    }
}
