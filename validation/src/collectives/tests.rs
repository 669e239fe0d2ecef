//! Rows and scores on made files; the real file only where `TIDEPLAN_DATA` says it lies.

use super::*;

const HEADER: &str = "source,collective,gpu,gpus,nodes,gpus_per_node,intra_link,inter_link,size_bytes,time_us,algbw_GBps,busbw_GBps,notes\n";

fn reasons(row: &str) -> Result<Sample, &'static str> {
    let parsed = rows(&format!("{HEADER}{row}\n")).unwrap();
    assert_eq!(parsed.len(), 1);
    parsed[0].sample.clone().map_err(Reason::name)
}

#[test]
fn what_a_row_lacks_is_named() {
    for (row, reason) in [
        ("s,all_reduce,A100,8,1,8,NVSwitch,,,10,,,", "missing_field"),
        ("s,all_reduce,A100,8,1,8,NVSwitch,,1024,,,,", "missing_field"),
        ("s,all_reduce,A100,,,8,NVSwitch,,1024,10,,,", "missing_field"),
        ("s,collective (intra-node),A100,8,1,8,NVSwitch,,1024,10,,,", "missing_field"),
        ("s,all_reduce,A100,16,2,8,NVSwitch,fabric not stated,1024,10,,,", "missing_field"),
        ("s,all_reduce,Z9000,8,1,8,NVSwitch,,1024,10,,,", "unknown_gpu"),
        ("s,all_reduce,A100,1,1,8,NVSwitch,,1024,10,,,", "impossible"),
        ("s,all_reduce,A100,7,2,8,NVSwitch,8x 200 Gb/s InfiniBand,1024,10,,,", "impossible"),
        ("s,all_reduce,A100,8,1,8,NVSwitch,,1073741824,10,,,", "impossible"),
        ("s,all_reduce,A100,8,1,8,NVSwitch,,1024,nan,,,", "corrupt"),
        ("s,all_reduce,A100,8,1,8,NVSwitch,,1024,-3,,,", "corrupt"),
        ("s,all_reduce,A100,8,1,8,NVSwitch,,many,10,,,", "corrupt"),
        ("s,all_reduce,A100,8.5,1,8,NVSwitch,,1024,10,,,", "corrupt"),
        ("s,all_reduce,A100,8,1,8,NVSwitch,,1073741824,8142,13.2,,", "corrupt"),
        ("s,all_reduce,A100,8,1,8,NVSwitch,,1024,,,inf,", "corrupt"),
    ] {
        assert_eq!(reasons(row), Err(reason), "{row}");
    }
}

#[test]
fn times_come_from_bandwidths_too() {
    for (row, seconds) in [
        ("s,all_reduce,A100,8.0,1.0,8,NVSwitch,,1.073741824e9,8142.6,131.87,230.77,", 8142.6e-6),
        ("s,all_reduce,A100,8,1,,,,1000000000,,,175,", 1.0 / 100.0),
        ("s,all_gather,A100,8,1,,,,1000000000,,,87.5,", 1.0 / 100.0),
        ("s,send_recv,A100,2,1,,,,1000000000,,100,,", 1.0 / 100.0),
        ("s,all_to_all,A100,8,1,,,,1000000000,,100,,", 1.0 / 100.0),
    ] {
        let sample = reasons(row).unwrap_or_else(|e| panic!("{row}: {e}"));
        assert!((sample.seconds / seconds - 1.0).abs() < 1e-9, "{row}: {}", sample.seconds);
    }
}

#[test]
fn ranks_come_from_what_says_them() {
    for (row, expected) in [
        ("s,all_reduce,A100,16,,8,NVSwitch,8x 200 Gb/s InfiniBand,1048576,300,,,", Ok((16, 2))),
        ("s,all_reduce,A100,,2,8,NVSwitch,8x 200 Gb/s InfiniBand,1048576,300,,,", Ok((16, 2))),
        ("s,all_reduce,A100,4,,8,NVSwitch,,1048576,60,,,", Ok((4, 1))),
        // 2 (128 - 1) / 128 times 186.39 is 369.87; no other multiple of 8 comes near.
        ("s,all_reduce,H200,,,8,NVSwitch,AWS EFA p5en,17179869184,92173,186.39,369.86,", Ok((128, 16))),
        ("s,all_reduce,H200,,,8,NVSwitch,AWS EFA p5en,8,166,0.00,0.00,", Err("missing_field")),
        ("s,all_reduce,H200,,,8,NVSwitch,AWS EFA p5en,1048576,300,3.50,6.95,", Err("missing_field")),
    ] {
        let got = reasons(row).map(|s| (s.group.ranks(), s.group.nodes()));
        assert_eq!(got, expected, "{row}");
    }
}

#[test]
fn a_machine_is_as_large_as_its_largest_run() {
    let row = |source: &str, gpus: u32| {
        format!("{source},all_reduce,V100-SXM2,{gpus},1,{gpus},NVLink,,1048576,1000,,,\n")
    };
    let text = format!("{HEADER}{}{}{}", row("a", 4), row("a", 8), row("b", 4));
    let parsed = rows(&text).unwrap();
    let gpus: Vec<u32> = parsed.iter().map(|r| r.sample.as_ref().unwrap().fabric.gpus_per_node).collect();
    assert_eq!(gpus, [8, 8, 4]);
}

#[test]
fn files_that_are_none() {
    for (text, says) in [
        ("", "column `source`"),
        ("a,b\n1,2\n", "column `source`"),
        ("source,collective,gpu,gpus,nodes,size_bytes\n", "column `time_us`"),
    ] {
        let error = validate(text, Parameters::builtin()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let empty = validate(HEADER, Parameters::builtin()).unwrap();
    assert!(empty.sources.is_empty() && empty.overall == Overall::default());
    // Short, long and quoted rows are rows.
    let odd = format!("{HEADER}s\n\"a, b\",all_reduce,A100,8,1,8,,,1048576,90,,,,,,,\n");
    let report = validate(&odd, Parameters::builtin()).unwrap();
    assert_eq!(report.sources.iter().map(|s| (s.n, s.skipped)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    assert_eq!(report.sources[0].median_ape, None);
}

#[test]
fn scores_are_those_of_the_errors() {
    let mut errors: Vec<f64> = (1..=10).rev().map(|i| f64::from(i) / 10.0).collect();
    let s = score(&mut errors);
    assert_eq!((s.n, s.median_ape, s.p90_ape), (10, Some(0.55), Some(0.9)));
    assert!((s.mape.unwrap() - 0.55).abs() < 1e-12);
    assert_eq!(score(&mut []), Score::default());
}

#[test]
fn a_source_that_was_fitted_on_is_scored_without_it() {
    let shipped = Parameters::builtin();
    let known = shipped.sources.first().unwrap();
    let row = |source: &str, us: f64| format!("{source},all_reduce,A100,8,1,8,NVSwitch,,67108864,{us},,,\n");
    let text = format!("{HEADER}{}{}", row(known, 600.0), row("never seen", 580.0));
    let report = validate(&text, shipped).unwrap();
    let by: Vec<ScoredBy> = report.sources.iter().map(|s| s.scored_by).collect();
    assert_eq!(by, [ScoredBy::LeaveOneOut, ScoredBy::Shipped]);
    assert_eq!(report.sources[1].median_ape, report.sources[1].shipped.all.median_ape);
    let json = serde_json::to_value(&report).unwrap();
    for key in ["source", "n", "skipped", "mape", "median_ape", "p90_ape", "skipped_reasons", "leave_one_out"]
    {
        assert!(json["sources"][0].get(key).is_some(), "{key}");
    }
    assert_eq!(validate(&text, shipped).unwrap(), report);
}

/// The figures reached, with a little room. Facts of sources that may not be carried stay where they are.
#[test]
fn the_measured_collectives() {
    let Ok(data) = std::env::var("TIDEPLAN_DATA") else {
        println!("skipped: TIDEPLAN_DATA does not say where the measured collectives lie");
        return;
    };
    let text = std::fs::read_to_string(format!("{data}/runs/collectives.csv")).unwrap();
    let parsed = rows(&text).unwrap();
    // The shipped parameters are this file's fit.
    let carried = rows(SHIPPED).unwrap();
    let samples: Vec<&Sample> =
        training(&parsed, &carried).iter().filter_map(|row| row.sample.as_ref().ok()).collect();
    let (fitted, _) = fit(&samples, Parameters::builtin());
    assert_eq!(fitted.to_toml(), Parameters::builtin().to_toml());
    let report = validate(&text, Parameters::builtin()).unwrap();
    assert_eq!(parsed.len(), report.sources.iter().map(|s| s.n + s.skipped).sum::<usize>());
    within(
        &report,
        &[
            ("vTrain", 0.06, 0.06),
            ("vidur", 0.12, 0.11),
            ("AWS awsome", 0.10, 0.075),
            ("AWS topology", 0.08, 0.08),
            ("BigScience", 0.10, 0.10),
            ("Galvatron", 0.09, 0.09),
            ("Sailor", 0.16, 0.14),
            ("Ultra-Scale", 0.21, 0.21),
            ("dgx-spark", 0.36, 1.0),
        ],
    );
    let o = report.overall;
    assert!(
        o.median_ape.is_some_and(|e| e <= 0.13) && o.large_median_ape.is_some_and(|e| e <= 0.095),
        "{o:?}"
    );
}

/// Each source by a part of its name, and the most that its median error may be: all sizes, and from 1 MiB.
fn within(report: &Report, budget: &[(&str, f64, f64)]) {
    for (part, all, large) in budget {
        let source = report.sources.iter().find(|s| s.source.contains(part)).unwrap();
        assert_eq!(source.scored_by, ScoredBy::LeaveOneOut);
        assert!(source.median_ape.is_some_and(|e| e <= *all), "{part}: {:?}", source.median_ape);
        let of = source.large.median_ape.unwrap_or(0.0);
        assert!(of <= *large, "{part}, from 1 MiB: {of}");
    }
}

#[test]
fn the_shipped_collectives() {
    let report = validate(SHIPPED, Parameters::builtin()).unwrap();
    within(
        &report,
        &[
            ("vTrain", 0.08, 0.08),
            ("vidur", 0.27, 0.15),
            ("Galvatron", 0.09, 0.09),
            ("Sailor", 0.16, 0.14),
            ("EFA", 0.12, 0.12),
            ("A3 Ultra", 0.20, 0.08),
        ],
    );
    assert!(report.sources.iter().all(|s| s.skipped == 0), "every shipped row is scored");
    let o = report.overall;
    assert!(
        o.median_ape.is_some_and(|e| e <= 0.14) && o.large_median_ape.is_some_and(|e| e <= 0.095),
        "{o:?}"
    );
    // A GPU that no other measurement saw is not much worse off.
    for gpu in &report.gpus {
        let (scored, without) = (gpu.scored.large.median_ape, gpu.leave_one_out.large.median_ape);
        assert!(without.unwrap() <= scored.unwrap() + 0.06, "{}: {scored:?}, {without:?}", gpu.gpu);
    }
}

#[test]
fn pairs_that_send_side_by_side_each_send_all() {
    // 4 pairs of 1 MB each at 4 GB/s together take as long as one pair at 1 GB/s.
    let row = |pairs: u32, rate: f64| format!("s,send_recv,V100,2,2,{pairs},,GCP,1000000,,{rate},,");
    let [four, one] = [reasons(&row(4, 4.0)).unwrap(), reasons(&row(1, 1.0)).unwrap()];
    assert!((four.seconds - 1e-3).abs() < 1e-12 && (one.seconds - 1e-3).abs() < 1e-12);
    assert_eq!((four.group.ranks(), four.group.nodes(), one.group.ranks()), (8, 2, 2));
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(
        cells in proptest::collection::vec("[0-9.e-]{0,12}|A100|all_reduce|\"|.{0,12}", 0..40),
        whole in ".{0,200}",
    ) {
        let _ = rows(&whole);
        let body: Vec<String> = cells.chunks(13).map(|row| row.join(",")).collect();
        let _ = rows(&format!("{HEADER}{}\n", body.join("\n")));
    }
}
