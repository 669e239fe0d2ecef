//! Files that cannot be scored are errors with a line; rows that cannot be are skipped with a reason.

use crate::support::{file, scored, with};
use validation::runs::Reason::{self, Corrupt, Impossible, MissingField, UnknownGpu};
use validation::runs::read;

#[test]
fn files() {
    let good = file(&[with(&[])]);
    let without = |column: &str| {
        let at = good.lines().next().unwrap().split(',').position(|c| c == column).unwrap();
        let cut = |line: &str| {
            let kept = line.split(',').enumerate().filter(|(i, _)| *i != at).map(|(_, c)| c);
            kept.collect::<Vec<_>>().join(",")
        };
        good.lines().map(cut).collect::<Vec<_>>().join("\n")
    };
    for (text, line, part) in [
        (String::new(), 1, "the file is empty: expected a header with at least id, source"),
        ("\u{feff}\n\n".into(), 1, "the file is empty"),
        (good.lines().next().unwrap().into(), 1, "no rows below the header"),
        ("a,b\n1,2\n".into(), 1, "no column `id`, `source`"),
        (without("global_batch"), 1, "no column `global_batch`"),
        (without("iter_time_s"), 1, "no column `iter_time_s`"),
        (good.replace("precision", "framework"), 1, "column `framework` is there twice"),
        (file(&[with(&[("iter_time_s", "NaN")])]), 2, "`iter_time_s` is `NaN`: expected a number above 0"),
        (file(&[with(&[("iter_time_s", "-1")])]), 2, "`iter_time_s` is `-1`: expected a number above 0"),
        (file(&[with(&[("gpus", "1e30")])]), 2, "`gpus` is `1e30`: expected a whole number from 1 to 1e9"),
        (format!("{}\nx\n", good.lines().next().unwrap()), 2, "1 cells: expected 26"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.line == line && error.what.contains(part), "{text:?}: {error}");
    }
}

/// Cells changed, the reason, and part of its words.
type Case = (&'static [(&'static str, &'static str)], Reason, &'static str);

#[test]
fn rows() {
    let cases: &[Case] = &[
        (&[("iter_time_s", "")], MissingField, "`iter_time_s` is empty"),
        (&[("global_batch", "")], MissingField, "`global_batch`"),
        (&[("model", ""), ("hidden", "")], MissingField, "`model`"),
        (&[("model", "no such"), ("layers", "")], MissingField, "`layers`"),
        (&[("model", "no such"), ("seq_len", "")], MissingField, "`seq_len`"),
        (&[("gpu", "")], MissingField, "`gpu`"),
        (&[("dp", ""), ("gpus", "")], MissingField, "`gpus`"),
        (&[("gpu", "Voodoo-2")], UnknownGpu, "Voodoo-2"),
        (&[("iter_time_s", "1e-6")], Impossible, "TFLOP"),
        (&[("peak_mem_gib", "99")], Impossible, "99 GiB"),
        (&[("iter_time_s", "inf")], Corrupt, "`inf`"),
        (&[("iter_time_s", "0")], Corrupt, "`iter_time_s` is `0`"),
        (&[("iter_time_s", "fast")], Corrupt, "`fast`"),
        (&[("peak_mem_gib", "-3")], Corrupt, "`peak_mem_gib`"),
        (&[("tp", "2.5")], Corrupt, "`tp` is `2.5`"),
        (&[("tp", "0")], Corrupt, "`tp` is `0`"),
        (&[("trust", "D")], Corrupt, "expected A, B or C"),
        (&[("gpus", "16")], Corrupt, "is not `gpus` 16"),
        (&[("gpu_mix", "RTX-3090x3")], Corrupt, "`gpu_mix` has 3 GPUs"),
        (&[("gpu_mix", "many")], Corrupt, "expected names and counts"),
        (&[("gpu_mix", "x4;x4")], Corrupt, "expected names and counts"),
        (&[("global_batch", "31")], Corrupt, "31 in micro-batches of 2"),
        (&[("global_batch", "2")], Corrupt, "1 micro-batches for 2 pipelines"),
        (&[("global_batch", "1000000000"), ("iter_time_s", "1e8")], Corrupt, "passes and transfers"),
        (&[("pp", "1000000"), ("dp", "1000000"), ("tp", "1000")], Corrupt, "is not `gpus`"),
        (&[("pp", "32"), ("gpus", "256")], Corrupt, "32 stages for 24 blocks"),
        (&[("gpus_per_node", "3")], Corrupt, "expected whole nodes"),
        (&[("tp", "3"), ("gpus", "6")], Corrupt, "tp 3 does not divide"),
        (&[("dp", ""), ("gpus", "6")], Corrupt, "no multiple of tp x pp x cp"),
        (&[("plan", "0-25")], Corrupt, "same number of replicas"),
        (&[("plan", "|")], Corrupt, "range of layers"),
        (&[("plan", "0-25 GH200-96")], Corrupt, "expected replicas"),
        (&[("plan", "0-25 99999999999*GH200-96:4")], Corrupt, "expected replicas"),
        (&[("plan", "0-25 900000*GH200-96:4 900000*GH200-96:4")], Corrupt, "replicas of a stage"),
        (&[("plan", "0-25 GH200-96:4")], Corrupt, "the plan is for 4 GH200-96, the row says 8"),
        (&[("plan", "0-12 GH200-96:4 | 14-25 GH200-96:4")], Corrupt, "layer 13 is in no stage"),
    ];
    for (changes, reason, part) in cases {
        let outcome = scored(changes, None);
        let skip = outcome.result.expect_err(&format!("{changes:?}"));
        assert!(skip.reason == *reason && skip.what.contains(part), "{changes:?}: {skip:?}");
    }
}

#[test]
fn plan_files() {
    let plan = |layers: &str, replicas: &str, batch: &str| {
        format!(
            r#"{{"pipeline_list": [{{"layers_per_stage": [{layers}], "tmp_per_stage": [{replicas}]}}], {batch}}}"#
        )
    };
    let all: Vec<String> = (0..26).map(|l: u32| l.to_string()).collect();
    let all = format!("[{}]", all.join(","));
    let two = r#"[[[["GH-96", 4, "z"]], 4], [[["GH-96", 4, "z"]], 4]]"#;
    let batch = r#""mbs": 2, "gbs": 32"#;
    assert!(scored(&[], Some(&plan(&all, two, batch))).result.is_ok());
    for (text, reason, part) in [
        (String::new(), Corrupt, "plan file: EOF"),
        ("{}".into(), Corrupt, "pipeline_list"),
        (plan("[0, 2]", two, batch), Corrupt, "not consecutive"),
        (plan("[]", two, batch), Corrupt, "not consecutive"),
        (plan(&all, "", batch), Corrupt, "one a stage"),
        (plan(&all, "[]", batch), Corrupt, "same number of replicas"),
        (plan(&all, &two.replace('4', "0"), batch), Corrupt, "1 to 4096"),
        (plan(&all, r#"[[[["GH-96", 4, "z"]], 2]]"#, batch), Corrupt, "not its number of GPUs"),
        (plan(&all, &two.replacen("\"z\"", "\"y\"", 1), batch), Corrupt, "more than one zone"),
        (plan(&all, two, r#""mbs": 4, "gbs": 32"#), Corrupt, "`micro_batch` is 2"),
        (plan(&all, two, r#""mbs": 2, "gbs": 64"#), Corrupt, "`global_batch` is 32"),
        (plan(&all, &two.replace("GH-96", "A100-40"), batch), Corrupt, "the row says 8 GH200-96"),
        (plan(&all, &two.replace("GH-96", "Z9"), batch), UnknownGpu, "Z9"),
    ] {
        let skip = scored(&[], Some(&text)).result.expect_err(&text);
        assert!(skip.reason == reason && skip.what.contains(part), "{text}: {skip:?}");
    }
}
