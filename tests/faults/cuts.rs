//! Connections that end in the middle, wherever that is.

use std::thread;

use hostsync::apply::{HostResult, Report};
use hostsync::plan::HostStatus;
use hostsync::plan::prepare::Prepared;
use hostsync::state::Progress;

use crate::embedded::{Direction, Fault, Then};
use crate::site::{Patience, Site};
use crate::tree::Contents;

/// What a sweep of cuts has in common.
#[derive(Clone, Debug)]
struct Sweep {
    direction: Direction,
    /// Whether plan and apply share a login, so that apply makes another one where it breaks.
    keeps_login: bool,
    then: Then,
    /// What else is wrong with the host.
    further: Vec<Fault>,
    cuts: u64,
}

/// What became of the applies of a sweep.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cuts: usize,
    /// The plan could not be made.
    planning: usize,
    /// The apply failed, and nothing had changed.
    unchanged: usize,
    /// The apply failed, and something or all had changed.
    changed: usize,
    /// The apply came to its end nevertheless.
    done: usize,
}

impl Sweep {
    fn run(&self) -> Tally {
        let site = Site::new(Patience::LONG, &[("host", self.further.clone())]);
        let host = &site.hosts[0];
        assert_done(&site.apply(true).1, "the first apply");
        site.wait_until_idle();
        // From even to odd and from odd to even are two different streams.
        let mut old = site.dest(0);
        let lengths = [1, 2].map(|generation| {
            let new = site.write_generation(generation);
            host.set_faults(self.further.clone());
            assert_done(&site.apply(self.keeps_login).1, "an apply without fault");
            site.wait_until_idle();
            old = new;
            host.passed_bytes(self.direction)
        });
        let mut tally = Tally::default();
        for number in 0..self.cuts {
            let generation = usize::try_from(number).unwrap() + 3;
            let length = lengths[(generation + 1) % 2];
            // The last bytes say goodbye, and no two runs are of exactly the same length.
            let after_bytes = length * number / self.cuts;
            let case = format!("{self:?}, byte {after_bytes} of {length}");
            let new = site.write_generation(generation);
            let cut = Fault::Cut {
                direction: self.direction,
                after_bytes,
                then: self.then,
            };
            host.set_faults([vec![cut], self.further.clone()].concat());
            let (prepared, report) = site.apply(self.keeps_login);
            site.wait_until_idle();
            if !host.has_cut_or_stalled() {
                println!("{case}: not reached");
            }
            tally.cuts += usize::from(host.has_cut_or_stalled());
            tally.count(&prepared, &report, &site.dest(0), &old);
            assert_in_order(&site, &report, &old, &new, &case);

            host.set_faults(self.further.clone());
            self.assert_converges(&site, &old, &new, &case);
            old = new;
        }
        tally
    }

    /// Fails unless one more run comes to its end, finds nobody else's doing, and leaves nothing to do.
    fn assert_converges(&self, site: &Site, old: &Contents, new: &Contents, case: &str) {
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
        // Where the host came back at once, the next login may have come before the last one was gone.
        if self.then == Then::Gone {
            let base = Contents::of(&base);
            let left = base.starting_with("run-");
            assert!(left.is_empty(), "{case}: {left:?}");
        }
        let after = site.plan();
        assert!(
            !after.plan.summary().has_changes(),
            "{case}: {:?}",
            after.plan
        );
        assert!(!after.has_unsettled_hosts(), "{case}");
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
fn assert_in_order(site: &Site, report: &Report, old: &Contents, new: &Contents, case: &str) {
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
    let mut cuts = 0;
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
            cuts += tally.cuts;
        }
    }
    println!("{name}: {cuts} cuts");
    cuts
}

#[test]
fn apply_that_is_cut_anywhere_loses_nothing_and_the_next_one_ends_it() {
    let sweep = |direction, keeps_login, then, further| Sweep {
        direction,
        keeps_login,
        then,
        further,
        cuts: 90,
    };
    // Where the login is kept and the host comes back, apply makes up for a cut by itself where it may.
    let sweeps = [
        sweep(Direction::ToHost, false, Then::Gone, Vec::new()),
        sweep(Direction::ToClient, false, Then::Gone, Vec::new()),
        sweep(
            Direction::ToHost,
            true,
            Then::Back,
            vec![Fault::CommandsOutliveConnection],
        ),
        sweep(
            Direction::ToClient,
            true,
            Then::Back,
            vec![Fault::CommandsOutliveConnection],
        ),
    ];
    let cuts = run_sweeps("cut anywhere", &sweeps);
    assert!(cuts >= 300, "{cuts}");
}

#[test]
fn scripts_that_are_cut_anywhere_lose_nothing_and_the_next_ones_end_it() {
    let sweep = |direction, further: &[Fault]| Sweep {
        direction,
        keeps_login: true,
        then: Then::Gone,
        further: [&[Fault::NoPerl], further].concat(),
        cuts: std::env::var("CUTS").map_or(30, |c| c.parse().unwrap()),
    };
    let sweeps = [
        sweep(Direction::ToHost, &[]),
        sweep(Direction::ToClient, &[Fault::CommandsOutliveConnection]),
    ];
    let cuts = run_sweeps("cut anywhere without perl", &sweeps);
    assert!(cuts >= 50, "{cuts}");
}
