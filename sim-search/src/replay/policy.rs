//! Policies: which plan runs from now on. They see a [`Past`] and a [`Book`] and nothing else.

use super::book::{Book, rounded};
use super::past::Past;
use super::plans::PlanId;
use super::world::State;
use sim_models::replay::{Forecast, ReplayOptions};

/// What decides.
///
/// Laws: the answers are functions of what was seen so far, in `Past` and in earlier calls; equal pasts give equal answers.
pub trait Policy {
    /// Its name in results.
    fn name(&self) -> &str;

    /// The plan to start with; `None` when none is known to run.
    fn first(&mut self, past: &Past<'_>, book: &mut Book<'_>) -> Option<PlanId>;

    /// The next instant after `now` at which it wants to decide, of a replay that began at `start`.
    fn next(&self, start: u64, now: u64) -> Option<u64>;

    /// Whether it also decides when nodes come or go.
    fn on_nodes(&self) -> bool {
        false
    }

    /// The plan from now on; the current one to stay.
    fn decide(&mut self, past: &Past<'_>, current: PlanId, book: &mut Book<'_>) -> PlanId;
}

/// The names of all policies, in the order of results.
pub const POLICIES: [(&str, &str); 7] = [
    ("static", "the plan found for the state at the start, kept"),
    ("mean", "the plan found for the mean of the history, kept"),
    ("robust", "the plan with the least mean time over the windows of the history, kept"),
    ("reactive", "the best plan for the state now, when it is faster by a threshold several times in a row"),
    ("periodic", "the best plan for the state now, at fixed intervals"),
    ("forecast", "the best plan for the state expected, when it pays the switch back within its horizon"),
    (
        "oracle",
        "the best of a dynamic program over all plans that knows the trace, and of every other policy",
    ),
];

/// The policy of this name, but for the oracle, which is no policy of its own.
pub fn policy(name: &str, options: &ReplayOptions) -> Option<Box<dyn Policy>> {
    Some(match name {
        "static" => Box::new(Kept(Basis::Start)),
        "mean" => Box::new(Kept(Basis::Mean)),
        "robust" => Box::new(Kept(Basis::Robust(options.window))),
        "reactive" => Box::new(Reactive {
            every: options.decide_every,
            threshold: options.threshold,
            hysteresis: options.hysteresis,
            streak: 0,
        }),
        "periodic" => Box::new(Periodic { every: options.period }),
        "forecast" => Box::new(Forecaster {
            every: options.decide_every,
            window: options.window,
            how: options.forecast,
        }),
        _ => return None,
    })
}

enum Basis {
    Start,
    Mean,
    Robust(u64),
}

/// A plan chosen once.
struct Kept(Basis);

impl Policy for Kept {
    fn name(&self) -> &str {
        match self.0 {
            Basis::Start => "static",
            Basis::Mean => "mean",
            Basis::Robust(_) => "robust",
        }
    }

    fn first(&mut self, past: &Past<'_>, book: &mut Book<'_>) -> Option<PlanId> {
        let start = past.state();
        let windows = match self.0 {
            Basis::Start => Vec::new(),
            Basis::Mean => past.history(u64::MAX),
            Basis::Robust(window) => past.history(window),
        };
        if windows.is_empty() {
            return book.best(&start).map(|(plan, _)| plan);
        }
        let mut candidates = book.candidates(&start);
        for window in &windows {
            candidates = book.candidates(window);
        }
        // What never ends counts as longer than any that do.
        let cost = |book: &mut Book<'_>, plan: PlanId| -> Option<u128> {
            book.time(plan, &start)?;
            let times = windows.iter().map(|w| book.time(plan, w).map_or(1u128 << 70, u128::from));
            Some(times.sum())
        };
        candidates.into_iter().filter_map(|p| cost(book, p).map(|c| (c, p))).min().map(|(_, plan)| plan)
    }

    fn next(&self, _: u64, _: u64) -> Option<u64> {
        None
    }

    fn decide(&mut self, _: &Past<'_>, current: PlanId, _: &mut Book<'_>) -> PlanId {
        current
    }
}

/// The state as policies judge it: rates to 3 %, so that like states are judged once.
fn seen(state: State) -> State {
    State { rates: state.rates.iter().map(|r| rounded(*r, 6)).collect(), ..state }
}

/// The first instant of the grid after `now`.
fn grid(start: u64, now: u64, every: u64) -> Option<u64> {
    ((now - start) / every.max(1) + 1).checked_mul(every.max(1))?.checked_add(start)
}

struct Reactive {
    every: u64,
    threshold: f64,
    hysteresis: u32,
    streak: u32,
}

impl Policy for Reactive {
    fn name(&self) -> &str {
        "reactive"
    }

    fn first(&mut self, past: &Past<'_>, book: &mut Book<'_>) -> Option<PlanId> {
        book.best(&past.state()).map(|(plan, _)| plan)
    }

    fn next(&self, start: u64, now: u64) -> Option<u64> {
        if self.threshold.is_infinite() { None } else { grid(start, now, self.every) }
    }

    fn on_nodes(&self) -> bool {
        !self.threshold.is_infinite()
    }

    fn decide(&mut self, past: &Past<'_>, current: PlanId, book: &mut Book<'_>) -> PlanId {
        let state = seen(past.state());
        let Some((best, time)) = book.best(&state) else { return current };
        let now = book.time(current, &state);
        let faster = match now {
            Some(now) => now as f64 > time as f64 * (1.0 + self.threshold),
            // Nothing runs: any plan that does is faster by more than any threshold.
            None => true,
        };
        self.streak = if faster && best != current { self.streak + 1 } else { 0 };
        if self.streak > 0 && (self.streak >= self.hysteresis || now.is_none()) {
            self.streak = 0;
            return best;
        }
        current
    }
}

struct Periodic {
    every: u64,
}

impl Policy for Periodic {
    fn name(&self) -> &str {
        "periodic"
    }

    fn first(&mut self, past: &Past<'_>, book: &mut Book<'_>) -> Option<PlanId> {
        book.best(&past.state()).map(|(plan, _)| plan)
    }

    fn next(&self, start: u64, now: u64) -> Option<u64> {
        grid(start, now, self.every)
    }

    fn decide(&mut self, past: &Past<'_>, current: PlanId, book: &mut Book<'_>) -> PlanId {
        let state = seen(past.state());
        match (book.best(&state), book.time(current, &state)) {
            (Some((best, time)), Some(now)) if time < now => best,
            (Some((best, _)), None) => best,
            _ => current,
        }
    }
}

struct Forecaster {
    every: u64,
    window: u64,
    how: Forecast,
}

/// Points that an autoregression is fitted to.
const SAMPLES: u64 = 32;

impl Forecaster {
    fn expected(&self, past: &Past<'_>) -> State {
        let now = past.state();
        let rates = match self.how {
            Forecast::Last => now.rates.clone(),
            Forecast::Average => past.mean(self.window).rates,
            Forecast::Ar1 => (0..past.channels()).map(|c| self.regressed(past, c)).collect(),
        };
        State { rates, ..now }
    }

    /// The mean over the horizon of a first-order autoregression fitted to the window by least squares.
    fn regressed(&self, past: &Past<'_>, channel: usize) -> u64 {
        let step = (self.window / SAMPLES).max(1);
        let first = past.now().saturating_sub(step * SAMPLES);
        let count = (past.now() - first) / step + 1;
        let at = |i: u64| past.rate(channel, past.now() - (count - 1 - i) * step) as f64;
        let values: Vec<f64> = (0..count).map(at).collect();
        let mean = values.iter().sum::<f64>() / count as f64;
        let (mut xx, mut xy) = (0.0, 0.0);
        for pair in values.windows(2) {
            xx += (pair[0] - mean) * (pair[0] - mean);
            xy += (pair[0] - mean) * (pair[1] - mean);
        }
        let phi = if xx > 0.0 { (xy / xx).clamp(0.0, 0.999) } else { 0.0 };
        let steps = (self.every / step).clamp(1, 4 * SAMPLES);
        let (mut deviation, mut sum) = (values[values.len() - 1] - mean, 0.0);
        for _ in 0..steps {
            deviation *= phi;
            sum += mean + deviation;
        }
        (sum / steps as f64).max(0.0) as u64
    }
}

impl Policy for Forecaster {
    fn name(&self) -> &str {
        "forecast"
    }

    fn first(&mut self, past: &Past<'_>, book: &mut Book<'_>) -> Option<PlanId> {
        book.best(&past.state()).map(|(plan, _)| plan)
    }

    fn next(&self, start: u64, now: u64) -> Option<u64> {
        grid(start, now, self.every)
    }

    fn on_nodes(&self) -> bool {
        true
    }

    fn decide(&mut self, past: &Past<'_>, current: PlanId, book: &mut Book<'_>) -> PlanId {
        let state = seen(self.expected(past));
        // What a switch costs is seen; that things stay so for a window is what it is paid back over.
        let horizon = self.window.max(self.every);
        let Some(now) = book.time(current, &state) else {
            return book.best(&state).map_or(current, |(plan, _)| plan);
        };
        let mut best = (horizon as f64 / now as f64, current);
        for plan in book.candidates(&state) {
            let Some(time) = book.time(plan, &state).filter(|t| *t < now) else { continue };
            let Some(cost) = book.switch_time(current, plan, &state) else { continue };
            let iterations = horizon.saturating_sub(cost) as f64 / time as f64;
            if iterations > best.0 {
                best = (iterations, plan);
            }
        }
        best.1
    }
}

/// A plan for each instant of a list, the first from the start on. The oracle's: no policy that sees only the past makes one.
pub(super) struct Scheduled {
    pub(super) name: String,
    pub(super) plans: Vec<(u64, PlanId)>,
}

impl Scheduled {
    fn at(&self, now: u64) -> Option<PlanId> {
        self.plans.iter().rfind(|p| p.0 <= now).or(self.plans.first()).map(|p| p.1)
    }
}

impl Policy for Scheduled {
    fn name(&self) -> &str {
        &self.name
    }

    fn first(&mut self, past: &Past<'_>, _: &mut Book<'_>) -> Option<PlanId> {
        self.at(past.now())
    }

    fn next(&self, _: u64, now: u64) -> Option<u64> {
        self.plans.iter().map(|p| p.0).find(|at| *at > now)
    }

    fn decide(&mut self, past: &Past<'_>, current: PlanId, _: &mut Book<'_>) -> PlanId {
        self.at(past.now()).unwrap_or(current)
    }
}
