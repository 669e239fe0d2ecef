//! The scenarios and traces that ship with the program.

use crate::{Fault, Loaded, Overrides};

/// A scenario of the library.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Name, by which the command takes it.
    pub name: &'static str,
    /// `quick`, `published`, `suite` or `replay`.
    pub group: &'static str,
    /// The file.
    pub text: &'static str,
}

impl Builtin {
    /// Reads it, with changes.
    ///
    /// # Errors
    /// The faults that the changes bring in.
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, Vec<Fault>> {
        crate::load_named(self.text, self.name, self.name, None, overrides)
    }
}

/// A trace of the library.
#[derive(Clone, Copy, Debug)]
pub struct BuiltinTrace {
    /// Name, by which `[[traces]]` takes it.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! builtins {
    ($($group:literal: $name:literal),* $(,)?) => {
        &[$(Builtin {
            name: $name,
            group: $group,
            text: include_str!(concat!("../library/", $name, ".toml")),
        }),*]
    };
}

const BUILTINS: &[Builtin] = builtins![
    "quick": "quickstart",
    "quick": "h100x8-switch",
    "quick": "opt350-a100x32",
    "quick": "opt350-a100x32-v100x96",
    "quick": "opt350-a100x128-v100x384",
    "quick": "llama2-70b-zones1024",
    "quick": "jobs-two",
    "quick": "jobs-four",
    "published": "llama3-405b-h100x16384",
    "published": "llama3-405b-h100x131072",
    "published": "gpt3-175b-a100x1024",
    "published": "mixtral-8x22b-h100x512",
    "published": "deepseek-v3-h800x2048",
    "replay": "replay-two-regions",
    "replay": "replay-zhejiang-256",
    "replay": "replay-spot",
    "replay": "replay-elastic",
    "replay": "replay-stragglers",
    "replay": "replay-faults",
    "replay": "replay-oversubscribed",
    "suite": "suite-a100x8",
    "suite": "suite-h100x64",
    "suite": "suite-a100x1024",
    "suite": "suite-a100x32-v100x96",
    "suite": "suite-v100x12-t4x4",
    "suite": "suite-rtx-mix",
    "suite": "suite-h100-a100-l4",
    "suite": "suite-regions",
    "suite": "suite-oversubscribed",
    "suite": "suite-background",
    "suite": "suite-moe",
    "suite": "suite-long-context",
];

macro_rules! traces {
    ($($name:literal),* $(,)?) => {
        &[$(BuiltinTrace {
            name: $name,
            text: include_str!(concat!("../traces/", $name, ".csv")),
        }),*]
    };
}

const TRACES: &[BuiltinTrace] = traces![
    "zhejiang-leaf-9-53",
    "zhejiang-leaf-7-37",
    "zhejiang-32-ports",
    "skyplane-central1-asia-south1",
    "parcae-high",
    "oobleck-p3",
    "sailor-a100",
    "mlperf-steps-8",
    "infinitehbd-400",
];

/// The scenarios of the library.
pub fn builtins() -> &'static [Builtin] {
    BUILTINS
}

/// The traces of the library.
pub fn builtin_traces() -> &'static [BuiltinTrace] {
    TRACES
}
