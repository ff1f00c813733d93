//! Plans that the tests of several forms show.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Blake3, ContentDigest, HostId, Mode, Node, RelPath};
use crate::plan::{
    Action, Change, ChangeSet, HostPlan, HostStatus, MappingNames, Plan, PlanHeader, Reason,
    Refresh,
};

pub(super) fn plan(hosts: Vec<HostPlan>) -> Plan {
    let header = PlanHeader {
        tool_version: "0.1.0".to_owned(),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        lineage: None,
        serial: 0,
        refresh: Refresh::Quick,
        config_digest: Blake3::of(b""),
    };
    Plan::new(header, hosts)
}

pub(super) fn host(name: &str, changes: Vec<Change>) -> HostPlan {
    HostPlan {
        host: HostId::new(name),
        status: HostStatus::Ok,
        mappings: vec![
            MappingNames {
                src: "app".to_owned(),
                dest: "/srv/app".to_owned(),
                source: None,
            },
            MappingNames {
                src: "nginx.conf".to_owned(),
                dest: "/etc/nginx/nginx.conf".to_owned(),
                source: None,
            },
        ],
        change_set: (!changes.is_empty())
            .then(|| Arc::new(ChangeSet::new(changes, BTreeMap::new()))),
        unchanged: 4,
        problems: Vec::new(),
        warnings: std::collections::BTreeSet::new(),
    }
}

pub(super) fn unreachable(name: &str, error: &str) -> HostPlan {
    HostPlan {
        status: HostStatus::Unreachable(error.into()),
        ..host(name, Vec::new())
    }
}

pub(super) fn file(size_bytes: u64, mode: u32) -> Node {
    Node::File {
        size_bytes,
        meta: Mode::new(mode).into(),
        digest: ContentDigest::default(),
    }
}

pub(super) fn dir() -> Node {
    Node::Dir {
        meta: Mode::new(0o755).into(),
    }
}

pub(super) fn link(target: &str) -> Node {
    Node::Symlink {
        target: target.as_bytes().into(),
    }
}

pub(super) fn change(
    path: &str,
    reason: Reason,
    before: Option<Node>,
    after: Option<Node>,
) -> Change {
    Change {
        mapping: 0,
        path: RelPath::new(path).unwrap(),
        action: match reason {
            Reason::Missing => Action::Create,
            Reason::Content | Reason::Type => Action::Update,
            Reason::Mode => Action::Metadata,
            Reason::Orphan | Reason::Extraneous => Action::Delete,
            Reason::Recorded => Action::Adopt,
        },
        reason,
        drift: false,
        unmanaged: false,
        conflict: false,
        before,
        after,
    }
}

pub(super) fn new(path: &str, node: Node) -> Change {
    change(path, Reason::Missing, None, Some(node))
}

pub(super) fn updated(path: &str) -> Change {
    change(
        path,
        Reason::Content,
        Some(file(1024, 0o644)),
        Some(file(1229, 0o644)),
    )
}

pub(super) fn orphan(path: &str) -> Change {
    change(path, Reason::Orphan, Some(file(77, 0o644)), None)
}

pub(super) fn conflict(change: Change) -> Change {
    Change {
        drift: true,
        conflict: true,
        ..change
    }
}

pub(super) fn adopted(path: &str) -> Change {
    let node = file(10, 0o644);
    change(path, Reason::Recorded, Some(node.clone()), Some(node))
}

/// One change of every sort.
pub(super) fn mixed() -> Vec<Change> {
    let mode = |mode| Some(file(10, mode));
    vec![
        conflict(updated("config/limits.conf")),
        Change {
            unmanaged: true,
            conflict: true,
            ..updated("config/local.d/override-for-the-second-data-centre.toml")
        },
        orphan("lib/legacy.so"),
        new("bin", dir()),
        new("bin/server", file(4_404_019, 0o755)),
        new("current", link("releases/2026-01")),
        updated("etc/app.toml"),
        change("etc/run.sh", Reason::Mode, mode(0o644), mode(0o755)),
        change("tmp", Reason::Type, mode(0o644), Some(dir())),
        adopted("ok"),
        Change {
            mapping: 1,
            ..updated("")
        },
    ]
}
