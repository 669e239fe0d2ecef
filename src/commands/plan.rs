//! `tideplan plan`: search for the fastest plan.

use super::searching::{CertificateFile, Origin, PartFile, Watcher, read_json, write_json};
use super::{load, print, print_json};
use crate::cli;
use crate::failure::{Answer, Failure};
use crate::report;
use crate::report::table::{Table, seconds, thousands};
use crate::write;
use serde_json::{Value, json};
use sim_models::iteration::{Iteration, Options, Simulator, simulate_with};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use sim_search::verify::Certificate;
use sim_search::{Found, Rule, Saved, Stopped, search_from};
use std::fmt::Write;

pub(super) fn run(args: &cli::Plan) -> Result<Answer, Failure> {
    let (loaded, overrides) = load(&args.scenario, &args.over, false)?;
    let method = match args.planner.as_str() {
        "tideplan" => sim_search::Method::BranchAndBound,
        "exhaustive" => sim_search::Method::Exhaustive,
        _ => return super::planned::run(args, &loaded, &overrides),
    };
    let scenario = &loaded.scenario;
    if method == sim_search::Method::Exhaustive {
        let given = [
            ("--checkpoint", args.checkpoint.is_some()),
            ("--shard", args.shard.is_some()),
            ("--certificate", args.certificate.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            let message = format!("`{name}` goes with the planner `tideplan` alone");
            return Err(Failure::new(message, "without `--planner exhaustive`"));
        }
    }
    let options = sim_search::Options {
        threads: args.threads.map_or(0, usize::from),
        max_simulations: args.max_simulations.unwrap_or(scenario.search.max_simulations),
        top: usize::from(args.top),
        at: overrides.at,
        method,
        shard: args.shard,
        log: args.certificate.is_some(),
    };
    let state = match &args.checkpoint {
        Some(path) if path.exists() => {
            Some(read_json::<Saved>(path, "a file that `plan --checkpoint` wrote, or none")?)
        }
        _ => None,
    };
    let mut watcher = Watcher::new(args.max_seconds, args.checkpoint.as_deref());
    let found = search_from(scenario, &options, state, &mut watcher).map_err(|e| {
        let path = args.checkpoint.as_deref().map_or(String::new(), |p| p.display().to_string());
        Failure::new(
            format!("cannot go on from `{path}`: {e}"),
            "the same scenario and options, or another file",
        )
    })?;
    let search_time_s = watcher.finish();
    if let Some(failed) = watcher.failed {
        return Err(failed);
    }
    let origin = || Origin::new(&args.scenario, &args.over);
    if let Some(path) = &args.certificate {
        let certificate = Certificate::of(&found);
        write_json(path, &CertificateFile { tideplan_certificate: 1, origin: origin(), certificate })?;
    }
    if let (Some(path), Some(shard)) = (&args.part, args.shard) {
        let (top, found) = (options.top, found.clone());
        let part = PartFile { tideplan_part: 1, origin: origin(), shard, top, search_time_s, found };
        write_json(path, &part)?;
    }
    answer(scenario, &found, overrides.at, args.out.as_deref(), args.over.json, search_time_s)
}

/// Says what a search found, and writes its best plan.
pub(super) fn answer(
    scenario: &Scenario,
    found: &Found,
    at: sim_core::SimTime,
    out: Option<&std::path::Path>,
    as_json: bool,
    search_time_s: f64,
) -> Result<Answer, Failure> {
    // The best plan once more, in full, for its report.
    let best = match found.ranked.first() {
        None => None,
        Some(ranked) => {
            let (layout, iteration) = in_full(scenario, &ranked.plan, at)?;
            Some((ranked.plan.clone(), layout, iteration))
        }
    };
    if let (Some(path), Some((plan, ..))) = (out, &best) {
        let text =
            toml::to_string(plan).map_err(|e| Failure::new(format!("cannot write the plan: {e}"), ""))?;
        write::whole(path, text.as_bytes())?;
    }
    if as_json {
        print_json(&json(scenario, found, best.as_ref(), search_time_s))?;
    } else {
        print(&text(scenario, found, best.as_ref(), search_time_s))?;
    }
    Ok(if best.is_some() { Answer::Yes } else { Answer::No })
}

type Best = (Plan, Layout, Iteration);

fn in_full(scenario: &Scenario, plan: &Plan, at: sim_core::SimTime) -> Result<(Layout, Iteration), Failure> {
    let fabric = Fabric::new(scenario);
    let mut simulator = Simulator::new(scenario, &fabric);
    let failed =
        |e: &dyn std::fmt::Display| Failure::new(format!("the plan found does not simulate: {e}"), "");
    let layout = Layout::new(scenario, plan).map_err(|f| failed(&f.first().map_or("", |f| &f.message)))?;
    let iteration =
        simulate_with(&mut simulator, plan, &layout, &Options { at, fold: true }).map_err(|e| failed(&e))?;
    Ok((layout, iteration))
}

fn json(scenario: &Scenario, found: &Found, best: Option<&Best>, search_time_s: f64) -> Value {
    let best_json = best.map(|(plan, layout, iteration)| {
        let mut value = report::json::iteration(scenario, layout, iteration);
        value["plan"] = json!(plan);
        value["objective_value"] = value["iteration_time_s"].clone();
        value
    });
    let ranked: Vec<Value> = found
        .ranked
        .iter()
        .map(|r| {
            let time = r.time_ps as f64 / 1e12;
            json!({ "plan": r.plan, "iteration_time_s": time, "objective_value": time })
        })
        .collect();
    let c = &found.counts;
    let pruned: serde_json::Map<String, Value> =
        Rule::ALL.iter().map(|r| (r.name().into(), json!(c.pruned.get(r).copied().unwrap_or(0)))).collect();
    let gap = found.gap();
    let miss = found.nearest_miss.as_ref().filter(|_| best.is_none());
    json!({
        "best": best_json,
        "ranked": ranked,
        "counts": {
            "considered": c.considered, "pruned": pruned, "bounded": c.bounded, "simulated": c.simulated,
            "expanded": c.expanded, "open": c.open,
        },
        "plans_represented": found.plans_represented.to_string(),
        "lower_bound_s": if best.is_none() { Value::Null } else { json!(found.lower_bound_ps as f64 / 1e12) },
        "gap": gap,
        "proven_optimal": gap == Some(0.0),
        "stopped": found.stopped.name(),
        "rounds": found.rounds,
        "search_time_s": search_time_s,
        "digest": found.digest.to_string(),
        "nearest_miss": miss.map(|m| json!({ "pipeline": m.pipeline, "lacking_bytes": m.lacking_bytes })),
    })
}

fn text(scenario: &Scenario, found: &Found, best: Option<&Best>, search_time_s: f64) -> String {
    let mut text = format!("{}: {}\n\n", scenario.name, scenario.about);
    match best {
        Some((plan, layout, iteration)) => {
            text += &report::plan::stages(plan, layout, iteration);
            text.push('\n');
            text += &report::plan::time(scenario, layout, iteration);
            let gap = found.gap().unwrap_or(0.0);
            if gap > 0.0 {
                let bound = seconds(found.lower_bound_ps as f64 / 1e12);
                let _ = writeln!(
                    text,
                    "no plan of the space is faster than {bound}: within {:.1} % of the best",
                    100.0 * gap
                );
            } else {
                text += "proven: no plan of the space is faster\n";
            }
            if found.ranked.len() > 1 {
                text += "\nnext best:\n";
                let mut table = Table::new(["time", "micro-batch", "pipelines"]);
                for r in &found.ranked[1..] {
                    table.row([
                        seconds(r.time_ps as f64 / 1e12),
                        r.plan.micro_batch.to_string(),
                        report::plan::shape(&r.plan),
                    ]);
                }
                text += &table.to_string();
            }
        }
        None => {
            text += "no plan is feasible\n";
            if let Some(miss) = &found.nearest_miss {
                let lack = Bytes(miss.lacking_bytes).as_gib();
                let _ = writeln!(text, "nearest miss: {} lacks {lack:.2} GiB on a device", miss.pipeline);
            }
        }
    }
    let c = &found.counts;
    let _ = writeln!(
        text,
        "\n{} plans represented by {} nodes in {} rounds, {:.2} s{}",
        thousands(found.plans_represented),
        thousands(c.considered),
        found.rounds,
        search_time_s,
        match found.stopped {
            Stopped::Done => String::new(),
            other => format!(", stopped: {}", other.name()),
        }
    );
    let mut table = Table::new(["nodes", "", ""]);
    for (rule, n) in &c.pruned {
        table.row([thousands(n), "thrown out".into(), rule.reason().into()]);
    }
    table.row([thousands(c.bounded), "thrown out".into(), "its lower bound is above the best time".into()]);
    table.row([thousands(c.expanded), "opened".into(), "partial plans that led to others".into()]);
    table.row([thousands(c.simulated), "simulated".into(), "no further than the best so far".into()]);
    if c.open > 0 {
        table.row([thousands(c.open), "open".into(), "left when the search stopped".into()]);
    }
    text += &table.to_string();
    text
}
