//! Other tools' plans: what is written is read back, and what is broken is refused or judged, never worse.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use scenarios::{Overrides, load_text};
use sim_core::SimTime;
use sim_models::plan::{Plan, Recompute, Schedule};
use sim_models::scenario::Scenario;
use sim_search::exchange::{self, MetisFiles, Refusal, Uniform};
use sim_search::judge::Judge;

/// 16 A100 in nodes of 4, OPT-350M; layers are modelled, so that any TP and micro-batch has times.
fn scenario(second: &str) -> Scenario {
    let text = format!(
        "schema_version = 1\nabout = \"x\"\n[model]\nname = \"opt-350m\"\n[training]\nglobal_batch = 64\nprecision = \"bf16\"\n\
         optimizer = \"adam\"\n[search]\nextrapolate = true\n[[nodes]]\nname = \"a\"\ncount = 2\ngpus_per_node = 4\ngpu = \"A100-40\"\n\
         zone = \"us-central1-a\"\n[[nodes]]\nname = \"b\"\ncount = 2\ngpus_per_node = 4\ngpu = \"{second}\"\nzone = \"us-central1-a\"\n"
    );
    load_text(&text, "x.toml", None, &Overrides::default()).unwrap().scenario
}

fn cuts(blocks: &[u32]) -> Vec<sim_models::plan::Layers> {
    let mut next = 0;
    let range = |(s, n): (usize, &u32)| {
        let end = next + n + u32::from(s == 0) + u32::from(s + 1 == blocks.len());
        let text = format!("{next}-{}", end - 1);
        next = end;
        text.parse().unwrap()
    };
    blocks.iter().enumerate().map(range).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever an exporter writes, its importer reads back as the same plan.
    #[test]
    fn what_is_written_is_read_back(
        tp in prop::sample::select(vec![1u32, 2, 4]),
        blocks in prop::sample::select(vec![vec![24u32], vec![12, 12], vec![14, 10], vec![4, 8, 8, 4], vec![9, 5, 4, 6]]),
        micro_batch in prop::sample::select(vec![1u32, 2]),
        recompute in prop::sample::select(vec![Recompute::None, Recompute::Full, Recompute::Selective]),
        zero in 0u8..4,
        sequence_parallel in any::<bool>(),
        overlap_gradients in any::<bool>(),
    ) {
        let scenario = scenario("A100-40");
        let dp = 16 / tp / blocks.len() as u32;
        prop_assume!(dp > 0 && dp * tp * blocks.len() as u32 == 16);
        let settings = Plan { zero, sequence_parallel: sequence_parallel && tp > 1, overlap_gradients, ..Plan::default() };
        let uniform = Uniform {
            micro_batch, micro_batches: 64 / micro_batch / dp, dp, tp, cp: 1, ep: 1,
            stages: cuts(&blocks), recompute, settings, ranks: Vec::new(),
        };
        let Ok(plan) = uniform.plan(&scenario) else { return Ok(()) };
        let normal = |p: &Plan| Uniform::of(p).unwrap();
        let text = exchange::to_megatron(&scenario, &plan).unwrap();
        prop_assert_eq!(normal(&exchange::from_megatron(&scenario, &text).unwrap()), normal(&plan), "{}", text);
        if let Ok(text) = exchange::to_deepspeed(&scenario, &plan) {
            let back = exchange::from_deepspeed(&scenario, &text).unwrap();
            // Sequence parallelism is set in its code.
            let want = Plan { sequence_parallel: false, ..plan.clone() };
            prop_assert_eq!(normal(&back), normal(&want), "{}", text);
        }
        if let Ok(text) = exchange::to_torchtitan(&scenario, &plan) {
            let back = exchange::from_torchtitan(&scenario, &text).unwrap();
            // Its tensor parallelism is sequence parallel, and what it overlaps is not in its file.
            let zero = if dp == 1 { 0 } else { zero };
            let want = Plan { sequence_parallel: tp > 1, overlap_gradients: false, zero, ..plan.clone() };
            prop_assert_eq!(normal(&back), normal(&want), "{}", text);
        }
    }
}

#[test]
fn what_a_framework_cannot_run_is_refused_with_the_reason() {
    let scenario = scenario("V100-16");
    let plan = |text: &str| -> Plan { toml::from_str(text).unwrap() };
    let unlike = plan(
        "micro_batch = 1\n[[pipelines]]\nmicro_batches = 40\nstages = [{ layers = \"0-25\", tp = 4, devices = [\"a:0-3\"] }]\n\
         [[pipelines]]\nmicro_batches = 24\nstages = [{ layers = \"0-25\", tp = 4, devices = [\"b:0-3\"] }]\n",
    );
    let tps = plan(
        "micro_batch = 1\n[[pipelines]]\nmicro_batches = 64\nstages = [{ layers = \"0-12\", tp = 4, devices = [\"a:0-3\"] }, \
         { layers = \"13-25\", tp = 2, devices = [\"b:0-1\"] }]\n",
    );
    let uneven = plan(
        "micro_batch = 1\n[[pipelines]]\nmicro_batches = 64\nstages = [{ layers = \"0-20\", devices = [\"a:0\"] }, \
         { layers = \"21-25\", devices = [\"a:1\"] }]\n",
    );
    let bubble = Plan { schedule: Schedule::ZeroBubble, ..uneven.clone() };
    let two = Plan { zero: 2, ..uneven.clone() };
    type Export = fn(&Scenario, &Plan) -> Result<String, Refusal>;
    let cases: [(Export, &Plan, &str); 7] = [
        (exchange::to_megatron, &unlike, "differ in micro-batches"),
        (exchange::to_torchtitan, &tps, "differ in tensor"),
        (exchange::to_megatron, &bubble, "no schedule `zero-bubble`"),
        (exchange::to_deepspeed, &bubble, "no schedule `zero-bubble`"),
        (exchange::to_deepspeed, &uneven, "not DeepSpeed's uniform partition"),
        (exchange::to_torchtitan, &two, "replicates or shards"),
        (exchange::to_torchtitan, &bubble, "no schedule"),
    ];
    for (export, plan, problem) in cases {
        let refusal = export(&scenario, plan).unwrap_err();
        assert!(refusal.problem.contains(problem), "{refusal}");
    }
    let text = exchange::to_megatron(&scenario, &uneven).unwrap();
    assert!(
        text.contains("--decoder-first-pipeline-num-layers 20")
            && text.contains("last-pipeline-num-layers 4"),
        "{text}"
    );
}

type Import = fn(&Scenario, &str) -> Result<Plan, Refusal>;

/// A valid plan of each format on the mixed cluster.
fn valid() -> Vec<(&'static str, String, Import)> {
    let megatron = "torchrun --nproc-per-node 4 pretrain_gpt.py \\\n--tensor-model-parallel-size 2 \\\n--pipeline-model-parallel-size 4 \\\n\
        --micro-batch-size 2 --global-batch-size 64 --num-layers 24 --hidden-size 1024 --seq-length 2048 \\\n\
        --pipeline-model-parallel-layout \"Et*5|t*7|t*6|t*6L\" --recompute-granularity full --use-distributed-optimizer --bf16\n";
    let deepspeed = r#"{"train_batch_size": 64, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 8,
        "zero_optimization": {"stage": 1, "reduce_bucket_size": 5e8}, "bf16": {"enabled": true},
        "pipeline": {"stages": 2, "partition": "uniform"}, "tensor_parallel": {"autotp_size": 2}}"#;
    let torchtitan = "[training]\nlocal_batch_size = 8\nglobal_batch_size = 64\nseq_len = 2048\n[parallelism]\n\
        data_parallel_replicate_degree = 8\ndata_parallel_shard_degree = 1\ntensor_parallel_degree = 2\n\
        pipeline_parallel_degree = 1\n[activation_checkpoint]\nmode = \"selective\"\n";
    let ones = ["2"; 24].join(",");
    let zeros = ["0"; 24].join(",");
    let galvatron = format!(
        r#"{{"pp_deg": 2, "tp_sizes_enc": "{ones}", "tp_consecutive_flags": "1", "dp_types_enc": "{zeros}", "checkpoint": "{zeros}",
        "global_bsz": 64, "chunks": 8, "pp_division": "13,11", "pipeline_type": "pipedream_flush", "default_dp_type": "zero2"}}"#
    );
    let run = |from: u32, to: u32| (from..to).map(|l| l.to_string()).collect::<Vec<_>>().join(",");
    let replicas = |gpu: &str| [format!(r#"[[["{gpu}", 4, "us-central1-a"]], 4]"#).as_str(); 2].join(",");
    let sailor = format!(
        r#"{{"zone": "us-central1-a", "pipeline_list": [{{"num_stages": 2, "layers_per_stage": [[{}],[{}]],
        "tmp_per_stage": [[{}],[{}]], "dp": [2, 2]}}], "mbs": 2, "gbs": 64}}"#,
        run(0, 15),
        run(15, 26),
        replicas("A100-40"),
        replicas("V100-16")
    );
    vec![
        ("megatron", megatron.into(), exchange::from_megatron as Import),
        ("deepspeed", deepspeed.into(), exchange::from_deepspeed),
        ("torchtitan", torchtitan.into(), exchange::from_torchtitan),
        ("galvatron", galvatron, exchange::from_galvatron),
        ("sailor", sailor, exchange::from_sailor),
        ("metis", METIS.into(), metis),
    ]
}

const METIS: &str = "len(costs): 1\nrank, cost, node_sequence, device_groups, strategies(dp_deg, tp_deg), batches(number of batch), layer_partition\n\
    1, 8680.68, (<DeviceType.V100: 'v100'>, <DeviceType.A100: 'a100'>), [8, 8], [(4, 2), (4, 2)], 16, [0, 9, 26]\n";
const HOSTS: &str = "10.0.0.1 slots=4\n10.0.0.2 slots=4\n10.0.0.3 slots=4\n10.0.0.4 slots=4\n";

/// The first ranked plan; a mutated file may have lost its hostfile's kinds.
fn metis(scenario: &Scenario, text: &str) -> Result<Plan, Refusal> {
    let node = |kind: &str| {
        format!(
            r#"{{"instance_type": "{kind}", "inter_bandwidth": 10, "intra_bandwidth": 50, "memory": 16}}"#
        )
    };
    let (a, v) = (node("A100"), node("V100"));
    let info = format!(r#"{{"10.0.0.1": {a}, "10.0.0.2": {a}, "10.0.0.3": {v}, "10.0.0.4": {v}}}"#);
    let files = MetisFiles {
        ranked: ("ranked.txt", text),
        hostfile: ("hostfile", HOSTS),
        clusterfile: ("clusterfile.json", &info),
        profiles: Vec::new(),
    };
    exchange::import_metis_first(scenario, &files)
}

#[test]
fn plans_of_other_tools_are_read() {
    let scenario = scenario("V100-16");
    for (name, text, import) in valid() {
        let plan = import(&scenario, &text).unwrap_or_else(|e| panic!("{name}: {e} ({})", e.help));
        Judge::Simulate.time_s(&scenario, &plan, SimTime::ZERO).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// One broken place: a byte gone, doubled or another, a number another, a piece gone or doubled, the end cut off.
fn mutate(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let below = |rng: &mut ChaCha8Rng, n: usize| rng.next_u32() as usize % n.max(1);
    for _ in 0..=below(rng, 2) {
        let at = below(rng, bytes.len());
        let to = (at + 1 + below(rng, 12)).min(bytes.len());
        match below(rng, 7) {
            0 => drop(bytes.drain(at..to)),
            1 => bytes.truncate(at),
            2 => {
                let piece = bytes[at..to].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => bytes[at] = b" ,\"[]{}()0123456789-|*\n"[below(rng, 23)],
            _ => {
                // A number, where there is one from here on.
                let digits: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i].is_ascii_digit()).collect();
                let Some(&from) = digits.get(below(rng, digits.len())) else { continue };
                let end = (from..bytes.len()).find(|i| !bytes[*i].is_ascii_digit()).unwrap_or(bytes.len());
                let numbers =
                    ["0", "1", "3", "7", "25", "4294967296", "18446744073709551616", "-1", "1e9", "x"];
                bytes.splice(from..end, numbers[below(rng, numbers.len())].bytes());
            }
        }
        if bytes.is_empty() {
            bytes.push(b'x');
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn broken_plans_are_refused_or_judged() {
    let scenario = scenario("V100-16");
    let (mut refused, mut judged) = (0, 0);
    for (name, text, import) in valid() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for case in 0..80 {
            let broken = mutate(&text, &mut rng);
            match import(&scenario, &broken) {
                Err(refusal) => {
                    assert!(refusal.problem.len() > 5, "{name} {case}: {refusal}");
                    refused += 1;
                }
                Ok(plan) => {
                    // A plan that was taken is one: every judge has a time for it, or says what it does not know.
                    let time = Judge::Simulate.time_s(&scenario, &plan, SimTime::ZERO);
                    assert!(time.is_ok_and(|s| s.is_finite() && s > 0.0), "{name} {case}: {broken}");
                    judged += 1;
                }
            }
        }
    }
    assert!(refused > 200 && judged > 20, "{refused} refused, {judged} judged");
}
