//! Host keys: the `known_hosts` file, read as OpenSSH reads it.
//!
//! Read are plain and hashed names, `[host]:port`, the wildcards `*` and `?`, negation with `!`,
//! `@revoked`, comments, and several keys for a host. Lines with `@cert-authority` are passed over,
//! since host certificates are never asked for. A line that makes no sense is passed over with a
//! warning.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use super::{HostKey, TransportError, plain_reason};
use crate::config::Host;

/// What `known_hosts` says about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the host's key.
    Match,
    /// Nothing is known of this host.
    Unknown,
    /// The host has another key; where that is written.
    Changed {
        /// Path and line, `~/.ssh/known_hosts:3`.
        known: String,
    },
    /// The key must not be used any more; where that is written.
    Revoked {
        /// Path and line.
        known: String,
    },
}

/// The content of a `known_hosts` file.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    path: PathBuf,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    number: usize,
    is_revoked: bool,
    names: Names,
    key: HostKey,
}

#[derive(Clone, Debug)]
enum Names {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl KnownHosts {
    /// Reads the file. One that does not exist knows nobody.
    ///
    /// # Errors
    /// When it exists and cannot be read.
    pub fn load(path: &Path) -> Result<Self, TransportError> {
        match fs::read(path) {
            Ok(content) => Ok(Self::parse(path, &content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::parse(path, b"")),
            Err(error) => Err(unusable(path, &error)),
        }
    }

    /// Reads the content of a file; `path` is what messages call it.
    pub fn parse(path: &Path, content: &[u8]) -> Self {
        let mut lines = Vec::new();
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            match parse_line(number, line) {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => {}
                Err(reason) => {
                    tracing::warn!("{}:{number}: passed over: {reason}", path.display());
                }
            }
        }
        Self {
            path: path.to_owned(),
            lines,
        }
    }

    /// What is known about `key` as the key of a host.
    ///
    /// As with OpenSSH a port other than 22 is looked up as `[address]:port`. Where only the
    /// address alone is known, the same key is accepted on any port of it; another key is unknown
    /// rather than changed.
    pub fn check(&self, address: &str, port: u16, key: &HostKey) -> Verdict {
        let names = names_of(address, port);
        let about = |index: usize| {
            let name = names.get(index).map(String::as_str);
            name.into_iter().flat_map(|name| self.lines_for(name))
        };
        if let Some(line) = about(0)
            .chain(about(1))
            .find(|line| line.is_revoked && line.key == *key)
        {
            return Verdict::Revoked {
                known: self.place(line),
            };
        }
        let keys: Vec<_> = about(0).filter(|line| !line.is_revoked).collect();
        if keys.iter().any(|line| line.key == *key) {
            return Verdict::Match;
        }
        // The line to name is one that can be compared with the key.
        let other = keys
            .iter()
            .find(|line| line.key.key_type() == key.key_type())
            .or(keys.first());
        if let Some(line) = other {
            return Verdict::Changed {
                known: self.place(line),
            };
        }
        if about(1).any(|line| line.key == *key) {
            return Verdict::Match;
        }
        Verdict::Unknown
    }

    /// Whether a key of this type, which is not revoked, is known of a host.
    pub fn knows_key_type(&self, address: &str, port: u16, key_type: &str) -> bool {
        names_of(address, port).iter().any(|name| {
            self.lines_for(name)
                .any(|line| !line.is_revoked && line.key.key_type() == key_type)
        })
    }

    fn lines_for<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.names.hold(name))
    }

    fn place(&self, line: &Line) -> String {
        format!("{}:{}", self.path.display(), line.number)
    }
}

/// Adds a host's key to a `known_hosts` file; says whether it had to.
///
/// A missing file is made with mode 0600, a missing folder with 0700. The line is appended in one
/// write under a lock, so nothing that is there is lost, whoever else writes.
///
/// # Errors
/// When the file cannot be read or written, or when it has another key for this host or revokes
/// this one: such a line is for a person to remove.
pub fn append(path: &Path, host: &Host, key: &HostKey) -> Result<bool, TransportError> {
    let unusable = |error: io::Error| unusable(path, &error);
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(unusable)?;
    }
    let mut file: File = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(unusable)?;
    file.lock().map_err(unusable)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(unusable)?;
    let verdict = KnownHosts::parse(path, &content).check(&host.address, host.port, key);
    if verdict == Verdict::Match {
        return Ok(false);
    }
    refuse_unless_usable(verdict, host, key, true)?;
    let is_cut_off = content.last().is_some_and(|last| *last != b'\n');
    let line = format!(
        "{}{} {}\n",
        if is_cut_off { "\n" } else { "" },
        names_of(&host.address, host.port).swap_remove(0),
        key.to_openssh()
    );
    file.write_all(line.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(unusable)?;
    Ok(true)
}

/// Turns every verdict into an error under which the key must not be relied upon.
pub(super) fn refuse_unless_usable(
    verdict: Verdict,
    host: &Host,
    key: &HostKey,
    may_be_unknown: bool,
) -> Result<(), TransportError> {
    let host = host.id.to_string();
    let key_type = key.key_type().to_owned();
    let fingerprint = key.fingerprint();
    match verdict {
        Verdict::Match => Ok(()),
        Verdict::Unknown if may_be_unknown => Ok(()),
        Verdict::Unknown => Err(TransportError::UnknownHostKey {
            host,
            key_type,
            fingerprint,
        }),
        Verdict::Changed { known } => Err(TransportError::HostKeyChanged {
            host,
            key_type,
            fingerprint,
            known: format!("{known} has another one"),
        }),
        Verdict::Revoked { known } => Err(TransportError::HostKeyRevoked {
            host,
            key_type,
            fingerprint,
            known,
        }),
    }
}

fn unusable(path: &Path, error: &io::Error) -> TransportError {
    TransportError::KnownHosts {
        path: path.display().to_string(),
        reason: plain_reason(error),
    }
}

/// What a host is called in `known_hosts`: the name to write first, then what else is looked up.
fn names_of(address: &str, port: u16) -> Vec<String> {
    let address = address.to_lowercase();
    if port == 22 {
        vec![address]
    } else {
        vec![format!("[{address}]:{port}"), address]
    }
}

impl Names {
    fn hold(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, hash } => {
                Hmac::<Sha1>::new_from_slice(salt).is_ok_and(|mut mac| {
                    mac.update(name.as_bytes());
                    mac.verify_slice(hash).is_ok()
                })
            }
            Self::Patterns(patterns) => {
                let mut held = false;
                for pattern in patterns {
                    if let Some(excluded) = pattern.strip_prefix('!') {
                        if matches_pattern(excluded.as_bytes(), name.as_bytes()) {
                            return false;
                        }
                    } else {
                        held |= matches_pattern(pattern.as_bytes(), name.as_bytes());
                    }
                }
                held
            }
        }
    }
}

/// `*` stands for any bytes, `?` for one. Linear: only the last star is ever gone back to.
fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match &mut star {
                Some((star_at, star_seen)) => {
                    *star_seen += 1;
                    at = *star_at + 1;
                    seen = *star_seen;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// `None` for a line that says nothing about keys we look at.
fn parse_line(number: usize, line: &[u8]) -> Result<Option<Line>, &'static str> {
    let line = line.trim_ascii();
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    let mut fields = line
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
        .map(|field| std::str::from_utf8(field).map_err(|_| "it is not text"));
    let mut next = |missing| fields.next().unwrap_or(Err(missing));
    let mut names = next("it is empty")?;
    let mut is_revoked = false;
    match names {
        "@cert-authority" => return Ok(None),
        "@revoked" => is_revoked = true,
        other if other.starts_with('@') => return Err("its marker is unknown"),
        _ => {}
    }
    if is_revoked {
        names = next("it names no host")?;
    }
    let key_type = next("it names no key type")?;
    let key = next("it has no key")?;
    let blob = STANDARD.decode(key).map_err(|_| "its key is not base64")?;
    let key = HostKey::from_blob(&blob)
        .filter(|key| key.key_type() == key_type)
        .ok_or("its key is not of the type it names")?;
    Ok(Some(Line {
        number,
        is_revoked,
        names: parse_names(names)?,
        key,
    }))
}

fn parse_names(names: &str) -> Result<Names, &'static str> {
    if let Some(hashed) = names.strip_prefix("|1|") {
        let broken = "its hashed name is damaged";
        let (salt, hash) = hashed.split_once('|').ok_or(broken)?;
        return Ok(Names::Hashed {
            salt: STANDARD.decode(salt).map_err(|_| broken)?,
            hash: STANDARD.decode(hash).map_err(|_| broken)?,
        });
    }
    if names.starts_with('|') {
        return Err("its name is hashed in an unknown way");
    }
    Ok(Names::Patterns(
        names.split(',').map(str::to_lowercase).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/k/known_hosts";

    /// A key of the given type whose bytes are all `seed`.
    fn key(key_type: &str, seed: u8) -> HostKey {
        let mut blob = u32::try_from(key_type.len())
            .expect("short")
            .to_be_bytes()
            .to_vec();
        blob.extend_from_slice(key_type.as_bytes());
        blob.extend_from_slice(&[seed; 36]);
        HostKey::from_blob(&blob).expect("well formed")
    }

    fn ed25519(seed: u8) -> HostKey {
        key("ssh-ed25519", seed)
    }

    fn known(content: &str) -> KnownHosts {
        KnownHosts::parse(Path::new(PATH), content.as_bytes())
    }

    fn line(names: &str, key: &HostKey) -> String {
        format!("{names} {}\n", key.to_openssh())
    }

    fn changed(number: usize) -> Verdict {
        Verdict::Changed {
            known: format!("{PATH}:{number}"),
        }
    }

    fn host(address: &str, port: u16) -> Host {
        Host {
            id: crate::model::HostId::new("web"),
            address: address.to_owned(),
            port,
            user: "deploy".to_owned(),
            auth: crate::config::Auth::default(),
            groups: Vec::new(),
            mappings: Vec::new(),
            problem: None,
            login_problem: None,
        }
    }

    #[test]
    fn host_without_a_line_is_unknown() {
        let hosts = known(&line("other", &ed25519(1)));
        assert_eq!(hosts.check("web", 22, &ed25519(1)), Verdict::Unknown);
    }

    #[test]
    fn one_of_several_keys_matches() {
        let hosts = known(&(line("web", &key("ssh-rsa", 1)) + &line("web", &ed25519(1))));
        assert_eq!(hosts.check("web", 22, &ed25519(1)), Verdict::Match);
    }

    #[test]
    fn changed_key_names_the_line_of_the_same_type() {
        let hosts = known(&(line("web", &key("ssh-rsa", 1)) + &line("web", &ed25519(1))));
        assert_eq!(hosts.check("web", 22, &ed25519(2)), changed(2));
    }

    #[test]
    fn key_of_a_new_type_counts_as_changed() {
        let hosts = known(&line("web", &key("ssh-rsa", 1)));
        assert_eq!(hosts.check("web", 22, &ed25519(1)), changed(1));
    }

    #[test]
    fn names_are_compared_without_case() {
        let hosts = known(&line("Web.Example", &ed25519(1)));
        assert_eq!(hosts.check("wEB.example", 22, &ed25519(1)), Verdict::Match);
    }

    #[test]
    fn other_port_has_a_name_of_its_own() {
        let hosts = known(&(line("web", &ed25519(1)) + &line("[web]:2222", &ed25519(2))));
        assert_eq!(hosts.check("web", 2222, &ed25519(2)), Verdict::Match);
        assert_eq!(hosts.check("web", 2222, &ed25519(1)), changed(2));
        assert_eq!(hosts.check("web", 22, &ed25519(2)), changed(1));
    }

    #[test]
    fn plain_name_serves_other_ports_only_with_the_same_key() {
        let hosts = known(&line("web", &ed25519(1)));
        assert_eq!(hosts.check("web", 2222, &ed25519(1)), Verdict::Match);
        assert_eq!(hosts.check("web", 2222, &ed25519(2)), Verdict::Unknown);
    }

    #[test]
    fn wildcards_match_and_negation_outranks_them() {
        let hosts = known(&line("10.0.?.*,!10.0.0.9,[*.lan]:22??", &ed25519(1)));
        assert_eq!(hosts.check("10.0.0.12", 22, &ed25519(1)), Verdict::Match);
        assert_eq!(hosts.check("10.0.0.9", 22, &ed25519(1)), Verdict::Unknown);
        assert_eq!(hosts.check("10.0.12.1", 22, &ed25519(1)), Verdict::Unknown);
        assert_eq!(hosts.check("a.lan", 2222, &ed25519(1)), Verdict::Match);
        assert_eq!(hosts.check("a.lan", 222, &ed25519(1)), Verdict::Unknown);
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        let pattern = "*a".repeat(40) + "b";
        assert!(!matches_pattern(pattern.as_bytes(), &[b'a'; 4000]));
    }

    #[test]
    fn hashed_name_is_found() {
        // Made with: ssh-keygen -H
        let name = "|1|bN4pv4GzEDOPSY3Ho5B2drm9OTg=|IXP+OnNdFU562ZzyDp/TvT4tCqQ=";
        let hosts = known(&line(name, &ed25519(1)));
        assert_eq!(hosts.check("192.168.1.61", 22, &ed25519(1)), Verdict::Match);
        assert_eq!(
            hosts.check("192.168.1.62", 22, &ed25519(1)),
            Verdict::Unknown
        );
    }

    #[test]
    fn revoked_key_is_revoked_even_where_it_is_known() {
        let hosts = known(&(line("web", &ed25519(1)) + &line("@revoked *", &ed25519(1))));
        let revoked = Verdict::Revoked {
            known: format!("{PATH}:2"),
        };
        assert_eq!(hosts.check("web", 22, &ed25519(1)), revoked);
        assert_eq!(hosts.check("web", 2222, &ed25519(1)), revoked);
        assert_eq!(hosts.check("web", 22, &ed25519(2)), changed(1));
    }

    #[test]
    fn certificate_authority_vouches_for_nothing() {
        let hosts = known(&line("@cert-authority *", &ed25519(1)));
        assert_eq!(hosts.check("web", 22, &ed25519(1)), Verdict::Unknown);
    }

    #[test]
    fn broken_lines_are_passed_over() {
        let broken = "web\nweb ssh-ed25519\nweb ssh-ed25519 !!!\nweb ssh-rsa AAAA\n\
                      @new web ssh-rsa AAAA\n|1|x web ssh-rsa AAAA\n# a comment\n\n";
        let content = [
            b"\xff\xfe garbage\n".as_slice(),
            broken.as_bytes(),
            line("web", &ed25519(1))
                .replace('\n', " me@here # and more\r\n")
                .as_bytes(),
        ]
        .concat();
        let hosts = KnownHosts::parse(Path::new(PATH), &content);
        assert_eq!(hosts.lines.len(), 1);
        assert_eq!(hosts.check("web", 22, &ed25519(1)), Verdict::Match);
    }

    #[test]
    fn append_makes_folder_and_file_private_and_is_idempotent() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(".ssh/known_hosts");
        let web = host("web", 2222);
        assert!(append(&path, &web, &ed25519(1)).expect("written"));
        assert!(!append(&path, &web, &ed25519(1)).expect("already there"));
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(text, line("[web]:2222", &ed25519(1)));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    }

    #[test]
    fn append_ends_a_last_line_that_has_no_newline() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("known_hosts");
        fs::write(&path, line("db", &ed25519(9)).trim_end()).expect("written");
        append(&path, &host("web", 22), &ed25519(1)).expect("written");
        let hosts = KnownHosts::load(&path).expect("readable");
        assert_eq!(hosts.check("db", 22, &ed25519(9)), Verdict::Match);
        assert_eq!(hosts.check("web", 22, &ed25519(1)), Verdict::Match);
    }

    #[test]
    fn append_refuses_a_second_key_for_a_known_host() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("known_hosts");
        append(&path, &host("web", 22), &ed25519(1)).expect("written");
        let error = append(&path, &host("web", 22), &ed25519(2)).expect_err("another key");
        assert!(matches!(error, TransportError::HostKeyChanged { .. }));
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(text, line("web", &ed25519(1)));
    }
}
