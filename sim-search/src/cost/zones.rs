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

/// Where something has ranks.
#[derive(Clone, Copy, Debug)]
pub struct Where {
    /// In each of these zones.
    pub each: ZoneSet,
    /// In some of these, and nowhere else.
    pub any: ZoneSet,
}

/// Neighbouring stages of a part whose rings all go out of some zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crossing {
    /// Stages `first .. end`.
    pub first: usize,
    /// The one past the last.
    pub end: usize,
    /// What they go over.
    pub cut: Cut,
    /// Out of these zones.
    pub inside: ZoneSet,
}

impl Crossing {
    /// Whether the rings of stage `s` do.
    pub fn has(&self, s: usize) -> bool {
        (self.first..self.end).contains(&s)
    }
}

/// So many zones are few.
const FEW: usize = 5;

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

    /// The set of a node group's; no set of more zones than there are bits for.
    pub fn set_of_group(&self, group: u32) -> ZoneSet {
        if self.count > 64 { ZoneSet::MAX } else { 1 << self.of_group(group) }
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
        let out = |set: ZoneSet| self.out(set, !set);
        [out(a), out(b)].into_iter().flatten().min_by_key(|cut| cut.rate)
    }

    /// The links that lead out of a set and into another.
    fn out(&self, from: ZoneSet, to: ZoneSet) -> Option<Cut> {
        let cuts = self.links.iter().filter(|(ends, ..)| ends & from > 0 && ends & to > 0);
        cuts.fold(None, |sum: Option<Cut>, &(_, rate, latency)| {
            let sum = sum.unwrap_or(Cut { rate: 0, latency });
            Some(Cut { rate: sum.rate.saturating_add(rate), latency: sum.latency.min(latency) })
        })
    }

    /// Neighbouring stages of a part, from the first on or up to the last, whose rings all go out of some zones, and over what: the
    /// narrowest. `own`: where every ring of each stage has ranks; `others`: the same of each other part that is known; `more`: where
    /// others may have ranks.
    pub fn crossing(&self, own: &[Where], others: &[Where], more: ZoneSet) -> Vec<Crossing> {
        let mut found: BTreeMap<(usize, usize), Crossing> = BTreeMap::new();
        for inside in self.parted(own.iter().chain(others)) {
            let within = |w: &Where| w.each & inside > 0 || w.any & !inside == 0;
            let beyond = |w: &Where| w.each & !inside > 0 || w.any & inside == 0;
            let (in_others, out_others) = (others.iter().any(within), others.iter().any(beyond));
            let crosses = |w: &Where| (in_others || within(w)) && (out_others || beyond(w));
            let mut first = 0;
            for run in own.chunk_by(|a, b| crosses(a) == crosses(b)) {
                let end = first + run.len();
                // Ranks of their rings are in these zones, and nowhere else.
                let zones = run.iter().chain(others).fold(more, |zones, w| zones | w.any);
                if crosses(&run[0])
                    && (first == 0 || end == own.len())
                    && let Some(cut) = self.out(inside & zones, zones & !inside)
                {
                    let new = Crossing { first, end, cut, inside };
                    let known = found.entry((first, end)).or_insert(new);
                    *known = if cut < known.cut { new } else { *known };
                }
                first = end;
            }
        }
        // What goes over a narrower cut together with others tells no more.
        let tells_more = |a: &Crossing, b: &Crossing| {
            a != b && a.first <= b.first && b.end <= a.end && a.cut.rate <= b.cut.rate
        };
        let all = || found.values().copied();
        all().filter(|own| !all().any(|other| tells_more(&other, own))).collect()
    }

    /// Ways to part the zones in two: all of few zones; of more those by zones, and by where something is.
    fn parted<'w>(&self, known: impl Iterator<Item = &'w Where>) -> Vec<ZoneSet> {
        match self.count {
            0..2 | 65.. => Vec::new(),
            // The last zone is outside.
            2..=FEW => (1..1 << (self.count - 1)).collect(),
            count => (0..count).map(|zone| 1 << zone).chain(known.map(|w| w.any)).collect(),
        }
    }
}

/// Rate in bytes/s and latency in s.
impl From<Cut> for (f64, f64) {
    fn from(cut: Cut) -> (f64, f64) {
        (cut.rate as f64, cut.latency as f64 / 1e12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three zones in a row: 0 to 1 at 10 bytes/s, 1 to 2 at 1.
    fn row() -> Zones {
        let links = vec![(0b011, 10, 5), (0b110, 1, 7)];
        Zones { of_kind: Vec::new(), of_group: vec![0, 1, 2], links, count: 3 }
    }

    fn at(each: ZoneSet) -> Where {
        Where { each, any: each }
    }

    #[test]
    fn rings_leave_a_zone_where_they_have_ranks_on_both_sides() {
        // The last of three stages is in zone 2, and the other part in zone 0.
        let own = [at(0b001), at(0b001), at(0b100)];
        let elsewhere = Where { each: 0, any: 0b001 };
        let found = row().crossing(&own, &[elsewhere], ZoneSet::MAX);
        let cut = Cut { rate: 1, latency: 7 };
        assert_eq!(found, [Crossing { first: 2, end: 3, cut, inside: 0b011 }]);
        // Where the other part may be in zone 2, too, nothing is known.
        let anywhere = Where { each: 0, any: 0b101 };
        assert_eq!(row().crossing(&own, &[anywhere], ZoneSet::MAX), []);
        // A stage with replicas in two zones crosses by itself.
        let found = row().crossing(&[at(0b011), at(0b001)], &[anywhere], 0);
        assert_eq!(found.iter().map(|c| (c.first, c.end, c.cut.rate)).collect::<Vec<_>>(), [(0, 1, 10)]);
    }

    #[test]
    fn of_more_zones_than_bits_nothing_is_known() {
        let zones = Zones { of_kind: Vec::new(), of_group: vec![0; 65], links: Vec::new(), count: 65 };
        assert_eq!(zones.crossing(&[at(ZoneSet::MAX)], &[at(ZoneSet::MAX)], 0), []);
    }
}
