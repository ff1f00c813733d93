//! A plan of the model, and how it is carried out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::apply::commit_steps::{CommitSteps, compile};
use crate::apply::confirm::{Confirmed, confirm};
use crate::apply::job::Job;
use crate::apply::recorded;
use crate::apply::staged::{Staged, StagedTree};
use crate::apply::staging::Staging;
use crate::config::{Auth, Exact, Excludes, Host, Mapping, MaxDelete, Modes, SymlinkPolicy};
use crate::model::{Entry, HostId, Kind, LocalPath, Meta, Node, RelPath, RemotePath, Tree};
use crate::plan::build::{MappingInput, Policy, build};
use crate::plan::prepared::{PreparedHost, Terms};
use crate::plan::{Actual, Change, interrupted};
use crate::remote::tasks::commit::{
    ChmodExpected, CommitAnswer, FolderStat, ListingScope, NewListing, Step, StepAt, StepOutcome,
};
use crate::remote::tasks::look::{DestPlace, Exposure, HostFacts, HostLook, Listing, Place, Seen};
use crate::remote::{Algorithm, StatTuple};
use crate::source::local::SourceTree;

use super::machine::*;
/// What the state has of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) tree: Tree,
    pub(super) intended: Option<Tree>,
    pub(super) listing: Option<Stats>,
}

/// A plan and what it was made from.
pub(super) struct Look {
    pub(super) host: Host,
    pub(super) prepared: PreparedHost,
    pub(super) changes: Vec<Change>,
}

pub(super) fn configured(exact: Exact) -> Host {
    Host {
        id: HostId::new("a"),
        address: "a".to_owned(),
        port: 22,
        user: "u".to_owned(),
        auth: Auth::default(),
        groups: Vec::new(),
        mappings: vec![Mapping {
            src: LocalPath::new("/src"),
            src_as_written: "src".to_owned(),
            dest: RemotePath::from_dest(b"/d"),
            dest_as_written: "/d".to_owned(),
            exact,
            exclude: Excludes::default(),
            symlinks: SymlinkPolicy::Preserve,
            trust_ancestors: false,
        }],
        problem: None,
        login_problem: None,
    }
}

pub(super) fn place() -> Place {
    Place {
        path: b"/".to_vec(),
        device: DEVICE,
        is_folder: true,
        is_writable: true,
    }
}

/// A file that has not moved is not hashed, even where its permission bits are asked for.
pub(super) fn with_content_of(node: &Node, known: &Node) -> Node {
    let mut node = node.clone();
    if let (Node::File { digest, .. }, Node::File { digest: known, .. }) = (&mut node, known) {
        *digest = *known;
    }
    node
}

/// What the next plan finds.
pub(super) fn look(there: &ModelHost, record: &Record, source: &Tree, exact: Exact) -> Look {
    let host = configured(exact);
    let known = match &record.intended {
        Some(intended) => interrupted::either(&record.tree, intended),
        None => record.tree.clone(),
    };
    let trusted = record
        .listing
        .as_ref()
        .filter(|_| there.listing == record.listing);
    let mut seen = HashMap::new();
    let mut entries = Vec::new();
    for (path, item) in &there.there {
        let is_asked =
            exact == Exact::Mirror || known.get(path).is_some() || source.get(path).is_some();
        if !is_asked {
            continue;
        }
        let stat = item.stat();
        let is_as_listed = trusted.is_some_and(|listing| listing.get(path) == Some(&stat));
        let node = match (known.get(path), source.get(path)) {
            (Some(known), Some(wanted)) if is_as_listed && known.same(wanted) => known.clone(),
            (Some(known), _) if is_as_listed => with_content_of(&item.node, known),
            _ => item.node.clone(),
        };
        let path = path.clone();
        let dest = host.mappings[0].dest.join(&path).as_bytes().to_vec();
        let node_seen = node.clone();
        seen.insert(
            dest,
            Seen {
                stat,
                node: node_seen,
            },
        );
        entries.push(Entry { path, node });
    }
    let actual = Actual::from(entries.into_iter().collect::<Tree>());
    let recorded = match &record.intended {
        Some(intended) => interrupted::settled(&record.tree, intended, &actual),
        None => record.tree.clone(),
    };
    let input = MappingInput {
        desired: source,
        recorded: &recorded,
        actual: &actual,
        exact,
        exclude: &Excludes::default(),
        unsendable: &[],
    };
    let policy = Policy {
        modes: Modes::All,
        max_delete: MaxDelete { percent: 100 },
    };
    let changes = build(&[input], policy).unwrap().changes;
    let source = SourceTree {
        root: LocalPath::new("/src"),
        mtimes: vec![SENT_MTIME; source.len()],
        tree: source.clone(),
        problems: Vec::new(),
    };
    let prepared = PreparedHost {
        sources: vec![Arc::new(source)],
        recorded: vec![Arc::new(recorded)],
        record: None,
        actual: vec![actual],
        look: HostLook {
            facts: HostFacts {
                algorithm: Algorithm::Blake3,
                hash_tool: "b3sum".to_owned(),
                uid: UID,
                gid: UID,
                has_scp: true,
                has_tar: true,
                has_agent: true,
            },
            places: vec![DestPlace {
                parent: place(),
                inside: None,
                exposure: Exposure::default(),
            }],
            staging: place(),
            staging_exposure: Exposure::default(),
            has_leftovers: false,
            listing: Listing::NotAsked,
            seen,
            gone: HashSet::new(),
            closed: Vec::new(),
            room: Arc::default(),
        },
        needs_visit: true,
        leaves_drift: false,
        terms: Terms::default(),
    };
    Look {
        host,
        prepared,
        changes,
    }
}

/// The run has ended.
pub(super) struct Cut;

/// What is left when a run has ended, wherever it did.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) host: ModelHost,
    pub(super) record: Record,
    /// Whether it came to its end.
    pub(super) is_finished: bool,
    /// Whether somebody else renamed something to where we were about to, between the backup of what was
    /// there before and our own rename: the one thing that nothing but an exchange could keep.
    pub(super) is_lost: bool,
    /// Whether the stranger could do what it was to do.
    pub(super) has_struck: bool,
}

pub(super) struct ModelRun<'a> {
    pub(super) look: &'a Look,
    pub(super) host: ModelHost,
    pub(super) staged: BTreeMap<RelPath, Item>,
    pub(super) cut_at: usize,
    pub(super) stranger: Option<Stranger>,
    pub(super) moment: usize,
    /// What lies between its backup and the rename over it.
    pub(super) in_window: Option<RelPath>,
    pub(super) is_lost: bool,
    pub(super) has_struck: bool,
}

/// Carries out a plan, cut off at a moment.
pub(super) fn apply(
    look: &Look,
    host: &ModelHost,
    record: &Record,
    cut_at: usize,
    stranger: Option<Stranger>,
) -> Left {
    let mut run = ModelRun {
        look,
        host: host.clone(),
        staged: BTreeMap::new(),
        cut_at,
        stranger,
        moment: 0,
        in_window: None,
        is_lost: false,
        has_struck: false,
    };
    let mut record = record.clone();
    let is_finished = run.run(&mut record).is_ok();
    Left {
        host: run.host,
        record,
        is_finished,
        is_lost: run.is_lost,
        has_struck: run.has_struck,
    }
}

impl ModelRun<'_> {
    /// Between two system calls.
    pub(super) fn pass(&mut self) -> Result<(), Cut> {
        if let Some(stranger) = self.stranger
            && stranger.moment == self.moment
        {
            self.has_struck = stranger.strike(&mut self.host);
            self.is_lost |= self.has_struck
                && stranger.deed == Deed::Replace
                && self.in_window == Some(path(stranger.path));
        }
        if self.moment == self.cut_at {
            return Err(Cut);
        }
        self.moment += 1;
        Ok(())
    }

    pub(super) fn run(&mut self, record: &mut Record) -> Result<(), Cut> {
        let job = Job {
            host: &self.look.host,
            prepared: &self.look.prepared,
            changes: self.look.changes.iter().collect(),
            leaves_some: false,
        };
        let staging = Staging {
            bases: vec![RemotePath::from_dest(b"~/.hostsync")],
            devices: vec![DEVICE],
            base_of: vec![0],
            run_name: "run".to_owned(),
        };
        let commit = compile(&job, &staging, u64::MAX);
        assert!(commit.impossible.is_empty());
        self.stage(&commit.staged[0]);
        self.pass()?;

        let mut recorded_after = recorded::if_all_is_done(&job);
        let listing = recorded::new_listing(&job, &recorded_after);
        *record = Record {
            tree: (*job.prepared.recorded[0]).clone(),
            intended: recorded_after.pop(),
            listing: None,
        };
        self.pass()?;

        let mut answer = self.take_steps(&commit)?;
        self.pass()?;
        self.keep_listing(&listing, &mut answer);
        self.pass()?;
        let Confirmed {
            mut recorded,
            listing,
            ..
        } = confirm(&job, &commit, &answer);
        *record = Record {
            tree: recorded.pop().unwrap(),
            intended: None,
            listing: listing.and(self.host.listing.clone()),
        };
        self.pass()
    }

    /// What the host does with the steps, in the order of `commit.pl`.
    pub(super) fn take_steps(&mut self, commit: &CommitSteps) -> Result<CommitAnswer, Cut> {
        let mut answer = CommitAnswer::default();
        for (number, StepAt { path: at, step, .. }) in commit.steps.iter().enumerate() {
            match step {
                Step::Link { target } => {
                    let item = self.host.new_item(Node::Symlink {
                        target: target.clone(),
                    });
                    self.staged.insert(at.clone(), item);
                    continue;
                }
                Step::Bits { mode: bits } => {
                    if let Some(
                        Node::File {
                            meta: Meta { mode },
                            ..
                        }
                        | Node::Dir {
                            meta: Meta { mode },
                        },
                    ) = self.staged.get_mut(at).map(|item| &mut item.node)
                    {
                        *mode = *bits;
                    }
                    continue;
                }
                Step::Touch { .. } | Step::Parents => continue,
                _ => {}
            }
            if answer.begun.is_none() {
                answer.begun = Some(seconds(self.host.tick()));
            }
            if let Step::Relock { mode, after } = step {
                self.pass()?;
                let is_folder = self.host.node(at).map(Node::kind) == Some(Kind::Dir);
                let is_taken = matches!(answer.steps.get(after), Some(StepOutcome::Done { .. }));
                if is_taken && is_folder {
                    self.host.chmod(at, mode.bits()).unwrap();
                }
                continue;
            }
            self.pass()?;
            let is_there = self.is_as_expected(step, at);
            self.pass()?;
            let outcome = if !is_there {
                StepOutcome::Moved
            } else if self.step(step, at)?.is_ok() {
                let changed = self.host.there.get(at).map(|item| seconds(item.changed));
                StepOutcome::Done { changed }
            } else if matches!(
                step,
                Step::Rmdir {
                    is_spared: true,
                    ..
                }
            ) {
                StepOutcome::Spared
            } else {
                StepOutcome::Refused("denied".to_owned())
            };
            answer.steps.insert(number, outcome);
        }
        Ok(answer)
    }

    pub(super) fn stage(&mut self, staged: &StagedTree) {
        for (components, staged) in staged {
            if components.len() == 1
                && !matches!(
                    staged,
                    Staged::Dir { mtime: Some(_), .. } | Staged::File { .. }
                )
            {
                continue;
            }
            let at = RelPath::new(components[1..].join(&b'/')).unwrap();
            let node = match staged {
                Staged::Dir { mode, .. } => Node::Dir {
                    meta: Meta { mode: *mode },
                },
                Staged::File {
                    mode,
                    size_bytes,
                    digest,
                    ..
                } => Node::File {
                    size_bytes: *size_bytes,
                    meta: Meta { mode: *mode },
                    digest: *digest,
                },
            };
            let mut item = self.host.new_item(node);
            item.modified = SENT_MTIME;
            self.staged.insert(at, item);
        }
    }

    /// Whether the host has what a step expects.
    pub(super) fn is_as_expected(&self, step: &Step, at: &RelPath) -> bool {
        let mut folders = std::iter::successors(at.parent(), RelPath::parent);
        let is_reached =
            folders.all(|folder| self.host.node(&folder).map(Node::kind) == Some(Kind::Dir));
        let stat = self.host.there.get(at).map(Item::stat);
        let is_entry = |expected: &StatTuple| stat.as_ref() == Some(expected);
        let is_folder =
            |expected: &FolderStat| stat.as_ref().map(FolderStat::of).as_ref() == Some(expected);
        is_reached
            && match step {
                Step::New { .. } => stat.is_none(),
                Step::Replace { expected, .. }
                | Step::Retype { expected }
                | Step::Delete { expected }
                | Step::Chmod {
                    expected: ChmodExpected::File(expected),
                    ..
                } => is_entry(expected),
                Step::Unlock { expected }
                | Step::Clear { expected }
                | Step::Rmdir { expected, .. }
                | Step::Chmod {
                    expected: ChmodExpected::Folder(expected),
                    ..
                } => is_folder(expected),
                Step::Link { .. }
                | Step::Touch { .. }
                | Step::Bits { .. }
                | Step::Parents
                | Step::Relock { .. } => true,
            }
    }

    /// A step on the destination, once it was found to be as expected.
    pub(super) fn step(&mut self, step: &Step, at: &RelPath) -> Result<Result<(), Denied>, Cut> {
        match step {
            Step::New { .. } => self.place(at),
            Step::Replace { .. } => {
                let Some(old) = self.host.there.get(at).cloned() else {
                    return Ok(Err(Denied));
                };
                self.host.backups.push(old);
                self.in_window = Some(at.clone());
                self.pass()?;
                self.in_window = None;
                if let Err(denied) = self.host.permits(at) {
                    return Ok(Err(denied));
                }
                if self.host.node(at).map(Node::kind) == Some(Kind::Dir) {
                    return Ok(Err(Denied));
                }
                let new = self.staged.remove(at).unwrap();
                self.host.put(at, new);
                Ok(Ok(()))
            }
            Step::Retype { .. } => {
                let old = match self.host.take(at) {
                    Ok(old) => old,
                    Err(denied) => return Ok(Err(denied)),
                };
                self.host.backups.push(old.clone());
                self.pass()?;
                let placed = self.place(at)?;
                if placed.is_err() && self.host.node(at).is_none() {
                    self.pass()?;
                    if self.host.permits(at).is_ok() {
                        self.host.backups.pop();
                        self.host.put(at, old);
                    }
                }
                Ok(placed)
            }
            Step::Clear { .. } => {
                if let Err(denied) = self.host.rmdir(at) {
                    return Ok(Err(denied));
                }
                self.pass()?;
                self.place(at)
            }
            Step::Delete { .. } => Ok(self.host.take(at).map(|old| self.host.backups.push(old))),
            Step::Rmdir { .. } => Ok(self.host.rmdir(at)),
            Step::Chmod { mode, .. } => Ok(self.host.chmod(at, mode.bits())),
            Step::Unlock { .. } => {
                let bits = self.host.node(at).and_then(Node::mode).unwrap().bits();
                Ok(self.host.chmod(at, bits | 0o700))
            }
            Step::Link { .. }
            | Step::Touch { .. }
            | Step::Bits { .. }
            | Step::Parents
            | Step::Relock { .. } => panic!("{step:?} is not answered"),
        }
    }

    /// Puts what is staged where nothing is.
    pub(super) fn place(&mut self, at: &RelPath) -> Result<Result<(), Denied>, Cut> {
        if let Err(denied) = self.host.permits(at) {
            return Ok(Err(denied));
        }
        let is_folder = self.staged[at].node.kind() == Kind::Dir;
        if is_folder {
            // A rename takes an empty folder's place.
            if self.host.node(at).is_some() && self.host.rmdir(at).is_err() {
                return Ok(Err(Denied));
            }
            let below: Vec<RelPath> = self
                .staged
                .keys()
                .filter(|it| it.is_below(at))
                .cloned()
                .collect();
            let top = self.staged.remove(at).unwrap();
            for path in below {
                let item = self.staged.remove(&path).unwrap();
                self.host.there.insert(path, item);
            }
            self.host.put(at, top);
            return Ok(Ok(()));
        }
        if self.host.node(at).is_some() {
            return Ok(Err(Denied));
        }
        let item = self.staged.remove(at).unwrap();
        let inode = item.inode;
        self.host.put(at, item);
        self.pass()?;
        // The other name in staging goes, which shows in the inode.
        let now = self.host.tick();
        let item = self.host.there.get_mut(at);
        if let Some(item) = item.filter(|item| item.inode == inode) {
            item.changed = now;
        }
        Ok(Ok(()))
    }

    /// Makes the new listing, and answers what is in it.
    pub(super) fn keep_listing(&mut self, listing: &NewListing, answer: &mut CommitAnswer) {
        self.host.listing = None;
        if listing.scope == ListingScope::Nothing {
            return;
        }
        // The model has no listing of a part.
        assert_eq!(listing.scope, ListingScope::All);
        let root = &self.look.host.mappings[0].dest;
        let listed = listing.paths.iter().filter_map(|dest| {
            let path = root.strip_from(dest.as_bytes()).unwrap();
            let stat = self.host.there.get(&path)?.stat();
            Some((path, stat))
        });
        let listed: Stats = listed.collect();
        let lines = listed
            .iter()
            .map(|(path, stat)| (stat.clone(), root.join(path).as_bytes().to_vec()));
        answer.listed = lines.collect();
        answer.digest = Some("listing".to_owned());
        self.host.listing = Some(listed);
    }
}

/// A time of the model's clock.
pub(super) fn seconds(clock: u64) -> f64 {
    f64::from(u32::try_from(clock).unwrap())
}
