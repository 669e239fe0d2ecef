//! `[network]`: rates between nodes, and the shared links between zones.

use super::Context;
use super::background::{self, Loads};
use super::changes::{Bound, traces};
use super::cluster::curves;
use super::happen::{self, Happenings};
use crate::fault::{At, Faults};
use crate::format::{LinkTable, ScenarioFile};
use crate::nearest::suggestion;
use crate::read::Name;
use sim_core::{CapacityProfile, Rate, SimDuration};
use sim_models::link::{LinkModel, fitted, fitted_between_nodes};
use sim_models::replay::LinkChanges;
use sim_models::scenario::{NodeGroup, ZoneLink};
use sim_models::timeline::Timeline;
use std::collections::{BTreeMap, BTreeSet};

/// `[a][b]`: from a node of group `a` to another, of group `b`.
pub(super) fn node_links(
    file: &ScenarioFile,
    groups: &[NodeGroup],
    zone_links: &[ZoneLink],
    faults: &mut Faults,
) -> Option<Vec<Vec<LinkModel>>> {
    let network = file.network.as_ref().map(|n| &n.value);
    if let Some(rate) = network.and_then(|n| n.rate.as_ref()) {
        if let Some(curves) = network.and_then(|n| n.curves.as_ref()) {
            faults.push(
                curves.place,
                "T0310",
                "`curves` and `rate` both say the rate between nodes",
                "keep one of them",
            );
        }
        let latency_s = network.and_then(|n| n.latency.as_ref()).map_or(0.0, |l| l.value.0.as_secs_f64());
        let link = LinkModel::constant(rate.value.0.as_bytes_per_s(), latency_s);
        return Some(vec![vec![link; groups.len()]; groups.len()]);
    }
    if let Some(latency) = network.and_then(|n| n.latency.as_ref()) {
        let message = "`latency` without `rate`: the curves contain theirs";
        faults.push(
            latency.place,
            "T0310",
            message,
            "give a `rate` too, or a latency to the link between the zones",
        );
    }
    let tables = &file.nodes.as_ref()?.value;
    let link_tables = network.and_then(|n| n.links.as_ref()).map_or(0, |l| l.value.len());
    let mut links = Vec::with_capacity(groups.len());
    let mut complete = true;
    for (a, from) in groups.iter().enumerate() {
        let mut row = Vec::with_capacity(groups.len());
        for (b, to) in groups.iter().enumerate() {
            match between(from, to, zone_links) {
                Some(link) => row.push(link),
                // A single node has nobody of its group to talk to.
                None if a == b && from.nodes == 1 => {
                    row.push(LinkModel::constant(from.gpu.memory_bandwidth, 0.0))
                }
                None => {
                    complete = false;
                    // A link whose zones are at fault may be the one that is wanted here.
                    if a <= b && zone_links.len() == link_tables {
                        let message = if from.zone == to.zone {
                            format!(
                                "no rate was measured between nodes of `{}` and `{}`",
                                from.gpu.name, to.gpu.name
                            )
                        } else {
                            format!("no rate is known between the zones `{}` and `{}`", from.zone, to.zone)
                        };
                        let help =
                            "give `[network]` a `rate`, or the two zones a link in `[[network.links]]`";
                        let help = if from.zone == to.zone { "give `[network]` a `rate`" } else { help };
                        faults.push(tables[b].place, "T0308", message, help);
                    }
                }
            }
        }
        links.push(row);
    }
    complete.then_some(links)
}

/// By the shipped curves: of the two zones where they were measured; between zones with a link of their own, which gives
/// the capacity, else those of two nodes in one zone.
fn between(from: &NodeGroup, to: &NodeGroup, zone_links: &[ZoneLink]) -> Option<LinkModel> {
    let (a, b) = (from.gpu.name.as_str(), to.gpu.name.as_str());
    let near = || fitted_between_nodes(&from.zone, a, b);
    let found = if from.zone == to.zone {
        near()
    } else {
        let measured = fitted(&from.zone, a, &to.zone, b).or_else(|| fitted(&to.zone, b, &from.zone, a));
        let joined = |l: &ZoneLink| {
            (l.zones.0 == from.zone && l.zones.1 == to.zone)
                || (l.zones.1 == from.zone && l.zones.0 == to.zone)
        };
        measured.or_else(|| if zone_links.iter().any(joined) { near() } else { None })
    };
    found.map(|c| curves(c))
}

/// Links between zones, what changes on them, what else happens, what others send, and the traces of other links.
pub(super) struct Links {
    pub(super) zone_links: Vec<ZoneLink>,
    pub(super) changes: Vec<LinkChanges>,
    pub(super) happenings: Happenings,
    pub(super) loads: Loads,
    pub(super) traces: BTreeMap<String, Option<Bound>>,
}

/// The links between zones, with their traces and events. `others` are the names of the links that are none of them.
pub(super) fn zone_links(file: &ScenarioFile, others: &[String], cx: &mut Context<'_>) -> Links {
    let no_links = Vec::new();
    let tables = file.network.as_ref().and_then(|n| n.value.links.as_ref()).map_or(&no_links, |l| &l.value);
    let own = tables.iter().filter_map(|l| l.value.name.as_ref()).map(|n| n.value.0.as_str());
    let names: Vec<&str> = own.chain(others.iter().map(String::as_str)).collect();
    let mut traces = traces(file, &names, cx);
    let ends = tables.iter().filter_map(|l| {
        let ends = l.value.between.as_ref()?.value.iter().map(|z| z.value.0.as_str()).collect();
        Some((l.value.name.as_ref()?.value.0.as_str(), ends))
    });
    let ends = ends.collect();
    let happenings = happen::read(file, &names, &ends, cx.faults);
    let loads = background::read(file, &names, &ends, cx);
    let zones: BTreeSet<&str> = file
        .nodes
        .iter()
        .flat_map(|n| &n.value)
        .map(|n| n.value.zone.as_ref().map_or("default", |z| z.value.0.as_str()))
        .collect();
    let zones: Vec<&str> = zones.into_iter().collect();
    let mut seen_names = BTreeSet::new();
    let mut seen_pairs = BTreeSet::new();
    let (mut links, mut changes) = (Vec::new(), Vec::new());
    for table in tables {
        let t = &table.value;
        let Some(name) = &t.name else { continue };
        if !seen_names.insert(name.value.0.as_str()) || others.contains(&name.value.0) {
            let message = format!("two links are called `{}`", name.value.0);
            cx.faults.push(name.place, "T0301", message, "each needs a name of its own");
            continue;
        }
        let pair = t.between.as_ref().and_then(|b| pair(b, &zones, &mut seen_pairs, cx.faults));
        let trace = traces.remove(name.value.0.as_str());
        // A link at fault stays, so that its zones count as joined; its scenario is not used.
        let at_fault = (CapacityProfile::constant(Rate::ZERO), Timeline::constant(0), SimDuration::ZERO);
        let (mut capacity, mut line, latency) = capacity(t, trace, cx.faults).unwrap_or(at_fault);
        let Some(zones) = pair else { continue };
        if let Some(stretches) = happenings.capacity.get(&name.value.0).filter(|s| !s.is_empty()) {
            line = line.overlaid(stretches.clone());
            capacity = line.profile(0);
        }
        let level = t.capacity.as_ref().map(|c| c.value.0);
        if let Some(left) = loads.less(&name.value.0, &line, level, cx.faults) {
            line = left;
            capacity = line.profile(0);
        }
        let waits = Timeline::constant(latency.as_ps());
        let waits = waits.overlaid(happenings.latency.get(&name.value.0).cloned().unwrap_or_default());
        let at_start = SimDuration::from_ps(waits.at(0));
        changes.push(LinkChanges { capacity: line, latency: waits, history: None });
        links.push(ZoneLink { name: name.value.0.clone(), zones, capacity, latency: at_start });
    }
    Links { zone_links: links, changes, happenings, loads, traces }
}

fn pair(
    between: &At<Vec<At<Name>>>,
    zones: &[&str],
    seen: &mut BTreeSet<(String, String)>,
    faults: &mut Faults,
) -> Option<(String, String)> {
    let before = faults.count();
    for zone in between.value.iter().filter(|zone| !zones.contains(&zone.value.0.as_str())) {
        let message = format!("no nodes are in the zone `{}`", zone.value.0);
        faults.push(zone.place, "T0307", message, suggestion(&zone.value.0, zones));
    }
    if faults.count() > before {
        return None;
    }
    let [a, b] = between.value.as_slice() else {
        let message = format!("a link joins two zones, not {}", between.value.len());
        faults.push(between.place, "T0307", message, "for example `between = [\"zone-a\", \"zone-b\"]`");
        return None;
    };
    let (a, b) = (&a.value.0, &b.value.0);
    if a == b {
        faults.push(
            between.place,
            "T0307",
            format!("the link joins the zone `{a}` to itself"),
            "name two zones",
        );
        return None;
    }
    if !seen.insert((a.min(b).clone(), a.max(b).clone())) {
        let message = format!("a second link between `{a}` and `{b}`");
        faults.push(between.place, "T0307", message, "write them as one, with the capacity of both");
        return None;
    }
    Some((a.clone(), b.clone()))
}

fn capacity(
    t: &LinkTable,
    trace: Option<Option<Bound>>,
    faults: &mut Faults,
) -> Option<(CapacityProfile, Timeline, SimDuration)> {
    let level = t.capacity.as_ref().map(|c| c.value.0);
    let needs_level = match &trace {
        None => true,
        // A trace at fault: whatever it needs is said when it is mended.
        Some(None) => false,
        Some(Some(bound)) => bound.unit.is_none() || bound.load,
    };
    if level.is_none() && needs_level {
        t.lacks("capacity", faults);
    }
    let bound = trace.flatten();
    let measured =
        bound.as_ref().and_then(|b| b.series.latency_s()).and_then(|s| SimDuration::from_secs_f64(s).ok());
    let latency = t.latency.as_ref().map(|l| l.value.0).or(measured);
    if latency.is_none() {
        t.lacks("latency", faults);
    }
    let (profile, line) = over_time(level, bound, faults)?;
    Some((profile, line, latency?))
}

/// The capacity of a link of so much, as its trace has it.
pub(super) fn over_time(
    level: Option<Rate>,
    bound: Option<Bound>,
    faults: &mut Faults,
) -> Option<(CapacityProfile, Timeline)> {
    let Some(mut bound) = bound else {
        return Some((CapacityProfile::constant(level?), Timeline::constant(level?.raw())));
    };
    let unit = match bound.unit {
        Some(unit) => unit,
        None => level?.as_bytes_per_s(),
    };
    let unit = unit * bound.scale;
    if bound.load {
        let full = level?.as_bytes_per_s() / unit;
        bound.series = bound.series.map(|load| (full - load).max(0.0));
    }
    let profile = bound.series.profile(unit, bound.mode, faults)?;
    Some((profile, bound.series.timeline(unit, bound.mode)?))
}
