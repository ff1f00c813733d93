//! A plan, and what was found out on the way to it, which apply needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Blake3, HostError, HostId, Node, RelPath, Tree};
use crate::remote::tasks::look::{HostLook, Listing};
use crate::source::local::SourceTree;
use crate::state::HostRecord;

use super::gather::KeptLogins;
use super::{Actual, Change, HostPlan, Plan, document};

/// A plan, and what was found out on the way to it, which apply needs.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// For each host of the plan, in its order, what is known.
    pub hosts: Vec<Preparation>,
    /// For each host of the plan, in its order, what became of the listing that it keeps; `None` for
    /// one without a look.
    pub listings: Vec<Option<Listing>>,
    /// Logins on hosts on which something is to be done.
    pub logins: KeptLogins,
    /// The run that carries the plan out, as the state will know it.
    pub run: PlannedRun,
}

/// The run that carries a plan out, as the state will know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedRun {
    /// Digest of the saved plan that is carried out; `None` for a plan that was just made.
    pub saved_plan: Option<Blake3>,
    /// Whether nothing is left to be done when the plan is done.
    pub is_all: bool,
    /// The runs that are undone, where the plan undoes any; empty for all that came after the serial that it
    /// goes back to.
    pub undoes: Vec<u64>,
    /// Hosts that have something to be undone, too, and are not among those that were picked; sorted.
    pub others: Vec<HostId>,
}

/// What a look at a host has come to.
#[derive(Debug)]
pub enum Preparation {
    /// There is nothing to be done, or it could not be looked at.
    Nothing,
    /// This is known.
    Ready(Box<PreparedHost>),
    /// It is no longer as the saved plan says, for this reason.
    Stale(HostError),
}

impl Preparation {
    /// What is known of a host on which something is to be done.
    pub fn ready(&self) -> Option<&PreparedHost> {
        match self {
            Self::Ready(prepared) => Some(prepared),
            Self::Nothing | Self::Stale(_) => None,
        }
    }
}

/// What is known of a host that was looked at.
#[derive(Debug)]
pub struct PreparedHost {
    /// What is to be there, by mapping.
    pub sources: Vec<Arc<SourceTree>>,
    /// What was written last, by mapping; empty where nothing was.
    pub recorded: Vec<Arc<Tree>>,
    /// The record itself.
    pub record: Option<HostRecord>,
    /// What the host has, by mapping.
    pub actual: Vec<Actual>,
    /// What it answered.
    pub look: HostLook,
    /// Whether an earlier apply did not come to its end here, or there is no listing to be trusted, or
    /// something has moved without becoming different: apply then sees to it, even where nothing is to
    /// be changed, since every plan would have to look again.
    pub needs_visit: bool,
    /// Whether something on the host is not as recorded, and the saved plan that is carried out has
    /// nothing about it.
    pub leaves_drift: bool,
    /// On what terms its changes are carried out.
    pub terms: Terms,
}

/// Where the content of changes comes from, and what holds for it on the host and in the state.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each of them is a fact of its own"
)]
pub struct Terms {
    /// By mapping, what the host gets back from its own backups. Empty where contents are sent from the
    /// sources.
    pub brought_back: Arc<[BroughtBack]>,
    /// Whether what is staged has the owner and the group that it is to have. The commit then sets
    /// neither, and a file has its setuid and setgid bits only where it has got its owner.
    pub brings_owner: bool,
    /// Whether new folders get the modification time of their source.
    pub dates_folders: bool,
    /// Whether everything in a mirror was looked at.
    pub knows_mirrors: bool,
    /// Whether the listing of the commit may be kept. It may not where something is to be recorded that
    /// the host does not have.
    pub may_keep_listing: bool,
}

impl Default for Terms {
    /// Contents are sent from the sources.
    fn default() -> Self {
        Self {
            brought_back: Arc::default(),
            brings_owner: false,
            dates_folders: true,
            knows_mirrors: true,
            may_keep_listing: true,
        }
    }
}

/// What a mapping of a host gets back.
#[derive(Debug, Default)]
pub struct BroughtBack {
    /// What is to be there again, of every entry that was changed.
    pub entries: BTreeMap<RelPath, EntryBack>,
    /// What was recorded then.
    pub recorded: Arc<Tree>,
}

/// What is to be there again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryBack {
    /// The entry; `None` for nothing.
    pub node: Option<Node>,
    /// Where on the host its bytes may be, below the staging folder; the likeliest place first.
    pub backups: Vec<Vec<u8>>,
}

impl Prepared {
    /// The digest that names the plan in the state.
    pub fn plan_digest(&self) -> Blake3 {
        let made_now = || document::digest(&self.plan);
        self.run.saved_plan.unwrap_or_else(made_now)
    }

    /// Bytes of content to be sent to all hosts.
    pub fn bytes_to_send(&self) -> u64 {
        let hosts = self.plan.hosts.iter().zip(&self.hosts);
        let hosts = hosts.filter_map(|(plan, host)| Some((plan, host.ready()?)));
        hosts.map(|(plan, host)| host.bytes_to_send(plan)).sum()
    }

    /// The hosts on which an apply did not come to its end, with its serial.
    pub fn cut_short(&self) -> impl Iterator<Item = (&HostId, u64)> {
        let hosts = self.hosts.iter().filter_map(Preparation::ready);
        let records = hosts.filter_map(|host| host.record.as_ref());
        let cut_short = records.filter(|record| record.is_in_the_middle());
        cut_short.map(|record| (&record.host, record.serial))
    }

    /// Whether some host needs a visit though nothing is to be changed there.
    pub fn has_hosts_to_visit(&self) -> bool {
        let mut hosts = self.hosts.iter().filter_map(Preparation::ready);
        hosts.any(|host| host.needs_visit)
    }
}

impl PreparedHost {
    /// Bytes of content to be sent for its plan; none where all comes from backups.
    pub fn bytes_to_send(&self, plan: &HostPlan) -> u64 {
        let is_sent = |change: &&Change| {
            let backups = self.terms.backups(change.mapping, &change.path);
            backups.is_none()
        };
        let sent = plan.changes().iter().filter(is_sent);
        sent.map(Change::bytes_to_send).sum()
    }
}

impl Terms {
    /// Where on the host the bytes of an entry may be: paths below the staging folder, the likeliest
    /// first. `None` where they are sent from the source.
    pub fn backups(&self, mapping: usize, path: &RelPath) -> Option<&[Vec<u8>]> {
        let entries = &self.brought_back.get(mapping)?.entries;
        Some(entries.get(path).map_or(&[], |entry| &entry.backups))
    }
}

impl BroughtBack {
    /// Whether what is at a path is what is to be there again.
    pub fn is_back(&self, path: &RelPath, actual: Option<&Node>) -> bool {
        let entry = self.entries.get(path);
        entry.is_some_and(|entry| match (&entry.node, actual) {
            (Some(wanted), Some(actual)) => wanted.same(actual),
            (None, None) => true,
            _ => false,
        })
    }

    /// What is to be recorded, where `written` is what would be if all had come from the sources. An
    /// entry that is back has what was recorded of it then: what was not ours is not ours again.
    /// `is_left` tells which ones are not back.
    pub fn recorded(&self, written: &Tree, is_left: impl Fn(&RelPath) -> bool) -> Tree {
        let is_back = |path: &RelPath| self.entries.contains_key(path) && !is_left(path);
        let staying = written.entries().iter();
        let staying = staying.filter(|entry| !is_back(&entry.path));
        let back = self.recorded.entries().iter();
        let back = back.filter(|entry| is_back(&entry.path));
        staying.chain(back).cloned().collect()
    }
}
