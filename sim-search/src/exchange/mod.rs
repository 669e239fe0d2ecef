//! Other tools' plans: read and checked before anything is judged, and ours written as theirs.
//!
//! Frameworks know *uniform* plans ([`Uniform`]): alike pipelines whose stages have one TP. Their importers make one of the
//! scenario; their exporters refuse, with the reason, what they cannot say. Metis's and Sailor's plans need not be uniform,
//! and are laid on the scenario's devices by GPU and zone.

mod deepspeed;
mod galvatron;
mod megatron;
mod metis;
mod sailor;
mod sailor_answer;
mod torchtitan;
mod uniform;

pub use deepspeed::{export as to_deepspeed, import as from_deepspeed};
pub use galvatron::import as from_galvatron;
pub use megatron::{export as to_megatron, import as from_megatron};
pub use metis::{
    Checked, MetisFiles, import as from_metis, import_first as import_metis_first, scenario as metis_scenario,
};
pub use sailor::{import as from_sailor, scenario as sailor_scenario};
pub use sailor_answer::{SailorAnswer, SailorCase, cases as sailor_cases};
pub use torchtitan::{export as to_torchtitan, import as from_torchtitan};
pub use uniform::Uniform;

use sim_models::plan::Plan;
use sim_models::scenario::Scenario;

/// Why a plan cannot be taken or written: what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Refusal {
    /// What is wrong.
    pub problem: String,
    /// What would be right; may be empty.
    pub help: String,
}

fn refuse<T>(problem: impl Into<String>, help: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { problem: problem.into(), help: help.into() })
}

/// The plan, if it is one for the scenario; otherwise everything wrong with it in a line.
fn checked(scenario: &Scenario, plan: Plan) -> Result<Plan, Refusal> {
    let faults = sim_models::plan_check::check(scenario, &plan);
    match faults.first() {
        None => Ok(plan),
        Some(first) => refuse(crate::judge::in_a_line(&faults), first.help.clone()),
    }
}

/// The number under a name, within what makes sense of a degree of parallelism or a batch.
fn degree(name: &str, value: u64) -> Result<u32, Refusal> {
    match u32::try_from(value) {
        Ok(n) if (1..=1 << 20).contains(&n) => Ok(n),
        _ => refuse(format!("`{name}` is {value}"), "from 1 to 1048576"),
    }
}

/// Whether a tool's global batch is the scenario's.
fn same_batch(scenario: &Scenario, theirs: u32) -> Result<(), Refusal> {
    let ours = scenario.training.global_batch;
    if theirs == ours {
        return Ok(());
    }
    refuse(
        format!("its global batch is {theirs}, the scenario's {ours}"),
        format!("`--set training.global_batch={theirs}`"),
    )
}
