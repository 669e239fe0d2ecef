//! Metis (ATC'24).

pub mod balance;
pub mod cost;
pub mod files;
pub mod space;
pub mod tables;
