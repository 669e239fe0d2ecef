//! Integration tests of the kernel, one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exact;
mod fair;
mod graph;
mod support;
