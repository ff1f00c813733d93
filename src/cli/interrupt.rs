//! Ctrl-C and its relatives.

use std::io::Write as _;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::Exit;
use crate::view::progress::Progress;

/// Takes signals for the rest of the run.
///
/// While nothing is being changed, the first one ends the run. While hosts are being changed, the
/// first one asks to finish what is under way, the second one ends the run.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    changing: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    progress: Arc<Mutex<Option<Arc<Progress>>>>,
    before_end: Arc<OnceLock<BeforeEnd>>,
}

/// Told why the run ends and with what, right before it ends.
type BeforeEnd = Arc<dyn Fn(&str, Exit) + Send + Sync>;

/// How long somebody who does not listen may hold up the end.
const PATIENCE: Duration = Duration::from_secs(1);

impl Interrupts {
    /// Begins to listen. Where the system does not let us, signals do what they always do.
    pub(super) fn listen() -> Self {
        let interrupts = Self::default();
        if let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) {
            let interrupts = interrupts.clone();
            thread::spawn(move || {
                for _ in signals.forever() {
                    interrupts.on_signal();
                }
            });
        }
        interrupts
    }

    /// Has `tell` told why a signal ends the run and with what, right before it does. Only the first one
    /// that is given is told.
    pub(super) fn before_end(&self, tell: impl Fn(&str, Exit) + Send + Sync + 'static) {
        let _ = self.before_end.set(Arc::new(tell));
    }

    /// From now on hosts are being changed. The flag is set when somebody asks to stop; what there is
    /// to say about that is said beside the progress.
    pub(super) fn begin_changes(&self, progress: &Arc<Progress>) -> &AtomicBool {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(progress));
        self.changing.store(true, Ordering::SeqCst);
        &self.asked
    }

    /// Hosts are no longer being changed.
    pub(super) fn end_changes(&self) {
        self.changing.store(false, Ordering::SeqCst);
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn on_signal(&self) {
        let is_changing = self.changing.load(Ordering::SeqCst);
        if is_changing && !self.asked.swap(true, Ordering::SeqCst) {
            tracing::warn!("interrupted once");
            self.say("interrupted: finishing what is being committed; once more stops at once");
            return;
        }
        let why = if is_changing {
            "stopped at once: hosts may have a part of the changes; the next plan finds out"
        } else {
            "interrupted: nothing was changed"
        };
        let exit = Exit::Interrupted;
        self.say(why);
        if let Some(tell) = self.before_end.get().cloned() {
            let (told, is_told) = mpsc::channel();
            thread::spawn(move || {
                tell(why, exit);
                let _ = told.send(());
            });
            let _ = is_told.recv_timeout(PATIENCE);
        }
        tracing::warn!(exit = exit.code(), "interrupted, end");
        process::exit(i32::from(exit.code()));
    }

    fn say(&self, line: &str) {
        let print = || {
            let _ = writeln!(std::io::stderr(), "\n{line}");
        };
        match &*self.progress.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(progress) => progress.suspend(print),
            None => print(),
        }
    }
}
