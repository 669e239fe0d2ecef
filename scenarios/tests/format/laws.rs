//! Laws: no text makes the reader panic, and what is written is what is read.

use proptest::prelude::*;
use scenarios::trace::{Selection, Series};
use scenarios::{Fault, Overrides, builtins, load_text, plan_from_text, quantity};
use sim_models::plan::{DeviceRange, LayerRange, PipelineGroup, Plan, Schedule, Stage};
use sim_models::units::Bytes;

/// Every fault has a code, a message without a capital or a full stop, and a place inside its text.
fn check(faults: &[Fault]) -> Result<(), TestCaseError> {
    prop_assert!(!faults.is_empty());
    for fault in faults {
        prop_assert!(scenarios::explain(fault.code).is_some(), "{}", fault.code);
        prop_assert!(!fault.message.is_empty() && !fault.message.ends_with('.'), "{}", fault.message);
        if let Some(span) = &fault.span {
            prop_assert!(fault.source.text.get(span.clone()).is_some());
            prop_assert!(fault.line_column().is_some());
        }
        prop_assert!(fault.to_string().contains(fault.code));
    }
    Ok(())
}

fn outcome<T>(result: Result<T, Vec<Fault>>) -> Result<(), TestCaseError> {
    result.map_or_else(|faults| check(&faults), |_| Ok(()))
}

/// What people and editors put into files.
const SCRAPS: &[&str] = &[
    "",
    "\"",
    "[",
    "]",
    "{",
    "}",
    "=",
    "\n",
    "#",
    ".",
    ",",
    "-1",
    "0",
    "nan",
    "inf",
    "1e999",
    "99999999999999999999",
    "\u{e9}",
    "\u{1f600}",
    "true",
    "2020-01-01",
    "[[nodes]]",
    "[plan]",
    "x = 1\n",
    "\"a100:0-4294967294\"",
    "'''",
    "\"4 GiB\"",
    "4294967295",
    "\0",
    "[[[[[[[[",
    "capacity",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_a_good_file_makes_the_reader_panic(
        which in 0..builtins().len(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..40, 0..SCRAPS.len()), 1..4),
        end in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let mut text: Vec<char> = builtins()[which].text.chars().collect();
        for (at, length, scrap) in cuts {
            let from = at.index(text.len() + 1);
            let to = (from + length).min(text.len());
            text.splice(from..to, SCRAPS[scrap].chars());
        }
        if truncate {
            text.truncate(end.index(text.len() + 1));
        }
        let text: String = text.into_iter().collect();
        outcome(load_text(&text, "damaged.toml", None, &Overrides::default()))?;
        outcome(plan_from_text(&text, "damaged.toml"))?;
    }

    #[test]
    fn no_value_of_a_key_makes_the_reader_panic(
        key in prop::sample::select(vec![
            "nodes.a100.count", "nodes.a100.gpus_per_node", "nodes.a100.gpu", "nodes.v100.memory", "nodes.v100.nic",
            "nodes.a100.inside", "nodes.a100.zone", "nodes.a100", "nodes", "nodes.0.profile", "training.global_batch",
            "training.memory_reserve", "network.links.wan.capacity", "network.links.wan.latency", "network.rate",
            "network.links.wan.between", "traces.wan.scale", "traces.wan.unit", "traces.wan.mode", "traces.wan.select",
            "events", "search.micro_batches", "search.max_stages", "plan", "plan.micro_batch", "model", "model.blocks", "",
        ]),
        value in prop_oneof![
            prop::sample::select(SCRAPS.to_vec()).prop_map(String::from),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| n.to_string()),
            "[0-9a-zA-Z /.:-]{0,12}",
            any::<u32>().prop_map(|n| format!("{n} GiB")),
            any::<f64>().prop_map(|n| format!("{n} Gbps")),
            any::<f64>().prop_map(|n| format!("{n} s")),
        ],
    ) {
        let overrides = Overrides { sets: vec![(key.to_string(), value)], ..Overrides::default() };
        outcome(load_text(builtins()[0].text, "set.toml", None, &overrides))?;
    }

    #[test]
    fn no_trace_makes_the_reader_panic(
        rows in proptest::collection::vec(
            (prop_oneof![any::<f64>().prop_map(|t| t.to_string()), (0u32..50).prop_map(|t| t.to_string()), ".{0,6}"],
             prop_oneof![any::<f64>().prop_map(|t| t.to_string()), "[0-9,\"]{0,6}"]),
            0..20),
        wild in any::<bool>(), any in ".{0,200}",
    ) {
        let mut text = String::from("time_s,bandwidth_bps\n");
        for (time, value) in rows {
            text += &format!("{time},{value}\n");
        }
        let text = if wild { any } else { text };
        outcome(Series::parse(&text, "x.csv", &Selection::of_link("wan")))?;
    }

    #[test]
    fn no_text_makes_a_quantity_panic(text in ".{0,30}", number in any::<f64>(), unit in "[a-zA-Z/]{0,5}") {
        for text in [text, format!("{number} {unit}"), format!("{number}{unit}")] {
            let _ = (quantity::size(&text), quantity::rate(&text), quantity::duration(&text));
        }
    }

    #[test]
    fn a_plan_is_read_as_it_is_written(plan in plan()) {
        let text = toml::to_string(&plan).expect("a plan is TOML");
        let read = plan_from_text(&text, "plan.toml");
        prop_assert_eq!(read.map_err(|f| f[0].to_string()), Ok(plan));
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let range = |most: u32| (0..most, 0..most).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let devices = ("[a-z0-9:.-]{1,8}", range(1000)).prop_map(|(group, (first, last))| DeviceRange {
        group,
        first,
        last,
    });
    let stage = (range(30), 1u32..9, proptest::collection::vec(devices, 0..4)).prop_map(
        |((first, last), tp, devices)| Stage {
            layers: LayerRange { first, last }.into(),
            tp,
            devices,
            ..Stage::default()
        },
    );
    let group = (1u32..100, 1u32..100, proptest::collection::vec(stage, 0..4))
        .prop_map(|(replicas, micro_batches, stages)| PipelineGroup { replicas, micro_batches, stages });
    let schedule = proptest::sample::select(Schedule::ALL.to_vec());
    let bucket = proptest::option::of((1u64..1 << 40).prop_map(Bytes));
    let flags = any::<[bool; 4]>();
    (1u32..100, schedule, flags, 0u8..4, bucket, proptest::collection::vec(group, 1..4)).prop_map(
        |(micro_batch, schedule, flags, zero, gradient_bucket, pipelines)| Plan {
            micro_batch,
            schedule,
            overlap_p2p: flags[0],
            sequence_parallel: flags[1],
            overlap_tp: flags[2],
            overlap_gradients: flags[3],
            gather_after_step: flags[0] && flags[3],
            zero,
            gradient_bucket,
            pipelines,
            ..Plan::default()
        },
    )
}

/// Deep nesting is a fault or an unknown key, never a stack that overflows.
#[test]
fn deep_nesting_is_refused() {
    let deep = 200_000;
    for text in [
        format!("{} = 1", vec!["a"; deep].join(".")),
        format!("[{}]\nx = 1", vec!["a"; deep].join(".")),
        format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("a = {}1{}", "{ a = ".repeat(deep), " }".repeat(deep)),
    ] {
        let faults =
            load_text(&text, "deep.toml", None, &Overrides::default()).map(|_| ()).expect_err("no scenario");
        assert!(check(&faults).is_ok());
    }
    let overrides = Overrides { sets: vec![(vec!["a"; deep].join("."), "1".into())], ..Overrides::default() };
    assert!(load_text(builtins()[0].text, "set.toml", None, &overrides).is_err());
}
