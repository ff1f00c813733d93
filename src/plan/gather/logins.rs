//! Logins that are made before they are needed, and logins that are kept after that.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{Awaited, HostId};
use crate::remote::Login;
use crate::transport::TransportError;

/// Waits for a value with a login that was made early. One that would wait longer than `patience` is
/// logged out, and has to be made again: `None`.
pub(super) fn wait_with<V>(
    early: Option<Result<Login, TransportError>>,
    value: &Awaited<V>,
    patience: Duration,
) -> (Option<Result<Login, TransportError>>, &V) {
    if let Some(value) = value.wait_for(patience) {
        return (early, value);
    }
    let early = match early {
        Some(Ok(login)) => {
            login.close();
            None
        }
        other => other,
    };
    (early, value.wait())
}

/// Logins that a plan leaves open for the apply that follows it at once, by host: not more than a given
/// number, and those that were used last. So none of them waits for longer than its successors take,
/// however many hosts there are.
#[derive(Debug, Default)]
pub struct KeptLogins {
    limit: usize,
    logins: Mutex<VecDeque<(HostId, Login)>>,
}

impl KeptLogins {
    /// Keeps so many; none for 0.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            logins: Mutex::default(),
        }
    }

    /// Keeps a login. One that there is no room for, this or the oldest, is logged out.
    pub(super) fn keep(&self, host: &HostId, login: Login) {
        let mut logins = self.logins();
        logins.push_back((host.clone(), login));
        let surplus = (logins.len() > self.limit)
            .then(|| logins.pop_front())
            .flatten();
        drop(logins);
        // It may take a moment, in which the others go on.
        if let Some((_, login)) = surplus {
            login.close();
        }
    }

    /// The login of a host, if it was kept.
    pub fn take(&self, host: &HostId) -> Option<Login> {
        let mut logins = self.logins();
        let index = logins.iter().position(|(kept, _)| kept == host)?;
        logins.remove(index).map(|(_, login)| login)
    }

    /// Whether the login of a host is kept.
    pub fn has(&self, host: &HostId) -> bool {
        self.logins().iter().any(|(kept, _)| kept == host)
    }

    fn logins(&self) -> MutexGuard<'_, VecDeque<(HostId, Login)>> {
        // Changed in single steps, each of which leaves it right.
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::transport::{ExecIo, ExecOutcome, Session, TransportError};

    /// Counts how often it is closed.
    struct Counted(Arc<AtomicUsize>);

    impl Session for Counted {
        fn exec(&mut self, _: &str, _: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
            Ok(ExecOutcome::default())
        }

        fn resume(&mut self, _: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
            Ok(ExecOutcome::default())
        }

        fn close(self: Box<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn filled(limit: usize, hosts: &[&str]) -> (KeptLogins, Arc<AtomicUsize>) {
        let closed = Arc::new(AtomicUsize::new(0));
        let logins = KeptLogins::new(limit);
        for host in hosts {
            let session = Counted(Arc::clone(&closed));
            logins.keep(&HostId::new(*host), Login::new(Box::new(session)));
        }
        (logins, closed)
    }

    #[test]
    fn logins_that_were_used_last_are_kept_and_the_others_logged_out() {
        let (logins, closed) = filled(2, &["a", "b", "c"]);
        assert_eq!(closed.load(Ordering::Relaxed), 1);
        let kept = ["a", "b", "c"].map(|host| logins.take(&HostId::new(host)).is_some());
        assert_eq!(kept, [false, true, true]);
    }

    #[test]
    fn login_is_taken_once() {
        let (logins, _closed) = filled(1, &["a"]);
        let host = HostId::new("a");
        assert!(logins.has(&host));
        assert!(logins.take(&host).is_some());
        assert!(!logins.has(&host) && logins.take(&host).is_none());
    }

    #[test]
    fn nothing_is_kept_when_nothing_is_to_be() {
        let (logins, closed) = filled(0, &["a", "b"]);
        assert_eq!(closed.load(Ordering::Relaxed), 2);
        assert!(!logins.has(&HostId::new("b")));
    }
}
