//! Who is there: Sailor's and SkyPilot's counts, Oobleck's, Bamboo's and Parcae's events, InfiniteHBD's faults.

use super::bandwidth::Names;
use super::text::{Line, Table, Text};
use crate::fault::Fault;
use crate::series::Record;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Times of a table, rebased to its first row.
struct Clock(Option<f64>);

impl Clock {
    fn at<'a>(&mut self, text: &Text<'_>, row: Line<'a>, seconds: f64) -> Result<u64, Fault> {
        let base = *self.0.get_or_insert(if seconds >= 1e8 { seconds } else { 0.0 });
        text.time(row, seconds - base)
    }
}

/// `time_s,pool,gpus`, or the planner's input: `Timestamp` (unix) and a column of GPUs for each pool.
pub(super) fn sailor(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let table = text.table()?;
    let mut records = Vec::new();
    let mut names = Names::default();
    let mut clock = Clock(None);
    if table.find("pool").is_some() {
        return counted(text, &table, "gpus");
    }
    let time = table.column(&["Timestamp"])?;
    for &row in &table.rows {
        let at_ns = clock.at(text, row, table.number(row, time)?)?;
        for (column, name) in table.names().iter().enumerate() {
            if column != time && !name.is_empty() {
                let value = table.number(row, column)?;
                records.push(Record { at_ns, name: names.get(name), value, latency_s: None });
            }
        }
    }
    Ok(records)
}

fn counted<'a>(text: &Text<'_>, table: &Table<'a>, value: &str) -> Result<Vec<Record>, Fault> {
    let (time, pool, value) = (table.column(&["time_s"])?, table.column(&["pool"])?, table.column(&[value])?);
    let (mut names, mut clock) = (Names::default(), Clock(None));
    let mut records: Vec<Record> = Vec::new();
    for &row in &table.rows {
        let at_ns = clock.at(text, row, table.number(row, time)?)?;
        let name = names.get(table.field(row, pool)?);
        // The end of the trace: the last value held until then.
        let value = if table.field(row, value)? == "END" {
            records.iter().rfind(|r| r.name == name).map_or(0.0, |r| r.value)
        } else {
            table.number(row, value)?
        };
        records.push(Record { at_ns, name, value, latency_s: None });
    }
    Ok(records)
}

/// `ms,add,node1` lines without a header: how many nodes are there. A node added twice, or removed while away, is a fault.
pub(super) fn oobleck(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let name: Arc<str> = "nodes".into();
    let mut there: BTreeSet<&str> = BTreeSet::new();
    let mut records = Vec::new();
    let mut last = 0;
    for line in text.lines() {
        let fields: Vec<&str> = line.text.split(',').map(str::trim).collect();
        let &[ms, what, node] = fields.as_slice() else {
            return Err(text.fault(line, "not `milliseconds,add|remove,node`", ""));
        };
        let at_ns = text.time(line, text.number(line, ms, "milliseconds")? / 1e3)?;
        if at_ns < last {
            return Err(text.fault(line, "time goes backwards", ""));
        }
        last = at_ns;
        let changed = match what {
            "add" => there.insert(node),
            "remove" => there.remove(node),
            _ => return Err(text.fault(line, &format!("unknown event `{what}`"), "`add` or `remove`")),
        };
        if !changed {
            let state = if what == "add" { "there already" } else { "not there" };
            return Err(text.fault(line, &format!("`{node}` is {state}"), ""));
        }
        records.push(Record { at_ns, name: Arc::clone(&name), value: there.len() as f64, latency_s: None });
    }
    Ok(records)
}

/// `time_s,event,n_nodes,live_nodes`.
pub(super) fn parcae(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let table = text.table()?;
    let (time, live) = (table.column(&["time_s"])?, table.column(&["live_nodes"])?);
    let name: Arc<str> = "nodes".into();
    let record = |&row: &Line<'_>| -> Result<Record, Fault> {
        let at_ns = text.time(row, table.number(row, time)?)?;
        Ok(Record { at_ns, name: Arc::clone(&name), value: table.number(row, live)?, latency_s: None })
    };
    table.rows.iter().map(record).collect()
}

/// SkyPilot's JSON (`data` at steps of `metadata.gap_seconds`), or the change points of it.
pub(super) fn skypilot(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    if !text.text.trim_start().starts_with('{') {
        return counted(text, &text.table()?, "value");
    }
    let json: serde_json::Value = serde_json::from_str(text.text)
        .map_err(|e| text.fault_of_file("T0402", &format!("not JSON: {e}"), ""))?;
    let wrong = |what: &str| text.fault_of_file("T0402", what, "`metadata.gap_seconds` and a list `data`");
    let gap = json["metadata"]["gap_seconds"].as_f64().filter(|g| *g > 0.0 && *g < 1e9);
    let gap = gap.ok_or_else(|| wrong("there is no `metadata.gap_seconds` above zero"))?;
    let data = json["data"].as_array().ok_or_else(|| wrong("there is no list `data`"))?;
    let name: Arc<str> = "nodes".into();
    let record = |(i, value): (usize, &serde_json::Value)| {
        let value = value.as_f64().ok_or_else(|| wrong(&format!("element {i} of `data` is not a number")))?;
        let at_ns = crate::series::nanoseconds(i as f64 * gap).unwrap_or(u64::MAX);
        Ok(Record { at_ns, name: Arc::clone(&name), value, latency_s: None })
    };
    data.iter().enumerate().map(record).collect()
}

/// `time_days,node,event`: a node is away from `fault_start` to `fault_end`; faults of one node may overlap.
pub(super) fn infinitehbd(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let table = text.table()?;
    let (time, node) = (table.column(&["time_days"])?, table.column(&["node"])?);
    let event = table.column(&["event"])?;
    let mut events = Vec::with_capacity(table.rows.len());
    for &row in &table.rows {
        let start = match table.field(row, event)? {
            "fault_start" => true,
            "fault_end" => false,
            other => {
                let message = format!("unknown event `{other}`");
                return Err(text.fault(row, &message, "`fault_start` or `fault_end`"));
            }
        };
        let at = text.time(row, table.number(row, time)? * 86_400.0)?;
        events.push((at, table.field(row, node)?, start));
    }
    // An end and a start of one instant: the end first.
    events.sort_by_key(|e| (e.0, e.2));
    let mut names = Names::default();
    let mut open: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
    let mut records = Vec::new();
    for (at_ns, node, start) in events {
        let faults = open.entry(node).or_insert_with(|| {
            records.push(Record { at_ns: 0, name: names.get(node), value: 1.0, latency_s: None });
            0
        });
        *faults = if start { *faults + 1 } else { faults.saturating_sub(1) };
        let value = f64::from(u8::from(*faults == 0));
        records.push(Record { at_ns, name: names.get(node), value, latency_s: None });
    }
    Ok(records)
}
