//! Collectives as messages between ranks: what each rank sends when, on two conventions of what a link does with it.
//!
//! A collective is a program of the kernel's generated sources: no message is stored before it is sent, and ranks that are
//! alike are simulated once. The convention decides how bytes are counted, how splits follow each other, and what a message
//! costs; `programs` holds the algorithms, `topology` the links.

mod programs;
pub(crate) mod splits;
pub(crate) mod topology;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use sim_core::generate::{Fcfs, Flows, Program, Refusal, Symmetry};
use sim_core::{
    CapacityProfile, Digest, Network, NetworkBuilder, NoObserver, Rate, RunOptions, SimDuration, SimError,
};
use thiserror::Error;

use programs::{Direct, DoubleBinaryTree, HalvingDoubling, Ring};
use splits::{Costs, Splits};
use topology::{Links, WholeNanoseconds};

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// Every name there is.
            pub const NAMES: &'static [&'static str] = &[$($text),*];
        }

        impl FromStr for $name {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(UnknownName { given: text.to_owned(), known: Self::NAMES }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),* })
            }
        }
    };
}

/// A name that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown name `{given}`: one of {known:?}")]
pub struct UnknownName {
    /// What was given.
    pub given: String,
    /// What there is.
    pub known: &'static [&'static str],
}

names! {
    /// What the ranks do together.
    Op {
        /// Every rank ends with the sum of all buffers.
        AllReduce = "all_reduce",
        /// Every rank ends with the parts of all.
        AllGather = "all_gather",
        /// Every rank ends with its part of the sum.
        ReduceScatter = "reduce_scatter",
        /// Every rank sends a block of its own to every other.
        AllToAll = "all_to_all",
    }
}

names! {
    /// How they do it.
    Algorithm {
        /// Each rank sends to its neighbour.
        Ring = "ring",
        /// Each rank sends to every other at once.
        Direct = "direct",
        /// Pairs exchange halves, quarters, and so on; ranks are a power of two.
        HalvingDoubling = "halving_doubling",
        /// Up and down two complementary trees; all-reduce alone; ranks are a power of two.
        DoubleBinaryTree = "double_binary_tree",
    }
}

names! {
    /// What connects them.
    Fabric {
        /// A link each way between neighbours; others are reached around the shorter side.
        Ring = "ring",
        /// A link up to and a link down from one switch for each rank.
        Switch = "switch",
        /// A link from each rank to each other.
        Full = "full",
    }
}

names! {
    /// How bytes are counted and what a message costs.
    Convention {
        /// The whole buffer as in nccl-tests; splits in flight together; cut-through; max-min fair shares.
        Tideplan = "tideplan",
        /// That of the ASTRA-sim simulator with its congestion-aware analytical network: splits one after another; a
        /// message holds one link at a time, first come first served, a switch being two hops; 10 ns endpoint delay a message and
        /// once more a split; a reduction costs 3 x floor(bytes / 1600) ns; an all-gather counts bytes per rank; a ring
        /// all-to-all forwards all remaining blocks one by one; times are cut to whole nanoseconds.
        AstraSim = "astra-sim",
    }
}

/// One collective operation.
#[derive(Clone, Copy, Debug)]
pub struct Collective {
    /// What.
    pub op: Op,
    /// How.
    pub algorithm: Algorithm,
    /// Over what.
    pub fabric: Fabric,
    /// On which convention.
    pub convention: Convention,
    /// Ranks, 1 to 65,536 (4,096 on [`Fabric::Full`]).
    pub ranks: u32,
    /// Bytes, counted as the convention says.
    pub bytes: u64,
    /// Each link's capacity.
    pub bandwidth: Rate,
    /// Each link's latency.
    pub latency: SimDuration,
    /// Into how many parts the buffer is cut, 1 to 65,535; times ranks at most 2^26.
    pub splits: u32,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CollectiveOutcome {
    /// From the first rank's begin to the last rank's end.
    pub time: SimDuration,
    /// Events dispatched; of one rank when folded.
    pub events: u64,
    /// Over those events.
    pub digest: Digest,
    /// Whether one rank was simulated for all.
    pub folded: bool,
    /// Why not, when folding was asked for.
    pub unfolded_because: Option<NotFolded>,
}

/// Why the ranks of a collective are not folded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotFolded {
    /// The ranks of a tree have different parts.
    #[error("not folded: the ranks of a tree have different parts")]
    Roles,
    /// The links are not alike.
    #[error(transparent)]
    Links(#[from] Refusal),
}

/// Why a collective has no time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CollectiveError {
    /// The algorithm does not do this operation.
    #[error("`{algorithm}` does no `{op}`")]
    Unsupported {
        /// The operation.
        op: Op,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The algorithm needs a power of two.
    #[error("`{algorithm}` needs a power of two of ranks: `{ranks}` is none")]
    PowerOfTwo {
        /// The algorithm.
        algorithm: Algorithm,
        /// The ranks.
        ranks: u32,
    },
    /// A number outside its range.
    #[error("{what} lies in {low} to {high}: `{given}`")]
    Range {
        /// Which number.
        what: &'static str,
        /// The least.
        low: u64,
        /// The most.
        high: u64,
        /// What was given.
        given: u64,
    },
    /// More messages under way at once than memory is set aside for.
    #[error("{messages} messages would be under way at once: at most {most}")]
    TooMany {
        /// Messages.
        messages: u64,
        /// The most.
        most: u64,
    },
    /// The run failed.
    #[error(transparent)]
    Sim(#[from] SimError),
}

/// Most splits; they share a 64-bit tag with the step.
const MOST_SPLITS: u32 = 65_535;
/// Most messages under way at once: 1 GB at 60 bytes each when they are stored and forwarded, 1.7 GB at 400 when they share.
const MOST_STORED: u64 = 1 << 24;
const MOST_SHARING: u64 = 1 << 22;

impl Collective {
    /// Runs it; folded when `fold` and the ranks are alike.
    ///
    /// # Errors
    /// When a number is out of range, the algorithm does not do the operation on this number of ranks, or the run fails.
    pub fn run(&self, fold: bool) -> Result<CollectiveOutcome, CollectiveError> {
        self.check()?;
        match self.algorithm {
            Algorithm::Ring => self.run_program(Ring::new(self), Some(Symmetry::Rotation), fold),
            Algorithm::Direct => self.run_program(Direct::new(self), Some(Symmetry::Rotation), fold),
            Algorithm::HalvingDoubling => {
                self.run_program(HalvingDoubling::new(self), Some(Symmetry::Exchange), fold)
            }
            Algorithm::DoubleBinaryTree => self.run_program(DoubleBinaryTree::new(self), None, fold),
        }
    }

    /// Its algorithm, for a program that runs many collectives, `in_flight` splits of each at once.
    pub(crate) fn algorithm_among(
        &self,
        in_flight: u32,
    ) -> Result<Box<dyn splits::Algorithm>, CollectiveError> {
        self.check()?;
        self.check_messages(u64::from(self.ranks), u64::from(in_flight))?;
        Ok(match self.algorithm {
            Algorithm::Ring => Box::new(Ring::new(self)),
            Algorithm::Direct => Box::new(Direct::new(self)),
            Algorithm::HalvingDoubling => Box::new(HalvingDoubling::new(self)),
            Algorithm::DoubleBinaryTree => Box::new(DoubleBinaryTree::new(self)),
        })
    }

    fn check(&self) -> Result<(), CollectiveError> {
        let range = |what, low, high, given| {
            if (low..=high).contains(&given) {
                Ok(())
            } else {
                Err(CollectiveError::Range { what, low, high, given })
            }
        };
        let most = if self.fabric == Fabric::Full { 4_096 } else { 65_536 };
        range("ranks", 1, most, u64::from(self.ranks))?;
        range("splits", 1, u64::from(MOST_SPLITS), u64::from(self.splits))?;
        // Each rank keeps a counter for each split.
        range("ranks times splits", 1, 1 << 26, u64::from(self.ranks) * u64::from(self.splits))?;
        range("bandwidth, in 2^-16 B/s,", 1, u64::MAX, self.bandwidth.raw())?;
        let (op, algorithm) = (self.op, self.algorithm);
        let done = match algorithm {
            Algorithm::Ring | Algorithm::Direct => true,
            Algorithm::HalvingDoubling => op != Op::AllToAll,
            Algorithm::DoubleBinaryTree => op == Op::AllReduce,
        };
        if !done {
            return Err(CollectiveError::Unsupported { op, algorithm });
        }
        let any = matches!(algorithm, Algorithm::Ring | Algorithm::Direct);
        if !any && !self.ranks.is_power_of_two() {
            return Err(CollectiveError::PowerOfTwo { algorithm, ranks: self.ranks });
        }
        Ok(())
    }

    /// Refuses what would not fit in memory.
    fn check_room(&self, folded: bool) -> Result<(), CollectiveError> {
        let ranks = if folded { 1 } else { u64::from(self.ranks) };
        let splits = if self.convention == Convention::Tideplan { u64::from(self.splits) } else { 1 };
        self.check_messages(ranks, splits)
    }

    fn check_messages(&self, ranks: u64, splits: u64) -> Result<(), CollectiveError> {
        let each = if self.algorithm == Algorithm::Direct { u64::from(self.ranks) - 1 } else { 1 };
        let most = if self.convention == Convention::Tideplan { MOST_SHARING } else { MOST_STORED };
        match ranks * each * splits {
            messages if messages > most => Err(CollectiveError::TooMany { messages, most }),
            _ => Ok(()),
        }
    }

    fn run_program<P: splits::Algorithm>(
        &self,
        algorithm: P,
        symmetry: Option<Symmetry>,
        fold: bool,
    ) -> Result<CollectiveOutcome, CollectiveError> {
        let links = Links::new(self.fabric, self.ranks);
        let (costs, together) = match self.convention {
            Convention::Tideplan => (Costs::NONE, true),
            Convention::AstraSim => (Costs::ASTRA_SIM, false),
        };
        let program = Splits::new(algorithm, self.ranks, self.splits, together, costs);
        match self.convention {
            Convention::Tideplan => self.run_flows(program, links, symmetry, fold),
            Convention::AstraSim => self.run_fcfs(program, links, symmetry, fold),
        }
    }

    fn run_flows(
        &self,
        mut program: impl Program,
        links: Links,
        symmetry: Option<Symmetry>,
        fold: bool,
    ) -> Result<CollectiveOutcome, CollectiveError> {
        let net = self.network(&links);
        let (world, why) = match (fold, symmetry) {
            (true, None) => (None, Some(NotFolded::Roles)),
            (true, Some(s)) => match Flows::folded(self.ranks, self.latency, s, &links, &net) {
                Ok(world) => (Some(world), None),
                Err(refusal) => (None, Some(NotFolded::Links(refusal))),
            },
            (false, _) => (None, None),
        };
        let folded = world.is_some();
        self.check_room(folded)?;
        let mut world = world.unwrap_or_else(|| Flows::new(self.ranks, self.latency));
        let run = world.run(&mut program, &links, &net, &RunOptions::default(), &mut NoObserver)?;
        Ok(outcome(run, folded, why))
    }

    fn run_fcfs(
        &self,
        mut program: impl Program,
        links: Links,
        symmetry: Option<Symmetry>,
        fold: bool,
    ) -> Result<CollectiveOutcome, CollectiveError> {
        let times = WholeNanoseconds::new(self.bandwidth, self.latency);
        let (world, why) = match (fold, symmetry) {
            (true, None) => (None, Some(NotFolded::Roles)),
            (true, Some(s)) => match Fcfs::folded(self.ranks, s, &links, &times) {
                Ok(world) => (Some(world), None),
                Err(refusal) => (None, Some(NotFolded::Links(refusal))),
            },
            (false, _) => (None, None),
        };
        let folded = world.is_some();
        self.check_room(folded)?;
        let mut world = world.unwrap_or_else(|| Fcfs::new(self.ranks));
        // On a ring a message between ranks that are no neighbours takes links of others.
        if self.fabric != Fabric::Ring || self.algorithm == Algorithm::Ring {
            world = world.ordered();
        }
        let run = world.run(&mut program, &links, &times, &RunOptions::default(), &mut NoObserver)?;
        Ok(outcome(run, folded, why))
    }

    fn network(&self, links: &Links) -> Network {
        let mut net = NetworkBuilder::new();
        let profile = CapacityProfile::constant(self.bandwidth);
        for _ in 0..sim_core::generate::Route::links(links) {
            net.resource(profile.clone());
        }
        net.build()
    }

    /// Bytes of one split as the convention counts them: of the whole buffer, or of one rank's part of an all-gather.
    fn split_bytes(&self) -> u64 {
        self.bytes.div_ceil(u64::from(self.splits))
    }

    /// Bytes of one rank's part of a split.
    fn part_bytes(&self) -> u64 {
        if self.op == Op::AllGather && self.convention == Convention::AstraSim {
            self.split_bytes()
        } else {
            self.split_bytes().div_ceil(u64::from(self.ranks))
        }
    }
}

fn outcome(run: sim_core::Outcome, folded: bool, unfolded_because: Option<NotFolded>) -> CollectiveOutcome {
    CollectiveOutcome {
        time: SimDuration::from_ps(run.end.as_ps()),
        events: run.events,
        digest: run.digest,
        folded,
        unfolded_because,
    }
}
