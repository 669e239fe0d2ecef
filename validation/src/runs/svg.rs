//! Pictures of a report, as SVG: predicted against measured, and errors by group.

use std::fmt::Write;

/// Colours of the groups, told apart without red and green; later groups repeat them with another mark.
const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#555555", "#882255"];
/// Side of a plot and the room around its axes.
const SIZE: f64 = 640.0;
const MARGIN: f64 = 60.0;

/// Text that may stand in SVG and HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One group of points: its name, then (measured s, predicted s, what to show on hovering) of each.
pub(super) type Series<'a> = (&'a str, Vec<(f64, f64, &'a str)>);

/// Predicted against measured times, both logarithmic, one colour a series.
pub(super) fn predicted_against_measured(series: &[Series<'_>]) -> String {
    let positive = |v: &f64| *v > 0.0 && v.is_finite();
    let values = || series.iter().flat_map(|(_, p)| p).flat_map(|(m, p, _)| [*m, *p]).filter(positive);
    let low = libm::floor(libm::log10(values().fold(f64::INFINITY, f64::min)).clamp(-9.0, 9.0));
    let high = libm::ceil(libm::log10(values().fold(0.0, f64::max)).clamp(-9.0, 9.0)).max(low + 1.0);
    let span = SIZE - 2.0 * MARGIN;
    let x = |v: f64| MARGIN + (libm::log10(v) - low) / (high - low) * span;
    let y = |v: f64| SIZE - MARGIN - (libm::log10(v) - low) / (high - low) * span;
    let height = SIZE + 18.0 * series.len() as f64;
    let mut svg = open(SIZE, height);
    // Writing to a String does not fail.
    let mut decade = low;
    while decade <= high {
        let v = libm::pow(10.0, decade);
        let (at_x, at_y, label) = (x(v), y(v), decade as i32);
        let (bottom, end) = (SIZE - MARGIN, SIZE - MARGIN);
        let _ = writeln!(
            svg,
            "<path d=\"M{at_x:.1} {MARGIN}V{bottom}M{MARGIN} {at_y:.1}H{end}\" stroke=\"#ddd\" fill=\"none\"/>\
             <text x=\"{at_x:.1}\" y=\"{}\" text-anchor=\"middle\">1e{label} s</text>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">1e{label} s</text>",
            bottom + 16.0,
            MARGIN - 6.0,
            at_y + 4.0
        );
        decade += 1.0;
    }
    for (factor, dash) in [(1.0, ""), (0.8, " stroke-dasharray=\"4\""), (1.25, " stroke-dasharray=\"4\"")] {
        let (a, b) = (libm::pow(10.0, low), libm::pow(10.0, high));
        let clip = |v: f64| y(v).clamp(MARGIN, SIZE - MARGIN);
        let _ = writeln!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#888\"{dash}/>",
            x(a),
            clip(a * factor),
            x(b),
            clip(b * factor)
        );
    }
    for (i, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        for (measured, predicted, hint) in points.iter().filter(|(m, p, _)| positive(m) && positive(p)) {
            let (cx, cy, hint) = (x(*measured), y(*predicted), escape(hint));
            let _ = if i < COLOURS.len() {
                writeln!(
                    svg,
                    "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2.5\" fill=\"{colour}\" fill-opacity=\"0.6\"><title>{hint}</title></circle>"
                )
            } else {
                writeln!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"5\" height=\"5\" fill=\"{colour}\" fill-opacity=\"0.6\"><title>{hint}</title></rect>",
                    cx - 2.5,
                    cy - 2.5
                )
            };
        }
        let at = SIZE - 6.0 + 18.0 * i as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{MARGIN}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{at:.1}\">{} ({} rows)</text>",
            at - 9.0,
            MARGIN + 16.0,
            escape(name),
            points.len()
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">measured</text>\
         <text x=\"14\" y=\"{}\" transform=\"rotate(-90 14 {})\" text-anchor=\"middle\">predicted</text>",
        SIZE / 2.0,
        SIZE - MARGIN + 34.0,
        SIZE / 2.0,
        SIZE / 2.0
    );
    svg + "</svg>\n"
}

/// Bars of the median error with a line to the 90th percentile; (name, rows, median, 90th percentile), as fractions.
pub(super) fn error_bars(bars: &[(String, usize, f64, f64)]) -> String {
    let (row, left, width) = (20.0, 190.0, 760.0);
    let most = bars.iter().map(|b| b.3).fold(0.1, f64::max).min(1.0);
    let x = |v: f64| left + v.min(most) / most * (width - left - 120.0);
    let mut svg = open(width, row * (bars.len() as f64 + 1.5));
    for (i, (name, rows, median, p90)) in bars.iter().enumerate() {
        let at = row * (i as f64 + 0.5);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} ({rows})</text>\
             <rect x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" fill=\"{}\"/>\
             <path d=\"M{:.1} {:.1}H{:.1}\" stroke=\"#333\"/><text x=\"{:.1}\" y=\"{:.1}\">{:.1} %, 90th {:.1} %</text>",
            left - 6.0,
            at + 10.0,
            escape(name),
            at,
            (x(*median) - left).max(0.5),
            COLOURS[0],
            x(*median),
            at + 6.0,
            x(*p90),
            x(*p90) + 6.0,
            at + 10.0,
            100.0 * median,
            100.0 * p90
        );
    }
    svg + "</svg>\n"
}

fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_good_point_is_drawn_and_no_bad_one() {
        let points = vec![(1.0, 1.1, "a<b"), (f64::NAN, 1.0, ""), (0.0, 1.0, ""), (0.01, 2.0, "")];
        let svg = predicted_against_measured(&[("x & y", points)]);
        assert!(svg.matches("<circle").count() == 2 && svg.contains("x &amp; y") && !svg.contains("NaN"));
        assert!(svg.contains("a&lt;b"));
        assert!(predicted_against_measured(&[]).ends_with("</svg>\n"));
        assert!(error_bars(&[("8 GPUs".into(), 3, 0.1, 3.0)]).contains("8 GPUs (3)"));
    }
}
