//! Shared resources: weighted max-min fair rates, in integers, and the finishes that follow from them.
//!
//! `table` knows who uses what, `solve` gives the rates, `fluid` keeps time: it settles what was moved when a rate changes,
//! and knows the next finish and the next capacity change.
//!
//! # What the rates are
//! All transfers rise together. At each step the smallest *level* over all resources, `floor(capacity left / weight open)`,
//! and over all caps is found; every resource and cap at that level closes in the same step, its transfers keep that rate,
//! and what they take of other resources is taken off. Levels never fall from one step to the next, so the result does not
//! depend on the order of resources or transfers, nor on what lies outside their component.

mod fluid;
pub mod reference;
mod solve;
mod table;

pub use fluid::Fluid;

/// Which part of the transfers a change re-solves; the rates are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Solver {
    /// Only what hangs together with the change; everything when that is more than a quarter.
    #[default]
    Incremental,
    /// Everything, always, and each finish through the queue; to test the other against.
    Full,
}
