//! Whatever a host answers when it is asked what it has of large files.

#![cfg_attr(fuzzing, no_main)]

use std::time::Duration;

use hostsync::model::Blake3;
use hostsync::remote::tasks::blocks::{BlocksFile, BlocksRequest, blocks as ask};
use hostsync_fuzz::{is_short, login_with_answer, remote, target};

fn blocks(bytes: &[u8]) {
    let dest = remote("/d/a");
    let files = [100, 3 << 22].map(|size_bytes| BlocksFile {
        id: Blake3::of(b"a"),
        size_bytes,
        dest: &dest,
    });
    let request = BlocksRequest {
        base: &remote("/base"),
        run_name: "run",
        block_bytes: 4 << 20,
        files: &files,
        stall_timeout: Duration::from_mins(1),
    };
    match ask(&mut login_with_answer(bytes), &request, &|| false) {
        Ok(answer) => {
            let counts: Vec<usize> = answer.digests.iter().map(Vec::len).collect();
            assert!(
                counts.len() == 2 && counts[0] <= 1 && counts[1] <= 3,
                "{counts:?}"
            );
        }
        Err(error) => is_short(&error),
    }
}

target!(blocks);
