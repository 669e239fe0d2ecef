//! What a search may do, and what things cost.

use super::MOST_SAMPLES;
use crate::fault::At;
use crate::read::{Factor, Int, Name, SomeSize, table};
use sim_models::plan::{Recompute, Schedule};

table! {
    /// What a search may do.
    SearchTable "`[search]`" {
        /// Simulations after which it stops with its best so far.
        max_simulations: optional Int<1, 1_000_000_000_000> = "2000",
        /// Whether layer times go beyond what was measured where something was: between and outside the table's micro-batches and TP. `false` when missing.
        extrapolate: optional bool = "true",
        /// Micro-batch sizes to try; when missing, those that a GPU was measured at, and 1, 2, 4 and 8 where layer times are not limited to measured ones.
        micro_batches: optional Vec<At<Int<1, MOST_SAMPLES>>> = "[1, 2, 4, 8]",
        /// Most stages of a pipeline.
        max_stages: optional Int<1, 64> = "8",
        /// Whether every number of pipelines is tried, from one to as many as fit; when `false` or missing, as many as fit, as keep to a kind's first node groups, and as divide the micro-batches.
        every_number: optional bool = "true",
        /// Orders of the passes to try: `1f1b`, `gpipe`, `zero-bubble`; `1f1b` when missing.
        schedule: optional Vec<At<Schedule>> = "[\"1f1b\", \"zero-bubble\"]",
        /// What backward passes may do again; when missing, nothing unless a pipeline does not fit into memory otherwise.
        recompute: optional Vec<At<Recompute>> = "[\"none\", \"full\"]",
        /// Degrees of context parallelism to try, of those that divide the sequence and, times the TP, a node's GPUs; `[1]` when missing.
        cp: optional Vec<At<Int<1, 65536>>> = "[1, 2, 4]",
        /// Degrees of expert parallelism to try, of those that divide the experts and divide a node's GPUs or are a multiple of them; all such when missing.
        ep: optional Vec<At<Int<1, 65536>>> = "[1, 8]",
        /// What replicas may share out (ZeRO stages); when missing, nothing unless a pipeline does not fit into memory otherwise.
        zero: optional Vec<At<Int<0, 3>>> = "[0, 1]",
        /// Whether norms and dropouts are split over the tensor-parallel ranks: which of both to try; when missing, with ZeRO alone.
        sequence_parallel: optional Vec<At<bool>> = "[true]",
        /// Whether transfers between stages run beside compute: which of both to try; `[false]` when missing.
        overlap_p2p: optional Vec<At<bool>> = "[false, true]",
        /// Whether gradients are sent while the last backward passes run: which of both to try; `[false]` when missing.
        overlap_gradients: optional Vec<At<bool>> = "[false, true]",
        /// Size of the pieces in which they then are; 25 MiB when missing, as PyTorch's DistributedDataParallel has it.
        gradient_bucket: optional SomeSize = "\"25 MiB\"",
    }
}

table! {
    /// Prices in dollars.
    CostTable "`[cost]`" {
        /// Of a node for an hour; 0 where a group is missing.
        nodes: optional Vec<At<NodePriceTable>> = "[{ group = \"a100\", per_hour = 29.38 }]",
        /// Of 10^9 bytes over a link between zones; 0 where a link is missing.
        links: optional Vec<At<LinkPriceTable>> = "[{ link = \"wan\", per_gb = 0.02 }]",
    }
}

table! {
    /// The price of a node.
    NodePriceTable "`[[cost.nodes]]`" {
        /// The node group.
        group: required Name = "\"a100\"",
        /// Dollars for a node for an hour.
        per_hour: required Factor = "29.38",
    }
}

table! {
    /// The price of bytes between zones.
    LinkPriceTable "`[[cost.links]]`" {
        /// The link.
        link: required Name = "\"wan\"",
        /// Dollars for 10^9 bytes.
        per_gb: required Factor = "0.02",
    }
}
