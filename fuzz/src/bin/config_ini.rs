//! Whatever stands in `config.ini`.

#![cfg_attr(fuzzing, no_main)]

use hostsync_fuzz::{load_configuration, target};

fn config_ini(bytes: &[u8]) {
    load_configuration(&[("config.ini", bytes), ("connection_info.json", b"[]")]);
}

target!(config_ini);
