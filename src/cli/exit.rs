//! The exit codes, which scripts rely upon, and which of them a plan and a report end with.

use std::process::ExitCode;

use super::options::PlanOutputOptions;
use crate::apply::{HostResult, Report};
use crate::plan::{HostPlan, Plan};

/// How a run ends.
///
/// Ordered by rank: of several that apply to one run, the greatest counts; see [`Exit::and`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// 0: done; for `plan`, whatever it found, unless `--detailed-exitcode`.
    Done,
    /// 2: `plan --detailed-exitcode` found changes.
    Changes,
    /// 4: refused, since there is a conflict that nobody decided about, or the plan is stale.
    Refused,
    /// 3: one host or more failed or were unreachable; the others are done and recorded.
    HostsFailed,
    /// 1: it failed; nothing more specific applies.
    Failed,
    /// 5: the state is locked by another run.
    Locked,
    /// 64: wrong usage of the command line.
    Usage,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// Every way to end, by rank.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Changes,
        Self::Refused,
        Self::HostsFailed,
        Self::Failed,
        Self::Locked,
        Self::Usage,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::HostsFailed => 3,
            Self::Refused => 4,
            Self::Locked => 5,
            Self::Usage => 64,
            Self::Interrupted => 130,
        }
    }

    /// What a run ends with to which both apply.
    ///
    /// A failed host (3) outranks changes (2) and a refusal (4): somebody has to look at it before
    /// the rest can be judged. A failure of the run (1) outranks a failed host, since 3 promises that
    /// the other hosts are done and recorded. A lock (5), wrong usage (64) and an interrupt (130) end
    /// a run by themselves and outrank everything.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }

    /// The end of a command line that is wrong or asks for help.
    pub(super) fn of_usage(error: &clap::Error) -> Self {
        if error.use_stderr() {
            Self::Usage
        } else {
            Self::Done
        }
    }

    /// The end of a plan: a host that was not looked at, or an entry that cannot be sent, is a failure.
    pub(super) fn of_plan(plan: &Plan) -> Self {
        if plan.hosts.iter().all(HostPlan::is_complete) {
            Self::Done
        } else {
            Self::HostsFailed
        }
    }

    /// The end of a plan that is printed: changes count where `--detailed-exitcode` asks for that.
    pub(super) fn of_printed_plan(plan: &Plan, options: &PlanOutputOptions) -> Self {
        let of_changes = if options.detailed_exitcode && plan.summary().has_changes() {
            Self::Changes
        } else {
            Self::Done
        };
        Self::of_plan(plan).and(of_changes)
    }

    /// The end of an apply or a rollback.
    pub(super) fn of_report(report: &Report) -> Self {
        let of_hosts = report
            .hosts
            .iter()
            .map(|host| {
                let of_result = match &host.result {
                    HostResult::Done
                    | HostResult::Unchanged
                    | HostResult::NotBegun
                    | HostResult::Interrupted => Self::Done,
                    HostResult::Conflicts(_) | HostResult::Stale(_) => Self::Refused,
                    HostResult::Unreachable(_) | HostResult::Failed(_) => Self::HostsFailed,
                };
                host.refused.iter().fold(of_result, |exit, refused| {
                    exit.and(if refused.moved {
                        Self::Refused
                    } else {
                        Self::HostsFailed
                    })
                })
            })
            .fold(Self::Done, Self::and);
        if report.interrupted {
            of_hosts.and(Self::Interrupted)
        } else {
            of_hosts
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 2, 4, 3, 1, 5, 64, 130]);
    }

    #[test]
    fn failed_host_outranks_changes_and_refusal() {
        for other in [Exit::Done, Exit::Changes, Exit::Refused] {
            assert_eq!(other.and(Exit::HostsFailed), Exit::HostsFailed);
            assert_eq!(Exit::HostsFailed.and(other), Exit::HostsFailed);
        }
    }

    #[test]
    fn lock_and_interrupt_come_through_whatever_else_happened() {
        for other in [Exit::Done, Exit::HostsFailed, Exit::Failed] {
            assert_eq!(Exit::Locked.and(other), Exit::Locked);
            assert_eq!(other.and(Exit::Interrupted), Exit::Interrupted);
        }
    }

    #[test]
    fn list_of_all_is_in_the_order_of_ranks() {
        assert!(Exit::ALL.is_sorted());
    }
}
