use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::ExposeSecret as _;

use super::site::{Site, rendered};
use crate::config::{Config, IssueCode, Passkey, config_digest, load};

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
    let text = include_str!("../../../docs/configuration.md");
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
        ("[settings]\nbackups = x".into(), IssueCode::Syntax, "*"),
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
        (mapping("hosts = 'web'"), IssueCode::WrongType, "'***'"),
        (mapping("hosts = ['x']"), IssueCode::UnknownHost, "'*'"),
        (mapping("groups = ['x']"), IssueCode::UnknownGroup, "'*'"),
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
