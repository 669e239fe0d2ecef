#![doc = include_str!("../README.md")]
//!
//! # Laws
//!
//! - **Order.** Events are dispatched by (time, class, sequence), all integers. Of one instant: capacity changes, then
//!   finishes, then starts, then one resolve of all shares. Among finishes of one instant, transfers come before delays,
//!   each by id. No result follows the order of a hash table or the address of anything.
//! - **Exactness.** What is left of a transfer is an integer and is settled only when its rate changes; a finish is rounded
//!   up to a picosecond. Nothing drifts, over any number of changes.
//! - **Independence.** The rate of a transfer depends on what it shares resources with, directly or through others, and on
//!   nothing else: neither on order, nor on which solver ran, nor on folding.
//! - **Endings.** Every run ends: with an outcome, or with a [`SimError`] that says why not.
//! - **Memory.** A warm loop does not allocate: run, engine, queues and builders keep what they have grown to.

mod batches;
mod calendar;
pub mod capacity;
pub mod completion;
pub mod digest;
pub mod edges;
pub mod engine;
pub mod error;
pub mod executor;
pub mod fold;
pub mod generate;
pub mod graph;
pub mod id;
pub mod network;
pub mod observe;
pub mod queue;
pub mod rate;
pub mod resources;
pub mod time;

pub use capacity::{CapacityProfile, CapacitySource, ProfileError};
pub use completion::CompletionQueue;
pub use digest::Digest;
pub use engine::{Engine, Limits, Scheduler, World};
pub use error::SimError;
pub use executor::{Executor, Outcome, RunOptions};
pub use graph::{GraphBuilder, GraphError, TaskGraph, Transfer};
pub use id::{ResourceId, StreamId, TaskId};
pub use network::{Network, NetworkBuilder};
pub use observe::{NoObserver, Observer};
pub use queue::{Class, EventQueue};
pub use rate::{Rate, RateError};
pub use resources::{Fluid, Solver};
pub use time::{SimDuration, SimTime, TimeError};
