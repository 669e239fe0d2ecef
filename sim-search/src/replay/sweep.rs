//! What if a link were faster or slower: which plan is best at which bandwidth, and where one overtakes another.

use super::book::{Book, Known, Searches};
use super::plans::{PlanId, Plans};
use super::world::{Of, State, World};
use sim_models::plan::Plan;
use sim_models::scenario::Scenario;
use sim_models::timeline::Timeline;

/// The best plan at one bandwidth.
#[derive(Clone, Debug)]
pub struct Point {
    /// Factor on the link's level.
    pub scale: f64,
    /// Bandwidth, bytes/s.
    pub bytes_per_s: f64,
    /// The best plan, an index into [`Sweep::plans`]; `None` when none ends.
    pub best: Option<usize>,
    /// Iteration of each plan, s; `None` when it does not end.
    pub times_s: Vec<Option<f64>>,
}

/// Where one plan overtakes another: below, `slower` is best; above, `faster`.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakEven {
    /// Best below, an index into [`Sweep::plans`].
    pub below: usize,
    /// Best above.
    pub above: usize,
    /// Bandwidth between which they change, bytes/s: within 1 % of each other.
    pub bytes_per_s: (f64, f64),
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The link.
    pub link: String,
    /// Its level, bytes/s: at the start of the replay.
    pub level: f64,
    /// Plans that are best somewhere.
    pub plans: Vec<Plan>,
    /// From the slowest to the fastest.
    pub points: Vec<Point>,
    /// Where the best plan changes, from the slowest on.
    pub break_even: Vec<BreakEven>,
}

/// Points of a sweep.
const POINTS: usize = 33;

/// Sweeps the link from `from` to `to` times its level at `start`; `None` when there is no such link.
pub fn sweep(
    scenario: &Scenario,
    link: &str,
    (from, to): (f64, f64),
    start: u64,
    threads: usize,
) -> Option<Sweep> {
    let index = scenario.zone_links.iter().position(|l| l.name == link)?;
    let mut swept = scenario.clone();
    // A channel it must be, whether it changes or not.
    let line = &mut swept.replay.links.get_mut(index)?.capacity;
    let level = line.at(start);
    *line = Timeline::steps(vec![(0, level), (start.saturating_add(1), level.saturating_add(1))]).ok()?;
    swept.replay.options.max_plans = swept.replay.options.max_plans.max(POINTS as u32);
    let world = World::new(&swept);
    let channel = world.channels().iter().position(|c| c.of == Of::Link(index))?;
    let (mut plans, mut searches) = (Plans::new(true), Searches::new(threads));
    let mut known = Known::default();
    let mut book = Book::new(&world.frame, &mut plans, &mut searches, &mut known);
    let base = world.at(start);
    let state = |rate: f64| {
        let mut state: State = base.clone();
        state.rates[channel] = rate.clamp(1.0, 1.8e19) as u64;
        state
    };
    let scale = |i: usize| from * libm::pow(to / from, i as f64 / (POINTS - 1) as f64);
    let rates: Vec<f64> = (0..POINTS).map(|i| level as f64 * scale(i)).collect();
    // Every plan first, so that each point is judged over all of them.
    for rate in &rates {
        book.candidates(&state(*rate));
    }
    let all = book.candidates(&base);
    let best: Vec<Option<PlanId>> =
        rates.iter().map(|r| book.best_of(&all, &state(*r)).map(|(plan, _)| plan)).collect();
    let mut used: Vec<PlanId> = Vec::new();
    let mut break_even = Vec::new();
    for plan in best.iter().flatten() {
        if !used.contains(plan) {
            used.push(*plan);
        }
    }
    for i in 1..POINTS {
        let (mut low, mut high) = (rates[i - 1], rates[i]);
        let (Some(mut below), Some(mut above)) = (best[i - 1], best[i]) else { continue };
        // More than one change may lie between: each is found from below.
        while below != above {
            let (a, top) = (below, high);
            while high > low * 1.01 {
                let middle = (low * high).sqrt();
                match book.best_of(&all, &state(middle)).map(|(plan, _)| plan) {
                    Some(plan) if plan == a => low = middle,
                    other => {
                        high = middle;
                        above = other.unwrap_or(above);
                    }
                }
            }
            for plan in [a, above] {
                if !used.contains(&plan) {
                    used.push(plan);
                }
            }
            let place = |plan| used.iter().position(|p| *p == plan).unwrap_or(0);
            const UNIT: f64 = 65_536.0;
            break_even.push(BreakEven {
                below: place(a),
                above: place(above),
                bytes_per_s: (low / UNIT, high / UNIT),
            });
            (below, low, high) = (above, high, top);
            above = best[i].unwrap_or(below);
            if high <= low * 1.01 {
                break;
            }
        }
    }
    let mut points = Vec::new();
    for (i, rate) in rates.iter().enumerate() {
        let times = used.iter().map(|p| book.time(*p, &state(*rate)).map(|ns| ns as f64 / 1e9)).collect();
        points.push(Point {
            scale: scale(i),
            bytes_per_s: rate / 65_536.0,
            best: best[i].and_then(|b| used.iter().position(|p| *p == b)),
            times_s: times,
        });
    }
    let plans = used.iter().map(|p| plans.plan(*p).clone()).collect();
    Some(Sweep { link: link.into(), level: level as f64 / 65_536.0, plans, points, break_even })
}
