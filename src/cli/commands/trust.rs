//! `hostsync trust`

use std::fmt::Write as _;

use clap::Args;

use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::GlobalOptions;
use crate::cli::session::CommandSession;
use crate::config::Host;
use crate::model::Phase;
use crate::transport::HostKey;
use crate::transport::known_hosts::{self, KnownHosts, Verdict};
use crate::view::words::{count, escape_text};

/// Show the keys of hosts and record them in `known_hosts`
///
/// Compare the fingerprints with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on
/// the hosts themselves.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync trust
  hostsync trust web1 10.0.0.5")]
pub(in crate::cli) struct TrustOptions {
    /// Do not ask; only where nobody can listen in
    #[arg(long)]
    pub(super) yes: bool,

    /// Names, addresses, groups or globs; all hosts without any
    #[arg(value_name = "HOST")]
    pub(super) hosts: Vec<String>,
}

/// Fetches the keys, shows them, asks, and records the new ones.
pub(super) fn run(
    options: &TrustOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let session = CommandSession::open("trust", global, console)?;
    let hosts = session.select(&options.hosts)?;
    let path = &session.config.settings.known_hosts_path;
    let known = KnownHosts::load(path)?;
    let keys = session.for_hosts(&hosts, Phase::Connecting, |host| session.host_key(host));

    let mut exit = Exit::Done;
    let mut new: Vec<(&Host, HostKey)> = Vec::new();
    let mut text = String::new();
    for (host, key) in hosts.iter().copied().zip(keys) {
        let line = match key {
            Err(error) => {
                exit = exit.and(Exit::HostsFailed);
                escape_text(&error.to_string())
            }
            Ok(key) => {
                let shown = format!("{} {}", key.fingerprint(), key.key_type());
                match known.check(&host.address, host.port, &key) {
                    Verdict::Match => format!("{shown} (known)"),
                    Verdict::Unknown => {
                        new.push((host, key));
                        format!("{shown} (new)")
                    }
                    Verdict::Changed { known, .. } => {
                        exit = exit.and(Exit::HostsFailed);
                        format!(
                            "{shown} differs from {known}; if you are sure that the host was set up \
                             anew, remove that line and run this again"
                        )
                    }
                    Verdict::Revoked { known } => {
                        exit = exit.and(Exit::HostsFailed);
                        format!("{shown} is revoked by {known}")
                    }
                }
            }
        };
        tracing::info!(host = %host.id, "{line}");
        let _ = writeln!(text, "{}: {line}", host.id);
    }
    console.data(text.as_bytes());
    if new.is_empty() {
        console.data(b"Nothing to record.\n");
        return Ok(session.finish(exit));
    }
    if !options.yes && !is_confirmed(new.len(), console)? {
        return Ok(session.cancel("nothing was recorded"));
    }
    for (host, key) in &new {
        known_hosts::append(path, host, key)?;
        tracing::info!(host = %host.id, key = key.fingerprint(), "trusted");
    }
    let recorded = count(new.len(), "key", "keys");
    console.data(format!("Recorded {recorded} in {}.\n", path.display()).as_bytes());
    Ok(session.finish(exit))
}

/// Asks whether so many keys are to be recorded.
fn is_confirmed(keys: usize, console: &Console) -> Result<bool, CommandError> {
    Console::require_person(
        "compare the fingerprints with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says \
         on the hosts, then use --yes",
    )?;
    let text = format!(
        "\nCompare the new fingerprints with what this says on the hosts (or another key type):\n\
           ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n\
         Record {}? Only 'yes' is accepted: ",
        count(keys, "key", "keys")
    );
    Ok(console.confirms(&text))
}
