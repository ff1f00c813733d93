//! `hostsync migrate`

use std::path::Path;

use clap::Args;

use crate::cli::console::Console;
use crate::cli::environment::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::GlobalOptions;
use crate::config::{self, Migration};
use crate::view::words::{count, escape_text};

/// Write a `hostsync.toml` from `config.ini` and the files that it names
///
/// It comes to stand beside `config.ini`. The old files stay as they are, and both forms make the
/// same plan. Nothing is overwritten.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync migrate
  hostsync --config old/config.ini migrate")]
pub(in crate::cli) struct MigrateOptions;

/// Writes it, and says what to do next.
pub(super) fn run(global: &GlobalOptions, console: &Console) -> Result<Exit, CommandError> {
    let environment = environment()?;
    let explicit = global.config();
    let old = config::find_old(explicit, &environment)?;
    let migration = config::migrate(&old, &environment, &|path| std::fs::read(path))?;
    migration.write()?;

    let shown = |path: &Path| {
        let path = path.strip_prefix(&environment.current_dir).unwrap_or(path);
        escape_text(&path.display().to_string())
    };
    let path = shown(&migration.path);
    console.say(&format!("Wrote {path}: {}.", what_it_has(&migration)));
    if migration.holds_passkeys() {
        console.say("note: it holds passwords, and only you may read it (mode 0600)");
    }
    console.say("note: comments of the old files are not in it");
    for remark in &migration.remarks {
        console.say(&format!("remark: {}", escape_text(&remark.to_string())));
    }
    let is_found = config::find(None, &environment).is_ok_and(|found| found == migration.path);
    console.say(&if is_found {
        format!(
            "\n{path} is used from now on where hostsync runs in this folder, and the old files are \
             not read any more."
        )
    } else {
        format!("\nIt is used where it is named: `hostsync --config {path} plan`.")
    });
    if explicit.is_some() {
        console.say(&format!(
            "What names the old file (`--config`, or the variable HOSTSYNC_CONFIG) still reads that \
             one: let it name {path}."
        ));
    }
    let option = if is_found {
        String::new()
    } else {
        format!(" --config {path}")
    };
    console.say(&format!(
        "Look at `hostsync{option} plan`, which is the same as before; then remove {} and the files \
         that it names.",
        shown(&old)
    ));
    Ok(Exit::Done)
}

fn what_it_has(migration: &Migration) -> String {
    let hosts = &migration.config.hosts;
    let mappings = hosts.iter().map(|host| host.mappings.len()).sum();
    format!(
        "{}, {}",
        count(hosts.len(), "host", "hosts"),
        count(mappings, "mapping", "mappings")
    )
}
