//! `tideplan plan`: search for the fastest plan.

use super::plan_explain::Explained;
use super::searching::{CertificateFile, Origin, PartFile, Watcher, read_json, write_json};
use super::{load_jobs_too, print, print_json, why};
use crate::cli;
use crate::failure::{Answer, Failure};
use crate::host::host;
use crate::report;
use crate::report::table::{Table, seconds, thousands};
use crate::{words, write};
use serde_json::{Value, json};
use sim_models::iteration::{Iteration, Options, Simulator, simulate_with};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use sim_search::families::Rejected;
use sim_search::verify::Certificate;
use sim_search::{Found, Objective, Rule, Saved, Stopped, search_explained};
use std::fmt::Write;

pub(super) fn run(args: &cli::Plan) -> Result<Answer, Failure> {
    let words = words::scenario(&args.words)?;
    if words.is_none() && args.words.any() {
        let message =
            "`--model` and `--gpus` go together, and `--inter`, `--batch` and `--precision` with them";
        return Err(Failure::new(message, "both, or a scenario with `--set`"));
    }
    if args.external.is_some() && args.planner != "external" {
        let message = format!("`--external` is no command of planner `{}`", args.planner);
        return Err(Failure::new(message, "`--planner external`"));
    }
    let given = host().scenario(&args.scenario);
    let (name, text) = match &words {
        Some((text, name)) => (name.as_str(), Some(text.as_str())),
        None => (args.scenario.as_str(), given.as_deref()),
    };
    let (loaded, overrides) = load_jobs_too(name, text, &args.over, false)?;
    if !loaded.scenario.jobs.is_empty() {
        return super::plan_jobs::run(args, &loaded.scenario, overrides.at);
    }
    let method = match args.planner.as_str() {
        "tideplan" => sim_search::Method::BranchAndBound,
        "exhaustive" => sim_search::Method::Exhaustive,
        _ => return super::planned::run(args, &loaded, &overrides),
    };
    let scenario = &loaded.scenario;
    if method == sim_search::Method::Exhaustive {
        refuse(args, &["--checkpoint", "--shard", "--certificate", "--explain"], &of_ours_alone(args))?;
    }
    let objective = match args.objective.as_str() {
        "cost" => Objective::Cost,
        "robust" => Objective::Robust,
        _ => Objective::Time,
    };
    if args.certificate.is_some() {
        let what = |name: &str| (format!("a certificate knows no `{name}`"), format!("without `{name}`"));
        refuse(args, &["--objective", "--deadline", "--budget"], &what)?;
    }
    if objective == Objective::Robust && scenario.replay.options.start == 0 {
        return Err(Failure::new(
            "the scenario has no history to be robust against",
            "`[replay] history = \"1 h\"`: the part of its traces that has passed",
        ));
    }
    if objective == Objective::Cost || args.budget.is_some() {
        let unpriced = (0..scenario.groups.len()).find(|g| scenario.cost.node(*g) == 0);
        if let Some(g) = unpriced {
            let name = &scenario.groups[g].name;
            let help = format!("[cost]\n        nodes = [{{ group = \"{name}\", per_hour = 30.0 }}]");
            return Err(Failure::new(format!("no price for the nodes of `{name}`"), help));
        }
    }
    let iterations = args.tokens.map(|tokens| tokens / tokens_of(scenario));
    let share = |of: Option<f64>, unit: f64| {
        let (of, iterations) = (of?, iterations?);
        Some((of * unit / iterations) as u64)
    };
    let options = sim_search::Options {
        objective,
        deadline_ps: share(args.deadline, 86_400e12),
        budget: share(args.budget, 1e12),
        threads: args.threads.map_or(0, usize::from),
        max_simulations: args.max_simulations.unwrap_or(scenario.search.max_simulations),
        top: usize::from(args.top),
        at: overrides.at,
        method,
        shard: args.shard,
        log: args.certificate.is_some() || args.explain,
    };
    let why_not = args.why_not.as_deref().map(|path| scenarios::load_plan_for(path, scenario));
    let why_not = why_not.transpose()?;
    let state = match &args.checkpoint {
        Some(path) if path.exists() => {
            Some(read_json::<Saved>(path, "a file that `plan --checkpoint` wrote, or none")?)
        }
        _ => None,
    };
    let mut watcher = Watcher::new(args.max_seconds, args.checkpoint.as_deref());
    let (found, rejected) = search_explained(scenario, &options, state, &mut watcher).map_err(|e| {
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
    let origin = || Origin::new(name, text, &args.over);
    if let Some(path) = &args.certificate {
        let certificate = Certificate::of(&found);
        write_json(path, &CertificateFile { tideplan_certificate: 1, origin: origin(), certificate })?;
    }
    if let (Some(path), Some(shard)) = (&args.part, args.shard) {
        let (top, found) = (options.top, found.clone());
        let part = PartFile {
            tideplan_part: 1,
            origin: origin(),
            shard,
            top,
            objective,
            tokens: args.tokens,
            search_time_s,
            found,
        };
        write_json(path, &part)?;
    }
    let shown = Shown {
        objective,
        tokens: args.tokens,
        out: args.out.as_deref(),
        json: args.over.json,
        why_not,
        explain: rejected.filter(|_| args.explain),
    };
    answer(scenario, &found, overrides.at, shown, search_time_s)
}

/// The name of an option, and whether it is given.
type IsGiven = (&'static str, fn(&cli::Plan) -> bool);

/// Options that not every search knows.
const OPTIONS: [IsGiven; 9] = [
    ("--checkpoint", |a| a.checkpoint.is_some()),
    ("--shard", |a| a.shard.is_some()),
    ("--certificate", |a| a.certificate.is_some()),
    ("--why-not", |a| a.why_not.is_some()),
    ("--explain", |a| a.explain),
    ("--deadline", |a| a.deadline.is_some()),
    ("--budget", |a| a.budget.is_some()),
    ("--tokens", |a| a.tokens.is_some()),
    ("--objective", |a| a.objective != "time"),
];

/// The names of all of them.
pub(super) fn options() -> Vec<&'static str> {
    OPTIONS.iter().map(|(name, _)| *name).collect()
}

/// Refuses the first of these options that is given: `what` is wrong with it, and what would be right.
pub(super) fn refuse(
    args: &cli::Plan,
    unknown: &[&str],
    what: &dyn Fn(&str) -> (String, String),
) -> Result<(), Failure> {
    match OPTIONS.iter().find(|(name, given)| unknown.contains(name) && given(args)) {
        Some((name, _)) => {
            let (message, help) = what(name);
            Err(Failure::new(message, help))
        }
        None => Ok(()),
    }
}

/// What is wrong with an option that only our own search knows.
pub(super) fn of_ours_alone(args: &cli::Plan) -> impl Fn(&str) -> (String, String) {
    |name| {
        let message = format!("`{name}` goes with the planner `tideplan` alone");
        (message, format!("without `--planner {}`", args.planner))
    }
}

/// How an answer is shown.
pub(super) struct Shown<'a> {
    pub(super) objective: Objective,
    pub(super) tokens: Option<f64>,
    pub(super) out: Option<&'a std::path::Path>,
    pub(super) json: bool,
    /// A plan to hold against the best.
    pub(super) why_not: Option<Plan>,
    /// What became of the plans that were not chosen, where that is asked for.
    pub(super) explain: Option<Rejected>,
}

impl Shown<'_> {
    fn objective_name(&self) -> &'static str {
        match self.objective {
            Objective::Time => "time",
            Objective::Cost => "cost",
            Objective::Robust => "robust",
        }
    }
}

/// Tokens of an iteration.
fn tokens_of(scenario: &Scenario) -> f64 {
    f64::from(scenario.training.global_batch) * scenario.model.seq_len as f64
}

/// A value as it stands in results: seconds, or dollars for a million tokens.
pub(super) fn in_results(scenario: &Scenario, objective: Objective, value: u64) -> f64 {
    match objective {
        Objective::Cost => value as f64 / 1e12 / tokens_of(scenario) * 1e6,
        _ => value as f64 / 1e12,
    }
}

/// Says what a search found, and writes its best plan.
pub(super) fn answer(
    scenario: &Scenario,
    found: &Found,
    at: sim_core::SimTime,
    mut shown: Shown<'_>,
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
    if let (Some(path), Some((plan, ..))) = (shown.out, &best) {
        let text =
            toml::to_string(plan).map_err(|e| Failure::new(format!("cannot write the plan: {e}"), ""))?;
        write::whole(path, text.as_bytes())?;
    }
    let other = match &shown.why_not {
        Some(plan) => Some(why::of(scenario, found, best.as_ref(), plan, at)?),
        None => None,
    };
    let explained = match shown.explain.take() {
        Some(rejected) => {
            Some(Explained::of(scenario, (found, rejected), best.as_ref(), shown.objective, at)?)
        }
        None => None,
    };
    let shown = &shown;
    if shown.json {
        let mut value = json(scenario, found, best.as_ref(), shown, search_time_s);
        if let Some(other) = &other {
            value["why_not"] = other.json();
        }
        if let Some(explained) = &explained {
            (value["explain"], value["rejected"]) = explained.json();
        }
        print_json(&value)?;
    } else {
        let mut text = text(scenario, found, best.as_ref(), shown, search_time_s);
        if let Some(other) = &other {
            text += &other.text();
        }
        if let Some(explained) = &explained {
            text += &explained.text();
        }
        print(&text)?;
    }
    Ok(if best.is_some() { Answer::Yes } else { Answer::No })
}

pub(super) type Best = (Plan, Layout, Iteration);

pub(super) fn in_full(
    scenario: &Scenario,
    plan: &Plan,
    at: sim_core::SimTime,
) -> Result<(Layout, Iteration), Failure> {
    let fabric = Fabric::new(scenario);
    let mut simulator = Simulator::new(scenario, &fabric);
    let failed =
        |e: &dyn std::fmt::Display| Failure::new(format!("the plan found does not simulate: {e}"), "");
    let layout = Layout::new(scenario, plan).map_err(|f| failed(&f.first().map_or("", |f| &f.message)))?;
    let iteration =
        simulate_with(&mut simulator, plan, &layout, &Options { at, fold: true }).map_err(|e| failed(&e))?;
    Ok((layout, iteration))
}

fn json(
    scenario: &Scenario,
    found: &Found,
    best: Option<&Best>,
    shown: &Shown<'_>,
    search_time_s: f64,
) -> Value {
    let objective = shown.objective;
    let worth = |value| in_results(scenario, objective, value);
    let first = found.ranked.first().map(|r| worth(r.value));
    let best_json = best.map(|(plan, layout, iteration)| {
        let mut value = report::json::iteration(scenario, layout, iteration);
        value["plan"] = json!(plan);
        value["objective_value"] = json!(first);
        if let Some(cost) = dollars(scenario, layout, iteration) {
            value["cost_usd"] = json!(cost);
        }
        value
    });
    let ranked: Vec<Value> = found
        .ranked
        .iter()
        .map(|r| {
            let time = r.time_ps as f64 / 1e12;
            json!({ "plan": r.plan, "iteration_time_s": time, "objective_value": worth(r.value) })
        })
        .collect();
    let pareto: Vec<Value> = found
        .pareto
        .iter()
        .map(|c| {
            let cost = (c.cost > 0).then_some(c.cost as f64 / 1e12);
            let time = c.time_ps as f64 / 1e12;
            json!({ "plan": c.plan, "iteration_time_s": time, "cost_usd": cost, "spare_memory_bytes": c.spare_bytes })
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
        "objective": objective,
        "lower_bound_s": if best.is_none() || objective == Objective::Cost {
            Value::Null
        } else {
            json!(found.lower_bound_ps as f64 / 1e12)
        },
        "lower_bound": best.map(|_| worth(found.lower_bound_ps)),
        "pareto": pareto,
        "training": best.zip(shown.tokens).map(|((_, layout, iteration), tokens)| {
            let [days, dollars] = whole_run(scenario, layout, iteration, tokens);
            json!({ "tokens": tokens, "days": days, "dollars": dollars })
        }),
        "gap": gap,
        "proven_optimal": gap == Some(0.0),
        "stopped": found.stopped.name(),
        "rounds": found.rounds,
        "search_time_s": search_time_s,
        "digest": found.digest.to_string(),
        "nearest_miss": miss.map(|m| json!({ "pipeline": m.pipeline, "lacking_bytes": m.lacking_bytes })),
    })
}

/// What an iteration costs in dollars, where there are prices.
fn dollars(scenario: &Scenario, layout: &Layout, iteration: &Iteration) -> Option<f64> {
    let nodes = scenario.cost.nodes(layout) as f64 / 1e6 / 3600.0 * iteration.time.as_secs_f64();
    let all = nodes + iteration.traffic as f64 / 1e12;
    (all > 0.0).then_some(all)
}

/// Days and dollars of training on so many tokens.
fn whole_run(scenario: &Scenario, layout: &Layout, iteration: &Iteration, tokens: f64) -> [Option<f64>; 2] {
    let (iterations, time) = (tokens / tokens_of(scenario), iteration.time.as_secs_f64());
    let dollars = dollars(scenario, layout, iteration).map(|d| d * iterations);
    [Some(iterations * time / 86_400.0), dollars]
}

fn text(
    scenario: &Scenario,
    found: &Found,
    best: Option<&Best>,
    shown: &Shown<'_>,
    search_time_s: f64,
) -> String {
    let mut text = format!("{}: {}\n\n", scenario.name, scenario.about);
    match best {
        Some((plan, layout, iteration)) => {
            text += &report::plan::stages(plan, layout, iteration);
            text.push('\n');
            text += &report::plan::time(scenario, layout, iteration);
            let worth = |value| in_results(scenario, shown.objective, value);
            let (better, unit) = match shown.objective {
                Objective::Time => ("faster", "s"),
                Objective::Cost => ("cheaper", "dollars a million tokens"),
                Objective::Robust => ("faster on average", "s"),
            };
            if shown.objective != Objective::Time {
                let value = found.ranked.first().map_or(0.0, |r| worth(r.value));
                let _ = writeln!(text, "objective {}: {value:.4} {unit}", shown.objective_name());
            }
            if let Some(cost) = dollars(scenario, layout, iteration) {
                let _ = writeln!(text, "an iteration costs {cost:.4} dollars");
            }
            if let Some(tokens) = shown.tokens {
                let [days, dollars] = whole_run(scenario, layout, iteration, tokens);
                let cost =
                    dollars.map_or(String::new(), |d| format!(", {} dollars", thousands(d.round() as u64)));
                let _ = writeln!(text, "{tokens:.3e} tokens: {:.2} days{cost}", days.unwrap_or(0.0));
            }
            let gap = found.gap().unwrap_or(0.0);
            if gap > 0.0 {
                let bound = worth(found.lower_bound_ps);
                let bound = if unit == "s" { seconds(bound) } else { format!("{bound:.4} {unit}") };
                let _ = writeln!(
                    text,
                    "no plan of the space is {better} than {bound}: within {:.1} % of the best",
                    100.0 * gap
                );
            } else {
                let _ = writeln!(text, "proven: no plan of the space is {better}");
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
            text += match found.stopped {
                Stopped::Done => "no plan is feasible\n",
                _ => "no feasible plan was found before the search stopped\n",
            };
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
