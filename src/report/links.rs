//! `--links F.csv`: what each shared link carried over time.

use crate::failure::Failure;
use crate::write;
use sim_models::explain::Explanation;
use sim_models::scenario::Scenario;
use std::io::Write;
use std::path::Path;

/// One row a change: load and capacity hold from it until the link's next row, the last to the end of the iteration.
pub(crate) fn csv(path: &Path, scenario: &Scenario, explanation: &Explanation) -> Result<(), Failure> {
    write::streamed(path, |out| {
        writeln!(out, "time_s,link,bytes_per_s,capacity_bytes_per_s").map_err(write::failed)?;
        for (link, report) in explanation.every_link.iter() {
            let name = link.name(scenario);
            let name = if name.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name
            };
            for load in &explanation.links[*report].loads {
                let (time, used, of) =
                    (decimal(load.from.as_ps()), load.used.as_bytes_per_s(), load.capacity.as_bytes_per_s());
                writeln!(out, "{time},{name},{used},{of}").map_err(write::failed)?;
            }
        }
        Ok(())
    })
}

/// Picoseconds as seconds, to the last digit.
fn decimal(ps: u64) -> String {
    let text = format!("{}.{:012}", ps / 1_000_000_000_000, ps % 1_000_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn seconds_are_exact() {
        for (ps, text) in
            [(0, "0"), (1, "0.000000000001"), (1_500_000_000_000, "1.5"), (u64::MAX, "18446744.073709551615")]
        {
            assert_eq!(decimal(ps), text);
        }
    }
}
