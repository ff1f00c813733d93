//! `connection_info.json` and the `[ip].json` mapper files: JSON with comments and trailing commas.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged as _;
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::access::remark_on_passkeys;
use super::document::{
    Document, Entry, FileName, Findings, MAIN_RANK, Node, RawHost, RawMappings, RawTable, Table,
    Value,
};
use super::error::{Issue, IssueCode};
use super::fields::wrong_element;
use super::mask::named;
use super::span::Span;
use super::text::{ReadFile, decode};

/// The rank of the hosts among all files, by which issues are sorted. The mapper files follow.
const HOSTS_RANK: usize = MAIN_RANK + 1;

/// What is remarked of a mapper file that belongs to no host.
pub(super) const UNUSED_FILE: &str = "no host has a mapper file of this name";

/// Where the files are.
pub(super) struct InventoryPaths {
    /// `connection_info.json`.
    pub(super) hosts: PathBuf,
    /// The folder of the mapper files.
    pub(super) mapper_folder: PathBuf,
}

/// Reads all hosts and their mapper files.
pub(super) fn read(
    paths: &InventoryPaths,
    current_dir: &Path,
    read_file: ReadFile<'_>,
    findings: &mut Findings,
) -> Vec<RawHost> {
    let file = FileName::new(paths.hosts.clone(), current_dir, HOSTS_RANK);
    let bytes = match read_file(&file.path) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.issue(
                Issue::new(
                    IssueCode::Unreadable,
                    format!("cannot read the hosts from {}: {error}", file.shown),
                    HOSTS_RANK,
                )
                .help("`connection_info_path` in config.ini names the file"),
            );
            return Vec::new();
        }
    };
    let Some((document, nodes)) = read_list(&file, bytes, Content::Hosts, findings) else {
        return Vec::new();
    };
    let mut used_files = HashSet::new();
    let mut hosts = Vec::new();
    for node in nodes {
        let Value::Table(table) = node.value else {
            findings.issue(wrong_element(
                &document,
                &node,
                "{\"ip_address\", \"user\"}",
            ));
            continue;
        };
        let mappings = match mapper_file_name(&table) {
            Some(name) => {
                let path = paths.mapper_folder.join(&name);
                used_files.insert(name);
                let rank = HOSTS_RANK + 1 + hosts.len();
                read_mapper(&FileName::new(path, current_dir, rank), read_file, findings)
            }
            // The check says what is wrong with its name.
            None => Err("it has no usable name".to_owned()),
        };
        let host = RawTable {
            document: Arc::clone(&document),
            table,
        };
        hosts.push(RawHost { host, mappings });
    }
    remark_on_passkeys(&document.path, &hosts, findings);
    remark_on_unused_files(&paths.mapper_folder, &used_files, findings);
    hosts
}

/// The name of the mapper file of a host that has a usable name.
fn mapper_file_name(host: &Table) -> Option<String> {
    let (_, name) = host.host_name()?;
    Some(format!("{name}.json"))
}

fn read_mapper(
    file: &FileName,
    read_file: ReadFile<'_>,
    findings: &mut Findings,
) -> Result<RawMappings, String> {
    let bytes = read_file(&file.path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "no mapper file {}; write one, or `[]` into it if the host gets nothing",
            file.shown
        ),
        // What is refused to strangers says by itself what to do.
        io::ErrorKind::InvalidInput => {
            format!("cannot read mapper file {}: {error}", file.shown)
        }
        _ => format!(
            "cannot read mapper file {}: {error}; check who may read it",
            file.shown
        ),
    })?;
    // What is wrong inside of it fails the configuration, so the text is never seen.
    let (document, nodes) = read_list(file, bytes, Content::Mappings, findings)
        .ok_or_else(|| format!("mapper file {} has errors", file.shown))?;
    Ok(RawMappings { document, nodes })
}

fn remark_on_unused_files(folder: &Path, used: &HashSet<String>, findings: &mut Findings) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut unused: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| {
            let name = name.to_string_lossy();
            !name.starts_with('.') && !used.contains(&*name)
        })
        .collect();
    unused.sort();
    for name in unused {
        findings.remark(&folder.join(name), UNUSED_FILE);
    }
}

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Hosts,
    Mappings,
}

/// Reads a file whose content is a list. `None` when that could not be done and was reported.
fn read_list(
    file: &FileName,
    bytes: Vec<u8>,
    content: Content,
    findings: &mut Findings,
) -> Option<(Arc<Document>, Vec<Node>)> {
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(error) => {
            findings.issue(error.issue(&Document::new(file, &error.lossy)));
            return None;
        }
    };
    let document = Document::new(file, &text);
    let root = match parse(&text) {
        Ok(root) => root,
        Err(error) => {
            let mut issue = document
                .issue(IssueCode::Syntax, format!("not JSON: {}", error.message))
                .label(error.span, "here");
            if text.as_bytes().get(error.span.start) == Some(&b'#') {
                issue = issue.help("a comment begins with `//`, or stands in `/* */`; not `#`");
            }
            findings.issue(issue);
            return None;
        }
    };
    let expected = match content {
        Content::Hosts => "a list of hosts",
        Content::Mappings => "a list of {\"src\", \"dest\"}",
    };
    let Some(root) = root else {
        let whole = Span { start: 0, end: 0 };
        findings.issue(
            document
                .issue(
                    IssueCode::WrongType,
                    format!("{} is empty; it should hold {expected}", file.shown),
                )
                .label(whole, "nothing here")
                .help("write `[]` for an empty list"),
        );
        return None;
    };
    let node = to_node(root, &document, findings);
    match node.value {
        Value::List(nodes) => Some((document, nodes)),
        other => {
            findings.issue(
                document
                    .issue(
                        IssueCode::WrongType,
                        format!("the file should hold {expected}"),
                    )
                    .label(node.span.first_byte(), format!("found {}", other.kind()))
                    .help("put `[` before and `]` behind it"),
            );
            None
        }
    }
}

/// Text that is not JSON.
struct SyntaxError {
    message: String,
    span: Span,
}

/// Parses JSON with comments and trailing commas, and nothing else that the library could forgive.
fn parse(text: &str) -> Result<Option<ast::Value<'_>>, SyntaxError> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    match parse_to_ast(text, &CollectOptions::default(), &options) {
        Ok(result) => Ok(result.value),
        Err(error) => {
            let message = match error.kind() {
                // Its own message holds a piece of the string, which may be a passkey.
                ParseErrorKind::String(_) => "a string has no end or an unknown escape".to_owned(),
                kind => {
                    let message = kind.to_string();
                    let mut chars = message.chars();
                    chars
                        .next()
                        .into_iter()
                        .flat_map(char::to_lowercase)
                        .chain(chars)
                        .collect()
                }
            };
            let range = error.range();
            // An object or a list without its end is marked where it begins.
            let unterminated = matches!(
                error.kind(),
                ParseErrorKind::UnterminatedArray | ParseErrorKind::UnterminatedObject
            );
            let end = if unterminated {
                range.start + 1
            } else {
                range.end
            };
            Err(SyntaxError {
                message,
                span: Span {
                    start: range.start,
                    end,
                },
            })
        }
    }
}

fn to_node(value: ast::Value<'_>, document: &Arc<Document>, findings: &mut Findings) -> Node {
    let span = span_of(value.range());
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
        ast::Value::NumberLit(literal) => Value::Number(literal.value.to_owned()),
        ast::Value::StringLit(literal) => Value::Text(literal.value.into_owned()),
        ast::Value::Array(array) => Value::List(
            array
                .elements
                .into_iter()
                .map(|element| to_node(element, document, findings))
                .collect(),
        ),
        ast::Value::Object(object) => {
            let mut entries: Vec<Entry> = Vec::new();
            for property in object.properties {
                let key_span = span_of(property.name.range());
                let key = property.name.into_string();
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    findings.issue(
                        document
                            .issue(
                                IssueCode::DuplicateKey,
                                format!("the key{} is there twice", named(&key)),
                            )
                            .label(first.key_span, "first here")
                            .label(key_span, "and again here")
                            .help("remove one of them"),
                    );
                    continue;
                }
                let value = to_node(property.value, document, findings);
                entries.push(Entry {
                    key,
                    key_span,
                    value,
                });
            }
            Value::Table(Table { entries, span })
        }
    };
    Node { value, span }
}

fn span_of(range: jsonc_parser::common::Range) -> Span {
    Span {
        start: range.start,
        end: range.end,
    }
}
