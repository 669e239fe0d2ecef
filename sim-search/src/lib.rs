//! The search for the fastest parallel plan of a scenario, by simulating plans.
//!
//! [`search()`] goes through the space of [`space`] best bound first, throws out what a rule or a bound excludes, simulates
//! the rest in parallel rounds, and says how far the best it found may be from the best there is.

mod certificate;
pub mod cost;
pub mod exchange;
mod exhaustive;
pub mod families;
pub mod forms;
mod frame;
pub mod jobs;
pub mod judge;
#[cfg(test)]
mod laws;
pub mod place;
pub mod planners;
pub mod replay;
pub mod rules;
mod search;
pub mod shares;
pub mod space;
mod tree;
pub mod verify;

pub use rules::Rule;
pub use search::{
    Candidate, Counts, Fate, Found, Method, NearestMiss, NoStart, Objective, Options, Progress, Ranked,
    Saved, Stop, Stopped, Watch, merge, search, search_explained, search_from,
};
