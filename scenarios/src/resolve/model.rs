//! `[model]`: a built-in, a Hugging Face configuration, or sizes.

use super::Context;
use crate::fault::{At, Faults, Place};
use crate::files;
use crate::format::{ExpertsTable, LatentTable, ModelTable};
use crate::nearest::suggestion;
use sim_models::workload::{Biases, Experts, Latent, Model, Norm};

/// Most parameters: beyond them products of sizes and bytes leave 64 bits.
const MOST_PARAMETERS: u128 = 1 << 56;

/// The model.
pub(super) fn model(table: &At<ModelTable>, cx: &mut Context<'_>) -> Option<Model> {
    let t = &table.value;
    let name = t.name.as_ref()?;
    let model = match (&t.config, Model::builtin(&name.value.0)) {
        (Some(config), _) => {
            sizes_are_known(t, "a Hugging Face configuration", cx.faults)?;
            let (text, whole) = cx.file(config, files::DOCUMENT)?;
            match Model::from_hugging_face(&text.text, &name.value.0) {
                Ok(model) => with_sequence(model, t),
                Err(error) => {
                    cx.faults.push(
                        whole,
                        "T0304",
                        error.to_string(),
                        "the `config.json` beside a model's weights",
                    );
                    return None;
                }
            }
        }
        (None, Some(model)) => {
            sizes_are_known(t, "a built-in model", cx.faults)?;
            with_sequence(model, t)
        }
        (None, None) => by_sizes(t, name.place, &name.value.0, cx.faults)?,
    };
    let all = (0..model.layers()).map(|l| u128::from(model.parameters(l, 1))).sum::<u128>();
    if all > MOST_PARAMETERS {
        let message =
            format!("`{}` has {all} parameters: at most {MOST_PARAMETERS} are simulated", model.name);
        cx.faults.push(table.place, "T0304", message, "look for a slip in its sizes");
        return None;
    }
    Some(model)
}

/// Places of sizes that are given, the sequence apart.
fn given(t: &ModelTable) -> Option<Place> {
    let places = [
        t.blocks.as_ref().map(|v| v.place),
        t.hidden.as_ref().map(|v| v.place),
        t.heads.as_ref().map(|v| v.place),
        t.ffn_hidden.as_ref().map(|v| v.place),
        t.vocab.as_ref().map(|v| v.place),
        t.positions.as_ref().map(|v| v.place),
        t.tied_embeddings.as_ref().map(|v| v.place),
        t.kv_heads.as_ref().map(|v| v.place),
        t.head_width.as_ref().map(|v| v.place),
        t.gated.as_ref().map(|v| v.place),
        t.norm.as_ref().map(|v| v.place),
        t.biases.as_ref().map(|v| v.place),
        t.window.as_ref().map(|v| v.place),
        t.experts.as_ref().map(|v| v.place),
        t.latent.as_ref().map(|v| v.place),
    ];
    places.into_iter().flatten().min()
}

fn sizes_are_known(t: &ModelTable, what: &str, faults: &mut Faults) -> Option<()> {
    let Some(place) = given(t) else { return Some(()) };
    let name = t.name.as_ref().map_or("", |n| &n.value.0);
    let message = format!("`{name}` is {what}: its sizes are known");
    let help =
        "give a model of your own another name: layer times are found by it; `seq_len` alone may differ";
    faults.push(place, "T0304", message, help);
    None
}

fn with_sequence(model: Model, t: &ModelTable) -> Model {
    let Some(seq_len) = &t.seq_len else { return model };
    let seq_len = seq_len.value.0;
    // Learned positions are as many as the longest sequence.
    let positions = if model.positions > 0 { model.positions.max(seq_len) } else { 0 };
    Model { seq_len, positions, ..model }
}

fn by_sizes(t: &ModelTable, place: Place, name: &str, faults: &mut Faults) -> Option<Model> {
    if given(t).is_none() && t.seq_len.is_none() {
        let names: Vec<&str> = Model::builtin_names().collect();
        let help = format!("{} (a model of your own needs its sizes)", suggestion(name, &names));
        faults.push(place, "T0304", format!("unknown model `{name}`"), help);
        return None;
    }
    for key in ["blocks", "hidden", "heads", "seq_len", "vocab"] {
        t.lacks(key, faults);
    }
    let (hidden, heads) = (t.hidden.as_ref()?.value.0, t.heads.as_ref()?.value.0);
    let seq_len = t.seq_len.as_ref()?.value.0;
    let base =
        Model::gpt(name, t.blocks.as_ref()?.value.u32(), hidden, heads, seq_len, t.vocab.as_ref()?.value.0);
    let kv_heads = match &t.kv_heads {
        Some(kv) if kv.value.0 > heads || !heads.is_multiple_of(kv.value.0) => {
            let message = format!("`kv_heads` is {}, with {heads} heads", kv.value.0);
            faults.push(kv.place, "T0304", message, "a divisor of `heads`");
            return None;
        }
        Some(kv) => kv.value.0,
        None => heads,
    };
    let experts = match &t.experts {
        Some(table) => Some(experts(&table.value, faults)?),
        None => None,
    };
    let latent = match &t.latent {
        Some(table) => Some(latent(&table.value)?),
        None => None,
    };
    let head_width = t.head_width.as_ref().map_or(base.head_width, |v| v.value.0);
    if let (Some(latent), Some(table)) = (&latent, &t.latent)
        && latent.rope_width > head_width
    {
        let message = format!("`rope_width` is {}, `head_width` {head_width}", latent.rope_width);
        faults.push(table.place, "T0304", message, "the rotated part is part of `head_width`");
        return None;
    }
    Some(Model {
        kv_heads,
        head_width,
        ffn_hidden: t.ffn_hidden.as_ref().map_or(base.ffn_hidden, |v| v.value.0),
        gated: t.gated.as_ref().is_some_and(|v| v.value),
        positions: t.positions.as_ref().map_or(seq_len, |v| v.value.0),
        tied_embeddings: t.tied_embeddings.as_ref().is_none_or(|v| v.value),
        norm: t.norm.as_ref().map_or(Norm::Layer, |v| v.value),
        biases: t.biases.as_ref().map_or(Biases::All, |v| v.value),
        window: t.window.as_ref().map_or(0, |v| v.value.0),
        experts,
        latent,
        ..base
    })
}

fn experts(t: &ExpertsTable, faults: &mut Faults) -> Option<Experts> {
    let (count, top_k) = (t.count.as_ref()?.value.0, t.top_k.as_ref()?);
    if top_k.value.0 > count {
        let message = format!("`top_k` is {}, of {count} experts", top_k.value.0);
        faults.push(top_k.place, "T0304", message, "at most `count`");
        return None;
    }
    let mut at_least_one = |value: &Option<At<crate::read::Factor>>, name: &str| match value {
        Some(v) if v.value.0 < 1.0 || v.value.0 > 1e3 => {
            let message = format!("`{name}` is {}", v.value.0);
            faults.push(v.place, "T0304", message, "a multiple of the mean: from 1 to 1000");
            Err(())
        }
        Some(v) => Ok(Some(v.value.0)),
        None => Ok(None),
    };
    let imbalance = at_least_one(&t.imbalance, "imbalance").ok()?.unwrap_or(1.0);
    let capacity = at_least_one(&t.capacity, "capacity").ok()?;
    Some(Experts {
        count,
        top_k: top_k.value.0,
        ffn_hidden: t.ffn_hidden.as_ref()?.value.0,
        shared_ffn: t.shared_ffn.as_ref().map_or(0, |v| v.value.0),
        dense_blocks: t.dense_blocks.as_ref().map_or(0, |v| v.value.u32()),
        node_limit: t.node_limit.as_ref().map(|v| v.value.0),
        imbalance,
        capacity,
    })
}

fn latent(t: &LatentTable) -> Option<Latent> {
    Some(Latent {
        q_rank: t.q_rank.as_ref()?.value.0,
        kv_rank: t.kv_rank.as_ref()?.value.0,
        rope_width: t.rope_width.as_ref()?.value.0,
        value_width: t.value_width.as_ref()?.value.0,
    })
}
