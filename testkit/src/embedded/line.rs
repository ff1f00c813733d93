//! The two directions of a connection, which may be cut or stall.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::fault::{Direction, End, Faults};
use super::flow::Flow;

/// What is taken at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// One connection.
pub(super) struct Line {
    faults: Arc<Faults>,
    flow: Arc<Flow>,
    is_stalled: AtomicBool,
    is_cut: Notify,
}

impl Line {
    pub(super) fn new(faults: Arc<Faults>, flow: Arc<Flow>) -> Self {
        Self {
            faults,
            flow,
            is_stalled: AtomicBool::new(false),
            is_cut: Notify::new(),
        }
    }

    /// Carries bytes between a client and the SSH library until either of them has had enough.
    pub(super) async fn carry(&self, mut client: TcpStream, server: DuplexStream) {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = tokio::io::split(server);
        let to_host = async {
            let _ = self.copy(Direction::ToHost, from_client, to_server).await;
            // The client has said its last word. The library hears of it, and ends the other direction.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // A connection that breaks has ended, too.
            _ = self.copy(Direction::ToClient, from_server, to_client) => {}
            () = to_host => {}
            () = self.is_cut.notified() => {}
        }
    }

    async fn copy(
        &self,
        direction: Direction,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return to.shutdown().await;
            }
            if direction == Direction::ToClient {
                self.flow.client_may_send_more().await;
            }
            if self.is_stalled.load(Ordering::Acquire) {
                continue;
            }
            let passage = self.faults.pass(direction, count);
            to.write_all(&buffer[..passage.count]).await?;
            match passage.end {
                None => {}
                Some(End::Stall) => self.is_stalled.store(true, Ordering::Release),
                Some(End::Cut) => {
                    self.is_cut.notify_one();
                    return Ok(());
                }
            }
        }
    }
}
