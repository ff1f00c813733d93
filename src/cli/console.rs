//! What goes to the terminal: data to standard output, everything else to standard error.

use std::env;
use std::io::{self, BufRead as _, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use miette::{GraphicalReportHandler, GraphicalTheme, Report};

use super::error::CommandError;
use super::exit::Exit;
use super::options::{GlobalOptions, ProgressChoice, Verbosity};
use crate::view::progress::{self, Progress, ProgressMode};
use crate::view::terminal::{ColorChoice, ColorEnv, use_color};

/// Columns of text that goes somewhere else than to a terminal.
const PIPED_WIDTH: usize = 100;
/// Widest text, however wide the terminal is.
const MAX_WIDTH: usize = 120;

/// A terminal that goes tells those who read it, and then by a signal.
const SIGNAL_COMES_WITHIN: Duration = Duration::from_millis(500);

/// The two streams, and how they are written to.
pub(super) struct Console {
    out: OutputStream,
    err: OutputStream,
    verbosity: Verbosity,
    automation: bool,
    lost_output: Arc<AtomicBool>,
}

/// What is known of a stream.
struct OutputStream {
    color: bool,
    width: usize,
    /// Whether it is a terminal on which the cursor can be moved.
    can_redraw: bool,
}

impl OutputStream {
    fn new(stream: &(impl AsFd + IsTerminal), choice: ColorChoice, env: &ColorEnv) -> Self {
        let is_terminal = stream.is_terminal();
        Self {
            color: use_color(choice, env, is_terminal),
            width: width(stream),
            can_redraw: is_terminal && env.term.as_deref() != Some("dumb"),
        }
    }
}

fn color_env() -> ColorEnv {
    ColorEnv {
        no_color: env::var("NO_COLOR").ok(),
        clicolor_force: env::var("CLICOLOR_FORCE").ok(),
        term: env::var("TERM").ok(),
    }
}

/// Columns of the terminal behind a stream.
fn width(stream: &impl AsFd) -> usize {
    let columns = rustix::termios::tcgetwinsize(stream)
        .ok()
        .map(|size| usize::from(size.ws_col));
    match columns {
        // A terminal that does not know its size.
        Some(0) => 80,
        Some(columns) => columns.clamp(40, MAX_WIDTH),
        None => PIPED_WIDTH,
    }
}

impl Console {
    pub(super) fn new(options: &GlobalOptions) -> Self {
        Self::with(options.color, options.verbosity())
    }

    /// Before the command line is understood.
    pub(super) fn for_usage() -> Self {
        Self::with(ColorChoice::Auto, Verbosity::Normal)
    }

    fn with(choice: ColorChoice, verbosity: Verbosity) -> Self {
        let env = color_env();
        Self {
            out: OutputStream::new(&io::stdout(), choice, &env),
            err: OutputStream::new(&io::stderr(), choice, &env),
            verbosity,
            automation: env::var_os("HOSTSYNC_IN_AUTOMATION")
                .is_some_and(|value| !value.is_empty()),
            lost_output: Arc::default(),
        }
    }

    /// Whether standard output is coloured.
    pub(super) fn color(&self) -> bool {
        self.out.color
    }

    /// Columns of standard output.
    pub(super) fn width(&self) -> usize {
        self.out.width
    }

    /// Whether hints for people are out of place.
    pub(super) fn is_automation(&self) -> bool {
        self.automation
    }

    /// The display of progress on standard error.
    pub(super) fn progress(&self, choice: ProgressChoice) -> Progress {
        let rows =
            rustix::termios::tcgetwinsize(io::stderr()).map_or(24, |size| size.ws_row.into());
        let mode = match choice {
            _ if self.verbosity == Verbosity::Quiet => ProgressMode::None,
            ProgressChoice::None => ProgressMode::None,
            ProgressChoice::Bars => ProgressMode::Bars,
            // Bars and the lines of the log would be in each other's way.
            ProgressChoice::Auto if self.err.can_redraw && !self.is_verbose() => ProgressMode::Bars,
            ProgressChoice::Auto | ProgressChoice::Plain => ProgressMode::Plain,
        };
        progress::observer(mode, rows)
    }

    /// Whether people want to know more than usual.
    pub(super) fn is_verbose(&self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// The end of a run that ends with `exit` if all of its output was written. Lost output is a failure,
    /// unless the reader closed the pipe.
    pub(super) fn exit_after_output(&self, exit: Exit) -> Exit {
        if self.lost_output.load(Ordering::Relaxed) {
            exit.and(Exit::Failed)
        } else {
            exit
        }
    }

    /// Writes data to standard output.
    pub(super) fn data(&self, bytes: &[u8]) {
        write_data(bytes, &self.lost_output);
    }

    /// Writes data to standard output from any thread, as long as the run lasts.
    pub(super) fn data_sink(&self) -> impl FnMut(&[u8]) + Send + 'static {
        let lost_output = Arc::clone(&self.lost_output);
        move |bytes| write_data(bytes, &lost_output)
    }

    /// How progress is shown while data comes line by line: bars on the same terminal would be torn.
    pub(super) fn progress_beside_data(&self, choice: ProgressChoice) -> ProgressChoice {
        match choice {
            ProgressChoice::Auto if self.out.can_redraw => ProgressChoice::Plain,
            choice => choice,
        }
    }

    /// A line for people, on standard error; not with `--quiet`.
    pub(super) fn say(&self, line: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.note(line);
        }
    }

    /// A line for people, on standard error; with `--verbose` alone.
    pub(super) fn detail(&self, line: &str) {
        if self.verbosity >= Verbosity::Verbose {
            self.note(line);
        }
    }

    /// A line on standard error, whatever `--quiet` says. One that cannot be written is lost: there is
    /// nowhere left to say so.
    #[expect(
        clippy::unused_self,
        reason = "what goes to the streams goes through the console"
    )]
    pub(super) fn note(&self, line: &str) {
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Makes sure that somebody is there to be asked.
    ///
    /// # Errors
    /// When nobody is; `help` says what to do then.
    pub(super) fn require_person(help: &str) -> Result<(), CommandError> {
        if io::stdin().is_terminal() {
            return Ok(());
        }
        let text = "there is nobody to ask: standard input is not a terminal";
        Err(CommandError::message(text, help))
    }

    /// Asks, and waits for the answer. Only `yes` is yes.
    #[expect(
        clippy::unused_self,
        reason = "what goes to the streams goes through the console"
    )]
    pub(super) fn confirms(&self, question: &str) -> bool {
        let _ = io::stderr().write_all(question.as_bytes());
        let mut answer = String::new();
        let is_read = io::stdin().lock().read_line(&mut answer).is_ok();
        if answer.is_empty() {
            // The terminal may be gone. That comes as a signal, too, which ends the run in its own way.
            thread::sleep(SIGNAL_COMES_WITHIN);
        }
        is_read && answer.trim() == "yes"
    }

    /// An error with its place and its cure.
    pub(super) fn error(&self, report: &Report) {
        let theme = if self.err.color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(self.err.width)
            // Names of ciphers and paths are to be copied as they are.
            .with_word_splitter(textwrap::WordSplitter::NoHyphenation)
            .with_links(false);
        let mut text = String::new();
        if handler.render_report(&mut text, report.as_ref()).is_err() {
            text = format!("error: {report}\n");
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// What the parser of the command line has to say: help on standard output, errors on standard error.
    pub(super) fn show_usage(&self, error: &clap::Error) {
        let text = error.render().ansi().to_string();
        if error.use_stderr() {
            let _ = io::stderr().write_all(plain_unless(self.err.color, &text).as_bytes());
        } else {
            self.data(plain_unless(self.out.color, &text).as_bytes());
        }
    }
}

/// Writes data to standard output at once, and notes whether it was lost.
fn write_data(bytes: &[u8], lost_output: &AtomicBool) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
        && !lost_output.swap(true, Ordering::Relaxed)
    {
        let _ = writeln!(
            io::stderr(),
            "error: cannot write to standard output: {error}"
        );
    }
}

fn plain_unless(color: bool, text: &str) -> String {
    if color {
        text.to_owned()
    } else {
        anstream::adapter::strip_str(text).to_string()
    }
}
