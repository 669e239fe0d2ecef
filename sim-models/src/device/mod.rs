//! What a device is (the catalogue) and how long a layer takes on it (measured tables).

pub mod catalogue;
mod table;

pub use catalogue::{Catalogue, Format, Gpu, UnknownGpu};
pub use table::{LayerCost, LayerTable, TableError};
