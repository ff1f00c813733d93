#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::sync::Arc;

use indicatif::TermLike;

use super::*;
use crate::view::width::width_of;

fn started(total_bytes: u64) -> Event {
    Event::HostsStarted {
        work: Work::Applying,
        hosts: 1,
        total_bytes,
    }
}

fn phase(name: &str, phase: Phase, total_bytes: u64) -> Event {
    Event::HostPhase {
        host: HostId::new(name),
        phase,
        total_bytes,
    }
}

fn total_changed(by_bytes: i64) -> Event {
    let host = HostId::new("a");
    Event::TotalChanged { host, by_bytes }
}

fn sent(name: &str, sent_bytes: u64) -> Event {
    Event::HostProgress {
        host: HostId::new(name),
        sent_bytes,
    }
}

fn finished(name: &str, outcome: HostOutcome) -> Event {
    Event::HostFinished {
        host: HostId::new(name),
        outcome,
    }
}

/// What is written for these events, each with its second.
fn plain(events: &[(u64, Event)]) -> String {
    let start = Instant::now();
    let mut plain = Plain::new(Vec::new(), start);
    for (second, event) in events {
        plain.event(event, start + Duration::from_secs(*second));
    }
    String::from_utf8(plain.out).unwrap()
}

#[test]
fn plain_progress_is_a_line_for_each_host_that_ended() {
    let text = plain(&[
        (
            0,
            Event::HostsStarted {
                work: Work::Applying,
                hosts: 2,
                total_bytes: 0,
            },
        ),
        (0, phase("a", Phase::Connecting, 0)),
        (1, finished("a", HostOutcome::Done)),
        (2, finished("b", HostOutcome::Failed("x\ny".into()))),
        (2, Event::HostsFinished),
    ]);
    assert_eq!(text, "[1/2] a: applied\n[2/2] b: failed: x\\ny\n");
}

#[test]
fn plain_progress_speaks_of_all_hosts_every_few_seconds_only() {
    let mut events = vec![(
        0,
        Event::HostsStarted {
            work: Work::Applying,
            hosts: 2,
            total_bytes: 10_240,
        },
    )];
    events.extend((1..=9).map(|second| (second, sent("a", 1024))));
    assert_eq!(
        plain(&events),
        "applied: 0 of 2 hosts, 5.0 KiB of 10.0 KiB sent (1.0 KiB/s, 5 s left)\n"
    );
}

#[test]
fn looking_and_applying_are_told_apart_and_so_is_what_was_left_out() {
    let of = |work, outcome| {
        let started = Event::HostsStarted {
            work,
            hosts: 1,
            total_bytes: 0,
        };
        plain(&[(0, started), (0, finished("a", outcome))])
    };
    let except = HostOutcome::DoneExcept("1 entry refused".to_owned());
    assert_eq!(of(Work::Looking, HostOutcome::Done), "[1/1] a: looked at\n");
    assert_eq!(of(Work::Applying, HostOutcome::Done), "[1/1] a: applied\n");
    assert_eq!(
        of(Work::Applying, except),
        "[1/1] a: applied, but 1 entry refused\n"
    );
}

#[test]
fn broken_connection_that_is_taken_up_again_is_told() {
    assert_eq!(
        plain(&[(1, phase("a", Phase::Reconnecting, 0))]),
        "a: connection lost, logging in again\n"
    );
}

/// What is known after these events, each with its second.
fn totals(events: &[(u64, Event)]) -> (Totals, Instant) {
    let start = Instant::now();
    let mut totals = Totals::default();
    for (second, event) in events {
        totals.event(event, start + Duration::from_secs(*second));
    }
    (totals, start)
}

#[test]
fn total_follows_what_turns_out_to_be_there_already() {
    let (totals, _) = totals(&[
        (0, started(3000)),
        (1, total_changed(-2900)),
        (1, phase("a", Phase::Uploading, 100)),
        (2, sent("a", 100)),
    ]);
    assert_eq!((totals.shown_bytes(), totals.total_bytes), (100, 100));
}

#[test]
fn never_more_is_shown_than_there_is() {
    let (totals, _) = totals(&[(0, started(100)), (1, sent("a", 101))]);
    assert_eq!(totals.shown_bytes(), 100);
}

#[test]
fn no_time_is_shown_before_there_is_a_rate_nor_after_a_pause() {
    let (mut totals, start) = totals(&[
        (0, started(10_240)),
        (0, phase("a", Phase::Connecting, 0)),
        (20, phase("a", Phase::Uploading, 10_240)),
    ]);
    let pace = |totals: &Totals, second| {
        let pace = totals.pace(start + Duration::from_secs(second));
        pace.map(|(rate, left)| format!("{rate}, {left}"))
    };
    assert_eq!(pace(&totals, 22), None);
    totals.event(&sent("a", 2048), start + Duration::from_secs(22));
    // What came before the sending does not count.
    let expected = Some("1.0 KiB/s, 8 s left".to_owned());
    assert_eq!(pace(&totals, 22), expected);
    assert_eq!(pace(&totals, 60), None);
    totals.event(&sent("a", 2048), start + Duration::from_mins(1));
    totals.event(&sent("a", 2048), start + Duration::from_secs(61));
    let expected = Some("2.0 KiB/s, 2 s left".to_owned());
    assert_eq!(pace(&totals, 61), expected);
}

#[test]
fn templates_are_right() {
    for template in [TOTAL_BYTES, TOTAL, HOST_BYTES, HOST] {
        assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
    }
}

/// A terminal that is gone.
#[derive(Debug)]
struct Broken;

impl TermLike for Broken {
    fn width(&self) -> u16 {
        80
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn write_line(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn write_str(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn clear_line(&self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// A terminal of 80 columns, and the texts that were written to it.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn take(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl TermLike for Recorder {
    fn width(&self) -> u16 {
        80
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.take(text);
        Ok(())
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.take(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn line_of_a_host_fits_80_columns_whatever_its_name_and_sizes() {
    let terminal = Recorder::default();
    let bar = ProgressBar::with_draw_target(
        None,
        ProgressDrawTarget::term_like(Box::new(terminal.clone())),
    );
    bar.set_style(style(HOST_BYTES));
    bar.set_prefix("a-host-with-a-very-long-name.example.net");
    bar.set_message(phase_in_words(Phase::Connecting));
    // Nothing is longer than a little less than 1024 of a unit.
    bar.set_length(1024 * 1024 - 100);
    bar.set_position(1024 * 1024 - 101);
    bar.force_draw();
    let texts = terminal.0.lock().unwrap();
    let line = texts.iter().rfind(|text| text.contains("KiB")).unwrap();
    assert!(line.contains("1023.9 KiB of 1023.9 KiB"), "{line:?}");
    assert!(width_of(line.trim_end()) <= 80, "{line:?}");
}

/// A writer that always fails.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn whole_run(progress: &Progress) {
    progress.event(&Event::LocalScanStarted { sources: 1 });
    progress.event(&Event::LocalScanProgress {
        files: 1,
        hashed_bytes: 2,
    });
    progress.event(&Event::LocalScanFinished {
        files: 1,
        total_bytes: 2,
        hashed_bytes: 2,
        elapsed: Duration::ZERO,
    });
    progress.event(&Event::HostsStarted {
        work: Work::Applying,
        hosts: 2,
        total_bytes: 30,
    });
    for name in ["a", "b"] {
        progress.event(&phase(name, Phase::Connecting, 0));
        progress.event(&phase(name, Phase::Reconnecting, 0));
        progress.event(&total_changed(1));
        progress.event(&total_changed(-1));
        progress.event(&phase(name, Phase::Uploading, 15));
        progress.event(&sent(name, 15));
    }
    assert_eq!(progress.suspend(|| 1), 1);
    for name in ["a", "b", "never begun"] {
        progress.event(&finished(name, HostOutcome::Done));
    }
    progress.event(&Event::HostsFinished);
    progress.finish();
}

#[test]
fn broken_standard_error_costs_only_the_display() {
    let broken = || ProgressDrawTarget::term_like(Box::new(Broken));
    whole_run(&Progress::with(Bars::new(broken, 24)));
    whole_run(&Progress::with(Plain::new(Closed, Instant::now())));
    whole_run(&observer(ProgressMode::None, 24));
}

#[test]
fn bars_take_no_more_rows_than_there_are() {
    let mut bars = Bars::new(ProgressDrawTarget::hidden, 5);
    let now = Instant::now();
    let start = Event::HostsStarted {
        work: Work::Applying,
        hosts: 10,
        total_bytes: 100,
    };
    bars.event(&start, now);
    let names: Vec<String> = (0..10).map(|n| format!("h{n}")).collect();
    for name in &names {
        bars.event(&phase(name, Phase::Uploading, 10), now);
    }
    let shown = |bars: &Bars| bars.hosts.values().filter(|h| h.bar.is_some()).count();
    assert_eq!(shown(&bars), 3);
    bars.event(&sent("h9", 4), now);
    for name in &names[..9] {
        bars.event(&finished(name, HostOutcome::Done), now);
    }
    assert_eq!(shown(&bars), 1);
    let last = bars.hosts[&HostId::new("h9")].bar.clone().unwrap();
    assert_eq!((last.position(), last.length()), (4, Some(10)));
    bars.event(&Event::HostsFinished, now);
    assert!(bars.hosts.is_empty() && bars.total.is_none());
}

#[test]
fn events_may_come_from_many_threads() {
    let progress = Arc::new(Progress::with(Bars::new(ProgressDrawTarget::hidden, 24)));
    progress.event(&Event::HostsStarted {
        work: Work::Applying,
        hosts: 8,
        total_bytes: 800,
    });
    std::thread::scope(|scope| {
        for n in 0..8 {
            let progress = Arc::clone(&progress);
            scope.spawn(move || {
                let name = format!("h{n}");
                progress.event(&phase(&name, Phase::Uploading, 100));
                for _ in 0..100 {
                    progress.event(&sent(&name, 1));
                }
                progress.event(&finished(&name, HostOutcome::Done));
            });
        }
    });
    progress.event(&Event::HostsFinished);
}

fn waiting(names: &[(&str, u64)]) -> Event {
    let hosts = names.iter().map(|(name, seconds)| WaitedFor {
        host: HostId::new(*name),
        phase: Phase::Committing,
        silent: Duration::from_secs(*seconds),
    });
    Event::Waiting {
        hosts: hosts.collect(),
    }
}

#[test]
fn plain_progress_names_those_who_are_waited_for_and_not_without_end() {
    let text = plain(&[
        (0, started(0)),
        (10, waiting(&[("slow\u{1b}", 10)])),
        (15, waiting(&[("slow\u{1b}", 15)])),
        (20, waiting(&[("slow\u{1b}", 20), ("b", 10)])),
        (
            55,
            waiting(&[("slow\u{1b}", 55), ("b", 45), ("c", 12), ("d", 11)]),
        ),
        (60, waiting(&[])),
    ]);
    let slow = "slow\\u{1b}";
    let expected = [
        format!("waiting for {slow} (committing, silent for 10 s)"),
        format!(
            "waiting for {slow} (committing, silent for 20 s), b (committing, silent for 10 s)"
        ),
        format!(
            "waiting for {slow} (committing, silent for 55 s), b (committing, silent for 45 s), \
             c (committing, silent for 12 s) and 1 other"
        ),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn bars_name_those_who_are_waited_for_until_they_move() {
    let mut bars = Bars::new(ProgressDrawTarget::hidden, 24);
    let now = Instant::now();
    for event in [
        started(100),
        phase("a", Phase::Uploading, 100),
        phase("b", Phase::Committing, 0),
        waiting(&[("b", 12), ("a", 10)]),
    ] {
        bars.event(&event, now);
    }
    let message = |bars: &Bars, host: &str| {
        let bar = bars.hosts[&HostId::new(host)].bar.as_ref();
        bar.unwrap().message()
    };
    assert_eq!(message(&bars, "a"), "silent 10 s");
    assert_eq!(message(&bars, "b"), "committing, silent for 12 s");
    let total = bars.total.as_ref().unwrap().message();
    assert!(
        total.contains("waiting for b (committing, silent for 12 s), a"),
        "{total}"
    );
    bars.event(&sent("a", 1), now);
    assert_eq!(message(&bars, "a"), "sending");
    bars.event(&waiting(&[]), now);
    assert_eq!(message(&bars, "b"), "committing");
    assert!(!bars.total.as_ref().unwrap().message().contains("waiting"));
}

#[test]
fn bars_name_those_who_are_waited_for_where_nothing_else_is_shown() {
    let mut bars = Bars::new(ProgressDrawTarget::hidden, 24);
    bars.event(&waiting(&[]), Instant::now());
    assert!(bars.total.is_none());
    bars.event(&waiting(&[("a", 10)]), Instant::now());
    let total = bars.total.as_ref().unwrap().message();
    assert_eq!(total, "waiting for a (committing, silent for 10 s)");
}
