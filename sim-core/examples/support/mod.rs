//! What the examples and benches share: command-line flags, a seeded generator, workloads.
#![allow(dead_code, unreachable_pub, reason = "each user takes what it needs")]

pub mod phold;
pub mod ring;
pub mod workload;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The value after `--name`, parsed; ends the program with status 2 when it is missing or no `T`.
pub fn flag<T: std::str::FromStr>(name: &str, default: Option<T>) -> T {
    let mut args = std::env::args().skip_while(|a| a != name);
    let given = args.next().and(Some(args.next()));
    match (given, default) {
        (None, Some(default)) => default,
        (None, None) => fail(&format!("missing `{name}`")),
        (Some(None), _) => fail(&format!("`{name}` needs a value")),
        (Some(Some(text)), _) => match text.parse() {
            Ok(value) => value,
            Err(_) => fail(&format!("`{name}`: cannot read `{text}`")),
        },
    }
}

/// Whether `--name` was given.
pub fn switch(name: &str) -> bool {
    std::env::args().any(|a| a == name)
}

/// Says what is wrong and ends the program with status 2.
pub fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    std::process::exit(2);
}

/// Uniform integers from ChaCha8.
pub struct Random(ChaCha8Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in `[0, bound)`, by the high half of a product; off from uniform by less than `bound` / 2^64.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// 64 uniform bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}
