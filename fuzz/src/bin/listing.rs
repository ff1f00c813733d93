//! Whatever stands in a line about an entry of a host.

#![cfg_attr(fuzzing, no_main)]

use hostsync::remote::{StatTuple, seconds_of};
use hostsync_fuzz::target;

fn listing(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = std::str::from_utf8(line).map(seconds_of);
        let Some((stat, path)) = StatTuple::from_line(line) else {
            continue;
        };
        let again = [stat.as_str().as_bytes(), b" ", path].concat();
        assert_eq!(again, line);
        let _ = (stat.kind(), stat.mode(), stat.meta(), stat.is_folder());
        let _ = (stat.changed(), stat.modified(), stat.modified_s());
        let _ = (stat.size_bytes(), stat.inode(), stat.device());
        let _ = (stat.uid(), stat.gid());
    }
}

target!(listing);
