//! `--shard auto`: which part of a search a task of a Slurm job array has, from the variables that Slurm sets for it.

/// The part and how many there are, by the variables that `of` knows.
pub(crate) fn shard(of: impl Fn(&str) -> Option<String>) -> Result<(u32, u32), String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        match of(name).map(|text| text.trim().parse()) {
            None => Ok(None),
            Some(Ok(n)) => Ok(Some(n)),
            Some(Err(_)) => Err(format!("{name} is no whole number")),
        }
    };
    let id = number("SLURM_ARRAY_TASK_ID")?;
    let count = number("SLURM_ARRAY_TASK_COUNT")?;
    let (Some(id), Some(count)) = (id, count) else {
        return Err(
            "`auto` needs SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, which `sbatch --array` sets".into(),
        );
    };
    let min = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
    let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
    let index = id.checked_sub(min).filter(|from| from % step == 0).map(|from| from / step);
    match index {
        Some(index) if index < count && count <= 65_536 => Ok((index as u32, count as u32)),
        _ => Err(format!(
            "task {id} of an array of {count} tasks from {min} in steps of {step} is no part; use `sbatch --array=0-N`, without gaps, \
             up to 65536 tasks"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::shard;

    fn with(id: &str, count: &str, min: &str, step: &str) -> Result<(u32, u32), String> {
        shard(|name| {
            let value = match name.rsplit('_').next() {
                Some("ID") => id,
                Some("COUNT") => count,
                Some("MIN") => min,
                _ => step,
            };
            (!value.is_empty()).then(|| value.to_string())
        })
    }

    #[test]
    fn tasks_are_parts() {
        assert_eq!(with("0", "4", "0", "1"), Ok((0, 4)));
        assert_eq!(with("7", "3", "5", ""), Ok((2, 3)));
        assert_eq!(with("12", "4", "0", "4"), Ok((3, 4)));
        for (id, count, min, step) in [
            ("", "", "", ""),
            ("3", "", "", ""),
            ("x", "4", "", ""),
            ("9", "3", "1", ""),
            ("0", "3", "1", ""),
            ("5", "4", "0", "4"),
        ] {
            assert!(with(id, count, min, step).is_err(), "{id} {count} {min} {step}");
        }
        assert!(with("0", "100000", "0", "").is_err() && with("0", "0", "0", "").is_err());
    }
}
