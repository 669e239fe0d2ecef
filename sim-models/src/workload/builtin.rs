//! Models known by name.

use super::Model;

/// (name, blocks, hidden, heads, ffn, sequence, vocabulary, positions, tied)
type Row = (&'static str, u32, u64, u64, u64, u64, u64, u64, bool);

const BUILTIN: [Row; 2] = [
    // arXiv 2205.01068, table 1; sequence, vocabulary and the untied head as Sailor trained it (training_config_opt_350.json).
    ("opt-350m", 24, 1024, 16, 4096, 2048, 50272, 2048, false),
    // EleutherAI's GPT-Neo 2.7B; heads as Sailor trained it (training_config_gpt_neo27.json). That file says a vocabulary
    // of 128,256, but the parameters it counts (llm_info.json) are those of 50,257, the model's own.
    ("gpt-neo-2.7b", 32, 2560, 32, 10240, 2048, 50257, 2048, true),
];

impl Model {
    /// The model of that name (case does not matter).
    pub fn builtin(name: &str) -> Option<Model> {
        let row = BUILTIN.iter().find(|row| row.0.eq_ignore_ascii_case(name))?;
        let (name, blocks, hidden, heads, ffn_hidden, seq_len, vocab, positions, tied_embeddings) = *row;
        let name = name.to_string();
        Some(Model { name, blocks, hidden, heads, ffn_hidden, seq_len, vocab, positions, tied_embeddings })
    }

    /// Names of the built-in models.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|row| row.0)
    }
}
