//! `[replay]`, and what changes on nodes: traces of node groups, and the events of nodes and GPUs.

use super::Context;
use super::background::Loads;
use super::changes::{Text, text_of};
use super::happen::{Happenings, lay, speed};
use crate::fault::{At, Faults, Place};
use crate::files;
use crate::format::{Mode, ReplayTable, ScenarioFile, TraceTable};
use crate::nearest::suggestion;
use crate::quantity;
use crate::series::{CsvRecords, Quantity};
use crate::trace::{Selection, Series};
use sim_core::{CapacitySource, Rate, SimTime};
use sim_models::plan::DeviceRange;
use sim_models::replay::{FULL_SPEED, LinkChanges, Replay, ReplayOptions};
use sim_models::scenario::{DeviceId, NodeGroup, NodeId, ZoneLink};
use sim_models::timeline::{Stretch, Timeline};
use std::collections::BTreeMap;

/// Everything that changes. Links come in the order of `zone_links`.
pub(super) fn replay(
    file: &ScenarioFile,
    groups: &[NodeGroup],
    zone_links: &[ZoneLink],
    links: Vec<LinkChanges>,
    (happenings, loads): (&Happenings, &Loads),
    cx: &mut Context<'_>,
) -> Replay {
    let mut replay = Replay { links, ..Replay::default() };
    for table in file.traces.iter().flat_map(|t| &t.value) {
        if let Some(nodes) = &table.value.nodes {
            let Some(g) = groups.iter().position(|g| g.name == nodes.value.0) else {
                let names: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
                let message = format!("no node group is called `{}`", nodes.value.0);
                cx.faults.push(nodes.place, "T0302", message, suggestion(&nodes.value.0, &names));
                continue;
            };
            of_group(table, g, &groups[g], &mut replay, cx);
        }
    }
    for (range, load) in &loads.nodes {
        let nodes = members(range, groups, false, cx.faults);
        let Some(full) = nodes.first().map(|n| groups[n.0 as usize].nic.highest()) else { continue };
        let Some(load) = load.over_time(Some(full), cx.faults) else { continue };
        for (group, index) in nodes {
            let nic = replay.nics.entry(NodeId { group, index });
            let nic = nic.or_insert_with(|| Timeline::constant(full.raw()));
            *nic = nic.less(vec![load.clone()]);
        }
    }
    let mut up: BTreeMap<NodeId, Vec<Stretch>> = BTreeMap::new();
    for (range, stretch) in &happenings.up {
        for index in members(range, groups, false, cx.faults) {
            lay(up.entry(NodeId { group: index.0, index: index.1 }).or_default(), *stretch);
        }
    }
    for (node, stretches) in up {
        let line = replay.up.remove(&node).unwrap_or_else(|| Timeline::constant(1));
        replay.up.insert(node, line.overlaid(stretches));
    }
    let mut slow: BTreeMap<DeviceId, Vec<Stretch>> = BTreeMap::new();
    for (range, stretch, gpus) in &happenings.speed {
        for (group, index) in members(range, groups, *gpus, cx.faults) {
            let each = groups[group as usize].gpus_per_node;
            let devices = if *gpus { index..index + 1 } else { index * each..(index + 1) * each };
            for index in devices {
                lay(slow.entry(DeviceId { group, index }).or_default(), *stretch);
            }
        }
    }
    for (device, stretches) in slow {
        let line = replay.speeds.remove(&device).unwrap_or_else(|| Timeline::constant(FULL_SPEED));
        replay.speeds.insert(device, line.overlaid(stretches));
    }
    if let Some(table) = &file.replay {
        replay.options = options(&table.value);
        zone(&table.value, groups, cx.faults);
        history(&table.value, zone_links, &mut replay, cx);
    }
    replay
}

/// (group, index) of each node or GPU of a range.
fn members(
    range: &At<DeviceRange>,
    groups: &[NodeGroup],
    gpus: bool,
    faults: &mut Faults,
) -> Vec<(u32, u32)> {
    let r = &range.value;
    let Some(g) = groups.iter().position(|g| g.name == r.group) else {
        let names: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
        let message = format!("no node group is called `{}`", r.group);
        faults.push(range.place, "T0302", message, suggestion(&r.group, &names));
        return Vec::new();
    };
    let count = if gpus { groups[g].gpus() } else { groups[g].nodes };
    if r.last >= count {
        let what = if gpus { "GPUs" } else { "nodes" };
        let message = format!("`{}` has {count} {what}: there is no number {}", r.group, r.last);
        faults.push(range.place, "T0302", message, "they are counted from 0");
        return Vec::new();
    }
    (r.first..=r.last).map(|i| (g as u32, i)).collect()
}

/// Points by index of a node (or GPU) of the group.
type Points = BTreeMap<u32, Vec<(u64, f64)>>;

fn of_group(
    table: &At<TraceTable>,
    g: usize,
    group: &NodeGroup,
    replay: &mut Replay,
    cx: &mut Context<'_>,
) -> Option<()> {
    let t = &table.value;
    let column = t.column.as_ref().map_or("available", |c| c.value.0.as_str());
    let Some(quantity) = Quantity::ALL.into_iter().find(|q| q.column() == column) else {
        let names: Vec<&str> = Quantity::ALL.iter().map(|q| q.column()).collect();
        let place = t.column.as_ref().map_or(table.place, |c| c.place);
        cx.faults.push(
            place,
            "T0401",
            format!("nodes have no column `{column}`"),
            suggestion(column, &names),
        );
        return None;
    };
    let Text { text, whole } = text_of(t, cx)?;
    let place = t.nodes.as_ref().map_or(table.place, |n| n.place);
    let adopt = |fault, faults: &mut Faults| faults.adopt(place, fault);
    let records = CsvRecords::new(text.text.as_bytes(), &text.name, Some(quantity));
    let records = records.map_err(|f| adopt(f, cx.faults)).ok()?;
    let of_gpus = records.name_column() == Some("gpu");
    let count = if of_gpus { group.gpus() } else { group.nodes };
    let select = t.select.as_ref().map(|s| s.value.0.as_str());
    let (mut points, mut last, mut step) = (Points::new(), 0, 0);
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    for record in records {
        let record = record.map_err(|f| adopt(f, cx.faults)).ok()?;
        if quantity == Quantity::Available {
            names.entry(record.name.to_string()).or_insert(0);
            let wanted = select.unwrap_or(&group.name);
            if select.is_some() && *record.name != *wanted {
                continue;
            }
            if select.is_none() && names.len() > 1 && !names.contains_key(wanted) {
                let list: Vec<&str> = names.keys().map(String::as_str).collect();
                let message = format!("the trace is of several groups: {}", list.join(", "));
                cx.faults.push(whole, "T0404", message, "choose one with `select`");
                return None;
            }
            if select.is_none() && names.contains_key(wanted) && *record.name != *wanted {
                continue;
            }
        }
        let index =
            if quantity == Quantity::Available { 0 } else { number(&record.name, count, whole, cx.faults)? };
        if record.at_ns > last {
            (step, last) = (record.at_ns - last, record.at_ns);
        }
        points.entry(index).or_default().push((record.at_ns, record.value));
    }
    if points.is_empty() {
        cx.faults.push(
            whole,
            "T0404",
            "the trace has no rows of this group",
            "choose its rows with `select`",
        );
        return None;
    }
    let scale = t.scale.as_ref().map_or(1.0, |s| s.value.0);
    let wrap = t.mode.as_ref().is_none_or(|m| m.value == Mode::Wrap) && step > 0;
    let period = wrap.then(|| last.saturating_add(step));
    let line = |points: Vec<(u64, u64)>| match period {
        Some(period) => Timeline::wrapping(points, period),
        None => Timeline::steps(points),
    };
    let group_id = g as u32;
    match quantity {
        Quantity::Available => {
            let per = match t.unit.as_ref().map(|u| u.value.0.as_str()) {
                None | Some("nodes") => 1.0,
                Some("gpus") => f64::from(group.gpus_per_node),
                Some(other) => {
                    let place = t.unit.as_ref().map_or(table.place, |u| u.place);
                    let message = format!("`{other}` is no unit of what is available");
                    cx.faults.push(place, "T0106", message, "`nodes` or `gpus`");
                    return None;
                }
            };
            let counts = points.remove(&0).unwrap_or_default();
            for index in 0..group.nodes {
                // The nodes with the highest numbers go first and come back last.
                let there = |v: f64| u64::from((v * scale / per).floor() > f64::from(index));
                let up = line(counts.iter().map(|&(at, v)| (at, there(v))).collect()).ok()?;
                if !up.is_constant() || up.at(0) == 0 {
                    replay.up.insert(NodeId { group: group_id, index }, up);
                }
            }
        }
        Quantity::Up => {
            for (index, list) in points {
                let up = line(list.into_iter().map(|(at, v)| (at, u64::from(v > 0.0))).collect()).ok()?;
                replay.up.insert(NodeId { group: group_id, index }, up);
            }
        }
        Quantity::Slowdown => {
            for (index, list) in points {
                let slow = line(list.into_iter().map(|(at, v)| (at, speed(v * scale))).collect()).ok()?;
                let each = group.gpus_per_node;
                let devices = if of_gpus { index..index + 1 } else { index * each..(index + 1) * each };
                for index in devices {
                    replay.speeds.insert(DeviceId { group: group_id, index }, slow.clone());
                }
            }
        }
        Quantity::Bandwidth | Quantity::Load | Quantity::Share => {
            let full = group.nic.at(SimTime::ZERO).as_bytes_per_s();
            let unit = match (quantity, &t.unit) {
                (Quantity::Share, _) => full,
                (_, None) => 0.125,
                (_, Some(unit)) if unit.value.0 == "capacity" => full,
                (_, Some(unit)) => match quantity::rate(&format!("1 {}", unit.value.0)) {
                    Ok(rate) => rate.as_bytes_per_s(),
                    Err(error) => {
                        cx.faults.push(unit.place, "T0106", error.to_string(), error.help());
                        return None;
                    }
                },
            };
            for (index, list) in points {
                let raw = |v: f64| {
                    let rate = v * scale * unit;
                    let rate = if quantity == Quantity::Load { (full - rate).max(0.0) } else { rate };
                    let most = group.nic.at(SimTime::ZERO).raw();
                    Rate::from_bytes_per_s(rate).map_or(most, |r| r.raw().min(most))
                };
                let nic = line(list.into_iter().map(|(at, v)| (at, raw(v))).collect()).ok()?;
                replay.nics.insert(NodeId { group: group_id, index }, nic);
            }
        }
    }
    Some(())
}

/// The number at the end of a name: `node17`, `n017`, `17`.
fn number(name: &str, count: u32, whole: Place, faults: &mut Faults) -> Option<u32> {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let number = name[name.len() - digits..].parse::<u32>().ok().filter(|n| *n < count);
    if number.is_none() {
        let message = format!("`{name}` does not end in a number below {count}");
        faults.push(whole, "T0402", message, "nodes (GPUs) of a trace are numbered as in the group, from 0");
    }
    number
}

fn options(t: &ReplayTable) -> ReplayOptions {
    let d = ReplayOptions::default();
    ReplayOptions {
        start: if t.history_file.is_some() {
            d.start
        } else {
            t.history.as_ref().map_or(d.start, |v| v.value.0)
        },
        until: t.until.as_ref().map(|v| v.value.0),
        decide_every: t.decide_every.as_ref().map_or(d.decide_every, |v| v.value.0.max(1)),
        switch_cost: t.switch_cost.as_ref().map_or(d.switch_cost, |v| v.value.0),
        switch_overlap: t.switch_overlap.as_ref().map_or(d.switch_overlap, |v| v.value),
        checkpoint_every: t.checkpoint_every.as_ref().map(|v| v.value.0.max(1)),
        checkpoint_zone: t.checkpoint_zone.as_ref().map(|v| v.value.0.clone()),
        threshold: t.threshold.as_ref().map_or(d.threshold, |v| v.value.0),
        hysteresis: t.hysteresis.as_ref().map_or(d.hysteresis, |v| v.value.u32()),
        period: t.period.as_ref().map_or(d.period, |v| v.value.0.max(1)),
        forecast: t.forecast.as_ref().map_or(d.forecast, |v| v.value),
        window: t.window.as_ref().map_or(d.window, |v| v.value.0.max(1)),
        max_plans: t.max_plans.as_ref().map_or(d.max_plans, |v| v.value.u32()),
        simulations: t.simulations.as_ref().map_or(d.simulations, |v| v.value.0),
        jitter: t.jitter.as_ref().map_or(d.jitter, |v| v.value),
    }
}

fn zone(t: &ReplayTable, groups: &[NodeGroup], faults: &mut Faults) {
    if let Some(zone) = &t.checkpoint_zone
        && !groups.iter().any(|g| g.zone == zone.value.0)
    {
        let names: Vec<&str> = groups.iter().map(|g| g.zone.as_str()).collect();
        let message = format!("no nodes are in the zone `{}`", zone.value.0);
        faults.push(zone.place, "T0307", message, suggestion(&zone.value.0, &names));
    }
}

/// Each link's rows of the file; a link that has none keeps no history of its own.
fn history(t: &ReplayTable, zone_links: &[ZoneLink], replay: &mut Replay, cx: &mut Context<'_>) {
    let Some(path) = &t.history_file else { return };
    let Some((text, whole)) = cx.file(path, files::TABLE) else { return };
    for (link, changes) in zone_links.iter().zip(&mut replay.links) {
        let Some(series) = Series::read(&text.text, whole, &Selection::of_link(&link.name), cx.faults) else {
            return;
        };
        changes.history = series.timeline(0.125, Mode::Hold);
    }
}
