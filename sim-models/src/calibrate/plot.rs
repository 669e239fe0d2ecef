//! A plot of predicted over measured times, as SVG.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Colours of the groups, told apart without red and green.
const COLOURS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#555555"];
/// Most points of a group that are drawn: more only make the file larger.
const MOST_POINTS: usize = 150;
/// Width of the plot.
const WIDTH: f64 = 760.0;
/// Its height.
const HEIGHT: f64 = 340.0;
/// Around the axes.
const MARGIN: f64 = 56.0;

/// Predicted over measured (0.5 to 2, logarithmic) against the measured time, one colour a group. A point is (group,
/// measured s, predicted s); those that are not positive are left out, ratios outside are drawn at the edge.
pub fn scatter_svg(title: &str, points: &[(String, f64, f64)]) -> String {
    let mut groups: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for (group, measured, predicted) in points {
        if *measured > 0.0 && *predicted > 0.0 && measured.is_finite() && predicted.is_finite() {
            let ratio = (predicted / measured).clamp(0.5, 2.0);
            groups.entry(group).or_default().push((libm::log10(*measured), libm::log2(ratio)));
        }
    }
    let times = || groups.values().flatten().map(|p| p.0);
    let first = libm::floor(times().fold(f64::INFINITY, f64::min).min(0.0));
    let last = libm::ceil(times().fold(f64::NEG_INFINITY, f64::max)).max(first + 1.0);
    let x = |log: f64| MARGIN + (log - first) / (last - first) * (WIDTH - 2.0 * MARGIN);
    let y = |log: f64| HEIGHT / 2.0 - log * (HEIGHT / 2.0 - MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    // Writing to a String does not fail.
    for (ratio, label) in [(-1.0, "0.5"), (-0.1375, "0.91"), (0.0, "1"), (0.1375, "1.1"), (1.0, "2")] {
        let (at, dash) = (y(ratio), if ratio == 0.0 { "" } else { " stroke-dasharray=\"3\"" });
        let (right, left) = (WIDTH - MARGIN, MARGIN - 6.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#999\"{dash}/>\
             <text x=\"{left}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            at + 4.0
        );
    }
    let mut decade = first;
    while decade <= last {
        let label = decade as i32;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">1e{label} s</text>",
            x(decade),
            HEIGHT - MARGIN + 20.0
        );
        decade += 1.0;
    }
    for (i, (group, list)) in groups.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let step = list.len().div_ceil(MOST_POINTS);
        for (time, ratio) in list.iter().step_by(step.max(1)) {
            let (cx, cy) = (x(*time), y(*ratio));
            let _ = writeln!(
                svg,
                "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2\" fill=\"{colour}\" fill-opacity=\"0.6\"/>"
            );
        }
        let at = MARGIN + (WIDTH - 2.0 * MARGIN) / groups.len() as f64 * i as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{at:.0}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            HEIGHT - 10.0,
            escape(group)
        );
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_holds_every_group_and_no_bad_point() {
        let point = |group: &str, measured, predicted| (group.to_owned(), measured, predicted);
        let svg = scatter_svg(
            "a < b",
            &[
                point("x", 1e-3, 1.1e-3),
                point("y", 1.0, 9.0),
                point("z", f64::NAN, 1.0),
                point("z", 0.0, 1.0),
            ],
        );
        assert!(
            svg.contains("a &lt; b") && svg.contains(">x<") && svg.contains(">y<") && !svg.contains("NaN")
        );
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(scatter_svg("empty", &[]).ends_with("</svg>\n"));
    }
}
