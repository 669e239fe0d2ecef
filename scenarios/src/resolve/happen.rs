//! `[[events]]`: what happens at an instant, as stretches of time laid over what the traces say.

use super::changes::nobody;
use crate::fault::{At, Faults, Place};
use crate::format::{ConfigurationTable, EventTable, ScenarioFile};
use crate::nearest::suggestion;
use sim_models::plan::DeviceRange;
use sim_models::replay::FULL_SPEED;
use sim_models::timeline::Stretch;
use std::collections::BTreeMap;

/// Stretches by what they are of: values are raw rates, picoseconds, 0 or 1.
#[derive(Default)]
pub(super) struct Happenings {
    /// By link.
    pub(super) capacity: BTreeMap<String, Vec<Stretch>>,
    /// By link.
    pub(super) latency: BTreeMap<String, Vec<Stretch>>,
    /// Of nodes: 0 while they are away.
    pub(super) up: Vec<(At<DeviceRange>, Stretch)>,
    /// Speed, and whether the range counts GPUs rather than nodes.
    pub(super) speed: Vec<(At<DeviceRange>, Stretch, bool)>,
}

/// Lays `top` over stretches that do not overlap; what it covers of them is gone, the rest stays.
pub(super) fn lay(stretches: &mut Vec<Stretch>, top: Stretch) {
    if top.from >= top.to {
        return;
    }
    let below = std::mem::take(stretches);
    for s in below {
        let left = Stretch { to: s.to.min(top.from), ..s };
        let right = Stretch { from: s.from.max(top.to), ..s };
        stretches.extend([left, right].into_iter().filter(|s| s.from < s.to));
    }
    stretches.push(top);
    stretches.sort_by_key(|s| s.from);
}

/// An event of a link or of the network, which the next one of its kind ends.
struct Event<V> {
    from: u64,
    until: Option<u64>,
    place: Place,
    value: V,
}

/// Ends each event where the next begins, unless it ended before.
fn stretches<V>(what: &str, mut events: Vec<Event<V>>, faults: &mut Faults) -> Vec<(u64, u64, V)> {
    events.sort_by_key(|e| (e.from, e.place));
    for pair in events.windows(2) {
        let [before, next] = pair else { continue };
        if before.from == next.from || before.until.is_some_and(|until| next.from < until) {
            let message = format!("two events of {what} hold at the same time");
            faults.push(next.place, "T0405", message, "an event ends before the next begins");
        }
    }
    let starts: Vec<u64> = events.iter().skip(1).map(|e| e.from).chain([u64::MAX]).collect();
    events.into_iter().zip(starts).map(|(e, next)| (e.from, e.until.unwrap_or(next), e.value)).collect()
}

/// All that happens. `zones` are those of each link.
pub(super) fn read(
    file: &ScenarioFile,
    links: &[&str],
    zones: &BTreeMap<&str, Vec<&str>>,
    faults: &mut Faults,
) -> Happenings {
    let no_configurations = Vec::new();
    let configurations = file.network.as_ref().and_then(|n| n.value.configurations.as_ref());
    let configurations = configurations.map_or(&no_configurations, |c| &c.value);
    for link in configurations.iter().filter_map(|c| c.value.links.as_ref()).flat_map(|l| &l.value) {
        if let Some(name) = link.value.link.as_ref().filter(|n| !links.contains(&n.value.0.as_str())) {
            nobody(&name.value.0, links, name.place, faults);
        }
    }
    let mut found = Happenings::default();
    let mut capacity: BTreeMap<&str, Vec<Event<u64>>> = BTreeMap::new();
    let mut latency: BTreeMap<&str, Vec<Event<u64>>> = BTreeMap::new();
    let mut switches = Vec::new();
    let mut cuts = Vec::new();
    for table in file.events.iter().flat_map(|e| &e.value) {
        let t = &table.value;
        let Some((from, until)) = times(t, faults) else { continue };
        if !one_subject(t, table.place, faults) {
            continue;
        }
        let to = until.unwrap_or(u64::MAX);
        if let Some(link) = &t.link {
            let name = link.value.0.as_str();
            if !links.contains(&name) {
                nobody(name, links, link.place, faults);
                continue;
            }
            let place = t.at.as_ref().map_or(table.place, |a| a.place);
            let rate = t.capacity.as_ref().map(|c| c.value.0.raw()).or(down(t).then_some(0));
            capacity.entry(name).or_default().extend(rate.map(|value| Event { from, until, place, value }));
            let ps = t.latency.as_ref().map(|l| l.value.0.as_ps());
            latency.entry(name).or_default().extend(ps.map(|value| Event { from, until, place, value }));
        }
        if let Some(nodes) = &t.nodes {
            if down(t) {
                found.up.push((nodes.clone(), Stretch { from, to, value: 0 }));
            }
            found.speed.extend(slowed(t).map(|value| (nodes.clone(), Stretch { from, to, value }, false)));
        }
        if let Some(gpus) = &t.gpus {
            found.speed.extend(slowed(t).map(|value| (gpus.clone(), Stretch { from, to, value }, true)));
        }
        if let Some(zone) = &t.zone {
            let of: Vec<&str> = zones
                .iter()
                .filter(|(_, ends)| ends.contains(&zone.value.0.as_str()))
                .map(|z| *z.0)
                .collect();
            if of.is_empty() {
                let message = format!("no link reaches the zone `{}`", zone.value.0);
                let all: Vec<&str> = zones.values().flatten().copied().collect();
                faults.push(zone.place, "T0302", message, suggestion(&zone.value.0, &all));
            }
            cuts.extend(of.into_iter().map(|link| (link, Stretch { from, to, value: 0 })));
        }
        if let Some(name) = &t.network {
            let is = |c: &&At<ConfigurationTable>| {
                c.value.name.as_ref().is_some_and(|n| n.value.0 == name.value.0)
            };
            match configurations.iter().find(is) {
                Some(configuration) => {
                    switches.push(Event { from, until, place: name.place, value: configuration });
                }
                None => {
                    let names: Vec<&str> = configurations
                        .iter()
                        .filter_map(|c| Some(c.value.name.as_ref()?.value.0.as_str()))
                        .collect();
                    let message = format!("no configuration of the network is called `{}`", name.value.0);
                    faults.push(name.place, "T0302", message, suggestion(&name.value.0, &names));
                }
            }
        }
    }
    // From the bottom: configurations, events of links, zones cut off.
    for (from, to, configuration) in stretches("the network", switches, faults) {
        for link in configuration.value.links.iter().flat_map(|l| &l.value) {
            let Some(name) = &link.value.link else { continue };
            if let Some(c) = &link.value.capacity {
                let list = found.capacity.entry(name.value.0.clone()).or_default();
                lay(list, Stretch { from, to, value: c.value.0.raw() });
            }
            if let Some(l) = &link.value.latency {
                let list = found.latency.entry(name.value.0.clone()).or_default();
                lay(list, Stretch { from, to, value: l.value.0.as_ps() });
            }
        }
    }
    for (events, into) in [(capacity, &mut found.capacity), (latency, &mut found.latency)] {
        for (link, events) in events {
            let what = format!("the link `{link}`");
            for (from, to, value) in stretches(&what, events, faults) {
                lay(into.entry(link.to_string()).or_default(), Stretch { from, to, value });
            }
        }
    }
    for (link, cut) in cuts {
        lay(found.capacity.entry(link.to_string()).or_default(), cut);
    }
    found
}

fn times(t: &EventTable, faults: &mut Faults) -> Option<(u64, Option<u64>)> {
    let from = t.at.as_ref()?.value.0;
    if let Some(until) = t.until.as_ref().filter(|u| u.value.0 <= from) {
        faults.push(until.place, "T0405", "the event ends before it begins", "`until` must lie after `at`");
        return None;
    }
    Some((from, t.until.as_ref().map(|u| u.value.0)))
}

fn down(t: &EventTable) -> bool {
    t.down.as_ref().is_some_and(|d| d.value)
}

/// The speed of what is slowed, at least 1 of [`FULL_SPEED`]'s units.
fn slowed(t: &EventTable) -> Option<u64> {
    t.slowdown.as_ref().map(|s| speed(s.value.0))
}

/// How fast what is `slowdown` times slower goes, at least 1 of [`FULL_SPEED`]'s units.
pub(super) fn speed(slowdown: f64) -> u64 {
    (FULL_SPEED as f64 / slowdown.max(1e-3)).clamp(1.0, 9e18) as u64
}

/// An event is of one thing, and says something of it.
fn one_subject(t: &EventTable, place: Place, faults: &mut Faults) -> bool {
    let subjects = [
        ("link", t.link.is_some()),
        ("nodes", t.nodes.is_some()),
        ("gpus", t.gpus.is_some()),
        ("zone", t.zone.is_some()),
        ("network", t.network.is_some()),
    ];
    let given: Vec<&str> = subjects.iter().filter(|s| s.1).map(|s| s.0).collect();
    let says = [
        ("capacity", t.capacity.is_some()),
        ("latency", t.latency.is_some()),
        ("down", t.down.is_some()),
        ("slowdown", t.slowdown.is_some()),
    ];
    let said: Vec<&str> = says.iter().filter(|s| s.1).map(|s| s.0).collect();
    let &[subject] = given.as_slice() else {
        // A key at fault was there all the same.
        let message =
            if given.is_empty() { "the event is of nothing" } else { "the event is of several things" };
        faults.push(place, "T0407", message, "one of `link`, `nodes`, `gpus`, `zone`, `network`");
        return false;
    };
    let allowed: &[&str] = match subject {
        "link" => &["capacity", "latency", "down"],
        "nodes" => &["down", "slowdown"],
        "gpus" => &["slowdown"],
        "zone" => &["down"],
        _ => &[],
    };
    if let Some(wrong) = said.iter().find(|s| !allowed.contains(s)) {
        let message = format!("an event of `{subject}` has no `{wrong}`");
        let help = if allowed.is_empty() { String::new() } else { format!("it has {}", allowed.join(", ")) };
        faults.push(place, "T0407", message, help);
        return false;
    }
    if said.is_empty() && !matches!(subject, "zone" | "network") {
        let message = format!("the event does not say what becomes of its `{subject}`");
        faults.push(place, "T0407", message, format!("one of {}", allowed.join(", ")));
        return false;
    }
    if said.contains(&"capacity") && said.contains(&"down") {
        faults.push(place, "T0407", "`capacity` and `down` both say the capacity", "keep one of them");
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_layer_holds_and_the_lower_one_goes_on_after_it() {
        let stretch = |from, to, value| Stretch { from, to, value };
        let mut list = Vec::new();
        for (from, to, value) in [(0, 100, 1), (40, 60, 2), (50, 55, 3), (90, u64::MAX, 4), (7, 7, 9)] {
            lay(&mut list, stretch(from, to, value));
        }
        let expected = [(0, 40, 1), (40, 50, 2), (50, 55, 3), (55, 60, 2), (60, 90, 1), (90, u64::MAX, 4)];
        assert_eq!(list, expected.map(|(from, to, value)| stretch(from, to, value)));
    }
}
