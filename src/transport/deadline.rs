//! The end of a wait.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::TransportError;

/// The moment at which waiting ends, and the setting that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    limit: Duration,
    setting: &'static str,
}

impl Deadline {
    /// Starts to count now.
    pub(super) fn after(limit: Duration, setting: &'static str) -> Self {
        let now = Instant::now();
        // A limit beyond what the clock can express is as good as a year.
        let at = now
            .checked_add(limit)
            .unwrap_or_else(|| now + Duration::from_hours(24 * 365));
        Self { at, limit, setting }
    }

    /// What is left; zero when it is over.
    pub(super) fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The error that says that `what` took too long.
    pub(super) fn exceeded(&self, what: impl Into<String>) -> TransportError {
        TransportError::Timeout {
            what: what.into(),
            limit: self.limit,
            setting: self.setting,
        }
    }

    /// Runs what cannot be interrupted (the resolver, an agent that asks its user) on a thread of
    /// its own. `None` when the deadline came first; the thread is then left behind and its result
    /// thrown away.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("hostsync-wait".to_owned())
            .spawn(move || {
                // Nobody listens any more when the deadline has passed.
                let _ = sender.send(work());
            })
            .ok()?;
        receiver.recv_timeout(self.remaining()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_ends_work_that_does_not_end() {
        let deadline = Deadline::after(Duration::from_millis(30), "login_timeout");
        let started = Instant::now();
        assert_eq!(deadline.run(|| thread::sleep(Duration::from_secs(5))), None);
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn deadline_hands_on_what_came_in_time() {
        let deadline = Deadline::after(Duration::from_mins(1), "login_timeout");
        assert_eq!(deadline.run(|| 7), Some(7));
    }

    #[test]
    fn endless_limit_does_not_overflow() {
        let deadline = Deadline::after(Duration::MAX, "stall_timeout");
        assert!(deadline.remaining() > Duration::from_hours(24));
    }
}
