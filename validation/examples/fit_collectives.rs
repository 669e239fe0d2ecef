//! Fits the collective model's parameters to a file of measurements, beside the shipped ones, and prints them as `parameters.toml`; with `--report`,
//! how well they and those fitted without each source predict it.

use sim_models::collective::Parameters;
use sim_models::collective::fit::fit;
use validation::collectives::{SHIPPED, rows, training, validate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("expected a CSV file of measured collectives")?;
    let text = std::fs::read_to_string(&file)?;
    let parsed = rows(&text)?;
    let shipped = rows(SHIPPED)?;
    let samples: Vec<_> =
        training(&parsed, &shipped).iter().filter_map(|row| row.sample.as_ref().ok()).collect();
    let (parameters, fitted) = fit(&samples, Parameters::builtin());
    if arguments.next().as_deref() != Some("--report") {
        print!("{}", parameters.to_toml());
        return Ok(());
    }
    for f in fitted {
        println!(
            "{:14} {:9.4} +- {:?}{}",
            f.name,
            f.value,
            f.standard_error,
            if f.at_bound { " (bound)" } else { "" }
        );
    }
    let report = validate(&text, &parameters)?;
    let percent = |x: Option<f64>| x.map_or("-".to_string(), |x| format!("{:.1}", 100.0 * x));
    println!("{:52} {:>6} {:>6}  in-sample  large | left out  large", "source", "n", "skip");
    for s in &report.sources {
        println!(
            "{:52} {:6} {:6} {:>9} {:>7} | {:>7} {:>7}  {:?}",
            s.source.chars().take(52).collect::<String>(),
            s.n,
            s.skipped,
            percent(s.shipped.all.median_ape),
            percent(s.shipped.large.median_ape),
            percent(s.leave_one_out.all.median_ape),
            percent(s.leave_one_out.large.median_ape),
            s.skipped_reasons
        );
    }
    for g in &report.gpus {
        println!(
            "{:52} {:6} {:>16} {:>7} | {:>7} {:>7}",
            g.gpu,
            g.scored.all.n,
            percent(g.scored.all.median_ape),
            percent(g.scored.large.median_ape),
            percent(g.leave_one_out.all.median_ape),
            percent(g.leave_one_out.large.median_ape)
        );
    }
    for (name, o) in [("in-sample", report.shipped), ("left out", report.leave_one_out)] {
        println!(
            "{name}: {} over {} sources, {} over {} from 1 MiB",
            percent(o.median_ape),
            o.sources,
            percent(o.large_median_ape),
            o.large_sources
        );
    }
    Ok(())
}
