//! The search for the fastest parallel plan of a scenario, by simulating plans.
//!
//! [`search()`] goes through the space of [`space`] best bound first, throws out what a rule or a bound excludes, simulates
//! the rest in parallel rounds, and says how far the best it found may be from the best there is.

pub mod cost;
pub mod judge;
pub mod place;
pub mod planners;
pub mod rules;
mod search;
pub mod shares;
pub mod space;

pub use rules::Rule;
pub use search::{Counts, Found, NearestMiss, Options, Progress, Ranked, Stop, Stopped, search};
