//! Metis (ATC'24): orders of the kinds of GPU, device groups of power-of-two sizes, strategies by a walk from data towards
//! tensor parallelism, layers cut by compute and repaired for memory, all ranked by a closed form.
//!
//! The parts are those of the published planner, held to its answers by a test: [`cost`] gives all its ranked plans their
//! costs, [`space`] costs as many plans as it does. Here they run on a scenario.

pub mod balance;
pub mod best;
pub mod cost;
pub mod files;
pub mod space;
pub mod tables;

use super::{
    About, Entrant, GoOn, Limits, MOST_PROPOSED, NoProposal, PipelineOf, Planner, Proposal, StageOf, View,
    plan_of,
};
use cost::MetisPlan;
use sim_models::plan::Plan;
use sim_models::scenario::{DeviceId, Scenario};
use tables::{Cluster, Entry, Kind, Profile};

/// See the head of this file.
pub struct Metis;

/// Groups that are permuted one by one, as in the runs that the authors describe.
const MOST_PERMUTED: usize = 6;

/// Plans costed at most: where it would take minutes.
const MOST_COSTED: usize = 20_000;

/// 1 "GB/s" of Metis's, in B/s.
const METIS_GB_PER_S: f64 = 1024.0 * 1024.0 * 1000.0;

impl Planner for Metis {
    fn about(&self) -> About {
        About {
            name: "metis",
            about: "device groups over an order of the GPU kinds, layers balanced by compute, ranked by a closed form",
            source: "Um et al., USENIX ATC'24; github.com/SamsungLabs/Metis at 4b24046",
            leaves_out: "the network between nodes, which its code never asks for; zones; its ranked plans that lose layers, \
                         mix data parallelism between stages or straddle nodes are passed over",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let world = World::new(&view)?;
        let batch = scenario.training.global_batch;
        let reach = space::Reach {
            variance: 1.0,
            most_permuted: MOST_PERMUTED,
            most_costed: MOST_COSTED,
            most_stages: scenario.search.max_stages as usize,
            as_published: false,
        };
        let found = space::search(&world.profile, &world.cluster, batch, reach, &mut || go_on());
        let candidates = found.len() as u64;
        let mut plans = Vec::new();
        for (cost, plan) in found {
            if plans.len() == MOST_PROPOSED {
                break;
            }
            let entrant = |plan| Entrant { plan, own_estimate_s: Some(cost / 1000.0) };
            plans.extend(world.plan(&view, &plan).map(entrant));
        }
        if plans.is_empty() {
            let nothing =
                format!("none of {candidates} ranked plans keeps every layer and one data parallelism");
            return Err(NoProposal::None(nothing));
        }
        Ok(Proposal { plans, candidates })
    }
}

/// A scenario in Metis's terms.
pub struct World {
    /// The model.
    pub profile: Profile,
    /// The cluster: zones are not in it.
    pub cluster: Cluster,
    /// Devices of each kind, node by node.
    devices: Vec<Vec<DeviceId>>,
}

impl World {
    /// The scenario as Metis would be told of it.
    ///
    /// # Errors
    /// Where it has no profile to go by.
    pub fn new(view: &View<'_>) -> Result<World, NoProposal> {
        // Metis takes all nodes to be of one size: larger ones are cut into several.
        let per_node = view.pools.iter().map(|p| p.per_node).fold(0, gcd).max(1) as usize;
        let (mut kinds, mut devices, mut pool_of): (Vec<Kind>, Vec<Vec<DeviceId>>, Vec<usize>) =
            Default::default();
        for (p, pool) in view.pools.iter().enumerate() {
            let nodes = pool.devices.len() / per_node;
            if let Some(k) = kinds.iter().position(|k| k.name == pool.gpu) {
                kinds[k].nodes += nodes;
                devices[k].extend(&pool.devices);
                continue;
            }
            let large = 64.0 * 1024.0 * 1024.0;
            kinds.push(Kind {
                name: pool.gpu.clone(),
                memory_gb: pool.memory.as_gib(),
                inside: view.rate(p, p, pool.per_node > 1, large, 1) / METIS_GB_PER_S,
                between: view.rate(p, p, false, large, 1) / METIS_GB_PER_S,
                nodes,
            });
            devices.push(pool.devices.clone());
            pool_of.push(p);
        }
        let layers = view.layers;
        let mut entries = std::collections::BTreeMap::new();
        for (k, &pool) in pool_of.iter().enumerate() {
            for micro_batch in view.micro_batches().into_iter().filter(|b| b.is_power_of_two()) {
                for tp in
                    view.tps(pool).into_iter().filter(|tp| tp.is_power_of_two() && *tp as usize <= per_node)
                {
                    let Some(column) = view.column(pool, micro_batch, tp) else { continue };
                    let layers_ms = column.layers().iter().map(|s| s * 1000.0).collect();
                    let memory = |l: usize| view.layer_memory(micro_batch, tp, l) / (1024.0 * 1024.0);
                    let entry =
                        Entry { layers_ms, sync_ms: 0.0, memory_mb: (0..layers).map(memory).collect() };
                    entries.insert((k, tp, micro_batch), entry);
                }
            }
        }
        let base: Option<&Entry> = entries.get(&(0, 1, 1)).or_else(|| entries.values().next());
        let base = base.ok_or_else(|| NoProposal::None("no layer times at a power of two".into()))?;
        let total: f64 = base.layers_ms.iter().sum();
        let normal = base.layers_ms.iter().map(|t| t / total).collect();
        let update = view
            .micro_batches()
            .iter()
            .find_map(|b| view.column(pool_of[0], *b, 1))
            .map_or(0.0, |column| column.update_s(0, layers) * 1000.0);
        let model = &view.scenario.model;
        let profile = Profile {
            optimizer_ms: 2.0 * update,
            batch_generator_ms: 0.0,
            parameter_bytes: [0, 1, layers - 1].map(|l| view.gradient_bytes(l, l + 1, 1)),
            normal,
            hidden: model.hidden as f64,
            sequence: model.seq_len as f64,
            vocabulary: model.vocab as f64,
            most_tp: entries.keys().map(|k| k.1).max().unwrap_or(1),
            most_batch: entries.keys().map(|k| k.2).max().unwrap_or(1),
            entries,
        };
        Ok(World { profile, cluster: Cluster { kinds, per_node }, devices })
    }

    /// A plan of Metis's on the scenario's devices. `None` where it drops layers, where its stages differ in data parallelism
    /// (samples would have to move between pipelines), where a tensor-parallel group straddles nodes, or where the batch
    /// does not divide. Mixed stages split each micro-batch between replicas by speed; the split of the first mixed stage is
    /// taken for all.
    pub fn plan(&self, view: &View<'_>, plan: &MetisPlan) -> Option<Plan> {
        let dp = plan.strategies.first()?.0;
        if !plan.is_valid(self.profile.layers()) || plan.strategies.iter().any(|s| s.0 != dp) {
            return None;
        }
        let batch = view.scenario.training.global_batch;
        if plan.batches == 0 || !batch.is_multiple_of(plan.batches) {
            return None;
        }
        let order: Vec<DeviceId> =
            plan.sequence.iter().flat_map(|k| self.devices[*k].iter().copied()).collect();
        let kinds: Vec<usize> =
            plan.sequence.iter().flat_map(|k| std::iter::repeat_n(*k, self.devices[*k].len())).collect();
        let each = batch / plan.batches;
        let mut split = None;
        let (mut rank, mut stages) = (0, Vec::new());
        for (s, (_, tp)) in plan.strategies.iter().enumerate() {
            let size = plan.groups[s];
            let mine = kinds.get(rank..rank + size)?;
            if split.is_none() && mine.iter().any(|k| *k != mine[0]) {
                split = Some(cost::split_batch(&self.profile, mine, (dp, *tp), each)?);
            }
            let groups: Vec<Vec<DeviceId>> =
                order.get(rank..rank + size)?.chunks(*tp as usize).map(<[_]>::to_vec).collect();
            let whole =
                |g: &Vec<DeviceId>| g.iter().all(|d| view.scenario.node(*d) == view.scenario.node(g[0]));
            if !groups.iter().all(whole) {
                return None;
            }
            stages.push(groups);
            rank += size;
        }
        let split = match split {
            Some(split) => split,
            None if each.is_multiple_of(dp) => vec![each / dp; dp as usize],
            None => return None,
        };
        let micro_batch = split.iter().copied().filter(|s| *s > 0).fold(0, gcd);
        // Odd shares are run in powers of two.
        let micro_batch = 1 << micro_batch.trailing_zeros().min(31);
        let micro_batch = micro_batch.min(self.profile.most_batch);
        let pipeline = |replica: usize| PipelineOf {
            micro_batches: split[replica] / micro_batch * plan.batches,
            stages: stages
                .iter()
                .enumerate()
                .map(|(s, groups)| StageOf {
                    layers: (plan.cuts[s], plan.cuts[s + 1]),
                    devices: groups[replica].clone(),
                })
                .collect(),
        };
        let pipelines: Vec<PipelineOf> = (0..dp as usize).map(pipeline).collect();
        Some(plan_of(view.scenario, micro_batch, &pipelines))
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
