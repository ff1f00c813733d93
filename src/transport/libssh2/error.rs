//! What libssh2 says when a call does not succeed.

use libssh2_sys as raw;
use ssh2::ErrorCode;

use crate::transport::TransportError;

/// Why a libssh2 call did not come to its end.
#[derive(Debug)]
pub(super) enum CallError {
    /// The deadline passed.
    Deadline,
    /// libssh2 or the socket said no.
    Failed(ssh2::Error),
}

/// Whether the call is to be repeated when the socket is ready.
pub(super) fn would_block(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_EAGAIN)
}

/// Whether an error means that the connection is gone.
pub(super) fn is_disconnect(error: &ssh2::Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::Session(
            raw::LIBSSH2_ERROR_SOCKET_SEND
                | raw::LIBSSH2_ERROR_SOCKET_RECV
                | raw::LIBSSH2_ERROR_SOCKET_DISCONNECT
                | raw::LIBSSH2_ERROR_SOCKET_TIMEOUT
                | raw::LIBSSH2_ERROR_BAD_SOCKET
        )
    )
}

/// Whether the host has ended the connection in so many words.
pub(super) fn is_goodbye(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_SOCKET_DISCONNECT)
}

/// libssh2's words, or better ones where there are.
pub(super) fn reason_of(error: &ssh2::Error) -> String {
    if is_disconnect(error) {
        "the host closed it".to_owned()
    } else {
        error.message().to_owned()
    }
}

/// Whether the two sides could not exchange keys.
pub(super) fn is_failed_exchange(error: &ssh2::Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::Session(
            raw::LIBSSH2_ERROR_KEX_FAILURE | raw::LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE
        )
    )
}

/// The error of a connection that broke on libssh2.
pub(super) fn broken_by(during: &str, error: &ssh2::Error) -> TransportError {
    TransportError::Broken {
        during: during.to_owned(),
        reason: reason_of(error),
    }
}
