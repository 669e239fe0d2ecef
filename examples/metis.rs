//! Metis's cases under Metis's own formula: its best valid plan, and the best there is.
//!
//! ```text
//! cargo run --release --example metis -- FOLDER
//! ```
//!
//! `FOLDER` holds a folder for each case with `hostfile`, `clusterfile.json` and outputs `ranked_gbsBATCH_*.txt`, and folders
//! `profile_KIND_KIND...` of profiles. Printed is a Markdown table.

#![allow(clippy::print_stdout, reason = "an example prints")]
// It says how long the search takes; the libraries may not look at a clock.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use sim_search::planners::metis::best::{Asked, best};
use sim_search::planners::metis::cost::{MetisPlan, estimate_ms};
use sim_search::planners::metis::files;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Sizes of the model of the cases, which Metis takes from its command line.
const SIZES: files::Sizes = files::Sizes { hidden: 4096, sequence: 1024, vocabulary: 51200 };

/// The profile whose model-wide figures Metis read first.
const FIRST: &str = "DeviceType.A100_tp2_bs2.json";

fn main() -> ExitCode {
    let Some(root) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: metis FOLDER");
        return ExitCode::from(2);
    };
    match table(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn table(root: &Path) -> Result<(), String> {
    println!(
        "| case | GPUs | batch | ranked as best, ms | of its formula, ms | ours, ms | less by | s | our plan |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for case in folders(root)?.iter().filter(|f| f.join("clusterfile.json").exists()) {
        let (host, info) = (read(&case.join("hostfile"))?, read(&case.join("clusterfile.json"))?);
        let cluster = files::cluster(("hostfile", &host), ("clusterfile.json", &info))
            .map_err(|e| format!("{}: {e}", case.display()))?;
        let mut kinds: Vec<&str> = cluster.kinds.iter().map(|k| k.name.as_str()).collect();
        kinds.sort_unstable();
        let of_kinds = |folder: &&PathBuf| {
            let name = name(folder);
            let mut parts: Vec<&str> = name.split('_').skip(1).collect();
            parts.sort_unstable();
            name.starts_with("profile_") && parts == kinds
        };
        let all = folders(root)?;
        let folder = all.iter().find(of_kinds).ok_or(format!("no profiles of {}", kinds.join(", ")))?;
        let mut texts = Vec::new();
        for file in list(folder)? {
            texts.push((name(&file), read(&file)?));
        }
        let texts: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let profile = files::profile(&texts, Some(FIRST), &cluster, SIZES).map_err(|e| e.to_string())?;
        for file in list(case)?.iter().filter(|f| name(f).starts_with("ranked_gbs")) {
            let output = name(file);
            let batch = output["ranked_gbs".len()..].split('_').next().and_then(|b| b.parse::<u32>().ok());
            let global_batch = batch.ok_or(format!("{output}: no batch in its name"))?;
            let ranked = files::ranked(&output, &read(file)?, &cluster).map_err(|e| e.to_string())?;
            let valid = || ranked.iter().filter(|r| r.plan.is_valid(profile.layers()));
            let said = valid().map(|r| r.cost_ms).fold(f64::INFINITY, f64::min);
            let formula = |r: &files::RankedPlan| estimate_ms(&profile, &cluster, &r.plan, global_batch);
            let theirs = valid().filter_map(formula).fold(f64::INFINITY, f64::min);
            let start = Instant::now();
            let asked = Asked { global_batch, most_stages: usize::MAX, as_pipelines: false };
            let found = best(&profile, &cluster, asked, &mut || true);
            let seconds = start.elapsed().as_secs_f64();
            let Some((ms, plan)) = found.first() else { return Err(format!("{output}: no plan")) };
            println!(
                "| `{}` {} | {} | {global_batch} | {said:.2} | {theirs:.2} | {ms:.2} | {:.1} % | {seconds:.2} | {} |",
                name(case),
                output.trim_end_matches(".txt").splitn(3, '_').nth(2).unwrap_or(""),
                cluster.devices(),
                100.0 * (1.0 - ms / theirs),
                words(plan, &cluster.kinds.iter().map(|k| k.name.as_str()).collect::<Vec<_>>()),
            );
        }
    }
    Ok(())
}

/// `T4,A100 [8,8] (8,1)(8,1), 16, [0,2,10]`.
fn words(plan: &MetisPlan, kinds: &[&str]) -> String {
    let sequence: Vec<&str> = plan.sequence.iter().map(|k| kinds[*k]).collect();
    let strategies: String = plan.strategies.iter().map(|(dp, tp)| format!("({dp},{tp})")).collect();
    format!("{} {:?} {strategies}, {}, {:?}", sequence.join(","), plan.groups, plan.batches, plan.cuts)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// What a folder holds, by name.
fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

fn folders(root: &Path) -> Result<Vec<PathBuf>, String> {
    Ok(list(root)?.into_iter().filter(|p| p.is_dir()).collect())
}
