//! The scripts that run on hosts, and how they get there.
//!
//! Hosts have nothing installed, and the login shell may be any. So the command line is one short
//! line that every shell passes on unchanged: it starts `/bin/sh`, which reads the script from
//! standard input, by length, and runs it. What the script works on follows on standard input.
//!
//! The scripts are the files beside this one; each is preceded by `common.sh` and by the variables
//! that the controller sets. They answer in [sections](Section).

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use crate::model::RemotePath;
use crate::transport::{Aborted, ExecIo, Flow, Input};

const COMMON: &str = include_str!("common.sh");
const SCAN: &str = include_str!("scan.sh");
const UPLOAD: &str = include_str!("upload.sh");
const COMMIT: &str = include_str!("commit.sh");
const STEPS: &str = include_str!("steps.pl");

/// How much a login shell may print before the answer begins.
const NOISE_BYTES: usize = 256 * 1024;

/// How long an answer may be. A listing of a million entries is a fifth of that.
const ANSWER_BYTES: usize = 1024 * 1024 * 1024;

/// Random text that marks the answers of one command, so that nothing else can be taken for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// A new one: 128 bits from the system.
    ///
    /// # Panics
    /// When the system has no randomness, which no supported system lets happen.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has randomness");
        Self(bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// The text: 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `scan.sh`: look, change nothing.
    Scan,
    /// `upload.sh`: receive into staging.
    Upload,
    /// `commit.sh`: verify and move into place.
    Commit,
}

/// A script with its variables.
#[derive(Clone, Debug)]
pub struct Script {
    nonce: Nonce,
    program: Program,
    variables: String,
}

impl Script {
    /// A script without further variables. `stall_timeout` is what its signs of life have to beat.
    pub fn new(program: Program, stall_timeout: Duration) -> Self {
        let nonce = Nonce::random();
        let pulse = (stall_timeout.as_secs() / 4).clamp(1, 5);
        let variables = format!("hs_nonce={nonce}\nhs_pulse={pulse}\n");
        let mut script = Self {
            nonce,
            program,
            variables,
        };
        if program == Program::Commit {
            script.text("hs_steps_pl", STEPS.trim_end().as_bytes());
        }
        script
    }

    /// Marks its answers.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Sets a variable to a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        let _ = writeln!(self.variables, "{name}={value}");
        self
    }

    /// Sets a variable to a path.
    pub fn path(&mut self, name: &str, value: &RemotePath) -> &mut Self {
        self.text(name, value.as_bytes())
    }

    /// Sets a variable to any bytes but NUL. They must not end with a newline.
    pub fn text(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let _ = writeln!(self.variables, "{name}={}", quoted(value));
        self
    }

    /// The command line that starts it.
    ///
    /// No newline, `!` or backslash, since tcsh and fish would change these; well below the 9,000
    /// bytes that dropbear takes.
    pub fn command(&self) -> String {
        let length = self.to_bytes().len();
        format!(
            "exec /bin/sh -c 'LC_ALL=C TZ=UTC0; export LC_ALL TZ; n={length} s=; \
             while [ ${{#s}} -lt $n ]; do \
             p=$(dd bs=$((n-${{#s}})) count=1 2>/dev/null; echo x); \
             [ \"$p\" = x ] && exit 97; s=$s${{p%x}}; done; eval \"$s\"'"
        )
    }

    /// What standard input begins with: the script itself. ASCII, so that every shell counts it alike.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = match self.program {
            Program::Scan => SCAN,
            Program::Upload => UPLOAD,
            Program::Commit => COMMIT,
        };
        [self.variables.as_str(), COMMON, body]
            .concat()
            .into_bytes()
    }
}

/// Bytes as a word of the shell, in ASCII.
fn quoted(value: &[u8]) -> String {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n') && *byte != b'\'';
    if value.iter().all(plain) {
        return format!("'{}'", String::from_utf8_lossy(value));
    }
    let octal = value.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:03o}");
        text
    });
    format!("$(printf '{octal}')")
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// The word that names it.
    pub name: &'a str,
    /// What follows the name on its line.
    pub argument: &'a str,
    /// Everything up to the next section.
    pub body: &'a [u8],
}

impl<'a> Section<'a> {
    /// The lines of the body, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        self.body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
    }
}

/// Runs a [`Script`]: sends it and its data, and gathers the answer until its end.
#[derive(Debug)]
pub struct ScriptRun {
    input: Vec<u8>,
    sent_to: usize,
    marker: Vec<u8>,
    output: Vec<u8>,
    searched_to: usize,
    has_begun: bool,
    ended: bool,
}

impl ScriptRun {
    /// Sends `script`, then `data`, then the end of input.
    pub fn new(script: &Script, data: &[u8]) -> Self {
        let mut input = script.to_bytes();
        input.extend_from_slice(data);
        Self {
            input,
            sent_to: 0,
            marker: format!("HOSTSYNC {} ", script.nonce()).into_bytes(),
            output: Vec::new(),
            searched_to: 0,
            has_begun: false,
            ended: false,
        }
    }

    /// Whether the script came to its end.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The sections of the answer so far; what was printed before the first one is skipped.
    pub fn sections(&self) -> Vec<Section<'_>> {
        let mut sections = Vec::new();
        let mut at = find(&self.output, &self.marker);
        while let Some(start) = at {
            let head = start + self.marker.len();
            let Some(line) = self.output[head..].iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let title = std::str::from_utf8(&self.output[head..head + line]).unwrap_or_default();
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

    /// What came instead of an answer, for people: the last printable line, shortened.
    pub fn noise(&self) -> String {
        last_line(&self.output)
    }

    fn look_for_the_end(&mut self) {
        let end = [self.marker.as_slice(), b"end "].concat();
        let from = self.searched_to.saturating_sub(end.len());
        if let Some(at) = find(&self.output[from..], &end) {
            self.ended = self.output[from + at..].contains(&b'\n');
            self.searched_to = from + at;
        } else {
            self.searched_to = self.output.len();
        }
    }
}

impl ExecIo for ScriptRun {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        const CHUNK: usize = 128 * 1024;
        let rest = &self.input[self.sent_to..];
        if rest.is_empty() {
            return Ok(Input::End);
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
        Ok(if self.ended {
            Flow::Leave
        } else {
            Flow::Continue
        })
    }
}

/// The last line of some output that holds anything, for people: without control characters and at
/// most 200 characters long.
pub fn last_line(output: &[u8]) -> String {
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
    use super::*;

    #[test]
    fn command_line_survives_every_login_shell() {
        let command = Script::new(Program::Commit, Duration::from_mins(1)).command();
        assert!(command.starts_with("exec /bin/sh -c '"));
        assert!(!command.contains(['\n', '!', '\\']));
        assert!(command.len() < 1000);
        assert_eq!(command.matches('\'').count(), 2);
    }

    #[test]
    fn scripts_are_ascii_whatever_the_paths_are() {
        for program in [Program::Scan, Program::Upload, Program::Commit] {
            let mut script = Script::new(program, Duration::from_mins(1));
            script.text("hs_a", b"it's \xff\xc3\xa9");
            assert!(script.to_bytes().is_ascii(), "{program:?}");
        }
    }

    #[test]
    fn steps_in_perl_are_one_plain_word_of_the_shell() {
        assert!(!STEPS.contains('\''));
    }

    #[test]
    fn quoted_bytes_arrive_in_the_shell() {
        for value in [
            &b"plain"[..],
            b"it's",
            b"a $b `c` \"d\" \\e",
            b"\xff\x01\n.",
            b"",
        ] {
            let command = format!("x={}; printf %s \"$x\"", quoted(value));
            let output = std::process::Command::new("sh")
                .args(["-c", &command])
                .output();
            assert_eq!(output.expect("sh runs").stdout, value);
        }
    }

    #[test]
    fn sections_are_found_in_noise_and_in_pieces() {
        let script = Script::new(Program::Scan, Duration::from_mins(1));
        let nonce = script.nonce().clone();
        let text = format!(
            "welcome\nHOSTSYNC fake end ok\nHOSTSYNC {nonce} one a b\nx\ny\nHOSTSYNC {nonce} two\n\
             p\0q\0HOSTSYNC {nonce} end ok\n"
        );
        let mut run = ScriptRun::new(&script, b"");
        for (index, byte) in text.as_bytes().iter().enumerate() {
            let flow = run.output(&[*byte]).expect("no reason to stop");
            assert_eq!(flow == Flow::Leave, index + 1 == text.len(), "at {index}");
        }
        let sections = run.sections();
        assert_eq!(sections.len(), 3);
        assert_eq!((sections[0].name, sections[0].argument), ("one", "a b"));
        assert_eq!(sections[0].lines().collect::<Vec<_>>(), [b"x", b"y"]);
        assert_eq!(sections[1].body, b"p\0q\0");
        assert_eq!(sections[2].argument, "ok");
    }
}
