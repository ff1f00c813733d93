//! What can be wrong with the state folder.

/// Reading, writing or locking the state did not work.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("state")]
pub struct StateError;
