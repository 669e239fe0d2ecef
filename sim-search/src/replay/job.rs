//! A job run through a trace: iterations one after another, each simulated or reused, with what comes between them.
//!
//! ```text
//!   decide -> switch -> | iteration | iteration | ... | checkpoint | iteration x node lost -> back to the checkpoint
//! ```
//!
//! Plans change only between iterations. An iteration that a lost node cuts off is lost, and so is what was done since the
//! last checkpoint. While nothing that an iteration used changes, it repeats, and the repeats are counted, not run.

use super::book::{Book, Known, Searches};
use super::jitter::Jitter;
use super::past::Past;
use super::plans::{PlanId, Plans, Ran};
use super::policy::Policy;
use super::switch;
use super::world::World;
use sim_core::{Digest, Network, TaskGraph};
use sim_models::timeline::NS_PER_S;
use std::collections::BTreeMap;

/// When checkpoints are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoints {
    /// Never: a lost node costs everything.
    Never,
    /// At this interval, ns.
    Every(u64),
    /// At the interval of Young's formula, from the cost of the last one and the losses seen so far, with an hour without
    /// one to begin with (CACM 17(9), 1974).
    Young,
}

/// What a run goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) start: u64,
    pub(crate) until: u64,
    /// It ends sooner once so many iterations count.
    pub(crate) iterations: u64,
    pub(crate) checkpoints: Checkpoints,
    /// Seed of the jitter, if there is any.
    pub(crate) jitter: Option<u64>,
    pub(crate) switch_cost: u64,
    pub(crate) overlap: bool,
}

/// Equal iterations one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Start of the first, ns.
    pub start: u64,
    /// Length of one, ns.
    pub length: u64,
    /// How many.
    pub count: u64,
    /// The plan.
    pub plan: PlanId,
}

/// One switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// When it was decided, ns.
    pub at: u64,
    /// From this plan.
    pub from: PlanId,
    /// To this one.
    pub to: PlanId,
    /// How long training stood still for it, ns.
    pub cost: u64,
    /// What moved, bytes.
    pub bytes: u64,
}

/// What became of a job.
#[derive(Clone, Debug, Default)]
pub struct Trajectory {
    /// Iterations that count: done, and not lost.
    pub iterations: u64,
    /// Iterations that were done and lost.
    pub lost: u64,
    /// Equal iterations, in order; those lost are among them.
    pub spans: Vec<Span>,
    /// (ns, iterations that count from then on) at each loss.
    pub losses: Vec<(u64, u64)>,
    /// Switches.
    pub switches: Vec<Switch>,
    /// Training stood still for switches, ns.
    pub switching: u64,
    /// For restarts after a loss, and for nodes that came back, ns.
    pub restarting: u64,
    /// For checkpoints, ns.
    pub checkpointing: u64,
    /// Because no pipeline was whole, or no plan ran, ns.
    pub waiting: u64,
    /// In iterations that were cut off, ns.
    pub unfinished: u64,
    /// Since when nothing moves, and never will.
    pub stalled: Option<u64>,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// The longest iteration, ns.
    pub longest: u64,
    /// Over (start, plan, iteration) of each iteration.
    pub digest: Digest,
}

/// What all runs of one world share: functions of what they are asked, so no run tells another anything.
pub(crate) struct Engine<'w> {
    pub(crate) world: &'w World,
    pub(crate) plans: Plans,
    pub(crate) searches: Searches,
    base: u64,
    net: Network,
    checkpoints: BTreeMap<usize, TaskGraph>,
}

impl<'w> Engine<'w> {
    pub(crate) fn new(world: &'w World, memoise: bool, threads: usize) -> Engine<'w> {
        let searches = Searches::new(threads);
        let (plans, net) = (Plans::new(memoise), world.network(0));
        Engine { world, plans, searches, base: 0, net, checkpoints: BTreeMap::new() }
    }

    pub(crate) fn book<'a>(&'a mut self, known: &'a mut Known) -> Book<'a> {
        Book::new(&self.world.frame, &mut self.plans, &mut self.searches, known)
    }

    /// The network whose clock reaches `now`.
    fn seek(&mut self, now: u64) {
        let base = World::base(now);
        if base != self.base {
            self.base = base;
            self.net = self.world.network(base);
        }
    }

    /// Runs the job. What the policy found is added to `known`.
    pub(crate) fn run(&mut self, policy: &mut dyn Policy, setup: &Setup, known: &mut Known) -> Trajectory {
        let past = Past::new(self.world, setup.start, setup.start);
        let first = policy.first(&past, &mut self.book(known));
        let mut run = Run {
            now: setup.start,
            out: Trajectory::default(),
            holder: None,
            paid: true,
            since: 0,
            checkpointed: setup.start,
            interval: interval_at_first(setup.checkpoints),
            losses: 0,
            jitter: setup.jitter.map(Jitter::new),
            scene: None,
        };
        // Where none ends, the job starts with one all the same, and stalls or waits.
        let Some(mut current) = first.or_else(|| known.plans.first().copied()) else {
            run.out.waiting = setup.until.saturating_sub(setup.start);
            return run.out;
        };
        let mut pending: Option<Pending> = None;
        let mut decided = setup.start;
        let on_nodes = policy.on_nodes() && self.world.nodes_change();
        let world = self.world;
        let next_nodes = |at: u64| if on_nodes { world.next_change_of_nodes(at) } else { None };
        let mut nodes_since = next_nodes(decided);
        while run.now < setup.until && run.out.iterations < setup.iterations {
            self.seek(run.now);
            if pending.as_ref().is_some_and(|p| p.ready <= run.now) {
                if let Some(p) = pending.take() {
                    self.arrive(&mut run, setup, &mut current, p);
                }
                continue;
            }
            let due = policy.next(setup.start, decided).is_some_and(|at| at <= run.now)
                || nodes_since.is_some_and(|at| at <= run.now);
            if due && pending.is_none() {
                decided = run.now;
                nodes_since = next_nodes(decided);
                let past = Past::new(self.world, setup.start, run.now);
                let next = policy.decide(&past, current, &mut self.book(known));
                if next != current {
                    pending = self.depart(&mut run, setup, &mut current, next);
                    continue;
                }
            }
            let node_change = if on_nodes { Some(self.scene(&mut run, current).nodes) } else { None };
            let decision = policy.next(setup.start, decided).filter(|at| *at > run.now);
            let events = [node_change, decision, pending.as_ref().map(|p| p.ready)];
            let stop = events.into_iter().flatten().min().unwrap_or(u64::MAX);
            self.step(&mut run, setup, current, stop);
        }
        run.out
    }

    /// Leaves for another plan; with overlap it arrives later.
    fn depart(
        &mut self,
        run: &mut Run,
        setup: &Setup,
        current: &mut PlanId,
        next: PlanId,
    ) -> Option<Pending> {
        let down = self.world.down(run.now);
        let latencies = self.world.latencies(run.now);
        let world = self.world;
        let new = self.plans.variant(&world.frame, next, &down, &latencies);
        let Some(new) = new else {
            // It cannot run now: the job waits with it.
            *current = next;
            return None;
        };
        let (moving, bytes) = self.moving(run, new, &down, setup.until);
        let Some(moving) = moving else {
            // It would not be over before the replay is.
            let cost = setup.until - run.now;
            run.out.switches.push(Switch { at: run.now, from: *current, to: next, cost, bytes });
            run.out.switching += cost;
            run.now = setup.until;
            return None;
        };
        let pending = Pending { at: run.now, ready: run.now + moving, from: *current, to: next, new, bytes };
        if setup.overlap {
            return Some(pending);
        }
        self.arrive(run, setup, current, pending);
        None
    }

    /// The switch is made: training stands still for what is left of it.
    fn arrive(&mut self, run: &mut Run, setup: &Setup, current: &mut PlanId, p: Pending) {
        let cost = (p.ready.max(run.now) - run.now).saturating_add(setup.switch_cost);
        let whole = cost;
        let cost = cost.min(setup.until - run.now);
        let nodes = self.plans.of_variant(p.new).nodes.clone();
        run.out.switches.push(Switch { at: p.at, from: p.from, to: p.to, cost, bytes: p.bytes });
        run.out.switching += cost;
        *current = p.to;
        let loss = if self.world.nodes_change() { self.world.next_loss(run.now, &nodes) } else { None };
        if let Some(loss) = loss.filter(|l| *l < run.now + whole && *l < setup.until) {
            run.out.switching -= cost - (loss - run.now);
            run.now = loss;
            run.lose(setup);
            return;
        }
        run.now += cost;
        (run.holder, run.paid) = (Some(p.new), false);
    }

    /// Time and bytes of what must move for `new` to run.
    fn moving(
        &mut self,
        run: &Run,
        new: usize,
        down: &[sim_models::scenario::NodeId],
        until: u64,
    ) -> (Option<u64>, u64) {
        let frame = &self.world.frame;
        let rejoining = run.holder.and_then(|holder| {
            let (old, new) = (self.plans.of_variant(holder), self.plans.of_variant(new));
            let back: Vec<u32> = old.broken.iter().copied().filter(|b| !new.broken.contains(b)).collect();
            if old.of == new.of {
                switch::rejoining(self.plans.lines(new.of), &back, &new.broken)
            } else {
                None
            }
        });
        let moves = rejoining.unwrap_or_else(|| {
            let old = run.holder.and_then(|h| self.plans.laid_out(frame, h));
            let new = self.plans.laid_out(frame, new);
            new.map_or_else(switch::Moves::default, |new| {
                switch::moves(&frame.scenario, old.as_ref(), &new, down)
            })
        });
        let graph = switch::graph(&frame.scenario, &frame.fabric, &moves);
        (self.plans.move_bytes(&graph, &self.net, self.base, run.now, until), moves.bytes())
    }

    /// One iteration, or as many equal ones as come before `stop`; or what comes in place of one.
    fn step(&mut self, run: &mut Run, setup: &Setup, current: PlanId, stop: u64) {
        let world = self.world;
        let scene = self.scene(run, current);
        let Some(at) = scene.variant else {
            let until = scene.change.min(stop).min(setup.until);
            run.out.waiting += until - run.now;
            (run.now, run.paid) = (until, false);
            return;
        };
        if self.rejoin(run, setup, at) {
            return;
        }
        let loss = scene.loss;
        if run.now >= run.checkpointed.saturating_add(run.interval) && run.since > 0 {
            self.checkpoint(run, setup, at, loss);
            return;
        }
        let limit = setup.until.min(loss);
        let footprint = match self.plans.run(world, at, &self.net, self.base, run.now, limit) {
            Ran::Done(footprint) => footprint,
            Ran::Unfinished { stalled } => return run.cut(setup, limit, loss, stalled),
        };
        let length = match &mut run.jitter {
            Some(jitter) => jitter.stretch(footprint.ns()).max(1),
            None => footprint.ns(),
        };
        if run.now.saturating_add(length) > limit {
            return run.cut(setup, limit, loss, false);
        }
        let mut count = 1;
        if self.plans.memoise && run.jitter.is_none() {
            let channels = self.plans.channels(at);
            let lines = channels.iter().map(|c| &world.channels()[*c as usize].line);
            let quiet = lines.filter_map(|l| l.next_change(run.now)).min();
            let checkpoint = run.checkpointed.saturating_add(run.interval);
            // Starts must lie before these, and the end before a change or at the limit.
            let event = scene.until.min(stop).min(checkpoint.max(run.now + 1));
            let starts = (event - run.now).div_ceil(length);
            let ends = quiet.map_or(u64::MAX, |q| (q - 1 - run.now) / length).min((limit - run.now) / length);
            count = starts.min(ends).min(setup.iterations - run.out.iterations).max(1);
        }
        let plan = self.plans.of_variant(at).digest.as_u128() as u64;
        for i in 0..count {
            run.out.digest.add(run.now + i * length, plan);
            run.out.digest.add_digest(footprint.digest);
        }
        match run.out.spans.last_mut() {
            Some(last)
                if last.plan == current
                    && last.length == length
                    && last.start + last.count * length == run.now =>
            {
                last.count += count;
            }
            _ => run.out.spans.push(Span { start: run.now, length, count, plan: current }),
        }
        run.out.longest = run.out.longest.max(length);
        run.out.iterations += count;
        run.since += count;
        run.now += count * length;
        (run.holder, run.paid) = (Some(at), false);
    }

    /// The scene now, looked up when something in it changed.
    fn scene(&mut self, run: &mut Run, plan: PlanId) -> Scene {
        if let Some(scene) = run.scene.filter(|s| s.plan == plan && (s.from..s.until).contains(&run.now)) {
            return scene;
        }
        let (world, from) = (self.world, run.now);
        let (down, latencies) = (world.down(from), world.latencies(from));
        let variant = self.plans.variant(&world.frame, plan, &down, &latencies);
        let never = |at: Option<u64>| at.unwrap_or(u64::MAX);
        let (mut loss, mut change, mut nodes) = (u64::MAX, u64::MAX, u64::MAX);
        if world.nodes_change() {
            loss = never(variant.and_then(|v| world.next_loss(from, &self.plans.of_variant(v).nodes)));
            change = never(world.next_coming_or_going(from, self.plans.nodes(plan)));
            nodes = never(world.next_change_of_nodes(from));
        }
        let until = nodes.min(never(world.next_latency(from)));
        let scene = Scene { plan, from, until, variant, loss, change, nodes };
        run.scene = Some(scene);
        scene
    }

    /// What runs of a plan changed: nodes came back, or went without being used. Gives whether time passed.
    fn rejoin(&mut self, run: &mut Run, setup: &Setup, at: usize) -> bool {
        let same = run
            .holder
            .is_none_or(|h| h == at || self.plans.of_variant(h).digest == self.plans.of_variant(at).digest);
        if same {
            return false;
        }
        let down = self.world.down(run.now);
        let moving = self.moving(run, at, &down, setup.until).0.unwrap_or(u64::MAX);
        let fixed = if run.paid { 0 } else { setup.switch_cost };
        let cost = moving.saturating_add(fixed).min(setup.until - run.now);
        run.out.restarting += cost;
        run.now += cost;
        (run.holder, run.paid) = (Some(at), false);
        cost > 0
    }

    fn checkpoint(&mut self, run: &mut Run, setup: &Setup, at: usize, loss: u64) {
        let frame = &self.world.frame;
        if !self.checkpoints.contains_key(&at) {
            let laid_out = self.plans.laid_out(frame, at);
            let bytes = laid_out.map(|of| switch::checkpoint(&frame.scenario, &of)).unwrap_or_default();
            let graph = switch::checkpoint_graph(&frame.scenario, &frame.fabric, &bytes);
            self.checkpoints.insert(at, graph);
        }
        let limit = setup.until.min(loss);
        let cost = self.plans.move_bytes(&self.checkpoints[&at], &self.net, self.base, run.now, limit);
        let Some(cost) = cost.filter(|c| run.now + c <= limit) else {
            run.out.checkpointing += limit - run.now;
            run.now = limit;
            if loss <= setup.until {
                run.lose(setup);
            }
            return;
        };
        run.out.checkpointing += cost;
        run.out.checkpoints += 1;
        run.now += cost;
        (run.checkpointed, run.since) = (run.now, 0);
        if setup.checkpoints == Checkpoints::Young {
            run.interval = young(cost, run.now - setup.start, run.losses);
        }
    }
}

/// Time without a loss that is taken to have been before the replay began.
const BEFORE: u64 = 3_600 * NS_PER_S;

/// sqrt(2 x cost x mean time between losses), whole ns.
pub(crate) fn young(cost: u64, elapsed: u64, losses: u64) -> u64 {
    let between = (u128::from(elapsed) + u128::from(BEFORE)) / u128::from(losses + 1);
    u64::try_from((2 * u128::from(cost.max(1)) * between).isqrt()).unwrap_or(u64::MAX).max(1)
}

fn interval_at_first(checkpoints: Checkpoints) -> u64 {
    match checkpoints {
        Checkpoints::Never => u64::MAX,
        Checkpoints::Every(ns) => ns,
        // The cost is not known before the first one.
        Checkpoints::Young => 60 * NS_PER_S,
    }
}

/// A switch whose state is on its way.
struct Pending {
    at: u64,
    ready: u64,
    from: PlanId,
    to: PlanId,
    new: usize,
    bytes: u64,
}

/// A run under way.
struct Run {
    now: u64,
    out: Trajectory,
    /// What ran last: its devices hold the state.
    holder: Option<usize>,
    /// Whether the fixed part of the next change was paid.
    paid: bool,
    /// Iterations since the last checkpoint.
    since: u64,
    checkpointed: u64,
    interval: u64,
    losses: u64,
    jitter: Option<Jitter>,
    scene: Option<Scene>,
}

/// Who is there, and what runs of a plan, for as long as that stays.
#[derive(Clone, Copy)]
struct Scene {
    plan: PlanId,
    from: u64,
    /// Until a node or a latency changes.
    until: u64,
    /// What runs.
    variant: Option<usize>,
    /// When a node of what runs goes.
    loss: u64,
    /// When a node of the plan comes or goes.
    change: u64,
    /// When any node comes or goes.
    nodes: u64,
}

impl Run {
    /// An iteration that does not end by `limit`.
    fn cut(&mut self, setup: &Setup, limit: u64, loss: u64, stalled: bool) {
        if stalled && self.out.stalled.is_none() && loss > setup.until {
            self.out.stalled = Some(self.now);
        }
        self.out.unfinished += limit - self.now;
        self.now = limit;
        if loss <= setup.until && limit == loss {
            self.lose(setup);
        }
    }

    /// A node of the plan is gone: back to the last checkpoint, and a restart.
    fn lose(&mut self, setup: &Setup) {
        self.out.iterations -= self.since;
        self.out.lost += self.since;
        self.losses += 1;
        self.out.losses.push((self.now, self.out.iterations));
        let restart = setup.switch_cost.min(setup.until - self.now);
        self.out.restarting += restart;
        self.now += restart;
        (self.since, self.checkpointed, self.paid) = (0, self.now, true);
    }
}
