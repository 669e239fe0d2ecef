//! How steps vary from one to the next: factors drawn from measured step times.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Quantiles of logged step times over the median of their run, at 0, 1/40, .. 39/40, and then at the shares beside them.
/// 50,149 steps of MLPerf Training runs (GPT-3 175B, Llama 3.1 405B and 8B on 64 to 10,752 GPUs; result logs of
/// mlcommons/training_results v3.0 to v5.1, Apache-2.0).
const BODY: [u32; 40] = [
    9226, 9834, 9886, 9910, 9926, 9938, 9947, 9954, 9961, 9966, 9970, 9974, 9978, 9982, 9985, 9988, 9991,
    9994, 9996, 9998, 10000, 10002, 10004, 10006, 10009, 10012, 10015, 10018, 10022, 10026, 10032, 10038,
    10045, 10054, 10065, 10079, 10101, 10133, 10183, 10365,
];
/// (share in 10,000ths, ratio in 10,000ths) beyond 0.975.
const TAIL: [(u32, u32); 7] = [
    (9750, 10365),
    (9900, 10859),
    (9950, 11256),
    (9990, 15660),
    (9995, 19776),
    (9999, 55264),
    (10_000, 83_681),
];

/// The least factor, in 10,000ths.
pub(crate) const LEAST: u64 = 9226;

/// Factors, one an iteration: the same for every policy at the same seed.
pub(crate) struct Jitter(ChaCha8Rng);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Jitter {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(7);
        Jitter(rng)
    }

    /// `ns` as the next iteration takes it: in 10,000ths interpolated between quantiles, rounded up.
    pub(crate) fn stretch(&mut self, ns: u64) -> u64 {
        let share = self.0.next_u32() as u64;
        (u128::from(ns) * u128::from(factor(share))).div_ceil(10_000 << 16) as u64
    }
}

/// The factor at a share of 2^32, in 10,000ths of 2^-16.
fn factor(share: u64) -> u64 {
    let between = |from: u64, to: u64, part: u64, whole: u64| {
        ((from << 16) * (whole - part) + (to << 16) * part) / whole
    };
    // In 2^-16ths of 10,000ths.
    let x = (share * 10_000) >> 16;
    let whole = x >> 16;
    if whole < u64::from(TAIL[0].0) {
        let cell = x * 40 / 10_000;
        let i = (cell >> 16) as usize;
        return between(u64::from(BODY[i]), u64::from(BODY[(i + 1).min(39)]), cell & 0xffff, 1 << 16);
    }
    let i = TAIL.windows(2).position(|w| whole < u64::from(w[1].0)).unwrap_or(TAIL.len() - 2);
    let (a, b) = (TAIL[i], TAIL[i + 1]);
    let part = x - (u64::from(a.0) << 16);
    between(u64::from(a.1), u64::from(b.1), part, u64::from(b.0 - a.0) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_the_quantiles() {
        let at = |share: f64| factor((share * 4_294_967_296.0) as u64) as f64 / 65_536.0;
        for (share, expected) in
            [(0.0, 9226.0), (0.025, 9834.0), (0.5, 10_000.0), (0.975, 10_365.0), (0.99, 10_859.0)]
        {
            assert!((at(share) - expected).abs() < 1.0, "{share}: {}", at(share));
        }
        assert!(factor(u64::from(u32::MAX)) <= 83_681 << 16);
        let mut jitter = Jitter::new(1);
        let mean = (0..100_000).map(|_| jitter.stretch(1_000_000)).sum::<u64>() as f64 / 1e11;
        assert!((mean - 1.004).abs() < 0.002, "{mean}");
    }
}
