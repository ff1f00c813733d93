//! `hostsync plan`

use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};

use crate::cli::console::Console;
use crate::cli::environment::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::{GlobalOptions, HostOptions, PlanOutputOptions, UntrustedOptions};
use crate::cli::output::print_plan;
use crate::cli::session::{CommandSession, Planning};
use crate::plan::{PlanRemark, Refresh, document};
use crate::view::review::plan::PlanCommand;
use crate::view::words::escape_text;

/// Show what apply would do; change nothing
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync plan
  hostsync plan --diff --limit 'web*' --limit db1
  hostsync plan --out plan.json --format markdown > comment.md
  hostsync plan --format json | jq .summary
  hostsync plan --untrusted-config --state /srv/hostsync/state")]
pub(in crate::cli) struct PlanOptions {
    /// Save the plan, for `hostsync show` and `hostsync apply`
    #[arg(long, value_name = "FILE", value_parser = file_name)]
    pub(super) out: Option<PathBuf>,

    #[command(flatten)]
    pub(super) output: PlanOutputOptions,

    /// How to look at the hosts; `quick` where nothing is said
    #[arg(long, value_enum, value_name = "HOW")]
    pub(super) refresh: Option<Refresh>,

    #[command(flatten)]
    pub(super) untrusted: UntrustedOptions,

    #[command(flatten)]
    pub(super) hosts: HostOptions,
}

impl PlanOptions {
    /// Checks what clap cannot.
    pub(super) fn validate(&self, definition: &mut clap::Command) -> Result<(), clap::Error> {
        let looks = matches!(self.refresh, Some(Refresh::Quick | Refresh::Full));
        if looks && self.untrusted.state().is_some() {
            let message = "with --untrusted-config no host is looked at: leave out --refresh, or write \
                           `--refresh none`";
            return Err(definition.error(ErrorKind::ArgumentConflict, message));
        }
        Ok(())
    }

    /// How the hosts are looked at.
    fn refresh(&self) -> Refresh {
        match self.untrusted.state() {
            Some(_) => Refresh::None,
            None => self.refresh.unwrap_or_default(),
        }
    }
}

/// A file to write to.
fn file_name(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        "-" => Err("a plan is printed with `--format json`; this names a file".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

/// The values of `--refresh`. They are named here, since only the command line knows clap.
impl ValueEnum for Refresh {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Quick, Self::Full, Self::None]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Quick => ("quick", "Hash only what moved since the last apply"),
            Self::Full => ("full", "Hash everything"),
            Self::None => (
                "none",
                "Do not connect; plan from the sources and the state alone",
            ),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// Makes a plan, prints it, and saves it where that is asked for.
pub(super) fn run(
    options: &PlanOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let session = CommandSession::open_as("plan", &options.untrusted, global, console)?;
    if let Some(path) = options.out.as_deref()
        && options.untrusted.state().is_some()
    {
        refuse_links(path, &session.config.path)?;
    }
    let state = session.state()?;
    let hosts = session.select(&options.hosts.limit)?;
    let planning = Planning {
        refresh: options.refresh(),
        wants_diffs: options.output.diff,
        ..Planning::default()
    };
    let prepared = session.prepare(&state, &hosts, &planning)?;
    session.tell_what_came_before(&prepared, &state);
    let remarks = PlanRemark::of(&session.remarks, &session.config);
    let plan = prepared.plan.with_remarks(remarks);
    if let Some(path) = &options.out {
        document::save(&plan, path)?;
    }
    let command = PlanCommand::Plan {
        saved: options.out.is_some(),
    };
    let digest = document::digest(&plan);
    print_plan(&plan, digest, command, &options.output, console);
    if let Some(path) = &options.out {
        console.say(&format!("Saved the plan in {}.", path.display()));
    }
    Ok(session.finish(Exit::of_printed_plan(&plan, &options.output)))
}

/// Refuses to write through a link that a stranger may have put on the way: below the current folder, or
/// below that of the configuration.
fn refuse_links(out: &Path, config: &Path) -> Result<(), CommandError> {
    let here = environment()?.current_dir;
    let path = here.join(out);
    let theirs = [Some(here.as_path()), config.parent()];
    let is_theirs = |path: &Path| {
        let mut folders = theirs.iter().flatten();
        folders.any(|folder| path != *folder && path.starts_with(folder))
    };
    let mut parts = path.ancestors();
    match parts.find(|part| part.is_symlink() && is_theirs(part)) {
        None => Ok(()),
        Some(link) => Err(CommandError::message(
            format!(
                "cannot save the plan in {}: {} is a link, and the configuration is not trusted",
                escape_text(&out.display().to_string()),
                escape_text(&link.display().to_string()),
            ),
            "remove the link, or name a file outside of the folder of the configuration with `--out`",
        )),
    }
}
