//! A row of a runs file: what was run, on what, how long it took. Every cell that is read is checked here; what is wrong with
//! a row stays with it, what is wrong with the file is an error.

use super::{Reason, RunsError, Skip};
use csv::{ReaderBuilder, StringRecord, Trim};
use std::collections::BTreeMap;

/// How far a figure can be relied on, as the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Audited or checked.
    A,
    /// A vendor's or an author's own figure; also where the cell is empty.
    B,
    /// Noisy, stalled or corrupt: reported apart.
    C,
}

/// Columns without which nothing can be scored.
const NEEDED: [&str; 11] =
    ["id", "source", "trust", "model", "gpu", "gpus", "tp", "pp", "dp", "micro_batch", "global_batch"];
/// What is predicted.
const TIME: &str = "iter_time_s";
/// Columns that say how it went, and where from: two rows that differ in these alone are one configuration, run twice.
const OUTCOME: [&str; 13] = [
    "id",
    "reference",
    "url",
    "trust",
    TIME,
    "iter_time_from",
    "tokens_per_s_per_gpu",
    "tflops_per_gpu",
    "flop_convention",
    "mfu_pct",
    "hfu_pct",
    "peak_mem_gib",
    "notes",
];

/// Largest count that a cell may hold: GPUs, samples, layers, widths.
const MOST: f64 = 1e9;
/// Longest iteration, seconds: 31 years.
const LONGEST_S: f64 = 1e9;
/// Largest memory of one GPU, GiB.
const MOST_GIB: f64 = 1e6;

/// One measured run. `None` where the cell is empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// In the file, from 1.
    pub line: u64,
    /// Its name, by which `--plans` finds its plan.
    pub id: String,
    /// Who measured it, verbatim.
    pub source: String,
    /// How far to rely on it.
    pub trust: Trust,
    /// The model's name.
    pub model: String,
    /// Transformer blocks.
    pub layers: Option<u64>,
    /// Width of the residual stream.
    pub hidden: Option<u64>,
    /// Attention heads.
    pub heads: Option<u64>,
    /// Key-value heads.
    pub kv_heads: Option<u64>,
    /// Width of the MLP.
    pub ffn_hidden: Option<u64>,
    /// Tokens a sample.
    pub seq_len: Option<u64>,
    /// Tokens in the vocabulary.
    pub vocab: Option<u64>,
    /// Experts a layer; 0 or 1 is a dense model.
    pub experts: Option<u64>,
    /// Experts that a token is sent to.
    pub top_k: Option<u64>,
    /// GPUs by name, as written: from `gpu_mix`, or `gpu` and `gpus`.
    pub mix: Vec<(String, u64)>,
    /// All GPUs.
    pub gpus: Option<u64>,
    /// GPUs a node.
    pub gpus_per_node: Option<u64>,
    /// What joins the GPUs of a node, as the source words it.
    pub intra_link: String,
    /// What joins nodes.
    pub inter_link: String,
    /// Remarks: read for the name of a machine alone.
    pub notes: String,
    /// Tensor parallelism.
    pub tp: Option<u64>,
    /// Pipeline stages.
    pub pp: Option<u64>,
    /// Data-parallel replicas.
    pub dp: Option<u64>,
    /// Context parallelism.
    pub cp: Option<u64>,
    /// Expert parallelism.
    pub ep: Option<u64>,
    /// Virtual stages a device.
    pub vpp: Option<u64>,
    /// Samples a micro-batch.
    pub micro_batch: Option<u64>,
    /// Samples an iteration.
    pub global_batch: Option<u64>,
    /// `none`, `selective`, `full`, or empty.
    pub recompute: String,
    /// Whether norms and dropouts are split over the sequence.
    pub sequence_parallel: Option<bool>,
    /// Optimizer sharding, as the source words it.
    pub zero: String,
    /// Number format, as the source words it.
    pub precision: String,
    /// Framework, as the source words it.
    pub framework: String,
    /// The plan, in the form of [`super::plan::parse`]; a column of our own.
    pub plan: String,
    /// Measured time of an iteration, s.
    pub iter_time_s: Option<f64>,
    /// Measured peak of the fullest GPU.
    pub peak_mem_gib: Option<f64>,
    /// Everything that says what was run, verbatim: equal for repeated runs.
    pub configuration: String,
    /// The first thing wrong with it.
    pub fault: Option<String>,
}

/// What a file of rows must have.
pub(super) struct Columns {
    /// Columns that identify and describe a row.
    pub needed: &'static [&'static str],
    /// The column that is predicted.
    pub target: Option<&'static str>,
}

impl Columns {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        self.needed.iter().copied().chain(self.target)
    }
}

/// Reads a runs file.
///
/// # Errors
/// Not CSV, a column missing or given twice, no rows, or not one row whose cells can be read.
pub fn read(text: &str) -> Result<Vec<Row>, RunsError> {
    read_as(text, &Columns { needed: &NEEDED, target: Some(TIME) })
}

/// Reads a file with at least these columns.
pub(super) fn read_as(text: &str, needed: &Columns) -> Result<Vec<Row>, RunsError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        ReaderBuilder::new().flexible(true).trim(Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
    let not_csv = |e: csv::Error| RunsError {
        line: e.position().map_or(1, csv::Position::line),
        what: format!("{e}: expected comma-separated values in UTF-8"),
    };
    let header = reader.headers().map_err(not_csv)?.clone();
    let columns = columns(&header, needed)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(not_csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        rows.push(Cells { columns: &columns, header: &header, record: &record, fault: None }.row(line));
    }
    let first = rows.first().ok_or_else(|| RunsError {
        line: 1,
        what: "no rows below the header: expected one measured run a line".into(),
    })?;
    match &first.fault {
        Some(fault) if rows.iter().all(|r| r.fault.is_some()) => Err(RunsError {
            line: first.line,
            what: format!("{fault} (and no other row of the file can be read either)"),
        }),
        _ => Ok(rows),
    }
}

fn columns<'a>(header: &'a StringRecord, needed: &Columns) -> Result<BTreeMap<&'a str, usize>, RunsError> {
    let fail = |what: String| RunsError { line: 1, what };
    if header.iter().all(str::is_empty) {
        let names: Vec<&str> = needed.all().collect();
        return Err(fail(format!("the file is empty: expected a header with at least {}", names.join(", "))));
    }
    let mut columns = BTreeMap::new();
    for (i, name) in header.iter().enumerate() {
        if columns.insert(name, i).is_some() && !name.is_empty() {
            return Err(fail(format!("column `{}` is there twice: expected it once", shorten(name))));
        }
    }
    let missing: Vec<&str> = needed.all().filter(|c| !columns.contains_key(c)).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = needed.all().collect();
        return Err(fail(format!(
            "no column `{}`: expected a header with at least {}",
            missing.join("`, `"),
            names.join(", ")
        )));
    }
    Ok(columns)
}

/// A cell as a message shows it.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

/// The cells of one line.
struct Cells<'a> {
    columns: &'a BTreeMap<&'a str, usize>,
    header: &'a StringRecord,
    record: &'a StringRecord,
    fault: Option<String>,
}

impl Cells<'_> {
    fn text(&self, column: &str) -> &str {
        self.columns.get(column).and_then(|i| self.record.get(*i)).unwrap_or("")
    }

    fn fault(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    /// A positive number up to `most`.
    fn real(&mut self, column: &str, most: f64) -> Option<f64> {
        let text = self.text(column);
        if text.is_empty() {
            return None;
        }
        match text.parse::<f64>() {
            Ok(value) if value > 0.0 && value <= most => Some(value),
            _ => {
                let what =
                    format!("`{column}` is `{}`: expected a number above 0, at most {most:e}", shorten(text));
                self.fault(what);
                None
            }
        }
    }

    /// A whole number from `least`.
    fn count(&mut self, column: &str, least: u64) -> Option<u64> {
        let text = self.text(column);
        if text.is_empty() {
            return None;
        }
        match text.parse::<f64>() {
            Ok(value) if value >= least as f64 && value <= MOST && value == libm::trunc(value) => {
                Some(value as u64)
            }
            _ => {
                let what = format!(
                    "`{column}` is `{}`: expected a whole number from {least} to {MOST:e}",
                    shorten(text)
                );
                self.fault(what);
                None
            }
        }
    }

    /// 1, true, yes; 0, false, no; or a word by which a framework calls one of its ways to do it (`msp`, `ulysses`).
    fn flag(&mut self, column: &str) -> Option<bool> {
        let text = self.text(column).to_ascii_lowercase();
        match text.as_str() {
            "" => None,
            "1" | "1.0" | "true" | "yes" | "on" => Some(true),
            "0" | "0.0" | "false" | "no" | "off" | "none" => Some(false),
            _ if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.parse::<f64>().is_err() => {
                Some(true)
            }
            _ => {
                self.fault(format!("`{column}` is `{}`: expected 1 or 0", shorten(&text)));
                None
            }
        }
    }

    /// `RTX-3090x8;Titan-RTXx8`, or the one GPU there is.
    fn mix(&mut self, gpus: Option<u64>) -> Vec<(String, u64)> {
        let text = self.text("gpu_mix");
        if text.is_empty() {
            let gpu = self.text("gpu");
            return if gpu.is_empty() { Vec::new() } else { vec![(gpu.into(), gpus.unwrap_or(0))] };
        }
        let part = |part: &str| {
            let (name, count) = part.trim().rsplit_once('x')?;
            let count = count.parse::<u32>().ok().filter(|n| *n > 0)?;
            (!name.is_empty()).then(|| (name.to_string(), u64::from(count)))
        };
        match text.split(';').map(part).collect::<Option<Vec<_>>>() {
            Some(mix) => {
                let sum: u64 = mix.iter().map(|(_, n)| n).sum();
                if gpus.is_some_and(|gpus| gpus != sum) {
                    let what = format!("`gpu_mix` has {sum} GPUs, `gpus` says {}", gpus.unwrap_or(0));
                    self.fault(what);
                }
                mix
            }
            None => {
                let what = format!(
                    "`gpu_mix` is `{}`: expected names and counts such as `RTX-3090x8;Titan-RTXx8`",
                    shorten(text)
                );
                self.fault(what);
                Vec::new()
            }
        }
    }

    fn row(mut self, line: u64) -> Row {
        let (have, want) = (self.record.len(), self.header.len());
        if have != want {
            self.fault(format!("{have} cells: expected {want}, as in the header"));
        }
        let trust = match self.text("trust") {
            "A" => Trust::A,
            "B" | "" => Trust::B,
            "C" => Trust::C,
            other => {
                let what = format!("`trust` is `{}`: expected A, B or C", shorten(other));
                self.fault(what);
                Trust::B
            }
        };
        let outcome = |name: &str| OUTCOME.contains(&name);
        let run = self.header.iter().zip(self.record).filter(|(name, _)| !outcome(name));
        let configuration = run.map(|(_, cell)| cell).collect::<Vec<_>>().join("\u{1f}");
        let gpus = self.count("gpus", 1);
        let text = |cells: &Self, column: &str| cells.text(column).to_string();
        let mut row = Row {
            line,
            id: text(&self, "id"),
            source: text(&self, "source"),
            trust,
            model: text(&self, "model"),
            layers: self.count("layers", 1),
            hidden: self.count("hidden", 1),
            heads: self.count("heads", 1),
            kv_heads: self.count("kv_heads", 1),
            ffn_hidden: self.count("ffn_hidden", 1),
            seq_len: self.count("seq_len", 1),
            vocab: self.count("vocab", 1),
            experts: self.count("experts", 0),
            top_k: self.count("topk", 0),
            mix: self.mix(gpus),
            gpus,
            gpus_per_node: self.count("gpus_per_node", 1),
            intra_link: text(&self, "intra_link"),
            inter_link: text(&self, "inter_link"),
            notes: text(&self, "notes"),
            tp: self.count("tp", 1),
            pp: self.count("pp", 1),
            dp: self.count("dp", 1),
            cp: self.count("cp", 1),
            ep: self.count("ep", 1),
            vpp: self.count("vpp", 1),
            micro_batch: self.count("micro_batch", 1),
            global_batch: self.count("global_batch", 1),
            recompute: text(&self, "recompute"),
            sequence_parallel: self.flag("seq_parallel"),
            zero: text(&self, "zero"),
            precision: text(&self, "precision"),
            framework: text(&self, "framework"),
            plan: text(&self, "plan"),
            iter_time_s: self.real(TIME, LONGEST_S),
            peak_mem_gib: self.real("peak_mem_gib", MOST_GIB),
            configuration,
            fault: None,
        };
        row.fault = self.fault.or_else(|| row.contradiction());
        row
    }
}

impl Row {
    /// Cells that cannot all be right.
    pub(super) fn contradiction(&self) -> Option<String> {
        let gpus = self.gpus?;
        let degrees = [self.tp?, self.pp?, self.dp?, self.cp.unwrap_or(1)];
        let product = degrees.iter().try_fold(1u64, |p, d| p.checked_mul(*d));
        (product != Some(gpus)).then(|| {
            let [tp, pp, dp, cp] = degrees;
            format!("tp {tp} x pp {pp} x dp {dp} x cp {cp} is not `gpus` {gpus}")
        })
    }

    /// Takes what this row does not say of its model, its nodes and its framework from a run of the same model.
    pub(super) fn fill_from(&mut self, run: &Row) {
        let cells = [
            (&mut self.layers, run.layers),
            (&mut self.hidden, run.hidden),
            (&mut self.heads, run.heads),
            (&mut self.kv_heads, run.kv_heads),
            (&mut self.ffn_hidden, run.ffn_hidden),
            (&mut self.seq_len, run.seq_len),
            (&mut self.vocab, run.vocab),
            (&mut self.experts, run.experts),
            (&mut self.top_k, run.top_k),
            (&mut self.gpus_per_node, run.gpus_per_node),
        ];
        for (own, other) in cells {
            *own = own.or(other);
        }
        self.sequence_parallel = self.sequence_parallel.or(run.sequence_parallel);
        let texts = [
            (&mut self.recompute, &run.recompute),
            (&mut self.precision, &run.precision),
            (&mut self.framework, &run.framework),
            (&mut self.intra_link, &run.intra_link),
            (&mut self.inter_link, &run.inter_link),
        ];
        for (own, other) in texts {
            if own.is_empty() {
                own.clone_from(other);
            }
        }
    }

    /// The cell, or that it is missing.
    pub(super) fn need<T>(cell: Option<T>, column: &str) -> Result<T, Skip> {
        cell.ok_or_else(|| Skip::new(Reason::MissingField, format!("`{column}` is empty")))
    }
}
