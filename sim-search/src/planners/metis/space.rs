//! Metis's search: orders of the kinds, device groups of power-of-two sizes within a spread, micro-batch counts, and for each
//! a walk from pure data parallelism towards tensor parallelism until the layers can be cut.

use super::balance::{Balanced, Stages, balance};
use super::cost::{MetisPlan, estimate_first_ms};
use super::tables::{Cluster, Profile};

/// How far Metis searches: its command line.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Least size of a group over that of an even share.
    pub variance: f64,
    /// Groups that are permuted one by one; more are merged.
    pub most_permuted: usize,
    /// Plans costed at most.
    pub most_costed: usize,
    /// Stages at most.
    pub most_stages: usize,
    /// With the slip of the published loop: after the first order of the kinds, it does not try one stage, but costs every
    /// plan of two stages once as if it had only its first. Off, every order starts with one stage.
    pub as_published: bool,
}

/// Every plan that Metis costs, with its estimate in ms, cheapest first; ties in the order in which they were found.
/// `go_on` is asked before each combination of groups.
pub fn search(
    profile: &Profile,
    cluster: &Cluster,
    global_batch: u32,
    reach: Reach,
    go_on: &mut dyn FnMut() -> bool,
) -> Vec<(f64, MetisPlan)> {
    let order: Vec<usize> = (0..cluster.kinds.len()).collect();
    search_from(profile, cluster, &order, global_batch, reach, go_on)
}

/// Like [`search`], with the kinds in that order at first.
pub fn search_from(
    profile: &Profile,
    cluster: &Cluster,
    order: &[usize],
    global_batch: u32,
    reach: Reach,
    go_on: &mut dyn FnMut() -> bool,
) -> Vec<(f64, MetisPlan)> {
    let mut costed = Vec::new();
    let most = cluster.devices().min(profile.layers()).min(reach.most_stages);
    let divisors: Vec<u32> = (1..=global_batch).rev().filter(|b| global_batch.is_multiple_of(*b)).collect();
    let sequences = permutations(order);
    for (number, sequence) in sequences.into_iter().enumerate() {
        let nodes = cluster.nodes_in(&sequence);
        let ranks: Vec<usize> =
            nodes.iter().flat_map(|k| std::iter::repeat_n(*k, cluster.per_node)).collect();
        for stages in 1..=most {
            let slip = reach.as_published && number > 0 && stages == 1;
            let (size, counted) = if slip { (2, 1) } else { (stages, stages) };
            for groups in device_groups(size, cluster.devices(), reach) {
                if !go_on() || costed.len() >= reach.most_costed {
                    costed.sort_by(|a: &(f64, MetisPlan), b| a.0.total_cmp(&b.0));
                    return costed;
                }
                for &batches in &divisors {
                    let frame =
                        Frame { profile, cluster, sequence: &sequence, ranks: &ranks, global_batch, batches };
                    frame.walk(&groups, counted, &mut costed);
                }
            }
        }
    }
    costed.sort_by(|a, b| a.0.total_cmp(&b.0));
    costed
}

/// What the strategies of one choice of groups and micro-batches share.
struct Frame<'a> {
    profile: &'a Profile,
    cluster: &'a Cluster,
    sequence: &'a [usize],
    ranks: &'a [usize],
    global_batch: u32,
    batches: u32,
}

impl Frame<'_> {
    /// From pure data parallelism on, the stage with least memory to spare halves it, until the layers can be cut at once.
    fn walk(&self, groups: &[usize], counted: usize, costed: &mut Vec<(f64, MetisPlan)>) {
        let Frame { profile, cluster, global_batch, batches, .. } = *self;
        let mut strategies: Vec<(u32, u32)> = groups.iter().map(|g| (*g as u32, 1)).collect();
        let mut spare: Option<Vec<f64>> = None;
        loop {
            let valid = strategies.iter().all(|(dp, tp)| {
                let batch = global_batch / dp / batches;
                batch > 0 && batch <= profile.most_batch && *tp <= profile.most_tp
            });
            if valid {
                let batch = global_batch / batches;
                let stages = Stages { ranks: self.ranks, groups, strategies: &strategies, batch };
                match balance(profile, cluster, &stages) {
                    Ok(Balanced { cuts, attempts, spare_mb }) => {
                        let plan = MetisPlan {
                            sequence: self.sequence.to_vec(),
                            groups: groups.to_vec(),
                            strategies: strategies.clone(),
                            batches,
                            cuts,
                        };
                        let cost = estimate_first_ms(profile, cluster, &plan, global_batch, counted);
                        costed.extend(cost.map(|cost| (cost, plan)));
                        if attempts == 1 {
                            return;
                        }
                        spare = Some(spare_mb);
                    }
                    Err(true) => spare = None,
                    Err(false) => return,
                }
            }
            let even = || strategies.iter().map(|(dp, _)| 1.0 / f64::from(*dp)).collect();
            let weight: Vec<f64> = spare.clone().unwrap_or_else(even);
            let mut order: Vec<usize> = (0..strategies.len()).collect();
            order.sort_by(|a, b| weight[*a].total_cmp(&weight[*b]));
            match order.into_iter().find(|s| strategies[*s].0 != 1) {
                Some(s) => strategies[s] = (strategies[s].0 / 2, strategies[s].1 * 2),
                None => return,
            }
        }
    }
}

/// Every order of `list`, each once.
pub fn permutations<T: Clone + PartialEq>(list: &[T]) -> Vec<Vec<T>> {
    if list.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for i in 0..list.len() {
        if list[..i].contains(&list[i]) {
            continue;
        }
        let mut rest = list.to_vec();
        let first = rest.remove(i);
        for mut tail in permutations(&rest) {
            tail.insert(0, first.clone());
            all.push(tail);
        }
    }
    all
}

/// Sizes of `stages` groups that make up `devices`, every one a power of two and at least `variance` times an even share,
/// in every order of (merged) groups.
fn device_groups(stages: usize, devices: usize, reach: Reach) -> Vec<Vec<usize>> {
    let even = (devices / stages).max(stages / devices) as f64 * reach.variance;
    let shapes: Vec<usize> = (0..usize::BITS)
        .map(|i| 1usize << i)
        .take_while(|s| *s <= devices)
        .filter(|s| *s as f64 >= even)
        .collect();
    let mut rising = Vec::new();
    rise(&shapes, stages, devices, &mut Vec::new(), &mut rising);
    let merged = rising.iter().map(|sizes| merge(sizes, reach.most_permuted));
    merged.flat_map(|groups| permutations(&groups)).map(|order| order.concat()).collect()
}

fn rise(shapes: &[usize], stages: usize, left: usize, sizes: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    if stages == 0 {
        if left == 0 {
            all.push(sizes.clone());
        }
        return;
    }
    for (i, shape) in shapes.iter().enumerate() {
        if shape * stages > left || shapes[shapes.len() - 1] * stages < left {
            continue;
        }
        sizes.push(*shape);
        rise(&shapes[i..], stages - 1, left - shape, sizes, all);
        sizes.pop();
    }
}

/// Puts pairs of the smallest groups together until there are at most `most`, or no two alike are left.
fn merge(sizes: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = sizes.iter().map(|s| vec![*s]).collect();
    let mut surplus = groups.len().saturating_sub(most);
    while surplus > 0 {
        let sum = |g: &Vec<usize>| g.iter().sum::<usize>();
        let least = sum(&groups[0]);
        let alike = groups.iter().position(|g| *g != groups[0]).map_or(groups.len(), |i| i + 1);
        let wanted = surplus.max(alike / 2);
        let mut next: Vec<Vec<usize>> = Vec::new();
        let mut rest = groups.as_slice();
        while let [a, b, tail @ ..] = rest {
            // Pairs looked at so far, not pairs merged, as published.
            if wanted <= (groups.len() - rest.len()) / 2 {
                break;
            }
            if sum(a) == least && sum(b) == least {
                next.push([a.as_slice(), b].concat());
            } else {
                next.extend([a.clone(), b.clone()]);
            }
            rest = tail;
        }
        next.extend_from_slice(rest);
        groups = next;
        let left = groups.len().saturating_sub(most);
        if left == wanted {
            break;
        }
        surplus = left;
    }
    groups
}
