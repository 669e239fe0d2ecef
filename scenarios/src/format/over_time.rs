//! What changes under way: traces, background load, events; and how a replay goes through it.

use crate::fault::At;
use crate::read::{AnyRate, Factor, Int, LongTime, Name, SomeRate, Time, choice, table};
use sim_models::plan::DeviceRange;
use sim_models::replay::Forecast;

/// What a trace is after its last point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It starts again.
    Wrap,
    /// Its last value stays.
    Hold,
}
choice!(Forecast { "last" => Forecast::Last, "average" => Forecast::Average, "ar1" => Forecast::Ar1 });
choice!(Mode { "wrap" => Mode::Wrap, "hold" => Mode::Hold });

table! {
    /// A link or a node group over time, from a CSV file with the columns `time_s`, `link` (`node_group`, `node`, `gpu`) and a value.
    TraceTable "`[[traces]]`" {
        /// The link whose capacity it is: one between zones, or a leaf's uplinks.
        link: optional Name = "\"wan\"",
        /// The node group that it is of, in place of `link`: which of its nodes are there, how slow they are, what their NICs carry.
        nodes: optional Name = "\"a100\"",
        /// CSV file, relative to this file.
        file: optional String = "\"wan.csv\"",
        /// A shipped trace, in place of `file`.
        builtin: optional Name = "\"zhejiang-leaf-9-53\"",
        /// After the last point: `wrap` (the default) or `hold`.
        mode: optional Mode = "\"wrap\"",
        /// Column of the values: of a link `bandwidth_bps` (when missing) or any other, `load_bps` being what others take of its capacity; of nodes `available` (when missing), `up`, `slowdown`, `bandwidth_bps` or `load_bps`.
        column: optional Name = "\"bandwidth_bps\"",
        /// Unit of the values: a unit of rate, or `capacity` for multiples of the link's; `bps` when missing. Of `available`: `nodes` (when missing) or `gpus`.
        unit: optional Name = "\"bps\"",
        /// Factor on the values; 1 when missing.
        scale: optional Factor = "0.5",
        /// Rows whose `link` is this; when missing, the link's own name, or the only one in the file.
        select: optional Name = "\"wan\"",
    }
}

table! {
    /// Load on a link, on the link between two zones, or on the NICs of nodes: a rate, or a CSV file over time. Each way has as much.
    BackgroundTable "`[[background]]`" {
        /// The link: one between zones, or a leaf's uplinks.
        link: optional Name = "\"wan\"",
        /// Two zones, in place of `link`: the link between them.
        between: optional Vec<At<Name>> = "[\"zone-a\", \"zone-b\"]",
        /// Nodes, in place of `link`: the NIC of each of them.
        nodes: optional DeviceRange = "\"a100:0-3\"",
        /// What is sent.
        rate: optional SomeRate = "\"2 Gbps\"",
        /// From when on, on the clock of the traces; only with `rate`.
        from: optional LongTime = "\"10 s\"",
        /// Until when; only with `rate`.
        until: optional LongTime = "\"20 s\"",
        /// CSV file, relative to this file, in place of `rate`.
        file: optional String = "\"load.csv\"",
        /// A shipped trace, in place of `file`.
        builtin: optional Name = "\"zhejiang-leaf-9-53\"",
        /// After the last point: `wrap` (the default) or `hold`.
        mode: optional Mode = "\"wrap\"",
        /// Column of the values: `load_bps` (when missing) or any other, `share` being the part of the capacity that is left.
        column: optional Name = "\"load_bps\"",
        /// Unit of the values: a unit of rate, or `capacity` for multiples of the link's; `bps` when missing.
        unit: optional Name = "\"bps\"",
        /// Factor on the load; 1 when missing.
        scale: optional Factor = "0.5",
        /// Rows whose `link` is this; when missing, the link's own name, or the only one in the file.
        select: optional Name = "\"wan\"",
    }
}

table! {
    /// Something that happens: to a link, to nodes, to GPUs, to a zone, or to the network.
    EventTable "`[[events]]`" {
        /// Instant, on the clock of the traces.
        at: required LongTime = "\"10 s\"",
        /// Until when; when missing, until the next event of the same link (or network), or for ever.
        until: optional LongTime = "\"20 s\"",
        /// The link that `capacity`, `latency` or `down` is of.
        link: optional Name = "\"wan\"",
        /// Capacity of the link from then on; `0 bps` is an outage.
        capacity: optional AnyRate = "\"1 Gbps\"",
        /// Latency of the link from then on.
        latency: optional Time = "\"30 ms\"",
        /// Nodes that `down` or `slowdown` is of: a group and a range in it.
        nodes: optional DeviceRange = "\"a100:0-3\"",
        /// GPUs that `slowdown` is of.
        gpus: optional DeviceRange = "\"a100:5\"",
        /// Zone that is cut off: no link of it carries anything.
        zone: optional Name = "\"us-west1-b\"",
        /// Configuration of the network that is switched to: one of `[[network.configurations]]`.
        network: optional Name = "\"night\"",
        /// Whether the link, the nodes or the zone are down.
        down: optional bool = "true",
        /// How many times slower the nodes or GPUs compute.
        slowdown: optional Factor = "1.5",
    }
}

table! {
    /// How a replay goes.
    ReplayTable "`[replay]`" {
        /// The first part of the traces, which has passed when the replay begins: all that `mean` and `robust` see.
        history: optional LongTime = "\"1 h\"",
        /// History from another trace, with a `link` column and `bandwidth_bps`, in place of a part of the scenario's.
        history_file: optional String = "\"last-week.csv\"",
        /// Instant of the traces at which it ends; when missing, where they end.
        until: optional LongTime = "\"1 d\"",
        /// Grid of the oracle, and the shortest time between two decisions; 60 s when missing.
        decide_every: optional LongTime = "\"60 s\"",
        /// Fixed part of a switch from one plan to another; 5 s when missing.
        switch_cost: optional LongTime = "\"5 s\"",
        /// Whether the state moves while the old plan goes on; `false` when missing.
        switch_overlap: optional bool = "false",
        /// Between two checkpoints; when missing, the best interval where nodes come and go, else none are taken.
        checkpoint_every: optional LongTime = "\"10 min\"",
        /// Zone of the storage that checkpoints go to; when missing, it is behind each node's NIC.
        checkpoint_zone: optional Name = "\"us-central1-a\"",
        /// Reactive: by what fraction another plan must be faster; 0.05 when missing.
        threshold: optional Factor = "0.05",
        /// Reactive: at how many decisions in a row; 2 when missing.
        hysteresis: optional Int<1, 1_000_000> = "2",
        /// Periodic: between two decisions; 600 s when missing.
        period: optional LongTime = "\"600 s\"",
        /// Forecast: `last`, `average` (when missing) or `ar1`.
        forecast: optional Forecast = "\"average\"",
        /// What a forecast looks back on, and the windows that robust looks at; 300 s when missing.
        window: optional LongTime = "\"300 s\"",
        /// Most states that a policy searches for plans in, each zone by itself not counted; 12 when missing, 0 for the scenario's own plan alone.
        max_plans: optional Int<0, 1_000> = "12",
        /// Simulations of each search; 200 when missing.
        simulations: optional Int<1, 1_000_000_000> = "200",
        /// Whether iterations vary as measured steps do; `false` when missing.
        jitter: optional bool = "true",
    }
}
