//! Sailor: its estimates of its plans, and ours at least as fast on its clusters.

use super::{data, read};
use sim_models::iteration::{Options as Simulated, simulate};
use sim_search::exchange::sailor_cases;
use sim_search::planners::sailor;
use sim_search::{Options, search};
use std::path::PathBuf;

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

/// Clusters that take seconds each, on which `TIDEPLAN_LARGE=1` compares too.
const LARGE: [&str; 5] = ["het_A80_V240", "het_A128_V384", "zone2gpu2_32", "zone2gpu2_64", "zone2gpu2_128"];

#[test]
fn ours_is_at_least_as_fast_as_sailors_plan_on_its_clusters() {
    let Some(root) = data() else { return };
    let large = std::env::var_os("TIDEPLAN_LARGE").is_some();
    for (name, case) in sailor_cases(&read(&root.join("peers/sailor/plans.json"))).unwrap() {
        if LARGE.contains(&name.as_str()) && !large {
            eprintln!("skipped: {name}, without TIDEPLAN_LARGE");
            continue;
        }
        let text = case.scenario().unwrap();
        let overrides = scenarios::Overrides::default();
        let scenario = scenarios::load_text(&text, &name, None, &overrides).unwrap().scenario;
        let plans = case.plan.plans(&scenario).unwrap_or_else(|e| panic!("{name}: {e}: {}", e.help));
        let simulated = |plan| simulate(&scenario, plan, &Simulated::default()).unwrap().time.as_ps();
        let theirs = plans.iter().map(simulated).min().unwrap();
        let max_simulations = scenario.search.max_simulations;
        let found =
            search(&scenario, &Options { threads: 2, max_simulations, ..Options::default() }, &mut |_| None);
        let ours = found.ranked[0].time_ps;
        assert!(ours <= theirs, "{name}: {ours} ps against {theirs} of Sailor's plan");
    }
}

#[test]
fn an_answer_that_is_no_plan_is_refused() {
    let good = r#"{"c": {"gpus": {"A100-40_us-central1-a": 8}, "planner_iteration_s": 1.0, "simulator_iteration_s": 1.0,
        "plan": {"mbs": 2, "stages": [26], "dp": [4], "stage_types": [[["A100-40", 2]]], "used": {"A100-40": 8}}}}"#;
    let overrides = scenarios::Overrides::default();
    let text = sailor_cases(good).unwrap()["c"].scenario().unwrap();
    let scenario = scenarios::load_text(&text, "c", None, &overrides).unwrap().scenario;
    assert_eq!(sailor_cases(good).unwrap()["c"].plan.plans(&scenario).unwrap().len(), 1);
    for (from, to, problem) in [
        ("[26]", "[25]", "do not hold 26 layers"),
        ("[26]", "[26, 0]", "differ in length"),
        ("[4]", "[400000]", "more than GPUs"),
        ("\"mbs\": 2", "\"mbs\": 0", "`mbs` is 0"),
        ("[[\"A100-40\", 2]]", "[[\"A100-40\", 4]]", "too few GPUs"),
        ("[[\"A100-40\", 2]]", "[[\"H100\", 2]]", "too few GPUs"),
        ("[[\"A100-40\", 2]]", "[]", "which replicas are of which kind"),
        ("\"A100-40\": 8", "\"A100-40\": 2", ""),
    ] {
        let spoilt = good.replace(from, to);
        assert_ne!(spoilt, good, "{from}");
        let answer = sailor_cases(&spoilt).unwrap()["c"].plan.plans(&scenario);
        match answer {
            Err(refusal) => assert!(refusal.problem.contains(problem), "{to}: {refusal}"),
            Ok(_) => assert!(problem.is_empty(), "{to}"),
        }
    }
    assert!(sailor_cases("{\"c\": 3}").is_err());
}
