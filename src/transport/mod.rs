//! Connections to hosts.
//!
//! The engine sees a few small traits. A [`Connector`] logs in to a host; a [`Session`] runs commands
//! there, one at a time, with both directions streaming; a [`KeyProbe`] asks a host for its key. Each
//! way to connect has a folder of its own, which alone knows the library or the program behind it:
//! [`libssh2`] is the one that there is. Tests put other implementations behind the traits, to count
//! round trips or to inject faults.

mod deadline;
mod error;
pub mod greeting;
mod host_key;
pub mod known_hosts;
pub mod libssh2;
mod options;
mod passkey;
mod session;

pub(crate) use error::plain_reason;
pub use error::{Aborted, TransportError};
pub use host_key::{HostKey, KeyProbe};
pub use options::{ConnectOptions, Variables};
pub use session::{Connector, ExecIo, ExecOutcome, Flow, Input, Session};
