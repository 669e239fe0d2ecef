//! Traces made up, each from a seed: the same seed gives the same trace everywhere.

use super::Record;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::Arc;

/// Uniform and normal numbers from ChaCha8, one stream for each component.
struct Random(ChaCha8Rng);

impl Random {
    fn new(seed: u64, component: u64) -> Random {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(component);
        Random(rng)
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) + 1) as f64 / 9_007_199_254_740_992.0
    }

    /// Mean 0, deviation 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * libm::log(u)).sqrt() * libm::cos(2.0 * std::f64::consts::PI * v)
    }

    /// Exponential with this mean.
    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(self.uniform())
    }
}

fn record(name: &Arc<str>, at_ns: u64, value: f64) -> Record {
    Record { at_ns, name: Arc::clone(name), value, latency_s: None }
}

/// Seconds as nanoseconds, at least 1.
fn ns(seconds: f64) -> u64 {
    ((seconds * 1e9).clamp(1.0, 1e19)) as u64
}

/// Two states, each left at random after its mean time (a Markov chain in continuous time).
#[derive(Clone, Debug)]
pub struct Markov {
    /// Values of the two states; it starts in the first.
    pub values: [f64; 2],
    /// Mean time in each, s.
    pub mean_s: [f64; 2],
    /// Length, ns.
    pub duration_ns: u64,
    /// Seed.
    pub seed: u64,
}

impl Markov {
    /// The records of a series called `name`.
    pub fn records(&self, name: &str) -> impl Iterator<Item = Record> + use<> {
        let (this, name) = (self.clone(), Arc::<str>::from(name));
        let mut random = Random::new(self.seed, 1);
        let (mut at, mut state) = (0u64, 0);
        std::iter::from_fn(move || {
            if at >= this.duration_ns {
                return None;
            }
            let record = record(&name, at, this.values[state]);
            at = at.saturating_add(ns(random.exponential(this.mean_s[state])));
            state = 1 - state;
            Some(record)
        })
    }
}

/// A daily wave with noise: `mean (1 + swing cos(2 pi (t - peak) / day)) (1 + noise normal)`, never below zero.
#[derive(Clone, Debug)]
pub struct Diurnal {
    /// Mean value.
    pub mean: f64,
    /// Half of the swing over the mean, 0 to 1.
    pub swing: f64,
    /// Deviation of the noise over the value.
    pub noise: f64,
    /// Hour of the peak.
    pub peak_h: f64,
    /// Step, ns.
    pub step_ns: u64,
    /// Length, ns.
    pub duration_ns: u64,
    /// Seed.
    pub seed: u64,
}

impl Diurnal {
    /// The records of a series called `name`.
    pub fn records(&self, name: &str) -> impl Iterator<Item = Record> + use<> {
        let (this, name) = (self.clone(), Arc::<str>::from(name));
        let mut random = Random::new(self.seed, 2);
        let steps = self.duration_ns.div_ceil(self.step_ns.max(1));
        (0..steps).map(move |i| {
            let at = i * this.step_ns.max(1);
            let hour = at as f64 / 3.6e12 - this.peak_h;
            let wave = libm::cos(2.0 * std::f64::consts::PI * hour / 24.0);
            let value = this.mean * (1.0 + this.swing * wave) * (1.0 + this.noise * random.normal());
            record(&name, at, value.max(0.0))
        })
    }
}

/// A first-order autoregression: `x' = mean + phi (x - mean) + noise normal`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ar1 {
    /// Mean.
    pub mean: f64,
    /// What stays of a deviation after one step, -1 to 1.
    pub phi: f64,
    /// Deviation of what is added in a step.
    pub noise: f64,
}

/// Fits by least squares to values at equal steps; two at least.
pub fn fit_ar1(values: &[f64]) -> Option<Ar1> {
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (mut xx, mut xy) = (0.0, 0.0);
    for pair in values.windows(2) {
        xx += (pair[0] - mean) * (pair[0] - mean);
        xy += (pair[0] - mean) * (pair[1] - mean);
    }
    let phi = if xx > 0.0 { (xy / xx).clamp(-0.9999, 0.9999) } else { 0.0 };
    let mut rest = 0.0;
    for pair in values.windows(2) {
        let e = pair[1] - mean - phi * (pair[0] - mean);
        rest += e * e;
    }
    Some(Ar1 { mean, phi, noise: (rest / (values.len() - 1) as f64).sqrt() })
}

/// A trace of the autoregression, from its mean on, never below zero.
pub fn generate_ar1(
    model: Ar1,
    step_ns: u64,
    duration_ns: u64,
    seed: u64,
    name: &str,
) -> impl Iterator<Item = Record> + use<> {
    let name = Arc::<str>::from(name);
    let mut random = Random::new(seed, 3);
    let mut deviation = 0.0;
    let step_ns = step_ns.max(1);
    (0..duration_ns.div_ceil(step_ns)).map(move |i| {
        let value = model.mean + deviation;
        deviation = model.phi * deviation + model.noise * random.normal();
        record(&name, i * step_ns, value.max(0.0))
    })
}

/// Nodes that fail on their own and are repaired: exponential times between failures and to repair.
#[derive(Clone, Debug)]
pub struct Failures {
    /// Nodes.
    pub nodes: u32,
    /// Mean time between failures of one node, s.
    pub mtbf_s: f64,
    /// Mean time to repair, s.
    pub repair_s: f64,
    /// Length, ns.
    pub duration_ns: u64,
    /// Seed.
    pub seed: u64,
}

impl Failures {
    /// `up` of each node that fails at all, in order of time; node `i` is called `node i`.
    pub fn records(&self) -> impl Iterator<Item = Record> + use<> {
        let this = self.clone();
        let mut heap = std::collections::BinaryHeap::new();
        // Each node has its own stream, so that adding a node changes no other.
        let mut streams: Vec<Random> =
            (0..self.nodes).map(|n| Random::new(self.seed, 1_000 + u64::from(n))).collect();
        let names: Vec<Arc<str>> = (0..self.nodes).map(|n| format!("node{n}").into()).collect();
        for (n, random) in streams.iter_mut().enumerate() {
            heap.push(std::cmp::Reverse((ns(random.exponential(self.mtbf_s)), n, false)));
        }
        let first = (0..names.len()).map({
            let names = names.clone();
            move |n| record(&names[n], 0, 1.0)
        });
        let later = std::iter::from_fn(move || {
            let std::cmp::Reverse((at, n, up)) = heap.pop()?;
            if at >= this.duration_ns {
                return None;
            }
            let mean = if up { this.mtbf_s } else { this.repair_s };
            let next = at.saturating_add(ns(streams[n].exponential(mean)));
            heap.push(std::cmp::Reverse((next, n, !up)));
            Some(record(&names[n], at, f64::from(u8::from(up))))
        });
        first.chain(later)
    }
}
