//! Planners.
pub mod metis;
pub mod sailor;
pub mod amp;
