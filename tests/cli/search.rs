//! A search that is killed and goes on, one in parts, and one with a certificate.

use crate::{command, has_keys, json, number, tideplan, tideplan_in, two_nodes};
use serde_json::Value;
use std::path::Path;

const SMALL: [&str; 6] =
    ["two.toml", "--set", "search.max_stages=3", "--set", "training.global_batch=16", "--json"];

fn plan<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [&["plan"], base, more].concat()
}

#[track_caller]
fn run(folder: &Path, args: &[&str]) -> Value {
    let output = tideplan_in(folder, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer.as_object_mut().unwrap().shift_remove("search_time_s");
    answer
}

#[test]
fn a_search_that_stopped_or_was_killed_goes_on() {
    let folder = two_nodes();
    let plan = |more| plan(&SMALL, more);
    let whole = run(folder.path(), &plan(&["--max-simulations", "400"]));
    // Stopped by number, then gone on with.
    run(folder.path(), &plan(&["--max-simulations", "150", "--checkpoint", "s"]));
    assert!(folder.path().join("s").exists());
    assert_eq!(whole, run(folder.path(), &plan(&["--max-simulations", "400", "--checkpoint", "s"])));
    // Once more, from the end.
    assert_eq!(whole, run(folder.path(), &plan(&["--max-simulations", "400", "--checkpoint", "s"])));

    // Killed at some moment.
    let mut child = command(&plan(&["--max-simulations", "400", "--checkpoint", "t"]));
    let mut child = child.current_dir(folder.path()).stdout(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(150));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(whole, run(folder.path(), &plan(&["--max-simulations", "400", "--checkpoint", "t"])));

    // A state of another search, one that somebody changed, and none at all.
    let state = std::fs::read_to_string(folder.path().join("s")).unwrap();
    std::fs::write(folder.path().join("u"), state.replacen("\"key\":[", "\"key\":[9999,", 1)).unwrap();
    for (args, part) in [
        (&["--top", "7", "--checkpoint", "s"][..], "cannot go on from `s`"),
        (&["--checkpoint", "u"], "it was changed since it was saved"),
        (&["--checkpoint", "trace.csv"], "cannot read `trace.csv`"),
        (&["--checkpoint", "no/such/s"], "cannot write `no/such/s`"),
    ] {
        let output = tideplan_in(folder.path(), &plan(args));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn parts_merge_to_the_whole() {
    let folder = two_nodes();
    let base = ["two.toml", "--set", "search.max_stages=2", "--json", "--max-simulations", "1000000"];
    let plan = |more| plan(&base, more);
    let whole = run(folder.path(), &plan(&[]));
    let names = ["0.json", "1.json", "2.json"];
    for (i, name) in names.iter().enumerate() {
        let shard = format!("{i}/3");
        let args = [&["plan"], &base[..], &["--shard", &shard, "--part", name]].concat();
        run(folder.path(), &args);
    }
    let merged = run(folder.path(), &["merge", "2.json", "0.json", "1.json", "--json", "--out", "best.toml"]);
    for key in ["best", "lower_bound_s", "gap", "proven_optimal", "stopped", "plans_represented"] {
        assert_eq!(whole[key], merged[key], "{key}");
    }
    assert!(folder.path().join("best.toml").exists());
    let part = std::fs::read_to_string(folder.path().join("0.json")).unwrap();
    std::fs::write(folder.path().join("5.json"), part.replacen("\"shard\":[0,3]", "\"shard\":[5,3]", 1))
        .unwrap();
    for (args, part) in [
        (&["merge", "0.json", "5.json"][..], "`5.json` says that it is part 5/3"),
        (&["merge", "0.json", "1.json"], "1 of 3 parts are missing: 2/3"),
        (&["merge", "0.json", "0.json", "1.json"], "part 0/3 is there twice"),
        (&["merge", "two.toml"], "cannot read `two.toml`"),
        (&["plan", "two.toml", "--shard", "3/3", "--part", "x"], "expected I/N"),
        (&["plan", "two.toml", "--shard", "0/3"], "--part"),
    ] {
        let output = tideplan_in(folder.path(), args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {error}");
        assert!(error.contains(part), "{args:?}: {error}");
    }
}

#[test]
fn a_certificate_holds_until_it_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    let file = path.to_str().unwrap();
    let (_, answer) = json(&["plan", "opt350-a100x32", "--certificate", file]);
    let (status, verified) = json(&["verify", file]);
    assert_eq!(
        (status, &verified["holds"], &verified["proven_optimal"]),
        (0, &true.into(), &answer["proven_optimal"])
    );
    assert_eq!(number(&verified, "iteration_time_s"), number(&answer["best"], "iteration_time_s"));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    changed["certificate"]["nodes"].as_array_mut().unwrap().retain(|n| n[1].get("simulated").is_none());
    std::fs::write(&path, changed.to_string()).unwrap();
    let (status, verified) = json(&["verify", file]);
    assert_eq!((status, &verified["holds"]), (1, &false.into()));
    let said = String::from_utf8(tideplan(&["verify", file]).stdout).unwrap();
    assert!(said.contains("the certificate does not hold: no node covers plan"), "{said}");
}

#[test]
fn a_few_words_make_a_scenario() {
    let words =
        ["--model", "gpt2", "--gpus", "a100-40:4,v100-16:4/2@west", "--inter", "50 Gbps", "--batch", "8"];
    let plan = [&["plan"], &words[..], &["--max-simulations", "64", "--tokens", "300B"]].concat();
    let (status, answer) = json(&plan);
    assert_eq!(status, 0);
    let days = number(&answer["training"], "days");
    let rate = number(&answer["best"], "tokens_per_s");
    assert!((days * 86_400.0 * rate / 300e9 - 1.0).abs() < 1e-9 && answer["training"]["dollars"].is_null());
    // The file that `init` writes says the same.
    let folder = tempfile::tempdir().unwrap();
    let output = tideplan_in(folder.path(), &[&["init"], &words[..], &["--out", "s.toml"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let same = run(folder.path(), &["plan", "s.toml", "--max-simulations", "64", "--json"]);
    assert_eq!(same["best"], answer["best"]);
    for (args, part) in [
        (&["init", "--gpus", "a100-80"][..], "no count"),
        (&["init", "--gpus", "a100-80:12/5"], "whole nodes"),
        (&["init", "--gpus", "b1000:8"], "b1000"),
        (&["init", "--model", "llama-9"], "no model is called `llama-9`"),
        (&["init", "--inter", "100"], "--inter"),
        (&["plan", "--model", "gpt2"], "go together"),
        (&["plan", "--objective", "cost"], "no price for the nodes"),
        (&["plan", "opt350-a100x32", "--objective", "robust"], "no history"),
        (&["plan", "--deadline", "3"], "--tokens"),
        (&["plan", "--tokens", "1B", "--deadline", "3", "--certificate", "c"], "knows no `--deadline`"),
        (&["plan", "--inter", "1 Gbps"], "go together"),
        (&["plan", "quickstart", "--model", "gpt2", "--gpus", "v100-16:8"], "cannot be used with"),
        (&["plan", "--external", "true"], "is no command of planner `tideplan`"),
        (&["plan", "--planner", "megatron", "--certificate", "c"], "`--certificate` goes with the planner"),
        (&["plan", "--planner", "metis", "--objective", "robust"], "`--objective` goes with the planner"),
    ] {
        let output = tideplan(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {error}");
        assert!(error.contains(part), "{args:?}: {error}");
    }
}

#[test]
fn the_cheapest_plan_within_a_deadline_and_why_not_another() {
    let folder = two_nodes();
    let prices = "\n[cost]\nnodes = [{ group = \"a\", per_hour = 14 }, { group = \"v\", per_hour = 12 }]\n\
                  links = [{ link = \"wan\", per_gb = 0.02 }]\n";
    let text = std::fs::read_to_string(folder.path().join("two.toml")).unwrap();
    std::fs::write(folder.path().join("priced.toml"), text.replace("[plan]", &format!("{prices}[plan]")))
        .unwrap();
    let plan =
        |more| plan(&["priced.toml", "--set", "search.max_stages=2", "--json", "--tokens", "1B"], more);
    let fastest = run(folder.path(), &plan(&["--out", "fast.toml"]));
    let cheapest = run(folder.path(), &plan(&["--objective", "cost", "--why-not", "fast.toml"]));
    let cost = |answer: &Value| number(&answer["best"], "cost_usd");
    assert!(cost(&cheapest) <= cost(&fastest));
    let per_million = cost(&cheapest) / (16.0 * 2048.0) * 1e6;
    assert!((number(&cheapest["best"], "objective_value") / per_million - 1.0).abs() < 1e-6);
    assert!(["none", "simulation"].contains(&cheapest["why_not"]["falls_at"].as_str().unwrap()));
    // A plan that cannot be read is told before the search, which then writes nothing.
    let words = plan(&["--why-not", "none.toml", "--out", "best.toml"]);
    let output = tideplan_in(folder.path(), &words);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(!folder.path().join("best.toml").exists());
    // Nothing of the front covers another.
    let front = fastest["pareto"].as_array().unwrap();
    for a in front {
        let better = |b: &&Value| {
            ["iteration_time_s", "cost_usd"].iter().all(|k| number(b, k) <= number(a, k))
                && number(b, "spare_memory_bytes") >= number(a, "spare_memory_bytes")
        };
        assert_eq!(front.iter().filter(better).count(), 1);
    }
    // A deadline between the two: the cheapest that keeps it.
    let days = (number(&fastest["training"], "days") * 1.01).to_string();
    let args = ["plan", "priced.toml", "--set", "search.max_stages=2", "--json", "--tokens", "1B"];
    let args = [&args[..], &["--objective", "cost", "--deadline", &days]].concat();
    let within = run(folder.path(), &args);
    assert!(number(&within["training"], "days") <= days.parse::<f64>().unwrap());
    let output = tideplan_in(folder.path(), &plan(&["--deadline", "0.000001"]));
    let none: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &none["stopped"]), (Some(1), &"done".into()));
    assert!(none["best"].is_null() && none["counts"]["pruned"]["deadline"].as_u64().unwrap() > 0, "{none}");
}

#[test]
fn what_was_thrown_out_is_explained_and_adds_up() {
    let folder = two_nodes();
    let answer = run(folder.path(), &plan(&SMALL, &["--explain"]));
    let plans = answer["explain"]["plans"].as_array().unwrap();
    assert_eq!(plans.len(), answer["ranked"].as_array().unwrap().len());
    for (plan, ranked) in plans.iter().zip(answer["ranked"].as_array().unwrap()) {
        has_keys(plan, &["iteration_time_s", "objective_value", "parts_s", "slower_by", "loses_by"]);
        let time = number(ranked, "iteration_time_s");
        assert_eq!(number(plan, "iteration_time_s"), time);
        let parts: f64 = plan["parts_s"].as_object().unwrap().values().map(|s| s.as_f64().unwrap()).sum();
        assert!((parts / time - 1.0).abs() < 1e-9, "{plan}");
    }
    assert!(plans[0]["loses_by"].is_null() && number(&plans[0], "slower_by") == 0.0);
    let rejected = &answer["rejected"];
    let whole = |value: &Value| value.as_str().unwrap().parse::<u128>().unwrap();
    let sum = |of: &Value| {
        let pruned: u128 = of["pruned"].as_object().unwrap().values().map(whole).sum();
        whole(&of["bounded"]) + whole(&of["simulated"]) + whole(&of["open"]) + pruned
    };
    assert_eq!(rejected["plans_represented"], answer["plans_represented"]);
    assert_eq!(rejected["simulated"], answer["counts"]["simulated"].to_string());
    assert_eq!(whole(&rejected["open"]) == 0, answer["proven_optimal"].as_bool().unwrap());
    let families = rejected["families"].as_array().unwrap();
    let keys = ["joined", "micro_batch", "most_stages", "nodes", "falls_by", "best_value", "least_bound"];
    for family in families.iter().chain([rejected]) {
        assert_eq!(sum(family), whole(&family["plans_represented"]), "{family}");
    }
    families.iter().for_each(|f| has_keys(f, &keys));
    let all: u128 = families.iter().map(|f| whole(&f["plans_represented"])).sum();
    assert_eq!(all, whole(&rejected["plans_represented"]));
    assert_eq!(families.iter().filter(|f| f["falls_by"] == "best").count(), 1);
    // In words, and what it does not go with.
    let args: Vec<&str> = plan(&SMALL, &["--explain"]).into_iter().filter(|a| *a != "--json").collect();
    let said = String::from_utf8(tideplan_in(folder.path(), &args).stdout).unwrap();
    for part in
        ["why this plan", "never reached the simulator", "families of plans", "in no plan of the space"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    for planner in ["exhaustive", "amp"] {
        let output = tideplan_in(folder.path(), &plan(&SMALL, &["--explain", "--planner", planner]));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
        assert!(error.contains("goes with the planner `tideplan` alone"), "{error}");
    }
}

/// A model of long sequences, of which a batch has fewer than there are GPUs.
const LONG: &str = r#"
schema_version = 1
[model]
name = "long"
blocks = 6
hidden = 2048
heads = 4
seq_len = 65536
vocab = 32000
gated = true
tied_embeddings = false
[training]
global_batch = 4
precision = "bf16"
[[nodes]]
name = "h100"
count = 2
gpus_per_node = 8
gpu = "H100"
nic = "400 Gbps"
[network]
rate = "400 Gbps"
latency = "5 us"
[search]
cp = [1, 2, 4]
max_stages = 4
"#;

/// The best plan of a scenario is proven and checked, every stage of it has more than 1 of `key`, and without that it takes longer.
fn pays(folder: &Path, file: &str, key: &str) {
    let answer = run(folder, &["plan", file, "--json", "--explain", "--certificate", "c.json"]);
    assert_eq!(answer["proven_optimal"], true);
    let stages = answer["best"]["plan"]["pipelines"][0]["stages"].as_array().unwrap();
    assert!(stages.iter().all(|s| s[key].as_u64() > Some(1)), "{stages:?}");
    let whole = run(folder, &["plan", file, "--json", "--set", &format!("search.{key}=[1]")]);
    let time = |answer: &Value| number(&answer["best"], "iteration_time_s");
    assert!(time(&answer) < 0.95 * time(&whole), "{} {}", time(&answer), time(&whole));
    assert_eq!(run(folder, &["verify", "c.json", "--json"])["holds"], true);
}

#[test]
fn long_sequences_are_cut_where_that_pays() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long.toml"), LONG).unwrap();
    pays(folder.path(), "long.toml", "cp");
    for (cp, part) in [("[3]", "cp 3 does not divide the sequence"), ("[0]", "is not from 1 to")] {
        let output = tideplan_in(folder.path(), &["plan", "long.toml", "--set", &format!("search.cp={cp}")]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(part), "{error}");
    }
}

/// A model whose experts are most of it, of which a GPU does not hold all.
const EXPERTS: &str = r#"
schema_version = 1
[model]
name = "experts"
blocks = 8
hidden = 2048
heads = 16
seq_len = 2048
vocab = 32000
gated = true
tied_embeddings = false
experts = { count = 16, top_k = 2, ffn_hidden = 4096 }
[training]
global_batch = 64
precision = "bf16"
[[nodes]]
name = "a100"
count = 2
gpus_per_node = 8
gpu = "A100-40"
nic = "200 Gbps"
[network]
rate = "200 Gbps"
latency = "5 us"
[search]
max_stages = 4
micro_batches = [1, 2]
"#;

#[test]
fn experts_are_shared_out_where_that_pays() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("experts.toml"), EXPERTS).unwrap();
    pays(folder.path(), "experts.toml", "ep");
    for (model, ep, part) in [
        ("mixtral-8x7b", "[16]", "ep 16 does not divide the 8 experts"),
        ("llama-2-7b", "[2]", "ep 2, and `llama-2-7b` has no experts"),
    ] {
        let set = ["--set", &format!("search.ep={ep}"), "--set", &format!("model.name=\"{model}\"")];
        let output = tideplan_in(folder.path(), &[&["plan", "suite-moe"], &set[..]].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(part), "{error}");
    }
}

/// Batches of two thousand million samples, a pipeline of 65,536 micro-batches, links of a bit a second: an answer, or that none is.
#[test]
fn absurd_sizes_are_answered() {
    for (sets, too_large) in [
        (&["training.global_batch=2147483648"][..], true),
        (&["training.global_batch=65536", "search.micro_batches=[1]", "search.max_stages=2"], false),
        (&["network.rate=\"1 bps\""], false),
        (&["nodes.a100.nic=\"1 bps\"", "search.zero=[0, 3]"], false),
    ] {
        let mut args = vec!["plan", "opt350-a100x32", "--max-simulations", "5"];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        let (code, answer) = json(&args);
        assert!((0..=1).contains(&code), "{sets:?}: {code}");
        assert_eq!(code == 1, answer["best"].is_null(), "{sets:?}");
        let counts = &answer["counts"];
        let pruned = counts["pruned"].as_object().unwrap();
        assert_eq!(pruned["too_large"].as_u64().unwrap() > 0 && code == 1, too_large, "{sets:?}: {counts}");
        let ends = ["bounded", "simulated", "expanded", "open"].iter().map(|key| &counts[*key]);
        let all: u64 = ends.chain(pruned.values()).map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(counts["considered"].as_u64(), Some(all), "{sets:?}");
    }
}
