//! What goes between the stages of a pipeline: activations forward, their gradients back.

use super::route::Context;
use super::{BoundaryTasks, Lowering};
use crate::fold::Class;
use crate::plan::Schedule;
use crate::schedule::{Pass, PassKind};
use sim_core::TaskId;

/// The end of a transfer: a simulated rank and the pass there.
#[derive(Clone, Copy)]
struct End {
    rank: usize,
    at: usize,
}

/// Whom a transfer holds while it is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nobody,
    Sender,
    Both,
}

impl Lowering {
    pub(super) fn transfers(&mut self, c: &Context<'_>) {
        let holds = match c.plan.schedule {
            _ if c.plan.overlap_p2p => Holds::Nobody,
            Schedule::OneFOneB | Schedule::GPipe => Holds::Both,
            Schedule::Interleaved | Schedule::ZeroBubble => Holds::Sender,
        };
        let mut first = 0;
        for class in &c.folding.classes {
            let pipeline = &c.layout.pipelines[class.pipeline];
            let stages = pipeline.stages.len();
            let chunks = c.rank(pipeline.stages.start).layers.chunks().len() as u32;
            for s in 0..stages - 1 {
                for chunk in 0..chunks {
                    self.boundary(c, class, holds, (first + s, chunk), (first + s + 1, chunk));
                }
            }
            // From the last stage back to the first, into its next chunk.
            for chunk in 1..chunks {
                self.boundary(c, class, holds, (first + stages - 1, chunk - 1), (first, chunk));
            }
            first += stages;
        }
    }

    /// All micro-batches from one chunk of a rank to one of another, and back.
    fn boundary(
        &mut self,
        c: &Context<'_>,
        class: &Class,
        holds: Holds,
        (from, chunk): (usize, u32),
        (to, next): (usize, u32),
    ) {
        let samples = u64::from(c.plan.micro_batch);
        let bytes = c.scenario.model.boundary_bytes(c.scenario.training.precision).times(samples);
        let (orders, count) =
            (self.map.passes[from].orders.clone(), c.layout.pipelines[class.pipeline].micro_batches);
        let stages = [from, to].map(|i| c.rank(self.map.passes[i].rank).stage);
        for (kind, [(a, a_chunk), (b, b_chunk)]) in [
            (PassKind::Forward, [(from, chunk), (to, next)]),
            (PassKind::Backward, [(to, next), (from, chunk)]),
        ] {
            let forward = kind == PassKind::Forward;
            let [a_stage, b_stage] = if forward { stages } else { [stages[1], stages[0]] };
            let route = c.boundary(class, self.map.passes[a].rank, self.map.passes[b].rank, bytes);
            let stream = [self.builder.stream()];
            let first = self.builder.len() as u32;
            for micro_batch in 0..count {
                let pass = |chunk| Pass { kind, micro_batch, chunk };
                let sender = End { rank: a, at: orders.position(a_stage, pass(a_chunk)) as usize };
                let receiver = End { rank: b, at: orders.position(b_stage, pass(b_chunk)) as usize };
                let mut deps = [self.map.pass(a, sender.at).1; 2];
                if holds == Holds::Both && receiver.at > 0 {
                    deps[1] = self.map.pass(b, receiver.at - 1).1;
                }
                let deps = if deps[0] == deps[1] { &deps[..1] } else { &deps[..] };
                let task = self.builder.transfer(route.transfer(), &stream, deps);
                self.after(task, holds, sender, receiver);
            }
            self.map.boundaries.push(BoundaryTasks {
                from: a,
                to: b,
                forward,
                chunk: a_chunk,
                first,
                count,
                bytes,
            });
        }
    }

    /// What waits for a transfer: the pass that needs it, and the sender's next where it is held.
    fn after(&mut self, task: TaskId, holds: Holds, sender: End, receiver: End) {
        self.builder.depend(self.map.pass(receiver.rank, receiver.at).0, task);
        if holds != Holds::Nobody && sender.at + 1 < self.map.pass_count(sender.rank) {
            self.builder.depend(self.map.pass(sender.rank, sender.at + 1).0, task);
        }
    }
}
