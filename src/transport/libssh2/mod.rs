//! Sessions over libssh2.
//!
//! libssh2 runs in non-blocking mode under a loop of our own, so that input, output and standard
//! error of a command move at the same time and every wait has an end. A session belongs to one
//! thread.

mod algorithms;
mod auth;
mod connection;
mod connector;
mod error;
mod exec;
mod key_file;
mod session;
mod tcp;
mod watchdog;

pub use connector::Libssh2Connector;
