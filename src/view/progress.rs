//! Progress on standard error: bars in a terminal, now and then a line elsewhere.
//!
//! The only file that knows indicatif. A standard error that is closed or broken costs the display,
//! never the run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::errors::all_lines;
use super::words::{count, duration, escape, escape_text, size};
use crate::model::{Event, HostId, HostOutcome, Observer, Phase, WaitedFor, Work};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// A line for each host at work that changes in place, and one for all. For terminals.
    Bars,
    /// A line when a host is done, and every few seconds one about all.
    Plain,
    /// Not at all.
    None,
}

/// Between two lines about all hosts.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
/// Between two lines about the same hosts that are waited for.
const WAITING_INTERVAL: Duration = Duration::from_secs(30);
/// How many hosts are named that are waited for.
const NAMED: usize = 3;
/// Between two turns of a spinner.
const TICK: Duration = Duration::from_millis(100);

/// How far back a rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// How long bytes must have been sent before a rate says anything: the first ones only fill buffers.
const RATE_FROM: Duration = Duration::from_secs(1);
/// Between two samples of a rate.
const RATE_SAMPLE: Duration = Duration::from_millis(200);

const TOTAL_BYTES: &str = "{spinner} {msg}  {wide_bar}  {sizes}{pace}";
const TOTAL: &str = "{spinner} {msg}";
/// Fits 80 columns whatever the sizes are; so the rate is on the line of all hosts alone.
const HOST_BYTES: &str = "  {prefix:20!}  {msg:10}  {bar:10}  {sizes}";
const HOST: &str = "  {prefix:20!}  {msg}";

/// Shows what happens on standard error until it is finished or dropped.
pub struct Progress {
    display: Option<Mutex<Box<dyn Display>>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("shown", &self.display.is_some())
            .finish()
    }
}

/// Starts showing progress. `terminal_rows` is the height of the terminal, of which bars take a part.
pub fn observer(mode: ProgressMode, terminal_rows: usize) -> Progress {
    match mode {
        ProgressMode::None => Progress { display: None },
        ProgressMode::Plain => Progress::with(Plain::new(io::stderr(), Instant::now())),
        ProgressMode::Bars => Progress::with(Bars::new(ProgressDrawTarget::stderr, terminal_rows)),
    }
}

impl Progress {
    fn with(display: impl Display + 'static) -> Self {
        Self {
            display: Some(Mutex::new(Box::new(display))),
        }
    }

    fn display(&self) -> Option<MutexGuard<'_, Box<dyn Display>>> {
        // What was shown is worth nothing, so a panic elsewhere does not matter here.
        let display = self.display.as_ref()?;
        Some(display.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the bars away while `print` prints, and brings them back. `print` must not emit events.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        let Some(mut display) = self.display() else {
            return print();
        };
        display.hide();
        let result = print();
        display.unhide();
        result
    }

    /// Takes everything away for good.
    pub fn finish(&self) {
        if let Some(mut display) = self.display() {
            display.finish();
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        if let Some(mut display) = self.display() {
            display.event(event, Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// One way of showing.
trait Display: Send {
    fn event(&mut self, event: &Event, now: Instant);
    fn hide(&mut self) {}
    fn unhide(&mut self) {}
    fn finish(&mut self) {}
}

/// How fast bytes go, over the last seconds.
#[derive(Default)]
struct Rate {
    /// How many had been sent when.
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Told how many have been sent by now.
    fn note(&mut self, sent_bytes: u64, now: Instant) {
        let last = self.samples.back();
        if last.is_some_and(|(at, _)| now.duration_since(*at) < RATE_SAMPLE) {
            return;
        }
        self.samples.push_back((now, sent_bytes));
        while let Some((at, _)) = self.samples.front()
            && now.duration_since(*at) > RATE_WINDOW
        {
            self.samples.pop_front();
        }
    }

    /// Bytes in a second; `None` before there is a rate, and when nothing has moved for long.
    fn per_second(&self, sent_bytes: u64, now: Instant) -> Option<u64> {
        let is_recent = |at: &Instant| now.duration_since(*at) <= RATE_WINDOW;
        let (since, before) = self.samples.iter().find(|(at, _)| is_recent(at))?;
        let elapsed = now.duration_since(*since);
        let bytes = u128::from(sent_bytes.saturating_sub(*before));
        let rate = (bytes * 1000).checked_div(elapsed.as_millis())?;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        (elapsed >= RATE_FROM && rate > 0).then_some(rate)
    }
}

/// What is known about all hosts together.
#[derive(Default)]
struct Totals {
    work: Option<Work>,
    hosts: usize,
    ended: usize,
    failed: usize,
    total_bytes: u64,
    sent_bytes: u64,
    rate: Rate,
}

impl Totals {
    fn event(&mut self, event: &Event, now: Instant) {
        match event {
            Event::HostsStarted {
                work,
                hosts,
                total_bytes,
            } => {
                *self = Self {
                    work: Some(*work),
                    hosts: *hosts,
                    total_bytes: *total_bytes,
                    ..Self::default()
                };
            }
            Event::TotalChanged { by_bytes, .. } => {
                self.total_bytes = self.total_bytes.saturating_add_signed(*by_bytes);
            }
            Event::HostPhase {
                phase: Phase::Uploading,
                ..
            } => self.rate.note(self.sent_bytes, now),
            Event::HostProgress { sent_bytes, .. } => {
                self.sent_bytes = self.sent_bytes.saturating_add(*sent_bytes);
                self.rate.note(self.sent_bytes, now);
            }
            Event::HostFinished { outcome, .. } => {
                self.ended += 1;
                self.failed += usize::from(matches!(outcome, HostOutcome::Failed(_)));
            }
            _ => {}
        }
    }

    /// How much was sent, as it is shown: never more than there is.
    fn shown_bytes(&self) -> u64 {
        self.sent_bytes.min(self.total_bytes)
    }

    /// The rate, and the time that is left, while there is a rate.
    fn pace(&self, now: Instant) -> Option<(String, String)> {
        let rate = self.rate.per_second(self.sent_bytes, now)?;
        let open = self.total_bytes.saturating_sub(self.sent_bytes);
        let left = match open.div_ceil(rate) {
            // All is sent, and what comes now takes no time that could be told.
            0 => return None,
            seconds => rounded(Duration::from_secs(seconds)),
        };
        Some((format!("{}/s", size(rate)), format!("{left} left")))
    }

    fn work_in_words(&self) -> &'static str {
        match self.work {
            Some(Work::Applying) => "applied",
            Some(Work::Looking) | None => "looked at",
        }
    }

    fn in_words(&self) -> String {
        let hosts = format!("{} of {}", self.ended, count(self.hosts, "host", "hosts"));
        if self.failed == 0 {
            hosts
        } else {
            format!("{hosts}, {} failed", self.failed)
        }
    }
}

fn phase_in_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Looking => "comparing",
        Phase::Uploading => "sending",
        Phase::Reconnecting => "connection lost, logging in again",
        Phase::Committing => "committing",
    }
}

/// A time of which no part of a second is of interest.
fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        _ => duration(time),
    }
}

/// Names those who are waited for, the most silent ones.
fn waiting_in_words(hosts: &[WaitedFor]) -> String {
    let named = hosts.iter().take(NAMED).map(|host| {
        let name = escape(host.host.as_str().as_bytes());
        let phase = phase_in_words(host.phase);
        format!("{name} ({phase}, silent for {})", rounded(host.silent))
    });
    let mut text = format!("waiting for {}", named.collect::<Vec<_>>().join(", "));
    if let Some(others @ 1..) = hosts.len().checked_sub(NAMED) {
        text = format!("{text} and {}", count(others, "other", "others"));
    }
    text
}

fn scanned(files: u64, total_bytes: u64) -> String {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    format!("{}, {}", count(files, "file", "files"), size(total_bytes))
}

/// Lines for logs of CI jobs.
struct Plain<W> {
    out: W,
    totals: Totals,
    last_line: Instant,
    /// Who was named last as being waited for, and when.
    waiting: Option<(Instant, BTreeSet<HostId>)>,
}

impl<W: Write> Plain<W> {
    fn new(out: W, now: Instant) -> Self {
        Self {
            out,
            totals: Totals::default(),
            last_line: now,
            waiting: None,
        }
    }

    /// Says for whom the run waits, where that is news or was said long ago.
    fn wait(&mut self, hosts: &[WaitedFor], now: Instant) {
        let is_known = self.waiting.as_ref().is_some_and(|(said_at, named)| {
            now.duration_since(*said_at) < WAITING_INTERVAL
                && hosts.iter().all(|host| named.contains(&host.host))
        });
        if !hosts.is_empty() && !is_known {
            self.line(&waiting_in_words(hosts), now);
            let named = hosts.iter().map(|host| host.host.clone());
            self.waiting = Some((now, named.collect()));
        }
    }

    fn line(&mut self, text: &str, now: Instant) {
        self.last_line = now;
        // Nobody is there to be told that standard error is gone.
        let _ = writeln!(self.out, "{text}");
    }

    fn totals_line(&self, now: Instant) -> String {
        let totals = &self.totals;
        let mut text = format!("{}: {}", totals.work_in_words(), totals.in_words());
        if totals.total_bytes > 0 {
            let sent = size(totals.shown_bytes());
            text = format!("{text}, {sent} of {} sent", size(totals.total_bytes));
        }
        if let Some((rate, left)) = totals.pace(now) {
            text = format!("{text} ({rate}, {left})");
        }
        text
    }
}

impl<W: Write + Send> Display for Plain<W> {
    fn event(&mut self, event: &Event, now: Instant) {
        self.totals.event(event, now);
        match event {
            Event::LocalScanFinished {
                files,
                total_bytes,
                elapsed,
                ..
            } => {
                let sources = scanned(*files, *total_bytes);
                let elapsed = duration(*elapsed);
                self.line(&format!("sources: {sources}, read in {elapsed}"), now);
            }
            Event::HostsStarted { .. } => self.last_line = now,
            Event::Waiting { hosts } => self.wait(hosts, now),
            Event::HostPhase {
                host,
                phase: phase @ Phase::Reconnecting,
                ..
            } => {
                let host = escape(host.as_str().as_bytes());
                self.line(&format!("{host}: {}", phase_in_words(*phase)), now);
            }
            Event::HostFinished { host, outcome } => {
                let place = format!("[{}/{}]", self.totals.ended, self.totals.hosts);
                let host = escape(host.as_str().as_bytes());
                let outcome = match outcome {
                    HostOutcome::Done => self.totals.work_in_words().to_owned(),
                    HostOutcome::DoneExcept(what) => {
                        let work = self.totals.work_in_words();
                        format!("{work}, but {}", escape_text(what))
                    }
                    HostOutcome::Failed(why) => format!("failed: {}", all_lines(why)),
                    HostOutcome::LeftAlone(why) => format!("left alone: {}", all_lines(why)),
                };
                self.line(&format!("{place} {host}: {outcome}"), now);
            }
            Event::HostPhase { .. } | Event::HostProgress { .. }
                if now.duration_since(self.last_line) >= PLAIN_INTERVAL =>
            {
                let text = self.totals_line(now);
                self.line(&text, now);
            }
            _ => {}
        }
    }
}

/// What is known about a host at work.
struct ActiveHost {
    phase: Phase,
    total_bytes: u64,
    sent_bytes: u64,
    /// How long nothing has come of it, once that is worth a word.
    silent: Option<Duration>,
    /// `None` while the terminal has no room.
    bar: Option<ProgressBar>,
}

/// Bars that change in place.
struct Bars {
    multi: MultiProgress,
    target: fn() -> ProgressDrawTarget,
    /// Bars of hosts that there is room for.
    rows: usize,
    total: Option<ProgressBar>,
    /// Also read when the line about all hosts is drawn, so never locked while a bar is changed.
    totals: Arc<Mutex<Totals>>,
    hosts: BTreeMap<HostId, ActiveHost>,
}

impl Bars {
    fn new(target: fn() -> ProgressDrawTarget, terminal_rows: usize) -> Self {
        Self {
            multi: MultiProgress::with_draw_target(target()),
            target,
            // One row for all hosts together, and one for the cursor.
            rows: terminal_rows.saturating_sub(2),
            total: None,
            totals: Arc::default(),
            hosts: BTreeMap::new(),
        }
    }

    /// Takes a look at what is known about all hosts.
    fn totals<R>(&self, look: impl FnOnce(&mut Totals) -> R) -> R {
        look(&mut lock(&self.totals))
    }

    /// Replaces the line below all others.
    fn start_total(&mut self, text: String) {
        self.take_away();
        let bar = self.multi.add(ProgressBar::new(0));
        bar.set_style(style(TOTAL));
        bar.set_message(text);
        bar.enable_steady_tick(TICK);
        self.total = Some(bar);
    }

    fn take_away(&mut self) {
        for bar in self.hosts.values_mut().filter_map(|host| host.bar.take()) {
            self.multi.remove(&bar);
        }
        if let Some(bar) = self.total.take() {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        self.hosts.clear();
    }

    /// Brings the line about all hosts up to date after the total has changed.
    fn resize_total(&self) {
        let Some(total) = &self.total else { return };
        let (shown_bytes, total_bytes) =
            self.totals(|totals| (totals.shown_bytes(), totals.total_bytes));
        total.set_style(if total_bytes > 0 {
            let totals = Arc::clone(&self.totals);
            let pace = move |_: &ProgressState, out: &mut dyn fmt::Write| {
                if let Some((rate, left)) = lock(&totals).pace(Instant::now()) {
                    // A buffer in memory.
                    let _ = write!(out, "  {rate}  {left}");
                }
            };
            style(TOTAL_BYTES).with_key("pace", pace)
        } else {
            style(TOTAL)
        });
        total.set_length(total_bytes);
        total.set_position(shown_bytes);
    }

    fn say(&self, text: String) {
        if let Some(total) = &self.total {
            total.set_message(text);
        }
    }

    /// Shows for whom the run waits, and for whom no longer.
    fn wait(&mut self, waited_for: &[WaitedFor]) {
        if self.total.is_none() {
            if waited_for.is_empty() {
                return;
            }
            self.start_total(String::new());
        }
        let silent: BTreeMap<&HostId, Duration> =
            waited_for.iter().map(|it| (&it.host, it.silent)).collect();
        let is_changed =
            |id: &HostId, host: &ActiveHost| host.silent.is_some() || silent.contains_key(id);
        let changed: Vec<HostId> = self
            .hosts
            .iter()
            .filter(|(id, host)| is_changed(id, host))
            .map(|(id, _)| id.clone())
            .collect();
        for id in changed {
            if let Some(host) = self.hosts.get_mut(&id) {
                host.silent = silent.get(&id).copied();
            }
            self.show(&id);
        }
        let hosts = self.totals(|totals| totals.work.map(|_| totals.in_words()));
        let waiting = (!waited_for.is_empty()).then(|| waiting_in_words(waited_for));
        let text: Vec<String> = hosts.into_iter().chain(waiting).collect();
        self.say(text.join(", "));
    }

    /// Gives a host a bar if there is room and brings it up to date.
    fn show(&mut self, id: &HostId) {
        let shown = self.hosts.values().filter(|host| host.bar.is_some());
        let has_room = shown.count() < self.rows;
        let (Some(host), Some(total)) = (self.hosts.get_mut(id), &self.total) else {
            return;
        };
        if host.bar.is_none() && has_room {
            let bar = self.multi.insert_before(total, ProgressBar::no_length());
            bar.set_prefix(escape(id.as_str().as_bytes()));
            host.bar = Some(bar);
        }
        if let Some(bar) = &host.bar {
            bar.set_style(style(if host.total_bytes > 0 {
                HOST_BYTES
            } else {
                HOST
            }));
            let phase = phase_in_words(host.phase);
            bar.set_message(match host.silent {
                None => phase.to_owned(),
                // It has to fit beside the sizes.
                Some(silent) if host.total_bytes > 0 => format!("silent {}", rounded(silent)),
                Some(silent) => format!("{phase}, silent for {}", rounded(silent)),
            });
            bar.set_length(host.total_bytes);
            bar.set_position(host.sent_bytes.min(host.total_bytes));
            bar.tick();
        }
    }
}

/// The templates are constants, so a test knows that they are right.
fn style(template: &str) -> ProgressStyle {
    let sizes = |bar: &ProgressState, out: &mut dyn fmt::Write| {
        let total_bytes = bar.len().unwrap_or_default();
        // A buffer in memory.
        let _ = write!(out, "{} of {}", size(bar.pos()), size(total_bytes));
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("sizes", sizes)
}

fn lock(totals: &Mutex<Totals>) -> MutexGuard<'_, Totals> {
    // What was shown is worth nothing, so a panic elsewhere does not matter here.
    totals.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Display for Bars {
    fn event(&mut self, event: &Event, now: Instant) {
        self.totals(|totals| totals.event(event, now));
        match event {
            Event::LocalScanStarted { sources } => {
                let sources = count(*sources, "source", "sources");
                self.start_total(format!("reading {sources}"));
            }
            Event::LocalScanProgress {
                files,
                hashed_bytes,
            } => {
                self.say(format!(
                    "reading sources: {}",
                    scanned(*files, *hashed_bytes)
                ));
            }
            Event::LocalScanFinished { .. } | Event::HostsFinished => self.take_away(),
            Event::ChangesEnded { .. } => {}
            Event::Waiting { hosts } => self.wait(hosts),
            Event::HostsStarted { .. } => {
                self.start_total(self.totals(|totals| totals.in_words()));
                self.resize_total();
            }
            Event::TotalChanged { .. } => self.resize_total(),
            Event::HostPhase {
                host,
                phase,
                total_bytes,
            } => {
                let bar = self.hosts.remove(host).and_then(|host| host.bar);
                let active = ActiveHost {
                    phase: *phase,
                    total_bytes: *total_bytes,
                    sent_bytes: 0,
                    silent: None,
                    bar,
                };
                self.hosts.insert(host.clone(), active);
                self.show(host);
            }
            Event::HostProgress { host, sent_bytes } => {
                if let Some(total) = &self.total {
                    total.set_position(self.totals(|totals| totals.shown_bytes()));
                }
                let Some(active) = self.hosts.get_mut(host) else {
                    return;
                };
                active.sent_bytes = active.sent_bytes.saturating_add(*sent_bytes);
                let was_silent = active.silent.take().is_some();
                match &active.bar {
                    Some(bar) if !was_silent => {
                        bar.set_position(active.sent_bytes.min(active.total_bytes));
                    }
                    _ => self.show(host),
                }
            }
            Event::HostFinished { host, .. } => {
                if let Some(bar) = self.hosts.remove(host).and_then(|host| host.bar) {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
                self.say(self.totals(|totals| totals.in_words()));
                let waiting = self.hosts.iter().find(|(_, host)| host.bar.is_none());
                if let Some(host) = waiting.map(|(id, _)| id.clone()) {
                    self.show(&host);
                }
            }
        }
    }

    // Not `MultiProgress::suspend`, which panics when standard error cannot be written.
    fn hide(&mut self) {
        let _ = self.multi.clear();
        self.multi.set_draw_target(ProgressDrawTarget::hidden());
    }

    fn unhide(&mut self) {
        self.multi.set_draw_target((self.target)());
        if let Some(total) = &self.total {
            total.tick();
        }
    }

    fn finish(&mut self) {
        self.take_away();
        let _ = self.multi.clear();
    }
}

#[cfg(test)]
mod tests;
