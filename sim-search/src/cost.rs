//! What the search must know of a template at a micro-batch size, in O(1) per question: stage times over any layers,
//! memory over any layers, and the best time that a transfer to the next stage can ever take.

use crate::space::{Kind, Template};
use sim_models::device::LayerCost;
use sim_models::plan::{Plan, Schedule};
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;

/// Costs of one stage of a template.
#[derive(Clone, Debug)]
pub struct StageCost<'a> {
    sums: &'a [LayerCost],
    /// Running sums over layers: bytes of parameters, gradients and optimizer, and of activations of one micro-batch.
    state: Vec<u64>,
    activations: Vec<u64>,
    /// Memory of a device, less what every stage needs whatever its layers.
    memory: u64,
    /// The least time of a boundary transfer to or from the stage before, and after; ps. 0 at the ends.
    pub before: u64,
    /// See `before`.
    pub after: u64,
}

impl StageCost<'_> {
    /// Forward pass over layers `first .. end` of one micro-batch, ps.
    pub fn forward(&self, first: usize, end: usize) -> u64 {
        self.sums[end].forward.as_ps() - self.sums[first].forward.as_ps()
    }

    /// Backward pass, ps.
    pub fn backward(&self, first: usize, end: usize) -> u64 {
        self.sums[end].backward.as_ps() - self.sums[first].backward.as_ps()
    }

    /// Optimizer step, ps.
    pub fn update(&self, first: usize, end: usize) -> u64 {
        self.sums[end].update.as_ps() - self.sums[first].update.as_ps()
    }

    /// What one micro-batch costs the stage: both passes and the transfers that block it.
    pub fn step(&self, first: usize, end: usize) -> u64 {
        self.forward(first, end) + self.backward(first, end) + self.before + self.after
    }

    /// Bytes by which layers `first .. end` with `in_flight` micro-batches exceed the device (negative: to spare).
    pub fn excess(&self, first: usize, end: usize, in_flight: u32) -> i128 {
        let need = u128::from(self.state[end] - self.state[first])
            + u128::from(self.activations[end] - self.activations[first]) * u128::from(in_flight);
        i128::try_from(need).unwrap_or(i128::MAX) - i128::from(self.memory)
    }
}

/// Costs of a template at a micro-batch size.
#[derive(Clone, Debug)]
pub struct TemplateCost<'a> {
    /// By stage.
    pub stages: Vec<StageCost<'a>>,
    /// Layers of the model.
    pub layers: usize,
}

/// Why a template has no costs: it was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMeasured;

impl<'a> TemplateCost<'a> {
    /// The costs of `template` in micro-batches of `micro_batch`.
    ///
    /// # Errors
    /// [`NotMeasured`] when a stage's kind has no times at its micro-batch and TP.
    pub fn new(
        scenario: &'a Scenario,
        kinds: &[Kind],
        template: &Template,
        micro_batch: u32,
    ) -> Result<Self, NotMeasured> {
        let model = &scenario.model;
        let layers = model.layers() as usize;
        let precision = scenario.training.precision;
        let boundary = model.boundary_bytes(precision).times(u64::from(micro_batch));
        let mut stages = Vec::with_capacity(template.stages.len());
        for (s, shape) in template.stages.iter().enumerate() {
            let group = &scenario.groups[kinds[shape.kind as usize].group];
            let table = group.layers.as_deref().ok_or(NotMeasured)?;
            let sums =
                table.sums(micro_batch, shape.tp).filter(|s| s.len() == layers + 1).ok_or(NotMeasured)?;
            let (mut state, mut activations) = (vec![0], vec![0]);
            let a_parameter =
                2 * precision.activation_bytes() + precision.optimizer_bytes(scenario.training.optimizer);
            for l in 0..layers as u32 {
                let parameters = Bytes(model.parameters(l, shape.tp)).times(a_parameter).0;
                let kept = model.activation_bytes(l, shape.tp, precision, &scenario.training.activations);
                state.push(u64::saturating_add(state[l as usize], parameters));
                activations
                    .push(u64::saturating_add(activations[l as usize], kept.times(u64::from(micro_batch)).0));
            }
            let neighbours = u64::from(s > 0) + u64::from(s + 1 < template.stages.len());
            let fixed = scenario.training.memory_reserve + boundary.times(2 * neighbours);
            let memory = group.gpu.memory.0.saturating_sub(fixed.0);
            stages.push(StageCost { sums, state, activations, memory, before: 0, after: 0 });
        }
        for s in 1..stages.len() {
            let (a, b) = (template.stages[s - 1], template.stages[s]);
            let streams = a.tp.min(b.tp);
            let least =
                least_transfer(scenario, &kinds[a.kind as usize], &kinds[b.kind as usize], boundary, streams);
            stages[s - 1].after = least;
            stages[s].before = least;
        }
        Ok(TemplateCost { stages, layers })
    }

    /// The least step time of the slowest stage, over every contiguous partition, memory aside; ps.
    pub fn bottleneck(&self) -> u64 {
        let mut best = vec![u64::MAX; self.layers + 1];
        best[0] = 0;
        for stage in &self.stages {
            for end in (0..=self.layers).rev() {
                best[end] = (0..end)
                    .filter(|first| best[*first] < u64::MAX)
                    .map(|first| best[first].max(stage.step(first, end)))
                    .min()
                    .unwrap_or(u64::MAX);
            }
        }
        best[self.layers]
    }

    /// The least, over every contiguous partition, of the largest excess of memory, with that many micro-batches in flight
    /// on each stage.
    pub fn least_excess(&self, in_flight: impl Fn(usize) -> u32) -> i128 {
        let mut best = vec![i128::MAX; self.layers + 1];
        best[0] = i128::MIN;
        for (s, stage) in self.stages.iter().enumerate() {
            for end in (0..=self.layers).rev() {
                best[end] = (0..end)
                    .filter(|first| best[*first] < i128::MAX)
                    .map(|first| best[first].max(stage.excess(first, end, in_flight(s))))
                    .min()
                    .unwrap_or(i128::MAX);
            }
        }
        best[self.layers]
    }

    /// A lower bound of the time of one pipeline that runs `micro_batches` with this partition (`borders[s] ..
    /// borders[s + 1]` are the layers of stage `s`), its optimizer step included, gradient synchronisation not; ps.
    ///
    /// For every stage: what lies before its first pass, its own steps, the idle time that the way down and back forces
    /// on it, and its optimizer step or the way back up. See docs/search.md for why nothing is counted twice.
    pub fn pipeline_bound(&self, borders: &[usize], micro_batches: u32, schedule: Schedule) -> u64 {
        let n = u64::from(micro_batches);
        let stages = self.stages.len();
        let layers = |s: usize| (borders[s], borders[s + 1]);
        let cost = |s: usize| {
            let ((first, end), stage) = (layers(s), &self.stages[s]);
            (stage.forward(first, end), stage.backward(first, end))
        };
        // The way of one micro-batch down from stage s and back to it: passes of later stages and transfers.
        let mut below = vec![0u64; stages + 1];
        for s in (0..stages).rev() {
            let (f, b) = cost(s);
            below[s] = below[s + 1] + f + b + 2 * self.stages[s].before;
        }
        let (mut bound, mut above_forward, mut above_backward) = (0u64, 0u64, 0u64);
        for s in 0..stages {
            let (stage, (f, b), (first, end)) = (&self.stages[s], cost(s), layers(s));
            above_forward += stage.before;
            above_backward += stage.before;
            let warm_up = match schedule {
                Schedule::OneFOneB => (stages - 1 - s) as u64,
                Schedule::GPipe => n - 1,
            };
            // Between its first forward pass and its first backward pass, and between its last of each, the stage has
            // other passes to run; what they do not fill is idle. A stage with few micro-batches has both gaps in one.
            let filled = warm_up.min(n - 1);
            let down = below[s + 1].saturating_sub(filled * (f + stage.after));
            let back = below[s + 1].saturating_sub(filled * (b + stage.before) + stage.after);
            let idle = if n - 1 > warm_up { down + back } else { down.max(back) };
            // A transfer down after each forward pass but the first, whose is on the way down and back, and one up after
            // each backward pass but the last, whose is on the way up.
            let blocked = (n - 1) * (stage.before + stage.after);
            let own = above_forward + n * (f + b) + blocked + idle;
            let ends = stage.update(first, end).max(above_backward);
            bound = bound.max(own + ends);
            above_forward += f;
            above_backward += b;
        }
        bound
    }
}

/// The least time of one boundary transfer between stages of two kinds, over every pair of nodes and every instant; ps.
fn least_transfer(scenario: &Scenario, a: &Kind, b: &Kind, bytes: Bytes, streams: u32) -> u64 {
    let groups = |k: &Kind| {
        let mut list: Vec<usize> = k.devices.iter().map(|d| d.group as usize).collect();
        list.dedup();
        list
    };
    let mut best = f64::INFINITY;
    for &ga in &groups(a) {
        for &gb in &groups(b) {
            let mut consider = |seconds: f64| best = if seconds < best { seconds } else { best };
            let (from, to) = (&scenario.groups[ga], &scenario.groups[gb]);
            if ga == gb && from.gpus_per_node > 1 {
                consider(from.inside.transfer_s(bytes, streams));
            }
            let link = &scenario.node_links[ga][gb];
            let mut rate = link.transfer_rate(bytes, streams);
            let zone = scenario.zone_link(&from.zone, &to.zone).filter(|_| from.zone != to.zone);
            let capacities = [Some(&from.nic), Some(&to.nic), zone.map(|(_, l)| &l.capacity)];
            for profile in capacities.into_iter().flatten() {
                let most = profile.highest().as_bytes_per_s();
                rate = if most < rate { most } else { rate };
            }
            let latency = link.latency_s + zone.map_or(0.0, |(_, l)| l.latency.as_secs_f64());
            consider(latency + bytes.0 as f64 / rate);
        }
    }
    // Rounded down, and a little less: the kernel's rates and times are integers of their own.
    if best.is_finite() { (best * 1e12 * (1.0 - 1e-9)) as u64 } else { 0 }
}

/// The plan-wide settings of a search.
pub fn plan_frame(micro_batch: u32) -> Plan {
    Plan { micro_batch, schedule: Schedule::OneFOneB, overlap_p2p: false, pipelines: Vec::new() }
}
