//! Whether a plan is one for this scenario: every layer once and in order, every device there and used once, whole
//! tensor-parallel groups inside a node, the whole batch and no more, and layer times for all of it.

use crate::layer_times::NoTimes;
use crate::plan::Plan;
use crate::scenario::{DeviceId, Scenario};

/// One thing wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFault {
    /// Stable code, `T02..`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where in the plan: `pipelines[1].stages[0].layers`.
    pub path: String,
    /// What would be right.
    pub help: String,
}

/// Everything wrong with `plan`, in its order; empty when it can be simulated.
pub fn check(scenario: &Scenario, plan: &Plan) -> Vec<PlanFault> {
    let mut checker = Checker { scenario, plan, faults: Vec::new() };
    checker.batch();
    // More devices named than there are cannot be right, and must not be expanded.
    let named: u64 = plan.pipelines.iter().flat_map(|p| &p.stages).map(|s| s.device_count()).sum();
    if named > scenario.gpus() {
        checker.fault(
            "T0206",
            "pipelines",
            format!("the plan names {named} devices, the cluster has {}", scenario.gpus()),
            format!("name each device at most once, {} in all", scenario.gpus()),
        );
        return checker.faults;
    }
    let mut used: Vec<Vec<bool>> = scenario.groups.iter().map(|g| vec![false; g.gpus() as usize]).collect();
    for p in 0..plan.pipelines.len() {
        checker.layers(p);
        checker.devices(p, &mut used);
    }
    checker.faults
}

/// `1 device`, `3 devices`.
fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Says that layers `first ..= last` are missing.
fn missing(first: u32, last: u32) -> String {
    if first == last {
        format!("layer {first} is in no stage")
    } else {
        format!("layers {first} to {last} are in no stage")
    }
}

struct Checker<'a> {
    scenario: &'a Scenario,
    plan: &'a Plan,
    faults: Vec<PlanFault>,
}

impl Checker<'_> {
    fn fault(&mut self, code: &'static str, path: impl Into<String>, message: String, help: String) {
        self.faults.push(PlanFault { code, message, path: path.into(), help });
    }

    fn batch(&mut self) {
        let batch = u64::from(self.scenario.training.global_batch);
        let size = u64::from(self.plan.micro_batch);
        if size == 0 {
            self.fault("T0201", "micro_batch", "`micro_batch` is 0".into(), "at least 1 sample".into());
            return;
        }
        if self.plan.pipelines.is_empty() {
            self.fault("T0202", "pipelines", "the plan has no pipelines".into(), "at least one".into());
            return;
        }
        let mut total: u64 = 0;
        for (p, group) in self.plan.pipelines.iter().enumerate() {
            for (value, name) in [(group.replicas, "replicas"), (group.micro_batches, "micro_batches")] {
                if value == 0 {
                    self.fault(
                        "T0201",
                        format!("pipelines[{p}].{name}"),
                        format!("`{name}` is 0"),
                        "at least 1".into(),
                    );
                }
            }
            total = total.saturating_add(u64::from(group.replicas) * u64::from(group.micro_batches));
        }
        let samples = total.saturating_mul(size);
        if samples != batch {
            let problem = if samples > batch { "more than" } else { "fewer than" };
            self.fault(
                "T0203",
                "pipelines",
                format!("the plan trains {samples} samples ({total} micro-batches of {size}), {problem} the global batch of {batch}"),
                if batch.is_multiple_of(size) {
                    format!("share out {} micro-batches over all pipelines", batch / size)
                } else {
                    format!("`micro_batch` must divide {batch}")
                },
            );
        }
    }

    fn layers(&mut self, p: usize) {
        let layers = self.scenario.model.layers();
        let stages = &self.plan.pipelines[p].stages;
        if stages.is_empty() {
            self.fault(
                "T0204",
                format!("pipelines[{p}].stages"),
                "a pipeline without stages".into(),
                "at least one".into(),
            );
            return;
        }
        let mut next = 0;
        for (s, stage) in stages.iter().enumerate() {
            let (path, range) = (format!("pipelines[{p}].stages[{s}].layers"), stage.layers);
            if range.last < range.first {
                let message = format!("layers `{range}` run backwards");
                self.fault("T0205", path, message, "the first layer, then the last".into());
                return;
            }
            if range.last >= layers {
                let message = format!("layers `{range}`: the model has layers 0 to {}", layers - 1);
                self.fault("T0205", path, message, "0 is the embedding, the last is the head".into());
                return;
            }
            if range.first != next {
                let message = if range.first < next {
                    format!("layer {} is already in a stage before", range.first)
                } else {
                    missing(next, range.first - 1)
                };
                self.fault("T0205", path, message, format!("this stage starts at layer {next}"));
                return;
            }
            next = range.last + 1;
        }
        if next != layers {
            let path = format!("pipelines[{p}].stages[{}].layers", stages.len() - 1);
            let message = missing(next, layers - 1);
            self.fault("T0205", path, message, format!("the last stage ends at layer {}", layers - 1));
        }
    }

    fn devices(&mut self, p: usize, used: &mut [Vec<bool>]) {
        let group = &self.plan.pipelines[p];
        for (s, stage) in group.stages.iter().enumerate() {
            let path = format!("pipelines[{p}].stages[{s}].devices");
            let wanted = u64::from(group.replicas) * u64::from(stage.tp);
            if stage.tp == 0 {
                self.fault(
                    "T0201",
                    format!("pipelines[{p}].stages[{s}].tp"),
                    "`tp` is 0".into(),
                    "at least 1".into(),
                );
                continue;
            }
            if stage.device_count() != wanted {
                self.fault(
                    "T0207",
                    path.clone(),
                    format!(
                        "{} for {} of tp {}",
                        counted(stage.device_count(), "device"),
                        counted(group.replicas.into(), "replica"),
                        stage.tp
                    ),
                    format!("name {}", counted(wanted, "device")),
                );
                continue;
            }
            let mut devices = Vec::with_capacity(wanted as usize);
            for (name, index) in stage.devices() {
                let Some(g) = self.scenario.group_index(name) else {
                    let names: Vec<_> =
                        self.scenario.groups.iter().map(|g| format!("`{}`", g.name)).collect();
                    let help = format!("the cluster has {}", names.join(", "));
                    self.fault("T0206", path.clone(), format!("no node group `{name}`"), help);
                    break;
                };
                let gpus = self.scenario.groups[g].gpus();
                if index >= gpus {
                    let message = format!("no device `{name}:{index}`");
                    self.fault(
                        "T0206",
                        path.clone(),
                        message,
                        format!("`{name}` has devices 0 to {}", gpus - 1),
                    );
                    break;
                }
                if std::mem::replace(&mut used[g][index as usize], true) {
                    let message = format!("device `{name}:{index}` is used twice");
                    self.fault(
                        "T0208",
                        path.clone(),
                        message,
                        "each device is in one stage of one pipeline".into(),
                    );
                    break;
                }
                devices.push(DeviceId { group: g as u32, index });
            }
            if devices.len() as u64 != wanted {
                continue;
            }
            for (r, ranks) in devices.chunks(stage.tp as usize).enumerate() {
                let node = self.scenario.node(ranks[0]);
                if ranks.iter().any(|d| self.scenario.node(*d) != node) {
                    let message = format!(
                        "replica {r}: its {} tensor-parallel devices are on more than one node",
                        stage.tp
                    );
                    self.fault(
                        "T0209",
                        path.clone(),
                        message,
                        "tensor parallelism stays inside a node".into(),
                    );
                    break;
                }
            }
            if self.plan.micro_batch > 0 {
                self.times(p, s, &devices);
            }
        }
    }

    fn times(&mut self, p: usize, s: usize, devices: &[DeviceId]) {
        let (stage, size) = (&self.plan.pipelines[p].stages[s], self.plan.micro_batch);
        let mut groups: Vec<u32> = devices.iter().map(|d| d.group).collect();
        groups.dedup();
        for g in groups {
            let group = &self.scenario.groups[g as usize];
            let (gpu, model) = (&group.gpu.name, &self.scenario.model.name);
            let path = format!("pipelines[{p}].stages[{s}].tp");
            let at = format!("at micro-batch {size}, tp {}", stage.tp);
            let (message, help) = match group.layers.at(size, stage.tp) {
                Ok(times) if times.running().len() == self.scenario.model.layers() as usize + 1 => continue,
                Ok(times) => {
                    let layers = times.running().len() - 1;
                    (
                        format!("the layer times of `{gpu}` are of {layers} layers, not of `{model}`"),
                        format!("a table of {} layers", self.scenario.model.layers()),
                    )
                }
                Err(NoTimes::NotMeasured) => {
                    let have: Vec<_> =
                        group.layers.configurations().map(|(b, t)| format!("{b} x {t}")).collect();
                    let have = have.join(", ");
                    (
                        format!("`{gpu}` was not measured {at} for `{model}`"),
                        format!(
                            "measured (micro-batch x tp): {have}; `extrapolate = true` in `[search]` goes beyond"
                        ),
                    )
                }
                Err(NoTimes::Heads { heads }) => (
                    format!("tp {} does not divide the {heads} attention heads of `{model}`", stage.tp),
                    "ranks hold whole heads, each as many".into(),
                ),
                Err(NoTimes::TooLong) => (
                    format!("one pass of `{model}` on `{gpu}` {at} takes over a day"),
                    "look for a slip in the GPU's figures or the model's sizes".into(),
                ),
            };
            self.fault("T0210", path, message, help);
        }
    }
}
