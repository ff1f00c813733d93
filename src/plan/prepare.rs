//! Making a plan: hosts are looked at, many at a time, while the sources are still being read.

use std::thread;
use std::time::Duration;

use crate::model::{Event, HostOutcome, map_parallel};

use super::error::PrepareError;
use super::gather::{HostToPlan, Survey, Surveyed};
use super::prepared::Prepared;
use super::{Plan, PlanHeader, PlanRequest, diffs};

/// How long a login that was made early waits for the sources. Then it is logged out, and made again
/// when they have been read.
const EARLY_LOGIN: Duration = Duration::from_secs(5);

/// Reads the sources, looks at the hosts and builds the plan. Hosts are logged in to while the sources
/// are still being read.
///
/// # Errors
/// When the state cannot be read, or a saved plan is stale as a whole. Everything else is about one
/// host, and in its plan.
pub fn prepare(request: &PlanRequest<'_>) -> Result<Prepared, PrepareError> {
    prepare_with_patience(request, EARLY_LOGIN)
}

/// [`prepare`], with so much patience of logins that were made early.
fn prepare_with_patience(
    request: &PlanRequest<'_>,
    patience: Duration,
) -> Result<Prepared, PrepareError> {
    let hosts = request.hosts.iter();
    let work = hosts
        .map(|host| HostToPlan::begin(request, host))
        .collect::<Result<Vec<_>, _>>()?;
    let threads = request.config.settings.number_of_connections;
    let survey = Survey::new(request, patience);
    let surveyed = thread::scope(|scope| {
        scope.spawn(|| survey.read_sources(&work));
        map_parallel(&work, threads, |work| look_at(&survey, work, request))
    });
    request.observer.event(&Event::HostsFinished);
    let logins = survey.end()?;
    let mut plans = Vec::new();
    let (mut hosts, mut listings) = (Vec::new(), Vec::new());
    for host in surveyed {
        plans.push(host.plan);
        listings.push(host.listing);
        hosts.push(host.preparation);
    }
    diffs::merge(&mut plans);
    let header = request.goal.header();
    let plan = Plan {
        back_to: request.goal.back_to(),
        ..Plan::new(header.unwrap_or_else(|| header_of(request)), plans)
    };
    let run = request
        .goal
        .end(&plan, &hosts, request.hosts, request.state)?;
    Ok(Prepared {
        plan,
        hosts,
        listings,
        logins,
        run,
    })
}

/// Looks at one host, and tells how that ended.
fn look_at(survey: &Survey<'_>, work: &HostToPlan<'_>, request: &PlanRequest<'_>) -> Surveyed {
    let span = tracing::info_span!("plan", host = %work.host.id);
    let _entered = span.enter();
    let surveyed = survey.host(work);
    if work.is_visited() {
        let outcome = match surveyed.plan.status.error() {
            None => HostOutcome::Done,
            Some(error) => {
                tracing::warn!("{error}");
                HostOutcome::Failed(error.clone())
            }
        };
        request.observer.event(&Event::HostFinished {
            host: work.host.id.clone(),
            outcome,
        });
    }
    surveyed
}

/// The header of a plan that is made now.
fn header_of(request: &PlanRequest<'_>) -> PlanHeader {
    let identity = request.state.identity();
    PlanHeader {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: request.now.to_owned(),
        lineage: identity.map(|identity| identity.lineage.clone()),
        serial: identity.map_or(0, |identity| identity.serial),
        refresh: request.refresh,
        config_digest: request.config_digest,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::fs;
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;
    use crate::config::{self, Environment, Host};
    use crate::model::{Blake3, Observer};
    use crate::plan::Refresh;
    use crate::plan::goal::Sources;
    use crate::state::StateStore;
    use crate::transport::{Connector, ExecIo, ExecOutcome, Session, TransportError};

    /// Hosts that let everybody in and then break the line, and what happens to them and here.
    #[derive(Default)]
    struct Scene {
        log: Mutex<Vec<String>>,
        /// How many logins have to be seen before the sources are read.
        awaited_logins: usize,
        /// Whether they have to be logged out, too.
        awaits_logouts: bool,
    }

    impl Scene {
        fn note(&self, what: &str) {
            self.log.lock().unwrap().push(what.to_owned());
        }

        fn count(&self, what: &str) -> usize {
            let log = self.log.lock().unwrap();
            log.iter().filter(|line| *line == what).count()
        }

        fn has_come(&self) -> bool {
            self.count("login") == self.awaited_logins
                && (!self.awaits_logouts || self.count("logout") == self.awaited_logins)
        }
    }

    struct Line(Arc<Scene>);

    impl Session for Line {
        fn exec(&mut self, _: &str, _: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
            self.0.note("exec");
            let (during, reason) = ("while sending".to_owned(), "a test".to_owned());
            Err(TransportError::Broken { during, reason })
        }

        fn resume(&mut self, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
            self.exec("", io)
        }

        fn close(self: Box<Self>) {
            self.0.note("logout");
        }
    }

    impl Connector for Arc<Scene> {
        fn connect(&self, _: &Host) -> Result<Box<dyn Session>, TransportError> {
            self.note("login");
            Ok(Box::new(Line(Self::clone(self))))
        }
    }

    impl Observer for Scene {
        fn event(&self, event: &Event) {
            match event {
                Event::LocalScanStarted { .. } => {
                    let started = Instant::now();
                    while !self.has_come() {
                        assert!(started.elapsed() < Duration::from_secs(20), "nobody comes");
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                Event::LocalScanFinished { .. } => self.note("sources"),
                Event::HostsStarted { .. } => self.note("hosts"),
                Event::HostPhase { phase, .. } => self.note(&format!("{phase:?}")),
                _ => {}
            }
        }
    }

    /// Plans for three hosts, of which two are connected to at once.
    fn plan(scene: &Arc<Scene>, patience: Duration) -> Plan {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(temp.path().join(name), text).unwrap();
        write("file", "text");
        let mut text = "[settings]\nnumber_of_connections = 2\n".to_owned();
        for host in ["a", "b", "c"] {
            text.extend(["[[host]]\nip_address = \"", host, "\"\nuser = \"u\"\n"]);
        }
        text += "[[mapping]]\nsrc = \"file\"\ndest = \"~/file\"\n";
        write("hostsync.toml", &text);
        let environment = Environment {
            current_dir: temp.path().to_owned(),
            home: Some(temp.path().to_owned()),
        };
        let config = config::load(Path::new("hostsync.toml"), &environment);
        let config = config.unwrap().config;
        let request = PlanRequest {
            config: &config,
            config_digest: Blake3::of(b""),
            hosts: &config.hosts.iter().collect::<Vec<_>>(),
            state: &StateStore::open(&temp.path().join("state")).unwrap(),
            cache_dir: None,
            connector: scene,
            refresh: Refresh::Quick,
            goal: &Sources,
            wants_diffs: false,
            keeps_all: false,
            keep_logins: 0,
            now: "",
            observer: scene.as_ref(),
        };
        prepare_with_patience(&request, patience).unwrap().plan
    }

    #[test]
    fn hosts_are_logged_in_to_while_sources_are_read_and_shown_after_that() {
        let scene = Arc::new(Scene {
            awaited_logins: 2,
            ..Scene::default()
        });
        let plan = plan(&scene, Duration::from_mins(1));
        assert_eq!(plan.hosts.len(), 3);
        assert_eq!((scene.count("login"), scene.count("exec")), (3, 3));
        let log = scene.log.lock().unwrap();
        assert_eq!(log[..4], ["login", "login", "sources", "hosts"]);
        assert_eq!(log[4..6], ["Connecting", "Connecting"]);
    }

    #[test]
    fn login_that_would_wait_long_for_the_sources_is_given_up_and_made_again() {
        let scene = Arc::new(Scene {
            awaited_logins: 2,
            awaits_logouts: true,
            ..Scene::default()
        });
        let _ = plan(&scene, Duration::from_millis(20));
        assert_eq!((scene.count("login"), scene.count("exec")), (5, 3));
    }
}
