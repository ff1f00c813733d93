//! Entries under their full names, with the hosts on which the same happens or happened to them.

use std::collections::HashMap;

use super::hosts::Hosts;

/// What happens to an entry, or happened to it, and the hosts on which it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryOnHosts<'a> {
    /// Destination and path; a folder with a slash.
    pub name: String,
    /// Sizes, kinds or permission bits; may be empty.
    pub detail: String,
    /// Why, or what it was.
    pub reason: String,
    /// The hosts.
    pub hosts: Hosts<'a>,
}

/// Entries on all their hosts, in the order in which they come up.
#[derive(Default)]
pub(super) struct Entries<'a> {
    entries: Vec<EntryOnHosts<'a>>,
    index_of: HashMap<(String, String, String), usize>,
}

impl<'a> Entries<'a> {
    pub(super) fn add(&mut self, name: String, detail: String, reason: String, hosts: &Hosts<'a>) {
        let key = (name, detail, reason);
        if let Some(index) = self.index_of.get(&key) {
            self.entries[*index].hosts.extend(hosts.iter());
            return;
        }
        let (name, detail, reason) = key.clone();
        self.index_of.insert(key, self.entries.len());
        self.entries.push(EntryOnHosts {
            name,
            detail,
            reason,
            hosts: hosts.clone(),
        });
    }

    pub(super) fn into_vec(self) -> Vec<EntryOnHosts<'a>> {
        self.entries
    }
}

/// Hosts on which the same has drifted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drifted<'a> {
    /// The hosts.
    pub hosts: Hosts<'a>,
    /// What has drifted on each of them.
    pub entries: Vec<DriftedEntry>,
}

/// An entry that somebody else changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftedEntry {
    /// Destination and path.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// What somebody did to it.
    pub what: String,
}

/// The same, entry by entry instead of host by host.
pub fn by_entry<'a>(drift: &[Drifted<'a>]) -> Vec<EntryOnHosts<'a>> {
    let mut entries = Entries::default();
    for group in drift {
        for entry in &group.entries {
            let name = with_slash(entry.name.clone(), entry.is_folder);
            entries.add(name, String::new(), entry.what.clone(), &group.hosts);
        }
    }
    entries.into_vec()
}

/// The name of a folder ends in a slash.
pub(super) fn with_slash(mut name: String, is_folder: bool) -> String {
    if is_folder && !name.ends_with('/') {
        name.push('/');
    }
    name
}
