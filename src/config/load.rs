//! From the files to a checked [`Config`].

use std::path::{Path, PathBuf};

use super::document::{Document, FileName, Findings, MAIN_RANK, RawConfig};
use super::enclosure::Enclosure;
use super::error::{ConfigError, Issue, Remark};
use super::places::{Environment, Places, folder_of};
use super::text::{ReadFile, decode};
use super::types::Config;
use super::{check, ini, inventory, native, settings};

/// A configuration that was read without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What people may want to know about it.
    pub remarks: Vec<Remark>,
}

/// Where a configuration is looked for, below the current folder, in this order.
const USUAL_PLACES: [&str; 3] = [NATIVE_FILE, OLD_PLACES[0], OLD_PLACES[1]];

/// Where one in the old form is looked for.
const OLD_PLACES: [&str; 2] = ["config.ini", "config/config.ini"];

/// The usual name of the native form.
pub const NATIVE_FILE: &str = "hostsync.toml";

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
/// [`Host::problem`](super::Host::problem) says so.
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
    read_and_check(path, environment, read, None).map(|(loaded, _)| loaded)
}

/// Reads a configuration that a stranger wrote, as [`load`] does it, to plan from it without a look at any
/// host. `state` is the folder of the state.
///
/// All that it names has to lie in its folder, links resolved. What it says about secrets, logs, state,
/// the keys of hosts and exceptions from what diffs hide is not read: settings and hosts have empty values
/// there.
///
/// # Errors
/// As those of [`load`], and with each path that leads out of the folder.
pub fn load_untrusted(
    path: &Path,
    environment: &Environment,
    state: &Path,
) -> Result<Loaded, ConfigError> {
    let path = absolute(path, environment);
    let enclosure = Enclosure::of(folder_of(&path), &environment.current_dir);
    let enclosure = enclosure.map_err(|error| ConfigError::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let read = |path: &Path| enclosure.read(path);
    let (mut loaded, _) = read_and_check(&path, environment, &read, Some(&enclosure))?;
    loaded.config.settings.state_path = absolute(state, environment);
    Ok(loaded)
}

fn absolute(path: &Path, environment: &Environment) -> PathBuf {
    environment.current_dir.join(path).components().collect()
}

/// What the files say, checked and as it is written. `enclosure` is that of a stranger.
pub(super) fn read_and_check(
    path: &Path,
    environment: &Environment,
    read: ReadFile<'_>,
    enclosure: Option<&Enclosure>,
) -> Result<(Loaded, RawConfig), ConfigError> {
    let path = absolute(path, environment);
    let bytes = read(&path).map_err(|error| ConfigError::Unreadable {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let file = FileName::new(path.clone(), &environment.current_dir, MAIN_RANK);
    let mut findings = Findings::default();
    let places = Places {
        base: folder_of(&path),
        home: environment.home.as_deref(),
        enclosure,
    };
    let raw = if is_native(&path) {
        read_native_form(&file, bytes, &mut findings)
    } else {
        read_old_form(&file, bytes, environment, &places, read, &mut findings)
    };
    let checked = raw.map(|raw| (check::check(&raw, &places, &mut findings), raw));
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
pub(super) fn is_native(path: &Path) -> bool {
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
            findings.issue(error.issue(&Document::new(file, &error.lossy)));
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
    places: &Places<'_>,
    read: ReadFile<'_>,
    findings: &mut Findings,
) -> Option<RawConfig> {
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(error) => {
            findings.issue(error.issue(&Document::new(file, &error.lossy)));
            return None;
        }
    };
    let document = Document::new(file, &text);
    let settings = ini::read(&document, &text, findings);
    let hosts = settings::inventory_paths(&settings, places, findings)
        .map(|paths| inventory::read(&paths, &environment.current_dir, read, findings))
        .unwrap_or_default();
    Some(RawConfig {
        path: file.path.clone(),
        settings,
        hosts,
        unassigned: None,
    })
}
