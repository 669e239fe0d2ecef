//! Sailor (SOSP 25).
pub mod cost;
