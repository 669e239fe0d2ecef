//! One plan of the tree simulated, with the memory that its thread keeps between plans.

use super::{Candidate, Objective, Options};
use crate::cost::placed::Placed;
use crate::rules::Rule;
use crate::tree::{Key, Tree};
use sim_core::{SimError, SimTime};
use sim_models::cost;
use sim_models::fold::Folding;
use sim_models::iteration::{SimulateError, Simulator, memory_needs};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use std::sync::{Mutex, PoisonError};

/// Instants of the history at which a robust plan is simulated.
const INSTANTS: u64 = 8;

/// What one thread keeps between plans: memory, and the last shares that it placed.
pub(crate) struct Worker<'t> {
    options: &'t Options,
    simulator: Simulator<'t>,
    last: Option<(Key, Result<Placed<'t>, Rule>)>,
}

/// How a plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Pruned(Rule),
    /// Ended with that value, or cut off.
    Simulated(Option<u64>),
}

/// One plan of a round.
pub(crate) struct Outcome {
    pub(crate) ended: Ended,
    pub(crate) plan: Option<Candidate>,
}

/// Simulates plans of one tree, with the memory of its worker.
pub(crate) fn workers<'t>(
    tree: &'t Tree<'t>,
    fabric: &'t Fabric,
    options: &'t Options,
) -> Vec<Mutex<Worker<'t>>> {
    let new =
        |_| Mutex::new(Worker { options, simulator: Simulator::new(tree.scenario, fabric), last: None });
    (0..rayon::current_num_threads().max(1)).map(new).collect()
}

/// The worker of this thread.
pub(crate) fn with_worker<'t, R>(workers: &[Mutex<Worker<'t>>], f: impl FnOnce(&mut Worker<'t>) -> R) -> R {
    let at = rayon::current_thread_index().unwrap_or(0) % workers.len();
    f(&mut workers[at].lock().unwrap_or_else(PoisonError::into_inner))
}

impl<'t> Worker<'t> {
    /// The placed of a node with shares; `key` may go on with borders.
    pub(crate) fn placed(&mut self, tree: &'t Tree<'t>, key: &[u32]) -> &Result<Placed<'t>, Rule> {
        let root = tree.root(key).expect("a node is below a root");
        let parts = tree.parts(root, key);
        let (counted, head) = (tree.head() + parts.len(), tree.head() + 2 * parts.len());
        if self.last.as_ref().is_none_or(|(of, _)| of[..] != key[..head]) {
            let placed = tree.place(root, &parts, &tree.counts(&parts, key), &key[counted..head]);
            self.last = Some((key[..head].to_vec(), placed));
        }
        match &self.last {
            Some((_, placed)) => placed,
            None => unreachable!("it was just set"),
        }
    }

    /// Simulates the plan of a key, as long as its value may be at most `worst`.
    pub(crate) fn simulate(&mut self, tree: &'t Tree<'t>, key: &[u32], worst: Option<u64>) -> Outcome {
        let pruned = |rule| Outcome { ended: Ended::Pruned(rule), plan: None };
        let head = match self.placed(tree, key) {
            Ok(placed) => tree.head() + 2 * placed.parts.len(),
            Err(rule) => return pruned(*rule),
        };
        let plan = match &self.last {
            Some((_, Ok(placed))) => placed.plan(&key[head..]),
            _ => return pruned(Rule::Devices),
        };
        let Ok(layout) = Layout::new(tree.scenario, &plan) else { return pruned(Rule::Devices) };
        let mut spare = u64::MAX;
        for (needs, has) in memory_needs(tree.scenario, &plan, &layout) {
            match has.0.checked_sub(needs.0) {
                Some(left) => spare = spare.min(left),
                None => return pruned(Rule::Memory),
            }
        }
        let folding = Folding::of(&layout);
        let options = self.options;
        let price = tree.scenario.cost.nodes(&layout);
        let Ok(traffic) = self.simulator.traffic(&plan, &layout, &folding) else {
            return pruned(Rule::TooLarge);
        };
        let cut = Outcome { ended: Ended::Simulated(None), plan: None };
        // The longest that matters: of the one iteration, or of several together.
        let mut longest = worst.map(|worst| match options.objective {
            Objective::Cost => cost::time_for(price, worst.saturating_sub(traffic)),
            _ => worst,
        });
        let budget = options.budget.map(|b| cost::time_for(price, b.saturating_sub(traffic)));
        if options.budget.is_some_and(|b| b < traffic) {
            return cut;
        }
        for limit in [options.deadline_ps, budget].into_iter().flatten() {
            longest = Some(longest.map_or(limit, |l| l.min(limit)));
        }
        let mut run = |at, longest: Option<u64>| {
            let cutoff = longest.map(SimTime::from_ps);
            match self.simulator.run(&plan, &layout, &folding, at, cutoff) {
                // A run that ends at the cut-off ended.
                Ok(outcome) => Ok(outcome.finished.then_some(outcome.end.as_ps())),
                // Stalled for ever on a link that is down: not faster than the best.
                Err(SimulateError::Sim(SimError::Stalled { .. })) => Ok(None),
                Err(_) => Err(Rule::TooLarge),
            }
        };
        let (time_ps, value) = if options.objective == Objective::Robust {
            let part = tree.scenario.replay.options.start / INSTANTS;
            let (mut sum, mut first) = (0u64, 0);
            for i in 0..INSTANTS {
                // The history is in ns.
                let at = SimTime::from_ps((part * i).saturating_mul(1000));
                let left = longest.map(|l| l.saturating_add(1).saturating_mul(INSTANTS).saturating_sub(sum));
                match run(at, left) {
                    Ok(Some(time)) => sum = sum.saturating_add(time),
                    Ok(None) => return cut,
                    Err(rule) => return pruned(rule),
                }
                first = if i == 0 { sum } else { first };
            }
            (first, sum / INSTANTS)
        } else {
            match run(options.at, longest) {
                Ok(Some(time)) => {
                    let value = options.objective.value(price, time);
                    (
                        time,
                        if options.objective == Objective::Cost {
                            value.saturating_add(traffic)
                        } else {
                            value
                        },
                    )
                }
                Ok(None) => return cut,
                Err(rule) => return pruned(rule),
            }
        };
        let cost = cost::for_time(price, time_ps).saturating_add(traffic);
        let plan = Candidate { time_ps, cost, spare_bytes: spare, key: key.to_vec(), plan };
        Outcome { ended: Ended::Simulated(Some(value)), plan: Some(plan) }
    }
}
