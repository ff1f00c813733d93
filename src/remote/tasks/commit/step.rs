//! The steps of a commit, and how they are sent.

use std::fmt;

use crate::model::{Mode, RelPath};
use crate::remote::StatTuple;

/// The type of a folder in `st_mode`.
const FOLDER: u32 = 0o40_000;

/// What a commit does at one path. Those that name what they expect touch nothing where the host has
/// something else by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a symbolic link in staging.
    Link {
        /// Where it points.
        target: Box<[u8]>,
    },
    /// Sets the modification time of what is staged.
    Touch {
        /// In seconds since 1970.
        mtime: i64,
    },
    /// Sets the permission bits of what is staged.
    Bits {
        /// All twelve of them.
        mode: Mode,
    },
    /// Makes the folders above the root of a mapping.
    Parents,
    /// Opens a folder of the login user that its owner may not write.
    Unlock {
        /// The folder.
        expected: FolderStat,
    },
    /// Puts what is staged in the place of an empty folder.
    Clear {
        /// The folder.
        expected: FolderStat,
    },
    /// Puts what is staged where nothing is.
    New {
        /// The group that the folder above gives to it; `None` for that of the login.
        group: Option<NewGroup>,
    },
    /// Renames what is staged over a file or a link.
    Replace {
        /// What is there.
        expected: StatTuple,
        /// Its owner, where the new file is to have the same and would not get it by itself.
        owner: Option<NewOwner>,
    },
    /// Puts what is staged in the place of something of another kind.
    Retype {
        /// What is there.
        expected: StatTuple,
    },
    /// Moves a file or a link to the backups.
    Delete {
        /// What is there.
        expected: StatTuple,
    },
    /// Removes an empty folder.
    Rmdir {
        /// The folder.
        expected: FolderStat,
        /// Whether one that is not empty is to stay, and is no failure.
        is_spared: bool,
    },
    /// Sets permission bits.
    Chmod {
        /// What is there.
        expected: ChmodExpected,
        /// All twelve of them.
        mode: Mode,
    },
    /// Sets the permission bits of a folder, if an earlier step was taken.
    Relock {
        /// All twelve of them.
        mode: Mode,
        /// The number of that step.
        after: usize,
    },
}

/// What permission bits are set on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChmodExpected {
    /// A file. Its content has to be as it was, too: it is recorded together with the bits.
    File(StatTuple),
    /// A folder.
    Folder(FolderStat),
}

/// The group of what is new, and the permission bits, which the change of the group takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewGroup {
    /// Numeric group.
    pub gid: u64,
    /// All twelve bits.
    pub mode: Mode,
}

/// The owner and group of what is new, as far as the login may set them, and the permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewOwner {
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// All twelve bits.
    pub mode: Mode,
}

/// What must not have changed of a folder. Its times do, with its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderStat {
    type_and_mode: u32,
    inode: u64,
}

impl FolderStat {
    /// As it was looked at.
    pub fn of(stat: &StatTuple) -> Self {
        Self {
            type_and_mode: stat.type_and_mode(),
            inode: stat.inode(),
        }
    }

    /// A folder that an earlier step gives these permission bits.
    pub fn with_mode(stat: &StatTuple, mode: Mode) -> Self {
        Self {
            type_and_mode: FOLDER | mode.bits(),
            inode: stat.inode(),
        }
    }
}

impl fmt::Display for FolderStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x} {}", self.type_and_mode, self.inode)
    }
}

/// A step, and where it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepAt {
    /// Index of the mapping.
    pub mapping: usize,
    /// The path below it.
    pub path: RelPath,
    /// What is done there.
    pub step: Step,
}

impl Step {
    /// Its name in the programs of the host.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Link { .. } => "link",
            Self::Touch { .. } => "touch",
            Self::Bits { .. } => "bits",
            Self::Parents => "parents",
            Self::Unlock { .. } => "unlock",
            Self::Clear { .. } => "clear",
            Self::New { .. } => "new",
            Self::Replace { .. } => "replace",
            Self::Retype { .. } => "retype",
            Self::Delete { .. } => "delete",
            Self::Rmdir { .. } => "rmdir",
            Self::Chmod { .. } => "chmod",
            Self::Relock { .. } => "relock",
        }
    }

    /// Whether the host says what became of it.
    pub fn is_answered(&self) -> bool {
        !matches!(
            self,
            Self::Link { .. }
                | Self::Touch { .. }
                | Self::Bits { .. }
                | Self::Parents
                | Self::Relock { .. }
        )
    }

    /// The words behind the mapping, and the third line: what is expected, or the target of a link.
    fn arguments(&self) -> (String, Vec<u8>) {
        let none = String::new;
        match self {
            Self::Link { target } => (none(), target.to_vec()),
            Self::Touch { mtime } => (mtime.to_string(), Vec::new()),
            Self::Bits { mode } => (mode.to_string(), Vec::new()),
            Self::Parents => (none(), Vec::new()),
            Self::Unlock { expected } | Self::Clear { expected } => {
                (none(), expected.to_string().into_bytes())
            }
            Self::New { group } => {
                let group = group.map(|NewGroup { gid, mode }| format!("{gid} {mode}"));
                (group.unwrap_or_else(|| "=".to_owned()), b"-".to_vec())
            }
            Self::Replace { expected, owner } => {
                let owner = owner.map(|NewOwner { uid, gid, mode }| format!("{uid}:{gid} {mode}"));
                let owner = owner.unwrap_or_else(|| "=".to_owned());
                (owner, expected.as_str().into())
            }
            Self::Retype { expected } | Self::Delete { expected } => {
                (none(), expected.as_str().into())
            }
            Self::Rmdir {
                expected,
                is_spared,
            } => {
                let spare = if *is_spared { "spare" } else { "" };
                (spare.to_owned(), expected.to_string().into_bytes())
            }
            Self::Chmod { expected, mode } => match expected {
                ChmodExpected::File(stat) => (format!("{mode} file"), stat.as_str().into()),
                ChmodExpected::Folder(stat) => {
                    (format!("{mode} folder"), stat.to_string().into_bytes())
                }
            },
            Self::Relock { mode, after } => (format!("{mode} {after}"), Vec::new()),
        }
    }
}

/// The steps as the host reads them, three lines for each: its name, number, mapping and arguments; the
/// path; what is expected, or the target of a link. A step that is not answered has `-` for its number.
pub(super) fn encode(steps: &[StepAt]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (
        number,
        StepAt {
            mapping,
            path,
            step,
        },
    ) in steps.iter().enumerate()
    {
        let (name, (arguments, third)) = (step.name(), step.arguments());
        let head = if step.is_answered() {
            format!("{name} {number} {mapping} {arguments}\n")
        } else {
            format!("{name} - {mapping} {arguments}\n")
        };
        lines.extend_from_slice(head.as_bytes());
        lines.extend_from_slice(path.as_bytes());
        lines.push(b'\n');
        lines.extend_from_slice(&third);
        lines.push(b'\n');
    }
    lines
}
