//! The embedded host, against the SSH library that hostsync uses and against OpenSSH.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hostsync::config::{Auth, Host as ConfigHost, Passkey};
use hostsync::model::{HostId, LocalPath};
use hostsync::transport::libssh2::Libssh2Connector;
use hostsync::transport::{
    Aborted, ConnectOptions, Connector as _, ExecIo, Flow as HostsyncFlow, Input, TransportError,
};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{self, ChannelOpenHandle, Handler, Msg};
use secrecy::SecretString;
use ssh2::{Channel, ErrorCode, Session};
use tempfile::TempDir;

use hostsync_testkit::embedded::{EmbeddedHost, HostOptions};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const USER: &str = "deploy";
const PASSWORD: &str = "open sesame";
/// What libssh2 calls "later, please".
const EAGAIN: ErrorCode = ErrorCode::Session(-37);

fn host() -> (TempDir, EmbeddedHost) {
    let folder = tempfile::tempdir().unwrap();
    let host = EmbeddedHost::start(LOOPBACK, folder.path(), HostOptions::new(USER, PASSWORD));
    (folder, host.unwrap())
}

fn connect(host: &EmbeddedHost) -> Session {
    connect_with_wire(host).0
}

/// The stream below the session comes along, for those who cut it.
fn connect_with_wire(host: &EmbeddedHost) -> (Session, TcpStream) {
    let wire = TcpStream::connect(host.address()).unwrap();
    let mut session = Session::new().unwrap();
    session.set_tcp_stream(wire.try_clone().unwrap());
    session.set_timeout(20_000);
    session.handshake().unwrap();
    (session, wire)
}

fn log_in_with_wire(host: &EmbeddedHost) -> (Session, TcpStream) {
    let (session, wire) = connect_with_wire(host);
    session.userauth_password(USER, PASSWORD).unwrap();
    (session, wire)
}

fn log_in(host: &EmbeddedHost) -> Session {
    let session = connect(host);
    session.userauth_password(USER, PASSWORD).unwrap();
    session
}

fn start(session: &Session, command: &str) -> Channel {
    let mut channel = session.channel_session().unwrap();
    channel.exec(command).unwrap();
    channel
}

fn run(session: &Session, command: &str) -> (String, i32) {
    let mut channel = start(session, command);
    let mut output = String::new();
    channel.read_to_string(&mut output).unwrap();
    channel.wait_close().unwrap();
    (output, channel.exit_status().unwrap())
}

/// The first line of output, which is a process id.
fn read_pid(channel: &mut Channel) -> i32 {
    let mut line = [0; 32];
    let count = channel.read(&mut line).unwrap();
    let line = std::str::from_utf8(&line[..count]).unwrap();
    line.trim().parse().unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes in which no block is like another, so that a lost or doubled one shows.
fn numbered_bytes(size_bytes: usize) -> Vec<u8> {
    (0_u64..)
        .flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(size_bytes)
        .collect()
}

#[test]
fn password_logs_in_and_a_wrong_one_does_not() {
    let (_folder, host) = host();
    let session = connect(&host);
    assert!(session.userauth_password(USER, "open barley").is_err());
    assert!(session.userauth_password("root", PASSWORD).is_err());
    session.userauth_password(USER, PASSWORD).unwrap();
    assert!(session.authenticated());
}

#[test]
fn host_key_is_the_one_it_announces() {
    let (_folder, host) = host();
    let session = connect(&host);
    let (key, _) = session.host_key().unwrap();
    let announced = host.public_key();
    let (kind, encoded) = announced.split_once(' ').unwrap();
    assert_eq!(kind, "ssh-ed25519");
    assert_eq!(
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, key),
        encoded
    );
    assert!(host.fingerprint().starts_with("SHA256:"));
}

#[test]
fn every_cipher_that_the_client_prefers_works() {
    let (_folder, host) = host();
    for cipher in ["aes128-ctr", "aes256-ctr", "aes256-gcm@openssh.com"] {
        for mac in ["hmac-sha2-256", "hmac-sha2-512"] {
            let mut session = Session::new().unwrap();
            session.set_tcp_stream(TcpStream::connect(host.address()).unwrap());
            for kind in [ssh2::MethodType::CryptCs, ssh2::MethodType::CryptSc] {
                session.method_pref(kind, cipher).unwrap();
            }
            for kind in [ssh2::MethodType::MacCs, ssh2::MethodType::MacSc] {
                session.method_pref(kind, mac).unwrap();
            }
            session.handshake().unwrap();
            session.userauth_password(USER, PASSWORD).unwrap();
            assert_eq!(run(&session, "echo hello"), ("hello\n".to_owned(), 0));
        }
    }
}

#[test]
fn command_starts_at_home_in_a_clean_environment() {
    let (_folder, host) = host();
    let home = host.home().to_str().unwrap();
    let session = log_in(&host);
    let (output, status) = run(
        &session,
        "pwd; echo \"$HOME $USER\"; env | cut -d= -f1 | sort",
    );
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some(home));
    assert_eq!(lines.next(), Some(&*format!("{home} {USER}")));
    let names: Vec<&str> = lines
        .filter(|name| !["PWD", "_", "OLDPWD", "SHLVL"].contains(name))
        .collect();
    assert_eq!(names, ["HOME", "LOGNAME", "PATH", "SHELL", "USER"]);
    assert_eq!(status, 0);
}

#[test]
fn commands_of_one_connection_have_their_own_statuses() {
    let (_folder, host) = host();
    let session = log_in(&host);
    for status in [0, 1, 77, 255] {
        assert_eq!(run(&session, &format!("exit {status}")).1, status);
    }
    assert_eq!(run(&session, "kill -TERM $$").1, 128 + 15);
}

#[test]
fn standard_error_is_kept_apart() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let mut channel = start(&session, "echo out; echo err >&2");
    let (mut output, mut errors) = (String::new(), String::new());
    channel.read_to_string(&mut output).unwrap();
    channel.stderr().read_to_string(&mut errors).unwrap();
    assert_eq!((&*output, &*errors), ("out\n", "err\n"));
}

#[test]
fn end_of_input_reaches_the_command() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let mut channel = start(&session, "cat; echo end");
    channel.write_all(b"one\ntwo\n").unwrap();
    channel.send_eof().unwrap();
    let mut output = String::new();
    channel.read_to_string(&mut output).unwrap();
    assert_eq!(output, "one\ntwo\nend\n");
}

#[test]
fn no_output_is_lost_at_the_end() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let block = numbered_bytes(3 * 1024 * 1024 + 7);
    fs::write(host.home().join("block"), &block).unwrap();
    for round in 0..5 {
        let mut channel = start(&session, "cat block; exit 3");
        let mut output = Vec::new();
        channel.read_to_end(&mut output).unwrap();
        channel.wait_close().unwrap();
        assert!(output == block, "round {round}: {} bytes", output.len());
        assert_eq!(channel.exit_status().unwrap(), 3);
    }
}

#[test]
fn no_input_is_lost_when_it_is_more_than_the_window() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let block = numbered_bytes(20 * 1024 * 1024 + 13);
    let mut channel = start(&session, "sleep 0.2; cat > copy");
    channel.write_all(&block).unwrap();
    channel.send_eof().unwrap();
    channel.wait_eof().unwrap();
    channel.wait_close().unwrap();
    assert_eq!(channel.exit_status().unwrap(), 0);
    assert!(fs::read(host.home().join("copy")).unwrap() == block);
}

#[test]
fn filter_that_answers_while_it_reads_does_not_deadlock() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let block = numbered_bytes(24 * 1024 * 1024);
    let mut channel = start(&session, "cat");
    session.set_blocking(false);
    let (mut written, mut output, mut ended) = (0, Vec::new(), false);
    let mut buffer = vec![0; 256 * 1024];
    let start = Instant::now();
    while !channel.eof() {
        assert!(start.elapsed() < Duration::from_secs(30), "stuck");
        // Writes for as long as it can before it reads: the greediest of clients.
        while written < block.len() {
            match channel.write(&block[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        if written == block.len() && !ended {
            match channel.send_eof() {
                Ok(()) => ended = true,
                Err(error) => assert_eq!(error.code(), EAGAIN),
            }
        }
        match channel.read(&mut buffer) {
            Ok(count) => output.extend_from_slice(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!(output == block, "{} bytes came back", output.len());
}

#[test]
fn client_is_slowed_down_by_a_command_that_does_not_read() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let mut channel = start(&session, "sleep 60");
    session.set_timeout(1_000);
    let chunk = vec![0; 1024 * 1024];
    let mut sent_mib = 0;
    while channel.write_all(&chunk).is_ok() {
        sent_mib += 1;
        assert!(sent_mib < 64, "nothing holds the client back");
    }
}

#[test]
fn input_that_nobody_reads_is_dropped() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let mut channel = start(&session, "exec <&-; sleep 0.5; echo done");
    channel.write_all(&vec![0; 12 * 1024 * 1024]).unwrap();
    let mut output = String::new();
    channel.read_to_string(&mut output).unwrap();
    assert_eq!(output, "done\n");
}

#[test]
fn cut_connection_kills_the_command_and_what_it_started() {
    let (_folder, host) = host();
    let (session, wire) = log_in_with_wire(&host);
    let mut channel = start(&session, "sleep 300 & echo $!; sleep 300");
    let pid = read_pid(&mut channel);
    assert!(is_running(pid));
    wire.shutdown(Shutdown::Both).unwrap();
    wait_until("the background process is killed", || !is_running(pid));
}

#[test]
fn cut_connection_kills_a_command_that_does_not_read() {
    let (_folder, host) = host();
    let (session, wire) = log_in_with_wire(&host);
    let mut channel = start(&session, "echo $$; exec sleep 300");
    let pid = read_pid(&mut channel);
    session.set_timeout(500);
    let unread = vec![0; 16 * 1024 * 1024];
    assert!(channel.write_all(&unread).is_err(), "nothing holds it back");
    assert!(is_running(pid));
    wire.shutdown(Shutdown::Both).unwrap();
    wait_until("the process is killed", || !is_running(pid));
}

#[test]
fn closed_channel_does_not_kill_its_command() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let mut channel = start(&session, "echo ready; sleep 0.5; touch done");
    channel.read_exact(&mut [0; 6]).unwrap();
    channel.close().unwrap();
    drop(session);
    let done = host.home().join("done");
    wait_until("the command has finished", || done.exists());
}

#[test]
fn stopping_the_host_kills_its_commands() {
    let (_folder, host) = host();
    let session = log_in(&host);
    let mut channel = start(&session, "echo $$; exec sleep 300");
    let pid = read_pid(&mut channel);
    assert!(is_running(pid));
    drop(host);
    wait_until("the process is killed", || !is_running(pid));
}

/// Whether a process is there and is more than an entry that its parent has yet to collect.
fn is_running(pid: i32) -> bool {
    let listing = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let state = String::from_utf8(listing.stdout).unwrap();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

#[test]
fn openssh_copies_a_folder_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("id");
    let keygen = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(keygen.success());
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let mut options = HostOptions::new(USER, PASSWORD);
    options.authorized_key = Some(fs::read_to_string(key.with_extension("pub")).unwrap());
    let host = EmbeddedHost::start(LOOPBACK, &home, options).unwrap();
    let known_hosts = folder.path().join("known_hosts");
    let address = host.address();
    fs::write(
        &known_hosts,
        format!(
            "[{}]:{} {}\n",
            address.ip(),
            address.port(),
            host.public_key()
        ),
    )
    .unwrap();

    let source = folder.path().join("source");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    fs::write(source.join("deep/er/with space"), numbered_bytes(5_000_001)).unwrap();
    fs::write(source.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(source.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    for number in 0..200 {
        fs::write(source.join(format!("deep/{number}")), number.to_string()).unwrap();
    }

    let scp = |from: &str, to: &Path| -> Output {
        Command::new("scp")
            .args(["-O", "-r", "-p", "-F", "none", "-o", "BatchMode=yes"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
            .arg("-i")
            .arg(&key)
            .arg("-P")
            .arg(address.port().to_string())
            .arg(from)
            .arg(to)
            .output()
            .unwrap()
    };
    let remote = format!("{USER}@{}:there", address.ip());
    let up = scp(source.to_str().unwrap(), Path::new(&remote));
    assert!(
        up.status.success(),
        "{}",
        String::from_utf8_lossy(&up.stderr)
    );
    let back = folder.path().join("back");
    let down = scp(&remote, &back);
    assert!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );

    for copy in [&home.join("there"), &back] {
        let compared = Command::new("diff")
            .arg("-r")
            .arg(&source)
            .arg(copy)
            .output()
            .unwrap();
        assert!(compared.status.success(), "{compared:?}");
        let mode = fs::metadata(copy.join("run.sh"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}

#[test]
fn hostsync_logs_in_with_a_key_or_a_password_and_runs_commands() {
    let folder = tempfile::tempdir().unwrap();
    let key = new_key(folder.path());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let options = HostOptions {
        authorized_key: Some(public),
        ..HostOptions::new(USER, PASSWORD)
    };
    let host = EmbeddedHost::start(LOOPBACK, folder.path(), options).unwrap();
    let by_key = Auth {
        identity_file: Some(LocalPath::new(&key)),
        passkey: None,
    };
    let by_password = Auth {
        identity_file: None,
        passkey: Some(Passkey::Literal(SecretString::from(PASSWORD))),
    };
    for auth in [by_key, by_password] {
        for _ in 0..10 {
            let output = echo(host.address().port(), &host.public_key(), auth.clone()).unwrap();
            assert_eq!(output, numbered_bytes(100_000));
        }
    }
}

#[test]
fn hostsync_enters_a_host_that_lets_everybody_in() {
    let folder = tempfile::tempdir().unwrap();
    let (runtime, port, public) = unlocked_host();
    let named = Auth {
        identity_file: Some(LocalPath::new(new_key(folder.path()))),
        passkey: None,
    };
    let passkey = Auth {
        identity_file: None,
        passkey: Some(Passkey::Command("exit 1".to_owned())),
    };
    for auth in [named, passkey, Auth::default()] {
        let output = echo(port, &public, auth).unwrap();
        assert_eq!(output, numbered_bytes(100_000));
    }
    runtime.shutdown_timeout(Duration::from_secs(2));
}

/// Makes a key.
fn new_key(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    path
}

/// Logs in as hostsync does and has some bytes echoed.
fn echo(port: u16, host_key: &str, auth: Auth) -> Result<Vec<u8>, TransportError> {
    let folder = tempfile::tempdir().unwrap();
    let known_hosts = folder.path().join("known_hosts");
    fs::write(&known_hosts, format!("[{LOOPBACK}]:{port} {host_key}\n")).unwrap();
    let host = ConfigHost {
        id: HostId::new("embedded"),
        address: LOOPBACK.to_string(),
        port,
        user: USER.to_owned(),
        auth,
        groups: Vec::new(),
        mappings: Vec::new(),
        problem: None,
        login_problem: None,
    };
    let mut session = Libssh2Connector::new(ConnectOptions::new(known_hosts)).connect(&host)?;
    let mut echo = Echo {
        input: Some(numbered_bytes(100_000)),
        output: Vec::new(),
    };
    session.exec("cat", &mut echo)?;
    session.close();
    Ok(echo.output)
}

struct Echo {
    input: Option<Vec<u8>>,
    output: Vec<u8>,
}

impl ExecIo for Echo {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        let Some(input) = self.input.take() else {
            return Ok(Input::End);
        };
        buffer.extend(input);
        Ok(Input::Ready)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<HostsyncFlow, Aborted> {
        self.output.extend_from_slice(bytes);
        Ok(HostsyncFlow::Continue)
    }
}

/// A server that asks for no credential at all and knows no key. It runs, its port and its key.
fn unlocked_host() -> (tokio::runtime::Runtime, u16, String) {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(
        &hostsync_testkit::embedded::random_bytes().unwrap(),
    ));
    let public = key.public_key().to_openssh().unwrap();
    let config = Arc::new(server::Config {
        keys: vec![key],
        auth_rejection_time: Duration::ZERO,
        ..server::Config::default()
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = tokio::net::TcpListener::bind((LOOPBACK, 0));
    let listener = runtime.block_on(listener).unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let config = Arc::clone(&config);
            tokio::spawn(async move {
                server::run_stream(config, stream, Unlocked).await?.await?;
                Ok::<(), russh::Error>(())
            });
        }
    });
    (runtime, port, public)
}

/// Lets everybody in and echoes what they say, whatever the command.
struct Unlocked;

impl Handler for Unlocked {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<server::Auth, Self::Error> {
        Ok(server::Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: russh::Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: russh::ChannelId,
        _command: &[u8],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn data(
        &mut self,
        channel: russh::ChannelId,
        data: &[u8],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        session.data(channel, data.to_vec())
    }

    async fn channel_eof(
        &mut self,
        channel: russh::ChannelId,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        session.eof(channel)?;
        session.close(channel)
    }
}
