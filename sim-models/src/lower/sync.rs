//! Gradients and parameters between replicas, and the optimizer step.
//!
//! ```text
//!   zero 0     ... B B |all-reduce| update              or reduce-scatter and all-gather of the gradients
//!   zero 1     ... B B |reduce-scatter| update |all-gather|     overlapped: the gather beside the next first forward passes,
//!                                                               or after the step where the plan says so
//!   zero 2     as 1, with a reduce-scatter after every backward pass
//!   zero 3     parameters of a piece gathered before each of its passes, the piece after it meanwhile; freed after it
//! ```
//!
//! A *piece* is a run of layers that is sent at once: a bucket. Dense parameters go around all devices that hold them, the
//! experts of a layer around those that hold the same ones.

use super::passes::is_last;
use super::route::{Context, Ring, SyncKind};
use super::{Lowering, SyncTask};
use crate::fold::Class;
use crate::layout::Rank;
use crate::plan::{GradientSync, LayerRange, Plan, Schedule};
use crate::schedule::{Orders, Pass, PassKind};
use crate::units::Bytes;
use sim_core::{SimDuration, StreamId, TaskId};

/// Most pieces into which the layers of a model are cut where every pass is.
const MOST_PIECES: u32 = 64;

/// The layers that are sent at once, and which passes are cut at their borders.
pub(super) struct Pieces {
    /// Runs of layers with the index of their synchronisation group, in order.
    list: Vec<(usize, LayerRange)>,
    /// First layers of pieces and of what no piece holds, in order.
    borders: Vec<u32>,
    cut: Cut,
}

/// Which passes communication runs beside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    None,
    /// The last that makes gradients, and the first forward pass where it waits for parameters.
    Ends {
        gathers: bool,
        weights: bool,
    },
    /// Every backward pass, and the first forward pass where it waits for parameters.
    Backward {
        gathers: bool,
    },
    All,
}

impl Cut {
    fn of(plan: &Plan) -> Cut {
        let weights = plan.schedule == Schedule::ZeroBubble;
        let gathers = plan.overlap_gradients && !plan.gather_after_step;
        match (plan.zero, plan.overlap_gradients) {
            (3, _) => Cut::All,
            (2, _) => Cut::Backward { gathers },
            (zero, true) => Cut::Ends { gathers: zero > 0 && gathers, weights },
            (_, false) => Cut::None,
        }
    }
}

/// How replicas make the gradients of a piece equal.
fn gradients(plan: &Plan) -> &'static [SyncKind] {
    match (plan.zero, plan.gradient_sync) {
        (0, GradientSync::AllReduce) => &[SyncKind::AllReduce],
        (0, GradientSync::ReduceScatter) => &[SyncKind::ReduceScatter, SyncKind::AllGather],
        _ => &[SyncKind::ReduceScatter],
    }
}

/// The pieces of a plan.
pub(super) fn pieces(c: &Context<'_>) -> Pieces {
    let model = &c.scenario.model;
    let cut = Cut::of(c.plan);
    let bucket = c.plan.gradient_bucket.map_or(u64::MAX, |b| b.0);
    let each = model.layers().div_ceil(MOST_PIECES);
    let mut list = Vec::new();
    for (g, group) in c.layout.syncs.iter().enumerate() {
        let tp = c.rank(group.ranks[0]).tp;
        // From the last layer on, as gradients come.
        let (mut last, mut bytes, start) = (group.layers.last, 0u64, list.len());
        for layer in (group.layers.first..=group.layers.last).rev() {
            bytes = bytes.saturating_add(model.parameters(layer, tp) * c.scenario.training.gradient_bytes);
            let full = if cut == Cut::All { last - layer + 1 >= each } else { bytes >= bucket };
            if full || layer == group.layers.first {
                list.push((g, LayerRange { first: layer, last }));
                (last, bytes) = (layer.saturating_sub(1), 0);
            }
        }
        list[start..].reverse();
    }
    let mut borders: Vec<u32> = list.iter().flat_map(|(_, r)| [r.first, r.last + 1]).collect();
    borders.sort_unstable();
    borders.dedup();
    Pieces { list, borders, cut }
}

impl Pieces {
    /// Whether a pass is cut at the borders of pieces.
    pub(super) fn cuts(&self, orders: &Orders, pass: Pass) -> bool {
        let gathers = |gathers: bool| gathers && pass.kind == PassKind::Forward && pass.micro_batch == 0;
        match self.cut {
            Cut::None => false,
            Cut::All => true,
            Cut::Backward { gathers: g } => pass.kind == PassKind::Backward || gathers(g),
            Cut::Ends { gathers: g, weights } => {
                let makes = if weights { PassKind::Weight } else { PassKind::Backward };
                (pass.kind == makes && is_last(orders, pass)) || gathers(g)
            }
        }
    }

    /// Of each piece, how long the collectives that run beside a forward and beside another pass over its layers take alone, s.
    pub(super) fn beside_s(&self, c: &Context<'_>) -> Vec<[f64; 2]> {
        let gathers: &[SyncKind] = &[SyncKind::AllGather];
        let [forward, other] = match self.cut {
            Cut::None => [&[][..]; 2],
            Cut::All => [gathers, &[SyncKind::AllGather, SyncKind::ReduceScatter]],
            Cut::Ends { .. } | Cut::Backward { .. } => [gathers, gradients(c.plan)],
        };
        let alone = |kinds: &[SyncKind], (group, layers): &(usize, LayerRange)| {
            let rings = kinds.iter().flat_map(|kind| rings(c, *kind, *group, *layers));
            rings.map(|ring| c.ring(&ring).alone_s()).sum::<f64>()
        };
        self.list.iter().map(|piece| [forward, other].map(|kinds| alone(kinds, piece))).collect()
    }

    /// The piece of some layers of a rank.
    pub(super) fn piece(&self, c: &Context<'_>, rank: usize, layers: LayerRange) -> Option<usize> {
        let holds = |(group, range): &(usize, LayerRange)| {
            range.first <= layers.first
                && layers.last <= range.last
                && c.layout.syncs[*group].ranks.contains(&rank)
        };
        self.list.iter().position(holds)
    }

    /// A range of layers cut at the borders, in order.
    pub(super) fn within(&self, range: LayerRange) -> Vec<LayerRange> {
        let inner = |b: &&u32| (range.first + 1..=range.last).contains(*b);
        let mut list = Vec::new();
        let mut first = range.first;
        for border in self.borders.iter().filter(inner) {
            list.push(LayerRange { first, last: border - 1 });
            first = *border;
        }
        list.push(LayerRange { first, last: range.last });
        list
    }
}

impl Lowering {
    pub(super) fn synchronise(&mut self, c: &Context<'_>, pieces: &Pieces) {
        let mut simulated = vec![None; c.layout.ranks.len()];
        for (i, tasks) in self.map.passes.iter().enumerate() {
            simulated[tasks.rank] = Some(i);
        }
        let ends: Vec<TaskId> =
            (0..self.map.passes.len()).map(|i| self.map.pass(i, self.map.pass_count(i) - 1).1).collect();
        self.last = ends;
        self.streams = (0..self.map.passes.len()).map(|_| self.builder.stream()).collect();
        let members = |group: usize| -> Vec<usize> {
            c.layout.syncs[group].ranks.iter().filter_map(|r| simulated[*r]).collect()
        };
        let waits_for_parameters =
            matches!(pieces.cut, Cut::Ends { gathers: true, .. } | Cut::Backward { gathers: true });
        if waits_for_parameters {
            for (group, layers) in &pieces.list {
                let members = members(*group);
                for task in self.share(c, SyncKind::AllGather, *group, *layers, &members, &[]) {
                    for m in &members {
                        let (segment, _) = self.segment(c, pieces, *m, PassKind::Forward, 0, *layers);
                        self.builder.depend(segment, task);
                    }
                }
            }
        }
        match pieces.cut {
            Cut::All | Cut::Backward { .. } => self.every_pass(c, pieces, &members),
            Cut::None | Cut::Ends { .. } => {
                for (group, layers) in pieces.list.iter().rev() {
                    let members = members(*group);
                    let deps: Vec<TaskId> = match pieces.cut {
                        Cut::Ends { weights, .. } => {
                            let kind = if weights { PassKind::Weight } else { PassKind::Backward };
                            let last = |m: &usize| {
                                let n = self.map.passes[*m].orders.micro_batches() - 1;
                                self.segment(c, pieces, *m, kind, n, *layers).1
                            };
                            members.iter().map(last).collect()
                        }
                        _ => members.iter().map(|m| self.last_pass(*m)).collect(),
                    };
                    for kind in gradients(c.plan) {
                        for task in self.share(c, *kind, *group, *layers, &members, &deps) {
                            members.iter().for_each(|m| self.wait(*m, task));
                        }
                    }
                }
            }
        }
        self.tied(c, &simulated);
        self.update(c);
        if matches!(c.plan.zero, 1 | 2) && !waits_for_parameters {
            for (group, layers) in &pieces.list {
                let members = members(*group);
                let deps: Vec<TaskId> = members.iter().map(|m| self.map.updates[*m]).collect();
                self.share(c, SyncKind::AllGather, *group, *layers, &members, &deps);
            }
        }
    }

    fn last_pass(&self, rank: usize) -> TaskId {
        self.map.pass(rank, self.map.pass_count(rank) - 1).1
    }

    /// The optimizer step of a rank waits for `task`, too.
    fn wait(&mut self, rank: usize, task: TaskId) {
        let before = self.last[rank];
        // Tasks on one stream end in order: the later one covers the one before, but not the passes.
        self.last[rank] = if before == self.last_pass(rank) { task } else { before.max(task) };
    }

    /// The first and the last task of the part of a pass that runs some layers.
    fn segment(
        &self,
        c: &Context<'_>,
        pieces: &Pieces,
        member: usize,
        kind: PassKind,
        micro_batch: u32,
        layers: LayerRange,
    ) -> (TaskId, TaskId) {
        let tasks = &self.map.passes[member];
        let rank = c.rank(tasks.rank);
        let chunk =
            rank.layers.chunks().iter().position(|r| r.first <= layers.first && layers.last <= r.last);
        let chunk = chunk.unwrap_or(0);
        let at = tasks.orders.position(rank.stage, Pass { kind, micro_batch, chunk: chunk as u32 });
        let parts = pieces.within(rank.layers.chunks()[chunk]);
        let index = parts.iter().position(|r| r.first == layers.first).unwrap_or(0);
        let index = if kind == PassKind::Forward { index } else { parts.len() - 1 - index };
        self.map.part(member, at as usize, index)
    }

    /// One collective of a piece: of its dense parameters, and of its experts where several devices hold the same.
    fn share(
        &mut self,
        c: &Context<'_>,
        kind: SyncKind,
        group: usize,
        layers: LayerRange,
        members: &[usize],
        deps: &[TaskId],
    ) -> Vec<TaskId> {
        let on: Vec<StreamId> = members.iter().map(|m| self.streams[*m]).collect();
        let mut tasks = Vec::with_capacity(1);
        // A piece that is sent in every pass takes the same way each time.
        let key = (kind, group, layers.first);
        let routes = self.routes.remove(&key);
        let routes =
            routes.unwrap_or_else(|| rings(c, kind, group, layers).iter().map(|r| c.ring(r)).collect());
        for route in &routes {
            let task = self.builder.transfer(route.transfer(), &on, deps);
            let (bytes, members) = (route.bytes(), members.to_vec());
            self.map.syncs.push(SyncTask { task, kind, bytes, members, layers: (layers.first, layers.last) });
            tasks.push(task);
        }
        self.routes.insert(key, routes);
        tasks
    }

    /// Gradients after every backward pass (zero 2 and 3), parameters before every pass (zero 3). The plan's pipelines are
    /// alike, so that the members of a group run the same passes.
    fn every_pass(&mut self, c: &Context<'_>, pieces: &Pieces, members: &impl Fn(usize) -> Vec<usize>) {
        // Groups of the same ranks, such as the chunks of one stage, by their first rank.
        let mut leaders: Vec<usize> = c.layout.syncs.iter().map(|s| s.ranks[0]).collect();
        leaders.sort_unstable();
        leaders.dedup();
        let gather = pieces.cut == Cut::All;
        for leader in leaders {
            let of_leader = |g: usize| c.layout.syncs[g].ranks[0] == leader;
            let Some(first) = (0..c.layout.syncs.len()).find(|g| of_leader(*g)) else { continue };
            let members = members(first);
            let Some(one) = members.first().copied() else { continue };
            // Gradients have a stream of their own, so that parameters need not wait behind them.
            let gather_streams = self.streams.clone();
            let reduce_streams: Vec<StreamId> =
                gather_streams.iter().map(|_| self.builder.stream()).collect();
            let begins: Vec<TaskId> = members.iter().map(|m| self.map.pass(*m, 0).0).collect();
            for at in 0..self.map.pass_count(one) {
                let orders = self.map.passes[one].orders.clone();
                let rank = c.rank(self.map.passes[one].rank);
                let pass = orders.stage(rank.stage)[at];
                let mut parts = pieces.within(rank.layers.chunks()[pass.chunk as usize]);
                let forward = pass.kind == PassKind::Forward;
                if !forward {
                    parts.reverse();
                }
                let cut = pieces.cuts(&orders, pass);
                for (i, layers) in parts.into_iter().enumerate() {
                    let group = (0..c.layout.syncs.len()).find(|g| {
                        let held = c.layout.syncs[*g].layers;
                        held.first <= layers.first && layers.last <= held.last
                    });
                    let Some(group) = group else { continue };
                    let part = |this: &Self, m: usize| this.map.part(m, at, if cut { i } else { 0 });
                    if gather {
                        // One piece ahead: the gather starts when the part before the one before is done.
                        let deps: Vec<TaskId> = members
                            .iter()
                            .zip(&begins)
                            .filter_map(|(m, begin)| {
                                let own = part(self, *m).0.0;
                                let each = self.map.passes[*m].split.tasks();
                                (own >= begin.0 + 2 * each).then(|| TaskId(own - each - 1))
                            })
                            .collect();
                        for task in self.share(c, SyncKind::AllGather, group, layers, &members, &deps) {
                            for m in &members {
                                self.builder.depend(part(self, *m).0, task);
                            }
                        }
                    }
                    if !forward {
                        let deps: Vec<TaskId> = members.iter().map(|m| part(self, *m).1).collect();
                        self.streams.clone_from(&reduce_streams);
                        let tasks = self.share(c, SyncKind::ReduceScatter, group, layers, &members, &deps);
                        self.streams.clone_from(&gather_streams);
                        for task in tasks {
                            members.iter().for_each(|m| self.wait(*m, task));
                        }
                    }
                }
            }
        }
    }

    /// The head's copy of a tied embedding is kept equal to the first stage's.
    fn tied(&mut self, c: &Context<'_>, simulated: &[Option<usize>]) {
        let model = &c.scenario.model;
        if !model.tied_embeddings {
            return;
        }
        for class in &c.folding.classes {
            let stages = c.layout.pipelines[class.pipeline].stages.clone();
            if stages.len() < 2 {
                continue;
            }
            let ends = [stages.start, stages.end - 1];
            let tp = ends.iter().map(|r| c.rank(*r).tp).max().unwrap_or(1);
            let whole =
                Bytes(model.padded_vocab(tp) * model.hidden).times(c.scenario.training.gradient_bytes);
            let of: Option<&Class> = Some(class);
            let kind = SyncKind::AllReduce;
            let route = c.ring(&Ring { kind, ranks: &ends, members: 2, side_by_side: 1, whole, of });
            let members: Vec<usize> = ends.iter().filter_map(|r| simulated[*r]).collect();
            let on: Vec<StreamId> = members.iter().map(|m| self.streams[*m]).collect();
            let deps: Vec<TaskId> = members.iter().map(|m| self.last[*m]).collect();
            let task = self.builder.transfer(route.transfer(), &on, &deps);
            for m in &members {
                self.last[*m] = task;
            }
            let (bytes, layers) = (route.bytes(), (0, model.layers() - 1));
            self.map.syncs.push(SyncTask { task, kind, bytes, members, layers });
        }
    }

    /// The optimizer step of every rank, once its gradients are there and its passes done.
    fn update(&mut self, c: &Context<'_>) {
        let overheads = &c.scenario.training.overheads;
        let once = SimDuration::from_secs_f64(overheads.iteration_s).unwrap_or(SimDuration::ZERO);
        for i in 0..self.map.passes.len() {
            let r = self.map.passes[i].rank;
            let rank = c.rank(r);
            let parts = match c.plan.zero {
                0 => 1,
                _ => c.layout.replicas(rank),
            };
            let step = rank.update().as_ps();
            let unshared = ((step as f64 * overheads.unshared_step) as u64).min(step);
            let own = SimDuration::from_ps(unshared + (step - unshared).div_ceil(parts));
            let mut deps = [self.last[i], self.last_pass(i)].to_vec();
            deps.dedup();
            self.builder.pace(&c.fabric.pace(&rank.devices));
            let task = self.builder.delay(own.saturating_add(once), &[], &deps);
            self.builder.pace(&[]);
            self.map.updates.push(task);
        }
    }
}

/// The rings of a piece.
fn rings<'a>(c: &Context<'a>, kind: SyncKind, group: usize, layers: LayerRange) -> Vec<Ring<'a>> {
    let (model, training) = (&c.scenario.model, &c.scenario.training);
    let element = match kind {
        SyncKind::AllGather if c.plan.zero > 0 => training.precision.activation_bytes(),
        _ => training.gradient_bytes,
    };
    let ranks = &c.layout.syncs[group].ranks;
    let layout = c.layout;
    let of = |f: &dyn Fn(&Rank) -> u64| -> Vec<u64> { ranks.iter().map(|r| f(&layout.ranks[*r])).collect() };
    let most = |f: &dyn Fn(&Rank) -> u64| of(f).into_iter().max().unwrap_or(0);
    let dense = most(&|r| {
        let own = |l: u32| {
            let experts = if r.ep > 1 { 0 } else { model.expert_parameters(l, r.tp, 1) };
            model.dense_parameters(l, r.tp) + experts
        };
        layers.iter().map(own).sum::<u64>() * u64::from(r.tp)
    });
    let whole = Bytes(dense).times(element);
    let members: u64 = of(&|r| u64::from(r.cp)).iter().sum();
    let mut list = vec![Ring { kind, ranks, members, side_by_side: 1, whole, of: None }];
    let (ep, copies) = (most(&|r| u64::from(r.ep)), layout.expert_copies(ranks));
    if copies > 1 && layers.iter().any(|l| model.experts_of(l).is_some()) {
        let own = most(&|r| layers.iter().map(|l| model.expert_parameters(l, r.tp, r.ep)).sum());
        let whole = Bytes(own).times(element);
        let on_node = c.scenario.groups[layout.ranks[ranks[0]].node().group as usize].gpus_per_node;
        let side_by_side = on_node.min(u32::try_from(ep).unwrap_or(u32::MAX));
        list.push(Ring { kind, ranks, members: copies, side_by_side, whole, of: None });
    }
    list.retain(|r| r.members > 1);
    list
}
