//! Contiguous cuts of the layers into the stages of a template: the least bound of all that fit, and those within a bound.

use super::{NEVER, Setting, TemplateCost};

/// Alike pipelines as their cuts see them.
#[derive(Clone, Debug)]
pub struct View {
    /// Micro-batches of each. At least 1.
    pub micro_batches: u32,
    /// What surrounds them.
    pub around: Setting,
}

/// A cut and its bound: borders between the stages, without 0 and the number of layers.
pub type Cut = (u64, Vec<u32>);

/// More cuts than were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl TemplateCost {
    /// The least over every contiguous partition that fits in memory of the largest bound of its stages in every view: no
    /// such plan is faster. `None` when none fits, or none is within `limit`. The first view has the most micro-batches.
    pub fn bound(&self, views: &[View], limit: u64) -> Option<u64> {
        let least = self.least(views, limit, |_, _, _| {});
        (least <= limit && least < NEVER).then_some(least)
    }

    /// The partition with that bound: borders of the stages, first 0, last the number of layers.
    pub fn partition(&self, views: &[View]) -> Option<Vec<usize>> {
        let mut from = vec![vec![0; self.layers + 1]; self.stages.len()];
        let least = self.least(views, NEVER, |s, end, first| from[s][end] = first);
        if least >= NEVER {
            return None;
        }
        let mut borders = vec![self.layers];
        for s in (0..self.stages.len()).rev() {
            borders.push(from[s][borders[borders.len() - 1]]);
        }
        borders.reverse();
        Some(borders)
    }

    #[allow(clippy::needless_range_loop, reason = "an index into several tables")]
    fn least(&self, views: &[View], limit: u64, mut chosen: impl FnMut(usize, usize, usize)) -> u64 {
        let (most, stages) = (views[0].micro_batches, self.stages.len());
        let n = u64::from(most);
        let mut best = vec![NEVER; self.layers + 1];
        best[0] = 0;
        for s in 0..stages {
            let (down, up) = views[0].around.sends(s);
            let mut next = vec![NEVER; self.layers + 1];
            // Layers left for the stages after: at least one each.
            for end in s + 1..=self.layers - (stages - 1 - s) {
                let mut least = NEVER.min(limit.saturating_add(1));
                for first in (s..end).rev() {
                    // Fewer layers never take longer: past the least there is nothing to find.
                    let own = n * self.stages[s].both(first, end) + (n - 1) * (down + up);
                    if own >= least || !self.fits(s, first, end, most) {
                        break;
                    }
                    if best[first] < least {
                        let value = best[first].max(self.in_views(s, first, end, views));
                        if value < least {
                            least = value;
                            next[end] = value;
                            chosen(s, end, first);
                        }
                    }
                }
            }
            best = next;
        }
        best[self.layers]
    }

    /// Every cut that fits and whose bound is at most `limit`, in the order of its borders.
    ///
    /// # Errors
    /// [`TooMany`] when there are more than `most`.
    #[allow(clippy::needless_range_loop, reason = "an index into several tables")]
    pub fn cuts(&self, views: &[View], limit: u64, most: usize) -> Result<Vec<Cut>, TooMany> {
        let (stages, n) = (self.stages.len(), views[0].micro_batches);
        // [s][first]: the stages from `s` on can hold the layers from `first` on within the limit; values by [s][first][end].
        let mut reaches = vec![vec![false; self.layers + 1]; stages + 1];
        reaches[stages][self.layers] = true;
        let mut ways: Vec<Vec<Vec<(u32, u64)>>> = vec![vec![Vec::new(); self.layers + 1]; stages];
        for s in (0..stages).rev() {
            for first in s..self.layers {
                for end in first + 1..=self.layers - (stages - 1 - s) {
                    if !self.fits(s, first, end, n) {
                        break;
                    }
                    if reaches[s + 1][end] {
                        let value = self.in_views(s, first, end, views);
                        if value <= limit {
                            ways[s][first].push((end as u32, value));
                        } else if self.stages[s].both(first, end).saturating_mul(u64::from(n)) > limit {
                            break;
                        }
                    }
                }
                reaches[s][first] = !ways[s][first].is_empty();
            }
        }
        let mut list = Vec::new();
        let mut path: Vec<(u32, u64)> = Vec::new();
        self.walk(&ways, 0, &mut path, most, &mut list)?;
        Ok(list)
    }

    /// The largest bound of layers of one stage.
    fn in_views(&self, s: usize, first: usize, end: usize, views: &[View]) -> u64 {
        let bound = |v: &View| self.stage_bound(s, first, end, v.micro_batches, &v.around);
        views.iter().map(bound).max().unwrap_or(0)
    }

    fn walk(
        &self,
        ways: &[Vec<Vec<(u32, u64)>>],
        first: u32,
        path: &mut Vec<(u32, u64)>,
        most: usize,
        list: &mut Vec<Cut>,
    ) -> Result<(), TooMany> {
        let s = path.len();
        if s == self.stages.len() {
            if list.len() >= most {
                return Err(TooMany);
            }
            let bound = path.iter().map(|(_, value)| *value).max().unwrap_or(0);
            list.push((bound, path[..s - 1].iter().map(|(end, _)| *end).collect()));
            return Ok(());
        }
        for way in &ways[s][first as usize] {
            path.push(*way);
            self.walk(ways, way.0, path, most, list)?;
            path.pop();
        }
        Ok(())
    }
}
