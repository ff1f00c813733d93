//! Hosts that share a line or a group.

use super::host_ranges::fold_hosts;
use crate::model::HostId;
use crate::view::words::escape;

/// Hosts that share a line or a group, in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Hosts<'a>(Vec<&'a HostId>);

impl<'a> FromIterator<&'a HostId> for Hosts<'a> {
    fn from_iter<I: IntoIterator<Item = &'a HostId>>(hosts: I) -> Self {
        Self(hosts.into_iter().collect())
    }
}

impl<'a> Extend<&'a HostId> for Hosts<'a> {
    fn extend<I: IntoIterator<Item = &'a HostId>>(&mut self, hosts: I) {
        self.0.extend(hosts);
    }
}

impl<'a> Hosts<'a> {
    /// The hosts one by one.
    pub fn iter(&self) -> impl Iterator<Item = &'a HostId> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn number(&self) -> usize {
        self.0.len()
    }

    /// `web[1-3,7], db`: all of them on one line.
    pub fn folded(&self) -> String {
        fold(&self.names())
    }

    /// The same in at most `max_bytes`, but at least one: `web[1-3], …`.
    pub fn folded_within(&self, max_bytes: usize) -> String {
        let names = self.names();
        let all = fold(&names);
        if all.len() <= max_bytes || names.len() == 1 {
            return all;
        }
        let (mut fits, mut too_many) = (1, names.len());
        while too_many - fits > 1 {
            let middle = usize::midpoint(fits, too_many);
            if fold(&names[..middle]).len() <= max_bytes {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        format!("{}, …", fold(&names[..fits]))
    }

    /// `web[1-3,7] (4 hosts)`; a host alone is not counted.
    pub fn in_words(&self) -> String {
        self.counted(self.folded())
    }

    /// Their names as a form writes them, with how many there are.
    pub fn counted(&self, names: String) -> String {
        match self.number() {
            1 => names,
            number => format!("{names} ({number} hosts)"),
        }
    }

    fn names(&self) -> Vec<String> {
        let escaped = |host: &&HostId| escape(host.as_str().as_bytes());
        self.0.iter().map(escaped).collect()
    }
}

fn fold(names: &[String]) -> String {
    fold_hosts(names.iter().map(String::as_str)).join(", ")
}
