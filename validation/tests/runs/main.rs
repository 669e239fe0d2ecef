//! Measured runs: reading them, scoring them, and the error budget.

mod bad_input;
mod data;
mod laws;
mod rows;
mod support;
