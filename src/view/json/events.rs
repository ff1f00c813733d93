//! What happens during an apply as JSON, one object a line: what `apply --format json` prints.
//!
//! `docs/schema/apply-events.schema.json` describes the lines. Each can be read alone. The first one
//! names the version of the format, the last one is the summary or, where the run ended before its time,
//! the error.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use miette::Diagnostic;

use super::lines::{HostCounts, HostLine, Line, Stamped, milliseconds};
use crate::apply::{HostReport, Report};
use crate::model::{
    Blake3, ChangeEnd, EndedChange, Event, HostId, Observer, WaitedFor, printable_json,
};
use crate::plan::{Change, HostPlan, Plan};

/// The version of the lines; a reader refuses a major that it does not know.
pub const FORMAT_VERSION: &str = "1.1";

/// Between two lines about the progress of a host.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Between two lines that say that a host is waited for.
const WAITING_INTERVAL: Duration = Duration::from_secs(30);

/// Writes lines; takes one whole line or several at a time.
type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// Turns what happens into lines.
pub struct Events {
    run: Mutex<Run>,
}

struct Run {
    sink: Sink,
    now: fn() -> String,
    hosts: BTreeMap<HostId, HostSoFar>,
    /// When it was said of hosts last that they are waited for.
    waiting: BTreeMap<HostId, Instant>,
    has_ended: bool,
}

/// What is known of a host of the plan.
struct HostSoFar {
    plan: HostPlan,
    has_started: bool,
    told_at: Instant,
    sent_bytes: u64,
    total_bytes: u64,
    skipped: usize,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Begins with the line that names the version. `sink` gets whole lines and writes them at once; `now`
    /// is the time of day: RFC 3339, UTC, with milliseconds.
    pub fn begin(
        tool_version: &str,
        sink: impl FnMut(&[u8]) + Send + 'static,
        now: fn() -> String,
    ) -> Self {
        let mut run = Run {
            sink: Box::new(sink),
            now,
            hosts: BTreeMap::new(),
            waiting: BTreeMap::new(),
            has_ended: false,
        };
        run.write(&[Line::Version {
            format_version: FORMAT_VERSION,
            tool_version,
        }]);
        Self {
            run: Mutex::new(run),
        }
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        // Whole lines alone are written under the lock, so a panic elsewhere tears none.
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what is going to be done. `digest` names the plan in the state.
    pub fn plan(&self, plan: &Plan, digest: Blake3) {
        let mut run = self.run();
        run.hosts = plan.hosts.iter().map(HostSoFar::of).collect();
        run.write(&[Line::Plan {
            plan: digest,
            summary: plan.summary(),
        }]);
    }

    /// Tells how a host ended.
    pub fn host_finished(&self, report: &HostReport) {
        let mut run = self.run();
        let skipped = run.hosts.get(&report.host).map_or(0, |host| host.skipped);
        run.write(&[Line::HostFinished(HostLine::of(report, skipped))]);
    }

    /// The last line of a run that came to its end. `unsendable` counts the entries of the sources that
    /// could not be sent.
    pub fn summary(&self, report: &Report, unsendable: usize, exit_code: u8) {
        let mut run = self.run();
        let sum = |of: fn(&HostReport) -> usize| report.hosts.iter().map(of).sum();
        let line = Line::Summary {
            serial: report.serial,
            hosts: HostCounts::of(&report.hosts),
            changed: sum(|host| host.changed),
            adopted: sum(|host| host.adopted),
            refused: sum(|host| host.refused.len()),
            skipped: run.hosts.values().map(|host| host.skipped).sum(),
            unsendable,
            sent_bytes: report.hosts.iter().map(|host| host.sent_bytes).sum(),
            elapsed_ms: milliseconds(report.elapsed),
            interrupted: report.interrupted,
            exit_code,
        };
        run.write(&[line]);
        run.has_ended = true;
    }

    /// The last line of a run that ended before its time.
    pub fn failed(&self, error: &dyn Diagnostic, exit_code: u8) {
        let mut run = self.run();
        run.write(&[Line::error(error, exit_code)]);
        run.has_ended = true;
    }

    fn event_at(&self, event: &Event, now: Instant) {
        let mut run = self.run();
        match event {
            Event::HostPhase { host, .. } => run.start(host, now),
            Event::TotalChanged { host, by_bytes } => {
                if let Some(host) = run.hosts.get_mut(host) {
                    host.total_bytes = host.total_bytes.saturating_add_signed(*by_bytes);
                }
            }
            Event::HostProgress { host, sent_bytes } => run.progress(host, *sent_bytes, now),
            Event::Waiting { hosts } => run.wait(hosts, now),
            Event::ChangesEnded { host, changes } => {
                run.start(host, now);
                run.changes(host, changes);
            }
            _ => {}
        }
    }
}

impl Observer for Events {
    fn event(&self, event: &Event) {
        self.event_at(event, Instant::now());
    }
}

impl Run {
    /// Writes lines; none after the last one.
    fn write(&mut self, lines: &[Line<'_>]) {
        if self.has_ended {
            return;
        }
        let at = (self.now)();
        let mut text = String::new();
        for line in lines {
            let stamped = Stamped { at: &at, line };
            let line = serde_json::to_string(&stamped).expect("plain data is JSON");
            text.push_str(&printable_json(line));
            text.push('\n');
        }
        (self.sink)(text.as_bytes());
    }

    /// Tells that work on a host begins, unless that was told.
    fn start(&mut self, id: &HostId, now: Instant) {
        if let Some(host) = self.hosts.get_mut(id)
            && !host.has_started
        {
            host.has_started = true;
            host.told_at = now;
            self.write(&[Line::HostStarted { host: id }]);
        }
    }

    fn progress(&mut self, id: &HostId, sent_bytes: u64, now: Instant) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        host.sent_bytes = host.sent_bytes.saturating_add(sent_bytes);
        if now.saturating_duration_since(host.told_at) < PROGRESS_INTERVAL {
            return;
        }
        host.told_at = now;
        let line = Line::Progress {
            host: id,
            sent_bytes: host.sent_bytes,
            total_bytes: host.total_bytes,
        };
        self.write(&[line]);
    }

    /// Tells for whom the run waits, of each host now and then.
    fn wait(&mut self, hosts: &[WaitedFor], now: Instant) {
        self.waiting
            .retain(|id, _| hosts.iter().any(|host| host.host == *id));
        let mut lines = Vec::new();
        for WaitedFor {
            host,
            phase,
            silent,
        } in hosts
        {
            let told_at = self.waiting.get(host);
            if told_at.is_none_or(|told_at| now.duration_since(*told_at) >= WAITING_INTERVAL) {
                self.waiting.insert(host.clone(), now);
                lines.push(Line::waiting(host, *phase, *silent));
            }
        }
        self.write(&lines);
    }

    fn changes(&mut self, id: &HostId, changes: &[EndedChange]) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        let is_skipped = |change: &&EndedChange| matches!(change.end, ChangeEnd::Skipped(_));
        host.skipped += changes.iter().filter(is_skipped).count();
        // The lines are not to borrow from what writes them.
        let plan = host.plan.clone();
        let lines: Vec<_> = changes
            .iter()
            .filter_map(|ended| {
                let change = planned(&plan, ended)?;
                Some(Line::change_ended(id, &plan, change, &ended.end))
            })
            .collect();
        self.write(&lines);
    }
}

impl HostSoFar {
    fn of(plan: &HostPlan) -> (HostId, Self) {
        let so_far = Self {
            plan: plan.clone(),
            has_started: false,
            told_at: Instant::now(),
            sent_bytes: 0,
            total_bytes: plan.changes().iter().map(Change::bytes_to_send).sum(),
            skipped: 0,
        };
        (plan.host.clone(), so_far)
    }
}

/// The change of the plan that has ended.
fn planned<'p>(plan: &'p HostPlan, ended: &EndedChange) -> Option<&'p Change> {
    let key = (ended.mapping, &ended.path);
    let changes = plan.changes();
    let index = changes.binary_search_by(|change| (change.mapping, &change.path).cmp(&key));
    Some(&changes[index.ok()?])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{ContentDigest, Mode, Node, Phase, RelPath};
    use crate::plan::{Action, ChangeSet, HostStatus, MappingNames, PlanHeader, Reason, Refresh};

    /// Everything that was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn events(&self) -> Events {
            let written = Arc::clone(&self.0);
            let sink = move |bytes: &[u8]| written.lock().unwrap().extend_from_slice(bytes);
            Events::begin("0.1.0", sink, || "2026-01-02T03:04:05.678Z".to_owned())
        }

        /// The lines since the last time.
        fn lines(&self) -> Vec<Value> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{text}");
            let parse = |line| serde_json::from_str(line).unwrap();
            text.lines().map(parse).collect()
        }
    }

    fn create(path: &[u8]) -> Change {
        Change {
            mapping: 0,
            path: RelPath::new(path).unwrap(),
            action: Action::Create,
            reason: Reason::Missing,
            drift: false,
            unmanaged: false,
            conflict: false,
            before: None,
            after: Some(Node::File {
                size_bytes: 1000,
                meta: Mode::new(0o644).into(),
                digest: ContentDigest::default(),
            }),
        }
    }

    /// A plan for host `h` with these files to create below `/srv`.
    fn plan(paths: &[&[u8]]) -> Plan {
        let header = PlanHeader {
            tool_version: "0.1.0".to_owned(),
            created_at: "2026-01-02T03:04:05Z".to_owned(),
            lineage: None,
            serial: 0,
            refresh: Refresh::Quick,
            config_digest: Blake3::of(b"config"),
        };
        let changes = paths.iter().map(|path| create(path)).collect();
        let host = HostPlan {
            host: HostId::new("h"),
            status: HostStatus::Ok,
            mappings: vec![MappingNames {
                src: "src".to_owned(),
                dest: "/srv/".to_owned(),
                source: None,
            }],
            change_set: Some(Arc::new(ChangeSet::new(changes, BTreeMap::new()))),
            unchanged: 0,
            problems: Vec::new(),
            warnings: std::collections::BTreeSet::new(),
        };
        Plan::new(header, vec![host])
    }

    fn ended(path: &[u8], end: ChangeEnd) -> EndedChange {
        EndedChange {
            mapping: 0,
            path: RelPath::new(path).unwrap(),
            end,
        }
    }

    fn host() -> HostId {
        HostId::new("h")
    }

    fn phase(phase: Phase) -> Event {
        Event::HostPhase {
            host: host(),
            phase,
            total_bytes: 0,
        }
    }

    #[test]
    fn host_starts_once_however_many_phases_it_has() {
        let written = Written::default();
        let events = written.events();
        events.plan(&plan(&[b"a"]), Blake3::of(b"plan"));
        written.lines();
        events.event(&phase(Phase::Connecting));
        events.event(&phase(Phase::Uploading));
        let at = "2026-01-02T03:04:05.678Z";
        let line = json!({ "at": at, "type": "host_started", "host": "h" });
        assert_eq!(written.lines(), [line]);
    }

    #[test]
    fn progress_is_told_once_a_second_with_what_is_known_by_then() {
        let written = Written::default();
        let events = written.events();
        events.plan(&plan(&[b"a", b"b"]), Blake3::of(b"plan"));
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        events.event_at(&phase(Phase::Uploading), start);
        written.lines();
        let sent = |sent_bytes| Event::HostProgress {
            host: host(),
            sent_bytes,
        };
        for tick in 0..25 {
            if tick == 15 {
                let by_bytes = -500;
                let event = Event::TotalChanged {
                    host: host(),
                    by_bytes,
                };
                events.event_at(&event, after(tick * 100));
            }
            events.event_at(&sent(10), after(tick * 100));
        }
        let numbers = |line: &Value| (line["sent_bytes"].clone(), line["total_bytes"].clone());
        let told: Vec<_> = written.lines().iter().map(numbers).collect();
        assert_eq!(told, [(json!(110), json!(2000)), (json!(210), json!(1500))]);
    }

    #[test]
    fn host_that_is_waited_for_is_named_now_and_then_and_before_the_plan_is_known() {
        let written = Written::default();
        let events = written.events();
        written.lines();
        let start = Instant::now();
        let waiting = |second: u64, names: &[&str]| {
            let hosts = names.iter().map(|name| WaitedFor {
                host: HostId::new(*name),
                phase: Phase::Looking,
                silent: Duration::from_millis(second * 1000),
            });
            let hosts = hosts.collect();
            let event = Event::Waiting { hosts };
            events.event_at(&event, start + Duration::from_secs(second));
            let lines = written.lines();
            lines
                .iter()
                .map(|line| line["host"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(waiting(10, &["a"]), ["a"]);
        assert_eq!(waiting(15, &["a", "b"]), ["b"]);
        assert_eq!(waiting(35, &["a"]), [] as [&str; 0]);
        assert_eq!(waiting(40, &["a"]), ["a"]);
        assert_eq!(waiting(45, &[]), [] as [&str; 0]);
        assert_eq!(waiting(50, &["a"]), ["a"]);
        let hosts = vec![WaitedFor {
            host: HostId::new("c"),
            phase: Phase::Committing,
            silent: Duration::from_millis(12_345),
        }];
        events.event_at(&Event::Waiting { hosts }, start);
        let at = "2026-01-02T03:04:05.678Z";
        let line = json!({
            "at": at, "type": "host_waiting", "host": "c", "phase": "committing", "silent_ms": 12_345,
        });
        assert_eq!(written.lines(), [line]);
    }

    #[test]
    fn change_is_told_with_what_the_plan_says_of_it() {
        let written = Written::default();
        let events = written.events();
        events.plan(&plan(&[b"a", b"c", b"caf\xe9"]), Blake3::of(b"plan"));
        written.lines();
        let refused = ChangeEnd::Refused {
            reason: "it moved".to_owned(),
            moved: true,
        };
        events.event(&Event::ChangesEnded {
            host: host(),
            changes: vec![
                ended(b"a", refused),
                ended(b"caf\xe9", ChangeEnd::Applied),
                ended(b"not in the plan", ChangeEnd::Applied),
            ],
        });
        let lines = written.lines();
        let at = "2026-01-02T03:04:05.678Z";
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            json!({
                "at": at, "type": "change_refused", "host": "h", "mapping": 0, "path": "a",
                "dest": "/srv/a", "kind": "file", "action": "create", "reason": "missing",
                "because": "it moved", "moved": true,
            })
        );
        assert_eq!(
            lines[2],
            json!({
                "at": at, "type": "change_applied", "host": "h", "mapping": 0, "path": "caf\u{fffd}",
                "path_base64": "Y2Fm6Q==", "dest": "/srv/caf\u{fffd}", "kind": "file",
                "action": "create", "reason": "missing",
            })
        );
    }

    #[test]
    fn nothing_comes_after_the_last_line() {
        let written = Written::default();
        let events = written.events();
        events.plan(&plan(&[b"a"]), Blake3::of(b"plan"));
        events.failed(&miette::MietteDiagnostic::new("stopped"), 130);
        let lines = written.lines();
        assert_eq!(lines.last().unwrap()["type"], "error");
        events.event(&phase(Phase::Connecting));
        events.failed(&miette::MietteDiagnostic::new("again"), 1);
        assert_eq!(written.lines(), [] as [Value; 0]);
    }
}
