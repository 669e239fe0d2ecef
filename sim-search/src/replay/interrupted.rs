//! One iteration that nodes leave: what of it is lost, what is waited for, and when one is done all the same.
//!
//! ```text
//!   at            node goes                    restart             node back
//!   | iteration ... X | fixed part of a switch | wait, or iterate without its pipelines ... | an iteration done
//! ```
//!
//! A replay of one plan that ends with the first iteration that counts: the rules are those of docs/replay.md.

use super::book::Known;
use super::job::{Checkpoints, Engine, Setup};
use super::policy::Scheduled;
use super::world::World;
use sim_models::plan::Plan;
use sim_models::scenario::{NodeId, Scenario};
use sim_models::timeline::NS_PER_S;

/// How long after the last change a first iteration is waited for.
const A_YEAR: u64 = 365 * 86_400 * NS_PER_S;

/// What became of an iteration with nodes of its plan away. Instants are on the clock of the traces; all times in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// Nodes of the plan that are away at the start.
    pub away: Vec<NodeId>,
    /// Each time that nodes left in mid-iteration: when, and which.
    pub losses: Vec<(u64, Vec<NodeId>)>,
    /// In iterations that were cut off.
    pub lost: u64,
    /// Restarts, and state that moves to nodes that came back.
    pub restarting: u64,
    /// With no pipeline whole.
    pub waiting: u64,
    /// The iteration that was done; `None` when there never is one.
    pub done: Option<Done>,
}

/// An iteration that was done with some nodes away, or after they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// When it was done, ns on the clock of the traces.
    pub at: u64,
    /// Its own length, ns.
    pub length: u64,
    /// Pipelines that ran it; the plan has `of`.
    pub pipelines: usize,
    /// Pipelines of the plan.
    pub of: usize,
}

/// What becomes of an iteration of `plan` that begins at `start` (ns); `None` where all its nodes are there until it is done, or
/// where it is no plan for the scenario.
pub fn interrupted(scenario: &Scenario, plan: &Plan, start: u64) -> Option<Interrupted> {
    if scenario.replay.up.is_empty() {
        return None;
    }
    let world = World::new(scenario);
    let mut engine = Engine::new(&world, true, 1);
    let id = engine.plans.meet(&world.frame, plan)?;
    let nodes = engine.plans.nodes(id).clone();
    let (of, options) = (engine.plans.lines(id).len(), &scenario.replay.options);
    let setup = Setup {
        start,
        until: scenario.replay.end().max(start).saturating_add(A_YEAR),
        iterations: 1,
        checkpoints: Checkpoints::Never,
        jitter: None,
        switch_cost: options.switch_cost,
        overlap: false,
    };
    let mut kept = Scheduled { name: "plan".into(), plans: vec![(start, id)] };
    let run = engine.run(&mut kept, &setup, &mut Known::default());
    let mine =
        |at: u64| -> Vec<NodeId> { world.down(at).into_iter().filter(|n| nodes.contains(n)).collect() };
    let gone = |at: u64| {
        let before = mine(at.saturating_sub(1));
        mine(at).into_iter().filter(|n| !before.contains(n)).collect()
    };
    let (away, losses) = (mine(start), run.losses.iter().map(|(at, _)| (*at, gone(*at))).collect::<Vec<_>>());
    if away.is_empty() && losses.is_empty() {
        return None;
    }
    let done = run.spans.first().map(|span| {
        let out =
            engine.plans.variant(&world.frame, id, &world.down(span.start), &world.latencies(span.start));
        let broken = out.map_or(0, |at| engine.plans.of_variant(at).broken.len());
        Done { at: span.start + span.length, length: span.length, pipelines: of - broken, of }
    });
    let (lost, restarting, waiting) = (run.unfinished, run.restarting, run.waiting);
    Some(Interrupted { away, losses, lost, restarting, waiting, done })
}
