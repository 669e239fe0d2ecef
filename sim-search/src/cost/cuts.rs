//! Contiguous cuts of the layers into the stages of a template: the least bound of all that fit, and those within a bound.

use super::borders::Borders;
use super::line::{Before, Line};
use super::turns::InTurn;
use super::within::Within;
use super::{NEVER, Setting, TemplateCost};
use std::ops::Range;

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

/// What is known of some cuts.
#[derive(Clone, Debug)]
pub struct Inner {
    /// Their inner borders.
    pub at: Borders,
    /// The layers that each stage may hold.
    pub holds: Vec<Range<usize>>,
}

/// More cuts than were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Beyond this no time is looked into: sums of such times are still numbers; 80 hours.
const FAR: u64 = NEVER / 16;

impl View {
    pub(super) fn line<'c>(&'c self, cost: &'c TemplateCost, others: Option<&'c InTurn<'c>>) -> Line<'c> {
        Line { cost, micro_batches: self.micro_batches, around: &self.around, others }
    }
}

impl TemplateCost {
    /// No plan whose pipelines are cut alike, in any way that fits, is faster: the largest of the views; and what is known of the cuts
    /// within `limit`, nothing where that is far or it is not `wanted`. `None` when no cut fits, or none is within `limit`.
    pub fn within(&self, views: &[View], limit: u64, wanted: bool) -> Option<(u64, Inner)> {
        let mut bound = 0;
        let mut inner = Inner { at: Borders::ALL, holds: vec![0..self.layers; self.stages.len()] };
        for view in views {
            let line = view.line(self, None);
            let tables = if limit < FAR {
                Within::new(line, limit)
            } else {
                self.unlimited(line, &self.even_cut(line.around, line.micro_batches)?)
            };
            let least = tables.least().min(if limit < FAR { NEVER } else { FAR });
            if least > limit || least >= NEVER {
                return None;
            }
            bound = bound.max(least);
            if wanted && limit < FAR {
                inner.at = inner.at.and(tables.inner());
                for (holds, also) in inner.holds.iter_mut().zip(tables.holds()) {
                    *holds = holds.start.max(also.start)..holds.end.min(also.end);
                }
            }
        }
        Some((bound, inner))
    }

    /// Pipelines in these surroundings, each with so many micro-batches, whatever the cuts of others are.
    fn line<'c>(&'c self, around: &'c Setting, micro_batches: u32) -> Line<'c> {
        Line { cost: self, micro_batches, around, others: None }
    }

    /// Inner borders of the cuts with which one pipeline in these surroundings may run so many micro-batches within `time`.
    pub fn inner(&self, around: &Setting, micro_batches: u32, time: u64) -> Borders {
        if time >= FAR {
            return Borders::ALL;
        }
        let tables = Within::new(self.line(around, micro_batches), time);
        if tables.least() < NEVER { tables.inner() } else { Borders::NONE }
    }

    /// No fewer micro-batches, up to `most`, than one pipeline in these surroundings can run within `time`.
    pub fn most_within(&self, around: &Setting, time: u64, most: u32) -> u32 {
        let (mut low, mut high) = (0, most + 1);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if self.can(around, middle, time) { low = middle } else { high = middle }
        }
        low
    }

    /// Whether one pipeline in these surroundings may run so many micro-batches within `time`.
    pub(crate) fn can(&self, around: &Setting, micro_batches: u32, time: u64) -> bool {
        let least = Within::new(self.line(around, micro_batches), time.min(FAR)).least();
        least <= time && least < NEVER
    }

    /// The partition with the least bound of the first view, that has the most micro-batches: borders of the stages, first 0,
    /// last the number of layers.
    pub fn partition(&self, views: &[View]) -> Option<Vec<usize>> {
        let line = views[0].line(self, None);
        let tables = self.unlimited(line, &self.even_cut(line.around, line.micro_batches)?);
        (tables.least() < NEVER).then(|| tables.borders())
    }

    /// No plan with such a pipeline is faster; `even`: some cut of it that fits, the better the nearer.
    pub(crate) fn time(&self, around: &Setting, micro_batches: u32, even: &[usize]) -> u64 {
        self.unlimited(self.line(around, micro_batches), even).least().min(FAR)
    }

    /// The bound of that cut alone.
    pub(crate) fn time_of(&self, around: &Setting, micro_batches: u32, even: &[usize]) -> u64 {
        self.line(around, micro_batches).window(even)
    }

    /// The cut that fits whose slowest stage is fastest; `None` when none fits.
    pub(crate) fn even_cut(&self, around: &Setting, micro_batches: u32) -> Option<Vec<usize>> {
        let in_flight = |s: usize| self.in_flight(s, micro_batches);
        self.balanced(around, |s| self.stages[s].fitting(in_flight(s), around.replicas()))
    }

    /// The tables in a window that holds the best cut and this one.
    fn unlimited<'c>(&'c self, line: Line<'c>, even: &[usize]) -> Within<'c> {
        // A cut outside of the window takes longer than it, and thus than this one.
        Within::new(line, line.window(even))
    }

    /// Every cut that fits and whose bound is at most `limit`, in the order of its borders; `others`: parts whose cuts are known, if
    /// any.
    ///
    /// # Errors
    /// [`TooMany`] when there are more than `most`.
    pub fn cuts(
        &self,
        views: &[View],
        others: Option<&InTurn<'_>>,
        limit: u64,
        most: usize,
    ) -> Result<Vec<Cut>, TooMany> {
        let lines: Vec<Line<'_>> = views.iter().map(|view| view.line(self, others)).collect();
        let tables: Vec<Within<'_>> = lines.iter().map(|line| Within::new(*line, limit.min(FAR))).collect();
        let mut walk = Walk { lines: &lines, tables: &tables, limit, most, list: Vec::new() };
        if tables.iter().all(|t| t.least() <= limit && t.least() < NEVER) {
            walk.from(&mut vec![0], &vec![Before::START; views.len()])?;
        }
        Ok(walk.list)
    }
}

impl Line<'_> {
    /// The bound of a cut, or [`FAR`] where it takes for ever.
    fn window(&self, borders: &[usize]) -> u64 {
        let all_steps =
            u64::from(self.micro_batches).saturating_mul(self.cost.longest_step(borders, self.around));
        if all_steps < FAR { self.end_of_cut(borders).min(FAR) } else { FAR }
    }
}

/// Lists cuts within a limit.
struct Walk<'w> {
    lines: &'w [Line<'w>],
    tables: &'w [Within<'w>],
    limit: u64,
    most: usize,
    list: Vec<Cut>,
}

impl Walk<'_> {
    fn from(&mut self, borders: &mut Vec<usize>, before: &[Before]) -> Result<(), TooMany> {
        let (s, first) = (borders.len() - 1, borders[borders.len() - 1]);
        if s == self.lines[0].cost.stages.len() {
            let bound = self.lines.iter().map(|line| line.end_of_cut(borders)).max().unwrap_or(0);
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
            if all.len() == self.lines.len() {
                borders.push(*end);
                let done = self.from(borders, &all);
                borders.pop();
                done?;
            }
        }
        Ok(())
    }
}
