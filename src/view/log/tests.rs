#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use secrecy::SecretString;

use super::*;
use crate::config::{Auth, Host, Passkey};
use crate::model::HostId;

/// Both log files after `work`.
fn logged(work: impl FnOnce()) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let (layer, guard) = open_logs(dir.path(), "r1").unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, work);
    assert_eq!(guard.first_error(), None);
    let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    (read(LOG_FILE), read(ERROR_LOG_FILE))
}

#[test]
fn line_has_time_level_run_host_message_and_fields() {
    let (all, _) = logged(|| {
        let _span = tracing::info_span!("work", host = "web1").entered();
        tracing::info!(files = 3, note = "two words", "sent");
    });
    let line = all.lines().nth(1).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(
        rest,
        "INFO  run=r1 host=web1 sent files=3 note=\"two words\""
    );
    assert_eq!(time.len(), "2026-01-31T12:00:00.000Z".len(), "{time}");
    assert!(time.parse::<Timestamp>().is_ok() && time.ends_with('Z'));
}

#[test]
fn host_is_that_of_the_innermost_span_that_has_one() {
    let (all, _) = logged(|| {
        tracing::info!("none");
        let host = HostId::new("outer");
        let _outer = tracing::info_span!("a", %host).entered();
        let _middle = tracing::info_span!("b", host = "inner").entered();
        let _inner = tracing::info_span!("c").entered();
        tracing::info!("nested");
    });
    assert!(all.contains("host=- none\n"), "{all}");
    assert!(all.contains("host=inner nested\n"), "{all}");
}

#[test]
fn one_event_is_one_line_whatever_is_in_it() {
    let evil = "x\n2026-01-01T00:00:00.000Z ERROR run=r1 host=- forged\u{1b}[2J\r";
    let (all, _) = logged(|| {
        let _span = tracing::info_span!("a", host = evil).entered();
        tracing::info!(evil, "{evil}");
    });
    assert_eq!(all.lines().count(), 2, "{all}");
    assert!(!all.contains(['\u{1b}', '\r']), "{all:?}");
}

#[test]
fn second_file_has_warnings_and_errors_only() {
    let (all, errors) = logged(|| {
        tracing::debug!("little");
        tracing::warn!("odd");
        tracing::error!("bad");
        tracing::debug!(target: "other", "chatter");
        tracing::info!(target: "other", "news");
        tracing::trace!("noise");
    });
    let texts = |log: &str| -> Vec<String> {
        let last = |line: &str| line.split(' ').next_back().unwrap().to_owned();
        log.lines().map(last).collect()
    };
    assert_eq!(texts(&all), ["started", "little", "odd", "bad", "news"]);
    assert_eq!(texts(&errors), ["odd", "bad"]);
}

/// What several threads may write to, and a test reads.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn echo_has_what_this_program_logs_in_a_form_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let (layer, _guard) = open_logs(dir.path(), "r1").unwrap();
    let echo = Shared::default();
    let subscriber = tracing_subscriber::registry().with(layer.with_echo(echo.clone()));
    tracing::subscriber::with_default(subscriber, || {
        let _span = tracing::info_span!("host", host = "web1").entered();
        tracing::debug!(bytes = 7, "sent");
        tracing::warn!(host = "web2", "odd\u{1b}[2J");
        tracing::error!(target: "other", "chatter");
    });
    let text = String::from_utf8(lock(&echo.0).clone()).unwrap();
    let lines: Vec<(&str, &str)> = text.lines().map(|l| l.split_once(' ').unwrap()).collect();
    let is_time = |time: &str| time.parse::<jiff::civil::Time>().is_ok() && time.len() == 8;
    assert!(lines.iter().all(|(time, _)| is_time(time)), "{text}");
    let texts: Vec<&str> = lines.iter().map(|(_, text)| *text).collect();
    assert_eq!(
        texts,
        ["web1 sent bytes=7", r"web2 warning: odd\u{1b}[2J"],
        "{text}"
    );
}

#[test]
fn echo_that_nobody_reads_stops_nothing() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (layer, guard) = open_logs(dir.path(), "r1").unwrap();
    let subscriber = tracing_subscriber::registry().with(layer.with_echo(Closed));
    tracing::subscriber::with_default(subscriber, || tracing::info!("kept"));
    let all = fs::read_to_string(dir.path().join(LOG_FILE)).unwrap();
    assert!(all.contains("kept") && guard.first_error().is_none());
}

#[test]
fn start_leaves_nothing_in_the_file_of_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(ERROR_LOG_FILE);
    drop(open_logs(dir.path(), "r1").unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    fs::write(&path, "of an earlier run\n").unwrap();
    drop(open_logs(dir.path(), "r2").unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "of an earlier run\n");
}

#[test]
fn file_that_may_not_be_written_is_an_error_at_the_start() {
    for name in [LOG_FILE, ERROR_LOG_FILE] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("{name}.{}", today()));
        if rustix::process::geteuid().is_root() {
            // Root may write to any file, but not to a folder.
            fs::create_dir(path).unwrap();
        } else {
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        }
        let error = open_logs(dir.path(), "r1").unwrap_err();
        assert!(matches!(error, LogError::File { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn passkey_of_a_logged_host_is_in_no_file() {
    let host = Host {
        id: HostId::new("web1"),
        address: "10.0.0.1".to_owned(),
        port: 22,
        user: "me".to_owned(),
        auth: Auth {
            identity_file: None,
            passkey: Some(Passkey::Literal(SecretString::from("hunter2"))),
        },
        groups: Vec::new(),
        mappings: Vec::new(),
        problem: None,
        login_problem: None,
    };
    let (all, errors) = logged(|| tracing::error!(?host, "{host:?}"));
    assert!(all.contains("10.0.0.1") && errors.contains("10.0.0.1"));
    assert!(!all.contains("hunter2") && !errors.contains("hunter2"));
}

#[test]
fn files_are_private_and_a_second_run_appends() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("a/logs");
    for run in ["r1", "r2"] {
        drop(open_logs(&logs, run).unwrap());
    }
    for name in [LOG_FILE, ERROR_LOG_FILE] {
        let path = logs.join(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let text = fs::read_to_string(logs.join(LOG_FILE)).unwrap();
    assert!(text.contains("run=r1") && text.contains("run=r2"), "{text}");
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 4);
}

#[test]
fn links_survive_a_move_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old");
    drop(open_logs(&old, "r1").unwrap());
    let new = dir.path().join("new");
    fs::rename(&old, &new).unwrap();
    assert!(fs::read_to_string(new.join(LOG_FILE)).is_ok());
}

#[test]
fn log_of_an_earlier_program_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(LOG_FILE), "history").unwrap();
    drop(open_logs(dir.path(), "r1").unwrap());
    let texts: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(texts.iter().any(|text| text == "history"), "{texts:?}");
}

#[test]
fn unusable_folder_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open_logs(&file.join("logs"), "r1").unwrap_err();
    assert!(matches!(error, LogError::Folder { .. }), "{error}");
    assert!(error.to_string().contains("file/logs"), "{error}");
}

#[test]
fn full_disk_is_an_error_at_the_start() {
    for name in [LOG_FILE, ERROR_LOG_FILE] {
        let dir = tempfile::tempdir().unwrap();
        symlink("/dev/full", dir.path().join(format!("{name}.{}", today()))).unwrap();
        let error = open_logs(dir.path(), "r1").unwrap_err();
        assert!(matches!(error, LogError::File { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn disk_that_fills_up_later_is_remembered_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (layer, guard) = open_logs(dir.path(), "r1").unwrap();
    // The next page of the log is one that cannot be written.
    let day = today();
    let path = dir.path().join(format!("{LOG_FILE}.{day}"));
    fs::remove_file(&path).unwrap();
    symlink("/dev/full", &path).unwrap();
    lock(&layer.all).day = "yesterday".to_owned();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!("first");
        tracing::warn!("second");
    });
    let error = guard.first_error().unwrap();
    assert!(error.contains(LOG_FILE), "{error}");
    let errors = fs::read_to_string(dir.path().join(ERROR_LOG_FILE)).unwrap();
    assert!(errors.contains("first") && errors.contains("second"));
}
