//! Results as JSON: the keys that scripts rely on.

use serde::Serialize;
use serde_json::{Value, json};
use sim_models::device::Evidence;
use sim_models::iteration::{DeviceReport, Iteration};
use sim_models::layout::Layout;
use sim_models::scenario::Scenario;

/// One iteration: the keys of `simulate`.
#[derive(Debug, Serialize)]
pub(crate) struct Keys<'a> {
    iteration_time_s: f64,
    time_interval_s: [f64; 2],
    evidence: Evidence,
    tokens_per_s: f64,
    mfu: f64,
    fits: bool,
    devices: &'a [DeviceReport],
    events: u64,
    digest: String,
    folded: bool,
    /// What becomes of it when nodes of its plan leave, where some do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interrupted: Option<Value>,
    /// Where the time went, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) explain: Option<Value>,
}

impl<'a> Keys<'a> {
    pub(crate) fn of(scenario: &Scenario, layout: &Layout, iteration: &'a Iteration) -> Keys<'a> {
        Keys {
            iteration_time_s: iteration.time.as_secs_f64(),
            time_interval_s: iteration.interval_s(layout),
            evidence: layout.evidence,
            tokens_per_s: iteration.tokens_per_s(scenario),
            mfu: iteration.mfu(scenario, layout),
            fits: iteration.fits(),
            devices: &iteration.devices,
            events: iteration.events,
            digest: iteration.digest.to_string(),
            folded: iteration.folded,
            interrupted: None,
            explain: None,
        }
    }
}

/// The same as a value, for more keys to be set beside them.
pub(crate) fn iteration(scenario: &Scenario, layout: &Layout, iteration: &Iteration) -> Value {
    json!(Keys::of(scenario, layout, iteration))
}
