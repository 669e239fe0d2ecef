//! The passes of every simulated rank, in the order of its schedule.

use super::route::Context;
use super::sync::Pieces;
use super::{Lowering, RankTasks};
use crate::layer_times::PassSent;
use crate::layout::Rank;
use crate::plan::{LayerRange, Schedule};
use crate::schedule::{Orders, Pass, PassKind};
use sim_core::SimDuration;

/// Times of the passes of one rank.
struct Times<'a> {
    rank: &'a Rank,
    split_weights: bool,
    /// By chunk: of a whole pass, forward, backward and weight, and what it sends to other nodes.
    whole: Vec<[(SimDuration, PassSent); 3]>,
}

impl<'a> Times<'a> {
    fn new(rank: &'a Rank, split_weights: bool) -> Times<'a> {
        let of = |range: &LayerRange| {
            [PassKind::Forward, PassKind::Backward, PassKind::Weight].map(|kind| {
                (rank.pass(kind, *range, split_weights), rank.pass_sent(kind, *range, split_weights))
            })
        };
        Times { rank, split_weights, whole: rank.layers.chunks().iter().map(of).collect() }
    }
}

impl Lowering {
    pub(super) fn passes(&mut self, c: &Context<'_>, pieces: &Pieces) {
        let split_weights = c.plan.schedule == Schedule::ZeroBubble;
        let slow = c.scenario.training.overheads.slowdown;
        let beside_s = if slow > 0.0 { pieces.beside_s(c) } else { Vec::new() };
        // Compute is slower for as long as something moves beside it.
        let slowed = |time: SimDuration, rank: usize, kind: PassKind, layers: LayerRange| {
            let piece = if slow > 0.0 { pieces.piece(c, rank, layers) } else { None };
            let beside = piece.map_or(0.0, |p| beside_s[p][usize::from(kind != PassKind::Forward)]);
            let whole = time.as_secs_f64();
            SimDuration::from_secs_f64(whole + slow * if beside < whole { beside } else { whole })
        };
        for class in &c.folding.classes {
            let pipeline = &c.layout.pipelines[class.pipeline];
            let orders = self.orders(c.layout.shape(c.plan, pipeline));
            for r in pipeline.stages.clone() {
                let rank = c.rank(r);
                let times = Times::new(rank, split_weights);
                let stream = self.builder.stream();
                let ways = c.ways(class, rank, split_weights);
                self.builder.pace(&c.fabric.pace(&rank.devices));
                let at = self.map.pass_first.len();
                for pass in orders.stage(rank.stage) {
                    self.map.pass_first.push(self.builder.len() as u32);
                    if pieces.cuts(&orders, *pass) {
                        let mut layers = pieces.within(rank.layers.chunks()[pass.chunk as usize]);
                        if pass.kind != PassKind::Forward {
                            layers.reverse();
                        }
                        for range in layers {
                            let time = times.rank.pass(pass.kind, range, times.split_weights);
                            let time = slowed(time, r, pass.kind, range).unwrap_or(time);
                            self.part(&ways, time, &rank.pass_sent(pass.kind, range, split_weights), stream);
                        }
                    } else {
                        let (time, sent) = times.whole[pass.chunk as usize][pass.kind as usize];
                        self.part(&ways, time, &sent, stream);
                    }
                }
                self.map.pass_first.push(self.builder.len() as u32);
                self.builder.pace(&[]);
                self.map.passes.push(RankTasks { rank: r, orders: orders.clone(), split: ways.split, at });
            }
        }
    }
}

/// Whether a pass is the last of its kind and chunk in the order of its stage.
pub(super) fn is_last(orders: &Orders, pass: Pass) -> bool {
    // Each schedule takes micro-batches in order.
    pass.micro_batch + 1 == orders.micro_batches()
}
