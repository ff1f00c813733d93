//! The commit protocol, small enough to try every moment at which it can be cut off.
//!
//! Real are all decisions: [`build`], what an interrupted apply left, the steps, [`confirm`] with its trust in
//! listings, and what is recorded. Modelled are the two machines. A host is a map from paths to entries; the steps of a
//! program are taken on it one system call at a time, in the order of `commit.pl`, and the kernel's
//! rules that the protocol rests on hold: a link is never made over something, a folder that is not
//! empty is not removed, a folder that may not be written stays as it is. What the client writes is
//! one record, before the first step and after the last.
//!
//! Between any two system calls the run can end (both machines or one of them: what is left is the
//! same), or somebody else can do something. Then comes the next plan, from what is left, and its
//! apply, which may end anywhere, too. Not modelled: a kernel that dies, and so forgets what was not
//! flushed; and what SSH does, which ends in one of the moments above.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

mod machine;
mod run;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::config::Exact;
use crate::model::{Blake3, Node, RelPath, Tree};
use crate::plan::{Action, Change, interrupted};

use machine::*;
use run::*;
/// Paths about which a plan may say that somebody else was there.
type Excused = BTreeSet<RelPath>;

fn excuses(excused: &Excused, path: &RelPath) -> bool {
    excused
        .iter()
        .any(|it| it == path || it.is_below(path) || path.is_below(it))
}

/// How far a story has come: what is left of its runs, and what may be said about it.
#[derive(Clone, Debug)]
struct Story {
    host: ModelHost,
    record: Record,
    excused: Excused,
    /// Contents that have to be in place or in a backup.
    kept: HashSet<Blake3>,
    /// What has happened, for people.
    told: String,
}

/// Makes two stories one, if nothing that decides about their future tells them apart.
type Key = (Blake3, Vec<Blake3>, Blake3, Option<Blake3>, bool);

impl Story {
    fn begin(host: ModelHost, tree: Tree) -> Self {
        Self {
            kept: host.contents(),
            host,
            record: Record {
                tree,
                ..Record::default()
            },
            excused: Excused::new(),
            told: String::new(),
        }
    }

    fn key(&self) -> Key {
        let mut backups: Vec<_> = self.host.backups.iter().filter_map(Item::content).collect();
        backups.sort_unstable();
        let Record {
            tree,
            intended,
            listing,
        } = &self.record;
        let is_listed = listing.is_some() && *listing == self.host.listing;
        let there = self.host.tree().digest();
        let intended = intended.as_ref().map(Tree::digest);
        (there, backups, tree.digest(), intended, is_listed)
    }

    /// The next plan; it has to be right about what was ours.
    fn look(&self, source: &Tree, exact: Exact) -> Look {
        let look = look(&self.host, &self.record, source, exact);
        let told = &self.told;
        for (path, node) in look.prepared.actual[0].iter() {
            assert_eq!(
                Some(node),
                self.host.node(path),
                "{told}: `{path}` is seen as it is not"
            );
        }
        for entry in look.prepared.recorded[0].entries() {
            assert!(
                excuses(&self.excused, &entry.path)
                    || self.host.node(&entry.path) == Some(&entry.node),
                "{told}: the state claims `{}`, {:?}",
                entry.path,
                entry.node
            );
        }
        let theirs = Some(Blake3::of(b"them"));
        for change in &look.changes {
            let is_flagged = change.drift || change.unmanaged || change.conflict;
            assert!(
                !is_flagged || excuses(&self.excused, &change.path),
                "{told}: ours is taken for theirs: {change:?}"
            );
            let content = match &change.before {
                Some(Node::File { digest, .. }) => digest.blake3,
                _ => None,
            };
            let destroys = matches!(change.action, Action::Update | Action::Delete);
            assert!(
                !destroys || content != theirs || change.conflict,
                "{told}: theirs is taken for ours: {change:?}"
            );
        }
        look
    }

    /// Carries out a plan, and judges what is left.
    fn go_on(
        &self,
        look: &Look,
        host: &ModelHost,
        cut_at: usize,
        stranger: Option<Stranger>,
    ) -> (Self, Left) {
        let left = apply(look, host, &self.record, cut_at, stranger);
        let mut next = self.clone();
        let cut = if left.is_finished {
            "to its end".to_owned()
        } else {
            format!("to {cut_at}")
        };
        next.told = format!(
            "{}; {:?} {cut}",
            self.told,
            stranger.filter(|_| left.has_struck)
        );
        for change in &look.changes {
            if change.drift || change.unmanaged {
                next.excused.insert(change.path.clone());
            }
        }
        if let Some(stranger) = stranger.filter(|_| left.has_struck) {
            let at = path(stranger.path);
            // What they wrote over is theirs to lose.
            let untouched = host.there.iter().filter(|(path, _)| **path != at);
            let untouched = untouched.map(|(_, item)| item).chain(&host.backups);
            next.kept = untouched.filter_map(Item::content).collect();
            if matches!(stranger.deed, Deed::Rewrite | Deed::Replace) && !left.is_lost {
                next.kept.insert(Blake3::of(b"them"));
            }
            next.excused.insert(at);
        }
        next.host = left.host.clone();
        next.record = left.record.clone();
        next.judge(look, host);
        (next, left)
    }

    /// Whether every entry is whole, old or new, and no content is lost.
    fn judge(&self, look: &Look, before: &ModelHost) {
        let told = &self.told;
        let contents = self.host.contents();
        assert!(self.kept.is_subset(&contents), "{told}: something is lost");
        let after: BTreeMap<_, _> = look
            .changes
            .iter()
            .map(|it| (&it.path, it.after.as_ref()))
            .collect();
        let paths = before.there.keys().chain(self.host.there.keys());
        for path in paths.filter(|path| !excuses(&self.excused, path)) {
            let old = before.node(path);
            let new = after.get(path).copied().unwrap_or(old);
            let now = self.host.node(path);
            let is_open =
                |node: Option<&Node>| now.is_some_and(|now| interrupted::is_opened(node, now));
            let is_between = now.is_none() && old.map(Node::kind) != new.map(Node::kind);
            assert!(
                now == old || now == new || is_open(old) || is_open(new) || is_between,
                "{told}: `{path}` is neither old nor new: {now:?}"
            );
        }
    }

    /// One more run does all that is left.
    fn converge(&self, source: &Tree, exact: Exact) {
        let finish = |story: &Self| {
            let look = story.look(source, exact);
            let (next, left) = story.go_on(&look, &story.host, usize::MAX, None);
            assert!(left.is_finished);
            let changes = next.look(source, exact).changes;
            assert!(changes.is_empty(), "{}: {changes:?} is left", next.told);
            next
        };
        let mut story = finish(self);
        if exact == Exact::Mirror && story.record.listing.is_none() {
            // Our own steps show in the folders of a mirror, as theirs would.
            story = finish(&story);
        }
        let told = story.told;
        assert!(story.record.listing.is_some(), "{told}: no listing is kept");
    }
}

impl Story {
    /// What somebody else did is seen, decided about, and then all is as the source says.
    fn converge_with_theirs(&self, source: &Tree, exact: Exact) {
        let mut story = self.clone();
        for _ in 0..3 {
            let look = story.look(source, exact);
            if look.changes.is_empty() {
                return;
            }
            (story, _) = story.go_on(&look, &story.host, usize::MAX, None);
        }
        let changes = story.look(source, exact).changes;
        // What lies unseen in a folder that has to make room stays, and so does the folder.
        let is_kept =
            |change: &Change| exact != Exact::Mirror && story.host.has_entries(&change.path);
        assert!(
            changes.iter().all(is_kept),
            "{}: {changes:?} is left",
            story.told
        );
    }
}

/// A tree becomes another one.
#[derive(Clone, Debug)]
struct Transition {
    old: Tree,
    new: Tree,
    third: Tree,
    exact: Exact,
    /// What is there before the first run, and nobody has recorded.
    is_unmanaged: bool,
}

impl Transition {
    fn all() -> Vec<Self> {
        let shapes = shapes();
        let mut all = Vec::new();
        for exact in [Exact::No, Exact::Orphans, Exact::Mirror] {
            for (index, old) in shapes.iter().enumerate() {
                for new in &shapes {
                    let third = &shapes[(index + 3) % shapes.len()];
                    all.push(Self {
                        old: tree(old, 1),
                        new: tree(new, 2),
                        third: tree(third, 3),
                        exact,
                        is_unmanaged: false,
                    });
                }
                all.push(Self {
                    old: Tree::default(),
                    new: tree(old, 1),
                    third: tree(&shapes[(index + 1) % shapes.len()], 2),
                    exact,
                    is_unmanaged: false,
                });
                if exact != Exact::Mirror && old.len() > 1 {
                    // A folder with what nobody has looked at makes no room.
                    continue;
                }
                all.push(Self {
                    old: tree(old, 1),
                    new: tree(&shapes[(index + 2) % shapes.len()], 2),
                    third: tree(&shapes[(index + 1) % shapes.len()], 3),
                    exact,
                    is_unmanaged: true,
                });
            }
        }
        all
    }

    fn begin(&self) -> Story {
        let host = ModelHost::with(&self.old);
        let recorded = if self.is_unmanaged {
            Tree::default()
        } else {
            self.old.clone()
        };
        let mut story = Story::begin(host, recorded);
        if self.is_unmanaged {
            story.excused = self
                .old
                .entries()
                .iter()
                .map(|entry| entry.path.clone())
                .collect();
        }
        story.told = format!("{:?}", self.exact);
        for (name, tree) in [
            ("old", &self.old),
            ("new", &self.new),
            ("third", &self.third),
        ] {
            let mut words = String::new();
            for entry in tree.entries() {
                let mode = entry
                    .node
                    .mode()
                    .map(|mode| mode.to_string())
                    .unwrap_or_default();
                let _ = write!(words, " {}:{:?}{mode}", entry.path, entry.node.kind());
            }
            let _ = write!(story.told, " {name}[{words} ]");
        }
        story
    }
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    runs: usize,
    states: usize,
    /// Times that something fell into the window of `rename`.
    lost: usize,
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            runs: a.runs + b.runs,
            states: a.states + b.states,
            lost: a.lost + b.lost,
        })
    }
}

/// Every end of a run, from one plan.
fn ends(story: &Story, look: &Look, stranger: Option<Stranger>) -> Vec<(Story, Left)> {
    let mut ends = Vec::new();
    for cut_at in 0.. {
        let (next, left) = story.go_on(look, &story.host, cut_at, stranger);
        let is_last = left.is_finished;
        ends.push((next, left));
        if is_last {
            break;
        }
    }
    ends
}

fn in_all_transitions(what: &str, try_all: impl Fn(&Transition, &mut Count) + Sync) -> Count {
    let transitions = Transition::all();
    let count: Count = transitions
        .par_iter()
        .map(|transition| {
            let mut count = Count::default();
            try_all(transition, &mut count);
            count
        })
        .sum();
    println!(
        "{what}: {} transitions, {} runs, {} states",
        transitions.len(),
        count.runs,
        count.states
    );
    count
}

#[test]
fn run_that_is_cut_off_anywhere_twice_is_finished_by_the_next() {
    let count = in_all_transitions("two crashes", |transition, count| {
        let story = transition.begin();
        let look = story.look(&transition.new, transition.exact);
        let mut known = HashSet::new();
        for (story, _) in ends(&story, &look, None) {
            count.runs += 1;
            if !known.insert(story.key()) {
                continue;
            }
            for source in [&transition.new, &transition.old, &transition.third] {
                // The first install has none before.
                if source.is_empty() {
                    continue;
                }
                let look = story.look(source, transition.exact);
                let mut known_then = HashSet::new();
                for (story, _) in ends(&story, &look, None) {
                    count.runs += 1;
                    if known_then.insert(story.key()) {
                        story.converge(source, transition.exact);
                        count.runs += 1;
                    }
                }
                count.states += known_then.len();
            }
        }
        count.states += known.len();
    });
    assert!(count.states > 10_000);
}

#[test]
fn what_somebody_else_does_at_any_moment_is_neither_lost_nor_taken_for_ours() {
    let count = in_all_transitions("a crash and a stranger", |transition, count| {
        let story = transition.begin();
        let look = story.look(&transition.new, transition.exact);
        let moments = ends(&story, &look, None).len();
        let mut known = HashSet::new();
        for moment in 0..moments {
            for (deed, path) in DEEDS
                .into_iter()
                .flat_map(|deed| THEIR_PATHS.map(|path| (deed, path)))
            {
                let stranger = Stranger { deed, path, moment };
                // At once after that, and at the end.
                let cuts = [moment, moment + 1, moment + 2, usize::MAX];
                for cut_at in cuts {
                    let (story, left) = story.go_on(&look, &story.host, cut_at, Some(stranger));
                    count.runs += 1;
                    if !left.has_struck {
                        break;
                    }
                    count.lost += usize::from(left.is_lost);
                    if known.insert(story.key()) {
                        story.converge_with_theirs(&transition.new, transition.exact);
                        count.runs += 2;
                    }
                }
            }
        }
        count.states += known.len();
    });
    println!(
        "of these, {} fell between a backup and the rename over what it is of",
        count.lost
    );
    assert!(count.states > 10_000 && count.lost > 0);
}

#[test]
fn plan_from_the_middle_of_another_run_does_no_harm_after_it() {
    let count = in_all_transitions("a look from the middle", |transition, count| {
        let story = transition.begin();
        let first = story.look(&transition.new, transition.exact);
        let ends = ends(&story, &first, None);
        // The client of the first run is gone, its host goes on.
        let is_begun = |it: &&(Story, Left)| it.0.record.intended.is_some();
        let ends: Vec<_> = ends.iter().filter(is_begun).collect();
        for (index, (seen, _)) in ends.iter().enumerate() {
            for source in [&transition.new, &transition.third] {
                let look = seen.look(source, transition.exact);
                for (later, _) in [ends[index], ends[ends.len() - 1]] {
                    let mut now = seen.clone();
                    now.host = later.host.clone();
                    now.kept = later.kept.clone();
                    // It knows nothing of what came after its look, and may take that for theirs.
                    now.excused.insert(RelPath::root());
                    let (end, _) = now.go_on(&look, &now.host, usize::MAX, None);
                    end.converge_with_theirs(source, transition.exact);
                    count.runs += 2;
                }
            }
        }
        count.states += ends.len();
    });
    assert!(count.runs > 10_000);
}
