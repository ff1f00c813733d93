//! The steps of the tour, in the order in which they are shown.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::AS_HOSTSYNC;
use super::changes::{self, Change};
use super::scene::Scene;

const COMMAND: Style = Style::new().bold();
const HEADING: Style = AnsiColor::Cyan.on_default().bold();

/// What was asked for on the command line.
pub(crate) struct Options {
    /// How many hosts.
    pub(crate) hosts: u8,
    /// Whether they stay until Ctrl-C.
    pub(crate) keep: bool,
}

/// Why the tour ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TourError {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Something did not happen as it was told.
    #[error("{what}\nThe folder is left for a look: {}", folder.display())]
    Unexpected {
        /// What was expected, and what happened.
        what: String,
        /// The work folder.
        folder: PathBuf,
    },
    /// The machine did not play along.
    #[error(transparent)]
    Io(#[from] io::Error),
}

type Result<T = ()> = std::result::Result<T, TourError>;

/// Gives the tour.
pub(crate) fn run(options: &Options) -> Result {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut tour = Tour {
        scene: Scene::set_up(options.hosts)?,
        screen: anstream::stdout(),
        interrupted,
    };
    tour.introduce()?;
    tour.trust()?;
    tour.first_apply()?;
    tour.edit_a_file()?;
    tour.change_a_host_by_hand()?;
    tour.resolve_the_conflict()?;
    tour.say_goodbye(options.keep)
}

struct Tour {
    scene: Scene,
    screen: AutoStream<io::Stdout>,
    interrupted: Arc<AtomicBool>,
}

impl Tour {
    fn introduce(&mut self) -> Result {
        let (count, folder) = (self.scene.hosts.len(), self.scene.folder().to_owned());
        self.say(&format!(
            "{count} SSH hosts are running inside this process, each with a home folder of\n\
             its own. The configuration for them is in\n{}:",
            folder.display()
        ))?;
        self.show_file("config.ini")?;
        let mapper = format!("path_mapper/{}.json", self.scene.hosts[0].name);
        self.say("What goes where is a list for every host:")?;
        self.show_file(&mapper)
    }

    fn trust(&mut self) -> Result {
        self.say(
            "A host key is never accepted silently. These are the fingerprints, as the\n\
             hosts themselves announce them:",
        )?;
        for host in &self.scene.hosts {
            writeln!(self.screen, "{}  {}", host.name, host.server.fingerprint())?;
        }
        self.say("trust asks the hosts and records what they say. Compare, then:")?;
        self.hostsync(&["trust", "--yes"], 0)?;
        let recorded = fs::read_to_string(self.scene.path("known_hosts"))?;
        for host in &self.scene.hosts {
            if !recorded.contains(&host.server.public_key()) {
                let what = format!("the key of {} is not in known_hosts", host.name);
                return self.unexpected(what);
            }
        }
        Ok(())
    }

    fn first_apply(&mut self) -> Result {
        self.say("A plan shows what would change, and changes nothing:")?;
        self.hostsync(&["plan"], 0)?;
        let planned = self.planned_changes()?;
        let conflicts = planned.iter().filter(|change| change.conflict).count();
        for host in &self.scene.hosts {
            if !planned.iter().any(|change| change.host == host.name) {
                let what = format!("expected changes on {}, found none", host.name);
                return self.unexpected(what);
            }
        }
        if conflicts > 0 {
            return self.unexpected(format!("expected no conflict, found {conflicts}"));
        }

        self.say(
            "apply plans, shows it, asks and does it. Here nobody is asked, since nothing\n\
             would be lost:",
        )?;
        self.hostsync(&["apply", "--auto-approve"], 0)?;
        self.expect_hosts_agree()?;
        self.say("Done is done. The next plan is empty:")?;
        self.hostsync(&["plan"], 0)?;
        self.expect_plan(&[])
    }

    fn edit_a_file(&mut self) -> Result {
        self.say("Now one line of one file is edited:")?;
        self.append(
            &self.scene.path("site/index.html"),
            "<p>Rolls from five.</p>\n",
            "site/index.html",
        )?;
        self.say("Hosts with the same changes are shown once:")?;
        self.hostsync(&["plan"], 0)?;
        self.expect_plan(&self.edited_index())
    }

    fn change_a_host_by_hand(&mut self) -> Result {
        let name = self.scene.hosts[1].name.clone();
        self.say(&format!("Meanwhile, somebody helps out on {name}:"))?;
        let motd = self.scene.hosts[1].server.home().join("motd.txt");
        self.append(&motd, "back at noon, Joe\n", &format!("{name}:~/motd.txt"))?;
        self.say("The plan tells that drift from the change that was asked for:")?;
        self.hostsync(&["plan"], 0)?;
        let mut expected = self.edited_index();
        expected.push(self.drifted_motd());
        self.expect_plan(&expected)?;

        self.say(
            "Nobody has reviewed the loss of that line. So apply leaves this host alone,\n\
             does the others and ends with exit code 4:",
        )?;
        self.hostsync(&["apply", "--auto-approve"], 4)?;
        let drifted = &self.scene.hosts[1];
        if !fs::read_to_string(&motd)?.contains("Joe") {
            return self.unexpected(format!("the changed file on {name} was overwritten"));
        }
        if self.scene.difference(drifted)?.is_none() {
            return self.unexpected(format!("{name} was not left alone"));
        }
        for (index, host) in self.scene.hosts.iter().enumerate() {
            if index != 1
                && let Some(difference) = self.scene.difference(host)?
            {
                return self.unexpected(difference);
            }
        }
        Ok(())
    }

    fn resolve_the_conflict(&mut self) -> Result {
        self.say("Once it is clear that the line may go, that is what to say:")?;
        self.hostsync(
            &["apply", "--auto-approve", "--on-conflict", "overwrite"],
            0,
        )?;
        self.expect_hosts_agree()?;
        self.say("And again there is nothing left to do:")?;
        self.hostsync(&["plan"], 0)?;
        self.expect_plan(&[])
    }

    fn say_goodbye(&mut self, keep: bool) -> Result {
        if !keep {
            return self.say(
                "That was the tour; its folder and its hosts are gone. To go on:\n\
                 \n\
                 \x20 run it again with -- --keep   and play with the hosts yourself\n\
                 \x20 cargo install --path .        install hostsync\n\
                 \x20 hostsync --help               all commands\n\
                 \x20 examples/README.md            the files of the tour, explained",
            );
        }
        self.scene.keep_folder();
        let folder = self.scene.folder().to_owned();
        let config = quoted(&folder.join("config.ini"));
        let file = quoted(&folder.join("site/index.html"));
        let home = quoted(self.scene.hosts[0].server.home());
        self.say("The hosts run until Ctrl-C. In another terminal, in this checkout:")?;
        writeln!(
            self.screen,
            "\n\
             echo '<p>More.</p>' >> {file}\n\
             cargo run --release -- --config {config} plan\n\
             cargo run --release -- --config {config} apply\n\
             ls -la {home}"
        )?;
        while !self.interrupted.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
        self.say(&format!(
            "The hosts are stopped. Their folder stays: rm -r {}",
            quoted(&folder)
        ))
    }

    /// The edited file, as a change on every host.
    fn edited_index(&self) -> Vec<Change> {
        let hosts = self.scene.hosts.iter();
        hosts
            .map(|host| Change {
                host: host.name.clone(),
                source: "site".to_owned(),
                path: "index.html".to_owned(),
                drift: false,
                conflict: false,
            })
            .collect()
    }

    fn drifted_motd(&self) -> Change {
        Change {
            host: self.scene.hosts[1].name.clone(),
            source: "motd.txt".to_owned(),
            path: String::new(),
            drift: true,
            conflict: true,
        }
    }

    fn expect_hosts_agree(&mut self) -> Result {
        for host in &self.scene.hosts {
            if let Some(difference) = self.scene.difference(host)? {
                return self.unexpected(difference);
            }
        }
        Ok(())
    }

    fn expect_plan(&mut self, expected: &[Change]) -> Result {
        let planned = self.planned_changes()?;
        let expected: BTreeSet<Change> = expected.iter().cloned().collect();
        if planned == expected {
            return Ok(());
        }
        let missing: Vec<_> = expected.difference(&planned).collect();
        let surplus: Vec<_> = planned.difference(&expected).collect();
        self.unexpected(format!(
            "the plan is not as told\nmissing in it: {missing:?}\nsurplus in it: {surplus:?}"
        ))
    }

    /// Plans once more, without showing it, in the form that programs read.
    fn planned_changes(&mut self) -> Result<BTreeSet<Change>> {
        let args = ["plan", "--format", "json", "--detailed-exitcode"];
        let Output { status, stdout, .. } = self
            .command(&args)?
            .stderr(Stdio::inherit())
            .stdin(Stdio::null())
            .output()?;
        self.stop_if_interrupted()?;
        let planned = match changes::read(&stdout) {
            Ok(planned) => planned,
            Err(error) => return self.unexpected(format!("the plan is not readable: {error}")),
        };
        let expected = if planned.is_empty() { 0 } else { 2 };
        if status.code() != Some(expected) {
            return self.unexpected(format!(
                "`hostsync {}` should end with {expected} and ended with {status}",
                args.join(" ")
            ));
        }
        Ok(planned)
    }

    /// Runs hostsync, shows what was typed and what came, and checks how it ended.
    fn hostsync(&mut self, args: &[&str], expected: i32) -> Result {
        let typed = format!("hostsync {}", args.join(" "));
        writeln!(self.screen, "{COMMAND}$ {typed}{COMMAND:#}")?;
        // One pipe for both streams keeps their lines in order.
        let (mut output, stdout) = io::pipe()?;
        let stderr = stdout.try_clone()?;
        // The command keeps copies of the pipe's writing end, so it must go before the output ends.
        let mut child = {
            let mut command = self.command(args)?;
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
            command.spawn()?
        };
        let mut buffer = [0; 8192];
        loop {
            let count = output.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            self.screen.write_all(&buffer[..count])?;
            self.screen.flush()?;
        }
        let status = child.wait()?;
        self.stop_if_interrupted()?;
        if status.code() == Some(expected) {
            return Ok(());
        }
        self.unexpected(format!(
            "`{typed}` should end with {expected} and ended with {status}"
        ))
    }

    /// hostsync itself: this executable under another name.
    fn command(&self, args: &[&str]) -> Result<Command> {
        let color = match AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => "never",
            ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => "always",
        };
        let mut command = Command::new(env::current_exe()?);
        command
            .args([AS_HOSTSYNC, "--color", color, "--progress", "none"])
            .args(args)
            .current_dir(self.scene.folder())
            // Nothing that belongs to whoever takes the tour may change how it goes.
            .env("HOME", self.scene.folder())
            .env_remove("SSH_AUTH_SOCK");
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("HOSTSYNC_") {
                command.env_remove(name);
            }
        }
        Ok(command)
    }

    /// Appends to a file, and shows it as if it had been typed.
    fn append(&mut self, file: &Path, text: &str, shown: &str) -> Result {
        let line = text.trim_end();
        writeln!(
            self.screen,
            "{COMMAND}$ echo '{line}' >> {shown}{COMMAND:#}"
        )?;
        let mut file = OpenOptions::new().append(true).open(file)?;
        Ok(file.write_all(text.as_bytes())?)
    }

    fn show_file(&mut self, name: &str) -> Result {
        let text = fs::read_to_string(self.scene.path(name))?;
        writeln!(self.screen, "{COMMAND}$ cat {name}{COMMAND:#}")?;
        Ok(self.screen.write_all(text.as_bytes())?)
    }

    fn say(&mut self, text: &str) -> Result {
        writeln!(self.screen)?;
        for line in text.lines() {
            writeln!(self.screen, "{HEADING}{line}{HEADING:#}")?;
        }
        Ok(())
    }

    fn stop_if_interrupted(&self) -> Result {
        if self.interrupted.load(Ordering::Relaxed) {
            Err(TourError::Interrupted)
        } else {
            Ok(())
        }
    }

    fn unexpected<T>(&mut self, what: String) -> Result<T> {
        self.scene.keep_folder();
        Err(TourError::Unexpected {
            what,
            folder: self.scene.folder().to_owned(),
        })
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
