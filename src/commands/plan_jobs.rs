//! `tideplan plan` of a scenario with `[[jobs]]`: which nodes each job gets, and its plan on them.

use super::plan::{options, refuse};
use super::searching::Watcher;
use super::simulate::not_simulated;
use super::{print, print_json};
use crate::cli;
use crate::failure::{Answer, Failure};
use crate::report::jobs::{Alone, Jobs};
use crate::report::table::{Table, seconds, thousands};
use crate::write;
use serde_json::{Value, json};
use sim_core::SimTime;
use sim_models::iteration::{Options, Simulator};
use sim_models::jobs::{JobPlan, simulate_jobs, simulate_jobs_with};
use sim_models::lower::Fabric;
use sim_models::plan::{DeviceRange, Plan};
use sim_models::scenario::Scenario;
use sim_search::jobs::{Deal, Dealing, Dealt, Job, deal};
use sim_search::{Method, Rule, Watch};
use std::fmt::Write;

pub(super) fn run(args: &cli::Plan, scenario: &Scenario, at: SimTime) -> Result<Answer, Failure> {
    refuse(args, &options(), &|name| {
        let message = format!("`{name}` is about one job, and scenario `{}` has several", scenario.name);
        (message, "`[[jobs]]` are planned to be done soon, by their weights".into())
    })?;
    let method = match args.planner.as_str() {
        "tideplan" => Method::BranchAndBound,
        "exhaustive" => Method::Exhaustive,
        other => {
            let message =
                format!("planner `{other}` plans one job, and scenario `{}` has several", scenario.name);
            return Err(Failure::new(message, "`tideplan` or `exhaustive`"));
        }
    };
    let jobs = jobs(scenario)?;
    let options = Dealing {
        max_simulations: args.max_simulations.unwrap_or(scenario.search.max_simulations),
        at,
        method,
        threads: args.threads.map_or(0, usize::from),
    };
    let fabric = Fabric::new(scenario);
    let once = Options { at, fold: true };
    let together = |plans: &[Plan]| {
        let mut simulator = Simulator::new(scenario, &fabric);
        let done = simulate_jobs_with(&mut simulator, &side_by_side(scenario, plans), &once).ok()?;
        let fits = done.jobs.iter().all(|job| job.fits());
        fits.then(|| done.jobs.iter().map(|job| job.time.as_ps()).collect())
    };
    let mut watcher = Watcher::new(args.max_seconds, None);
    let dealt = deal(&jobs, &options, &together, &mut |progress| watcher.stop(progress));
    let search_time_s = watcher.finish();
    let best = match &dealt.best {
        Some(deal) => Some(Shown::new(scenario, deal, &once)?),
        None => None,
    };
    if let (Some(path), Some(deal)) = (&args.out, &dealt.best) {
        for (job, plan) in jobs.iter().zip(&deal.plans) {
            let text =
                toml::to_string(plan).map_err(|e| Failure::new(format!("cannot write the plan: {e}"), ""))?;
            let stem = path.file_stem().map_or("plan".into(), |s| s.to_string_lossy());
            write::whole(&path.with_file_name(format!("{stem}-{}.toml", job.name)), text.as_bytes())?;
        }
    }
    if args.over.json {
        let mut best_json = Value::Null;
        if let (Some(shown), Some(deal)) = (&best, &dealt.best) {
            best_json = shown.json(scenario, deal);
        }
        print_json(&json(&dealt, best_json, search_time_s))?;
    } else {
        let shown = best.as_ref().zip(dealt.best.as_ref());
        print(&text(scenario, &dealt, shown.map(|(shown, deal)| shown.text(scenario, deal)), search_time_s))?;
    }
    Ok(if dealt.best.is_some() { Answer::Yes } else { Answer::No })
}

/// The jobs with their own nodes, where they name some.
fn jobs(scenario: &Scenario) -> Result<Vec<Job>, Failure> {
    let mut jobs = Vec::with_capacity(scenario.jobs.len());
    let mut taken: Vec<Vec<Option<&str>>> =
        scenario.groups.iter().map(|g| vec![None; g.nodes as usize]).collect();
    for job in &scenario.jobs {
        let mut nodes: Vec<Vec<u32>> = vec![Vec::new(); scenario.groups.len()];
        for range in &job.nodes {
            let Some(g) = scenario.group_index(&range.group) else { continue };
            for n in range.first..=range.last {
                match taken[g].get_mut(n as usize) {
                    Some(Some(other)) if *other != job.name => {
                        let message = format!(
                            "jobs `{other}` and `{}` both name node {n} of `{}`",
                            job.name, range.group
                        );
                        return Err(Failure::new(
                            message,
                            "to plan them, nodes are one job's alone, or no job's",
                        ));
                    }
                    Some(Some(_)) => {}
                    Some(free) => {
                        *free = Some(&job.name);
                        nodes[g].push(n);
                    }
                    None => {}
                }
            }
        }
        nodes.iter_mut().for_each(|list| list.sort_unstable());
        jobs.push(Job {
            name: job.name.clone(),
            scenario: job.scenario.clone(),
            iterations: job.iterations,
            start: job.start,
            weight: job.weight,
            nodes: (!job.nodes.is_empty()).then_some(nodes),
        });
    }
    Ok(jobs)
}

fn side_by_side<'a>(scenario: &'a Scenario, plans: &'a [Plan]) -> Vec<JobPlan<'a>> {
    let of = |(job, plan): (&'a sim_models::scenario::Job, &'a Plan)| JobPlan {
        scenario: &job.scenario,
        plan,
        start: job.start,
    };
    scenario.jobs.iter().zip(plans).map(of).collect()
}

/// The best deal once more, in full.
struct Shown {
    together: sim_models::jobs::Together,
    alone: Vec<Alone>,
}

impl Shown {
    fn new(scenario: &Scenario, deal: &Deal, once: &Options) -> Result<Shown, Failure> {
        let plans = side_by_side(scenario, &deal.plans);
        let together = simulate_jobs(scenario, &plans, once).map_err(not_simulated)?;
        let mut alone = Vec::with_capacity(plans.len());
        for plan in &plans {
            alone.push(Alone(simulate_jobs(scenario, &[*plan], once).map_err(not_simulated)?.time));
        }
        Ok(Shown { together, alone })
    }

    fn json(&self, scenario: &Scenario, deal: &Deal) -> Value {
        let plans = side_by_side(scenario, &deal.plans);
        let jobs = Jobs { scenario, plans: &plans, together: &self.together, alone: &self.alone };
        let mut value = jobs.json();
        let mut by_job = serde_json::Map::new();
        for (i, job) in scenario.jobs.iter().enumerate() {
            value["jobs"][i]["plan"] = json!(deal.plans[i]);
            value["jobs"][i]["nodes"] = json!(names(scenario, &deal.nodes[i]));
            value["jobs"][i]["iterations"] = job.iterations.into();
            value["jobs"][i]["weight"] = job.weight.into();
            value["jobs"][i]["done_s"] = done_s(job, deal.times_ps[i]).into();
            by_job.insert(job.name.clone(), json!(deal.plans[i]));
        }
        value["plan"] = by_job.into();
        value["objective_value"] = (deal.value as f64 / 1e12).into();
        value
    }

    fn text(&self, scenario: &Scenario, deal: &Deal) -> String {
        let plans = side_by_side(scenario, &deal.plans);
        let jobs = Jobs { scenario, plans: &plans, together: &self.together, alone: &self.alone };
        let mut table = Table::new(["job", "weight", "iterations", "nodes", "done after"]);
        for (i, job) in scenario.jobs.iter().enumerate() {
            let nodes = names(scenario, &deal.nodes[i]).join(", ");
            let done = seconds(done_s(job, deal.times_ps[i]));
            let (weight, iterations) = (job.weight.to_string(), thousands(job.iterations));
            table.row([job.name.clone(), weight, iterations, nodes, done]);
        }
        format!("{}\n{table}", jobs.text())
    }
}

/// When a job is done all of whose iterations take that long, s.
fn done_s(job: &sim_models::scenario::Job, time_ps: u64) -> f64 {
    (job.start.as_ps() as f64 + time_ps as f64 * job.iterations as f64) / 1e12
}

/// Nodes as ranges: `a100:0-3`.
fn names(scenario: &Scenario, nodes: &[Vec<u32>]) -> Vec<String> {
    let mut list = Vec::new();
    for (group, nodes) in scenario.groups.iter().zip(nodes) {
        for run in nodes.chunk_by(|a, b| a + 1 == *b) {
            let range = DeviceRange { group: group.name.clone(), first: run[0], last: run[run.len() - 1] };
            list.push(range.to_string());
        }
    }
    list
}

fn json(dealt: &Dealt, best: Value, search_time_s: f64) -> Value {
    let c = &dealt.counts;
    let pruned: serde_json::Map<String, Value> =
        Rule::ALL.iter().map(|r| (r.name().into(), json!(c.pruned.get(r).copied().unwrap_or(0)))).collect();
    let seconds = |value: u128| value as f64 / 1e12;
    let gap = dealt.gap();
    json!({
        "lower_bound_s": if best.is_null() { Value::Null } else { json!(seconds(dealt.lower)) },
        "best": best,
        "ranked": [],
        "even_split_s": dealt.even.map(seconds),
        "counts": {
            "considered": c.considered, "pruned": pruned, "bounded": c.bounded, "simulated": c.simulated,
            "expanded": c.expanded, "open": c.open,
        },
        "searches": dealt.searches,
        "simulations": dealt.simulations,
        "plans_represented": dealt.deals.to_string(),
        "objective": "weighted_ends",
        "gap": gap,
        "proven_optimal": gap == Some(0.0),
        "stopped": dealt.stopped.name(),
        "rounds": dealt.rounds,
        "search_time_s": search_time_s,
        "digest": dealt.digest.to_string(),
    })
}

fn text(scenario: &Scenario, dealt: &Dealt, best: Option<String>, search_time_s: f64) -> String {
    let mut text = best.unwrap_or_else(|| {
        format!("{}: no deal of the nodes was found that every job fits into\n", scenario.name)
    });
    let sum = |value: u128| seconds(value as f64 / 1e12);
    if let (Some(best), Some(gap)) = (&dealt.best, dealt.gap()) {
        let proven = if gap == 0.0 {
            "proven the best deal".into()
        } else {
            format!("at most {:.1} % above the best deal", 100.0 * gap / (1.0 - gap))
        };
        let _ = writeln!(
            text,
            "\nwhen jobs are done, by weight, adds up to {}: {proven} (at least {})",
            sum(best.value),
            sum(dealt.lower)
        );
        if let Some(even) = dealt.even {
            let _ = writeln!(text, "nodes shared out evenly: {}", sum(even));
        }
    }
    let _ = writeln!(
        text,
        "{} ways to deal the nodes, {} searches of a job on some nodes, {} simulations, {search_time_s:.1} s, digest {}",
        dealt.deals,
        thousands(dealt.searches),
        thousands(dealt.simulations),
        dealt.digest
    );
    text
}
