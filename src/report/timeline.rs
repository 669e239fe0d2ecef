//! An iteration as a Chrome trace, which Perfetto opens: a process for each node with a row for each device's compute and
//! communication, one for the links, and arrows from each transfer to the pass that waits for it.

use serde_json::{Value, json};
use sim_core::SimTime;
use sim_models::iteration::{Simulator, Span};
use sim_models::layout::Layout;
use sim_models::scenario::{NodeId, Scenario};
use sim_models::workload_trace as trace;
use std::collections::BTreeMap;

/// Rows of a device, in the order in which they are shown.
const ROWS: [&str; 5] = ["compute", "to next stage", "to previous stage", "gradients", "inside layers"];
const LINKS: u64 = 0;

struct Writer<'a> {
    scenario: &'a Scenario,
    layout: &'a Layout,
    /// The job, where there are several.
    job: Option<&'a str>,
    events: Vec<Value>,
    /// Process of each node, and row of each link.
    nodes: BTreeMap<NodeId, u64>,
    links: BTreeMap<String, u64>,
    arrows: u64,
}

/// The trace of the simulator's last run: of each job its name, where there are several, and its layout.
pub(crate) fn chrome(
    scenario: &Scenario,
    jobs: &[(Option<&str>, &Layout)],
    simulator: &Simulator<'_>,
) -> Value {
    let Some((_, layout)) = jobs.first() else { return json!({ "traceEvents": [] }) };
    let mut writer = Writer {
        scenario,
        layout,
        job: None,
        events: Vec::new(),
        nodes: BTreeMap::new(),
        links: BTreeMap::new(),
        arrows: 0,
    };
    for (index, (job, layout)) in jobs.iter().enumerate() {
        (writer.job, writer.layout) = (*job, layout);
        // Where each pass starts: arrows end there.
        let mut passes: BTreeMap<(usize, bool, u32), SimTime> = BTreeMap::new();
        // The first part of a pass that is several tasks is where it starts.
        simulator.spans_of(index, layout, |span, start, _| {
            if let Span::Forward { rank, micro_batch } | Span::Backward { rank, micro_batch } = span {
                passes.entry((rank, matches!(span, Span::Forward { .. }), micro_batch)).or_insert(start);
            }
        });
        simulator.spans_of(index, layout, |span, start, end| writer.span(span, start, end, &passes));
    }
    writer.name_rows();
    json!({ "displayTimeUnit": "ms", "traceEvents": writer.events })
}

impl Writer<'_> {
    fn span(
        &mut self,
        span: Span,
        start: SimTime,
        end: SimTime,
        passes: &BTreeMap<(usize, bool, u32), SimTime>,
    ) {
        match span {
            Span::Forward { rank, micro_batch } => {
                self.on_devices(rank, 0, format!("F{micro_batch}"), "forward", start, end);
            }
            Span::Backward { rank, micro_batch } => {
                self.on_devices(rank, 0, format!("B{micro_batch}"), "backward", start, end);
            }
            Span::Weight { rank, micro_batch } => {
                self.on_devices(rank, 0, format!("W{micro_batch}"), "weight", start, end);
            }
            Span::Update { rank } => self.on_devices(rank, 0, "update".into(), "update", start, end),
            Span::Transfer { from, to, micro_batch, forward: down } => {
                let name = format!("{}{micro_batch}", if down { "f" } else { "b" });
                self.on_devices(from, if down { 1 } else { 2 }, name.clone(), "transfer", start, end);
                let (a, b) = (self.layout.ranks[from].node(), self.layout.ranks[to].node());
                for link in self.links_between(a, b) {
                    self.on_link(
                        link,
                        format!("{name} {} to {}", self.place(from), self.place(to)),
                        start,
                        end,
                    );
                }
                if let Some(&consumer) = passes.get(&(to, down, micro_batch)) {
                    self.arrow(from, if down { 1 } else { 2 }, start, to, consumer);
                }
            }
            Span::Sync { rank, sync, kind } => {
                self.on_devices(rank, 3, format!("{kind} {sync}"), "gradients", start, end);
            }
            Span::Exchange { rank, exchange, micro_batch } => {
                let name = format!("{exchange} {micro_batch}");
                self.on_devices(rank, 4, name.clone(), "exchange", start, end);
                for node in self.layout.ranks[rank].nodes.clone() {
                    let group = &self.scenario.groups[node.group as usize].name;
                    for way in ["out", "in"] {
                        let link = format!("{group} node {} NIC {way}", node.index);
                        self.on_link(link, format!("{name} {}", self.place(rank)), start, end);
                    }
                }
            }
        }
    }

    fn place(&self, rank: usize) -> String {
        let (pipeline, stage) = (self.layout.ranks[rank].pipeline, self.layout.ranks[rank].stage);
        match self.job {
            Some(job) => format!("{job} p{pipeline} s{stage}"),
            None => format!("p{pipeline} s{stage}"),
        }
    }

    fn process(&mut self, node: NodeId) -> u64 {
        let next = self.nodes.len() as u64 + LINKS + 1;
        *self.nodes.entry(node).or_insert(next)
    }

    /// One slice on that row of each device of a rank.
    fn on_devices(&mut self, rank: usize, row: u64, name: String, kind: &str, start: SimTime, end: SimTime) {
        let layout = self.layout;
        let rank = &layout.ranks[rank];
        let pid = self.process(rank.node());
        for device in &rank.devices {
            let tid = u64::from(device.index) * ROWS.len() as u64 + row;
            let mut event = json!({
                "ph": "X", "name": name, "cat": kind, "pid": pid, "tid": tid, "ts": micros(start),
                "dur": micros(end) - micros(start),
                "args": { "pipeline": rank.pipeline, "stage": rank.stage },
            });
            if let Some(job) = self.job {
                event["args"]["job"] = job.into();
            }
            self.events.push(event);
        }
    }

    fn on_link(&mut self, link: String, name: String, start: SimTime, end: SimTime) {
        let next = self.links.len() as u64;
        let row = *self.links.entry(link).or_insert(next);
        // Transfers that share a link overlap: async slices stack.
        for (phase, at) in [("b", start), ("e", end)] {
            let id = format!("{row}-{}", self.arrows);
            self.events.push(json!({
                "ph": phase, "name": name, "cat": "link", "id": id, "pid": LINKS, "tid": row, "ts": micros(at),
            }));
        }
    }

    fn arrow(&mut self, from: usize, row: u64, start: SimTime, to: usize, end: SimTime) {
        self.arrows += 1;
        for (phase, rank, row, at) in [("s", from, row, start), ("f", to, 0, end)] {
            let layout = self.layout;
            let rank = &layout.ranks[rank];
            let tid = u64::from(rank.devices[0].index) * ROWS.len() as u64 + row;
            let pid = self.process(rank.node());
            self.events.push(json!({
                "ph": phase, "bp": "e", "name": "transfer", "cat": "transfer", "id": self.arrows, "pid": pid,
                "tid": tid, "ts": micros(at),
            }));
        }
    }

    /// The NICs, the leaves' uplinks and the zone link that a transfer from `a` to `b` uses.
    fn links_between(&self, a: NodeId, b: NodeId) -> Vec<String> {
        if a == b {
            return Vec::new();
        }
        let group = |n: NodeId| &self.scenario.groups[n.group as usize];
        let mut links = vec![
            format!("{} node {} NIC out", group(a).name, a.index),
            format!("{} node {} NIC in", group(b).name, b.index),
        ];
        let (from, to) = (&group(a).zone, &group(b).zone);
        for (node, own, up) in [(a, self.scenario.pod(a), "up"), (b, self.scenario.pod(b), "down")] {
            if self.scenario.pod(a) != self.scenario.pod(b)
                && let (Some(pod), Some(leaves)) = (own, group(node).leaves)
            {
                let leaves = &self.scenario.leaves[pod as usize..(pod + leaves.rails) as usize];
                links.extend(leaves.iter().map(|l| format!("{} {up}", l.name)));
            }
        }
        if from != to {
            links.extend(self.scenario.zone_link(from, to).map(|(_, l)| format!("{} from {from}", l.name)));
        }
        links
    }

    fn name_rows(&mut self) {
        let mut names = Vec::new();
        let meta = |what: &str, pid: u64, tid: u64, name: String| json!({ "ph": "M", "name": what, "pid": pid, "tid": tid, "args": { "name": name } });
        names.push(meta("process_name", LINKS, 0, "links".into()));
        for (link, row) in &self.links {
            names.push(meta("thread_name", LINKS, *row, link.clone()));
        }
        for (node, pid) in &self.nodes {
            let group = &self.scenario.groups[node.group as usize];
            names.push(meta(
                "process_name",
                *pid,
                0,
                format!("{} node {} ({})", group.name, node.index, group.gpu.name),
            ));
            for index in node.index * group.gpus_per_node..(node.index + 1) * group.gpus_per_node {
                for (row, what) in ROWS.iter().enumerate() {
                    let tid = u64::from(index) * ROWS.len() as u64 + row as u64;
                    names.push(meta("thread_name", *pid, tid, format!("{}:{index} {what}", group.name)));
                }
            }
        }
        names.append(&mut self.events);
        self.events = names;
    }
}

/// The trace of another tool's job: a process for each rank, with rows for its GPU, its host and its communication.
pub(crate) fn ranks<'a>(spans: &[trace::Span], name: impl Fn(u32, u64) -> &'a str) -> Value {
    const ROWS: [&str; 3] = ["compute", "host", "communication"];
    let mut ranks: Vec<u32> = spans.iter().map(|s| s.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let meta = |what: &str, pid: u32, tid: usize, name: String| json!({ "ph": "M", "name": what, "pid": pid, "tid": tid, "args": { "name": name } });
    let mut events = Vec::new();
    for rank in ranks {
        events.push(meta("process_name", rank, 0, format!("rank {rank}")));
        events.extend(
            ROWS.iter().enumerate().map(|(row, what)| meta("thread_name", rank, row, (*what).into())),
        );
    }
    events.extend(spans.iter().map(|span| {
        let (start, end) = (SimTime::from_ps(span.start_ps), SimTime::from_ps(span.end_ps));
        json!({
            "ph": "X", "name": name(span.rank, span.node), "cat": ROWS[span.row as usize % ROWS.len()],
            "pid": span.rank, "tid": span.row, "ts": micros(start), "dur": micros(end) - micros(start),
            "args": { "node": span.node },
        })
    }));
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

/// Microseconds, the unit of the format.
fn micros(t: SimTime) -> f64 {
    t.as_ps() as f64 / 1e6
}
