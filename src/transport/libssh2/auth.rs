//! Logging in.
//!
//! The order: the named identity file; the passkey, wherever it comes from; if neither is named, the
//! SSH agent and then the usual files in `~/.ssh`. Nobody is ever asked anything.

use std::path::Path;

use libssh2_sys as raw;
use secrecy::{ExposeSecret as _, SecretString};
use ssh2::{ErrorCode, KeyboardInteractivePrompt, Prompt};

use super::connection::Wire;
use super::error::{CallError, is_disconnect, is_goodbye, reason_of};
use super::key_file::{self, PrivateKey};
use crate::config::{Host, Passkey};
use crate::transport::deadline::Deadline;
use crate::transport::{ConnectOptions, TransportError, passkey};

/// The files in `~/.ssh` that are tried when nothing is named.
const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// How many keys of an agent are offered; sshd counts refusals and closes at six.
const AGENT_KEYS_OFFERED: usize = 3;

/// Logs in on a connection whose host key was checked.
pub(super) fn login(
    wire: &Wire,
    host: &Host,
    options: &ConnectOptions,
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
    let key = identity
        .map(|path| key_file::read(path.as_path()))
        .transpose()?;
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
        self.fetch_methods().map_err(|error| self.stopped(error))
    }

    /// As [`ask_methods`](Self::ask_methods), unless it was asked before. A host that has had
    /// enough of us says goodbye, which is a refusal, too.
    fn ask_what_is_left(&mut self) -> Result<bool, TransportError> {
        if self.offered.is_some() {
            return Ok(false);
        }
        self.fetch_methods().or_else(|error| match error {
            CallError::Failed(error)
                if !self.tried.is_empty() && (self.was_refused || is_goodbye(&error)) =>
            {
                Ok(false)
            }
            error => Err(self.stopped(error)),
        })
    }

    fn fetch_methods(&mut self) -> Result<bool, CallError> {
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
        options: &ConnectOptions,
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
        let may_be_rsa = key_file::may_be_rsa(text.expose_secret());
        let outcome = self.wire.log_in_by_key(self.deadline, may_be_rsa, || {
            session.userauth_pubkey_memory(self.user, None, text.expose_secret(), None)
        });
        match outcome {
            Err(CallError::Failed(error))
                if error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_FILE) =>
            {
                Err(key_file::unusable(
                    path,
                    "it is of a kind that is not supported",
                ))
            }
            outcome => self.judge(outcome),
        }
    }

    fn by_passkey(
        &mut self,
        passkey: &Passkey,
        options: &ConnectOptions,
    ) -> Result<bool, TransportError> {
        let by_password = self.is_offered("password");
        let by_questions = self.is_offered("keyboard-interactive");
        if !by_password && !by_questions {
            return Ok(false);
        }
        let password = passkey::password(passkey, &options.variables, self.deadline)?;
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

    /// The agent's keys, then the usual files.
    fn by_whatever_there_is(&mut self, options: &ConnectOptions) -> Result<bool, TransportError> {
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
            match key_file::read(&path) {
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
            .unwrap_or(Err(CallError::Deadline));
        answer.map_err(|error| self.stopped(error))
    }

    /// Whether an attempt let us in; an error when the connection did not survive it.
    fn judge(&mut self, outcome: Result<(), CallError>) -> Result<bool, TransportError> {
        match outcome {
            Ok(()) => Ok(self.wire.session.authenticated()),
            Err(CallError::Failed(error)) if !is_disconnect(&error) => {
                self.was_refused |=
                    error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_AUTHENTICATION_FAILED);
                Ok(false)
            }
            Err(error) => Err(self.stopped(error)),
        }
    }

    fn stopped(&self, error: CallError) -> TransportError {
        match error {
            CallError::Deadline => self.deadline.exceeded("logging in"),
            CallError::Failed(error) => TransportError::Broken {
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
) -> Result<AgentAnswer, CallError> {
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
        match wire.log_in_by_key(deadline, key_file::is_rsa(identity.blob()), attempt) {
            Ok(()) if wire.session.authenticated() => return Ok(AgentAnswer::LoggedIn),
            Err(CallError::Failed(error)) if is_disconnect(&error) => {
                return Err(CallError::Failed(error));
            }
            Err(CallError::Deadline) => return Err(CallError::Deadline),
            // Refused by the host, or by the user of the agent.
            Ok(()) | Err(CallError::Failed(_)) => {}
        }
    }
    Ok(AgentAnswer::Refused(offered))
}
