//! What the models promise: iterations computed by hand, folding, what a plan may be, memory.

mod exchanges;
mod explained;
mod folding;
mod golden;
mod iterations;
mod jobs;
mod leaves;
mod memory;
mod plans;
mod random;
mod round;
mod workload_trace;
