//! How the contents of files differ, for people.
//!
//! What is on the host is fetched over the login that looked at it, in one command for all files. Hosts that
//! are to go from the same content to the same content share one diff: the first of them finds it out, and
//! another one where that fails. Private files are not even fetched.
//!
//! Everything has a limit, and no limit depends on time or on which host comes first: two plans of the same
//! situation say the same.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::Digest as _;
use similar::{ChangeTag, TextDiff};

use crate::config::{Host, Privacy, Settings};
use crate::model::{
    Blake3, ContentDigest, HostError, Kind, LocalPath, Mode, Node, RelPath, RemotePath, Sha256,
};
use crate::remote::Login;
use crate::remote::tasks::fetch::{self, Fetched, Wanted};
use crate::source::local::SourceTree;

use super::{Action, Actual, Change, ChangeSet, ChangeSetId, Diff, HostPlan};

/// How much of files is read for one host, both sides together.
const READ_BYTES: u64 = 16 * 1024 * 1024;

/// How long the diffs of a plan may be together, and those of one host.
const TEXT_BYTES: usize = 4 * 1024 * 1024;

/// How many lines a text may have that is compared with another one. The time that this takes grows with
/// their square at worst: a tenth of a second for these.
const LINES: usize = 8_000;

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// Bits of which a folder has at least one whose files are for others.
const ENTERED_BY_OTHERS: u32 = 0o011;

/// Why there is no diff.
const NO_HOST: &str = "no host was looked at";
const CLOSED: &str = "the login user may not read it";
const MOVED: &str = "it moved while the plan was made";

/// The diffs of a plan, found out while its hosts are looked at.
pub(super) struct Diffs {
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
struct Contents {
    before: Option<ContentDigest>,
    after: Option<Blake3>,
}

impl Contents {
    /// Whether these bytes are what was there.
    fn has_old(&self, bytes: &[u8]) -> bool {
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

/// A file that is there before or after a change.
#[derive(Clone, Copy)]
struct Side {
    size_bytes: u64,
    digest: ContentDigest,
}

impl Side {
    fn of(node: Option<&Node>) -> Option<Self> {
        match node? {
            Node::File {
                size_bytes, digest, ..
            } => Some(Self {
                size_bytes: *size_bytes,
                digest: *digest,
            }),
            Node::Dir { .. } | Node::Symlink { .. } | Node::Other { .. } => None,
        }
    }
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
    pub(super) fn new(settings: &Settings) -> Self {
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
    pub(super) fn change_set(
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

    fn is_private(
        &self,
        host: &Host,
        source: &SourceTree,
        actual: Option<&Actual>,
        change: &Change,
        path: &RemotePath,
    ) -> bool {
        let mut src = host.mappings[change.mapping]
            .src_as_written
            .clone()
            .into_bytes();
        if !change.path.is_root() {
            src.push(b'/');
            src.extend_from_slice(change.path.as_bytes());
        }
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
            let olds = self.read_old(&claimed, login.as_deref_mut());
            for (open, old) in claimed.into_iter().zip(olds) {
                let diff = old.and_then(|old| Ok(compare(&old, &self.read_new(open)?)));
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

/// What a change has as a file on either side; `None` where there is nothing to be compared.
fn sides(change: &Change) -> Option<(Option<Side>, Option<Side>)> {
    if matches!(change.action, Action::Metadata | Action::Adopt) {
        return None;
    }
    let sides = (
        Side::of(change.before.as_ref()),
        Side::of(change.after.as_ref()),
    );
    let is_full = |side: Option<Side>| side.is_some_and(|side| side.size_bytes > 0);
    (is_full(sides.0) || is_full(sides.1)).then_some(sides)
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

/// How two contents differ; `None` where they do not.
fn compare(old: &[u8], new: &[u8]) -> Option<Diff> {
    if old == new {
        return None;
    }
    let (Some(old), Some(new)) = (lines_of(old), lines_of(new)) else {
        return Some(Diff::Binary);
    };
    let is_one_sided = old.is_empty() || new.is_empty();
    if !is_one_sided && (old.len() > LINES || new.len() > LINES) {
        return Some(Diff::TooLarge);
    }
    let diff = TextDiff::configure().diff_slices(&old, &new);
    let mut text = String::new();
    for hunk in diff
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .iter_hunks()
    {
        text.push_str(&hunk.header().to_string());
        text.push('\n');
        for change in hunk.iter_changes() {
            text.push(match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            });
            text.push_str(change.value());
            if !change.value().ends_with('\n') {
                text.push_str("\n\\ No newline at end of file\n");
            }
        }
    }
    Some(Diff::Text(text))
}

/// The lines of a text, with their ends; `None` for what is no text.
fn lines_of(bytes: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.split_inclusive('\n').collect())
}

/// A diff, or that it is too large, if those so far are too long with it.
fn within(diff: Diff, text_bytes: &mut usize) -> Diff {
    if let Diff::Text(text) = &diff {
        *text_bytes = text_bytes.saturating_add(text.len());
        if *text_bytes > TEXT_BYTES {
            return Diff::TooLarge;
        }
    }
    diff
}

/// Makes one of the diffs that hosts with the same changes have found, and sees to it that all together
/// are not too long. What is private on one of the hosts is shown for none.
pub(super) fn settle(hosts: &mut [HostPlan]) {
    let mut sets = hosts.iter().filter_map(|host| host.change_set.as_ref());
    if sets.all(|set| set.diffs.is_empty()) {
        return;
    }
    let mut merged: HashMap<ChangeSetId, BTreeMap<usize, Diff>> = HashMap::new();
    let mut order = Vec::new();
    for set in hosts.iter().filter_map(|host| host.change_set.as_ref()) {
        let diffs = merged.entry(set.id).or_insert_with(|| {
            order.push(set.id);
            BTreeMap::new()
        });
        for (index, diff) in &set.diffs {
            match diffs.entry(*index) {
                Entry::Vacant(place) => _ = place.insert(diff.clone()),
                Entry::Occupied(mut place) if rank(diff) > rank(place.get()) => {
                    place.insert(diff.clone());
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    hide_twins(hosts, &mut merged);
    let mut text_bytes = 0;
    for id in order {
        for diff in merged
            .get_mut(&id)
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            *diff = within(diff.clone(), &mut text_bytes);
        }
    }
    let mut settled: HashMap<ChangeSetId, Arc<ChangeSet>> = HashMap::new();
    for set in hosts.iter_mut().filter_map(|host| host.change_set.as_mut()) {
        let settled = settled.entry(set.id).or_insert_with(|| {
            let diffs = merged.remove(&set.id).unwrap_or_default();
            let (id, changes) = (set.id, set.changes.clone());
            Arc::new(ChangeSet { id, changes, diffs })
        });
        *set = Arc::clone(settled);
    }
}

/// Hides what has the same content as something that is private under another name.
fn hide_twins(hosts: &[HostPlan], merged: &mut HashMap<ChangeSetId, BTreeMap<usize, Diff>>) {
    let sets = || hosts.iter().filter_map(|host| host.change_set.as_ref());
    let mut private: HashSet<Blake3> = HashSet::new();
    let mut private_sha256: HashSet<Sha256> = HashSet::new();
    let digests_of = |change: &Change| {
        let sides = [
            Side::of(change.before.as_ref()),
            Side::of(change.after.as_ref()),
        ];
        sides.map(|side| {
            side.filter(|side| side.size_bytes > 0)
                .map(|side| side.digest)
                .unwrap_or_default()
        })
    };
    for set in sets() {
        for (index, diff) in merged.get(&set.id).into_iter().flatten() {
            if *diff == Diff::Hidden
                && let Some(change) = set.changes.get(*index)
            {
                for digest in digests_of(change) {
                    private.extend(digest.blake3);
                    private_sha256.extend(digest.sha256);
                }
            }
        }
    }
    if private.is_empty() && private_sha256.is_empty() {
        return;
    }
    for set in sets() {
        for (index, diff) in merged.get_mut(&set.id).into_iter().flatten() {
            let digests = set.changes.get(*index).map(digests_of).unwrap_or_default();
            let is_twin = |digest: &ContentDigest| {
                digest
                    .blake3
                    .is_some_and(|digest| private.contains(&digest))
                    || digest
                        .sha256
                        .is_some_and(|digest| private_sha256.contains(&digest))
            };
            if digests.iter().any(is_twin) {
                *diff = Diff::Hidden;
            }
        }
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

/// Which of two diffs of the same change counts.
fn rank(diff: &Diff) -> u8 {
    match diff {
        Diff::Hidden => 2,
        Diff::Text(_) | Diff::Binary | Diff::TooLarge => 1,
        Diff::Unavailable(_) => 0,
    }
}

#[cfg(test)]
mod tests;
