//! The top of the tree of plans: templates at micro-batch sizes and placements, priced, and which of them go together.
//!
//! A node is a *key*, the choices that lead to it, as numbers:
//!
//! ```text
//!   frame  lead  option of each kind  pipelines of each part  micro-batches of each part  borders of each part
//!     |     |            |                     |                       |                         |
//!     |     |            |                     |                       |     inner borders, part by part: a plan -+
//!     |     |            |                     |                       +- all pipelines of the part together
//!     |     |            |                     +- so many fewer than the most
//!     |     |            +- template of the pipelines on what is left of that kind, from 1; 0: left out
//!     |     +- template of the pipelines that join kinds, from 1; 0: none
//!     +- micro-batch size and placement
//! ```
//!
//! A prefix of a key is a partial plan. Keys order plans: of two equally fast plans the one with the smaller key is better.

mod cases;
mod choice;
mod menu;
mod pipelines;
mod under;

pub(crate) use cases::Case;
pub(crate) use choice::{Busy, Choice, Pace, Timed};
pub(crate) use menu::{Beside, Menu, of_band};
pub(crate) use pipelines::Pipelines;
pub(crate) use under::Under;

use crate::cost::beside::{self, PartOf};
use crate::cost::placed::Placed;
use crate::cost::rings::Rings;
use crate::cost::setting::Apart;
use crate::cost::{Beat, Setting};
use crate::frame::{Frame, Priced, Space, ThrownOut};
use crate::place::Place;
use crate::rules::Rule;
use crate::space::{Kind, Recipe, Template, numbers};
use rayon::prelude::*;
use sim_core::{CapacitySource, Digest, SimTime};
use sim_models::plan::Recompute;
use sim_models::scenario::Scenario;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A node of the tree. See the head of this file.
pub(crate) type Key = Vec<u32>;

/// A frame and its leading choice, with the options of each kind for the devices left.
pub(crate) struct Root {
    pub(crate) frame: usize,
    pub(crate) lead: Option<(u32, usize)>,
    pub(crate) menus: Vec<Arc<Menu>>,
    /// Complete plans under it.
    plans: u128,
}

impl Root {
    /// Its key.
    pub(crate) fn key(&self) -> Key {
        vec![self.frame as u32, self.lead.map_or(0, |l| l.0)]
    }
}

/// The tree, opened down to its roots.
pub(crate) struct Tree<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) kinds: &'a [Kind],
    pub(crate) rings: Rings<'a>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) templates: Vec<Template>,
    /// By template, whether its placements differ.
    differs: Vec<bool>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) roots: Vec<Root>,
    /// How many menus they have.
    menus: usize,
    /// Nodes generated so far, those thrown out, and those that led to others.
    pub(crate) considered: u64,
    pub(crate) expanded: u64,
    pub(crate) pruned: BTreeMap<Rule, u64>,
    /// Templates that a rule threw out.
    pub(crate) thrown_out: Vec<ThrownOut>,
}

impl<'a> Tree<'a> {
    /// Opens the tree of `scenario`, whose kinds are `kinds`. Without `bounds`, no template is thrown out because a dynamic
    /// program says that none of its cuts fits into memory.
    pub(crate) fn open(scenario: &'a Scenario, kinds: &'a [Kind], bounds: bool) -> Tree<'a> {
        let space = Space::new(scenario, kinds);
        let mut tree = Tree {
            scenario,
            kinds,
            rings: Rings::new(scenario, kinds),
            frames: Vec::new(),
            differs: space.differs.clone(),
            templates: space.templates.clone(),
            choices: Vec::new(),
            roots: Vec::new(),
            menus: 0,
            considered: 0,
            expanded: 0,
            pruned: BTreeMap::new(),
            thrown_out: Vec::new(),
        };
        for rule in space.sizes().into_iter().filter_map(|size| space.refuses(size)) {
            tree.considered += 1;
            *tree.pruned.entry(rule).or_default() += 1;
        }
        for (recipe, micro_batch, priced) in space.all_priced(bounds) {
            tree.count(&priced);
            tree.thrown_out.push(ThrownOut::new(&space, (recipe, micro_batch), &priced));
            for place in [Place::Stages, Place::Pipelines] {
                tree.open_frame(&space, &priced, space.frame(recipe, micro_batch, place));
            }
        }
        tree
    }

    /// Counts templates as nodes.
    fn count(&mut self, priced: &[Priced]) {
        for priced in priced.iter().flatten() {
            self.considered += 1;
            match priced {
                Ok(_) => self.expanded += 1,
                Err(rule) => *self.pruned.entry(*rule).or_default() += 1,
            }
        }
    }

    /// The roots of one frame, with the choices under them.
    fn open_frame(&mut self, space: &Space<'_>, priced: &[Priced], frame: Frame) {
        self.frames.push(frame);
        let f = self.frames.len() - 1;
        // Which choices there are, in order: the leads, then what the menus need.
        let mut wanted: Vec<(usize, u32)> = Vec::new();
        let mut known: BTreeMap<(usize, u32), usize> = BTreeMap::new();
        let first = self.choices.len();
        let mut want = |t: usize, pipelines: u32| {
            *known.entry((t, pipelines)).or_insert_with(|| {
                wanted.push((t, pipelines));
                first + wanted.len() - 1
            })
        };
        let mut menus: BTreeMap<(usize, u32), Arc<Menu>> = BTreeMap::new();
        let mut roots = Vec::new();
        for lead in space.leads(&frame, priced) {
            let (pipelines, free) = space.beside(&frame, lead);
            let lead = lead.map(|t| (t as u32 + 1, want(t, pipelines)));
            let mut list = Vec::with_capacity(free.len());
            for (k, free) in free.into_iter().enumerate() {
                let menu = menus.entry((k, free)).or_insert_with(|| {
                    let options = space.menu(&frame, priced, k, free).into_iter();
                    let options: Vec<(u32, usize)> =
                        options.map(|(t, n)| (t as u32 + 1, want(t, n))).collect();
                    let width =
                        |(t, _): &(u32, usize)| self.templates[*t as usize - 1].stages[0].split.block();
                    let widest = options.iter().map(width).max().unwrap_or(0);
                    self.menus += 1;
                    Arc::new(Menu::new(self.menus, options, widest))
                });
                list.push(Arc::clone(menu));
            }
            if lead.is_some() || list.iter().any(|menu| !menu.is_empty()) {
                roots.push(Root { frame: f, lead, menus: list, plans: 0 });
            }
        }
        let make = |(t, pipelines): &(usize, u32)| self.choice(priced, f, *t, *pipelines);
        let made: Vec<Choice> = wanted.par_iter().map(make).collect();
        self.choices.extend(made);
        let under = Under::new(self);
        let count = |root: Root| Root { plans: under.plans_of(&root, &root.key()), ..root };
        let counted = roots.into_par_iter().map(count);
        // In the second placement, a root without a lead may hold nothing new.
        let counted: Vec<Root> = counted.filter(|root| root.plans > 0).collect();
        self.roots.extend(counted);
    }

    fn choice(&self, priced: &[Priced], f: usize, t: usize, pipelines: u32) -> Choice {
        let (template, recipe) = (&self.templates[t], &self.frames[f].recipe);
        let numbers = numbers(self.scenario, self.kinds, template, pipelines, self.micro_batches(f), recipe);
        let pipelines = numbers[0];
        let Some(Ok(entry)) = &priced[t] else { unreachable!("only priced templates are chosen") };
        let pace = |most: u32, apart: Apart, known: Option<Beat>| {
            let frame = &self.frames[f];
            let alone = || Setting::at_best(&self.rings, template, (frame.micro_batch, recipe), apart);
            let (alone, beat) = entry.cost.alone(apart, alone);
            Pace { most, alone: Arc::clone(alone), beat: known.unwrap_or(*beat) }
        };
        let near = match self.frames[f].place {
            Place::Stages => beside::most_near(self.kinds, template).min(pipelines),
            Place::Pipelines => pipelines,
        };
        let mut paces = Vec::new();
        if near < pipelines {
            paces.push(pace(pipelines, Apart::Always, None));
        }
        if near > 0 {
            // Nearer to each other they have the same passes: they are no faster than without their transfers. That is
            // near enough where all pipelines together run more.
            let known = paces.first().and_then(|p| {
                let bottleneck = p.beat.bottleneck.checked_sub(p.beat.slack).filter(|b| *b > 0)?;
                let less = f64::from(near) / (bottleneck as f64) < p.rate();
                less.then_some(Beat { bottleneck, ..p.beat })
            });
            paces.push(pace(near, Apart::Maybe, known));
        }
        Choice::new((t, entry.fresh), numbers, Arc::clone(&entry.cost), paces)
    }

    /// Complete plans under all roots.
    pub(crate) fn plans_represented(&self) -> u128 {
        self.roots.iter().map(|r| r.plans).fold(0, u128::saturating_add)
    }

    /// Over the space and its costs: equal for equal scenarios.
    pub(crate) fn digest(&self) -> Digest {
        let mut digest = Digest::EMPTY;
        for frame in &self.frames {
            digest.add(u64::from(frame.micro_batch), frame.place as u64);
            let Recipe { schedule, zero, sequence_parallel, overlap_p2p, overlap } = frame.recipe;
            digest.add(schedule as u64, u64::from(zero));
            digest.add(u64::from(sequence_parallel) * 2 + u64::from(overlap_p2p), overlap.map_or(0, |b| b.0));
        }
        for choice in &self.choices {
            digest.add(choice.template as u64, u64::from(choice.pipelines()));
            choice.numbers.iter().for_each(|n| digest.add(u64::from(*n), 0));
            let Beat { bottleneck, slack } = choice.paces[0].beat;
            digest.add(bottleneck, slack);
            for stage in &choice.cost.stages {
                let all = choice.cost.layers;
                digest.add(stage.work(0, all), stage.update(0, all, u64::MAX));
                digest.add(stage.excess(0, all, 1, u64::MAX) as u64, stage.gradients(0, all));
            }
        }
        for root in &self.roots {
            digest.add(root.plans as u64, root.lead.map_or(0, |l| l.0.into()));
        }
        // The first changes of every capacity, beyond which traces are hardly ever alike by chance.
        let groups = self.scenario.groups.iter().map(|g| &g.nic);
        let links = self.scenario.zone_links.iter().map(|l| &l.capacity);
        let leaves = self.scenario.leaves.iter().map(|l| &l.capacity);
        for capacity in groups.chain(links).chain(leaves) {
            let mut at = SimTime::ZERO;
            digest.add(capacity.at(at).raw(), capacity.highest().raw());
            for _ in 0..1024 {
                let Some((when, rate)) = capacity.next_change(at) else { break };
                digest.add(when.as_ps(), rate.raw());
                at = when;
            }
        }
        digest
    }

    /// Micro-batches of an iteration in a frame.
    pub(crate) fn micro_batches(&self, frame: usize) -> u32 {
        self.scenario.training.global_batch / self.frames[frame].micro_batch
    }

    /// How many numbers of a key come before the micro-batches.
    pub(crate) fn head(&self) -> usize {
        2 + self.kinds.len()
    }

    /// The choices of a combination or of a partial one: lead first, then kind by kind.
    pub(crate) fn parts(&self, root: &Root, key: &[u32]) -> Vec<usize> {
        let options = &key[2..key.len().min(self.head())];
        let find = |(option, menu): (&u32, &Arc<Menu>)| {
            let at = menu.binary_search_by_key(option, |(t, _)| *t).ok()?;
            Some(menu[at].1)
        };
        root.lead.map(|l| l.1).into_iter().chain(options.iter().zip(&root.menus).filter_map(find)).collect()
    }

    /// Pipelines of each part, as far as a key says.
    pub(crate) fn counts(&self, parts: &[usize], key: &[u32]) -> Vec<u32> {
        let fewer = key.get(self.head()..).unwrap_or(&[]);
        parts.iter().zip(fewer).map(|(p, fewer)| self.choices[*p].pipelines() - fewer).collect()
    }

    /// A key with so many pipelines of each part.
    pub(crate) fn counted(&self, key: &[u32], parts: &[usize], counts: &[u32]) -> Key {
        let fewer = parts.iter().zip(counts).map(|(p, n)| self.choices[*p].pipelines() - n);
        key.iter().copied().chain(fewer).collect()
    }

    /// Kinds whose options are open after those before `next`, beside these parts.
    pub(crate) fn open_kinds(&self, root: &Root, parts: &[usize], next: usize) -> Range<usize> {
        let kinds = root.menus.len();
        let closed = self.frames[root.frame].recipe.alike() && !parts.is_empty();
        if closed { kinds..kinds } else { next..kinds }
    }

    /// Whether these parts are a combination of this frame and not of another.
    pub(crate) fn is_new(&self, root: &Root, parts: &[usize]) -> bool {
        let differs = parts.iter().any(|c| self.differs[self.choices[*c].template]);
        let fresh = |c: usize| self.choices[c].fresh;
        let fresh = root.lead.map_or_else(|| parts.iter().any(|c| fresh(*c)), |(_, lead)| fresh(lead));
        self.frames[root.frame].joins(parts.len(), differs, fresh)
    }

    /// The same with so many pipelines of each: those that come together have one placement.
    pub(crate) fn is_new_with(&self, root: &Root, parts: &[usize], counts: &[u32]) -> bool {
        let differs = |(c, n): (&usize, &u32)| !self.placed_alike(*c, *n);
        self.frames[root.frame].place == Place::Stages || parts.iter().zip(counts).any(differs)
    }

    /// Whether so many pipelines of a choice are placed alike in both placements: those that come together alone are.
    fn placed_alike(&self, choice: usize, pipelines: u32) -> bool {
        let choice = &self.choices[choice];
        pipelines <= choice.cost.team || !self.differs[choice.template]
    }

    /// Moves micro-batches between the parts so that those of each are as many for each of the pipelines that come together;
    /// whether that can be.
    pub(crate) fn align(&self, parts: &[usize], counts: &[u32], shares: &mut [u32]) -> bool {
        let team = |i: usize| self.choices[parts[i]].cost.team;
        let mut left = 0;
        for (i, share) in shares.iter_mut().enumerate() {
            let over = *share % team(i);
            (*share, left) = (*share - over, left + over);
        }
        let mut largest_first: Vec<usize> = (0..parts.len()).collect();
        largest_first.sort_by_key(|i| std::cmp::Reverse(team(*i)));
        for i in largest_first {
            let more = left - left % team(i);
            (shares[i], left) = (shares[i] + more, left - more);
        }
        left == 0 && shares.iter().zip(counts).all(|(share, count)| share >= count)
    }

    /// The least price of the nodes that these choices take with so many pipelines each, or one where that is not known;
    /// 10^-6 dollars an hour.
    pub(crate) fn price(&self, parts: &[usize], counts: &[u32]) -> u64 {
        let of_kind = |(k, kind): (usize, &Kind)| {
            let used = |(i, p): (usize, &usize)| {
                let count = counts.get(i).copied().unwrap_or(1);
                count * self.templates[self.choices[*p].template].devices(k)
            };
            let nodes = parts.iter().enumerate().map(used).sum::<u32>().div_ceil(kind.gpus_per_node);
            self.node_price(kind).saturating_mul(u64::from(nodes))
        };
        self.kinds.iter().enumerate().map(of_kind).fold(0, u64::saturating_add)
    }

    fn node_price(&self, kind: &Kind) -> u64 {
        kind.groups.iter().copied().map(|g| self.scenario.cost.node(g)).min().unwrap_or(0)
    }

    /// The least price of the devices of one pipeline, 10^-6 dollars an hour.
    pub(crate) fn pipeline_price(&self, choice: usize) -> f64 {
        let template = &self.templates[self.choices[choice].template];
        let of_kind = |(k, kind): (usize, &Kind)| {
            f64::from(template.devices(k)) / f64::from(kind.gpus_per_node) * self.node_price(kind) as f64
        };
        self.kinds.iter().enumerate().map(of_kind).sum()
    }

    /// So many pipelines of these choices as the costs see them; one of each where that is not known.
    pub(crate) fn parts_of(&self, parts: &[usize], counts: &[u32]) -> Vec<PartOf<'_>> {
        let of = |(i, p): (usize, &usize)| {
            let choice = &self.choices[*p];
            let template = &self.templates[choice.template];
            PartOf { template, cost: &choice.cost, pipelines: counts.get(i).copied().unwrap_or(1) }
        };
        parts.iter().enumerate().map(of).collect()
    }

    /// A combination with so many pipelines and micro-batches for each part, on its devices.
    pub(crate) fn place(
        &'a self,
        root: &Root,
        parts: &[usize],
        counts: &[u32],
        shares: &[u32],
    ) -> Result<Placed<'a>, Rule> {
        let frame = self.frames[root.frame];
        let parts = self.parts_of(parts, counts);
        Placed::new(&self.rings, (frame.micro_batch, frame.place), &parts, shares)
    }

    /// The root of a key.
    pub(crate) fn root(&self, key: &[u32]) -> Option<&Root> {
        let of = |r: &Root| (r.frame as u32, r.lead.map_or(0, |l| l.0));
        let at = self.roots.binary_search_by(|r| of(r).cmp(&(key[0], key[1]))).ok()?;
        Some(&self.roots[at])
    }

    /// A pipeline in words.
    pub(crate) fn words(&self, template: usize, micro_batch: u32) -> String {
        let stages = &self.templates[template].stages;
        let mut parts: Vec<String> = Vec::new();
        for alike in stages.chunk_by(|a, b| a == b) {
            let gpu = &self.kinds[alike[0].kind as usize].gpu;
            let again = match alike[0].recompute {
                Recompute::None => String::new(),
                some => format!(" recomputing {some}"),
            };
            parts.push(format!("{} x {gpu} at {}{again}", alike.len(), alike[0].split));
        }
        let plural = if stages.len() == 1 { "stage" } else { "stages" };
        format!("{} {plural} ({}), micro-batch {micro_batch}", stages.len(), parts.join(", "))
    }
}

/// Binomial coefficient, saturating.
pub(crate) fn binomial(n: u32, k: u32) -> u128 {
    if k > n {
        return 0;
    }
    let mut result = 1u128;
    for i in 0..k.min(n - k) {
        // Exact at every step: a product of i + 1 neighbours is divisible by (i + 1)!.
        match result.checked_mul(u128::from(n - i)) {
            Some(product) => result = product / u128::from(i + 1),
            None => return u128::MAX,
        }
    }
    result
}
