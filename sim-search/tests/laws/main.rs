//! What the search promises: bounds never exceed simulated times, no plan of the space beats the lower bound, the counts add
//! up, and the answer does not depend on threads.

mod bounds;
mod peers;
mod planners;
mod promises;

use scenarios::{Overrides, load_text};
use sim_models::scenario::Scenario;

/// A small mixed cluster in words: batch, nodes of each kind, link between their zones in Gbps and its latency in ms.
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
            text += &format!(
                "[[network.links]]\nname = \"wan\"\nbetween = [\"a\", \"b\"]\ncapacity = \"{gbps} Gbps\"\nlatency = \"{ms} ms\"\n"
            );
            if self.changing {
                for second in 1..40 {
                    let capacity = f64::from(gbps) * if second % 2 == 0 { 1.0 } else { 0.5 };
                    text += &format!(
                        "[[events]]\nat = \"{second} s\"\nlink = \"wan\"\ncapacity = \"{capacity} Gbps\"\n"
                    );
                }
            }
        }
        match load_text(&text, "small.toml", None, &Overrides::default()) {
            Ok(loaded) => loaded.scenario,
            Err(faults) => {
                panic!("{}\n{text}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

/// Any of them.
pub fn any_small() -> impl proptest::strategy::Strategy<Value = Small> {
    use proptest::prelude::*;
    let nodes = prop_oneof![Just((1, 0)), Just((0, 2)), Just((1, 1)), Just((2, 1)), Just((1, 2))];
    (
        prop_oneof![Just(16u32), Just(48), Just(64)],
        nodes,
        prop::option::of((1u32..40, 0u32..20)),
        any::<bool>(),
    )
        .prop_map(|(batch, nodes, wan, changing)| Small { batch, nodes, wan, changing })
}
