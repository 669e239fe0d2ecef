//! A model from the `config.json` that stands beside its weights on the Hugging Face hub.
//!
//! Read are the families whose layers this crate knows: Llama, Mistral and Mixtral, Qwen 2 and 3 (dense and with experts),
//! Gemma 1 to 3, GPT-2, GPT-NeoX, OPT, DeepSeek V2 and V3. Keys are those of the family's configuration class; what a
//! file leaves out is that class's default where training depends on it.

use super::{Biases, Experts, Latent, Model, Norm};
use serde_json::{Map, Value};

/// Why a file is no configuration of a known family.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or no object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// A key that is needed and not there.
    #[error("no `{0}`: a Hugging Face `config.json` of this family has it")]
    Missing(&'static str),
    /// A value that no model has.
    #[error("`{key}` is {value}: expected a whole number from {least} to {most}")]
    Range {
        /// The key.
        key: String,
        /// What stands there.
        value: String,
        /// Least.
        least: u64,
        /// Most.
        most: u64,
    },
    /// A family whose layers are not known.
    #[error("`model_type` is `{0}`: known are {FAMILIES}")]
    Family(String),
}

const FAMILIES: &str = "llama, mistral, mixtral, qwen2, qwen2_moe, qwen3, qwen3_moe, gemma, gemma2, gemma3_text, gpt2, \
                        gpt_neox, opt, deepseek_v2 and deepseek_v3";

// Such that products of sizes fit in 64 bits.
const MOST_BLOCKS: u64 = 10_000;
const MOST_WIDTH: u64 = 1 << 22;
const MOST_HEADS: u64 = 1 << 14;
const MOST_TOKENS: u64 = 1 << 24;

struct Config(Map<String, Value>);

impl Config {
    fn get(&self, key: &'static str, most: u64, least: u64) -> Result<Option<u64>, ConfigError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|n| (least..=most).contains(n)) {
                Some(n) => Ok(Some(n)),
                None => {
                    let value = value.to_string().chars().take(40).collect();
                    Err(ConfigError::Range { key: key.into(), value, least, most })
                }
            },
        }
    }

    fn need(&self, key: &'static str, most: u64) -> Result<u64, ConfigError> {
        self.get(key, most, 1)?.ok_or(ConfigError::Missing(key))
    }

    fn or(&self, key: &'static str, most: u64, default: u64) -> Result<u64, ConfigError> {
        Ok(self.get(key, most, 0)?.unwrap_or(default))
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// Sizes by the names that most families use.
    fn decoder(&self, name: &str) -> Result<Model, ConfigError> {
        let hidden = self.need("hidden_size", MOST_WIDTH)?;
        let heads = self.need("num_attention_heads", MOST_HEADS)?;
        let blocks = self.need("num_hidden_layers", MOST_BLOCKS)? as u32;
        let seq_len = self.or("max_position_embeddings", MOST_TOKENS, 2048)?.max(1);
        let base = Model::llama(name, blocks, hidden, heads, seq_len, self.need("vocab_size", MOST_TOKENS)?);
        Ok(Model {
            kv_heads: self.or("num_key_value_heads", MOST_HEADS, heads)?.clamp(1, heads),
            head_width: self.or("head_dim", MOST_WIDTH, base.head_width)?.max(1),
            ffn_hidden: self.need("intermediate_size", MOST_WIDTH)?,
            tied_embeddings: self.flag("tie_word_embeddings", false),
            ..base
        })
    }

    fn experts(&self, count: &'static str, top_k: &'static str, width: u64) -> Result<Experts, ConfigError> {
        let count = self.need(count, MOST_HEADS)?;
        Ok(Experts {
            count,
            top_k: self.need(top_k, count)?,
            ffn_hidden: width,
            shared_ffn: 0,
            dense_blocks: 0,
            node_limit: None,
            imbalance: 1.0,
            capacity: None,
        })
    }
}

impl Model {
    /// The model of a Hugging Face `config.json`, called `name`, at the longest sequence it says.
    ///
    /// # Errors
    /// [`ConfigError`]: what is missing, out of range or of an unknown family.
    pub fn from_hugging_face(text: &str, name: &str) -> Result<Model, ConfigError> {
        let value: Value = serde_json::from_str(text).map_err(|e| ConfigError::Json(e.to_string()))?;
        let Value::Object(mut map) = value else {
            return Err(ConfigError::Json("another kind of value".into()));
        };
        // Models that see and speak keep the decoder's sizes one level down.
        if let Some(Value::Object(inner)) = map.remove("text_config") {
            map.extend(inner);
        }
        let c = Config(map);
        let family = c.text("model_type").ok_or(ConfigError::Missing("model_type"))?.to_string();
        let model = match family.as_str() {
            "llama" => {
                let biases = if c.flag("attention_bias", false) { Biases::Qkv } else { Biases::None };
                Model { biases, ..c.decoder(name)? }
            }
            "mistral" => Model { window: c.or("sliding_window", MOST_TOKENS, 0)?, ..c.decoder(name)? },
            "mixtral" => {
                let base = c.decoder(name)?;
                let experts = c.experts("num_local_experts", "num_experts_per_tok", base.ffn_hidden)?;
                Model { experts: Some(experts), ..base }
            }
            "qwen2" => Model { biases: Biases::Qkv, ..c.decoder(name)? },
            "qwen3" => c.decoder(name)?,
            "qwen2_moe" | "qwen3_moe" => {
                let width = c.need("moe_intermediate_size", MOST_WIDTH)?;
                let routed = c.experts("num_experts", "num_experts_per_tok", width)?;
                let shared_ffn = c.or("shared_expert_intermediate_size", MOST_WIDTH, 0)?;
                let biases = if family == "qwen2_moe" { Biases::Qkv } else { Biases::None };
                Model { experts: Some(Experts { shared_ffn, ..routed }), biases, ..c.decoder(name)? }
            }
            "gemma" | "gemma2" | "gemma3_text" => {
                let norms = if family == "gemma" { 2 } else { 4 };
                Model { norms, tied_embeddings: c.flag("tie_word_embeddings", true), ..c.decoder(name)? }
            }
            "gpt2" => {
                let (hidden, heads) = (c.need("n_embd", MOST_WIDTH)?, c.need("n_head", MOST_HEADS)?);
                let seq_len = c.or("n_positions", MOST_TOKENS, 1024)?.max(1);
                let blocks = c.need("n_layer", MOST_BLOCKS)? as u32;
                let base =
                    Model::gpt(name, blocks, hidden, heads, seq_len, c.need("vocab_size", MOST_TOKENS)?);
                Model { ffn_hidden: c.or("n_inner", MOST_WIDTH, base.ffn_hidden)?.max(1), ..base }
            }
            "gpt_neox" => Model { gated: false, norm: Norm::Layer, biases: Biases::All, ..c.decoder(name)? },
            "opt" => {
                let (hidden, heads) =
                    (c.need("hidden_size", MOST_WIDTH)?, c.need("num_attention_heads", MOST_HEADS)?);
                let seq_len = c.or("max_position_embeddings", MOST_TOKENS, 2048)?.max(1);
                let blocks = c.need("num_hidden_layers", MOST_BLOCKS)? as u32;
                let vocab = c.need("vocab_size", MOST_TOKENS)?;
                let base = Model::gpt(name, blocks, hidden, heads, seq_len, vocab);
                Model { ffn_hidden: c.or("ffn_dim", MOST_WIDTH, base.ffn_hidden)?.max(1), ..base }
            }
            "deepseek_v2" | "deepseek_v3" => {
                let base = c.decoder(name)?;
                let width = c.need("moe_intermediate_size", MOST_WIDTH)?;
                let routed = c.experts("n_routed_experts", "num_experts_per_tok", width)?;
                let rope_width = c.need("qk_rope_head_dim", MOST_WIDTH)?;
                Model {
                    head_width: c.need("qk_nope_head_dim", MOST_WIDTH)? + rope_width,
                    kv_heads: base.heads,
                    experts: Some(Experts {
                        shared_ffn: width * c.or("n_shared_experts", MOST_HEADS, 0)?,
                        dense_blocks: c.or("first_k_dense_replace", MOST_BLOCKS, 0)? as u32,
                        node_limit: c.get("topk_group", MOST_HEADS, 1)?,
                        ..routed
                    }),
                    latent: Some(Latent {
                        q_rank: c.or("q_lora_rank", MOST_WIDTH, 0)?,
                        kv_rank: c.need("kv_lora_rank", MOST_WIDTH)?,
                        rope_width,
                        value_width: c.need("v_head_dim", MOST_WIDTH)?,
                    }),
                    ..base
                }
            }
            _ => return Err(ConfigError::Family(family.chars().take(40).collect())),
        };
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_the_built_in_models() {
        for (name, text) in [
            (
                "llama-3-8b",
                r#"{"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
                    "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256,
                    "max_position_embeddings": 8192, "tie_word_embeddings": false}"#,
            ),
            (
                "mixtral-8x22b",
                r#"{"model_type": "mixtral", "hidden_size": 6144, "num_attention_heads": 48,
                    "num_key_value_heads": 8, "num_hidden_layers": 56, "intermediate_size": 16384,
                    "vocab_size": 32768, "num_local_experts": 8, "num_experts_per_tok": 2,
                    "max_position_embeddings": 4096, "sliding_window": null}"#,
            ),
            (
                "deepseek-v3",
                r#"{"model_type": "deepseek_v3", "hidden_size": 7168, "num_attention_heads": 128,
                    "num_key_value_heads": 128, "num_hidden_layers": 61, "intermediate_size": 18432,
                    "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
                    "num_experts_per_tok": 8, "topk_group": 4, "first_k_dense_replace": 3, "q_lora_rank": 1536,
                    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
                    "vocab_size": 129280, "max_position_embeddings": 4096}"#,
            ),
            (
                "gemma-7b",
                r#"{"model_type": "gemma", "hidden_size": 3072, "num_attention_heads": 16, "head_dim": 256,
                    "num_key_value_heads": 16, "num_hidden_layers": 28, "intermediate_size": 24576,
                    "vocab_size": 256000, "max_position_embeddings": 8192}"#,
            ),
            (
                "gpt2-xl",
                r#"{"model_type": "gpt2", "n_embd": 1600, "n_head": 25, "n_layer": 48, "n_positions": 1024,
                    "vocab_size": 50257}"#,
            ),
        ] {
            assert_eq!(Model::from_hugging_face(text, name).unwrap(), Model::builtin(name).unwrap());
        }
    }

    #[test]
    fn what_is_no_configuration_says_why() {
        for (text, part) in [
            ("", "not a JSON object"),
            ("[1]", "not a JSON object"),
            ("{}", "no `model_type`"),
            (r#"{"model_type": "bert"}"#, "known are llama"),
            (r#"{"model_type": "llama"}"#, "no `hidden_size`"),
            (r#"{"model_type": "gpt2", "n_embd": -5}"#, "`n_embd` is -5"),
            (r#"{"model_type": "gpt2", "n_embd": 1e30}"#, "`n_embd` is 1e"),
            (r#"{"model_type": "gpt2", "n_embd": 99999999999}"#, "from 1 to"),
        ] {
            let error = Model::from_hugging_face(text, "x").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
