//! What a rollback undoes.

use super::hosts::Hosts;
use super::past_runs::cut_short;
use crate::plan::goal::rollback::{RollbackTarget, Undone};
use crate::plan::prepared::Prepared;
use crate::state::PastRun;
use crate::view::words::count;

/// What stands above the plan of a rollback, paragraph by paragraph: what is undone, and which hosts are not
/// among those that were picked.
pub fn introduction(undo: &RollbackTarget, prepared: &Prepared) -> Vec<String> {
    let mut paragraphs = vec![what(undo)];
    paragraphs.extend(cut_short(prepared.cut_short()));
    let others = &prepared.run.others;
    if !others.is_empty() {
        let number = count(others.len(), "host", "hosts");
        let hosts = Hosts::from_iter(others).folded();
        paragraphs.push(format!(
            "Not picked, and to be undone as well: {hosts} ({number})."
        ));
    }
    paragraphs
}

fn what(undo: &RollbackTarget) -> String {
    let what = match &undo.what {
        Undone::Plan(runs) => plan(runs),
        Undone::Since(0) => "Goes back to before the first apply.".to_owned(),
        Undone::Since(serial) => format!("Goes back to what was there after apply {serial}."),
    };
    match &undo.begun {
        Some(run) => format!(
            "{what} This goes on with apply {}, which is not complete.",
            run.serial
        ),
        None => what,
    }
}

/// A plan and its retries, the newest first.
fn plan(runs: &[PastRun]) -> String {
    let mut serials = runs.iter().rev().map(|run| run.serial.to_string());
    let (Some(first), Some(number)) = (runs.last(), serials.next()) else {
        return "Undoes nothing.".to_owned();
    };
    let rollback = first.back_to;
    let rollback = rollback.map_or(String::new(), |to| format!(", a rollback to {to},"));
    let later: Vec<String> = serials.collect();
    let later = match later.as_slice() {
        [] => String::new(),
        [one] => format!(", and apply {one}, which went on with it"),
        more => format!(", and what went on with it: applies {}", more.join(", ")),
    };
    format!(
        "Undoes apply {number}{rollback} of {}{later}.",
        first.began_at
    )
}
