//! What the state remembers of earlier applies, for rollbacks.

use serde::{Deserialize, Serialize};

use crate::model::Blake3;

/// How many runs the state remembers.
const RUNS_KEPT: usize = 100;

/// Whether the last apply to a host came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It did.
    Finished,
    /// It did not, as far as is known: the host may have a part of it.
    InTheMiddle,
}

/// The applies that have changed a host and whose backups it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// Serial of the newest apply that changed the host and is no longer remembered; 0 when all are.
    pub forgotten: u64,
    /// The oldest first.
    pub applies: Vec<PastApply>,
}

impl History {
    /// Takes note that this apply has come to its end on the host, and so has all that was left open there.
    pub fn close(&mut self, serial: u64) {
        for apply in self.applies.iter_mut().filter(|apply| apply.is_open()) {
            apply.finished_by = Some(serial);
        }
    }

    /// Forgets all but the newest `count` applies.
    pub fn keep_newest(&mut self, count: usize) {
        let surplus = self.applies.len().saturating_sub(count);
        for apply in self.applies.drain(..surplus) {
            self.forgotten = self.forgotten.max(apply.serial);
        }
    }
}

/// What one apply changed on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastApply {
    /// Its serial.
    pub serial: u64,
    /// Whether it came to its end there. Of one that did not, this is what it was about to do.
    pub progress: Progress,
    /// Of one that did not, the apply that has finished its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_by: Option<u64>,
    /// Name of the folder on the host that has its backups; `None` where the host did not say.
    pub backup: Option<String>,
    /// The mappings in which it changed anything.
    pub mappings: Vec<PastMapping>,
}

impl PastApply {
    /// Whether it did not come to its end, and nothing has come to its end after it.
    pub fn is_open(&self) -> bool {
        self.progress == Progress::InTheMiddle && self.finished_by.is_none()
    }
}

/// What one apply changed in a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastMapping {
    /// The destination; what a mapping is found again by.
    pub dest: String,
    /// Its number among the mappings of the host at that time: the name of its folder in the backups.
    pub number: usize,
    /// Names the tree that was recorded of the mapping before.
    pub recorded: Blake3,
    /// Names the tree of what was there before, of the entries that were changed.
    pub before: Blake3,
    /// Names the tree of what was put there, of the same entries.
    pub after: Blake3,
}

/// One run that changed hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    /// Its serial.
    pub serial: u64,
    /// Serial of the run that it is a retry of; its own where it is none.
    pub first: u64,
    /// Digest of the plan.
    pub plan: Blake3,
    /// When it began: RFC 3339, UTC.
    pub began_at: String,
    /// Whether there was anything to be changed on hosts.
    pub has_changes: bool,
    /// Of a rollback, the serial that it went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// Of a rollback, the runs that it undid; empty for all that came after that serial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undoes: Vec<u64>,
    /// Whether all of it was done, on every host.
    pub is_complete: bool,
}

/// What a run is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Digest of the plan.
    pub plan: Blake3,
    /// When it begins: RFC 3339, UTC.
    pub began_at: String,
    /// Whether there is anything to be changed on hosts.
    pub has_changes: bool,
    /// Of a rollback, the serial that it goes back to.
    pub back_to: Option<u64>,
    /// Of a rollback, the runs that it undoes; empty for all that came after that serial.
    pub undoes: Vec<u64>,
    /// What hosts are to be made equal to.
    pub aim: GoalDigests,
}

/// What hosts were to be made equal to.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GoalDigests {
    /// Digest of the configuration.
    pub config: Option<Blake3>,
    /// The sources, as written in the configuration, each with its digest; sorted.
    pub sources: Vec<(String, Blake3)>,
}

impl GoalDigests {
    /// Whether all of this was the aim of `earlier`, too.
    fn is_part_of(&self, earlier: &Self) -> bool {
        self.config == earlier.config
            && self
                .sources
                .iter()
                .all(|source| earlier.sources.binary_search(source).is_ok())
    }
}

/// The runs that the state remembers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Runs {
    /// The oldest first.
    pub(super) runs: Vec<PastRun>,
    /// What the newest one was to make hosts equal to.
    pub(super) aim: GoalDigests,
}

impl Runs {
    /// Takes note of a run that begins.
    pub(super) fn begin(&mut self, serial: u64, intent: &Intent) {
        let first = self.first_of(intent).unwrap_or(serial);
        self.runs.push(PastRun {
            serial,
            first,
            plan: intent.plan,
            began_at: intent.began_at.clone(),
            has_changes: intent.has_changes,
            back_to: intent.back_to,
            undoes: intent.undoes.clone(),
            is_complete: false,
        });
        self.aim = intent.aim.clone();
        let surplus = self.runs.len().saturating_sub(RUNS_KEPT);
        self.runs.drain(..surplus);
    }

    /// The run that this one is a retry of: of the same saved plan, or of one that has left something
    /// undone and had the same aim.
    fn first_of(&self, intent: &Intent) -> Option<u64> {
        let same_plan = self.runs.iter().rev().find(|run| run.plan == intent.plan);
        let goes_on = |run: &&PastRun| {
            !run.is_complete
                && (run.back_to, &run.undoes) == (intent.back_to, &intent.undoes)
                && (run.back_to.is_some() || intent.aim.is_part_of(&self.aim))
        };
        let earlier = same_plan.or_else(|| self.runs.last().filter(goes_on));
        earlier.map(|run| run.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(plan: &str, sources: &[&str]) -> Intent {
        let sources = sources.iter();
        Intent {
            plan: Blake3::of(plan.as_bytes()),
            began_at: String::new(),
            has_changes: true,
            back_to: None,
            undoes: Vec::new(),
            aim: GoalDigests {
                config: Some(Blake3::of(b"config")),
                sources: sources
                    .map(|source| ((*source).to_owned(), Blake3::of(source.as_bytes())))
                    .collect(),
            },
        }
    }

    fn firsts(runs: &Runs) -> Vec<u64> {
        runs.runs.iter().map(|run| run.first).collect()
    }

    #[test]
    fn retry_of_what_was_left_undone_belongs_to_it() {
        let mut runs = Runs::default();
        runs.begin(1, &intent("p", &["a", "b"]));
        // Only the hosts that were not reached, which have one of the sources.
        runs.begin(2, &intent("q", &["b"]));
        assert_eq!(firsts(&runs), [1, 1]);
    }

    #[test]
    fn plan_after_a_complete_one_or_with_another_aim_is_a_new_one() {
        let mut runs = Runs::default();
        runs.begin(1, &intent("p", &["a"]));
        runs.runs[0].is_complete = true;
        runs.begin(2, &intent("q", &["a"]));
        runs.begin(3, &intent("r", &["changed"]));
        assert_eq!(firsts(&runs), [1, 2, 3]);
    }

    #[test]
    fn same_saved_plan_is_one_whatever_came_between() {
        let mut runs = Runs::default();
        runs.begin(1, &intent("p", &["a"]));
        runs.begin(2, &intent("q", &["b"]));
        runs.runs.iter_mut().for_each(|run| run.is_complete = true);
        runs.begin(3, &intent("p", &["a"]));
        assert_eq!(firsts(&runs), [1, 2, 1]);
    }

    #[test]
    fn rollback_that_was_left_undone_goes_on_and_is_no_retry_of_an_apply() {
        let back = |to| Intent {
            back_to: Some(to),
            ..intent(&format!("back to {to}"), &[])
        };
        let mut runs = Runs::default();
        runs.begin(1, &intent("p", &["a"]));
        runs.begin(2, &back(0));
        runs.begin(
            3,
            &Intent {
                plan: Blake3::of(b"x"),
                ..back(0)
            },
        );
        runs.begin(4, &intent("q", &["a"]));
        assert_eq!(firsts(&runs), [1, 2, 2, 4]);
    }

    #[test]
    fn what_is_forgotten_is_known_to_be() {
        let apply = |serial| PastApply {
            serial,
            progress: Progress::Finished,
            finished_by: None,
            backup: None,
            mappings: Vec::new(),
        };
        let mut history = History {
            forgotten: 0,
            applies: vec![apply(2), apply(5), apply(7)],
        };
        history.keep_newest(3);
        assert_eq!(history.forgotten, 0);
        history.keep_newest(1);
        assert_eq!(history.forgotten, 5);
        assert_eq!(history.applies, [apply(7)]);
    }
}
