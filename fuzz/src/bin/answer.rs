//! Whatever a host answers to tasks whose sections are kept as they are.

#![cfg_attr(fuzzing, no_main)]

use std::time::Duration;

use hostsync::model::Mode;
use hostsync::remote::tasks::fetch::{Fetched, Wanted, fetch};
use hostsync::remote::tasks::restore::{RestoreRequest, RestoredFile, restore};
use hostsync::remote::tasks::unlock::unlock;
use hostsync_fuzz::{is_short, login_with_answer, remote, target};

fn answer(bytes: &[u8]) {
    let stall_timeout = Duration::from_mins(1);
    let wanted = ["/a", "/b"].map(|path| Wanted {
        path: remote(path),
        size_bytes: 100,
    });
    match fetch(&mut login_with_answer(bytes), &wanted, stall_timeout) {
        Ok(fetched) => {
            assert_eq!(fetched.len(), wanted.len());
            for fetched in fetched {
                if let Fetched::Content(content) = fetched {
                    // A nonce is longer than the word that stands for it.
                    assert!(content.len() <= 8 * bytes.len());
                }
            }
        }
        Err(error) => is_short(&error),
    }
    match unlock(
        &mut login_with_answer(bytes),
        &remote("/base"),
        stall_timeout,
    ) {
        Ok(locks) => assert!(locks.len() <= bytes.len()),
        Err(error) => is_short(&error),
    }
    let request = RestoreRequest {
        base: &remote("/base"),
        run_name: "run",
        files: &[RestoredFile {
            size_bytes: 1,
            mode: Mode::new(0o644),
            digest: "0".repeat(64),
            path: b"0/a".to_vec(),
            backups: &[b"backup/1/0/a".to_vec()],
        }],
        total_bytes: 1,
        stall_timeout,
    };
    if let Err(error) = restore(&mut login_with_answer(bytes), &request) {
        is_short(&error);
    }
}

target!(answer);
