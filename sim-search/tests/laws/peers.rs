//! Re-implemented planners against what the published ones answered. The inputs are not ours to ship: they are read under
//! `TIDEPLAN_DATA`, and without it the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sim_search::planners::amp;
use sim_search::planners::metis::{cost, files, space, tables};
use sim_search::planners::sailor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn data() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("TIDEPLAN_DATA") else {
        eprintln!("skipped: TIDEPLAN_DATA is not set");
        return None;
    };
    Some(root.into())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Global batch, variance and merged groups of each output.
type Outputs = &'static [(u32, f64, usize)];

/// (case, its profile, its outputs)
const METIS: [(&str, &str, Outputs); 9] = [
    ("het2_8", "profile_A100_T4", &[(128, 1.0, 6)]),
    ("het2_16", "profile_A100_T4", &[(128, 1.0, 6), (128, 0.0, 10)]),
    ("het2_16b", "profile_A100_T4", &[(128, 1.0, 6)]),
    ("het2_32", "profile_A100_T4", &[(128, 1.0, 6)]),
    ("het2_64", "profile_A100_T4", &[(256, 1.0, 6)]),
    ("het2_128", "profile_A100_T4", &[(512, 1.0, 6)]),
    ("het3_16", "profile_A100_V100_T4", &[(128, 1.0, 6), (128, 0.0, 6)]),
    ("het3_32", "profile_A100_V100_T4", &[(128, 1.0, 6)]),
    ("het3_64", "profile_A100_V100_T4", &[(256, 1.0, 6)]),
];

#[test]
fn metis_gives_its_ranked_plans_the_costs_that_it_gave() {
    let Some(root) = data() else { return };
    let root = root.join("peers/metis");
    for (case, profile, outputs) in METIS {
        let (host, info) =
            (read(&root.join(case).join("hostfile")), read(&root.join(case).join("clusterfile.json")));
        let cluster = files::cluster(("hostfile", &host), ("clusterfile.json", &info)).unwrap();
        let mut names: Vec<(String, String)> = std::fs::read_dir(root.join(profile))
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), read(&e.path())))
            .collect();
        names.sort();
        let list: Vec<(&str, &str)> = names.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let sizes = files::Sizes { hidden: 4096, sequence: 1024, vocabulary: 51200 };
        let first = Some("DeviceType.A100_tp2_bs2.json");
        let profile = files::profile(&list, first, &cluster, sizes).unwrap();
        for (batch, variance, permuted) in outputs.iter().copied() {
            let v0 = if variance == 0.0 { "_v0" } else { "" };
            let name = format!("ranked_gbs{batch}_k{permuted}{v0}.txt");
            let text = read(&root.join(case).join(&name));
            let ranked = files::ranked(&name, &text, &cluster).unwrap();
            let reach = space::Reach {
                variance,
                most_permuted: permuted,
                most_costed: usize::MAX,
                most_stages: usize::MAX,
                as_published: true,
            };
            let found = in_its_order(&profile, &cluster, batch, reach, &ranked);
            let count: usize =
                text.lines().next().unwrap().trim_start_matches("len(costs): ").parse().unwrap();
            assert_eq!(found.len(), count, "{case} {name}: plans costed");
            let valid: Vec<_> = ranked.iter().filter(|r| r.plan.is_valid(profile.layers())).collect();
            let same = valid.iter().filter(|r| holds(&found, r)).count();
            let all = ranked.iter().filter(|r| holds(&found, r)).count();
            assert_eq!(all, ranked.len(), "{case} {name}: also those that are no plans");
            assert!(same * 100 >= valid.len() * 95, "{case} {name}: {same} of {}", valid.len());
        }
    }
}

/// Whether that plan is among those found, at its cost to 0.1 %.
fn holds(found: &[(f64, cost::MetisPlan)], ranked: &files::RankedPlan) -> bool {
    found.iter().any(|(ms, plan)| (ms / ranked.cost_ms - 1.0).abs() < 1e-3 && *plan == ranked.plan)
}

/// The published search takes its kinds from a Python set, so their order differs from run to run: the one that gives most of
/// what was ranked.
fn in_its_order(
    profile: &tables::Profile,
    cluster: &tables::Cluster,
    batch: u32,
    reach: space::Reach,
    ranked: &[files::RankedPlan],
) -> Vec<(f64, cost::MetisPlan)> {
    let search = |order: &Vec<usize>| space::search_from(profile, cluster, order, batch, reach, &mut || true);
    let orders = space::permutations(&(0..cluster.kinds.len()).collect::<Vec<_>>());
    let fit = |found: &Vec<(f64, cost::MetisPlan)>| ranked.iter().filter(|r| holds(found, r)).count();
    orders.iter().map(search).max_by_key(fit).unwrap()
}

/// Sailor's own inputs, read in place.
struct SailorData {
    profiles: serde_json::Value,
    info: serde_json::Value,
    curves: serde_json::Value,
}

impl SailorData {
    /// Seconds for `bytes` from (zone, GPU, count) to another, and the best rate measured, B/s.
    fn send(&self, a: (&str, &str, u64), b: (&str, &str, u64), bytes: f64) -> (f64, f64) {
        let curve = &self.curves[a.0][a.1][a.2.to_string()][b.0][b.1][b.2.to_string()];
        let c: Vec<f64> = curve[0].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let l = libm::log2(bytes / 1e6);
        let rate = c.iter().fold(0.0, |sum, c| sum * l + c);
        (bytes / 1e9 / rate, curve[1].as_f64().unwrap())
    }

    fn layer(&self, gpu: &str, mbs: u64, tp: u64, layer: u64) -> [f64; 3] {
        let times = &self.profiles[gpu][mbs.to_string()][tp.to_string()][layer.to_string()];
        [0, 1, 2].map(|i| times[i].as_f64().unwrap())
    }

    fn terms(&self, plan: &serde_json::Value) -> (Vec<sailor::cost::StageTerms>, u32) {
        let zone = "us-central1-a";
        let (mbs, dp) = (plan["mbs"].as_u64().unwrap(), plan["dp"][0].as_u64().unwrap());
        let types = |s: usize| -> Vec<(String, u64)> {
            let list = plan["stage_types"][s].as_array().unwrap();
            list.iter().map(|t| (t[0].as_str().unwrap().to_string(), t[1].as_u64().unwrap())).collect()
        };
        let layers: Vec<u64> =
            plan["stages"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap()).collect();
        let (mut stages, mut first) = (Vec::new(), 0);
        for (s, count) in layers.iter().enumerate() {
            let mut terms = sailor::cost::StageTerms::default();
            let bytes: f64 = (first..first + count)
                .map(|l| self.info["1"][l.to_string()]["params_floats"].as_f64().unwrap() * 4.0)
                .sum();
            let mut slowest = f64::INFINITY;
            for (gpu, tp) in types(s) {
                let step: f64 =
                    (first..first + count).map(|l| self.layer(&gpu, mbs, tp, l)).map(|t| t[0] + t[1]).sum();
                terms.step_s = terms.step_s.max(step);
                let update = (0..26).map(|l| self.layer(&gpu, mbs, tp, l)[2]).fold(0.0, f64::max);
                terms.update_s = terms.update_s.max(update * *count as f64);
                let end = (zone, gpu.as_str(), tp);
                let best = self.send(end, end, 1e6).1;
                if best < slowest {
                    slowest = best;
                    terms.sync_s = sailor::cost::sync_s(bytes, dp as u32, &|b| self.send(end, end, b).0);
                }
                if s + 1 < layers.len() {
                    let activation = self.info["1"][(first + count - 1).to_string()]["act_output_floats"]
                        .as_f64()
                        .unwrap();
                    for (to, to_tp) in types(s + 1) {
                        let time =
                            self.send(end, (zone, to.as_str(), to_tp), activation * 4.0 * mbs as f64).0;
                        terms.send_s = terms.send_s.max(time);
                    }
                }
            }
            stages.push(terms);
            first += count;
        }
        (stages, 1024u64.div_ceil(mbs * dp) as u32)
    }
}

#[test]
fn sailor_estimates_its_plans_as_its_planner_does() {
    let Some(root) = data() else { return };
    let root = root.join("profiles/sailor/sailor");
    let json = |path: PathBuf| -> serde_json::Value { serde_json::from_str(&read(&path)).unwrap() };
    let mut profiles = serde_json::Map::new();
    for gpu in ["A100-40", "V100-16"] {
        profiles.insert(
            gpu.into(),
            json(root.join(format!("Planner/sailor_planner/profiles/OPT-350/{gpu}/profile.json"))),
        );
    }
    let data_of = SailorData {
        profiles: profiles.into(),
        info: json(root.join("Planner/llm_info.json"))["OPT-350"].clone(),
        curves: json(root.join("providers/multizone_bandwidths_het.json")),
    };
    let plans = json(data().unwrap().join("peers/sailor/plans.json"));
    for (case, answer) in plans.as_object().unwrap() {
        let (stages, micro_batches) = data_of.terms(&answer["plan"]);
        let ours = sailor::cost::estimate_s(&stages, micro_batches);
        let theirs = answer["planner_iteration_s"].as_f64().unwrap();
        assert!((ours / theirs - 1.0).abs() < 0.03, "{case}: {ours} against {theirs}");
    }
}

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

#[test]
fn amp_ranks_the_measured_rows_as_its_published_estimates_do() {
    let Some(root) = data() else { return };
    let mut reader = csv::Reader::from_path(root.join("runs/runs.csv")).unwrap();
    let headings = reader.headers().unwrap().clone();
    let mut rows: BTreeMap<String, Vec<[f64; 3]>> = BTreeMap::new();
    for row in reader.records().map(|r| r.unwrap()) {
        let cell = |name: &str| row.get(headings.iter().position(|h| h == name).unwrap()).unwrap();
        let source = cell("source").to_string();
        let notes = cell("notes");
        let Some((_, rest)) = notes.split_once("predicted p_cost ").filter(|_| source.starts_with("AMP"))
        else {
            continue;
        };
        let (theirs, rest) = rest.split_once(';').unwrap();
        let cuts: Vec<usize> = rest
            .trim_start_matches(" partition [")
            .trim_end_matches(']')
            .split(", ")
            .map(|c| c.parse().unwrap())
            .collect();
        let number = |name: &str| cell(name).parse::<u32>().unwrap();
        let (tp, dp, pp, mbs) = (number("tp"), number("dp"), number("pp"), number("micro_batch"));
        let mixed = source.contains("V100");
        let (g4, p3) = (amp_layers(&root, "G4", tp), amp_layers(&root, "P3", tp));
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
        let ours = amp::cost::estimate_s(&layers, &cuts, &sends, &syncs, 32 / (dp * mbs));
        rows.entry(source).or_default().push([
            ours,
            theirs.parse().unwrap(),
            cell("iter_time_s").parse().unwrap(),
        ]);
    }
    assert_eq!(rows.len(), 2);
    for (source, rows) in rows {
        let column = |i: usize| rows.iter().map(|r| r[i]).collect::<Vec<f64>>();
        let close = rows.iter().filter(|r| (r[0] / r[1] - 1.0).abs() < 0.01).count();
        let (ours, theirs) = (spearman(&column(0), &column(2)), spearman(&column(1), &column(2)));
        assert!((ours - theirs).abs() < 0.05, "{source}: {ours} against {theirs}");
        assert!(close * 100 >= rows.len() * 95);
    }
}
