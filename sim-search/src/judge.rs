//! One judge for all plans: what an iteration takes, by the same model whoever found the plan.
//!
//! [`Judge::Simulate`] is the judge. The others are there to be disagreed with: the same simulation without contention, and the
//! closed forms by which Metis and Sailor rank.

use crate::planners::metis::{self, cost::MetisPlan};
use crate::planners::sailor::{self, cost::StageTerms};
use crate::planners::{Entrant, View};
use sim_core::{CapacityProfile, CapacitySource, Rate, SimTime};
use sim_models::iteration::{Iteration, Options, SimulateError, simulate};
use sim_models::layout::Layout;
use sim_models::link::{LinkModel, StreamRate};
use sim_models::plan::Plan;
use sim_models::plan_check::PlanFault;
use sim_models::scenario::{DeviceId, Scenario};

/// By what a plan is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Judge {
    /// The full simulation.
    #[default]
    Simulate,
    /// The same, with every transfer alone on its links: capacities of links between zones stay as a cap of each transfer.
    ContentionFree,
    /// The closed form of Metis.
    Metis,
    /// The closed form of Sailor's planner.
    Sailor,
}

impl Judge {
    /// All of them.
    pub const ALL: [Judge; 4] = [Judge::Simulate, Judge::ContentionFree, Judge::Metis, Judge::Sailor];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Judge::Simulate => "simulate",
            Judge::ContentionFree => "contention-free",
            Judge::Metis => "metis",
            Judge::Sailor => "sailor",
        }
    }

    /// The time of an iteration of a plan that is one for the scenario, s.
    ///
    /// # Errors
    /// Why it has none under this judge.
    pub fn time_s(self, scenario: &Scenario, plan: &Plan, at: SimTime) -> Result<f64, Unjudged> {
        let simulated = |scenario: &Scenario| {
            let iteration = simulate(scenario, plan, &Options { at, fold: true })?;
            Ok(iteration.time.as_secs_f64())
        };
        match self {
            Judge::Simulate => simulated(scenario),
            Judge::ContentionFree => simulated(&alone(scenario, at)),
            Judge::Metis => Pieces::of(scenario, plan, at)?.metis_s(),
            Judge::Sailor => Pieces::of(scenario, plan, at)?.sailor_s(),
        }
    }
}

impl std::str::FromStr for Judge {
    type Err = String;
    fn from_str(name: &str) -> Result<Judge, String> {
        let names = Judge::ALL.map(Judge::name);
        Judge::ALL
            .into_iter()
            .find(|j| j.name() == name)
            .ok_or_else(|| format!("no judge `{name}`: {}", names.join(", ")))
    }
}

/// Why a plan has no time under a judge.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unjudged {
    /// The simulation does not take it.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    /// The closed form does not know such a thing.
    #[error("{0}")]
    Form(String),
}

/// The scenario with every transfer alone: NICs, leaves and links between zones without end, the latter's capacity at the start as
/// a cap of each transfer.
fn alone(scenario: &Scenario, at: SimTime) -> Scenario {
    let mut alone = scenario.clone();
    let endless = || CapacityProfile::constant(Rate::from_bytes_per_s(1e14).unwrap_or(Rate::MAX));
    for a in 0..scenario.groups.len() {
        for b in 0..scenario.groups.len() {
            let (from, to) = (&scenario.groups[a], &scenario.groups[b]);
            let rate = |profile: &CapacityProfile| profile.at(at).as_bytes_per_s();
            let mut cap = rate(&from.nic).min(rate(&to.nic));
            if from.zone != to.zone
                && let Some((_, zone)) = scenario.zone_link(&from.zone, &to.zone)
            {
                cap = cap.min(rate(&zone.capacity));
            }
            let link = &scenario.node_links[a][b];
            if cap < link.wire_rate() {
                alone.node_links[a][b] =
                    LinkModel { latency_s: link.latency_s, rate: StreamRate::Constant(cap.max(1.0)) };
            }
        }
    }
    alone.groups.iter_mut().for_each(|g| g.nic = endless());
    alone.zone_links.iter_mut().for_each(|l| l.capacity = endless());
    alone.leaves.iter_mut().for_each(|l| l.capacity = endless());
    alone
}

/// A plan as closed forms see it: pipelines by stage.
struct Pieces<'a> {
    view: View<'a>,
    plan: &'a Plan,
    layout: Layout,
}

impl<'a> Pieces<'a> {
    fn of(scenario: &'a Scenario, plan: &'a Plan, at: SimTime) -> Result<Self, Unjudged> {
        let layout = Layout::new(scenario, plan).map_err(SimulateError::Plan)?;
        Ok(Pieces { view: View::new(scenario, at), plan, layout })
    }

    /// Families of pipelines cut alike: (borders, TP by stage and pipeline, most micro-batches).
    fn families(&self) -> Vec<(Vec<usize>, Vec<usize>)> {
        let mut families: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        for (p, pipeline) in self.layout.pipelines.iter().enumerate() {
            let mut cuts: Vec<usize> =
                pipeline.stages.clone().map(|r| self.layout.ranks[r].layers.first() as usize).collect();
            cuts.push(self.view.layers);
            match families.iter_mut().find(|(c, _)| *c == cuts) {
                Some((_, list)) => list.push(p),
                None => families.push((cuts, vec![p])),
            }
        }
        families
    }

    fn rank_of(&self, pipeline: usize, stage: usize) -> (&[DeviceId], u32) {
        let rank = &self.layout.ranks[self.layout.pipelines[pipeline].stages.start + stage];
        (&rank.devices, rank.tp)
    }

    fn most_micro_batches(&self, pipelines: &[usize]) -> u32 {
        pipelines.iter().map(|p| self.layout.pipelines[*p].micro_batches).max().unwrap_or(0)
    }

    /// Sailor's form of each family, the longest; gradients are shared by all pipelines.
    fn sailor_s(&self) -> Result<f64, Unjudged> {
        let (micro_batch, all) = (self.plan.micro_batch, self.layout.pipelines.len() as u32);
        let mut longest = 0.0f64;
        for (cuts, pipelines) in self.families() {
            let replicas = |s: usize| -> Vec<(usize, u32)> {
                let of = |p: &usize| {
                    let (devices, tp) = self.rank_of(*p, s);
                    (self.view.pool_of(devices[0]), tp)
                };
                pipelines.iter().map(of).collect()
            };
            let stages = cuts.len() - 1;
            let terms: Vec<StageTerms> = (0..stages)
                .map(|s| {
                    let mut mine = replicas(s);
                    let send_s = if s + 1 < stages {
                        sailor::send_s(&self.view, micro_batch, &mine, &replicas(s + 1))
                    } else {
                        0.0
                    };
                    // Other families take part in the ring.
                    let (last, missing) = (mine[mine.len() - 1], all as usize - mine.len());
                    mine.extend(std::iter::repeat_n(last, missing));
                    StageTerms {
                        send_s,
                        ..sailor::stage_terms(&self.view, micro_batch, (cuts[s], cuts[s + 1]), &mine)
                    }
                })
                .collect();
            longest = longest.max(sailor::cost::estimate_s(&terms, self.most_micro_batches(&pipelines)));
        }
        Ok(longest)
    }

    /// Metis's form. It knows one cut, power-of-two micro-batches and groups; what a plan has beyond that it cannot be asked.
    fn metis_s(&self) -> Result<f64, Unjudged> {
        let world = metis::World::new(&self.view).map_err(|e| Unjudged::Form(e.to_string()))?;
        let families = self.families();
        let [(cuts, pipelines)] = families.as_slice() else {
            return Err(Unjudged::Form("Metis knows one cut of the layers for all pipelines".into()));
        };
        let (profile, cluster) = (&world.profile, &world.cluster);
        let micro_batch = self.plan.micro_batch;
        let dp = pipelines.len() as u32;
        let batches = self.most_micro_batches(pipelines);
        let kind = |d: DeviceId| {
            let gpu = &self.view.scenario.group(d).gpu.name;
            cluster.kinds.iter().position(|k| k.name == *gpu).unwrap_or(0)
        };
        let lacks =
            || Unjudged::Form(format!("Metis has no profile at micro-batch {micro_batch} and that TP"));
        let (mut times, mut transfers, mut gradients, mut optimizer) = (Vec::new(), 0.0, 0.0f64, 0.0f64);
        let slowest_inside = |kinds: &[usize]| {
            kinds.iter().map(|k| cluster.kinds[*k].inside).fold(f64::INFINITY, f64::min) * 1024.0 * 1024.0
        };
        let kinds_of =
            |s: usize| -> Vec<usize> { pipelines.iter().map(|p| kind(self.rank_of(*p, s).0[0])).collect() };
        for s in 0..cuts.len() - 1 {
            let (first, end) = (cuts[s], cuts[s + 1]);
            let mut slowest = 0.0f64;
            let mut widest = 1;
            for p in pipelines {
                let (devices, tp) = self.rank_of(*p, s);
                let time =
                    profile.time_ms(kind(devices[0]), tp, micro_batch, first, end).ok_or_else(lacks)?;
                // A replica with fewer micro-batches has fewer samples in each of the plan's.
                let share = f64::from(self.layout.pipelines[*p].micro_batches) / f64::from(batches);
                slowest = slowest.max(time * share);
                widest = widest.max(tp);
            }
            times.push(slowest);
            let mut kinds = kinds_of(s);
            let n = f64::from(dp);
            gradients = gradients.max(
                2.0 * (n - 1.0) / (n * slowest_inside(&kinds)) * profile.stage_bytes(widest, first, end),
            );
            let layers = (end - first) as f64 / profile.layers() as f64;
            optimizer = optimizer.max(profile.optimizer_ms / f64::from(widest) * layers);
            if s + 2 < cuts.len() {
                kinds.extend(kinds_of(s + 1));
                transfers += profile.boundary(end, micro_batch, widest) / slowest_inside(&kinds);
            }
        }
        let slowest = times.iter().copied().fold(0.0, f64::max);
        let run = f64::from(batches - 1) * slowest + times.iter().sum::<f64>();
        Ok((run + gradients + optimizer + transfers) / 1000.0)
    }
}

/// What a plan of Metis's own would be judged at by Metis: its published estimate, in s, with nothing of the scenario between.
pub fn metis_own_s(
    profile: &metis::tables::Profile,
    cluster: &metis::tables::Cluster,
    plan: &MetisPlan,
    global_batch: u32,
) -> Option<f64> {
    Some(metis::cost::estimate_ms(profile, cluster, plan, global_batch)? / 1000.0)
}

/// The plan of a proposal that is judged, with what became of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The plan.
    pub plan: Plan,
    /// Its planner's own estimate, s.
    pub own_estimate_s: Option<f64>,
    /// The simulated iteration, whatever the judge: memory and parts of the time are its.
    pub iteration: Iteration,
    /// Its layout.
    pub layout: Layout,
    /// The judge's time, s.
    pub time_s: f64,
    /// Whether it fits into memory.
    pub fits: bool,
    /// Plans before it in the list that were no plans for the scenario or did not fit.
    pub passed_over: u32,
}

/// The first plan of the list that fits; where none does, the first that is a plan at all, as one that does not fit.
///
/// # Errors
/// Why none can be judged: of the first.
pub fn judge(
    scenario: &Scenario,
    entrants: &[Entrant],
    judge: Judge,
    at: SimTime,
) -> Result<Verdict, Unjudged> {
    let (mut first, mut reason, mut passed_over) = (None, None, 0);
    for entrant in entrants {
        let layout = match Layout::new(scenario, &entrant.plan) {
            Ok(layout) => layout,
            Err(faults) => {
                reason.get_or_insert(Unjudged::Simulate(SimulateError::Plan(faults)));
                passed_over += 1;
                continue;
            }
        };
        let fits = sim_models::iteration::memory_needs(scenario, &entrant.plan, &layout)
            .iter()
            .all(|(need, has)| need <= has);
        if fits {
            match verdict(scenario, entrant, layout, judge, at, passed_over) {
                Ok(verdict) => return Ok(verdict),
                Err(error) => {
                    reason.get_or_insert(error);
                }
            }
        } else if first.is_none() {
            first = Some((entrant, layout));
        }
        passed_over += 1;
    }
    match first {
        Some((entrant, layout)) => verdict(scenario, entrant, layout, judge, at, 0),
        None => Err(reason.unwrap_or_else(|| Unjudged::Form("no plan".into()))),
    }
}

fn verdict(
    scenario: &Scenario,
    entrant: &Entrant,
    layout: Layout,
    judge: Judge,
    at: SimTime,
    passed_over: u32,
) -> Result<Verdict, Unjudged> {
    let iteration = simulate(scenario, &entrant.plan, &Options { at, fold: true })?;
    let time_s = match judge {
        Judge::Simulate => iteration.time.as_secs_f64(),
        other => other.time_s(scenario, &entrant.plan, at)?,
    };
    Ok(Verdict {
        plan: entrant.plan.clone(),
        own_estimate_s: entrant.own_estimate_s,
        fits: iteration.fits(),
        iteration,
        layout,
        time_s,
        passed_over,
    })
}

/// The faults of a plan, as one line.
pub fn in_a_line(faults: &[PlanFault]) -> String {
    let first = faults.first().map_or(String::new(), |f| format!("{}: {}", f.path, f.message));
    if faults.len() > 1 { format!("{first} (and {} more)", faults.len() - 1) } else { first }
}
