//! What a host says when it cannot write, in the words of the configuration.

use crate::config::Host;
use crate::model::RemotePath;
use crate::remote::tasks::receive::upload::UploadError;

use super::program::{Staged, StagedTree};
use super::stage::{Destination, Trouble};

/// What the system says when nothing more fits in.
const FULL: [&str; 2] = ["No space left on device", "quota exceeded"];

/// Names destinations where a host that cannot write names what is staged, and the staging folder.
pub(super) fn explained(
    trouble: Trouble,
    host: &Host,
    to: &Destination<'_>,
    tree: &StagedTree,
) -> Trouble {
    match trouble {
        Trouble::Upload(UploadError::Refused { complaints, .. }) => {
            let complaints: Vec<String> = complaints
                .iter()
                .map(|complaint| with_destination(complaint, host, to, tree))
                .collect();
            let has_large = tree
                .values()
                .any(|staged| matches!(staged, Staged::File { is_large: true, .. }));
            let cure = cure(&complaints, &shown(to.base), has_large);
            Trouble::Upload(UploadError::Refused { complaints, cure })
        }
        other => other,
    }
}

/// A complaint that begins with the name of what is staged.
fn with_destination(
    complaint: &str,
    host: &Host,
    to: &Destination<'_>,
    tree: &StagedTree,
) -> String {
    let folder = format!("{}/{}/", to.base, to.run_name);
    let text = complaint.strip_prefix(&folder).map_or(complaint, |below| {
        let in_folder = |name| below.strip_prefix(name);
        in_folder("up/")
            .or_else(|| in_folder("large/"))
            .unwrap_or(below)
    });
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
pub(super) fn with_cure(reason: &str) -> String {
    let is_about_writing = [
        "cannot write in ",
        "cannot make a folder in ",
        "cannot copy ",
    ]
    .iter()
    .any(|start| reason.starts_with(start));
    if !is_about_writing {
        return reason.to_owned();
    }
    let reason = reason.replacen(" ./", " ~/", 1);
    format!("{reason}; make room or permit it there, then run the same command again")
}

/// Where something goes that is staged, by its path below the staging folder.
pub(super) fn destination(host: &Host, staged: &[u8]) -> String {
    let components: Vec<Vec<u8>> = staged.split(|byte| *byte == b'/').map(Vec::from).collect();
    dest_as_written(host, &components)
        .unwrap_or_else(|| String::from_utf8_lossy(staged).into_owned())
}

/// Where something goes that is staged, as the configuration has it.
fn dest_as_written(host: &Host, components: &[Vec<u8>]) -> Option<String> {
    let (mapping, path) = components.split_first()?;
    let mapping: usize = std::str::from_utf8(mapping).ok()?.parse().ok()?;
    let dest = &host.mappings.get(mapping)?.dest_as_written;
    if path.is_empty() {
        return Some(dest.clone());
    }
    let path = path.join(&b'/');
    let (dest, path) = (dest.trim_end_matches('/'), String::from_utf8_lossy(&path));
    Some(format!("{dest}/{path}"))
}

/// A folder of ours as people write it.
fn shown(base: &RemotePath) -> String {
    let path = base.to_string();
    path.strip_prefix("./")
        .map_or_else(|| path.clone(), |below| format!("~/{below}"))
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
        let (said, cure) = text.split_once("; ").expect("a cure");
        assert_eq!(said, reason.replace("./", "~/"));
        assert!(cure.contains("permit it there"), "{cure}");
        assert_eq!(with_cure("this host has no awk"), "this host has no awk");
    }

    #[test]
    fn what_may_not_be_written_is_no_full_disk() {
        let help = cure(&["~/dest/file: File too large".to_owned()], "/stage", true);
        assert!(help.starts_with("permit it"), "{help}");
        assert!(help.contains("/stage"), "{help}");
    }
}
