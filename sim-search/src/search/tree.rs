//! The top of the tree: templates at micro-batch sizes and placements, and the roots of combinations.

use super::{Choice, Entry, Frame, NearestMiss, Root, SCHEDULE, Search};
use crate::cost::{Apart, NoFit, TemplateCost};
use crate::place::Place;
use crate::rules::Rule;
use crate::space::{Kind, StageShape, Template, templates};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

impl<'a> Search<'a> {
    /// The top of the tree: every template at every micro-batch size, then the roots.
    pub(super) fn open_templates(&mut self) {
        let scenario = self.scenario;
        let usual = |k: &Kind| scenario.groups[k.group].layers.micro_batches();
        let sizes: BTreeSet<u32> = if scenario.search.micro_batches.is_empty() {
            self.kinds.iter().flat_map(usual).collect()
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
    fn price(&self, template: &Template, frame: Frame) -> Result<Entry, (Rule, Option<NoFit>)> {
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

    pub(super) fn note_miss(&mut self, NoFit(lacks): NoFit, template: &Template, micro_batch: u32) {
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
        let one_kind = |e: &Entry| {
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
