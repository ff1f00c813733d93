//! What is wrong with hosts and sources.

use std::collections::HashMap;

use super::hosts::Hosts;
use crate::plan::{HostPlan, HostStatus};
use crate::view::errors::first_line;
use crate::view::words::escape_text;

/// Hosts that nothing is known of, for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostErrors<'a> {
    /// Which hosts.
    pub hosts: Hosts<'a>,
    /// `unreachable` or `failed`.
    pub how: &'static str,
    /// Why, as the host or the system said it.
    pub error: String,
}

/// Hosts that could not be looked at, and those whose plan was refused. Errors that differ in the address of
/// their host alone are one, without it.
pub(super) fn of_hosts(hosts: &[HostPlan]) -> Vec<HostErrors<'_>> {
    let mut errors: Vec<HostErrors<'_>> = Vec::new();
    let mut index_of: HashMap<(&'static str, String), usize> = HashMap::new();
    for host in hosts {
        let (how, error) = match &host.status {
            HostStatus::Ok => continue,
            HostStatus::Unreachable(error) => ("unreachable", error),
            HostStatus::Failed(error) => ("failed", error),
        };
        let error = first_line(error);
        let without_address = without_address(&error, host.host.as_str());
        let index = *index_of
            .entry((how, without_address.clone()))
            .or_insert_with(|| {
                errors.push(HostErrors {
                    hosts: Hosts::default(),
                    how,
                    error,
                });
                errors.len() - 1
            });
        let group = &mut errors[index];
        group.hosts.extend([&host.host]);
        if group.hosts.number() > 1 {
            group.error = without_address;
        }
    }
    errors
}

/// An error without the address of its host, as far as the host is called by it: a word such as `web` may
/// mean something else.
fn without_address(error: &str, host: &str) -> String {
    if host.contains(['.', ':']) {
        error.replace(host, "…")
    } else {
        error.to_owned()
    }
}

/// Entries that apply leaves out, and the hosts for which it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems<'a> {
    /// Which hosts.
    pub hosts: Hosts<'a>,
    /// Each entry with the reason.
    pub entries: Vec<String>,
}

/// Entries that cannot be sent, and for which hosts.
pub(super) fn problems(hosts: &[HostPlan]) -> Vec<Problems<'_>> {
    let mut groups: Vec<(&[String], Hosts<'_>)> = Vec::new();
    for host in hosts.iter().filter(|host| !host.problems.is_empty()) {
        let same = groups.iter_mut().find(|(other, _)| *other == host.problems);
        match same {
            Some((_, hosts)) => hosts.extend([&host.host]),
            None => groups.push((&host.problems, Hosts::from_iter([&host.host]))),
        }
    }
    let escaped = |(entries, hosts): (&[String], _)| Problems {
        hosts,
        entries: entries.iter().map(|entry| escape_text(entry)).collect(),
    };
    groups.into_iter().map(escaped).collect()
}
