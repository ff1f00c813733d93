//! What happens on hosts is told once the sources have been read: the observer is told one after the other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::Host;
use crate::model::{Event, Observer, Phase, Work};

/// Tells an observer what happens on hosts; before [`begin`](Self::begin), keeps it back.
pub(super) struct HostEvents<'a> {
    observer: &'a dyn Observer,
    held_back: Mutex<Option<Vec<Event>>>,
}

impl<'a> HostEvents<'a> {
    pub(super) fn new(observer: &'a dyn Observer) -> Self {
        Self {
            observer,
            held_back: Mutex::new(Some(Vec::new())),
        }
    }

    /// What is done on a host from now on.
    pub(super) fn phase(&self, host: &Host, phase: Phase) {
        let event = Event::HostPhase {
            host: host.id.clone(),
            phase,
            total_bytes: 0,
        };
        let mut held_back = self.held_back();
        match held_back.as_mut() {
            Some(events) => events.push(event),
            None => self.observer.event(&event),
        }
    }

    /// Tells that so many hosts are looked at, and what has happened on them.
    pub(super) fn begin(&self, hosts: usize) {
        let mut held_back = self.held_back();
        self.observer.event(&Event::HostsStarted {
            work: Work::Looking,
            hosts,
            total_bytes: 0,
        });
        for event in held_back.take().into_iter().flatten() {
            self.observer.event(&event);
        }
    }

    fn held_back(&self) -> MutexGuard<'_, Option<Vec<Event>>> {
        // Changed in single steps, each of which leaves it right.
        self.held_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
