//! The status as a JSON document: what `status --format json` prints.
//!
//! `docs/schema/status.schema.json` describes it.

use serde::Serialize;

use crate::model::{HostId, Kind, Node, printable_json, text_and_base64};
use crate::plan::HostPlan;
use crate::plan::document::{NodeDocument, StatusDocument};
use crate::plan::status::{Drift, HostStanding, Moved, Standing, Status, StatusSummary};

/// The version of the document that [`to_json`] writes.
pub const FORMAT_VERSION: &str = "1.0";

/// The status as JSON that ends in a newline.
#[expect(
    clippy::missing_panics_doc,
    reason = "all keys are strings, and no value refuses to be serialized"
)]
pub fn to_json(status: &Status) -> String {
    let header = &status.plan.header;
    let document = Document {
        format_version: FORMAT_VERSION,
        tool_version: &header.tool_version,
        lineage: header.lineage.as_deref(),
        serial: header.serial,
        created_at: &header.created_at,
        summary: status.summary(),
        hosts: status
            .iter()
            .map(|(plan, host)| HostDocument::of(plan, host))
            .collect(),
    };
    let text = serde_json::to_string_pretty(&document).expect("plain data is JSON");
    let mut text = printable_json(text);
    text.push('\n');
    text
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: &'static str,
    tool_version: &'a str,
    lineage: Option<&'a str>,
    serial: u64,
    created_at: &'a str,
    summary: StatusSummary,
    hosts: Vec<HostDocument<'a>>,
}

#[derive(Serialize)]
struct HostDocument<'a> {
    host: &'a HostId,
    status: StatusDocument,
    error: Option<String>,
    problems: &'a [String],
    serial: Option<u64>,
    applied_at: Option<&'a str>,
    in_the_middle: bool,
    mappings: Vec<MappingDocument<'a>>,
}

#[derive(Serialize)]
struct MappingDocument<'a> {
    src: &'a str,
    dest: &'a str,
    /// `None` where nobody could look.
    state: Option<Standing>,
    drifted: Option<usize>,
    to_apply: Option<usize>,
    drift: Vec<DriftDocument>,
}

#[derive(Serialize)]
struct DriftDocument {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    kind: Kind,
    change: Moved,
    recorded: Option<NodeDocument>,
    actual: Option<NodeDocument>,
}

impl<'a> HostDocument<'a> {
    fn of(plan: &'a HostPlan, host: &'a HostStanding) -> Self {
        let applied = host.applied.as_ref();
        let mappings = plan.mappings.iter().enumerate();
        Self {
            host: &plan.host,
            status: StatusDocument::of(&plan.status),
            error: plan.status.error().map(ToString::to_string),
            problems: &plan.problems,
            serial: applied.map(|applied| applied.serial),
            applied_at: applied.map(|applied| applied.at.as_str()),
            in_the_middle: applied.is_some_and(|applied| applied.is_in_the_middle),
            mappings: mappings
                .map(|(index, names)| {
                    let known = host.mappings.get(index);
                    let drift = known.map_or(&[][..], |known| &known.drift);
                    MappingDocument {
                        src: &names.src,
                        dest: &names.dest,
                        state: known.map(|known| known.standing),
                        drifted: known.map(|known| known.drift.len()),
                        to_apply: known.map(|known| known.to_apply),
                        drift: drift.iter().map(DriftDocument::of).collect(),
                    }
                })
                .collect(),
        }
    }
}

impl DriftDocument {
    fn of(drift: &Drift) -> Self {
        let (path, path_base64) = text_and_base64(drift.path.as_bytes());
        let node = drift.actual.as_ref().or(drift.recorded.as_ref());
        Self {
            path: path.into_owned(),
            path_base64,
            kind: node.map_or(Kind::Other, Node::kind),
            change: drift.moved(),
            recorded: drift.recorded.as_ref().map(NodeDocument::from_plan),
            actual: drift.actual.as_ref().map(NodeDocument::from_plan),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Blake3, RelPath};
    use crate::plan::status::{Applied, MappingStanding};
    use crate::plan::{HostStatus, MappingNames, Plan, PlanHeader, Refresh};

    fn link(target: &str) -> Node {
        Node::Symlink {
            target: target.as_bytes().into(),
        }
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
            warnings: std::collections::BTreeSet::new(),
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
}
