//! A comparison of planners as a table, as CSV and as JSON.

use super::table::{Table, seconds};
use serde_json::{Value, json};
use sim_models::iteration::DeviceReport;
use sim_search::judge::{Judge, Verdict};
use std::fmt::Write;

/// Scenarios, and what became of the planners on each.
pub(crate) struct Comparison {
    /// By whom the plans were judged.
    pub(crate) judge: Judge,
    /// One a scenario.
    pub(crate) cases: Vec<Case>,
}

/// One scenario.
pub(crate) struct Case {
    pub(crate) scenario: String,
    pub(crate) about: String,
    pub(crate) rows: Vec<Row>,
    /// Kendall's tau between the judges, in the order of [`Judge::ALL`].
    pub(crate) agreement: Vec<Vec<Option<f64>>>,
}

/// One planner on one scenario.
pub(crate) struct Row {
    pub(crate) planner: String,
    /// None for a plan file.
    pub(crate) search_time_s: Option<f64>,
    pub(crate) candidates: u64,
    /// Whether its time was up; it may have an answer all the same.
    pub(crate) ran_out: bool,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    Judged(Box<Verdict>),
    Failed(String),
}

/// Shares of all device time.
pub(crate) struct Parts {
    pub(crate) compute: f64,
    pub(crate) exposed: f64,
    pub(crate) bubble: f64,
}

impl Row {
    pub(crate) fn verdict(&self) -> Option<&Verdict> {
        match &self.outcome {
            Outcome::Judged(verdict) => Some(verdict),
            Outcome::Failed(_) => None,
        }
    }

    /// The judge's time of a plan that fits.
    pub(crate) fn time_s(&self) -> Option<f64> {
        self.verdict().filter(|v| v.fits).map(|v| v.time_s)
    }
}

/// Where the simulated time goes, over the plan's devices.
pub(crate) fn parts(verdict: &Verdict) -> Parts {
    let (mut parts, mut all) = (Parts { compute: 0.0, exposed: 0.0, bubble: 0.0 }, 0.0);
    for d in &verdict.iteration.devices {
        let n = f64::from(d.count);
        parts.compute += d.busy_s * n;
        parts.exposed += d.exposed_comm_s * n;
        parts.bubble += d.bubble_s * n;
        all += (d.busy_s + d.exposed_comm_s + d.bubble_s) * n;
    }
    if all > 0.0 {
        parts.compute /= all;
        parts.exposed /= all;
        parts.bubble /= all;
    }
    parts
}

/// The device that comes nearest to its memory, or is furthest beyond it.
pub(crate) fn fullest(verdict: &Verdict) -> Option<&DeviceReport> {
    let share = |d: &DeviceReport| d.peak_memory_bytes as f64 / d.memory_bytes.max(1) as f64;
    verdict.iteration.devices.iter().max_by(|a, b| share(a).total_cmp(&share(b)))
}

/// GPUs that a plan uses.
pub(crate) fn gpus(verdict: &Verdict) -> u64 {
    verdict.iteration.devices.iter().map(|d| u64::from(d.count)).sum()
}

/// A plan in a few words: `8 pipelines of 1 to 3 stages, tp 1, 4, micro-batch 2`.
pub(crate) fn shape(verdict: &Verdict) -> String {
    let plan = &verdict.plan;
    let depth = || plan.pipelines.iter().map(|p| p.stages.len());
    let (low, high) = (depth().min().unwrap_or(0), depth().max().unwrap_or(0));
    let depth = if low == high { low.to_string() } else { format!("{low}-{high}") };
    let mut tps: Vec<u32> = plan.pipelines.iter().flat_map(|p| &p.stages).map(|s| s.tp).collect();
    tps.sort_unstable();
    tps.dedup();
    let tps: Vec<String> = tps.iter().map(u32::to_string).collect();
    format!("dp {} x pp {depth} x tp {}, mbs {}", plan.pipeline_count(), tps.join("/"), plan.micro_batch)
}

impl Case {
    /// The best time of a plan that fits.
    pub(crate) fn best_s(&self) -> Option<f64> {
        self.rows.iter().filter_map(Row::time_s).min_by(f64::total_cmp)
    }
}

impl Comparison {
    /// Planners in the order of the first case.
    pub(crate) fn planners(&self) -> Vec<&str> {
        self.cases.first().map_or(Vec::new(), |c| c.rows.iter().map(|r| r.planner.as_str()).collect())
    }

    /// Of a planner: the geometric mean of its time over the best, over the scenarios that it has a plan for, and how many
    /// those are.
    pub(crate) fn mean_ratio(&self, planner: &str) -> (Option<f64>, usize) {
        let ratio = |c: &Case| {
            let row = c.rows.iter().find(|r| r.planner == planner)?;
            Some(libm::log(row.time_s()? / c.best_s()?))
        };
        let logs: Vec<f64> = self.cases.iter().filter_map(ratio).collect();
        let mean = (!logs.is_empty()).then(|| libm::exp(logs.iter().sum::<f64>() / logs.len() as f64));
        (mean, logs.len())
    }

    /// Of a planner: the geometric mean of its own estimate over the judge's time; 1 is a planner that knows.
    pub(crate) fn mean_own(&self, planner: &str) -> Option<f64> {
        let ratio = |c: &Case| {
            let verdict = c.rows.iter().find(|r| r.planner == planner)?.verdict()?;
            Some(libm::log(verdict.own_estimate_s? / verdict.time_s))
        };
        let logs: Vec<f64> = self.cases.iter().filter_map(ratio).collect();
        (!logs.is_empty()).then(|| libm::exp(logs.iter().sum::<f64>() / logs.len() as f64))
    }

    /// Kendall's tau between two judges, the mean over scenarios.
    pub(crate) fn agreement(&self, a: usize, b: usize) -> Option<f64> {
        let known: Vec<f64> = self.cases.iter().filter_map(|c| c.agreement[a][b]).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for case in &self.cases {
            let _ = writeln!(text, "{}: {}\njudge: {}\n", case.scenario, case.about, self.judge.name());
            text += &case.table();
            text.push('\n');
        }
        if self.cases.len() > 1 {
            text += "over all scenarios, geometric means\n\n";
            let mut table = Table::new(["planner", "time / best", "scenarios", "own estimate / judged"]);
            for planner in self.planners() {
                let (mean, n) = self.mean_ratio(planner);
                let figure = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
                table.row([planner.into(), figure(mean), n.to_string(), figure(self.mean_own(planner))]);
            }
            text += &table.to_string();
            text.push('\n');
        }
        text += "rank agreement of cost models over these plans (Kendall's tau)\n\n";
        text += &self.agreement_table();
        text
    }

    fn agreement_table(&self) -> String {
        let mut table = Table::new(std::iter::once("").chain(Judge::ALL.map(Judge::name)));
        for (a, judge) in Judge::ALL.iter().enumerate() {
            let cell = |b: usize| self.agreement(a, b).map_or("-".into(), |t| format!("{t:.2}"));
            let cells = (0..Judge::ALL.len()).map(cell);
            table.row(std::iter::once(judge.name().to_string()).chain(cells));
        }
        table.to_string()
    }

    pub(crate) fn csv(&self) -> String {
        let mut text = String::from(
            "scenario,planner,judge,iteration_time_s,time_over_best,own_estimate_s,search_time_s,candidates,feasible,passed_over,gpus,compute,exposed,bubble,peak_memory_share,shape,error\n",
        );
        for case in &self.cases {
            for row in &case.rows {
                let mut cells = vec![case.scenario.clone(), row.planner.clone(), self.judge.name().into()];
                let number = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
                let search = number(row.search_time_s);
                match &row.outcome {
                    Outcome::Judged(v) => {
                        let p = parts(v);
                        let over = row.time_s().zip(case.best_s()).map(|(t, b)| t / b);
                        let share =
                            fullest(v).map(|d| d.peak_memory_bytes as f64 / d.memory_bytes.max(1) as f64);
                        cells.extend([
                            number(Some(v.time_s)),
                            number(over),
                            number(v.own_estimate_s),
                            search,
                            row.candidates.to_string(),
                            v.fits.to_string(),
                            v.passed_over.to_string(),
                            gpus(v).to_string(),
                            number(Some(p.compute)),
                            number(Some(p.exposed)),
                            number(Some(p.bubble)),
                            number(share),
                            shape(v),
                            String::new(),
                        ]);
                    }
                    Outcome::Failed(error) => {
                        cells.extend([String::new(), String::new(), String::new(), search]);
                        cells.extend([row.candidates.to_string(), "false".into()]);
                        cells.extend(std::iter::repeat_n(String::new(), 7));
                        cells.push(error.clone());
                    }
                }
                let quoted = |c: &String| {
                    if c.contains([',', '"', '\n']) {
                        format!("\"{}\"", c.replace('"', "\"\""))
                    } else {
                        c.clone()
                    }
                };
                text += &cells.iter().map(quoted).collect::<Vec<_>>().join(",");
                text.push('\n');
            }
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let row = |r: &Row| {
            let (verdict, error) = match &r.outcome {
                Outcome::Judged(v) => (Some(v), None),
                Outcome::Failed(error) => (None, Some(error)),
            };
            let p = verdict.map(|v| parts(v));
            json!({
                "planner": r.planner,
                "plan": verdict.map(|v| &v.plan),
                "iteration_time_s": verdict.map(|v| v.time_s),
                "simulated_time_s": verdict.map(|v| v.iteration.time.as_secs_f64()),
                "own_estimate_s": verdict.and_then(|v| v.own_estimate_s),
                "search_time_s": r.search_time_s,
                "candidates": r.candidates,
                "feasible": verdict.is_some_and(|v| v.fits),
                "error": error,
                "out_of_time": r.ran_out,
                "passed_over": verdict.map(|v| v.passed_over),
                "gpus": verdict.map(|v| gpus(v)),
                "compute": p.as_ref().map(|p| p.compute),
                "exposed_comm": p.as_ref().map(|p| p.exposed),
                "bubble": p.as_ref().map(|p| p.bubble),
                "peak_memory_bytes": verdict.and_then(|v| fullest(v)).map(|d| d.peak_memory_bytes),
                "memory_bytes": verdict.and_then(|v| fullest(v)).map(|d| d.memory_bytes),
            })
        };
        let case = |c: &Case| {
            let rows: Vec<Value> = c.rows.iter().map(row).collect();
            json!({ "scenario": c.scenario, "planners": rows, "rank_agreement": c.agreement })
        };
        let mean = |p: &str| {
            let (ratio, n) = self.mean_ratio(p);
            json!({ "planner": p, "time_over_best": ratio, "scenarios": n, "own_estimate_over_judged": self.mean_own(p) })
        };
        json!({
            "judge": self.judge.name(),
            "scenarios": self.cases.iter().map(case).collect::<Vec<_>>(),
            "geometric_mean": self.planners().into_iter().map(mean).collect::<Vec<_>>(),
            "judges": Judge::ALL.map(Judge::name),
        })
    }
}

impl Case {
    fn table(&self) -> String {
        let mut table = Table::new([
            "planner",
            "time",
            "/ best",
            "own estimate",
            "search",
            "candidates",
            "GPUs",
            "compute",
            "exposed",
            "bubble",
            "memory",
            "plan",
        ]);
        for row in &self.rows {
            let search = row.search_time_s.map_or("-".into(), seconds);
            match &row.outcome {
                Outcome::Judged(v) => {
                    let p = parts(v);
                    let percent = |x: f64| format!("{:.0} %", 100.0 * x);
                    let over =
                        row.time_s().zip(self.best_s()).map_or("-".into(), |(t, b)| format!("{:.3}", t / b));
                    let own = v.own_estimate_s.map_or("-".into(), |own| {
                        format!("{} ({:+.0} %)", seconds(own), 100.0 * (own / v.time_s - 1.0))
                    });
                    let share = fullest(v).map_or("-".into(), |d| {
                        percent(d.peak_memory_bytes as f64 / d.memory_bytes.max(1) as f64)
                    });
                    let mut note = shape(v);
                    if !v.fits {
                        note = format!("does not fit: {note}");
                    } else if v.passed_over > 0 {
                        note += &format!("; {} before it passed over", v.passed_over);
                    }
                    table.row([
                        row.planner.clone(),
                        seconds(v.time_s),
                        over,
                        own,
                        search,
                        row.candidates.to_string(),
                        gpus(v).to_string(),
                        percent(p.compute),
                        percent(p.exposed),
                        percent(p.bubble),
                        share,
                        note,
                    ]);
                }
                Outcome::Failed(error) => {
                    let dash = || "-".to_string();
                    let mut cells =
                        vec![row.planner.clone(), dash(), dash(), dash(), search, row.candidates.to_string()];
                    cells.extend((0..5).map(|_| dash()));
                    cells.push(error.clone());
                    table.row(cells);
                }
            }
        }
        table.to_string()
    }
}
