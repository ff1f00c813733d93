//! What can be wrong with a configuration.

/// All errors of a configuration.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the configuration has errors")]
pub struct ConfigError;
