#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::digest::digest_of_document;
use super::types::Document;
use super::*;
use crate::model::{
    Blake3, ContentDigest, HostId, Kind, Meta, Mode, Node, RelPath, Sha256, is_treacherous,
};
use crate::plan::{
    Action, Change, ChangeSet, ChangeSetId, Diff, HostPlan, HostStatus, MappingNames, Plan,
    PlanHeader, Reason, Refresh,
};

type Edit<'a> = &'a dyn Fn(&mut Value);

fn header() -> PlanHeader {
    PlanHeader {
        tool_version: "0.1.0".to_owned(),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        lineage: Some("a-lineage".to_owned()),
        serial: 7,
        refresh: Refresh::Quick,
        config_digest: Blake3::of(b"config"),
    }
}

fn file(content: &[u8]) -> Node {
    Node::File {
        size_bytes: content.len() as u64,
        meta: Mode::new(0o644).into(),
        digest: ContentDigest {
            blake3: Some(Blake3::of(content)),
            sha256: None,
        },
    }
}

fn create(path: &[u8], node: Node) -> Change {
    Change {
        mapping: 0,
        path: RelPath::new(path).unwrap(),
        action: Action::Create,
        reason: Reason::Missing,
        drift: false,
        unmanaged: false,
        conflict: false,
        before: None,
        after: Some(node),
    }
}

fn host(name: &str, changes: Vec<Change>) -> HostPlan {
    HostPlan {
        host: HostId::new(name),
        status: HostStatus::Ok,
        mappings: vec![MappingNames {
            src: "app".to_owned(),
            dest: format!("/srv/{name}"),
            source: None,
        }],
        change_set: (!changes.is_empty())
            .then(|| Arc::new(ChangeSet::new(changes, BTreeMap::new()))),
        unchanged: 3,
        problems: Vec::new(),
        warnings: std::collections::BTreeSet::new(),
    }
}

fn document(plan: &Plan) -> Value {
    serde_json::from_str(&to_json(plan)).unwrap()
}

fn read(document: &Value) -> Result<Plan, PlanFileError> {
    from_json(document.to_string().as_bytes())
}

/// The document with the digest that it should have.
fn sealed(mut document: Value) -> Value {
    let digest = digest_of_document(document.to_string().as_bytes()).unwrap();
    document["digest"] = json!(digest.to_string());
    document
}

#[test]
fn document_has_the_fields_people_script_against() {
    let plan = Plan::new(
        header(),
        vec![
            host("a", vec![create(b"f", file(b"x"))]),
            HostPlan {
                status: HostStatus::Unreachable("refused".into()),
                ..host("b", Vec::new())
            },
        ],
    );
    let id = plan.hosts[0].change_set.as_ref().unwrap().id.0.to_string();
    let expected = json!({
        "format_version": "1.0",
        "tool_version": "0.1.0",
        "created_at": "2026-01-02T03:04:05Z",
        "lineage": "a-lineage",
        "serial": 7,
        "refresh": "quick",
        "config_digest": Blake3::of(b"config").to_string(),
        "complete": false,
        "applyable": true,
        "summary": {
            "hosts": 2, "unreachable": 1, "create": 1, "update": 0, "delete": 0,
            "metadata": 0, "adopt": 0, "unchanged": 6, "conflicts": 0, "bytes_to_send": 1,
        },
        "hosts": [
            {
                "host": "a", "status": "ok", "error": null,
                "mappings": [{"src": "app", "dest": "/srv/a", "source": null}],
                "change_set": id, "unchanged": 3, "problems": [],
            },
            {
                "host": "b", "status": "unreachable", "error": "refused",
                "mappings": [{"src": "app", "dest": "/srv/b", "source": null}],
                "change_set": null, "unchanged": 3, "problems": [],
            },
        ],
        "change_sets": [{
            "id": id,
            "changes": [{
                "mapping": 0, "path": "f", "kind": "file", "action": "create",
                "reason": "missing", "drift": false, "unmanaged": false, "conflict": false,
                "before": null,
                "after": {
                    "kind": "file", "blake3": Blake3::of(b"x").to_string(), "size": 1,
                    "mode": "0644",
                },
            }],
        }],
        "digest": digest(&plan).to_string(),
    });
    assert_eq!(document(&plan), expected);
}

#[test]
fn equal_hosts_share_one_change_set_whatever_their_destinations() {
    let changes = || vec![create(b"f", file(b"x"))];
    let other = vec![create(b"g", file(b"x"))];
    let plan = Plan::new(
        header(),
        vec![host("z", other), host("a", changes()), host("b", changes())],
    );
    let document = document(&plan);
    let sets = document["change_sets"].as_array().unwrap();
    assert_eq!(sets.len(), 2);
    assert_eq!(sets[0]["id"], document["hosts"][0]["change_set"]);
    assert_eq!(from_json(to_json(&plan).as_bytes()).unwrap(), plan);
}

#[test]
fn names_that_are_not_utf8_survive() {
    let link = Node::Symlink {
        target: b"t\xff".to_vec().into(),
    };
    let plan = Plan::new(header(), vec![host("a", vec![create(b"n\xfe", link)])]);
    let document = document(&plan);
    let change = &document["change_sets"][0]["changes"][0];
    assert_eq!(change["path"], "n\u{fffd}");
    assert_eq!(change["path_base64"], "bv4=");
    assert_eq!(change["after"]["target_base64"], "dP8=");
    assert_eq!(from_json(to_json(&plan).as_bytes()).unwrap(), plan);
}

#[test]
fn unknown_major_is_refused_before_anything_else_is_looked_at() {
    for version in ["2.0", "0.9", "1", "1.x", "", "+1.0.0"] {
        let error = read(&json!({ "format_version": version })).unwrap_err();
        assert!(
            matches!(error, PlanFileError::UnknownVersion { .. }),
            "{version}: {error}"
        );
    }
}

#[test]
fn later_minor_and_unknown_keys_are_read() {
    let plan = Plan::new(header(), vec![host("a", vec![create(b"f", file(b"x"))])]);
    let mut document = document(&plan);
    document["format_version"] = json!("1.9");
    document["novelty"] = json!({});
    document["hosts"][0]["novelty"] = json!(1);
    document["change_sets"][0]["changes"][0]["after"]["novelty"] = json!([]);
    assert_eq!(read(&sealed(document)).unwrap(), plan);
}

#[test]
fn edited_changes_are_noticed() {
    let plan = Plan::new(header(), vec![host("a", vec![create(b"f", file(b"x"))])]);
    let edits: [(&str, Value); 6] = [
        ("path", json!("g")),
        ("unmanaged", json!(true)),
        ("reason", json!("content")),
        ("conflict", json!(true)),
        ("mapping", json!(1)),
        ("drift", json!(true)),
    ];
    for (key, value) in edits {
        let mut document = document(&plan);
        document["change_sets"][0]["changes"][0][key] = value;
        let error = read(&document).unwrap_err();
        assert!(
            matches!(error, PlanFileError::Edited { .. }),
            "{key}: {error}"
        );
    }
}

#[test]
fn whatever_else_is_edited_is_noticed_too() {
    let plan = Plan::new(header(), vec![host("a", vec![create(b"f", file(b"x"))])]);
    let edits: [Edit<'_>; 6] = [
        &|d| d["serial"] = json!(8),
        &|d| d["lineage"] = json!("another"),
        &|d| d["hosts"][0]["host"] = json!("b"),
        &|d| d["hosts"][0]["mappings"][0]["dest"] = json!("/srv/b"),
        &|d| d["summary"]["create"] = json!(0),
        &|d| d["change_sets"][0]["changes"][0]["diff"] = json!({"state": "binary"}),
    ];
    for edit in edits {
        let mut document = document(&plan);
        edit(&mut document);
        let error = read(&document).unwrap_err();
        assert!(matches!(error, PlanFileError::Edited { .. }), "{error}");
    }
    let mut without = document(&plan);
    without.as_object_mut().unwrap().remove("digest");
    let error = read(&without).unwrap_err();
    assert!(matches!(error, PlanFileError::Damaged { .. }), "{error}");
}

#[test]
fn neither_when_it_was_made_nor_how_it_is_laid_out_counts() {
    let plan = Plan::new(
        header(),
        vec![host("a", vec![create(b"f \"\\ ", file(b"x"))])],
    );
    let mut later = plan.clone();
    later.header.created_at = "2027-01-02T03:04:05Z".to_owned();
    assert_eq!(digest(&plan), digest(&later));
    let mut document: Document = serde_json::from_str(&to_json(&plan)).unwrap();
    document.created_at = later.header.created_at.clone();
    document.complete = true;
    document.applyable = true;
    document.summary = plan.summary();
    let compact = serde_json::to_vec(&document).unwrap();
    assert_eq!(from_json(&compact).unwrap(), later);
}

#[test]
fn what_hides_or_reorders_is_seen_in_the_document_and_names_the_same_plan() {
    let name = "ü\u{202e}fdp\u{9b}\u{e0041}\u{1b}\\u202e";
    let plan = Plan::new(
        header(),
        vec![host(name, vec![create(name.as_bytes(), file(b"x"))])],
    );
    let json = to_json(&plan);
    let acts = json.chars().find(|c| *c != '\n' && is_treacherous(*c));
    assert_eq!(acts, None, "{json}");
    assert!(
        json.contains("ü\\u202efdp\\u009b\\udb40\\udc41\\u001b\\\\u202e"),
        "{json}"
    );
    assert_eq!(from_json(json.as_bytes()).unwrap(), plan);
    // Other programs write other characters with escapes, or none.
    let raw = json.replace("ü\\u202efdp\\u009b", "ü\u{202e}fdp\u{9b}");
    assert_ne!(raw, json);
    for other in [raw.replace('ü', "\\u00FC"), raw] {
        assert_eq!(from_json(other.as_bytes()).unwrap(), plan);
    }
}

#[test]
fn contradictions_are_damage() {
    let plan = Plan::new(
        header(),
        vec![
            host("a", vec![create(b"f", file(b"x"))]),
            host("b", Vec::new()),
        ],
    );
    let change = |document: &mut Value, key: &str, value: Value| {
        document["change_sets"][0]["changes"][0][key] = value;
    };
    let edits: [(&str, Edit<'_>); 13] = [
        ("no such change set", &|d| d["change_sets"] = json!([])),
        ("no such mapping", &|d| {
            d["hosts"][0]["mappings"] = json!([]);
        }),
        ("host twice", &|d| d["hosts"][1]["host"] = json!("a")),
        ("ok with an error", &|d| d["hosts"][1]["error"] = json!("x")),
        ("changes of the unseen", &|d| {
            d["hosts"][0]["status"] = json!("failed");
            d["hosts"][0]["error"] = json!("x");
        }),
        ("way out", &|d| change(d, "path", json!("../x"))),
        ("other kind", &|d| change(d, "kind", json!("dir"))),
        ("create of what is there", &|d| {
            change(d, "before", json!({"kind": "dir", "mode": "0755"}));
        }),
        ("update of nothing", &|d| {
            change(d, "action", json!("update"));
        }),
        ("delete that leaves something", &|d| {
            change(d, "action", json!("delete"));
        }),
        ("twice the same", &|d| {
            let changes = &mut d["change_sets"][0]["changes"];
            let first = changes[0].clone();
            changes.as_array_mut().unwrap().push(first);
        }),
        ("no base64", &|d| change(d, "path_base64", json!("!"))),
        ("no mode", &|d| {
            change(d, "after", json!({"kind": "dir", "mode": "99"}));
        }),
    ];
    for (what, edit) in edits {
        let mut document = document(&plan);
        edit(&mut document);
        let error = read(&document).unwrap_err();
        assert!(
            matches!(error, PlanFileError::Damaged { .. }),
            "{what}: {error}"
        );
    }
}

#[test]
fn errors_quote_nothing_that_acts_on_a_terminal() {
    let evil = "\u{1b}[2J\n";
    let plan = Plan::new(header(), vec![host(evil, vec![create(b"f", file(b"x"))])]);
    let edits: [Edit<'_>; 5] = [
        &|d| d["created_at"] = json!(evil),
        &|d| d["lineage"] = json!(evil),
        &|d| d["format_version"] = json!(evil),
        &|d| d["change_sets"] = json!([]),
        &|d| d["refresh"] = json!(evil),
    ];
    for edit in edits {
        let mut document = document(&plan);
        edit(&mut document);
        let error = read(&document).unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(error.contains("\\u{1b}"), "{error:?}");
    }
}

#[test]
fn what_is_no_plan_is_refused_with_its_place() {
    for text in [
        "",
        "{",
        "[]",
        "{\"format_version\": 1}",
        "{\"format_version\": \"1.0\"}",
    ] {
        let error = from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("this is not a saved plan"), "{error}");
        assert!(error.contains("line 1"), "{error}");
    }
}

#[test]
fn saved_file_is_private_and_replaces_the_old_one_whole() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    std::fs::write(&path, "old").unwrap();
    let plan = Plan::new(header(), vec![host("a", vec![create(b"f", file(b"x"))])]);
    save(&plan, &path).unwrap();
    assert_eq!(load(&path).unwrap(), plan);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("plan.json", &link).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "old").unwrap();
    save(&plan, &link).unwrap();
    assert!(link.is_symlink());
    assert_eq!(load(&path).unwrap(), plan);
    save(&plan, Path::new("/dev/null")).unwrap();
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    let error = save(&plan, &folder.path().join("none/plan.json")).unwrap_err();
    assert!(matches!(error, PlanFileError::Write { .. }), "{error}");
}

#[test]
fn digest_moves_with_the_plan() {
    let plan = Plan::new(header(), vec![host("a", Vec::new())]);
    let mut other = plan.clone();
    other.hosts[0].unchanged += 1;
    assert_eq!(digest(&plan), digest(&plan.clone()));
    assert_ne!(digest(&plan), digest(&other));
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8..=255, 1..6).prop_filter("no plain component", |name| {
        !name.contains(&b'/') && name != b"." && name != b".."
    })
}

fn any_path() -> impl Strategy<Value = RelPath> {
    prop::collection::vec(any_name(), 0..4)
        .prop_map(|parts| RelPath::new(parts.join(&b'/')).unwrap())
}

fn any_node() -> impl Strategy<Value = Node> {
    let mode = || (0_u32..=0o7777).prop_map(Mode::new);
    let digest = || prop::option::of(any::<[u8; 32]>());
    prop_oneof![
        (any::<u64>(), mode(), digest(), digest()).prop_map(
            |(size_bytes, mode, blake3, sha256)| Node::File {
                size_bytes,
                meta: Meta { mode },
                digest: ContentDigest {
                    blake3: blake3.map(Blake3::from_bytes),
                    sha256: sha256.map(Sha256::from_bytes),
                },
            }
        ),
        mode().prop_map(|mode| Node::Dir { meta: mode.into() }),
        mode().prop_map(|mode| Node::Other { meta: mode.into() }),
        any_name().prop_map(|target| Node::Symlink {
            target: target.into()
        }),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    let reason = prop::sample::select(vec![
        Reason::Missing,
        Reason::Content,
        Reason::Mode,
        Reason::Type,
        Reason::Orphan,
        Reason::Extraneous,
        Reason::Recorded,
    ]);
    let sent = || any_node().prop_filter("is sent", |node| node.kind() != Kind::Other);
    let sides = prop_oneof![
        sent().prop_map(|after| (Action::Create, None, Some(after))),
        (any_node(), sent()).prop_map(|(a, b)| (Action::Update, Some(a), Some(b))),
        any_node().prop_map(|before| (Action::Delete, Some(before), None)),
        (0_u32..=0o7777, 0_u32..=0o7777).prop_map(|(a, b)| {
            let dir = |bits| {
                Some(Node::Dir {
                    meta: Mode::new(bits).into(),
                })
            };
            (Action::Metadata, dir(a), dir(b))
        }),
        any_name().prop_map(|target| {
            let link = Some(Node::Symlink {
                target: target.into(),
            });
            (Action::Adopt, link.clone(), link)
        }),
    ];
    let flags = any::<(bool, bool, bool)>();
    (0_usize..2, any_path(), sides, reason, flags).prop_map(
        |(mapping, path, (action, before, after), reason, (drift, unmanaged, conflict))| Change {
            mapping,
            path,
            action,
            reason,
            drift,
            unmanaged,
            conflict,
            before,
            after,
        },
    )
}

/// Changes in their order, each place once.
fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(any_change(), 0..4).prop_map(|mut changes| {
        changes.sort();
        changes.dedup_by(|a, b| (a.mapping, &a.path) == (b.mapping, &b.path));
        changes
    })
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let change_sets = prop::collection::vec(any_changes(), 1..3);
    let hosts = prop::collection::vec((0_usize..3, any::<usize>(), ".*"), 0..6);
    (change_sets, hosts).prop_map(|(change_sets, hosts)| {
        let hosts = hosts
            .into_iter()
            .enumerate()
            .map(|(index, (status, pick, text))| {
                let changes = match status {
                    0 => change_sets[pick % change_sets.len()].clone(),
                    _ => Vec::new(),
                };
                let mut host = host(&format!("host{index}"), changes);
                host.mappings.push(MappingNames {
                    src: text.clone(),
                    dest: "/x".to_owned(),
                    source: None,
                });
                host.problems = vec![text.clone()];
                if let Some(set) = &mut host.change_set {
                    let diff = match pick % 5 {
                        0 => Diff::Text(text.clone()),
                        1 => Diff::Binary,
                        2 => Diff::Hidden,
                        3 => Diff::TooLarge,
                        _ => Diff::Unavailable(text.clone()),
                    };
                    let last = set.changes.len().checked_sub(1);
                    Arc::make_mut(set)
                        .diffs
                        .extend(last.map(|last| (last, diff)));
                }
                host.status = match status {
                    0 => HostStatus::Ok,
                    1 => HostStatus::Unreachable(text.into()),
                    _ => HostStatus::Failed(text.into()),
                };
                host
            })
            .collect();
        Plan::new(header(), hosts)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_plan_survives_its_document(plan in any_plan()) {
        let json = to_json(&plan);
        let read = from_json(json.as_bytes()).unwrap();
        prop_assert_eq!(&read, &plan);
        prop_assert_eq!(to_json(&read), json);
    }

    #[test]
    fn different_changes_have_different_names(
        a in prop::collection::vec(any_change(), 0..3),
        b in prop::collection::vec(any_change(), 0..3),
    ) {
        prop_assert_eq!(a == b, ChangeSetId::of(&a) == ChangeSetId::of(&b));
    }
}
