//! What the paths of a configuration are relative to.

use std::path::{Path, PathBuf};

use super::document::Document;
use super::enclosure::Enclosure;
use super::error::{Issue, IssueCode};
use super::span::Span;

/// What the configuration needs to know about the user and the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The home folder.
    pub home: Option<PathBuf>,
    /// The current folder; absolute.
    pub current_dir: PathBuf,
}

/// The folder that holds a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// What relative paths are relative to.
pub(super) struct Places<'a> {
    /// The folder of the main file.
    pub(super) base: &'a Path,
    /// The home folder.
    pub(super) home: Option<&'a Path>,
    /// What nothing may lead out of; `None` for a configuration that is trusted. One that is not says
    /// nothing either about what is ours: where the state and the logs are, how to log in, what is shown.
    pub(super) enclosure: Option<&'a Enclosure>,
}

impl Places<'_> {
    /// The absolute form of a local path, without `.` components and trailing slashes; `None` when it
    /// starts in a home folder that is not known.
    pub(super) fn absolute(&self, text: &str, folder: &Path) -> Option<PathBuf> {
        let path = match text.strip_prefix("~/") {
            Some(rest) => self.home?.join(rest.trim_start_matches('/')),
            None if text == "~" => self.home?.to_owned(),
            None => folder.join(text),
        };
        Some(path.components().collect())
    }
}

/// The issue for a path that starts in a home folder that is not known.
pub(super) fn no_home(document: &Document, span: Span) -> Issue {
    document
        .issue(IssueCode::NoHome, "the home folder is not known")
        .label(span, "starts there")
        .help("set `HOME`, or write the whole path")
}
