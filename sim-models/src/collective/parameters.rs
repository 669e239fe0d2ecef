//! The parameters of the collective model (`parameters.toml`): values, and what was believed before they were fitted.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

/// Which parameter; what each means stands in `parameters.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Start of a collective, us.
    StartUs,
    /// What a program adds that issues and times one at a time, us.
    HostUs,
    /// Hop over NVLink, relative to NCCL's constants.
    NvlinkHop,
    /// Hop over PCIe, likewise.
    PcieHop,
    /// Hop between nodes, likewise.
    NetHop,
    /// Usable share of NVLink.
    NvlinkShare,
    /// Usable share of PCIe.
    PcieShare,
    /// Usable share of a network card with RDMA.
    RdmaShare,
    /// Usable share of a network card with TCP.
    TcpShare,
    /// Channels that copy through the GPU.
    CopyChannels,
    /// Usable share of NVLink under reduction in the switch.
    NvlsShare,
    /// Pipeline filling inside a node.
    NodeFill,
    /// Pipeline filling across nodes.
    NetFill,
    /// Pipeline filling of a ring across nodes.
    RingFill,
    /// Collisions, a doubling of the nodes.
    Contention,
    /// Usable share of NVLink between two GPUs.
    PairShare,
}

impl Name {
    /// All of them.
    pub const ALL: [Name; 16] = [
        Name::StartUs,
        Name::HostUs,
        Name::NvlinkHop,
        Name::PcieHop,
        Name::NetHop,
        Name::NvlinkShare,
        Name::PcieShare,
        Name::RdmaShare,
        Name::TcpShare,
        Name::CopyChannels,
        Name::NvlsShare,
        Name::NodeFill,
        Name::NetFill,
        Name::RingFill,
        Name::Contention,
        Name::PairShare,
    ];

    fn index(self) -> usize {
        self as usize
    }

    /// The key in the file.
    pub fn key(self) -> &'static str {
        match self {
            Name::StartUs => "start_us",
            Name::HostUs => "host_us",
            Name::NvlinkHop => "nvlink_hop",
            Name::PcieHop => "pcie_hop",
            Name::NetHop => "net_hop",
            Name::NvlinkShare => "nvlink_share",
            Name::PcieShare => "pcie_share",
            Name::RdmaShare => "rdma_share",
            Name::TcpShare => "tcp_share",
            Name::CopyChannels => "copy_channels",
            Name::NvlsShare => "nvls_share",
            Name::NodeFill => "node_fill",
            Name::NetFill => "net_fill",
            Name::RingFill => "ring_fill",
            Name::Contention => "contention",
            Name::PairShare => "pair_share",
        }
    }
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it is.
    pub about: String,
    /// Its unit.
    pub unit: String,
    /// Believed before any fit.
    pub prior: f64,
    /// Standard deviation of the logarithm of that belief, above 0.
    pub spread: f64,
    /// The least possible.
    pub min: f64,
    /// The most possible.
    pub max: f64,
    /// The fit.
    pub value: f64,
    /// Where the prior comes from.
    pub source: String,
}

/// The values alone: what a model computes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    values: [f64; Name::ALL.len()],
    /// Whether they were fitted, and on which sizes (bytes).
    pub fitted: Option<(f64, f64)>,
}

impl Values {
    /// The value of one.
    pub fn get(&self, name: Name) -> f64 {
        self.values[name.index()]
    }

    /// The same with some of them so many times as large.
    #[must_use]
    pub fn scaled(mut self, names: &[Name], factor: f64) -> Values {
        for name in names {
            self.values[name.index()] *= factor;
        }
        self
    }
}

/// Stands at the head of a file of parameters.
const HEAD: &str = "\
# What is fitted of the collective model: few, physical, the same for every GPU, fabric and source of measurements.
# `value` is the fit, `prior` and `spread` (standard deviation of its logarithm) what is believed before any fit, `min`
# and `max` what is possible. `cargo run --release -p validation --example fit_collectives -- FILE` prints this file anew.

# The sources of measurements behind the values, and their sizes, bytes.
";

/// All of them, with what they were fitted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    list: Vec<Parameter>,
    /// The sources of measurements behind the values.
    pub sources: Vec<String>,
    /// The sizes of those measurements, bytes.
    pub sizes: (f64, f64),
}

#[derive(Deserialize)]
struct File {
    sources: Vec<String>,
    smallest: f64,
    largest: f64,
    #[serde(flatten)]
    list: BTreeMap<String, Parameter>,
}

/// Why a file of parameters is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// Not TOML, or a key of the wrong type; the message has the line.
    #[error("the parameters do not read: {0}")]
    Parse(String),
    /// A parameter is absent.
    #[error("`{0}` is missing: expected a table of that name")]
    Missing(&'static str),
    /// A table that is no parameter.
    #[error("`{0}` is no parameter: expected one of those in the shipped file")]
    Unknown(String),
    /// A figure out of its range.
    #[error("`{name}` has {field} = {value}: expected {expected}")]
    Figure {
        /// Which parameter.
        name: &'static str,
        /// Which of its figures.
        field: &'static str,
        /// What stands there.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
}

impl Parameters {
    /// The shipped parameters.
    pub fn builtin() -> &'static Parameters {
        static BUILTIN: OnceLock<Parameters> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            Parameters::from_toml(include_str!("parameters.toml"))
                .expect("a unit test reads the shipped parameters")
        })
    }

    /// Reads a file in the form of the shipped `parameters.toml`.
    ///
    /// # Errors
    /// See [`ParameterError`].
    pub fn from_toml(text: &str) -> Result<Parameters, ParameterError> {
        let mut file: File = toml::from_str(text).map_err(|e| ParameterError::Parse(e.to_string()))?;
        let mut list = Vec::with_capacity(Name::ALL.len());
        for name in Name::ALL {
            let parameter = file.list.remove(name.key()).ok_or(ParameterError::Missing(name.key()))?;
            check(name.key(), &parameter)?;
            list.push(parameter);
        }
        if let Some((unknown, _)) = file.list.into_iter().next() {
            return Err(ParameterError::Unknown(unknown));
        }
        Ok(Parameters { list, sources: file.sources, sizes: (file.smallest, file.largest) })
    }

    /// As a file: the values rounded to four digits, so that the same fit gives the same file on any machine.
    pub fn to_toml(&self) -> String {
        let mut text = HEAD.to_string();
        let quoted: Vec<String> =
            self.sources.iter().map(|s| format!("  {}", toml::Value::from(s.as_str()))).collect();
        let sources = if quoted.is_empty() { String::new() } else { format!("\n{},\n", quoted.join(",\n")) };
        let (smallest, largest) = self.sizes;
        let _ = write!(text, "sources = [{sources}]\nsmallest = {smallest:?}\nlargest = {largest:?}\n");
        for name in Name::ALL {
            let p = self.get(name);
            let string = |s: &str| toml::Value::from(s).to_string();
            let _ = write!(
                text,
                "\n[{}]\nabout = {}\nunit = {}\nprior = {:?}\nspread = {:?}\nmin = {:?}\nmax = {:?}\nvalue = {:?}\nsource = {}\n",
                name.key(),
                string(&p.about),
                string(&p.unit),
                p.prior,
                p.spread,
                p.min,
                p.max,
                rounded(p.value),
                string(&p.source)
            );
        }
        text
    }

    /// A parameter with its prior.
    pub fn get(&self, name: Name) -> &Parameter {
        &self.list[name.index()]
    }

    /// All values.
    pub fn values(&self) -> Values {
        let fitted = (!self.sources.is_empty()).then_some(self.sizes);
        Values { values: Name::ALL.map(|name| self.get(name).value), fitted }
    }

    /// These values, each brought into its possible range, as those of an unfitted model.
    pub fn bounded(&self, values: &[f64]) -> Values {
        let mut bounded = Values { values: Name::ALL.map(|name| self.get(name).prior), fitted: None };
        for (name, value) in Name::ALL.into_iter().zip(values) {
            let p = self.get(name);
            bounded.values[name.index()] = value.clamp(p.min, p.max);
        }
        bounded
    }

    /// The same with other values, each brought into its possible range.
    #[must_use]
    pub fn with(&self, values: &Values) -> Parameters {
        let mut changed = self.clone();
        for (p, value) in changed.list.iter_mut().zip(values.values) {
            p.value = value.clamp(p.min, p.max);
        }
        changed
    }

    /// These values as the belief before a fit to one fabric, whose own may differ from them by `spread` at least (standard
    /// deviation of the logarithm).
    #[must_use]
    pub fn around(&self, spread: f64) -> Parameters {
        let wider = |p: &Parameter| Parameter { prior: p.value, spread: p.spread.max(spread), ..p.clone() };
        Parameters { list: self.list.iter().map(wider).collect(), sources: Vec::new(), sizes: self.sizes }
    }

    /// What was believed before any fit: no source has been seen.
    #[must_use]
    pub fn priors(&self) -> Parameters {
        let list = self.list.iter().map(|p| Parameter { value: p.prior, ..p.clone() }).collect();
        Parameters { list, sources: Vec::new(), sizes: self.sizes }
    }
}

fn check(name: &'static str, p: &Parameter) -> Result<(), ParameterError> {
    let fault = |field, value, expected| Err(ParameterError::Figure { name, field, value, expected });
    if !(p.min >= 0.0 && p.min < p.max && p.max <= 1e6) {
        return fault("min", p.min, "0 or more, below `max`, which is at most 1e6");
    }
    for (field, value) in [("prior", p.prior), ("value", p.value)] {
        if !(value > 0.0 && (p.min..=p.max).contains(&value)) {
            return fault(field, value, "above 0, between `min` and `max`");
        }
    }
    if !(p.spread > 0.0 && p.spread <= 10.0) {
        return fault("spread", p.spread, "above 0, at most 10");
    }
    Ok(())
}

/// To four significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}
