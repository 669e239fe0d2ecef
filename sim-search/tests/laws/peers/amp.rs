//! AMP: its predicted costs, and with them the rank correlation of what it published.

use super::{data, folder, read};
use sim_search::planners::amp;
use std::collections::BTreeMap;
use std::path::Path;

/// Ranks of values, ties at their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |v: f64| values.iter().filter(|x| **x < v).count() as f64;
    let same = |v: f64| values.iter().filter(|x| **x == v).count() as f64;
    values.iter().map(|v| below(*v) + (same(*v) - 1.0) / 2.0).collect()
}

fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    sum(&a, &b) / (sum(&a, &a) * sum(&b, &b)).sqrt()
}

/// AMP's profile: 30 layers (embedding, nothing, 24 blocks, nothing twice, head, nothing), s a sample forward.
fn amp_layers(root: &Path, gpu: &str, tp: u32) -> Vec<f64> {
    let path = root.join(format!("profiles/amp/src/known_cost/gpt2_{gpu}_{tp}.npy"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect()
}

/// A configuration of AMP's runs: degrees, micro-batch, and where layers are cut.
struct Configuration {
    tp: u32,
    dp: u32,
    pp: u32,
    micro_batch: u32,
    cuts: Vec<usize>,
}

/// Our estimate of it, s: on three nodes of V100 and one of T4, or on four of T4.
fn estimate_s(root: &Path, mixed: bool, of: &Configuration) -> f64 {
    let Configuration { tp, dp, pp, micro_batch: mbs, ref cuts } = *of;
    let (g4, p3) = (amp_layers(root, "G4", tp), amp_layers(root, "P3", tp));
    let mean = |i: usize| if mixed { 0.75 * p3[i] + 0.25 * g4[i] } else { g4[i] };
    let layers: Vec<f64> = (0..30).map(|i| 3.0 * f64::from(mbs) * mean(i)).collect();
    // fp32 elements a second, between nodes and inside one; only the last node of the mixed cluster is a T4's.
    let rate = |a: u32, b: u32| {
        let (a, b) = (a / 4, b / 4);
        let gbps = |node: u32, inside: bool| match (mixed, node, inside) {
            (true, 0..=2, true) => 170.0,
            (true, 0..=2, false) => 10.0,
            _ => 50.0f64,
        };
        (if a == b { gbps(a, true) } else { gbps(a, false).min(gbps(b, false)) }) * 1e9 / 32.0
    };
    let rank = |stage: u32, replica: u32, tensor: u32| tensor + tp * replica + tp * dp * stage;
    let (h, s, v) = (1024.0, 1024.0, 52256.0);
    let send = |stage: u32| {
        let volume =
            f64::from(mbs) * if cuts[stage as usize + 1] > 28 { s * v / f64::from(tp) } else { s * h };
        let slowest = |r: u32| {
            (0..tp).map(|t| rate(rank(stage, r, t), rank(stage + 1, r, t))).fold(f64::INFINITY, f64::min)
        };
        (0..dp).map(|r| volume / slowest(r)).sum::<f64>() / f64::from(dp)
    };
    let sends: Vec<f64> = (0..pp - 1).map(send).collect();
    let sync = |stage: u32| {
        let held = cuts[stage as usize]..cuts[stage as usize + 1];
        let blocks = held.clone().filter(|l| (2..26).contains(l)).count() as f64;
        let ends = held.clone().any(|l| l == 0 || l == 28);
        let elements = (12.0 * h * h * blocks + if ends { h * v } else { 0.0 }) / f64::from(tp);
        let closing = (0..tp).map(|t| rate(rank(stage, dp - 1, t), rank(stage, 0, t)));
        closing
            .map(|rate| 2.0 * (f64::from(dp) - 1.0) / (f64::from(dp) * rate) * elements)
            .fold(0.0, f64::max)
    };
    let syncs: Vec<f64> = (0..pp).map(sync).collect();
    amp::cost::estimate_s(&layers, cuts, &sends, &syncs, 32 / (dp * mbs))
}

/// Cuts as AMP prints them, `0, 15, 30`.
fn numbers(list: &str) -> Vec<usize> {
    list.split(", ").map(|c| c.parse().unwrap()).collect()
}

/// One of its rows: our estimate, its predicted cost, what was measured; s.
type Row = [f64; 3];

/// Ours are its estimates; the rank correlations of both with the measurements.
fn agree(source: &str, rows: &[Row]) -> [f64; 2] {
    let column = |i: usize| rows.iter().map(|r| r[i]).collect::<Vec<f64>>();
    let close = rows.iter().filter(|r| (r[0] / r[1] - 1.0).abs() < 0.01).count();
    assert!(close * 100 >= rows.len() * 95, "{source}: {close} of {}", rows.len());
    let ranks = [spearman(&column(0), &column(2)), spearman(&column(1), &column(2))];
    assert!((ranks[0] - ranks[1]).abs() < 0.05, "{source}: {ranks:?}");
    ranks
}

#[test]
fn amp_ranks_the_measured_rows_as_its_published_estimates_do() {
    let Some(root) = data() else { return };
    let mut reader = csv::Reader::from_path(root.join("runs/runs.csv")).unwrap();
    let headings = reader.headers().unwrap().clone();
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in reader.records().map(|r| r.unwrap()) {
        let cell = |name: &str| row.get(headings.iter().position(|h| h == name).unwrap()).unwrap();
        let source = cell("source").to_string();
        let notes = cell("notes");
        let Some((_, rest)) = notes.split_once("predicted p_cost ").filter(|_| source.starts_with("AMP"))
        else {
            continue;
        };
        let (theirs, rest) = rest.split_once(';').unwrap();
        let number = |name: &str| cell(name).parse::<u32>().unwrap();
        let of = Configuration {
            tp: number("tp"),
            dp: number("dp"),
            pp: number("pp"),
            micro_batch: number("micro_batch"),
            cuts: numbers(rest.trim_start_matches(" partition [").trim_end_matches(']')),
        };
        let ours = estimate_s(&root, source.contains("V100"), &of);
        let measured = cell("iter_time_s").parse().unwrap();
        rows.entry(source).or_default().push([ours, theirs.parse().unwrap(), measured]);
    }
    assert_eq!(rows.len(), 2);
    for (source, rows) in rows {
        agree(&source, &rows);
    }
}

/// The published results hold more runs than the table of measurements does: all that ended, from the files themselves.
#[test]
fn amp_has_the_rank_correlation_of_what_it_published() {
    let (Some(root), Some(results)) = (data(), folder("TIDEPLAN_AMP_RESULTS")) else { return };
    for (file, mixed, runs, published) in
        [("homogeneous_results.txt", false, 47, 0.93), ("het_cluster_results.txt", true, 43, 0.40)]
    {
        let text = read(&results.join(file));
        let mut rows = Vec::new();
        for part in text.split("Simulating result: ").skip(1) {
            let line = part.lines().next().unwrap();
            let after = |key: &str, end: char| {
                let rest = line.split_once(key).unwrap_or_else(|| panic!("{file}: no `{key}`: {line}")).1;
                rest.split(end).next().unwrap().trim().to_string()
            };
            // A run that failed took for ever.
            let measured: f64 = after("r_cost: ", ' ').parse().unwrap();
            if !measured.is_finite() {
                continue;
            }
            let degree = |key: &str| after(key, ']').parse::<f64>().unwrap() as u32;
            let of = Configuration {
                tp: degree("'mp_deg': tensor(["),
                dp: degree("'dp_deg': tensor(["),
                pp: degree("'pp_deg': tensor(["),
                micro_batch: after("], ", ',').parse().unwrap(),
                cuts: numbers(&after("[", ']')),
            };
            let theirs = after("p_cost: tensor([", ']').parse().unwrap();
            rows.push([estimate_s(&root, mixed, &of), theirs, measured]);
        }
        assert_eq!(rows.len(), runs, "{file}");
        let ranks = agree(file, &rows);
        assert!((ranks[0] - published).abs() < 0.05, "{file}: {ranks:?}");
        println!("{file}: ours {:.3}, theirs {:.3}", ranks[0], ranks[1]);
    }
}
