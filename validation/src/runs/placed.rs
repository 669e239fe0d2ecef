//! Replicas of a plan on the nodes of their GPUs: which devices each takes, the plan for the simulator, the groups of nodes.
//!
//! The cluster has just the GPUs that the plan uses: a group of nodes for each kind, replicas placed stage by stage in the
//! order of the plan. Micro-batches are shared out evenly, the first pipelines taking one more where they do not divide.

use super::case::corrupt;
use super::cluster::{Wires, fabric, find, gpus_per_node, unbuilt};
use super::degrees::Degrees;
use super::plan::RunPlan;
use super::row::Row;
use super::{Reason, Skip};
use sim_core::{CapacityProfile, Rate};
use sim_models::collective::Nccl;
use sim_models::device::{Device, Gpu, LayerTable, Roofline};
use sim_models::framework::{Calibration, Framework};
use sim_models::layer_times::{LayerTimes, OnDevice};
use sim_models::link::{FittedCurve, LinkModel, StreamRate, fitted_between_nodes, fitted_inside_node};
use sim_models::plan::{DeviceRange, PipelineGroup, Plan, Recompute, Schedule, Stage};
use sim_models::scenario::NodeGroup;
use sim_models::units::Bytes;
use sim_models::workload::{Model, Precision};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the shipped curves were measured; the sources name no other place.
const ZONE: &str = "us-central1-a";
/// Most passes and transfers of an iteration: what a row's batch may ask for.
const MOST_TASKS: u64 = 50_000_000;

/// A kind of GPU and its nodes.
pub(super) struct Kind {
    /// The kind.
    pub gpu: &'static Gpu,
    /// Joined by NVLink or PCIe: those of a node, or of a rack.
    gpus_per_node: u32,
    /// Devices taken, gaps included.
    used: u32,
}

/// The replicas of a plan on the nodes of its kinds.
pub(super) struct Placed {
    /// In order of appearance.
    pub kinds: Vec<Kind>,
    /// Of each stage and replica: its kind, its first device there, how many, its TP.
    at: Vec<Vec<(usize, u32, u32, u32)>>,
}

impl Placed {
    pub(super) fn new(row: &Row, run: &RunPlan, degrees: &Degrees) -> Result<Placed, Skip> {
        let mut placed = Placed { kinds: Vec::new(), at: Vec::new() };
        for stage in &run.stages {
            let mut replicas = Vec::with_capacity(stage.replicas.len());
            for (name, tp) in &stage.replicas {
                let gpu = find(name)?;
                let kind = match placed.kinds.iter().position(|k| k.gpu.name == gpu.name) {
                    Some(kind) => kind,
                    None => {
                        let gpus_per_node = Wires::joined(gpu, gpus_per_node(row, gpu)?);
                        placed.kinds.push(Kind { gpu, gpus_per_node, used: 0 });
                        placed.kinds.len() - 1
                    }
                };
                let width = tp.saturating_mul(degrees.cp);
                let Kind { used, gpus_per_node: per_node, .. } = &mut placed.kinds[kind];
                let per_node = *per_node;
                let left = per_node - *used % per_node;
                // A replica that does not fit into what is left of a node starts the next one.
                let first =
                    if width > left && left < per_node { used.checked_add(left) } else { Some(*used) };
                let next = first.and_then(|f| f.checked_add(width)).filter(|n| *n <= 1 << 20);
                let (Some(first), Some(next)) = (first, next) else {
                    return Err(corrupt("the plan has more than 2^20 GPUs of a kind".into()));
                };
                if width > per_node && !width.is_multiple_of(per_node) {
                    let what =
                        format!("a replica of {width} GPUs on nodes of {per_node}: expected whole nodes");
                    return Err(corrupt(what));
                }
                *used = next;
                replicas.push((kind, first, width, *tp));
            }
            placed.at.push(replicas);
        }
        Ok(placed)
    }

    /// The plan's GPUs are the row's.
    pub(super) fn same_gpus(&self, row: &BTreeMap<&'static str, u64>) -> Result<(), Skip> {
        let mut plan: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, _, width, _) in self.at.iter().flatten() {
            *plan.entry(&self.kinds[*kind].gpu.name).or_default() += u64::from(*width);
        }
        let text = |gpus: &BTreeMap<&str, u64>| {
            gpus.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
        };
        if plan == *row {
            return Ok(());
        }
        Err(corrupt(format!("the plan is for {}, the row says {}", text(&plan), text(row))))
    }

    fn name(&self, kind: usize) -> String {
        self.kinds[kind].gpu.name.to_ascii_lowercase()
    }

    pub(super) fn plan(
        &self,
        run: &RunPlan,
        degrees: &Degrees,
        micro_batch: u32,
        micro_batches: u32,
    ) -> Result<Plan, Skip> {
        let replicas = self.at[0].len() as u32;
        if micro_batches < replicas {
            return Err(corrupt(format!("{micro_batches} micro-batches for {replicas} pipelines")));
        }
        let tasks = 4 * u64::from(micro_batches) * run.stages.len() as u64;
        if tasks > MOST_TASKS {
            return Err(corrupt(format!(
                "{tasks} passes and transfers in an iteration: expected at most {MOST_TASKS}"
            )));
        }
        let (even, more) = (micro_batches / replicas, micro_batches % replicas);
        let uneven = more > 0;
        let chunks = run.stages[0].layers.chunks().len();
        let interleaved = chunks > 1;
        if interleaved && (uneven || !even.is_multiple_of(run.stages.len() as u32)) {
            return Err(corrupt(format!(
                "{even} micro-batches over {} interleaved stages",
                run.stages.len()
            )));
        }
        // Neighbours in the row that are alike in everything become one group.
        let alike = |a: u32, b: u32| {
            (a < more) == (b < more)
                && self.at.iter().all(|s| {
                    let ((ka, _, wa, ta), (kb, _, wb, tb)) = (s[a as usize], s[b as usize]);
                    (ka, wa, ta) == (kb, wb, tb)
                })
        };
        let mut groups: Vec<(u32, Vec<usize>)> = Vec::new();
        for r in 0..replicas {
            match groups.last_mut() {
                Some((_, members)) if alike(members[0] as u32, r) => members.push(r as usize),
                _ => groups.push((even + u32::from(r < more), vec![r as usize])),
            }
        }
        let stage = |s: usize, members: &[usize]| {
            let mut devices: Vec<DeviceRange> = Vec::new();
            for r in members {
                let (kind, first, width, _) = self.at[s][*r];
                let (group, last) = (self.name(kind), first + width - 1);
                match devices.last_mut() {
                    Some(d) if d.group == group && d.last + 1 == first => d.last = last,
                    _ => devices.push(DeviceRange { group, first, last }),
                }
            }
            Stage {
                layers: run.stages[s].layers.clone(),
                tp: self.at[s][members[0]].3,
                cp: degrees.cp,
                ep: degrees.ep,
                recompute: degrees.recompute,
                devices,
            }
        };
        let pipelines = groups.iter().map(|(share, members)| PipelineGroup {
            replicas: members.len() as u32,
            micro_batches: *share,
            stages: (0..self.at.len()).map(|s| stage(s, members)).collect(),
        });
        let pipelines: Vec<PipelineGroup> = pipelines.collect();
        let habits = degrees.habits;
        let bucket = (habits.bucket_mib > 0).then(|| Bytes(u64::from(habits.bucket_mib) << 20));
        Ok(Plan {
            micro_batch,
            schedule: if interleaved { Schedule::Interleaved } else { Schedule::OneFOneB },
            overlap_p2p: habits.overlap_p2p,
            sequence_parallel: degrees.sequence_parallel,
            overlap_tp: habits.overlap_tp && degrees.tp > 1,
            // Sharing in every micro-batch needs as many of them everywhere.
            zero: if pipelines.len() > 1 { degrees.zero.min(1) } else { degrees.zero },
            gradient_bucket: bucket,
            overlap_gradients: habits.overlap_gradients
                && !(degrees.zero == 1 && habits.scatter_after_passes),
            gather_after_step: habits.gather_after_step,
            pipelines,
            ..Plan::default()
        })
    }

    /// Measured layer times of every kind, if they are shipped for all that the plan asks.
    pub(super) fn tables(&self, model: &Model, precision: Precision, plan: &Plan) -> Option<Vec<LayerTable>> {
        let shipped = Model::builtin(&model.name)?;
        let same = shipped.blocks == model.blocks
            && shipped.hidden == model.hidden
            && shipped.seq_len == model.seq_len
            && shipped.ffn_hidden == model.ffn_hidden;
        let plain = plan.zero == 0
            && !plan.sequence_parallel
            && plan
                .pipelines
                .iter()
                .flat_map(|p| &p.stages)
                .all(|s| s.recompute == Recompute::None && s.cp == 1);
        // A table is of one shape of a model.
        if !same || precision != Precision::Fp32 || !plain {
            return None;
        }
        let table = |(at, kind): (usize, &Kind)| {
            let table = LayerTable::shipped(&model.name, &kind.gpu.name)?;
            fitted_inside_node(&kind.gpu.name)?;
            for other in &self.kinds {
                fitted_between_nodes(ZONE, &kind.gpu.name, &other.gpu.name)?;
            }
            let mut asked = self.at.iter().flatten().filter(|(k, ..)| *k == at).map(|(_, _, _, tp)| *tp);
            asked.all(|tp| table.sums(plan.micro_batch, tp).is_some()).then_some(table)
        };
        self.kinds.iter().enumerate().map(table).collect()
    }

    pub(super) fn measured_groups(&self, tables: Vec<LayerTable>) -> Result<Grouped, Skip> {
        let missing = || Skip::new(Reason::MissingField, "no measured links are shipped".into());
        let between = |a: &Kind, b: &Kind| {
            fitted_between_nodes(ZONE, &a.gpu.name, &b.gpu.name).map(|c| curves(c)).ok_or_else(missing)
        };
        let group = |(i, table): (usize, LayerTable)| {
            let kind = &self.kinds[i];
            let wire = Rate::from_bytes_per_s(between(kind, kind)?.wire_rate()).map_err(|_| missing())?;
            let inside = curves(fitted_inside_node(&kind.gpu.name).ok_or_else(missing)?);
            Ok(self.nodes(i, LayerTimes::measured(table), inside, wire, (None, None)))
        };
        let groups: Vec<NodeGroup> = tables.into_iter().enumerate().map(group).collect::<Result<_, _>>()?;
        let links = self.kinds.iter().map(|a| self.kinds.iter().map(|b| between(a, b)).collect());
        Ok(Grouped { groups, links: links.collect::<Result<_, _>>()?, message_s: 0.0 })
    }

    pub(super) fn modelled_groups(
        &self,
        row: &Row,
        model: &Model,
        precision: Precision,
        framework: &Framework,
        calibration: &Calibration,
    ) -> Result<Grouped, Skip> {
        let several = self.kinds.len() > 1 || self.kinds.iter().any(|k| k.used > k.gpus_per_node);
        let wires: Vec<Wires> = self
            .kinds
            .iter()
            .enumerate()
            .map(|(i, k)| {
                Wires::new(
                    &fabric(row, k.gpu, i, gpus_per_node(row, k.gpu)?, several)?,
                    k.gpu,
                    k.gpus_per_node,
                    calibration,
                )
            })
            .collect::<Result<_, Skip>>()?;
        // Of cards that no maker builds nodes of, links as they were measured between these cards, where they were.
        let unbuilt: Vec<bool> = self.kinds.iter().map(|k| unbuilt(row, k.gpu)).collect();
        let measured = |i: usize, j: usize| {
            let (a, b) = (&self.kinds[i].gpu.name, &self.kinds[j].gpu.name);
            fitted_between_nodes(ZONE, a, b).filter(|_| unbuilt[i] && unbuilt[j]).map(|c| curves(c))
        };
        let group = |(i, kind): (usize, &Kind)| {
            let roofline = Roofline {
                gpu: kind.gpu.clone(),
                device: calibration.device(kind.gpu),
                framework: calibration.kernels(framework),
            };
            let on = OnDevice {
                device: Device::Roofline(roofline),
                model: model.clone(),
                format: precision.into(),
                nccl: Some(wires[i].nccl),
                inside: wires[i].inside.clone(),
                outside: wires[i].outside(),
            };
            let rate = measured(i, i).map_or(wires[i].node_rate, |link| link.wire_rate());
            let rate = Rate::from_bytes_per_s(rate);
            let rate =
                rate.map_err(|_| Skip::new(Reason::Corrupt, "the network's rate is out of range".into()))?;
            let wired = (wires[i].cards, Some(wires[i].nccl));
            Ok(self.nodes(i, LayerTimes::modelled(on), wires[i].inside.clone(), rate, wired))
        };
        let groups: Vec<NodeGroup> = self.kinds.iter().enumerate().map(group).collect::<Result<_, Skip>>()?;
        let all = 0..wires.len();
        let link = |i: usize, j: usize| measured(i, j).unwrap_or_else(|| wires[i].between(&wires[j]));
        let links = all.clone().map(|i| all.clone().map(|j| link(i, j)).collect()).collect();
        let message_s = wires.iter().map(|w| w.message_s).fold(0.0, f64::max);
        Ok(Grouped { groups, links, message_s })
    }

    /// A group of nodes.
    fn nodes(
        &self,
        i: usize,
        layers: LayerTimes,
        inside: LinkModel,
        nic: Rate,
        (nics, collectives): (Option<u32>, Option<Nccl>),
    ) -> NodeGroup {
        let kind = &self.kinds[i];
        NodeGroup {
            name: self.name(i),
            zone: ZONE.into(),
            nodes: kind.used.div_ceil(kind.gpus_per_node),
            gpus_per_node: kind.gpus_per_node,
            gpu: kind.gpu.clone(),
            layers: Arc::new(layers),
            inside,
            nic: CapacityProfile::constant(nic),
            nics,
            collectives,
            leaves: None,
        }
    }
}

/// The cluster of a scenario.
pub(super) struct Grouped {
    pub groups: Vec<NodeGroup>,
    /// Between their nodes.
    pub links: Vec<Vec<LinkModel>>,
    /// What a transfer between stages on different nodes waits for, s.
    pub message_s: f64,
}

/// A link of shipped curves; their start latency is in them.
fn curves(curves: &[(u32, FittedCurve)]) -> LinkModel {
    LinkModel { latency_s: 0.0, rate: StreamRate::Fitted(curves.to_vec()) }
}
