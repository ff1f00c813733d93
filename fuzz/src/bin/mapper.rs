//! Whatever stands in a mapper file.

#![cfg_attr(fuzzing, no_main)]

use hostsync_fuzz::{load_configuration, target};

/// The second host has what is often the same mapping, and often another one.
fn mapper(bytes: &[u8]) {
    load_configuration(&[
        ("config.ini", b"[DEFAULT]"),
        (
            "connection_info.json",
            br#"[{"ip_address": "a", "user": "u"}, {"ip_address": "b", "user": "u"}]"#,
        ),
        ("path_mapper/a.json", bytes),
        (
            "path_mapper/b.json",
            br#"[{"src": "t", "dest": "/e"}, {"src": "s", "dest": "/d"}]"#,
        ),
    ]);
}

target!(mapper);
