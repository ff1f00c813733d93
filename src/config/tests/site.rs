//! A configuration in a folder of its own, in either form.

use std::fs;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, NarratableReportHandler};
use tempfile::TempDir;

use crate::config::{Config, ConfigError, Environment, Issue, IssueCode, Loaded, load};

/// The samples of the old program's README as a browser shows them: the blanks are U+00A0, and the
/// mapper file has a comma before its brace.
pub(super) const OLD_HOSTS: &str = "[\n\
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
pub(super) const OLD_MAPPER: &str = "[\n\
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
pub(super) struct Site {
    folder: TempDir,
}

impl Site {
    pub(super) fn new() -> Self {
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

    pub(super) fn with(name: &str, content: &str) -> Self {
        let site = Self::new();
        site.write(name, content);
        site
    }

    pub(super) fn with_ini(lines: &str) -> Self {
        Self::with("config.ini", &format!("[DEFAULT]\n{lines}\n"))
    }

    pub(super) fn with_hosts(content: &str) -> Self {
        Self::with("connection_info.json", content)
    }

    pub(super) fn with_mapper(content: &str) -> Self {
        Self::with("path_mapper/web.json", content)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(super) fn environment(&self) -> Environment {
        Environment {
            home: Some("/home/me".into()),
            current_dir: self.folder.path().to_owned(),
        }
    }

    /// The file `app` and a `hostsync.toml`.
    pub(super) fn with_toml(content: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder };
        site.write("app", "x");
        site.write("hostsync.toml", content);
        site
    }

    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        let is_native = self.path("hostsync.toml").exists();
        let main_file = if is_native {
            "hostsync.toml"
        } else {
            "config.ini"
        };
        load(Path::new(main_file), &self.environment())
    }

    pub(super) fn config(&self) -> Config {
        match self.load() {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("{}", rendered(&error)),
        }
    }

    pub(super) fn issues(&self) -> Vec<Issue> {
        match self.load() {
            Err(ConfigError::Invalid { issues, .. }) => issues,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn codes(&self) -> Vec<IssueCode> {
        self.issues().iter().map(Issue::issue_code).collect()
    }

    /// The one issue: its code, message and help.
    pub(super) fn issue(&self) -> (IssueCode, String, String) {
        let issues = self.issues();
        let [issue] = &issues[..] else {
            panic!("{issues:?}");
        };
        let help = issue.help().map_or(String::new(), |help| help.to_string());
        (issue.issue_code(), issue.to_string(), help)
    }

    /// The text under each label of the one issue, as far as it may be shown.
    pub(super) fn marked(&self) -> Vec<String> {
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
pub(super) fn rendered(error: &dyn Diagnostic) -> String {
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
