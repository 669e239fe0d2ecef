//! `[[background]]`: what others send, taken away from what links have.

use super::Context;
use super::changes::{Text, nobody, text_in, unit_of};
use crate::fault::{At, Faults, Place};
use crate::format::{BackgroundTable, Mode, ScenarioFile};
use crate::nearest::list;
use crate::trace::{Selection, Series};
use sim_core::Rate;
use sim_models::plan::DeviceRange;
use sim_models::timeline::{Stretch, Timeline};
use std::collections::BTreeMap;

/// A load, before it is known how much its link can carry.
pub(super) enum Load {
    /// So much, raw units of 2^-16 B/s.
    Rate(Timeline),
    /// The values of a trace.
    Trace {
        series: Series,
        mode: Mode,
        scale: f64,
        /// Bytes/s of one unit; `None`: the link's capacity.
        unit: Option<f64>,
        /// Whether the values are the part of the capacity that is left.
        left: bool,
        place: Place,
    },
}

/// All of them.
#[derive(Default)]
pub(super) struct Loads {
    /// By link.
    links: BTreeMap<String, Vec<Load>>,
    /// On the NICs of nodes.
    pub(super) nodes: Vec<(At<DeviceRange>, Load)>,
}

impl Loads {
    /// What the loads of a link leave of it, where it has some. `level` is what it can carry, as far as that is said.
    pub(super) fn less(
        &self,
        link: &str,
        line: &Timeline,
        level: Option<Rate>,
        faults: &mut Faults,
    ) -> Option<Timeline> {
        let loads = self.links.get(link)?;
        Some(line.less(loads.iter().filter_map(|load| load.over_time(level, faults)).collect()))
    }
}

impl Load {
    /// Raw units over time, on a link of this capacity.
    pub(super) fn over_time(&self, level: Option<Rate>, faults: &mut Faults) -> Option<Timeline> {
        let (series, mode, scale, unit, left, place) = match self {
            Load::Rate(line) => return Some(line.clone()),
            Load::Trace { series, mode, scale, unit, left, place } => {
                (series, *mode, *scale, *unit, *left, *place)
            }
        };
        let mut of_capacity = || {
            let level = level.map(Rate::as_bytes_per_s);
            if level.is_none() {
                let message = "the load is a part of a capacity that is not said";
                faults.push(
                    place,
                    "T0310",
                    message,
                    "give the link a `capacity`, or the load in a unit of rate",
                );
            }
            level
        };
        let bytes_per_s = match unit.filter(|_| !left) {
            Some(unit) => unit,
            None => of_capacity()?,
        };
        let series = if left { series.clone().map(|v| (1.0 - v).max(0.0)) } else { series.clone() };
        series.profile(bytes_per_s * scale, mode, faults)?;
        series.timeline(bytes_per_s * scale, mode)
    }
}

/// The loads of a scenario. `links` are the names of all links, `zones` those that each joins.
pub(super) fn read(
    file: &ScenarioFile,
    links: &[&str],
    zones: &BTreeMap<&str, Vec<&str>>,
    cx: &mut Context<'_>,
) -> Loads {
    let mut loads = Loads::default();
    for table in file.background.iter().flat_map(|t| &t.value) {
        let t = &table.value;
        let given = [
            ("link", t.link.as_ref().map(|l| l.place)),
            ("between", t.between.as_ref().map(|b| b.place)),
            ("nodes", t.nodes.as_ref().map(|n| n.place)),
        ];
        let given: Vec<(&str, Place)> =
            given.iter().filter_map(|(key, place)| Some((*key, (*place)?))).collect();
        if let [first, second, ..] = given.as_slice() {
            let message = format!("`{}` and `{}` both say what the load is on", first.0, second.0);
            cx.faults.push(second.1, "T0310", message, "keep one of them");
            continue;
        }
        let link = match (&t.link, &t.between, &t.nodes) {
            (Some(link), ..) => Some((link.value.0.as_str(), link.place)),
            (_, Some(between), _) => match joined(between, zones, cx.faults) {
                Some(link) => Some((link, between.place)),
                None => continue,
            },
            (.., Some(_)) => None,
            _ => {
                t.lacks("link", cx.faults);
                continue;
            }
        };
        if let Some((link, place)) = link.filter(|(link, _)| !links.contains(link)) {
            nobody(link, links, place, cx.faults);
            continue;
        }
        let own = link.map_or("", |(link, _)| link);
        let Some(load) = load(t, own, table.place, cx) else { continue };
        match (link, &t.nodes) {
            (Some((link, _)), _) => loads.links.entry(link.to_string()).or_default().push(load),
            (None, Some(nodes)) => loads.nodes.push((nodes.clone(), load)),
            (None, None) => {}
        }
    }
    loads
}

/// The link between two zones.
fn joined<'a>(
    between: &At<Vec<At<crate::read::Name>>>,
    zones: &BTreeMap<&'a str, Vec<&str>>,
    faults: &mut Faults,
) -> Option<&'a str> {
    let mut wanted: Vec<&str> = between.value.iter().map(|z| z.value.0.as_str()).collect();
    wanted.sort_unstable();
    let same = |ends: &Vec<&str>| {
        let mut ends = ends.clone();
        ends.sort_unstable();
        ends == wanted
    };
    let found = zones.iter().find(|(_, ends)| same(ends)).map(|(link, _)| *link);
    if found.is_none() {
        let message = format!("no link joins {}", list(&wanted));
        let have: Vec<String> = zones.values().map(|ends| ends.join(" and ")).collect();
        let have: Vec<&str> = have.iter().map(String::as_str).collect();
        let help = if have.is_empty() { "there are no `[[network.links]]`".into() } else { list(&have) };
        faults.push(between.place, "T0302", message, help);
    }
    found
}

fn load(t: &BackgroundTable, link: &str, place: Place, cx: &mut Context<'_>) -> Option<Load> {
    let traced = t.file.as_ref().map(|f| f.place).or(t.builtin.as_ref().map(|b| b.place));
    let Some(rate) = &t.rate else {
        if traced.is_none() {
            t.lacks("rate", cx.faults);
            return None;
        }
        if let Some(time) = t.from.as_ref().or(t.until.as_ref()) {
            let message = "`from` and `until` are of a load with a `rate`: a trace has its own times";
            cx.faults.push(time.place, "T0310", message, "give a `rate`, or leave them out");
            return None;
        }
        let unit = unit_of(&t.unit, cx.faults)?;
        let Text { text, whole } = text_in(t.file.as_ref(), t.builtin.as_ref(), cx)?;
        let column = t.column.as_ref().map_or("load_bps", |c| c.value.0.as_str());
        let selection = Selection {
            column: column.to_string(),
            link: t.select.as_ref().map_or(link, |s| s.value.0.as_str()).to_string(),
            exact: t.select.is_some(),
        };
        let series = Series::read(&text.text, whole, &selection, cx.faults)?;
        return Some(Load::Trace {
            series,
            mode: t.mode.as_ref().map_or(Mode::Wrap, |m| m.value),
            scale: t.scale.as_ref().map_or(1.0, |s| s.value.0),
            unit,
            left: column == "share",
            place,
        });
    };
    let of_traces = [
        ("file", traced),
        ("column", t.column.as_ref().map(|c| c.place)),
        ("unit", t.unit.as_ref().map(|u| u.place)),
        ("mode", t.mode.as_ref().map(|m| m.place)),
        ("scale", t.scale.as_ref().map(|s| s.place)),
        ("select", t.select.as_ref().map(|s| s.place)),
    ];
    if let Some((key, Some(place))) = of_traces.into_iter().find(|(_, place)| place.is_some()) {
        let message = format!("`rate` and `{key}`: the load is a rate or a trace");
        cx.faults.push(place, "T0310", message, "keep one of them");
        return None;
    }
    let from = t.from.as_ref().map_or(0, |f| f.value.0);
    let to = t.until.as_ref().map_or(u64::MAX, |u| u.value.0);
    if let Some(until) = t.until.as_ref().filter(|_| to <= from) {
        cx.faults.push(
            until.place,
            "T0405",
            "the load ends before it begins",
            "`until` must lie after `from`",
        );
        return None;
    }
    let value = rate.value.0.raw();
    Some(Load::Rate(match (from, to) {
        (0, u64::MAX) => Timeline::constant(value),
        _ => Timeline::constant(0).overlaid(vec![Stretch { from, to, value }]),
    }))
}
