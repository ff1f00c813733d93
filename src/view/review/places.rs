//! Where mappings go, and what their entries are called there.

use std::collections::BTreeMap;

use super::hosts::Hosts;
use super::wording::Wording;
use crate::model::RelPath;
use crate::plan::{HostPlan, MappingNames};
use crate::view::words::{count, escape};

/// Where a mapping goes on some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// The source; `None` where contents do not come from there.
    pub src: Option<String>,
    /// The full destination.
    pub dest: String,
    /// The hosts; `None` where all hosts of the group agree about it.
    pub hosts: Option<Hosts<'a>>,
}

/// `4 more destinations`, of what is left out.
pub fn more_destinations(left_out: &[Destination<'_>]) -> String {
    count(left_out.len(), "more destination", "more destinations")
}

/// What the hosts of a group call a mapping, each name with the hosts that call it so.
pub(super) struct Places<'a>(Vec<(&'a MappingNames, Hosts<'a>)>);

impl<'a> Places<'a> {
    pub(super) fn of(hosts: &[&'a HostPlan], mapping: usize) -> Self {
        let mut index_of: BTreeMap<&MappingNames, usize> = BTreeMap::new();
        let mut places: Vec<(&MappingNames, Hosts<'_>)> = Vec::new();
        for host in hosts {
            if let Some(names) = host.mappings.get(mapping) {
                let index = *index_of.entry(names).or_insert_with(|| {
                    places.push((names, Hosts::default()));
                    places.len() - 1
                });
                places[index].1.extend([&host.host]);
            }
        }
        Self(places)
    }

    /// Where the mapping goes; where hosts differ in it, which goes where.
    pub(super) fn destinations(&self, words: &Wording) -> Vec<Destination<'a>> {
        let differ = self.0.len() > 1;
        let destination = |(names, hosts): &(&MappingNames, Hosts<'a>)| Destination {
            src: words.sends_sources.then(|| escape(names.src.as_bytes())),
            dest: escape(names.dest.as_bytes()),
            hosts: differ.then(|| hosts.clone()),
        };
        self.0.iter().map(destination).collect()
    }

    /// What the mapping is called in a list of its entries, where it is a single file; not escaped.
    pub(super) fn root(&self) -> &'a str {
        self.0.first().map_or(".", |(names, _)| last_part(names))
    }

    /// Destination and path in one, as far as the hosts agree about the destination.
    pub(super) fn full_name(&self, path: &RelPath) -> String {
        let dest = match self.0.as_slice() {
            [(names, _)] => escape(names.dest.trim_end_matches('/').as_bytes()),
            [(first, _), others @ ..] if path.is_root() => {
                let last = last_part(first);
                let agree = others.iter().all(|(names, _)| last_part(names) == last);
                let last = if agree { last } else { "" };
                format!("…/{}", escape(last.as_bytes()))
            }
            _ => "…".to_owned(),
        };
        below(&dest, path)
    }
}

/// The last part of a destination.
fn last_part(names: &MappingNames) -> &str {
    let dest = names.dest.trim_end_matches('/');
    let last = dest.rsplit('/').next();
    last.filter(|name| !name.is_empty()).unwrap_or("/")
}

/// A path below an escaped destination, escaped.
pub(super) fn below(dest: &str, path: &RelPath) -> String {
    if path.is_root() {
        dest.to_owned()
    } else {
        format!("{dest}/{}", escape(path.as_bytes()))
    }
}
