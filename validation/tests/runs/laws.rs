//! Laws of the metrics, and of reading: no text makes it fall over.

use crate::support::{file, with};
use proptest::prelude::*;
use validation::runs::metric::{kendall_tau, mean, median, noise_floor, quantile, top1_regret};
use validation::runs::{Settings, evaluate, plan, read, report};

#[test]
fn figures_by_hand() {
    assert_eq!(mean([]), None);
    assert_eq!(mean([1.0, 2.0, 6.0]), Some(3.0));
    assert_eq!(median(&[5.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[1.0, 4.0]), Some(2.5));
    let ten: Vec<f64> = (1..=10).map(f64::from).collect();
    assert_eq!(quantile(&ten, 0.9), Some(9.0));
    assert_eq!(quantile(&[3.0], 0.9), Some(3.0));
    assert_eq!(quantile(&[], 0.9), None);
    // Measured 1 < 2 < 3; predicted puts the last two the wrong way round.
    let sweep = vec![(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)];
    assert_eq!(kendall_tau(std::slice::from_ref(&sweep)), Some(1.0 / 3.0));
    assert_eq!(top1_regret(&[sweep]), Some(0.0));
    // A predicted tie is neither right nor wrong, and the slower of the two counts; a measured tie is no pair.
    assert_eq!(kendall_tau(&[vec![(1.0, 5.0), (2.0, 5.0)]]), Some(0.0));
    assert_eq!(top1_regret(&[vec![(1.0, 5.0), (2.0, 5.0)], vec![(9.0, 1.0)]]), Some(1.0));
    assert_eq!(kendall_tau(&[vec![(1.0, 5.0), (1.0, 6.0)]]), None);
    assert_eq!(noise_floor(&[vec![1.0], vec![2.0, 4.0]]), Some((0.5 + 0.25) / 2.0));
    assert_eq!(noise_floor(&[vec![1.0]]), None);
}

/// Positive times of some configurations, measured and predicted.
fn sweep() -> impl Strategy<Value = Vec<(f64, f64)>> {
    proptest::collection::vec((0.1f64..10.0, 0.1f64..10.0), 1..12)
}

proptest! {
    #[test]
    fn order(sweeps in proptest::collection::vec(sweep(), 0..4)) {
        if let Some(tau) = kendall_tau(&sweeps) {
            prop_assert!((-1.0..=1.0).contains(&tau));
            let backwards: Vec<_> = sweeps.iter().map(|s| s.iter().map(|(m, p)| (*m, -p)).collect()).collect();
            prop_assert_eq!(kendall_tau(&backwards), Some(-tau));
        }
        prop_assert!(top1_regret(&sweeps).is_none_or(|r| r >= 0.0));
        // A model that is right, or right but for a factor, chooses right.
        let right: Vec<_> = sweeps.iter().map(|s| s.iter().map(|(m, _)| (*m, 2.0 * m)).collect()).collect();
        prop_assert!(kendall_tau(&right).is_none_or(|t| t == 1.0));
        prop_assert!(top1_regret(&right).is_none_or(|r| r == 0.0));
    }

    #[test]
    fn quantiles_are_values_in_order(values in proptest::collection::vec(-1e3f64..1e3, 1..40), a in 0.0f64..1.0, b in 0.0f64..1.0) {
        let (low, high) = (quantile(&values, a.min(b)).unwrap(), quantile(&values, a.max(b)).unwrap());
        prop_assert!(low <= high && values.contains(&low) && values.contains(&high));
    }

    #[test]
    fn any_text_is_rows_or_an_error(text in ".{0,200}", cell in ".{0,30}", plan_text in "[-0-9 |*:GHx]{0,40}") {
        let _ = read(&text);
        let _ = plan::parse(&plan_text);
        let _ = plan::from_sailor(&text);
        let _ = plan::partition(&format!("partition [{plan_text}]"), 24, 2);
        let columns = ["gpus", "gpu_mix", "tp", "iter_time_s", "plan", "model", "gpu", "trust"];
        let rows = columns.map(|column| with(&[(column, &cell)]));
        let rows: Vec<String> = rows.into_iter().chain([with(&[("plan", &plan_text)]), with(&[])]).collect();
        let outcomes = evaluate(read(&file(&rows)).unwrap(), &Settings::default(), |_| None);
        let figures = report(&outcomes).overall;
        prop_assert_eq!(figures.n + figures.skipped + figures.noisy.n, outcomes.iter().filter(|o| o.row.trust != validation::runs::Trust::C || o.result.is_ok()).count());
    }
}
