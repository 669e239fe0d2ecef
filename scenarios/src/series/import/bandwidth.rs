//! Bandwidth and load: Skyplane's grids, pairs of regions over time, Mahimahi, iperf3, SimGrid, switch ports.

use super::text::{Line, Text};
use crate::fault::Fault;
use crate::series::{Record, nanoseconds};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names, each kept once.
#[derive(Default)]
pub(super) struct Names(BTreeMap<String, Arc<str>>);

impl Names {
    pub(super) fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.0.insert(name.into(), Arc::clone(&new));
        new
    }
}

/// Skyplane's `throughput.csv` and tables made of it. A grid is measured once: campaigns, where the file has several,
/// are points in time; a pair measured several times in one has their mean. Tiers other than premium are in the name.
pub(super) fn skyplane(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let table = text.table()?;
    let (src, dst) = (table.column(&["src_region"])?, table.column(&["dst_region"])?);
    let value = table.column(&["throughput_received_bps", "throughput_received", "throughput_sent"])?;
    let tiers = [table.find("src_tier"), table.find("dst_tier")];
    let (start, success) = (table.find("experiment_start"), table.find("success"));
    let mut sums: BTreeMap<(String, u64), (f64, u32)> = BTreeMap::new();
    for &row in &table.rows {
        if let Some(s) = success
            && !table.field(row, s)?.eq_ignore_ascii_case("true")
        {
            continue;
        }
        let tier = |column: Option<usize>| -> Result<String, Fault> {
            let Some(column) = column else { return Ok(String::new()) };
            let tier = table.field(row, column)?;
            Ok(if tier.is_empty() || tier == "PREMIUM" { String::new() } else { format!("({tier})") })
        };
        let name = format!(
            "{}{}->{}{}",
            table.field(row, src)?,
            tier(tiers[0])?,
            table.field(row, dst)?,
            tier(tiers[1])?
        );
        let at = match start {
            Some(column) => campaign(table.field(row, column)?)
                .ok_or_else(|| text.fault(row, "the campaign's start is not as `2022.01.29_22.19`", ""))?,
            None => 0,
        };
        let sum = sums.entry((name, at)).or_default();
        *sum = (sum.0 + table.number(row, value)?, sum.1 + 1);
    }
    let first = sums.keys().map(|k| k.1).min().unwrap_or(0);
    let mut names = Names::default();
    let record = |((name, at), (sum, n)): ((String, u64), (f64, u32))| Record {
        at_ns: (at - first).saturating_mul(1_000_000_000),
        name: names.get(&name),
        value: sum / f64::from(n),
        latency_s: None,
    };
    Ok(sums.into_iter().map(record).collect())
}

/// Seconds since 1970 of `2022.01.29_22.19`.
fn campaign(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text.split(['.', '_', '-', ':']).map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let &[year, month, day, hour, minute] = parts.get(..5)? else { return None };
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
    {
        return None;
    }
    // Days from civil, after Howard Hinnant's formula.
    let y = year - u64::from(month <= 2);
    let (era, of_era) = (y / 400, y % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60)
}

/// `time_s,link_or_pair,bandwidth_bps` of several runs: times of a pair that come twice are apart by what follows.
pub(super) fn pairs(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let table = text.table()?;
    let (time, pair) = (table.column(&["time_s"])?, table.column(&["link_or_pair", "pair", "link"])?);
    let value = table.column(&["bandwidth_bps"])?;
    let (latency, rtt) = (table.find("latency_s"), table.find("rtt_s"));
    let mut names = Names::default();
    let mut records = Vec::with_capacity(table.rows.len());
    for &row in &table.rows {
        let seconds = |column: usize, by: f64| -> Result<Option<f64>, Fault> {
            if table.field(row, column)?.is_empty() {
                Ok(None)
            } else {
                Ok(Some(table.number(row, column)? * by))
            }
        };
        let latency_s = match (latency, rtt) {
            (Some(column), _) => seconds(column, 1.0)?,
            (None, Some(column)) => seconds(column, 0.5)?,
            (None, None) => None,
        };
        let at_ns = text.time(row, table.number(row, time)?)?;
        let name = names.get(table.field(row, pair)?);
        records.push(Record { at_ns, name, value: table.number(row, value)?, latency_s });
    }
    Ok(records)
}

/// Bytes of a packet that Mahimahi delivers at a time.
const MTU: f64 = 1_504.0;

/// One line a chance to deliver, in ms; the last line is the period, after which it repeats.
pub(super) fn mahimahi(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    const BIN_MS: u64 = 1_000;
    // A trace of a day; more is a file of another kind.
    const MOST_MS: u64 = 31 * 86_400_000;
    let mut bins: Vec<u64> = Vec::new();
    let mut last = 0u64;
    for line in text.lines() {
        let ms = line.text.parse::<u64>().ok().filter(|ms| *ms <= MOST_MS);
        let Some(ms) = ms else {
            return Err(text.fault(
                line,
                "not a whole number of milliseconds",
                "a line is one chance to deliver a packet",
            ));
        };
        if ms < last {
            return Err(text.fault(line, &format!("time goes backwards: {ms} ms after {last} ms"), ""));
        }
        last = ms;
        let bin = (ms / BIN_MS) as usize;
        if bins.len() <= bin {
            bins.resize(bin + 1, 0);
        }
        bins[bin] += 1;
    }
    // The last bin is as long as the trace reaches into it.
    let name: Arc<str> = "link".into();
    let count = bins.len() as u64;
    let record = |(i, packets): (u64, u64)| {
        let length = if i + 1 == count { (last % BIN_MS + 1).max(1) } else { BIN_MS };
        let value = packets as f64 * MTU * 8.0 * 1e3 / length as f64;
        Record { at_ns: i * BIN_MS * 1_000_000, name: Arc::clone(&name), value, latency_s: None }
    };
    Ok((0..).zip(bins).map(record).collect())
}

/// `iperf3 --json`: one point an interval that is not omitted.
pub(super) fn iperf3(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let json: serde_json::Value = serde_json::from_str(text.text).map_err(|e| {
        text.fault_of_file("T0402", &format!("not JSON: {e}"), "the output of `iperf3 --json`")
    })?;
    if let Some(error) = json["error"].as_str() {
        return Err(text.fault_of_file("T0402", &format!("iperf3 failed: {error}"), ""));
    }
    let Some(intervals) = json["intervals"].as_array() else {
        return Err(text.fault_of_file("T0402", "there are no `intervals`", "the output of `iperf3 --json`"));
    };
    let to = json["start"]["connected"][0]["remote_host"].as_str().unwrap_or("link");
    let name: Arc<str> = to.replace(',', " ").into();
    let mut records = Vec::new();
    let mut first = None;
    for (i, interval) in intervals.iter().enumerate() {
        let sum = &interval["sum"];
        if sum["omitted"].as_bool() == Some(true) {
            continue;
        }
        let (start, value) = (sum["start"].as_f64(), sum["bits_per_second"].as_f64());
        let (Some(start), Some(value)) = (start, value) else {
            let message = format!("interval {i} has no `sum.start` or no `sum.bits_per_second`");
            return Err(text.fault_of_file("T0402", &message, ""));
        };
        let base = *first.get_or_insert(start);
        let Some(at_ns) = nanoseconds(start - base) else {
            return Err(text.fault_of_file("T0403", &format!("interval {i} starts before the first"), ""));
        };
        let streams = interval["streams"].as_array().map_or(&[][..], Vec::as_slice);
        let rtts: Vec<f64> = streams.iter().filter_map(|s| s["rtt"].as_f64()).filter(|r| *r > 0.0).collect();
        // Round trips in microseconds; half of their mean is the way there.
        let latency_s = (!rtts.is_empty()).then(|| rtts.iter().sum::<f64>() / rtts.len() as f64 * 0.5e-6);
        records.push(Record { at_ns, name: Arc::clone(&name), value, latency_s });
    }
    Ok(records)
}

/// SimGrid's bandwidth profile: `date value` lines with the value in bytes/s. `PERIODICITY p` and `LOOPAFTER d` say how it
/// repeats, which a scenario says by `wrap`: the end of the period is written as one more point.
pub(super) fn simgrid(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let name: Arc<str> = "link".into();
    let mut records: Vec<Record> = Vec::new();
    let (mut period, mut after) = (None, None);
    for line in text.lines() {
        let words: Vec<&str> = line.text.split_whitespace().collect();
        let number = |word: &str, what: &str| text.number(line, word, what);
        match words.as_slice() {
            [key, value] if key.eq_ignore_ascii_case("PERIODICITY") => {
                period = Some((line, number(value, key)?))
            }
            [key, value] if key.eq_ignore_ascii_case("LOOPAFTER") => {
                after = Some((line, number(value, key)?))
            }
            [at, value] => {
                let at_ns = text.time(line, number(at, "date")?)?;
                if records.last().is_some_and(|r| r.at_ns >= at_ns) {
                    return Err(text.fault(line, "time does not increase", ""));
                }
                let value = 8.0 * number(value, "value")?;
                records.push(Record { at_ns, name: Arc::clone(&name), value, latency_s: None });
            }
            _ => return Err(text.fault(line, "not a date and a value", "for example `12.0 40000000`")),
        }
    }
    let last = records.last().map_or(0, |r| r.at_ns);
    let end: Option<(Line<'_>, u64)> = match (period, after) {
        (Some((line, p)), _) => Some((line, text.time(line, p)?)),
        (None, Some((line, d))) => Some((line, last.saturating_add(text.time(line, d)?))),
        (None, None) => None,
    };
    if let Some((line, end)) = end {
        if end <= last && !records.is_empty() {
            return Err(text.fault(line, "the period does not reach past the last point", ""));
        }
        let value = records.first().map_or(0.0, |r| r.value);
        records.push(Record { at_ns: end, name, value, latency_s: None });
    }
    Ok(records)
}

/// Octet counters of ports as rates: a full-duplex link is as busy as its busier direction.
pub(super) fn zhejiang(text: &Text<'_>) -> Result<Vec<Record>, Fault> {
    let table = text.table()?;
    let (time, link) = (table.column(&["time_s"])?, table.column(&["link"])?);
    let (into, out) = (table.column(&["in_bps"])?, table.column(&["out_bps"])?);
    let mut names = Names::default();
    let mut records = Vec::with_capacity(table.rows.len());
    for &row in &table.rows {
        records.push(Record {
            at_ns: text.time(row, table.number(row, time)?)?,
            name: names.get(table.field(row, link)?),
            value: table.number(row, into)?.max(table.number(row, out)?),
            latency_s: None,
        });
    }
    Ok(records)
}
