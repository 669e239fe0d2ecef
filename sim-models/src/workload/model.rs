//! A transformer as a list of layers: 0 is the embedding, 1 ..= blocks the blocks, blocks + 1 the head.
//!
//! Parameter counts are those of Megatron-LM's layers (arXiv 1909.08053 and 2205.05198): column- and row-parallel
//! matrices are split over the tensor-parallel ranks, norms and row-parallel biases are on every rank, and the
//! vocabulary is padded to a multiple of 128 x TP.

use crate::plan::LayerRange;
use crate::units::Bytes;
use crate::workload::Precision;
use serde::{Deserialize, Serialize};

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// Token (and learned position) embedding.
    Embedding,
    /// One transformer block: attention and MLP.
    Block,
    /// Final norm, projection to the vocabulary, and the loss.
    Head,
}

/// What a norm learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Scale and bias (LayerNorm).
    #[default]
    Layer,
    /// Scale alone (RMSNorm).
    Rms,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Biases {
    /// Every one of a block (GPT-2, OPT).
    #[default]
    All,
    /// Queries, keys and values (Qwen 1.5 to 2.5).
    Qkv,
    /// None (Llama).
    None,
}

/// A mixture of experts in place of a block's MLP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// Routed experts of a layer. At least 1.
    pub count: u64,
    /// Experts that a token is sent to. 1 to `count`.
    pub top_k: u64,
    /// Width of one expert.
    pub ffn_hidden: u64,
    /// Width of what every token passes through beside its experts, all shared experts together; 0 for none.
    #[serde(default)]
    pub shared_ffn: u64,
    /// Blocks at the start that keep a dense MLP.
    #[serde(default)]
    pub dense_blocks: u32,
    /// Nodes that a token is sent to at most, once to each and on from there inside it. None: to every expert by itself.
    #[serde(default)]
    pub node_limit: Option<u64>,
    /// Tokens of the fullest device over the mean. At least 1; 1 is a balanced load.
    #[serde(default = "unit")]
    pub imbalance: f64,
    /// Tokens that an expert takes at most, over the mean; those beyond are dropped. None: no limit.
    #[serde(default)]
    pub capacity: Option<f64>,
}

/// `--make-vocab-size-divisible-by` of Megatron-LM.
const VOCAB_STEP: u64 = 128;

fn padded() -> u64 {
    VOCAB_STEP
}

fn is_padded(step: &u64) -> bool {
    *step == VOCAB_STEP
}

fn unit() -> f64 {
    1.0
}

impl Experts {
    /// What the fullest device carries over the mean, with what its capacity drops left out.
    pub fn load(&self) -> f64 {
        match self.capacity {
            Some(most) if most < self.imbalance => most,
            _ => self.imbalance,
        }
    }
}

/// Keys and values through a narrow vector (multi-head latent attention, arXiv 2405.04434). Widths of one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latent {
    /// Width of the vector that queries come from; 0: straight from the stream.
    pub q_rank: u64,
    /// Width of the vector that keys and values come from.
    pub kv_rank: u64,
    /// Width of a key that positions rotate, shared by all heads.
    pub rope_width: u64,
    /// Width of a value.
    pub value_width: u64,
}

/// A transformer. All sizes are positive unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name, by which profiles are found.
    pub name: String,
    /// Transformer blocks.
    pub blocks: u32,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Key-value heads: `heads` without grouped queries.
    pub kv_heads: u64,
    /// Width of a query or key: `hidden / heads` in most models.
    pub head_width: u64,
    /// Width of the MLP.
    pub ffn_hidden: u64,
    /// Whether the MLP has a gate: three matrices for two.
    pub gated: bool,
    /// Tokens in a sequence (a *sample*).
    pub seq_len: u64,
    /// Tokens in the vocabulary, before padding.
    pub vocab: u64,
    /// The vocabulary is padded to a multiple of this times the tensor-parallel ranks; 0: to 128 times them where it is split
    /// over several, and not at all where it is whole.
    #[serde(default = "padded", skip_serializing_if = "is_padded")]
    pub vocab_step: u64,
    /// Learned positions (0: none, as with rotary embeddings).
    pub positions: u64,
    /// Whether the head shares the embedding's matrix.
    pub tied_embeddings: bool,
    /// What its norms learn.
    pub norm: Norm,
    /// Norms of a block: 2, or 4 where outputs are normed too (Gemma 2 and 3).
    pub norms: u64,
    /// Which of its linear layers have biases.
    pub biases: Biases,
    /// Keys that a query sees at most; 0 for all before it.
    pub window: u64,
    /// Experts in place of the MLP of its blocks.
    pub experts: Option<Experts>,
    /// Latent attention in place of grouped queries.
    pub latent: Option<Latent>,
}

impl Model {
    /// A model of GPT-2's kind: MLP of four times the width, learned positions, layer norms, biases, a tied head.
    pub fn gpt(name: &str, blocks: u32, hidden: u64, heads: u64, seq_len: u64, vocab: u64) -> Model {
        Model {
            name: name.into(),
            blocks,
            hidden,
            heads,
            kv_heads: heads,
            head_width: (hidden / heads.max(1)).max(1),
            ffn_hidden: hidden.saturating_mul(4),
            gated: false,
            seq_len,
            vocab,
            vocab_step: VOCAB_STEP,
            positions: seq_len,
            tied_embeddings: true,
            norm: Norm::Layer,
            norms: 2,
            biases: Biases::All,
            window: 0,
            experts: None,
            latent: None,
        }
    }

    /// A model of Llama's kind: gated MLP, rotary positions, RMS norms, no biases, a head of its own.
    #[must_use]
    pub fn llama(name: &str, blocks: u32, hidden: u64, heads: u64, seq_len: u64, vocab: u64) -> Model {
        Model {
            gated: true,
            positions: 0,
            tied_embeddings: false,
            norm: Norm::Rms,
            biases: Biases::None,
            ..Model::gpt(name, blocks, hidden, heads, seq_len, vocab)
        }
    }

    /// Layers: embedding, blocks, head. At least 3.
    pub fn layers(&self) -> u32 {
        self.blocks + 2
    }

    /// What layer `layer` (0-based) is.
    pub fn kind(&self, layer: u32) -> LayerKind {
        if layer == 0 {
            LayerKind::Embedding
        } else if layer <= self.blocks {
            LayerKind::Block
        } else {
            LayerKind::Head
        }
    }

    /// The experts of a layer, where it has any.
    pub fn experts_of(&self, layer: u32) -> Option<&Experts> {
        self.experts.as_ref().filter(|e| self.kind(layer) == LayerKind::Block && layer > e.dense_blocks)
    }

    /// A layer of each sort that a range has, and how many of its layers are like that one: layers differ by what they are and
    /// whether they have experts.
    pub fn alike(&self, range: LayerRange) -> impl Iterator<Item = (u32, u64)> {
        let mixed = self.experts.as_ref().map_or(self.blocks, |e| e.dense_blocks.min(self.blocks));
        let sorts = [(0, 0), (1, mixed), (mixed + 1, self.blocks), (self.blocks + 1, u32::MAX)];
        sorts.into_iter().filter_map(move |(first, last)| {
            let (first, last) = (range.first.max(first), range.last.min(last));
            (first <= last).then(|| (first, u64::from(last - first) + 1))
        })
    }

    /// Rows of the embedding on all of `tp` ranks together.
    pub fn padded_vocab(&self, tp: u32) -> u64 {
        if tp <= 1 && self.vocab_step == 0 {
            return self.vocab;
        }
        let step = if self.vocab_step == 0 { VOCAB_STEP } else { self.vocab_step } * u64::from(tp.max(1));
        self.vocab.div_ceil(step) * step
    }

    /// Widths of all queries, of all keys, of all values, and of what the attention gives out.
    pub fn attention_widths(&self) -> [u64; 3] {
        let q = self.heads * self.head_width;
        match &self.latent {
            Some(latent) => [q, q, self.heads * latent.value_width],
            None => [q, self.kv_heads * self.head_width, self.kv_heads * self.head_width],
        }
    }

    /// Width of what the attention gives to its output projection.
    pub fn attention_out(&self) -> u64 {
        self.heads * self.latent.as_ref().map_or(self.head_width, |l| l.value_width)
    }

    /// Elements of the matrices of a block's attention: split over the ranks, and on every rank.
    fn attention_matrices(&self) -> (u64, u64) {
        let (h, out) = (self.hidden, self.attention_out());
        let [q, k, v] = self.attention_widths();
        match &self.latent {
            None => (h * (q + k + v) + out * h, 0),
            Some(l) => {
                let (own, shared) = if l.q_rank > 0 { (l.q_rank * q, h * l.q_rank) } else { (h * q, 0) };
                // Rotated keys come straight from the stream and are shared by the heads.
                let nope = q - (self.heads * l.rope_width).min(q);
                (own + l.kv_rank * (nope + v) + out * h, shared + h * (l.kv_rank + l.rope_width))
            }
        }
    }

    /// Elements of the matrices of an MLP of width `ffn`.
    fn mlp_matrices(&self, ffn: u64) -> u64 {
        (if self.gated { 3 } else { 2 }) * self.hidden * ffn
    }

    /// Parameters of `layer` on one of `tp` ranks, its routed experts apart.
    pub fn dense_parameters(&self, layer: u32, tp: u32) -> u64 {
        let (h, t) = (self.hidden, u64::from(tp));
        let vocab_rows = self.padded_vocab(tp) / t;
        let norm = match self.norm {
            Norm::Layer => 2,
            Norm::Rms => 1,
        };
        match self.kind(layer) {
            LayerKind::Embedding => (vocab_rows + self.positions) * h,
            LayerKind::Head => norm * h + if self.tied_embeddings { 0 } else { vocab_rows * h },
            // Column-parallel biases are split, row-parallel ones and norms are on every rank.
            LayerKind::Block => {
                let (mut split, mut whole) = self.attention_matrices();
                whole += self.norms * norm * h;
                if let Some(l) = &self.latent {
                    whole += norm * (l.q_rank + l.kv_rank);
                }
                let ffn = match self.experts_of(layer) {
                    Some(experts) => {
                        whole += h * experts.count;
                        experts.shared_ffn
                    }
                    None => self.ffn_hidden,
                };
                split += self.mlp_matrices(ffn);
                if self.biases != Biases::None {
                    split += self.attention_widths().iter().sum::<u64>();
                }
                if self.biases == Biases::All {
                    split += if self.gated { 2 * ffn } else { ffn };
                    whole += 2 * h;
                }
                split / t + whole
            }
        }
    }

    /// Parameters of the routed experts of `layer` on one device: a share of `ep`, or with `ep` 1 a part of every expert.
    pub fn expert_parameters(&self, layer: u32, tp: u32, ep: u32) -> u64 {
        let Some(experts) = self.experts_of(layer) else { return 0 };
        let one = self.mlp_matrices(experts.ffn_hidden);
        if ep > 1 { experts.count.div_ceil(u64::from(ep)) * one } else { experts.count * one / u64::from(tp) }
    }

    /// Elements of one weight of each shape that the blocks among `layers` have, on one of `tp` ranks: attention's, a dense MLP's,
    /// shared experts', one expert's.
    pub fn weight_shapes(&self, layers: impl Iterator<Item = u32>, tp: u32, ep: u32) -> u64 {
        let (mut dense, mut mixed) = (None, None);
        for layer in layers.filter(|l| self.kind(*l) == LayerKind::Block) {
            match self.experts_of(layer) {
                Some(experts) => mixed = Some(experts),
                None => dense = Some(self.mlp_matrices(self.ffn_hidden)),
            }
        }
        let t = u64::from(tp.max(1));
        let expert = mixed.map_or(0, |e| self.mlp_matrices(e.ffn_hidden) / if ep > 1 { 1 } else { t });
        let shared = mixed.map_or(0, |e| self.mlp_matrices(e.shared_ffn));
        if dense.is_none() && mixed.is_none() {
            return 0;
        }
        let (split, whole) = self.attention_matrices();
        (split + dense.unwrap_or(0) + shared) / t + whole + expert
    }

    /// Parameters of `layer` on one of `tp` ranks, without expert parallelism.
    pub fn parameters(&self, layer: u32, tp: u32) -> u64 {
        self.dense_parameters(layer, tp) + self.expert_parameters(layer, tp, 1)
    }

    /// All parameters of the model, without tensor parallelism.
    pub fn total_parameters(&self) -> u64 {
        (0..self.layers()).map(|l| self.parameters(l, 1)).sum()
    }

    /// Parameters that one token passes through: of the routed experts those it is sent to.
    pub fn active_parameters(&self) -> u64 {
        let idle = |l: u32| {
            self.experts_of(l)
                .map_or(0, |e| (e.count - e.top_k.min(e.count)) * self.mlp_matrices(e.ffn_hidden))
        };
        self.total_parameters() - (0..self.layers()).map(idle).sum::<u64>()
    }

    /// Bytes of the activation that passes from one layer to the next, for one sample.
    pub fn boundary_bytes(&self, precision: Precision) -> Bytes {
        Bytes(self.seq_len * self.hidden * precision.activation_bytes())
    }

    /// Model FLOP of one sample's forward and backward pass (no recomputation): 6 per parameter of a matrix and token,
    /// and 12 x layers x width of the heads x sequence per token for attention (arXiv 2104.04473, equation 3, without its
    /// recomputation factor); with a window, its keys alone.
    pub fn flop_per_sample(&self) -> f64 {
        let s = self.seq_len as f64;
        let block = |layer: u32| {
            let (split, whole) = self.attention_matrices();
            let mlp = match self.experts_of(layer) {
                Some(e) => self.mlp_matrices(e.top_k * e.ffn_hidden + e.shared_ffn) + self.hidden * e.count,
                None => self.mlp_matrices(self.ffn_hidden),
            };
            (split + whole + mlp) as f64
        };
        let matrices = (1..=self.blocks).map(block).sum::<f64>() + (self.hidden * self.vocab) as f64;
        let keys = if self.window > 0 { self.seq_len.min(self.window) } else { self.seq_len } as f64;
        let [q, _, _] = self.attention_widths();
        let width = (q + self.attention_out()) as f64 / 2.0;
        6.0 * s * matrices + 12.0 * f64::from(self.blocks) * s * keys * width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts that Sailor's authors read off the running model (`Planner/llm_info.json`, MIT).
    #[test]
    fn parameters_agree_with_the_running_model() {
        let m = Model::builtin("opt-350m").unwrap();
        for (tp, embedding, block, head) in [
            (1, 53_608_448, 12_596_224, 51_513_344),
            (2, 27_918_336, 6_301_184, 25_823_232),
            (4, 15_073_280, 3_153_664, 12_978_176),
            (8, 8_650_752, 1_579_904, 6_555_648),
        ] {
            let got = (m.parameters(0, tp), m.parameters(7, tp), m.parameters(25, tp));
            assert_eq!(got, (embedding, block, head), "tp {tp}");
        }
    }

    #[test]
    fn layers_of_a_range_are_alike_by_sort() {
        let mixed = Model::builtin("deepseek-v3").unwrap();
        for model in [Model::builtin("opt-350m").unwrap(), mixed] {
            let layers = model.layers();
            for (first, last) in (0..layers).flat_map(|f| (f..layers).map(move |l| (f, l))) {
                let range = LayerRange { first, last };
                let listed: Vec<u32> =
                    model.alike(range).flat_map(|(l, n)| std::iter::repeat_n(l, n as usize)).collect();
                assert_eq!(listed.len() as u32, range.count());
                for (l, like) in range.iter().zip(listed) {
                    let sort = |l| (model.kind(l), model.experts_of(l).is_some());
                    assert_eq!(sort(l), sort(like), "{l} of {first}-{last}");
                }
            }
        }
    }

    /// Parameters as published, in units of 10^9: arXiv 2005.14165, 2307.09288, 2407.21783, 2401.04088, 2412.19437 and the
    /// models' cards.
    #[test]
    fn parameters_agree_with_published_counts() {
        for (name, billions, active) in [
            ("gpt3-175b", 174.6, 174.6),
            ("llama-2-7b", 6.74, 6.74),
            ("llama-2-70b", 68.98, 68.98),
            ("llama-3-8b", 8.03, 8.03),
            ("llama-3-70b", 70.55, 70.55),
            ("llama-3.1-405b", 405.85, 405.85),
            ("mixtral-8x7b", 46.7, 12.88),
            ("mixtral-8x22b", 140.6, 39.15),
            ("deepseek-v3", 671.0, 37.55),
            ("qwen2-7b", 7.62, 7.62),
            ("qwen2.5-72b", 72.7, 72.7),
            ("qwen3-30b-a3b", 30.53, 3.35),
            ("gemma-7b", 8.54, 8.54),
            ("gpt2-xl", 1.558, 1.558),
        ] {
            let m = Model::builtin(name).unwrap_or_else(|| panic!("{name} is a built-in"));
            let padding = (m.padded_vocab(1) - m.vocab) * m.hidden * if m.tied_embeddings { 1 } else { 2 };
            for (found, want) in [(m.total_parameters(), billions), (m.active_parameters(), active)] {
                let found = (found - padding) as f64 / 1e9;
                assert!((found / want - 1.0).abs() < 0.005, "{name}: {found} against {want}");
            }
        }
    }
}
