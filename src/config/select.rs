//! Picking hosts with `--limit`.

use globset::GlobBuilder;

use super::error::{SelectError, closest};
use super::types::{Config, Host};

/// The hosts that any of the patterns names, in the order of the configuration; all of them when
/// there are no patterns.
///
/// A pattern is a name, an address, a group, or a glob over names and addresses.
///
/// # Errors
/// When a pattern names no host or is not a glob.
pub fn select<'a>(config: &'a Config, limit: &[String]) -> Result<Vec<&'a Host>, SelectError> {
    if limit.is_empty() {
        return Ok(config.hosts.iter().collect());
    }
    let mut is_picked = vec![false; config.hosts.len()];
    for pattern in limit {
        let glob = glob(pattern)?;
        let mut has_match = false;
        for (host, is_picked) in config.hosts.iter().zip(&mut is_picked) {
            let matches = host.id.as_str() == pattern
                || host.address == *pattern
                || host.groups.contains(pattern)
                || glob.as_ref().is_some_and(|glob| {
                    glob.is_match(host.id.as_str()) || glob.is_match(&host.address)
                });
            *is_picked |= matches;
            has_match |= matches;
        }
        if !has_match {
            return Err(no_match(config, pattern));
        }
    }
    Ok(config
        .hosts
        .iter()
        .zip(is_picked)
        .filter_map(|(host, is_picked)| is_picked.then_some(host))
        .collect())
}

/// The pattern as a glob, if it has anything of a glob.
fn glob(pattern: &str) -> Result<Option<globset::GlobMatcher>, SelectError> {
    if !pattern.contains(['*', '?', '[', '{']) {
        return Ok(None);
    }
    match GlobBuilder::new(pattern).build() {
        Ok(glob) => Ok(Some(glob.compile_matcher())),
        Err(error) => Err(SelectError::BadPattern {
            pattern: pattern.to_owned(),
            reason: error.kind().to_string(),
        }),
    }
}

fn no_match(config: &Config, pattern: &str) -> SelectError {
    let known = config.hosts.iter().flat_map(|host| {
        [host.id.as_str(), host.address.as_str()]
            .into_iter()
            .chain(host.groups.iter().map(String::as_str))
    });
    let help = match closest(pattern, known) {
        Some(close) => format!("did you mean `{close}`?"),
        None => "a pattern is a name, an address, a group, or a glob over names and addresses"
            .to_owned(),
    };
    SelectError::NoMatch {
        pattern: pattern.to_owned(),
        help,
    }
}
