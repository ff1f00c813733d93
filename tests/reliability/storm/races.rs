//! Several runs at the same time.

#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

use std::fs;
use std::thread;
use std::time::Duration;

use crate::chance::{Chance, seeds, setting};
use crate::hosts::{Hosts, Machine, Victim};
use crate::tree::Tree;
use hostsync_testkit::Host;
use hostsync_testkit::scenario::Output;

const OVERWRITE: [&str; 4] = ["apply", "--auto-approve", "--on-conflict", "overwrite"];

/// Longest time between the starts of two runs.
const APART: Duration = Duration::from_millis(1500);

/// Half of them make their plans at the same time.
fn time_apart(chance: &mut Chance) -> Duration {
    let limit = *chance.pick(&[APART / 20, APART]);
    chance.time_below(limit)
}

/// Who else there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// Another machine, with a copy of the state.
    Copy,
    /// Another machine, which has never heard of this one.
    Stranger,
}

/// Two machines, and hosts that both push to.
struct Race {
    hosts: Hosts,
    machines: [Machine; 2],
    /// What both hosts had before.
    base: Tree,
}

impl Race {
    fn new(network: u8, other: Other, seed: u64) -> Self {
        let chance = &mut Chance::of(seed);
        let hosts = Hosts::start(network, "dest");
        let [one, two] = &hosts.all;
        let both: [&Host; 2] = [one, two];
        let base = Tree::random(chance, 200);
        let mut first = Machine::new(&both, "~/dest", &[]);
        first.set_source(base.clone());
        first.scenario.apply();
        let mut second = Machine::new(&both, "~/dest", &[]);
        second.set_source(base.clone());
        if other == Other::Copy {
            second.copy_state_from(&first);
        } else {
            // It adopts what is there.
            second.scenario.apply();
        }
        Self {
            hosts,
            machines: [first, second],
            base,
        }
    }

    fn change_sources(&mut self, chance: &mut Chance) {
        for machine in &mut self.machines {
            let mut source = self.base.clone();
            source.change_around_folders(chance);
            machine.set_source(source);
        }
    }

    /// Both at once, from sources that differ.
    fn case(&mut self, seed: u64, kills: bool) -> [i32; 2] {
        let chance = &mut Chance::of(seed);
        self.change_sources(chance);
        let case = &format!("seed {seed}, kills: {kills}");
        let first = chance.below(2);
        let mut one = self.machines[first].start(&OVERWRITE);
        thread::sleep(time_apart(chance));
        let mut two = self.machines[1 - first].start(&OVERWRITE);
        if kills {
            thread::sleep(chance.time_below(APART));
            for victim in Victim::random(chance) {
                let run = if chance.one_in(2) { &mut one } else { &mut two };
                victim.kill(run, &self.hosts, chance);
            }
            self.check(case);
        }
        let ends = [one, two].map(|run| run.finish(case));
        self.hosts.wait_until_idle();
        self.check(case);
        let has_obstacles = ends.iter().any(is_kept_out);
        if !kills {
            for end in &ends {
                assert!(
                    [0, 4].contains(&end.code) || is_kept_out(end),
                    "{case}: {end}"
                );
            }
        }
        if !kills && !has_obstacles {
            self.assert_one_of_them_won(first, &ends, case);
        }
        self.reset(chance.below(2), case);
        ends.map(|end| end.code)
    }

    fn check(&self, case: &str) {
        let [one, two] = &self.machines;
        for host in 0..2 {
            let case = format!("{case}, host {host}");
            let now = self.hosts.tree(host);
            now.assert_whole(&[&self.base, &one.source, &two.source], &case);
            now.assert_nothing_lost(&self.base, &self.hosts.kept(host), &case);
        }
    }

    /// On each host, somebody has all that they changed; the other one was told, or came before.
    fn assert_one_of_them_won(&self, first: usize, ends: &[Output; 2], case: &str) {
        for host in 0..2 {
            let now = self.hosts.tree(host);
            let missing = [first, 1 - first]
                .map(|machine| self.machines[machine].source.missing_in(&now, &self.base));
            let has_won = missing.each_ref().map(Vec::is_empty);
            assert!(
                has_won.contains(&true),
                "{case}, host {host}: mixed\n{missing:#?}\n{}\n{}",
                ends[0],
                ends[1]
            );
        }
    }

    /// Both have the same base again, whoever comes first.
    fn reset(&mut self, first: usize, case: &str) {
        for host in &self.hosts.all {
            fs::remove_dir_all(host.dir().join("dest")).expect("root may");
        }
        for number in [first, 1 - first] {
            let machine = &mut self.machines[number];
            machine.set_source(self.base.clone());
            let end = machine.start(&OVERWRITE).finish(case);
            assert_eq!(end.code, 0, "{case}: {end}");
        }
        for machine in &self.machines {
            machine.assert_nothing_to_do(case);
        }
        for host in 0..2 {
            self.hosts.tree(host).assert_is(&self.base, case);
        }
        self.hosts.assert_clean(case);
    }
}

/// Whether a run was refused a place where the other one has put a folder with something in it.
fn is_kept_out(end: &Output) -> bool {
    end.code == 3 && end.stderr.contains("the folder holds what")
}

fn race(network: u8, other: Other) {
    let mut seeds = seeds("STORM_RACES", 3).peekable();
    let mut race = Race::new(network, other, *seeds.peek().expect("a case"));
    let mut codes = Vec::new();
    for seed in seeds {
        println!("seed {seed}, {other:?}");
        codes.push(race.case(seed, seed % 2 == 0));
    }
    println!("{other:?}: {} cases, exit codes {codes:?}", codes.len());
}

#[test]
fn machines_with_copies_of_a_state_take_turns_on_a_host() {
    race(102, Other::Copy);
}

#[test]
fn machines_that_share_nothing_take_turns_on_a_host() {
    race(103, Other::Stranger);
}

#[test]
fn runs_of_one_state_wait_for_each_other_or_say_that_it_is_locked() {
    let mut machine_chance = Chance::of(setting("STORM_SEED", 1));
    let hosts = Hosts::start(104, "dest");
    let [one, two] = &hosts.all;
    let mut machine = Machine::new(&[one, two], "~/dest", &[]);
    machine.set_source(Tree::random(&mut machine_chance, 200));
    machine.scenario.apply();
    let mut codes = Vec::new();
    for seed in seeds("STORM_RACES", 3) {
        let chance = &mut Chance::of(seed);
        let case = &format!("seed {seed}");
        println!("{case}");
        let before = machine.source.clone();
        let mut source = before.clone();
        source.change(chance);
        machine.set_source(source);
        let apply = ["apply", "--auto-approve"];
        let waiting = ["apply", "--auto-approve", "--lock-timeout", "60s"];
        let waits = chance.one_in(2);
        let mut first = machine.start(&apply);
        thread::sleep(chance.time_below(APART));
        let second = machine.start(if waits { &waiting } else { &apply });
        let kills = chance.one_in(2);
        if kills {
            thread::sleep(chance.time_below(APART / 2));
            first.kill();
        }
        let ends = [first, second].map(|run| run.finish(case));
        for (end, may_be) in ends.iter().zip([[-1, 0, 5], [0, 0, 5]]) {
            assert!(may_be.contains(&end.code), "{case}: {end}");
            assert!(!(waits && end.code == 5), "{case}: {end}");
        }
        let last = machine.start(&apply).finish(case);
        assert_eq!(last.code, 0, "{case}: {last}");
        hosts.wait_until_idle();
        for tree in hosts.trees() {
            tree.assert_is(&machine.source, case);
        }
        machine.assert_nothing_to_do(case);
        hosts.assert_clean(case);
        codes.push(ends.map(|end| end.code));
    }
    println!("one state: {} cases, exit codes {codes:?}", codes.len());
}

#[test]
fn unlock_leaves_the_lock_of_a_living_run_alone() {
    let mut race = Race::new(105, Other::Copy, setting("STORM_SEED", 1));
    let (mut unlocks, mut removals, mut codes) = (0, 0, Vec::new());
    for seed in seeds("STORM_RACES", 3) {
        let chance = &mut Chance::of(seed);
        let case = &format!("seed {seed}");
        println!("{case}");
        race.change_sources(chance);
        let mut dead = race.machines[0].start(&OVERWRITE);
        race.hosts.wait_for_a_commit(APART);
        thread::sleep(chance.time_below(APART / 10));
        let mut alive = race.machines[1].start(&OVERWRITE);
        thread::sleep(chance.time_below(APART / 10));
        for host in 0..2 {
            Victim::Worker(host).kill(&mut dead, &race.hosts, chance);
        }
        // Meanwhile somebody wants to help, again and again.
        let helper = &race.machines[0].scenario;
        while !(alive.is_over() && dead.is_over()) {
            for host in &race.hosts.all {
                let end = helper.run(&["unlock", &host.address]);
                assert!([0, 5].contains(&end.code), "{case}: {end}");
                let removed = end.stdout.split("removed the lock of process ").nth(1);
                let pid = removed.and_then(|rest| rest.split(',').next()?.parse::<i32>().ok());
                let mut living = host.processes().into_iter();
                let is_alive = living.any(|(it, _)| Some(it.as_raw_nonzero().get()) == pid);
                assert!(!is_alive, "{case}: {end}");
                unlocks += 1;
                removals += usize::from(pid.is_some());
            }
        }
        let ends = [dead, alive].map(|run| run.finish(case));
        race.hosts.wait_until_idle();
        race.check(case);
        codes.push(ends.map(|end| end.code));
        race.reset(chance.below(2), case);
    }
    println!("unlock: {unlocks} times beside a run, {removals} removals, exit codes {codes:?}");
}
