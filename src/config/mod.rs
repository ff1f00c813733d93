//! The configuration: what people write, checked and turned into one [`Config`].
//!
//! There are two forms: the old one (`config.ini`, `connection_info.json`, `[ip].json`; see `ini` and
//! `inventory`) and `hostsync.toml` (see `native`).
//!
//! ```text
//! config.ini ──────────► ini ───────┐
//! connection_info.json ► inventory ─┼─► document (values with places) ─► check, settings ─► Config
//! [ip].json ───────────► inventory ─┤
//! hostsync.toml ───────► native ────┘
//! ```
//!
//! Readers know a syntax and nothing else; the checks know the rules and no file format. From
//! [`Config`] on nothing knows which form it was.

mod check;
mod digest;
mod document;
mod error;
mod ini;
mod inventory;
mod mask;
mod migrate;
mod native;
mod privacy;
mod select;
mod settings;
mod types;

use std::io;
use std::path::{Path, PathBuf};

pub use digest::config_digest;
pub use error::{ConfigError, Issue, IssueCode, Remark, SelectError};
pub use migrate::{MigrateError, Migration, migrate, write_new};
pub use privacy::{PRIVATE, Privacy};
pub use select::select;
pub use types::{
    Auth, CIPHERS, Config, Exact, Excludes, ExcludesError, ExcludesInOrder, Host, Mapping,
    MaxDelete, Modes, Passkey, Settings, SymlinkPolicy,
};

use document::{Document, FileName, Findings, RawConfig, Span};

/// What the configuration needs to know about the user and the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The home folder.
    pub home: Option<PathBuf>,
    /// The current folder; absolute.
    pub current_dir: PathBuf,
}

/// A configuration that was read without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What people may want to know about it.
    pub remarks: Vec<Remark>,
}

/// The rank of the main file among all files, by which issues are sorted.
const MAIN_RANK: usize = 0;

/// Where a configuration is looked for, below the current folder, in this order.
const USUAL_PLACES: [&str; 3] = [NATIVE_FILE, OLD_PLACES[0], OLD_PLACES[1]];

/// Where one in the old form is looked for.
const OLD_PLACES: [&str; 2] = ["config.ini", "config/config.ini"];

/// The usual name of the native form.
pub const NATIVE_FILE: &str = "hostsync.toml";

/// What reads the bytes of a file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// The main file of the configuration: the one that is named, else the first of `hostsync.toml`,
/// `config.ini` and `config/config.ini` in the current folder.
///
/// # Errors
/// When the file that is named does not exist; when none is named and there is none, with the places
/// that were looked at.
pub fn find(explicit: Option<&Path>, environment: &Environment) -> Result<PathBuf, ConfigError> {
    find_among(&USUAL_PLACES, explicit, environment)
}

/// The main file of a configuration in the old form, as [`find`] does it but without looking for a
/// `hostsync.toml`.
///
/// # Errors
/// As those of [`find`].
pub fn find_old(
    explicit: Option<&Path>,
    environment: &Environment,
) -> Result<PathBuf, ConfigError> {
    find_among(&OLD_PLACES, explicit, environment)
}

fn find_among(
    places: &[&str],
    explicit: Option<&Path>,
    environment: &Environment,
) -> Result<PathBuf, ConfigError> {
    if let Some(named) = explicit {
        let path = environment.current_dir.join(named);
        // Where nobody may look, reading it says why.
        return if path.try_exists().unwrap_or(true) {
            Ok(path)
        } else {
            Err(ConfigError::NoSuchFile {
                path: named.to_owned(),
            })
        };
    }
    places
        .iter()
        .map(|place| environment.current_dir.join(place))
        .find(|place| place.exists())
        .ok_or_else(|| ConfigError::NotFound {
            looked_for: places.iter().map(PathBuf::from).collect(),
        })
}

/// Reads a configuration and checks all of it. A file whose name ends in `.toml` is a `hostsync.toml`,
/// any other one a `config.ini`.
///
/// A host whose mapper file or source is missing does not fail the configuration: its
/// [`Host::problem`] says so.
///
/// # Errors
/// When the main file cannot be read, or with everything that is wrong in any of the files.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, ConfigError> {
    load_with(path, environment, &|path| std::fs::read(path))
}

/// Does what [`load`] does with files whose bytes come from elsewhere.
///
/// Whether sources and keys exist, and who may read the files, is still asked of the file system.
///
/// # Errors
/// As those of [`load`].
pub fn load_with(
    path: &Path,
    environment: &Environment,
    read: ReadFile<'_>,
) -> Result<Loaded, ConfigError> {
    read_and_check(path, environment, read).map(|(loaded, _)| loaded)
}

/// What the files say, checked and as it is written.
fn read_and_check(
    path: &Path,
    environment: &Environment,
    read: ReadFile<'_>,
) -> Result<(Loaded, RawConfig), ConfigError> {
    let path: PathBuf = environment.current_dir.join(path).components().collect();
    let bytes = read(&path).map_err(|error| ConfigError::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let file = FileName::new(path.clone(), &environment.current_dir, MAIN_RANK);
    let mut findings = Findings::default();
    let raw = if is_native(&path) {
        read_native_form(&file, bytes, &mut findings)
    } else {
        read_old_form(&file, bytes, environment, read, &mut findings)
    };
    let checked = raw.map(|raw| (check::check(&raw, environment, &mut findings), raw));
    let Findings {
        mut issues,
        remarks,
    } = findings;
    issues.sort_by_key(Issue::order);
    let issues = without_repetitions(issues);
    match checked {
        Some((config, raw)) if issues.is_empty() => Ok((Loaded { config, remarks }, raw)),
        _ => Err(ConfigError::Invalid { path, issues }),
    }
}

/// Whether a main file is a `hostsync.toml`, by its name.
fn is_native(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

/// Sorted issues, each of them once.
fn without_repetitions(sorted: Vec<Issue>) -> Vec<Issue> {
    let mut kept: Vec<Issue> = Vec::new();
    for issue in sorted {
        let order = issue.order();
        let mut at_its_place = kept.iter().rev().take_while(|kept| kept.order() == order);
        if !at_its_place.any(|kept| issue.repeats(kept)) {
            kept.push(issue);
        }
    }
    kept
}

/// Reads a `hostsync.toml`. `None` when nothing is left to be checked, as with the old form.
fn read_native_form(file: &FileName, bytes: Vec<u8>, findings: &mut Findings) -> Option<RawConfig> {
    match decode(bytes) {
        Ok(text) => native::read(file, &text, findings),
        Err(error) => {
            let hidden = native::hide_in_broken(&error.lossy);
            findings.issue(error.issue(&Document::new(file, &hidden, 1)));
            None
        }
    }
}

/// Reads `config.ini` and the files that it names. `None` when so little can be read that it has been
/// reported already and nothing is left to be checked.
fn read_old_form(
    file: &FileName,
    bytes: Vec<u8>,
    environment: &Environment,
    read: ReadFile<'_>,
    findings: &mut Findings,
) -> Option<RawConfig> {
    let hidden = |text: &str| mask::hide(text, &mask::values_of_secret_words(text));
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(error) => {
            findings.issue(error.issue(&Document::new(file, &hidden(&error.lossy), 1)));
            return None;
        }
    };
    let document = Document::new(file, &hidden(&text), 1);
    let settings = ini::read(&document, &text, findings);
    let places = check::Places {
        base: check::folder_of(&file.path),
        home: environment.home.as_deref(),
    };
    let hosts = settings::inventory_paths(&settings, &places, findings)
        .map(|paths| inventory::read(&paths, &environment.current_dir, read, findings))
        .unwrap_or_default();
    Some(RawConfig {
        path: file.path.clone(),
        settings,
        hosts,
        unassigned: None,
    })
}

/// Text that is not UTF-8.
struct EncodingError {
    /// The text with replacement characters.
    lossy: String,
    /// Where the first of them is.
    at: usize,
}

impl EncodingError {
    fn issue(&self, document: &Document) -> Issue {
        let span = Span {
            start: self.at,
            end: self.at + 1,
        };
        document
            .issue(IssueCode::Encoding, "the file is not UTF-8")
            .label(span, "this byte cannot be read")
            .help("save the file as UTF-8")
    }
}

/// The text of a file, without a byte order mark.
fn decode(mut bytes: Vec<u8>) -> Result<String, EncodingError> {
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(.."\u{feff}".len());
    }
    String::from_utf8(bytes).map_err(|error| EncodingError {
        at: error.utf8_error().valid_up_to(),
        lossy: String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

#[cfg(test)]
mod tests;
