//! SimAI's workload files: what one rank of a uniform plan does in an iteration, layer by layer.
//!
//! ```text
//!   HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 2 ep: 16 pp: 12 vpp: 8 ga: 24 all_gpus: 9216 ... pp_comm 50331648
//!   1789
//!   attention_column  -1  1750840 ALLGATHER 50331648  875420 REDUCESCATTER 0  875420 NONE 0  100
//!   name              -   forward: ns, collective, bytes | input gradient: the same | weight gradient: the same | update, ns
//! ```
//!
//! Every rank does the same at the same time, so the ranks go in lockstep: each different collective is simulated once,
//! message by message and over all its groups side by side, and takes that time wherever it recurs. The order is SimAI's
//! (`astra-sim-alibabacloud/astra-sim/workload/Workload.cc`, `iterate_hybrid_parallel_Transformer_fwd_in_bckwd`): the layers
//! forward, each waiting for its collective; then back, input gradient before weight gradient, whose collectives go on in the
//! background, one after another. Pipeline bubble and transfers are SimAI's closed forms (`Layer.cc`).

use std::collections::BTreeMap;
use std::fmt;

use sim_core::{Digest, SimDuration, SimTime};
use thiserror::Error;

use super::job::{Job, MOST_RANKS, Node, TraceError, Work};
use super::run::{self, RunError};
use super::system::{Machine, Rules};
use super::ways::Ways;
use crate::collective::messages::{Convention, Op};

/// Why a text is no workload.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct SimaiError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right; may be empty.
    pub help: String,
}

/// Why a workload has no time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LockstepError {
    /// Its groups do not fit together.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A collective has no time.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Longer than a simulation can be.
    #[error("the iteration is longer than 213 days")]
    TooLong,
}

/// Who takes part in a collective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The tensor-parallel group: neighbouring ranks.
    Tp,
    /// The data-parallel group of a stage.
    Dp,
    /// The expert-parallel group: neighbours in the data-parallel group.
    Ep,
    /// The ranks of a data-parallel group with the same experts.
    DpEp,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Tp => "tp",
            Scope::Dp => "dp",
            Scope::Ep => "ep",
            Scope::DpEp => "dp_ep",
        })
    }
}

/// A collective as the file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Who.
    pub scope: Scope,
    /// In the order of [`OPS`].
    op: u8,
    /// The whole buffer.
    pub bytes: u64,
}

const OPS: [(&str, Op); 4] = [
    ("ALLREDUCE", Op::AllReduce),
    ("ALLGATHER", Op::AllGather),
    ("REDUCESCATTER", Op::ReduceScatter),
    ("ALLTOALL", Op::AllToAll),
];

impl Call {
    /// What.
    pub fn op(&self) -> Op {
        OPS[self.op as usize % OPS.len()].1
    }
}

/// Compute, then a collective, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pass {
    compute_ns: u64,
    call: Option<Call>,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layer {
    name: String,
    /// Forward, input gradient, weight gradient.
    passes: [Pass; 3],
}

/// A workload file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    tp: u32,
    ep: u32,
    pp: u32,
    vpp: u32,
    ga: u32,
    gpus: u32,
    /// Of one pipeline transfer.
    pp_bytes: u64,
    layers: Vec<Layer>,
}

/// A kind of collective, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Which.
    pub call: Call,
    /// How many ranks a group has.
    pub ranks: u32,
    /// How often it recurs.
    pub times: u64,
    /// One of them.
    pub each: SimDuration,
}

/// What became of an iteration. Every rank's times are these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockstep {
    /// Everything.
    pub time: SimDuration,
    /// Compute of all layers and passes.
    pub compute: SimDuration,
    /// Collectives that compute waits for.
    pub blocking: SimDuration,
    /// Collectives of weight gradients.
    pub background: SimDuration,
    /// What of them was not over when the layers were.
    pub exposed: SimDuration,
    /// Pipeline bubble: a closed form.
    pub bubble: SimDuration,
    /// Pipeline transfers, none of them hidden.
    pub transfers: SimDuration,
    /// The different collectives.
    pub kinds: Vec<Kind>,
    /// Events of their simulations.
    pub events: u64,
    /// Over those simulations, in the order of `kinds`.
    pub digest: Digest,
}

/// Lines that name their numbers.
const HEADER: &str =
    "`HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: T ep: E pp: P vpp: V ga: G all_gpus: N ...`";
const LAYER: &str = "12 columns: name, -, then ns, collective and bytes of forward, input gradient and weight gradient, then update";

fn fault<T>(line: usize, what: impl Into<String>, help: impl Into<String>) -> Result<T, SimaiError> {
    Err(SimaiError { line, what: what.into(), help: help.into() })
}

impl Workload {
    /// Reads a file.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn read(text: &str) -> Result<Workload, SimaiError> {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let Some((_, header)) = lines.next() else { return fault(1, "an empty file", HEADER) };
        let mut workload = Workload::header(header)?;
        let Some((_, count)) = lines.next() else {
            return fault(2, "no number of layers", "as many as lines follow");
        };
        let Ok(count) = count.trim().parse::<u64>() else {
            return fault(2, format!("`{}` is no number of layers", clip(count)), "as many as lines follow");
        };
        for (at, line) in lines {
            if !line.trim().is_empty() {
                workload.layers.push(layer(at, line)?);
            }
        }
        match workload.layers.len() as u64 {
            given if given == count => Ok(workload),
            given => fault(
                2,
                format!("{count} layers are announced, and {given} follow"),
                "as many as lines follow",
            ),
        }
    }

    fn header(line: &str) -> Result<Workload, SimaiError> {
        let mut words = line.split_whitespace();
        let policy = words.next().unwrap_or_default();
        if !matches!(policy, "HYBRID_TRANSFORMER_FWD_IN_BCKWD" | "HYBRID_TRANSFORMER") {
            return fault(1, format!("workloads of policy `{}` are not simulated", clip(policy)), HEADER);
        }
        let words: Vec<&str> = words.collect();
        let number = |key: &str, default: Option<u64>, low: u64, high: u64| -> Result<u64, SimaiError> {
            let at = words.iter().position(|w| w.trim_end_matches(':') == key);
            let Some(at) = at else {
                return default.map_or_else(|| fault(1, format!("the header lacks `{key}`"), HEADER), Ok);
            };
            let word = words.get(at + 1).copied().unwrap_or_default();
            match word.parse::<u64>() {
                Ok(value) if (low..=high).contains(&value) => Ok(value),
                _ => fault(1, format!("`{key}: {}`: a number from {low} to {high}", clip(word)), HEADER),
            }
        };
        let most = MOST_RANKS as u64;
        for key in ["checkpoints", "checkpoint_initiates"] {
            if number(key, Some(0), 0, u64::MAX)? > 0 {
                return fault(
                    1,
                    "recomputation within the backward pass is not simulated",
                    format!("`{key}: 0`"),
                );
            }
        }
        let part = |key| number(key, Some(1), 1, most).map(|v| v as u32);
        let workload = Workload {
            tp: number("model_parallel_NPU_group", None, 1, most)? as u32,
            ep: part("ep")?,
            pp: part("pp")?,
            vpp: part("vpp")?,
            ga: part("ga")?,
            gpus: number("all_gpus", None, 1, most)? as u32,
            pp_bytes: number("pp_comm", Some(0), 0, u64::MAX)?,
            layers: Vec::new(),
        };
        let (tp, ep, pp, gpus) = (
            u64::from(workload.tp),
            u64::from(workload.ep),
            u64::from(workload.pp),
            u64::from(workload.gpus),
        );
        if !gpus.is_multiple_of(tp * pp) || !(gpus / (tp * pp)).is_multiple_of(ep) {
            let what = format!("{gpus} GPUs do not make whole groups of tp {tp}, pp {pp} and ep {ep}");
            return fault(1, what, "all_gpus is a multiple of tp x pp x ep");
        }
        Ok(workload)
    }

    /// GPUs that it is for.
    pub fn gpus(&self) -> u32 {
        self.gpus
    }

    /// One line on its plan.
    pub fn plan(&self) -> String {
        let Workload { tp, ep, pp, vpp, ga, .. } = self;
        format!("tp {tp}, dp {}, ep {ep}, pp {pp}, vpp {vpp}, {ga} micro-batches", self.dp())
    }

    fn dp(&self) -> u32 {
        self.gpus / self.tp / self.pp
    }

    /// Ranks of a group.
    fn size(&self, scope: Scope) -> u32 {
        match scope {
            Scope::Tp => self.tp,
            Scope::Dp => self.dp(),
            Scope::Ep => self.ep,
            Scope::DpEp => self.dp() / self.ep,
        }
    }

    /// The group of a rank, by a number: ranks are ordered tensor-parallel first, then data-parallel, then by stage.
    fn group(&self, scope: Scope, rank: u32) -> u32 {
        let (t, rest) = (rank % self.tp, rank / self.tp);
        let (d, stage) = (rest % self.dp(), rest / self.dp());
        match scope {
            Scope::Tp => rest,
            Scope::Dp => stage * self.tp + t,
            Scope::Ep => (stage * (self.dp() / self.ep) + d / self.ep) * self.tp + t,
            Scope::DpEp => (stage * self.ep + d % self.ep) * self.tp + t,
        }
    }

    /// A collective on every group of its scope at once.
    fn job(&self, call: Call, convention: Convention) -> Result<Job, TraceError> {
        let mut groups: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        // A name of its own for each: the group of all ranks is called 0.
        let name = |rank| format!("g{}", self.group(call.scope, rank));
        for rank in 0..self.gpus {
            groups.entry(name(rank)).or_default().push(rank);
        }
        // The file counts whole buffers.
        let by_rank = call.op() == Op::AllGather && convention == Convention::AstraSim;
        let bytes = if by_rank { call.bytes.div_ceil(u64::from(self.size(call.scope))) } else { call.bytes };
        let node = |rank| Node {
            id: 0,
            name: call.op().to_string(),
            work: Work::Collective { op: call.op(), bytes, group: name(rank) },
            after: Vec::new(),
        };
        Job::new((0..self.gpus).map(|rank| vec![node(rank)]).collect(), &groups)
    }

    /// Every rank of every stage but the last sends to the next stage at once.
    fn transfer(&self) -> Result<Job, TraceError> {
        let stage = self.gpus / self.pp;
        let nodes = |rank: u32| {
            let node = |id, work| Node { id, name: String::new(), work, after: Vec::new() };
            let send = (rank + stage < self.gpus)
                .then(|| node(0, Work::Send { to: rank + stage, bytes: self.pp_bytes, tag: 0 }));
            let receive = (rank >= stage)
                .then(|| node(1, Work::Receive { from: rank - stage, bytes: self.pp_bytes, tag: 0 }));
            send.into_iter().chain(receive).collect()
        };
        Job::new((0..self.gpus).map(nodes).collect(), &BTreeMap::new())
    }

    /// Runs an iteration over `ways` from instant `at` of their capacities.
    ///
    /// # Errors
    /// When a collective has no time, or the iteration is too long.
    pub fn run(&self, rules: &Rules, ways: &Ways, at: SimTime) -> Result<Lockstep, LockstepError> {
        // Nothing is computed in these jobs.
        let machines = vec![Machine { peak: 1.0, memory: 1.0 }; self.gpus as usize];
        let (mut events, mut digest) = (0u64, Digest::EMPTY);
        let mut simulated = |job: Job| -> Result<SimDuration, LockstepError> {
            let outcome = run::simulate(&job, rules, ways, &machines, at, false)?;
            events += outcome.events;
            digest.add_digest(outcome.digest);
            Ok(outcome.time)
        };
        let mut kinds: BTreeMap<Call, Kind> = BTreeMap::new();
        for call in self.layers.iter().flat_map(|l| &l.passes).filter_map(|p| p.call) {
            if self.size(call.scope) > 1 {
                let kind = Kind { call, ranks: self.size(call.scope), times: 0, each: SimDuration::ZERO };
                kinds.entry(call).or_insert(kind).times += 1;
            }
        }
        for (call, kind) in &mut kinds {
            kind.each = simulated(self.job(*call, rules.convention)?)?;
        }
        let transfer =
            if self.pp > 1 && self.pp_bytes > 0 { simulated(self.transfer()?)? } else { SimDuration::ZERO };
        let took = |call: Option<Call>| {
            call.and_then(|c| kinds.get(&c)).map_or(0, |kind| u128::from(kind.each.as_ps()))
        };
        let compute = |pass: &Pass| u128::from(pass.compute_ns) * 1_000;
        // 128 bits: sums of up to 2^20 lines of 64 bits each.
        let (mut now, mut in_background) = (0u128, 0u128);
        let (mut computed, mut blocking, mut background, mut in_stages) = (0u128, 0u128, 0u128, 0u128);
        for Layer { passes: [forward, ..], .. } in &self.layers {
            now += compute(forward) + took(forward.call);
        }
        for Layer { passes: [_, input, weight], .. } in self.layers.iter().rev() {
            now += compute(input) + took(input.call) + compute(weight);
            if weight.call.is_some() {
                in_background = in_background.max(now) + took(weight.call);
            }
        }
        for Layer { name, passes: [forward, input, weight] } in &self.layers {
            let own = compute(forward) + compute(input) + compute(weight);
            let waits = took(forward.call) + took(input.call);
            computed += own;
            blocking += waits;
            background += took(weight.call);
            // The embedding is outside the stages' cycle.
            if name != "embedding_layer" {
                in_stages += own + waits;
            }
        }
        let cycles = u128::from(self.ga) * u128::from(self.vpp);
        let bubble = in_stages * u128::from(self.pp - 1) / cycles;
        let transfers = 2 * cycles * u128::from(transfer.as_ps());
        let exposed = in_background.saturating_sub(now);
        let span = |ps: u128| u64::try_from(ps).map(SimDuration::from_ps).map_err(|_| LockstepError::TooLong);
        Ok(Lockstep {
            time: span(now + exposed + bubble + transfers)?,
            compute: span(computed)?,
            blocking: span(blocking)?,
            background: span(background)?,
            exposed: span(exposed)?,
            bubble: span(bubble)?,
            transfers: span(transfers)?,
            kinds: kinds.into_values().collect(),
            events,
            digest,
        })
    }
}

fn layer(at: usize, line: &str) -> Result<Layer, SimaiError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.len() != 12 {
        return fault(at, format!("{} columns", words.len()), LAYER);
    }
    let number = |column: usize| -> Result<u64, SimaiError> {
        words[column].parse::<u64>().or_else(|_| {
            fault(at, format!("column {}: `{}` is no number", column + 1, clip(words[column])), LAYER)
        })
    };
    let pass = |first: usize, plain: Scope| -> Result<Pass, SimaiError> {
        let (compute_ns, bytes) = (number(first)?, number(first + 2)?);
        let call = call(words[first + 1], plain, bytes).map_err(|what| SimaiError {
            line: at,
            what,
            help: LAYER.into(),
        })?;
        Ok(Pass { compute_ns, call })
    };
    number(11)?;
    Ok(Layer {
        name: words[0].into(),
        passes: [pass(2, Scope::Tp)?, pass(5, Scope::Tp)?, pass(8, Scope::Dp)?],
    })
}

/// `ALLGATHER`, `ALLGATHER_EP`, `ALLGATHER_DP_EP`, ..., or `NONE`; without an ending it is of the pass's own scope.
fn call(word: &str, plain: Scope, bytes: u64) -> Result<Option<Call>, String> {
    if word == "NONE" {
        return Ok(None);
    }
    let (name, scope) = match (word.strip_suffix("_DP_EP"), word.strip_suffix("_EP")) {
        (Some(name), _) => (name, Scope::DpEp),
        (None, Some(name)) => (name, Scope::Ep),
        (None, None) => (word, plain),
    };
    let op = OPS.iter().position(|(text, _)| *text == name);
    let op = op.ok_or_else(|| format!("collectives called `{}` are not simulated", clip(word)))?;
    Ok((bytes > 0).then_some(Call { scope, op: op as u8, bytes }))
}

/// The beginning of a word for a message.
fn clip(word: &str) -> String {
    word.chars().take(40).collect()
}
