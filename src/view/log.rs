//! The log files: `hostsync.log` with everything, `hostsync_error.log` with warnings and errors.
//!
//! Both names are symlinks to the file of the day (`hostsync.log.2026-01-31`), of which the newest
//! are kept. One event is one line, whatever is in it:
//!
//! ```text
//! 2026-01-31T12:00:00.000Z INFO  run=7f3a host=web1 message key=value
//! ```
//!
//! Where somebody asks for more, what this program logs appears on standard error, too, in a shorter
//! form.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use miette::Diagnostic;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, span};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The file of everything.
pub const LOG_FILE: &str = "hostsync.log";
/// The file of warnings and errors.
pub const ERROR_LOG_FILE: &str = "hostsync_error.log";
/// Days that are kept, of each file.
const DAYS_KEPT: usize = 30;

/// The logs cannot be started.
#[derive(Debug, Error, Diagnostic)]
pub enum LogError {
    /// The folder cannot be made.
    #[error("cannot make log folder {path}: {reason}")]
    #[diagnostic(
        code(hostsync::log::folder),
        help("`log_path` names the folder; it must be one that you may write to")
    )]
    Folder {
        /// The folder.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A file cannot be opened or written.
    #[error("cannot write log file {path}: {reason}")]
    #[diagnostic(
        code(hostsync::log::file),
        help("is the disk full, or may you not write there? `log_path` names another folder")
    )]
    File {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// This process has started its logs before.
    #[error("the logs of this process are started already")]
    #[diagnostic(code(hostsync::log::started), help("start them once"))]
    AlreadyStarted,
}

/// Tells how logging went. The logs go on without it.
#[derive(Clone, Debug)]
pub struct LogGuard {
    first_error: Arc<Mutex<Option<String>>>,
}

impl LogGuard {
    /// The first line that could not be written since the start, with the file and the reason. The
    /// run went on without it.
    pub fn first_error(&self) -> Option<String> {
        lock(&self.first_error).clone()
    }
}

/// Opens the log files in `dir`, which is made if need be, and sends all events of this process there.
/// With `echo`, those of this program go to standard error, too.
///
/// # Errors
/// When the folder or a file cannot be written, or logs were started before.
pub fn start_logs(dir: &Path, run_id: &str, echo: bool) -> Result<LogGuard, LogError> {
    let (mut layer, guard) = open_logs(dir, run_id)?;
    if echo {
        layer = layer.with_echo(io::stderr());
    }
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadyStarted)?;
    Ok(guard)
}

/// Opens the log files in `dir` for a subscriber of the caller's. A first line goes to the file of
/// everything; both are tested for whether they can be written.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn open_logs(dir: &Path, run_id: &str) -> Result<(LogLayer, LogGuard), LogError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| LogError::Folder {
            path: dir.display().to_string(),
            reason: error.to_string(),
        })?;
    let failed = |name: &str, error: io::Error| LogError::File {
        path: dir.join(name).display().to_string(),
        reason: error.to_string(),
    };
    let open = |name| DailyFile::open(dir, name).map_err(|error| failed(name, error));
    let guard = LogGuard {
        first_error: Arc::default(),
    };
    let layer = LogLayer {
        run_id: word(run_id),
        all: Mutex::new(open(LOG_FILE)?),
        errors: Mutex::new(open(ERROR_LOG_FILE)?),
        first_error: Arc::clone(&guard.first_error),
        echo: None,
    };
    let line = layer.line(Timestamp::now(), Level::INFO, None, "run started");
    lock(&layer.all)
        .write_line(&line)
        .map_err(|error| failed(LOG_FILE, error))?;
    lock(&layer.errors)
        .test_writing(&line)
        .map_err(|error| failed(ERROR_LOG_FILE, error))?;
    Ok((layer, guard))
}

/// A file a day behind a symlink of a constant name.
struct DailyFile {
    dir: PathBuf,
    name: &'static str,
    day: String,
    appender: RollingFileAppender,
}

impl DailyFile {
    fn open(dir: &Path, name: &'static str) -> io::Result<Self> {
        let day = today();
        let appender = Self::appender(dir, name, &day)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            name,
            day,
            appender,
        })
    }

    fn appender(dir: &Path, name: &str, day: &str) -> io::Result<RollingFileAppender> {
        let target = format!("{name}.{day}");
        let path = dir.join(&target);
        let is_new = fs::symlink_metadata(&path).is_err();
        let appender = RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix(name)
            .max_log_files(DAYS_KEPT)
            .build(dir)
            .map_err(|error| {
                let source = std::error::Error::source(&error);
                io::Error::other(source.map_or_else(|| error.to_string(), ToString::to_string))
            })?;
        // The file of another user who lets us write is left with its mode.
        if is_new {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        point_to(dir, name, &target)?;
        Ok(appender)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    fn write_line(&mut self, line: &str) -> io::Result<()> {
        let day = today();
        if day != self.day {
            // The appender would turn the page by itself, but would print it when that fails.
            self.appender = Self::appender(&self.dir, self.name, &day)?;
            self.day = day;
        }
        // One write, so that the lines of several processes do not mix.
        self.appender.write_all(line.as_bytes())?;
        self.appender.flush()
    }

    /// Whether a line such as this could be written, without leaving it there. It is not written and
    /// taken back, since another process may append meanwhile.
    fn test_writing(&mut self, line: &str) -> io::Result<()> {
        let path = self.dir.join(format!("{}.{}", self.name, self.day));
        let file = fs::OpenOptions::new().append(true).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            // A device or a pipe, which keeps nothing that could be in somebody's way.
            return self.write_line(line);
        }
        let room_bytes = line.len() as u64;
        match fallocate(&file, FallocateFlags::KEEP_SIZE, metadata.len(), room_bytes) {
            // A file system that cannot reserve room; the first line in the other file has to do.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }
}

fn today() -> String {
    Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .to_string()
}

/// Makes `name` in `dir` a symlink to `target`, in one step for whoever looks. A file of that name,
/// as an earlier program may have left, is kept under another one.
fn point_to(dir: &Path, name: &str, target: &str) -> io::Result<()> {
    let path = dir.join(name);
    if fs::read_link(&path).is_ok_and(|current| current == Path::new(target)) {
        return Ok(());
    }
    if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_symlink()) {
        let mut kept = dir.join(format!("{name}.before-{target}"));
        let mut number = 1;
        while fs::symlink_metadata(&kept).is_ok() {
            number += 1;
            kept = dir.join(format!("{name}.before-{target}-{number}"));
        }
        fs::rename(&path, kept)?;
    }
    let fresh = dir.join(format!(".{name}.{}", std::process::id()));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &fresh)?;
    fs::rename(&fresh, &path)
}

/// Writes events to the log files: of this program from debug on, of others from info on.
pub struct LogLayer {
    run_id: String,
    all: Mutex<DailyFile>,
    errors: Mutex<DailyFile>,
    first_error: Arc<Mutex<Option<String>>>,
    echo: Option<Mutex<Box<dyn io::Write + Send>>>,
}

impl fmt::Debug for LogLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLayer")
            .field("run_id", &self.run_id)
            .finish_non_exhaustive()
    }
}

impl LogLayer {
    /// With what this program logs also going to `out`, in a form for people: the time of day (UTC),
    /// the host or `-`, the text.
    #[must_use]
    pub fn with_echo(mut self, out: impl io::Write + Send + 'static) -> Self {
        self.echo = Some(Mutex::new(Box::new(out)));
        self
    }

    fn echo(&self, time: Timestamp, level: Level, host: Option<&str>, text: &str) {
        let Some(echo) = &self.echo else {
            return;
        };
        let time = time.strftime("%H:%M:%S");
        let host = host.unwrap_or("-");
        let kind = match level {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        // Nobody is there to be told that it is gone; the files have it.
        let _ = lock(echo).write_all(format!("{time} {host} {kind}{text}\n").as_bytes());
    }

    fn line(&self, time: Timestamp, level: Level, host: Option<&str>, text: &str) -> String {
        let host = host.unwrap_or("-");
        format!(
            "{time:.3} {level:<5} run={} host={host} {text}\n",
            self.run_id
        )
    }

    fn write(&self, file: &Mutex<DailyFile>, line: &str) {
        let mut file = lock(file);
        if let Err(error) = file.write_line(line) {
            lock(&self.first_error)
                .get_or_insert_with(|| format!("{}: {error}", file.path().display()));
        }
    }
}

/// What a span knows of its host.
struct SpanHost(String);

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(host), Some(span)) = (fields.host, ctx.span(id)) {
            span.extensions_mut().replace(SpanHost(host));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let (Some(host), Some(span)) = (fields.host, ctx.span(id)) {
            span.extensions_mut().replace(SpanHost(host));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let metadata = event.metadata();
        let ours = metadata
            .target()
            .split("::")
            .next()
            .is_some_and(|name| name == env!("CARGO_CRATE_NAME"));
        let least = if ours { Level::DEBUG } else { Level::INFO };
        if *metadata.level() > least {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let host = fields.host.or_else(|| {
            ctx.event_scope(event)?
                .find_map(|span| Some(span.extensions().get::<SpanHost>()?.0.clone()))
        });
        let text = format!("{}{}", fields.message, fields.others);
        let level = *metadata.level();
        let (time, text) = (Timestamp::now(), text.trim());
        if ours {
            self.echo(time, level, host.as_deref(), text);
        }
        let line = self.line(time, level, host.as_deref(), text);
        self.write(&self.all, &line);
        if level <= Level::WARN {
            self.write(&self.errors, &line);
        }
    }
}

/// The fields of an event or a span, ready to be printed.
#[derive(Default)]
struct Fields {
    host: Option<String>,
    message: String,
    others: String,
}

impl Fields {
    fn take(&mut self, field: &Field, value: &str) {
        match field.name() {
            "host" => self.host = Some(word(value)),
            "message" => self.message = one_line(value),
            name => {
                // Writing to a String cannot fail.
                let _ = write!(self.others, " {name}={}", word(value));
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format!("{value:?}"));
    }
}

/// Text without anything that would end the line or act on a terminal.
fn one_line(text: &str) -> String {
    super::text::escape_text(text)
}

/// A value as one word: in quotes where it has spaces, quotes, or nothing.
fn word(value: &str) -> String {
    let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '"');
    if plain {
        one_line(value)
    } else {
        one_line(&format!(
            "\"{}\"",
            value.replace('\\', "\\\\").replace('"', "\\\"")
        ))
    }
}

/// A panic elsewhere is no reason to stop logging.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
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
}
