//! Checks a certificate without the search: that its nodes cover the space, that none of them claims a bound below the answer,
//! and that costs bear each of them out. It walks the space by itself; of the search it shares the statement of the space and
//! the costs, and simulates again every plan that no bound excludes.

pub use crate::certificate::Certificate;
use crate::cost::beside::{self, PartOf};
use crate::cost::cuts::View;
use crate::cost::placed::Placed;
use crate::cost::rings::Rings;
use crate::cost::setting::{Apart, Sharers, kind_bit};
use crate::cost::{Setting, Tables, TemplateCost};
use crate::place::Place;
use crate::search::Fate;
use crate::space::{Kind, StageShape, Template, kinds, templates};
use sim_core::SimTime;
use sim_models::fold::Folding;
use sim_models::iteration::{Simulator, memory_needs};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::{Plan, Schedule};
use sim_models::scenario::Scenario;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Nodes that the certificate lists and that were borne out.
    pub nodes: u64,
    /// Nodes gone through.
    pub opened: u64,
    /// Plans simulated again.
    pub simulated: u64,
}

/// Why a certificate does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The best plan is not what it is said to be.
    #[error("the best plan: {0}")]
    Best(String),
    /// The lower bound is above the best time.
    #[error("the lower bound of {lower} ps is above the best time of {best} ps")]
    Order {
        /// The bound.
        lower: u64,
        /// The time.
        best: u64,
    },
    /// A node claims less than the answer.
    #[error("node {key:?} claims a bound of {bound} ps, below the answer of {lower} ps")]
    Undercuts {
        /// The node.
        key: Vec<u32>,
        /// What it claims.
        bound: u64,
        /// The answer.
        lower: u64,
    },
    /// A plan below the answer is not among the nodes.
    #[error("no node covers plan {0:?}, which no bound excludes")]
    NotCovered(Vec<u32>),
    /// A plan is faster than it may be.
    #[error("plan {key:?} takes {time} ps, less than the lower bound of {lower} ps")]
    Faster {
        /// The plan.
        key: Vec<u32>,
        /// Its time.
        time: u64,
        /// The bound.
        lower: u64,
    },
}

/// Checks `certificate` of a search of `scenario` from instant `at` of its traces.
///
/// # Errors
/// The first flaw.
pub fn verify(scenario: &Scenario, at: SimTime, certificate: &Certificate) -> Result<Verified, Flaw> {
    let (kinds, fabric) = (kinds(scenario), Fabric::new(scenario));
    let rings = Rings::new(scenario, &kinds);
    let mut checker = Checker {
        scenario,
        kinds: &kinds,
        templates: templates(&kinds, scenario.search.max_stages),
        at,
        lower: certificate.lower_bound_ps,
        nodes: certificate.nodes.iter().map(|(key, fate)| (&key[..], *fate)).collect(),
        simulator: Simulator::new(scenario, &fabric),
        done: Verified::default(),
    };
    if let Some(best) = &certificate.best {
        if best.time_ps < certificate.lower_bound_ps {
            return Err(Flaw::Order { lower: certificate.lower_bound_ps, best: best.time_ps });
        }
        match checker.time(&best.plan, None) {
            Some(time) if time == best.time_ps => {}
            Some(time) => {
                return Err(Flaw::Best(format!("it takes {time} ps, not {} ps", best.time_ps)));
            }
            None => return Err(Flaw::Best("it does not fit or does not end".into())),
        }
    }
    checker.space(&rings)?;
    Ok(checker.done)
}

struct Checker<'a> {
    scenario: &'a Scenario,
    kinds: &'a [Kind],
    templates: Vec<Template>,
    at: SimTime,
    lower: u64,
    nodes: BTreeMap<&'a [u32], Fate>,
    simulator: Simulator<'a>,
    done: Verified,
}

/// A frame with a leading template, priced.
struct Root<'r> {
    rings: &'r Rings<'r>,
    costs: &'r [Option<TemplateCost>],
    templates: &'r [Template],
    micro_batch: u32,
    place: Place,
    need: u32,
    /// What pipelines of a template run below the answer, by whom they share gradients with.
    known: &'r RefCell<BTreeMap<(usize, Sharers), u32>>,
    lead: Option<(usize, u32)>,
    /// Templates on what is left of each kind, and how many pipelines.
    menus: Vec<Vec<(usize, u32)>>,
}

impl<'r> Root<'r> {
    /// The parts of a key, as far as it goes.
    fn parts(&self, key: &[u32]) -> Vec<PartOf<'r>> {
        let of = |(t, pipelines): (usize, u32)| {
            let cost = self.costs[t].as_ref()?;
            Some(PartOf { template: &self.templates[t], cost, pipelines })
        };
        let options = key[2..].iter().zip(&self.menus);
        let find = |(option, menu): (&u32, &Vec<(usize, u32)>)| {
            menu.iter().find(|(t, _)| *t + 1 == *option as usize).copied()
        };
        self.lead.into_iter().chain(options.filter_map(find)).filter_map(of).collect()
    }

    fn alone(&self, part: &PartOf<'_>) -> Setting {
        let kinds = self.rings.kinds();
        let far = |s: &StageShape| part.pipelines * s.tp >= kinds[s.kind as usize].gpus_per_node;
        let apart = match self.place {
            Place::Stages if part.template.stages.iter().all(far) => Apart::Always,
            _ => Apart::Maybe,
        };
        Setting::at_best(self.rings, part.template, self.micro_batch, apart)
    }

    /// What surrounds the parts of a whole combination.
    fn beside(&self, parts: &[PartOf<'_>]) -> Vec<Setting> {
        let alone: Vec<Setting> = parts.iter().map(|p| self.alone(p)).collect();
        beside::settings(self.rings, self.place, parts, &alone.iter().collect::<Vec<_>>())
    }

    /// The most micro-batches that a part runs within `time`, sharing gradients so; looked into once.
    fn run(&self, part: &PartOf<'_>, t: usize, sharers: Sharers, time: u64) -> u64 {
        let known = self.known.borrow().get(&(t, sharers)).copied();
        let each = known.unwrap_or_else(|| {
            let around = self.alone(part).sharing(self.rings, part.cost, part.template, self.place, &sharers);
            let each = most(part.cost, &around, time, self.need);
            self.known.borrow_mut().insert((t, sharers), each);
            each
        });
        u64::from(each) * u64::from(part.pipelines)
    }

    /// Whether the parts of a node, with the best of what may come, can run the batch within `time`.
    fn can(&self, key: &[u32], time: u64) -> bool {
        let (parts, decided) = (self.parts(key), key.len() - 2);
        let of_part = |(p, around): (&PartOf<'_>, &Setting)| most(p.cost, around, time, self.need).into();
        let times = |(each, p): (u64, &PartOf<'_>)| each * u64::from(p.pipelines);
        let number = |p: &PartOf<'_>| self.templates.iter().position(|t| t == p.template).unwrap_or(0);
        let runs: Vec<u64> = if decided == self.menus.len() && !parts.is_empty() {
            parts.iter().zip(&self.beside(&parts)).map(of_part).zip(&parts).map(times).collect()
        } else {
            let sharers = beside::sharers(self.rings, &parts);
            parts.iter().zip(sharers).map(|(p, sharers)| self.run(p, number(p), sharers, time)).collect()
        };
        let others = parts.iter().map(|p| p.pipelines).sum::<u32>().min(4);
        let best = |(k, menu): (usize, &Vec<_>)| {
            let apart = if parts.iter().any(|p| p.template.devices(k) == 0) { kind_bit(k) } else { 0 };
            let of = |&(t, pipelines): &(usize, u32)| {
                let part = PartOf { template: &self.templates[t], cost: self.costs[t].as_ref()?, pipelines };
                let sharers = Sharers { own: pipelines, all: pipelines + others, across: false, apart };
                Some(self.run(&part, t, sharers, time))
            };
            menu.iter().filter_map(of).max().unwrap_or(0)
        };
        let rest: u64 = self.menus.iter().enumerate().skip(decided).map(best).sum();
        runs.iter().all(|n| *n > 0) && runs.iter().sum::<u64>() + rest >= u64::from(self.need)
    }
}

/// The most micro-batches, up to `need`, that a pipeline can run within `time`.
fn most(cost: &TemplateCost, around: &Setting, time: u64, need: u32) -> u32 {
    let can = |n| cost.bound(&[View { micro_batches: n, around: around.clone() }], time).is_some();
    let (mut low, mut high) = (0, need + 1);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if can(middle) { low = middle } else { high = middle }
    }
    low
}

impl<'a> Checker<'a> {
    /// All frames and their roots.
    fn space(&mut self, rings: &Rings<'_>) -> Result<(), Flaw> {
        let (scenario, kinds) = (self.scenario, self.kinds);
        let usual = |k: &Kind| scenario.groups[k.group].layers.micro_batches();
        let sizes: BTreeSet<u32> = if scenario.search.micro_batches.is_empty() {
            kinds.iter().flat_map(usual).collect()
        } else {
            scenario.search.micro_batches.iter().copied().collect()
        };
        let tables = Tables::new(scenario, kinds);
        let all: Vec<u32> = kinds.iter().map(|k| k.devices.len() as u32).collect();
        let templates = self.templates.clone();
        let mut frame = 0;
        for micro_batch in sizes {
            if micro_batch == 0 || !scenario.training.global_batch.is_multiple_of(micro_batch) {
                continue;
            }
            let cost = |t: &Template| {
                let cost = TemplateCost::new(&tables, t, micro_batch, Schedule::OneFOneB).ok()?;
                (t.stages.len() <= cost.layers && cost.least_excess(1) <= 0).then_some(cost)
            };
            let costs: Vec<Option<TemplateCost>> = templates.iter().map(cost).collect();
            for place in [Place::Stages, Place::Pipelines] {
                let leads = (0..templates.len()).filter(|t| {
                    let joins = templates[*t].one_kind().is_none();
                    joins && costs[*t].is_some() && (place == Place::Stages || self.differs(*t))
                });
                let known = RefCell::default();
                let leads: Vec<Option<usize>> = std::iter::once(None).chain(leads.map(Some)).collect();
                for lead in leads {
                    let mut free = all.clone();
                    let lead = lead.map(|t| (t, templates[t].most(&all)));
                    if let Some((t, pipelines)) = lead {
                        let used = free.iter_mut().enumerate();
                        used.for_each(|(k, free)| *free -= pipelines * templates[t].devices(k));
                    }
                    let menu = |(k, free): (usize, &u32)| {
                        let mine = templates
                            .iter()
                            .enumerate()
                            .filter(|(t, template)| template.one_kind() == Some(k) && costs[*t].is_some());
                        let fit = mine.map(|(t, template)| (t, free / template.devices(k)));
                        fit.filter(|(_, pipelines)| *pipelines > 0).collect()
                    };
                    let root = Root {
                        rings,
                        costs: &costs,
                        templates: &templates,
                        micro_batch,
                        place,
                        need: scenario.training.global_batch / micro_batch,
                        known: &known,
                        lead,
                        menus: free.iter().enumerate().map(menu).collect(),
                    };
                    self.node(&root, &mut vec![frame, lead.map_or(0, |l| l.0 as u32 + 1)])?;
                }
                frame += 1;
            }
        }
        Ok(())
    }

    /// Whether the placements of a template differ.
    fn differs(&self, t: usize) -> bool {
        self.templates[t].stages.windows(2).any(|p| {
            let kind = &self.kinds[p[0].kind as usize];
            (p[0] == p[1] && p[0].tp < kind.gpus_per_node) || kind.groups().len() > 1
        })
    }

    /// A partial combination or a whole one.
    fn node(&mut self, root: &Root<'_>, key: &mut Vec<u32>) -> Result<(), Flaw> {
        if self.claimed(key)? && !root.can(key, self.lower.saturating_sub(1)) {
            self.done.nodes += 1;
            return Ok(());
        }
        self.done.opened += 1;
        let decided = key.len() - 2;
        if decided < root.menus.len() {
            for option in std::iter::once(0).chain(root.menus[decided].iter().map(|(t, _)| *t as u32 + 1)) {
                key.push(option);
                self.node(root, key)?;
                key.pop();
            }
            return Ok(());
        }
        let options =
            root.lead.iter().map(|l| l.0).chain(key[2..].iter().filter(|o| **o > 0).map(|o| *o as usize - 1));
        let chosen: Vec<usize> = options.collect();
        if chosen.is_empty() || (root.place == Place::Pipelines && !chosen.iter().any(|t| self.differs(*t))) {
            // Of nothing, or the same as in the other placement.
            return Ok(());
        }
        let parts = root.parts(key);
        let settings = root.beside(&parts);
        let within: Vec<u32> = parts
            .iter()
            .zip(&settings)
            .map(|(p, around)| most(p.cost, around, self.lower.saturating_sub(1), root.need))
            .collect();
        self.shares(root, &parts, &within, root.need, key)
    }

    /// Whether the certificate throws a node out; its claim is not below the answer.
    fn claimed(&self, key: &[u32]) -> Result<bool, Flaw> {
        match self.nodes.get(key) {
            Some(Fate::Bound(bound) | Fate::Rest(bound)) if *bound < self.lower => {
                Err(Flaw::Undercuts { key: key.to_vec(), bound: *bound, lower: self.lower })
            }
            Some(Fate::Bound(_)) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Every share below the answer.
    fn shares(
        &mut self,
        root: &Root<'_>,
        parts: &[PartOf<'_>],
        within: &[u32],
        left: u32,
        key: &mut Vec<u32>,
    ) -> Result<(), Flaw> {
        let i = key.len() - 2 - root.menus.len();
        if i == parts.len() {
            return if left == 0 { self.cuts(root, parts, key) } else { Ok(()) };
        }
        let others: u32 = parts[i + 1..].iter().map(|p| p.pipelines).sum();
        let least = if i + 1 == parts.len() { left } else { parts[i].pipelines };
        let most = within[i].saturating_mul(parts[i].pipelines).min(left.saturating_sub(others));
        for mine in least.max(parts[i].pipelines)..=most {
            key.push(mine);
            self.shares(root, parts, within, left - mine, key)?;
            key.pop();
        }
        Ok(())
    }

    /// Every cut below the answer: it was simulated, and is again.
    fn cuts(&mut self, root: &Root<'_>, parts: &[PartOf<'_>], key: &[u32]) -> Result<(), Flaw> {
        let below = self.lower.saturating_sub(1);
        let claimed = self.claimed(key)?;
        let (head, frame) = (key.len() - parts.len(), (root.micro_batch, root.place));
        let Ok(placed) = Placed::new(root.rings, frame, parts, &key[head..]) else { return Ok(()) };
        if placed.bound(below).is_none() {
            self.done.nodes += u64::from(claimed);
            return Ok(());
        }
        self.done.opened += 1;
        let mut plans = vec![key.to_vec()];
        for p in &placed.parts {
            let cuts = p.of.cost.cuts(&p.views, below, 1 << 18);
            let cuts = cuts.map_err(|_| Flaw::NotCovered(key.to_vec()))?;
            let with =
                |plan: &Vec<u32>| cuts.iter().map(|(_, cut)| [&plan[..], cut].concat()).collect::<Vec<_>>();
            plans = plans.iter().flat_map(with).collect();
        }
        for plan in plans {
            match self.nodes.get(&plan[..]) {
                Some(Fate::Simulated(_) | Fate::Rule(_)) => {}
                _ => return Err(Flaw::NotCovered(plan)),
            }
            self.done.nodes += 1;
            self.done.simulated += 1;
            let cutoff = Some(SimTime::from_ps(self.lower));
            if let Some(time) = self.time(&placed.plan(&plan[key.len()..]), cutoff)
                && time < self.lower
            {
                return Err(Flaw::Faster { key: plan, time, lower: self.lower });
            }
        }
        Ok(())
    }

    /// The time of a plan that fits and ends, before the cut-off if there is one.
    fn time(&mut self, plan: &Plan, cutoff: Option<SimTime>) -> Option<u64> {
        let layout = Layout::new(self.scenario, plan).ok()?;
        if memory_needs(self.scenario, plan, &layout).iter().any(|(needs, has)| needs > has) {
            return None;
        }
        let folding = Folding::of(&layout);
        let outcome = self.simulator.run(plan, &layout, &folding, self.at, cutoff).ok()?;
        outcome.finished.then_some(outcome.end.as_ps())
    }
}
