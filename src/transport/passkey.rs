//! The password of a host, wherever it comes from.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};

use secrecy::SecretString;

use super::deadline::Deadline;
use super::{TransportError, Variables, plain_reason};
use crate::config::Passkey;

/// What a passkey command may print before its first line ends.
const PASSKEY_BYTES: u64 = 64 * 1024;

/// The password that `passkey` stands for.
pub(super) fn password(
    passkey: &Passkey,
    variables: &Variables,
    deadline: &Deadline,
) -> Result<SecretString, TransportError> {
    match passkey {
        Passkey::Literal(password) => Ok(password.clone()),
        // In place of the name there may be the password itself, so it is not shown.
        Passkey::Env(name) => variables(name).ok_or_else(|| TransportError::Credential {
            what: "the environment variable that `passkey_env` names is not set".to_owned(),
            cure: "set it: it holds the password, and `passkey_env` holds its name".to_owned(),
        }),
        Passkey::Command(command) => run_passkey_command(command, deadline),
    }
}

/// The first line that the command prints. Its output is in no error: it may hold the secret.
fn run_passkey_command(command: &str, deadline: &Deadline) -> Result<SecretString, TransportError> {
    let failed = |why: String| TransportError::Credential {
        what: format!("`passkey_command` {why}"),
        cure: "run it by hand: it must print the password as its first line and end with status 0"
            .to_owned(),
    };
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, so that all of it can be ended.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {}", plain_reason(&error))))?;
    let group = rustix::process::Pid::from_child(&child);
    let output = child.stdout.take();
    let finished = deadline.run(move || {
        let mut printed = Vec::new();
        if let Some(output) = output {
            output.take(PASSKEY_BYTES).read_to_end(&mut printed)?;
        }
        Ok::<(Vec<u8>, ExitStatus), io::Error>((printed, child.wait()?))
    });
    let Some(result) = finished else {
        // It may have ended in this instant.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        return Err(deadline.exceeded("`passkey_command`"));
    };
    let (printed, status) =
        result.map_err(|error| failed(format!("cannot be read: {}", plain_reason(&error))))?;
    if !status.success() {
        return Err(failed(format!("failed with {status}")));
    }
    let line = printed.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok("") => Err(failed("printed no password".to_owned())),
        Ok(password) => Ok(SecretString::from(password)),
        Err(_) => Err(failed("printed something that is not text".to_owned())),
    }
}
