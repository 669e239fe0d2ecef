//! Templates of one kind for what is left of its devices.

use super::Tree;
use super::choice::{Band, Busy};
use crate::cost::borders::Borders;
use crate::cost::rounded;
use crate::cost::setting::Sharers;
use crate::cost::zones::Cut;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Templates of one kind for what is left of its devices: the number of a template, and its choice.
pub(crate) struct Menu {
    /// Which one it is of the tree.
    pub(super) number: usize,
    options: Vec<(u32, usize)>,
    /// The most devices of one replica of a stage.
    pub(super) widest: u32,
    /// The most micro-batches that any of them runs, by the time and what they are beside.
    most: Mutex<BTreeMap<(u64, Beside), u64>>,
    /// See [`Menu::busy`].
    busy: OnceLock<Busy>,
    /// See [`Menu::at_most`].
    at_most: Mutex<BTreeMap<(u64, Option<u64>), u64>>,
}

/// The parts that are decided, as a menu sees them: their pipelines, at least, and the bit of its kind if one of them has none
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Beside {
    pub(super) pipelines: u32,
    pub(super) apart: u64,
    /// What their rings go over, if one of them lies wholly in other zones.
    pub(super) across: Option<Cut>,
    /// Whether it has the first devices of its kind.
    pub(super) first: bool,
    /// The fewest borders that one of them has.
    pub(super) borders: Option<usize>,
}

impl Menu {
    pub(super) fn new(number: usize, options: Vec<(u32, usize)>, widest: u32) -> Menu {
        let (most, busy, at_most) = Default::default();
        Menu { number, options, widest, most, busy, at_most }
    }

    /// What any of them runs at most when all its pipelines are busy.
    pub(crate) fn busy(&self, tree: &Tree<'_>) -> Busy {
        let of = |(_, c): &(u32, usize)| tree.choices[*c].busy();
        *self.busy.get_or_init(|| self.options.iter().map(of).fold(Busy::default(), Busy::most))
    }

    /// No fewer micro-batches, each pipeline up to `need`, than those of any of them run within `time` by themselves, if some stage
    /// of each is done `before`.
    pub(crate) fn at_most(&self, tree: &Tree<'_>, time: u64, before: Option<u64>, need: u32) -> u64 {
        let key = (time, before);
        if let Some(most) = self.at_most.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *most;
        }
        let of = |(_, c): &(u32, usize)| tree.choices[*c].at_most(time, before, need);
        let most = self.options.iter().map(of).max().unwrap_or(0);
        self.at_most.lock().unwrap_or_else(PoisonError::into_inner).insert(key, most);
        most
    }

    /// No fewer micro-batches, each pipeline up to `need`, than any number of pipelines of any of these runs within `time`.
    pub(crate) fn most(&self, tree: &Tree<'_>, frame: usize, beside: Beside, time: u64, need: u32) -> u64 {
        let key = (time, beside);
        if let Some(most) = self.most.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *most;
        }
        // Those that seem to run most first: the others are hardly looked at.
        let mut list: Vec<(u64, usize, &Band)> = Vec::new();
        for (_, c) in &self.options {
            let choice = &tree.choices[*c];
            list.extend(choice.bands.iter().map(|b| (choice.band_at_most(b, time, need), *c, b)));
        }
        list.sort_by_key(|(at_most, ..)| std::cmp::Reverse(*at_most));
        let Beside { pipelines: all, apart, across, first, borders } = beside;
        let mut most = 0;
        for (at_most, c, band) in list {
            if at_most <= most {
                break;
            }
            let common = borders.filter(|b| b + 1 < tree.choices[c].cost.stages.len());
            let sharers = Sharers { own: 0, all, across, ends: [None; 2], apart, first, common };
            let pipelines = tree.pipelines(frame, c, of_band(sharers, band));
            let least = u32::try_from(most).unwrap_or(u32::MAX).saturating_add(1);
            most = most
                .max(pipelines.capacity_at(&tree.rings, band.most, time, (least, need), Borders::ALL).into());
        }
        self.most.lock().unwrap_or_else(PoisonError::into_inner).insert(key, most);
        most
    }
}

impl std::ops::Deref for Menu {
    type Target = [(u32, usize)];

    fn deref(&self) -> &Self::Target {
        &self.options
    }
}

/// With the numbers of pipelines of a band instead of those that are counted; few cases, that bounds are known again.
pub(crate) fn of_band(sharers: Sharers, band: &Band) -> Sharers {
    let all = band.fewest + (sharers.all - sharers.own);
    let first = sharers.first && band.fewest == band.most;
    Sharers { own: band.fewest, all: rounded(all).max(band.fewest), first, ..sharers }
}
