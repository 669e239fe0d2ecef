//! `plan --explain`: where the best plan's time goes, what the next best lose by, and what became of every family of plans that
//! it was chosen from.

use super::plan::{Best, in_full, in_results};
use super::simulate::not_simulated;
use crate::failure::Failure;
use crate::report::table::{Table, seconds, thousands};
use serde_json::{Map, Value, json};
use sim_core::SimTime;
use sim_models::explain::{Parts, explain};
use sim_models::iteration::Options;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use sim_search::families::{Common, Family, Plans, Rejected, Thrown};
use sim_search::space::Split;
use sim_search::{Found, Objective, Rule};
use std::fmt::Write;

/// Families and templates that are shown; JSON has them all.
const MOST_ROWS: usize = 12;

/// Titles of the parts, in the order of [`Parts::each`]: docs/explain.md says what they are.
const PARTS: [&str; 6] = ["compute", "exposed TP", "exposed PP", "exposed DP", "bubble", "wait"];

/// One ranked plan, explained.
struct Row {
    time_s: f64,
    value: f64,
    /// Mean time of the devices in use, by part, s.
    parts: Parts<f64>,
}

/// The answer of a search, explained.
pub(super) struct Explained<'a> {
    scenario: &'a Scenario,
    objective: Objective,
    /// The ranked plans, best first.
    rows: Vec<Row>,
    rejected: Rejected,
    best: Option<u64>,
}

impl<'a> Explained<'a> {
    /// Of what a search found, and what became of the rest.
    pub(super) fn of(
        scenario: &'a Scenario,
        (found, rejected): (&Found, Rejected),
        best: Option<&Best>,
        objective: Objective,
        at: SimTime,
    ) -> Result<Explained<'a>, Failure> {
        let fabric = Fabric::new(scenario);
        let mut rows = Vec::new();
        for (i, ranked) in found.ranked.iter().enumerate() {
            let value = in_results(scenario, objective, ranked.value);
            rows.push(match best.filter(|_| i == 0) {
                Some((plan, layout, _)) => row(scenario, &fabric, plan, layout, at, value)?,
                None => {
                    let (layout, _) = in_full(scenario, &ranked.plan, at)?;
                    row(scenario, &fabric, &ranked.plan, &layout, at, value)?
                }
            });
        }
        let best = found.ranked.first().map(|r| r.value);
        Ok(Explained { scenario, objective, rows, rejected, best })
    }

    /// By which share a value is above that of the best plan.
    fn above(&self, value: u64) -> Option<f64> {
        self.best.map(|best| value as f64 / best as f64 - 1.0)
    }

    /// The step of the ladder at which the nearest of a family fell, or most of its plans.
    fn falls_by(&self, family: &Family) -> &'static str {
        let p = &family.plans;
        if family.best.is_some() && family.best == self.best {
            return "best";
        }
        if p.open > 0 {
            return "open";
        }
        if family.best.is_some() {
            return "simulation";
        }
        let rule = p.pruned.iter().max_by_key(|(_, n)| **n).map_or(("", 0), |(r, n)| (r.name(), *n));
        [("bound", p.bounded), rule].into_iter().max_by_key(|(_, n)| *n).map_or("", |(name, _)| name)
    }

    /// The values of `explain` and `rejected`.
    pub(super) fn json(&self) -> (Value, Value) {
        let first = self.rows.first();
        let plans: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let parts: Map<String, Value> =
                    row.parts.each().into_iter().map(|(name, s)| (name.into(), json!(s))).collect();
                let lost = first.and_then(|best| loses_by(row, best));
                json!({
                    "iteration_time_s": row.time_s,
                    "objective_value": row.value,
                    "parts_s": parts,
                    "slower_by": first.map(|best| row.time_s / best.time_s - 1.0),
                    "loses_by": lost.map(|(i, s)| json!({ "part": row.parts.each()[i].0, "seconds": s })),
                })
            })
            .collect();
        let worth = |v: Option<u64>| v.map(|v| in_results(self.scenario, self.objective, v));
        let families: Vec<Value> = self
            .rejected
            .families
            .iter()
            .map(|f| {
                let mut value = common(&f.common);
                value["most_stages"] = json!(f.most_stages);
                value["nodes"] = json!(f.nodes);
                numbers(&mut value, &f.plans);
                value["falls_by"] = json!(self.falls_by(f));
                value["best_value"] = json!(worth(f.best));
                value["least_bound"] = json!(worth(f.least_bound));
                value["above_best_by"] = json!(f.best.or(f.least_bound).and_then(|v| self.above(v)));
                value
            })
            .collect();
        let templates: Vec<Value> = self.rejected.templates.iter().map(template).collect();
        let mut all = json!({});
        numbers(&mut all, &self.rejected.all);
        all["families"] = json!(families);
        all["templates"] = json!(templates);
        (json!({ "plans": plans }), all)
    }

    /// Sections of text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(best) = self.rows.first() {
            text += "\nwhy this plan: mean time of the devices in use by part, s, and what the next best lose by\n";
            let titles = ["plan", "time"].into_iter().chain(PARTS).chain(["loses most by"]);
            let mut table = Table::new(titles);
            for (i, row) in self.rows.iter().enumerate() {
                let mut cells = vec![
                    if i == 0 { "best".into() } else { (i + 1).to_string() },
                    match row.time_s / best.time_s - 1.0 {
                        _ if i == 0 => seconds(row.time_s),
                        slower => format!("{:+.2} %", 100.0 * slower),
                    },
                ];
                cells.extend(row.parts.each().map(|(_, s)| format!("{s:.4}")));
                cells.push(
                    loses_by(row, best)
                        .map_or(String::new(), |(part, s)| format!("{}, {}", PARTS[part], seconds(s))),
                );
                table.row(cells);
            }
            text += &table.to_string();
        }
        let all = &self.rejected.all;
        let _ = writeln!(
            text,
            "\nof {} plans {} were simulated: {} never reached the simulator",
            thousands(all.represented),
            thousands(all.simulated),
            share(all.represented.saturating_sub(all.simulated), all.represented)
        );
        let mut table = Table::new(["plans", "share", ""]);
        for (n, what) in by_rule(all) {
            table.row([thousands(n), share(n, all.represented), what.to_string()]);
        }
        text += &table.to_string();
        text += "\nfamilies of plans, the one with the best plan simulated first\n";
        text += &self.families();
        if !self.rejected.templates.is_empty() {
            text += "\npipelines that are in no plan of the space\n";
            text += &self.templates();
        }
        text
    }

    fn families(&self) -> String {
        let mut table = Table::new([
            "pipelines",
            "micro-batch",
            "stages",
            "plans",
            "simulated",
            "falls by",
            "above the best by",
        ]);
        let families = &self.rejected.families;
        for f in families.iter().take(MOST_ROWS) {
            let near = match (f.best, f.least_bound) {
                (Some(best), _) => self.above(best).map(|above| format!("{:.1} %", 100.0 * above)),
                (None, Some(bound)) => self.above(bound).map(|above| match 100.0 * above {
                    below if below < -0.05 => format!("no more than {:.1} % below", -below),
                    above => format!("at least {above:.1} %"),
                }),
                (None, None) => None,
            };
            table.row([
                words(&f.common),
                f.common.micro_batch.to_string(),
                if f.most_stages == 0 { "any".into() } else { format!("to {}", f.most_stages) },
                thousands(f.plans.represented),
                thousands(f.plans.simulated),
                self.falls_by(f).into(),
                near.unwrap_or("-".into()),
            ]);
        }
        let mut text = table.to_string();
        if families.len() > MOST_ROWS {
            let _ = writeln!(text, "and {} more: --json has them all", families.len() - MOST_ROWS);
        }
        text
    }

    fn templates(&self) -> String {
        let mut table = Table::new(["pipelines", "micro-batch", "numbers of stages", "why"]);
        let list = &self.rejected.templates;
        for t in list.iter().take(MOST_ROWS) {
            let lack = t
                .least_lacking_bytes
                .map_or(String::new(), |b| format!(", {:.2} GiB at least", Bytes(b).as_gib()));
            table.row([
                words(&t.common),
                t.common.micro_batch.to_string(),
                t.templates.to_string(),
                format!("{}{lack}", t.rule.reason()),
            ]);
        }
        let mut text = table.to_string();
        if list.len() > MOST_ROWS {
            let _ = writeln!(text, "and {} more: --json has them all", list.len() - MOST_ROWS);
        }
        text
    }
}

fn row(
    scenario: &Scenario,
    fabric: &Fabric,
    plan: &Plan,
    layout: &sim_models::layout::Layout,
    at: SimTime,
    value: f64,
) -> Result<Row, Failure> {
    let explanation =
        explain(scenario, fabric, plan, layout, &Options { at, fold: true }).map_err(not_simulated)?;
    let devices: u64 = explanation.stages.iter().map(|s| s.devices).sum();
    let parts = explanation.overall().map(|ps| ps as f64 / 1e12 / devices.max(1) as f64);
    Ok(Row { time_s: explanation.time.as_secs_f64(), value, parts })
}

/// The part of which a plan has most more than the best, and how much, s.
fn loses_by(row: &Row, best: &Row) -> Option<(usize, f64)> {
    let more = row.parts.each().into_iter().zip(best.parts.each()).map(|(a, b)| a.1 - b.1);
    more.enumerate().filter(|(_, s)| *s > 0.0).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Plans by what became of them.
fn by_rule(plans: &Plans) -> Vec<(u128, &'static str)> {
    let mut list: Vec<(u128, &'static str)> = plans.pruned.iter().map(|(r, n)| (*n, r.reason())).collect();
    list.push((plans.bounded, "a lower bound is above the best time"));
    list.push((plans.simulated, "simulated, no further than the best so far"));
    list.push((plans.open, "left when the search stopped"));
    list.retain(|(n, _)| *n > 0);
    list
}

fn numbers(value: &mut Value, plans: &Plans) {
    let pruned: Map<String, Value> = Rule::ALL
        .iter()
        .filter_map(|r| Some((r.name().into(), json!(plans.pruned.get(r)?.to_string()))))
        .collect();
    value["plans_represented"] = json!(plans.represented.to_string());
    value["never_simulated"] = json!(plans.never_simulated());
    value["bounded"] = json!(plans.bounded.to_string());
    value["pruned"] = json!(pruned);
    value["simulated"] = json!(plans.simulated.to_string());
    value["open"] = json!(plans.open.to_string());
}

fn common(of: &Common) -> Value {
    let kind = |(gpu, split): &(String, Split)| {
        let mut value = json!({ "gpu": gpu, "tp": split.tp });
        for (name, degree) in [("cp", split.cp), ("ep", split.ep)].into_iter().filter(|(_, n)| *n > 1) {
            value[name] = json!(degree);
        }
        value
    };
    let joined: Vec<Value> = of.joined.iter().map(kind).collect();
    json!({ "micro_batch": of.micro_batch, "recipe": of.recipe, "joined": joined })
}

fn template(thrown: &Thrown) -> Value {
    let mut value = common(&thrown.common);
    value["rule"] = json!(thrown.rule.name());
    value["templates"] = json!(thrown.templates);
    value["least_lacking_bytes"] = json!(thrown.least_lacking_bytes);
    value
}

/// `A100-40 tp 4 > V100-16 tp 2`, or that kinds are apart.
fn words(of: &Common) -> String {
    let stages: Vec<String> = of.joined.iter().map(|(gpu, split)| format!("{gpu} {split}")).collect();
    let pipelines = if stages.is_empty() { "of each kind by itself".into() } else { stages.join(" > ") };
    if of.recipe.is_empty() { pipelines } else { format!("{pipelines}, with {}", of.recipe) }
}

/// The share of some plans as a person reads it, also when it is nearly all or hardly any.
fn share(n: u128, all: u128) -> String {
    let (part, rest) = (n as f64 / all.max(1) as f64, all.saturating_sub(n) as f64 / all.max(1) as f64);
    match (100.0 * part, 100.0 * rest) {
        (_, rest) if rest > 0.0 && rest < 5e-3 => format!("100 - {rest:.1e} %"),
        (part, _) if part > 0.0 && part < 5e-3 => format!("{part:.1e} %"),
        (part, _) => format!("{part:.2} %"),
    }
}
