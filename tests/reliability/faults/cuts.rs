//! Connections that end in the middle, wherever that is.

use std::path::PathBuf;
use std::thread;

use hostsync::apply::{HostResult, Report};
use hostsync::plan::HostStatus;
use hostsync::plan::prepared::Prepared;
use hostsync::state::Progress;

use crate::fault_site::{FaultSite, LONG};
use crate::tree::Contents;
use hostsync_testkit::embedded::{Direction, EmbeddedHost, Fault, Then};

/// What the failures of a sweep have in common.
#[derive(Clone, Debug)]
struct Sweep {
    place: Place,
    /// Whether plan and apply share a login, so that apply makes another one where it breaks.
    keeps_login: bool,
    /// What else is wrong with the host.
    further: Vec<Fault>,
    /// How many, evenly spaced from the beginning to the end of an apply.
    count: u64,
}

/// Where an apply fails.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The connection is cut behind a byte of its stream.
    Byte { direction: Direction, then: Then },
    /// The processes on the host are killed before a call that changes an entry.
    Call,
}

impl Place {
    /// The failure behind so many bytes or calls.
    fn fault(self, behind: u64) -> Fault {
        match self {
            Self::Byte { direction, then } => Fault::Cut {
                direction,
                after_bytes: behind,
                then,
            },
            Self::Call => Fault::DieAtCall {
                number: behind.saturating_add(1),
            },
        }
    }

    /// How many bytes or calls there were.
    fn passed(self, host: &EmbeddedHost) -> u64 {
        match self {
            Self::Byte { direction, .. } => host.passed_bytes(direction),
            Self::Call => host.calls(),
        }
    }
}

/// What became of the applies of a sweep.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    failures: usize,
    /// The plan could not be made.
    planning: usize,
    /// The apply failed, and nothing had changed.
    unchanged: usize,
    /// The apply failed, and something or all had changed.
    changed: usize,
    /// The apply came to its end nevertheless.
    done: usize,
    /// The plan after the next apply had to look at everything.
    looked_anew: usize,
}

impl Sweep {
    fn run(&self) -> Tally {
        let site = FaultSite::new(LONG, &[("host", self.further.clone())]);
        let host = &site.hosts[0];
        assert_done(&site.apply(true).1, "the first apply");
        site.wait_until_idle();
        // From even to odd and from odd to even are two different streams.
        let mut old = site.dest(0);
        let lengths = [1, 2].map(|generation| {
            let new = site.write_generation(generation);
            host.set_faults(self.with(self.place.fault(u64::MAX)));
            assert_done(&site.apply(self.keeps_login).1, "an apply without fault");
            site.wait_until_idle();
            let passed = self.place.passed(host);
            assert!(!site.plan().has_hosts_to_visit(), "{self:?}");
            old = new;
            passed
        });
        let mut tally = Tally::default();
        for number in 0..self.count {
            let generation = usize::try_from(number).unwrap() + 3;
            let length = lengths[(generation + 1) % 2];
            let behind = length * number / self.count;
            let case = format!("{self:?}, behind {behind} of {length}");
            let new = site.write_generation(generation);
            host.set_faults(self.with(self.place.fault(behind)));
            let (prepared, report) = site.apply(self.keeps_login);
            site.wait_until_idle();
            // No two runs are of exactly the same length.
            tally.failures += usize::from(host.has_failed());
            tally.count(&prepared, &report, &site.dest(0), &old);
            assert_in_order(&site, &report, &old, &new, &case);

            host.set_faults(self.further.clone());
            // Every other time, the source has changed once more before the next run.
            let new = if number % 2 == 0 {
                new
            } else {
                site.write_generation(generation + 1000)
            };
            let looks_anew = self.assert_converges(&site, &old, &new, &case);
            tally.looked_anew += usize::from(looks_anew);
            old = new;
        }
        tally
    }

    /// This fault, and what else is wrong.
    fn with(&self, fault: Fault) -> Vec<Fault> {
        [vec![fault], self.further.clone()].concat()
    }

    /// Fails unless one more run comes to its end, finds nobody else's doing, and leaves nothing to do.
    /// Says whether the plan after it had to look at everything.
    fn assert_converges(
        &self,
        site: &FaultSite,
        old: &Contents,
        new: &Contents,
        case: &str,
    ) -> bool {
        let (prepared, report) = site.apply(true);
        assert_eq!(prepared.plan.hosts[0].status, HostStatus::Ok, "{case}");
        for change in prepared.plan.hosts[0].changes() {
            let is_ours = !change.drift && !change.unmanaged && !change.conflict;
            assert!(is_ours, "{case}: {change:?}");
        }
        assert_done(&report, case);
        site.wait_until_idle();
        assert_eq!(site.dest(0), *new, "{case}");
        let base = site.base(0).unwrap();
        let backups = Contents::of(&base.join("backup"));
        new.assert_nothing_lost(old, &backups, case);
        // Where the host came back at once, the next login may have come before the last one was gone. And
        // what nobody has signed yet is given an hour.
        if !matches!(
            self.place,
            Place::Byte {
                then: Then::Back,
                ..
            }
        ) {
            let base = Contents::of(&base);
            assert_eq!(base.signed_runs(), Vec::<&PathBuf>::new(), "{case}");
        }
        let after = site.plan();
        assert!(
            !after.plan.summary().has_changes(),
            "{case}: {:?}",
            after.plan
        );
        if !after.has_hosts_to_visit() {
            return false;
        }
        // Of a file that was put in place and not yet taken out of staging, the change time moves when
        // that is made up for. So the listing is not trusted, and made anew.
        assert_done(&site.apply(true).1, case);
        assert!(!site.plan().has_hosts_to_visit(), "{case}");
        true
    }
}

impl Tally {
    fn count(&mut self, prepared: &Prepared, report: &Report, found: &Contents, old: &Contents) {
        let is_failed = match &report.hosts[0].result {
            HostResult::Unreachable(_) | HostResult::Failed(_) => true,
            HostResult::Done => false,
            other => panic!("{other:?}"),
        };
        *match (is_failed, &prepared.plan.hosts[0].status) {
            (true, HostStatus::Unreachable(_) | HostStatus::Failed(_)) => &mut self.planning,
            (true, HostStatus::Ok) if found == old => &mut self.unchanged,
            (true, HostStatus::Ok) => &mut self.changed,
            (false, _) => &mut self.done,
        } += 1;
    }
}

#[track_caller]
fn assert_done(report: &Report, case: &str) {
    let host = &report.hosts[0];
    assert!(
        matches!(host.result, HostResult::Done | HostResult::Unchanged) && host.refused.is_empty(),
        "{case}: {host:?}"
    );
}

/// Fails unless the host and the state are as they may be at any moment.
fn assert_in_order(site: &FaultSite, report: &Report, old: &Contents, new: &Contents, case: &str) {
    let found = site.dest(0);
    found.assert_old_or_new(old, new, case);
    let base = site.base(0).unwrap();
    found.assert_nothing_lost(old, &Contents::of(&base.join("backup")), case);

    let state = site.state();
    let record = state.host(&site.config.hosts[0].id).unwrap().unwrap();
    let mapping = &record.mappings[0];
    let recorded = state.tree(&mapping.tree).unwrap();
    let intended = mapping.intended.map(|tree| state.tree(&tree).unwrap());
    match record.progress {
        Progress::Finished => {
            assert!(found.are(&recorded), "{case}: not what is recorded");
            assert!(intended.is_none(), "{case}");
        }
        Progress::InTheMiddle => {
            assert!(old.are(&recorded), "{case}: not what was there");
            let intended = intended.expect("something was to change");
            assert!(new.are(&intended), "{case}: not what was to come");
            assert_eq!(record.listing, None, "{case}");
        }
    }
    if report.hosts[0].result == HostResult::Done {
        assert_eq!(found, *new, "{case}: not done");
        assert_eq!(record.progress, Progress::Finished, "{case}");
    }
}

/// Runs sweeps, two at a time, and says what became of them.
fn run_sweeps(name: &str, sweeps: &[Sweep]) -> usize {
    let mut failures = 0;
    for pair in sweeps.chunks(2) {
        let tallies: Vec<Tally> = thread::scope(|scope| {
            let running: Vec<_> = pair
                .iter()
                .map(|sweep| scope.spawn(|| sweep.run()))
                .collect();
            running
                .into_iter()
                .map(|sweep| sweep.join().unwrap())
                .collect()
        });
        for (sweep, tally) in pair.iter().zip(tallies) {
            println!("{name}: {sweep:?}: {tally:?}");
            failures += tally.failures;
        }
    }
    println!("{name}: {failures} cases");
    failures
}

#[test]
fn apply_that_is_cut_anywhere_loses_nothing_and_the_next_one_ends_it() {
    let gone = |direction| Sweep {
        place: Place::Byte {
            direction,
            then: Then::Gone,
        },
        keeps_login: false,
        further: Vec::new(),
        count: 90,
    };
    // Where the login is kept and the host comes back, apply makes up for a cut by itself where it may.
    let back = |direction| Sweep {
        place: Place::Byte {
            direction,
            then: Then::Back,
        },
        keeps_login: true,
        further: vec![Fault::CommandsOutliveConnection],
        count: 90,
    };
    let sweeps = [
        gone(Direction::ToHost),
        gone(Direction::ToClient),
        back(Direction::ToHost),
        back(Direction::ToClient),
    ];
    let cuts = run_sweeps("cut anywhere", &sweeps);
    assert!(cuts >= 300, "{cuts}");
}

#[test]
fn scripts_that_are_cut_anywhere_lose_nothing_and_the_next_ones_end_it() {
    let sweep = |direction, further: &[Fault]| Sweep {
        place: Place::Byte {
            direction,
            then: Then::Gone,
        },
        keeps_login: true,
        further: [&[Fault::NoPerl], further].concat(),
        count: 30,
    };
    let sweeps = [
        sweep(Direction::ToHost, &[]),
        sweep(Direction::ToClient, &[Fault::CommandsOutliveConnection]),
    ];
    let cuts = run_sweeps("cut anywhere without perl", &sweeps);
    assert!(cuts >= 50, "{cuts}");
}

#[test]
fn host_that_dies_before_any_change_loses_nothing_and_the_next_apply_ends_it() {
    let sweep = |further: &[Fault], count| Sweep {
        place: Place::Call,
        keeps_login: false,
        further: further.to_vec(),
        count,
    };
    let sweeps = [sweep(&[], 120), sweep(&[Fault::NoPerl], 40)];
    let deaths = run_sweeps("host dies anywhere", &sweeps);
    assert!(deaths >= 140, "{deaths}");
}
