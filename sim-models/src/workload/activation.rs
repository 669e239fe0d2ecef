//! What a layer keeps for its backward pass, by how it is split and what is recomputed.
//!
//! The form is that of arXiv 2205.05198, section 4, with the widths of grouped queries, gates and experts in place of
//! multiples of the hidden width; the constants are [`ActivationModel`]'s.

use super::{ActivationModel, LayerKind, Model, Precision};
use crate::plan::Recompute;
use crate::units::Bytes;

/// How a layer's activations are kept on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Tensor-parallel ranks.
    pub tp: u32,
    /// Context-parallel ranks.
    pub cp: u32,
    /// Whether what is on every tensor-parallel rank is split over the sequence.
    pub sequence_parallel: bool,
    /// What is done again in the backward pass.
    pub recompute: Recompute,
}

impl Kept {
    /// Tensor parallelism alone, everything kept.
    pub fn plain(tp: u32) -> Kept {
        Kept { tp, cp: 1, sequence_parallel: false, recompute: Recompute::None }
    }
}

impl Model {
    /// Activation bytes that `layer` keeps for its backward pass, for one sample on one device.
    pub fn activation_bytes(
        &self,
        layer: u32,
        kept: &Kept,
        precision: Precision,
        a: &ActivationModel,
    ) -> Bytes {
        let t = f64::from(kept.tp.max(1));
        let tokens = self.seq_len as f64 / f64::from(kept.cp.max(1));
        let h = self.hidden as f64;
        let stream = if kept.sequence_parallel { h / t } else { h };
        let a_token = match self.kind(layer) {
            LayerKind::Embedding => stream,
            LayerKind::Block if kept.recompute == Recompute::Full => stream,
            LayerKind::Block => {
                let widths = self.attention_widths().iter().sum::<u64>() + self.attention_out();
                let (width, sent) = self.mlp_width(layer);
                let mlp = if self.gated { a.gated } else { a.mlp } * width + h * sent;
                // Each before and after its norm; the rotated keys as they are.
                let narrow = self.latent.as_ref().map_or(0, |l| 2 * (l.q_rank + l.kv_rank) + l.rope_width);
                let narrow = a.attention * narrow as f64 * stream / h;
                let keys = if self.window > 0 { self.seq_len.min(self.window) } else { self.seq_len };
                let others = a.replicated * stream + narrow + (a.attention * widths as f64 + mlp) / t;
                match kept.recompute {
                    Recompute::Selective => a.selective * others,
                    _ => others + a.scores * (self.heads * keys) as f64 / t,
                }
            }
            // The norm's input and output, and the logits with their softmax.
            LayerKind::Head => 2.0 * stream + a.logits * self.logits_width(kept.tp),
        };
        Bytes::from_f64(tokens * a_token * precision.activation_bytes() as f64)
    }

    /// Bytes that gradients of a micro-batch of `samples` take beyond what a stage of these layers keeps, while the backward
    /// pass of one of its layers is at its widest. That of blocks follows the head's, whose logits have gone by then.
    pub fn passing_bytes(
        &self,
        layers: impl Iterator<Item = u32>,
        kept: &Kept,
        precision: Precision,
        a: &ActivationModel,
        samples: u64,
    ) -> Bytes {
        if a.passing <= 0.0 {
            return Bytes::ZERO;
        }
        let (t, h) = (f64::from(kept.tp.max(1)), self.hidden as f64);
        let tokens = samples as f64 * self.seq_len as f64 / f64::from(kept.cp.max(1));
        let width = self.logits_width(kept.tp);
        let (mut head, mut block) = (None, 0.0f64);
        for layer in layers {
            match self.kind(layer) {
                LayerKind::Embedding => {}
                LayerKind::Block => {
                    let (mlp, sent) = self.mlp_width(layer);
                    block = block.max(tokens * (a.passing * mlp + a.exchanged * h * sent) / t);
                }
                // The gradient of the logits and, in 16 bits, that of the whole matrix, in the place of what is kept of the
                // logits; the whole input and its gradient.
                LayerKind::Head => {
                    let instead = tokens * width + h * width - tokens * a.logits * width;
                    head = Some(instead.max(0.0) + 2.0 * tokens * h);
                }
            }
        }
        let most = match head {
            Some(head) => head.max(block - tokens * a.logits * width),
            None => block,
        };
        Bytes::from_f64(most * precision.activation_bytes() as f64)
    }

    /// Width of the MLPs that a token of `layer` passes through, shared experts' and routed ones', and to how many of these it
    /// is sent on the fullest device.
    fn mlp_width(&self, layer: u32) -> (f64, f64) {
        match self.experts_of(layer) {
            Some(e) => {
                let sent = e.top_k as f64 * e.load();
                (e.ffn_hidden as f64 * sent + e.shared_ffn as f64, sent)
            }
            None => (self.ffn_hidden as f64, 0.0),
        }
    }

    /// Entries of the vocabulary on one of `tp` ranks.
    fn logits_width(&self, tp: u32) -> f64 {
        self.padded_vocab(tp.max(1)) as f64 / f64::from(tp.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Experts;

    #[test]
    fn activations_agree_with_the_running_model() {
        let m = Model::builtin("opt-350m").unwrap();
        let a = ActivationModel::default();
        for (tp, floats) in [(1, 90_181_632u64), (2, 48_238_592), (4, 27_267_072), (8, 16_781_312)] {
            let got = m.activation_bytes(7, &Kept::plain(tp), Precision::Fp32, &a).0 as f64;
            let want = (floats * 4) as f64;
            assert!((got / want - 1.0).abs() < 0.001, "tp {tp}: {got} against {want}");
        }
    }

    #[test]
    fn gradients_pass_while_a_backward_pass_is_at_its_widest() {
        let dense = Model { seq_len: 100, ..Model::llama("dense", 2, 64, 4, 100, 256) };
        let e = Experts {
            top_k: 2,
            ffn_hidden: 32,
            shared_ffn: 16,
            ..*Model::builtin("mixtral-8x7b").unwrap().experts.as_ref().unwrap()
        };
        let mixed = Model { experts: Some(e), ..dense.clone() };
        let counted =
            ActivationModel { logits: 3.0, passing: 2.0, exchanged: 4.0, ..ActivationModel::default() };
        let got = |m: &Model, layers: std::ops::RangeInclusive<u32>, tp, samples, a: &ActivationModel| {
            m.passing_bytes(layers, &Kept::plain(tp), Precision::Bf16, a, samples).0
        };
        // Two gradients of the MLP's width, and four of each token on its way to and from two experts; a rank's share.
        assert_eq!(got(&dense, 1..=2, 1, 3, &counted), 3 * 100 * 2 * 256 * 2);
        assert_eq!(got(&mixed, 1..=2, 2, 1, &counted), 100 * (2 * (2 * 32 + 16) + 4 * 2 * 64) / 2 * 2);
        // The head's gradient and its whole matrix' in the place of logits that took less, its input and that one's gradient;
        // after so many logits no block's backward pass is wider.
        assert_eq!(got(&dense, 3..=3, 1, 1, &counted), 2 * 100 * 64 * 2);
        let few = ActivationModel { logits: 1.0, ..counted };
        assert_eq!(got(&dense, 2..=3, 1, 1, &few), (64 * 256 + 2 * 100 * 64) * 2);
        // Not counted where nothing is known of them.
        assert_eq!(got(&dense, 0..=3, 1, 1, &ActivationModel::default()), 0);
    }

    /// arXiv 2205.05198, table 2, bytes a token and hidden unit in 16 bits: 34 + 5 a s / h without parallelism, 10 + 24 / t
    /// with tensor parallelism, 34 / t with sequence parallelism, 34 / t with selective recomputation too, 2 (2 / t) with full.
    #[test]
    fn activations_are_those_of_the_paper() {
        let m = Model { seq_len: 2048, ..Model::gpt("22b", 48, 6144, 64, 2048, 51_200) };
        // The paper's 34 bytes: inputs of two norms and of what follows them, masks (10); queries, keys, values and the
        // result (8); the MLP's two widths (16). Five bytes a score.
        let a = ActivationModel { replicated: 5.0, mlp: 2.0, scores: 2.5, ..ActivationModel::default() };
        let score = 5.0 * 64.0 * 2048.0 / 6144.0;
        for (tp, sequence_parallel, recompute, want) in [
            (1, false, Recompute::None, 34.0 + score),
            (8, false, Recompute::None, 10.0 + 24.0 / 8.0 + score / 8.0),
            (8, true, Recompute::None, (34.0 + score) / 8.0),
            (8, true, Recompute::Selective, 34.0 / 8.0),
            (8, false, Recompute::Selective, 10.0 + 24.0 / 8.0),
            (8, false, Recompute::Full, 2.0),
            (8, true, Recompute::Full, 2.0 / 8.0),
        ] {
            let kept = Kept { sequence_parallel, recompute, ..Kept::plain(tp) };
            let got = m.activation_bytes(3, &kept, Precision::Bf16, &a).0 as f64 / (2048.0 * 6144.0);
            assert!((got / want - 1.0).abs() < 1e-6, "{kept:?}: {got} against {want}");
        }
    }
}
