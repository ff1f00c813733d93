//! Keeps a client from sending faster than a command reads.
//!
//! The SSH library widens a channel's window as data arrives, not as it is consumed. So what goes
//! to the client, and the wider window is part of that, waits for [`Flow::client_may_send_more`] while
//! too much input is queued: the client uses up its window and waits. Its own stream is read all the
//! while, so a client that goes away is noticed at once.
//!
//! A command may have to get rid of output before it takes more input. So while output waits,
//! nothing is held back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Input that may be queued before the client is made to wait.
const QUEUE_LIMIT_BYTES: usize = 2 * 1024 * 1024;

/// What is under way in one connection.
#[derive(Default)]
pub(super) struct Flow {
    queued_bytes: AtomicUsize,
    outputs_waiting: AtomicUsize,
    changed: Notify,
}

impl Flow {
    /// Counts input as queued until the result is dropped.
    pub(super) fn queue(self: &Arc<Self>, bytes: &[u8]) -> QueuedInput {
        self.queued_bytes.fetch_add(bytes.len(), Ordering::AcqRel);
        QueuedInput {
            bytes: bytes.to_vec(),
            flow: Arc::clone(self),
        }
    }

    /// Says that output waits for the client until the result is dropped.
    pub(super) fn output_waits(&self) -> WaitingOutput<'_> {
        self.outputs_waiting.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
        WaitingOutput(self)
    }

    /// Waits until the client may have what the SSH library sends it.
    pub(super) async fn client_may_send_more(&self) {
        while self.is_congested() {
            self.changed.notified().await;
        }
    }

    fn is_congested(&self) -> bool {
        self.queued_bytes.load(Ordering::Acquire) > QUEUE_LIMIT_BYTES
            && self.outputs_waiting.load(Ordering::Acquire) == 0
    }
}

/// Standard input on its way to a command.
pub(super) struct QueuedInput {
    pub(super) bytes: Vec<u8>,
    flow: Arc<Flow>,
}

impl Drop for QueuedInput {
    fn drop(&mut self) {
        let flow = &self.flow;
        flow.queued_bytes
            .fetch_sub(self.bytes.len(), Ordering::AcqRel);
        flow.changed.notify_one();
    }
}

/// Output on its way to the client.
pub(super) struct WaitingOutput<'a>(&'a Flow);

impl Drop for WaitingOutput<'_> {
    fn drop(&mut self) {
        self.0.outputs_waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
