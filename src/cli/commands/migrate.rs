//! `hostsync migrate`

use std::path::Path;

use super::args::GlobalSettings;
use super::console::Console;
use super::context::{self, Stop};
use super::exit::Exit;
use crate::config::{self, MigrateError, Migration};
use crate::view::text::{count, escape_text};

pub(super) fn run(global: &GlobalSettings, console: &Console) -> Result<Exit, Stop> {
    let environment = context::environment()?;
    let explicit = global.config.as_deref();
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

impl From<MigrateError> for Stop {
    fn from(error: MigrateError) -> Self {
        Self::failed(error)
    }
}
