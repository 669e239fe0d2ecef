//! Small mixed clusters for tests, in words, and their scenarios.

#![allow(unreachable_pub, reason = "read by the tests of the crate and by those beside it")]

use proptest::prelude::*;
use scenarios::{Overrides, load_text};
use sim_models::scenario::Scenario;
use std::collections::BTreeSet;

/// A model with measured layer times on one or two kinds of node, four GPUs each.
#[derive(Clone, Debug)]
pub struct Small {
    /// Samples of an iteration.
    pub batch: u32,
    /// Nodes of A100 and of V100, four GPUs each.
    pub nodes: (u32, u32),
    /// Whether the two kinds are in zones of their own, and then the link: Gbps, ms.
    pub wan: Option<(u32, u32)>,
    /// Whether the link halves every second.
    pub changing: bool,
}

/// A model of a few layers on at most eight GPUs: every plan of it can be simulated.
#[derive(Clone, Debug)]
pub struct Tiny {
    /// Transformer blocks, and width.
    pub model: (u32, u32),
    /// Experts of a block, and the degrees of expert parallelism to try where not all.
    pub experts: Option<(u32, Option<&'static str>)>,
    /// Samples of an iteration, and micro-batch sizes.
    pub batch: (u32, Vec<u32>),
    /// Groups: GPU, nodes, GPUs of a node, zone.
    pub groups: Vec<(&'static str, u32, u32, char)>,
    /// Memory of every GPU, in MiB; missing: the catalogue's.
    pub memory: Option<u32>,
    /// Between nodes, Gbps and us.
    pub network: (u32, u32),
    /// Between two zones, Mbps and ms; between the next two as much more.
    pub wan: (u32, u32),
    /// Milliseconds after which these links halve, and again until they are back; 0: they do not.
    pub changing: u32,
    /// Nodes below a leaf switch, by how many tenths its uplinks are oversubscribed, and whether there is a leaf a rail.
    pub leaves: Option<(u32, u32, bool)>,
    /// Lines of `[search]`: ways to train.
    pub ways: Vec<&'static str>,
}

fn wan(text: &mut String, (a, b): (char, char), capacity: u64, latency_ms: u32, every_ms: u32) {
    *text += &format!(
        "[[network.links]]\nname = \"wan-{a}{b}\"\nbetween = [\"{a}\", \"{b}\"]\ncapacity = \"{capacity} Mbps\"\nlatency = \"{latency_ms} ms\"\n"
    );
    for i in 1..40 * u32::from(every_ms > 0) {
        let now = if i % 2 == 0 { capacity } else { capacity / 2 + 1 };
        *text += &format!(
            "[[events]]\nat = \"{} ms\"\nlink = \"wan-{a}{b}\"\ncapacity = \"{now} Mbps\"\n",
            i * every_ms
        );
    }
}

fn load(text: &str) -> Scenario {
    match load_text(text, "small.toml", None, &Overrides::default()) {
        Ok(loaded) => loaded.scenario,
        Err(faults) => {
            panic!("{}\n{text}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    }
}

impl Small {
    /// The scenario.
    pub fn scenario(&self) -> Scenario {
        let zone = if self.wan.is_some() { "b" } else { "a" };
        let mut text = format!(
            "schema_version = 1\nabout = \"small\"\n[model]\nname = \"opt-350m\"\n[training]\nglobal_batch = {}\n\
             precision = \"fp32\"\noptimizer = \"adam\"\n[search]\nmax_stages = 3\nmax_simulations = 150\n",
            self.batch
        );
        for (name, gpu, count, zone) in
            [("a100", "A100-40", self.nodes.0, "a"), ("v100", "V100-16", self.nodes.1, zone)]
        {
            if count > 0 {
                text += &format!(
                    "[[nodes]]\nname = \"{name}\"\ncount = {count}\ngpus_per_node = 4\ngpu = \"{gpu}\"\nzone = \"{zone}\"\n"
                );
            }
        }
        if let Some((gbps, ms)) = self.wan.filter(|_| self.nodes.0 > 0 && self.nodes.1 > 0) {
            wan(&mut text, ('a', 'b'), u64::from(gbps) * 1000, ms, if self.changing { 1000 } else { 0 });
        }
        load(&text)
    }
}

impl Tiny {
    /// The scenario.
    pub fn scenario(&self) -> Scenario {
        let (blocks, hidden) = self.model;
        let (batch, sizes) = &self.batch;
        let (experts, degrees) = self.experts.map_or((String::new(), ""), |(count, degrees)| {
            let width = hidden / 2;
            (
                format!("experts = {{ count = {count}, top_k = 2, ffn_hidden = {width} }}\n"),
                degrees.unwrap_or_default(),
            )
        });
        let mut text = format!(
            "schema_version = 1\nabout = \"tiny\"\n[model]\nname = \"tiny\"\nblocks = {blocks}\nhidden = {hidden}\nheads = 8\n\
             {experts}seq_len = 512\nvocab = 8000\ntied_embeddings = false\n[training]\nglobal_batch = {batch}\nmemory_reserve = \"1 MiB\"\n\
             [search]\nmax_stages = 3\nmax_simulations = 100000\nmicro_batches = {sizes:?}\n{degrees}\n{}\n\
             [network]\nrate = \"{} Gbps\"\nlatency = \"{} us\"\n",
            self.ways.join("\n"),
            self.network.0,
            self.network.1,
        );
        if let Some((nodes, tenths, rails)) = self.leaves {
            let times = f64::from(tenths) / 10.0;
            text += &format!(
                "fabric = {{ leaf_nodes = {nodes}, oversubscription = {times:.1}, rails = {rails} }}\n"
            );
        }
        let zones: BTreeSet<char> = self.groups.iter().map(|g| g.3).collect();
        let pairs = zones.iter().flat_map(|a| zones.range(*a..).skip(1).map(|b| (*a, *b)));
        for (i, pair) in pairs.enumerate() {
            wan(&mut text, pair, u64::from(self.wan.0) * (i as u64 + 1), self.wan.1, self.changing);
        }
        for (i, (gpu, nodes, gpus, zone)) in self.groups.iter().enumerate() {
            text += &format!(
                "[[nodes]]\nname = \"g{i}\"\ncount = {nodes}\ngpus_per_node = {gpus}\ngpu = \"{gpu}\"\nzone = \"{zone}\"\n"
            );
            if let Some(mib) = self.memory {
                text += &format!("memory = \"{mib} MiB\"\n");
            }
        }
        load(&text)
    }
}

/// Any small cluster.
pub fn any_small() -> impl Strategy<Value = Small> {
    let nodes = prop_oneof![Just((1, 0)), Just((0, 2)), Just((1, 1)), Just((2, 1)), Just((1, 2))];
    (
        prop_oneof![Just(16u32), Just(48), Just(64)],
        nodes,
        prop::option::of((1u32..40, 0u32..20)),
        any::<bool>(),
    )
        .prop_map(|(batch, nodes, wan, changing)| Small { batch, nodes, wan, changing })
}

/// Any tiny one.
pub fn any_tiny() -> impl Strategy<Value = Tiny> {
    let gpu = || prop_oneof![Just("A100-40"), Just("V100-16"), Just("T4"), Just("H100")];
    let zone = || prop_oneof![3 => Just('a'), 2 => Just('b'), 1 => Just('c')];
    let group = || (gpu(), 1u32..3, prop_oneof![Just(1u32), Just(2), Just(4)], zone());
    let groups = prop::collection::vec(group(), 1..4).prop_map(|mut groups| {
        // At most eight GPUs in all: later groups shrink and vanish.
        let mut left = 8;
        for g in &mut groups {
            g.1 = g.1.min(left / g.2);
            left -= g.1 * g.2;
        }
        groups.retain(|g| g.1 > 0);
        groups
    });
    let batch = prop_oneof![
        Just((3u32, vec![1u32])),
        Just((4, vec![1, 2])),
        Just((6, vec![1])),
        Just((6, vec![2, 3])),
        Just((8, vec![2, 4]))
    ];
    let degrees = prop::option::of(prop_oneof![Just("ep = [2]"), Just("ep = [1, 4]"), Just("ep = [1]")]);
    let experts = (prop_oneof![Just(4u32), Just(8), Just(12)], degrees);
    let experts = prop_oneof![3 => Just(None), 1 => experts.prop_map(Some)];
    let memory = prop_oneof![3 => Just(None), 2 => (100u32..400).prop_map(Some)];
    (
        (1u32..4, prop_oneof![Just(256u32), Just(1024)], experts),
        batch,
        groups,
        memory,
        (prop_oneof![1u32..10, 10u32..200], 0u32..50),
        (50u32..20_000, 0u32..4),
        prop_oneof![Just(0u32), 1u32..20],
        prop::option::of((1u32..3, 5u32..60, any::<bool>())),
        any_ways(),
    )
        .prop_map(
            |((blocks, hidden, experts), batch, groups, memory, network, wan, changing, leaves, ways)| Tiny {
                model: (blocks, hidden),
                experts,
                batch,
                groups,
                memory,
                network,
                wan,
                changing,
                leaves,
                ways,
            },
        )
}

/// Half the time what a search tries by itself.
fn any_ways() -> impl Strategy<Value = Vec<&'static str>> {
    let lists: [&[&str]; 6] = [
        &[
            r#"schedule = ["gpipe"]"#,
            r#"schedule = ["zero-bubble"]"#,
            r#"schedule = ["1f1b", "zero-bubble"]"#,
        ],
        &[r#"recompute = ["none", "full"]"#, r#"recompute = ["selective"]"#, r#"recompute = ["full"]"#],
        &["cp = [1, 2]", "cp = [2]", "cp = [2, 4]"],
        &["zero = [0, 1]", "zero = [1]", "zero = [2]", "zero = [3]"],
        &["overlap_p2p = [true]", "sequence_parallel = [true]", "sequence_parallel = [false]"],
        &["overlap_gradients = [true]", "overlap_gradients = [true]\ngradient_bucket = \"1 MiB\""],
    ];
    let line = |list: &'static [&'static str]| prop::option::weighted(0.3, prop::sample::select(list));
    let some = lists.map(line).to_vec();
    prop_oneof![Just(Vec::new()), some.prop_map(|lines| lines.into_iter().flatten().collect::<Vec<_>>()),]
}
