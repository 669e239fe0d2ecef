//! Nodes, their GPUs, and what connects them.

use super::MOST_GPUS;
use crate::fault::At;
use crate::read::{AnyRate, Factor, Int, Name, SomeRate, SomeSize, Time, choice, table};

/// Where the rate between nodes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curves {
    /// The shipped fitted curves.
    Sailor,
}
choice!(Curves { "sailor" => Curves::Sailor });

table! {
    /// A group of alike nodes in one zone.
    NodesTable "`[[nodes]]`" {
        /// Name, by which plans call the devices: `a100:0-15`.
        name: required Name = "\"a100\"",
        /// How many nodes.
        count: required Int<1, MOST_GPUS> = "4",
        /// GPUs of a node.
        gpus_per_node: required Int<1, 1024> = "4",
        /// GPU, by a name that the catalogue or `[[gpus]]` knows.
        gpu: required Name = "\"A100-40\"",
        /// Zone, by which links call it; `default` when missing.
        zone: optional Name = "\"us-central1-a\"",
        /// NIC of a node, each way; when missing, the `rate` of `[network]`, or the best of the shipped curves between two such nodes.
        nic: optional SomeRate = "\"100 Gbps\"",
        /// How many cards `nic` is: a GPU sends through those next to it, so that one of eight GPUs has an eighth, and collectives reach what NCCL leaves of them. When missing, a GPU uses all of `nic`, and rates are what transfers reach.
        nics: optional Int<1, 1024> = "8",
        /// Rate of one transfer between GPUs of a node; when missing, the shipped curve of the GPU, else what its NVLink or PCIe leaves.
        inside: optional SomeRate = "\"300 GB/s\"",
        /// Memory of a GPU; when missing, the catalogue's.
        memory: optional SomeSize = "\"40 GiB\"",
        /// CSV file of layer times of one's own, relative to this file; when missing, the shipped ones, else the roofline of the GPU's figures.
        profile: optional String = "\"a100.csv\"",
        /// Device file of `tideplan calibrate`, relative to this file: layer times are its roofline's, but for those of `profile`.
        device: optional String = "\"a100.toml\"",
        /// Fabric file of `tideplan calibrate`, relative to this file: collectives take what it says.
        fabric: optional String = "\"fabric.toml\"",
        /// Leaf switches of its own, in place of those of `[network]`.
        leaves: optional FabricTable = "{ leaf_nodes = 4, oversubscription = 2.0 }",
    }
}

table! {
    /// Leaf switches below spines. Traffic that leaves a leaf shares its uplinks; each is a link, `GROUP-leaf-0` and so on, that traces and events can name.
    FabricTable "a `fabric` of leaves" {
        /// Nodes below a leaf (with `rails`, below a pod of leaves): those of each group in their order, each group beginning a leaf of its own.
        leaf_nodes: required Int<1, MOST_GPUS> = "4",
        /// What the cards below a full leaf can send, over what its uplinks carry; 1 (none) when missing.
        oversubscription: optional Factor = "2.0",
        /// Whether the fabric is rail-optimised: a leaf for each rail (card, or GPU where `nics` are fewer or not said) of a pod's nodes, `GROUP-leaf-0-rail-0` and so on; `false` when missing.
        rails: optional bool = "true",
    }
}

table! {
    /// A GPU from its datasheet. Its layer times are the roofline's.
    GpuTable "`[[gpus]]`" {
        /// Name, by which nodes call it; none of the catalogue's.
        name: required Name = "\"X200\"",
        /// Memory that programs can use.
        memory: required SomeSize = "\"96 GiB\"",
        /// Memory bandwidth.
        memory_bandwidth: required SomeRate = "\"4 TB/s\"",
        /// Dense peaks in 10^12 FLOP/s; many datasheets give twice that, with sparsity.
        tflops: required TflopsTable = "{ fp32 = 80, bf16 = 640 }",
        /// Streaming multiprocessors (compute units).
        multiprocessors: required Int<1, 1_000_000> = "160",
        /// Last cache before the memory; 40 MiB when missing.
        cache: optional SomeSize = "\"60 MiB\"",
        /// NVLink or xGMI, each way; when missing, GPUs of a node are joined by PCIe.
        nvlink: optional SomeRate = "\"450 GB/s\"",
        /// PCIe, each way; 31.5 GB/s (4.0 x16) when missing.
        pcie: optional SomeRate = "\"63 GB/s\"",
        /// The architecture of the catalogue's that is nearest, for what attention kernels and NCCL reach; when missing, the middle of those measured.
        architecture: optional Name = "\"hopper\"",
    }
}

table! {
    /// Dense peaks in 10^12 FLOP/s. A format without one is computed in the next wider one.
    TflopsTable "`tflops`" {
        /// 32 bits, without tensor cores.
        fp32: required Factor = "80",
        /// TF32 in tensor cores.
        tf32: optional Factor = "320",
        /// IEEE half.
        fp16: optional Factor = "640",
        /// bfloat16.
        bf16: optional Factor = "640",
        /// 8 bits.
        fp8: optional Factor = "1280",
        /// 4 bits.
        fp4: optional Factor = "2560",
    }
}

table! {
    /// What connects the nodes.
    NetworkTable "`[network]`" {
        /// Rate of one transfer between two nodes by its size: the shipped fitted curves. The default.
        curves: optional Curves = "\"sailor\"",
        /// Rate of one transfer between two nodes, the same at every size, in place of the curves.
        rate: optional SomeRate = "\"25 Gbps\"",
        /// Time before its first byte; only with `rate`.
        latency: optional Time = "\"10 us\"",
        /// Leaf switches that the nodes are on; without, every node has the fabric to itself.
        fabric: optional FabricTable = "{ leaf_nodes = 4, oversubscription = 2.0 }",
        /// Links between zones, which all transfers between the two zones share.
        links: optional Vec<At<LinkTable>> = "[{ name = \"wan\", between = [\"a\", \"b\"], capacity = \"7 Gbps\", latency = \"15 ms\" }]",
        /// Named settings of the links, which events switch between.
        configurations: optional Vec<At<ConfigurationTable>> = "[{ name = \"night\", links = [{ link = \"wan\", capacity = \"10 Gbps\" }] }]",
    }
}

table! {
    /// A named setting of links, as of an optical switch.
    ConfigurationTable "`[[network.configurations]]`" {
        /// Name, by which events call it.
        name: required Name = "\"night\"",
        /// What each link is in it; links that are not named stay as they are.
        links: required Vec<At<ConfiguredTable>> = "[{ link = \"wan\", capacity = \"10 Gbps\" }]",
    }
}

table! {
    /// One link in a configuration.
    ConfiguredTable "`links` of `[[network.configurations]]`" {
        /// The link.
        link: required Name = "\"wan\"",
        /// Its capacity.
        capacity: optional AnyRate = "\"10 Gbps\"",
        /// Its latency.
        latency: optional Time = "\"5 ms\"",
    }
}

table! {
    /// A shared link between two zones; each way has the whole capacity.
    LinkTable "`[[network.links]]`" {
        /// Name, by which traces and events call it.
        name: required Name = "\"wan\"",
        /// The two zones.
        between: required Vec<At<Name>> = "[\"zone-a\", \"zone-b\"]",
        /// Capacity each way; the level that a trace in multiples scales. A trace in a unit of rate replaces it.
        capacity: optional SomeRate = "\"7 Gbps\"",
        /// Time before the first byte; when missing, the time-weighted mean of the trace's `latency_s`.
        latency: optional Time = "\"15 ms\"",
    }
}
