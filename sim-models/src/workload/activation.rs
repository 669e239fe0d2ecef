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
                let gate = if self.gated { 1.5 } else { 1.0 };
                let mlp = match self.experts_of(layer) {
                    Some(e) => {
                        let sent = e.top_k as f64 * e.load();
                        a.mlp * gate * (e.ffn_hidden as f64 * sent + e.shared_ffn as f64) + h * sent
                    }
                    None => a.mlp * gate * self.ffn_hidden as f64,
                };
                let keys = if self.window > 0 { self.seq_len.min(self.window) } else { self.seq_len };
                let scores = match kept.recompute {
                    Recompute::Selective => 0.0,
                    _ => a.scores * (self.heads * keys) as f64,
                };
                a.replicated * stream + (a.attention * widths as f64 + mlp + scores) / t
            }
            // The norm's input and output, and the logits with their softmax.
            LayerKind::Head => 2.0 * stream + a.logits * self.padded_vocab(kept.tp.max(1)) as f64 / t,
        };
        Bytes::from_f64(tokens * a_token * precision.activation_bytes() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// arXiv 2205.05198, table 2, bytes a token and hidden unit in 16 bits: 34 + 5 a s / h without parallelism, 10 + 24 / t
    /// with tensor parallelism, 34 / t with sequence parallelism, 34 / t with selective recomputation too, 2 (2 / t) with full.
    #[test]
    fn activations_are_those_of_the_paper() {
        let m = Model { seq_len: 2048, ..Model::gpt("22b", 48, 6144, 64, 2048, 51_200) };
        // The paper's 34 bytes: inputs of two norms and of what follows them, masks (10); queries, keys, values and the
        // result (8); the MLP's two widths (16). Five bytes a score.
        let a = ActivationModel { replicated: 5.0, attention: 1.0, mlp: 2.0, scores: 2.5, logits: 2.0 };
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
