//! What became of an iteration whose nodes leave: in words and as JSON.

use super::table::seconds;
use serde_json::{Value, json};
use sim_models::scenario::{NodeId, Scenario};
use sim_search::replay::Interrupted;
use std::fmt::Write;

/// An iteration that nodes left, or began without some.
pub(crate) struct Cut<'a> {
    pub(crate) scenario: &'a Scenario,
    /// When it began, ns on the clock of the traces.
    pub(crate) start: u64,
    pub(crate) found: Interrupted,
    /// How much of its computing was done when the first node left, 0 to 1; `None` where it began without some.
    pub(crate) computed: Option<f64>,
}

/// Nodes that are named in words.
const FEW: usize = 8;

fn s(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Cut<'_> {
    fn names(&self, nodes: &[NodeId]) -> Vec<String> {
        let name = |n: &NodeId| format!("{}:{}", self.scenario.groups[n.group as usize].name, n.index);
        nodes.iter().map(name).collect()
    }

    /// The same in words: the first few, and how many more.
    fn listed(&self, nodes: &[NodeId]) -> String {
        let few = self.names(&nodes[..nodes.len().min(FEW)]).join(", ");
        if nodes.len() > FEW { format!("{few} and {} more", nodes.len() - FEW) } else { few }
    }

    /// The key `interrupted` of `simulate`.
    pub(crate) fn json(&self) -> Value {
        let Interrupted { away, losses, lost, restarting, waiting, done } = &self.found;
        json!({
            "away": self.names(away),
            "losses": losses.iter().map(|(at, nodes)| json!({
                "at_s": s(*at), "into_s": s(at - self.start), "nodes": self.names(nodes),
            })).collect::<Vec<_>>(),
            "computed": self.computed,
            "lost_s": s(*lost),
            "restarting_s": s(*restarting),
            "waiting_s": done.map(|_| s(*waiting)),
            "done": done.map(|d| json!({
                "at_s": s(d.at), "after_s": s(d.at - self.start), "iteration_time_s": s(d.length),
                "pipelines": d.pipelines, "of": d.of,
            })),
        })
    }

    /// A line for each thing that happens.
    pub(crate) fn text(&self) -> String {
        let Interrupted { away, losses, lost, restarting, waiting, done } = &self.found;
        let mut text = String::from("the above is the iteration with all of its nodes\n");
        if !away.is_empty() {
            let _ = writeln!(text, "away at its start: {}", self.listed(away));
        }
        for (at, nodes) in losses {
            let into = seconds(s(at - self.start));
            let _ = writeln!(text, "lost after {into}: {}", self.listed(nodes));
        }
        if !losses.is_empty() {
            let share =
                self.computed.map_or(String::new(), |c| format!(", {:.1} % of its computing", 100.0 * c));
            let _ = writeln!(
                text,
                "work lost {}{share}; restarts {}",
                seconds(s(*lost)),
                seconds(s(*restarting))
            );
        }
        let Some(done) = done else {
            return text + "no pipeline is whole from then on: no iteration is done\n";
        };
        if *waiting > 0 {
            let _ = writeln!(text, "waits {} for a whole pipeline", seconds(s(*waiting)));
        }
        let _ = writeln!(
            text,
            "done {} after its start: {} of {} pipelines, {} an iteration",
            seconds(s(done.at - self.start)),
            done.pipelines,
            done.of,
            seconds(s(done.length))
        );
        text
    }
}
