//! Integration tests of the kernel, one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alloc;
mod edges;
mod exact;
mod fair;
mod fold;
mod golden;
mod graph;
mod observe;
mod scale;
mod support;
#[path = "../../examples/support/mod.rs"]
mod workloads;
