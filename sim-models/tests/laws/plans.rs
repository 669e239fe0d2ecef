//! What is a plan for a scenario, and what is not.

use crate::round::{TIMES, group, plan, scenario, table};
use proptest::prelude::*;
use sim_models::iteration::{Options, SimulateError, simulate};
use sim_models::layout::Layout;
use sim_models::plan::{DeviceRange, LayerRange, Layers, Plan, Schedule, Stage};
use sim_models::plan_check::check;
use sim_models::scenario::Scenario;

/// Groups `a` (2 nodes of 4), `v` (2 nodes of 2) and `odd` (with layer times of another model), batch 6, and a plan of two
/// groups of pipelines for it.
fn good() -> (Scenario, Plan) {
    let mut s = scenario(vec![group("a", "z", 2, 4), group("v", "z", 2, 2), group("odd", "z", 1, 1)]);
    s.groups[2].layers = table(&[(1, 1)], &TIMES[..3]);
    s.training.global_batch = 6;
    let p = plan(&[
        (2, 2, &[("0-1", 2, &["a:0-3"]), ("2-3", 1, &["v:0-1"])]),
        (1, 2, &[("0-2", 4, &["a:4-7"]), ("3", 2, &["v:2-3"])]),
    ]);
    (s, p)
}

fn layers(first: u32, last: u32) -> Layers {
    LayerRange { first, last }.into()
}

fn devices(group: &str, first: u32, last: u32) -> Vec<DeviceRange> {
    vec![DeviceRange { group: group.into(), first, last }]
}

type Mutation = fn(&mut Plan);

/// (what, the mutation, code and path of each fault, part of the first message, part of the first help)
type Case = (&'static str, Mutation, &'static [(&'static str, &'static str)], &'static str, &'static str);

const MUTATIONS: &[Case] = &[
    (
        "micro-batch of 0",
        |p| p.micro_batch = 0,
        &[("T0201", "micro_batch")],
        "`micro_batch` is 0",
        "at least 1",
    ),
    ("no pipelines", |p| p.pipelines.clear(), &[("T0202", "pipelines")], "no pipelines", "at least one"),
    (
        "no replicas",
        |p| p.pipelines[1].replicas = 0,
        &[
            ("T0201", "pipelines[1].replicas"),
            ("T0203", "pipelines"),
            ("T0207", "pipelines[1].stages[0].devices"),
            ("T0207", "pipelines[1].stages[1].devices"),
        ],
        "`replicas` is 0",
        "at least 1",
    ),
    (
        "no micro-batches",
        |p| p.pipelines[0].micro_batches = 0,
        &[("T0201", "pipelines[0].micro_batches"), ("T0203", "pipelines")],
        "`micro_batches` is 0",
        "at least 1",
    ),
    (
        "tp of 0",
        |p| p.pipelines[0].stages[1].tp = 0,
        &[("T0201", "pipelines[0].stages[1].tp")],
        "`tp` is 0",
        "at least 1",
    ),
    (
        "more samples than the batch",
        |p| p.pipelines[0].micro_batches = 3,
        &[("T0203", "pipelines")],
        "8 samples (8 micro-batches of 1), more than the global batch of 6",
        "share out 6 micro-batches",
    ),
    (
        "fewer samples than the batch",
        |p| p.pipelines[1].micro_batches = 1,
        &[("T0203", "pipelines")],
        "5 samples (5 micro-batches of 1), fewer than the global batch of 6",
        "share out 6 micro-batches",
    ),
    (
        "a micro-batch that does not divide the batch",
        |p| p.micro_batch = 4,
        &[
            ("T0203", "pipelines"),
            ("T0210", "pipelines[0].stages[0].tp"),
            ("T0210", "pipelines[0].stages[1].tp"),
            ("T0210", "pipelines[1].stages[0].tp"),
            ("T0210", "pipelines[1].stages[1].tp"),
        ],
        "24 samples",
        "must divide 6",
    ),
    (
        "no stages",
        |p| p.pipelines[1].stages.clear(),
        &[("T0204", "pipelines[1].stages")],
        "without stages",
        "at least one",
    ),
    (
        "a layer that is not there",
        |p| p.pipelines[0].stages[1].layers = layers(2, 4),
        &[("T0205", "pipelines[0].stages[1].layers")],
        "layers `2-4`: the model has layers 0 to 3",
        "the last is the head",
    ),
    (
        "a layer twice",
        |p| p.pipelines[0].stages[1].layers = layers(1, 3),
        &[("T0205", "pipelines[0].stages[1].layers")],
        "layer 1 is already in a stage before",
        "starts at layer 2",
    ),
    (
        "a layer missing",
        |p| p.pipelines[0].stages[1].layers = layers(3, 3),
        &[("T0205", "pipelines[0].stages[1].layers")],
        "layer 2 is in no stage",
        "starts at layer 2",
    ),
    (
        "layers missing before the first",
        |p| p.pipelines[1].stages[0].layers = layers(2, 2),
        &[("T0205", "pipelines[1].stages[0].layers")],
        "layers 0 to 1 are in no stage",
        "starts at layer 0",
    ),
    (
        "the last layer missing",
        |p| p.pipelines[0].stages[1].layers = layers(2, 2),
        &[("T0205", "pipelines[0].stages[1].layers")],
        "layer 3 is in no stage",
        "ends at layer 3",
    ),
    (
        "layers backwards",
        |p| p.pipelines[0].stages[1].layers = layers(2, 1),
        &[("T0205", "pipelines[0].stages[1].layers")],
        "layers `2-1` run backwards",
        "the first layer",
    ),
    (
        "layers up to the largest number",
        |p| p.pipelines[0].stages[1].layers = layers(2, u32::MAX),
        &[("T0205", "pipelines[0].stages[1].layers")],
        "the model has layers 0 to 3",
        "the last is the head",
    ),
    (
        "a group that is not there",
        |p| p.pipelines[0].stages[1].devices = devices("w", 0, 1),
        &[("T0206", "pipelines[0].stages[1].devices")],
        "no node group `w`",
        "the cluster has `a`, `v`, `odd`",
    ),
    (
        "a device that is not there",
        |p| p.pipelines[1].stages[1].devices = devices("v", 3, 4),
        &[("T0206", "pipelines[1].stages[1].devices")],
        "no device `v:4`",
        "`v` has devices 0 to 3",
    ),
    (
        "more devices than there are",
        |p| p.pipelines[1].stages[1].devices = devices("v", 0, u32::MAX),
        &[("T0206", "pipelines")],
        "the plan names 4294967306 devices, the cluster has 13",
        "at most once, 13 in all",
    ),
    (
        "too few devices",
        |p| p.pipelines[1].stages[1].devices = devices("v", 2, 2),
        &[("T0207", "pipelines[1].stages[1].devices")],
        "1 device for 1 replica of tp 2",
        "name 2 devices",
    ),
    (
        "no devices",
        |p| p.pipelines[0].stages[1].devices.clear(),
        &[("T0207", "pipelines[0].stages[1].devices")],
        "0 devices for 2 replicas of tp 1",
        "name 2 devices",
    ),
    (
        "devices backwards",
        |p| p.pipelines[0].stages[1].devices = devices("v", 1, 0),
        &[("T0207", "pipelines[0].stages[1].devices")],
        "0 devices for 2 replicas of tp 1",
        "name 2 devices",
    ),
    (
        "tp of the largest number",
        |p| (p.pipelines[0].replicas, p.pipelines[0].stages[0].tp) = (u32::MAX, u32::MAX),
        &[
            ("T0203", "pipelines"),
            ("T0207", "pipelines[0].stages[0].devices"),
            ("T0207", "pipelines[0].stages[1].devices"),
        ],
        "more than the global batch",
        "share out 6 micro-batches",
    ),
    (
        "a device twice in one stage",
        |p| p.pipelines[0].stages[1].devices = [devices("v", 0, 0), devices("v", 0, 0)].concat(),
        &[("T0208", "pipelines[0].stages[1].devices")],
        "device `v:0` is used twice",
        "one stage of one pipeline",
    ),
    (
        "a device in two pipelines",
        |p| p.pipelines[1].stages[1].devices = devices("v", 1, 2),
        &[("T0208", "pipelines[1].stages[1].devices")],
        "device `v:1` is used twice",
        "one stage of one pipeline",
    ),
    (
        "tensor parallelism over two nodes",
        |p| p.pipelines[1].stages[1].devices = [devices("v", 3, 3), devices("a", 0, 0)].concat(),
        &[("T0208", "pipelines[1].stages[1].devices")],
        "device `a:0` is used twice",
        "one stage of one pipeline",
    ),
    (
        "a replica over two nodes",
        |p| {
            p.pipelines[0].stages[0].devices =
                [devices("a", 0, 0), devices("a", 4, 4), devices("a", 2, 3)].concat();
            p.pipelines[1].stages[0].devices = [devices("a", 5, 7), devices("a", 1, 1)].concat();
        },
        &[
            ("T0209", "pipelines[0].stages[0].tp"),
            ("T0209", "pipelines[1].stages[0].devices"),
            ("T0209", "pipelines[1].stages[0].tp"),
        ],
        "replica 0: `A100-40` was measured inside a node",
        "on one node",
    ),
    (
        "a degree of ZeRO that there is not",
        |p| p.zero = 4,
        &[("T0211", "zero"), ("T0211", "zero")],
        "`zero` is 4",
        "0 (nothing shared out) to 3",
    ),
    (
        "gradients shared in every micro-batch by unlike pipelines",
        |p| p.zero = 2,
        &[("T0211", "zero")],
        "pipelines that are not alike",
        "the same layers and micro-batches",
    ),
    (
        "a limit of another schedule",
        |p| p.in_flight = Some(4),
        &[("T0211", "in_flight")],
        "`in_flight` with the schedule `1f1b`",
        "only `zero-bubble`",
    ),
    (
        "a limit below the stages",
        |p| (p.schedule, p.in_flight) = (Schedule::ZeroBubble, Some(1)),
        &[("T0211", "in_flight"), ("T0211", "in_flight")],
        "`in_flight` is 1",
        "at least the 2 stages",
    ),
    (
        "two ranges of layers without interleaving",
        |p| {
            let stages = &mut p.pipelines[0].stages;
            stages[0].layers = "0,2".parse().expect("layers");
            stages[1].layers = "1,3".parse().expect("layers");
        },
        &[("T0212", "pipelines[0].stages[0].layers"), ("T0212", "pipelines[0].stages[1].layers")],
        "2 ranges of layers with the schedule `1f1b`",
        "interleaved",
    ),
    (
        "stages of unlike numbers of ranges",
        |p| {
            p.schedule = Schedule::Interleaved;
            p.pipelines[0].stages[1].layers = "1,3".parse().expect("layers");
        },
        &[("T0212", "pipelines[0].stages[1].layers"), ("T0205", "pipelines[0].stages[1].layers")],
        "2 ranges of layers, the first stage has 1",
        "as many virtual stages",
    ),
    (
        "interleaved micro-batches that do not divide",
        |p| {
            p.schedule = Schedule::Interleaved;
            p.pipelines[0].micro_batches = 1;
            p.pipelines[1].micro_batches = 4;
            let stages = &mut p.pipelines[0].stages;
            stages[0].layers = "0,2".parse().expect("layers");
            stages[1].layers = "1,3".parse().expect("layers");
        },
        &[("T0212", "pipelines[0].micro_batches")],
        "1 micro-batches over 2 interleaved stages",
        "a multiple",
    ),
    (
        "experts of a model without any",
        |p| p.pipelines[0].stages[0].ep = 2,
        &[("T0213", "pipelines[0].stages[0].ep"), ("T0209", "pipelines[0].stages[0].tp")],
        "has no experts",
        "1",
    ),
    (
        "a sequence cut unevenly",
        |p| {
            p.pipelines[1].stages[0].cp = 3;
            p.pipelines[1].stages[0].tp = 1;
        },
        &[("T0213", "pipelines[1].stages[0].cp"), ("T0207", "pipelines[1].stages[0].devices")],
        "cp 3 does not divide the sequence of 1000 tokens",
        "parts of a sequence",
    ),
    (
        "tp that was not measured",
        |p| {
            (p.pipelines[0].replicas, p.pipelines[0].micro_batches) = (1, 4);
            p.pipelines[0].stages[0].tp = 3;
            p.pipelines[0].stages[0].devices = devices("a", 0, 2);
            p.pipelines[0].stages[1].devices = devices("v", 0, 0);
        },
        &[("T0210", "pipelines[0].stages[0].tp")],
        "`A100-40` was not measured at micro-batch 1, tp 3 for `round`",
        "measured (micro-batch x tp): 1 x 1, 1 x 2, 1 x 4, 2 x 1",
    ),
    (
        "layer times of another model",
        |p| p.pipelines[0].stages[1].devices = [devices("v", 0, 0), devices("odd", 0, 0)].concat(),
        &[("T0210", "pipelines[0].stages[1].tp")],
        "the layer times of `A100-40` are of 3 layers, not of `round`",
        "a table of 4 layers",
    ),
];

#[test]
fn every_fault_is_found_at_its_place() {
    let (s, p) = good();
    assert_eq!(check(&s, &p), []);
    let mut codes = std::collections::BTreeSet::new();
    for (what, mutate, expected, message, help) in MUTATIONS {
        let mut bad = p.clone();
        mutate(&mut bad);
        let faults = check(&s, &bad);
        let found: Vec<(&str, &str)> = faults.iter().map(|f| (f.code, f.path.as_str())).collect();
        assert_eq!(&found, expected, "{what}: {faults:?}");
        assert!(faults[0].message.contains(message), "{what}: {:?}", faults[0]);
        assert!(faults[0].help.contains(help), "{what}: {:?}", faults[0]);
        let error = simulate(&s, &bad, &Options::default()).expect_err(what);
        assert_eq!(error, SimulateError::Plan(faults.clone()));
        codes.extend(found.iter().map(|f| f.0));
    }
    let all: Vec<String> = (201..=213).map(|n| format!("T0{n}")).collect();
    assert!(codes.iter().eq(&all), "{codes:?}");
}

/// Numbers at which something could break.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![5 => 0u32..9, 1 => prop::sample::select(vec![u32::MAX, u32::MAX - 1, 1 << 31, 100_000])]
}

fn any_stage() -> impl Strategy<Value = Stage> {
    let range = (prop::sample::select(vec!["a", "v", "odd", "w", ""]), number(), number())
        .prop_map(|(group, first, last)| DeviceRange { group: group.into(), first, last });
    (number(), number(), number(), prop::collection::vec(range, 0..3)).prop_map(
        |(first, last, tp, devices)| Stage { layers: layers(first, last), tp, devices, ..Stage::default() },
    )
}

/// One change of a plan.
#[derive(Clone, Debug)]
enum Change {
    MicroBatch(u32),
    Schedule(Schedule),
    Replicas(usize, u32),
    MicroBatches(usize, u32),
    Stage(usize, usize, Stage),
    Layers(usize, usize, u32, u32),
    Tp(usize, usize, u32),
    Devices(usize, usize, u32, u32),
    Remove(usize, usize),
    Insert(usize, usize, Stage),
    Copy(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || (any::<usize>(), any::<usize>());
    prop_oneof![
        number().prop_map(Change::MicroBatch),
        prop::sample::select(vec![Schedule::GPipe, Schedule::OneFOneB]).prop_map(Change::Schedule),
        (any::<usize>(), number()).prop_map(|(p, n)| Change::Replicas(p, n)),
        (any::<usize>(), number()).prop_map(|(p, n)| Change::MicroBatches(p, n)),
        (at(), any_stage()).prop_map(|((p, s), stage)| Change::Stage(p, s, stage)),
        (at(), number(), number()).prop_map(|((p, s), a, b)| Change::Layers(p, s, a, b)),
        (at(), number()).prop_map(|((p, s), n)| Change::Tp(p, s, n)),
        (at(), number(), number()).prop_map(|((p, s), a, b)| Change::Devices(p, s, a, b)),
        at().prop_map(|(p, s)| Change::Remove(p, s)),
        (at(), any_stage()).prop_map(|((p, s), stage)| Change::Insert(p, s, stage)),
        any::<usize>().prop_map(Change::Copy),
    ]
}

fn apply(plan: &mut Plan, change: Change) {
    use Change as C;
    match change {
        C::MicroBatch(n) => return plan.micro_batch = n,
        C::Schedule(schedule) => return plan.schedule = schedule,
        _ => {}
    }
    let count = plan.pipelines.len().max(1);
    let (p, s) = match &change {
        C::Replicas(p, _) | C::MicroBatches(p, _) | C::Copy(p) => (p % count, 0),
        C::Stage(p, s, _) | C::Insert(p, s, _) | C::Remove(p, s) | C::Tp(p, s, _) => (p % count, *s),
        C::Layers(p, s, ..) | C::Devices(p, s, ..) => (p % count, *s),
        C::MicroBatch(_) | C::Schedule(_) => return,
    };
    let Some(group) = plan.pipelines.get_mut(p) else { return };
    let s = s % group.stages.len().max(1);
    match (change, group.stages.get_mut(s)) {
        (C::Replicas(_, n), _) => group.replicas = n,
        (C::MicroBatches(_, n), _) => group.micro_batches = n,
        (C::Copy(_), _) => {
            let copy = group.clone();
            plan.pipelines.push(copy);
        }
        (C::Insert(_, _, stage), _) => group.stages.insert(s, stage),
        (C::Remove(..), Some(_)) => drop(group.stages.remove(s)),
        (C::Stage(_, _, new), Some(stage)) => *stage = new,
        (C::Layers(_, _, first, last), Some(stage)) => stage.layers = layers(first, last),
        (C::Tp(_, _, tp), Some(stage)) => stage.tp = tp,
        (C::Devices(_, _, first, last), Some(stage)) => {
            for range in &mut stage.devices {
                (range.first, range.last) = (first, last);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever the plan: faults, or an iteration.
    #[test]
    fn no_plan_makes_it_panic(changes in prop::collection::vec(change(), 1..5), batch in prop_oneof![Just(6), number()]) {
        let (mut s, mut p) = good();
        s.training.global_batch = batch;
        for change in changes {
            apply(&mut p, change);
        }
        let faults = check(&s, &p);
        prop_assert_eq!(Layout::new(&s, &p).is_ok(), faults.is_empty());
        for fault in &faults {
            prop_assert!(!fault.message.is_empty() && !fault.help.is_empty() && !fault.path.is_empty());
        }
        match simulate(&s, &p, &Options::default()) {
            Ok(iteration) => prop_assert!(faults.is_empty() && iteration.time.as_ps() > 0),
            Err(SimulateError::Plan(found)) => prop_assert_eq!(found, faults),
            Err(SimulateError::TooMany { .. }) => prop_assert!(faults.is_empty()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
