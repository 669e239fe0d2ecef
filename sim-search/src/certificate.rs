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
