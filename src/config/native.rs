//! `hostsync.toml`: settings, hosts and mappings in one file.
//!
//! It becomes the same [`RawConfig`] as the old files, in which every host has its own list of
//! mappings: the names in `hosts` and `groups` are resolved here.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::access::remark_on_passkeys;
use super::check::MAPPING_KEYS;
use super::document::{
    Document, Entry, FileName, Findings, Node, RawConfig, RawHost, RawMappings, RawTable, Table,
    Value,
};
use super::error::IssueCode;
use super::fields::Fields;
use super::inventory::PLAIN_HOST_KEYS;
use super::span::Span;
use super::{mask, settings};

/// What the file holds.
const TABLES: [&str; 3] = ["settings", "host", "mapping"];

/// Settings that say where the old files are.
pub(super) const OLD_SETTINGS: [&str; 2] = ["connection_info_path", "address_mapper_path"];

/// Keys of a mapping that say which hosts get it.
const TARGET_KEYS: [&str; 2] = ["hosts", "groups"];

/// What the library says of a key or a table that is there already.
const DUPLICATE: &str = "duplicate key";

/// Reads the text of `file`, which has no byte order mark. `None` when it is not TOML, which is
/// reported.
pub(super) fn read(file: &FileName, text: &str, findings: &mut Findings) -> Option<RawConfig> {
    let (root, errors) = DeTable::parse_recoverable(text);
    // What the parser gave up is not in `root`, and would not be hidden.
    let hidden = if errors.is_empty() {
        hide_in_parsed(text, root.get_ref())
    } else {
        hide_in_broken(text)
    };
    let document = Document::new(file, &hidden, 1);
    let mut reader = Reader { document, findings };
    if !reader.report(text, &errors) {
        return None;
    }
    let root = to_table(root.into_inner(), Span { start: 0, end: 0 });
    Some(reader.config(root))
}

/// Makes the raw configuration and keeps what was found on the way.
struct Reader<'a> {
    document: Arc<Document>,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    /// Reports what the parser found; false when nothing can be made of the rest.
    fn report(&mut self, text: &str, errors: &[toml::de::Error]) -> bool {
        let mut is_usable = true;
        // What follows an error in its line is mostly its consequence.
        let mut lines = BTreeSet::new();
        for error in errors {
            let span = place_in_line(text, error.span().unwrap_or_default());
            let is_duplicate = error.message() == DUPLICATE;
            is_usable &= is_duplicate;
            if !lines.insert(self.document.line_of(span)) {
                continue;
            }
            self.findings.issue(if is_duplicate {
                self.document
                    .issue(IssueCode::DuplicateKey, "a key or a table is there twice")
                    .label(span, "the second is here")
                    .help("remove one of them")
            } else {
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                self.document
                    .issue(IssueCode::Syntax, format!("not TOML: {message}"))
                    .label(span, "here")
            });
        }
        is_usable
    }

    fn config(&mut self, mut root: Table) -> RawConfig {
        let settings = self.settings(take(&mut root, "settings"));
        let written_hosts = take(&mut root, "host");
        let written_mappings = take(&mut root, "mapping");
        // A misspelt table may be the one that holds the hosts which mappings name.
        let mut are_hosts_known = root.entries.is_empty();
        self.refuse_unknown_tables(&root);
        let (hosts, are_tables) = self.tables(written_hosts, "host");
        are_hosts_known &= are_tables;
        let (mappings, _) = self.tables(written_mappings, "mapping");

        let mut of_hosts: Vec<Vec<Node>> = hosts.iter().map(|_| Vec::new()).collect();
        let mut unassigned = Vec::new();
        for mut table in mappings {
            let known = [&MAPPING_KEYS[..], &TARGET_KEYS].concat();
            self.drop_unknown(&mut table, &known);
            let targets = self.targets(&table, &hosts, are_hosts_known);
            table
                .entries
                .retain(|entry| !TARGET_KEYS.contains(&entry.key.as_str()));
            let node = Node {
                span: table.span,
                value: Value::Table(table),
            };
            for target in &targets {
                of_hosts[*target].push(node.clone());
            }
            if targets.is_empty() {
                unassigned.push(node);
            }
        }
        let hosts: Vec<_> = hosts
            .into_iter()
            .zip(of_hosts)
            .map(|(table, nodes)| RawHost {
                host: self.raw_table(table),
                mappings: Ok(self.raw_mappings(nodes)),
            })
            .collect();
        remark_on_passkeys(&self.document.path, &hosts, self.findings);
        RawConfig {
            path: self.document.path.clone(),
            settings,
            hosts,
            unassigned: Some(self.raw_mappings(unassigned)),
        }
    }

    fn raw_table(&self, table: Table) -> RawTable {
        RawTable {
            document: Arc::clone(&self.document),
            table,
        }
    }

    fn raw_mappings(&self, nodes: Vec<Node>) -> RawMappings {
        RawMappings {
            document: Arc::clone(&self.document),
            nodes,
        }
    }

    fn settings(&mut self, entry: Option<Entry>) -> RawTable {
        let mut table = Table {
            entries: Vec::new(),
            span: Span { start: 0, end: 0 },
        };
        match entry.map(|entry| (entry.key_span, entry.value.value)) {
            None => {}
            Some((_, Value::Table(written))) => table = written,
            Some((span, other)) => self.wrong_table(span, &other, "settings", "[settings]"),
        }
        for key in OLD_SETTINGS {
            if let Some(entry) = take(&mut table, key) {
                self.findings.issue(
                    self.document
                        .issue(
                            IssueCode::UnknownKey,
                            format!("`{key}` is not for this file"),
                        )
                        .label(entry.key_span, "nothing reads this")
                        .help("remove it: hosts and mappings are in `[[host]]` and `[[mapping]]`"),
                );
            }
        }
        self.drop_unknown(&mut table, &settings_keys());
        self.raw_table(table)
    }

    fn wrong_table(&mut self, span: Span, found: &Value, key: &str, header: &str) {
        self.findings.issue(
            self.document
                .issue(
                    IssueCode::WrongType,
                    format!("`{key}` should be written as `{header}`"),
                )
                .label(span, format!("found {}", found.kind()))
                .help(format!("begin it with the line `{header}`")),
        );
    }

    /// The tables of a list of tables, and whether it was one.
    fn tables(&mut self, entry: Option<Entry>, key: &str) -> (Vec<Table>, bool) {
        let Some(entry) = entry else {
            return (Vec::new(), true);
        };
        let header = format!("[[{key}]]");
        let Value::List(nodes) = entry.value.value else {
            self.wrong_table(entry.key_span, &entry.value.value, key, &header);
            return (Vec::new(), false);
        };
        let mut tables = Vec::new();
        let mut are_tables = true;
        for node in nodes {
            match node.value {
                Value::Table(table) => tables.push(table),
                other => {
                    are_tables = false;
                    self.wrong_table(node.span.first_byte(), &other, key, &header);
                }
            }
        }
        (tables, are_tables)
    }

    fn refuse_unknown_tables(&mut self, root: &Table) {
        for entry in &root.entries {
            let key = &entry.key;
            let is_table = matches!(entry.value.value, Value::Table(_) | Value::List(_));
            let issue = if is_table {
                self.document
                    .issue(IssueCode::UnknownSection, format!("unknown table `{key}`"))
            } else {
                self.document
                    .issue(IssueCode::UnknownKey, format!("unknown key `{key}`"))
            };
            let issue = issue.label(entry.key_span, "nothing reads this");
            self.findings.issue(if settings_keys().contains(&&**key) {
                issue.help("settings stand below the line `[settings]`")
            } else {
                issue.suggest(key, &TABLES)
            });
        }
    }

    /// Reports the keys that are not known, and takes them out so that nobody reports them again.
    fn drop_unknown(&mut self, table: &mut Table, known: &[&str]) {
        let fields = Fields {
            document: &self.document,
            table,
        };
        fields.refuse_unknown(known, self.findings);
        table
            .entries
            .retain(|entry| known.contains(&entry.key.as_str()));
    }

    /// The indexes of the hosts that get a mapping.
    fn targets(
        &mut self,
        table: &Table,
        hosts: &[Table],
        are_hosts_known: bool,
    ) -> BTreeSet<usize> {
        if TARGET_KEYS.iter().all(|key| table.get(key).is_none()) {
            return (0..hosts.len()).collect();
        }
        let fields = Fields {
            document: &self.document,
            table,
        };
        let mut targets = BTreeSet::new();
        for (key, what, code, names_of, pick) in [
            (
                "hosts",
                "host",
                IssueCode::UnknownHost,
                names as fn(&Table) -> Vec<&str>,
                hosts_of_name as fn(&[Table], &str) -> Vec<usize>,
            ),
            (
                "groups",
                "group",
                IssueCode::UnknownGroup,
                groups,
                hosts_of_group,
            ),
        ] {
            if let Some(node) = fields.get(key)
                && matches!(&node.value, Value::List(elements) if elements.is_empty())
            {
                // Whether nobody or everybody is meant is not for us to guess.
                self.findings.issue(
                    fields
                        .invalid(node, format!("`{key}` is empty"), "names nobody")
                        .help("leave out both `hosts` and `groups` for a mapping of all hosts"),
                );
            }
            for (name, node) in fields.texts(key, self.findings) {
                let named = pick(hosts, name);
                let is_known = !named.is_empty();
                targets.extend(named);
                if !is_known && are_hosts_known {
                    let known: BTreeSet<&str> = hosts.iter().flat_map(names_of).collect();
                    let known: Vec<&str> = known.into_iter().collect();
                    let issue = self
                        .document
                        .issue(code, format!("no {what} `{name}`"))
                        .label(node.span, format!("no `[[host]]` has this {what}"));
                    self.findings.issue(if known.is_empty() {
                        issue.help(format!("no host of this file has a {what}"))
                    } else {
                        issue.suggest(name, &known)
                    });
                }
            }
        }
        targets
    }
}

/// Where an error is marked: what is missing at the end of a line, at what comes before it.
fn place_in_line(text: &str, range: Range<usize>) -> Span {
    let before = text.get(..range.start).unwrap_or(text);
    let after = text.get(range.start..).unwrap_or_default();
    let is_at_end = after.is_empty() || after.starts_with(['\n', '\r']);
    let last = before.chars().next_back().filter(|last| *last != '\n');
    let start = match last {
        Some(last) if is_at_end => before.len() - last.len_utf8(),
        _ => range.start,
    };
    Span {
        start,
        end: if start < range.start {
            start + 1
        } else {
            range.end.max(start + 1)
        },
    }
}

/// The hosts that a name in `hosts` means: the one that is called so, else all at this address.
fn hosts_of_name(hosts: &[Table], name: &str) -> Vec<usize> {
    let of = |index: usize| names(&hosts[index]);
    let called = (0..hosts.len()).find(|index| of(*index).first() == Some(&name));
    called.map_or_else(
        || {
            (0..hosts.len())
                .filter(|index| of(*index).contains(&name))
                .collect()
        },
        |index| vec![index],
    )
}

/// The hosts that are in a group.
fn hosts_of_group(hosts: &[Table], group: &str) -> Vec<usize> {
    (0..hosts.len())
        .filter(|index| groups(&hosts[*index]).contains(&group))
        .collect()
}

/// The names that `hosts` may call a host by, the one that it is known by first.
fn names(host: &Table) -> Vec<&str> {
    ["name", "ip_address"]
        .into_iter()
        .filter_map(|key| host.text(key))
        .collect()
}

/// The groups of a host.
fn groups(host: &Table) -> Vec<&str> {
    let Some(Value::List(elements)) = host.get("groups").map(|entry| &entry.value.value) else {
        return Vec::new();
    };
    elements
        .iter()
        .filter_map(|element| match &element.value {
            Value::Text(group) => Some(group.as_str()),
            _ => None,
        })
        .collect()
}

/// The keys of `[settings]`.
fn settings_keys() -> Vec<&'static str> {
    settings::KEYS
        .into_iter()
        .filter(|key| !OLD_SETTINGS.contains(key))
        .collect()
}

/// Takes a key out of a table.
fn take(table: &mut Table, key: &str) -> Option<Entry> {
    let at = table.entries.iter().position(|entry| entry.key == key)?;
    Some(table.entries.remove(at))
}

fn to_table(table: DeTable<'_>, span: Span) -> Table {
    let mut entries: Vec<_> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_span: span_of(key.span()),
            key: key.into_inner().into_owned(),
            value: to_node(value),
        })
        .collect();
    // The library sorts them by name.
    entries.sort_by_key(|entry| entry.key_span.start);
    Table { entries, span }
}

fn to_node(value: Spanned<DeValue<'_>>) -> Node {
    let span = span_of(value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Number(decimal(&number)),
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(is_true) => Value::Bool(is_true),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(elements) => Value::List(elements.into_iter().map(to_node).collect()),
        DeValue::Table(table) => Value::Table(to_table(table, span)),
    };
    Node { value, span }
}

/// A number as the checks read it. One that is too large stays as it is, and no check accepts it.
fn decimal(number: &DeInteger<'_>) -> String {
    i128::from_str_radix(number.as_str(), number.radix())
        .map_or_else(|_| number.to_string(), |number| number.to_string())
}

fn span_of(range: Range<usize>) -> Span {
    Span {
        start: range.start,
        end: range.end,
    }
}

/// Hides every value but those of known keys that hold no secret: under a misspelt key or table there
/// may be a passkey, too.
fn hide_in_parsed(text: &str, root: &DeTable<'_>) -> String {
    let mut ranges = mask::values_of_secret_words(text);
    let settings = settings::KEYS;
    let mapping = [&MAPPING_KEYS[..], &TARGET_KEYS].concat();
    for (key, value) in root {
        let plain_keys = match key.get_ref().as_ref() {
            "settings" => &settings[..],
            "mapping" => &mapping,
            _ => &PLAIN_HOST_KEYS,
        };
        let is_plain = settings.contains(&key.get_ref().as_ref());
        collect_values(value, is_plain, plain_keys, &mut ranges);
    }
    mask::hide(text, &ranges)
}

fn collect_values(
    value: &Spanned<DeValue<'_>>,
    is_plain: bool,
    plain_keys: &[&str],
    ranges: &mut Vec<Range<usize>>,
) {
    match value.get_ref() {
        DeValue::Array(elements) => {
            for element in elements {
                collect_values(element, is_plain, plain_keys, ranges);
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table {
                let is_plain = plain_keys.contains(&key.get_ref().as_ref());
                collect_values(value, is_plain, plain_keys, ranges);
            }
        }
        DeValue::String(_) if !is_plain => {
            ranges.push(value.span().start + 1..value.span().end.saturating_sub(1));
        }
        _ if !is_plain => ranges.push(value.span()),
        _ => {}
    }
}

/// Hides everything but headers and lines with a plain key and a simple value. For text that cannot be
/// parsed, where nobody knows what is a value.
pub(super) fn hide_in_broken(text: &str) -> String {
    let shown_keys = [
        &settings::KEYS[..],
        &PLAIN_HOST_KEYS,
        &MAPPING_KEYS,
        &TARGET_KEYS,
    ]
    .concat();
    let mut ranges = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.contains("\"\"\"") || line.contains("'''") {
            // Any line may be a part of a text from here on.
            break;
        }
        ranges.push(start + shown_bytes(line, &shown_keys)..start + line.len());
        start += line.len();
    }
    ranges.push(start..text.len());
    mask::hide(text, &ranges)
}

/// How much may be shown of the beginning of a line.
fn shown_bytes(line: &str, keys: &[&str]) -> usize {
    let written = line.trim();
    if ["[settings]", "[[host]]", "[[mapping]]", ""].contains(&written) {
        return line.len();
    }
    let Some((key, value)) = line.split_once('=') else {
        return 0;
    };
    let to_value = key.len() + 1;
    let is_plain = keys.contains(&key.trim());
    if !is_plain {
        let names_secret = ["passkey", "passkey_env", "passkey_command"].contains(&key.trim());
        return if names_secret { to_value } else { 0 };
    }
    let value = value.trim();
    let value = value.strip_prefix('"').unwrap_or(value);
    let value = value.strip_suffix('"').unwrap_or(value);
    let is_simple = value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-:%/~*".contains(c));
    if is_simple { line.len() } else { to_value }
}
