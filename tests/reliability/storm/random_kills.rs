//! Kills of the client, of what works on the hosts, of sessions, and of several of these at once.

#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

use std::thread;
use std::time::{Duration, Instant};

use crate::chance::{Chance, seeds};
use crate::hosts::{Hosts, Machine, Victim};
use crate::tree::Tree;

/// What a storm has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cases: usize,
    /// Kills that hit something.
    kills: usize,
    /// Kills after which a host was between its old tree and its new one.
    halves: usize,
}

struct Storm {
    hosts: Hosts,
    machine: Machine,
    tally: Tally,
    /// How long an apply takes here.
    duration: Duration,
}

impl Storm {
    fn new(network: u8, seed: u64) -> Self {
        let hosts = Hosts::start(network, "dest");
        let [one, two] = &hosts.all;
        let mut machine = Machine::new(&[one, two], "~/dest", &[]);
        machine.set_source(Tree::random(&mut Chance::of(seed), 200));
        let started = Instant::now();
        machine.scenario.apply();
        Self {
            hosts,
            machine,
            tally: Tally::default(),
            duration: started.elapsed(),
        }
    }

    fn change_source(&mut self, chance: &mut Chance) {
        let mut source = self.machine.source.clone();
        source.change(chance);
        self.machine.set_source(source);
    }

    /// One case: a run that is killed, perhaps another one, and one that comes to its end.
    fn case(&mut self, seed: u64) {
        let chance = &mut Chance::of(seed);
        let is_saved = chance.one_in(3);
        // What the hosts may have of each entry.
        let mut may_be = vec![self.machine.source.clone()];
        self.change_source(chance);
        let mut args = ["apply", "--auto-approve"];
        if is_saved {
            self.machine
                .scenario
                .run(&["plan", "--out", "plan.json", "-q"])
                .expect(0);
            args = ["apply", "plan.json"];
        }
        println!("seed {seed}, saved plan: {is_saved}");
        for strike in 0..=usize::from(chance.one_in(3)) {
            if strike > 0 && !is_saved && chance.one_in(2) {
                may_be.push(self.machine.source.clone());
                self.change_source(chance);
            }
            may_be.push(self.machine.source.clone());
            self.strike(&args, is_saved, &may_be, chance, seed);
            may_be.pop();
        }
        if !is_saved && chance.one_in(2) {
            self.change_source(chance);
        }
        let case = format!("seed {seed}, at last");
        let before = self.hosts.trees();
        let end = self.machine.start(&args).finish(&case);
        // Killed after its last word, or not at all.
        let is_stale = is_saved && end.code == 4 && end.stderr.contains("applied already");
        assert!(end.code == 0 || is_stale, "{case}: {end}");
        self.hosts.wait_until_idle();
        for (host, before) in before.iter().enumerate() {
            let now = self.hosts.tree(host);
            let case = format!("{case}, host {host}");
            now.assert_is(&self.machine.source, &case);
            now.assert_nothing_lost(before, &self.hosts.kept(host), &case);
        }
        self.machine.assert_nothing_to_do(&case);
        // A saved plan sees to nothing else, and what a run has left that was still dying is not yet dead.
        let end = self
            .machine
            .start(&["apply", "--auto-approve"])
            .finish(&case);
        assert_eq!(end.code, 0, "{case}: {end}");
        self.hosts.assert_clean(&case);
        self.tally.cases += 1;
    }

    /// Starts a run, and kills some of it.
    fn strike(
        &mut self,
        args: &[&str],
        is_saved: bool,
        may_be: &[Tree],
        chance: &mut Chance,
        seed: u64,
    ) {
        let before = self.hosts.trees();
        let victims = Victim::random(chance);
        let mut run = self.machine.start(args);
        // Half of them while entries are put in place.
        let is_in_commit = chance.one_in(2);
        let limit = if is_in_commit {
            self.hosts.wait_for_a_commit(self.duration * 2);
            self.duration / 2
        } else {
            self.duration * 5 / 4
        };
        let delay = chance.time_below(limit);
        thread::sleep(delay);
        let case = format!("seed {seed}, {victims:?} after {delay:?}, in commit: {is_in_commit}");
        let mut killed = 0;
        for victim in &victims {
            killed += victim.kill(&mut run, &self.hosts, chance);
        }
        self.tally.kills += usize::from(killed > 0);
        // At once, and again when nothing moves any more.
        self.check(&before, may_be, &case);
        if chance.one_in(3) {
            // Whatever goes on without the client meets the next run.
            run.kill();
        }
        let end = run.finish(&case);
        let is_stale = is_saved && end.code == 4 && end.stderr.contains("applied already");
        let is_expected = [-1, 0, 3].contains(&end.code) || is_stale;
        assert!(is_expected, "{case}: {end}");
        self.check(&before, may_be, &case);
        if !is_saved && chance.one_in(2) {
            self.machine.assert_all_ours(&case);
        }
    }

    fn check(&mut self, before: &[Tree], may_be: &[Tree], case: &str) {
        let may_be: Vec<&Tree> = may_be.iter().collect();
        for (host, before) in before.iter().enumerate() {
            let now = self.hosts.tree(host);
            let case = format!("{case}, host {host}");
            now.assert_whole(&may_be, &case);
            now.assert_nothing_lost(before, &self.hosts.kept(host), &case);
            let is_half = may_be.iter().all(|tree| now != **tree);
            self.tally.halves += usize::from(is_half);
        }
    }
}

#[test]
fn whatever_is_killed_at_any_moment_the_next_run_ends_in_the_same_tree() {
    let mut seeds = seeds("STORM_KILLS", 8).peekable();
    let first = *seeds.peek().expect("a case");
    let mut storm = Storm::new(101, first);
    for seed in seeds {
        storm.case(seed);
    }
    println!("storm of kills: {:?}", storm.tally);
    assert!(storm.tally.kills > 0);
}
