//! Replay: a job run through recorded bandwidth, faults and slow nodes, by policies that adapt or do not.
//!
//! ```text
//!   World (what changes) --Past--> Policy --plan--> Engine: iterations, switches, losses --> Trajectory
//!        \______________________________________________/
//!   every plan found --> oracle (dynamic program, replayed) and upper bound
//! ```
//!
//! The clock is whole nanoseconds; an iteration runs on a picosecond clock that starts at 0 with it, reads what changes
//! shifted to it, and is rounded up to a nanosecond. docs/replay.md tells it from outside.

mod book;
mod interrupted;
mod jitter;
mod job;
mod oracle;
mod past;
mod plans;
mod policy;
mod sweep;
mod switch;
mod uses;
mod world;

pub use book::Book;
pub use interrupted::{Done, Interrupted, interrupted};
pub use job::{Checkpoints, Span, Switch, Trajectory};
pub use past::Past;
pub use plans::PlanId;
pub use policy::{POLICIES, Policy, policy};
pub use sweep::{BreakEven, Point, Sweep, sweep};
pub use world::{Channel, Of, State, World};

use job::{Engine, Setup};
use plans::Plans;
use policy::Scheduled;
use sim_core::Digest;
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_models::timeline::NS_PER_S;

/// Replay without traces goes this far.
const AN_HOUR: u64 = 3_600 * NS_PER_S;

/// Why there is no replay.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// No policy of that name.
    #[error("no policy is called `{0}`")]
    Policy(String),
    /// It would end before it begins.
    #[error("the replay would end at {until_s} s, not after its start at {start_s} s")]
    Empty {
        /// Start, s.
        start_s: f64,
        /// End, s.
        until_s: f64,
    },
}

/// How to replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// Policies, by name, in the order of results; the oracle comes last, named or not.
    pub policies: Vec<String>,
    /// Where it begins, ns, in place of the scenario's.
    pub start: Option<u64>,
    /// Where it ends, ns, in place of the scenario's.
    pub until: Option<u64>,
    /// Fixed part of a switch, ns, in place of the scenario's.
    pub switch_cost: Option<u64>,
    /// Worker threads of searches; 0 for one a core. The answer is the same for any number.
    pub threads: usize,
    /// Whether an iteration that would be the same is reused. The answer is the same either way.
    pub memoise: bool,
    /// Seed of the jitter; none: no jitter.
    pub jitter: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        let policies = POLICIES.iter().map(|p| p.0.to_string()).collect();
        Options {
            policies,
            start: None,
            until: None,
            switch_cost: None,
            threads: 0,
            memoise: true,
            jitter: None,
        }
    }
}

/// What became of a policy.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub policy: String,
    /// Tokens that count.
    pub tokens: u64,
    /// 1 - tokens / the oracle's tokens; 0 when the oracle has none.
    pub regret: f64,
    /// Everything else.
    pub trajectory: Trajectory,
}

/// What a replay found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Start, ns.
    pub start: u64,
    /// End, ns.
    pub until: u64,
    /// Tokens of an iteration.
    pub tokens_per_iteration: u64,
    /// By policy, in the order asked for; the oracle last.
    pub outcomes: Vec<Outcome>,
    /// No policy whatever, over the plans found, makes more.
    pub upper_bound_tokens: u64,
    /// Whose trajectory the oracle's is: a policy's name, or `schedule`.
    pub oracle_is: String,
    /// The best interval between checkpoints, ns, and the tokens of the static policy at it; where nodes come and go.
    pub best_checkpoint: Option<(u64, u64)>,
    /// Plans met, by [`PlanId`].
    pub plans: Vec<Plan>,
    /// Iterations simulated, and reused.
    pub simulated: u64,
    /// Iterations reused, repeats not counted.
    pub reused: u64,
    /// Over the policies' digests, in order.
    pub digest: Digest,
}

/// Replays a scenario under each policy.
///
/// # Errors
/// An unknown policy; a replay of no length.
pub fn replay(scenario: &Scenario, options: &Options) -> Result<Report, ReplayError> {
    let mut policies = |_: &str| {};
    replay_with(scenario, options, &mut policies)
}

/// Like [`replay`]; `progress` hears the name of each policy as it begins.
///
/// # Errors
/// As [`replay`].
pub fn replay_with(
    scenario: &Scenario,
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, ReplayError> {
    let mut chosen: Vec<Box<dyn Policy>> = Vec::new();
    for name in options.policies.iter().filter(|p| *p != "oracle") {
        let policy = policy(name, &scenario.replay.options);
        chosen.push(policy.ok_or_else(|| ReplayError::Policy(name.clone()))?);
    }
    replay_policies(scenario, options, chosen, progress)
}

/// Like [`replay_with`], under policies of one's own; [`Options::policies`] is passed by.
///
/// # Errors
/// A replay of no length.
pub fn replay_policies(
    scenario: &Scenario,
    options: &Options,
    mut chosen: Vec<Box<dyn Policy>>,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, ReplayError> {
    let replay = &scenario.replay.options;
    let start = options.start.unwrap_or(replay.start);
    let end = match scenario.replay.end() {
        0 => start.saturating_add(AN_HOUR),
        end => end,
    };
    let until = options.until.or(replay.until).unwrap_or(end);
    if until <= start {
        let seconds = |ns: u64| ns as f64 / 1e9;
        return Err(ReplayError::Empty { start_s: seconds(start), until_s: seconds(until) });
    }
    let mut altered = scenario.clone();
    if let Some(cost) = options.switch_cost {
        altered.replay.options.switch_cost = cost;
    }
    let world = World::new(&altered);
    let mut engine = Engine::new(&world, options.memoise, options.threads);
    let setup = Setup {
        start,
        until,
        iterations: u64::MAX,
        checkpoints: match replay.checkpoint_every {
            Some(ns) => Checkpoints::Every(ns),
            None if world.nodes_change() => Checkpoints::Young,
            None => Checkpoints::Never,
        },
        jitter: options.jitter.or(replay.jitter.then_some(1)),
        switch_cost: altered.replay.options.switch_cost,
        overlap: replay.switch_overlap,
    };
    let tokens_per_iteration = u64::from(scenario.training.global_batch) * scenario.model.seq_len;
    let mut all = book::Known::default();
    let mut runs: Vec<(String, Trajectory)> = Vec::new();
    for policy in &mut chosen {
        progress(policy.name());
        // What one policy found is not for the next to know.
        let mut known = book::Known::default();
        let trajectory = engine.run(policy.as_mut(), &setup, &mut known);
        runs.push((policy.name().to_string(), trajectory));
        for plan in known.plans {
            if !all.plans.contains(&plan) {
                all.plans.push(plan);
            }
        }
    }
    progress("oracle");
    if runs.is_empty() {
        // Alone, it has the plans for the state at the start.
        let state = world.at(start);
        engine.book(&mut all).candidates(&state);
    }
    let plans = all.plans.clone();
    // With one plan there is nothing to choose.
    let several = plans.len() > 1 || runs.is_empty();
    let schedules = if !several {
        Vec::new()
    } else {
        oracle::schedules(&world, &mut engine.book(&mut all), &plans, (start, until, replay.decide_every))
    };
    for plans in schedules {
        let mut scheduled = Scheduled { name: "schedule".into(), plans };
        let trajectory = engine.run(&mut scheduled, &setup, &mut all);
        runs.push(("schedule".into(), trajectory));
    }
    let best =
        runs.iter().enumerate().max_by_key(|(i, r)| (r.1.iterations, std::cmp::Reverse(*i))).map(|b| b.0);
    let (oracle_is, oracle) =
        best.map_or_else(|| ("nobody".into(), Trajectory::default()), |b| runs[b].clone());
    progress("bound");
    let reach = runs.iter().map(|r| r.1.longest).max().unwrap_or(0);
    let jitter = setup.jitter.map(|_| jitter::LEAST);
    let bound = oracle::bound(&world, &mut engine.book(&mut all), &plans, (start, until), reach, jitter);
    let upper = (bound * u128::from(tokens_per_iteration)).div_ceil(1 << 20);
    let best_checkpoint = if world.nodes_change() && !runs.is_empty() {
        progress("checkpoints");
        best_checkpoint(&mut engine, &setup, &runs, &mut all).map(|(ns, n)| (ns, n * tokens_per_iteration))
    } else {
        None
    };
    let most = oracle.iterations;
    runs.retain(|r| r.0 != "schedule");
    runs.push(("oracle".into(), oracle));
    let mut digest = Digest::EMPTY;
    runs.iter().for_each(|r| digest.add_digest(r.1.digest));
    let outcome = |(policy, trajectory): (String, Trajectory)| Outcome {
        policy,
        tokens: trajectory.iterations.saturating_mul(tokens_per_iteration),
        regret: if most == 0 { 0.0 } else { 1.0 - trajectory.iterations as f64 / most as f64 },
        trajectory,
    };
    let Plans { simulated, reused, .. } = engine.plans;
    Ok(Report {
        start,
        until,
        tokens_per_iteration,
        outcomes: runs.into_iter().map(outcome).collect(),
        upper_bound_tokens: u64::try_from(upper).unwrap_or(u64::MAX),
        oracle_is,
        best_checkpoint,
        plans: (0..engine.plans.count()).map(|i| engine.plans.plan(PlanId(i as u32)).clone()).collect(),
        simulated,
        reused,
        digest,
    })
}

/// The interval at which the static policy makes most, of those a factor of two apart around Young's for all losses that
/// there were, and its iterations.
fn best_checkpoint(
    engine: &mut Engine<'_>,
    setup: &Setup,
    runs: &[(String, Trajectory)],
    known: &mut book::Known,
) -> Option<(u64, u64)> {
    let run = &runs.first()?.1;
    let cost = run.checkpointing.checked_div(run.checkpoints)?;
    let middle = job::young(cost, setup.until - setup.start, run.losses.len() as u64);
    let mut best: Option<(u64, u64)> = None;
    for ns in [middle / 4, middle / 2, middle, middle.saturating_mul(2), middle.saturating_mul(4)] {
        let setup = Setup { checkpoints: Checkpoints::Every(ns.max(1)), ..*setup };
        let mut kept = policy("static", &engine.world.frame.scenario.replay.options)?;
        let done = engine.run(kept.as_mut(), &setup, known).iterations;
        if best.is_none_or(|b| done > b.1) {
            best = Some((ns.max(1), done));
        }
    }
    best
}
