//! Why a saved plan does not hold any more.

use miette::Diagnostic;
use thiserror::Error;

/// Hosts that an error names.
const UNSEEN_MAX: usize = 10;

/// A saved plan that is no longer worth anything: nothing of it is done.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum StalePlan {
    /// It was made from another state.
    #[error("the plan is stale: it was made {plan}, and {now}")]
    #[diagnostic(
        code(hostsync::plan::stale_lineage),
        help(
            "use the state folder that the plan was made with, or plan again and review the new plan"
        )
    )]
    Lineage {
        /// From which state.
        plan: String,
        /// What is here.
        now: String,
    },
    /// The state is an earlier one.
    #[error(
        "the plan is stale: it was made at serial {plan}, and the state here is at serial {now}"
    )]
    #[diagnostic(
        code(hostsync::plan::stale_serial),
        help(
            "an older state was brought back: use the one that the plan was made with, or plan again \
             and review the new plan"
        )
    )]
    Serial {
        /// Of the state that the plan was made from.
        plan: u64,
        /// Of the state that is here.
        now: u64,
    },
    /// The configuration has changed.
    #[error("the plan is stale: the configuration has changed since it was made")]
    #[diagnostic(
        code(hostsync::plan::stale_configuration),
        help("plan again, and review the new plan")
    )]
    Configuration,
    /// A source has changed.
    #[error("the plan is stale: {} since it was made", changed(.sources))]
    #[diagnostic(
        code(hostsync::plan::stale_source),
        help("plan again, and review the new plan")
    )]
    Source {
        /// The sources, as written in the configuration.
        sources: Vec<String>,
    },
    /// It has been carried out.
    #[error("the plan is stale: it has been applied already (serial {serial}){}", without(.unseen))]
    #[diagnostic(
        code(hostsync::plan::already_applied),
        help("there is nothing left of it to do; plan again to see what has changed since")
    )]
    Applied {
        /// The highest serial that it was applied with.
        serial: u64,
        /// Hosts that could not be looked at when it was made.
        unseen: Vec<String>,
    },
    /// A host is not in it.
    #[error("the plan does not have host `{host}`")]
    #[diagnostic(
        code(hostsync::plan::unknown_host),
        help("it was made with `--limit`; pick hosts that `hostsync show` lists, or plan again")
    )]
    UnknownHost {
        /// Its name.
        host: String,
    },
}

/// `; it has nothing for a, b, which could not be looked at when it was made`.
fn without(unseen: &[String]) -> String {
    if unseen.is_empty() {
        return String::new();
    }
    let (named, others) = unseen.split_at(unseen.len().min(UNSEEN_MAX));
    let more = match others.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "; it has nothing for {}{more}, which could not be looked at when it was made",
        named.join(", ")
    )
}

/// `source a has changed`, `sources a and b have changed`.
fn changed(sources: &[String]) -> String {
    match sources {
        [source] => format!("source {source} has changed"),
        [first, .., last] if sources.len() == 2 => {
            format!("sources {first} and {last} have changed")
        }
        _ => format!(
            "{} sources have changed ({}, …)",
            sources.len(),
            sources.first().map_or("", String::as_str)
        ),
    }
}

/// A host is no longer as the saved plan says: nothing of it is done there.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum StaleHost {
    /// A later apply wrote its state.
    #[error(
        "apply {serial} wrote its state at {at}, after this plan was made (serial {planned_at})"
    )]
    #[diagnostic(code(hostsync::plan::stale_record))]
    Record {
        /// Serial of that apply.
        serial: u64,
        /// When it was.
        at: String,
        /// Serial of the state that the plan was made from.
        planned_at: u64,
    },
    /// It has changes in a mapping that the host does not have.
    #[error("the plan has a mapping that the configuration does not have")]
    #[diagnostic(code(hostsync::plan::unknown_mapping))]
    UnknownMapping,
    /// No plan of ours says so while its sources have the digests that it names.
    #[error("{dest} is not what the source has")]
    #[diagnostic(code(hostsync::plan::not_in_source))]
    NotInSource {
        /// The entry on the host.
        dest: String,
    },
    /// The folder that an entry lies in is none any more.
    #[error("{dest} is not the folder any more that it was when the plan was made")]
    #[diagnostic(code(hostsync::plan::lost_folder))]
    LostFolder {
        /// The folder on the host.
        dest: String,
    },
    /// An entry is not as the plan found it.
    #[error("{dest} {what} since the plan was made")]
    #[diagnostic(code(hostsync::plan::moved))]
    Moved {
        /// The entry on the host.
        dest: String,
        /// What happened to it.
        what: &'static str,
    },
}
