//! Files that the command line names, read whole and no longer ones than [`MOST`], or as streams.

use crate::failure::Failure;
use scenarios::files;
use std::fmt::Display;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Longest file that is read, in bytes.
const MOST: u64 = 1 << 30;

/// What a file holds.
///
/// # Errors
/// Says why not, and that `what` would be right.
pub(crate) fn bytes(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    files::bytes(path, MOST).map_err(|why| unreadable(path, &why, what))
}

/// The text that a file holds.
///
/// # Errors
/// Says why not, and that `what` would be right.
pub(crate) fn text(path: &Path, what: &str) -> Result<String, Failure> {
    files::text(path, MOST).map_err(|why| unreadable(path, &why, what))
}

/// A file that is read as it is used, of any length.
///
/// # Errors
/// Says why not, and that `what` would be right.
pub(crate) fn stream(path: &Path, what: &str) -> Result<BufReader<File>, Failure> {
    let file = files::open(path).map_err(|why| unreadable(path, &why, what))?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

/// That a file cannot be read, why, and what would be right.
pub(crate) fn unreadable(path: &Path, why: &dyn Display, what: &str) -> Failure {
    Failure::new(format!("cannot read `{}`: {why}", path.display()), what)
}
