//! Laws of a simulated iteration on random clusters and plans.

use crate::random::{Sharing, Tape, case};
use crate::round::at;
use proptest::prelude::*;
use sim_models::fold::Folding;
use sim_models::iteration::{Iteration, Options, Simulator, simulate, simulate_with};
use sim_models::layout::Layout;
use sim_models::link::{LinkModel, StreamRate};
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;

fn tape() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 0..260)
}

fn run(scenario: &Scenario, plan: &Plan, start: u64, fold: bool) -> Iteration {
    simulate(scenario, plan, &Options { at: at(start), fold }).unwrap_or_else(|e| panic!("{e}: {plan:#?}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn folding_changes_no_time(tape in tape(), start in 0u64..1_000_000_000_000) {
        let (scenario, plan) = case(&mut Tape::new(&tape), Sharing::Yes);
        let (folded, whole) = (run(&scenario, &plan, start, true), run(&scenario, &plan, start, false));
        prop_assert_eq!(folded.time, whole.time);
        prop_assert!(!whole.folded && folded.events <= whole.events);
        // Every device of the folded run was told what it is told of by itself.
        let count: u32 = folded.devices.iter().map(|d| d.count).sum();
        prop_assert_eq!(count as usize, whole.devices.len());
        for device in &folded.devices {
            let same = whole.devices.iter().find(|d| d.id == device.id).expect("it is in the plan");
            prop_assert_eq!(device, &sim_models::iteration::DeviceReport { count: device.count, ..same.clone() });
        }
    }

    #[test]
    fn device_times_add_up_and_runs_repeat(tape in tape(), fold: bool) {
        let (scenario, plan) = case(&mut Tape::new(&tape), Sharing::Yes);
        let first = run(&scenario, &plan, 0, fold);
        for d in &first.devices {
            let sum = d.busy_s + d.exposed_comm_s + d.bubble_s;
            prop_assert!((sum - first.time.as_secs_f64()).abs() < 1e-9 * sum, "{d:?}");
            prop_assert!(d.busy_s > 0.0 && d.exposed_comm_s >= 0.0 && d.bubble_s >= 0.0, "{d:?}");
        }
        // Again, in a simulator that has run another plan before.
        let fabric = Fabric::new(&scenario);
        let mut simulator = Simulator::new(&scenario, &fabric);
        let layout = Layout::new(&scenario, &plan).expect("it ran");
        let options = |fold| Options { at: at(12_345_678), fold };
        simulate_with(&mut simulator, &plan, &layout, &options(!fold)).expect("it ran");
        let again = simulate_with(&mut simulator, &plan, &layout, &Options { fold, ..Options::default() });
        let again = again.expect("it ran");
        prop_assert_eq!((first.time, first.digest, first.events), (again.time, again.digest, again.events));
        prop_assert_eq!(first.devices, again.devices);
    }

    /// Where transfers share links a faster one may come in another's way; where they share none it cannot.
    #[test]
    fn more_bandwidth_is_never_slower(tape in tape(), which in any::<u16>(), factor in 1.0f64..4.0) {
        let (scenario, plan) = case(&mut Tape::new(&tape), Sharing::No);
        let mut faster = scenario.clone();
        let count = faster.groups.len();
        let (a, b) = (usize::from(which) % count, usize::from(which >> 8) % count);
        let StreamRate::Constant(rate) = faster.node_links[a][b].rate else { panic!("constant") };
        faster.node_links[a][b] = LinkModel::constant(rate * factor, faster.node_links[a][b].latency_s);
        prop_assert!(run(&faster, &plan, 0, true).time <= run(&scenario, &plan, 0, true).time);
    }

    /// A run that is cut off has not finished by then, and one that is not takes its time.
    #[test]
    fn a_cut_off_run_is_slower(tape in tape(), percent in 1u64..200) {
        let (scenario, plan) = case(&mut Tape::new(&tape), Sharing::Yes);
        let time = run(&scenario, &plan, 0, true).time.as_ps();
        let fabric = Fabric::new(&scenario);
        let layout = Layout::new(&scenario, &plan).expect("it ran");
        let cutoff = time / 100 * percent;
        let mut simulator = Simulator::new(&scenario, &fabric);
        let outcome = simulator.run(&plan, &layout, &Folding::of(&layout), at(0), Some(at(cutoff)));
        let outcome = outcome.expect("it ran");
        prop_assert_eq!(outcome.finished, cutoff >= time);
        prop_assert_eq!(outcome.end.as_ps(), time.min(cutoff));
    }
}

/// The laws above would be empty if the random plans did not fold, share nodes, mix kinds and cross zones.
#[test]
fn random_cases_reach_what_matters() {
    let mut counts = [0; 5];
    let mut state = 1u32;
    for _ in 0..400 {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u16
        };
        let tape: Vec<u16> = (0..260).map(|_| next()).collect();
        let (scenario, plan) = case(&mut Tape::new(&tape), Sharing::Yes);
        let layout = Layout::new(&scenario, &plan).unwrap_or_else(|f| panic!("{f:?}"));
        let folding = Folding::of(&layout);
        let zones = |p: &sim_models::layout::Pipeline| {
            let ranks = &layout.ranks[p.stages.clone()];
            ranks.iter().any(|r| {
                scenario.groups[r.node().group as usize].zone
                    != scenario.groups[ranks[0].node().group as usize].zone
            })
        };
        let reached = [
            folding.is_folded(),
            folding.classes.iter().any(|c| c.count > 1 && c.shares.iter().flatten().any(|s| *s > 1)),
            folding.classes.len() > plan.pipelines.len(),
            layout.pipelines.iter().any(zones) && !scenario.zone_links.is_empty(),
            layout
                .syncs
                .iter()
                .any(|s| s.ranks.windows(2).any(|w| layout.ranks[w[0]].tp != layout.ranks[w[1]].tp)),
        ];
        for (count, yes) in counts.iter_mut().zip(reached) {
            *count += u32::from(yes);
        }
    }
    assert!(
        counts.iter().all(|n| *n > 20),
        "folded, several on a node, split classes, zones, TP mixed: {counts:?}"
    );
}
