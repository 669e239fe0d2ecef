//! Work that another tool wrote down, as a job on a cluster: Chakra execution traces and SimAI workload files.
//!
//! ```text
//!   bytes of *.et ──chakra──▶ Job: a graph a rank, groups, channels ──play──▶ messages over the scenario's links
//!   text of SimAI ──simai───▶ Workload: passes of layers, alike on every rank ──▶ each kind of collective once, then a sum
//! ```
//!
//! A trace says what each rank computes and whom it talks to, not how long that takes: compute nodes are priced by the
//! rank's GPU (or by what an ASTRA-sim system file says), collectives by [`crate::collective::messages`], message by
//! message, over the links of the scenario.

pub mod chakra;
mod job;
mod play;
mod run;
pub mod simai;
mod system;
mod ways;

pub use job::{Compute, Job, Node, TraceError, Work};
pub use run::{Outcome, RankTime, RunError, Span, simulate};
pub use system::{Machine, Rules, SystemError};
pub use ways::{Topology, Ways, WaysError};
