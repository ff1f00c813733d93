#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use serde_json::{Value, json};

use super::*;
use crate::config::{Exact, Excludes, MaxDelete};
use crate::model::{Blake3, ContentDigest, Entry, Mode};
use crate::plan::build::{self, MappingInput, Policy};
use crate::plan::{MappingNames, PlanHeader, Refresh};

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn file_with(text: &str, mode: u32) -> Node {
    Node::File {
        size_bytes: text.len() as u64,
        mode: Mode::new(mode),
        digest: ContentDigest {
            blake3: Some(Blake3::of(text.as_bytes())),
            sha256: None,
        },
    }
}

fn link(target: &str) -> Node {
    Node::Symlink {
        target: target.as_bytes().into(),
    }
}

/// Names with the text of the file that each is.
fn tree(files: &[(&str, &str)]) -> Tree {
    let entry = |(name, text): &(&str, &str)| Entry {
        path: path(name),
        node: file_with(text, 0o644),
    };
    files.iter().map(entry).collect()
}

/// How a mapping stands with these three sides.
fn standing(
    desired: &[(&str, &str)],
    recorded: &[(&str, &str)],
    actual: &[(&str, &str)],
    exact: Exact,
) -> MappingStanding {
    let (desired, recorded) = (tree(desired), tree(recorded));
    let actual = Actual::from(tree(actual));
    let input = MappingInput {
        desired: &desired,
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
    let changes = build::build(&[input], policy).unwrap().changes;
    let drift = drift(&recorded, &actual, Modes::All, |_| true);
    MappingStanding::of(drift, changes.iter(), &recorded, Modes::All)
}

fn in_words(it: &MappingStanding) -> (Standing, Vec<(String, Moved)>, usize) {
    let drift = it.drift.iter().map(|it| (it.path.to_string(), it.moved()));
    (it.standing, drift.collect(), it.to_apply)
}

#[test]
fn what_was_written_and_is_still_wanted_agrees() {
    let files = [("a", "1"), ("b", "2")];
    let it = standing(&files, &files, &files, Exact::No);
    assert_eq!(in_words(&it), (Standing::Agrees, Vec::new(), 0));
}

#[test]
fn what_somebody_did_is_drift_and_what_the_source_did_is_not() {
    let files = [("a", "1"), ("b", "2")];
    let it = standing(&files, &files, &[("b", "x")], Exact::No);
    let drift = vec![
        ("a".to_owned(), Moved::Removed),
        ("b".to_owned(), Moved::Changed),
    ];
    assert_eq!(in_words(&it), (Standing::Drifted, drift.clone(), 2));

    let edited = [("a", "1"), ("b", "3"), ("c", "4")];
    let it = standing(&edited, &files, &files, Exact::No);
    assert_eq!(in_words(&it), (Standing::Behind, Vec::new(), 2));
    let it = standing(&edited, &files, &[("b", "x")], Exact::No);
    assert_eq!(in_words(&it), (Standing::Both, drift, 3));
}

#[test]
fn drift_that_no_plan_shows_is_found() {
    // The source no longer has it, and it stays.
    let it = standing(&[], &[("a", "1")], &[("a", "x")], Exact::No);
    let drift = vec![("a".to_owned(), Moved::Changed)];
    assert_eq!(in_words(&it), (Standing::Drifted, drift.clone(), 0));
    let it = standing(&[], &[("a", "1")], &[("a", "1")], Exact::No);
    assert_eq!(in_words(&it), (Standing::Agrees, Vec::new(), 0));
    // Somebody has brought it to where the source is.
    let it = standing(&[("a", "2")], &[("a", "1")], &[("a", "2")], Exact::No);
    assert_eq!(in_words(&it), (Standing::Drifted, drift, 0));
}

#[test]
fn mirror_says_what_appeared_and_does_not_call_the_source_newer() {
    let it = standing(&[], &[], &[("new", "x")], Exact::Mirror);
    let drift = vec![("new".to_owned(), Moved::Appeared)];
    assert_eq!(in_words(&it), (Standing::Drifted, drift, 1));
}

#[test]
fn permission_bits_count_as_far_as_the_policy_says() {
    let entry = |mode| Entry {
        path: path("a"),
        node: file_with("1", mode),
    };
    let recorded: Tree = [entry(0o644)].into_iter().collect();
    let moved = |mode, modes| {
        let actual: Tree = [entry(mode)].into_iter().collect();
        let drift = drift(&recorded, &Actual::from(actual), modes, |_| true);
        drift.first().map(Drift::moved)
    };
    assert_eq!(moved(0o600, Modes::All), Some(Moved::Mode));
    assert_eq!(moved(0o600, Modes::Executable), None);
    assert_eq!(moved(0o755, Modes::Executable), Some(Moved::Mode));
}

#[test]
fn what_is_none_of_our_business_has_not_drifted() {
    let recorded = tree(&[("log", "1"), ("sub/log", "1")]);
    let actual = Actual::from(tree(&[]));
    let is_ours = |path: &RelPath| path.file_name() != b"log";
    assert_eq!(drift(&recorded, &actual, Modes::All, is_ours), Vec::new());
}

fn host(name: &str, status: HostStatus) -> HostPlan {
    HostPlan {
        host: HostId::new(name),
        status,
        mappings: vec![MappingNames {
            src: "app".to_owned(),
            dest: "/srv/app".to_owned(),
            source: None,
        }],
        change_set: None,
        unchanged: 0,
        problems: Vec::new(),
    }
}

#[test]
fn document_has_every_field() {
    let header = PlanHeader {
        tool_version: "0.1.0".to_owned(),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        lineage: Some("l".to_owned()),
        serial: 7,
        refresh: Refresh::Quick,
        config_digest: Blake3::of(b""),
    };
    let seen = HostStanding {
        applied: Some(Applied {
            serial: 6,
            at: "2026-01-01T00:00:00Z".to_owned(),
            is_in_the_middle: true,
        }),
        mappings: vec![MappingStanding {
            standing: Standing::NeverApplied,
            drift: vec![Drift {
                path: RelPath::new(b"n\xff".to_vec()).unwrap(),
                recorded: None,
                actual: Some(link("there")),
            }],
            to_apply: 2,
        }],
    };
    let unseen = HostStanding {
        applied: None,
        mappings: Vec::new(),
    };
    let down = HostStatus::Unreachable("no route".into());
    let status = Status {
        plan: Plan::new(header, vec![host("a", HostStatus::Ok), host("b", down)]),
        hosts: vec![seen, unseen],
    };
    let json = to_json(&status);
    assert!(json.ends_with("}\n"));
    let document: Value = serde_json::from_str(&json).unwrap();
    let expected = json!({
        "format_version": "1.0",
        "tool_version": "0.1.0",
        "lineage": "l",
        "serial": 7,
        "created_at": "2026-01-02T03:04:05Z",
        "summary": {
            "hosts": 2, "agree": 0, "drifted": 0, "behind": 0, "never_applied": 1,
            "in_the_middle": 1, "unreachable": 1, "failed": 0, "drifted_entries": 1,
            "to_apply": 2
        },
        "hosts": [
            {
                "host": "a", "status": "ok", "error": null, "problems": [],
                "serial": 6, "applied_at": "2026-01-01T00:00:00Z", "in_the_middle": true,
                "mappings": [{
                    "src": "app", "dest": "/srv/app", "state": "never_applied",
                    "drifted": 1, "to_apply": 2,
                    "drift": [{
                        "path": "n\u{fffd}", "path_base64": "bv8=", "kind": "symlink",
                        "change": "appeared", "recorded": null,
                        "actual": { "kind": "symlink", "target": "there" }
                    }]
                }]
            },
            {
                "host": "b", "status": "unreachable", "error": "no route", "problems": [],
                "serial": null, "applied_at": null, "in_the_middle": false,
                "mappings": [{
                    "src": "app", "dest": "/srv/app", "state": null, "drifted": null,
                    "to_apply": null, "drift": []
                }]
            }
        ]
    });
    assert_eq!(document, expected);
    expect_documented(&expected, &schema(), "");
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/schema/status.schema.json")).unwrap()
}

/// Every key is in the schema, and every required one is there.
fn expect_documented(value: &Value, schema: &Value, place: &str) {
    let root = self::schema();
    let resolve = |schema: &Value| {
        let name = schema["$ref"]
            .as_str()
            .map(|name| name.trim_start_matches('#'));
        name.map_or_else(
            || schema.clone(),
            |name| root.pointer(name).unwrap().clone(),
        )
    };
    let schema = resolve(schema);
    if let Some(options) = schema["anyOf"].as_array() {
        let of_null = |option: &&Value| option["type"] == "null";
        let option = options.iter().find(|it| of_null(it) == value.is_null());
        return expect_documented(value, option.unwrap(), place);
    }
    match value {
        Value::Object(members) => {
            for key in schema["required"].as_array().unwrap() {
                let key = key.as_str().unwrap();
                assert!(members.contains_key(key), "{place} has no {key}");
            }
            for (key, value) in members {
                let schema = &schema["properties"][key];
                assert!(schema.is_object(), "{place}.{key} is not documented");
                expect_documented(value, schema, &format!("{place}.{key}"));
            }
        }
        Value::Array(items) => {
            for item in items {
                expect_documented(item, &schema["items"], &format!("{place}[]"));
            }
        }
        _ => {
            if let Some(words) = schema["enum"].as_array() {
                assert!(words.contains(value), "{place}: {value}");
            }
        }
    }
}
