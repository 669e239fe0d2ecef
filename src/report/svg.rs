//! Charts as SVG, written by hand: lines over time, marks where something happened. And the same small, as blocks.

use std::fmt::Write;

/// Lines over a common axis.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) lines: Vec<Line>,
    /// Where something happened: x, index of the line whose colour it has, what.
    pub(crate) marks: Vec<(f64, usize, String)>,
}

/// One line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether a value holds until the next point.
    pub(crate) steps: bool,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 40.0;
/// Colours that people who see few colours can tell apart (Okabe and Ito, 2008).
pub(crate) const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#999933"];

impl Chart {
    pub(crate) fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|l| &l.points);
        let (x0, x1) = range(all().map(|p| p.0));
        let (y0, y1) = range(all().map(|p| p.1).chain([0.0]));
        let px = |x: f64| LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
        let py = |y: f64| HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
        let mut s = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">{}</text>\n",
            escape(&self.title)
        );
        for y in ticks(y0, y1) {
            let at = py(y);
            let _ = writeln!(
                s,
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                figure(y)
            );
        }
        for x in ticks(x0, x1) {
            let at = px(x);
            let _ = writeln!(
                s,
                "<path d=\"M{at:.1} {:.1}v4\" stroke=\"#888\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                figure(x)
            );
        }
        let _ = writeln!(
            s,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escape(&self.x),
            TOP + (HEIGHT - TOP - BOTTOM) / 2.0,
            escape(&self.y)
        );
        for (x, line, what) in &self.marks {
            let _ = writeln!(
                s,
                "<path d=\"M{0:.1} {TOP}V{1:.1}\" stroke=\"{2}\" stroke-dasharray=\"3 3\" opacity=\"0.7\"><title>{3}</title></path>",
                px(*x),
                HEIGHT - BOTTOM,
                COLOURS[line % COLOURS.len()],
                escape(what)
            );
        }
        for (i, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let mut path = String::new();
            for (k, (x, y)) in line.points.iter().enumerate() {
                let (x, y) = (px(*x), py(*y));
                let _ = match (k, line.steps) {
                    (0, _) => write!(path, "M{x:.1} {y:.1}"),
                    (_, true) => write!(path, "H{x:.1}V{y:.1}"),
                    (_, false) => write!(path, "L{x:.1} {y:.1}"),
                };
            }
            let top = TOP + 8.0 + 15.0 * i as f64;
            let _ = writeln!(
                s,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
                 <path d=\"M{0:.1} {top:.1}h16\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{1:.1}\" y=\"{2:.1}\">{3}</text>",
                WIDTH - RIGHT + 10.0,
                WIDTH - RIGHT + 30.0,
                top + 4.0,
                escape(&line.name)
            );
        }
        s + "</svg>\n"
    }
}

/// Least and greatest, never equal.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for v in values.filter(|v| v.is_finite()) {
        (low, high) = (low.min(v), high.max(v));
    }
    match (low, high) {
        (l, h) if l > h => (0.0, 1.0),
        (l, h) if l == h => (l, l + 1.0),
        both => both,
    }
}

/// Round numbers in a range, about five.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let raw = (to - from) / 5.0;
    let mut power = 1.0;
    while power * 10.0 <= raw {
        power *= 10.0;
    }
    while power > raw && power > 1e-300 {
        power /= 10.0;
    }
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw).unwrap_or(raw);
    let first = (from / step).ceil();
    (0..20).map(|i| (first + f64::from(i)) * step).take_while(|x| *x <= to + step * 1e-9).collect()
}

fn figure(x: f64) -> String {
    let text = match x.abs() {
        v if v >= 1e9 => return format!("{}G", figure(x / 1e9)),
        v if v >= 1e6 => return format!("{}M", figure(x / 1e6)),
        v if v >= 1e4 => return format!("{}k", figure(x / 1e3)),
        v if v >= 100.0 => format!("{x:.0}"),
        v if v >= 1.0 => format!("{x:.2}"),
        _ => format!("{x:.4}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Values as blocks, at most `width` of them, from zero to the highest.
pub(crate) fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let cells = values.len().min(width).max(1);
    let top = values.iter().fold(0.0, |a: f64, &b| a.max(b));
    let cell = |i: usize| {
        let part = &values[i * values.len() / cells
            ..((i + 1) * values.len() / cells).max(i * values.len() / cells + 1).min(values.len())];
        let mean = part.iter().sum::<f64>() / part.len().max(1) as f64;
        let level = if top > 0.0 { (mean / top * 7.0).round() as usize } else { 0 };
        BLOCKS[level.min(7)]
    };
    if values.is_empty() { String::new() } else { (0..cells).map(cell).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_blocks() {
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.0, 0.004).len(), 5);
        assert_eq!(sparkline(&[0.0, 1.0, 2.0], 10), "▁▅█");
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(
            (figure(12_500.0), figure(0.25), figure(100.0)),
            ("12.5k".into(), "0.25".into(), "100".into())
        );
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        let empty = Chart::default().svg();
        assert!(empty.starts_with("<svg") && empty.ends_with("</svg>\n") && !empty.contains("NaN"));
        let flat = Chart {
            lines: vec![Line { name: "<a>".into(), points: vec![(1.0, 0.0)], steps: true }],
            ..Chart::default()
        };
        assert!(flat.svg().contains("&lt;a&gt;") && !flat.svg().contains("NaN"));
    }
}
