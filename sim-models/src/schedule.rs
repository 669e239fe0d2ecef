//! The order in which a stage runs its passes: a position gives a pass, so nothing is stored.
//!
//! 1F1B is PipeDream-flush (arXiv 2104.04473, figure 4): `stages - 1 - stage` forward passes of warm-up, then one forward
//! and one backward in turn, then the backward passes left. GPipe (arXiv 1811.06965) runs all forward passes, then all
//! backward passes.

use crate::plan::Schedule;

/// One pass of one micro-batch on one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Forward pass of that micro-batch.
    Forward(u32),
    /// Backward pass of that micro-batch.
    Backward(u32),
}

impl Schedule {
    /// Pass number `at` (0 .. 2 x `micro_batches`) of stage `stage` of `stages`: each micro-batch forward once and
    /// backward once, backward after forward.
    pub fn pass(self, at: u32, stage: u32, stages: u32, micro_batches: u32) -> Pass {
        let warm_up = self.warm_up(stage, stages, micro_batches);
        // Backward pass `i` comes right after forward pass `i + warm_up`, or at the end when there is none.
        if at < warm_up {
            return Pass::Forward(at);
        }
        let (round, second) = ((at - warm_up) / 2, (at - warm_up) % 2 == 1);
        if round + warm_up < micro_batches {
            if second { Pass::Backward(round) } else { Pass::Forward(round + warm_up) }
        } else {
            Pass::Backward(at - micro_batches)
        }
    }

    /// Where a pass comes in its stage's order: the inverse of [`Schedule::pass`].
    pub fn position(self, pass: Pass, stage: u32, stages: u32, micro_batches: u32) -> u32 {
        let warm_up = self.warm_up(stage, stages, micro_batches);
        match pass {
            Pass::Forward(i) if i < warm_up => i,
            Pass::Forward(i) => warm_up + 2 * (i - warm_up),
            Pass::Backward(i) if i + warm_up < micro_batches => warm_up + 2 * i + 1,
            Pass::Backward(i) => micro_batches + i,
        }
    }

    /// Forward passes before the first backward pass, less the one it follows in turn.
    fn warm_up(self, stage: u32, stages: u32, micro_batches: u32) -> u32 {
        match self {
            Schedule::OneFOneB => (stages - 1 - stage).min(micro_batches),
            Schedule::GPipe => micro_batches,
        }
    }

    /// Micro-batches whose activations stage `stage` holds at most at once.
    pub fn in_flight(self, stage: u32, stages: u32, micro_batches: u32) -> u32 {
        match self {
            Schedule::OneFOneB => (stages - stage).min(micro_batches),
            Schedule::GPipe => micro_batches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_those_of_the_papers() {
        let text = |schedule: Schedule, stage, stages, n| -> String {
            (0..2 * n)
                .map(|at| match schedule.pass(at, stage, stages, n) {
                    Pass::Forward(i) => format!("F{i} "),
                    Pass::Backward(i) => format!("B{i} "),
                })
                .collect()
        };
        for (schedule, stage, stages, n, want) in [
            (Schedule::OneFOneB, 3, 4, 3, "F0 B0 F1 B1 F2 B2 "),
            (Schedule::OneFOneB, 0, 4, 6, "F0 F1 F2 F3 B0 F4 B1 F5 B2 B3 B4 B5 "),
            (Schedule::OneFOneB, 0, 4, 2, "F0 F1 B0 B1 "),
            (Schedule::GPipe, 1, 4, 3, "F0 F1 F2 B0 B1 B2 "),
        ] {
            assert_eq!(text(schedule, stage, stages, n), want);
        }
    }

    #[test]
    fn in_flight_is_what_the_order_holds() {
        for schedule in [Schedule::OneFOneB, Schedule::GPipe] {
            for stages in 1..6 {
                for (stage, n) in (0..stages).flat_map(|s| (1..9).map(move |n| (s, n))) {
                    let (mut held, mut most) = (0, 0);
                    for at in 0..2 * n {
                        let pass = schedule.pass(at, stage, stages, n);
                        assert_eq!(schedule.position(pass, stage, stages, n), at);
                        match pass {
                            Pass::Forward(_) => held += 1,
                            Pass::Backward(_) => held -= 1,
                        }
                        most = most.max(held);
                    }
                    assert_eq!(
                        (held, most),
                        (0, schedule.in_flight(stage, stages, n)),
                        "{schedule} {stage}/{stages} {n}"
                    );
                }
            }
        }
    }
}
