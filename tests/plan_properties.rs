//! What holds for every plan, whatever the three trees and the policy are.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hostsync::config::{Exact, Excludes, MaxDelete, Modes};
use hostsync::model::{
    Blake3, ContentDigest, Entry, HostId, Kind, Meta, Mode, Node, RelPath, Sha256, Tree,
};
use hostsync::plan::build::{HostChanges, MappingInput, Policy, TooManyDeletes, build};
use hostsync::plan::{
    Action, Actual, Change, ChangeSet, HostPlan, HostStatus, Plan, PlanHeader, Refresh,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;

type Entries = BTreeMap<RelPath, Node>;

/// The three sides of one mapping, and what the configuration says about it.
#[derive(Clone, Debug)]
struct Case {
    desired: Entries,
    recorded: Entries,
    /// What a look at the host finds.
    actual: Entries,
    exact: Exact,
    exclude: Excludes,
    unsendable: Vec<RelPath>,
    modes: Modes,
}

fn tree(entries: &Entries) -> Tree {
    let entry = |(path, node): (&RelPath, &Node)| Entry {
        path: path.clone(),
        node: node.clone(),
    };
    entries.iter().map(entry).collect()
}

impl Case {
    fn plan(&self) -> HostChanges {
        self.plan_within(100).expect("everything may be deleted")
    }

    fn plan_within(&self, percent: u8) -> Result<HostChanges, TooManyDeletes> {
        self.plan_trees(
            [
                &tree(&self.desired),
                &tree(&self.recorded),
                &tree(&self.actual),
            ],
            percent,
        )
    }

    fn plan_trees(
        &self,
        [desired, recorded, actual]: [&Tree; 3],
        percent: u8,
    ) -> Result<HostChanges, TooManyDeletes> {
        self.plan_sides(desired, recorded, &Actual::from(actual.clone()), percent)
    }

    fn plan_sides(
        &self,
        desired: &Tree,
        recorded: &Tree,
        actual: &Actual,
        percent: u8,
    ) -> Result<HostChanges, TooManyDeletes> {
        let input = MappingInput {
            desired,
            recorded,
            actual,
            exact: self.exact,
            exclude: &self.exclude,
            unsendable: &self.unsendable,
        };
        let policy = Policy {
            modes: self.modes,
            max_delete: MaxDelete { percent },
        };
        build(&[input], policy)
    }

    /// Neither excluded nor left out of the source because it cannot be sent.
    fn is_our_business(&self, path: &RelPath) -> bool {
        let is_unsendable = |top| path == top || path.is_below(top);
        !self.exclude.excludes(path) && !self.unsendable.iter().any(is_unsendable)
    }

    /// Whether a folder on the host that holds this path has to become something else.
    fn is_in_the_way(&self, path: &RelPath) -> bool {
        ancestors(path).any(|folder| {
            self.desired
                .get(&folder)
                .is_some_and(|node| node.kind() != Kind::Dir)
                && self
                    .actual
                    .get(&folder)
                    .is_some_and(|node| node.kind() == Kind::Dir)
        })
    }

    /// Whether the host has the path only through a link, where a folder was looked for.
    fn is_behind_a_link(&self, path: &RelPath) -> bool {
        ancestors(path).any(|folder| {
            self.actual
                .get(&folder)
                .is_some_and(|node| node.kind() == Kind::Symlink)
        })
    }

    fn same(&self, a: &Node, b: &Node) -> bool {
        let bits = |node: &Node| match self.modes {
            Modes::All => node.mode().map(Mode::bits),
            Modes::Executable if node.kind() == Kind::File => {
                node.mode().map(|mode| u32::from(mode.is_executable()))
            }
            Modes::Executable => None,
        };
        a.same_content(b) && bits(a) == bits(b)
    }
}

fn ancestors(path: &RelPath) -> impl Iterator<Item = RelPath> {
    std::iter::successors(path.parent(), RelPath::parent)
}

fn is_dir(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.kind() == Kind::Dir)
}

// --- what executes a plan ----------------------------------------------------------------------------

/// A host and its record, on which a plan is executed as the commit script does it.
struct Executor {
    case: Case,
    refused: BTreeSet<RelPath>,
}

impl Executor {
    fn run(case: &Case, changes: &[Change]) -> Self {
        let mut executor = Self {
            case: case.clone(),
            refused: BTreeSet::new(),
        };
        executor
            .case
            .recorded
            .retain(|path, _| case.actual.contains_key(path));
        let room =
            |change: &&Change| is_dir(change.before.as_ref()) && change.action == Action::Update;
        let of = |action| {
            changes
                .iter()
                .filter(move |change: &&Change| change.action == action)
        };
        for top in changes.iter().filter(room) {
            let inside = of(Action::Delete).filter(|change| change.path.is_below(&top.path));
            inside.rev().for_each(|change| executor.delete(change));
        }
        for change in changes {
            if matches!(change.action, Action::Create | Action::Update) {
                executor.place(change);
            }
        }
        of(Action::Delete)
            .rev()
            .for_each(|change| executor.delete(change));
        of(Action::Metadata).for_each(|change| executor.place(change));
        for adopted in of(Action::Adopt) {
            executor
                .case
                .recorded
                .insert(adopted.path.clone(), adopted.after.clone().unwrap());
        }
        executor
    }

    fn has_entries(&self, folder: &RelPath) -> bool {
        self.case.actual.keys().any(|path| path.is_below(folder))
    }

    fn delete(&mut self, change: &Change) {
        let is_full = is_dir(self.case.actual.get(&change.path)) && self.has_entries(&change.path);
        if is_full {
            self.refused.insert(change.path.clone());
            return;
        }
        self.case.actual.remove(&change.path);
        self.case
            .actual
            .retain(|path, _| !path.is_below(&change.path));
        self.case.recorded.remove(&change.path);
    }

    fn place(&mut self, change: &Change) {
        let parent = change.path.parent();
        let has_parent = parent.is_none_or(|parent| is_dir(self.case.actual.get(&parent)));
        let after = change.after.clone().unwrap();
        let was_dir = is_dir(self.case.actual.get(&change.path));
        let is_full = was_dir && after.kind() != Kind::Dir && self.has_entries(&change.path);
        if !has_parent || is_full {
            self.refused.insert(change.path.clone());
            return;
        }
        if !was_dir {
            // What was behind a link is not in the new folder.
            self.case
                .actual
                .retain(|path, _| !path.is_below(&change.path));
        }
        self.case.actual.insert(change.path.clone(), after.clone());
        self.case.recorded.insert(change.path.clone(), after);
    }
}

// --- random cases ------------------------------------------------------------------------------------

fn any_path() -> impl Strategy<Value = RelPath> {
    // `-` and `.` sort before `/`: what lies below `a` does not follow it at once.
    let names: Vec<&[u8]> = vec![b"a", b"a-b", b"a.b", b"b", b"ab", b"\xff", "ä\n".as_bytes()];
    prop::collection::vec(select(names), 1..4)
        .prop_map(|names| RelPath::new(names.join(&b'/')).unwrap())
}

fn content(number: u8) -> ContentDigest {
    ContentDigest {
        blake3: Some(Blake3::from_bytes([number; 32])),
        sha256: Some(Sha256::from_bytes([number; 32])),
    }
}

/// Something that a source can have.
fn any_node() -> impl Strategy<Value = Node> {
    let dir = select(vec![0o755, 0o755, 0o555]).prop_map(|bits| Node::Dir {
        meta: Mode::new(bits).into(),
    });
    let file = (0..3_u8, select(vec![0o644, 0o755, 0o600, 0o4555])).prop_map(|(number, bits)| {
        Node::File {
            size_bytes: 7,
            meta: Mode::new(bits).into(),
            digest: content(number),
        }
    });
    let link = select(vec![b"a".to_vec(), b"../\xff".to_vec()]).prop_map(|target| Node::Symlink {
        target: target.into(),
    });
    prop_oneof![5 => dir, 4 => file, 1 => link]
}

/// What one side has at a path, compared with the others.
#[derive(Clone, Debug)]
enum Side {
    Common,
    Own(Node),
    Nothing,
}

fn any_side() -> impl Strategy<Value = Side> {
    prop_oneof![4 => Just(Side::Common), 2 => any_node().prop_map(Side::Own), 1 => Just(Side::Nothing)]
}

/// On a host there may also be a device, and a file that cannot be read or was hashed otherwise.
fn seen_on_host(node: Node, oddity: u8) -> Node {
    match (node, oddity) {
        (
            Node::File {
                meta: Meta { mode },
                ..
            },
            0,
        ) => Node::Other {
            meta: Meta { mode },
        },
        (
            Node::File {
                size_bytes,
                meta: Meta { mode },
                ..
            },
            1,
        ) => Node::File {
            size_bytes,
            meta: Meta { mode },
            digest: ContentDigest::default(),
        },
        (
            Node::File {
                size_bytes,
                meta: Meta { mode },
                digest,
            },
            2..6,
        ) => {
            let digest = ContentDigest {
                blake3: None,
                ..digest
            };
            Node::File {
                size_bytes,
                meta: Meta { mode },
                digest,
            }
        }
        (node, _) => node,
    }
}

/// Keeps what lies in folders; with `through_links`, also what is found behind a link.
fn grown_together(entries: Entries, through_links: bool) -> Entries {
    let mut whole = Entries::new();
    for (path, node) in entries {
        let is_reachable = path.parent().is_none_or(|parent| match whole.get(&parent) {
            Some(Node::Dir { .. }) => true,
            Some(Node::Symlink { .. }) => through_links,
            _ => false,
        });
        if is_reachable {
            whole.insert(path, node);
        }
    }
    whole
}

fn any_case() -> impl Strategy<Value = Case> {
    let root = Just(RelPath::root());
    let root_node =
        prop_oneof![9 => Just(Node::Dir { meta: Mode::new(0o755).into()}), 1 => any_node()];
    let sides = || [any_side(), any_side(), any_side()];
    let top = (root, root_node, sides(), 0..20_u8);
    let below = prop::collection::vec((any_path(), any_node(), sides(), 0..20_u8), 0..24);
    let globs: Vec<&[&str]> = vec![&[], &[], &["b"], &["/a/b"], &["a*"]];
    (
        (top, below),
        select(vec![Exact::No, Exact::Orphans, Exact::Mirror]),
        select(globs),
        prop::collection::vec(any_path(), 0..2),
        select(vec![Modes::All, Modes::Executable]),
        any::<bool>(),
    )
        .prop_map(
            |((top, below), exact, globs, unsendable, modes, through_links)| {
                let exclude = globs.iter().map(|&glob| glob.to_owned()).collect();
                let mut case = Case {
                    desired: Entries::new(),
                    recorded: Entries::new(),
                    actual: Entries::new(),
                    exact,
                    exclude: Excludes::new(exclude).unwrap(),
                    unsendable,
                    modes,
                };
                for (path, common, [desired, recorded, actual], oddity) in
                    below.into_iter().chain([top])
                {
                    let node = |side| match side {
                        Side::Common => Some(common.clone()),
                        Side::Own(node) => Some(node),
                        Side::Nothing => None,
                    };
                    // A source that is not there has no plan.
                    let desired = node(desired).or_else(|| path.is_root().then(|| common.clone()));
                    // A folder that cannot be listed is sent, without what it holds.
                    let is_closed = case.unsendable.contains(&path)
                        && is_dir(desired.as_ref())
                        && !case.exclude.excludes(&path);
                    let is_sendable = case.is_our_business(&path) || is_closed;
                    if let Some(node) = desired.filter(|_| is_sendable) {
                        case.desired.insert(path.clone(), node);
                    }
                    if let Some(node) = node(recorded) {
                        case.recorded.insert(path.clone(), node);
                    }
                    if let Some(node) = node(actual) {
                        case.actual.insert(path, seen_on_host(node, oddity));
                    }
                }
                case.desired = grown_together(case.desired, false);
                case.recorded = grown_together(case.recorded, false);
                let (desired, recorded) = (&case.desired, &case.recorded);
                let is_known =
                    |path: &RelPath| desired.contains_key(path) || recorded.contains_key(path);
                case.actual = grown_together(case.actual, through_links && exact != Exact::Mirror);
                if exact != Exact::Mirror {
                    case.actual.retain(|path, _| is_known(path));
                }
                case
            },
        )
}

// --- the laws ----------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn planning_after_an_apply_finds_nothing_to_do(case in any_case()) {
        let before = case.plan();
        let after = Executor::run(&case, &before.changes);
        // Only a folder that has to go, but holds what is none of our business, resists.
        for path in &after.refused {
            let holds_others = case.actual.keys().any(|p| p.is_below(path) && !case.is_our_business(p));
            prop_assert!(holds_others, "{path:?} was refused: {:?}", before.changes);
        }
        let again = after.case.plan();
        for change in &again.changes {
            prop_assert!(
                after.refused.contains(&change.path),
                "{change:?} again, after {:?}",
                before.changes
            );
        }
        if after.refused.is_empty() {
            prop_assert_eq!(again.unchanged, case.desired.len());
        }
    }

    #[test]
    fn order_of_entries_does_not_matter(
        (case, seed) in (any_case(), any::<u64>()),
    ) {
        let shuffled = |entries: &Entries| {
            let mut entries: Vec<Entry> = tree(entries).entries().to_vec();
            entries.sort_by_key(|entry| *blake3_of(seed, &entry.path).as_bytes());
            Tree::from_entries(entries)
        };
        let trees = [shuffled(&case.desired), shuffled(&case.recorded), shuffled(&case.actual)];
        prop_assert_eq!(case.plan_trees([&trees[0], &trees[1], &trees[2]], 100).unwrap(), case.plan());
    }

    #[test]
    fn what_moved_since_it_was_recorded_tells_as_much_as_all_that_is_there(case in any_case()) {
        let paths = case.recorded.keys().chain(case.actual.keys());
        let moved = paths
            .filter(|path| case.recorded.get(path) != case.actual.get(path))
            .map(|path| (path.clone(), case.actual.get(path).cloned()))
            .collect();
        let (desired, recorded) = (tree(&case.desired), Arc::new(tree(&case.recorded)));
        let actual = Actual::with_moved(Arc::clone(&recorded), moved);
        prop_assert_eq!(case.plan_sides(&desired, &recorded, &actual, 100).unwrap(), case.plan());
    }

    #[test]
    fn changes_are_in_order_and_name_only_what_a_tree_has(case in any_case()) {
        let changes = case.plan().changes;
        prop_assert!(changes.is_sorted_by(|a, b| a.path < b.path), "{changes:?}");
        for change in &changes {
            prop_assert_eq!(change.mapping, 0);
            prop_assert!(RelPath::new(change.path.as_bytes()).is_ok());
            let sides = [&case.desired, &case.recorded, &case.actual];
            prop_assert!(sides.iter().any(|side| side.contains_key(&change.path)));
        }
    }

    #[test]
    fn before_is_what_the_host_has_and_after_is_what_the_source_has(case in any_case()) {
        for change in case.plan().changes {
            let actual = case.actual.get(&change.path).filter(|_| !case.is_behind_a_link(&change.path));
            match (&change.before, actual) {
                (None, None) => prop_assert_eq!(change.action, Action::Create),
                (Some(before), Some(actual)) => {
                    prop_assert_ne!(change.action, Action::Create);
                    prop_assert_eq!(before.mode(), actual.mode());
                    prop_assert_eq!(before.kind(), actual.kind());
                    let is_unknown = matches!(actual, Node::Other { .. })
                        || matches!(actual, Node::File { digest, .. } if digest.is_unknown());
                    prop_assert!(is_unknown || before.same_content(actual));
                }
                sides => prop_assert!(false, "{change:?}: {sides:?}"),
            }
            match (&change.after, case.desired.get(&change.path)) {
                (None, None) => prop_assert_eq!(change.action, Action::Delete),
                (Some(after), Some(desired)) => {
                    prop_assert!(after.same_content(desired));
                    prop_assert!(case.modes != Modes::All || after == desired);
                }
                sides => prop_assert!(false, "{change:?}: {sides:?}"),
            }
        }
    }

    #[test]
    fn only_what_the_policy_allows_is_deleted(case in any_case()) {
        for change in case.plan().changes.iter().filter(|change| change.action == Action::Delete) {
            let path = &change.path;
            prop_assert!(case.is_our_business(path), "{change:?}");
            if case.is_in_the_way(path) {
                continue;
            }
            let actual = &case.actual[path];
            let recorded = case.recorded.get(path);
            match case.exact {
                Exact::No => prop_assert!(false, "{change:?}"),
                Exact::Orphans => {
                    prop_assert!(recorded.is_some_and(|recorded| case.same(recorded, actual)));
                }
                Exact::Mirror => {}
            }
        }
    }

    #[test]
    fn folder_that_holds_what_is_none_of_our_business_is_never_deleted(case in any_case()) {
        let others: Vec<&RelPath> = case
            .actual
            .keys()
            .filter(|path| !case.is_our_business(path))
            .chain(&case.unsendable)
            .collect();
        for change in case.plan().changes.iter().filter(|change| change.action == Action::Delete) {
            let holds_others = others.iter().any(|path| path.is_below(&change.path));
            prop_assert!(!holds_others || case.is_in_the_way(&change.path), "{change:?}");
        }
    }

    #[test]
    fn bytes_that_nobody_reviewed_are_a_conflict_and_nothing_else_is(case in any_case()) {
        for change in case.plan().changes {
            let Some(actual) = case.actual.get(&change.path) else { continue };
            let recorded = case.recorded.get(&change.path);
            let is_as_recorded = recorded.is_some_and(|recorded| case.same(recorded, actual));
            let overwrites = matches!(change.action, Action::Update | Action::Delete);
            if overwrites && actual.kind() != Kind::Dir && !is_as_recorded {
                prop_assert!(change.conflict, "{change:?}");
            }
            if is_as_recorded || !overwrites {
                prop_assert!(!change.conflict, "{change:?}");
            }
        }
    }

    #[test]
    fn drift_is_a_difference_to_the_record_and_unmanaged_is_no_record(case in any_case()) {
        for change in case.plan().changes {
            let path = &change.path;
            let actual = case.actual.get(path).filter(|_| !case.is_behind_a_link(path));
            let (is_drift, is_unmanaged) = match (case.recorded.get(path), actual) {
                (Some(recorded), Some(actual)) => (!case.same(recorded, actual), false),
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (None, None) => (false, false),
            };
            if change.action != Action::Adopt {
                prop_assert_eq!((change.drift, change.unmanaged), (is_drift, is_unmanaged), "{:?}", change);
            }
        }
    }

    #[test]
    fn adopting_is_never_counted_as_a_change(case in any_case()) {
        let changes = case.plan().changes;
        let touches = changes.iter().any(|change| change.action != Action::Adopt);
        let adopted = changes.iter().filter(|change| change.action == Action::Adopt);
        for change in adopted.clone() {
            prop_assert!(case.same(&case.actual[&change.path], change.after.as_ref().unwrap()));
        }
        let adopted = adopted.count();
        let plan = plan_of(changes);
        prop_assert_eq!(plan.summary().has_changes(), touches);
        prop_assert_eq!(plan.hosts[0].touches_host(), touches);
        prop_assert_eq!(plan.summary().adopt, adopted);
    }

    #[test]
    fn no_more_is_deleted_than_max_delete_allows(case in any_case(), percent in 0..=100_u8) {
        let deletes = |changes: &[Change]| {
            changes.iter().filter(|change| change.action == Action::Delete).count()
        };
        let below_root = |side: &Entries| side.keys().filter(|path| !path.is_root()).count();
        let entries = below_root(&case.recorded).max(below_root(&case.actual)).max(1);
        let wanted = deletes(&case.plan().changes);
        match case.plan_within(percent) {
            Ok(plan) => {
                prop_assert_eq!(deletes(&plan.changes), wanted);
                prop_assert!(wanted * 100 <= entries * usize::from(percent));
            }
            Err(error) => {
                prop_assert_eq!((error.deletes, error.entries), (wanted, entries));
                prop_assert!(wanted * 100 > entries * usize::from(percent));
            }
        }
    }

    #[test]
    fn mappings_do_not_disturb_each_other(cases in (any_case(), any_case())) {
        let (first, mut second) = cases;
        second.modes = first.modes;
        let policy = Policy { modes: first.modes, max_delete: MaxDelete { percent: 100 } };
        let trees = |case: &Case| (tree(&case.desired), tree(&case.recorded), Actual::from(tree(&case.actual)));
        let (of_first, of_second) = (trees(&first), trees(&second));
        let inputs = [(&first, &of_first), (&second, &of_second)].map(|(case, trees)| MappingInput {
            desired: &trees.0,
            recorded: &trees.1,
            actual: &trees.2,
            exact: case.exact,
            exclude: &case.exclude,
            unsendable: &case.unsendable,
        });
        let together = build(&inputs, policy).unwrap();
        let mut apart = first.plan();
        let rest = second.plan();
        apart.unchanged += rest.unchanged;
        apart.changes.extend(rest.changes.into_iter().map(|change| Change { mapping: 1, ..change }));
        prop_assert_eq!(together, apart);
    }
}

fn blake3_of(seed: u64, path: &RelPath) -> Blake3 {
    Blake3::of(&[&seed.to_le_bytes(), path.as_bytes()].concat())
}

fn plan_of(changes: Vec<Change>) -> Plan {
    let host = HostPlan {
        host: HostId::new("a"),
        status: HostStatus::Ok,
        mappings: Vec::new(),
        change_set: (!changes.is_empty())
            .then(|| Arc::new(ChangeSet::new(changes, BTreeMap::new()))),
        unchanged: 0,
        problems: Vec::new(),
        warnings: BTreeSet::new(),
    };
    let header = PlanHeader {
        tool_version: String::new(),
        created_at: String::new(),
        lineage: None,
        serial: 0,
        refresh: Refresh::Full,
        config_digest: Blake3::of(b""),
    };
    Plan::new(header, vec![host])
}

/// The generator is worth something only if it reaches what the laws are about.
#[test]
fn random_cases_reach_every_action_and_every_flag() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let reached = std::cell::RefCell::new(BTreeSet::new());
    runner
        .run(&any_case(), |case| {
            for change in case.plan().changes {
                let flags = (
                    change.action,
                    change.reason,
                    change.drift,
                    change.unmanaged,
                    change.conflict,
                );
                reached.borrow_mut().insert(flags);
            }
            Ok::<(), TestCaseError>(())
        })
        .unwrap();
    let reached = reached.into_inner();
    for action in [
        Action::Create,
        Action::Update,
        Action::Delete,
        Action::Metadata,
        Action::Adopt,
    ] {
        assert!(reached.iter().any(|flags| flags.0 == action), "{action:?}");
    }
    assert!(reached.len() > 15, "{reached:?}");
}
