//! The words of a configuration: every key and every table that is known.

/// The keys of the settings.
pub(super) const SETTINGS: [&str; 20] = [
    "number_of_connections",
    "log_path",
    "connection_info_path",
    "address_mapper_path",
    "autosync",
    "synctime",
    "state_path",
    "known_hosts_path",
    "connect_timeout",
    "login_timeout",
    "stall_timeout",
    "staging_path",
    "backups",
    "max_delete",
    "modes",
    "diff_hide",
    "diff_show",
    "diff_limit",
    "ciphers",
    "compress",
];

/// Settings that say where the old files are.
pub(super) const OLD_SETTINGS: [&str; 2] = ["connection_info_path", "address_mapper_path"];

/// The keys of a host.
pub(super) const HOST: [&str; 9] = [
    "ip_address",
    "user",
    "passkey",
    "name",
    "port",
    "groups",
    "identity_file",
    "passkey_env",
    "passkey_command",
];

/// The keys of a mapping.
pub(super) const MAPPING: [&str; 6] = [
    "src",
    "dest",
    "exact",
    "exclude",
    "symlinks",
    "trust_ancestors",
];

/// Keys of a mapping in `hostsync.toml` that say which hosts get it.
pub(super) const TARGET: [&str; 2] = ["hosts", "groups"];

/// The tables of `hostsync.toml`.
pub(super) const TABLES: [&str; 3] = ["settings", "host", "mapping"];

/// Every key.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    let all = [&SETTINGS[..], &HOST, &MAPPING, &TARGET];
    all.into_iter().flatten().copied()
}

/// The one section of `config.ini` that is read.
pub(super) const SECTION: &str = "DEFAULT";
