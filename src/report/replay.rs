//! A replay for people and programs: table, JSON, CSV, a page with charts, a timeline of a window.

use super::svg::{Chart, Line, escape, sparkline};
use super::table::{Table, seconds, thousands};
use serde_json::{Value, json};
use sim_core::SimTime;
use sim_models::iteration::{Options as IterationOptions, Simulator, simulate_with};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_search::replay::{Outcome, Report, Sweep, Trajectory};
use std::fmt::Write;

/// Points of a curve.
const CELLS: u64 = 240;
/// Iterations of a timeline.
const MOST_ITERATIONS: usize = 200;

fn secs(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Share of the time in which iterations were under way.
fn availability(report: &Report, t: &Trajectory) -> f64 {
    let idle = t.switching + t.restarting + t.checkpointing + t.waiting;
    1.0 - idle as f64 / (report.until - report.start) as f64
}

/// Share of the time that went into iterations that count.
fn goodput(report: &Report, t: &Trajectory) -> f64 {
    let all: u128 = t.spans.iter().map(|s| u128::from(s.length) * u128::from(s.count)).sum();
    let done = u128::from(t.iterations + t.lost).max(1);
    (all as f64) * (t.iterations as f64 / done as f64) / (report.until - report.start) as f64
}

/// (s, tokens that count by then) at equal steps.
fn curve(report: &Report, t: &Trajectory) -> Vec<(f64, f64)> {
    let length = report.until - report.start;
    let cells = CELLS.min(length);
    let mut points = Vec::with_capacity(cells as usize + 1);
    let (mut span, mut loss, mut done, mut within) = (0, 0, 0u64, 0u64);
    for i in 0..=cells {
        let at = report.start + (u128::from(length) * u128::from(i) / u128::from(cells)) as u64;
        while let Some(s) = t.spans.get(span) {
            let lost = t.losses.get(loss).filter(|l| l.0 <= s.start + within * s.length && l.0 <= at);
            if let Some((_, kept)) = lost {
                (done, loss) = (*kept, loss + 1);
                continue;
            }
            let ended = if at < s.start { 0 } else { ((at - s.start) / s.length).min(s.count) };
            done += ended - within.min(ended);
            within = within.max(ended);
            if within < s.count {
                break;
            }
            (span, within) = (span + 1, 0);
        }
        while let Some((_, kept)) =
            t.losses.get(loss).filter(|l| l.0 <= at && t.spans.get(span).is_none_or(|s| s.start >= l.0))
        {
            (done, loss) = (*kept, loss + 1);
        }
        points.push((secs(at), done as f64 * report.tokens_per_iteration as f64));
    }
    points
}

pub(crate) fn json(
    report: &Report,
    seeded: &[Report],
    links: &[&Sweep],
    costs: &[&[(u64, Report)]],
) -> Value {
    let time_s = secs(report.until - report.start);
    let policy = |(i, o): (usize, &Outcome)| {
        let t = &o.trajectory;
        let mut value = json!({
            "policy": o.policy,
            "iterations": t.iterations,
            "tokens": o.tokens,
            "time_s": time_s,
            "tokens_per_s": o.tokens as f64 / time_s,
            "switches": t.switches.len(),
            "switch_time_s": secs(t.switching),
            "regret": o.regret,
            "digest": t.digest.to_string(),
            "goodput": goodput(report, t),
            "availability": availability(report, t),
            "lost_iterations": t.lost,
            "losses": t.losses.len(),
            "restart_time_s": secs(t.restarting),
            "checkpoints": t.checkpoints,
            "checkpoint_time_s": secs(t.checkpointing),
            "waiting_s": secs(t.waiting),
            "unfinished_s": secs(t.unfinished),
            "stalled_from_s": t.stalled.map(secs),
            "switched": t.switches.iter().map(|s| json!({
                "at_s": secs(s.at), "from": s.from.0, "to": s.to.0, "cost_s": secs(s.cost), "bytes": s.bytes,
            })).collect::<Vec<_>>(),
            "curve": curve(report, t).iter().map(|(t, n)| json!([t, n])).collect::<Vec<_>>(),
        });
        if !seeded.is_empty() {
            let (mean, low, high) = interval(seeded, i);
            value["seeds"] = json!({ "n": seeded.len(), "mean_tokens": mean, "tokens_90": [low, high] });
        }
        value
    };
    let mut object = json!({
        "policies": report.outcomes.iter().enumerate().map(policy).collect::<Vec<_>>(),
        "upper_bound_tokens": report.upper_bound_tokens,
        "digest": report.digest.to_string(),
        "start_s": secs(report.start),
        "until_s": secs(report.until),
        "tokens_per_iteration": report.tokens_per_iteration,
        "oracle_is": report.oracle_is,
        "best_checkpoint_interval_s": report.best_checkpoint.map(|b| secs(b.0)),
        "plans": report.plans,
        "simulated": report.simulated,
        "reused": report.reused,
    });
    if !links.is_empty() {
        object["sweep"] = links.iter().map(|s| sweep_json(s)).collect();
    }
    if !costs.is_empty() {
        let at = |(cost, r): &(u64, Report)| {
            let policies: Vec<Value> = r
                .outcomes
                .iter()
                .map(|o| json!({ "policy": o.policy, "tokens": o.tokens, "switches": o.trajectory.switches.len(), "regret": o.regret }))
                .collect();
            json!({ "switch_cost_s": secs(*cost), "policies": policies, "upper_bound_tokens": r.upper_bound_tokens })
        };
        object["switch_sweep"] = costs.iter().flat_map(|c| c.iter()).map(at).collect();
    }
    object
}

fn sweep_json(s: &Sweep) -> Value {
    json!({
        "link": s.link,
        "level_bandwidth_bps": s.level * 8.0,
        "plans": s.plans,
        "points": s.points.iter().map(|p| json!({
            "scale": p.scale, "bandwidth_bps": p.bytes_per_s * 8.0, "best": p.best, "iteration_time_s": p.times_s,
        })).collect::<Vec<_>>(),
        "break_even": s.break_even.iter().map(|b| json!({
            "below": b.below, "above": b.above, "bandwidth_bps": (b.bytes_per_s.0 * b.bytes_per_s.1).sqrt() * 8.0,
            "between_bps": [b.bytes_per_s.0 * 8.0, b.bytes_per_s.1 * 8.0],
        })).collect::<Vec<_>>(),
    })
}

/// Mean tokens of a policy over the seeds, and the interval that nine of ten lie in: mean ± 1.645 deviations.
fn interval(seeded: &[Report], policy: usize) -> (f64, f64, f64) {
    let tokens: Vec<f64> = seeded.iter().map(|r| r.outcomes[policy].tokens as f64).collect();
    let n = tokens.len() as f64;
    let mean = tokens.iter().sum::<f64>() / n;
    let square = tokens.iter().map(|t| (t - mean) * (t - mean)).sum::<f64>();
    let deviation = if n > 1.0 { (square / (n - 1.0)).sqrt() } else { 0.0 };
    (mean, mean - 1.645 * deviation, mean + 1.645 * deviation)
}

pub(crate) fn text(
    scenario: &Scenario,
    report: &Report,
    seeded: &[Report],
    links: &[&Sweep],
    costs: &[&[(u64, Report)]],
) -> String {
    let mut text = format!("{}: {}\n\n", scenario.name, scenario.about);
    let time = secs(report.until - report.start);
    let _ = writeln!(
        text,
        "from {} to {}, {} of it",
        span(report.start),
        span(report.until),
        span(report.until - report.start)
    );
    for (name, values, low, high) in bandwidths(scenario, report) {
        let _ = writeln!(text, "{name}  {}  {low:.3} to {high:.3} Gbit/s", sparkline(&values, 60));
    }
    text.push('\n');
    let mut table = Table::new([
        "policy",
        "tokens",
        "tokens/s",
        "iterations",
        "lost",
        "switches",
        "switching",
        "goodput",
        "regret",
        "of the bound",
    ]);
    for o in &report.outcomes {
        let t = &o.trajectory;
        table.row([
            o.policy.clone(),
            thousands(o.tokens),
            format!("{:.0}", o.tokens as f64 / time),
            thousands(t.iterations),
            thousands(t.lost),
            t.switches.len().to_string(),
            seconds(secs(t.switching)),
            format!("{:.1} %", 100.0 * goodput(report, t)),
            format!("{:.1} %", 100.0 * o.regret),
            format!("{:.1} %", 100.0 * o.tokens as f64 / report.upper_bound_tokens.max(1) as f64),
        ]);
    }
    text += &table.to_string();
    let _ = writeln!(
        text,
        "\nupper bound: {} tokens; the oracle is {}",
        thousands(report.upper_bound_tokens),
        whose(report)
    );
    for o in &report.outcomes {
        let t = &o.trajectory;
        if let Some(at) = t.stalled {
            let _ = writeln!(
                text,
                "{}: stalled from {} on: a link that it needs carries nothing any more",
                o.policy,
                span(at)
            );
        }
        if t.waiting > 0 {
            let _ = writeln!(text, "{}: waited {} for nodes", o.policy, span(t.waiting));
        }
    }
    if let Some((interval, tokens)) = report.best_checkpoint {
        let _ = writeln!(
            text,
            "best interval between checkpoints: {}, {} tokens by the static policy",
            span(interval),
            thousands(tokens)
        );
    }
    if !seeded.is_empty() {
        let _ = writeln!(text, "\nwith measured jitter, {} seeds:", seeded.len());
        let mut table = Table::new(["policy", "mean tokens", "90 % from", "to"]);
        for (i, o) in report.outcomes.iter().enumerate() {
            let (mean, low, high) = interval(seeded, i);
            table.row([
                o.policy.clone(),
                thousands(mean as u64),
                thousands(low.max(0.0) as u64),
                thousands(high as u64),
            ]);
        }
        text += &table.to_string();
    }
    for s in links {
        text += &sweep_text(s);
    }
    for at in costs {
        text.push('\n');
        let names =
            at.first().map_or(Vec::new(), |a| a.1.outcomes.iter().map(|o| o.policy.clone()).collect());
        let mut table = Table::new(std::iter::once("switch cost".to_string()).chain(names));
        for (cost, r) in *at {
            let cells = r
                .outcomes
                .iter()
                .map(|o| format!("{} ({})", thousands(o.tokens), o.trajectory.switches.len()));
            table.row(std::iter::once(span(*cost)).chain(cells));
        }
        text += &table.to_string();
        text += "tokens (switches) by the fixed part of a switch\n";
    }
    let _ = writeln!(
        text,
        "\n{} iterations simulated, {} reused, digest {}",
        thousands(report.simulated),
        thousands(report.reused),
        report.digest
    );
    text
}

fn whose(report: &Report) -> String {
    match report.oracle_is.as_str() {
        "schedule" => "its own schedule".into(),
        "nobody" => "nobody's".into(),
        policy => format!("the {policy} policy's run"),
    }
}

fn sweep_text(s: &Sweep) -> String {
    let mut text = format!("\nlink {}, level {:.3} Gbit/s:\n", s.link, s.level * 8e-9);
    for (i, plan) in s.plans.iter().enumerate() {
        let shape = super::plan::shape(plan);
        let _ = writeln!(text, "plan {}: micro-batch {}, {shape}", letter(i), plan.micro_batch);
    }
    let mut table = Table::new(["below", "above", "break-even, Gbit/s"]);
    for b in &s.break_even {
        let at = (b.bytes_per_s.0 * b.bytes_per_s.1).sqrt() * 8e-9;
        table.row([letter(b.below), letter(b.above), format!("{at:.3}")]);
    }
    if s.break_even.is_empty() {
        text += "one plan is the best throughout\n";
    } else {
        text += &table.to_string();
    }
    text
}

fn letter(i: usize) -> String {
    let letter = char::from(b'A' + (i % 26) as u8);
    if i < 26 { letter.to_string() } else { format!("{letter}{}", i / 26) }
}

/// A length of time as a person says it.
fn span(ns: u64) -> String {
    let s = secs(ns);
    match s {
        s if s >= 172_800.0 => format!("{:.1} d", s / 86_400.0),
        s if s >= 7_200.0 => format!("{:.2} h", s / 3_600.0),
        s => seconds(s),
    }
}

/// Of each link that changes, at most six: Gbit/s over time, lowest and highest.
fn bandwidths(scenario: &Scenario, report: &Report) -> Vec<(String, Vec<f64>, f64, f64)> {
    let changing =
        scenario.zone_links.iter().zip(&scenario.replay.links).filter(|(_, l)| !l.capacity.is_constant());
    let gbps = |raw: u64| raw as f64 / 65_536.0 * 8e-9;
    let one = |(link, l): (&sim_models::scenario::ZoneLink, &sim_models::replay::LinkChanges)| {
        let length = report.until - report.start;
        let cells = CELLS.min(length);
        let edge = |i: u64| report.start + (u128::from(length) * u128::from(i) / u128::from(cells)) as u64;
        let values: Vec<f64> = (0..cells).map(|i| gbps(l.capacity.mean(edge(i), edge(i + 1)))).collect();
        let low = values.iter().fold(f64::INFINITY, |a, b| a.min(*b));
        let high = values.iter().fold(0.0, |a: f64, b| a.max(*b));
        (link.name.clone(), values, low, high)
    };
    changing.take(6).map(one).collect()
}

pub(crate) fn csv(report: &Report) -> String {
    let mut text = String::from("time_s");
    report.outcomes.iter().for_each(|o| text += &format!(",{}_tokens", o.policy));
    text.push('\n');
    let curves: Vec<Vec<(f64, f64)>> = report.outcomes.iter().map(|o| curve(report, &o.trajectory)).collect();
    for i in 0..curves.first().map_or(0, Vec::len) {
        text += &curves[0][i].0.to_string();
        curves.iter().for_each(|c| text += &format!(",{}", c[i].1));
        text.push('\n');
    }
    text
}

pub(crate) fn html(
    scenario: &Scenario,
    report: &Report,
    links: &[&Sweep],
    costs: &[&[(u64, Report)]],
) -> String {
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{0}</title>\n<style>body{{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}table{{border-collapse:collapse}}td,th{{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}}td:first-child,th:first-child{{text-align:left}}svg{{max-width:100%}}</style>\n<h1>{0}</h1>\n<p>{1}</p>\n",
        escape(&scenario.name),
        escape(&scenario.about)
    );
    let lines: Vec<Line> = bandwidths(scenario, report)
        .into_iter()
        .map(|(name, values, _, _)| {
            let step = secs(report.until - report.start) / values.len().max(1) as f64;
            let mut points: Vec<(f64, f64)> =
                values.iter().enumerate().map(|(i, v)| (secs(report.start) + i as f64 * step, *v)).collect();
            points.extend(values.last().map(|v| (secs(report.until), *v)));
            Line { name, points, steps: true }
        })
        .collect();
    if !lines.is_empty() {
        page += &Chart {
            title: "Bandwidth".into(),
            x: "time, s".into(),
            y: "Gbit/s".into(),
            lines,
            marks: Vec::new(),
        }
        .svg();
    }
    let mut marks = Vec::new();
    for (i, o) in report.outcomes.iter().enumerate() {
        for s in o.trajectory.switches.iter().take(200) {
            marks.push((
                secs(s.at),
                i,
                format!("{}: plan {} to {}, {:.1} s", o.policy, s.from.0, s.to.0, secs(s.cost)),
            ));
        }
    }
    let tokens =
        |o: &Outcome| Line { name: o.policy.clone(), points: curve(report, &o.trajectory), steps: false };
    let lines = report.outcomes.iter().map(tokens).collect();
    page += &Chart {
        title: "Tokens by policy; a broken line is a switch".into(),
        x: "time, s".into(),
        y: "tokens".into(),
        lines,
        marks,
    }
    .svg();
    page += "<table><tr><th>policy<th>tokens<th>tokens/s<th>switches<th>switching, s<th>goodput<th>availability<th>regret<th>of the bound</tr>\n";
    let time = secs(report.until - report.start);
    for o in &report.outcomes {
        let t = &o.trajectory;
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{:.0}<td>{}<td>{:.1}<td>{:.1} %<td>{:.1} %<td>{:.1} %<td>{:.1} %</tr>",
            o.policy,
            thousands(o.tokens),
            o.tokens as f64 / time,
            t.switches.len(),
            secs(t.switching),
            100.0 * goodput(report, t),
            100.0 * availability(report, t),
            100.0 * o.regret,
            100.0 * o.tokens as f64 / report.upper_bound_tokens.max(1) as f64
        );
    }
    let _ = writeln!(
        page,
        "</table>\n<p>Upper bound: {} tokens. The oracle is {}.</p>",
        thousands(report.upper_bound_tokens),
        whose(report)
    );
    for s in links {
        let line = |(i, _): (usize, &Plan)| {
            let points =
                s.points.iter().filter_map(|p| p.times_s[i].map(|t| (p.bytes_per_s * 8e-9, t))).collect();
            Line { name: format!("plan {}", letter(i)), points, steps: false }
        };
        let marks = s.break_even.iter().map(|b| {
            let at = (b.bytes_per_s.0 * b.bytes_per_s.1).sqrt() * 8e-9;
            (at, b.above, format!("{} overtakes {} at {at:.3} Gbit/s", letter(b.above), letter(b.below)))
        });
        let chart = Chart {
            title: format!("Iteration by bandwidth of {}", s.link),
            x: "Gbit/s".into(),
            y: "s".into(),
            lines: s.plans.iter().enumerate().map(line).collect(),
            marks: marks.collect(),
        };
        page += &chart.svg();
        let _ = writeln!(page, "<pre>{}</pre>", escape(&sweep_text(s)));
    }
    for at in costs {
        let names =
            at.first().map_or(Vec::new(), |a| a.1.outcomes.iter().map(|o| o.policy.clone()).collect());
        let line = |(i, name): (usize, String)| Line {
            name,
            points: at.iter().map(|(cost, r)| (secs(*cost), r.outcomes[i].tokens as f64)).collect(),
            steps: false,
        };
        let lines = names.into_iter().enumerate().map(line).collect();
        page += &Chart {
            title: "Tokens by the fixed part of a switch".into(),
            x: "s".into(),
            y: "tokens".into(),
            lines,
            marks: Vec::new(),
        }
        .svg();
    }
    page
}

/// The iterations of each policy that lie in a window, as Perfetto shows them: a process a policy, a row a device.
pub(crate) fn timeline(scenario: &Scenario, report: &Report, (from, to): (u64, u64)) -> Value {
    let mut events = Vec::new();
    for (pid, o) in report.outcomes.iter().enumerate() {
        events.push(json!({ "ph": "M", "pid": pid, "name": "process_name", "args": { "name": o.policy } }));
        let mut shown = 0;
        for s in &o.trajectory.spans {
            let plan = &report.plans[s.plan.0 as usize];
            for i in 0..s.count {
                let start = s.start + i * s.length;
                if start >= to || shown >= MOST_ITERATIONS {
                    break;
                }
                if start + s.length <= from {
                    continue;
                }
                shown += 1;
                iteration(scenario, plan, start, pid, &mut events);
            }
        }
        for s in o.trajectory.switches.iter().filter(|s| s.at < to && s.at + s.cost > from) {
            let (ts, dur) = (s.at as f64 / 1e3, s.cost as f64 / 1e3);
            let name = format!("switch to plan {}", s.to.0);
            events.push(json!({ "ph": "X", "pid": pid, "tid": 0, "ts": ts, "dur": dur, "name": name }));
        }
    }
    json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}

/// Its tasks, on the clock of the replay; nothing where the plan cannot be simulated whole at that instant.
fn iteration(scenario: &Scenario, plan: &Plan, start: u64, pid: usize, events: &mut Vec<Value>) {
    let mut seen = scenario.clone();
    for (link, changes) in seen.zone_links.iter_mut().zip(&scenario.replay.links) {
        link.capacity = changes.capacity.profile(start);
    }
    let fabric = Fabric::new(&seen);
    let mut simulator = Simulator::new(&seen, &fabric);
    let Ok(layout) = Layout::new(&seen, plan) else { return };
    let options = IterationOptions { at: SimTime::ZERO, fold: true };
    if simulate_with(&mut simulator, plan, &layout, &options).is_err() {
        return;
    }
    let of = super::timeline::chrome(&seen, &[(None, &layout)], &simulator);
    for event in of["traceEvents"].as_array().into_iter().flatten() {
        let mut event = event.clone();
        // Rows of one policy stay apart from those of another.
        let row = event["pid"].as_u64().unwrap_or(0) * 100_000 + event["tid"].as_u64().unwrap_or(0) + 1;
        if event["ph"] == "M" && event["name"] == "process_name" {
            continue;
        }
        event["pid"] = json!(pid);
        event["tid"] = json!(row);
        if let Some(ts) = event["ts"].as_f64() {
            event["ts"] = json!(ts + start as f64 / 1e3);
        }
        events.push(event);
    }
}
