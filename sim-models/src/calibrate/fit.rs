//! Levenberg-Marquardt with bounds and a robust loss: minimises the sum of `loss(r_i)` over a few parameters.
//!
//! The loss is `2 s^2 (sqrt(1 + (r/s)^2) - 1)`: quadratic for residuals well under the scale `s`, linear beyond, by
//! reweighting in each step. Parameters are searched in their logarithm, which keeps them positive and makes a step a
//! share; bounds are met by projection. Everything runs in a fixed order of additions, and the answer is rounded, so
//! the same input gives the same file on any machine.

/// A parameter: its start and its bounds, all positive.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name in reports.
    pub name: String,
    /// Where the search starts.
    pub start: f64,
    /// Least value.
    pub low: f64,
    /// Greatest value.
    pub high: f64,
}

impl Parameter {
    /// A parameter.
    pub fn new(name: impl Into<String>, start: f64, low: f64, high: f64) -> Parameter {
        Parameter { name: name.into(), start, low, high }
    }
}

/// A parameter's fitted value.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Fitted {
    /// Its name.
    pub name: String,
    /// Value, rounded to four digits.
    pub value: f64,
    /// Standard error as a share of the value; `None` where the data cannot determine it.
    pub standard_error: Option<f64>,
    /// Whether it ended on a bound.
    pub at_bound: bool,
}

/// Residuals beyond this count less than their square. In the log of a time: 10 %.
const SCALE: f64 = 0.1;
/// Steps after which the search stops with what it has.
const MAX_STEPS: u32 = 100;
/// Relative step of the numerical derivatives.
const STEP: f64 = 1e-4;

/// Fits. `residuals` returns one number per measurement, always as many, for parameter values inside the bounds.
///
/// A residual that is not finite counts as a large one. Without parameters or residuals the start is returned.
pub fn fit(parameters: &[Parameter], residuals: impl Fn(&[f64]) -> Vec<f64>) -> Vec<Fitted> {
    fit_weighted(parameters, &Robust { tolerance: 1e-9, scale: SCALE, weights: &[] }, residuals)
}

/// How residuals count.
#[derive(Clone, Copy, Debug)]
pub struct Robust<'a> {
    /// A step that improves the sum by less than this share is the last.
    pub tolerance: f64,
    /// Residuals beyond this count less than their square.
    pub scale: f64,
    /// What each counts; 1 where there is none.
    pub weights: &'a [f64],
}

impl Robust<'_> {
    fn weight(&self, i: usize) -> f64 {
        self.weights.get(i).copied().unwrap_or(1.0)
    }

    /// Of a residual in units of the scale.
    fn stretched(&self, r: f64) -> f64 {
        libm::sqrt(1.0 + (r / self.scale) * (r / self.scale))
    }

    fn loss(&self, r: &[f64]) -> f64 {
        let s = self.scale;
        r.iter().enumerate().map(|(i, r)| self.weight(i) * 2.0 * s * s * (self.stretched(*r) - 1.0)).sum()
    }
}

/// The same with a scale and weights of one's own.
pub fn fit_weighted(
    parameters: &[Parameter],
    how: &Robust<'_>,
    residuals: impl Fn(&[f64]) -> Vec<f64>,
) -> Vec<Fitted> {
    let tolerance = how.tolerance;
    let n = parameters.len();
    let clean = |logs: &[f64]| -> Vec<f64> {
        let values: Vec<f64> = logs.iter().map(|l| libm::exp(*l)).collect();
        residuals(&values).into_iter().map(|r| if r.is_finite() { r } else { 1e3 }).collect()
    };
    let bound = |i: usize, log: f64| log.max(libm::log(parameters[i].low)).min(libm::log(parameters[i].high));
    let mut x: Vec<f64> = (0..n).map(|i| bound(i, libm::log(parameters[i].start))).collect();
    let mut r = clean(&x);
    let mut cost = how.loss(&r);
    let mut damping = 1e-3;
    let mut normal = vec![vec![0.0; n]; n];
    for _ in 0..MAX_STEPS {
        let (jtj, jtr) = normal_equations(&x, &r, how, &clean);
        normal = jtj;
        let mut moved = false;
        // Larger damping is a shorter step: some step downhill is found, or this is the bottom.
        for _ in 0..12 {
            let mut damped = normal.clone();
            for (i, row) in damped.iter_mut().enumerate() {
                row[i] = row[i] * (1.0 + damping) + 1e-12;
            }
            let Some(step) = solve(damped, jtr.clone()) else { break };
            let next: Vec<f64> = (0..n).map(|i| bound(i, x[i] - step[i])).collect();
            let next_r = clean(&next);
            let next_cost = how.loss(&next_r);
            if next_cost < cost {
                moved = (cost - next_cost) > cost * tolerance;
                (x, r, cost) = (next, next_r, next_cost);
                damping = (damping * 0.3_f64).max(1e-9);
                break;
            }
            damping *= 4.0;
        }
        if !moved {
            break;
        }
    }
    let freedom = r.len().saturating_sub(n).max(1) as f64;
    let variance = cost / freedom;
    (0..n)
        .map(|i| {
            let mut unit = vec![0.0; n];
            unit[i] = 1.0;
            // A parameter that moves nothing has no curvature of its own; one that another can stand in for makes the
            // matrix singular.
            let known = normal[i][i] > 1e-9;
            let of_inverse = if known {
                let mut regular = normal.clone();
                for (j, row) in regular.iter_mut().enumerate() {
                    row[j] += if row[j] > 1e-9 { 0.0 } else { 1.0 };
                }
                solve(regular, unit).map(|column| column[i])
            } else {
                None
            };
            let error = of_inverse.filter(|v| *v > 0.0).map(|v| libm::sqrt(v * variance));
            let value = libm::exp(x[i]);
            Fitted {
                name: parameters[i].name.clone(),
                value: round(value),
                standard_error: error.filter(|e| *e < 1.0).map(round),
                at_bound: value <= parameters[i].low * 1.0001 || value >= parameters[i].high * 0.9999,
            }
        })
        .collect()
}

/// J^T W J and J^T W r, with the weights of the robust loss.
fn normal_equations(
    x: &[f64],
    r: &[f64],
    how: &Robust<'_>,
    f: &impl Fn(&[f64]) -> Vec<f64>,
) -> (Vec<Vec<f64>>, Vec<f64>) {
    let n = x.len();
    let columns: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let mut moved = x.to_vec();
            moved[i] += STEP;
            f(&moved).iter().zip(r).map(|(a, b)| (a - b) / STEP).collect()
        })
        .collect();
    let weights: Vec<f64> = r.iter().enumerate().map(|(i, r)| how.weight(i) / how.stretched(*r)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).zip(&weights).map(|((a, b), w)| a * b * w).sum::<f64>();
    let jtj = columns.iter().map(|a| columns.iter().map(|b| dot(a, b)).collect()).collect();
    let jtr = columns.iter().map(|a| dot(a, r)).collect();
    (jtj, jtr)
}

/// Gaussian elimination with partial pivoting; `None` where the matrix is singular.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs()))?;
        if a[pivot][i].abs() < 1e-12 {
            return None;
        }
        a.swap(i, pivot);
        b.swap(i, pivot);
        for j in i + 1..n {
            let share = a[j][i] / a[i][i];
            let (above, below) = a.split_at_mut(j);
            for (x, y) in below[0][i..].iter_mut().zip(&above[i][i..]) {
                *x -= share * y;
            }
            b[j] -= share * b[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| a[i][j] * b[j]).sum();
        b[i] = (b[i] - known) / a[i][i];
    }
    b.iter().all(|v| v.is_finite()).then_some(b)
}

/// To four significant digits: less than the data determine, more than anyone needs, and the same on every machine.
pub(crate) fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3.0 - libm::floor(libm::log10(value.abs()));
    // Scaling by a whole power of ten: the result is the decimal nearest to the rounded value.
    let (up, down) = if digits >= 0.0 { (libm::exp10(digits), 1.0) } else { (1.0, libm::exp10(-digits)) };
    libm::round(value * up / down) / up * down
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_made_the_data_and_shrugs_at_outliers() {
        let xs: Vec<f64> = (1..40).map(f64::from).collect();
        let noise = |i: usize| if i == 20 { 1.5 } else { 0.001 * ((i * 7 % 5) as f64 - 2.0) };
        let data: Vec<f64> =
            xs.iter().enumerate().map(|(i, x)| libm::log(3.0 + 0.5 * x) + noise(i)).collect();
        let parameters = [Parameter::new("a", 1.0, 0.1, 10.0), Parameter::new("b", 2.0, 0.01, 10.0)];
        let found =
            fit(&parameters, |p| xs.iter().zip(&data).map(|(x, y)| libm::log(p[0] + p[1] * x) - y).collect());
        assert!((found[0].value - 3.0).abs() < 0.1 && (found[1].value - 0.5).abs() < 0.01, "{found:?}");
        assert!(found.iter().all(|f| f.standard_error.is_some_and(|e| e < 0.1) && !f.at_bound));
    }

    #[test]
    fn it_says_what_the_data_cannot_tell() {
        let parameters = [Parameter::new("used", 1.0, 0.1, 10.0), Parameter::new("idle", 1.0, 0.1, 10.0)];
        let found = fit(&parameters, |p| vec![libm::log(p[0]) - 0.5, libm::log(p[0]) - 0.6]);
        assert!(found[0].standard_error.is_some() && found[1].standard_error.is_none(), "{found:?}");
        let capped = fit(&[Parameter::new("x", 1.0, 0.5, 2.0)], |p| vec![libm::log(p[0]) - 5.0]);
        assert!(capped[0].at_bound && capped[0].value == 2.0);
    }

    #[test]
    fn nothing_makes_it_panic() {
        assert!(fit(&[], |_| vec![1.0]).is_empty());
        assert_eq!(fit(&[Parameter::new("x", 1.0, 0.5, 2.0)], |_| Vec::new())[0].value, 1.0);
        assert_eq!(fit(&[Parameter::new("x", 1.0, 0.5, 2.0)], |_| vec![f64::NAN])[0].value, 1.0);
    }

    #[test]
    fn rounding_keeps_four_digits() {
        for (value, expected) in
            [(0.123_456, 0.1235), (123_456.0, 123_500.0), (4.000_04e-6, 4e-6), (1.0, 1.0)]
        {
            assert!((round(value) / expected - 1.0).abs() < 1e-15, "{value}: {}", round(value));
        }
    }
}
