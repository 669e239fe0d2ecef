//! Zones, and what can go between two sets of them: every ring with ranks in both goes over the links that lead out of either.

use crate::space::{Kind, Template};
use sim_models::scenario::Scenario;
use std::collections::BTreeMap;

/// A set of zones, a bit each.
pub type ZoneSet = u64;

/// What rings with ranks on both sides of a cut through the zones go over, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// All its links together at most, bytes/s.
    pub rate: u64,
    /// Of the nearest of them, ps.
    pub latency: u64,
}

impl Cut {
    /// What holds of either.
    pub fn loosest(self, other: Cut) -> Cut {
        Cut { rate: self.rate.max(other.rate), latency: self.latency.min(other.latency) }
    }
}

/// The zones of a scenario. Of more than 64 nothing is known.
#[derive(Debug)]
pub struct Zones {
    of_kind: Vec<ZoneSet>,
    /// The number of each node group's.
    of_group: Vec<u32>,
    /// The two ends of a link, its highest rate in bytes/s, and its latency in ps.
    links: Vec<(ZoneSet, u64, u64)>,
    count: usize,
}

impl Zones {
    /// Of these kinds.
    pub fn new(scenario: &Scenario, kinds: &[Kind]) -> Zones {
        let mut names: BTreeMap<&str, u32> = BTreeMap::new();
        for group in &scenario.groups {
            let next = names.len() as u32;
            names.entry(&group.zone).or_insert(next);
        }
        let bit = |name: &str| names.get(name).map_or(0, |at| 1u64.checked_shl(*at).unwrap_or(0));
        let of = |kind: &Kind| match names.len() {
            0..=64 => kind.groups.iter().fold(0, |set, g| set | bit(&scenario.groups[*g].zone)),
            _ => ZoneSet::MAX,
        };
        let links = scenario.zone_links.iter().map(|link| {
            let rate = link.capacity.highest().as_bytes_per_s() as u64;
            (bit(&link.zones.0) | bit(&link.zones.1), rate.saturating_add(1), link.latency.as_ps())
        });
        let of_group = scenario.groups.iter().map(|g| names[g.zone.as_str()]).collect();
        Zones {
            of_kind: kinds.iter().map(of).collect(),
            of_group,
            links: links.collect(),
            count: names.len(),
        }
    }

    /// Whether there are several.
    pub fn several(&self) -> bool {
        self.count > 1
    }

    /// Whether there are two, with one link between them.
    pub fn two(&self) -> bool {
        self.count == 2 && self.links.len() == 1
    }

    /// The number of a node group's.
    pub fn of_group(&self, group: u32) -> u32 {
        self.of_group[group as usize]
    }

    /// Those of a kind.
    pub fn of_kind(&self, kind: usize) -> ZoneSet {
        self.of_kind[kind]
    }

    /// Those that stages of a template may be in.
    pub fn of(&self, template: &Template) -> ZoneSet {
        template.stages.iter().fold(0, |set, s| set | self.of_kind[s.kind as usize])
    }

    /// What a ring with ranks in both goes over, if they have no zone in common: out of the one and out of the other, whichever
    /// is narrower.
    pub fn between(&self, a: ZoneSet, b: ZoneSet) -> Option<Cut> {
        if a & b > 0 || a == 0 || b == 0 {
            return None;
        }
        let out = |set: ZoneSet| {
            let cuts = self.links.iter().filter(|(ends, ..)| ends & set > 0 && ends & !set > 0);
            cuts.fold(None, |sum: Option<Cut>, &(_, rate, latency)| {
                let sum = sum.unwrap_or(Cut { rate: 0, latency });
                Some(Cut { rate: sum.rate.saturating_add(rate), latency: sum.latency.min(latency) })
            })
        };
        [out(a), out(b)].into_iter().flatten().min_by_key(|cut| cut.rate)
    }
}

/// Rate in bytes/s and latency in s.
impl From<Cut> for (f64, f64) {
    fn from(cut: Cut) -> (f64, f64) {
        (cut.rate as f64, cut.latency as f64 / 1e12)
    }
}
