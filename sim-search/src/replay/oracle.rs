//! The best that hindsight allows, and the most that anything could: a dynamic program over every plan that any policy
//! found, and a bound without switching costs.

use super::book::{Book, rounded};
use super::plans::PlanId;
use super::world::{State, World};
use std::collections::BTreeSet;

/// Most cells of the dynamic program; a longer replay has longer ones.
const MOST_CELLS: u64 = 4_096;
/// Most plans in it: those that are the best of some cell, the most often so first.
const MOST_PLANS: usize = 12;
/// Most simulations that the bound costs, roughly.
const BOUND_SIMULATIONS: u64 = 3_000;

/// Where cells begin: the grid, and where nodes come or go.
fn cells(world: &World, start: u64, until: u64, every: u64) -> Vec<u64> {
    let step = every.max((until - start) / MOST_CELLS).max(1);
    let mut at: BTreeSet<u64> = (0..(until - start).div_ceil(step)).map(|i| start + i * step).collect();
    let mut now = start;
    while let Some(next) = world.next_change_of_nodes(now).filter(|n| *n < until) {
        if at.len() as u64 > 2 * MOST_CELLS {
            break;
        }
        at.insert(next);
        now = next;
    }
    at.into_iter().collect()
}

/// For each cell its length and state, rates rounded so that like cells are judged once.
fn states(world: &World, at: &[u64], until: u64) -> Vec<(u64, State)> {
    let ends = at.iter().skip(1).copied().chain([until]);
    let state = |(from, to): (&u64, u64)| {
        let mean = world.mean(*from, to);
        let rates = mean.rates.iter().map(|r| rounded(*r, 6)).collect();
        let State { latencies, down, .. } = world.at(*from);
        (to - from, State { rates, latencies, down })
    };
    at.iter().zip(ends).map(state).collect()
}

/// The plan for each stretch of time that makes most tokens, by the still world's times and switching costs; and the one
/// plan that makes most when kept.
pub(super) fn schedules(
    world: &World,
    book: &mut Book<'_>,
    plans: &[PlanId],
    (start, until, every): (u64, u64, u64),
) -> Vec<Vec<(u64, PlanId)>> {
    let at = cells(world, start, until, every);
    let cells = states(world, &at, until);
    // Iterations of each plan in each cell.
    let mut done = vec![vec![0.0f64; cells.len()]; plans.len()];
    let mut wins = vec![0usize; plans.len()];
    for (c, (length, state)) in cells.iter().enumerate() {
        let mut best: Option<(u64, usize)> = None;
        for (p, plan) in plans.iter().enumerate() {
            if let Some(time) = book.time(*plan, state) {
                done[p][c] = *length as f64 / time as f64;
                best = Some(best.map_or((time, p), |b| b.min((time, p))));
            }
        }
        if let Some((_, p)) = best {
            wins[p] += 1;
        }
    }
    let total = |p: usize| done[p].iter().sum::<f64>();
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by(|a, b| total(*b).total_cmp(&total(*a)).then(a.cmp(b)));
    let Some(&kept) = order.first() else { return Vec::new() };
    // The best when kept, then those that win somewhere.
    let mut chosen = vec![kept];
    let mut winners: Vec<usize> = (0..plans.len()).filter(|p| wins[*p] > 0 && *p != kept).collect();
    winners.sort_by_key(|p| (std::cmp::Reverse(wins[*p]), *p));
    chosen.extend(winners.into_iter().take(MOST_PLANS - 1));

    let n = chosen.len();
    let mut value: Vec<f64> = chosen.iter().map(|p| done[*p][0]).collect();
    let mut from = vec![vec![0usize; n]; cells.len()];
    for c in 1..cells.len() {
        let (length, state) = &cells[c];
        let mut next = vec![f64::NEG_INFINITY; n];
        for q in 0..n {
            let here = done[chosen[q]][c];
            for p in 0..n {
                let gain = if p == q {
                    here
                } else if value[p] + here <= next[q] {
                    // No cost can make this better than what is found.
                    continue;
                } else {
                    match book.switch_time(plans[chosen[p]], plans[chosen[q]], state) {
                        Some(cost) => here - cost as f64 * here / *length as f64,
                        None => continue,
                    }
                };
                if value[p] + gain > next[q] {
                    next[q] = value[p] + gain;
                    from[c][q] = p;
                }
            }
        }
        value = next;
    }
    let mut last = (0..n).fold(0, |best, p| if value[p] > value[best] { p } else { best });
    let mut schedule = Vec::new();
    for c in (0..cells.len()).rev() {
        schedule.push((at[c], plans[chosen[last]]));
        last = from[c][last];
    }
    schedule.reverse();
    schedule.dedup_by_key(|s| s.1);
    vec![schedule, vec![(start, plans[kept])]]
}

/// The most iterations, in 2^-20ths rounded up: at each instant the fastest that any plan could be going, at the best rates,
/// least latencies and any set of nodes within `reach` (the longest iteration) of it, with no time between iterations.
///
/// An iteration that is under way at an instant began and ends within `reach` of it, so it found rates no better than
/// those; what it gains on an average instant is no more than it is given here. That faster links make no iteration longer
/// is assumed (sharing has exceptions in theory), and tested.
pub(super) fn bound(
    world: &World,
    book: &mut Book<'_>,
    plans: &[PlanId],
    (start, until): (u64, u64),
    reach: u64,
    least_jitter: Option<u64>,
) -> u128 {
    let channels = world.channels().len() as u64;
    let most = if channels <= 2 { 16_384 } else { (BOUND_SIMULATIONS / plans.len().max(1) as u64).max(32) };
    let step = ((until - start) / most).max(1_000_000_000);
    let mut sum = 0u128;
    let mut from = start;
    while from < until {
        let to = from.saturating_add(step).min(until);
        let (low, high) = (from.saturating_sub(reach), to.saturating_add(reach));
        let mut best = world.best(low, high);
        for rate in &mut best.rates {
            *rate = up(*rate);
        }
        let mut least: Option<u64> = None;
        let mut now = low;
        let mut seen: BTreeSet<Vec<sim_models::scenario::NodeId>> = BTreeSet::new();
        loop {
            best.down = world.down(now);
            if seen.insert(best.down.clone()) {
                let times = plans.iter().filter_map(|p| book.time(*p, &best));
                least = times.chain(least).min();
            }
            match world.next_change_of_nodes(now).filter(|n| *n <= high) {
                Some(next) => now = next,
                None => break,
            }
        }
        if let Some(least) = least {
            // A still iteration is rounded up to a nanosecond, as one in the world is.
            let least =
                least_jitter.map_or(least, |j| (u128::from(least) * u128::from(j) / 10_000) as u64).max(1);
            sum += (u128::from(to - from) << 20).div_ceil(u128::from(least));
        }
        from = to;
    }
    sum
}

/// Up to the next number of 7 leading bits.
fn up(x: u64) -> u64 {
    let down = rounded(x, 7);
    if down == x { x } else { down.saturating_add(1 << (64 - x.leading_zeros() - 7)) }
}
