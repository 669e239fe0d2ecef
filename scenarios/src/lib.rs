//! Scenario files: TOML in, [`Scenario`] out, or every fault of the file at once, each with its place.
//!
//! ```text
//! text --node--> tree with places --overrides--> --format--> tables --resolve--> Scenario
//!                                                               \-- traces, events, plan, profiles
//! ```
//!
//! ```
//! use scenarios::{Overrides, load};
//! let mut overrides = Overrides::default();
//! overrides.set("nodes.v100.count=8").unwrap();
//! let loaded = load("quickstart", &overrides).unwrap();
//! assert_eq!(loaded.scenario.gpus(), 48);
//!
//! overrides.set("nodes.v100.count=-1").unwrap();
//! let faults = load("quickstart", &overrides).unwrap_err();
//! assert_eq!(faults[0].message, "`-1` is not from 1 to 1000000");
//! ```

mod explain;
mod fault;
pub mod files;
mod format;
mod library;
mod nearest;
mod node;
mod overrides;
pub mod quantity;
mod read;
mod resolve;
pub mod series;
pub mod trace;

pub use explain::{codes, explain};
pub use fault::{Fault, Source};
pub use format::Mode;
pub use library::{Builtin, BuiltinTrace, builtin_traces, builtins};
pub use overrides::Overrides;

use fault::Faults;
use format::ScenarioFile;
use node::Node;
use read::Read;
use resolve::Context;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use std::path::Path;

/// A scenario, and what of its file is not in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The scenario.
    pub scenario: Scenario,
    /// How many traces its links have, those of loads among them.
    pub traces: usize,
}

/// Loads a built-in by its name, or a file by its path. A name with a `/` or a `.` in it is a path.
///
/// # Errors
/// Every fault of the file and of what it names, in order of place; never an empty list.
pub fn load(name_or_path: &str, overrides: &Overrides) -> Result<Loaded, Vec<Fault>> {
    if let Some(builtin) = builtins().iter().find(|b| b.name == name_or_path) {
        return builtin.load(overrides);
    }
    let path = Path::new(name_or_path);
    let mut faults = Faults::default();
    if !name_or_path.contains(['/', '\\', '.']) && !path.exists() {
        let names: Vec<&str> = builtins().iter().map(|b| b.name).collect();
        let place = faults.add_source(name_or_path, "");
        let message = format!("no file and no built-in scenario is called `{name_or_path}`");
        faults.push(place, "T0111", message, nearest::suggestion(name_or_path, &names));
        return Err(faults.finish());
    }
    let text = read_or_fault(path)?;
    load_text(&text, name_or_path, path.parent(), overrides)
}

/// Loads a scenario from its text. `file_name` is what errors call it; its stem names the scenario. Files that it names
/// are relative to `base`, or to the current folder.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    text: &str,
    file_name: &str,
    base: Option<&Path>,
    overrides: &Overrides,
) -> Result<Loaded, Vec<Fault>> {
    let stem = Path::new(file_name).file_stem().map_or_else(|| file_name.into(), |s| s.to_string_lossy());
    load_named(text, &stem, file_name, base, overrides)
}

pub(crate) fn load_named(
    text: &str,
    name: &str,
    file_name: &str,
    base: Option<&Path>,
    overrides: &Overrides,
) -> Result<Loaded, Vec<Fault>> {
    let mut faults = Faults::default();
    let whole = faults.add_source(file_name, text);
    let Some(mut root) = Node::document(text, whole, &mut faults) else { return Err(faults.finish()) };
    overrides::apply(&mut root, &overrides.sets, &mut faults);
    let file = ScenarioFile::read(&root, &mut faults);
    let scenario = file.as_ref().and_then(|file| {
        resolve::scenario(file, name, &mut Context { base, overrides, faults: &mut faults })
    });
    match (scenario, file) {
        (Some(scenario), Some(file)) if faults.count() == 0 => {
            let loads = file.background.iter().flat_map(|b| &b.value).filter(|b| b.value.rate.is_none());
            let traces = file.traces.map_or(0, |t| t.value.len()) + loads.count();
            Ok(Loaded { scenario, traces })
        }
        _ => Err(faults.finish()),
    }
}

/// Reads PLAN.toml; it is not held against a scenario.
///
/// # Errors
/// Every fault of its form, in order of place.
pub fn load_plan(path: &Path) -> Result<Plan, Vec<Fault>> {
    plan_from_text(&read_or_fault(path)?, &path.display().to_string())
}

/// Reads PLAN.toml and holds it against a scenario.
///
/// # Errors
/// Every fault of its form; if there are none, all that [`sim_models::plan_check`] finds, at their places.
pub fn load_plan_for(path: &Path, scenario: &Scenario) -> Result<Plan, Vec<Fault>> {
    let text = read_or_fault(path)?;
    plan(&text, &path.display().to_string(), Some(scenario))
}

/// Reads the text of a plan; `name` is what errors call it.
///
/// # Errors
/// As [`load_plan`].
pub fn plan_from_text(text: &str, name: &str) -> Result<Plan, Vec<Fault>> {
    plan(text, name, None)
}

fn plan(text: &str, name: &str, scenario: Option<&Scenario>) -> Result<Plan, Vec<Fault>> {
    let mut faults = Faults::default();
    let whole = faults.add_source(name, text);
    let read = resolve::read_plan(text, whole, &mut faults);
    let plan = read.and_then(|(plan, node)| match scenario {
        Some(scenario) => resolve::checked(plan, &node, scenario, &mut faults),
        None => Some(plan),
    });
    plan.ok_or_else(|| faults.finish())
}

fn read_or_fault(path: &Path) -> Result<String, Vec<Fault>> {
    files::text(path, files::DOCUMENT).map_err(|why| {
        let mut faults = Faults::default();
        let place = faults.add_source(path.display().to_string(), "");
        faults.push(place, "T0109", format!("cannot be read: {why}"), "");
        faults.finish()
    })
}

/// The JSON Schema of a scenario file (TOML and JSON have the same shape).
pub fn schema() -> serde_json::Value {
    let mut generator = schemars::SchemaGenerator::default();
    let mut schema = ScenarioFile::schema(&mut generator);
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "Scenario".into());
    schema.insert("$defs".into(), generator.take_definitions(true).into());
    schema.to_value()
}

/// The JSON Schema of PLAN.toml, `[plan]` and the `plan` of the command's JSON.
pub fn plan_schema() -> serde_json::Value {
    schemars::schema_for!(Plan).to_value()
}
