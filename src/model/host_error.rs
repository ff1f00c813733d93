//! An error on one host, as a value.

use std::fmt;

use miette::Diagnostic;

/// Why something did not work on one host. It outlives the error that it was made from: plans and reports
/// keep it, documents hold its text.
///
/// [`Display`](fmt::Display) writes the message and the cure in one line, for logs and documents. Views
/// draw the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    /// The kind of error, such as `hostsync::transport::timeout`; `None` for one that a document held.
    pub code: Option<String>,
    /// What went wrong. It begins small and ends without a dot.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Whether another attempt may succeed although nobody has changed anything.
    pub may_pass: bool,
}

impl HostError {
    /// The parts of an error. `may_pass` says whether another attempt may succeed.
    pub fn of(error: &dyn Diagnostic, may_pass: bool) -> Self {
        Self {
            code: error.code().map(|code| code.to_string()),
            message: error.to_string(),
            help: error.help().map(|help| help.to_string()),
            may_pass,
        }
    }
}

/// An error of which only the text is known.
impl From<String> for HostError {
    fn from(message: String) -> Self {
        Self {
            code: None,
            message,
            help: None,
            may_pass: false,
        }
    }
}

impl From<&str> for HostError {
    fn from(message: &str) -> Self {
        Self::from(message.to_owned())
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}
