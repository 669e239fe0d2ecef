//! `tideplan simulate --workload`: another tool's trace on a scenario's cluster.

use super::{load, print, print_json};
use crate::cli::Simulate;
use crate::failure::{Answer, Failure};
use crate::host::note;
use crate::report;
use crate::report::table::{self, Table};
use crate::{read, write};
use scenarios::Overrides;
use serde_json::{Value, json};
use sim_core::SimDuration;
use sim_models::collective::messages::Convention;
use sim_models::scenario::{DeviceId, Scenario};
use sim_models::workload_trace::simai::{Lockstep, LockstepError, Workload};
use sim_models::workload_trace::{
    Job, Machine, Outcome, Rules, RunError, SystemError, Topology, TraceError, Ways, WaysError, chakra,
    simulate,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) fn run(args: &Simulate, workload: &str) -> Result<Answer, Failure> {
    let (kind, path) = workload.split_once(':').unwrap_or((workload, ""));
    if !["chakra", "simai"].contains(&kind) || path.is_empty() {
        return Err(Failure::new(
            format!("`--workload {workload}` is no trace"),
            "`chakra:DIR` or `simai:FILE`",
        ));
    }
    let (loaded, overrides) = load(&args.scenario, &args.over, false)?;
    let rules = rules(args)?;
    match kind {
        "chakra" => play(args, &loaded.scenario, &overrides, &rules, Path::new(path)),
        _ => lockstep(args, &loaded.scenario, &overrides, &rules, Path::new(path)),
    }
}

/// A SimAI file.
fn lockstep(
    args: &Simulate,
    scenario: &Scenario,
    overrides: &Overrides,
    rules: &Rules,
    path: &Path,
) -> Result<Answer, Failure> {
    if args.timeline.is_some() {
        return Err(Failure::new("`--timeline` shows no SimAI workload", "leave it out"));
    }
    let workload = Workload::read(&read::text(path, "a SimAI workload")?)
        .map_err(|e| Failure::new(format!("{}: {e}", path.display()), e.help))?;
    let topology = args.rules.topology.unwrap_or(Topology::Nodes);
    let ways =
        Ways::new(scenario, topology, rules.convention, workload.gpus(), overrides.at).map_err(unfit)?;
    let run = workload.run(rules, &ways, overrides.at).map_err(|e| match e {
        LockstepError::Run(e) => not_played(e),
        LockstepError::Trace(_) | LockstepError::TooLong => Failure::new(e.to_string(), ""),
    })?;
    if args.over.json {
        return print_json(&lockstep_json(&workload, rules, topology, &run)).map(|()| Answer::Yes);
    }
    let mut text = format!(
        "{}: {} ranks ({}), on {}; convention {}, topology {topology}\n\n",
        path.display(),
        table::thousands(workload.gpus()),
        workload.plan(),
        scenario.name,
        rules.convention,
    );
    let mut rows = Table::new(["collective", "scope", "ranks", "MiB", "times", "each", "together"]);
    for kind in &run.kinds {
        let each = kind.each.as_secs_f64();
        rows.row([
            kind.call.op().to_string(),
            kind.call.scope.to_string(),
            kind.ranks.to_string(),
            format!("{:.2}", kind.call.bytes as f64 / 1_048_576.0),
            kind.times.to_string(),
            table::seconds(each),
            table::seconds(each * kind.times as f64),
        ]);
    }
    text += &rows.to_string();
    let parts = [
        ("iteration", run.time),
        ("compute", run.compute),
        ("blocking", run.blocking),
        ("exposed", run.exposed),
        ("bubble", run.bubble),
        ("transfers", run.transfers),
    ];
    text.push('\n');
    for (name, time) in parts {
        text += &format!("{name:<15}{}\n", table::seconds(time.as_secs_f64()));
    }
    text += &format!("{} events, digest {}, ranks in lockstep\n", table::thousands(run.events), run.digest);
    print(&text).map(|()| Answer::Yes)
}

fn lockstep_json(workload: &Workload, rules: &Rules, topology: Topology, run: &Lockstep) -> Value {
    let s = SimDuration::as_secs_f64;
    let collectives: Vec<Value> = run
        .kinds
        .iter()
        .map(|kind| {
            json!({
                "op": kind.call.op().to_string(),
                "scope": kind.call.scope.to_string(),
                "ranks": kind.ranks,
                "bytes": kind.call.bytes,
                "times": kind.times,
                "time_s": s(kind.each),
            })
        })
        .collect();
    json!({
        "iteration_time_s": s(run.time),
        "ranks": [{
            "id": 0,
            "count": workload.gpus(),
            "finish_s": s(run.time),
            "compute_s": s(run.compute),
            "comm_s": s(run.blocking) + s(run.background) + s(run.transfers),
            "exposed_comm_s": s(run.blocking) + s(run.exposed) + s(run.transfers),
            "bubble_s": s(run.bubble),
        }],
        "collectives": collectives,
        "events": run.events,
        "digest": run.digest.to_string(),
        "folded": true,
        "convention": rules.convention.to_string(),
        "topology": topology.to_string(),
    })
}

/// A chakra directory.
fn play(
    args: &Simulate,
    scenario: &Scenario,
    overrides: &Overrides,
    rules: &Rules,
    path: &Path,
) -> Result<Answer, Failure> {
    let job = traces(path)?;
    let topology = args.rules.topology.unwrap_or(Topology::Nodes);
    let ways = Ways::new(scenario, topology, rules.convention, job.ranks(), overrides.at).map_err(unfit)?;
    let gpus = gpus(scenario, job.ranks());
    let precision = scenario.training.precision;
    let machines: Vec<Machine> =
        gpus.iter().map(|d| Machine::of(&scenario.group(*d).gpu, precision)).collect();
    let outcome =
        simulate(&job, rules, &ways, &machines, overrides.at, args.timeline.is_some()).map_err(not_played)?;
    if let Some(path) = &args.timeline {
        let timeline = report::timeline::ranks(&outcome.spans, |rank, node| job.name(rank, node));
        write::whole(path, timeline.to_string().as_bytes())?;
        note!("wrote {}: open it in https://ui.perfetto.dev", path.display());
    }
    if args.over.json {
        print_json(&json(scenario, &gpus, rules, topology, &outcome))?;
    } else {
        print(&text(scenario, &gpus, (&job, path), rules, topology, &outcome))?;
    }
    Ok(Answer::Yes)
}

/// The convention's rules, and what the options say over them.
fn rules(args: &Simulate) -> Result<Rules, Failure> {
    let given = &args.rules;
    let rules = Rules::new(given.convention.unwrap_or(Convention::Tideplan), given.splits.unwrap_or(1));
    let Some(path) = &given.system else { return Ok(rules) };
    let text = read::text(path, "an ASTRA-sim system file")?;
    rules.with_system(&text, given.splits).map_err(|e: SystemError| {
        Failure::new(format!("{}: {e}", path.display()), "docs/workloads.md says what is read")
    })
}

fn gpus(scenario: &Scenario, ranks: u32) -> Vec<DeviceId> {
    let devices = scenario
        .groups
        .iter()
        .zip(0..)
        .flat_map(|(g, group)| (0..g.gpus()).map(move |index| DeviceId { group, index }));
    devices.take(ranks as usize).collect()
}

/// The traces of a directory: one family NAME.0.et, NAME.1.et, ..., and NAME.json, if it is there.
fn traces(path: &Path) -> Result<Job, Failure> {
    let unreadable = |e: std::io::Error| {
        Failure::new(format!("cannot read `{}`: {e}", path.display()), "a directory of traces")
    };
    let mut families: BTreeMap<String, BTreeMap<u32, PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some((family, rank)) = name.strip_suffix(".et").and_then(|stem| stem.rsplit_once('.')) else {
            continue;
        };
        if let Ok(number) = rank.parse::<u32>() {
            families.entry(family.to_string()).or_default().insert(number, file.clone());
        }
    }
    let (family, files) = match (families.pop_first(), families.len()) {
        (Some(family), 0) => family,
        (None, _) => {
            return Err(Failure::new(
                format!("{}: no traces", path.display()),
                "files called NAME.0.et, NAME.1.et, ... one a rank",
            ));
        }
        (Some((family, _)), _) => {
            let other = families.keys().next().cloned().unwrap_or_default();
            return Err(Failure::new(
                format!("{}: traces of `{family}` and of `{other}`", path.display()),
                "the traces of one job in a directory",
            ));
        }
    };
    if let Some(missing) = (0..).zip(files.keys()).find(|(want, have)| want != *have) {
        return Err(Failure::new(
            format!(
                "{}: no trace of rank {}: {family}.{}.et is missing",
                path.display(),
                missing.0,
                missing.0
            ),
            "one file a rank, from 0",
        ));
    }
    let bytes =
        files.values().map(|file| read::bytes(file, "a Chakra trace")).collect::<Result<Vec<_>, _>>()?;
    let groups = path.join(format!("{family}.json"));
    let groups = if groups.exists() {
        Some(read::text(&groups, "names of groups, each with its list of ranks")?)
    } else {
        None
    };
    chakra::read(&bytes, groups.as_deref()).map_err(|e| not_a_job(path, &family, &e))
}

fn not_a_job(path: &Path, family: &str, error: &TraceError) -> Failure {
    let help = match error {
        TraceError::Bytes { rank, .. } => format!("{family}.{rank}.et is cut off, or no Chakra trace"),
        TraceError::Group { .. } => format!("{family}.json: names, each with its list of ranks"),
        _ => String::new(),
    };
    Failure::new(format!("{}: {error}", path.display()), help)
}

fn unfit(error: WaysError) -> Failure {
    let help = match &error {
        WaysError::Gpus { .. } => "more nodes: `--set nodes.NAME.count=N`",
        WaysError::Unlike(_) => "`--topology nodes`",
        WaysError::Full(_) => "",
    };
    Failure::new(error.to_string(), help)
}

fn not_played(error: RunError) -> Failure {
    let help = match &error {
        RunError::Disagree { .. } => {
            "the k-th collective of a group is one for all its ranks, of one type and size"
        }
        RunError::Collective { .. } => "another algorithm in the `--system` file, or other `--splits`",
        RunError::Stuck { .. } => "collectives, sends and receives take turns on a rank, lowest id first",
        RunError::Sim(_) => "",
    };
    Failure::new(error.to_string(), help)
}

fn json(
    scenario: &Scenario,
    gpus: &[DeviceId],
    rules: &Rules,
    topology: Topology,
    outcome: &Outcome,
) -> Value {
    let ranks: Vec<Value> = outcome
        .ranks
        .iter()
        .zip(gpus)
        .zip(0u32..)
        .map(|((rank, device), id)| {
            json!({
                "id": id,
                "device": scenario.device_name(*device),
                "gpu": scenario.group(*device).gpu.name,
                "finish_s": rank.finish.as_secs_f64(),
                "compute_s": rank.compute.as_secs_f64(),
                "comm_s": rank.communication.as_secs_f64(),
                "exposed_comm_s": rank.exposed().as_secs_f64(),
            })
        })
        .collect();
    json!({
        "iteration_time_s": outcome.time.as_secs_f64(),
        "ranks": ranks,
        "events": outcome.events,
        "digest": outcome.digest.to_string(),
        "folded": false,
        "convention": rules.convention.to_string(),
        "topology": topology.to_string(),
    })
}

/// Rows of the table at most: the slowest ranks.
const ROWS: usize = 16;

fn text(
    scenario: &Scenario,
    gpus: &[DeviceId],
    (job, path): (&Job, &Path),
    rules: &Rules,
    topology: Topology,
    outcome: &Outcome,
) -> String {
    let mut text = format!(
        "{}: {} ranks, {} nodes, on {}; convention {}, topology {topology}\n\n",
        path.display(),
        job.ranks(),
        table::thousands(job.nodes()),
        scenario.name,
        rules.convention,
    );
    let mut order: Vec<usize> = (0..outcome.ranks.len()).collect();
    if order.len() > ROWS {
        order.sort_by_key(|r| (std::cmp::Reverse(outcome.ranks[*r].finish), *r));
        order.truncate(ROWS);
    }
    let mut rows = Table::new(["rank", "device", "finish", "compute", "communication", "exposed"]);
    for rank in order {
        let times = &outcome.ranks[rank];
        rows.row([
            rank.to_string(),
            scenario.device_name(gpus[rank]),
            table::seconds(times.finish.as_secs_f64()),
            table::seconds(times.compute.as_secs_f64()),
            table::seconds(times.communication.as_secs_f64()),
            table::seconds(times.exposed().as_secs_f64()),
        ]);
    }
    text += &rows.to_string();
    if outcome.ranks.len() > ROWS {
        text += &format!("the {ROWS} slowest of {} ranks\n", outcome.ranks.len());
    }
    text += &format!(
        "\niteration      {} ({} ns)\n",
        table::seconds(outcome.time.as_secs_f64()),
        outcome.time.as_ps() as f64 / 1e3
    );
    text += &format!("{} events, digest {}\n", table::thousands(outcome.events), outcome.digest);
    text
}
