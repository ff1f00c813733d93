//! Which files are private, so that no diff shows what is in them.

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::types::Settings;
use crate::model::Mode;

/// What is private unless `diff_show` says otherwise; documented in `docs/configuration.md`. Rather too
/// much than too little: what is hidden without need costs a look at the file.
pub const PRIVATE: [&str; 71] = [
    // Keys, certificates that may come with one, and stores of them.
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "ssh_host_*_key",
    "*.key",
    "*.pem",
    "*.p8",
    "*.p12",
    "*.pfx",
    "*.pkcs12",
    "*.ppk",
    "*.jks",
    "*.keystore",
    "*.keytab",
    "*.kdb",
    "*.kdbx",
    "*.gpg",
    "*.asc",
    "*.ovpn",
    ".gnupg",
    "*private_key*",
    "*private-key*",
    "*privkey*",
    // Environments of programs.
    ".env*",
    "*.env",
    "*.env.*",
    // Whatever says what it is.
    "*secret*",
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*credential*",
    "*token*",
    "*apikey*",
    "*api_key*",
    "*api-key*",
    // Files of programs that hold passwords.
    "shadow*",
    "gshadow*",
    ".netrc",
    "_netrc",
    ".authinfo*",
    ".pgpass",
    "pgpass.conf",
    ".my.cnf",
    ".mylogin.cnf",
    ".htdigest",
    ".npmrc",
    ".pypirc",
    ".dockercfg",
    ".docker/config.json",
    ".kube/config*",
    "kubeconfig*",
    "*.kubeconfig",
    "kubernetes/*.conf",
    "*.tfstate*",
    ".terraformrc",
    ".s3cfg",
    ".boto",
    "connection_info.json",
    // Folders of programs that hold passwords.
    ".git",
    ".aws",
    ".azure",
    "gcloud",
    ".oci",
    // What was typed, passwords among it.
    ".*_history",
    ".history",
    ".histfile",
    ".zhistory",
    ".lesshst",
    ".viminfo",
    "fish_history",
];

/// Whether there is a private key in a content, whatever the file is called: one in PEM, of OpenSSH, of PGP,
/// of `PuTTY` or of age, also within other text or as base64.
pub fn holds_private_key(content: &[u8]) -> bool {
    // `-----BEGIN RSA PRIVATE KEY-----`, `---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----`.
    const BEGIN: &[u8] = b"BEGIN ";
    const KEY: &[u8] = b"PRIVATE KEY";
    const LONGEST_NAME: usize = 40;
    let is_key = |after: &[u8]| {
        let name = &after[..after.len().min(LONGEST_NAME + KEY.len())];
        let line = name.split(|byte| matches!(byte, b'\n' | b'\r')).next();
        line.is_some_and(|line| find(line, KEY).is_some())
    };
    let mut rest = content;
    while let Some(at) = find(rest, BEGIN) {
        let dashes = rest[..at].trim_ascii_end();
        rest = &rest[at + BEGIN.len()..];
        if dashes.ends_with(b"----") && is_key(rest) {
            return true;
        }
    }
    let others: [&[u8]; 7] = [
        b"PuTTY-User-Key-File-",
        b"AGE-SECRET-KEY-",
        // PEM in base64, as kubeconfigs and secrets of Kubernetes have it.
        b"LS0tLS1CRUdJTiBQUklWQVRFIEtFW",
        b"LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRV",
        b"LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFW",
        b"LS0tLS1CRUdJTiBFTkNSWVBURUQgUFJJVkFURSBLRV",
        b"LS0tLS1CRUdJTiBPUEVOU1NIIFBSSVZBVEUgS0VZ",
    ];
    others.iter().any(|header| find(content, header).is_some())
}

/// Where some bytes begin in others.
fn find(content: &[u8], wanted: &[u8]) -> Option<usize> {
    content.windows(wanted.len()).position(|it| it == wanted)
}

/// Bits of which a file that is for everybody has at least one: others or the group may read it.
const READ_BY_OTHERS: u32 = 0o044;

/// Tells files that stay private from those that a diff may show.
///
/// A pattern without a slash matches any component of a path, so what is in a folder of that name counts,
/// too. One that begins with `/` or `~/` is a whole path, or that of a folder above; any other one with a
/// slash matches the last components of such a path. Upper and lower case are the same. `*` and `?` do
/// not match a slash, `**` does.
#[derive(Clone, Debug)]
pub struct Privacy {
    /// `None` when they cannot be compiled: then everything is private.
    patterns: Option<HideAndShow>,
}

#[derive(Clone, Debug)]
struct HideAndShow {
    hide: Patterns,
    show: Patterns,
}

#[derive(Clone, Debug)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Privacy {
    /// What these settings say, in addition to [`PRIVATE`].
    pub fn of(settings: &Settings) -> Self {
        let hide = PRIVATE
            .into_iter()
            .chain(settings.diff_hide.iter().map(String::as_str));
        let show = settings.diff_show.iter().map(String::as_str);
        let patterns = Patterns::new(hide)
            .and_then(|hide| Patterns::new(show).map(|show| HideAndShow { hide, show }));
        Self {
            patterns: patterns.ok(),
        }
    }

    /// Whether a file is private that has these paths (its source, as it is written, and its
    /// destination) and these permission bits on the sides on which it is there.
    pub fn hides(&self, paths: &[&[u8]], modes: &[Mode]) -> bool {
        let Some(HideAndShow { hide, show }) = &self.patterns else {
            return true;
        };
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| plain(path)).collect();
        let any = |patterns: &Patterns| paths.iter().any(|path| patterns.match_path(path));
        let is_closed = modes.iter().any(|mode| mode.bits() & READ_BY_OTHERS == 0);
        (is_closed || any(hide)) && !any(show)
    }
}

/// Whether a pattern of `diff_hide` or `diff_show` can be used.
pub(super) fn check(pattern: &str) -> Result<(), globset::Error> {
    Patterns::new([pattern]).map(|_| ())
}

impl Patterns {
    fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, globset::Error> {
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        for pattern in patterns {
            let trimmed = match pattern.trim_end_matches('/') {
                "" => pattern,
                trimmed => trimmed,
            };
            let below_home = trimmed.strip_prefix("~/").or(trimmed.strip_prefix("./"));
            if let Some(path) = below_home {
                paths.add(glob(path)?);
            } else if trimmed.starts_with('/') {
                paths.add(glob(trimmed)?);
            } else if trimmed.contains('/') {
                paths.add(glob(&format!("**/{trimmed}"))?);
            } else {
                names.add(glob(trimmed)?);
            }
        }
        Ok(Self {
            names: names.build()?,
            paths: paths.build()?,
        })
    }

    /// Whether a path, or a folder that holds it, matches.
    fn match_path(&self, path: &[u8]) -> bool {
        let is_slash = |byte: &u8| *byte == b'/';
        let mut names = path.split(is_slash).filter(|name| !name.is_empty());
        let slashes = path.iter().enumerate().filter(|(_, byte)| is_slash(byte));
        let mut ends = slashes
            .map(|(at, _)| at)
            .chain([path.len()])
            .filter(|end| *end > 0);
        names.any(|name| self.names.is_match_candidate(&Candidate::from_bytes(name)))
            || ends.any(|end| {
                let path = Candidate::from_bytes(&path[..end]);
                self.paths.is_match_candidate(&path)
            })
    }
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .case_insensitive(true)
        .build()
}

/// A path without what does not count in it: that of a home folder, empty components and dots.
fn plain(path: &[u8]) -> Vec<u8> {
    let top: &[u8] = if path.starts_with(b"/") { b"/" } else { b"" };
    let path = path.strip_prefix(b"~/").unwrap_or(path);
    let parts: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    [top, &parts.join(&b'/')].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privacy(hide: &[&str], show: &[&str]) -> Privacy {
        let patterns = |list: &[&str]| Patterns::new(list.iter().copied()).expect("globs");
        let hide = [&PRIVATE, hide].concat();
        Privacy {
            patterns: Some(HideAndShow {
                hide: patterns(&hide),
                show: patterns(show),
            }),
        }
    }

    fn hides(privacy: &Privacy, path: &str) -> bool {
        privacy.hides(&[path.as_bytes()], &[Mode::new(0o644)])
    }

    #[test]
    fn files_that_usually_hold_secrets_are_private() {
        let privacy = privacy(&[], &[]);
        for path in [
            "/etc/ssl/private/site.key",
            "./.ssh/id_ed25519",
            "app/.env",
            "app/.env.production",
            "app/production.ENV",
            "/srv/Secrets/a.txt",
            "db-password.txt",
            "/etc/passwd",
            "/etc/shadow",
            "~/.docker/config.json",
            "~/.docker//config.json",
            "/root/.kube/config",
            "deploy_Token",
            ".git/config",
            "repository/.git/modules/x/config",
            ".git/hooks/../config",
            ".netrc",
            ".pgpass",
            ".npmrc",
            "~/.aws/credentials",
            "~/.config/gcloud/application_default_credentials.json",
            "~/.azure/msal_token_cache.json",
            "staging.kubeconfig",
            "/etc/kubernetes/admin.conf",
            ".bash_history",
            ".local/share/fish/fish_history",
        ] {
            assert!(hides(&privacy, path), "{path}");
        }
        for path in [
            "/etc/nginx/nginx.conf",
            "src/keyboard.txt",
            "environment",
            "docker/config.json",
            ".gitignore",
            "git/config",
            "release_history",
            "/",
            "",
        ] {
            assert!(!hides(&privacy, path), "{path}");
        }
    }

    #[test]
    fn file_that_only_its_owner_may_read_is_private_on_either_side() {
        let privacy = privacy(&[], &["shown"]);
        let modes = |bits: &[u32]| bits.iter().map(|bits| Mode::new(*bits)).collect::<Vec<_>>();
        let hides = |path: &[u8], bits: &[u32]| privacy.hides(&[path], &modes(bits));
        assert!(hides(b"a", &[0o600]));
        assert!(hides(b"a", &[0o644, 0o700]));
        assert!(!hides(b"a", &[0o640, 0o604]));
        assert!(!hides(b"shown", &[0o600]));
    }

    #[test]
    fn either_path_makes_a_file_private_and_an_exception_wins() {
        let privacy = privacy(
            &["*.conf", "/etc/app", "~/mine/**", "a/b"],
            &["site.conf", "/etc/app/open"],
        );
        let modes = [Mode::new(0o644)];
        assert!(privacy.hides(&[b"src/x", b"/srv/x.conf"], &modes));
        assert!(privacy.hides(&[b"src/x.conf", b"/srv/x"], &modes));
        assert!(!privacy.hides(&[b"secret/x", b"/srv/site.conf"], &modes));
        for path in ["/etc/app/x/y", "./mine/x", "c/a/b/x", "/a/b"] {
            assert!(hides(&privacy, path), "{path}");
        }
        for path in ["etc/app/x", "/etc/app/open/x", "/etc/apps", "a/c/b"] {
            assert!(!hides(&privacy, path), "{path}");
        }
    }

    #[test]
    fn private_key_is_known_by_its_content() {
        for key in [
            "-----BEGIN PRIVATE KEY-----\nMII",
            "-----BEGIN RSA PRIVATE KEY-----\r\nMII",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3B",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----",
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
            "# a comment\n\ntls:\n  key: |\n    -----BEGIN EC PRIVATE KEY-----\n",
            "{\"private\": \"-----BEGIN PRIVATE KEY-----\\nMII\"}",
            "-----BEGIN CERTIFICATE-----\nx\n-----BEGIN PRIVATE KEY-----",
            "PuTTY-User-Key-File-3: ssh-ed25519\n",
            "# created: 2026\nAGE-SECRET-KEY-1QQ",
            "client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQo",
            "tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCg",
        ] {
            assert!(holds_private_key(key.as_bytes()), "{key}");
        }
        for plain in [
            "",
            "BEGIN",
            "-----BEGIN ",
            "-----BEGIN CERTIFICATE-----\nPRIVATE KEY",
            "-----BEGIN PUBLIC KEY-----\nMII",
            "BEGIN PRIVATE KEY",
            "ssh-ed25519 AAAA",
            "tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg",
            "age1qq",
        ] {
            assert!(!holds_private_key(plain.as_bytes()), "{plain}");
        }
    }

    #[test]
    fn list_is_documented() {
        let text = include_str!("../../docs/configuration.md");
        for pattern in PRIVATE {
            assert!(text.contains(&format!("`{pattern}`")), "{pattern}");
        }
    }
}
