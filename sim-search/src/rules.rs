//! Why a node of the tree was thrown out before it was simulated. Each rule has a name, by which counts are kept, and a
//! reason a person can read.

use serde::{Deserialize, Serialize};

/// A rule that throws nodes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The micro-batch does not divide the global batch.
    BatchNotDivisible,
    /// A stage has no measured times at its micro-batch and split.
    NotMeasured,
    /// More stages than layers.
    TooManyStages,
    /// No partition of the layers fits into the devices' memory.
    Memory,
    /// Fewer micro-batches than pipelines, or a pipeline so slow that it would get none.
    TooFewMicroBatches,
    /// The devices do not suffice once tensor-parallel groups are kept whole in their nodes.
    Devices,
    /// Its bound is above the deadline.
    Deadline,
    /// Its bound costs more than the budget.
    Budget,
    /// The iteration has more tasks or takes more time than can be simulated.
    TooLarge,
}

impl Rule {
    /// Every rule, in the order in which they are tried.
    pub const ALL: [Rule; 9] = [
        Rule::BatchNotDivisible,
        Rule::NotMeasured,
        Rule::TooManyStages,
        Rule::Memory,
        Rule::TooFewMicroBatches,
        Rule::Devices,
        Rule::Deadline,
        Rule::Budget,
        Rule::TooLarge,
    ];

    /// Its name in counts.
    pub fn name(self) -> &'static str {
        match self {
            Rule::BatchNotDivisible => "batch_not_divisible",
            Rule::NotMeasured => "not_measured",
            Rule::TooManyStages => "too_many_stages",
            Rule::Memory => "memory",
            Rule::TooFewMicroBatches => "too_few_micro_batches",
            Rule::Devices => "devices",
            Rule::Deadline => "deadline",
            Rule::Budget => "budget",
            Rule::TooLarge => "too_large",
        }
    }

    /// Its reason.
    pub fn reason(self) -> &'static str {
        match self {
            Rule::BatchNotDivisible => "the micro-batch does not divide the global batch",
            Rule::NotMeasured => "no layer times for that GPU, micro-batch and tensor parallelism",
            Rule::TooManyStages => "more stages than layers",
            Rule::Memory => "no partition of the layers fits into memory",
            Rule::TooFewMicroBatches => "a pipeline would get no micro-batch",
            Rule::Deadline => "no plan of it ends within the deadline",
            Rule::Budget => "no plan of it stays within the budget",
            Rule::TooLarge => "the iteration is too large to simulate",
            Rule::Devices => "too few devices once tensor-parallel groups are kept inside nodes",
        }
    }
}
