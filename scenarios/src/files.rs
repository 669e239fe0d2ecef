//! Reading files: whole, and no more of them than a bound, so that none without end fills the memory.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// Largest scenario or plan, in bytes.
pub const DOCUMENT: u64 = 16 << 20;
/// Largest table, in bytes: a trace of some ten million points.
pub const TABLE: u64 = 512 << 20;

/// A file, to be read.
///
/// # Errors
/// Says why not: missing, no permission, a folder.
pub fn open(path: &Path) -> Result<File, String> {
    let file = File::open(path).map_err(|e| why(&e))?;
    match file.metadata() {
        Ok(about) if about.is_dir() => Err(why(&ErrorKind::IsADirectory.into())),
        _ => Ok(file),
    }
}

fn why(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".to_string(),
        ErrorKind::PermissionDenied => "no permission".to_string(),
        ErrorKind::IsADirectory => "it is a folder".to_string(),
        _ => error.to_string(),
    }
}

/// A file of at most `most` bytes.
///
/// # Errors
/// Those of [`open()`], and that it is too large.
pub fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes).map_err(|e| why(&e))?;
    if bytes.len() as u64 > most {
        return Err(format!("over {} MiB", most >> 20));
    }
    Ok(bytes)
}

/// The text of a file of at most `most` bytes.
///
/// # Errors
/// Those of [`bytes()`]; that it is not UTF-8, and in which line.
pub fn text(path: &Path, most: u64) -> Result<String, String> {
    String::from_utf8(bytes(path, most)?).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        format!("line {line} is not UTF-8 text")
    })
}
