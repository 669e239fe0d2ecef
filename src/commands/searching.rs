//! A search under way: progress on a terminal, Ctrl-C, the clock, its state in a file; and the files that it leaves, which say
//! what scenario they are of.

use super::load_or;
use crate::cli::Over;
use crate::failure::Failure;
use crate::host::{Host, host};
use crate::report::table::seconds;
use crate::{read, write};
use indicatif::{ProgressBar, ProgressStyle};
use scenarios::{Loaded, Overrides};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sim_search::verify::Certificate;
use sim_search::{Found, Objective, Progress, Saved, Stopped, Watch};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
// The command may look at a clock; the libraries may not.
#[allow(clippy::disallowed_types)]
use std::time::Instant;

/// How often the state is written.
const EVERY: Duration = Duration::from_secs(2);

/// Watches a search for the command.
#[allow(clippy::disallowed_types)]
pub(super) struct Watcher {
    bar: ProgressBar,
    host: Arc<dyn Host>,
    interrupted: Arc<AtomicBool>,
    start: Instant,
    limit: Option<Duration>,
    checkpoint: Option<PathBuf>,
    saved: Instant,
    /// The state could not be written.
    pub(super) failed: Option<Failure>,
}

#[allow(clippy::disallowed_types)]
impl Watcher {
    /// Starts the clock.
    pub(super) fn new(max_seconds: Option<f64>, checkpoint: Option<&Path>) -> Watcher {
        let host = host();
        let now = Instant::now();
        Watcher {
            bar: progress_bar(),
            interrupted: host.interrupts(),
            host,
            start: now,
            limit: max_seconds.map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX)),
            checkpoint: checkpoint.map(Path::to_path_buf),
            saved: now,
            failed: None,
        }
    }

    /// Seconds since the start; the bar goes.
    pub(super) fn finish(&self) -> f64 {
        self.bar.finish_and_clear();
        self.start.elapsed().as_secs_f64()
    }
}

impl Watch for Watcher {
    fn stop(&mut self, progress: &Progress) -> Option<Stopped> {
        show(&self.bar, progress);
        self.host.progress(progress);
        if self.interrupted.load(Ordering::Relaxed) || self.failed.is_some() {
            return Some(Stopped::Interrupt);
        }
        self.limit.is_some_and(|limit| self.start.elapsed() >= limit).then_some(Stopped::Seconds)
    }

    fn wants_state(&mut self) -> bool {
        self.checkpoint.is_some() && self.failed.is_none() && self.saved.elapsed() >= EVERY
    }

    fn wants_last_state(&mut self) -> bool {
        self.checkpoint.is_some() && self.failed.is_none()
    }

    #[allow(clippy::disallowed_types)]
    fn state(&mut self, saved: Saved) {
        if let Some(path) = &self.checkpoint {
            self.failed = write_json(path, &saved).err();
        }
        self.saved = Instant::now();
    }
}

fn progress_bar() -> ProgressBar {
    if !host().draws() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, p: &Progress) {
    let time = |ps: Option<u64>| ps.map_or("-".into(), |ps| seconds(ps as f64 / 1e12));
    bar.set_message(format!(
        "{} plans simulated, best {}, at least {}",
        p.simulated,
        time(p.best_ps),
        time(Some(p.level_ps))
    ));
    bar.tick();
}

/// Which scenario a file is of, in the words of the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Origin {
    scenario: String,
    /// Its text, where it is made of words.
    text: Option<String>,
    sets: Vec<String>,
    traces: Vec<String>,
    at: Option<String>,
}

impl Origin {
    pub(super) fn new(scenario: &str, text: Option<&str>, over: &Over) -> Origin {
        Origin {
            scenario: scenario.into(),
            text: text.map(String::from),
            sets: over.sets.clone(),
            traces: over.traces.clone(),
            at: over.at.clone(),
        }
    }

    /// Reads the scenario again.
    pub(super) fn load(&self) -> Result<(Loaded, Overrides), Failure> {
        let over =
            Over { sets: self.sets.clone(), traces: self.traces.clone(), at: self.at.clone(), json: false };
        load_or(&self.scenario, self.text.as_deref(), &over, false)
    }
}

/// What one part of a search found.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartFile {
    pub(super) tideplan_part: u32,
    pub(super) origin: Origin,
    pub(super) shard: (u32, u32),
    pub(super) top: usize,
    pub(super) objective: Objective,
    pub(super) tokens: Option<f64>,
    pub(super) search_time_s: f64,
    pub(super) found: Found,
}

impl PartFile {
    /// What must be alike in all parts beside the scenario.
    pub(super) fn found_by(&self) -> (Objective, Option<u64>) {
        (self.objective, self.tokens.map(f64::to_bits))
    }
}

/// A certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateFile {
    pub(super) tideplan_certificate: u32,
    pub(super) origin: Origin,
    pub(super) certificate: Certificate,
}

/// Writes one JSON object, whole or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec(value)
        .map_err(|e| Failure::new(format!("cannot write `{}`: {e}", path.display()), ""))?;
    write::whole(path, &text)
}

/// Reads one JSON object; `what` it should be.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, Failure> {
    serde_json::from_reader(read::stream(path, what)?).map_err(|e| read::unreadable(path, &e, what))
}
