//! `tideplan list`: what is built in.

use super::{print, print_json};
use crate::cli::{List, What};
use crate::failure::{Answer, Failure};
use crate::report::table::Table;
use scenarios::Overrides;
use serde_json::{Value, json};
use sim_models::device::Catalogue;

pub(super) fn run(args: &List) -> Result<Answer, Failure> {
    let (key, rows) = match args.what {
        What::Scenarios => ("scenarios", scenarios()?),
        What::Devices => ("devices", devices()),
        What::Planners => ("planners", planners()),
        What::Policies => ("policies", policies()),
    };
    if args.json {
        print_json(&json!({ key: rows }))?;
    } else {
        print(&table(&rows))?;
    }
    Ok(Answer::Yes)
}

fn scenarios() -> Result<Vec<Value>, Failure> {
    let row = |b: &scenarios::Builtin| {
        let loaded = b.load(&Overrides::default())?;
        let gpus = loaded.scenario.gpus();
        Ok(
            json!({ "name": b.name, "about": loaded.scenario.about, "group": b.group, "gpus": gpus, "traces": loaded.traces }),
        )
    };
    scenarios::builtins().iter().map(row).collect()
}

fn policies() -> Vec<Value> {
    sim_search::replay::POLICIES.iter().map(|(name, about)| json!({ "name": name, "about": about })).collect()
}

fn devices() -> Vec<Value> {
    let row = |gpu: &sim_models::device::Gpu| {
        json!({
            "name": gpu.name,
            "memory_bytes": gpu.memory.0,
            "memory_bandwidth_bytes_per_s": gpu.memory_bandwidth,
            "fp32_flops": gpu.peaks.fp32,
            "tf32_flops": gpu.peaks.tf32,
            "fp16_flops": gpu.peaks.fp16,
            "bf16_flops": gpu.peaks.bf16,
            "fp8_flops": gpu.peaks.fp8,
            "fp4_flops": gpu.peaks.fp4,
        })
    };
    Catalogue::builtin().gpus().iter().map(row).collect()
}

fn planners() -> Vec<Value> {
    let row = |p: &sim_search::planners::About| json!({ "name": p.name, "about": p.about, "source": p.source, "leaves_out": p.leaves_out });
    sim_search::planners::all().iter().map(row).collect()
}

/// The keys of the rows as columns. Large numbers in a person's units.
fn table(rows: &[Value]) -> String {
    let keys: Vec<&String> =
        rows.first().and_then(Value::as_object).map_or(Vec::new(), |o| o.keys().collect());
    let mut table = Table::new(keys.iter().map(|k| heading(k)));
    for row in rows {
        table.row(keys.iter().map(|k| cell(k, &row[k.as_str()])));
    }
    table.to_string()
}

fn heading(key: &str) -> String {
    match key {
        "memory_bytes" => "memory, GiB".into(),
        "memory_bandwidth_bytes_per_s" => "memory, TB/s".into(),
        _ => key.strip_suffix("_flops").map_or(key.into(), |p| format!("{p}, TFLOP/s")),
    }
}

fn cell(key: &str, value: &Value) -> String {
    match (key, value) {
        (_, Value::Null) => "-".into(),
        (_, Value::String(text)) => text.clone(),
        ("memory_bytes", v) => format!("{:.1}", v.as_f64().unwrap_or(0.0) / (1u64 << 30) as f64),
        (k, v) if k.ends_with("_flops") || k.ends_with("_per_s") => {
            let value = v.as_f64().unwrap_or(0.0) / 1e12;
            if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
        }
        (_, v) => v.to_string(),
    }
}
