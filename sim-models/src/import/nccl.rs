//! Measured collectives: logs of nccl-tests (rccl-tests) and records of NCCL's (RCCL's) Inspector.
//!
//! nccl-tests prints a table of sizes, out of place and in place; what ran, on how many ranks and which GPUs stands in its
//! comments and in the command, if the log has it. Launchers' prefixes (`[1,0]<stdout>:`, `[0] `, `3: `) are cut off.
//! The Inspector writes one JSON object a collective, a line or several each; its sizes of all-gathers and
//! reduce-scatters are one rank's part (plugins/profiler/inspector/inspector.cc) and are made whole here.

use super::{Context, ImportError, error, time};
use crate::collective::CollectiveKind;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// One measured collective. Sizes as in [`crate::collective`].
#[derive(Clone, Debug, PartialEq)]
pub struct CollectiveTime {
    /// What.
    pub kind: CollectiveKind,
    /// How much, above 0.
    pub bytes: u64,
    /// Among how many ranks, at least 1.
    pub ranks: u32,
    /// On how many nodes, at least 1.
    pub nodes: u32,
    /// The GPU, as the file names it.
    pub gpu: Option<String>,
    /// In place; `None` where the file does not say.
    pub in_place: Option<bool>,
    /// Time, s.
    pub seconds: f64,
}

/// Reads a log of nccl-tests. `kind` is for logs that do not say which test ran, and before it the file's name.
///
/// # Errors
/// No table, no ranks, an operation that neither the log nor its name nor `kind` says, a row that does not read.
pub fn nccl_tests(
    text: &str,
    kind: Option<CollectiveKind>,
    context: &Context,
) -> Result<Vec<CollectiveTime>, ImportError> {
    let said = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).find_map(test_name);
    let kind = said.or_else(|| named(&context.file)).or(kind).ok_or_else(|| {
        error(
            context,
            "whole file",
            "it does not say which test ran: expected a line with `all_reduce_perf` or the like, or a file called so"
                .into(),
        )
    })?;
    let (mut ranks, mut hosts, mut gpu) = (BTreeSet::new(), BTreeSet::new(), None);
    let mut times = Vec::new();
    for (number, line) in (1u64..).zip(text.lines()) {
        let line = without_prefix(line);
        if let Some(device) = device(line) {
            ranks.insert(device.0);
            hosts.insert(device.1);
            gpu = gpu.or(device.2);
        } else if let Some((bytes, figures)) = table_row(line) {
            let place = format!("line {number}");
            let wrong = || {
                error(
                    context,
                    &place,
                    "expected size, count, type, then time, algbw, busbw and errors twice".into(),
                )
            };
            // A root stands before eight figures.
            let figures =
                figures.get(figures.len().saturating_sub(8)..).filter(|f| f.len() == 8).ok_or_else(wrong)?;
            for (column, in_place) in [(0, false), (4, true)] {
                if bytes > 0 && figures[column] != "N/A" {
                    let us: f64 = figures[column].parse().map_err(|_| wrong())?;
                    times.push((bytes, in_place, time(context, &place, us, 1e-6)?));
                }
            }
        }
    }
    if ranks.is_empty() || times.is_empty() {
        let what = "expected nccl-tests' table, and a line `# Rank ...` for each rank before it";
        return Err(error(context, "whole file", what.into()));
    }
    let (ranks, nodes) = (ranks.len() as u32, hosts.len() as u32);
    let whole = |(bytes, in_place, seconds)| {
        let gpu = gpu.map(str::to_string);
        CollectiveTime { kind, bytes, ranks, nodes, gpu, in_place: Some(in_place), seconds }
    };
    Ok(times.into_iter().map(whole).collect())
}

fn test_name(word: &str) -> Option<CollectiveKind> {
    let name = word.strip_suffix("_perf").or_else(|| word.strip_suffix("_perf_mpi"))?;
    CollectiveKind::from_name(name)
}

/// The test that a file is named after: `all_reduce.log`, `h100-alltoall-2n.txt`.
fn named(path: &str) -> Option<CollectiveKind> {
    let plain = |s: &str| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let stem = plain(std::path::Path::new(path).file_stem()?.to_str()?);
    let mut kinds = CollectiveKind::ALL.into_iter().filter(|kind| stem.contains(&plain(kind.name())));
    kinds.next().filter(|_| kinds.next().is_none())
}

/// A line without what a launcher put before it.
fn without_prefix(line: &str) -> &str {
    let mut line = line.trim_start();
    while let Some(rest) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        line = rest.1.trim_start();
    }
    for mark in ["<stdout>:", "<stderr>:"] {
        line = line.strip_prefix(mark).unwrap_or(line);
    }
    if let Some((label, rest)) = line.split_once(": ")
        && label.chars().all(|c| c.is_ascii_digit())
    {
        line = rest;
    }
    line.trim_start()
}

/// Rank, host and GPU of `#  Rank  0 Group  0 Pid 1 on host device  0 [0x07] NVIDIA A100-SXM4-80GB`.
fn device(line: &str) -> Option<(u32, &str, Option<&str>)> {
    let rest = line.strip_prefix('#')?.trim_start().strip_prefix("Rank")?;
    let rank = rest.split_whitespace().next()?.parse().ok()?;
    let host = rest.split_once(" on ")?.1.split_whitespace().next()?;
    let gpu = rest.rsplit_once(']').map(|(_, name)| name.trim()).filter(|name| !name.is_empty());
    Some((rank, host, gpu))
}

/// Size and figures of a row: size, count, a type's name, perhaps an operation's, then figures.
fn table_row(line: &str) -> Option<(u64, Vec<&str>)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [size, count, kind, rest @ ..] = words.as_slice() else { return None };
    let bytes = size.parse().ok().filter(|_| count.parse::<u64>().is_ok())?;
    kind.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(())?;
    let is_word = |w: &&&str| w.starts_with(|c: char| c.is_ascii_alphabetic()) && **w != "N/A";
    Some((bytes, rest.iter().skip_while(is_word).copied().collect()))
}

#[derive(Deserialize)]
struct Record {
    header: Header,
    coll_perf: Option<Performance>,
}

#[derive(Deserialize)]
struct Header {
    n_ranks: u32,
    nnodes: u32,
}

#[derive(Deserialize)]
struct Performance {
    coll: String,
    coll_msg_size_bytes: u64,
    coll_exec_time_us: f64,
}

/// Reads records of the Inspector: JSON objects one after another. Operations that this crate has no cost for are left
/// out.
///
/// # Errors
/// An object that is none of its records, a time or a number of ranks out of range, no record at all.
pub fn inspector(text: &str, context: &Context) -> Result<Vec<CollectiveTime>, ImportError> {
    let mut times = Vec::new();
    for (number, record) in (1u64..).zip(serde_json::Deserializer::from_str(text).into_iter::<Record>()) {
        let place = format!("record {number}");
        let record = record.map_err(|e| {
            error(context, &place, format!("{e}: expected the Inspector's `header` and `coll_perf`"))
        })?;
        let (ranks, nodes) = (record.header.n_ranks, record.header.nnodes);
        if ranks == 0 || nodes == 0 || nodes > ranks {
            return Err(error(
                context,
                &place,
                format!("{ranks} ranks on {nodes} nodes: expected 1 or more, no more nodes than ranks"),
            ));
        }
        let Some(measured) = record.coll_perf else { continue };
        let Some(kind) = CollectiveKind::from_name(&measured.coll) else { continue };
        let parts = match kind {
            CollectiveKind::AllGather | CollectiveKind::ReduceScatter => u64::from(ranks),
            _ => 1,
        };
        let bytes = measured.coll_msg_size_bytes.saturating_mul(parts);
        if bytes > 0 {
            let seconds = time(context, &place, measured.coll_exec_time_us, 1e-6)?;
            times.push(CollectiveTime { kind, bytes, ranks, nodes, gpu: None, in_place: None, seconds });
        }
    }
    if times.is_empty() {
        return Err(error(
            context,
            "whole file",
            "holds no collective: expected the Inspector's JSON records".into(),
        ));
    }
    Ok(times)
}

/// As a CSV that `tideplan validate --collectives` reads. `gpu` stands where the file named none.
pub fn to_csv(times: &[CollectiveTime], source: &str, gpu: &str, inter: &str) -> String {
    let quoted = |s: &str| format!("\"{}\"", s.replace('"', "\"\"").replace(['\n', '\r'], " "));
    let mut text =
        "source,collective,gpu,gpus,nodes,gpus_per_node,inter_link,size_bytes,time_us,inplace\n".to_string();
    for t in times {
        let in_place = t.in_place.map_or("", |yes| if yes { "1" } else { "0" });
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{in_place}",
            quoted(source),
            t.kind.name(),
            quoted(t.gpu.as_deref().unwrap_or(gpu)),
            t.ranks,
            t.nodes,
            t.ranks.div_ceil(t.nodes),
            quoted(inter),
            t.bytes,
            format_args!("{:.3}", t.seconds * 1e6),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
mpirun -np 4 ./build/all_reduce_perf -b 8 -e 1G
[1,0]<stdout>:# nThread 1 nGpus 1 minBytes 8 maxBytes 1073741824 step: 2(factor)
[1,0]<stdout>:#  Rank  0 Group  0 Pid 11 on node1 device  0 [0x07] NVIDIA A100-SXM4-80GB
[1,0]<stdout>:#  Rank  1 Group  0 Pid 12 on node1 device  1 [0x0b] NVIDIA A100-SXM4-80GB
#  Rank  2 Group  0 Pid 13 on node2 device  0 [0x07] NVIDIA A100-SXM4-80GB
#  Rank  3 Group  0 Pid 14 on node2 device  1 [0x0b] NVIDIA A100-SXM4-80GB
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
[1,0]<stdout>:           0             0     float     sum      -1     5.70    0.00    0.00      0     5.54    0.00    0.00      0
[1,0]<stdout>:           8             2     float     sum      -1    21.50    0.00    0.00      0    20.75    0.00    0.00    N/A
[0]   1073741824     268435456     float     sum      -1    35215   30.49   45.74      0    35198   30.51   45.76      0
  2147483648     536870912     float     sum    70253   15.28   29.61  1e-06    70207   15.29   29.63  1e-06
# Avg bus bandwidth    : 12.5
";

    #[test]
    fn a_log_reads() {
        let times = nccl_tests(LOG, None, &Context::default()).unwrap();
        let got: Vec<(u64, Option<bool>, f64)> =
            times.iter().map(|t| (t.bytes, t.in_place, t.seconds)).collect();
        let us = |us: f64| us * 1e-6;
        let (out, inside) = (Some(false), Some(true));
        assert_eq!(
            got,
            [
                (8, out, us(21.5)),
                (8, inside, us(20.75)),
                (1 << 30, out, us(35215.0)),
                (1 << 30, inside, us(35198.0)),
                (1 << 31, out, us(70253.0)),
                (1 << 31, inside, us(70207.0)),
            ]
        );
        let first = &times[0];
        assert_eq!((first.kind, first.ranks, first.nodes), (CollectiveKind::AllReduce, 4, 2));
        assert_eq!(first.gpu.as_deref(), Some("NVIDIA A100-SXM4-80GB"));
        let csv = to_csv(&times, "a \"log\"", "", "InfiniBand");
        assert!(
            csv.contains(
                "\"a \"\"log\"\"\",all_reduce,\"NVIDIA A100-SXM4-80GB\",4,2,2,\"InfiniBand\",8,21.5"
            ),
            "{csv}"
        );
    }

    #[test]
    fn records_read() {
        let record = |coll: &str, size: u64, us: &str| {
            format!(
                "{{\"header\": {{\"id\": \"0x7f\", \"rank\": 2, \"n_ranks\": 8, \"nnodes\": 1}},\n \"coll_perf\": \
                 {{\"coll\": \"{coll}\", \"coll_sn\": 1, \"coll_msg_size_bytes\": {size}, \"coll_exec_time_us\": {us}}}}}\n"
            )
        };
        let text =
            record("AllReduce", 100, "5") + &record("ReduceScatter", 100, "6.5") + &record("Gather", 1, "1");
        let times = inspector(&text, &Context::default()).unwrap();
        let got: Vec<(CollectiveKind, u64, f64)> =
            times.iter().map(|t| (t.kind, t.bytes, t.seconds)).collect();
        let (reduce, scatter) = (CollectiveKind::AllReduce, CollectiveKind::ReduceScatter);
        assert_eq!(got, [(reduce, 100, 5.0 * 1e-6), (scatter, 800, 6.5 * 1e-6)]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let log = |text: &str, says: &str| {
            let error = nccl_tests(text, None, &Context::default()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        log("", "which test ran");
        log("all_reduce_perf", "`# Rank ...`");
        let without = LOG.replace("all_reduce_perf", "test");
        for (file, known) in
            [("a/All-Reduce_2n.log", true), ("run.log", false), ("allreduce_allgather", false)]
        {
            let context = Context { file: file.into(), ..Context::default() };
            assert_eq!(nccl_tests(&without, None, &context).is_ok(), known, "{file}");
        }
        log(&LOG.replace("35215", "fast"), "line 11");
        log(&LOG.replace("35215", "-1"), "expected above 0");
        log(&LOG.replace("1e-06    70207   15.29   29.63  1e-06", ""), "line 12");
        for (text, says) in [
            ("", "no collective"),
            ("{}", "record 1"),
            ("{\"header\":{\"n_ranks\":0,\"nnodes\":0}}", "0 ranks"),
        ] {
            let error = inspector(text, &Context::default()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(all_reduce_perf|[#\\[\\]{}:\", 0-9a-zA-Z./-]|\n){0,200}") {
            let _ = nccl_tests(&text, Some(CollectiveKind::AllReduce), &Context::default());
            let _ = inspector(&text, &Context::default());
        }
    }
}
