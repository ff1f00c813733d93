//! What `hostsync migrate` writes says the same as the old files: for every sample, and for whatever
//! people may have in theirs.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use hostsync::config::{self, Config, Environment, Host, MigrateError, Migration};
use hostsync::model::Silent;
use hostsync::plan::goal::Sources;
use hostsync::plan::{self, PlanRequest, Refresh, document};
use hostsync::state::StateStore;
use hostsync::transport::{Connector, Session, TransportError};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Old files, in the folder `site` of a temporary folder.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(site.path("site/path_mapper")).unwrap();
        site
    }

    /// With a copy of a folder of this project.
    fn copy_of(folder: &str) -> Self {
        let site = Self::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in walkdir::WalkDir::new(&source) {
            let entry = entry.unwrap();
            let relative = entry.path().strip_prefix(&source).unwrap();
            if entry.file_type().is_file() {
                let text = fs::read(entry.path()).unwrap();
                site.write(&format!("site/{}", relative.display()), text);
            }
        }
        site
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn environment(&self) -> Environment {
        Environment {
            home: Some(self.path("home")),
            current_dir: self.path("site"),
        }
    }

    fn load(&self, name: &str) -> Config {
        config::load(Path::new(name), &self.environment())
            .unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)))
            .config
    }

    fn migration(&self) -> Result<Migration, MigrateError> {
        config::migrate(Path::new("config.ini"), &self.environment(), &|path| {
            fs::read(path)
        })
    }

    /// Migrates; both forms must say the same and give the same plan. The text of the new one.
    fn migrate(&self) -> String {
        let old = self.load("config.ini");
        let old_plan = plan(&old);
        let migration = self
            .migration()
            .unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
        migration.write().unwrap();
        let text = fs::read_to_string(self.path("site/hostsync.toml")).unwrap();
        assert_eq!(text, migration.text());
        let new = self.load("hostsync.toml");
        assert_eq!(new.settings, old.settings);
        assert_eq!(new.hosts, old.hosts);
        assert_eq!(config::config_digest(&new), config::config_digest(&old));
        assert_eq!(plan(&new), old_plan);
        text
    }
}

/// The document of the plan that rests on the state alone.
fn plan(config: &Config) -> String {
    let hosts: Vec<&Host> = config.hosts.iter().collect();
    let state = StateStore::open(&config.settings.state_path).unwrap();
    let prepared = plan::prepare(&PlanRequest {
        config,
        config_digest: config::config_digest(config),
        hosts: &hosts,
        state: &state,
        cache_dir: None,
        connector: &Nobody,
        refresh: Refresh::None,
        goal: &Sources,
        wants_diffs: false,
        keeps_all: false,
        keep_logins: 0,
        now: "2026-01-01T00:00:00Z",
        observer: &Silent,
    });
    document::to_json(&prepared.unwrap().plan)
}

/// No host is looked at.
struct Nobody;

impl Connector for Nobody {
    fn connect(&self, host: &Host) -> Result<Box<dyn Session>, TransportError> {
        panic!("{} is not to be looked at", host.id);
    }
}

mod samples {
    use super::*;

    #[test]
    fn copy_of_the_example_says_the_same() {
        let text = Site::copy_of("examples/inventory").migrate();
        assert_eq!(
            text,
            r#"# Written by `hostsync migrate` from config.ini and the files that it names.

[settings]
number_of_connections = 8
state_path = "../../state/"

[[host]]
ip_address = "192.0.2.10"
user = "deploy"
passkey = ""

[[mapping]]
src = "files/site"
dest = "/srv/www/site"
hosts = ["192.0.2.10"]

[[mapping]]
src = "files/welcome.txt"
dest = "~/welcome.txt"
hosts = ["192.0.2.10"]
"#
        );
    }

    #[test]
    fn configuration_of_the_quickstart_says_the_same() {
        let site = Site::new();
        site.write("site/site/index.html", "x");
        site.write("site/motd.txt", "x");
        site.write(
            "site/config.ini",
            include_str!("../examples/quickstart/config.ini"),
        );
        // As it is where all hosts share an address, and where they do not.
        site.write(
            "site/connection_info.json",
            r#"[
                {"ip_address": "127.0.0.11", "user": "deploy", "passkey": "a-b_c", "port": 2201},
                {"ip_address": "127.0.0.1", "user": "deploy", "passkey": "a-b_c", "port": 2202, "name": "web2"},
                {"ip_address": "127.0.0.1", "user": "deploy", "passkey": "a-b_c", "port": 2203, "name": "web3"}
            ]"#,
        );
        for host in ["127.0.0.11", "web2", "web3"] {
            let mapper = include_str!("../examples/quickstart/mapper.json");
            site.write(&format!("site/path_mapper/{host}.json"), mapper);
        }
        let text = site.migrate();
        assert_eq!(text.matches("[[mapping]]").count(), 2, "{text}");
        assert!(!text.contains("hosts ="), "{text}");
    }

    #[test]
    fn samples_of_the_old_program_say_the_same() {
        let site = Site::new();
        site.write("site/config.ini", "[DEFAULT]\nautosync = False\n");
        // Indented with blanks that a browser copies, and with a comma that JSON does not have.
        site.write(
            "site/connection_info.json",
            "[{\n\u{a0}\"ip_address\" : \"x.x.x.x\",\n\u{a0}\"user\" : \"username1\",\n\u{a0}\
             \"passkey\" : \"passcode1\"\n},\n{\"ip_address\" : \"y.y.y.y\",\n\
             \"user\" : \"username2\", \"passkey\" : \"passcode2\"}]",
        );
        let mapper = "[{\"src\" : \"source folder/file path1\",\n\u{a0}\u{a0}\
             \"dest\" : \"source folder/file path1\",\n},\n\
             {\"src\": \"source folder/file path2\", \"dest\": \"source folder/file path2\",}]";
        site.write("site/path_mapper/x.x.x.x.json", mapper);
        site.write("site/path_mapper/y.y.y.y.json", mapper);
        let text = site.migrate();
        assert!(text.contains("autosync = false"), "{text}");
        assert!(text.contains("passkey = \"passcode2\""), "{text}");
        assert_eq!(text.matches("[[mapping]]").count(), 2, "{text}");
    }
}

mod writing {
    use super::*;

    fn site(hosts: &Value, mappers: &[(&str, Value)]) -> Site {
        let site = Site::new();
        site.write("site/config.ini", "[DEFAULT]\n");
        site.write("site/connection_info.json", hosts.to_string());
        for (host, mapper) in mappers {
            site.write(&format!("site/path_mapper/{host}.json"), mapper.to_string());
        }
        site
    }

    fn host(name: &str) -> Value {
        json!({ "ip_address": name, "user": "u" })
    }

    fn mapping(name: &str) -> Value {
        json!({ "src": name, "dest": format!("~/{name}") })
    }

    #[test]
    fn mapping_of_all_hosts_names_none_and_one_of_some_names_them() {
        let text = site(
            &json!([host("a"), host("b"), host("c")]),
            &[
                ("a", json!([mapping("all"), mapping("two")])),
                ("b", json!([mapping("all")])),
                ("c", json!([mapping("all"), mapping("two")])),
            ],
        )
        .migrate();
        let mappings = text.split_once("[[mapping]]").unwrap().1;
        assert_eq!(
            mappings,
            "\nsrc = \"all\"\ndest = \"~/all\"\n\n[[mapping]]\nsrc = \"two\"\ndest = \"~/two\"\n\
             hosts = [\"a\", \"c\"]\n"
        );
    }

    #[test]
    fn mappings_are_not_merged_where_a_host_has_them_in_another_order() {
        let text = site(
            &json!([host("a"), host("b")]),
            &[
                ("a", json!([mapping("x"), mapping("y")])),
                ("b", json!([mapping("y"), mapping("x")])),
            ],
        )
        .migrate();
        assert_eq!(text.matches("[[mapping]]").count(), 3, "{text}");
    }

    #[test]
    fn host_whose_name_is_the_address_of_another_keeps_its_mappings() {
        let text = site(
            &json!([
                { "ip_address": "192.0.2.1", "user": "u" },
                { "name": "b", "ip_address": "192.0.2.1", "user": "u", "port": 2222 },
            ]),
            &[
                ("192.0.2.1", json!([mapping("x")])),
                ("b", json!([mapping("y")])),
            ],
        )
        .migrate();
        assert!(text.contains("hosts = [\"192.0.2.1\"]"), "{text}");
    }

    #[test]
    fn key_files_are_those_they_were() {
        let site = site(&json!([]), &[]);
        site.write(
            "site/config.ini",
            "[DEFAULT]\nconnection_info_path = ../shared/hosts.json\n",
        );
        let with_key = |name: &str, key: &str| {
            let path = format!("site/path_mapper/{name}.json");
            site.write(&path, "[]");
            json!({ "ip_address": name, "user": "u", "identity_file": key })
        };
        let hosts = json!([
            with_key("a", "keys/a"),
            with_key("b", "/etc/keys/b"),
            with_key("c", "~/.ssh/c"),
        ]);
        site.write("shared/hosts.json", hosts.to_string());
        let text = site.migrate();
        for key in ["../shared/keys/a", "/etc/keys/b", "~/.ssh/c"] {
            assert!(
                text.contains(&format!("identity_file = \"{key}\"")),
                "{text}"
            );
        }
    }

    #[test]
    fn long_lists_are_broken_into_lines() {
        let names: Vec<String> = (0..40)
            .map(|n| format!("host-{n:02}.example.org"))
            .collect();
        let mut hosts: Vec<Value> = names.iter().map(|name| host(name)).collect();
        hosts.push(host("other"));
        let mapper = json!([mapping("x")]);
        let mut mappers: Vec<(&str, Value)> = names
            .iter()
            .map(|name| (name.as_str(), mapper.clone()))
            .collect();
        mappers.push(("other", json!([])));
        let text = site(&json!(hosts), &mappers).migrate();
        assert_eq!(text.matches("[[mapping]]").count(), 1);
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }

    #[test]
    fn mapper_file_without_a_host_is_named_in_the_comment() {
        let site = site(&json!([]), &[("a\nb", json!([mapping("x")]))]);
        let text = site.migrate();
        assert!(
            text.contains("# Not in here: path_mapper/a\\nb.json, since no host has"),
            "{text}"
        );
    }

    #[test]
    fn host_without_a_mapper_file_is_refused() {
        let site = site(&json!([host("a"), host("b")]), &[("b", json!([]))]);
        let error = site.migration().err().unwrap();
        let text = error.to_string();
        assert!(
            matches!(error, MigrateError::UnknownMappings { .. }),
            "{text}"
        );
        assert!(
            text.contains("a: no mapper file path_mapper/a.json"),
            "{text}"
        );
    }

    #[test]
    fn file_that_is_there_is_not_overwritten() {
        let site = site(&json!([]), &[]);
        site.write("site/hostsync.toml", "mine");
        let before = fs::read_dir(site.path("site")).unwrap().count();
        let error = site.migration().unwrap().write().unwrap_err();
        assert!(matches!(error, MigrateError::Exists { .. }), "{error}");
        let kept = fs::read_to_string(site.path("site/hostsync.toml")).unwrap();
        assert_eq!(kept, "mine");
        assert_eq!(fs::read_dir(site.path("site")).unwrap().count(), before);
    }
}

/// Old files that anybody may have.
#[derive(Clone, Debug)]
struct OldFiles {
    settings: String,
    hosts_path: &'static str,
    hosts: Vec<(Value, Vec<Value>)>,
}

impl OldFiles {
    fn site(&self) -> Site {
        let site = Site::new();
        for source in SOURCES {
            site.write(&format!("site/{source}"), "x");
        }
        let settings = &self.settings;
        let path = self.hosts_path;
        site.write(
            "site/config.ini",
            format!("[DEFAULT]\nconnection_info_path = {path}\n{settings}"),
        );
        let hosts: Vec<&Value> = self.hosts.iter().map(|(host, _)| host).collect();
        site.write(&format!("site/{path}"), json!(hosts).to_string());
        for (host, mappings) in &self.hosts {
            let name = host.get("name").unwrap_or(&host["ip_address"]);
            let name = name.as_str().unwrap();
            site.write(
                &format!("site/path_mapper/{name}.json"),
                json!(mappings).to_string(),
            );
        }
        site
    }
}

/// The sources that exist.
const SOURCES: [&str; 2] = ["files/a", "files/ü %(x)s"];

/// Names of hosts; each is there once.
const NAMES: [&str; 6] = ["192.0.2.1", "web 1", "db\"2", "c'3\\", "größe", "%(x)s"];

fn setting() -> impl Strategy<Value = String> {
    let lines = [
        "number_of_connections = 3",
        "number_of_connections = +03",
        "log_path = 7",
        "log_path = \" logs with 'quotes' and \"\"\"more\"\"\" \"",
        "state_path = ~/state",
        "state_path = \\back\\slash",
        "known_hosts_path = ..//known/./hosts",
        "autosync = TRUE",
        "synctime = 5",
        "synctime = 1h",
        "connect_timeout = 5",
        "login_timeout = 1m 30s",
        "stall_timeout = 007",
        "staging_path = /var/%%(x)s",
        "staging_path",
        "backups = 0",
        "max_delete = 100%",
        "max_delete = 7",
        "modes = executable",
        "diff_hide = *.key, [a-z]\\*,\n  ü\n  \"q\"",
        "diff_show = ,",
        "ciphers = aes128-ctr,\n aes256-ctr",
        "compress = On",
        "compress = \"\"",
    ];
    select(lines.map(str::to_owned).to_vec())
}

fn settings() -> impl Strategy<Value = String> {
    vec(setting(), 0..6).prop_map(|lines| {
        let mut text = String::new();
        let mut keys = Vec::new();
        for line in lines {
            let key = line
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned();
            if !keys.contains(&key) {
                keys.push(key);
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    })
}

/// A mapping without its destination, and the end of that.
type Unfinished = (Map<String, Value>, String);

/// Mappings whose destinations do not overlap, two of each.
fn pool() -> impl Strategy<Value = Vec<Value>> {
    vec(vec(mapping(), 2), 5).prop_map(|pairs| {
        let mut complete = Vec::new();
        for (number, pair) in pairs.into_iter().enumerate() {
            for (mut mapping, dest) in pair {
                mapping.insert("dest".to_owned(), json!(format!("~/{number}{dest}")));
                complete.push(Value::Object(mapping));
            }
        }
        complete
    })
}

fn mapping() -> impl Strategy<Value = Unfinished> {
    let source = prop_oneof![select(&SOURCES[..]).prop_map(str::to_owned), "[^\0]{1,8}x"];
    let exact = option::of(select(vec![json!(true), json!(false), json!("mirror")]));
    let exclude = option::of(vec("[a-zü\"'\\\\ #%]{0,3}[a-z]", 0..30));
    let symlinks = option::of(select(vec!["preserve", "follow", "skip"]));
    let dest = "[^/\0\r\n.]{0,4}/?";
    (source, exact, exclude, symlinks, dest).prop_map(|(src, exact, exclude, symlinks, dest)| {
        let mut mapping = Map::new();
        mapping.insert("src".to_owned(), json!(src));
        let exclude = exclude.map(|globs| json!(globs));
        let symlinks = symlinks.map(|policy| json!(policy));
        for (key, value) in [
            ("exact", exact),
            ("exclude", exclude),
            ("symlinks", symlinks),
        ] {
            mapping.extend(value.map(|value| (key.to_owned(), value)));
        }
        (mapping, dest)
    })
}

fn host(name: &'static str) -> impl Strategy<Value = Value> {
    let is_named = any::<bool>();
    let port = option::of(1..=u16::MAX);
    let groups = option::of(vec("\\PC{1,3}", 0..3));
    let password = option::of((
        select(vec!["passkey", "passkey_env", "passkey_command"]),
        any::<String>(),
    ));
    let key = option::of(select(vec![
        "keys/ü",
        "/etc/key",
        "~/.ssh/key",
        "./~/k",
        "../k",
    ]));
    (is_named, port, groups, password, key).prop_map(
        move |(is_named, port, groups, password, key)| {
            let mut host = Map::new();
            if is_named || name != NAMES[0] {
                host.insert("name".to_owned(), json!(name));
            }
            host.insert("ip_address".to_owned(), json!(NAMES[0]));
            host.insert("user".to_owned(), json!("ü%ser"));
            let password = password.filter(|(key, text)| {
                *key == "passkey"
                    || (!text.is_empty() && (*key != "passkey_env" || !text.contains(['=', '\0'])))
            });
            host.extend(port.map(|port| ("port".to_owned(), json!(port))));
            host.extend(groups.map(|groups| ("groups".to_owned(), json!(groups))));
            host.extend(password.map(|(key, text)| (key.to_owned(), json!(text))));
            host.extend(key.map(|key| ("identity_file".to_owned(), json!(key))));
            Value::Object(host)
        },
    )
}

fn old_files() -> impl Strategy<Value = OldFiles> {
    let hosts_path = select(vec![
        "connection_info.json",
        "hosts/list.json",
        "../shared/list.json",
    ]);
    let names = subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_shuffle();
    (settings(), hosts_path, names, pool()).prop_flat_map(|(settings, hosts_path, names, pool)| {
        // One of each pair, in any order.
        let mappings = move || {
            let pool = pool.clone();
            (
                vec(any::<bool>(), 5),
                Just((0..5).collect::<Vec<usize>>()).prop_shuffle(),
                0..=5_usize,
            )
                .prop_map(move |(second, order, count)| {
                    let pick =
                        |number: &usize| pool[number * 2 + usize::from(second[*number])].clone();
                    order.iter().take(count).map(pick).collect::<Vec<_>>()
                })
        };
        let hosts: Vec<_> = names
            .into_iter()
            .map(|name| (host(name), mappings()))
            .collect();
        hosts.prop_map(move |hosts| OldFiles {
            settings: settings.clone(),
            hosts_path,
            hosts,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_valid_says_the_same_when_migrated(files in old_files()) {
        let site = files.site();
        // A random source or destination may be refused, and then there is nothing to migrate.
        let is_valid = config::load(Path::new("config.ini"), &site.environment()).is_ok();
        prop_assume!(is_valid);
        site.migrate();
    }
}
