//! The diffs of one host, found out or taken from another one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::Digest as _;

use super::content::{Side, compare, sides, within};
use crate::config::{Host, Mapping, Privacy, Settings, holds_private_key};
use crate::model::{
    Blake3, ContentDigest, HostError, Kind, LocalPath, Mode, Node, RelPath, RemotePath,
};
use crate::plan::{Actual, Change, ChangeSet, ChangeSetId, Diff};
use crate::remote::Login;
use crate::remote::tasks::fetch::{self, Fetched, Wanted};
use crate::source::local::SourceTree;

/// How much of files is read for one host, both sides together.
const READ_BYTES: u64 = 16 * 1024 * 1024;

/// Bits of which a folder has at least one whose files are for others.
const ENTERED_BY_OTHERS: u32 = 0o011;

/// Why there is no diff.
const NO_HOST: &str = "no host was looked at";
const CLOSED: &str = "the login user may not read it";
const MOVED: &str = "it moved while the plan was made";

/// The diffs of a plan, found out while its hosts are looked at.
pub(in crate::plan) struct Diffs {
    privacy: Privacy,
    limit_bytes: u64,
    stall_timeout: Duration,
    found: Mutex<HashMap<Contents, State>>,
    has_moved: Condvar,
    /// Those of the hosts so far.
    sets: Mutex<HashMap<ChangeSetId, Arc<ChangeSet>>>,
}

/// What is there and what will be there: all that a diff depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Contents {
    pub(super) before: Option<ContentDigest>,
    pub(super) after: Option<Blake3>,
}

impl Contents {
    /// Whether these bytes are what was there.
    pub(super) fn has_old(&self, bytes: &[u8]) -> bool {
        let ContentDigest { blake3, sha256 } = self.before.unwrap_or_default();
        let sha256 = sha256.map(|digest| digest.as_bytes()[..] == sha2::Sha256::digest(bytes)[..]);
        let blake3 = blake3.map(|digest| digest == Blake3::of(bytes));
        blake3.or(sha256) == Some(true) && sha256 != Some(false)
    }
}

/// A diff that some host needs.
enum State {
    /// A host is at it.
    UnderWay,
    /// A host could not find it out. All that need it try it by themselves.
    Failed,
    /// This it is; `None` where the contents turn out to be the same.
    Found(Option<Diff>),
}

/// A change whose diff has to be found out.
struct Open {
    /// Of the change.
    index: usize,
    contents: Contents,
    /// What is on the host.
    old: Option<Wanted>,
    /// The file that is to be there.
    new: Option<LocalPath>,
}

impl Diffs {
    pub(in crate::plan) fn new(settings: &Settings) -> Self {
        Self {
            privacy: Privacy::of(settings),
            limit_bytes: settings.diff_limit_bytes,
            stall_timeout: settings.stall_timeout,
            found: Mutex::default(),
            has_moved: Condvar::new(),
            sets: Mutex::default(),
        }
    }

    /// These changes of a host with their diffs. `login` is `None` where no host is looked at; `sources`
    /// are those of the mappings of the host, `actual` what is there.
    pub(in crate::plan) fn change_set(
        &self,
        host: &Host,
        sources: &[Arc<SourceTree>],
        actual: &[Actual],
        changes: Vec<Change>,
        login: Option<&mut Login>,
    ) -> Arc<ChangeSet> {
        let diffs = self.of_host(host, sources, actual, &changes, login);
        let set = Arc::new(ChangeSet::new(changes, diffs));
        // A thousand equal hosts do not have a thousand copies.
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sets.entry(set.id).or_insert_with(|| Arc::clone(&set));
        if *known == set {
            Arc::clone(known)
        } else {
            set
        }
    }

    /// The diffs, by index of the change.
    fn of_host(
        &self,
        host: &Host,
        sources: &[Arc<SourceTree>],
        actual: &[Actual],
        changes: &[Change],
        login: Option<&mut Login>,
    ) -> BTreeMap<usize, Diff> {
        let mut diffs = BTreeMap::new();
        let mut open = Vec::new();
        let mut room = READ_BYTES;
        for (index, change) in changes.iter().enumerate() {
            let Some((old, new)) = sides(change) else {
                continue;
            };
            let sizes = [old, new].into_iter().flatten().map(|side| side.size_bytes);
            let size_bytes = sizes.fold(0, u64::saturating_add);
            let mapping = &host.mappings[change.mapping];
            let source = &sources[change.mapping];
            let path = mapping.dest.join(&change.path);
            if self.is_private(host, source, actual.get(change.mapping), change, &path) {
                diffs.insert(index, Diff::Hidden);
            } else if self.is_too_large(old) || self.is_too_large(new) || size_bytes > room {
                diffs.insert(index, Diff::TooLarge);
            } else if let Some(reason) = obstacle(old, &path, login.is_some()) {
                diffs.insert(index, Diff::Unavailable(reason.to_owned()));
            } else {
                room -= size_bytes;
                open.push(Open {
                    index,
                    contents: Contents {
                        before: old.map(|side| side.digest),
                        after: new.and_then(|side| side.digest.blake3),
                    },
                    old: old.map(|side| Wanted {
                        path,
                        size_bytes: side.size_bytes,
                    }),
                    new: new.map(|_| source.root.join(&change.path)),
                });
            }
        }
        for index in self.copies_of_private(host, sources, &open) {
            diffs.insert(index, Diff::Hidden);
        }
        open.retain(|open| !diffs.contains_key(&open.index));
        let failed = self.find(&open, login);
        let found = self.found();
        let mut text_bytes = 0;
        for Open {
            index, contents, ..
        } in &open
        {
            let diff = match found.get(contents) {
                Some(State::Found(diff)) => diff.clone(),
                _ => failed.get(contents).cloned().map(Diff::Unavailable),
            };
            let diff = diff.map(|diff| within(diff, &mut text_bytes));
            diffs.extend(diff.map(|diff| (*index, diff)));
        }
        diffs
    }

    /// The changes that bring or take the content of a private file of the sources under another name.
    fn copies_of_private(
        &self,
        host: &Host,
        sources: &[Arc<SourceTree>],
        open: &[Open],
    ) -> Vec<usize> {
        let before = || open.iter().filter_map(|it| it.contents.before);
        let after = open.iter().filter_map(|it| it.contents.after);
        let blake3: HashSet<_> = after.chain(before().filter_map(|it| it.blake3)).collect();
        let sha256: HashSet<_> = before().filter_map(|it| it.sha256).collect();
        let mut private = Vec::new();
        for (mapping, source) in host.mappings.iter().zip(sources) {
            for entry in source.tree.entries() {
                let Node::File {
                    digest,
                    meta,
                    size_bytes: 1..,
                } = &entry.node
                else {
                    continue;
                };
                let is_wanted = digest.blake3.is_some_and(|it| blake3.contains(&it))
                    || digest.sha256.is_some_and(|it| sha256.contains(&it));
                if !is_wanted {
                    continue;
                }
                let src = source_name(mapping, &entry.path);
                let dest = mapping.dest.join(&entry.path);
                if self.privacy.hides(&[&src, dest.as_bytes()], &[meta.mode]) {
                    private.push(*digest);
                }
            }
        }
        let is_private = |open: &&Open| {
            let Contents { before, after } = &open.contents;
            private.iter().any(|it| {
                let is_old = before.is_some_and(|old| {
                    old.blake3.is_some() && old.blake3 == it.blake3
                        || old.sha256.is_some() && old.sha256 == it.sha256
                });
                is_old || after.is_some() && *after == it.blake3
            })
        };
        open.iter()
            .filter(is_private)
            .map(|open| open.index)
            .collect()
    }

    fn is_private(
        &self,
        host: &Host,
        source: &SourceTree,
        actual: Option<&Actual>,
        change: &Change,
        path: &RemotePath,
    ) -> bool {
        let src = source_name(&host.mappings[change.mapping], &change.path);
        let local = source.root.join(&change.path);
        let linked = linked_to(&local).unwrap_or_default();
        // Where only the x bit counts, the source may be more private than what is made of it.
        let nodes = [
            change.before.as_ref(),
            change.after.as_ref(),
            source.tree.get(&change.path),
        ];
        let files = nodes
            .into_iter()
            .flatten()
            .filter(|node| matches!(node, Node::File { .. }));
        let mut modes: Vec<_> = files.filter_map(Node::mode).collect();
        let folders = std::iter::successors(change.path.parent(), RelPath::parent);
        let is_closed = |node: Option<&Node>| {
            let mode = node
                .filter(|node| node.kind() == Kind::Dir)
                .and_then(Node::mode);
            mode.is_some_and(|mode| mode.bits() & ENTERED_BY_OTHERS == 0)
        };
        let mut folders = folders.map(|folder| {
            (
                source.tree.get(&folder),
                actual.and_then(|it| it.get(&folder)),
            )
        });
        if folders.any(|(here, there)| is_closed(here) || is_closed(there)) {
            // Whatever its own bits are, nobody else gets to it.
            modes.push(Mode::new(0));
        }
        self.privacy
            .hides(&[&src, path.as_bytes(), &linked], &modes)
    }

    fn is_too_large(&self, side: Option<Side>) -> bool {
        side.is_some_and(|side| side.size_bytes > self.limit_bytes)
    }

    /// Sees to it that these are found, by this host or by another one. Says of which this one could
    /// not, and why.
    fn find(&self, open: &[Open], mut login: Option<&mut Login>) -> HashMap<Contents, String> {
        let mut seen = HashSet::new();
        let mut left: Vec<&Open> = open
            .iter()
            .filter(|open| seen.insert(&open.contents))
            .collect();
        let mut failed = HashMap::new();
        // Nobody waits who holds a claim, so nobody waits for ever.
        while let Some(claim) = self.claim(&left) {
            let (claimed, others) = left
                .into_iter()
                .partition(|open| claim.contents.contains(&open.contents));
            left = others;
            // A key that is to be there is reason enough not to fetch the one that is.
            let mut news = Vec::new();
            for open in claimed {
                match self.read_new(open) {
                    Ok(new) if holds_private_key(&new) => {
                        self.publish(&open.contents, Some(Diff::Hidden));
                    }
                    new => news.push((open, new)),
                }
            }
            let claimed: Vec<&Open> = news.iter().map(|(open, _)| *open).collect();
            let olds = self.read_old(&claimed, login.as_deref_mut());
            for ((open, new), old) in news.into_iter().zip(olds) {
                let diff = old.and_then(|old| {
                    if holds_private_key(&old) {
                        return Ok(Some(Diff::Hidden));
                    }
                    Ok(compare(&old, &new?))
                });
                match diff {
                    Ok(diff) => self.publish(&open.contents, diff),
                    Err(reason) => _ = failed.insert(open.contents.clone(), reason),
                }
            }
        }
        failed
    }

    /// Takes what nobody is at, and waits as long as there is only what others are at. `None` when there
    /// is nothing left to be found.
    fn claim(&self, left: &[&Open]) -> Option<Claim<'_>> {
        let mut found = self.found();
        loop {
            let all = left.iter().map(|open| &open.contents);
            let contents: HashSet<Contents> = all
                .filter(|it| matches!(found.get(it), None | Some(State::Failed)))
                .cloned()
                .collect();
            if !contents.is_empty() {
                for contents in &contents {
                    found.entry(contents.clone()).or_insert(State::UnderWay);
                }
                return Some(Claim {
                    diffs: self,
                    contents,
                });
            }
            let is_under_way =
                |open: &&Open| matches!(found.get(&open.contents), Some(State::UnderWay));
            if !left.iter().any(is_under_way) {
                return None;
            }
            found = self
                .has_moved
                .wait(found)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn publish(&self, contents: &Contents, diff: Option<Diff>) {
        self.found().insert(contents.clone(), State::Found(diff));
    }

    /// What is on the host, verified, for each of these; empty where nothing is.
    fn read_old(&self, open: &[&Open], login: Option<&mut Login>) -> Vec<Result<Vec<u8>, String>> {
        let wanted: Vec<Wanted> = open.iter().filter_map(|open| open.old.clone()).collect();
        let mut fetched = self.fetch(&wanted, login).into_iter();
        let mut read = |open: &&Open| {
            if open.old.is_none() {
                return Ok(Vec::new());
            }
            match fetched.next().unwrap_or(Err(NO_HOST.to_owned()))? {
                Fetched::Content(bytes) if open.contents.has_old(&bytes) => Ok(bytes),
                Fetched::Content(_) | Fetched::Gone => Err(MOVED.to_owned()),
                Fetched::Closed => Err(CLOSED.to_owned()),
            }
        };
        open.iter().map(&mut read).collect()
    }

    fn fetch(&self, wanted: &[Wanted], login: Option<&mut Login>) -> Vec<Result<Fetched, String>> {
        let Some(login) = login.filter(|_| !wanted.is_empty()) else {
            return Vec::new();
        };
        tracing::debug!(files = wanted.len(), "fetching what is to be compared");
        match fetch::fetch(login, wanted, self.stall_timeout) {
            Ok(fetched) => fetched.into_iter().map(Ok).collect(),
            Err(error) => {
                let reason = format!("it could not be fetched: {}", HostError::from(&error));
                tracing::warn!("contents cannot be compared: {reason}");
                vec![Err(reason); wanted.len()]
            }
        }
    }

    /// What is to be there, verified; empty where nothing is.
    fn read_new(&self, open: &Open) -> Result<Vec<u8>, String> {
        let Some(path) = &open.new else {
            return Ok(Vec::new());
        };
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let file = File::open(path.as_path())?;
            // One byte more tells that it is larger now.
            file.take(self.limit_bytes + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error| format!("the source cannot be read: {error}"))?;
        if open.contents.after == Some(Blake3::of(&bytes)) {
            Ok(bytes)
        } else {
            Err("the source changed while the plan was made".to_owned())
        }
    }

    fn found(&self) -> MutexGuard<'_, HashMap<Contents, State>> {
        // Changed in single steps, each of which leaves it right.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a host is at. The others learn of what it has not found when this is dropped.
struct Claim<'a> {
    diffs: &'a Diffs,
    contents: HashSet<Contents>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut found = self.diffs.found();
        for contents in self.contents.drain() {
            let state = found.entry(contents).or_insert(State::Failed);
            if matches!(state, State::UnderWay) {
                *state = State::Failed;
            }
        }
        self.diffs.has_moved.notify_all();
    }
}

/// What an entry of a source is called, as the configuration names the source.
fn source_name(mapping: &Mapping, path: &RelPath) -> Vec<u8> {
    let mut name = mapping.src_as_written.clone().into_bytes();
    if !path.is_root() {
        name.push(b'/');
        name.extend_from_slice(path.as_bytes());
    }
    name
}

/// Why what is on the host cannot be asked for.
fn obstacle(old: Option<Side>, path: &RemotePath, has_login: bool) -> Option<&'static str> {
    let digest = old?.digest;
    if !has_login {
        Some(NO_HOST)
    } else if digest == ContentDigest::default() {
        Some(CLOSED)
    } else if path.as_bytes().contains(&b'\n') {
        Some("its name has a newline")
    } else {
        None
    }
}

/// Where a path of ours leads that goes through links: what it does not have in common with the path
/// itself, since the folders above say nothing about it. `None` for a path without links.
fn linked_to(path: &LocalPath) -> Option<Vec<u8>> {
    let path = path.as_path();
    let real = path.canonicalize().ok()?;
    if real == path {
        return None;
    }
    let common = real
        .components()
        .zip(path.components())
        .take_while(|(a, b)| a == b)
        .count();
    let rest: PathBuf = real.components().skip(common).collect();
    Some(rest.into_os_string().into_vec())
}
