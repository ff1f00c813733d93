//! Stages what is in the backups of a host.

use std::time::Duration;

use crate::model::{Mode, RelPath, RemotePath};
use crate::remote::answer::Section;
use crate::remote::limits::{Expected, Work};
use crate::remote::{Login, RemoteError, Room, Script, Task};

/// What is to be staged from backups.
#[derive(Clone, Debug)]
pub struct RestoreRequest<'a> {
    /// The staging folder, which holds the backups, too.
    pub base: &'a RemotePath,
    /// The folder of this run in it.
    pub run_name: &'a str,
    /// The files.
    pub files: &'a [RestoredFile<'a>],
    /// Bytes that all of them have together.
    pub total_bytes: u64,
    /// How long the session waits for a sign of life.
    pub stall_timeout: Duration,
}

/// A file that a backup has.
#[derive(Clone, Debug)]
pub struct RestoredFile<'a> {
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Its permission bits in staging.
    pub mode: Mode,
    /// Its digest, hexadecimal, in the algorithm of the host.
    pub digest: String,
    /// Where it is staged: the number of the mapping and the path below it.
    pub path: Vec<u8>,
    /// Where its bytes may be, below the staging folder; the likeliest place first.
    pub backups: &'a [Vec<u8>],
}

/// Where a commit keeps what it found at a path of a mapping, below the staging folder. `folder` is the
/// name of its folder of backups.
pub fn backup_path(folder: &str, mapping: usize, path: &RelPath) -> Vec<u8> {
    let mut at = format!("backup/{folder}/{mapping}").into_bytes();
    if !path.is_root() {
        at.push(b'/');
        at.extend_from_slice(path.as_bytes());
    }
    at
}

/// Stages these files. Gives the staged paths of those that no backup has; then nothing is staged.
///
/// # Errors
/// When the host cannot be asked, gives up, or does not answer to the end.
pub fn restore(
    login: &mut Login,
    request: &RestoreRequest<'_>,
) -> Result<Vec<Vec<u8>>, RemoteError> {
    let mut files = Vec::new();
    for file in request.files {
        let RestoredFile {
            size_bytes,
            mode,
            digest,
            path,
            backups,
        } = file;
        let head = format!("{size_bytes} {mode} {} {digest}\n", backups.len());
        files.extend([head.as_bytes(), path, b"\n"].concat());
        for backup in *backups {
            files.extend_from_slice(backup);
            files.push(b'\n');
        }
    }
    let expected = Expected::of_paths(request.files.iter().map(|file| file.path.as_slice()));
    let mut script = Script::new(Task::Restore, request.stall_timeout);
    script
        .path("hs_base", request.base)
        .text("hs_run", request.run_name.as_bytes())
        .work(Work {
            entries: expected.entries,
            // Read to be verified, and copied.
            disk_bytes: request.total_bytes.saturating_mul(2),
        })
        .number("hs_files", files.len() as u64);
    let run = login.ask(&script, files, Room::for_answer(expected.answer_bytes()))?;
    let lost = run.section("lost");
    let lost = lost.into_iter().flat_map(Section::lines);
    Ok(lost.map(<[u8]>::to_vec).collect())
}
