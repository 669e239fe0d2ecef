//! Traces as streams: imports of other formats, changes, figures, generators, and what is refused.

use proptest::prelude::*;
use scenarios::series::{
    Ar1, CsvRecords, Diurnal, Edit, Edits, Failures, KINDS, Markov, Quantity, Record, Stats, fit_ar1,
    generate_ar1, import,
};

fn read(kind: &str, text: &str) -> Result<Vec<Record>, scenarios::Fault> {
    if kind == "tideplan" {
        return CsvRecords::new(text.as_bytes(), "t.csv", None)?.collect();
    }
    import(KINDS.iter().find(|k| k.name == kind).expect("a kind"), text, "t.csv")
}

/// `time name value[/latency]` of each record.
fn shown(records: &[Record]) -> Vec<String> {
    let latency = |r: &Record| r.latency_s.map_or(String::new(), |l| format!("/{l}"));
    let seconds = |r: &Record| scenarios::series::seconds_text(r.at_ns);
    records.iter().map(|r| format!("{} {} {}{}", seconds(r), r.name, r.value, latency(r))).collect()
}

#[test]
fn every_kind_is_read() {
    for (kind, text, expected) in [
        (
            "tideplan",
            "# x\ntime_s,link,bandwidth_bps,latency_s\n1.7e9,a,5,0.1\n1700000001,b,6,0.2\n1700000001.5,a,0,0.1\n",
            &["0 a 5/0.1", "1 b 6/0.2", "1.5 a 0/0.1"][..],
        ),
        ("tideplan", "time_s,node_group,available\n0,v,4\n60,v,3\n", &["0 v 4", "60 v 3"]),
        ("tideplan", "share,time_s\n0.5,0\n", &["0 link 0.5"]),
        (
            "skyplane",
            "src_region,src_tier,dst_region,dst_tier,throughput_received,success,experiment_start\n\
             a,PREMIUM,b,PREMIUM,100,True,2022.01.29_22.19\na,PREMIUM,b,PREMIUM,300,True,2022.01.29_22.19\n\
             a,STANDARD,b,PREMIUM,7,True,2022.01.30_22.19\na,PREMIUM,b,PREMIUM,9,False,2022.01.29_22.19\n",
            &["0 a->b 200", "86400 a(STANDARD)->b 7"],
        ),
        (
            "pairs",
            "time_s,link_or_pair,bandwidth_bps,rtt_s\n5,x->y,8,0.2\n0,x->y,9,\n",
            &["0 x->y 9", "5 x->y 8/0.1"],
        ),
        ("mahimahi", "0\n0\n500\n1499\n", &["0 link 36096", "1 link 24064"]),
        (
            "iperf3",
            r#"{"start":{"connected":[{"remote_host":"h"}]},"intervals":[
               {"sum":{"start":0,"bits_per_second":1,"omitted":true},"streams":[]},
               {"sum":{"start":3,"bits_per_second":10},"streams":[{"rtt":20000},{"rtt":40000}]},
               {"sum":{"start":4,"bits_per_second":20},"streams":[]}]}"#,
            &["0 h 10/0.015", "1 h 20"],
        ),
        ("simgrid", "PERIODICITY 12\n0.0 10\n11.0 5\n", &["0 link 80", "11 link 40", "12 link 80"]),
        ("simgrid", "# c\n0 1\n2 3\nLOOPAFTER 5\n", &["0 link 8", "2 link 24", "7 link 8"]),
        ("zhejiang", "time_s,link,in_bps,out_bps\n0,L:1,5,9\n5,L:1,8,2\n", &["0 L:1 9", "5 L:1 8"]),
        ("sailor", "time_s,pool,gpus\n0.0,A100,16\n630.0,A100,10\n", &["0 A100 16", "630 A100 10"]),
        (
            "sailor",
            ",Timestamp,A,B\n0,1712574014.5,32,1\n1,1712574137,80,2\n",
            &["0 A 32", "0 B 1", "122.5 A 80", "122.5 B 2"],
        ),
        ("oobleck", "0,add,node1\n0,add,node2\n9018000,remove,node1\n", &["0 nodes 2", "9018 nodes 1"]),
        (
            "parcae",
            "time_s,event,n_nodes,live_nodes\n0.0,add,27,27\n360.0,add,1,28\n",
            &["0 nodes 27", "360 nodes 28"],
        ),
        ("skypilot", r#"{"metadata":{"gap_seconds":300},"data":[1,0]}"#, &["0 nodes 1", "300 nodes 0"]),
        ("skypilot", "time_s,pool,value\n0,p,1\n600,p,END\n", &["0 p 1", "600 p 1"]),
        (
            "infinitehbd",
            "time_days,node,event,level,class\n1,n0,fault_start,x,y\n1.5,n0,fault_start,x,y\n2,n0,fault_end,x,y\n3,n0,fault_end,x,y\n",
            &["0 n0 1", "86400 n0 0", "129600 n0 0", "172800 n0 0", "259200 n0 1"],
        ),
    ] {
        let records = read(kind, text).unwrap_or_else(|f| panic!("{kind}: {f}"));
        assert_eq!(shown(&records), expected, "{kind}");
    }
}

#[test]
fn what_cannot_be_a_trace_is_refused_with_its_line() {
    let csv = |rows: &str| format!("time_s,link,bandwidth_bps\n{rows}");
    for (kind, text, code, message) in [
        ("tideplan", String::new(), "T0404", "the trace is empty"),
        ("tideplan", "# nothing\n\n".into(), "T0404", "the trace is empty"),
        ("tideplan", csv(""), "T0404", "the trace has no rows"),
        ("tideplan", "time,link,bandwidth_bps\n0,a,1\n".into(), "T0401", "no column `time_s`"),
        ("tideplan", "time_s,link,mbps\n0,a,1\n".into(), "T0401", "no column `bandwidth_bps`"),
        ("tideplan", csv("0,a,1\n0,a,2\n"), "T0403", "is there twice"),
        ("tideplan", csv("5,a,1\n4,a,2\n"), "T0403", "goes backwards"),
        ("tideplan", csv("0,a,NaN\n"), "T0402", "`NaN` is not a number from 0 up"),
        ("tideplan", csv("0,a,-1\n"), "T0402", "`-1` is not"),
        ("tideplan", csv("0,a,inf\n"), "T0402", "`inf` is not"),
        ("tideplan", csv("0,a,1e30\n"), "T0402", "more than bandwidth_bps can be"),
        ("tideplan", csv("0,a\n"), "T0402", "the row has no `bandwidth_bps`"),
        ("tideplan", csv("1e300,a,1\n"), "T0403", ""),
        ("tideplan", csv(&format!("0,{},1\n", "x".repeat(70_000))), "T0402", "longer than 64 KiB"),
        ("skyplane", "src_region,dst_region\na,b\n".into(), "T0401", "throughput"),
        ("mahimahi", "5\n4\n".into(), "T0402", "time goes backwards"),
        ("mahimahi", "1.5\n".into(), "T0402", "not a whole number"),
        ("mahimahi", "99999999999999\n".into(), "T0402", "not a whole number"),
        ("iperf3", "{".into(), "T0402", "not JSON"),
        ("iperf3", r#"{"error":"refused"}"#.into(), "T0402", "iperf3 failed: refused"),
        ("iperf3", r#"{"intervals":[{}]}"#.into(), "T0402", "no `sum.start`"),
        ("iperf3", r#"{"intervals":[]}"#.into(), "T0404", "nothing in it"),
        (
            "iperf3",
            r#"{"intervals":[{"sum":{"start":0,"bits_per_second":-5}}]}"#.into(),
            "T0402",
            "not from 0",
        ),
        ("simgrid", "0 1\n0 2\n".into(), "T0402", "time does not increase"),
        ("simgrid", "5 1\nPERIODICITY 3\n".into(), "T0402", "does not reach past"),
        ("oobleck", "0,add,a\n0,add,a\n".into(), "T0402", "is there already"),
        ("oobleck", "0,remove,a\n".into(), "T0402", "is not there"),
        ("oobleck", "0,stop,a\n".into(), "T0402", "unknown event"),
        ("skypilot", r#"{"metadata":{},"data":[]}"#.into(), "T0402", "gap_seconds"),
        ("infinitehbd", "time_days,node,event\n1,n,x\n".into(), "T0402", "unknown event `x`"),
        ("infinitehbd", "time_days,node,event\n".into(), "T0404", "nothing in it"),
    ] {
        let fault = read(kind, &text).expect_err(&text);
        assert_eq!(fault.code, code, "{kind} {fault}");
        assert!(fault.to_string().contains(message), "{kind}: {fault}");
    }
}

#[test]
fn changes_are_made_in_order() {
    let text = "time_s,link,bandwidth_bps\n0,a,4\n2,b,1\n6,a,8\n10,a,0\n";
    let edited = |edits: Vec<Edit>| {
        let records = CsvRecords::new(text.as_bytes(), "t", None).expect("a header");
        let edited: Result<Vec<Record>, _> = Edits(edits).apply(Box::new(records)).collect();
        shown(&edited.expect("a good trace"))
    };
    let s = 1_000_000_000;
    for (edits, expected) in [
        (vec![Edit::Select("a".into()), Edit::Scale(0.5)], &["0 a 2", "6 a 4", "10 a 0"][..]),
        (vec![Edit::Select("b".into()), Edit::Rename("c".into()), Edit::Shift(s)], &["3 c 1"]),
        (vec![Edit::Cut { from: 3 * s, to: 10 * s }], &["0 a 4", "3 a 8", "0 b 1"]),
        // 4 for 4 s; 4 for 2 s and 8 for 2 s; 8 for 2 s and then 0.
        (vec![Edit::Select("a".into()), Edit::Resample(4 * s)], &["0 a 4", "4 a 6", "8 a 4"]),
    ] {
        assert_eq!(edited(edits.clone()), expected, "{edits:?}");
    }
}

/// A grid that would have no end is refused, and one that ends with time ends.
#[test]
fn a_grid_is_finite() {
    let grid = |times: &[u64], cell| -> Result<Vec<u64>, _> {
        let at = |at_ns: &u64| Ok(Record { at_ns: *at_ns, name: "a".into(), value: 1.0, latency_s: None });
        let edited = Edits(vec![Edit::Resample(cell)]).apply(Box::new(times.iter().map(at)));
        edited.map(|r| r.map(|r| r.at_ns)).collect()
    };
    let ten_days = 864_000_000_000_000;
    assert_eq!(grid(&[0, ten_days], 1_000_000).expect_err("it is too fine").code, "T0408");
    assert_eq!(grid(&[0, ten_days], ten_days).expect("two cells"), [0, ten_days]);
    let late = 17_000_000_000_000_000_000;
    assert_eq!(grid(&[late + 1, u64::MAX], late).expect("one cell"), [late]);
}

#[test]
fn figures_are_time_weighted() {
    let mut stats = Stats::new(Quantity::Bandwidth);
    for record in
        read("tideplan", "time_s,link,bandwidth_bps\n0,a,10\n30,a,0\n40,a,20\n100,a,20\n").expect("good")
    {
        stats.add(&record);
    }
    let s = &stats.summaries()[0];
    assert_eq!((s.points, s.min, s.max, s.mean), (4, 0.0, 20.0, 15.0));
    assert_eq!((s.zero_share, s.longest_step_s, s.shortest_step_s, s.changes), (0.1, 60.0, 10.0, 2));
    assert!((s.quantiles[1] / 20.0 - 1.0).abs() < 0.02 && s.quantiles[0] == 0.0, "{s:?}");
    assert!(stats.doubts()[0].contains("Gbit/s"), "{:?}", stats.doubts());
}

#[test]
fn made_up_traces_have_the_figures_asked_for_and_depend_on_the_seed_alone() {
    let (day, second) = (86_400_000_000_000, 1_000_000_000);
    let markov = Markov { values: [10.0, 1.0], mean_s: [300.0, 100.0], duration_ns: 30 * day, seed: 7 };
    let mut stats = Stats::new(Quantity::Bandwidth);
    markov.records("a").for_each(|r| stats.add(&r));
    assert!((stats.summaries()[0].mean / 7.75 - 1.0).abs() < 0.05, "{:?}", stats.summaries()[0].mean);

    let model = Ar1 { mean: 100.0, phi: 0.9, noise: 2.0 };
    let values: Vec<f64> = generate_ar1(model, second, day, 1, "a").map(|r| r.value).collect();
    let fitted = fit_ar1(&values).expect("two values");
    assert!((fitted.phi - 0.9).abs() < 0.01 && (fitted.noise - 2.0).abs() < 0.05, "{fitted:?}");

    let failures = Failures { nodes: 100, mtbf_s: 1e6, repair_s: 1e4, duration_ns: 100 * day, seed: 3 };
    let away = failures.records().filter(|r| r.value == 0.0).count() as f64;
    // 100 nodes, 8.64e6 s, one failure in 1.01e6 s each.
    assert!((away / 855.0 - 1.0).abs() < 0.1, "{away}");

    let wave = |seed| {
        let wave = Diurnal {
            mean: 5.0,
            swing: 0.5,
            noise: 0.1,
            peak_h: 4.0,
            step_ns: second,
            duration_ns: day,
            seed,
        };
        wave.records("a").map(|r| r.value).sum::<f64>()
    };
    assert_eq!(wave(1).to_bits(), wave(1).to_bits());
    assert_ne!(wave(1).to_bits(), wave(2).to_bits());
    assert!((wave(1) / 86_400.0 / 5.0 - 1.0).abs() < 0.01);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_makes_an_importer_panic(
        text in "([0-9.,:{}\\[\\]\"a-z_ \n>-]|add|remove|time_s|link|src_region|\\{\"intervals\":){0,60}", kind in 0..KINDS.len(),
    ) {
        let _ = import(&KINDS[kind], &text, "t");
        let _ = read("tideplan", &text);
    }

    /// The mean of a resampled trace is that of the trace, wherever the cells lie.
    #[test]
    fn a_grid_keeps_the_mean(gaps in proptest::collection::vec((1u64..20, 0u32..100), 2..20), step in 1u64..15) {
        let mut at = 0;
        let mut records = Vec::new();
        for &(gap, value) in &gaps {
            at += if records.is_empty() { 0 } else { gap };
            records.push(Record { at_ns: at, name: "a".into(), value: f64::from(value), latency_s: None });
        }
        let exact: f64 = records.windows(2).map(|w| w[0].value * (w[1].at_ns - w[0].at_ns) as f64).sum();
        // The last value holds to the end of its cell.
        let end = at / step * step + step;
        let exact = exact + records[records.len() - 1].value * (end - at) as f64;
        let edited: Vec<Record> = Edits(vec![Edit::Resample(step)])
            .apply(Box::new(records.into_iter().map(Ok)))
            .collect::<Result<_, _>>()
            .expect("good");
        let total: f64 = edited.iter().map(|r| r.value * step as f64).sum();
        prop_assert!((total - exact).abs() < 1e-6 * exact.max(1.0), "{} {}", total, exact);
    }
}
