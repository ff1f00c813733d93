//! Sections that a plan and a status have in common.

use super::page::Page;
use super::style::{PLAIN, QUIET};
use super::table::Row;
use crate::view::review::entries::Drifted;
use crate::view::review::errors::{HostErrors, Problems};
use crate::view::review::hosts::Hosts;
use crate::view::review::limits::{Limits, split, split_by_two_or_more};
use crate::view::review::section::Section;

/// What somebody else changed on the hosts.
pub(super) fn drift(page: &mut Page, section: &Section<Drifted<'_>>, limits: Limits) {
    if section.is_empty() {
        return;
    }
    page.heading(section.title);
    for Drifted { hosts, entries } in &section.items {
        page.paragraph(&hosts.in_words(), 2, PLAIN);
        let (shown, rest) = split(entries, limits.rows);
        let rows: Vec<Row<'_>> = shown
            .iter()
            .map(|entry| Row::plain(&entry.name, &entry.what))
            .collect();
        page.table(&rows, 4);
        if !rest.is_empty() {
            page.more(&format!("{} more", rest.len()), 4);
        }
    }
}

/// Hosts that nothing is known of, of these at most so many lines.
pub(super) fn errors(page: &mut Page, section: &Section<HostErrors<'_>>, most: usize) {
    if section.is_empty() {
        return;
    }
    page.heading(section.title);
    let (shown, rest) = split_by_two_or_more(&section.items, most);
    for HostErrors { hosts, how, error } in shown {
        page.paragraph(&format!("{} {how}: {error}", hosts.in_words()), 2, PLAIN);
    }
    if !rest.is_empty() {
        let others: Hosts<'_> = rest.iter().flat_map(|errors| errors.hosts.iter()).collect();
        let text = format!("… and {}; --full shows why", others.folded());
        page.paragraph(&text, 2, QUIET);
    }
}

/// Entries that nothing can be done about.
pub(super) fn problems(page: &mut Page, section: &Section<Problems<'_>>) {
    if section.is_empty() {
        return;
    }
    page.heading(section.title);
    for Problems { hosts, entries } in &section.items {
        page.paragraph(&hosts.in_words(), 2, PLAIN);
        for entry in entries {
            page.paragraph(entry, 4, PLAIN);
        }
    }
}

/// What to know about the files of the configuration, of these at most so many lines.
pub(super) fn remarks(page: &mut Page, section: &Section<String>, most: usize) {
    if section.is_empty() {
        return;
    }
    page.heading(section.title);
    let (shown, rest) = split_by_two_or_more(&section.items, most);
    for remark in shown {
        page.paragraph(remark, 2, PLAIN);
    }
    if !rest.is_empty() {
        page.more(&format!("{} more", rest.len()), 2);
    }
}
