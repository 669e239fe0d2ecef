//! How many complete plans are under a node, and what templates lack of which there are none.

use super::{Key, Place, Root, Tree, binomial};
use crate::cost::{Tables, TemplateCost};
use crate::frame::ThrownOut;
use crate::rules::Rule;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Of each part of a combination how many of its pipelines come together, in order.
type Teams = Vec<u32>;

/// Ways to cut, by the templates that they are of, how many pipelines of each come together, and by the number of their pipelines:
/// the index.
type Sums = BTreeMap<Teams, Vec<u128>>;

/// Ways to share micro-batches out, by their number: the index.
type Ways = Arc<Vec<u128>>;

/// Which plans count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Only {
    /// Those alone that are placed alike in both placements.
    same: bool,
    /// Those alone all of whose templates fit by the usual recipe.
    stale: bool,
}

/// What may still come: menus, by number; and which plans count.
type Rest = (Vec<usize>, Only);

/// The kinds that are not decided yet.
struct Others {
    sums: Sums,
    /// Plans beside so many pipelines of these teams.
    beside: Mutex<BTreeMap<(Teams, usize), u128>>,
}

/// Counts plans under nodes of a tree.
pub(crate) struct Under<'t, 'a> {
    tree: &'t Tree<'a>,
    rest: Mutex<BTreeMap<Rest, Arc<Others>>>,
    ways: Mutex<BTreeMap<(Teams, usize), Ways>>,
}

/// Of no template.
fn none() -> Sums {
    BTreeMap::from([(Teams::new(), vec![1])])
}

fn add(sums: &mut Sums, teams: Teams, pipelines: usize, more: u128) {
    let list = sums.entry(teams).or_default();
    list.resize(list.len().max(pipelines + 1), 0);
    list[pipelines] = list[pipelines].saturating_add(more);
}

/// The teams of both.
fn both(mine: &[u32], others: &[u32]) -> Teams {
    let mut teams = [mine, others].concat();
    teams.sort_unstable();
    teams
}

/// Both beside each other, with a micro-batch for every pipeline at least.
fn with(a: &Sums, b: &Sums, total: usize) -> Sums {
    let mut sums = Sums::new();
    for ((mine, xs), (others, ys)) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
        let next = sums.entry(both(mine, others)).or_default();
        let longest = (xs.len() + ys.len()).saturating_sub(1).min(total + 1);
        next.resize(next.len().max(longest), 0);
        for (p, x) in xs.iter().enumerate().filter(|(_, x)| **x > 0) {
            for (q, y) in ys.iter().enumerate().filter(|(q, y)| **y > 0 && p + q <= total) {
                next[p + q] = next[p + q].saturating_add(x.saturating_mul(*y));
            }
        }
    }
    sums
}

impl<'t, 'a> Under<'t, 'a> {
    pub(crate) fn new(tree: &'t Tree<'a>) -> Under<'t, 'a> {
        Under { tree, rest: Mutex::default(), ways: Mutex::default() }
    }

    /// Complete plans whose keys begin with `key`, which is that of a root at least.
    pub(crate) fn plans(&self, key: &Key) -> u128 {
        match self.tree.root(key) {
            Some(root) if key.len() == 2 => root.plans,
            Some(root) => self.plans_of(root, key),
            None => 0,
        }
    }

    /// The same of a root that need not be in the tree yet.
    pub(super) fn plans_of(&self, root: &Root, key: &[u32]) -> u128 {
        let frame = &self.tree.frames[root.frame];
        let (same, stale) = (frame.place == Place::Pipelines, frame.fresh && root.lead.is_none());
        let count = |same, stale| self.count(root, key, Only { same, stale });
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

    fn count(&self, root: &Root, key: &[u32], only: Only) -> u128 {
        let tree = self.tree;
        let parts = tree.parts(root, key);
        let (head, total) = (tree.head(), tree.micro_batches(root.frame) as usize);
        let counts = tree.counts(&parts, key);
        let mut sums = none();
        for (i, c) in parts.iter().enumerate() {
            let known = counts.get(i).copied();
            sums = with(&sums, &self.one(*c, known, only), total);
        }
        // Once they are in the key, shares are one, and so are cuts.
        let shared = head + 2 * parts.len();
        if key.len() > shared {
            return 1;
        }
        let most = if tree.frames[root.frame].recipe.alike() { 1 } else { usize::MAX };
        if key.len() == shared && key.len() > head {
            let one = |(teams, list): (&Teams, &Vec<u128>)| match teams.len() <= most {
                true => list.iter().fold(0, |sum, cuts| u128::saturating_add(sum, *cuts)),
                false => 0,
            };
            return sums.iter().map(one).fold(0, u128::saturating_add);
        }
        let rest = if key.len() < head { self.rest(root, key.len() - 2, only) } else { self.nothing() };
        let mut all = 0u128;
        for (teams, list) in &sums {
            for (pipelines, cuts) in list.iter().enumerate().filter(|(p, cuts)| **cuts > 0 && *p <= total) {
                let beside = self.beside(&rest, (teams, pipelines), (total, most));
                all = all.saturating_add(cuts.saturating_mul(beside));
            }
        }
        all
    }

    /// Plans of what is not decided and shares beside so many pipelines of parts whose teams are these.
    fn beside(
        &self,
        rest: &Others,
        (teams, pipelines): (&Teams, usize),
        (total, most): (usize, usize),
    ) -> u128 {
        let key = (teams.clone(), pipelines);
        if let Some(known) = rest.beside.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *known;
        }
        let mut all = 0u128;
        for (others, list) in &rest.sums {
            let both = both(teams, others);
            if (1..=most).contains(&both.len()) {
                let ways = self.ways(both, total);
                for (q, cuts) in list.iter().enumerate().filter(|(q, c)| **c > 0 && pipelines + q <= total) {
                    all = all.saturating_add(cuts.saturating_mul(ways[total - pipelines - q]));
                }
            }
        }
        rest.beside.lock().unwrap_or_else(PoisonError::into_inner).insert(key, all);
        all
    }

    /// Ways to share out more micro-batches, up to `most`, than one for each pipeline, by how many there are.
    fn ways(&self, teams: Teams, most: usize) -> Ways {
        let mut known = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (teams, most);
        if let Some(ways) = known.get(&key) {
            return Arc::clone(ways);
        }
        let mut ways = vec![0u128; most + 1];
        ways[0] = 1;
        // Each part takes as many for each of the pipelines that come together.
        for team in key.0.iter().map(|team| *team as usize) {
            for more in team..=most {
                ways[more] = ways[more].saturating_add(ways[more - team]);
            }
        }
        let ways = Arc::new(ways);
        known.insert(key, Arc::clone(&ways));
        ways
    }

    /// Nothing is left to decide.
    fn nothing(&self) -> Arc<Others> {
        Arc::new(Others { sums: none(), beside: Mutex::default() })
    }

    /// One choice, with that number of pipelines or with any.
    fn one(&self, c: usize, known: Option<u32>, only: Only) -> Sums {
        let choice = &self.tree.choices[c];
        let stages = self.tree.templates[choice.template].stages.len() as u32;
        let cuts = binomial(self.tree.scenario.model.layers() - 1, stages - 1);
        let mut sums = Sums::new();
        for n in choice.numbers.iter().filter(|n| known.is_none_or(|k| k == **n)) {
            if (!only.same || self.tree.placed_alike(c, *n)) && !(only.stale && choice.fresh) {
                add(&mut sums, vec![choice.cost.team], *n as usize, cuts);
            }
        }
        sums
    }

    /// The kinds that are not decided yet: one of their menu, or left out.
    fn rest(&self, root: &Root, decided: usize, only: Only) -> Arc<Others> {
        let of = (root.menus[decided..].iter().map(|menu| menu.number).collect(), only);
        if let Some(rest) = self.rest.lock().unwrap_or_else(PoisonError::into_inner).get(&of) {
            return Arc::clone(rest);
        }
        let total = self.tree.micro_batches(root.frame) as usize;
        let mut sums = none();
        for menu in &root.menus[decided..] {
            let mut options = none();
            for (_, c) in menu.iter() {
                for (teams, list) in self.one(*c, None, only) {
                    for (n, cuts) in list.into_iter().enumerate().filter(|(_, cuts)| *cuts > 0) {
                        add(&mut options, teams.clone(), n, cuts);
                    }
                }
            }
            sums = with(&sums, &options, total);
        }
        let rest = Arc::new(Others { sums, beside: Mutex::default() });
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).insert(of, Arc::clone(&rest));
        rest
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
