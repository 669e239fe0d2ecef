//! Where the time of every stage went, what it holds in memory, and how its times are known.
//!
//! | part | when the devices of a stage |
//! | --- | --- |
//! | compute | run passes or the optimizer step, less what those wait for inside their layers |
//! | exposed TP | wait inside their layers for tensor, context or expert parallelism, as far as that is known apart |
//! | exposed DP | do not compute while a synchronisation of theirs is under way |
//! | exposed PP | do neither while a transfer from or to them is under way |
//! | bubble | are idle, up to what they would be idle if every stage of their pipeline were like theirs and nothing were sent |
//! | wait | are idle beyond that: another stage, another pipeline or a transfer elsewhere is slower |

use super::ideal::{self, PassTimes};
use crate::device::Evidence;
use crate::fold::Folding;
use crate::layout::{Layout, Rank};
use crate::memory::{self, Memory};
use crate::plan::{Plan, Schedule};
use crate::rank_time::RankTime;
use crate::scenario::Scenario;
use crate::schedule::{Orders, PassKind, Shape};
use crate::units::Bytes;
use sim_core::SimDuration;
use std::collections::BTreeMap;

/// Time by part, in ps or device-ps. See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parts<T> {
    /// Computing.
    pub compute: T,
    /// Waiting inside layers.
    pub exposed_tp: T,
    /// Transfers between stages.
    pub exposed_pp: T,
    /// Synchronisation of gradients and parameters.
    pub exposed_dp: T,
    /// Idle by schedule.
    pub bubble: T,
    /// Idle because something else is slower.
    pub wait: T,
}

impl<T: Copy> Parts<T> {
    /// The parts in order, with their names.
    pub fn each(&self) -> [(&'static str, T); 6] {
        [
            ("compute", self.compute),
            ("exposed_tp", self.exposed_tp),
            ("exposed_pp", self.exposed_pp),
            ("exposed_dp", self.exposed_dp),
            ("bubble", self.bubble),
            ("wait", self.wait),
        ]
    }

    /// Part by part.
    pub fn map<U>(&self, f: impl Fn(T) -> U) -> Parts<U> {
        Parts {
            compute: f(self.compute),
            exposed_tp: f(self.exposed_tp),
            exposed_pp: f(self.exposed_pp),
            exposed_dp: f(self.exposed_dp),
            bubble: f(self.bubble),
            wait: f(self.wait),
        }
    }
}

impl<T: Copy + std::ops::Add<Output = T>> Parts<T> {
    /// Part by part.
    #[must_use]
    pub fn plus(&self, other: &Parts<T>) -> Parts<T> {
        Parts {
            compute: self.compute + other.compute,
            exposed_tp: self.exposed_tp + other.exposed_tp,
            exposed_pp: self.exposed_pp + other.exposed_pp,
            exposed_dp: self.exposed_dp + other.exposed_dp,
            bubble: self.bubble + other.bubble,
            wait: self.wait + other.wait,
        }
    }

    /// All parts together.
    pub fn total(&self) -> T {
        let [first, rest @ ..] = self.each().map(|(_, part)| part);
        rest.into_iter().fold(first, |sum, part| sum + part)
    }
}

/// Alike stages of a group of pipelines.
#[derive(Clone, Debug)]
pub struct StageReport {
    /// Index of the group in [`Plan::pipelines`].
    pub pipelines: usize,
    /// The stage, from 0.
    pub stage: u32,
    /// Index of their node group in [`Scenario::groups`].
    pub group: u32,
    /// How many pipelines this is.
    pub count: u64,
    /// How many devices.
    pub devices: u64,
    /// The time of each device, ps. It adds up to the iteration.
    pub parts: Parts<u64>,
    /// Memory of each device at its fullest.
    pub memory: Memory,
    /// Memory that each device has.
    pub has: Bytes,
}

/// How the layer times of a group of nodes are known.
#[derive(Clone, Debug)]
pub struct GroupEvidence {
    /// Index into [`Scenario::groups`].
    pub group: u32,
    /// The worst of the stages on it.
    pub evidence: Evidence,
    /// Standard deviation of the logarithm of true over given time, the widest: 0.1 is about 10 %.
    pub spread: f64,
}

/// Every stage of every simulated pipeline, those together that are of one group and went alike.
pub(super) fn stages(
    scenario: &Scenario,
    plan: &Plan,
    layout: &Layout,
    folding: &Folding,
    times: &[RankTime],
    end: SimDuration,
) -> Vec<StageReport> {
    let mut bubbles = Bubbles { plan, known: BTreeMap::new(), orders: BTreeMap::new() };
    let mut alike: BTreeMap<(usize, u32, u32, Parts<u64>), StageReport> = BTreeMap::new();
    for class in &folding.classes {
        let pipeline = &layout.pipelines[class.pipeline];
        let shape = layout.shape(plan, pipeline);
        for r in pipeline.stages.clone() {
            let (rank, time) = (&layout.ranks[r], &times[r]);
            let idle = end.as_ps().saturating_sub(time.busy + time.synced + time.passed);
            let bubble = if idle == 0 { 0 } else { idle.min(bubbles.of(&shape, rank)) };
            let parts = Parts {
                compute: time.busy - time.inside,
                exposed_tp: time.inside,
                exposed_pp: time.passed,
                exposed_dp: time.synced,
                bubble,
                wait: idle - bubble,
            };
            let group = rank.devices[0].group;
            let report =
                alike.entry((pipeline.group, rank.stage, group, parts)).or_insert_with(|| StageReport {
                    pipelines: pipeline.group,
                    stage: rank.stage,
                    group,
                    count: 0,
                    devices: 0,
                    parts,
                    memory: memory::of_rank(scenario, plan, layout, rank),
                    has: scenario.group(rank.devices[0]).gpu.memory,
                });
            report.count += u64::from(class.count);
            report.devices += u64::from(class.count) * rank.devices.len() as u64;
        }
    }
    alike.into_values().collect()
}

/// How the times of every node group that the plan uses are known.
pub(super) fn evidence(scenario: &Scenario, layout: &Layout) -> Vec<GroupEvidence> {
    let of = |group: u32| {
        let ranks = layout.ranks.iter().filter(|r| r.devices[0].group == group);
        let known = |worst: Option<GroupEvidence>, rank: &Rank| {
            let (evidence, spread) = (rank.times.evidence, rank.times.spread);
            let worst = worst.unwrap_or(GroupEvidence { group, evidence, spread });
            Some(GroupEvidence {
                group,
                evidence: worst.evidence.max(evidence),
                spread: worst.spread.max(spread),
            })
        };
        ranks.fold(None, known)
    };
    (0..scenario.groups.len() as u32).filter_map(of).collect()
}

/// What the schedule alone is to blame for, each case once.
struct Bubbles<'a> {
    plan: &'a Plan,
    known: BTreeMap<(Shape, u32, PassTimes), u64>,
    orders: BTreeMap<Shape, Orders>,
}

impl Bubbles<'_> {
    fn of(&mut self, shape: &Shape, rank: &Rank) -> u64 {
        let split_weights = self.plan.schedule == Schedule::ZeroBubble;
        let kinds = [PassKind::Forward, PassKind::Backward, PassKind::Weight];
        let times: PassTimes = rank
            .layers
            .chunks()
            .iter()
            .map(|range| kinds.map(|kind| rank.pass(kind, *range, split_weights)).map(SimDuration::as_ps))
            .collect();
        let key = (*shape, rank.stage, times);
        if let Some(idle) = self.known.get(&key) {
            return *idle;
        }
        let orders = self.orders.entry(*shape).or_insert_with(|| Orders::new(shape));
        let blocking =
            !self.plan.overlap_p2p && matches!(self.plan.schedule, Schedule::OneFOneB | Schedule::GPipe);
        let idle = ideal::idle(orders, shape.stages, rank.stage, &key.2, blocking);
        self.known.insert(key, idle);
        idle
    }
}
