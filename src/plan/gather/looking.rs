//! What is asked of a host.

use std::sync::Arc;

use super::recorded::Recorded;
use crate::config::{Exact, Host};
use crate::model::RemotePath;
use crate::plan::comparison::Comparison;
use crate::plan::staging::base_on_host;
use crate::plan::{PlanRequest, Refresh};
use crate::remote::tasks::look::{self, HostLook, Listing, LookRequest};
use crate::remote::{Expected, Login, RemoteError};

/// Asks: with the listing when there is one to be trusted, and once more for everything when it turns
/// out not to be.
pub(super) fn look_at(
    request: &PlanRequest<'_>,
    host: &Host,
    recorded: &Recorded,
    comparisons: &[Arc<Comparison>],
    login: &mut Login,
) -> Result<HostLook, RemoteError> {
    let settings = &request.config.settings;
    let base = base_on_host(
        settings.staging_path.as_ref(),
        request.state.identity(),
        &host.id,
    );
    let roots: Vec<RemotePath> = host.mappings.iter().map(|m| m.dest.clone()).collect();
    let mirrors: Vec<usize> = (0..host.mappings.len())
        .filter(|&index| host.mappings[index].exact == Exact::Mirror)
        .collect();
    let listing = recorded
        .record
        .as_ref()
        .and_then(|record| record.listing.as_deref())
        .filter(|_| request.refresh == Refresh::Quick)
        // What is not ours may have been there before it mattered.
        .filter(|_| {
            mirrors
                .iter()
                .all(|&index| recorded.is_mirrored(&host.mappings[index]))
        });
    let trusted: Vec<usize> = (0..host.mappings.len())
        .filter(|&index| host.mappings[index].trust_ancestors)
        .collect();
    let sides = host.mappings.iter().zip(comparisons);
    let expected = sides
        .map(|(mapping, it)| it.expected(mapping))
        .fold(Expected::default(), Expected::and);
    let mut ask = |listing: Option<&str>| {
        let sides = host.mappings.iter().zip(comparisons);
        let paths: Vec<RemotePath> = sides
            .flat_map(|(mapping, it)| it.paths_to_look_at(mapping, listing.is_some()))
            .collect();
        let look_request = LookRequest {
            base: &base,
            roots: &roots,
            trusted: &trusted,
            mirrors: &mirrors,
            listing,
            paths: &paths,
            expected,
            stall_timeout: settings.stall_timeout,
        };
        look::look(login, &look_request)
    };
    let mut answer = ask(listing);
    if let Ok(look) = &answer {
        // A mirrored folder in which something has moved may have new entries, too.
        let is_doubtful = look.listing == Listing::Lost
            || (look.listing == Listing::Moved && !mirrors.is_empty());
        tracing::debug!(listing = ?look.listing, tool = look.facts.hash_tool, "looked at");
        if is_doubtful {
            answer = ask(None);
        }
    }
    answer
}
