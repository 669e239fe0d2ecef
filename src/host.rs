//! Who runs a command: a terminal, or a program that has it in its own process. A command finds its host by its thread.

use crate::external::Ask;
use crate::failure::Problem;
use sim_search::Progress;
use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes what a command says, and says what a command cannot know by itself.
pub trait Host: Send + Sync {
    /// Results.
    ///
    /// # Errors
    /// Whatever writing them meets.
    fn out(&self, text: &str) -> std::io::Result<()>;

    /// A note or an error, without its end of line.
    fn note(&self, text: &str);

    /// The command could not run. `shown` is what people read of it.
    fn failed(&self, problems: &[Problem], shown: &str);

    /// The command was asked for help, or in words that it does not know.
    fn usage(&self, error: &clap::Error);

    /// Whether a bar is drawn while a search or a replay runs.
    fn draws(&self) -> bool;

    /// Becomes true when a search should end with the best so far.
    fn interrupts(&self) -> Arc<AtomicBool>;

    /// Whether nobody waits for the answer any more.
    fn cancelled(&self) -> bool;

    /// Told before each round of a search, on some thread.
    fn progress(&self, progress: &Progress);

    /// The text of the scenario of that name, in place of a file or a built-in.
    fn scenario(&self, name: &str) -> Option<String>;

    /// The planner of that name, where it is not built in.
    fn planner(&self, name: &str) -> Option<Ask>;
}

thread_local! {
    static HOST: RefCell<Arc<dyn Host>> = RefCell::new(Arc::new(Terminal));
}

/// The host of this thread.
pub(crate) fn host() -> Arc<dyn Host> {
    HOST.with(|host| Arc::clone(&host.borrow()))
}

/// Does `work` under `host`.
pub(crate) fn under<T>(host: Arc<dyn Host>, work: impl FnOnce() -> T) -> T {
    /// Puts the host before back, also after a panic.
    struct Back(Option<Arc<dyn Host>>);
    impl Drop for Back {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                HOST.with(|host| host.replace(before));
            }
        }
    }
    let _back = Back(Some(HOST.with(|of| of.replace(host))));
    work()
}

/// A line to the host's notes.
macro_rules! note {
    ($($arg:tt)*) => { $crate::host::host().note(&format!($($arg)*)) };
}
pub(crate) use note;

/// Standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub struct Terminal;

impl Host for Terminal {
    fn out(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn note(&self, text: &str) {
        // Where nobody reads there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn failed(&self, _: &[Problem], shown: &str) {
        self.note(shown);
    }

    fn usage(&self, error: &clap::Error) {
        drop(error.print());
    }

    fn draws(&self) -> bool {
        std::io::IsTerminal::is_terminal(&std::io::stderr())
    }

    fn interrupts(&self) -> Arc<AtomicBool> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        // A second Ctrl-C, after the first was taken, ends the program as usual.
        let handled = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        if let Err(error) = handled {
            self.note(&format!("note: Ctrl-C will lose the search: {error}"));
        }
        interrupted
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn progress(&self, _: &Progress) {}

    fn scenario(&self, _: &str) -> Option<String> {
        None
    }

    fn planner(&self, _: &str) -> Option<Ask> {
        None
    }
}
