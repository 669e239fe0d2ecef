//! Megatron-LM's arguments, as a launch script has them. Lines that begin with `#` are comments, of which `# ranks:` is read
//! back: the order in which the hosts are to be listed.
//!
//! Uneven layers are said with `--decoder-first-pipeline-num-layers` and `--decoder-last-pipeline-num-layers` where the stages
//! between are even, otherwise with `--pipeline-model-parallel-layout` (E the embedding, t a block, L the head).

use super::uniform::{data_parallel, micro_batches, plain, read_ranks, stages_of};
use super::{Refusal, Uniform, degree, refuse, same_batch};
use sim_models::plan::{LayerRange, Layers, Plan, Recompute, Schedule};
use sim_models::scenario::Scenario;
use sim_models::workload::{LayerKind, Precision};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The plan as arguments.
///
/// # Errors
/// What Megatron-LM cannot run.
pub fn export(scenario: &Scenario, plan: &Plan) -> Result<String, Refusal> {
    let u = Uniform::of(plan)?;
    let p = u.stages.len() as u32;
    let model = &scenario.model;
    if !u.whole_batch(scenario) {
        return refuse("its micro-batches do not make up the global batch", "every pipeline takes as many");
    }
    let mut list: Vec<(String, Option<String>)> = Vec::new();
    let mut with = |name: &str, value: String| list.push((name.into(), Some(value)));
    with("tensor-model-parallel-size", u.tp.to_string());
    with("pipeline-model-parallel-size", p.to_string());
    if u.cp > 1 {
        with("context-parallel-size", u.cp.to_string());
    }
    if u.ep > 1 {
        with("expert-model-parallel-size", u.ep.to_string());
    }
    with("micro-batch-size", u.micro_batch.to_string());
    with("global-batch-size", scenario.training.global_batch.to_string());
    with("num-layers", model.blocks.to_string());
    with("hidden-size", model.hidden.to_string());
    with("ffn-hidden-size", model.ffn_hidden.to_string());
    with("num-attention-heads", model.heads.to_string());
    with("seq-length", model.seq_len.to_string());
    with("max-position-embeddings", model.positions.max(model.seq_len).to_string());
    match u.settings.schedule {
        Schedule::OneFOneB => {}
        Schedule::Interleaved => {
            let per = virtual_blocks(scenario, &u)?;
            with("num-layers-per-virtual-pipeline-stage", per.to_string());
        }
        other => {
            return refuse(format!("Megatron-LM has no schedule `{other}`"), "1f1b or interleaved");
        }
    }
    if u.settings.schedule == Schedule::OneFOneB && p > 1 {
        for (name, value) in uneven(scenario, &u) {
            with(name, value);
        }
    }
    match u.recompute {
        Recompute::None => {}
        Recompute::Selective => with("recompute-granularity", "selective".into()),
        Recompute::Full => {
            with("recompute-granularity", "full".into());
            with("recompute-method", "uniform".into());
            with("recompute-num-layers", "1".into());
        }
    }
    let mut flags: Vec<&str> = Vec::new();
    if u.settings.sequence_parallel {
        flags.push("sequence-parallel");
    }
    match u.settings.zero {
        0 => {}
        1 => flags.push("use-distributed-optimizer"),
        zero => {
            flags.push("use-megatron-fsdp");
            let what = if zero == 2 { "optim_grads" } else { "optim_grads_params" };
            with("data-parallel-sharding-strategy", what.into());
        }
    }
    if u.settings.overlap_gradients {
        flags.push("overlap-grad-reduce");
        if u.settings.zero > 0 {
            flags.push("overlap-param-gather");
        }
    }
    if u.settings.overlap_tp {
        flags.push("tp-comm-overlap");
    }
    if u.settings.overlap_p2p && u.settings.schedule != Schedule::Interleaved {
        return refuse(
            "Megatron-LM overlaps transfers between stages with the interleaved schedule alone",
            "",
        );
    }
    if u.settings.schedule == Schedule::Interleaved && !u.settings.overlap_p2p {
        flags.push("no-overlap-p2p-communication");
    }
    match scenario.training.precision {
        Precision::Bf16 => flags.push("bf16"),
        Precision::Fp16 => flags.push("fp16"),
        _ => {}
    }
    let mut text = format!("# {} GPUs, data parallelism {}\n# ranks: {}\n", u.gpus(), u.dp, u.ranks_text());
    list.extend(flags.into_iter().map(|f| (f.to_string(), None)));
    let lines: Vec<String> = list
        .into_iter()
        .map(|(name, value)| value.map_or(format!("--{name}"), |v| format!("--{name} {v}")))
        .collect();
    let _ = writeln!(text, "{}", lines.join(" \\\n"));
    Ok(text)
}

/// Blocks of every virtual stage of an interleaved plan.
fn virtual_blocks(scenario: &Scenario, u: &Uniform) -> Result<u32, Refusal> {
    let blocks = |r: &LayerRange| {
        r.iter()
            .filter(|l| {
                scenario.model.kind(*l) != LayerKind::Embedding && scenario.model.kind(*l) != LayerKind::Head
            })
            .count() as u32
    };
    let mut counts: Vec<u32> = u.stages.iter().flat_map(|l| l.chunks().iter().map(blocks)).collect();
    counts.dedup();
    match counts.as_slice() {
        [per] if *per > 0 => Ok(*per),
        _ => refuse("its virtual stages have unlike numbers of blocks", "Megatron-LM gives each as many"),
    }
}

/// How uneven stages are said; nothing where they are even.
fn uneven(scenario: &Scenario, u: &Uniform) -> Vec<(&'static str, String)> {
    let n = u.stages.len();
    if let Some(blocks) = u.blocks(scenario).filter(|b| b.iter().all(|n| *n > 0)) {
        if blocks.iter().all(|b| *b == blocks[0]) {
            return Vec::new();
        }
        let middle = &blocks[1..n - 1];
        if middle.iter().all(|b| *b == middle[0]) {
            return vec![
                ("decoder-first-pipeline-num-layers", blocks[0].to_string()),
                ("decoder-last-pipeline-num-layers", blocks[n - 1].to_string()),
            ];
        }
    }
    let stage = |layers: &Layers| {
        let (mut text, mut run) = (String::new(), 0u32);
        for l in layers.chunks().iter().flat_map(|r| r.iter()) {
            match scenario.model.kind(l) {
                LayerKind::Embedding => text.push('E'),
                LayerKind::Head => {
                    text += &times(std::mem::take(&mut run));
                    text.push('L');
                }
                _ => run += 1,
            }
        }
        text + &times(run)
    };
    let layout: Vec<String> = u.stages.iter().map(stage).collect();
    vec![("pipeline-model-parallel-layout", format!("\"{}\"", layout.join("|")))]
}

/// `t*3`
fn times(n: u32) -> String {
    match n {
        0 => String::new(),
        1 => "t".into(),
        n => format!("t*{n}"),
    }
}

/// Arguments that are read; others are the framework's own business.
const KNOWN: [&str; 16] = [
    "tensor-model-parallel-size",
    "pipeline-model-parallel-size",
    "context-parallel-size",
    "expert-model-parallel-size",
    "micro-batch-size",
    "global-batch-size",
    "num-layers",
    "hidden-size",
    "seq-length",
    "decoder-first-pipeline-num-layers",
    "decoder-last-pipeline-num-layers",
    "pipeline-model-parallel-layout",
    "num-layers-per-virtual-pipeline-stage",
    "recompute-granularity",
    "data-parallel-sharding-strategy",
    "world-size",
];

/// The plan that a launch's arguments make on the scenario's cluster.
///
/// # Errors
/// What is wrong with them, or makes them no plan for the scenario.
pub fn import(scenario: &Scenario, text: &str) -> Result<Plan, Refusal> {
    let (mut values, mut ranks) = (BTreeMap::<&str, String>::new(), Vec::new());
    let mut flags: Vec<String> = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    for line in text.lines() {
        match line.trim().strip_prefix('#') {
            Some(comment) => {
                if let Some(list) = comment.trim().strip_prefix("ranks:") {
                    ranks = read_ranks(list.trim())?;
                }
            }
            None => words.extend(line.split_whitespace().filter(|w| *w != "\\")),
        }
    }
    let mut at = 0;
    while at < words.len() {
        let Some(name) = words[at].strip_prefix("--") else {
            at += 1;
            continue;
        };
        let (name, inline) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v)));
        let name = name.replace('_', "-");
        let next = inline.or_else(|| words.get(at + 1).copied().filter(|w| !w.starts_with("--")));
        match KNOWN.iter().find(|k| **k == name) {
            Some(known) => {
                let Some(value) = next else { return refuse(format!("`--{name}` has no value"), "") };
                let value = value.trim_matches(['"', '\'']).to_string();
                if values.insert(known, value).is_some() {
                    return refuse(format!("`--{name}` is given twice"), "once");
                }
            }
            None => flags.push(name),
        }
        at += 1;
    }
    let number = |name: &str| -> Result<Option<u32>, Refusal> {
        let Some(value) = values.get(name) else { return Ok(None) };
        match value.parse::<u64>() {
            Ok(n) => degree(&format!("--{name}"), n).map(Some),
            Err(_) => refuse(format!("`--{name}` is `{value}`"), "a whole number"),
        }
    };
    let or_one = |name: &str| number(name).map(|n| n.unwrap_or(1));
    let (tp, p) = (or_one("tensor-model-parallel-size")?, or_one("pipeline-model-parallel-size")?);
    let (cp, ep) = (or_one("context-parallel-size")?, or_one("expert-model-parallel-size")?);
    let Some(micro_batch) = number("micro-batch-size")? else {
        return refuse("no `--micro-batch-size`", "Megatron-LM needs one");
    };
    if let Some(batch) = number("global-batch-size")? {
        same_batch(scenario, batch)?;
    }
    let model = &scenario.model;
    for (name, ours) in [
        ("num-layers", u64::from(model.blocks)),
        ("hidden-size", model.hidden),
        ("seq-length", model.seq_len),
    ] {
        if let Some(theirs) = number(name)?.filter(|n| u64::from(*n) != ours) {
            return refuse(
                format!("`--{name}` is {theirs}, the scenario's model has {ours}"),
                "the same model",
            );
        }
    }
    let gpus = match number("world-size")? {
        Some(n) => u64::from(n),
        None if !ranks.is_empty() => ranks.iter().map(|r| u64::from(r.last - r.first) + 1).sum(),
        None => scenario.gpus(),
    };
    let dp = data_parallel(gpus, u64::from(tp) * u64::from(cp), u64::from(p))?;
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    let zero = match values.get("data-parallel-sharding-strategy").map(String::as_str) {
        Some("optim") => 1,
        Some("optim_grads") => 2,
        Some("optim_grads_params") => 3,
        Some("no_shard") | None => u8::from(has("use-distributed-optimizer")),
        Some(other) => {
            return refuse(
                format!("`--data-parallel-sharding-strategy` is `{other}`"),
                "no_shard, optim, optim_grads or optim_grads_params",
            );
        }
    };
    let recompute = match values.get("recompute-granularity").map(String::as_str) {
        None => Recompute::None,
        Some("selective") => Recompute::Selective,
        Some("full") => Recompute::Full,
        Some(other) => {
            return refuse(format!("`--recompute-granularity` is `{other}`"), "selective or full");
        }
    };
    let mut settings = Plan {
        sequence_parallel: has("sequence-parallel"),
        overlap_tp: has("tp-comm-overlap"),
        overlap_gradients: has("overlap-grad-reduce"),
        zero,
        ..Plan::default()
    };
    let stages = match number("num-layers-per-virtual-pipeline-stage")? {
        Some(per) => {
            settings.schedule = Schedule::Interleaved;
            settings.overlap_p2p = !has("no-overlap-p2p-communication");
            interleaved(model.blocks, p, per)?
        }
        None => {
            settings = plain(settings);
            let first = number("decoder-first-pipeline-num-layers")?;
            let last = number("decoder-last-pipeline-num-layers")?;
            match values.get("pipeline-model-parallel-layout") {
                Some(layout) => from_layout(layout, model.blocks, p)?,
                None => stages_of(&shared(model.blocks, p, first, last)?),
            }
        }
    };
    let micro_batches = micro_batches(scenario, micro_batch, dp)?;
    Uniform { micro_batch, micro_batches, dp, tp, cp, ep, stages, recompute, settings, ranks }.plan(scenario)
}

/// Blocks of each stage: those of the first and the last as said, the rest evenly.
fn shared(blocks: u32, p: u32, first: Option<u32>, last: Option<u32>) -> Result<Vec<u32>, Refusal> {
    let uneven = || {
        refuse(
            format!("{blocks} blocks do not divide over {p} stages as said"),
            "Megatron-LM divides the rest evenly",
        )
    };
    if p > blocks {
        return uneven();
    }
    let said = u64::from(first.unwrap_or(0)) + u64::from(last.unwrap_or(0));
    let others = p - u32::from(first.is_some()) - u32::from(last.is_some() && p > 1);
    let Some(rest) = u64::from(blocks).checked_sub(said) else { return uneven() };
    let each = if others == 0 { 0 } else { rest / u64::from(others) };
    if each * u64::from(others) != rest || (others > 0 && each == 0) {
        return uneven();
    }
    let stage = |s: u32| match (first, last) {
        (Some(n), _) if s == 0 => n,
        (_, Some(n)) if s + 1 == p => n,
        _ => each as u32,
    };
    Ok((0..p).map(stage).collect())
}

fn interleaved(blocks: u32, p: u32, per: u32) -> Result<Vec<Layers>, Refusal> {
    let round = u64::from(p) * u64::from(per);
    if round == 0 || !u64::from(blocks).is_multiple_of(round) || u64::from(blocks) == round {
        return refuse(
            format!("{blocks} blocks are not several rounds of {p} stages with {per} each"),
            "stages x blocks a virtual stage divides the blocks, at least twice",
        );
    }
    let rounds = (u64::from(blocks) / round) as u32;
    let stage = |s: u32| {
        let ranges: Vec<String> = (0..rounds)
            .map(|v| {
                let first = 1 + (v * p + s) * per;
                let low = if v == 0 && s == 0 { 0 } else { first };
                let high = first + per - 1 + u32::from(v + 1 == rounds && s + 1 == p);
                LayerRange { first: low, last: high }.to_string()
            })
            .collect();
        ranges.join(",").parse::<Layers>().or_else(|e| refuse(e.to_string(), ""))
    };
    (0..p).map(stage).collect()
}

/// Reads a layout: stages apart by `|`, `E`, `t`, `L`, and `x*n` for n of x.
fn from_layout(layout: &str, blocks: u32, p: u32) -> Result<Vec<Layers>, Refusal> {
    let bad = |what: String| {
        refuse(format!("`--pipeline-model-parallel-layout` {what}"), "such as `Et*3|t*4|t*2L`")
    };
    let (mut next, mut stages) = (0u32, Vec::new());
    for stage in layout.split('|') {
        let (first, mut chars) = (next, stage.chars().filter(|c| *c != ',').peekable());
        while let Some(c) = chars.next() {
            let mut count = String::new();
            if chars.peek() == Some(&'*') {
                chars.next();
                while let Some(d) = chars.next_if(char::is_ascii_digit) {
                    count.push(d);
                }
            }
            let count: u32 = if count.is_empty() { 1 } else { count.parse().unwrap_or(0) };
            if !(1..=1 << 16).contains(&count) {
                return bad(format!("has a count in `{stage}` that is no number from 1 to 65536"));
            }
            let fits = match c {
                'E' => next == 0 && count == 1,
                't' => next >= 1 && next + count <= blocks + 1,
                'L' => next == blocks + 1 && count == 1,
                other => return bad(format!("has `{other}`; E, t and L are read")),
            };
            if !fits {
                return bad(format!("does not give E, {blocks} blocks and L in order"));
            }
            next += count;
        }
        if next == first {
            return bad("has an empty stage".into());
        }
        stages.push(LayerRange { first, last: next - 1 }.into());
    }
    if next != blocks + 2 || stages.len() != p as usize {
        return bad(format!("has {} stages with {next} layers for {p} with {}", stages.len(), blocks + 2));
    }
    Ok(stages)
}
