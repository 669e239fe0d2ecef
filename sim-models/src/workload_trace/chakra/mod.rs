//! Chakra execution traces: a file of nodes for each rank, and the process groups.

pub mod wire;

use std::collections::BTreeMap;

use prost::Message;
use sim_core::SimDuration;

use self::wire::{GlobalMetadata, Value};
use super::job::{Compute, Job, Node, TraceError, Work};
use crate::collective::messages::Op;

/// Numbers of Chakra's `NodeType`.
const METADATA: i32 = 1;
const MEM_LOAD: i32 = 2;
const MEM_STORE: i32 = 3;
const COMP: i32 = 4;
const COMM_SEND: i32 = 5;
const COMM_RECV: i32 = 6;
const COMM_COLL: i32 = 7;

/// The job of these traces, one a rank, and of the process groups of `groups` (ASTRA-sim's JSON: name -> ranks), if any.
///
/// # Errors
/// When bytes are not a trace, a graph cannot be run, or ranks do not fit together.
pub fn read(traces: &[Vec<u8>], groups: Option<&str>) -> Result<Job, TraceError> {
    let groups = groups.map_or_else(|| Ok(BTreeMap::new()), process_groups)?;
    let ranks = traces.iter().zip(0..).map(|(bytes, rank)| nodes(bytes, rank)).collect::<Result<_, _>>()?;
    Job::new(ranks, &groups)
}

fn process_groups(text: &str) -> Result<BTreeMap<String, Vec<u32>>, TraceError> {
    serde_json::from_str(text).map_err(|e| TraceError::Group {
        group: "(all)".into(),
        what: format!("not an object of lists of ranks: {e}"),
    })
}

/// The nodes of one file.
fn nodes(bytes: &[u8], rank: u32) -> Result<Vec<Node>, TraceError> {
    let mut rest = bytes;
    let mut nodes = Vec::new();
    let mut metadata = true;
    while !rest.is_empty() || metadata {
        let at = bytes.len() - rest.len();
        let fault = |e: prost::DecodeError| TraceError::Bytes {
            rank,
            at,
            what: format!("no Chakra {}: {e}", if metadata { "metadata" } else { "node" }),
        };
        if metadata {
            GlobalMetadata::decode_length_delimited(&mut rest).map_err(fault)?;
            metadata = false;
        } else {
            nodes.push(node(&wire::Node::decode_length_delimited(&mut rest).map_err(fault)?, rank)?);
        }
    }
    Ok(nodes)
}

/// The attributes of a node.
struct Attributes<'a> {
    rank: u32,
    node: &'a wire::Node,
}

impl Attributes<'_> {
    fn fault(&self, what: impl Into<String>) -> TraceError {
        let (rank, id, name) = (self.rank, self.node.id, self.node.name.clone());
        TraceError::Node { rank, id, name, what: what.into() }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.node.attr.iter().find(|a| a.name == name).and_then(|a| a.value.as_ref())
    }

    /// A whole number, in whichever integer type it was written.
    fn number(&self, name: &str) -> Result<Option<u64>, TraceError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = match value {
            Value::Int32(v) | Value::Sint32(v) | Value::Sfixed32(v) => i128::from(*v),
            Value::Int64(v) | Value::Sint64(v) | Value::Sfixed64(v) => i128::from(*v),
            Value::Uint32(v) | Value::Fixed32(v) => i128::from(*v),
            Value::Uint64(v) | Value::Fixed64(v) => i128::from(*v),
            Value::Bool(v) => i128::from(*v),
            Value::Double(_) | Value::Float(_) | Value::String(_) => {
                return Err(self.fault(format!("`{name}` is no whole number")));
            }
        };
        u64::try_from(number).map(Some).map_err(|_| self.fault(format!("`{name}` is negative: {number}")))
    }

    fn needed(&self, name: &str) -> Result<u64, TraceError> {
        self.number(name)?.ok_or_else(|| self.fault(format!("it lacks `{name}`")))
    }

    fn rank(&self, name: &str, default: Option<u32>) -> Result<u32, TraceError> {
        let number = match (self.number(name)?, default) {
            (Some(number), _) => number,
            (None, Some(rank)) => u64::from(rank),
            (None, None) => self.needed(name)?,
        };
        u32::try_from(number).map_err(|_| self.fault(format!("`{name}` is no rank: {number}")))
    }

    fn compute(&self) -> Result<Compute, TraceError> {
        let recorded = u64::checked_mul(self.node.duration_micros, 1_000_000)
            .ok_or_else(|| self.fault(format!("it took {} us: too long", self.node.duration_micros)))?;
        Ok(Compute {
            flop: self.number("num_ops")?,
            bytes: self.number("tensor_size")?.unwrap_or(0),
            recorded: SimDuration::from_ps(recorded),
        })
    }

    fn group(&self) -> Result<String, TraceError> {
        match self.value("pg_name") {
            Some(Value::String(name)) => Ok(name.clone()),
            Some(_) => Ok(self.needed("pg_name")?.to_string()),
            None => Ok(String::new()),
        }
    }

    /// Numbers of Chakra's `CollectiveCommType`.
    fn op(&self) -> Result<Op, TraceError> {
        Ok(match self.needed("comm_type")? {
            0 => Op::AllReduce,
            2 => Op::AllGather,
            6 => Op::AllToAll,
            7 | 8 => Op::ReduceScatter,
            other => {
                let name = match other {
                    1 => "reduce",
                    3 => "gather",
                    4 => "scatter",
                    5 => "broadcast",
                    9 => "barrier",
                    _ => "unknown",
                };
                return Err(self.fault(format!("collectives of type {other} ({name}) are not simulated")));
            }
        })
    }
}

fn node(node: &wire::Node, rank: u32) -> Result<Node, TraceError> {
    let a = Attributes { rank, node };
    let host = a.number("is_cpu_op")?.unwrap_or(0) != 0;
    let work = match node.kind {
        // ASTRA-sim takes nodes without a type for mere waits, too.
        0 | METADATA => Work::Nothing,
        COMP if host => Work::Host(a.compute()?),
        COMP => Work::Compute(a.compute()?),
        MEM_LOAD | MEM_STORE => Work::Memory(a.compute()?),
        COMM_SEND => {
            if a.rank("comm_src", Some(rank))? != rank {
                return Err(a.fault("a send of another rank"));
            }
            let tag = a.number("comm_tag")?.unwrap_or(0);
            Work::Send { to: a.rank("comm_dst", None)?, bytes: a.needed("comm_size")?, tag }
        }
        COMM_RECV => {
            if a.rank("comm_dst", Some(rank))? != rank {
                return Err(a.fault("a receive of another rank"));
            }
            let tag = a.number("comm_tag")?.unwrap_or(0);
            Work::Receive { from: a.rank("comm_src", None)?, bytes: a.needed("comm_size")?, tag }
        }
        COMM_COLL => Work::Collective { op: a.op()?, bytes: a.needed("comm_size")?, group: a.group()? },
        other => return Err(a.fault(format!("nodes of type {other} are not simulated"))),
    };
    let after = node.ctrl_deps.iter().chain(&node.data_deps).copied().collect();
    Ok(Node { id: node.id, name: node.name.clone(), work, after })
}
