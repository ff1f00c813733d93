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
use super::document::{
    Document, Entry, FileName, Findings, Node, RawConfig, RawHost, RawMappings, RawTable, Table,
    Value,
};
use super::error::{IssueCode, closest};
use super::fields::Fields;
use super::span::Span;
use super::values::{address_error, holds_login};
use super::{keys, mask};

/// What the library says of a key or a table that is there already.
const DUPLICATE: &str = "duplicate key";

/// Reads the text of `file`, which has no byte order mark. `None` when it is not TOML, which is
/// reported.
pub(super) fn read(file: &FileName, text: &str, findings: &mut Findings) -> Option<RawConfig> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let document = Document::new(file, text);
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
            let known = [&keys::MAPPING[..], &keys::TARGET].concat();
            self.drop_unknown(&mut table, &known);
            let targets = self.targets(&table, &hosts, are_hosts_known);
            table
                .entries
                .retain(|entry| !keys::TARGET.contains(&entry.key.as_str()));
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
        for key in keys::OLD_SETTINGS {
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
                self.document.issue(
                    IssueCode::UnknownSection,
                    format!("unknown table{}", mask::named(key)),
                )
            } else {
                self.document.issue(
                    IssueCode::UnknownKey,
                    format!("unknown key{}", mask::named(key)),
                )
            };
            let issue = issue.label(entry.key_span, "nothing reads this");
            self.findings.issue(if settings_keys().contains(&&**key) {
                issue.help("settings stand below the line `[settings]`")
            } else {
                issue.suggest(key, &keys::TABLES)
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
        if keys::TARGET.iter().all(|key| table.get(key).is_none()) {
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
                    let is_sound = |name: &&str| {
                        !holds_login(name) && (what == "group" || address_error(name).is_none())
                    };
                    let known = hosts.iter().flat_map(names_of).filter(is_sound);
                    let (message, help) = match closest(name, known) {
                        Some(close) => (
                            format!("no {what} `{name}`"),
                            format!("did you mean `{close}`?"),
                        ),
                        None => (
                            format!("no such {what}"),
                            format!("write a {what} that a `[[host]]` of this file has"),
                        ),
                    };
                    self.findings.issue(
                        self.document
                            .issue(code, message)
                            .label(node.span, format!("no `[[host]]` has this {what}"))
                            .help(help),
                    );
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
    keys::SETTINGS
        .into_iter()
        .filter(|key| !keys::OLD_SETTINGS.contains(key))
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
