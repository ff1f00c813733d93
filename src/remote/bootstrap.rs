//! A program with its variables, and the command line that starts it.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use super::limits::Work;
use super::nonce::Nonce;
use super::task::{AGENT, COMMON, Task};
use crate::model::RemotePath;

/// A task with its variables.
#[derive(Clone, Debug)]
pub struct Script {
    nonce: Nonce,
    task: Task,
    variables: Vec<(String, Vec<u8>)>,
    stall_timeout: Duration,
    /// How long the host gives signs of life at the very most.
    patience: Duration,
    /// What it may wait for somebody else.
    wait: Duration,
}

impl Script {
    /// A script without further variables. `stall_timeout` is what its signs of life have to beat.
    pub fn new(task: Task, stall_timeout: Duration) -> Self {
        let nonce = Nonce::random();
        let pulse = (stall_timeout.as_secs() / 4).clamp(1, 5);
        let mut script = Self {
            nonce: nonce.clone(),
            task,
            variables: Vec::new(),
            stall_timeout,
            patience: Work::default().patience(stall_timeout),
            wait: Duration::ZERO,
        };
        script
            .text("hs_nonce", nonce.as_str().as_bytes())
            .number("hs_pulse", pulse);
        script
    }

    /// Marks its answers.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Sets a variable to a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.text(name, value.to_string().as_bytes())
    }

    /// Sets a variable to a path.
    pub fn path(&mut self, name: &str, value: &RemotePath) -> &mut Self {
        self.text(name, value.as_bytes())
    }

    /// Names the mappings below folders that others may change.
    pub(super) fn trust(&mut self, mappings: &[usize]) -> &mut Self {
        for index in mappings {
            self.number(&format!("hs_trust_{index}"), 1);
        }
        self
    }

    /// Says what there is to do, which is what the host has time for.
    pub(super) fn work(&mut self, work: Work) -> &mut Self {
        self.patience = work.patience(self.stall_timeout);
        self
    }

    /// Lets the host wait for somebody else beside its work.
    pub(super) fn wait(&mut self, wait: Duration) -> &mut Self {
        self.wait = wait;
        self.number("hs_wait", wait.as_secs())
    }

    /// How long the host gives signs of life at the very most, without what it waits for.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// How long it may take at the very most, without what goes over the line. The host itself falls silent
    /// somewhat earlier.
    pub(super) fn time_limit(&self) -> Duration {
        let patience = self.patience.saturating_add(self.wait);
        patience.saturating_add(self.stall_timeout)
    }

    /// All variables but code.
    fn all_variables(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let patience = self.patience.as_secs().to_string();
        let patience = ("hs_patience".to_owned(), patience.into_bytes());
        self.variables.iter().cloned().chain([patience])
    }

    /// Sets a variable to any bytes but NUL. They must not end with a newline.
    pub fn text(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.variables.push((name.to_owned(), value.to_vec()));
        self
    }

    /// The command line that starts it.
    ///
    /// No newline, `!` or backslash, since tcsh and fish would change these; well below the 9,000
    /// bytes that dropbear takes. perl is given the agent first; `sh` has the script if there is no
    /// perl, or if it lacks a module, which it says before it has read anything. What changes perl for
    /// other programs of the login is taken away. A perl that has
    /// begun ends with 0 or by a signal, and leaves nothing for `sh` to do. Perl's `$;` is the one
    /// variable of it that `sh` does not take for one of its own.
    pub fn command(&self) -> String {
        let shell_text = self.shell_text();
        let agent = agent_text().len();
        let request = self.request_before(shell_text.len()).len();
        let script = shell_text.len();
        format!(
            "exec /bin/sh -c 'LC_ALL=C TZ=UTC0; export LC_ALL TZ; \
             unset PERL5OPT PERL5LIB PERLLIB PERL_UNICODE; \
             perl -MTime::HiRes -MFcntl -MErrno -e \"$;=q();1while length($;)<{agent}&&sysread STDIN,$;,\
             {agent}-length$;,length$;;eval$;;warn\"; \
             case $? in 0|129|1[3-9]?|2[0-4]?) exit;; esac; \
             take() {{ s=; while [ ${{#s}} -lt $1 ]; do \
             p=$(dd bs=$(($1-${{#s}})) count=1 2>/dev/null; echo x); \
             [ \"$p\" = x ] && exit 97; s=$s${{p%x}}; done; }}; \
             take {agent}; take {request}; take {script}; eval \"$s\"'"
        )
    }

    /// What standard input of the command begins with: the agent, its request, and the script of
    /// `sh`. ASCII, so that every shell counts it alike.
    pub fn to_bytes(&self) -> Vec<u8> {
        let shell_text = self.shell_text();
        let request = self.request_before(shell_text.len());
        [agent_text(), &request, &shell_text].concat().into_bytes()
    }

    /// What an agent that waits is sent.
    pub fn request(&self) -> Vec<u8> {
        self.request_before(0).into_bytes()
    }

    /// The request of an agent that is to skip so many bytes behind it: the task, then a line for
    /// each variable, and an empty one. Bytes that are not plain are `%` and two digits.
    fn request_before(&self, skipped: usize) -> String {
        let mut request = format!("{} {skipped}\n", self.task.name());
        let parts = self.task.agent_parts();
        let code = (!parts.is_empty())
            .then(|| ("hs_code".to_owned(), without_comments(parts).into_bytes()));
        for (name, value) in self.all_variables().chain(code) {
            let _ = write!(request, "{name}=");
            for byte in value {
                if matches!(byte, b' '..=b'~') && byte != b'%' {
                    request.push(char::from(byte));
                } else {
                    let _ = write!(request, "%{byte:02x}");
                }
            }
            request.push('\n');
        }
        request.push('\n');
        request
    }

    /// The script of `sh`, with its variables.
    fn shell_text(&self) -> String {
        let mut variables = String::new();
        for (name, value) in self.all_variables() {
            let _ = writeln!(variables, "{name}={}", quoted(&value));
        }
        [variables.as_str(), COMMON, self.task.script()].concat()
    }
}

fn agent_text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| without_comments(AGENT) + "serve();\n")
}

/// A program of perl without what only its readers need.
fn without_comments(parts: &[&str]) -> String {
    let lines = parts.iter().flat_map(|part| part.lines()).map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_survives_every_login_shell() {
        let command = Script::new(Task::Commit, Duration::from_mins(1)).command();
        assert!(command.starts_with("exec /bin/sh -c '"));
        assert!(!command.contains(['\n', '!', '\\']));
        assert!(command.len() < 1000);
        assert_eq!(command.matches('\'').count(), 2);
    }

    #[test]
    fn agent_compiles() {
        let parts = Task::ALL.iter().flat_map(|task| task.agent_parts());
        let parts: std::collections::BTreeSet<&str> = parts.copied().collect();
        let parts: Vec<&str> = parts.into_iter().collect();
        let output = std::process::Command::new("perl")
            .args(["-MTime::HiRes", "-MFcntl", "-MErrno", "-ce"])
            .arg(agent_text().to_owned() + &without_comments(&parts))
            .output()
            .expect("there is perl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "-e syntax OK\n");
    }

    #[test]
    fn programs_are_ascii_whatever_the_paths_are() {
        for task in Task::ALL {
            let mut script = Script::new(task, Duration::from_mins(1));
            script.text("hs_a", b"it's \xff\xc3\xa9");
            assert!(script.to_bytes().is_ascii(), "{task:?}");
        }
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
}
