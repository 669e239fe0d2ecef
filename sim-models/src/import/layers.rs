//! Profiles of whole layers: Sailor, Varuna, Metis, AMP, Galvatron, and our own table.

use super::{Context, ImportError, LayerPoint, Profile, error, key, micro_batch_of, time, tp_of};
use crate::device::LayerTable;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Most layers of a model that is read.
const MAX_LAYERS: usize = 100_000;

fn json<'a, T: Deserialize<'a>>(text: &'a str, context: &Context) -> Result<T, ImportError> {
    serde_json::from_str(text).map_err(|e| {
        error(context, &format!("line {}, column {}", e.line(), e.column()), format!("not of this kind: {e}"))
    })
}

/// Sources round what is too short to see to 0 (a backward pass of an embedding).
fn maybe(context: &Context, place: &str, value: f64, unit: f64) -> Result<Option<f64>, ImportError> {
    if value == 0.0 { Ok(None) } else { time(context, place, value, unit).map(Some) }
}

pub(super) fn sailor(text: &str, context: &Context) -> Result<Profile, ImportError> {
    type Times = BTreeMap<String, BTreeMap<String, BTreeMap<String, [f64; 3]>>>;
    let file: Times = json(text, context)?;
    let mut profile = Profile::default();
    for (b, by_tp) in &file {
        let micro_batch = key(context, "a micro-batch", b, 1)?;
        for (t, by_layer) in by_tp {
            let tp = key(context, "a tensor-parallel size", t, 1)?;
            for (l, [forward, backward, update]) in by_layer {
                let place = format!("{b}.{t}.{l}");
                profile.layers.push(LayerPoint {
                    layer: key(context, "a layer", l, 0)?,
                    micro_batch,
                    tp,
                    forward_s: maybe(context, &place, *forward, 1.0)?,
                    backward_s: maybe(context, &place, *backward, 1.0)?,
                    both_s: None,
                    update_s: maybe(context, &place, *update, 1.0)?,
                });
            }
        }
    }
    profile.layers.sort_by_key(|p| (p.micro_batch, p.tp, p.layer));
    Ok(profile)
}

pub(super) fn varuna(text: &str, context: &Context) -> Result<Profile, ImportError> {
    #[derive(Deserialize)]
    struct Times {
        forward: Option<f64>,
        backward: Option<f64>,
    }
    let file: BTreeMap<String, BTreeMap<String, Times>> = json(text, context)?;
    let tp = tp_of(context, &["profile_"])?;
    let mut profile = Profile::default();
    for (l, by_batch) in &file {
        for (b, times) in by_batch {
            let place = format!("{l}.{b}");
            // A micro-batch that did not fit stands there empty.
            let (Some(forward), Some(backward)) = (times.forward, times.backward) else {
                profile.skipped += 1;
                continue;
            };
            profile.layers.push(LayerPoint {
                layer: key(context, "a layer", l, 0)?,
                micro_batch: key(context, "a micro-batch", b, 1)?,
                tp,
                forward_s: maybe(context, &place, forward, 1.0)?,
                backward_s: maybe(context, &place, backward, 1.0)?,
                both_s: None,
                update_s: None,
            });
        }
    }
    profile.layers.sort_by_key(|p| (p.micro_batch, p.layer));
    Ok(profile)
}

pub(super) fn metis(text: &str, context: &Context) -> Result<Profile, ImportError> {
    #[derive(Deserialize)]
    struct File {
        execution_time: Execution,
    }
    #[derive(Deserialize)]
    struct Execution {
        layer_compute_total_ms: Vec<f64>,
    }
    let file: File = json(text, context)?;
    let (tp, micro_batch) = (tp_of(context, &["_tp", "tmp"])?, micro_batch_of(context, &["_bs", "mbs"])?);
    let mut profile = Profile::default();
    for (layer, ms) in (0..).zip(&file.execution_time.layer_compute_total_ms) {
        let place = format!("execution_time.layer_compute_total_ms[{layer}]");
        let both_s = maybe(context, &place, *ms, 1e-3)?;
        profile.layers.push(LayerPoint {
            layer,
            micro_batch,
            tp,
            forward_s: None,
            backward_s: None,
            both_s,
            update_s: None,
        });
    }
    Ok(profile)
}

/// NumPy's format, version 1: magic, version, header length, header (a Python dictionary), little-endian f64.
pub(super) fn amp(bytes: &[u8], context: &Context) -> Result<Profile, ImportError> {
    let fail = |what: &str| error(context, "NumPy header", what.to_owned());
    let rest =
        bytes.strip_prefix(b"\x93NUMPY\x01\x00").ok_or_else(|| fail("expected a .npy file of version 1"))?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(|| fail("the file ends in its header"))?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (header, data) = rest.split_at_checked(length).ok_or_else(|| fail("the file ends in its header"))?;
    let header = String::from_utf8_lossy(header);
    let one_dimension = header
        .split("'shape':")
        .nth(1)
        .is_some_and(|s| s.trim_start().starts_with('(') && s.matches(',').count() <= 2);
    if !header.contains("'<f8'") || !one_dimension {
        return Err(fail("expected one dimension of little-endian 64-bit floats"));
    }
    let tp = tp_of(context, &["profile_", "P3_", "G4_", "_"])?;
    let micro_batch = context.micro_batch.filter(|b| *b > 0).unwrap_or(1);
    let (values, odd) = data.as_chunks::<8>();
    if !odd.is_empty() || values.is_empty() || values.len() > MAX_LAYERS {
        return Err(error(
            context,
            "data",
            format!("{} bytes: expected 8 a layer, 1 to 100,000 layers", data.len()),
        ));
    }
    let mut profile = Profile::default();
    for (layer, value) in (0..).zip(values) {
        profile.layers.push(LayerPoint {
            layer,
            micro_batch,
            tp,
            forward_s: maybe(context, &format!("layer {layer}"), f64::from_le_bytes(*value), 1.0)?,
            backward_s: None,
            both_s: None,
            update_s: None,
        });
    }
    Ok(profile)
}

/// `layernum[n]_bszB_seqS: ms` is the forward time of n layers and what is around them: the difference between two n
/// is that of a layer. Where a batch has one n alone, nothing can be said of a layer, and it is left out.
/// `layertype_0: ms` (as Sailor writes it) is a layer's forward time of one sample.
pub(super) fn galvatron(text: &str, context: &Context) -> Result<Profile, ImportError> {
    let file: BTreeMap<String, f64> = json(text, context)?;
    let tp = context.tp.filter(|t| *t > 0).unwrap_or(1);
    let mut by_batch: BTreeMap<(u32, u32), Vec<(u32, f64)>> = BTreeMap::new();
    let mut profile = Profile::default();
    let point = |micro_batch, forward_s| LayerPoint {
        layer: 1,
        micro_batch,
        tp,
        forward_s: Some(forward_s),
        backward_s: None,
        both_s: None,
        update_s: None,
    };
    for (name, ms) in &file {
        let parts = name.strip_prefix("layernum[").and_then(|rest| rest.split_once("]_bsz"));
        if let Some((n, (b, s))) = parts.and_then(|(n, rest)| Some((n, rest.split_once("_seq")?))) {
            let (n, b) = (key(context, "layers", n, 1)?, key(context, "a batch", b, 1)?);
            let seconds = time(context, name, *ms, 1e-3)?;
            by_batch.entry((key(context, "a sequence length", s, 1)?, b)).or_default().push((n, seconds));
        } else if name == "layertype_0" {
            profile.layers.push(point(1, time(context, name, *ms, 1e-3)?));
        } else {
            profile.skipped += 1;
        }
    }
    for ((_, micro_batch), mut list) in by_batch {
        list.sort_by_key(|(n, _)| *n);
        match (list.first(), list.last()) {
            (Some((n, a)), Some((m, b))) if m > n && b > a => {
                profile.layers.push(point(micro_batch, (b - a) / f64::from(m - n)));
            }
            _ => profile.skipped += list.len(),
        }
    }
    Ok(profile)
}

pub(super) fn csv(text: &str, context: &Context) -> Result<Profile, ImportError> {
    let table =
        LayerTable::from_csv(text).map_err(|e| error(context, &format!("line {}", e.line), e.what))?;
    let mut profile = Profile::default();
    for (micro_batch, tp) in table.configurations() {
        for layer in 0..table.layers() {
            let Some(cost) = table.cost(micro_batch, tp, layer, layer) else { continue };
            let some = |t: sim_core::SimDuration| Some(t.as_secs_f64()).filter(|s| *s > 0.0);
            profile.layers.push(LayerPoint {
                layer,
                micro_batch,
                tp,
                forward_s: some(cost.forward),
                backward_s: some(cost.backward),
                both_s: None,
                update_s: some(cost.update),
            });
        }
    }
    Ok(profile)
}

/// Points as our layer CSV; those that do not tell forward and backward apart are left out. Times not known are 0.
pub fn to_csv(points: &[LayerPoint]) -> String {
    let mut text = String::from("micro_batch,tp,first_layer,last_layer,forward_us,backward_us,update_us\n");
    for p in points {
        let Some(forward) = p.forward_s else { continue };
        let us = |s: Option<f64>| s.unwrap_or(0.0) * 1e6;
        let (l, f, b, u) = (p.layer, forward * 1e6, us(p.backward_s), us(p.update_s));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{},{},{l},{l},{f:.3},{b:.3},{u:.3}", p.micro_batch, p.tp);
    }
    text
}
