//! A plan as frameworks know it: alike pipelines, one TP.

use super::{Refusal, checked, refuse};
use sim_models::plan::{DeviceRange, LayerRange, Layers, PipelineGroup, Plan, Recompute, Schedule, Stage};
use sim_models::scenario::Scenario;

/// A uniform plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uniform {
    /// Samples in a micro-batch.
    pub micro_batch: u32,
    /// Micro-batches that each pipeline takes in an iteration.
    pub micro_batches: u32,
    /// Pipelines.
    pub dp: u32,
    /// Tensor parallelism.
    pub tp: u32,
    /// Context parallelism.
    pub cp: u32,
    /// Expert parallelism.
    pub ep: u32,
    /// Layers of each stage; interleaved, a range a virtual stage.
    pub stages: Vec<Layers>,
    /// Recomputation, the same in every stage.
    pub recompute: Recompute,
    /// Everything of the plan that is not of a pipeline; its `pipelines` are empty.
    pub settings: Plan,
    /// Devices in rank order: tensor, context, data, pipeline.
    pub ranks: Vec<DeviceRange>,
}

impl Uniform {
    /// What a plan is, if it is uniform.
    ///
    /// # Errors
    /// In what its pipelines or stages differ.
    pub fn of(plan: &Plan) -> Result<Uniform, Refusal> {
        let Some(first) = plan.pipelines.first() else { return refuse("the plan has no pipelines", "") };
        let unlike =
            |what: &str| refuse(format!("its pipelines differ in {what}: a framework runs alike ones"), "");
        for group in &plan.pipelines {
            if group.micro_batches != first.micro_batches {
                return unlike("micro-batches");
            }
            if group.stages.len() != first.stages.len() {
                return unlike("stages");
            }
            for (a, b) in group.stages.iter().zip(&first.stages) {
                if a.layers != b.layers {
                    return unlike("layers");
                }
                if (a.tp, a.cp, a.ep, a.recompute) != (b.tp, b.cp, b.ep, b.recompute) {
                    return unlike("tensor, context or expert parallelism, or recomputation");
                }
            }
        }
        let Some(stage) = first.stages.first() else { return refuse("a pipeline has no stages", "") };
        let shape = |s: &Stage| (s.tp, s.cp, s.ep, s.recompute);
        if first.stages.iter().any(|s| shape(s) != shape(stage)) {
            return refuse(
                "its stages differ in tensor, context or expert parallelism, or recomputation",
                "a framework has one degree for the whole plan",
            );
        }
        let mut ranks: Vec<DeviceRange> = Vec::new();
        for s in 0..first.stages.len() {
            for range in plan.pipelines.iter().flat_map(|g| &g.stages[s].devices) {
                match ranks.last_mut() {
                    Some(last) if last.group == range.group && last.last + 1 == range.first => {
                        last.last = range.last
                    }
                    _ => ranks.push(range.clone()),
                }
            }
        }
        let dp = u32::try_from(plan.pipeline_count()).unwrap_or(u32::MAX);
        Ok(Uniform {
            micro_batch: plan.micro_batch,
            micro_batches: first.micro_batches,
            dp,
            tp: stage.tp,
            cp: stage.cp,
            ep: stage.ep,
            stages: first.stages.iter().map(|s| s.layers.clone()).collect(),
            recompute: stage.recompute,
            settings: Plan { pipelines: Vec::new(), ..plan.clone() },
            ranks,
        })
    }

    /// GPUs that it takes.
    pub fn gpus(&self) -> u64 {
        [self.dp, self.tp, self.cp].iter().map(|n| u64::from(*n)).product::<u64>() * self.stages.len() as u64
    }

    /// The plan on the scenario's devices, checked. Without `ranks`, devices are taken group by group.
    ///
    /// # Errors
    /// Everything that makes it no plan for the scenario.
    pub fn plan(&self, scenario: &Scenario) -> Result<Plan, Refusal> {
        let (needs, has) = (self.gpus(), scenario.gpus());
        if needs > has {
            return refuse(format!("the plan needs {needs} GPUs, the cluster has {has}"), "");
        }
        let mut ranges: Vec<DeviceRange> = self.ranks.clone();
        if ranges.is_empty() {
            let all = scenario.groups.iter().filter(|g| g.gpus() > 0);
            ranges =
                all.map(|g| DeviceRange { group: g.name.clone(), first: 0, last: g.gpus() - 1 }).collect();
        }
        let named: u64 = ranges.iter().map(|r| u64::from(r.last - r.first) + 1).sum();
        if named > has {
            return refuse(
                format!("`ranks` names {named} devices, the cluster has {has}"),
                "each device once",
            );
        }
        if named < needs {
            return refuse(format!("`ranks` names {named} devices, the plan needs {needs}"), "");
        }
        let mut left = ranges.into_iter();
        let mut open: Option<DeviceRange> = None;
        let mut take = |count: u32| {
            let (mut wanted, mut taken) = (count, Vec::new());
            while wanted > 0 {
                let Some(mut range) = open.take().or_else(|| left.next()) else { break };
                let size = (range.last - range.first) + 1;
                if size > wanted {
                    let rest = DeviceRange { first: range.first + wanted, ..range.clone() };
                    range.last = rest.first - 1;
                    open = Some(rest);
                }
                wanted -= size.min(wanted);
                taken.push(range);
            }
            taken
        };
        let stages = self
            .stages
            .iter()
            .map(|layers| Stage {
                layers: layers.clone(),
                tp: self.tp,
                cp: self.cp,
                ep: self.ep,
                recompute: self.recompute,
                devices: take(self.dp * self.tp * self.cp),
            })
            .collect();
        let pipelines = vec![PipelineGroup { replicas: self.dp, micro_batches: self.micro_batches, stages }];
        checked(scenario, Plan { micro_batch: self.micro_batch, pipelines, ..self.settings.clone() })
    }

    /// Blocks of each stage, where the embedding is with the first block and the head with the last, and no stage is
    /// interleaved.
    pub(super) fn blocks(&self, scenario: &Scenario) -> Option<Vec<u32>> {
        let (mut next, mut blocks) = (0, Vec::new());
        for (s, layers) in self.stages.iter().enumerate() {
            let &[LayerRange { first, last }] = layers.chunks() else { return None };
            if first != next {
                return None;
            }
            next = last + 1;
            let ends = u32::from(s == 0) + u32::from(s + 1 == self.stages.len());
            blocks.push((last - first + 1).checked_sub(ends)?);
        }
        (next == scenario.model.layers()).then_some(blocks)
    }

    /// Whether every pipeline has the same share of the batch, as all frameworks have it.
    pub(super) fn whole_batch(&self, scenario: &Scenario) -> bool {
        u64::from(self.micro_batch) * u64::from(self.micro_batches) * u64::from(self.dp)
            == u64::from(scenario.training.global_batch)
    }

    /// `a100:0-7, v100:0-15`
    pub(super) fn ranks_text(&self) -> String {
        self.ranks.iter().map(DeviceRange::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Stages with so many blocks each, the embedding with the first and the head with the last.
pub(super) fn stages_of(blocks: &[u32]) -> Vec<Layers> {
    let mut next = 0;
    blocks
        .iter()
        .enumerate()
        .map(|(s, n)| {
            let ends = u32::from(s == 0) + u32::from(s + 1 == blocks.len());
            let range = LayerRange { first: next, last: (next + n + ends).saturating_sub(1).max(next) };
            next = range.last + 1;
            range.into()
        })
        .collect()
}

/// Micro-batches of each of `dp` pipelines.
pub(super) fn micro_batches(scenario: &Scenario, micro_batch: u32, dp: u32) -> Result<u32, Refusal> {
    let batch = scenario.training.global_batch;
    match micro_batch.checked_mul(dp) {
        Some(step) if step > 0 && batch.is_multiple_of(step) => Ok(batch / step),
        _ => refuse(
            format!(
                "a global batch of {batch} does not divide into {dp} pipelines with micro-batches of {micro_batch}"
            ),
            "micro-batch x data parallelism divides the global batch",
        ),
    }
}

/// What fills the cluster: data parallelism of `gpus` over a pipeline of `width` a stage.
pub(super) fn data_parallel(gpus: u64, width: u64, stages: u64) -> Result<u32, Refusal> {
    let pipeline = width.saturating_mul(stages);
    if pipeline == 0 || !gpus.is_multiple_of(pipeline) {
        return refuse(format!("{gpus} GPUs do not divide into pipelines of {pipeline}"), "");
    }
    Ok(u32::try_from(gpus / pipeline).unwrap_or(u32::MAX))
}

/// Reads `a100:0-7, v100:0-15`.
pub(super) fn read_ranks(text: &str) -> Result<Vec<DeviceRange>, Refusal> {
    text.split(',')
        .map(|r| r.trim().parse::<DeviceRange>())
        .collect::<Result<_, _>>()
        .or_else(|e| refuse(format!("ranks: {e}"), ""))
}

/// 1F1B, or what a tool calls otherwise.
pub(super) fn plain(settings: Plan) -> Plan {
    Plan { schedule: Schedule::OneFOneB, ..settings }
}
