//! `[[jobs]]`: several jobs on one cluster. Each sees the cluster with layer times of its own model.

use super::{Context, cluster, plan, workload};
use crate::fault::{At, Faults};
use crate::format::{JobTable, ModelTable, ScenarioFile, TrainingTable};
use crate::nearest::suggestion;
use crate::read::NodesName;
use sim_core::SimDuration;
use sim_models::plan::DeviceRange;
use sim_models::scenario::{DeviceId, Job, MOST_JOBS, Scenario};
use std::collections::{BTreeMap, BTreeSet};

/// What the scenario trains: its own tables, or those of its first job. Says what is missing.
pub(super) fn first<'a>(
    file: &'a ScenarioFile,
    faults: &mut Faults,
) -> (Option<&'a At<ModelTable>>, Option<&'a At<TrainingTable>>) {
    let jobs = file.jobs.as_ref().map_or(&[][..], |jobs| &jobs.value);
    let lack = |key: &str, own: bool, of_job: &dyn Fn(&JobTable) -> bool, faults: &mut Faults| {
        if own {
            return;
        }
        if jobs.is_empty() {
            file.lacks(key, faults);
        }
        for job in jobs.iter().filter(|job| !of_job(&job.value)) {
            job.value.lacks(key, faults);
        }
    };
    lack("model", file.model.is_some(), &|job| job.model.is_some(), faults);
    lack("training", file.training.is_some(), &|job| job.training.is_some(), faults);
    let job = jobs.first();
    (
        job.and_then(|j| j.value.model.as_ref()).or(file.model.as_ref()),
        job.and_then(|j| j.value.training.as_ref()).or(file.training.as_ref()),
    )
}

/// The jobs; those at fault are left out.
pub(super) fn jobs(
    file: &ScenarioFile,
    cluster: &Scenario,
    extrapolate: bool,
    cx: &mut Context<'_>,
) -> Vec<Job> {
    let Some(tables) = &file.jobs else { return Vec::new() };
    if tables.value.len() > MOST_JOBS {
        let message = format!("{} jobs: at most {MOST_JOBS} share a cluster", tables.value.len());
        cx.faults.push(tables.place, "T0313", message, "");
        return Vec::new();
    }
    if let Some(plan) = &file.plan {
        let help = "each of the `[[jobs]]` has a `plan` of its own";
        cx.faults.push(plan.place, "T0310", "`plan` beside `jobs`", help);
    }
    if cx.faults.count() > 0 {
        // The cluster is at fault already: each job would only say so again.
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    let mut holders: BTreeMap<DeviceId, String> = BTreeMap::new();
    let mut found = Vec::new();
    for table in &tables.value {
        let Some(name) = &table.value.name else { continue };
        if !names.insert(name.value.0.as_str()) {
            let message = format!("two jobs are called `{}`", name.value.0);
            cx.faults.push(name.place, "T0301", message, "each needs a name of its own");
            continue;
        }
        let Some(job) = job(table, file, cluster, extrapolate, cx) else { continue };
        if let (Some(plan), Some(choice)) = (&job.scenario.plan, &table.value.plan) {
            let stages = plan.pipelines.iter().flat_map(|p| &p.stages);
            let devices = stages.flat_map(|s| s.devices()).filter_map(|(group, index)| {
                let group = cluster.group_index(group)? as u32;
                Some(DeviceId { group, index })
            });
            for device in devices {
                let shown = cluster.device_name(device);
                if !job.may_use(device) {
                    let message = format!("the plan uses `{shown}`, which is not among the nodes of the job");
                    cx.faults.push(choice.place, "T0313", message, "name its node in `nodes`");
                    break;
                }
                if let Some(other) = holders.insert(device, job.name.clone()) {
                    let message = format!("`{shown}` is in the plan of the job `{other}` already");
                    cx.faults.push(choice.place, "T0313", message, "jobs share links, not GPUs");
                    break;
                }
            }
        }
        found.push(job);
    }
    found
}

fn job(
    table: &At<JobTable>,
    file: &ScenarioFile,
    cluster: &Scenario,
    extrapolate: bool,
    cx: &mut Context<'_>,
) -> Option<Job> {
    let t = &table.value;
    let (model, training) =
        (t.model.as_ref().or(file.model.as_ref()), t.training.as_ref().or(file.training.as_ref()));
    let nodes = nodes(t, cluster, cx.faults);
    let workload = workload(model, training, extrapolate, cx)?;
    let mut groups = cluster::groups(file, Some(&workload), cx)?;
    for (group, of) in groups.iter_mut().zip(&cluster.groups) {
        group.leaves = of.leaves;
    }
    let mut scenario = Scenario {
        model: workload.model,
        training: workload.training,
        groups,
        plan: None,
        ..cluster.clone()
    };
    if !cx.overrides.without_plan {
        scenario.plan = t.plan.as_ref().and_then(|p| plan::resolve(&p.value, &scenario, cx));
    }
    Some(Job {
        name: t.name.as_ref()?.value.0.clone(),
        start: t.start.as_ref().map_or(SimDuration::ZERO, |s| s.value.0),
        iterations: t.iterations.as_ref().map_or(1, |n| n.value.0),
        weight: t.weight.as_ref().map_or(1, |n| n.value.0),
        nodes: nodes?,
        scenario,
    })
}

fn nodes(t: &JobTable, cluster: &Scenario, faults: &mut Faults) -> Option<Vec<DeviceRange>> {
    let mut ranges = Vec::new();
    let before = faults.count();
    for name in t.nodes.iter().flat_map(|n| &n.value) {
        let wanted = match &name.value {
            NodesName::Group(group) => group,
            NodesName::Range(range) => &range.group,
        };
        let Some(group) = cluster.groups.iter().find(|g| g.name == *wanted) else {
            let names: Vec<&str> = cluster.groups.iter().map(|g| g.name.as_str()).collect();
            let message = format!("no group of nodes is called `{wanted}`");
            faults.push(name.place, "T0313", message, suggestion(wanted, &names));
            continue;
        };
        let range = match &name.value {
            NodesName::Group(group_name) => {
                DeviceRange { group: group_name.clone(), first: 0, last: group.nodes - 1 }
            }
            NodesName::Range(range) if range.last >= group.nodes => {
                let message = format!("`{wanted}` has {} nodes", group.nodes);
                faults.push(name.place, "T0313", message, "nodes are counted from 0");
                continue;
            }
            NodesName::Range(range) => range.clone(),
        };
        ranges.push(range);
    }
    (faults.count() == before).then_some(ranges)
}
