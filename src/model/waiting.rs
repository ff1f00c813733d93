//! For whom a run waits, told by a clock: a host of which nothing is heard causes no event.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::HostId;
use super::event::{Event, Observer, Phase, WaitedFor};

/// How long nothing has come of a host when it is named.
const SILENT_FROM: Duration = Duration::from_secs(10);

/// How often it is told.
const INTERVAL: Duration = Duration::from_secs(5);

/// Does some work and tells its observer every few seconds for whom it waits.
pub fn watch_waiting<R>(observer: &dyn Observer, work: impl FnOnce(&dyn Observer) -> R) -> R {
    let clock = Clock {
        observer,
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        let _ends = Ends(&clock);
        // Without a thread for it, nobody is named.
        let _ = thread::Builder::new().spawn_scoped(scope, || clock.run());
        work(&clock)
    })
}

/// Notes when something came of a host.
struct Clock<'a> {
    observer: &'a dyn Observer,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    hosts: Hosts,
    has_ended: bool,
}

/// Ends the thread of a clock, also when the work panics.
struct Ends<'a>(&'a Clock<'a>);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.state().has_ended = true;
        self.0.changed.notify_one();
    }
}

impl Clock<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        // Changed in single steps, each of which leaves it right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.state();
        loop {
            let slept = self
                .changed
                .wait_timeout_while(state, INTERVAL, |state| !state.has_ended);
            state = slept.unwrap_or_else(PoisonError::into_inner).0;
            if state.has_ended {
                return;
            }
            if let Some(event) = state.hosts.waiting(Instant::now()) {
                drop(state);
                self.observer.event(&event);
                state = self.state();
            }
        }
    }
}

impl Observer for Clock<'_> {
    fn event(&self, event: &Event) {
        self.state().hosts.event(event, Instant::now());
        self.observer.event(event);
    }
}

/// The hosts at work.
#[derive(Default)]
struct Hosts {
    /// What each is busy with, and when something came of it last.
    active: BTreeMap<HostId, (Phase, Instant)>,
    is_waiting: bool,
}

impl Hosts {
    fn event(&mut self, event: &Event, now: Instant) {
        match event {
            Event::HostPhase { host, phase, .. } => {
                self.active.insert(host.clone(), (*phase, now));
            }
            Event::HostProgress { host, .. } => {
                if let Some((_, heard)) = self.active.get_mut(host) {
                    *heard = now;
                }
            }
            Event::HostFinished { host, .. } => {
                self.active.remove(host);
            }
            Event::HostsStarted { .. } | Event::HostsFinished => self.active.clear(),
            _ => {}
        }
    }

    /// Tells for whom the run waits; once also that it waits for nobody any more.
    fn waiting(&mut self, now: Instant) -> Option<Event> {
        let active = self.active.iter();
        let mut hosts: Vec<WaitedFor> = active
            .map(|(host, (phase, heard))| WaitedFor {
                host: host.clone(),
                phase: *phase,
                silent: now.saturating_duration_since(*heard),
            })
            .filter(|host| host.silent >= SILENT_FROM)
            .collect();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.silent));
        let was_waiting = std::mem::replace(&mut self.is_waiting, !hosts.is_empty());
        (was_waiting || self.is_waiting).then_some(Event::Waiting { hosts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HostOutcome;

    fn phase(host: &str) -> Event {
        Event::HostPhase {
            host: HostId::new(host),
            phase: Phase::Committing,
            total_bytes: 0,
        }
    }

    /// The names of those who are waited for so many seconds after the start.
    fn names(hosts: &mut Hosts, start: Instant, second: u64) -> Option<Vec<String>> {
        let event = hosts.waiting(start + Duration::from_secs(second))?;
        let Event::Waiting { hosts } = event else {
            panic!("{event:?}")
        };
        Some(hosts.iter().map(|host| host.host.to_string()).collect())
    }

    #[test]
    fn hosts_of_which_nothing_comes_are_named_and_whoever_moves_is_not() {
        let start = Instant::now();
        let mut hosts = Hosts::default();
        let event = |hosts: &mut Hosts, second, event: &Event| {
            hosts.event(event, start + Duration::from_secs(second));
        };
        event(&mut hosts, 0, &phase("slow"));
        event(&mut hosts, 2, &phase("later"));
        event(&mut hosts, 2, &phase("moves"));
        assert_eq!(names(&mut hosts, start, 9), None);
        event(
            &mut hosts,
            10,
            &Event::HostProgress {
                host: HostId::new("moves"),
                sent_bytes: 1,
            },
        );
        let both = ["slow", "later"].map(str::to_owned).to_vec();
        assert_eq!(names(&mut hosts, start, 12), Some(both));
        for host in ["slow", "later"] {
            let finished = Event::HostFinished {
                host: HostId::new(host),
                outcome: HostOutcome::Done,
            };
            event(&mut hosts, 13, &finished);
        }
        assert_eq!(names(&mut hosts, start, 15), Some(Vec::new()));
        assert_eq!(names(&mut hosts, start, 16), None);
    }

    #[test]
    fn work_that_panics_leaves_no_clock_behind() {
        let work = || watch_waiting(&crate::model::Silent, |_| panic!("on purpose"));
        assert!(std::panic::catch_unwind(work).is_err());
    }
}
