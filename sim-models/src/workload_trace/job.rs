//! A job: for each rank a graph of what it computes and sends, checked so that it can be played.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sim_core::SimDuration;
use thiserror::Error;

use crate::collective::messages::Op;

/// Why a trace is not a job.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TraceError {
    /// Not the bytes of a trace.
    #[error("rank {rank}: {what} at byte {at}")]
    Bytes {
        /// Whose trace.
        rank: u32,
        /// Where the message begins that cannot be read.
        at: usize,
        /// What is wrong.
        what: String,
    },
    /// Two nodes of a rank have one id.
    #[error("rank {rank}: two nodes have the id {id}")]
    Duplicate {
        /// Whose trace.
        rank: u32,
        /// The id.
        id: u64,
    },
    /// A node depends on one that is not there.
    #[error("rank {rank}: node {id} (`{name}`) depends on node {on}, which the trace does not have")]
    Dangling {
        /// Whose trace.
        rank: u32,
        /// The node.
        id: u64,
        /// Its name.
        name: String,
        /// What it depends on.
        on: u64,
    },
    /// Nodes wait for each other.
    #[error("rank {rank}: node {id} (`{name}`) waits for itself, through what it depends on")]
    Cycle {
        /// Whose trace.
        rank: u32,
        /// The first node that can never start.
        id: u64,
        /// Its name.
        name: String,
    },
    /// A node that cannot be run.
    #[error("rank {rank}: node {id} (`{name}`): {what}")]
    Node {
        /// Whose trace.
        rank: u32,
        /// The node.
        id: u64,
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The process groups are at fault.
    #[error("process group `{group}`: {what}")]
    Group {
        /// Its name.
        group: String,
        /// What is wrong.
        what: String,
    },
    /// Messages without a sender or a receiver.
    #[error(
        "rank {from} sends {sent} messages of {bytes} bytes with tag {tag} to rank {to}, which receives {received}"
    )]
    Unmatched {
        /// Sender.
        from: u32,
        /// Receiver.
        to: u32,
        /// Tag.
        tag: u64,
        /// Size of each.
        bytes: u64,
        /// Send nodes.
        sent: u64,
        /// Receive nodes.
        received: u64,
    },
    /// The members of a group do not call it equally often.
    #[error("process group `{group}`: rank {a} has {calls_a} collectives on it, and rank {b} has {calls_b}")]
    Uneven {
        /// Name of the group.
        group: String,
        /// One member.
        a: u32,
        /// Its collectives.
        calls_a: u32,
        /// Another.
        b: u32,
        /// Its collectives.
        calls_b: u32,
    },
    /// Not so many ranks.
    #[error("{given} ranks: 1 to {MOST_RANKS} are simulated")]
    Ranks {
        /// How many.
        given: usize,
    },
}

/// Most ranks of a job: a collective under way is named in 16 bits, and there are never more of them than ranks.
pub(super) const MOST_RANKS: usize = 65_000;
/// The group of all ranks.
pub(super) const EVERYBODY: &str = "";

/// What a compute node costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compute {
    /// Floating-point operations, where the trace counts them.
    pub flop: Option<u64>,
    /// Bytes that it moves.
    pub bytes: u64,
    /// How long it took where the trace was recorded; zero when the trace does not say.
    pub recorded: SimDuration,
}

/// What a node does, as a trace says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Only waits.
    Nothing,
    /// Computes, one node at a time on a GPU.
    Compute(Compute),
    /// Runs on the host, one node at a time.
    Host(Compute),
    /// Moves bytes of the GPU's memory, in line with the communication.
    Memory(Compute),
    /// Takes part in a collective, one communication at a time.
    Collective {
        /// Which.
        op: Op,
        /// Bytes, as the convention counts them.
        bytes: u64,
        /// Name of the process group.
        group: String,
    },
    /// Sends; over when the message has arrived.
    Send {
        /// To whom.
        to: u32,
        /// Size.
        bytes: u64,
        /// Messages of one tag, size and pair are received in the order in which they were sent.
        tag: u64,
    },
    /// Waits for a message.
    Receive {
        /// From whom.
        from: u32,
        /// Size.
        bytes: u64,
        /// Tag.
        tag: u64,
    },
}

/// A node of a rank's graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number, alone in its rank; among nodes that could start, the lowest starts first.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// Ids of the nodes that must be over before.
    pub after: Vec<u64>,
}

/// What a node does, by number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Nothing,
    Compute(Compute),
    Host(Compute),
    Memory(Compute),
    Collective { op: Op, bytes: u64, group: u32, member: u32 },
    Send { channel: u32 },
    Receive { channel: u32 },
}

/// The graph of a rank: nodes by rising id.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) ids: Vec<u64>,
    pub(super) names: Vec<String>,
    pub(super) acts: Vec<Act>,
    /// How many nodes each waits for.
    pub(super) waits: Vec<u32>,
    first: Vec<u32>,
    next: Vec<u32>,
}

impl Graph {
    /// The nodes that wait for `node`.
    pub(super) fn after(&self, node: u32) -> &[u32] {
        let (a, b) = (self.first[node as usize], self.first[node as usize + 1]);
        &self.next[a as usize..b as usize]
    }
}

/// Ranks that do collectives together, in the order of the ring.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) ranks: Vec<u32>,
    /// (rank, place in `ranks`), sorted.
    places: Vec<(u32, u32)>,
}

impl Group {
    /// The place of a rank.
    pub(super) fn member(&self, rank: u32) -> Option<u32> {
        self.places.binary_search_by_key(&rank, |p| p.0).ok().map(|at| self.places[at].1)
    }
}

/// Messages of one pair, tag and size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) to: u32,
    pub(super) bytes: u64,
}

/// What every rank does, ready to be played.
#[derive(Clone, Debug)]
pub struct Job {
    pub(super) graphs: Vec<Graph>,
    pub(super) groups: Vec<Group>,
    pub(super) channels: Vec<Channel>,
}

/// (sender, receiver, tag, bytes) -> (number, sent, received).
type Pairs = BTreeMap<(u32, u32, u64, u64), (u32, u64, u64)>;

impl Job {
    /// The job of these nodes, a list for each rank, and these process groups by name. The group of all ranks, `` (also called
    /// `0`), is there without saying.
    ///
    /// # Errors
    /// The first fault found: see [`TraceError`].
    pub fn new(ranks: Vec<Vec<Node>>, groups: &BTreeMap<String, Vec<u32>>) -> Result<Job, TraceError> {
        let count = ranks.len();
        if count == 0 || count > MOST_RANKS {
            return Err(TraceError::Ranks { given: count });
        }
        let everybody: Vec<u32> = (0..count as u32).collect();
        let mut list = vec![group(EVERYBODY, &everybody, count)?];
        let mut names: BTreeMap<&str, u32> = BTreeMap::from([(EVERYBODY, 0), ("0", 0)]);
        for (name, ranks) in groups {
            names.insert(name, list.len() as u32);
            list.push(group(name, ranks, count)?);
        }
        let (mut pairs, mut channels) = (Pairs::new(), Vec::new());
        let mut calls: Vec<Vec<u32>> = list.iter().map(|g| vec![0; g.ranks.len()]).collect();
        let mut graphs = Vec::with_capacity(count);
        for (rank, mut nodes) in ranks.into_iter().enumerate() {
            nodes.sort_by_key(|n| n.id);
            let rank = rank as u32;
            let mut acts = Vec::with_capacity(nodes.len());
            for node in &nodes {
                let fault =
                    |what: String| TraceError::Node { rank, id: node.id, name: node.name.clone(), what };
                acts.push(match &node.work {
                    Work::Nothing => Act::Nothing,
                    Work::Compute(c) => Act::Compute(*c),
                    Work::Host(c) => Act::Host(*c),
                    Work::Memory(c) => Act::Memory(*c),
                    Work::Collective { op, bytes, group } => {
                        let number = *names
                            .get(group.as_str())
                            .ok_or_else(|| fault(format!("there is no process group `{group}`")))?;
                        let member = list[number as usize].member(rank).ok_or_else(|| {
                            fault(format!("the rank is not in the process group `{group}`"))
                        })?;
                        calls[number as usize][member as usize] += 1;
                        Act::Collective { op: *op, bytes: *bytes, group: number, member }
                    }
                    Work::Send { to, bytes, tag } => {
                        peer(*to, rank, count).map_err(fault)?;
                        let pair = pair(&mut pairs, &mut channels, (rank, *to, *tag, *bytes));
                        pair.1 += 1;
                        Act::Send { channel: pair.0 }
                    }
                    Work::Receive { from, bytes, tag } => {
                        peer(*from, rank, count).map_err(fault)?;
                        let pair = pair(&mut pairs, &mut channels, (*from, rank, *tag, *bytes));
                        pair.2 += 1;
                        Act::Receive { channel: pair.0 }
                    }
                });
            }
            graphs.push(graph(rank, nodes, acts)?);
        }
        for (&(from, to, tag, bytes), &(_, sent, received)) in &pairs {
            if sent != received {
                return Err(TraceError::Unmatched { from, to, tag, bytes, sent, received });
            }
        }
        for (group, calls) in list.iter().zip(&calls) {
            if let Some(other) = calls.iter().position(|c| *c != calls[0]) {
                return Err(TraceError::Uneven {
                    group: group.name.clone(),
                    a: group.ranks[0],
                    calls_a: calls[0],
                    b: group.ranks[other],
                    calls_b: calls[other],
                });
            }
        }
        Ok(Job { graphs, groups: list, channels })
    }

    /// How many ranks it has.
    pub fn ranks(&self) -> u32 {
        self.graphs.len() as u32
    }

    /// The name of a node, by its id; empty when there is none.
    pub fn name(&self, rank: u32, id: u64) -> &str {
        let graph = self.graphs.get(rank as usize);
        graph.and_then(|g| g.ids.binary_search(&id).ok().map(|at| g.names[at].as_str())).unwrap_or_default()
    }

    /// How many nodes all ranks have together.
    pub fn nodes(&self) -> u64 {
        self.graphs.iter().map(|g| g.ids.len() as u64).sum()
    }
}

fn peer(other: u32, rank: u32, count: usize) -> Result<(), String> {
    if other == rank {
        Err("a message from a rank to itself".into())
    } else if other as usize >= count {
        Err(format!("a message with rank {other}, and there are {count} traces"))
    } else {
        Ok(())
    }
}

fn pair<'a>(
    pairs: &'a mut Pairs,
    channels: &mut Vec<Channel>,
    key: (u32, u32, u64, u64),
) -> &'a mut (u32, u64, u64) {
    match pairs.entry(key) {
        Entry::Occupied(there) => there.into_mut(),
        Entry::Vacant(free) => {
            let number = channels.len() as u32;
            channels.push(Channel { to: key.1, bytes: key.3 });
            free.insert((number, 0, 0))
        }
    }
}

fn group(name: &str, ranks: &[u32], count: usize) -> Result<Group, TraceError> {
    let fault = |what: String| Err(TraceError::Group { group: name.into(), what });
    let mut places: Vec<(u32, u32)> = ranks.iter().zip(0..).map(|(r, at)| (*r, at)).collect();
    places.sort_unstable();
    if places.is_empty() {
        return fault("it has no ranks".into());
    }
    if let Some(twice) = places.windows(2).find(|w| w[0].0 == w[1].0) {
        return fault(format!("rank {} is in it twice", twice[0].0));
    }
    if let Some((rank, _)) = places.last().filter(|p| p.0 as usize >= count) {
        return fault(format!("rank {rank} is in it, and there are {count} traces"));
    }
    Ok(Group { name: name.into(), ranks: ranks.to_vec(), places })
}

/// The graph of `nodes`, sorted by id.
fn graph(rank: u32, nodes: Vec<Node>, acts: Vec<Act>) -> Result<Graph, TraceError> {
    let ids: Vec<u64> = nodes.iter().map(|n| n.id).collect();
    if let Some(twice) = ids.windows(2).find(|w| w[0] == w[1]) {
        return Err(TraceError::Duplicate { rank, id: twice[0] });
    }
    let mut waits = vec![0u32; nodes.len()];
    let mut arrows = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let mut after = node.after.clone();
        after.sort_unstable();
        after.dedup();
        for on in after {
            let before = ids.binary_search(&on).map_err(|_| TraceError::Dangling {
                rank,
                id: node.id,
                name: node.name.clone(),
                on,
            })?;
            waits[at] += 1;
            arrows.push((before as u32, at as u32));
        }
    }
    arrows.sort_unstable();
    let mut first = vec![0u32; nodes.len() + 1];
    for (before, _) in &arrows {
        first[*before as usize + 1] += 1;
    }
    for at in 0..nodes.len() {
        first[at + 1] += first[at];
    }
    let next = arrows.into_iter().map(|a| a.1).collect();
    let names = nodes.into_iter().map(|n| n.name).collect();
    let graph = Graph { ids, names, acts, waits, first, next };
    match first_never(&graph) {
        Some(at) => Err(TraceError::Cycle { rank, id: graph.ids[at], name: graph.names[at].clone() }),
        None => Ok(graph),
    }
}

/// The first node that waits for itself, through others.
fn first_never(graph: &Graph) -> Option<usize> {
    let mut waits = graph.waits.clone();
    let mut free: Vec<u32> = (0..waits.len() as u32).filter(|n| waits[*n as usize] == 0).collect();
    while let Some(node) = free.pop() {
        for &after in graph.after(node) {
            waits[after as usize] -= 1;
            if waits[after as usize] == 0 {
                free.push(after);
            }
        }
    }
    waits.iter().position(|w| *w > 0)
}
