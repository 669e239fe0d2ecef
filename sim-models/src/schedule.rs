//! The order in which each stage runs its passes.
//!
//! 1F1B is PipeDream-flush (arXiv 2104.04473, figure 4): `stages - 1 - stage` forward passes of warm-up, then one forward
//! and one backward in turn, then the backward passes left. GPipe (arXiv 1811.06965) runs all forward passes, then all
//! backward passes. Interleaved 1F1B (arXiv 2104.04473, section 2.2, in Megatron-LM's order) gives a stage several chunks of
//! layers and goes through them in groups of as many micro-batches as there are stages. Zero-bubble (arXiv 2401.10241) has
//! weight gradients in passes of their own, which lag behind: early stages fill the bubbles between their last backward
//! passes with them, late stages the end. No stage holds more micro-batches than a limit: with as many as stages it is
//! ZB-H1; with more, early stages warm up longer, up to twice the stages less one, ZB-H2.

use crate::plan::Schedule;

/// What a pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PassKind {
    /// Forward.
    Forward,
    /// Backward: all of it, or with zero-bubble the gradient of the input alone.
    Backward,
    /// The gradients of the weights.
    Weight,
}

/// One pass of one micro-batch through one chunk of a stage's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// What it does.
    pub kind: PassKind,
    /// Which micro-batch, from 0.
    pub micro_batch: u32,
    /// Which of the stage's ranges of layers, from 0.
    pub chunk: u32,
}

/// A pipeline as far as the order of its passes depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// The schedule.
    pub schedule: Schedule,
    /// Stages. At least 1.
    pub stages: u32,
    /// Ranges of layers a stage. At least 1.
    pub chunks: u32,
    /// Micro-batches. At least 1.
    pub micro_batches: u32,
    /// Zero-bubble: most micro-batches that a stage holds; the stages when `None`.
    pub in_flight: Option<u32>,
}

/// Orders of all stages of one pipeline, and where in them a pass is.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    passes: Vec<Vec<Pass>>,
    /// By stage: position of (kind, chunk, micro-batch).
    positions: Vec<Vec<u32>>,
    chunks: u32,
    micro_batches: u32,
}

impl Orders {
    /// The orders of a pipeline.
    pub fn new(shape: &Shape) -> Orders {
        let of = |s| match shape.schedule {
            Schedule::ZeroBubble => shape.zero_bubble(s),
            _ => shape.alternating(s),
        };
        let passes = (0..shape.stages).map(of).collect();
        let (chunks, micro_batches) = (shape.chunks, shape.micro_batches);
        let mut orders = Orders { passes, positions: Vec::new(), chunks, micro_batches };
        for list in &orders.passes {
            let mut positions = vec![u32::MAX; 3 * (chunks * micro_batches) as usize];
            for (at, pass) in list.iter().enumerate() {
                positions[orders.index(*pass)] = at as u32;
            }
            orders.positions.push(positions);
        }
        orders
    }

    fn index(&self, pass: Pass) -> usize {
        ((pass.kind as u32 * self.chunks + pass.chunk) * self.micro_batches + pass.micro_batch) as usize
    }

    /// The passes of a stage, in order: each micro-batch through each chunk forward once and backward once.
    pub fn stage(&self, stage: u32) -> &[Pass] {
        &self.passes[stage as usize]
    }

    /// Where a pass comes in its stage's order.
    pub fn position(&self, stage: u32, pass: Pass) -> u32 {
        self.positions[stage as usize][self.index(pass)]
    }

    /// Micro-batches of the pipeline.
    pub fn micro_batches(&self) -> u32 {
        self.micro_batches
    }

    /// Passes of all stages together.
    pub fn len(&self) -> usize {
        self.passes.iter().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shape {
    /// Forward passes of a stage before its first backward pass, less the one that it follows in turn.
    fn warm_up(&self, stage: u32) -> u32 {
        let (p, v, all) = (self.stages, self.chunks, self.chunks * self.micro_batches);
        let after = p - 1 - stage;
        match self.schedule {
            Schedule::OneFOneB => after.min(all),
            Schedule::ZeroBubble => (after + after.min(self.limit() - p)).min(all),
            Schedule::GPipe => all,
            // One chunk is plain 1F1B: there is nobody to hide two steps from.
            Schedule::Interleaved if v == 1 => after.min(all),
            Schedule::Interleaved => (2 * after + (v - 1) * p).min(all),
        }
    }

    /// Forward pass number `k` of a stage, and backward pass number `k`.
    fn nth(&self, k: u32, kind: PassKind) -> Pass {
        let (p, v) = (self.stages, self.chunks);
        if v == 1 {
            return Pass { kind, micro_batch: k, chunk: 0 };
        }
        let chunk = k % (p * v) / p;
        let chunk = if kind == PassKind::Forward { chunk } else { v - 1 - chunk };
        Pass { kind, micro_batch: k / (p * v) * p + k % p, chunk }
    }

    /// Warm-up, one forward and one backward in turn, the rest.
    fn alternating(&self, stage: u32) -> Vec<Pass> {
        let (all, warm_up) = (self.chunks * self.micro_batches, self.warm_up(stage));
        let mut list = Vec::with_capacity(2 * all as usize);
        list.extend((0..warm_up).map(|k| self.nth(k, PassKind::Forward)));
        for k in warm_up..all {
            list.push(self.nth(k, PassKind::Forward));
            list.push(self.nth(k - warm_up, PassKind::Backward));
        }
        list.extend((all - warm_up..all).map(|k| self.nth(k, PassKind::Backward)));
        list
    }

    /// Warm-up, one forward and one backward in turn with the weights of an earlier micro-batch, then backward passes with
    /// weights between them, then the weights left.
    fn zero_bubble(&self, stage: u32) -> Vec<Pass> {
        let (n, warm_up) = (self.micro_batches, self.warm_up(stage));
        let lag = self.limit() - 1 - warm_up.min(self.limit() - 1);
        let pass = |kind, k| self.nth(k, kind);
        let mut list = Vec::with_capacity(3 * n as usize);
        list.extend((0..warm_up).map(|k| pass(PassKind::Forward, k)));
        let mut weights = 0;
        for k in 0..n {
            let forward = k + warm_up;
            if forward < n {
                list.push(pass(PassKind::Forward, forward));
            }
            list.push(pass(PassKind::Backward, k));
            if k >= lag || forward >= n {
                list.push(pass(PassKind::Weight, weights));
                weights += 1;
            }
        }
        list.extend((weights..n).map(|k| pass(PassKind::Weight, k)));
        list
    }

    /// Most (micro-batch, chunk) pairs whose activations stage `stage` holds at once.
    pub fn in_flight(&self, stage: u32) -> u32 {
        let all = self.chunks * self.micro_batches;
        match self.schedule {
            Schedule::ZeroBubble => self.limit().min(all),
            _ => (self.warm_up(stage) + 1).min(all),
        }
    }

    fn limit(&self) -> u32 {
        self.in_flight.unwrap_or(self.stages).max(self.stages)
    }
}

impl Schedule {
    /// Most micro-batches whose activations stage `stage` of `stages` holds at once, with one range of layers a stage.
    pub fn in_flight(self, stage: u32, stages: u32, micro_batches: u32) -> u32 {
        let shape = Shape { schedule: self, stages, chunks: 1, micro_batches, in_flight: None };
        shape.in_flight(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(schedule: Schedule, stages: u32, chunks: u32, micro_batches: u32) -> Shape {
        Shape { schedule, stages, chunks, micro_batches, in_flight: None }
    }

    #[test]
    fn orders_are_those_of_the_papers() {
        let text = |shape: Shape, stage| -> String {
            let one = |pass: &Pass| {
                let kind = ["F", "B", "W"][pass.kind as usize];
                if shape.chunks == 1 {
                    format!("{kind}{} ", pass.micro_batch)
                } else {
                    format!("{kind}{}.{} ", pass.micro_batch, pass.chunk)
                }
            };
            Orders::new(&shape).stage(stage).iter().map(one).collect()
        };
        use Schedule::{GPipe, Interleaved, OneFOneB};
        for (shape, stage, want) in [
            (shape(OneFOneB, 4, 1, 3), 3, "F0 B0 F1 B1 F2 B2 "),
            (shape(OneFOneB, 4, 1, 6), 0, "F0 F1 F2 F3 B0 F4 B1 F5 B2 B3 B4 B5 "),
            (shape(OneFOneB, 4, 1, 2), 0, "F0 F1 B0 B1 "),
            (shape(GPipe, 4, 1, 3), 1, "F0 F1 F2 B0 B1 B2 "),
            (shape(Interleaved, 2, 2, 2), 1, "F0.0 F1.0 F0.1 B0.1 F1.1 B1.1 B0.0 B1.0 "),
            (shape(Interleaved, 2, 2, 2), 0, "F0.0 F1.0 F0.1 F1.1 B0.1 B1.1 B0.0 B1.0 "),
        ] {
            assert_eq!(text(shape, stage), want);
        }
    }

    fn shapes() -> impl Iterator<Item = Shape> {
        Schedule::ALL.into_iter().flat_map(|schedule| {
            let chunks = if schedule == Schedule::Interleaved { 1..4 } else { 1..2 };
            chunks.flat_map(move |v| {
                (1..6).flat_map(move |p| {
                    (1..9).filter(move |n| v == 1 || n % p == 0).map(move |n| shape(schedule, p, v, n))
                })
            })
        })
    }

    #[test]
    fn in_flight_is_what_the_order_holds() {
        for shape in shapes() {
            let orders = Orders::new(&shape);
            for stage in 0..shape.stages {
                let (mut held, mut most) = (0u32, 0);
                for (at, pass) in orders.stage(stage).iter().enumerate() {
                    assert_eq!(orders.position(stage, *pass), at as u32);
                    let frees = match shape.schedule {
                        Schedule::ZeroBubble => PassKind::Weight,
                        _ => PassKind::Backward,
                    };
                    match pass.kind {
                        PassKind::Forward => held += 1,
                        kind if kind == frees => held -= 1,
                        _ => {}
                    }
                    most = most.max(held);
                }
                let said = shape.in_flight(stage);
                assert_eq!(held, 0);
                match shape.schedule {
                    // Later stages need not come to the limit.
                    Schedule::ZeroBubble => assert!(most <= said, "{shape:?} {stage}: {most} of {said}"),
                    _ => assert_eq!(most, said, "{shape:?} {stage}"),
                }
            }
        }
    }

    /// Ends of the passes of a pipeline whose passes take `times` (forward, backward, weight) of one chunk.
    fn run(shape: &Shape, times: [u64; 3]) -> u64 {
        let orders = Orders::new(shape);
        let (p, v) = (shape.stages, shape.chunks);
        let mut end = std::collections::BTreeMap::new();
        let mut at = vec![0usize; p as usize];
        let mut now = vec![0u64; p as usize];
        let mut last = 0;
        while (0..p).any(|s| at[s as usize] < orders.stage(s).len()) {
            let before = last;
            for s in 0..p {
                while let Some(pass) = orders.stage(s).get(at[s as usize]) {
                    let (m, c) = (pass.micro_batch, pass.chunk);
                    let needs = match pass.kind {
                        PassKind::Forward if s > 0 => Some((PassKind::Forward, s - 1, c, m)),
                        PassKind::Forward if c > 0 => Some((PassKind::Forward, p - 1, c - 1, m)),
                        PassKind::Forward => None,
                        PassKind::Backward if s + 1 < p => Some((PassKind::Backward, s + 1, c, m)),
                        PassKind::Backward if c + 1 < v => Some((PassKind::Backward, 0, c + 1, m)),
                        PassKind::Backward => Some((PassKind::Forward, s, c, m)),
                        PassKind::Weight => Some((PassKind::Backward, s, c, m)),
                    };
                    let Some(ready) = needs.map_or(Some(0), |key| end.get(&key).copied()) else { break };
                    let finish = now[s as usize].max(ready) + times[pass.kind as usize];
                    now[s as usize] = finish;
                    end.insert((pass.kind, s, c, m), finish);
                    at[s as usize] += 1;
                    last += 1;
                }
            }
            assert!(last > before, "{shape:?} waits in a circle");
        }
        now.into_iter().max().unwrap_or(0)
    }

    /// Bubbles of the papers: (p - 1) (f + b) for GPipe and 1F1B, a v-th of it interleaved (2104.04473, section 2.2),
    /// (p - 1) (f + b - w) for ZB-H1 (2401.10241, table 1): of stage 0 with passes of unit time, p - 1.
    #[test]
    fn bubbles_are_those_of_the_papers() {
        for shape in shapes() {
            let (p, n, v) =
                (u64::from(shape.stages), u64::from(shape.micro_batches), u64::from(shape.chunks));
            let (f, b) = (3, 5);
            match shape.schedule {
                Schedule::ZeroBubble if n >= 2 * p => {
                    assert_eq!(run(&shape, [4; 3]), 4 * (3 * n + p - 1), "{shape:?}");
                }
                Schedule::ZeroBubble => {
                    assert!(run(&shape, [4; 3]) <= 4 * 3 * (n + p - 1), "{shape:?}");
                }
                _ => assert_eq!(run(&shape, [f, b, 0]), n * v * (f + b) + (p - 1) * (f + b), "{shape:?}"),
            }
        }
    }
}
