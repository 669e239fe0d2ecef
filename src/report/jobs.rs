//! Several jobs side by side, for people and for programs.

use super::explain::Explained;
use super::table::{Table, seconds, thousands};
use serde_json::{Value, json};
use sim_core::SimDuration;
use sim_models::iteration::peak_flop_per_s;
use sim_models::jobs::{JobPlan, Together};
use sim_models::scenario::Scenario;
use std::fmt::Write;

/// How long a job's iteration takes with the cluster to itself.
pub(crate) struct Alone(pub(crate) SimDuration);

/// Jobs and what became of them.
pub(crate) struct Jobs<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) plans: &'a [JobPlan<'a>],
    pub(crate) together: &'a Together,
    pub(crate) alone: &'a [Alone],
}

impl Jobs<'_> {
    /// The keys of `simulate` for all jobs together, and `jobs` with those of each.
    pub(crate) fn json(&self) -> Value {
        let together = self.together;
        let (mut devices, mut jobs) = (Vec::new(), Vec::new());
        let (mut tokens, mut model_flop, mut peak) = (0.0, 0.0, 0.0);
        for i in 0..self.plans.len() {
            let (scenario, name) = (self.plans[i].scenario, &self.scenario.jobs[i].name);
            let (iteration, layout) = (&together.jobs[i], &together.layouts[i]);
            let mut job = super::json::iteration(scenario, layout, iteration);
            let (own_tokens, own_mfu) = (iteration.tokens_per_s(scenario), iteration.mfu(scenario, layout));
            tokens += own_tokens;
            model_flop += own_mfu * peak_flop_per_s(scenario, layout);
            peak += peak_flop_per_s(scenario, layout);
            for device in &iteration.devices {
                let mut device = json!(device);
                device["job"] = name.as_str().into();
                devices.push(device);
            }
            if let Some(object) = job.as_object_mut() {
                // Those of the run stand above.
                ["devices", "events", "digest"].iter().for_each(|key| _ = object.remove(*key));
                object.insert("name".into(), name.as_str().into());
                object.insert("start_s".into(), self.plans[i].start.as_secs_f64().into());
                object.insert("alone_s".into(), self.alone[i].0.as_secs_f64().into());
            }
            jobs.push(job);
        }
        json!({
            "iteration_time_s": together.time.as_secs_f64(),
            "evidence": together.layouts.iter().map(|l| l.evidence).max(),
            "tokens_per_s": tokens,
            "mfu": if peak > 0.0 { model_flop / peak } else { 0.0 },
            "fits": together.jobs.iter().all(|j| j.fits()),
            "devices": devices,
            "events": together.events,
            "digest": together.digest.to_string(),
            "folded": together.folded,
            "jobs": jobs,
        })
    }

    /// A row a job, and the stages of each.
    pub(crate) fn text(&self) -> String {
        let together = self.together;
        let mut text = format!("{}: {}\n\n", self.scenario.name, self.scenario.about);
        let mut table = Table::new([
            "job",
            "starts",
            "GPUs",
            "iteration",
            "alone",
            "longer by",
            "tokens/s",
            "MFU",
            "fits",
        ]);
        for (i, job) in self.scenario.jobs.iter().enumerate() {
            let (scenario, iteration, layout) =
                (self.plans[i].scenario, &together.jobs[i], &together.layouts[i]);
            let (time, alone) = (iteration.time.as_secs_f64(), self.alone[i].0.as_secs_f64());
            let longer = if alone > 0.0 { time / alone - 1.0 } else { 0.0 };
            table.row([
                job.name.clone(),
                seconds(job.start.as_secs_f64()),
                layout.ranks.iter().map(|r| r.devices.len()).sum::<usize>().to_string(),
                seconds(time),
                seconds(alone),
                format!("{:.1} %", 100.0 * longer),
                thousands(iteration.tokens_per_s(scenario).round() as u64),
                format!("{:.1} %", 100.0 * iteration.mfu(scenario, layout)),
                if iteration.fits() { "yes" } else { "no" }.to_string(),
            ]);
        }
        text += &table.to_string();
        for (i, job) in self.scenario.jobs.iter().enumerate() {
            let _ = writeln!(text, "\njob {}", job.name);
            text += &super::plan::stages(self.plans[i].plan, &together.layouts[i], &together.jobs[i]);
        }
        let folded = if together.folded { ", alike pipelines simulated once" } else { "" };
        let events = thousands(together.events);
        let _ = writeln!(text, "\n{events} events, digest {}{folded}", together.digest);
        text
    }

    /// Adds `explain` to each job; the links, which are those of all, stand above.
    pub(crate) fn explain_json(&self, explained: &[Explained<'_>], answer: &mut Value) {
        let mut links = Value::Null;
        for (i, explained) in explained.iter().enumerate() {
            let mut own = explained.json();
            if let Some(object) = own.as_object_mut() {
                links = object.remove("links").unwrap_or(Value::Null);
            }
            answer["jobs"][i]["explain"] = own;
        }
        answer["explain"] = json!({ "links": links });
    }

    /// The sections of each job, and the links that they share.
    pub(crate) fn explain_text(&self, explained: &[Explained<'_>]) -> String {
        let mut text = String::new();
        for (job, explained) in self.scenario.jobs.iter().zip(explained) {
            let _ = write!(text, "\njob {}: {}", job.name, explained.of_job());
            let _ = write!(text, "\nlayer times\n{}", explained.evidence());
        }
        if let Some(first) = explained.first() {
            let _ = write!(text, "\nshared links, all jobs\n{}", first.links());
        }
        text
    }
}
