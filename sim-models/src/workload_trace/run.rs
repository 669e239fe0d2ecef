//! Runs a job over the links of a scenario.

use std::cell::Cell;

use sim_core::generate::{Fcfs, Flows};
use sim_core::{Digest, RunOptions, SimDuration, SimError, SimTime};
use thiserror::Error;

use super::job::Job;
use super::play::{Clock, Play};
use super::system::{Machine, Rules};
use super::ways::Ways;
use crate::collective::messages::{CollectiveError, Convention};

/// Why a job has no time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunError {
    /// Members of a group call it for different things.
    #[error(
        "process group `{group}`: rank {a} does {does_a} (node {node_a}), where rank {b} does {does_b} (node {node_b})"
    )]
    Disagree {
        /// Name of the group.
        group: String,
        /// The member that came first.
        a: u32,
        /// Its node.
        node_a: u64,
        /// What it does.
        does_a: String,
        /// Another.
        b: u32,
        /// Its node.
        node_b: u64,
        /// What it does.
        does_b: String,
    },
    /// A collective that its algorithm does not do.
    #[error("rank {rank}, node {node}: {error}")]
    Collective {
        /// A member of it.
        rank: u32,
        /// Its node.
        node: u64,
        /// Why not.
        error: CollectiveError,
    },
    /// Ranks wait for each other.
    #[error("rank {rank} waits for ever at node {node} (`{name}`): ranks wait for each other")]
    Stuck {
        /// The first rank that does not end.
        rank: u32,
        /// The first node that it waits at.
        node: u64,
        /// Its name.
        name: String,
    },
    /// The run failed.
    #[error(transparent)]
    Sim(#[from] SimError),
}

/// What became of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankTime {
    /// When its last node ended.
    pub finish: SimDuration,
    /// How long its GPU computed.
    pub compute: SimDuration,
    /// How long it was in a collective or a send.
    pub communication: SimDuration,
}

impl RankTime {
    /// Time in which its GPU did not compute: what ASTRA-sim calls exposed communication.
    pub fn exposed(&self) -> SimDuration {
        SimDuration::from_ps(self.finish.as_ps().saturating_sub(self.compute.as_ps()))
    }
}

/// A node that took a turn, for a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whose.
    pub rank: u32,
    /// 0 on the GPU, 1 on the host, 2 in communication.
    pub row: u32,
    /// Id of the node.
    pub node: u64,
    /// From, picoseconds.
    pub start_ps: u64,
    /// To, picoseconds.
    pub end_ps: u64,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When the last rank ended.
    pub time: SimDuration,
    /// Each rank's times.
    pub ranks: Vec<RankTime>,
    /// Nodes as they ran; empty unless asked for.
    pub spans: Vec<Span>,
    /// Events dispatched.
    pub events: u64,
    /// Over those events.
    pub digest: Digest,
}

/// Runs `job` over `ways` from instant `at` of their capacities; `machines` are the ranks' GPUs, one each.
///
/// # Errors
/// When ranks do not fit together, an algorithm does not do what it is asked, or the run fails.
///
/// # Panics
/// When there are fewer machines or ways than ranks.
pub fn simulate(
    job: &Job,
    rules: &Rules,
    ways: &Ways,
    machines: &[Machine],
    at: SimTime,
    spans: bool,
) -> Result<Outcome, RunError> {
    let clock = Cell::new(0);
    let mut play = Play::new(job, rules, machines, &clock, spans);
    let options = RunOptions { origin: at, ..RunOptions::default() };
    let mut observer = Clock(&clock);
    let ranks = job.ranks();
    let run = match rules.convention {
        Convention::Tideplan => {
            Flows::new(ranks, SimDuration::ZERO).run(&mut play, ways, ways.network(), &options, &mut observer)
        }
        Convention::AstraSim => Fcfs::new(ranks).run(&mut play, ways, ways, &options, &mut observer),
    };
    if let Some(fault) = play.fault.take() {
        return Err(fault);
    }
    let run = run?;
    if let Some((rank, node)) = play.stuck() {
        let graph = &job.graphs[rank as usize];
        let (node, name) = (graph.ids[node as usize], graph.names[node as usize].clone());
        return Err(RunError::Stuck { rank, node, name });
    }
    let time = |ps| SimDuration::from_ps(ps);
    let ranks: Vec<RankTime> = play
        .times()
        .into_iter()
        .map(|(finish, compute, communication)| RankTime {
            finish: time(finish),
            compute: time(compute),
            communication: time(communication),
        })
        .collect();
    Ok(Outcome {
        time: ranks.iter().map(|r| r.finish).max().unwrap_or(SimDuration::ZERO),
        ranks,
        spans: play.spans.take().unwrap_or_default(),
        events: run.events,
        digest: run.digest,
    })
}
