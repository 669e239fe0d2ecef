//! A job as a program of message-passing ranks.
//!
//! Each rank starts what it can, lowest id first: one compute node at a time on its GPU, one host node at a time, one
//! communication at a time (a collective, a send, a copy in memory); receives and mere waits need no turn. That is how
//! ASTRA-sim feeds a Chakra trace (`astra-sim/workload/Workload.cc`, `HardwareResource.cc`).
//!
//! The k-th collective that a rank starts on a group belongs with the k-th of every other member. A collective under way has
//! a slot, which its messages carry in the upper 16 bits of their tags; the lower 48 are its algorithm's.

use std::cell::Cell as Shared;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use sim_core::generate::{Message, Outbox, Program};
use sim_core::{Class, Observer, SimDuration, SimTime};

use super::job::{Act, Compute, Graph, Job};
use super::run::{RunError, Span};
use super::system::{Machine, Rules};
use crate::collective::messages::splits::{Algorithm, Cell, Costs, END, SPLIT_BITS, Step};
use crate::collective::messages::{self, Collective, Convention, Op};

const SLOT_BITS: u32 = 48;
const SLOTS: usize = 0xfff0;
/// Slots of messages between two nodes, and of what a rank is woken for.
const CHANNEL: u64 = 0xffff << SLOT_BITS;
const SENT: u64 = 0xfffe << SLOT_BITS;
const COMPUTED: u64 = 0xfffd << SLOT_BITS;
/// The word of the wait behind a split.
const OVER: u32 = u32::MAX - 2;
/// The word of the wait until a split that has begun takes messages.
const OPEN: u32 = u32::MAX - 3;

/// The clock of a run, which programs do not see by themselves.
pub(super) struct Clock<'a>(pub(super) &'a Shared<u64>);

impl Observer for Clock<'_> {
    fn dispatched(&mut self, now: SimTime, _class: Class, _what: u64) {
        self.0.set(now.as_ps());
    }
}

/// Where nodes take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    None = 0,
    Gpu = 1,
    Host = 2,
    Communication = 3,
}

fn turn(act: Act) -> Turn {
    match act {
        Act::Nothing | Act::Receive { .. } => Turn::None,
        Act::Compute(_) => Turn::Gpu,
        Act::Host(_) => Turn::Host,
        Act::Memory(_) | Act::Collective { .. } | Act::Send { .. } => Turn::Communication,
    }
}

/// A rank as it goes.
#[derive(Debug, Default)]
struct Rank {
    /// Nodes that each node still waits for.
    waits: Vec<u32>,
    /// Nodes that could start, by turn.
    ready: [BinaryHeap<Reverse<u32>>; 4],
    /// The node in each turn, and since when; the first is never taken.
    running: [Option<(u32, u64)>; 4],
    done: u32,
    finish: u64,
    compute: u64,
    communication: u64,
}

/// A collective under way.
struct Live {
    algorithm: Box<dyn Algorithm>,
    group: u32,
    number: u32,
    op: Op,
    bytes: u64,
    /// Who brought it up, for messages about those who disagree.
    rank: u32,
    node: u32,
    members: Vec<Member>,
    left: u32,
}

/// A member of one.
#[derive(Debug, Default)]
struct Member {
    /// Its node; none before it has started.
    node: Option<u32>,
    begun: u32,
    /// Splits that take messages: as in ASTRA-sim, a rank listens once its first message has left.
    open: u32,
    over: u32,
    /// Messages of splits that do not take them yet.
    early: Vec<Message>,
}

#[derive(Debug, Default)]
struct Mailbox {
    arrived: u64,
    taken: u64,
    waiting: VecDeque<u32>,
}

#[derive(Debug, Default)]
struct GroupState {
    /// Collectives that each member has started.
    calls: Vec<u32>,
    /// Slots of those under way, by number.
    live: BTreeMap<u32, u16>,
}

/// The program.
pub(super) struct Play<'a> {
    job: &'a Job,
    rules: &'a Rules,
    machines: &'a [Machine],
    clock: &'a Shared<u64>,
    costs: Costs,
    in_flight: u32,
    ranks: Vec<Rank>,
    groups: Vec<GroupState>,
    mailboxes: Vec<Mailbox>,
    live: Vec<Option<Live>>,
    free: Vec<u16>,
    /// Nothing starts any more once there is a fault.
    pub(super) fault: Option<RunError>,
    pub(super) spans: Option<Vec<Span>>,
}

impl<'a> Play<'a> {
    pub(super) fn new(
        job: &'a Job,
        rules: &'a Rules,
        machines: &'a [Machine],
        clock: &'a Shared<u64>,
        spans: bool,
    ) -> Self {
        let ranks = job.graphs.iter().map(|g| Rank { waits: g.waits.clone(), ..Rank::default() });
        let groups =
            job.groups.iter().map(|g| GroupState { calls: vec![0; g.ranks.len()], ..GroupState::default() });
        Self {
            costs: rules.costs(),
            in_flight: match rules.convention {
                Convention::Tideplan => rules.splits,
                Convention::AstraSim => rules.in_flight,
            },
            ranks: ranks.collect(),
            groups: groups.collect(),
            mailboxes: job.channels.iter().map(|_| Mailbox::default()).collect(),
            live: Vec::new(),
            free: Vec::new(),
            fault: None,
            spans: spans.then(Vec::new),
            job,
            rules,
            machines,
            clock,
        }
    }

    /// (finish, compute, communication) of each rank, picoseconds.
    pub(super) fn times(&self) -> Vec<(u64, u64, u64)> {
        self.ranks.iter().map(|r| (r.finish, r.compute, r.communication)).collect()
    }

    /// The first rank with a node that never ended, and that node.
    pub(super) fn stuck(&self) -> Option<(u32, u32)> {
        let rank =
            self.ranks.iter().zip(&self.job.graphs).position(|(r, g)| (r.done as usize) < g.ids.len())?;
        let graph = &self.job.graphs[rank];
        // One that could have: it waits for others ranks alone.
        let node = (0..graph.ids.len() as u32).find(|n| self.ranks[rank].waits[*n as usize] == 0);
        Some((rank as u32, node.unwrap_or(0)))
    }

    fn graph(&self, rank: u32) -> &'a Graph {
        &self.job.graphs[rank as usize]
    }

    /// How long a node computes.
    fn time(&self, rank: u32, compute: &Compute, on_gpu: bool) -> SimDuration {
        let astra = self.rules.convention == Convention::AstraSim;
        match compute.flop {
            Some(flop) if on_gpu && self.rules.roofline => {
                // To ASTRA-sim a node without a tensor is none.
                if astra && compute.bytes == 0 {
                    return SimDuration::ZERO;
                }
                let machine = self.rules.machine.unwrap_or(self.machines[rank as usize]);
                let time = (flop as f64 / machine.peak).max(compute.bytes as f64 / machine.memory);
                self.cut(SimDuration::from_secs_f64(time).unwrap_or(SimDuration::MAX))
            }
            _ => compute.recorded,
        }
    }

    /// Whole nanoseconds, where that is the convention.
    fn cut(&self, time: SimDuration) -> SimDuration {
        match self.rules.convention {
            Convention::AstraSim => SimDuration::from_ps(time.as_ps() / 1_000 * 1_000),
            Convention::Tideplan => time,
        }
    }

    /// Starts all that can start.
    fn settle(&mut self, rank: u32, out: &mut Outbox) {
        while self.fault.is_none() {
            let state = &mut self.ranks[rank as usize];
            let next =
                [Turn::None, Turn::Gpu, Turn::Host, Turn::Communication].into_iter().find_map(|turn| {
                    let free = state.running[turn as usize].is_none();
                    free.then(|| state.ready[turn as usize].pop()).flatten().map(|node| (turn, node.0))
                });
            let Some((turn, node)) = next else { return };
            if turn != Turn::None {
                state.running[turn as usize] = Some((node, self.clock.get()));
            }
            self.start(rank, node, out);
        }
    }

    fn start(&mut self, rank: u32, node: u32, out: &mut Outbox) {
        let wait = |time, out: &mut Outbox| out.wait(time, COMPUTED | u64::from(node));
        match self.graph(rank).acts[node as usize] {
            Act::Nothing => self.end(rank, node),
            Act::Compute(compute) => wait(self.time(rank, &compute, true), out),
            Act::Host(compute) => wait(self.time(rank, &compute, false), out),
            Act::Memory(compute) => {
                let machine = self.rules.machine.unwrap_or(self.machines[rank as usize]);
                let moved = SimDuration::from_secs_f64(compute.bytes as f64 / machine.memory);
                let moved = self.cut(moved.unwrap_or(SimDuration::MAX));
                wait(if compute.recorded == SimDuration::ZERO { moved } else { compute.recorded }, out);
            }
            Act::Send { channel } => {
                let channel_to = self.job.channels[channel as usize];
                out.send(channel_to.to, channel_to.bytes, CHANNEL | u64::from(channel), SimDuration::ZERO);
            }
            Act::Receive { channel } => {
                let mailbox = &mut self.mailboxes[channel as usize];
                if mailbox.arrived > mailbox.taken {
                    mailbox.taken += 1;
                    self.end(rank, node);
                } else {
                    mailbox.waiting.push_back(node);
                }
            }
            Act::Collective { op, bytes, group, member } => {
                if let Err(fault) = self.join(rank, node, (op, bytes), (group, member), out) {
                    self.fault.get_or_insert(fault);
                }
            }
        }
    }

    /// A node is over: its turn is free, and what waited for it may start.
    fn end(&mut self, rank: u32, node: u32) {
        let (now, graph) = (self.clock.get(), self.graph(rank));
        let turn = turn(graph.acts[node as usize]);
        let state = &mut self.ranks[rank as usize];
        if let Some((_, since)) = state.running[turn as usize].take() {
            match turn {
                Turn::Gpu => state.compute += now - since,
                Turn::Communication => state.communication += now - since,
                Turn::None | Turn::Host => {}
            }
            if let Some(spans) = &mut self.spans {
                let row = turn as u32 - 1;
                spans.push(Span { rank, row, node: graph.ids[node as usize], start_ps: since, end_ps: now });
            }
        }
        state.done += 1;
        state.finish = now;
        state.waits[node as usize] = ENDED;
        for &after in graph.after(node) {
            let waits = &mut state.waits[after as usize];
            *waits -= 1;
            if *waits == 0 {
                state.ready[self::turn(graph.acts[after as usize]) as usize].push(Reverse(after));
            }
        }
    }

    /// A rank starts a collective.
    fn join(
        &mut self,
        rank: u32,
        node: u32,
        (op, bytes): (Op, u64),
        (group, member): (u32, u32),
        out: &mut Outbox,
    ) -> Result<(), RunError> {
        let members = self.job.groups[group as usize].ranks.len() as u32;
        let state = &mut self.groups[group as usize];
        let number = state.calls[member as usize];
        state.calls[member as usize] += 1;
        if members == 1 {
            self.end(rank, node);
            return Ok(());
        }
        let slot = match state.live.get(&number) {
            Some(slot) => *slot,
            None => self.bring_up(rank, node, (op, bytes), (group, number))?,
        };
        let Some(live) = &mut self.live[slot as usize] else { return Ok(()) };
        if (live.op, live.bytes) != (op, bytes) {
            return Err(RunError::Disagree {
                group: self.job.groups[group as usize].name.clone(),
                a: live.rank,
                node_a: self.job.graphs[live.rank as usize].ids[live.node as usize],
                does_a: format!("{} of {} bytes", live.op, live.bytes),
                b: rank,
                node_b: self.job.graphs[rank as usize].ids[node as usize],
                does_b: format!("{op} of {bytes} bytes"),
            });
        }
        live.members[member as usize].node = Some(node);
        for _ in 0..self.in_flight.min(self.rules.splits) {
            self.begin_split(slot, member, rank, out);
        }
        Ok(())
    }

    /// A slot for the `number`th collective of a group.
    fn bring_up(
        &mut self,
        rank: u32,
        node: u32,
        (op, bytes): (Op, u64),
        (group, number): (u32, u32),
    ) -> Result<u16, RunError> {
        let members = self.job.groups[group as usize].ranks.len() as u32;
        let collective = Collective {
            op,
            algorithm: self.rules.algorithm(op),
            fabric: messages::Fabric::Switch,
            convention: self.rules.convention,
            ranks: members,
            bytes,
            bandwidth: sim_core::Rate::MAX,
            latency: SimDuration::ZERO,
            splits: self.rules.splits,
        };
        let refused = |error| RunError::Collective {
            rank,
            node: self.job.graphs[rank as usize].ids[node as usize],
            error,
        };
        let mut algorithm = collective.algorithm_among(self.in_flight).map_err(refused)?;
        algorithm.resize(members as usize * self.rules.splits as usize);
        let live = Live {
            algorithm,
            group,
            op,
            bytes,
            number,
            rank,
            node,
            members: (0..members).map(|_| Member::default()).collect(),
            left: members,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            // Each has a rank in it that does nothing else, and there are fewer ranks than slots.
            None => {
                self.live.push(None);
                (self.live.len() - 1).min(SLOTS) as u16
            }
        };
        self.live[slot as usize] = Some(live);
        self.groups[group as usize].live.insert(number, slot);
        Ok(slot)
    }

    fn begin_split(&mut self, slot: u16, member: u32, rank: u32, out: &mut Outbox) {
        let Some(live) = &mut self.live[slot as usize] else { return };
        let state = &mut live.members[member as usize];
        let split = state.begun;
        state.begun += 1;
        self.step(slot, member, split, out, |algorithm, at, step| algorithm.begin(at, step));
        if self.costs.endpoint_ns == 0 {
            self.open(slot, member, rank, split, out);
        } else {
            let wait = SimDuration::from_ps(self.costs.endpoint_ns.saturating_mul(1_000));
            out.wait(wait, tag(slot, OPEN, split));
        }
    }

    /// A split takes messages from now on, those that are there already first.
    fn open(&mut self, slot: u16, member: u32, rank: u32, split: u32, out: &mut Outbox) {
        let Some(live) = &mut self.live[slot as usize] else { return };
        let state = &mut live.members[member as usize];
        state.open = state.open.max(split + 1);
        let early = std::mem::take(&mut state.early);
        let (now, later) = early.into_iter().partition(|m| split_of(m.tag) == split);
        state.early = later;
        let now: Vec<Message> = now;
        for message in now {
            self.take(slot, member, message, out);
        }
        debug_assert_eq!(self.job.groups[self.group_of(slot)].ranks[member as usize], rank);
    }

    fn group_of(&self, slot: u16) -> usize {
        self.live[slot as usize].as_ref().map_or(0, |live| live.group as usize)
    }

    fn take(&mut self, slot: u16, member: u32, message: Message, out: &mut Outbox) {
        self.step(slot, member, split_of(message.tag), out, |algorithm, at, step| {
            algorithm.received(at, message.from, word_of(message.tag), step);
        });
    }

    /// Lets the algorithm act for a member in one split.
    fn step(
        &mut self,
        slot: u16,
        member: u32,
        split: u32,
        out: &mut Outbox,
        act: impl FnOnce(&mut dyn Algorithm, Cell, &mut Step<'_>),
    ) {
        let Some(live) = &mut self.live[slot as usize] else { return };
        let index = member as usize * self.rules.splits as usize + split as usize;
        let members = &self.job.groups[live.group as usize].ranks;
        let mark = u64::from(slot) << SLOT_BITS;
        let mut step = Step { out, costs: self.costs, split, members, mark, done: false };
        act(&mut *live.algorithm, Cell { rank: member, split, index }, &mut step);
        if step.done {
            step.wait(self.costs.split_ns, OVER);
        }
    }

    /// A member is done with a split.
    fn over(&mut self, slot: u16, member: u32, rank: u32, out: &mut Outbox) {
        let Some(live) = &mut self.live[slot as usize] else { return };
        let state = &mut live.members[member as usize];
        state.over += 1;
        if state.begun < self.rules.splits {
            return self.begin_split(slot, member, rank, out);
        }
        if state.over < self.rules.splits {
            return;
        }
        let node = state.node;
        live.left -= 1;
        if live.left == 0 {
            self.groups[live.group as usize].live.remove(&live.number);
            self.live[slot as usize] = None;
            self.free.push(slot);
        }
        if let Some(node) = node {
            self.end(rank, node);
            self.settle(rank, out);
        }
    }
}

/// What stands for the nodes that an ended node waits for.
const ENDED: u32 = u32::MAX;

fn tag(slot: u16, word: u32, split: u32) -> u64 {
    (u64::from(slot) << SLOT_BITS) | (u64::from(word) << SPLIT_BITS) | u64::from(split)
}

fn split_of(tag: u64) -> u32 {
    (tag & ((1 << SPLIT_BITS) - 1)) as u32
}

fn word_of(tag: u64) -> u32 {
    (tag >> SPLIT_BITS) as u32
}

impl Program for Play<'_> {
    fn begin(&mut self, rank: u32, out: &mut Outbox) {
        let graph = self.graph(rank);
        let state = &mut self.ranks[rank as usize];
        for (act, node) in graph.acts.iter().zip(0u32..) {
            if graph.waits[node as usize] == 0 {
                state.ready[turn(*act) as usize].push(Reverse(node));
            }
        }
        self.settle(rank, out);
    }

    fn received(&mut self, rank: u32, message: Message, out: &mut Outbox) {
        let slot = message.tag >> SLOT_BITS;
        if slot == CHANNEL >> SLOT_BITS {
            out.wake(message.from, SENT);
            let mailbox = &mut self.mailboxes[(message.tag & u64::from(u32::MAX)) as usize];
            mailbox.arrived += 1;
            if let Some(node) = mailbox.waiting.pop_front() {
                mailbox.taken += 1;
                self.end(rank, node);
                self.settle(rank, out);
            }
            return;
        }
        let slot = slot as u16;
        let Some(member) = self.job.groups[self.group_of(slot)].member(rank) else { return };
        let Some(live) = &mut self.live[slot as usize] else { return };
        let state = &mut live.members[member as usize];
        if split_of(message.tag) < state.open {
            self.take(slot, member, message, out);
        } else {
            state.early.push(message);
        }
    }

    fn woke(&mut self, rank: u32, tag: u64, out: &mut Outbox) {
        let slot = tag >> SLOT_BITS;
        if slot == COMPUTED >> SLOT_BITS {
            self.end(rank, (tag & u64::from(u32::MAX)) as u32);
            return self.settle(rank, out);
        }
        let communicates = self.ranks[rank as usize].running[Turn::Communication as usize];
        let Some((node, _)) = communicates else { return };
        if slot == SENT >> SLOT_BITS {
            self.end(rank, node);
            return self.settle(rank, out);
        }
        let Act::Collective { member, .. } = self.graph(rank).acts[node as usize] else { return };
        let (slot, split) = (slot as u16, split_of(tag));
        match word_of(tag) {
            OPEN => self.open(slot, member, rank, split, out),
            OVER => self.over(slot, member, rank, out),
            END => self.step(slot, member, split, out, |_, _, step| step.done = true),
            word => {
                self.step(slot, member, split, out, |algorithm, at, step| algorithm.woke(at, word, step));
            }
        }
    }
}
