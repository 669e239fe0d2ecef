//! Models known by name: `models.toml` beside this file, with the source of each.

use super::{Biases, Experts, Latent, Model};
use serde::Deserialize;
use std::sync::OnceLock;

const TEXT: &str = include_str!("models.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Gpt,
    Llama,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    source: String,
    kind: Kind,
    blocks: u32,
    hidden: u64,
    heads: u64,
    kv_heads: Option<u64>,
    head_width: Option<u64>,
    ffn_hidden: Option<u64>,
    seq_len: u64,
    vocab: u64,
    tied_embeddings: Option<bool>,
    biases: Option<Biases>,
    #[serde(default)]
    window: u64,
    experts: Option<Experts>,
    latent: Option<Latent>,
}

/// A model known by name, and where its sizes are from.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    model: Model,
    source: String,
}

fn known() -> &'static [Known] {
    static KNOWN: OnceLock<Vec<Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let file: File = toml::from_str(TEXT).expect("the built-in models read: tested");
        file.model.into_iter().map(Entry::known).collect()
    })
}

impl Entry {
    fn known(self) -> Known {
        let new = match self.kind {
            Kind::Gpt => Model::gpt,
            Kind::Llama => Model::llama,
        };
        let base = new(&self.name, self.blocks, self.hidden, self.heads, self.seq_len, self.vocab);
        let model = Model {
            kv_heads: self.kv_heads.unwrap_or(base.kv_heads),
            head_width: self.head_width.unwrap_or(base.head_width),
            ffn_hidden: self.ffn_hidden.unwrap_or(base.ffn_hidden),
            tied_embeddings: self.tied_embeddings.unwrap_or(base.tied_embeddings),
            biases: self.biases.unwrap_or(base.biases),
            window: self.window,
            experts: self.experts,
            latent: self.latent,
            ..base
        };
        Known { model, source: self.source }
    }
}

impl Model {
    /// The model of that name (case does not matter).
    pub fn builtin(name: &str) -> Option<Model> {
        known().iter().find(|k| k.model.name.eq_ignore_ascii_case(name)).map(|k| k.model.clone())
    }

    /// Names of the built-in models.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        known().iter().map(|k| k.model.name.as_str())
    }

    /// Where the sizes of a built-in model are from.
    pub fn builtin_source(name: &str) -> Option<&'static str> {
        known().iter().find(|k| k.model.name.eq_ignore_ascii_case(name)).map(|k| k.source.as_str())
    }
}
