//! Simulating one plan after another, for planners whose cost is a simulation.

use super::View;
use sim_core::SimTime;
use sim_models::fold::Folding;
use sim_models::iteration::{Simulator, memory_needs};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;

/// Passes and transfers beyond which a plan is passed by.
pub(crate) struct Trials<'a> {
    view: &'a View<'a>,
    simulator: Simulator<'a>,
    at: SimTime,
}

impl<'a> Trials<'a> {
    pub(crate) fn new(view: &'a View<'a>, fabric: &'a Fabric, at: SimTime) -> Self {
        Trials { view, simulator: Simulator::new(view.scenario, fabric), at }
    }

    /// The simulated time, s; `None` where it is no plan, does not fit, or does not end before `cutoff` s.
    pub(crate) fn time_s(&mut self, plan: &Plan, cutoff: Option<f64>) -> Option<f64> {
        let layout = Layout::new(self.view.scenario, plan).ok()?;
        if memory_needs(self.view.scenario, plan, &layout).iter().any(|(need, has)| need > has) {
            return None;
        }
        let folding = Folding::of(&layout);
        let cutoff = cutoff.and_then(|s| SimTime::from_secs_f64(s).ok());
        let outcome = self.simulator.run(plan, &layout, &folding, self.at, cutoff).ok()?;
        Some(outcome.end.as_ps() as f64 / 1e12)
    }
}
