//! The model that a row trained: known by name, or made of the sizes it gives, with what its framework's models have where
//! neither says.

use super::row::Row;
use super::{Reason, Skip};
use sim_models::framework::Framework;
use sim_models::workload::{Experts, Model};

/// Names of model families with GPT-2's block (two matrices in the MLP, biases, layer norms) and with Llama's.
const GPT: [&str; 10] = ["gpt2", "gpt3", "gpt-", "gpt ", "opt", "bloom", "mpt", "megatron", "bert", "falcon"];
const LLAMA: [&str; 12] = [
    "llama", "qwen", "mistral", "mixtral", "internlm", "baichuan", "yi-", "gemma", "deepseek", "nemotron",
    "gptoss", "phi-3",
];
/// Width of a head where nobody says: GPT-2's and GPT-3's small models, and the large ones.
const HEAD_WIDTH: u64 = 128;
const SMALL_HEAD_WIDTH: u64 = 64;
/// Residual streams narrower than this have the small heads.
const SMALL: u64 = 2048;
/// Experts a token is sent to where nobody says: GShard's, Mixtral's.
const TOP_K: u64 = 2;
/// Most blocks of a model.
const MOST_BLOCKS: u64 = 100_000;

fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The built-in model that a name begins with, if its width is not another.
fn known(row: &Row) -> Option<Model> {
    let name = plain(&row.model);
    let fits = |m: &Model| row.hidden.is_none_or(|h| h == m.hidden);
    let mut names: Vec<&str> = Model::builtin_names().filter(|n| name.starts_with(&plain(n))).collect();
    names.sort_by_key(|n| n.len());
    names.into_iter().rev().find_map(|n| Model::builtin(n).filter(fits))
}

fn has(name: &str, families: &[&str]) -> bool {
    let short = plain(name);
    families.iter().any(|f| name.starts_with(f) || short.starts_with(f) || name.contains(&format!(" {f}")))
}

/// Whether its block is of Llama's kind.
fn is_llama(row: &Row, framework: &Framework) -> bool {
    let name = row.model.to_lowercase();
    match row.ffn_hidden.zip(row.hidden) {
        _ if has(&name, &LLAMA) || name.contains("llama") => true,
        _ if has(&name, &GPT) => false,
        // A gate's third matrix is paid for with a narrower MLP: 8/3 of the width and its roundings.
        Some((ffn, hidden)) if ffn * 10 < hidden * 38 => true,
        _ => framework.habits.llama,
    }
}

/// Heads that ranks share out evenly: of about this width, whole pieces of 8 where the stream allows it.
fn heads_near(hidden: u64, tp: u64, width: u64) -> u64 {
    let step = tp.max(1);
    let near = ((hidden / width).max(1).div_ceil(step) * step).max(step);
    let whole = |heads: &u64| hidden.is_multiple_of(8 * heads);
    let up = (near..=2 * near).step_by(step as usize).find(whole);
    let down = (step..=near).rev().step_by(step as usize).find(whole);
    match (up, down) {
        (Some(up), Some(down)) if up * down > near * near => down,
        (Some(up), _) => up,
        (None, down) => down.unwrap_or(near),
    }
}

/// The model, from name, cells and framework.
///
/// # Errors
/// Which cell is missing, or that cells contradict each other.
pub(super) fn model(row: &Row, framework: &Framework) -> Result<Model, Skip> {
    if row.model.is_empty() && row.hidden.is_none() {
        return Row::need(None, "model");
    }
    let known = known(row);
    let layers = row.layers.or(known.as_ref().map(|m| u64::from(m.blocks)));
    let layers = Row::need(layers, "layers")?;
    if layers > MOST_BLOCKS {
        return Err(Skip::new(
            Reason::Corrupt,
            format!("`layers` is {layers}: expected at most {MOST_BLOCKS}"),
        ));
    }
    let hidden = Row::need(row.hidden.or(known.as_ref().map(|m| m.hidden)), "hidden")?;
    let seq_len = Row::need(row.seq_len.or(known.as_ref().map(|m| m.seq_len)), "seq_len")?;
    let vocab = row.vocab.or(known.as_ref().map(|m| m.vocab)).unwrap_or(framework.habits.vocab);
    let tp = row.tp.unwrap_or(1);
    let heads = row.heads.or(known.as_ref().map(|m| m.heads)).unwrap_or_else(|| {
        heads_near(hidden, tp, if hidden < SMALL { SMALL_HEAD_WIDTH } else { HEAD_WIDTH })
    });
    let blocks = layers as u32;
    let named = known.is_some();
    let mut model = match known {
        Some(m) => Model { blocks, hidden, seq_len, vocab, ..m },
        None if is_llama(row, framework) => Model::llama(&row.model, blocks, hidden, heads, seq_len, vocab),
        None => Model::gpt(&row.model, blocks, hidden, heads, seq_len, vocab),
    };
    if row.heads.is_some_and(|h| h != model.heads) {
        model.heads = heads;
        model.kv_heads = heads;
        model.head_width = (hidden / heads).max(1);
    }
    if let Some(kv) = row.kv_heads.filter(|_| model.latent.is_none()) {
        model.kv_heads = kv;
    }
    if model.kv_heads > model.heads || !model.heads.is_multiple_of(model.kv_heads.max(1)) {
        let (kv, heads) = (model.kv_heads, model.heads);
        return Err(Skip::new(Reason::Corrupt, format!("{heads} heads share {kv} of keys and values")));
    }
    // A plan of its own has its own degrees.
    if row.plan.is_empty() && !model.heads.is_multiple_of(tp) {
        let heads = model.heads;
        return Err(Skip::new(Reason::Corrupt, format!("tp {tp} does not divide the {heads} heads")));
    }
    if row.vocab.is_none() && vocab == framework.habits.vocab {
        model.vocab_step = framework.habits.vocab_step;
    }
    if model.positions > 0 {
        model.positions = seq_len;
    }
    experts(row, &mut model);
    if !named {
        model.tied_embeddings |= model.ffn_hidden < framework.habits.tied_below;
    }
    Ok(model)
}

/// Dense or a mixture, by the cells where they say, else as the known model is.
fn experts(row: &Row, model: &mut Model) {
    let ffn = row.ffn_hidden;
    match row.experts {
        Some(count) if count > 1 => {
            let own = model.experts.filter(|e| e.count == count);
            let mut experts = own.unwrap_or(Experts {
                count,
                top_k: TOP_K.min(count),
                ffn_hidden: ffn.unwrap_or(model.ffn_hidden),
                shared_ffn: 0,
                node_limit: None,
                dense_blocks: 0,
                imbalance: 1.0,
                capacity: None,
            });
            experts.top_k = row.top_k.filter(|k| *k > 0).unwrap_or(experts.top_k).min(count);
            if let Some(whole) = Model::builtin(&model.name).filter(|m| m.blocks != model.blocks) {
                // A model cut short keeps the share of its dense blocks, and one of those it had.
                let least = experts.dense_blocks.min(1);
                experts.dense_blocks = (experts.dense_blocks * model.blocks / whole.blocks.max(1)).max(least);
            }
            model.experts = Some(experts);
            if own.is_none() {
                model.ffn_hidden = ffn.unwrap_or(model.ffn_hidden);
            }
        }
        Some(_) => {
            model.experts = None;
            model.ffn_hidden = ffn.unwrap_or(model.ffn_hidden);
        }
        None => {
            if model.experts.is_none() {
                model.ffn_hidden = ffn.unwrap_or(model.ffn_hidden);
            }
        }
    }
}
