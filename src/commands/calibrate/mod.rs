//! `tideplan calibrate`: fit a device to measured profiles or a fabric to measured collectives, and say what the data determine.

mod fabric;

use super::{print, print_json};
use crate::cli::Calibrate;
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::report::table::Table;
use crate::{read, write};
use serde_json::json;
use sim_models::calibrate::{
    DeviceFile, Fitted, LayerTime, Residual, layers, operator_error, operators, scatter_svg,
};
use sim_models::device::catalogue::Format;
use sim_models::device::{Catalogue, LayerQuery, Roofline};
use sim_models::import::{self, Context, Kind, LayerPoint, ModelSizes, OperatorPoint};
use sim_models::workload::{LayerKind, Model};
use std::path::Path;

struct Fit {
    roofline: Roofline,
    parameters: Vec<Fitted>,
    residuals: Vec<Residual>,
    measurements: usize,
}

pub(super) fn run(args: &Calibrate) -> Result<Answer, Failure> {
    let gpu = Catalogue::builtin()
        .find(&args.gpu)
        .map_err(|e| Failure::new(e.to_string(), "`tideplan list devices` names them"))?;
    if args.profiles.iter().any(|path| fabric::kind_of(args, path).is_some()) {
        return fabric::run(args, gpu);
    }
    if args.network.is_some() {
        return Err(Failure::new("`--network` is of logs of collectives, and none is given", "without it"));
    }
    let model = model_of(args.model.as_deref())?;
    let (mut points, mut times) = (Vec::new(), Vec::new());
    for path in &args.profiles {
        let kind = kind_of(args, path)?;
        let bytes = read::bytes(path, "a profile")?;
        let context = Context {
            file: path.display().to_string(),
            tp: args.tp,
            micro_batch: args.micro_batch,
            sizes: model.as_ref().map(sizes_of),
        };
        let profile = import::read(kind, &bytes, &context).map_err(|e| Failure::new(e.to_string(), ""))?;
        if profile.skipped > 0 {
            note!("note: {}: {} entries hold no measurement", path.display(), profile.skipped);
        }
        points.extend(profile.operators);
        times.extend(profile.layers);
    }
    let start = Roofline::from_catalogue(gpu);
    let fit = if points.is_empty() {
        fit_layers(args, &start, model.as_ref(), &times)?
    } else {
        fit_operators(&start, &points)
    };
    let source = args.profiles.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    let source = args.source.clone().unwrap_or(source);
    let file = DeviceFile::new(&fit.roofline, &source);
    let text = file.to_toml(&fit.parameters).map_err(|e| Failure::new(e.to_string(), ""))?;
    write::whole(&args.out, text.as_bytes())?;
    if let Some(path) = &args.plot {
        write::whole(path, plot(&fit, &points).as_bytes())?;
    }
    if args.json {
        let parameters = fit.parameters.iter().map(|p| {
            json!({
                "name": p.name, "value": p.value, "standard_error": p.standard_error, "at_bound": p.at_bound,
            })
        });
        let parameters: Vec<_> = parameters.collect();
        print_json(&json!({
            "gpu": gpu.name, "measurements": fit.measurements, "parameters": parameters, "residuals": fit.residuals,
            "out": args.out.display().to_string(),
        }))?;
    } else {
        print(&report(&gpu.name, &fit, &args.out))?;
    }
    Ok(Answer::Yes)
}

/// The kind that was given, or what a file's name and head say.
fn kind_of(args: &Calibrate, path: &Path) -> Result<Kind, Failure> {
    let names = || {
        let all = Kind::ALL.iter().map(|(name, _)| *name).chain(fabric::KINDS);
        all.collect::<Vec<_>>().join(", ")
    };
    if let Some(name) = &args.kind {
        return Kind::from_name(name)
            .ok_or_else(|| Failure::new(format!("no profile kind is called `{name}`"), names()));
    }
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let known = [("operators", Kind::Operators), ("layers", Kind::Layers)];
    let found = known.iter().find(|(part, _)| name.contains(part) && name.ends_with(".csv"));
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        Failure::new(
            format!("`{}` does not say what kind of profile it is", path.display()),
            format!("`--kind` with one of {}", names()),
        )
    })
}

/// A built-in model, if one is named.
pub(super) fn model_of(name: Option<&str>) -> Result<Option<Model>, Failure> {
    let find = |name: &str| {
        Model::builtin(name).ok_or_else(|| {
            let names: Vec<_> = Model::builtin_names().collect();
            Failure::new(format!("no built-in model is called `{name}`"), names.join(", "))
        })
    };
    name.map(find).transpose()
}

pub(super) fn sizes_of(model: &Model) -> ModelSizes {
    ModelSizes {
        hidden: model.hidden,
        heads: model.heads,
        kv_heads: model.heads,
        head_width: model.hidden / model.heads.max(1),
        ffn_hidden: model.ffn_hidden,
    }
}

fn fit_operators(start: &Roofline, points: &[OperatorPoint]) -> Fit {
    let fit = operators(start, points);
    Fit {
        roofline: fit.roofline,
        parameters: fit.parameters,
        residuals: fit.residuals,
        measurements: points.len(),
    }
}

/// Blocks at TP 1: at more, a time holds all-reduces over a link that the profile does not describe.
fn fit_layers(
    args: &Calibrate,
    start: &Roofline,
    model: Option<&Model>,
    points: &[LayerPoint],
) -> Result<Fit, Failure> {
    let model = model
        .ok_or_else(|| Failure::new("layer times need their model", "`--model` with a built-in model"))?;
    let format = match args.precision.as_str() {
        "fp32" => Format::Fp32,
        "tf32" => Format::Tf32,
        "fp16" => Format::Fp16,
        _ => Format::Bf16,
    };
    let time = |p: &LayerPoint| {
        let (Some(forward_s), Some(backward_s)) = (p.forward_s, p.backward_s) else { return None };
        let block = p.layer < model.layers() && model.kind(p.layer) == LayerKind::Block;
        (block && p.tp == 1 && forward_s > 0.0 && backward_s > 0.0).then(|| LayerTime {
            name: model.name.clone(),
            query: LayerQuery::of(model, p.layer, p.micro_batch, p.tp, format),
            forward_s,
            backward_s,
            sync_s: 0.0,
        })
    };
    let times: Vec<LayerTime> = points.iter().filter_map(time).collect();
    if times.is_empty() {
        return Err(Failure::new(
            "the profile has no block at tp 1 with a forward and a backward time",
            "profile one with `tools/profile_gpu.py`",
        ));
    }
    let fit = layers(start, &times);
    Ok(Fit {
        roofline: fit.roofline,
        parameters: fit.parameters,
        residuals: fit.residuals,
        measurements: times.len(),
    })
}

fn plot(fit: &Fit, points: &[OperatorPoint]) -> String {
    let dots: Vec<(String, f64, f64)> = points
        .iter()
        .map(|p| {
            let error = operator_error(&fit.roofline, p);
            (p.name.clone(), p.seconds, p.seconds * (1.0 + error))
        })
        .collect();
    scatter_svg("predicted against measured", &dots)
}

fn report(gpu: &str, fit: &Fit, out: &Path) -> String {
    let mut text = format!("{gpu}: {} measurements\n\n", fit.measurements);
    let mut table = Table::new(["parameter", "value", "standard error"]);
    for p in &fit.parameters {
        let error = match p.standard_error {
            None => "not determined by the data".to_string(),
            Some(e) if p.at_bound => format!("{:.1} %, at its bound", 100.0 * e),
            Some(e) => format!("{:.1} %", 100.0 * e),
        };
        table.row([p.name.clone(), p.value.to_string(), error]);
    }
    text += &table.to_string();
    let mut table = Table::new(["operator", "size", "n", "median error", "bias"]);
    for r in &fit.residuals {
        table.row([
            r.name.clone(),
            format!("10^{}", r.decade),
            r.n.to_string(),
            format!("{:.1} %", 100.0 * r.median),
            format!("{:+.1} %", 100.0 * r.bias),
        ]);
    }
    text += &format!("\n{table}\nwrote {}\n", out.display());
    text
}
