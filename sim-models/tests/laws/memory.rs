//! Memory by hand, and its laws.

use crate::random::{Sharing, Tape, case};
use crate::round::{group, plan, scenario, with_batch_of};
use proptest::prelude::*;
use sim_models::iteration::{Options, memory_needs, simulate};
use sim_models::layout::Layout;
use sim_models::memory::{Memory, StageMemory, of_rank, of_stage};
use sim_models::plan::{Plan, Schedule};
use sim_models::units::Bytes;
use sim_models::workload::{ActivationModel, GradientBuffers, Optimizer, Precision};

fn memories(schedule: Schedule, n: u32, change: impl Fn(&mut sim_models::scenario::Scenario)) -> Vec<Memory> {
    let stages: &[_] = &[("0", 1, &["a:0"][..]), ("1-2", 1, &["a:1"]), ("3", 1, &["a:2"])];
    let p = Plan { schedule, ..plan(&[(1, n, stages)]) };
    let mut s = scenario(vec![group("a", "z", 1, 4)]);
    s.training.activations = ActivationModel {
        replicated: 2.0,
        attention: 0.0,
        mlp: 0.25,
        scores: 0.0,
        logits: 1.0,
        ..ActivationModel::default()
    };
    change(&mut s);
    let s = with_batch_of(s, &p);
    let layout = Layout::new(&s, &p).expect("a plan");
    layout.ranks.iter().map(|r| of_rank(&s, &p, &layout, r)).collect()
}

#[test]
fn parts_by_hand() {
    // Parameters: 12,800; 242,600; 13,000. Kept for one micro-batch, elements: 100,000; 2 x 300,000; 200,000 + 128,000.
    let table: [(Precision, Optimizer, u64, u64); 3] = [
        (Precision::Fp32, Optimizer::Adam, 4, 8),
        (Precision::Bf16, Optimizer::Adam, 2, 12),
        (Precision::Fp16, Optimizer::Sgd, 2, 4),
    ];
    for (precision, optimizer, element, state) in table {
        for (schedule, n, in_flight) in [
            (Schedule::OneFOneB, 1, [1, 1, 1]),
            (Schedule::OneFOneB, 2, [2, 2, 1]),
            (Schedule::OneFOneB, 9, [3, 2, 1]),
            (Schedule::GPipe, 9, [9, 9, 9]),
        ] {
            let got = memories(schedule, n, |s| {
                (s.training.precision, s.training.optimizer) = (precision, optimizer);
                s.training.gradient_bytes = precision.activation_bytes();
            });
            let parts = [(12_800, 100_000, 1), (242_600, 600_000, 2), (13_000, 328_000, 1)];
            for (s, (parameters, kept, neighbours)) in parts.into_iter().enumerate() {
                let expected = Memory {
                    parameters: Bytes(parameters * element),
                    gradients: Bytes(parameters * element),
                    optimizer: Bytes(parameters * state),
                    activations: Bytes(kept * element * in_flight[s]),
                    communication: Bytes(2 * neighbours * 100_000 * element),
                    reserve: Bytes(1 << 30),
                };
                assert_eq!(got[s], expected, "{schedule}, {n} micro-batches, stage {s}");
            }
        }
    }
    // The last stage keeps a copy of the matrix that its head shares with the embedding, and has no other.
    let tied = memories(Schedule::OneFOneB, 1, |s| s.model.tied_embeddings = true);
    assert_eq!(tied[2].parameters, Bytes(13_000 * 4));
    assert_eq!(tied[0].parameters, Bytes(12_800 * 4));
}

/// Buckets of all parameters where there are replicas; a gradient of each shape, as many as one block's matrices have elements.
#[test]
fn buffers_of_gradients_by_hand() {
    let gradients = |replicas: u64, buffers: GradientBuffers| -> Bytes {
        let p = plan(&[(1, 1, &[("0-3", 1, &["a:0"][..])])]);
        let mut s = with_batch_of(scenario(vec![group("a", "z", 1, 4)]), &p);
        s.training.buffers = buffers;
        let layers = p.pipelines[0].stages[0].layers.clone();
        let stage = StageMemory { replicas, ..StageMemory::plain(&layers, 1, 0, 1, 1) };
        of_stage(&s, &p, &stage).gradients
    };
    let plain = gradients(1, GradientBuffers::default());
    let model = scenario(vec![group("a", "z", 1, 4)]).model;
    let buckets = GradientBuffers { buckets: 2, shapes: false };
    assert_eq!(gradients(1, buckets), plain);
    assert_eq!(gradients(2, buckets), plain + Bytes(2 * model.total_parameters()));
    let (h, f) = (model.hidden, model.ffn_hidden);
    let shapes = Bytes(4 * (4 * h * h + 2 * h * f));
    assert_eq!(gradients(1, GradientBuffers { buckets: 0, shapes: true }), plain + shapes);
}

proptest! {
    #[test]
    fn parts_add_up_and_reports_agree(tape in prop::collection::vec(any::<u16>(), 0..260)) {
        let (scenario, plan) = case(&mut Tape::new(&tape), Sharing::Yes);
        let layout = Layout::new(&scenario, &plan).expect("a plan");
        let needs = memory_needs(&scenario, &plan, &layout);
        let iteration = simulate(&scenario, &plan, &Options { fold: false, ..Options::default() }).expect("a plan");
        prop_assert_eq!(iteration.fits(), needs.iter().all(|(need, has)| need <= has));
        for (rank, (need, has)) in layout.ranks.iter().zip(&needs) {
            let m = of_rank(&scenario, &plan, &layout, rank);
            let parts = m.parameters.0 + m.gradients.0 + m.optimizer.0 + m.activations.0 + m.communication.0 + m.reserve.0;
            prop_assert_eq!(Bytes(parts), m.total());
            prop_assert_eq!(m.total(), *need);
            for device in &rank.devices {
                let id = scenario.device_name(*device);
                let report = iteration.devices.iter().find(|d| d.id == id).expect("in the plan");
                prop_assert_eq!((report.peak_memory_bytes, report.memory_bytes), (need.0, has.0));
                prop_assert_eq!(report.memory, m);
            }
        }
        // 1F1B never holds more than GPipe, and less the nearer a stage is to the end.
        let with = |schedule| Plan { schedule, ..plan.clone() };
        let (one, all) = (with(Schedule::OneFOneB), with(Schedule::GPipe));
        for rank in &layout.ranks {
            let activations = |p: &Plan| of_rank(&scenario, p, &layout, rank).activations;
            prop_assert!(activations(&one) <= activations(&all));
        }
    }
}
