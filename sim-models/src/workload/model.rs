//! A dense transformer as a list of layers: 0 is the embedding, 1 ..= blocks the blocks, blocks + 1 the head.
//!
//! Parameter counts are those of Megatron-LM's layers (arXiv 1909.08053 and 2205.05198): column- and row-parallel
//! matrices are split over the tensor-parallel ranks, norms and row-parallel biases are on every rank, and the
//! vocabulary is padded to a multiple of 128 x TP.

use crate::units::Bytes;
use crate::workload::{ActivationModel, Precision};
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

/// A dense transformer. All sizes are positive; `heads` divides `hidden` in every published model, and need not here.
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
    /// Width of the MLP.
    pub ffn_hidden: u64,
    /// Tokens in a sequence (a *sample*).
    pub seq_len: u64,
    /// Tokens in the vocabulary, before padding.
    pub vocab: u64,
    /// Learned positions (0: none, as with rotary embeddings).
    pub positions: u64,
    /// Whether the head shares the embedding's matrix.
    pub tied_embeddings: bool,
}

impl Model {
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

    /// The vocabulary padded to a multiple of 128 x `tp`, as Megatron-LM does.
    pub fn padded_vocab(&self, tp: u32) -> u64 {
        let step = 128 * u64::from(tp);
        self.vocab.div_ceil(step) * step
    }

    /// Parameters of `layer` on one of `tp` tensor-parallel ranks.
    pub fn parameters(&self, layer: u32, tp: u32) -> u64 {
        let (h, f, t) = (self.hidden, self.ffn_hidden, u64::from(tp));
        let vocab_rows = self.padded_vocab(tp) / t;
        match self.kind(layer) {
            LayerKind::Embedding => (vocab_rows + self.positions) * h,
            // qkv (3h^2), attention output (h^2), MLP (2hf): split. Biases of qkv and the first MLP matrix: split.
            // Output biases (2h) and two norms (4h): on every rank.
            LayerKind::Block => (4 * h * h + 2 * h * f + 3 * h + f) / t + 6 * h,
            LayerKind::Head => 2 * h + if self.tied_embeddings { 0 } else { vocab_rows * h },
        }
    }

    /// All parameters of the model, without tensor parallelism.
    pub fn total_parameters(&self) -> u64 {
        (0..self.layers()).map(|l| self.parameters(l, 1)).sum()
    }

    /// Bytes of the activation that passes from one layer to the next, for one sample.
    pub fn boundary_bytes(&self, precision: Precision) -> Bytes {
        Bytes(self.seq_len * self.hidden * precision.activation_bytes())
    }

    /// Activation bytes that `layer` keeps for its backward pass, for one sample on one of `tp` ranks.
    pub fn activation_bytes(&self, layer: u32, tp: u32, precision: Precision, a: &ActivationModel) -> Bytes {
        let t = f64::from(tp);
        let sbh = (self.seq_len * self.hidden) as f64;
        let scores = (self.heads * self.seq_len * self.seq_len) as f64;
        let elements = match self.kind(layer) {
            LayerKind::Embedding => sbh,
            LayerKind::Block => sbh * (a.replicated + a.sharded / t) + scores * a.scores / t,
            // The norm's input and output, and the logits with their softmax.
            LayerKind::Head => 2.0 * sbh + a.logits * (self.seq_len * self.padded_vocab(tp)) as f64 / t,
        };
        Bytes::from_f64(elements * precision.activation_bytes() as f64)
    }

    /// Model FLOP of one sample's forward and backward pass (no recomputation): 6 per parameter of a matrix and token,
    /// and 12 x layers x hidden x sequence per token for attention (arXiv 2104.04473, equation 3, without its
    /// recomputation factor).
    pub fn flop_per_sample(&self) -> f64 {
        let (h, s) = (self.hidden as f64, self.seq_len as f64);
        let matrices =
            f64::from(self.blocks) * (4.0 * h * h + 2.0 * h * self.ffn_hidden as f64) + h * self.vocab as f64;
        6.0 * s * matrices + 12.0 * f64::from(self.blocks) * s * s * h
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
    fn activations_agree_with_the_running_model() {
        let m = Model::builtin("opt-350m").unwrap();
        let a = ActivationModel::default();
        for (tp, floats) in [(1, 90_181_632u64), (2, 48_238_592), (4, 27_267_072), (8, 16_781_312)] {
            let got = m.activation_bytes(7, tp, Precision::Fp32, &a).0 as f64;
            let want = (floats * 4) as f64;
            assert!((got / want - 1.0).abs() < 0.001, "tp {tp}: {got} against {want}");
        }
    }
}
