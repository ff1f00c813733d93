//! The file formats of the state folder.
//!
//! All are JSON with a `format_version` of major and minor. Additions are minor: unknown keys are
//! ignored. An unknown major is refused. What is written is sorted and ends in a newline, and a
//! manifest has one entry a line, so that versions of a state compare well.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::history::Runs;
use super::{
    GoalDigests, History, HostRecord, Identity, MappingRecord, PastRun, Progress, StateError,
    durable,
};
use crate::model::{
    Blake3, CHECKS_DIGESTS, ContentDigest, Entry, HostId, Kind, Meta, Mode, Node, RelPath, Sha256,
    Tree, exact_bytes, printable, text_and_base64,
};

/// Version of everything that is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FormatVersion {
    major: u32,
    minor: u32,
}

impl FormatVersion {
    const CURRENT: Self = Self { major: 1, minor: 0 };

    fn is_known(self) -> bool {
        self.major == Self::CURRENT.major
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl std::fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for FormatVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FormatVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format_args!("`{text}` is not a version such as `1.0`"))
        })
    }
}

/// A document of the state folder.
pub(super) trait Document<'de>: Deserialize<'de> {
    fn format_version(&self) -> FormatVersion;
}

/// The one thing that every version of every document has.
#[derive(Deserialize)]
struct VersionOnly {
    format_version: FormatVersion,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct StateFile {
    format_version: FormatVersion,
    lineage: String,
    serial: u64,
    #[serde(default)]
    runs: Vec<PastRun>,
    #[serde(default)]
    aim: GoalDigests,
}

/// `hosts/<host>.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct HostFile {
    format_version: FormatVersion,
    host: HostId,
    serial: u64,
    updated_at: String,
    plan: Blake3,
    progress: Progress,
    listing: Option<String>,
    algorithm: Option<String>,
    mappings: Vec<MappingRecord>,
    /// Missing in what was written before there was one.
    #[serde(default)]
    history: Option<History>,
}

/// `trees/<digest>.json`, as it is read. It is written by [`write_tree`], line by line.
#[derive(Deserialize)]
struct TreeFile {
    format_version: FormatVersion,
    checksum: Blake3,
    entries: Vec<StoredEntry>,
}

impl Document<'_> for VersionOnly {
    fn format_version(&self) -> FormatVersion {
        self.format_version
    }
}

impl Document<'_> for StateFile {
    fn format_version(&self) -> FormatVersion {
        self.format_version
    }
}

impl Document<'_> for HostFile {
    fn format_version(&self) -> FormatVersion {
        self.format_version
    }
}

impl Document<'_> for TreeFile {
    fn format_version(&self) -> FormatVersion {
        self.format_version
    }
}

impl StateFile {
    pub(super) fn new(identity: &Identity, runs: &Runs) -> Self {
        Self {
            format_version: FormatVersion::CURRENT,
            lineage: identity.lineage.clone(),
            serial: identity.serial,
            runs: runs.runs.clone(),
            aim: runs.aim.clone(),
        }
    }
}

impl From<StateFile> for (Option<Identity>, Runs) {
    fn from(file: StateFile) -> Self {
        let identity = Identity {
            lineage: file.lineage,
            serial: file.serial,
        };
        let runs = Runs {
            runs: file.runs,
            aim: file.aim,
        };
        (Some(identity), runs)
    }
}

impl From<&HostRecord> for HostFile {
    fn from(record: &HostRecord) -> Self {
        Self {
            format_version: FormatVersion::CURRENT,
            host: record.host.clone(),
            serial: record.serial,
            updated_at: record.updated_at.clone(),
            plan: record.plan,
            progress: record.progress,
            listing: record.listing.clone(),
            algorithm: record.algorithm.clone(),
            mappings: record.mappings.clone(),
            history: Some(record.history.clone()),
        }
    }
}

impl From<HostFile> for HostRecord {
    fn from(file: HostFile) -> Self {
        let unknown = History {
            forgotten: file.serial,
            applies: Vec::new(),
        };
        Self {
            history: file.history.unwrap_or(unknown),
            host: file.host,
            serial: file.serial,
            updated_at: file.updated_at,
            plan: file.plan,
            progress: file.progress,
            listing: file.listing,
            algorithm: file.algorithm,
            mappings: file.mappings,
        }
    }
}

/// Understands a document that was read from `path`.
pub(super) fn parse<'de, T: Document<'de>>(
    bytes: &'de [u8],
    path: &Path,
    cure: &str,
) -> Result<T, StateError> {
    let unknown = |version: FormatVersion| StateError::UnknownVersion {
        path: path.display().to_string(),
        found: version.to_string(),
        supported: FormatVersion::CURRENT.to_string(),
    };
    match serde_json::from_slice::<T>(bytes) {
        Ok(document) if document.format_version().is_known() => Ok(document),
        Ok(document) => Err(unknown(document.format_version())),
        // Another major may look different altogether.
        Err(error) => match serde_json::from_slice::<VersionOnly>(bytes) {
            Ok(document) if !document.format_version.is_known() => {
                Err(unknown(document.format_version))
            }
            _ => Err(damaged(path, &error, cure)),
        },
    }
}

/// Refuses to go on when the document at `path` must be left alone: its version is unknown. A
/// damaged one may be replaced.
pub(super) fn check_replaceable(path: &Path) -> Result<(), StateError> {
    let Some(bytes) = durable::read(path)? else {
        return Ok(());
    };
    match parse::<VersionOnly>(&bytes, path, "") {
        Err(error @ StateError::UnknownVersion { .. }) => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn damaged(path: &Path, reason: &dyn std::fmt::Display, cure: &str) -> StateError {
    StateError::Damaged {
        path: path.display().to_string(),
        reason: printable(&reason.to_string()),
        cure: printable(cure),
    }
}

/// Writes a small document.
pub(super) fn write_pretty(path: &Path, document: &impl Serialize) -> Result<(), StateError> {
    durable::replace(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, document)?;
        writer.write_all(b"\n")
    })
}

/// Writes a manifest.
pub(super) fn write_tree(writer: &mut dyn io::Write, tree: &Tree) -> io::Result<()> {
    write!(
        writer,
        "{{\n  \"format_version\": \"{}\",\n  \"checksum\": \"{}\",\n  \"entries\": [",
        FormatVersion::CURRENT,
        checksum(tree),
    )?;
    let mut separator = "\n    ";
    for entry in tree.entries() {
        writer.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut *writer, &EntryLine::from(entry))?;
        separator = ",\n    ";
    }
    writer.write_all(b"\n  ]\n}\n")
}

/// Understands a manifest, and makes sure that it is the tree which `digest` names and that no
/// digest in it was altered.
pub(super) fn parse_tree(
    bytes: &[u8],
    path: &Path,
    digest: &Blake3,
    cure: &str,
) -> Result<Tree, StateError> {
    let file: TreeFile = parse(bytes, path, cure)?;
    let tree: Tree = file.entries.into_iter().map(|entry| entry.0).collect();
    if tree.digest() != *digest && CHECKS_DIGESTS {
        let reason = "its entries are not those of the tree in its name";
        return Err(damaged(path, &reason, cure));
    }
    if checksum(&tree) != file.checksum && CHECKS_DIGESTS {
        let reason = "its checksum does not fit its entries";
        return Err(damaged(path, &reason, cure));
    }
    Ok(tree)
}

/// Over what the digest of a tree leaves out: all digests that are known of its files.
fn checksum(tree: &Tree) -> Blake3 {
    let mut hasher = blake3::Hasher::new();
    for entry in tree.entries() {
        if let Node::File { digest, .. } = &entry.node {
            let blake3 = digest.blake3.as_ref().map(Blake3::as_bytes);
            let sha256 = digest.sha256.as_ref().map(Sha256::as_bytes);
            for known in [blake3, sha256] {
                hasher.update(&[u8::from(known.is_some())]);
                hasher.update(known.unwrap_or(&[0; 32]));
            }
        }
    }
    Blake3::from_bytes(*hasher.finalize().as_bytes())
}

/// One entry of a manifest, as it stands in its line.
#[derive(Serialize, Deserialize)]
struct EntryLine<'a> {
    /// Lossy where `path_base64` stands beside it.
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<Blake3>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    /// Lossy where `target_base64` stands beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
}

/// The exact bytes of a path or target.
fn bytes_of(text: &str, base64: Option<&str>) -> Result<Vec<u8>, String> {
    exact_bytes(text, base64)
        .map_err(|error| format!("`{text}` has invalid base64 beside it: {error}"))
}

impl<'a> From<&'a Entry> for EntryLine<'a> {
    fn from(entry: &'a Entry) -> Self {
        let (path, path_base64) = text_and_base64(entry.path.as_bytes());
        let mut line = Self {
            path,
            path_base64,
            kind: entry.node.kind(),
            mode: entry.node.mode(),
            size: None,
            blake3: None,
            sha256: None,
            target: None,
            target_base64: None,
        };
        match &entry.node {
            Node::File {
                size_bytes, digest, ..
            } => {
                line.size = Some(*size_bytes);
                line.blake3 = digest.blake3;
                line.sha256 = digest.sha256;
            }
            Node::Symlink { target } => {
                let (target, base64) = text_and_base64(target);
                line.target = Some(target);
                line.target_base64 = base64;
            }
            Node::Dir { .. } | Node::Other { .. } => {}
        }
        line
    }
}

impl TryFrom<EntryLine<'_>> for Entry {
    type Error = String;

    fn try_from(line: EntryLine<'_>) -> Result<Self, String> {
        let lacks = |what: &str| format!("entry `{}` has no {what}", line.path);
        let path = bytes_of(&line.path, line.path_base64.as_deref())?;
        let path = RelPath::new(path).map_err(|error| error.to_string())?;
        let meta = || {
            let mode = line.mode.ok_or_else(|| lacks("mode"))?;
            Ok::<_, String>(Meta { mode })
        };
        let node = match line.kind {
            Kind::File => Node::File {
                size_bytes: line.size.ok_or_else(|| lacks("size"))?,
                meta: meta()?,
                digest: ContentDigest {
                    blake3: line.blake3,
                    sha256: line.sha256,
                },
            },
            Kind::Dir => Node::Dir { meta: meta()? },
            Kind::Symlink => {
                let target = line.target.as_deref().ok_or_else(|| lacks("target"))?;
                Node::Symlink {
                    target: bytes_of(target, line.target_base64.as_deref())?.into(),
                }
            }
            Kind::Other => Node::Other { meta: meta()? },
        };
        Ok(Self { path, node })
    }
}

/// An [`Entry`] that goes straight from its line to memory, so that an error knows the line.
struct StoredEntry(Entry);

impl<'de> Deserialize<'de> for StoredEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        EntryLine::deserialize(deserializer)?
            .try_into()
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// The host whose file has this stem: undoes [`HostId::as_file_name`]. `None` for a file that was
/// not written here.
pub(super) fn host_of_file_name(stem: &str) -> Option<HostId> {
    let mut bytes = Vec::with_capacity(stem.len());
    let mut rest = stem.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(byte);
        }
    }
    let host = HostId::new(String::from_utf8(bytes).ok()?);
    (host.as_file_name() == stem).then_some(host)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use proptest::prelude::*;

    use super::*;

    fn written(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_tree(&mut bytes, tree).unwrap();
        bytes
    }

    fn parsed(bytes: &[u8], digest: &Blake3) -> Result<Tree, StateError> {
        parse_tree(bytes, Path::new("t.json"), digest, "cure")
    }

    fn file(path: &[u8], sha256: Option<u8>) -> Entry {
        Entry {
            path: RelPath::new(path).unwrap(),
            node: Node::File {
                size_bytes: 7,
                meta: Mode::new(0o644).into(),
                digest: ContentDigest {
                    blake3: Some(Blake3::of(path)),
                    sha256: sha256.map(|byte| Sha256::from_bytes([byte; 32])),
                },
            },
        }
    }

    fn sample() -> Tree {
        Tree::from_entries(vec![
            Entry {
                path: RelPath::root(),
                node: Node::Dir {
                    meta: Mode::new(0o2755).into(),
                },
            },
            file(b"a", Some(1)),
            file(b"b\xff\"\n\\", None),
            Entry {
                path: RelPath::new("l").unwrap(),
                node: Node::Symlink {
                    target: (*b"../\xfe").into(),
                },
            },
        ])
    }

    fn node() -> impl Strategy<Value = Node> {
        let mode = || any::<u32>().prop_map(Mode::new);
        let blake3 = proptest::option::of(any::<[u8; 32]>().prop_map(Blake3::from_bytes));
        let sha256 = proptest::option::of(any::<[u8; 32]>().prop_map(Sha256::from_bytes));
        prop_oneof![
            (any::<u64>(), mode(), blake3, sha256).prop_map(
                |(size_bytes, mode, blake3, sha256)| {
                    Node::File {
                        size_bytes,
                        meta: Meta { mode },
                        digest: ContentDigest { blake3, sha256 },
                    }
                }
            ),
            mode().prop_map(|mode| Node::Dir { meta: mode.into() }),
            mode().prop_map(|mode| Node::Other { meta: mode.into() }),
            proptest::collection::vec(1..=255_u8, 0..9).prop_map(|target| Node::Symlink {
                target: target.into()
            }),
        ]
    }

    fn path() -> impl Strategy<Value = RelPath> {
        // Few letters, so that paths collide and nest; and some bytes that JSON or UTF-8 minds.
        let byte = prop_oneof![4 => Just(b'a'), 2 => Just(b'/'), 4 => 1..=255_u8];
        proptest::collection::vec(byte, 0..9)
            .prop_filter_map("not a path", |bytes| RelPath::new(bytes).ok())
    }

    proptest! {
        #[test]
        fn every_tree_survives_its_manifest(
            entries in proptest::collection::vec((path(), node()), 0..20),
        ) {
            let entries = entries.into_iter().map(|(path, node)| Entry { path, node });
            let tree: Tree = entries.collect();
            prop_assert_eq!(parsed(&written(&tree), &tree.digest()).unwrap(), tree);
        }
    }

    #[test]
    fn manifest_has_one_readable_entry_a_line() {
        let text = String::from_utf8(written(&sample())).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], r#"  "format_version": "1.0","#);
        assert_eq!(lines[4], r#"    {"path":"","kind":"dir","mode":"2755"},"#);
        assert!(
            lines[6].starts_with(r#"    {"path":"b�\"\n\\","path_base64":"Yv8iClw=","kind":"file","mode":"0644","size":7,"blake3":""#),
            "{text}"
        );
        assert_eq!(
            lines[7],
            r#"    {"path":"l","kind":"symlink","target":"../�","target_base64":"Li4v/g=="}"#
        );
        assert!(text.ends_with("\n  ]\n}\n"), "{text}");
    }

    #[test]
    fn altered_or_cut_manifest_is_never_another_tree() {
        let tree = sample();
        let bytes = written(&tree);
        let mut refused = 0;
        for at in (0..bytes.len()).step_by(7) {
            for bad in [b'0', b'x', b'"', 0xff] {
                let mut altered = bytes.clone();
                altered[at] = bad;
                match parsed(&altered, &tree.digest()) {
                    // The lossy text beside base64, for instance, decides nothing.
                    Ok(read) => assert_eq!(read, tree, "byte {at} as {bad}"),
                    Err(_) => refused += 1,
                }
            }
            assert!(parsed(&bytes[..at], &tree.digest()).is_err(), "cut at {at}");
        }
        assert!(refused > bytes.len() / 7, "{refused}");
    }

    #[test]
    fn altered_sha256_is_noticed_though_the_name_of_a_tree_leaves_it_out() {
        let tree = sample();
        let text = String::from_utf8(written(&tree)).unwrap();
        let altered = text.replace(&"01".repeat(32), &"02".repeat(32));
        assert_ne!(altered, text);
        let error = parsed(altered.as_bytes(), &tree.digest()).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }

    #[test]
    fn damage_is_shown_with_line_and_column() {
        let tree = sample();
        let text = String::from_utf8(written(&tree)).unwrap();
        for (altered, said) in [
            (text.replace("\"2755\"", "\"2795\""), "`2795` is not a mode"),
            (text.replace("\"size\":7,", ""), "has no size"),
            (
                text.replace("\"path\":\"a\"", "\"path\":\"../a\""),
                "`../a`",
            ),
            (text.replace("Yv8i", "Yv8!"), "invalid base64"),
        ] {
            let error = parsed(altered.as_bytes(), &tree.digest()).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(said), "{error}");
            assert!(error.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn unknown_major_is_refused_whatever_else_the_document_holds() {
        for text in [
            r#"{"format_version": "2.0"}"#,
            r#"{"entries": {"a": []}, "format_version": "2.7", "checksum": 5}"#,
        ] {
            let error = parsed(text.as_bytes(), &Blake3::of(b"")).unwrap_err();
            assert!(
                matches!(error, StateError::UnknownVersion { .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains("t.json"), "{error}");
        }
    }

    #[test]
    fn unknown_minor_and_unknown_keys_are_read() {
        let tree = sample();
        let text = String::from_utf8(written(&tree)).unwrap();
        let later = text
            .replace("\"1.0\"", "\"1.9\"")
            .replace("\"kind\":", "\"colour\":\"red\",\"kind\":")
            .replace("\"checksum\":", "\"made_by\":{\"x\":[1]},\"checksum\":");
        assert_eq!(parsed(later.as_bytes(), &tree.digest()).unwrap(), tree);
    }

    #[test]
    fn only_file_names_that_were_written_here_are_hosts() {
        for name in ["10.0.0.1", "fe80::1%eth0", "../x", "ü b", ".h"] {
            let host = HostId::new(name);
            assert_eq!(host_of_file_name(&host.as_file_name()), Some(host));
        }
        for stem in ["a b", "%2e.", "%4", "%", "%zz", ".new-x", "%41", "a%FF"] {
            assert_eq!(host_of_file_name(stem), None, "{stem}");
        }
    }
}
