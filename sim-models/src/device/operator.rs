//! Operators: what a GPU is asked to do, with its arithmetic and its memory traffic. No device, no time.
//!
//! Sizes are elements; a size of 0 is an operator that does nothing. Everything is computed in `f64`, so no product of
//! sizes overflows.

/// A kind of memory-bound kernel: kernels of one kind reach about the same share of a GPU's bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Sum of two tensors (residual).
    Add,
    /// Layer or RMS norm.
    Norm,
    /// Rotary embedding.
    Rotary,
    /// Activation of the MLP, gated or not.
    Activation,
    /// Rows gathered from a table.
    Gather,
    /// Pass over the attention scores outside a fused kernel.
    Scores,
    /// Optimizer step.
    Optimizer,
}

impl Stream {
    /// All kinds, in order.
    pub const ALL: [Stream; 7] = [
        Stream::Add,
        Stream::Norm,
        Stream::Rotary,
        Stream::Activation,
        Stream::Gather,
        Stream::Scores,
        Stream::Optimizer,
    ];

    /// Its name in files: `add`, `norm`, ...
    pub fn name(self) -> &'static str {
        match self {
            Stream::Add => "add",
            Stream::Norm => "norm",
            Stream::Rotary => "rotary",
            Stream::Activation => "activation",
            Stream::Gather => "gather",
            Stream::Scores => "scores",
            Stream::Optimizer => "optimizer",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Stream> {
        Stream::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// One kernel, or one fused group of kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operator {
    /// `batch` products of an `m x k` with a `k x n` matrix.
    Gemm {
        /// Independent products in one call.
        batch: u64,
        /// Rows of the result.
        m: u64,
        /// Columns of the result.
        n: u64,
        /// Length of the sums.
        k: u64,
        /// Whether the result is added to a 32-bit buffer (weight gradients).
        accumulate: bool,
        /// Whether they are experts', each with a weight of its own.
        grouped: bool,
    },
    /// Attention in one kernel (flash): scores never reach the memory.
    Attention {
        /// Sequences x heads on the device.
        heads: u64,
        /// Sequences x key-value heads on the device.
        kv_heads: u64,
        /// Queries of one head.
        queries: u64,
        /// Keys of one head.
        keys: u64,
        /// Width of a head.
        width: u64,
        /// Whether a query sees only the keys up to it (half the arithmetic where `queries == keys`).
        causal: bool,
        /// The backward pass: five products for the forward pass's two.
        backward: bool,
    },
    /// A kernel bound by memory.
    Memory {
        /// Its kind.
        kind: Stream,
        /// Bytes read and written.
        bytes: f64,
    },
}

impl Operator {
    /// A plain product.
    pub fn gemm(m: u64, n: u64, k: u64) -> Operator {
        Operator::Gemm { batch: 1, m, n, k, accumulate: false, grouped: false }
    }

    /// Floating-point operations, a multiply-add counted as two. Memory-bound kernels count none.
    pub fn flop(&self) -> f64 {
        match *self {
            Operator::Gemm { batch, m, n, k, .. } => 2.0 * product(&[batch, m, n, k]),
            Operator::Attention { heads, queries, keys, width, causal, backward, .. } => {
                let products = if backward { 5.0 } else { 2.0 };
                let seen = if causal { 0.5 } else { 1.0 };
                2.0 * products * seen * product(&[heads, queries, keys, width])
            }
            Operator::Memory { .. } => 0.0,
        }
    }

    /// Bytes that must be read and written when an element has `element` bytes.
    pub fn bytes(&self, element: f64) -> f64 {
        match *self {
            Operator::Gemm { batch, m, n, k, accumulate, .. } => {
                let operands = product(&[batch, m, k]) + product(&[batch, k, n]);
                let result = product(&[batch, m, n]);
                element * operands + if accumulate { 8.0 * result } else { element * result }
            }
            Operator::Attention { heads, kv_heads, queries, keys, width, backward, .. } => {
                let passes = if backward { 2.0 } else { 1.0 };
                let (q, kv) = (product(&[heads, queries, width]), product(&[kv_heads, keys, width]));
                passes * element * 2.0 * (q + kv)
            }
            Operator::Memory { bytes, .. } => bytes,
        }
    }
}

fn product(sizes: &[u64]) -> f64 {
    sizes.iter().fold(1.0, |p, &s| p * s as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_and_traffic() {
        let gemm = Operator::Gemm { batch: 2, m: 3, n: 5, k: 7, accumulate: false, grouped: false };
        assert_eq!((gemm.flop(), gemm.bytes(2.0)), (420.0, 2.0 * 2.0 * (21.0 + 35.0 + 15.0)));
        let flash = |causal, backward| Operator::Attention {
            heads: 2,
            kv_heads: 1,
            queries: 8,
            keys: 8,
            width: 4,
            causal,
            backward,
        };
        assert_eq!(flash(false, false).flop(), 2.0 * 2.0 * 512.0);
        assert_eq!(flash(true, true).flop(), 2.0 * 5.0 * 512.0 / 2.0);
        assert!(Operator::gemm(u64::MAX, u64::MAX, u64::MAX).flop().is_finite());
    }

    #[test]
    fn kinds_keep_their_names() {
        for kind in Stream::ALL {
            assert_eq!(Stream::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Stream::from_name("x"), None);
    }
}
