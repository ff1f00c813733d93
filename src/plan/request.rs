//! What to plan, and with what.

use std::path::Path;

use crate::config::{Config, Host};
use crate::model::{Blake3, Observer};
use crate::state::StateStore;
use crate::transport::Connector;

use super::Refresh;
use super::goal::Goal;

/// What to plan, and with what.
#[derive(Clone, Copy)]
pub struct PlanRequest<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Digest of the configuration.
    pub config_digest: Blake3,
    /// The hosts to plan for.
    pub hosts: &'a [&'a Host],
    /// The state.
    pub state: &'a StateStore,
    /// Where digests of unchanged sources are kept between runs.
    pub cache_dir: Option<&'a Path>,
    /// Logs in to hosts.
    pub connector: &'a dyn Connector,
    /// How closely to look.
    pub refresh: Refresh,
    /// What hosts are to be made equal to.
    pub goal: &'a dyn Goal,
    /// Whether it is to be found out how contents differ.
    pub wants_diffs: bool,
    /// Whether what is known of a host is kept even where nothing is to be done.
    pub keeps_all: bool,
    /// How many logins are kept for an apply that follows at once; 0 when somebody is asked before.
    pub keep_logins: usize,
    /// The time, for the plan's header: RFC 3339, UTC.
    pub now: &'a str,
    /// Told what happens.
    pub observer: &'a dyn Observer,
}
