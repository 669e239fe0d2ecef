//! How a row shares out its model: tensor, pipeline, data, context and expert parallelism, recomputation, sharding.

use super::Skip;
use super::case::{corrupt, to_u32};
use super::row::Row;
use sim_models::framework::{Framework, Habits};
use sim_models::plan::Recompute;
use sim_models::workload::Model;

/// How a row shares out its model, with its framework's habits where it does not say.
pub(super) struct Degrees {
    pub tp: u32,
    pub pp: u32,
    pub dp: u32,
    pub cp: u32,
    pub ep: u32,
    pub vpp: u32,
    pub zero: u8,
    pub recompute: Recompute,
    pub sequence_parallel: bool,
    pub habits: &'static Habits,
}

impl Degrees {
    pub(super) fn of(row: &Row, framework: &'static Framework, model: &Model) -> Result<Degrees, Skip> {
        let habits = &framework.habits;
        let degree = |cell: Option<u64>, name: &str| to_u32(cell.unwrap_or(1), name);
        let (tp, cp) = (degree(row.tp, "tp")?, degree(row.cp, "cp")?);
        let (pp, dp) = (degree(row.pp, "pp")?, degree(Some(Row::need(row.dp, "dp")?), "dp")?);
        let recompute = row.recompute.to_ascii_lowercase();
        let recompute = match recompute.as_str() {
            "" => habits.recompute,
            "none" | "no" | "0" | "false" | "off" => Recompute::None,
            text if ["selective", "attn", "sac"].iter().any(|w| text.contains(w)) => Recompute::Selective,
            _ => Recompute::Full,
        };
        // Where sequences are cut among ranks, a rank's part has to be whole.
        if !model.seq_len.is_multiple_of(u64::from(cp)) {
            return Err(corrupt(format!("cp {cp} does not divide the sequence of {} tokens", model.seq_len)));
        }
        let mut ep = if model.experts.is_some() { degree(row.ep, "ep")? } else { 1 };
        if let Some(experts) = &model.experts {
            let ranks = u64::from(tp) * u64::from(cp) * u64::from(dp);
            if !experts.count.is_multiple_of(u64::from(ep)) || !ranks.is_multiple_of(u64::from(ep)) {
                let what = format!("ep {ep} of {} experts over {ranks} devices of a stage", experts.count);
                return Err(corrupt(what));
            }
            // Not said: as far as the ranks of a stage reach, up to a node.
            if row.ep.is_none() {
                ep = largest_divisor(experts.count, ranks, 8);
            }
        }
        Ok(Degrees {
            tp,
            pp,
            dp,
            cp,
            ep,
            vpp: degree(row.vpp, "vpp")?,
            zero: zero(&row.zero, habits.zero).min(if pp > 1 { habits.zero_in_pipelines } else { 3 }),
            recompute,
            sequence_parallel: tp > 1 && row.sequence_parallel.unwrap_or(habits.sequence_parallel),
            habits,
        })
    }
}

fn largest_divisor(experts: u64, ranks: u64, most: u64) -> u32 {
    let divides = |n: &u64| experts.is_multiple_of(*n) && ranks.is_multiple_of(*n);
    (1..=most).rev().find(divides).unwrap_or(1) as u32
}

/// ZeRO's stage as sources word it: `1`, `ZeRO-3`, `FSDP FULL_SHARD`, `DDP`.
fn zero(text: &str, habit: u8) -> u8 {
    let text = text.to_ascii_lowercase();
    let after = text.find("zero").map_or("", |at| &text[at + 4..]);
    let digit = |t: &str| t.chars().find(char::is_ascii_digit).map(|c| c as u8 - b'0');
    match () {
        () if text.is_empty() => habit,
        () if text == "ddp" => habit.min(1),
        () if text == "none" || text == "false" => 0,
        () if !after.is_empty() => digit(after).unwrap_or(1).min(3),
        () if text.contains("grad_op") => 2,
        () if text.contains("fsdp") || text.contains("full_shard") || text.contains("hybrid") => 3,
        () if text.contains("distributed") || text.contains("optimizer") => 1,
        () => digit(&text).unwrap_or(habit).min(3),
    }
}
