use super::site::{Site, rendered};
use crate::config::Host;
use crate::config::mask::masked;

const SECRET: &str = "hunter2";

#[test]
fn no_error_shows_a_passkey() {
    for text in [
        // An error elsewhere, in the same line and in the next.
        r#"[{"ip_address": "web", "passkey": "hunter2", "usr": "u"}]"#,
        "[{\"passkey\": \"hunter2\",\n\"ip_address\": \"web\", \"port\": 0, \"user\": \"u\"}]",
        // An error about the key itself.
        r#"[{"ip_address": "web", "user": "u", "paskey": "hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "password": ["hunter2"]}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": {"a": "hunter2"}}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "a", "passkey": "hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "a", "passkey_env": "hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey_env": "=hunter2"}]"#,
        // Objects and lists in the wrong places.
        r#"["hunter2"]"#,
        r#"{"web": "hunter2"}"#,
        // Comments.
        "[ // \"passkey\": \"hunter2\"\n{\"ip_address\": \"web\"}]",
        // Broken in all kinds of ways.
        r#"[{"ip_address": "web", "user": "u", "passkey": "hunter2}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": hunter2}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey" "hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": 'hunter2'}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "\hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "a"hunter2"}]"#,
        r#"[{"ip_address": "web", "user": "u", "passkey": "hunter2\ud800"}]"#,
        r#"[{"ip_address": "web", "user": "u", "paskey": "hunter2" "port": 2}]"#,
        r#"[{"ip_address": "web" "user": "u", passkey: "hunter2"}]"#,
        "[{\"ip_address\": \"web\", \"user\": \"u\", \"passkey\":\n\n\"hunter2\" x}]",
        "hunter2",
    ] {
        let error = Site::with_hosts(text).load().expect_err(text);
        let shown = rendered(&error);
        assert!(!shown.contains(SECRET), "{text}\n{shown}");
        assert!(shown.contains("connection_info.json"), "{shown}");
    }
}

#[test]
fn no_error_of_a_file_with_foreign_bytes_shows_a_passkey() {
    let site = Site::new();
    site.write(
        "connection_info.json",
        b"[{\"ip_address\": \"web\", \"user\": \"\xff\", \"passkey\": \"hunter2\"}]",
    );
    let shown = rendered(&site.load().unwrap_err());
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("UTF-8"));
}

#[test]
fn no_error_of_another_file_shows_a_passkey() {
    let ini = Site::with_ini("passkey = hunter2");
    let mapper = Site::with_mapper(r#"[{"src": "app", "dest": "/a", "passkey": "hunter2"}]"#);
    for site in [ini, mapper] {
        let shown = rendered(&site.load().unwrap_err());
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn debug_output_does_not_show_a_passkey() {
    let site = Site::with_hosts(r#"[{"ip_address": "web", "user": "u", "passkey": "hunter2"}]"#);
    assert!(!format!("{:?}", site.load().unwrap()).contains(SECRET));
}

#[test]
fn rest_of_the_text_is_shown() {
    let site = Site::with_hosts(
        r#"[{"ip_address": "web", "user": "me", "passkey": "hunter2", "prot": 1}]"#,
    );
    let shown = rendered(&site.load().unwrap_err());
    assert!(
        shown.contains(r#"{"ip_address": "web", "user": "me", "passkey": "*******", "prot""#),
        "{shown}"
    );
}

/// Every key of every form. `free` stands where any text is right, as that of a name or a path is.
const SAMPLES: [(&str, &str); 4] = [
    (
        "config.ini",
        "[DEFAULT]\n# comment\nnumber_of_connections = 3\nlog_path: free\nautosync = no\n\
         synctime = 2\nstate_path = free\nknown_hosts_path = free\nconnect_timeout = 5\n\
         login_timeout = 2m\nstall_timeout = 10\nstaging_path = free\nbackups = 16\n\
         max_delete = 10%\nmodes = executable\ndiff_hide = *.key, *.pem\ndiff_show = a.key\n\
         diff_limit = 2KiB\nciphers = aes256-ctr, aes128-ctr\ncompress = on\n\
         connection_info_path = free\naddress_mapper_path = free\n",
    ),
    (
        "connection_info.json",
        r#"[ // comment
            {"ip_address": "free", "user": "free", "passkey": "x", "name": "free", "port": 22,
             "groups": ["a", "b"], "identity_file": "free"},
            {"ip_address": "free", "user": "free", "name": "free2", "passkey_env": "P"},
            {"ip_address": "free3", "user": "free", "passkey_command": "c"}]"#,
    ),
    (
        "path_mapper/web.json",
        r#"[{"src": "free", "dest": "free", "exact": "mirror", "exclude": ["a"], "symlinks": "skip"},
            {"src": "free", "dest": "free2/", "exact": true}]"#,
    ),
    (
        "hostsync.toml",
        "[settings] # comment\nlog_path = \"free\"\nbackups = 0x10\ncompress = true\n\
         diff_hide = [\"*.key\"]\nciphers = 'aes256-ctr'\n[[host]]\nip_address = \"free\"\n\
         user = 'free'\npasskey = \"x\"\nport = 22\ngroups = [\"a\"]\n[[host]]\n\
         ip_address = 'free2'\nname = \"free2\"\nuser = \"free\"\npasskey_env = \"P\"\n\
         [[mapping]]\nsrc = \"free\"\ndest = \"free\"\nexact = \"mirror\"\nexclude = [\"a\"]\n\
         symlinks = 'skip'\nhosts = [\"free2\"]\ngroups = [\"a\"]\n",
    ),
];

/// The ranges of all words: keys, values and those of comments.
fn words(text: &str) -> Vec<std::ops::Range<usize>> {
    let is_part = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let mut words: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in text.match_indices(is_part) {
        match words.last_mut().filter(|word| word.end == at) {
            Some(word) => word.end += 1,
            None => words.push(at..at + 1),
        }
    }
    words
}

/// Fails where anything that a command prints or logs of a configuration with this file holds the
/// secret, or where an error elsewhere in the file would show it.
fn assert_keeps_secret(name: &str, text: &str) {
    assert!(!masked(text).contains(SECRET), "{}\n{text}", masked(text));
    let site = if name == "hostsync.toml" {
        Site::with_toml(text)
    } else {
        Site::with(name, text)
    };
    let shown = match site.load() {
        Err(error) => rendered(&error),
        Ok(loaded) => {
            let problems = loaded.config.hosts.iter().filter_map(Host::problems);
            let remarks = loaded.remarks.iter().map(ToString::to_string);
            problems.chain(remarks).collect()
        }
    };
    assert!(!shown.contains(SECRET), "{text}\n{shown}");
}

#[test]
fn no_place_of_any_file_lets_a_secret_out() {
    for (name, text) in SAMPLES {
        for word in words(text) {
            let is_free = text[word.clone()].starts_with("free");
            let placed: &[&str] = if is_free {
                &[
                    "u:hunter2@free",
                    "ssh://u:hunter2@free/x",
                    "u:hunter2@free:/x",
                ]
            } else {
                &[
                    "hunter2",
                    "a\"hunter2",
                    "a'hunter2",
                    "a\\\"hunter2",
                    "x\"], [\"hunter2",
                    "%(hunter2)s",
                    "\nhunter2\n",
                    "\"\"\"\nhunter2",
                ]
            };
            for placed in placed {
                let [before, after] = [&text[..word.start], &text[word.end..]];
                assert_keeps_secret(name, &format!("{before}{placed}{after}"));
            }
        }
    }
}

#[test]
fn no_type_of_value_lets_a_secret_out() {
    for (name, text) in SAMPLES {
        let delimiters = text.match_indices([':', '=']);
        for (at, _) in delimiters.filter(|_| name != "config.ini") {
            let line = text[at..].find('\n').map_or(text.len(), |end| at + end);
            let end = text[at..line].find(", \"").map_or(line, |end| at + end);
            for value in [
                "[\"hunter2\"]",
                "[[\"hunter2\"]]",
                "{\"hunter2\": 1}",
                "{\"a\": \"hunter2\"}",
                "{ a = \"hunter2\" }",
                "{ hunter2 = 1 }",
                "\"x\", \"hunter2\"",
                "x hunter2",
            ] {
                let [before, after] = [&text[..=at], &text[end..]];
                assert_keeps_secret(name, &format!("{before} {value}{after}"));
            }
        }
    }
}

#[test]
fn no_file_that_ends_early_lets_a_secret_out() {
    for text in [
        r#"[{"ip_address": "web", "user": "u", "passkey": "hunter2", "port": 22}]"#,
        r#"[{"ip_address": "web", "user": "u", "paskey" : ["hunter2"], "hunter2": "passkey"}]"#,
        "[[host]]\nip_address = \"web\"\npasskey = \"hunter2\"\nuser = \"u\"\n",
        "[[host]]\npaskey = 'hunter2'\nhunter2 = \"passkey\"\nport = \"hunter2\"\nuser = 'u'",
        "[DEFAULT]\nlog_path = a\npasskey = hunter2\nhunter2\nhunter2 = 1\nbackups = hunter2\n",
    ] {
        let name = match &text[..2] {
            "[{" => "connection_info.json",
            "[[" => "hostsync.toml",
            _ => "config.ini",
        };
        for end in 0..=text.len() {
            assert_keeps_secret(name, &text[..end]);
        }
    }
}

#[test]
fn setting_is_not_made_of_an_unknown_key() {
    let site = Site::with_ini("passkey = hunter2\nconnection_info_path = %(passkey)s/hosts.json");
    let shown = rendered(&site.load().unwrap_err());
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn name_of_a_host_that_holds_a_secret_is_shown_nowhere() {
    for (key, address) in [
        ("ip_address", "u:hunter2@192.0.2.1"),
        ("ip_address", "hunter2@192.0.2.1"),
        ("ip_address", "u:hunter2"),
        ("name", "u:hunter2@192.0.2.1"),
    ] {
        let host = format!(r#"{{"{key}": "{address}", "user": "u"}}"#);
        let site = Site::with_hosts(&format!("[{host}, {host}]"));
        site.write(&format!("path_mapper/{address}.json"), "[");
        let shown = rendered(&site.load().unwrap_err());
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(
            shown.contains("`passkey`") || shown.contains("`port`"),
            "{shown}"
        );
        let native = format!(
            "[[host]]\n{key} = '{address}'\nuser = 'u'\ngroups = ['u:hunter2@g']\n\
             [[mapping]]\nsrc = 'app'\ndest = 'a'\nhosts = ['{address}x']\ngroups = ['v:hunter2@g']\n"
        );
        assert_keeps_secret("hostsync.toml", &native);
    }
}
