//! The device file: fitted constants of one GPU and one framework, as TOML that people read.

use super::fit::Fitted;
use crate::device::Roofline;
use crate::device::catalogue::{Catalogue, UnknownGpu};
use crate::device::constants::{DeviceConstants, FrameworkConstants};
use serde::{Deserialize, Serialize};

/// What a calibration writes and a scenario names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFile {
    /// The GPU, by its catalogue name.
    pub gpu: String,
    /// Where the measurements came from.
    pub source: String,
    /// Fitted constants of the GPU.
    pub device: DeviceConstants,
    /// Fitted constants of the framework.
    pub framework: FrameworkConstants,
}

/// Why a device file could not be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DeviceFileError {
    /// Not TOML, or not of this form; the message has the line.
    #[error("the device file does not read: {0}")]
    Parse(String),
    /// A constant out of its range.
    #[error("`{name}` is {value}: expected above 0 and at most {most}")]
    Constant {
        /// Its name.
        name: &'static str,
        /// What stands there.
        value: f64,
        /// The greatest that is taken.
        most: f64,
    },
    /// Not in the catalogue.
    #[error(transparent)]
    Gpu(#[from] UnknownGpu),
}

impl DeviceFile {
    /// The file of a fitted roofline.
    pub fn new(roofline: &Roofline, source: &str) -> DeviceFile {
        DeviceFile {
            gpu: roofline.gpu.name.clone(),
            source: source.to_owned(),
            device: roofline.device,
            framework: roofline.framework.clone(),
        }
    }

    /// As text, with the parameters' standard errors as comments.
    ///
    /// # Errors
    /// None for constants that a file can hold; a TOML writer's otherwise.
    pub fn to_toml(&self, parameters: &[Fitted]) -> Result<String, DeviceFileError> {
        let mut text = String::from(
            "# Fitted constants of a GPU and a framework; docs/cost-model.md says what each means.\n",
        );
        for p in parameters {
            let error = p.standard_error.map_or("not determined by the data".to_owned(), |e| {
                format!("+- {:.1} %{}", e * 100.0, if p.at_bound { ", at its bound" } else { "" })
            });
            text += &format!("# {} = {} {error}\n", p.name, p.value);
        }
        text += &toml::to_string(self).map_err(|e| DeviceFileError::Parse(e.to_string()))?;
        Ok(text)
    }

    /// Reads one and checks every constant.
    ///
    /// # Errors
    /// See [`DeviceFileError`].
    pub fn from_toml(text: &str) -> Result<DeviceFile, DeviceFileError> {
        let file: DeviceFile = toml::from_str(text).map_err(|e| DeviceFileError::Parse(e.to_string()))?;
        let (d, f) = (&file.device, &file.framework);
        let shares = [
            ("device.matmul", d.matmul),
            ("device.matmul_tf32", d.matmul_tf32),
            ("device.matmul_fp32", d.matmul_fp32),
            ("device.stream", d.stream),
            ("device.flash_forward", d.flash_forward),
            ("device.flash_backward", d.flash_backward),
            ("framework.kernels.add", f.kernels.add),
            ("framework.kernels.norm", f.kernels.norm),
            ("framework.kernels.rotary", f.kernels.rotary),
            ("framework.kernels.activation", f.kernels.activation),
            ("framework.kernels.gather", f.kernels.gather),
            ("framework.kernels.scores", f.kernels.scores),
            ("framework.kernels.optimizer", f.kernels.optimizer),
            ("device.spread", d.spread),
        ];
        let counts = [
            ("device.launch_s", d.launch_s, 1.0),
            ("device.tile_overhead_k", d.tile_overhead_k, 1e6),
            ("device.wave", d.wave, 1.0),
            ("framework.eager_forward_passes", f.eager_forward_passes, 1e3),
            ("framework.eager_backward_passes", f.eager_backward_passes, 1e3),
            ("framework.fused_forward_passes", f.fused_forward_passes, 1e3),
            ("framework.fused_backward_passes", f.fused_backward_passes, 1e3),
            ("framework.replicated_forward_passes", f.replicated_forward_passes, 1e3),
            ("framework.replicated_backward_passes", f.replicated_backward_passes, 1e3),
            ("framework.sharded_forward_passes", f.sharded_forward_passes, 1e3),
            ("framework.sharded_backward_passes", f.sharded_backward_passes, 1e3),
            ("framework.loss_forward_passes", f.loss_forward_passes, 1e3),
            ("framework.loss_backward_passes", f.loss_backward_passes, 1e3),
            ("framework.host_forward_s", f.host_forward_s, 10.0),
            ("framework.host_backward_s", f.host_backward_s, 10.0),
            ("framework.host_tp_s", f.host_tp_s, 10.0),
            ("framework.optimizer_bytes", f.optimizer_bytes, 1e3),
        ];
        let all = shares.into_iter().map(|(name, value)| (name, value, 2.0)).chain(counts);
        for (name, value, most) in all {
            if !(value > 0.0 && value <= most) {
                return Err(DeviceFileError::Constant { name, value, most });
            }
        }
        Ok(file)
    }

    /// The roofline that the file describes.
    ///
    /// # Errors
    /// The GPU is not in the catalogue.
    pub fn roofline(&self, catalogue: &Catalogue) -> Result<Roofline, DeviceFileError> {
        let gpu = catalogue.find(&self.gpu)?.clone();
        Ok(Roofline { gpu, device: self.device, framework: self.framework.clone() })
    }
}
