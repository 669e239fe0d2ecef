//! A comparison as one HTML page that needs nothing else: pictures are SVG, made here.

use super::compare::{Case, Comparison, Outcome, Parts, Row, fullest, gpus, parts, shape};
use super::svg::{COLOURS, escape};
use super::table::seconds;
use sim_search::judge::Judge;
use std::fmt::Write;

/// Compute, exposed communication, bubble.
const PARTS: [(&str, &str); 3] =
    [("#0072b2", "compute"), ("#d55e00", "exposed communication"), ("#ccc", "bubble")];

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1000px;padding:0 1em;color:#222}\
table{border-collapse:collapse;font-size:13px;margin:1em 0}th,td{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:left}\
td.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}.best{font-weight:bold}.no{color:#a33}";

pub(crate) fn page(comparison: &Comparison) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tideplan compare</title>\
         <style>{STYLE}</style></head><body>\n<h1>Planners side by side</h1>\n<p>Every plan judged by one model: {}. \
         A planner's own estimate stands beside the judge's time.</p>\n",
        escape(comparison.judge.name())
    );
    if comparison.cases.len() > 1 {
        html += &overall(comparison);
    }
    for case in &comparison.cases {
        let _ = writeln!(html, "<h2>{}</h2>\n<p>{}</p>", escape(&case.scenario), escape(&case.about));
        html += &rows(case);
        html += &bars(case);
        html += &effort(case);
        html += &memory(case);
    }
    html += &agreement(comparison);
    html + "</body></html>\n"
}

fn overall(comparison: &Comparison) -> String {
    let mut html = String::from(
        "<h2>All scenarios</h2>\n<table><tr><th>planner</th><th>time / best (geometric mean)</th><th>scenarios</th>\
         <th>own estimate / judged</th></tr>\n",
    );
    for planner in comparison.planners() {
        let (mean, n) = comparison.mean_ratio(planner);
        let figure = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td class=n>{}</td><td class=n>{n}</td><td class=n>{}</td></tr>",
            escape(planner),
            figure(mean),
            figure(comparison.mean_own(planner))
        );
    }
    html + "</table>\n"
}

fn rows(case: &Case) -> String {
    let mut html = String::from(
        "<table><tr><th>planner</th><th>time</th><th>/ best</th><th>own estimate</th><th>search</th><th>candidates</th>\
         <th>GPUs</th><th>plan</th></tr>\n",
    );
    let best = case.best_s();
    for row in &case.rows {
        let search = row.search_time_s.map_or("-".into(), seconds);
        let _ = match &row.outcome {
            Outcome::Judged(v) => {
                let over = row.time_s().zip(best).map(|(t, b)| t / b);
                let class = if over.is_some_and(|o| o <= 1.0) { " class=best" } else { "" };
                let own = v.own_estimate_s.map_or("-".into(), |own| {
                    format!("{} ({:+.0} %)", seconds(own), 100.0 * (own / v.time_s - 1.0))
                });
                writeln!(
                    html,
                    "<tr{class}><td>{}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{own}</td><td class=n>{search}</td>\
                     <td class=n>{}</td><td class=n>{}</td><td>{}{}</td></tr>",
                    escape(&row.planner),
                    seconds(v.time_s),
                    over.map_or("-".into(), |o| format!("{o:.3}")),
                    row.candidates,
                    gpus(v),
                    escape(&shape(v)),
                    if v.fits { "" } else { " <span class=no>does not fit</span>" }
                )
            }
            Outcome::Failed(error) => writeln!(
                html,
                "<tr><td>{}</td><td colspan=3 class=no>no plan</td><td class=n>{search}</td><td class=n>{}</td><td></td>\
                 <td class=no>{}</td></tr>",
                escape(&row.planner),
                row.candidates,
                escape(error)
            ),
        };
    }
    html + "</table>\n"
}

const LEFT: f64 = 110.0;
const WIDTH: f64 = 900.0;
const BAR: f64 = 22.0;

fn svg(title: &str, height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\"><title>{0}</title>\n\
         <text x=\"0\" y=\"16\" font-weight=\"bold\">{0}</text>\n",
        escape(title)
    )
}

/// Bars of the simulated time by part, with a mark at the planner's own estimate.
fn bars(case: &Case) -> String {
    let judged: Vec<(&Row, f64, Parts, Option<f64>)> = case
        .rows
        .iter()
        .filter_map(|r| r.verdict().map(|v| (r, v.iteration.time.as_secs_f64(), parts(v), v.own_estimate_s)))
        .collect();
    let longest = judged.iter().map(|(_, t, _, own)| t.max(own.unwrap_or(0.0))).fold(0.0, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let px = |s: f64| LEFT + s / longest * (WIDTH - LEFT - 90.0);
    let mut out = svg(
        "simulated time by part of device time; the mark is the planner's own estimate",
        50.0 + BAR * judged.len() as f64,
    );
    for (i, (row, time, p, own)) in judged.iter().enumerate() {
        let y = 26.0 + BAR * i as f64;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 13.0,
            escape(&row.planner)
        );
        let mut from = 0.0;
        for (share, (colour, name)) in [p.compute, p.exposed, p.bubble].into_iter().zip(PARTS) {
            let width = px(from + share * time) - px(from);
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"><title>{name} {:.1} %</title></rect>",
                px(from),
                y,
                BAR - 6.0,
                100.0 * share
            );
            from += share * time;
        }
        if let Some(own) = own {
            let _ = writeln!(
                out,
                "<path d=\"M{0:.1} {1:.1}v{2:.1}\" stroke=\"#000\" stroke-width=\"2\"/>",
                px(*own),
                y - 2.0,
                BAR - 2.0
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            px(time.max(own.unwrap_or(0.0))) + 6.0,
            y + 13.0,
            seconds(*time)
        );
    }
    let y = 42.0 + BAR * judged.len() as f64;
    let mut x = LEFT;
    for (colour, name) in PARTS {
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y:.1}\">{name}</text>",
            y - 11.0,
            x + 18.0
        );
        x += 40.0 + 7.0 * name.len() as f64;
    }
    out + "</svg>\n"
}

/// Search time against the time of the plan, both on log axes.
fn effort(case: &Case) -> String {
    let points: Vec<(&str, f64, f64)> = case
        .rows
        .iter()
        .filter_map(|r| Some((r.planner.as_str(), r.search_time_s?.max(1e-4), r.time_s()? / case.best_s()?)))
        .collect();
    if points.is_empty() {
        return String::new();
    }
    let logs = |of: fn(&(&str, f64, f64)) -> f64| {
        let values = points.iter().map(of).map(libm::log10);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        (low - 0.1, high + 0.1)
    };
    let ((x0, x1), (y0, y1)) = (logs(|p| p.1), logs(|p| p.2));
    let (height, bottom) = (300.0, 260.0);
    let px = |s: f64| LEFT + (libm::log10(s) - x0) / (x1 - x0) * (WIDTH - LEFT - 130.0);
    let py = |r: f64| bottom - (libm::log10(r) - y0) / (y1 - y0) * (bottom - 40.0);
    let mut out = svg("search time against time of the plan over the best, log axes", height);
    let _ =
        writeln!(out, "<path d=\"M{LEFT} 30V{bottom}H{:.1}\" fill=\"none\" stroke=\"#888\"/>", WIDTH - 130.0);
    for exponent in -4..=4 {
        for multiple in [1.0, 2.0, 5.0] {
            let tick = multiple * libm::pow(10.0, f64::from(exponent));
            if multiple == 1.0 && (x0..x1).contains(&libm::log10(tick)) {
                let _ = writeln!(
                    out,
                    "<path d=\"M{0:.1} {bottom}v5\" stroke=\"#888\"/><text x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"middle\">{2}</text>",
                    px(tick),
                    bottom + 18.0,
                    seconds(tick)
                );
            }
            if (y0..y1).contains(&libm::log10(tick)) {
                let _ = writeln!(
                    out,
                    "<path d=\"M{LEFT} {0:.1}h-5\" stroke=\"#888\"/><text x=\"{1:.1}\" y=\"{2:.1}\" text-anchor=\"end\">{tick}</text>",
                    py(tick),
                    LEFT - 8.0,
                    py(tick) + 4.0
                );
            }
        }
    }
    for (i, (name, search, ratio)) in points.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let _ = writeln!(
            out,
            "<circle cx=\"{0:.1}\" cy=\"{1:.1}\" r=\"5\" fill=\"{colour}\"><title>{2}: {3}, {4:.3} x</title></circle><text x=\"{5:.1}\" y=\"{6:.1}\">{2}</text>",
            px(*search),
            py(*ratio),
            escape(name),
            seconds(*search),
            ratio,
            px(*search) + 8.0,
            py(*ratio) + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">search time</text>",
        WIDTH / 2.0,
        height - 4.0
    );
    out + "</svg>\n"
}

/// The fullest device of each plan against its limit.
fn memory(case: &Case) -> String {
    let rows: Vec<_> =
        case.rows.iter().filter_map(|r| Some((r.planner.as_str(), fullest(r.verdict()?)?))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let share =
        |d: &sim_models::iteration::DeviceReport| d.peak_memory_bytes as f64 / d.memory_bytes.max(1) as f64;
    let most = rows.iter().map(|(_, d)| share(d)).fold(1.0, f64::max);
    let px = |s: f64| LEFT + s / most * (WIDTH - LEFT - 190.0);
    let height = 34.0 + BAR * rows.len() as f64;
    let mut out = svg("memory of the fullest device against its limit", height);
    for (i, (name, d)) in rows.iter().enumerate() {
        let y = 26.0 + BAR * i as f64;
        let colour = if share(d) > 1.0 { "#d55e00" } else { "#009e73" };
        let gib = |b: u64| b as f64 / (1u64 << 30) as f64;
        let _ = writeln!(
            out,
            "<text x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"end\">{2}</text><rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{3:.1}\" height=\"{4:.1}\" fill=\"{colour}\"/>\
             <text x=\"{5:.1}\" y=\"{1:.1}\">{6:.1} of {7:.1} GiB, {8}</text>",
            LEFT - 8.0,
            y + 13.0,
            escape(name),
            px(share(d)) - LEFT,
            BAR - 6.0,
            px(share(d)) + 6.0,
            gib(d.peak_memory_bytes),
            gib(d.memory_bytes),
            escape(&d.gpu)
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"M{0:.1} 22V{1:.1}\" stroke=\"#a33\" stroke-dasharray=\"4 3\"/>",
        px(1.0),
        height - 6.0
    );
    out + "</svg>\n"
}

fn agreement(comparison: &Comparison) -> String {
    let mut html = String::from(
        "<h2>Rank agreement</h2>\n<p>Kendall's tau between cost models over the plans above.</p>\n<table><tr><th></th>",
    );
    for judge in Judge::ALL {
        let _ = write!(html, "<th>{}</th>", judge.name());
    }
    html += "</tr>\n";
    for (a, judge) in Judge::ALL.iter().enumerate() {
        let _ = write!(html, "<tr><th>{}</th>", judge.name());
        for b in 0..Judge::ALL.len() {
            let cell = comparison.agreement(a, b).map_or("-".into(), |t| format!("{t:.2}"));
            let _ = write!(html, "<td class=n>{cell}</td>");
        }
        html += "</tr>\n";
    }
    html + "</table>\n"
}
