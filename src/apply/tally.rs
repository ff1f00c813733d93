//! How much one host was sent, and how much it is to be sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::model::{Event, HostId, Observer};

/// Bytes of content for one host. Counted by all of its sessions; what is expected is said by the one
/// thread that leads them, while the others do not send.
pub(super) struct Tally<'a> {
    observer: &'a dyn Observer,
    host: &'a HostId,
    sent_bytes: AtomicU64,
    /// Those that were sent and those that are to be sent.
    total_bytes: AtomicU64,
    keeps_part: AtomicBool,
}

impl<'a> Tally<'a> {
    /// Nothing was sent, and `total_bytes` are part of the total that the observer knows.
    pub(super) fn new(observer: &'a dyn Observer, host: &'a HostId, total_bytes: u64) -> Self {
        Self {
            observer,
            host,
            sent_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(total_bytes),
            keeps_part: AtomicBool::new(false),
        }
    }

    /// More was sent.
    pub(super) fn add(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// From now on so much is to be sent, whatever was said before.
    pub(super) fn expect_more(&self, bytes: u64) {
        let now = self.sent_bytes().saturating_add(bytes);
        let before = self.total_bytes.swap(now, Ordering::Relaxed);
        let by_bytes = now.checked_signed_diff(before).unwrap_or_default();
        if by_bytes != 0 {
            let host = self.host.clone();
            self.observer.event(&Event::TotalChanged { host, by_bytes });
        }
    }

    /// Notes whether a run that ended now would leave a part of large files on the host.
    pub(super) fn set_keeps_part(&self, keeps_part: bool) {
        self.keeps_part.store(keeps_part, Ordering::Relaxed);
    }

    pub(super) fn keeps_part(&self) -> bool {
        self.sent_bytes() > 0 && self.keeps_part.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// The total as an observer knows it.
    struct Total(Mutex<i64>);

    impl Observer for Total {
        fn event(&self, event: &Event) {
            if let Event::TotalChanged { by_bytes, .. } = event {
                *self.0.lock().expect("no thread panics with the lock") += by_bytes;
            }
        }
    }

    #[test]
    fn total_becomes_what_was_sent_however_often_it_is_corrected() {
        let total = Total(Mutex::new(300));
        let known = || *total.0.lock().expect("no thread panics with the lock");
        let host = HostId::new("h");
        let tally = Tally::new(&total, &host, 300);
        tally.expect_more(20);
        assert_eq!(known(), 20);
        tally.add(15);
        // A part of it was lost on the way.
        tally.expect_more(10);
        assert_eq!(known(), 25);
        tally.add(4);
        tally.expect_more(0);
        assert_eq!(known(), 19);
        assert_eq!(tally.sent_bytes(), 19);
    }
}
