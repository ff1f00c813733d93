//! Looking at a host: one exec, whatever its size.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::model::{ContentDigest, Node, RemotePath};
use crate::remote::answer::{Section, TaskRun};
use crate::remote::error::check_end;
use crate::remote::{Algorithm, Login, RemoteError, Script, StatTuple, Task};

/// What a host has and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The hash it computes.
    pub algorithm: Algorithm,
    /// The tool it computes it with.
    pub hash_tool: String,
    /// Numeric user id of the login.
    pub uid: u32,
    /// Numeric group id of the login.
    pub gid: u32,
    /// Whether it has `scp`, and lets it be used.
    pub has_scp: bool,
    /// Whether it has `tar`.
    pub has_tar: bool,
    /// Whether an agent answered, and not the script of `sh`.
    pub has_agent: bool,
}

/// A folder, or the nearest thing above it that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What exists, at or above what was asked for.
    pub path: Vec<u8>,
    /// Number of its file system.
    pub device: u64,
    /// Whether it is a folder (or a link to one).
    pub is_folder: bool,
    /// Whether we may write there.
    pub is_writable: bool,
}

/// Where a destination lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestPlace {
    /// The folder that holds it.
    pub parent: Place,
    /// The destination itself, when it is a folder.
    pub inside: Option<Place>,
    /// What others on the host can do to it.
    pub exposure: Exposure,
}

/// What others on a host, who are neither root nor the login, can do to a path.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Exposure {
    /// The first folder above it in which they can put something else in the place of what leads to it.
    pub above: Option<String>,
    /// The first folder in which they could do so to a folder of ours beside it.
    pub beside: Option<String>,
    /// Why nobody should go there: what is in the way, and who may have made it.
    pub obstacle: Option<String>,
}

/// An entry that is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What `stat` said.
    pub stat: StatTuple,
    /// What it is. A file that could not be read has no digest.
    pub node: Node,
}

/// What became of the listing that the host keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It was not asked for.
    NotAsked,
    /// Nothing of what it lists has moved.
    Same,
    /// Some of it has: [`HostLook::seen`] and [`HostLook::gone`] say what.
    Moved,
    /// It is missing, or not the one that the state knows. Nothing was looked at.
    Lost,
}

/// What a host has.
#[derive(Clone, Debug)]
pub struct HostLook {
    /// About the host itself.
    pub facts: HostFacts,
    /// Where the destinations lie, by mapping.
    pub places: Vec<DestPlace>,
    /// Where staging would lie.
    pub staging: Place,
    /// What others on the host can do to that.
    pub staging_exposure: Exposure,
    /// Whether a run that is gone has left something in our folder.
    pub has_leftovers: bool,
    /// What became of the kept listing.
    pub listing: Listing,
    /// What was looked at and is there.
    pub seen: HashMap<Vec<u8>, Seen>,
    /// What the kept listing has, but no longer like that; unless it is also in `seen`, it is gone.
    pub gone: HashSet<Vec<u8>>,
    /// Folders that may not be listed, so that what is in them is not in `seen`. Answered where
    /// mirrored destinations are looked at.
    pub closed: Vec<Vec<u8>>,
}

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct LookRequest<'a> {
    /// Folder of ours on the host.
    pub base: &'a RemotePath,
    /// Destinations, by mapping.
    pub roots: &'a [RemotePath],
    /// Indices of the mappings of which everything below is looked at.
    pub mirrors: &'a [usize],
    /// Digest of the listing that may be trusted; `None` to look at everything.
    pub listing: Option<&'a str>,
    /// Paths to look at, apart from those in the listing.
    pub paths: &'a [RemotePath],
    /// How long the session waits for a sign of life.
    pub stall_timeout: Duration,
}

/// Asks a host. One exec; nothing on the host changes.
///
/// # Errors
/// When the host cannot be asked, cannot answer, or may not see what it is asked about.
pub fn look(login: &mut Login, request: &LookRequest<'_>) -> Result<HostLook, RemoteError> {
    let mut script = Script::new(Task::Look, request.stall_timeout);
    script.path("hs_base", request.base);
    script.path("hs_staging", request.base);
    script.text(
        "hs_mode",
        if request.listing.is_some() {
            b"quick"
        } else {
            b"full"
        },
    );
    script.text("hs_listing", request.listing.unwrap_or_default().as_bytes());
    script.number("hs_roots", request.roots.len() as u64);
    for (index, root) in request.roots.iter().enumerate() {
        script.path(&format!("hs_root_{index}"), root);
    }
    let mirrors: Vec<String> = request.mirrors.iter().map(usize::to_string).collect();
    script.text("hs_mirrors", mirrors.join(" ").as_bytes());

    let mut data = Vec::new();
    for path in request.paths {
        data.extend_from_slice(path.as_bytes());
        data.push(0);
    }
    script.number("hs_paths", data.len() as u64);
    let mut run = TaskRun::new(&script, data);
    let outcome = login.run(&script, &mut run)?;
    check_end(&run, &outcome)?;
    let look = read_answer(&run.sections(), request.roots.len())?;
    let complaint = complaint(&outcome.stderr).or_else(|| complaint_of_agent(&run.sections()));
    complaint.map_or(Ok(look), |complaint| {
        Err(RemoteError::NotAllowed { complaint })
    })
}

/// The first thing that `stat` complained about.
fn complaint(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().find_map(|line| line.split_once("stat: "))?.1;
    Some(line.chars().filter(|c| !c.is_control()).take(300).collect())
}

/// The first thing that an agent may not look at.
fn complaint_of_agent(sections: &[Section<'_>]) -> Option<String> {
    let section = sections
        .iter()
        .find(|section| section.name == "complaints")?;
    let line = String::from_utf8_lossy(section.lines().next()?).into_owned();
    Some(line.chars().filter(|c| !c.is_control()).take(300).collect())
}

fn read_answer(sections: &[Section<'_>], roots: usize) -> Result<HostLook, RemoteError> {
    let section = |name: &str| sections.iter().find(|section| section.name == name);
    let answer = |what: &str| RemoteError::Answer {
        what: what.to_owned(),
    };
    let facts = section("facts")
        .and_then(read_facts)
        .ok_or_else(|| answer("what the host has"))?;
    let places = section("places").ok_or_else(|| answer("where the destinations lie"))?;
    let (places, staging) =
        read_places(places, roots).ok_or_else(|| answer("where the destinations lie"))?;
    let (exposures, staging_exposure) = section("open")
        .and_then(|section| read_exposures(section, roots))
        .ok_or_else(|| answer("who else can change the destinations"))?;
    let mut places = places;
    for (place, exposure) in places.iter_mut().zip(exposures) {
        place.exposure = exposure;
    }
    let listing = match section("listing").map(|section| section.argument) {
        Some("full") => Listing::NotAsked,
        Some("same") => Listing::Same,
        Some("moved") => Listing::Moved,
        Some("lost") => Listing::Lost,
        _ => return Err(answer("the state of the listing")),
    };
    let sums = section("sums")
        .map(|s| read_sums(s, facts.algorithm))
        .unwrap_or_default();
    let links = section("links").map(read_links).unwrap_or_default();
    let mut seen = HashMap::new();
    for line in section("stat").into_iter().flat_map(Section::lines) {
        let (stat, path) = StatTuple::from_line(line)
            .ok_or_else(|| answer(&format!("`{}`", String::from_utf8_lossy(line))))?;
        let node = match stat.file_type() {
            0o10 => Node::File {
                size_bytes: stat.size_bytes(),
                meta: stat.meta(),
                digest: sums.get(path).copied().unwrap_or_default(),
            },
            0o4 => Node::Dir { meta: stat.meta() },
            0o12 => {
                // One that vanished between two looks is gone.
                let Some(target) = links.get(path) else {
                    continue;
                };
                Node::Symlink {
                    target: (*target).into(),
                }
            }
            _ => Node::Other { meta: stat.meta() },
        };
        seen.insert(path.to_vec(), Seen { stat, node });
    }
    let gone = section("gone")
        .into_iter()
        .flat_map(Section::lines)
        .filter_map(|line| StatTuple::from_line(line).map(|(_, path)| path.to_vec()))
        .collect();
    let closed = section("closed")
        .into_iter()
        .flat_map(Section::lines)
        .map(<[u8]>::to_vec)
        .collect();
    let has_leftovers = section("facts")
        .into_iter()
        .flat_map(Section::lines)
        .any(|line| line == b"left=yes");
    Ok(HostLook {
        facts,
        places,
        staging,
        staging_exposure,
        has_leftovers,
        listing,
        seen,
        gone,
        closed,
    })
}

fn read_facts(section: &Section<'_>) -> Option<HostFacts> {
    let text = std::str::from_utf8(section.body).ok()?;
    let facts: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    Some(HostFacts {
        algorithm: match *facts.get("algorithm")? {
            "blake3" => Algorithm::Blake3,
            "sha256" => Algorithm::Sha256,
            _ => return None,
        },
        hash_tool: (*facts.get("tool")?).to_owned(),
        uid: facts.get("uid")?.parse().ok()?,
        gid: facts.get("gid")?.parse().ok()?,
        has_scp: *facts.get("scp")? == "yes",
        has_tar: *facts.get("tar")? == "yes",
        has_agent: facts.contains_key("agent"),
    })
}

fn read_places(section: &Section<'_>, roots: usize) -> Option<(Vec<DestPlace>, Place)> {
    let mut parents = vec![None; roots];
    let mut insides = vec![None; roots];
    let mut staging = None;
    for line in section.lines() {
        let mut words = line.splitn(6, |byte| *byte == b' ');
        let mut text = || words.next().and_then(|word| std::str::from_utf8(word).ok());
        let (what, index, writable, device, mode) = (text()?, text()?, text()?, text()?, text()?);
        let place = Place {
            path: words.next()?.to_vec(),
            device: device.parse().ok()?,
            is_folder: u32::from_str_radix(mode, 16).ok()? >> 12 == 0o4,
            is_writable: writable == "rw",
        };
        let index: usize = index.parse().ok()?;
        match what {
            "parent" => *parents.get_mut(index)? = Some(place),
            "inside" => *insides.get_mut(index)? = Some(place),
            _ => staging = Some(place),
        }
    }
    let places = parents
        .into_iter()
        .zip(insides)
        .map(|(parent, inside)| {
            Some(DestPlace {
                parent: parent?,
                inside,
                exposure: Exposure::default(),
            })
        })
        .collect::<Option<Vec<_>>>()?;
    Some((places, staging?))
}

/// By mapping, and that of staging.
fn read_exposures(section: &Section<'_>, roots: usize) -> Option<(Vec<Exposure>, Exposure)> {
    let mut exposures = vec![Exposure::default(); roots];
    let mut staging = Exposure::default();
    for line in section.lines() {
        let line = String::from_utf8_lossy(line);
        let (what, line) = line.split_once(' ')?;
        let (index, text) = line.split_once(' ')?;
        let exposure = match index {
            "staging" => &mut staging,
            index => exposures.get_mut(index.parse::<usize>().ok()?)?,
        };
        let part = match what {
            "above" => &mut exposure.above,
            "beside" => &mut exposure.beside,
            _ => &mut exposure.obstacle,
        };
        *part = Some(text.to_owned());
    }
    Some((exposures, staging))
}

/// Targets of links by path: both end with a NUL, in turn.
fn read_links<'a>(section: &Section<'a>) -> HashMap<&'a [u8], &'a [u8]> {
    let mut parts = section.body.split(|byte| *byte == 0);
    let mut links = HashMap::new();
    while let (Some(path), Some(target)) = (parts.next(), parts.next()) {
        links.insert(path, target);
    }
    links
}

/// Digests by path. The tools print `DIGEST`, a space, a space or `*`, and the name; when the name
/// holds a backslash some put a backslash before the line and double those in the name, some do not.
fn read_sums(section: &Section<'_>, algorithm: Algorithm) -> HashMap<Vec<u8>, ContentDigest> {
    let mut sums = HashMap::new();
    for line in section.lines() {
        let (escaped, line) = line
            .strip_prefix(b"\\")
            .map_or((false, line), |rest| (true, rest));
        let Some((hex, name)) = line.split_at_checked(64) else {
            continue;
        };
        let Some(digest) = std::str::from_utf8(hex)
            .ok()
            .and_then(|hex| algorithm.digest(hex))
        else {
            continue;
        };
        let Some(name) = name
            .strip_prefix(b"  ")
            .or_else(|| name.strip_prefix(b" *"))
        else {
            continue;
        };
        if escaped {
            sums.insert(unescaped(name), digest);
        } else {
            sums.insert(name.to_vec(), digest);
        }
    }
    sums
}

fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (b'\\', Some(b'\\')) => out.push(b'\\'),
            (b'\\', Some(b'n')) => out.push(b'\n'),
            (b'\\', Some(b'r')) => out.push(b'\r'),
            _ => {
                out.push(*byte);
                continue;
            }
        }
        bytes.next();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_as_every_tool_writes_them() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let body =
            format!("{hex}  /plain name\n{hex} */openssl\n\\{hex}  /back\\\\slash\nrubbish\n");
        let section = Section {
            name: "sums",
            argument: "",
            body: body.as_bytes(),
        };
        let sums = read_sums(&section, Algorithm::Sha256);
        let mut names: Vec<_> = sums
            .keys()
            .map(|name| String::from_utf8_lossy(name))
            .collect();
        names.sort();
        assert_eq!(names, ["/back\\slash", "/openssl", "/plain name"]);
    }
}
