//! Where the time of every rank went in a run: computing, waiting inside layers, in transfers, in synchronisations.

use crate::fold::Folding;
use crate::iteration::{Simulator, Span};
use crate::layout::Layout;
use crate::plan::{Plan, Schedule};
use sim_core::{SimTime, TaskId};
use std::collections::BTreeMap;

/// Where the time of a rank went, in picoseconds. What is left of the iteration it was idle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RankTime {
    /// In passes and the optimizer step, `inside` included.
    pub(crate) busy: u64,
    /// Of it, waiting inside layers.
    pub(crate) inside: u64,
    /// In a transfer between stages, and neither busy nor synchronising.
    pub(crate) passed: u64,
    /// In a synchronisation, and not busy.
    pub(crate) synced: u64,
}

impl Simulator<'_> {
    /// Where the time of each simulated rank of a job went in the last run, by index into [`Layout::ranks`].
    pub(crate) fn rank_times(&self, job: usize, plan: &Plan, layout: &Layout) -> Vec<RankTime> {
        let ranks = layout.ranks.len();
        let mut times = vec![RankTime::default(); ranks];
        // Intervals of computing, of transfers between stages, and of synchronisation, by rank.
        let mut computing: Vec<Vec<(u64, u64)>> = vec![Vec::new(); ranks];
        let (mut passing, mut syncing) = (computing.clone(), computing.clone());
        self.spans_of(job, layout, |span, start, end| {
            let interval = (start.as_ps(), end.as_ps());
            match span {
                Span::Forward { rank, .. }
                | Span::Backward { rank, .. }
                | Span::Weight { rank, .. }
                | Span::Update { rank } => {
                    times[rank].busy += interval.1 - interval.0;
                    computing[rank].push(interval);
                }
                Span::Transfer { from, to, .. } => {
                    passing[from].push(interval);
                    passing[to].push(interval);
                }
                Span::Sync { rank, .. } => syncing[rank].push(interval),
                Span::Exchange { .. } => {}
            }
        });
        let late = self.late(job, plan, layout);
        for (r, time) in times.iter_mut().enumerate() {
            let rank = &layout.ranks[r];
            let micro_batches = layout.pipelines[rank.pipeline].micro_batches;
            let inside = rank.wait().as_ps().saturating_mul(micro_batches.into());
            time.inside = inside.saturating_add_signed(late[r]).min(time.busy);
            time.synced = uncovered(&mut syncing[r], &mut computing[r]);
            computing[r].append(&mut syncing[r]);
            time.passed = uncovered(&mut passing[r], &mut computing[r]);
        }
        times
    }

    /// How much of the computing of the last run, all devices together, was done by `at`: 0 to 1. `folding` is the run's.
    pub fn computed_by(&self, layout: &Layout, folding: &Folding, at: SimTime) -> f64 {
        let (mut done, mut all) = (0u128, 0u128);
        let counts: BTreeMap<usize, u32> = folding.classes.iter().map(|c| (c.pipeline, c.count)).collect();
        self.spans(layout, |span, start, end| {
            let (Span::Forward { rank, .. }
            | Span::Backward { rank, .. }
            | Span::Weight { rank, .. }
            | Span::Update { rank }) = span
            else {
                return;
            };
            let rank = &layout.ranks[rank];
            let devices =
                rank.devices.len() as u128 * u128::from(counts.get(&rank.pipeline).copied().unwrap_or(1));
            done += devices * u128::from(at.min(end).saturating_since(start).as_ps());
            all += devices * u128::from(end.saturating_since(start).as_ps());
        });
        if all == 0 { 0.0 } else { done as f64 / all as f64 }
    }

    /// How much longer the passes of each simulated rank waited for bytes from other nodes than on idle links, ps.
    fn late(&self, job: usize, plan: &Plan, layout: &Layout) -> Vec<i64> {
        let split_weights = plan.schedule == Schedule::ZeroBubble;
        let map = &self.lowering.maps[job];
        let mut late = vec![0i64; layout.ranks.len()];
        for (i, tasks) in map.passes.iter().enumerate() {
            let exchanges = tasks.split.exchanges.len() as u32;
            if exchanges == 0 {
                continue;
            }
            let rank = &layout.ranks[tasks.rank];
            let chunks = rank.layers.chunks();
            for (at, pass) in tasks.orders.stage(rank.stage).iter().enumerate() {
                for (first, last) in map.parts(i, at) {
                    let sent = self.executor.finish_of(TaskId(first.0 + exchanges));
                    let end = if tasks.split.beside { TaskId(last.0 - 1) } else { first };
                    let waited = sent.saturating_since(self.executor.finish_of(end)).as_ps();
                    late[tasks.rank] = late[tasks.rank].saturating_add_unsigned(waited);
                }
                let felt = rank.pass_sent(pass.kind, chunks[pass.chunk as usize], split_weights).felt.as_ps();
                late[tasks.rank] = late[tasks.rank].saturating_sub_unsigned(felt);
            }
        }
        late
    }
}

/// How much of the union of `a` lies outside the union of `b`. Both are sorted on the way.
fn uncovered(a: &mut [(u64, u64)], b: &mut [(u64, u64)]) -> u64 {
    a.sort_unstable();
    b.sort_unstable();
    let (mut total, mut from, mut i) = (0, 0, 0);
    for &(start, end) in a.iter() {
        let mut at = start.max(from);
        while at < end {
            while i < b.len() && b[i].1 <= at {
                i += 1;
            }
            match b.get(i) {
                Some(&(s, e)) if s <= at => at = e,
                Some(&(s, _)) if s < end => {
                    total += s - at;
                    at = s;
                }
                _ => {
                    total += end - at;
                    at = end;
                }
            }
        }
        from = from.max(end.max(at));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::uncovered;

    #[test]
    fn uncovered_time() {
        for (a, b, want) in [
            (vec![(0, 10)], vec![], 10),
            (vec![(0, 10)], vec![(2, 5)], 7),
            (vec![(0, 10), (5, 12)], vec![(2, 5), (11, 20)], 8),
            (vec![(0, 4), (1, 2)], vec![(0, 9)], 0),
            (vec![(3, 4), (0, 1)], vec![(1, 3)], 2),
            (vec![(0, 10), (0, 10)], vec![(4, 5)], 9),
        ] {
            assert_eq!(uncovered(&mut a.clone(), &mut b.clone()), want, "{a:?} {b:?}");
        }
    }
}
