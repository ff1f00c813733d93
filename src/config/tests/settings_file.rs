use std::fs;
use std::path::Path;
use std::time::Duration;

use super::site::{Site, rendered};
use crate::config::{self, CIPHERS, Environment, IssueCode, MaxDelete, Modes, load};
use crate::model::RemotePath;

#[test]
fn empty_section_means_all_defaults() {
    let site = Site::new();
    let settings = site.config().settings;
    assert_eq!(settings.number_of_connections, 8);
    assert_eq!(settings.log_path, site.path("logs"));
    assert_eq!(settings.state_path, site.path("state"));
    assert_eq!(
        settings.known_hosts_path,
        Path::new("/home/me/.ssh/known_hosts")
    );
    assert!(!settings.autosync && !settings.compress);
    assert_eq!(settings.sync_interval, Duration::from_mins(1));
    assert_eq!(settings.connect_timeout, Duration::from_secs(10));
    assert_eq!(settings.login_timeout, Duration::from_secs(20));
    assert_eq!(settings.stall_timeout, Duration::from_mins(1));
    assert_eq!(settings.staging_path, None);
    assert_eq!(settings.backups, 5);
    assert_eq!(settings.max_delete, MaxDelete { percent: 50 });
    assert_eq!(settings.modes, Modes::All);
    assert_eq!(settings.ciphers, None);
    assert!(settings.diff_hide.is_empty() && settings.diff_show.is_empty());
    assert_eq!(settings.diff_limit_bytes, 100 * 1024);
}

#[test]
fn every_key_is_read() {
    let site = Site::with_ini(
        "number_of_connections = 3\nlog_path: /var/log/x\nautosync = Yes\nsynctime = 2\n\
         connection_info_path = connection_info.json\naddress_mapper_path = path_mapper\n\
         state_path = ~/st\nknown_hosts_path = kh\nconnect_timeout = 5\nlogin_timeout = 2m\n\
         stall_timeout = 2500ms\nstaging_path = ~/stage\nbackups = 0\nmax_delete = 10%\n\
         modes = executable\ndiff_hide = *.key, *.pem\ndiff_show = a.key\n\
         diff_limit = 1.5 MiB\nciphers = aes128-gcm@openssh.com, aes256-ctr\ncompress = on",
    );
    let settings = site.config().settings;
    assert_eq!(settings.number_of_connections, 3);
    assert_eq!(settings.log_path, Path::new("/var/log/x"));
    assert!(settings.autosync && settings.compress);
    assert_eq!(settings.sync_interval, Duration::from_mins(2));
    assert_eq!(settings.state_path, Path::new("/home/me/st"));
    assert_eq!(settings.known_hosts_path, site.path("kh"));
    assert_eq!(settings.connect_timeout, Duration::from_secs(5));
    assert_eq!(settings.login_timeout, Duration::from_mins(2));
    assert_eq!(settings.stall_timeout, Duration::from_millis(2500));
    assert_eq!(
        settings.staging_path,
        Some(RemotePath::from_dest(b"~/stage"))
    );
    assert_eq!(settings.backups, 0);
    assert_eq!(settings.max_delete.percent, 10);
    assert_eq!(settings.modes, Modes::Executable);
    assert_eq!(settings.diff_hide, ["*.key", "*.pem"]);
    assert_eq!(settings.diff_show, ["a.key"]);
    assert_eq!(settings.diff_limit_bytes, 1536 * 1024);
    assert_eq!(
        settings.ciphers.unwrap(),
        ["aes128-gcm@openssh.com", "aes256-ctr"]
    );
}

#[test]
fn cipher_that_nobody_has_comes_with_those_that_there_are() {
    let site = Site::with_ini("ciphers = aes256-ctr, aes512-ctr");
    let (code, message, help) = site.issue();
    assert_eq!(code, IssueCode::InvalidValue);
    assert_eq!(message, "unknown cipher `aes512-ctr`");
    for cipher in CIPHERS {
        assert!(help.contains(cipher), "{help}");
    }
    assert_eq!(site.marked(), ["aes512-ctr"]);
    for list in [
        "\"aes256-ctr, aes512-ctr\"",
        "[\"aes256-ctr\", \"aes512-ctr\"]",
    ] {
        let site = Site::with_toml(format!("[settings]\nciphers = {list}\n"));
        assert_eq!(site.marked()[0].trim_matches('"'), "aes512-ctr", "{list}");
    }
    let site = Site::with_ini("ciphers = aes256-ctr\n  aes512-ctr");
    assert!(
        site.marked()[0].contains("aes512-ctr"),
        "{:?}",
        site.marked()
    );
}

#[test]
fn file_is_read_as_python_reads_it() {
    let site = Site::with(
        "config.ini",
        "\u{feff}# first\r\n  [DEFAULT]\r\n; second\r\nLOG_path : /a;b#c \r\nautosync\r\n\
         state_path = \"\"\r\ndiff_hide = a\r\n   b\r\n  # no value\r\n   c\r\nbackups = 7\r\n",
    );
    let settings = site.config().settings;
    assert_eq!(settings.log_path, Path::new("/a;b#c"));
    assert!(!settings.autosync);
    assert_eq!(settings.state_path, site.path("state"));
    assert_eq!(settings.diff_hide, ["a", "b", "c"]);
    assert_eq!(settings.backups, 7);
}

#[test]
fn quotes_around_a_value_are_not_a_part_of_it() {
    let site = Site::with_ini("log_path = \"my logs/\"\nstate_path = 's'");
    let settings = site.config().settings;
    assert_eq!(settings.log_path, site.path("my logs"));
    assert_eq!(settings.state_path, site.path("s"));
}

#[test]
fn percent_signs_name_other_keys_as_in_python() {
    let site = Site::with_ini("state_path = /s%%\nlog_path = %(STATE_path)s/logs");
    assert_eq!(site.config().settings.log_path, Path::new("/s%/logs"));
    let circle = Site::with_ini("state_path = %(log_path)s\nlog_path = %(state_path)s");
    let codes = circle.codes();
    assert!(codes.iter().all(|code| *code == IssueCode::InvalidValue) && codes.len() == 2);
    let (_, message, _) = Site::with_ini("state_path = %(log_pth)s").issue();
    assert!(message.contains("`log_pth`"), "{message}");
}

#[test]
fn indented_line_that_makes_a_path_of_two_lines_is_an_error() {
    let site = Site::with_ini("log_path = a\n  state_path = b");
    let (code, _, help) = site.issue();
    assert_eq!(code, IssueCode::InvalidValue);
    assert!(help.contains("indented"));
    assert_eq!(site.marked(), ["a\n  state_path = b"]);
}

#[test]
fn unknown_key_is_marked_and_comes_with_a_suggestion() {
    let site = Site::with_ini("backups = 1\n  \nlog_pth = x");
    let (code, message, help) = site.issue();
    assert_eq!(code, IssueCode::UnknownKey);
    assert_eq!(message, "unknown key `log_pth`");
    assert_eq!(help, "did you mean `log_path`?");
    assert_eq!(site.marked(), ["log_pth"]);
    let text = rendered(&site.load().unwrap_err());
    assert!(text.contains("config.ini:4:1"), "{text}");
}

#[test]
fn what_python_refuses_is_refused() {
    let first = |content: &str| Site::with("config.ini", content).codes()[0];
    assert_eq!(
        first("log_path = a\n[DEFAULT]\n"),
        IssueCode::MissingSection
    );
    assert_eq!(
        first("[DEFAULT]\nlog_path=a\nLOG_PATH=b\n"),
        IssueCode::DuplicateKey
    );
    assert_eq!(first("[DEFAULT]\n= a\n"), IssueCode::Syntax);
    assert_eq!(first("[DEFAULT\n"), IssueCode::Syntax);
}

#[test]
fn duplicate_key_is_marked_in_both_places() {
    let site = Site::with_ini("log_path=a\nLOG_path=b");
    assert_eq!(site.marked(), ["log_path", "LOG_path"]);
}

#[test]
fn keys_of_other_sections_are_an_error() {
    let site = Site::with_ini("[paths]\nlog_path = a\nstate_path = b");
    assert_eq!(site.issue().0, IssueCode::UnknownSection);
    assert_eq!(site.marked(), ["[*****]", "log_path = a"]);
    let small = Site::with("config.ini", "[default]\nlog_path = a");
    assert_eq!(small.issue().2, "did you mean `[DEFAULT]`?");
}

#[test]
fn values_out_of_range_are_marked() {
    for line in [
        "number_of_connections = 0",
        "number_of_connections = 1001",
        "synctime = 0",
        "connect_timeout = -1",
        "connect_timeout = 0",
        "stall_timeout = 1000000h",
        "stall_timeout = 1999ms",
        "max_delete = 101%",
        "backups = -1",
        "diff_limit = 0",
        "diff_limit = 5 MiB",
        "diff_limit = -1",
        "staging_path = a/../b",
    ] {
        let site = Site::with_ini(line);
        assert_eq!(site.issue().0, IssueCode::InvalidValue, "{line}");
        let value = line.split_once(" = ").unwrap().1;
        assert_eq!(site.marked(), [value], "{line}");
    }
    // What is neither a number nor a word that is known may be a secret.
    for (line, marked) in [
        ("number_of_connections = many", "****"),
        ("autosync = maybe", "*****"),
        ("modes = some", "****"),
        ("diff_limit = 100 apples", "**********"),
        ("modes = exectable", "exectable"),
    ] {
        let site = Site::with_ini(line);
        assert_eq!(site.issue().0, IssueCode::InvalidValue, "{line}");
        assert_eq!(site.marked(), [marked], "{line}");
    }
    assert_eq!(
        Site::with_ini("diff_hide = [").issue().0,
        IssueCode::InvalidGlob
    );
}

#[test]
fn file_that_is_not_utf_8_is_marked() {
    let site = Site::new();
    site.write("config.ini", b"[DEFAULT]\nlog_path = \xff\n");
    assert_eq!(site.issue().0, IssueCode::Encoding);
    let text = rendered(&site.load().unwrap_err());
    assert!(text.contains("config.ini:2:12"), "{text}");
}

#[test]
fn unknown_home_is_an_error_only_where_it_is_needed() {
    let load = |line: &str| {
        let site = Site::with_ini(line);
        let environment = Environment {
            home: None,
            ..site.environment()
        };
        config::load(Path::new("config.ini"), &environment).is_ok()
    };
    assert!(!load(""));
    assert!(load("known_hosts_path = kh"));
    assert!(!load("known_hosts_path = kh\nlog_path = ~/x"));
}

#[test]
fn paths_are_relative_to_the_folder_of_the_file_that_names_them() {
    let site = Site::new();
    fs::create_dir_all(site.path("config/hosts/maps")).unwrap();
    site.write(
        "config/config.ini",
        "[DEFAULT]\nconnection_info_path = hosts/all.json\naddress_mapper_path = hosts/maps\n",
    );
    site.write(
        "config/hosts/all.json",
        r#"[{"ip_address": "h", "user": "u", "identity_file": "key"}]"#,
    );
    site.write(
        "config/hosts/maps/h.json",
        r#"[{"src": "app/", "dest": "/a"}]"#,
    );
    let loaded = load(Path::new("./config/config.ini"), &site.environment()).unwrap();
    let host = &loaded.config.hosts[0];
    let identity = host.auth.identity_file.as_ref().unwrap();
    assert_eq!(identity.as_path(), site.path("config/hosts/key"));
    assert_eq!(host.mappings[0].src.as_path(), site.path("config/app"));
    assert_eq!(loaded.config.settings.log_path, site.path("config/logs"));
    assert_eq!(loaded.config.path, site.path("config/config.ini"));
}
