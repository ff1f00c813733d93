//! Commands to be copied.

use std::path::Path;

use crate::view::words::escape_text;

/// Hosts that are named one by one in a command.
const PICK_MAX: usize = 20;

/// `hostsync `, with the option that names the configuration where there has to be one.
pub fn command_start(config: Option<&Path>) -> String {
    let config = config.map(|path| path.display().to_string());
    format!("hostsync {}", config_option(config.as_deref()))
}

fn config_option(config: Option<&str>) -> String {
    config.map_or(String::new(), |path| {
        format!("--config {} ", shell_word(path))
    })
}

/// The command that does just these hosts; those that it does by itself where none are named.
pub(super) fn command(verb: &str, names: &[&str], config: Option<&str>) -> String {
    // A name is a pattern there, so what would be special in one must not be in it either.
    let harmless = |name: &&str| {
        !name.starts_with('-')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-:%@".contains(&byte))
    };
    let picked = if names.len() > PICK_MAX || !names.iter().all(harmless) {
        &["PATTERN"]
    } else {
        names
    };
    let limit = picked.iter().flat_map(|name| [" --limit ", name]);
    let limit: String = limit.collect();
    let config = config_option(config);
    format!("hostsync {config}{verb}{limit}")
}

/// A path or pattern as one word of a shell; `PATH` for one that could not be shown on a line.
pub fn shell_word(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    if escape_text(path) != path {
        "PATH".to_owned()
    } else if !path.is_empty() && path.bytes().all(is_plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}
