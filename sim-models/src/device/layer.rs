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
use super::constants::{AttentionKernel, FrameworkConstants, Selective};
use super::operator::{Operator, Stream};
use crate::workload::{Latent, LayerKind, Model};

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
    /// Width of a query or key of one head.
    pub head_width: u64,
    /// Latent attention in place of grouped queries.
    pub latent: Option<Latent>,
    /// Keys that a query sees at most; 0 for all.
    pub window: u64,
    /// Width of the MLP, of one expert.
    pub ffn_hidden: u64,
    /// Whether the MLP has a gate: three matrices for two.
    pub gated: bool,
    /// Experts of the layer, on all its ranks together; 0 for a dense MLP.
    pub experts: u64,
    /// Experts that a token is sent to.
    pub top_k: u64,
    /// Width of the MLP that every token passes through beside its experts; 0 for none.
    pub shared_ffn: u64,
    /// Tokens of the fullest rank's experts over the mean, in thousandths: 1000 is balanced.
    pub load_permille: u32,
    /// Vocabulary, padded.
    pub vocab: u64,
    /// Parameters on one rank, for the optimizer step.
    pub parameters: u64,
}

impl LayerShape {
    /// Layer `layer` (0-based) of a model on one of `tp` x `ep` ranks.
    pub fn of(model: &Model, layer: u32, tp: u32, ep: u32) -> LayerShape {
        let (tp, experts) = (tp.max(1), model.experts_of(layer));
        LayerShape {
            kind: model.kind(layer),
            hidden: model.hidden,
            heads: model.heads,
            kv_heads: model.kv_heads,
            head_width: model.head_width,
            latent: model.latent,
            window: model.window,
            ffn_hidden: experts.map_or(model.ffn_hidden, |e| e.ffn_hidden),
            gated: model.gated,
            experts: experts.map_or(0, |e| e.count),
            top_k: experts.map_or(0, |e| e.top_k),
            shared_ffn: experts.map_or(0, |e| e.shared_ffn),
            load_permille: experts.map_or(1000, |e| (1000.0 * e.load()) as u32),
            vocab: model.padded_vocab(tp),
            parameters: model.dense_parameters(layer, tp) + model.expert_parameters(layer, tp, ep.max(1)),
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
    /// Parts that sequences are cut into (context parallelism).
    pub cp: u32,
    /// Ranks that share out the experts.
    pub ep: u32,
    /// Whether what is on every tensor-parallel rank is split over the sequence.
    pub sequence_parallel: bool,
    /// Whether it is a stage of a pipeline over several nodes.
    pub piped: bool,
    /// Number format.
    pub format: Format,
}

impl LayerQuery {
    /// Layer `layer` of a model at its own sequence length, split over `tp` ranks and no further.
    pub fn of(model: &Model, layer: u32, micro_batch: u32, tp: u32, format: Format) -> LayerQuery {
        LayerQuery {
            shape: LayerShape::of(model, layer, tp, 1),
            micro_batch,
            seq_len: model.seq_len,
            tp,
            cp: 1,
            ep: 1,
            sequence_parallel: false,
            piped: false,
            format,
        }
    }

    /// The attention kernel that runs: a fused softmax takes some shapes alone, and eager attention the others.
    pub(super) fn attention(&self, framework: &FrameworkConstants) -> AttentionKernel {
        let kernel = framework.attention_in(self.format);
        let heads = u64::from(self.micro_batch) * (self.shape.heads / u64::from(self.tp.max(1))).max(1);
        let takes = heads.is_multiple_of(4) && self.seq_len <= framework.fused_longest;
        if kernel == AttentionKernel::Fused && !takes { AttentionKernel::Eager } else { kernel }
    }

    /// Tokens of a micro-batch on one rank, without the share of sequence parallelism.
    fn tokens(&self) -> u64 {
        u64::from(self.micro_batch).saturating_mul(self.seq_len).div_ceil(u64::from(self.cp.max(1)))
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
    /// The part of `forward` that is the attention between its projections.
    pub core: Vec<Kernel>,
    /// What selective recomputation repeats of a block's `forward`.
    pub again: Vec<Kernel>,
    /// Optimizer step.
    pub update: Vec<Kernel>,
    /// All-reduces over the tensor-parallel ranks in the forward pass, each of `sync_bytes`; with sequence parallelism each is
    /// an all-gather and a reduce-scatter.
    pub syncs: u32,
    /// The same in the backward pass of a block, and those of them that run beside the kernels of `beside`.
    pub backward_syncs: [u32; 2],
    /// Products of the backward pass: see `backward_syncs`.
    pub beside: Vec<Kernel>,
    /// Bytes of one of them.
    pub sync_bytes: f64,
    /// Bytes of keys and values that go around the ring of context-parallel ranks in the forward pass, one rank's share.
    /// Their gradients go around with them in the backward pass.
    pub ring_bytes: f64,
    /// Bytes that a rank sends to the ranks with a token's experts; as many come back.
    pub expert_bytes: f64,
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
    operators_by(q, framework, q.attention(framework))
}

/// The same with another attention kernel.
pub(super) fn operators_by(
    q: &LayerQuery,
    framework: &FrameworkConstants,
    kernel: AttentionKernel,
) -> LayerOperators {
    let tp = u64::from(q.tp.max(1));
    let format = compute_format(q.format, framework);
    let tokens = q.tokens();
    let element = activation_bytes(q.format);
    let stream_bytes = tokens as f64 * q.shape.hidden as f64 * element;
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
            let replicated = if q.sequence_parallel { stream_bytes / tp as f64 } else { stream_bytes };
            list.forward.push(memory(Stream::Norm, forward * replicated));
            list.backward.push(memory(Stream::Norm, backward * replicated));
            // Counted for an MLP of four times the hidden width.
            let width = (6.0 + mlp_width(&q.shape) / q.shape.hidden.max(1) as f64) / 10.0;
            let split = stream_bytes * width / tp as f64;
            list.forward.push(memory(Stream::Activation, framework.sharded_forward_passes * split));
            list.backward.push(memory(Stream::Activation, framework.sharded_backward_passes * split));
            let linear_format = if q.format.bytes() < 2.0 { q.format } else { format };
            projections(&mut list, q, tokens, tp, linear_format);
            mlp(&mut list, q, tokens, tp, linear_format);
            if q.shape.experts > 0 {
                let sent = stream_bytes * q.shape.top_k as f64 / if q.ep > 1 { tp as f64 } else { 1.0 };
                let bytes = sorting_passes(q, framework) * sent;
                list.forward.push(memory(Stream::Gather, bytes));
                list.backward.push(memory(Stream::Gather, bytes));
                if q.ep > 1 {
                    list.expert_bytes = sent * f64::from(q.ep - 1) / f64::from(q.ep);
                }
            }
            attention(&mut list, q, framework, tp, kernel);
            list.again = match framework.selective {
                Selective::Attention => list.core.clone(),
                Selective::Products => every_second(&list, q, tokens, tp, linear_format),
            };
            if q.cp > 1 {
                let [k, v] = key_value_widths(&q.shape);
                let share = tokens as f64 * k.saturating_add(v).div_ceil(tp) as f64 * element;
                list.ring_bytes = share * f64::from(q.cp - 1);
            }
            (list.syncs, list.sync_bytes) = (2, stream_bytes);
            list.backward_syncs = if framework.beside_weights { [2, 2] } else { [2, 0] };
            if !q.sequence_parallel {
                list.beside.retain(|(op, _)| matches!(op, Operator::Gemm { accumulate: true, .. }));
            } else {
                // What the products take in is gathered once more, beside the gradients of it; these are scattered beside those
                // of the weights (arXiv 2205.05198, section 4.2.2; Megatron-LM, core/tensor_parallel/layers.py).
                list.backward_syncs = [3, 2];
            }
        }
        LayerKind::Head => {
            linear(&mut list, tokens, (q.shape.vocab / tp).max(1), q.shape.hidden, format);
            let logits = tokens as f64 * (q.shape.vocab as f64 / tp as f64) * 4.0;
            list.forward.push(memory(Stream::Scores, framework.loss_forward_passes * logits));
            list.backward.push(memory(Stream::Scores, framework.loss_backward_passes * logits));
            (list.syncs, list.sync_bytes) = (1, stream_bytes);
        }
    }
    if framework.accumulate_bytes > 0.0 && q.shape.kind != LayerKind::Embedding {
        let bytes = framework.accumulate_bytes * weights(&list.backward);
        list.backward.push(memory(Stream::Add, bytes));
    }
    list.update.push(memory(Stream::Optimizer, framework.optimizer_bytes * q.shape.parameters as f64));
    if tp == 1 {
        list.syncs = 0;
    }
    list
}

/// Parameters that the products of a backward pass make gradients of.
fn weights(backward: &[Kernel]) -> f64 {
    let made = |(op, _): &Kernel| match *op {
        Operator::Gemm { batch, m, n, accumulate: true, .. } => batch as f64 * m as f64 * n as f64,
        _ => 0.0,
    };
    backward.iter().map(made).sum()
}

/// Width of what a token's MLP computes, its experts and what it shares together.
fn mlp_width(shape: &LayerShape) -> f64 {
    if shape.experts == 0 {
        shape.ffn_hidden as f64
    } else {
        shape.ffn_hidden as f64 * shape.top_k as f64 + shape.shared_ffn as f64
    }
}

/// Passes over what is sent to experts, at a streaming kernel's rate: tokens put in the order that they are sent in and, where they come
/// from other ranks, in that of the experts they are for, and both undone (Megatron-LM, core/transformer/moe/token_dispatcher.py).
fn sorting_passes(q: &LayerQuery, framework: &FrameworkConstants) -> f64 {
    /// Of a streaming kernel's rate, what such a kernel reaches: SimuMax' permutations on B200.
    const SORTED: f64 = 0.63;
    if framework.sorts_while_sending {
        return 4.0;
    }
    let sent = 2.0 + 2.0 / q.shape.top_k.max(1) as f64;
    (if q.ep > 1 { sent + 4.0 } else { sent }) / SORTED
}

/// Widths of all keys and of all values.
fn key_value_widths(shape: &LayerShape) -> [u64; 2] {
    match &shape.latent {
        Some(latent) => [shape.head_width, latent.value_width].map(|w| shape.heads.saturating_mul(w)),
        None => [shape.kv_heads.saturating_mul(shape.head_width); 2],
    }
}

/// Queries, keys and values from the stream, and the attention's result back into it.
fn projections(list: &mut LayerOperators, q: &LayerQuery, tokens: u64, tp: u64, format: Format) {
    let (h, shape) = (q.shape.hidden, &q.shape);
    let queries = shape.heads.saturating_mul(shape.head_width);
    let [keys, values] = key_value_widths(shape);
    let share = |width: u64| (width / tp).max(1);
    match &shape.latent {
        None => {
            let width = queries.saturating_add(keys).saturating_add(values);
            gathering(list, tokens, share(width), h, format);
        }
        Some(latent) => {
            if latent.q_rank > 0 {
                linear(list, tokens, latent.q_rank, h, format);
                gathering(list, tokens, share(queries), latent.q_rank, format);
            } else {
                gathering(list, tokens, share(queries), h, format);
            }
            let rope = latent.rope_width;
            linear(list, tokens, latent.kv_rank.saturating_add(rope), h, format);
            let up = keys.saturating_sub(shape.heads.saturating_mul(rope)).saturating_add(values);
            gathering(list, tokens, share(up), latent.kv_rank, format);
        }
    }
    let out = shape.latent.as_ref().map_or(queries, |_| values);
    linear(list, tokens, h, share(out), format);
}

/// The MLP: dense, or a share of the experts with what every token passes through. Experts see alike many tokens but for
/// the stated imbalance; with expert parallelism each is whole, without it each is split over the tensor-parallel ranks.
fn mlp(list: &mut LayerOperators, q: &LayerQuery, tokens: u64, tp: u64, format: Format) {
    let (h, shape) = (q.shape.hidden, &q.shape);
    let up = |width: u64| if shape.gated { width.saturating_mul(2) } else { width }.max(1);
    if shape.experts == 0 {
        let width = shape.ffn_hidden / tp;
        gathering(list, tokens, up(width), h, format);
        return linear(list, tokens, h, width.max(1), format);
    }
    let mut pair = |experts, rows, width: u64| {
        products(list, experts, rows, up(width), h, format);
        products(list, experts, rows, h, width.max(1), format);
    };
    let (own, sent, width) = match u64::from(q.ep) {
        0 | 1 => (shape.experts, tokens, shape.ffn_hidden / tp),
        ep => (shape.experts.div_ceil(ep), tokens.div_ceil(tp), shape.ffn_hidden),
    };
    let rows = sent.saturating_mul(shape.top_k).saturating_mul(u64::from(shape.load_permille)) / 1000;
    pair(Some(own), rows.div_ceil(own), width);
    if shape.shared_ffn > 0 {
        pair(None, tokens, shape.shared_ffn / tp);
    }
}

/// All that is bound by memory, and of a dense block's products keys, the attention's result, and the second half of a gate or
/// the way out of a plain MLP; in 8 and 4 bits all of them. Experts' are kept.
fn every_second(list: &LayerOperators, q: &LayerQuery, tokens: u64, tp: u64, format: Format) -> Vec<Kernel> {
    let again = |(op, _): &&Kernel| match op {
        Operator::Memory { .. } => true,
        Operator::Gemm { batch, grouped, .. } => format.bytes() < 2.0 && *batch == 1 && !grouped,
        Operator::Attention { .. } => false,
    };
    let mut all: Vec<Kernel> = list.forward.iter().filter(again).copied().collect();
    if format.bytes() >= 2.0 {
        let share = |width: u64| (width / tp).max(1);
        let [keys, values] = key_value_widths(&q.shape);
        let out = q.shape.latent.map_or(q.shape.heads.saturating_mul(q.shape.head_width), |_| values);
        let width = if q.shape.experts == 0 { q.shape.ffn_hidden } else { q.shape.shared_ffn };
        let (h, mut ops) = (q.shape.hidden, LayerOperators::default());
        linear(&mut ops, tokens, share(keys), h, format);
        linear(&mut ops, tokens, h, share(out), format);
        match (width, q.shape.gated) {
            (0, _) => {}
            (width, true) => linear(&mut ops, tokens, share(width), h, format),
            (width, false) => linear(&mut ops, tokens, h, share(width), format),
        }
        all.extend(ops.forward);
    }
    all
}

/// Activations are kept in 16 bits at the least: 8-bit formats are for products.
fn activation_bytes(format: Format) -> f64 {
    format.bytes().max(2.0)
}

/// A linear layer whose rows tensor-parallel ranks gather before it. A norm comes before it, which in 8 and 4 bits writes two copies
/// of a byte for one of two: its operand is quantised already (NVIDIA/TransformerEngine, pytorch/module/layernorm_linear.py).
fn gathering(list: &mut LayerOperators, tokens: u64, n: u64, k: u64, format: Format) {
    let before = list.backward.len();
    linear(list, tokens, n, k, format);
    if format.bytes() < 2.0 {
        list.forward.pop();
    }
    let products = list.backward[before..].iter().filter(|(op, _)| matches!(op, Operator::Gemm { .. }));
    list.beside.extend(products);
}

/// A linear layer.
fn linear(list: &mut LayerOperators, tokens: u64, n: u64, k: u64, format: Format) {
    products(list, None, tokens, n, k, format);
}

/// A linear layer, or one of each of some experts with so many tokens each.
fn products(list: &mut LayerOperators, experts: Option<u64>, tokens: u64, n: u64, k: u64, format: Format) {
    let (batch, grouped) = (experts.unwrap_or(1), experts.is_some());
    let product = |m, n, k, accumulate| (Operator::Gemm { batch, m, n, k, accumulate, grouped }, format);
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

fn attention(
    list: &mut LayerOperators,
    q: &LayerQuery,
    framework: &FrameworkConstants,
    tp: u64,
    kernel: AttentionKernel,
) {
    // Queries and keys may be wider than values: two products, each of half the work of their mean.
    let width =
        q.shape.latent.map_or(q.shape.head_width, |l| q.shape.head_width.midpoint(l.value_width)).max(1);
    let keys = if q.shape.window > 0 { q.seq_len.min(q.shape.window) } else { q.seq_len };
    let format = compute_format(q.format, framework);
    let sequences = u64::from(q.micro_batch);
    let heads = sequences.saturating_mul((q.shape.heads / tp).max(1));
    let s = q.seq_len.div_ceil(u64::from(q.cp.max(1)));
    let product =
        |n, k| (Operator::Gemm { batch: heads, m: s, n, k, accumulate: false, grouped: false }, format);
    let (forward, backward) = match kernel {
        AttentionKernel::Flash => {
            let kernel = |backward| Operator::Attention {
                heads,
                kv_heads: sequences.saturating_mul((q.shape.kv_heads / tp).max(1)),
                queries: s,
                keys,
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
    let scores = heads as f64 * s as f64 * keys as f64 * activation_bytes(q.format);
    let passes = |n: f64| (Operator::Memory { kind: Stream::Scores, bytes: n * scores }, format);
    list.core = vec![product(keys, width), passes(forward), product(width, keys)];
    list.forward.extend_from_slice(&list.core);
    list.backward.extend([
        product(keys, width),
        product(width, keys),
        product(width, keys),
        product(width, keys),
    ]);
    list.backward.push(passes(backward));
}
