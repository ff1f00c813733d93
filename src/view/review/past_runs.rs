//! Past runs that the reader of a plan should know of.

use std::collections::BTreeMap;

use super::hosts::Hosts;
use crate::model::HostId;
use crate::state::PastRun;

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

/// What is said above a plan that has changes where the last of these runs that changed anything went back
/// to an earlier serial.
pub fn taken_back(runs: &[PastRun]) -> Option<String> {
    let last = runs.iter().rev().find(|run| run.has_changes)?;
    let to = last.back_to?;
    Some(format!(
        "The last run was a rollback to {to}: what it took back is here again, unless the sources were mended."
    ))
}
