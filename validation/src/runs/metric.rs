//! How far predictions are from measurements, as plain functions over numbers. Sums run in the order given.

/// Mean; `None` of nothing.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.into_iter().fold((0.0, 0u32), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// Median: the middle value, or the mean of the middle two.
pub fn median(values: &[f64]) -> Option<f64> {
    let v = sorted(values);
    (!v.is_empty()).then(|| (v[(v.len() - 1) / 2] + v[v.len() / 2]) / 2.0)
}

/// The least value that at least `share` (0 to 1) of the values do not exceed: the nearest-rank quantile.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let v = sorted(values);
    let rank = libm::ceil(share * v.len() as f64).max(1.0) as usize;
    v.get(rank.min(v.len()).wrapping_sub(1)).copied()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    v
}

/// (measured, predicted) of the configurations of one sweep.
pub type Sweep = Vec<(f64, f64)>;

/// Kendall's tau over the pairs of each sweep, all sweeps together: (pairs in the right order - pairs in the wrong order) /
/// pairs whose measured times differ. A predicted tie is in neither. From -1 to 1; `None` without such a pair.
pub fn kendall_tau(sweeps: &[Sweep]) -> Option<f64> {
    let (mut score, mut pairs) = (0i64, 0i64);
    for sweep in sweeps {
        for (i, (measured, predicted)) in sweep.iter().enumerate() {
            for (other, other_predicted) in &sweep[..i] {
                if measured != other {
                    pairs += 1;
                    score += match (measured < other, predicted.total_cmp(other_predicted)) {
                        (_, std::cmp::Ordering::Equal) => 0,
                        (faster, order) if faster == order.is_lt() => 1,
                        _ => -1,
                    };
                }
            }
        }
    }
    (pairs > 0).then(|| score as f64 / pairs as f64)
}

/// How much slower the configuration predicted fastest is than the one measured fastest, as a share of the latter: mean
/// over the sweeps of at least two configurations. Of several predicted fastest the slowest counts.
pub fn top1_regret(sweeps: &[Sweep]) -> Option<f64> {
    let regret = |sweep: &Sweep| {
        let best = sweep.iter().map(|(m, _)| *m).fold(f64::INFINITY, f64::min);
        let predicted = sweep.iter().map(|(_, p)| *p).fold(f64::INFINITY, f64::min);
        let chosen = sweep.iter().filter(|(_, p)| *p == predicted).map(|(m, _)| *m).fold(0.0, f64::max);
        chosen / best - 1.0
    };
    mean(sweeps.iter().filter(|s| s.len() > 1).map(regret))
}

/// The least mean error that any model can have on configurations that were run more than once: of each such group, the
/// errors of its median. `None` where nothing was repeated.
pub fn noise_floor(groups: &[Vec<f64>]) -> Option<f64> {
    let repeated = groups.iter().filter(|g| g.len() > 1);
    let errors = repeated.flat_map(|g| {
        let middle = median(g).unwrap_or(0.0);
        g.iter().map(move |t| (middle / t - 1.0).abs())
    });
    mean(errors)
}
