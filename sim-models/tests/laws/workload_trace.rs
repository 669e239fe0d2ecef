//! Other tools' traces as jobs: against published times, against single collectives, by hand, and what is no trace.

use crate::round::{group, rate, scenario};
use proptest::prelude::*;
use prost::Message;
use sim_core::{CapacityProfile, SimDuration, SimTime};
use sim_models::collective::messages::{Algorithm, Collective, Convention, Fabric, Op};
use sim_models::link::LinkModel;
use sim_models::scenario::Scenario;
use sim_models::workload_trace::chakra::{self, wire};
use sim_models::workload_trace::simai::Workload;
use sim_models::workload_trace::{
    Job, Machine, Node, Outcome, Rules, RunError, Topology, TraceError, Ways, Work, simulate,
};
use std::collections::BTreeMap;

const GIB: f64 = 1_073_741_824.0;
const MIB: u64 = 1 << 20;

/// `ranks` nodes of one GPU, links of `bytes_per_s` and `ns`.
fn cluster(ranks: u32, bytes_per_s: f64, ns: f64) -> Scenario {
    let mut g = group("npu", "here", ranks, 1);
    g.nic = CapacityProfile::constant(rate(bytes_per_s));
    let mut scenario = scenario(vec![g]);
    scenario.node_links = vec![vec![LinkModel::constant(bytes_per_s, ns * 1e-9)]];
    scenario
}

fn run(job: &Job, rules: &Rules, scenario: &Scenario, topology: Topology) -> Result<Outcome, RunError> {
    let ways =
        Ways::new(scenario, topology, rules.convention, job.ranks(), SimTime::ZERO).expect("enough GPUs");
    let machines = vec![Machine { peak: 1e12, memory: 1e12 }; job.ranks() as usize];
    simulate(job, rules, &ways, &machines, SimTime::ZERO, true)
}

fn ns(time: SimDuration) -> u64 {
    time.as_ps() / 1_000
}

// Traces written by the same structs that read them.

fn number(name: &str, value: i64) -> wire::AttributeProto {
    wire::AttributeProto { name: name.into(), value: Some(wire::Value::Int64(value)) }
}

fn node(id: u64, kind: i32, after: &[u64], attr: Vec<wire::AttributeProto>) -> wire::Node {
    wire::Node { id, name: format!("n{id}"), kind, data_deps: after.to_vec(), attr, ..wire::Node::default() }
}

fn file(nodes: &[wire::Node]) -> Vec<u8> {
    let metadata = wire::GlobalMetadata { version: "0.0.4".into(), attr: Vec::new() };
    let mut bytes = metadata.encode_length_delimited_to_vec();
    for node in nodes {
        bytes.extend(node.encode_length_delimited_to_vec());
    }
    bytes
}

fn compute(id: u64, after: &[u64], flop: i64) -> wire::Node {
    node(id, 4, after, vec![number("num_ops", flop), number("tensor_size", 1_000)])
}

fn all_reduce(id: u64, after: &[u64], bytes: i64) -> wire::Node {
    node(id, 7, after, vec![number("comm_type", 0), number("comm_size", bytes)])
}

fn send(id: u64, after: &[u64], to: i64) -> wire::Node {
    node(id, 5, after, vec![number("comm_dst", to), number("comm_size", 1_000_000), number("comm_tag", 3)])
}

fn receive(id: u64, after: &[u64], from: i64) -> wire::Node {
    node(id, 6, after, vec![number("comm_src", from), number("comm_size", 1_000_000), number("comm_tag", 3)])
}

#[test]
fn a_job_of_one_collective_takes_its_time() {
    for convention in [Convention::Tideplan, Convention::AstraSim] {
        for (op, algorithm) in [
            (Op::AllReduce, Algorithm::Ring),
            (Op::AllGather, Algorithm::Ring),
            (Op::ReduceScatter, Algorithm::Direct),
            (Op::AllToAll, Algorithm::Ring),
            (Op::AllToAll, Algorithm::Direct),
            (Op::AllReduce, Algorithm::HalvingDoubling),
            (Op::AllReduce, Algorithm::DoubleBinaryTree),
        ] {
            for fabric in [Fabric::Ring, Fabric::Switch, Fabric::Full] {
                // The latency of a way over a switch is that of two links.
                let latency = if fabric == Fabric::Switch { 1_000.0 } else { 500.0 };
                let collective = Collective {
                    op,
                    algorithm,
                    fabric,
                    convention,
                    ranks: 8,
                    bytes: MIB,
                    bandwidth: rate(50.0 * GIB),
                    latency: SimDuration::from_ns(500).expect("a time"),
                    splits: 4,
                };
                let mut rules = Rules::new(convention, 4);
                rules.algorithms = [algorithm; 4];
                let work = Work::Collective { op, bytes: MIB, group: "0".into() };
                let node = Node { id: 7, name: "c".into(), work, after: Vec::new() };
                let job = Job::new(vec![vec![node]; 8], &BTreeMap::new()).expect("a job");
                let outcome = run(&job, &rules, &cluster(8, 50.0 * GIB, latency), Topology::Plain(fabric))
                    .expect("a run");
                let alone = collective.run(false).expect("a run");
                assert_eq!(outcome.time, alone.time, "{op} {algorithm} {fabric} {convention}");
            }
        }
    }
}

#[test]
fn by_hand() {
    // Rank 0 computes 2 ms and sends a MB, 1 ms and 10 ms (10^8 B/s); both compute 3 ms; both reduce 8 MB, two steps of 41 ms.
    let three = |id, after| compute(id, after, 3_000_000_000);
    let zero = file(&[
        compute(1, &[], 2_000_000_000),
        send(2, &[1], 1),
        three(3, &[2]),
        all_reduce(5, &[3], 8_000_000),
    ]);
    let one = file(&[receive(4, &[], 0), three(6, &[4]), all_reduce(9, &[6], 8_000_000)]);
    let job = chakra::read(&[zero, one], None).expect("a job");
    let outcome = run(&job, &Rules::new(Convention::Tideplan, 1), &cluster(2, 1e8, 1e6), Topology::Nodes);
    let outcome = outcome.expect("a run");
    assert_eq!(ns(outcome.time), 2_000_000 + 11_000_000 + 3_000_000 + 82_000_000);
    let [a, b] = outcome.ranks[..] else { panic!("two ranks") };
    assert_eq!((ns(a.finish), ns(a.compute), ns(a.communication)), (98_000_000, 5_000_000, 93_000_000));
    assert_eq!((ns(b.finish), ns(b.compute), ns(b.communication)), (98_000_000, 3_000_000, 82_000_000));
    assert_eq!((ns(a.exposed()), ns(b.exposed())), (93_000_000, 95_000_000));
    assert_eq!(job.name(1, 9), "n9");
    assert_eq!(outcome.spans.len(), 6);
}

#[test]
fn turns_and_groups() {
    // Two groups of two: their collectives go side by side; two computes of a rank do not.
    let groups = r#"{"a": [0, 1], "b": [3, 2]}"#;
    let rank = |group: &str| {
        let mut reduce = all_reduce(1, &[], 8_000_000);
        let value = Some(wire::Value::String(group.into()));
        reduce.attr.push(wire::AttributeProto { name: "pg_name".into(), value });
        file(&[reduce, compute(2, &[], 1_000_000_000), compute(3, &[], 1_000_000_000)])
    };
    let job = chakra::read(&[rank("a"), rank("a"), rank("b"), rank("b")], Some(groups)).expect("a job");
    let outcome = run(&job, &Rules::new(Convention::Tideplan, 1), &cluster(4, 1e8, 1e6), Topology::Nodes);
    for rank in outcome.expect("a run").ranks {
        assert_eq!((ns(rank.finish), ns(rank.compute)), (82_000_000, 2_000_000));
    }
}

#[test]
fn a_node_shares_its_links() {
    // Four GPUs a node, one group a pair of like GPUs: four rings share each NIC of 10^9 B/s.
    let mut nodes = scenario(vec![group("n", "here", 2, 4)]);
    nodes.node_links = vec![vec![LinkModel::constant(1e9, 0.0)]];
    let groups: BTreeMap<String, Vec<u32>> = (0..4).map(|g| (format!("g{g}"), vec![g, g + 4])).collect();
    let work =
        |rank: u32| Work::Collective { op: Op::AllReduce, bytes: 1_000_000, group: format!("g{}", rank % 4) };
    let ranks = (0..8).map(|r| vec![Node { id: 0, name: String::new(), work: work(r), after: Vec::new() }]);
    let job = Job::new(ranks.collect(), &groups).expect("a job");
    let rules = Rules::new(Convention::Tideplan, 1);
    let outcome = run(&job, &rules, &nodes, Topology::Nodes).expect("a run");
    assert_eq!(ns(outcome.time), 2 * 4 * 500_000);
    // One GPU alone goes no faster than a GPU can, though its messages overlap: here half of the NIC.
    nodes.node_links = vec![vec![LinkModel::constant(5e8, 0.0)]];
    let sends = |to: u32| {
        let send = |id| Node {
            id,
            name: String::new(),
            work: Work::Collective { op: Op::AllToAll, bytes: 3_000_000, group: "g".into() },
            after: Vec::new(),
        };
        if to < 3 { vec![send(0)] } else { Vec::new() }
    };
    nodes.groups[0].gpus_per_node = 1;
    nodes.groups[0].nodes = 4;
    let three = BTreeMap::from([("g".to_string(), vec![0, 1, 2])]);
    let job = Job::new((0..4).map(sends).collect(), &three).expect("a job");
    let outcome = run(&job, &rules, &nodes, Topology::Nodes).expect("a run");
    assert_eq!(ns(outcome.time), 2 * 2_000_000);
    (nodes.groups[0].gpus_per_node, nodes.groups[0].nodes) = (4, 2);
    // Within a node each has its own ports, of 4 x 10^8 B/s.
    let groups = BTreeMap::from([("a".to_string(), vec![0, 1]), ("b".to_string(), vec![2, 3])]);
    let work = |rank: u32| Work::Collective {
        op: Op::AllReduce,
        bytes: 1_000_000,
        group: if rank < 2 { "a" } else { "b" }.into(),
    };
    let ranks = (0..4).map(|r| vec![Node { id: 0, name: String::new(), work: work(r), after: Vec::new() }]);
    let job = Job::new(ranks.collect(), &groups).expect("a job");
    let outcome = run(&job, &rules, &nodes, Topology::Nodes).expect("a run");
    assert_eq!(ns(outcome.time), 2 * 1_250_000);
}

#[test]
fn what_is_no_job_is_said() {
    let whole = file(&[compute(1, &[], 1), all_reduce(2, &[1], 8)]);
    let cut = whole[..whole.len() - 3].to_vec();
    let reduce = |bytes| file(&[all_reduce(2, &[], bytes)]);
    let mut grouped = all_reduce(2, &[], 8);
    grouped.attr.push(number("pg_name", 5));
    let broadcast = node(1, 7, &[], vec![number("comm_type", 5), number("comm_size", 8)]);
    let long = wire::Node { duration_micros: u64::MAX, ..node(1, 4, &[], Vec::new()) };
    for (what, traces, groups, expected) in [
        ("nothing", vec![Vec::new()], None, "no Chakra metadata"),
        ("no ranks", Vec::new(), None, "0 ranks"),
        ("garbage", vec![vec![0xff; 40]], None, "no Chakra"),
        ("cut off", vec![cut], None, "no Chakra node"),
        ("twice", vec![file(&[compute(1, &[], 1), compute(1, &[], 1)])], None, "two nodes have the id 1"),
        ("dangling", vec![file(&[compute(1, &[8], 1)])], None, "depends on node 8"),
        ("itself", vec![file(&[compute(1, &[1], 1)])], None, "node 1 (`n1`) waits for itself"),
        ("a cycle", vec![file(&[compute(1, &[2], 1), compute(2, &[1], 1)])], None, "waits for itself"),
        ("no group", vec![file(&[grouped.clone()])], None, "no process group `5`"),
        (
            "not in it",
            vec![reduce(8), file(&[grouped])],
            Some(r#"{"5": [0]}"#),
            "not in the process group `5`",
        ),
        ("twice in it", vec![reduce(8)], Some(r#"{"5": [0, 0]}"#), "in it twice"),
        ("a rank too many", vec![reduce(8)], Some(r#"{"5": [1]}"#), "there are 1 traces"),
        ("no groups", vec![reduce(8)], Some("[1]"), "not an object"),
        ("no message", vec![file(&[send(1, &[], 1)]), file(&[])], None, "which receives 0"),
        ("nobody", vec![file(&[send(1, &[], 9)])], None, "rank 9"),
        ("itself", vec![file(&[send(1, &[], 0)])], None, "to itself"),
        ("no rank", vec![file(&[send(1, &[], 1 << 40)])], None, "is no rank"),
        ("negative", vec![reduce(-1)], None, "is negative"),
        ("alone", vec![reduce(8), file(&[])], None, "has 1 collectives on it, and rank 1 has 0"),
        ("lacking", vec![file(&[node(1, 7, &[], vec![number("comm_type", 0)])])], None, "lacks `comm_size`"),
        ("broadcast", vec![file(&[broadcast])], None, "type 5 (broadcast)"),
        ("unknown", vec![file(&[node(1, 99, &[], Vec::new())])], None, "type 99"),
        ("for ever", vec![file(&[long])], None, "too long"),
    ] {
        let error = chakra::read(&traces, groups).expect_err(what).to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
    assert!(matches!(
        chakra::read(&[reduce(8), reduce(9)], None).map(|job| run(
            &job,
            &Rules::new(Convention::Tideplan, 1),
            &cluster(2, 1e8, 1.0),
            Topology::Nodes
        )),
        Ok(Err(RunError::Disagree { a: 0, b: 1, .. }))
    ));
    // Each takes its turn in another group first.
    let [a, b] = [("a", "b"), ("b", "a")].map(|(first, second)| {
        let in_group = |id, after: &[u64], group: &str| {
            let mut node = all_reduce(id, after, 8);
            let value = Some(wire::Value::String(group.into()));
            node.attr.push(wire::AttributeProto { name: "pg_name".into(), value });
            node
        };
        file(&[in_group(1, &[], first), in_group(2, &[1], second)])
    });
    let groups = r#"{"a": [0, 1], "b": [0, 1]}"#;
    let job = chakra::read(&[a, b], Some(groups)).expect("a job");
    let stuck = run(&job, &Rules::new(Convention::AstraSim, 1), &cluster(2, 1e8, 1.0), Topology::Nodes);
    assert!(matches!(stuck, Err(RunError::Stuck { rank: 0, node: 1, .. })), "{stuck:?}");
}

#[test]
fn absurd_sizes_end_in_an_error() {
    for convention in [Convention::Tideplan, Convention::AstraSim] {
        let reduce = file(&[all_reduce(2, &[], i64::MAX)]);
        let job = chakra::read(&[reduce.clone(), reduce], None).expect("a job");
        let outcome = run(&job, &Rules::new(convention, 2), &cluster(2, 1.0, 1.0), Topology::Nodes);
        assert!(matches!(outcome, Err(RunError::Sim(_))), "{outcome:?}");
    }
}

#[test]
fn system_files() {
    let read = |text: &str| Rules::new(Convention::AstraSim, 1).with_system(text, None);
    let rules = read(
        r#"{"preferred-dataset-splits": 4, "active-chunks-per-dimension": 2, "peak-perf": 700, "local-mem-bw": 3350,
            "roofline-enabled": 1, "all-to-all-implementation": ["direct"], "scheduling-policy": "LIFO"}"#,
    )
    .expect("a system");
    assert_eq!((rules.splits, rules.in_flight, rules.roofline), (4, 2, true));
    assert_eq!(rules.machine, Some(Machine { peak: 7e14, memory: 3.35e12 }));
    assert_eq!(
        (rules.algorithm(Op::AllReduce), rules.algorithm(Op::AllToAll)),
        (Algorithm::Ring, Algorithm::Direct)
    );
    for (text, expected) in [
        ("[]", "no ASTRA-sim system file"),
        (r#"{"peak-perf": 0}"#, "`peak-perf`: 0 is no rate"),
        (r#"{"preferred-dataset-splits": 0}"#, "at least 1"),
        (r#"{"all-reduce-implementation": ["ring", "ring"]}"#, "2 dimensions"),
        (r#"{"all-reduce-implementation": ["tree"]}"#, "`tree` is not simulated"),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn clusters_that_do_not_fit() {
    let error = |scenario: &Scenario, topology| {
        Ways::new(scenario, topology, Convention::Tideplan, 4, SimTime::ZERO).expect_err("not so").to_string()
    };
    assert!(error(&cluster(3, 1e8, 1.0), Topology::Nodes).contains("4 ranks"));
    let mut mixed = scenario(vec![group("a", "here", 2, 1), group("b", "here", 2, 1)]);
    mixed.groups[1].nic = CapacityProfile::constant(rate(1e8));
    assert!(error(&mixed, Topology::Plain(Fabric::Ring)).contains("one kind of link"));
}

proptest! {
    #[test]
    fn bytes_are_a_trace_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = chakra::read(&[bytes], None);
    }

    #[test]
    fn a_spoilt_trace_runs_or_is_an_error(
        at in 0usize..200, byte in any::<u8>(), cut in 0usize..400,
    ) {
        let mut zero = file(&[compute(1, &[], 2_000), send(2, &[1], 1), all_reduce(5, &[2], 8_000)]);
        let one = file(&[receive(4, &[], 0), compute(6, &[4], 3_000), all_reduce(9, &[6], 8_000)]);
        let length = zero.len();
        zero[at % length] = byte;
        zero.truncate(cut.max(1));
        if let Ok(job) = chakra::read(&[zero, one], None) {
            for convention in [Convention::Tideplan, Convention::AstraSim] {
                let _ = run(&job, &Rules::new(convention, 2), &cluster(2, 1e9, 500.0), Topology::Nodes);
            }
        }
    }

    #[test]
    fn text_is_a_workload_or_an_error(text in "[ -~\n\t]{0,300}", line in "[A-Z_0-9 ]{0,60}") {
        let _ = Workload::read(&text);
        let header = "HYBRID_TRANSFORMER model_parallel_NPU_group: 2 all_gpus: 4\n1\n";
        let _ = Workload::read(&format!("{header}{line}"));
    }
}

// SimAI

const SIMAI: &str = "HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 2 ep: 1 pp: 2 vpp: 1 ga: 4 all_gpus: 8 checkpoints: 0 checkpoint_initiates: 0 pp_comm 1000000
3
grad_gather -1 1000 NONE 0 1000 NONE 0 1000 ALLGATHER 2000000 100
attention -1 1000000 ALLREDUCE 1000000 2000000 ALLREDUCE 1000000 1000000 NONE 0 100
mlp -1 2000000 NONE 0 2000000 REDUCESCATTER 0 2000000 ALLREDUCE 4000000 100
";

#[test]
fn simai_by_hand() {
    let workload = Workload::read(SIMAI).expect("a workload");
    let cluster = cluster(8, 1e9, 0.0);
    let ways =
        Ways::new(&cluster, Topology::Nodes, Convention::Tideplan, 8, SimTime::ZERO).expect("eight GPUs");
    let run = workload.run(&Rules::new(Convention::Tideplan, 1), &ways, SimTime::ZERO).expect("a run");
    // Both tensor-parallel all-reduces: 2 x 500,000 B at 10^9 B/s; the gather 1 ms, the gradients' all-reduce 4 ms.
    assert_eq!(run.kinds.len(), 3);
    assert_eq!((ns(run.blocking), ns(run.background)), (2_000_000, 5_000_000));
    let compute = 10_003_000;
    assert_eq!(ns(run.compute), compute);
    // In the backward pass 4 ms of all-reduce go beside 4 ms and 2 us of layers; the gather is last.
    assert_eq!(ns(run.exposed), 1_000_000);
    assert_eq!(ns(run.bubble), (compute + 2_000_000) / 4);
    assert_eq!(ns(run.transfers), 2 * 4 * 1_000_000);
    let sum = compute + 2_000_000 + 1_000_000 + (compute + 2_000_000) / 4 + 8_000_000;
    assert_eq!(ns(run.time), sum);
}

#[test]
fn what_is_no_simai_workload_is_said() {
    for (from, to, line, expected) in [
        ("HYBRID_TRANSFORMER_FWD_IN_BCKWD", "MICRO", 1, "policy `MICRO`"),
        ("all_gpus: 8", "all_gpus: 7", 1, "whole groups"),
        ("all_gpus: 8", "", 1, "lacks `all_gpus`"),
        ("ga: 4", "ga: 0", 1, "`ga: 0`"),
        ("ga: 4", "ga: many", 1, "`ga: many`"),
        ("all_gpus: 8", "all_gpus: 99999999", 1, "`all_gpus: 99999999`"),
        ("checkpoints: 0", "checkpoints: 2 1 2", 1, "recomputation"),
        ("\n3\n", "\n4\n", 2, "4 layers are announced, and 3 follow"),
        ("\n3\n", "\nthree\n", 2, "no number of layers"),
        ("ALLGATHER 2000000 100", "ALLGATHER 2000000", 3, "11 columns"),
        ("1000 ALLGATHER", "-5 ALLGATHER", 3, "column 9"),
        ("ALLGATHER", "BROADCAST", 3, "`BROADCAST`"),
    ] {
        assert!(SIMAI.contains(from), "{from}");
        let error = Workload::read(&SIMAI.replacen(from, to, 1)).expect_err(to);
        assert!(error.line == line && error.what.contains(expected), "{error}");
    }
    assert!(Workload::read("").is_err());
}

// Data that is not shipped

fn data(path: &str) -> Option<std::path::PathBuf> {
    let folder = std::env::var("TIDEPLAN_DATA").ok()?;
    Some(std::path::Path::new(&folder).join("peers").join(path)).filter(|p| p.exists())
}

fn skipped(what: &str) {
    eprintln!("skipped: TIDEPLAN_DATA names no folder with peers/{what}");
}

fn traces(folder: &std::path::Path, name: &str) -> Vec<Vec<u8>> {
    (0..8).map(|rank| std::fs::read(folder.join(format!("{name}.{rank}.et"))).expect("a trace")).collect()
}

#[test]
fn the_published_times_of_astra_sim() {
    if let Some(folder) = data("chakra/all_reduce_8") {
        let job = chakra::read(&traces(&folder, "w"), None).expect("a job");
        let rules = Rules::new(Convention::AstraSim, 4);
        let ring = Topology::Plain(Fabric::Ring);
        let outcome = run(&job, &rules, &cluster(8, 50.0 * GIB, 500.0), ring).expect("a run");
        assert_eq!(ns(outcome.time), 64_440);
    } else {
        skipped("chakra/all_reduce_8");
    }
    if let Some(folder) = data("chakra/gpt8_dp2tp2pp2") {
        let groups = std::fs::read_to_string(folder.join("workload.json")).expect("groups");
        let system = std::fs::read_to_string(folder.join("sys_roofline.json")).expect("a system");
        let job = chakra::read(&traces(&folder, "workload"), Some(&groups)).expect("a job");
        let rules = Rules::new(Convention::AstraSim, 1).with_system(&system, None).expect("rules");
        let switch = Topology::Plain(Fabric::Switch);
        // Two links of 936.25 ns. The node's own fabric, a NIC for each GPU, is the same switch.
        for topology in [switch, Topology::Nodes] {
            let outcome = run(&job, &rules, &cluster(8, 400.0 * GIB, 1_872.5), topology).expect("a run");
            let finish: Vec<u64> = outcome.ranks.iter().map(|r| ns(r.finish)).collect();
            assert_eq!(finish, [[28_310_352; 4], [23_853_022; 4]].concat(), "{topology}");
        }
    } else {
        skipped("chakra/gpt8_dp2tp2pp2");
    }
}

#[test]
fn a_published_simai_workload() {
    let Some(path) = data("simai/workload_analytical.txt") else { return skipped("simai") };
    let workload = Workload::read(&std::fs::read_to_string(path).expect("text")).expect("a workload");
    assert_eq!(workload.gpus(), 9_216);
    assert_eq!(workload.plan(), "tp 2, dp 384, ep 16, pp 12, vpp 8, 24 micro-batches");
}

#[test]
fn errors_name_the_rank() {
    let error = chakra::read(&[file(&[]), vec![9]], None).expect_err("no trace");
    assert!(matches!(error, TraceError::Bytes { rank: 1, at: 0, .. }), "{error:?}");
}
