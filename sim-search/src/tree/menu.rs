//! Templates of one kind for what is left of its devices.

use super::Tree;
use super::choice::Band;
use crate::cost::higher;
use crate::cost::setting::Sharers;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Templates of one kind for what is left of its devices: the number of a template, and its choice.
pub(crate) struct Menu {
    options: Vec<(u32, usize)>,
    /// The most micro-batches that any of them runs, by the time and what they are beside.
    most: Mutex<BTreeMap<(u64, Beside), u64>>,
    /// See [`Menu::busy`].
    busy: OnceLock<(f64, f64)>,
}

/// The parts that are decided, as a menu sees them: their pipelines, at least, and the bit of its kind if one of them has none
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Beside {
    pub(super) pipelines: u32,
    pub(super) apart: u64,
}

impl Menu {
    pub(super) fn new(options: Vec<(u32, usize)>) -> Menu {
        Menu { options, most: Mutex::default(), busy: OnceLock::new() }
    }

    /// Pipelines a ps of any of them at most, and what they run more than that in any time.
    pub(crate) fn busy(&self, tree: &Tree<'_>) -> (f64, f64) {
        let best = |(a, b): (f64, f64), (_, c): &(u32, usize)| {
            let (more, sooner) = tree.choices[*c].busy();
            (higher(a, more), higher(b, sooner))
        };
        *self.busy.get_or_init(|| self.options.iter().fold((0.0, 0.0), best))
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
        let sharers = Sharers { own: 0, all: beside.pipelines, across: false, apart: beside.apart };
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
