//! Whatever a host answers to a commit.

#![cfg_attr(fuzzing, no_main)]

use std::time::Duration;

use hostsync::model::RelPath;
use hostsync::remote::tasks::commit::{
    CommitError, CommitRequest, ListingScope, NewListing, StagedFile, Step, StepAt, commit as ask,
};
use hostsync_fuzz::{is_short, login_with_answer, remote, target};

fn commit(bytes: &[u8]) {
    let steps = ["a", "b", "c"].map(|name| StepAt {
        mapping: 0,
        path: RelPath::new(name).expect("a path"),
        step: Step::New { group: None },
    });
    let request = CommitRequest {
        home: &remote("/base"),
        bases: &[remote("/base")],
        run_name: "run",
        roots: &[&remote("/d")],
        trusted: &[],
        base_of: &[0],
        serial: 1,
        backups: 1,
        wait: Duration::from_secs(30),
        block_bytes: 4 << 20,
        steps: &steps,
        staged: &[StagedFile {
            base: 0,
            path: b"0/a".to_vec(),
            digest: "0".repeat(64),
        }],
        large: &[],
        staged_bytes: 1,
        listing: &NewListing {
            scope: ListingScope::All,
            kept: String::new(),
            paths: vec![remote("/d/a")],
        },
        stall_timeout: Duration::from_mins(1),
    };
    match ask(&mut login_with_answer(bytes), &request) {
        Ok(answer) => {
            assert!(answer.steps.keys().all(|number| *number < steps.len()));
            assert!(answer.listed.len() <= bytes.len());
        }
        // Shown with what it stands for here, which is nothing.
        Err(CommitError::Unverified(names)) => assert!(names.len() <= bytes.len()),
        Err(error) => is_short(&error),
    }
}

target!(commit);
