//! Whatever a host answers when it is looked at: the same, in whichever pieces it arrives.

#![cfg_attr(fuzzing, no_main)]

use std::time::Duration;

use hostsync::model::Node;
use hostsync::remote::tasks::look::{HostLook, LookRequest, look as look_at};
use hostsync::remote::{Expected, RemoteError};
use hostsync_fuzz::{is_short, login_with_answer, remote, target};

fn ask(bytes: &[u8]) -> Result<HostLook, RemoteError> {
    let request = LookRequest {
        base: &remote("/base"),
        roots: &["/d", "/e/f"].map(remote),
        trusted: &[],
        mirrors: &[1],
        listing: Some("sha256:0"),
        paths: &["/d/a", "/d/b"].map(remote),
        expected: Expected::default(),
        stall_timeout: Duration::from_mins(1),
    };
    look_at(&mut login_with_answer(bytes), &request)
}

fn look(bytes: &[u8]) {
    match ask(bytes) {
        Ok(whole) => {
            assert_eq!(whole.places.len(), 2);
            for seen in whole.seen.values() {
                let is_empty_link =
                    matches!(&seen.node, Node::Symlink { target } if target.is_empty());
                assert!(!is_empty_link);
                let _ = (
                    seen.stat.kind(),
                    seen.stat.modified_s(),
                    seen.stat.changed(),
                );
            }
            if count(bytes, b"NONCE") != count(bytes, b"HOSTSYNC NONCE ") {
                // Content that is another one each time.
                return;
            }
            let mut in_pieces = bytes.to_vec();
            in_pieces[0] = b'0';
            let pieces = ask(&in_pieces).expect("it is the same");
            assert_eq!(pieces.seen, whole.seen);
            assert_eq!((pieces.gone, pieces.closed), (whole.gone, whole.closed));
            assert_eq!((pieces.facts, pieces.places), (whole.facts, whole.places));
        }
        Err(error) => is_short(&error),
    }
}

fn count(bytes: &[u8], word: &[u8]) -> usize {
    let windows = bytes.windows(word.len());
    windows.filter(|window| *window == word).count()
}

target!(look);
