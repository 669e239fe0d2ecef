//! Files are written whole or not at all: to a temporary file beside the target, then renamed. What is no file, a pipe or a
//! device, is written to.

use crate::failure::Failure;
use std::fs::{File, Permissions};
use std::io::{BufWriter, Error, Write};
use std::path::Path;

pub(crate) fn whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    streamed(path, |out| out.write_all(content).map_err(failed))
}

/// A file that is too large to hold, as it is made.
pub(crate) fn streamed(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let there = std::fs::metadata(path).ok().filter(|about| !about.is_dir());
    // Renamed over, a link or a device would be gone.
    let path = &match &there {
        Some(about) if about.is_file() => path.canonicalize().unwrap_or_else(|_| path.into()),
        Some(_) => return onto(path, write),
        None => path.to_path_buf(),
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = |e| cannot(path, &e);
    let mut file = temporary(there.map(|about| about.permissions())).tempfile_in(folder).map_err(cannot)?;
    let mut out = BufWriter::new(file.as_file_mut());
    write(&mut out)?;
    out.flush().map_err(cannot)?;
    drop(out);
    file.persist(path).map_err(|e| cannot(e.error))?;
    Ok(())
}

/// A temporary file with the permissions of what it takes the place of, or those that a new file has.
#[cfg(unix)]
fn temporary(like: Option<Permissions>) -> tempfile::Builder<'static, 'static> {
    use std::os::unix::fs::PermissionsExt;
    let mut made = tempfile::Builder::new();
    // Of a new file the system takes away what the user's mask forbids.
    made.permissions(like.unwrap_or_else(|| Permissions::from_mode(0o666)));
    made
}

#[cfg(not(unix))]
fn temporary(_: Option<Permissions>) -> tempfile::Builder<'static, 'static> {
    tempfile::Builder::new()
}

/// Writes to what is there and stays.
fn onto(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut file = File::options().write(true).open(path).map_err(|e| cannot(path, &e))?;
    let mut out = BufWriter::new(&mut file);
    write(&mut out)?;
    out.flush().map_err(|e| cannot(path, &e))
}

fn cannot(path: &Path, error: &Error) -> Failure {
    Failure::new(format!("cannot write `{}`: {error}", path.display()), "a path in a folder that exists")
}

/// What a writer could not write.
pub(crate) fn failed(error: Error) -> Failure {
    Failure::new(format!("cannot write: {error}"), "")
}
