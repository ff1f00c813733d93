//! What can be wrong with a configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use thiserror::Error;

use super::span::{Excerpt, Span};
use crate::model::printable;

/// No configuration could be made of the files. None of the texts holds a passkey.
#[derive(Debug, Error, Diagnostic)]
pub enum ConfigError {
    /// There is no configuration file.
    #[error("no configuration file; looked for {}", list(.looked_for))]
    #[diagnostic(
        code(hostsync::config::not_found),
        help("go to the folder of the configuration, or name the file with `--config PATH`")
    )]
    NotFound {
        /// The places, in the order in which they were looked at.
        looked_for: Vec<PathBuf>,
    },
    /// The configuration file that was named is not there.
    #[error("the configuration file {} does not exist", .path.display())]
    #[diagnostic(
        code(hostsync::config::no_such_file),
        help(
            "correct what names it: `--config`, or else the environment variable `HOSTSYNC_CONFIG`"
        )
    )]
    NoSuchFile {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// The main file cannot be read.
    #[error("cannot read {}: {reason}", .path.display())]
    #[diagnostic(
        code(hostsync::config::unreadable),
        help("check that it is a file, and who may read it")
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The files say something that cannot be meant.
    #[error(
        "the configuration {} has {} error{}",
        .path.display(), .issues.len(), if .issues.len() == 1 { "" } else { "s" }
    )]
    #[diagnostic(code(hostsync::config::invalid))]
    Invalid {
        /// The main file.
        path: PathBuf,
        /// Everything that is wrong, in all files: by file (the main file, the hosts, the mapper files
        /// in the order of the hosts), then by place.
        #[related]
        issues: Vec<Issue>,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

/// The kind of an [`Issue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IssueCode {
    /// A file that is needed cannot be read.
    Unreadable,
    /// A file is not UTF-8.
    Encoding,
    /// A file is not JSON, not TOML or not an ini file.
    Syntax,
    /// A line of an ini file comes before any section.
    MissingSection,
    /// A section of an ini file, or a table of a TOML file, that nothing reads.
    UnknownSection,
    /// A key that nothing reads.
    UnknownKey,
    /// A key that is there twice.
    DuplicateKey,
    /// A key that has to be there.
    MissingKey,
    /// A text where a number should be, for instance.
    WrongType,
    /// A value that cannot be used.
    InvalidValue,
    /// A pattern that is not a glob.
    InvalidGlob,
    /// A path that starts in the home folder, which is not known.
    NoHome,
    /// A path in a configuration that is not trusted, which leads out of its folder.
    OutsideFolder,
    /// A host that is there twice.
    DuplicateHost,
    /// A mapping for a host that there is not.
    UnknownHost,
    /// A mapping for a group that no host has.
    UnknownGroup,
    /// More than one source of the same password.
    SeveralPasskeys,
    /// Two destinations of a host, one of which lies in the other.
    OverlappingDestinations,
}

impl IssueCode {
    /// The code as people see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "hostsync::config::unreadable",
            Self::Encoding => "hostsync::config::encoding",
            Self::Syntax => "hostsync::config::syntax",
            Self::MissingSection => "hostsync::config::missing_section",
            Self::UnknownSection => "hostsync::config::unknown_section",
            Self::UnknownKey => "hostsync::config::unknown_key",
            Self::DuplicateKey => "hostsync::config::duplicate_key",
            Self::MissingKey => "hostsync::config::missing_key",
            Self::WrongType => "hostsync::config::wrong_type",
            Self::InvalidValue => "hostsync::config::invalid_value",
            Self::InvalidGlob => "hostsync::config::invalid_glob",
            Self::NoHome => "hostsync::config::no_home",
            Self::OutsideFolder => "hostsync::config::outside_folder",
            Self::DuplicateHost => "hostsync::config::duplicate_host",
            Self::UnknownHost => "hostsync::config::unknown_host",
            Self::UnknownGroup => "hostsync::config::unknown_group",
            Self::SeveralPasskeys => "hostsync::config::several_passkeys",
            Self::OverlappingDestinations => "hostsync::config::overlapping_destinations",
        }
    }
}

/// One thing that is wrong, with the place in its file.
#[derive(Debug)]
pub struct Issue {
    code: IssueCode,
    rank: usize,
    message: String,
    help: Option<String>,
    source: Option<NamedSource<Excerpt>>,
    labels: Vec<LabeledSpan>,
}

impl Issue {
    /// An issue that has no place inside a file. `rank` is that of the file that it belongs to.
    pub(super) fn new(code: IssueCode, message: impl Into<String>, rank: usize) -> Self {
        Self {
            code,
            rank,
            message: printable(&message.into()),
            help: None,
            source: None,
            labels: Vec::new(),
        }
    }

    /// With the text that labels point into.
    pub(super) fn with_source(mut self, source: NamedSource<Excerpt>) -> Self {
        self.source = Some(source);
        self
    }

    /// With one more marked place; spans outside of the text are moved to its end.
    pub(super) fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        if let Some(source) = &self.source
            && let Some(span) = source.inner().fitting(span)
        {
            self.labels.push(LabeledSpan::new_with_span(
                Some(printable(&text.into())),
                span,
            ));
        }
        self
    }

    /// With what to do about it.
    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(printable(&text.into()));
        self
    }

    /// With "did you mean", if one of the `known` words is close to `word`; else with the list.
    pub(super) fn suggest(self, word: &str, known: &[&str]) -> Self {
        match closest(word, known.iter().copied()) {
            Some(close) => self.help(format!("did you mean `{close}`?")),
            None => self.help(format!("known here: {}", known.join(", "))),
        }
    }

    /// Where it stands among others: its file, and the place there.
    pub(super) fn order(&self) -> (usize, usize) {
        let first = self.labels.iter().map(LabeledSpan::offset).min();
        (self.rank, first.unwrap_or(0))
    }

    /// Whether it says nothing that `other` does not say: a mapping of several hosts is checked for each.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        self.code == other.code
            && self.rank == other.rank
            && self.message == other.message
            && self.labels == other.labels
    }

    /// What kind of issue it is.
    pub fn issue_code(&self) -> IssueCode {
        self.code
    }

    /// The file it is about, as shown to people; `None` when the message alone names it.
    pub fn file(&self) -> Option<&str> {
        self.source.as_ref().map(NamedSource::name)
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Issue {}

impl Diagnostic for Issue {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code.as_str()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.labels.is_empty() {
            return None;
        }
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// Patterns that pick no host.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum SelectError {
    /// Nothing has that name, address or group.
    #[error("no host matches `{pattern}`")]
    #[diagnostic(code(hostsync::config::no_such_host))]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// What to do about it.
        #[help]
        help: String,
    },
    /// The pattern cannot be understood.
    #[error("`{pattern}` is not a pattern: {reason}")]
    #[diagnostic(
        code(hostsync::config::invalid_pattern),
        help("a pattern is a name, an address, a group, or a glob over names and addresses")
    )]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a [`Remark`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemarkKind {
    /// Others may read a secret.
    OpenSecret,
    /// Others may write to the keys of hosts.
    OpenKnownHosts,
    /// Anything else.
    Other,
}

/// Something harmless that people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What it is about.
    pub kind: RemarkKind,
    /// The file it is about.
    pub path: PathBuf,
    /// The line in it, from 1; `None` where it is about all of the file.
    pub line: Option<usize>,
    /// What was seen: small first letter, no dot at the end, without the path.
    pub text: String,
}

impl Remark {
    pub(super) fn new(path: &Path, line: Option<usize>, text: impl Into<String>) -> Self {
        Self {
            kind: RemarkKind::Other,
            path: path.to_owned(),
            line,
            text: text.into(),
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.path.display().to_string()))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", printable(&self.text))
    }
}

/// The word that somebody who wrote `word` most likely meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|known| {
            let distance = strsim::damerau_levenshtein(&word, &known.to_lowercase());
            (distance, known)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closest_word_is_found_only_when_it_is_close() {
        assert_eq!(closest("pot", ["port", "user"]), Some("port"));
        assert_eq!(closest("PORT", ["port", "user"]), Some("port"));
        assert_eq!(closest("banana", ["port", "user"]), None);
    }
}
