//! The nearest right name for a wrong one.

/// Words longer than this are not compared: nobody mistypes them, and comparing takes the product of the lengths. Nor are they
/// shown whole.
const LONGEST: usize = 64;

/// The candidate that is nearest to `word`, if one is near: at most a third of its letters differ (a swap of two
/// neighbours counts as one), or one is the start of the other. Case does not count.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let chars = |s: &str| s.chars().collect::<Vec<char>>();
    let lower = chars(&word.to_lowercase());
    let scored =
        candidates.into_iter().filter(|c| !c.is_empty() && c.len() <= LONGEST).filter_map(|candidate| {
            let other = chars(&candidate.to_lowercase());
            let far = distance(&lower, &other);
            let starts = lower.len() >= 3 && (other.starts_with(&lower) || lower.starts_with(&other));
            // Case breaks ties: `GBs` is `GB/s` rather than `Gbps`.
            ((far <= other.len().div_ceil(3) && far < other.len()) || starts)
                .then(|| ((far, distance(&chars(word), &chars(candidate))), candidate))
        });
    scored.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// `` did you mean `x`? ``, or what there is.
pub(crate) fn suggestion(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if candidates.is_empty() => String::new(),
        None => format!("there is {}", list(candidates)),
    }
}

/// `` `a`, `b` and `c` ``; a long list is cut.
pub(crate) fn list(names: &[&str]) -> String {
    const MOST: usize = 24;
    let quote = |name: &&str| match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}...`", &name[..end]),
        None => format!("`{name}`"),
    };
    let mut quoted: Vec<String> = names.iter().take(MOST).map(quote).collect();
    if names.len() > MOST {
        return format!("{} and {} more", quoted.join(", "), names.len() - MOST);
    }
    match quoted.pop() {
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} and {last}", quoted.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_name_that_was_meant() {
        let keys = ["global_batch", "precision", "optimizer", "memory_reserve", "count", "Gbps", "GB/s"];
        for (word, expected) in [
            ("global_bacth", Some("global_batch")),
            ("Precision", Some("precision")),
            ("memory", Some("memory_reserve")),
            ("cont", Some("count")),
            ("zzz", None),
            ("GBs", Some("GB/s")),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
    }

    #[test]
    fn distances_are_the_textbook_ones() {
        for (a, b, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1), ("abc", "abc", 0)]
        {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            assert_eq!(distance(&chars(a), &chars(b)), expected, "{a} {b}");
        }
    }
}
