//! Fitting the collective model to one fabric, and its file: TOML that people read and a node group of a scenario names.

use super::fit::Fitted;
use super::report::{Residual, summarise};
use crate::collective::fit::{Sample, determined, fit};
use crate::collective::{Fabric, FabricError, Name, Nccl, Parameters};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a parameter of one fabric may lie from the shipped one, which is that of many: standard deviation of the logarithm.
const OF_A_FABRIC: f64 = 0.25;

/// What a calibration writes and a scenario names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FabricFile {
    /// The GPU, by its catalogue name.
    pub gpu: String,
    /// Where the measurements came from.
    pub source: String,
    /// Least and greatest size measured, bytes.
    pub sizes: (f64, f64),
    /// Every parameter of the model; those that the data do not determine are the shipped ones.
    pub parameters: BTreeMap<String, f64>,
    /// What was measured.
    pub fabric: Fabric,
}

/// Why a fabric file is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FabricFileError {
    /// Not TOML, or not of this form; the message has the line.
    #[error("the fabric file does not read: {0}")]
    Parse(String),
    /// A parameter is absent, unknown or out of its range.
    #[error("`parameters.{name}` is {found}: expected {expected}")]
    Parameter {
        /// Which.
        name: String,
        /// What stands there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A figure of the fabric.
    #[error(transparent)]
    Fabric(#[from] FabricError),
}

/// What a fit to one fabric found.
#[derive(Clone, Debug, PartialEq)]
pub struct FabricFit {
    /// The fabric's file.
    pub file: FabricFile,
    /// Every parameter with its standard error, `None` where the data do not determine it: then the shipped value stands.
    pub parameters: Vec<Fitted>,
    /// Errors by operation and decade of the size, fitted and with the shipped parameters.
    pub residuals: Vec<(Residual, Residual)>,
}

/// Fits the model to measurements of one fabric of `gpu`, starting from the shipped parameters. `None` without samples.
pub fn fabric(gpu: &str, source: &str, samples: &[&Sample]) -> Option<FabricFit> {
    let first = samples.first()?;
    let shipped = Parameters::builtin();
    let start = shipped.around(OF_A_FABRIC);
    let (found, mut fitted) = fit(samples, &start);
    let said = determined(samples, &start);
    let mut values = Vec::new();
    for ((name, f), said) in Name::ALL.into_iter().zip(&mut fitted).zip(said) {
        // A value that ran to its bound without a standard error is no finding either.
        if !said || f.standard_error.is_none() {
            (f.value, f.standard_error, f.at_bound) = (shipped.get(name).value, None, false);
        }
        values.push(f.value);
    }
    let after = found.bounded(&values);
    let errors = |values| {
        let error = |s: &&Sample| {
            let predicted = s.predicted(values)?;
            Some((s.kind.name().to_string(), s.bytes as f64, libm::log(predicted / s.seconds)))
        };
        summarise(&samples.iter().filter_map(error).collect::<Vec<_>>())
    };
    let residuals = errors(after).into_iter().zip(errors(shipped.values())).collect();
    let parameters = Name::ALL.into_iter().zip(values).map(|(name, value)| (name.key().to_string(), value));
    let file = FabricFile {
        gpu: gpu.to_string(),
        source: source.to_string(),
        sizes: found.sizes,
        parameters: parameters.collect(),
        fabric: first.fabric,
    };
    Some(FabricFit { file, parameters: fitted, residuals })
}

impl FabricFile {
    /// As text, with the parameters' standard errors as comments.
    ///
    /// # Errors
    /// None for what a fit makes; a TOML writer's otherwise.
    pub fn to_toml(&self, parameters: &[Fitted]) -> Result<String, FabricFileError> {
        let mut text = String::from(
            "# Fitted constants of collectives on one fabric; docs/cost-model.md says what each means. Rates in bytes/s.\n",
        );
        for p in parameters {
            let error = p.standard_error.map_or("not determined by the data".to_owned(), |e| {
                format!("+- {:.1} %{}", e * 100.0, if p.at_bound { ", at its bound" } else { "" })
            });
            text += &format!("# {} = {} {error}\n", p.name, p.value);
        }
        text += &toml::to_string(self).map_err(|e| FabricFileError::Parse(e.to_string()))?;
        Ok(text)
    }

    /// Reads one and checks every figure.
    ///
    /// # Errors
    /// See [`FabricFileError`].
    pub fn from_toml(text: &str) -> Result<FabricFile, FabricFileError> {
        let file: FabricFile = toml::from_str(text).map_err(|e| FabricFileError::Parse(e.to_string()))?;
        let fault = |name: &str, found: String, expected: String| {
            Err(FabricFileError::Parameter { name: name.to_string(), found, expected })
        };
        if let Some(unknown) = file.parameters.keys().find(|key| Name::ALL.iter().all(|n| n.key() != *key)) {
            let names = Name::ALL.map(Name::key).join(", ");
            return fault(unknown, "no parameter".into(), format!("one of {names}"));
        }
        for name in Name::ALL {
            let p = Parameters::builtin().get(name);
            let range = format!("above 0, {} to {}", p.min, p.max);
            match file.parameters.get(name.key()) {
                None => return fault(name.key(), "missing".into(), range),
                Some(v) if !(*v > 0.0 && (p.min..=p.max).contains(v)) => {
                    return fault(name.key(), v.to_string(), range);
                }
                Some(_) => {}
            }
        }
        file.fabric.check()?;
        Ok(file)
    }

    /// The model that the file describes.
    ///
    /// # Errors
    /// A figure of the fabric out of its range.
    pub fn nccl(&self) -> Result<Nccl, FabricError> {
        let of = |name: Name| self.parameters.get(name.key()).copied();
        let shipped = Parameters::builtin();
        let values: Vec<f64> = Name::ALL.map(|n| of(n).unwrap_or(shipped.get(n).value)).to_vec();
        let mut values = shipped.bounded(&values);
        values.fitted = Some(self.sizes);
        Nccl::with_values(self.fabric, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::{CollectiveKind, CollectiveModel, Group, Network};
    use crate::device::Catalogue;
    use crate::units::Bytes;

    /// All-reduces on four nodes of a fabric whose cards give a tenth less than usual, and whose start is late.
    fn measured() -> Vec<Sample> {
        let gpu = Catalogue::builtin().find("A100").unwrap();
        let fabric = Fabric::of(gpu, 8).with_network(Network::rdma(8, 25e9));
        let shipped = Parameters::builtin();
        let odd: Vec<f64> = Name::ALL
            .into_iter()
            .map(|n| {
                shipped.get(n).value
                    * match n {
                        Name::RdmaShare => 0.9,
                        Name::StartUs => 1.5,
                        _ => 1.0,
                    }
            })
            .collect();
        let values = shipped.bounded(&odd);
        let sample = |octave: u32| {
            let group = Group::new(32, 4).unwrap();
            let (kind, bytes) = (CollectiveKind::AllReduce, 1u64 << octave);
            let sample = Sample {
                source: "x".into(),
                fabric,
                kind,
                bytes,
                group,
                algorithm: None,
                from_host: false,
                seconds: 1.0,
            };
            Sample { seconds: sample.predicted(values).unwrap(), ..sample }
        };
        (3..34).map(sample).collect()
    }

    #[test]
    fn a_fabric_is_found_and_its_file_reads() {
        let samples = measured();
        let list: Vec<&Sample> = samples.iter().collect();
        let found = fabric("A100-40", "made up", &list).unwrap();
        assert!(found.residuals.iter().all(|(after, _)| after.median < 0.07), "{:?}", found.residuals);
        let of = |name: &str| found.parameters.iter().find(|p| p.name == name).unwrap();
        // Nothing crosses TCP or reduces in a switch: those stay as they are, and say so.
        for name in ["tcp_share", "nvls_share", "pcie_share"] {
            assert_eq!(of(name).standard_error, None, "{name}");
        }
        assert!(
            of("rdma_share").standard_error.is_some() && of("rdma_share").value < 0.92,
            "{:?}",
            of("rdma_share")
        );
        let text = found.file.to_toml(&found.parameters).unwrap();
        assert!(text.contains("# tcp_share = ") && text.contains("not determined by the data"), "{text}");
        let read = FabricFile::from_toml(&text).unwrap();
        assert_eq!(read, found.file);
        let time = read.nccl().unwrap().time(samples[20].kind, Bytes(samples[20].bytes), samples[20].group);
        assert!((time.unwrap().seconds / samples[20].seconds - 1.0).abs() < 0.06);
        // The same in any order.
        let reversed: Vec<&Sample> = samples.iter().rev().collect();
        assert_eq!(fabric("A100-40", "made up", &reversed).unwrap().file, found.file);
        assert!(fabric("A100-40", "nothing", &[]).is_none());
    }

    #[test]
    fn what_is_wrong_with_a_file() {
        let samples = measured();
        let list: Vec<&Sample> = samples.iter().collect();
        let found = fabric("A100-40", "made up", &list).unwrap();
        let text = found.file.to_toml(&[]).unwrap();
        for (from, to, says) in [
            ("tcp_share = ", "tpc_share = ", "`parameters.tpc_share` is no parameter"),
            (
                "tcp_share = ",
                "tcp_share = 7 # ",
                "`parameters.tcp_share` is 7: expected above 0, 0.2 to 0.98",
            ),
            ("gpu = ", "gup = ", "does not read"),
            ("card_rate = ", "card_rate = -1.0 # ", "rate of a network card is -1"),
        ] {
            assert!(text.contains(from), "{text}");
            let error = FabricFile::from_toml(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
