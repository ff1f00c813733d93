//! One writer at a time.
//!
//! The lock is the kernel's, on an open file: it ends with the process that holds it, however that
//! ends. The content of the file only tells people who that is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{LockHolder, StateError, durable};

/// Time between two attempts.
const POLL: Duration = Duration::from_millis(50);
/// Somebody who waits for longer than this is told for whom.
const QUIET: Duration = Duration::from_millis(400);
/// The lock is taken a moment before the note is written; this is a long moment.
const NOTE_PATIENCE: Duration = Duration::from_millis(200);
/// A note is a few hundred bytes. Whatever is longer is none.
const NOTE_LIMIT_BYTES: u64 = 1 << 16;

/// Proof that this process may write the state. Released when dropped.
#[derive(Debug)]
pub struct StateLock {
    file: File,
    dir: PathBuf,
    holder: LockHolder,
}

impl StateLock {
    /// Locks the state folder, making it if there is none, and waits up to `timeout` for another
    /// run. `on_wait` is called once, after 400 ms, with the run that is waited for.
    ///
    /// `operation` and `who` (`user@host`) are what others are told meanwhile.
    ///
    /// # Errors
    /// [`StateError::Locked`] when the other run takes longer; [`StateError::Io`] when the folder
    /// cannot be written.
    pub fn acquire(
        dir: &Path,
        operation: &str,
        who: &str,
        timeout: Duration,
        on_wait: &mut dyn FnMut(&LockHolder),
    ) -> Result<Self, StateError> {
        durable::create_folder(dir)?;
        let path = dir.join("lock");
        let refuse = |error: io::Error| StateError::io("lock", &path, &error);
        // Never removed or replaced: two runs would then hold locks on two files.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(refuse)?;

        let started = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(refuse(error)),
            }
            let waited = started.elapsed();
            if waited >= timeout {
                let holder = read_note_patiently(&path).map(Box::new);
                return Err(StateError::Locked { holder });
            }
            if !told
                && waited >= QUIET
                && let Some(holder) = read_note(&path)
            {
                on_wait(&holder);
                told = true;
            }
            thread::sleep(POLL.min(timeout.saturating_sub(waited)));
        }

        let holder = LockHolder {
            id: random_id()?,
            operation: operation.to_owned(),
            who: who.to_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: now(),
        };
        let lock = Self {
            file,
            dir: dir.to_owned(),
            holder,
        };
        lock.write_note().map_err(refuse)?;
        Ok(lock)
    }

    /// What others are told about this run.
    pub fn holder(&self) -> &LockHolder {
        &self.holder
    }

    /// Whether this is the lock of the state in `dir`.
    pub(super) fn guards(&self, dir: &Path) -> bool {
        self.dir == dir
    }

    fn write_note(&self) -> io::Result<()> {
        let mut note = serde_json::to_vec_pretty(&self.holder)?;
        note.push(b'\n');
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&note)
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // Best effort, and before the lock goes: the next holder's note must not be cut. The kernel
        // releases the lock when the file is closed.
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "the note in the lock file stays");
        }
    }
}

fn read_note(path: &Path) -> Option<LockHolder> {
    let mut note = Vec::new();
    File::open(path)
        .ok()?
        .take(NOTE_LIMIT_BYTES)
        .read_to_end(&mut note)
        .ok()?;
    serde_json::from_slice(&note).ok()
}

fn read_note_patiently(path: &Path) -> Option<LockHolder> {
    let started = Instant::now();
    loop {
        let note = read_note(path);
        if note.is_some() || started.elapsed() >= NOTE_PATIENCE {
            return note;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// 128 bits from the system's generator, as 32 hexadecimal digits.
pub(super) fn random_id() -> Result<String, StateError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| StateError::io("read", path, &error))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The time, to the second.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    use super::*;

    fn try_acquire(dir: &Path, timeout: Duration) -> Result<StateLock, StateError> {
        StateLock::acquire(dir, "plan", "ann@desk", timeout, &mut |_| {})
    }

    #[test]
    fn second_run_is_refused_and_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state");
        let first =
            StateLock::acquire(&dir, "apply", "bob@ci", Duration::ZERO, &mut |_| {}).unwrap();

        let error = try_acquire(&dir, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("`apply` of bob@ci"), "{error}");
        let StateError::Locked {
            holder: Some(holder),
        } = error
        else {
            panic!("not locked: {error:?}");
        };
        assert_eq!(*holder, *first.holder());
        assert_eq!(holder.pid, std::process::id());
    }

    #[test]
    fn lock_is_free_and_its_note_empty_after_release() {
        let dir = tempfile::tempdir().unwrap();
        drop(try_acquire(dir.path(), Duration::ZERO).unwrap());
        assert_eq!(std::fs::read(dir.path().join("lock")).unwrap(), b"");
        try_acquire(dir.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn short_note_of_the_next_holder_has_no_rest_of_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "x".repeat(5000)).unwrap();
        let lock = try_acquire(dir.path(), Duration::ZERO).unwrap();
        assert_eq!(
            read_note(&dir.path().join("lock")).as_ref(),
            Some(lock.holder())
        );
    }

    #[test]
    fn waiting_run_gets_the_lock_when_it_is_released_and_was_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = try_acquire(dir.path(), Duration::ZERO).unwrap();
        let (told, was_told) = mpsc::channel();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let told = told;
                StateLock::acquire(
                    dir.path(),
                    "apply",
                    "bob@ci",
                    Duration::from_mins(1),
                    &mut |holder| told.send(holder.clone()).unwrap(),
                )
                .unwrap();
            });
            // Released only once the other is known to wait.
            let holder = was_told.recv_timeout(Duration::from_secs(30)).unwrap();
            assert_eq!(holder, *first.holder());
            thread::sleep(POLL * 3);
            drop(first);
            waiter.join().unwrap();
        });
        assert!(was_told.try_recv().is_err());
    }

    #[test]
    fn waiting_ends_with_the_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let _first = try_acquire(dir.path(), Duration::ZERO).unwrap();
        let started = Instant::now();
        try_acquire(dir.path(), Duration::from_millis(120)).unwrap_err();
        assert!(started.elapsed() >= Duration::from_millis(120));
    }

    const CHILD_DIR: &str = "HOSTSYNC_TEST_LOCK_DIR";

    /// The other process of the next test; does nothing when run alone.
    #[test]
    fn child_that_holds_the_lock_until_it_is_killed() {
        if let Some(dir) = std::env::var_os(CHILD_DIR) {
            let _lock = try_acquire(Path::new(&dir), Duration::ZERO).unwrap();
            std::fs::write(Path::new(&dir).join("held"), "").unwrap();
            thread::sleep(Duration::from_mins(1));
        }
    }

    #[test]
    fn lock_of_a_killed_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "state::lock::tests::child_that_holds_the_lock_until_it_is_killed",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !dir.path().join("held").exists() {
            assert!(Instant::now() < deadline, "the child never got the lock");
            thread::sleep(POLL);
        }
        let error = try_acquire(dir.path(), Duration::ZERO).unwrap_err();
        assert!(
            error.to_string().contains(&format!("pid {}", child.id())),
            "{error}"
        );
        child.kill().unwrap();
        child.wait().unwrap();

        let lock = try_acquire(dir.path(), Duration::ZERO).unwrap();
        assert_eq!(lock.holder().pid, std::process::id());
    }

    #[test]
    fn folder_that_cannot_be_made_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = try_acquire(&file.path().join("state"), Duration::ZERO).unwrap_err();
        assert!(matches!(error, StateError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains("state"), "{error}");
    }
}
