//! A deterministic discrete-event kernel: integer time, a total event order, shared resources, task graphs.

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
