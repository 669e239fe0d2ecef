//! The format: every table of a scenario file, key by key. What is said here is what is read, what an error offers and
//! what the JSON Schema shows.

use crate::fault::{At, Faults};
use crate::node::Node;
use crate::read::{
    AnyRate, Factor, Int, LongTime, Name, NodesName, Read, Size, SomeRate, SomeSize, Time, choice, table,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use sim_models::plan::{DeviceRange, GradientSync, Layers, Plan, Recompute, Schedule};
use sim_models::replay::Forecast;
use sim_models::workload::{Biases, Norm, Optimizer, Precision};

/// The version of the format that is read.
pub(crate) const SCHEMA_VERSION: u64 = 1;
/// Most GPUs of a cluster.
pub(crate) const MOST_GPUS: u64 = 1_000_000;
/// Most layers between embedding and head.
const MOST_BLOCKS: u64 = 10_000;
/// Largest batch and its parts.
const MOST_SAMPLES: u64 = 1 << 31;

// Sizes of a model, such that heads x sequence^2 (the largest product that sim-models takes) fits in 64 bits.
const MOST_HIDDEN: u64 = 1 << 20;
const MOST_FFN: u64 = 1 << 22;
const MOST_HEADS: u64 = 1 << 14;
const MOST_TOKENS: u64 = 1 << 24;

choice!(Precision {
    "fp32" => Precision::Fp32,
    "fp16" => Precision::Fp16,
    "bf16" => Precision::Bf16,
    "fp8" => Precision::Fp8,
    "fp4" => Precision::Fp4,
});
choice!(Optimizer { "adam" => Optimizer::Adam, "sgd" => Optimizer::Sgd });
choice!(Schedule {
    "1f1b" => Schedule::OneFOneB,
    "gpipe" => Schedule::GPipe,
    "interleaved" => Schedule::Interleaved,
    "zero-bubble" => Schedule::ZeroBubble,
});
choice!(Recompute {
    "none" => Recompute::None,
    "selective" => Recompute::Selective,
    "full" => Recompute::Full,
});
choice!(GradientSync {
    "all-reduce" => GradientSync::AllReduce,
    "reduce-scatter" => GradientSync::ReduceScatter,
});
choice!(Norm { "layer" => Norm::Layer, "rms" => Norm::Rms });
choice!(Biases { "all" => Biases::All, "qkv" => Biases::Qkv, "none" => Biases::None });

/// Where the rate between nodes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curves {
    /// The shipped fitted curves.
    Sailor,
}
choice!(Curves { "sailor" => Curves::Sailor });

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
    /// A scenario: what is trained, on which nodes, over which network.
    ScenarioFile "the scenario" {
        /// Version of the format: 1.
        schema_version: required Int<0, { u32::MAX as u64 }> = "1",
        /// One line on what the scenario is.
        about: optional String = "\"two zones\"",
        /// What is trained; may be missing where each of the `[[jobs]]` has its own.
        model: optional ModelTable = "{ name = \"opt-350m\" }",
        /// How it is trained; may be missing where each of the `[[jobs]]` has its own.
        training: optional TrainingTable = "{ global_batch = 1024 }",
        /// Groups of alike nodes.
        nodes: required Vec<At<NodesTable>> = "[{ name = \"a100\", count = 4, gpus_per_node = 4, gpu = \"A100-40\" }]",
        /// GPUs that the catalogue does not have.
        gpus: optional Vec<At<GpuTable>> = "[{ name = \"X200\", memory = \"96 GiB\", memory_bandwidth = \"4 TB/s\", multiprocessors = 160, tflops = { fp32 = 80, bf16 = 640 } }]",
        /// What connects the nodes.
        network: optional NetworkTable = "{ rate = \"25 Gbps\" }",
        /// Capacity of links over time.
        traces: optional Vec<At<TraceTable>> = "[{ link = \"wan\", file = \"wan.csv\" }]",
        /// What others send over links, taken away from what traces and events leave of them.
        background: optional Vec<At<BackgroundTable>> = "[{ link = \"wan\", rate = \"2 Gbps\" }]",
        /// What happens at an instant, over what the traces say.
        events: optional Vec<At<EventTable>> = "[{ at = \"10 s\", link = \"wan\", capacity = \"0 bps\" }]",
        /// How a replay goes.
        replay: optional ReplayTable = "{ history = \"1 h\" }",
        /// What a search may do.
        search: optional SearchTable = "{ max_stages = 4 }",
        /// What nodes cost by the hour, and bytes between zones.
        cost: optional CostTable = "{ nodes = [{ group = \"a100\", per_hour = 29.38 }] }",
        /// A plan of the scenario's own, which `simulate` takes when it is given none.
        plan: optional PlanChoice = "{ file = \"plan.toml\" }",
        /// Jobs that share the cluster, each with a plan of its own, in place of one job.
        jobs: optional Vec<At<JobTable>> = "[{ name = \"large\", nodes = [\"a100:0-1\"] }]",
    }
}

table! {
    /// One of several jobs that share the cluster's nodes and links. Each runs one iteration from its start on.
    JobTable "`[[jobs]]`" {
        /// Name.
        name: required Name = "\"large\"",
        /// What it trains; the scenario's when missing.
        model: optional ModelTable = "{ name = \"opt-350m\" }",
        /// How it is trained; the scenario's when missing.
        training: optional TrainingTable = "{ global_batch = 1024 }",
        /// Nodes that it may use: groups, or ranges of their nodes; all when missing.
        nodes: optional Vec<At<NodesName>> = "[\"a100:0-1\", \"v100\"]",
        /// When its iteration starts; at once when missing.
        start: optional Time = "\"100 ms\"",
        /// Iterations that it is to run: where plans are to be found, those with which the last job is done soonest; 1 when missing.
        iterations: optional Int<1, 1_000_000_000> = "10000",
        /// Its plan. Without one a plan is to be found.
        plan: optional PlanChoice = "{ file = \"large.toml\" }",
    }
}

table! {
    /// A built-in model by its name (with a `seq_len` of one's own, if given), a Hugging Face configuration, or a model by its sizes.
    ModelTable "`[model]`" {
        /// A built-in's name, or the name of one's own, by which layer times are found.
        name: required Name = "\"opt-350m\"",
        /// A Hugging Face `config.json`, relative to this file, in place of sizes.
        config: optional String = "\"config.json\"",
        /// Transformer blocks, without embedding and head.
        blocks: optional Int<1, MOST_BLOCKS> = "24",
        /// Width of the residual stream.
        hidden: optional Int<1, MOST_HIDDEN> = "1024",
        /// Attention heads.
        heads: optional Int<1, MOST_HEADS> = "16",
        /// Width of the MLP; 4 x `hidden` when missing.
        ffn_hidden: optional Int<1, MOST_FFN> = "4096",
        /// Tokens of a sequence, which is a sample of the batch.
        seq_len: optional Int<1, MOST_TOKENS> = "2048",
        /// Tokens of the vocabulary.
        vocab: optional Int<1, MOST_TOKENS> = "50272",
        /// Learned positions, 0 for none; `seq_len` when missing.
        positions: optional Int<0, MOST_TOKENS> = "2048",
        /// Whether the head shares the matrix of the embedding; `true` when missing.
        tied_embeddings: optional bool = "true",
        /// Key-value heads, of grouped queries; `heads` when missing.
        kv_heads: optional Int<1, MOST_HEADS> = "8",
        /// Width of a query or key of one head; `hidden / heads` when missing.
        head_width: optional Int<1, MOST_HIDDEN> = "128",
        /// Whether the MLP has a gate, three matrices for two; `false` when missing.
        gated: optional bool = "true",
        /// What norms learn: `layer` (scale and bias, the default) or `rms` (scale).
        norm: optional Norm = "\"rms\"",
        /// Which linear layers of a block have biases: `all` (the default), `qkv` or `none`.
        biases: optional Biases = "\"none\"",
        /// Keys that a query sees at most; 0 (the default) for all before it.
        window: optional Int<0, MOST_TOKENS> = "4096",
        /// Experts in place of the MLP.
        experts: optional ExpertsTable = "{ count = 8, top_k = 2, ffn_hidden = 14336 }",
        /// Latent attention in place of grouped queries; `head_width` is then a query's, its rotated part with it.
        latent: optional LatentTable = "{ q_rank = 1536, kv_rank = 512, rope_width = 64, value_width = 128 }",
    }
}

table! {
    /// A mixture of experts.
    ExpertsTable "`experts`" {
        /// Routed experts of a layer.
        count: required Int<1, MOST_HEADS> = "8",
        /// Experts that a token is sent to.
        top_k: required Int<1, MOST_HEADS> = "2",
        /// Width of one expert.
        ffn_hidden: required Int<1, MOST_FFN> = "14336",
        /// Width of what every token passes through beside its experts; 0 when missing.
        shared_ffn: optional Int<0, MOST_FFN> = "2048",
        /// Blocks at the start with a dense MLP; 0 when missing.
        dense_blocks: optional Int<0, MOST_BLOCKS> = "3",
        /// Nodes that a token is sent to at most, once to each; when missing, to every expert by itself.
        node_limit: optional Int<1, MOST_HEADS> = "4",
        /// Tokens of the fullest device over the mean; 1 (the default) is a balanced load.
        imbalance: optional Factor = "1.2",
        /// Tokens that an expert takes at most, over the mean; no limit when missing.
        capacity: optional Factor = "1.25",
    }
}

table! {
    /// Keys and values through a narrow vector (multi-head latent attention).
    LatentTable "`latent`" {
        /// Width of the vector that queries come from; 0: straight from the stream.
        q_rank: required Int<0, MOST_HIDDEN> = "1536",
        /// Width of the vector that keys and values come from.
        kv_rank: required Int<1, MOST_HIDDEN> = "512",
        /// Width of the key that positions rotate.
        rope_width: required Int<1, MOST_HIDDEN> = "64",
        /// Width of a value of one head.
        value_width: required Int<1, MOST_HIDDEN> = "128",
    }
}

table! {
    /// How a batch is trained on.
    TrainingTable "`[training]`" {
        /// Samples (sequences) of an iteration, all pipelines together.
        global_batch: required Int<1, MOST_SAMPLES> = "1024",
        /// Number format: `fp32` (the default), `fp16`, `bf16`, or bf16 with the products of linear layers in `fp8` or `fp4`.
        precision: optional Precision = "\"fp32\"",
        /// Optimizer; `adam` when missing.
        optimizer: optional Optimizer = "\"adam\"",
        /// Memory of each device that the driver and the libraries take; 1 GiB when missing.
        memory_reserve: optional Size = "\"1 GiB\"",
        /// Program that trains, by a name that `docs/validate.md` lists: its kernels, host times, memory and what it adds to an iteration, as fitted on measured runs. When missing, kernels as Megatron-LM's and nothing added.
        framework: optional Name = "\"megatron-lm\"",
        /// Bits of a gradient, kept and sent: 16 or 32; when missing, the framework's, else those of the precision.
        gradient_bits: optional Int<16, 32> = "32",
        /// What the framework adds to an iteration once, before the optimizer step; nothing when missing.
        iteration_overhead: optional Time = "\"20 ms\"",
        /// What it adds to each transfer between stages; nothing when missing.
        transfer_overhead: optional Time = "\"50 us\"",
        /// By how much compute slows down for as long as gradients or parameters move beside it: 0.1 is a tenth; nothing when missing.
        overlap_slowdown: optional Factor = "0.1",
    }
}

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

/// `[plan]`: written out, or in a file of its own.
#[derive(Clone, Debug)]
pub(crate) enum PlanChoice {
    Inline(Box<PlanTable>, Node),
    File(At<String>),
}

impl Read for PlanChoice {
    fn read(node: &Node, faults: &mut Faults) -> Option<PlanChoice> {
        if node.get("file").is_some() {
            return PlanFileTable::read(node, faults)?.file.map(PlanChoice::File);
        }
        let before = faults.count();
        let table = PlanTable::read(node, faults)?;
        // A plan with a part left out is another plan: nothing more is said of it.
        (faults.count() == before).then(|| PlanChoice::Inline(Box::new(table), node.clone()))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<Plan>(), PlanFileTable::schema(generator)] })
    }
}

table! {
    /// A plan in a file of its own.
    PlanFileTable "`[plan]`" {
        /// The file, relative to this one.
        file: required String = "\"plan.toml\"",
    }
}

// A plan's schema is that of `sim_models::plan::Plan`; a test holds these tables to it.
table! {
    /// A plan.
    PlanTable "the plan" {
        /// Samples in a micro-batch.
        micro_batch: required Int<1, MOST_SAMPLES> = "2",
        /// Order of the passes.
        schedule: optional Schedule = "\"1f1b\"",
        /// Whether transfers between stages run beside compute.
        overlap_p2p: optional bool = "false",
        /// Zero-bubble only: most micro-batches that the first stage holds; the stages when missing.
        in_flight: optional Int<1, MOST_SAMPLES> = "8",
        /// Whether norms and dropouts are split over the tensor-parallel ranks.
        sequence_parallel: optional bool = "true",
        /// Whether communication inside layers, of tensor and expert parallelism, runs beside their kernels.
        overlap_tp: optional bool = "true",
        /// What replicas share out: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too.
        zero: optional Int<0, 3> = "1",
        /// How replicas make their gradients equal: `all-reduce` or `reduce-scatter`.
        gradient_sync: optional GradientSync = "\"reduce-scatter\"",
        /// Size of the pieces in which gradients are sent; all of a stage when missing.
        gradient_bucket: optional SomeSize = "\"40 MiB\"",
        /// Whether gradients are sent while the last backward passes run.
        overlap_gradients: optional bool = "true",
        /// Whether ZeRO 1 and 2 then gather parameters after the step, with nothing beside it.
        gather_after_step: optional bool = "true",
        /// Groups of alike pipelines.
        pipelines: required Vec<At<PipelineTable>> = "[{ micro_batches = 8, stages = [] }]",
    }
}

table! {
    /// Alike pipelines.
    PipelineTable "`[[plan.pipelines]]`" {
        /// How many.
        replicas: optional Int<1, MOST_GPUS> = "1",
        /// Micro-batches that each of them takes.
        micro_batches: required Int<1, MOST_SAMPLES> = "8",
        /// Stages, first to last.
        stages: required Vec<At<StageTable>> = "[{ layers = \"0-25\", devices = [\"a100:0\"] }]",
    }
}

table! {
    /// A stage.
    StageTable "a stage" {
        /// Its layers; interleaved, one range for each virtual stage.
        layers: required Layers = "\"0-12\"",
        /// Tensor parallelism.
        tp: optional Int<1, MOST_GPUS> = "1",
        /// Context parallelism: a replica has `tp x cp` devices.
        cp: optional Int<1, MOST_GPUS> = "1",
        /// Devices, over all replicas, that share out the experts of a layer.
        ep: optional Int<1, MOST_GPUS> = "1",
        /// What backward passes recompute: `none`, `selective` or `full`.
        recompute: optional Recompute = "\"full\"",
        /// Devices of all replicas, replica by replica.
        devices: required Vec<At<DeviceRange>> = "[\"a100:0-3\"]",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(schema: &serde_json::Value) -> Vec<&str> {
        let mut keys: Vec<&str> =
            schema["properties"].as_object().expect("a table").keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    /// The tables that read a plan have the keys of the plan, and need the same of them.
    #[test]
    fn a_plan_is_read_by_its_own_schema() {
        let mut generator = SchemaGenerator::default();
        let plan = schemars::schema_for!(Plan).to_value();
        let of = |name: &str| plan["$defs"][name].clone();
        for (ours, theirs) in [
            (PlanTable::schema(&mut generator), plan.clone()),
            (PipelineTable::schema(&mut generator), of("PipelineGroup")),
            (StageTable::schema(&mut generator), of("Stage")),
        ] {
            let ours = ours.to_value();
            assert_eq!(keys(&ours), keys(&theirs));
            assert_eq!(ours["required"], theirs["required"]);
        }
    }

    #[test]
    fn every_example_is_right() {
        ScenarioFile::check_examples();
        BackgroundTable::check_examples();
        JobTable::check_examples();
        ModelTable::check_examples();
        ExpertsTable::check_examples();
        LatentTable::check_examples();
        TrainingTable::check_examples();
        NodesTable::check_examples();
        GpuTable::check_examples();
        TflopsTable::check_examples();
        NetworkTable::check_examples();
        LinkTable::check_examples();
        FabricTable::check_examples();
        TraceTable::check_examples();
        EventTable::check_examples();
        ReplayTable::check_examples();
        ConfigurationTable::check_examples();
        ConfiguredTable::check_examples();
        SearchTable::check_examples();
        CostTable::check_examples();
        NodePriceTable::check_examples();
        LinkPriceTable::check_examples();
        PlanFileTable::check_examples();
        PlanTable::check_examples();
        PipelineTable::check_examples();
        StageTable::check_examples();
    }
}
