//! What distributed training costs, and how a plan becomes a task graph.
//!
//! A [`scenario::Scenario`] says what is trained on which nodes over which links; a [`plan::Plan`] says how it is split.
//! [`iteration::simulate`] checks the plan, lays it out on the devices, folds what is alike, lowers it to a task graph of
//! `sim_core`, runs it, and says what became of every device's time and memory.

pub mod calibrate;
pub mod collective;
pub mod cost;
pub mod crossings;
pub mod device;
pub mod explain;
pub mod fold;
pub mod framework;
pub mod import;
pub mod iteration;
pub mod jobs;
pub mod layer_times;
pub mod layout;
pub mod link;
pub mod lower;
pub mod memory;
pub mod plan;
pub mod plan_check;
mod rank_time;
pub mod replay;
pub mod scenario;
pub mod schedule;
pub mod timeline;
pub mod units;
pub mod uplinks;
pub mod workload;
pub mod workload_trace;
