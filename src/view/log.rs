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
    super::words::escape_text(text)
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
mod tests;
