//! Results as JSON: the keys that scripts rely on.

use serde_json::{Value, json};
use sim_models::iteration::Iteration;
use sim_models::layout::Layout;
use sim_models::scenario::Scenario;

/// One iteration: the keys of `simulate`.
pub(crate) fn iteration(scenario: &Scenario, layout: &Layout, iteration: &Iteration) -> Value {
    json!({
        "iteration_time_s": iteration.time.as_secs_f64(),
        "time_interval_s": iteration.interval_s(layout),
        "evidence": layout.evidence,
        "tokens_per_s": iteration.tokens_per_s(scenario),
        "mfu": iteration.mfu(scenario, layout),
        "fits": iteration.fits(),
        "devices": iteration.devices,
        "events": iteration.events,
        "digest": iteration.digest.to_string(),
        "folded": iteration.folded,
    })
}
