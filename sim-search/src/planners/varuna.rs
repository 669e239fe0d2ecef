//! Varuna (arXiv 2111.04007): data and pipeline parallelism alone, for cheap and slow networks.
//!
//! The micro-batch is chosen once, as the least whose time a sample is within 5 % of the best (section 4.3). Then every depth
//! P is tried with as many pipelines as the GPUs allow, layers cut at even compute, and the time of its schedule estimated.

use super::amp::cost::best_cuts;
use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View, ranked, uniform};
use sim_models::plan::{Plan, Recompute};
use sim_models::scenario::Scenario;

/// See the head of this file.
pub struct Varuna;

impl Planner for Varuna {
    fn about(&self) -> About {
        About {
            name: "varuna",
            about: "pipelines x data parallelism without TP: one micro-batch size, every depth",
            source: "Athlur et al., EuroSys'22, arXiv 2111.04007",
            leaves_out: "its own schedule (1F1B instead) and morphing while it runs; that GPUs differ. It always recomputes; here it \
                         need not where that is not needed",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let devices = view.devices();
        let per_sample =
            |b: &u32| view.slowest_column(*b, 1).map(|c| c.pass_s(0, view.layers) / f64::from(*b));
        let sizes: Vec<(u32, f64)> =
            view.micro_batches().into_iter().filter_map(|b| Some((b, per_sample(&b)?))).collect();
        let best = sizes.iter().map(|(_, t)| *t).fold(f64::INFINITY, f64::min);
        let (mut found, mut candidates) = (Vec::new(), 0);
        // Smaller ones only where that one does not fit at any depth.
        let from = sizes.iter().position(|(_, t)| *t <= 1.05 * best).unwrap_or(0);
        for (micro_batch, _) in sizes.iter().take(from + 1).rev() {
            for stages in 1..=(scenario.search.max_stages as usize).min(view.layers).min(devices.len()) {
                if !go_on() {
                    return ranked(found, candidates, "out of time");
                }
                candidates += 2;
                // Kept, and where that does not fit, recomputed.
                let plain = estimate(&view, *micro_batch, stages, Recompute::None);
                found.extend(plain.or_else(|| estimate(&view, *micro_batch, stages, Recompute::Full)));
            }
            if !found.is_empty() {
                break;
            }
        }
        ranked(found, candidates, "no depth fits the memory of the smallest GPU without tensor parallelism")
    }
}

fn estimate(view: &View<'_>, micro_batch: u32, stages: usize, recompute: Recompute) -> Option<Entrant> {
    let devices = view.devices();
    let dp = devices.len() / stages;
    let total = view.micro_batch_count(micro_batch);
    let column = view.slowest_column(micro_batch, 1).filter(|_| total as usize >= dp)?;
    let cuts = best_cuts(&column.layers(), stages)?;
    let each = total.div_ceil(dp as u32);
    let plan = recomputed(uniform(view, micro_batch, 1, dp as u32, &cuts)?, recompute);
    if !view.plan_fits(&plan) {
        return None;
    }
    let bytes = view.activation_bytes(micro_batch);
    let at = |stage: usize, replica: usize| devices[stage * dp + replica];
    let send = |s: usize| (0..dp).map(|r| view.hop_s(at(s, r), at(s + 1, r), bytes, 1)).fold(0.0, f64::max);
    let again = |c: &[usize]| if recompute == Recompute::Full { column.forward_s(c[0], c[1]) } else { 0.0 };
    let steps: Vec<f64> = cuts.windows(2).map(|c| column.pass_s(c[0], c[1]) + again(c)).collect();
    let sends: Vec<f64> = (0..stages.saturating_sub(1)).map(send).collect();
    // Transfers run beside compute in its schedule: the pace is the slower of the two.
    let pace = steps.iter().chain(&sends).copied().fold(0.0, f64::max);
    let ring =
        |s: usize| view.ring_s(&devices[s * dp..(s + 1) * dp], view.gradient_bytes(cuts[s], cuts[s + 1], 1));
    let sync = (0..stages).map(ring).fold(0.0, f64::max);
    let fill = steps.iter().sum::<f64>() + 2.0 * sends.iter().sum::<f64>();
    let time = f64::from(each - 1) * pace + fill + sync;
    Some(Entrant { plan, own_estimate_s: Some(time) })
}

/// The plan with every stage recomputed so.
fn recomputed(mut plan: Plan, recompute: Recompute) -> Plan {
    plan.pipelines.iter_mut().flat_map(|p| &mut p.stages).for_each(|s| s.recompute = recompute);
    plan
}
