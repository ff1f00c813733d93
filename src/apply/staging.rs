//! Where things are staged on a host: in private folders, on the file systems of the destinations.

use super::failure::HostFailure;
use super::job::Job;
use crate::model::{HostError, RemotePath};
use crate::plan::PlanError;
use crate::plan::staging::{StagingPlace, base_on_host, device_of, is_folder};
use crate::remote::Nonce;
use crate::remote::tasks::look::Place;
use crate::remote::tasks::receive::Receiver;
use crate::state::Identity;

/// Where things are staged on a host.
#[derive(Clone, Debug)]
pub(super) struct Staging {
    /// The staging folders, the one below the login folder first: it has the listing and the journal, too.
    pub(super) bases: Vec<RemotePath>,
    /// Their file systems.
    pub(super) devices: Vec<u64>,
    /// By mapping, which one serves it.
    pub(super) base_of: Vec<usize>,
    /// Name of this run's folder in each.
    pub(super) run_name: String,
}

impl Staging {
    /// Finds for every mapping a staging folder on its file system, since only there a rename is one.
    /// `configured` is the setting `staging_path`.
    pub(super) fn choose(
        job: &Job<'_>,
        configured: Option<&RemotePath>,
        identity: &Identity,
    ) -> Result<Self, HostFailure> {
        let look = &job.prepared.look;
        let mut staging = Self {
            bases: vec![base_on_host(configured, Some(identity), &job.host.id)],
            devices: vec![look.staging.device],
            base_of: Vec::new(),
            run_name: format!("run-{}", Nonce::random()),
        };
        for (index, mapping) in job.host.mappings.iter().enumerate() {
            let place = &look.places[index];
            let is_folder = is_folder(
                &job.prepared.sources[index].tree,
                &job.prepared.recorded[index],
            );
            let is_unchanged = job.changes.iter().all(|change| change.mapping != index);
            if is_unchanged && !job.follows_cut_apply() {
                // Nothing will be staged for it.
                staging.base_of.push(0);
                continue;
            }
            let number = match StagingPlace::of(place, &look.staging, is_folder) {
                Ok(StagingPlace::Home) => 0,
                Ok(StagingPlace::Beside(beside)) => {
                    let base = base_beside(&beside, job, identity);
                    let known = staging.bases.iter().position(|known| *known == base);
                    known.unwrap_or_else(|| {
                        staging.bases.push(base);
                        staging.devices.push(device_of(place));
                        staging.bases.len() - 1
                    })
                }
                // Only what the run that was killed has left would have been removed.
                Err(_) if is_unchanged => 0,
                Err(reason) => {
                    let dest = mapping.dest_as_written.clone();
                    let error = PlanError::NoStagingPlace { dest, reason };
                    return Err(HostFailure::Failed(HostError::from(&error)));
                }
            };
            staging.base_of.push(number);
        }
        Ok(staging)
    }

    /// The folder of ours below the login folder: lock, listing, journal.
    pub(super) fn home(&self) -> &RemotePath {
        &self.bases[0]
    }
}

/// Where uploads of a run go, and what takes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct UploadTarget<'a> {
    /// The staging folder.
    pub(super) base: &'a RemotePath,
    /// The folder of this run in it.
    pub(super) run_name: &'a str,
    pub(super) receiver: Receiver,
    /// Size of a block of a large file in bytes.
    pub(super) block_bytes: u64,
}

fn base_beside(place: &Place, job: &Job<'_>, identity: &Identity) -> RemotePath {
    let mut path = place.path.clone();
    path.extend_from_slice(b"/.hostsync");
    base_on_host(
        Some(&RemotePath::from_dest(&path)),
        Some(identity),
        &job.host.id,
    )
}
