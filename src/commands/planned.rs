//! `tideplan plan --planner P` for the planners that are not ours: their plan, in the form of our own.

use super::compare::{alone, beside};
use super::plan::{of_ours_alone, options, refuse};
use super::{print, print_json};
use crate::cli;
use crate::failure::{Answer, Failure};
use crate::report;
use crate::write;
use scenarios::{Loaded, Overrides};
use serde_json::json;
use sim_search::planners::Limits;

pub(super) fn run(args: &cli::Plan, loaded: &Loaded, overrides: &Overrides) -> Result<Answer, Failure> {
    let scenario = &loaded.scenario;
    refuse(args, &options(), &of_ours_alone(args))?;
    let planner = super::planner(&args.planner, args.external.as_deref())?;
    let default = Limits::default();
    let limits = Limits {
        at: overrides.at,
        threads: args.threads.map_or(0, usize::from),
        simulations: args.max_simulations.unwrap_or(default.simulations),
        ..default
    };
    let (verdict, proposal, search_time_s) = alone(scenario, planner.as_ref(), &limits, args.max_seconds)?;
    let about = planner.about();
    if let Some(path) = &args.out {
        let text = toml::to_string(&verdict.plan)
            .map_err(|e| Failure::new(format!("cannot write the plan: {e}"), ""))?;
        write::whole(path, text.as_bytes())?;
    }
    if args.over.json {
        let mut best = report::json::iteration(scenario, &verdict.layout, &verdict.iteration);
        best["plan"] = json!(verdict.plan);
        best["objective_value"] = best["iteration_time_s"].clone();
        best["own_estimate_s"] = json!(verdict.own_estimate_s);
        let fits = verdict.fits;
        let ranked: Vec<_> = proposal
            .plans
            .iter()
            .take(usize::from(args.top))
            .map(|e| json!({ "plan": e.plan, "own_estimate_s": e.own_estimate_s }))
            .collect();
        let simulated = 1;
        print_json(&json!({
            "planner": about.name,
            "best": if fits { best } else { serde_json::Value::Null },
            "ranked": ranked,
            "counts": {
                "considered": proposal.candidates.max(simulated),
                "pruned": { "ranked_lower": proposal.candidates.max(simulated) - simulated },
                "bounded": 0, "simulated": simulated, "expanded": 0, "open": 0,
            },
            "plans_represented": proposal.candidates.to_string(),
            "lower_bound_s": null,
            "gap": null,
            "proven_optimal": false,
            "stopped": "done",
            "rounds": 0,
            "search_time_s": search_time_s,
            "digest": verdict.iteration.digest.to_string(),
        }))?;
    } else {
        let mut text = format!("{}: {}\n{}: {}\n\n", scenario.name, scenario.about, about.name, about.about);
        text += &report::plan::stages(&verdict.plan, &verdict.layout, &verdict.iteration);
        text.push('\n');
        text += &report::plan::time(scenario, &verdict.layout, &verdict.iteration);
        if let Some(own) = verdict.own_estimate_s {
            text += &format!("its own estimate: {}\n", beside(own, verdict.time_s));
        }
        if verdict.passed_over > 0 {
            text += &format!("{} plans that it likes better do not fit\n", verdict.passed_over);
        }
        if !verdict.fits {
            text += "does not fit into memory, nor does any other that it proposes\n";
        }
        text += &format!("{} plans estimated, {search_time_s:.2} s\n", proposal.candidates);
        print(&text)?;
    }
    Ok(if verdict.fits { Answer::Yes } else { Answer::No })
}
