//! `tideplan simulate`: one iteration of a plan.

use super::{load_jobs_too, print, print_json};
use crate::cli::Simulate;
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::report;
use crate::report::explain::Explained;
use crate::report::interrupted::Cut;
use crate::write;
use sim_core::SimTime;
use sim_models::explain::{explain, faster};
use sim_models::fold::Folding;
use sim_models::iteration::{Iteration, Options, SimulateError, Simulator, simulate_with};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use sim_search::replay::interrupted;

pub(super) fn run(args: &Simulate) -> Result<Answer, Failure> {
    if let Some(workload) = &args.workload {
        return super::workload::run(args, workload);
    }
    let (loaded, overrides) = load_jobs_too(&args.scenario, None, &args.over, args.plan.is_none())?;
    let scenario = &loaded.scenario;
    if !scenario.jobs.is_empty() {
        return super::jobs::run(args, scenario, overrides.at);
    }
    let plan = match &args.plan {
        Some(path) => scenarios::load_plan_for(path, scenario)?,
        None => scenario.plan.clone().ok_or_else(|| {
            Failure::new(
                format!("scenario `{}` names no plan", scenario.name),
                "give one with `--plan PLAN.toml`; `tideplan plan --out PLAN.toml` finds one",
            )
        })?,
    };
    let fabric = Fabric::new(scenario);
    let mut simulator = Simulator::new(scenario, &fabric);
    let layout = Layout::new(scenario, &plan).map_err(|faults| not_simulated(SimulateError::Plan(faults)))?;
    let options = Options { at: overrides.at, fold: !args.no_fold };
    let iteration = simulate_with(&mut simulator, &plan, &layout, &options).map_err(not_simulated)?;
    if let Some(path) = &args.timeline {
        let timeline = report::timeline::chrome(scenario, &[(None, &layout)], &simulator);
        write::whole(path, timeline.to_string().as_bytes())?;
        note!("wrote {}: open it in https://ui.perfetto.dev", path.display());
    }
    let cut = cut(&simulator, &plan, &layout, &iteration, &options);
    let mut explained = None;
    if args.explain || args.links.is_some() || args.html.is_some() {
        let explanation = explain(scenario, &fabric, &plan, &layout, &options).map_err(not_simulated)?;
        if let Some(path) = &args.links {
            report::links::csv(path, scenario, &explanation)?;
            note!("wrote {}", path.display());
        }
        if args.explain || args.html.is_some() {
            let faster = faster(scenario, &fabric, &plan, &layout, options.at, explanation.time);
            let faster = faster.map_err(not_simulated)?;
            let found = Explained { scenario, layout: &layout, explanation: &explanation, faster: &faster };
            if let Some(path) = &args.html {
                write::whole(path, report::explain_html::page(&found).as_bytes())?;
                note!("wrote {}", path.display());
            }
            explained = args.explain.then(|| (found.json(), found.text()));
        }
    }
    if args.over.json {
        let mut keys = report::json::Keys::of(scenario, &layout, &iteration);
        keys.interrupted = cut.map(|cut| cut.json());
        keys.explain = explained.map(|(json, _)| json);
        print_json(&keys)?;
    } else {
        let mut shown = text(scenario, &plan, &layout, &iteration);
        for more in [cut.map(|cut| cut.text()), explained.map(|(_, text)| text)].into_iter().flatten() {
            shown = format!("{shown}\n{more}");
        }
        print(&shown)?;
    }
    Ok(if iteration.fits() { Answer::Yes } else { Answer::No })
}

/// What becomes of the iteration that was just simulated where nodes of its plan leave.
fn cut<'a>(
    simulator: &Simulator<'a>,
    plan: &Plan,
    layout: &Layout,
    iteration: &Iteration,
    options: &Options,
) -> Option<Cut<'a>> {
    // What does not fit runs on no nodes whatever.
    if !iteration.fits() {
        return None;
    }
    let scenario = simulator.scenario();
    let start = options.at.as_ps() / 1_000;
    let found = interrupted(scenario, plan, start)?;
    let first = found.losses.first().filter(|_| found.away.is_empty());
    let computed = first.map(|(at, _)| {
        let folding = if options.fold { Folding::of(layout) } else { Folding::none(layout) };
        let into = SimTime::from_ns(at - start).unwrap_or(SimTime::MAX);
        simulator.computed_by(layout, &folding, into)
    });
    Some(Cut { scenario, start, found, computed })
}

pub(super) fn not_simulated(error: SimulateError) -> Failure {
    let help = match &error {
        SimulateError::Sim(sim_core::SimError::Stalled { .. }) => {
            "a link that the plan needs is down for ever: look at its trace and events"
        }
        _ => "",
    };
    Failure::new(error.to_string(), help)
}

fn text(scenario: &Scenario, plan: &Plan, layout: &Layout, iteration: &Iteration) -> String {
    let mut text = format!("{}: {}\n\n", scenario.name, scenario.about);
    text += &report::plan::stages(plan, layout, iteration);
    text.push('\n');
    text += &report::plan::time(scenario, layout, iteration);
    if let Some((device, lack)) = iteration.shortfall().filter(|(_, lack)| *lack > 0) {
        let lack = Bytes(u64::try_from(lack).unwrap_or(u64::MAX)).as_gib();
        text += &format!("does not fit: {} ({}) lacks {lack:.2} GiB\n", device.id, device.gpu);
    }
    text += &format!(
        "{} events, digest {}{}\n",
        report::table::thousands(iteration.events),
        iteration.digest,
        if iteration.folded { ", alike pipelines simulated once" } else { "" }
    );
    text
}
