//! Templates of one kind for what is left of its devices.

use super::Tree;
use super::choice::{Band, Busy};
use crate::cost::setting::Sharers;
use crate::cost::zones::Cut;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Templates of one kind for what is left of its devices: the number of a template, and its choice.
pub(crate) struct Menu {
    options: Vec<(u32, usize)>,
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
}

impl Menu {
    pub(super) fn new(options: Vec<(u32, usize)>) -> Menu {
        let (most, busy, at_most) = Default::default();
        Menu { options, most, busy, at_most }
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
        let sharers = Sharers { own: 0, all: beside.pipelines, across: beside.across, apart: beside.apart };
        let mut most = 0;
        for (at_most, c, band) in list {
            if at_most <= most {
                break;
            }
            let each = tree.timed(frame, c, at_least(sharers, band.fewest)).capacity(time, need);
            most = most.max(u64::from(each) * u64::from(band.most));
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

/// With so many pipelines of the part, at least, instead of those that are counted; few cases, that bounds are known again.
pub(crate) fn at_least(sharers: Sharers, own: u32) -> Sharers {
    let all = own + (sharers.all - sharers.own);
    Sharers { own, all: rounded(all).max(own), ..sharers }
}

/// Of numbers of pipelines that hardly differ, the least: 0, 1, 2, 3, 4, 6, 8, 12, ...
fn rounded(pipelines: u32) -> u32 {
    let Some(size) = pipelines.checked_ilog2() else { return 0 };
    let (power, half) = (1 << size, (1 << size) / 2);
    if pipelines >= power + half { power + half } else { power }
}
