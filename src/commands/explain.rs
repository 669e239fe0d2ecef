//! `tideplan explain`: an error code at length.

use super::print;
use crate::cli::Explain;
use crate::failure::{Answer, Failure};

pub(super) fn run(args: &Explain) -> Result<Answer, Failure> {
    match &args.code {
        None => {
            for code in scenarios::codes() {
                let first = scenarios::explain(code).and_then(|text| text.lines().next()).unwrap_or("");
                print(&format!("{code}  {first}\n"))?;
            }
        }
        Some(code) => match scenarios::explain(&code.to_ascii_uppercase()) {
            Some(text) => print(&format!("{}\n", text.trim_end()))?,
            None => {
                return Err(Failure::new(
                    format!("no error has the code `{code}`"),
                    "`tideplan explain` lists all codes",
                ));
            }
        },
    }
    Ok(Answer::Yes)
}
