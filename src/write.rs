//! Files are written whole or not at all: to a temporary file beside the target, then renamed.

use crate::failure::Failure;
use std::io::{BufWriter, Write};
use std::path::Path;

pub(crate) fn whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    streamed(path, |out| out.write_all(content).map_err(failed))
}

/// A file that is too large to hold, as it is made.
pub(crate) fn streamed(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut std::fs::File>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = |e: std::io::Error| {
        Failure::new(format!("cannot write `{}`: {e}", path.display()), "a path in a folder that exists")
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    let mut out = BufWriter::new(file.as_file_mut());
    write(&mut out)?;
    out.flush().map_err(cannot)?;
    drop(out);
    file.persist(path).map_err(|e| cannot(e.error))?;
    Ok(())
}

/// What a writer could not write.
pub(crate) fn failed(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot write: {error}"), "")
}
