//! An explanation as one HTML page that needs nothing else: time and memory of the stages, what would help, links over time.
//! Pictures are SVG, made here.

use super::explain::{Explained, MEMORY, PARTS, memory_parts};
use super::svg::{COLOURS, Chart, Line, escape};
use super::table::seconds;
use sim_core::Rate;
use sim_models::explain::LinkReport;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1000px;padding:0 1em;color:#222}\
svg{max-width:100%;height:auto}pre{font-size:12px;overflow-x:auto}";
/// Compute, exposed TP, PP and DP, bubble, wait.
const PART_COLOURS: [&str; 6] = ["#0072b2", "#cc79a7", "#d55e00", "#e69f00", "#ccc", "#888"];
/// Most links in the picture.
const MOST_LINKS: usize = 8;
/// Points of a line; where more change, means of so many stretches.
const MOST_POINTS: usize = 600;
const WIDTH: f64 = 900.0;
const LEFT: f64 = 190.0;
const BAR: f64 = 22.0;

/// One bar: its label, its parts, a mark, and what stands behind it.
struct Bar {
    label: String,
    parts: Vec<f64>,
    mark: Option<f64>,
    figure: String,
}

pub(crate) fn page(explained: &Explained<'_>) -> String {
    let (e, scenario) = (explained.explanation, explained.scenario);
    let name = escape(&scenario.name);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tideplan: {name}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{name}: {}</h1>\n<p>{}{}</p>\n",
        seconds(e.time.as_secs_f64()),
        escape(&scenario.about),
        if e.folded { ", folded: alike pipelines stand for one another" } else { "" }
    );
    let label = |s: &sim_models::explain::StageReport| {
        let [count, stage, gpu, _] = explained.place(s);
        format!("{count} x stage {stage}, {gpu}")
    };
    let times = e.stages.iter().map(|s| Bar {
        label: label(s),
        parts: s.parts.each().map(|(_, ps)| ps as f64 / 1e12).to_vec(),
        mark: None,
        figure: format!("{:.1} % compute", 100.0 * s.parts.compute as f64 / s.parts.total().max(1) as f64),
    });
    html += &bars("time of each device by part, s", &PARTS, &PART_COLOURS, &times.collect::<Vec<_>>());
    let memory = explained.holders().into_iter().map(|s| Bar {
        label: label(&s),
        parts: memory_parts(&s.memory).map(|b| b.as_gib()).to_vec(),
        mark: Some(s.has.as_gib()),
        figure: format!("{:.1} of {:.1} GiB", s.memory.total().as_gib(), s.has.as_gib()),
    });
    let memory: Vec<Bar> = memory.collect();
    html += &bars(
        "memory of each device at its fullest, GiB; the mark is what it has",
        &MEMORY,
        &COLOURS,
        &memory,
    );
    let helps = explained.faster.iter().filter(|f| f.gain > 0.0).map(|f| Bar {
        label: explained.what(f.what),
        parts: vec![100.0 * f.gain],
        mark: None,
        figure: format!("{:+.2} %", 100.0 * f.gain),
    });
    html += &bars("gain by what is made 10 % faster, %", &["gain"], &COLOURS, &helps.collect::<Vec<_>>());
    let links = explained.fullest_links();
    if !links.is_empty() {
        let line = |l: &&LinkReport| Line {
            name: l.link.name(scenario),
            points: points(l, e.time.as_secs_f64()),
            steps: true,
        };
        let chart = Chart {
            title: "shared links in use".into(),
            x: "time, s".into(),
            y: "% of capacity".into(),
            lines: links.iter().take(MOST_LINKS).map(line).collect(),
            marks: Vec::new(),
        };
        html += &chart.svg();
    }
    let _ = writeln!(html, "<pre>{}</pre>", escape(&explained.text()));
    html + "</body></html>\n"
}

/// Use in % by time: every change, or means over equal stretches where there are too many.
fn points(report: &LinkReport, end: f64) -> Vec<(f64, f64)> {
    let percent = |l: &sim_core::observe::LinkLoad| match l.capacity {
        Rate::ZERO => 0.0,
        of => 100.0 * l.used.as_bytes_per_s() / of.as_bytes_per_s(),
    };
    let loads: Vec<(f64, f64)> = report.loads.iter().map(|l| (l.from.as_secs_f64(), percent(l))).collect();
    let last = loads.last().map_or(0.0, |l| l.1);
    if loads.len() <= MOST_POINTS {
        return loads.iter().copied().chain([(end, last)]).collect();
    }
    let cell = end / MOST_POINTS as f64;
    let mut sums = vec![0.0; MOST_POINTS];
    for (i, (from, use_)) in loads.iter().enumerate() {
        let to = loads.get(i + 1).map_or(end, |next| next.0);
        let mut at = *from;
        while at < to {
            let k = ((at / cell) as usize).min(MOST_POINTS - 1);
            let until = if k + 1 == MOST_POINTS { to } else { to.min((k + 1) as f64 * cell) };
            // A border that rounds onto itself ends here.
            let until = if until > at { until } else { to };
            sums[k] += use_ * (until - at);
            at = until;
        }
    }
    sums.iter().enumerate().map(|(k, sum)| (k as f64 * cell, sum / cell)).chain([(end, last)]).collect()
}

/// Stacked bars with their legend.
fn bars(title: &str, names: &[&str], colours: &[&str], bars: &[Bar]) -> String {
    let length = |b: &Bar| b.parts.iter().sum::<f64>();
    let longest = bars.iter().map(|b| length(b).max(b.mark.unwrap_or(0.0))).fold(0.0, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let px = |v: f64| LEFT + v / longest * (WIDTH - LEFT - 120.0);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {1}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\"><title>{0}</title>\n\
         <text x=\"0\" y=\"16\" font-weight=\"bold\">{0}</text>\n",
        escape(title),
        54.0 + BAR * bars.len() as f64
    );
    for (i, bar) in bars.iter().enumerate() {
        let y = 26.0 + BAR * i as f64;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 13.0,
            escape(&bar.label)
        );
        let mut from = 0.0;
        for (k, part) in bar.parts.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"><title>{} {part:.4}</title></rect>",
                px(from),
                px(from + part) - px(from),
                BAR - 6.0,
                colours[k % colours.len()],
                names[k % names.len()]
            );
            from += part;
        }
        if let Some(mark) = bar.mark {
            let (x, y, height) = (px(mark), y - 2.0, BAR - 2.0);
            let _ =
                writeln!(out, "<path d=\"M{x:.1} {y:.1}v{height:.1}\" stroke=\"#000\" stroke-width=\"2\"/>");
        }
        let x = px(length(bar).max(bar.mark.unwrap_or(0.0))) + 6.0;
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\">{}</text>", y + 13.0, escape(&bar.figure));
    }
    let (y, mut x) = (44.0 + BAR * bars.len() as f64, LEFT);
    for (name, colour) in names.iter().zip(colours).filter(|_| names.len() > 1) {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{y:.1}\">{name}</text>",
            y - 11.0,
            x + 18.0
        );
        x += 36.0 + 7.0 * name.len() as f64;
    }
    out + "</svg>\n"
}
