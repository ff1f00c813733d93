//! The TCP connection below an SSH session.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};

use crate::transport::deadline::Deadline;
use crate::transport::{TransportError, plain_reason};

/// A TCP connection to the first address that answers.
pub(super) fn connect_any(
    address: &str,
    port: u16,
    deadline: &Deadline,
) -> Result<TcpStream, TransportError> {
    let candidates = resolve(address, port, deadline)?;
    let mut last_error = None;
    for (index, candidate) in candidates.iter().enumerate() {
        // What is left is shared, so that one dead address does not starve the next.
        let left = u32::try_from(candidates.len() - index).unwrap_or(u32::MAX);
        let share = deadline.remaining() / left;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(candidate, share) {
            Ok(socket) => return Ok(socket),
            Err(error) => last_error = Some(error),
        }
    }
    Err(match last_error {
        Some(error) if error.kind() != io::ErrorKind::TimedOut => TransportError::Unreachable {
            address: address.to_owned(),
            port,
            reason: plain_reason(&error),
        },
        _ => deadline.exceeded(format!("connecting to {address}:{port}")),
    })
}

fn resolve(
    address: &str,
    port: u16,
    deadline: &Deadline,
) -> Result<Vec<SocketAddr>, TransportError> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = address.to_owned();
    let unknown = |reason: String| TransportError::UnknownAddress {
        address: address.to_owned(),
        reason,
    };
    let found = deadline
        .run(move || {
            (name.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect::<Vec<_>>)
        })
        .ok_or_else(|| deadline.exceeded(format!("resolving `{address}`")))?
        .map_err(|error| {
            let text = error.to_string();
            let reason = text.strip_prefix("failed to lookup address information: ");
            unknown(reason.unwrap_or(&text).to_owned())
        })?;
    if found.is_empty() {
        return Err(unknown("it has no address".to_owned()));
    }
    Ok(found)
}
