//! Ctrl-C and its relatives.

use std::fs;
use std::io::Write as _;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::Exit;
use crate::view::progress::Progress;

/// Takes signals for the rest of the run.
///
/// While hosts are being changed, the first one asks to finish what is under way, and the second one
/// ends the run. Before and after that, the first one does.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    so_far: Arc<Mutex<SoFar>>,
    asked: Arc<AtomicBool>,
    progress: Arc<Mutex<Option<Arc<Progress>>>>,
    before_end: Arc<OnceLock<BeforeEnd>>,
}

/// Told why the run ends and with what, right before it ends.
type BeforeEnd = Arc<dyn Fn(&str, Exit) + Send + Sync>;

/// How long those who do not listen may hold up the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same signal again within this time is the same wish: `timeout` signals its command, then the
/// group that the command is in.
const ECHO: Duration = Duration::from_millis(100);

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Before,
    Changing,
    After,
}

/// What a signal finds.
#[derive(Debug, Default)]
struct SoFar {
    stage: Stage,
    /// The signal that asked to finish, and when it came.
    first: Option<(i32, Instant)>,
}

/// What is done about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Nothing,
    Finish,
    End(&'static str),
}

impl SoFar {
    fn on_signal(&mut self, signal: i32, now: Instant) -> Reaction {
        if let Some((first, at)) = self.first {
            let is_echo = signal == first && now.duration_since(at) < ECHO;
            // A terminal that goes is told by the shell and by the system, and nobody is left who could
            // be in a hurry.
            if is_echo || signal == SIGHUP {
                return Reaction::Nothing;
            }
        }
        match self.stage {
            Stage::Before => Reaction::End("interrupted: nothing was changed"),
            Stage::Changing if self.first.is_none() => {
                self.first = Some((signal, now));
                Reaction::Finish
            }
            Stage::Changing => Reaction::End(
                "stopped at once: hosts may have a part of the changes; the next plan finds out",
            ),
            Stage::After => Reaction::End(
                "interrupted before all was told: what was done is in the state; the next plan shows \
                 what is left",
            ),
        }
    }
}

impl Interrupts {
    /// Begins to listen. Where the system does not let us, signals do what they always do. What whoever
    /// started us has us ignore, as `nohup` does, is ignored.
    pub(super) fn listen() -> Self {
        let interrupts = Self::default();
        let ignored = ignored_signals();
        let heard = [SIGHUP, SIGINT, SIGTERM]
            .into_iter()
            .filter(|signal| ignored >> (signal - 1) & 1 == 0);
        if let Ok(mut signals) = Signals::new(heard) {
            let interrupts = interrupts.clone();
            thread::spawn(move || {
                for signal in signals.forever() {
                    interrupts.on_signal(signal);
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
        self.so_far().stage = Stage::Changing;
        &self.asked
    }

    /// Hosts are no longer being changed.
    pub(super) fn end_changes(&self) {
        self.so_far().stage = Stage::After;
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn so_far(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_signal(&self, signal: i32) {
        let reaction = self.so_far().on_signal(signal, Instant::now());
        // Whoever is told may not listen: a terminal that was stopped, a pipe that is full. So each of
        // them is told by somebody who can wait.
        let (done, is_done) = mpsc::channel();
        match reaction {
            Reaction::Nothing => {}
            Reaction::Finish => {
                self.asked.store(true, Ordering::SeqCst);
                let what =
                    "interrupted: finishing what is being committed; once more stops at once";
                self.say(what, None, done);
            }
            Reaction::End(why) => {
                let exit = Exit::Interrupted;
                self.say(why, Some(exit), done.clone());
                if let Some(tell) = self.before_end.get().cloned() {
                    beside(done, move || tell(why, exit));
                } else {
                    drop(done);
                }
                // Ends when the last of them is done, or late.
                let started = Instant::now();
                while let Some(left) = PATIENCE.checked_sub(started.elapsed())
                    && is_done.recv_timeout(left).is_ok()
                {}
                process::exit(i32::from(exit.code()));
            }
        }
    }

    /// Says it to people and to the log, and with what the run ends, if it does.
    fn say(&self, line: &'static str, exit: Option<Exit>, done: Sender<()>) {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = progress.clone();
        beside(done, move || {
            tracing::warn!("{line}");
            if let Some(exit) = exit {
                tracing::info!(exit = exit.code(), "end");
            }
            let print = || {
                let _ = writeln!(std::io::stderr(), "\n{line}");
            };
            match progress {
                Some(progress) => progress.suspend(print),
                None => print(),
            }
        });
    }
}

/// Does it on a thread of its own, and tells when it is done. Where there can be no thread, it is not.
fn beside(done: Sender<()>, work: impl FnOnce() + Send + 'static) {
    let _ = thread::Builder::new().spawn(move || {
        work();
        let _ = done.send(());
    });
}

/// The signals that this process was told to ignore, a bit for each, the lowest for signal 1; none where
/// the system does not say.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(1);

    fn at(stage: Stage) -> SoFar {
        SoFar { stage, first: None }
    }

    fn is_end(reaction: Reaction, part: &str) -> bool {
        matches!(reaction, Reaction::End(why) if why.contains(part))
    }

    #[test]
    fn first_signal_ends_what_changes_nothing_and_the_second_one_ends_anything() {
        let now = Instant::now();
        let reaction = at(Stage::Before).on_signal(SIGINT, now);
        assert!(is_end(reaction, "nothing was changed"));
        let mut so_far = at(Stage::Changing);
        assert_eq!(so_far.on_signal(SIGINT, now), Reaction::Finish);
        let reaction = so_far.on_signal(SIGINT, now + LATER);
        assert!(is_end(reaction, "stopped at once"));
    }

    #[test]
    fn signal_after_the_changes_does_not_say_that_there_were_none() {
        let reaction = at(Stage::After).on_signal(SIGTERM, Instant::now());
        assert!(is_end(reaction, "what was done is in the state"));
    }

    #[test]
    fn echo_of_the_first_signal_is_not_a_second_one_but_another_signal_is() {
        let now = Instant::now();
        let mut so_far = at(Stage::Changing);
        assert_eq!(so_far.on_signal(SIGTERM, now), Reaction::Finish);
        assert_eq!(so_far.on_signal(SIGTERM, now + ECHO / 2), Reaction::Nothing);
        assert!(is_end(so_far.on_signal(SIGINT, now + ECHO / 2), "at once"));
    }

    #[test]
    fn terminal_that_goes_hurries_nobody_however_often_it_is_told() {
        let now = Instant::now();
        for first in [SIGHUP, SIGINT, SIGTERM] {
            let mut so_far = at(Stage::Changing);
            assert_eq!(so_far.on_signal(first, now), Reaction::Finish);
            assert_eq!(so_far.on_signal(SIGHUP, now + LATER), Reaction::Nothing);
            so_far.stage = Stage::After;
            assert_eq!(so_far.on_signal(SIGHUP, now + 2 * LATER), Reaction::Nothing);
        }
    }
}
