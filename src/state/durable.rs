//! Reading and replacing whole files so that a crash leaves the old bytes or the new ones.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::StateError;

/// How the names of files begin that were not yet moved into place.
const UNFINISHED: &str = ".new-";

/// The bytes of a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::io("read", path, &error)),
    }
}

/// The names in a folder, in no order; none when there is no folder.
pub(super) fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, StateError> {
    let refuse = |error: io::Error| StateError::io("read", dir, &error);
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refuse(error)),
    };
    listing
        .map(|entry| Ok(entry.map_err(refuse)?.file_name()))
        .collect()
}

/// Replaces a file. When this returns, the new bytes survive a power cut; when it fails, the old
/// ones are still there.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<(), StateError> {
    let dir = folder_of(path);
    create_folder(dir)?;
    let refuse = |error: io::Error| StateError::io("write", path, &error);
    // Made with mode 0600, and removed again if anything below fails.
    let file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(dir)
        .map_err(refuse)?;
    let mut writer = io::BufWriter::with_capacity(1 << 16, file);
    write(&mut writer)
        .and_then(|()| writer.flush())
        .map_err(refuse)?;
    let file = writer
        .into_inner()
        .map_err(|error| refuse(error.into_error()))?;
    file.as_file().sync_all().map_err(refuse)?;
    file.persist(path).map_err(|error| refuse(error.error))?;
    sync_folder(dir)
}

/// Removes a file; says whether there was one.
pub(super) fn remove(path: &Path) -> Result<bool, StateError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(folder_of(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StateError::io("remove", path, &error)),
    }
}

/// Makes a folder that only its owner can enter, unless it exists.
pub(super) fn create_folder(dir: &Path) -> Result<(), StateError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| StateError::io("create", dir, &error))?;
    sync_folder(folder_of(dir))
}

/// Removes what a run that was killed had not yet moved into place. Only for the holder of the lock.
pub(super) fn remove_unfinished(dir: &Path) -> Result<(), StateError> {
    for name in names(dir)? {
        if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            remove(&dir.join(name))?;
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn sync_folder(dir: &Path) -> Result<(), StateError> {
    match File::open(dir).and_then(|folder| folder.sync_all()) {
        // Some network file systems cannot sync a folder; there is nothing better to do there.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result.map_err(|error| StateError::io("sync", dir, &error)),
    }
}
