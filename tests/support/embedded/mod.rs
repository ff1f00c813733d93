//! A host inside this process: an SSH server that runs what it is asked to run, for real.
//!
//! [`EmbeddedHost`] has its own host key, one account and one folder, which is the home of that
//! account. Commands run under `/bin/sh` of this machine, so whatever they do, they do with the
//! rights of whoever started the process: the folder is where they begin, not a fence. It listens
//! on the address that it is given, which ought to be a loopback address.

mod command;
mod flow;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey, PublicKey, PublicKeyBase64 as _};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, MethodKind, MethodSet, Pty};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use command::{Command, Reply};
use flow::Flow;

/// Longest wait for connections and commands when a host is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Encrypted output that is under way to a client's socket.
const OUTGOING_BYTES: usize = 256 * 1024;

/// Who may log in, and where the host listens.
#[derive(Clone, Debug)]
pub(crate) struct HostOptions {
    /// The login name.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: String,
    /// A public key that is accepted as well, as a line of `authorized_keys`.
    pub(crate) authorized_key: Option<String>,
    /// The TCP port; 0 for any that is free.
    pub(crate) port: u16,
}

impl HostOptions {
    /// One account with a password, on any free port.
    pub(crate) fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
            authorized_key: None,
            port: 0,
        }
    }
}

/// An SSH server on a thread of its own. Dropping it ends its connections and kills its commands.
#[derive(Debug)]
pub(crate) struct EmbeddedHost {
    address: SocketAddr,
    home: PathBuf,
    key: PublicKey,
    runtime: Option<Runtime>,
}

impl EmbeddedHost {
    /// Starts a host with a new ed25519 key. It accepts connections as soon as this returns.
    ///
    /// # Errors
    /// When the address cannot be bound, the folder is not there or the authorized key is not one.
    pub(crate) fn start(
        address: IpAddr,
        home: impl Into<PathBuf>,
        options: HostOptions,
    ) -> io::Result<Self> {
        let home = home.into().canonicalize()?;
        let account = Account {
            authorized_key: options
                .authorized_key
                .as_deref()
                .map(PublicKey::from_openssh)
                .transpose()
                .map_err(io::Error::other)?,
            user: options.user,
            password: options.password,
            home: home.clone(),
        };
        let host_key = PrivateKey::from(Ed25519Keypair::from_seed(&random_bytes()?));
        let key = host_key.public_key().clone();
        let config = server_config(host_key, &account);

        // One worker feeds commands while the other encrypts.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("embedded-host")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((address, options.port)))?;
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener, Arc::new(config), Arc::new(account)));
        Ok(Self {
            address,
            home,
            key,
            runtime: Some(runtime),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The home folder of its account; absolute, without symbolic links.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The fingerprint of its key, as `ssh-keygen -l` prints it.
    pub(crate) fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Its key as `known_hosts` has it: `ssh-ed25519` and base64, without the name of the host.
    pub(crate) fn public_key(&self) -> String {
        format!("{} {}", self.key.algorithm(), self.key.public_key_base64())
    }
}

impl Drop for EmbeddedHost {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(STOP_TIMEOUT);
        }
    }
}

/// Thirty-two bytes that nobody can guess.
pub(crate) fn random_bytes() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The one account of a host.
struct Account {
    user: String,
    password: String,
    authorized_key: Option<PublicKey>,
    home: PathBuf,
}

impl Account {
    fn has_key(&self, user: &str, key: &PublicKey) -> bool {
        let known = self.authorized_key.as_ref();
        user == self.user && known.is_some_and(|known| known.key_data() == key.key_data())
    }
}

fn server_config(host_key: PrivateKey, account: &Account) -> Config {
    let mut methods = MethodSet::empty();
    if account.authorized_key.is_some() {
        methods.push(MethodKind::PublicKey);
    }
    methods.push(MethodKind::Password);
    Config {
        methods,
        keys: vec![host_key],
        // Nobody to protect from guessing, and tests that guess wrong ought to be quick.
        auth_rejection_time: Duration::ZERO,
        inactivity_timeout: None,
        ..Config::default()
    }
}

async fn accept(listener: TcpListener, config: Arc<Config>, account: Arc<Account>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&config), Arc::clone(&account)));
            }
            // Out of file descriptors, for instance: later ones may fare better.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(
    stream: TcpStream,
    config: Arc<Config>,
    account: Arc<Account>,
) -> Result<(), russh::Error> {
    stream.set_nodelay(true)?;
    let (incoming, to_client) = stream.into_split();
    let (from_server, outgoing) = tokio::io::simplex(OUTGOING_BYTES);
    let connection = Connection {
        account,
        flow: Arc::default(),
        commands: HashMap::new(),
    };
    let flow = Arc::clone(&connection.flow);
    // Ends with the session, which closes its end.
    tokio::spawn(async move { flow.forward(from_server, to_client).await });
    let stream = tokio::io::join(incoming, outgoing);
    russh::server::run_stream(config, stream, connection)
        .await?
        .await
}

/// One client that is connected. Dropping it kills the commands whose channels are still open.
struct Connection {
    account: Arc<Account>,
    flow: Arc<Flow>,
    commands: HashMap<ChannelId, Command>,
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        Ok(verdict(
            user == self.account.user && password == self.account.password,
        ))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(verdict(self.account.has_key(user, offer.public_key)))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(verdict(self.account.has_key(user, key.public_key)))
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // The channel is dropped: its data comes through the methods below.
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.commands.retain(|_, command| !command.has_ended());
        let reply = Reply::new(session.handle(), channel);
        let started = if self.commands.contains_key(&channel) {
            None
        } else {
            Command::start(&self.account, command, reply, &self.flow).ok()
        };
        let Some(started) = started else {
            return session.channel_failure(channel);
        };
        self.commands.insert(channel, started);
        session.channel_success(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(command) = self.commands.get(&channel) {
            command.feed(self.flow.queue(data));
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(command) = self.commands.get_mut(&channel) {
            command.end_input();
        }
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(command) = self.commands.remove(&channel) {
            command.abandon();
        }
        Ok(())
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}

fn verdict(accepted: bool) -> Auth {
    if accepted {
        Auth::Accept
    } else {
        Auth::reject()
    }
}
