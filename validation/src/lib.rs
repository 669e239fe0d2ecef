//! The cost model held against measurements.

pub mod collectives;
