//! What a device is (the catalogue), and how long operators and layers take on it: measured tables, the roofline, or a
//! user's own model, behind one trait.

pub mod catalogue;
pub mod constants;
pub mod layer;
pub mod measured;
pub mod model;
pub mod operator;
pub mod roofline;
pub mod stage;
mod table;

pub use catalogue::{Catalogue, Format, Gpu, UnknownGpu};
pub use layer::{LayerQuery, LayerShape};
pub use measured::MeasuredLayers;
pub use model::{Device, DeviceModel, Estimate, Evidence, LayerEstimate, Pass, Waits, check_laws};
pub use operator::Operator;
pub use roofline::Roofline;
pub use stage::{Stage, StageTime};
pub use table::{LayerCost, LayerTable, TableError};

#[cfg(test)]
mod tests;
