//! The plan in one line.

use super::wording::Wording;
use crate::apply::LargeFiles;
use crate::model::Node;
use crate::plan::{Action, Change, HostStatus, Plan, Refresh};
use crate::view::words::{count, size};

/// The plan in one line that can be read alone and whose form is kept, since people search for it.
pub fn summary_line(plan: &Plan) -> String {
    let words = Wording::of(plan.back_to);
    let summary = plan.summary();
    let hosts = count(summary.hosts, "host", "hosts");
    let failed = plan
        .hosts
        .iter()
        .filter(|host| matches!(host.status, HostStatus::Failed(_)))
        .count();
    let unreachable = summary.unreachable - failed;
    let problems: usize = plan.hosts.iter().map(|host| host.problems.len()).sum();
    let mut line = if summary.has_changes() {
        let touched = plan.hosts.iter().filter(|host| host.touches_host()).count();
        let sent = if words.sends_sources {
            format!(" ({} to send)", bytes_in_words(plan, summary.bytes_to_send))
        } else {
            String::new()
        };
        format!(
            "{}: {} to create, {} to update, {} to delete, {} to change on {touched} of {hosts}{sent}",
            words.plan,
            summary.create,
            summary.update,
            summary.delete,
            count(summary.metadata, "mode", "modes"),
        )
    } else if summary.hosts == 0 {
        "No changes: there are no hosts".to_owned()
    } else {
        (words.no_changes)(plan, &hosts)
    };
    for (number, singular, plural) in [
        (summary.conflicts, "conflict", "conflicts"),
        (summary.adopt, "entry to record", "entries to record"),
        (problems, words.left_out_one, words.left_out_many),
        (unreachable, "host unreachable", "hosts unreachable"),
        (failed, "host failed", "hosts failed"),
    ] {
        if number > 0 {
            line.push_str("; ");
            line.push_str(&count(number, singular, plural));
        }
    }
    if plan.header.refresh == Refresh::None {
        line.push_str("; no host was looked at");
    }
    line.push('.');
    line
}

/// `4.2 KiB`; `at most 300.0 MiB` where a host has something of a large file, of which only the blocks
/// that differ are sent. Which these are is found out when they are.
fn bytes_in_words(plan: &Plan, bytes: u64) -> String {
    let from_bytes = LargeFiles::default().from_bytes;
    let is_file = |node: &Option<Node>| matches!(node, Some(Node::File { .. }));
    let is_sent_in_part = |change: &Change| {
        change.action == Action::Update
            && is_file(&change.before)
            && change.bytes_to_send() >= from_bytes
    };
    let mut hosts = plan.hosts.iter();
    if hosts.any(|host| host.changes().iter().any(is_sent_in_part)) {
        format!("at most {}", size(bytes))
    } else {
        size(bytes)
    }
}
