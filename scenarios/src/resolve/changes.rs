//! `[[traces]]`, `--trace` and `[[events]]`: what changes the capacity of a link over time.

use super::Context;
use crate::event::Stretch;
use crate::fault::{At, Faults, Place, Source};
use crate::files;
use crate::format::{EventTable, Mode, ScenarioFile, TraceTable};
use crate::library::builtin_traces;
use crate::nearest::suggestion;
use crate::quantity;
use crate::read::Name;
use crate::trace::{Selection, Series};
use sim_core::{Rate, SimDuration, SimTime};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The values of a trace, and how they become a capacity.
pub(super) struct Bound {
    pub(super) series: Series,
    pub(super) mode: Mode,
    pub(super) scale: f64,
    /// Bytes/s of one unit; `None`: the link's capacity.
    pub(super) unit: Option<f64>,
}

/// Traces by link; `None` for one at fault.
pub(super) fn traces(
    file: &ScenarioFile,
    links: &[&str],
    cx: &mut Context<'_>,
) -> BTreeMap<String, Option<Bound>> {
    let mut found = BTreeMap::new();
    for (link, path) in &cx.overrides.traces {
        let whole = cx.faults.add_source("--trace", format!("{link}={}", path.display()));
        let place = cx.faults.part(whole, 0..link.len());
        if !links.contains(&link.as_str()) {
            nobody(link, links, place, cx.faults);
            continue;
        }
        let bound = cx.text(path, files::TABLE, whole).and_then(|(text, place)| {
            let series = Series::read(&text.text, place, &Selection::of_link(link), cx.faults)?;
            Some(Bound { series, mode: Mode::Wrap, scale: 1.0, unit: Some(0.125) })
        });
        found.insert(link.clone(), bound);
    }
    let overridden: Vec<String> = found.keys().cloned().collect();
    for table in file.traces.iter().flat_map(|t| &t.value) {
        let Some(link) = &table.value.link else { continue };
        if !links.contains(&link.value.0.as_str()) {
            nobody(&link.value.0, links, link.place, cx.faults);
            continue;
        }
        if overridden.contains(&link.value.0) {
            continue;
        }
        let bound = bind(table, link, cx);
        if found.insert(link.value.0.clone(), bound).is_some() {
            let message = format!("a second trace of the link `{}`", link.value.0);
            cx.faults.push(link.place, "T0405", message, "a link has one");
        }
    }
    found
}

fn nobody(link: &str, links: &[&str], place: Place, faults: &mut Faults) {
    let help =
        if links.is_empty() { "there are no `[[network.links]]`".into() } else { suggestion(link, links) };
    faults.push(place, "T0302", format!("no link is called `{link}`"), help);
}

fn bind(table: &At<TraceTable>, link: &At<Name>, cx: &mut Context<'_>) -> Option<Bound> {
    let t = &table.value;
    let unit = match t.unit.as_ref() {
        None => Some(0.125),
        Some(unit) if unit.value.0 == "capacity" => None,
        // One of the unit; zero and out of range cannot come of it.
        Some(unit) => match quantity::rate(&format!("1 {}", unit.value.0)) {
            Ok(rate) => Some(rate.as_bytes_per_s()),
            Err(_) => {
                let message = format!("`{}` is no unit of rates", unit.value.0);
                let names: Vec<&str> = quantity::Kind::Rate.unit_names().chain(["capacity"]).collect();
                cx.faults.push(unit.place, "T0106", message, suggestion(&unit.value.0, &names));
                return None;
            }
        },
    };
    let (text, whole): (Arc<Source>, Place) = match (&t.file, &t.builtin) {
        (Some(path), None) => cx.file(path, files::TABLE)?,
        (None, Some(name)) => {
            let Some(shipped) = builtin_traces().iter().find(|b| b.name == name.value.0) else {
                let names: Vec<&str> = builtin_traces().iter().map(|b| b.name).collect();
                let message = format!("no trace `{}` is shipped", name.value.0);
                cx.faults.push(name.place, "T0406", message, suggestion(&name.value.0, &names));
                return None;
            };
            let whole = cx.faults.add_source(format!("{}.csv", shipped.name), shipped.text);
            (cx.faults.source(whole), whole)
        }
        (Some(_), Some(name)) => {
            cx.faults.push(
                name.place,
                "T0310",
                "`builtin` and `file` both say where the trace is",
                "keep one of them",
            );
            return None;
        }
        (None, None) => {
            t.lacks("file", cx.faults);
            return None;
        }
    };
    let selection = Selection {
        column: t.column.as_ref().map_or_else(|| "bandwidth_bps".to_string(), |c| c.value.0.clone()),
        link: t.select.as_ref().unwrap_or(link).value.0.clone(),
        exact: t.select.is_some(),
    };
    let series = Series::read(&text.text, whole, &selection, cx.faults)?;
    let mode = t.mode.as_ref().map_or(Mode::Wrap, |m| m.value);
    Some(Bound { series, mode, scale: t.scale.as_ref().map_or(1.0, |s| s.value.0), unit })
}

struct Event {
    from: SimTime,
    place: Place,
    until: Option<SimTime>,
    capacity: Rate,
}

/// Events as stretches of time, by link.
pub(super) fn events(
    file: &ScenarioFile,
    links: &[&str],
    faults: &mut Faults,
) -> BTreeMap<String, Vec<Stretch>> {
    let mut by_link: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for EventTable { at, link, capacity, until, .. } in
        file.events.iter().flat_map(|e| &e.value).map(|e| &e.value)
    {
        let Some(link) = link else { continue };
        if !links.contains(&link.value.0.as_str()) {
            nobody(&link.value.0, links, link.place, faults);
            continue;
        }
        let (Some(at), Some(capacity)) = (at, capacity) else { continue };
        let instant = |t: SimDuration| SimTime::from_ps(t.as_ps());
        let from = instant(at.value.0);
        if let Some(until) = until.as_ref().filter(|u| instant(u.value.0) <= from) {
            faults.push(
                until.place,
                "T0405",
                "the event ends before it begins",
                "`until` must lie after `at`",
            );
            continue;
        }
        let event = Event {
            from,
            place: at.place,
            until: until.as_ref().map(|u| instant(u.value.0)),
            capacity: capacity.value.0,
        };
        by_link.entry(link.value.0.clone()).or_default().push(event);
    }
    by_link.into_iter().map(|(link, list)| (link.clone(), stretches(&link, list, faults))).collect()
}

fn stretches(link: &str, mut events: Vec<Event>, faults: &mut Faults) -> Vec<Stretch> {
    events.sort_by_key(|e| (e.from, e.place));
    let mut stretches = Vec::with_capacity(events.len());
    for (i, event) in events.iter().enumerate() {
        let next = events.get(i + 1);
        let end = next.map_or(SimTime::MAX, |n| n.from);
        if let Some(next) = next
            && (event.from == next.from || event.until.is_some_and(|until| next.from < until))
        {
            let message = format!("two events of the link `{link}` hold at the same time");
            faults.push(next.place, "T0405", message, "an event ends before the next begins");
        }
        stretches.push(Stretch {
            from: event.from,
            to: event.until.unwrap_or(end),
            capacity: event.capacity,
        });
    }
    stretches
}
