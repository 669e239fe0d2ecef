//! `[cost]`: prices, by node group and by link.

use crate::fault::{At, Faults};
use crate::format::ScenarioFile;
use crate::nearest::suggestion;
use crate::read::{Factor, Name};
use sim_models::cost::Cost;
use sim_models::scenario::{NodeGroup, ZoneLink};

/// The prices of a file, none where it gives none.
pub(crate) fn cost(
    file: &ScenarioFile,
    groups: &[NodeGroup],
    links: &[ZoneLink],
    faults: &mut Faults,
) -> Cost {
    let mut cost = Cost { node_hour: vec![0; groups.len()], gigabyte: vec![0; links.len()] };
    let Some(table) = &file.cost else { return cost };
    let names: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
    for row in table.value.nodes.iter().flat_map(|list| &list.value) {
        set(
            &mut cost.node_hour,
            &names,
            "node group",
            row.value.group.as_ref(),
            row.value.per_hour.as_ref(),
            faults,
        );
    }
    let names: Vec<&str> = links.iter().map(|l| l.name.as_str()).collect();
    for row in table.value.links.iter().flat_map(|list| &list.value) {
        set(&mut cost.gigabyte, &names, "link", row.value.link.as_ref(), row.value.per_gb.as_ref(), faults);
    }
    cost
}

/// Sets the price of what is called so, in millionths of a dollar.
fn set(
    prices: &mut [u64],
    names: &[&str],
    what: &str,
    name: Option<&At<Name>>,
    price: Option<&At<Factor>>,
    faults: &mut Faults,
) {
    let (Some(name), Some(price)) = (name, price) else { return };
    match names.iter().position(|n| *n == name.value.0) {
        Some(at) if price.value.0 <= 1e9 => prices[at] = (price.value.0 * 1e6).round() as u64,
        Some(_) => {
            let message = format!("`{}` dollars", price.value.0);
            faults.push(price.place, "T0107", message, "at most a thousand million");
        }
        None => {
            let message = format!("no {what} is called `{}`", name.value.0);
            faults.push(name.place, "T0111", message, suggestion(&name.value.0, names));
        }
    }
}
