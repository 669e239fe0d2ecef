//! Whether a plan is one for this scenario: every layer once and in order, every device there and used once, groups spread
//! evenly over nodes, degrees that go together, the whole batch and no more, and layer times for all of it.

use crate::layer_times::NoTimes;
use crate::layout::{layer_config, nodes_of};
use crate::plan::{Plan, Recompute, Schedule};
use crate::scenario::{DeviceId, Scenario};
use sim_core::SimDuration;

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
    checker.features();
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

    /// What the plan asks for all its pipelines.
    fn features(&mut self) {
        let plan = self.plan;
        if plan.zero > 3 {
            let message = format!("`zero` is {}", plan.zero);
            self.fault("T0211", "zero", message, "0 (nothing shared out) to 3 (parameters too)".into());
        }
        if plan.in_flight.is_some() && plan.schedule != Schedule::ZeroBubble {
            let message = format!("`in_flight` with the schedule `{}`", plan.schedule);
            let help = "only `zero-bubble` has a limit of its own: leave it out".into();
            self.fault("T0211", "in_flight", message, help);
        }
        // Gradients sent in every micro-batch need partners at the same micro-batch.
        let alike = |p: &crate::plan::PipelineGroup| {
            let first = &plan.pipelines[0];
            p.micro_batches == first.micro_batches
                && p.stages.len() == first.stages.len()
                && p.stages.iter().zip(&first.stages).all(|(a, b)| a.layers == b.layers)
        };
        if plan.zero >= 2 && !plan.pipelines.iter().all(alike) {
            let message = format!("`zero = {}` over pipelines that are not alike", plan.zero);
            let help = "pipelines that share gradients or parameters in every micro-batch need the same layers and \
                        micro-batches";
            self.fault("T0211", "zero", message, help.into());
        }
        if plan.zero >= 2 && plan.schedule == Schedule::ZeroBubble {
            let message = "weight gradients of their own pass with `zero` 2 or 3".to_string();
            self.fault("T0211", "zero", message, "`zero = 1`, or another schedule".into());
        }
        for (p, group) in plan.pipelines.iter().enumerate() {
            let stages = group.stages.len() as u32;
            let chunks = group.stages.first().map_or(1, |s| s.layers.chunks().len());
            for (s, stage) in group.stages.iter().enumerate() {
                let own = stage.layers.chunks().len();
                let path = format!("pipelines[{p}].stages[{s}].layers");
                if own != chunks {
                    let message = format!("{own} ranges of layers, the first stage has {chunks}");
                    self.fault("T0212", path, message, "every stage has as many virtual stages".into());
                } else if own > 1 && plan.schedule != Schedule::Interleaved {
                    let message = format!("{own} ranges of layers with the schedule `{}`", plan.schedule);
                    self.fault("T0212", path, message, "`schedule = \"interleaved\"`, or one range".into());
                }
            }
            if chunks > 1 && stages > 0 && !group.micro_batches.is_multiple_of(stages) {
                let message =
                    format!("{} micro-batches over {stages} interleaved stages", group.micro_batches);
                let path = format!("pipelines[{p}].micro_batches");
                self.fault("T0212", path, message, "a multiple of the number of stages".into());
            }
            if plan.in_flight.is_some_and(|most| most < stages) {
                let message = format!("`in_flight` is {}", plan.in_flight.unwrap_or(0));
                self.fault("T0211", "in_flight", message, format!("at least the {stages} stages"));
            }
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
        let chunks = stages.iter().map(|s| s.layers.chunks().len()).min().unwrap_or(0);
        let mut next = 0;
        // Chunk by chunk, each through all stages.
        for (s, stage, chunk) in
            (0..chunks).flat_map(|c| stages.iter().enumerate().map(move |(s, t)| (s, t, c)))
        {
            let (path, range) = (format!("pipelines[{p}].stages[{s}].layers"), stage.layers.chunks()[chunk]);
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
            let wanted = u64::from(group.replicas).saturating_mul(stage.width().into());
            let degrees = [("tp", stage.tp), ("cp", stage.cp), ("ep", stage.ep)];
            if let Some((name, _)) = degrees.iter().find(|(_, degree)| *degree == 0) {
                self.fault(
                    "T0201",
                    format!("pipelines[{p}].stages[{s}].{name}"),
                    format!("`{name}` is 0"),
                    "at least 1".into(),
                );
                continue;
            }
            self.degrees(p, s, wanted);
            if stage.device_count() != wanted {
                self.fault(
                    "T0207",
                    path.clone(),
                    format!(
                        "{} for {} of tp {}{}",
                        counted(stage.device_count(), "device"),
                        counted(group.replicas.into(), "replica"),
                        stage.tp,
                        if stage.cp > 1 { format!(" x cp {}", stage.cp) } else { String::new() }
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
            for (r, ranks) in devices.chunks(stage.width() as usize).enumerate() {
                let nodes = nodes_of(self.scenario, ranks);
                let on = |n| ranks.iter().filter(|d| self.scenario.node(**d) == n).count();
                if nodes.len() > 1 && nodes.iter().any(|n| on(*n) != on(nodes[0])) {
                    let message = format!(
                        "replica {r}: its {} devices are unevenly spread over {} nodes",
                        ranks.len(),
                        nodes.len()
                    );
                    self.fault("T0209", path.clone(), message, "as many on each node, or all on one".into());
                    break;
                }
                if ranks.iter().any(|d| d.group != ranks[0].group) {
                    let message = format!("replica {r}: its devices are of two node groups");
                    self.fault("T0209", path.clone(), message, "one replica stays in one group".into());
                    break;
                }
            }
            if self.plan.micro_batch > 0 {
                self.times(p, s, &devices);
            }
        }
    }

    /// Context and expert parallelism.
    fn degrees(&mut self, p: usize, s: usize, devices: u64) {
        let (model, stage) = (&self.scenario.model, &self.plan.pipelines[p].stages[s]);
        let path = |name: &str| format!("pipelines[{p}].stages[{s}].{name}");
        if !model.seq_len.is_multiple_of(u64::from(stage.cp)) {
            let message = format!("cp {} does not divide the sequence of {} tokens", stage.cp, model.seq_len);
            self.fault("T0213", path("cp"), message, "parts of a sequence are alike".into());
        }
        if stage.ep == 1 {
            return;
        }
        match &model.experts {
            None => {
                let message = format!("ep {}, and `{}` has no experts", stage.ep, model.name);
                self.fault("T0213", path("ep"), message, "1".into());
            }
            Some(experts) if !experts.count.is_multiple_of(u64::from(stage.ep)) => {
                let message = format!("ep {} does not divide the {} experts", stage.ep, experts.count);
                self.fault("T0213", path("ep"), message, "ranks hold whole experts, each as many".into());
            }
            Some(_) if !devices.is_multiple_of(u64::from(stage.ep)) => {
                let message = format!("ep {} over {}", stage.ep, counted(devices, "device"));
                self.fault("T0213", path("ep"), message, "a divisor of the stage's devices".into());
            }
            Some(_) => {}
        }
    }

    fn times(&mut self, p: usize, s: usize, devices: &[DeviceId]) {
        let (stage, size) = (&self.plan.pipelines[p].stages[s], self.plan.micro_batch);
        let width = stage.width() as usize;
        let mut replicas: Vec<usize> = (0..devices.len() / width).collect();
        replicas.dedup_by_key(|r| devices[*r * width].group);
        for r in replicas {
            let group = &self.scenario.groups[devices[r * width].group as usize];
            let (gpu, model) = (&group.gpu.name, &self.scenario.model.name);
            let path = format!("pipelines[{p}].stages[{s}].tp");
            let at = format!("at micro-batch {size}, tp {}", stage.tp);
            let config = layer_config(self.scenario, self.plan, stage, devices, r * width);
            let (message, help) = match group.layers.of(&config) {
                Ok(times)
                    if stage.recompute == Recompute::Selective
                        && times.total().again == SimDuration::ZERO =>
                {
                    (
                        format!("only whole layers of `{model}` were measured on `{gpu}`"),
                        "what selective recomputation repeats is not known apart: `none` or `full`".into(),
                    )
                }
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
                Err(NoTimes::Spread) => {
                    let what = format!("replica {r}: `{gpu}` was measured inside a node, without cp or ep");
                    let help =
                        "tensor-parallel devices on one node, cp 1, ep 1; or layer times from a device model";
                    self.fault("T0209", path, what, help.into());
                    continue;
                }
                Err(NoTimes::NoNetwork) => (
                    format!("a replica {at}, cp {}, ep {} is on several nodes", stage.cp, stage.ep),
                    "nothing says how its node reaches others: give `[network]` a `rate`".into(),
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
