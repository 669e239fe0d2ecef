//! How many complete plans are under a node, and what became of templates before there were any.

use super::{Key, Place, Priced, Root, Tree, binomial, price};
use crate::cost::{NoFit, Tables};
use crate::rules::Rule;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Ways to cut, by how many templates and pipelines they are of.
type Sums = BTreeMap<(u32, u32), u128>;

/// A partial combination by what may still come: frame, lead, kinds decided; and whether only plans count whose placement is the
/// other's too.
type Rest = (u32, u32, usize, bool);

/// Counts plans under nodes of a tree.
pub(crate) struct Under<'t> {
    tree: &'t Tree<'t>,
    rest: BTreeMap<Rest, Rc<Sums>>,
}

fn add(sums: &mut Sums, key: (u32, u32), more: u128) {
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
        let all = self.count(root, key, false);
        if self.tree.frames[root.frame].place == Place::Stages {
            return all;
        }
        all.saturating_sub(self.count(root, key, true))
    }

    fn count(&mut self, root: &Root, key: &Key, same: bool) -> u128 {
        let tree = self.tree;
        let parts = tree.parts(root, key);
        let (head, total) = (tree.head(), tree.micro_batches(root.frame));
        let counts = tree.counts(&parts, key);
        let mut sums: Sums = BTreeMap::from([((0, 0), 1)]);
        for (i, c) in parts.iter().enumerate() {
            let known = counts.get(i).copied();
            sums = self.with(&sums, &self.one(*c, known, same), total);
        }
        if key.len() < head {
            let rest = self.rest(root, key, same);
            sums = self.with(&sums, &rest, total);
        }
        // Once they are in the key, shares are one, and so are cuts.
        let shared = head + 2 * parts.len();
        if key.len() > shared {
            return 1;
        }
        let ways = |(n, pipelines): (u32, u32)| match key.len() {
            l if l >= shared && l > head => 1,
            _ => binomial(total - pipelines + n - 1, n - 1),
        };
        let each = sums.into_iter().filter(|((n, _), _)| *n > 0);
        each.map(|(of, cuts)| cuts.saturating_mul(ways(of))).fold(0, u128::saturating_add)
    }

    /// One choice, with that number of pipelines or with any.
    fn one(&self, c: usize, known: Option<u32>, same: bool) -> Sums {
        let choice = &self.tree.choices[c];
        let stages = self.tree.templates[choice.template].stages.len() as u32;
        let cuts = binomial(self.tree.scenario.model.layers() - 1, stages - 1);
        let only = !self.tree.differs[choice.template];
        let mut sums = Sums::new();
        for n in choice.numbers.iter().filter(|n| known.is_none_or(|k| k == **n)) {
            if !same || only || *n == 1 {
                add(&mut sums, (1, *n), cuts);
            }
        }
        sums
    }

    /// Both beside each other, with a micro-batch for every pipeline at least.
    fn with(&self, a: &Sums, b: &Sums, total: u32) -> Sums {
        let mut sums = Sums::new();
        for ((n, p), x) in a {
            for ((m, q), y) in b.iter().filter(|((_, q), _)| p + q <= total) {
                add(&mut sums, (n + m, p + q), x.saturating_mul(*y));
            }
        }
        sums
    }

    /// The kinds that a key says nothing of yet: one of their menu, or left out.
    fn rest(&mut self, root: &Root, key: &Key, same: bool) -> Rc<Sums> {
        let decided = key.len() - 2;
        let of = (key[0], key[1], decided, same);
        if let Some(rest) = self.rest.get(&of) {
            return Rc::clone(rest);
        }
        let total = self.tree.micro_batches(root.frame);
        let mut sums: Sums = BTreeMap::from([((0, 0), 1)]);
        for menu in &root.menus[decided..] {
            let mut options: Sums = BTreeMap::from([((0, 0), 1)]);
            for (_, c) in menu.iter() {
                for (of, cuts) in self.one(*c, None, same) {
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
    /// Templates that a rule threw out before any of their pipelines was counted: micro-batch, template, rule, and the bytes that
    /// they lack on a device.
    pub(crate) fn thrown_out(&self) -> Vec<(u32, usize, Rule, Option<i128>)> {
        let tables = Tables::new(self.scenario, self.kinds);
        let sizes: BTreeSet<u32> = self.frames.iter().map(|f| f.micro_batch).collect();
        let mut list = Vec::new();
        for micro_batch in sizes {
            let priced: Vec<Priced> =
                self.templates.par_iter().map(|t| price(&tables, t, micro_batch, true)).collect();
            for (t, priced) in priced.into_iter().enumerate() {
                if let Err((rule, lacks)) = priced {
                    list.push((micro_batch, t, rule, lacks.map(|NoFit(lacks)| lacks)));
                }
            }
        }
        list
    }
}
