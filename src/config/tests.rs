#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, NarratableReportHandler};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::*;
use crate::model::RemotePath;

/// The samples of the old program's README as a browser shows them: the blanks are U+00A0, and the
/// mapper file has a comma before its brace.
const OLD_HOSTS: &str = "[\n\
    \u{a0}\u{a0}\u{a0}\u{a0}{\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"ip_address\" : \"x.x.x.x\",\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"user\" : \"username1\",\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"passkey\"  : \"passcode1\"\n\
    \u{a0}\u{a0}\u{a0}\u{a0}},\n\
    \u{a0}\u{a0}\u{a0}\u{a0}{\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"ip_address\" : \"y.y.y.y\",\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"user\" : \"username2\",\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"passkey\"  : \"passcode2\"\n\
    \u{a0}\u{a0}\u{a0}\u{a0}}\n\
    ] \n";
const OLD_MAPPER: &str = "[\n\
    \u{a0}\u{a0}\u{a0}\u{a0}{\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"src\"      : \"source folder/file path1\",\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"dest\"      : \"source folder/file path1\",\n\
    \u{a0}\u{a0}\u{a0}\u{a0}},\n\
    \u{a0}\u{a0}\u{a0}\u{a0}{\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"src\"      : \"source folder/file path2\",\n\
    \u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\"dest\"      : \"source folder/file path2\",\n\
    \u{a0}\u{a0}\u{a0}\u{a0}}\n\
    ] \n";

/// One host, `web`, that gets the file `app`.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(site.path("path_mapper")).unwrap();
        site.write("app", "x");
        site.write("config.ini", "[DEFAULT]\n");
        site.write(
            "connection_info.json",
            r#"[{"ip_address": "web", "user": "u"}]"#,
        );
        site.write(
            "path_mapper/web.json",
            r#"[{"src": "app", "dest": "/srv/app"}]"#,
        );
        site
    }

    fn with(name: &str, content: &str) -> Self {
        let site = Self::new();
        site.write(name, content);
        site
    }

    fn with_ini(lines: &str) -> Self {
        Self::with("config.ini", &format!("[DEFAULT]\n{lines}\n"))
    }

    fn with_hosts(content: &str) -> Self {
        Self::with("connection_info.json", content)
    }

    fn with_mapper(content: &str) -> Self {
        Self::with("path_mapper/web.json", content)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    fn environment(&self) -> Environment {
        Environment {
            home: Some("/home/me".into()),
            current_dir: self.folder.path().to_owned(),
        }
    }

    /// The file `app` and a `hostsync.toml`.
    fn with_toml(content: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder };
        site.write("app", "x");
        site.write("hostsync.toml", content);
        site
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        let is_native = self.path("hostsync.toml").exists();
        let main_file = if is_native {
            "hostsync.toml"
        } else {
            "config.ini"
        };
        load(Path::new(main_file), &self.environment())
    }

    fn config(&self) -> Config {
        match self.load() {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("{}", rendered(&error)),
        }
    }

    fn issues(&self) -> Vec<Issue> {
        match self.load() {
            Err(ConfigError::Invalid { issues, .. }) => issues,
            other => panic!("{other:?}"),
        }
    }

    fn codes(&self) -> Vec<IssueCode> {
        self.issues().iter().map(Issue::issue_code).collect()
    }

    /// The one issue: its code, message and help.
    fn issue(&self) -> (IssueCode, String, String) {
        let issues = self.issues();
        let [issue] = &issues[..] else {
            panic!("{issues:?}");
        };
        let help = issue.help().map_or(String::new(), |help| help.to_string());
        (issue.issue_code(), issue.to_string(), help)
    }

    /// The text under each label of the one issue, as far as it may be shown.
    fn marked(&self) -> Vec<String> {
        let issues = self.issues();
        let [issue] = &issues[..] else {
            panic!("{issues:?}");
        };
        let source = issue.source_code().unwrap();
        issue
            .labels()
            .unwrap()
            .map(|label| {
                let contents = source.read_span(label.inner(), 0, 0).unwrap();
                let skipped = label.offset() - contents.span().offset();
                let data = &contents.data()[skipped..skipped + label.len()];
                String::from_utf8(data.to_vec()).unwrap()
            })
            .collect()
    }
}

/// Everything that a person could get to see.
fn rendered(error: &dyn Diagnostic) -> String {
    let mut out = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_context_lines(100)
        .render_report(&mut out, error)
        .unwrap();
    NarratableReportHandler::new()
        .with_context_lines(100)
        .render_report(&mut out, error)
        .unwrap();
    out + &format!("{error:?}")
}

mod finding {
    use super::*;

    #[test]
    fn named_file_is_taken_before_any_other() {
        let site = Site::with("other.ini", "[DEFAULT]");
        let found = find(Some(Path::new("other.ini")), &site.environment()).unwrap();
        assert_eq!(found, site.path("other.ini"));
    }

    #[test]
    fn usual_places_are_tried_in_their_order() {
        let site = Site::new();
        fs::create_dir(site.path("config")).unwrap();
        site.write("config/config.ini", "[DEFAULT]");
        let find = || find(None, &site.environment()).unwrap();
        assert_eq!(find(), site.path("config.ini"));
        fs::remove_file(site.path("config.ini")).unwrap();
        assert_eq!(find(), site.path("config/config.ini"));
        site.write("hostsync.toml", "");
        assert_eq!(find(), site.path("hostsync.toml"));
    }

    #[test]
    fn missing_file_is_an_error_that_says_where_it_was_looked_for() {
        let site = Site::new();
        fs::remove_file(site.path("config.ini")).unwrap();
        let error = find(None, &site.environment()).unwrap_err().to_string();
        assert!(
            error.contains("hostsync.toml, config.ini, config/config.ini"),
            "{error}"
        );
        assert!(!error.contains("does not exist"), "{error}");
    }

    #[test]
    fn named_file_that_is_missing_is_an_error_about_what_named_it() {
        let site = Site::new();
        let error = find(Some(Path::new("x/y.ini")), &site.environment()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the configuration file x/y.ini does not exist"
        );
        let help = error.help().unwrap().to_string();
        assert!(
            help.contains("--config") && help.contains("HOSTSYNC_CONFIG"),
            "{help}"
        );
    }
}

mod settings_file {
    use super::*;

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
        let (_, message, _) = Site::with_ini("state_path = %(nothing)s").issue();
        assert!(message.contains("nothing"), "{message}");
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
        assert_eq!(site.marked(), ["[paths]", "log_path = a"]);
        let small = Site::with("config.ini", "[default]\nlog_path = a");
        assert_eq!(small.issue().2, "did you mean `[DEFAULT]`?");
    }

    #[test]
    fn values_out_of_range_are_marked() {
        for line in [
            "number_of_connections = 0",
            "number_of_connections = 1001",
            "number_of_connections = many",
            "autosync = maybe",
            "synctime = 0",
            "connect_timeout = -1",
            "connect_timeout = 0",
            "stall_timeout = 1000000h",
            "stall_timeout = 1999ms",
            "max_delete = 101%",
            "backups = -1",
            "modes = some",
            "diff_limit = 0",
            "diff_limit = 5 MiB",
            "diff_limit = 100 apples",
            "diff_limit = -1",
            "staging_path = a/../b",
        ] {
            let site = Site::with_ini(line);
            assert_eq!(site.issue().0, IssueCode::InvalidValue, "{line}");
            let value = line.split_once(" = ").unwrap().1;
            assert_eq!(site.marked(), [value], "{line}");
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
            super::load(Path::new("config.ini"), &environment).is_ok()
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
}

mod hosts_file {
    use super::*;

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
            (host(r#", "groups": "a""#), WrongType, vec![r#""a""#]),
            (host(r#", "groups": [1]"#), WrongType, vec!["1"]),
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
                vec![r#""web:22""#],
            ),
            (r#"{"a": 1}"#.into(), WrongType, vec!["{"]),
            (r#"["hunter2"]"#.into(), WrongType, vec![r#"""#]),
            (
                r#"[{"ip_address": "web", "user": "u"}, {"ip_address": "web", "user": "u"}]"#
                    .into(),
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
}

mod mapper_files {
    use super::*;

    #[test]
    fn all_keys_are_read() {
        let site = Site::with_mapper(
            r#"[{"src": "app", "dest": "/srv/a", "exact": true, "exclude": ["*.o"], "symlinks": "skip"},
                {"src": "app", "dest": "~/b", "exact": "mirror", "symlinks": "follow"},
                {"src": "app", "dest": "c", "exact": false, "symlinks": "preserve"}]"#,
        );
        let mappings = site.config().hosts.remove(0).mappings;
        assert_eq!(mappings[0].exact, Exact::Orphans);
        assert_eq!(mappings[0].exclude.patterns(), ["*.o"]);
        assert_eq!(mappings[0].symlinks, SymlinkPolicy::Skip);
        assert_eq!(mappings[1].exact, Exact::Mirror);
        assert_eq!(mappings[1].symlinks, SymlinkPolicy::Follow);
        assert_eq!(mappings[1].dest.to_string(), "./b");
        assert_eq!(mappings[2].exact, Exact::No);
        assert_eq!(mappings[2].symlinks, SymlinkPolicy::Preserve);
        assert_eq!(mappings[2].src.as_path(), site.path("app"));
    }

    #[test]
    fn base_name_of_src_is_appended_only_to_a_dest_that_ends_in_a_slash() {
        let dest = |src: &str, dest: &str| {
            let text = format!(r#"[{{"src": "{src}", "dest": "{dest}"}}]"#);
            let mapping = Site::with_mapper(&text)
                .config()
                .hosts
                .remove(0)
                .mappings
                .remove(0);
            (mapping.dest.to_string(), mapping.dest_as_written)
        };
        let pair = |dest: &str, written: &str| (dest.to_owned(), written.to_owned());
        assert_eq!(dest("x/app", "/srv"), pair("/srv", "/srv"));
        assert_eq!(dest("x/app", "/srv/"), pair("/srv/app", "/srv/app"));
        assert_eq!(dest("x/app/", "~/"), pair("./app", "~/app"));
        assert_eq!(dest("../app", "/"), pair("/app", "/app"));
        assert_eq!(dest("app", "~"), pair("./.", "~"));
    }

    #[test]
    fn mistakes_are_marked() {
        use IssueCode::{
            InvalidGlob, InvalidValue, MissingKey, OverlappingDestinations, Syntax, UnknownKey,
            WrongType,
        };
        let mapping = |more: &str| format!(r#"[{{"src": "app", "dest": "/a"{more}}}]"#);
        let dest = |dest: &str| format!(r#"[{{"src": "app", "dest": "{dest}"}}]"#);
        for (text, code, marked) in [
            (mapping(r#", "excludes": []"#), UnknownKey, vec![r#""excludes""#]),
            (mapping(r#", "exclude": ["["]"#), InvalidGlob, vec![r#""[""#]),
            (mapping(r#", "exclude": ["/"]"#), InvalidGlob, vec![r#""/""#]),
            (mapping(r#", "exact": "yes""#), InvalidValue, vec![r#""yes""#]),
            (mapping(r#", "symlinks": "folow""#), InvalidValue, vec![r#""folow""#]),
            (dest(""), InvalidValue, vec![r#""""#]),
            (dest("/a\\nb"), InvalidValue, vec![r#""/a\nb""#]),
            (dest("/a\\u0000"), InvalidValue, vec![r#""/a\u0000""#]),
            (dest("/a/../b"), InvalidValue, vec![r#""/a/../b""#]),
            (dest("~root/b"), InvalidValue, vec![r#""~root/b""#]),
            (r#"[{"src": "app", "dest": 1}]"#.into(), WrongType, vec!["1"]),
            (r#"[{"dest": "/a"}]"#.into(), MissingKey, vec!["{"]),
            (r#"[{"src": "", "dest": "/a"}]"#.into(), InvalidValue, vec![r#""""#]),
            (
                r#"[{"src": "a/..", "dest": "/a/"}]"#.into(),
                InvalidValue,
                vec![r#""/a/""#, r#""a/..""#],
            ),
            ("[1]".into(), WrongType, vec!["1"]),
            ("[{]".into(), Syntax, vec!["]"]),
            (
                r#"[{"src": "app", "dest": "/a/b"}, {"src": "app", "dest": "/a//"}, {"src": "x/b", "dest": "/a/"}]"#
                    .into(),
                OverlappingDestinations,
                vec![r#""/a/b""#, r#""/a/""#],
            ),
        ] {
            let site = Site::with_mapper(&text);
            assert_eq!(site.issue().0, code, "{text}");
            assert_eq!(site.marked(), marked, "{text}");
        }
    }

    #[test]
    fn destinations_overlap_only_at_component_boundaries() {
        let overlaps = |first: &str, second: &str| {
            let site = Site::with_mapper(&format!(
                r#"[{{"src": "app", "dest": "{first}"}}, {{"src": "app", "dest": "{second}"}}]"#
            ));
            site.load().is_err()
        };
        assert!(overlaps("/a", "/a"));
        assert!(overlaps("/a/b", "/a"));
        assert!(overlaps("a", "~/a/b"));
        assert!(!overlaps("/a", "/ab"));
        assert!(!overlaps("/a", "a"));
    }

    #[test]
    fn missing_mapper_file_is_a_problem_of_its_host_alone() {
        let site = Site::with_hosts(
            r#"[{"ip_address": "gone", "user": "u"}, {"ip_address": "web", "user": "u"}]"#,
        );
        let hosts = site.config().hosts;
        let problem = hosts[0].problem.as_ref().unwrap();
        assert!(problem.contains("path_mapper/gone.json"), "{problem}");
        assert_eq!(hosts[1].problems(), None);
    }

    #[test]
    fn unreadable_mapper_file_is_a_problem_of_its_host_alone() {
        let site = Site::new();
        fs::remove_file(site.path("path_mapper/web.json")).unwrap();
        fs::create_dir(site.path("path_mapper/web.json")).unwrap();
        let problem = site.config().hosts.remove(0).problem.unwrap();
        assert!(problem.starts_with("cannot read mapper file"), "{problem}");
    }

    #[test]
    fn every_missing_source_is_named_in_the_problem() {
        let site =
            Site::with_mapper(r#"[{"src": "no1", "dest": "/1"}, {"src": "no2", "dest": "/2"}]"#);
        let problem = site.config().hosts.remove(0).problem.unwrap();
        assert!(problem.contains("`no1`") && problem.contains("`no2`"));
        assert!(problem.contains(site.path("no1").to_str().unwrap()));
    }

    #[test]
    fn errors_of_all_files_are_shown_at_once() {
        let site = Site::with_ini("log_pth = a\nbackups = x");
        site.write(
            "connection_info.json",
            r#"[{"ip_address": "web", "user": "u", "prot": 1}, {"ip_address": "db", "user": 5}]"#,
        );
        site.write("path_mapper/web.json", r#"[{"src": "app"}]"#);
        site.write("path_mapper/db.json", "[");
        let mut codes = site.codes();
        codes.sort();
        assert_eq!(
            codes,
            [
                IssueCode::Syntax,
                IssueCode::UnknownKey,
                IssueCode::UnknownKey,
                IssueCode::MissingKey,
                IssueCode::WrongType,
                IssueCode::InvalidValue,
            ]
        );
    }

    #[test]
    fn errors_are_sorted_by_file_and_place() {
        let site = Site::with_ini("compress = perhaps\nlog_pth = a\nbackups = x");
        site.write(
            "connection_info.json",
            r#"[{"ip_address": "web", "user": 1, "prot": 1},
                {"ip_address": "db", "user": "u", "user": "v"}, {"ip_address": "app"}]"#,
        );
        site.write(
            "path_mapper/web.json",
            r#"[{"src": "app"}, {"scr": "app"}]"#,
        );
        site.write("path_mapper/db.json", "[");
        site.write("path_mapper/app.json", r#"[{"dest": "/x"}]"#);
        let places: Vec<(String, usize)> = site
            .issues()
            .iter()
            .map(|issue| (issue.file().unwrap().to_owned(), issue.order().1))
            .collect();
        let mut files: Vec<&str> = places.iter().map(|(file, _)| file.as_str()).collect();
        files.dedup();
        assert_eq!(
            files,
            [
                "config.ini",
                "connection_info.json",
                "path_mapper/web.json",
                "path_mapper/db.json",
                "path_mapper/app.json",
            ]
        );
        assert!(
            places.is_sorted_by_key(|(file, at)| (files.iter().position(|f| f == file), *at)),
            "{places:?}"
        );
    }

    #[test]
    fn missing_hosts_file_stands_behind_the_errors_of_the_settings() {
        let site = Site::with_ini("connection_info_path = no.json\nlog_pth = a");
        assert_eq!(site.codes(), [IssueCode::UnknownKey, IssueCode::Unreadable]);
    }
}

mod remarks {
    use super::*;

    fn remarks(site: &Site) -> Vec<String> {
        let remarks = site.load().unwrap().remarks;
        remarks.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn autosync_is_remarked_upon_where_it_is_on() {
        let site = Site::with_ini("backups = 3\nautosync = yes");
        let remarks_on = remarks(&site);
        assert_eq!(remarks_on.len(), 1, "{remarks_on:?}");
        assert!(
            remarks_on[0].contains("config.ini:3: `autosync` is on"),
            "{remarks_on:?}"
        );
        assert!(remarks(&Site::with_ini("autosync = no")).is_empty());
    }

    #[test]
    fn mapper_file_without_a_host_is_remarked_upon() {
        let site = Site::with("path_mapper/wbe.json", "[");
        let remarks = remarks(&site);
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(
            remarks[0].contains("path_mapper/wbe.json: no host"),
            "{remarks:?}"
        );
    }

    #[test]
    fn passkey_that_others_may_read_is_remarked_upon() {
        let site = Site::with_hosts(r#"[{"ip_address": "web", "user": "u", "passkey": "s"}]"#);
        let file = site.path("connection_info.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(remarks(&site)[0].contains("mode 640"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(remarks(&site).is_empty());
        site.write(
            "connection_info.json",
            r#"[{"ip_address": "web", "user": "u"}]"#,
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(remarks(&site).is_empty());
    }
}

mod secrets {
    use super::*;

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
        let site =
            Site::with_hosts(r#"[{"ip_address": "web", "user": "u", "passkey": "hunter2"}]"#);
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
}

mod robustness {
    use super::*;

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
        ] {
            let error = site.load().unwrap_err();
            let mut text = String::new();
            GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
                .render_report(&mut text, &error)
                .unwrap();
            let acts = text.chars().find(|c| c.is_control() && *c != '\n');
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
}

mod digests {
    use super::*;

    #[test]
    fn digest_is_the_same_in_another_folder() {
        let [a, b] = [Site::new(), Site::new()].map(|site| config_digest(&site.config()));
        assert_eq!(a, b);
    }

    #[test]
    fn secrets_and_the_order_of_hosts_do_not_count() {
        let a = r#"{"ip_address": "a", "user": "u"}"#;
        let b = r#"{"ip_address": "b", "user": "u"}"#;
        let with_passkey = r#"{"ip_address": "b", "user": "u", "passkey": "s"}"#;
        let digest = |hosts: &str| config_digest(&Site::with_hosts(&format!("[{hosts}]")).config());
        assert_eq!(
            digest(&format!("{a},{b}")),
            digest(&format!("{with_passkey},{a}"))
        );
    }

    #[test]
    fn everything_that_decides_the_outcome_counts() {
        let base = config_digest(&Site::new().config());
        let host = |more: &str| {
            Site::with_hosts(&format!(r#"[{{"ip_address": "web", "user": "u"{more}}}]"#))
        };
        let mapper = |src: &str, dest: &str, more: &str| {
            Site::with_mapper(&format!(r#"[{{"src": "{src}", "dest": "{dest}"{more}}}]"#))
        };
        for site in [
            host(r#", "port": 23"#),
            host(r#", "name": "x""#),
            Site::with_hosts(r#"[{"ip_address": "web", "user": "v"}]"#),
            mapper("./app", "/srv/app", ""),
            mapper("app", "/srv/b", ""),
            mapper("app", "/srv/app", r#", "exact": true"#),
            mapper("app", "/srv/app", r#", "exclude": ["x"]"#),
            mapper("app", "/srv/app", r#", "symlinks": "skip""#),
            Site::with_ini("modes = executable"),
            Site::with_ini("max_delete = 51%"),
            Site::with_ini("staging_path = /x"),
        ] {
            assert_ne!(config_digest(&site.config()), base, "{:?}", site.config());
        }
        let same = Site::with_ini("log_path = x\nnumber_of_connections = 2");
        assert_eq!(config_digest(&same.config()), base);
    }
}

mod selecting {
    use super::*;

    fn selected(patterns: &[&str]) -> Result<Vec<String>, SelectError> {
        let site = Site::with_hosts(
            r#"[{"ip_address": "10.0.0.1", "user": "u", "name": "web1", "groups": ["web"]},
                {"ip_address": "10.0.0.2", "user": "u", "name": "web2", "groups": ["web"]},
                {"ip_address": "10.0.1.1", "user": "u", "name": "db"}]"#,
        );
        let config = site.config();
        let patterns: Vec<_> = patterns.iter().map(|&p| p.to_owned()).collect();
        let hosts = select(&config, &patterns)?;
        Ok(hosts.iter().map(|host| host.id.to_string()).collect())
    }

    #[test]
    fn no_pattern_picks_all() {
        assert_eq!(selected(&[]).unwrap().len(), 3);
    }

    #[test]
    fn names_addresses_groups_and_globs_pick_in_the_order_of_the_configuration() {
        assert_eq!(selected(&["db", "web1"]).unwrap(), ["web1", "db"]);
        assert_eq!(selected(&["10.0.0.2"]).unwrap(), ["web2"]);
        assert_eq!(selected(&["web", "web1"]).unwrap(), ["web1", "web2"]);
        assert_eq!(selected(&["10.0.0.*"]).unwrap(), ["web1", "web2"]);
        assert_eq!(selected(&["{db,web2}"]).unwrap(), ["web2", "db"]);
    }

    #[test]
    fn pattern_that_matches_nothing_is_an_error_with_a_suggestion() {
        let error = selected(&["db", "wbe1"]).unwrap_err();
        assert_eq!(error.to_string(), "no host matches `wbe1`");
        assert_eq!(error.help().unwrap().to_string(), "did you mean `web1`?");
        assert!(selected(&["x*"]).is_err());
        assert!(matches!(
            selected(&["["]),
            Err(SelectError::BadPattern { .. })
        ));
    }
}

mod native_form {
    use super::*;

    const HOST: &str = "[[host]]\nip_address = \"web\"\nuser = \"u\"\n";
    const MAPPING: &str = "[[mapping]]\nsrc = \"app\"\ndest = \"a\"\n";

    /// Every setting and every key of the native form.
    const COMPLETE: &str = r#"
[[mapping]] # of all hosts
src = "app"
dest = "/everywhere"

[settings]
number_of_connections = 3
log_path = "l"
autosync = false
synctime = 2
state_path = "~/st"
known_hosts_path = 'kh'
connect_timeout = 5
login_timeout = "2m"
stall_timeout = 1_0
staging_path = "~/stage"
backups = 0x10
max_delete = 10
modes = "executable"
diff_hide = ["*.key", "*.pem"]
diff_show = "a.key"
diff_limit = 2048
ciphers = "aes256-ctr, aes128-ctr"
compress = true

[[host]]
ip_address = "192.0.2.1"
user = "u"
passkey = "hunter2"
groups = ["all", "a"]

[[host]]
ip_address = "192.0.2.2"
name = "db"
user = "u"
port = 2222
groups = ["all"]
identity_file = "keys/db"

[[host]]
ip_address = "192.0.2.3"
user = "u"
passkey_env = "P"

[[mapping]]
src = "./app"
dest = "~/a/"
exact = "mirror"
exclude = ["*.o"]
symlinks = "skip"
hosts = ["192.0.2.1"]
groups = ["all"]

[[mapping]]
src = "app"
dest = "db"
exact = true
hosts = ["db", "192.0.2.2", "192.0.2.3"]
"#;

    fn with_host(rest: &str) -> Site {
        Site::with_toml(format!("{HOST}{rest}"))
    }

    #[test]
    fn name_of_a_host_counts_before_an_address() {
        let config = Site::with_toml(
            "[[host]]\nip_address = 'a'\nuser = 'u'\n\
             [[host]]\nname = 'b'\nip_address = 'a'\nuser = 'u'\n\
             [[host]]\nname = 'c'\nip_address = 'd'\nuser = 'u'\n\
             [[mapping]]\nsrc = 'app'\ndest = '/x'\nhosts = ['a']\n\
             [[mapping]]\nsrc = 'app'\ndest = '/y'\nhosts = ['d']\n",
        )
        .config();
        let counts: Vec<_> = config
            .hosts
            .iter()
            .map(|host| host.mappings.len())
            .collect();
        assert_eq!(counts, [1, 0, 1]);
    }

    #[test]
    fn says_the_same_as_the_old_files() {
        let site = Site::with_ini(
            "number_of_connections = 3\nlog_path = l\nautosync = no\nsynctime = 2\n\
             state_path = ~/st\nknown_hosts_path = kh\nconnect_timeout = 5\nlogin_timeout = 2m\n\
             stall_timeout = 10\nstaging_path = ~/stage\nbackups = 16\nmax_delete = 10%\n\
             modes = executable\ndiff_hide = *.key, *.pem\ndiff_show = a.key\n\
             diff_limit = 2KiB\nciphers = aes256-ctr, aes128-ctr\ncompress = on",
        );
        site.write(
            "connection_info.json",
            r#"[{"ip_address": "192.0.2.1", "user": "u", "passkey": "hunter2", "groups": ["all", "a"]},
                {"ip_address": "192.0.2.2", "name": "db", "user": "u", "port": 2222,
                 "groups": ["all"], "identity_file": "keys/db"},
                {"ip_address": "192.0.2.3", "user": "u", "passkey_env": "P"}]"#,
        );
        let everywhere = r#"{"src": "app", "dest": "/everywhere"}"#;
        let file = r#"{"src": "./app", "dest": "~/a/", "exact": "mirror",
                       "exclude": ["*.o"], "symlinks": "skip"}"#;
        let database = r#"{"src": "app", "dest": "db", "exact": true}"#;
        for (host, mappings) in [
            ("192.0.2.1", &[everywhere, file][..]),
            ("db", &[everywhere, file, database]),
            ("192.0.2.3", &[everywhere, database]),
        ] {
            let mappings = mappings.join(",");
            site.write(&format!("path_mapper/{host}.json"), format!("[{mappings}]"));
        }
        let old = site.config();
        site.write("hostsync.toml", COMPLETE);
        let native = site.config();
        assert_eq!(native.path, site.path("hostsync.toml"));
        assert_eq!(native.hosts.len(), 3);
        let shown = |config: &Config| format!("{:?} {:?}", config.settings, config.hosts);
        assert_eq!(shown(&native), shown(&old));
        let Some(Passkey::Literal(passkey)) = &native.hosts[0].auth.passkey else {
            panic!("{:?}", native.hosts[0]);
        };
        assert_eq!(passkey.expose_secret(), "hunter2");
        assert_eq!(config_digest(&native), config_digest(&old));
    }

    #[test]
    fn example_of_the_documentation_is_valid() {
        let text = include_str!("../../docs/configuration.md");
        let (_, rest) = text.split_once("```toml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let hosts = Site::with_toml(example).config().hosts;
        let counts = hosts.iter().map(|host| host.mappings.len());
        assert_eq!(counts.collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn empty_file_has_no_hosts_and_all_defaults() {
        let config = Site::with_toml("").config();
        assert!(config.hosts.is_empty());
        assert_eq!(config.settings.backups, 5);
    }

    #[test]
    fn paths_are_relative_to_the_folder_of_the_file() {
        let site = Site::with_toml("");
        fs::create_dir(site.path("conf")).unwrap();
        let text = format!("{HOST}identity_file = \"k\"\n{MAPPING}");
        site.write("conf/other.toml", text);
        let loaded = load(Path::new("conf/other.toml"), &site.environment()).unwrap();
        assert_eq!(loaded.config.settings.state_path, site.path("conf/state"));
        let host = &loaded.config.hosts[0];
        let key = host.auth.identity_file.as_ref().unwrap();
        assert_eq!(key.as_path(), site.path("conf/k"));
        assert_eq!(host.mappings[0].src.as_path(), site.path("conf/app"));
    }

    #[test]
    fn mistakes_are_marked() {
        let mapping = |line: &str| format!("{HOST}{MAPPING}{line}\n");
        for (text, code, marked) in [
            ("[setings]".to_owned(), IssueCode::UnknownSection, "setings"),
            ("log_path = 'a'".into(), IssueCode::UnknownKey, "log_path"),
            ("[[settings]]".into(), IssueCode::WrongType, "settings"),
            ("[host]".into(), IssueCode::WrongType, "host"),
            ("mapping = [1]".into(), IssueCode::WrongType, "*"),
            (
                "[settings]\nlog_pth = 1".into(),
                IssueCode::UnknownKey,
                "log_pth",
            ),
            (
                "[settings]\naddress_mapper_path = 'a'".into(),
                IssueCode::UnknownKey,
                "address_mapper_path",
            ),
            (
                "[settings]\nbackups = -1".into(),
                IssueCode::InvalidValue,
                "-1",
            ),
            (
                "[settings]\nbackups = 1.5".into(),
                IssueCode::InvalidValue,
                "1.5",
            ),
            (
                "[settings]\nlog_path = 2020-01-01".into(),
                IssueCode::InvalidValue,
                "2020-01-01",
            ),
            (
                "[settings]\nmodes = ['all']".into(),
                IssueCode::InvalidValue,
                "['all']",
            ),
            ("[settings]\nbackups = x".into(), IssueCode::Syntax, "x"),
            (
                "[settings]\nbackups = 1\nbackups = 2".into(),
                IssueCode::DuplicateKey,
                "backups",
            ),
            (
                "[[host]]\nip_address = 'a'".into(),
                IssueCode::MissingKey,
                "[",
            ),
            (format!("{HOST}port = '22'"), IssueCode::WrongType, "'22'"),
            (mapping("exact = 1"), IssueCode::InvalidValue, "1"),
            (mapping("host = ['web']"), IssueCode::UnknownKey, "host"),
            (mapping("hosts = []"), IssueCode::InvalidValue, "[]"),
            (mapping("hosts = 'web'"), IssueCode::WrongType, "'web'"),
            (mapping("hosts = ['x']"), IssueCode::UnknownHost, "'x'"),
            (mapping("groups = ['x']"), IssueCode::UnknownGroup, "'x'"),
        ] {
            let site = Site::with_toml(&text);
            assert_eq!(site.issue().0, code, "{text}");
            assert_eq!(site.marked(), [marked], "{text}");
            let shown = rendered(&site.load().unwrap_err());
            assert!(shown.contains("hostsync.toml:"), "{shown}");
        }
    }

    #[test]
    fn misspelt_words_come_with_suggestions() {
        for (rest, help) in [
            ("[setings]".to_owned(), "did you mean `settings`?"),
            ("prot = 1".into(), "did you mean `port`?"),
            ("[settings]\nbackup = 1".into(), "did you mean `backups`?"),
            (format!("{MAPPING}group = ['a']"), "did you mean `groups`?"),
            (
                format!("groups = ['front']\n{MAPPING}groups = ['fornt']"),
                "did you mean `front`?",
            ),
            (format!("{MAPPING}hosts = ['wep']"), "did you mean `web`?"),
        ] {
            assert_eq!(with_host(&rest).issue().2, help, "{rest}");
        }
    }

    #[test]
    fn names_are_not_refused_while_their_table_is_misspelt() {
        let site = Site::with_toml(format!(
            "{}{MAPPING}hosts = ['web']",
            HOST.replace("host", "hosts")
        ));
        assert_eq!(site.issue().0, IssueCode::UnknownSection);
    }

    #[test]
    fn mistake_in_a_mapping_of_several_hosts_is_shown_once() {
        let other = HOST.replace("web", "other");
        let below = MAPPING.replace("\"a\"", "\"a/b\"");
        let site = Site::with_toml(format!(
            "{HOST}{other}{MAPPING}exact = 1\nsymlinks = 'x'\n{below}"
        ));
        assert_eq!(
            site.codes(),
            [
                IssueCode::OverlappingDestinations,
                IssueCode::InvalidValue,
                IssueCode::InvalidValue
            ]
        );
    }

    #[test]
    fn all_errors_are_shown_at_once() {
        let site = Site::with_toml(
            "[settings]\nbackups = -1\nbackups = 2\n[[host]]\nuser = 'u'\n\
             [[mapping]]\nsrc = 'app'\nhosts = ['web']\n[other]\n",
        );
        assert_eq!(
            site.codes(),
            [
                IssueCode::InvalidValue,
                IssueCode::DuplicateKey,
                IssueCode::MissingKey,
                IssueCode::MissingKey,
                IssueCode::UnknownSection
            ]
        );
        let broken = Site::with_toml("[settings]\nbackups = x\n[[host]]\nuser = \n");
        assert_eq!(broken.codes(), [IssueCode::Syntax, IssueCode::Syntax]);
        let shown = rendered(&broken.load().unwrap_err());
        assert!(shown.contains("hostsync.toml:2:11"), "{shown}");
    }

    #[test]
    fn missing_source_is_a_problem_of_the_hosts_that_get_it() {
        let site = with_host(&MAPPING.replace("\"app", "\"gone"));
        let problem = site.config().hosts.remove(0).problem.unwrap();
        assert!(problem.contains("`gone` does not exist"), "{problem}");
    }

    #[test]
    fn passkey_that_others_may_read_is_remarked_upon() {
        let site = with_host("passkey = \"x\"\n");
        let remarks_with = |mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(site.path("hostsync.toml"), permissions).unwrap();
            site.load().unwrap().remarks
        };
        assert!(remarks_with(0o644)[0].to_string().contains("chmod 600"));
        assert!(remarks_with(0o600).is_empty());
    }

    #[test]
    fn no_error_shows_a_passkey() {
        for text in [
            // Sound TOML.
            "[[host]]\npasskey = \"hunter2\"\nusr = \"u\"\n",
            "[[host]]\npaskey = \"hunter2\"\n",
            "[[host]]\npaskey = '''\nhunter2'''\n",
            "[[host]]\npasskey = \"\"\"\nhunter2\"\"\"\n",
            "[[host]]\npassword = [\n\"hunter2\"]\n",
            "[[host]]\npasskey.a = \"hunter2\"\n",
            "[[host]]\nuser = { a = \"hunter2\" }\n",
            "[[hosts]]\npaskey = \"hunter2\"\n",
            "[host]\npaskey = \"hunter2\"\n",
            "host = [{ user = \"u\", paskey = \"hunter2\" }]\n",
            "host = \"hunter2\"\n",
            "host = [\"hunter2\"]\n",
            "paskey = \"hunter2\"\n",
            "[settings]\npaskey = \"hunter2\"\n",
            "[[mapping]]\npaskey = \"hunter2\"\n",
            "[[host]]\n# passkey = \"\"\"hunter2\"\"\"\nuser = 1\n",
            // Keys and tables that are there twice.
            "[[host]]\npaskey = \"a\"\npaskey = \"hunter2\"\n",
            "[host]\npaskey = \"hunter2\"\n[host]\npaskey = \"hunter2\"\n",
            // Broken in all kinds of ways.
            "[[host]]\npasskey = \"hunter2\n",
            "[[host]]\npasskey = hunter2\n",
            "[[host]]\npasskey \"hunter2\"\n",
            "[[host]]\npasskey = \"a\"hunter2\"\n",
            "[[host]]\npasskey = \"\\hunter2\"\n",
            "[[host]]\npasskey = \"\"\"\nuser = hunter2\n",
            "[[host]]\npaskey = hunter2\n",
            "[[host]]\nuser = \"u\" hunter2\n",
            "[[host]]\nuser = \"u\", paskey = \"hunter2\"\n",
            "host = [{ user = \"u\", paskey = \"hunter2\" ]\n",
            "[[host]\npasskey = \"hunter2\"\n",
            "[hunter2\n",
            "hunter2",
        ] {
            let error = Site::with_toml(text).load().expect_err(text);
            let shown = rendered(&error);
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
            assert!(shown.contains("hostsync.toml:"), "{shown}");
        }
        let site = Site::with_toml(b"[[host]]\nuser = \"\xff\"\npaskey = \"hunter2\"\n");
        let shown = rendered(&site.load().unwrap_err());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("UTF-8"), "{shown}");
    }

    #[test]
    fn rest_of_the_text_is_shown() {
        let sound = with_host("passkey = \"hunter2\"\nprot = 1\n");
        let shown = rendered(&sound.load().unwrap_err());
        assert!(shown.contains("passkey = \"*******\""), "{shown}");
        let broken = Site::with_toml("[settings]\nlog_path = \"logs/a\n");
        let shown = rendered(&broken.load().unwrap_err());
        assert!(shown.contains("log_path = \"logs/a"), "{shown}");
        assert!(shown.contains("not TOML: "), "{shown}");
    }

    #[test]
    fn no_prefix_and_no_changed_byte_makes_it_panic_or_shows_a_passkey() {
        let text = "\u{feff}[settings]\r\nlog_path = \"é\"\nbackups = 0xf # é\ndiff_hide = ['a']\n\
                    [[host]]\nip_address = \"web\"\nuser = \"u\"\npasskey = \"hunter2\"\n\
                    groups = [\"g\"]\n[[mapping]]\nsrc = \"app\"\ndest = '''a'''\n\
                    groups = [\"g\",]\n[x.y]\nz.a = { b = 1979-05-27, c = 1e3 }\n";
        let site = Site::with_toml("");
        let survive = |bytes: &[u8]| {
            site.write("hostsync.toml", bytes);
            if let Err(error) = site.load() {
                let shown = rendered(&error);
                assert!(!shown.contains("hunter2"), "{shown}");
            }
        };
        for end in 0..text.len() {
            survive(&text.as_bytes()[..end]);
        }
        for at in 0..text.len() {
            for byte in [b'"', b'[', b'=', b'\n', 0xff] {
                let mut changed = text.as_bytes().to_vec();
                changed[at] = byte;
                survive(&changed);
            }
        }
    }

    #[test]
    fn deeply_nested_text_is_an_error() {
        let site = Site::with_toml(format!("a = {}", "[".repeat(100_000)));
        assert!(site.codes().contains(&IssueCode::Syntax));
    }
}
