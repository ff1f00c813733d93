use std::fs;
use std::path::Path;

use secrecy::ExposeSecret as _;

use super::site::{OLD_HOSTS, OLD_MAPPER, Site, rendered};
use crate::config::{IssueCode, Passkey};

#[test]
fn samples_of_the_old_program_are_read() {
    let site = Site::with_hosts(OLD_HOSTS);
    fs::remove_file(site.path("path_mapper/web.json")).unwrap();
    site.write("path_mapper/x.x.x.x.json", OLD_MAPPER);
    site.write("path_mapper/y.y.y.y.json", OLD_MAPPER);
    let config = site.config();
    assert_eq!(config.hosts.len(), 2);
    let host = &config.hosts[1];
    assert_eq!((host.id.as_str(), host.port), ("y.y.y.y", 22));
    assert_eq!(host.user, "username2");
    let Some(Passkey::Literal(passkey)) = &host.auth.passkey else {
        panic!("{:?}", host.auth);
    };
    assert_eq!(passkey.expose_secret(), "passcode2");
    assert_eq!(host.mappings[1].src_as_written, "source folder/file path2");
    assert!(host.problem.as_ref().unwrap().contains("does not exist"));
}

#[test]
fn all_keys_and_comments_are_read() {
    let site = Site::with_hosts(
        "// hosts\n[{\"ip_address\": \"fe80::1%eth0\", /* who */ \"user\": \"u\", \"name\": \"web\",\n\
         \"port\": 2222, \"groups\": [\"a\", \"b\"], \"identity_file\": \"~/k\",\n\
         \"passkey_env\": \"PW\",},]",
    );
    let host = site.config().hosts.remove(0);
    assert_eq!(host.id.as_str(), "web");
    assert_eq!(host.address, "fe80::1%eth0");
    assert_eq!(host.port, 2222);
    assert_eq!(host.groups, ["a", "b"]);
    let identity = host.auth.identity_file.unwrap();
    assert_eq!(identity.as_path(), Path::new("/home/me/k"));
    assert!(matches!(host.auth.passkey, Some(Passkey::Env(name)) if name == "PW"));
}

#[test]
fn missing_key_file_is_a_problem_of_its_host_alone() {
    let site = Site::with_hosts(
        r#"[{"ip_address": "web", "user": "u", "identity_file": "keys/web"},
                {"ip_address": "db", "user": "u"}]"#,
    );
    site.write("path_mapper/web.json", r#"[{"src": "no", "dest": "/x"}]"#);
    site.write("path_mapper/db.json", "[]");
    let hosts = site.config().hosts;
    let problem = hosts[0].problems().unwrap();
    let key = site.path("keys/web");
    assert!(problem.contains(key.to_str().unwrap()), "{problem}");
    assert!(problem.contains("ssh-keygen"), "{problem}");
    assert!(problem.contains("; `src` `no` does not exist"), "{problem}");
    assert_eq!(hosts[1].problems(), None);
    fs::create_dir(site.path("keys")).unwrap();
    site.write("keys/web", "");
    site.write("path_mapper/web.json", "[]");
    assert_eq!(site.config().hosts[0].problems(), None);
}

#[test]
fn what_looks_like_an_ipv4_address_has_to_be_one() {
    let with_address = |address: &str| {
        let site = Site::with_hosts(&format!(
            r#"[{{"ip_address": "{address}", "user": "u", "name": "web"}}]"#
        ));
        site.load().map_err(|error| rendered(&error))
    };
    for wrong in ["127.0.0.300", "10.0.0", "10.0.0.1.2", "10.0.0.01", "10"] {
        let error = with_address(wrong).unwrap_err();
        assert!(error.contains("four numbers from 0 to 255"), "{error}");
    }
    for right in ["127.0.0.30", "web1", "10.example.net", "::1", "1a"] {
        with_address(right).unwrap();
    }
}

#[test]
fn hash_that_is_meant_to_begin_a_comment_comes_with_what_does() {
    for text in [
        "# hosts\n[]",
        "[\n  # none\n]",
        "[{\"user\": \"u\", # who\n\"ip_address\": \"web\"}]",
    ] {
        let site = Site::with_hosts(text);
        let (code, _, help) = site.issue();
        assert_eq!(code, IssueCode::Syntax);
        assert!(help.contains("`//`") && help.contains("`/* */`"), "{text}");
    }
    let (_, _, help) = Site::with_hosts("[1 2]").issue();
    assert!(!help.contains("//"), "{help}");
}

#[test]
fn address_names_the_host_and_its_mapper_file() {
    let site = Site::with_hosts(r#"[{"ip_address": "fe80::1%eth0", "user": "u"}]"#);
    site.write("path_mapper/fe80::1%eth0.json", "[]");
    assert_eq!(site.config().hosts[0].id.as_str(), "fe80::1%eth0");
    assert_eq!(site.config().hosts[0].problems(), None);
}

#[test]
fn empty_passkey_is_none() {
    let site = Site::with_hosts(r#"[{"ip_address": "web", "user": "u", "passkey": ""}]"#);
    assert!(site.config().hosts[0].auth.passkey.is_none());
}

#[test]
fn mistakes_are_marked() {
    use IssueCode::{
        DuplicateHost, DuplicateKey, InvalidValue, MissingKey, SeveralPasskeys, UnknownKey,
        WrongType,
    };
    let host = |more: &str| format!(r#"[{{"ip_address": "web", "user": "u"{more}}}]"#);
    for (text, code, marked) in [
        (host(r#", "prot": 1"#), UnknownKey, vec![r#""prot""#]),
        (host(r#", "port": "22""#), WrongType, vec![r#""22""#]),
        (host(r#", "port": 0"#), InvalidValue, vec!["0"]),
        (host(r#", "port": 65536"#), InvalidValue, vec!["65536"]),
        (host(r#", "port": 2.5"#), InvalidValue, vec!["2.5"]),
        (host(r#", "groups": "a""#), WrongType, vec![r#""*""#]),
        (host(r#", "groups": [1]"#), WrongType, vec!["*"]),
        (host(r#", "groups": [""]"#), InvalidValue, vec![r#""""#]),
        (host(r#", "passkey": 5"#), WrongType, vec!["*"]),
        (
            host(r#", "user": "v""#),
            DuplicateKey,
            vec![r#""user""#, r#""user""#],
        ),
        (
            host(r#", "passkey": "a", "passkey_env": "B""#),
            SeveralPasskeys,
            vec![r#""passkey""#, r#""passkey_env""#],
        ),
        (r#"[{"ip_address": "web"}]"#.into(), MissingKey, vec!["{"]),
        (
            r#"[{"ip_address": "web", "user": ""}]"#.into(),
            InvalidValue,
            vec![r#""""#],
        ),
        (
            r#"[{"ip_address": "web:22", "user": "u", "name": "web"}]"#.into(),
            InvalidValue,
            vec![r#""******""#],
        ),
        (r#"{"a": 1}"#.into(), WrongType, vec!["{"]),
        (r#"["hunter2"]"#.into(), WrongType, vec![r#"""#]),
        (
            r#"[{"ip_address": "web", "user": "u"}, {"ip_address": "web", "user": "u"}]"#.into(),
            DuplicateHost,
            vec![r#""web""#, r#""web""#],
        ),
    ] {
        let site = Site::with_hosts(&text);
        assert_eq!(site.issue().0, code, "{text}");
        assert_eq!(site.marked(), marked, "{text}");
    }
}

#[test]
fn hosts_may_share_an_address_under_different_names() {
    let site = Site::with_hosts(
        r#"[{"ip_address": "::1", "user": "u", "name": "a", "port": 1},
                {"ip_address": "::1", "user": "u", "name": "b", "port": 2}]"#,
    );
    assert_eq!(site.config().hosts.len(), 2);
}

#[test]
fn name_that_is_no_file_name_is_refused() {
    for name in [
        "a/b",
        "-a",
        ".a",
        "a\\u0000b",
        "a\\nb",
        " a",
        &"ä".repeat(90),
    ] {
        let site = Site::with_hosts(&format!(
            r#"[{{"ip_address": "web", "user": "u", "name": "{name}"}}]"#
        ));
        assert_eq!(site.issue().0, IssueCode::InvalidValue, "{name}");
    }
}

#[test]
fn missing_hosts_file_is_an_error_that_names_its_setting() {
    let site = Site::with_ini("connection_info_path = nowhere.json");
    let (code, message, help) = site.issue();
    assert_eq!(code, IssueCode::Unreadable);
    assert!(message.contains("nowhere.json"));
    assert!(help.contains("connection_info_path"));
}

#[test]
fn empty_file_is_an_error() {
    assert_eq!(Site::with_hosts("").issue().0, IssueCode::WrongType);
    assert_eq!(
        Site::with_hosts(" // none\n").issue().0,
        IssueCode::WrongType
    );
}

#[test]
fn only_comments_and_trailing_commas_are_forgiven() {
    for text in [
        "['a']",
        "[{a: 1}]",
        "[1 2]",
        "[+1]",
        "[0x1]",
        "[1]]",
        "[",
        "[{\"a\"}]",
    ] {
        assert_eq!(
            Site::with_hosts(text).issue().0,
            IssueCode::Syntax,
            "{text}"
        );
    }
}
