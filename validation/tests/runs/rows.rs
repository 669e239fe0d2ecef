//! The shipped rows, their budget, and how rows become cases.

use crate::support::{file, scored, with};
use validation::runs::{
    Report, Settings, Tier, case, evaluate, mark_fitted, predictions_csv, read, report, shipped,
};
use validation::runs::{budget, plan};

fn shipped_report() -> Report {
    report(&mark_fitted(evaluate(shipped(), &Settings::default(), |_| None)))
}

/// The error budget: errors on the shipped rows may not grow beyond `data/budget.toml`.
#[test]
fn the_budget_is_kept() {
    let broken = budget::broken(&shipped_report(), &budget::committed());
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_broken_budget_says_what() {
    let text = "[overall]\nn = 9999\nmape = 0.001\nmedian_ape = 9.0\np90_ape = 9.0\nmemory_mape = 9.0\n";
    let tight = toml::from_str(&format!("{text}[X]\n{}", text.split_once('\n').unwrap().1)).unwrap();
    let broken = budget::broken(&shipped_report(), &tight);
    assert_eq!(broken.len(), 3, "{broken:#?}");
    assert!(broken[1].contains("rows scored, of at least 9999") && broken[2].contains("mape"), "{broken:#?}");
}

#[test]
fn nine_in_ten_shipped_rows_of_every_source_are_scored() {
    for source in shipped_report().sources {
        let f = source.figures;
        let all = f.n + f.fitted.n + f.skipped;
        assert!((f.n + f.fitted.n) * 10 >= 9 * all, "{}: {} skipped of {all}", source.source, f.skipped);
    }
}

/// One pipeline on a whole node: 16 micro-batches of 2 and one update, straight from the shipped layer times.
#[test]
fn a_prediction_by_hand() {
    let outcome = scored(&[("gpus", "4"), ("dp", "1")], None);
    let table = sim_models::device::LayerTable::shipped("opt-350m", "GH200-96").unwrap();
    let cost = table.cost(2, 4, 0, 25).unwrap();
    let ps = 16 * (cost.forward.as_ps() + cost.backward.as_ps()) + cost.update.as_ps();
    assert_eq!(outcome.result.unwrap().predicted_s, ps as f64 / 1e12);
}

#[test]
fn micro_batches_are_shared_out() {
    // 7 micro-batches over 2 pipelines: 4 and 3.
    let rows = read(&file(&[with(&[("global_batch", "14")])])).unwrap();
    let case = case::build(&rows[0], None, &Settings::default()).unwrap();
    let shares: Vec<_> = case.plan.pipelines.iter().map(|p| (p.replicas, p.micro_batches)).collect();
    assert_eq!(shares, [(1, 4), (1, 3)]);
    assert_eq!(case.scenario.groups[0].nodes, 2);
}

#[test]
fn mixed_replicas_share_no_node_and_pair_up_in_order() {
    let changes = [
        ("gpu_mix", "RTX-3090x4;RTX-2080x2;Titan-RTXx6"),
        ("gpus", "12"),
        ("gpus_per_node", "8"),
        ("tp", "3"),
        ("pp", "2"),
        ("plan", "0-12 2*RTX-3090:2 | 13-25 Titan-RTX:6 RTX-2080:2"),
    ];
    let rows = read(&file(&[with(&changes)])).unwrap();
    let case = case::build(&rows[0], None, &Settings::default()).unwrap();
    let text = toml::to_string(&case.plan).unwrap();
    let devices: Vec<_> = text.lines().filter(|l| l.starts_with("devices")).collect();
    assert_eq!(
        devices,
        [
            r#"devices = ["rtx-3090:0-1"]"#,
            r#"devices = ["titan-rtx:0-5"]"#,
            r#"devices = ["rtx-3090:2-3"]"#,
            r#"devices = ["rtx-2080:0-1"]"#
        ]
    );
}

/// Cards that no maker builds nodes of are joined as they were measured where the row does not say by what: here by Ethernet.
#[test]
fn workstation_cards_have_their_measured_links() {
    let settings = Settings { tier: Some(Tier::Datasheet), ..Settings::default() };
    let link = |gpu_mix| {
        let changes =
            [("gpu_mix", gpu_mix), ("gpus", "16"), ("gpus_per_node", "8"), ("tp", "8"), ("dp", "2")];
        let rows = read(&file(&[with(&changes)])).unwrap();
        case::build(&rows[0], None, &settings).unwrap().scenario.node_links[0][1].wire_rate()
    };
    assert!((0.11e9..0.12e9).contains(&link("RTX-3090x8;Titan-RTXx8")));
    assert!(link("A100-40x8;V100-16x8") > 1e10);
}

#[test]
fn an_even_cut_gives_the_first_stages_more() {
    let stages = |blocks, pp| {
        let mix = [("g".to_string(), u64::from(pp))];
        let e = plan::Even { blocks, tp: 1, cp: 1, pp, dp: 1, vpp: 1 };
        let plan = plan::even(&mix, &e, None).unwrap();
        plan.stages.iter().map(|s| s.layers.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(stages(24, 1), "0-25");
    assert_eq!(stages(24, 4), "0-6 7-12 13-18 19-25");
    assert_eq!(stages(5, 3), "0-2 3-4 5-6");
    // Embedding and head count as blocks where that makes all alike.
    assert_eq!(stages(126, 8), "0-15 16-31 32-47 48-63 64-79 80-95 96-111 112-127");
}

/// What a 70B model over TP 8 takes alone and on this network, by a framework, nothing stated of how it shards.
fn with_replicas(framework: &str, inter_link: &str, dp: u64) -> f64 {
    let shape =
        [("layers", "80"), ("hidden", "8192"), ("heads", "64"), ("kv_heads", "8"), ("ffn_hidden", "28672")];
    let (gpus, batch, dp) = ((8 * dp).to_string(), (2 * dp).to_string(), dp.to_string());
    let run = [
        ("model", "llama"),
        ("framework", framework),
        ("gpu_mix", ""),
        ("gpu", "H100-96GB"),
        ("gpus", &gpus),
        ("gpus_per_node", "8"),
        ("inter_link", inter_link),
        ("tp", "8"),
        ("dp", &dp),
        ("micro_batch", "2"),
        ("seq_len", "8192"),
        ("seq_parallel", "msp"),
        ("precision", "bf16"),
        ("iter_time_s", "10"),
    ];
    let row: Vec<_> = shape.into_iter().chain(run).chain([("global_batch", batch.as_str())]).collect();
    scored(&row, None).result.expect("nothing is missing").predicted_s
}

/// Frameworks that send gradients and parameters beside compute do so piece by piece, so that little of it is felt where a
/// layer takes longer than its parameters.
#[test]
fn replicas_cost_little_where_their_exchange_is_hidden() {
    for framework in ["torchtitan", "PyTorch FSDP", "InternEvo"] {
        let (alone, many) = (with_replicas(framework, "", 1), with_replicas(framework, "", 32));
        assert!((1.0..1.25).contains(&(many / alone)), "{framework}: {alone} and {many} s");
    }
}

/// Over TCP no more than the bytes and TCP's own latency is waited for: of one card a node, where no more are stated.
#[test]
fn gradients_over_ethernet_go_at_its_rate() {
    let (alone, many) = (with_replicas("torchtitan", "", 1), with_replicas("torchtitan", "100 GbE", 32));
    // 70 billion parameters gathered twice in 16 bits and scattered once in 32, at 12.5 GB/s.
    let bytes_s = 70e9 * (2.0 + 2.0 + 4.0) / 12.5e9;
    assert!((bytes_s..alone + 3.0 * bytes_s).contains(&many), "{alone} and {many} s");
}

#[test]
fn repeats_and_trust_c() {
    let rows = [
        with(&[("id", "a"), ("iter_time_s", "0.8")]),
        with(&[("id", "b"), ("iter_time_s", "1.0")]),
        with(&[("id", "c"), ("trust", "C"), ("iter_time_s", "50")]),
    ];
    let outcomes = evaluate(read(&file(&rows)).unwrap(), &Settings::default(), |_| None);
    let overall = report(&outcomes).overall;
    assert_eq!((overall.n, overall.noisy.n), (2, 1));
    assert!((overall.noise_floor.unwrap() - (0.9 / 0.8 - 1.0 + 0.1) / 2.0).abs() < 1e-12);
    assert_eq!(predictions_csv(&outcomes).lines().count(), 4);
}
