//! `tideplan compare`: planners side by side on one scenario or many, under one judge.

use super::{load, print, print_json};
use crate::cli::Compare;
use crate::external::External;
use crate::failure::{Answer, Failure};
use crate::host::{host, note};
use crate::report::compare::{Case, Comparison, Outcome, Row};
use crate::report::{compare_html, table};
use crate::write;
use indicatif::{ProgressBar, ProgressStyle};
use scenarios::Overrides;
use sim_core::SimTime;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_search::judge::{self, Judge, Verdict};
use sim_search::planners::{self, Entrant, Limits, NoProposal, Planner, Proposal};
use std::path::PathBuf;
use std::time::Duration;
// The command may look at a clock; the libraries may not.
#[allow(clippy::disallowed_types)]
use std::time::Instant;

/// The group of the built-ins that `--suite` compares on.
const SUITE: &str = "suite";

pub(super) fn run(args: &Compare) -> Result<Answer, Failure> {
    let entrants = entrants(args)?;
    let scenarios = scenarios(args)?;
    let mut comparison = Comparison { judge: args.judge, cases: Vec::new() };
    for (name, loaded, overrides) in scenarios {
        let scenario = &loaded.scenario;
        let mut rows = Vec::new();
        for entrant in &entrants {
            let bar = progress(&format!("{name}: {}", entrant.name()));
            rows.push(row(scenario, entrant, args, overrides.at, &bar)?);
            bar.finish_and_clear();
        }
        let agreement = agreement(scenario, &rows, overrides.at);
        comparison.cases.push(Case { scenario: name, about: scenario.about.clone(), rows, agreement });
    }
    if let Some(path) = &args.html {
        write::whole(path, compare_html::page(&comparison).as_bytes())?;
        note!("wrote {}", path.display());
    }
    if let Some(path) = &args.csv {
        write::whole(path, comparison.csv().as_bytes())?;
        note!("wrote {}", path.display());
    }
    if args.over.json {
        print_json(&comparison.json())?;
    } else {
        print(&comparison.text())?;
    }
    let answered = |c: &Case| c.rows.iter().any(|r| r.verdict().is_some_and(|v| v.fits));
    Ok(if comparison.cases.iter().all(answered) { Answer::Yes } else { Answer::No })
}

/// Who takes part.
enum Who {
    Planner { name: String, planner: Box<dyn Planner> },
    File { name: String, path: PathBuf },
}

impl Who {
    fn name(&self) -> &str {
        match self {
            Who::Planner { name, .. } | Who::File { name, .. } => name,
        }
    }
}

fn entrants(args: &Compare) -> Result<Vec<Who>, Failure> {
    let mut list = Vec::new();
    let names: Vec<&str> = match &args.planners {
        Some(names) => names.split(',').map(str::trim).collect(),
        None if args.plan.is_empty() && args.external.is_none() => {
            planners::builtin().iter().map(|p| p.about().name).collect()
        }
        None => Vec::new(),
    };
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            return Err(Failure::new(format!("planner `{name}` is named twice"), "name each once"));
        }
        if *name != planners::EXTERNAL.name {
            list.push(Who::Planner { name: (*name).into(), planner: super::planner(name, None)? });
        }
    }
    let external = names.contains(&planners::EXTERNAL.name);
    match &args.external {
        Some(command) => {
            let external =
                External::new(command).map_err(|e| Failure::new(e, "a program and its arguments"))?;
            list.push(Who::Planner { name: planners::EXTERNAL.name.into(), planner: Box::new(external) });
        }
        None if external => {
            return Err(Failure::new("planner `external` has no command", "`--external \"COMMAND ARGS\"`"));
        }
        None => {}
    }
    for path in &args.plan {
        let stem =
            path.file_stem().map_or_else(|| path.display().to_string(), |s| s.to_string_lossy().into());
        list.push(Who::File { name: stem, path: path.clone() });
    }
    Ok(list)
}

type Given = (String, scenarios::Loaded, Overrides);

fn scenarios(args: &Compare) -> Result<Vec<Given>, Failure> {
    let names: Vec<String> = if args.suite {
        scenarios::builtins().iter().filter(|b| b.group == SUITE).map(|b| b.name.to_string()).collect()
    } else {
        args.scenarios.clone()
    };
    let one = |name: String| {
        let (loaded, overrides) = load(&name, &args.over, false)?;
        Ok((loaded.scenario.name.clone(), loaded, overrides))
    };
    names.into_iter().map(one).collect()
}

fn row(
    scenario: &Scenario,
    who: &Who,
    args: &Compare,
    at: SimTime,
    bar: &ProgressBar,
) -> Result<Row, Failure> {
    #[allow(clippy::disallowed_types)]
    let start = Instant::now();
    let limit = Duration::try_from_secs_f64(args.max_seconds).unwrap_or(Duration::MAX);
    let limits = Limits {
        at,
        threads: args.threads.map_or(0, usize::from),
        simulations: args.simulations.unwrap_or(Limits::default().simulations),
        judge: args.judge,
    };
    let mut ran_out = false;
    let host = host();
    let proposal = match who {
        Who::File { path, .. } => Ok(of_plan(scenarios::load_plan_for(path, scenario)?)),
        Who::Planner { planner, .. } => planner.propose(scenario, &limits, &mut || {
            bar.tick();
            ran_out = host.cancelled() || start.elapsed() >= limit;
            !ran_out
        }),
    };
    let search_time_s = match who {
        Who::File { .. } => None,
        Who::Planner { .. } => Some(start.elapsed().as_secs_f64()),
    };
    let candidates = proposal.as_ref().map_or(0, |p| p.candidates);
    let outcome = judged(scenario, proposal, args.judge, at);
    Ok(Row { planner: who.name().to_string(), search_time_s, candidates, ran_out, outcome })
}

fn of_plan(plan: Plan) -> Proposal {
    Proposal { plans: vec![Entrant { plan, own_estimate_s: None }], candidates: 1 }
}

/// A planner that fails is a row, not an end.
fn judged(scenario: &Scenario, proposal: Result<Proposal, NoProposal>, judge: Judge, at: SimTime) -> Outcome {
    let proposal = match proposal {
        Ok(proposal) => proposal,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match judge::judge(scenario, &proposal.plans, judge, at) {
        Ok(verdict) => Outcome::Judged(Box::new(verdict)),
        Err(error) => Outcome::Failed(match &error {
            judge::Unjudged::Simulate(sim_models::iteration::SimulateError::Plan(faults)) => {
                judge::in_a_line(faults)
            }
            _ => error.to_string(),
        }),
    }
}

/// Kendall's tau between the judges over the plans that stand in the rows, by pair of [`Judge::ALL`]; none where fewer than
/// two plans have a time under both.
fn agreement(scenario: &Scenario, rows: &[Row], at: SimTime) -> Vec<Vec<Option<f64>>> {
    let mut verdicts: Vec<&Verdict> = Vec::new();
    for verdict in rows.iter().filter_map(Row::verdict) {
        if !verdicts.iter().any(|v| v.plan == verdict.plan) {
            verdicts.push(verdict);
        }
    }
    let times = |j: Judge| -> Vec<Option<f64>> {
        let time = |v: &&Verdict| match j {
            Judge::Simulate => Some(v.iteration.time.as_secs_f64()),
            other => other.time_s(scenario, &v.plan, at).ok(),
        };
        verdicts.iter().map(time).collect()
    };
    let all = Judge::ALL.map(times);
    all.iter().map(|a| all.iter().map(|b| kendall(a, b)).collect()).collect()
}

/// Kendall's tau-b over what both know.
fn kendall(a: &[Option<f64>], b: &[Option<f64>]) -> Option<f64> {
    let both: Vec<(f64, f64)> = a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect();
    let (mut sum, mut in_a, mut in_b) = (0.0f64, 0.0f64, 0.0f64);
    for i in 0..both.len() {
        for j in 0..i {
            let sign = |x: f64, y: f64| {
                if x > y {
                    1.0
                } else if x < y {
                    -1.0
                } else {
                    0.0f64
                }
            };
            let (s, t) = (sign(both[i].0, both[j].0), sign(both[i].1, both[j].1));
            sum += s * t;
            in_a += s * s;
            in_b += t * t;
        }
    }
    (in_a > 0.0 && in_b > 0.0).then(|| sum / (in_a * in_b).sqrt())
}

fn progress(message: &str) -> ProgressBar {
    if !host().draws() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_message(message.to_string());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// `plan --planner P` for a planner that is not ours: one row, shown as a plan.
pub(super) fn alone(
    scenario: &Scenario,
    planner: &dyn Planner,
    limits: &Limits,
    seconds: Option<f64>,
) -> Result<(Verdict, Proposal, f64), Failure> {
    #[allow(clippy::disallowed_types)]
    let start = Instant::now();
    let bar = progress(planner.about().name);
    let limit = seconds.map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX));
    let host = host();
    let in_time = || limit.is_none_or(|limit| start.elapsed() < limit);
    let proposal = planner.propose(scenario, limits, &mut || in_time() && !host.cancelled());
    bar.finish_and_clear();
    let name = planner.about().name;
    let proposal = proposal.map_err(|e| Failure::new(format!("`{name}` has no plan: {e}"), ""))?;
    let seconds = start.elapsed().as_secs_f64();
    let verdict = judge::judge(scenario, &proposal.plans, Judge::Simulate, limits.at)
        .map_err(|e| Failure::new(format!("the plan of `{name}` does not simulate: {e}"), ""))?;
    Ok((verdict, proposal, seconds))
}

/// A time beside another, for people: `+12.3 %`.
pub(super) fn beside(own: f64, judged: f64) -> String {
    format!("{} ({:+.1} %)", table::seconds(own), 100.0 * (own / judged - 1.0))
}

#[cfg(test)]
mod tests {
    use super::kendall;

    #[test]
    fn rank_agreement() {
        let some = |list: &[f64]| list.iter().copied().map(Some).collect::<Vec<_>>();
        for (a, b, want) in [
            (&[1.0, 2.0, 3.0][..], &[2.0, 4.0, 9.0][..], Some(1.0)),
            (&[1.0, 2.0, 3.0], &[9.0, 4.0, 2.0], Some(-1.0)),
            (&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0], Some(1.0 / 3.0)),
            (&[1.0, 1.0], &[1.0, 2.0], None),
            (&[1.0], &[1.0], None),
        ] {
            let got = kendall(&some(a), &some(b));
            assert!(got.zip(want).map_or(got == want, |(g, w)| (g - w).abs() < 1e-12), "{a:?} {b:?} {got:?}");
        }
        assert_eq!(kendall(&[None, Some(1.0), Some(2.0)], &some(&[5.0, 1.0, 2.0])), Some(1.0));
    }
}
