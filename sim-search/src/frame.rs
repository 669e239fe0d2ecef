//! The part of the space that depends on costs: which templates there are at a micro-batch size under a recipe, and which of
//! them a frame joins. The search and the checker of its certificates share it, as they share [`crate::space`].

use crate::cost::{NEVER, Tables, TemplateCost};
use crate::place::Place;
use crate::rules::Rule;
use crate::space::{Kind, Recipe, StageShape, Template, recipes, templates};
use rayon::prelude::*;
use sim_models::scenario::Scenario;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Micro-batches of an iteration at most: shares of more are neither counted nor simulated.
const MOST_MICRO_BATCHES: u32 = 1 << 16;

/// What all pipelines of a plan share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) micro_batch: u32,
    pub(crate) recipe: Recipe,
    pub(crate) place: Place,
    /// Whether its pipelines that join kinds, or some of its pipelines where none do, fit by no usual recipe: all others are in
    /// the frames of the usual one.
    pub(crate) fresh: bool,
}

impl Frame {
    /// Whether so many templates are a combination of this frame and of no other: some of them placed differently in this
    /// placement, the leading one or one of them fresh.
    pub(crate) fn joins(&self, templates: usize, differs: bool, fresh: bool) -> bool {
        templates > 0
            && (templates == 1 || !self.recipe.alike())
            && (fresh || !self.fresh)
            && (differs || self.place == Place::Stages)
    }
}

/// A template at a micro-batch size under a recipe.
pub(crate) struct Entry {
    pub(crate) cost: Arc<TemplateCost>,
    /// Whether no cut fits by the usual recipe with as many micro-batches in flight as the schedule has.
    pub(crate) fresh: bool,
}

/// What is known of a template before its pipelines are counted, or the rule that throws it out; `None` where it is not tried.
pub(crate) type Priced = Option<Result<Entry, Rule>>;

/// Templates at a micro-batch size under a recipe that a rule threw out before their pipelines were counted.
pub(crate) struct ThrownOut {
    pub(crate) micro_batch: u32,
    pub(crate) recipe: Recipe,
    pub(crate) templates: Vec<(u32, Rule)>,
}

impl ThrownOut {
    pub(crate) fn new(space: &Space<'_>, (recipe, micro_batch): (usize, u32), priced: &[Priced]) -> Self {
        let of = |(t, priced): (usize, &Priced)| match priced {
            Some(Err(rule)) => Some((t as u32, *rule)),
            _ => None,
        };
        let templates = priced.iter().enumerate().filter_map(of).collect();
        ThrownOut { micro_batch, recipe: space.recipes[recipe], templates }
    }
}

/// The templates of a scenario and the ways to train them.
pub(crate) struct Space<'a> {
    scenario: &'a Scenario,
    kinds: &'a [Kind],
    pub(crate) templates: Vec<Template>,
    /// By template, whether its placements differ: two stages of a pipeline can share a node, or nodes are in several groups.
    pub(crate) differs: Vec<bool>,
    /// By template that recomputes nothing more than others: those that are it but for what they recompute, in a row.
    again: Vec<Range<usize>>,
    pub(crate) recipes: Vec<Recipe>,
    /// Whether the scenario lists the recipes.
    listed: bool,
}

impl<'a> Space<'a> {
    pub(crate) fn new(scenario: &'a Scenario, kinds: &'a [Kind]) -> Space<'a> {
        let (templates, again) = templates(scenario, kinds);
        let (recipes, listed) = recipes(scenario);
        let pair = |p: &[StageShape]| {
            let kind = &kinds[p[0].kind as usize];
            (p[0] == p[1] && p[0].split.block() < kind.gpus_per_node) || kind.groups.len() > 1
        };
        let differs = templates.iter().map(|t| t.stages.windows(2).any(pair)).collect();
        Space { scenario, kinds, templates, differs, again, recipes, listed }
    }

    /// Micro-batch sizes, those that do not divide the batch included.
    pub(crate) fn sizes(&self) -> BTreeSet<u32> {
        let usual = |k: &Kind| self.scenario.groups[k.group].layers.micro_batches();
        match &self.scenario.search.micro_batches[..] {
            [] => self.kinds.iter().flat_map(usual).collect(),
            given => given.iter().copied().collect(),
        }
    }

    /// Why no plan has micro-batches of this size, if none has.
    pub(crate) fn refuses(&self, micro_batch: u32) -> Option<Rule> {
        let batch = self.scenario.training.global_batch;
        match batch.checked_div(micro_batch) {
            Some(count) if batch.is_multiple_of(micro_batch) => {
                (count > MOST_MICRO_BATCHES).then_some(Rule::TooLarge)
            }
            _ => Some(Rule::BatchNotDivisible),
        }
    }

    /// A frame of a recipe, by its index.
    pub(crate) fn frame(&self, recipe: usize, micro_batch: u32, place: Place) -> Frame {
        Frame { micro_batch, recipe: self.recipes[recipe], place, fresh: recipe > 0 && !self.listed }
    }

    /// Leading templates of a frame, `None` first. Where the placements are one, that by stages stands for both.
    pub(crate) fn leads(&self, frame: &Frame, priced: &[Priced]) -> Vec<Option<usize>> {
        let there = |t: &usize| matches!(&priced[*t], Some(Ok(entry)) if entry.fresh || !frame.fresh);
        let placed = |t: &usize| frame.place == Place::Stages || self.differs[*t];
        let joins = |t: &usize| self.templates[*t].one_kind().is_none() && placed(t);
        let fits = |t: &usize| self.beside(frame, Some(*t)).0 > 0;
        let leads = (0..priced.len()).filter(there).filter(joins).filter(fits);
        std::iter::once(None).chain(leads.map(Some)).collect()
    }

    /// Pipelines of a leading template at most, and devices of each kind beside as many: none beside alike pipelines.
    pub(crate) fn beside(&self, frame: &Frame, lead: Option<usize>) -> (u32, Vec<u32>) {
        let all: Vec<u32> = self.kinds.iter().map(|k| k.devices.len() as u32).collect();
        let Some(template) = lead.map(|t| &self.templates[t]) else { return (0, all) };
        let pipelines = self.numbered(frame, template, template.most(&all));
        let left = |(k, all): (usize, &u32)| match frame.recipe.alike() {
            true => 0,
            false => all - pipelines * template.devices(k),
        };
        (pipelines, all.iter().enumerate().map(left).collect())
    }

    /// Templates for so many devices of a kind, and how many of their pipelines fit.
    pub(crate) fn menu(&self, frame: &Frame, priced: &[Priced], kind: usize, free: u32) -> Vec<(usize, u32)> {
        let most = |t: usize| {
            let template = &self.templates[t];
            self.numbered(frame, template, free / template.devices(kind))
        };
        let mine = (0..priced.len()).filter(|t| matches!(priced[*t], Some(Ok(_))));
        let mine = mine.filter(|t| self.templates[*t].one_kind() == Some(kind));
        mine.map(|t| (t, most(t))).filter(|(_, pipelines)| *pipelines > 0).collect()
    }

    /// Of so many pipelines of a template those that a frame may have; 0 where it has none.
    fn numbered(&self, frame: &Frame, template: &Template, most: u32) -> u32 {
        let need = self.micro_batches(frame);
        match frame.recipe.alike() && !need.is_multiple_of(template.team()) {
            true => 0,
            false => template.whole(most.min(need)),
        }
    }

    /// Micro-batches of an iteration.
    fn micro_batches(&self, frame: &Frame) -> u32 {
        self.scenario.training.global_batch / frame.micro_batch
    }

    /// Micro-batch sizes of plans.
    pub(crate) fn dividing(&self) -> Vec<u32> {
        self.sizes().into_iter().filter(|size| self.refuses(*size).is_none()).collect()
    }

    /// Recipe by recipe and size by size, every template by its index. Without `bounds`, none is thrown out because a dynamic
    /// program says that none of its cuts fits into memory.
    pub(crate) fn all_priced(&self, bounds: bool) -> impl Iterator<Item = (usize, u32, Arc<Vec<Priced>>)> {
        let sizes = self.dividing();
        let pairs = (0..self.recipes.len()).flat_map(move |recipe| {
            sizes.clone().into_iter().enumerate().map(move |(i, size)| (recipe, i, size))
        });
        let mut usual: Vec<Arc<Vec<Priced>>> = Vec::new();
        pairs.map(move |(recipe, i, micro_batch)| {
            let known = usual.get(i).map_or(&[][..], |usual| usual);
            let priced = Arc::new(self.priced(recipe, micro_batch, known, bounds));
            if recipe == 0 {
                usual.push(Arc::clone(&priced));
            }
            (recipe, micro_batch, priced)
        })
    }

    /// Every template at a micro-batch size under a recipe; `usual`: under the first one.
    fn priced(&self, recipe: usize, micro_batch: u32, usual: &[Priced], bounds: bool) -> Vec<Priced> {
        let tables = Tables::new(self.scenario, self.kinds, micro_batch, self.recipes[recipe]);
        let lacks = |priced: &Priced| match priced {
            Some(Ok(entry)) => entry.cost.lacks_memory(),
            Some(Err(rule)) => *rule == Rule::Memory,
            None => false,
        };
        let only_fresh = recipe > 0 && !self.listed;
        let plain: Vec<usize> = (0..self.again.len()).collect();
        let fresh: Vec<bool> = if only_fresh {
            plain.par_iter().map(|t| lacks(&usual[*t])).collect()
        } else {
            vec![true; plain.len()]
        };
        if !fresh.contains(&true) {
            return self.templates.iter().map(|_| None).collect();
        }
        // Nobody gathers parameters for every pass of a pipeline of several stages unless told to.
        let alone = only_fresh && self.recipes[recipe].alike();
        let price = |t: usize, fresh: bool| -> Priced {
            let tried = !alone || (fresh && self.templates[t].stages.len() == 1);
            tried.then(|| price(&tables, &self.templates[t], bounds, only_fresh && fresh))
        };
        let mut list: Vec<Priced> = plain.par_iter().map(|t| price(*t, fresh[*t])).collect();
        // What recomputes follows, in the order of what it is without; where the scenario lists none, only the first that fits
        // where nothing fits without.
        let listed = !self.scenario.search.ways.recompute.is_empty();
        let again: Vec<Vec<Priced>> = plain
            .par_iter()
            .map(|t| {
                let mut wanting = listed || lacks(&list[*t]);
                let mut one = |variant: usize| {
                    let priced = if wanting { price(variant, fresh[*t]) } else { None };
                    // What it would repeat may not be known apart.
                    let priced = priced.filter(|p| listed || !matches!(p, Err(Rule::NotMeasured)));
                    wanting = listed
                        || (wanting && !matches!(&priced, Some(Ok(entry)) if !entry.cost.lacks_memory()));
                    priced
                };
                self.again[*t].clone().map(&mut one).collect()
            })
            .collect();
        list.extend(again.into_iter().flatten());
        list
    }
}

/// Costs of a template, or the rule that throws it out.
fn price(tables: &Tables<'_>, template: &Template, bounds: bool, fresh: bool) -> Result<Entry, Rule> {
    let layers = tables.scenario().model.layers();
    if template.stages.len() as u32 > layers {
        return Err(Rule::TooManyStages);
    }
    let cost = TemplateCost::new(tables, template).map_err(|_| Rule::NotMeasured)?;
    // One stage may run the whole model, and its pipeline the whole batch.
    let longest = cost.stages.iter().map(|s| s.work(0, cost.layers)).max().unwrap_or(0);
    if longest > NEVER / 2 / u64::from(tables.micro_batches()) {
        return Err(Rule::TooLarge);
    }
    if bounds && !cost.fits(1, u64::MAX) {
        return Err(Rule::Memory);
    }
    Ok(Entry { cost: Arc::new(cost), fresh })
}
