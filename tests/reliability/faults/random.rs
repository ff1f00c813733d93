//! Any tree, any edits on both sides, any fault: what is promised holds after every run.
//!
//! Each case has a few hosts that share a source. What a case is depends on the seed and its number
//! alone: `RANDOM_SEED`, `RANDOM_CASES` and `RANDOM_FIRST` choose others than the usual ones, and one that
//! fails says how to have it again.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::edits::{At, Author, Edit, edit};
use crate::fault_site::{FaultSite, LONG, Output};
use crate::tree::{Contents, Found};
use hostsync_testkit::embedded::{Direction, Fault, Moment, Then};

const SEED: u64 = 1;
const CASES: u64 = 24;
/// Of each case.
const NAMES: [&str; 3] = ["h0", "h1", "h2"];

/// All time-outs while hosts hang. Whoever hits it by being slow has one more fault, and no harm.
const SHORT: Duration = Duration::from_secs(2);
/// More than a case has applies.
const BACKUPS: usize = 50;
/// A folder on each host that is next to the destination, and that links of it point to.
const OUTSIDE: &str = "outside";

/// What happens to all hosts.
#[derive(Clone, Debug)]
struct Case {
    first_source: Vec<Edit>,
    /// The setting `exact` of each host.
    exact: Vec<Exact>,
    rounds: Vec<Round>,
    last_source: Vec<Edit>,
    last_edits: Vec<Vec<Edit>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exact {
    No,
    Yes,
    Mirror,
}

/// Edits, and a run with faults.
#[derive(Clone, Debug)]
struct Round {
    source: Vec<Edit>,
    run: Run,
    /// Whether hosts hang.
    hangs: bool,
    hosts: Vec<HostRound>,
}

/// How changes are made.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// `apply --auto-approve --on-conflict …`.
    Approved(&'static str),
    /// `plan --out` and `apply FILE`.
    Saved {
        /// Whether the hosts are faulty while they are planned, too.
        faulty_plan: bool,
        /// Whether the same file is applied once more, to hosts that are well.
        again: bool,
    },
}

/// What happens to one host in a round.
#[derive(Clone, Debug)]
struct HostRound {
    edits: Vec<Edit>,
    /// Behind a plan that is saved.
    late_edits: Vec<Edit>,
    fault: Wrong,
    hang: Wrong,
    without_perl: bool,
    outlives: bool,
}

/// A fault of a host. Where it is depends on how long an apply is, of which it has some thousandths.
#[derive(Clone, Debug)]
enum Wrong {
    Cut(Direction, u64, Then),
    Stall(Direction, u64, Then),
    Death(u64),
    Other(Vec<Fault>),
}

/// How long an apply of a host was.
#[derive(Clone, Copy, Debug, Default)]
struct Length {
    to_host_bytes: u64,
    to_client_bytes: u64,
    calls: u64,
}

impl Wrong {
    fn faults(&self, length: Length) -> Vec<Fault> {
        let bytes = |direction: Direction| match direction {
            Direction::ToHost => length.to_host_bytes,
            Direction::ToClient => length.to_client_bytes,
        };
        let (direction, then) = match self {
            Self::Cut(direction, _, then) | Self::Stall(direction, _, then) => (*direction, *then),
            _ => (Direction::ToHost, Then::Gone),
        };
        match self {
            Self::Cut(_, part, _) => vec![Fault::Cut {
                direction,
                after_bytes: bytes(direction) * part / 1000,
                then,
            }],
            Self::Stall(_, part, _) => vec![Fault::Stall {
                direction,
                after_bytes: bytes(direction) * part / 1000,
                then,
            }],
            Self::Death(part) => vec![Fault::DieAtCall {
                number: 1 + length.calls * part / 1000,
            }],
            Self::Other(faults) => faults.clone(),
        }
    }
}

// --- what a case may be ------------------------------------------------------------------------------

fn case() -> impl Strategy<Value = Case> {
    let exact = select(&[Exact::No, Exact::Yes, Exact::Mirror][..]);
    let last_edits = vec(vec(edit(true), 0..3), NAMES.len());
    (
        vec(edit(false), 3..25),
        vec(exact, NAMES.len()),
        vec(round(), 1..=3),
        prop_oneof![Just(Vec::new()), vec(edit(false), 1..6)],
        prop_oneof![Just(vec![Vec::new(); NAMES.len()]), last_edits],
    )
        .prop_map(
            |(first_source, exact, rounds, last_source, last_edits)| Case {
                first_source,
                exact,
                rounds,
                last_source,
                last_edits,
            },
        )
}

fn round() -> impl Strategy<Value = Round> {
    let approved = select(&["fail", "skip", "overwrite", "overwrite"][..]);
    let run = prop_oneof![
        3 => approved.prop_map(Run::Approved),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(faulty_plan, again)| Run::Saved { faulty_plan, again }),
    ];
    let source = prop_oneof![1 => Just(Vec::new()), 4 => vec(edit(false), 1..12)];
    let hosts = vec(host_round(), NAMES.len());
    (source, run, prop::bool::weighted(0.06), hosts).prop_map(|(source, run, hangs, hosts)| Round {
        source,
        run,
        hangs,
        hosts,
    })
}

fn host_round() -> impl Strategy<Value = HostRound> {
    let edits = || prop_oneof![2 => Just(Vec::new()), 3 => vec(edit(true), 1..6)];
    let late_edits = prop_oneof![2 => Just(Vec::new()), 1 => vec(edit(true), 1..3)];
    (
        edits(),
        late_edits,
        fault(),
        hang(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
    )
        .prop_map(
            |(edits, late_edits, fault, hang, without_perl, outlives)| HostRound {
                edits,
                late_edits,
                fault,
                hang,
                without_perl,
                outlives,
            },
        )
}

/// Where something happens on a line.
fn place() -> impl Strategy<Value = (Direction, u64, Then)> {
    let direction = select(&[Direction::ToHost, Direction::ToClient][..]);
    (
        direction,
        0..1100_u64,
        select(&[Then::Back, Then::Gone][..]),
    )
}

/// A fault that does not make anybody wait.
fn fault() -> impl Strategy<Value = Wrong> {
    let noise = |text: &[u8]| Fault::Noise {
        before: text.to_vec(),
        after: text.to_vec(),
    };
    let others = [
        Fault::LoseExitStatus,
        Fault::WrongHash,
        Fault::FloodStderr { size_bytes: 70_000 },
        noise(b"Welcome!\n"),
        noise(b"\x01scp: no\n\0\0\0\x02\xff\xfe\0"),
        noise(b"HOSTSYNC 00000000000000000000000000000000 end ok\nHOSTSYNC end\n"),
    ];
    let other = prop_oneof![
        3 => (0..16_u64).prop_map(|number| Fault::DropAck { number }),
        1 => (1_000..60_000_u32).prop_map(|size_bytes| Fault::Window { size_bytes }),
        1 => (5_000..60_000_usize).prop_map(|size_bytes| Fault::RekeyEvery { size_bytes }),
        4 => select(others.to_vec()),
    ];
    prop_oneof![
        8 => place().prop_map(|(direction, part, then)| Wrong::Cut(direction, part, then)),
        8 => (0..1100_u64).prop_map(Wrong::Death),
        4 => other.prop_map(|fault| Wrong::Other(vec![fault])),
        2 => Just(Wrong::Other(Vec::new())),
    ]
}

/// A fault that makes the program wait until a time-out, or read what does not end. Hosts that hang for
/// good are not among them, since nobody could wait for their end.
fn hang() -> impl Strategy<Value = Wrong> {
    let others = [Fault::HangAt(Moment::Greeting), Fault::EndlessNoise];
    prop_oneof![
        4 => place().prop_map(|(direction, part, then)| Wrong::Stall(direction, part, then)),
        1 => select(others.to_vec()).prop_map(|fault| Wrong::Other(vec![fault])),
    ]
}

// --- what is known -----------------------------------------------------------------------------------

/// All that somebody has put at each path, but for folders.
#[derive(Debug, Default)]
struct Written(BTreeMap<PathBuf, Vec<Found>>);

impl Written {
    fn add(&mut self, there: &Contents) {
        for (path, found) in &there.0 {
            if !found.is_dir() && !self.has(path, found) {
                self.0.entry(path.clone()).or_default().push(found.clone());
            }
        }
    }

    fn has(&self, path: &Path, found: &Found) -> bool {
        let written = self.0.get(path);
        written.is_some_and(|all| all.iter().any(|it| it.has_same_content(found)))
    }
}

/// What a host has.
#[derive(Clone, Debug)]
struct Snapshot {
    dest: Contents,
    /// All backups, by what follows the number of the apply and that of the mapping.
    backups: Vec<(PathBuf, PathBuf, Found)>,
}

/// What is known about a host.
struct Lane<'a> {
    site: &'a FaultSite,
    host: usize,
    exact: Exact,
    length: Length,
    person: Author,
    written: Written,
    /// What somebody else put there, that is still there, and that the source has never had.
    theirs: BTreeMap<PathBuf, Found>,
    /// Where somebody else did something, ever.
    touched: BTreeSet<PathBuf>,
    /// Whether its tools have ever lied.
    has_lied: bool,
}

/// What a run may do on a host.
#[derive(Clone, Debug, Default)]
struct Limits {
    /// Entries that may not change.
    kept: BTreeMap<PathBuf, Found>,
    /// Whether somebody was there after the plan was made: then some of it is left out.
    is_late: bool,
}

/// How a run ended for a host.
#[derive(Debug, Default)]
struct Outcome {
    result: String,
    error: String,
    /// What was refused or skipped.
    left_out: Vec<(PathBuf, String)>,
}

impl<'a> Lane<'a> {
    fn new(site: &'a FaultSite, host: usize, exact: Exact) -> Self {
        let outside = site.hosts[host].home().join(OUTSIDE);
        fs::create_dir(&outside).unwrap();
        for name in ["a", "b"] {
            fs::write(outside.join(name), "not ours").unwrap();
        }
        let how = match exact {
            Exact::No => json!(false),
            Exact::Yes => json!(true),
            Exact::Mirror => json!("mirror"),
        };
        site.write_mapping(NAMES[host], &how);
        Self {
            site,
            host,
            exact,
            length: Length::default(),
            person: Author::new(NAMES[host]),
            written: Written::default(),
            theirs: BTreeMap::new(),
            touched: BTreeSet::new(),
            has_lied: false,
        }
    }

    fn measure(&mut self) {
        let host = &self.site.hosts[self.host];
        self.length = Length {
            to_host_bytes: host.passed_bytes(Direction::ToHost),
            to_client_bytes: host.passed_bytes(Direction::ToClient),
            calls: host.calls(),
        };
    }

    /// Somebody does something on the host.
    fn edit(&mut self, edits: &[Edit], source: &Contents, sources: &Written) {
        let before = self.site.dest(self.host);
        let dest = self.site.hosts[self.host].home().join("dest");
        self.person.edit(&dest, edits, source);
        let after = self.site.dest(self.host);
        self.written.add(&after);
        for path in before.0.keys().chain(after.0.keys()) {
            let (before, after) = (before.0.get(path), after.0.get(path));
            if before != after {
                self.touched.insert(path.clone());
            }
            let Some(after) = after else {
                self.theirs.remove(path);
                continue;
            };
            let is_same = before.is_some_and(|before| before.has_same_content(after));
            if !is_same {
                self.theirs.remove(path);
                if !after.is_dir() && !sources.has(path, after) {
                    self.theirs.insert(path.clone(), after.clone());
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut backups = Vec::new();
        if let Some(base) = self.site.base(self.host) {
            for (path, found) in Contents::of(&base.join("backup")).0 {
                let below: PathBuf = path.iter().skip(2).collect();
                if !found.is_dir() {
                    backups.push((path, below, found));
                }
            }
        }
        Snapshot {
            dest: self.site.dest(self.host),
            backups,
        }
    }

    /// Fails unless the host is as it may be after a run. `kept` are entries that may not have changed.
    fn check(
        &mut self,
        before: &Snapshot,
        outcome: &Outcome,
        sources: &Written,
        kept: &BTreeMap<PathBuf, Found>,
        case: &str,
    ) {
        let after = self.snapshot();
        let is_whole = |path: &Path, found: &Found| {
            found.is_dir() || sources.has(path, found) || self.written.has(path, found)
        };
        for (path, found) in &after.dest.0 {
            assert!(
                is_whole(path, found),
                "{case}: {path:?} is what nobody wrote: {found:?}"
            );
        }
        for (path, below, found) in &after.backups {
            assert!(
                is_whole(below, found),
                "{case}: backup {path:?} is what nobody wrote: {found:?}"
            );
        }
        for (path, found) in &before.dest.0 {
            let in_place = after
                .dest
                .0
                .get(path)
                .is_some_and(|it| it.has_same_content(found));
            let is_kept = || {
                let mut backups = after.backups.iter();
                backups.any(|(_, below, kept)| below == path && kept.has_same_content(found))
            };
            assert!(
                found.is_dir() || in_place || is_kept(),
                "{case}: {path:?} is neither in place nor in a backup: {found:?}"
            );
        }
        for (path, _, found) in &before.backups {
            let is_there = after
                .backups
                .iter()
                .any(|it| it.0 == *path && it.2 == *found);
            assert!(
                is_there,
                "{case}: the backup {path:?} is gone or has changed"
            );
        }
        for (path, found) in kept {
            let there = after.dest.0.get(path);
            assert!(
                there.is_some_and(|it| it.has_same_content(found)),
                "{case}: nobody has approved that {path:?} goes: {found:?} is now {there:?}"
            );
        }
        if matches!(outcome.result.as_str(), "conflicts" | "stale" | "unchanged") {
            assert_eq!(
                before.dest, after.dest,
                "{case}: {outcome:?}, and yet it has changed"
            );
        }
        self.theirs.retain(|path, found| {
            let there = after.dest.0.get(path);
            there.is_some_and(|it| it.has_same_content(found))
        });
        let outside = Contents::of(&self.site.hosts[self.host].home().join(OUTSIDE));
        assert_eq!(outside.0.len(), 3, "{case}: {outside:?}");
        for name in ["a", "b"] {
            let found = &outside.0[Path::new(name)];
            let is_same = matches!(found, Found::File { bytes, .. } if bytes == b"not ours");
            assert!(is_same, "{case}: {found:?}");
        }
    }

    /// Takes away the folders of others in which there was more than the plan could know, which only a
    /// mirror looks for. Says whether there were any.
    fn make_room(&mut self, outcome: &Outcome, source: &Contents, sources: &Written) -> bool {
        let mut edits = Vec::new();
        for (path, because) in &outcome.left_out {
            let mut below = self.touched.range(path.clone()..);
            let is_foreign = below.any(|touched| touched != path && touched.starts_with(path));
            if because.starts_with("the folder holds what hostsync has not written")
                && self.exact != Exact::Mirror
                && is_foreign
            {
                let at = At::Path(path.clone());
                edits.push(Edit::Remove { at });
            }
        }
        self.edit(&edits, source, sources);
        !edits.is_empty()
    }

    /// Fails unless a run that is done has left what the source and the setting say.
    fn assert_done(&self, before: &Contents, source: &Contents, case: &str) {
        let dest = self.site.dest(self.host);
        for (path, found) in &source.0 {
            let there = dest.0.get(path);
            assert_eq!(
                there,
                Some(found),
                "{case}: {path:?} is not as in the source"
            );
        }
        let is_in_the_way = |path: &Path| {
            let mut folders = path.ancestors().skip(1);
            folders.any(|it| source.0.get(it).is_some_and(|found| !found.is_dir()))
        };
        for (path, found) in &before.0 {
            let is_foreign = self.exact == Exact::No || self.theirs.contains_key(path);
            let stays = is_foreign && !source.0.contains_key(path) && !is_in_the_way(path);
            if stays && self.exact != Exact::Mirror {
                assert_eq!(
                    dest.0.get(path),
                    Some(found),
                    "{case}: {path:?} is not ours to change"
                );
            }
        }
        for (path, found) in &dest.0 {
            if source.0.contains_key(path) {
                continue;
            }
            assert_ne!(
                self.exact,
                Exact::Mirror,
                "{case}: {path:?} is not in the source"
            );
            assert!(
                before.0.contains_key(path),
                "{case}: {path:?} came from nowhere"
            );
            let is_touched = || self.touched.iter().any(|touched| touched.starts_with(path));
            assert!(
                self.exact == Exact::No || self.has_lied || is_touched(),
                "{case}: {path:?} is ours, and not in the source any more: {found:?}"
            );
        }
    }
}

// --- running a case ----------------------------------------------------------------------------------

/// What all hosts of a case share.
struct Ground<'a> {
    site: &'a FaultSite,
    lanes: Vec<Lane<'a>>,
    owner: Author,
    source: Contents,
    sources: Written,
}

impl Ground<'_> {
    fn edit_source(&mut self, edits: &[Edit]) {
        let none = Contents::default();
        self.owner.edit(&self.site.source_folder(), edits, &none);
        self.source = self.site.source();
        self.sources.add(&self.source);
    }

    fn set_faults(&mut self, round: &Round, with_them: bool) {
        for (lane, host) in self.lanes.iter_mut().zip(&round.hosts) {
            let wrong = if round.hangs { &host.hang } else { &host.fault };
            let mut faults = Vec::new();
            if with_them {
                faults = wrong.faults(lane.length);
                if host.outlives {
                    faults.push(Fault::CommandsOutliveConnection);
                }
            }
            if host.without_perl {
                faults.push(Fault::NoPerl);
            }
            lane.has_lied |= faults.contains(&Fault::WrongHash);
            self.site.hosts[lane.host].set_faults(faults);
        }
    }

    /// Applies, and holds every host to what is promised.
    fn apply(&mut self, args: &[&str], limits: &[Limits], case: &str) -> Vec<Outcome> {
        let before: Vec<Snapshot> = self.lanes.iter().map(Lane::snapshot).collect();
        let output = self.site.run(&[args, &["--format", "json"]].concat());
        self.site.wait_until_idle();
        assert!(matches!(output.code, Some(0 | 3 | 4)), "{case}: {output:?}");
        let outcomes = outcomes(&output);
        for (index, outcome) in outcomes.iter().enumerate() {
            let lane = &mut self.lanes[index];
            let case = format!("{case}, {}: {outcome:?}", NAMES[index]);
            lane.check(
                &before[index],
                outcome,
                &self.sources,
                &limits[index].kept,
                &case,
            );
        }
        for (index, outcome) in outcomes.iter().enumerate() {
            let lane = &self.lanes[index];
            let is_done = matches!(outcome.result.as_str(), "done" | "unchanged");
            if is_done && !limits[index].is_late && outcome.left_out.is_empty() && !lane.has_lied {
                let case = format!("{case}, {}: {outcome:?}", NAMES[index]);
                lane.assert_done(&before[index].dest, &self.source, &case);
            }
        }
        outcomes
    }

    fn edit_hosts<'e>(&mut self, edits: impl Iterator<Item = &'e Vec<Edit>>) {
        for (lane, edits) in self.lanes.iter_mut().zip(edits) {
            lane.edit(edits, &self.source, &self.sources);
        }
    }

    /// What whoever does not overwrite conflicts may do.
    fn limits(&self) -> Vec<Limits> {
        let of = |lane: &Lane<'_>| Limits {
            kept: lane.theirs.clone(),
            is_late: false,
        };
        self.lanes.iter().map(of).collect()
    }

    fn round(&mut self, number: usize, round: &Round) {
        let none = vec![Limits::default(); NAMES.len()];
        self.edit_source(&round.source);
        self.edit_hosts(round.hosts.iter().map(|host| &host.edits));
        let timeout = if round.hangs { SHORT } else { LONG };
        self.site.write_settings(timeout, BACKUPS);
        match round.run {
            Run::Approved(on_conflict) => {
                self.set_faults(round, true);
                let limits = match on_conflict {
                    "overwrite" => none,
                    _ => self.limits(),
                };
                let args = ["apply", "--auto-approve", "--on-conflict", on_conflict];
                self.apply(&args, &limits, &format!("round {number}"));
            }
            Run::Saved { faulty_plan, again } => {
                self.set_faults(round, faulty_plan);
                let plan = self.site.run(&["plan", "--out", "plan.json"]);
                self.site.wait_until_idle();
                assert!(matches!(plan.code, Some(0 | 3)), "round {number}: {plan:?}");
                let before = self.limits();
                self.edit_hosts(round.hosts.iter().map(|host| &host.late_edits));
                // What has come since then, nobody has reviewed.
                let mut limits = self.limits();
                for ((limits, before), host) in limits.iter_mut().zip(&before).zip(&round.hosts) {
                    limits
                        .kept
                        .retain(|path, found| before.kept.get(path) != Some(found));
                    limits.is_late = !host.late_edits.is_empty();
                }
                self.set_faults(round, true);
                self.apply(&["apply", "plan.json"], &limits, &format!("round {number}"));
                if again {
                    self.set_faults(round, false);
                    self.site.write_settings(LONG, BACKUPS);
                    let case = format!("round {number} again");
                    let outcomes = self.apply(&["apply", "plan.json"], &limits, &case);
                    for (outcome, host) in outcomes.iter().zip(&round.hosts) {
                        let is_well = host.late_edits.is_empty() && !faulty_plan;
                        let is_stuck = is_well && outcome.result == "stale";
                        assert!(!is_stuck, "{case}: {outcome:?}");
                    }
                }
            }
        }
        self.site.write_settings(LONG, BACKUPS);
        self.site.repair();
    }

    fn finish(&mut self, case: &Case) {
        self.edit_source(&case.last_source);
        self.edit_hosts(case.last_edits.iter());
        let none = vec![Limits::default(); NAMES.len()];
        let args = ["apply", "--auto-approve", "--on-conflict", "overwrite"];
        let mut outcomes = self.apply(&args, &none, "the last run");
        let mut makes_room = false;
        for (lane, outcome) in self.lanes.iter_mut().zip(&outcomes) {
            makes_room |= lane.make_room(outcome, &self.source, &self.sources);
        }
        if makes_room {
            outcomes = self.apply(&args, &none, "the last run, with room made");
        }
        for (lane, outcome) in self.lanes.iter().zip(&outcomes) {
            let is_done = matches!(outcome.result.as_str(), "done" | "unchanged");
            // A folder of ours in which somebody keeps something stays.
            let is_spared = |because: &str| {
                lane.exact != Exact::Mirror && because == "something else is in the folder"
            };
            let mut left_out = outcome.left_out.iter();
            let is_whole = left_out.all(|(_, because)| is_spared(because));
            assert!(is_done && is_whole, "the last run: {outcomes:?}");
        }
        let plan = self.site.run(&["plan", "--detailed-exitcode"]);
        let text = &plan.text;
        assert_eq!(
            plan.code,
            Some(0),
            "there is more to do: {outcomes:?} {text}"
        );
        for lane in &self.lanes {
            let base = Contents::of(&self.site.base(lane.host).unwrap());
            assert_eq!(base.signed_runs(), Vec::<&PathBuf>::new());
        }
    }
}

/// What the lines of an apply say about each host; nothing where they end before that.
fn outcomes(output: &Output) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = NAMES.iter().map(|_| Outcome::default()).collect();
    for line in output.text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let Some(index) = NAMES.iter().position(|name| line["host"] == *name) else {
            continue;
        };
        match line["type"].as_str() {
            Some("host_finished") => {
                let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
                (outcomes[index].result, outcomes[index].error) = (text("result"), text("error"));
            }
            Some("change_refused" | "change_skipped") => {
                let because = line["because"].as_str().unwrap().to_owned();
                outcomes[index].left_out.push((path_of(&line), because));
            }
            _ => {}
        }
    }
    outcomes
}

/// The path that a line of an apply is about.
fn path_of(line: &Value) -> PathBuf {
    let bytes = match line["path_base64"].as_str() {
        Some(encoded) => STANDARD.decode(encoded).unwrap(),
        None => line["path"].as_str().unwrap().as_bytes().to_vec(),
    };
    OsString::from_vec(bytes).into()
}

fn run_case(case: &Case) {
    let site = FaultSite::new(LONG, &NAMES.map(|name| (name, Vec::new())));
    site.write_settings(LONG, BACKUPS);
    let source = site.source_folder();
    fs::remove_dir_all(&source).unwrap();
    fs::create_dir(&source).unwrap();
    let lanes = case.exact.iter().enumerate();
    let mut ground = Ground {
        site: &site,
        lanes: lanes
            .map(|(host, exact)| Lane::new(&site, host, *exact))
            .collect(),
        owner: Author::new("source"),
        source: Contents::default(),
        sources: Written::default(),
    };
    ground.edit_source(&case.first_source);
    for (host, first) in site.hosts.iter().zip(&case.rounds[0].hosts) {
        let count = Fault::DieAtCall { number: u64::MAX };
        let without_perl = first.without_perl.then_some(Fault::NoPerl);
        host.set_faults([count].into_iter().chain(without_perl).collect());
    }
    let output = site.run_apply();
    assert_eq!(output.code, Some(0), "the first run: {}", output.text);
    site.wait_until_idle();
    for lane in &mut ground.lanes {
        lane.measure();
        lane.assert_done(&Contents::default(), &ground.source, "the first run");
    }
    for (number, round) in case.rounds.iter().enumerate() {
        ground.round(number, round);
    }
    ground.finish(case);
}

/// The case of this number.
fn case_of(seed: u64, number: u64) -> Case {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    case().new_tree(&mut runner).unwrap().current()
}

fn setting(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[test]
fn whatever_happens_nothing_is_lost_and_one_more_run_ends_it() {
    let seed = setting("RANDOM_SEED", SEED);
    let first = setting("RANDOM_FIRST", 0);
    let cases = setting("RANDOM_CASES", CASES);
    let next = AtomicU64::new(first);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + cases {
                        return;
                    }
                    let case = case_of(seed, number);
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run_case(&case))) {
                        println!(
                            "to have it again: RANDOM_SEED={seed} RANDOM_FIRST={number} RANDOM_CASES=1\n{case:#?}"
                        );
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
    let hosts = cases * NAMES.len() as u64;
    println!("random: seed {seed}, {cases} cases, {hosts} hosts");
}
