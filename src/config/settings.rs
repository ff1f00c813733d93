//! The settings: every key, its default and what it may be.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::document::{Findings, Node, RawTable, Value};
use super::error::IssueCode;
use super::fields::Fields;
use super::inventory::InventoryPaths;
use super::keys;
use super::mask::named;
use super::places::{Places, no_home};
use super::span::Span;
use super::types::{CIPHERS, MaxDelete, Modes, Settings};
use super::values::dest_error;
use super::{enclosure, privacy};
use crate::model::RemotePath;

/// More hosts at once than this is a slip of the finger.
const MOST_CONNECTIONS: usize = 1000;

/// More kept versions than this would be forever.
const MOST_BACKUPS: u32 = 10_000;

/// Longest time-out: a day.
const LONGEST_TIMEOUT: Duration = Duration::from_hours(24);

/// Longest time between two looks of `watch`: 30 days.
const LONGEST_INTERVAL: Duration = Duration::from_hours(30 * 24);

/// Largest file whose text a diff shows, unless the settings say otherwise.
const DIFF_LIMIT: ByteSize = ByteSize::kib(100);

/// No diff is read that is larger.
const LARGEST_DIFF_LIMIT: ByteSize = ByteSize::mib(4);

/// Where the settings say that the hosts and their mapper files are.
pub(super) fn inventory_paths(
    raw: &RawTable,
    places: &Places<'_>,
    findings: &mut Findings,
) -> Option<InventoryPaths> {
    let mut reader = Reader::new(raw, places, findings);
    let hosts = reader.enclosed_path("connection_info_path", "connection_info.json");
    let mapper_folder = reader.enclosed_path("address_mapper_path", "path_mapper/");
    Some(InventoryPaths {
        hosts: hosts?,
        mapper_folder: mapper_folder?,
    })
}

/// Checks all settings. Where one is wrong, its default stands in for it.
pub(super) fn check(raw: &RawTable, places: &Places<'_>, findings: &mut Findings) -> Settings {
    let mut reader = Reader::new(raw, places, findings);
    reader
        .fields
        .refuse_unknown(&keys::SETTINGS, reader.findings);
    Settings {
        number_of_connections: reader.number("number_of_connections", 8, 1..=MOST_CONNECTIONS),
        log_path: reader.our_path("log_path", "logs/"),
        state_path: reader.our_path("state_path", "state/"),
        known_hosts_path: reader.our_path("known_hosts_path", "~/.ssh/known_hosts"),
        autosync: reader.autosync(),
        sync_interval: reader.duration(
            "synctime",
            Duration::from_mins(1),
            Duration::from_mins(1),
            LONGEST_INTERVAL,
        ),
        connect_timeout: reader.timeout("connect_timeout", 10),
        login_timeout: reader.timeout("login_timeout", 20),
        stall_timeout: reader.stall_timeout(),
        staging_path: reader.staging_path(),
        backups: reader.number("backups", 5, 0..=MOST_BACKUPS),
        max_delete: reader.max_delete(),
        modes: reader.modes(),
        diff_hide: reader.globs("diff_hide"),
        diff_show: match places.enclosure {
            None => reader.globs("diff_show"),
            // A stranger shows nothing that is hidden without it.
            Some(_) => Vec::new(),
        },
        diff_limit_bytes: reader.diff_limit(),
        ciphers: reader.ciphers(),
        compress: reader.flag("compress"),
    }
}

/// Reads settings one by one.
struct Reader<'a> {
    fields: Fields<'a>,
    places: &'a Places<'a>,
    findings: &'a mut Findings,
}

impl<'a> Reader<'a> {
    fn new(raw: &'a RawTable, places: &'a Places<'a>, findings: &'a mut Findings) -> Self {
        Self {
            fields: Fields {
                document: &raw.document,
                table: &raw.table,
            },
            places,
            findings,
        }
    }

    /// The text of a key; `None` when it is not there or says nothing.
    fn text(&mut self, key: &str) -> Option<(String, &'a Node)> {
        let node = self.fields.get(key)?;
        let text = match &node.value {
            Value::Null => return None,
            Value::Text(text) | Value::Number(text) => text.clone(),
            Value::Bool(is_true) => is_true.to_string(),
            Value::Date | Value::List(_) | Value::Table(_) => {
                self.wrong(key, node, "a single value");
                return None;
            }
        };
        if text.contains(['\n', '\0']) {
            self.findings.issue(
                self.fields
                    .invalid(
                        node,
                        format!("`{key}` has more than one line"),
                        "all of this",
                    )
                    .help("a line that is indented belongs to the value above it"),
            );
            return None;
        }
        let fields = self.fields;
        if fields.refuse_login(key, &text, node, self.findings) {
            return None;
        }
        (!text.is_empty()).then_some((text, node))
    }

    fn wrong(&mut self, key: &str, node: &Node, expected: &str) {
        self.findings.issue(self.fields.invalid(
            node,
            format!("`{key}` should be {expected}"),
            "this is not",
        ));
    }

    fn number<N>(&mut self, key: &str, default: N, range: RangeInclusive<N>) -> N
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let Some((text, node)) = self.text(key) else {
            return default;
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.wrong(
                    key,
                    node,
                    &format!("a number from {} to {}", range.start(), range.end()),
                );
                default
            }
        }
    }

    /// A boolean as Python's `getboolean` reads it; false when it is not there.
    fn flag(&mut self, key: &str) -> bool {
        let Some((text, node)) = self.text(key) else {
            return false;
        };
        match text.to_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => true,
            "0" | "no" | "false" | "off" => false,
            _ => {
                self.wrong(key, node, "`true` or `false` (or yes, no, on, off, 1, 0)");
                false
            }
        }
    }

    fn autosync(&mut self) -> bool {
        let is_on = self.flag("autosync");
        if let Some(node) = self.fields.get("autosync").filter(|_| is_on) {
            self.findings.remark_at(
                self.fields.document,
                node.span,
                "`autosync` is on, but nothing keeps syncing yet: run `hostsync apply` when something \
                 has changed",
            );
        }
        is_on
    }

    fn timeout(&mut self, key: &str, default_seconds: u64) -> Duration {
        let second = Duration::from_secs(1);
        let default = Duration::from_secs(default_seconds);
        self.duration(key, default, second, LONGEST_TIMEOUT)
    }

    /// Hosts give signs of life once a second at most.
    fn stall_timeout(&mut self) -> Duration {
        const KEY: &str = "stall_timeout";
        let timeout = self.timeout(KEY, 60);
        if timeout < Duration::from_secs(2)
            && let Some((_, node)) = self.text(KEY)
        {
            self.wrong(
                KEY,
                node,
                "two seconds or more: a host that works says so every second",
            );
        }
        timeout
    }

    /// A duration such as `10s` or `2m`, or a number of `unit`s.
    fn duration(
        &mut self,
        key: &str,
        default: Duration,
        unit: Duration,
        most: Duration,
    ) -> Duration {
        let Some((text, node)) = self.text(key) else {
            return default;
        };
        let duration = match text.parse::<u32>() {
            Ok(number) => unit.checked_mul(number),
            Err(_) => humantime::parse_duration(&text).ok(),
        };
        match duration {
            Some(duration) if !duration.is_zero() && duration <= most => duration,
            _ => {
                let expected = format!(
                    "a duration above zero, at most {}: `90s`, `2m`, or a number that counts {}",
                    humantime::format_duration(most),
                    if unit.as_secs() == 1 {
                        "seconds"
                    } else {
                        "minutes"
                    },
                );
                self.wrong(key, node, &expected);
                default
            }
        }
    }

    /// A local path; `None` when it starts in a home folder that is not known, which is reported.
    fn path(&mut self, key: &str, default: &str) -> Option<PathBuf> {
        let written = self.text(key);
        let text = written.as_ref().map_or(default, |(text, _)| text.as_str());
        let path = self.places.absolute(text, self.places.base);
        if path.is_none() {
            let document = self.fields.document;
            self.findings.issue(match written {
                Some((_, node)) => no_home(document, node.span),
                None => document
                    .issue(
                        IssueCode::NoHome,
                        format!("`{key}` is {default}, and the home folder is not known"),
                    )
                    .help(format!("set `HOME`, or `{key}` in the configuration")),
            });
        }
        path
    }

    /// The path of something that is ours. A stranger does not say where that is.
    fn our_path(&mut self, key: &str, default: &str) -> PathBuf {
        match self.places.enclosure {
            None => self.path(key, default).unwrap_or_default(),
            Some(_) => PathBuf::new(),
        }
    }

    /// The path of a part of the configuration; `None` also when a stranger leads it out of the folder,
    /// which is reported.
    fn enclosed_path(&mut self, key: &str, default: &str) -> Option<PathBuf> {
        let path = self.path(key, default)?;
        let Some(enclosure) = self.places.enclosure else {
            return Some(path);
        };
        if enclosure.follow(&path).is_none() {
            let document = self.fields.document;
            let issue = match self.text(key) {
                Some((_, node)) => enclosure::leads_out(document, &format!("`{key}`"))
                    .label(node.span, enclosure::ELSEWHERE),
                None => enclosure::leads_out(document, default),
            };
            self.findings.issue(issue);
            return None;
        }
        Some(path)
    }

    fn staging_path(&mut self) -> Option<RemotePath> {
        let (text, node) = self.text("staging_path")?;
        if let Some((reason, help)) = dest_error(&text) {
            self.findings.issue(
                self.fields
                    .invalid(node, "`staging_path` cannot be used", reason)
                    .help(help),
            );
            return None;
        }
        Some(RemotePath::from_dest(text.as_bytes()))
    }

    fn max_delete(&mut self) -> MaxDelete {
        let default = MaxDelete { percent: 50 };
        let Some((text, node)) = self.text("max_delete") else {
            return default;
        };
        match text.strip_suffix('%').unwrap_or(&text).trim_end().parse() {
            Ok(percent) if percent <= 100 => MaxDelete { percent },
            _ => {
                self.wrong("max_delete", node, "a share from `0%` to `100%`");
                default
            }
        }
    }

    /// A size such as `100 KiB`, or a number of bytes.
    fn diff_limit(&mut self) -> u64 {
        const KEY: &str = "diff_limit";
        let Some((text, node)) = self.text(KEY) else {
            return DIFF_LIMIT.as_u64();
        };
        match text.parse::<ByteSize>() {
            Ok(size) if size > ByteSize::b(0) && size <= LARGEST_DIFF_LIMIT => size.as_u64(),
            _ => {
                let expected = "a size above zero, at most 4 MiB: `100 KiB`, `1MiB`, or a number that \
                                counts bytes";
                self.wrong(KEY, node, expected);
                DIFF_LIMIT.as_u64()
            }
        }
    }

    fn modes(&mut self) -> Modes {
        match self.text("modes") {
            None => Modes::All,
            Some((text, node)) => match text.as_str() {
                "all" => Modes::All,
                "executable" => Modes::Executable,
                _ => {
                    self.wrong("modes", node, "`all` or `executable`");
                    Modes::All
                }
            },
        }
    }

    /// A list, with the place of each element: of its own kind where the form has lists, else separated
    /// by commas or lines.
    fn words(&mut self, key: &str) -> Vec<(String, Span)> {
        let Some(node) = self.fields.get(key) else {
            return Vec::new();
        };
        match &node.value {
            Value::Null => Vec::new(),
            Value::Text(text) => text
                .split([',', '\n'])
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(|word| (word.to_owned(), place_of(word, text, node.span)))
                .collect(),
            Value::List(elements) => {
                let mut words = Vec::new();
                for element in elements {
                    match &element.value {
                        Value::Text(word) => words.push((word.clone(), element.span)),
                        _ => self.wrong(key, element, "a list of texts"),
                    }
                }
                words
            }
            _ => {
                self.wrong(key, node, "a list");
                Vec::new()
            }
        }
    }

    fn ciphers(&mut self) -> Option<Vec<String>> {
        let ciphers = self.words("ciphers");
        for (cipher, span) in &ciphers {
            if !CIPHERS.contains(&cipher.as_str()) {
                let message = format!("unknown cipher{}", named(cipher));
                self.findings.issue(
                    self.fields
                        .document
                        .issue(IssueCode::InvalidValue, message)
                        .label(*span, "this one")
                        .help(format!("known ciphers: {}", CIPHERS.join(", "))),
                );
            }
        }
        let ciphers: Vec<String> = ciphers.into_iter().map(|(cipher, _)| cipher).collect();
        Some(ciphers).filter(|ciphers| !ciphers.is_empty())
    }

    fn globs(&mut self, key: &str) -> Vec<String> {
        let globs = self.words(key);
        for (glob, span) in &globs {
            if let Err(error) = privacy::check(glob) {
                self.findings.issue(
                    self.fields
                        .document
                        .issue(
                            IssueCode::InvalidGlob,
                            format!("what `{key}` holds is not a glob"),
                        )
                        .label(*span, error.kind().to_string()),
                );
            }
        }
        globs.into_iter().map(|(glob, _)| glob).collect()
    }
}

/// The place of a word, which is a part of a text at `span`: all of the text where that is not written as it
/// is, but with escapes or over several lines.
fn place_of(word: &str, text: &str, span: Span) -> Span {
    let quotes = (span.end - span.start).checked_sub(text.len());
    let (Some(quotes @ (0 | 2)), false) = (quotes, text.contains('\n')) else {
        return span;
    };
    let before = word.as_ptr().addr() - text.as_ptr().addr();
    let start = span.start + quotes / 2 + before;
    Span {
        start,
        end: start + word.len(),
    }
}
