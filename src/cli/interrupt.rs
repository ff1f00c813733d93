//! Ctrl-C and its relatives.

use std::io::Write as _;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit::Exit;

/// Takes signals for the rest of the run.
///
/// While nothing is being changed, the first one ends the run. While hosts are being changed, the
/// first one asks to finish what is under way, the second one ends the run.
pub(super) struct Interrupts {
    changing: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl Interrupts {
    /// Begins to listen. Where the system does not let us, signals do what they always do.
    pub(super) fn listen() -> Self {
        let interrupts = Self {
            changing: Arc::default(),
            asked: Arc::default(),
        };
        if let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) {
            let (changing, asked) = (
                Arc::clone(&interrupts.changing),
                Arc::clone(&interrupts.asked),
            );
            std::thread::spawn(move || {
                for _ in signals.forever() {
                    on_signal(&changing, &asked);
                }
            });
        }
        interrupts
    }

    /// From now on hosts are being changed. The flag is set when somebody asks to stop.
    pub(super) fn begin_changes(&self) -> &AtomicBool {
        self.changing.store(true, Ordering::SeqCst);
        &self.asked
    }

    /// Hosts are no longer being changed.
    pub(super) fn end_changes(&self) {
        self.changing.store(false, Ordering::SeqCst);
    }
}

#[expect(
    clippy::exit,
    reason = "a second interrupt stops at once, whatever the threads are doing"
)]
fn on_signal(changing: &AtomicBool, asked: &AtomicBool) {
    let say = |line: &str| {
        let _ = writeln!(std::io::stderr(), "{line}");
    };
    if changing.load(Ordering::SeqCst) && !asked.swap(true, Ordering::SeqCst) {
        say(
            "\ninterrupted: finishing the hosts that are being written to; once more stops at once",
        );
        return;
    }
    if changing.load(Ordering::SeqCst) {
        say("\nstopped at once: hosts may have a part of the changes; the next plan finds out");
    } else {
        say("\ninterrupted: nothing was changed");
    }
    process::exit(i32::from(Exit::Interrupted.code()));
}
