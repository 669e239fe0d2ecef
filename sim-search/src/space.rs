//! What is searched, from the top: kinds of device, templates of pipelines, combinations of templates.
//!
//! A *kind* is the devices of one GPU in nodes of one size, in the order of the scenario. A *template* is a pipeline
//! without its layers: which kind, TP and CP each stage has; it joins at most two kinds, and its stages of one kind stand
//! together. A *combination* is a
//! number of pipelines of each of a few templates: either each kind forms pipelines of its own, or pipelines that join
//! kinds come first and each kind's devices left over form pipelines of their own, or stay out. A *plan* adds the layers
//! of each stage and the micro-batches of each pipeline. docs/space.md states it in one page.

use sim_models::plan::{Recompute, Schedule};
use sim_models::scenario::{DeviceId, Scenario};
use sim_models::units::Bytes;
use std::fmt;
use std::ops::Range;

/// Devices that cannot be told apart but by place.
#[derive(Clone, Debug)]
pub struct Kind {
    /// GPU name, from the catalogue.
    pub gpu: String,
    /// GPUs of a node.
    pub gpus_per_node: u32,
    /// A group of that kind: its layer times, memory and inner links are those of all.
    pub group: usize,
    /// Groups of the scenario that its devices are in.
    pub groups: Vec<usize>,
    /// All its devices, group by group, node by node.
    pub devices: Vec<DeviceId>,
}

/// The kinds of a scenario. Groups whose GPU, node size, memory or layer times differ are different kinds.
pub fn kinds(scenario: &Scenario) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for (g, group) in scenario.groups.iter().enumerate() {
        let devices = (0..group.gpus()).map(|index| DeviceId { group: g as u32, index });
        let alike = |k: &&mut Kind| {
            let other = &scenario.groups[k.group];
            other.gpu == group.gpu
                && other.gpus_per_node == group.gpus_per_node
                && other.layers == group.layers
        };
        match kinds.iter_mut().find(alike) {
            Some(kind) => {
                kind.groups.push(g);
                kind.devices.extend(devices);
            }
            None => kinds.push(Kind {
                gpu: group.gpu.name.clone(),
                gpus_per_node: group.gpus_per_node,
                group: g,
                groups: vec![g],
                devices: devices.collect(),
            }),
        }
    }
    kinds
}

/// How the layers of a stage are split over devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Split {
    /// Tensor parallelism.
    pub tp: u32,
    /// Context parallelism.
    pub cp: u32,
    /// Expert parallelism, over replicas too.
    pub ep: u32,
}

impl Split {
    /// Tensor parallelism alone.
    pub fn tp(tp: u32) -> Split {
        Split { tp, cp: 1, ep: 1 }
    }

    /// Devices of one replica.
    pub fn width(self) -> u32 {
        self.tp * self.cp
    }

    /// Replicas that share out experts: they come together, and run as many micro-batches each.
    pub fn team(self) -> u32 {
        if self.ep > 1 { self.ep / gcd(self.ep, self.width()) } else { 1 }
    }

    /// Devices of such replicas, which stand beside each other.
    pub fn block(self) -> u32 {
        self.width() * self.team()
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tp {}", self.tp)?;
        let others = [("cp", self.cp), ("ep", self.ep)];
        others.iter().filter(|(_, degree)| *degree > 1).try_for_each(|(name, n)| write!(f, " {name} {n}"))
    }
}

/// A stage without its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageShape {
    /// Index of its kind.
    pub kind: u32,
    /// How its layers are split.
    pub split: Split,
    /// What its backward passes do again.
    pub recompute: Recompute,
}

/// A pipeline without its layers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    /// Its stages, first to last.
    pub stages: Vec<StageShape>,
}

impl Template {
    /// Devices of `kind` that one pipeline takes.
    pub fn devices(&self, kind: usize) -> u32 {
        self.stages.iter().filter(|s| s.kind as usize == kind).map(|s| s.split.width()).sum()
    }

    /// Whether it has the same kinds in the same order, and of one of them alone another number or another shape of stages.
    pub fn differs_once(&self, other: &Template) -> bool {
        let runs = |t: &Template| -> Vec<(StageShape, usize)> {
            t.stages.chunk_by(|a, b| a.kind == b.kind).map(|run| (run[0], run.len())).collect()
        };
        let (mine, others) = (runs(self), runs(other));
        let pairs = || mine.iter().zip(&others);
        mine.len() == others.len()
            && pairs().all(|(a, b)| a.0.kind == b.0.kind)
            && pairs().filter(|(a, b)| a != b).count() == 1
    }

    /// The kind of all its stages, where they are of one.
    pub fn one_kind(&self) -> Option<usize> {
        let kind = self.stages[0].kind;
        self.stages.iter().all(|s| s.kind == kind).then_some(kind as usize)
    }

    /// Pipelines that come together: those whose stages share out experts.
    pub fn team(&self) -> u32 {
        self.stages.iter().map(|s| s.split.team()).fold(1, |all, team| all / gcd(all, team) * team)
    }

    /// Pipelines that fit into so many devices of each kind.
    pub fn most(&self, free: &[u32]) -> u32 {
        let fit = |(kind, free): (usize, &u32)| free.checked_div(self.devices(kind));
        self.whole(free.iter().enumerate().filter_map(fit).min().unwrap_or(0))
    }

    /// Of so many pipelines those that come together whole.
    pub fn whole(&self, pipelines: u32) -> u32 {
        pipelines - pipelines % self.team()
    }
}

/// How all pipelines of a plan train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// Order of the passes.
    pub schedule: Schedule,
    /// What replicas share out.
    pub zero: u8,
    /// Whether norms and dropouts are split over tensor-parallel ranks.
    pub sequence_parallel: bool,
    /// Whether transfers between stages run beside compute.
    pub overlap_p2p: bool,
    /// Size of the pieces in which gradients are sent while the last backward passes run; `None`: they are sent after them.
    pub overlap: Option<Bytes>,
}

impl Recipe {
    /// Whether stages run their passes by 1F1B and send gradients after the last of them.
    pub fn waits(&self) -> bool {
        self.schedule == Schedule::OneFOneB && self.zero <= 1 && self.overlap.is_none()
    }

    /// In words, where it is not the usual one.
    pub fn words(&self) -> String {
        let mut list = Vec::new();
        if self.schedule != Schedule::default() {
            list.push(self.schedule.to_string());
        }
        if self.zero > 0 {
            list.push(format!("ZeRO {}", self.zero));
        }
        let flags = [
            (self.sequence_parallel, "sequence parallelism"),
            (self.overlap_p2p, "transfers beside compute"),
            (self.overlap.is_some(), "gradients beside compute"),
        ];
        list.extend(flags.iter().filter(|(on, _)| *on).map(|(_, words)| words.to_string()));
        list.join(", ")
    }

    /// Whether all pipelines have to be alike: they send gradients in every micro-batch.
    pub fn alike(&self) -> bool {
        self.zero >= 2
    }
}

/// What PyTorch's DistributedDataParallel sends at once, by its documentation.
const BUCKET: Bytes = Bytes(25 << 20);

/// How a scenario's plans may train: the product of what its `[search]` lists; the first is the usual. And whether it lists
/// anything: then all are tried everywhere; if not, the later ones are for templates that fit by no other.
pub fn recipes(scenario: &Scenario) -> (Vec<Recipe>, bool) {
    fn or<T: Clone>(list: &[T], usual: T) -> Vec<T> {
        if list.is_empty() { vec![usual] } else { list.to_vec() }
    }
    let ways = &scenario.search.ways;
    let given = ways.schedule.len()
        + ways.zero.len()
        + ways.sequence_parallel.len()
        + ways.overlap_p2p.len()
        + ways.overlap_gradients.len();
    if given == 0 {
        let sharing = |zero| Recipe { zero, sequence_parallel: true, ..Recipe::default() };
        return (vec![Recipe::default(), sharing(1), sharing(3)], false);
    }
    let mut list = Vec::new();
    for schedule in or(&ways.schedule, Schedule::OneFOneB) {
        for zero in or(&ways.zero, 0) {
            for sequence_parallel in or(&ways.sequence_parallel, zero > 0) {
                for overlap_p2p in or(&ways.overlap_p2p, false) {
                    for overlap in or(&ways.overlap_gradients, false) {
                        let overlap = overlap.then(|| ways.gradient_bucket.unwrap_or(BUCKET));
                        list.push(Recipe { schedule, zero, sequence_parallel, overlap_p2p, overlap });
                    }
                }
            }
        }
    }
    // Weight gradients of their own pass are not sent in every micro-batch.
    list.retain(|r| !(r.schedule == Schedule::ZeroBubble && r.alike()));
    (list, true)
}

/// Numbers of pipelines of a template that are tried where `most` of them fit and an iteration has so many micro-batches, the
/// most first: as many as have one each; those that keep to the first node groups of a kind; the divisors of the
/// micro-batches. Or every number, where the scenario says so. Alike pipelines divide the micro-batches; those that share out
/// experts come together.
pub fn numbers(
    scenario: &Scenario,
    kinds: &[Kind],
    template: &Template,
    most: u32,
    micro_batches: u32,
    recipe: &Recipe,
) -> Vec<u32> {
    let team = template.team();
    let most = template.whole(most.min(micro_batches));
    let all = || (1..=most / team).map(|n| n * team);
    if recipe.alike() {
        return all().rev().filter(|n| micro_batches.is_multiple_of(*n)).collect();
    }
    if scenario.search.every_number {
        return all().rev().collect();
    }
    let mut list: Vec<u32> = all().filter(|n| micro_batches.is_multiple_of(*n)).collect();
    list.extend((most > 0).then_some(most));
    for (k, kind) in kinds.iter().enumerate().filter(|(k, _)| template.devices(*k) > 0) {
        let mut first = 0;
        for group in kind.devices.chunk_by(|a, b| a.group == b.group) {
            first += group.len() as u32;
            let fit = template.whole(first / template.devices(k));
            list.extend(Some(fit).filter(|n| (1..=most).contains(n)));
        }
    }
    list.sort_unstable_by(|a, b| b.cmp(a));
    list.dedup();
    list
}

/// How stages of a kind are split: TP and CP whose product divides its node, so that replicas never straddle two nodes, and EP
/// inside nodes or over whole ones.
fn splits(scenario: &Scenario, kind: &Kind) -> Vec<Split> {
    let gpus = kind.gpus_per_node;
    let inside = |width: &u32| gpus.is_multiple_of(*width);
    let whole = |ep: &u32| inside(ep) || ep.is_multiple_of(gpus);
    let mut list = Vec::new();
    for tp in tp_degrees_of(gpus) {
        for cp in
            cp_degrees(scenario).into_iter().filter(|cp| tp.checked_mul(*cp).as_ref().is_some_and(inside))
        {
            let split = |ep| Split { tp, cp, ep };
            list.extend(ep_degrees(scenario).into_iter().filter(whole).map(split));
        }
    }
    list.retain(|s| s.block() as usize <= kind.devices.len());
    list
}

/// EP degrees that are tried, of which ranks hold whole experts, each as many.
pub fn ep_degrees(scenario: &Scenario) -> Vec<u32> {
    let experts = scenario.model.experts.map_or(1, |experts| experts.count);
    let divides = |ep: &u32| experts.is_multiple_of(u64::from(*ep));
    match &scenario.search.ways.ep[..] {
        [] => (1..=u32::try_from(scenario.gpus().min(experts)).unwrap_or(1)).filter(divides).collect(),
        given => given.iter().copied().filter(divides).collect(),
    }
}

/// CP degrees that are tried, of which ranks have alike parts of a sequence.
pub fn cp_degrees(scenario: &Scenario) -> Vec<u32> {
    let listed = match &scenario.search.ways.cp[..] {
        [] => &[1],
        given => given,
    };
    let divides = |cp: &&u32| scenario.model.seq_len.is_multiple_of(u64::from(**cp));
    listed.iter().filter(divides).copied().collect()
}

/// TP degrees that fit a node of so many GPUs.
pub fn tp_degrees_of(gpus: u32) -> impl Iterator<Item = u32> {
    (1..=gpus).filter(move |tp| gpus.is_multiple_of(*tp))
}

/// Kinds that one pipeline joins at most.
pub const MOST_KINDS: usize = 2;

/// Every template, those of one kind first: up to `max_stages` stages of up to [`MOST_KINDS`] kinds, split alike in a kind, kinds
/// in every order. Those after them recompute: each of these again with the other choices of the scenario's for each kind, what is
/// done again least first. And, for each of these, where those are.
pub fn templates(scenario: &Scenario, kinds: &[Kind]) -> (Vec<Template>, Vec<Range<usize>>) {
    let ways = match &scenario.search.ways.recompute[..] {
        [] => &[Recompute::None, Recompute::Selective, Recompute::Full],
        given => given,
    };
    let splits: Vec<Vec<Split>> = kinds.iter().map(|kind| splits(scenario, kind)).collect();
    let mut list = plain(kinds, scenario.search.max_stages, &splits, ways[0]);
    let mut again = Vec::with_capacity(list.len());
    for t in 0..list.len() {
        let first = list.len();
        let runs = list[t].stages.chunk_by(|a, b| a.kind == b.kind).count();
        // Numbers whose digits choose for each kind.
        let digits = |choice: usize| (0..runs).map(move |r| choice / ways.len().pow(r as u32) % ways.len());
        let mut choices: Vec<usize> = (1..ways.len().pow(runs as u32)).collect();
        choices.sort_by_key(|c| digits(*c).sum::<usize>());
        for choice in choices {
            let mut template = list[t].clone();
            for (run, way) in template.stages.chunk_by_mut(|a, b| a.kind == b.kind).zip(digits(choice)) {
                run.iter_mut().for_each(|s| s.recompute = ways[way]);
            }
            list.push(template);
        }
        again.push(first..list.len());
    }
    (list, again)
}

/// Those that all recompute alike; `splits` are those of each kind.
fn plain(kinds: &[Kind], max_stages: u32, splits: &[Vec<Split>], recompute: Recompute) -> Vec<Template> {
    let mut list = Vec::new();
    let mut chosen = vec![false; kinds.len()];
    // Fewer kinds first, so that plain pipelines come before joined ones.
    for depth in 1..=kinds.len().min(MOST_KINDS) {
        extend(kinds, splits, (max_stages, recompute), depth, &mut chosen, &mut Vec::new(), &mut list);
    }
    list
}

fn extend(
    kinds: &[Kind],
    splits: &[Vec<Split>],
    (stages_left, recompute): (u32, Recompute),
    depth: usize,
    chosen: &mut [bool],
    stages: &mut Vec<StageShape>,
    list: &mut Vec<Template>,
) {
    if depth == 0 {
        let template = Template { stages: stages.clone() };
        let all: Vec<u32> = kinds.iter().map(|k| k.devices.len() as u32).collect();
        if template.most(&all) > 0 {
            list.push(template);
        }
        return;
    }
    for (k, kind) in kinds.iter().enumerate() {
        if std::mem::replace(&mut chosen[k], true) {
            continue;
        }
        for &split in &splits[k] {
            let most = stages_left.min(kind.devices.len() as u32 / split.width());
            for _ in 0..most {
                stages.push(StageShape { kind: k as u32, split, recompute });
                let used = stages.iter().filter(|s| s.kind as usize == k).count() as u32;
                extend(kinds, splits, (stages_left - used, recompute), depth - 1, chosen, stages, list);
            }
            stages.retain(|s| s.kind as usize != k);
        }
        chosen[k] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(gpus_per_node: u32, devices: u32) -> Kind {
        let devices = (0..devices).map(|index| DeviceId { group: 0, index }).collect();
        Kind { gpu: "x".into(), gpus_per_node, group: 0, groups: vec![0], devices }
    }

    fn shape(kind: u32, tp: u32) -> StageShape {
        StageShape { kind, split: Split::tp(tp), recompute: Recompute::None }
    }

    #[test]
    fn templates_are_each_generated_once_and_no_longer_than_allowed() {
        let kinds = [kind(4, 8), kind(2, 4)];
        let tp = |kind: &Kind| tp_degrees_of(kind.gpus_per_node).map(Split::tp).collect();
        let list = plain(&kinds, 4, &[tp(&kinds[0]), tp(&kinds[1])], Recompute::None);
        let mut sorted = list.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), list.len());
        assert!(list.iter().all(|t| t.stages.len() <= 4));
        // One kind: 4 + 4 + 2 (tp 1, 2, 4 of 8 devices) and 4 + 2 (tp 1, 2 of 4 devices).
        assert_eq!(
            list.iter().take_while(|t| t.stages.iter().all(|s| s.kind == t.stages[0].kind)).count(),
            16
        );
        assert!(list.contains(&Template { stages: vec![shape(1, 2), shape(0, 4), shape(0, 4)] }));
    }
}
