//! What names, addresses and destinations may look like.

use std::net::Ipv4Addr;

use crate::model::HostId;

/// Bytes that a file of a host in the state needs beside the host's name (`.json` and the mark of a
/// temporary file), out of the 255 that file systems allow.
const LONGEST_NAME_BYTES: usize = 255 - 32;

/// Whether this has a `user:password@` before its first slash, or where a URL has it.
pub(super) fn holds_login(text: &str) -> bool {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let first = text.split('/').next().unwrap_or(text);
    first
        .rsplit_once('@')
        .is_some_and(|(login, _)| login.contains(':'))
}

/// Why a host cannot have this name; `None` when it can.
pub(super) fn name_error(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.contains('/') {
        Some("it has a `/`")
    } else if name.starts_with(['-', '.']) {
        Some("it starts with `-` or `.`")
    } else if name.chars().any(char::is_control) {
        Some("it has a control character")
    } else if name.trim() != name {
        Some("it starts or ends with a space")
    } else if HostId::new(name).as_file_name().len() > LONGEST_NAME_BYTES {
        Some("it is too long")
    } else {
        None
    }
}

/// Why this cannot be connected to; `None` when it can be tried.
pub(super) fn address_error(address: &str) -> Option<&'static str> {
    if address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("it has a space or a control character")
    } else if address.contains(['[', ']']) {
        Some("an IPv6 address is written without brackets")
    } else if address.contains('@') {
        Some("a login name belongs into `user`, a password into `passkey`")
    } else if address.matches(':').count() == 1 {
        Some("the port belongs into `port`")
    } else if address
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
        && address.parse::<Ipv4Addr>().is_err()
    {
        Some("an IPv4 address is four numbers from 0 to 255, without zeros before them")
    } else {
        None
    }
}

/// Why files cannot go there, and what to do about it; `None` when they can.
pub(super) fn dest_error(dest: &str) -> Option<(&'static str, &'static str)> {
    if dest.contains(['\0', '\n', '\r']) {
        Some((
            "it holds a line break or a NUL",
            "write the path without it",
        ))
    } else if dest.split('/').any(|part| part == "..") {
        Some(("it has a `..`", "write the path that is meant"))
    } else if dest.starts_with('~') && dest != "~" && !dest.starts_with("~/") {
        Some((
            "it starts in the home folder of somebody else",
            "write the whole path, or `./~...` for a name that starts like that",
        ))
    } else {
        None
    }
}
