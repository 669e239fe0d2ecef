//! How many complete plans are under a node, and what templates lack of which there are none.

use super::{Key, Place, Root, Teams, Tree, binomial, both, ways};
use crate::cost::{Tables, TemplateCost};
use crate::frame::ThrownOut;
use crate::rules::Rule;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Ways to cut, by the templates that they are of, how many pipelines of each come together, and by their pipelines.
type Sums = BTreeMap<(Teams, u32), u128>;

/// Which plans count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Only {
    /// Those alone that are placed alike in both placements.
    same: bool,
    /// Those alone all of whose templates fit by the usual recipe.
    stale: bool,
}

/// A partial combination by what may still come: frame, lead, kinds decided; and which plans count.
type Rest = (u32, u32, usize, Only);

/// Counts plans under nodes of a tree.
pub(crate) struct Under<'t> {
    tree: &'t Tree<'t>,
    rest: BTreeMap<Rest, Rc<Sums>>,
}

/// Of no template.
fn none() -> Sums {
    BTreeMap::from([((Teams::new(), 0), 1)])
}

fn add(sums: &mut Sums, key: (Teams, u32), more: u128) {
    let sum = sums.entry(key).or_default();
    *sum = sum.saturating_add(more);
}

impl<'t> Under<'t> {
    pub(crate) fn new(tree: &'t Tree<'t>) -> Under<'t> {
        Under { tree, rest: BTreeMap::new() }
    }

    /// Complete plans whose keys begin with `key`, which is that of a root at least.
    pub(crate) fn plans(&mut self, key: &Key) -> u128 {
        let Some(root) = self.tree.root(key) else { return 0 };
        if key.len() == 2 {
            return root.plans;
        }
        let frame = &self.tree.frames[root.frame];
        let (same, stale) = (frame.place == Place::Pipelines, frame.fresh && root.lead.is_none());
        let mut count = |same, stale| self.count(root, key, Only { same, stale });
        let mut all = count(false, false);
        // Those of other frames; those that two frames have were taken twice.
        if same && stale {
            all = all.saturating_add(count(true, true));
        }
        for (there, only) in [(same, (true, false)), (stale, (false, true))] {
            all -= if there { count(only.0, only.1).min(all) } else { 0 };
        }
        all
    }

    fn count(&mut self, root: &Root, key: &Key, only: Only) -> u128 {
        let tree = self.tree;
        let parts = tree.parts(root, key);
        let (head, total) = (tree.head(), tree.micro_batches(root.frame));
        let counts = tree.counts(&parts, key);
        let mut sums = none();
        for (i, c) in parts.iter().enumerate() {
            let known = counts.get(i).copied();
            sums = self.with(&sums, &self.one(*c, known, only), total);
        }
        if key.len() < head {
            let rest = self.rest(root, key, only);
            sums = self.with(&sums, &rest, total);
        }
        // Once they are in the key, shares are one, and so are cuts.
        let shared = head + 2 * parts.len();
        if key.len() > shared {
            return 1;
        }
        let known = key.len() >= shared && key.len() > head;
        let most = if tree.frames[root.frame].recipe.alike() { 1 } else { usize::MAX };
        let each: Vec<((Teams, u32), u128)> =
            sums.into_iter().filter(|((teams, _), _)| (1..=most).contains(&teams.len())).collect();
        let of_teams = |list: &[((Teams, u32), u128)]| {
            let ways = ways(&list[0].0.0, total as usize);
            let of = |((_, pipelines), cuts): &((Teams, u32), u128)| {
                cuts.saturating_mul(if known { 1 } else { ways((total - pipelines) as usize) })
            };
            list.iter().map(of).fold(0, u128::saturating_add)
        };
        each.chunk_by(|a, b| a.0.0 == b.0.0).map(of_teams).fold(0, u128::saturating_add)
    }

    /// One choice, with that number of pipelines or with any.
    fn one(&self, c: usize, known: Option<u32>, only: Only) -> Sums {
        let choice = &self.tree.choices[c];
        let stages = self.tree.templates[choice.template].stages.len() as u32;
        let cuts = binomial(self.tree.scenario.model.layers() - 1, stages - 1);
        let mut sums = Sums::new();
        for n in choice.numbers.iter().filter(|n| known.is_none_or(|k| k == **n)) {
            if (!only.same || self.tree.placed_alike(c, *n)) && !(only.stale && choice.fresh) {
                add(&mut sums, (vec![choice.cost.team], *n), cuts);
            }
        }
        sums
    }

    /// Both beside each other, with a micro-batch for every pipeline at least.
    fn with(&self, a: &Sums, b: &Sums, total: u32) -> Sums {
        let mut sums = Sums::new();
        for ((mine, p), x) in a {
            for ((others, q), y) in b.iter().filter(|((_, q), _)| p + q <= total) {
                add(&mut sums, (both(mine, others), p + q), x.saturating_mul(*y));
            }
        }
        sums
    }

    /// The kinds that a key says nothing of yet: one of their menu, or left out.
    fn rest(&mut self, root: &Root, key: &Key, only: Only) -> Rc<Sums> {
        let decided = key.len() - 2;
        let of = (key[0], key[1], decided, only);
        if let Some(rest) = self.rest.get(&of) {
            return Rc::clone(rest);
        }
        let total = self.tree.micro_batches(root.frame);
        let mut sums = none();
        for menu in &root.menus[decided..] {
            let mut options = none();
            for (_, c) in menu.iter() {
                for (of, cuts) in self.one(*c, None, only) {
                    add(&mut options, of, cuts);
                }
            }
            sums = self.with(&sums, &options, total);
        }
        let sums = Rc::new(sums);
        self.rest.insert(of, Rc::clone(&sums));
        sums
    }
}

impl Tree<'_> {
    /// Templates that were thrown out, each with the rule, and of memory's the fewest bytes that it lacks on a device.
    pub(crate) fn lacks(&self, thrown: &ThrownOut) -> Vec<(usize, Rule, Option<i128>)> {
        let tables = Tables::new(self.scenario, self.kinds, thrown.micro_batch, thrown.recipe);
        let all: Vec<u32> = self.kinds.iter().map(|k| k.devices.len() as u32).collect();
        let need = self.scenario.training.global_batch / thrown.micro_batch;
        let lacks = |template: usize| {
            let template = &self.templates[template];
            let cost = TemplateCost::new(&tables, template).ok()?;
            // By itself, with as many pipelines as fit and as many micro-batches in flight as the schedule has.
            let pipelines = template.most(&all).clamp(1, need);
            let in_flight = need.div_ceil(pipelines).min(template.stages.len() as u32);
            let copies = template.stages.iter().map(|s| s.split.cp).max().unwrap_or(1);
            Some(cost.least_excess(in_flight, u64::from(pipelines) * u64::from(copies)))
        };
        let of = |(t, rule): &(u32, Rule)| {
            let t = *t as usize;
            (t, *rule, if *rule == Rule::Memory { lacks(t) } else { None })
        };
        thrown.templates.par_iter().map(of).collect()
    }
}
