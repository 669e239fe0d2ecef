//! Readers of other tools' profiles: text or bytes in, measured operators and layers out. They open no file.
//!
//! | kind | file | holds |
//! | --- | --- | --- |
//! | `sailor` | `profile.json` | layers: `{micro-batch: {tp: {layer: [forward, backward, update]}}}`, s |
//! | `varuna` | `profile_TP.json` | layers: `{layer: {micro-batch: {forward, backward}}}`, s |
//! | `metis` | `..._tpT_bsB.json`, `mbsB_tmpT.json` | layers: `execution_time.layer_compute_total_ms`, both passes |
//! | `amp` | `..._TP.npy` | layers: one forward time each, s |
//! | `galvatron` | `computation_profiling_*.json` | layers: forward time of n of them, ms |
//! | `vidur` | `mlp.csv` | operators: forward times by tokens and TP, ms |
//! | `llmservingsim` | `dense.csv` | operators: forward times by tokens, us |
//! | `simumax` | `configs/system/*.json` | operators: share of the peak by shape |
//! | `operators` | our CSV, `docs/cost-model.md` | operators, both passes |
//! | `layers` | our CSV, [`crate::device::LayerTable`] | layers |
//!
//! What a file does not say (TP and micro-batch in its name, the GPU, the model's sizes) comes from the [`Context`].

mod layers;
pub mod nccl;
mod operators;

use crate::device::{Format, Operator};
pub use layers::to_csv as layers_to_csv;
pub use operators::{COLUMNS as OPERATOR_COLUMNS, to_csv as operators_to_csv};

/// A profile's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sailor (SOSP'25).
    Sailor,
    /// Varuna, as Sailor's baselines write it.
    Varuna,
    /// Metis (ATC'24).
    Metis,
    /// AMP (NeurIPS'22).
    Amp,
    /// Galvatron.
    Galvatron,
    /// Vidur (MLSys'24).
    Vidur,
    /// LLMServingSim.
    LlmServingSim,
    /// SimuMax.
    SimuMax,
    /// Our operator CSV.
    Operators,
    /// Our layer CSV.
    Layers,
}

impl Kind {
    /// Every kind with its name.
    pub const ALL: [(&'static str, Kind); 10] = [
        ("sailor", Kind::Sailor),
        ("varuna", Kind::Varuna),
        ("metis", Kind::Metis),
        ("amp", Kind::Amp),
        ("galvatron", Kind::Galvatron),
        ("vidur", Kind::Vidur),
        ("llmservingsim", Kind::LlmServingSim),
        ("simumax", Kind::SimuMax),
        ("operators", Kind::Operators),
        ("layers", Kind::Layers),
    ];

    /// The kind of a name, in lower case.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|(n, _)| *n == name).map(|(_, k)| *k)
    }
}

/// Sizes of the model that was profiled, where the file does not give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSizes {
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Key-value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_width: u64,
    /// Width of the MLP.
    pub ffn_hidden: u64,
}

/// What a file does not say itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The file's name or path: errors speak of it, and some formats keep TP and micro-batch in it.
    pub file: String,
    /// Tensor-parallel ranks, where neither file nor name says.
    pub tp: Option<u32>,
    /// Micro-batch, where neither file nor name says.
    pub micro_batch: Option<u32>,
    /// The model's sizes, for formats that do not give them.
    pub sizes: Option<ModelSizes>,
}

/// One operator's measured time.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorPoint {
    /// Its name in the source: `attn_pre_proj`.
    pub name: String,
    /// What it does.
    pub op: Operator,
    /// Number format.
    pub format: Format,
    /// Time, s: finite and positive.
    pub seconds: f64,
}

/// One layer's measured times on one rank. A source gives forward and backward, or both together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerPoint {
    /// Layer, 0 for the first; sources that profile a block alone give 1.
    pub layer: u32,
    /// Sequences of a micro-batch.
    pub micro_batch: u32,
    /// Tensor-parallel ranks.
    pub tp: u32,
    /// Forward pass, s.
    pub forward_s: Option<f64>,
    /// Backward pass, s.
    pub backward_s: Option<f64>,
    /// Both, s.
    pub both_s: Option<f64>,
    /// Optimizer step, s.
    pub update_s: Option<f64>,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Operators.
    pub operators: Vec<OperatorPoint>,
    /// Layers.
    pub layers: Vec<LayerPoint>,
    /// Entries left out because they hold no measurement (empty cells, operators of another kind).
    pub skipped: usize,
}

/// Why a profile could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {place}: {what}")]
pub struct ImportError {
    /// The file, as the context names it.
    pub file: String,
    /// Where in it: a line, a key.
    pub place: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Reads a profile. The largest file taken is 256 MiB.
///
/// # Errors
/// A file that is not of the kind, a time that is not finite and positive, a size of 0 or over 2^30, something the
/// context must say and does not.
pub fn read(kind: Kind, bytes: &[u8], context: &Context) -> Result<Profile, ImportError> {
    let at = |place: &str, what: String| error(context, place, what);
    if bytes.len() > 256 << 20 {
        return Err(at("size", format!("{} bytes: expected at most 256 MiB", bytes.len())));
    }
    if kind == Kind::Amp {
        return layers::amp(bytes, context);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| at("text", format!("not UTF-8: {e}")))?;
    let profile = match kind {
        Kind::Sailor => layers::sailor(text, context),
        Kind::Varuna => layers::varuna(text, context),
        Kind::Metis => layers::metis(text, context),
        Kind::Galvatron => layers::galvatron(text, context),
        Kind::Layers => layers::csv(text, context),
        Kind::Vidur => operators::vidur(text, context),
        Kind::LlmServingSim => operators::llm_serving_sim(text, context),
        Kind::SimuMax => operators::simumax(text, context),
        Kind::Operators => operators::csv(text, context),
        Kind::Amp => layers::amp(bytes, context),
    }?;
    if profile.operators.is_empty() && profile.layers.is_empty() {
        return Err(at("whole file", "holds no measurement of this kind".into()));
    }
    Ok(profile)
}

fn error(context: &Context, place: &str, what: String) -> ImportError {
    let file = if context.file.is_empty() { "profile".to_owned() } else { context.file.clone() };
    ImportError { file, place: place.to_owned(), what }
}

/// A time in s: finite, positive and at most an hour.
fn time(context: &Context, place: &str, value: f64, unit: f64) -> Result<f64, ImportError> {
    let seconds = value * unit;
    if seconds > 0.0 && seconds <= 3600.0 {
        Ok(seconds)
    } else {
        Err(error(context, place, format!("a time of {value}: expected above 0 and at most an hour")))
    }
}

/// A size or a count: 1 to 2^30, so that products of two fit in 64 bits.
fn size(context: &Context, place: &str, value: f64) -> Result<u64, ImportError> {
    if (1.0..=1_073_741_824.0).contains(&value) && libm::trunc(value) == value {
        Ok(value as u64)
    } else {
        Err(error(context, place, format!("a size of {value}: expected a whole number from 1 to 2^30")))
    }
}

/// A whole number that is a key of the file: at least `least`, below 2^20.
fn key(context: &Context, what: &str, text: &str, least: u32) -> Result<u32, ImportError> {
    text.trim()
        .parse::<u32>()
        .ok()
        .filter(|n| (least..1 << 20).contains(n))
        .ok_or_else(|| error(context, text, format!("expected {what}: a whole number from {least} to 2^20")))
}

/// The number right behind the first of `marks` that the file's name holds: 4 in `mbs4_tmp2.json` for `mbs`.
fn in_name(context: &Context, marks: &[&str]) -> Option<u32> {
    let name = context.file.rsplit(['/', '\\']).next()?;
    marks.iter().find_map(|mark| {
        let rest = &name[name.rfind(mark)? + mark.len()..];
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|n| (1..1 << 20).contains(n))
    })
}

fn tp_of(context: &Context, marks: &[&str]) -> Result<u32, ImportError> {
    in_name(context, marks).or(context.tp).filter(|n| *n > 0).ok_or_else(|| {
        error(context, "name", "the file does not say its tensor-parallel size: give it (at least 1)".into())
    })
}

fn micro_batch_of(context: &Context, marks: &[&str]) -> Result<u32, ImportError> {
    in_name(context, marks).or(context.micro_batch).filter(|n| *n > 0).ok_or_else(|| {
        error(context, "name", "the file does not say its micro-batch: give it (at least 1)".into())
    })
}

#[cfg(test)]
mod tests;
