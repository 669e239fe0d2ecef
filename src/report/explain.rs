//! An explanation for people and for programs: why an iteration takes its time.

use super::table::{Table, seconds, thousands};
use serde_json::{Map, Value, json};
use sim_models::device::Evidence;
use sim_models::explain::{Explanation, Faster, Limit, LinkReport, Parts, PathPart, StageReport, Step, What};
use sim_models::layout::Layout;
use sim_models::memory::Memory;
use sim_models::scenario::Scenario;
use sim_models::schedule::PassKind;
use sim_models::units::Bytes;
use std::fmt::Write;

/// Most rows of the links that are shown; a critical path of more is shown by kind. JSON has them all.
const MOST_ROWS: usize = 16;
/// The parts of time, in the order of [`Parts::each`].
pub(super) const PARTS: [&str; 6] = ["compute", "exposed TP", "exposed PP", "exposed DP", "bubble", "wait"];
/// The parts of memory, in the order of [`memory_parts`].
pub(super) const MEMORY: [&str; 6] =
    ["parameters", "gradients", "optimizer", "activations", "communication", "reserve"];
/// Gains below this fraction are none.
const NO_GAIN: f64 = 5e-5;

/// An explanation and what names its parts.
pub(crate) struct Explained<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) layout: &'a Layout,
    pub(crate) explanation: &'a Explanation,
    pub(crate) faster: &'a [Faster],
}

impl Explained<'_> {
    /// Sections of text.
    pub(crate) fn text(&self) -> String {
        self.of_job() + "\nshared links\n" + &self.links() + "\nlayer times\n" + &self.evidence()
    }

    /// The sections of a job that has links in common with others.
    pub(crate) fn of_job(&self) -> String {
        let e = self.explanation;
        let folded = if e.folded { ", folded: alike pipelines stand for one another" } else { "" };
        let mut text = format!(
            "critical path: {} through {} tasks{folded}\n",
            seconds(e.time.as_secs_f64()),
            thousands(e.path.tasks)
        );
        text += &self.path();
        text += "\ntime of each device, by part; what the parts mean: docs/explain.md\n";
        text += &self.times();
        text += "\nmemory of each device at its fullest, GiB\n";
        text += &self.memory();
        text += "\n10 % faster, one at a time\n";
        text + &self.helps()
    }

    /// The value of `explain`.
    pub(crate) fn json(&self) -> Value {
        let e = self.explanation;
        let devices: u64 = e.stages.iter().map(|s| s.devices).sum();
        let all = e.time.as_ps() as f64 * devices as f64;
        let overall = e.overall().map(|ps| if all > 0.0 { ps as f64 / all } else { 0.0 });
        json!({
            "time_ps": e.time.as_ps(),
            "folded": e.folded,
            "critical_path": {
                "tasks": e.path.tasks,
                "parts": e.path.parts.iter().map(|p| self.path_part(p)).collect::<Vec<_>>(),
            },
            "overall": overall.each().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "stages": e.stages.iter().map(|s| self.stage(s)).collect::<Vec<_>>(),
            "faster": self.faster.iter().map(|f| json!({
                "what": self.what(f.what),
                "by": 0.1,
                "iteration_time_s": f.time.as_secs_f64(),
                "gain": f.gain,
            })).collect::<Vec<_>>(),
            "links": e.links.iter().map(|l| json!({
                "link": l.link.name(self.scenario),
                "count": l.count,
                "bytes": l.bytes,
                "bytes_per_s": l.mean_rate,
                "mean_utilisation": l.mean_utilisation,
                "peak_utilisation": l.peak_utilisation,
            })).collect::<Vec<_>>(),
            "evidence": e.evidence.iter().map(|g| {
                let group = &self.scenario.groups[g.group as usize];
                json!({ "group": group.name, "gpu": group.gpu.name, "evidence": g.evidence, "spread": g.spread })
            }).collect::<Vec<_>>(),
        })
    }

    fn path(&self) -> String {
        let e = self.explanation;
        let mut table = Table::new(["what", "times", "time", "share", ""]);
        let row = |what: String, count: u64, ps: u64, note: String| {
            let share = format!("{:.1} %", 100.0 * ps as f64 / (e.time.as_ps() as f64).max(1.0));
            [what, thousands(count), seconds(ps as f64 / 1e12), share, note]
        };
        let parts = &e.path.parts;
        if parts.len() <= MOST_ROWS {
            for part in parts {
                table.row(row(self.step(&part.step), part.count, part.time.as_ps(), self.note(part)));
            }
            return table.to_string();
        }
        // Too many to be read one by one: those of a kind together, still in the order of the path.
        let mut kinds: Vec<(String, u64, u64, u64)> = Vec::new();
        for part in parts {
            let kind = kind(&part.step);
            let at = kinds.iter().position(|k| k.0 == kind).unwrap_or_else(|| {
                kinds.push((kind, 0, 0, 0));
                kinds.len() - 1
            });
            let sums = &mut kinds[at];
            *sums = (sums.0.clone(), sums.1 + part.count, sums.2 + part.time.as_ps(), sums.3 + 1);
        }
        for (kind, count, ps, places) in kinds {
            let note = if places > 1 { format!("at {places} places") } else { String::new() };
            table.row(row(kind, count, ps, note));
        }
        table.to_string()
    }

    /// What a part of the path is: pipelines are named where there are several.
    fn step(&self, step: &Step) -> String {
        let of = |pipeline: usize| match self.layout.pipelines.len() {
            1 => String::new(),
            _ => format!("pipeline {pipeline} "),
        };
        match step {
            Step::Pass { kind, pipeline, stage } => {
                format!("{}stage {stage} {}", of(*pipeline), pass(*kind))
            }
            Step::Transfer { pipeline, from, to } => {
                format!("{}transfer stage {from} -> {to}", of(*pipeline))
            }
            Step::Exchange { exchange, pipeline, stage } => {
                format!("{}stage {stage} {exchange}", of(*pipeline))
            }
            Step::Sync { kind, layers: (one, last) } if one == last => format!("{kind} layer {one}"),
            Step::Sync { kind, layers: (first, last) } => format!("{kind} layers {first}-{last}"),
            Step::Update { pipeline, stage } => format!("{}stage {stage} optimizer step", of(*pipeline)),
        }
    }

    /// What a part of the path waits for, in words.
    fn note(&self, part: &PathPart) -> String {
        let time = |t: sim_core::SimDuration| seconds(t.as_secs_f64());
        let mut notes = Vec::new();
        if part.inside.as_ps() > 0 {
            notes.push(format!("{} inside layers for other ranks", time(part.inside)));
        }
        if part.slowed.as_ps() > 0 {
            notes.push(format!("{} because GPUs are slowed", time(part.slowed)));
        }
        if part.bytes > 0 {
            notes.push(size(part.bytes as f64));
        }
        if part.latency.as_ps() > 0 {
            notes.push(format!("latency {}", time(part.latency)));
        }
        notes.extend(part.held.iter().map(|(by, held)| match by {
            Limit::Own => format!("{} as fast as one transfer goes", time(*held)),
            Limit::Link(link) => format!("{} held by {}", time(*held), link.name(self.scenario)),
        }));
        notes.join(", ")
    }

    fn path_part(&self, part: &PathPart) -> Value {
        let mut object = Map::new();
        let mut set = |key: &str, value: Value| object.insert(key.into(), value);
        set("what", self.step(&part.step).into());
        match part.step {
            Step::Pass { pipeline, stage, kind } => {
                let kind = match kind {
                    PassKind::Forward => "forward",
                    PassKind::Backward => "backward",
                    PassKind::Weight => "weight",
                };
                set("kind", kind.into());
                set("pipeline", pipeline.into());
                set("stage", stage.into());
                set("exposed_tp_s", part.inside.as_secs_f64().into());
                set("slowed_s", part.slowed.as_secs_f64().into());
            }
            Step::Update { pipeline, stage } => {
                set("kind", "update".into());
                set("pipeline", pipeline.into());
                set("stage", stage.into());
                set("slowed_s", part.slowed.as_secs_f64().into());
            }
            Step::Transfer { pipeline, from, to } => {
                set("kind", "transfer".into());
                set("pipeline", pipeline.into());
                set("from_stage", from.into());
                set("to_stage", to.into());
            }
            Step::Exchange { exchange, pipeline, stage } => {
                set("kind", exchange.to_string().into());
                set("pipeline", pipeline.into());
                set("stage", stage.into());
            }
            Step::Sync { kind, layers } => {
                set("kind", kind.to_string().into());
                set("layers", json!([layers.0, layers.1]));
            }
        }
        set("count", part.count.into());
        set("time_s", part.time.as_secs_f64().into());
        set("time_ps", part.time.as_ps().into());
        if matches!(part.step, Step::Transfer { .. } | Step::Sync { .. } | Step::Exchange { .. }) {
            set("bytes", part.bytes.into());
            set("latency_s", part.latency.as_secs_f64().into());
            let held = part.held.iter().map(|(by, time)| {
                let by = match by {
                    Limit::Own => Value::Null,
                    Limit::Link(link) => link.name(self.scenario).into(),
                };
                json!({ "link": by, "time_s": time.as_secs_f64() })
            });
            set("held", held.collect());
        }
        Value::Object(object)
    }

    /// Pipelines, stage, GPU, GPUs.
    pub(crate) fn place(&self, stage: &StageReport) -> [String; 4] {
        let gpu = self.scenario.groups[stage.group as usize].gpu.name.clone();
        [stage.count.to_string(), stage.stage.to_string(), gpu, thousands(stage.devices)]
    }

    fn times(&self) -> String {
        let e = self.explanation;
        let mut table = Table::new(["pipelines", "stage", "GPU", "GPUs"].into_iter().chain(PARTS));
        for stage in &e.stages {
            let parts = stage.parts.each().map(|(_, ps)| duration(ps));
            table.row(self.place(stage).into_iter().chain(parts));
        }
        let mut text = table.to_string();
        let overall: Parts<u128> = e.overall();
        let all = overall.total() as f64;
        let shares: Vec<String> = PARTS
            .iter()
            .zip(overall.each())
            .map(|(head, (_, ps))| format!("{head} {:.1} %", 100.0 * ps as f64 / all.max(1.0)))
            .collect();
        let _ = writeln!(text, "all devices: {}", shares.join(", "));
        text
    }

    fn memory(&self) -> String {
        let heads = MEMORY.into_iter().chain(["total", "of"]);
        let mut table = Table::new(["pipelines", "stage", "GPU", "GPUs"].into_iter().chain(heads));
        for stage in &self.holders() {
            let all = [stage.memory.total(), stage.has];
            let parts = memory_parts(&stage.memory).into_iter().chain(all);
            let parts = parts.map(|bytes| format!("{:.2}", bytes.as_gib()));
            table.row(self.place(stage).into_iter().chain(parts));
        }
        table.to_string()
    }

    /// Stages that differ in time alone hold the same: those as one.
    pub(crate) fn holders(&self) -> Vec<StageReport> {
        let mut rows: Vec<StageReport> = Vec::new();
        for stage in &self.explanation.stages {
            match rows.last_mut() {
                Some(last)
                    if (last.pipelines, last.stage, last.group, last.memory)
                        == (stage.pipelines, stage.stage, stage.group, stage.memory) =>
                {
                    last.count += stage.count;
                    last.devices += stage.devices;
                }
                _ => rows.push(stage.clone()),
            }
        }
        rows
    }

    fn stage(&self, stage: &StageReport) -> Value {
        let group = &self.scenario.groups[stage.group as usize];
        let mut object = json!({
            "pipelines": stage.pipelines,
            "stage": stage.stage,
            "group": group.name,
            "gpu": group.gpu.name,
            "count": stage.count,
            "devices": stage.devices,
            "memory": stage.memory,
            "peak_memory_bytes": stage.memory.total(),
            "memory_bytes": stage.has,
        });
        for (name, ps) in stage.parts.each() {
            object[format!("{name}_s")] = (ps as f64 / 1e12).into();
            object[format!("{name}_ps")] = ps.into();
        }
        object
    }

    /// What was made faster, in words.
    pub(crate) fn what(&self, what: What) -> String {
        let group = |g: usize| &self.scenario.groups[g];
        match what {
            What::Gpus(g) => format!("GPUs of {} ({})", group(g).name, group(g).gpu.name),
            What::Nics(g) => format!("NICs of {}", group(g).name),
            What::Inside(g) => format!("links inside nodes of {}", group(g).name),
            What::Leaves(g) => format!("leaf uplinks of {}", group(g).name),
            What::Zones(l) => format!("link {}", self.scenario.zone_links[l].name),
        }
    }

    fn helps(&self) -> String {
        let mut table = Table::new(["what", "iteration", "gain"]);
        let (some, none): (Vec<&Faster>, Vec<&Faster>) =
            self.faster.iter().partition(|f| f.gain.abs() >= NO_GAIN);
        for f in &some {
            let gain = format!("{:+.2} %", 100.0 * f.gain);
            table.row([self.what(f.what), seconds(f.time.as_secs_f64()), gain]);
        }
        let mut text = if some.is_empty() { String::new() } else { table.to_string() };
        if !none.is_empty() {
            let names: Vec<String> = none.iter().map(|f| self.what(f.what)).collect();
            let _ = writeln!(text, "no gain: {}", names.join(", "));
        }
        text
    }

    /// Links that carried something, the fullest first.
    pub(crate) fn fullest_links(&self) -> Vec<&LinkReport> {
        let mut links: Vec<&LinkReport> = self.explanation.links.iter().filter(|l| l.bytes > 0).collect();
        links.sort_by(|a, b| b.mean_utilisation.total_cmp(&a.mean_utilisation).then(a.link.cmp(&b.link)));
        links
    }

    pub(crate) fn links(&self) -> String {
        let links = self.fullest_links();
        if links.is_empty() {
            return "nothing leaves a node\n".into();
        }
        let mut table = Table::new(["link", "links", "bytes", "mean rate", "mean use", "peak use"]);
        for l in links.iter().take(MOST_ROWS) {
            table.row([
                l.link.name(self.scenario),
                l.count.to_string(),
                size(l.bytes as f64),
                format!("{}/s", size(l.mean_rate)),
                format!("{:.1} %", 100.0 * l.mean_utilisation),
                format!("{:.1} %", 100.0 * l.peak_utilisation),
            ]);
        }
        let mut text = table.to_string();
        if links.len() > MOST_ROWS {
            let _ = writeln!(text, "{} more, less used: --links F.csv has all", links.len() - MOST_ROWS);
        }
        text
    }

    pub(crate) fn evidence(&self) -> String {
        let mut table = Table::new(["group", "GPU", "known", "one in three is off by more than"]);
        for g in &self.explanation.evidence {
            let group = &self.scenario.groups[g.group as usize];
            let off = format!("{:.1} %", 100.0 * (libm::exp(g.spread) - 1.0));
            table.row([group.name.as_str(), &group.gpu.name, known(g.evidence), &off]);
        }
        table.to_string()
    }
}

fn pass(kind: PassKind) -> &'static str {
    match kind {
        PassKind::Forward => "forward",
        PassKind::Backward => "backward",
        PassKind::Weight => "weight gradients",
    }
}

/// What a part of the path is, wherever it is.
fn kind(step: &Step) -> String {
    match step {
        Step::Pass { kind, .. } => pass(*kind).into(),
        Step::Transfer { .. } => "transfer between stages".into(),
        Step::Exchange { exchange, .. } => exchange.to_string(),
        Step::Sync { kind, .. } => kind.to_string(),
        Step::Update { .. } => "optimizer step".into(),
    }
}

/// Memory by part.
pub(super) fn memory_parts(m: &Memory) -> [Bytes; 6] {
    [m.parameters, m.gradients, m.optimizer, m.activations, m.communication, m.reserve]
}

/// How a time is known, in a word.
fn known(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Measured => "measured",
        Evidence::Calibrated => "calibrated",
        Evidence::Extrapolated => "extrapolated",
    }
}

/// Picoseconds as a person reads them; nothing is a dash.
fn duration(ps: u64) -> String {
    if ps == 0 { "-".into() } else { seconds(ps as f64 / 1e12) }
}

/// Bytes as a person reads them.
pub(super) fn size(bytes: f64) -> String {
    match bytes {
        b if b >= 1e12 => format!("{:.2} TB", b / 1e12),
        b if b >= 1e9 => format!("{:.2} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.2} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.2} KB", b / 1e3),
        b => format!("{b:.0} B"),
    }
}
