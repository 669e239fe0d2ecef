//! What a search says of itself that can be checked: see [`verify`](mod@crate::verify).

use crate::search::{Fate, Found, Ranked};
use serde::{Deserialize, Serialize};

/// What a search claims, and what became of the nodes of its tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The best plan; none is claimed to be feasible when missing.
    pub best: Option<Ranked>,
    /// No plan of the space is faster, ps.
    pub lower_bound_ps: u64,
    /// Nodes by their keys.
    pub nodes: Vec<(Vec<u32>, Fate)>,
}

impl Certificate {
    /// Of a search that kept its log.
    pub fn of(found: &Found) -> Certificate {
        Certificate {
            best: found.ranked.first().cloned(),
            lower_bound_ps: found.lower_bound_ps,
            nodes: found.log.clone(),
        }
    }
}

/// Why a certificate does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The best plan is not what it is said to be.
    #[error("the best plan: {0}")]
    Best(String),
    /// The lower bound is above the best time.
    #[error("the lower bound of {lower} ps is above the best time of {best} ps")]
    Order {
        /// The bound.
        lower: u64,
        /// The time.
        best: u64,
    },
    /// A node claims less than the answer.
    #[error("node {key:?} claims a bound of {bound} ps, below the answer of {lower} ps")]
    Undercuts {
        /// The node.
        key: Vec<u32>,
        /// What it claims.
        bound: u64,
        /// The answer.
        lower: u64,
    },
    /// A plan below the answer is not among the nodes.
    #[error("no node covers plan {0:?}, which no bound excludes")]
    NotCovered(Vec<u32>),
    /// A plan is faster than it may be.
    #[error("plan {key:?} takes {time} ps, less than the lower bound of {lower} ps")]
    Faster {
        /// The plan.
        key: Vec<u32>,
        /// Its time.
        time: u64,
        /// The bound.
        lower: u64,
    },
}
