//! So many pipelines of a choice, before micro-batches are shared out: wherever they are, or on their devices.

use super::{Choice, Pace, Root, Timed, Tree};
use crate::cost::borders::Borders;
use crate::cost::rings::Rings;
use crate::cost::sending::{ANYWHERE, Sending};
use crate::cost::setting::{Gradients, Sharers};
use crate::cost::stand::{self, stand};
use crate::cost::{Beat, Setting, TemplateCost};
use crate::rules::Rule;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// See the head of this file.
pub(crate) struct Pipelines {
    pub(crate) pipelines: u32,
    pub(crate) cost: Arc<TemplateCost>,
    pub(crate) template: usize,
    beat: Beat,
    /// The most micro-batches of one of them that fit into memory.
    pub(crate) fit: u32,
    /// The least transfers that they have wherever they are.
    anywhere: Arc<Setting>,
    /// Those on their devices, where these are known.
    sending: Option<Arc<Sending>>,
    gradients: Gradients,
    /// One pipeline by which transfers it has, and which borders may be common to all parts.
    timed: Mutex<BTreeMap<(usize, Borders), Arc<Timed>>>,
}

impl Pipelines {
    fn new(
        choice: &Choice,
        pace: &Pace,
        (pipelines, need): (u32, u32),
        sending: Option<Arc<Sending>>,
        gradients: Gradients,
    ) -> Pipelines {
        let fit = choice.cost.most_that_fit(choice.most_that_fit(need), gradients.replicas);
        Pipelines {
            pipelines,
            cost: Arc::clone(&choice.cost),
            template: choice.template,
            beat: pace.beat,
            fit,
            anywhere: Arc::clone(&pace.alone),
            sending,
            gradients,
            timed: Mutex::default(),
        }
    }

    /// Which transfers they have when the first `more` run one micro-batch more than the others: those, then the others.
    fn ways(&self, rings: &Rings<'_>, more: u32) -> Vec<usize> {
        let anywhere = || vec![ANYWHERE; if more > 0 { 2 } else { 1 }];
        self.sending.as_ref().map_or_else(anywhere, |sending| sending.ways(rings, more))
    }

    fn timed(&self, way: usize, at: Borders) -> Arc<Timed> {
        let mut known = self.timed.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let on = self.sending.as_ref().filter(|_| way != ANYWHERE);
            let around = match on {
                Some(sending) => sending.transfers(way).sharing(&self.gradients),
                None => self.anywhere.sharing(&self.gradients),
            };
            Arc::new(Timed::new(&self.cost, self.beat, around.common_at(at), self.fit))
        };
        Arc::clone(known.entry((way, at)).or_insert_with(new))
    }

    /// Inner borders of the cuts with which they may run so many micro-batches within `time`.
    pub(crate) fn inner(&self, total: u32, time: u64) -> Borders {
        self.timed(ANYWHERE, Borders::ALL).inner(total.div_ceil(self.pipelines).max(1), time)
    }

    /// What an iteration is likely to take in which each of them runs so many micro-batches; `None` when no cut fits.
    pub(crate) fn likely(&self, micro_batches: u32) -> Option<u64> {
        self.timed(ANYWHERE, Borders::ALL).likely(micro_batches)
    }

    /// A lower bound of an iteration in which they run so many micro-batches, one each at least; `None` when no cut fits.
    pub(crate) fn time(&self, rings: &Rings<'_>, total: u32) -> Option<u64> {
        let (each, more) = (total / self.pipelines, total % self.pipelines);
        let ways = self.ways(rings, more);
        let first = self.timed(ways[0], Borders::ALL).time(each + u32::from(more > 0))?;
        match ways.get(1) {
            Some(way) if *way != ways[0] => Some(first.max(self.timed(*way, Borders::ALL).time(each)?)),
            _ => Some(first),
        }
    }

    /// The most micro-batches, up to `most` a pipeline, with which that is within `limit`; 0 where there are none. They are no fewer
    /// than those of [`Self::capacity`], which looks more closely.
    pub(crate) fn most_within(&self, rings: &Rings<'_>, limit: u64, most: u32) -> u32 {
        self.most_by(rings, self.pipelines, |way| self.timed(way, Borders::ALL).most_within(limit, most))
    }

    /// No fewer micro-batches, up to `most` a pipeline, than they can run within `time`; without dynamic programs.
    pub(crate) fn at_most(&self, time: u64, most: u32) -> u32 {
        let each = self.beat.at_most(self.cost.fills(), time).min(most.min(self.fit).into());
        (each as u32).saturating_mul(self.pipelines)
    }

    /// The most micro-batches, up to `most` a pipeline, that they can run within `limit`, one each at least; 0 where they are fewer
    /// than `least`.
    pub(crate) fn capacity(&self, rings: &Rings<'_>, limit: u64, (least, most): (u32, u32)) -> u32 {
        self.capacity_at(rings, self.pipelines, limit, (least, most), Borders::ALL)
    }

    /// The same of so many pipelines, where these stand for any number of them wherever they are, and where only the borders `at` may be
    /// common to all parts.
    pub(crate) fn capacity_at(
        &self,
        rings: &Rings<'_>,
        pipelines: u32,
        limit: u64,
        (least, most): (u32, u32),
        at: Borders,
    ) -> u32 {
        // Some run one more than others.
        let fewest = (least / pipelines).max(1);
        let capacity =
            self.most_by(rings, pipelines, |way| self.timed(way, at).capacity(limit, (fewest, most)));
        if capacity < least { 0 } else { capacity }
    }

    /// The most of so many pipelines where one with certain transfers runs `of_one`.
    fn most_by(&self, rings: &Rings<'_>, pipelines: u32, of_one: impl Fn(usize) -> u32) -> u32 {
        let mut known: BTreeMap<usize, u32> = BTreeMap::new();
        let mut each = |way: usize| *known.entry(way).or_insert_with(|| of_one(way));
        match &self.sending {
            Some(sending) => sending.most(rings, each),
            None => each(ANYWHERE).saturating_mul(pipelines),
        }
    }
}

impl Tree<'_> {
    /// What the pipelines of a choice can do at best when they share gradients so.
    pub(crate) fn pipelines(&self, frame: usize, c: usize, sharers: Sharers) -> Arc<Pipelines> {
        let choice = &self.choices[c];
        let mut known = choice.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let of = self.frames[frame];
            let part = self.parts_of(&[c], &[sharers.own])[0];
            let pace = choice.pace(sharers.own);
            let how = (of.micro_batch, of.place);
            let sending = if sharers.first { stand::first(&self.rings, how, &part) } else { None };
            let gradients = Gradients::at_best(&self.rings, &choice.cost, part.template, of.place, &sharers);
            let counts = (sharers.own, self.micro_batches(frame));
            Arc::new(Pipelines::new(choice, pace, counts, sending, gradients))
        };
        Arc::clone(known.entry(sharers).or_insert_with(new))
    }

    /// What the parts of a combination can do at best beside each other, with so many pipelines each.
    pub(crate) fn beside_each_other(
        &self,
        root: &Root,
        parts: &[usize],
        counts: &[u32],
    ) -> Vec<Arc<Pipelines>> {
        let sharers = self.sharers(root, parts, counts, root.menus.len());
        parts.iter().zip(sharers).map(|(c, s)| self.pipelines(root.frame, *c, s)).collect()
    }

    /// The parts of a combination on their devices, with so many pipelines each.
    ///
    /// # Errors
    /// The rule that throws them out.
    pub(crate) fn on_devices(
        &self,
        root: &Root,
        parts: &[usize],
        counts: &[u32],
    ) -> Result<Vec<Arc<Pipelines>>, Rule> {
        let frame = &self.frames[root.frame];
        let standing = stand(&self.rings, (frame.micro_batch, frame.place), &self.parts_of(parts, counts))?;
        let need = self.micro_batches(root.frame);
        let of = |(c, s): (&usize, stand::Standing<'_>)| {
            let choice = &self.choices[*c];
            let (pace, counts) = (choice.pace(s.of.pipelines), (s.of.pipelines, need));
            Arc::new(Pipelines::new(choice, pace, counts, Some(s.sending), s.gradients))
        };
        Ok(parts.iter().zip(standing).map(of).collect())
    }
}
