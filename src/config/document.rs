//! What a configuration says before anybody has judged it: values with their places.
//!
//! Every form of configuration is read into these types, and [`super::check`] makes a
//! [`Config`](super::Config) of them. None of the types has a `Debug` form, since passkeys are among
//! the values.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use miette::NamedSource;

use super::error::{Issue, IssueCode, Remark, RemarkKind};
use super::mask::masked;
use super::span::{Excerpt, Span};
use super::values::{address_error, holds_login, name_error};
use crate::model::{is_treacherous, printable};

/// A file as errors show it.
pub(super) struct Document {
    /// Where it is; absolute.
    pub(super) path: PathBuf,
    /// What people call it.
    name: String,
    rank: usize,
    text: String,
    /// What may be shown of the text; made for the first issue.
    excerpt: OnceLock<Excerpt>,
}

impl Document {
    /// A file with its text, of which issues show no secret and nothing that would act on a terminal.
    pub(super) fn new(file: &FileName, text: &str) -> Arc<Self> {
        Arc::new(Self {
            path: file.path.clone(),
            name: file.shown.clone(),
            rank: file.rank,
            text: text.to_owned(),
            excerpt: OnceLock::new(),
        })
    }

    /// An issue of this file, without labels yet.
    pub(super) fn issue(&self, code: IssueCode, message: impl Into<String>) -> Issue {
        let excerpt = self.excerpt.get_or_init(|| Excerpt {
            text: without_control(&masked(&self.text)).into(),
        });
        Issue::new(code, message, self.rank)
            .with_source(NamedSource::new(&self.name, excerpt.clone()))
    }

    /// The number of the line that a place is in, from 1.
    pub(super) fn line_of(&self, span: Span) -> usize {
        let bytes = self.text.bytes();
        1 + bytes.take(span.start).filter(|byte| *byte == b'\n').count()
    }
}

/// `text` in which what would act on a terminal is a `?` for each of its bytes, so that labels stay
/// where they are.
fn without_control(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\t' => out.push(char),
            // A line may end in it.
            '\r' => out.push(' '),
            _ if is_treacherous(char) => out.extend(std::iter::repeat_n('?', char.len_utf8())),
            _ => out.push(char),
        }
    }
    out
}

/// The rank of the main file among all files.
pub(super) const MAIN_RANK: usize = 0;

/// A file by both of its names.
#[derive(Clone)]
pub(super) struct FileName {
    /// Where it is; absolute.
    pub(super) path: PathBuf,
    /// What people call it: relative where it lies below the current folder.
    pub(super) shown: String,
    /// Its place among the files, by which issues are sorted: the main file, the hosts, the mapper
    /// files as the hosts stand.
    pub(super) rank: usize,
}

impl FileName {
    pub(super) fn new(path: PathBuf, current_dir: &Path, rank: usize) -> Self {
        let shown = path
            .strip_prefix(current_dir)
            .unwrap_or(&path)
            .display()
            .to_string();
        let shown = printable(&shown);
        Self { path, shown, rank }
    }
}

/// A value with its place.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Span,
}

/// A value of any form of configuration. An ini file has only `Null` and `Text`.
#[derive(Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    /// A date or a time, which no key takes.
    Date,
    Text(String),
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// What it is, for "found ...".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Date => "a date or a time",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "an object",
        }
    }
}

/// Keys with values. No key is there twice: readers report that and keep the first.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    pub(super) span: Span,
}

/// One key of a table.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) value: Node,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key that holds a text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What a host is called, with the value that says so; `None` where nothing can be called so.
    pub(super) fn host_name(&self) -> Option<(&Node, &str)> {
        let key = ["name", "ip_address"]
            .into_iter()
            .find(|key| self.text(key).is_some())?;
        let name = self.text(key)?;
        let is_address = key == "ip_address";
        let is_wrong = name_error(name).is_some()
            || holds_login(name)
            || is_address && address_error(name).is_some();
        (!is_wrong).then_some((&self.get(key)?.value, name))
    }
}

/// A table and the file it comes from.
pub(super) struct RawTable {
    pub(super) document: Arc<Document>,
    pub(super) table: Table,
}

/// The mappings of one host and the file they come from.
pub(super) struct RawMappings {
    pub(super) document: Arc<Document>,
    pub(super) nodes: Vec<Node>,
}

/// A host as it is written.
pub(super) struct RawHost {
    /// Its own keys.
    pub(super) host: RawTable,
    /// What it gets, or why nobody knows (for people, with the cure).
    pub(super) mappings: Result<RawMappings, String>,
}

/// A whole configuration as it is written.
pub(super) struct RawConfig {
    /// The main file; absolute.
    pub(super) path: PathBuf,
    pub(super) settings: RawTable,
    pub(super) hosts: Vec<RawHost>,
    /// Mappings that no host gets: they are checked, and nothing else.
    pub(super) unassigned: Option<RawMappings>,
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) issues: Vec<Issue>,
    pub(super) remarks: Vec<Remark>,
}

impl Findings {
    pub(super) fn issue(&mut self, issue: Issue) {
        self.issues.push(issue);
    }

    pub(super) fn remark(&mut self, path: &Path, text: impl Into<String>) {
        self.remarks.push(Remark::new(path, None, text));
    }

    /// Remarks on who may read or write a file, once.
    pub(super) fn remark_on_access(&mut self, kind: RemarkKind, path: &Path, text: String) {
        let remark = Remark {
            kind,
            ..Remark::new(path, None, text)
        };
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    pub(super) fn remark_at(&mut self, document: &Document, span: Span, text: impl Into<String>) {
        let line = document.line_of(span);
        self.remarks
            .push(Remark::new(&document.path, Some(line), text));
    }
}
