//! Reads what a look answers, as it comes.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::types::{DestPlace, Exposure, HostFacts, HostLook, Listing, Place, Seen};
use crate::model::{ContentDigest, Node, RemotePath};
use crate::remote::answer::{Pieces, Sections};
use crate::remote::limits::{ENTRY_BYTES, Room, SECTION_BYTES, time_for_files};
use crate::remote::{Algorithm, RemoteError, Script, StatTuple};
use crate::transport::Aborted;

/// What facts and places may have together: some thousand destinations.
const SMALL_BYTES: usize = 16 * 1024 * 1024;

/// The section that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Facts,
    Places,
    Open,
    Gone,
    Complaints,
    Closed,
    Stat,
    Links,
    Sums,
    Other,
}

/// Gathers what a host has. Of what is said of an entry, no more than that is kept.
#[derive(Debug)]
pub(super) struct LookReader {
    part: Part,
    pieces: Pieces,
    facts: Vec<u8>,
    places: Vec<u8>,
    open: Vec<u8>,
    listing: Option<Listing>,
    seen: HashMap<Vec<u8>, Seen>,
    gone: HashSet<Vec<u8>>,
    closed: Vec<Vec<u8>>,
    complaint: Option<String>,
    /// The link whose target comes next.
    link: Option<Vec<u8>>,
    /// The first thing that cannot be understood.
    riddle: Option<String>,
    algorithm: Option<Algorithm>,
    room: Room,
    /// Bytes of files that it says are to be hashed, and those that were known before.
    claimed_bytes: u64,
    known_bytes: u64,
    /// How long it may take to look; and to look once more and to hash, once that begins.
    time_limit: Duration,
    time_to_look: Duration,
    time_to_hash: Option<Duration>,
}

impl LookReader {
    /// Reads the answer to this script. `known_bytes` are those of all files that are known.
    pub(super) fn new(room: Room, script: &Script, known_bytes: u64) -> Self {
        Self {
            part: Part::Other,
            pieces: Pieces::default(),
            facts: Vec::new(),
            places: Vec::new(),
            open: Vec::new(),
            listing: None,
            seen: HashMap::new(),
            gone: HashSet::new(),
            closed: Vec::new(),
            complaint: None,
            link: None,
            riddle: None,
            algorithm: None,
            room,
            claimed_bytes: 0,
            known_bytes,
            time_limit: script.time_limit(),
            time_to_look: script.patience(),
            time_to_hash: None,
        }
    }

    /// What the host has, and the first thing that it may not look at.
    ///
    /// # Errors
    /// When the answer cannot be understood.
    pub(super) fn finish(
        mut self,
        roots: usize,
    ) -> Result<(HostLook, Option<String>), RemoteError> {
        let answer = |what: &str| RemoteError::Answer {
            what: what.to_owned(),
        };
        let facts = read_facts(&self.facts).ok_or_else(|| answer("what the host has"))?;
        let (mut places, staging) =
            read_places(&self.places, roots).ok_or_else(|| answer("where the destinations lie"))?;
        let staging_exposure = read_exposures(&self.open, &mut places)
            .ok_or_else(|| answer("who else can change the destinations"))?;
        let listing = self
            .listing
            .ok_or_else(|| answer("the state of the listing"))?;
        if let Some(riddle) = self.riddle {
            return Err(RemoteError::Answer { what: riddle });
        }
        // A link that vanished between two looks is gone.
        self.seen
            .retain(|_, seen| !matches!(&seen.node, Node::Symlink { target } if target.is_empty()));
        let has_leftovers = lines(&self.facts).any(|line| line == b"left=yes");
        let look = HostLook {
            facts,
            places,
            staging,
            staging_exposure,
            has_leftovers,
            listing,
            seen: self.seen,
            gone: self.gone,
            closed: self.closed,
            room: Arc::new(self.room),
        };
        Ok((look, self.complaint))
    }

    /// Takes in a whole line, or what ends with a NUL.
    fn piece(&mut self, piece: &[u8]) -> Result<(), Aborted> {
        if self.part == Part::Links {
            self.path_or_target(piece);
            return Ok(());
        }
        // What comes behind a riddle nobody reads any more.
        if piece.is_empty() || self.riddle.is_some() {
            return Ok(());
        }
        match self.part {
            Part::Stat => self.entry(piece)?,
            Part::Sums => self.sum(piece),
            Part::Gone => {
                if let Some((_, path)) = StatTuple::from_line(piece) {
                    self.room.take(ENTRY_BYTES)?;
                    self.gone.insert(path.to_vec());
                }
            }
            Part::Closed => {
                self.room.take(ENTRY_BYTES)?;
                self.closed.push(piece.to_vec());
            }
            Part::Complaints => {
                let complaint = || shown(&String::from_utf8_lossy(piece));
                self.complaint.get_or_insert_with(complaint);
            }
            Part::Facts | Part::Places | Part::Open | Part::Links | Part::Other => {}
        }
        Ok(())
    }

    fn entry(&mut self, line: &[u8]) -> Result<(), Aborted> {
        let Some((stat, path)) = StatTuple::from_line(line) else {
            let riddle = || format!("`{}`", shown(&String::from_utf8_lossy(line)));
            self.riddle.get_or_insert_with(riddle);
            return Ok(());
        };
        self.room.take(ENTRY_BYTES)?;
        let node = match stat.file_type() {
            0o10 => {
                self.claimed_bytes = self.claimed_bytes.saturating_add(stat.size_bytes());
                Node::File {
                    size_bytes: stat.size_bytes(),
                    meta: stat.meta(),
                    digest: ContentDigest::default(),
                }
            }
            0o4 => Node::Dir { meta: stat.meta() },
            0o12 => Node::Symlink {
                target: Box::default(),
            },
            _ => Node::Other { meta: stat.meta() },
        };
        self.seen.insert(path.to_vec(), Seen { stat, node });
        Ok(())
    }

    /// Paths of links and their targets come in turns.
    fn path_or_target(&mut self, piece: &[u8]) {
        let Some(path) = self.link.take() else {
            self.link = Some(piece.to_vec());
            return;
        };
        if let Some(Seen {
            node: Node::Symlink { target },
            ..
        }) = self.seen.get_mut(&path)
        {
            *target = piece.into();
        }
    }

    /// The tools print the digest, a space, a space or `*`, and the name; when the name holds a backslash
    /// some put a backslash before the line and double those in the name, some do not.
    fn sum(&mut self, line: &[u8]) {
        let Some((digest, name)) = self
            .algorithm
            .and_then(|algorithm| read_sum(line, algorithm))
        else {
            return;
        };
        if let Some(Seen {
            node: Node::File { digest: known, .. },
            ..
        }) = self.seen.get_mut(name.as_ref())
        {
            *known = digest;
        }
    }

    fn begin_part(&mut self, name: &str, argument: &str) {
        self.part = match name {
            "facts" => Part::Facts,
            "places" => Part::Places,
            "open" => Part::Open,
            "gone" => Part::Gone,
            "complaints" => Part::Complaints,
            "closed" => Part::Closed,
            "stat" => Part::Stat,
            "links" => Part::Links,
            "sums" => Part::Sums,
            _ => Part::Other,
        };
        if name == "listing" {
            self.listing = match argument {
                "full" => Some(Listing::NotAsked),
                "same" => Some(Listing::Same),
                "moved" => Some(Listing::Moved),
                "lost" => Some(Listing::Lost),
                _ => None,
            };
        }
        if self.part == Part::Sums && self.time_to_hash.is_none() {
            self.algorithm = read_facts(&self.facts).map(|facts| facts.algorithm);
            // What there is to hash, nobody knew before. It is told once.
            self.time_to_hash = Some(time_for_files(self.claimed_bytes, self.known_bytes));
        }
    }
}

impl Sections for LookReader {
    fn begin(&mut self, name: &str, argument: &str) -> Result<(), Aborted> {
        self.room
            .take(SECTION_BYTES + name.len() + argument.len())?;
        if let Some(last) = self.pieces.rest() {
            self.piece(&last)?;
        }
        self.link = None;
        self.begin_part(name, argument);
        Ok(())
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), Aborted> {
        self.room.take(bytes.len())?;
        let small = match self.part {
            Part::Facts => &mut self.facts,
            Part::Places => &mut self.places,
            Part::Open => &mut self.open,
            part => {
                let end = if part == Part::Links { 0 } else { b'\n' };
                let mut pieces = std::mem::take(&mut self.pieces);
                let taken = pieces.take_in(bytes, end, |piece| self.piece(piece));
                self.pieces = pieces;
                return taken;
            }
        };
        if small.len() + bytes.len() <= SMALL_BYTES {
            small.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn time_limit(&self) -> Option<Duration> {
        let more = self
            .time_to_hash
            .map(|time| time.saturating_add(self.time_to_look));
        Some(self.time_limit.saturating_add(more.unwrap_or_default()))
    }
}

/// What the host said, as it may be shown.
pub(super) fn shown(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}

fn read_facts(body: &[u8]) -> Option<HostFacts> {
    let text = std::str::from_utf8(body).ok()?;
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

fn read_places(body: &[u8], roots: usize) -> Option<(Vec<DestPlace>, Place)> {
    let mut parents = vec![None; roots];
    let mut insides = vec![None; roots];
    let mut staging = None;
    for line in lines(body) {
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

/// Adds what others can do to the destinations; gives what they can do to staging.
fn read_exposures(body: &[u8], places: &mut [DestPlace]) -> Option<Exposure> {
    let mut staging = Exposure::default();
    for line in lines(body) {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let (what, index, path) = (words.next()?, words.next()?, words.next()?);
        let exposure = match std::str::from_utf8(index).ok()? {
            "staging" => &mut staging,
            index => &mut places.get_mut(index.parse::<usize>().ok()?)?.exposure,
        };
        let text = shown(&String::from_utf8_lossy(path));
        match what {
            b"above" => exposure.above = Some(text),
            b"within" => exposure.within.push(RemotePath::from_dest(path)),
            b"beside" => exposure.beside = Some(text),
            b"shelter" => exposure.shelter = Some(text),
            _ => exposure.obstacle = Some(text),
        }
    }
    Some(staging)
}

/// A digest and the path that it is of.
fn read_sum(line: &[u8], algorithm: Algorithm) -> Option<(ContentDigest, Cow<'_, [u8]>)> {
    let (is_escaped, line) = line
        .strip_prefix(b"\\")
        .map_or((false, line), |rest| (true, rest));
    let (hex, name) = line.split_at_checked(64)?;
    let digest = algorithm.digest(std::str::from_utf8(hex).ok()?)?;
    let name = name
        .strip_prefix(b"  ")
        .or_else(|| name.strip_prefix(b" *"))?;
    Some((
        digest,
        if is_escaped {
            Cow::Owned(unescaped(name))
        } else {
            Cow::Borrowed(name)
        },
    ))
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
    use crate::remote::Task;

    const FACTS: &[u8] = b"algorithm=sha256\ntool=openssl\nuid=1\ngid=1\nscp=yes\ntar=yes\nleft=\n";
    const PLACES: &[u8] = b"staging 0 rw 64 41c0 /home/u\n";

    fn reader_with(room: Room) -> LookReader {
        let script = Script::new(Task::Look, Duration::from_mins(1));
        let mut reader = LookReader::new(room, &script, 0);
        for (name, body) in [("facts", FACTS), ("places", PLACES), ("listing full", b"")] {
            let (name, argument) = name.split_once(' ').unwrap_or((name, ""));
            reader.begin(name, argument).expect("there is room");
            reader.body(body).expect("there is room");
        }
        reader
    }

    fn stat(mode: &str, size_bytes: u64, path: &str) -> String {
        format!("{mode} {size_bytes} 1.0 - - 1.0 - - 7 1 1 64 {path}\n")
    }

    #[test]
    fn entries_links_and_digests_find_each_other_however_they_arrive() {
        for piece in [1, 3, 10_000] {
            let mut reader = reader_with(Room::for_answer(0));
            let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
            let stats = [
                stat("81a4", 3, "/plain name"),
                stat("81a4", 3, "/back\\slash"),
                stat("81a4", 3, "/unreadable"),
                stat("a1ff", 3, "/link"),
                stat("a1ff", 3, "/vanished"),
                stat("41ed", 3, "/folder"),
            ];
            let sums =
                format!("{hex} */plain name\n\\{hex}  /back\\\\slash\nrubbish\n{hex}  /other");
            for (name, body) in [
                ("stat", stats.concat().as_str()),
                ("links", "/link\0over\nthere\0"),
                ("sums", sums.as_str()),
            ] {
                reader.begin(name, "").expect("there is room");
                for bytes in body.as_bytes().chunks(piece) {
                    reader.body(bytes).expect("there is room");
                }
            }
            reader.begin("end", "ok").expect("there is room");
            let (look, complaint) = reader.finish(0).expect("an answer");
            assert_eq!(complaint, None);
            assert_eq!((look.seen.len(), look.listing), (5, Listing::NotAsked));
            let has_digest = |path: &str| match &look.seen[path.as_bytes()].node {
                Node::File { digest, .. } => *digest != ContentDigest::default(),
                _ => panic!("{path} is no file"),
            };
            let names = ["/plain name", "/back\\slash", "/unreadable"];
            assert_eq!(names.map(has_digest), [true, true, false]);
            let link = &look.seen[&b"/link"[..]].node;
            assert!(matches!(link, Node::Symlink { target } if **target == *b"over\nthere"));
        }
    }

    #[test]
    fn entries_that_nobody_asked_about_are_not_kept_without_end() {
        for (is_open, cure) in [(false, "forced command"), (true, "`exclude`")] {
            let room = Room::for_answer(0).and_unknown(is_open);
            let mut reader = reader_with(room.with_surplus(1 << 20));
            reader.begin("stat", "").expect("there is room");
            let error = (0..).find_map(|number| {
                let lines: String = (0..1000)
                    .map(|line| stat("81a4", 1, &format!("/{number}/{line}")))
                    .collect();
                reader.body(lines.as_bytes()).err()
            });
            let error = error.expect("ends").to_string();
            assert!(
                reader.seen.len() < (2 << 20) / ENTRY_BYTES,
                "{}",
                reader.seen.len()
            );
            assert!(error.contains(cure), "{error}");
        }
    }

    #[test]
    fn hashing_has_time_for_files_that_are_there_but_not_for_any_claim() {
        let time_with = |claims: &[u64]| {
            let mut reader = reader_with(Room::for_answer(0));
            reader.begin("stat", "").expect("there is room");
            for (number, size_bytes) in claims.iter().enumerate() {
                let line = stat("81a4", *size_bytes, &format!("/{number}"));
                reader.body(line.as_bytes()).expect("there is room");
            }
            for _ in 0..3 {
                reader.begin("sums", "").expect("there is room");
            }
            reader.time_limit().expect("a limit")
        };
        let nothing = time_with(&[]);
        assert_eq!(
            time_with(&[20_000_000_000]).saturating_sub(nothing),
            Duration::from_secs(10_000)
        );
        let most = time_with(&[u64::MAX, u64::MAX]).saturating_sub(nothing);
        assert_eq!(most, Duration::from_hours(24));
    }
}
