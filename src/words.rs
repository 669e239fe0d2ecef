//! A scenario from a few words of the command line: `--model llama-3-8b --gpus a100-80:16,v100-16:16 --inter "100 Gbps"`.

use crate::cli;
use crate::failure::Failure;
use scenarios::quantity;
use sim_models::device::{Catalogue, Gpu};
use sim_models::workload::Model;
use std::fmt::Write;

/// GPUs of a node, where nobody says: as many as there are, up to eight.
const A_NODE: u32 = 8;

/// So many of one GPU.
struct Group<'c> {
    gpu: &'c Gpu,
    nodes: u32,
    a_node: u32,
    zone: Option<String>,
}

/// The text of the scenario, with comments, and its name; `None` when no words were given.
pub(crate) fn scenario(words: &cli::Words) -> Result<Option<(String, String)>, Failure> {
    let (Some(model), Some(gpus)) = (&words.model, &words.gpus) else { return Ok(None) };
    if Model::builtin(model).is_none() {
        let names: Vec<&str> = Model::builtin_names().collect();
        return Err(Failure::new(format!("no model is called `{model}`"), names.join(", ")));
    }
    let groups: Vec<Group<'_>> = gpus.split(',').map(group).collect::<Result<_, _>>()?;
    let inter = words.inter.as_deref().unwrap_or("100 Gbps");
    quantity::rate(inter).map_err(|e| Failure::new(format!("--inter: {e}"), e.help()))?;
    Ok(Some((text(words, model, &groups, inter), model.clone())))
}

/// `a100-80:16`, `a100-80:16/4`, `a100-80:16@east`.
fn group(word: &str) -> Result<Group<'static>, Failure> {
    let help = "NAME:COUNT, with /GPUS of a node and @ZONE where they matter: a100-80:16,v100-16:16/4@west";
    let wrong = |what: &str| Failure::new(format!("`{}`: {what}", word.trim()), help);
    let (name, rest) = word.trim().split_once(':').ok_or_else(|| wrong("no count"))?;
    let gpu = Catalogue::builtin().find(name).map_err(|e| Failure::new(e.to_string(), help))?;
    let (rest, zone) = match rest.split_once('@') {
        Some((rest, zone))
            if !zone.is_empty() && zone.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') =>
        {
            (rest, Some(zone.to_string()))
        }
        Some(_) => return Err(wrong("no name of a zone")),
        None => (rest, None),
    };
    let (count, a_node) = match rest.split_once('/') {
        Some((count, a_node)) => {
            (count, Some(a_node.parse::<u32>().map_err(|_| wrong("no number of GPUs a node"))?))
        }
        None => (rest, None),
    };
    let count: u32 = count.parse().map_err(|_| wrong("no count"))?;
    // The largest node that the count is a multiple of.
    let fits = |n: &u32| count.is_multiple_of(*n);
    let a_node = a_node.or_else(|| (1..=A_NODE).rev().find(fits)).unwrap_or(1);
    if count == 0 || count > 1_000_000 || a_node == 0 || a_node > 1024 || !count.is_multiple_of(a_node) {
        return Err(wrong("from 1 to 1000000 GPUs in whole nodes of up to 1024"));
    }
    Ok(Group { gpu, nodes: count / a_node, a_node, zone })
}

fn text(words: &cli::Words, model: &str, groups: &[Group<'_>], inter: &str) -> String {
    let list: Vec<String> = groups.iter().map(|g| format!("{} {}", g.nodes * g.a_node, g.gpu.name)).collect();
    // Half precision that all of them have.
    let bf16 = groups.iter().all(|g| g.gpu.peaks.bf16.is_some());
    let precision = words.precision.as_deref().unwrap_or(if bf16 { "bf16" } else { "fp16" });
    let mut text = format!(
        "# The keys: `tideplan schema`; the ideas behind them: docs/.\n\
         schema_version = 1\n\
         about = \"{model} on {}\"\n\n\
         [model]\n\
         name = \"{model}\"           # or one of your own, with its sizes\n\n\
         [training]\n\
         global_batch = {}             # sequences of an iteration, all GPUs together\n\
         precision = \"{precision}\"           # half precision that every GPU has\n\
         optimizer = \"adam\"\n",
        list.join(", "),
        words.batch.unwrap_or(512),
    );
    let mut names: Vec<String> = Vec::new();
    for g in groups {
        let mut name = g.gpu.name.to_ascii_lowercase();
        if names.contains(&name) {
            name = format!("{name}-{}", names.len());
        }
        let _ = write!(
            text,
            "\n[[nodes]]\nname = \"{name}\"            # plans call its GPUs `{name}:0-{}`\ncount = {}\n\
             gpus_per_node = {}\ngpu = \"{}\"\n",
            g.nodes * g.a_node - 1,
            g.nodes,
            g.a_node,
            g.gpu.name
        );
        if let Some(zone) = &g.zone {
            let _ = writeln!(text, "zone = \"{zone}\"");
        }
        names.push(name);
    }
    let _ = write!(
        text,
        "\n[network]\nrate = \"{inter}\"            # of a node to another\nlatency = \"10 us\"\n\
         # Links between zones, and capacity over time:\n\
         # links = [{{ name = \"wan\", between = [\"east\", \"west\"], capacity = \"10 Gbps\", latency = \"15 ms\" }}]\n\
         # [[traces]]\n# link = \"wan\"\n# file = \"wan.csv\"\n\n\
         # Prices, for `--objective cost` and `--tokens`:\n\
         # [cost]\n# nodes = [{{ group = \"{}\", per_hour = 30.0 }}]\n\n\
         [search]\nmax_simulations = 2000\nmax_stages = 8\n",
        names[0]
    );
    text
}

/// A number of tokens: `2T`, `300B`, `15000000`.
pub(crate) fn tokens(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.trim().to_ascii_uppercase().chars().last() {
        Some('T') => (&text[..text.len() - 1], 1e12),
        Some('B') => (&text[..text.len() - 1], 1e9),
        Some('M') => (&text[..text.len() - 1], 1e6),
        Some('K') => (&text[..text.len() - 1], 1e3),
        _ => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(n) if n > 0.0 && n * factor <= 1e18 => Ok(n * factor),
        _ => Err("expected a number of tokens, such as 300B or 2T".into()),
    }
}
