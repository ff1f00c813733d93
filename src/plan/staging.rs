//! Where things are staged on a host, since only on one file system is a rename one step; and what
//! receives them there.

use miette::Diagnostic;
use thiserror::Error;

use crate::model::{HostError, HostId, Node, RelPath, RemotePath, Tree};
use crate::remote::tasks::look::{DestPlace, HostFacts, Place};
use crate::state::Identity;

/// Folder of ours on a host, below `staging` (the login folder unless configured): one for each
/// state and host, since several hosts of a configuration may share an account.
pub fn base_on_host(
    staging: Option<&RemotePath>,
    identity: Option<&Identity>,
    host: &HostId,
) -> RemotePath {
    let root = staging
        .cloned()
        .unwrap_or_else(|| RemotePath::from_dest(b"~/.hostsync"));
    let Some(identity) = identity else {
        return root;
    };
    let mut path = root.as_bytes().to_vec();
    path.extend_from_slice(format!("/{}/{}", identity.lineage, host.as_file_name()).as_bytes());
    RemotePath::from_dest(&path)
}

/// Which folder serves a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StagingPlace {
    /// The one below the login folder, or below `staging_path`.
    Home,
    /// One beside the destination, in this folder.
    Beside(Place),
}

/// No folder can serve a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum NoStagingPlace {
    /// No folder is on the file system of the destination.
    #[error(
        "it lies on another file system than the login folder, so that nothing could be moved there \
         in one step"
    )]
    #[diagnostic(
        code(hostsync::plan::no_staging_place),
        help("set `staging_path` to a folder on that file system")
    )]
    OtherFileSystem,
    /// Somebody else could exchange the only one.
    #[error(
        "what is staged must lie on its file system, and others on the host can write to {folder} \
         there"
    )]
    #[diagnostic(
        code(hostsync::plan::exposed_staging_place),
        help(
            "set `staging_path` to a folder on that file system in which nobody but the login and root \
             can change anything, or take that permission away"
        )
    )]
    Exposed {
        /// The folder that others can write to.
        folder: String,
    },
}

impl StagingPlace {
    /// The place for a destination: home, where that is on the same file system; else beside a
    /// folder. Never beside a file, since somebody may read all that is in the folder of a file.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(dest: &DestPlace, home: &Place, is_folder: bool) -> Result<Self, NoStagingPlace> {
        let device = device_of(dest);
        if device == home.device {
            Ok(Self::Home)
        } else if !is_folder || dest.parent.device != device {
            Err(NoStagingPlace::OtherFileSystem)
        } else if let Some(folder) = &dest.exposure.beside {
            let shelter = dest.exposure.shelter.as_ref();
            let shelter = shelter.ok_or_else(|| NoStagingPlace::Exposed {
                folder: folder.clone(),
            })?;
            Ok(Self::Beside(Place {
                path: shelter.clone().into_bytes(),
                ..dest.parent.clone()
            }))
        } else {
            Ok(Self::Beside(dest.parent.clone()))
        }
    }
}

/// Whether a mapping is a folder: as it is to be, or, where it is to go, as it is recorded.
pub fn is_folder(desired: &Tree, recorded: &Tree) -> bool {
    let root = RelPath::root();
    let root = desired.get(&root).or_else(|| recorded.get(&root));
    matches!(root, Some(Node::Dir { .. }))
}

/// Nothing on a host can receive an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("nothing can be sent: the host has neither an scp nor a tar command, nor perl")]
#[diagnostic(code(hostsync::plan::no_receiver), help("install one of them there"))]
pub struct NoReceiver;

impl From<&NoReceiver> for HostError {
    fn from(error: &NoReceiver) -> Self {
        Self::of(error, false)
    }
}

/// Whether a host can receive an upload.
///
/// # Errors
/// When it has nothing to do it with.
pub fn check_receiver(facts: &HostFacts) -> Result<(), NoReceiver> {
    if facts.has_agent || facts.has_scp || facts.has_tar {
        Ok(())
    } else {
        Err(NoReceiver)
    }
}

/// The file system that a destination is on, or will be.
pub fn device_of(dest: &DestPlace) -> u64 {
    dest.inside
        .as_ref()
        .map_or(dest.parent.device, |inside| inside.device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::tasks::look::Exposure;

    fn place(path: &str, device: u64) -> Place {
        Place {
            path: path.into(),
            device,
            is_folder: true,
            is_writable: true,
        }
    }

    #[test]
    fn another_file_system_is_served_beside_a_folder_and_never_beside_a_file() {
        let home = place("/home/u", 1);
        let same = DestPlace {
            parent: place("/srv", 1),
            inside: None,
            exposure: Exposure::default(),
        };
        let other = DestPlace {
            parent: place("/data", 2),
            inside: None,
            exposure: Exposure::default(),
        };
        assert_eq!(
            StagingPlace::of(&same, &home, false),
            Ok(StagingPlace::Home)
        );
        assert_eq!(
            StagingPlace::of(&other, &home, true),
            Ok(StagingPlace::Beside(place("/data", 2)))
        );
        assert_eq!(
            StagingPlace::of(&other, &home, false),
            Err(NoStagingPlace::OtherFileSystem)
        );
    }

    #[test]
    fn mount_point_cannot_be_served_from_beside() {
        let mount = DestPlace {
            parent: place("/srv", 1),
            inside: Some(place("/srv/m", 2)),
            exposure: Exposure::default(),
        };
        let home = place("/home/u", 3);
        assert_eq!(
            StagingPlace::of(&mount, &home, true),
            Err(NoStagingPlace::OtherFileSystem)
        );
    }
}
