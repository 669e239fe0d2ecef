//! A layer as a list of operators: what a framework makes of one block, embedding or head on one tensor-parallel rank.
//!
//! ```text
//!   block forward                             backward
//!     qkv       t x (h + 2 kv) / p, sum over h    each product twice: once for its input (dgrad),
//!     attention eager, fused or flash             once for its weights (wgrad, accumulated in 32 bits)
//!     out       t x h,  sum over h / p            attention: five products for two, more passes
//!     mlp up    t x f / p (twice when gated)
//!     mlp down  t x h,  sum over f / p
//!   t tokens of a micro-batch, h hidden, kv key-value width, f MLP width, p tensor-parallel ranks
//! ```

use super::catalogue::Format;
use super::constants::{AttentionKernel, FrameworkConstants};
use super::operator::{Operator, Stream};
use crate::workload::{LayerKind, Model};

/// Sizes of a layer, on all its ranks together. A block's `vocab` and a head's `ffn_hidden` are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// What it is.
    pub kind: LayerKind,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Key-value heads: `heads` without grouped queries.
    pub kv_heads: u64,
    /// Width of the MLP, of one expert.
    pub ffn_hidden: u64,
    /// Whether the MLP has a gate: three matrices for two.
    pub gated: bool,
    /// Experts on one rank; 0 for a dense MLP.
    pub experts: u64,
    /// Experts that a token is sent to.
    pub top_k: u64,
    /// Vocabulary, padded.
    pub vocab: u64,
    /// Parameters on one rank, for the optimizer step.
    pub parameters: u64,
}

impl LayerShape {
    /// Layer `layer` (0-based) of a dense model on one of `tp` ranks.
    pub fn of(model: &Model, layer: u32, tp: u32) -> LayerShape {
        LayerShape {
            kind: model.kind(layer),
            hidden: model.hidden,
            heads: model.heads,
            kv_heads: model.heads,
            ffn_hidden: model.ffn_hidden,
            gated: false,
            experts: 0,
            top_k: 0,
            vocab: model.padded_vocab(tp.max(1)),
            parameters: model.parameters(layer, tp.max(1)),
        }
    }
}

/// One layer's pass over one micro-batch, as a device model is asked for it. Every size at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerQuery {
    /// The layer.
    pub shape: LayerShape,
    /// Sequences in the micro-batch.
    pub micro_batch: u32,
    /// Tokens of a sequence.
    pub seq_len: u64,
    /// Tensor-parallel ranks.
    pub tp: u32,
    /// Number format.
    pub format: Format,
}

impl LayerQuery {
    /// Layer `layer` of a dense model at its own sequence length.
    pub fn of(model: &Model, layer: u32, micro_batch: u32, tp: u32, format: Format) -> LayerQuery {
        LayerQuery {
            shape: LayerShape::of(model, layer, tp),
            micro_batch,
            seq_len: model.seq_len,
            tp,
            format,
        }
    }
}

/// An operator and the format it runs in.
pub type Kernel = (Operator, Format);

/// Operators of a layer on one rank, and what its ranks exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerOperators {
    /// Forward pass.
    pub forward: Vec<Kernel>,
    /// Backward pass, without recomputation.
    pub backward: Vec<Kernel>,
    /// The part of `forward` that selective recomputation repeats: the attention between its projections.
    pub core: Vec<Kernel>,
    /// Optimizer step.
    pub update: Vec<Kernel>,
    /// All-reduces over the tensor-parallel ranks in each pass, each of `sync_bytes`.
    pub syncs: u32,
    /// Bytes of one of them.
    pub sync_bytes: f64,
}

/// The format of what is not a linear layer: fp32 is TF32 where the framework allows it (the GPU decides if it has it),
/// and 8- and 4-bit formats leave attention, head and everything bound by memory in bf16.
pub fn compute_format(format: Format, framework: &FrameworkConstants) -> Format {
    match format {
        Format::Fp32 if framework.tf32 => Format::Tf32,
        Format::Fp8 | Format::Fp4 => Format::Bf16,
        other => other,
    }
}

/// The operators of a layer.
pub fn operators(q: &LayerQuery, framework: &FrameworkConstants) -> LayerOperators {
    let tp = u64::from(q.tp.max(1));
    let format = compute_format(q.format, framework);
    let tokens = u64::from(q.micro_batch).saturating_mul(q.seq_len);
    let stream_bytes = tokens as f64 * q.shape.hidden as f64 * activation_bytes(q.format);
    let memory = |kind, bytes| (Operator::Memory { kind, bytes }, format);
    let mut list = LayerOperators::default();
    match q.shape.kind {
        LayerKind::Embedding => {
            // Rows read, rows written; the backward pass adds them to the table's gradient.
            list.forward.push(memory(Stream::Gather, 2.0 * stream_bytes));
            list.backward.push(memory(Stream::Gather, 3.0 * stream_bytes));
            (list.syncs, list.sync_bytes) = (1, stream_bytes);
        }
        LayerKind::Block => {
            let (forward, backward) =
                (framework.replicated_forward_passes, framework.replicated_backward_passes);
            list.forward.push(memory(Stream::Norm, forward * stream_bytes));
            list.backward.push(memory(Stream::Norm, backward * stream_bytes));
            // Counted for an MLP of four times the hidden width.
            let width = (6.0 + q.shape.ffn_hidden as f64 / q.shape.hidden.max(1) as f64) / 10.0;
            let split = stream_bytes * width / tp as f64;
            list.forward.push(memory(Stream::Activation, framework.sharded_forward_passes * split));
            list.backward.push(memory(Stream::Activation, framework.sharded_backward_passes * split));
            let head_width = (q.shape.hidden / q.shape.heads.max(1)).max(1);
            let key_value = q.shape.kv_heads.saturating_mul(head_width).saturating_mul(2);
            let qkv = q.shape.hidden.saturating_add(key_value) / tp;
            let ffn = q.shape.ffn_hidden / tp;
            let up = if q.shape.gated { ffn.saturating_mul(2) } else { ffn };
            let h = q.shape.hidden;
            let linear_format = if q.format.bytes() < 2.0 { q.format } else { format };
            for (n, k) in [(qkv.max(1), h), (h, (h / tp).max(1))] {
                linear(&mut list, 1, tokens, n, k, linear_format);
            }
            // Experts see alike many tokens: `top_k` of each, sent and brought back.
            let (batch, rows) = if q.shape.experts == 0 {
                (1, tokens)
            } else {
                let sent = stream_bytes * q.shape.top_k as f64;
                list.forward.push(memory(Stream::Gather, 4.0 * sent));
                list.backward.push(memory(Stream::Gather, 4.0 * sent));
                (q.shape.experts, tokens.saturating_mul(q.shape.top_k).div_ceil(q.shape.experts))
            };
            for (n, k) in [(up.max(1), h), (h, ffn.max(1))] {
                linear(&mut list, batch, rows, n, k, linear_format);
            }
            attention(&mut list, q, framework, tp, head_width);
            (list.syncs, list.sync_bytes) = (2, stream_bytes);
        }
        LayerKind::Head => {
            linear(&mut list, 1, tokens, (q.shape.vocab / tp).max(1), q.shape.hidden, format);
            let logits = tokens as f64 * (q.shape.vocab as f64 / tp as f64) * 4.0;
            list.forward.push(memory(Stream::Scores, framework.loss_forward_passes * logits));
            list.backward.push(memory(Stream::Scores, framework.loss_backward_passes * logits));
            (list.syncs, list.sync_bytes) = (1, stream_bytes);
        }
    }
    list.update.push(memory(Stream::Optimizer, framework.optimizer_bytes * q.shape.parameters as f64));
    if tp == 1 {
        list.syncs = 0;
    }
    list
}

/// Activations are kept in 16 bits at the least: 8-bit formats are for products.
fn activation_bytes(format: Format) -> f64 {
    format.bytes().max(2.0)
}

fn linear(list: &mut LayerOperators, batch: u64, tokens: u64, n: u64, k: u64, format: Format) {
    let product = |m, n, k, accumulate| (Operator::Gemm { batch, m, n, k, accumulate }, format);
    list.forward.push(product(tokens, n, k, false));
    list.backward.push(product(tokens, k, n, false));
    list.backward.push(product(n, k, tokens, true));
    if format.bytes() < 2.0 {
        // Quantising an operand: two bytes read, one written as it lies and one transposed.
        let bytes = |width: u64| 4.0 * batch as f64 * tokens as f64 * width as f64;
        let cast = |width| (Operator::Memory { kind: Stream::Add, bytes: bytes(width) }, Format::Bf16);
        list.forward.push(cast(k));
        list.backward.push(cast(n));
    }
}

fn attention(list: &mut LayerOperators, q: &LayerQuery, framework: &FrameworkConstants, tp: u64, width: u64) {
    let format = compute_format(q.format, framework);
    let sequences = u64::from(q.micro_batch);
    let heads = sequences.saturating_mul((q.shape.heads / tp).max(1));
    let s = q.seq_len;
    let product = |n, k| (Operator::Gemm { batch: heads, m: s, n, k, accumulate: false }, format);
    let (forward, backward) = match framework.attention_in(q.format) {
        AttentionKernel::Flash => {
            let kernel = |backward| Operator::Attention {
                heads,
                kv_heads: sequences.saturating_mul((q.shape.kv_heads / tp).max(1)),
                queries: s,
                keys: s,
                width,
                causal: framework.causal,
                backward,
            };
            list.core.push((kernel(false), format));
            list.forward.push((kernel(false), format));
            list.backward.push((kernel(true), format));
            return;
        }
        AttentionKernel::Eager => (framework.eager_forward_passes, framework.eager_backward_passes),
        AttentionKernel::Fused => (framework.fused_forward_passes, framework.fused_backward_passes),
    };
    let scores = heads as f64 * s as f64 * s as f64 * activation_bytes(q.format);
    let passes = |n: f64| (Operator::Memory { kind: Stream::Scores, bytes: n * scores }, format);
    list.core = vec![product(s, width), passes(forward), product(width, s)];
    list.forward.extend_from_slice(&list.core);
    list.backward.extend([product(s, width), product(width, s), product(width, s), product(width, s)]);
    list.backward.push(passes(backward));
}
