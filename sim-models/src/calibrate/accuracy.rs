//! The cost model against measurements: the figures of `docs/cost-model.md`. Reads the data folder that the environment
//! variable `TIDEPLAN_DATA` names, and skips without it.

use super::report::median;
use super::*;
use crate::device::catalogue::Catalogue;
use crate::device::{Format, LayerQuery, LayerTable, Operator, Roofline};
use crate::import::{Context, Kind, ModelSizes, OperatorPoint, read};
use crate::workload::Model;
use std::path::PathBuf;

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("TIDEPLAN_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: TIDEPLAN_DATA is not set");
    }
    folder
}

fn tokens(p: &OperatorPoint) -> u64 {
    match p.op {
        Operator::Gemm { m, .. } => m,
        _ => u64::MAX,
    }
}

const FITTED_ON: [&str; 2] = ["meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-70b-hf"];
const HELD_OUT: [&str; 6] = [
    "codellama/CodeLlama-34b-Instruct-hf",
    "internlm/internlm-20b",
    "Qwen/Qwen-72B",
    "microsoft/phi-2",
    "meta-llama/Meta-Llama-3-8B",
    "meta-llama/Meta-Llama-3-70B",
];

/// vidur's operators of some models at 1,024 tokens and more; models that a GPU lacks are left out.
fn vidur(data: &std::path::Path, gpu: &str, models: &[&str]) -> Vec<OperatorPoint> {
    let load = |model: &&str| -> Vec<OperatorPoint> {
        let folder = data.join("profiles/vidur/data/profiling/compute").join(gpu.to_lowercase());
        let file = folder.join(model).join("mlp.csv");
        let Ok(text) = std::fs::read_to_string(&file) else { return Vec::new() };
        // Rows of few tokens are dropped as text: an operator of memory alone does not say its tokens.
        let column = text.lines().next().unwrap().split(',').position(|c| c == "num_tokens").unwrap();
        let keep = |l: &&str| l.split(',').nth(column).unwrap().parse::<u64>().is_ok_and(|t| t >= 1024);
        let rows: Vec<&str> = text.lines().take(1).chain(text.lines().skip(1).filter(keep)).collect();
        let context = Context { file: file.display().to_string(), ..Context::default() };
        read(Kind::Vidur, rows.join("\n").as_bytes(), &context).unwrap().operators
    };
    models.iter().flat_map(load).collect()
}

fn catalogue(gpu: &str) -> Roofline {
    Roofline::from_catalogue(Catalogue::builtin().find(gpu).unwrap())
}

/// Median of |predicted / measured - 1|.
fn share<'a>(r: &Roofline, points: impl Iterator<Item = &'a OperatorPoint>) -> f64 {
    median(points.map(|p| (libm::exp(operator_error(r, p)) - 1.0).abs()).collect())
}

/// Fitted on two models, held against the others, at 1,024 tokens and more.
#[test]
fn vidur_operators() {
    let Some(data) = data() else { return };
    for gpu in ["A100", "H100", "A40"] {
        let start = catalogue(gpu);
        let fit = operators(&start, &vidur(&data, gpu, &FITTED_ON));
        let test = vidur(&data, gpu, &HELD_OUT);
        let gemms = || test.iter().filter(|p| tokens(p) < u64::MAX);
        let error = share(&fit.roofline, test.iter());
        let (fitted, alone) = (share(&fit.roofline, gemms()), share(&start, gemms()));
        println!(
            "vidur {gpu}: {} operators held out: median {error:.4}, products {fitted:.4}, from the catalogue alone {alone:.4}",
            test.len()
        );
        for name in ["emb", "input_layernorm", "attn_rope", "mlp_act", "add"] {
            println!("    {name}: {:.4}", share(&fit.roofline, test.iter().filter(|p| p.name == name)));
        }
        assert!(error < 0.06, "{gpu}: {error}");
    }
}

/// Draws the plots of `docs/cost-model.md`: `TIDEPLAN_DRAW=1 cargo test -p sim-models --lib draw_plots`.
#[test]
fn draw_plots() {
    if std::env::var_os("TIDEPLAN_DRAW").is_none() {
        println!("skipped: set TIDEPLAN_DRAW to redraw docs/img");
        return;
    }
    let Some(data) = data() else { return };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/img");
    std::fs::create_dir_all(&folder).unwrap();
    let mut of_operators = Vec::new();
    for gpu in ["A100", "H100", "A40"] {
        let fit = operators(&catalogue(gpu), &vidur(&data, gpu, &FITTED_ON));
        for p in vidur(&data, gpu, &HELD_OUT) {
            of_operators.push((gpu.to_owned(), p.seconds, fit.roofline.operator_s(&p.op, p.format)));
        }
    }
    let title = "vidur operators of models that were not fitted on: predicted / measured";
    std::fs::write(folder.join("operators.svg"), scatter_svg(title, &of_operators)).unwrap();
    let mut of_layers = Vec::new();
    for (name, gpu) in LayerTable::shipped_names() {
        let roofline = catalogue(gpu);
        for t in times(name, gpu) {
            let [forward, backward] = layer_errors(&roofline, &t);
            for (measured, error) in [(t.forward_s, forward), (t.backward_s, backward)] {
                of_layers.push((gpu.to_uppercase(), measured, measured * libm::exp(error)));
            }
        }
    }
    let title = "Sailor layers, forward and backward, from the catalogue alone: predicted / measured";
    std::fs::write(folder.join("layers.svg"), scatter_svg(title, &of_layers)).unwrap();
}

fn model(name: &str) -> Model {
    let (blocks, hidden, heads, vocab) =
        if name == "opt-350m" { (24, 1024, 16, 50272) } else { (32, 2560, 20, 50257) };
    Model { tied_embeddings: false, ..Model::gpt(name, blocks, hidden, heads, 2048, vocab) }
}

/// One ring all-reduce as the catalogue has it: NVLink at six tenths of its rate, a card without one through the host
/// at a third of PCIe 3.0's.
fn sync_s(roofline: &Roofline, bytes: f64, tp: u32) -> f64 {
    let gpu = &roofline.gpu;
    let rate = match gpu.nvlink {
        Some(rate) if gpu.form != "pcie" => 0.6 * rate,
        _ => 5.2e9,
    };
    if tp == 1 { 0.0 } else { 20e-6 + 2.0 * f64::from(tp - 1) / f64::from(tp) * bytes / rate }
}

/// Blocks of a shipped table.
fn times(name: &str, gpu: &str) -> Vec<LayerTime> {
    let (model, table) = (model(name), LayerTable::shipped(name, gpu).unwrap());
    let roofline = Roofline::from_catalogue(Catalogue::builtin().find(gpu).unwrap());
    let block = |(b, tp)| {
        let cost = table.cost(b, tp, 2, 2).unwrap();
        let query = LayerQuery::of(&model, 2, b, tp, Format::Fp32);
        let bytes = f64::from(b) * 2048.0 * model.hidden as f64 * 4.0;
        LayerTime {
            name: format!("{name} tp{tp}"),
            query,
            forward_s: cost.forward.as_secs_f64(),
            backward_s: cost.backward.as_secs_f64(),
            sync_s: sync_s(&roofline, bytes, tp),
        }
    };
    table.configurations().map(block).collect()
}

/// |predicted / measured - 1| of forward and backward together.
fn off(roofline: &Roofline, t: &LayerTime) -> f64 {
    let e = crate::device::DeviceModel::layer(roofline, &t.query);
    let predicted = e.forward.seconds(t.sync_s) + e.backward.seconds(t.sync_s);
    (predicted / (t.forward_s + t.backward_s) - 1.0).abs()
}

#[test]
fn sailor_layers() {
    let names: Vec<(&str, &str)> = LayerTable::shipped_names().collect();
    let (mut alone, mut alone_one, mut carried) = (Vec::new(), Vec::new(), Vec::new());
    for (name, gpu) in &names {
        let gpu_entry = Catalogue::builtin().find(gpu).unwrap();
        let start = Roofline::from_catalogue(gpu_entry);
        let list = times(name, gpu);
        let here: Vec<f64> = list.iter().map(|t| off(&start, t)).collect();
        let one: Vec<f64> = list.iter().filter(|t| t.query.tp == 1).map(|t| off(&start, t)).collect();
        println!(
            "sailor {name} {gpu}: from the catalogue {:.3} (TP 1 {:.3})",
            median(here.clone()),
            median(one.clone())
        );
        alone.extend(here);
        alone_one.extend(one);
        // Fitted on OPT, held against GPT-Neo, and the other way.
        let other = if *name == "opt-350m" { "gpt-neo-2.7b" } else { "opt-350m" };
        if names.contains(&(other, gpu)) {
            let fit = layers(&start, &times(other, gpu));
            let there: Vec<f64> = list.iter().map(|t| off(&fit.roofline, t)).collect();
            println!("    calibrated on {other}: {:.3}", median(there.clone()));
            carried.extend(there);
        }
    }
    let (alone, alone_one, carried) = (median(alone), median(alone_one), median(carried));
    println!(
        "sailor: catalogue alone {alone:.4} (TP 1 {alone_one:.4}), calibrated on the other model {carried:.4}"
    );
    assert!(alone < 0.20 && carried < 0.10, "{alone} {carried}");
}

/// Products and flash attention, from the catalogue alone.
#[test]
fn simumax_operators() {
    let Some(data) = data() else { return };
    for (file, gpu, limits) in [
        ("b200_bf16_ceperm", "B200", [0.08, 0.12, 0.20, 0.30]),
        ("a100_pcie", "A100-80-PCIe", [0.06, 0.12, 0.12, 0.10]),
    ] {
        let path = data.join(format!("profiles/simumax/configs/system/{file}.json"));
        let context = Context { file: file.into(), ..Context::default() };
        let points = read(Kind::SimuMax, &std::fs::read(path).unwrap(), &context).unwrap().operators;
        let start = Roofline::from_catalogue(Catalogue::builtin().find(gpu).unwrap());
        for (name, limit) in ["matmul", "sdp_fwd", "sdp_bwd", "group_matmul"].into_iter().zip(limits) {
            let of = points.iter().filter(|p| p.name == name);
            let error = median(of.map(|p| (libm::exp(operator_error(&start, p)) - 1.0).abs()).collect());
            println!("simumax {gpu} {name}: from the catalogue {error:.3}");
            assert!(error < limit, "{gpu} {name}: {error}");
        }
    }
}

/// Cards that lent nothing to the constants (RTX-PRO-6000) or only a choice of neighbour (RTX-4090), at 1,024 tokens and
/// more, from the catalogue alone. One model that the file's name gives.
#[test]
fn llm_serving_sim_operators() {
    let Some(data) = data() else { return };
    for (folder, gpu, limit) in [("RTX4090", "RTX-4090", 0.10), ("RTXPRO6000", "RTX-PRO-6000", 0.25)] {
        let file = data.join(format!(
            "profiles/llmservingsim/profiler/perf/{folder}/meta-llama/Llama-3.1-8B/bf16/tp1/dense.csv"
        ));
        let sizes = ModelSizes { hidden: 4096, heads: 32, kv_heads: 8, head_width: 128, ffn_hidden: 14336 };
        let context = Context { file: file.display().to_string(), sizes: Some(sizes), ..Context::default() };
        let points = read(Kind::LlmServingSim, &std::fs::read(&file).unwrap(), &context).unwrap().operators;
        let roofline = Roofline::from_catalogue(Catalogue::builtin().find(gpu).unwrap());
        let large = points.iter().filter(|p| (1024..u64::MAX).contains(&tokens(p)));
        let error = median(large.map(|p| (libm::exp(operator_error(&roofline, p)) - 1.0).abs()).collect());
        println!("llmservingsim {gpu}: products from the catalogue {error:.3}");
        assert!(error < limit, "{gpu}: {error}");
    }
}

/// Every profile of the data folder reads.
#[test]
fn every_profile_reads() {
    let Some(data) = data() else { return };
    let mut read_files = 0;
    let mut folders = vec![data.join("profiles")];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = path.strip_prefix(&data).unwrap().display().to_string();
            let kind = match file.as_str() {
                f if f.contains("sailor_planner/profiles") => Kind::Sailor,
                f if f.contains("/Varuna/") => Kind::Varuna,
                f if f.contains("Metis/profiles") || f.contains("metis/profile_data") => Kind::Metis,
                f if f.ends_with(".npy") => Kind::Amp,
                f if f.contains("computation_profiling") || f.ends_with("compute_profile.json") => {
                    Kind::Galvatron
                }
                f if f.ends_with("mlp.csv") => Kind::Vidur,
                f if f.ends_with("dense.csv") => Kind::LlmServingSim,
                f if f.contains("simumax/configs/system") => Kind::SimuMax,
                _ => continue,
            };
            let sizes =
                ModelSizes { hidden: 4096, heads: 32, kv_heads: 8, head_width: 128, ffn_hidden: 14336 };
            let context = Context { file, sizes: Some(sizes), ..Context::default() };
            match read(kind, &std::fs::read(&path).unwrap(), &context) {
                Ok(profile) => assert!(!profile.operators.is_empty() || !profile.layers.is_empty()),
                // One batch of one depth: nothing to be said of a layer.
                Err(e) => assert!(kind == Kind::Galvatron && e.what.contains("no measurement"), "{e}"),
            }
            read_files += 1;
        }
    }
    println!("{read_files} profiles read");
    assert!(read_files > 150, "{read_files}");
}

#[test]
fn a_device_file_comes_back_as_it_was() {
    let start = Roofline::from_catalogue(Catalogue::builtin().find("A100").unwrap());
    let point = |m, seconds| OperatorPoint {
        name: "x".into(),
        op: Operator::gemm(m, 4096, 4096),
        format: Format::Fp16,
        seconds,
    };
    let fit = operators(&start, &[point(4096, 7e-4), point(8192, 1.4e-3)]);
    let file = DeviceFile::new(&fit.roofline, "two products");
    let text = file.to_toml(&fit.parameters).unwrap();
    assert_eq!(DeviceFile::from_toml(&text).unwrap(), file, "{text}");
    assert_eq!(file.roofline(Catalogue::builtin()).unwrap(), fit.roofline);
    for (from, to, part) in [
        ("\nmatmul = ", "\nmatmul = -", "device.matmul"),
        ("launch_s = ", "launch_s = nan #", "launch_s"),
        ("gpu = \"A100-80\"", "gpu = \"A200\"", "nearest"),
        ("\nsource", "\nsauce", "sauce"),
    ] {
        let read = DeviceFile::from_toml(&text.replacen(from, to, 1));
        let error = match read {
            Ok(file) => file.roofline(Catalogue::builtin()).unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains(part), "{to}: {error}");
    }
}
