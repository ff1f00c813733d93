//! A host inside this process: an SSH server that runs what it is asked to run, for real.
//!
//! [`EmbeddedHost`] has its own host key, one account and one folder, which is the home of that
//! account. Commands run under `/bin/sh` of this machine, so whatever they do, they do with the
//! rights of whoever started the process: the folder is where they begin, not a fence. It listens
//! on the address that it is given, which ought to be a loopback address.
//!
//! It may be faulty on purpose: see [`Fault`].

mod command;
mod fault;
mod flow;
mod line;

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey, PublicKey, PublicKeyBase64 as _};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, Limits, MethodKind, MethodSet, Pty};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use command::{Command, Reply, Surroundings};
#[allow(
    unused_imports,
    reason = "not all that includes this file has faulty hosts"
)]
pub use fault::{Direction, Fault, Moment, Pace, Stream, Then};
use fault::{End, Faults};
use flow::Flow;
use line::Line;

/// Longest wait for connections and commands when a host is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two bytes, or lines, that come now and then: in any time that matters many of them do.
const DRIP: Duration = Duration::from_millis(100);
/// Encrypted bytes between a client's socket and the SSH library, in each direction.
const LINE_BYTES: usize = 256 * 1024;

/// Who may log in, and where the host listens.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The login name.
    pub user: String,
    /// The password.
    pub password: String,
    /// A public key that is accepted as well, as a line of `authorized_keys`.
    pub authorized_key: Option<String>,
    /// The TCP port; 0 for any that is free.
    pub port: u16,
    /// What is wrong with it; nothing unless somebody says so.
    pub faults: Vec<Fault>,
}

impl HostOptions {
    /// One account with a password, on any free port.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
            authorized_key: None,
            port: 0,
            faults: Vec::new(),
        }
    }
}

/// An SSH server on a thread of its own. Dropping it ends its connections and kills its commands.
#[derive(Debug)]
pub struct EmbeddedHost {
    address: SocketAddr,
    home: PathBuf,
    key: PublicKey,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl EmbeddedHost {
    /// Starts a host with a new ed25519 key. It accepts connections as soon as this returns.
    ///
    /// # Errors
    /// When the address cannot be bound, the folder is not there or the authorized key is not one.
    pub fn start(
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
            tools: faulty_tools()?,
        };
        let host_key = PrivateKey::from(Ed25519Keypair::from_seed(&random_bytes()?));
        let key = host_key.public_key().clone();
        let shared = Arc::new(Shared {
            host_key,
            account: Arc::new(account),
            faults: Mutex::new(Arc::new(Faults::new(options.faults))),
            busy: watch::Sender::new(0),
        });

        // One worker feeds commands while the other encrypts.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("embedded-host")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((address, options.port)))?;
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            home,
            key,
            shared,
            runtime: Some(runtime),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The home folder of its account; absolute, without symbolic links.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The fingerprint of its key, as `ssh-keygen -l` prints it.
    #[allow(dead_code, reason = "not all that includes this file asks for it")]
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Its key as `known_hosts` has it: `ssh-ed25519` and base64, without the name of the host.
    pub fn public_key(&self) -> String {
        format!("{} {}", self.key.algorithm(), self.key.public_key_base64())
    }
}

#[allow(dead_code, reason = "not all that includes this file has faulty hosts")]
impl EmbeddedHost {
    /// From the next connection on, this is wrong with it, and nothing else.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        // It is there only where something was counted.
        let _ = fs::remove_file(self.shared.account.calls());
        *self.shared.faults_lock() = Arc::new(Faults::new(faults));
    }

    /// Whether it was cut off, has stalled or has died since the faults were set.
    pub fn has_failed(&self) -> bool {
        let faults = self.shared.faults();
        let dies_at = faults.find(|fault| match fault {
            Fault::DieAtCall { number } => Some(*number),
            _ => None,
        });
        faults.is_spent() || dies_at.is_some_and(|number| self.calls() >= number)
    }

    /// How often its commands changed entries of the file system since [`Fault::DieAtCall`] was set.
    pub fn calls(&self) -> u64 {
        fs::metadata(self.shared.account.calls()).map_or(0, |metadata| metadata.len())
    }

    /// Bytes of TCP payload that have passed since the faults were set.
    pub fn passed_bytes(&self, direction: Direction) -> u64 {
        self.shared.faults().passed_bytes(direction)
    }

    /// Waits until it has no connection and no command; says whether that came to be in time.
    pub fn wait_until_idle(&self, timeout: Duration) -> bool {
        let mut busy = self.shared.busy.subscribe();
        let idle = async {
            let idle = busy.wait_for(|count| *count == 0);
            tokio::time::timeout(timeout, idle).await.is_ok()
        };
        let runtime = self.runtime.as_ref();
        runtime.is_some_and(|runtime| runtime.block_on(idle))
    }
}

/// What all connections of a host share.
#[derive(Debug)]
struct Shared {
    host_key: PrivateKey,
    account: Arc<Account>,
    faults: Mutex<Arc<Faults>>,
    /// How many connections and commands there are.
    busy: watch::Sender<usize>,
}

impl Shared {
    fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults_lock())
    }

    fn faults_lock(&self) -> std::sync::MutexGuard<'_, Arc<Faults>> {
        // It is only ever replaced as a whole.
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something is under way until this is dropped.
struct Busy(Arc<Shared>);

impl Busy {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.busy.send_modify(|count| *count += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|count| *count -= 1);
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
///
/// # Errors
/// When the system gives none.
pub fn random_bytes() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Has perl count its calls that change entries, and die at one of them with all of its command.
const DYING_PERL: &str = r"
package Dying;
use strict;
sub call {
    open my $calls, '>>', $ENV{EMBEDDED_CALLS} or die;
    syswrite $calls, '.';
    kill 9, -getpgrp if -s $calls == $ENV{EMBEDDED_DIE_AT};
}
BEGIN {
    *CORE::GLOBAL::rename = sub ($$) { call(); CORE::rename($_[0], $_[1]) };
    *CORE::GLOBAL::link = sub ($$) { call(); CORE::link($_[0], $_[1]) };
    *CORE::GLOBAL::symlink = sub ($$) { call(); CORE::symlink($_[0], $_[1]) };
    *CORE::GLOBAL::unlink = sub (@) { call(); CORE::unlink(@_) };
    *CORE::GLOBAL::rmdir = sub ($) { call(); CORE::rmdir($_[0]) };
    *CORE::GLOBAL::mkdir = sub ($;$) { call(); CORE::mkdir($_[0], @_ > 1 ? $_[1] : 0777) };
    *CORE::GLOBAL::chmod = sub (@) { call(); CORE::chmod($_[0], @_[1 .. $#_]) };
}
1;
";

/// Answers a task as if it looked, and does not stop.
const ENDLESS_ANSWER: &str = r#"nonce=$(sed -n '/^hs_nonce=/{s///p;q}')
printf 'HOSTSYNC %s facts\nalgorithm=sha256\ntool=openssl\nuid=1\ngid=1\nscp=\ntar=\n' "$nonce"
printf 'HOSTSYNC %s listing full\nHOSTSYNC %s stat\n' "$nonce" "$nonce"
exec yes "$(printf %s "$EMBEDDED_ANSWER" | sed "s/NONCE/$nonce/")""#;

/// Programs that do not what their names say, in a folder for each sort of fault.
fn faulty_tools() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("faulty-tools-").tempdir()?;
    let install = |name: &str, script: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    };
    install("no-perl/perl", "exit 1")?;
    install("endless/perl", ENDLESS_ANSWER)?;
    for tool in ["b3sum", "openssl", "sha256sum", "shasum"] {
        // The last word is a file, or there is none and a known text comes on standard input.
        let lie = format!(
            "PATH=/usr/bin:/bin\nfor last; do :; done\n[ -e \"$last\" ] || exec {tool} \"$@\"\n\
             {tool} \"$@\" | sed 's/^0/1/; t\ns/^[0-9a-f]/0/'"
        );
        install(&format!("wrong-hash/{tool}"), &lie)?;
    }
    for tool in ["chmod", "cp", "ln", "mkdir", "mv", "rm", "rmdir", "touch"] {
        let count = format!(
            "printf . >>\"$EMBEDDED_CALLS\"\n\
             [ \"$(wc -c <\"$EMBEDDED_CALLS\")\" -ne \"$EMBEDDED_DIE_AT\" ] || kill -9 0\n\
             PATH=/usr/bin:/bin\nexec {tool} \"$@\""
        );
        install(&format!("dying/{tool}"), &count)?;
    }
    let dying = folder.path().join("dying");
    fs::write(dying.join("Dying.pm"), DYING_PERL)?;
    let perl = format!(
        "PATH=/usr/bin:/bin\nexec perl '-I{}' -MDying \"$@\"",
        dying.display()
    );
    install("dying/perl", &perl)?;
    Ok(folder)
}

/// The one account of a host.
#[derive(Debug)]
struct Account {
    user: String,
    password: String,
    authorized_key: Option<PublicKey>,
    home: PathBuf,
    /// Where [`faulty_tools`] are.
    tools: TempDir,
}

impl Account {
    /// Where its commands look for programs.
    fn search_path(&self, faults: &Faults) -> Option<OsString> {
        let folder_of = |fault: &Fault| match fault {
            Fault::NoPerl => Some("no-perl"),
            Fault::WrongHash => Some("wrong-hash"),
            Fault::DieAtCall { .. } => Some("dying"),
            Fault::EndlessAnswer { .. } => Some("endless"),
            _ => None,
        };
        let usual = env::var_os("PATH")?;
        let ours = faults
            .all(folder_of)
            .map(|name| self.tools.path().join(name));
        env::join_paths(ours.chain(env::split_paths(&usual))).ok()
    }

    /// Has a byte for each call that was counted.
    fn calls(&self) -> PathBuf {
        self.tools.path().join("calls")
    }

    fn has_key(&self, user: &str, key: &PublicKey) -> bool {
        let known = self.authorized_key.as_ref();
        user == self.user && known.is_some_and(|known| known.key_data() == key.key_data())
    }
}

fn server_config(shared: &Shared, faults: &Faults) -> Config {
    let mut methods = MethodSet::empty();
    if shared.account.authorized_key.is_some() {
        methods.push(MethodKind::PublicKey);
    }
    methods.push(MethodKind::Password);
    let mut config = Config {
        methods,
        keys: vec![shared.host_key.clone()],
        // Nobody to protect from guessing, and tests that guess wrong ought to be quick.
        auth_rejection_time: Duration::ZERO,
        inactivity_timeout: None,
        ..Config::default()
    };
    let window = faults.find(|fault| match fault {
        Fault::Window { size_bytes } => Some(*size_bytes),
        _ => None,
    });
    if let Some(size_bytes) = window {
        config.window_size = size_bytes;
        config.maximum_packet_size = size_bytes.div_ceil(2);
    }
    let rekey = faults.find(|fault| match fault {
        Fault::RekeyEvery { size_bytes } => Some(*size_bytes),
        _ => None,
    });
    if let Some(size_bytes) = rekey {
        config.limits = Limits::new(size_bytes, size_bytes, config.limits.rekey_time_limit);
    }
    config
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&shared), Busy::new(&shared)));
            }
            // Out of file descriptors, for instance: later ones may fare better.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, busy: Busy) -> Result<(), russh::Error> {
    let faults = shared.faults();
    let gone = faults.gone();
    if gone == Some(End::Cut) {
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let (near_end, mut far_end) = tokio::io::duplex(LINE_BYTES);
    let flow = Arc::<Flow>::default();
    let line = Line::new(Arc::clone(&faults), Arc::clone(&flow));
    // Ends with the session, which closes its end.
    tokio::spawn(async move {
        line.carry(stream, near_end).await;
        drop(busy);
    });
    if gone.is_some() || faults.has(&Fault::HangAt(Moment::Greeting)) {
        // Takes what comes, until the client has had enough.
        tokio::io::copy(&mut far_end, &mut tokio::io::sink()).await?;
        return Ok(());
    }
    let junk = faults.find(|fault| match fault {
        Fault::JunkGreeting(pace) => Some(*pace),
        _ => None,
    });
    if let Some(pace) = junk {
        return greet_with_junk(&mut far_end, pace).await;
    }
    let connection = Connection {
        account: Arc::clone(&shared.account),
        faults: Arc::clone(&faults),
        flow,
        commands: HashMap::new(),
        shared: Arc::clone(&shared),
    };
    let config = Arc::new(server_config(&shared, &faults));
    russh::server::run_stream(config, far_end, connection)
        .await?
        .await
}

/// Greets without end, and never as a server would, until the client has had enough.
async fn greet_with_junk(client: &mut DuplexStream, pace: Pace) -> Result<(), russh::Error> {
    let line = b"welcome to this host, which is not what you think it is\r\n";
    loop {
        match pace {
            Pace::Flood => client.write_all(&line.repeat(1000)).await?,
            Pace::Drip => {
                client.write_all(line).await?;
                tokio::time::sleep(DRIP).await;
            }
        }
    }
}

/// Never answers.
async fn hang() {
    std::future::pending::<()>().await;
}

/// One client that is connected. Dropping it kills the commands whose channels are still open.
struct Connection {
    account: Arc<Account>,
    faults: Arc<Faults>,
    flow: Arc<Flow>,
    commands: HashMap<ChannelId, Command>,
    shared: Arc<Shared>,
}

impl Connection {
    /// Falls silent if this is the moment to do so.
    async fn hang_at(&self, moment: Moment) {
        if self.faults.has(&Fault::HangAt(moment)) {
            hang().await;
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.hang_at(Moment::Login).await;
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
        self.hang_at(Moment::Channel).await;
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
        self.hang_at(Moment::Command).await;
        self.commands.retain(|_, command| !command.has_ended());
        let reply = Reply::new(session.handle(), channel);
        let started = if self.commands.contains_key(&channel) {
            None
        } else {
            let surroundings = Surroundings {
                flow: Arc::clone(&self.flow),
                faults: Arc::clone(&self.faults),
                busy: Busy::new(&self.shared),
            };
            Command::start(&self.account, command, reply, surroundings).ok()
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
