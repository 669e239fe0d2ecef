//! The cost model held against measurements: training runs ([`runs`]) and collectives ([`collectives`]).

pub mod collectives;
pub mod runs;
