//! `tideplan merge`: what the parts of a search found, joined.

use super::plan::{Shown, answer};
use super::searching::{PartFile, read_json};
use crate::cli;
use crate::failure::{Answer, Failure};
use sim_search::merge;

pub(super) fn run(args: &cli::Merge) -> Result<Answer, Failure> {
    let mut parts: Vec<(PartFile, String)> = Vec::new();
    for path in &args.parts {
        let part = read_json(path, "a file that `plan --shard I/N --part` wrote")?;
        parts.push((part, path.display().to_string()));
    }
    parts.sort_by_key(|(part, _)| part.shard);
    if let Some((part, path)) = parts.iter().find(|(part, _)| part.shard.0 >= part.shard.1) {
        let (index, of) = part.shard;
        return Err(Failure::new(format!("`{path}` says that it is part {index}/{of}"), "I below N in I/N"));
    }
    let Some((first, name)) = parts.first() else { return Ok(Answer::No) };
    let of = first.shard.1;
    for (part, other) in &parts {
        if part.shard.1 != of
            || part.origin != first.origin
            || part.top != first.top
            || part.found_by() != first.found_by()
            || part.found.dealt != first.found.dealt
        {
            let message = format!("`{name}` and `{other}` are not parts of one search");
            return Err(Failure::new(
                message,
                "the same scenario, overrides, `--top` and N of `--shard I/N`",
            ));
        }
    }
    let have: Vec<u32> = parts.iter().map(|(part, _)| part.shard.0).collect();
    let twice = have.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    if let Some(twice) = twice {
        return Err(Failure::new(
            format!("part {twice}/{of} is there twice"),
            format!("one file for each of 0/{of} to {}/{of}", of - 1),
        ));
    }
    let missing: Vec<String> = absent(&have, of).into_iter().map(|(from, to)| named(from, to, of)).collect();
    if !missing.is_empty() {
        return Err(Failure::new(
            format!("{} of {of} parts are missing: {}", of as usize - have.len(), listed(&missing)),
            "run `plan --shard` for these, and merge all",
        ));
    }
    let (loaded, overrides) = first.origin.load()?;
    let (objective, tokens) = (first.objective, first.tokens);
    let (top, time) = (first.top, parts.iter().map(|(part, _)| part.search_time_s).sum());
    let found = merge(parts.into_iter().map(|(part, _)| part.found).collect(), top);
    let found = found.ok_or_else(|| Failure::new("no parts", ""))?;
    let shown =
        Shown { objective, tokens, out: args.out.as_deref(), json: args.json, why_not: None, explain: None };
    answer(&loaded.scenario, &found, overrides.at, shown, time)
}

/// Runs of parts that are not there; `have` is in order.
fn absent(have: &[u32], of: u32) -> Vec<(u32, u32)> {
    let mut runs = Vec::new();
    let mut next = 0;
    for &part in have.iter().chain([&of]) {
        if part > next {
            runs.push((next, part - 1));
        }
        next = part + 1;
    }
    runs
}

fn named(from: u32, to: u32, of: u32) -> String {
    if from == to { format!("{from}/{of}") } else { format!("{from}/{of} to {to}/{of}") }
}

/// The first of many.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more runs", names.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::absent;

    #[test]
    fn what_is_not_there() {
        assert_eq!(absent(&[], 3), [(0, 2)]);
        assert_eq!(absent(&[0, 1, 2], 3), []);
        assert_eq!(absent(&[1, 4], 8), [(0, 0), (2, 3), (5, 7)]);
    }
}
