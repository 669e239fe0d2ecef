//! A fabric from what people write of it: `NVSwitch (DGX A100)`, `8x 200 Gb/s InfiniBand HDR`, `AWS EFA p5en`.
//!
//! What the words mean stands in `fabrics.toml`. A network that is named without a rate, and is no machine or port that
//! the file knows, is [`DescribeError::NoRate`]: nobody can say how fast it is.

use super::fabric::{Fabric, Network, Wiring};
use crate::device::{Catalogue, Gpu};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

const GBPS: f64 = 0.125e9;

/// What is written of a fabric. Empty texts say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description<'a> {
    /// The GPU's name.
    pub gpu: &'a str,
    /// GPUs of a node, those the group does not use included; at least 1.
    pub gpus_per_node: u32,
    /// What joins the GPUs of a node.
    pub intra: &'a str,
    /// What joins nodes.
    pub inter: &'a str,
    /// Remarks: read for the name of a transport or machine where `inter` is empty.
    pub remarks: &'a str,
    /// GPUs of a node that take part; a cloud's virtual machine is taken to have no more. At least 1.
    pub used: u32,
    /// Whether a network is wanted.
    pub several_nodes: bool,
}

/// Why no fabric could be made of a description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// No GPU of the catalogue.
    #[error("unknown GPU `{name}`: the nearest in the catalogue is `{nearest}`")]
    UnknownGpu {
        /// As written.
        name: String,
        /// The nearest in spelling.
        nearest: String,
    },
    /// The network's rate is neither written nor known.
    #[error(
        "the network `{text}` has no rate: expected one such as `400 Gb/s per node` or `8x 200 Gb/s`, a port or a machine"
    )]
    NoRate {
        /// As written.
        text: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    transport: Vec<Transport>,
    port: BTreeMap<String, f64>,
    machine: Vec<Machine>,
    cloud: Vec<Cloud>,
    usual: Vec<Usual>,
}

#[derive(Deserialize)]
struct Transport {
    name: String,
    added_us: f64,
    rendezvous_us: f64,
    staged: bool,
    collisions: f64,
    relative_share: f64,
    #[serde(default)]
    simple_only: bool,
    /// The most that one flow carries, Gb/s; absent: no limit of its own.
    flow: Option<f64>,
    says: Vec<String>,
}

#[derive(Deserialize)]
struct Machine {
    says: Vec<String>,
    cards: u32,
    card: f64,
    transport: String,
}

#[derive(Deserialize)]
struct Cloud {
    says: Vec<String>,
    /// Of which GPUs' machines; empty: of all others.
    family: String,
    transport: String,
    egress: Vec<(u32, f64)>,
}

impl Cloud {
    fn of(&self, gpu: &Gpu) -> bool {
        self.family.is_empty() || gpu.family.contains(&self.family)
    }
}

#[derive(Deserialize)]
struct Usual {
    family: String,
    cards: u32,
    card: f64,
}

fn facts() -> &'static Facts {
    static FACTS: OnceLock<Facts> = OnceLock::new();
    FACTS.get_or_init(|| {
        toml::from_str(include_str!("fabrics.toml")).expect("a unit test reads the shipped facts")
    })
}

/// The fabric that the description means.
///
/// # Errors
/// See [`DescribeError`].
pub fn describe(text: &Description<'_>) -> Result<Fabric, DescribeError> {
    let gpu = named_gpu(text.gpu)?;
    let gpus_per_node = text.gpus_per_node.max(1);
    let mut fabric = Fabric::of(gpu, gpus_per_node);
    wire(&mut fabric, gpu, text.intra);
    if text.several_nodes {
        fabric.network = Some(network(text, gpu)?);
    }
    Ok(fabric)
}

/// The GPU a name means; of a remark that names one (`not stated (docs use A100)`), that one.
///
/// # Errors
/// [`DescribeError::UnknownGpu`].
pub fn named_gpu(name: &str) -> Result<&'static Gpu, DescribeError> {
    let catalogue = Catalogue::builtin();
    catalogue.find(name).or_else(|unknown| {
        let words = words(name);
        let digits = |w: &&String| w.chars().any(|c| c.is_ascii_digit());
        let mut named = words.iter().filter(digits).filter_map(|w| catalogue.find(w).ok());
        let first = named.next();
        first
            .filter(|first| named.all(|gpu| gpu.family == first.family))
            .ok_or(DescribeError::UnknownGpu { name: unknown.name, nearest: unknown.nearest })
    })
}

fn wire(fabric: &mut Fabric, gpu: &Gpu, text: &str) {
    let text = text.to_lowercase();
    let says = |word: &str| text.contains(word);
    let nvlink = says("nvlink") || says("nvl") || says("xgmi") || says("infinity");
    if says("pair") || says("bridge") {
        fabric.wiring = if fabric.nvlink > 0.0 { Wiring::Pairs } else { Wiring::over_pcie(gpu) };
    } else if says("pci") && !nvlink {
        fabric.wiring = Wiring::over_pcie(gpu);
    } else if nvlink && matches!(fabric.wiring, Wiring::Pcie | Wiring::Host(_)) && fabric.nvlink > 0.0 {
        fabric.wiring = Wiring::Pairs;
    }
    // A rate that is stated of PCIe is what it carries there.
    if let Some(stated) = written_rate(&text).map(|rate| rate.gbps * GBPS) {
        match &mut fabric.wiring {
            Wiring::Pcie => fabric.pcie = fabric.pcie.min(stated),
            Wiring::Host(card) => *card = card.min(stated),
            _ => {}
        }
    }
    // Without a word, cards may or may not have a bridge.
    fabric.stated = !text.trim().is_empty() || gpu.form != "pcie";
}

fn network(text: &Description<'_>, gpu: &Gpu) -> Result<Network, DescribeError> {
    let inter = words(text.inter);
    let silent = inter.is_empty();
    let said = if silent { words(text.remarks) } else { inter };
    if let Some(machine) = facts().machine.iter().find(|m| mentions(&said, &m.says)) {
        return Ok(transport(&machine.transport, machine.cards, machine.card, true));
    }
    let named = facts().transport.iter().find(|t| mentions(&said, &t.says));
    let usual = facts().usual.iter().find(|u| gpu.family.contains(&u.family));
    let gpus = text.gpus_per_node.max(1);
    // A node has as many cards as usual for InfiniBand and its like; one for Ethernet.
    let ethernet = named.is_some_and(|t| t.name == "tcp");
    let usual_cards = usual.filter(|_| !ethernet).map_or(1, |u| (u.cards * gpus / 8).max(1));
    if silent {
        let name = named.map_or("infiniband", |t| t.name.as_str());
        let usual = usual.ok_or_else(|| DescribeError::NoRate { text: String::new() })?;
        return Ok(transport(name, usual_cards, usual.card, false));
    }
    let name = named.map(|t| t.name.as_str());
    if let Some(rate) = written_rate(text.inter) {
        let (cards, card) = match rate.per {
            Per::Node => (usual_cards.max(rate.times), rate.gbps / f64::from(usual_cards.max(rate.times))),
            Per::Gpu => (gpus, rate.gbps),
            Per::Card if rate.times > 1 || rate.counted => (rate.times, rate.gbps),
            Per::Card => (usual_cards, rate.gbps),
        };
        let name = match name.unwrap_or("infiniband") {
            "efa" if f64::from(cards) * card <= 400.0 => "efa-1",
            name => name,
        };
        return Ok(transport(name, cards, card, true));
    }
    if let Some(port) = said.iter().find_map(|word| facts().port.get(word)) {
        return Ok(transport(name.unwrap_or("infiniband"), usual_cards, *port, false));
    }
    if let Some(cloud) = facts().cloud.iter().find(|c| c.of(gpu) && mentions(&said, &c.says)) {
        let egress = cloud.egress.iter().rev().find(|(least, _)| *least <= text.used.max(1));
        if let Some((_, gbps)) = egress {
            return Ok(transport(&cloud.transport, 1, *gbps, true));
        }
    }
    match (name, usual) {
        // A transport without a rate, on a GPU whose nodes are much alike.
        (Some(name), Some(usual)) if name != "tcp" => Ok(transport(name, usual_cards, usual.card, false)),
        _ => Err(DescribeError::NoRate { text: text.inter.chars().take(80).collect() }),
    }
}

fn transport(name: &str, cards: u32, gbps: f64, stated: bool) -> Network {
    let known = facts().transport.iter().find(|t| t.name == name);
    Network {
        added_latency_s: known.map_or(0.0, |t| t.added_us * 1e-6),
        rendezvous_s: known.map_or(0.0, |t| t.rendezvous_us * 1e-6),
        staged: known.is_some_and(|t| t.staged),
        collisions: known.map_or(1.0, |t| t.collisions),
        relative_share: known.map_or(1.0, |t| t.relative_share),
        simple_only: known.is_some_and(|t| t.simple_only),
        tcp: name == "tcp",
        flow_rate: known.and_then(|t| t.flow).map(|gbps| gbps * GBPS),
        stated,
        ..Network::rdma(cards.max(1), gbps * GBPS)
    }
}

fn mentions(said: &[String], words: &[String]) -> bool {
    said.iter().any(|word| words.contains(word))
}

/// Words in lower case; `-` is part of one, a size of a machine (`p5.48xlarge`) is not.
fn words(text: &str) -> Vec<String> {
    let text: String = text.chars().take(400).collect();
    let split = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let plain = split.map(|w| w.trim_matches('-').to_ascii_lowercase()).filter(|w| !w.is_empty());
    // A word with a dash also says its first part (`omni-path`, `p4d-cluster`), one with a count the rest (`8xhdr`).
    plain
        .flat_map(|w| {
            let head = w.split('-').next().filter(|head| *head != w).map(str::to_string);
            let rest = w.trim_start_matches(|c: char| c.is_ascii_digit() || c == 'x');
            let rest = Some(rest).filter(|rest| !rest.is_empty() && *rest != w).map(str::to_string);
            [Some(w), head, rest].into_iter().flatten()
        })
        .collect()
}

enum Per {
    Node,
    Gpu,
    Card,
}

struct WrittenRate {
    gbps: f64,
    times: u32,
    /// A number of cards was written, even if it is 1.
    counted: bool,
    per: Per,
}

/// The first rate of a text: a number before `Gb/s`, `Gbps`, `Gbit`, `GbE` or `G`, the number of cards before or after it
/// (`8x`, `x8`, `4 NICs`, `1 cable`), and `per node`, `per GPU`.
fn written_rate(text: &str) -> Option<WrittenRate> {
    let lower: String = text.chars().take(400).collect::<String>().to_lowercase();
    let bytes = lower.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = at + bytes[at..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        let value: f64 = lower[at..end].parse().unwrap_or(0.0);
        let unit = lower[end..].trim_start_matches([' ', '-']);
        let scale = match unit.as_bytes() {
            [b't', b'b', ..] => 1000.0,
            [b'g', b'b' | b'i', ..] => 1.0,
            [b'g', next, ..] if !next.is_ascii_alphanumeric() => 1.0,
            [b'g'] => 1.0,
            [b'm', b'b', ..] => 0.001,
            _ => 0.0,
        };
        let starts_word = at == 0 || !bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'x';
        if scale > 0.0 && starts_word && value > 0.0 && value * scale <= 1e6 {
            let (times, counted) = count(&lower[..at], &lower[end..]);
            let per = match () {
                // What a cloud states of a machine of a size (`p3.8xlarge 10 Gb/s`) is the whole machine's.
                () if lower.contains("per node") || lower.contains("/node") || lower.contains("xlarge") => {
                    Per::Node
                }
                () if lower.contains("per gpu") || lower.contains("/gpu") => Per::Gpu,
                () => Per::Card,
            };
            return Some(WrittenRate { gbps: value * scale, times, counted, per });
        }
        at = end;
    }
    None
}

/// How many cards: a number before (`8x`, `8 x`, `4 NICs of`, `1 cable`) or `x8` after.
fn count(before: &str, after: &str) -> (u32, bool) {
    let is_count = |n: &u32| (1..=64).contains(n);
    let before = before.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    let earlier: Vec<&str> = before.collect();
    for (i, word) in earlier.iter().enumerate().rev() {
        let digits = word.trim_end_matches('x');
        let follows = earlier.get(i + 1).copied().unwrap_or("x");
        let counts = word.ends_with('x')
            || [
                "x", "nic", "nics", "card", "cards", "port", "ports", "hca", "hcas", "cable", "rail",
                "rails", "link", "links",
            ]
            .contains(&follows)
            || follows == "qsfp";
        if let (Ok(n), true) = (digits.parse::<u32>(), counts)
            && is_count(&n)
        {
            return (n, true);
        }
    }
    let later = after.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    let times = later.filter_map(|w| w.strip_prefix('x')).find_map(|w| w.parse().ok().filter(is_count));
    (times.unwrap_or(1), times.is_some())
}
