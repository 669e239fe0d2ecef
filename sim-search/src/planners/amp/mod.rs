//! AMP.
pub mod cost;
