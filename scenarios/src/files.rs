//! Reading files: whole, bounded, as text.

use std::io::Read;
use std::path::Path;

/// Largest scenario or plan, in bytes.
pub(crate) const DOCUMENT: u64 = 16 << 20;
/// Largest table, in bytes: a trace of some ten million points.
pub(crate) const TABLE: u64 = 512 << 20;

/// The text of a file of at most `most` bytes.
///
/// # Errors
/// Says why: missing, no permission, a folder, too large, not UTF-8.
pub(crate) fn read(path: &Path, most: u64) -> Result<String, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        use std::io::ErrorKind as Kind;
        let why = match error.kind() {
            Kind::NotFound => "no such file".to_string(),
            Kind::PermissionDenied => "no permission".to_string(),
            Kind::IsADirectory => "it is a folder".to_string(),
            _ => error.to_string(),
        };
        format!("cannot read `{shown}`: {why}")
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(format!("cannot read `{shown}`: over {} MiB", most >> 20));
    }
    String::from_utf8(bytes).map_err(|e| {
        format!("cannot read `{shown}`: not UTF-8 text at byte {}", e.utf8_error().valid_up_to())
    })
}
