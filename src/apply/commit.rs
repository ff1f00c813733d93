//! The commit: what its script is told, and what it answers.

use std::collections::HashMap;

use crate::config::Host;
use crate::model::Tree;
use crate::remote::tasks::look::{Listing, StatTuple, seconds_of};
use crate::remote::{Login, Script, ScriptRun, Section, Task, last_line};

use super::explain;
use super::program::{self, Program};
use super::stage::Staging;
use super::worker::{Failure, Worker};

/// Refusal an entry is not done.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// It is no longer as it was when it was looked at.
    Moved,
    /// A folder that was ours holds something of somebody else: it is theirs from now on.
    Spared,
    /// For people.
    Other(String),
}

impl Refusal {
    pub(super) fn other(reason: &str) -> Self {
        Self::Other(reason.to_owned())
    }
}

/// What the new listing is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListingScope {
    /// Everything is looked at.
    All,
    /// Some is looked at, the rest is as in the listing that the host keeps.
    Part,
    /// There is to be none.
    Nothing,
}

impl ListingScope {
    /// As the commit script knows it.
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Part => "part",
            Self::Nothing => "nothing",
        }
    }
}

/// How long a host may work on so many bytes at the very most: two megabytes a second is slow for any disk.
pub(super) fn patience_seconds(bytes: u64) -> u64 {
    600 + bytes / 2_000_000
}

/// What the commit script answered.
pub(super) struct Answer {
    /// Name of the folder that has the backups.
    pub(super) backup: Option<String>,
    /// By step: `None` for done, else why not.
    pub(super) steps: HashMap<usize, Option<Refusal>>,
    /// By step that was taken, when that changed the entry, by the host's clock.
    pub(super) times: HashMap<usize, f64>,
    /// When the first visible step began, by the host's clock.
    pub(super) begun: Option<f64>,
    /// What was looked at for the new listing.
    pub(super) lines: Vec<(StatTuple, Vec<u8>)>,
    /// Whether the rest of it is as it was before.
    pub(super) is_part: bool,
    /// Digest of the new listing.
    pub(super) digest: Option<String>,
}

impl Worker<'_> {
    pub(super) fn commit(
        &self,
        login: &mut Login,
        staging: &Staging,
        program: &Program,
        names: &[u8],
        sums: &[u8],
        recorded_after: &[Tree],
    ) -> Result<Answer, Failure> {
        let (keep, paths) = self.paths_to_list(recorded_after);
        let mut script = Script::new(Task::Commit, self.stall_timeout());
        script
            .path("hs_home", &staging.home)
            .text("hs_run", staging.run_name.as_bytes());
        script.number("hs_bases", staging.bases.len() as u64);
        for (index, base) in staging.bases.iter().enumerate() {
            script.path(&format!("hs_base_{index}"), base);
        }
        script.number("hs_mappings", self.host.mappings.len() as u64);
        for (index, mapping) in self.host.mappings.iter().enumerate() {
            script.path(&format!("hs_root_{index}"), &mapping.dest);
            script.number(&format!("hs_at_{index}"), staging.base_of[index] as u64);
        }
        script.number("hs_serial", self.run.identity.serial);
        script.number(
            "hs_backups",
            u64::from(self.run.request.config.settings.backups),
        );
        script.number("hs_wait", self.run.request.wait_for_host.as_secs());
        let staged_bytes = program.staged.iter().map(program::content_bytes).sum();
        script.number("hs_patience", patience_seconds(staged_bytes));
        let listing = self.trusted_listing().unwrap_or_default();
        script.text("hs_keep", keep.as_str().as_bytes());
        script.text("hs_listing", listing.as_bytes());
        let large = program::large_files(&program.staged);
        let block_bytes = self.run.request.large.block_bytes;
        script.number("hs_block", block_bytes);
        let parts = [program.intent.as_slice(), names, sums, &paths, &large];
        let lengths = ["hs_intent", "hs_staged", "hs_sums", "hs_paths", "hs_large"];
        for (name, part) in lengths.iter().zip(parts) {
            script.number(name, part.len() as u64);
        }
        let mut run = ScriptRun::new(&script, parts.concat());
        let outcome = login.run(&script, &mut run)?;
        if !run.has_ended() {
            let said = last_line(&outcome.stderr);
            return Err(Failure::failed(format!(
                "the host did not answer to the end{}{said}; what it has done will be found by the \
                 next plan",
                if said.is_empty() { "" } else { ": " }
            )));
        }
        read_answer(self.host, &run, &outcome.stderr)
    }

    /// The kept listing that the plan was made with, when nothing but our own steps can have changed
    /// what it lists since.
    pub(super) fn trusted_listing(&self) -> Option<&str> {
        let is_kept = matches!(self.prepared.look.listing, Listing::Same | Listing::Moved);
        self.prepared
            .record
            .as_ref()?
            .listing
            .as_deref()
            .filter(|_| is_kept)
    }
}

fn read_answer(host: &Host, run: &ScriptRun, stderr: &[u8]) -> Result<Answer, Failure> {
    let sections = run.sections();
    let section = |name: &str| sections.iter().find(|section| section.name == name);
    if let Some(fail) = section("fail") {
        return Err(Failure::failed(explain::with_cure(&last_line(fail.body))));
    }
    if let Some(names) = section("unverified") {
        let names: Vec<String> = names
            .lines()
            .map(|line| explain::destination(host, line))
            .collect();
        return Err(Failure::failed(format!(
            "what arrived is not what was sent ({}); nothing was changed, run the same command again",
            names.join(", ")
        )));
    }
    if let Some(locked) = section("locked") {
        return Err(Failure::failed(format!(
            "another run is committing on this host (process {} there); nothing was changed, run the \
             same command again when that has ended",
            last_line(locked.body)
        )));
    }
    if section("end").map(|end| end.argument) != Some("ok") {
        return Err(Failure::failed(format!(
            "the commit ended early: {}",
            last_line(stderr)
        )));
    }
    let (mut steps, mut times, mut begun) = (HashMap::new(), HashMap::new(), None);
    for line in section("steps").into_iter().flat_map(Section::lines) {
        let line = String::from_utf8_lossy(line);
        let mut words = line.splitn(3, ' ');
        let (what, number) = (words.next(), words.next());
        let number: Option<usize> = number.and_then(|number| number.parse().ok());
        let rest = words.next();
        match (what, number) {
            (Some("begun"), None) => begun = rest.and_then(seconds_of),
            (Some("done"), Some(number)) => {
                steps.insert(number, None);
                times.extend(rest.and_then(seconds_of).map(|time| (number, time)));
            }
            (Some("moved"), Some(number)) => _ = steps.insert(number, Some(Refusal::Moved)),
            (Some("spared"), Some(number)) => _ = steps.insert(number, Some(Refusal::Spared)),
            (Some("refused"), Some(number)) => {
                let reason = rest.unwrap_or("the host gave no reason");
                steps.insert(number, Some(Refusal::other(reason)));
            }
            _ => tracing::debug!("step: {line}"),
        }
    }
    let backup = section("steps").map(|steps| steps.argument.to_owned());
    let mut answer = Answer {
        backup: backup.filter(|name| !name.is_empty()),
        steps,
        times,
        begun,
        lines: Vec::new(),
        is_part: false,
        digest: section("digest").map(|digest| last_line(digest.body)),
    };
    if let Some(listing) = section("listing") {
        answer.is_part = listing.argument == ListingScope::Part.as_str();
        answer.lines = listing.lines().filter_map(stat_line).collect();
    }
    Ok(answer)
}

fn stat_line(line: &[u8]) -> Option<(StatTuple, Vec<u8>)> {
    StatTuple::from_line(line).map(|(stat, path)| (stat, path.to_vec()))
}
