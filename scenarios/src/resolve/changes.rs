//! `[[traces]]` of links and `--trace`: capacity over time.

use super::Context;
use crate::fault::{At, Faults, Place, Source};
use crate::files;
use crate::format::{Mode, ScenarioFile, TraceTable};
use crate::library::builtin_traces;
use crate::nearest::suggestion;
use crate::quantity;
use crate::read::Name;
use crate::trace::{Selection, Series};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The values of a trace, and how they become a capacity.
pub(super) struct Bound {
    pub(super) series: Series,
    pub(super) mode: Mode,
    pub(super) scale: f64,
    /// Bytes/s of one unit; `None`: the link's capacity.
    pub(super) unit: Option<f64>,
    /// Whether the values are what others take of the capacity.
    pub(super) load: bool,
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
            Some(Bound { series, mode: Mode::Wrap, scale: 1.0, unit: Some(0.125), load: false })
        });
        found.insert(link.clone(), bound);
    }
    let overridden: Vec<String> = found.keys().cloned().collect();
    for table in file.traces.iter().flat_map(|t| &t.value) {
        let Some(link) = &table.value.link else {
            if table.value.nodes.is_none() {
                table.value.lacks("link", cx.faults);
            }
            continue;
        };
        if let Some(nodes) = &table.value.nodes {
            cx.faults.push(
                nodes.place,
                "T0310",
                "`link` and `nodes` both say what the trace is of",
                "keep one of them",
            );
            continue;
        }
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

pub(super) fn nobody(link: &str, links: &[&str], place: Place, faults: &mut Faults) {
    let help =
        if links.is_empty() { "there are no `[[network.links]]`".into() } else { suggestion(link, links) };
    faults.push(place, "T0302", format!("no link is called `{link}`"), help);
}

fn bind(table: &At<TraceTable>, link: &At<Name>, cx: &mut Context<'_>) -> Option<Bound> {
    let t = &table.value;
    let unit = unit_of(&t.unit, cx.faults)?;
    let Text { text, whole } = text_of(t, cx)?;
    let selection = Selection {
        column: t.column.as_ref().map_or_else(|| "bandwidth_bps".to_string(), |c| c.value.0.clone()),
        link: t.select.as_ref().unwrap_or(link).value.0.clone(),
        exact: t.select.is_some(),
    };
    let series = Series::read(&text.text, whole, &selection, cx.faults)?;
    let mode = t.mode.as_ref().map_or(Mode::Wrap, |m| m.value);
    let load = t.column.as_ref().is_some_and(|c| c.value.0 == "load_bps");
    Some(Bound { series, mode, scale: t.scale.as_ref().map_or(1.0, |s| s.value.0), unit, load })
}

/// Bytes/s of one unit of a trace's values; `None` in it: the link's capacity.
pub(super) fn unit_of(unit: &Option<At<Name>>, faults: &mut Faults) -> Option<Option<f64>> {
    match unit.as_ref() {
        None => Some(Some(0.125)),
        Some(unit) if unit.value.0 == "capacity" => Some(None),
        // One of the unit; zero and out of range cannot come of it.
        Some(unit) => match quantity::rate(&format!("1 {}", unit.value.0)) {
            Ok(rate) => Some(Some(rate.as_bytes_per_s())),
            Err(_) => {
                let message = format!("`{}` is no unit of rates", unit.value.0);
                let names: Vec<&str> = quantity::Kind::Rate.unit_names().chain(["capacity"]).collect();
                faults.push(unit.place, "T0106", message, suggestion(&unit.value.0, &names));
                None
            }
        },
    }
}

/// The text of a trace, and its place.
pub(super) struct Text {
    pub(super) text: Arc<Source>,
    pub(super) whole: Place,
}

/// Of the file or the shipped trace that a table names.
pub(super) fn text_of(t: &TraceTable, cx: &mut Context<'_>) -> Option<Text> {
    if t.file.is_none() && t.builtin.is_none() {
        t.lacks("file", cx.faults);
        return None;
    }
    text_in(t.file.as_ref(), t.builtin.as_ref(), cx)
}

/// Of the one that is given.
pub(super) fn text_in(
    file: Option<&At<String>>,
    builtin: Option<&At<Name>>,
    cx: &mut Context<'_>,
) -> Option<Text> {
    let (text, whole) = match (file, builtin) {
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
        (None, None) => return None,
    };
    Some(Text { text, whole })
}
