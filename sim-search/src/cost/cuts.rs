//! Contiguous cuts of the layers into the stages of a template: the least bound of all that fit, and those within a bound.

use super::within::{Before, Line, Within};
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

/// Beyond this no time is looked into: sums of such times are still numbers; 80 hours.
const FAR: u64 = NEVER / 16;

impl TemplateCost {
    /// No plan whose pipelines are cut alike, in any way that fits, is faster: the largest of the views. `None` when no cut
    /// fits, or none is within `limit`.
    pub fn bound(&self, views: &[View], limit: u64) -> Option<u64> {
        let mut bound = 0;
        for view in views {
            let line = Line { cost: self, view };
            let least = if limit < FAR {
                Within::new(line, limit).least()
            } else {
                self.unlimited(line)?.least().min(FAR)
            };
            if least > limit || least >= NEVER {
                return None;
            }
            bound = bound.max(least);
        }
        Some(bound)
    }

    /// No fewer micro-batches, up to `most`, than one pipeline in these surroundings can run within `time`.
    pub fn most_within(&self, around: &Setting, time: u64, most: u32) -> u32 {
        let can = |micro_batches| {
            let view = View { micro_batches, around: around.clone() };
            self.bound(std::slice::from_ref(&view), time).is_some()
        };
        let (mut low, mut high) = (0, most + 1);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if can(middle) { low = middle } else { high = middle }
        }
        low
    }

    /// The partition with the least bound of the first view, that has the most micro-batches: borders of the stages, first 0,
    /// last the number of layers.
    pub fn partition(&self, views: &[View]) -> Option<Vec<usize>> {
        let tables = self.unlimited(Line { cost: self, view: &views[0] })?;
        (tables.least() < NEVER).then(|| tables.borders())
    }

    /// The same of one view, without a limit.
    pub fn time(&self, view: &View) -> Option<u64> {
        Some(self.unlimited(Line { cost: self, view })?.least().min(FAR))
    }

    /// The tables in a window that holds the best cut; `None` when none fits.
    fn unlimited<'c>(&'c self, line: Line<'c>) -> Option<Within<'c>> {
        let n = u64::from(line.view.micro_batches);
        let first = n.saturating_mul(self.pace().saturating_add(line.view.around.slack() / 2));
        let mut window = first.saturating_add(first / 7).min(FAR);
        loop {
            let tables = Within::new(line, window);
            match tables.least() {
                // No cut outside of the window takes less.
                least if least <= window || (window >= FAR && least < NEVER) => return Some(tables),
                least if least < FAR => window = least,
                _ if window < FAR => window = window.saturating_add(window / 2).min(FAR),
                // It fits, but takes for ever.
                _ => {
                    return (self.least_excess(line.view.micro_batches, line.view.around.replicas()) <= 0)
                        .then_some(tables);
                }
            }
        }
    }

    /// Every cut that fits and whose bound is at most `limit`, in the order of its borders.
    ///
    /// # Errors
    /// [`TooMany`] when there are more than `most`.
    pub fn cuts(&self, views: &[View], limit: u64, most: usize) -> Result<Vec<Cut>, TooMany> {
        let lines = views.iter().map(|view| Line { cost: self, view });
        let tables: Vec<Within<'_>> = lines.map(|line| Within::new(line, limit.min(FAR))).collect();
        let mut walk = Walk { cost: self, views, tables: &tables, limit, most, list: Vec::new() };
        if tables.iter().all(|t| t.least() <= limit && t.least() < NEVER) {
            walk.from(&mut vec![0], &vec![Before::START; views.len()])?;
        }
        Ok(walk.list)
    }
}

/// Lists cuts within a limit.
struct Walk<'w> {
    cost: &'w TemplateCost,
    views: &'w [View],
    tables: &'w [Within<'w>],
    limit: u64,
    most: usize,
    list: Vec<Cut>,
}

impl Walk<'_> {
    fn from(&mut self, borders: &mut Vec<usize>, before: &[Before]) -> Result<(), TooMany> {
        let (s, first) = (borders.len() - 1, borders[borders.len() - 1]);
        if s == self.cost.stages.len() {
            let of = |view| Line { cost: self.cost, view }.of_cut(borders).1;
            let bound = self.views.iter().map(of).max().unwrap_or(0);
            if bound <= self.limit {
                if self.list.len() >= self.most {
                    return Err(TooMany);
                }
                self.list.push((bound, borders[1..s].iter().map(|b| *b as u32).collect()));
            }
            return Ok(());
        }
        let ways: Vec<Vec<(usize, Before)>> =
            self.tables.iter().zip(before).map(|(t, b)| t.ways(s, first, *b, self.limit)).collect();
        for (end, next) in &ways[0] {
            // In every view.
            let mut all = vec![*next];
            for others in &ways[1..] {
                all.extend(others.iter().find(|(e, _)| e == end).map(|(_, b)| *b));
            }
            if all.len() == self.views.len() {
                borders.push(*end);
                let done = self.from(borders, &all);
                borders.pop();
                done?;
            }
        }
        Ok(())
    }
}
