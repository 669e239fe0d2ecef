//! Fitting the cost model to measurements, and saying how well it went.
//!
//! [`operators`] fits a device's shares to operator times, [`layers()`] a framework's constants to layer times; both
//! report each parameter with its standard error, the residuals by operator and size, and what the data cannot
//! determine. A fitted device is written by [`DeviceFile`]. [`fabric()`] does the same for collectives, [`FabricFile`].

mod fabric;
mod file;
mod fit;
mod layers;
mod operators;
mod plot;
mod report;

pub use fabric::{FabricFile, FabricFileError, FabricFit, fabric};
pub use file::{DeviceFile, DeviceFileError};
pub use fit::{Fitted, Parameter, Robust, fit, fit_weighted};
pub use layers::{LayerFit, LayerTime, errors as layer_errors, layers};
pub use operators::{OperatorFit, error as operator_error, operators};
pub use plot::scatter_svg;
pub use report::Residual;

#[cfg(test)]
mod accuracy;
