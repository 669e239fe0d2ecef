//! Files are written whole or not at all: to a temporary file beside the target, then renamed.

use crate::failure::Failure;
use std::io::Write;
use std::path::Path;

pub(crate) fn whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|e| {
        Failure::new(format!("cannot write `{}`: {e}", path.display()), "a path in a folder that exists")
    })
}
