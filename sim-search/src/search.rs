//! Branch and bound in levels of time, in rounds whose size does not depend on threads.
//!
//! ```text
//!   template at a micro-batch and placement -> thrown out by a rule, or kept
//!   root: a micro-batch, a placement and a leading template (pipelines that join kinds), or none
//!   combination: a root and an option for each kind -> a plan
//!   plan -> thrown out by a rule or by its own bound, or simulated no further than the best
//! ```
//!
//! First the combinations that look best by their estimates, a few rounds, for a good time to throw others out by. Then all,
//! by levels.
//!
//! A *level* is a time. At a level, every template says how many micro-batches one of its pipelines can run within it, over
//! every partition of the layers ([`TemplateCost::bound`]); a combination is *within* the level when its pipelines together
//! can run the whole batch. So a combination that is not within the level has no plan as fast. Levels rise by a fiftieth
//! from one that holds no combination; each level's new combinations are taken, those with most to spare first; when a
//! level would pass the best time it becomes the best time, and what is not within it is thrown out.
//!
//! One partition and one share of each combination is simulated, so the answer is proven only as far as the highest level
//! that held nothing: the gap says how far.

use crate::cost::{Apart, NoFit, Rings, TemplateCost, View};
use crate::place::{Part, Place, place};
use crate::rules::Rule;
use crate::shares::{Sharer, shares};
use crate::space::{Kind, StageShape, Template, kinds, templates};
use rayon::prelude::*;
use sim_core::{Digest, SimTime};
use sim_models::fold::Folding;
use sim_models::iteration::Simulator;
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::{Plan, Schedule};
use sim_models::scenario::Scenario;
use std::collections::{BTreeMap, BTreeSet};

/// Combinations taken in one round. Fixed, so that the answer does not depend on threads.
const ROUND: usize = 64;

/// Rounds of the combinations that look best, before those with the least bound.
const SEED_ROUNDS: u64 = 4;

/// A level above which nothing is: half a year, in ps.
const MOST_LEVEL: u64 = 1 << 63;

/// The schedule of every plan searched.
const SCHEDULE: Schedule = Schedule::OneFOneB;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Worker threads; 0 for as many as there are cores. The answer is the same for any number.
    pub threads: usize,
    /// Simulations after which the search stops at the end of its round.
    pub max_simulations: u64,
    /// How many plans to rank.
    pub top: usize,
    /// The instant of the traces at which the iteration starts.
    pub at: SimTime,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing was left to try.
    Done,
    /// The number of simulations was reached.
    Simulations,
    /// The time was up.
    Seconds,
    /// The user asked.
    Interrupt,
}

impl Stopped {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Stopped::Done => "done",
            Stopped::Simulations => "simulations",
            Stopped::Seconds => "seconds",
            Stopped::Interrupt => "interrupt",
        }
    }
}

/// What became of the nodes generated: `considered` is the sum of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes of the tree, partial or complete.
    pub considered: u64,
    /// Thrown out, by rule.
    pub pruned: BTreeMap<Rule, u64>,
    /// Thrown out because their bound is above the best time.
    pub bounded: u64,
    /// Plans simulated, those cut off included.
    pub simulated: u64,
    /// Partial nodes that opened others.
    pub expanded: u64,
    /// Left when the search stopped.
    pub open: u64,
}

/// A plan with its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// Its iteration, ps.
    pub time_ps: u64,
    /// The plan.
    pub plan: Plan,
}

/// The plan that came nearest to fitting into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestMiss {
    /// Bytes it lacks on one device.
    pub lacking_bytes: u64,
    /// The pipeline, in words: `2 stages: A100-40 x tp 4, V100-16 x tp 4; micro-batch 1`.
    pub pipeline: String,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The best plans, best first; empty when none is feasible.
    pub ranked: Vec<Ranked>,
    /// What became of the nodes.
    pub counts: Counts,
    /// Complete plans that the space holds: every template combination x contiguous partition x share by template.
    pub plans_represented: u128,
    /// No plan of the space is faster than this, ps.
    pub lower_bound_ps: u64,
    /// Why it ended.
    pub stopped: Stopped,
    /// Rounds completed.
    pub rounds: u64,
    /// Over (round, node, outcome, time), in order.
    pub digest: Digest,
    /// When nothing fits: what came nearest.
    pub nearest_miss: Option<NearestMiss>,
}

impl Found {
    /// (best - lower bound) / best, 0 when proven; `None` without a plan.
    pub fn gap(&self) -> Option<f64> {
        let best = self.ranked.first()?.time_ps;
        Some(if self.lower_bound_ps >= best {
            0.0
        } else {
            (best - self.lower_bound_ps) as f64 / best as f64
        })
    }
}

/// A template at a micro-batch size, with its costs.
struct Entry<'a> {
    template: Template,
    cost: TemplateCost<'a>,
    bottleneck: u64,
    /// Ways to cut the layers into its stages.
    partitions: u128,
    /// Indices into the list of zones.
    zones: BTreeSet<usize>,
}

/// What all pipelines of a plan share.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Frame {
    micro_batch: u32,
    place: Place,
}

/// So many pipelines of an entry: what a combination is made of.
struct Choice {
    frame: Frame,
    entry: usize,
    pipelines: u32,
    /// Micro-batches that one of them can run within the level: sharing gradients in its zones, and across zones.
    within: [u32; 2],
}

/// A frame and its leading choice, with the options of each kind for the devices left.
struct Root {
    frame: Frame,
    lead: Option<usize>,
    options: Vec<Vec<usize>>,
    /// Whether a combination was taken from it.
    opened: bool,
}

/// A root and an option for each kind; as many as the kind has options: left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Combination {
    /// Micro-batches to spare within the level, over the batch's in 2^20ths, highest first.
    spare: std::cmp::Reverse<u64>,
    root: usize,
    options: Vec<usize>,
}

/// One plan of a round.
struct Outcome {
    ended: Ended,
    plan: Option<Plan>,
    lacks: Option<(NoFit, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Pruned(Rule),
    Bounded,
    /// Ended at that time, ps, or cut off.
    Simulated(Option<u64>),
}

/// How far a search is, for a progress bar.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Rounds completed.
    pub rounds: u64,
    /// Plans simulated.
    pub simulated: u64,
    /// Best time so far, ps.
    pub best_ps: Option<u64>,
    /// The level, ps: no plan left is faster.
    pub level_ps: u64,
}

/// What a search is asked before each round: go on, or why it ends.
pub type Stop<'s> = dyn FnMut(&Progress) -> Option<Stopped> + Send + 's;

/// Searches `scenario`. `stop` is asked before each round and ends the search there.
///
/// Returns the same for any number of threads, on any machine, as long as `stop` says nothing.
pub fn search(scenario: &Scenario, options: &Options, stop: &mut Stop<'_>) -> Found {
    let fabric = Fabric::new(scenario);
    let mut run = || {
        let mut search = Search::new(scenario, &fabric, options);
        let stopped = search.run(stop);
        search.found(stopped)
    };
    match rayon::ThreadPoolBuilder::new().num_threads(options.threads).build() {
        Ok(pool) => pool.install(run),
        Err(_) => run(),
    }
}

struct Search<'a> {
    scenario: &'a Scenario,
    fabric: &'a Fabric,
    options: &'a Options,
    kinds: Vec<Kind>,
    entries: Vec<Entry<'a>>,
    choices: Vec<Choice>,
    roots: Vec<Root>,
    /// Combinations taken, and those of the level that wait.
    taken: BTreeSet<(usize, Vec<usize>)>,
    waiting: BTreeSet<Combination>,
    /// Nothing was within this level, ps.
    empty_level: u64,
    counts: Counts,
    plans_represented: u128,
    ranked: BTreeSet<Ranked>,
    rounds: u64,
    digest: Digest,
    nearest: Option<(i128, NearestMiss)>,
}

impl<'a> Search<'a> {
    fn new(scenario: &'a Scenario, fabric: &'a Fabric, options: &'a Options) -> Self {
        let mut search = Search {
            scenario,
            fabric,
            options,
            kinds: kinds(scenario),
            entries: Vec::new(),
            choices: Vec::new(),
            roots: Vec::new(),
            taken: BTreeSet::new(),
            waiting: BTreeSet::new(),
            empty_level: 0,
            counts: Counts::default(),
            plans_represented: 0,
            ranked: BTreeSet::new(),
            rounds: 0,
            digest: Digest::EMPTY,
            nearest: None,
        };
        search.open_templates();
        search
    }

    fn prune(&mut self, rule: Rule) {
        *self.counts.pruned.entry(rule).or_default() += 1;
    }

    fn micro_batches(&self, size: u32) -> u32 {
        self.scenario.training.global_batch / size
    }

    /// The top of the tree: every template at every micro-batch size, then the roots.
    fn open_templates(&mut self) {
        let scenario = self.scenario;
        let measured = |k: &Kind| {
            let table = scenario.groups[k.group].layers.as_deref();
            table.into_iter().flat_map(|t| t.configurations().map(|(b, _)| b)).collect::<BTreeSet<u32>>()
        };
        let sizes: BTreeSet<u32> = if scenario.search.micro_batches.is_empty() {
            self.kinds.iter().flat_map(measured).collect()
        } else {
            scenario.search.micro_batches.iter().copied().collect()
        };
        let shapes = templates(&self.kinds, scenario.search.max_stages);
        for size in sizes {
            if size == 0 || !scenario.training.global_batch.is_multiple_of(size) {
                self.counts.considered += 1;
                self.prune(Rule::BatchNotDivisible);
                continue;
            }
            for place in [Place::Stages, Place::Pipelines] {
                self.open_frame(&shapes, Frame { micro_batch: size, place });
            }
        }
    }

    fn open_frame(&mut self, shapes: &[Template], frame: Frame) {
        // Where no two stages of a pipeline can share a node, the placements are one.
        let differs = |t: &&Template| {
            let pair =
                |p: &[StageShape]| p[0] == p[1] && p[0].tp < self.kinds[p[0].kind as usize].gpus_per_node;
            frame.place == Place::Stages || t.stages.windows(2).any(pair)
        };
        let whole = |t: &&Template| frame.place == Place::Stages || t.stages.len() == 1;
        let shapes: Vec<&Template> = shapes.iter().filter(|t| differs(t) || whole(t)).collect();
        let priced: Vec<_> = shapes.par_iter().map(|t| self.price(t, frame)).collect();
        self.counts.considered += priced.len() as u64;
        let first = self.entries.len();
        for (template, priced) in shapes.iter().zip(priced) {
            match priced {
                Ok(entry) => {
                    self.counts.expanded += 1;
                    self.entries.push(entry);
                }
                Err((rule, lacks)) => {
                    self.prune(rule);
                    if let Some(lacks) = lacks {
                        self.note_miss(lacks, template, frame.micro_batch);
                    }
                }
            }
        }
        self.open_roots(frame, first);
    }

    /// Costs of a template at a micro-batch size, or the rule that throws it out.
    fn price(&self, template: &Template, frame: Frame) -> Result<Entry<'a>, (Rule, Option<NoFit>)> {
        let layers = self.scenario.model.layers();
        if template.stages.len() as u32 > layers {
            return Err((Rule::TooManyStages, None));
        }
        // Placed stage by stage, a replica's next stage is as many devices further on as the stage has in all.
        let free: Vec<u32> = self.kinds.iter().map(|k| k.devices.len() as u32).collect();
        let pipelines = template.most(&free);
        let far = |s: &StageShape| pipelines * s.tp >= self.kinds[s.kind as usize].gpus_per_node;
        let apart = match frame.place {
            Place::Stages if template.stages.iter().all(far) => Apart::Always,
            _ => Apart::Maybe,
        };
        let cost = TemplateCost::new(
            self.scenario,
            &self.kinds,
            template,
            frame.micro_batch,
            SCHEDULE,
            apart,
            pipelines,
        )
        .map_err(|_| (Rule::NotMeasured, None))?;
        let lacks = cost.least_excess(|_| 1);
        if lacks > 0 {
            return Err((Rule::Memory, Some(NoFit(lacks))));
        }
        let bottleneck = cost.bottleneck().max(1);
        let partitions = choose(layers - 1, template.stages.len() as u32 - 1);
        let zone = |name: &str| self.scenario.groups.iter().position(|g| g.zone == name).unwrap_or(0);
        let kinds = template.stages.iter().map(|s| &self.kinds[s.kind as usize]);
        let zones = kinds.flat_map(|k| k.zones(self.scenario)).map(zone).collect();
        Ok(Entry { template: template.clone(), cost, bottleneck, partitions, zones })
    }

    fn note_miss(&mut self, NoFit(lacks): NoFit, template: &Template, micro_batch: u32) {
        if self.nearest.as_ref().is_some_and(|(least, _)| *least <= lacks) {
            return;
        }
        let mut parts: Vec<String> = Vec::new();
        for stages in template.stages.chunk_by(|a, b| a == b) {
            let gpu = &self.kinds[stages[0].kind as usize].gpu;
            parts.push(format!("{} x {gpu} at tp {}", stages.len(), stages[0].tp));
        }
        let stages = template.stages.len();
        let plural = if stages == 1 { "stage" } else { "stages" };
        let pipeline = format!("{stages} {plural} ({}), micro-batch {micro_batch}", parts.join(", "));
        let lacking_bytes = u64::try_from(lacks).unwrap_or(u64::MAX);
        self.nearest = Some((lacks, NearestMiss { lacking_bytes, pipeline }));
    }

    /// The roots of one frame, whose entries start at `first`.
    fn open_roots(&mut self, frame: Frame, first: usize) {
        let all: Vec<u32> = self.kinds.iter().map(|k| k.devices.len() as u32).collect();
        let one_kind = |e: &Entry<'_>| {
            let kind = e.template.stages[0].kind;
            e.template.stages.iter().all(|s| s.kind == kind).then_some(kind as usize)
        };
        let mut of_kind: Vec<Vec<usize>> = vec![Vec::new(); self.kinds.len()];
        let mut leads = vec![None];
        for (e, entry) in self.entries.iter().enumerate().skip(first) {
            match one_kind(entry) {
                Some(kind) => of_kind[kind].push(e),
                None => leads.push(Some((e, entry.template.most(&all)))),
            }
        }
        let mut known: BTreeMap<(usize, u32), usize> = BTreeMap::new();
        for lead in leads {
            let mut free = all.clone();
            if let Some((e, pipelines)) = lead {
                for (k, free) in free.iter_mut().enumerate() {
                    *free -= pipelines * self.entries[e].template.devices(k);
                }
            }
            let lead = lead.map(|(e, n)| self.choice(&mut known, frame, e, n));
            let mut options = Vec::with_capacity(free.len());
            for (k, list) in of_kind.iter().enumerate() {
                let mut of_this = Vec::new();
                for &e in list {
                    let pipelines = free[k] / self.entries[e].template.devices(k);
                    if pipelines > 0 {
                        of_this.push(self.choice(&mut known, frame, e, pipelines));
                    }
                }
                options.push(of_this);
            }
            if lead.is_some() || options.iter().any(|o| !o.is_empty()) {
                let root = Root { frame, lead, options, opened: false };
                self.plans_represented = self.plans_represented.saturating_add(self.represented(&root));
                self.roots.push(root);
                self.counts.considered += 1;
            }
        }
    }

    fn choice(
        &mut self,
        known: &mut BTreeMap<(usize, u32), usize>,
        frame: Frame,
        entry: usize,
        pipelines: u32,
    ) -> usize {
        *known.entry((entry, pipelines)).or_insert_with(|| {
            self.choices.push(Choice { frame, entry, pipelines, within: [0; 2] });
            self.choices.len() - 1
        })
    }

    /// Complete plans under one root: for each choice of options, its partitions times its shares by template.
    fn represented(&self, root: &Root) -> u128 {
        let partitions = |c: usize| self.entries[self.choices[c].entry].partitions;
        // Sums over the choices of partitions, by number of templates chosen: index is that number.
        let mut by_count = vec![0u128; root.options.len() + 2];
        by_count[usize::from(root.lead.is_some())] = root.lead.map_or(1, partitions);
        for options in &root.options {
            let sum = options.iter().fold(0u128, |sum, c| sum.saturating_add(partitions(*c)));
            for n in (1..by_count.len()).rev() {
                by_count[n] = by_count[n].saturating_add(by_count[n - 1].saturating_mul(sum));
            }
        }
        let total = self.micro_batches(root.frame.micro_batch);
        let plans =
            |(n, partitions): (usize, &u128)| partitions.saturating_mul(choose(total - 1, n as u32 - 1));
        by_count.iter().enumerate().skip(1).map(plans).fold(0, u128::saturating_add)
    }

    /// How many micro-batches each choice that matters can run within `level`. Levels only rise, so the last answer is
    /// where to start.
    ///
    /// First by a quotient for all, which is never too few; then exactly, for the leading choices of roots that could
    /// still hold something, and then for the options of those that still can.
    fn raise(&mut self, level: u64, view: View) {
        let mut most: Vec<u64> = self.choices.par_iter().map(|c| self.at_most(c, level)).collect();
        let mut needed = vec![false; self.choices.len()];
        for root in &self.roots {
            if let Some(lead) = root.lead.filter(|_| self.may_hold(root, &most)) {
                needed[lead] = true;
            }
        }
        self.measure(&needed, level, view, &mut most);
        let mut needed = vec![false; self.choices.len()];
        for root in &self.roots {
            let need = u64::from(self.micro_batches(root.frame.micro_batch));
            let best: Vec<u64> = root.options.iter().map(|list| greatest(list, &most)).collect();
            let all = root.lead.map_or(0, |l| most[l]) + best.iter().sum::<u64>();
            for (list, best) in root.options.iter().zip(&best) {
                for &c in list {
                    needed[c] |= all - best + most[c] >= need;
                }
            }
        }
        self.measure(&needed, level, view, &mut most);
    }

    /// No fewer micro-batches than all pipelines of a choice can run within the level: a stage's steps alone, less the
    /// last transfers.
    fn at_most(&self, choice: &Choice, level: u64) -> u64 {
        let entry = &self.entries[choice.entry];
        let each = level.saturating_add(entry.cost.slack()) / entry.bottleneck;
        let each = each.min(entry.cost.over_zone_link(choice.pipelines, level));
        each.min(u64::from(self.micro_batches(choice.frame.micro_batch))) * u64::from(choice.pipelines)
    }

    /// Whether a root can run its batch, if each choice can run `most`.
    fn may_hold(&self, root: &Root, most: &[u64]) -> bool {
        let options: u64 = root.options.iter().map(|list| greatest(list, most)).sum();
        root.lead.map_or(0, |l| most[l]) + options >= u64::from(self.micro_batches(root.frame.micro_batch))
    }

    /// Finds out exactly what the needed choices can run within the level.
    fn measure(&mut self, needed: &[bool], level: u64, view: View, most: &mut [u64]) {
        let several_zones = self.scenario.groups.iter().any(|g| g.zone != self.scenario.groups[0].zone);
        let (entries, rings) = (&self.entries, Rings::new(self.scenario, &self.kinds));
        self.choices.par_iter_mut().zip(most).zip(needed).for_each(|((choice, most), needed)| {
            if !needed {
                return;
            }
            let (cost, own) = (&entries[choice.entry].cost, choice.pipelines);
            let mut high = (*most / u64::from(own)) as u32;
            for across in [false, true] {
                let at = usize::from(across);
                if across && !several_zones {
                    choice.within[1] = choice.within[0];
                    continue;
                }
                let sync = rings.sync(cost, own, own, across, view);
                choice.within[at] = largest(choice.within[at], high, |n| cost.within(n, &sync, view, level));
                // Sharing across zones takes no less time.
                high = choice.within[at];
            }
            *most = u64::from(choice.within[0]) * u64::from(own);
        });
    }

    /// Goes back to a lower level: what waits and is not within it is thrown out.
    fn lower(&mut self, level: u64) {
        let waited = std::mem::take(&mut self.waiting);
        self.choices.iter_mut().for_each(|c| c.within = [0; 2]);
        self.raise(level, View::Bound);
        self.open_combinations();
        let kept: BTreeSet<(usize, &Vec<usize>)> =
            self.waiting.iter().map(|c| (c.root, &c.options)).collect();
        let thrown = waited.iter().filter(|c| !kept.contains(&(c.root, &c.options))).count() as u64;
        self.counts.considered += thrown;
        self.counts.bounded += thrown;
    }

    /// Takes in the combinations within the level that were not taken yet; whether there are any, taken or not.
    fn open_combinations(&mut self) -> bool {
        let this = &*self;
        let found: Vec<Vec<Combination>> =
            (0..this.roots.len()).into_par_iter().map(|r| this.combinations(r)).collect();
        let any = found.iter().any(|list| !list.is_empty());
        for c in found.into_iter().flatten() {
            if !self.taken.contains(&(c.root, c.options.clone())) {
                self.waiting.insert(c);
            }
        }
        any
    }

    /// The combinations of a root within the level.
    fn combinations(&self, r: usize) -> Vec<Combination> {
        let root = &self.roots[r];
        let need = u64::from(self.micro_batches(root.frame.micro_batch));
        let most = |c: usize| u64::from(self.choices[c].within[0]) * u64::from(self.choices[c].pipelines);
        // The best that the kinds from each on can add.
        let mut rest = vec![0u64; root.options.len() + 1];
        for (k, options) in root.options.iter().enumerate().rev() {
            rest[k] = rest[k + 1] + options.iter().map(|c| most(*c)).max().unwrap_or(0);
        }
        let mut list = Vec::new();
        let mut stack = vec![(root.lead.map_or(0, most), Vec::new())];
        while let Some((sum, options)) = stack.pop() {
            let k = options.len();
            if sum + rest[k] < need {
                continue;
            }
            if k < root.options.len() {
                for (o, c) in root.options[k].iter().enumerate().filter(|(_, c)| most(**c) > 0) {
                    stack.push((sum + most(*c), [&options[..], &[o]].concat()));
                }
                stack.push((sum, [&options[..], &[root.options[k].len()]].concat()));
            } else if let Some(sum) = self.whole(root, &options).filter(|sum| *sum >= need) {
                list.push(Combination { spare: std::cmp::Reverse((sum << 20) / need), root: r, options });
            }
        }
        list
    }

    /// The parts of a combination: lead first, then kind by kind.
    fn parts(&self, root: &Root, options: &[usize]) -> Vec<usize> {
        let chosen = options.iter().zip(&root.options).filter_map(|(o, list)| list.get(*o).copied());
        root.lead.into_iter().chain(chosen).collect()
    }

    /// Whether some other part lies wholly in other zones, for each part.
    fn across(&self, parts: &[usize]) -> Vec<bool> {
        let zones = |c: &usize| &self.entries[self.choices[*c].entry].zones;
        parts.iter().map(|c| parts.iter().any(|d| zones(c).is_disjoint(zones(d)))).collect()
    }

    /// Micro-batches that a combination can run within the level; `None` when a part cannot run one.
    fn whole(&self, root: &Root, options: &[usize]) -> Option<u64> {
        let parts = self.parts(root, options);
        let across = self.across(&parts);
        let run = |(c, across): (&usize, &bool)| {
            let choice = &self.choices[*c];
            let n = choice.within[usize::from(*across)];
            (n > 0).then(|| u64::from(n) * u64::from(choice.pipelines))
        };
        parts.iter().zip(&across).map(run).sum()
    }

    fn run(&mut self, stop: &mut Stop<'_>) -> Stopped {
        if self.roots.is_empty() {
            return Stopped::Done;
        }
        // The first level that may hold something: all devices busy all the time.
        let need = |root: &Root| f64::from(self.micro_batches(root.frame.micro_batch));
        let rate = |c: usize| {
            f64::from(self.choices[c].pipelines) / self.entries[self.choices[c].entry].bottleneck as f64
        };
        let most = |list: &Vec<usize>| {
            list.iter().fold(0.0, |best, c| if rate(*c) > best { rate(*c) } else { best })
        };
        let least = |root: &Root| {
            need(root) / (root.lead.map_or(0.0, rate) + root.options.iter().map(most).fold(0.0, |a, b| a + b))
        };
        let start = self.roots.iter().map(least).fold(f64::INFINITY, |a, b| if b < a { b } else { a });
        // A pipeline counts as done one transfer early in that estimate.
        let early = self.entries.iter().map(|e| e.cost.slack()).max().unwrap_or(0);
        let start = ((start * (1.0 - 1e-9)) as u64).saturating_sub(early).max(1);
        if let Some(stopped) = self.seed(start, stop) {
            return stopped;
        }
        self.prove(start, stop)
    }

    /// The combinations that look best by their estimates, so that there is a good time to throw others out by.
    fn seed(&mut self, start: u64, stop: &mut Stop<'_>) -> Option<Stopped> {
        let mut level = start;
        loop {
            self.raise(level, View::Estimate);
            self.open_combinations();
            while !self.waiting.is_empty() && self.rounds < SEED_ROUNDS {
                if let Some(stopped) = self.ask(0, stop) {
                    return Some(stopped);
                }
                self.round();
            }
            let best = self.ranked.first().map(|r| r.time_ps);
            if self.rounds >= SEED_ROUNDS || best.is_some_and(|b| b < level) || level > MOST_LEVEL {
                self.waiting.clear();
                self.choices.iter_mut().for_each(|c| c.within = [0; 2]);
                return None;
            }
            level = next_level(level);
        }
    }

    /// Every combination whose bound is not above the best time, least first.
    fn prove(&mut self, start: u64, stop: &mut Stop<'_>) -> Stopped {
        let (mut level, mut last) = (start, false);
        if let Some(best) = self.ranked.first().filter(|r| r.time_ps <= start) {
            // Rounding apart, that cannot be; then there is nothing below.
            level = best.time_ps;
        }
        loop {
            self.raise(level, View::Bound);
            if !self.open_combinations() {
                self.empty_level = level;
            }
            while !self.waiting.is_empty() {
                let best = self.ranked.first().map(|r| r.time_ps);
                if best.is_some_and(|best| best < level) {
                    // The level passed the best time: go back to it.
                    break;
                }
                if let Some(stopped) = self.ask(level, stop) {
                    return stopped;
                }
                self.round();
            }
            let best = self.ranked.first().map(|r| r.time_ps);
            if last && self.waiting.is_empty() {
                return Stopped::Done;
            }
            level = match best {
                Some(best) if next_level(level) >= best => {
                    last = true;
                    if best < level {
                        self.lower(best);
                    }
                    best
                }
                _ => next_level(level),
            };
            if best.is_none() && level > MOST_LEVEL {
                return Stopped::Done;
            }
            if let Some(stopped) = self.ask(level, stop) {
                return stopped;
            }
        }
    }

    fn ask(&self, level_ps: u64, stop: &mut Stop<'_>) -> Option<Stopped> {
        let simulated = self.counts.simulated;
        if simulated >= self.options.max_simulations {
            return Some(Stopped::Simulations);
        }
        let best_ps = self.ranked.first().map(|r| r.time_ps);
        stop(&Progress { rounds: self.rounds, simulated, best_ps, level_ps })
    }

    fn round(&mut self) {
        let mut round = Vec::with_capacity(ROUND);
        while round.len() < ROUND {
            let Some(next) = self.waiting.pop_first() else { break };
            round.push(next);
        }
        let worst = self.ranked.last().filter(|_| self.ranked.len() >= self.options.top);
        let cutoff = worst.map(|r| SimTime::from_ps(r.time_ps));
        let this = &*self;
        let outcomes: Vec<Outcome> = round
            .par_iter()
            .map_init(
                || Simulator::new(this.scenario, this.fabric),
                |simulator, c| this.try_one(simulator, c, cutoff),
            )
            .collect();
        for (c, outcome) in round.into_iter().zip(outcomes) {
            if !std::mem::replace(&mut self.roots[c.root].opened, true) {
                self.counts.expanded += 1;
            }
            self.counts.considered += 2;
            self.counts.expanded += 1;
            let micro_batch = self.roots[c.root].frame.micro_batch;
            self.settle(&c, micro_batch, outcome);
            self.taken.insert((c.root, c.options));
        }
        self.rounds += 1;
    }

    /// Counts one plan, and ranks it.
    fn settle(&mut self, c: &Combination, micro_batch: u32, outcome: Outcome) {
        let (code, time) = match outcome.ended {
            Ended::Pruned(rule) => {
                self.prune(rule);
                (1 + rule as u64, 0)
            }
            Ended::Bounded => {
                self.counts.bounded += 1;
                (100, 0)
            }
            Ended::Simulated(time) => {
                self.counts.simulated += 1;
                (101 + u64::from(time.is_none()), time.unwrap_or(0))
            }
        };
        self.digest.add(self.rounds, c.root as u64);
        for option in &c.options {
            self.digest.add(*option as u64, 0);
        }
        self.digest.add(code, time);
        if let Some((lacks, entry)) = outcome.lacks {
            let template = self.entries[entry].template.clone();
            self.note_miss(lacks, &template, micro_batch);
        }
        if let (Ended::Simulated(Some(time_ps)), Some(plan)) = (outcome.ended, outcome.plan) {
            self.ranked.insert(Ranked { time_ps, plan });
            while self.ranked.len() > self.options.top {
                self.ranked.pop_last();
            }
        }
    }

    /// The plan of one combination.
    fn try_one(&self, simulator: &mut Simulator<'_>, c: &Combination, cutoff: Option<SimTime>) -> Outcome {
        let pruned = |rule, lacks| Outcome { ended: Ended::Pruned(rule), plan: None, lacks };
        let root = &self.roots[c.root];
        let parts = self.parts(root, &c.options);
        let across = self.across(&parts);
        let total = self.micro_batches(root.frame.micro_batch);
        let all: u32 = parts.iter().map(|p| self.choices[*p].pipelines).sum();
        let rings = Rings::new(self.scenario, &self.kinds);
        // Shares by what each part can do within the level and by what one more micro-batch costs it at least.
        let (mut sharers, mut syncs) = (Vec::new(), Vec::new());
        for (part, across) in parts.iter().zip(&across) {
            let choice = &self.choices[*part];
            let entry = &self.entries[choice.entry];
            let (own, across) = (choice.pipelines, *across);
            let sync = rings.sync(&entry.cost, own, all, across, View::Estimate);
            let n = choice.within[usize::from(across)].max(1);
            let Some(time) = entry.cost.bound(n, &sync, View::Estimate) else {
                return pruned(Rule::Memory, None);
            };
            let one = time.saturating_sub(u64::from(n - 1).saturating_mul(entry.bottleneck));
            sharers.push(Sharer { pipelines: choice.pipelines, one, each: entry.bottleneck });
            let bound = rings.sync(&entry.cost, own, all, across, View::Bound);
            syncs.push((sync, bound));
        }
        let groups = shares(&sharers, total);
        if groups.is_empty() {
            return pruned(Rule::TooFewMicroBatches, None);
        }
        let mut borders = Vec::new();
        for ((part, sync), groups) in parts.iter().zip(&syncs).zip(&groups) {
            let entry = self.choices[*part].entry;
            let most = groups.iter().map(|(_, n)| *n).max().unwrap_or(1);
            match self.entries[entry].cost.partition(most, &sync.0) {
                Ok(b) => borders.push(b),
                Err(lacks) => return pruned(Rule::Memory, Some((lacks, entry))),
            }
        }
        let (mut placed, mut bound, mut releases) = (Vec::new(), 0, Vec::new());
        for (((part, sync), b), groups) in parts.iter().zip(&syncs).zip(&borders).zip(&groups) {
            let entry = &self.entries[self.choices[*part].entry];
            for &(replicas, micro_batches) in groups {
                bound = bound.max(entry.cost.partition_bound(b, micro_batches, &sync.1));
                placed.push(Part { template: &entry.template, borders: b, replicas, micro_batches });
                if sync.1.shared {
                    releases.push(entry.cost.releases(b, micro_batches, &sync.1));
                }
            }
        }
        bound = bound.max(one_after_another(&releases));
        if cutoff.is_some_and(|c| bound > c.as_ps()) {
            return Outcome { ended: Ended::Bounded, plan: None, lacks: None };
        }
        let Some(pipelines) = place(self.scenario, &self.kinds, &placed, root.frame.place) else {
            return pruned(Rule::Devices, None);
        };
        let micro_batch = root.frame.micro_batch;
        let plan = Plan { micro_batch, schedule: SCHEDULE, overlap_p2p: false, pipelines };
        if std::env::var_os("DBG").is_some() {
            let r = self.simulate(simulator, &plan, None);
            let est: Vec<String> = parts
                .iter()
                .zip(&syncs)
                .zip(&borders)
                .zip(&groups)
                .map(|(((p, s), b), g)| {
                    let e = &self.entries[self.choices[*p].entry];
                    g.iter()
                        .map(|(r, n)| {
                            format!(
                                "{r}x{n}: b {:.2} e {:.2} {b:?};",
                                e.cost.partition_bound(b, *n, &s.1) as f64 / 1e12,
                                e.cost.partition_estimate(b, *n, &s.0) as f64 / 1e12
                            )
                        })
                        .collect::<String>()
                })
                .collect();
            eprintln!(
                "DBG {:?} bound {:.2} sim {:.2?} {est:?}",
                root.frame.place,
                bound as f64 / 1e12,
                r.map(|x| x.map(|t| t as f64 / 1e12))
            );
        }
        match self.simulate(simulator, &plan, cutoff) {
            Ok(time) => Outcome { ended: Ended::Simulated(time), plan: Some(plan), lacks: None },
            Err(rule) => pruned(rule, None),
        }
    }

    /// The plan's time, or `None` when it is cut off.
    fn simulate(
        &self,
        simulator: &mut Simulator<'_>,
        plan: &Plan,
        cutoff: Option<SimTime>,
    ) -> Result<Option<u64>, Rule> {
        let layout = Layout::new(self.scenario, plan).map_err(|_| Rule::Devices)?;
        let folding = Folding::of(&layout);
        match simulator.run(plan, &layout, &folding, self.options.at, cutoff) {
            Ok(outcome) if outcome.finished => Ok(Some(outcome.end.as_ps())),
            // Cut off, or stalled for ever on a link that is down: either way not faster than the best.
            Ok(_) | Err(_) => Ok(None),
        }
    }

    fn found(mut self, stopped: Stopped) -> Found {
        let best = self.ranked.first().map(|r| r.time_ps);
        let unopened = self.roots.iter().filter(|r| !r.opened).count() as u64;
        let waiting = self.waiting.len() as u64;
        self.counts.considered += waiting;
        if stopped == Stopped::Done {
            self.counts.bounded += unopened + waiting;
        } else {
            self.counts.open += unopened + waiting;
        }
        // Without a feasible plan nothing is known of its time.
        let lower_bound_ps = best.map_or(u64::MAX, |best| self.empty_level.min(best));
        Found {
            ranked: self.ranked.into_iter().collect(),
            counts: self.counts,
            plans_represented: self.plans_represented,
            lower_bound_ps,
            stopped,
            rounds: self.rounds,
            digest: self.digest,
            nearest_miss: self.nearest.map(|(_, miss)| miss),
        }
    }
}

/// A fiftieth higher.
fn next_level(level: u64) -> u64 {
    level.saturating_add(level / 50 + 1)
}

/// The greatest of some values, 0 of none.
fn greatest(list: &[usize], values: &[u64]) -> u64 {
    list.iter().map(|c| values[*c]).max().unwrap_or(0)
}

/// The least end of rings that share a link: for each layer of each pipeline, when its gradients are there and how long
/// its ring takes on the link. A ring waits for all pipelines, and the link does one thing after another.
fn one_after_another(releases: &[Vec<(u64, u64)>]) -> u64 {
    let layers = releases.first().map_or(0, Vec::len);
    let ring = |l: usize| {
        let of_layer = releases.iter().map(|r| r[l]);
        of_layer.fold((0, u64::MAX), |(end, time), (e, t)| (end.max(e), time.min(t)))
    };
    let mut rings: Vec<(u64, u64)> = (0..layers).map(ring).collect();
    rings.sort_unstable();
    let (mut left, mut bound) = (0u64, 0u64);
    for (end, time) in rings.into_iter().rev() {
        left = left.saturating_add(time);
        bound = bound.max(end.saturating_add(left));
    }
    bound
}

/// The largest number in `low ..= high` that fits, `low` if none above it does; what fits, all smaller ones do.
fn largest(low: u32, high: u32, fits: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (low, high.max(low));
    // Levels rise slowly: the answer is near `low` after the first.
    let mut step = 1;
    while low > 0 && low < high {
        let next = (low + step).min(high);
        if fits(next) {
            low = next;
            step *= 2;
        } else {
            high = next - 1;
            break;
        }
    }
    while low < high {
        let middle = high - (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// Binomial coefficient, saturating.
fn choose(n: u32, k: u32) -> u128 {
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
