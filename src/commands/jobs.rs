//! `tideplan simulate` of a scenario with `[[jobs]]`: one iteration of each, side by side.

use super::simulate::not_simulated;
use super::{print, print_json};
use crate::cli::Simulate;
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::report::explain::Explained;
use crate::report::jobs::{Alone, Jobs};
use crate::{report, write};
use sim_core::{SimDuration, SimTime};
use sim_models::explain::{explain_jobs, faster_jobs};
use sim_models::iteration::{Options, Simulator};
use sim_models::jobs::{JobPlan, laid_out, simulate_jobs, simulate_jobs_with};
use sim_models::lower::Fabric;
use sim_models::scenario::Scenario;

pub(super) fn run(args: &Simulate, scenario: &Scenario, at: SimTime) -> Result<Answer, Failure> {
    if args.plan.is_some() || args.html.is_some() {
        let message = format!("scenario `{}` has several jobs, and {}", scenario.name, {
            if args.plan.is_some() { "`--plan` is of one" } else { "`--html` shows one" }
        });
        let help =
            if args.plan.is_some() { "each of the `[[jobs]]` names its `plan`" } else { "`--explain`" };
        return Err(Failure::new(message, help));
    }
    let plans = JobPlan::of(scenario).map_err(|job| {
        let message = format!("the job `{}` of scenario `{}` names no plan", job.name, scenario.name);
        Failure::new(message, "give it a `plan` (`tideplan schema plan` shows what one is); `tideplan plan` finds one for each job")
    })?;
    let fabric = Fabric::new(scenario);
    let mut simulator = Simulator::new(scenario, &fabric);
    let options = Options { at, fold: !args.no_fold };
    let together = simulate_jobs_with(&mut simulator, &plans, &options).map_err(not_simulated)?;
    let mut alone: Vec<Alone> = Vec::with_capacity(plans.len());
    for plan in &plans {
        let own = simulate_jobs(scenario, &[*plan], &options).map_err(not_simulated)?;
        alone.push(Alone(own.time));
    }
    if let Some(path) = &args.timeline {
        let names = scenario.jobs.iter().map(|j| Some(j.name.as_str()));
        let jobs: Vec<_> = names.zip(&together.layouts).collect();
        let timeline = report::timeline::chrome(scenario, &jobs, &simulator);
        write::whole(path, timeline.to_string().as_bytes())?;
        note!("wrote {}: open it in https://ui.perfetto.dev", path.display());
    }
    let jobs = Jobs { scenario, plans: &plans, together: &together, alone: &alone };
    let (mut answer, mut shown) = (jobs.json(), jobs.text());
    if args.explain || args.links.is_some() {
        let laid_out = laid_out(&plans, &together.layouts);
        let explanations = explain_jobs(scenario, &fabric, &laid_out, &options).map_err(not_simulated)?;
        if let (Some(path), Some(explanation)) = (&args.links, explanations.first()) {
            report::links::csv(path, scenario, explanation)?;
            note!("wrote {}", path.display());
        }
        if args.explain {
            let ends: Vec<SimDuration> = explanations.iter().map(|e| e.time).collect();
            let faster = faster_jobs(scenario, &fabric, &laid_out, at, &ends).map_err(not_simulated)?;
            let explained: Vec<Explained<'_>> = (0..plans.len())
                .map(|i| Explained {
                    scenario: plans[i].scenario,
                    layout: &together.layouts[i],
                    explanation: &explanations[i],
                    faster: &faster[i],
                })
                .collect();
            jobs.explain_json(&explained, &mut answer);
            shown += &jobs.explain_text(&explained);
        }
    }
    if args.over.json {
        print_json(&answer)?;
    } else {
        print(&shown)?;
    }
    Ok(if together.jobs.iter().all(|j| j.fits()) { Answer::Yes } else { Answer::No })
}
