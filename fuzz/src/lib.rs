//! What the fuzz targets share. `tests/fuzz.sh` builds and runs them; each file of `src/bin` is one.
//!
//! Built without `--cfg fuzzing`, a target is a program that runs the files that it is given: so a
//! crash can be looked at without the engine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostsync::config::{self, ConfigError, Environment, MigrateError};
use hostsync::model::RemotePath;
use hostsync::remote::Login;
use hostsync::transport::{ExecIo, ExecOutcome, Flow, Input, Session, TransportError};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

#[cfg(fuzzing)]
#[link(name = "fuzzer", kind = "static")]
#[link(name = "stdc++")]
unsafe extern "C" {}

/// Makes a target of a function that takes the bytes to try. A panic in it is what is looked for.
#[macro_export]
macro_rules! target {
    ($function:path) => {
        /// What libFuzzer calls. A panic cannot leave it, so it ends the process.
        #[cfg(fuzzing)]
        #[expect(non_snake_case, reason = "libFuzzer wants it so")]
        #[unsafe(no_mangle)]
        extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
            let bytes = if size == 0 {
                &[]
            } else {
                // SAFETY: libFuzzer passes `size` bytes that nobody changes during the call.
                unsafe { ::std::slice::from_raw_parts(data, size) }
            };
            $function(bytes);
            0
        }

        #[cfg(not(fuzzing))]
        fn main() -> ::std::io::Result<()> {
            for path in ::std::env::args_os().skip(1) {
                $function(&::std::fs::read(path)?);
            }
            Ok(())
        }
    };
}

/// Where the files of the targets are said to be. Nothing is there.
const FOLDER: &str = "/nonexistent/hostsync-fuzz";

/// Loads a configuration whose files have these contents, and holds it against what has to be true of
/// every configuration. `files` are names with contents, the main file first.
pub fn load_configuration(files: &[(&str, &[u8])]) {
    let environment = Environment {
        home: Some(PathBuf::from("/nonexistent/home")),
        current_dir: PathBuf::from(FOLDER),
    };
    let read = |path: &Path| {
        files
            .iter()
            .find(|(name, _)| path == Path::new(FOLDER).join(name))
            .map(|(_, content)| content.to_vec())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let size_bytes = files.iter().map(|(_, content)| content.len()).sum();
    let main = Path::new(files[0].0);
    match config::load_with(main, &environment, &read) {
        Ok(loaded) => {
            for remark in &loaded.remarks {
                is_harmless(&remark.to_string());
            }
            let digest = config::config_digest(&loaded.config);
            if main.extension().is_some_and(|form| form == "toml") {
                return;
            }
            match config::migrate(main, &environment, &read) {
                Ok(migration) => {
                    assert_eq!(config::config_digest(&migration.config), digest);
                }
                // A host without a mapper file.
                Err(MigrateError::UnknownMappings { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        Err(error) => is_well_said(&error, size_bytes),
    }
}

/// Fails unless an error can be shown on a terminal, and is not longer than what it is about.
fn is_well_said(error: &ConfigError, size_bytes: usize) {
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut text, error as &dyn Diagnostic)
        .expect("a string takes everything");
    is_harmless(&text);
    let issues = match error {
        ConfigError::Invalid { issues, .. } => issues.len(),
        _ => 0,
    };
    // An issue shows at most three lines of its file, and each of its labels says a line or two.
    let limit = 4096 + (issues + 1) * (4096 + 16 * size_bytes);
    assert!(text.len() <= limit, "{} bytes: {text}", text.len());
}

/// Fails where a text would act on a terminal.
pub fn is_harmless(text: &str) {
    let found = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(found, None, "in {text:?}");
}

/// What a host says, for whatever it is asked: a login on which every command answers these bytes. In them
/// `NONCE` stands for the nonce of the task, which nobody can know beforehand.
///
/// The first byte tells in pieces of how many bytes they arrive.
#[must_use]
pub fn login_with_answer(answer: &[u8]) -> Login {
    let (piece, answer) = answer.split_first().unwrap_or((&0, answer));
    Login::new(Box::new(Replay {
        answer: answer.to_vec(),
        piece_bytes: match piece {
            b'0'..=b'9' => usize::from(piece - b'0') + 1,
            _ => 32 * 1024,
        },
    }))
}

/// A session on which every command says the same.
struct Replay {
    answer: Vec<u8>,
    piece_bytes: usize,
}

impl Session for Replay {
    fn exec(&mut self, _: &str, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        self.resume(io)
    }

    fn resume(&mut self, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        let mut input = Vec::new();
        take_input(io, &mut input)?;
        let nonce = nonce_in(&input);
        let answer = replaced(&self.answer, b"NONCE", &nonce);
        let outcome = ExecOutcome {
            stderr: answer[..answer.len().min(4096)].to_vec(),
            exit_status: None,
        };
        for bytes in answer.chunks(self.piece_bytes) {
            let flow = io.output(bytes)?;
            assert!(io.time_limit().is_some_and(|limit| limit < MONTH));
            if flow != Flow::Continue {
                break;
            }
            take_input(io, &mut Vec::new())?;
        }
        Ok(outcome)
    }

    fn close(self: Box<Self>) {}
}

/// No task of a target is given that long, whatever a host says.
const MONTH: Duration = Duration::from_hours(30 * 24);

/// Takes all input that there is now.
fn take_input(io: &mut dyn ExecIo, input: &mut Vec<u8>) -> Result<(), TransportError> {
    let mut buffer = Vec::new();
    while io.next_input(&mut buffer)? == Input::Ready {
        io.sent(buffer.len());
        input.append(&mut buffer);
    }
    Ok(())
}

/// The nonce of the task that a command is asked to do.
fn nonce_in(input: &[u8]) -> Vec<u8> {
    let name = b"\nhs_nonce=";
    let at = input.windows(name.len()).position(|bytes| bytes == name);
    let at = at.expect("a task has a nonce") + name.len();
    input[at..]
        .iter()
        .copied()
        .take_while(|byte| *byte != b'\n')
        .collect()
}

fn replaced(bytes: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let (mut result, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(what.len()).position(|bytes| bytes == what) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(by);
        rest = &rest[at + what.len()..];
    }
    result.extend_from_slice(rest);
    result
}

/// A path on a host.
#[must_use]
pub fn remote(path: &str) -> RemotePath {
    RemotePath::from_dest(path.as_bytes())
}

/// Fails unless what was said of a host can be shown, and is no longer than a few lines.
pub fn is_short(error: &impl std::error::Error) {
    let text = error.to_string();
    is_harmless(&text);
    assert!(text.len() <= 4096, "{} bytes: {text}", text.len());
}
