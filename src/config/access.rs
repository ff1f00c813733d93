//! Remarks on files that too many may read or write.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::document::{Findings, RawHost};
use super::error::RemarkKind;

/// Bits by which others may read a file, or do anything else with it.
const FOR_OTHERS: u32 = 0o077;

/// Bits by which others may write to a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Remarks on passkeys in the file at `path` when others may read it.
pub(super) fn remark_on_passkeys(path: &Path, hosts: &[RawHost], findings: &mut Findings) {
    let has_passkey = hosts.iter().any(|raw| {
        raw.host
            .table
            .text("passkey")
            .is_some_and(|key| !key.is_empty())
    });
    let mode = mode_of(path);
    if has_passkey && mode & FOR_OTHERS != 0 {
        let text = format!(
            "holds passkeys, and others may read it (mode {mode:03o}); run `chmod 600` on it"
        );
        findings.remark_on_access(RemarkKind::OpenSecret, path, text);
    }
}

/// Remarks on a key to log in with when others may read it.
pub(super) fn remark_on_identity(path: &Path, findings: &mut Findings) {
    let mode = mode_of(path);
    if mode & FOR_OTHERS != 0 {
        let text = format!(
            "is a private key, and others may read it (mode {mode:03o}); run `chmod 600` on it"
        );
        findings.remark_on_access(RemarkKind::OpenSecret, path, text);
    }
}

/// Remarks on the keys of hosts when others may write them.
pub(super) fn remark_on_known_hosts(path: &Path, findings: &mut Findings) {
    let mode = mode_of(path);
    if mode & WRITABLE_BY_OTHERS != 0 {
        let text = format!(
            "decides which hosts are logged in to, and others may write to it (mode {mode:03o}); run \
             `chmod go-w` on it"
        );
        findings.remark_on_access(RemarkKind::OpenKnownHosts, path, text);
    }
}

/// The permission bits of a file; none where there is no file.
fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o777)
}
