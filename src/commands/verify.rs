//! `tideplan verify`: a certificate, checked.

use super::searching::{CertificateFile, read_json};
use super::{print, print_json};
use crate::cli;
use crate::failure::{Answer, Failure};
use crate::report::table::{seconds, thousands};
use serde_json::json;
use sim_search::verify::verify;

pub(super) fn run(args: &cli::Verify) -> Result<Answer, Failure> {
    let file: CertificateFile = read_json(&args.certificate, "a file that `plan --certificate` wrote")?;
    let (loaded, overrides) = file.origin.load()?;
    let certificate = &file.certificate;
    let verified = verify(&loaded.scenario, overrides.at, certificate);
    let best = certificate.best.as_ref().map(|best| best.time_ps as f64 / 1e12);
    let bound = best.map(|_| certificate.lower_bound_ps as f64 / 1e12);
    let proven = best.is_none() || best == bound;
    if args.json {
        let (done, flaw) = match &verified {
            Ok(done) => (*done, None),
            Err(flaw) => (Default::default(), Some(flaw.to_string())),
        };
        print_json(&json!({
            "holds": verified.is_ok(),
            "flaw": flaw,
            "proven_optimal": verified.is_ok() && proven,
            "iteration_time_s": best,
            "lower_bound_s": bound,
            "nodes": certificate.nodes.len(),
            "borne_out": done.nodes,
            "opened": done.opened,
            "simulated": done.simulated,
        }))?;
    } else {
        let text = match &verified {
            Err(flaw) => format!("the certificate does not hold: {flaw}\n"),
            Ok(done) => {
                let claim = match (best, bound) {
                    (None, _) | (_, None) => "no plan of the space is feasible".into(),
                    (Some(best), Some(_)) if proven => {
                        format!("no plan of the space is faster than {}", seconds(best))
                    }
                    (Some(best), Some(bound)) => format!(
                        "no plan of the space is faster than {}, the best has {}",
                        seconds(bound),
                        seconds(best)
                    ),
                };
                format!(
                    "the certificate holds: {claim}\n{} nodes borne out, {} opened, {} plans simulated again\n",
                    thousands(done.nodes),
                    thousands(done.opened),
                    thousands(done.simulated)
                )
            }
        };
        print(&text)?;
    }
    Ok(if verified.is_ok() { Answer::Yes } else { Answer::No })
}
