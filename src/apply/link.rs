//! How a host is reached while it is worked on, and who is told about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::tally::Tally;
use crate::config::Host;
use crate::model::{Event, Observer, Phase};
use crate::remote::Login;
use crate::transport::{Connector, TransportError};

/// What the stages of an apply share on one host besides its [`Job`](super::job::Job).
#[derive(Clone, Copy)]
pub(super) struct HostLink<'a> {
    pub(super) host: &'a Host,
    pub(super) connector: &'a dyn Connector,
    pub(super) observer: &'a dyn Observer,
    pub(super) tally: &'a Tally<'a>,
    pub(super) interrupted: &'a AtomicBool,
    pub(super) stall_timeout: Duration,
}

impl HostLink<'_> {
    pub(super) fn log_in(&self) -> Result<Login, TransportError> {
        self.connector.connect(self.host).map(Login::new)
    }

    /// Tells that a phase begins in which so many bytes of content are to be sent.
    pub(super) fn begin(&self, phase: Phase, total_bytes: u64) {
        let host = self.host.id.clone();
        self.observer.event(&Event::HostPhase {
            host,
            phase,
            total_bytes,
        });
    }

    /// Tells that the host has taken more content.
    pub(super) fn sent(&self, sent_bytes: u64) {
        self.tally.add(sent_bytes);
        let host = self.host.id.clone();
        self.observer
            .event(&Event::HostProgress { host, sent_bytes });
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Waits, but not for what was interrupted.
    pub(super) fn pause(&self, pause: Duration) {
        let started = Instant::now();
        while started.elapsed() < pause && !self.is_interrupted() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}
