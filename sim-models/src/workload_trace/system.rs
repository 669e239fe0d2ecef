//! By which rules a job is played: the convention's own, or those of an ASTRA-sim system file.

use serde::Deserialize;
use thiserror::Error;

use crate::collective::messages::splits::Costs;
use crate::collective::messages::{Algorithm, Convention, Op};
use crate::device::Gpu;
use crate::workload::Precision;

/// A GPU as a roofline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// FLOP/s.
    pub peak: f64,
    /// Bytes/s of its memory.
    pub memory: f64,
}

impl Machine {
    /// A GPU at its datasheet's figures.
    pub fn of(gpu: &Gpu, precision: Precision) -> Machine {
        Machine { peak: gpu.peak(precision), memory: gpu.memory_bandwidth }
    }
}

/// How collectives, messages and compute nodes are turned into time.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// What a link does with a message.
    pub convention: Convention,
    /// Into how many parts a collective's buffer is cut.
    pub splits: u32,
    /// How many of them are in flight at once on a rank.
    pub in_flight: u32,
    /// Algorithms of all-reduce, all-gather, reduce-scatter and all-to-all.
    pub algorithms: [Algorithm; 4],
    /// In place of the ranks' own GPUs.
    pub machine: Option<Machine>,
    /// Whether compute nodes with counted operations are priced by the roofline; else all take the time that was recorded.
    pub roofline: bool,
    /// Before each message, nanoseconds.
    endpoint_ns: u64,
    /// A reduction costs 3 ns for each full such number of bytes; 0 for nothing.
    reduce_block: u64,
}

/// Why a system file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SystemError {
    /// Not such a file.
    #[error("no ASTRA-sim system file: {0}")]
    Json(String),
    /// A key with a value that cannot be.
    #[error("`{key}`: {what}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong.
        what: String,
    },
}

/// ASTRA-sim's system file: the keys that are read. Others are about what is not simulated here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SystemFile {
    endpoint_delay: Option<u64>,
    active_chunks_per_dimension: Option<u32>,
    preferred_dataset_splits: Option<u32>,
    all_reduce_implementation: Option<Vec<String>>,
    all_gather_implementation: Option<Vec<String>>,
    reduce_scatter_implementation: Option<Vec<String>>,
    all_to_all_implementation: Option<Vec<String>>,
    local_mem_bw: Option<f64>,
    roofline_enabled: Option<u8>,
    replay_only: Option<u8>,
    peak_perf: Option<f64>,
}

impl Rules {
    /// The rules of a convention, with buffers cut into `splits`.
    pub fn new(convention: Convention, splits: u32) -> Rules {
        let astra = convention == Convention::AstraSim;
        let costs = if astra { Costs::ASTRA_SIM } else { Costs::NONE };
        Rules {
            convention,
            splits,
            in_flight: if astra { 1 } else { splits },
            algorithms: [
                Algorithm::Ring,
                Algorithm::Ring,
                Algorithm::Ring,
                if astra { Algorithm::Ring } else { Algorithm::Direct },
            ],
            machine: None,
            roofline: true,
            endpoint_ns: costs.endpoint_ns,
            reduce_block: if astra { costs.reduce_block } else { 0 },
        }
    }

    /// These rules with what an ASTRA-sim system file says. What it says of splits, delays and reductions is of its convention
    /// and counts there alone; `splits` of one's own, if given, go before it.
    ///
    /// # Errors
    /// When the text is not such a file, or says what is not simulated.
    pub fn with_system(mut self, text: &str, splits: Option<u32>) -> Result<Rules, SystemError> {
        let file: SystemFile = serde_json::from_str(text).map_err(|e| SystemError::Json(e.to_string()))?;
        let lists = [
            ("all-reduce-implementation", &file.all_reduce_implementation),
            ("all-gather-implementation", &file.all_gather_implementation),
            ("reduce-scatter-implementation", &file.reduce_scatter_implementation),
            ("all-to-all-implementation", &file.all_to_all_implementation),
        ];
        for (slot, (key, list)) in self.algorithms.iter_mut().zip(lists) {
            if let Some(list) = list {
                *slot = algorithm(key, list)?;
            }
        }
        let peak = file.peak_perf.map(|tflops| positive("peak-perf", tflops * 1e12)).transpose()?;
        let memory = file.local_mem_bw.map(|gb| positive("local-mem-bw", gb * 1e9)).transpose()?;
        self.machine = match (peak, memory) {
            (Some(peak), Some(memory)) => Some(Machine { peak, memory }),
            _ => None,
        };
        self.roofline = file.roofline_enabled.unwrap_or(0) != 0 && file.replay_only.unwrap_or(0) == 0;
        if self.convention == Convention::AstraSim {
            if splits.is_none() {
                self.splits = at_least_one("preferred-dataset-splits", file.preferred_dataset_splits)?;
            }
            self.in_flight = at_least_one("active-chunks-per-dimension", file.active_chunks_per_dimension)?;
            self.endpoint_ns = file.endpoint_delay.unwrap_or(self.endpoint_ns);
            if let Some(memory) = memory {
                // Whole bytes a nanosecond; the cast saturates.
                self.reduce_block = ((memory / 1e9) as u64).max(1);
            }
        }
        Ok(self)
    }

    /// The algorithm of an operation.
    pub fn algorithm(&self, op: Op) -> Algorithm {
        self.algorithms[match op {
            Op::AllReduce => 0,
            Op::AllGather => 1,
            Op::ReduceScatter => 2,
            Op::AllToAll => 3,
        }]
    }

    /// What the convention adds to each step.
    pub(super) fn costs(&self) -> Costs {
        match self.convention {
            Convention::Tideplan => Costs::NONE,
            Convention::AstraSim => Costs {
                endpoint_ns: self.endpoint_ns,
                split_ns: Costs::ASTRA_SIM.split_ns,
                reduce_ns: Costs::ASTRA_SIM.reduce_ns,
                reduce_block: self.reduce_block.max(1),
            },
        }
    }
}

fn algorithm(key: &'static str, list: &[String]) -> Result<Algorithm, SystemError> {
    let fault = |what: String| SystemError::Value { key, what };
    match list {
        [one] => match one.as_str() {
            "ring" | "oneRing" => Ok(Algorithm::Ring),
            "direct" | "oneDirect" => Ok(Algorithm::Direct),
            "halvingDoubling" | "oneHalvingDoubling" => Ok(Algorithm::HalvingDoubling),
            "doubleBinaryTree" => Ok(Algorithm::DoubleBinaryTree),
            other => Err(fault(format!(
                "`{other}` is not simulated: ring, direct, halvingDoubling or doubleBinaryTree"
            ))),
        },
        _ => Err(fault(format!("{} dimensions: one is simulated", list.len()))),
    }
}

fn positive(key: &'static str, value: f64) -> Result<f64, SystemError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(SystemError::Value { key, what: format!("{value} is no rate above 0") })
    }
}

fn at_least_one(key: &'static str, value: Option<u32>) -> Result<u32, SystemError> {
    match value {
        Some(0) => Err(SystemError::Value { key, what: "0: at least 1".into() }),
        value => Ok(value.unwrap_or(1)),
    }
}
