//! What the published planners see of a scenario: pools of alike devices, times of layers on them, rates of links with
//! nothing else on them, and whether layers fit. Contention, changes over time and the events of an iteration are not in it.

use sim_core::{CapacitySource, SimTime};
use sim_models::iteration::memory_needs;
use sim_models::layout::Layout;
use sim_models::memory::{self, StageMemory};
use sim_models::plan::{LayerRange, Plan};
use sim_models::scenario::{DeviceId, Scenario};
use sim_models::units::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Alike devices in one zone.
#[derive(Clone, Debug)]
pub struct Pool {
    /// GPU name, from the catalogue.
    pub gpu: String,
    /// Its zone.
    pub zone: String,
    /// GPUs of a node.
    pub per_node: u32,
    /// Memory of a device.
    pub memory: Bytes,
    /// A group of the scenario that stands for the pool.
    pub group: usize,
    /// Devices, node by node.
    pub devices: Vec<DeviceId>,
}

/// Times of the model on a pool at one micro-batch and TP, as running sums over layers, s.
#[derive(Clone, Debug)]
pub struct Column {
    pass: Vec<f64>,
    forward: Vec<f64>,
    update: Vec<f64>,
}

impl Column {
    /// Forward and backward of layers `first .. end` for one micro-batch.
    pub fn pass_s(&self, first: usize, end: usize) -> f64 {
        self.pass[end] - self.pass[first]
    }

    /// Forward alone.
    pub fn forward_s(&self, first: usize, end: usize) -> f64 {
        self.forward[end] - self.forward[first]
    }

    /// Optimizer step.
    pub fn update_s(&self, first: usize, end: usize) -> f64 {
        self.update[end] - self.update[first]
    }

    /// Forward and backward of each layer.
    pub fn layers(&self) -> Vec<f64> {
        self.pass.windows(2).map(|w| w[1] - w[0]).collect()
    }

    /// The longest optimizer step of a layer.
    pub fn longest_update_s(&self) -> f64 {
        self.update.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max)
    }
}

type Columns = RefCell<BTreeMap<(usize, u32, u32), Option<Rc<Column>>>>;

/// A scenario as planners see it.
pub struct View<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Its devices, in the scenario's order of groups.
    pub pools: Vec<Pool>,
    pool_of_group: Vec<usize>,
    /// Layers of the model, embedding and head among them.
    pub layers: usize,
    /// Parameters on a rank, running sums over layers, by TP.
    parameters: RefCell<BTreeMap<u32, Rc<Vec<f64>>>>,
    held: Held,
    at: SimTime,
    columns: Columns,
}

type Held = RefCell<BTreeMap<(u32, u32), Rc<(Vec<f64>, Vec<f64>)>>>;

/// A plan that says no more than its micro-batch: what memory asks of one.
fn bare(micro_batch: u32) -> Plan {
    Plan { micro_batch, ..Plan::default() }
}

impl<'a> View<'a> {
    /// The scenario at an instant of its traces.
    pub fn new(scenario: &'a Scenario, at: SimTime) -> View<'a> {
        let (mut pools, mut pool_of_group): (Vec<Pool>, Vec<usize>) = (Vec::new(), Vec::new());
        for (g, group) in scenario.groups.iter().enumerate() {
            let devices = (0..group.gpus()).map(|index| DeviceId { group: g as u32, index });
            let alike = |p: &Pool| {
                let other = &scenario.groups[p.group];
                (&other.gpu, &other.zone, other.gpus_per_node)
                    == (&group.gpu, &group.zone, group.gpus_per_node)
                    && other.layers == group.layers
            };
            let at = pools.iter().position(alike).unwrap_or(pools.len());
            if at == pools.len() {
                pools.push(Pool {
                    gpu: group.gpu.name.clone(),
                    zone: group.zone.clone(),
                    per_node: group.gpus_per_node,
                    memory: group.gpu.memory,
                    group: g,
                    devices: Vec::new(),
                });
            }
            pools[at].devices.extend(devices);
            pool_of_group.push(at);
        }
        View {
            scenario,
            pools,
            pool_of_group,
            layers: scenario.model.layers() as usize,
            parameters: RefCell::default(),
            held: RefCell::default(),
            at,
            columns: RefCell::default(),
        }
    }

    /// All devices, pool by pool.
    pub fn devices(&self) -> Vec<DeviceId> {
        self.pools.iter().flat_map(|p| p.devices.iter().copied()).collect()
    }

    /// The pool of a device.
    pub fn pool_of(&self, device: DeviceId) -> usize {
        self.pool_of_group[device.group as usize]
    }

    /// Rate of one transfer of `bytes` in `streams` streams between two devices, B/s.
    pub fn hop_rate(&self, a: DeviceId, b: DeviceId, bytes: f64, streams: u32) -> f64 {
        let inside = self.scenario.node(a) == self.scenario.node(b);
        self.rate(self.pool_of(a), self.pool_of(b), inside, bytes, streams)
    }

    /// Seconds of such a transfer, latency included.
    pub fn hop_s(&self, a: DeviceId, b: DeviceId, bytes: f64, streams: u32) -> f64 {
        let inside = self.scenario.node(a) == self.scenario.node(b);
        self.send_s(self.pool_of(a), self.pool_of(b), inside, bytes, streams)
    }

    /// Seconds of a ring all-reduce of `bytes` over `ring`, at the rate of its slowest hop; 0 for a ring of one.
    pub fn ring_s(&self, ring: &[DeviceId], bytes: f64) -> f64 {
        let n = ring.len() as f64;
        if ring.len() < 2 {
            return 0.0;
        }
        let next = |i: usize| ring[(i + 1) % ring.len()];
        let rates = (0..ring.len()).map(|i| self.hop_rate(ring[i], next(i), bytes / n, 1));
        2.0 * (n - 1.0) / n * bytes / rates.fold(f64::INFINITY, f64::min)
    }

    /// Micro-batches of an iteration, all pipelines together.
    pub fn micro_batch_count(&self, micro_batch: u32) -> u32 {
        self.scenario.training.global_batch / micro_batch
    }

    /// Micro-batch sizes to try, smallest first: those that the scenario names or that layer times are known for, as far as
    /// they divide the batch.
    pub fn micro_batches(&self) -> Vec<u32> {
        let mut sizes: Vec<u32> = self.scenario.search.micro_batches.clone();
        if sizes.is_empty() {
            sizes = self.scenario.groups.iter().flat_map(|g| g.layers.micro_batches()).collect();
        }
        sizes.retain(|s| *s > 0 && self.scenario.training.global_batch.is_multiple_of(*s));
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// TP degrees of a pool, smallest first: divisors of its node at which there are layer times for some micro-batch.
    pub fn tps(&self, pool: usize) -> Vec<u32> {
        let per_node = self.pools[pool].per_node;
        let sizes = self.micro_batches();
        let known = |tp: &u32| sizes.iter().any(|s| self.column(pool, *s, *tp).is_some());
        (1..=per_node).filter(|tp| per_node.is_multiple_of(*tp)).filter(known).collect()
    }

    /// TP degrees that every pool has, smallest first.
    pub fn common_tps(&self) -> Vec<u32> {
        let mut tps = self.tps(0);
        for pool in 1..self.pools.len() {
            let others = self.tps(pool);
            tps.retain(|tp| others.contains(tp));
        }
        tps
    }

    /// Times on a pool; `None` where there are none.
    pub fn column(&self, pool: usize, micro_batch: u32, tp: u32) -> Option<Rc<Column>> {
        let find = || {
            let times = self.scenario.groups[self.pools[pool].group].layers.at(micro_batch, tp).ok()?;
            let running = times.running();
            (running.len() == self.layers + 1).then(|| {
                let seconds = |d: sim_core::SimDuration| d.as_secs_f64();
                Rc::new(Column {
                    pass: running.iter().map(|c| seconds(c.forward) + seconds(c.backward)).collect(),
                    forward: running.iter().map(|c| seconds(c.forward)).collect(),
                    update: running.iter().map(|c| seconds(c.update)).collect(),
                })
            })
        };
        self.columns.borrow_mut().entry((pool, micro_batch, tp)).or_insert_with(find).clone()
    }

    /// The slowest pool's times at each layer: what a planner that knows one kind of GPU would have profiled last.
    pub fn slowest_column(&self, micro_batch: u32, tp: u32) -> Option<Rc<Column>> {
        let columns: Option<Vec<_>> =
            (0..self.pools.len()).map(|p| self.column(p, micro_batch, tp)).collect();
        columns?.into_iter().max_by(|a, b| a.pass[self.layers].total_cmp(&b.pass[self.layers]))
    }

    /// Bytes of the gradients of layers `first .. end` on one of `tp` ranks.
    pub fn gradient_bytes(&self, first: usize, end: usize, tp: u32) -> f64 {
        let make = || {
            let mut sums = vec![0.0];
            for l in 0..self.layers as u32 {
                sums.push(sums[l as usize] + self.scenario.model.parameters(l, tp) as f64);
            }
            Rc::new(sums)
        };
        let sums = self.parameters.borrow_mut().entry(tp).or_insert_with(make).clone();
        (sums[end] - sums[first]) * self.scenario.training.precision.activation_bytes() as f64
    }

    /// Bytes of the activation of one micro-batch between two stages.
    pub fn activation_bytes(&self, micro_batch: u32) -> f64 {
        let bytes = self.scenario.model.boundary_bytes(self.scenario.training.precision);
        bytes.0 as f64 * f64::from(micro_batch)
    }

    /// Rate of one transfer of `bytes` in `streams` streams with nothing else on its links, B/s: between GPUs of one node of
    /// pool `a`, or from a node of pool `a` to another of pool `b`.
    pub fn rate(&self, a: usize, b: usize, inside: bool, bytes: f64, streams: u32) -> f64 {
        let (from, to) = (self.pools[a].group, self.pools[b].group);
        let (from, to) = (&self.scenario.groups[from], &self.scenario.groups[to]);
        let bytes = Bytes::from_f64(bytes);
        if inside {
            return from.inside.transfer_rate(bytes, streams);
        }
        let at = |profile: &sim_core::CapacityProfile| profile.at(self.at).as_bytes_per_s();
        let link = &self.scenario.node_links[self.pools[a].group][self.pools[b].group];
        let mut rate = link.transfer_rate(bytes, streams).min(at(&from.nic)).min(at(&to.nic));
        if from.zone != to.zone
            && let Some((_, zone)) = self.scenario.zone_link(&from.zone, &to.zone)
        {
            rate = rate.min(at(&zone.capacity));
        }
        // A link that is down now would have no time; planners take it to be very slow.
        rate.max(1.0)
    }

    /// Seconds of such a transfer, latency included.
    pub fn send_s(&self, a: usize, b: usize, inside: bool, bytes: f64, streams: u32) -> f64 {
        let (from, to) =
            (&self.scenario.groups[self.pools[a].group], &self.scenario.groups[self.pools[b].group]);
        let mut latency = if inside {
            from.inside.latency_s
        } else {
            self.scenario.node_links[self.pools[a].group][self.pools[b].group].latency_s
        };
        if !inside
            && from.zone != to.zone
            && let Some((_, zone)) = self.scenario.zone_link(&from.zone, &to.zone)
        {
            latency += zone.latency.as_secs_f64();
        }
        latency + bytes / self.rate(a, b, inside, bytes, streams)
    }

    /// Whether stage `stage` of `stages` with layers `first .. end` fits into a device of the pool, with so many micro-batches
    /// a pipeline.
    #[allow(clippy::too_many_arguments, reason = "what memory depends on")]
    pub fn fits(
        &self,
        pool: usize,
        micro_batch: u32,
        tp: u32,
        (first, end): (usize, usize),
        stage: usize,
        stages: usize,
        micro_batches: u32,
    ) -> bool {
        let plan = bare(micro_batch);
        let of = |(first, last): (u32, u32), stage, stages, micro_batches: u32| {
            let layers = LayerRange { first, last }.into();
            let stage = StageMemory::plain(&layers, tp, stage as u32, stages as u32, micro_batches.max(1));
            memory::of_stage(self.scenario, &plan, &stage)
        };
        let memory = self.pools[pool].memory;
        if first == 0 && end == self.layers {
            // All layers at once may share what they hold.
            return of((0, end as u32 - 1), stage, stages, micro_batches).total() <= memory;
        }
        let sums = self.held(micro_batch, tp);
        let apart = of((first as u32, first as u32), stage, stages, micro_batches);
        let in_flight = f64::from(plan.schedule.in_flight(stage as u32, stages as u32, micro_batches.max(1)));
        let need = (sums.0[end] - sums.0[first])
            + (sums.1[end] - sums.1[first]) * in_flight
            + (apart.communication + apart.reserve).0 as f64;
        need <= memory.0 as f64
    }

    /// Whether a whole plan is one for the scenario and fits, by the memory of every device.
    pub fn plan_fits(&self, plan: &Plan) -> bool {
        Layout::new(self.scenario, plan)
            .is_ok_and(|l| memory_needs(self.scenario, plan, &l).iter().all(|(need, has)| need <= has))
    }

    /// Running sums over layers: bytes of parameters, gradients and optimizer; of the activations of one micro-batch.
    fn held(&self, micro_batch: u32, tp: u32) -> Rc<(Vec<f64>, Vec<f64>)> {
        let make = || {
            let (plan, mut sums) = (bare(micro_batch), (vec![0.0], vec![0.0]));
            for l in 0..self.layers {
                let layers = LayerRange { first: l as u32, last: l as u32 }.into();
                let one = memory::of_stage(self.scenario, &plan, &StageMemory::plain(&layers, tp, 0, 1, 1));
                sums.0.push(sums.0[l] + (one.parameters + one.gradients + one.optimizer).0 as f64);
                sums.1.push(sums.1[l] + one.activations.0 as f64);
            }
            Rc::new(sums)
        };
        self.held.borrow_mut().entry((micro_batch, tp)).or_insert_with(make).clone()
    }

    /// Bytes that layer `layer` needs by itself with one micro-batch in flight: what a profile of one layer would show.
    pub fn layer_memory(&self, micro_batch: u32, tp: u32, layer: usize) -> f64 {
        let (states, activations) = self.layer_parts(micro_batch, tp, layer);
        states + activations
    }

    /// Of that, the parameters, gradients and optimizer, and the activations of one micro-batch.
    pub fn layer_parts(&self, micro_batch: u32, tp: u32, layer: usize) -> (f64, f64) {
        let sums = self.held(micro_batch, tp);
        (sums.0[layer + 1] - sums.0[layer], sums.1[layer + 1] - sums.1[layer])
    }

    /// Cuts into `stages` with as many blocks each as can be, the embedding with the first and the head with the last; `None`
    /// with more stages than blocks.
    pub fn block_cuts(&self, stages: usize) -> Option<Vec<usize>> {
        let blocks = self.layers - 2;
        if stages == 0 || stages > blocks {
            return None;
        }
        let mut cuts = vec![0];
        let mut end = 1;
        for s in 0..stages {
            end += blocks / stages + usize::from(s < blocks % stages);
            cuts.push(if s + 1 == stages { self.layers } else { end });
        }
        Some(cuts)
    }
}
