//! The scenario format from outside: the library, bad input message by message, quantities, traces, laws.

mod bad_input;
mod changes;
mod jobs;
mod laws;
mod layer_times;
mod leaves;
mod library;
mod published;
mod quantities;
mod series;
mod traces;
