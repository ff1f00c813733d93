//! What a host says when it cannot write, in the words of the configuration.

use super::failure::{ApplyError, UploadError};
use super::job::entry_of_staged;
use super::staged::{Staged, StagedTree};
use super::staging::UploadTarget;
use crate::config::Host;
use crate::remote::tasks::receive::stream::StreamError;
use crate::remote::tasks::receive::without_run_folder;

/// What the system says when nothing more fits in.
const FULL: [&str; 2] = ["No space left on device", "quota exceeded"];

/// Names destinations where a host that cannot write names what is staged, and the staging folder.
pub(super) fn explained(
    error: UploadError,
    host: &Host,
    target: UploadTarget<'_>,
    tree: &StagedTree,
) -> UploadError {
    match error {
        UploadError::Stream(StreamError::Refused { complaints, .. }) => {
            let complaints: Vec<String> = complaints
                .iter()
                .map(|complaint| with_destination(complaint, host, target, tree))
                .collect();
            let has_large = tree
                .values()
                .any(|staged| matches!(staged, Staged::File { is_large: true, .. }));
            let cure = cure(&complaints, &target.base.as_written(), has_large);
            UploadError::Stream(StreamError::Refused { complaints, cure })
        }
        other => other,
    }
}

/// A complaint that begins with the name of what is staged.
fn with_destination(
    complaint: &str,
    host: &Host,
    target: UploadTarget<'_>,
    tree: &StagedTree,
) -> String {
    let text = without_run_folder(complaint, target.base, target.run_name);
    let found = tree.iter().find_map(|(components, staged)| {
        let rest = match staged {
            Staged::File {
                is_large: true,
                digest,
                ..
            } => text
                .strip_prefix(&digest.blake3?.to_string())?
                .trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()),
            _ => text.strip_prefix(String::from_utf8_lossy(&components.join(&b'/')).as_ref())?,
        };
        let dest = dest_as_written(host, components)?;
        rest.starts_with(':').then(|| format!("{dest}{rest}"))
    });
    found.unwrap_or_else(|| text.to_owned())
}

/// A reason that a host gives, with what to do about it where it cannot write in a folder of ours.
pub(super) fn with_cure(reason: &str) -> ApplyError {
    let is_about_writing = [
        "cannot write in ",
        "cannot make a folder in ",
        "cannot copy ",
    ]
    .iter()
    .any(|start| reason.starts_with(start));
    if !is_about_writing {
        return ApplyError::Host {
            reason: reason.to_owned(),
            cure: None,
        };
    }
    ApplyError::Host {
        reason: reason.replacen(" ./", " ~/", 1),
        cure: Some("make room or permit it there, then run the same command again"),
    }
}

/// Where something goes that is staged, by its path below the staging folder.
pub(super) fn destination(host: &Host, staged: &[u8]) -> String {
    let components: Vec<Vec<u8>> = staged.split(|byte| *byte == b'/').map(Vec::from).collect();
    dest_as_written(host, &components)
        .unwrap_or_else(|| String::from_utf8_lossy(staged).into_owned())
}

/// Where something goes that is staged, as the configuration has it.
fn dest_as_written(host: &Host, components: &[Vec<u8>]) -> Option<String> {
    let (mapping, path) = entry_of_staged(components)?;
    let dest = &host.mappings.get(mapping)?.dest_as_written;
    if path.is_root() {
        return Some(dest.clone());
    }
    Some(format!("{}/{path}", dest.trim_end_matches('/')))
}

fn cure(complaints: &[String], place: &str, has_large: bool) -> String {
    let is_full = complaints
        .iter()
        .any(|complaint| FULL.iter().any(|phrase| complaint.contains(phrase)));
    if !is_full {
        return format!(
            "permit it or make room on the host, where {place} holds what arrives, then run the same \
             command again"
        );
    }
    let stays = if has_large {
        format!(
            "; what has arrived of large files stays in {place} and takes room until the next apply \
             goes on with it"
        )
    } else {
        String::new()
    };
    format!(
        "make room on the host, on the file system of {place}, then run the same command again{stays}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_told_with_what_stays_on_it() {
        let full = ["~/dest/disk.img: No space left on device".to_owned()];
        let help = cure(&full, "~/.hostsync/l/h", true);
        assert!(help.starts_with("make room on the host, on the file system of ~/.hostsync/l/h"));
        assert!(help.contains("large files stays in ~/.hostsync/l/h and takes room"));
        assert!(!cure(&full, "~/.hostsync/l/h", false).contains("stays"));
    }

    #[test]
    fn folder_of_ours_that_cannot_be_written_has_a_cure_and_other_reasons_are_left_alone() {
        let reason = "cannot make a folder in ./.hostsync/l/h (Read-only file system)";
        let text = with_cure(reason);
        let ApplyError::Host { reason: said, cure } = text else {
            panic!("{text}");
        };
        assert_eq!(said, reason.replace("./", "~/"));
        assert!(cure.expect("a cure").contains("permit it there"));
        let other = with_cure("this host has no awk");
        assert_eq!(other.to_string(), "this host has no awk");
        assert!(matches!(other, ApplyError::Host { cure: None, .. }));
    }

    #[test]
    fn what_may_not_be_written_is_no_full_disk() {
        let help = cure(&["~/dest/file: File too large".to_owned()], "/stage", true);
        assert!(help.starts_with("permit it"), "{help}");
        assert!(help.contains("/stage"), "{help}");
    }
}
