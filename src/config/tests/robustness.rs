use miette::{GraphicalReportHandler, GraphicalTheme};

use super::site::{OLD_HOSTS, OLD_MAPPER, Site, rendered};
use crate::config::IssueCode;
use crate::model::is_treacherous;

/// Loads and renders, for which it is enough not to panic.
fn survive(site: &Site) {
    if let Err(error) = site.load() {
        rendered(&error);
    }
}

#[test]
fn no_prefix_and_no_changed_byte_of_a_file_makes_it_panic() {
    let samples = [
        (
            "config.ini",
            "\u{feff}[DEFAULT]\r\nlog_path = \"é\"\n  b\nautosync\n# c\nbackups: %(x)s%%\n",
        ),
        ("connection_info.json", &OLD_HOSTS[..OLD_HOSTS.len() / 2]),
        ("path_mapper/web.json", &OLD_MAPPER[..OLD_MAPPER.len() / 2]),
        (
            "connection_info.json",
            "[{\"ip_address\": \"web\", \"user\": \"é\\u00e9\", \"port\": 2, \"groups\": [\"é\"],}] // é",
        ),
    ];
    for (name, text) in samples {
        let site = Site::new();
        for end in 0..text.len() {
            site.write(name, &text.as_bytes()[..end]);
            survive(&site);
        }
        for at in 0..text.len() {
            for byte in [b'"', b'{', b'\\', 0, 0xff] {
                let mut changed = text.as_bytes().to_vec();
                changed[at] = byte;
                site.write(name, changed);
                survive(&site);
            }
        }
    }
}

#[test]
fn deeply_nested_text_is_an_error() {
    let site = Site::with_hosts(&"[".repeat(100_000));
    assert_eq!(site.issue().0, IssueCode::Syntax);
}

#[test]
fn doubling_percent_keys_do_not_fill_the_memory() {
    let keys = [
        "log_path",
        "state_path",
        "modes",
        "ciphers",
        "backups",
        "diff_hide",
    ];
    let mut lines = format!("compress = {}\n", "x".repeat(1000));
    let mut previous = "compress";
    for key in keys {
        let value = format!("%({previous})s").repeat(1000);
        lines.extend([key, " = ", &value, "\n"]);
        previous = key;
    }
    assert!(Site::with_ini(&lines).load().is_err());
}

#[test]
fn no_error_acts_on_the_terminal() {
    for site in [
        Site::with_ini("nu\u{1b}[31mber = 1\r\nmodes = \u{9b}x"),
        Site::with_hosts("[{\"\\u001b[31m\": 1, \"ip_address\": \"\u{7f}\", \"user\": \"u\"}]"),
        Site::with_mapper("[{\"src\": \"a\", \"dest\": \"/d\", \"exclude\": [\"[\\u0007\"]}]"),
        Site::with_toml("\"\\u001b\" = 1\n[host]\n# \u{9b}"),
        Site::with_toml("\"\\u202ex\" = 1 # \u{202e}\u{200b}"),
    ] {
        let error = site.load().unwrap_err();
        let mut text = String::new();
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
            .render_report(&mut text, &error)
            .unwrap();
        let acts = text.chars().find(|c| is_treacherous(*c) && *c != '\n');
        assert_eq!(acts, None, "{text:?}");
    }
}

#[test]
fn percent_keys_that_multiply_to_nothing_come_to_an_end() {
    let keys = ["log_path", "state_path", "modes", "ciphers", "backups"];
    let mut lines = "compress =\n".to_owned();
    let mut previous = "compress";
    for key in keys {
        let value = format!("%({previous})s").repeat(100);
        lines.extend([key, " = ", &value, "\n"]);
        previous = key;
    }
    let issues = Site::with_ini(&lines).issues();
    let message = "the value leads to too many other keys";
    assert!(issues.iter().any(|issue| issue.to_string() == message));
}
