//! Who approves a plan before hosts are changed, and what a person is asked.

use std::fmt::Write as _;

use super::options::ApprovalOptions;
use crate::apply::OnConflict;
use crate::plan::{HostPlan, Plan};
use crate::view::words::count;

/// Who approves a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approval {
    /// A person, who sees the plan and is asked.
    Asked,
    /// `--auto-approve`: nobody has seen the plan.
    Automatic,
    /// Whoever reviewed the plan when it was saved.
    Reviewed,
}

impl Approval {
    /// Who approves a plan that is made now.
    pub(super) fn of_new_plan(options: &ApprovalOptions) -> Self {
        if options.auto_approve {
            Self::Automatic
        } else {
            Self::Asked
        }
    }

    /// Whether a person is asked about this plan. Nobody is asked about one that only records what is
    /// there already.
    pub(super) fn asks_about(self, plan: &Plan) -> bool {
        self == Self::Asked && plan.hosts.iter().any(HostPlan::touches_host)
    }

    /// What happens to conflicts by default: those that somebody has seen are approved with the rest.
    pub(super) fn on_conflict(self) -> OnConflict {
        match self {
            Self::Automatic => OnConflict::Fail,
            Self::Asked | Self::Reviewed => OnConflict::Overwrite,
        }
    }
}

/// What a person is asked below a plan. `backups` is the setting.
pub(super) fn question(plan: &Plan, on_conflict: OnConflict, backups: u32) -> String {
    let summary = plan.summary();
    let hosts = plan.hosts.iter().filter(|host| host.touches_host()).count();
    let mut text = format!(
        "\nDo you want to do this on {}?\n",
        count(hosts, "host", "hosts")
    );
    if summary.delete + summary.update > 0 {
        let _ = match backups {
            0 => writeln!(text, "  Nothing of what goes is kept: `backups` is 0."),
            1 => writeln!(text, "  What goes is kept in backups until the next apply."),
            _ => writeln!(
                text,
                "  What goes is kept in backups for the last {backups} applies."
            ),
        };
    }
    if summary.conflicts > 0 {
        let conflicts = count(summary.conflicts, "conflict is", "conflicts are");
        let fate = match on_conflict {
            OnConflict::Overwrite if plan.is_exposed() => {
                "done, too: look at what is there first, and at the folders that others can change"
            }
            OnConflict::Overwrite => "replaced or deleted, too: look at what is there first",
            OnConflict::Skip => "left alone",
            OnConflict::Fail => "in the way: these hosts are left alone",
        };
        let _ = writeln!(text, "  {conflicts} {fate}.");
    }
    text.push_str("  Only 'yes' is accepted: ");
    text
}
