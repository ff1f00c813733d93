//! What would keep apply from working on a host is said by its plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{Exact, Host};
use crate::model::{Node, RemotePath};
use crate::plan::comparison::Comparison;
use crate::plan::error::PlanError;
use crate::plan::staging::{self, StagingPlace};
use crate::plan::{Action, Change, Warning, WarningKind};
use crate::remote::tasks::look::HostLook;

/// Whether the destinations can be planned for, as the host is.
pub(super) fn check_destinations(host: &Host, look: &HostLook) -> Result<(), PlanError> {
    check_places(host, look)?;
    check_paths(host, look)?;
    check_mirrors(host, look)
}

/// Whether these changes could be made, as far as that can be told beforehand.
pub(super) fn check_changes(
    host: &Host,
    look: &HostLook,
    comparisons: &[Arc<Comparison>],
    changes: &[Change],
) -> Result<(), PlanError> {
    check_permissions(host, look, comparisons, changes)?;
    let folder = look.staging_exposure.beside.as_ref();
    if let Some(folder) = folder.filter(|_| changes.iter().any(|it| it.action != Action::Adopt)) {
        return Err(PlanError::ExposedStaging {
            folder: folder.clone(),
        });
    }
    if changes.iter().any(is_staged) {
        staging::check_receiver(&look.facts)?;
    }
    Ok(())
}

/// What is in a folder that may not be listed must not be taken for missing.
fn check_mirrors(host: &Host, look: &HostLook) -> Result<(), PlanError> {
    for mapping in &host.mappings {
        if mapping.exact != Exact::Mirror {
            continue;
        }
        let is_mirrored = |path: &&Vec<u8>| {
            mapping
                .dest
                .strip_from(path)
                .is_some_and(|path| !mapping.exclude.excludes(&path))
        };
        if let Some(folder) = look.closed.iter().find(is_mirrored) {
            let folder = String::from_utf8_lossy(folder).into_owned();
            return Err(PlanError::ClosedMirror { folder });
        }
    }
    Ok(())
}

/// A destination below a file can never be made.
fn check_places(host: &Host, look: &HostLook) -> Result<(), PlanError> {
    for (mapping, place) in host.mappings.iter().zip(&look.places) {
        if !place.parent.is_folder {
            return Err(PlanError::BelowAFile {
                dest: mapping.dest_as_written.clone(),
                file: String::from_utf8_lossy(&place.parent.path).into_owned(),
            });
        }
    }
    Ok(())
}

/// Nothing is written through what somebody else may have put there.
fn check_paths(host: &Host, look: &HostLook) -> Result<(), PlanError> {
    for (mapping, place) in host.mappings.iter().zip(&look.places) {
        if let Some(obstacle) = &place.exposure.obstacle {
            return Err(PlanError::UnsafePath {
                dest: mapping.dest_as_written.clone(),
                obstacle: obstacle.clone(),
            });
        }
    }
    Ok(())
}

/// Has a login as root leave alone what lies below folders that somebody else can change, until a mapping
/// trusts them. Gives these folders. `is_read` says that somebody has read this plan before.
///
/// # Errors
/// When there is such a folder of which whoever has read the plan did not know.
pub(super) fn mark_exposed(
    host: &Host,
    look: &HostLook,
    changes: &mut [Change],
    is_read: bool,
) -> Result<BTreeSet<Warning>, PlanError> {
    let mut warnings = BTreeSet::new();
    if look.facts.uid != 0 {
        return Ok(warnings);
    }
    let is_open = |change: &&mut Change| {
        change.action != Action::Adopt && !host.mappings[change.mapping].trust_ancestors
    };
    for change in changes.iter_mut().filter(is_open) {
        let exposure = &look.places[change.mapping].exposure;
        let path = host.mappings[change.mapping].dest.join(&change.path);
        let within = || {
            let mut folders = exposure.within.iter();
            let folder = folders.find(|folder| folder.contains(&path) && **folder != path);
            folder.map(RemotePath::as_written)
        };
        let folder = exposure.above.clone().or_else(within);
        if let Some(path) = folder {
            if is_read && !change.conflict {
                return Err(PlanError::NewlyExposed { folder: path });
            }
            change.conflict = true;
            warnings.insert(Warning {
                kind: WarningKind::Ancestor,
                path,
            });
        }
    }
    Ok(warnings)
}

/// What apply could not do for want of permission, or of a place to stage it, is said by the plan.
fn check_permissions(
    host: &Host,
    look: &HostLook,
    comparisons: &[Arc<Comparison>],
    changes: &[Change],
) -> Result<(), PlanError> {
    for (index, (mapping, place)) in host.mappings.iter().zip(&look.places).enumerate() {
        let mut touching = changes
            .iter()
            .filter(|c| c.mapping == index && c.action != Action::Adopt)
            .peekable();
        if touching.peek().is_none() {
            continue;
        }
        // A shell cannot work on an entry without following what appears in its place meanwhile.
        let needs_perl = look.facts.uid == 0 && !look.facts.has_agent;
        if let Some(folder) = place.exposure.above.as_ref().filter(|_| needs_perl) {
            return Err(PlanError::NeedsPerl {
                dest: mapping.dest_as_written.clone(),
                folder: folder.clone(),
            });
        }
        let is_folder = staging::is_folder(
            &comparisons[index].source.tree,
            &comparisons[index].recorded,
        );
        StagingPlace::of(place, &look.staging, is_folder).map_err(|reason| {
            let dest = mapping.dest_as_written.clone();
            PlanError::NoStagingPlace { dest, reason }
        })?;
        let moves_root = touching.any(|c| c.path.is_root() && c.action != Action::Metadata);
        if moves_root && !place.parent.is_writable {
            return Err(PlanError::NotWritable {
                dest: mapping.dest_as_written.clone(),
                user: host.user.clone(),
                folder: String::from_utf8_lossy(&place.parent.path).into_owned(),
            });
        }
    }
    Ok(())
}

/// Whether apply would send something for a change. A symlink needs the folder that it is made in.
fn is_staged(change: &Change) -> bool {
    matches!(change.action, Action::Create | Action::Update)
        && match &change.after {
            Some(Node::File { .. } | Node::Dir { .. }) => true,
            Some(Node::Symlink { .. }) => !change.path.is_root(),
            Some(Node::Other { .. }) | None => false,
        }
}
