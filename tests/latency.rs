//! The proxy that tests and measurements use for long lines.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[path = "support/latency.rs"]
mod latency;

use latency::LatencyProxy;

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
