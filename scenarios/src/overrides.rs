//! What the command line says over a scenario: `--set PATH=VALUE`, `--trace LINK=FILE`, `--at T`.

use crate::fault::{Fault, Faults, Place};
use crate::nearest::suggestion;
use crate::node::{Entry, Node, Value};
use crate::quantity;
use sim_core::SimTime;
use std::path::PathBuf;

/// Most parts of a path.
const DEEPEST: usize = 32;

/// Changes to a scenario, in the order given.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Path and value: `training.global_batch`, `512`. A path goes through a list by index or by the `name` (or `link`) of
    /// its element: `nodes.0.count`, `nodes.a100.count`; a part with dots in it stands in double quotes. A value is TOML,
    /// or a text without quotes.
    pub sets: Vec<(String, String)>,
    /// Link and CSV file, in place of the link's trace: bits per second in `bandwidth_bps`, wrapped.
    pub traces: Vec<(String, PathBuf)>,
    /// Instant of the traces at which an iteration starts. Loading does not use it.
    pub at: SimTime,
    /// Leave out the plan that the scenario names: a search has no use for it, and it need not fit what is set here.
    pub without_plan: bool,
}

impl Overrides {
    /// Takes in `PATH=VALUE`.
    ///
    /// # Errors
    /// No `=`, or nothing before it.
    pub fn set(&mut self, text: &str) -> Result<(), Fault> {
        let (path, value) = split(text, "--set", "training.global_batch=512")?;
        self.sets.push((path, value));
        Ok(())
    }

    /// Takes in `LINK=FILE`.
    ///
    /// # Errors
    /// No `=`, or nothing before it.
    pub fn trace(&mut self, text: &str) -> Result<(), Fault> {
        let (link, file) = split(text, "--trace", "wan=measured.csv")?;
        self.traces.push((link, file.into()));
        Ok(())
    }

    /// Takes in an instant such as `90 s`.
    ///
    /// # Errors
    /// As [`quantity::instant`].
    pub fn start_at(&mut self, text: &str) -> Result<(), Fault> {
        self.at = quantity::instant(text)
            .map_err(|e| option_fault("--at", text, e.code(), e.to_string(), e.help().replace('"', "")))?;
        Ok(())
    }
}

fn option_fault(option: &str, text: &str, code: &'static str, message: String, help: String) -> Fault {
    let mut faults = Faults::default();
    let place = faults.add_source(option, text);
    faults.push(place, code, message, help);
    faults.finish().remove(0)
}

fn split(text: &str, option: &str, example: &str) -> Result<(String, String), Fault> {
    match text.split_once('=') {
        Some((left, right)) if !left.trim().is_empty() => Ok((left.trim().into(), right.trim().into())),
        _ => {
            let message = format!("`{text}` has no `=` with a name before it");
            Err(option_fault(option, text, "T0112", message, format!("for example `{option} {example}`")))
        }
    }
}

/// Applies the `--set`s to a tree.
pub(crate) fn apply(root: &mut Node, sets: &[(String, String)], faults: &mut Faults) {
    for (path, value) in sets {
        let whole = faults.add_source("--set", format!("{path}={value}"));
        let place = faults.part(whole, 0..path.len());
        let value = Node::value(value, faults.part(whole, path.len() + 1..usize::MAX), faults);
        let parts = parts(path);
        if parts.len() > DEEPEST {
            faults.push(place, "T0112", format!("a path of {} parts", parts.len()), "no key is that deep");
            continue;
        }
        set(root, &parts, value, place, faults);
    }
}

/// The parts of a dotted path; quotes keep dots together.
fn parts(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in path.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => parts[..].last_mut().expect("never empty").push(c),
        }
    }
    parts
}

fn set(node: &mut Node, parts: &[String], value: Node, place: Place, faults: &mut Faults) {
    let Some((part, rest)) = parts.split_first() else {
        *node = value;
        return;
    };
    match &mut node.value {
        Value::Table(entries) => {
            let at = entries.iter().position(|e| e.key == *part).unwrap_or_else(|| {
                // A key that is not there yet; if the format has none of that name, reading says so.
                let node = Node { place, value: Value::Table(Vec::new()) };
                entries.push(Entry { key: part.clone(), place, node });
                entries.len() - 1
            });
            set(&mut entries[at].node, rest, value, place, faults);
        }
        Value::List(items) => match element(items, part) {
            Some(at) => set(&mut items[at], rest, value, place, faults),
            None => {
                let names: Vec<&str> = items.iter().filter_map(name).collect();
                let help = match items.len() {
                    0 => "the list is empty".to_string(),
                    n if names.is_empty() => format!("it has 0 to {}", n - 1),
                    _ => suggestion(part, &names),
                };
                faults.push(place, "T0112", format!("the list has no element `{part}`"), help);
            }
        },
        other => {
            let message = format!("`{part}` cannot be inside {}", other.kind());
            faults.push(place, "T0112", message, "the path ends one part before it");
        }
    }
}

fn name(item: &Node) -> Option<&str> {
    ["name", "link"].into_iter().find_map(|key| match item.get(key).map(|n| &n.value) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    })
}

fn element(items: &[Node], part: &str) -> Option<usize> {
    let named = items.iter().position(|item| name(item) == Some(part));
    named.or_else(|| part.parse().ok().filter(|i: &usize| *i < items.len()))
}
