//! Two logins of the same host that push to the same place.

#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::chance::{Chance, seeds, setting};
use crate::hosts::Machine;
use crate::tree::Tree;
use hostsync_testkit::scenario::chmod;
use hostsync_testkit::{Sshd, SshdOptions, is_root};

const OVERWRITE: [&str; 4] = ["apply", "--auto-approve", "--on-conflict", "overwrite"];

/// Longest time between the starts of two runs.
const APART: Duration = Duration::from_millis(300);

#[test]
fn logins_that_share_a_staging_path_take_turns() {
    if !is_root() {
        println!("not root: a second login is not tried");
        return;
    }
    let as_root = SshdOptions {
        config: ["AllowUsers root", "PermitRootLogin yes"]
            .map(str::to_owned)
            .to_vec(),
        ..SshdOptions::default()
    };
    let hosts = [
        Sshd::start("127.0.107.11"),
        Sshd::start_with("127.0.107.12", &as_root),
    ];
    let shared = tempfile::tempdir().expect("a temporary folder");
    chmod(shared.path(), 0o755);
    for (name, mode) in [("site", 0o755), ("staging", 0o1777)] {
        fs::create_dir(shared.path().join(name)).expect("our folder");
        chmod(&shared.path().join(name), mode);
    }
    hosts[0].account.own(&shared.path().join("site"));
    let dest = shared.path().join("site/dest");
    let staging = format!("staging_path = {}", shared.path().join("staging").display());

    let base = Tree::random(&mut Chance::of(setting("STORM_SEED", 1)), 100);
    let mut machines = hosts.each_ref().map(|host| {
        let dest = dest.to_str().expect("plain");
        Machine::new(&[host], dest, &[&staging])
    });
    machines[1].scenario.set(0, "user", json!("root"));
    for machine in &mut machines {
        machine.set_source(base.clone());
        machine.scenario.apply();
    }
    let mut codes = Vec::new();
    for seed in seeds("STORM_RACES", 3) {
        let chance = &mut Chance::of(seed);
        let case = &format!("seed {seed}");
        println!("{case}");
        for machine in &mut machines {
            let mut source = base.clone();
            source.rewrite_some(chance);
            machine.set_source(source);
        }
        let first = chance.below(2);
        let one = machines[first].start(&OVERWRITE);
        thread::sleep(chance.time_below(APART));
        let two = machines[1 - first].start(&OVERWRITE);
        let ends = [one, two].map(|run| run.finish(case));
        for end in &ends {
            assert!([0, 4].contains(&end.code), "{case}: {end}");
        }
        let now = Tree::of(&dest);
        let sources = machines.each_ref().map(|machine| &machine.source);
        now.assert_whole(&[&base, sources[0], sources[1]], case);
        let missing = sources.map(|source| source.missing_in(&now, &base));
        assert!(
            missing.iter().any(Vec::is_empty),
            "{case}: mixed\n{missing:#?}\n{}\n{}",
            ends[0],
            ends[1]
        );
        codes.push(ends.map(|end| end.code));
        for number in [0, 1] {
            machines[number].set_source(base.clone());
            let end = machines[number].start(&OVERWRITE).finish(case);
            assert_eq!(end.code, 0, "{case}: {end}");
        }
        Tree::of(&dest).assert_is(&base, case);
    }
    println!("two logins: {} cases, exit codes {codes:?}", codes.len());
}
