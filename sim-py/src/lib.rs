//! The extension module `tideplan._core`: the command, run in Python's process. Words go in and JSON text comes out; types,
//! names and pictures are Python's (`python/tideplan`).
//!
//! A command runs on a thread of its own. The thread that called waits for it without the interpreter's lock, and is the one
//! that calls back: progress, planners, signals.

mod host;

use host::{Event, Inside, Reply};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the calling thread looks for signals.
const TICK: Duration = Duration::from_millis(20);
/// The status of a command that ended in a panic: as a program's.
const PANIC: u8 = 101;
/// Stack of a command's thread, bytes: that of a program's first thread.
const STACK: usize = 8 << 20;

/// Where a planner's answer goes. The first answer counts.
#[pyclass(frozen)]
struct Answer {
    to: Mutex<Option<Reply>>,
}

impl Answer {
    fn send(&self, answer: Result<String, String>) {
        if let Some(to) = self.to.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waits for one that comes too late.
            drop(to.send(answer));
        }
    }
}

#[pymethods]
impl Answer {
    /// The plan, as JSON.
    fn give(&self, plan: String) {
        self.send(Ok(plan));
    }

    /// Why there is none.
    fn fail(&self, why: String) {
        self.send(Err(why));
    }
}

/// Exit status, output, notes, and what is wrong as JSON; after [`PANIC`], what the panic says instead.
type Ran = (u8, String, String, String);

/// Runs the command of `words`, the program's name left out.
///
/// `scenarios` are texts by name; `planners` are names that `ask(name, scenario, answer)` is called for. `progress(rounds,
/// simulated, best_s, bound_s)` is called now and then. On an interrupt the answer is the best so far where `best_so_far`,
/// else the interrupt is raised at once.
#[pyfunction]
#[pyo3(signature = (words, scenarios, planners, ask, progress, best_so_far))]
fn run(
    py: Python<'_>,
    words: Vec<String>,
    scenarios: BTreeMap<String, String>,
    planners: Vec<String>,
    ask: Option<Py<PyAny>>,
    progress: Option<Py<PyAny>>,
    best_so_far: bool,
) -> PyResult<Ran> {
    let (send, mut events) = channel();
    let host = Arc::new(Inside::new(send, scenarios, planners, progress.is_some()));
    let words = std::iter::once("tideplan".to_string()).chain(words);
    let work = {
        let host = Arc::clone(&host);
        let words: Vec<String> = words.collect();
        move || {
            let code = catch_unwind(AssertUnwindSafe(|| tideplan::run(words, Arc::clone(&host) as _)));
            host.done(code.map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_string()
            }));
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(work)?;
    // What is raised while the command runs is raised once it has ended, or at once where nobody waits for its answer.
    let mut called_back = || -> PyResult<Result<u8, String>> {
        loop {
            let waiting = &mut events;
            match py.detach(move || waiting.recv_timeout(TICK)) {
                Ok(Event::Done(code)) => return Ok(code),
                Ok(Event::Progress(p)) => {
                    if let Some(progress) = &progress {
                        let seconds = |ps: u64| ps as f64 / 1e12;
                        let best = p.best_ps.map(seconds);
                        progress.call1(py, (p.rounds, p.simulated, best, seconds(p.level_ps)))?;
                    }
                }
                Ok(Event::Ask { name, scenario, reply }) => match &ask {
                    Some(ask) => {
                        let answer = Answer { to: Mutex::new(Some(reply)) };
                        ask.call1(py, (name, scenario, answer))?;
                    }
                    None => drop(reply),
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Err("the command's thread is gone".into())),
            }
            if let Err(error) = py.check_signals() {
                let again = host.interrupted.swap(true, Ordering::Relaxed);
                if again || !best_so_far {
                    return Err(error);
                }
            }
        }
    };
    let code = called_back().inspect_err(|_| {
        host.interrupted.store(true, Ordering::Relaxed);
        host.cancelled.store(true, Ordering::Relaxed);
    })?;
    let said = host.said();
    Ok(match code {
        Ok(code) => (code, said.out, said.notes, said.problems),
        Err(panic) => (PANIC, said.out, said.notes, panic),
    })
}

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::{Answer, run};

    /// The version of the command.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// The status of a command that ended in a panic.
    #[pymodule_export]
    const PANIC: u8 = super::PANIC;
}
