//! `tideplan validate`: predicted against measured.

use super::{print, print_json};
use crate::cli::Validate;
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::report::table::{Table, thousands};
use crate::{read, write};
use serde_json::{Value, json};
use sim_models::collective::Parameters;
use std::collections::BTreeMap;
use std::path::Path;
use validation::collectives;
use validation::runs::Tier;
use validation::runs::group::By;
use validation::runs::markdown::{self, Section};
use validation::runs::oom::{self, Oom};
use validation::runs::{self, Figures, Noisy, Outcome, Report, Row, Settings, budget};

/// What a file of rows is.
const ROWS: &str = "a CSV; its columns are in docs/validate.md";

pub(super) fn run(args: &Validate) -> Result<Answer, Failure> {
    let alone = args.collectives.is_some() && args.runs.is_none() && args.oom.is_none();
    let shipped = args.runs.is_none() && !alone;
    let settings = Settings { tier: args.tier, ..Settings::default() };
    let outcomes = match &args.runs {
        Some(path) => given(path, args.plans.as_deref(), &settings)?,
        None if shipped => runs::mark_fitted(runs::evaluate(runs::shipped(), &settings, |_| None)),
        None => Vec::new(),
    };
    let collectives = match &args.collectives {
        Some(path) => {
            let text = read::text(path, ROWS)?;
            let scored = collectives::validate(&text, Parameters::builtin());
            Some(scored.map_err(|e| Failure::new(format!("{}: {e}", path.display()), ""))?)
        }
        None if shipped => {
            let scored = collectives::validate(collectives::SHIPPED, Parameters::builtin());
            Some(scored.map_err(|e| Failure::new(format!("the shipped collectives: {e}"), ""))?)
        }
        None => None,
    };
    let mut report = runs::report(&outcomes);
    if let Some(path) = &args.oom {
        report.oom = out_of_memory(path, &outcomes, &settings)?;
    }
    // The budget is for the shipped rows as they come.
    let kept = shipped && args.tier.is_none();
    let broken = if kept { budget::broken(&report, &budget::committed()) } else { Vec::new() };
    if let Some(path) = &args.predictions {
        write::whole(path, runs::predictions_csv(&outcomes).as_bytes())?;
    }
    if let Some(path) = &args.write {
        let page = if path.exists() { read::text(path, "a page to write into")? } else { String::new() };
        let section = if shipped { Section::Shipped } else { Section::Data };
        let settings = Settings { tier: Some(Tier::Datasheet), ..settings };
        let datasheet = match &args.runs {
            Some(path) => given(path, args.plans.as_deref(), &settings)?,
            None => runs::evaluate(runs::shipped(), &settings, |_| None),
        };
        let text = markdown::section(section, &report, &outcomes, &runs::report(&datasheet));
        write::whole(path, markdown::with_section(&page, section, &text).as_bytes())?;
    }
    if let Some(path) = &args.html {
        write::whole(path, runs::html(&report, &outcomes).as_bytes())?;
    }
    let groups = args.by.map(|by| (by, runs::group::by(&outcomes, by)));
    if args.json {
        print_json(&json(&report, groups.as_ref(), collectives.as_ref(), &broken)?)?;
    } else {
        print(&text(&report, &outcomes, groups.as_ref(), collectives.as_ref()))?;
    }
    for line in &broken {
        note!("error budget broken: {line}");
    }
    Ok(if broken.is_empty() { Answer::Yes } else { Answer::No })
}

/// Rows put together by something else than their source.
type Groups = (By, Vec<(String, Figures)>);

/// Whether the failures of a file are foreseen; a model's shape is taken from the runs given, or from the shipped ones.
fn out_of_memory(path: &Path, outcomes: &[Outcome], settings: &Settings<'_>) -> Result<Oom, Failure> {
    let shipped = runs::shipped();
    let known = outcomes.iter().map(|o| &o.row).chain(&shipped);
    let rows = oom::read(&read::text(path, ROWS)?, known).map_err(|e| {
        Failure::new(format!("{}: {e}", path.display()), "the columns are in docs/validate.md")
    })?;
    Ok(oom::score(&runs::fit_in_memory(rows, settings), outcomes))
}

/// The rows of a file, simulated.
fn given(path: &Path, plans: Option<&Path>, settings: &Settings<'_>) -> Result<Vec<Outcome>, Failure> {
    let rows = runs::read(&read::text(path, ROWS)?).map_err(|e| {
        Failure::new(format!("{}: {e}", path.display()), "the columns are in docs/validate.md")
    })?;
    if let Some(folder) = plans.filter(|p| !p.is_dir()) {
        return Err(Failure::new(
            format!("no folder `{}`", folder.display()),
            "`--plans` takes a folder with `ID.json` for the row of that id",
        ));
    }
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    if let Some(folder) = plans {
        for row in &rows {
            let path = folder.join(format!("{}.json", row.id));
            if is_file_name(&row.id) && path.exists() {
                files.insert(row.id.clone(), read::text(&path, "a plan in Sailor's format")?);
            }
        }
    }
    Ok(runs::evaluate(rows, settings, |row: &Row| files.get(&row.id).cloned()))
}

/// An id that stays inside its folder.
fn is_file_name(id: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    !id.is_empty() && id.len() <= 200 && id.chars().all(plain)
}

fn json(
    report: &Report,
    groups: Option<&Groups>,
    collectives: Option<&collectives::Report>,
    broken: &[String],
) -> Result<Value, Failure> {
    let fail = |e: serde_json::Error| Failure::new(format!("cannot write the report: {e}"), "");
    let mut value = serde_json::to_value(report).map_err(fail)?;
    value["collectives"] = match collectives {
        Some(c) => serde_json::to_value(&c.sources).map_err(fail)?,
        None => json!([]),
    };
    if let Some(c) = collectives {
        value["collectives_overall"] = serde_json::to_value(c.overall).map_err(fail)?;
        value["collectives_gpus"] = serde_json::to_value(&c.gpus).map_err(fail)?;
    }
    if let Some((by, groups)) = groups {
        let group = |(name, figures): &(String, Figures)| {
            let mut value = serde_json::to_value(figures).map_err(fail)?;
            value[by.name()] = json!(name);
            Ok(value)
        };
        value["by"] = groups.iter().map(group).collect::<Result<Vec<_>, Failure>>()?.into();
    }
    value["budget_broken"] = json!(broken);
    Ok(value)
}

fn text(
    report: &Report,
    outcomes: &[Outcome],
    groups: Option<&Groups>,
    collectives: Option<&collectives::Report>,
) -> String {
    let mut text = String::new();
    if !outcomes.is_empty() {
        let sources = report.sources.iter().map(|s| (s.source.as_str(), &s.figures));
        text += &figures_table("source", sources.chain([("all", &report.overall)])).to_string();
        text += "\nErrors of the iteration time in percent of the measured one, rows not fitted on; tau and regret within sweeps;\n`in 90 %`: how often the measured time was inside its interval; docs/validate.md\n";
        if let Some((by, groups)) = groups {
            let rows = groups.iter().map(|(name, figures)| (name.as_str(), figures));
            text += &format!("\n{}", figures_table(by.name(), rows));
        }
        text += &skipped(outcomes);
    }
    if report.oom.n > 0 {
        let o = &report.oom;
        text += &format!(
            "\nout of memory: {} failures, precision {}, recall {} %, {} false alarms among {} runs\n",
            o.failures,
            percent(o.precision),
            percent(o.recall),
            o.false_alarms,
            o.n - o.failures
        );
    }
    if let Some(c) = collectives {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &collectives_tables(c);
    }
    text
}

fn figures_table<'a>(first: &str, rows: impl Iterator<Item = (&'a str, &'a Figures)>) -> Table {
    let mut table = Table::new([
        first, "rows", "skipped", "mean", "median", "p90", "bias", "tau", "regret", "memory", "noise",
        "in 90 %", "fitted", "trust C",
    ]);
    for (name, f) in rows {
        let apart = |n: &Noisy| n.mape.map_or("-".into(), |m| format!("{} ({})", n.n, percent(Some(m))));
        table.row([
            name.to_string(),
            f.n.to_string(),
            f.skipped.to_string(),
            percent(f.mape),
            percent(f.median_ape),
            percent(f.p90_ape),
            f.bias.map_or("-".into(), |b| format!("{:+.1}", 100.0 * b)),
            f.kendall_tau.map_or("-".into(), |t| format!("{t:.2}")),
            percent(f.top1_regret),
            percent(f.memory_mape),
            percent(f.noise_floor),
            percent(f.interval_coverage),
            apart(&f.fitted),
            apart(&f.noisy),
        ]);
    }
    table
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |s| format!("{:.1}", 100.0 * s))
}

/// What was skipped and why: a line for each source and kind of reason, with its most frequent wording.
fn skipped(outcomes: &[Outcome]) -> String {
    let mut counts: BTreeMap<(&str, runs::Reason), BTreeMap<&str, usize>> = BTreeMap::new();
    for outcome in outcomes {
        if let Err(skip) = &outcome.result {
            let of_reason = counts.entry((&outcome.row.source, skip.reason)).or_default();
            *of_reason.entry(&skip.what).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["skipped, trust C among them", "reason", "rows", "for example"]);
    for ((source, reason), whats) in counts {
        let rows: usize = whats.values().sum();
        let example = whats.iter().max_by_key(|(_, n)| **n).map_or("", |(what, _)| what);
        table.row([source, &reason.to_string(), &thousands(rows), example]);
    }
    format!("\n{table}")
}

/// By source, and by family of GPUs.
fn collectives_tables(report: &collectives::Report) -> String {
    let mut sources =
        Table::new(["collectives", "rows", "skipped", "mean", "median", "p90", "from 1 MiB", "by"]);
    for s in &report.sources {
        sources.row([
            s.source.clone(),
            s.n.to_string(),
            s.skipped.to_string(),
            percent(s.mape),
            percent(s.median_ape),
            percent(s.p90_ape),
            percent(s.large.median_ape),
            match s.scored_by {
                collectives::ScoredBy::LeaveOneOut => "others' fit".to_string(),
                collectives::ScoredBy::Shipped => "shipped fit".to_string(),
            },
        ]);
    }
    let mut gpus =
        Table::new(["collectives by GPU", "rows", "median", "from 1 MiB", "GPU left out", "from 1 MiB"]);
    for g in &report.gpus {
        gpus.row([
            g.gpu.clone(),
            g.scored.all.n.to_string(),
            percent(g.scored.all.median_ape),
            percent(g.scored.large.median_ape),
            percent(g.leave_one_out.all.median_ape),
            percent(g.leave_one_out.large.median_ape),
        ]);
    }
    let o = report.overall;
    let mean = format!(
        "mean over sources of the median error: {} over {} sources, {} from 1 MiB over {}",
        percent(o.median_ape),
        o.sources,
        percent(o.large_median_ape),
        o.large_sources
    );
    format!(
        "{sources}\n{gpus}\nErrors of the time in percent of the measured one; {mean}; docs/validate.md\n"
    )
}
