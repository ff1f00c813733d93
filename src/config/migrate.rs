//! From the old files to a `hostsync.toml` that says the same.
//!
//! What is written comes from the values as they stand in the old files, so that digests and plans stay
//! what they are. The text is read back and compared before anybody gets to see it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use super::digest::config_digest;
use super::document::{Entry, Node, RawConfig, RawHost, Value};
use super::error::{ConfigError, Remark};
use super::inventory::UNUSED_FILE;
use super::keys;
use super::load::{NATIVE_FILE, is_native, load_with, read_and_check};
use super::places::{Environment, folder_of};
use super::text::ReadFile;
use super::types::{Config, Exact, Host, Mapping, Passkey, Settings, SymlinkPolicy};
use crate::model::printable;

/// Lists are broken into lines that are no longer than this, if their words allow it.
const LINE_CHARS: usize = 100;

/// The old files cannot be turned into a `hostsync.toml`. Nothing was written.
#[derive(Debug, Error, Diagnostic)]
pub enum MigrateError {
    /// The old files cannot be read or are wrong.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// The file that was named has the native form.
    #[error("{} is in the new form already", .path.display())]
    #[diagnostic(
        code(hostsync::config::already_native),
        help("name the old file: `--config config.ini`")
    )]
    AlreadyNative {
        /// The file.
        path: PathBuf,
    },
    /// Nobody knows what some hosts get, and the native form has no words for that.
    #[error("the mappings of {} not known: {}", count(.problems.len()), .problems.join("; "))]
    #[diagnostic(
        code(hostsync::config::unknown_mappings),
        help("do that first, or take the host out of the list of hosts")
    )]
    UnknownMappings {
        /// Each host with what is wrong and the cure.
        problems: Vec<String>,
    },
    /// There is a `hostsync.toml` already.
    #[error("{} is there already, and nothing is overwritten", .path.display())]
    #[diagnostic(
        code(hostsync::config::exists),
        help(
            "to write it anew, move it away first; `--config` takes it under any name that ends in \
             `.toml`"
        )
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}: {reason}", .path.display())]
    #[diagnostic(
        code(hostsync::config::unwritable),
        help("check who may write to the folder, and whether there is space left")
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// What would be written does not say the same as the old files.
    #[error("internal error: the new form would not say the same as the old files: {what}")]
    #[diagnostic(
        code(hostsync::config::migration_differs),
        help("nothing was written; keep the old files, which go on to work, and report this")
    )]
    Differs {
        /// What is not the same.
        what: String,
    },
}

fn count(hosts: usize) -> String {
    match hosts {
        1 => "1 host are".to_owned(),
        hosts => format!("{hosts} hosts are"),
    }
}

/// A `hostsync.toml` that says what the old files say. It may hold passkeys and has no `Debug` form.
pub struct Migration {
    /// Where it belongs: beside the main file, since relative paths start there.
    pub path: PathBuf,
    /// What both forms say.
    pub config: Config,
    /// What people may want to know about the old files.
    pub remarks: Vec<Remark>,
    text: String,
}

impl Migration {
    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a password stands in it.
    pub fn holds_passkeys(&self) -> bool {
        let is_literal = |host: &Host| matches!(host.auth.passkey, Some(Passkey::Literal(_)));
        self.config.hosts.iter().any(is_literal)
    }

    /// Writes the file, as [`write_new`] does it.
    ///
    /// # Errors
    /// When there is such a file already, or it cannot be written.
    pub fn write(&self) -> Result<(), MigrateError> {
        write_new(&self.path, &self.text)
    }
}

/// Writes a new configuration: it is there whole or not at all, and only its owner may read it.
///
/// # Errors
/// When there is such a file already, or it cannot be written.
pub fn write_new(path: &Path, text: &str) -> Result<(), MigrateError> {
    let folder = folder_of(path);
    let write = || -> io::Result<()> {
        // Temporary files are made with mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        // Some network file systems cannot sync a folder; the file is there all the same.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    };
    write().map_err(|error| {
        let path = path.to_owned();
        if error.kind() == io::ErrorKind::AlreadyExists {
            MigrateError::Exists { path }
        } else {
            MigrateError::Unwritable {
                path,
                reason: error.to_string(),
            }
        }
    })
}

/// Makes a `hostsync.toml` of the old files whose main file is `main`. Writes nothing.
///
/// # Errors
/// When the old files cannot be read or have errors, when what a host gets is not known, or when the
/// result would not say the same.
pub fn migrate(
    main: &Path,
    environment: &Environment,
    read: ReadFile<'_>,
) -> Result<Migration, MigrateError> {
    if is_native(main) {
        return Err(MigrateError::AlreadyNative {
            path: main.to_owned(),
        });
    }
    let (loaded, raw) = read_and_check(main, environment, read, None)?;
    let config = loaded.config;
    let problems: Vec<String> = raw
        .hosts
        .iter()
        .zip(&config.hosts)
        .filter_map(|(raw, host)| {
            let problem = raw.mappings.as_ref().err()?;
            Some(format!("{}: {problem}", host.id))
        })
        .collect();
    if !problems.is_empty() {
        return Err(MigrateError::UnknownMappings { problems });
    }
    let path = folder_of(&config.path).join(NATIVE_FILE);
    let text = render(&raw, &config, &loaded.remarks);
    let migration = Migration {
        path,
        config,
        remarks: loaded.remarks,
        text,
    };
    migration.verify(environment)?;
    Ok(migration)
}

impl Migration {
    /// Reads the text as it will be read, and compares.
    fn verify(&self, environment: &Environment) -> Result<(), MigrateError> {
        let differs = |what: String| MigrateError::Differs { what };
        let again = load_with(&self.path, environment, &|_| {
            Ok(self.text.clone().into_bytes())
        })
        .map_err(|error| differs(error.to_string()))?
        .config;
        if again.settings != self.config.settings {
            return Err(differs("the settings".to_owned()));
        }
        if again.hosts.len() != self.config.hosts.len() {
            return Err(differs("the number of hosts".to_owned()));
        }
        for (old, new) in self.config.hosts.iter().zip(&again.hosts) {
            if old != new {
                return Err(differs(format!("host `{}`", old.id)));
            }
        }
        if config_digest(&again) != config_digest(&self.config) {
            return Err(differs("the digest".to_owned()));
        }
        Ok(())
    }
}

fn render(raw: &RawConfig, config: &Config, remarks: &[Remark]) -> String {
    let mut text = head(config, remarks);
    let settings: Vec<String> = raw
        .settings
        .table
        .entries
        .iter()
        .filter_map(|entry| setting(entry, &config.settings))
        .collect();
    table(&mut text, "[settings]", &settings);
    let folder = folder_of_hosts(raw);
    for (raw, host) in raw.hosts.iter().zip(&config.hosts) {
        table(&mut text, "[[host]]", &host_lines(raw, host, &folder));
    }
    for (mapping, targets) in merged(raw, config) {
        table(
            &mut text,
            "[[mapping]]",
            &mapping_lines(&mapping, &targets, config),
        );
    }
    text
}

/// The comment at the beginning.
fn head(config: &Config, remarks: &[Remark]) -> String {
    let main = config.path.file_name().unwrap_or_default();
    let main = printable(&main.to_string_lossy());
    let mut text =
        format!("# Written by `hostsync migrate` from {main} and the files that it names.\n");
    let base = folder_of(&config.path);
    for remark in remarks.iter().filter(|remark| remark.text == UNUSED_FILE) {
        let path = remark.path.strip_prefix(base).unwrap_or(&remark.path);
        let path = printable(&path.to_string_lossy());
        let _ = writeln!(text, "# Not in here: {path}, since {UNUSED_FILE}.");
    }
    text
}

/// A table of which each line is complete.
fn table(text: &mut String, header: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = write!(text, "\n{header}\n");
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
}

/// The line of a setting; `None` for one that says nothing, or nothing any more.
fn setting(entry: &Entry, settings: &Settings) -> Option<String> {
    let key = entry.key.as_str();
    if keys::OLD_SETTINGS.contains(&key) {
        return None;
    }
    let Value::Text(text) = &entry.value.value else {
        return None;
    };
    if text.is_empty() {
        return None;
    }
    let words = match key {
        "diff_hide" => Some(&settings.diff_hide[..]),
        "diff_show" => Some(&settings.diff_show[..]),
        "ciphers" => Some(settings.ciphers.as_deref().unwrap_or_default()),
        _ => None,
    };
    if let Some(words) = words {
        return (!words.is_empty()).then(|| list(key, words));
    }
    let value = match key {
        "autosync" => settings.autosync.to_string(),
        "compress" => settings.compress.to_string(),
        _ if is_number(text) && !key.ends_with("_path") => text.clone(),
        _ => quoted(text),
    };
    Some(format!("{key} = {value}"))
}

/// Whether TOML reads this as a number and gives back the same text.
fn is_number(text: &str) -> bool {
    text.parse::<i64>()
        .is_ok_and(|number| number.to_string() == text)
}

/// What the paths in the list of hosts are relative to, as it is written: the path of the list without
/// its last component.
fn folder_of_hosts(raw: &RawConfig) -> PathBuf {
    let written = raw
        .settings
        .table
        .text("connection_info_path")
        .unwrap_or_default();
    Path::new(written)
        .parent()
        .map_or_else(PathBuf::new, Path::to_owned)
}

fn host_lines(raw: &RawHost, host: &Host, folder: &Path) -> Vec<String> {
    let entries = &raw.host.table.entries;
    entries
        .iter()
        .filter_map(|entry| {
            let key = entry.key.as_str();
            Some(match &entry.value.value {
                Value::Text(text) if key == "identity_file" => {
                    format!("{key} = {}", quoted(&moved(text, folder)))
                }
                Value::Text(text) => format!("{key} = {}", quoted(text)),
                Value::Number(_) => format!("{key} = {}", host.port),
                Value::List(_) if host.groups.is_empty() => return None,
                Value::List(_) => list(key, &host.groups),
                Value::Null | Value::Bool(_) | Value::Date | Value::Table(_) => return None,
            })
        })
        .collect()
}

/// A path that is relative to `folder`, as it is to be written in the folder of the main file.
fn moved(text: &str, folder: &Path) -> String {
    let starts_at_home = text == "~" || text.starts_with("~/");
    if starts_at_home || folder.as_os_str().is_empty() {
        return text.to_owned();
    }
    folder.join(text).to_string_lossy().into_owned()
}

/// A mapping as it is written; those that say the same are equal.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Written<'a> {
    src: &'a str,
    /// As it stands in the file, without what a `/` at its end means.
    dest: &'a str,
    exact: Exact,
    exclude: &'a [String],
    symlinks: SymlinkPolicy,
    trust_ancestors: bool,
}

/// The mappings of a host as they are written.
fn written<'a>(raw: &'a RawHost, host: &'a Host) -> Vec<Written<'a>> {
    let nodes = raw.mappings.as_ref().map_or(&[][..], |raw| &raw.nodes);
    let with_dest = |(mapping, node): (&'a Mapping, &'a Node)| {
        let Value::Table(table) = &node.value else {
            return None;
        };
        Some(Written {
            src: &mapping.src_as_written,
            dest: table.text("dest")?,
            exact: mapping.exact,
            exclude: mapping.exclude.patterns(),
            symlinks: mapping.symlinks,
            trust_ancestors: mapping.trust_ancestors,
        })
    };
    host.mappings
        .iter()
        .zip(nodes)
        .filter_map(with_dest)
        .collect()
}

/// All mappings with the indexes of their hosts. What several hosts have is there once, unless that
/// would change the order of the mappings of a host, by which its backups are numbered.
fn merged<'a>(raw: &'a RawConfig, config: &'a Config) -> Vec<(Written<'a>, Vec<usize>)> {
    let mut mappings: Vec<Written<'a>> = Vec::new();
    let mut numbers: HashMap<Written<'a>, usize> = HashMap::new();
    let mut of_hosts: Vec<Vec<usize>> = Vec::new();
    for (raw, host) in raw.hosts.iter().zip(&config.hosts) {
        let mut of_host = Vec::new();
        for mapping in written(raw, host) {
            let number = *numbers.entry(mapping.clone()).or_insert(mappings.len());
            if number == mappings.len() {
                mappings.push(mapping);
            }
            of_host.push(number);
        }
        of_hosts.push(of_host);
    }
    in_one_order(&of_hosts)
        .into_iter()
        .map(|(number, hosts)| (mappings[number].clone(), hosts))
        .collect()
}

/// One list of numbers, each with the indexes of the lists that have it, in which every list keeps its
/// order. A number is there once where that is possible. No list has a number twice.
fn in_one_order(lists: &[Vec<usize>]) -> Vec<(usize, Vec<usize>)> {
    let numbers = lists.iter().flatten().max().map_or(0, |most| most + 1);
    // How many lists still have a number, and how many of them have it next.
    let mut left = vec![0; numbers];
    let mut next = vec![0; numbers];
    for number in lists.iter().flatten() {
        left[*number] += 1;
    }
    for number in lists.iter().filter_map(|list| list.first()) {
        next[*number] += 1;
    }
    let mut taken = vec![0; lists.len()];
    let mut order = Vec::new();
    loop {
        let heads: Vec<Option<usize>> = lists
            .iter()
            .zip(&taken)
            .map(|(list, taken)| list.get(*taken).copied())
            .collect();
        // One that is next wherever it is left; where all wait for each other, the first.
        let is_ready = |number: &usize| next[*number] == left[*number];
        let mut candidates = heads.iter().flatten().copied();
        let Some(chosen) = candidates
            .clone()
            .find(is_ready)
            .or_else(|| candidates.next())
        else {
            return order;
        };
        let having: Vec<usize> = (0..lists.len())
            .filter(|list| heads[*list] == Some(chosen))
            .collect();
        left[chosen] -= having.len();
        next[chosen] = 0;
        for list in &having {
            taken[*list] += 1;
            if let Some(number) = lists[*list].get(taken[*list]) {
                next[*number] += 1;
            }
        }
        order.push((chosen, having));
    }
}

fn mapping_lines(mapping: &Written<'_>, targets: &[usize], config: &Config) -> Vec<String> {
    let mut lines = vec![
        format!("src = {}", quoted(mapping.src)),
        format!("dest = {}", quoted(mapping.dest)),
    ];
    match mapping.exact {
        Exact::No => {}
        Exact::Orphans => lines.push("exact = true".to_owned()),
        Exact::Mirror => lines.push("exact = \"mirror\"".to_owned()),
    }
    if !mapping.exclude.is_empty() {
        lines.push(list("exclude", mapping.exclude));
    }
    match mapping.symlinks {
        SymlinkPolicy::Preserve => {}
        SymlinkPolicy::Follow => lines.push("symlinks = \"follow\"".to_owned()),
        SymlinkPolicy::Skip => lines.push("symlinks = \"skip\"".to_owned()),
    }
    if mapping.trust_ancestors {
        lines.push("trust_ancestors = true".to_owned());
    }
    // A single host is named, since one that is added later is not meant.
    if targets.len() < config.hosts.len() || targets.len() == 1 {
        let names: Vec<&str> = targets
            .iter()
            .map(|index| config.hosts[*index].id.as_str())
            .collect();
        lines.push(list("hosts", &names));
    }
    lines
}

/// The line of a list of texts, or its lines.
fn list(key: &str, words: &[impl AsRef<str>]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word.as_ref())).collect();
    let line = format!("{key} = [{}]", words.join(", "));
    if line.chars().count() <= LINE_CHARS {
        return line;
    }
    let mut text = format!("{key} = [");
    let mut room = 0;
    for word in words {
        let length = word.chars().count() + ", ".len();
        if length > room {
            text.push_str("\n   ");
            room = LINE_CHARS - "   ".len();
        }
        let _ = write!(text, " {word},");
        room = room.saturating_sub(length);
    }
    text.push_str("\n]");
    text
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_share_what_they_have_in_the_same_order() {
        let order = in_one_order(&[vec![0, 1, 2], vec![2], vec![3, 0, 2], vec![]]);
        assert_eq!(
            order,
            [
                (3, vec![2]),
                (0, vec![0, 2]),
                (1, vec![0]),
                (2, vec![0, 1, 2])
            ]
        );
    }

    #[test]
    fn lists_of_opposite_orders_keep_them() {
        let order = in_one_order(&[vec![0, 1], vec![1, 0]]);
        assert_eq!(order, [(0, vec![0]), (1, vec![0, 1]), (0, vec![1])]);
    }

    #[test]
    fn text_that_looks_like_another_kind_of_value_stays_text() {
        for text in ["", "007", "+1", "1.5", "true", "inf", "[]", "1979-05-27"] {
            assert!(!is_number(text), "{text}");
            assert!(quoted(text).starts_with(['"', '\'']), "{text}");
        }
        assert!(is_number("-1") && is_number("0"));
    }

    #[test]
    fn paths_are_rewritten_only_where_the_folder_is_another() {
        assert_eq!(moved("./keys/a", Path::new("")), "./keys/a");
        assert_eq!(moved("keys/a", Path::new("../s")), "../s/keys/a");
        assert_eq!(moved("/keys/a", Path::new("s")), "/keys/a");
        assert_eq!(moved("~/a", Path::new("s")), "~/a");
        assert_eq!(moved("~a", Path::new("~/s")), "~/s/~a");
    }
}
