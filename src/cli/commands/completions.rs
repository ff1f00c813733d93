//! `hostsync completions`

use clap::{Args, ValueEnum};

use crate::cli::console::Console;
use crate::cli::exit::Exit;

/// Print the completions for a shell
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync completions bash > ~/.local/share/bash-completion/completions/hostsync
  hostsync completions fish > ~/.config/fish/completions/hostsync.fish")]
pub(in crate::cli) struct CompletionsOptions {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(super) shell: Shell,
}

/// A shell that has completions.
#[expect(
    clippy::enum_variant_names,
    reason = "one shell has the word in its name"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    /// bash
    Bash,
    /// elvish
    Elvish,
    /// fish
    Fish,
    /// `PowerShell`
    #[value(name = "powershell")]
    PowerShell,
    /// zsh
    Zsh,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Elvish => Self::Elvish,
            Shell::Fish => Self::Fish,
            Shell::PowerShell => Self::PowerShell,
            Shell::Zsh => Self::Zsh,
        }
    }
}

/// Prints the script. `definition` is the clap command of the whole command line.
pub(super) fn run(
    options: &CompletionsOptions,
    definition: &mut clap::Command,
    console: &Console,
) -> Exit {
    console.data(&script(options.shell, definition));
    Exit::Done
}

/// The completions for a shell, as the text of its script.
pub(super) fn script(shell: Shell, definition: &mut clap::Command) -> Vec<u8> {
    let shell = clap_complete::Shell::from(shell);
    let mut script = Vec::new();
    clap_complete::generate(shell, definition, "hostsync", &mut script);
    script
}
