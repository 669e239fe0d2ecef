//! How long jobs take at least on some nodes, by their work alone.
//!
//! A sample of job j makes some device of group g busy for at least `d(j, l, g)` with layer l. In a time T the devices of
//! group g are busy for at most T each. So for any weights `a(g)` of a device,
//!
//! ```text
//!   T x sum over g of devices(g) a(g)  >=  samples x sum over l of (least over g of a(g) d(j, l, g))
//! ```
//!
//! Several jobs on nodes of their own have shares of the left sum that add up to no more than it. With W(j) the right one of job j
//! and w(j) its weight, the least that the sum of w(j) T(j) can be over all shares is (sum over j of sqrt(w(j) W(j)))^2 over the
//! left sum, by Cauchy and Schwarz.

use super::Job;
use crate::space::tp_degrees_of;
use sim_models::layer_times::LayerConfig;
use sim_models::scenario::Scenario;

/// The least device time of each layer for one sample, ps, by group; `None` where the group cannot run the job.
type LeastTimes = Vec<Option<Vec<f64>>>;

/// The work of several jobs on the groups of one cluster. See the head of this file.
pub(super) struct Work {
    /// Devices of a node, by group.
    node: Vec<f64>,
    /// Weights of a device that are tried, by group.
    weights: Vec<Vec<f64>>,
    /// `[weights][job]`: weighted device time of all the job's iterations, ps.
    need: Vec<Vec<f64>>,
    /// How much jobs count when they are done.
    counts: Vec<f64>,
}

impl Work {
    /// Of these jobs.
    pub(super) fn new(jobs: &[Job]) -> Work {
        let times: Vec<LeastTimes> = jobs.iter().map(|j| least_times(&j.scenario)).collect();
        let node = jobs[0].scenario.groups.iter().map(|g| f64::from(g.gpus_per_node)).collect();
        // A device weighs what it does of each job in a time; and the mean of that.
        let mut weights: Vec<Vec<f64>> = times.iter().map(speeds).collect();
        let mean = |g: usize| weights.iter().map(|w| w[g]).sum::<f64>() / weights.len() as f64;
        weights.push((0..jobs[0].scenario.groups.len()).map(mean).collect());
        let of = |w: &Vec<f64>| jobs.iter().zip(&times).map(|(j, t)| needed(j, t, w)).collect();
        let need = weights.iter().map(of).collect();
        let counts = jobs.iter().map(|j| j.weight as f64).collect();
        Work { node, weights, need, counts }
    }

    /// All iterations of a job on so many nodes of each group take at least so long; ps.
    pub(super) fn least(&self, job: usize, nodes: &[u32]) -> u128 {
        self.over(nodes, &|need| need[job])
    }

    /// What all iterations of these jobs take, each by its weight, on so many nodes of each group that they share out among them:
    /// at least so much; ps.
    pub(super) fn least_sum(&self, jobs: &[usize], nodes: &[u32]) -> u128 {
        self.over(nodes, &|need| {
            let root: f64 = jobs.iter().map(|j| (need[*j] * self.counts[*j]).sqrt()).sum();
            root * root
        })
    }

    /// The most, over the weights of a device, of some work over what so many nodes of each group have.
    fn over(&self, nodes: &[u32], work: &dyn Fn(&[f64]) -> f64) -> u128 {
        let mut least = 0.0;
        for (weights, need) in self.weights.iter().zip(&self.need) {
            let mut have = 0.0;
            for ((weight, size), count) in weights.iter().zip(&self.node).zip(nodes) {
                have += weight * size * f64::from(*count);
            }
            let sum = work(need);
            let time = sum / have * (1.0 - 1e-9);
            if !have.is_normal() {
                // None of these devices can run what the weights are of.
                if sum > 0.0 {
                    return u128::MAX;
                }
                continue;
            }
            if time > least {
                least = time;
            }
        }
        least as u128
    }

    /// The work of a job, where a device weighs the mean of what it does of all.
    pub(super) fn need(&self, job: usize) -> f64 {
        self.need[self.need.len() - 1][job]
    }
}

/// What a device of each group does of a job in a time, 0 where it cannot run it.
fn speeds(times: &LeastTimes) -> Vec<f64> {
    times.iter().map(|t| t.as_ref().map_or(0.0, |t| 1.0 / t.iter().sum::<f64>())).collect()
}

fn needed(job: &Job, times: &LeastTimes, weights: &[f64]) -> f64 {
    let layers = times.iter().flatten().map(Vec::len).next().unwrap_or(0);
    let mut sum = 0.0;
    for l in 0..layers {
        let mut least = f64::INFINITY;
        for (times, weight) in times.iter().zip(weights) {
            let Some(times) = times else { continue };
            if times[l] * weight < least {
                least = times[l] * weight;
            }
        }
        sum += least;
    }
    sum * f64::from(job.scenario.training.global_batch) * job.iterations as f64
}

/// Over every way to split a layer that the search tries.
fn least_times(scenario: &Scenario) -> LeastTimes {
    let layers = scenario.model.layers() as usize;
    let of = |group: &sim_models::scenario::NodeGroup| {
        let mut least: Option<Vec<f64>> = None;
        let sizes = if scenario.search.micro_batches.is_empty() {
            group.layers.micro_batches()
        } else {
            scenario.search.micro_batches.iter().copied().collect()
        };
        for micro_batch in sizes.into_iter().filter(|m| *m > 0) {
            for tp in tp_degrees_of(group.gpus_per_node) {
                let Ok(sums) = group.layers.of(&LayerConfig::new(micro_batch, tp)) else { continue };
                let running = sums.running();
                let least = least.get_or_insert_with(|| vec![f64::INFINITY; layers]);
                for (l, least) in least.iter_mut().enumerate() {
                    let ps = |i: usize| running[i].forward.as_ps() + running[i].backward.as_ps();
                    let time = (ps(l + 1) - ps(l)) as f64 * f64::from(tp) / f64::from(micro_batch);
                    if time < *least {
                        *least = time;
                    }
                }
            }
        }
        least
    };
    scenario.groups.iter().map(of).collect()
}
