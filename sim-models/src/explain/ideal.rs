//! How long a stage would be idle if every stage of its pipeline were like it and nothing had to be sent: the part of its
//! idle time that the schedule alone is to blame for.
//!
//! For 1F1B and GPipe that is the formula of arXiv 2104.04473, (stages - 1) x (forward + backward); evaluating the order of
//! passes gives it for every schedule, and with blocking transfers, which make a stage wait for its neighbour.

use crate::schedule::{Orders, Pass, PassKind};

/// A stage's passes, ps: forward, backward and weight of each of its chunks.
pub(super) type PassTimes = Vec<[u64; 3]>;

/// Idle time in ps of stage `stage` until the last stage is done. `blocking`: a sender waits until its receiver is free.
pub(super) fn idle(orders: &Orders, stages: u32, stage: u32, times: &PassTimes, blocking: bool) -> u64 {
    let run = Run { orders, stages, chunks: times.len() as u32, times, blocking };
    let end = run.end();
    let of = |pass: &Pass| times[pass.chunk as usize][pass.kind as usize];
    let busy = orders.stage(stage).iter().map(of).fold(0, u64::saturating_add);
    end.saturating_sub(busy)
}

struct Run<'a> {
    orders: &'a Orders,
    stages: u32,
    chunks: u32,
    times: &'a PassTimes,
    blocking: bool,
}

impl Run<'_> {
    /// When the last pass of all stages is done.
    fn end(&self) -> u64 {
        let mut done: Vec<Vec<u64>> =
            (0..self.stages).map(|s| Vec::with_capacity(self.orders.stage(s).len())).collect();
        loop {
            let mut moved = false;
            for s in 0..self.stages {
                while let Some(end) = self.next(&done, s) {
                    done[s as usize].push(end);
                    moved = true;
                }
            }
            // Every order of the schedules ends; one that did not would leave the time so far.
            if !moved {
                return done.iter().filter_map(|d| d.last()).copied().max().unwrap_or(0);
            }
        }
    }

    /// When the next pass of a stage ends, if all that it waits for is known.
    fn next(&self, done: &[Vec<u64>], stage: u32) -> Option<u64> {
        let own = &done[stage as usize];
        let pass = *self.orders.stage(stage).get(own.len())?;
        let mut start = own.last().copied().unwrap_or(0);
        if let Some((s, needed)) = self.before(stage, pass) {
            let at = self.orders.position(s, needed) as usize;
            let sent = *done[s as usize].get(at)?;
            start = start.max(sent);
        }
        // The pass before may have had to hand over what it made.
        let last = own.len().checked_sub(1).filter(|_| self.blocking).map(|at| self.orders.stage(stage)[at]);
        if let Some((s, taken)) = last.and_then(|pass| self.after(stage, pass)) {
            let at = self.orders.position(s, taken) as usize;
            if at > 0 {
                start = start.max(*done[s as usize].get(at - 1)?);
            }
        }
        Some(start.saturating_add(self.times[pass.chunk as usize][pass.kind as usize]))
    }

    /// The pass on another stage that a pass needs.
    fn before(&self, stage: u32, pass: Pass) -> Option<(u32, Pass)> {
        let last = self.stages - 1;
        match pass.kind {
            PassKind::Forward if stage > 0 => Some((stage - 1, pass)),
            PassKind::Forward if pass.chunk > 0 => Some((last, Pass { chunk: pass.chunk - 1, ..pass })),
            PassKind::Backward if stage < last => Some((stage + 1, pass)),
            PassKind::Backward if pass.chunk + 1 < self.chunks => {
                Some((0, Pass { chunk: pass.chunk + 1, ..pass }))
            }
            _ => None,
        }
        .filter(|(s, _)| *s != stage)
    }

    /// The pass on another stage that needs this one.
    fn after(&self, stage: u32, pass: Pass) -> Option<(u32, Pass)> {
        let last = self.stages - 1;
        match pass.kind {
            PassKind::Forward if stage < last => Some((stage + 1, pass)),
            PassKind::Forward if pass.chunk + 1 < self.chunks => {
                Some((0, Pass { chunk: pass.chunk + 1, ..pass }))
            }
            PassKind::Backward if stage > 0 => Some((stage - 1, pass)),
            PassKind::Backward if pass.chunk > 0 => Some((last, Pass { chunk: pass.chunk - 1, ..pass })),
            _ => None,
        }
        .filter(|(s, _)| *s != stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Schedule;
    use crate::schedule::Shape;

    #[test]
    fn the_papers_bubbles() {
        let (f, b) = (10, 20);
        for (schedule, stages, chunks, micro_batches, blocking) in [
            (Schedule::OneFOneB, 1, 1, 4, true),
            (Schedule::OneFOneB, 4, 1, 8, false),
            (Schedule::OneFOneB, 4, 1, 8, true),
            (Schedule::OneFOneB, 5, 1, 2, true),
            (Schedule::GPipe, 4, 1, 8, false),
            (Schedule::Interleaved, 4, 2, 8, false),
            (Schedule::Interleaved, 3, 4, 9, false),
        ] {
            let shape = Shape { schedule, stages, chunks, micro_batches, in_flight: None };
            let orders = Orders::new(&shape);
            let times = vec![[f, b, 0]; chunks as usize];
            for stage in 0..stages {
                let want = u64::from(stages - 1) * (f + b);
                assert_eq!(idle(&orders, stages, stage, &times, blocking), want, "{shape:?} {stage}");
            }
        }
    }
}
