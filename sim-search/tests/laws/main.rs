//! What the search promises: no plan of the space beats the lower bound, the counts add up, and the answer does not depend
//! on threads. What it rests on is held in `src/laws`.

mod exchange;
mod peers;
mod planners;
mod promises;
mod replay;
#[path = "../../src/laws/small.rs"]
#[allow(dead_code, reason = "shared with the tests inside the crate")]
mod small;

use small::{Small, any_small, any_tiny};
