//! Whatever a host answers to an upload, through each of the programs that take it.

#![cfg_attr(fuzzing, no_main)]

use std::time::Duration;

use hostsync::model::Mode;
use hostsync::remote::tasks::receive::stream::{Content, UploadRecord};
use hostsync::remote::tasks::receive::{
    Followers, ReceiveRequest, Receiver, RunFolder, receive as upload,
};
use hostsync_fuzz::{is_harmless, login_with_answer, remote, target};

fn receive(bytes: &[u8]) {
    for receiver in [Receiver::Agent, Receiver::Scp, Receiver::Tar] {
        let request = ReceiveRequest {
            base: &remote("/base"),
            run_name: "run",
            folder: RunFolder::Staged,
            block_bytes: 4 << 20,
            receiver,
            stall_timeout: Duration::from_mins(1),
        };
        let records = vec![UploadRecord::File {
            name: b"a".to_vec(),
            mode: Mode::new(0o644),
            mtime: None,
            size_bytes: 3,
            content: Content::Bytes(b"abc".to_vec()),
        }];
        let followers = Followers {
            sent: &|_| {},
            is_interrupted: &|| false,
        };
        if let Err(error) = upload(&mut login_with_answer(bytes), &request, records, followers) {
            let text = error.to_string();
            is_harmless(&text);
            // A few complaints are kept.
            assert!(text.len() <= 64 * 1024, "{} bytes: {text}", text.len());
        }
    }
}

target!(receive);
