//! Where a scenario's layer times come from: measured tables, carried on or not, and GPUs' figures.

use crate::traces::TWO_ZONES;
use scenarios::{Overrides, load_text};
use sim_models::device::Evidence::{self, Calibrated, Extrapolated, Measured};
use sim_models::layer_times::{LayerTimes, NoTimes};
use std::sync::Arc;

/// Layer times of the first group with these overrides.
fn times(sets: &[&str]) -> Arc<LayerTimes> {
    let mut overrides = Overrides::default();
    for set in sets {
        overrides.set(set).expect("a path and a value");
    }
    let loaded = load_text(TWO_ZONES, "t.toml", None, &overrides);
    Arc::clone(&loaded.unwrap_or_else(|f| panic!("{sets:?}: {}", f[0])).scenario.groups[0].layers)
}

const RATE: &str = "network.rate=100 Gbps";
const BEYOND: &str = "search.extrapolate=true";

#[test]
fn every_time_says_how_it_is_known() {
    let own = "model={ name = \"mine\", blocks = 4, hidden = 64, heads = 4, seq_len = 128, vocab = 1000 }";
    type Case<'a> = (&'a [&'a str], (u32, u32), Result<Evidence, NoTimes>);
    let cases: &[Case<'_>] = &[
        (&[], (2, 4), Ok(Measured)),
        (&[], (3, 4), Err(NoTimes::NotMeasured)),
        (&[], (2, 16), Err(NoTimes::NotMeasured)),
        (&[BEYOND], (2, 4), Ok(Measured)),
        (&[BEYOND], (3, 4), Ok(Calibrated)),
        (&[BEYOND], (64, 4), Ok(Extrapolated)),
        (&[BEYOND], (2, 16), Ok(Extrapolated)),
        (&[BEYOND], (2, 3), Err(NoTimes::Heads { heads: 16 })),
        (&["training.precision=bf16"], (3, 4), Ok(Extrapolated)),
        (&[RATE, "nodes.a.gpu=H100"], (3, 4), Ok(Extrapolated)),
        (&[RATE, "nodes.a.gpu=H100"], (3, 5), Err(NoTimes::Heads { heads: 16 })),
        (&[RATE, "nodes.a.gpu=H100"], (u32::MAX, 1), Err(NoTimes::TooLong)),
        (&[own], (3, 4), Ok(Extrapolated)),
        (&[own], (0, 1), Err(NoTimes::NotMeasured)),
        (&[own], (1, 0), Err(NoTimes::NotMeasured)),
    ];
    for (sets, (micro_batch, tp), expected) in cases {
        let found = times(sets).at(*micro_batch, *tp);
        assert_eq!(found.as_ref().map(|t| t.evidence), expected.as_ref().map(|e| *e), "{sets:?}");
        let spread = found.map(|t| t.spread);
        assert!(spread.is_err() || spread.is_ok_and(|s| s > 0.0 && s < 0.5), "{sets:?}");
    }
}

/// A table that is carried on still gives its own points, and one that is not gives the same.
#[test]
fn carried_on_or_not_a_table_gives_its_points() {
    let (plain, beyond) = (times(&[]), times(&[BEYOND]));
    let measured: Vec<_> = plain.configurations().collect();
    assert!(measured.len() > 10);
    for (micro_batch, tp) in measured {
        assert_eq!(plain.at(micro_batch, tp), beyond.at(micro_batch, tp));
    }
    assert!(plain != beyond && *times(&[]) == *plain);
    let sizes = |t: &LayerTimes| t.micro_batches().into_iter().collect::<Vec<_>>();
    assert_eq!(sizes(&times(&[RATE, "nodes.a.gpu=T4"])), [1, 2, 4, 8]);
}

/// A layer of several ranks waits for its all-reduces: two a pass, each 2 (t - 1) / t of the activation over the link.
#[test]
fn tensor_parallel_layers_wait_for_the_link() {
    let block = |inside: &str| {
        let sets = [RATE, "nodes.a.gpu=H100", "training.precision=bf16", inside];
        let times = times(&sets).at(4, 4).expect("times");
        times.cost("1".parse().expect("a layer")).expect("a block")
    };
    let (slow, slower) = (block("nodes.a.inside=2 GB/s"), block("nodes.a.inside=1 GB/s"));
    // 4 x 2048 x 1024 x 2 bytes, twice, 1.5 times.
    let bytes = 2.0 * 1.5 * f64::from(4 * 2048 * 1024 * 2);
    for (slow, slower) in [(slow.forward, slower.forward), (slow.backward, slower.backward)] {
        let more = slower.as_secs_f64() - slow.as_secs_f64();
        assert!((more - bytes / 2e9).abs() < 1e-9, "{more}");
    }
}

/// A framework by name brings its kernels, host times and memory; an unknown one is told the nearest.
#[test]
fn a_framework_by_its_name() {
    let text = |training: &str| {
        format!(
            "schema_version = 1\n[model]\nname = \"llama-3-8b\"\n[training]\nglobal_batch = 8\nprecision = \"bf16\"\n{training}\n\
             [[nodes]]\nname = \"a\"\ncount = 2\ngpus_per_node = 8\ngpu = \"H100\"\n[network]\nrate = \"400 Gbps\"\n"
        )
    };
    let load = |training: &str| load_text(&text(training), "x", None, &Overrides::default());
    let plain = load("").expect("a scenario").scenario;
    let named = load("framework = \"nanotron\"").expect("a scenario").scenario;
    let block = |s: &sim_models::scenario::Scenario| {
        let times = s.groups[0].layers.at(1, 8).expect("modelled");
        times.cost("1".parse().expect("a layer")).expect("a block").forward
    };
    assert_ne!(block(&plain), block(&named));
    assert!(named.groups[0].gpu.memory <= plain.groups[0].gpu.memory);
    assert!(named.training.gradient_bytes >= plain.training.gradient_bytes);
    let faults = load("framework = \"nanotrn\"").map(|_| ()).expect_err("no framework");
    let told = faults[0].to_string();
    assert!(told.contains("unknown framework `nanotrn`") && told.contains("nanotron"), "{told}");
}
