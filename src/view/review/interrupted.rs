//! Applies that did not come to their end.

use std::collections::BTreeMap;

use super::hosts::Hosts;
use crate::model::HostId;

/// A line for each apply that did not come to its end on some hosts: these, with its serial.
pub fn cut_short<'a>(hosts: impl Iterator<Item = (&'a HostId, u64)>) -> Vec<String> {
    let mut of_apply: BTreeMap<u64, Hosts<'_>> = BTreeMap::new();
    for (host, serial) in hosts {
        of_apply.entry(serial).or_default().extend([host]);
    }
    let in_words = |(serial, hosts): (u64, Hosts<'_>)| {
        let hosts = hosts.folded();
        format!("Apply {serial} was cut short on {hosts}: what it did there is known.")
    };
    of_apply.into_iter().map(in_words).collect()
}
