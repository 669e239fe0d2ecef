//! How a partial combination may go on: with kinds that are in zones of its parts alone, or with others, whose gradients then
//! cross zones.

use super::{Beside, Root, Tree};
use crate::cost::beside;
use crate::cost::borders::MOST_COMMON;
use crate::cost::setting::{Sharers, kind_bit};
use crate::cost::zones::Cut;

/// One of these, and what is then known of the parts and of the kinds that may come.
pub(crate) struct Case {
    /// With whom one pipeline of each part shares gradients.
    pub(crate) sharers: Vec<Sharers>,
    /// Kinds that may come, and what their pipelines are beside.
    pub(crate) open: Vec<(usize, Beside)>,
    /// What all rings go over, if it is known that they cross zones.
    pub(crate) across: Option<Cut>,
}

impl Tree<'_> {
    /// The cases of a partial combination whose kinds up to `next` are decided: every plan of it is in one of them.
    pub(crate) fn cases(&self, root: &Root, parts: &[usize], next: usize) -> Vec<Case> {
        let zones = self.rings.zones();
        let sharers = self.sharers(root, parts, &[], next);
        let beside = |k: usize| (k, self.beside(root, parts, k));
        let open: Vec<(usize, Beside)> = self.open_kinds(root, parts, next).map(beside).collect();
        let across = sharers.iter().filter_map(|s| s.across).min();
        let (near, far): (Vec<_>, Vec<_>) = open.iter().copied().partition(|(_, b)| b.across.is_none());
        let far = far.into_iter().filter(|(k, _)| !root.menus[*k].is_empty()).map(|(k, _)| k);
        let far: Vec<usize> = far.collect();
        let mut cases = vec![Case { sharers: sharers.clone(), open: near, across }];
        if !far.is_empty() {
            // Whichever of them comes.
            let loosest = |mine: u64| {
                let cuts = far.iter().map(|k| zones.between(mine, zones.of_kind(*k)));
                cuts.reduce(|a, b| Some(a?.loosest(b?))).flatten()
            };
            let narrower = |known: Option<Cut>, cut: Option<Cut>| known.into_iter().chain(cut).min();
            let of = |(c, s): (&usize, Sharers)| {
                let mine = zones.of(&self.templates[self.choices[*c].template]);
                Sharers { across: narrower(s.across, loosest(mine)), ..s }
            };
            let sharers: Vec<Sharers> = parts.iter().zip(sharers).map(of).collect();
            let any = far.iter().filter_map(|k| self.beside(root, parts, *k).across).reduce(Cut::loosest);
            cases.push(Case { sharers, open, across: narrower(across, any) });
        }
        cases
    }

    /// With whom so many pipelines of each of these parts, or one, share gradients, when others may come of kinds from `next` on.
    pub(crate) fn sharers(&self, root: &Root, parts: &[usize], counts: &[u32], next: usize) -> Vec<Sharers> {
        let template = |c: &usize| &self.templates[self.choices[*c].template];
        let lead = root.lead.map(|(_, c)| template(&c));
        let widest = |k: usize| {
            let alone = parts.iter().map(template).find(|t| t.one_kind() == Some(k));
            let chosen = alone.map_or(0, |t| t.stages[0].split.block());
            if k < next { chosen } else { root.menus[k].widest }
        };
        let first = |i: usize| beside::is_first(&self.rings, lead, template(&parts[i]), widest);
        beside::sharers(&self.rings, &self.parts_of(parts, counts), next == root.menus.len(), first)
    }

    /// What a menu of a kind is beside.
    fn beside(&self, root: &Root, parts: &[usize], kind: usize) -> Beside {
        let templates = || parts.iter().map(|c| &self.templates[self.choices[*c].template]);
        // Few cases, that menus need not be looked into again and again.
        let pipelines = match parts.len() {
            0 => 0,
            1..4 => 1,
            _ => 4,
        };
        let zones = self.rings.zones();
        let cut = |t| zones.between(zones.of_kind(kind), zones.of(t));
        let across = if zones.several() { templates().filter_map(cut).min() } else { None };
        let without = templates().any(|t| t.devices(kind) == 0);
        let lead = root.lead.map(|(_, c)| &self.templates[self.choices[c].template]);
        let first = beside::is_alone(&self.rings, lead, kind);
        let borders = templates().map(|t| t.stages.len() - 1).min().filter(|b| *b <= MOST_COMMON);
        Beside { pipelines, apart: if without { kind_bit(kind) } else { 0 }, across, first, borders }
    }
}
