//! Logging in.
//!
//! The order: the named identity file; the passkey, wherever it comes from; if neither is named, the
//! SSH agent and then the usual files in `~/.ssh`. Nobody is ever asked anything.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libssh2_sys as raw;
use secrecy::{ExposeSecret as _, SecretString};
use ssh2::{ErrorCode, KeyboardInteractivePrompt, Prompt};

use super::connection::{Deadline, Stop, Wire, is_disconnect, is_goodbye, reason_of};
use super::ssh::SshOptions;
use super::{TransportError, plain_reason};
use crate::config::{Host, Passkey};

/// The files in `~/.ssh` that are tried when nothing is named.
const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// How many keys of an agent are offered; sshd counts refusals and closes at six.
const AGENT_KEYS_OFFERED: usize = 3;

/// No private key is larger than this.
const KEY_FILE_BYTES: u64 = 64 * 1024;

/// What a passkey command may print before its first line ends.
const PASSKEY_BYTES: u64 = 64 * 1024;

/// Logs in on a connection whose host key was checked.
pub(super) fn login(
    wire: &Wire,
    host: &Host,
    options: &SshOptions,
    deadline: &Deadline,
) -> Result<(), TransportError> {
    let mut login = Login {
        wire,
        user: &host.user,
        deadline,
        offered: None,
        was_refused: false,
        tried: Vec::new(),
    };
    let identity = host.auth.identity_file.as_ref();
    let passkey = host.auth.passkey.as_ref();
    // Read before anything is asked of the host: a file that cannot be used is our own fault.
    let key = identity.map(|path| read_key(path.as_path())).transpose()?;
    if let Some((path, key)) = identity.zip(key)
        && login.by_named_key(path.as_path(), &key, options)?
    {
        return Ok(());
    }
    if let Some(passkey) = passkey
        && (login.ask_methods()? || login.by_passkey(passkey, options)?)
    {
        return Ok(());
    }
    if identity.is_none() && passkey.is_none() && login.by_whatever_there_is(options)? {
        return Ok(());
    }
    if login.ask_what_is_left()? {
        return Ok(());
    }
    Err(login.refused(host))
}

/// A login under way. The methods that try something say whether it let us in.
struct Login<'a> {
    wire: &'a Wire,
    user: &'a str,
    deadline: &'a Deadline,
    /// The methods that the host offers, once it was asked.
    offered: Option<Vec<String>>,
    /// Whether the host has said no to anything, so that it is there and speaks.
    was_refused: bool,
    /// What was tried, for people.
    tried: Vec<String>,
}

impl Login<'_> {
    /// Asks what the host offers; true when it lets everybody in. Keys are tried without asking,
    /// since that takes a round trip.
    fn ask_methods(&mut self) -> Result<bool, TransportError> {
        self.fetch_methods().map_err(|stop| self.stopped(stop))
    }

    /// As [`ask_methods`](Self::ask_methods), unless it was asked before. A host that has had
    /// enough of us says goodbye, which is a refusal, too.
    fn ask_what_is_left(&mut self) -> Result<bool, TransportError> {
        if self.offered.is_some() {
            return Ok(false);
        }
        self.fetch_methods().or_else(|stop| match stop {
            Stop::Failed(error)
                if !self.tried.is_empty() && (self.was_refused || is_goodbye(&error)) =>
            {
                Ok(false)
            }
            stop => Err(self.stopped(stop)),
        })
    }

    fn fetch_methods(&mut self) -> Result<bool, Stop> {
        let session = &self.wire.session;
        let methods = self.wire.log_in(self.deadline, false, || {
            match session.auth_methods(self.user) {
                Ok(methods) => Ok(methods.to_owned()),
                Err(_) if session.authenticated() => Ok(String::new()),
                Err(error) => Err(error),
            }
        })?;
        self.offered = Some(methods.split(',').map(str::to_owned).collect());
        Ok(session.authenticated())
    }

    fn is_offered(&self, method: &str) -> bool {
        let mut offered = self.offered.iter().flatten();
        offered.any(|offered| offered == method)
    }

    /// The identity file that the configuration names. One that is encrypted is looked for in the
    /// agent.
    fn by_named_key(
        &mut self,
        path: &Path,
        key: &PrivateKey,
        options: &SshOptions,
    ) -> Result<bool, TransportError> {
        match key {
            PrivateKey::Plain(text) => self.by_key(path, text),
            PrivateKey::Encrypted { public } => {
                if let (Some(public), Some(socket)) = (public, &options.agent_socket)
                    && let AgentAnswer::LoggedIn = self.by_agent(socket, Some(public.clone()))?
                {
                    return Ok(true);
                }
                if self.ask_methods()? {
                    return Ok(true);
                }
                Err(TransportError::Credential {
                    what: format!("key file {} is protected by a passphrase", path.display()),
                    cure: format!(
                        "add it to the SSH agent with `ssh-add {}`, or name a key without a \
                         passphrase as `identity_file`",
                        path.display()
                    ),
                })
            }
        }
    }

    fn by_key(&mut self, path: &Path, text: &SecretString) -> Result<bool, TransportError> {
        self.tried.push(format!("key {}", path.display()));
        let session = &self.wire.session;
        let public = openssh_container(text.expose_secret()).map(|container| container.public);
        let may_be_rsa = public.is_none_or(|public| is_rsa(&public));
        let outcome = self.wire.log_in_by_key(self.deadline, may_be_rsa, || {
            session.userauth_pubkey_memory(self.user, None, text.expose_secret(), None)
        });
        match outcome {
            Err(Stop::Failed(error))
                if error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_FILE) =>
            {
                Err(unusable_key(path, "it is of a kind that is not supported"))
            }
            outcome => self.judge(outcome),
        }
    }

    fn by_passkey(
        &mut self,
        passkey: &Passkey,
        options: &SshOptions,
    ) -> Result<bool, TransportError> {
        let by_password = self.is_offered("password");
        let by_questions = self.is_offered("keyboard-interactive");
        if !by_password && !by_questions {
            return Ok(false);
        }
        let password = self.password(passkey, options)?;
        let session = &self.wire.session;
        if by_password {
            self.tried.push("password".to_owned());
            let outcome = self.wire.log_in(self.deadline, false, || {
                session.userauth_password(self.user, password.expose_secret())
            });
            return self.judge(outcome);
        }
        self.tried
            .push("password, over keyboard-interactive".to_owned());
        let mut answers = OneAnswer {
            password: Some(password),
        };
        let outcome = self.wire.log_in(self.deadline, false, || {
            session.userauth_keyboard_interactive(self.user, &mut answers)
        });
        self.judge(outcome)
    }

    fn password(
        &self,
        passkey: &Passkey,
        options: &SshOptions,
    ) -> Result<SecretString, TransportError> {
        match passkey {
            Passkey::Literal(password) => Ok(password.clone()),
            Passkey::Env(name) => {
                (options.variables)(name).ok_or_else(|| TransportError::Credential {
                    what: format!("the environment variable `{name}` is not set"),
                    cure: "`passkey_env` names the variable that holds the password".to_owned(),
                })
            }
            Passkey::Command(command) => run_passkey_command(command, self.deadline),
        }
    }

    /// The agent's keys, then the usual files.
    fn by_whatever_there_is(&mut self, options: &SshOptions) -> Result<bool, TransportError> {
        if let Some(socket) = &options.agent_socket {
            match self.by_agent(socket, None)? {
                AgentAnswer::LoggedIn => return Ok(true),
                AgentAnswer::Refused(0) => {
                    self.tried.push("the SSH agent, which has no key".into());
                }
                AgentAnswer::Refused(1) => self.tried.push("1 key of the SSH agent".into()),
                AgentAnswer::Refused(count) => {
                    self.tried.push(format!("{count} keys of the SSH agent"));
                }
                AgentAnswer::Absent => {
                    self.tried
                        .push("the SSH agent, which does not answer".into());
                }
            }
        }
        let Some(home) = &options.home else {
            return Ok(false);
        };
        for name in USUAL_KEYS {
            let path = home.join(".ssh").join(name);
            if !path.exists() {
                continue;
            }
            match read_key(&path) {
                Ok(PrivateKey::Plain(text)) => match self.by_key(&path, &text) {
                    Ok(true) => return Ok(true),
                    Ok(false) => {}
                    // Nobody named this file, so it may be odd.
                    Err(TransportError::Credential { what, .. }) => self.tried.push(what),
                    Err(error) => return Err(error),
                },
                Ok(PrivateKey::Encrypted { .. }) => self.tried.push(format!(
                    "not key {}, which is protected by a passphrase",
                    path.display()
                )),
                Err(error) => self.tried.push(error.to_string()),
            }
        }
        Ok(false)
    }

    /// Offers keys of the agent: the one that is named, or the first few.
    fn by_agent(
        &self,
        socket: &Path,
        only: Option<Vec<u8>>,
    ) -> Result<AgentAnswer, TransportError> {
        // libssh2 waits for the agent without end, and an agent may ask its user: on a thread.
        let (wire, socket, user) = (self.wire.clone(), socket.to_owned(), self.user.to_owned());
        let deadline = *self.deadline;
        let answer = self
            .deadline
            .run(move || ask_agent(&wire, &socket, &user, only.as_deref(), &deadline))
            .unwrap_or(Err(Stop::Deadline));
        answer.map_err(|stop| self.stopped(stop))
    }

    /// Whether an attempt let us in; an error when the connection did not survive it.
    fn judge(&mut self, outcome: Result<(), Stop>) -> Result<bool, TransportError> {
        match outcome {
            Ok(()) => Ok(self.wire.session.authenticated()),
            Err(Stop::Failed(error)) if !is_disconnect(&error) => {
                self.was_refused |=
                    error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_AUTHENTICATION_FAILED);
                Ok(false)
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    fn stopped(&self, stop: Stop) -> TransportError {
        match stop {
            Stop::Deadline => self.deadline.exceeded("logging in"),
            Stop::Failed(error) => TransportError::Broken {
                during: format!("while logging in as `{}`", self.user),
                reason: reason_of(&error),
            },
        }
    }

    fn refused(self, host: &Host) -> TransportError {
        let offers = match &self.offered {
            Some(offered) => format!("the host offers {}; ", offered.join(", ")),
            None => String::new(),
        };
        let (tried, cure) = if self.tried.is_empty() {
            (
                "nothing to try".to_owned(),
                format!(
                    "{offers}give {} an `identity_file` or a `passkey`, or add \
                     a key to the SSH agent",
                    host.id
                ),
            )
        } else {
            (
                format!("tried {}", self.tried.join("; ")),
                format!(
                    "{offers}check `user`, `identity_file` and `passkey` of {}, \
                     and `authorized_keys` there",
                    host.id
                ),
            )
        };
        TransportError::LoginRefused {
            user: self.user.to_owned(),
            tried,
            cure,
        }
    }
}

/// Answers a single hidden question with the password, once.
struct OneAnswer {
    password: Option<SecretString>,
}

impl KeyboardInteractivePrompt for OneAnswer {
    fn prompt(
        &mut self,
        _username: &str,
        _instructions: &str,
        prompts: &[Prompt<'_>],
    ) -> Vec<String> {
        match prompts {
            [prompt] if !prompt.echo => self
                .password
                .take()
                .map(|password| password.expose_secret().to_owned())
                .into_iter()
                .collect(),
            // Whatever this asks, it is not for the password alone.
            _ => Vec::new(),
        }
    }
}

/// What came of asking the agent.
enum AgentAnswer {
    LoggedIn,
    /// So many keys were offered in vain.
    Refused(usize),
    /// Nobody answers at the socket.
    Absent,
}

fn ask_agent(
    wire: &Wire,
    socket: &Path,
    user: &str,
    only: Option<&[u8]>,
    deadline: &Deadline,
) -> Result<AgentAnswer, Stop> {
    let connect = || {
        let mut agent = wire.session.agent()?;
        agent.set_identity_path(socket)?;
        agent.connect()?;
        agent.list_identities()?;
        let identities = agent.identities()?;
        Ok::<_, ssh2::Error>((agent, identities))
    };
    let Ok((agent, identities)) = connect() else {
        return Ok(AgentAnswer::Absent);
    };
    let mut offered = 0;
    for identity in identities
        .iter()
        .filter(|identity| only.is_none_or(|only| only == identity.blob()))
        .take(AGENT_KEYS_OFFERED)
    {
        offered += 1;
        let attempt = || agent.userauth(user, identity);
        match wire.log_in_by_key(deadline, is_rsa(identity.blob()), attempt) {
            Ok(()) if wire.session.authenticated() => return Ok(AgentAnswer::LoggedIn),
            Err(Stop::Failed(error)) if is_disconnect(&error) => return Err(Stop::Failed(error)),
            Err(Stop::Deadline) => return Err(Stop::Deadline),
            // Refused by the host, or by the user of the agent.
            Ok(()) | Err(Stop::Failed(_)) => {}
        }
    }
    Ok(AgentAnswer::Refused(offered))
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

/// A key file, as far as we look into it.
enum PrivateKey {
    /// For libssh2 to understand.
    Plain(SecretString),
    /// Of no use without its passphrase; its public half, where that is known.
    Encrypted { public: Option<Vec<u8>> },
}

fn unusable_key(path: &Path, reason: &str) -> TransportError {
    TransportError::Credential {
        what: format!("cannot use key file {}: {reason}", path.display()),
        cure: "`identity_file` names a private key as `ssh-keygen` makes it".to_owned(),
    }
}

fn read_key(path: &Path) -> Result<PrivateKey, TransportError> {
    let text = read_small_file(path).map_err(|reason| unusable_key(path, &reason))?;
    let first_line = text.trim_start().lines().next().unwrap_or_default();
    if !first_line.starts_with("-----BEGIN ") || !first_line.contains("PRIVATE KEY") {
        let reason = if first_line.starts_with("ssh-") || first_line.starts_with("ecdsa-") {
            "it is the public half"
        } else {
            "it is not a private key"
        };
        return Err(unusable_key(path, reason));
    }
    let container = openssh_container(&text);
    let is_encrypted = match &container {
        Some(container) => container.is_encrypted,
        None => {
            first_line.contains("ENCRYPTED")
                || text.lines().any(|line| {
                    line.starts_with("Proc-Type:") && line.trim_end().ends_with("ENCRYPTED")
                })
        }
    };
    if !is_encrypted {
        return Ok(PrivateKey::Plain(SecretString::from(text)));
    }
    let public = match container {
        Some(container) => Some(container.public),
        None => public_half_of(path),
    };
    Ok(PrivateKey::Encrypted { public })
}

/// Reads a file that must be a regular one: a pipe would keep us waiting.
fn read_small_file(path: &Path) -> Result<String, String> {
    let plain = |error: io::Error| plain_reason(&error);
    if !std::fs::metadata(path).map_err(plain)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(KEY_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(plain)?;
    String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())
}

/// The public key that lies beside a private one.
fn public_half_of(path: &Path) -> Option<Vec<u8>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let text = read_small_file(&PathBuf::from(name)).ok()?;
    STANDARD.decode(text.split_whitespace().nth(1)?).ok()
}

/// Whether a public key is for RSA. How such a key may sign depends on what the host says of itself.
fn is_rsa(public: &[u8]) -> bool {
    take_string(&mut &*public).is_some_and(|kind| kind.starts_with(b"ssh-rsa"))
}

/// The readable part of a key in OpenSSH's own format.
struct OpensshContainer {
    is_encrypted: bool,
    public: Vec<u8>,
}

fn openssh_container(text: &str) -> Option<OpensshContainer> {
    let body = text
        .trim()
        .strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----")?
        .strip_suffix("-----END OPENSSH PRIVATE KEY-----")?;
    let body: String = body.split_whitespace().collect();
    let bytes = STANDARD.decode(body).ok()?;
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let cipher = take_string(&mut rest)?;
    let _key_derivation = take_string(&mut rest)?;
    let _its_options = take_string(&mut rest)?;
    let (_number_of_keys, mut rest) = rest.split_first_chunk::<4>()?;
    let public = take_string(&mut rest)?;
    Some(OpensshContainer {
        is_encrypted: cipher != b"none",
        public: public.to_vec(),
    })
}

/// Takes one length-prefixed string off the front.
fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(string)
}
