//! `tideplan trace generate`: traces made up from a seed.

use super::{MOST_ROWS, nanoseconds, open};
use crate::cli::{TraceGenerate, TraceModel};
use crate::commands::print;
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::write;
use scenarios::quantity;
use scenarios::series::{
    Ar1, Diurnal, Edit, Edits, Failures, Markov, Quantity, Record, fit_ar1, generate_ar1, write_header,
    write_record,
};

pub(super) fn run(args: &TraceGenerate) -> Result<Answer, Failure> {
    let duration_ns = nanoseconds(&args.duration)?;
    let step_ns = nanoseconds(&args.step)?;
    if duration_ns == 0 || step_ns == 0 {
        return Err(Failure::new("`--duration` and `--step` must be above zero", ""));
    }
    if duration_ns / step_ns > MOST_ROWS {
        return Err(Failure::new(format!("over {MOST_ROWS} rows"), "a longer `--step`"));
    }
    let seed = args.seed;
    let name = args.link.as_str();
    if name.is_empty() || name.contains([',', '"', '\n', '\r']) {
        return Err(Failure::new("a name in a trace has no comma, quote or line end", ""));
    }
    let mut quantity = Quantity::Bandwidth;
    let records: Box<dyn Iterator<Item = Record>> = match &args.model {
        TraceModel::Markov { high, low, high_time, low_time } => {
            let values = [bps(high)?, bps(low)?];
            let mean_s = [seconds(high_time)?, seconds(low_time)?];
            Box::new(Markov { values, mean_s, duration_ns, seed }.records(name))
        }
        TraceModel::Diurnal { mean, swing, noise, peak } => {
            let diurnal = Diurnal {
                mean: bps(mean)?,
                swing: share("--swing", *swing)?,
                noise: share("--noise", *noise)?,
                peak_h: *peak,
                step_ns,
                duration_ns,
                seed,
            };
            if !(0.0..24.0).contains(peak) {
                return Err(Failure::new("`--peak` is an hour from 0 to 24", ""));
            }
            Box::new(diurnal.records(name))
        }
        TraceModel::Ar1 { fit, from } => {
            let (of, records) = open(fit, from)?;
            quantity = of;
            let mut values = Vec::new();
            let mut series = None;
            for record in Edits(vec![Edit::Resample(step_ns)]).apply(records) {
                let record = record?;
                if *series.get_or_insert_with(|| record.name.clone()) == record.name {
                    values.push(record.value);
                }
            }
            let Some(model) = fit_ar1(&values) else {
                return Err(Failure::new(
                    format!("`{}` has fewer than two points at steps of {}", fit.display(), args.step),
                    "a shorter `--step`",
                ));
            };
            let Ar1 { mean, phi, noise } = model;
            note!("fitted to {} points: mean {mean}, phi {phi:.4}, noise {noise}", values.len());
            Box::new(generate_ar1(model, step_ns, duration_ns, seed, name))
        }
        TraceModel::Failures { nodes, mtbf, repair } => {
            quantity = Quantity::Up;
            let (mtbf_s, repair_s) = (seconds(mtbf)?, seconds(repair)?);
            Box::new(Failures { nodes: *nodes, mtbf_s, repair_s, duration_ns, seed }.records())
        }
    };
    let mut rows = 0u64;
    write::streamed(&args.out, |out| {
        write_header(out, quantity, false).map_err(write::failed)?;
        for record in records {
            write_record(out, &record, false).map_err(write::failed)?;
            rows += 1;
            if rows > MOST_ROWS {
                return Err(Failure::new(format!("over {MOST_ROWS} rows"), "longer times"));
            }
        }
        Ok(())
    })?;
    print(&format!("wrote {}: {rows} rows of {}\n", args.out.display(), quantity.column()))?;
    Ok(Answer::Yes)
}

fn bps(text: &str) -> Result<f64, Failure> {
    let rate = quantity::rate(text).map_err(|e| Failure::new(e.to_string(), e.help()))?;
    Ok(rate.as_bytes_per_s() * 8.0)
}

fn seconds(text: &str) -> Result<f64, Failure> {
    match nanoseconds(text)? {
        0 => Err(Failure::new("a mean time must be above zero", "")),
        ns => Ok(ns as f64 / 1e9),
    }
}

fn share(option: &str, value: f64) -> Result<f64, Failure> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(Failure::new(format!("`{option}` is a share from 0 to 1, not {value}"), ""))
}
