//! What the programs on hosts answer: sections, until the one named `end`.
//!
//! An answer is read as it comes, and every byte of it once. What is kept of it is up to whoever reads the
//! sections; how much that may be is up to [`Room`].

use std::collections::HashMap;
use std::time::Duration;

use super::bootstrap::Script;
use super::limits::{Room, SECTION_BYTES};
use crate::transport::{Aborted, ExecIo, Flow, Input};

/// What a line of an answer begins with that is no content.
pub(super) fn marker(nonce: &str) -> String {
    format!("HOSTSYNC {nonce} ")
}

/// How much a login shell may print before the answer begins.
const NOISE_BYTES: usize = 256 * 1024;

/// How much of that is kept, for people.
const NOISE_KEPT_BYTES: usize = 1024;

/// How long a line may be that begins a section.
const HEAD_BYTES: usize = 4096;

/// How long a line in a section may be: a path is no longer than 4 KiB, and each of its bytes may be two.
const LINE_BYTES: usize = 16 * 1024;

/// How much is kept of why a task gave up.
const FAILURE_BYTES: usize = 4096;

/// How the last line of an answer ends when an agent waits for its next task.
pub(super) const AGENT_WAITS: &str = " waits";

/// Somebody who reads the sections of an answer.
pub(super) trait Sections {
    /// A section begins, and the one before it is complete.
    fn begin(&mut self, name: &str, argument: &str) -> Result<(), Aborted>;

    /// More of its body.
    fn body(&mut self, bytes: &[u8]) -> Result<(), Aborted>;

    /// How long the task may take in the light of what it has said.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}

/// Tells sections apart.
#[derive(Debug)]
struct Reader {
    /// Its first byte comes in it once: where a part of it is not followed by the rest, the next one does not
    /// begin before the end of that part.
    marker: Vec<u8>,
    /// How much of a marker has come last.
    matched: usize,
    /// The line behind a marker, as far as it has come.
    head: Option<Vec<u8>>,
    /// How to go on after the end of the answer, once that has come.
    ended: Option<Flow>,
    /// How often a byte was looked at.
    #[cfg(test)]
    steps: usize,
}

impl Reader {
    fn new(marker: &str) -> Self {
        Self {
            marker: marker.as_bytes().to_vec(),
            matched: 0,
            head: None,
            ended: None,
            #[cfg(test)]
            steps: 0,
        }
    }

    fn count(&mut self, steps: usize) {
        #[cfg(test)]
        {
            self.steps += steps;
        }
        let _ = (self, steps);
    }

    /// Takes in bytes. What comes behind the end of the answer is nobody's.
    fn take_in(&mut self, bytes: &[u8], sections: &mut dyn Sections) -> Result<(), Aborted> {
        let mut rest = bytes;
        while !rest.is_empty() && self.ended.is_none() {
            rest = if self.head.is_some() {
                self.take_head(rest, sections)?
            } else {
                self.take_body(rest, sections)?
            };
        }
        Ok(())
    }

    fn take_head<'b>(
        &mut self,
        rest: &'b [u8],
        sections: &mut dyn Sections,
    ) -> Result<&'b [u8], Aborted> {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        self.count(line.len());
        let head = self.head.get_or_insert_default();
        if head.len() + line.len() > HEAD_BYTES {
            return Err(Aborted(
                "the host's answer cannot be understood: a section has a name without end".into(),
            ));
        }
        head.extend_from_slice(line);
        let Some(end) = end else { return Ok(&[]) };
        let head = self.head.take().unwrap_or_default();
        let title = String::from_utf8_lossy(&head);
        let waits = title.ends_with(AGENT_WAITS);
        let title = title.strip_suffix(AGENT_WAITS).unwrap_or(&title);
        let (name, argument) = title.split_once(' ').unwrap_or((title, ""));
        sections.begin(name, argument)?;
        if name == "end" {
            self.ended = Some(if waits { Flow::Pause } else { Flow::Leave });
        }
        Ok(&rest[end + 1..])
    }

    fn take_body<'b>(
        &mut self,
        rest: &'b [u8],
        sections: &mut dyn Sections,
    ) -> Result<&'b [u8], Aborted> {
        if self.matched == 0 {
            let first = self.marker[0];
            let at = rest.iter().position(|byte| *byte == first);
            let before = at.unwrap_or(rest.len());
            self.count(before);
            if before > 0 {
                sections.body(&rest[..before])?;
                return Ok(&rest[before..]);
            }
        }
        let wanted = &self.marker[self.matched..];
        let same = wanted.iter().zip(rest).take_while(|(a, b)| a == b).count();
        let (is_whole, is_open) = (same == wanted.len(), same == rest.len());
        self.count(same + 1);
        if is_whole {
            self.matched = 0;
            self.head = Some(Vec::new());
        } else if is_open {
            self.matched += same;
        } else {
            // No marker, so it is content.
            let matched = std::mem::take(&mut self.matched) + same;
            sections.body(&self.marker[..matched])?;
        }
        Ok(&rest[same..])
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The word that names it.
    pub(super) name: String,
    /// What follows the name on its line.
    pub(super) argument: String,
    /// Everything up to the next section.
    pub(super) body: Vec<u8>,
}

impl Section {
    /// The lines of the body, without their ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
    }
}

/// Keeps sections as they are.
#[derive(Debug)]
pub(super) struct Kept {
    /// Which ones, by name; all where there is none.
    only: &'static [&'static str],
    sections: Vec<Section>,
    /// The first one of each name.
    first: HashMap<String, usize>,
    keeps_this: bool,
    room: Room,
}

impl Kept {
    /// Keeps all, as far as there is room.
    pub(super) fn all(room: Room) -> Self {
        Self::only(&[], room)
    }

    /// Keeps those of these names.
    pub(super) fn only(only: &'static [&'static str], room: Room) -> Self {
        Self {
            only,
            sections: Vec::new(),
            first: HashMap::new(),
            keeps_this: false,
            room,
        }
    }
}

impl Sections for Kept {
    fn begin(&mut self, name: &str, argument: &str) -> Result<(), Aborted> {
        self.keeps_this = self.only.is_empty() || self.only.contains(&name);
        self.room.take(SECTION_BYTES)?;
        if self.keeps_this {
            self.room.take(name.len() + argument.len())?;
            self.first
                .entry(name.to_owned())
                .or_insert(self.sections.len());
            self.sections.push(Section {
                name: name.to_owned(),
                argument: argument.to_owned(),
                body: Vec::new(),
            });
        }
        Ok(())
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), Aborted> {
        self.room.take(bytes.len())?;
        if let Some(section) = self.sections.last_mut().filter(|_| self.keeps_this) {
            section.body.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// Cuts the body of a section into pieces that end with the same byte.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    partial: Vec<u8>,
    is_too_long: bool,
}

impl Pieces {
    /// Calls `each` with every piece that is complete by now. One that is longer than any line can be is left
    /// out.
    pub(super) fn take_in(
        &mut self,
        bytes: &[u8],
        end: u8,
        mut each: impl FnMut(&[u8]) -> Result<(), Aborted>,
    ) -> Result<(), Aborted> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == end) {
            let piece = &rest[..at];
            rest = &rest[at + 1..];
            if self.partial.is_empty() && !self.is_too_long && piece.len() <= LINE_BYTES {
                each(piece)?;
                continue;
            }
            self.keep(piece);
            let whole = self.rest();
            if let Some(whole) = whole {
                each(&whole)?;
            }
        }
        self.keep(rest);
        Ok(())
    }

    /// What came last and has no end; `None` for nothing, or for more than is taken in.
    pub(super) fn rest(&mut self) -> Option<Vec<u8>> {
        let piece = std::mem::take(&mut self.partial);
        let is_whole = !std::mem::take(&mut self.is_too_long);
        (is_whole && !piece.is_empty()).then_some(piece)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.partial.len() + bytes.len() > LINE_BYTES {
            self.partial.clear();
            self.is_too_long = true;
        }
        if !self.is_too_long {
            self.partial.extend_from_slice(bytes);
        }
    }
}

/// The ends of a running task: sends what it works on, and reads the answer until its end.
#[derive(Debug)]
pub(super) struct TaskRun<S = Kept> {
    input: Vec<u8>,
    sent_to: usize,
    reader: Reader,
    frame: Frame,
    sections: S,
}

/// What all answers have.
#[derive(Debug, Default)]
struct Frame {
    noise: Vec<u8>,
    noise_bytes: usize,
    has_begun: bool,
    /// Why the task gave up, and whether that is being said.
    failure: Option<Vec<u8>>,
    fails: bool,
    /// What follows the name of the last section.
    end: Option<String>,
}

/// What all answers have, and then what this one has.
struct Framed<'a>(&'a mut Frame, &'a mut dyn Sections);

impl Sections for Framed<'_> {
    fn begin(&mut self, name: &str, argument: &str) -> Result<(), Aborted> {
        let Self(frame, sections) = self;
        frame.has_begun = true;
        frame.fails = name == "fail" && frame.failure.is_none();
        if frame.fails {
            frame.failure = Some(Vec::new());
        }
        if name == "end" {
            frame.end = Some(argument.to_owned());
        }
        sections.begin(name, argument)
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), Aborted> {
        let Self(frame, sections) = self;
        if !frame.has_begun {
            return frame.take_noise(bytes);
        }
        if let Some(failure) = frame.failure.as_mut().filter(|_| frame.fails) {
            let room = FAILURE_BYTES.saturating_sub(failure.len());
            failure.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        sections.body(bytes)
    }
}

impl Frame {
    fn take_noise(&mut self, bytes: &[u8]) -> Result<(), Aborted> {
        self.noise_bytes += bytes.len();
        if self.noise_bytes > NOISE_BYTES {
            return Err(Aborted(
                "the login shell prints without end before it runs a command; its start-up \
                 files should print nothing"
                    .into(),
            ));
        }
        let kept = &bytes[bytes.len().saturating_sub(NOISE_KEPT_BYTES)..];
        self.noise.extend_from_slice(kept);
        if self.noise.len() > 2 * NOISE_KEPT_BYTES {
            self.noise.drain(..self.noise.len() - NOISE_KEPT_BYTES);
        }
        Ok(())
    }
}

impl<S: Sections> TaskRun<S> {
    /// Sends `data`, the length of which the script has to know: input stays open.
    pub(super) fn new(script: &Script, data: Vec<u8>, sections: S) -> Self {
        Self {
            input: data,
            sent_to: 0,
            reader: Reader::new(&marker(script.nonce().as_str())),
            frame: Frame::default(),
            sections,
        }
    }

    /// Whether the script came to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.reader.ended.is_some()
    }

    /// What it said at its end.
    pub(super) fn end(&self) -> Option<&str> {
        self.frame.end.as_deref()
    }

    /// Whether any answer has come.
    pub(super) fn has_begun(&self) -> bool {
        self.frame.has_begun
    }

    /// Why the task gave up, as it says itself.
    pub(super) fn failure(&self) -> Option<String> {
        self.frame.failure.as_deref().map(last_line)
    }

    /// What came before the answer, for people: the last printable line, shortened.
    pub(super) fn noise(&self) -> String {
        last_line(&self.frame.noise)
    }

    /// Whoever has read the sections.
    pub(super) fn into_sections(self) -> S {
        self.sections
    }
}

impl TaskRun<Kept> {
    /// The sections of the answer so far.
    pub(super) fn sections(&self) -> &[Section] {
        &self.sections.sections
    }

    /// The first section of this name.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        let index = self.sections.first.get(name)?;
        self.sections.sections.get(*index)
    }
}

impl Kept {
    /// The sections.
    pub(super) fn into_sections(self) -> Vec<Section> {
        self.sections
    }
}

impl<S: Sections> ExecIo for TaskRun<S> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        const CHUNK: usize = 128 * 1024;
        let rest = &self.input[self.sent_to..];
        if rest.is_empty() {
            return Ok(Input::Wait);
        }
        let chunk = &rest[..rest.len().min(CHUNK)];
        buffer.extend_from_slice(chunk);
        self.sent_to += chunk.len();
        Ok(Input::Ready)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        let mut framed = Framed(&mut self.frame, &mut self.sections);
        self.reader.take_in(bytes, &mut framed)?;
        Ok(self.reader.ended.unwrap_or(Flow::Continue))
    }

    fn time_limit(&self) -> Option<Duration> {
        self.sections.time_limit()
    }
}

/// The last line of some output that holds anything, for people: without control characters and at
/// most 200 characters long.
pub(super) fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::task::Task;
    use super::*;

    fn run_of(room: Room) -> (TaskRun, String) {
        let script = Script::new(Task::Look, Duration::from_mins(1));
        let run = TaskRun::new(&script, Vec::new(), Kept::all(room));
        (run, marker(script.nonce().as_str()))
    }

    #[test]
    fn sections_are_found_in_noise_and_in_pieces() {
        for (end, last) in [("end ok", Flow::Leave), ("end ok waits", Flow::Pause)] {
            let (mut run, marker) = run_of(Room::for_answer(0));
            let text = format!(
                "welcome\nHOSTSYNC fake end ok\n{marker}one a b\nx\ny\n\
                 {marker}two\np\0HOSTSYNC\0q\0{marker}{end}\n"
            );
            for (index, byte) in text.as_bytes().iter().enumerate() {
                let flow = run.output(&[*byte]).expect("no reason to stop");
                let is_last = index + 1 == text.len();
                assert_eq!(
                    flow,
                    if is_last { last } else { Flow::Continue },
                    "at {index}"
                );
            }
            let sections = run.sections();
            assert_eq!(sections.len(), 3);
            let first = (sections[0].name.as_str(), sections[0].argument.as_str());
            assert_eq!(first, ("one", "a b"));
            assert_eq!(sections[0].lines().collect::<Vec<_>>(), [b"x", b"y"]);
            assert_eq!(sections[1].body, b"p\0HOSTSYNC\0q\0");
            assert_eq!(
                (sections[2].argument.as_str(), run.end()),
                ("ok", Some("ok"))
            );
            assert_eq!(run.noise(), "HOSTSYNC fake end ok");
        }
    }

    #[test]
    fn every_byte_of_an_answer_is_looked_at_a_few_times_however_it_arrives() {
        let (_, marker) = run_of(Room::for_answer(0));
        let almost = &marker[..marker.len() - 1];
        for unit in ["H", "HOSTSYNC ", "a line\n", almost, "\0"] {
            for piece in [1, 7, 4096] {
                let (mut run, marker) = run_of(Room::for_answer(1 << 20));
                run.output(format!("{marker}file 0\n").as_bytes())
                    .expect("begins");
                let body = unit.repeat((1 << 18) / unit.len());
                for bytes in body.as_bytes().chunks(piece) {
                    run.output(bytes).expect("there is room");
                }
                let steps = run.reader.steps;
                assert!(
                    steps <= 3 * body.len() + 100,
                    "{unit:?} by {piece}: {steps}"
                );
                run.output(format!("{marker}end ok\n").as_bytes())
                    .expect("ends");
                assert_eq!(
                    run.section("file").map(|it| it.body.len()),
                    Some(body.len())
                );
            }
        }
    }

    #[test]
    fn answer_without_end_is_left_and_not_kept() {
        let (mut run, marker) = run_of(Room::for_answer(100));
        run.output(format!("{marker}stat\n").as_bytes())
            .expect("begins");
        let chunk = vec![b'x'; 1 << 20];
        let error = (0..100)
            .find_map(|_| run.output(&chunk).err())
            .expect("ends");
        assert!(
            error.to_string().contains("far longer than any answer"),
            "{error}"
        );
        let kept: usize = run
            .sections()
            .iter()
            .map(|section| section.body.len())
            .sum();
        assert!(kept <= 18 << 20, "{kept}");
    }

    #[test]
    fn sections_without_end_are_left() {
        let (mut run, marker) = run_of(Room::for_answer(0));
        let many = format!("{marker}x\n").repeat(1000);
        let error = (0..1000).find_map(|_| run.output(many.as_bytes()).err());
        assert!(error.is_some());
        assert!(run.sections().len() < 100_000, "{}", run.sections().len());
    }

    #[test]
    fn name_of_a_section_without_end_is_left() {
        let (mut run, marker) = run_of(Room::for_answer(0));
        run.output(marker.as_bytes()).expect("begins");
        let error = (0..10).find_map(|_| run.output(&[b'x'; 1000]).err());
        assert!(error.is_some());
    }

    #[test]
    fn pieces_are_whole_however_they_arrive() {
        let long = "l".repeat(LINE_BYTES + 1);
        let text = format!("one\n\n{long}\ntwo\nthree");
        for piece in [1, 2, 5, text.len()] {
            let (mut pieces, mut seen) = (Pieces::default(), Vec::new());
            for bytes in text.as_bytes().chunks(piece) {
                let each = |line: &[u8]| {
                    seen.push(String::from_utf8_lossy(line).into_owned());
                    Ok(())
                };
                pieces.take_in(bytes, b'\n', each).expect("nothing fails");
            }
            seen.retain(|line| *line != long && !line.is_empty());
            assert_eq!(seen, ["one", "two"], "{piece}");
            assert_eq!(pieces.rest().as_deref(), Some(&b"three"[..]));
        }
    }
}
