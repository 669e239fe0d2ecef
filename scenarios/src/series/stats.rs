//! Figures of a trace in one pass and bounded memory.

use super::{Quantity, Record};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Series whose figures are kept; more are counted in `others`.
const MOST_SERIES: usize = 10_000;
/// Bins of the histogram in a factor of two: quantiles are right to 1 %.
const BINS_PER_OCTAVE: f64 = 64.0;
/// Points of the sketch of a series.
const SKETCH: usize = 240;

/// Of every series of a trace.
#[derive(Clone, Debug)]
pub struct Stats {
    quantity: Quantity,
    series: BTreeMap<Arc<str>, SeriesStats>,
    /// Series past the most that are kept.
    pub others: u64,
}

/// One series, as it is taken in.
#[derive(Clone, Debug)]
pub struct SeriesStats {
    first_ns: u64,
    last: Record,
    points: u64,
    min: f64,
    max: f64,
    /// Time-weighted sums, ns.
    sum: f64,
    squares: f64,
    zero_ns: u64,
    latency_sum: f64,
    shortest_ns: u64,
    longest_ns: u64,
    changes: u64,
    /// Of neighbouring points, for the correlation.
    lag: [f64; 5],
    histogram: BTreeMap<i32, u64>,
    sketch: Sketch,
}

/// Means over ever longer cells, so that any length has at most [`SKETCH`] of them.
#[derive(Clone, Debug, Default)]
struct Sketch {
    cell_ns: u64,
    cells: Vec<(f64, u64)>,
}

impl Sketch {
    /// `value` holds on `[from, to)`, counted from the series' start.
    fn add(&mut self, mut from: u64, to: u64, value: f64) {
        if self.cell_ns == 0 {
            self.cell_ns = (to - from).max(1);
        }
        while to.div_ceil(self.cell_ns) > SKETCH as u64 {
            self.cell_ns = self.cell_ns.saturating_mul(2);
            let pairs = self.cells.chunks(2);
            self.cells =
                pairs.map(|p| p.iter().fold((0.0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1))).collect();
        }
        while from < to {
            let cell = (from / self.cell_ns) as usize;
            let end = ((cell as u64 + 1).saturating_mul(self.cell_ns)).min(to);
            if self.cells.len() <= cell {
                self.cells.resize(cell + 1, (0.0, 0));
            }
            self.cells[cell].0 += value * (end - from) as f64;
            self.cells[cell].1 += end - from;
            from = end;
        }
    }
}

/// The figures of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Link, group or node.
    pub name: String,
    /// Points.
    pub points: u64,
    /// First and last point, s.
    pub from_s: f64,
    /// Last point, s.
    pub to_s: f64,
    /// Lowest value.
    pub min: f64,
    /// Highest value.
    pub max: f64,
    /// Time-weighted mean.
    pub mean: f64,
    /// Time-weighted standard deviation.
    pub std: f64,
    /// Time-weighted quantiles 0.05, 0.5 and 0.95, to 1 %.
    pub quantiles: [f64; 3],
    /// Share of the time at zero.
    pub zero_share: f64,
    /// Shortest step between points, s; 0 for one point.
    pub shortest_step_s: f64,
    /// Longest step between points, s: a gap, over which the value before it holds.
    pub longest_step_s: f64,
    /// Points whose value differs from the one before.
    pub changes: u64,
    /// Correlation of neighbouring points.
    pub autocorrelation: f64,
    /// Mean latency, s.
    pub latency_s: Option<f64>,
    /// Means over equal cells of its whole length, at most 240.
    pub sketch: Vec<f64>,
}

impl Stats {
    /// None taken in yet.
    pub fn new(quantity: Quantity) -> Stats {
        Stats { quantity, series: BTreeMap::new(), others: 0 }
    }

    /// Takes in a record; those of a series come in order of time.
    pub fn add(&mut self, record: &Record) {
        let full = self.series.len() >= MOST_SERIES;
        match self.series.get_mut(&record.name) {
            Some(series) => series.add(record),
            None if full => self.others += 1,
            None => {
                self.series.insert(Arc::clone(&record.name), SeriesStats::new(record));
            }
        }
    }

    /// What the values are.
    pub fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// Figures of every series, by name.
    pub fn summaries(&self) -> Vec<Summary> {
        self.series.values().map(SeriesStats::summary).collect()
    }

    /// What looks wrong, in words.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let all = self.summaries();
        let max = all.iter().map(|s| s.max).fold(0.0, f64::max);
        if matches!(self.quantity, Quantity::Bandwidth | Quantity::Load) && max > 0.0 && max < 1e5 {
            let unit = if max < 1e3 { "Gbit/s" } else { "Mbit/s" };
            doubts.push(format!(
                "no value is above {max} bit/s: are they {unit}? `trace convert --scale` mends that"
            ));
        }
        if max == 0.0 {
            doubts.push("every value is zero: nothing moves, and a job that needs it stalls".into());
        }
        for s in &all {
            if s.longest_step_s > 100.0 * s.shortest_step_s && s.points > 100 {
                doubts.push(format!(
                    "`{}` has a gap of {:.0} s where steps are from {} s: the value before it holds",
                    s.name, s.longest_step_s, s.shortest_step_s
                ));
            }
        }
        doubts.truncate(10);
        doubts
    }
}

impl SeriesStats {
    fn new(record: &Record) -> SeriesStats {
        SeriesStats {
            first_ns: record.at_ns,
            last: record.clone(),
            points: 1,
            min: record.value,
            max: record.value,
            sum: 0.0,
            squares: 0.0,
            zero_ns: 0,
            latency_sum: 0.0,
            shortest_ns: u64::MAX,
            longest_ns: 0,
            changes: 0,
            lag: [0.0; 5],
            histogram: BTreeMap::new(),
            sketch: Sketch::default(),
        }
    }

    fn add(&mut self, record: &Record) {
        self.hold(record.at_ns);
        let length = record.at_ns.saturating_sub(self.last.at_ns);
        self.shortest_ns = self.shortest_ns.min(length);
        self.longest_ns = self.longest_ns.max(length);
        let (x, y) = (self.last.value, record.value);
        for (sum, term) in self.lag.iter_mut().zip([x, y, x * x, y * y, x * y]) {
            *sum += term;
        }
        self.changes += u64::from(x != y);
        self.points += 1;
        self.min = self.min.min(record.value);
        self.max = self.max.max(record.value);
        self.last = record.clone();
    }

    /// The last value holds until `to`.
    fn hold(&mut self, to: u64) {
        let (value, length) = (self.last.value, to.saturating_sub(self.last.at_ns));
        self.sum += value * length as f64;
        self.squares += value * value * length as f64;
        self.latency_sum += self.last.latency_s.unwrap_or(0.0) * length as f64;
        if value == 0.0 {
            self.zero_ns += length;
        }
        let bin = if value > 0.0 { (libm::log2(value) * BINS_PER_OCTAVE).floor() as i32 } else { i32::MIN };
        *self.histogram.entry(bin).or_default() += length;
        if length > 0 {
            self.sketch.add(self.last.at_ns - self.first_ns, to - self.first_ns, value);
        }
    }

    /// The figures so far; a single point counts as a second of itself.
    fn summary(&self) -> Summary {
        let mut whole = self.clone();
        if self.points == 1 {
            whole.hold(self.last.at_ns.saturating_add(1_000_000_000));
        }
        let length: u64 = whole.histogram.values().sum();
        let mean = whole.sum / length as f64;
        let seconds = |ns: u64| ns as f64 / 1e9;
        let n = (self.points - 1) as f64;
        let [x, y, xx, yy, xy] = self.lag;
        let spread = (n * xx - x * x) * (n * yy - y * y);
        let correlation = if spread > 0.0 { (n * xy - x * y) / spread.sqrt() } else { 1.0 };
        Summary {
            name: self.last.name.to_string(),
            points: self.points,
            from_s: seconds(self.first_ns),
            to_s: seconds(self.last.at_ns),
            min: self.min,
            max: self.max,
            mean,
            std: (whole.squares / length as f64 - mean * mean).max(0.0).sqrt(),
            quantiles: [0.05, 0.5, 0.95].map(|q| whole.quantile(q, length)),
            zero_share: whole.zero_ns as f64 / length as f64,
            shortest_step_s: if self.points > 1 { seconds(self.shortest_ns) } else { 0.0 },
            longest_step_s: seconds(self.longest_ns),
            changes: self.changes,
            autocorrelation: correlation.clamp(-1.0, 1.0),
            latency_s: self.last.latency_s.map(|_| whole.latency_sum / length as f64),
            sketch: whole.sketch.cells.iter().map(|c| if c.1 > 0 { c.0 / c.1 as f64 } else { 0.0 }).collect(),
        }
    }

    fn quantile(&self, q: f64, length: u64) -> f64 {
        let mut left = (q * length as f64) as u64;
        for (bin, weight) in &self.histogram {
            if *weight > left {
                let middle = if *bin == i32::MIN {
                    0.0
                } else {
                    libm::exp2((f64::from(*bin) + 0.5) / BINS_PER_OCTAVE)
                };
                return middle.clamp(self.min, self.max);
            }
            left -= weight;
        }
        self.max
    }
}
