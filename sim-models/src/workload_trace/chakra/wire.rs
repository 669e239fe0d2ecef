//! Chakra's messages as they lie in a file: the fields of MLCommons Chakra's schema that are read, by their numbers.
//!
//! Source: github.com/mlcommons/chakra, `schema/protobuf/et_def.proto` (Apache-2.0). A file is a sequence of messages, each
//! behind its length as a varint: one `GlobalMetadata`, then a `Node` for each node. Other fields are skipped.

use prost::{Message, Oneof};

/// What the trace is.
#[derive(Clone, PartialEq, Message)]
pub struct GlobalMetadata {
    /// Version of the schema.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Anything else.
    #[prost(message, repeated, tag = "2")]
    pub attr: Vec<AttributeProto>,
}

/// A named value.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value; lists are not read.
    #[prost(oneof = "Value", tags = "3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29")]
    pub value: Option<Value>,
}

/// The values that attributes have.
#[derive(Clone, PartialEq, Oneof)]
#[allow(missing_docs, reason = "each is its type")]
pub enum Value {
    #[prost(double, tag = "3")]
    Double(f64),
    #[prost(float, tag = "5")]
    Float(f32),
    #[prost(int32, tag = "7")]
    Int32(i32),
    #[prost(int64, tag = "9")]
    Int64(i64),
    #[prost(uint32, tag = "11")]
    Uint32(u32),
    #[prost(uint64, tag = "13")]
    Uint64(u64),
    #[prost(sint32, tag = "15")]
    Sint32(i32),
    #[prost(sint64, tag = "17")]
    Sint64(i64),
    #[prost(fixed32, tag = "19")]
    Fixed32(u32),
    #[prost(fixed64, tag = "21")]
    Fixed64(u64),
    #[prost(sfixed32, tag = "23")]
    Sfixed32(i32),
    #[prost(sfixed64, tag = "25")]
    Sfixed64(i64),
    #[prost(bool, tag = "27")]
    Bool(bool),
    #[prost(string, tag = "29")]
    String(String),
}

/// A node of the graph.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What it is: a number of `NodeType`.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// Nodes that must be over, for the order.
    #[prost(uint64, repeated, tag = "4")]
    pub ctrl_deps: Vec<u64>,
    /// Nodes that must be over, for their data.
    #[prost(uint64, repeated, tag = "5")]
    pub data_deps: Vec<u64>,
    /// How long it took, microseconds.
    #[prost(uint64, tag = "7")]
    pub duration_micros: u64,
    /// Everything else.
    #[prost(message, repeated, tag = "10")]
    pub attr: Vec<AttributeProto>,
}
