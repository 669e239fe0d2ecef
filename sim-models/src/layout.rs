//! A checked plan, laid out on devices: every pipeline with its stages, and who shares which layers' gradients.

use crate::device::{Evidence, LayerCost};
use crate::plan::{LayerRange, Plan, Stage};
use crate::plan_check::{self, PlanFault};
use crate::scenario::{DeviceId, NodeId, Scenario};

/// One pipeline of the plan.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Index of its group in [`Plan::pipelines`].
    pub group: usize,
    /// Micro-batches it takes in an iteration.
    pub micro_batches: u32,
    /// Its stages, as indices into [`Layout::ranks`], first to last.
    pub stages: std::ops::Range<usize>,
}

/// One stage of one pipeline: a tensor-parallel group whose devices run in lock step.
#[derive(Clone, Debug)]
pub struct Rank {
    /// Its pipeline, an index into [`Layout::pipelines`].
    pub pipeline: usize,
    /// Its stage in the pipeline.
    pub stage: u32,
    /// Its layers.
    pub layers: LayerRange,
    /// Tensor parallelism.
    pub tp: u32,
    /// Its devices, `tp` of them, on one node.
    pub devices: Vec<DeviceId>,
    /// Their node.
    pub node: NodeId,
    /// Times of its layers: forward and backward for one micro-batch, update once.
    pub cost: LayerCost,
}

/// Layers whose gradients the same ranks share.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// The layers.
    pub layers: LayerRange,
    /// The ranks that hold them, node by node: the order of the ring.
    pub ranks: Vec<usize>,
}

/// A plan laid out. See the head of this file.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Pipelines, in the plan's order.
    pub pipelines: Vec<Pipeline>,
    /// Stages of all pipelines, pipeline by pipeline.
    pub ranks: Vec<Rank>,
    /// Gradient synchronisation: layer ranges in order, only those held by more than one rank.
    pub syncs: Vec<SyncGroup>,
    /// How its layer times are known: the worst of them.
    pub evidence: Evidence,
    /// Standard deviation of the logarithm of true over given layer time: the widest of them.
    pub spread: f64,
}

impl Layout {
    /// Lays `plan` out.
    ///
    /// # Errors
    /// Everything that [`plan_check::check`] finds.
    pub fn new(scenario: &Scenario, plan: &Plan) -> Result<Layout, Vec<PlanFault>> {
        let faults = plan_check::check(scenario, plan);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut layout = Layout {
            pipelines: Vec::new(),
            ranks: Vec::new(),
            syncs: Vec::new(),
            evidence: Evidence::Measured,
            spread: 0.0,
        };
        for (group, pipelines) in plan.pipelines.iter().enumerate() {
            let devices: Vec<Vec<DeviceId>> = pipelines
                .stages
                .iter()
                .map(|s| {
                    let id = |(name, index): (&str, u32)| {
                        scenario.group_index(name).map(|g| DeviceId { group: g as u32, index })
                    };
                    s.devices().filter_map(id).collect()
                })
                .collect();
            // By stage: the node group of the replica before, and its times.
            let mut known: Vec<Option<(u32, LayerCost)>> = vec![None; devices.len()];
            for replica in 0..pipelines.replicas as usize {
                let first = layout.ranks.len();
                for (s, stage) in pipelines.stages.iter().enumerate() {
                    let tp = stage.tp as usize;
                    let devices = devices[s][replica * tp..(replica + 1) * tp].to_vec();
                    let group = devices[0].group;
                    let cost = match known[s] {
                        Some((of, cost)) if of == group => cost,
                        _ => layout.times(scenario, group, plan.micro_batch, stage),
                    };
                    known[s] = Some((group, cost));
                    layout.ranks.push(Rank {
                        pipeline: layout.pipelines.len(),
                        stage: s as u32,
                        layers: stage.layers,
                        tp: stage.tp,
                        node: scenario.node(devices[0]),
                        devices,
                        cost,
                    });
                }
                let stages = first..layout.ranks.len();
                layout.pipelines.push(Pipeline { group, micro_batches: pipelines.micro_batches, stages });
            }
        }
        layout.find_syncs(scenario.model.layers());
        Ok(layout)
    }

    /// Times of a stage on devices of a group.
    fn times(&mut self, scenario: &Scenario, group: u32, micro_batch: u32, stage: &Stage) -> LayerCost {
        let times = scenario.groups[group as usize].layers.at(micro_batch, stage.tp);
        let times = times.expect("the check found times for every stage");
        self.evidence = self.evidence.max(times.evidence);
        self.spread = self.spread.max(times.spread);
        times.cost(stage.layers).expect("the check found times for every layer")
    }

    /// The stages of the pipeline that `rank` belongs to.
    pub fn stage_count(&self, rank: &Rank) -> u32 {
        self.pipelines[rank.pipeline].stages.len() as u32
    }

    /// Between two borders of any stage, the ranks that hold a layer are the same.
    fn find_syncs(&mut self, layers: u32) {
        let mut border = vec![false; layers as usize + 1];
        border[0] = true;
        border[layers as usize] = true;
        for rank in &self.ranks {
            border[rank.layers.first as usize] = true;
        }
        let borders: Vec<u32> = (0..=layers).filter(|l| border[*l as usize]).collect();
        for pair in borders.windows(2) {
            let layers = LayerRange { first: pair[0], last: pair[1] - 1 };
            let holds = |r: &Rank| r.layers.first <= layers.first && layers.last <= r.layers.last;
            let mut ranks: Vec<usize> = (0..self.ranks.len()).filter(|&r| holds(&self.ranks[r])).collect();
            if ranks.len() > 1 {
                ranks.sort_by_key(|&r| (self.ranks[r].node, r));
                self.syncs.push(SyncGroup { layers, ranks });
            }
        }
    }
}
