//! The transport against real servers: OpenSSH and dropbear on loopback.

#[path = "../support/mod.rs"]
mod support;

mod exec;
mod harness;
mod login;
mod resume;
mod upload;
