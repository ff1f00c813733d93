//! What the programs on hosts answer: sections, until the one named `end`.

use super::bootstrap::Script;
use crate::transport::{Aborted, ExecIo, Flow, Input};

/// What a line of an answer begins with that is no content.
pub(super) fn marker(nonce: &str) -> String {
    format!("HOSTSYNC {nonce} ")
}

/// How much a login shell may print before the answer begins.
const NOISE_BYTES: usize = 256 * 1024;

/// How long an answer may be. A listing of a million entries is a fifth of that.
const ANSWER_BYTES: usize = 1024 * 1024 * 1024;

/// How the last line of an answer ends when an agent waits for its next task.
pub(super) const AGENT_WAITS: &[u8] = b" waits";

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section<'a> {
    /// The word that names it.
    pub(super) name: &'a str,
    /// What follows the name on its line.
    pub(super) argument: &'a str,
    /// Everything up to the next section.
    pub(super) body: &'a [u8],
}

impl<'a> Section<'a> {
    /// The lines of the body, without their ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        self.body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
    }
}

/// The ends of a running task: sends what it works on, and gathers the answer until its end.
#[derive(Debug)]
pub(super) struct TaskRun {
    input: Vec<u8>,
    sent_to: usize,
    marker: Vec<u8>,
    output: Vec<u8>,
    searched_to: usize,
    has_begun: bool,
    /// How to go on after the end of the answer, once that has come.
    ended: Option<Flow>,
}

impl TaskRun {
    /// Sends `data`, the length of which the script has to know: input stays open.
    pub(super) fn new(script: &Script, data: Vec<u8>) -> Self {
        Self {
            input: data,
            sent_to: 0,
            marker: marker(script.nonce().as_str()).into_bytes(),
            output: Vec::new(),
            searched_to: 0,
            has_begun: false,
            ended: None,
        }
    }

    /// Whether the script came to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The sections of the answer so far; what was printed before the first one is skipped.
    pub(super) fn sections(&self) -> Vec<Section<'_>> {
        let mut sections = Vec::new();
        let mut at = find(&self.output, &self.marker);
        while let Some(start) = at {
            let head = start + self.marker.len();
            let Some(line) = self.output[head..].iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let title = std::str::from_utf8(&self.output[head..head + line]).unwrap_or_default();
            let title = title.strip_suffix(" waits").unwrap_or(title);
            let (name, argument) = title.split_once(' ').unwrap_or((title, ""));
            let body_at = head + line + 1;
            let next = find(&self.output[body_at..], &self.marker).map(|offset| body_at + offset);
            let body = &self.output[body_at..next.unwrap_or(self.output.len())];
            sections.push(Section {
                name,
                argument,
                body,
            });
            at = next;
        }
        sections
    }

    /// The first section of this name.
    pub(super) fn section(&self, name: &str) -> Option<Section<'_>> {
        self.sections().into_iter().find(|it| it.name == name)
    }

    /// Why the task gave up, as it says itself.
    pub(super) fn failure(&self) -> Option<String> {
        self.section("fail").map(|fail| last_line(fail.body))
    }

    /// What came instead of an answer, for people: the last printable line, shortened.
    pub(super) fn noise(&self) -> String {
        last_line(&self.output)
    }

    fn look_for_the_end(&mut self) {
        let end = [self.marker.as_slice(), b"end "].concat();
        let from = self.searched_to.saturating_sub(end.len());
        if let Some(at) = find(&self.output[from..], &end) {
            let rest = &self.output[from + at..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let waits = rest[..length].ends_with(AGENT_WAITS);
                self.ended = Some(if waits { Flow::Pause } else { Flow::Leave });
            }
            self.searched_to = from + at;
        } else {
            self.searched_to = self.output.len();
        }
    }
}

impl ExecIo for TaskRun {
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
        self.output.extend_from_slice(bytes);
        if !self.has_begun {
            self.has_begun = find(&self.output, &self.marker).is_some();
            if !self.has_begun && self.output.len() > NOISE_BYTES {
                return Err(Aborted(
                    "the login shell prints without end before it runs a command; its start-up \
                     files should print nothing"
                        .into(),
                ));
            }
        }
        if self.output.len() > ANSWER_BYTES {
            return Err(Aborted(
                "the host's answer is longer than any answer can be".into(),
            ));
        }
        self.look_for_the_end();
        Ok(self.ended.unwrap_or(Flow::Continue))
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

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(offset) = haystack[from..].iter().position(|byte| *byte == first) {
        let at = from + offset;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::task::Task;
    use super::*;

    #[test]
    fn sections_are_found_in_noise_and_in_pieces() {
        for (end, last) in [("end ok", Flow::Leave), ("end ok waits", Flow::Pause)] {
            let script = Script::new(Task::Look, Duration::from_mins(1));
            let nonce = script.nonce().clone();
            let text = format!(
                "welcome\nHOSTSYNC fake end ok\nHOSTSYNC {nonce} one a b\nx\ny\n\
                 HOSTSYNC {nonce} two\np\0q\0HOSTSYNC {nonce} {end}\n"
            );
            let mut run = TaskRun::new(&script, Vec::new());
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
            assert_eq!((sections[0].name, sections[0].argument), ("one", "a b"));
            assert_eq!(sections[0].lines().collect::<Vec<_>>(), [b"x", b"y"]);
            assert_eq!(sections[1].body, b"p\0q\0");
            assert_eq!(sections[2].argument, "ok");
        }
    }
}
