//! The lines of an apply: one JSON object each.

use std::time::Duration;

use miette::Diagnostic;
use serde::Serialize;

use crate::apply::{HostReport, HostResult};
use crate::model::{Blake3, ChangeEnd, HostId, Kind, Phase, text_and_base64};
use crate::plan::{Action, Change, HostPlan, Reason, Summary};

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A line with the time at which it was written.
#[derive(Serialize)]
pub(super) struct Stamped<'a> {
    pub(super) at: &'a str,
    #[serde(flatten)]
    pub(super) line: &'a Line<'a>,
}

/// One line without its time.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Version {
        format_version: &'a str,
        tool_version: &'a str,
    },
    Plan {
        plan: Blake3,
        summary: Summary,
    },
    HostStarted {
        host: &'a HostId,
    },
    Progress {
        host: &'a HostId,
        sent_bytes: u64,
        total_bytes: u64,
    },
    HostWaiting {
        host: &'a HostId,
        phase: &'static str,
        silent_ms: u64,
    },
    ChangeApplied(ChangeLine<'a>),
    ChangeRefused(ChangeLine<'a>),
    ChangeSkipped(ChangeLine<'a>),
    HostFinished(HostLine<'a>),
    Summary {
        serial: Option<u64>,
        hosts: HostCounts,
        changed: usize,
        adopted: usize,
        refused: usize,
        skipped: usize,
        unsendable: usize,
        sent_bytes: u64,
        elapsed_ms: u64,
        interrupted: bool,
        exit_code: u8,
    },
    Error {
        message: String,
        help: Option<String>,
        code: Option<String>,
        details: Vec<Detail>,
        exit_code: u8,
    },
}

impl<'a> Line<'a> {
    /// Tells what became of a change.
    pub(super) fn change_ended(
        host: &'a HostId,
        plan: &HostPlan,
        change: &Change,
        end: &'a ChangeEnd,
    ) -> Self {
        let change = ChangeLine::of(host, plan, change);
        match end {
            ChangeEnd::Applied => Self::ChangeApplied(change),
            ChangeEnd::Refused { reason, moved } => Self::ChangeRefused(ChangeLine {
                because: Some(reason),
                moved: Some(*moved),
                ..change
            }),
            ChangeEnd::Skipped(why) => Self::ChangeSkipped(ChangeLine {
                because: Some(why),
                ..change
            }),
        }
    }

    /// Tells that a host is waited for.
    pub(super) fn waiting(host: &'a HostId, phase: Phase, silent: Duration) -> Self {
        let phase = match phase {
            Phase::Connecting => "connecting",
            Phase::Looking => "looking",
            Phase::Uploading => "uploading",
            Phase::Reconnecting => "reconnecting",
            Phase::Committing => "committing",
        };
        let silent_ms = milliseconds(silent);
        Self::HostWaiting {
            host,
            phase,
            silent_ms,
        }
    }

    /// Tells why a run ended before its time.
    pub(super) fn error(error: &dyn Diagnostic, exit_code: u8) -> Self {
        let related = error.related().into_iter().flatten();
        Self::Error {
            message: error.to_string(),
            help: error.help().map(|help| help.to_string()),
            code: error.code().map(|code| code.to_string()),
            details: related.map(Detail::of).collect(),
            exit_code,
        }
    }
}

/// A change, named as the plan document names it, and what became of it.
#[derive(Serialize)]
pub(super) struct ChangeLine<'a> {
    host: &'a HostId,
    mapping: usize,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    dest: String,
    kind: Kind,
    action: Action,
    reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<bool>,
}

impl<'a> ChangeLine<'a> {
    fn of(host: &'a HostId, plan: &HostPlan, change: &Change) -> Self {
        let (path, path_base64) = text_and_base64(change.path.as_bytes());
        let names = plan.mappings.get(change.mapping);
        let root = names.map_or("", |names| names.dest.as_str());
        let dest = match path.as_ref() {
            "" => root.to_owned(),
            path => format!("{}/{path}", root.trim_end_matches('/')),
        };
        Self {
            host,
            mapping: change.mapping,
            path: path.into_owned(),
            path_base64,
            dest,
            kind: change.kind(),
            action: change.action,
            reason: change.reason,
            because: None,
            moved: None,
        }
    }
}

#[derive(Serialize)]
pub(super) struct HostLine<'a> {
    host: &'a HostId,
    result: &'static str,
    error: Option<String>,
    conflicts: usize,
    changed: usize,
    adopted: usize,
    refused: usize,
    skipped: usize,
    sent_bytes: u64,
    keeps_part: bool,
    elapsed_ms: u64,
}

impl<'a> HostLine<'a> {
    pub(super) fn of(report: &'a HostReport, skipped: usize) -> Self {
        let (error, conflicts) = match &report.result {
            HostResult::Stale(reason) => (Some(reason.clone()), 0),
            HostResult::Unreachable(error) | HostResult::Failed(error) => {
                (Some(error.to_string()), 0)
            }
            HostResult::Conflicts(conflicts) => (None, *conflicts),
            HostResult::Done
            | HostResult::Unchanged
            | HostResult::NotBegun
            | HostResult::Interrupted => (None, 0),
        };
        Self {
            host: &report.host,
            result: in_a_word(&report.result),
            error,
            conflicts,
            changed: report.changed,
            adopted: report.adopted,
            refused: report.refused.len(),
            skipped,
            sent_bytes: report.sent_bytes,
            keeps_part: report.keeps_part,
            elapsed_ms: milliseconds(report.elapsed),
        }
    }
}

fn in_a_word(result: &HostResult) -> &'static str {
    match result {
        HostResult::Done => "done",
        HostResult::Unchanged => "unchanged",
        HostResult::Conflicts(_) => "conflicts",
        HostResult::Stale(_) => "stale",
        HostResult::Unreachable(_) => "unreachable",
        HostResult::Failed(_) => "failed",
        HostResult::NotBegun => "not_begun",
        HostResult::Interrupted => "interrupted",
    }
}

/// How many hosts ended how.
#[derive(Default, Serialize)]
pub(super) struct HostCounts {
    done: usize,
    unchanged: usize,
    conflicts: usize,
    stale: usize,
    unreachable: usize,
    failed: usize,
    not_begun: usize,
    interrupted: usize,
}

impl HostCounts {
    pub(super) fn of(hosts: &[HostReport]) -> Self {
        let mut counts = Self::default();
        for host in hosts {
            counts.count(&host.result);
        }
        counts
    }

    fn count(&mut self, result: &HostResult) {
        *match result {
            HostResult::Done => &mut self.done,
            HostResult::Unchanged => &mut self.unchanged,
            HostResult::Conflicts(_) => &mut self.conflicts,
            HostResult::Stale(_) => &mut self.stale,
            HostResult::Unreachable(_) => &mut self.unreachable,
            HostResult::Failed(_) => &mut self.failed,
            HostResult::NotBegun => &mut self.not_begun,
            HostResult::Interrupted => &mut self.interrupted,
        } += 1;
    }
}

/// One of several errors that were found together.
#[derive(Serialize)]
pub(super) struct Detail {
    message: String,
    help: Option<String>,
    code: Option<String>,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
}

impl Detail {
    fn of(error: &dyn Diagnostic) -> Self {
        let label = error.labels().and_then(|mut labels| labels.next());
        let place = label.and_then(|label| {
            let text = error.source_code()?;
            let text = text.read_span(label.inner(), 0, 0).ok()?;
            Some((text.name().map(str::to_owned), text.line(), text.column()))
        });
        let (file, line, column) = match place {
            Some((file, line, column)) => (file, Some(line + 1), Some(column + 1)),
            None => (None, None, None),
        };
        Self {
            message: error.to_string(),
            help: error.help().map(|help| help.to_string()),
            code: error.code().map(|code| code.to_string()),
            file,
            line,
            column,
        }
    }
}
