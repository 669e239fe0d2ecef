//! Replay: cases computed by hand, and what it promises for any trace.
//!
//! Two zones with a GPU each and the layer times of round numbers: all layers forward 40 ms, backward 60 ms, update 3 ms a
//! micro-batch. Their gradients, 1,073,600 B, cross the WAN in a ring of two: 2 steps of 3 ms latency, then all bytes once.

use proptest::prelude::*;
use scenarios::{Overrides, load_text};
use sim_models::plan::Plan;
use sim_models::scenario::{NodeId, Scenario};
use sim_search::replay::{
    Book, Done, Interrupted, Options, Outcome, Past, PlanId, Policy, Report, interrupted, replay,
    replay_policies,
};
use std::sync::atomic::{AtomicU32, Ordering};

const TABLE: &str = "micro_batch,tp,first_layer,last_layer,forward_us,backward_us,update_us\n\
    1,1,0,0,4000,8000,500\n1,1,1,1,6000,12000,500\n1,1,2,2,10000,15000,1000\n1,1,3,3,20000,25000,1000\n";

/// Both zones share the batch of two.
const ACROSS: &str = r#"micro_batch = 1
pipelines = [
    { micro_batches = 1, stages = [{ layers = "0-3", devices = ["e:0"] }] },
    { micro_batches = 1, stages = [{ layers = "0-3", devices = ["w:0"] }] },
]"#;
/// East alone.
const ALONE: &str = r#"micro_batch = 1
pipelines = [{ micro_batches = 2, stages = [{ layers = "0-3", devices = ["e:0"] }] }]"#;

/// The scenario with more tables and a trace of the WAN.
fn scenario(more: &str, trace: &str) -> Scenario {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = std::env::temp_dir().join(format!(
        "tideplan-replay-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("t.csv"), TABLE).expect("a file");
    std::fs::write(folder.join("wan.csv"), format!("time_s,link,bandwidth_bps\n{trace}")).expect("a file");
    let node = |name: &str, zone: &str| {
        format!(
            "[[nodes]]\nname = \"{name}\"\ncount = 1\ngpus_per_node = 1\ngpu = \"A100-40\"\nzone = \"{zone}\"\n\
             nic = \"1 GB/s\"\nprofile = \"t.csv\"\n"
        )
    };
    let text = format!(
        "schema_version = 1\ntraining = {{ global_batch = 2 }}\n\
         model = {{ name = \"round\", blocks = 2, hidden = 100, heads = 1, ffn_hidden = 400, seq_len = 1000, vocab = 128, positions = 0, tied_embeddings = false }}\n\
         {}{}[network]\nrate = \"100 MB/s\"\nlatency = \"1 ms\"\n\
         [[network.links]]\nname = \"wan\"\nbetween = [\"east\", \"west\"]\ncapacity = \"100 MB/s\"\nlatency = \"2 ms\"\n\
         [[traces]]\nlink = \"wan\"\nfile = \"wan.csv\"\nmode = \"hold\"\n{more}",
        node("e", "east"),
        node("w", "west")
    );
    let loaded = load_text(&text, "t.toml", Some(&folder), &Overrides::default());
    let scenario = loaded.unwrap_or_else(|f| panic!("{}", f[0])).scenario;
    let _ = std::fs::remove_dir_all(&folder);
    scenario
}

const MS: u64 = 1_000_000;
const WHOLE: &str = "0,wan,8e8\n";

/// A plan from the start, and perhaps another from an instant on.
struct Told {
    first: Plan,
    then: Option<(u64, Plan)>,
}

impl Policy for Told {
    fn name(&self) -> &str {
        "told"
    }
    fn first(&mut self, _: &Past<'_>, book: &mut Book<'_>) -> Option<PlanId> {
        book.know(&self.first)
    }
    fn next(&self, _: u64, now: u64) -> Option<u64> {
        self.then.as_ref().map(|t| t.0).filter(|at| *at > now)
    }
    fn decide(&mut self, _: &Past<'_>, current: PlanId, book: &mut Book<'_>) -> PlanId {
        self.then.as_ref().and_then(|t| book.know(&t.1)).unwrap_or(current)
    }
}

fn plan(text: &str) -> Plan {
    scenarios::plan_from_text(text, "plan").expect("a plan")
}

/// What becomes of a job that is told its plans.
fn told(scenario: &Scenario, first: &str, then: Option<(u64, &str)>, until: u64) -> (Outcome, Report) {
    let policy = Told { first: plan(first), then: then.map(|(at, p)| (at, plan(p))) };
    let options = Options { until: Some(until), ..Options::default() };
    let report = replay_policies(scenario, &options, vec![Box::new(policy)], &mut |_| {}).expect("a replay");
    (report.outcomes[0].clone(), report)
}

/// Lengths of the iterations, ns.
fn lengths(outcome: &Outcome) -> Vec<u64> {
    let spans = &outcome.trajectory.spans;
    spans.iter().flat_map(|s| std::iter::repeat_n(s.length, s.count as usize)).collect()
}

#[test]
fn a_change_in_the_midst_of_an_all_reduce() {
    for (trace, first) in [
        // 100 of passes, 6 of latency, 10.736 of bytes, 3 of update.
        (WHOLE.to_string(), 119_736_000),
        // At 110 ms 673,600 B are left: 13.472 at half the rate.
        ("0,wan,8e8\n0.110,wan,4e8\n".into(), 126_472_000),
        // Down at 110 ms, back at 200 ms: 6.736 more.
        ("0,wan,8e8\n0.110,wan,0\n0.200,wan,8e8\n".into(), 209_736_000),
        // A change that no transfer sees.
        ("0,wan,8e8\n0.010,wan,0\n0.105,wan,8e8\n".into(), 119_736_000),
        // One picosecond of work more than fits before it: 1,073,600 B at 8,000,001 bit/s, rounded up to a nanosecond.
        ("0,wan,8000001\n".into(), 100_000_000 + 6_000_000 + 1_073_599_866 + 3_000_000),
    ] {
        let (outcome, report) = told(&scenario("", &trace), ACROSS, None, first);
        assert_eq!(lengths(&outcome), [first], "{trace}");
        assert_eq!((outcome.tokens, report.outcomes[1].tokens), (2000, 2000));
        // A nanosecond less and it does not end.
        let (outcome, _) = told(&scenario("", &trace), ACROSS, None, first - 1);
        assert_eq!((outcome.tokens, outcome.trajectory.unfinished), (0, first - 1), "{trace}");
    }
}

#[test]
fn a_gpu_that_slows_down_in_the_midst_of_a_pass() {
    // 20 ms at half the speed do 10 ms of work.
    let slow = "[[events]]\nat = \"50 ms\"\nuntil = \"70 ms\"\ngpus = \"e:0\"\nslowdown = 2\n";
    let (outcome, _) = told(&scenario(slow, WHOLE), ALONE, None, 416 * MS);
    assert_eq!(lengths(&outcome), [213 * MS, 203 * MS]);
    // A quarter as fast throughout.
    let slow = "[[events]]\nat = \"0 s\"\nnodes = \"e:0\"\nslowdown = 4\n";
    let (outcome, _) = told(&scenario(slow, WHOLE), ALONE, None, 812 * MS);
    assert_eq!(lengths(&outcome), [812 * MS]);
}

#[test]
fn a_link_that_is_down_for_ever_stalls_the_job_and_is_said() {
    let (outcome, _) = told(&scenario("", "0,wan,8e8\n1,wan,0\n"), ACROSS, None, 100_000 * MS);
    assert_eq!(lengths(&outcome).len(), 8);
    assert_eq!(outcome.trajectory.stalled, Some(8 * 119_736_000));
    // It goes on alone where it need not cross.
    let (outcome, _) = told(&scenario("", "0,wan,8e8\n1,wan,0\n"), ALONE, None, 100_000 * MS);
    assert_eq!((lengths(&outcome).len() as u64, outcome.trajectory.stalled), (100_000 / 203, None));
}

#[test]
fn a_node_lost_in_the_midst_of_an_iteration() {
    let lost = "[[events]]\nat = \"150 ms\"\nnodes = \"w:0\"\ndown = true\n[replay]\nswitch_cost = \"1 s\"\n";
    // Lost at 150 ms with all that was done; back at 1,150 ms, east takes both micro-batches: 203 ms each.
    let (outcome, _) = told(&scenario(lost, WHOLE), ACROSS, None, (1150 + 5 * 203) * MS);
    let t = &outcome.trajectory;
    assert_eq!((t.iterations, t.lost, t.restarting), (5, 1, 1000 * MS));
    assert_eq!(lengths(&outcome), [119_736_000, 203 * MS, 203 * MS, 203 * MS, 203 * MS, 203 * MS]);
    assert_eq!(t.losses, [(150 * MS, 0)]);
    // A checkpoint after the first iteration: 268,400 parameters of 12 B leave east's NIC at 1 GB/s.
    let kept = format!("{lost}checkpoint_every = \"100 ms\"\n");
    let (outcome, _) = told(&scenario(&kept, WHOLE), ACROSS, None, (1150 + 203) * MS);
    let t = &outcome.trajectory;
    assert_eq!((t.iterations, t.lost, t.checkpointing), (2, 0, 3_220_800));
    // Back at 3 s, and the state with it: 3,220,800 B over the WAN at 100 MB/s, 3 ms before the first, and 1 s.
    let back = lost.replace("down = true\n", "down = true\nuntil = \"3 s\"\n");
    let (outcome, _) = told(&scenario(&back, WHOLE), ACROSS, None, 6000 * MS);
    let after = 1150 + 10 * 203;
    assert_eq!(outcome.trajectory.spans[2].start, after * MS + 1000 * MS + 35_208_000);
}

/// One iteration that a node leaves: what is lost of it, what is waited for, and the iteration that is done.
#[test]
fn an_iteration_that_a_node_leaves() {
    let of = |events: &str, start: u64, plan_of: &str| {
        let events = format!("{events}[replay]\nswitch_cost = \"1 s\"\n");
        interrupted(&scenario(&events, WHOLE), &plan(plan_of), start * MS)
    };
    let west = NodeId { group: 1, index: 0 };
    let lost = "[[events]]\nat = \"150 ms\"\nnodes = \"w:0\"\ndown = true\n";
    // From 0 it is done at 119.736 ms; east alone does not miss the west.
    assert_eq!(of(lost, 0, ACROSS), None);
    assert_eq!(of(lost, 100, ALONE), None);
    // From 100 ms 50 ms of it are lost, then a second passes, then east takes both micro-batches.
    let lost_50 = Interrupted {
        away: vec![],
        losses: vec![(150 * MS, vec![west])],
        lost: 50 * MS,
        restarting: 1000 * MS,
        waiting: 0,
        done: Some(Done { at: (1150 + 203) * MS, length: 203 * MS, pipelines: 1, of: 2 }),
    };
    assert_eq!(of(lost, 100, ACROSS), Some(lost_50));
    // Begun after it left: nothing is lost.
    let done = Some(Done { at: 403 * MS, length: 203 * MS, pipelines: 1, of: 2 });
    let away = Interrupted { away: vec![west], losses: vec![], lost: 0, restarting: 0, waiting: 0, done };
    assert_eq!(of(lost, 200, ACROSS), Some(away));
    // Without east's only pipeline nothing runs until it is back; for ever, if it never is.
    let east = "[[events]]\nat = \"150 ms\"\nnodes = \"e:0\"\ndown = true\n";
    let back = of(&format!("{east}until = \"3 s\"\n"), 100, ALONE).expect("it is lost");
    assert_eq!((back.lost, back.restarting, back.waiting), (50 * MS, 1000 * MS, 1850 * MS));
    assert_eq!(back.done, Some(Done { at: 3203 * MS, length: 203 * MS, pipelines: 1, of: 1 }));
    assert_eq!(of(east, 100, ALONE).expect("it is lost").done, None);
}

#[test]
fn a_switch_is_paid_back_just_after_its_break_even_and_not_before() {
    // At 8 Mbit/s an iteration across takes 100 + 6 + 1,073.6 + 3 ms, alone 203 ms; to switch after the first costs 1 s.
    let s = scenario("[replay]\nswitch_cost = \"1 s\"\n", "0,wan,8e6\n");
    for (until, stays, switches) in [
        (2_365_199_999, 1, 1),
        (2_365_200_000, 2, 1),
        (2_385_599_999, 2, 1),
        (2_385_600_000, 2, 2),
        (2_588_599_999, 2, 2),
        (2_588_600_000, 2, 3),
    ] {
        let (stay, _) = told(&s, ACROSS, None, until);
        let (switch, _) = told(&s, ACROSS, Some((1, ALONE)), until);
        let done = |o: &Outcome| o.trajectory.iterations;
        assert_eq!((done(&stay), done(&switch)), (stays, switches), "{until}");
    }
}

#[test]
fn a_switch_moves_the_state_that_is_missing() {
    // West holds nothing: all of 3,220,800 B goes there from east.
    let west = ALONE.replace("e:0", "w:0");
    let s = scenario("[replay]\nswitch_cost = \"1 s\"\n", WHOLE);
    let (outcome, _) = told(&s, ALONE, Some((1, &west)), 5000 * MS);
    let switch = outcome.trajectory.switches[0];
    assert_eq!((switch.at, switch.bytes, switch.cost), (203 * MS, 3_220_800, 1000 * MS + 35_208_000));
    // Beside training: an iteration goes on in the old plan, and only the fixed part stands still.
    let s = scenario("[replay]\nswitch_cost = \"1 s\"\nswitch_overlap = true\n", WHOLE);
    let (outcome, _) = told(&s, ALONE, Some((1, &west)), 5000 * MS);
    let switch = outcome.trajectory.switches[0];
    assert_eq!((switch.at, switch.cost, outcome.trajectory.spans[0].count), (203 * MS, 1000 * MS, 2));
    // From both to one that has it: nothing moves.
    let (outcome, _) = told(&s, ACROSS, Some((1, ALONE)), 5000 * MS);
    assert_eq!(outcome.trajectory.switches[0].bytes, 0);
}

/// The policies' outcomes and the oracle's, by a scenario's own options.
fn all(scenario: &Scenario, options: &Options) -> Report {
    replay(scenario, options).expect("a replay")
}

fn random_trace() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => 1u64..200, 1 => Just(0u64), 2 => 300u64..2000];
    proptest::collection::vec((20u64..900, level), 1..12).prop_map(|points| {
        let mut at = 0;
        let row = |(gap, mbps): &(u64, u64)| {
            let row = format!("{}.{:03},wan,{}e6\n", at / 1000, at % 1000, mbps);
            at += gap;
            row
        };
        // The last value holds: not zero, so that nothing stalls for ever.
        let rows: String = points.iter().map(row).collect();
        format!("{rows}{}.{:03},wan,4e8\n", at / 1000, at % 1000)
    })
}

const QUICK: &str = "[search]\nmax_simulations = 50\n[replay]\nuntil = \"20 s\"\ndecide_every = \"500 ms\"\n\
    period = \"1 s\"\nwindow = \"1 s\"\nswitch_cost = \"200 ms\"\nsimulations = 20\n";

/// A policy, what it did by then as (start, length, plan), and when it switched.
type Before = (String, Vec<(u64, u64, PlanId)>, Vec<u64>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nobody_beats_the_oracle_nor_the_oracle_the_bound(
        trace in random_trace(), lost in proptest::option::of((100u64..9000, 100u64..4000)), wrap in any::<bool>(),
        slow in proptest::option::of((100u64..9000, 100u64..4000)), nics in any::<bool>(),
    ) {
        let mut more = String::from(QUICK);
        if let Some((at, length)) = lost {
            more += &format!("[[events]]\nat = \"{at} ms\"\nuntil = \"{} ms\"\nnodes = \"w:0\"\ndown = true\n", at + length);
        }
        if let Some((at, length)) = slow {
            more += &format!("[[events]]\nat = \"{at} ms\"\nuntil = \"{} ms\"\ngpus = \"e:0\"\nslowdown = 3\n", at + length);
        }
        let mut s = scenario(&more, &trace);
        if nics {
            let points = vec![(0, 100_000_000 << 16), (1_300 * MS, 20_000_000 << 16), (7_100 * MS, 90_000_000 << 16)];
            let line = sim_models::timeline::Timeline::steps(points).expect("increasing");
            s.replay.nics.insert(sim_models::scenario::NodeId { group: 1, index: 0 }, line.clone());
            // A leaf above the other node, whose uplinks change in the same way.
            use sim_models::scenario::{Leaf, Leaves};
            s.groups[0].leaves = Some(Leaves { first: 0, nodes: 1, rails: 1 });
            s.leaves.push(Leaf { name: "e-leaf-0".into(), capacity: line.profile(0) });
            s.replay.leaves.insert(0, line);
        }
        if wrap {
            s.replay.options.start = 700 * MS;
        }
        let options = Options { threads: 1, ..Options::default() };
        let report = all(&s, &options);
        let oracle = report.outcomes.last().expect("the oracle").clone();
        prop_assert_eq!(oracle.policy.as_str(), "oracle");
        for o in &report.outcomes {
            prop_assert!(o.tokens <= oracle.tokens, "{}: {} {}", o.policy, o.tokens, oracle.tokens);
        }
        prop_assert!(oracle.tokens <= report.upper_bound_tokens, "{} {}", oracle.tokens, report.upper_bound_tokens);

        // Reused or not, every event is the same.
        let again = all(&s, &Options { memoise: false, ..options.clone() });
        for (a, b) in report.outcomes.iter().zip(&again.outcomes) {
            prop_assert_eq!(a.trajectory.digest, b.trajectory.digest, "{}", &a.policy);
            prop_assert_eq!(&a.trajectory.losses, &b.trajectory.losses);
        }

        // A threshold that nothing reaches is no policy but the static one.
        let mut never = s.clone();
        never.replay.options.threshold = f64::INFINITY;
        let two = Options { policies: vec!["static".into(), "reactive".into()], ..options };
        let report = all(&never, &two);
        prop_assert_eq!(report.outcomes[0].trajectory.digest, report.outcomes[1].trajectory.digest);
    }

    /// What comes after an instant changes nothing that a policy did before it.
    #[test]
    fn no_policy_sees_the_future(
        past in random_trace(), one in random_trace(), other in random_trace(), cut in 1u64..6000,
    ) {
        let joined = |future: &str| {
            let mut rows: Vec<(u64, String)> = Vec::new();
            let parse = |row: &str| {
                let time: f64 = row.split(',').next().and_then(|t| t.parse().ok()).expect("a time");
                ((time * 1e3).round() as u64, row.split_once(',').expect("fields").1.to_string())
            };
            rows.extend(past.lines().map(parse).filter(|r| r.0 < cut));
            rows.extend(future.lines().map(parse).map(|(t, rest)| (t + cut, rest)));
            rows.iter().map(|(t, rest)| format!("{}.{:03},{rest}\n", t / 1000, t % 1000)).collect::<String>()
        };
        let start = format!("{QUICK}history = \"500 ms\"\n");
        let options = Options { threads: 1, ..Options::default() };
        let before = |future: &str| -> Vec<Before> {
            let report = all(&scenario(&start, &joined(future)), &options);
            let policies = report.outcomes.iter().filter(|o| o.policy != "oracle");
            policies
                .map(|o| {
                    let cut = cut * MS;
                    let mut done = Vec::new();
                    for s in &o.trajectory.spans {
                        let each = (0..s.count).map(|i| (s.start + i * s.length, s.length, s.plan));
                        done.extend(each.filter(|(start, length, _)| start + length < cut));
                    }
                    let switches = o.trajectory.switches.iter().map(|s| s.at).filter(|at| *at < cut).collect();
                    (o.policy.clone(), done, switches)
                })
                .collect()
        };
        prop_assert_eq!(before(&one), before(&other));
    }
}

#[test]
fn threads_and_runs_make_no_difference() {
    let s = scenario(QUICK, "0,wan,8e8\n3,wan,2e6\n9,wan,5e8\n");
    let digest = |threads| all(&s, &Options { threads, ..Options::default() }).digest;
    let one = digest(1);
    for threads in [1, 2, 4] {
        assert_eq!(digest(threads), one, "{threads} threads");
    }
}

#[test]
fn jitter_is_the_same_for_every_policy_and_follows_the_seed() {
    let s = scenario(QUICK, WHOLE);
    let report = |seed| all(&s, &Options { jitter: Some(seed), threads: 1, ..Options::default() });
    let (a, b, c) = (report(1), report(1), report(2));
    assert_eq!((a.digest, a.digest == c.digest), (b.digest, false));
    let first = a.outcomes[0].trajectory.digest;
    assert!(a.outcomes.iter().all(|o| o.trajectory.digest == first));
}
