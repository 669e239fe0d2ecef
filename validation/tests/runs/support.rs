//! A runs file of one good row that a test changes.

use validation::runs::{Outcome, Settings, evaluate, read};

const HEADER: &str = "id,source,trust,model,layers,hidden,seq_len,gpu,gpu_mix,gpus,gpus_per_node,tp,pp,dp,micro_batch,global_batch,precision,framework,plan,iter_time_s,peak_mem_gib,heads,kv_heads,ffn_hidden,inter_link,seq_parallel";
const GOOD: &str =
    "r1,S,A,OPT-350M,24,1024,2048,GH200-96GB,,8,4,4,1,2,2,32,fp32,Megatron-DeepSpeed,,0.8048,11.6797,,,,,";

/// The good row with some cells changed.
pub(crate) fn with(changes: &[(&str, &str)]) -> String {
    let cells: Vec<String> = HEADER
        .split(',')
        .zip(GOOD.split(','))
        .map(|(column, cell)| {
            let changed = changes.iter().find(|(name, _)| *name == column).map_or(cell, |(_, v)| v);
            format!("\"{}\"", changed.replace('"', "\"\""))
        })
        .collect();
    format!("{}\n", cells.join(","))
}

/// A file with these rows.
pub(crate) fn file(rows: &[String]) -> String {
    format!("{HEADER}\n{}", rows.concat())
}

/// The row with some cells changed, scored beside a good one and with this plan file.
pub(crate) fn scored(changes: &[(&str, &str)], plan: Option<&str>) -> Outcome {
    let text = file(&[with(changes), with(&[("id", "good")])]);
    let plan_of = |id: &str| if id == "good" { None } else { plan.map(String::from) };
    let rows = read(&text).expect("one good row reads");
    let mut outcomes = evaluate(rows, &Settings::default(), |row| plan_of(&row.id));
    assert!(outcomes[1].result.is_ok(), "the good row: {:?}", outcomes[1].result);
    outcomes.swap_remove(0)
}
