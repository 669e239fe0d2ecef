//! A digest of the events of a run: two runs with equal digests dispatched the same events at the same times.
//!
//! Integers only, no seed, no pointer, no clock: the same on every machine. It guards against accidents, not adversaries.

use std::fmt;

/// 128 bits over a sequence of integers; order matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Digest {
    a: u64,
    b: u64,
}

// Odd constants with well-mixed bits: fractional parts of square roots of 2, 3, 5 and 7.
const K0: u64 = 0x6a09_e667_f3bc_c909;
const K1: u64 = 0xbb67_ae85_84ca_a73b;
const K2: u64 = 0x3c6e_f372_fe94_f82b;
const K3: u64 = 0xa54f_f53a_5f1d_36f1;

/// The two halves of a 64 x 64 product, folded together.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let p = u128::from(a) * u128::from(b);
    (p as u64) ^ ((p >> 64) as u64)
}

impl Digest {
    /// The digest of nothing.
    pub const EMPTY: Self = Self { a: K0, b: K1 };

    /// Adds a pair of integers.
    #[inline]
    pub fn add(&mut self, x: u64, y: u64) {
        // Adding before the product keeps a zero operand from absorbing what came before.
        self.a = fold(self.a ^ x, K2 ^ y).wrapping_add(self.b.rotate_left(23));
        self.b = (self.b ^ x.rotate_left(32) ^ y).wrapping_mul(K3).rotate_left(29) ^ self.a;
    }

    /// Adds another digest, as a digest of iterations does.
    pub fn add_digest(&mut self, other: Digest) {
        self.add(other.a, other.b);
    }

    /// The 128 bits.
    pub fn as_u128(self) -> u128 {
        (u128::from(self.a) << 64) | u128::from(self.b)
    }

    /// From the 128 bits of [`Digest::as_u128`].
    pub fn from_u128(bits: u128) -> Self {
        Self { a: (bits >> 64) as u64, b: bits as u64 }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.a, self.b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[(u64, u64)]) -> Digest {
        let mut d = Digest::EMPTY;
        for &(x, y) in words {
            d.add(x, y);
        }
        d
    }

    #[test]
    fn order_and_every_word_count() {
        assert_ne!(of(&[(1, 2), (3, 4)]), of(&[(3, 4), (1, 2)]));
        assert_ne!(of(&[(0, 0)]), of(&[(0, 0), (0, 0)]));
        assert_ne!(of(&[(1, 0)]), of(&[(0, 1)]));
        let many: std::collections::BTreeSet<u128> =
            (0..10_000u64).map(|i| of(&[(i, 0), (0, i)]).as_u128()).collect();
        assert_eq!(many.len(), 10_000);
    }

    #[test]
    fn is_the_same_everywhere() {
        let d = of(&[(1, 2), (u64::MAX, 7), (K2, K2)]);
        assert_eq!(d.to_string().len(), 32);
        assert_eq!(Digest::from_u128(d.as_u128()), d);
    }
}
