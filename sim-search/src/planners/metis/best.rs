//! The best plan there is under Metis's formula, where Metis itself looks at one cut for each choice of groups and
//! strategies: every order of the kinds, every row of device groups over all devices, every strategy of each and every cut of
//! the layers, within memory as Metis counts it.
//!
//! For one order of the kinds and number of micro-batches a plan is a path of stages over (ranks taken, layers taken). Its cost
//! is a sum along the path (stages, transfers, the last stage's sync), micro-batches - 1 times the slowest stage, and two more
//! maxima (optimizer, gradients). Labels of a point that another one is as good as in all of these are dropped, and those that
//! cannot end below the best so far: the least sum and the least slowest stage of the rest are known from the back.

use super::balance::parts_mb;
use super::cost::{MetisPlan, estimate_ms, split_batch};
use super::space::permutations;
use super::tables::{Cluster, Profile, slices};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Samples of an iteration.
    pub global_batch: u32,
    /// Stages at most.
    pub most_stages: usize,
    /// Only plans of one data parallelism whose tensor-parallel groups stay inside nodes, which pipelines can run; the best
    /// for each order of the kinds, number of micro-batches, data parallelism and number of stages. Else the best of all.
    pub as_pipelines: bool,
}

/// Plans by their cost in ms, cheapest first. `go_on` is asked now and then; told no, it returns what it has.
pub fn best(
    profile: &Profile,
    cluster: &Cluster,
    asked: Asked,
    go_on: &mut dyn FnMut() -> bool,
) -> Vec<(f64, MetisPlan)> {
    let order: Vec<usize> = (0..cluster.kinds.len()).collect();
    let sequences = permutations(&order);
    let divisors = |n: u32| (1..=n).filter(move |d| n.is_multiple_of(*d));
    let mut problems = Vec::new();
    for sequence in &sequences {
        let nodes = cluster.nodes_in(sequence);
        let ranks: Vec<usize> =
            nodes.iter().flat_map(|k| std::iter::repeat_n(*k, cluster.per_node)).collect();
        for batches in divisors(asked.global_batch) {
            let each = asked.global_batch / batches;
            let degrees: Vec<u32> = divisors(each)
                .filter(|dp| each / dp <= profile.most_batch && *dp as usize <= ranks.len())
                .collect();
            let groups: Vec<Vec<u32>> =
                if asked.as_pipelines { degrees.iter().map(|d| vec![*d]).collect() } else { vec![degrees] };
            for degrees in groups {
                if !go_on() {
                    break;
                }
                problems.extend(Problem::new(profile, cluster, (sequence, &ranks), batches, &degrees, asked));
            }
        }
    }
    // Those that may hold the cheapest first.
    problems.sort_by(|a, b| a.least().total_cmp(&b.least()));
    let (mut found, mut least) = (Vec::new(), f64::INFINITY);
    for problem in &problems {
        if !go_on() {
            break;
        }
        for plan in problem.solve(if asked.as_pipelines { f64::INFINITY } else { least }) {
            // The cost as Metis adds it up.
            let Some(cost) = estimate_ms(profile, cluster, &plan, asked.global_batch) else { continue };
            if asked.as_pipelines || cost < least {
                found.push((cost, plan));
            }
            least = least.min(cost);
        }
    }
    found.sort_by(|a: &(f64, MetisPlan), b| a.0.total_cmp(&b.0));
    if !asked.as_pipelines {
        found.truncate(1);
    }
    found
}

/// A stage that could stand next: its devices and strategy.
struct Stand {
    dp: u32,
    tp: u32,
    size: usize,
    /// Time of layers `first .. end`, ms, by `first * (layers + 1) + end`; infinite where they do not fit into memory.
    times: Vec<f64>,
    /// Sync of this stage as the last one, of all micro-batches; none where it cannot be the last.
    sync: Option<f64>,
    /// Slowest rate inside its nodes, bytes a ms.
    rate: f64,
}

/// One order of the kinds with one number of micro-batches.
struct Problem<'a> {
    profile: &'a Profile,
    sequence: &'a [usize],
    asked: Asked,
    batches: u32,
    devices: usize,
    /// By ranks taken before it; none where no row of stages ends there.
    options: Vec<Vec<Stand>>,
    /// By (ranks, layers) taken: the least sum of what is left, and its least slowest stage.
    rest: Vec<(f64, f64)>,
}

/// A row of stages so far.
#[derive(Clone, Copy)]
struct Label {
    sum: f64,
    slowest: f64,
    optimizer: f64,
    gradients: f64,
    /// What the last stage hands on, and its rate.
    hands_on: f64,
    rate: f64,
    stages: usize,
    /// Where it came from: ranks, layers, number of the label there; and the option taken.
    from: (usize, usize, usize, usize),
}

impl Label {
    fn as_good_as(&self, other: &Label) -> bool {
        self.sum <= other.sum
            && self.slowest <= other.slowest
            && self.optimizer <= other.optimizer
            && self.gradients <= other.gradients
            && self.hands_on <= other.hands_on
            && self.rate >= other.rate
            && self.stages <= other.stages
    }
}

impl<'a> Problem<'a> {
    /// `None` where no row of stages takes all devices and layers.
    fn new(
        profile: &'a Profile,
        cluster: &Cluster,
        (sequence, ranks): (&'a [usize], &[usize]),
        batches: u32,
        degrees: &[u32],
        asked: Asked,
    ) -> Option<Problem<'a>> {
        let mut tps: Vec<u32> = profile.entries.keys().map(|k| k.1).collect();
        tps.sort_unstable();
        tps.dedup();
        let layers = profile.layers();
        let mut options: Vec<Vec<Stand>> = Vec::new();
        let mut reached = vec![false; ranks.len() + 1];
        reached[0] = true;
        for at in 0..ranks.len() {
            let mut mine = Vec::new();
            for (&tp, &dp) in tps.iter().flat_map(|tp| degrees.iter().map(move |dp| (tp, dp))) {
                let size = (dp * tp) as usize;
                let whole = |first: usize| first % cluster.per_node + tp as usize <= cluster.per_node;
                if !reached[at]
                    || at + size > ranks.len()
                    || (asked.as_pipelines && !(0..dp as usize).all(|i| whole(at + i * tp as usize)))
                {
                    continue;
                }
                let option = Stand::new(
                    profile,
                    cluster,
                    (ranks, at),
                    (dp, tp),
                    (asked.global_batch / batches, batches),
                );
                reached[at + size] |= option.is_some();
                mine.extend(option);
            }
            options.push(mine);
        }
        let nothing = (f64::INFINITY, f64::INFINITY);
        let width = layers + 1;
        let mut rest = vec![nothing; (ranks.len() + 1) * width];
        rest[ranks.len() * width + layers] = (0.0, 0.0);
        for at in (0..ranks.len()).rev() {
            for first in 0..layers {
                let mut least = nothing;
                for option in &options[at] {
                    let last = at + option.size == ranks.len();
                    for end in first + 1..=layers {
                        let (sum, slowest) = rest[(at + option.size) * width + end];
                        let time = option.times[first * width + end];
                        let sync = if last { option.sync.unwrap_or(f64::INFINITY) } else { 0.0 };
                        least.0 = least.0.min(time + sync + sum);
                        least.1 = least.1.min(slowest.max(time));
                    }
                }
                rest[at * width + first] = least;
            }
        }
        let problem = Problem { profile, sequence, asked, batches, devices: ranks.len(), options, rest };
        problem.least().is_finite().then_some(problem)
    }

    fn width(&self) -> usize {
        self.profile.layers() + 1
    }

    /// No plan costs less.
    fn least(&self) -> f64 {
        let (sum, slowest) = self.rest[0];
        sum + self.more() * slowest + self.generate()
    }

    fn more(&self) -> f64 {
        f64::from(self.batches) - 1.0
    }

    fn generate(&self) -> f64 {
        self.profile.batch_generator_ms * f64::from(self.batches)
    }

    /// The cheapest plans below `limit`, by their number of stages.
    fn solve(&self, limit: f64) -> Vec<MetisPlan> {
        let (layers, width) = (self.profile.layers(), self.width());
        let mut labels: Vec<Vec<Label>> = vec![Vec::new(); (self.devices + 1) * width];
        labels[0].push(Label {
            sum: 0.0,
            slowest: 0.0,
            optimizer: 0.0,
            gradients: 0.0,
            hands_on: 0.0,
            rate: f64::INFINITY,
            stages: 0,
            from: (0, 0, 0, 0),
        });
        // By number of stages: the cheapest that has ended.
        let mut ended: Vec<Option<(f64, Label)>> = vec![None; self.asked.most_stages.min(layers) + 1];
        let mut limit = limit;
        for at in 0..self.devices {
            for first in 0..layers {
                let here = std::mem::take(&mut labels[at * width + first]);
                for (number, label) in here.iter().enumerate() {
                    if label.stages >= self.asked.most_stages {
                        continue;
                    }
                    for (o, option) in self.options[at].iter().enumerate() {
                        for end in first + 1..=layers {
                            let from = (at, first, number, o);
                            let Some(next) = self.next(label, option, (first, end), from) else { continue };
                            let last = at + option.size == self.devices && end == layers;
                            let place = (at + option.size) * width + end;
                            let (sum, slowest) = self.rest[place];
                            let cost = next.sum
                                + sum
                                + self.more() * next.slowest.max(slowest)
                                + next.optimizer
                                + next.gradients
                                + self.generate();
                            if cost >= limit || !cost.is_finite() {
                                continue;
                            }
                            if last {
                                let best = &mut ended[next.stages];
                                if best.is_none_or(|(least, _)| cost < least) {
                                    *best = Some((cost, next));
                                }
                                if !self.asked.as_pipelines {
                                    limit = cost;
                                }
                                continue;
                            }
                            let there = &mut labels[place];
                            if !there.iter().any(|l| l.as_good_as(&next)) {
                                there.retain(|l| !next.as_good_as(l));
                                there.push(next);
                            }
                        }
                    }
                }
                labels[at * width + first] = here;
            }
        }
        ended.into_iter().flatten().map(|(_, label)| self.plan(&labels, label)).collect()
    }

    /// A row with one more stage.
    fn next(
        &self,
        label: &Label,
        option: &Stand,
        (first, end): (usize, usize),
        from: (usize, usize, usize, usize),
    ) -> Option<Label> {
        let profile = self.profile;
        let time = option.times[first * self.width() + end];
        if !time.is_finite() {
            return None;
        }
        let mut sum = label.sum + time + label.hands_on / label.rate.min(option.rate);
        let (dp, tp) = (f64::from(option.dp), f64::from(option.tp));
        let mut hands_on = 0.0;
        if end == profile.layers() {
            sum += option.sync?;
        } else {
            let samples = self.asked.global_batch / option.dp / self.batches;
            hands_on = profile.boundary(end, samples, option.tp);
        }
        let share = 2.0 * (dp - 1.0) / (dp * option.rate);
        let part = (end - first) as f64 / profile.layers() as f64;
        Some(Label {
            sum,
            slowest: label.slowest.max(time),
            optimizer: label.optimizer.max(profile.optimizer_ms / tp * part),
            gradients: label.gradients.max(share * profile.stage_bytes(option.tp, first, end)),
            hands_on,
            rate: option.rate,
            stages: label.stages + 1,
            from,
        })
    }

    /// The plan of a label that has ended.
    fn plan(&self, labels: &[Vec<Label>], label: Label) -> MetisPlan {
        let mut cuts = vec![self.profile.layers()];
        let (mut groups, mut strategies) = (Vec::new(), Vec::new());
        let mut label = label;
        for _ in 0..label.stages {
            let (at, first, number, o) = label.from;
            let option = &self.options[at][o];
            groups.push(option.size);
            strategies.push((option.dp, option.tp));
            cuts.push(first);
            label = labels[at * self.width() + first][number];
        }
        groups.reverse();
        strategies.reverse();
        cuts.reverse();
        MetisPlan { sequence: self.sequence.to_vec(), groups, strategies, batches: self.batches, cuts }
    }
}

impl Stand {
    /// The ranks from `at` on at `(dp, tp)`, for micro-batches of `each` samples; `None` where the profile lacks a time.
    fn new(
        profile: &Profile,
        cluster: &Cluster,
        (ranks, at): (&[usize], usize),
        (dp, tp): (u32, u32),
        (each, batches): (u32, u32),
    ) -> Option<Stand> {
        let (layers, size) = (profile.layers(), (dp * tp) as usize);
        let kinds = &ranks[at..at + size];
        let mixed = kinds.iter().any(|k| *k != kinds[0]);
        // What replicas do: kind and samples.
        let mut replicas: Vec<(usize, u32)> = if mixed {
            let split = split_batch(profile, kinds, (dp, tp), each)?;
            let with = |(i, samples): (usize, &u32)| (kinds[i * tp as usize], *samples);
            split.iter().enumerate().map(with).filter(|(_, samples)| *samples > 0).collect()
        } else {
            vec![(kinds[0], each / dp)]
        };
        replicas.sort_unstable();
        replicas.dedup();
        // Their times of the layers before each.
        let before = |(kind, samples): &(usize, u32)| -> Option<Vec<f64>> {
            let alone = [*samples];
            let parts: Vec<u32> = if mixed { slices(*samples).collect() } else { alone.to_vec() };
            let mut sums = vec![0.0; layers + 1];
            for part in parts {
                let entry = profile.entries.get(&(*kind, tp, part))?;
                let mut sum = 0.0;
                for (l, time) in entry.layers_ms.iter().enumerate() {
                    sum += time;
                    sums[l + 1] += sum;
                }
            }
            Some(sums)
        };
        let before: Vec<Vec<f64>> = replicas.iter().map(before).collect::<Option<_>>()?;
        let parts = parts_mb(profile, ranks, mixed, (dp, tp), each)?;
        let mut needs = vec![0.0];
        for mb in parts {
            needs.push(needs[needs.len() - 1] + mb);
        }
        let has: f64 = kinds.iter().map(|k| cluster.kinds[*k].memory_gb * 1024.0).sum();
        let mut times = vec![f64::INFINITY; (layers + 1) * (layers + 1)];
        for first in 0..layers {
            for end in first + 1..=layers {
                if needs[end] - needs[first] + super::balance::LEAST_MB <= has {
                    let time = |sums: &Vec<f64>| sums[end] - sums[first];
                    times[first * (layers + 1) + end] = before.iter().map(time).fold(0.0, f64::max);
                }
            }
        }
        let sync = |kind: &usize| profile.entries.get(&(*kind, tp, each / dp)).map(|e| e.sync_ms);
        let syncs: Option<Vec<f64>> = kinds.iter().map(sync).collect();
        let sync = syncs.map(|s| s.into_iter().fold(f64::NEG_INFINITY, f64::max) * f64::from(batches));
        let inside = kinds.iter().map(|k| cluster.kinds[*k].inside).fold(f64::INFINITY, f64::min);
        Some(Stand { dp, tp, size, times, sync, rate: inside * 1024.0 * 1024.0 })
    }
}
