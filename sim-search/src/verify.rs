//! Checks a certificate without the search: that its nodes cover the space, that none of them claims a bound below the answer,
//! and that costs bear each of them out. It walks the space by itself; of the search it shares the statement of the space and
//! the costs, and simulates again every plan that no bound excludes.

pub use crate::certificate::{Certificate, Flaw};
use crate::cost::beside::{self, PartOf};
use crate::cost::placed::Placed;
use crate::cost::rings::Rings;
use crate::cost::setting::{Apart, Gradients, Sharers, kind_bit};
use crate::cost::stand::{self, stand};
use crate::cost::{Setting, TemplateCost};
use crate::frame::{Frame, Priced, Space};
use crate::place::Place;
use crate::search::Fate;
use crate::space::{Kind, Template, kinds, numbers};
use sim_core::SimTime;
use sim_models::fold::Folding;
use sim_models::iteration::{Simulator, memory_needs};
use sim_models::layout::Layout;
use sim_models::lower::Fabric;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use std::cell::RefCell;
use std::collections::BTreeMap;

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
    for (key, fate) in &certificate.nodes {
        if let Some(bound) = fate.claims().filter(|bound| *bound < checker.lower) {
            return Err(Flaw::Undercuts { key: key.clone(), bound, lower: checker.lower });
        }
    }
    checker.space(&rings)?;
    Ok(checker.done)
}

struct Checker<'a> {
    scenario: &'a Scenario,
    kinds: &'a [Kind],
    at: SimTime,
    lower: u64,
    nodes: BTreeMap<&'a [u32], Fate>,
    simulator: Simulator<'a>,
    done: Verified,
}

/// A frame with a leading template, priced.
struct Root<'r> {
    rings: &'r Rings<'r>,
    space: &'r Space<'r>,
    priced: &'r [Priced],
    frame: Frame,
    need: u32,
    /// What pipelines of a template run below the answer, by whom they share gradients with.
    known: &'r RefCell<BTreeMap<(usize, Sharers), u32>>,
    lead: Option<(usize, u32)>,
    /// Templates on what is left of each kind, and how many pipelines fit.
    menus: Vec<Vec<(usize, u32)>>,
}

impl<'r> Root<'r> {
    fn cost(&self, t: usize) -> Option<&'r TemplateCost> {
        self.priced[t].as_ref()?.as_ref().ok().map(|entry| &*entry.cost)
    }

    /// Templates of a combination: lead first, then kind by kind.
    fn chosen(&self, key: &[u32]) -> Vec<usize> {
        let options = key[2..].iter().take(self.menus.len()).filter(|o| **o > 0).map(|o| *o as usize - 1);
        self.lead.iter().map(|l| l.0).chain(options).collect()
    }

    fn fresh(&self, t: usize) -> bool {
        matches!(&self.priced[t], Some(Ok(entry)) if entry.fresh)
    }

    /// Numbers of pipelines of a template, up to `most`, the most first.
    fn numbers(&self, t: usize, most: u32) -> Vec<u32> {
        let (scenario, kinds) = (self.rings.scenario(), self.rings.kinds());
        numbers(scenario, kinds, &self.space.templates[t], most, self.need, &self.frame.recipe)
    }

    /// The parts of a key, as far as it goes, as many pipelines of each as fit.
    fn parts(&self, key: &[u32]) -> Vec<PartOf<'r>> {
        let of = |(t, pipelines): (usize, u32)| {
            Some(PartOf { template: &self.space.templates[t], cost: self.cost(t)?, pipelines })
        };
        let options = key[2..].iter().zip(&self.menus);
        let find = |(option, menu): (&u32, &Vec<(usize, u32)>)| {
            menu.iter().find(|(t, _)| *t + 1 == *option as usize).copied()
        };
        self.lead.into_iter().chain(options.filter_map(find)).filter_map(of).collect()
    }

    /// The surroundings of so many pipelines, whatever else there is.
    fn alone(&self, part: &PartOf<'_>) -> Setting {
        let far = part.pipelines > beside::most_near(self.rings.kinds(), part.template);
        let apart = if far && self.frame.place == Place::Stages { Apart::Always } else { Apart::Maybe };
        let how = (self.frame.micro_batch, &self.frame.recipe);
        Setting::at_best(self.rings, part.template, how, apart)
    }

    /// The most micro-batches that one pipeline of a template runs within `time`, sharing gradients so, or that all do on the
    /// first devices of their kinds; looked into once.
    fn most(&self, t: usize, sharers: Sharers, time: u64) -> u64 {
        let (template, Some(cost)) = (&self.space.templates[t], self.cost(t)) else { return 0 };
        let part = PartOf { template, cost, pipelines: sharers.own };
        let known = self.known.borrow().get(&(t, sharers)).copied();
        let most = known.unwrap_or_else(|| {
            let gradients = Gradients::at_best(self.rings, cost, template, self.frame.place, &sharers);
            let of = |transfers: &Setting| cost.most_within(&transfers.sharing(&gradients), time, self.need);
            let (how, alone) = ((self.frame.micro_batch, self.frame.place), self.alone(&part));
            let sending = sharers.first.then(|| stand::first(self.rings, how, &part));
            let most = match sending {
                Some(sending) => sending.map_or(0, |s| s.most_by(self.rings, &alone, of)),
                None => of(&alone),
            };
            self.known.borrow_mut().insert((t, sharers), most);
            most
        });
        u64::from(most)
    }

    /// What each number of pipelines of a template, up to `most`, runs within `time`, beside `sharers.all` others at least.
    fn run(&self, t: usize, most: u32, sharers: Sharers, time: u64) -> Vec<(u32, u64)> {
        let numbers = self.numbers(t, most);
        let mut list = Vec::new();
        for run in beside::runs(&numbers) {
            let own = run[run.len() - 1];
            let first = sharers.first && run.len() == 1;
            let most = self.most(t, Sharers { own, all: sharers.all + own, first, ..sharers }, time);
            list.extend(run.iter().map(|n| (*n, if first { most } else { most * u64::from(*n) })));
        }
        list
    }

    /// The same of each part, whatever the numbers of the others are.
    fn runs(&self, parts: &[PartOf<'_>], decided: usize, time: u64) -> Vec<Vec<(u32, u64)>> {
        let ones: Vec<PartOf<'_>> = parts.iter().map(|p| PartOf { pipelines: 1, ..*p }).collect();
        let lead = self.lead.map(|(t, _)| &self.space.templates[t]);
        let width = |t: &Template| t.stages[0].split.block();
        let widest = |k: usize| match k < decided {
            true => parts.iter().map(|p| p.template).find(|t| t.one_kind() == Some(k)).map_or(0, width),
            false => self.menus[k].iter().map(|(t, _)| width(&self.space.templates[*t])).max().unwrap_or(0),
        };
        let first = |i: usize| beside::is_first(self.rings, lead, parts[i].template, widest);
        let of = |(p, s): (&PartOf<'_>, Sharers)| {
            let t = self.space.templates.iter().position(|t| t == p.template).unwrap_or(0);
            self.run(t, p.pipelines, Sharers { all: s.all - 1, ..s }, time)
        };
        let whole = decided == self.menus.len();
        parts.iter().zip(beside::sharers(self.rings, &ones, whole, first)).map(of).collect()
    }

    /// Kinds whose options are open after those of a key: beside alike pipelines there are no others.
    fn open(&self, key: &[u32]) -> impl Iterator<Item = (usize, &Vec<(usize, u32)>)> {
        let closed = self.frame.recipe.alike() && !self.parts(key).is_empty();
        self.menus.iter().enumerate().skip(key.len() - 2).filter(move |_| !closed)
    }

    /// Whether the parts of a node, with the best of what may come, can run the batch within `time`.
    fn can(&self, key: &[u32], time: u64) -> bool {
        let parts = self.parts(key);
        let most = |run: Vec<(u32, u64)>| run.into_iter().map(|(_, n)| n).max().unwrap_or(0);
        let runs: Vec<u64> = self.runs(&parts, key.len() - 2, time).into_iter().map(most).collect();
        let best = |(k, menu): (usize, &Vec<_>)| {
            let apart = if parts.iter().any(|p| p.template.devices(k) == 0) { kind_bit(k) } else { 0 };
            let lead = self.lead.map(|(t, _)| &self.space.templates[t]);
            let first = beside::is_alone(self.rings, lead, k);
            let of = |&(t, pipelines): &(usize, u32)| {
                let (all, others) = ((parts.len() as u32).min(4), parts.iter().map(|p| p.template));
                let common = beside::common_with(others, &self.space.templates[t]);
                let sharers = Sharers { own: 0, all, across: None, ends: [None; 2], apart, first, common };
                most(self.run(t, pipelines, sharers, time))
            };
            menu.iter().map(of).max().unwrap_or(0)
        };
        let rest: u64 = self.open(key).map(best).sum();
        runs.iter().all(|n| *n > 0) && runs.iter().sum::<u64>() + rest >= u64::from(self.need)
    }
}

impl<'a> Checker<'a> {
    /// All frames and their roots.
    fn space(&mut self, rings: &Rings<'_>) -> Result<(), Flaw> {
        let (scenario, kinds) = (self.scenario, self.kinds);
        let space = Space::new(scenario, kinds);
        let mut frame = 0;
        for (recipe, micro_batch, priced) in space.all_priced(true) {
            for place in [Place::Stages, Place::Pipelines] {
                let root = Root {
                    rings,
                    space: &space,
                    priced: &priced,
                    frame: space.frame(recipe, micro_batch, place),
                    need: scenario.training.global_batch / micro_batch,
                    known: &RefCell::default(),
                    lead: None,
                    menus: Vec::new(),
                };
                self.frame(&root, frame)?;
                frame += 1;
            }
        }
        Ok(())
    }

    /// Every root of a frame, like `one` but for its lead and its menus.
    fn frame(&mut self, one: &Root<'_>, frame: u32) -> Result<(), Flaw> {
        let of = |(t, most): (usize, u32)| (t, one.numbers(t, most)[0]);
        for lead in one.space.leads(&one.frame, one.priced) {
            let (pipelines, free) = one.space.beside(&one.frame, lead);
            let menu =
                |(k, free)| one.space.menu(&one.frame, one.priced, k, free).into_iter().map(of).collect();
            let menus = free.into_iter().enumerate().map(menu).collect();
            let root = Root { lead: lead.map(|t| of((t, pipelines))), menus, ..*one };
            self.node(&root, &mut vec![frame, lead.map_or(0, |t| t as u32 + 1)])?;
        }
        Ok(())
    }

    /// A partial combination or a whole one.
    fn node(&mut self, root: &Root<'_>, key: &mut Vec<u32>) -> Result<(), Flaw> {
        let claimed = self.claimed(key);
        if claimed && !root.can(key, self.lower.saturating_sub(1)) {
            self.done.nodes += 1;
            return Ok(());
        }
        self.done.opened += 1;
        let decided = key.len() - 2;
        if decided < root.menus.len() {
            let menu = root.open(key).next().filter(|(k, _)| *k == decided);
            let options: Vec<u32> =
                menu.iter().flat_map(|(_, m)| m.iter().map(|(t, _)| *t as u32 + 1)).collect();
            for option in std::iter::once(0).chain(options) {
                key.push(option);
                self.node(root, key)?;
                key.pop();
            }
            return Ok(());
        }
        let chosen = root.chosen(key);
        let differs = chosen.iter().any(|t| root.space.differs[*t]);
        let fresh = root.lead.is_some() || chosen.iter().any(|t| root.fresh(*t));
        if !root.frame.joins(chosen.len(), differs, fresh) {
            return Ok(());
        }
        let parts = root.parts(key);
        let runs = root.runs(&parts, root.menus.len(), self.lower.saturating_sub(1));
        self.numbers(root, &parts, &runs, 0, key)
    }

    /// Every number of pipelines of each part with which they may run the batch; the parts so far run `sum`.
    fn numbers(
        &mut self,
        root: &Root<'_>,
        parts: &[PartOf<'_>],
        runs: &[Vec<(u32, u64)>],
        sum: u64,
        key: &mut Vec<u32>,
    ) -> Result<(), Flaw> {
        let i = key.len() - 2 - root.menus.len();
        if i < parts.len() {
            let most = |r: &Vec<(u32, u64)>| r.iter().map(|(_, n)| *n).max().unwrap_or(0);
            let rest: u64 = runs[i + 1..].iter().map(most).sum();
            let enough = |own: u64| own > 0 && sum + own + rest >= u64::from(root.need);
            for &(n, own) in runs[i].iter().filter(|(_, own)| enough(*own)) {
                key.push(parts[i].pipelines - n);
                self.numbers(root, parts, runs, sum + own, key)?;
                key.pop();
            }
            return Ok(());
        }
        let mut counted = parts.to_vec();
        let fewer = &key[key.len() - parts.len()..];
        counted.iter_mut().zip(fewer).for_each(|(p, fewer)| p.pipelines -= fewer);
        let differs = |(t, p): (&usize, &PartOf<'_>)| p.pipelines > p.cost.team && root.space.differs[*t];
        if root.frame.place == Place::Pipelines && !root.chosen(key).iter().zip(&counted).any(differs) {
            // The same as in the other placement.
            return Ok(());
        }
        let below = self.lower.saturating_sub(1);
        self.done.nodes += u64::from(self.claimed(key));
        let frame = (root.frame.micro_batch, root.frame.place);
        let Ok(standing) = stand(root.rings, frame, &counted) else { return Ok(()) };
        let within = stand::shares(&standing, root.rings, below, root.need);
        self.shares(root, &counted, &within, root.need, key)
    }

    /// Whether the certificate throws a node out.
    fn claimed(&self, key: &[u32]) -> bool {
        matches!(self.nodes.get(key), Some(Fate::Bound(_)))
    }

    /// Every share below the answer.
    fn shares(
        &mut self,
        root: &Root<'_>,
        parts: &[PartOf<'_>],
        within: &[Vec<u32>],
        left: u32,
        key: &mut Vec<u32>,
    ) -> Result<(), Flaw> {
        let i = key.len() - 2 - root.menus.len() - parts.len();
        if i == parts.len() {
            return if left == 0 { self.cuts(root, parts, key) } else { Ok(()) };
        }
        let most: u32 = within[i + 1..].iter().map(|w| w.last().copied().unwrap_or(0)).sum();
        for mine in within[i].iter().filter(|mine| **mine <= left && **mine + most >= left) {
            key.push(*mine);
            self.shares(root, parts, within, left - mine, key)?;
            key.pop();
        }
        Ok(())
    }

    /// Every cut below the answer: it was simulated, and is again.
    fn cuts(&mut self, root: &Root<'_>, parts: &[PartOf<'_>], key: &[u32]) -> Result<(), Flaw> {
        let below = self.lower.saturating_sub(1);
        let claimed = self.claimed(key);
        let (head, frame) = (key.len() - parts.len(), (root.frame.micro_batch, root.frame.place));
        let Ok(placed) = Placed::new(root.rings, frame, parts, &key[head..]) else { return Ok(()) };
        if placed.bound(below).is_none() {
            self.done.nodes += u64::from(claimed);
            return Ok(());
        }
        self.done.opened += 1;
        let cuts = placed.cuts(below, 1 << 18).map_err(|_| Flaw::NotCovered(key.to_vec()))?;
        for (_, inner) in cuts {
            let plan = [key, &inner].concat();
            match self.nodes.get(&plan[..]) {
                Some(Fate::Simulated(_) | Fate::Rule(_)) => {}
                _ => return Err(Flaw::NotCovered(plan)),
            }
            self.done.nodes += 1;
            self.done.simulated += 1;
            let cutoff = Some(SimTime::from_ps(self.lower));
            if let Some(time) = self.time(&placed.plan(&inner), cutoff)
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
