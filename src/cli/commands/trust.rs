//! `hostsync trust`

use std::fmt::Write as _;

use super::args::{GlobalSettings, TrustSettings};
use super::console::Console;
use super::context::{Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use crate::config::Host;
use crate::model::map_parallel;
use crate::plan::prepare::with_help;
use crate::transport::known_hosts::{self, HostKey, KnownHosts, Verdict};
use crate::view::text::{count, escape_text};

pub(super) fn run(
    global: &GlobalSettings,
    settings: &TrustSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let _interrupts = Interrupts::listen();
    let mut context = Context::load(global, console)?;
    context.start_logs("trust")?;
    let hosts = context.select(&settings.hosts)?;
    let path = &context.config.settings.known_hosts_path;
    let known = KnownHosts::load(path).map_err(Stop::failed)?;
    let connector = context.connector();
    let threads = context.config.settings.number_of_connections;
    let keys = map_parallel(&hosts, threads, |host| connector.fetch_host_key(host));

    let mut exit = Exit::Done;
    let mut new: Vec<(&Host, HostKey)> = Vec::new();
    let mut text = String::new();
    for (host, key) in hosts.iter().copied().zip(keys) {
        let line = match key {
            Err(error) => {
                exit = exit.and(Exit::HostsFailed);
                escape_text(&with_help(&error))
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
        return Ok(context.finish(exit));
    }
    if !settings.is_approved && !ask(new.len(), console)? {
        console.note("Cancelled: nothing was recorded.");
        return Ok(context.finish(Exit::Failed));
    }
    for (host, key) in &new {
        known_hosts::append(path, host, key).map_err(Stop::failed)?;
        tracing::info!(host = %host.id, key = key.fingerprint(), "trusted");
    }
    let recorded = count(new.len(), "key", "keys");
    console.data(format!("Recorded {recorded} in {}.\n", path.display()).as_bytes());
    Ok(context.finish(exit))
}

fn ask(keys: usize, console: &Console) -> Result<bool, Stop> {
    if !Console::can_ask() {
        return Err(Stop::nobody_to_ask(
            "compare the fingerprints with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says \
             on the hosts, then use --yes",
        ));
    }
    let text = format!(
        "\nCompare the new fingerprints with what this says on the hosts (or another key type):\n\
           ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n\
         Record {}? Only 'yes' is accepted: ",
        count(keys, "key", "keys")
    );
    Ok(console.confirms(&text))
}
