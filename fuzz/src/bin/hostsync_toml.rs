//! Whatever stands in `hostsync.toml`.

#![cfg_attr(fuzzing, no_main)]

use hostsync_fuzz::{load_configuration, target};

fn hostsync_toml(bytes: &[u8]) {
    load_configuration(&[("hostsync.toml", bytes)]);
}

target!(hostsync_toml);
