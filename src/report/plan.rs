//! A plan and its iteration for people: stages, memory, where the time goes.

use super::table::{Table, seconds, thousands};
use sim_models::device::Evidence;
use sim_models::iteration::{DeviceReport, Iteration};
use sim_models::layout::Layout;
use sim_models::plan::{Plan, Schedule, Stage};
use sim_models::scenario::Scenario;
use sim_models::units::Bytes;
use std::fmt::Write;

/// Name of a column, its cell of a stage, and what that is where it tells nothing.
type Extra = (&'static str, fn(&Stage) -> String, &'static str);

/// Columns of a stage that are there where some stage of the plan has more than the usual.
const EXTRA: [Extra; 3] = [
    ("cp", |s| s.cp.to_string(), "1"),
    ("ep", |s| s.ep.to_string(), "1"),
    ("recomputes", |s| s.recompute.to_string(), "none"),
];

/// The plan's stages, one row a stage of each group of alike pipelines; and how they train, where that is not the usual way.
pub(crate) fn stages(plan: &Plan, layout: &Layout, iteration: &Iteration) -> String {
    let all = || plan.pipelines.iter().flat_map(|p| &p.stages);
    let extra: Vec<_> = EXTRA.iter().filter(|(_, of, usual)| all().any(|s| of(s) != *usual)).collect();
    let mut heading = vec!["pipelines", "stage", "GPU", "GPUs", "tp"];
    heading.extend(extra.iter().map(|(name, ..)| *name));
    heading.extend(["layers", "micro-batches", "memory", "of, GiB", "busy", "exposed", "bubble"]);
    let mut table = Table::new(heading);
    for (g, group) in plan.pipelines.iter().enumerate() {
        for (s, stage) in group.stages.iter().enumerate() {
            let mine =
                |d: &&DeviceReport| layout.pipelines[d.pipeline as usize].group == g && d.stage == s as u32;
            let devices: Vec<&DeviceReport> = iteration.devices.iter().filter(mine).collect();
            let fullest = devices.iter().max_by_key(|d| d.peak_memory_bytes);
            let mut gpus: Vec<&str> = devices.iter().map(|d| d.gpu.as_str()).collect();
            gpus.dedup();
            let share = |part: fn(&DeviceReport) -> f64| {
                let (mut sum, mut count) = (0.0, 0.0);
                for d in &devices {
                    sum += part(d) * f64::from(d.count);
                    count += f64::from(d.count);
                }
                format!("{:.1} %", 100.0 * sum / count / iteration.time.as_secs_f64())
            };
            let gib = |bytes: Option<u64>| bytes.map_or("-".into(), |b| format!("{:.2}", Bytes(b).as_gib()));
            let first = if s == 0 { group.replicas.to_string() } else { String::new() };
            let mut row = vec![
                first,
                s.to_string(),
                gpus.join("+"),
                (u64::from(group.replicas) * u64::from(stage.width())).to_string(),
                stage.tp.to_string(),
            ];
            row.extend(extra.iter().map(|(_, of, _)| of(stage)));
            row.extend([
                stage.layers.to_string(),
                format!("{} x {}", group.micro_batches, plan.micro_batch),
                gib(fullest.map(|d| d.peak_memory_bytes)),
                gib(fullest.map(|d| d.memory_bytes)),
                share(|d| d.busy_s),
                share(|d| d.exposed_comm_s),
                share(|d| d.bubble_s),
            ]);
            table.row(row);
        }
    }
    let mut text = table.to_string();
    let ways = ways(plan);
    if !ways.is_empty() {
        let _ = writeln!(text, "with {}", ways.join(", "));
    }
    text
}

/// How the plan trains, where that is not the usual way.
pub(crate) fn ways(plan: &Plan) -> Vec<String> {
    let mut list = Vec::new();
    if plan.schedule != Schedule::default() {
        list.push(format!("schedule {}", plan.schedule));
    }
    if plan.zero > 0 {
        let shared = [
            "",
            "optimizer state",
            "optimizer state and gradients",
            "optimizer state, gradients and parameters",
        ];
        let shared = shared.get(usize::from(plan.zero)).copied().unwrap_or_default();
        list.push(format!("ZeRO {} ({shared} shared out)", plan.zero));
    }
    let flags = [
        (
            plan.sequence_parallel && plan.pipelines.iter().flat_map(|p| &p.stages).any(|s| s.tp > 1),
            "sequence parallelism",
        ),
        (plan.overlap_p2p, "transfers beside compute"),
        (plan.overlap_tp, "layers' own communication beside compute"),
        (plan.overlap_gradients, "gradients beside the last backward passes"),
        (plan.gather_after_step, "parameters gathered after the step"),
    ];
    list.extend(flags.iter().filter(|(on, _)| *on).map(|(_, words)| words.to_string()));
    list
}

/// Time, rate, how sure that is and where the devices' time goes, in a line each.
pub(crate) fn time(scenario: &Scenario, layout: &Layout, iteration: &Iteration) -> String {
    let (mut busy, mut exposed, mut bubble) = (0.0, 0.0, 0.0);
    for d in &iteration.devices {
        let n = f64::from(d.count);
        busy += d.busy_s * n;
        exposed += d.exposed_comm_s * n;
        bubble += d.bubble_s * n;
    }
    let all = busy + exposed + bubble;
    let percent = |part: f64| 100.0 * part / all;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "iteration {}   {} tokens/s   MFU {:.1} %",
        seconds(iteration.time.as_secs_f64()),
        thousands(iteration.tokens_per_s(scenario).round() as u64),
        100.0 * iteration.mfu(scenario, layout)
    );
    let known = match layout.evidence {
        Evidence::Measured => "measured",
        Evidence::Calibrated => "calibrated",
        Evidence::Extrapolated => "extrapolated",
    };
    let [low, high] = iteration.interval_s(layout).map(seconds);
    let _ = writeln!(text, "layer times {known}: for their part, nine times in ten between {low} and {high}");
    let _ = writeln!(
        text,
        "of all device time: compute {:.1} %, exposed communication {:.1} %, bubble {:.1} %",
        percent(busy),
        percent(exposed),
        percent(bubble)
    );
    text
}

/// A plan in a line: `24 x (V100.. tp 4 | A100.. tp 1)`.
pub(crate) fn shape(plan: &Plan) -> String {
    let group = |g: &sim_models::plan::PipelineGroup| {
        let stages: Vec<String> = g
            .stages
            .iter()
            .map(|s| {
                let mut names: Vec<&str> = s.devices.iter().map(|d| d.group.as_str()).collect();
                names.dedup();
                let extra = EXTRA.iter().filter(|(_, of, usual)| of(s) != *usual);
                let extra: String = extra.map(|(name, of, _)| format!(" {name} {}", of(s))).collect();
                format!("{} tp {}{extra} layers {}", names.join("+"), s.tp, s.layers)
            })
            .collect();
        format!("{} x {} of ({})", g.replicas, g.micro_batches, stages.join(" | "))
    };
    let pipelines = plan.pipelines.iter().map(group).collect::<Vec<_>>().join(", ");
    let ways = ways(plan);
    if ways.is_empty() { pipelines } else { format!("{pipelines}, with {}", ways.join(", ")) }
}
