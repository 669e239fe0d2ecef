//! What the search must know of a template at a micro-batch size, in O(1) per question: stage times over any layers,
//! memory over any layers, and a lower bound of the iteration for any layers of one stage, whatever the other stages have.

use crate::space::{Kind, Template};
use sim_models::layer_times::LayerSums;
use sim_models::link::LinkModel;
use sim_models::plan::Schedule;
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;

/// How times that depend on the rest of the plan are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As good as they can be: what is then too slow is too slow.
    Bound,
    /// As they are likely to be: alike pipelines share NICs and links between zones, and rings come one after another on a
    /// link between zones. Decides what is tried first, and how layers are cut; excludes nothing.
    Estimate,
}

/// Costs of one stage of a template. Times are ps; layers are `first .. end`.
#[derive(Clone, Debug)]
pub struct StageCost {
    times: LayerSums,
    /// Running sums over layers: bytes of parameters, gradients and optimizer; of activations of one micro-batch.
    state: Vec<u64>,
    activations: Vec<u64>,
    /// Running sums over layers: bytes of gradients, all tensor-parallel ranks together.
    gradients: Vec<u64>,
    /// Memory of a device, less what every stage needs whatever its layers.
    memory: u64,
    /// The time of a boundary transfer to or from the stage before (0 for the first): the least, and what is likely when
    /// alike pipelines transfer at once. By [`View`].
    before: [u64; 2],
    /// The same for the stage after (0 for the last).
    after: [u64; 2],
    /// Of the stage's ranks.
    kind: usize,
    tp: u32,
}

impl StageCost {
    /// Forward pass of one micro-batch.
    pub fn forward(&self, first: usize, end: usize) -> u64 {
        let sums = self.times.running();
        sums[end].forward.as_ps() - sums[first].forward.as_ps()
    }

    /// Backward pass of one micro-batch.
    pub fn backward(&self, first: usize, end: usize) -> u64 {
        let sums = self.times.running();
        sums[end].backward.as_ps() - sums[first].backward.as_ps()
    }

    /// Optimizer step.
    pub fn update(&self, first: usize, end: usize) -> u64 {
        let sums = self.times.running();
        sums[end].update.as_ps() - sums[first].update.as_ps()
    }

    /// What one micro-batch costs the stage: both passes and the transfers that block it.
    pub fn step(&self, first: usize, end: usize) -> u64 {
        self.forward(first, end) + self.backward(first, end) + self.before[0] + self.after[0]
    }

    /// Bytes by which the layers with `in_flight` micro-batches exceed the device (negative: to spare).
    pub fn excess(&self, first: usize, end: usize, in_flight: u32) -> i128 {
        let need = u128::from(self.state[end] - self.state[first])
            + u128::from(self.activations[end] - self.activations[first]) * u128::from(in_flight);
        i128::try_from(need).unwrap_or(i128::MAX) - i128::from(self.memory)
    }

    /// The time of the ring all-reduce of the layers' gradients at `rate` bytes/s over `pipelines` pipelines.
    fn sync(&self, first: usize, end: usize, pipelines: u32, rate: f64) -> u64 {
        if pipelines < 2 {
            return 0;
        }
        let bytes = (self.gradients[end] - self.gradients[first]) as f64;
        let n = f64::from(pipelines);
        floor_ps(2.0 * (n - 1.0) / n * bytes / rate)
    }
}

/// Seconds to ps, rounded down and a little more: the kernel's rates and times are integers of their own.
fn floor_ps(seconds: f64) -> u64 {
    if seconds.is_finite() { (seconds * 1e12 * (1.0 - 1e-9)) as u64 } else { 0 }
}

/// How the gradients of a pipeline are shared.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Pipelines of the plan, at least.
    pub pipelines: u32,
    /// Whether all rings share one link between zones.
    pub shared: bool,
    /// Rate of the rings of each stage, bytes/s.
    pub rates: Vec<f64>,
}

/// Whether two neighbouring stages of a pipeline may be on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// They may.
    Maybe,
    /// The placement keeps them on different nodes.
    Always,
}

/// Costs of a template at a micro-batch size.
#[derive(Clone, Debug)]
pub struct TemplateCost {
    /// By stage.
    pub stages: Vec<StageCost>,
    /// Layers of the model.
    pub layers: usize,
    /// `[s][l]`: the least time of the forward passes of stages `0 .. s` that hold layers `0 .. l`.
    forward_before: Vec<Vec<u64>>,
    /// The same for backward passes.
    backward_before: Vec<Vec<u64>>,
    /// `[s][l]`: the least time of both passes of stages `s ..` that hold layers `l ..`.
    below: Vec<Vec<u64>>,
    /// `[s][l]`: the least step of the slowest of stages `s ..` that hold layers `l ..`.
    slowest_below: Vec<Vec<u64>>,
    /// The longest transfers of any stage for one micro-batch.
    slack: u64,
    /// The least time that one micro-batch of one pipeline occupies a link between two zones, each way.
    on_zone_link: u64,
    /// The least time of the transfers on the way down to stage `s`.
    transfers_above: Vec<[u64; 2]>,
    schedule: Schedule,
}

/// Why a template has no costs: its layers have no times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMeasured;

/// No partition of the layers fits: bytes that the best one lacks on its fullest device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFit(pub i128);

/// A time that no sum of others reaches.
const NEVER: u64 = u64::MAX / 4;

impl TemplateCost {
    /// The costs of `template` in micro-batches of `micro_batch` under `schedule`, with about so many alike `pipelines`.
    ///
    /// # Errors
    /// [`NotMeasured`] when a stage's kind has no times at its micro-batch and TP.
    pub fn new(
        scenario: &Scenario,
        kinds: &[Kind],
        template: &Template,
        micro_batch: u32,
        schedule: Schedule,
        apart: Apart,
        pipelines: u32,
    ) -> Result<Self, NotMeasured> {
        let model = &scenario.model;
        let layers = model.layers() as usize;
        let precision = scenario.training.precision;
        let boundary = model.boundary_bytes(precision).times(u64::from(micro_batch));
        let mut stages = Vec::with_capacity(template.stages.len());
        for (s, shape) in template.stages.iter().enumerate() {
            let kind = &kinds[shape.kind as usize];
            let group = &scenario.groups[kind.group];
            let times = group.layers.at(micro_batch, shape.tp).ok();
            let times = times.filter(|t| t.running().len() == layers + 1).ok_or(NotMeasured)?;
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
            stages.push(StageCost {
                times,
                state,
                activations,
                gradients,
                memory,
                before: [0; 2],
                after: [0; 2],
                kind: shape.kind as usize,
                tp: shape.tp,
            });
        }
        let mut on_zone_link = 0;
        for s in 1..stages.len() {
            let (a, b) = (template.stages[s - 1], template.stages[s]);
            on_zone_link = on_zone_link.max(crossing(
                scenario,
                &kinds[a.kind as usize],
                &kinds[b.kind as usize],
                boundary,
            ));
            let streams = a.tp.min(b.tp);
            let (from, to) = (&kinds[a.kind as usize], &kinds[b.kind as usize]);
            let together = a == b && a.tp < from.gpus_per_node && apart == Apart::Maybe;
            let least = least_transfer(scenario, from, to, boundary, streams, together, [1; 3]);
            let share = |k: &Kind, tp| pipelines.min(k.gpus_per_node / tp);
            let shared = [share(from, a.tp), share(to, b.tp), pipelines];
            let likely = least_transfer(scenario, from, to, boundary, streams, together, shared);
            stages[s - 1].after = [least, likely];
            stages[s].before = [least, likely];
        }
        let mut cost = TemplateCost {
            layers,
            forward_before: Vec::new(),
            backward_before: Vec::new(),
            below: Vec::new(),
            slowest_below: Vec::new(),
            slack: stages.iter().map(|s| s.before[0] + s.after[0]).max().unwrap_or(0),
            transfers_above: Vec::new(),
            on_zone_link,
            stages,
            schedule,
        };
        cost.forward_before = cost.sums_before(StageCost::forward);
        cost.backward_before = cost.sums_before(StageCost::backward);
        let both = |stage: &StageCost, first, end| stage.forward(first, end) + stage.backward(first, end);
        cost.below = cost.rows_below(both, u64::saturating_add);
        cost.slowest_below = cost.rows_below(StageCost::step, u64::max);
        let mut above = [0; 2];
        for stage in &cost.stages {
            above = [above[0] + stage.before[0], above[1] + stage.before[1]];
            cost.transfers_above.push(above);
        }
        Ok(cost)
    }

    fn sums_before(&self, time: impl Fn(&StageCost, usize, usize) -> u64) -> Vec<Vec<u64>> {
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

    fn rows_below(
        &self,
        time: impl Fn(&StageCost, usize, usize) -> u64,
        join: impl Fn(u64, u64) -> u64,
    ) -> Vec<Vec<u64>> {
        let mut rows = vec![vec![NEVER; self.layers + 1]; self.stages.len() + 1];
        rows[self.stages.len()][self.layers] = 0;
        for (s, stage) in self.stages.iter().enumerate().rev() {
            for first in 0..self.layers {
                let least = (first + 1..=self.layers)
                    .map(|end| join(rows[s + 1][end], time(stage, first, end)))
                    .min();
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
    pub fn passes_end(&self, s: usize, first: usize, end: usize, micro_batches: u32, view: View) -> u64 {
        let n = u64::from(micro_batches);
        let stage = &self.stages[s];
        let (f, b) = (stage.forward(first, end), stage.backward(first, end));
        let warm_up = match self.schedule {
            Schedule::OneFOneB => (self.stages.len() - 1 - s) as u64,
            Schedule::GPipe => n - 1,
        };
        let v = view as usize;
        let (before, after, above) = (stage.before[v], stage.after[v], self.transfers_above[s][v]);
        let below = self.below[s + 1][end] + 2 * (self.transfers_above[self.stages.len() - 1][v] - above);
        // Between its first forward pass and its first backward pass, and between its last of each, the stage has other
        // passes to run; what they do not fill is idle. With few micro-batches the two gaps are one.
        let filled = warm_up.min(n - 1);
        let down = below.saturating_sub(filled.saturating_mul(f + after));
        let back = below.saturating_sub(filled.saturating_mul(b + before)).saturating_sub(after);
        let idle = if n - 1 > warm_up { down + back } else { down.max(back) };
        // A transfer down after each forward pass but the first, whose is on the way down and back, and one up after each
        // backward pass but the last, whose is on the way up.
        let blocked = (n - 1).saturating_mul(before + after);
        let lead = self.forward_before[s][first] + above;
        n.saturating_mul(f + b).saturating_add(blocked).saturating_add(lead + idle)
    }

    /// A lower bound of the iteration of a plan with such a stage: after its passes come the synchronisation of its
    /// gradients and its optimizer step, or the way back up.
    fn stage_bound(&self, s: usize, first: usize, end: usize, micro_batches: u32, sync: &Sync) -> u64 {
        let stage = &self.stages[s];
        let ends = stage.update(first, end) + stage.sync(first, end, sync.pipelines, sync.rates[s]);
        let up = self.backward_before[s][first] + self.transfers_above[s][0];
        self.passes_end(s, first, end, micro_batches, View::Bound).saturating_add(ends.max(up))
    }

    /// What a partition is chosen by. Where all rings share one link, the rings of the stages before, which end their passes
    /// later, come after this stage's on it.
    fn stage_estimate(&self, s: usize, first: usize, end: usize, micro_batches: u32, sync: &Sync) -> u64 {
        let stage = &self.stages[s];
        let ends = stage.update(first, end)
            + stage.sync(if sync.shared { 0 } else { first }, end, sync.pipelines, sync.rates[s]);
        let up = self.backward_before[s][first] + self.transfers_above[s][1];
        self.passes_end(s, first, end, micro_batches, View::Estimate).saturating_add(ends.max(up))
    }

    fn stage_value(&self, s: usize, layers: (usize, usize), n: u32, sync: &Sync, view: View) -> u64 {
        match view {
            View::Bound => self.stage_bound(s, layers.0, layers.1, n, sync),
            View::Estimate => self.stage_estimate(s, layers.0, layers.1, n, sync),
        }
    }

    /// When each layer's gradients are there, at the soonest, in a pipeline with this partition; and the time that their
    /// ring takes on the link between zones at least.
    pub fn releases(&self, borders: &[usize], micro_batches: u32, sync: &Sync) -> Vec<(u64, u64)> {
        let mut list = Vec::with_capacity(self.layers);
        for s in 0..self.stages.len() {
            let end = self.passes_end(s, borders[s], borders[s + 1], micro_batches, View::Bound);
            list.extend(
                (borders[s]..borders[s + 1])
                    .map(|l| (end, self.stages[s].sync(l, l + 1, sync.pipelines, sync.rates[s]))),
            );
        }
        list
    }

    /// The least over every contiguous partition that fits in memory of the largest bound of its
    /// stages: no such plan is faster. `None` when none fits. Or the same for the estimates.
    pub fn bound(&self, micro_batches: u32, sync: &Sync, view: View) -> Option<u64> {
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
                    if own.saturating_sub(stage.before[0] + stage.after[0]) >= least
                        || stage.excess(first, end, in_flight) > 0
                    {
                        break;
                    }
                    if best[first] < least {
                        let value = self.stage_value(s, (first, end), micro_batches, sync, view);
                        least = least.min(best[first].max(value));
                    }
                }
                best[end] = least;
            }
            best[s] = NEVER;
        }
        (best[self.layers] < NEVER).then_some(best[self.layers])
    }

    /// Whether [`TemplateCost::bound`] is at most `level`; much cheaper when it is far above.
    pub fn within(&self, micro_batches: u32, sync: &Sync, view: View, level: u64) -> bool {
        let (n, stages) = (u64::from(micro_batches), self.stages.len());
        // Steps alone, less the transfers of the last: what no stage of a partition within the level exceeds.
        let steps = |s: usize| (level.saturating_add(self.stages[s].before[0] + self.stages[s].after[0])) / n;
        let mut reached = vec![false; self.layers + 1];
        reached[0] = true;
        for (s, stage) in self.stages.iter().enumerate() {
            let in_flight = self.schedule.in_flight(s as u32, stages as u32, micro_batches);
            let longest = steps(s);
            let mut next = vec![false; self.layers + 1];
            let mut any = false;
            for (end, next) in
                next.iter_mut().enumerate().take(self.layers - (stages - 1 - s) + 1).skip(s + 1)
            {
                if self.slowest_below[s + 1][end] > level / n + self.slack / n + 1 {
                    continue;
                }
                for first in (s..end).rev() {
                    if stage.step(first, end) > longest || stage.excess(first, end, in_flight) > 0 {
                        break;
                    }
                    if reached[first] && self.stage_value(s, (first, end), micro_batches, sync, view) <= level
                    {
                        *next = true;
                        any = true;
                        break;
                    }
                }
            }
            if !any {
                return false;
            }
            reached = next;
        }
        reached[self.layers]
    }

    /// The partition with the least of the largest estimate of its stages (where no link is shared by all rings, that is
    /// [`TemplateCost::bound`]), and of those that the recursion keeps the one with the least sum: borders of the stages,
    /// first 0, last the number of layers.
    ///
    /// # Errors
    /// [`NoFit`] when none fits in memory.
    pub fn partition(&self, micro_batches: u32, sync: &Sync) -> Result<Vec<usize>, NoFit> {
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
    pub fn partition_bound(&self, borders: &[usize], micro_batches: u32, sync: &Sync) -> u64 {
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

    /// The longest transfers of any stage for one micro-batch.
    pub fn slack(&self) -> u64 {
        self.slack
    }

    /// The most micro-batches that `pipelines` pipelines, sharing a link between zones, can each send over it within
    /// `level`.
    pub fn over_zone_link(&self, pipelines: u32, level: u64) -> u64 {
        match self.on_zone_link.saturating_mul(u64::from(pipelines)) {
            0 => u64::MAX,
            each => level / each,
        }
    }

    /// The least step time of the slowest stage, over every contiguous partition, memory aside.
    pub fn bottleneck(&self) -> u64 {
        self.slowest_below[0][0]
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
fn one_zone_link(scenario: &Scenario) -> bool {
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

/// Rates of rings, for one scenario.
#[derive(Debug)]
pub struct Rings<'a> {
    scenario: &'a Scenario,
    kinds: &'a [Kind],
    /// Whether all hops between zones share one link.
    one_zone_link: bool,
}

impl<'a> Rings<'a> {
    /// For plans on these kinds.
    pub fn new(scenario: &'a Scenario, kinds: &'a [Kind]) -> Self {
        Rings { scenario, kinds, one_zone_link: one_zone_link(scenario) }
    }

    /// How pipelines of a template share gradients: `own` of it, `all` in the plan at least; `across` if some other pipeline
    /// lies wholly in other zones, so that every ring crosses zones.
    pub fn sync(&self, cost: &TemplateCost, own: u32, all: u32, across: bool, view: View) -> Sync {
        let all = all.max(if across { 2 } else { 1 });
        let model: u64 = cost.stages[0].gradients[cost.layers];
        let rate = |stage: &StageCost| {
            let kind = &self.kinds[stage.kind];
            let nodes = own > kind.gpus_per_node / stage.tp;
            // A ring moves chunks of the layers that its ranks share: at most of all layers, likely of a stage's.
            let chunk = match view {
                // An eighth more: other pipelines may pad and replicate more at their TP.
                View::Bound => Bytes((model + model / 8) / u64::from(all)),
                View::Estimate => Bytes((model / u64::from(all) / cost.stages.len() as u64).max(1)),
            };
            let rate = |link: &LinkModel| match view {
                View::Bound => link.rate_up_to(chunk, stage.tp),
                View::Estimate => link.transfer_rate(chunk, stage.tp),
            };
            self.fastest_hop(kind, rate, nodes, across)
        };
        Sync {
            pipelines: all,
            shared: across && self.one_zone_link,
            rates: cost.stages.iter().map(rate).collect(),
        }
    }

    /// The time that the ring of layers `layers.0 .. layers.1` is likely to take over `all` pipelines: at the rate of its
    /// slowest hop, and so many steps that each pay the longest latency. Holders: costs, stage, and pipelines of each template.
    pub fn likely(&self, layers: (usize, usize), holders: &[(&TemplateCost, usize, u32)], all: u32) -> u64 {
        if all < 2 {
            return 0;
        }
        let bytes = |(cost, s, _): &(&TemplateCost, usize, u32)| {
            cost.stages[*s].gradients[layers.1] - cost.stages[*s].gradients[layers.0]
        };
        let bytes = holders.iter().map(bytes).max().unwrap_or(0);
        let chunk = Bytes((bytes / u64::from(all)).max(1));
        let (mut rate, mut latency) = (f64::INFINITY, 0.0);
        for (i, (cost, s, own)) in holders.iter().enumerate() {
            let (a, from) = (&cost.stages[*s], &self.kinds[cost.stages[*s].kind]);
            let inside = &self.scenario.groups[from.group].inside;
            for (j, (cost, s, _)) in holders.iter().enumerate() {
                let (b, to) = (&cost.stages[*s], &self.kinds[cost.stages[*s].kind]);
                let streams = a.tp.min(b.tp);
                if i != j || *own > from.gpus_per_node / a.tp {
                    let (hop, after) = self.hop(from, to, chunk, streams);
                    (rate, latency) = (lower(rate, hop), higher(latency, after));
                } else if *own > 1 {
                    rate = lower(rate, inside.transfer_rate(chunk, streams));
                }
            }
        }
        let n = f64::from(all);
        floor_ps(2.0 * (n - 1.0) * (bytes as f64 / n / rate + latency))
    }

    /// The rate and the latency of a hop between two nodes, of the first groups of two kinds.
    fn hop(&self, from: &Kind, to: &Kind, bytes: Bytes, streams: u32) -> (f64, f64) {
        let (a, b) = (&self.scenario.groups[from.group], &self.scenario.groups[to.group]);
        let link = &self.scenario.node_links[from.group][to.group];
        let mut rate = link.transfer_rate(bytes, streams);
        rate = lower(rate, lower(a.nic.highest().as_bytes_per_s(), b.nic.highest().as_bytes_per_s()));
        match self.scenario.zone_link(&a.zone, &b.zone).filter(|_| a.zone != b.zone) {
            Some((_, zone)) => {
                let most = zone.capacity.highest().as_bytes_per_s();
                (lower(rate, most), link.latency_s + zone.latency.as_secs_f64())
            }
            None => (rate, link.latency_s),
        }
    }

    /// The rate of the fastest hop from a rank of a kind to any other, to one on another node, or of any to another zone.
    fn fastest_hop(&self, kind: &Kind, rate: impl Fn(&LinkModel) -> f64, nodes: bool, zones: bool) -> f64 {
        let mut best = 0.0;
        for g in if zones { (0..self.scenario.groups.len()).collect() } else { kind.groups() } {
            let group = &self.scenario.groups[g];
            let nic = group.nic.highest().as_bytes_per_s();
            if !nodes && !zones {
                best = higher(best, rate(&group.inside));
            }
            for (other, link) in self.scenario.groups.iter().zip(&self.scenario.node_links[g]) {
                let mut hop = lower(rate(link), nic);
                if zones {
                    if other.zone == group.zone {
                        continue;
                    }
                    if let Some((_, link)) = self.scenario.zone_link(&group.zone, &other.zone) {
                        hop = lower(hop, link.capacity.highest().as_bytes_per_s());
                    }
                }
                best = higher(best, hop);
            }
        }
        if best > 0.0 { best } else { f64::INFINITY }
    }
}

/// The least time that one boundary transfer between stages of two kinds occupies the link between their zones; 0 where
/// there is none, or where a kind is in more than one zone.
fn crossing(scenario: &Scenario, a: &Kind, b: &Kind, bytes: Bytes) -> u64 {
    match (&a.zones(scenario)[..], &b.zones(scenario)[..]) {
        ([a], [b]) if a != b => match scenario.zone_link(a, b) {
            Some((_, link)) => floor_ps(bytes.0 as f64 / link.capacity.highest().as_bytes_per_s()),
            None => 0,
        },
        _ => 0,
    }
}

/// The least time of one boundary transfer between stages of two kinds, over every pair of nodes and every instant, when so
/// many share the sender's NIC, the receiver's and the link between zones.
fn least_transfer(
    scenario: &Scenario,
    a: &Kind,
    b: &Kind,
    bytes: Bytes,
    streams: u32,
    together: bool,
    shared: [u32; 3],
) -> u64 {
    let mut best = f64::INFINITY;
    for ga in a.groups() {
        for gb in b.groups() {
            let mut consider = |seconds: f64| best = lower(best, seconds);
            let (from, to) = (&scenario.groups[ga], &scenario.groups[gb]);
            if ga == gb && together {
                consider(from.inside.transfer_s(bytes, streams));
            }
            let link = &scenario.node_links[ga][gb];
            let mut rate = link.transfer_rate(bytes, streams);
            let zone = scenario.zone_link(&from.zone, &to.zone).filter(|_| from.zone != to.zone);
            let capacities = [Some(&from.nic), Some(&to.nic), zone.map(|(_, l)| &l.capacity)];
            for (profile, by) in capacities.into_iter().zip(shared) {
                let most = profile.map_or(f64::INFINITY, |p| p.highest().as_bytes_per_s());
                rate = lower(rate, most / f64::from(by));
            }
            let latency = link.latency_s + zone.map_or(0.0, |(_, l)| l.latency.as_secs_f64());
            consider(latency + bytes.0 as f64 / rate);
        }
    }
    floor_ps(best)
}
