//! Fits a fabric to measured collectives: logs of nccl-tests, records of NCCL's Inspector, or a CSV as `validate` takes it.

use super::{print, print_json};
use crate::cli::Calibrate;
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::report::table::Table;
use crate::{read, write};
use serde_json::json;
use sim_models::calibrate::{FabricFit, Fitted, fabric, scatter_svg};
use sim_models::collective::fit::Sample;
use sim_models::device::Gpu;
use sim_models::import::{Context, nccl};
use std::collections::BTreeMap;
use std::path::Path;
use validation::collectives;

/// The kinds of file that hold collectives.
pub(super) const KINDS: [&str; 3] = ["collectives", "nccl-tests", "nccl-inspector"];

/// The kind of a file of collectives, as given or as its name says.
pub(super) fn kind_of(args: &Calibrate, path: &Path) -> Option<&'static str> {
    if let Some(kind) = &args.kind {
        return KINDS.into_iter().find(|k| k == kind);
    }
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    match () {
        () if name.contains("collective") && name.ends_with(".csv") => Some(KINDS[0]),
        () if name.ends_with(".log") => Some(KINDS[1]),
        () => None,
    }
}

pub(super) fn run(args: &Calibrate, gpu: &'static Gpu) -> Result<Answer, Failure> {
    let mut rows = Vec::new();
    for path in &args.profiles {
        let kind = kind_of(args, path).ok_or_else(|| {
            Failure::new(
                format!("`{}` holds no collectives, and others of the files do", path.display()),
                "a fabric and a device are fitted by a command each",
            )
        })?;
        rows.extend(rows_of(args, gpu, path, kind)?);
    }
    let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
    let mut others = 0usize;
    let mut samples: Vec<&Sample> = Vec::new();
    for row in &rows {
        match &row.sample {
            _ if !row.family.is_empty() && !gpu.family.contains(&row.family) => others += 1,
            Ok(sample) => samples.push(sample),
            Err(reason) => *skipped.entry(reason.name()).or_default() += 1,
        }
    }
    for (reason, n) in &skipped {
        note!("note: {n} rows are left out: {reason}");
    }
    if others > 0 {
        note!("note: {others} rows are of other GPUs than `{}`", gpu.name);
    }
    let network = samples.iter().find_map(|s| s.fabric.network.map(|_| s.fabric));
    let source = args.profiles.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    let source = args.source.clone().unwrap_or(source);
    let mut fit = fabric(&gpu.name, &source, &samples).ok_or_else(|| {
        Failure::new(
            format!("no measured collective of `{}` can be fitted", gpu.name),
            "rows with GPU, ranks, nodes, size and time; `--network` says what joins the nodes of a log",
        )
    })?;
    // Rows on one node say nothing of the network; those on several do.
    fit.file.fabric = network.unwrap_or(fit.file.fabric);
    if samples.iter().any(|s| s.fabric != fit.file.fabric && s.fabric.network.is_some()) {
        note!("note: the rows are of several fabrics: the file has the first, the parameters are of all");
    }
    let text = fit.file.to_toml(&fit.parameters).map_err(|e| Failure::new(e.to_string(), ""))?;
    if let Some(path) = &args.plot {
        write::whole(path, plot(&fit, &samples)?.as_bytes())?;
    }
    write::whole(&args.out, text.as_bytes())?;
    if args.json {
        let residuals: Vec<_> = fit.residuals.iter().map(|(fitted, _)| fitted).collect();
        let shipped: Vec<_> = fit.residuals.iter().map(|(_, shipped)| shipped).collect();
        print_json(&json!({
            "gpu": gpu.name, "measurements": samples.len(), "parameters": fit.parameters,
            "residuals": residuals, "residuals_before": shipped, "out": args.out.display().to_string(),
        }))?;
    } else {
        print(&report(&gpu.name, &fit, samples.len(), &args.out))?;
    }
    Ok(Answer::Yes)
}

/// The rows of a file; a log becomes a CSV first, so that all are read in one way.
fn rows_of(args: &Calibrate, gpu: &Gpu, path: &Path, kind: &str) -> Result<Vec<collectives::Row>, Failure> {
    let text = read::text(path, "a log of nccl-tests, or a CSV of collectives")?;
    let context = Context { file: path.display().to_string(), ..Context::default() };
    let failed = |e: sim_models::import::ImportError| Failure::new(e.to_string(), "");
    let times = match kind {
        "nccl-tests" => nccl::nccl_tests(&text, None, &context).map_err(failed)?,
        "nccl-inspector" => nccl::inspector(&text, &context).map_err(failed)?,
        _ => {
            let rows = collectives::rows(&text);
            return rows.map_err(|e| {
                Failure::new(format!("{}: {e}", path.display()), "the columns are in docs/validate.md")
            });
        }
    };
    let network = args.network.as_deref().unwrap_or("");
    let csv = nccl::to_csv(&times, &context.file, &gpu.name, network);
    collectives::rows(&csv).map_err(|e| Failure::new(format!("{}: {e}", path.display()), ""))
}

fn plot(fit: &FabricFit, samples: &[&Sample]) -> Result<String, Failure> {
    let model = fit.file.nccl().map_err(|e| Failure::new(e.to_string(), ""))?;
    let dots = samples.iter().filter_map(|s| {
        let group = format!("{} x {}", s.group.nodes(), s.group.per_node());
        Some((format!("{}, {group}", s.kind.name()), s.seconds, s.predicted(*model.values())?))
    });
    Ok(scatter_svg("predicted against measured collectives, by nodes x GPUs", &dots.collect::<Vec<_>>()))
}

fn report(gpu: &str, fit: &FabricFit, measurements: usize, out: &Path) -> String {
    let mut text = format!("{gpu}: {measurements} measured collectives\n\n");
    let mut table = Table::new(["parameter", "value", "standard error"]);
    for Fitted { name, value, standard_error, at_bound } in &fit.parameters {
        let error = match standard_error {
            None => "not determined by the data: the shipped value".to_string(),
            Some(e) if *at_bound => format!("{:.1} %, at its bound", 100.0 * e),
            Some(e) => format!("{:.1} %", 100.0 * e),
        };
        table.row([name.clone(), value.to_string(), error]);
    }
    text += &table.to_string();
    let mut table = Table::new(["operation", "bytes", "n", "median error", "bias", "before the fit"]);
    for (fitted, shipped) in &fit.residuals {
        table.row([
            fitted.name.clone(),
            format!("10^{}", fitted.decade),
            fitted.n.to_string(),
            format!("{:.1} %", 100.0 * fitted.median),
            format!("{:+.1} %", 100.0 * fitted.bias),
            format!("{:.1} %", 100.0 * shipped.median),
        ]);
    }
    text += &format!("\n{table}\nwrote {}: `fabric` of a node group\n", out.display());
    text
}
