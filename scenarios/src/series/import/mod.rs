//! Other tools' files as records. Each kind states its format at the head of its file; a file of another kind is a fault,
//! never a guess.

mod availability;
mod bandwidth;
mod text;

use super::{Quantity, Record};
use crate::fault::Fault;
use text::Text;

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is of.
    pub quantity: Quantity,
    /// One line on the format.
    pub about: &'static str,
    read: fn(&Text<'_>) -> Result<Vec<Record>, Fault>,
}

/// The kinds there are, our own CSV apart.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "skyplane",
        quantity: Quantity::Bandwidth,
        about: "grid of region pairs, CSV: src_region, dst_region, throughput_received (or _bps), experiment_start",
        read: bandwidth::skyplane,
    },
    Kind {
        name: "pairs",
        quantity: Quantity::Bandwidth,
        about: "pairs of regions over time, CSV: time_s, link_or_pair, bandwidth_bps, perhaps latency_s or rtt_s",
        read: bandwidth::pairs,
    },
    Kind {
        name: "mahimahi",
        quantity: Quantity::Bandwidth,
        about: "a millisecond a line, each the chance to deliver a packet of 1,504 B; summed over seconds",
        read: bandwidth::mahimahi,
    },
    Kind {
        name: "iperf3",
        quantity: Quantity::Bandwidth,
        about: "output of `iperf3 --json`: its intervals, and half of their round-trip times",
        read: bandwidth::iperf3,
    },
    Kind {
        name: "simgrid",
        quantity: Quantity::Bandwidth,
        about: "bandwidth profile: `time bytes/s` lines, `PERIODICITY` or `LOOPAFTER`",
        read: bandwidth::simgrid,
    },
    Kind {
        name: "zhejiang",
        quantity: Quantity::Load,
        about: "load of switch ports, CSV: time_s, link, in_bps, out_bps; the busier direction",
        read: bandwidth::zhejiang,
    },
    Kind {
        name: "sailor",
        quantity: Quantity::Available,
        about: "GPUs that are there, CSV: time_s, pool, gpus; or Timestamp and a column a pool",
        read: availability::sailor,
    },
    Kind {
        name: "oobleck",
        quantity: Quantity::Available,
        about: "`ms,add|remove,node` lines, also Bamboo's; counted",
        read: availability::oobleck,
    },
    Kind {
        name: "parcae",
        quantity: Quantity::Available,
        about: "CSV: time_s, event, n_nodes, live_nodes",
        read: availability::parcae,
    },
    Kind {
        name: "skypilot",
        quantity: Quantity::Available,
        about: "spot traces: JSON with `metadata.gap_seconds` and `data`, or CSV: time_s, pool, value, END at the end",
        read: availability::skypilot,
    },
    Kind {
        name: "infinitehbd",
        quantity: Quantity::Up,
        about: "faults, CSV: time_days, node, event (fault_start, fault_end)",
        read: availability::infinitehbd,
    },
];

/// The records of a text of this kind, in order of time; `file` is what faults call it.
///
/// # Errors
/// When it is not of that kind, with the line.
pub fn import(kind: &Kind, text: &str, file: &str) -> Result<Vec<Record>, Fault> {
    let text = Text { text, file };
    let mut records = (kind.read)(&text)?;
    if records.is_empty() {
        return Err(text.fault_of_file("T0404", "there is nothing in it", kind.about));
    }
    for record in &records {
        let most = kind.quantity.most();
        if !(record.value >= 0.0 && record.value <= most) {
            let message = format!(
                "`{}` at {} s has the value {}, not from 0 to {most}",
                record.name,
                super::seconds_text(record.at_ns),
                record.value
            );
            return Err(text.fault_of_file("T0402", &message, ""));
        }
    }
    // Stable: of two points of one instant the later in the file holds.
    records.sort_by(|a, b| (a.at_ns, &a.name).cmp(&(b.at_ns, &b.name)));
    let mut kept: Vec<Record> = Vec::with_capacity(records.len());
    for record in records {
        match kept.last_mut() {
            Some(last) if last.at_ns == record.at_ns && last.name == record.name => *last = record,
            _ => kept.push(record),
        }
    }
    Ok(kept)
}
