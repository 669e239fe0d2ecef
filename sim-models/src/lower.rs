//! From a plan laid out to a task graph.
//!
//! ```text
//!   stage 0   F0 f0 F1 f1 F2 [f2 b0] B0 ...        F, B: passes, a chain on the rank's compute stream
//!   stage 1      F0 [f1 ..] B0 [b0 f2] ...         f, b: transfers over the links; blocking, so the next pass of
//!                                                  sender and receiver waits for them (overlapped: only the consumer)
//!   then      gradient all-reduce of each group of layers that several ranks hold, once all of them are done
//!   then      the optimizer step of each rank
//! ```
//!
//! A blocking transfer starts when the sender has its data and the receiver has nothing before it: a rendezvous, as with
//! NCCL's send and receive on the compute stream. Where one stage both sends and receives between two passes, as 1F1B
//! does, the two transfers run side by side.
//!
//! Task ids are laid out so that reports find them without labels: passes by rank and position, then transfers by
//! pipeline, boundary, direction and micro-batch, then synchronisations, then optimizer steps.

use crate::fold::{Class, Folding};
use crate::layout::{Layout, Rank, SyncGroup};
use crate::link::LinkModel;
use crate::plan::Plan;
use crate::scenario::{NodeId, Scenario};
use crate::schedule::Pass;
use crate::units::Bytes;
use sim_core::{
    GraphBuilder, GraphError, Network, NetworkBuilder, Rate, ResourceId, SimDuration, StreamId, TaskGraph,
    TaskId, Transfer,
};

/// The resources of a scenario's network: a NIC each way for every node, and each way of every zone link.
#[derive(Clone, Debug)]
pub struct Fabric {
    /// The network, for the executor.
    pub network: Network,
    /// Number of the first node of each group, over all nodes.
    first_node: Vec<u32>,
    nodes: u32,
}

impl Fabric {
    /// The fabric of `scenario`.
    pub fn new(scenario: &Scenario) -> Fabric {
        let mut builder = NetworkBuilder::new();
        let (mut first_node, mut nodes) = (Vec::new(), 0u32);
        for group in &scenario.groups {
            first_node.push(nodes);
            nodes += group.nodes;
            for _ in 0..group.nodes {
                builder.resource(group.nic.clone());
                builder.resource(group.nic.clone());
            }
        }
        for link in &scenario.zone_links {
            builder.resource(link.capacity.clone());
            builder.resource(link.capacity.clone());
        }
        Fabric { network: builder.build(), first_node, nodes }
    }

    fn node(&self, node: NodeId) -> u32 {
        self.first_node[node.group as usize] + node.index
    }

    /// The NIC of a node, outward.
    pub fn egress(&self, node: NodeId) -> ResourceId {
        ResourceId(2 * self.node(node))
    }

    /// The NIC of a node, inward.
    pub fn ingress(&self, node: NodeId) -> ResourceId {
        ResourceId(2 * self.node(node) + 1)
    }

    /// A zone link (index into [`Scenario::zone_links`]), from its first zone to its second or back.
    pub fn zone(&self, link: usize, forward: bool) -> ResourceId {
        ResourceId(2 * (self.nodes + link as u32) + u32::from(!forward))
    }
}

/// A transfer between two stages of a pipeline, or part of a ring.
struct Route {
    uses: Vec<(ResourceId, u32)>,
    latency: SimDuration,
    /// Highest rate of this one transfer, bytes/s.
    cap: f64,
}

/// Which task is which: see the head of this file.
#[derive(Clone, Debug, Default)]
pub struct TaskMap {
    /// First pass of each simulated rank, in the order of [`Folding::classes`] and their stages.
    pub passes: Vec<RankTasks>,
    /// Transfers between stages, first of each boundary: forward ones, then as many backward ones.
    pub boundaries: Vec<BoundaryTasks>,
    /// Synchronisations.
    pub syncs: Vec<SyncTask>,
    /// Optimizer step of each simulated rank.
    pub updates: Vec<TaskId>,
}

/// The passes of one rank.
#[derive(Clone, Copy, Debug)]
pub struct RankTasks {
    /// The rank, an index into [`Layout::ranks`].
    pub rank: usize,
    /// Task of its first pass; the others follow in order.
    pub first: u32,
    /// How many: twice the micro-batches.
    pub count: u32,
}

/// The transfers between one rank and the next of its pipeline.
#[derive(Clone, Copy, Debug)]
pub struct BoundaryTasks {
    /// Index into [`TaskMap::passes`] of the earlier stage; the later one is the next.
    pub stage: usize,
    /// Task of the first forward transfer.
    pub first: u32,
    /// Micro-batches; there are as many backward transfers after the forward ones.
    pub count: u32,
}

/// One synchronisation of gradients.
#[derive(Clone, Debug)]
pub struct SyncTask {
    /// Its task.
    pub task: TaskId,
    /// Bytes that each member sends.
    pub bytes: Bytes,
    /// Simulated ranks that take part, as indices into [`TaskMap::passes`].
    pub members: Vec<usize>,
    /// Which layers, first and last.
    pub layers: (u32, u32),
}

/// Turns plans into task graphs, in the same memory.
#[derive(Debug, Default)]
pub struct Lowering {
    builder: GraphBuilder,
    /// The graph of the last plan.
    pub graph: TaskGraph,
    /// Its tasks.
    pub map: TaskMap,
}

impl Lowering {
    /// No memory yet.
    pub fn new() -> Lowering {
        Lowering::default()
    }

    /// Lowers `plan` into `self.graph` and `self.map`.
    ///
    /// # Errors
    /// When the graph is larger than 32-bit indices reach.
    pub fn lower(
        &mut self,
        scenario: &Scenario,
        fabric: &Fabric,
        plan: &Plan,
        layout: &Layout,
        folding: &Folding,
    ) -> Result<(), GraphError> {
        self.builder.clear();
        self.map = TaskMap::default();
        let context = Context { scenario, fabric, plan, layout, folding };
        self.passes(&context);
        self.transfers(&context);
        self.synchronise(&context);
        self.builder.build_into(&mut self.graph)
    }

    fn passes(&mut self, c: &Context<'_>) {
        for class in &c.folding.classes {
            let pipeline = &c.layout.pipelines[class.pipeline];
            for r in pipeline.stages.clone() {
                let rank = &c.layout.ranks[r];
                let (stages, n) = (pipeline.stages.len() as u32, pipeline.micro_batches);
                let stream = [self.builder.stream()];
                let first = self.builder.len() as u32;
                for at in 0..2 * n {
                    let time = match c.plan.schedule.pass(at, rank.stage, stages, n) {
                        Pass::Forward(_) => rank.cost.forward,
                        Pass::Backward(_) => rank.cost.backward,
                    };
                    self.builder.delay(time, &stream, &[]);
                }
                self.map.passes.push(RankTasks { rank: r, first, count: 2 * n });
            }
        }
    }

    fn transfers(&mut self, c: &Context<'_>) {
        let bytes = c
            .scenario
            .model
            .boundary_bytes(c.scenario.training.precision)
            .times(u64::from(c.plan.micro_batch));
        let mut stage = 0;
        for class in &c.folding.classes {
            let pipeline = &c.layout.pipelines[class.pipeline];
            let (stages, n) = (pipeline.stages.len() as u32, pipeline.micro_batches);
            for s in 0..stages - 1 {
                let (a, b) = (self.map.passes[stage], self.map.passes[stage + 1]);
                let (down, up) =
                    (c.route(class, a.rank, b.rank, bytes), c.route(class, b.rank, a.rank, bytes));
                let first = self.builder.len() as u32;
                self.map.boundaries.push(BoundaryTasks { stage, first, count: n });
                let position = |pass, stage| c.plan.schedule.position(pass, stage, stages, n);
                let stream = self.builder.stream();
                for i in 0..n {
                    let (from, to) = (position(Pass::Forward(i), s), position(Pass::Forward(i), s + 1));
                    self.transfer(c.plan.overlap_p2p, &down, bytes, stream, (a, from), (b, to));
                }
                let stream = self.builder.stream();
                for i in 0..n {
                    let (from, to) = (position(Pass::Backward(i), s + 1), position(Pass::Backward(i), s));
                    self.transfer(c.plan.overlap_p2p, &up, bytes, stream, (b, from), (a, to));
                }
                stage += 1;
            }
            stage += 1;
        }
    }

    /// One transfer, from pass `from` of one rank to pass `to` of another.
    fn transfer(
        &mut self,
        overlap: bool,
        route: &Route,
        bytes: Bytes,
        stream: StreamId,
        (sender, from): (RankTasks, u32),
        (receiver, to): (RankTasks, u32),
    ) {
        let pass = |rank: RankTasks, at: u32| TaskId(rank.first + at);
        let mut deps = vec![pass(sender, from)];
        if !overlap && to > 0 {
            deps.push(pass(receiver, to - 1));
        }
        let task = self.builder.transfer(route.transfer(bytes), &[stream], &deps);
        self.builder.depend(pass(receiver, to), task);
        if !overlap && from + 1 < sender.count {
            self.builder.depend(pass(sender, from + 1), task);
        }
    }

    fn synchronise(&mut self, c: &Context<'_>) {
        let model = &c.scenario.model;
        let element = c.scenario.training.precision.activation_bytes();
        let mut simulated = vec![None; c.layout.ranks.len()];
        for (i, tasks) in self.map.passes.iter().enumerate() {
            simulated[tasks.rank] = Some(i);
        }
        // What each simulated rank waits for before its optimizer step.
        let mut last: Vec<TaskId> = self.map.passes.iter().map(|t| TaskId(t.first + t.count - 1)).collect();
        let streams: Vec<StreamId> = last.iter().map(|_| self.builder.stream()).collect();
        let mut add =
            |this: &mut Self, ranks: &[usize], layers: (u32, u32), whole: Bytes, of: Option<&Class>| {
                let members: Vec<usize> = ranks.iter().filter_map(|r| simulated[*r]).collect();
                let deps: Vec<TaskId> = members.iter().map(|m| last[*m]).collect();
                let (route, bytes) = c.ring(ranks, whole, of);
                let on: Vec<StreamId> = members.iter().map(|m| streams[*m]).collect();
                let task = this.builder.transfer(route.transfer(bytes), &on, &deps);
                for m in &members {
                    last[*m] = task;
                }
                this.map.syncs.push(SyncTask { task, bytes, members, layers });
            };
        for SyncGroup { layers, ranks } in &c.layout.syncs {
            let whole = |r: &usize| {
                let tp = c.layout.ranks[*r].tp;
                layers.iter().map(|l| model.parameters(l, tp)).sum::<u64>() * u64::from(tp)
            };
            let parameters = ranks.iter().map(whole).max().unwrap_or(0);
            add(self, ranks, (layers.first, layers.last), Bytes(parameters).times(element), None);
        }
        if model.tied_embeddings {
            // The head's copy of the embedding is kept equal to the first stage's.
            for class in &c.folding.classes {
                let stages = c.layout.pipelines[class.pipeline].stages.clone();
                if stages.len() > 1 {
                    let ends = [stages.start, stages.end - 1];
                    let tp = ends.iter().map(|r| c.layout.ranks[*r].tp).max().unwrap_or(1);
                    let whole = Bytes(model.padded_vocab(tp) * model.hidden).times(element);
                    add(self, &ends, (0, model.layers() - 1), whole, Some(class));
                }
            }
        }
        for (i, tasks) in self.map.passes.iter().enumerate() {
            let time = c.layout.ranks[tasks.rank].cost.update;
            let task = self.builder.delay(time, &[], &[last[i]]);
            self.map.updates.push(task);
        }
    }
}

impl Route {
    fn transfer(&self, bytes: Bytes) -> Transfer<'_> {
        let cap = Rate::from_bytes_per_s(self.cap).unwrap_or(Rate::MAX);
        Transfer { bytes: bytes.0, latency: self.latency, cap, uses: &self.uses }
    }
}

struct Context<'a> {
    scenario: &'a Scenario,
    fabric: &'a Fabric,
    plan: &'a Plan,
    layout: &'a Layout,
    folding: &'a Folding,
}

impl Context<'_> {
    /// The model of the link between two ranks.
    fn link(&self, a: &Rank, b: &Rank) -> &LinkModel {
        if a.node == b.node {
            &self.scenario.groups[a.node.group as usize].inside
        } else {
            &self.scenario.node_links[a.node.group as usize][b.node.group as usize]
        }
    }

    /// The zone link between two nodes: its resource in this direction, and its latency.
    fn zone(&self, a: NodeId, b: NodeId) -> Option<(ResourceId, SimDuration)> {
        let (from, to) =
            (&self.scenario.groups[a.group as usize].zone, &self.scenario.groups[b.group as usize].zone);
        if from == to {
            return None;
        }
        let (i, link) = self.scenario.zone_link(from, to)?;
        Some((self.fabric.zone(i, link.zones.0 == *from), link.latency))
    }

    /// A boundary transfer: the activation is cut over the tensor-parallel ranks of the narrower side (as Megatron-LM's
    /// scatter-gather and DeepSpeed's partitioned activations do), so its bytes cross the NIC once.
    fn route(&self, class: &Class, from: usize, to: usize, bytes: Bytes) -> Route {
        let (a, b) = (&self.layout.ranks[from], &self.layout.ranks[to]);
        let link = self.link(a, b);
        let cap = link.transfer_rate(bytes, a.tp.min(b.tp));
        let mut route = Route { uses: Vec::new(), latency: link.latency(), cap };
        if a.node != b.node {
            let share = |r: &Rank| class.shares[r.stage as usize];
            route.uses.push((self.fabric.egress(self.folding.canonical(a.node)), share(a)));
            route.uses.push((self.fabric.ingress(self.folding.canonical(b.node)), share(b)));
            if let Some((zone, latency)) = self.zone(a.node, b.node) {
                route.uses.push((zone, class.count));
                route.latency = route.latency.saturating_add(latency);
            }
        }
        route
    }

    /// A ring all-reduce over `ranks` in their order: every hop carries 2 (n - 1) / n of the bytes at once, so the ring
    /// goes at the pace of its slowest hop of the moment; 2 (n - 1) steps each pay the longest latency. A ring over all
    /// pipelines is one task; a ring inside a pipeline stands for those of its whole class, `of`.
    fn ring(&self, ranks: &[usize], whole: Bytes, of: Option<&Class>) -> (Route, Bytes) {
        let n = ranks.len() as u64;
        let sent = u128::from(whole.0) * 2 * u128::from(n - 1) / u128::from(n);
        let sent = Bytes(u64::try_from(sent).unwrap_or(u64::MAX));
        let chunk = Bytes((whole.0 / n).max(1));
        let mut route = Route { uses: Vec::new(), latency: SimDuration::ZERO, cap: f64::INFINITY };
        let mut longest = SimDuration::ZERO;
        // The node whose resources a rank's hop uses, and how often; none where another node stands for it.
        let place = |r: &Rank| {
            let canonical = self.folding.canonical(r.node);
            match of {
                Some(class) => Some((canonical, class.shares[r.stage as usize])),
                None => (canonical == r.node).then_some((canonical, 1)),
            }
        };
        for (i, from) in ranks.iter().enumerate() {
            let (a, b) = (&self.layout.ranks[*from], &self.layout.ranks[ranks[(i + 1) % ranks.len()]]);
            let link = self.link(a, b);
            let rate = link.transfer_rate(chunk, a.tp.min(b.tp));
            route.cap = if rate < route.cap { rate } else { route.cap };
            let mut latency = link.latency();
            if a.node != b.node {
                route.uses.extend(place(a).map(|(node, weight)| (self.fabric.egress(node), weight)));
                route.uses.extend(place(b).map(|(node, weight)| (self.fabric.ingress(node), weight)));
                if let Some((zone, zone_latency)) = self.zone(a.node, b.node) {
                    route.uses.push((zone, of.map_or(1, |class| class.count)));
                    latency = latency.saturating_add(zone_latency);
                }
            }
            longest = longest.max(latency);
        }
        let steps = 2 * (n - 1);
        route.latency = SimDuration::from_ps(longest.as_ps().saturating_mul(steps));
        (route, sent)
    }
}
