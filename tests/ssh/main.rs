//! The transport against real servers: OpenSSH and dropbear on loopback.

mod exec;
mod harness;
mod login;
mod resume;
mod upload;
