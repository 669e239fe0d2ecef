//! What the search must know of a template at a micro-batch size, in O(1) per question: stage times over any layers,
//! memory over any layers, and a lower bound of the iteration for any layers of one stage, whatever the other stages have.

use crate::space::{Kind, Template};
use sim_models::device::LayerCost;
use sim_models::plan::Schedule;
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;

/// Costs of one stage of a template. Times are ps; layers are `first .. end`.
#[derive(Clone, Debug)]
pub struct StageCost<'a> {
    sums: &'a [LayerCost],
    /// Running sums over layers: bytes of parameters, gradients and optimizer; of activations of one micro-batch.
    state: Vec<u64>,
    activations: Vec<u64>,
    /// Running sums over layers: bytes of gradients, all tensor-parallel ranks together.
    gradients: Vec<u64>,
    /// Memory of a device, less what every stage needs whatever its layers.
    memory: u64,
    /// The least time of a boundary transfer to or from the stage before (0 for the first).
    pub before: u64,
    /// The same for the stage after (0 for the last).
    pub after: u64,
    /// Best rate at which replicas of the stage share gradients, bytes/s: within the kind, and across zones.
    sync_rate: [f64; 2],
}

impl StageCost<'_> {
    /// Forward pass of one micro-batch.
    pub fn forward(&self, first: usize, end: usize) -> u64 {
        self.sums[end].forward.as_ps() - self.sums[first].forward.as_ps()
    }

    /// Backward pass of one micro-batch.
    pub fn backward(&self, first: usize, end: usize) -> u64 {
        self.sums[end].backward.as_ps() - self.sums[first].backward.as_ps()
    }

    /// Optimizer step.
    pub fn update(&self, first: usize, end: usize) -> u64 {
        self.sums[end].update.as_ps() - self.sums[first].update.as_ps()
    }

    /// What one micro-batch costs the stage: both passes and the transfers that block it.
    pub fn step(&self, first: usize, end: usize) -> u64 {
        self.forward(first, end) + self.backward(first, end) + self.before + self.after
    }

    /// Bytes by which the layers with `in_flight` micro-batches exceed the device (negative: to spare).
    pub fn excess(&self, first: usize, end: usize, in_flight: u32) -> i128 {
        let need = u128::from(self.state[end] - self.state[first])
            + u128::from(self.activations[end] - self.activations[first]) * u128::from(in_flight);
        i128::try_from(need).unwrap_or(i128::MAX) - i128::from(self.memory)
    }

    /// The least time of the ring all-reduce of the layers' gradients over at least `sync.pipelines` pipelines.
    fn sync(&self, first: usize, end: usize, sync: Sync) -> u64 {
        if sync.pipelines < 2 {
            return 0;
        }
        let bytes = (self.gradients[end] - self.gradients[first]) as f64;
        let n = f64::from(sync.pipelines);
        floor_ps(2.0 * (n - 1.0) / n * bytes / self.sync_rate[usize::from(sync.across)])
    }
}

/// Seconds to ps, rounded down and a little more: the kernel's rates and times are integers of their own.
fn floor_ps(seconds: f64) -> u64 {
    if seconds.is_finite() { (seconds * 1e12 * (1.0 - 1e-9)) as u64 } else { 0 }
}

/// With whom gradients are shared, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Pipelines of the template.
    pub pipelines: u32,
    /// Whether some pipeline of the plan lies in other zones than this one, so that every ring crosses zones.
    pub across: bool,
    /// Whether all rings then share one link.
    pub shared: bool,
}

/// Costs of a template at a micro-batch size.
#[derive(Clone, Debug)]
pub struct TemplateCost<'a> {
    /// By stage.
    pub stages: Vec<StageCost<'a>>,
    /// Layers of the model.
    pub layers: usize,
    /// `[s][l]`: the least time of the forward passes of stages `0 .. s` that hold layers `0 .. l`.
    forward_before: Vec<Vec<u64>>,
    /// The same for backward passes.
    backward_before: Vec<Vec<u64>>,
    /// `[s][l]`: the least time of both passes of stages `s ..` that hold layers `l ..`.
    below: Vec<Vec<u64>>,
    /// The least time of the transfers on the way down to stage `s`.
    transfers_above: Vec<u64>,
    schedule: Schedule,
}

/// Why a template has no costs: it was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMeasured;

/// No partition of the layers fits: bytes that the best one lacks on its fullest device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFit(pub i128);

/// A time that no sum of others reaches.
const NEVER: u64 = u64::MAX / 4;

impl<'a> TemplateCost<'a> {
    /// The costs of `template` in micro-batches of `micro_batch` under `schedule`.
    ///
    /// # Errors
    /// [`NotMeasured`] when a stage's kind has no times at its micro-batch and TP.
    pub fn new(
        scenario: &'a Scenario,
        kinds: &[Kind],
        template: &Template,
        micro_batch: u32,
        schedule: Schedule,
    ) -> Result<Self, NotMeasured> {
        let model = &scenario.model;
        let layers = model.layers() as usize;
        let precision = scenario.training.precision;
        let boundary = model.boundary_bytes(precision).times(u64::from(micro_batch));
        let across = zone_rate(scenario);
        let mut stages = Vec::with_capacity(template.stages.len());
        for (s, shape) in template.stages.iter().enumerate() {
            let kind = &kinds[shape.kind as usize];
            let group = &scenario.groups[kind.group];
            let table = group.layers.as_deref().ok_or(NotMeasured)?;
            let sums =
                table.sums(micro_batch, shape.tp).filter(|s| s.len() == layers + 1).ok_or(NotMeasured)?;
            let element = precision.activation_bytes();
            let a_parameter = 2 * element + precision.optimizer_bytes(scenario.training.optimizer);
            let (mut state, mut activations, mut gradients) = (vec![0u64], vec![0u64], vec![0u64]);
            for l in 0..layers as u32 {
                let parameters = model.parameters(l, shape.tp);
                let kept = model.activation_bytes(l, shape.tp, precision, &scenario.training.activations);
                let add = |list: &mut Vec<u64>, bytes: u64| list.push(list[l as usize].saturating_add(bytes));
                add(&mut state, parameters.saturating_mul(a_parameter));
                add(&mut activations, kept.times(u64::from(micro_batch)).0);
                add(&mut gradients, parameters.saturating_mul(u64::from(shape.tp) * element));
            }
            let neighbours = u64::from(s > 0) + u64::from(s + 1 < template.stages.len());
            let fixed = scenario.training.memory_reserve + boundary.times(2 * neighbours);
            let memory = group.gpu.memory.0.saturating_sub(fixed.0);
            let inside = kind.ring_rate(scenario);
            let sync_rate = [inside, lower(inside, across)];
            stages.push(StageCost {
                sums,
                state,
                activations,
                gradients,
                memory,
                before: 0,
                after: 0,
                sync_rate,
            });
        }
        for s in 1..stages.len() {
            let (a, b) = (template.stages[s - 1], template.stages[s]);
            let streams = a.tp.min(b.tp);
            let least =
                least_transfer(scenario, &kinds[a.kind as usize], &kinds[b.kind as usize], boundary, streams);
            stages[s - 1].after = least;
            stages[s].before = least;
        }
        let mut cost = TemplateCost {
            layers,
            forward_before: Vec::new(),
            backward_before: Vec::new(),
            below: Vec::new(),
            transfers_above: Vec::new(),
            stages,
            schedule,
        };
        cost.forward_before = cost.sums_before(StageCost::forward);
        cost.backward_before = cost.sums_before(StageCost::backward);
        cost.below = cost.sums_below();
        let mut above = 0;
        for stage in &cost.stages {
            above += stage.before;
            cost.transfers_above.push(above);
        }
        Ok(cost)
    }

    fn sums_before(&self, time: impl Fn(&StageCost<'a>, usize, usize) -> u64) -> Vec<Vec<u64>> {
        let mut rows = vec![vec![NEVER; self.layers + 1]];
        rows[0][0] = 0;
        for (s, stage) in self.stages.iter().enumerate() {
            let least = |end: usize| {
                (s..end).map(|first| rows[s][first].saturating_add(time(stage, first, end))).min()
            };
            let row = (0..=self.layers).map(|end| least(end).unwrap_or(NEVER).min(NEVER)).collect();
            rows.push(row);
        }
        rows
    }

    fn sums_below(&self) -> Vec<Vec<u64>> {
        let mut rows = vec![vec![NEVER; self.layers + 1]; self.stages.len() + 1];
        rows[self.stages.len()][self.layers] = 0;
        for (s, stage) in self.stages.iter().enumerate().rev() {
            for first in 0..self.layers {
                let both = |end| stage.forward(first, end) + stage.backward(first, end);
                let least =
                    (first + 1..=self.layers).map(|end| rows[s + 1][end].saturating_add(both(end))).min();
                rows[s][first] = least.unwrap_or(NEVER).min(NEVER);
            }
        }
        rows
    }

    /// When stage `s` of a pipeline of this template that holds layers `first .. end` and runs `micro_batches` has done its
    /// last pass, at the soonest, whatever the other stages and pipelines hold.
    ///
    /// What lies before its first pass, its own passes and the transfers that block it, and the idle time that the way
    /// down and back forces on it. See docs/search.md for why nothing is counted twice.
    fn passes_end(&self, s: usize, first: usize, end: usize, micro_batches: u32) -> u64 {
        let n = u64::from(micro_batches);
        let stage = &self.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let warm_up = match self.schedule {
            Schedule::OneFOneB => (self.stages.len() - 1 - s) as u64,
            Schedule::GPipe => n - 1,
        };
        let above = self.transfers_above[s];
        let below = self.below[s + 1][end] + 2 * (self.transfers_above[self.stages.len() - 1] - above);
        // Between its first forward pass and its first backward pass, and between its last of each, the stage has other
        // passes to run; what they do not fill is idle. With few micro-batches the two gaps are one.
        let filled = warm_up.min(n - 1);
        let down = below.saturating_sub(filled.saturating_mul(f + stage.after));
        let back = below.saturating_sub(filled.saturating_mul(b + stage.before)).saturating_sub(stage.after);
        let idle = if n - 1 > warm_up { down + back } else { down.max(back) };
        // A transfer down after each forward pass but the first, whose is on the way down and back, and one up after each
        // backward pass but the last, whose is on the way up.
        let blocked = (n - 1).saturating_mul(stage.before + stage.after);
        let lead = self.forward_before[s][first] + above;
        n.saturating_mul(f + b).saturating_add(blocked).saturating_add(lead + idle)
    }

    /// A lower bound of the iteration of a plan with such a stage: after its passes come the synchronisation of its
    /// gradients and its optimizer step, or the way back up.
    fn stage_bound(&self, s: usize, first: usize, end: usize, micro_batches: u32, sync: Sync) -> u64 {
        let stage = &self.stages[s];
        let ends = stage.update(first, end) + stage.sync(first, end, sync);
        let up = self.backward_before[s][first] + self.transfers_above[s];
        self.passes_end(s, first, end, micro_batches).saturating_add(ends.max(up))
    }

    /// What a partition is chosen by: the bound, and where all rings share one link also the rings of the stages before,
    /// which end their passes later and so come after this stage's on the link.
    fn stage_estimate(&self, s: usize, first: usize, end: usize, micro_batches: u32, sync: Sync) -> u64 {
        let bound = self.stage_bound(s, first, end, micro_batches, sync);
        if !sync.shared {
            return bound;
        }
        let stage = &self.stages[s];
        let ends = stage.update(first, end) + stage.sync(0, end, sync);
        bound.max(self.passes_end(s, first, end, micro_batches).saturating_add(ends))
    }

    /// When each layer's gradients are there, at the soonest, in a pipeline with this partition; and the time that their
    /// ring takes on the link between zones at least.
    pub fn releases(&self, borders: &[usize], micro_batches: u32, sync: Sync) -> Vec<(u64, u64)> {
        let mut list = Vec::with_capacity(self.layers);
        for s in 0..self.stages.len() {
            let end = self.passes_end(s, borders[s], borders[s + 1], micro_batches);
            list.extend((borders[s]..borders[s + 1]).map(|l| (end, self.stages[s].sync(l, l + 1, sync))));
        }
        list
    }

    /// The least over every contiguous partition that fits in memory of the largest [bound](Self::stage_bound) of its
    /// stages: no such plan is faster. `None` when none fits.
    pub fn bound(&self, micro_batches: u32, sync: Sync) -> Option<u64> {
        let mut best = vec![NEVER; self.layers + 1];
        best[0] = 0;
        let stages = self.stages.len();
        for (s, stage) in self.stages.iter().enumerate() {
            let in_flight = self.schedule.in_flight(s as u32, stages as u32, micro_batches);
            // Layers left for the stages after: at least one each.
            let most = self.layers - (stages - 1 - s);
            for end in (s + 1..=most).rev() {
                let mut least = NEVER;
                for first in (s..end).rev() {
                    // Fewer layers never take longer: past the least there is nothing to find.
                    let own = stage.step(first, end).saturating_mul(u64::from(micro_batches));
                    if own.saturating_sub(stage.before + stage.after) >= least
                        || stage.excess(first, end, in_flight) > 0
                    {
                        break;
                    }
                    if best[first] < least {
                        least =
                            least.min(best[first].max(self.stage_bound(s, first, end, micro_batches, sync)));
                    }
                }
                best[end] = least;
            }
            best[s] = NEVER;
        }
        (best[self.layers] < NEVER).then_some(best[self.layers])
    }

    /// The partition with the least of the largest estimate of its stages (where no link is shared by all rings, that is
    /// [`TemplateCost::bound`]), and of those that the recursion keeps the one with the least sum: borders of the stages,
    /// first 0, last the number of layers.
    ///
    /// # Errors
    /// [`NoFit`] when none fits in memory.
    pub fn partition(&self, micro_batches: u32, sync: Sync) -> Result<Vec<usize>, NoFit> {
        let stages = self.stages.len();
        let mut best = vec![(NEVER, 0u128); self.layers + 1];
        best[0] = (0, 0);
        let mut from = vec![vec![0; self.layers + 1]; stages];
        for (s, stage) in self.stages.iter().enumerate() {
            let in_flight = self.schedule.in_flight(s as u32, stages as u32, micro_batches);
            let mut next = vec![(NEVER, 0u128); self.layers + 1];
            for end in s + 1..=self.layers - (stages - 1 - s) {
                for first in (s..end).rev() {
                    if stage.excess(first, end, in_flight) > 0 {
                        break;
                    }
                    if best[first].0 < NEVER {
                        let bound = self.stage_estimate(s, first, end, micro_batches, sync);
                        let sum = best[first].1 + u128::from(bound);
                        let candidate = (best[first].0.max(bound), sum);
                        if candidate < next[end] || next[end].0 == NEVER {
                            next[end] = candidate;
                            from[s][end] = first;
                        }
                    }
                }
            }
            best = next;
        }
        if best[self.layers].0 >= NEVER {
            return Err(NoFit(
                self.least_excess(|s| self.schedule.in_flight(s as u32, stages as u32, micro_batches)),
            ));
        }
        let mut borders = vec![self.layers];
        for s in (0..stages).rev() {
            borders.push(from[s][borders[borders.len() - 1]]);
        }
        borders.reverse();
        Ok(borders)
    }

    /// The largest bound of the stages of one partition.
    pub fn partition_bound(&self, borders: &[usize], micro_batches: u32, sync: Sync) -> u64 {
        let bound = |s: usize| self.stage_bound(s, borders[s], borders[s + 1], micro_batches, sync);
        (0..self.stages.len()).map(bound).max().unwrap_or(0)
    }

    /// The largest excess of memory of one partition; bytes, not positive when it fits.
    pub fn partition_excess(&self, borders: &[usize], micro_batches: u32) -> i128 {
        let stages = self.stages.len();
        let excess = |s: usize| {
            let in_flight = self.schedule.in_flight(s as u32, stages as u32, micro_batches);
            self.stages[s].excess(borders[s], borders[s + 1], in_flight)
        };
        (0..stages).map(excess).max().unwrap_or(0)
    }

    /// The least step time of the slowest stage, over every contiguous partition, memory aside.
    pub fn bottleneck(&self) -> u64 {
        self.minimax(|s, first, end| i128::from(self.stages[s].step(first, end))).try_into().unwrap_or(NEVER)
    }

    /// The least, over every contiguous partition, of the largest excess of memory, with that many micro-batches in flight
    /// on each stage.
    pub fn least_excess(&self, in_flight: impl Fn(usize) -> u32) -> i128 {
        self.minimax(|s, first, end| self.stages[s].excess(first, end, in_flight(s)))
    }

    fn minimax(&self, value: impl Fn(usize, usize, usize) -> i128) -> i128 {
        let mut best = vec![i128::MAX; self.layers + 1];
        best[0] = i128::MIN;
        for s in 0..self.stages.len() {
            for end in (0..=self.layers).rev() {
                let reached = (s..end).filter(|first| best[*first] < i128::MAX);
                best[end] =
                    reached.map(|first| best[first].max(value(s, first, end))).min().unwrap_or(i128::MAX);
            }
        }
        best[self.layers]
    }
}

/// Whether all hops between zones share one link: there are two zones, and a link between them.
pub fn one_zone_link(scenario: &Scenario) -> bool {
    let zones: std::collections::BTreeSet<&str> = scenario.groups.iter().map(|g| g.zone.as_str()).collect();
    let zones: Vec<&str> = zones.into_iter().collect();
    matches!(zones[..], [a, b] if scenario.zone_link(a, b).is_some())
}

impl Kind {
    /// Groups of the scenario that its devices are in.
    fn groups(&self) -> Vec<usize> {
        let mut list: Vec<usize> = self.devices.iter().map(|d| d.group as usize).collect();
        list.dedup();
        list
    }

    /// The best rate, bytes/s, of a ring of which one rank is of this kind: that of the fastest hop from it.
    fn ring_rate(&self, scenario: &Scenario) -> f64 {
        let mut best = 0.0;
        for g in self.groups() {
            let group = &scenario.groups[g];
            let nic = group.nic.highest().as_bytes_per_s();
            best = higher(best, group.inside.wire_rate());
            for link in &scenario.node_links[g] {
                best = higher(best, lower(link.wire_rate(), nic));
            }
        }
        best
    }

    /// Zones of its devices.
    pub fn zones<'s>(&self, scenario: &'s Scenario) -> Vec<&'s str> {
        let mut zones: Vec<&str> = self.groups().iter().map(|g| scenario.groups[*g].zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }
}

fn higher(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

fn lower(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// The best rate, bytes/s, of any hop between two zones, at any instant; infinite when there is one zone.
fn zone_rate(scenario: &Scenario) -> f64 {
    let mut best = 0.0;
    for (g, from) in scenario.groups.iter().enumerate() {
        for (h, to) in scenario.groups.iter().enumerate().filter(|(_, to)| to.zone != from.zone) {
            let mut rate = lower(scenario.node_links[g][h].wire_rate(), from.nic.highest().as_bytes_per_s());
            rate = lower(rate, to.nic.highest().as_bytes_per_s());
            if let Some((_, link)) = scenario.zone_link(&from.zone, &to.zone) {
                rate = lower(rate, link.capacity.highest().as_bytes_per_s());
            }
            best = higher(best, rate);
        }
    }
    if best > 0.0 { best } else { f64::INFINITY }
}

/// The least time of one boundary transfer between stages of two kinds, over every pair of nodes and every instant.
fn least_transfer(scenario: &Scenario, a: &Kind, b: &Kind, bytes: Bytes, streams: u32) -> u64 {
    let mut best = f64::INFINITY;
    for ga in a.groups() {
        for gb in b.groups() {
            let mut consider = |seconds: f64| best = lower(best, seconds);
            let (from, to) = (&scenario.groups[ga], &scenario.groups[gb]);
            if ga == gb && from.gpus_per_node > 1 {
                consider(from.inside.transfer_s(bytes, streams));
            }
            let link = &scenario.node_links[ga][gb];
            let mut rate = link.transfer_rate(bytes, streams);
            let zone = scenario.zone_link(&from.zone, &to.zone).filter(|_| from.zone != to.zone);
            let capacities = [Some(&from.nic), Some(&to.nic), zone.map(|(_, l)| &l.capacity)];
            for profile in capacities.into_iter().flatten() {
                rate = lower(rate, profile.highest().as_bytes_per_s());
            }
            let latency = link.latency_s + zone.map_or(0.0, |(_, l)| l.latency.as_secs_f64());
            consider(latency + bytes.0 as f64 / rate);
        }
    }
    floor_ps(best)
}
