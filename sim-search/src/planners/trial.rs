//! Plans drawn one after another and simulated, for planners whose cost is a simulation.

use super::{GoOn, Limits, View};
use sim_models::fold::Folding;
use sim_models::iteration::{Simulator, memory_needs};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;

/// Draws for each simulation allowed: most make no plan that fits.
const DRAWS: u64 = 20;

/// The time of a plan, s; `None` where it is none or does not fit.
pub(super) type TimeOf<'a> = dyn FnMut(&Plan) -> Option<f64> + 'a;

/// Draws, until as many plans were simulated as `limits` allow or `go_on` ends it: `draw` makes a plan and asks its time, or
/// returns `None` where there is none. How many were simulated.
pub(super) fn trials(
    scenario: &Scenario,
    limits: &Limits,
    go_on: &mut GoOn<'_>,
    mut draw: impl FnMut(&View<'_>, &mut TimeOf<'_>) -> Option<()>,
) -> u64 {
    let view = View::new(scenario, limits.at);
    let fabric = Fabric::new(scenario);
    let mut simulator = Simulator::new(scenario, &fabric);
    let mut time_of = |plan: &Plan| {
        let layout = Layout::new(scenario, plan).ok()?;
        if memory_needs(scenario, plan, &layout).iter().any(|(need, has)| need > has) {
            return None;
        }
        let outcome = simulator.run(plan, &layout, &Folding::of(&layout), limits.at, None).ok()?;
        Some(outcome.end.as_secs_f64())
    };
    let mut simulated = 0;
    for _ in 0..limits.simulations.saturating_mul(DRAWS) {
        if simulated == limits.simulations || !go_on() {
            break;
        }
        simulated += u64::from(draw(&view, &mut time_of).is_some());
    }
    simulated
}
