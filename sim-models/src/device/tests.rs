//! The laws of device models, and a GPU that only a datasheet describes.

use super::catalogue::{Catalogue, Format};
use super::constants::{FrameworkConstants, Selective};
use super::model::{Device, DeviceModel, Evidence, check_laws};
use super::operator::Stream;
use super::*;
use crate::workload::{LayerKind, Model};
use proptest::prelude::*;
use std::sync::Arc;

fn opt() -> Model {
    Model { tied_embeddings: false, ..Model::gpt("opt-350m", 24, 1024, 16, 2048, 50272) }
}

fn measured(gpu: &str) -> MeasuredLayers {
    let entry = Catalogue::builtin().find(gpu).unwrap();
    let table = LayerTable::shipped("opt-350m", gpu).unwrap();
    MeasuredLayers::new(&table, &opt(), Format::Fp32, Roofline::from_catalogue(entry))
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![
        Format::Fp32,
        Format::Tf32,
        Format::Fp16,
        Format::Bf16,
        Format::Fp8,
        Format::Fp4,
    ])
}

fn gpus() -> impl Strategy<Value = Gpu> {
    prop::sample::select(Catalogue::builtin().gpus().to_vec())
}

prop_compose! {
    fn shapes()(
        kind in prop::sample::select(vec![LayerKind::Embedding, LayerKind::Block, LayerKind::Head]),
        hidden in 1u64..20_000, heads in 1u64..200, groups in 1u64..9, ffn_hidden in 1u64..80_000,
        gated in any::<bool>(), experts in 0u64..64, top_k in 1u64..9, vocab in 1u64..300_000, parameters in 1u64..1_000_000_000,
    ) -> LayerShape {
        LayerShape {
            kind, hidden, heads, kv_heads: heads.div_ceil(groups), head_width: (hidden / heads).max(1), latent: None,
            window: 0, ffn_hidden, gated, experts, top_k, shared_ffn: 0, load_permille: 1000, vocab, parameters,
        }
    }
}

prop_compose! {
    fn queries()(
        shape in shapes(), micro_batch in 1u32..300, seq_len in 1u64..40_000, tp in 1u32..17, cp in 1u32..5,
        ep in 1u32..9, sequence_parallel in any::<bool>(), format in formats(),
    ) -> LayerQuery {
        LayerQuery { shape, micro_batch, seq_len, tp, cp, ep, sequence_parallel, piped: false, format }
    }
}

proptest! {
    #[test]
    fn the_roofline_keeps_the_laws(
        gpu in gpus(), x in queries(), more in 0u32..300, longer in 0u64..40_000, fused in any::<bool>(),
    ) {
        let y = LayerQuery { micro_batch: x.micro_batch + more, seq_len: x.seq_len + longer, ..x };
        let framework = if fused { FrameworkConstants::megatron_fused() } else { FrameworkConstants::default() };
        let model = Device::Roofline(Roofline::from_catalogue(&gpu).with_framework(framework));
        check_laws(&model, &x, &y).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_table_keeps_the_laws_inside_and_outside(
        x in queries(), mine in any::<bool>(), tp in 1u32..10, more in 0u32..100, longer in 0u64..5_000,
    ) {
        let x = if mine { LayerQuery::of(&opt(), 5, x.micro_batch, tp, Format::Fp32) } else { x };
        let y = LayerQuery { micro_batch: x.micro_batch + more, seq_len: x.seq_len + longer, ..x };
        for gpu in ["A100-40", "RTX-3090", "V100-16"] {
            check_laws(&Device::Table(measured(gpu)), &x, &y).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn operators_keep_the_laws(
        gpu in gpus(), format in formats(), batch in 1u64..64, m in 1u64..70_000, n in 1u64..70_000, k in 1u64..70_000,
        by in prop::array::uniform4(0u64..10_000), accumulate in any::<bool>(), grouped in any::<bool>(),
    ) {
        let model = Roofline::from_catalogue(&gpu);
        let gemm = |d: [u64; 4]| Operator::Gemm { batch: batch + d[0], m: m + d[1], n: n + d[2], k: k + d[3], accumulate, grouped };
        let (x, y) = (gemm([0; 4]), gemm(by));
        let (low_x, low_y) = (model.operator_lower(&x, format), model.operator_lower(&y, format));
        prop_assert!(low_x > 0.0 && low_x <= low_y * (1.0 + 1e-12));
        prop_assert!(low_x <= model.operator_s(&y, format) * (1.0 + 1e-12));
        prop_assert!(model.operator_s(&y, format).is_finite());
    }
}

#[test]
fn absurd_sizes_are_no_panic() {
    let shape = LayerShape {
        kind: LayerKind::Block,
        hidden: u64::MAX,
        heads: 1,
        kv_heads: u64::MAX,
        head_width: u64::MAX,
        latent: None,
        window: 0,
        ffn_hidden: u64::MAX,
        gated: true,
        experts: 1,
        top_k: u64::MAX,
        shared_ffn: u64::MAX,
        load_permille: u32::MAX,
        vocab: u64::MAX,
        parameters: u64::MAX,
    };
    for kind in [LayerKind::Embedding, LayerKind::Block, LayerKind::Head] {
        for (micro_batch, seq_len, tp) in [(0, 0, 0), (u32::MAX, u64::MAX, 1), (1, 1, u32::MAX)] {
            let query = LayerQuery {
                shape: LayerShape { kind, ..shape },
                micro_batch,
                seq_len,
                tp,
                cp: 1,
                ep: 1,
                sequence_parallel: false,
                piped: false,
                format: Format::Bf16,
            };
            let time = Device::Table(measured("A100-40")).layer(&query);
            assert!(time.forward.device_s.is_finite() && time.update_s.is_finite());
        }
    }
}

#[test]
fn a_table_returns_its_own_points_and_says_when_it_does_not() {
    for gpu in ["A100-40", "GH200-96", "RTX-2080"] {
        let (model, table) = (measured(gpu), LayerTable::shipped("opt-350m", gpu).unwrap());
        for (b, tp) in table.configurations() {
            for (layer, first, last, share) in [(0, 0, 0, 1.0), (3, 1, 24, 24.0), (25, 25, 25, 1.0)] {
                let cost = table.cost(b, tp, first, last).unwrap();
                let time = model.layer(&LayerQuery::of(&opt(), layer, b, tp, Format::Fp32));
                assert_eq!(time.evidence, Evidence::Measured);
                let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9 || b == 0.0;
                assert!(
                    near(time.forward.seconds(1.0), cost.forward.as_secs_f64() / share),
                    "{gpu} {b} {tp} {layer}"
                );
                assert!(
                    near(time.backward.seconds(1.0), cost.backward.as_secs_f64() / share),
                    "{gpu} {b} {tp} {layer}"
                );
            }
        }
    }
    let model = measured("A100-40");
    for (micro_batch, tp, seq_len, evidence) in [
        (2, 1, 2048, Evidence::Measured),
        (3, 1, 2048, Evidence::Calibrated),
        (16, 1, 2048, Evidence::Extrapolated),
        (2, 8, 2048, Evidence::Extrapolated),
        (2, 1, 4096, Evidence::Extrapolated),
    ] {
        let query = LayerQuery { seq_len, ..LayerQuery::of(&opt(), 3, micro_batch, tp, Format::Fp32) };
        let time = model.layer(&query);
        assert_eq!(time.evidence, evidence, "{micro_batch} {tp} {seq_len}");
        // A measured time at TP > 1 holds its all-reduces; one carried over from TP 1 does not.
        assert_eq!(time.forward.syncs, if tp == 8 { 2 } else { 0 });
    }
    let (two, three, four) = (2, 3, 4);
    let at = |b| model.layer(&LayerQuery::of(&opt(), 3, b, 1, Format::Fp32)).forward.seconds(0.0);
    assert!(at(two) < at(three) && at(three) < at(four));
}

/// A stage is the sum of its layers, and a shipped table gives what the table says.
#[test]
fn a_stage_is_the_sum_of_its_layers() {
    let (model, catalogue) = (opt(), Catalogue::builtin());
    let stage =
        |first, last| Stage { model: &model, first, last, micro_batch: 2, tp: 2, format: Format::Fp32 };
    let of = |gpu| {
        let table = LayerTable::shipped_for(&model, gpu, Format::Fp32);
        Device::of(gpu, &model, Format::Fp32, FrameworkConstants::default(), table.as_ref())
    };
    for (gpu, evidence) in [("A100-40", Evidence::Measured), ("H100", Evidence::Extrapolated)] {
        let gpu = catalogue.find(gpu).unwrap();
        let device = of(gpu);
        let whole = stage(0, 25).time(&device, |bytes| bytes * 1e-11);
        assert_eq!(whole.evidence, Some(evidence));
        let parts = [(0, 0), (1, 10), (11, 24), (25, 25)]
            .map(|(a, b)| stage(a, b).time(&device, |bytes| bytes * 1e-11));
        let sum = |f: fn(&StageTime) -> f64| parts.iter().map(f).sum::<f64>();
        assert!((sum(|t| t.forward_s) / whole.forward_s - 1.0).abs() < 1e-12);
        assert!((sum(|t| t.backward_s) / whole.backward_s - 1.0).abs() < 1e-12);
        let lower = stage(0, 25).lower(&device, |_| 0.0);
        assert!(lower.forward_s <= whole.forward_s && lower.forward_s > 0.3 * whole.forward_s);
    }
    let table = LayerTable::shipped("opt-350m", "A100-40").unwrap().cost(2, 2, 0, 25).unwrap();
    let device = of(catalogue.find("A100-40").unwrap());
    let time = stage(0, 25).time(&device, |_| 1.0);
    assert!(
        (time.forward_s / table.forward.as_secs_f64() - 1.0).abs() < 1e-9,
        "a measured time holds its all-reduces"
    );
    assert_eq!(stage(5, 4).time(&device, |_| 1.0).evidence, None);
}

/// A layer's products are the textbook's: 6 FLOP a parameter and token, forward and backward.
#[test]
fn a_blocks_arithmetic_is_the_textbooks() {
    let dense = LayerQuery::of(&opt(), 1, 4, 1, Format::Bf16);
    let flop = |q: &LayerQuery| -> f64 {
        let ops = layer::operators(q, &FrameworkConstants::default());
        let all = ops.forward.iter().chain(&ops.backward);
        all.filter(|(op, _)| matches!(op, Operator::Gemm { .. })).map(|(op, _)| op.flop()).sum()
    };
    let (tokens, h, f) = (4.0 * 2048.0, 1024.0, 4096.0);
    assert_eq!(flop(&dense), 6.0 * tokens * (4.0 * h * h + 2.0 * h * f));
    // Two of eight experts a token: the MLP twice.
    let shape = LayerShape { experts: 8, top_k: 2, ..dense.shape };
    assert_eq!(flop(&LayerQuery { shape, ..dense }), 6.0 * tokens * (4.0 * h * h + 4.0 * h * f));
    let split = LayerQuery::of(&opt(), 1, 4, 4, Format::Bf16);
    assert_eq!(flop(&split), flop(&dense) / 4.0);
}

/// Where products do not add to earlier gradients themselves, a kernel moves so many bytes for each of a block's weights.
#[test]
fn gradients_are_added_up() {
    let q = LayerQuery::of(&opt(), 1, 1, 2, Format::Bf16);
    let moved = |accumulate_bytes: f64| -> f64 {
        let ops = layer::operators(&q, &FrameworkConstants { accumulate_bytes, ..Default::default() });
        let memory = |(op, _): &(Operator, Format)| match op {
            Operator::Memory { bytes, .. } => *bytes,
            _ => 0.0,
        };
        ops.backward.iter().map(memory).sum()
    };
    let weights = (4 * 1024 * 1024 + 2 * 1024 * 4096) as f64 / 2.0;
    assert_eq!(moved(6.0) - moved(0.0), 6.0 * weights);
}

/// A card nobody measured: its datasheet, a model, times with their uncertainty.
#[test]
fn a_gpu_from_its_datasheet_alone() {
    let datasheet = r#"
        [[gpu]]
        name = "Nova-1"
        architecture = "nova"
        family = ["nova1"]
        form = "oam"
        tflops = { fp32 = 60, bf16 = 800, fp16 = 800, fp8 = 1600 }
        memory_bytes = 128_000_000_000
        bandwidth = 4000
        multiprocessors = 200
        cache_mib = 64
        power_w = 600
        pcie = 63
        [gpu.sources]
        peaks = "datasheet"
        memory = "datasheet"
        bandwidth = "datasheet"
        multiprocessors = "datasheet"
        links = "datasheet"
    "#;
    let catalogue = Catalogue::builtin().with(Catalogue::from_toml(datasheet).unwrap());
    let nova = Roofline::from_catalogue(catalogue.find("nova-1").unwrap());
    let h100 = Roofline::from_catalogue(catalogue.find("H100").unwrap());
    let query =
        LayerQuery::of(&Model { hidden: 8192, heads: 64, ffn_hidden: 28672, ..opt() }, 1, 4, 1, Format::Bf16);
    let (mine, known) = (nova.layer(&query), h100.layer(&query));
    assert_eq!(mine.evidence, Evidence::Extrapolated);
    assert!(mine.spread > 1.5 * known.spread, "{} {}", mine.spread, known.spread);
    let ratio = mine.backward.seconds(0.0) / known.backward.seconds(0.0);
    assert!((1.0..1.5).contains(&ratio), "0.81 of the peak, and no more: {ratio}");
    let cost = mine.cost(&Waits::default()).unwrap();
    assert!(cost.backward > cost.forward);
}

#[test]
fn a_model_of_ones_own_stands_beside_the_others() {
    let inner = Roofline::from_catalogue(Catalogue::builtin().find("A100").unwrap());
    let custom = Device::Custom(Arc::new(inner.clone()));
    let query = LayerQuery::of(&opt(), 1, 1, 1, Format::Fp16);
    assert_eq!(custom.layer(&query), inner.layer(&query));
    check_laws(&custom, &query, &LayerQuery { micro_batch: 2, ..query }).unwrap();
    assert!(
        check_laws(&custom, &LayerQuery { micro_batch: 2, ..query }, &query)
            .unwrap_err()
            .contains("not a case")
    );
}

/// What runs beside products is felt where it takes longer than they do, and slows them where it does not.
#[test]
fn exchanges_beside_products_are_felt_in_part() {
    let pass = super::model::Pass { device_s: 10.0, host_s: 0.0, syncs: 3, beside: (2, 4.0), jitter: 0.0 };
    for (sync_s, want) in [(0.0, 10.0), (1.0, 11.0 + 0.126 * 2.0), (5.0, 15.0 + 6.0 + 0.126 * 4.0)] {
        let got = pass.seconds(sync_s);
        assert!((got - want).abs() < 1e-9, "{sync_s}: {got} against {want}");
    }
}

/// Sequence parallelism gathers once more in a backward pass; of its three pairs two run beside products.
#[test]
fn sequence_parallelism_gathers_again() {
    let model = Model::builtin("llama-2-7b").unwrap();
    let gpu = Catalogue::builtin().find("H100").unwrap();
    let roofline = Roofline::from_catalogue(gpu);
    let whole = LayerQuery::of(&model, 1, 1, 8, Format::Bf16);
    let split = LayerQuery { sequence_parallel: true, ..whole };
    let [whole, split] = [whole, split].map(|q| roofline.layer(&q).backward);
    assert_eq!((whole.syncs, whole.beside.0), (2, 0));
    assert_eq!((split.syncs, split.beside.0), (3, 2));
    assert!(split.beside.1 > 0.0 && split.beside.1 < split.device_s);
}

/// A product of experts on Blackwell reads weights beside no arithmetic; the same product of one layer does.
#[test]
fn experts_products_read_their_weights_beside_nothing() {
    let gpu = Catalogue::builtin().find("B200").unwrap();
    let roofline = Roofline::from_catalogue(gpu);
    let product =
        |grouped| Operator::Gemm { batch: 32, m: 256, n: 4096, k: 7168, accumulate: false, grouped };
    let [apart, together] = [true, false].map(|g| roofline.operator_s(&product(g), Format::Bf16));
    assert!(apart > 1.5 * together && apart < 2.0 * together, "{apart} {together}");
}

/// In 8 bits what comes out of a norm is quantised already; the attention's result and what an MLP makes are not.
#[test]
fn norms_quantise_what_they_write() {
    let q = LayerQuery::of(&opt(), 1, 1, 1, Format::Fp8);
    let ops = layer::operators(&q, &FrameworkConstants::default());
    let casts = |list: &[(Operator, Format)]| {
        list.iter().filter(|(op, _)| matches!(op, Operator::Memory { kind: Stream::Add, .. })).count()
    };
    assert_eq!((casts(&ops.forward), casts(&ops.backward)), (2, 4));
}

/// What selective recomputation repeats: attention; or every second product, in 8 bits all, and what memory binds.
#[test]
fn selective_recomputation_is_a_frameworks_own() {
    let model = Model::llama("7b", 32, 4096, 32, 4096, 32_000);
    let again = |selective, format| -> (f64, usize) {
        let q = LayerQuery::of(&model, 1, 1, 2, format);
        let ops = layer::operators(&q, &FrameworkConstants { selective, ..Default::default() });
        let gemm = |(op, _): &&(Operator, Format)| matches!(op, Operator::Gemm { .. });
        let flop = ops.again.iter().filter(gemm).map(|(op, _)| op.flop()).sum();
        (flop, ops.again.len() - ops.again.iter().filter(gemm).count())
    };
    let (h, f, two_tokens) = (4096.0, model.ffn_hidden as f64, 2.0 * 4096.0);
    assert_eq!(again(Selective::Attention, Format::Bf16), (0.0, 1));
    assert_eq!(again(Selective::Products, Format::Bf16), (two_tokens * h * (2.0 * h + f) / 2.0, 2));
    // A norm and an activation, and two operands quantised.
    assert_eq!(again(Selective::Products, Format::Fp8), (two_tokens * h * (4.0 * h + 3.0 * f) / 2.0, 4));
}

/// The shares of Blackwell's cards go by their power, and passes over scores at what multiprocessors can.
#[test]
fn power_binds_products_and_multiprocessors_passes_over_scores() {
    let roofline = |name| Roofline::from_catalogue(Catalogue::builtin().find(name).unwrap());
    let [b200, gb200, gb300] = ["B200", "GB200", "GB300"].map(|g| roofline(g).matmul_rate(Format::Bf16));
    assert!((gb200 / b200 - 1.2).abs() < 1e-9 && (gb300 / b200 - 1.4).abs() < 1e-9, "{gb200} {gb300}");
    // Three times as many units for 4 bits as for 8, half of it felt: the square root of a half more than of twice.
    let share = |name| roofline(name).device.matmul_fp4 / roofline(name).device.matmul;
    assert!((share("GB300") / share("GB200") - libm::sqrt(2.0 / 3.0)).abs() < 1e-9);
    let slower = |name| {
        let seconds = [Stream::Scores, Stream::Optimizer]
            .map(|kind| roofline(name).operator_s(&Operator::Memory { kind, bytes: 1e9 }, Format::Bf16));
        seconds[0] / seconds[1]
    };
    assert_eq!(slower("A100"), 1.0);
    assert!((1.05..1.15).contains(&slower("H100")) && (2.1..2.3).contains(&slower("B200")));
}

/// Tokens for experts of other ranks are put in order twice each way, where the kernels that send them do not do it.
#[test]
fn tokens_are_put_in_the_order_of_their_experts() {
    let model = Model::builtin("mixtral-8x7b").unwrap();
    let moved = |ep, sorts_while_sending| -> f64 {
        let q = LayerQuery { ep, ..LayerQuery::of(&model, 1, 1, 1, Format::Bf16) };
        let ops = layer::operators(&q, &FrameworkConstants { sorts_while_sending, ..Default::default() });
        let gather = |op: &Operator| matches!(op, Operator::Memory { kind: Stream::Gather, .. });
        ops.forward.iter().filter(|(op, _)| gather(op)).map(|(op, _)| op.bytes(2.0)).sum()
    };
    let (own, sent, fused) = (moved(1, false), moved(8, false), moved(8, true));
    assert!((sent / own - 7.0 / 3.0).abs() < 1e-9, "two experts a token: {sent} {own}");
    assert!(fused < sent && moved(1, true) == fused);
}
