//! Alpa's inter-operator pass (arXiv 2201.12023, section 5): layers into stages and stages onto sub-meshes, least
//!
//! ```text
//! sum of the stages' times + (micro-batches - 1) x the slowest's
//! ```
//!
//! by its dynamic program: for each limit of the slowest stage, from the least up, the least sum over stages within the
//! limit; it ends when the limit alone costs more than the best.

use super::chain::{Chain, best_cut};
use super::{About, Entrant, GoOn, Limits, NoProposal, Planner, Proposal, View, ranked, staged};
use sim_models::scenario::Scenario;

/// See the head of this file.
pub struct Alpa;

/// Limits of the slowest stage that are tried; the published program tries all that differ by more than a little.
const LIMITS: usize = 12;

impl Planner for Alpa {
    fn about(&self) -> About {
        About {
            name: "alpa",
            about: "its dynamic program over stages and sub-meshes, TP free in each stage",
            source: "Zheng et al., OSDI'22, arXiv 2201.12023, section 5",
            leaves_out: "its intra-operator ILP (TP as Megatron's instead); data parallelism that differs between stages; that \
                         GPUs differ: it takes the slowest",
        }
    }

    fn propose(
        &self,
        scenario: &Scenario,
        limits: &Limits,
        go_on: &mut GoOn<'_>,
    ) -> Result<Proposal, NoProposal> {
        let view = View::new(scenario, limits.at);
        let (mut found, mut candidates) = (Vec::new(), 0);
        // Replicas run alike: as many micro-batches each.
        let even = |chain: &Chain<'_, '_>| view.micro_batch_count(chain.micro_batch).is_multiple_of(chain.dp);
        for chain in Chain::all(&view).filter(even) {
            for stages in chain.depths() {
                if !go_on() {
                    return ranked(found, candidates, "out of time");
                }
                let tables: Vec<_> = (0..stages).map(|s| chain.table(s, stages)).collect();
                let m = f64::from(chain.micro_batches);
                let with_send = |s: usize, step: f64| step + if s + 1 < stages { chain.send_s } else { 0.0 };
                let mut slowest: Vec<f64> = tables
                    .iter()
                    .enumerate()
                    .flat_map(|(s, t)| t.iter().flatten().flatten().flatten().map(move |c| (s, c)))
                    .map(|(s, c)| with_send(s, c.step_s + c.sync_s / m))
                    .collect();
                slowest.sort_by(f64::total_cmp);
                slowest.dedup();
                candidates += slowest.len() as u64;
                let mut best = f64::INFINITY;
                // No limit below an even share of the fastest can hold a plan: begin where the bottleneck is least.
                let within = |limit: f64| {
                    let value = move |s: usize, c: super::chain::StageTime| {
                        let time = with_send(s, c.step_s + c.sync_s / m);
                        (time <= limit).then_some(time)
                    };
                    best_cut(&chain, &tables, chain.width(), &value, &|a, b| a + b)
                };
                let (mut low, mut high) = (0, slowest.len());
                while low < high {
                    let middle = low + (high - low) / 2;
                    if within(slowest[middle]).is_some() { high = middle } else { low = middle + 1 }
                }
                let rest = &slowest[low.min(slowest.len())..];
                for i in 0..LIMITS.min(rest.len()) {
                    // Close together at first, where it matters.
                    let limit = rest[i * i * (rest.len() - 1) / (LIMITS * LIMITS)];
                    if (m - 1.0) * limit >= best {
                        break;
                    }
                    let Some(cut) = within(limit) else { continue };
                    let time = cut.value + (m - 1.0) * limit;
                    if time < best {
                        best = time;
                        let plan = staged(&view, chain.micro_batch, &cut.tps, chain.dp, &cut.cuts);
                        found.extend(plan.map(|plan| Entrant { plan, own_estimate_s: Some(time) }));
                    }
                }
            }
        }
        ranked(found, candidates, "no stages fit the memory of the smallest GPU")
    }
}
