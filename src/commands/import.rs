//! `tideplan import`: other tools' measurements as our tables, their plans as ours, their clusters as scenarios.

use super::calibrate::sizes_of;
use super::print;
use crate::cli::Import;
use crate::failure::{Answer, Failure};
use crate::{read, write};
use sim_models::import::{self, Context, Kind, layers_to_csv, nccl, operators_to_csv};

/// Logs of collective benchmarks, beside the profile kinds.
const LOGS: [&str; 2] = ["nccl-tests", "nccl-inspector"];

pub(super) fn run(args: &Import) -> Result<Answer, Failure> {
    if super::exchange::PLANS.contains(&args.kind.as_str()) {
        return super::exchange::plans(args);
    }
    if args.scenario.is_some() {
        let message = format!("`--scenario` is of plans, and `{}` is none", args.kind);
        return Err(Failure::new(message, "without `--scenario`"));
    }
    if super::exchange::CLUSTERS.contains(&args.kind.as_str()) {
        return super::exchange::clusters(args);
    }
    let model = super::calibrate::model_of(args.model.as_deref())?;
    let (mut operators, mut layers, mut collectives) = (Vec::new(), Vec::new(), Vec::new());
    for path in &args.files {
        let context = Context {
            file: path.display().to_string(),
            tp: args.tp,
            micro_batch: args.micro_batch,
            sizes: model.as_ref().map(sizes_of),
        };
        let failed = |e: sim_models::import::ImportError| Failure::new(e.to_string(), "");
        if LOGS.contains(&args.kind.as_str()) {
            let text = read::text(path, "a log of text")?;
            collectives.extend(match args.kind.as_str() {
                "nccl-inspector" => nccl::inspector(&text, &context).map_err(failed)?,
                _ => nccl::nccl_tests(&text, None, &context).map_err(failed)?,
            });
            continue;
        }
        let kind = Kind::from_name(&args.kind).ok_or_else(|| {
            let mut names: Vec<&str> = Kind::ALL.iter().map(|(name, _)| *name).collect();
            names.extend(LOGS);
            names.extend(super::exchange::PLANS);
            names.extend(super::exchange::CLUSTERS);
            Failure::new(format!("nothing of kind `{}` can be imported", args.kind), names.join(", "))
        })?;
        let profile = import::read(kind, &read::bytes(path, "a profile")?, &context).map_err(failed)?;
        operators.extend(profile.operators);
        layers.extend(profile.layers);
    }
    let (text, what, count) = if !collectives.is_empty() {
        let csv = nccl::to_csv(&collectives, "imported", args.gpu.as_deref().unwrap_or(""), "");
        (csv, "collectives", collectives.len())
    } else if !operators.is_empty() {
        (operators_to_csv(&operators), "operators", operators.len())
    } else if !layers.is_empty() {
        (layers_to_csv(&layers), "layers", layers.len())
    } else {
        return Err(Failure::new("the files hold no measurement", "a profile of that kind"));
    };
    write::whole(&args.out, text.as_bytes())?;
    print(&format!("wrote {count} {what} to {}\n", args.out.display()))?;
    Ok(Answer::Yes)
}
