//! Whatever stands in `connection_info.json`.

#![cfg_attr(fuzzing, no_main)]

use hostsync_fuzz::{load_configuration, target};

fn connection_info(bytes: &[u8]) {
    load_configuration(&[
        ("config.ini", b"[DEFAULT]"),
        ("connection_info.json", bytes),
        (
            "path_mapper/a.json",
            b"[{\"src\": \"s\", \"dest\": \"/d\"}]",
        ),
        ("path_mapper/b.json", b"[]"),
    ]);
}

target!(connection_info);
