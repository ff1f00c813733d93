//! `config.ini`, read as Python's `configparser` reads it.
//!
//! The values come from the `configparser` crate. It knows no places, and it forgives what Python
//! does not (a key that is there twice, a line before the first section), so [`Layout`] walks over
//! the same lines beside it.

use std::collections::HashMap;
use std::sync::Arc;

use configparser::ini::Ini;

use super::document::{Document, Entry, Findings, Node, RawTable, Table, Value};
use super::error::IssueCode;
use super::keys::{self, SECTION};
use super::mask::named;
use super::span::Span;

/// How often `%(key)s` may lead to another `%(key)s`, as in Python.
const MAX_INTERPOLATION_DEPTH: usize = 10;

/// How many `%(key)s` one value may lead to, so that keys that name each other twice come to an end.
const MAX_INTERPOLATIONS: usize = 1000;

/// Reads the text of `document`, which has no byte order mark.
pub(super) fn read(document: &Arc<Document>, text: &str, findings: &mut Findings) -> RawTable {
    // Python ends a line at a lone carriage return, too.
    let text = with_plain_line_ends(text);
    let layout = Layout::of(&text, document, findings);
    let values = values(&text, document, findings);
    let mut entries: Vec<Entry> = Vec::new();
    for place in layout.keys {
        if let Some(first) = entries.iter().find(|entry| entry.key == place.key) {
            findings.issue(
                document
                    .issue(
                        IssueCode::DuplicateKey,
                        format!("the key{} is there twice", named(&place.key)),
                    )
                    .label(first.key_span, "first here")
                    .label(place.key_span, "and again here")
                    .help("remove one of them"),
            );
            continue;
        }
        let value = values.get(&place.key).cloned().flatten();
        let value = match value.map(|value| interpolated(&value, &values)) {
            None => Value::Null,
            Some(Ok(text)) => Value::Text(unquoted(&text).to_owned()),
            Some(Err(reason)) => {
                findings.issue(
                    document
                        .issue(IssueCode::InvalidValue, reason)
                        .label(place.value_span, "in this value")
                        .help("write `%%` for a percent sign before a parenthesis"),
                );
                Value::Null
            }
        };
        entries.push(Entry {
            key: place.key,
            key_span: place.key_span,
            value: Node {
                value,
                span: place.value_span,
            },
        });
    }
    let span = Span {
        start: 0,
        end: text.len(),
    };
    RawTable {
        document: Arc::clone(document),
        table: Table { entries, span },
    }
}

fn with_plain_line_ends(text: &str) -> String {
    let mut chars = text.chars().peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(char) = chars.next() {
        let ends_line = char == '\r' && chars.peek() != Some(&'\n');
        out.push(if ends_line { '\n' } else { char });
    }
    out
}

/// The known keys of the one section with their values, as the library reads them.
fn values(
    text: &str,
    document: &Document,
    findings: &mut Findings,
) -> HashMap<String, Option<String>> {
    let mut ini = Ini::new();
    ini.set_default_section(&SECTION.to_lowercase());
    ini.set_comment_symbols(&['#', ';']);
    ini.set_inline_comment_symbols(Some(&[]));
    ini.set_multiline(true);
    match ini.read(text.to_owned()) {
        Ok(mut sections) => {
            let mut values = sections.remove(&SECTION.to_lowercase()).unwrap_or_default();
            // Under any other key there may be a passkey, and no path may be made of that.
            values.retain(|key, _| keys::SETTINGS.contains(&&**key));
            values
        }
        Err(reason) => {
            // The layout has already marked everything that is known to end here.
            if findings.issues.is_empty() {
                findings.issue(document.issue(IssueCode::Syntax, reason));
            }
            HashMap::new()
        }
    }
}

/// `value` with `%(key)s` replaced by the value of that key and `%%` by `%`. Any other `%` stands for
/// itself, so that `50%` can be written.
fn interpolated(value: &str, values: &HashMap<String, Option<String>>) -> Result<String, String> {
    let mut left = MAX_INTERPOLATIONS;
    interpolate(value, values, MAX_INTERPOLATION_DEPTH, &mut left)
}

/// Does that; `left` counts the keys that may still be replaced.
fn interpolate(
    value: &str,
    values: &HashMap<String, Option<String>>,
    depth: usize,
    left: &mut usize,
) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
        } else if let Some(after) = after.strip_prefix('(') {
            let (key, after) = after
                .split_once(")s")
                .ok_or("`%(` without the `)s` that ends it")?;
            let inner = values.get(&key.to_lowercase()).ok_or_else(|| {
                let key = named(key);
                format!("`%(...)s` names a key{key} that is not there, or not known")
            })?;
            if depth == 0 {
                return Err(format!("`%({key})s` leads to itself"));
            }
            *left = left
                .checked_sub(1)
                .ok_or("the value leads to too many other keys")?;
            out.push_str(&interpolate(
                inner.as_deref().unwrap_or_default(),
                values,
                depth - 1,
                left,
            )?);
            // A value of many doubling keys must not fill the memory.
            if out.len() > 64 * 1024 {
                return Err("the value becomes too long".to_owned());
            }
            rest = after;
        } else {
            out.push('%');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// `value` without the quotes around it.
fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

/// Where one key is.
struct KeyPlace {
    /// In small letters.
    key: String,
    key_span: Span,
    value_span: Span,
}

/// Where everything is, by the rules of Python's `configparser`.
#[derive(Default)]
struct Layout {
    /// The keys of the one section, in the order of the file.
    keys: Vec<KeyPlace>,
}

/// What the lines belong to at some point of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeAnySection,
    InSection,
    InForeignSection,
    /// A section whose lines have been reported already.
    InReported,
}

impl Layout {
    fn of(text: &str, document: &Document, findings: &mut Findings) -> Self {
        let mut layout = Self::default();
        let mut place = Place::BeforeAnySection;
        let mut header = Span { start: 0, end: 0 };
        // Indentation of the key that deeper lines continue.
        let mut open_key: Option<usize> = None;
        let mut line_start = 0;
        for line in text.split_inclusive('\n') {
            let trimmed = line.trim();
            let indent = line.len() - line.trim_start().len();
            let start = line_start + indent;
            line_start += line.len();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            let span = Span {
                start,
                end: start + trimmed.len(),
            };
            let continues = open_key.is_some_and(|key_indent| indent > key_indent);
            if trimmed.starts_with('[') {
                open_key = None;
                header = span;
                place = section(trimmed, span, continues, document, findings);
                continue;
            }
            if continues {
                if let Some(key) = layout.keys.last_mut()
                    && place == Place::InSection
                {
                    key.value_span.end = span.end;
                }
                continue;
            }
            open_key = Some(indent);
            match place {
                Place::InSection => layout.key(trimmed, span, document, findings),
                Place::InReported => {}
                Place::BeforeAnySection => {
                    findings.issue(
                        document
                            .issue(
                                IssueCode::MissingSection,
                                format!("a line before `[{SECTION}]`"),
                            )
                            .label(span, "belongs to no section")
                            .help(format!("begin the file with the line `[{SECTION}]`")),
                    );
                    place = Place::InReported;
                }
                Place::InForeignSection => {
                    findings.issue(
                        document
                            .issue(
                                IssueCode::UnknownSection,
                                format!("nothing but the section `[{SECTION}]` is read"),
                            )
                            .label(header, "this section would be ignored")
                            .label(span, "and with it this line")
                            .help(format!("move its keys into `[{SECTION}]`")),
                    );
                    place = Place::InReported;
                }
            }
        }
        layout
    }

    fn key(&mut self, line: &str, span: Span, document: &Document, findings: &mut Findings) {
        let delimiter = line.find(['=', ':']);
        let key = line[..delimiter.unwrap_or(line.len())].trim_end();
        if key.is_empty() {
            findings.issue(
                document
                    .issue(IssueCode::Syntax, "a value without a key")
                    .label(span, "the key is missing before this"),
            );
            return;
        }
        let key_end = span.start + key.len();
        let value_start = delimiter.map_or(span.start, |at| {
            let value = &line[at + 1..];
            span.start + at + 1 + (value.len() - value.trim_start().len())
        });
        self.keys.push(KeyPlace {
            key: key.to_lowercase(),
            key_span: Span {
                start: span.start,
                end: key_end,
            },
            value_span: Span {
                start: value_start,
                end: span.end,
            },
        });
    }
}

/// Judges the header of a section.
fn section(
    line: &str,
    span: Span,
    continues: bool,
    document: &Document,
    findings: &mut Findings,
) -> Place {
    let Some(end) = line.rfind(']') else {
        findings.issue(
            document
                .issue(IssueCode::Syntax, "a section without its `]`")
                .label(span, "`]` is missing here"),
        );
        return Place::InReported;
    };
    if continues {
        findings.issue(
            document
                .issue(IssueCode::Syntax, "an indented section")
                .label(span, "Python reads this as a part of the value above")
                .help("remove the spaces before it"),
        );
    }
    let name = &line[1..end];
    if name == SECTION {
        return Place::InSection;
    }
    if name.trim().eq_ignore_ascii_case(SECTION) {
        findings.issue(
            document
                .issue(
                    IssueCode::UnknownSection,
                    format!("`[{name}]` is not `[{SECTION}]`"),
                )
                .label(span, "this section would be ignored")
                .help(format!("did you mean `[{SECTION}]`?")),
        );
        return Place::InReported;
    }
    Place::InForeignSection
}
