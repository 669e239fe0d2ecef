//! `tideplan collective`: one collective operation as messages between ranks.

use super::{print, print_json};
use crate::cli::Collective as Args;
use crate::failure::{Answer, Failure};
use crate::report::table::{seconds, thousands};
use scenarios::quantity::{self, QuantityError};
use scenarios::{Fault, Source};
use serde_json::{Value, json};
use sim_core::Rate;
use sim_models::collective::CollectiveKind;
use sim_models::collective::messages::{
    Algorithm, Collective, CollectiveError, CollectiveOutcome, Convention, Op,
};
use std::sync::Arc;

pub(super) fn run(args: &Args) -> Result<Answer, Failure> {
    let collective = read(args)?;
    let outcome = collective.run(!args.no_fold).map_err(not_simulated)?;
    if args.json {
        print_json(&json(&collective, &outcome))?;
    } else {
        print(&text(args, &collective, &outcome))?;
    }
    Ok(Answer::Yes)
}

/// The collective, or every option that cannot be read.
fn read(args: &Args) -> Result<Collective, Failure> {
    let bytes = quantity::size(&args.bytes).map_err(|e| fault("--bytes", &args.bytes, &e));
    let bandwidth = quantity::rate(&args.bandwidth).map_err(|e| fault("--bandwidth", &args.bandwidth, &e));
    let latency = quantity::duration(&args.latency).map_err(|e| fault("--latency", &args.latency, &e));
    let bandwidth = bandwidth.and_then(|rate| match rate {
        Rate::ZERO => Err(Fault {
            message: format!("a link of `{}` moves nothing", args.bandwidth.trim()),
            help: Some("a rate above 0, for example `400 Gbps`".into()),
            ..place("--bandwidth", &args.bandwidth, "T0107")
        }),
        rate => Ok(rate),
    });
    match (bytes, bandwidth, latency) {
        (Ok(bytes), Ok(bandwidth), Ok(latency)) => Ok(Collective {
            op: args.op,
            algorithm: args.algorithm,
            fabric: args.topology,
            convention: args.convention,
            ranks: args.ranks,
            bytes: bytes.0,
            bandwidth,
            latency,
            splits: args.splits,
        }),
        (bytes, bandwidth, latency) => Err(Failure::Faults(
            [bytes.err(), bandwidth.err(), latency.err()].into_iter().flatten().collect(),
        )),
    }
}

fn fault(option: &str, text: &str, error: &QuantityError) -> Fault {
    // In a file an amount stands in quotes; on the command line they are the shell's affair.
    let help = error.help().replace('"', "");
    Fault {
        message: error.to_string(),
        help: (!help.is_empty()).then_some(help),
        ..place(option, text, error.code())
    }
}

/// A fault of the whole of an option, with nothing said yet.
fn place(option: &str, text: &str, code: &'static str) -> Fault {
    let source = Source { name: option.into(), text: text.into() };
    let span = (!text.is_empty()).then_some(0..text.len());
    Fault { code, message: String::new(), help: None, source: Arc::new(source), span }
}

fn not_simulated(error: CollectiveError) -> Failure {
    let help = match &error {
        CollectiveError::Unsupported { op: Op::AllToAll, .. } => "`ring` and `direct` do".into(),
        CollectiveError::Unsupported { .. } => "`ring`, `direct` and `halving_doubling` do".into(),
        CollectiveError::PowerOfTwo { ranks, .. } => {
            let above = ranks.checked_next_power_of_two().unwrap_or(1 << 31);
            format!("{} or {above} ranks; `ring` and `direct` take any number", above / 2)
        }
        CollectiveError::TooMany { .. } => "fewer ranks or splits; `ring` sends one message at a time".into(),
        CollectiveError::Range { .. } | CollectiveError::Sim(_) => String::new(),
    };
    Failure::new(error.to_string(), help)
}

/// Bytes a second by the whole buffer, and as nccl-tests count the bus; none when no time passes.
fn bandwidths(collective: &Collective, outcome: &CollectiveOutcome) -> Option<(f64, f64)> {
    let time = outcome.time.as_secs_f64();
    let by_rank = collective.op == Op::AllGather && collective.convention == Convention::AstraSim;
    let buffer = collective.bytes as f64 * if by_rank { f64::from(collective.ranks) } else { 1.0 };
    let kind = match collective.op {
        Op::AllReduce => CollectiveKind::AllReduce,
        Op::AllGather => CollectiveKind::AllGather,
        Op::ReduceScatter => CollectiveKind::ReduceScatter,
        Op::AllToAll => CollectiveKind::AllToAll,
    };
    (time > 0.0).then(|| (buffer / time, buffer / time * kind.bus_factor(collective.ranks)))
}

fn json(collective: &Collective, outcome: &CollectiveOutcome) -> Value {
    let rates = bandwidths(collective, outcome);
    json!({
        "time_s": outcome.time.as_secs_f64(),
        "events": outcome.events,
        "digest": outcome.digest.to_string(),
        "folded": outcome.folded,
        "unfolded_because": outcome.unfolded_because.map(|why| why.to_string()),
        "convention": collective.convention.to_string(),
        "algorithm_bandwidth_bytes_per_s": rates.map(|r| r.0),
        "bus_bandwidth_bytes_per_s": rates.map(|r| r.1),
    })
}

fn text(args: &Args, collective: &Collective, outcome: &CollectiveOutcome) -> String {
    let Collective { op, algorithm, fabric, convention, ranks, splits, .. } = collective;
    let topology = match algorithm {
        Algorithm::Ring => "in a ring",
        Algorithm::Direct => "directly",
        Algorithm::HalvingDoubling => "by halving and doubling",
        Algorithm::DoubleBinaryTree => "by a double binary tree",
    };
    let mut text = format!(
        "{op} of {} among {ranks} ranks {topology}, topology {fabric}, links of {} and {}, {splits} split{}, convention {convention}\n\n",
        args.bytes.trim(),
        args.bandwidth.trim(),
        args.latency.trim(),
        if *splits == 1 { "" } else { "s" },
    );
    // Whole: where two runs differ by a nanosecond, that is what one looks for.
    let ns = outcome.time.as_ps() as f64 / 1e3;
    text += &format!("time           {} ({ns} ns)\n", seconds(outcome.time.as_secs_f64()));
    if let Some((algorithm, bus)) = bandwidths(collective, outcome) {
        text += &format!("algorithm      {:.2} GB/s\n", algorithm / 1e9);
        text += &format!("bus            {:.2} GB/s, as nccl-tests count it\n", bus / 1e9);
    }
    let fold = match (outcome.folded, outcome.unfolded_because) {
        (true, _) => ", one rank simulated for all".into(),
        (false, Some(why)) => format!(", {why}"),
        (false, None) => String::new(),
    };
    text + &format!("{} events, digest {}{fold}\n", thousands(outcome.events), outcome.digest)
}
