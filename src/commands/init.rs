//! `tideplan init`: a scenario file to start from.

use super::print;
use crate::cli;
use crate::failure::{Answer, Failure};
use crate::{words, write};
use scenarios::Overrides;

pub(super) fn run(args: &cli::Init) -> Result<Answer, Failure> {
    let words = cli::Words {
        model: Some(args.words.model.clone().unwrap_or_else(|| "llama-3-8b".into())),
        gpus: Some(args.words.gpus.clone().unwrap_or_else(|| "a100-80:16,v100-16:16".into())),
        ..args.words.clone()
    };
    let Some((text, name)) = words::scenario(&words)? else { return Ok(Answer::No) };
    // What is written can be read.
    scenarios::load_text(&text, &format!("{name}.toml"), None, &Overrides::default())?;
    match &args.out {
        Some(path) if path.exists() => {
            return Err(Failure::new(format!("`{}` is there already", path.display()), "another name"));
        }
        Some(path) => write::whole(path, text.as_bytes())?,
        None => print(&text)?,
    }
    Ok(Answer::Yes)
}
