//! The words for a plan and for its report, which depend on where the plan leads.
//!
//! [`Wording::of`] chooses them. Nothing else in the review tells apart a plan that brings what the sources
//! have and one that brings back what was there before.

use super::section::UNSENDABLE;
use crate::plan::Plan;

/// What is said in one way or another, depending on where a plan leads.
pub(super) struct Wording {
    /// What a plan is called.
    pub(super) plan: &'static str,
    /// What is said of a plan that changes nothing on its hosts, of which there is at least one. It also gets
    /// their number in words.
    pub(super) no_changes: fn(&Plan, &str) -> String,
    /// Whether contents are sent from the sources. Then these are named, and bytes are counted.
    pub(super) sends_sources: bool,
    /// Why an entry is created, unless somebody has removed it.
    pub(super) created: &'static str,
    /// Why an entry is deleted that an apply has written.
    pub(super) deleted: &'static str,
    /// Why it is a conflict to set permission bits.
    pub(super) sets_modes: &'static str,
    /// Why it is a conflict to delete what nobody has changed since it was written.
    pub(super) deletes: &'static str,
    /// Why it is a conflict to write where nobody has changed anything.
    pub(super) writes: &'static str,
    /// What stands above the entries that are left out.
    pub(super) left_out: &'static str,
    /// What one of them is called in a count.
    pub(super) left_out_one: &'static str,
    /// What several of them are called in a count.
    pub(super) left_out_many: &'static str,
    /// What was done.
    pub(super) done: &'static str,
    /// What is said instead where nothing was done, and something is left to do.
    pub(super) nothing_done: &'static str,
    /// How conflicts are decided about.
    pub(super) decide: &'static str,
}

/// Why it is a conflict to create something.
pub(super) const EXPOSED_CREATE: &str = "new; others can change its folder";

/// Hosts get what the sources have.
const FORWARD: Wording = Wording {
    plan: "Plan",
    no_changes: agrees_with_sources,
    sends_sources: true,
    created: "new",
    deleted: "no longer in the source",
    sets_modes: "mode; others can change its folder",
    deletes: "is deleted; others can change its folder",
    writes: "content; others can change its folder",
    left_out: UNSENDABLE,
    left_out_one: "entry cannot be sent",
    left_out_many: "entries cannot be sent",
    done: "Applied",
    nothing_done: "Nothing applied",
    decide: "To decide about conflicts, on a terminal (it asks) or with `--on-conflict`:",
};

/// Hosts get back what they had.
const BACK: Wording = Wording {
    plan: "Rollback",
    no_changes: nothing_to_roll_back,
    sends_sources: false,
    created: "was there before",
    deleted: "was not there before",
    sets_modes: "would run as its owner or group",
    deletes: "deletes what nobody reviewed",
    writes: "overwrites the unreviewed",
    left_out: "Entries that stay as they are",
    left_out_one: "entry stays as it is",
    left_out_many: "entries stay as they are",
    done: "Rolled back",
    nothing_done: "Nothing rolled back",
    decide: "To decide about conflicts, on a terminal (it asks):",
};

impl Wording {
    /// The words for a plan that leads back to this serial; `None` for one that undoes nothing.
    pub(super) fn of(back_to: Option<u64>) -> &'static Self {
        match back_to {
            None => &FORWARD,
            Some(_) => &BACK,
        }
    }
}

fn agrees_with_sources(plan: &Plan, hosts: &str) -> String {
    let agree = plan.hosts.iter().filter(|host| host.is_complete()).count();
    let verb = if agree == 1 { "agrees" } else { "agree" };
    if plan.unseen().count() == plan.hosts.len() {
        format!("Nothing known: 0 of {hosts} could be planned for")
    } else if agree == plan.hosts.len() {
        format!("No changes: {hosts} {verb} with the sources")
    } else {
        format!("No changes: {agree} of {hosts} {verb} with the sources")
    }
}

fn nothing_to_roll_back(plan: &Plan, hosts: &str) -> String {
    if plan.unseen().count() == plan.hosts.len() {
        format!("Nothing to roll back: 0 of {hosts} can be brought back")
    } else {
        format!("Nothing to roll back on {hosts}")
    }
}
