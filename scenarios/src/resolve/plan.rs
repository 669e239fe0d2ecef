//! `[plan]` and PLAN.toml: from tables to a [`Plan`], and what [`plan_check`] finds, at its place.

use super::Context;
use crate::fault::{At, Faults, Place};
use crate::files;
use crate::format::{PipelineTable, PlanChoice, PlanTable, StageTable};
use crate::node::Node;
use crate::read::Read;
use sim_models::plan::{GradientSync, PipelineGroup, Plan, Recompute, Schedule, Stage};
use sim_models::plan_check;
use sim_models::scenario::Scenario;

/// Reads a plan's text; the node is for the places of later faults.
pub(crate) fn read(text: &str, whole: Place, faults: &mut Faults) -> Option<(Plan, Node)> {
    let node = Node::document(text, whole, faults)?;
    let before = faults.count();
    let table = PlanTable::read(&node, faults)?;
    let plan = plan(&table)?;
    (faults.count() == before).then_some((plan, node))
}

/// The scenario's plan, checked against it.
pub(super) fn resolve(choice: &PlanChoice, scenario: &Scenario, cx: &mut Context<'_>) -> Option<Plan> {
    let (plan, node) = match choice {
        PlanChoice::Inline(table, node) => (plan(table)?, node.clone()),
        PlanChoice::File(path) => {
            let (text, whole) = cx.file(path, files::DOCUMENT)?;
            read(&text.text, whole, cx.faults)?
        }
    };
    checked(plan, &node, scenario, cx.faults)
}

/// The plan, if it is one for this scenario.
pub(crate) fn checked(plan: Plan, node: &Node, scenario: &Scenario, faults: &mut Faults) -> Option<Plan> {
    let found = plan_check::check(scenario, &plan);
    for fault in &found {
        faults.push(node.place_of(&fault.path), fault.code, fault.message.clone(), fault.help.clone());
    }
    found.is_empty().then_some(plan)
}

fn plan(t: &PlanTable) -> Option<Plan> {
    Some(Plan {
        micro_batch: t.micro_batch.as_ref()?.value.u32(),
        schedule: t.schedule.as_ref().map_or(Schedule::default(), |s| s.value),
        overlap_p2p: t.overlap_p2p.as_ref().is_some_and(|o| o.value),
        in_flight: t.in_flight.as_ref().map(|n| n.value.u32()),
        sequence_parallel: t.sequence_parallel.as_ref().is_some_and(|o| o.value),
        overlap_tp: t.overlap_tp.as_ref().is_some_and(|o| o.value),
        zero: t.zero.as_ref().map_or(0, |z| z.value.u32() as u8),
        gradient_sync: t.gradient_sync.as_ref().map_or(GradientSync::default(), |s| s.value),
        gradient_bucket: t.gradient_bucket.as_ref().map(|b| b.value.0),
        overlap_gradients: t.overlap_gradients.as_ref().is_some_and(|o| o.value),
        gather_after_step: t.gather_after_step.as_ref().is_some_and(|g| g.value),
        pipelines: t.pipelines.as_ref()?.value.iter().map(pipeline).collect::<Option<_>>()?,
    })
}

fn pipeline(t: &At<PipelineTable>) -> Option<PipelineGroup> {
    let t = &t.value;
    Some(PipelineGroup {
        replicas: t.replicas.as_ref().map_or(1, |r| r.value.u32()),
        micro_batches: t.micro_batches.as_ref()?.value.u32(),
        stages: t.stages.as_ref()?.value.iter().map(stage).collect::<Option<_>>()?,
    })
}

fn stage(t: &At<StageTable>) -> Option<Stage> {
    let t = &t.value;
    Some(Stage {
        layers: t.layers.as_ref()?.value.clone(),
        tp: t.tp.as_ref().map_or(1, |tp| tp.value.u32()),
        cp: t.cp.as_ref().map_or(1, |cp| cp.value.u32()),
        ep: t.ep.as_ref().map_or(1, |ep| ep.value.u32()),
        recompute: t.recompute.as_ref().map_or(Recompute::default(), |r| r.value),
        devices: t.devices.as_ref()?.value.iter().map(|d| d.value.clone()).collect(),
    })
}
