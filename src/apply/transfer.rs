//! One upload into a folder of a run.

use super::explain;
use super::failure::{HostFailure, UploadError};
use super::link::HostLink;
use super::staging::UploadTarget;
use crate::remote::Login;
use crate::remote::tasks::receive::stream::UploadRecord;
use crate::remote::tasks::receive::{Followers, ReceiveError, ReceiveRequest, RunFolder, receive};

/// Uploads some records, and tells how much the host has taken.
pub(super) fn transfer(
    link: HostLink<'_>,
    login: &mut Login,
    target: UploadTarget<'_>,
    folder: RunFolder,
    records: Vec<UploadRecord>,
) -> Result<(), UploadError> {
    let UploadTarget {
        base,
        run_name,
        receiver,
        block_bytes,
    } = target;
    let request = ReceiveRequest {
        base,
        run_name,
        folder,
        block_bytes,
        receiver,
        stall_timeout: link.stall_timeout,
    };
    let followers = Followers {
        sent: &|bytes| link.sent(bytes),
        is_interrupted: &|| link.is_interrupted(),
    };
    receive(login, &request, records, followers).map_err(|error| match error {
        ReceiveError::Transport(error) => UploadError::Transport(error),
        ReceiveError::Stream(error) => UploadError::Stream(error),
        ReceiveError::Host(reason) => explain::with_cure(&reason).into(),
        ReceiveError::Interrupted => UploadError::Other(HostFailure::Interrupted),
    })
}
