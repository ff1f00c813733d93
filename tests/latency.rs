//! The proxy that tests and measurements use for long lines, and how often hostsync waits for one.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hostsync::config::Host as ConfigHost;
use hostsync::transport::libssh2::Libssh2Connector;
use hostsync::transport::{Aborted, ConnectOptions, Connector as _, ExecIo, Flow, Input, Session};

use hostsync_testkit::latency::LatencyProxy;
use hostsync_testkit::{Agent, Dropbear, Host, Sshd};

const ONE_WAY: Duration = Duration::from_millis(40);

#[test]
fn round_trip_takes_twice_the_delay() {
    let proxy = proxy_to(serve(echo));
    let mut client = connect(&proxy);
    let started = Instant::now();
    client.write_all(b"ping").expect("it listens");
    let mut answer = [0; 4];
    client.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"ping");
    assert!(started.elapsed() >= ONE_WAY * 2, "{:?}", started.elapsed());
}

#[test]
fn all_bytes_come_back_in_order_and_then_the_end() {
    let proxy = proxy_to(serve(echo));
    let client = connect(&proxy);
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let sending = send_all(&client, sent.clone());
    assert!(read_all(&client) == sent);
    assert_eq!(proxy.carried_bytes(), 2 * sent.len() as u64);
    sending.join().expect("all is sent");
}

#[test]
fn many_bytes_are_on_the_way_at_once() {
    let proxy = proxy_to(serve(echo));
    let client = connect(&proxy);
    let started = Instant::now();
    // 200 chunks that waited for each other would take 16 seconds.
    let sending = send_all(&client, vec![7; 200 << 16]);
    assert_eq!(read_all(&client).len(), 200 << 16);
    sending.join().expect("all is sent");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn connections_do_not_wait_for_each_other() {
    let proxy = proxy_to(serve(echo));
    let started = Instant::now();
    let clients: Vec<_> = (0..50_u8)
        .map(|number| (number, connect(&proxy)))
        .map(|(number, client)| thread::spawn(move || assert_echo(&client, number)))
        .collect();
    for client in clients {
        client.join().expect("its own byte comes back");
    }
    // One after the other they would take four seconds.
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn client_is_let_go_when_the_server_goes() {
    let proxy = proxy_to(serve(drop));
    let client = connect(&proxy);
    assert!(read_all(&client).is_empty());
}

#[test]
fn cut_ends_connections_and_others_may_follow() {
    let proxy = proxy_to(serve(echo));
    let mut client = connect(&proxy);
    client.write_all(b"ping").expect("it listens");
    client.read_exact(&mut [0; 4]).expect("it answers");
    proxy.cut();
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    assert_echo(&connect(&proxy), 7);
}

#[test]
fn nothing_is_accepted_after_the_drop() {
    let proxy = proxy_to(serve(echo));
    let address = proxy.address();
    drop(proxy);
    assert!(TcpStream::connect(address).is_err());
}

/// One way of a line that is long beside all that servers have to do, even on a busy machine.
const LONG_WAY: Duration = Duration::from_millis(400);

#[test]
fn login_with_a_named_key_and_an_answered_command_take_twelve_trips() {
    let host = Sshd::start("127.0.0.131");
    let line = Line::to(&host);
    // There and back: greetings; key exchange; the key, behind the request for the service; its
    // signature, with the channel behind it; the command; its input, for which the host makes room
    // only then.
    assert_trips(12, || line.ask_once(line.options()));
}

#[test]
fn login_with_a_key_of_the_agent_takes_no_more() {
    let host = Sshd::start("127.0.0.132");
    let agent = Agent::start();
    agent.add(&host.identity_file());
    let mut line = Line::to(&host);
    line.config.auth.identity_file = None;
    let options = ConnectOptions {
        agent_socket: Some(agent.socket()),
        ..line.options()
    };
    assert_trips(12, || line.ask_once(options));
}

#[test]
fn input_is_sent_behind_the_command_where_the_host_has_room_for_it() {
    let host = Dropbear::start("127.0.0.133");
    let line = Line::to(&host);
    // The greeting, which comes with all that is needed for the key exchange. There and back: key
    // exchange; key; signature; channel, which must not come too early; command and input.
    assert_trips(11, || line.ask_once(line.options()));
}

#[test]
fn farewells_are_left_to_the_next_command() {
    let host = Sshd::start("127.0.0.134");
    let line = Line::to(&host);
    let mut session = line.log_in(line.options());
    let ask = |session: &mut dyn Session| {
        session
            .exec(ANSWER, &mut LookRequest::default())
            .expect("runs");
    };
    // The channel is there already.
    assert_trips(4, || ask(&mut *session));
    // Until the end of the first has come.
    std::thread::sleep(LONG_WAY * 3);
    assert_trips(6, || ask(&mut *session));
    assert_trips(0, || session.close());
}

#[test]
fn input_after_a_pause_takes_one_round_trip() {
    let host = Sshd::start("127.0.0.135");
    let line = Line::to(&host);
    let mut session = line.log_in(line.options());
    let mut pausing = LookRequest {
        then: Some(Flow::Pause),
        ..LookRequest::default()
    };
    assert_trips(4, || {
        session.exec("cat", &mut pausing).expect("pauses");
    });
    assert_trips(2, || {
        session
            .resume(&mut LookRequest::default())
            .expect("goes on");
    });
}

/// Reads a line and says something, then stays for a while.
const ANSWER: &str = "read line; echo \"got $line\"; sleep 0.1";

/// Sends a line and is content with whatever comes back.
#[derive(Default)]
struct LookRequest {
    is_sent: bool,
    answer: Vec<u8>,
    then: Option<Flow>,
}

impl ExecIo for LookRequest {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if std::mem::replace(&mut self.is_sent, true) {
            return Ok(Input::Wait);
        }
        buffer.extend_from_slice(b"this\n");
        Ok(Input::Ready)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        self.answer.extend_from_slice(bytes);
        Ok(self.then.unwrap_or(Flow::Leave))
    }
}

/// A long line to a server.
struct Line<'a> {
    host: &'a Host,
    config: ConfigHost,
    // Carries until it is dropped.
    _proxy: LatencyProxy,
}

impl<'a> Line<'a> {
    fn to(host: &'a Host) -> Self {
        let target = format!("{}:{}", host.address, host.port);
        let target = target.parse().expect("an address");
        let proxy = LatencyProxy::start(any_port(), target, LONG_WAY).expect("a free port");
        let config = ConfigHost {
            address: proxy.address().ip().to_string(),
            port: proxy.address().port(),
            ..host.to_config()
        };
        Self {
            host,
            config,
            _proxy: proxy,
        }
    }

    /// Options under which the far end of the line is known.
    fn options(&self) -> ConnectOptions {
        let ConfigHost { address, port, .. } = &self.config;
        let path = self.host.private_dir().join("known_hosts");
        let line = format!("[{address}]:{port} {}\n", self.host.host_key());
        std::fs::write(&path, line).expect("our folder");
        ConnectOptions::new(path)
    }

    fn log_in(&self, options: ConnectOptions) -> Box<dyn Session> {
        Libssh2Connector::new(options)
            .connect(&self.config)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.host.log()))
    }

    /// Logs in, runs one command and is gone.
    fn ask_once(&self, options: ConnectOptions) {
        let mut session = self.log_in(options);
        let mut question = LookRequest::default();
        session.exec(ANSWER, &mut question).expect("runs");
        assert_eq!(question.answer, b"got this\n");
        session.close();
    }
}

/// Fails when something takes as long as one round trip more, or less time than so many one-way
/// trips take.
fn assert_trips(count: u32, work: impl FnOnce()) {
    let started = Instant::now();
    work();
    let took = started.elapsed();
    assert!(
        (LONG_WAY * count..LONG_WAY * (count + 2)).contains(&took),
        "{took:?} are not {count} times {LONG_WAY:?}"
    );
}

fn proxy_to(target: SocketAddr) -> LatencyProxy {
    LatencyProxy::start(any_port(), target, ONE_WAY).expect("a free port")
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn connect(proxy: &LatencyProxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address()).expect("it listens");
    // A test that hangs says nothing.
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("not zero");
    client
}

/// A server that does the same with each connection.
fn serve(answer: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind(any_port()).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a connection");
            thread::spawn(move || answer(client));
        }
    });
    address
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the connection ends with it, as with every answer"
)]
fn echo(client: TcpStream) {
    // A test that has failed does not read to the end.
    let _ = std::io::copy(&mut &client, &mut &client);
}

fn send_all(client: &TcpStream, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut client = client.try_clone().expect("a second handle");
    thread::spawn(move || {
        client.write_all(&bytes).expect("it reads");
        client.shutdown(Shutdown::Write).expect("still open");
    })
}

fn read_all(mut client: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).expect("it ends");
    bytes
}

fn assert_echo(mut client: &TcpStream, byte: u8) {
    client.write_all(&[byte]).expect("it listens");
    let mut answer = [0];
    client.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, [byte]);
}
