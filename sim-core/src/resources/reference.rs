//! The textbook solver: progressive filling in floating point, slow and plain, as the oracle of the property tests.
//!
//! Bertsekas and Gallager, *Data Networks*, section 6.5.2: raise all rates together; where a resource is full, or a rate at
//! its cap, its transfers stay; go on with the others.

/// A transfer: its highest rate (infinite for none), and the resources it uses with their weights.
#[derive(Clone, Debug)]
pub struct ReferenceFlow {
    /// Highest rate, in the unit of the capacities; infinite for none.
    pub cap: f64,
    /// (index of the resource, weight above zero).
    pub uses: Vec<(usize, f64)>,
}

/// The weighted max-min fair rate of each flow, in the unit of `capacities`. A flow with neither cap nor resource gets
/// infinity.
///
/// # Panics
/// When a flow uses a resource that has no capacity in the table.
///
/// ```
/// use sim_core::resources::reference::{ReferenceFlow, max_min};
/// let on = |cap, r| ReferenceFlow { cap, uses: vec![(r, 1.0)] };
/// let free = f64::INFINITY;
/// assert_eq!(max_min(&[9.0], &[on(free, 0), on(free, 0), on(1.0, 0)]), [4.0, 4.0, 1.0]);
/// ```
pub fn max_min(capacities: &[f64], flows: &[ReferenceFlow]) -> Vec<f64> {
    let mut rates: Vec<Option<f64>> = vec![None; flows.len()];
    loop {
        let mut level = f64::INFINITY;
        for (resource, &capacity) in capacities.iter().enumerate() {
            let (taken, open) = load(resource, flows, &rates);
            if open > 0.0 {
                level = level.min((capacity - taken).max(0.0) / open);
            }
        }
        for (flow, rate) in flows.iter().zip(&rates) {
            if rate.is_none() {
                level = level.min(flow.cap);
            }
        }
        let full: Vec<bool> = capacities
            .iter()
            .enumerate()
            .map(|(resource, &capacity)| {
                let (taken, open) = load(resource, flows, &rates);
                open > 0.0 && (capacity - taken).max(0.0) / open <= level * (1.0 + 1e-12)
            })
            .collect();
        let mut closed = false;
        for (flow, rate) in flows.iter().zip(&mut rates) {
            let stops =
                flow.cap <= level || flow.uses.iter().any(|&(r, _)| full[r]) || level == f64::INFINITY;
            if rate.is_none() && stops {
                *rate = Some(level);
                closed = true;
            }
        }
        if !closed {
            return rates.into_iter().map(|r| r.unwrap_or(f64::INFINITY)).collect();
        }
    }
}

/// What closed flows take of a resource, and the weight of the open ones.
fn load(resource: usize, flows: &[ReferenceFlow], rates: &[Option<f64>]) -> (f64, f64) {
    let (mut taken, mut open) = (0.0, 0.0);
    for (flow, rate) in flows.iter().zip(rates) {
        for &(r, weight) in &flow.uses {
            if r == resource {
                match rate {
                    Some(rate) => taken += rate * weight,
                    None => open += weight,
                }
            }
        }
    }
    (taken, open)
}
